"""Sparse LU on the host: SciPy's SuperLU in an order of least degree, called directly, or back from a compiled program.

A factor is the matrix itself; the host remembers the factorisations of the last few matrices it saw (as many as fit in
``HELD`` bytes, the last one always). Rows and columns are scaled by powers of two, small pivots are allowed to keep the
order, and the residual of the first solve is checked: what refinement cannot mend is factored again in COLAMD order with full
pivoting, and as many refinements as it took are made in every later solve. The compact Jacobian, which only preconditions, is
factored in single precision first and not refined: its factors take two thirds of the memory and four fifths of the time, and
GMRES as many directions.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

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
from fluidgrad.linear import ordering
from fluidgrad.linear.jacobian import Datum, Pattern, pinned

PIVOT = 1e-3  # SuperLU leaves the diagonal for a pivot this much smaller: order is kept, and the residual checked
BYTES = {np.float32: 8, np.float64: 12}  # of an entry of the factors: a number and its row
ROUGH = 1e-1  # residual of a solve that preconditions
HELD = 256 * 2**20  # bytes of factorisations the host remembers; the last one always


@dataclass(frozen=True)
class SuperLU:
    """The backend: factoring happens when a solve first asks for it."""

    spread = False

    def __str__(self) -> str:
        return "SuperLU"

    def prefers_compact(self, flow: Flow, may: bool) -> bool:
        return may

    def check(self, p: Pattern) -> None:
        free = host_memory()
        most = 2.0 ** np.ceil(np.log2(2.0 * free))  # what is more is not counted; a power of two, so that all is counted once
        needed = memory(p, most)
        if needed > free:
            taken = f"{'about' if needed < most else 'more than'} {needed / 2**30:.2g} GiB"
            raise OutOfReach(
                f"SuperLU needs {taken} for the {'compact' if p.compact else 'exact'} Jacobian of {p.n_cells} cells, and "
                f"{free / 2**30:.2g} GiB are free",
                accepted='use a coarser mesh, linear = "multigrid", or a machine with more memory',
            )

    def factor(self, p: Pattern, blocks: Array, datum: Datum | None = None) -> Array:
        return blocks if datum is None else pinned(blocks, datum)

    def transposed(self, p: Pattern, factor: Array) -> Array:
        return factor

    def solve(self, p: Pattern, factor: Array, b: Array, transpose: bool, product: Any = None) -> Array:
        solve = partial(_host_solve, p, transpose)
        return _call_back(solve, factor, b) if traced(factor, b) else jnp.asarray(solve(factor, b))


def memory(p: Pattern, most: float = np.inf) -> float:
    """Bytes that a factorisation takes, within a fifth: pivots off the diagonal are known only when it is made. Counted no
    further than to ``most``."""
    block = BYTES[_ways(p)[0].dtype] * p.block**2
    return min(block * p.kept(ordering.entries, most / block), most)


class _Way(NamedTuple):
    """How a matrix is factored, how often a solve may be refined, and what its residual is to be, and may be after that."""

    dtype: Any
    options: dict[str, Any]
    refinements: int
    good: float
    enough: float


def _ways(p: Pattern) -> list[_Way]:
    """In what order they are tried."""
    residual = (ROUGH, ROUGH) if p.compact else (1e-13, 1e-9)
    in_order, pivoting = dict(permc_spec="NATURAL", diag_pivot_thresh=PIVOT), dict(permc_spec="COLAMD")
    exact = [_Way(np.float64, options, 3, *residual) for options in (in_order, pivoting)]
    return [_Way(np.float32, in_order, 0, *residual), *exact] if p.compact else exact


@dataclass(eq=False)
class _Held:
    """A matrix, scaled and permuted, and its factorisation.

    Attributes:
        given: the array of JAX's that it came in, if it did: what does not change and is looked at most often.
        ways: that are left to factor it, the first of them that of ``lu``.
        refinements: that a solve takes, once one was looked at.
    """

    pattern: Pattern
    given: Any
    values: np.ndarray
    matrix: sp.csc_matrix
    rows: np.ndarray
    columns: np.ndarray
    ways: list[_Way]
    lu: spla.SuperLU | None
    refinements: int | None = None

    @property
    def size(self) -> int:
        """Bytes, of the factors alone."""
        return 0 if self.lu is None else BYTES[self.ways[0].dtype] * self.lu.nnz


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
    while held is not None and held.ways:
        x = _solve_held(held, b, transpose)
        if x is not None:
            return x
        held.lu = None  # before the next is made
        del held.ways[0]
        held.lu = _splu(held) if held.ways else None
    return np.full_like(b, np.nan)


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
    order = p.kept(ordering.order)
    data = values.reshape(-1)[order.entry]
    n = len(order.permutation)
    matrix = sp.csc_matrix((data, order.indices, order.indptr), shape=(n, n))
    # Power-of-two scaling, rows then columns: no rounding, and momentum and mass weigh alike.
    size: Any = abs(matrix)
    rows = _power_of_two(size.max(axis=1).toarray().ravel())
    columns = _power_of_two(np.maximum.reduceat(size.data * rows[matrix.indices], matrix.indptr[:-1]))
    matrix.data = matrix.data * rows[matrix.indices] * np.repeat(columns, np.diff(matrix.indptr))
    held = _Held(p, given, values if given is not None else values.copy(), matrix, rows, columns, _ways(p), None)
    held.lu = _splu(held)
    _make_room(held.size)
    _held.append(held)
    return held


def _splu(held: _Held) -> spla.SuperLU | None:
    dtype, options, *_ = held.ways[0]
    symmetric = {"SymmetricMode": True} if options["permc_spec"] == "NATURAL" else {}
    try:
        return spla.splu(held.matrix.astype(dtype, copy=False), options=dict(Equil=False, **symmetric), **options)
    except RuntimeError:  # exactly singular
        return None


def _power_of_two(size: np.ndarray) -> np.ndarray:
    return np.exp2(-np.round(np.log2(np.where(size > 0, size, 1.0))))


def _solve_held(held: _Held, b: np.ndarray, transpose: bool) -> np.ndarray | None:
    """Solve and refine; None where the residual of a first solve stays too large."""
    if (lu := held.lu) is None:
        return None
    (dtype, _, most, good, enough), order = held.ways[0], held.pattern.kept(ordering.order).permutation
    A, trans, before, after = held.matrix, "N", held.rows, held.columns
    if transpose:
        A, trans, before, after = A.T, "T", after, before

    def by_factors(r: np.ndarray) -> np.ndarray:
        size = _power_of_two(np.max(np.abs(r)))  # single precision has no room for numbers of any size
        return lu.solve((r * size).astype(dtype), trans=trans).astype(np.float64) / size

    rhs = b[order] * before[:, None]
    x, size = by_factors(rhs), np.linalg.norm(rhs, axis=0)
    for k in range(most + 1 if held.refinements is None else held.refinements):
        r = rhs - A @ x
        if held.refinements is None:
            worst = np.max(np.linalg.norm(r, axis=0) / np.maximum(size, 1e-300))
            if worst <= good or (k == most and worst <= enough):
                held.refinements = k if size.any() else None
                break
            if k == most:
                return None
        x = x + by_factors(r)
    out = np.empty_like(x)
    out[order] = x * after[:, None]
    return out
