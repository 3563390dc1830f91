"""Curves as differentiable points: the boundaries of bodies, and walls.

A curve is ``x(t)``, ``t`` in [0, 1), counter-clockwise and closed unless it is said to be open. Its numbers are traced; its kind is static.

    circle          x = center + radius (cos 2 pi t, sin 2 pi t)
    ellipse         the same with two radii, turned by an angle
    fourier_curve   a circle whose radius is  radius (1 + sum_k a_k cos 2 pi k t + b_k sin 2 pi k t)
    closed_curve    a periodic cubic spline through points, equally spaced in t, or the polygon with those corners
    spline          a B-spline by control points, which may also be open: the wall of a duct, t in [0, 1]

The last two are in ``splines.py``; both are linear in their points.

Each can be changed further, in this order whatever the order of the calls, with numbers that are traced too:

    displaced       x + d(t) n: free form, by offsets along its normal
    fitted          scaled and shifted, so that it has a given area and centroid exactly, whatever its other numbers are
    moved           turned and shifted as a rigid body
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from fluidgrad import device
from fluidgrad.errors import InputError
from fluidgrad.iteration import traced
from fluidgrad.shapes.splines import MAX_POINTS, along, bump, through

device.start()

Numbers = ArrayLike | Sequence[Any]  # an array, or (nested) numbers that may be traced each
POSITIVE = ("radius", "radii", "area", "chord", "thickness", "exponents")  # numbers of curves
QUADRATURE = 1024  # points of the integrals that give area and centroid, at least


@partial(jax.tree_util.register_dataclass, data_fields=["numbers"], meta_fields=["kind"])
@dataclass(frozen=True)
class Curve:
    """A curve; made by :func:`circle`, :func:`ellipse`, :func:`fourier_curve`, :func:`closed_curve` or :func:`spline`.

    Attributes:
        numbers: name -> traced array, of the shape and of what changes it.
        kind: ``circle``, ``ellipse``, ``fourier``, ``spline``, ``polygon``, ``b-spline`` or ``aerofoil`` (of
            ``aerofoils.py``); ``open`` or ``polyline``, which are not closed; static.
    """

    numbers: dict[str, Any]
    kind: str

    @partial(jax.jit, inline=True)  # each operation by itself would have to be compiled
    def at(self, t: ArrayLike) -> Float[Array, "... 2"]:
        """The points at ``t``, counter-clockwise. Differentiable in the curve's numbers (and in ``t``)."""
        x, n = self._free_form(jnp.asarray(t, float)), self.numbers
        if "area" in n or "centroid" in n:
            middle, scale = self._fit
            x = n.get("centroid", middle) + scale * (x - middle)
        return self._carried(x)

    def _shape(self, t: Array) -> Float[Array, "... 2"]:
        """The points by the curve's kind alone."""
        n = self.numbers
        if "points" in n:
            passes = self.kind in ("spline", "polygon")
            return through(n["points"], t, self.kind == "spline") if passes else along(n["points"], t, self.kind)
        angle = 2 * jnp.pi * t
        ring = jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
        if self.kind == "circle":
            return n["center"] + n["radius"] * ring
        if self.kind == "ellipse":
            c, s = jnp.cos(n["angle"]), jnp.sin(n["angle"])
            x, y = n["radii"][0] * ring[..., 0], n["radii"][1] * ring[..., 1]
            return n["center"] + jnp.stack([c * x - s * y, s * x + c * y], -1)
        k = jnp.arange(1, len(n["modes"]) + 1)
        phase = angle[..., None] * k
        swell = jnp.cos(phase) @ n["modes"][:, 0] + jnp.sin(phase) @ n["modes"][:, 1]
        return n["center"] + n["radius"] * (1 + swell)[..., None] * ring

    def _free_form(self, t: Array) -> Float[Array, "... 2"]:
        if "offsets" not in self.numbers:
            return self._shape(t)
        x, normal = with_normal(self._shape, t)
        if self.is_closed:
            return x + normal * through(self.numbers["offsets"][:, None], t, smooth=True)
        return x + normal * bump(self.numbers["offsets"], t)[..., None]

    @property
    def _fit(self) -> tuple[Array, Array]:
        """The point of the shape that keeps its place (or goes to the centroid wanted), and the scale that makes the area.
        Integrals over the curve by the midpoint rule, which is exact to round-off for smooth closed curves and for polygons,
        whose sides have as many samples each."""
        n = self.numbers
        knots = len(n["points"]) if "points" in n else 1
        count = knots * -(-QUADRATURE // knots)
        t, step = (np.arange(count) + 0.5) / count, np.full(count, 1 / count)
        if knots == 1:  # close together at t = 0 and 1/2, where the ends of a wedge may be
            t, step = t - np.sin(4 * np.pi * t) / (4 * np.pi), step * (1 - np.cos(4 * np.pi * t))
        x, along = jax.jvp(self._free_form, (jnp.asarray(t),), (jnp.ones(count),))
        turn = (x[:, 0] * along[:, 1] - x[:, 1] * along[:, 0]) * step
        area = jnp.sum(turn) / 2
        middle = jnp.sum(x * turn[:, None], 0) / (3 * area) if "centroid" in n else self._middle
        return middle, jnp.sqrt(n["area"] / area) if "area" in n else jnp.ones(())

    def _carried(self, x: Array) -> Float[Array, "... 2"]:
        """Points that go along with the rigid motion."""
        n = self.numbers
        if "turn" in n:
            c, s = jnp.cos(n["turn"]), jnp.sin(n["turn"])
            about = n.get("about", n.get("centroid", self._middle))
            d = x - about
            x = about + jnp.stack([c * d[..., 0] - s * d[..., 1], s * d[..., 0] + c * d[..., 1]], -1)
        return x + n.get("shift", 0.0)

    @property
    def _middle(self) -> Float[Array, " 2"]:
        """The middle of the shape before it is fitted or moved."""
        return self.numbers["points"].mean(0) if "points" in self.numbers else self.numbers["center"]

    @property
    def center(self) -> Float[Array, " 2"]:
        """The middle of the curve, traced: meshes move with it."""
        return self._carried(self.numbers.get("centroid", self._middle))

    @property
    def size(self) -> Float[Array, " 2"]:
        """Half the width and half the height, traced and smooth: meshes scale with it. Exact for circles and ellipses;
        the circle's for a Fourier curve; from the points' variance for curves through points; before it is changed further."""
        n = self.numbers
        if self.kind == "ellipse":
            c, s = jnp.cos(n["angle"]), jnp.sin(n["angle"])
            return jnp.sqrt((jnp.stack([c, s]) * n["radii"][0]) ** 2 + (jnp.stack([s, c]) * n["radii"][1]) ** 2)
        if "points" in n:
            return jnp.sqrt(2 * jnp.mean((n["points"] - self._middle) ** 2, axis=0))
        return jnp.stack([n["radius"], n["radius"]])

    @property
    def is_round(self) -> bool:
        """Whether it is a circle whatever its numbers are, with t as its angle."""
        return self.kind == "circle" and not {"offsets", "turn"} & set(self.numbers)

    def displaced(self, offsets: Numbers) -> Curve:
        """Free form: moved along its outward normal by a periodic cubic spline through ``offsets``, ``(n,)`` [L], equally
        spaced in t; an open curve along the normal to its right, by a B-spline with these coefficients and zero at both
        ends. Differentiable in them; zeros give the curve itself, and never change the counts of a mesh."""
        offsets = number(offsets)
        if self.kind in ("polygon", "polyline"):
            raise InputError("offsets of a curve with corners", accepted="a smooth curve: the normal jumps at corners")
        least = 4 if self.is_closed else 1
        if offsets.ndim != 1 or not least <= len(offsets) <= MAX_POINTS:
            raise InputError(f"offsets of shape {offsets.shape}", accepted=f"{least} to {MAX_POINTS} numbers, equally spaced along it")
        return self._with(offsets=(offsets, offsets.shape))

    def fitted(self, area: ArrayLike | None = None, centroid: Numbers | None = None) -> Curve:
        """Scaled to an exact ``area`` [L^2], about its center or so that its ``centroid`` [L] is exact: equalities that a
        design then cannot violate. Differentiable in both."""
        refuse_open("a curve with an area or a centroid", self)
        given = {"area": (area, ())} if area is not None else {}
        return self._with(**given, **({"centroid": (centroid, (2,))} if centroid is not None else {}))

    def moved(self, shift: Numbers | None = None, turn: ArrayLike | None = None, about: Numbers | None = None) -> Curve:
        """Turned counter-clockwise by ``turn`` [rad] about a point (its center by default), then shifted [L]."""
        given = {"shift": (shift, (2,)), "turn": (turn, ()), "about": (about, (2,))}
        return self._with(**{k: (value, shape) for k, (value, shape) in given.items() if value is not None})

    def _with(self, **more: tuple[Numbers, tuple[int, ...]]) -> Curve:
        if again := set(more) & set(self.numbers):
            raise InputError(f"the {sorted(again)[0]} of a curve is given twice", accepted="each once")
        return replace(self, numbers=self.numbers | checked_numbers(self.kind, more))

    @property
    def is_closed(self) -> bool:
        """Whether it goes round a body."""
        return self.kind not in ("open", "polyline")

    @property
    def corners(self) -> Float[np.ndarray, " corners"]:
        """The ``t`` between its ends at which an open curve has corners."""
        sides = len(self.numbers["points"]) - 1 if self.kind == "polyline" else 1
        return np.arange(1, sides) / sides

    @property
    def is_concrete(self) -> bool:
        """Whether every number is known now, rather than traced by ``jax.grad`` or ``jax.jit``."""
        return not traced(self.numbers)


def with_normal(x: Callable[[Array], Array], t: ArrayLike) -> tuple[Float[Array, "... 2"], Float[Array, "... 2"]]:
    """The points of a line at ``t``, and its unit normals there, to the right of its direction: out of a body."""
    t = jnp.asarray(t, float)
    points, along = jax.jvp(x, (t,), (jnp.ones_like(t),))
    return points, jnp.stack([along[..., 1], -along[..., 0]], -1) / jnp.linalg.norm(along, axis=-1, keepdims=True)


def number(x: Numbers) -> Array | np.ndarray:
    """``x`` as an array. It stays a NumPy array unless something in it is traced: under ``jax.jit`` a JAX array made of
    constants counts as traced, and counts of cells could no longer follow from it."""
    return jnp.asarray(x, float) if traced(x) else np.asarray(x, float)


def circle(center: Numbers, radius: ArrayLike) -> Curve:
    """A circle. Differentiable in ``center`` and ``radius`` [L]."""
    return _curve("circle", center=(center, (2,)), radius=(radius, ()))


def ellipse(center: Numbers, radii: Numbers, angle: ArrayLike = 0.0) -> Curve:
    """An ellipse with two ``radii`` [L], the first turned by ``angle`` [rad] from the x axis."""
    return _curve("ellipse", center=(center, (2,)), radii=(radii, (2,)), angle=(angle, ()))


def fourier_curve(center: Numbers, radius: ArrayLike, modes: Numbers) -> Curve:
    """A circle whose radius is ``radius (1 + sum_k a_k cos k angle + b_k sin k angle)``.

    Args:
        center: [L].
        radius: the mean radius [L].
        modes: ``(modes, 2)``, the pairs ``a_k, b_k`` for k = 1, 2, ...; fractions of the radius.
    """
    modes = number(modes)
    if modes.ndim != 2 or modes.shape[1] != 2 or not len(modes):
        raise InputError(f"modes of shape {modes.shape}", accepted="pairs (cosine, sine), one for each wave number from 1")
    curve = _curve("fourier", center=(center, (2,)), radius=(radius, ()), modes=(modes, modes.shape))
    if not traced(modes):
        angle = 2 * np.pi * np.arange(16 * len(modes) + 64) / (16 * len(modes) + 64)
        phase = angle[:, None] * np.arange(1, len(modes) + 1)
        if (swell := 1 + np.cos(phase) @ np.asarray(modes)[:, 0] + np.sin(phase) @ np.asarray(modes)[:, 1]).min() <= 0:
            raise InputError(
                f"a Fourier curve passes through its center at {np.degrees(angle[swell.argmin()]):.0f} degrees",
                accepted="modes whose radius stays positive",
            )
    return curve


def _curve(kind: str, **numbers: tuple[Numbers, tuple[int, ...]]) -> Curve:
    """A curve of the given kind after a look at its numbers' shapes and signs."""
    return Curve(checked_numbers(kind, numbers), kind)


def checked_numbers(kind: str, numbers: Mapping[str, tuple[Numbers, tuple[int, ...]]]) -> dict[str, Any]:
    found = {}
    a = f"a{'n' * (kind[0] in 'ae')} {kind}"
    for name, (value, shape) in numbers.items():
        value = number(value)
        if value.shape != shape:
            wanted = f"{shape[0]} numbers" if shape else "one number"
            raise InputError(f"{name} of {a} has shape {value.shape}", accepted=wanted)
        if not traced(value):
            if not np.isfinite(value).all():
                raise InputError(f"{name} of {a} is {np.asarray(value)}", accepted="finite numbers")
            if name in POSITIVE and not (np.asarray(value) > 0).all():
                raise InputError(f"{name} of {a} must be positive, got {np.asarray(value)}")
        found[name] = value
    return found


def refuse_open(name: str, curve: Curve) -> None:
    """Refuse an open curve where a body is meant."""
    if not curve.is_closed:
        raise InputError(f"{name} is an open curve", accepted="a closed one: open curves are for walls of ducts")


def arc_length(curve: Curve, samples: int = 2048) -> tuple[Float[np.ndarray, " samples"], Float[np.ndarray, "samples 2"]]:
    """The fraction of the length at ``samples + 1`` equally spaced ``t``, and the points there. Concrete curves only."""
    with jax.ensure_compile_time_eval():
        points = np.asarray(curve.at(np.arange(samples + 1) / samples))
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    return length / length[-1], points
