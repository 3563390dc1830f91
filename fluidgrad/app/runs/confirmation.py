"""What was found put to the test: is the flow stable, are the derivatives right, does a gain remain on a finer mesh?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidgrad.app.config.problem import Problem, figures_of
from fluidgrad.app.config.sections import place
from fluidgrad.app.runs.jobs import Job
from fluidgrad.errors import InputError, NotConverged

if TYPE_CHECKING:
    from fluidgrad.design.optimization import Result
    from fluidgrad.design.study import Study
    from fluidgrad.flow.flow import Flow
    from fluidgrad.flow.solution import Solution

VANISHED = 0.5  # of a gain must remain on the finer mesh
STEP = 1e-3  # of the differences, in units of what the bounds span: fourth order and solves to 1e-13 leave some 1e-10
GAP = 1e-6  # between gradient and difference, relative, from which on one of them must be wrong
SURE = 10.0  # times as far from one another as the differences of two steps: then it is the gradient
SEED = 0


def derivatives(work: Job, study: Study, found: Result) -> dict[str, Any]:
    """The gradients half-way from the start to the optimum against fourth-order differences of new solves, along one random
    direction: at the optimum itself the gradient of the objective may be nearly zero, and says nothing.

    Numbers at a bound are taken off it by the steps. A gradient is called wrong, in the ``message``, only where differences
    of half the step agree with one another and not with it. (``fluidgrad check`` asks more, at other designs.)
    """
    import jax
    import jax.numpy as jnp

    from fluidgrad.derivatives.check import TIGHT
    from fluidgrad.design.evaluation import evaluate
    from fluidgrad.solve.adjoint import differentiating

    variables = study.variables
    x, scale = 0.5 * (variables.start + variables.flat(found.design)), np.zeros_like(variables.start)
    scale[variables.free] = variables.scale
    x = np.clip(x, variables.lower + 2 * STEP * scale, variables.upper - 2 * STEP * scale)
    direction = np.random.default_rng(SEED).uniform(-1.0, 1.0, x.size) * scale

    def difference(step: float) -> np.ndarray:
        f = [evaluate(study, variables.tree(x + k * step * direction), here.state).values for k in (-2, -1, 1, 2)]
        return (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * step)

    try:
        with differentiating("reverse", tolerance=TIGHT):
            here = evaluate(study, variables.tree(x), jnp.asarray(found.state))
            differences = difference(STEP)
            slopes = np.array([variables.flat(g) @ direction for g in here.gradients])
            gaps = _gaps(slopes, differences, here.values)
            wrong = gaps > GAP
            if wrong.any():
                wrong &= np.abs(slopes - differences) > SURE * np.abs(differences - difference(STEP / 2))
    except (InputError, NotConverged) as error:
        return _unchecked(work, str(error))
    rows = {name: {"adjoint": a, "difference": d, "gap": g} for name, a, d, g in zip(study.names, slopes, differences, gaps, strict=True)}
    worst = float(gaps.max())
    work.say(f"derivatives half-way to the optimum against differences: {worst:.1e} apart")
    result = {"checked": True, "worst": worst, "functionals": rows}
    if wrong.any():
        k = int(np.argmax(np.where(wrong, gaps, 0.0)))
        name, zero = study.names[k], not any(np.any(g) for g in jax.tree.leaves(here.gradients[k]))
        said = "is exactly zero" if zero else f"is {slopes[k]:.6g} half-way to the optimum"
        why = "something in it cuts the derivative off (stop_gradient, rounding, a comparison)" if zero else "fluidgrad check says more"
        return result | {"message": f"the derivative of {name} {said} where differences find {differences[k]:.6g}: {why}"}
    if worst > GAP:
        work.say("warning: differences agree neither with the derivatives nor with one another: a functional may have a kink there")
    return result


def _gaps(slopes: np.ndarray, differences: np.ndarray, values: np.ndarray) -> np.ndarray:
    """How far apart two derivatives are, relative; of a functional that hardly changes, by its own size."""
    size = np.maximum(np.maximum(np.abs(slopes), np.abs(differences)), 1e-6 * np.abs(values) + 1e-300)
    return np.abs(slopes - differences) / size


def _unchecked(work: Job, reason: str) -> dict[str, Any]:
    work.say(f"derivatives half-way to the optimum not compared with differences: {reason}")
    return {"checked": False, "reason": reason}


def stability(work: Job, found: Mapping[str, Sequence[Solution]]) -> dict[str, Any]:
    """How fast the fastest growing disturbance of each flow grows, with a warning if it does: a steady flow that is not
    stable would not be seen, and its derivatives are those of a flow that is not there. ``found``: the solutions of the
    "flow", or of "start" and "optimum"; of several conditions the worst counts."""
    from fluidgrad.solve.stability import growth_rates

    rows: dict[str, Any] = {}
    for which, solutions in found.items():
        name = "this flow" if which == "flow" else f"the flow of the {which}"
        try:
            with work.doing(f"how fast disturbances of {name} grow"):
                rate = max((growth_rates(s, work.config.solver.linear)[0] for s in solutions), key=lambda z: z.real)
        except (InputError, NotConverged) as error:
            rows[which] = {"known": False, "reason": str(error)}
            work.say(f"whether {name} is stable is not known: {error}")
            continue
        turns = abs(rate.imag) / (2 * np.pi)
        rows[which] = {"known": True, "stable": bool(rate.real < 0), "growth_rate": float(rate.real), "frequency": float(turns),
                      "units": f"{work.config.units.time}^-1"}  # fmt: skip
        if not rate.real < 0:
            unit = "" if work.config.units.time == "T" else f" {work.config.units.time}^-1"
            swinging = f" and swing with a frequency of {turns:.3g}{unit} (not that of the shedding that they grow into)" if turns else ""
            work.say(f"warning: {name} is unstable: disturbances of it grow at a rate of {rate.real:.3g}{unit}{swinging}, so it would not "
                     "be seen. Lower the Reynolds number, or take its figures and derivatives as those of the steady flow "
                     "alone.")  # fmt: skip
    return rows


def share(first: float, last: float, sign: float) -> float:
    """A gain as a share of the start; NaN where that is zero."""
    return sign * (first - last) / abs(first) if first else float("nan")


def better(first: float, last: float, gain: float) -> str:
    """A gain in words; as a share of the start only where the sign stays, else it would mean nothing."""
    if not first * last > 0:
        return f"changed by {last - first:+.4g}"
    return f"{'better' if gain >= 0 else 'worse'} by {abs(100 * gain):.2f} %"


def refined(work: Job) -> Problem:
    """The problem on a mesh of twice the cells along every line."""
    mesh = work.config.mesh.model_copy(update={"refine": 2 * work.config.mesh.refine})
    return Problem.of(work.config.model_copy(update={"mesh": mesh}), work.name)


def finer(
    work: Job,
    problem: Problem,
    study: Study,
    design: Mapping[str, Any],
    coarse: tuple[list[Solution], list[Solution]],
    found: tuple[float, float],
    sign: float,
) -> dict[str, Any]:
    """The start and the optimum again on a mesh of twice the cells along every line: does the gain ``found`` remain?"""
    name = study.names[0]
    try:
        if not work.config.output.finer_mesh:
            raise InputError("output.finer_mesh = false")
        fine = refined(work)
        sizes = {path: np.shape(value) for path, value in fine.case.design(*study.start).items()}
        if any(np.shape(value) != sizes[path] for path, value in study.start.items()):
            raise InputError("the design has one number for each cell or face")
        cells = fine.case.flow(fine.case.numbers).mesh.n_cells
        values = []
        with work.doing(f"again on {cells} cells (refine = {2 * work.config.mesh.refine})"):
            for which, x, known in zip(("start", "optimum"), (study.start, design), coarse, strict=True):
                with place(f"the {which} on the finer mesh"):
                    solved = [_carried(fine, flow(dict(x)), old) for flow, old in zip(fine.flows, known, strict=True)]
                values.append(figures_of(fine, name, solved))
    except (InputError, NotConverged) as error:
        work.say(f"  {name} on a finer mesh: not compared: {error}")
        return {"compared": False, "reason": str(error)}
    a, b = (v[name]["value"] for v in values)
    gain, remains = share(*found, sign), share(a, b, sign)
    shares = np.isfinite(gain) and np.isfinite(remains)
    vanished = bool(remains < VANISHED * gain if shares else sign * (a - b) < VANISHED * sign * (found[0] - found[1]))
    work.say(f"  {name} {a:.6g} -> {b:.6g}, {better(a, b, remains)} (on the mesh of the search: {better(*found, gain)})")
    if vanished:
        work.say("warning: the gain vanishes on the finer mesh: it belongs to the mesh, not to the flow. Search again with more cells.")
    return {"compared": True, "refine": 2 * work.config.mesh.refine, "cells": cells, "improvement": remains, "vanished": vanished,
            "start": values[0], "optimum": values[1]}  # fmt: skip


def _carried(fine: Problem, flow: Flow, known: Solution) -> Solution:
    """A flow on the finer mesh, from what is known on the coarse one; from rest where that does not hold the finer cells, as
    where a control box moves the new points on their own."""
    from fluidgrad.derivatives.accuracy import prolonged
    from fluidgrad.mesh.quality import check_valid

    check_valid(flow.mesh.points, flow.mesh.topology)
    try:
        start = prolonged(known, flow)
    except InputError:
        start = None
    return fine.solve(flow, start)
