"""``fluidgrad report``: pictures and page of runs again, from the data in their folders; several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

from fluidgrad import device
from fluidgrad.app.config.problem import Problem, objective_of
from fluidgrad.app.config.reading import load
from fluidgrad.app.report import output, page
from fluidgrad.app.report.pictures import draw_check, draw_design, draw_history, draw_sensitivity, draw_simulation
from fluidgrad.app.report.solutions import read_solution
from fluidgrad.app.report.summary import summarize
from fluidgrad.app.runs.jobs import import_functionals
from fluidgrad.errors import InputError
from fluidgrad.files import check_writable, file_name
from fluidgrad.plots.style import Labels

FINISHED = "the folder of a finished run, check or sensitivity"


def report(folders: Sequence[str], imports: Sequence[str] = (), file: str | Path = "") -> list[Path]:
    """Draw the figures of runs again and write their pages; of several runs also one that compares them, into ``file``.

    Returns the pages.

    Raises:
        InputError: no run; damaged data; a run that used a file of functionals, and none was given: no folder runs code
            unasked.
    """
    if file and len(folders) < 2:
        raise InputError(f"--output {file}, but one run", accepted="several runs: their comparison is written there")
    if file:
        check_writable(Path(file))
    device.start()
    given = {import_functionals(file).name for file in imports}
    pages = []
    for folder in map(Path, folders):
        if (folder / "sweep.json").exists():
            pages.append(summarize(folder))
            print(pages[-1])
            continue
        try:
            _draw(folder, given)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, InputError):
                raise
            what = f"what is in {str(folder)!r} does not fit together ({type(error).__name__}: {error})"
            raise InputError(what, accepted=FINISHED) from None
        pages.append(page.write(folder))
        print(pages[-1])
    if len(folders) > 1 and not any((Path(f) / "sweep.json").exists() for f in folders):
        pages.append(page.compare([Path(f) for f in folders], Path(file or Path(folders[0]).parent / "comparison.html")))
        print(pages[-1])
    return pages


def _draw(folder: Path, given: set[str]) -> None:
    if not (folder / "config.toml").is_file() or not (folder / "manifest.json").is_file():
        raise InputError(f"{str(folder)!r} is not the folder of a run", accepted=FINISHED)
    result = output.read_json(folder / "results.json") if (folder / "results.json").exists() else {}
    config = load(folder / "config.toml")
    if missing := sorted(set(output.read_json(folder / "manifest.json").get("imports", {})) - given):
        raise InputError(
            f"{str(folder)!r} used the functionals in {missing[0]!r}", accepted=f"--import {folder / missing[0]} if you trust it"
        )
    problem = Problem.of(config, str(folder / "config.toml"))
    labels = Labels(config.units.length, config.units.time)
    kind = result.get("kind")
    if kind == "check":
        draw_check(folder, result["curves"], folder.name)
    elif kind == "design":
        design: dict[str, dict[str, Any]] = {"start": {}, "optimum": {}}
        for name, value in output.read_arrays(folder / "design.npz").items():
            which, path = name.split("/")
            design[which][unquote(path)] = value
        flows = [read_solution(folder / f"solution{of}.npz", problem.flow_of(design[which]))
                 for which, of in (("start", "_start"), ("optimum", ""))]  # fmt: skip
        names = [c.name for c in config.condition]
        others = {file: read_solution(folder / f"solution_{file}.npz", flow(design["optimum"]))
                  for file, flow in zip([file_name(c, names) for c in names[1:]], problem.flows[1:], strict=True)}  # fmt: skip
        draw_design(folder, labels, problem, design["optimum"], flows, result["objective"], others)
    elif kind in ("simulation", "sensitivity"):
        flow = problem.case.flow(problem.case.numbers)
        draw_simulation(folder, labels, read_solution(folder / "solution.npz", flow))
        if kind == "sensitivity":
            maps = _maps(folder, {file_name(patch, flow.boundary): patch for patch in flow.boundary})
            draw_sensitivity(folder, labels, flow, maps, objective_of(problem), _rows(folder), maps.smooth, maps.error)
    elif (folder / "history.csv").exists():
        draw_history(folder, labels, problem, objective_of(problem).name)
    elif not (folder / "journal.jsonl").exists() and not result:
        raise InputError(f"{str(folder)!r} holds no run", accepted=FINISHED)


def _maps(folder: Path, patches: Mapping[str, str]) -> Any:
    """The saved maps of a sensitivity; ``patches`` by what they are called in files."""
    from fluidgrad.derivatives.maps import Line

    arrays = output.read_arrays(folder / "sensitivity.npz")
    found: dict[str, dict[str, dict[str, Any]]] = {"wall": {}, "inflow": {}}
    for name, value in arrays.items():
        if "/" in name:
            kind, patch, key = name.split("/")
            found[kind].setdefault(patches[patch], {})[key] = value
    smooth = {patch: columns.pop("smoothed") for patch, columns in found["wall"].items()}
    lines = {kind: {patch: Line(**columns) for patch, columns in patches.items()} for kind, patches in found.items()}
    smooth = {patch: replace(lines["wall"][patch], value=value) for patch, value in smooth.items()}
    return SimpleNamespace(porosity=arrays["porosity"], force=arrays["force"], error=arrays.get("error"), smooth=smooth, **lines)


def _rows(folder: Path) -> list[dict[str, Any]]:
    """What the picture of the table needs of ``derivatives.csv``."""
    table = output.read_csv(folder / "derivatives.csv")
    total: dict[str, float] = {}
    for number, value in zip(table["number"], table["per_per_cent"], strict=True):
        total[number] = total.get(number, 0.0) + float(value)
    return [{"number": number, "per_cent": value} for number, value in total.items()]
