"""What was found put to the test: is the flow stable, are the derivatives right, does a gain remain on a finer mesh?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidgrad.app.config.problem import Problem, figures_of
from fluidgrad.app.runs.jobs import Job
from fluidgrad.errors import InputError, NotConverged

if TYPE_CHECKING:
    from fluidgrad.design.optimization import Result
    from fluidgrad.design.study import Study
    from fluidgrad.flow.solution import Solution

VANISHED = 0.5  # of a gain must remain on the finer mesh
STEP = 1e-3  # of the differences, in units of what the bounds span: fourth order and solves to 1e-13 leave some 1e-10
GAP = 1e-6  # between gradient and difference, relative, from which on there is a warning
SEED = 0


def derivatives(work: Job, study: Study, found: Result) -> dict[str, Any]:
    """The gradients half-way from the start to the optimum against fourth-order differences of new solves, along one random
    direction: at the optimum itself the gradient of the objective may be nearly zero, and says nothing.

    Numbers that a bound leaves no room to both sides stay as they are. (``fluidgrad check`` asks more, at other designs.)
    """
    import jax.numpy as jnp

    from fluidgrad.derivatives.derivative import TIGHT
    from fluidgrad.design.evaluation import evaluate
    from fluidgrad.solve.steady import differentiating

    variables = study.variables
    x, scale = 0.5 * (variables.start + variables.flat(found.design)), np.zeros_like(variables.start)
    scale[variables.free] = variables.scale
    room = np.minimum(x - variables.lower, variables.upper - x) >= 2 * STEP * scale
    direction = np.random.default_rng(SEED).uniform(-1.0, 1.0, x.size) * scale * room
    if not direction.any():
        return _unchecked(work, "every number is at a bound")

    try:
        with differentiating("reverse", tolerance=TIGHT):
            here = evaluate(study, variables.tree(x), jnp.asarray(found.state))
            f = [evaluate(study, variables.tree(x + k * STEP * direction), here.state).values for k in (-2, -1, 1, 2)]
    except (InputError, NotConverged) as error:
        return _unchecked(work, str(error))
    slopes = np.array([variables.flat(g) @ direction for g in here.gradients])
    differences = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * STEP)
    # a functional that the direction does not change is judged by its own size
    size = np.maximum(np.maximum(np.abs(slopes), np.abs(differences)), 1e-6 * np.abs(here.values) + 1e-300)
    gaps = np.abs(slopes - differences) / size
    rows = {name: {"adjoint": a, "difference": d, "gap": g} for name, a, d, g in zip(study.names, slopes, differences, gaps, strict=True)}
    worst = float(gaps.max())
    work.say(f"derivatives half-way to the optimum against differences: {worst:.1e} apart")
    if worst > GAP:
        work.say("warning: the derivatives do not agree with differences; fluidgrad check says where")
    return {"checked": True, "worst": worst, "functionals": rows}


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
            swinging = f" and swing with a frequency of {turns:.3g}{unit}" if turns else ""
            work.say(f"warning: {name} is unstable: disturbances of it grow at a rate of {rate.real:.3g}{unit}{swinging}, so it would not "
                     "be seen. Lower the Reynolds number, or take its figures and derivatives as those of the steady flow "
                     "alone.")  # fmt: skip
    return rows


def better(first: float, last: float, gain: float) -> str:
    """A gain in words; as a share of the start only where the sign stays, else it would mean nothing."""
    return f"better by {100 * gain:.2f} %" if first * last > 0 else f"changed by {last - first:+.4g}"


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
    gain: float,
    sign: float,
) -> dict[str, Any]:
    """The start and the optimum again on a mesh of twice the cells along every line: does the gain remain?"""
    from fluidgrad.derivatives.accuracy import prolonged

    try:
        fine = refined(work)
        sizes = {path: np.shape(value) for path, value in fine.case.design(*study.start).items()}
        if any(np.shape(value) != sizes[path] for path, value in study.start.items()):
            raise InputError("the design has one number for each cell or face")
        cells = fine.case.flow(fine.case.numbers).mesh.n_cells
        names, values = study.names, []
        with work.doing(f"again on {cells} cells (refine = {2 * work.config.mesh.refine})"):
            for x, known in zip((study.start, design), coarse, strict=True):
                flows = [flow(dict(x)) for flow in fine.flows]
                solved = [fine.solve(flow, prolonged(old, flow)) for flow, old in zip(flows, known, strict=True)]
                values.append(figures_of(fine, names[0], solved))
    except (InputError, NotConverged) as error:
        work.say(f"warning: not compared on a finer mesh: {error}")
        return {"compared": False, "reason": str(error)}
    a, b = (v[names[0]]["value"] for v in values)
    remains = sign * (a - b) / abs(a)
    vanished = bool(remains < VANISHED * gain)
    work.say(f"  {names[0]} {a:.6g} -> {b:.6g}, {better(a, b, remains)} (on the mesh of the search: {100 * gain:.2f} %)")
    if vanished:
        work.say("warning: the gain vanishes on the finer mesh: it belongs to the mesh, not to the flow. Search again with more cells.")
    return {"compared": True, "refine": 2 * work.config.mesh.refine, "cells": cells, "improvement": remains, "vanished": vanished,
            "start": values[0], "optimum": values[1]}  # fmt: skip
