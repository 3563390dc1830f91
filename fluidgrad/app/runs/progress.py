"""A search as it goes: a row on the screen, ``history.csv`` and the report in the folder, a stop where one is asked for.

The journal has no clock in it, so that the same search writes the same journal. The seconds are here: ``history.csv`` is
written anew with each evaluation, and what was done before a stop keeps the seconds it took then.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fluidgrad.app.report import output, page
from fluidgrad.app.report.screen import Table, clock
from fluidgrad.app.runs.jobs import Job
from fluidgrad.design.journal import read
from fluidgrad.errors import InputError

if TYPE_CHECKING:
    from fluidgrad.design.minimize import Step

COLUMNS = ("iteration", "objective", "violation", "gradient", "KKT", "primal", "adjoint", "seconds", "left")
SOLVES = ("primal_residual", "newton_steps", "adjoint_residual", "adjoint_products", "seconds", "failed")
SHARE = 0.01  # of the time that writing the report again and again may take


class Progress:
    """Called with every step of a search (``minimize``)."""

    def __init__(self, work: Job, table: Table, names: Sequence[str], sign: float, limit: int):
        self.work, self.table, self.names, self.sign, self.limit = work, table, names, sign, limit
        journal = work.folder / "journal.jsonl"
        self.known = max(len(read(journal)[0]) - 1, 0) if journal.exists() else 0
        self.seconds = _seconds_before(work)
        self.steps: list[Step] = []
        self.began = self.last = self.wrote = time.perf_counter()
        self.cost = 0.0
        self.first: tuple[float, int] | None = None  # when the first new evaluation was done, and of which iteration
        table.state = "compiling, then the first new evaluation"
        if self.known:
            table.add([f"answered by the journal: {self.known} evaluations"])

    def __call__(self, step: Step) -> None:
        now = time.perf_counter()
        new = step.evaluation >= self.known
        if new:
            self.seconds[step.evaluation] = round(now - self.last, 4)
        self.last = now
        self.steps.append(step)
        self._show(step, now if new else None)
        if new:
            output.write_csv(self.work.folder / "history.csv", *self.history())
            self._report()
            self.work.safe_point()
            self.last = time.perf_counter()

    def _show(self, step: Step, now: float | None) -> None:
        if now and self.first is None:  # compiled by now
            self.first = now, step.iteration
        done = step.iteration - self.first[1] if self.first else 0
        left = clock((now - self.first[0]) / done * (self.limit - step.iteration)) if now and self.first and done else ""
        self.table.state = f"evaluation {step.evaluation}, iteration {step.iteration} of at most {self.limit}" + (
            f", at most {left} left" if left else ""
        )
        if now is None:
            return
        if step.values is None:
            self.table.add([f"{step.iteration:>9} failed: {step.failed}"])
            return
        r = step.report
        numbers = (step.violation, step.gradient_norm, step.kkt_residual, r["primal_residual"], max(r["adjoint_residuals"]))
        row = [
            str(step.iteration),
            f"{self.sign * step.values[0]:.8g}",
            *(f"{x:.2e}" for x in numbers),
            f"{now - self.began:.1f}",
            left and f"<{left}",
        ]
        self.table.add(row, f"{r['newton_steps']} Newton steps; products of the adjoints: {', '.join(map(str, r['adjoint_products']))}")

    def history(self) -> tuple[list[str], list[list[Any]]]:
        """The search as a table: its head, and a row for each evaluation."""
        head = ["evaluation", "iteration", *self.names, "violation", "gradient_norm", "kkt_residual", *SOLVES]
        return head, [self._row(s) for s in self.steps]

    def _row(self, s: Step) -> list[Any]:
        values = [None] * len(self.names) if s.values is None else [self.sign * s.values[0], *s.values[1:]]
        r = s.report
        adjoint = (max(r["adjoint_residuals"]), sum(r["adjoint_products"])) if r else (None, None)
        went = [r.get("primal_residual"), r.get("newton_steps"), *adjoint, self.seconds.get(s.evaluation), s.failed or ""]
        return [s.evaluation, s.iteration, *values, s.violation, s.gradient_norm, s.kkt_residual, *went]

    def _report(self) -> None:
        """The report so far, as often as it costs little."""
        now = time.perf_counter()
        if now - self.wrote > self.cost / SHARE:
            page.write(self.work.folder, running=True)
            self.wrote = time.perf_counter()
            self.cost = self.wrote - now


@contextmanager
def watched(work: Job, names: Sequence[str], sign: float, limit: int) -> Iterator[Progress]:
    """What to call with every step, while a table shows them."""
    with work.screen.table(COLUMNS) as table:
        yield Progress(work, table, names, sign, limit)


def _seconds_before(work: Job) -> dict[int, float]:
    """What evaluations took before the run was stopped."""
    try:
        history = output.read_csv(work.folder / "history.csv")
        return {int(n): float(s) for n, s in zip(history["evaluation"], history["seconds"], strict=True) if s}
    except (InputError, KeyError, ValueError):
        return {}  # none yet, or damaged: no result depends on it
