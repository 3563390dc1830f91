"""What a command says while it goes: on a terminal with a live display, elsewhere as plain lines.

Losing the reader (a closed pipe, a full disk behind ``>``) ends the talking, never the work.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

ROWS = 12  # of the search that are shown at a time
QUIET, NORMAL, VERBOSE = range(3)


@dataclass
class Screen:
    """Where a command says what it does. ``level``: QUIET says the folder only, VERBOSE more than NORMAL."""

    level: int = NORMAL
    console: Console | None = field(default_factory=lambda: terminal())

    def say(self, text: str = "", level: int = NORMAL) -> None:
        if level > self.level:
            return
        try:
            if self.console is not None:
                self.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                print(text, flush=True)
        except OSError:  # nobody can read it: go on without a word, also where Python flushes at its end
            self.level = -1
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Says what is going on that takes a while, on a terminal with its clock."""
        if self.console is None or self.level < NORMAL:
            self.say(what)
            yield
            return
        with self.console.status(_Clock(what)):  # pyright: ignore[reportArgumentType]
            yield

    @contextmanager
    def table(self, columns: Sequence[str]) -> Iterator[Table]:
        """A table that grows by rows: on a terminal its end is shown, and the state of things below it."""
        table = Table(self, columns)
        if self.console is None or self.level < NORMAL:
            self.say(table.line(columns))
            yield table
            return
        from rich.live import Live

        with Live(table, console=self.console, refresh_per_second=4) as live:
            table.draw = live.refresh
            yield table


class Table:
    """Rows under columns, and a line about the state of things."""

    def __init__(self, screen: Screen, columns: Sequence[str]):
        self.screen, self.columns = screen, columns
        self.rows: list[Sequence[str]] = []
        self.draw: Callable[[], None] = lambda: None
        self.state, self.began = "", time.monotonic()

    @property
    def state(self) -> str:
        """The line; a new one is shown at once, and not only when a terminal is drawn again."""
        return self._state

    @state.setter
    def state(self, text: str) -> None:
        self._state = text
        self.draw()

    def add(self, row: Sequence[str], note: str = "") -> None:
        """A row; ``note`` is for those who want to know more. A single cell is a remark that takes the whole line."""
        self.rows.append(row)
        if self.screen.console is None:
            self.screen.say(self.line(row))
        if note:
            self.screen.say(f"    {note}", VERBOSE)

    def line(self, row: Sequence[str]) -> str:
        """A row as text."""
        if len(row) == 1:
            return f"  {row[0]}"
        widths = [max(len(name), 12 if name == "objective" else 9) for name in self.columns]
        return "  " + " ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True))

    def __rich__(self) -> Any:
        """As it is now, for rich, which asks for it again and again."""
        from rich.console import Group
        from rich.table import Table as Grid
        from rich.text import Text

        grid = Grid(box=None, pad_edge=False, header_style="bold", padding=(0, 1))
        for name in self.columns:
            grid.add_column(name, justify="right", no_wrap=True)
        remarks = []
        for row in self.rows[-ROWS:]:
            if len(row) == 1:
                remarks = [Text(row[0], style="yellow")]
            else:
                grid.add_row(*row)
        return Group(grid, *remarks, Text(f"{clock(time.monotonic() - self.began)}  {self.state}", style="dim"))


@dataclass
class _Clock:
    """A text with the time since it was first shown."""

    what: str
    began: float = field(default_factory=time.monotonic)

    def __rich__(self) -> str:
        return f"{self.what} ({clock(time.monotonic() - self.began)})"


def clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"


def terminal() -> Console | None:
    """A console where somebody looks at a terminal."""
    if not sys.stdout.isatty():
        return None
    from rich.console import Console

    return Console()
