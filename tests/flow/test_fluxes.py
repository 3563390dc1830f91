"""The discretization: exact for linear fields, preserves a uniform stream, conserves, balances forces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import MESHES, cells_of, measure, mesh, operators, random_state, state_of, with_velocity_given

import fluidgrad as fg
from fluidgrad.app.config.reading import shipped_folder

SLOPE = np.array([[0.7, -1.3, 0.4], [0.9, 0.2, -0.6], [1.1, 0.5, -0.9]])  # of the velocity: trace 0
ENDS = np.array([0.8, -0.5, 0.3])


def linear_velocity(dim):
    A = SLOPE[:dim, :dim] - np.eye(dim) * np.trace(SLOPE[:dim, :dim]) / dim
    return A, lambda x: jnp.asarray(A) @ x + jnp.asarray(ENDS[:dim])


@pytest.mark.parametrize("name", MESHES)
def test_gradients_of_linear_fields_are_exact_in_every_cell(name):
    m = mesh(name)
    A, u = linear_velocity(m.dim)
    flow = with_velocity_given(m, u)
    x = measure(m).x_cell
    found = operators(flow, state_of(flow, jax.vmap(u)(x), x @ ENDS[: m.dim]))["gradient"]
    # 1e-12 of the slopes, which are of size 1; cells of the channel are 1e-2 wide, so that is 100 units of round-off
    np.testing.assert_allclose(found[:, :-1], np.broadcast_to(A, found[:, :-1].shape), atol=1e-12)
    np.testing.assert_allclose(found[:, -1], np.broadcast_to(ENDS[: m.dim], x.shape), atol=1e-12)


def test_gradients_are_exact_at_open_ends_of_unstructured_meshes():
    """Where nothing is given on a face, and the centres across a cell's other faces lie in one plane, though the faces do not."""
    m = fg.read_mesh(shipped_folder() / "manifold_3d.msh")
    A, u = linear_velocity(3)
    kinds = {p: fg.Outflow() if p.startswith("outlet") else None for p in m.patches}
    x, faces = measure(m).x_cell, {p: jax.vmap(u)(measure(m).x_face[m.topology.faces_of(p)]) for p in m.patches}
    flow = fg.Flow(m, viscosity=0.1, boundary={p: kind or fg.Inflow(faces[p]) for p, kind in kinds.items()})
    found = operators(flow, state_of(flow, jax.vmap(u)(x), x @ ENDS))["gradient"]
    np.testing.assert_allclose(found[:, :-1], np.broadcast_to(A, found[:, :-1].shape), atol=1e-11)


@pytest.mark.parametrize("name", MESHES)
def test_a_uniform_stream_is_preserved(name):
    m = mesh(name)
    U = jnp.asarray(ENDS[: m.dim])
    flow = with_velocity_given(m, lambda x: U)
    out = operators(flow, state_of(flow, jnp.broadcast_to(U, (m.n_cells, m.dim)), jnp.full(m.n_cells, 0.3)))
    R = cells_of(flow, out["residual"])
    momentum, mass = np.abs(R[:, :-1]).max(), np.abs(R[:, -1]).max()
    # round-off: gradients divide it by the width of cells, a few per cent
    assert momentum <= 1e-13 * out["gross"][0], "net over gross momentum"
    assert mass <= 1e-13 * out["gross"][1], "net over gross mass"


@pytest.mark.parametrize("name", MESHES)
def test_what_cells_lose_is_what_crosses_the_boundary(name):
    m = mesh(name)
    flow = with_velocity_given(m, linear_velocity(m.dim)[1])
    state = random_state(flow).at[-1].set(0.0)  # no source
    out = operators(flow, state)
    R = cells_of(flow, out["residual"])
    np.testing.assert_allclose(R.sum(0), out["boundary"].flux.sum(0), atol=1e-14 * np.abs(R).sum())


def test_a_stream_passes_every_open_boundary_unchanged():
    U = (1.5, 0.0)
    flow = fg.Flow(mesh("box"), viscosity=0.1, left=fg.Inflow(1.5), right=fg.Outflow(), bottom=fg.Symmetry(), top=fg.FarField(U))
    state = state_of(flow, np.tile(U, (flow.mesh.n_cells, 1)), np.zeros(flow.mesh.n_cells))
    out = operators(flow, state)
    assert np.abs(out["residual"]).max() <= 1e-14 * np.min(out["gross"])


def test_the_pressure_at_faces_is_exact_across_a_jump_of_the_force():
    """Still fluid on a regular mesh, pushed one way in one half and the other way in the other: no net force on a cell."""
    m = fg.box((0, 0), (2, 1), cells=(8, 5))
    x = measure(m).x_cell[:, 0]
    f = np.stack([np.where(x < 1, 3.0, -2.0), 0 * x], 1)
    p = np.where(x < 1, 3 * x, 3 - 2 * (x - 1))
    flow = fg.Flow(m, viscosity=0.1, force=f, left=fg.Wall(), right=fg.Wall(), bottom=fg.Wall(), top=fg.Wall())
    R = cells_of(flow, operators(flow, state_of(flow, np.zeros((m.n_cells, 2)), p))["residual"])
    # the mass fluxes it drives are of the size of the discretization error only, and are convected: second order small
    assert np.abs(R[:, :-1]).max() < 1e-14
