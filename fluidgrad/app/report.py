"""The pictures of a run, from the data in its folder: what a command draws, ``report`` draws again."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidgrad.app import flow_plots, mesh_plots, output, sensitivity_plots, study_plots
from fluidgrad.app.fields import walls_of
from fluidgrad.app.interpolation import geometry
from fluidgrad.app.jobs import import_functionals, start_jax
from fluidgrad.app.problem import Problem, in_space, objective_of
from fluidgrad.app.reading import load
from fluidgrad.app.style import Labels
from fluidgrad.errors import InputError

if TYPE_CHECKING:
    from fluidgrad.flow import Flow, Solution


def report(folders: Sequence[str], imports: Sequence[str] = ()) -> list[Path]:
    """Draw the figures of runs again, from the data in their folders.

    Raises:
        InputError: no finished run; a run that used a file of functionals, and none was given: no folder runs code unasked.
    """
    drawn = []
    start_jax()
    given = {import_functionals(file).name for file in imports}
    for folder in map(Path, folders):
        result = output.read_json(folder / "results.json")
        config = load(folder / "config.toml")
        if missing := sorted(set(output.read_json(folder / "manifest.json").get("imports", {})) - given):
            raise InputError(
                f"{str(folder)!r} used the functionals in {missing[0]!r}",
                accepted=f"--import {folder / missing[0]} if you trust it",
            )
        problem = Problem.of(config, str(folder / "config.toml"))
        labels = Labels(config.units.length, config.units.time)
        kind = result.get("kind")
        if kind == "check":
            draw_check(folder, result["curves"], folder.name)
        elif kind == "design":
            design = {"start": {}, "optimum": {}}
            for name, value in output.read_arrays(folder / "design.npz").items():
                which, path = name.split("/")
                design[which][path] = value
            flows = [read_solution(folder / f"{file}.npz", problem.flow_of(design[which]))
                     for which, file in (("start", "solution_start"), ("optimum", "solution"))]  # fmt: skip
            draw_design(folder, labels, problem, design["optimum"], flows, read_history(folder), result["objective"])
        elif kind in ("simulation", "sensitivity"):
            flow = problem.case.flow(problem.case.numbers)
            draw_simulation(folder, labels, read_solution(folder / "solution.npz", flow))
            if kind == "sensitivity":
                draw_sensitivity(folder, labels, flow, read_maps(folder), objective_of(problem), read_rows(folder))
        else:
            raise InputError(f"{str(folder)!r} holds no finished run", accepted="the folder of a run, check or sensitivity")
        print(folder)
        for name, figure in (result.get("figures") or result.get("optimum") or {}).items():
            print(f"  {name}  {figure['value']:.8g} {figure['units'] if figure['units'] != '1' else ''}".rstrip())
        drawn += sorted((folder / "figures").glob("*.png"))
    return drawn


def draw_simulation(folder: Path, labels: Labels, solution: Solution) -> None:
    flow_plots.mesh(folder / "figures" / "mesh.png", solution.flow.mesh, walls_of(solution.flow), labels)
    mesh_plots.quality(folder / "figures" / "quality.png", solution.flow.mesh, walls_of(solution.flow), labels)
    flow_plots.speed(folder / "figures" / "speed.png", solution, labels)
    flow_plots.pressure(folder / "figures" / "pressure.png", solution, labels)


def draw_design(
    folder: Path,
    labels: Labels,
    problem: Problem,
    design: Mapping[str, Any],
    flows: Sequence[Solution],
    history: Mapping[str, list],
    name: str,
) -> None:
    """Mesh, flows, history, and the design before and after."""
    out = folder / "figures"
    before, after = flows
    walls = walls_of(before.flow)
    flow_plots.mesh(out / "mesh.png", before.flow.mesh, walls, labels)
    mesh_plots.quality(out / "quality.png", before.flow.mesh, walls, labels)
    most = max(float(np.linalg.norm(np.asarray(s.velocity), axis=1).max()) for s in flows)
    flow_plots.speed(out / "speed_start.png", before, labels, "start", most)
    flow_plots.speed(out / "speed.png", after, labels, "optimum", most)
    flow_plots.pressure(out / "pressure.png", after, labels, "optimum")
    label = labels(name, in_space(problem.quantities[0].units, name, before.flow.mesh.dim))
    done = [i for i, failed in enumerate(history["failed"]) if not failed]
    values, violation = ([float(history[key][i]) for i in done] for key in (name, "violation"))
    study_plots.history(
        out / "history.png", [int(history["evaluation"][i]) for i in done], values, violation if problem.constraints else None, label
    )
    inflows = problem.config.boundary
    flat = before.flow.mesh.dim == 2
    profiles = [path for path in design if flat and path.startswith("boundary.") and inflows[path.split(".")[1]].kind == "inflow"]
    fields = [path for path in design if path == "porosity.density" and np.size(design[path]) == before.flow.mesh.n_cells]
    numbers = [path for path in design if path not in profiles + fields]
    if profiles:
        patches = list(dict.fromkeys(path.split(".")[1] for path in profiles))
        ends = {p: getattr(inflows[p], "profile", None) is not None for p in patches}
        # bounds of speeds can be drawn beside speeds; those of a mean cannot
        limits = {d.vary.split(".")[1]: d.bounds for d in problem.config.design if d.vary in profiles
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
        study_plots.outlines(out / "shape.png", before.flow.mesh, after.flow.mesh, walls, labels)


def draw_sensitivity(folder: Path, labels: Labels, flow: Flow, maps: Any, objective: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    units = in_space(objective.units, objective.name, flow.mesh.dim)
    sensitivity_plots.draw_maps(folder / "figures", maps, flow, objective.name, units, labels)
    bars = [(r["number"], r["per_cent"]) for r in rows]
    sensitivity_plots.table(folder / "figures" / "numbers.png", bars, labels("change of J per 1 %", units), f"J = {objective.name}")


def draw_check(folder: Path, curves: Sequence[Mapping[str, Any]], name: str) -> None:
    study_plots.check(folder / "figures" / "check.png", curves, f"derivatives of {name}")


# ---- data of a folder


def save_solution(file: Path, solution: Solution) -> None:
    g = geometry(solution.flow.mesh)
    output.write_arrays(file, state=solution.state, velocity=solution.velocity, pressure=solution.pressure, x_cell=g.x_cell, volume=g.V)


def read_solution(file: Path, flow: Flow) -> Solution:
    """A saved solution, on the flow that it solves."""
    import jax.numpy as jnp

    from fluidgrad.flow import Solution

    state = output.read_arrays(file)["state"]
    if state.shape != (flow.n_unknowns,):
        raise InputError(
            f"{str(file)!r} holds {state.size} unknowns, the flow has {flow.n_unknowns}", accepted="the config and data of one run"
        )
    return Solution(flow, jnp.asarray(state), None)  # pyright: ignore[reportArgumentType]


def read_history(folder: Path) -> dict[str, list[Any]]:
    """The columns of ``history.csv``."""
    with (folder / "history.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {k: [r[k] for r in rows] for k in rows[0]} if rows else {}


def read_maps(folder: Path) -> Any:
    """The saved maps of a sensitivity."""
    arrays = output.read_arrays(folder / "sensitivity.npz")
    found: dict[str, dict[str, Any]] = {"wall": {}, "inflow": {}}
    for name, value in arrays.items():
        if "/" in name:
            kind, patch, key = name.split("/")
            setattr(found[kind].setdefault(patch, SimpleNamespace()), key, value)
    return SimpleNamespace(porosity=arrays["porosity"], force=arrays["force"], **found)


def read_rows(folder: Path) -> list[dict[str, Any]]:
    """What the picture of the table needs of ``derivatives.csv``."""
    total: dict[str, float] = {}
    with (folder / "derivatives.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            total[row["number"]] = total.get(row["number"], 0.0) + float(row["per_per_cent"])
    return [{"number": number, "per_cent": value} for number, value in total.items()]
