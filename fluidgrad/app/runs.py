"""What each command does. Each is a function; the command line only passes its arguments on.

``run`` simulates, or optimises where there is a design; ``check`` tests the derivatives that it would use;
``sensitivity`` differentiates the objective with respect to every number of the file. All of them work in a folder of
their own (``output.py``), whose path is the first and the last line printed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluidgrad.app import output
from fluidgrad.app.jobs import Job, job
from fluidgrad.app.problem import Problem, figures

if TYPE_CHECKING:
    from fluidgrad.app.plots import Labels
    from fluidgrad.flow import Flow, Solution


def run(config: str, settings: Sequence[str] = (), imports: Sequence[str] = (), quiet: bool = False, root: str | Path = "runs") -> Path:
    """Simulate, or optimise where the config has a ``[[design]]``; returns the run's folder."""
    with job(config, settings, imports, quiet, root) as work:
        work.say(f"fluidgrad run {work.name}: building the case")
        problem = Problem.of(work.config, work.name)
        output.save_inputs(work.folder, work.config, work.imports)
        flow = problem.case.flow(problem.case.numbers)
        work.say(str(flow.mesh))
        if work.config.design:
            from fluidgrad.app.designing import optimise

            optimise(work, problem)
        else:
            _simulate(work, problem, flow)
        work.say(f"done in {work.seconds:.0f} s")
    return work.folder


def _simulate(work: Job, problem: Problem, flow: Flow) -> None:
    work.say("compiling and solving (compiled programs are kept for the next run)")
    began = time.perf_counter()
    solution = problem.solve(flow)
    report = _solve_report(solution, time.perf_counter() - began)
    work.say(f"solved in {report['newton_steps']} Newton steps, residual {report['residual']:.1e}, {report['seconds']:.1f} s")
    found = figures(problem, solution)
    _show(work, found)
    save_solution(work.folder / "solution.npz", solution)
    output.write_json(work.folder / "results.json", {"kind": "simulation", "converged": True, "figures": found, "solve": report})
    work.say("drawing")
    draw_simulation(work.folder, work.labels, solution)


def save_solution(file: Path, solution: Solution) -> None:
    from fluidgrad.app.plots import geometry

    g = geometry(solution.flow.mesh)
    output.write_arrays(file, state=solution.state, velocity=solution.velocity, pressure=solution.pressure, x_cell=g.x_cell, volume=g.V)


def draw_simulation(folder: Path, labels: Labels, solution: Solution) -> None:
    from fluidgrad.app import plots

    plots.mesh(folder / "figures" / "mesh.png", solution.flow.mesh, plots.walls_of(solution.flow), labels)
    plots.speed(folder / "figures" / "speed.png", solution, labels)
    plots.pressure(folder / "figures" / "pressure.png", solution, labels)


def _solve_report(solution: Solution, seconds: float) -> dict[str, Any]:
    r = solution.report
    return {
        "cells": solution.flow.mesh.n_cells,
        "residual": float(r.residual),
        "newton_steps": int(r.iterations),
        "continuation_stages": int(r.solves),
        "seconds": round(seconds, 3),
    }


def _show(work: Job, found: Mapping[str, Mapping[str, Any]]) -> None:
    width = max(map(len, found), default=0)
    for name, figure in found.items():
        work.say(f"  {name:<{width}}  {figure['value']:+.8g} {'' if figure['units'] == '1' else figure['units']}")
