"""Block-tridiagonal LU in pure JAX: dense blocks along the breadth-first levels of the cell graph.

A level reaches into the one before it and the one after it only, so the Jacobian is block-tridiagonal over the levels and
its LU factorisation a loop over them. Free of callbacks: it runs on a GPU, and lowers for one anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array

from fluidgrad.errors import OutOfReach
from fluidgrad.solve.jacobian import Pattern

KEPT = 2  # factors at a time: the last step's, while the next is made
ASSEMBLY = 13  # times the sparse blocks' own size, for what assembles them and for the rest of a solve (XLA's own count)


@dataclass(frozen=True)
class BlockTridiagonal:
    """Block LU over breadth-first levels of the graph of the Jacobian, with partial pivoting inside the (dense) blocks
    and one refinement. Exact. What is kept is the LU of the blocks on the diagonal, (levels) (largest level)^2 numbers;
    the blocks beside it are made from their entries when their level's turn comes."""

    def check(self, p: Pattern) -> None:
        needed, free = memory(p), free_memory()
        if needed > free:
            L, size = p.kept(_levels).shape
            raise OutOfReach(
                f"the block-tridiagonal solver needs {needed / 2**30:.2g} GiB for {p.n_cells} cells in {L} levels of up to "
                f"{size // p.block}, and {jax.local_devices()[0].device_kind} has {free / 2**30:.2g} GiB free",
                accepted='use a coarser mesh, a larger device, or linear = "superlu"',
            )

    @partial(jax.jit, static_argnums=(0, 1))
    def factor(self, p: Pattern, blocks: Array) -> Any:
        levels = p.kept(_levels)
        size = levels.shape[1]

        def eliminate(reach: Array, level: tuple[Array, ...]) -> Any:  # reach: S^-1 U of the level before
            entry, place, empty = level
            lower, middle, upper = jax.vmap(partial(_dense, size, blocks))(entry, place)
            lu, _, permutation = jax.lax.linalg.lu(middle + jnp.diag(empty) - lower @ reach)
            return _lu_solve(lu, permutation, upper, False), (lu, permutation)

        rows = (levels.entry, levels.place, jnp.asarray(levels.empty, blocks.dtype))
        _, (lu, permutation) = jax.lax.scan(eliminate, jnp.zeros((size, size), blocks.dtype), jax.tree.map(jnp.asarray, rows))
        return lu, permutation, blocks

    @partial(jax.jit, static_argnums=(0, 1, 4))
    def solve(self, p: Pattern, factor: Any, b: Array, transpose: bool) -> Array:
        x = self._once(p, factor, b, transpose)
        return x + self._once(p, factor, b - _multiply(p, factor[-1], x, transpose), transpose)

    def _once(self, p: Pattern, factor: Any, b: Array, transpose: bool) -> Array:
        lu, permutation, blocks = factor
        levels = p.kept(_levels)
        L, size = levels.shape
        k = b.shape[1]
        rhs = jnp.zeros((L * size, k), b.dtype).at[levels.unknown].set(b).reshape(L, size, k)
        tables = np.stack([levels.entry, levels.place], 1)
        below, above = tables[:, :, 0], tables[:, :, 2]
        if transpose:  # is block-tridiagonal too, with the transposed Schur complements
            below, above = np.roll(above, 1, 0), np.roll(below, -1, 0)  # nothing is below the first, nor above the last

        def product(table: Array, x: Array) -> Array:
            block = _dense(size, blocks, *table)
            return (block.T if transpose else block) @ x

        def down(y: Array, level: tuple[Array, ...]) -> tuple[Array, Array]:
            lu, permutation, lower, b = level
            y = _lu_solve(lu, permutation, b - product(lower, y), transpose)
            return y, y

        def up(x: Array, level: tuple[Array, ...]) -> tuple[Array, Array]:
            lu, permutation, upper, y = level
            x = y - _lu_solve(lu, permutation, product(upper, x), transpose)
            return x, x

        zero = jnp.zeros((size, k), b.dtype)
        _, y = jax.lax.scan(down, zero, (lu, permutation, jnp.asarray(below), rhs))
        _, x = jax.lax.scan(up, zero, (lu, permutation, jnp.asarray(above), y), reverse=True)
        return x.reshape(L * size, k)[levels.unknown]


def memory(p: Pattern) -> float:
    """Bytes that a solve and its gradient take, all in all."""
    L, size = p.kept(_levels).shape
    return 8.0 * (KEPT * L * size**2 + ASSEMBLY * len(p.row) * p.block**2)


def free_memory() -> float:
    """Bytes that JAX may still take on its device, which is the host itself without another; infinite where nobody says."""
    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    try:
        told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return 1024.0 * int(told["MemAvailable"].split()[0]) if device.platform == "cpu" else np.inf
    except (OSError, KeyError, ValueError):
        return np.inf


@dataclass(frozen=True, eq=False)
class _Levels:
    shape: tuple[int, int]  # levels, unknowns in the largest: to this all are padded
    unknown: np.ndarray  # the place of every unknown among the padded levels
    entry: np.ndarray  # (levels, 3, entries): of the blocks, those below, on and above the diagonal in each level's rows
    place: np.ndarray  # of each in its dense block; outside of it for what only fills the table
    empty: np.ndarray  # 1 on padding


def _levels(p: Pattern) -> _Levels:
    graph = sp.csr_matrix((np.ones(len(p.row)), (p.row, p.column)), shape=(p.n_cells, p.n_cells))
    ends = [np.flatnonzero(p.centres[:, a] <= np.quantile(p.centres[:, a], 0.02)) for a in range(p.centres.shape[1])]
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


def _lu_solve(lu: Array, permutation: Array, b: Array, transpose: bool) -> Array:
    triangular = partial(jax.lax.linalg.triangular_solve, left_side=True)
    if not transpose:
        y = triangular(lu, b[permutation], lower=True, unit_diagonal=True)
        return triangular(lu, y, lower=False)
    y = triangular(lu, b, lower=False, transpose_a=True)
    y = triangular(lu, y, lower=True, unit_diagonal=True, transpose_a=True)
    return jnp.zeros_like(y).at[permutation].set(y)


def _multiply(p: Pattern, blocks: Array, x: Array, transpose: bool) -> Array:
    row, column = (p.column, p.row) if transpose else (p.row, p.column)
    blocks = jnp.swapaxes(blocks, 1, 2) if transpose else blocks
    parts = jnp.einsum("bij,bjk->bik", blocks, x.reshape(p.n_cells, p.block, -1)[column])
    return jnp.zeros((p.n_cells, *parts.shape[1:]), x.dtype).at[row].add(parts).reshape(x.shape)
