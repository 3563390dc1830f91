"""An optimisation from a config: the search with its progress, what it found, and whether a finer mesh agrees."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidgrad.app import output
from fluidgrad.app.interpolation import interpolated
from fluidgrad.app.jobs import Job
from fluidgrad.app.problem import Problem, Quantity, figures, named_units
from fluidgrad.app.report import draw_design, read_history, save_solution
from fluidgrad.app.sections import place
from fluidgrad.errors import InputError, NotConverged

if TYPE_CHECKING:
    from fluidgrad.flow import Flow, Solution
    from fluidgrad.minimize import Step
    from fluidgrad.optimization import Result
    from fluidgrad.study import Constraint, Study

VANISHED = 0.5  # of a gain must remain on the finer mesh
MISSED = 1e-6  # relative violation of constraints that no design can mend


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
    from fluidgrad.optimizers import choose
    from fluidgrad.study import Constraint, Study

    config, objective = problem.config, problem.objective
    assert config.objective is not None and objective is not None
    constraints = []
    for i, (given, q) in enumerate(zip(config.objective.subject_to, problem.constraints, strict=True)):
        band = config.optimizer.band if given.equals is not None else None
        with place(f"[objective] subject_to[{i}] in {file}"):
            constraints.append(Constraint(q, given.equals, given.at_most, given.at_least, band, q.name))
    with place(f"[[design]] in {file}"):
        study = Study(
            problem.flow_of,
            problem.start,
            problem.bounds,
            objective if config.objective.minimize is not None else Negative(objective),
            constraints,
            objective.name,
            {"tolerance": config.solver.tolerance, "linear": config.solver.linear},
        )
    with place(f"[optimizer] in {file}"):
        choose(config.optimizer.method, int(study.variables.free.sum()), [c.interval for c in constraints], study.names[1:])
    with place(f"[objective] subject_to in {file}"):
        check_feasible(study)
    return study


def check_feasible(study: Study) -> None:
    """Refuse constraints that no admissible design meets, among those that need no flow to be known (such as the flow
    rate of an inflow): where the start misses them, the least sum of squared violations within the bounds is sought.

    Raises:
        InputError: naming the constraint that is missed by most, and its nearest value.
    """
    import jax
    import jax.numpy as jnp
    import scipy.optimize

    from fluidgrad.flow import Solution

    if not study.constraints:
        return
    variables = study.variables
    flow = study.flow(variables.tree(variables.start))

    @jax.jit
    def values(flow: Flow, state: Any) -> Any:
        return jnp.stack([c.functional(Solution(flow, state, None)) for c in study.constraints])  # pyright: ignore[reportArgumentType]

    states = np.random.default_rng(0).normal(size=(2, flow.n_unknowns))
    one, other = (np.asarray(values(flow, jnp.asarray(state))) for state in states)
    known = [int(i) for i in np.flatnonzero(one == other)]
    low, high = np.array([study.constraints[i].interval for i in known]).reshape(-1, 2).T
    scale = np.maximum(np.abs(np.where(np.isfinite(low), low, high)), 1e-12)

    def missed(v: Any) -> Any:
        return (jnp.maximum(v - high, 0) + jnp.maximum(low - v, 0)) / scale

    if np.max(missed(one[np.array(known, int)]), initial=0.0) <= MISSED:
        return

    @jax.jit
    @jax.value_and_grad
    def distance(x: Any) -> Any:
        return jnp.sum(missed(values(study.flow(variables.tree(x)), states[0])[np.array(known)]) ** 2)

    def squared(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = distance(x)
        return float(value), np.asarray(gradient)

    bounds = [(a if np.isfinite(a) else None, b if np.isfinite(b) else None) for a, b in zip(variables.lower, variables.upper, strict=True)]
    options = {"ftol": 0, "gtol": 1e-14, "maxiter": 500}
    tries = [scipy.optimize.minimize(squared, x, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
             for x in (variables.start, variables.random(0))]  # fmt: skip
    best = min(tries, key=lambda found: float(found.fun))
    nearest = np.asarray(values(study.flow(variables.tree(best.x)), states[0]))[np.array(known)]
    gap = np.asarray(missed(nearest))
    if gap.max() > MISSED:
        i = int(gap.argmax())
        c = study.constraints[known[i]]
        others = " with the other constraints" if len(known) > 1 else ""
        raise InputError(
            f"the constraints are infeasible: {c.name} cannot {_limit(c)}{others}, the nearest within the bounds is {nearest[i]:.6g}",
            accepted="wider bounds, or another limit",
        )


def optimise(work: Job, problem: Problem) -> None:
    """Search, report, check on a finer mesh, draw."""
    from fluidgrad.minimize import TOLERANCE
    from fluidgrad.optimization import optimize

    study = study_of(problem, work.name)
    options = work.config.optimizer
    sign = 1.0 if work.config.objective and work.config.objective.minimize else -1.0
    labels, dim = work.labels, problem.case.flow(problem.case.numbers).mesh.dim
    units = named_units(problem.quantities[0].units, study.names[0], work.config, dim)
    work.say(f"{'minimizing' if sign > 0 else 'maximizing'} {study.names[0]} over {int(study.variables.free.sum())} numbers")
    work.say("compiling (compiled programs are kept for the next run)")
    with place(f"[optimizer] in {work.name}"):
        found = optimize(study, work.folder, method=options.method, max_iterations=options.max_iterations, tolerance=options.tolerance,
                         progress=_progress(work, sign))  # fmt: skip
    work.say(f"{found.method_reason}; {found.evaluations} evaluations, stopped: {found.reason}")
    infeasible = found.violation > (TOLERANCE if options.tolerance is None else options.tolerance)
    if not found.converged and not infeasible:
        work.say(f"warning: the search had not converged: KKT residual {found.kkt_residual:.1e}, violation {found.violation:.1e}")
    rows = history_rows(found, sign)
    output.write_csv(work.folder / "history.csv", rows[0], rows[1:])
    output.write_arrays(work.folder / "design.npz", **{f"start/{k}": v for k, v in study.start.items()},
                        **{f"optimum/{k}": v for k, v in found.design.items()})  # fmt: skip

    before = _again(problem, study, study.start, found.start_state)
    after = _again(problem, study, found.design, found.state)
    here = {"start": figures(problem, before), "optimum": figures(problem, after)}
    save_solution(work.folder / "solution_start.npz", before)
    save_solution(work.folder / "solution.npz", after)
    gain = (
        sign
        * (here["start"][study.names[0]]["value"] - here["optimum"][study.names[0]]["value"])
        / abs(here["start"][study.names[0]]["value"])
    )
    result = {
        "kind": "design",
        "converged": found.converged,
        "feasible": not infeasible,
        "objective": study.names[0],
        "sense": "minimize" if sign > 0 else "maximize",
        "improvement": gain,
        "start": here["start"],
        "optimum": here["optimum"],
        "kkt_residual": found.kkt_residual,
        "violation": found.violation,
        "multipliers": found.multipliers,
        "method": found.method,
        "method_reason": found.method_reason,
        "reason": found.reason,
        "evaluations": found.evaluations,
        "iterations": found.iterations,
        "residuals": {"primal": before.report.residual, "primal_optimum": after.report.residual,
                      "adjoint": max((r for s in found.history for r in s.report.get("adjoint_residuals", [])), default=None)},
        "cells": before.flow.mesh.n_cells,
    }  # fmt: skip
    work.say(f"on {before.flow.mesh.n_cells} cells: {study.names[0]} {here['start'][study.names[0]]['value']:.6g} -> "
             f"{here['optimum'][study.names[0]]['value']:.6g} {units}, "
             + ("which violates the constraints" if infeasible else f"better by {100 * gain:.2f} %"))  # fmt: skip
    for c, q in zip(study.constraints, problem.constraints, strict=True):
        work.say(f"  {q.name}: {here['start'][q.name]['value']:.6g} -> {here['optimum'][q.name]['value']:.6g}, must {_limit(c)}")
    output.write_json(work.folder / "results.json", result)
    work.say("drawing")
    draw_design(work.folder, labels, problem, found.design, (before, after), read_history(work.folder), study.names[0])
    result["finer_mesh"] = finer(work, problem, study, found.design, (before, after), gain, sign)
    result["seconds"] = round(work.seconds, 1)
    output.write_json(work.folder / "results.json", result)
    if infeasible:
        raise NotConverged(_missed(study, found))


def _limit(c: Constraint) -> str:
    """What a constraint asks, in words."""
    kind, value = next((k, v) for k in ("equals", "at_most", "at_least") if (v := getattr(c, k)) is not None)
    word = {"equals": "equal", "at_most": "be at most", "at_least": "be at least"}[kind]
    return f"{word} {value:g}" + (f" within {0.5 * c.band:g}" if c.band else "")


def _missed(study: Study, found: Result) -> str:
    """That no design met the constraints, and by how much the best one fails."""

    def gap(row: tuple[Constraint, float]) -> float:
        (low, high), value = row[0].interval, row[1]
        return max(low - value, value - high) / max(abs(x) for x in (low, high, 1e-300) if np.isfinite(x))

    c, value = max(zip(study.constraints, list(found.optimum.values())[1:], strict=True), key=gap)
    return (
        f"no feasible design was found: {c.name} is {value:.6g} at the nearest and must {_limit(c)} ({found.reason}). "
        "Try another start, wider bounds, or another limit."
    )


def _again(problem: Problem, study: Study, design: Mapping[str, Any], state: Any) -> Solution:
    """The solution of a design from a state that the search kept: no more than a step."""
    import jax
    import jax.numpy as jnp

    return problem.solve(study.flow(jax.tree.map(jnp.asarray, design)), jnp.asarray(state))


def _progress(work: Job, sign: float) -> Callable[[Step], None]:
    """A line for each evaluation."""
    began = time.perf_counter()
    work.say(
        f"  {'iteration':>9} {'objective':>14} {'violation':>10} {'gradient':>10} {'KKT':>9} {'primal':>9} {'adjoint':>9} {'seconds':>8}"
    )

    def show(step: Step) -> None:
        seconds = time.perf_counter() - began
        if step.values is None:
            work.say(f"  {step.iteration:>9} failed: {step.failed}")
            return
        r = step.report
        adjoint = max(r.get("adjoint_residuals") or [0.0])
        work.say(f"  {step.iteration:>9} {sign * step.values[0]:>14.8g} {step.violation:>10.2e} {step.gradient_norm:>10.3e}"
                 f" {step.kkt_residual:>9.2e} {r.get('primal_residual', 0.0):>9.1e} {adjoint:>9.1e} {seconds:>8.1f}")  # fmt: skip

    return show


def history_rows(found: Result, sign: float) -> list[list[Any]]:
    """The search as a table, its head first."""
    names = list(found.optimum)
    solves = ["primal_residual", "adjoint_residual", "adjoint_products", "seconds", "failed"]
    rows: list[list[Any]] = [["evaluation", "iteration", *names, "violation", "gradient_norm", "kkt_residual", *solves]]
    for s in found.history:
        values = [None] * len(names) if s.values is None else [sign * s.values[0], *s.values[1:]]
        r = s.report
        adjoint, products = max(r.get("adjoint_residuals") or [0.0]), sum(r.get("adjoint_products") or [0])
        went = [r.get("primal_residual"), adjoint, products, r.get("seconds"), s.failed or ""]
        rows.append([s.evaluation, s.iteration, *values, s.violation, s.gradient_norm, s.kkt_residual, *went])
    return rows


def finer(
    work: Job, problem: Problem, study: Study, design: Mapping[str, Any], coarse: tuple[Solution, Solution], gain: float, sign: float
) -> dict[str, Any]:
    """The start and the optimum again on a mesh of twice the cells along every line: does the gain remain?"""
    refined = work.config.mesh.model_copy(update={"refine": 2 * work.config.mesh.refine})
    config = work.config.model_copy(update={"mesh": refined})
    try:
        if refined.kind == "file":
            raise InputError("a mesh file cannot be refined")
        fine = Problem.of(config, work.name)
        sizes = {path: np.shape(value) for path, value in fine.case.design(*study.start).items()}
        if any(np.shape(value) != sizes[path] for path, value in study.start.items()):
            raise InputError("the design has one number for each cell or face")
        cells = fine.case.flow(fine.case.numbers).mesh.n_cells
        work.say(f"again on {cells} cells (refine = {refined.refine})")
        names, values = study.names, []
        for x, known in zip((study.start, design), coarse, strict=True):
            flow = fine.flow_of(dict(x))
            values.append(figures(fine, fine.solve(flow, interpolated(known, flow))))
    except (InputError, NotConverged) as error:
        work.say(f"warning: not compared on a finer mesh: {error}")
        return {"compared": False, "reason": str(error)}
    a, b = (v[names[0]]["value"] for v in values)
    remains = sign * (a - b) / abs(a)
    vanished = bool(remains < VANISHED * gain)
    work.say(f"  {names[0]} {a:.6g} -> {b:.6g}, better by {100 * remains:.2f} % (on the mesh of the search: {100 * gain:.2f} %)")
    if vanished:
        work.say("warning: the gain vanishes on the finer mesh: it belongs to the mesh, not to the flow. Search again with more cells.")
    return {"compared": True, "refine": refined.refine, "cells": cells, "improvement": remains, "vanished": vanished,
            "start": values[0], "optimum": values[1]}  # fmt: skip
