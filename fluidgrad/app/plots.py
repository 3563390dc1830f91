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
    "axes.formatter.limits": (-3, 4),
    "axes.formatter.use_mathtext": True,
}
COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]  # of Okabe and Ito
FIELD, SIGNED = "viridis", "RdBu_r"
BODY = "0.82"  # gray of what is not fluid
WIDTH = 8.0  # inches
FLAT = 0.45  # height over width below which a color bar lies below its axes
ROBUST = 99.0  # per cent of the area whose values set the limits of signed maps


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
        powers = _powers(units)
        for base, power in _powers(by).items():
            powers[base] = powers.get(base, 0) - power
        left = [f"{base}^{power}" if power != 1 else base for base, power in powers.items() if power]
        return self(quantity, " ".join(left) or "1")

    def of(self, units: str) -> str:
        """The units with the file's names and proper exponents."""
        parts = []
        for part in units.split():
            base, _, power = part.partition("^")
            base = {"L": self.length, "T": self.time}.get(base, base)
            parts.append(f"{base}$^{{{power.replace('-', '−')}}}$" if power else base)
        return " ".join(parts)


def _powers(units: str) -> dict[str, int]:
    parts = (part.partition("^") for part in units.split() if part != "1")
    return {base: int(power or 1) for base, _, power in parts}


def figure(draw: Callable[..., Figure]) -> Callable[..., Path]:
    """A function that draws becomes one whose first argument is the file to draw into."""

    @wraps(draw)
    def drawn(file: str | Path, *args: Any, **kwargs: Any) -> Path:
        import matplotlib
        from cycler import cycler

        with matplotlib.rc_context(STYLE | {"axes.prop_cycle": cycler(color=COLORS)}):  # pyright: ignore
            shown = draw(*args, **kwargs)
            data = io.BytesIO()
            kind = Path(file).suffix.lstrip(".") or "png"
            # no date in the file: the same numbers make the same bytes
            shown.savefig(data, format=kind, bbox_inches="tight", pad_inches=0.06, metadata={"Software": None} if kind == "png" else None)
        write(Path(file), data.getvalue())
        return Path(file)

    return drawn


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
    def aspect(self) -> float:
        return (self.y[1] - self.y[0]) / (self.x[1] - self.x[0])

    def has(self, x: Float[np.ndarray, "n dim"]) -> np.ndarray:
        return (x[:, 0] >= self.x[0]) & (x[:, 0] <= self.x[1]) & (x[:, 1] >= self.y[0]) & (x[:, 1] <= self.y[1])


def windows(mesh: Mesh, walls: Sequence[str] = ()) -> dict[str, Window]:
    """What to show: everything, and the surroundings of bodies that are a small part of it (those alone, if tiny)."""
    points = np.asarray(mesh.points)[:, :2]
    low, high = points.min(0), points.max(0)
    shown = {"": Window(mesh, (float(low[0]), float(high[0])), (float(low[1]), float(high[1])))}
    t = mesh.topology
    boxes = []
    for name in walls:
        on_wall = points[np.unique(t.face_points[t.faces_of(name)])]
        box = np.stack([on_wall.min(0), on_wall.max(0)])
        if (np.ptp(box, axis=0) < 0.4 * (high - low).max()).all() and (box[0] > low).all() and (box[1] < high).all():
            boxes.append(box)
    if boxes:
        lower, upper = np.min([b[0] for b in boxes], 0), np.max([b[1] for b in boxes], 0)
        size = float((upper - lower).max())
        left, right = np.maximum(low, lower - np.array([1.5, 1.6]) * size), np.minimum(high, upper + np.array([3.5, 1.6]) * size)
        near = Window(mesh, (float(left[0]), float(right[0])), (float(left[1]), float(right[1])))
        if (right - left)[0] < 0.6 * (high - low)[0]:
            shown["near"] = near
        if size < 0.08 * (high - low).min():
            del shown[""]
    return shown


def _panels(shown: Mapping[str, Window], draw: Callable[[Figure, Axes, Window], None], labels: Labels, title: str) -> Figure:
    """One panel for each window, below each other, as wide as the page or as a column."""
    width = 5.8 if max(w.aspect for w in shown.values()) > 0.6 else WIDTH
    heights = [min((width - 1.4) * w.aspect, 7.0) + (1.2 if w.aspect < FLAT else 0.6) for w in shown.values()]
    fig, all_axes = _new(width, sum(heights), len(shown), 1, squeeze=False, height_ratios=heights)
    for axes, here in zip(all_axes[:, 0], shown.values(), strict=True):
        axes.set_aspect("equal")
        axes.set_xlim(*here.x)
        axes.set_ylim(*here.y)
        axes.set_xlabel(labels("x", "L"))
        axes.set_ylabel(labels("y", "L"))
        axes.spines[["top", "right"]].set_visible(True)
        axes.set_facecolor(BODY)
        draw(fig, axes, here)
        axes.set_xlim(*here.x)  # streamlines and meshes may have moved them
        axes.set_ylim(*here.y)
    all_axes[0, 0].set_title(title)
    return fig


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
        drawn = axes.tripcolor(
            points[:, 0],
            points[:, 1],
            value,
            triangles=_triangles(shown.mesh),
            cmap=cmap,
            vmin=limits[0],
            vmax=limits[1],
            shading="gouraud",
            rasterized=True,
        )
    else:
        x, y, grid = _on_grid(shown, cell[:, None], 400)
        drawn = axes.pcolormesh(x, y, grid[..., 0], cmap=cmap, vmin=limits[0], vmax=limits[1], shading="nearest", rasterized=True)
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
    from scipy.spatial import KDTree

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
        distance, nearest = KDTree(x_cell).query(np.column_stack([grid, z]))
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
    """A color bar as long as its axes and never wide: beside tall ones, below flat ones."""
    width, height = (abs(hi - lo) for lo, hi in (axes.get_xlim(), axes.get_ylim()))
    from matplotlib.transforms import ScaledTranslation

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


def _range(value: np.ndarray, weight: np.ndarray) -> tuple[float, float, str]:
    """Limits that all but the last per cent of the area is within, if singular corners would set them otherwise, and at
    which ends of the bar there is more."""
    order = np.argsort(value)
    share = np.cumsum(weight[order]) / weight.sum()
    low, high = (float(v) for v in (value.min(), value.max()))
    inner_low, inner_high = (float(value[order][np.searchsorted(share, q).clip(max=len(value) - 1)]) for q in (0.005, 0.995))
    width = inner_high - inner_low
    ends = low < inner_low - 0.5 * width, high > inner_high + 0.5 * width
    low, high = inner_low if ends[0] else low, inner_high if ends[1] else high
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[ends]
    return (low, high, extend) if high > low else (low - 0.5, low + 0.5, "neither")


# ---- flows


@figure
def mesh(mesh: Mesh, walls: Sequence[str] = (), labels: Labels = Labels(), title: str = "") -> Figure:  # noqa: B008
    """The cells."""

    def draw(fig: Figure, axes: Axes, here: Window) -> None:
        from matplotlib.collections import PolyCollection

        if mesh.dim == 2:
            style = {"facecolors": "white", "edgecolors": "#0072B2", "linewidths": 0.25}
            axes.add_collection(PolyCollection(_polygons(mesh), **style), autolim=False)  # pyright: ignore
        else:
            axes.plot(*geometry(mesh).x_cell.T[:2], ".", ms=1, color="#0072B2")
        _outline(axes, mesh)

    return _panels(windows(mesh, walls), draw, labels, title or f"{mesh.n_cells:,} cells")


@figure
def speed(solution: Solution, labels: Labels = Labels(), title: str = "") -> Figure:  # noqa: B008
    """Speed with streamlines."""
    flow, u = solution.flow, np.asarray(solution.velocity)
    draw = _vectors(u, _edge_velocity(flow, u), labels("speed", "L T^-1"))
    return _panels(windows(flow.mesh, walls_of(flow)), draw, labels, title)


@figure
def pressure(solution: Solution, labels: Labels = Labels(), title: str = "") -> Figure:  # noqa: B008
    """Kinematic pressure."""
    value = np.asarray(solution.pressure)

    def draw(fig: Figure, axes: Axes, here: Window) -> None:
        g = geometry(here.mesh)
        seen = here.has(g.x_cell)
        low, high, extend = _range(value[seen], g.V[seen])
        _bar(fig, axes, _fill(axes, here, value, "cividis", (low, high)), labels("kinematic pressure", "L^2 T^-2"), extend)

    return _panels(windows(solution.flow.mesh, walls_of(solution.flow)), draw, labels, title)


def _vectors(u: np.ndarray, edge: np.ndarray | None, label: str) -> Callable[[Figure, Axes, Window], None]:
    """The size of a vector field in colors, and its lines."""
    size = np.linalg.norm(u, axis=1)

    def draw(fig: Figure, axes: Axes, here: Window) -> None:
        top = max(float(size[here.has(geometry(here.mesh).x_cell)].max(initial=0.0)), 1e-300)
        drawn = _fill(axes, here, size, FIELD, (0.0, top), None if edge is None else np.linalg.norm(edge, axis=1))
        x, y, grid = _on_grid(here, u[:, :2], 260, edge)
        grid[np.linalg.norm(grid, axis=-1) < 1e-3 * top] = np.nan  # no line where nothing moves: it would trace round-off
        lines = np.ma.masked_invalid(grid)
        broken = here.aspect > 0.75  # lines that go round and round would fill a square cavity
        across = 0.9 if here.aspect < FLAT else 0.75
        density = (across, max(across * here.aspect, 0.5)) if here.aspect < 1 else (max(across / here.aspect, 0.5), across)
        axes.streamplot(x, y, lines[..., 0], lines[..., 1], color=(1, 1, 1, 0.8), linewidth=0.55, arrowsize=0.6, density=density,
                        broken_streamlines=broken, maxlength=3)  # fmt: skip
        _bar(fig, axes, drawn, label)

    return draw


def _signed(value: np.ndarray, label: str) -> Callable[[Figure, Axes, Window], None]:
    """A field with a sign, zero in the middle of the colors."""

    def draw(fig: Figure, axes: Axes, here: Window) -> None:
        g = geometry(here.mesh)
        seen = here.has(g.x_cell)
        limit, extend = _symmetric(value[seen], g.V[seen])
        _bar(fig, axes, _fill(axes, here, value, SIGNED, (-limit, limit)), label, extend)

    return draw


def walls_of(flow: Any) -> list[str]:
    return [name for name, kind in flow.boundary.items() if type(kind).__name__ == "Wall"]


def _edge_velocity(flow: Any, u: np.ndarray) -> np.ndarray | None:
    """The velocity on the boundary faces of a 2D flow: as given, or as in the cell inside."""
    if flow.mesh.dim == 3:
        return None
    t = flow.mesh.topology
    edge = u[t.owner[t.n_interior :]].copy()
    if len(flow.joined[1]) == 0:
        c = _compiled()[1](flow)
        fixed = np.asarray(c.fix_n * c.fix_t)[:, None]
        edge = fixed * np.asarray(c.velocity) + (1 - fixed) * edge
    return edge


# ---- sensitivities


@dataclass(frozen=True)
class Maps:
    """What is drawn of a sensitivity: the maps of ``fluidgrad.sensitivity`` and the name and units of J."""

    maps: Any
    flow: Any
    name: str
    units: str
    labels: Labels

    def label(self, quantity: str, by: str) -> str:
        """dJ/d(quantity) per unit of its patch or volume; ``by``: units of the quantity times that measure, in 2D."""
        deeper = f" L^{_powers(by).get('L', 0) + 1}" if self.flow.mesh.dim == 3 else f" L^{_powers(by).get('L', 0)}"
        rest = " ".join(part for part in by.split() if part.partition("^")[0] != "L")
        return self.labels.over(f"dJ/d{quantity}", self.units, rest + deeper)


def sensitivity_figures(found: Maps) -> dict[str, Callable[[Path], Path]]:
    """What there is to draw: the name of each picture, and the function that draws it."""
    m, mesh_, walls = found.maps, found.flow.mesh, walls_of(found.flow)
    title = f"J = {found.name}"
    drawn: dict[str, Callable[[Path], Path]] = {
        "porosity": lambda file: signed_field(file, mesh_, m.porosity, found.label("α", "T^-1 L^2"), walls, found.labels, title),
        "adjoint_velocity": lambda file: adjoint(
            file, mesh_, np.asarray(m.force), found.label("f", "L^3 T^-2"), walls, found.labels, title
        ),
    }
    if m.inflow:
        drawn["inflow"] = lambda file: along(file, m.inflow, found.label("u", "L^2 T^-1"), found.labels, title)
    for name, line in m.wall.items():
        if mesh_.dim == 2:
            drawn[f"wall_{name}"] = lambda file, n=name, line=line: wall(file, {n: line}, found.label("n", "L^2"), found.labels, title)
    return drawn


def plot_sensitivity(sensitivity: Any, file: str | Path) -> Path:
    """All maps of a ``fluidgrad.Sensitivity`` in one picture."""
    return overview(file, sensitivity)


@figure
def overview(sensitivity: Any, labels: Labels = Labels()) -> Figure:  # noqa: B008
    """Porosity, adjoint velocity, walls and inflow, one below the other."""
    flow = sensitivity.solution.flow
    here = list(windows(flow.mesh, walls_of(flow)).values())[-1]
    fields = [
        _signed(np.asarray(sensitivity.porosity), "dJ/dα per unit volume"),
        _vectors(np.asarray(sensitivity.force), None, "dJ/df per unit volume"),
    ]
    graphs = [(label, lines) for label, lines in (("dJ/dn of walls", sensitivity.wall), ("dJ/du of inflows", sensitivity.inflow)) if lines]
    queue = iter(fields)
    fig = _panels({str(i): here for i in range(len(fields))}, lambda fig, axes, w: next(queue)(fig, axes, w), labels, "")
    if flow.mesh.dim == 3 or not graphs:
        return fig
    width, height = fig.get_size_inches()
    fig.set_size_inches(width, height + 2.6 * len(graphs))
    grid = fig.add_gridspec(len(fields) + len(graphs), 1, height_ratios=[height / len(fields)] * len(fields) + [2.6] * len(graphs))
    for i, axes in enumerate(fig.axes[: len(fields)]):
        axes.set_subplotspec(grid[i])
    for i, (label, lines) in enumerate(graphs):
        _against_arc(fig.add_subplot(grid[len(fields) + i]), lines, label, labels)
    return fig


@figure
def signed_field(
    mesh: Mesh, value: np.ndarray, label: str, walls: Sequence[str] = (), labels: Labels = Labels(), title: str = ""  # noqa: B008
) -> Figure:  # fmt: skip
    """A field with a sign, zero in the middle of the colors."""
    return _panels(windows(mesh, walls), _signed(np.asarray(value), label), labels, title)


@figure
def adjoint(
    mesh: Mesh, force: np.ndarray, label: str, walls: Sequence[str] = (), labels: Labels = Labels(), title: str = ""  # noqa: B008
) -> Figure:  # fmt: skip
    """The adjoint velocity: where and along which direction a push on the fluid raises J most."""
    return _panels(windows(mesh, walls), _vectors(force, None, label), labels, title)


@figure
def wall(lines: Mapping[str, Any], label: str, labels: Labels = Labels(), title: str = "") -> Figure:  # noqa: B008
    """dJ/dn along walls: colored curves, arrows along which moving the wall raises J, and graphs against arc length."""
    from matplotlib.collections import LineCollection

    x, value = (np.concatenate([getattr(line, k) for line in lines.values()]) for k in ("x", "value"))
    low, high = np.nanmin(x, 0), np.nanmax(x, 0)
    size = float((high - low).max())
    flat = bool((high - low).min() < 0.4 * size)
    limit, extend = _symmetric(value)
    fig, (axes, graph) = _new(WIDTH, 4.6, 2, 1) if flat else _new(WIDTH, 3.6, 1, 2, width_ratios=[1, 1.15])
    reach = (0.06 if flat else 0.28) * size
    for line in lines.values():
        for piece in _pieces(line):
            where, v = line.x[piece], line.value[piece]
            segments = np.stack([where[:-1], where[1:]], 1)
            style = {"cmap": SIGNED, "clim": (-limit, limit), "linewidths": 4.5, "capstyle": "butt", "zorder": 3}
            axes.add_collection(LineCollection(list(segments), array=(v[:-1] + v[1:]) / 2, **style))
            height = reach * np.clip(v / limit, -1.2, 1.2)
            pick = np.arange(0, len(where), max(1, len(where) // 40))
            pick = pick[np.abs(height[pick]) > 0.05 * reach]
            height = height[pick]
            # from the wall into the fluid where pushing the wall out raises J, else to the wall from the fluid
            tip = where[pick] + line.n[piece][pick] * np.abs(height)[:, None]
            start, end = np.where((height > 0)[:, None], where[pick], tip), np.where((height > 0)[:, None], tip, where[pick])
            axes.quiver(
                *start.T,
                *(end - start).T,
                angles="xy",
                scale_units="xy",
                scale=1,
                units="inches",
                width=0.012,
                headwidth=4,
                color="0.35",
                zorder=2,
            )
    axes.set_aspect("equal")
    margin = reach * 1.35
    axes.set_xlim(low[0] - margin, high[0] + margin)
    axes.set_ylim(low[1] - margin, high[1] + margin)
    axes.set_xlabel(labels("x", "L"))
    axes.set_ylabel(labels("y", "L"))
    _bar(fig, axes, axes.collections[0], label, extend)
    _against_arc(graph, lines, label, labels)
    fig.suptitle(title, fontsize=STYLE["axes.titlesize"])
    return fig


def _pieces(line: Any) -> list[slice]:
    """The stretches of a line between its rows of NaN."""
    gaps = np.flatnonzero(np.isnan(line.value))
    ends = np.concatenate([[-1], gaps, [len(line.value)]])
    return [slice(a + 1, b) for a, b in zip(ends[:-1], ends[1:], strict=True) if b - a > 2]


@figure
def along(lines: Mapping[str, Any], label: str, labels: Labels = Labels(), title: str = "") -> Figure:  # noqa: B008
    """A quantity along patches, against arc length."""
    fig, axes = _new(5.2, 3.2)
    _against_arc(axes, lines, label, labels)
    axes.set_title(title)
    return fig


def _against_arc(axes: Axes, lines: Mapping[str, Any], label: str, labels: Labels) -> None:
    count = 0
    for name, line in lines.items():
        pieces = _pieces(line)
        for i, piece in enumerate(pieces):
            axes.plot(line.s[piece], line.value[piece], label=f"{name} ({i + 1})" if len(pieces) > 1 else name)
            count += 1
    axes.axhline(0, color="0.6", lw=0.6, zorder=0)
    axes.set_xlabel(labels("arc length", "L"))
    axes.set_ylabel(label)
    if count > 1:
        axes.legend()


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


def profile(flow: Any, patch: str, zero_ends: bool) -> tuple[np.ndarray, np.ndarray]:
    """Arc length and speed along an inflow of a 2D flow, face by face, and at the ends of a profile that is zero there."""
    from fluidgrad.design import spans

    a, b = (np.asarray(s) for s in spans(flow.mesh, patch))
    S = geometry(flow.mesh).S[flow.mesh.topology.faces_of(patch)]
    speed = np.asarray(flow.boundary[patch].speed)
    u = (
        speed
        if speed.ndim == 1
        else np.broadcast_to(speed, a.shape)
        if speed.ndim == 0
        else -np.sum(speed * S, 1) / np.linalg.norm(S, axis=1)
    )
    order = np.argsort(a)
    s, u = (0.5 * (a + b))[order], u[order]
    if zero_ends:
        s, u = np.concatenate([[0.0], s, [1.0]]), np.concatenate([[0.0], u, [0.0]])
    return s * np.linalg.norm(S, axis=1).sum(), u


@figure
def outlines(before: Mesh, after: Mesh, walls: Sequence[str], labels: Labels = Labels(), title: str = "") -> Figure:  # noqa: B008
    """The walls before and after."""
    here = list(windows(before, walls).values())[-1]
    pad = 0.05 * (here.x[1] - here.x[0])
    fig, axes = _new(5.4, 5.4 * here.aspect + 0.8)
    for mesh, name, style in ((before, "start", {"color": "0.5", "ls": "--"}), (after, "optimum", {"color": "C0"})):
        for i, wall in enumerate(walls):
            lines = np.asarray(mesh.points)[mesh.topology.face_points[mesh.topology.faces_of(wall)][:, :2]]
            gaps = np.concatenate([lines, np.full((len(lines), 1, 2), np.nan)], 1).reshape(-1, 2)
            axes.plot(*gaps.T, lw=1.2, label=name if i == 0 else None, **style)
    axes.set_aspect("equal")
    axes.set_xlim(here.x[0] - pad, here.x[1] + pad)
    axes.set_ylim(here.y[0] - pad, here.y[1] + pad)
    axes.set_xlabel(labels("x", "L"))
    axes.set_ylabel(labels("y", "L"))
    axes.legend()
    axes.set_title(title)
    return fig


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
    evaluation: Sequence[int],
    objective: Sequence[float],
    violation: Sequence[float],
    label: str,
    best: float | None = None,
    title: str = "",
) -> Figure:
    """Objective and constraint violation over the evaluations."""
    fig, (top, bottom) = _new(5.6, 4.4, 2, 1, sharex=True, height_ratios=[1.5, 1])
    k = np.asarray(evaluation)
    top.plot(k, objective, ".-", ms=4)
    if best is not None:
        top.axhline(best, color="0.6", lw=0.7, ls=":")
    top.set_ylabel(label)
    v = np.asarray(violation, float)
    floor = 1e-10  # less is none
    bottom.semilogy(k, np.maximum(v, floor), ".-", ms=4, color="#D55E00")
    bottom.set_ylabel("constraint violation")
    if (v <= floor).any():
        bottom.axhline(floor, color="0.6", lw=0.7, ls=":")
    bottom.set_xlabel("evaluation")
    bottom.xaxis.get_major_locator().set_params(integer=True)
    fig.suptitle(title, fontsize=STYLE["axes.titlesize"])
    return fig


@figure
def check(curves: Sequence[Mapping[str, Any]], title: str = "") -> Figure:
    """Taylor remainders, which must fall with the square of the step, and differences against the derivative: the V-curve,
    down with the fourth power of the step, then up with round-off, the floor between them named.

    Each curve: name, remainders over taylor_steps (divided by the value), errors over steps.
    """
    fig, (left, right) = _new(WIDTH, 3.9, 1, 2)
    floors = []
    for i, c in enumerate(curves):
        style = {"ms": 4, "color": f"C{i % 7}", "marker": "os^v"[i // 7 % 4], "lw": 1.0}
        left.loglog(c["taylor_steps"], np.maximum(c["remainders"], 1e-17), label=c["name"], **style)
        right.loglog(c["steps"], np.maximum(c["errors"], 1e-17), **style)
        floors.append(float(np.min(c["errors"])))
    first = np.asarray(curves[0]["taylor_steps"], float)
    top = max(float(np.max(c["remainders"])) for c in curves)
    left.loglog(first, top * 2 * (first / first.max()) ** 2, color="0.5", lw=0.8, ls=":", label="slope 2")
    left.set_xlabel("step, relative to the design")
    left.set_ylabel("Taylor remainder, relative")
    right.set_xlabel("step, relative to the design")
    right.set_ylabel("error of differences, relative")
    right.axhline(max(floors), color="0.5", lw=0.8, ls=":")
    right.annotate(f"floor {max(floors):.1e}", (0.98, max(floors)), xycoords=("axes fraction", "data"), ha="right", va="bottom",
                   xytext=(0, 2), textcoords="offset points", fontsize=8, color="0.3")  # fmt: skip
    fig.legend(loc="outside lower center", ncols=min(len(curves) + 1, 3))
    fig.suptitle(title, fontsize=STYLE["axes.titlesize"])
    return fig
