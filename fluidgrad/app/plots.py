"""Pictures of flows, sensitivities and runs, ready to print.

Every function draws one figure into one file. Fields use viridis, signed fields a diverging map centred at zero with
limits that outliers do not set. Matplotlib is loaded by the first picture, without a window.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from fluidgrad.app.output import write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fluidgrad.flow import Solution
    from fluidgrad.mesh import Mesh

STYLE = {
    "figure.dpi": 100,
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
    "axes.prop_cycle": "cycler('color', ['#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9', '#000000'])",  # Okabe and Ito
    "axes.formatter.limits": (-3, 4),
    "axes.formatter.use_mathtext": True,
}
FIELD, SIGNED = "viridis", "RdBu_r"
BODY = "0.82"  # gray of what is not fluid
WIDTH = 8.0  # inches
ROBUST = 99.0  # per cent of the area whose values set the limits of signed maps


@dataclass(frozen=True)
class Labels:
    """Names of the units, as in ``[units]``."""

    length: str = "L"
    time: str = "T"

    def __call__(self, quantity: str, units: str = "1") -> str:
        """A label: quantity [units], the units in powers of L and T."""
        return quantity if units in ("1", "") else f"{quantity} [{self.of(units)}]"

    def of(self, units: str) -> str:
        """The units with the file's names and proper exponents."""
        parts = []
        for part in units.split():
            base, _, power = part.partition("^")
            base = {"L": self.length, "T": self.time}.get(base, base)
            parts.append(f"{base}$^{{{power.replace('-', '−')}}}$" if power else base)
        return " ".join(parts)


def figure(draw: Callable[..., Figure]) -> Callable[..., Path]:
    """A function that draws becomes one whose first argument is the file to draw into."""

    @wraps(draw)
    def drawn(file: str | Path, *args: Any, **kwargs: Any) -> Path:
        import matplotlib

        with matplotlib.rc_context({**STYLE, "axes.prop_cycle": _cycle()}):
            shown = draw(*args, **kwargs)
            data = io.BytesIO()
            kind = Path(file).suffix.lstrip(".") or "png"
            # no date in the file: the same numbers make the same bytes
            shown.savefig(data, format=kind, bbox_inches="tight", pad_inches=0.06, metadata={"Software": None} if kind == "png" else None)
        write(Path(file), data.getvalue())
        return Path(file)

    return drawn


def _cycle() -> Any:
    from cycler import cycler

    return cycler(color=["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"])


def _new(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig, fig.subplots(rows, columns, **options)


@cache
def _compiled() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The geometry of a mesh, and what a flow's boundary prescribes: compiled, for op by op they take seconds."""
    import jax

    from fluidgrad.mesh import measure

    return jax.jit(measure), jax.jit(lambda flow: flow.conditions(measure(flow.mesh)))


def geometry(mesh: Mesh) -> Any:
    import jax

    return jax.tree.map(np.asarray, _compiled()[0](mesh))


# ---- where a flow is drawn


@dataclass(frozen=True)
class Window:
    """The part of the plane that is shown, and what lies in it. A 3D flow is cut half-way up z."""

    mesh: Mesh
    x: tuple[float, float]
    y: tuple[float, float]

    @property
    def size(self) -> tuple[float, float]:
        """Of a figure with these proportions [inches]."""
        aspect = (self.y[1] - self.y[0]) / (self.x[1] - self.x[0])
        width = WIDTH if aspect < 1.2 else WIDTH * 0.7
        if 0.6 < aspect:
            width = min(width, 5.2)
        return width, min(max(width * aspect + 0.5, 1.6), 9.0)

    def has(self, x: Float[np.ndarray, "n dim"]) -> np.ndarray:
        return (x[:, 0] >= self.x[0]) & (x[:, 0] <= self.x[1]) & (x[:, 1] >= self.y[0]) & (x[:, 1] <= self.y[1])

    def prepare(self, axes: Axes, labels: Labels) -> None:
        axes.set_aspect("equal")
        axes.set_xlim(*self.x)
        axes.set_ylim(*self.y)
        axes.set_xlabel(labels("x", "L"))
        axes.set_ylabel(labels("y", "L"))
        for side in ("top", "right"):
            axes.spines[side].set_visible(True)


def window(mesh: Mesh, walls: Sequence[str] = ()) -> Window:
    """The whole mesh, or the surroundings of its walls where those are a small part of it."""
    points = np.asarray(mesh.points)
    low, high = points.min(0)[:2], points.max(0)[:2]
    t = mesh.topology
    on_wall = [points[np.unique(t.face_points[t.faces_of(w)])][:, :2] for w in walls]
    if on_wall:
        lower, upper = np.min([w.min(0) for w in on_wall], 0), np.max([w.max(0) for w in on_wall], 0)
        size = (upper - lower).max()
        if size < 0.08 * (high - low).min():
            low = np.maximum(low, lower - np.array([2.0, 2.2]) * size)
            high = np.minimum(high, upper + np.array([5.0, 2.2]) * size)
    pad = 0.0
    return Window(mesh, (float(low[0] - pad), float(high[0] + pad)), (float(low[1] - pad), float(high[1] + pad)))


def _polygons(mesh: Mesh) -> list[Float[np.ndarray, "corners 2"]]:
    points = np.asarray(mesh.points)
    return [points[c[c >= 0]] for _, loops in mesh.topology.cells for c in loops]


def _outline(axes: Axes, mesh: Mesh, **options: Any) -> None:
    from matplotlib.collections import LineCollection

    t = mesh.topology
    if t.dim == 2:
        lines = np.asarray(mesh.points)[t.face_points[t.n_interior :, :2]]
        axes.add_collection(LineCollection(list(lines), **({"colors": "0.15", "linewidths": 0.7} | options)), autolim=False)


def _fill(
    axes: Axes, shown: Window, cell: Float[np.ndarray, " cells"], cmap: str, limits: tuple[float, float], edge: np.ndarray | None = None
) -> Any:
    """Draws a field, smooth between the mesh's points; in 3D an image of the cut. ``edge``: its values on boundary faces."""
    if shown.mesh.dim == 2:
        points = np.asarray(shown.mesh.points)
        value = _at_points(shown.mesh, cell, edge)
        drawn = axes.tripcolor(points[:, 0], points[:, 1], value, triangles=_triangles(shown.mesh), cmap=cmap, vmin=limits[0], vmax=limits[1],
                               shading="gouraud", rasterized=True)  # fmt: skip
    else:
        x, y, grid = _on_grid(shown, cell[:, None], 400)
        drawn = axes.pcolormesh(x, y, grid[..., 0], cmap=cmap, vmin=limits[0], vmax=limits[1], shading="nearest", rasterized=True)
    axes.set_facecolor(BODY)
    _outline(axes, shown.mesh)
    return drawn


def _triangles(mesh: Mesh) -> np.ndarray:
    """The cells cut into triangles from their first corner."""
    found = []
    for _, loops in mesh.topology.cells:
        for k in range(1, loops.shape[1] - 1):
            corners = loops[:, [0, k, k + 1]]
            found.append(corners[(corners >= 0).all(1)])
    return np.concatenate(found)


def _at_points(mesh: Mesh, cell: np.ndarray, edge: np.ndarray | None) -> np.ndarray:
    """Values at the mesh's points: the mean of the cells about each, weighted by nearness; on the boundary of its faces."""
    t, points, x_cell = mesh.topology, np.asarray(mesh.points), geometry(mesh).x_cell
    total, weight = np.zeros(len(points)), np.zeros(len(points))
    first = 0
    for _, loops in t.cells:
        number = np.arange(first, first + len(loops))
        first += len(loops)
        for corner in loops.T:
            used = corner >= 0
            w = 1 / np.linalg.norm(points[corner[used]] - x_cell[number[used]], axis=1)
            np.add.at(total, corner[used], w * cell[number[used]])
            np.add.at(weight, corner[used], w)
    value = total / np.where(weight > 0, weight, 1)
    if edge is not None:
        ends = t.face_points[t.n_interior :, :2]
        total, count = np.zeros(len(points)), np.zeros(len(points))
        np.add.at(total, ends, np.repeat(edge[:, None], 2, 1))
        np.add.at(count, ends, 1)
        value = np.where(count > 0, total / np.where(count > 0, count, 1), value)
    return value


def _on_grid(shown: Window, cell: Float[np.ndarray, "cells k"], n: int, edge: Float[np.ndarray, "boundary k"] | None = None) -> tuple:
    """Cell values on an even grid of about ``n`` points across the window, NaN outside the fluid."""
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import cKDTree

    mesh = shown.mesh
    g, t = geometry(mesh), mesh.topology
    x_cell = np.asarray(g.x_cell)
    width, height = shown.x[1] - shown.x[0], shown.y[1] - shown.y[0]
    step = max(width, height) / n
    x, y = (np.linspace(a, b, max(int((b - a) / step), 8)) for a, b in (shown.x, shown.y))
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    if mesh.dim == 2:
        edge = cell[t.owner[t.n_interior :]] if edge is None else edge
        places, values = np.concatenate([x_cell, np.asarray(g.x_face)[t.n_interior :]]), np.concatenate([cell, edge])
        near = shown.has(places) | (np.arange(len(places)) >= len(x_cell)) | _within(places, shown, 0.3)
        found = LinearNDInterpolator(places[near], values[near])(grid)
        found[~_inside(mesh, grid)] = np.nan
    else:
        z = np.full(len(grid), (x_cell[:, 2].min() + x_cell[:, 2].max()) / 2)
        distance, nearest = cKDTree(x_cell).query(np.column_stack([grid, z]))
        found = cell[nearest].astype(float)
        found[distance > np.cbrt(np.asarray(g.V))[nearest] * 1.2] = np.nan
    return x, y, found.reshape(len(y), len(x), -1)


def _within(x: np.ndarray, shown: Window, margin: float) -> np.ndarray:
    dx, dy = margin * (shown.x[1] - shown.x[0]), margin * (shown.y[1] - shown.y[0])
    return Window(shown.mesh, (shown.x[0] - dx, shown.x[1] + dx), (shown.y[0] - dy, shown.y[1] + dy)).has(x)


def _inside(mesh: Mesh, x: Float[np.ndarray, "n 2"]) -> np.ndarray:
    """Whether points are in the fluid: an odd number of boundary edges to their right."""
    t = mesh.topology
    a, b = np.moveaxis(np.asarray(mesh.points)[t.face_points[t.n_interior :, :2]], 1, 0)
    odd = np.zeros(len(x), bool)
    for (ax, ay), (bx, by) in zip(a, b, strict=True):
        if ay != by:
            crosses = (ay > x[:, 1]) != (by > x[:, 1])
            odd ^= crosses & (x[:, 0] < ax + (x[:, 1] - ay) * (bx - ax) / (by - ay))
    return odd


def _bar(fig: Figure, axes: Axes, drawn: Any, label: str, extend: str = "neither") -> None:
    """A color bar as high as its axes and never wide."""
    from mpl_toolkits.axes_grid1 import make_axes_locatable

    tall = axes.get_ylim()[1] - axes.get_ylim()[0] > 0.45 * (axes.get_xlim()[1] - axes.get_xlim()[0])
    if tall:
        place = make_axes_locatable(axes).append_axes("right", size=0.11, pad=0.09)
        bar = fig.colorbar(drawn, cax=place, extend=extend)
    else:
        place = make_axes_locatable(axes).append_axes("bottom", size=0.09, pad=0.42)
        bar = fig.colorbar(drawn, cax=place, orientation="horizontal", extend=extend)
    bar.set_label(label)
    bar.outline.set_linewidth(0.5)  # pyright: ignore


def _symmetric(value: np.ndarray, weight: np.ndarray | None = None) -> tuple[float, str]:
    """A limit that ``ROBUST`` per cent of the area stays below, and where the bar says that there is more."""
    size = np.abs(value[np.isfinite(value)])
    if not len(size) or size.max() == 0:
        return 1.0, "neither"
    order = np.argsort(size)
    share = np.cumsum(np.ones(len(size)) if weight is None else weight[np.isfinite(value)][order])
    limit = size[order][np.searchsorted(share, ROBUST / 100 * share[-1]).clip(max=len(size) - 1)]
    if limit <= 0 or size.max() < 1.5 * limit:
        return float(size.max()), "neither"
    return float(limit), "both"


def _range(value: np.ndarray) -> tuple[float, float]:
    low, high = float(np.min(value)), float(np.max(value))
    return (low, high) if high > low else (low - 0.5, low + 0.5)


# ---- flows


@figure
def mesh(mesh: Mesh, walls: Sequence[str] = (), labels: Labels = Labels(), title: str = "") -> Figure:  # noqa: B008
    """The cells; beside the whole, the surroundings of a small body."""
    from matplotlib.collections import PolyCollection

    shown = window(mesh, walls)
    fig, axes = _new(*shown.size)
    if mesh.dim == 2:
        axes.add_collection(PolyCollection(_polygons(mesh), facecolors="white", edgecolors="#0072B2", linewidths=0.25), autolim=False)
    else:
        x = geometry(mesh).x_cell
        axes.plot(x[:, 0], x[:, 1], ".", ms=1, color="#0072B2")
    axes.set_facecolor(BODY)
    _outline(axes, mesh)
    shown.prepare(axes, labels)
    axes.set_title(title or f"{mesh.n_cells:,} cells")
    return fig


@figure
def speed(solution: Solution, labels: Labels = Labels(), title: str = "") -> Figure:  # noqa: B008
    """Speed with streamlines."""
    flow = solution.flow
    shown = window(flow.mesh, walls_of(flow))
    u = np.asarray(solution.velocity)
    edge = _edge_velocity(flow, u) if flow.mesh.dim == 2 else None
    value = np.linalg.norm(u, axis=1)
    fig, axes = _new(*shown.size)
    drawn = _fill(axes, shown, value, FIELD, (0.0, max(float(value.max()), 1e-300)), None if edge is None else np.linalg.norm(edge, axis=1))
    shown.prepare(axes, labels)
    x, y, grid = _on_grid(shown, u[:, :2], 260, edge)
    aspect = (shown.y[1] - shown.y[0]) / (shown.x[1] - shown.x[0])
    density = (0.9, max(0.9 * aspect, 0.5)) if aspect < 1 else (max(0.9 / aspect, 0.5), 0.9)
    # no streamline where nothing moves: it would trace round-off
    grid[np.linalg.norm(grid, axis=-1) < 1e-4 * value.max()] = np.nan
    axes.streamplot(x, y, np.ma.masked_invalid(grid[..., 0]), np.ma.masked_invalid(grid[..., 1]), color=(1, 1, 1, 0.8), linewidth=0.55,
                    arrowsize=0.6, density=density, broken_streamlines=False, maxlength=20)  # fmt: skip
    _bar(fig, axes, drawn, labels("speed", "L T^-1"))
    axes.set_title(title)
    return fig


@figure
def pressure(solution: Solution, labels: Labels = Labels(), title: str = "") -> Figure:  # noqa: B008
    """Kinematic pressure."""
    shown = window(solution.flow.mesh, walls_of(solution.flow))
    value = np.asarray(solution.pressure)
    fig, axes = _new(*shown.size)
    drawn = _fill(axes, shown, value, "cividis", _range(value))
    shown.prepare(axes, labels)
    _bar(fig, axes, drawn, labels("kinematic pressure", "L^2 T^-2"))
    axes.set_title(title)
    return fig


def walls_of(flow: Any) -> list[str]:
    return [name for name, kind in flow.boundary.items() if type(kind).__name__ == "Wall"]


def _edge_velocity(flow: Any, u: np.ndarray) -> np.ndarray:
    """The velocity on the boundary faces: as given, or as in the cell inside."""
    t = flow.mesh.topology
    edge = u[t.owner[t.n_interior :]].copy()
    if len(flow.joined[1]) == 0:
        c = _compiled()[1](flow)
        fixed = np.asarray(c.fix_n * c.fix_t)[:, None]
        edge = fixed * np.asarray(c.velocity) + (1 - fixed) * edge
    return edge


# ---- sensitivities


@figure
def signed_field(
    mesh: Mesh,
    value: Float[np.ndarray, " cells"],
    label: str,
    walls: Sequence[str] = (),
    labels: Labels = Labels(),  # noqa: B008
    title: str = "",
    arrows: Float[np.ndarray, "cells dim"] | None = None,
) -> Figure:
    """A field with a sign, zero in the middle of the colors, and arrows where a direction belongs to it."""

    shown = window(mesh, walls)
    g = geometry(mesh)
    here = shown.has(np.asarray(g.x_cell))
    limit, extend = _symmetric(value[here], np.asarray(g.V)[here])
    fig, axes = _new(*shown.size)
    drawn = _fill(axes, shown, value, SIGNED, (-limit, limit))
    shown.prepare(axes, labels)
    if arrows is not None:
        x, y, grid = _on_grid(shown, arrows[:, :2], 34)
        size = np.linalg.norm(grid, axis=-1)
        top = np.nanpercentile(size, 90) or 1.0
        shorter = grid * (np.minimum(size, top) / np.maximum(size, 1e-300))[..., None]
        axes.quiver(x, y, shorter[..., 0], shorter[..., 1], color="0.1", scale=top * 34, scale_units="width", width=0.0018, pivot="mid")
    _bar(fig, axes, drawn, label, extend)
    axes.set_title(title)
    return fig


@figure
def wall(lines: Mapping[str, Any], mesh: Mesh, label: str, labels: Labels = Labels(), title: str = "") -> Figure:  # noqa: B008
    """dJ/dn along walls: coloured curves with arrows that show where moving the wall outward raises J, and against arc
    length."""
    from matplotlib.collections import LineCollection

    t, g = mesh.topology, geometry(mesh)
    x = np.concatenate([np.asarray(line.x) for line in lines.values()])
    value = np.concatenate([np.asarray(line.value) for line in lines.values()])
    low, high = x.min(0)[:2], x.max(0)[:2]
    size = float((high - low).max())
    aspect = max(float((high - low).min()), 0.0) / size
    limit, extend = _symmetric(value)
    stacked = aspect < 0.4
    fig, (axes, graph) = _new(WIDTH, 4.6, 2, 1) if stacked else _new(WIDTH, 3.6, 1, 2, width_ratios=[1, 1.1])
    centre = np.asarray(g.x_cell).mean(0)
    drawn = None
    for name, line in lines.items():
        where, v = np.asarray(line.x)[:, :2], np.asarray(line.value)
        S = np.asarray(g.S)[t.faces_of(name)]
        loop = bool(np.linalg.norm(where[0] - where[-1]) < 3 * np.median(np.linalg.norm(np.diff(where, axis=0), axis=1)))
        ends = np.stack([where, np.roll(where, -1, 0)], 1) if loop else np.stack([where[:-1], where[1:]], 1)
        jump = np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1)
        ends = ends[jump < 6 * np.median(jump)]
        middle = (v + np.roll(v, -1))[: len(jump)][jump < 6 * np.median(jump)] / 2
        drawn = axes.add_collection(
            LineCollection(list(ends), array=middle, cmap=SIGNED, clim=(-limit, limit), linewidths=4, capstyle="butt")
        )
        if len(S) == len(where):
            n = (S / np.linalg.norm(S, axis=1)[:, None])[:, :2]
        else:
            n = _normals(where, np.asarray(g.x_face)[t.faces_of(name)][:, :2], S[:, :2])
        pick = slice(None, None, max(1, len(where) // 48))
        height = 0.28 * size * np.clip(v / limit, -1.3, 1.3)
        arrows = n[pick] * height[pick, None] * (1.0 if not stacked else 0.25)
        axes.quiver(
            where[pick, 0], where[pick, 1], arrows[:, 0], arrows[:, 1], angles="xy", scale_units="xy", scale=1, width=0.003, color="0.25"
        )
        graph.plot(np.asarray(line.s), v, label=name)
    axes.set_aspect("equal")
    margin = 0.36 * size if not stacked else 0.1 * size
    axes.set_xlim(low[0] - margin, high[0] + margin)
    axes.set_ylim(low[1] - margin, high[1] + margin)
    axes.set_xlabel(labels("x", "L"))
    axes.set_ylabel(labels("y", "L"))
    _bar(fig, axes, drawn, label, extend)
    graph.axhline(0, color="0.6", lw=0.6, zorder=0)
    graph.set_xlabel(labels("arc length", "L"))
    graph.set_ylabel(label)
    if len(lines) > 1:
        graph.legend()
    fig.suptitle(title, fontsize=STYLE["axes.titlesize"])
    del centre
    return fig


def _normals(where: np.ndarray, face: np.ndarray, S: np.ndarray) -> np.ndarray:
    """Unit normals at points of a wall, from its nearest faces."""
    from scipy.spatial import cKDTree

    _, near = cKDTree(face).query(where, k=min(2, len(face)))
    n = S[near].reshape(len(where), -1, 2).sum(1)
    return n / np.linalg.norm(n, axis=1)[:, None]


@figure
def along(lines: Mapping[str, Any], label: str, labels: Labels = Labels(), title: str = "") -> Figure:  # noqa: B008
    """A quantity along patches, against arc length."""
    fig, axes = _new(5.2, 3.2)
    for name, line in lines.items():
        axes.plot(np.asarray(line.s), np.asarray(line.value), label=name)
    axes.axhline(0, color="0.6", lw=0.6, zorder=0)
    axes.set_xlabel(labels("arc length", "L"))
    axes.set_ylabel(label)
    if len(lines) > 1:
        axes.legend()
    axes.set_title(title)
    return fig


@figure
def table(rows: Sequence[tuple[str, float]], label: str, title: str = "") -> Figure:
    """The derivative by every number of the file, per per cent of it, the largest first."""
    rows = sorted((r for r in rows if np.isfinite(r[1]) and r[1] != 0), key=lambda r: -abs(r[1]))[:16][::-1]
    fig, axes = _new(WIDTH * 0.8, 0.9 + 0.24 * max(len(rows), 2))
    value = [v for _, v in rows]
    axes.barh(range(len(rows)), value, color=["#B2182B" if v > 0 else "#2166AC" for v in value], height=0.62)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.axvline(0, color="0.2", lw=0.6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label)
    axes.set_title(title)
    return fig


# ---- designs and runs


@figure
def profiles(
    before: Mapping[str, tuple[np.ndarray, np.ndarray]], after: Mapping[str, tuple[np.ndarray, np.ndarray]],
    bounds: tuple[float, float] | None = None, labels: Labels = Labels(), title: str = "",  # noqa: B008
) -> Figure:  # fmt: skip
    """Speeds along patches before and after: for each patch, arc length and speed."""
    fig, all_axes = _new(min(WIDTH, 4.6 * len(before)), 3.8, 1, len(before), squeeze=False)
    for axes, patch in zip(all_axes[0], before, strict=True):
        for (s, u), name, style in ((before[patch], "start", {"ls": "--", "color": "0.45"}), (after[patch], "optimum", {})):
            axes.plot(u, s, label=name, **style)
        for bound in bounds or ():
            axes.axvline(bound, color="0.75", lw=0.7, ls=":", zorder=0)
        axes.set_xlabel(labels("speed", "L T^-1"))
        axes.set_ylabel(labels(f"along the {patch}", "L"))
        axes.margins(y=0)
        axes.legend()
    fig.suptitle(title, fontsize=STYLE["axes.titlesize"])
    return fig


@figure
def values(before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray], title: str = "") -> Figure:
    """Any design before and after, number by number."""
    fig, all_axes = _new(WIDTH, 2.6 * len(before), len(before), 1, squeeze=False)
    for axes, path in zip(all_axes[:, 0], before, strict=True):
        a, b = np.ravel(before[path]), np.ravel(after[path])
        axes.plot(a, "o--", ms=3, color="0.45", label="start")
        axes.plot(b, "o-", ms=3, label="optimum")
        axes.set_ylabel(path)
        axes.legend()
    all_axes[-1, 0].set_xlabel("number of the design")
    fig.suptitle(title, fontsize=STYLE["axes.titlesize"])
    return fig


@figure
def history(
    iteration: Sequence[int], objective: Sequence[float], violation: Sequence[float], label: str, best: float | None = None, title: str = ""
) -> Figure:
    """Objective and constraint violation over the iterations."""
    fig, (top, bottom) = _new(5.6, 4.4, 2, 1, sharex=True, height_ratios=[1.5, 1])
    k = np.asarray(iteration)
    top.plot(k, objective, ".-", ms=4)
    if best is not None:
        top.axhline(best, color="0.6", lw=0.7, ls=":")
    top.set_ylabel(label)
    v = np.asarray(violation, float)
    floor = 1e-16
    bottom.semilogy(k, np.maximum(v, floor), ".-", ms=4, color="#D55E00")
    bottom.set_ylabel("constraint violation")
    if (v <= floor).any():
        bottom.axhline(floor, color="0.6", lw=0.7, ls=":")
    bottom.set_xlabel("iteration")
    bottom.xaxis.get_major_locator().set_params(integer=True)
    fig.suptitle(title, fontsize=STYLE["axes.titlesize"])
    return fig


@figure
def v_curve(checks: Mapping[str, Any], title: str = "") -> Figure:
    """Relative error of differences against the derivative over the step: down with the step's power, then up with
    round-off; between lies the floor."""
    fig, axes = _new(5.6, 4.2)
    floors = []
    for i, (name, c) in enumerate(checks.items()):
        steps, errors = np.asarray(c.steps), np.atleast_2d(np.asarray(c.errors))
        worst = np.nanmax(errors, axis=0) if errors.shape[-1] == len(steps) else np.nanmax(errors, axis=1)
        axes.loglog(steps, np.maximum(worst, 1e-17), ".-", ms=4, label=name, color=f"C{i % 7}", ls="-" if i < 7 else "--")
        floors.append(float(np.nanmin(worst)))
    if floors:
        axes.axhline(max(floors), color="0.5", lw=0.7, ls=":")
        axes.annotate(f"worst floor {max(floors):.1e}", (0.98, max(floors)), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                      xytext=(0, 2), textcoords="offset points", fontsize=8, color="0.3")  # fmt: skip
    axes.set_xlabel("step of the difference, relative")
    axes.set_ylabel("relative error of the difference")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0.0)
    axes.set_title(title)
    return fig
