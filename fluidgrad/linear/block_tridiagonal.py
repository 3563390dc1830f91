"""Block-tridiagonal LU in pure JAX: dense blocks along the breadth-first levels of the cell graph.

A level reaches into the one before it and the one after it only, so the Jacobian is block-tridiagonal over the levels and
its LU factorisation a loop over them. Free of callbacks: it runs on a GPU, and lowers for one anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array

from fluidgrad.device import free_memory
from fluidgrad.errors import OutOfReach
from fluidgrad.flow.flow import Flow
from fluidgrad.linear.jacobian import Datum, Pattern, pattern, pinned

KEPT = 3  # factors at a time: the last step's, the one being made, and what it is made in (measured on a GPU: docs/how-to/gpu.md)
ASSEMBLY = 13  # times the sparse blocks' own size, for what assembles them and for the rest of a solve (XLA's own count)


@dataclass(frozen=True)
class BlockTridiagonal:
    """Block LU over breadth-first levels of the graph of the Jacobian, with partial pivoting inside the (dense) blocks. What is
    kept is the inverses of the blocks on the diagonal, (levels) (largest level)^2 numbers: a solve multiplies by them, where
    triangular solves would go row by row. The blocks beside the diagonal are taken from their entries when their level's turn
    comes."""

    spread = False

    def __str__(self) -> str:
        return "block-tridiagonal LU"

    def prefers_compact(self, flow: Flow, may: bool) -> bool:
        return may and memory(pattern(flow)) > free_memory()

    def check(self, p: Pattern) -> None:
        needed, free = memory(p), free_memory()
        if needed > free:
            L, size = p.kept(_levels).shape
            raise OutOfReach(
                f"the block-tridiagonal solver needs {needed / 2**30:.2g} GiB for {p.n_cells} cells in {L} levels of up to "
                f"{size // p.block}, and {jax.local_devices()[0].device_kind} has {free / 2**30:.2g} GiB free",
                accepted='use a coarser mesh, a larger device, or linear = "multigrid" or "superlu"',
            )

    @partial(jax.jit, static_argnums=(0, 1))
    def factor(self, p: Pattern, blocks: Array, datum: Datum | None = None) -> Any:
        levels, blocks = p.kept(_levels), pinned(blocks, datum)
        size = levels.shape[1]

        def eliminate(reach: Array, level: tuple[Array, ...]) -> tuple[Array, Array]:  # reach: S^-1 U of the level before
            entry, place, empty = level
            lower, middle, upper = jax.vmap(partial(_dense, size, blocks))(entry, place)
            inverse = jnp.linalg.inv(middle + jnp.diag(empty) - lower @ reach)
            return inverse @ upper, inverse

        rows = (levels.entry, levels.place, jnp.asarray(levels.empty, blocks.dtype))
        _, inverses = jax.lax.scan(eliminate, jnp.zeros((size, size), blocks.dtype), jax.tree.map(jnp.asarray, rows))
        return inverses, blocks

    def transposed(self, p: Pattern, factor: Any) -> Any:
        return factor

    def solve(self, p: Pattern, factor: Any, b: Array, transpose: bool, product: Any = None) -> Array:
        return self._solve(p, factor, b, transpose)

    @partial(jax.jit, static_argnums=(0, 1, 4))
    def _solve(self, p: Pattern, factor: Any, b: Array, transpose: bool) -> Array:
        inverses, blocks = factor
        levels = p.kept(_levels)
        L, size = levels.shape
        k = b.shape[1]
        rhs = jnp.zeros((L * size, k), b.dtype).at[levels.unknown].set(b).reshape(L, size, k)
        tables = np.stack([levels.entry, levels.place], 1)
        below, above = tables[:, :, 0], tables[:, :, 2]
        if transpose:  # is block-tridiagonal too, with the transposed Schur complements
            below, above = np.roll(above, 1, 0), np.roll(below, -1, 0)  # nothing is below the first, nor above the last

        def beside(table: Array, x: Array) -> Array:
            entry, place = table
            row, column = place // size, place % size
            row, column = (column, row) if transpose else (row, column)
            row = jnp.where(place < size**2, row, size)
            return jnp.zeros_like(x).at[row].add(blocks.reshape(-1)[entry][:, None] * x[column], mode="drop")

        def within(inverse: Array, x: Array) -> Array:
            return (inverse.T if transpose else inverse) @ x

        def down(y: Array, level: tuple[Array, ...]) -> tuple[Array, Array]:
            inverse, lower, b = level
            y = within(inverse, b - beside(lower, y))
            return y, y

        def up(x: Array, level: tuple[Array, ...]) -> tuple[Array, Array]:
            inverse, upper, y = level
            x = y - within(inverse, beside(upper, x))
            return x, x

        zero = jnp.zeros((size, k), b.dtype)
        _, y = jax.lax.scan(down, zero, (inverses, jnp.asarray(below), rhs))
        _, x = jax.lax.scan(up, zero, (inverses, jnp.asarray(above), y), reverse=True)
        return x.reshape(L * size, k)[levels.unknown]


def memory(p: Pattern) -> float:
    """Bytes that a solve and its gradient take, all in all."""
    L, size = p.kept(_levels).shape
    return 8.0 * (KEPT * L * size**2 + ASSEMBLY * len(p.row) * p.block**2)


@dataclass(frozen=True, eq=False)
class _Levels:
    shape: tuple[int, int]  # levels, unknowns in the largest: to this all are padded
    unknown: np.ndarray  # the place of every unknown among the padded levels
    entry: np.ndarray  # (levels, 3, entries): of the blocks, those below, on and above the diagonal in each level's rows
    place: np.ndarray  # of each in its dense block; outside of it for what only fills the table
    empty: np.ndarray  # 1 on padding


def _levels(p: Pattern) -> _Levels:
    graph = sp.csr_matrix((np.ones(len(p.row)), (p.row, p.column)), shape=(p.n_cells, p.n_cells))
    ends = [np.flatnonzero(x <= np.quantile(x, 0.02)) for x in p.topology.nominal_centres.T]
    far = _breadth_first(graph, np.array([0]))
    candidates = [_breadth_first(graph, start) for start in (*ends, np.flatnonzero(far == far.max())[:1])]
    level = min(candidates, key=lambda c: float(np.bincount(c).max()) ** 3 * (c.max() + 1))
    m, count = p.block, np.bincount(level)
    L, size = len(count), int(count.max()) * m
    rank = _counted(level, count)
    unknown = (level[:, None] * size + rank[:, None] * m + np.arange(m)).ravel()
    i, j = np.meshgrid(np.arange(m), np.arange(m), indexing="ij")
    row, column = rank[p.row][:, None, None] * m + i, rank[p.column][:, None, None] * m + j
    block = np.repeat(3 * level[p.row] + level[p.column] - level[p.row] + 1, m * m)
    in_block = np.bincount(block, minlength=3 * L)
    entry, place = np.zeros((3 * L, in_block.max()), int), np.full((3 * L, in_block.max()), size**2)
    slot = _counted(block, in_block)
    entry[block, slot], place[block, slot] = np.arange(len(block)), (row * size + column).ravel()
    empty = np.ones((L, size))
    empty.reshape(-1)[unknown] = 0.0
    return _Levels((L, size), unknown, entry.reshape(L, 3, -1), place.reshape(L, 3, -1), empty)


def _counted(group: np.ndarray, count: np.ndarray) -> np.ndarray:
    """The number of each thing among those of its group."""
    number = np.empty(len(group), int)
    number[np.argsort(group, kind="stable")] = np.arange(len(group)) - np.repeat(np.cumsum(count) - count, count)
    return number


def _dense(size: int, blocks: Array, entry: Array, place: Array) -> Array:
    """One block, of its entries among all ``blocks``."""
    return jnp.zeros(size**2, blocks.dtype).at[place].set(blocks.reshape(-1)[entry], mode="drop").reshape(size, size)


def _breadth_first(graph: Any, start: np.ndarray) -> np.ndarray:
    """The distance of every cell from ``start``, unreached parts following on."""
    level = np.full(graph.shape[0], -1)
    front, depth = start, 0
    while True:
        level[front] = depth
        depth += 1
        reach = np.unique(graph[front].indices)
        front = reach[level[reach] < 0]
        if not len(front):
            left = np.flatnonzero(level < 0)
            if not len(left):
                return level
            front = left[:1]
