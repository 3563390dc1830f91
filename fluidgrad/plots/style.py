"""How every picture looks: its style, its labels with units, and one file for the same numbers, byte by byte.

Matplotlib is loaded by the first picture, without a window.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluidgrad.files import write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

STYLE = {
    "figure.dpi": 100,
    "figure.titlesize": 10,
    "savefig.dpi": 200,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.direction": "out",
    "ytick.direction": "out",
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "axes.formatter.limits": (-3, 4),
}
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]  # of Okabe and Ito
WIDTH = 8.0  # inches
LONGEST = 100  # characters of a text


def figure(draw: Callable[..., Figure]) -> Callable[..., Path]:
    """A function that draws becomes one whose first argument is the file to draw into."""

    @wraps(draw)
    def drawn(file: str | Path, *args: Any, **kwargs: Any) -> Path:
        with styled():
            return save(draw(*args, **kwargs), file)

    return drawn


def styled() -> AbstractContextManager[None]:
    """Within this, figures are made and saved in the style."""
    import matplotlib
    from cycler import cycler

    return matplotlib.rc_context(STYLE | {"axes.prop_cycle": cycler(color=COLORS)})  # pyright: ignore


def save(shown: Figure, file: str | Path) -> Path:
    """Save a figure; the same numbers make the same bytes: no date is in it."""
    _spell(shown)
    _plain_ticks(shown)
    data = io.BytesIO()
    kind = Path(file).suffix.lstrip(".") or "png"
    shown.savefig(data, format=kind, bbox_inches="tight", pad_inches=0.06, metadata={"Software": None} if kind == "png" else None)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    write(Path(file), data.getvalue())
    return Path(file)


def _spell(shown: Figure) -> None:
    """Texts with names that users gave: what is too long is cut, and what has dollar signs and is no formula drawn as it is."""
    from matplotlib.mathtext import MathTextParser
    from matplotlib.text import Text

    parser = MathTextParser("path")
    texts: Any = shown.findobj(Text)
    for text in texts:
        if len(full := text.get_text()) > LONGEST:
            text.set_text(f"{full[:LONGEST]}...")
        try:
            for line in full.splitlines() if "$" in full else ():
                parser.parse(line)
        except ValueError:
            text.set_parse_math(False)


def _plain_ticks(shown: Figure) -> None:
    """Numbers at ticks are text; the power of ten beside an axis alone is a formula, which takes Matplotlib long to set."""
    from matplotlib.ticker import ScalarFormatter

    class Ticks(ScalarFormatter):
        def get_offset(self) -> str:
            return re.sub(r"(^1)?e([−\d-]+)", r"×10$^{\2}$", super().get_offset())

    for axes in shown.axes:
        for axis in (axes.xaxis, axes.yaxis, *([axes.zaxis] if hasattr(axes, "zaxis") else ())):  # pyright: ignore[reportAttributeAccessIssue]
            if type(axis.get_major_formatter()) is ScalarFormatter:
                axis.set_major_formatter(Ticks())


def new(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """A figure of a size in inches, and its axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig, fig.subplots(rows, columns, **options)


def plane(axes: Axes, x: tuple[float, float], y: tuple[float, float], labels: Labels) -> None:
    """Makes axes a part of the plane, lengths the same along both."""
    axes.set_aspect("equal")
    axes.set_xlim(*x)
    axes.set_ylim(*y)
    axes.set_xlabel(labels("x", "L"))
    axes.set_ylabel(labels("y", "L"))


@dataclass(frozen=True)
class Labels:
    """Names of the units, as in ``[units]``."""

    length: str = "L"
    time: str = "T"

    def __call__(self, quantity: str, units: str = "1") -> str:
        """A label: quantity [units], the units in powers of L and T."""
        return quantity if units in ("1", "") else f"{quantity} [{self.of(units)}]"

    def over(self, quantity: str, units: str, by: str) -> str:
        """A label of a quantity in ``units`` divided by ``by``."""
        return self(quantity, ratio(units, by))

    def of(self, units: str) -> str:
        """The units with the file's names and proper exponents."""
        parts = []
        for part in units.split():
            base, _, power = part.partition("^")
            base = {"L": self.length, "T": self.time}.get(base, base)
            parts.append(f"{base}$^{{{power.replace('-', '−')}}}$" if power else base)
        return " ".join(parts)


def ratio(units: str, by: str) -> str:
    """Units divided by others."""
    powers = _powers(units)
    powers.subtract(_powers(by))
    return " ".join(f"{base}^{power}" if power != 1 else base for base, power in powers.items() if power) or "1"


def _powers(units: str) -> Counter[str]:
    powers = Counter()
    for part in units.split():
        base, _, power = part.partition("^")
        powers[base] += int(power or 1) if base != "1" else 0
    return powers


UNNAMED = Labels()
