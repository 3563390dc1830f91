"""Sparse LU on the host: SciPy's SuperLU in an order of least degree, called directly, or back from a compiled program.

A factor is the matrix itself; the host remembers the factorisations of the last few matrices it saw (as many as fit in
``HELD`` bytes, the last one always). Rows and columns are scaled by powers of two, small pivots are allowed to keep the
order, and the residual of the first solve is checked: what refinement cannot mend is factored again in COLAMD order with full
pivoting, and as many refinements as it took are made in every later solve.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from jaxtyping import Array

from fluidgrad.device import host_memory
from fluidgrad.errors import InputError, OutOfReach
from fluidgrad.flow.flow import Flow
from fluidgrad.iteration import traced
from fluidgrad.solve.jacobian import Pattern

PIVOT = 1e-3  # SuperLU leaves the diagonal for a pivot this much smaller: order is kept, and the residual checked
BYTES = 12  # of an entry of the factors: a number and its row
REFINEMENTS = 3  # at most
HELD = 256 * 2**20  # bytes of factorisations the host remembers; the last one always


@dataclass(frozen=True)
class SuperLU:
    """The backend: factoring happens when a solve first asks for it."""

    def __str__(self) -> str:
        return "SuperLU"

    def prefers_compact(self, flow: Flow) -> bool:
        return True

    def check(self, p: Pattern) -> None:
        free = host_memory()
        most = 2.0 ** np.ceil(np.log2(2.0 * free))  # what is more is not counted; a power of two, so that all is counted once
        needed = memory(p, most)
        if needed > free:
            taken = f"{'about' if needed < most else 'more than'} {needed / 2**30:.2g} GiB"
            raise OutOfReach(
                f"SuperLU needs {taken} for the {'compact' if p.compact else 'exact'} Jacobian of {p.n_cells} cells, and "
                f"{free / 2**30:.2g} GiB are free",
                accepted="use a coarser mesh, or a machine with more memory",
            )

    def factor(self, p: Pattern, blocks: Array) -> Array:
        return blocks

    def solve(self, p: Pattern, factor: Array, b: Array, transpose: bool) -> Array:
        solve = partial(_host_solve, p, transpose)
        return _call_back(solve, factor, b) if traced(factor, b) else jnp.asarray(solve(factor, b))


def memory(p: Pattern, most: float = np.inf) -> float:
    """Bytes that a factorisation takes, within a fifth: pivots off the diagonal are known only when it is made. Counted no
    further than to ``most``."""
    block = BYTES * p.block**2
    return min(block * p.kept(_entries, most / block), most)


@dataclass(frozen=True, eq=False)
class _Order:
    """A symmetric permutation, and the places of the blocks' entries in the permuted matrix by columns."""

    permutation: np.ndarray
    entry: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray


@dataclass(eq=False)
class _Held:
    """A matrix, scaled and permuted, and its factorisation.

    Attributes:
        given: the array of JAX's that it came in, if it did: what does not change and is looked at most often.
        refinements: that a solve takes, once one was looked at.
    """

    pattern: Pattern
    given: Any
    values: np.ndarray
    matrix: sp.csc_matrix
    rows: np.ndarray
    columns: np.ndarray
    lu: spla.SuperLU | None
    refinements: int | None = None

    @property
    def size(self) -> int:
        """Bytes, of the factors alone (an index and a number an entry)."""
        return 0 if self.lu is None else BYTES * self.lu.nnz


_held: list[_Held] = []  # the last used one last
# XLA runs callbacks on threads of its own, but SciPy gives the memory of a factorisation back only on the thread that
# made it: all of them are made, used and dropped on this one.
_host = ThreadPoolExecutor(max_workers=1, thread_name_prefix="superlu")


def _call_back(solve: Callable[[Any, Any], np.ndarray], factor: Array, b: Array) -> Array:
    """The solve as part of a program that is being traced.

    XLA runs a callback on a thread of its pool. ``pure_callback`` makes JAX arrays of the arguments, whose copying may wait
    for another thread of that pool: where the process has one core there is none, and nothing ever goes on
    (https://github.com/jax-ml/jax/issues/24255). ``buffer_callback`` hands over the program's own memory, and waits for
    nothing.

    Raises:
        InputError: a JAX without ``buffer_callback``, on one core.
    """
    out = jax.ShapeDtypeStruct(b.shape, b.dtype)
    try:
        from jax.experimental.buffer_callback import buffer_callback
    except ImportError:
        buffer_callback = None
    if buffer_callback is None and _threads() < 2:
        raise InputError(
            f"JAX {jax.__version__} cannot call SuperLU from jax.jit or jax.vmap where a process has one core",
            accepted='solve outside of them, use linear = "block_tridiagonal", or set NPROC=2 in the environment',
        )
    if buffer_callback is None or jax.default_backend() != "cpu":  # a GPU's memory is not the host's
        return jax.pure_callback(solve, out, factor, b, vmap_method="sequential")

    def fill(_: Any, x: Any, *arguments: Any) -> None:
        np.asarray(x)[...] = solve(*arguments)

    return buffer_callback(fill, out, vmap_method="sequential")(factor, b)


def _threads() -> int:
    """Of XLA's pool: NPROC, or the cores that this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(os.environ.get("NPROC") or cores)


def _host_solve(p: Pattern, transpose: bool, blocks: Any, b: Any) -> np.ndarray:
    given = blocks if isinstance(blocks, jax.Array) else None
    values, b = np.asarray(blocks), np.asarray(b)  # NumPy only from here: a JAX call inside a callback can deadlock
    return _host.submit(_solve_on_host, p, transpose, given, values, b).result()


def _solve_on_host(p: Pattern, transpose: bool, given: Any, values: np.ndarray, b: np.ndarray) -> np.ndarray:
    held = _factorisation(p, values, given) if np.isfinite(b).all() else None
    x = None if held is None else _solve_held(held, p, b, transpose)
    if held is not None and x is None:
        held.lu = None  # before the next is made
        held.lu = _splu(held.matrix, permc_spec="COLAMD")
        x = _solve_held(held, p, b, transpose)
    return np.full_like(b, np.nan) if x is None else x


def _make_room(size: int) -> None:
    while _held and sum(h.size for h in _held) + size > HELD:
        del _held[0]


def _factorisation(p: Pattern, values: np.ndarray, given: Any = None) -> _Held | None:
    """The matrix, factored; None where it is not finite."""
    same = (h for h in reversed(_held) if h.pattern is p and ((given is not None and h.given is given) or np.array_equal(h.values, values)))
    if (held := next(same, None)) is not None:
        held.given = given
        _held.append(_held.pop(_held.index(held)))
        return held
    del same  # what it looked at last must be free to go
    if not np.isfinite(values).all():
        return None
    _make_room(max((h.size for h in _held if h.pattern is p), default=0))
    order = p.kept(_order)
    data = values.reshape(-1)[order.entry]
    n = len(order.permutation)
    matrix = sp.csc_matrix((data, order.indices, order.indptr), shape=(n, n))
    # Power-of-two scaling, rows then columns: no rounding, and momentum and mass weigh alike.
    size: Any = abs(matrix)
    rows = _power_of_two(size.max(axis=1).toarray().ravel())
    columns = _power_of_two(np.maximum.reduceat(size.data * rows[matrix.indices], matrix.indptr[:-1]))
    matrix.data = matrix.data * rows[matrix.indices] * np.repeat(columns, np.diff(matrix.indptr))
    held = _Held(p, given, values if given is not None else values.copy(), matrix, rows, columns, _splu(matrix, permc_spec="NATURAL", diag_pivot_thresh=PIVOT))
    _make_room(held.size)
    _held.append(held)
    return held


def _splu(matrix: sp.csc_matrix, **options: Any) -> spla.SuperLU | None:
    symmetric = {"SymmetricMode": True} if options["permc_spec"] == "NATURAL" else {}
    try:
        return spla.splu(matrix, options=dict(Equil=False, **symmetric), **options)
    except RuntimeError:  # exactly singular
        return None


def _power_of_two(size: np.ndarray) -> np.ndarray:
    return np.exp2(-np.round(np.log2(np.where(size > 0, size, 1.0))))


def _solve_held(held: _Held, p: Pattern, b: np.ndarray, transpose: bool, tolerance: float = 1e-9) -> np.ndarray | None:
    """Solve and refine; None where the residual of a first solve stays above ``tolerance``."""
    if (lu := held.lu) is None:
        return None
    order = p.kept(_order).permutation
    before, after = (held.columns, held.rows) if transpose else (held.rows, held.columns)
    rhs = b[order] * before[:, None]
    A, trans = (held.matrix.T, "T") if transpose else (held.matrix, "N")
    x, size = lu.solve(rhs, trans=trans), np.linalg.norm(rhs, axis=0)
    for k in range(REFINEMENTS + 1 if held.refinements is None else held.refinements):
        r = rhs - A @ x
        if held.refinements is None:
            worst = np.max(np.linalg.norm(r, axis=0) / np.where(size > 0, size, 1.0))
            if worst <= tolerance * 1e-4 or (k == REFINEMENTS and worst <= tolerance):
                held.refinements = k if size.any() else None
                break
            if not k < REFINEMENTS:
                return None
        x = x + lu.solve(r, trans=trans)
    out = np.empty_like(x)
    out[order] = x * after[:, None]
    return out


def _order(p: Pattern) -> _Order:
    cells = p.kept(least_degree)
    m = p.block
    permutation = (cells[:, None] * m + np.arange(m)).ravel()
    place = np.argsort(cells)
    i, j = np.meshgrid(np.arange(m), np.arange(m), indexing="ij")
    rows = (place[p.row][:, None, None] * m + i).ravel()
    columns = (place[p.column][:, None, None] * m + j).ravel()
    entry = np.lexsort([rows, columns])
    indptr = np.searchsorted(columns[entry], np.arange(p.n_cells * m + 1))
    return _Order(permutation, entry, rows[entry].astype(np.int32), indptr.astype(np.int32))


def least_degree(p: Pattern) -> np.ndarray:
    """An elimination order of the cells: SuperLU's own, multiple minimum degree (Liu 1985), for the graph of the cells instead of
    that of the unknowns. It gives it with a factorisation; the incomplete one that drops everything takes no time."""
    graph = sp.csc_matrix((np.where(p.row == p.column, len(p.row), 1.0), (p.row, p.column)), shape=(p.n_cells,) * 2)
    options = {"SymmetricMode": True}
    return np.argsort(spla.spilu(graph + graph.T, drop_tol=1.0, fill_factor=1, permc_spec="MMD_AT_PLUS_A", options=options).perm_c)


def _entries(p: Pattern, most: float) -> float:
    """Blocks in both LU factors, no pivot off the diagonal, or the first number above ``most``: below its diagonal a column has what
    the matrix has there, and what is left of the columns whose first block was in its row (George & Liu 1981)."""
    place = np.argsort(p.kept(least_degree))
    column, row = place[p.column], place[p.row]
    order = np.lexsort([row, column])
    start, row = np.searchsorted(column[order], np.arange(p.n_cells + 1)).tolist(), row[order].tolist()
    left: list[set[int]] = [set() for _ in range(p.n_cells)]
    entries = float(p.n_cells)
    for k in range(p.n_cells):
        below = left[k].union(i for i in row[start[k] : start[k + 1]] if i > k)
        below.discard(k)
        left[k] = set()
        entries += 2 * len(below)
        if entries > most:
            break
        if below:
            left[min(below)] |= below
    return entries
