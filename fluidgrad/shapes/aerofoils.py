"""Aerofoils: closed curves of two smooth sides between a nose and a tail, from few coefficients.

Kulfan's class and shape functions (CST; J. Aircraft 45, 2008, eq. 2 to 6), x the fraction of the chord from the nose:

    y(x) = x^a (1 - x)^b sum_i w_i B_i(x),     B_i(x) = (m over i) x^i (1 - x)^(m - i),

``w`` the coefficients of the upper side or, negative where it is below the chord, of the lower. The exponents a = 1/2 and
b = 1 make a round nose and a wedge at the tail; a = b = 1 a wedge at both ends. The tail is opened to a thickness and
rounded: +-y_tail(x) is added to the sides. With ``angle = 2 pi t``, from the tail over the upper side to the nose and back,

    x = (1 + cos angle) / 2,     y_tail = thickness / 2  x  tanh(sin angle / sqrt(thickness)),

whose end has the radius thickness / 2. The outline is smooth in t but for the ends of a wedge; points equally spaced in t
lie close together at the nose and at the tail, and on a grid that is refined more lie on the tail.

Sides are linear in their coefficients, so that an aerofoil of NACA's or of a file is fitted by linear least squares.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import comb
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from fluidgrad.errors import InputError
from fluidgrad.files import read_text
from fluidgrad.iteration import traced
from fluidgrad.shapes.curves import Curve, Numbers, checked_numbers, number

FARTHEST = 5e-3  # chords from a point of a file to the side that is fitted
DENSE = 400  # places where sides of known numbers must not cross


@partial(jax.tree_util.register_dataclass, data_fields=["numbers"], meta_fields=["kind"])
@dataclass(frozen=True)
class Aerofoil(Curve):
    """The closed curve of two sides; made by :func:`aerofoil`."""

    def _shape(self, t: Array) -> Float[Array, "... 2"]:
        n, angle = self.numbers, 2 * jnp.pi * t
        x, above = (1 + jnp.cos(angle)) / 2, jnp.sin(angle)
        # x and 1 - x as squares: near the tail 1 - x would lose its digits
        nose, tail = jnp.abs(jnp.cos(angle / 2)), jnp.abs(jnp.sin(angle / 2))
        shape = jnp.where(above >= 0, *(_bernstein(len(n[side]), x, jnp) @ n[side] for side in ("upper", "lower")))
        y = nose ** (2 * n["exponents"][0]) * tail ** (2 * n["exponents"][1]) * shape
        y = y + n["thickness"] / 2 * x * jnp.tanh(above / jnp.sqrt(n["thickness"]))
        return n["center"] + n["chord"] * jnp.stack([x - 0.5, y], -1)

    @property
    def size(self) -> Float[Array, " 2"]:
        """Half the chord, and half the height of the ellipse with the same mean square of y: smooth, before it is moved."""
        y = self._shape(jnp.arange(64) / 64)[:, 1]
        return jnp.stack([self.numbers["chord"] / 2, jnp.sqrt(2 * jnp.mean((y - jnp.mean(y)) ** 2))])


def aerofoil(
    center: Numbers,
    chord: ArrayLike,
    upper: Numbers | None = None,
    lower: Numbers | None = None,
    thickness: ArrayLike = 0.005,
    exponents: Numbers = (0.5, 1.0),
    naca: str | None = None,
    file: str | Path | None = None,
    coefficients: int = 6,
) -> Curve:
    """An aerofoil by class and shape functions (Kulfan 2008), its nose to the left; see ``fluidgrad/shapes/aerofoils.py``.

    ``t`` runs counter-clockwise from the tail. An even number of points, equally spaced in ``t``, has one on the nose.

    Args:
        center: the middle of the chord [L].
        chord: from nose to tail [L].
        upper, lower: coefficients of the sides, ``(n,)`` and ``(m,)``, fractions of the chord; those of the lower side are
            negative where it is below the chord. The first is ``sqrt(2 r)`` for a nose of radius ``r`` (with exponent 1/2).
        thickness: of the tail, which is rounded, a fraction of the chord; the sides are opened by ``+-x thickness / 2``.
        exponents: of the class function at the nose and at the tail; 1/2 is round, 1 a wedge.
        naca: instead of coefficients, four digits such as "2412": those of the nearest sides, fitted.
        file: instead of coefficients, a ``.dat`` file of points, in Selig's or Lednicer's order: the same.
        coefficients: how many for each side of ``naca`` or ``file``.

    Raises:
        InputError: sides that cross; a file of too few points, or that no such sides come near to.

    Differentiable in ``center``, ``chord``, ``upper``, ``lower``, ``thickness`` and ``exponents``.
    """
    exponents = number(exponents)
    ways = [name for name, value in (("upper and lower", upper), ("naca", naca), ("file", file)) if value is not None]
    if len(ways) != 1 or (upper is None) != (lower is None):
        raise InputError(f"an aerofoil with {' and '.join(ways) or 'no sides'}", accepted="upper and lower, or naca, or file")
    if upper is None or lower is None:
        upper, lower = fitted(naca, file, coefficients, exponents)
    sides = {"upper": number(upper), "lower": number(lower)}
    for name, w in sides.items():
        if w.ndim != 1 or not w.size:
            raise InputError(f"{name} of an aerofoil has shape {w.shape}", accepted="one or more numbers")
    given = {"center": (center, (2,)), "chord": (chord, ()), "thickness": (thickness, ()), "exponents": (exponents, (2,))}
    numbers = checked_numbers("aerofoil", given | {name: (w, w.shape) for name, w in sides.items()})
    _refuse_crossing(numbers)
    return Aerofoil(numbers, "aerofoil")


def fitted(
    naca: str | None = None, file: str | Path | None = None, coefficients: int = 6, exponents: Numbers = (0.5, 1.0)
) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients of the sides nearest to those of four digits, or of a file; see :func:`aerofoil`."""
    points = read_aerofoil(file) if file is not None else _naca(str(naca))
    return fit(points, coefficients, exponents, repr(str(file)) if file is not None else f"NACA {naca}")


def fit(
    points: tuple[Float[np.ndarray, "upper 2"], Float[np.ndarray, "lower 2"]], coefficients: int, exponents: Numbers, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients of the sides nearest to points: least squares in y.

    Args:
        points: of the upper and of the lower side, each from the nose (0, 0) to the tail at x = 1, as fractions of the
            chord. The opening between the last two is that of the sides' tail, and not fitted.
        coefficients: for each side.
        exponents: of the class function, known numbers.
        name: for messages.

    Raises:
        InputError: fewer points than coefficients, or sides farther than 0.005 chords from a point.
    """
    if coefficients < 1:
        raise InputError(f"{coefficients} coefficients for each side of an aerofoil", accepted="1 or more")
    if traced(exponents) or np.shape(exponents) != (2,):
        raise InputError(f"sides cannot be fitted with exponents {exponents}", accepted="two numbers that are not traced")
    a, b = np.asarray(exponents)
    found = []
    for side, p in zip(("upper", "lower"), points, strict=True):
        x, y = p[(p[:, 0] > 0) & (p[:, 0] < 1)].T
        if len(x) <= coefficients:
            raise InputError(
                f"{name} has {len(x)} points on its {side} side, between nose and tail",
                accepted=f"more than its {coefficients} coefficients: a finer table, or fewer coefficients",
            )
        basis = (x**a * (1 - x) ** b)[:, None] * _bernstein(coefficients, x, np)
        y = y - x * p[-1, 1]
        w = np.linalg.lstsq(basis, y, rcond=None)[0]
        off = np.abs(basis @ w - y)
        worst = int(off.argmax())
        if off[worst] > FARTHEST:
            raise InputError(
                f"{name} is no aerofoil of {coefficients} coefficients for each side: the nearest {side} side is "
                f"{off[worst]:.2g} chords off at x = {x[worst]:.3g} chords",
                accepted=f"points that such sides come within {FARTHEST:g} chords of, more coefficients, or closed_curve",
            )
        found.append(w)
    return found[0], found[1]


def read_aerofoil(path: str | Path) -> tuple[Float[np.ndarray, "upper 2"], Float[np.ndarray, "lower 2"]]:
    """The points of the upper and of the lower side in a ``.dat`` file, each from the nose to the tail.

    A first line that is not two numbers is the title. In Selig's order the points run from the tail over the upper side to
    the nose and back below; in Lednicer's, the second line tells how many points there are on each side, which follow one
    after the other, each from the nose. The chord is from the middle between the ends of the sides to the point farthest
    from it; it is turned, moved and scaled to lie on the x axis from 0 to 1.

    Raises:
        InputError: not readable; a row that is not two numbers; fewer than three points on a side.
    """
    rows: list[list[float]] = []
    for k, line in enumerate(read_text(path, "an aerofoil from", "a .dat file of points x, y").splitlines(), 1):
        try:
            row = [float(f) for f in line.replace(",", " ").split()]
        except ValueError:
            row = []
        if len(row) == 2 and np.isfinite(row).all():
            rows.append(row)
        elif line.strip() and k > 1:
            raise InputError(f"row {k} of {str(path)!r} is not two numbers: {line[:40]!r}", accepted="a title, then rows x, y")
    x = np.array(rows).reshape(-1, 2)
    if lednicer := len(x) > 0 and (x[0] > 1).all() and (x[0] % 1 == 0).all():  # two counts: no point of a unit chord is there
        n = int(x[0, 0])
        if x[0].sum() != len(x) - 1:
            given = f"{str(path)!r} says that it has {x[0, 0]:g} and {x[0, 1]:g} points, and has {len(x) - 1}"
            raise InputError(given, accepted="as many rows as its second line says (Lednicer's order)")
        upper, lower = x[1 : n + 1], x[n + 1 :]
    else:
        nose = int(np.argmax(np.linalg.norm(x - (x[:1] + x[-1:]) / 2, axis=1))) if len(x) else 0
        upper, lower = x[nose::-1], x[nose:]
    if min(len(upper), len(lower)) < 3:
        order = "Lednicer's" if lednicer else "Selig's"
        raise InputError(
            f"{str(path)!r} has {len(upper)} points on its upper side and {len(lower)} on its lower ({order} order)",
            accepted="three or more on each, from the tail over the upper side round the nose, or each side from the nose",
        )
    # as complex numbers: a turn, a shift and a scale are one product
    tail, nose = (upper[-1] + lower[-1]) @ [0.5, 0.5j], upper[0] @ [1, 1j]
    sides = [((p @ [1, 1j]) - nose) / (tail - nose) for p in (upper, lower)]
    if sides[0].imag.mean() < sides[1].imag.mean():  # clockwise
        sides = sides[::-1]
    return tuple(np.stack([s.real, s.imag], -1) for s in sides)  # pyright: ignore[reportReturnType]


def _naca(digits: str) -> tuple[np.ndarray, np.ndarray]:
    """The sides of a NACA four-digit aerofoil (Jacobs, Ward & Pinkerton 1933), from the nose to the tail."""
    if len(digits) != 4 or not (digits.isascii() and digits.isdecimal()) or digits[2:] == "00" or (digits[0] != "0") != (digits[1] != "0"):
        raise InputError(f"naca = {digits!r}", accepted='four digits: camber, its place (both 0 for none) and thickness, as in "2412"')
    m, p, tau = int(digits[0]) / 100, int(digits[1]) / 10, int(digits[2:]) / 100
    x = (1 - np.cos(np.linspace(0, np.pi, 101))) / 2
    half = 5 * tau * (0.2969 * np.sqrt(x) - 0.1260 * x - 0.3516 * x**2 + 0.2843 * x**3 - 0.1015 * x**4)
    reach = np.where(x < p, max(p, 1e-9), 1 - p)
    camber = m / reach**2 * np.where(x < p, x * (2 * p - x), 1 - 2 * p + x * (2 * p - x))
    slope = np.arctan(2 * m / reach**2 * (p - x))
    normal = half[:, None] * np.stack([-np.sin(slope), np.cos(slope)], -1)
    middle = np.stack([x, camber], -1)
    return middle + normal, middle - normal


def _bernstein(count: int, x: Any, xp: Any) -> Any:
    """The Bernstein polynomials of degree ``count - 1`` at ``x``, ``(..., count)``."""
    i = np.arange(count)
    binomial = np.array([comb(count - 1, k) for k in i], float)
    return binomial * x[..., None] ** i * (1 - xp.asarray(x))[..., None] ** i[::-1]


def _refuse_crossing(n: dict[str, Any]) -> None:
    """Look for sides that cross, where numbers are known."""
    if traced(n):
        return
    x = (1 - np.cos(np.pi * np.arange(1, DENSE) / DENSE)) / 2
    (a, b), tau = np.asarray(n["exponents"]), float(n["thickness"])
    apart = x**a * (1 - x) ** b * (_bernstein(len(n["upper"]), x, np) @ n["upper"] - _bernstein(len(n["lower"]), x, np) @ n["lower"])
    apart = apart + tau * x * np.tanh(2 * np.sqrt(x * (1 - x) / tau))
    if (apart <= 0).any():
        raise InputError(
            f"the sides of an aerofoil cross at {x[apart.argmin()]:.3g} of the chord",
            accepted="coefficients of upper above those of lower, or a thicker tail",
        )
