"""The balance of every cell, R(q; flow) = 0, which is the steady flow.

    momentum    sum_f (u F - viscous + p S) + V (alpha u - f - G) = 0
    mass        sum_f F - s V = 0

The unknowns q are velocity and pressure cell by cell, flat, then the extra scalars: in a closed domain the source s,
with the mean pressure held at zero (s vanishes at a solution, since the boundary data are balanced); for each periodic
patch with a given flow rate its pressure drop, with that flow rate as equation. G is the mean pressure gradient.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fluidgrad.flow.flow import Flow
from fluidgrad.flow.fluxes import BoundaryFlux, boundary_flux, discretize, gradient, interior_flux
from fluidgrad.flow.layout import Discrete, Faces
from fluidgrad.mesh.geometry import Vector, components
from fluidgrad.mesh.mesh import to_cells, to_faces
from fluidgrad.parts import total

REST = 1e-6  # of the speed sqrt(p), below which a fluid is at rest


def split(d: Discrete, state: Array) -> tuple[Array, Array]:
    """The flat unknowns as cell values ``(cells, dim+1)`` and extra scalars."""
    k = d.part.n_own * (d.dim + 1)
    return state[:k].reshape(d.part.n_own, -1), state[k:]


def residual(flow: Flow, state: Array) -> Array:
    """The imbalance of every cell and of the extra equations, flat. Differentiable in both arguments."""
    return balance(discretize(flow), state)


def balance(d: Discrete, state: Array) -> Array:
    """:func:`residual` of a flow already discretized."""
    return imbalance(d, state)[0]


@jax.jit
def tangent(d: Discrete, state: Array) -> Callable[[Array], Array]:
    """v -> R_q v, linear. All that depends on the state is computed here, so that a product costs a third of what it would from
    the beginning; it keeps some 100 numbers a cell in 2D, 200 in 3D. A pytree, for ``krylov.times`` and its transpose."""
    return jax.linearize(lambda q: balance(d, q), state)[1]


def imbalance(d: Discrete, state: Array) -> tuple[Array, Array]:
    """The residual, and what passes through the cells: root mean squares over them of the fluxes of momentum (pressure
    taken from its mean where nothing sets its level) and of mass, then the size of each extra equation, ``(2 + extra,)``.

    The second measures the first: net over gross flux needs no units and means the same on every mesh.
    """
    own, extra = split(d, state)
    q = d.part.everywhere(own)
    t, g = d.incidence, gradient(d, q)
    interior, edge = crossing(d, q, g)
    flux = jnp.concatenate([interior, edge.flux])
    source = d.part.own(sources(d, q, extra))
    R = d.part.own(to_cells(t, flux)) + source
    level, n = mean(d, own[:, -1]), d.part.n_all
    gross = jnp.concatenate([flux[:, :-1] - level * float(d.closed) * d.geometry.S, flux[:, -1:]], 1) ** 2
    gross = d.part.once(gross)
    per_cell = mean(d, source**2) + total(jnp.sum(gross, 0) + jnp.sum(gross[: t.n_interior], 0)) / n
    # Nothing flows where forces balance a pressure: mass is then measured by what that pressure could drive.
    away = jnp.where(d.part.own(d.geometry.V) > 0, jnp.abs(own[:, -1] - level), 0.0)
    could = REST**2 * mean(d, away) * total(jnp.sum(d.part.once(d.geometry.S**2))) / n
    per_cell = per_cell.at[-1].add(could)
    sizes = [*jnp.sqrt(jnp.stack([jnp.sum(per_cell[:-1]), per_cell[-1]]))]
    if d.closed:
        sizes.append(jnp.sqrt(mean(d, own[:, -1] ** 2)))
    for through, rate in _driven(d, interior):
        sizes.append(total(jnp.sum(jnp.abs(through))) + jnp.abs(rate))
    return jnp.concatenate([R.ravel(), extra_equations(d, own, interior)]), jnp.stack(sizes)


def mean(d: Discrete, of_cells: Array) -> Array:
    """Over all cells of the flow; of values in the device's own, zero where it has none."""
    return total(jnp.sum(of_cells, 0)) / d.part.n_all


def crossing(d: Discrete, q: Array, g: Array) -> tuple[Array, BoundaryFlux]:
    """What crosses the faces, from cell values and gradients: momentum and mass from owner to neighbour, ``(interior,
    dim+1)``, and what happens at the boundary."""
    (q_P, q_N), (g_P, g_N) = to_faces(d.incidence, q), to_faces(d.incidence, g)
    inside = interior_flux(q_P, q_N, g_P, g_N, d.inside, d.viscosity, d.convection, d.scheme)
    return inside.flux, at_boundary(d, q, g)


def at_boundary(d: Discrete, q: Array, g: Array) -> BoundaryFlux:
    """What happens at the boundary faces, from cell values and gradients."""
    inside = d.incidence.inside
    return outer_flux(d, q[inside], g[inside])


def outer_flux(d: Discrete, q_P: Array, g_P: Array) -> BoundaryFlux:
    """What happens at all boundary faces, from values and gradients in the cells inside. Pointwise."""
    edge = boundary_flux(q_P, g_P, d.outside, d.conditions, d.viscosity, d.convection)
    plane = d.layout.planes
    if not len(plane):
        return edge
    faces = Faces(*(a[plane] for a in d.outside))
    mirrored = mirror_flux(q_P[plane], g_P[plane], faces, d.viscosity, d.convection, d.scheme)
    return BoundaryFlux(*(a.at[plane].set(b) for a, b in zip(edge, mirrored, strict=True)))


def mirror_flux(q_P: Array, g_P: Array, faces: Faces, nu: Array, convection: bool, scheme: str) -> BoundaryFlux:
    """What happens at planes of symmetry: what crosses a face between a cell and its mirror image. Pointwise.

    So half a flow between mirrored cells is the half of the whole, and one layer between two planes is flow in 2D: to round-off.
    """
    normal = components(faces.S)
    normal = normal / jnp.sqrt(normal @ normal)

    def image(v: Vector) -> Vector:
        return v - 2.0 * (v @ normal) * normal

    def turned(g: Vector) -> Vector:  # the direction of the slopes, then that of the velocity
        along, along_p = Vector(map(image, g[:-1])), image(g[-1])
        columns = [image(Vector(column)) for column in zip(*along, strict=True)]
        return Vector([*(Vector(row) for row in zip(*columns, strict=True)), along_p])

    *u_P, p_P = components(q_P)
    q_N = Vector([*image(Vector(u_P)), p_P]).stacked()
    d_N, f_N = (image(components(a)).stacked() for a in (faces.d_P, faces.f_P))
    sides = faces._replace(d=faces.d_P - d_N, f_N=f_N)
    flux, u, p = interior_flux(q_P, q_N, g_P, turned(components(g_P)).stacked(), sides, nu, convection, scheme)
    return BoundaryFlux(flux, flux[:, :-1], u, p)


def sources(d: Discrete, q: Array, extra: Array) -> Array:
    """What happens inside the cells, ``(cells, dim+1)``."""
    momentum = d.alpha[:, None] * q[:, :-1] - d.force - mean_gradient(d, extra)
    mass = -extra[:1] if d.closed else jnp.zeros(1, q.dtype)
    return d.geometry.V[:, None] * jnp.concatenate([momentum, jnp.broadcast_to(mass, momentum[:, :1].shape)], 1)


def pressure_drops(d: Discrete, extra: Array) -> list[Array]:
    """The drop of the mean pressure over each pair of periodic patches: as given, or an unknown."""
    unknown = iter(extra[int(d.closed) :])
    return [next(unknown) if is_unknown else d.drops.drop[k] for k, is_unknown in enumerate(d.drops.unknown)]


def mean_gradient(d: Discrete, extra: Array) -> Array:
    """The force of the mean pressure drops of periodic patches, ``(dim,)`` [L/T^2]: the mean pressure falls along it."""
    shift = d.drops.shift
    if not len(shift):
        return jnp.zeros(d.dim, shift.dtype)
    # the least G with shift . G = drop for every pair
    return shift.T @ jnp.linalg.solve(shift @ shift.T, jnp.stack(pressure_drops(d, extra)))


def extra_equations(d: Discrete, own: Array, interior: Array) -> Array:
    """One equation for each extra scalar."""
    V = d.part.own(d.geometry.V)
    rows = [total(jnp.sum(V * own[:, -1])) / total(jnp.sum(V))] if d.closed else []
    rows += [-total(jnp.sum(through)) - rate for through, rate in _driven(d, interior)]
    return jnp.stack(rows) if rows else jnp.zeros(0, own.dtype)


def _driven(d: Discrete, interior: Array) -> list[tuple[Array, Array]]:
    """What flows against each periodic patch whose drop is an unknown, face by face, and what is to flow."""
    each = zip(d.drops.faces, d.drops.unknown, d.drops.flow_rate, strict=True)
    F = d.part.once(interior[:, -1])
    return [(F[lo:hi], rate) for (lo, hi), unknown, rate in each if unknown]
