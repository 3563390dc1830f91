"""An optimisation from a config: the study that it is, the search, and what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from fluidgrad.app.config.problem import Problem, figures_of
from fluidgrad.app.config.quantities import Quantity, named_units
from fluidgrad.app.config.sections import place
from fluidgrad.app.report import output, wall_maps
from fluidgrad.app.report.pictures import draw_design
from fluidgrad.app.report.solutions import save_solution
from fluidgrad.app.runs.confirmation import better, derivatives, finer, share, stability
from fluidgrad.app.runs.feasibility import check_feasible
from fluidgrad.app.runs.jobs import Job
from fluidgrad.app.runs.progress import watched
from fluidgrad.design.limits import limit_of
from fluidgrad.errors import Failed, NotConverged
from fluidgrad.files import file_name

if TYPE_CHECKING:
    from fluidgrad.design.optimization import Result
    from fluidgrad.design.study import Constraint, Study
    from fluidgrad.flow.solution import Solution


@dataclass(frozen=True)
class Negative:
    """What is maximized, as something to minimize."""

    quantity: Quantity

    @property
    def name(self) -> str:
        return self.quantity.name

    def __call__(self, solution: Solution) -> Any:
        return -self.quantity(solution)


def study_of(problem: Problem, file: str) -> Study:
    """The config as a study.

    Raises:
        InputError: bounds that do not fit; a method that cannot take the constraints; constraints that no design within
            the bounds can meet.
    """
    from fluidgrad.design.optimizers import choose
    from fluidgrad.design.study import Constraint, Study

    config, objective = problem.config, problem.objective
    assert config.objective is not None and objective is not None
    constraints = []
    for i, (given, q) in enumerate(zip(config.objective.subject_to, problem.constraints, strict=True)):
        band = config.optimizer.band if given.equals is not None else None
        with place(f"[objective] subject_to[{i}] in {file}"):
            limits = given.equals, given.at_most, given.at_least
            constraints.append(Constraint(q, *limits, band, q.name, problem.condition_of(given)))
    with place(f"[[design]] in {file}"):
        study = Study(
            problem.flows,
            problem.start,
            problem.bounds,
            objective if config.objective.minimize is not None else Negative(objective),
            constraints,
            objective.name,
            problem.options,
            problem.weights,
            config.optimizer.inner_product,
            config.optimizer.length,
        )
    with place(f"[optimizer] in {file}"):
        choose(config.optimizer.method, int(study.variables.free.sum()), study.kinds, study.names[1:])
    with place(f"[objective] subject_to in {file}"):
        check_feasible(study)
    return study


def optimise(work: Job, problem: Problem) -> None:
    """Search, report, put the optimum to the test, draw."""
    from fluidgrad.design.minimize import ITERATIONS, TOLERANCE
    from fluidgrad.design.optimization import optimize

    study = study_of(problem, work.name)
    options = work.config.optimizer
    sign = 1.0 if work.config.objective and work.config.objective.minimize else -1.0
    name = study.names[0]
    units = named_units(problem.quantities[0].units, name, work.config, problem.dim)
    units = "" if units == "1" else f" {units}"
    work.say(f"{'minimizing' if sign > 0 else 'maximizing'} {name} over {int(study.variables.free.sum())} numbers")
    work.say("compiling (compiled programs are kept for the next run)")
    limit = options.max_iterations or ITERATIONS
    with place(f"[optimizer] in {work.name}"), watched(work, study.names, sign, limit) as progress:
        kept = {key: getattr(options, key) for key in ("method", "max_iterations", "tolerance", "patience", "restarts")}
        try:
            found = optimize(study, work.folder, **kept, progress=progress)
        except NotConverged as error:
            relative = [i for i, c in enumerate(study.constraints) if c.relative]
            if not relative or (work.folder / "journal.jsonl").exists():
                raise
            asked = f"[objective] subject_to[{relative[0]}] in {work.name} is relative to the start, which cannot be evaluated"
            raise NotConverged(f"{asked}: {error}", error.report, error.solution) from None
    limits = [limit_of(c, found.start[key]) for c, key in zip(study.constraints, study.names[1:], strict=True)]
    output.write_csv(work.folder / "history.csv", *progress.history())
    work.say(f"{found.method_reason}; {found.evaluations} evaluations, stopped: {found.reason}")
    infeasible = found.violation > (TOLERANCE if options.tolerance is None else options.tolerance)
    if not found.converged and not infeasible:
        work.say(f"warning: the search had not converged: KKT residual {found.kkt_residual:.1e}, violation {found.violation:.1e}")
    output.write_arrays(work.folder / "design.npz", **{f"start/{quote(k, safe='')}": v for k, v in study.start.items()},
                        **{f"optimum/{quote(k, safe='')}": v for k, v in found.design.items()})  # fmt: skip

    before = _again(problem, study, study.start, found.start_state)
    after = _again(problem, study, found.design, found.state)
    here = {"start": figures_of(problem, name, before), "optimum": figures_of(problem, name, after)}
    save_solution(work.folder, before[0], work.config, "_start")
    save_solution(work.folder, after[0], work.config)
    names = [c.name for c in work.config.condition]
    others = {file_name(c, names): solution for c, solution in zip(names[1:], after[1:], strict=True)}
    for condition, solution in others.items():
        save_solution(work.folder, solution, work.config, f"_{condition}")
    first, last = (here[which][name]["value"] for which in ("start", "optimum"))
    gain = share(first, last, sign)
    result = {
        "kind": "design",
        "finished": False,
        "converged": found.converged,
        "feasible": not infeasible,
        "objective": name,
        "sense": "minimize" if sign > 0 else "maximize",
        "improvement": gain,
        "start": here["start"],
        "optimum": here["optimum"],
        "must": {q.name: limit for limit, q in zip(limits, problem.constraints, strict=True)},
        "kkt_residual": found.kkt_residual,
        "violation": found.violation,
        "multipliers": found.multipliers,
        "method": found.method,
        "method_reason": found.method_reason,
        "reason": found.reason,
        "evaluations": found.evaluations,
        "iterations": found.iterations,
        "residuals": {"primal": max(s.report.residual for s in before), "primal_optimum": max(s.report.residual for s in after),
                      "adjoint": max((r for s in found.history for r in s.report.get("adjoint_residuals", [])), default=None)},
        "cells": before[0].flow.mesh.n_cells,
        "dim": problem.dim,
    }  # fmt: skip
    gained = "which violates the constraints" if infeasible else f"{better(first, last, gain)}"
    work.say(f"on {before[0].flow.mesh.n_cells} cells: {name} {first:.6g} -> {last:.6g}{units}, {gained}")
    for limit, q in zip(limits, problem.constraints, strict=True):
        work.say(f"  {q.name}: {here['start'][q.name]['value']:.6g} -> {here['optimum'][q.name]['value']:.6g}, must {limit}")
    output.write_json(work.folder / "results.json", result)
    if any(path.startswith("mesh.") for path in study.start):
        with work.doing("maps of the walls: compiling, and one adjoint solve each"):
            wall_maps.save(work.folder, problem.quantities[0], problem.weights, (before, after))
    if work.config.output.figures:
        with work.doing("drawing"):
            draw_design(work.folder, work.labels, problem, found.design, (before[0], after[0]), name, others)
    if work.config.output.stability:
        result["stability"] = stability(work, {"start": before, "optimum": after})
    result["derivative_check"] = derivatives(work, study, found)
    result["finer_mesh"] = finer(work, problem, study, found.design, (before, after), (first, last), sign)
    output.write_json(work.folder / "results.json", result | {"finished": True, "seconds": round(work.seconds, 1)})
    if infeasible:
        raise NotConverged(_missed(study, found))
    if "message" in result["derivative_check"]:
        raise Failed(result["derivative_check"]["message"])


def _missed(study: Study, found: Result) -> str:
    """That no design met the constraints, and by how much the best one fails."""

    def gap(row: tuple[Constraint, float, float]) -> float:
        (low, high), value = row[0].within(row[1]), row[2]
        return max(low - value, value - high) / max(abs(x) for x in (low, high, 1e-300) if np.isfinite(x))

    ends = (list(values.values())[1:] for values in (found.start, found.optimum))
    c, start, value = max(zip(study.constraints, *ends, strict=True), key=gap)
    other = ["another start", "wider bounds", "another limit"]
    if study.inner_product == "parameters" and any(path.startswith("mesh.") for path in study.start):
        other.append('optimizer.inner_product = "H1" with a length')
    if found.method not in ("CCSAQ", "MMA"):
        other.append('optimizer.method = "MMA"' + (" with a band" if any(c.equals is not None for c in study.constraints) else ""))
    return (
        f"no feasible design was found: {c.name} is {value:.6g} at the nearest and must {limit_of(c, start)} ({found.reason}). "
        f"Try {', '.join(other[:-1])}, or {other[-1]}."
    )


def _again(problem: Problem, study: Study, design: Mapping[str, Any], state: Any) -> list[Solution]:
    """The solution of a design in each condition, from the states that the search kept: no more than a step."""
    import jax
    import jax.numpy as jnp

    design, flows = jax.tree.map(jnp.asarray, design), study.flows
    return [problem.solve(flow(design), begin) for flow, begin in zip(flows, jnp.split(jnp.asarray(state), len(flows)), strict=True)]
