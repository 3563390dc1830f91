"""The matrices of the coupled cycle (``coupled.py``), level by level: summed, made upwind, with the blocks that its sweeps divide by.

They are made of the matrix of the finest level by one program, in the tables of ``levels.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from fluidgrad.linear.levels import Level
from fluidgrad.mesh.geometry import sum_of
from fluidgrad.mesh.mesh import rows
from fluidgrad.parts import together, total

FINE, COARSE = 0.25, 0.8  # of the upwinding, on the finest level and on others
# How far sums are off where cells are twice as large in every direction; a level doubles one, so it is a root of these, of degree dim:
PRESSURE = 2.4  # by which differences of the pressure in the balance of mass are too small
STIFFNESS = 1.6  # by which the diffusion of velocities is too large, and the friction at boundaries
# Where the Rhie-Chow time is longer than that of viscosity over a cell, differences of the pressure are too large on coarse levels instead:
AMPLE = 10.0  # times what pressures do to the balance of mass by the velocities beside them
LESS, FIRST = 0.5, 6  # what a level leaves of them at least, and on how many levels

Blocks = tuple[Array, ...]  # a matrix, of each band (steps, cells, 1 + k, m, m)


@partial(jax.tree_util.register_dataclass, data_fields=["rows", "inverses"], meta_fields=[])
@dataclass(frozen=True)
class Matrix:
    """The matrix of a level, band by band.

    Attributes:
        rows: of its blocks, upwind, ``(steps, cells, m, (1 + k) m)``.
        inverses: of D, ``(steps, cells, m, m)``; on the last level that of the whole matrix, ``(places m, places m)``.
    """

    rows: tuple[Array, ...]
    inverses: tuple[Array, ...]


@partial(jax.jit, static_argnums=3)
def matrices(levels: tuple[Level, ...], boundary: Bool[Array, " places"], blocks: Blocks, closed: bool) -> tuple[Matrix, ...]:
    """The matrix of each level.

    Args:
        levels, boundary: :class:`Tables`'.
        blocks: of the first level, scaled so that their entries are alike.
        closed: whether a constant pressure is of no effect: one is added to the last level's matrix, which is singular. Static.
    """
    found, amount, friction = [], FINE, _friction(levels[0], boundary, blocks)
    for level, coarse in zip(levels, [*levels[1:], None], strict=True):
        upwind, m = _upwind(level, blocks, amount), blocks[0].shape[-1]
        if 0 < len(found) <= FIRST:
            less = jnp.clip(AMPLE / _excess(level, upwind), LESS, 1.0)
            blocks, upwind = (tuple(b.at[..., -1, -1].multiply(less) for b in each) for each in (blocks, upwind))
        by_row = tuple(jnp.moveaxis(b, 3, 2).reshape(*b.shape[:2], m, -1) for b in upwind)
        inverses = (_dense_inverse(level, upwind, closed),) if coarse is None else _diagonal(level, upwind, by_row)
        found.append(Matrix(by_row, inverses))
        if coarse is not None:
            part = jnp.concatenate([band.part.ravel() for band in level.bands])
            count = sum(band.across.size for band in coarse.bands) if level.join is None else level.join.summed
            sums = jnp.zeros((count + 1, m * m), upwind[0].dtype).at[part].add(flat(blocks).reshape(-1, m * m))
            sums = sums.reshape(-1, m, m).at[:, -1, -1].multiply(PRESSURE ** (1 / (m - 1)))[:-1]  # the last is of what is in padding
            if level.join is not None:
                sums = rows(jnp.concatenate([together(sums), jnp.zeros((1, m, m), sums.dtype)]), level.join.blocks)
            blocks, friction = _less_viscous(coarse, _in_bands(coarse, sums), summed(level, friction))
            amount = COARSE
    return tuple(found)


def summed(level: Level, x: Array) -> Array:
    """Values of cells, ``(places, ...)``, summed over the cells of the next level."""
    x = jnp.sum(rows(x, level.members), 1)
    return x if level.join is None else rows(jnp.concatenate([together(x), jnp.zeros_like(x[:1])]), level.join.cells)


def flat(blocks: Sequence[Array]) -> Float[Array, "blocks m m"]:
    """The blocks of all bands."""
    return jnp.concatenate([b.reshape(-1, *b.shape[3:]) for b in blocks])


def _own(blocks: Blocks) -> Float[Array, "places m m"]:
    """The blocks of cells with themselves."""
    own = jnp.concatenate([b[:, :, 0] for b in blocks], 1)
    return own.reshape(-1, *own.shape[2:])


def _in_bands(level: Level, every: Array) -> Blocks:
    ends = np.cumsum([band.across.size for band in level.bands])[:-1]
    parts = jnp.split(every, ends)
    return tuple(part.reshape(*band.across.shape, *every.shape[1:]) for part, band in zip(parts, level.bands, strict=True))


def _upwind(level: Level, blocks: Blocks, amount: float) -> Blocks:
    """The blocks with so much of the diffusion that makes convection upwind."""
    return _diffused(level, blocks, lambda forth, back: amount * 0.5 * jnp.abs(forth - back))


def _excess(level: Level, blocks: Blocks) -> Array:
    """How many times as much pressures do to the balance of mass of their own cell by the Rhie-Chow term as by the velocities beside it."""
    own = _own(blocks)
    stiff = level.halo.behind(jnp.trace(own[:, :-1, :-1], axis1=1, axis2=2) / (own.shape[1] - 1))
    columns, through = level.reversed.behind(flat([b[..., :-1, -1:] for b in blocks])), []
    for band, b in zip(level.bands, blocks, strict=True):
        by, against = jnp.sum(b[..., -1, :-1] * rows(columns, band.back)[..., 0], -1), rows(stiff, band.across)
        through.append(jnp.sum(jnp.where(against != 0, jnp.abs(by / jnp.where(against != 0, against, 1.0)), 0.0)[..., 1:]))
    return total(jnp.sum(own[:, -1, -1])) / total(sum_of(through))


def _friction(level: Level, boundary: Array, blocks: Blocks) -> Float[Array, "places dim dim"]:
    """Of boundaries, in the rows of their cells: what is left of the symmetric part without the diffusion between cells."""
    own = _own(_diffused(level, blocks, lambda forth, back: 0.5 * (forth + back)))[:, :-1, :-1]
    return jnp.where(boundary[:, None, None], 0.5 * (own + jnp.swapaxes(own, 1, 2)), 0.0)


def _less_viscous(level: Level, blocks: Blocks, friction: Array) -> tuple[Blocks, Array]:
    """The blocks with diffusion more like that between larger cells and with friction at boundaries as far away as theirs are, and that
    friction: values constant over a pair make both twice as large along the pair."""
    less = 1.0 - STIFFNESS ** (-1.0 / friction.shape[-1])
    between = _diffused(level, blocks, lambda forth, back: less * 0.5 * (forth + back))
    own = by_steps(level, less * friction)
    return tuple(b.at[:, :, 0, :-1, :-1].add(-f) for b, f in zip(between, own, strict=True)), (1.0 - less) * friction


def _diffused(level: Level, given: Blocks, amount: Callable[[Array, Array], Array]) -> Blocks:
    """The blocks with diffusion added to velocities, none of it in sums over rows or columns: how much, of the couplings forth and back."""
    blocks = list(given)
    for v in range(blocks[0].shape[-1] - 1):
        every = level.reversed.behind(flat([b[..., v : v + 1, v : v + 1] for b in blocks]).ravel())
        for i, band in enumerate(level.bands):
            more = amount(blocks[i][..., v, v], rows(every, band.back))
            blocks[i] = blocks[i].at[..., v, v].add((-more).at[..., 0].set(jnp.sum(more[..., 1:], -1)))
    return tuple(blocks)


def _diagonal(level: Level, blocks: Blocks, by_row: tuple[Array, ...]) -> Blocks:
    """D^-1, step by step: zero where it is not known yet, and so in the sum over a row, where the cell itself is, too."""
    every, m, places = level.reversed.behind(flat(blocks)), blocks[0].shape[-1], len(level.aggregate)

    def eliminate(step: Array, inverse: Array) -> Array:
        found = []
        for band, b, row in zip(level.bands, blocks, by_row, strict=True):
            own, row, across, back = (at(table, step) for table in (b[:, :, 0], row, band.across, band.back))
            there, again = rows(inverse, across), rows(every, back)
            known = sum_of(there[..., c, None] * again[..., c, None, :] for c in range(m))  # a product, but 9 times as fast
            found.append(_inverse(own - jnp.einsum("pax,pxd->pad", row, known.reshape(len(own), -1, m))))
        return placed(inverse, step, found)

    inverse = level.halo.empty(jnp.zeros((places, m, m), every.dtype))
    return by_steps(level, jax.lax.fori_loop(0, len(blocks[0]), eliminate, inverse)[:places])


def _inverse(D: Array) -> Array:
    """Of small matrices ``(n, m, m)``, by elimination without pivots, velocities first; zero of empty ones."""
    m = D.shape[-1]
    empty = jnp.all(D == 0, (1, 2))
    A = [[D[:, i, j] for j in range(m)] + [jnp.full(len(D), float(i == j), D.dtype) for j in range(m)] for i in range(m)]
    for i in range(m):
        A[i] = [a / jnp.where(empty, 1.0, A[i][i]) for a in A[i]]
        for j in set(range(m)) - {i}:
            A[j] = [a - A[j][i] * b for a, b in zip(A[j], A[i], strict=True)]
    return jnp.where(empty[:, None, None], 0.0, jnp.stack([jnp.stack(row[m:], -1) for row in A], 1))


def _dense_inverse(level: Level, blocks: Blocks, closed: bool) -> Array:
    """Of the whole matrix, one in the rows of empty places."""
    own = _own(blocks)
    n, m, _ = own.shape
    each = zip(by_steps(level, jnp.arange(n)), level.bands, strict=True)
    place = jnp.concatenate([jnp.repeat(places.ravel(), band.across.shape[2]) for places, band in each])
    across = jnp.concatenate([band.across.ravel() for band in level.bands])
    empty = jnp.all(own == 0, (1, 2))
    dense = jnp.zeros((n, n, m, m), own.dtype).at[place, across].add(flat(blocks))
    dense = dense.at[jnp.arange(n), jnp.arange(n)].add(jnp.where(empty[:, None, None], jnp.eye(m, dtype=own.dtype), 0.0))
    if closed:
        dense = dense.at[:, :, -1, -1].add(jnp.mean(jnp.abs(own[:, -1, -1])) / n * ~empty[:, None] * ~empty)
    return _inverse_by_cells(jnp.moveaxis(dense, 2, 1).reshape(n * m, n * m), m)


def _inverse_by_cells(A: Array, m: int) -> Array:
    """The inverse, cell by cell as in the sweeps (Gauss and Jordan's elimination, in place). LAPACK's takes half a MiB of stack at each
    of its recursions: on several devices a process was killed on a thread that had less."""

    def eliminate(k: Array, A: Array) -> Array:
        column = jax.lax.dynamic_slice_in_dim(A, k * m, m, 1)
        row, pivot = (jax.lax.dynamic_slice_in_dim(a, k * m, m, 0) for a in (A, column))
        inverse = _inverse(pivot[None])[0]
        row = jax.lax.dynamic_update_slice_in_dim(inverse @ row, inverse, k * m, 1)
        rest = jax.lax.dynamic_update_slice_in_dim(column, jnp.zeros_like(pivot), k * m, 0)
        A = jax.lax.dynamic_update_slice_in_dim(A, jnp.zeros_like(column), k * m, 1) - rest @ row
        return jax.lax.dynamic_update_slice_in_dim(A, row, k * m, 0)

    return jax.lax.fori_loop(0, len(A) // m, eliminate, A)


def by_steps(level: Level, x: Array) -> tuple[Array, ...]:
    """Values at places, ``(places, ...)``, of each band by steps, ``(steps, cells, ...)``."""
    widths = [band.across.shape[1] for band in level.bands]
    return tuple(jnp.split(x.reshape(-1, sum(widths), *x.shape[1:]), np.cumsum(widths)[:-1], 1))


def at(table: Array, step: Array) -> Array:
    return jax.lax.dynamic_index_in_dim(table, step, 0, keepdims=False)


def placed(x: Array, step: Array, values: list[Array]) -> Array:
    """x with the values of the cells of a step."""
    here = jnp.concatenate(values)
    return jax.lax.dynamic_update_slice(x, here, (step * len(here), *[0] * (x.ndim - 1)))
