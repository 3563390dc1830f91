"""A config made ready to compute: its case, and its functionals as functions of a solution.

Whatever can be refused before a solve is refused here, with the place in the file.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidgrad.app.config import Call, Config
from fluidgrad.app.sections import place, suggestion
from fluidgrad.errors import InputError, NotConverged

if TYPE_CHECKING:
    from fluidgrad.app.case import Case
    from fluidgrad.flow import Flow, Solution
    from fluidgrad.mesh import Mesh

PER_DEPTH = ("drag", "lift", "moment", "flow_rate", "dissipation", "target_distance", "area")  # one power of L more in 3D


@dataclass(frozen=True)
class Quantity:
    """A functional with its arguments filled in."""

    name: str
    units: str
    of: Callable[[Solution], Any]

    def __call__(self, solution: Solution) -> Any:
        return self.of(solution)


def quantity(call: Call, mesh: Mesh, joined: Mesh | None = None) -> Quantity:
    """The functional that a table of the file names, with its arguments. ``joined`` is the mesh without periodic patches.

    Raises:
        InputError: no such functional; arguments it does not have or lacks; a patch that the mesh does not have; a place
            that is none, or outside the mesh.
    """
    from fluidgrad.functionals import REGISTRY

    if call.functional not in REGISTRY:
        known = sorted(REGISTRY)
        raise InputError(
            f"there is no functional {call.functional!r}",
            suggestion(call.functional, known, f"one of {', '.join(known)}, or your own by --import"),
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
    for key, value in [(p.name, v) for p in parameters if p.kind is p.VAR_POSITIONAL for v in positional] + list(given.items()):
        if key in ("patch", "inlet", "outlet") and value not in mesh.patches:
            listed = f"its patches are {', '.join(mesh.patches)}"
            raise InputError(f"the mesh has no patch {value!r}", suggestion(str(value), mesh.patches, listed))
        if key in ("patch", "inlet", "outlet") and joined is not None and value not in joined.patches:
            left = f"one of {', '.join(joined.patches)}" if joined.patches else "a functional without a patch"
            raise InputError(f"patch {value!r} is periodic: the flow goes on behind it, and nothing acts on it", accepted=left)
        if key in ("at", "center") or (key == "velocity" and call.functional == "target_distance"):
            _check_place(key, value, mesh, inside=key == "at")
    defaults = {p.name: p.default for p in parameters}
    arguments = {key: _argument(key, value, defaults.get(key)) for key, value in given.items()}
    units = functional.units
    if call.functional == "probe":
        units = "L^2 T^-2" if given.get("what", "pressure") == "pressure" else "L T^-1"
    return Quantity(str(call), units, lambda solution: functional(solution, *positional, **arguments))


def _argument(key: str, value: Any, default: Any) -> Any:
    """An argument as a functional takes it: text as it is, numbers as an array."""
    if isinstance(default, str) and not isinstance(value, str):
        raise InputError(f"{key} = {value}", accepted=f'text in quotes, such as "{default}"')
    if key == "radius" and not (isinstance(value, int | float) and value > 0):
        raise InputError(f"{key} = {value}", accepted="a positive number")
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


@dataclass(frozen=True, eq=False)
class Problem:
    """A config made ready: its case, and the objective and constraints as functions of a solution."""

    config: Config
    case: Case
    objective: Quantity | None
    constraints: tuple[Quantity, ...]

    @classmethod
    def of(cls, config: Config, file: str) -> Problem:
        """Everything that can be refused before a solve is refused here."""
        case = config.case(file)
        flow = case.flow(case.numbers)
        mesh, joined = flow.mesh, flow.joined[0]
        objective, constraints = None, []
        if config.objective is not None:
            key = "minimize" if config.objective.minimize is not None else "maximize"
            with place(f"[objective] {key} in {file}"):
                objective = quantity(config.objective.call, mesh, joined)
                cls._try(case, objective)
            for i, c in enumerate(config.objective.subject_to):
                with place(f"[objective] subject_to[{i}] in {file}"):
                    constraints.append(quantity(c, mesh, joined))
                    cls._try(case, constraints[-1])
        problem = cls(config, case, objective, tuple(constraints))
        for i, d in enumerate(config.design):
            with place(f"[[design]] {i + 1} vary in {file}"):
                case.design(d.vary)
        return problem

    @staticmethod
    def _try(case: Case, quantity: Quantity) -> None:
        """Trace a functional without computing it, for what it refuses."""
        import jax
        import jax.numpy as jnp

        from fluidgrad.flow import Solution

        def shape(numbers: Any) -> Any:
            flow = case.build(numbers)
            return quantity(Solution(flow, jnp.zeros(flow.n_unknowns), None))  # pyright: ignore[reportArgumentType]

        try:
            found = jax.eval_shape(shape, case.numbers)
        except InputError:
            raise
        except Exception as error:  # a user's own functional may raise anything
            what = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
            raise InputError(
                f"{quantity.name} cannot be evaluated: {what}", "arguments of the right shapes, and a function that JAX can trace"
            ) from error
        if getattr(found, "shape", None) != ():
            raise InputError(
                f"{quantity.name} is not one number, but has shape {getattr(found, 'shape', None)}", "a functional returns a scalar"
            )

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        return (() if self.objective is None else (self.objective,)) + self.constraints

    @cached_property
    def dim(self) -> int:
        return self.case.flow(self.case.numbers).mesh.dim

    @property
    def start(self) -> dict[str, Any]:
        return self.case.design(*(d.vary for d in self.config.design))

    @property
    def bounds(self) -> dict[str, Any]:
        return {d.vary: tuple(np.asarray(b, float) for b in d.bounds) for d in self.config.design}

    @cached_property
    def flow_of(self) -> Callable[[dict[str, Any]], Flow]:
        """Design -> flow, compiled."""
        import jax

        return jax.jit(self.case.flow_of)

    def values_of(self) -> Callable[[dict[str, Any]], Any]:
        """Design -> objective and constraints, by one solve."""
        import jax.numpy as jnp

        def values(design: dict[str, Any]) -> Any:
            solution = self.solve(self.flow_of(design))
            return jnp.stack([q(solution) for q in self.quantities])

        return values

    def solve(self, flow: Flow, start: Any = None) -> Solution:
        from fluidgrad.steady import solve_steady

        return solve_steady(flow, start, tolerance=self.config.solver.tolerance, linear=self.config.solver.linear)


def objective_of(problem: Problem, file: str = "the config") -> Quantity:
    """The objective, or a message that there is none to differentiate."""
    if problem.objective is None:
        raise InputError(
            f"{file} has no [objective] to differentiate", accepted='[objective] with minimize = { functional = "drag", patch = "body" }'
        )
    return problem.objective


def figures(problem: Problem, solution: Solution) -> dict[str, dict[str, Any]]:
    """The numbers of a solution: objective, constraints, and what is always of interest, by name, with units."""
    import jax

    from fluidgrad import functionals as f

    flow = solution.flow
    found = {q.name: q for q in problem.quantities}
    kinds = {name: type(kind).__name__ for name, kind in flow.boundary.items()}
    walls = [name for name, kind in kinds.items() if kind == "Wall"]
    extra: list[tuple[str, str, Callable[[Solution], Any]]] = []
    for patch in walls:
        for force in (f.drag, f.lift) + ((f.drag_coefficient, f.lift_coefficient) if flow.reference and patch != "walls" else ()):
            extra.append((f"{force.name}({patch})", force.units, lambda s, force=force, patch=patch: force.function(s, patch)))
        if np.any(np.asarray(flow.boundary[patch].rotation) != 0):  # pyright: ignore
            extra.append((f"moment({patch})", f.moment.units, lambda s, p=patch: f.moment.function(s, p, center=s.flow.boundary[p].center)))
    inlets = [n for n, k in kinds.items() if k in ("Inflow", "PressureInlet")]
    outlets = [n for n, k in kinds.items() if k == "Outflow"]
    for patch in inlets + outlets:
        extra.append((f"flow_rate({patch})", f.flow_rate.units, lambda s, patch=patch: f.flow_rate.function(s, patch)))
    if len(inlets) == len(outlets) == 1:
        name = f"pressure_drop({inlets[0]}, {outlets[0]})"
        extra.append((name, f.pressure_drop.units, lambda s: f.pressure_drop.function(s, inlets[0], outlets[0])))
    for i, patch in enumerate(flow.driven):
        extra.append((f"pressure_drop({patch}, {flow.boundary[patch].other})", f.pressure_drop.units, lambda s, i=i: s.pressure_drop[i]))  # pyright: ignore
    extra.append(("dissipation()", f.dissipation.units, f.dissipation.function))
    extra = [e for e in extra if e[0] not in found]
    values = {name: float(q(solution)) for name, q in found.items()}
    if wrong := [name for name, value in values.items() if not np.isfinite(value)]:
        raise NotConverged(f"the flow was found, but {wrong[0]} is {values[wrong[0]]} there.", solution.report, solution)
    # one program for all of them: each alone would be compiled by itself
    computed = jax.jit(lambda s: [of(s) for _, _, of in extra])(solution)
    values |= {name: float(value) for (name, _, _), value in zip(extra, computed, strict=True)}
    units = {name: q.units for name, q in found.items()} | {name: unit for name, unit, _ in extra}
    return {
        name: {"value": value, "units": named_units(units[name], name, problem.config, flow.mesh.dim)} for name, value in values.items()
    }


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
