"""The figure of what acts on walls: pressure and friction along them, and where the friction turns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fluidgrad.plots import surfaces
from fluidgrad.plots.fields import FIELD, SIGNED, limits, symmetric_limit, within
from fluidgrad.plots.style import UNNAMED, WIDTH, Labels, figure, new

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fluidgrad.flow.patches import WallData
    from fluidgrad.flow.solution import Solution
    from fluidgrad.mesh.mesh import Mesh

COLUMNS = 4  # walls side by side
TAILS = 0.04  # of a wall's length: corners, whose values a mesh never resolves, set no limits


@figure
def walls(solution: Solution, labels: Labels = UNNAMED, title: str = "") -> Figure:
    """Pressure and friction along every wall against arc length, as coefficients where the flow has a reference; rings where
    the flow leaves or comes back. In 3D on the walls, in colors, and small walls once more by themselves."""
    import jax

    found: dict[str, WallData] = jax.tree.map(np.asarray, solution.walls)
    if solution.flow.reference is not None:
        names, values = ("pressure coefficient", "friction coefficient"), ("pressure_coefficient", "friction_coefficient")
    else:
        names, values = (labels("pressure", "L^2 T^-2"), labels("friction", "L^2 T^-2")), ("pressure", "friction")
    if solution.flow.mesh.dim == 3:
        return _in_space(solution.flow.mesh, found, names, values, labels, title)
    columns = min(len(found), COLUMNS)
    blocks = -(-len(found) // COLUMNS)
    fig, grid = new(max(WIDTH * columns / COLUMNS, 5.8), 4.4 * blocks, 2 * blocks, columns, squeeze=False)
    for k, (patch, w) in enumerate(found.items()):
        row, column = 2 * (k // COLUMNS), k % COLUMNS
        for axes, name, value in zip(grid[row : row + 2, column], names, values, strict=True):
            _along(axes, w, np.asarray(getattr(w, value)))
            axes.set_ylabel(name if column == 0 else "")
        _turns(grid[row + 1, column], w, np.asarray(getattr(w, values[1])))
        grid[row, column].set_title(patch)
        grid[row, column].tick_params(labelbottom=False)
        grid[row + 1, column].set_xlabel(labels("arc length", "L"))
        if 1 < len(w.pieces) <= 3:
            grid[row, column].legend(fontsize=7, loc="lower center", bbox_to_anchor=(0.5, 1.12), ncols=2)
    for k in range(len(found), blocks * columns):
        for axes in grid[2 * (k // COLUMNS) : 2 * (k // COLUMNS) + 2, k % COLUMNS]:
            axes.remove()
    fig.suptitle(title)
    return fig


def _along(axes: Axes, w: WallData, value: np.ndarray) -> None:
    """A quantity over arc length, each piece a line named by where it begins."""
    assert w.s is not None
    for start, stop, _ in w.pieces:
        axes.plot(w.s[start:stop], value[start:stop], label="from ({:.3g}, {:.3g})".format(*w.x[start]))
    axes.axhline(0, color="0.6", lw=0.6, zorder=0)
    within(axes, value, *limits(value, np.asarray(w.area), TAILS)[:2])


def _turns(axes: Axes, w: WallData, value: np.ndarray) -> None:
    assert w.s is not None
    for start, stop, _ in w.pieces:
        s, v = w.s[start:stop], value[start:stop]
        k = np.flatnonzero(v[:-1] * v[1:] < 0)
        axes.plot(s[k] + v[k] / (v[k] - v[k + 1]) * (s[k + 1] - s[k]), 0 * k, "o", ms=4, mfc="white", mec="0.2", mew=0.9)


def _in_space(
    mesh: Mesh, found: dict[str, WallData], names: tuple[str, ...], values: tuple[str, ...], labels: Labels, title: str
) -> Figure:
    shown = surfaces.groups(mesh, list(found))
    fig, grid = new(WIDTH * 1.2, 4.0 * len(shown), len(shown), 2, subplot_kw={"projection": "3d"}, squeeze=False)
    for row, patches in zip(grid, shown, strict=True):
        area = np.concatenate([found[p].area for p in patches])
        for axes, name, key in zip(row, names, values, strict=True):
            v = np.concatenate([np.asarray(getattr(found[p], key)) for p in patches])
            low, high, extend = limits(v, area)
            signed = key.startswith("pressure") and low < 0 < high
            if signed:
                high, extend = symmetric_limit(v, area)
                low = -high
            drawn = surfaces.paint(axes, mesh, patches, v, SIGNED if signed else FIELD, (low, high), labels)
            fig.colorbar(drawn, ax=axes, shrink=0.6, pad=0.22, extend=extend, label=name)
            axes.set_title(", ".join(patches))
    fig.suptitle(title)
    return fig
