"""Functionals as a config names them: a table of the file becomes a function of a solution, with its name and units."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from fluidgrad.app.config.config import Call, Config, Sum
from fluidgrad.app.config.sections import beyond, suggestion
from fluidgrad.errors import InputError

if TYPE_CHECKING:
    from fluidgrad.flow.solution import Solution
    from fluidgrad.mesh.mesh import Mesh

THROUGH = ("flow_rate", "uniformity", "roughness", "pressure_drop")  # what can be asked of a periodic patch
PER_DEPTH = ("drag", "lift", "moment", "flow_rate", "dissipation", "target_distance", "area")  # one power of L more in 3D


@dataclass(frozen=True)
class Quantity:
    """A functional with its arguments filled in."""

    name: str
    units: str
    of: Callable[[Solution], Any]
    parts: tuple[Quantity, ...] = ()  # of a sum

    def __call__(self, solution: Solution) -> Any:
        return self.of(solution)


def quantity(call: Call, mesh: Mesh, joined: Mesh | None = None) -> Quantity:
    """The functional that a table of the file names, with its arguments. ``joined`` is the mesh without periodic patches.

    Raises:
        InputError: no such functional; arguments it does not have or lacks; a patch that the mesh does not have; a place
            that is none, or outside the mesh.
    """
    from fluidgrad.flow.functionals import REGISTRY

    if call.functional not in REGISTRY:
        known = sorted(REGISTRY)
        raise InputError(
            f"there is no functional {call.functional!r}",
            beyond(call.functional) or suggestion(call.functional, known, f"one of {', '.join(known)}, or your own by --import"),
        )
    functional, given = REGISTRY[call.functional], call.arguments
    parameters = list(inspect.signature(functional.function).parameters.values())[1:]
    names = [p.name for p in parameters]
    for key in given:
        if key not in names and not any(p.kind is p.VAR_KEYWORD for p in parameters):
            takes = f"it takes {', '.join(names)}" if names else "it takes nothing else"
            raise InputError(f"{call.functional} has no argument {key!r}", suggestion(key, names, takes))
    positional: list[Any] = []
    for p in parameters:
        several = p.kind is p.VAR_POSITIONAL
        if p.name not in given and (several or p.default is p.empty) and p.kind is not p.VAR_KEYWORD:
            raise InputError(f"{call.functional} needs {p.name}", f'as in {{ functional = "{call.functional}", {p.name} = ... }}')
        if several:
            value = given.pop(p.name)
            positional += value if isinstance(value, list) else [value]
            if not positional:
                raise InputError(f"{call.functional} needs {p.name}", f'as in {{ functional = "{call.functional}", {p.name} = ... }}')
    lists = {p.name: given[p.name] for p in parameters if "Sequence[str]" in str(p.annotation) and isinstance(given.get(p.name), list)}
    if empty := [key for key, value in lists.items() if not value]:
        raise InputError(f"{call.functional} needs {empty[0]}", f'as in {{ functional = "{call.functional}", {empty[0]} = ... }}')
    each = [(p.name, v) for p in parameters if p.kind is p.VAR_POSITIONAL for v in positional]
    each += [(key, v) for key, value in given.items() for v in (value if key in lists else [value])]
    for key, value in each:
        if key in ("patch", "inlet", "outlet") and value not in mesh.patches:
            listed = f"its patches are {', '.join(mesh.patches)}"
            raise InputError(f"the mesh has no patch {value!r}", suggestion(str(value), mesh.patches, listed))
        behind = key in ("patch", "inlet", "outlet") and joined is not None and value not in joined.patches
        if joined is not None and behind and call.functional not in THROUGH:
            left = f"one of {', '.join(joined.patches)}" if joined.patches else "a functional without a patch"
            raise InputError(f"patch {value!r} is periodic: the flow goes on behind it, and nothing acts on it", accepted=left)
        if call.functional == "thickness" and key == "at":
            if type(value) not in (int, float) or not 0 < value < 1:
                raise InputError(f"at = {value}", accepted="a fraction of the chord from the front, between 0 and 1")
        elif key in ("at", "center") or (key == "velocity" and call.functional == "target_distance"):
            _check_place(key, value, mesh, inside=key == "at")
    named = [v for key, v in each if key in ("patch", "inlet", "outlet")]
    if twice := [v for i, v in enumerate(named) if v in named[:i]]:
        raise InputError(f"{call.functional} of {twice[0]!r} twice", accepted="each patch once: several are taken together")
    defaults = {p.name: p.default for p in parameters}
    arguments = {key: tuple(value) if key in lists else _argument(key, value, defaults.get(key)) for key, value in given.items()}
    units = functional.units
    if call.functional == "probe":
        units = "L^2 T^-2" if given.get("what", "pressure") == "pressure" else "L T^-1"
    return Quantity(str(call), units, lambda solution: functional(solution, *positional, **arguments))


def total(given: Sum, terms: Sequence[Quantity], dim: int) -> Quantity:
    """A weighted sum. Its units are those of its terms where they agree; else the weights are taken to make them so."""
    units = {in_space(q.units, q.name, dim) for q in terms}
    weights = [t.weight for t in given.sum]

    def of(solution: Solution) -> Any:
        return sum(w * q(solution) for w, q in zip(weights, terms, strict=True))

    return Quantity(str(given), units.pop() if len(units) == 1 else "1", of, tuple(terms))


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _argument(key: str, value: Any, default: Any) -> Any:
    """An argument as a functional takes it: text as it is, numbers as an array."""
    if isinstance(default, str) and not isinstance(value, str):
        raise InputError(f"{key} = {value}", accepted=f'text in quotes, such as "{default}"')
    if key == "radius" and not (_is_number(value) and value > 0):
        raise InputError(f"{key} = {value}", accepted="a positive number")
    if key == "p" and not (_is_number(value) and 2 <= value <= 100):
        raise InputError(f"{key} = {value}", accepted="a number from 2 to 100")
    if key == "number" and (type(value) is not int or value == 0):
        raise InputError(f"{key} = {value}", accepted="a whole number, from the start 1, 2, ..., from the end -1, -2, ...")
    if isinstance(value, bool) or not isinstance(value, int | float | list):
        return value
    try:
        array = np.asarray(value, float)
    except (ValueError, OverflowError, TypeError):
        raise InputError(f"{key} = {value}", accepted="a number, or a list of numbers") from None
    if not np.isfinite(array).all():
        raise InputError(f"{key} = {value}", accepted="finite numbers")
    return array


def _check_place(key: str, value: Any, mesh: Mesh, inside: bool) -> None:
    """Refuse what is not one place, or not in the mesh: farther from the nearest cell's centre than its points are."""
    if not isinstance(value, list) or len(value) != mesh.dim or not all(type(v) in (int, float) and abs(v) < 1e100 for v in value):
        raise InputError(f"{key} = {value}", accepted=f"{mesh.dim} numbers, in a list")
    if not inside:
        return
    t, points = mesh.topology, np.asarray(mesh.points)
    corners = np.concatenate([t.face_points, t.face_points[:1]])[np.minimum(t.cell_faces[0], t.n_faces)]
    corners = points[corners].reshape(t.n_cells, -1, mesh.dim)
    used = np.repeat(t.cell_faces[1] != 0, t.face_points.shape[1], axis=1)
    centres = (corners * used[..., None]).sum(1) / used.sum(1)[:, None]
    away = np.linalg.norm(centres - np.asarray(value), axis=1)
    nearest = int(np.argmin(away))
    if away[nearest] > 1.001 * np.max(np.linalg.norm(corners[nearest] - centres[nearest], axis=1) * used[nearest]):
        where = ", ".join(f"{x:.4g}" for x in centres[nearest])
        raise InputError(f"{key} = {value} is outside the mesh", accepted=f"a place in the flow; the nearest cell is at ({where})")


def named_units(units: str, name: str, config: Config, dim: int) -> str:
    """Units of a functional by the file's names."""
    letters = {"L": config.units.length, "T": config.units.time}
    parts = (part.partition("^") for part in in_space(units, name, dim).split())
    return " ".join(letters.get(base, base) + caret + power for base, caret, power in parts)


def in_space(units: str, name: str, dim: int) -> str:
    """Units of a functional: they are registered for 2D, where forces and flow rates are per depth."""
    if dim == 3 and name.partition("(")[0] in PER_DEPTH:
        base, _, power = units.split()[0].partition("^")
        return " ".join([f"{base}^{int(power) + 1}", *units.split()[1:]])
    return units
