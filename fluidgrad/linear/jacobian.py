"""The exact Jacobian of the residual, assembled.

The Jacobian is the chain rule along the faces. With D the sum over faces and grad the least-squares gradients,

    R = D flux(q, grad q) + sources,        dR/dq = D (flux_q + flux_g G) + sources_q,        G = d(grad q)/dq.

``flux_q`` and ``flux_g`` are pointwise: a few derivatives of the flux formula, all faces at once, give them
exactly, and G is made of the gradient's weights. So there is nothing to keep in step by hand when a flux changes; on a CPU
the assembly costs as much as 25 residuals in 2D and 40 in 3D. A cell reaches its neighbours' neighbours, so a row has up to
1 + slots + slots^2 blocks, of size (dim+1)^2; which they are is static. The result is verified against a
Jacobian-vector product of the residual in ``tests/linear/test_jacobian.py``.

The *compact* Jacobian is the same with the gradients held: R_q without the second term. A cell reaches the cells that it
shares a face with and no further, so its LU factors have a third of the entries and cost a fifth. It is near enough to the exact
one to precondition GMRES with it (``systems.py``). The gradient of the pressure is not quite held: in a cell's row those across its
faces change as its own does. Where faces are not half way between cells, as on triangles, the pressure there is as much of
gradients as of values, and GMRES takes half again as many products without.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from fluidgrad.flow.flow import Flow
from fluidgrad.flow.fluxes import gradient, interior_flux
from fluidgrad.flow.layout import Discrete, stencil, values_outside
from fluidgrad.flow.residual import crossing, extra_equations, outer_flux, sources, split
from fluidgrad.mesh.geometry import sum_of
from fluidgrad.mesh.mesh import Incidence, rows, to_cells, to_faces
from fluidgrad.mesh.topology import Topology
from fluidgrad.parts import first, share, total
from fluidgrad.programs import Source

OWN = 0.75  # of the change of a cell's gradient of the pressure, in compact rows: with all of it the cycle of multigrid fails on triangles


@partial(jax.tree_util.register_dataclass, data_fields=["block"], meta_fields=["n_blocks", "compact"])
@dataclass(frozen=True)
class Places:
    """``Pattern.target`` as a table; how many blocks there are, and whether it is the compact Jacobian's; static."""

    block: Int[Array, "cells contributions"]
    n_blocks: int
    compact: bool


@dataclass(frozen=True, eq=False)
class Pattern(Source):
    """Where the blocks of the Jacobian are; static.

    Attributes:
        row, column: cells of each block, sorted by row then column, ``(blocks,)``.
        target: the block to which each contribution of a cell's row belongs, ``(cells, 1 + k + slots + k slots)``, the first
            ``1 + k`` of them where the Jacobian is compact.
        topology: of the mesh, for orderings and aggregates.
        block: unknowns a cell.
        compact: whether it is the compact Jacobian's.
    """

    row: Int[np.ndarray, " blocks"]
    column: Int[np.ndarray, " blocks"]
    target: Int[np.ndarray, "cells contributions"]
    topology: Topology
    block: int
    compact: bool

    @property
    def n_cells(self) -> int:
        return self.topology.n_cells

    @property
    def places(self) -> Places:
        """``target``, for programs."""
        return self.of(_places)


def _places(p: Pattern) -> Places:
    return Places(p.target, len(p.row), p.compact)  # pyright: ignore[reportArgumentType]


def pattern(flow: Flow, compact: bool = False) -> Pattern:
    """The block pattern of a flow's Jacobian."""
    t = flow.joined.topology
    return t.kept(compact_pattern) if compact else t.kept(_pattern, flow.gives)


def _pattern(t: Topology, gives: tuple[str, ...]) -> Pattern:
    n = t.n_cells
    a, s = t.across, np.asarray(t.kept(stencil, gives).cell)
    return _pattern_of(t, [a, s, s[a].reshape(n, -1)], False)


def compact_pattern(t: Topology) -> Pattern:
    """That of the compact Jacobian, by the cells across faces."""
    return _pattern_of(t, [t.across], True)


def _pattern_of(t: Topology, reach: list[np.ndarray], compact: bool) -> Pattern:
    n = t.n_cells
    me = np.arange(n)[:, None]
    column = np.concatenate([me, *reach], 1)
    key, target = np.unique(me * n + column, return_inverse=True)
    return Pattern(key // n, key % n, target.reshape(column.shape), t, t.dim + 1, compact)


@partial(jax.tree_util.register_dataclass, data_fields=["blocks", "columns", "rows", "corner"], meta_fields=["closed"])
@dataclass(frozen=True)
class Jacobian:
    """dR/dq: sparse blocks between cells, ``(blocks, m, m)``, bordered by the extra scalars' dense columns
    ``(cells m, k)``, rows ``(k, cells m)`` and corner ``(k, k)``. In a closed domain (static) the blocks alone are singular by a
    constant pressure."""

    blocks: Array
    columns: Array
    rows: Array
    corner: Array
    closed: bool


class Datum(NamedTuple):
    """What is added to the blocks of a closed domain, ``size e e^T``: e of pressures, ``(cells m,)``."""

    e: Array
    size: Array


@partial(jax.jit, static_argnums=1)
def datum(J: Jacobian, spread: bool) -> Datum | None:
    """A datum at the pressure of the first cell, whose own block is the first of all, or of all pressures alike."""
    if not J.closed:
        return None
    n, m = len(J.columns), J.blocks.shape[1]
    e = jnp.zeros((n // m, m), J.blocks.dtype)
    cells = (J.rows[0].reshape(e.shape)[:, -1] > 0).astype(e.dtype)  # the mean pressure has all of them, and no empty place
    e = e.at[:, -1].set(cells * total(jnp.sum(cells)) ** -0.5) if spread else e.at[0, -1].set(1.0)
    return Datum(e.ravel(), first(jnp.abs(J.blocks[0, -1, -1])))


@jax.jit
def pinned(blocks: Array, datum: Datum | None) -> Array:
    """The blocks, with the datum at the first cell."""
    return blocks if datum is None else blocks.at[0, -1, -1].add(datum.size)


def scales(blocks: Array) -> tuple[Array, Array]:
    """Factors of the rows and of the columns of a block, ``(m,)``, that leave entries without units and of the size of 1 in momentum by
    velocity, in momentum by pressure and in mass by velocity."""
    uu, up, pu = (jnp.sqrt(total(jnp.mean(a**2))) for a in (blocks[:, :-1, :-1], blocks[:, :-1, -1], blocks[:, -1, :-1]))
    velocity = jnp.arange(blocks.shape[1]) < blocks.shape[1] - 1
    return jnp.where(velocity, 1.0 / uu, 1.0 / pu), jnp.where(velocity, 1.0, uu / up)


def _forward(f, x: Array) -> Array:
    """d f / d x of a pointwise function of ``(items, inputs)``, as ``(items, outputs, inputs)``."""
    basis = jnp.eye(x.shape[1], dtype=x.dtype)
    columns = jax.vmap(lambda e: jax.jvp(f, (x,), (jnp.broadcast_to(e, x.shape),))[1])(basis)
    return jnp.moveaxis(columns, 0, -1)


def _reverse(f, x: Array) -> Array:
    """The same, by reverse mode: for a function of more inputs than outputs."""
    y, back = jax.vjp(f, x)
    each = jax.vmap(lambda e: back(jnp.broadcast_to(e, y.shape))[0])(jnp.eye(y.shape[1], dtype=x.dtype))
    return jnp.moveaxis(each, 0, 1)


def assemble(d: Discrete, places: Places, state: Array) -> Jacobian:
    """The Jacobian of the residual at ``state``, exact or compact."""
    own_q, extra = split(d, state)
    q = d.part.everywhere(own_q)
    own, *others = (_compact if places.compact else _exact)(d, q, gradient(d, q))
    own = own + _forward(lambda x: sources(d, x, extra), q)
    parts = d.part.own(jnp.concatenate([own[:, None], *others], 1))
    q, m = own_q, q.shape[1]
    blocks = jnp.zeros((places.n_blocks, m, m), q.dtype).at[places.block.ravel()].add(parts.reshape(-1, m, m))
    if not d.n_extra:
        border = jnp.zeros((q.size, 0), q.dtype)
        return Jacobian(blocks, border, border.T, jnp.zeros((0, 0), q.dtype), False)

    def by_extra(e: Array) -> Array:
        return d.part.own(sources(d, d.part.everywhere(q), e)).ravel()

    def equations(x: Array, e: Array) -> Array:
        x = x.reshape(q.shape)
        everywhere = d.part.everywhere(x)
        return share(extra_equations(d, x, crossing(d, everywhere, gradient(d, everywhere))[0]))

    columns, border = jax.jacfwd(by_extra)(extra), jax.jacrev(equations)(q.ravel(), extra)
    return Jacobian(blocks, columns, border, jnp.zeros((len(extra),) * 2, q.dtype), bool(d.closed))


def _compact(d: Discrete, q: Array, g: Array) -> list[Array]:
    """Contributions to each cell's row by its own values and by those across its faces: with gradients held, but those of the pressure
    on both sides of its faces, which change as its own does."""
    t, m, inside = d.incidence, q.shape[1], d.incidence.inside
    (q_P, q_N), (g_P, g_N) = to_faces(t, q), to_faces(t, g)

    def through(q_P: Array, q_N: Array, by: Array) -> Array:
        gradients = g_P.at[:, -1].add(by), g_N.at[:, -1].add(by)
        return interior_flux(q_P, q_N, *gradients, d.inside, d.viscosity, d.convection, d.scheme).flux

    def out(q: Array, by: Array) -> Array:
        return outer_flux(d, q, g[inside].at[:, -1].add(by)).flux

    by, by_out = (jnp.zeros((len(index), d.dim), q.dtype) for index in (t.neighbour, inside))
    J = _forward(lambda x: through(x[:, :m], x[:, m:], by), jnp.concatenate([q_P, q_N], 1))
    own, across = _from_cells(t, J, _forward(lambda x: out(x, by_out), q[inside]))
    K = jnp.concatenate([_forward(lambda x: through(q_P, q_N, x), by), _forward(lambda x: out(q[inside], x), by_out)])
    H = OWN * to_cells(t, K)
    G_self, G_slot = _of_gradient(d, q, m - 1, t.seen.shape[1])
    return [own + jnp.einsum("coi,ciw->cow", H, G_self), across.at[..., -1].add(jnp.einsum("coi,csi->cso", H, G_slot))]


def _from_cells(t: Incidence, J: Array, J_out: Array) -> tuple[Array, Array]:
    """Derivatives of the fluxes out of each cell by what is on its side of its faces, ``(cells, m, ...)``, all together, and by
    what is on the other side of each, ``(cells, k, m, ...)``."""
    own, across = jnp.split(J, 2, -1)
    empty = jnp.zeros_like(own[:1])
    sign = t.sign.astype(J.dtype)[:, :, None, None]
    here = jnp.concatenate([own, J_out, across, empty])
    mine = sum_of(s * rows(here, k) for s, k in zip(jnp.moveaxis(sign, 1, 0), t.seen.T, strict=True))
    return mine, jnp.concatenate([across, jnp.zeros_like(J_out), own, empty])[t.seen] * sign


def _exact(d: Discrete, q: Array, g: Array) -> list[Array]:
    """Contributions to each cell's row by its own values, by those across its faces, by those that its gradient is made of, and
    by those that the gradients across its faces are made of."""
    t, m, dim = d.incidence, q.shape[1], d.dim
    flat = jnp.concatenate([q, g.reshape(len(q), -1)], 1)  # what one side of a face contributes
    k = flat.shape[1]

    def unpack(x: Array) -> tuple[Array, Array]:
        return x[:, :m], x[:, m:].reshape(-1, m, dim)

    def through(x: Array) -> Array:
        (q_P, g_P), (q_N, g_N) = unpack(x[:, :k]), unpack(x[:, k:])
        return interior_flux(q_P, q_N, g_P, g_N, d.inside, d.viscosity, d.convection, d.scheme).flux

    J = _reverse(through, jnp.concatenate(to_faces(t, flat), 1))  # (interior, m, 2k)
    J_out = _reverse(lambda x: outer_flux(d, *unpack(x)).flux, flat[t.inside])  # (boundary, m, k)
    own, other = _from_cells(t, J, J_out)

    G = [_of_gradient(d, q, v, d.layout.stencil.cell.shape[1]) for v in range(m)]
    G_self, G_slot = (jnp.stack(of_all, axis) for of_all, axis in zip(zip(*G, strict=True), (1, 2), strict=True))

    def with_gradient(H: Array) -> Array:
        return H[..., m:].reshape(*H.shape[:-1], m, dim)

    H_own, H_other = with_gradient(own), with_gradient(other)
    diagonal = own[..., :m] + jnp.einsum("covi,cviw->cow", H_own, G_self)
    near = other[..., :m] + jnp.einsum("ckovi,ckviw->ckow", H_other, G_self[t.across])
    slots = jnp.einsum("covi,csvi->csov", H_own, G_slot)
    far = jnp.einsum("ckovi,cksvi->cksov", H_other, G_slot[t.across])
    return [diagonal, near, slots, far.reshape(len(q), -1, m, m)]


def _of_gradient(d: Discrete, q: Array, v: int, slots: int) -> tuple[Array, Array]:
    """The gradient of one quantity in each cell, by the cell's own values, ``(cells, dim, m)``, and by that quantity in its first slots,
    ``(cells, slots, dim)``; the very first are across its faces."""
    S_out, value, m = d.geometry.S[d.incidence.n_interior :], d.layout.stencil.value[:, :slots], q.shape[1]
    outside = _forward(lambda x: values_outside(x, S_out, d.conditions, d.layout.mirror)[:, v : v + 1], q[d.incidence.inside])[:, 0]
    weights = d.weights[int(v == m - 1)][:, :slots]
    at_slot = jnp.concatenate([outside, jnp.zeros((1, m), q.dtype)])[jnp.where(value < len(q), len(outside), value - len(q))]
    by_own = -jnp.sum(weights, 1)[..., None] * jnp.eye(m, dtype=q.dtype)[v]
    return by_own + jnp.einsum("csi,csw->ciw", weights, at_slot), jnp.where((value < len(q))[..., None], weights, 0.0)


def as_csr(p: Pattern, blocks: np.ndarray) -> Any:
    """The cell-to-cell part as a SciPy matrix, for tests and for looking at."""
    import scipy.sparse as sp

    start = np.searchsorted(p.row, np.arange(p.n_cells + 1))
    size = p.n_cells * p.block
    return sp.bsr_matrix((np.asarray(blocks), p.column, start), shape=(size, size)).tocsr()
