"""Block-tridiagonal LU in pure JAX: dense blocks along the breadth-first levels of the cell graph.

A level reaches into the one before it and the one after it only, so the Jacobian is block-tridiagonal over the levels and
its LU factorisation a loop over them. Free of callbacks: it runs on a GPU, and lowers for one anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array

from fluidgrad.errors import OutOfReach
from fluidgrad.flow.residual import Pattern

BLOCK_MEMORY = 24 * 2**30  # bytes the dense blocks may take


@dataclass(frozen=True)
class BlockTridiagonal:
    """Block LU over breadth-first levels of the graph of the Jacobian, with partial pivoting inside the (dense) blocks
    and one refinement. Exact; memory 3 (levels) (largest level)^2 numbers, predicted and refused if too large."""

    @partial(jax.jit, static_argnums=(0, 1))
    def factor(self, p: Pattern, blocks: Array) -> Any:
        levels = _levels(p)
        L, s = levels.shape
        dense = jnp.zeros(L * 3 * s * s, blocks.dtype).at[levels.target].set(blocks.reshape(-1)).reshape(L, 3, s, s)
        empty = jnp.asarray(levels.empty, blocks.dtype)
        below, diagonal, above = dense[:, 0], dense[:, 1] + jax.vmap(jnp.diag)(empty), dense[:, 2]

        def eliminate(reach: Array, level: tuple[Array, Array, Array]) -> Any:
            lower, middle, upper = level
            lu, _, permutation = jax.lax.linalg.lu(middle - lower @ reach)  # reach: S^-1 U of the level before
            return _lu_solve(lu, permutation, upper, False), (lu, permutation)

        _, (lu, permutation) = jax.lax.scan(eliminate, jnp.zeros((s, s), blocks.dtype), (below, diagonal, above))
        return lu, permutation, below, above, blocks

    @partial(jax.jit, static_argnums=(0, 1, 4))
    def solve(self, p: Pattern, factor: Any, b: Array, transpose: bool) -> Array:
        x = self._once(p, factor, b, transpose)
        return x + self._once(p, factor, b - _multiply(p, factor[-1], x, transpose), transpose)

    def _once(self, p: Pattern, factor: Any, b: Array, transpose: bool) -> Array:
        lu, permutation, below, above, _ = factor
        levels = _levels(p)
        L, s = levels.shape
        k = b.shape[1]
        rhs = jnp.zeros((L * s, k), b.dtype).at[levels.place].set(b).reshape(L, s, k)
        if transpose:  # the transpose is block-tridiagonal too, with the transposed Schur complements
            below, above = (
                jnp.concatenate([jnp.zeros_like(above[:1]), jnp.swapaxes(above[:-1], 1, 2)]),
                jnp.concatenate([jnp.swapaxes(below[1:], 1, 2), jnp.zeros_like(below[:1])]),
            )

        def down(y: Array, level: tuple[Array, ...]) -> tuple[Array, Array]:
            lu, permutation, lower, b = level
            y = _lu_solve(lu, permutation, b - lower @ y, transpose)
            return y, y

        def up(x: Array, level: tuple[Array, ...]) -> tuple[Array, Array]:
            lu, permutation, upper, y = level
            x = y - _lu_solve(lu, permutation, upper @ x, transpose)
            return x, x

        zero = jnp.zeros((s, k), b.dtype)
        _, y = jax.lax.scan(down, zero, (lu, permutation, below, rhs))
        _, x = jax.lax.scan(up, zero, (lu, permutation, above, y), reverse=True)
        return x.reshape(L * s, k)[levels.place]


@dataclass(frozen=True, eq=False)
class _Levels:
    shape: tuple[int, int]
    place: np.ndarray  # of every unknown among the padded levels
    target: np.ndarray  # of every entry of the blocks among the padded dense blocks
    empty: np.ndarray  # 1 on padding


@lru_cache(maxsize=16)
def _levels(p: Pattern) -> _Levels:
    graph = sp.csr_matrix((np.ones(len(p.row)), (p.row, p.column)), shape=(p.n_cells, p.n_cells))
    ends = [np.flatnonzero(p.centres[:, a] <= np.quantile(p.centres[:, a], 0.02)) for a in range(p.centres.shape[1])]
    far = _breadth_first(graph, np.array([0]))
    candidates = [_breadth_first(graph, start) for start in (*ends, np.flatnonzero(far == far.max())[:1])]
    level = min(candidates, key=lambda c: float(np.bincount(c).max()) ** 3 * (c.max() + 1))
    m, count = p.block, np.bincount(level)
    L, s = len(count), int(count.max()) * p.block
    if 3 * L * s * s * 8 > BLOCK_MEMORY:
        raise OutOfReach(
            f"the block-tridiagonal backend would need {3 * L * s * s * 8 / 2**30:.0f} GiB for {p.n_cells} cells",
            accepted=f'at most {BLOCK_MEMORY / 2**30:.0f} GiB: use a coarser mesh or linear = "superlu"',
        )
    rank = np.empty(p.n_cells, int)
    order = np.argsort(level, kind="stable")
    rank[order] = np.arange(p.n_cells) - np.repeat(np.append(0, np.cumsum(count)[:-1]), count)
    place = (level[:, None] * s + rank[:, None] * m + np.arange(m)).ravel()
    i, j = np.meshgrid(np.arange(m), np.arange(m), indexing="ij")
    step = level[p.column] - level[p.row] + 1
    row, column = rank[p.row][:, None, None] * m + i, rank[p.column][:, None, None] * m + j
    target = ((level[p.row] * 3 + step)[:, None, None] * s + row) * s + column
    empty = np.ones((L, s))
    empty.reshape(-1)[place] = 0.0
    return _Levels((L, s), place, target.ravel(), empty)


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
