"""The exact Jacobian of the residual, assembled.

The Jacobian is the chain rule along the faces. With D the sum over faces and grad the least-squares gradients,

    R = D flux(q, grad q) + sources,        dR/dq = D (flux_q + flux_g G) + sources_q,        G = d(grad q)/dq.

``flux_q`` and ``flux_g`` are pointwise: a few forward derivatives of the flux formula, all faces at once, give them
exactly, and G is made of the gradient's weights. So the assembly costs about as much as a dozen residuals, and there is
nothing to keep in step by hand when a flux changes. A cell reaches its neighbours' neighbours, so a row has up to
1 + slots + slots^2 blocks, of size (dim+1)^2; which they are is static. The result is verified against a
Jacobian-vector product of the residual in ``tests/solve/test_jacobian.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fluidgrad.flow.flow import Flow
from fluidgrad.flow.fluxes import (
    Discrete,
    gradient,
    interior_data,
    interior_flux,
)
from fluidgrad.flow.layout import stencil, values_outside
from fluidgrad.flow.residual import crossing, extra_equations, outer_flux, sources, split
from fluidgrad.mesh.mesh import to_faces
from fluidgrad.mesh.topology import Topology
from fluidgrad.programs import Source


@partial(jax.tree_util.register_dataclass, data_fields=["block"], meta_fields=["n_blocks"])
@dataclass(frozen=True)
class Places:
    """``Pattern.target`` as a table, and how many blocks there are; static."""

    block: Int[Array, "cells contributions"]
    n_blocks: int


@dataclass(frozen=True, eq=False)
class Pattern(Source):
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

    @property
    def places(self) -> Places:
        """``target``, for programs."""
        return self.of(_places)


def _places(p: Pattern) -> Places:
    return Places(p.target, len(p.row))  # pyright: ignore[reportArgumentType]


def pattern(flow: Flow) -> Pattern:
    """The block pattern of a flow's Jacobian."""
    return flow.joined.topology.kept(_pattern, flow.gives)


def _pattern(t: Topology, gives: tuple[str, ...]) -> Pattern:
    n = t.n_cells
    a, s = t.across, np.asarray(t.kept(stencil, gives).cell)
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


def assemble(d: Discrete, places: Places, state: Array) -> Jacobian:
    """The Jacobian of the residual at ``state``."""
    t, s = d.incidence, d.layout.stencil
    q, extra = split(d, state)
    m, dim = q.shape[1], d.dim
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
    J_out = _forward(lambda x: outer_flux(d, *unpack(x)).flux, flat[t.inside])  # (boundary, m, k)
    S_out = d.geometry.S[t.n_interior :]
    values_q = _forward(lambda x: values_outside(x, S_out, d.conditions, d.layout.mirror), q[t.inside])
    empty = jnp.zeros_like(J[:1, :, :k])

    # Seen from the cell whose row it is: its own side of each face, and the other.
    sgn = t.sign.astype(q.dtype)[:, :, None, None]
    nothing = jnp.zeros((len(J_out), m, k), q.dtype)
    mine = jnp.concatenate([J[..., :k], J_out, J[..., k:], empty])[t.seen] * sgn
    other = jnp.concatenate([J[..., k:], nothing, J[..., :k], empty])[t.seen] * sgn
    own = mine.sum(1)

    # G: the gradient of cell c by slot, and by c itself.
    weights = jnp.concatenate([jnp.broadcast_to(d.weights[0][:, :, None], (*s.cell.shape, dim, dim)), d.weights[1][:, :, None]], 2)
    is_boundary = s.boundary < len(J_out)
    at_slot = jnp.concatenate([values_q, jnp.zeros((1, m, m), q.dtype)])[s.boundary]
    G_self = -weights.sum(1)[..., None] * jnp.eye(m, dtype=q.dtype)[:, None] + jnp.einsum("csvi,csvw->cviw", weights, at_slot)
    G_slot = jnp.where(is_boundary[:, :, None, None], 0.0, weights)

    def with_gradient(H: Array) -> Array:
        return H[..., m:].reshape(*H.shape[:-1], m, dim)

    H_own, H_other = with_gradient(own), with_gradient(other)
    source = _forward(lambda x: sources(d, x, extra), q)
    diagonal = own[..., :m] + source + jnp.einsum("covi,cviw->cow", H_own, G_self)
    near = other[..., :m] + jnp.einsum("ckovi,ckviw->ckow", H_other, G_self[t.across])
    slots = jnp.einsum("covi,csvi->csov", H_own, G_slot)
    far = jnp.einsum("ckovi,cksvi->cksov", H_other, G_slot[t.across])
    parts = jnp.concatenate([diagonal[:, None], near, slots, far.reshape(len(q), -1, m, m)], 1)
    blocks = jnp.zeros((places.n_blocks, m, m), q.dtype).at[places.block.ravel()].add(parts.reshape(-1, m, m))

    if not d.n_extra:
        border = jnp.zeros((q.size, 0), q.dtype)
        return Jacobian(blocks, border, border.T, jnp.zeros((0, 0), q.dtype))

    def by_extra(e: Array) -> Array:
        return sources(d, q, e).ravel()

    def equations(x: Array, e: Array) -> Array:
        x = x.reshape(q.shape)
        return extra_equations(d, x, crossing(d, x, gradient(d, x))[0])

    return Jacobian(blocks, jax.jacfwd(by_extra)(extra), jax.jacrev(equations)(q.ravel(), extra), jnp.zeros((len(extra),) * 2, q.dtype))


def as_csr(p: Pattern, blocks: np.ndarray) -> Any:
    """The cell-to-cell part as a SciPy matrix, for tests and for looking at."""
    import scipy.sparse as sp

    start = np.searchsorted(p.row, np.arange(p.n_cells + 1))
    size = p.n_cells * p.block
    return sp.bsr_matrix((np.asarray(blocks), p.column, start), shape=(size, size)).tocsr()
