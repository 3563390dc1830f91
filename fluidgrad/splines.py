"""B-splines: smooth curves that a few control points draw, closed round bodies and open along the walls of ducts.

    x(t) = sum_k B_k(t) c_k

A curve stays within the hull of its control points c, and each moves only the part near to it. Closed ones are periodic;
open ones begin and end at their first and last control point, along the first and last side of the control polygon
(clamped knots). Knots are equally spaced, so the B_k are constant in the design: their pieces between knots are
polynomials whose coefficients SciPy gives (de Boor, A Practical Guide to Splines, 1978, chapter IX).
"""

from __future__ import annotations

from functools import lru_cache, partial
from math import factorial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.interpolate import BSpline

from fluidgrad.curves import Curve, Numbers, closed_curve, number
from fluidgrad.errors import InputError
from fluidgrad.iteration import traced
from fluidgrad.polygons import MAX_POINTS, refuse_points, self_crossing, simple_polygon

DEGREE = 3
OPEN = {"open": DEGREE, "polyline": 1}  # kinds of open curves and their degree


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
