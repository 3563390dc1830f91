"""The assembled Jacobian is the derivative of the residual; the same program serves all values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import JACOBIANS, random_state

from fluidgrad.flow.fluxes import discretize
from fluidgrad.flow.residual import residual
from fluidgrad.solve.block_tridiagonal import _multiply
from fluidgrad.solve.jacobian import as_csr, assemble, pattern

TRACED = []


@jax.jit
def both_ways(flow, state, v):
    """J v by the assembled matrix and by forward differentiation, and the matrix."""
    TRACED.append(flow.mesh.dim)
    d = discretize(flow)
    J = assemble(d, pattern(flow).places, state)
    k = J.rows.shape[1]
    cells, extra = v[:k], v[k:]
    product = _multiply(pattern(flow), J.blocks, cells[:, None], False)[:, 0] + J.columns @ extra
    product = jnp.concatenate([product, J.rows @ cells + J.corner @ extra])
    return product, jax.jvp(lambda q: residual(flow, q), (state,), (v,))[1], J


@pytest.mark.parametrize("name", JACOBIANS)
def test_the_assembled_jacobian_is_the_derivative_of_the_residual(name):
    flow = JACOBIANS[name]()
    v = random_state(flow, 1)
    assembled, product, _ = both_ways(flow, random_state(flow), v)
    np.testing.assert_allclose(assembled, product, atol=1e-13 * np.abs(product).max())


@pytest.mark.parametrize("name", JACOBIANS)
def test_other_values_and_points_run_the_same_program(name):
    def run(scale):
        flow = JACOBIANS[name](scale)
        both_ways(flow, random_state(flow), random_state(flow, 1))
        return len(TRACED)

    assert run(1.0) == run(1.1)


def test_the_sparse_matrix_is_that_of_the_blocks():
    flow = JACOBIANS["open"]()
    v = random_state(flow, 1)
    _, product, J = both_ways(flow, random_state(flow), v)
    p = pattern(flow)
    np.testing.assert_allclose(as_csr(p, J.blocks) @ np.asarray(v), product, atol=1e-13 * np.abs(product).max())
