"""The steady flow of a :class:`~fluidgrad.Flow`, and what is said where none is found."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fluidgrad.errors import InputError, NotConverged
from fluidgrad.flow.flow import Flow
from fluidgrad.flow.solution import Solution, SolveReport
from fluidgrad.linear import systems as backends
from fluidgrad.solve.adjoint import Differentiating, mode, root, root_forward
from fluidgrad.solve.continuation import Steady
from fluidgrad.solve.divided import Divided
from fluidgrad.solve.newton import FORCING

ACCURACY = 1e-12  # of tangents and adjoints: their linear solves' relative residual
BESIDE = 1e-2  # where solves are to be more exact than that, as for a check: how much more exact their linear ones


def implicit_problem(flow: Flow, linear: str, accuracy: float = ACCURACY, devices: int = 1) -> Steady:
    """The problem that a flow is, with the linear solver of a name."""
    if devices < 1:
        raise InputError(f"{devices} devices", accepted="1 or more")
    if devices > 1 and linear not in ("auto", "multigrid"):
        raise InputError(f"linear backend {linear!r} on {devices} devices", accepted="multigrid, which auto is there")
    backend = backends.choose("multigrid" if devices > 1 else linear, flow)
    compact = backend.prefers_compact(flow, linear == "auto")
    return Steady(backend, compact, accuracy) if devices == 1 else Divided(backend, compact, accuracy, devices)


def solve_steady(
    flow: Flow,
    start: Solution | Array | None = None,
    *,
    tolerance: float = 1e-10,
    linear: str = "auto",
    derivative: str | None = None,
    devices: int = 1,
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
        devices: how many of JAX's devices have a part of the cells each, which multigrid then solves together.

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
    problem = implicit_problem(flow, linear, min(ACCURACY, BESIDE * how.tolerance), devices)
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
