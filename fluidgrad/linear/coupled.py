"""Multigrid for velocity and pressure together: what preconditions GMRES where a direct solver ends.

The matrix is the compact Jacobian (``jacobian.py``), whose rows reach across the faces of a cell and no further: of blocks between
cells that are coupled. Levels are aggregates of two cells (``aggregation.py``), over which values are constant and equations are
summed. What makes that work for a flow, found on Jacobians of this code (docs/method.md has the table of what was tried):

    convection     is made upwind inside of the cycle: each velocity's coupling to a neighbour has an antisymmetric part c, and |c| is
                   added to its diffusion, a quarter of it on the finest level and 0.8 of it on others. Of the blocks
                   themselves, since Newton's linearisation doubles the convection along a stream; summed from blocks without it.
    pressure       differences of it in the balance of mass grow too small: by 2.4 where cells grow twice as large in every direction;
                   where they are more than ten times what velocities do to that balance, they are halved instead.
    diffusion      of velocities grows too large there, by 1.6 of the 2 that values constant over a pair are too stiff by: between cells
                   and, as friction, at boundaries. Undivided there, a channel resists too much on coarse levels.
    smoothing      one sweep with D + L and one with D + U over the cells, colour by colour, where (D + L) D^-1 (D + U) has the
                   diagonal blocks of the matrix: D_i = A_ii - sum over earlier j of A_ij D_j^-1 A_ji (DILU, Pommerell 1992);
                   0.6 of it.
    visits         two to every second level.
    residuals      of the compact Jacobian; on the finest level of triangles, tetrahedra and prisms of the exact one, upwind. There fluxes
                   are as much of gradients as of values, and an exact product costs less than what it spares.

A sweep needs no triangles: what is not swept yet is zero. So a level is one table of blocks, rows of a colour together, and a cell's
own block is the first of its row. All of it runs in single precision and calls nothing back, on any device. The transpose of the cycle is
the cycle of the transpose.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fluidgrad.device import free_memory
from fluidgrad.errors import OutOfReach
from fluidgrad.flow.flow import Flow
from fluidgrad.linear.jacobian import Datum, Pattern, scales
from fluidgrad.linear.krylov import ROOM
from fluidgrad.linear.levels import Level, Tables, tables_of
from fluidgrad.linear.matrices import Blocks, Matrix, at, by_steps, flat, matrices, placed, summed
from fluidgrad.mesh.mesh import rows
from fluidgrad.parts import total

Product = Callable[[Array], Array]  # x -> A x, of unknowns (n, 1)

RELAXED = 0.6  # how much of what sweeps say: all of it diverges on coarse levels of Stokes flow

# Memory, as measured at 10^6 cells in 2D and in 3D, in numbers of 8 bytes:
TIMES = 13  # the matrix's own, for the matrices of all levels, the transposed ones, and what makes them
BESIDE = 550  # a cell, for the mesh, what its fluxes are made of, and their derivatives


@dataclass(frozen=True)
class Multigrid:
    """The backend: it solves nearly, not exactly, and in constant pressures of a closed domain exactly."""

    spread = True

    def __str__(self) -> str:
        return "multigrid"

    def prefers_compact(self, flow: Flow, may: bool) -> bool:
        return True

    def check(self, p: Pattern, share: float = 1.0) -> None:
        needed, free = share * memory(p), free_memory()
        if needed > free:
            raise OutOfReach(
                f"multigrid needs about {needed / 2**30:.2g} GiB for {p.n_cells} cells, and {free / 2**30:.2g} GiB are free",
                accepted="use a coarser mesh, more devices, or a machine with more memory",
            )

    def factor(self, p: Pattern, blocks: Array, datum: Datum | None = None) -> Hierarchy:
        return _hierarchy(p.of(tables_of), blocks, datum)

    def transposed(self, p: Pattern, held: Hierarchy) -> Hierarchy:
        return _transposed(p.of(tables_of), held)

    def solve(self, p: Pattern, held: Hierarchy, b: Array, transpose: bool, product: Product | None = None) -> Array:
        tables = p.of(tables_of)
        if product is None or not tables.simplices or len(tables.levels) == 1:
            return _solve(tables, held, b)
        r, x = _begun(tables, held, b)
        r, e = _corrected(tables, held, r, x, product(_out(tables, held, x)))
        return _ended(tables, held, b, r, x, e, product(_out(tables, held, e)))


@partial(jax.tree_util.register_dataclass, data_fields=["matrices", "blocks", "rows", "columns", "datum"], meta_fields=[])
@dataclass(frozen=True)
class Hierarchy:
    """A matrix on all levels.

    Attributes:
        matrices: of the levels, finest first.
        blocks: the matrix itself as they are made of it, not upwind.
        rows, columns: what multiplies its equations and its unknowns there, ``(m,)``.
        datum: what was added to it: a constant pressure.
    """

    matrices: tuple[Matrix, ...]
    blocks: Blocks
    rows: Array
    columns: Array
    datum: Datum | None


def memory(p: Pattern) -> float:
    """Bytes that a solve and its gradient take, beside the rest of the process."""
    return 8.0 * (TIMES * len(p.row) * p.block**2 + (BESIDE + 2 * ROOM * p.block) * p.n_cells)


@jax.jit
def _hierarchy(tables: Tables, blocks: Array, datum: Datum | None) -> Hierarchy:
    (r, c), m = scales(blocks), blocks.shape[-1]
    scaled = (blocks * r[:, None] * c).astype(jnp.float32)
    padded = jnp.concatenate([scaled, jnp.zeros((1, m, m), scaled.dtype)])
    return _on_levels(tables, tuple(rows(padded, entry) for entry in tables.entry), r, c, datum)


def _on_levels(tables: Tables, blocks: Blocks, r: Array, c: Array, datum: Datum | None) -> Hierarchy:
    return Hierarchy(matrices(tables.levels, tables.boundary, blocks, datum is not None), blocks, r, c, datum)


@jax.jit
def _transposed(tables: Tables, held: Hierarchy) -> Hierarchy:
    every = tables.levels[0].reversed.behind(flat(held.blocks))
    blocks = tuple(jnp.swapaxes(rows(every, band.back), -1, -2) for band in tables.levels[0].bands)
    return _on_levels(tables, blocks, held.columns, held.rows, held.datum)


@jax.jit
def _solve(tables: Tables, held: Hierarchy, b: Float[Array, "unknowns k"]) -> Array:
    """Nearly the solutions, of the matrix with its datum."""

    def one(b: Array) -> Array:
        return _with_datum(held, b, _out(tables, held, cycle(tables.levels, held.matrices, _in(tables, held, b))))

    return one(b) if b.shape[1] == 1 else jax.lax.map(one, b.T[..., None])[..., 0].T


def _in(tables: Tables, held: Hierarchy, b: Float[Array, "unknowns 1"]) -> Float[Array, "places m"]:
    """A right-hand side as the cycle takes it: scaled, and without what a constant pressure answers."""
    if held.datum is not None:
        b = b - total(held.datum.e @ b) * held.datum.e[:, None]  # A e = 0, so (A + size e e^T)^-1 e = e / size
    r = (b.reshape(-1, len(held.rows)) * held.rows).astype(jnp.float32)
    return jnp.zeros((len(tables.boundary), r.shape[1]), r.dtype).at[tables.place].set(r)


@jax.jit
def _out(tables: Tables, held: Hierarchy, x: Float[Array, "places m"]) -> Float[Array, "unknowns 1"]:
    return (rows(x, tables.place).astype(held.columns.dtype) * held.columns).reshape(-1, 1)


def _with_datum(held: Hierarchy, b: Array, x: Array) -> Array:
    """The solution with the constant pressure that answers its right-hand side."""
    if held.datum is None:
        return x
    e, size = held.datum
    return x + (total(e @ b) / size - total(e @ x)) * e[:, None]


# The cycle in three programs, for between them residuals on the finest level are taken by the exact Jacobian.


@jax.jit
def _begun(tables: Tables, held: Hierarchy, b: Array) -> tuple[Array, Array]:
    """A right-hand side as the cycle takes it, and what sweeps make of it."""
    r = _in(tables, held, b)
    return r, RELAXED * _smoothed(tables.levels[0], held.matrices[0], r)


@jax.jit
def _corrected(tables: Tables, held: Hierarchy, r: Array, x: Array, Ax: Array) -> tuple[Array, Array]:
    """What is left of it, and what the next level makes of that."""
    r = _left(tables, held, r, x, Ax)
    return r, _from_coarse(tables.levels, held.matrices, r, True)


@jax.jit
def _ended(tables: Tables, held: Hierarchy, b: Array, r: Array, x: Array, e: Array, Ae: Array) -> Array:
    x = x + e + RELAXED * _smoothed(tables.levels[0], held.matrices[0], _left(tables, held, r, e, Ae))
    return _with_datum(held, b, _out(tables, held, x))


def _left(tables: Tables, held: Hierarchy, r: Array, x: Array, Ax: Array) -> Array:
    """r - A x, with the upwinding of the finest level: without it waves from cell to cell are left to grow."""
    level = tables.levels[0]
    near = level.halo.behind(x)
    each = [jnp.einsum("cpkab,cpkb->cpa", b, rows(near, band.across)) for b, band in zip(held.blocks, level.bands, strict=True)]
    return r - _in(tables, held, Ax) - (times(level, held.matrices[0], x) - jnp.concatenate(each, 1).reshape(x.shape))


def cycle(levels: tuple[Level, ...], A: tuple[Matrix, ...], r: Float[Array, "places m"]) -> Array:
    """Nearly A^-1 r, linear in r."""
    return _visit(levels, A, r, True)


def _visit(levels: tuple[Level, ...], A: tuple[Matrix, ...], r: Array, twice: bool) -> Array:
    """What a level makes of a residual; ``twice``: of the visits to the next."""
    level, here = levels[0], A[0]
    if len(levels) == 1:
        return (here.inverses[0] @ r.ravel()).reshape(r.shape)
    x = RELAXED * _smoothed(level, here, r)
    r = r - times(level, here, x)
    e = _from_coarse(levels, A, r, twice)
    return x + e + RELAXED * _smoothed(level, here, r - times(level, here, e))


def _from_coarse(levels: tuple[Level, ...], A: tuple[Matrix, ...], r: Array, twice: bool) -> Array:
    """What the next level makes of what is left of a residual."""
    level = levels[0]
    coarse = summed(level, r)

    def again(_: int, e: Array) -> Array:  # a loop, so that each level is in the program once
        return e + _visit(levels[1:], A[1:], coarse - times(levels[1], A[1], e), not twice)

    if twice and len(levels) > 2:
        e = jax.lax.fori_loop(0, 2, again, jnp.zeros_like(coarse))
    else:
        e = _visit(levels[1:], A[1:], coarse, not twice)
    return rows(e, level.aggregate)


def times(level: Level, A: Matrix, x: Array) -> Array:
    """A x, for values ``(places, m)``."""
    x, shape = level.halo.behind(x), x.shape
    products = [jnp.einsum("cpab,cpb->cpa", row, _near(x, band.across)) for band, row in zip(level.bands, A.rows, strict=True)]
    return jnp.concatenate(products, 1).reshape(shape)


def _near(x: Array, across: Array) -> Array:
    """The values that rows are multiplied by, ``(..., cells, (1 + k) m)``."""
    return rows(x, across).reshape(*across.shape[:-1], -1)


def _smoothed(level: Level, A: Matrix, r: Array) -> Array:
    """(D + U)^-1 D (D + L)^-1 r."""
    steps = len(A.rows[0])

    def sweep(begin: tuple[Array, ...], step: Array, x: Array) -> Array:
        found = []
        for band, *tables in zip(level.bands, A.rows, A.inverses, begin, strict=True):
            row, inverse, start, across = (at(table, step) for table in (*tables, band.across))
            swept = jnp.einsum("pab,pb->pa", row, _near(x, across))
            found.append(start - jnp.einsum("pab,pb->pa", inverse, swept))
        return placed(x, step, found)

    def only(x: tuple[Array, ...], first: int, last: int) -> Array:
        step = jnp.arange(steps)[:, None, None]
        found = jnp.where((step >= first) & (step < last), jnp.concatenate(x, 1), 0.0).reshape(r.shape)
        return level.halo.empty(found)  # sweeps end where the part ends

    begin = tuple(jnp.einsum("cpab,cpb->cpa", D, b) for D, b in zip(A.inverses, by_steps(level, r), strict=True))
    y = jax.lax.fori_loop(level.first, steps, partial(sweep, begin), only(begin, 0, level.first))
    begin, last = by_steps(level, y[: len(r)]), steps - level.last
    return jax.lax.fori_loop(0, last, lambda k, x: sweep(begin, last - 1 - k, x), only(begin, last, steps))[: len(r)]
