"""``fluidgrad sensitivity``: the objective's derivative with respect to everything, and how exact the objective is.

From one adjoint solve come the maps (``fluidgrad.sensitivity``) and the derivative by every number of the file; from a
second one on a mesh of twice the cells along every line the objective's discretisation error (``fluidgrad.error_estimate``).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidgrad.app.config.problem import Problem, objective_of
from fluidgrad.app.config.quantities import in_space, named_units
from fluidgrad.app.report import output
from fluidgrad.app.report.pictures import draw_sensitivity, draw_simulation
from fluidgrad.app.report.screen import NORMAL
from fluidgrad.app.report.solutions import save_solution, solve_report
from fluidgrad.app.report.wall_maps import smoothed
from fluidgrad.app.runs.confirmation import refined, stability
from fluidgrad.app.runs.jobs import Job, job
from fluidgrad.errors import Failed, InputError, NotConverged
from fluidgrad.files import file_name
from fluidgrad.plots.style import ratio

if TYPE_CHECKING:
    from fluidgrad.app.config.quantities import Quantity
    from fluidgrad.derivatives.accuracy import ErrorEstimate
    from fluidgrad.derivatives.maps import Line, Sensitivity
    from fluidgrad.flow.solution import Solution

MOST = 500_000  # cells of a finer mesh: an adjoint there takes minutes
DISTURBANCE = 1e-3  # of a state, relative, that no functional of the flow can miss


def sensitivity(
    config: str, settings: Sequence[str] = (), imports: Sequence[str] = (), level: int = NORMAL, root: str | Path = "runs"
) -> Path:
    """The objective's derivative with respect to fields and to every number of the file, from one adjoint solve."""
    import jax

    from fluidgrad import sensitivity as maps_of

    with job(config, settings, imports, level, root) as work:
        work.say(f"fluidgrad sensitivity {work.name}: building the case")
        problem = Problem.of(work.config, work.name)
        objective = objective_of(problem, work.name)
        output.save_inputs(work.folder, work.config, work.imports)
        numbers = problem.case.numbers
        flow = problem.case.flow(numbers)
        with work.doing("compiling and solving"):
            began = time.perf_counter()
            solution = problem.solve(flow)
            solved = time.perf_counter() - began
            maps = maps_of(objective, flow, solution, **problem.options)
        estimate, accuracy = _estimate(work, solution)
        # the maps spread single numbers over faces and cells: sum them up again, and carry them back to the file's numbers
        derivative = jax.tree.map(_summed, flow, maps.flow)
        (by_number,) = jax.vjp(problem.case.flow, numbers)[1](derivative)
        rows = _rows(numbers, by_number)
        units = named_units(objective.units, objective.name, work.config, flow.mesh.dim)
        named = "" if units == "1" else f" {units}"
        error = f" +- {abs(estimate.error):.2g} (estimated)" if estimate else ""
        work.say(f"J = {objective.name} = {maps.value:.8g}{error}{named}; adjoint residual {maps.report.adjoint_residual:.1e}")
        if estimate:
            better = f"{estimate.value + estimate.error:.8g}{named}"
            work.say(f"  without the mesh's error about {better}, estimated by an adjoint on {accuracy['finer_cells']} cells")
        else:
            work.say(f"  the mesh's error is not estimated: {accuracy['reason']}")
        _print_rows(work, rows)
        table = [
            (r["number"], i, v, d, 0.01 * v * d) for r in rows for i, v, d in zip(r["index"], r["value"], r["derivative"], strict=True)
        ]
        output.write_csv(work.folder / "derivatives.csv", ("number", "index", "value", "per_unit", "per_per_cent"), table)
        powers = in_space(objective.units, objective.name, problem.dim)
        fields = {
            "sensitivity_porosity": (np.asarray(maps.porosity), ratio(powers, f"T^-1 L^{problem.dim}"), "dJ/d(porosity), per volume"),
            "sensitivity_force": (np.asarray(maps.force), ratio(powers, f"T^-2 L^{problem.dim + 1}"), "dJ/d(force), per volume"),
        }
        if estimate:
            fields["error_of_objective"] = np.asarray(estimate.cells), powers, "part of J's discretisation error that the cell makes"
        save_solution(work.folder, solution, work.config, more=fields)
        smooth = _save_maps(work, maps, estimate)
        result = {
            "kind": "sensitivity",
            "finished": True,
            "converged": True,
            "objective": {"name": objective.name, "value": maps.value, "units": units},
            "accuracy": accuracy,
            "per_per_cent": {r["number"]: r["per_cent"] for r in rows},
            "solve": solve_report(solution, solved, work.config.solver.devices),
            "adjoint": {"residual": maps.report.adjoint_residual, "products": maps.report.adjoint_products},
        }
        if work.config.output.stability:
            result["stability"] = stability(work, {"flow": [solution]})
        output.write_json(work.folder / "results.json", result)
        if _cut_off(objective, solution, maps):
            raise Failed(
                f"the derivative of {objective.name} is exactly zero in everything, and yet it changes with the flow: "
                "something in it cuts the derivative off (stop_gradient, an integer, NumPy in place of jax.numpy)"
            )
        if work.config.output.figures:
            with work.doing("drawing"):
                draw_simulation(work.folder, work.labels, solution)
                draw_sensitivity(work.folder, work.labels, flow, maps, objective, rows, smooth, estimate and np.asarray(estimate.cells))
        work.say(f"done in {work.seconds:.0f} s")
    return work.folder


def _cut_off(objective: Quantity, solution: Solution, maps: Sensitivity) -> bool:
    """Whether there is no derivative where there ought to be one: a disturbed state gives another value."""
    import jax

    if any(np.asarray(leaf).any() for leaf in jax.tree.leaves(maps.flow)):
        return False
    return float(objective(replace(solution, state=solution.state * (1 + DISTURBANCE)))) != float(objective(solution))


def _estimate(work: Job, solution: Solution) -> tuple[ErrorEstimate | None, dict[str, Any]]:
    """The objective's discretisation error, and what results.json says of it: if there is none, why."""
    from fluidgrad import error_estimate

    if not work.config.output.finer_mesh:
        return None, {"estimated": False, "reason": "output.finer_mesh = false"}
    try:
        dim = solution.flow.mesh.dim
        if (cells := 2**dim * solution.flow.mesh.n_cells) > MOST:
            raise InputError(f"the finer mesh would have {cells} cells", accepted=f"at most {MOST}")
        fine = refined(work)
        objective = objective_of(fine, work.name)
        with work.doing(f"the adjoint on {cells} cells, for the error of the mesh"):
            found = error_estimate(objective, solution, fine.case.flow(fine.case.numbers), work.config.solver.linear)
    except (InputError, NotConverged) as error:
        return None, {"estimated": False, "reason": str(error)}
    parts = {"error": found.error, "without_error": found.value + found.error, "of_the_functional": found.functional}
    return found, {"estimated": True, **parts, "finer_cells": cells}


def _save_maps(work: Job, maps: Sensitivity, estimate: ErrorEstimate | None) -> dict[str, Line]:
    """The maps as arrays, and those of walls as tables; returns the walls' smoothed ones."""
    patches = maps.solution.flow.boundary
    called = {patch: file_name(patch, patches) for patch in patches}
    lines = {f"{kind}/{called[patch]}/{key}": column for kind in ("wall", "inflow") for patch, line in getattr(maps, kind).items()
             for key, column in vars(line).items()}  # fmt: skip
    smooth = {patch: smoothed(line, work.config.output.smoothing_length) for patch, line in maps.wall.items()}
    lines |= {f"wall/{called[patch]}/smoothed": line.value for patch, line in smooth.items()}
    more = {} if estimate is None else {"error": estimate.cells}
    output.write_arrays(work.folder / "sensitivity.npz", porosity=maps.porosity, force=maps.force, **more, **lines)
    axes = "xyz"[: maps.solution.flow.mesh.dim]
    for patch, line in maps.wall.items():
        columns = np.column_stack([line.s, line.x, line.n, line.value, line.weight, smooth[patch].value])
        head = ["s", *axes, *(f"n{a}" for a in axes), "value", "weight", "smoothed"]
        output.write_csv(work.folder / f"wall_{called[patch]}.csv", head, columns[~np.isnan(line.value)])
    return smooth


def _summed(leaf: Any, derivative: Any) -> Any:
    """The derivative by a number that was spread over an array: the sum over the array."""
    import jax.numpy as jnp

    shape = jnp.shape(leaf)
    derivative = (
        jnp.sum(derivative, axis=tuple(range(jnp.ndim(derivative) - len(shape)))) if jnp.ndim(derivative) > len(shape) else derivative
    )
    spread = tuple(i for i, (a, b) in enumerate(zip(shape, jnp.shape(derivative), strict=True)) if a == 1 < b)
    return jnp.sum(derivative, axis=spread, keepdims=True) if spread else derivative


def _rows(numbers: Any, by_number: Any) -> list[dict[str, Any]]:
    from fluidgrad.app.config.case import get, walk

    rows = []
    for path, value in walk(numbers):
        v, d = np.ravel(value), np.ravel(get(by_number, path))
        index = [",".join(map(str, i)) for i in np.ndindex(np.shape(value))]
        rows.append(
            {"number": path, "index": index, "value": v, "derivative": d, "per_cent": float(0.01 * v @ d), "per_unit": float(d.sum())}
        )
    return rows


def _print_rows(work: Job, rows: Sequence[Mapping[str, Any]]) -> None:
    width = max(len(r["number"]) for r in rows)
    work.say(f"  {'number':<{width}}  {'value':>12}  {'dJ per unit':>12}  {'dJ per 1 %':>12}")
    for r in rows:
        n = len(r["value"])
        value = f"{r['value'][0]:.6g}" if n == 1 else f"({n} numbers)"
        work.say(f"  {r['number']:<{width}}  {value:>12}  {r['per_unit']:>+12.5g}  {r['per_cent']:>+12.5g}")
    work.say("  (of several numbers: all moved together; each by itself is in derivatives.csv)")
