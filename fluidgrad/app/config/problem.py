"""A config made ready to compute: its case, and its functionals as functions of a solution.

Whatever can be refused before a solve is refused here, with the place in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidgrad.app.config.config import Condition, Config, Constraint, Sum
from fluidgrad.app.config.quantities import Quantity, named_units, quantity, total
from fluidgrad.app.config.sections import LARGEST, place
from fluidgrad.errors import InputError, NotConverged

if TYPE_CHECKING:
    from fluidgrad.app.config.case import Case
    from fluidgrad.flow.flow import Flow
    from fluidgrad.flow.solution import Solution


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
        mesh, joined = flow.mesh, flow.joined
        objective, constraints = None, []
        if config.objective is not None:
            key = "minimize" if config.objective.minimize is not None else "maximize"
            sought = config.objective.sought
            several = isinstance(sought, Sum)
            terms = []
            for i, call in enumerate(sought.sum if several else [sought]):
                with place(f"[objective] {key}{f'.sum[{i}]' if several else ''} in {file}"):
                    terms.append(quantity(call, mesh, joined))
                    cls._try(case, terms[-1])
            objective = total(sought, terms, mesh.dim) if several else terms[0]
            for i, c in enumerate(config.objective.subject_to):
                with place(f"[objective] subject_to[{i}] in {file}"):
                    found = quantity(c, mesh, joined)
                    cls._try(case, found)
                    constraints.append(replace(found, name=f"{found.name} in {c.condition}") if c.condition else found)
        problem = cls(config, case, objective, tuple(constraints))
        for i, d in enumerate(config.design):
            with place(f"[[design]] {i + 1} vary in {file}"):
                case.design(d.vary)
        for i, c in enumerate(config.condition):
            with place(f"[[condition]] {i + 1} set in {file}"):
                cls._check_condition(case, c, [d.vary for d in config.design])
        return problem

    @staticmethod
    def _check_condition(case: Case, condition: Condition, design: list[str]) -> None:
        import jax.numpy as jnp

        from fluidgrad.flow.flow import check_flow

        for path, start in case.design(*condition.set).items():
            if path in design:
                raise InputError(f"{path!r} is a design", accepted="numbers that no [[design]] varies")
            if (most := np.abs(np.asarray(condition.set[path])).max(initial=0.0)) > LARGEST:
                raise InputError(f"{path} = {most:g} is beyond reason", accepted=f"sizes up to {LARGEST:g}")
            if np.shape(condition.set[path]) != np.shape(start):
                raise InputError(f"{path} of shape {np.shape(condition.set[path])}", accepted=f"one of shape {np.shape(start)}")
        check_flow(case.flow_of({path: jnp.asarray(value, float) for path, value in condition.set.items()}))

    @staticmethod
    def _try(case: Case, quantity: Quantity) -> None:
        """Trace a functional without computing it, for what it refuses."""
        import jax
        import jax.numpy as jnp

        from fluidgrad.flow.solution import Solution

        def shape(numbers: Any) -> Any:
            flow = case.build(numbers)
            return quantity(Solution(flow, jnp.zeros(flow.n_unknowns), None))  # pyright: ignore[reportArgumentType]

        try:
            found = jax.eval_shape(shape, case.numbers)
        except InputError:
            raise
        except (Exception, SystemExit) as error:  # a user's own functional may raise anything
            what = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
            raise InputError(
                f"{quantity.name} cannot be evaluated: {what}", "arguments of the right shapes, and a function that JAX can trace"
            ) from error
        if np.issubdtype(getattr(found, "dtype", float), np.complexfloating):
            raise InputError(f"{quantity.name} is complex", "a real number: the real part of it, or its size")
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
    def flows(self) -> tuple[Callable[[dict[str, Any]], Flow], ...]:
        """Design -> flow, compiled: one, or one for each condition."""
        import jax

        build = jax.jit(lambda given, design: self.case.flow_of(given | design))
        sets = [c.set for c in self.config.condition] or [{}]
        return tuple(partial(build, {path: np.asarray(value, float) for path, value in given.items()}) for given in sets)

    @cached_property
    def of_interest(self) -> Callable[[tuple[str, ...], tuple[str, ...], Solution], list[Any]]:
        """The values of :func:`of_interest`, compiled: one program for all of them, and for the start as for the optimum."""
        import jax

        def values(turning: tuple[str, ...], driving: tuple[str, ...], solution: Solution) -> list[Any]:
            return [q(solution) for q in of_interest(self, solution.flow, turning, driving)]

        return jax.jit(values, static_argnums=(0, 1))

    @property
    def flow_of(self) -> Callable[[dict[str, Any]], Flow]:
        """Design -> flow, of the first condition."""
        return self.flows[0]

    @property
    def weights(self) -> list[float]:
        return [c.weight for c in self.config.condition] or [1.0]

    def condition_of(self, constraint: Constraint) -> int:
        """The number of the condition that a constraint is of."""
        return [c.name for c in self.config.condition].index(constraint.condition) if constraint.condition else 0

    def values_of(self) -> Callable[[dict[str, Any]], Any]:
        """Design -> objective and constraints, by one solve for each condition."""
        import jax.numpy as jnp

        def values(design: dict[str, Any]) -> Any:
            solutions = [self.solve(flow(design)) for flow in self.flows]
            assert self.config.objective is not None and self.objective is not None
            objective = sum(w * self.objective(s) for w, s in zip(self.weights, solutions, strict=True))
            given = zip(self.constraints, self.config.objective.subject_to, strict=True)
            return jnp.stack([objective, *(q(solutions[self.condition_of(c)]) for q, c in given)])

        return values

    def solve(self, flow: Flow, start: Any = None) -> Solution:
        from fluidgrad.solve.steady import solve_steady

        return solve_steady(flow, start, **self.options)

    @property
    def options(self) -> dict[str, Any]:
        """Those of ``solve_steady``. Of what runs on one device nothing is said: so it was before there were several."""
        solver = self.config.solver
        more = {"devices": solver.devices} if solver.devices > 1 else {}
        return {"tolerance": solver.tolerance, "linear": solver.linear} | more


def objective_of(problem: Problem, file: str = "the config") -> Quantity:
    """The objective, or a message that there is none to differentiate."""
    if problem.objective is None:
        raise InputError(
            f"{file} has no [objective] to differentiate", accepted='[objective] with minimize = { functional = "drag", patch = "body" }'
        )
    return problem.objective


def figures(problem: Problem, solution: Solution) -> dict[str, dict[str, Any]]:
    """The numbers of a solution: objective, constraints, and what is always of interest, by name, with units."""
    flow = solution.flow
    found = {q.name: q for q in problem.quantities}
    turning = tuple(p for p in flow.walls if flow.boundary[p].turns)  # pyright: ignore
    driving = tuple(p for p in flow.periodic if p in flow.driven or np.any(np.asarray(flow.boundary[p].pressure_drop) != 0))  # pyright: ignore
    extra = of_interest(problem, flow, turning, driving)
    try:
        values = {name: float(q(solution)) for name, q in found.items()}
    except InputError as error:  # one that not every flow has
        raise NotConverged(f"the flow was found, but {error}.", solution.report, solution) from None
    if wrong := [name for name, value in values.items() if not np.isfinite(value)]:
        raise NotConverged(f"the flow was found, but {wrong[0]} is {values[wrong[0]]} there.", solution.report, solution)
    values |= {q.name: float(value) for q, value in zip(extra, problem.of_interest(turning, driving, solution), strict=True)}
    units = {q.name: q.units for q in (*problem.quantities, *extra)}
    return {
        name: {"value": value, "units": named_units(units[name], name, problem.config, flow.mesh.dim)} for name, value in values.items()
    }


def of_interest(problem: Problem, flow: Flow, turning: Sequence[str], driving: Sequence[str]) -> list[Quantity]:
    """What is asked of every solution, and is not among a problem's quantities; of which walls turn and which periodic patches
    drive the flow is known."""
    from fluidgrad.flow import functionals as f
    from fluidgrad.flow.boundary import center_of
    from fluidgrad.flow.measures import encloses

    extra: list[Quantity] = []

    def ask(functional: f.Functional, *patches: str, of: Callable[[Solution], Any] | None = None) -> None:
        of = of or (lambda s: functional.function(s, *patches))
        extra.append(Quantity(f"{functional.name}({', '.join(patches)})", functional.units, of))

    def turning_moment(patch: str, s: Solution) -> Any:
        return f.moment.function(s, patch, center=center_of(s.flow.mesh, patch, s.flow.boundary[patch]))  # pyright: ignore[reportArgumentType]

    kinds = {name: type(kind).__name__ for name, kind in flow.boundary.items()}
    for patch in flow.walls:
        for force in (f.drag, f.lift) + ((f.drag_coefficient, f.lift_coefficient) if flow.reference and patch != "walls" else ()):
            ask(force, patch)
        if patch in turning:
            ask(f.moment, patch, of=partial(turning_moment, patch))
        if encloses(flow.mesh.topology, patch):
            ask(f.area, patch)
    inlets = [n for n, k in kinds.items() if k in ("Inflow", "PressureInlet")]
    outlets = [n for n, k in kinds.items() if k == "Outflow"]
    for patch in inlets + outlets:
        ask(f.flow_rate, patch)
    if inlets and outlets:
        ask(f.pressure_drop, *inlets, *outlets, of=lambda s: f.pressure_drop.function(s, inlets, outlets))
    for patch in driving:
        if patch in flow.driven:
            ask(f.pressure_drop, patch, flow.boundary[patch].other)  # pyright: ignore[reportAttributeAccessIssue]
        else:
            ask(f.flow_rate, patch)
    ask(f.dissipation)
    extra += [part for q in problem.quantities for part in q.parts]
    names = [q.name for q in (*problem.quantities, *extra)]
    return [q for i, q in enumerate(extra, len(names) - len(extra)) if q.name not in names[:i]]


def figures_of(problem: Problem, name: str, solutions: Sequence[Solution]) -> dict[str, dict[str, Any]]:
    """The numbers of a design: those of the first condition, the objective over all, constraints in their own, and each
    condition's objective under its name."""
    conditions = problem.config.condition
    each = [figures(problem, s) for s in solutions]
    found = {k: dict(v) for k, v in each[0].items()}
    if not conditions:
        return found
    found[name]["value"] = sum(w * one[name]["value"] for w, one in zip(problem.weights, each, strict=True))
    assert problem.config.objective is not None
    for q, c in zip(problem.constraints, problem.config.objective.subject_to, strict=True):
        found[q.name] = each[problem.condition_of(c)][q.name]
    return found | {f"{name} in {c.name}": one[name] for c, one in zip(conditions, each, strict=True)}
