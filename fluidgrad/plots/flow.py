"""Figures of a flow: its mesh, its speed and its pressure. Every function draws one figure into one file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fluidgrad.errors import InputError
from fluidgrad.plots.fields import FIELD, areas, color_bar, colored, field_maps, limits, outline, paint, signed, vectors
from fluidgrad.plots.interpolation import cut
from fluidgrad.plots.streamlines import level_lines
from fluidgrad.plots.style import UNNAMED, Labels, figure
from fluidgrad.plots.windows import Window, windows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from fluidgrad.flow.flow import Flow
    from fluidgrad.flow.solution import Solution
    from fluidgrad.mesh.mesh import Mesh


@figure
def mesh(mesh: Mesh, walls: Sequence[str] = (), labels: Labels = UNNAMED, title: str = "") -> Figure:
    """The cells."""

    def draw(fig: Figure, axes: Axes, here: Window) -> None:
        from matplotlib.collections import PolyCollection

        points = np.asarray(mesh.points)
        flat = [points[corners[corners >= 0]] for _, loops in mesh.topology.cells for corners in loops] if mesh.dim == 2 else cut(mesh)[0]
        style = {"facecolors": "white", "edgecolors": "#0072B2", "linewidths": 0.25}
        axes.add_collection(PolyCollection(flat, **style), autolim=False)  # pyright: ignore
        outline(axes, mesh)

    return field_maps(mesh, walls, draw, labels, title or f"{mesh.n_cells:,} cells")


@figure
def speed(solution: Solution, labels: Labels = UNNAMED, title: str = "", most: float | None = None) -> Figure:
    """Speed with streamlines, in colors up to ``most``."""
    flow, u = solution.flow, np.asarray(solution.velocity)
    draw = vectors(u, _edge_velocity(flow, u), labels("speed", "L T^-1"), most, stream_function(solution))
    return field_maps(flow.mesh, flow.walls, draw, labels, title)


@figure
def pressure(solution: Solution, labels: Labels = UNNAMED, title: str = "") -> Figure:
    """Kinematic pressure, in all windows with the same colors; its periodic part where a drop drives the flow."""
    from fluidgrad.flow.patches import pressure_name

    mesh, value = solution.flow.mesh, np.asarray(solution.pressure)
    area = areas(next(iter(windows(mesh, solution.flow.walls).values())))
    found = limits(value[area > 0], area[area > 0])
    draw = colored(value, labels(pressure_name(solution.flow, solution.state)[1], "L^2 T^-2"), "cividis", found)
    return field_maps(solution.flow.mesh, solution.flow.walls, draw, labels, title)


@figure
def vorticity(solution: Solution, labels: Labels = UNNAMED, title: str = "") -> Figure:
    """Vorticity, in 3D its component along z."""
    mesh, walls, value = solution.flow.mesh, solution.flow.walls, np.asarray(solution.vorticity)
    near = list(windows(mesh, walls).values())[-1]
    draw = signed(value if mesh.dim == 2 else value[:, 2], labels("vorticity" if mesh.dim == 2 else "vorticity along z", "T^-1"), near)
    return field_maps(mesh, walls, draw, labels, title)


@figure
def streamlines(solution: Solution, labels: Labels = UNNAMED, title: str = "") -> Figure:
    """The stream function in colors, with its lines.

    Raises:
        InputError: there is none: in 3D, or where a body blows.
    """
    flow, psi = solution.flow, np.asarray(solution.stream_function)
    low, high = (float(v) for v in (psi.min(), psi.max()))

    def draw(fig: Figure, axes: Axes, here: Window) -> None:
        drawn = paint(axes, flow.mesh, psi, FIELD, (low, high if high > low else low + 1.0))
        level_lines(axes, here, psi, np.asarray(solution.velocity))
        color_bar(fig, axes, drawn, labels("stream function", "L^2 T^-1"))

    return field_maps(flow.mesh, flow.walls, draw, labels, title)


@figure
def resistance(mesh: Mesh, value: np.ndarray, walls: Sequence[str] = (), labels: Labels = UNNAMED, title: str = "") -> Figure:
    """The resistance of a porous medium."""
    top = max(float(np.max(value)), 1e-300)
    return field_maps(mesh, walls, colored(np.asarray(value), labels("α", "T^-1"), "cividis", (0.0, top, "neither")), labels, title)


def stream_function(solution: Solution) -> np.ndarray | None:
    """At the points, where there is one: not in 3D, not where a body blows."""
    try:
        return np.asarray(solution.stream_function)
    except InputError:
        return None


def _edge_velocity(flow: Flow, u: np.ndarray) -> np.ndarray | None:
    """The velocity on the boundary faces of a 2D flow: as given, or as in the cell inside."""
    from fluidgrad.mesh.mesh import measure  # here, since it is JAX's

    if flow.mesh.dim == 3:
        return None
    t = flow.mesh.topology
    edge = u[t.owner[t.n_interior :]].copy()
    if not flow.pairs:
        c = flow.conditions(measure(flow.mesh))
        fixed = np.asarray(c.fix_n * c.fix_t)[:, None]
        edge = fixed * np.asarray(c.velocity) + (1 - fixed) * edge
    return edge
