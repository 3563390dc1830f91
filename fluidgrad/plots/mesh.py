"""The figure of a mesh's quality: where its cells are bad, and how many of them are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fluidgrad.plots.fields import color_bar, outline, panels
from fluidgrad.plots.style import COLORS, UNNAMED, WIDTH, Labels, figure, new
from fluidgrad.plots.windows import Window, windows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fluidgrad.mesh.mesh import Mesh

BEST = {"corner": 1.0, "skewness": 0.0, "non_orthogonality": 0.0, "aspect_ratio": 1.0, "growth": 1.0}
MARKS = {name: {"marker": mark, "ms": 7, "mec": color} for name, mark, color in zip(BEST, "os^Dv", COLORS, strict=False)}
NEAR = 1e-3  # to the best: not worth a mark
BINS = 25


@figure
def quality(mesh: Mesh, walls: Sequence[str] = (), labels: Labels = UNNAMED, title: str = "") -> Figure:
    """Each cell by its worst corner, where the worst of every measure is, and the measures' histograms (3D: these alone)."""
    from matplotlib.collections import PolyCollection

    found = mesh.quality
    worst = {name: w for name, w in found.worst.items() if name in BEST}
    title = title or f"{mesh.n_cells:,} cells"

    def draw(fig: Figure, axes: Axes, here: Window) -> None:
        points = np.asarray(mesh.points)
        polygons = [points[corners[corners >= 0]] for _, loops in mesh.topology.cells for corners in loops]
        style = {"cmap": "viridis", "clim": (0, 1), "edgecolors": "0.2", "linewidths": 0.1, "rasterized": True}
        cells = axes.add_collection(PolyCollection(polygons, array=found.corner, **style), autolim=False)  # pyright: ignore
        outline(axes, mesh)
        for name, w in worst.items():
            if abs(w.value - BEST[name]) > NEAR:
                axes.plot(*w.place, mfc="none", **MARKS[name] | {"mec": "white", "mew": 3.0})
                axes.plot(*w.place, mfc="none", mew=1.6, **MARKS[name])
        color_bar(fig, axes, cells, "sine of the worst corner")

    if mesh.dim == 2:
        fig, (row,) = panels([(here, draw) for here in windows(mesh, walls).values()], labels, title, graphs=1)
    else:
        fig, row = new(WIDTH, 2.2)
        fig.suptitle(title, fontsize="medium")
    # One row of histograms, side by side, in the place of one graph.
    place = row.get_subplotspec().subgridspec(1, len(worst), wspace=0.05)  # pyright: ignore[reportOptionalMemberAccess]
    row.remove()
    graphs = place.subplots(sharey=True, squeeze=False)[0]
    for axes, name in zip(graphs, worst, strict=True):
        _histogram(axes, name, getattr(found, name), worst[name].value)
    graphs[0].set_ylabel("cells or faces")
    graphs[0].set_ylim(bottom=0.7)
    return fig


def _histogram(axes: Axes, name: str, values: np.ndarray, worst: float) -> None:
    from matplotlib.ticker import MaxNLocator

    low, high = sorted((BEST[name], 0.0 if name == "corner" else float(values.max())))
    axes.hist(values, np.linspace(low, max(high, low + 0.1), BINS + 1).tolist(), color=MARKS[name]["mec"], alpha=0.75)
    axes.set_yscale("log")
    axes.plot(worst, 0, mfc="white", mew=1.4, clip_on=False, transform=axes.get_xaxis_transform(), **MARKS[name])
    label, unit = ("non-orthogonality", "°") if name == "non_orthogonality" else (name.replace("_", " "), "")
    axes.set_xlabel(f"{label}\nworst {worst if worst > NEAR else 0:.3g}{unit}", fontsize=7.5)
    axes.xaxis.set_major_locator(MaxNLocator(3))
