"""The balance of every cell: R(q; flow) = 0 is the steady flow.

    momentum    sum_f (u F - viscous + p S) + V (alpha u - f - G) = 0
    mass        sum_f F - s V = 0

The unknowns q are velocity and pressure cell by cell, flat, then the extra scalars: in a closed domain the source s,
with the mean pressure held at zero (s vanishes at a solution, since the boundary data are balanced); for each periodic
patch with a given flow rate its pressure drop, with that flow rate as equation. G is the mean pressure gradient.
"""

from __future__ import annotations




import jax.numpy as jnp
from jaxtyping import Array

from fluidgrad.boundary import periodic_shift
from fluidgrad.flow import Flow
from fluidgrad.fluxes import Discrete, boundary_data, boundary_flux, discretize, gradient, interior_data, interior_flux
from fluidgrad.mesh import to_cells, to_faces


def split(flow: Flow, state: Array) -> tuple[Array, Array]:
    """The flat unknowns as cell values ``(cells, dim+1)`` and extra scalars."""
    k = flow.mesh.n_cells * (flow.mesh.dim + 1)
    return state[:k].reshape(flow.mesh.n_cells, -1), state[k:]


def residual(flow: Flow, state: Array) -> Array:
    """The imbalance of every cell and of the extra equations, flat. Differentiable in both arguments."""
    return balance(flow, discretize(flow), state)


def balance(flow: Flow, d: Discrete, state: Array) -> Array:
    """:func:`residual` of a flow already discretized."""
    q, extra = split(flow, state)
    interior, boundary = fluxes(d, q)
    R = to_cells(d.topology, jnp.concatenate([interior, boundary])) + sources(flow, d, q, extra)
    return jnp.concatenate([R.ravel(), extra_equations(flow, d, q, interior)])


def fluxes(d: Discrete, q: Array) -> tuple[Array, Array]:
    """Momentum and mass through interior faces, out of the owner, and out of boundary faces."""
    t, g = d.topology, gradient(d, q)
    (q_P, q_N), (g_P, g_N) = to_faces(t, q), to_faces(t, g)
    interior = interior_flux(q_P, q_N, g_P, g_N, interior_data(d), d.viscosity, d.convection, d.scheme)
    inside = t.owner[t.n_interior :]
    boundary, _ = boundary_flux(q[inside], g[inside], boundary_data(d), d.conditions, d.viscosity, d.convection)
    return interior, boundary


def sources(flow: Flow, d: Discrete, q: Array, extra: Array) -> Array:
    """What happens inside the cells, ``(cells, dim+1)``."""
    momentum = d.alpha[:, None] * q[:, :-1] - d.force - mean_gradient(flow, d, extra)
    mass = -extra[:1] if flow.closed else jnp.zeros(1, q.dtype)
    return d.geometry.V[:, None] * jnp.concatenate([momentum, jnp.broadcast_to(mass, momentum[:, :1].shape)], 1)


def mean_gradient(flow: Flow, d: Discrete, extra: Array) -> Array:
    """The force of the mean pressure drops of periodic patches, ``(dim,)`` [L/T^2]."""
    mesh, faces = flow.joined
    force, unknown = jnp.zeros(mesh.dim, d.geometry.V.dtype), int(flow.closed)
    for name, where in faces.items():
        shift = periodic_shift(flow.mesh.topology, mesh.topology, where, flow.mesh.points)
        drop = flow.boundary[name].pressure_drop  # pyright: ignore[reportAttributeAccessIssue]
        if name in flow.driven:
            drop, unknown = extra[unknown], unknown + 1
        force = force + drop * shift / jnp.sum(shift * shift)
    return force


def extra_equations(flow: Flow, d: Discrete, q: Array, interior: Array) -> Array:
    """One equation for each extra scalar."""
    rows = [jnp.sum(d.geometry.V * q[:, -1]) / jnp.sum(d.geometry.V)] if flow.closed else []
    _, faces = flow.joined
    for name in flow.driven:
        rows.append(-jnp.sum(interior[faces[name], -1]) - flow.boundary[name].flow_rate)  # pyright: ignore
    return jnp.stack(rows) if rows else jnp.zeros(0, q.dtype)


def throughput(flow: Flow, d: Discrete, state: Array) -> tuple[Array, Array]:
    """Root mean squares of what passes through a cell: momentum (pressure taken from its mean) and mass.

    They measure a residual: net over gross flux needs no units and means the same on every mesh.
    """
    q, _ = split(flow, state)
    q = q.at[:, -1].add(-jnp.mean(q[:, -1]) * float(flow.closed))
    interior, boundary = fluxes(d, q)
    gross = jnp.concatenate([interior, boundary]) ** 2
    t = d.topology
    total = jnp.zeros((t.n_cells, gross.shape[1]), q.dtype).at[t.owner].add(gross).at[t.neighbour].add(gross[: t.n_interior])
    V = d.geometry.V[:, None]
    body = (V * d.alpha[:, None] * q[:, :-1]) ** 2 + (V * d.force) ** 2
    return jnp.sqrt(jnp.mean(total[:, :-1]) + jnp.mean(body)), jnp.sqrt(jnp.mean(total[:, -1]))



def boundary_forces(flow: Flow, state: Array) -> tuple[Array, Array, Array]:
    """Force of the flow on each boundary face ``(boundary, dim)`` [L^(dim-1) L^2/T^2], the mass flux out through it
    ``(boundary,)`` and the faces' centres. These are the residual's own fluxes: they balance to round-off."""
    d = discretize(flow)
    q, _ = split(flow, state)
    t, g = d.topology, gradient(d, q)
    inside = t.owner[t.n_interior :]
    flux, force = boundary_flux(q[inside], g[inside], boundary_data(d), d.conditions, d.viscosity, d.convection)
    return force, flux[:, -1], d.geometry.x_face[t.n_interior :]
