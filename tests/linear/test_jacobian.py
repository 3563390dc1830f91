"""The assembled Jacobian is the derivative of the residual; the same program serves all values."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import JACOBIANS, random_state

from fluidgrad.flow.fluxes import discretize, gradient, interior_flux
from fluidgrad.flow.residual import outer_flux, residual, sources, split
from fluidgrad.linear.jacobian import OWN, as_csr, assemble, pattern
from fluidgrad.mesh.mesh import to_faces

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
def test_the_compact_jacobian_is_the_derivative_with_gradients_held_but_those_of_the_pressure_which_are_its_cells_own(name):
    flow = JACOBIANS[name]()
    p, v = pattern(flow, compact=True), random_state(flow, 1)

    @jax.jit
    def both(flow, state, v):
        d = discretize(flow)
        t, faces = d.incidence, d.incidence.across.shape[1]
        (q, extra), (dq, dextra) = split(d, state), split(d, v)
        g = gradient(d, q)
        near = replace(d, weights=d.weights.at[:, :, faces:].set(0.0))  # no gradient of what is beyond the faces
        dg = OWN * jax.jvp(lambda x: gradient(near, x), (q,), (dq,))[1].at[:, :-1].set(0.0)

        def out(here):  # of owners, with this change of the gradients on both sides
            def flux(q, here):
                (q_P, q_N), (g_P, g_N) = to_faces(t, q), to_faces(t, g)
                return interior_flux(q_P, q_N, g_P + here, g_N + here, d.inside, d.viscosity, d.convection, d.scheme).flux

            return jax.jvp(flux, (q, jnp.zeros_like(here)), (dq, here))[1]

        of_owner, of_neighbour = (out(side) for side in to_faces(t, dg))
        edge = jax.jvp(lambda x, g: outer_flux(d, x[t.inside], g[t.inside]).flux, (q, g), (dq, dg))[1]
        sums = jax.jvp(lambda x, e: sources(d, x, e), (q, extra), (dq, dextra))[1]
        sums = sums.at[t.owner[: t.n_interior]].add(of_owner).at[t.neighbour].add(-of_neighbour).at[t.inside].add(edge)
        return assemble(d, p.places, state), sums.ravel()

    J, product = both(flow, random_state(flow), v)
    np.testing.assert_allclose(times(p, J, v)[: len(product)], product, atol=1e-13 * np.abs(product).max())
    assert len(p.row) < len(pattern(flow).row)


@pytest.mark.parametrize("name", JACOBIANS)
def test_other_values_and_points_run_the_same_program(name):
    def run(scale):
        flow = JACOBIANS[name](scale)
        both_ways(flow, random_state(flow), random_state(flow, 1))
        return len(TRACED)

    assert run(1.0) == run(1.1)
