"""Steady flow by Newton's method with the exact Jacobian.

Steps are damped until the residual falls; a Newton iteration that will not converge starts again from a more viscous
flow, and from there the viscosity comes down to the one asked for in steps that grow on success and shrink on failure
(continuation in the Reynolds number). Residuals are net over gross fluxes (``residual.throughput``), so a tolerance
means the same on every mesh and in every system of units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fluidgrad import linear as backends
from fluidgrad.adjoint import PROBE, root, root_forward
from fluidgrad.errors import InputError, NotConverged
from fluidgrad.flow import Flow, Solution, SolveReport
from fluidgrad.fluxes import Discrete, discretize
from fluidgrad.jacobian import assemble, pattern
from fluidgrad.residual import balance, residual, split, throughput

STEPS = 20  # Newton steps a stage
HALVINGS = 7  # of a step, before the stage is given up
STAGES = 30  # of the continuation
FIRST_RATIO = 8.0  # by which viscosity goes up when a stage fails
LARGEST_RATIO = 1e7


@dataclass(frozen=True)
class Steady:
    """The implicit problem R(q; flow) = 0 for ``adjoint.root``: theta is the flow. Static options only."""

    tolerance: float
    backend: backends.Backend

    def residual(self, flow: Flow, q: Array) -> Array:
        return residual(flow, q)

    def precondition(self, flow: Flow, factor: Any, b: Array, transpose: bool) -> Array:
        return backends.solve(self.backend, pattern(_shape_of(flow)), factor, b, transpose)

    def solve(self, flow: Flow, start: Array) -> tuple[Array, Array, Any]:
        """Newton's method, by way of more viscous flows where needed."""
        d = discretize(flow)

        def stage(ratio: Array, q: Array) -> Any:
            return self._newton(flow, replace(d, viscosity=d.viscosity * ratio), q)

        q, factor, r, steps, ok, place = stage(jnp.ones(()), start)
        best = jnp.where(ok, 1.0, jnp.inf)

        # carry: best state and its ratio, the ratio being tried and the factor between tries
        def unfinished(carry: Any) -> Array:
            _, _, _, _, _, best, ratio, stride, stages, _ = carry
            return (best > 1.0) & (stages < STAGES) & (ratio <= LARGEST_RATIO) & (stride > 1.05)

        def advance(carry: Any) -> Any:
            q, factor, r, steps, place, best, ratio, stride, stages, q_best = carry
            q, factor, r, more, ok, place = stage(ratio, q_best)
            found = jnp.where(ok, ratio, best)
            stride = jnp.where(ok, stride**1.5, jnp.where(jnp.isfinite(best), stride**0.5, stride))
            q_best = jnp.where(ok, q, q_best)
            ratio = jnp.where(jnp.isfinite(found), jnp.maximum(1.0, found / stride), ratio * FIRST_RATIO)
            return q, factor, r, steps + more, place, found, ratio, stride, stages + 1, q_best

        rest = jnp.zeros_like(start)
        carry = (q, factor, r, steps, place, best, jnp.asarray(FIRST_RATIO), jnp.asarray(FIRST_RATIO), jnp.ones(()), jnp.where(ok, q, rest))
        q, factor, r, steps, place, best, _, _, stages, q_best = jax.lax.while_loop(unfinished, advance, carry)
        q = jnp.where(jnp.isfinite(best), q_best, q)
        ok = (best == 1.0).astype(q.dtype)
        return q, jnp.stack([r, ok, steps, stages, best, place]), factor

    def _newton(self, flow: Flow, d: Discrete, q: Array) -> Any:
        """Damped Newton: q, the last factor, residual, steps, whether it converged, the cell that was worst."""
        p = pattern(d)

        def measure(q: Array, R: Array) -> tuple[Array, Array, Array, Array]:
            cells, _ = split(flow, R)
            N_m, N_c = throughput(flow, d, q)
            R_m, R_c = jnp.sqrt(jnp.mean(jnp.sum(cells[:, :-1] ** 2, 1))), jnp.sqrt(jnp.mean(cells[:, -1] ** 2))
            return R_m, R_c, N_m, N_c

        def ratio(R_m: Array, R_c: Array, N_m: Array, N_c: Array) -> Array:
            return jnp.maximum(_over(R_m, N_m), _over(R_c, N_c))

        def unfinished(carry: Any) -> Array:
            _, _, _, r, steps, alive = carry
            return alive & (steps < STEPS) & ((r > self.tolerance) | (steps < 1))

        def advance(carry: Any) -> Any:
            q, R, _, _, steps, _ = carry
            factor = backends.factor(self.backend, p, assemble(flow, d, q))
            dq = -backends.solve(self.backend, p, factor, R)
            R_m, R_c, N_m, N_c = measure(q, R)

            def trial(s: Array) -> Any:
                q_s = q + s * dq
                R_s = balance(flow, d, q_s)
                S_m, S_c, M_m, M_c = measure(q_s, R_s)
                scale_m, scale_c = jnp.maximum(N_m, M_m), jnp.maximum(N_c, M_c)
                before = _over(R_m, scale_m) ** 2 + _over(R_c, scale_c) ** 2
                after = _over(S_m, scale_m) ** 2 + _over(S_c, scale_c) ** 2
                r = ratio(S_m, S_c, M_m, M_c)
                return q_s, R_s, r, (after < (1 - 0.1 * s) * before) | (r <= self.tolerance)

            def halve(carry: Any) -> Any:
                s, *_ = carry
                return (0.5 * s, *trial(0.5 * s))

            def too_long(carry: Any) -> Array:
                s, _, _, _, fell = carry
                return ~fell & (s > 0.5**HALVINGS) & jnp.isfinite(jnp.sum(dq))

            one = jnp.ones((), q.dtype)
            _, q_s, R_s, r, fell = jax.lax.while_loop(too_long, halve, (one, *trial(one)))
            return q_s, R_s, factor, r, steps + 1, fell

        R = balance(flow, d, q)
        # a carry of the right shape: the factor of the first step replaces it before it is used
        empty = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(lambda: backends.factor(self.backend, p, assemble(flow, d, q)))
        )
        init = (q, R, empty, ratio(*measure(q, R)), jnp.zeros((), q.dtype), jnp.asarray(True))
        q, R, factor, r, steps, _ = jax.lax.while_loop(unfinished, advance, init)
        cells, _ = split(flow, R)
        place = jnp.argmax(jnp.sum(cells[:, :-1] ** 2, 1)).astype(q.dtype)
        return q, factor, r, steps, r <= self.tolerance, place


def _over(a: Array, b: Array) -> Array:
    """a / b, with 0 / 0 = 0."""
    return jnp.where(a > 0, a / jnp.where(b > 0, b, 1e-300), 0.0)


def _shape_of(flow: Flow) -> Any:
    """The static part of a discretization, without computing one."""
    return jax.eval_shape(discretize, flow)


def solve_steady(
    flow: Flow,
    start: Solution | Array | None = None,
    *,
    tolerance: float = 1e-10,
    linear: str = "auto",
    derivative: str = "reverse",
    probe: Array | None = None,
) -> Solution:
    """The steady flow: velocities and pressures with R(q; flow) = 0.

    Args:
        flow: what to solve.
        start: a solution (or its ``state``) on a mesh with the same cells to start from; rest if left out. It saves
            steps and never changes the answer beyond the tolerance; nothing is differentiable in it.
        tolerance: of net over gross fluxes.
        linear: "superlu", "block_tridiagonal" or "auto" (by device).
        derivative: "reverse" for ``grad`` and everything made of it; "forward" for ``jvp`` and ``jacfwd`` (use
            ``linearize``, which chooses).
        probe: zeros ``(PROBE,)``; its cotangent is the adjoint's report (``value_and_grad`` uses it).

    Returns:
        The solution; every derivative of it is that of the converged flow, whatever path led there.

    Raises:
        NotConverged: the residual did not fall below the tolerance. Under ``jit``, where nothing can be raised, the
            state is NaN instead, and so is every gradient.

    A steady solve finds unstable flows as well as stable ones.

    Differentiable in: every leaf of ``flow``, by the implicit function theorem (``adjoint.py``).
    """
    problem = Steady(tolerance, backends.choose(linear))
    if derivative not in ("reverse", "forward"):
        raise InputError(f"unknown derivative {derivative!r}", accepted="reverse or forward")
    q0 = jnp.zeros(flow.n_unknowns, flow.mesh.points.dtype) if start is None else getattr(start, "state", start)
    if q0.shape != (flow.n_unknowns,):
        raise InputError(f"the start has {q0.shape[0]} unknowns, the flow {flow.n_unknowns}", accepted="a solution on the same cells")
    q0 = jax.lax.stop_gradient(q0)
    if derivative == "reverse":
        state, went = root(problem, flow, q0, jnp.zeros(PROBE, q0.dtype) if probe is None else probe)
    else:
        state, went, _ = root_forward(problem, flow, q0)
    r, ok, steps, stages, reached, place = went
    report = SolveReport(ok > 0, r, steps, stages, reached, place)
    if known_false(report.converged):
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
    how_far = (
        f"{reached:.3g} times the viscosity was reached by continuation" if np.isfinite(reached) else "no more viscous flow converged either"
    )
    near = ", ".join(f"{v:.3g}" for v in x)
    return (
        f"no convergence: residual {float(report.residual):.1e} after {int(report.iterations)} steps ({how_far}). "
        f"Largest residual near ({near}). Try mesh.refine = 2, or flow.scheme = \"upwind\"."
    )
