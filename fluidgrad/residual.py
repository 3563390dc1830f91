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
from fluidgrad.fluxes import BoundaryFlux, Discrete, boundary_data, boundary_flux, discretize, gradient, interior_data, interior_flux
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
    return imbalance(flow, d, state)[0]


def imbalance(flow: Flow, d: Discrete, state: Array) -> tuple[Array, Array]:
    """The residual, and what passes through the cells: root mean squares over them of the fluxes of momentum (pressure
    taken from its mean where nothing sets its level) and of mass, then the size of each extra equation, ``(2 + extra,)``.

    The second measures the first: net over gross flux needs no units and means the same on every mesh.
    """
    q, extra = split(flow, state)
    t, g = d.topology, gradient(d, q)
    (q_P, q_N), (g_P, g_N) = to_faces(t, q), to_faces(t, g)
    interior = interior_flux(q_P, q_N, g_P, g_N, interior_data(d), d.viscosity, d.convection, d.scheme)
    flux = jnp.concatenate([interior, at_boundary(d, q, g).flux])
    source = sources(flow, d, q, extra)
    R = to_cells(t, flux) + source
    level = jnp.mean(q[:, -1]) * float(flow.closed)
    gross = jnp.concatenate([flux[:, :-1] - level * d.geometry.S, flux[:, -1:]], 1) ** 2
    per_cell = jnp.mean(source**2, 0) + (jnp.sum(gross, 0) + jnp.sum(gross[: t.n_interior], 0)) / t.n_cells
    sizes = [*jnp.sqrt(jnp.stack([jnp.sum(per_cell[:-1]), per_cell[-1]]))]
    if flow.closed:
        sizes.append(jnp.sqrt(jnp.mean(q[:, -1] ** 2)))
    for name in flow.driven:
        sizes.append(jnp.sum(jnp.abs(interior[flow.joined[1][name], -1])) + jnp.abs(flow.boundary[name].flow_rate))  # pyright: ignore
    return jnp.concatenate([R.ravel(), extra_equations(flow, d, q, interior)]), jnp.stack(sizes)


def at_boundary(d: Discrete, q: Array, g: Array) -> BoundaryFlux:
    """What happens at the boundary faces, from cell values and gradients."""
    inside = d.topology.owner[d.topology.n_interior :]
    return boundary_flux(q[inside], g[inside], boundary_data(d), d.conditions, d.viscosity, d.convection)


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
