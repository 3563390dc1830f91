"""The assembled Jacobian is the derivative of the residual; the same program serves all values."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import JACOBIANS, random_state

from fluidgrad.flow.fluxes import discretize, gradient
from fluidgrad.flow.residual import crossing, residual, sources, split
from fluidgrad.linear.jacobian import as_csr, assemble, pattern
from fluidgrad.mesh.mesh import to_cells

TRACED = []


@jax.jit
def both_ways(flow, state, v):
    """The assembled matrix, and J v by forward differentiation."""
    TRACED.append(flow.mesh.dim)
    J = assemble(discretize(flow), pattern(flow).places, state)
    return J, jax.jvp(lambda q: residual(flow, q), (state,), (v,))[1]


def times(p, J, v):
    k = J.rows.shape[1]
    cells, extra = np.asarray(v[:k]), np.asarray(v[k:])
    return np.concatenate([as_csr(p, J.blocks) @ cells + J.columns @ extra, J.rows @ cells + J.corner @ extra])


@pytest.mark.parametrize("name", JACOBIANS)
def test_the_assembled_jacobian_is_the_derivative_of_the_residual(name):
    flow = JACOBIANS[name]()
    v = random_state(flow, 1)
    J, product = both_ways(flow, random_state(flow), v)
    np.testing.assert_allclose(times(pattern(flow), J, v), product, atol=1e-13 * np.abs(product).max())


@pytest.mark.parametrize("name", JACOBIANS)
def test_the_compact_jacobian_is_the_derivative_with_the_gradients_held(name):
    flow = JACOBIANS[name]()
    p, v = pattern(flow, compact=True), random_state(flow, 1)

    @jax.jit
    def both(flow, state, v):
        d = discretize(flow)
        q, extra = split(d, state)
        held = gradient(d, q)

        def balance(state):
            q, extra = split(d, state)
            interior, edge = crossing(d, q, held)
            return (to_cells(d.incidence, jnp.concatenate([interior, edge.flux])) + sources(d, q, extra)).ravel()

        return assemble(d, p.places, state), jax.jvp(balance, (state,), (v,))[1]

    J, product = both(flow, random_state(flow), v)
    n = len(product)
    np.testing.assert_allclose(times(p, J, v)[:n], product, atol=1e-13 * np.abs(product).max())
    assert len(p.row) < len(pattern(flow).row)


@pytest.mark.parametrize("name", JACOBIANS)
def test_other_values_and_points_run_the_same_program(name):
    def run(scale):
        flow = JACOBIANS[name](scale)
        both_ways(flow, random_state(flow), random_state(flow, 1))
        return len(TRACED)

    assert run(1.0) == run(1.1)
