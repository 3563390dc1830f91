"""Optimization of a study, with a journal that it can be resumed from.

An evaluation is one primal solve and, for each functional that depends on the flow, one transposed solve with the factor
that the primal left behind. It is a pure function of the design and of the state that the solve starts from.

Every evaluation is in the journal, with that state, before the optimizer sees it. To resume is to repeat the search with
the journal answering for as long as it can (``minimize.py``, ``journal.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fluidgrad.derivatives import derivative
from fluidgrad.design.journal import Journal, Record
from fluidgrad.design.minimize import TOLERANCE, Step, Trial, minimize
from fluidgrad.design.optimizers import choose
from fluidgrad.design.study import Functional, Study, name_of
from fluidgrad.design.variables import Variables
from fluidgrad.errors import InputError, NotConverged, OutOfReach
from fluidgrad.flow.flow import Flow
from fluidgrad.flow.solution import Solution
from fluidgrad.solve.steady import solve_steady


@dataclass(frozen=True)
class Result:
    """What an optimization found, in the user's numbers.

    Attributes:
        design: the optimum, a pytree like the study's start.
        converged: whether it is one, to the tolerance; if not, it is the best design met.
        start, optimum: the functionals by name, there and here.
        kkt_residual, violation: at the optimum, scaled (``minimize.py``).
        multipliers: of the constraints by name: change of the optimal objective per unit of the constraint's value.
        evaluations, iterations: their numbers.
        reason: why the search ended.
        method, method_reason: which method, and why that one.
        state, start_state: the flow at the optimum and at the start (``solve_steady(flow, start=...)``); of several flows
            one after the other.
        history: every evaluation.
    """

    design: Any
    converged: bool
    start: dict[str, float]
    optimum: dict[str, float]
    kkt_residual: float
    violation: float
    multipliers: dict[str, float]
    evaluations: int
    iterations: int
    reason: str
    method: str
    method_reason: str
    state: Float[np.ndarray, " unknowns"]
    start_state: Float[np.ndarray, " unknowns"]
    history: tuple[Step, ...] = field(repr=False)

    @property
    def improvement(self) -> float:
        """The objective's decrease as a share of its size at the start."""
        before, after = (next(iter(values.values())) for values in (self.start, self.optimum))
        return (before - after) / abs(before) if before else float("nan")

    def __str__(self) -> str:
        rows = [f"{name}: {self.start[name]:.6g} -> {value:.6g}" for name, value in self.optimum.items()]
        rows[0] += f" ({-100 * self.improvement:+.2f} %)"
        return "\n".join([*rows, f"{self.method}, {self.evaluations} evaluations: {self.reason}"])


def optimize(
    study: Study,
    folder: str | Path | None = None,
    *,
    method: str | None = None,
    max_iterations: int | None = None,
    tolerance: float | None = None,
    progress: Callable[[Step], None] | None = None,
) -> Result:
    """Minimize a study's objective under its constraints.

    Args:
        study: what to optimize. The start need not satisfy the constraints.
        folder: for the journal; the same call with the same folder resumes, and gives the same result to the bit as
            one that was never interrupted.
        method: of ``optimizers.METHODS``; by default from the numbers of variables and constraints.
        max_iterations, tolerance, progress: as for ``minimize``.

    A trial that cannot be evaluated (no convergence, a tangled mesh) is recorded, and the method is told to go back.
    What the disk or the machine cannot do ends the search instead, and leaves its journal as it was. Each solve starts
    from the state at the nearest design evaluated before.

    Raises:
        InputError: a method that cannot take the constraints; a folder with the journal of another study, or without
            a state that is needed.
        NotConverged: the start cannot be evaluated.
    """
    variables, intervals, names = study.variables, [c.interval for c in study.constraints], study.names
    tolerance = TOLERANCE if tolerance is None else tolerance
    method, why = choose(method, int(variables.free.sum()), [*intervals, *variables.linear], names[1:])
    journal = Journal(folder, _describe(study, method, tolerance))
    replay = iter(list(journal.records))

    def answer(x: np.ndarray) -> Trial:
        record = next(replay, None)
        if record is None:
            record = _evaluated(study, x, journal)
        elif record["design"] != x.tolist():
            advice = "resume with the versions and the number of threads it was begun with, or start again in another folder"
            raise InputError(f"evaluation {record['evaluation']} of {folder} is not of the design that {method} asks for", accepted=advice)
        shape = (len(names), x.size) if record["failed"] is None else (0, x.size)
        gradients = np.array(record["gradients"], float).reshape(shape)
        return Trial(np.array(record["values"], float), gradients, record["failed"], record["report"])

    found = minimize(answer, variables, intervals, names[1:], method, max_iterations, tolerance, progress)
    first, best = found.history[0], found.history[found.best]
    assert first.values is not None and best.values is not None
    return Result(
        design=variables.tree(best.design),
        converged=found.converged,
        start=dict(zip(names, first.values.tolist(), strict=True)),
        optimum=dict(zip(names, best.values.tolist(), strict=True)),
        kkt_residual=best.kkt_residual,
        violation=best.violation,
        multipliers=dict(zip(names[1:], best.multipliers.tolist(), strict=True)),
        evaluations=len(found.history),
        iterations=found.iterations,
        reason=found.reason,
        method=method,
        method_reason=why,
        state=journal.state(_state_name(found.best)),
        start_state=journal.state(_state_name(0)),
        history=found.history,
    )


def _evaluated(study: Study, x: np.ndarray, journal: Journal) -> Record:
    """Evaluate a design, and put it in the journal."""
    variables, number = study.variables, len(journal.records)
    start = _nearest(variables, x, journal.records)
    begin = None if start is None else jnp.asarray(journal.state(start))
    record: Record = {"evaluation": number, "design": x.tolist(), "start": start, "state": None, "values": [], "gradients": []}
    try:
        found = evaluate(study, variables.tree(x), begin)
    except (NotConverged, InputError) as error:
        if number == 0 or isinstance(error, OutOfReach):  # the design's fault alone is the method's to know
            raise
        record |= {"failed": str(error), "report": {}}
    else:
        record |= {"checksum": journal.save_state(_state_name(number), np.asarray(found.state))}
        gradients = [variables.flat(g).tolist() for g in found.gradients]
        record |= {"state": _state_name(number), "values": found.values.tolist(), "gradients": gradients}
        record |= {"failed": None, "report": asdict(found.report)}
    journal.append(record)
    return record


def _state_name(evaluation: int) -> str:
    return f"{evaluation:06d}"


def _nearest(variables: Variables, x: np.ndarray, records: Sequence[Record]) -> str | None:
    """The state at the nearest design evaluated so far (the latest of equals)."""
    good = [r for r in records if r["state"] is not None]
    if not good:
        return None
    away = (np.array([r["design"] for r in good[::-1]]) - x)[:, variables.free] / variables.scale
    return good[::-1][int(np.argmin(np.linalg.norm(away, axis=1)))]["state"]


def _describe(study: Study, method: str, tolerance: float) -> Record:
    """What makes a journal a study's own. (Not the number of iterations: more of them continue the same search.)"""
    v = study.variables

    def finite(values: Any) -> list[float | None]:
        return [float(x) if np.isfinite(x) else None for x in values]

    more: Record = {}
    if len(study.flows) > 1:
        more = {"weights": list(study.weights), "conditions": [c.condition for c in study.constraints]}
    if study.inner_product != "parameters":
        more |= {"inner_product": study.inner_product, "length": study.length}
    return more | {
        "format": 1,
        "functionals": list(study.names),
        "intervals": [finite(c.interval) for c in study.constraints],
        "variables": list(v.names),
        "start": v.start.tolist(),
        "lower": finite(v.lower),
        "upper": finite(v.upper),
        "method": method,
        "tolerance": tolerance,
        "options": {k: v for k, v in sorted(study.options.items())},
    }


@dataclass(frozen=True)
class EvaluationReport:
    """How an evaluation went: ``primal_residual`` net over gross flux; for each functional its adjoint's relative
    residual and the products it took (0 where the functional does not depend on the flow). Of several flows the worst
    residual and all steps and products."""

    primal_residual: float
    newton_steps: int
    adjoint_residuals: list[float]
    adjoint_products: list[int]


@dataclass(frozen=True)
class Evaluation:
    """The functionals of a study at a design: ``values`` ``(1 + m,)``, ``gradients`` pytrees like the design, the
    ``state`` of the flow (of several one after the other), and how it went."""

    values: Float[np.ndarray, " functionals"]
    gradients: list[Any]
    state: Array
    report: EvaluationReport


def evaluate(study: Study, design: Any, start: Array | None = None) -> Evaluation:
    """Values and gradients of a study's functionals at a design, by one primal solve for each of its flows and one
    transposed solve for each functional that depends on one.

    Args:
        study: what to evaluate.
        design: a pytree like ``study.start``.
        start: a state to start from (``Evaluation.state`` of another design); rest if left out.

    Raises:
        NotConverged: the primal or an adjoint solve failed, or a functional is not finite.
        InputError: the design gives no valid flow: a tangled mesh, a negative viscosity.
    """
    design = jax.tree.map(jnp.asarray, design)
    count = len(study.flows)
    starts = [None] * count if start is None else jnp.split(jnp.asarray(start), count)
    rows = [[0, *(i for i, c in enumerate(study.constraints, 1) if c.condition == k)] for k in range(count)]
    found = [
        _evaluate_one(study, flow, tuple(study.functionals[i] for i in own), [study.names[i] for i in own], design, begin)
        for flow, own, begin in zip(study.flows, rows, starts, strict=True)
    ]
    values, residuals = np.zeros(len(study.names)), np.zeros(len(study.names))
    products, gradients = [0] * len(study.names), [jax.tree.map(np.zeros_like, design)] * len(study.names)
    for one, own, weight in zip(found, rows, study.weights or [1.0] * count, strict=True):
        for k, i in enumerate(own):
            w = weight if i == 0 else 1.0
            values[i] += w * one.values[k]
            gradients[i] = jax.tree.map(lambda a, b, w=w: a + w * b, gradients[i], one.gradients[k])
            residuals[i] = max(residuals[i], one.report.adjoint_residuals[k])
            products[i] += one.report.adjoint_products[k]
    report = EvaluationReport(
        primal_residual=max(one.report.primal_residual for one in found),
        newton_steps=sum(one.report.newton_steps for one in found),
        adjoint_residuals=residuals.tolist(),
        adjoint_products=products,
    )
    return Evaluation(values, gradients, jnp.concatenate([one.state for one in found]) if count > 1 else found[0].state, report)


def _evaluate_one(
    study: Study, flow_of: Callable[[Any], Flow], functionals: tuple[Functional, ...], names: list[str], design: Any, start: Array | None
) -> Evaluation:
    """The functionals of one flow."""

    def solved(design: Any) -> tuple[list[Array], Array, Array]:
        flow = _flow(flow_of, design)
        solution = solve_steady(flow, start, **study.options)
        return _values(functionals, flow, solution.state), solution.state, solution.report.iterations

    (values, state, steps), pull_back = derivative.vjp(solved, design)
    for name, value in zip(names, values, strict=True):
        if not np.isfinite(value):
            raise NotConverged(f"{name} is {float(value)}")
    gradients, adjoints, nothing = [], [], (jnp.zeros_like(state), jnp.zeros_like(steps))
    for name, unit in zip(names, np.eye(len(names)), strict=True):
        gradient, report = pull_back(([jnp.asarray(x) for x in unit], *nothing))
        gradients.append(jax.tree.map(np.asarray, gradient))
        adjoints.append(report)
        if not all(np.isfinite(g).all() for g in jax.tree.leaves(gradients[-1])):
            raise NotConverged(f"the gradient of {name} is not finite", report)
    report = EvaluationReport(
        primal_residual=adjoints[0].primal_residual,
        newton_steps=int(steps),
        adjoint_residuals=[r.adjoint_residual for r in adjoints],
        adjoint_products=[r.adjoint_products for r in adjoints],
    )
    return Evaluation(np.array(values, float), gradients, state, report)


# Compiled apart from the solve, which is a loop of the host.


@partial(jax.jit, static_argnums=0)
def _flow(flow: Callable[[Any], Flow], design: Any) -> Flow:
    return flow(design)


@partial(jax.jit, static_argnums=0)
def _values(functionals: tuple[Functional, ...], flow: Flow, state: Array) -> list[Array]:
    def scalar(f: Functional) -> Array:
        value = f(Solution(flow, state, None))  # pyright: ignore[reportArgumentType]  (how it was solved is no part of it)
        if jnp.shape(value) != ():
            raise InputError(f"{name_of(f) or 'a functional'} has shape {jnp.shape(value)}", accepted="one number")
        return jnp.asarray(value, state.dtype)

    return [scalar(f) for f in functionals]
