"""Polygons: which points can go round a body, where sides cross, the area within. Of points that are known."""

from __future__ import annotations

import numpy as np
from jaxtyping import Array, Float

from fluidgrad.errors import InputError
from fluidgrad.shapes.splines import MAX_POINTS


def refuse_points(points: Array | np.ndarray) -> None:
    """Refuse what is not rows x, y."""
    if points.ndim != 2 or points.shape[1] != 2:
        raise InputError(f"points of shape {points.shape}", accepted="one row x, y for each point")


def simple_polygon(points: np.ndarray, least: int, what: str = "curve") -> np.ndarray:
    """The points without a repeated last one, counter-clockwise, after a look for what cannot go round a body."""
    if (bad := ~np.isfinite(points).all(1)).any():
        raise InputError(f"point {bad.argmax() + 1} of a curve is {points[bad.argmax()]}", accepted="finite numbers")
    if len(points) > 1 and np.array_equal(points[0], points[-1]):
        points = points[:-1]
    if not least <= len(points) <= MAX_POINTS:
        raise InputError(
            f"a {what} through {len(points)} points",
            accepted=f"{least} to {MAX_POINTS} points" + (", or 3 with corners" if least > 3 else ""),
        )
    ahead = np.roll(points, -1, 0)
    if (same := (points == ahead).all(1)).any():
        raise InputError(f"points {same.argmax() + 1} and {(same.argmax() + 1) % len(points) + 1} of a curve are the same")
    if (crossing := self_crossing(points)) is not None:
        a, b = crossing
        raise InputError(
            f"a {what} crosses itself between points {a + 1} and {b + 1}, near ({points[a][0]:.4g}, {points[a][1]:.4g})",
            accepted="points in order along a simple closed curve",
        )
    return points if area(points) > 0 else points[::-1].copy()


def self_crossing(points: Float[np.ndarray, "points 2"], closed: bool = True) -> tuple[int, int] | None:
    """The first two sides of a polygon, closed or open, that cross or touch, if any; sides that follow each other do not."""
    a, b = points, np.roll(points, -1, 0)
    if not closed:
        a, b = a[:-1], b[:-1]
    n, cross = len(a), crossings(a, b, a, b)
    i, j = np.indices((n, n))
    cross &= (j > i + 1) & ~((i == 0) & (j == n - 1) & closed)
    return (int(i[cross][0]), int(j[cross][0])) if cross.any() else None


def crossings(a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray) -> np.ndarray:
    """Which of the lines from a to b cross or touch which of those from c to d, ``(first, second)``."""

    def side(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
        return np.sign((q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (r[..., 0] - p[..., 0]))

    c, d = c[None], d[None]
    p, q = a[:, None], b[:, None]
    cross = (side(p, q, c) * side(p, q, d) <= 0) & (side(c, d, p) * side(c, d, q) <= 0)
    # Collinear sides satisfy both products: they meet only where their boxes do.
    return cross & ((np.minimum(p, q) <= np.maximum(c, d)) & (np.minimum(c, d) <= np.maximum(p, q))).all(-1)


def area(points: Float[np.ndarray, "points 2"]) -> float:
    """The area of a closed polygon, positive when counter-clockwise."""
    ahead = np.roll(points, -1, 0)
    return float(np.sum(points[:, 0] * ahead[:, 1] - points[:, 1] * ahead[:, 0]) / 2)


def refuse_crossing(lower: Float[np.ndarray, "n 2"], upper: Float[np.ndarray, "n 2"]) -> None:
    """Refuse two walls that cross or touch."""
    a, b = lower[::2], upper[::2]
    if (found := crossings(a[:-1], a[1:], b[:-1], b[1:])).any():
        x, y = a[int(found.any(1).argmax())]
        raise InputError(f"the walls cross or touch near ({x:.4g}, {y:.4g})", accepted="walls that keep apart")
