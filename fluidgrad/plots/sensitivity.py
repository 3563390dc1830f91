"""Figures of a sensitivity: maps, walls, inflows, and the table of numbers. Every function draws one figure into one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidgrad.files import file_name
from fluidgrad.plots import surfaces
from fluidgrad.plots.fields import SIGNED, Draw, color_bar, field_maps, limits, panels, signed, symmetric_limit, vectors, within
from fluidgrad.plots.interpolation import geometry, stream_function
from fluidgrad.plots.style import UNNAMED, WIDTH, Labels, figure, new, plane
from fluidgrad.plots.windows import windows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fluidgrad.flow.flow import Flow
    from fluidgrad.mesh.mesh import Mesh

TAILS = 0.04  # of a wall's length: corners, whose values a mesh never resolves, set no limits


def draw_maps(folder: Path, maps: Any, flow: Flow, name: str, units: str, labels: Labels, smooth: Mapping[str, Any]) -> None:
    """Every map of a ``fluidgrad.Sensitivity`` into a picture of its own; ``name`` and ``units`` are those of J, ``smooth``
    the smoothed maps of walls."""
    walls, title = flow.walls, f"J = {name}"

    def label(quantity: str, by: str) -> str:
        """dJ/d(quantity) per unit of its patch or volume; ``by``: units of the quantity times that measure, in 2D."""
        return labels.over(f"dJ/d{quantity}", units, by + " L" * (flow.mesh.dim - 2))

    signed_field(folder / "porosity.png", flow.mesh, maps.porosity, label("α", "T^-1 L^2"), walls, labels, title)
    adjoint(folder / "adjoint_velocity.png", flow.mesh, np.asarray(maps.force), label("f", "T^-2 L^3"), walls, labels, title)
    if flow.mesh.dim == 3:
        for kind, lines, by in (("inflow", maps.inflow, ("u", "T^-1 L^2")), ("wall", maps.wall, ("n", "L^2"))):
            for patch, line in lines.items():
                file = folder / f"{kind}_{file_name(patch, flow.boundary)}.png"
                value = line.value if kind == "inflow" else surfaces.at_faces(flow.mesh, patch, line.value)
                surface(file, flow.mesh, patch, value, label(*by), labels, f"{title}, {patch}")
        return
    if maps.inflow:
        along(folder / "inflow.png", maps.inflow, label("u", "T^-1 L^2"), labels, title)
    for patch, line in maps.wall.items():
        wall(
            folder / f"wall_{file_name(patch, flow.boundary)}.png", {patch: line}, label("n", "L^2"), labels, title, {patch: smooth[patch]}
        )


@figure
def overview(sensitivity: Any, labels: Labels = UNNAMED, title: str = "") -> Figure:
    """Porosity, adjoint velocity, walls and inflow, one below the other."""
    flow = sensitivity.solution.flow
    here = list(windows(flow.mesh, flow.walls).values())[-1]
    fields = [
        (here, signed(np.asarray(sensitivity.porosity), "dJ/dα per unit volume", here)),
        (here, _adjoint(flow.mesh, np.asarray(sensitivity.force), "dJ/df per unit volume")),
    ]
    graphs = [(label, lines) for label, lines in (("dJ/dn of walls", sensitivity.wall), ("dJ/du of inflows", sensitivity.inflow)) if lines]
    if flow.mesh.dim == 3:
        graphs = []
    fig, below = panels(fields, labels, title, len(graphs))
    for axes, (label, lines) in zip(below, graphs, strict=True):
        _against_arc(axes, lines, label, labels)
    return fig


@figure
def signed_field(mesh: Mesh, value: np.ndarray, label: str, walls: Sequence[str] = (), labels: Labels = UNNAMED, title: str = "") -> Figure:
    """A field with a sign, zero in the middle of the colors."""
    near = list(windows(mesh, walls).values())[-1]
    return field_maps(mesh, walls, signed(np.asarray(value), label, near), labels, title)


@figure
def adjoint(mesh: Mesh, force: np.ndarray, label: str, walls: Sequence[str] = (), labels: Labels = UNNAMED, title: str = "") -> Figure:
    """The adjoint velocity: where and along which direction a push on the fluid raises J most."""
    return field_maps(mesh, walls, _adjoint(mesh, force, label), labels, title)


def _adjoint(mesh: Mesh, force: np.ndarray, label: str) -> Draw:
    return vectors(force, None, label, psi=stream_function(mesh, force) if mesh.dim == 2 else None)


@figure
def wall(
    lines: Mapping[str, Any],
    label: str,
    labels: Labels = UNNAMED,
    title: str = "",
    smooth: Mapping[str, Any] | None = None,
    beside: Sequence[Any] = (),
) -> Figure:
    """dJ/dn along walls: colored curves, arrows along which moving the wall raises J, and graphs against arc length: thin
    the map as computed, and thick the smoothed one, which the curves and arrows show then and which sets the limits. Maps
    that this one is looked at ``beside`` have a part in them."""
    from matplotlib.collections import LineCollection

    shown = smooth or lines
    x = np.concatenate([line.x for line in shown.values()])
    low, high = np.nanmin(x, 0), np.nanmax(x, 0)
    size = float((high - low).max())
    flat = bool((high - low).min() < 0.4 * size)
    everything = [*shown.values(), *beside]
    limit, extend = symmetric_limit(*_together(everything), TAILS)
    fig, (axes, graph) = new(WIDTH, 4.6, 2, 1) if flat else new(WIDTH, 3.6, 1, 2, width_ratios=[1, 1.15])
    reach = (0.06 if flat else 0.28) * size
    for line in shown.values():
        for piece in line.pieces:
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
    low, high = low - 1.35 * reach, high + 1.35 * reach
    plane(axes, (low[0], high[0]), (low[1], high[1]), labels)
    color_bar(fig, axes, axes.collections[0], label, extend)
    _against_arc(graph, lines, label, labels, smooth, everything)
    fig.suptitle(title)
    return fig


@figure
def surface(mesh: Mesh, patch: str, value: np.ndarray, label: str, labels: Labels = UNNAMED, title: str = "") -> Figure:
    """A map on a patch in space, one value a face."""
    fig, axes = new(6.4, 4.8, subplot_kw={"projection": "3d"})
    limit, extend = symmetric_limit(value, np.linalg.norm(geometry(mesh).S[mesh.topology.faces_of(patch)], axis=1), TAILS)
    shown = surfaces.paint(axes, mesh, [patch], value, SIGNED, (-limit, limit), labels)
    fig.colorbar(shown, ax=axes, shrink=0.7, pad=0.2, extend=extend, label=label)
    axes.set_title(title)
    return fig


@figure
def along(lines: Mapping[str, Any], label: str, labels: Labels = UNNAMED, title: str = "") -> Figure:
    """A quantity along patches, against arc length."""
    fig, axes = new(5.2, 3.2)
    _against_arc(axes, lines, label, labels)
    axes.set_title(title)
    return fig


@figure
def table(rows: Sequence[tuple[str, float]], label: str, title: str = "") -> Figure:
    """The derivative by every number of the file, per per cent of it, the largest first."""
    rows = sorted((r for r in rows if np.isfinite(r[1]) and r[1] != 0), key=lambda r: -abs(r[1]))[:16][::-1]
    fig, axes = new(WIDTH * 0.8, 0.9 + 0.24 * max(len(rows), 2))
    value = [v for _, v in rows]
    axes.barh(range(len(rows)), value, color=["#B2182B" if v > 0 else "#2166AC" for v in value], height=0.62)
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.axvline(0, color="0.2", lw=0.6)
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(label)
    axes.set_title(title)
    return fig


def _together(lines: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Values and weights of several maps, without the gaps between their pieces."""
    value, weight = (np.concatenate([getattr(line, k) for line in lines]) for k in ("value", "weight"))
    return value[~np.isnan(value)], weight[~np.isnan(value)]


def _against_arc(
    axes: Axes, lines: Mapping[str, Any], label: str, labels: Labels, smooth: Mapping[str, Any] | None = None, of: Sequence[Any] = ()
) -> None:
    """Maps over arc length, between the limits of ``of`` (or of those that are shown thick)."""
    count = 0
    for name, line in lines.items():
        for i, piece in enumerate(line.pieces):
            named = f"{name} ({i + 1})" if len(line.pieces) > 1 else name
            if smooth:
                axes.plot(line.s[piece], smooth[name].value[piece], lw=2.2, label=f"{named}, smoothed")
                axes.plot(line.s[piece], line.value[piece], color="0.25", lw=0.6, zorder=3, label="as computed" if count == 0 else None)
            else:
                axes.plot(line.s[piece], line.value[piece], label=named)
            count += 1
    axes.axhline(0, color="0.6", lw=0.6, zorder=0)
    axes.set_xlabel(labels("arc length", "L"))
    axes.set_ylabel(label)
    if count:
        raw, shown = (_together(list(some)) for some in (lines.values(), of or (smooth or lines).values()))
        within(axes, raw[0], *limits(*shown, TAILS)[:2])
    if count > 1 or smooth:  # above the axes, where no line is
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0.2)
