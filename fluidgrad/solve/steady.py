"""Steady flow by Newton's method (``newton.py``) and continuation in the viscosity.

An iteration that will not converge starts again from a more viscous flow, and from there the viscosity comes down to the
one asked for in strides that grow on success and shrink on failure (continuation in the Reynolds number). Residuals are
net over gross fluxes (``residual.imbalance``), so a tolerance means the same on every mesh and in every system of units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fluidgrad.errors import InputError, NotConverged
from fluidgrad.flow.flow import Flow, check_flow
from fluidgrad.flow.fluxes import discretize
from fluidgrad.flow.layout import Discrete
from fluidgrad.flow.residual import balance, tangent
from fluidgrad.flow.solution import Solution, SolveReport
from fluidgrad.iteration import Number, numbers, traced, while_loop
from fluidgrad.linear import systems as backends
from fluidgrad.linear.jacobian import pattern
from fluidgrad.mesh.quality import check_valid
from fluidgrad.solve.adjoint import Differentiating, mode, root, root_forward
from fluidgrad.solve.newton import FORCING, Newton, Trial, newton, no_factor, stay

STAGNATED = 1e-11  # where round-off stops the residual above a smaller tolerance, this will do
ACCURACY = 1e-12  # of tangents and adjoints: their linear solves' relative residual
BESIDE = 1e-2  # where solves are to be more exact than that, as for a check: how much more exact their linear ones
STAGES = 16  # of the continuation
FIRST_RATIO = 8.0  # by which viscosity goes up when a stage fails
SMALLEST_STRIDE = 1.05
LARGEST_RATIO = 1e7


@dataclass(frozen=True)
class Steady:
    """The implicit problem R(q; flow) = 0 for ``adjoint.root``: theta is the flow. Static options only."""

    backend: backends.Backend
    compact: bool
    accuracy: float

    def __str__(self) -> str:
        return f"{self.backend} of the {'compact' if self.compact else 'exact'} Jacobian"

    def prepare(self, theta: Flow) -> Discrete:
        return discretize(theta)

    def residual(self, prepared: Discrete, q: Array) -> Array:
        return balance(prepared, q)

    def tangent(self, prepared: Discrete, q: Array) -> Callable[[Array], Array]:
        return tangent(prepared, q)

    def preconditioner(self, flow: Flow, factor: backends.Factored, transpose: bool) -> tuple[Callable[[Array], Array], Array]:
        p = pattern(flow, self.compact)
        if transpose:
            factor = backends.transposed(self.backend, p, factor)
        return lambda b: backends.solve(self.backend, p, factor, b), factor.weight

    def solve(self, flow: Flow, start: tuple[Array, Array]) -> tuple[Array, Array, Any]:
        """Newton's method, by way of more viscous flows where needed. ``start``: a state and the tolerance."""
        if not traced(flow):  # under a derivative these are the first known numbers of a flow that a design makes
            check_valid(flow.mesh.points, flow.mesh.topology)
            check_flow(flow)
        p, d = pattern(flow, self.compact), self.prepare(flow)
        self.backend.check(p)
        q0, tolerance = start[0], numbers(start[1])
        one = np.ones((), q0.dtype)

        def unfinished(s: _Search) -> Array:
            return (s.found > 1.0) & (s.stages < STAGES) & (s.ratio <= LARGEST_RATIO) & (s.stride > SMALLEST_STRIDE)

        def stage(s: _Search) -> _Search:
            n = newton(self.backend, p, replace(d, viscosity=numbers(d.viscosity) * s.ratio), s.best, tolerance)
            return _after(s._replace(factor=None), n._replace(factor=None), tolerance)._replace(factor=n.factor)

        search = _Search(q0, q0, no_factor(self.backend, p, d), one * np.inf, one, one * FIRST_RATIO, one * 0, one * 0, one * 0, one * 0)
        s = while_loop(unfinished, stage, search)
        q = _found(s.found, s.best, s.last)
        return q, _went(s._replace(factor=None), stay(d, q, tolerance), tolerance), s.factor


def implicit_problem(flow: Flow, linear: str, accuracy: float = ACCURACY) -> Steady:
    """The problem that a flow is, with the linear solver of a name."""
    backend = backends.choose(linear, flow)
    return Steady(backend, backend.prefers_compact(flow, linear == "auto"), accuracy)


class _Search(NamedTuple):
    """The continuation: the state of the last Newton iteration, the best state, the factor of the last step, the viscosity
    ratio that the best belongs to (inf: none), the ratio to try next, the stride between ratios, stages, Newton
    steps and products so far, and the relative residual of the last linear system."""

    last: Array
    best: Array
    factor: Any
    found: Number
    ratio: Number
    stride: Number
    stages: Number
    steps: Number
    products: Number
    linear: Number


@jax.jit
def _after(s: _Search, n: Newton, tolerance: Array) -> _Search:
    """The continuation with one more stage."""
    q, residual = n.trial.q, n.trial.residual
    ok = (residual <= tolerance) | (~n.trial.fell & (residual <= STAGNATED))
    found = jnp.where(ok, s.ratio, s.found)
    some = jnp.isfinite(found)
    stride = jnp.where(ok, s.stride**1.5, jnp.where(some, s.stride**0.5, s.stride))
    # Start from rest again, not from where a first try got lost, until some flow has been found.
    best = jnp.where(ok, q, jnp.where(some, s.best, 0.0))
    ratio = jnp.where(some, jnp.maximum(1.0, found / stride), s.ratio * FIRST_RATIO)
    return _Search(q, best, s.factor, found, ratio, stride, s.stages + 1, s.steps + n.steps, s.products + n.products, n.linear)


@jax.jit
def _found(found: Array, best: Array, last: Array) -> Array:
    """The best state, or the last one where there is none."""
    return jnp.where(jnp.isfinite(found), best, last)


@jax.jit
def _went(s: _Search, end: Trial, tolerance: Array) -> Array:
    """The numbers of the report."""
    ok = (s.found == 1.0) & (end.residual <= jnp.maximum(tolerance, STAGNATED))
    return jnp.stack([end.residual, ok.astype(end.q.dtype), s.steps, s.stages, s.found, end.place, s.products, s.linear])


def solve_steady(
    flow: Flow,
    start: Solution | Array | None = None,
    *,
    tolerance: float = 1e-10,
    linear: str = "auto",
    derivative: str | None = None,
) -> Solution:
    """The steady flow: velocities and pressures with R(q; flow) = 0.

    Args:
        flow: what to solve.
        start: a solution (or its ``state``) on a mesh with the same cells to start from; rest if left out. It saves
            steps and never changes the answer beyond the tolerance; nothing is differentiable in it.
        tolerance: of net over gross fluxes.
        linear: "superlu" or "block_tridiagonal", with factors of the exact Jacobian, "multigrid", whose memory grows like the
            number of cells and whose time nearly so, or "auto": what is fastest for so many cells on the device (``linear/systems.py``).
        derivative: "reverse" for ``grad`` and everything made of it, the default; "forward" for ``jvp`` and ``jacfwd``
            (``linearize`` chooses by itself).

    Returns:
        The solution; every derivative of it is that of the converged flow, whatever path led there.

    Raises:
        InputError: a tangled mesh or a number that no flow can have; a mesh with points in float32.
        NotConverged: the residual did not fall below the tolerance. Under ``jit``, where nothing can be raised, the
            state is NaN instead, and so is every gradient.

    A steady solve finds unstable flows as well as stable ones.

    Differentiable in: every leaf of ``flow``, by the implicit function theorem (``adjoint.py``).
    """
    if (dtype := flow.mesh.points.dtype) != jnp.float64:
        given = f"a steady solve of a flow in {dtype}, whose round-off is above the tolerances of solves and their derivatives"
        raise InputError(given, accepted="a mesh with points in float64 (residuals, derivatives and Jacobians are computed in either)")
    how = mode.get() or Differentiating()
    derivative = derivative or how.derivative
    problem = implicit_problem(flow, linear, min(ACCURACY, BESIDE * how.tolerance))
    tolerance = min(tolerance, how.tolerance)
    if derivative not in ("reverse", "forward"):
        raise InputError(f"unknown derivative {derivative!r}", accepted="reverse or forward")
    if isinstance(start, Solution):
        start = start.state
    q0 = jnp.zeros(flow.n_unknowns, flow.mesh.points.dtype) if start is None else start
    if q0.shape != (flow.n_unknowns,):
        raise InputError(f"the start has {q0.shape[0]} unknowns, the flow {flow.n_unknowns}", accepted="a solution on the same cells")
    begin = (jax.lax.stop_gradient(q0), jnp.asarray(tolerance, q0.dtype))
    if derivative == "reverse":
        state, went = root(problem, flow, begin, how.next_probe())  # pyright: ignore[reportGeneralTypeIssues]
    else:
        state, went, _ = root_forward(problem, flow, begin)
    went = jax.lax.stop_gradient(went)
    report = _reported(went, str(problem))
    if known_false(report.converged):
        flow, state = jax.lax.stop_gradient((flow, state))
        raise NotConverged(advice(flow, report), report, Solution(flow, state, report))
    return Solution(flow, _nan_unless(report.converged, state), report)


@partial(jax.jit, static_argnums=1)
def _reported(went: Array, linear: str) -> SolveReport:
    residual, ok, steps, stages, reached, place, products, linear_residual = went
    return SolveReport(ok > 0, residual, steps, stages, reached, place, products, linear_residual, linear)


@jax.jit
def _nan_unless(converged: Array, state: Array) -> Array:
    return jnp.where(converged, state, jnp.nan)


def known_false(x: Array) -> bool:
    """False where the value is not known yet, under ``jit``."""
    try:
        return not bool(x)
    except jax.errors.ConcretizationTypeError:
        return False


def advice(flow: Flow, report: SolveReport) -> str:
    """What a solve that failed should say: how far it came, where it was worst, what to try."""
    x = np.asarray(flow.mesh.topology.nominal_centres[int(report.place)])
    reached = float(report.reached)
    some = f"{reached:.3g} times the viscosity was reached by continuation"
    how_far = some if np.isfinite(reached) else "no more viscous flow converged either"
    near = ", ".join(f"{v:.3g}" for v in x)
    steps = ["a finer mesh (mesh.refine = 2)"]
    if flow.convection and flow.scheme != "upwind":
        steps.append('flow.scheme = "upwind"')
    if flow.convection:
        steps.append("a larger viscosity: the flow that is sought may be unsteady")
    stalled = ""
    if not (left := float(report.linear_residual)) <= FORCING:
        stalled = f" The linear system of the last step was solved to {left:.1e} only, by {report.linear}."
        if report.linear.startswith("multigrid"):
            steps.insert(0, 'solver.linear = "superlu"')
    return (
        f"no convergence: residual {float(report.residual):.1e} after {int(report.iterations)} steps ({how_far}).{stalled} "
        f"Largest residual near ({near}). Try {', or '.join(steps)}."
    )
