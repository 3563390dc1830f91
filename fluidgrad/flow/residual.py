"""The balance of every cell, R(q; flow) = 0, which is the steady flow; and its exact Jacobian, assembled.

    momentum    sum_f (u F - viscous + p S) + V (alpha u - f - G) = 0
    mass        sum_f F - s V = 0

The unknowns q are velocity and pressure cell by cell, flat, then the extra scalars: in a closed domain the source s,
with the mean pressure held at zero (s vanishes at a solution, since the boundary data are balanced); for each periodic
patch with a given flow rate its pressure drop, with that flow rate as equation. G is the mean pressure gradient.

The Jacobian is the chain rule along the faces. With D the sum over faces and grad the least-squares gradients,

    R = D flux(q, grad q) + sources,        dR/dq = D (flux_q + flux_g G) + sources_q,        G = d(grad q)/dq.

``flux_q`` and ``flux_g`` are pointwise: a few forward derivatives of the flux formula, all faces at once, give them
exactly, and G is made of the gradient's weights. So the assembly costs about as much as a dozen residuals, and there is
nothing to keep in step by hand when a flux changes. A cell reaches its neighbours' neighbours, so a row has up to
1 + slots + slots^2 blocks, of size (dim+1)^2; which they are is static. The result is verified against a
Jacobian-vector product of the residual in ``tests/test_jacobian.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fluidgrad.flow.boundary import periodic_shift
from fluidgrad.flow.flow import Flow
from fluidgrad.flow.fluxes import (
    BoundaryFlux,
    Discrete,
    boundary_data,
    boundary_flux,
    discretize,
    gradient,
    interior_data,
    interior_flux,
    values_outside,
)
from fluidgrad.mesh.mesh import to_cells, to_faces
from fluidgrad.mesh.topology import Topology, stencil

REST = 1e-6  # of the speed sqrt(p), below which a fluid is at rest


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
    interior, edge = crossing(d, q, g)
    flux = jnp.concatenate([interior, edge.flux])
    source = sources(flow, d, q, extra)
    R = to_cells(t, flux) + source
    level = jnp.mean(q[:, -1]) * float(flow.closed)
    gross = jnp.concatenate([flux[:, :-1] - level * d.geometry.S, flux[:, -1:]], 1) ** 2
    per_cell = jnp.mean(source**2, 0) + (jnp.sum(gross, 0) + jnp.sum(gross[: t.n_interior], 0)) / t.n_cells
    # Nothing flows where forces balance a pressure: mass is then measured by what that pressure could drive.
    could = REST**2 * jnp.mean(jnp.abs(q[:, -1] - jnp.mean(q[:, -1]))) * jnp.sum(d.geometry.S**2) / t.n_cells
    per_cell = per_cell.at[-1].add(could)
    sizes = [*jnp.sqrt(jnp.stack([jnp.sum(per_cell[:-1]), per_cell[-1]]))]
    if flow.closed:
        sizes.append(jnp.sqrt(jnp.mean(q[:, -1] ** 2)))
    for name in flow.driven:
        sizes.append(jnp.sum(jnp.abs(interior[flow.joined[1][name], -1])) + jnp.abs(flow.boundary[name].flow_rate))  # pyright: ignore
    return jnp.concatenate([R.ravel(), extra_equations(flow, d, q, interior)]), jnp.stack(sizes)


def crossing(d: Discrete, q: Array, g: Array) -> tuple[Array, BoundaryFlux]:
    """What crosses the faces, from cell values and gradients: momentum and mass from owner to neighbour, ``(interior,
    dim+1)``, and what happens at the boundary."""
    (q_P, q_N), (g_P, g_N) = to_faces(d.topology, q), to_faces(d.topology, g)
    inside = interior_flux(q_P, q_N, g_P, g_N, interior_data(d), d.viscosity, d.convection, d.scheme)
    return inside.flux, at_boundary(d, q, g)


def at_boundary(d: Discrete, q: Array, g: Array) -> BoundaryFlux:
    """What happens at the boundary faces, from cell values and gradients."""
    inside = d.topology.owner[d.topology.n_interior :]
    return outer_flux(d, q[inside], g[inside])


def outer_flux(d: Discrete, q_P: Array, g_P: Array) -> BoundaryFlux:
    """What happens at all boundary faces, from values and gradients in the cells inside. Pointwise."""
    edge = boundary_flux(q_P, g_P, boundary_data(d), d.conditions, d.viscosity, d.convection)
    plane = d.planes
    if not len(plane):
        return edge
    inside = d.topology.owner[d.topology.n_interior :][plane]
    data = (*(a[plane] for a in boundary_data(d)), d.force[inside])
    mirrored = mirror_flux(q_P[plane], g_P[plane], data, d.viscosity, d.convection, d.scheme)
    return BoundaryFlux(*(a.at[plane].set(b) for a, b in zip(edge, mirrored, strict=True)))


def mirror_flux(q_P: Array, g_P: Array, data: tuple[Array, ...], nu: Array, convection: bool, scheme: str) -> BoundaryFlux:
    """What happens at planes of symmetry: what crosses a face between a cell and its mirror image. Pointwise.

    So half a flow between mirrored cells is the half of the whole, and one layer between two planes is flow in 2D: to round-off.
    """
    S, d_P, V, spread, alpha, f_P = data
    n = S / jnp.linalg.norm(S, axis=-1, keepdims=True)

    def image(v: Array) -> Array:
        return v - 2.0 * jnp.einsum("f...i,fi->f...", v, n)[..., None] * (n if v.ndim == 2 else n[:, None])

    q_N = jnp.concatenate([image(q_P[:, :-1]), q_P[:, -1:]], -1)
    turned = image(g_P)  # the direction of the slopes, then that of the velocity
    g_N = jnp.concatenate([jnp.swapaxes(image(jnp.swapaxes(turned[:, :-1], 1, 2)), 1, 2), turned[:, -1:]], 1)
    d_N = image(d_P)
    sides = (S, d_P - d_N, d_P, d_N, V, V, spread, spread, alpha, alpha, f_P, image(f_P))
    flux, u, p = interior_flux(q_P, q_N, g_P, g_N, sides, nu, convection, scheme)
    return BoundaryFlux(flux, flux[:, :-1], u, p)


def sources(flow: Flow, d: Discrete, q: Array, extra: Array) -> Array:
    """What happens inside the cells, ``(cells, dim+1)``."""
    momentum = d.alpha[:, None] * q[:, :-1] - d.force - mean_gradient(flow, extra)
    mass = -extra[:1] if flow.closed else jnp.zeros(1, q.dtype)
    return d.geometry.V[:, None] * jnp.concatenate([momentum, jnp.broadcast_to(mass, momentum[:, :1].shape)], 1)


def pressure_drops(flow: Flow, extra: Array) -> dict[str, Array]:
    """The drop of the mean pressure over each pair of periodic patches, by the first of the two: as given, or an unknown."""
    unknown = dict(zip(flow.driven, extra[int(flow.closed) :], strict=True))
    given = {name: flow.boundary[name].pressure_drop for name in flow.joined[1]}  # pyright: ignore[reportAttributeAccessIssue]
    return given | unknown


def mean_gradient(flow: Flow, extra: Array) -> Array:
    """The force of the mean pressure drops of periodic patches, ``(dim,)`` [L/T^2]: the mean pressure falls along it."""
    mesh, faces = flow.joined
    if not faces:
        return jnp.zeros(mesh.dim, mesh.points.dtype)
    drops = pressure_drops(flow, extra)
    # the least G with shift . G = drop for every pair
    shift = jnp.stack([periodic_shift(mesh.topology, where, mesh.points) for where in faces.values()])
    return shift.T @ jnp.linalg.solve(shift @ shift.T, jnp.stack([drops[name] for name in faces]))


def extra_equations(flow: Flow, d: Discrete, q: Array, interior: Array) -> Array:
    """One equation for each extra scalar."""
    rows = [jnp.sum(d.geometry.V * q[:, -1]) / jnp.sum(d.geometry.V)] if flow.closed else []
    _, faces = flow.joined
    for name in flow.driven:
        rows.append(-jnp.sum(interior[faces[name], -1]) - flow.boundary[name].flow_rate)  # pyright: ignore
    return jnp.stack(rows) if rows else jnp.zeros(0, q.dtype)


# ---- the Jacobian


@dataclass(frozen=True, eq=False)
class Pattern:
    """Where the blocks of the Jacobian are; static.

    Attributes:
        row, column: cells of each block, sorted by row then column, ``(blocks,)``.
        target: the block to which each contribution of a cell's row belongs, ``(cells, 1 + k + slots + k slots)``.
        centres: rough cell centres, for orderings.
        block: unknowns a cell.
    """

    row: Int[np.ndarray, " blocks"]
    column: Int[np.ndarray, " blocks"]
    target: Int[np.ndarray, "cells contributions"]
    centres: Float[np.ndarray, "cells dim"]
    block: int

    @property
    def n_cells(self) -> int:
        return len(self.centres)


def pattern(flow: Flow) -> Pattern:
    """The block pattern of a flow's Jacobian."""
    return _pattern(flow.joined[0].topology, flow.gives)


@lru_cache(maxsize=32)
def _pattern(t: Topology, gives: tuple[str, ...]) -> Pattern:
    n = t.n_cells
    a, s = t.across, stencil(t, gives).cell
    me = np.arange(n)[:, None]
    column = np.concatenate([me, a, s, s[a].reshape(n, -1)], 1)
    key, target = np.unique(me * n + column, return_inverse=True)
    return Pattern(key // n, key % n, target.reshape(column.shape), t.nominal_centres, t.dim + 1)


@partial(jax.tree_util.register_dataclass, data_fields=["blocks", "columns", "rows", "corner"], meta_fields=[])
@dataclass(frozen=True)
class Jacobian:
    """dR/dq: sparse blocks between cells, ``(blocks, m, m)``, bordered by the extra scalars' dense columns
    ``(cells m, k)``, rows ``(k, cells m)`` and corner ``(k, k)``."""

    blocks: Array
    columns: Array
    rows: Array
    corner: Array


def _forward(f, x: Array) -> Array:
    """d f / d x of a pointwise function of ``(items, inputs)``, as ``(items, outputs, inputs)``."""
    basis = jnp.eye(x.shape[1], dtype=x.dtype)
    columns = jax.vmap(lambda e: jax.jvp(f, (x,), (jnp.broadcast_to(e, x.shape),))[1])(basis)
    return jnp.moveaxis(columns, 0, -1)


def assemble(flow: Flow, d: Discrete, state: Array) -> Jacobian:
    """The Jacobian of the residual at ``state``."""
    t, s = d.topology, d.stencil
    q, extra = split(flow, state)
    m, dim, n = q.shape[1], t.dim, t.n_interior
    g = gradient(d, q)
    flat = jnp.concatenate([q, g.reshape(len(q), -1)], 1)  # what one side of a face contributes
    k = flat.shape[1]

    def unpack(x: Array) -> tuple[Array, Array]:
        return x[:, :m], x[:, m:].reshape(-1, m, dim)

    data = interior_data(d)

    def through(x: Array) -> Array:
        (q_P, g_P), (q_N, g_N) = unpack(x[:, :k]), unpack(x[:, k:])
        return interior_flux(q_P, q_N, g_P, g_N, data, d.viscosity, d.convection, d.scheme).flux

    J = _forward(through, jnp.concatenate(to_faces(t, flat), 1))  # (interior, m, 2k)
    inside = t.owner[n:]
    J_out = _forward(lambda x: outer_flux(d, *unpack(x)).flux, flat[inside])  # (boundary, m, k)
    values_q = _forward(lambda x: values_outside(x, d.geometry.S[n:], d.conditions, d.mirror), q[inside])
    empty = jnp.zeros_like(J[:1, :, :k])

    # Seen from the cell whose row it is: its own side of each face, and the other.
    sgn = jnp.asarray(t.cell_faces[1], q.dtype)[:, :, None, None]
    nothing = jnp.zeros((t.n_boundary, m, k), q.dtype)
    mine = jnp.concatenate([J[..., :k], J_out, J[..., k:], empty])[t.seen] * sgn
    other = jnp.concatenate([J[..., k:], nothing, J[..., :k], empty])[t.seen] * sgn
    own = mine.sum(1)

    # G: the gradient of cell c by slot, and by c itself.
    weights = jnp.concatenate([jnp.broadcast_to(d.weights[0][:, :, None], (*s.cell.shape, dim, dim)), d.weights[1][:, :, None]], 2)
    is_boundary = s.boundary < t.n_boundary
    at_slot = jnp.concatenate([values_q, jnp.zeros((1, m, m), q.dtype)])[s.boundary]
    G_self = -weights.sum(1)[..., None] * jnp.eye(m, dtype=q.dtype)[:, None] + jnp.einsum("csvi,csvw->cviw", weights, at_slot)
    G_slot = jnp.where(is_boundary[:, :, None, None], 0.0, weights)

    def with_gradient(H: Array) -> Array:
        return H[..., m:].reshape(*H.shape[:-1], m, dim)

    H_own, H_other = with_gradient(own), with_gradient(other)
    source = _forward(lambda x: sources(flow, d, x, extra), q)
    diagonal = own[..., :m] + source + jnp.einsum("covi,cviw->cow", H_own, G_self)
    near = other[..., :m] + jnp.einsum("ckovi,ckviw->ckow", H_other, G_self[t.across])
    slots = jnp.einsum("covi,csvi->csov", H_own, G_slot)
    far = jnp.einsum("ckovi,cksvi->cksov", H_other, G_slot[t.across])
    parts = jnp.concatenate([diagonal[:, None], near, slots, far.reshape(len(q), -1, m, m)], 1)
    p = pattern(flow)
    blocks = jnp.zeros((len(p.row), m, m), q.dtype).at[p.target.ravel()].add(parts.reshape(-1, m, m))

    if not flow.n_extra:
        border = jnp.zeros((q.size, 0), q.dtype)
        return Jacobian(blocks, border, border.T, jnp.zeros((0, 0), q.dtype))

    def by_extra(e: Array) -> Array:
        return sources(flow, d, q, e).ravel()

    def equations(x: Array, e: Array) -> Array:
        x = x.reshape(q.shape)
        return extra_equations(flow, d, x, crossing(d, x, gradient(d, x))[0])

    return Jacobian(blocks, jax.jacfwd(by_extra)(extra), jax.jacrev(equations)(q.ravel(), extra), jnp.zeros((len(extra),) * 2, q.dtype))


def as_csr(p: Pattern, blocks: np.ndarray) -> Any:
    """The cell-to-cell part as a SciPy matrix, for tests and for looking at."""
    import scipy.sparse as sp

    start = np.searchsorted(p.row, np.arange(p.n_cells + 1))
    size = p.n_cells * p.block
    return sp.bsr_matrix((np.asarray(blocks), p.column, start), shape=(size, size)).tocsr()
