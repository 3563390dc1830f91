"""Multigrid for problems with one unknown a cell, as that of a pressure: conjugate gradients with a cycle over ever larger aggregates.

The operator is what two-point fluxes and given values at the boundary make of a mesh,

    (A p)_P = sum over the faces of P of k_f (p_P - p_N)  +  b_P p_P,        k > 0, b >= 0,

symmetric, and singular by a constant where no b is positive. A level joins its cells in *aggregates* of about four along their
strongest couplings, which follow layers that are stretched. Values are constant over an aggregate and the fluxes out of it are
summed, so A keeps its form on every level. A constant says too little of a smooth error: fluxes between aggregates come out twice
as large as those of larger cells would be, and are divided by ``OVER`` (Braess 1995). A level is visited twice (W-cycle); its
errors that vary from cell to cell are taken by a Chebyshev polynomial of D^-1 A, whose eigenvalues are between 0 and 2 on any mesh
(Adams et al. 2003). So the cycle is symmetric, sweeps in no order and calls nothing back: one program, on any device. It runs in
single precision and only preconditions: residuals, and with them the answer, are of the precision given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from fluidgrad.linear.aggregation import coarsened, merged
from fluidgrad.linear.krylov import conjugate_gradients
from fluidgrad.mesh.mesh import rows
from fluidgrad.mesh.topology import ragged
from fluidgrad.programs import on_device
from fluidgrad.solve.adjoint import solve_symmetric

PASSES = 2  # by each of which aggregates are joined in pairs
OVER = 1.6  # by which fluxes between aggregates are too large
VISITS = 2  # to each level but the last, from the one before
DEGREE = 4  # of the polynomial that smooths
SMOOTHED = 0.08  # of the spectrum of D^-1 A, from 2 down to here: what it smooths
MOST = 100  # products


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["across", "edge", "aggregate", "next_edge"],
    meta_fields=["next_cells", "next_edges"],
)
@dataclass(frozen=True)
class Level:
    """The couplings of a level, and what becomes of them on the next: tables, for programs.

    Attributes:
        across: the cell at the other end of each coupling of a cell, ``(cells, k)``, itself in padding.
        edge: the number of the coupling, ``(cells, k)``, in padding how many there are.
        aggregate: the cell of the next level that a cell is a part of, ``(cells,)``.
        next_edge: the coupling of the next level that a coupling is a part of, ``(edges,)``; how many there are, if it is inside.
        next_cells, next_edges: their numbers; static, 0 on the last level.
    """

    across: Int[Array, "cells k"]
    edge: Int[Array, "cells k"]
    aggregate: Int[Array, " cells"]
    next_edge: Int[Array, " edges"]
    next_cells: int
    next_edges: int


def levels_of(P: Any, N: Any, couplings: Any, n: int) -> tuple[Level, ...]:
    """The levels of n cells, finest first. Of numbers that are known; a mesh whose points then move keeps its levels.

    Args:
        P, N: the cells at both ends of each coupling, ``(edges,)``.
        couplings: how strong it is, positive, ``(edges,)``.
        n: how many cells there are.
    """
    P, N = np.asarray(P), np.asarray(N)
    graph, place = merged(P, N, np.asarray(couplings), np.arange(n), n)  # a periodic layer couples a cell to itself
    steps, levels = list(coarsened(graph, PASSES)), []
    for step, coarse in zip(steps, [*steps[1:], None], strict=True):
        n, edges = step.graph.n, np.arange(len(P))
        across = ragged(np.concatenate([P, N]), n, np.concatenate([N, P]), None)
        edge = ragged(np.concatenate([P, N]), n, np.concatenate([edges, edges]), len(P))
        aggregate, next_edge, next_cells, next_edges = np.zeros(n, int), np.zeros(len(P), int), 0, 0
        if coarse is not None:
            P, N, next_cells, next_edges = coarse.graph.P, coarse.graph.N, coarse.graph.n, len(coarse.graph.P)
            aggregate, next_edge, place = step.aggregate, np.append(step.coupling, next_edges)[place], np.arange(next_edges)
        tables = (on_device(table) for table in (across, edge, aggregate, next_edge))
        levels.append(Level(*tables, next_cells, next_edges))  # pyright: ignore[reportCallIssue]
    return tuple(levels)


class Operator(NamedTuple):
    """A on a level: off its diagonal, ``(cells, k)`` in the order of the cells' couplings, with the sign changed, and on it,
    ``(cells,)``."""

    off: Array
    diagonal: Array

    def times(self, level: Level, p: Array) -> Array:
        """A p."""
        return self.diagonal * p - jnp.sum(self.off * rows(p, level.across), 1)


def operator(level: Level, k: Array, b: Array) -> Operator:
    """A of the couplings, ``(edges,)``, and of what is added on its diagonal, ``(cells,)``."""
    off = rows(jnp.append(k, jnp.zeros(1, k.dtype)), level.edge)
    return Operator(off, b + off.sum(1))


def operators(levels: tuple[Level, ...], k: Array, b: Array) -> tuple[Operator, ...]:
    """A on each level, from what it is on the first."""
    found = []
    for level in levels:
        found.append(operator(level, k, b))
        if level.next_cells:
            k = jax.ops.segment_sum(k, level.next_edge, level.next_edges + 1)[:-1] / OVER
            b = jax.ops.segment_sum(b, level.aggregate, level.next_cells) / OVER
    return tuple(found)


@jax.jit
def pressure(levels: tuple[Level, ...], k: Array, b: Array, rhs: Array, tolerance: float = 1e-10) -> tuple[Array, Array, Array]:
    """p with A p = rhs. Where no b is positive a constant may be added to p: its mean is zero, and that of ``rhs`` is left out.

    Args:
        levels: of the mesh (:func:`levels_of`).
        k: couplings of the interior faces, positive, ``(interior,)``.
        b: what given values add, ``(cells,)``.
        rhs: ``(cells,)``.
        tolerance: of the relative residual.

    Returns:
        p, ``(cells,)``, the relative residual and the number of products. p is NaN where the residual did not fall below ten times
        the tolerance.

    Differentiable in ``k``, ``b`` and ``rhs``, in either mode and to any order (``adjoint.py``).
    """
    finest, closed = levels[0], ~jnp.any(b > 0)

    def times(p: Array) -> Array:
        A = operator(finest, k, b)
        return A.times(finest, p) + jnp.where(closed, jnp.mean(A.diagonal) * jnp.mean(p), 0.0)

    def solve(matvec: Callable[[Array], Array], rhs: Array) -> tuple[Array, tuple[Array, Array]]:
        rough = operators(levels, k.astype(jnp.float32), b.astype(jnp.float32))
        inverse = _inverse(levels[-1], rough[-1], closed)

        def precondition(r: Array) -> Array:
            z = cycle(levels, rough, inverse, r - jnp.where(closed, jnp.mean(r), 0.0))
            return z + jnp.where(closed, jnp.mean(r) / jnp.mean(rough[0].diagonal) - jnp.mean(z), 0.0)

        p, residual, products = conjugate_gradients(matvec, precondition, rhs, tolerance, MOST)
        return jnp.where(residual <= 10 * tolerance, p, jnp.nan), (residual, products)

    p, (residual, products) = solve_symmetric(times, jnp.where(closed, rhs - jnp.mean(rhs), rhs), solve)
    return p, residual, products


def _inverse(level: Level, A: Operator, closed: Array) -> Array:
    """Of the last level, dense."""
    n = len(A.diagonal)
    dense = jnp.diag(A.diagonal).at[jnp.arange(n)[:, None], level.across].add(-A.off)
    return jnp.linalg.inv(dense + jnp.where(closed, jnp.mean(A.diagonal) / n, 0.0))


def cycle(levels: tuple[Level, ...], A: tuple[Operator, ...], inverse: Array, r: Array) -> Array:
    """Nearly A^-1 r: linear in r, symmetric, of single precision inside."""
    return _visit(levels, A, inverse, r.astype(A[0].diagonal.dtype)).astype(r.dtype)


def _visit(levels: tuple[Level, ...], A: tuple[Operator, ...], inverse: Array, r: Array) -> Array:
    """What a level makes of a residual."""
    level, here = levels[0], A[0]
    if not level.next_cells:
        return inverse @ r
    x = _smoothed(level, here, jnp.zeros_like(r), r)
    coarse = jax.ops.segment_sum(r - here.times(level, x), level.aggregate, level.next_cells)

    def again(_: int, e: Array) -> Array:  # a loop, so that each level is in the program once
        return e + _visit(levels[1:], A[1:], inverse, coarse - A[1].times(levels[1], e))

    e = jax.lax.fori_loop(0, VISITS if levels[1].next_cells else 1, again, jnp.zeros_like(coarse))
    return _smoothed(level, here, x + rows(e, level.aggregate), r)


def _smoothed(level: Level, A: Operator, x: Array, b: Array) -> Array:
    """x with the errors taken out of it that vary from cell to cell: Chebyshev's iteration for A x = b, preconditioned by the
    diagonal, on the upper part of its spectrum (Saad, Iterative Methods, algorithm 12.1)."""
    middle, half = 1.0 + SMOOTHED, 1.0 - SMOOTHED  # of the interval from 2 SMOOTHED to 2
    rho = half / middle
    r = b - A.times(level, x)
    step = r / (middle * A.diagonal)
    for _ in range(DEGREE - 1):
        x = x + step
        r = r - A.times(level, step)
        rho, before = 1.0 / (2.0 * middle / half - rho), rho
        step = rho * before * step + (2.0 * rho / half) * r / A.diagonal
    return x + step
