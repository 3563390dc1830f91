"""Curves by points: through them, or as B-splines that a few control points draw, closed round bodies and open along the
walls of ducts.

    x(t) = sum_k B_k(t) c_k

A periodic cubic spline passes through its points; its slopes are a constant matrix times them. A B-spline stays within
the hull of its control points c, and each moves only the part near to it. Closed ones are periodic; open ones begin and
end at their first and last control point, along the first and last side of the control polygon (clamped knots). Knots are
equally spaced, so the B_k are constant in the design: their pieces between knots are polynomials whose coefficients SciPy
gives (de Boor, A Practical Guide to Splines, 1978, chapter IX).
"""

from __future__ import annotations

from functools import lru_cache, partial
from math import factorial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.interpolate import BSpline

from fluidgrad.errors import InputError
from fluidgrad.iteration import traced
from fluidgrad.shapes.curves import MAX_POINTS, Curve, Numbers, number

DEGREE = 3
OPEN = {"open": DEGREE, "polyline": 1}  # kinds of open curves and their degree


def closed_curve(points: Numbers | str | Path, corners: bool = False) -> Curve:
    """A curve through points: a periodic cubic spline, or a polygon.

    Args:
        points: ``(points, 2)`` [L], in order, or a text file of them, one pair a row; at least 4 (3 for a polygon),
            roughly equally spaced for a spline. A last point that repeats the first is dropped, and a clockwise order is
            reversed, when the points are concrete.
        corners: straight lines between the points. The curve's normal jumps at them.
    """
    if isinstance(points, (str, Path)):
        from fluidgrad.mesh.meshfile import read_points  # a file format: what few need

        points = read_points(points)
    points = number(points)
    refuse_points(points)
    if not traced(points):
        points = simple_polygon(np.asarray(points), 3 if corners else 4)
    return Curve({"points": points}, "polygon" if corners else "spline")


def spline(control: Numbers, closed: bool = True, corners: bool = False) -> Curve:
    """A cubic B-spline, round a body or (open) along a wall of a duct.

    Args:
        control: control points, ``(points, 2)`` [L]; in order round a body, at least 4, which the curve does not pass
            through; or from one end to the other of an open curve, which begins and ends at the first and the last. Two
            make a straight line, three a parabola.
        closed: round a body; else open.
        corners: straight lines between the points instead.

    Raises:
        InputError: too few points, two that follow each other in one place, a control polygon that crosses itself.

    Differentiable in ``control``. Where it is traced, its order and its crossings are not looked at.
    """
    if closed and corners:
        return closed_curve(control, corners=True)
    points = number(control)
    refuse_points(points)
    if not traced(points):
        points = simple_polygon(np.asarray(points), 4, "control polygon") if closed else _open(np.asarray(points))
    return Curve({"points": points}, "b-spline" if closed else "polyline" if corners else "open")


def _open(points: Float[np.ndarray, "points 2"]) -> Float[np.ndarray, "points 2"]:
    """The points of an open curve, after a look for what cannot be one."""
    if (bad := ~np.isfinite(points).all(1)).any():
        raise InputError(f"control point {bad.argmax() + 1} is {points[bad.argmax()]}", accepted="finite numbers")
    if not 2 <= len(points) <= MAX_POINTS:
        raise InputError(f"an open curve of {len(points)} control points", accepted=f"2 to {MAX_POINTS}; 2 are a straight line")
    if (same := (points[1:] == points[:-1]).all(1)).any():
        raise InputError(f"control points {same.argmax() + 1} and {same.argmax() + 2} of an open curve are the same")
    if (points[0] == points[-1]).all():
        raise InputError("an open curve ends where it begins", accepted="a closed curve round a body, or two ends")
    if (crossing := self_crossing(points, closed=False)) is not None:
        a, b = crossing
        raise InputError(
            f"a control polygon crosses itself between points {a + 1} and {b + 1}, near ({points[a][0]:.4g}, {points[a][1]:.4g})",
            accepted="points in order along a simple curve",
        )
    return points


@partial(jax.jit, static_argnames="kind")
def along(points: Float[Array, "points k"], t: Float[Array, "..."], kind: str) -> Float[Array, "... k"]:
    """The curve of the given kind with these control points, at ``t`` from 0 to 1. Linear in the points, differentiable
    in ``t`` too."""
    n, closed = len(points), kind not in OPEN
    pieces = jnp.asarray(_pieces(n, min(OPEN.get(kind, DEGREE), n - 1), closed))
    spans, degree = len(pieces), pieces.shape[1] - 1
    s = t * spans
    span = jnp.floor(s) if closed else jnp.clip(jnp.floor(s), 0, spans - 1)
    u = (s - span)[..., None]
    span = span.astype(int)
    weight = pieces[span % spans, 0]
    for power in range(1, degree + 1):  # Horner
        weight = weight * u + pieces[span % spans, power]
    # A closed curve's t = 0 is nearest to its first point.
    first = span - (degree - 1) // 2 if closed else span
    return jnp.einsum("...j,...jk->...k", weight, points[(first[..., None] + np.arange(degree + 1)) % n])


def bump(offsets: Float[Array, " n"], t: Float[Array, "..."]) -> Float[Array, "..."]:
    """An open B-spline of these coefficients and a zero at either end."""
    return along(jnp.pad(offsets, 1)[:, None], t, "open")[..., 0]


@lru_cache(maxsize=64)
def _pieces(n: int, degree: int, closed: bool) -> Float[np.ndarray, "spans powers functions"]:
    """The B-splines that are not zero between two knots, as polynomials of the fraction of the way, highest power first."""
    spans = n if closed else n - degree
    knots = np.arange(-degree, spans + degree + 1.0)
    if not closed:
        knots = np.clip(knots, 0, spans)
    basis, starts = BSpline(knots, np.eye(spans + degree), degree), np.arange(spans)
    taylor = np.stack([basis(starts, nu=power) / factorial(power) for power in range(degree, -1, -1)], 1)
    return np.stack([taylor[i, :, i : i + degree + 1] for i in starts])


def through(points: Float[Array, "k 2"], t: Float[Array, "..."], smooth: bool) -> Float[Array, "... 2"]:
    """The curve through these points at ``t`` from 0 to 1: a periodic cubic spline, or straight lines."""
    n = len(points)
    s = t * n
    left = jnp.floor(s)
    u = (s - left)[..., None]
    i = left.astype(int) % n
    j = (i + 1) % n
    if not smooth:
        return (1 - u) * points[i] + u * points[j]
    slope = jnp.asarray(_spline_slopes(n)) @ points
    bend = u * (1 - u)
    step = points[j] - points[i]
    return points[i] + u * step + bend * ((1 - u) * (slope[i] - step) - u * (slope[j] - step))


@lru_cache(maxsize=16)
def _spline_slopes(n: int) -> Float[np.ndarray, "n n"]:
    """Slopes of the periodic cubic spline at its knots: m_{i-1} + 4 m_i + m_{i+1} = 3 (x_{i+1} - x_{i-1})."""
    one = np.eye(n)
    ahead, behind = np.roll(one, 1, 1), np.roll(one, -1, 1)
    return np.linalg.solve(4 * one + ahead + behind, 3 * (ahead - behind))


# ---- polygons: what points can be a curve


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
