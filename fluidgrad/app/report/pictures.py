"""The pictures of a run, from what is in its folder: what a command draws, ``report`` draws again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidgrad.app.config.paths import steps
from fluidgrad.app.config.problem import Problem
from fluidgrad.app.config.quantities import in_space
from fluidgrad.app.report import wall_maps
from fluidgrad.app.report.output import read_csv
from fluidgrad.design.limits import limit_at, limit_of
from fluidgrad.plots import flow as flow_plots
from fluidgrad.plots import mesh as mesh_plots
from fluidgrad.plots import sensitivity as sensitivity_plots
from fluidgrad.plots import study as study_plots
from fluidgrad.plots import walls as wall_plots
from fluidgrad.plots.interpolation import geometry
from fluidgrad.plots.style import Labels

if TYPE_CHECKING:
    from fluidgrad.derivatives.maps import Line
    from fluidgrad.flow.flow import Flow
    from fluidgrad.flow.solution import Solution


def draw_simulation(folder: Path, labels: Labels, solution: Solution) -> None:
    flow_plots.mesh(folder / "figures" / "mesh.png", solution.flow.mesh, solution.flow.walls, labels)
    mesh_plots.quality(folder / "figures" / "quality.png", solution.flow.mesh, solution.flow.walls, labels)
    flow_plots.speed(folder / "figures" / "speed.png", solution, labels)
    draw_fields(folder / "figures", labels, solution)


def draw_fields(out: Path, labels: Labels, solution: Solution, title: str = "") -> None:
    """Pressure, vorticity, stream function where there is one, and what acts on the walls."""
    flow_plots.pressure(out / "pressure.png", solution, labels, title)
    flow_plots.vorticity(out / "vorticity.png", solution, labels, title)
    if flow_plots.stream_function(solution) is not None:
        flow_plots.streamlines(out / "stream_function.png", solution, labels, title)
    if solution.flow.walls:
        wall_plots.walls(out / "walls.png", solution, labels, title)


def draw_design(
    folder: Path,
    labels: Labels,
    problem: Problem,
    design: Mapping[str, Any],
    flows: Sequence[Solution],
    name: str,
    others: Mapping[str, Solution],
) -> None:
    """Mesh, flows, history, and the design before and after; of other conditions the flow at the optimum."""
    out = folder / "figures"
    before, after = flows
    draw_history(folder, labels, problem, name)  # first: it reads a file, which may be damaged
    walls = before.flow.walls
    flow_plots.mesh(out / "mesh.png", before.flow.mesh, walls, labels)
    mesh_plots.quality(out / "quality.png", before.flow.mesh, walls, labels)
    most = max(float(np.linalg.norm(np.asarray(s.velocity), axis=1).max()) for s in (*flows, *others.values()))
    flow_plots.speed(out / "speed_start.png", before, labels, "start", most)
    flow_plots.speed(out / "speed.png", after, labels, "optimum", most)
    draw_fields(out, labels, after, "optimum")
    for condition, solution in others.items():
        flow_plots.speed(out / f"speed_{condition}.png", solution, labels, f"optimum, {condition}", most)
    inflows = problem.config.boundary
    flat = before.flow.mesh.dim == 2
    profiles = [path for path in design if flat and path.startswith("boundary.") and inflows[steps(path)[1]].kind == "inflow"]
    fields = [path for path in design if path == "porosity.density" and np.size(design[path]) == before.flow.mesh.n_cells]
    numbers = [path for path in design if path not in profiles + fields]
    if profiles:
        patches = list(dict.fromkeys(steps(path)[1] for path in profiles))
        ends = {p: getattr(inflows[p], "profile", None) is not None for p in patches}
        # bounds of speeds can be drawn beside speeds; those of a mean cannot
        limits = {steps(d.vary)[1]: d.bounds for d in problem.config.design if d.vary in profiles
                  and d.vary.endswith((".values", ".speed")) and all(isinstance(b, float) for b in d.bounds)}  # fmt: skip
        lines = [{p: study_plots.profile(flow.flow, p, ends[p]) for p in patches} for flow in flows]
        study_plots.profiles(out / "design.png", *lines, limits, labels)
    for path in fields:
        flow_plots.resistance(out / "design_porosity.png", before.flow.mesh, np.asarray(design[path]), walls, labels, "optimum")
    if numbers:
        start = problem.start
        file = "design_numbers.png" if profiles or fields else "design.png"
        study_plots.values(out / file, {p: start[p] for p in numbers}, {p: design[p] for p in numbers}, problem.bounds)
    if any(path.startswith("mesh.") for path in design):
        flow_plots.mesh(out / "mesh_optimum.png", after.flow.mesh, walls, labels, "optimum")
        mesh_plots.quality(out / "quality_optimum.png", after.flow.mesh, walls, labels, "optimum")
        meshes = before.flow.mesh, after.flow.mesh
        study_plots.outlines(out / "shape.png", *meshes, wall_maps.moved(*meshes, walls), walls, labels)
        powers, length = in_space(problem.quantities[0].units, name, problem.dim), problem.config.output.smoothing_length
        wall_maps.draw(folder, labels, name, powers, meshes, length)


def draw_history(folder: Path, labels: Labels, problem: Problem, name: str) -> None:
    """Objective and violation of each constraint so far."""
    history = read_csv(folder / "history.csv")
    done = [i for i, failed in enumerate(history["failed"]) if not failed]

    def column(key: str) -> np.ndarray:
        return np.array([float(history[key][i]) for i in done])

    violations = {}
    assert problem.config.objective is not None
    names = list(history)[3 : 3 + len(problem.constraints)]  # after evaluation, iteration and the objective
    for constraint, key in zip(problem.config.objective.subject_to, names, strict=True):
        value = column(key)
        first = float(value[0]) if len(value) else 0.0
        ends = ((constraint.equals if end is None else end) for end in (constraint.at_least, constraint.at_most))
        low, high = (None if end is None else limit_at(end, first) for end in ends)
        size = max(abs(first), *(abs(end) for end in (low, high) if end is not None), 1e-300)
        over = [np.zeros_like(value), *([low - value] if low is not None else []), *([value - high] if high is not None else [])]
        violations[f"{key} must {limit_of(constraint, first)}"] = np.max(over, axis=0) / size
    label = labels(name, in_space(problem.quantities[0].units, name, problem.dim))
    study_plots.history(folder / "figures" / "history.png", [int(history["evaluation"][i]) for i in done], column(name).tolist(),
                        violations, label)  # fmt: skip


def draw_sensitivity(
    folder: Path,
    labels: Labels,
    flow: Flow,
    maps: Any,
    objective: Any,
    rows: Sequence[Mapping[str, Any]],
    smooth: Mapping[str, Line],
    error: np.ndarray | None,
) -> None:
    """The maps (of walls also the smoothed ones), the numbers, and where the error comes from."""
    units = in_space(objective.units, objective.name, flow.mesh.dim)
    sensitivity_plots.draw_maps(folder / "figures", maps, flow, objective.name, units, labels, smooth)
    if error is not None:
        density = error / geometry(flow.mesh).V
        by, title = labels.over("error of J", units, f"L^{flow.mesh.dim}"), f"J = {objective.name}"
        sensitivity_plots.signed_field(folder / "figures" / "error.png", flow.mesh, density, by, flow.walls, labels, title)
    bars = [(r["number"], r["per_cent"]) for r in rows]
    sensitivity_plots.table(folder / "figures" / "numbers.png", bars, labels("change of J per 1 %", units), f"J = {objective.name}")


def draw_check(folder: Path, curves: Sequence[Mapping[str, Any]], name: str) -> None:
    study_plots.check(folder / "figures" / "check.png", curves, f"derivatives of {name}")
