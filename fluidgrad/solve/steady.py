"""Steady flow by Newton's method with the exact Jacobian.

Steps are damped until the residual falls; near the solution the last factorisation serves on, corrected by GMRES. An
iteration that will not converge starts again from a more viscous flow, and from there the viscosity comes down to the
one asked for in strides that grow on success and shrink on failure (continuation in the Reynolds number). Residuals are
net over gross fluxes (``residual.imbalance``), so a tolerance means the same on every mesh and in every system of units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fluidgrad.errors import InputError, NotConverged
from fluidgrad.flow.flow import Flow, check_flow
from fluidgrad.flow.fluxes import Discrete, discretize
from fluidgrad.flow.residual import imbalance, residual, split
from fluidgrad.flow.solution import Solution, SolveReport
from fluidgrad.iteration import cond, traced, while_loop
from fluidgrad.mesh.quality import check_valid
from fluidgrad.solve import linear as backends
from fluidgrad.solve.adjoint import Differentiating, mode, root, root_forward
from fluidgrad.solve.jacobian import assemble, pattern
from fluidgrad.solve.krylov import gmres

NEAR = 3e-5  # a residual this small: the factor of the step before will do, corrected by GMRES
FORCING, PRODUCTS = 1e-4, 10  # to this relative residual, by at most so many products
STEPS = 15  # Newton steps a stage
HALVINGS = 7  # of a step, before the stage is given up
STAGNATED = 1e-11  # where round-off stops the residual above a smaller tolerance, this will do
ACCURACY = 1e-12  # of tangents and adjoints: their linear solves' relative residual
STAGES = 16  # of the continuation
FIRST_RATIO = 8.0  # by which viscosity goes up when a stage fails
SMALLEST_STRIDE = 1.05
LARGEST_RATIO = 1e7


@dataclass(frozen=True)
class Steady:
    """The implicit problem R(q; flow) = 0 for ``adjoint.root``: theta is the flow. Static options only."""

    backend: backends.Backend
    accuracy: float

    def residual(self, flow: Flow, q: Array) -> Array:
        return residual(flow, q)

    def precondition(self, flow: Flow, factor: Any, b: Array, transpose: bool) -> Array:
        return backends.solve(self.backend, pattern(flow), factor, b, transpose)

    def solve(self, flow: Flow, start: tuple[Array, Array]) -> tuple[Array, Array, Any]:
        """Newton's method, by way of more viscous flows where needed. ``start``: a state and the tolerance."""
        if not traced(flow):  # under a derivative these are the first known numbers of a flow that a design makes
            check_valid(flow.mesh.points, flow.mesh.topology)
            check_flow(flow)
        self.backend.check(pattern(flow))
        d = _discretize(flow)
        q0, tolerance = start
        one = jnp.ones((), q0.dtype)

        def unfinished(s: _Search) -> Array:
            return (s.found > 1.0) & (s.stages < STAGES) & (s.ratio <= LARGEST_RATIO) & (s.stride > SMALLEST_STRIDE)

        def stage(s: _Search) -> _Search:
            n = self._newton(flow, replace(d, viscosity=d.viscosity * s.ratio), s.best, tolerance)
            ok = (n.residual <= tolerance) | (~n.fell & (n.residual <= STAGNATED))
            found = jnp.where(ok, s.ratio, s.found)
            some = jnp.isfinite(found)
            stride = jnp.where(ok, s.stride**1.5, jnp.where(some, s.stride**0.5, s.stride))
            # Start from rest again, not from where a first try got lost, until some flow has been found.
            best = jnp.where(ok, n.q, jnp.where(some, s.best, 0.0))
            ratio = jnp.where(some, jnp.maximum(1.0, found / stride), s.ratio * FIRST_RATIO)
            return _Search(n, best, found, ratio, stride, s.stages + 1, s.steps + n.steps)

        first = _Newton(q0, self._no_factor(flow, d), one * jnp.inf, one * 0, jnp.asarray(True))
        search = _Search(first, q0, one * jnp.inf, one, one * FIRST_RATIO, one * 0, one * 0)
        s = while_loop(unfinished, stage, search)
        q = jnp.where(jnp.isfinite(s.found), s.best, s.newton.q)
        worst, place = _worst(flow, d, q)
        ok = (s.found == 1.0).astype(q.dtype)
        return q, jnp.stack([worst, ok, s.steps, s.stages, s.found, place]), s.newton.factor

    def _no_factor(self, flow: Flow, d: Discrete) -> Any:
        """What a loop begins with: where it is traced, zeros in the shape of a factor."""
        if not traced(d):
            return None
        q = jnp.zeros(flow.n_unknowns, d.geometry.V.dtype)
        shape = jax.eval_shape(lambda: backends.factor(self.backend, pattern(flow), assemble(flow, d, q)))
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape)

    def _newton(self, flow: Flow, d: Discrete, q: Array, tolerance: Array) -> _Newton:
        """Damped Newton from q, at least one step of it (its factor is wanted)."""
        p = pattern(flow)

        def unfinished(n: _Newton) -> Array:
            return n.fell & (n.steps < STEPS) & ((n.residual > tolerance) | (n.steps < 1))

        def step(n: _Newton) -> _Newton:
            R, gross = _imbalance(flow, d, n.q)

            def fresh() -> tuple[Array, Any]:
                factor = backends.factor(self.backend, p, _assemble(flow, d, n.q))
                return backends.solve(self.backend, p, factor, R), factor

            def held() -> tuple[Array, Array]:
                """The step by the factor of an earlier one, and whether that was good enough."""

                def precondition(v: Array) -> Array:
                    return backends.solve(self.backend, p, n.factor, v)

                x, r, _ = gmres(lambda v: _product(flow, d, n.q, v), precondition, R, FORCING, PRODUCTS)
                return x, r <= FORCING

            nothing = jnp.zeros_like(R), jnp.asarray(False)
            dq, good = cond((n.steps > 0) & (n.residual < NEAR), held, lambda: nothing)
            dq, factor = cond(good, lambda: (dq, n.factor), fresh)
            q, residual, fell = _line_search(flow, d, n.q, R, gross, -dq, tolerance)
            return _Newton(q, factor, residual, n.steps + 1, fell)

        zero = jnp.zeros((), q.dtype)
        begin = _Newton(q, self._no_factor(flow, d), zero + jnp.inf, zero, zero == 0)
        return while_loop(unfinished, step, begin)


_discretize, _imbalance, _assemble = jax.jit(discretize), jax.jit(imbalance), jax.jit(assemble)


@jax.jit
def _product(flow: Flow, d: Discrete, q: Array, v: Array) -> Array:
    """The Jacobian times v, without assembling it."""
    return jax.jvp(lambda q: imbalance(flow, d, q)[0], (q,), (v,))[1]


@jax.jit
def _line_search(flow: Flow, d: Discrete, q: Array, R: Array, gross: Array, dq: Array, tolerance: Array) -> tuple[Array, ...]:
    """q + s dq with the first s of 1, 1/2, 1/4 ... that makes the residual R fall: that state, its net over gross flux, and
    whether it fell."""

    def trial(carry: Any) -> Any:
        s = 0.5 * carry[0]
        q_s = q + s * dq
        R_s, gross_s = imbalance(flow, d, q_s)
        scale = jnp.maximum(gross, gross_s)
        before, after = (jnp.sum(_over(_sizes(flow, r), scale) ** 2) for r in (R, R_s))
        residual = jnp.max(_over(_sizes(flow, R_s), gross_s))
        return s, q_s, residual, (after < (1 - 0.1 * s) * before) | (residual <= tolerance)

    def too_long(carry: Any) -> Array:
        s, *_, fell = carry
        return ~fell & (s > 0.5**HALVINGS) & jnp.isfinite(jnp.sum(dq))

    again = (jnp.full((), 2.0, q.dtype), q, jnp.full((), jnp.inf, q.dtype), jnp.asarray(False))
    return jax.lax.while_loop(too_long, trial, again)[1:]


@jax.jit
def _worst(flow: Flow, d: Discrete, q: Array) -> tuple[Array, Array]:
    """Net over gross flux of a state, and the cell with the largest residual."""
    R, gross = imbalance(flow, d, q)
    cells, _ = split(flow, R)
    return jnp.max(_over(_sizes(flow, R), gross)), jnp.argmax(jnp.sum(cells[:, :-1] ** 2, 1)).astype(q.dtype)


def _sizes(flow: Flow, R: Array) -> Array:
    """Root mean squares over the cells of the net fluxes of momentum and mass, and the extra equations."""
    cells, extra = split(flow, R)
    inside = jnp.sqrt(jnp.stack([jnp.mean(jnp.sum(cells[:, :-1] ** 2, 1)), jnp.mean(cells[:, -1] ** 2)]))
    return jnp.concatenate([inside, jnp.abs(extra)])


class _Newton(NamedTuple):
    """State, the factor that led to it, its net over gross flux, steps so far, whether the last one helped."""

    q: Array
    factor: Any
    residual: Array
    steps: Array
    fell: Array


class _Search(NamedTuple):
    """The continuation: the last Newton iteration, the best state and the viscosity ratio it belongs to (inf: none),
    the ratio to try next, the stride between ratios, stages and Newton steps so far."""

    newton: _Newton
    best: Array
    found: Array
    ratio: Array
    stride: Array
    stages: Array
    steps: Array


def _over(a: Array, b: Array) -> Array:
    """a / b, with 0 / 0 = 0."""
    return jnp.where(a > 0, a / jnp.where(b > 0, b, 1e-300), 0.0)


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
        linear: "superlu", "block_tridiagonal" or "auto" (by device).
        derivative: "reverse" for ``grad`` and everything made of it, the default; "forward" for ``jvp`` and ``jacfwd``
            (``linearize`` chooses by itself).

    Returns:
        The solution; every derivative of it is that of the converged flow, whatever path led there.

    Raises:
        InputError: a tangled mesh or a number that no flow can have.
        NotConverged: the residual did not fall below the tolerance. Under ``jit``, where nothing can be raised, the
            state is NaN instead, and so is every gradient.

    A steady solve finds unstable flows as well as stable ones.

    Differentiable in: every leaf of ``flow``, by the implicit function theorem (``adjoint.py``).
    """
    how = mode.get() or Differentiating()
    derivative = derivative or how.derivative
    problem = Steady(backends.choose(linear), min(ACCURACY, how.tolerance))
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
    r, ok, steps, stages, reached, place = (went[i] for i in range(6))
    report = SolveReport(ok > 0, r, steps, stages, reached, place)
    if known_false(report.converged):
        flow, state = jax.lax.stop_gradient((flow, state))
        raise NotConverged(advice(flow, report), report, Solution(flow, state, report))
    return Solution(flow, jnp.where(ok > 0, state, jnp.nan), report)


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
    return (
        f"no convergence: residual {float(report.residual):.1e} after {int(report.iterations)} steps ({how_far}). "
        f"Largest residual near ({near}). Try {', or '.join(steps)}."
    )
