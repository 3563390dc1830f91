"""Streamlines in a picture: lines of equal stream function, or traced ones where a field has none.

Between two neighbouring lines of the stream function passes the same flow. So they are symmetric where the flow is, whole in
bubbles, and end at the boundary only. Levels are even, half a step off the walls'. A bubble (a region of closed lines about
a largest or smallest value, out to the first value that leads to a boundary or into a stronger bubble) that too few of
them meet has levels of its own, evenly spaced in radius.
Between points lines are smooth: cubic in each triangle (matplotlib's reduced Hsieh-Clough-Tocher elements).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from fluidgrad.plots.interpolation import geometry, on_grid
from fluidgrad.plots.interpolation import triangles as cut_triangles

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fluidgrad.plots.windows import Window

LINE = (1, 1, 1, 0.8)
APART = 0.04  # of the picture's width, between lines at the median speed
FEWEST, MOST = 8, 24  # lines across a picture
RING = 0.009  # of the picture's width, between the lines of a bubble
RINGS = 3  # of a bubble at most
SMALLEST = 6  # points of the mesh that make a bubble
FAINT = 1e-9  # of the values' range: no bubble, but round-off
FINE = 150_000  # triangles that lines are smooth in


class Bubble(NamedTuple):
    """Closed lines about ``peak`` out to ``rim``, and the points within."""

    peak: float
    rim: float
    points: Int[np.ndarray, " k"]

    def has(self, level: float) -> bool:
        return min(self.peak, self.rim) < level < max(self.peak, self.rim)


def level_lines(axes: Axes, here: Window, psi: Float[np.ndarray, " points"], u: Float[np.ndarray, "cells 2"]) -> None:
    """Lines of a 2D mesh's stream function, with arrows along the velocity ``u`` of the cells."""
    from matplotlib.collections import LineCollection
    from matplotlib.tri import CubicTriInterpolator, Triangulation, UniformTriRefiner

    x, triangles = np.asarray(here.mesh.points), cut_triangles(here.mesh, psi)
    seen, width = here.has(x), here.x[1] - here.x[0]
    low, high = psi[seen].min(), psi[seen].max()
    if not high > low:
        return
    speed = float(np.median(np.linalg.norm(u[here.has(geometry(here.mesh).x_cell)], axis=1)))
    even = 2 * int(np.clip((high - low) / max(2 * APART * width * speed, 1e-300), FEWEST / 2, MOST / 2))
    drawn: list[tuple[float, Bubble | None, int]] = [
        (low + (high - low) * (k + 0.5) / even, None, min(k, even - 1 - k)) for k in range(even)
    ]
    t = here.mesh.topology
    boundary = np.isin(np.arange(len(x)), t.face_points[t.n_interior :])
    own = [b for b in bubbles(psi, triangles, boundary)
           if seen[b.points].any() and abs(b.peak - b.rim) > FAINT * (high - low) and sum(b.has(at) for at, *_ in drawn) < 3]  # fmt: skip
    for b in own:
        inner = b.points[np.abs(psi[b.points] - b.rim) > 0.02 * abs(b.peak - b.rim)]
        rings = int(np.clip(np.ptp(x[inner], axis=0).min() / (2 * RING * width), 1, RINGS))
        drawn += [(b.peak + (b.rim - b.peak) * ((k + 0.7) / rings) ** 2, b, k) for k in range(rings)]

    triangles = triangles[here.wider(0.05).has(x)[triangles].any(1)]
    used, corners = np.unique(triangles, return_inverse=True)
    coarse, value = Triangulation(x[used, 0], x[used, 1], corners.reshape(triangles.shape)), psi[used]
    strides = int(np.clip(np.log(FINE / max(len(triangles), 1)) / np.log(4), 0, 3))
    fine, value = UniformTriRefiner(coarse).refine_field(value, CubicTriInterpolator(coarse, value, kind="geom"), strides)

    def about(b: Bubble) -> np.ndarray:
        """The triangles that a bubble's lines may pass through: those of its points and of their neighbours."""
        some = np.isin(triangles, b.points).any(1)
        return np.asarray(np.isin(triangles, triangles[some]).any(1))

    for level, bubble, number in drawn:
        kept = np.ones(len(triangles), bool) if bubble is None else about(bubble)
        for b in own:  # lines within a bubble are its own
            if b.has(level) and (bubble is None or len(b.points) < len(bubble.points)):
                kept &= ~about(b)
        if not kept.any():
            continue
        found = axes.tricontour(Triangulation(fine.x, fine.y, fine.triangles[np.repeat(kept, 4**strides)]), value, levels=[level])
        lines = [line for line in found.allsegs[0] if bubble is None or np.array_equal(line[0], line[-1])]
        found.remove()
        axes.add_collection(LineCollection(lines, colors=[LINE], linewidths=0.55), autolim=False)
        _arrows(axes, here, lines, u, 0.35 if number % 2 else 0.6)


def traced_lines(axes: Axes, here: Window, u: np.ndarray, edge: np.ndarray | None, rest: float) -> None:
    """Lines traced through values on an even grid; none where the speed is below ``rest``: they would follow round-off."""
    # where a window's sides are open, lines that soon leave crowd along them: they do so out of sight
    beyond = 0.15 if here.wider(0.15).is_within_mesh else 0.0
    x, y, grid = on_grid(here.wider(beyond), u[:, :2], 260, edge)
    grid[np.linalg.norm(grid, axis=-1) < rest] = np.nan
    lines = np.ma.masked_invalid(grid)
    flat = here.aspect < 0.45
    across = 0.9 if flat else 0.75
    density = (across, max(across * here.aspect, 0.5)) if here.aspect < 1 else (max(across / here.aspect, 0.5), across)
    density = (density[0] * (1 + 2 * beyond), density[1] * (1 + 2 * beyond))
    # lines that go round and round would fill a square cavity
    axes.streamplot(x, y, lines[..., 0], lines[..., 1], color=LINE, linewidth=0.55, arrowsize=0.6, density=density,
                    broken_streamlines=here.aspect > 0.75, maxlength=3)  # fmt: skip


def bubbles(value: Float[np.ndarray, " n"], triangles: Int[np.ndarray, "m 3"], boundary: np.ndarray) -> list[Bubble]:
    """The bubbles of values at points that triangles connect, of both signs."""
    sides = np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])
    sides = np.unique(np.sort(sides, 1), axis=0)
    both = np.concatenate([sides, sides[:, ::-1]])
    both = both[np.argsort(both[:, 0], kind="stable")]
    start = np.searchsorted(both[:, 0], np.arange(len(value) + 1))
    around = both[:, 1]
    return [Bubble(sign * b.peak, sign * b.rim, b.points) for sign in (1, -1) for b in _peaks(sign * value, start, around, boundary)]


def _peaks(value: np.ndarray, start: np.ndarray, around: np.ndarray, boundary: np.ndarray) -> list[Bubble]:
    """The bubbles about largest values: points join in falling order; where two groups meet, that of the lower peak ends."""
    group = np.full(len(value), -1)  # the peak that a point leads to, by way of others
    members: dict[int, list[int]] = {}
    found = []

    def peak_of(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    def end(peak: int, at: int) -> None:
        if peak in members and len(members[peak]) >= SMALLEST:
            found.append(Bubble(float(value[peak]), float(value[at]), np.array(members[peak])))
        members.pop(peak, None)

    for i in np.argsort(-value, kind="stable").tolist():
        met = {peak_of(j) for j in around[start[i] : start[i + 1]].tolist() if group[j] >= 0}
        alive = [p for p in met if p in members]
        if boundary[i] or len(alive) < len(met):  # what leads to a boundary is no bubble, nor what joins that
            for p in alive:
                end(p, i)
            group[i] = i
            for p in met:
                group[p] = i
            continue
        if not alive:
            group[i], members[i] = i, [i]
            continue
        first = max(alive, key=lambda p: value[p])
        for p in alive:
            if p != first:
                within = members[p]
                end(p, i)
                members[first] += within
                group[p] = first
        group[i] = first
        members[first].append(i)
    return found


def _arrows(axes: Axes, here: Window, lines: list[np.ndarray], u: np.ndarray, share: float) -> None:
    """An arrowhead on each line, at a share of the part of it that is shown."""
    from matplotlib.patches import FancyArrowPatch
    from scipy.spatial import KDTree

    cells = KDTree(geometry(here.mesh).x_cell)
    for line in lines:
        shown = line[here.has(line)]
        if len(shown) < 3 or np.ptp(shown, axis=0).max() < 0.04 * (here.x[1] - here.x[0]):
            continue
        if np.array_equal(line[0], line[-1]) and len(shown) == len(line):  # closed: from its left end on
            shown = np.roll(line[:-1], -int(np.argmin(line[:-1, 0])), axis=0)
        middle = len(shown) // 2
        if np.dot(u[cells.query(shown[middle])[1], :2], shown[middle] - shown[middle - 1]) < 0:
            shown = shown[::-1]
        length = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(shown, axis=0), axis=1)))
        k = int(np.clip(np.searchsorted(length, share * length[-1]), 1, len(shown) - 1))
        ends = tuple(shown[k - 1]), tuple(shown[k])
        axes.add_patch(FancyArrowPatch(*ends, arrowstyle="-|>", mutation_scale=7, linewidth=0, color=LINE))
