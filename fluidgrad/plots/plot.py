"""The standard pictures from Python: one call that draws, saves where it is asked to, and returns the figure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fluidgrad.errors import InputError
from fluidgrad.plots import flow, mesh, sensitivity, walls
from fluidgrad.plots.style import Labels, save, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fluidgrad.flow.solution import Solution

PICTURES: dict[str, Any] = {
    "speed": flow.speed,
    "pressure": flow.pressure,
    "vorticity": flow.vorticity,
    "streamlines": flow.streamlines,
    "walls": walls.walls,
    "mesh": lambda s, *given: flow.mesh.__wrapped__(s.flow.mesh, s.flow.walls, *given),  # pyright: ignore
    "quality": lambda s, *given: mesh.quality.__wrapped__(s.flow.mesh, s.flow.walls, *given),  # pyright: ignore
}


def plot(
    of: Solution | Any, what: str = "speed", file: str | Path | None = None, title: str = "", units: tuple[str, str] = ("L", "T")
) -> Figure:
    """Draw a solution, or the maps of a sensitivity.

    Args:
        of: a solution; or what ``sensitivity`` returns, all of whose maps are drawn.
        what: of a solution: "speed" (with streamlines), "pressure", "vorticity", "streamlines" (of the stream function, 2D),
            "walls" (pressure and friction along them), "mesh" or "quality".
        file: where to save it, by its ending as PNG, PDF or SVG; not saved if left out.
        title: above the picture.
        units: of length and time, for the labels.

    Returns:
        A matplotlib figure, for notebooks and for changes before it is saved.

    Raises:
        InputError: no such picture; streamlines of a flow that has no stream function; walls of one that has none.
    """
    from fluidgrad.flow.solution import Solution

    labels = Labels(*units)
    if isinstance(of, Solution) and what not in PICTURES:
        raise InputError(f"there is no picture of {what!r}", accepted=f"one of {', '.join(PICTURES)}")
    draw: Any = PICTURES[what] if isinstance(of, Solution) else sensitivity.overview
    with styled():
        shown = getattr(draw, "__wrapped__", draw)(of, labels, title)
        if file is not None:
            save(shown, file)
    return shown
