"""Splines: through points, or drawn by a few control points, closed round bodies and open along the walls of ducts.

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

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.interpolate import BSpline, CubicSpline

DEGREE = 3
MAX_POINTS = 2000  # of a curve: the slopes of a spline are a dense matrix times its points
OPEN = {"open": DEGREE, "polyline": 1}  # kinds of open curves and their degree


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


@lru_cache(maxsize=16)
def periodic_linear(places: int, n: int) -> Float[np.ndarray, "places around"]:
    """The matrix that gives values at equally spaced places round from values at ``n`` of them, linear between."""
    place = np.arange(places) * n / places
    left = np.floor(place).astype(int)
    one = np.eye(n)
    share = (place - left)[:, None]
    return (1 - share) * one[left] + share * one[(left + 1) % n]


@lru_cache(maxsize=16)
def periodic_spline(places: int, n: int) -> Float[np.ndarray, "around places"]:
    """The matrix that gives values at ``n`` equally spaced places round from values at others, by a cubic spline."""
    one = np.eye(places)
    spline = CubicSpline(np.arange(places + 1) / places, np.concatenate([one, one[:1]]), bc_type="periodic")
    return spline(np.arange(n) / n)
