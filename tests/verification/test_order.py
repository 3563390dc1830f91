"""Observed orders of accuracy against manufactured solutions.

A divergence-free velocity and a pressure that solve nothing are made to: the force is what the continuous operator
leaves of them, evaluated in the cells, and the velocity is given all round. Orders are of the L2 errors of cell values
between the last two meshes of a family.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import centres, gmsh_triangles, kinked, measure, split_in_four, state_of, tetrahedra, triangles, with_velocity_given

import fluidgrad as fg


def velocity_2d(x):
    def stream(x):
        return 0.5 * jnp.sin(1.9 * x[0] + 0.4) * jnp.cos(2.3 * x[1] - 0.2)

    along_x, along_y = jax.grad(stream)(x)
    return jnp.stack([along_y, -along_x])


def velocity_3d(x):
    def potential(x):
        return jnp.stack([jnp.sin(1.5 * x[1] + x[2]), jnp.cos(1.7 * x[2] - x[0]), jnp.sin(1.3 * x[0] + 0.8 * x[1])])

    G = jax.jacfwd(potential)(x)
    return jnp.stack([G[2, 1] - G[1, 2], G[0, 2] - G[2, 0], G[1, 0] - G[0, 1]])


def pressure(x):
    return jnp.sin(2.1 * x[0] - 0.3) * jnp.cos(1.6 * x[1] + 0.5) + (x[2] ** 2 if len(x) == 3 else 0.0)


def resistance(x):
    return 2 + jnp.sin(3 * x[0]) * jnp.cos(2 * x[1])


def force(velocity, nu, porous):
    def f(x):
        u, G = velocity(x), jax.jacfwd(velocity)(x)
        laplacian = jnp.trace(jax.jacfwd(jax.jacfwd(velocity))(x), axis1=1, axis2=2)
        return G @ u + jax.grad(pressure)(x) - nu * laplacian + porous * resistance(x) * u

    return f


def errors(mesh, nu, porous=False, scheme="central"):
    """Of velocity and pressure, L2."""
    velocity = velocity_2d if mesh.dim == 2 else velocity_3d
    g = measure(mesh)
    u, p, f, alpha = in_cells(mesh, velocity, pressure, force(velocity, nu, porous), resistance)
    flow = with_velocity_given(mesh, velocity, viscosity=nu, force=f, porosity=alpha if porous else 0.0, scheme=scheme)
    weight = g.V / g.V.sum()
    p = p - np.sum(weight * p)
    s = fg.solve_steady(flow, start=state_of(flow, u, p))
    found = np.asarray(s.state[: p.size * (mesh.dim + 1)]).reshape(p.size, -1)
    error = found - np.concatenate([u, p[:, None]], 1)
    return np.sqrt([np.sum(weight * np.sum(error[:, :-1] ** 2, 1)), np.sum(weight * error[:, -1] ** 2)])


def in_cells(mesh, *functions):
    """Functions of a place at the centres of the cells, in NumPy."""
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(lambda x: [f(x) for f in functions]))(measure(mesh).x_cell))


def o_grid(refine):
    return fg.o_grid(fg.ellipse((0, 0), (0.5, 0.3)), 1.5, cells=(24, 6), refine=refine)


def channel(refine):
    return fg.channel(2.0, 1.0, fg.circle((0.7, 0.5), 0.15), cells=250, refine=refine)


# family, meshes, viscosity, porous, orders asked of velocity and pressure
FAMILIES = {
    "kinked lines, porous": (lambda n: kinked(fg.box(cells=(n, n)), 0.2), (12, 24), 0.02, True, (1.9, 1.7)),
    "tetrahedra": (tetrahedra, (3, 6), 0.05, False, (1.8, 1.7)),
}

# The same where viscosity rules, which takes finer meshes to show; and families whose like is among those above.
SLOW_FAMILIES = {
    "triangles of gmsh in slow flow": (gmsh_triangles, (20, 40), 0.05, False, (1.9, 1.7)),
    "kinked multi-block at a low viscosity": (channel, (2, 4), 0.02, False, (1.9, 1.7)),
    "an O-grid": (o_grid, (2, 4), 0.02, False, (1.9, 1.7)),
    "random triangles at a low viscosity": (triangles, (16, 32), 0.005, False, (1.8, 1.7)),
    "triangles in slow flow": (lambda k: split_in_four(triangles(4), k), (2, 3), 0.05, False, (1.9, 1.7)),
    "curved": (o_grid, (4, 6), 0.05, False, (1.9, 1.7)),
    "kinked multi-block": (channel, (4, 6), 0.05, False, (1.9, 1.7)),
    "kinked lines": (lambda n: kinked(fg.box(cells=(n, n)), 0.3), (32, 64), 0.05, False, (1.9, 1.7)),
    "triangles of gmsh": (gmsh_triangles, (40, 80), 0.05, False, (1.8, 1.7)),
    "hexahedra": (lambda n: kinked(fg.extrude(fg.box(cells=(n, n)), 1.0, n, patches=("front", "back"))), (4, 8), 0.05, False, (1.9, 1.7)),
    # Delaunay's of points moved at random by up to 0.3 of their distance: what is left of the error in the mass flux adds
    # up as a random walk does, and the pressure is of order 1.5.
    "random triangles": (triangles, (32, 64), 0.05, False, (1.8, 1.4)),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_observed_orders(name):
    compare(name, *FAMILIES[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_FAMILIES)
def test_observed_orders_in_viscous_flow(name):
    compare(name, *SLOW_FAMILIES[name])


def test_upwind_is_second_order_in_triangles():
    coarse, fine = (errors(triangles(n), 0.002, scheme="upwind") for n in (12, 24))
    u, p = np.log2(coarse / fine)
    assert u >= 1.9 and p >= 1.7, f"orders {u:.2f}, {p:.2f}; errors {coarse} to {fine}"


@pytest.mark.slow  # every day: one layer between planes of symmetry is 2D
def test_prisms_are_as_exact_as_the_triangles_they_stand_on():
    """Pressure in slow flow, between planes of symmetry."""

    def error(mesh, nu=0.05):
        x = measure(mesh).x_cell[:, :2]
        f = np.asarray(jax.vmap(force(velocity_2d, nu, False))(x))
        given = {"wall": fg.Inflow(np.asarray(padded(jax.vmap(velocity_2d)(centres(mesh, "wall")[:, :2]), mesh.dim)))}
        ends = {"front": fg.Symmetry(), "back": fg.Symmetry()} if mesh.dim == 3 else {}
        s = fg.solve_steady(fg.Flow(mesh, viscosity=nu, force=padded(f, mesh.dim), **given, **ends))
        weight = measure(mesh).V / measure(mesh).V.sum()
        p = np.asarray(s.pressure) - np.asarray(jax.vmap(pressure)(x))
        return float(np.sqrt(np.sum(weight * (p - np.sum(weight * p)) ** 2)))

    def padded(v, dim):
        return np.concatenate([np.asarray(v), np.zeros((len(v), dim - 2))], 1)

    flat = split_in_four(triangles(4), 2)
    assert error(fg.extrude(flat, 0.1, 1)) == pytest.approx(error(flat), rel=1e-8)


def compare(name, family, levels, nu, porous, asked):
    meshes = [family(k) for k in levels]
    coarse, fine = (errors(m, nu, porous) for m in meshes)
    ratio = (meshes[1].n_cells / meshes[0].n_cells) ** (1 / meshes[0].dim)
    u, p = np.log(coarse / fine) / np.log(ratio)
    assert u >= asked[0] and p >= asked[1], f"{name}: order {u:.2f} of velocity, {p:.2f} of pressure; errors {coarse} to {fine}"
