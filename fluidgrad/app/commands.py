"""What each command does. Each is a function; the command line only passes its arguments on.

``run`` simulates, or optimises where there is a design; ``check`` tests the derivatives that it would use. These and
``sensitivity`` (``sensitivities.py``) work in a folder of their own (``output.py``), whose path is the first and the last
line printed.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidgrad import device
from fluidgrad.app.config.problem import Problem, figures, objective_of
from fluidgrad.app.config.reading import find, load
from fluidgrad.app.config.sections import suggestion
from fluidgrad.app.explaining import explain, schema
from fluidgrad.app.kinds import new
from fluidgrad.app.report import output, page
from fluidgrad.app.report.pictures import draw_check, draw_simulation
from fluidgrad.app.report.screen import NORMAL
from fluidgrad.app.report.solutions import save_solution, solve_report
from fluidgrad.app.runs.confirmation import stability
from fluidgrad.app.runs.designs import optimise, study_of
from fluidgrad.app.runs.jobs import Job, import_functionals, job
from fluidgrad.app.runs.redrawing import report
from fluidgrad.app.runs.sensitivities import sensitivity
from fluidgrad.app.runs.sweeps import sweep
from fluidgrad.errors import InputError

if TYPE_CHECKING:
    from fluidgrad.flow.flow import Flow

__all__ = ["check", "config", "new", "report", "run", "sensitivity", "sweep"]
SEED = 0  # of the random design and directions of checks
MARGIN = 0.2  # of the bounds' width, by which differences leave a design at most
OFF = 0.02  # of that width, by which the start is moved off bounds beyond which there may be no flow (a negative resistance)


def run(
    config: str,
    settings: Sequence[str] = (),
    imports: Sequence[str] = (),
    level: int = NORMAL,
    root: str | Path = "runs",
    allow: Sequence[str] = (),
) -> Path:
    """Simulate, or optimise where the config has a ``[[design]]``; returns the run's folder.

    ``config`` may be the folder of a run: an optimisation goes on from its journal, to the same next iterate. Then
    ``allow`` names what may differ from the run as it began, such as "optimizer.max_iterations". ``level`` says how much is
    said (``screen.py``).
    """
    with job(config, settings, imports, level, root, allow=allow) as work:
        work.say(f"fluidgrad run {work.name}: building the case")
        problem = Problem.of(work.config, work.name)
        if not work.resumed:
            output.save_inputs(work.folder, work.config, work.imports)
        page.write(work.folder, running=True)
        flow = problem.case.flow(problem.case.numbers)
        work.say(str(flow.mesh))
        _say_what_turns(work, flow)
        _say_what_passes(work, flow)
        if work.config.design:
            optimise(work, problem)
        else:
            _simulate(work, problem, flow)
        work.say(f"done in {work.seconds:.0f} s")
    return work.folder


def _simulate(work: Job, problem: Problem, flow: Flow) -> None:
    with work.doing("compiling and solving (compiled programs are kept for the next run)"):
        began = time.perf_counter()
        solution = problem.solve(flow)
    report = solve_report(solution, time.perf_counter() - began, work.config.solver.devices)
    work.say(f"solved in {report['newton_steps']} Newton steps, residual {report['residual']:.1e}, {report['seconds']:.1f} s")
    found = figures(problem, solution)
    _show(work, found)
    save_solution(work.folder, solution, work.config)
    result = {"kind": "simulation", "finished": False, "converged": True, "figures": found, "solve": report}
    output.write_json(work.folder / "results.json", result)
    if work.config.output.figures:
        with work.doing("drawing"):
            draw_simulation(work.folder, work.labels, solution)
    if work.config.output.stability:
        result["stability"] = stability(work, {"flow": [solution]})
    output.write_json(work.folder / "results.json", result | {"finished": True})


# ---- check


def check(
    config: str,
    settings: Sequence[str] = (),
    imports: Sequence[str] = (),
    level: int = NORMAL,
    as_json: bool = False,
    root: str | Path = "runs",
) -> bool:
    """Check the derivative of the objective and of each constraint, at the start (numbers on a bound moved off it a little) and at a
    random admissible design."""
    from fluidgrad import check as check_derivative
    from fluidgrad.derivatives.check import DIFFERENCE_ERROR, DOT_PRODUCT_GAP, TAYLOR_RATE
    from fluidgrad.design.variables import Variables

    with job(config, settings, imports, level, root, silent=as_json) as work:
        work.say(f"fluidgrad check {work.name}: building the case")
        problem = Problem.of(work.config, work.name)
        objective_of(problem, work.name)
        output.save_inputs(work.folder, work.config, work.imports)
        design = problem.start or {"flow.viscosity": problem.case.numbers["flow"]["viscosity"]}
        variables = Variables.of(design, problem.bounds or None)
        names = tuple(q.name for q in problem.quantities)
        values = problem.values_of()
        width = variables.tree(variables.upper - variables.lower)
        start = variables.inside(OFF)
        moved = "" if (start == variables.start).all() else f", off its bounds by {OFF} of their width"
        points = {f"start{moved}": start, "random design": variables.random(SEED, MARGIN)}
        found, curves = {}, []
        for place_, x in points.items():
            with work.doing(f"{place_}: compiling and solving to round-off, once for each step of the differences"):
                found[place_] = c = check_derivative(values, variables.tree(x), seed=SEED, names=names, most=width)
            work.say(f"  {c}")
            for i, name in enumerate(names):
                work.say(f"    {name}: Taylor rate {c.taylor_rates[i]:.3f}, dot product {c.gaps[i]:.1e}, best difference {c.floor[i]:.1e}"
                         f" at step {c.at_step[i]:.0e}")  # fmt: skip
            f0 = np.abs(np.asarray(values(variables.tree(x)))) + 1e-300
            for i, name in enumerate(names):
                remainders = {"taylor_steps": c.taylor_steps, "remainders": c.remainders[i] / f0[i]}
                curves.append({"name": f"{name}, {place_}", **remainders, "steps": c.steps, "errors": c.errors[i]})
        passed = all(c.passed for c in found.values())
        worst = {
            "verdict": "passed" if passed else "failed",
            "taylor_rate": min(c.taylor_rate for c in found.values()),
            "dot_product_gap": max(c.dot_product_gap for c in found.values()),
            "best_difference_error": max(c.best_difference_error for c in found.values()),
        }
        output.write_json(
            work.folder / "results.json", {"kind": "check", **worst, "points": {k: c.as_dict() for k, c in found.items()}, "curves": curves}
        )
        if work.config.output.figures:
            draw_check(work.folder, curves, work.name)
        limits = f"(asked: {TAYLOR_RATE}, {DOT_PRODUCT_GAP:.0e}, {DIFFERENCE_ERROR:.0e})"
        work.say(f"{worst['verdict']}: worst Taylor rate {worst['taylor_rate']:.3f}, dot product {worst['dot_product_gap']:.1e}, "
                 f"best difference {worst['best_difference_error']:.1e} {limits}")  # fmt: skip
        if as_json:
            print(json.dumps(output.plain(worst)))
    return passed


# ---- config


def config(action: str, subject: str = "", settings: Sequence[str] = (), imports: Sequence[str] = ()) -> None:
    """``validate`` a file, ``explain`` a key, or print the JSON ``schema``."""
    if action == "validate":
        if not subject:
            raise InputError("config validate needs a file", accepted="fluidgrad config validate FILE.toml")
        found = load(subject, settings)
        device.start()
        for file in imports:
            import_functionals(file)
        problem = Problem.of(found, find(subject).name)
        if found.design:
            study_of(problem, find(subject).name)
        print(f"{subject} is valid")
    elif action == "explain":
        print(explain(subject))
    elif action == "schema":
        print(schema())
    else:
        raise InputError(f"config {action}", suggestion(action, ("validate", "explain", "schema"), "one of validate, explain, schema"))


# ---- shared


def _say_what_turns(work: Job, flow: Flow) -> None:
    """Where each turning wall has its center, and whether fluid goes through it."""
    from fluidgrad.flow.boundary import Wall, center_of, passing

    for patch, wall in flow.boundary.items():
        if isinstance(wall, Wall) and wall.turns:
            about, share = np.asarray(center_of(flow.mesh, patch, wall)), float(passing(flow.mesh, patch, wall))
            through = f"; {100 * share:.2g} % of its velocity goes through it" if share > 1e-3 else ""
            work.say(f"{patch} turns about ({', '.join(f'{v:.6g}' for v in about)}){through}")


def _say_what_passes(work: Job, flow: Flow) -> None:
    """How the cells lie on devices, where there are several."""
    from fluidgrad.solve.divided import exchanged

    if (devices := work.config.solver.devices) > 1:
        cells, sent = exchanged(flow, devices)
        work.say(f"on {devices} devices: up to {cells} cells each; a residual sends {sent / 1024:.3g} KiB between them")


def _show(work: Job, found: Mapping[str, Mapping[str, Any]]) -> None:
    width = max(map(len, found), default=0)
    for name, figure in found.items():
        work.say(f"  {name:<{width}}  {figure['value']:+.8g} {'' if figure['units'] == '1' else figure['units']}")
