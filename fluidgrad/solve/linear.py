"""Linear solves with the Jacobian: factor once, solve, solve transposed.

Two direct backends with the same answers:

:class:`~fluidgrad.solve.superlu.SuperLU`
    SciPy's sparse LU on the host, through a pure callback, in nested-dissection order. The CPU default.
:class:`BlockTridiagonal`
    Dense LU along breadth-first levels of the cell graph, pure JAX and free of callbacks. The default elsewhere: it
    runs on a GPU and lowers for one anywhere.

A *factor* is an array pytree that can be passed through ``jit`` and kept. SuperLU's is the matrix itself: the host
remembers the factorisations of the last few matrices it saw, so solving twice with one matrix factors it once, and a
solve stays a pure function of matrix and right-hand side.

A factor that belongs to a nearby matrix (the last Newton iterate's) is corrected by GMRES (``iteration.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float

from fluidgrad.errors import InputError, OutOfReach
from fluidgrad.flow.residual import Jacobian, Pattern
from fluidgrad.solve.superlu import SuperLU

BLOCK_MEMORY = 24 * 2**30  # bytes the dense blocks may take


class Backend(Protocol):
    """A direct solver of the cell-to-cell part of the Jacobian, ``blocks`` on a ``Pattern``."""

    def factor(self, p: Pattern, blocks: Array) -> Any: ...

    def solve(self, p: Pattern, factor: Any, b: Float[Array, "unknowns k"], transpose: bool) -> Array: ...


def choose(name: str) -> Backend:
    """The backend of a name; "auto" is SuperLU on a CPU and block-tridiagonal elsewhere."""
    if name == "auto":
        name = "superlu" if jax.default_backend() == "cpu" else "block_tridiagonal"
    if name not in BACKENDS:
        raise InputError(f"unknown linear backend {name!r}", accepted=f"one of auto, {', '.join(BACKENDS)}")
    return BACKENDS[name]()


@partial(jax.jit, static_argnums=(0, 1))
def factor(backend: Backend, p: Pattern, J: Jacobian) -> tuple[Any, Jacobian]:
    """Factor a Jacobian. Borders are eliminated when solving, so that one backend serves open and closed domains; the
    cell-to-cell part of a closed domain is singular by a constant pressure, and one diagonal entry is raised for it."""
    blocks = J.blocks.at[_pin(p)].add(_pin_size(p, J)) if J.corner.size else J.blocks
    return backend.factor(p, blocks), J


@partial(jax.jit, static_argnums=(0, 1, 4))
def solve(backend: Backend, p: Pattern, factored: tuple[Any, Jacobian], b: Array, transpose: bool = False) -> Array:
    """x with J x = b, or J^T x = b, for flat vectors."""
    F, J = factored
    k = J.corner.shape[0]
    n = b.shape[0] - k
    if k == 0:
        return backend.solve(p, F, b[:, None], transpose)[:, 0]
    # J = [[A, B], [C, D]] with A = A' - pin e e^T; unknowns x, y and z = e^T x: all solves are with A'.
    B, C, D = (J.rows.T, J.columns.T, J.corner.T) if transpose else (J.columns, J.rows, J.corner)
    e = _pin_unknown(p)
    unit = jnp.zeros((n, 1), b.dtype).at[e, 0].set(_pin_size(p, J))
    X = backend.solve(p, F, jnp.concatenate([b[:n, None], B, unit], 1), transpose)
    x, X_B, X_e = X[:, 0], X[:, 1:-1], X[:, -1]
    small = jnp.block([[D - C @ X_B, (C @ X_e)[:, None]], [-X_B[e][None], X_e[e][None, None] - 1.0]])
    y = jnp.linalg.solve(small, jnp.concatenate([b[n:] - C @ x, -x[e][None]]))
    return jnp.concatenate([x - X_B @ y[:-1] + X_e * y[-1], y[:-1]])


def _pin_unknown(p: Pattern) -> int:
    return p.block - 1


def _pin(p: Pattern) -> tuple[int, int, int]:
    first = int(np.flatnonzero((p.row == 0) & (p.column == 0))[0])
    return first, p.block - 1, p.block - 1


def _pin_size(p: Pattern, J: Jacobian) -> Array:
    return jnp.abs(J.blocks[_pin(p)])


# ---- block-tridiagonal, in JAX


@dataclass(frozen=True)
class BlockTridiagonal:
    """Block LU over breadth-first levels of the graph of the Jacobian, with partial pivoting inside the (dense) blocks
    and one refinement. Exact; memory 3 (levels) (largest level)^2 numbers, predicted and refused if too large."""

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


BACKENDS = {"superlu": SuperLU, "block_tridiagonal": BlockTridiagonal}


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
