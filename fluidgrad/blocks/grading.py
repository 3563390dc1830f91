"""Where the nodes of a line go: a wanted cell size along it, turned into nodes.

An :class:`Axis` is cut at *lines* (walls, the sides of the boxes round the bodies) into segments. The wanted size h(x) is
a function along the whole axis, small at the bodies and the walls and growing away from them; the nodes of a segment lie
at equal steps of N(x) = integral of dx / h. Only the number of cells depends on the resolution, never the distribution,
so meshes of a refinement family are nested: every node of one is a node of the next.

Everything here is static NumPy; the positions of the lines may be traced (:func:`place`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.interpolate import CubicHermiteSpline

from fluidgrad.errors import InputError

SAMPLES = 2000  # of the size along one segment


@dataclass(frozen=True)
class Near:
    """Small cells over an interval: ``size`` in its middle, ``edge`` at its ends, growing by ``growth`` outside it."""

    lower: float
    upper: float
    size: float
    edge: float
    growth: float
    growth_above: float | None = None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        middle, half = (self.lower + self.upper) / 2, max((self.upper - self.lower) / 2, 1e-200)
        inside = np.clip((x - middle) / half, -1, 1) ** 2
        above = self.growth if self.growth_above is None else self.growth_above
        outside = self.growth * np.maximum(self.lower - x, 0) + above * np.maximum(x - self.upper, 0)
        return self.size + (self.edge - self.size) * inside + outside


@dataclass(frozen=True)
class Axis:
    """The segments between lines, and the wanted sizes along them.

    Attributes:
        lines: where the segments meet, as first built.
        sizes: the wanted sizes; the smallest rules, smoothly.
        largest: no cell is wanted larger than this.
    """

    lines: tuple[float, ...]
    sizes: tuple[Near, ...]
    largest: float

    def size(self, x: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        wanted = np.stack([s(x) for s in self.sizes] + [np.full_like(x, self.largest)])
        return np.sum(wanted**-4.0, axis=0) ** -0.25

    def counts(self, scale: float, least: int = 2) -> tuple[int, ...]:
        """Cells in each segment when all wanted sizes are multiplied by ``scale``."""
        return tuple(max(least, round(_steps(self, i)[-1] / scale)) for i in range(len(self.lines) - 1))

    def nodes(self, counts: Sequence[int]) -> list[Float[np.ndarray, " nodes"]]:
        """For each segment, its nodes as fractions of its length, from 0 to 1."""
        return [_fractions(self, i, int(n)) for i, n in enumerate(counts)]


def place(lines: Sequence[Any], fractions: Sequence[Float[np.ndarray, " nodes"]], xp: ModuleType = jnp) -> Float[Array, " nodes"]:
    """Nodes along an axis whose lines may be traced; ``xp=numpy`` where they are not."""
    pieces = [lines[i] + (lines[i + 1] - lines[i]) * f[:-1] for i, f in enumerate(fractions)]
    return xp.concatenate([*pieces, xp.asarray(lines[len(fractions)])[None]])


def counts_for(cells: Any, counted: Callable[[float], tuple[Any, int]], what: str, enough: str) -> Any:
    """The counts whose total is nearest to ``cells``, of those ``(counts, total)`` that ``counted`` makes for a scale of all sizes.

    Raises:
        InputError: fewer cells than the coarsest mesh has.
    """
    low, high = 1e-3, 1e3
    least = counted(high)[1]
    if np.ndim(cells) or cells < least:
        raise InputError(f"cells = {cells} is too coarse for this {what}", accepted=enough.format(least))
    for _ in range(60):
        scale = float(np.sqrt(low * high))
        low, high = (scale, high) if counted(scale)[1] > cells else (low, scale)
    return min((counted(low), counted(high)), key=lambda found: abs(found[1] - cells))[0]


def quads(index: Int[np.ndarray, "n m"]) -> Int[np.ndarray, "cells 4"]:
    """The cells of a block whose points have these numbers: counter-clockwise when the second index is to the left of
    the first."""
    return np.stack([index[:-1, :-1], index[1:, :-1], index[1:, 1:], index[:-1, 1:]], -1).reshape(-1, 4)


def edges(line: Int[np.ndarray, " n"]) -> Int[np.ndarray, "edges 2"]:
    """The faces along a line of points."""
    return np.stack([line[:-1], line[1:]], 1)


def tanh_nodes(first: float, last: float | None = None) -> Callable[[np.ndarray], np.ndarray]:
    """The map of [0, 1] onto itself that clusters nodes to 0 by ``first`` and to 1 by ``last``, the same by default; 0 leaves them
    equally spaced. By ``(g, 0)`` it is the first half of that by ``g``."""
    last = first if last is None else last
    if first == last == 0:
        return lambda s: np.asarray(s, float)
    return lambda s: (np.tanh(first) + np.tanh(last * np.asarray(s) - first * (1 - np.asarray(s)))) / (np.tanh(first) + np.tanh(last))


def geometric_nodes(ratio: float, n: int) -> Float[np.ndarray, " nodes"]:
    """Nodes of ``n`` cells on [0, 1] that grow geometrically, the last to ``ratio`` times the first (in the limit of many)."""
    s = np.arange(n + 1) / n
    return s if ratio == 1 else np.expm1(np.log(ratio) * s) / (ratio - 1)


def positive(ratio: float) -> float:
    """The ratio of :func:`geometric_nodes`, refused when it is not positive."""
    if not ratio > 0:
        raise InputError(f"grading must be positive, got {ratio:g}", accepted="last thickness over first; 1 is uniform")
    return float(ratio)


def pair(grading: float | tuple[float, float]) -> tuple[float, float]:
    """Clusterings, one for both or each its own."""
    along_x, along_y = np.broadcast_to(grading, 2)
    if min(pair := (float(along_x), float(along_y))) < 0:
        raise InputError(f"grading must not be negative, got {grading}", accepted="0 (uniform) or more, e.g. 1.5")
    return pair


def cut_nodes(n: int, strength: float, cuts: Sequence[float], refine: int) -> tuple[Float[np.ndarray, " nodes"], Int[np.ndarray, " cuts"]]:
    """Nodes in [0, 1] of ``n`` cells, each refined, that cluster to both ends; the nodes nearest to ``cuts`` lie on them.

    Returns:
        the nodes, and the number of the node on each cut.

    Raises:
        InputError: no cell fits between two cuts.
    """
    spread = tanh_nodes(strength)
    # Integer steps at the cuts, the cells between them as the grading would have them.
    table = np.linspace(0, 1, 4001)
    steps = np.rint(n * np.interp(cuts, spread(table), table)).astype(int)
    if (np.diff(steps) < 1).any():
        i = int((np.diff(steps) < 1).argmax())
        raise InputError(f"no cell fits into the interval {cuts[i]:g} to {cuts[i + 1]:g} (fractions)", "more cells or wider intervals")
    x = spread(np.arange(n * refine + 1) / (n * refine))
    graded = x.copy()
    for i in range(len(cuts) - 1):
        part = slice(steps[i] * refine, steps[i + 1] * refine + 1)
        a, b = spread(steps[i] / n), spread(steps[i + 1] / n)
        if abs(a - cuts[i]) + abs(b - cuts[i + 1]) > 1e-12:
            x[part] = cuts[i] + (graded[part] - a) * (cuts[i + 1] - cuts[i]) / (b - a)
    return x, steps * refine


@lru_cache(maxsize=256)
def _fractions(axis: Axis, segment: int, n: int) -> Float[np.ndarray, " nodes"]:
    steps = _steps(axis, segment)
    x = np.linspace(axis.lines[segment], axis.lines[segment + 1], SAMPLES + 1)
    # dx/dN = h is known, so a Hermite spline inverts N(x) without the noise that a table would put into cell sizes.
    fractions = (CubicHermiteSpline(steps, x, axis.size(x))(np.arange(n + 1) / n * steps[-1]) - x[0]) / (x[-1] - x[0])
    fractions[[0, -1]] = 0, 1
    return fractions


@lru_cache(maxsize=256)
def _steps(axis: Axis, segment: int) -> Float[np.ndarray, " samples"]:
    """N(x) at the samples of a segment."""
    x = np.linspace(axis.lines[segment], axis.lines[segment + 1], SAMPLES + 1)
    step = 1 / axis.size(x)
    return np.concatenate([[0.0], np.cumsum((step[1:] + step[:-1]) / 2 * np.diff(x))])


def share(x: Float[np.ndarray, "n 2"], relative: bool = True) -> Float[np.ndarray, " n"]:
    """The length from the beginning of a line to each of its points, as a share of it all."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(x, axis=0), axis=1))])
    return length / length[-1] if relative else length


def slant(lower: Float[np.ndarray, "n 2"], upper: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " n-1"]:
    """The sine between each line across and the walls, the smaller of the two."""
    across = (upper - lower)[:-1]
    ahead = np.stack([np.diff(lower, axis=0), np.diff(upper, axis=0)])
    turn = ahead[..., 0] * across[:, 1] - ahead[..., 1] * across[:, 0]
    return (turn / (np.linalg.norm(ahead, axis=-1) * np.linalg.norm(across, axis=1) + 1e-300)).min(0)
