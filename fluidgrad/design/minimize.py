"""Minimization under bounds and constraints: scaling, rules for stopping, and the record of every trial. No flow in it.

    minimize f(x)    subject to    lower <= x <= upper,    low_i <= c_i(x) <= high_i       (low = high: an equality)

The methods (``optimizers.py``) see scaled variables z (``variables.py``; in a basis of their own bounds are inequalities,
too) and functionals divided by the larger of their first value and their target (by the largest component of their
gradient where that is nearly 0). Results are in the user's numbers.

**When it stops.** A point where the KKT residual (``kkt.py``) and the scaled violation are below the tolerance is a
solution, and ends the search whatever the method thinks of it. It also ends after ``max_iterations``, without progress over
20 trials (adam: 60), or when the method gives up.

**When a line search gives up** or makes no progress, and the method had gained something, it is called again from where it
stands: what it has learned of curvature and penalties, with which the search failed, is forgotten. That ends with a call
that gains nothing, or after 10.

**Failed trials.** Where the functionals cannot be evaluated, the objective is +inf. The line searches of SciPy and
NLopt interpolate and cannot take that: all methods are told a finite value, ``FAILED`` above the largest seen (scaled),
with the last gradients; those of optax, whose line search is ours, also see the flag and just go back.

**Replay.** Nothing but the answers of ``evaluate`` enters: the same answers give the same iterates to the bit. So a
search is continued by repeating it from a record of its answers, whatever state its method hides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from fluidgrad.design.kkt import kkt, violation_of
from fluidgrad.design.optimizers import METHODS, Point, Vector, choose
from fluidgrad.design.variables import Variables
from fluidgrad.errors import InputError, NotConverged

TOLERANCE = 1e-5
ITERATIONS = 200
FAILED = 10.0
NEAR = 1e-3  # a value this much below its gradient is "nearly 0"
RESTARTS = 10
REPEATS = 1000  # questions in a row without a new point: the method goes in circles

Interval = tuple[float, float]


@dataclass(frozen=True)
class Trial:
    """What ``evaluate`` answers, in the user's numbers.

    Attributes:
        values: the objective and the constrained functionals, ``(1 + m,)``.
        gradients: theirs, ``(1 + m, n)``.
        failed: why there are none, or None.
        report: numbers that say how it went, for the history.
    """

    values: Float[np.ndarray, " functionals"]
    gradients: Float[np.ndarray, "functionals n"]
    failed: str | None = None
    report: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Step:
    """One trial, for the history and for whoever watches.

    Attributes:
        evaluation, iteration: their numbers; the start is evaluation 0 of iteration 0.
        design: in the user's numbers, ``(n,)``.
        values: the objective and the constrained functionals in the user's numbers; None if the trial failed.
        violation: the largest of the scaled constraints'.
        gradient_norm: Euclidean, of the objective, both scaled.
        kkt_residual: scaled (``kkt.py``).
        multipliers: of each constraint: the change of the optimal objective per unit of the constraint's target.
        failed: why the trial failed, or None.
        report: as ``evaluate`` gave it.
    """

    evaluation: int
    iteration: int
    design: Vector
    values: Float[np.ndarray, " functionals"] | None
    violation: float
    gradient_norm: float
    kkt_residual: float
    multipliers: Float[np.ndarray, " constraints"]
    failed: str | None
    report: Mapping[str, Any]


@dataclass(frozen=True)
class Minimum:
    """The best point found, and how: its place in ``history``, whether it is a solution, why the search ended."""

    best: int
    converged: bool
    iterations: int
    reason: str
    method: str
    method_reason: str
    history: tuple[Step, ...]


def minimize(
    evaluate: Callable[[Vector], Trial],
    variables: Variables,
    intervals: Sequence[Interval] = (),
    names: Sequence[str] = (),
    method: str | None = None,
    max_iterations: int | None = None,
    tolerance: float = TOLERANCE,
    progress: Callable[[Step], None] | None = None,
    patience: int | None = None,
    restarts: int | None = None,
) -> Minimum:
    """Minimize under bounds and constraints; see the module.

    Args:
        evaluate: the functionals at a vector in the user's numbers.
        variables: start and bounds.
        intervals: (low, high) of each constrained functional.
        names: of the constraints, for messages.
        method: of ``optimizers.METHODS``; by default from the numbers of variables and constraints.
        max_iterations: of the method; of trials for NLopt's, which do not tell. By default 200.
        tolerance: of the scaled KKT residual and violation.
        progress: called with each step.
        patience: trials without progress that end the search; by default the method's (``optimizers.METHODS``).
        restarts: how often at most a method with a line search that gives up is called again; by default 10. See the module.

    Returns:
        The solution; else the point with the lowest objective among those that violate less than the tolerance; else
        the one that violates least.

    Raises:
        InputError: a method that is unknown or cannot take the constraints.
        NotConverged: the start cannot be evaluated.
    """
    method, why = choose(method, int(variables.free.sum()), [*intervals, *variables.linear], names)
    if not tolerance > 0:
        raise InputError(f"tolerance must be positive, got {tolerance}")
    for key, given, least in (("max_iterations", max_iterations, 0), ("patience", patience, 1), ("restarts", restarts, 0)):
        if given is not None and given < least:
            raise InputError(f"{key} must be at least {least}, got {given}")
    chosen, limit = METHODS[method], ITERATIONS if max_iterations is None else max_iterations
    search = _Search(evaluate, variables, intervals, tolerance, limit, patience or chosen.patience, progress)
    try:
        search.at(search.stands)
        search.check_iterations()
        reason = ""
        for _ in range(1 + (RESTARTS if restarts is None else restarts) * chosen.restarts):
            search.idle = 0
            try:
                reason = chosen.run(search, search.stands)
            except _Idle as idle:
                reason = str(idle)
            if not search.gained():
                break
    except _Stop as stop:
        reason = str(stop)
    best = search.best()
    return Minimum(best, search.solves(search.history[best]), search.iteration, reason, method, why, tuple(search.history))


class _Stop(Exception):
    """Ends a search from inside a method."""


class _Idle(_Stop):
    """Ends a method that makes no progress."""


class _Search:
    """One search: what was asked and answered, and when to stop (``optimizers.Search``)."""

    def __init__(self, evaluate: Any, variables: Variables, intervals: Any, tolerance: float, limit: int, patience: int, progress: Any):
        self.evaluate, self.variables, self.intervals, self.tolerance = evaluate, variables, intervals, tolerance
        self.max_iterations, self.patience, self.progress = limit, patience, progress
        self.lower, self.upper = variables.scaled_bounds
        # one row for each equality and each finite end: functional, sign, target, whether it is an equality
        self.rows = [
            (i, sign, end, low == high)
            for i, (low, high) in enumerate(intervals)
            for sign, end in ([(1.0, low)] if low == high else [(1.0, high), (-1.0, low)])
            if np.isfinite(end)
        ]
        self.equal = np.array([r[3] for r in self.rows], bool)
        self.iteration, self.repeats, self.idle = 0, 0, 0
        self.stands = variables.scaled(variables.start)  # where the method is, after its last iteration
        self.before: tuple[np.ndarray, Point] | None = None  # the least measures and the point of the last restart
        self.points: dict[bytes, Point] = {}
        self.history: list[Step] = []
        self.least = np.full(3, np.inf)  # violation, feasible objective, and the larger of violation and KKT residual

    def at(self, z: Vector) -> Point:
        x = self.variables.unscaled(z)
        key = x.tobytes()
        self.repeats += 1
        if key not in self.points:
            trial = self.evaluate(x)
            if trial.failed and not self.history:
                raise NotConverged(f"the start cannot be evaluated: {trial.failed}")
            self.repeats = 0
            self.points[key] = point = self._point(z, trial)
            self._append(x, point, trial)
        elif self.repeats > REPEATS:
            raise _Stop("the method asks for no new points")
        return self.points[key]

    def iterate(self, z: Vector) -> None:
        self.iteration += 1
        self.stands = z.copy()
        self.check_iterations()

    def gained(self) -> bool:
        """Whether there was progress worth a restart since the last one; from now on ``stands`` is no worse than the best."""
        best = self.points[self.history[self.best()].design.tobytes()]
        here = self.points.get(self.variables.unscaled(self.stands).tobytes(), best)
        level = lambda point: max(violation_of(point), self.tolerance)  # noqa: E731  (the violation, as far as it counts)
        if here.failed or level(best) <= level(here) and best.f <= here.f:
            here = best
        then, self.before, self.stands = self.before, (self.least, here), here.z
        if then is None:  # the first
            return len(self.history) > 1
        lower = level(here) <= level(then[1]) and here.f < then[1].f - self.tolerance
        return lower or bool((self.least < then[0] * [0.99, 1.0, 0.5] - [self.tolerance, self.tolerance, 0.0]).any())

    def check_iterations(self) -> None:
        if self.iteration >= self.max_iterations:
            raise _Stop(f"max_iterations = {self.max_iterations} reached")

    def solves(self, step: Step) -> bool:
        return max(step.kkt_residual, step.violation) <= self.tolerance

    def best(self) -> int:
        def rank(step: Step) -> tuple[bool, float, float]:
            feasible = step.violation <= self.tolerance
            assert step.values is not None
            return not self.solves(step), 0.0 if feasible else step.violation, step.values[0]

        return min((s for s in self.history if not s.failed), key=rank).evaluation

    def _point(self, z: Vector, trial: Trial) -> Point:
        """A trial in scaled variables and functionals."""
        if trial.failed:
            good = next(p for p in reversed(self.points.values()) if not p.failed)
            worst = max(p.f for p in self.points.values() if not p.failed)
            return Point(z, worst + FAILED, good.g, good.h, good.h_z, good.c, good.c_z, True)
        gradients = self.variables.pulled(trial.gradients)
        if not self.history:
            targets = [0.0, *(max((abs(e) for e in ends if np.isfinite(e)), default=0.0) for ends in self.intervals)]
            first, slope = np.maximum(np.abs(trial.values), targets), np.max(np.abs(gradients), axis=1, initial=0.0)
            size = np.where(first > NEAR * slope, first, slope)
            self.size = np.where(size > 0, size, 1.0)
        r = np.array([sign * (trial.values[1 + i] - end) / self.size[1 + i] for i, sign, end, _ in self.rows])
        r_z = np.array([sign * gradients[1 + i] / self.size[1 + i] for i, sign, _, _ in self.rows]).reshape(len(r), z.size)
        e, (b, b_z) = self.equal, self.variables.bounds_as_constraints(z)
        c, c_z = np.concatenate([r[~e], b]), np.concatenate([r_z[~e], b_z])
        return Point(z, trial.values[0] / self.size[0], gradients[0] / self.size[0], r[e], r_z[e], c, c_z, False)

    def _append(self, x: Vector, point: Point, trial: Trial) -> None:
        """Put a trial in the history, and stop if it was the last."""
        violation = kkt_residual = np.inf
        multipliers = np.full(len(self.intervals), np.nan)
        if not point.failed:
            violation = violation_of(point)
            kkt_residual, y = kkt(point, self.lower, self.upper)
            multipliers = np.zeros(len(self.intervals))
            order = np.concatenate([np.flatnonzero(self.equal), np.flatnonzero(~self.equal)])
            for k, y_k in zip(order, y[: len(order)], strict=True):  # after them come those of bounds
                i, sign, _, _ = self.rows[k]
                multipliers[i] -= sign * y_k * self.size[0] / self.size[1 + i]
        step = Step(
            evaluation=len(self.history),
            iteration=self.iteration,
            design=x,
            values=None if trial.failed else trial.values,
            violation=violation,
            gradient_norm=float(np.linalg.norm(point.g)),
            kkt_residual=kkt_residual,
            multipliers=multipliers,
            failed=trial.failed,
            report=trial.report,
        )
        self.history.append(step)
        if self.progress:
            self.progress(step)
        if self.solves(step):
            raise _Stop(f"converged: KKT residual {kkt_residual:.1e} and violation {violation:.1e} are below {self.tolerance:.1e}")
        # Three ways to make progress: nearer to feasible, lower among the feasible, nearer to a solution.
        feasible = violation <= self.tolerance
        measures = np.array([violation, point.f if feasible else np.inf, max(kkt_residual, violation)])
        enough = self.least * [0.99, 1.0, 0.99] - [self.tolerance, self.tolerance**2, 0.0]
        self.idle = 0 if (measures < enough).any() else self.idle + 1
        self.least = np.minimum(self.least, measures)
        if self.idle >= self.patience:
            raise _Idle(f"no progress in {self.patience} trials")
