"""What went wrong, and what to do about it.

:class:`InputError` (exit code 2) says that something given cannot be used, and is raised before anything is computed;
:class:`NotConverged` (exit code 1) that a solve failed, and carries its report; :class:`Failed` (exit code 1) that what was
computed did not stand a test, or is gone.
"""

from __future__ import annotations

from typing import Any

LONGEST = 400  # characters of what was given


class InputError(ValueError):
    """Something given cannot be used: what was given, what is accepted, what to do."""

    def __init__(self, given: str, accepted: str | None = None, where: str | None = None):
        self.given, self.accepted, self.where = given, accepted, where
        super().__init__(given)

    def __str__(self) -> str:
        place = f" ({_cut(self.where)})" if self.where else ""
        advice = f"; {self.accepted}" if self.accepted else ""
        line = " ".join(f"{_cut(self.given)}{place}{advice}".splitlines())  # one line, whatever was given, and no command to a terminal
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in line)

    def at(self, where: str) -> InputError:
        """The same error, naming the file and key it came from (the innermost place wins)."""
        self.where = self.where or where
        return self


class OutOfReach(InputError):
    """Beyond the disk or the machine: a state that is missing or damaged, too little memory. No fault of a design's: a
    search ends there, and does not look elsewhere."""


class Failed(RuntimeError):
    """What was computed did not stand a test, or is no longer where it was kept."""


class Lost(Failed):
    """A device, or the process that has it, is no longer there. Processes that wait for it do not end by themselves."""


def _cut(text: str) -> str:
    """What somebody gave may be of any length."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 120]}...{text[-117:]}"


class NotConverged(RuntimeError):
    """A solve failed; nothing that depends on it is returned. ``report`` and ``solution`` hold how far it came."""

    def __init__(self, message: str, report: Any = None, solution: Any = None):
        self.report, self.solution = report, solution
        super().__init__(message)
