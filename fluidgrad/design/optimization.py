"""Optimization of a study, with a journal that it can be resumed from.

Every evaluation (``evaluation.py``) is in the journal, with the state that it starts from, before the optimizer sees it. To
resume is to repeat the search with the journal answering for as long as it can (``minimize.py``, ``journal.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fluidgrad.design.evaluation import evaluate
from fluidgrad.design.journal import Journal, Record
from fluidgrad.design.minimize import TOLERANCE, Step, Trial, minimize
from fluidgrad.design.optimizers import choose
from fluidgrad.design.study import Study
from fluidgrad.design.variables import Variables
from fluidgrad.errors import InputError, NotConverged, OutOfReach


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
    patience: int | None = None,
    restarts: int | None = None,
) -> Result:
    """Minimize a study's objective under its constraints.

    Args:
        study: what to optimize. The start need not satisfy the constraints.
        folder: for the journal; the same call with the same folder resumes, and gives the same result to the bit as
            one that was never interrupted.
        method: of ``optimizers.METHODS``; by default from the numbers of variables and constraints.
        max_iterations, tolerance, progress, patience, restarts: as for ``minimize``. Of these only the tolerance must stay
            the same when a search is resumed.

    A trial that cannot be evaluated (no convergence, a tangled mesh) is recorded, and the method is told to go back.
    What the disk or the machine cannot do ends the search instead, and leaves its journal as it was. Each solve starts
    from the state at the nearest design evaluated before.

    Raises:
        InputError: a method that cannot take the constraints; a folder with the journal of another study, or without
            a state that is needed.
        NotConverged: the start cannot be evaluated.
    """
    variables, names = study.variables, study.names
    tolerance = TOLERANCE if tolerance is None else tolerance
    method, why = choose(method, int(variables.free.sum()), study.kinds, names[1:])
    journal = Journal(folder, _describe(study, method, tolerance))
    first = [0.0] * len(names)
    if any(c.relative for c in study.constraints):  # the search will ask for the start first, and be answered by the journal
        x = variables.unscaled(variables.scaled(variables.start))
        first = (journal.records or [_evaluated(study, x, journal)])[0]["values"]
    intervals = [c.within(value) for c, value in zip(study.constraints, first[1:], strict=True)]
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

    found = minimize(answer, variables, intervals, names[1:], method, max_iterations, tolerance, progress, patience, restarts)
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
        "intervals": [[c.equals, c.at_most, c.at_least, c.band] if c.relative else finite(c.interval) for c in study.constraints],
        "variables": list(v.names),
        "start": v.start.tolist(),
        "lower": finite(v.lower),
        "upper": finite(v.upper),
        "method": method,
        "tolerance": tolerance,
        "options": {k: v for k, v in sorted(study.options.items()) if k != "devices"},  # which, as threads, are of where it runs
    }
