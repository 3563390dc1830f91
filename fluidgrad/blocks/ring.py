"""The ring of cells round a body: from points on the body to points on a surrounding curve.

``X(xi, eta)``, ``xi`` round the body and ``eta`` from 0 on it to 1 outside, starts from straight rays whose first cells
are equally thick all round. Rays from a body that is not convex would cross, so they are bent: on a coarse net the
mapping is made to satisfy Winslow's equations,

    g22 X_xixi - 2 g12 X_xieta + g11 X_etaeta = 0,    g11 = |X_xi|^2, g12 = X_xi . X_eta, g22 = |X_eta|^2,

which say that xi and eta are harmonic functions of position; such a map onto a cylinder does not fold (Winslow 1966;
Schoen and Yau 1978). What the net moved by is interpolated smoothly to the ring, where it vanishes on both curves.
A fixed number of sweeps, each a linear solve, makes the points a smooth function of the curves; the net does not depend
on the resolution, so refined rings are nested.

Rays can only be bent so far: which point of the body each begins at (:func:`join`) decides whether a ring is good.

Between an aerofoil and a far curve, where rays would run along the body, points are sums of waves round it, z = x + iy:

    z(xi, eta) = sum_k (f_k(eta) body_k + g_k(eta) outer_k) exp(i k xi)

with harmonic f and g for |k| <= 1, as in the conformal map of an ellipse, whose lines are confocal. Shorter waves of the
body fade as f_k = (1 + k eta + k^2 eta^2) exp(-k eta): from the tail and the nose of a cambered body on, the map is
sheared, where a harmonic one would fold.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.interpolate import CubicSpline, PchipInterpolator

from fluidgrad.blocks.grading import edges, geometric_nodes, quads
from fluidgrad.errors import InputError
from fluidgrad.mesh.topology import Topology, build_topology
from fluidgrad.shapes.curves import Curve, arc_length
from fluidgrad.shapes.splines import periodic_linear, periodic_spline

NET = 64, 12  # intervals of the coarse net round and across
SWEEPS = 12
MATCHED = 256  # places round a box whose partners on the body are kept
NEAREST = 0.8  # of a body's points are those nearest to their partners on the box; the rest are equally spaced
BLUR = 0.04  # of the way round, over which the nearest are averaged: none is nearest to the inside of a pocket
SHARP = 0.3  # radians by which a corner turns that has a node on it
MARGIN = 0.9  # widths of the body from it to its box, where there is room
ROOM = 0.62  # part of the gap to a wall that a box may take
BETWEEN = 0.38  # part of the gap between two bodies that each box may take

Match = tuple[tuple[float, float], ...]  # (place round the box, ``t`` of the body joined to it), as fractions


@dataclass(frozen=True)
class RingRecipe:
    """Counts round and across, the clustering across, and whether rays are bent."""

    counts: tuple[int, int]
    grading: float
    bend: bool
    refine: int


def ring(
    inner: Float[Array, "around 2"], outer: Float[Array, "around 2"], eta: Float[np.ndarray, " layers"], bend: bool, refine: int
) -> Float[Array, "layers around 2"]:
    """Points between two closed curves.

    Args:
        inner: points on the body, counter-clockwise.
        outer: the point of the outer curve that each is joined to.
        eta: from 0 on the body to 1 on the outer curve.
        bend: whether rays are bent; straight ones are as good between round curves, and exact there.
        refine: every so many points are those of the unrefined ring, which alone decide on lengths and bends.
    """
    mean = jnp.mean(_length(outer[::refine] - inner[::refine]))
    rays = _straight(inner, outer, eta, mean)
    if not bend:
        return rays
    coarse = np.linspace(0, 1, NET[1] + 1)
    round_net = jnp.asarray(periodic_linear(NET[0], len(inner) // refine))
    net = _straight(round_net @ inner[::refine], round_net @ outer[::refine], coarse, mean)
    moved = _winslow(net) - net
    across = CubicSpline(coarse, np.eye(NET[1] + 1), bc_type="natural")(eta)
    # Straight rays rule near the outer curve, where layers should follow the neighbouring blocks.
    across = across * (1 - np.asarray(eta)[:, None] ** 2) ** 2
    return rays + jnp.einsum("le,efi,nf->lni", across, moved, jnp.asarray(periodic_spline(NET[0], len(inner))))


def check_inside(name: str, shape: np.ndarray, length: float, height: float) -> None:
    gap = np.concatenate([shape, [length, height] - shape], 1)
    if (gap <= 0).any():
        side = ("inlet", "bottom wall", "outlet", "top wall")[int(gap.min(0).argmin())]
        x, y = shape[int(gap.min(1).argmin())]
        raise InputError(
            f"{name} touches or crosses the {side} near ({x:.4g}, {y:.4g})",
            accepted=f"a body inside the channel, 0 < x < {length:g} and 0 < y < {height:g}",
        )


def boxes(shapes: dict[str, np.ndarray], length: float, height: float) -> list[Float[np.ndarray, "2 2"]]:
    """Lower and upper corner of the box round each body."""
    names = list(shapes)
    bound = []
    for name, shape in shapes.items():
        check_inside(name, shape, length, height)
        bound.append(np.stack([shape.min(0), shape.max(0)]))
    room = []
    for b in bound:
        margin = MARGIN * np.sqrt(np.ptp(b, axis=0).prod())
        room.append(np.minimum(margin, ROOM * np.stack([b[0], [length, height] - b[1]])))
    for i in range(len(bound)):
        for j in range(i):
            gap = np.stack([bound[i][0] - bound[j][1], bound[j][0] - bound[i][1]])  # i after j, j after i
            side, axis = np.unravel_index(gap.argmax(), gap.shape)
            if gap[side, axis] <= 0:
                raise InputError(
                    f"{names[j]} and {names[i]} are too close: the rectangles round them overlap",
                    accepted="bodies that a line along x or y separates",
                )
            for k, s in ((i, side), (j, 1 - side)):
                room[k][s, axis] = min(room[k][s, axis], BETWEEN * gap[side, axis])
    return [b + r * [[-1], [1]] for b, r in zip(bound, room, strict=True)]


def join(body: Curve, box: Float[np.ndarray, "4 2"], sides: Sequence[int]) -> Match:
    """Which point of a body is joined to which place round a box: at the angle of the box's corners on a circle, else
    between the nearest and equal spacing. A polygon's match has a row for each node, with nodes on the corners, if there
    are enough.

    Args:
        body: a curve of known numbers.
        box: its corners, counter-clockwise from the lower left.
        sides: numbers of nodes along x and along y.
    """
    length, shape = arc_length(body)
    samples = np.linspace(0, 1, len(length))
    around = 2 * sum(sides)
    corners = np.cumsum([0, *sides, sides[0]]) / around
    s = np.arange(MATCHED) / MATCHED
    if body.kind in ("circle", "fourier") and "turn" not in body.numbers:  # t is the angle
        toward = box - np.asarray(body.center)
        place, fraction = corners, np.unwrap(np.arctan2(toward[:, 1], toward[:, 0])) / (2 * np.pi)
    else:
        x = np.stack([np.interp(s, np.append(corners, 1), np.append(c, c[0])) for c in box.T], 1)
        nearest = np.unwrap(length[np.argmin(np.linalg.norm(shape[:-1, None] - x, axis=2), axis=0)], period=1) - s
        blur = np.exp(-((np.minimum(s, 1 - s) / BLUR) ** 2) / 2)
        ahead = np.fft.irfft(np.fft.rfft(nearest) * np.fft.rfft(blur / blur.sum()), MATCHED)
        place, fraction = s, s + ahead.mean() + NEAREST * (ahead - ahead.mean())
    turns = np.arange(-2, 3)[:, None]
    smooth = PchipInterpolator((place + turns).ravel(), (fraction - np.floor(fraction[0]) + turns).ravel())
    if body.kind != "polygon":
        turn, fraction = np.divmod(smooth(s), 1)
        return tuple(zip(s.tolist(), (turn + np.interp(fraction, length, samples)).tolist(), strict=True))
    points = np.asarray(body.numbers["points"])
    side = np.roll(points, -1, 0) - points
    angle = np.arctan2(side[:, 1], side[:, 0])
    t = np.flatnonzero(np.abs(np.mod(angle - np.roll(angle, 1) + np.pi, 2 * np.pi) - np.pi) > SHARP) / len(points)
    nodes, corner = np.arange(around), np.interp(t, samples, length)
    fraction = smooth(nodes / around)
    node = np.rint(around * np.interp(corner, smooth(dense := np.linspace(-1, 2, 3 * 4096 + 1)), dense)).astype(int)
    met = len(node) > 1 and np.diff(node, append=node[0] + around).min() > 1
    if met:  # equally spaced from corner to corner
        fraction = np.interp(nodes, (node + around * turns).ravel(), (corner + turns).ravel())
    turn, fraction = np.divmod(fraction, 1)
    met_at = turn + np.interp(fraction, length, samples)
    if met:
        met_at[node % around] = t - node // around
    return tuple(zip((nodes / around).tolist(), met_at.tolist(), strict=True))


def joined(match: Match, around: int, smooth: bool) -> Float[np.ndarray, " around"]:
    """The ``t`` of the body joined to each of ``around`` nodes; ``smooth`` unless the body has corners."""
    place, t = np.array(match).T
    s, ahead = np.arange(around) / around, np.append(t - place, t[0] - place[0])
    place = np.append(place, 1)
    return s + (CubicSpline(place, ahead, bc_type="periodic")(s) if smooth else np.interp(s, place, ahead))


def _length(ray: Array) -> Array:
    return jnp.sqrt(jnp.sum(ray**2, -1))


def _straight(inner: Array, outer: Array, eta: Float[np.ndarray, " layers"], mean: Array) -> Float[Array, "layers around 2"]:
    ray = outer - inner
    # Rays shorter or longer than the mean start with slope mean / length, so that first layers are equally thick, and
    # end with slope 1. Beyond 4 they would turn back.
    first = jnp.minimum(mean / _length(ray), 3.0)[:, None]
    e = jnp.asarray(eta)[:, None, None]
    return inner + ray * e * (1 + (first - 1) * (1 - e) ** 2)


def _winslow(net: Float[Array, "across around 2"]) -> Float[Array, "across around 2"]:
    """Sweeps that freeze the metric and solve the linear equations for the net, its two curves fixed."""

    def sweep(x: Array, _: None) -> tuple[Array, None]:
        x_eta = (x[2:] - x[:-2]) / 2
        x_xi = (jnp.roll(x, -1, 1) - jnp.roll(x, 1, 1))[1:-1] / 2
        g11, g12, g22 = (jnp.sum(a * b, -1) for a, b in ((x_xi, x_xi), (x_xi, x_eta), (x_eta, x_eta)))
        twist = jnp.roll(x_eta, -1, 1) - jnp.roll(x_eta, 1, 1)
        solved = _solve_rows(g11, g22, g12[..., None] * twist, x[0], x[-1])
        return jnp.concatenate([x[:1], solved, x[-1:]]), None

    return jax.lax.scan(sweep, net, None, length=SWEEPS)[0]


def _solve_rows(g11: Array, g22: Array, right: Array, first: Array, last: Array) -> Float[Array, "inside around 2"]:
    """Solve ``g22 (x_W - 2 x + x_E) + g11 (x_S - 2 x + x_N) = right``, periodic in W-E, by elimination of rows."""
    n = g11.shape[1]
    one = jnp.eye(n)
    neighbours = jnp.roll(one, 1, 1) + jnp.roll(one, -1, 1)

    def eliminate(carry: tuple[Array, Array], row: tuple[Array, Array, Array]) -> tuple[tuple, tuple]:
        # x_S = E x + f, from the rows below.
        E, f = carry
        a, b, r = row
        matrix = jnp.diag(2 * (a + b)) - b[:, None] * neighbours - a[:, None] * E
        both = jnp.linalg.solve(matrix, jnp.concatenate([jnp.diag(a), a[:, None] * f - r], 1))
        E, f = both[:, :n], both[:, n:]
        return (E, f), (E, f)

    def substitute(x: Array, row: tuple[Array, Array]) -> tuple[Array, Array]:
        x = row[0] @ x + row[1]
        return x, x

    _, rows = jax.lax.scan(eliminate, (jnp.zeros((n, n)), first), (g11, g22, right))
    return jax.lax.scan(substitute, last, rows, reverse=True)[1]


def _waves(
    inner: Float[Array, "around 2"], outer: Float[Array, "around 2"], eta: Float[np.ndarray, " layers"], refine: int
) -> Float[Array, "layers around 2"]:
    """Points between two curves as a sum of waves. ``eta``, from 0 to 1, is as the distance from the body far away; the
    map's own is the logarithm of 1 + (r - 1) eta, r the ratio of the curves' sizes."""
    count = len(inner) // refine
    k = np.rint(np.fft.fftfreq(count, 1 / count))
    m = np.maximum(np.abs(k), 1)
    ends = inner @ jnp.array([1, 1j]), outer @ jnp.array([1, 1j])
    near, far = (jnp.fft.fft(z[::refine]) / count for z in ends)
    width = jnp.log(jnp.abs(far[1]) / jnp.abs(near[1]))
    e = jnp.asarray(eta)[:, None]
    depth = jnp.log1p(jnp.expm1(width) * e)
    # sinh(m depth) / sinh(m width), and the same from the other end, without large powers
    scale = 1 - jnp.exp(-2 * m * width)
    rise = jnp.exp(m * (depth - width)) * (1 - jnp.exp(-2 * m * depth)) / scale
    fall = jnp.exp(-m * depth) * (1 - jnp.exp(2 * m * (depth - width))) / scale
    fade = (1 + m * depth + (m * depth) ** 2) * jnp.exp(-m * depth) * (1 - e**2)
    f = jnp.where(k == 0, 1 - depth / width, jnp.where(m == 1, fall, fade))
    g = jnp.where(k == 0, depth / width, rise)
    net = (f * near + g * far) @ np.exp(2j * np.pi * k[:, None] * np.arange(len(inner)) / len(inner))
    # points of a refined ring are on the curves, between the waves that its unrefined points have
    net = net + (1 - e) * (ends[0] - net[0]) + e * (ends[1] - net[-1])
    return jnp.stack([net.real, net.imag], -1)


@partial(jax.jit, static_argnums=0)
def ring_points(recipe: RingRecipe, body: Curve, outer: Curve) -> Float[Array, "points 2"]:
    around, across = (c * recipe.refine for c in recipe.counts)
    t, eta = np.arange(around) / around, geometric_nodes(recipe.grading, across)
    facing = t + _turn(body, outer) if recipe.bend else t
    if body.kind == "aerofoil":
        return _waves(body.at(t), outer.at(facing), eta, recipe.refine).reshape(-1, 2)
    return ring(body.at(t), outer.at(facing), eta, recipe.bend, recipe.refine).reshape(-1, 2)


def _turn(body: Curve, outer: Curve) -> Array:
    """How far, as a share of the way round, the outer curve's points must be ahead to face the body's in the mean: a body
    given by points may begin anywhere."""
    t = np.arange(MATCHED) / MATCHED
    a, b = (curve.at(t) - body.center for curve in (outer, body))
    size = _length(a) * _length(b)
    sine, cosine = (jnp.mean(c / size) for c in (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], jnp.sum(a * b, -1)))
    return jnp.arctan2(sine, cosine) / (2 * jnp.pi)


@lru_cache(maxsize=16)
def ring_topology(recipe: RingRecipe) -> Topology:
    around, across = (c * recipe.refine for c in recipe.counts)
    index = np.arange((across + 1) * around).reshape(across + 1, around)
    index = np.concatenate([index, index[:, :1]], 1)
    angle = 2 * np.pi * np.arange(around) / around
    circles = np.stack([np.cos(angle), np.sin(angle)], -1) * np.linspace(1, 2, across + 1)[:, None, None]
    return build_topology(circles.reshape(-1, 2), [("quad", quads(index))], {"body": edges(index[0]), "far": edges(index[-1])})
