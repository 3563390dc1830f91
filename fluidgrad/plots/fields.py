"""A field on a mesh in a picture: which part is shown, its values in colors, its lines, and the limits of the colors.

Fields use viridis, signed fields a diverging map centered at zero with limits that outliers do not set. A 3D flow is cut
half-way up z, cell by cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from fluidgrad.plots.interpolation import at_points, cut, geometry, height_of_cut, triangles
from fluidgrad.plots.streamlines import level_lines, traced_lines
from fluidgrad.plots.style import WIDTH, Labels, new, plane
from fluidgrad.plots.windows import Window, windows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fluidgrad.mesh.mesh import Mesh

FIELD, SIGNED = "viridis", "RdBu_r"
BODY = "0.82"  # gray of what is not fluid
FLAT = 0.45  # height over width below which a color bar lies below its axes
GRAPH = 2.6  # inches, the height of a graph below maps
LEVELS = 257  # of a color map
TAILS = 0.01  # of the area, whose values set no limits


Draw = Callable[["Figure", "Axes", Window], None]


def field_maps(mesh: Mesh, walls: Sequence[str], draw: Draw, labels: Labels, title: str = "") -> Figure:
    """The same drawn in every window on a mesh."""
    return panels([(here, draw) for here in windows(mesh, walls).values()], labels, title)[0]


def panels(drawn: Sequence[tuple[Window, Draw]], labels: Labels, title: str = "", graphs: int = 0) -> tuple[Figure, list[Axes]]:
    """Maps below each other, as wide as the page or as a column, and empty axes for so many graphs below them."""
    width = 5.8 if max(here.aspect for here, _ in drawn) > 0.6 else WIDTH
    heights = [min((width - 1.4) * here.aspect, 7.0) + (1.2 if here.aspect < FLAT else 0.6) for here, _ in drawn] + [GRAPH] * graphs
    fig, grid = new(width, sum(heights), len(heights), 1, squeeze=False, height_ratios=heights)
    rows = list(grid[:, 0])
    for axes, (here, draw) in zip(rows, drawn, strict=False):
        plane(axes, here.x, here.y, labels)
        axes.spines[["top", "right"]].set_visible(True)
        axes.set_facecolor(BODY)
        draw(fig, axes, here)
        axes.set_xlim(*here.x)  # streamlines and meshes may have moved them
        axes.set_ylim(*here.y)
    solid = drawn[0][0].mesh if drawn[0][0].mesh.dim == 3 else None
    rows[0].set_title(", ".join(filter(None, (title, f"cut at z = {height_of_cut(solid):.3g}"))) if solid else title)
    return fig, rows[len(drawn) :]


def vectors(u: np.ndarray, edge: np.ndarray | None, label: str, most: float | None = None, psi: np.ndarray | None = None) -> Draw:
    """The size of a vector field in colors, from 0 to ``most`` or to the largest of the mesh, and its lines: of the stream
    function ``psi`` where it has one."""
    size = np.linalg.norm(u, axis=1)

    def draw(fig: Figure, axes: Axes, here: Window) -> None:
        top = most or max(float(size.max(initial=0.0)), 1e-300)
        drawn = fill(axes, here, size, FIELD, (0.0, top), None if edge is None else np.linalg.norm(edge, axis=1))
        if psi is None:
            traced_lines(axes, here, u, edge, 1e-3 * top)
        else:
            level_lines(axes, here, psi, u)
        color_bar(fig, axes, drawn, label)

    return draw


def signed(value: np.ndarray, label: str, near: Window) -> Draw:
    """A field with a sign, zero in the middle of the colors, whose limits are those in the window ``near``."""
    area = areas(near)
    limit, extend = symmetric_limit(value[area > 0], area[area > 0])
    return colored(value, label, SIGNED, (-limit, limit, extend))


def areas(here: Window) -> np.ndarray:
    """How much of a window each cell takes: nothing outside, and in 3D its mean section where it is cut."""
    g, t = geometry(here.mesh), here.mesh.topology
    area = np.where(here.has(g.x_cell), g.V, 0.0)
    if t.dim == 3:
        z, height = np.asarray(here.mesh.points)[:, 2], height_of_cut(here.mesh)
        low, high = (np.concatenate([f(z[loops], axis=1) for _, loops in t.cells]) for f in (np.min, np.max))
        area = np.where((low < height) & (height < high), area / (high - low), 0.0)
    return area


def colored(value: np.ndarray, label: str, cmap: str, limits: tuple[float, float, str], edge: np.ndarray | None = None) -> Draw:
    """A field in colors between limits, and at which ends of the bar there is more."""

    def draw(fig: Figure, axes: Axes, here: Window) -> None:
        color_bar(fig, axes, fill(axes, here, value, cmap, limits[:2], edge), label, limits[2])

    return draw


def fill(
    axes: Axes, shown: Window, cell: Float[np.ndarray, " cells"], cmap: str, limits: tuple[float, float], edge: np.ndarray | None = None
) -> Any:
    """Draws a field of the cells, in 3D those of the cut. ``edge``: its values on boundary faces. Returns what a color bar needs."""
    from matplotlib.collections import PolyCollection

    if shown.mesh.dim == 2:
        return paint(axes, shown.mesh, at_points(shown.mesh, cell, edge), cmap, limits)
    polygons, number = cut(shown.mesh)
    colors = _colors(cmap, limits)
    style = {"edgecolors": "face", "linewidths": 0.2, "rasterized": True, "cmap": colors.cmap, "norm": colors.norm}
    axes.add_collection(PolyCollection(polygons, array=cell[number], **style))
    return colors


def paint(axes: Axes, mesh: Mesh, value: Float[np.ndarray, " points"], cmap: str, limits: tuple[float, float]) -> Any:
    """Draws a field of the points of a 2D mesh, linear between them (not its colors: halfway from yellow to violet is green,
    not brown). Returns what a color bar needs."""
    colors = _colors(cmap, limits)
    value = np.clip(value, *limits)
    levels = np.linspace(*limits, LEVELS)
    levels[[0, -1]] += [-1e-9 * (limits[1] - limits[0]), 1e-9 * (limits[1] - limits[0])]
    style: Any = {"levels": levels, "antialiased": False, "cmap": colors.cmap, "norm": colors.norm}
    axes.tricontourf(*np.asarray(mesh.points).T, triangles(mesh, value), value, **style).set_rasterized(True)  # pyright: ignore
    outline(axes, mesh)
    return colors


def _colors(cmap: str, limits: tuple[float, float]) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    return ScalarMappable(Normalize(*limits), cmap)


def outline(axes: Axes, mesh: Mesh) -> None:
    """The boundary of a 2D mesh."""
    from matplotlib.collections import LineCollection

    t = mesh.topology
    if t.dim == 2:
        lines = np.asarray(mesh.points)[t.face_points[t.n_interior :, :2]]
        axes.add_collection(LineCollection(list(lines), colors="0.15", linewidths=0.7), autolim=False)


def color_bar(fig: Figure, axes: Axes, drawn: Any, label: str, extend: str = "neither") -> None:
    """A color bar as long as its axes and never wide: beside tall ones, below flat ones."""
    from matplotlib.transforms import ScaledTranslation

    width, height = (abs(hi - lo) for lo, hi in (axes.get_xlim(), axes.get_ylim()))

    def beside(x: float, y: float) -> Any:
        return axes.transAxes + ScaledTranslation(x, y, fig.dpi_scale_trans)

    if height > FLAT * width:
        place = axes.inset_axes((1, 0, 0.022, 1), transform=beside(0.1, 0))
        bar = fig.colorbar(drawn, cax=place, extend=extend)
    else:
        thick = 0.02 * width / height
        place = axes.inset_axes((0, -thick, 1, thick), transform=beside(0, -0.5))
        bar = fig.colorbar(drawn, cax=place, orientation="horizontal", extend=extend)
    bar.set_label(label)
    bar.outline.set_linewidth(0.5)  # pyright: ignore


def symmetric_limit(value: np.ndarray, weight: np.ndarray | None = None, tails: float = TAILS) -> tuple[float, str]:
    """A limit that all but a share ``tails`` of the area stays below, and where the bar says that there is more."""
    size = np.abs(value[np.isfinite(value)])
    if not len(size) or size.max() == 0:
        return 1.0, "neither"
    order = np.argsort(size)
    share = np.cumsum(np.ones(len(size)) if weight is None else weight[np.isfinite(value)][order])
    limit = size[order][np.searchsorted(share, (1 - tails) * share[-1]).clip(max=len(size) - 1)]
    if limit <= 0 or size.max() < 1.5 * limit:
        return float(size.max()), "neither"
    return float(limit), "both"


def limits(value: np.ndarray, weight: np.ndarray, tails: float = TAILS) -> tuple[float, float, str]:
    """Limits that all but a share ``tails`` of the area is within, if singular corners would set them otherwise, and at which
    ends of the bar there is more."""
    order = np.argsort(value)
    share = np.cumsum(weight[order]) / weight.sum()
    low, high = (float(v) for v in (value.min(), value.max()))
    inner_low, inner_high = (float(value[order][np.searchsorted(share, q).clip(max=len(value) - 1)]) for q in (tails / 2, 1 - tails / 2))
    width = inner_high - inner_low
    ends = low < inner_low - 0.5 * width, high > inner_high + 0.5 * width
    low, high = inner_low if ends[0] else low, inner_high if ends[1] else high
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[ends]
    return (low, high, extend) if high > low else (low - 0.5, low + 0.5, "neither")


def within(axes: Axes, value: np.ndarray, low: float, high: float) -> None:
    """Shows a graph between limits, with a margin, and says how far what is cut off goes."""
    margin = 0.1 * (high - low)
    low, high = low - margin, high + margin
    axes.set_ylim(low, high)
    least, most = float(np.nanmin(value)), float(np.nanmax(value))
    beyond = [f"{v:.3g}" for v, out in ((least, least < low), (most, most > high)) if out]
    if beyond:
        axes.annotate(f"cut off: to {' and '.join(beyond)}", (0.98, 0.97), xycoords="axes fraction", ha="right", va="top", fontsize=7,
                      color="0.35")  # fmt: skip
