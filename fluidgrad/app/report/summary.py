"""What the members of a sweep found, together: ``sweep.nc``, ``sweep.csv``, a picture and a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidgrad.app.report import output, page
from fluidgrad.app.report.solutions import netcdf
from fluidgrad.errors import InputError
from fluidgrad.files import write
from fluidgrad.plots import study as study_plots

if TYPE_CHECKING:
    import xarray

NUMBERS = ("improvement", "kkt_residual", "violation", "evaluations", "seconds")


def summarize(folder: Path) -> Path:
    """Write what there is so far; returns the page.

    Raises:
        InputError: not the folder of a sweep, or a damaged one.
    """
    plan = plan_of(folder)
    members = [folder / name for name in plan["members"]]
    keys, over, values = plan["keys"], plan["over"], plan["values"]
    found = [result_of(member) for member in members]
    data = dataset(keys, over, found, [m.name for m in members])
    write(folder / "sweep.nc", netcdf(data))
    columns = list(dict.fromkeys(name for f in found for name in f["numbers"]))
    rows = [[m.name, *map(_plain, v), *(f["numbers"].get(c) for c in columns), f["message"]]
            for m, v, f in zip(members, values, found, strict=True)]  # fmt: skip
    output.write_csv(folder / "sweep.csv", ["member", *keys, *columns, "message"], rows)
    picture = None
    named = next((f["objective"] for f in found if f["objective"]), None)
    if named and isinstance(over[0][0], int | float) and not isinstance(over[0][0], bool):
        lines: dict[str, tuple[list[float], list[float]]] = {}
        for value, f in zip(values, found, strict=True):
            if named in f["numbers"]:
                label = ", ".join(f"{k.rpartition('.')[2]} = {_plain(v)}" for k, v in zip(keys[1:], value[1:], strict=True))
                x, y = lines.setdefault(label, ([], []))
                x.append(float(value[0]))
                y.append(f["numbers"][named])
        units = next((page.units(f["units"][named]) for f in found if named in f["units"]), "")
        if lines:
            picture = study_plots.sweep(folder / "figures" / "sweep.png", lines, keys[0], f"{named} [{units}]" if units else named)
    return page.compare(members, folder / "report.html", picture)


def plan_of(folder: Path) -> dict[str, Any]:
    """What a sweep is over: keys, their values, members.

    Raises:
        InputError: not the folder of a sweep, or a damaged one.
    """
    plan = output.read_json(folder / "sweep.json")
    kinds = {"keys": str, "over": list, "members": str, "values": list, "imports": str}
    whole = all(isinstance(plan.get(key), list) and all(isinstance(x, kind) for x in plan[key]) for key, kind in kinds.items())
    if not whole or not plan["members"] or not all(plan["over"]) or not _fits(plan):
        raise InputError(f"{str(folder / 'sweep.json')!r} is damaged", accepted="the folder of a sweep")
    return plan


def _fits(plan: Mapping[str, Any]) -> bool:
    count = math.prod(map(len, plan["over"]))
    rows = all(len(row) == len(plan["keys"]) for row in plan["values"])
    return rows and len(plan["keys"]) == len(plan["over"]) and count == len(plan["members"]) == len(plan["values"])


def dataset(keys: Sequence[str], over: Sequence[Sequence[Any]], found: Sequence[Mapping[str, Any]], names: Sequence[str]) -> xarray.Dataset:
    """Figures over the swept values, NaN where a member has none (yet); ``message`` says why."""
    import xarray

    shape = [len(values) for values in over]
    coordinates = {key: _coordinate(values) for key, values in zip(keys, over, strict=True)}
    data = xarray.Dataset(coords=coordinates)
    for name in dict.fromkeys(name for f in found for name in f["numbers"]):
        units = next((f["units"][name] for f in found if name in f["units"]), "1")
        column = np.array([float(f["numbers"].get(name, np.nan)) for f in found]).reshape(shape)
        data[name] = (tuple(keys), column, {"units": units})
    data["finished"] = (tuple(keys), np.array([f["finished"] for f in found], bool).reshape(shape))
    data["member"] = (tuple(keys), np.array(names).reshape(shape))
    data["message"] = (tuple(keys), np.array([f["message"] for f in found], dtype=str).reshape(shape))
    return data


def result_of(member: Path) -> dict[str, Any]:
    """What a run found: numbers by name with units; of an optimisation those at the optimum, and at the start under another name."""
    numbers: dict[str, float] = {}
    units: dict[str, str] = {}
    try:
        result = output.read_json(member / "results.json") if (member / "results.json").exists() else {}
        for which, prefix in (("optimum", ""), ("figures", ""), ("start", "start of ")):
            for name, figure in result.get(which, {}).items():
                if figure["value"] is not None:  # as JSON has what is not finite
                    numbers[prefix + name], units[prefix + name] = float(figure["value"]), figure["units"]
        for which, row in result.get("stability", {}).items():
            if row["known"]:  # over a swept Reynolds number they say where the flow loses its stability
                name = "start of growth_rate" if which == "start" else "growth_rate"
                numbers[name], units[name] = float(row["growth_rate"]), row["units"]
        numbers |= {name: result[name] for name in NUMBERS if isinstance(result.get(name), int | float)}
    except (InputError, KeyError, TypeError, ValueError, AttributeError) as error:
        result = {"message": f"damaged: {error}"}
    done = bool(result.get("finished"))
    failed = member / "failed.txt"
    message = "" if done else result.get("message") or (failed.read_text(encoding="utf-8").strip() if failed.exists() else "not run yet")
    objective = result.get("objective") or next(iter(result.get("figures", {})), None)
    return {"numbers": numbers, "units": units, "finished": done, "message": message, "objective": objective}


def _coordinate(values: Sequence[Any]) -> np.ndarray:
    """Numbers as numbers; anything else as its text."""
    plain = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
    return np.array(values, float) if plain else np.array([_plain(v) for v in values])


def _plain(value: Any) -> Any:
    return output.toml_value(value) if isinstance(value, bool | list | dict) else value
