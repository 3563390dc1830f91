"""Ducts: one block between two walls, such as a diffuser, a nozzle or a bend.

The walls are open curves from inlet to outlet; straight lines across it join points of one to points of the
other. Which are joined follows from the shape as first made: equal shares of the two lengths, or equal ``t``, whichever
leaves the lines nearer to right angles with the walls. Corners of walls are met by nodes. All of this is static; as the
walls move, points keep their ``t``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from scipy.interpolate import PchipInterpolator

from fluidgrad.blocks.grading import Axis, Near, edges, quads, share, slant, tanh_nodes
from fluidgrad.blocks.recipes import checked, needs_like, reuse
from fluidgrad.errors import InputError
from fluidgrad.iteration import traced
from fluidgrad.mesh.mesh import Mesh, refinement
from fluidgrad.mesh.topology import Topology, build_topology
from fluidgrad.shapes.curves import Curve, number, with_normal
from fluidgrad.shapes.polygons import refuse_crossing
from fluidgrad.shapes.splines import along

SIDES = {"inlet": "inlet", "outlet": "outlet", "lower": "walls", "upper": "walls"}
SAMPLES = 800  # along walls that are looked at
KNOTS = 33  # of the map from places along the duct to t, between two corners
GROWTH, LARGEST = 0.08, 4.0  # of cells along the straight pieces, and the largest of those along the walls

Walls = Callable[[ArrayLike, ArrayLike], tuple[Array, Array]]  # t of the lower and of the upper one -> points


@dataclass(frozen=True)
class DuctRecipe:
    """All that is static about a duct.

    Attributes:
        axis: lines and sizes along it: its ends, corners of walls, and the ends of straight pieces.
        counts: cells between two lines, and across.
        grading: across.
        t: of the lower and the upper wall at equal steps from line to line, ``(segments, 2, KNOTS)``.
        nominal: the points there when built, ``(segments, 2, KNOTS, 2)``.
        pieces: lengths of the straight pieces before and after when built; None where there is none.
        patches: their names by side.
    """

    axis: Axis
    counts: tuple[tuple[int, ...], int]
    grading: float
    t: Any
    nominal: Any
    pieces: tuple[float | None, ...]
    patches: tuple[tuple[str, str], ...]
    refine: int


def duct(
    lower: Curve | None = None,
    upper: Curve | None = None,
    centerline: Curve | None = None,
    width: ArrayLike | None = None,
    before: ArrayLike | None = None,
    after: ArrayLike | None = None,
    cells: int | tuple[int, int] = 2000,
    grading: float = 1.0,
    patches: Mapping[str, str] | None = None,
    refine: int | None = None,
    like: Mesh | None = None,
) -> Mesh:
    """A duct between two walls or along a center line, in quadrilaterals: a diffuser, a nozzle, a bend.

    Patches: ``inlet`` and ``outlet``, straight lines from the lower to the upper wall, and ``walls`` (lower, then upper).

    Args:
        lower, upper: open curves from inlet to outlet, the lower to the right of the flow and the upper to its left.
        centerline, width: instead of walls, an open curve without corners, and the distance between the walls across
            it [L]: a number, or coefficients of a B-spline along the line, the first at its beginning, the last at its end.
        before, after: lengths of straight pieces at right angles to the inlet and to the outlet [L].
        cells: about how many, or their number along (straight pieces included) and across.
        grading: clustering to the walls: 0 is uniform, 2 strong, as for :func:`box`.
        patches: other names for the sides inlet, outlet, lower and upper; several may share one.
        refine, like: as for :func:`box`.

    Raises:
        InputError: walls that cross, that run the other way or are on the wrong side; closed ones; a tangled mesh.

    Differentiable in the numbers of the curves, ``width``, ``before`` and ``after``.
    """
    curves = {"lower": lower, "upper": upper, "centerline": centerline}
    lengths = {"width": width, "before": before, "after": after}
    numbers: dict[str, Any] = curves | {name: None if x is None else number(x) for name, x in lengths.items()}
    given = [name for name in (*curves, "width") if numbers[name] is not None]
    if given not in (["lower", "upper"], ["centerline", "width"]):
        raise InputError(f"a duct of {' and '.join(given) or 'nothing'}", accepted="lower and upper, or centerline and width")
    for name, curve in curves.items():
        if curve is not None and (not isinstance(curve, Curve) or curve.is_closed):
            raise InputError(f"{name} is not an open curve", accepted="spline(control, closed=False)")
    if centerline is not None and centerline.kind == "polyline":
        raise InputError("a center line with corners", accepted="one without: the walls would be torn there")
    for name in lengths:
        _check_length(name, numbers[name], several=name == "width")
    if like is not None:
        recipe = reuse(like, DuctRecipe, refine)
        if tuple(p is not None for p in recipe.pieces) != (before is not None, after is not None):
            raise InputError("like is a duct with other straight pieces", accepted="before and after where it has them")
    elif traced(*jax.tree.leaves(numbers)):
        raise needs_like("duct")
    else:
        with jax.ensure_compile_time_eval():
            recipe = _recipe(numbers, cells, grading, patches or {}, refine)
    return checked(Mesh(_points(recipe, numbers), _topology(recipe), recipe))


def _check_length(name: str, value: Any, several: bool) -> None:
    if value is None:
        return
    if np.ndim(value) > several or not np.size(value):
        raise InputError(f"{name} has shape {np.shape(value)}", accepted="one number" + (" or a row of them along the line" * several))
    if not traced(value) and not (np.isfinite(value).all() and (np.asarray(value) > 0).all()):
        raise InputError(f"{name} = {np.asarray(value)}", accepted="positive numbers")


def _walls(numbers: dict[str, Any]) -> Walls:
    """The points of both walls as functions of their ``t``."""
    line, width = numbers["centerline"], numbers["width"]
    if line is None:
        return lambda a, b: (numbers["lower"].at(a), numbers["upper"].at(b))

    def beside(t: ArrayLike, side: float) -> Array:
        x, right = with_normal(line.at, t)
        across = along(jnp.reshape(width, (-1, 1)), jnp.asarray(t), "open") if np.size(width) > 1 else jnp.reshape(width, ())
        return x + side * right * across / 2

    return lambda a, b: (beside(a, 1.0), beside(b, -1.0))


# What is static


def _recipe(
    numbers: dict[str, Any], cells: int | tuple[int, int], grading: float, patches: Mapping[str, str], refine: int | None
) -> DuctRecipe:
    if unknown := set(patches) - set(SIDES):
        raise InputError(f"a duct has no side {sorted(unknown)[0]!r}", accepted=f"it has {', '.join(SIDES)}")
    if grading < 0:
        raise InputError(f"grading must not be negative, got {grading}", accepted="0 (uniform) or more, e.g. 1.5")
    walls = _walls(numbers)
    t = np.linspace(0, 1, SAMPLES + 1)
    shape = [np.asarray(x) for x in walls(t, t)]
    if numbers["centerline"] is None:
        _check_order(*shape)
    corners = [np.zeros(0) if numbers[name] is None else numbers[name].corners for name in ("lower", "upper")]
    same_share = [np.interp(t, share(x), t) for x in shape]
    same_t = [np.interp(t, share((shape[0] + shape[1]) / 2), t)] * 2
    joined = max(same_t, same_share, key=lambda ab: slant(*map(np.asarray, walls(*ab))).min())
    if (sine := slant(*map(np.asarray, walls(*joined)))).min() <= 0:
        x, y = np.asarray(walls(*joined)).mean(0)[sine.argmin()]
        raise InputError(
            f"the lines across the duct cross each other near ({x:.4g}, {y:.4g})", accepted="wider turns than the duct is wide"
        )
    refuse_crossing(*shape)
    lines = np.unique(np.concatenate([[0.0, 1.0], *(np.interp(c, a, t) for c, a in zip(corners, joined, strict=True))]))
    lines = lines[np.append(True, np.diff(lines) > 1 / SAMPLES)]
    knots = [np.linspace(a, b, KNOTS) for a, b in zip(lines, lines[1:], strict=False)]
    exact = [[_snapped(np.interp(s, t, a), c) for a, c in zip(joined, corners, strict=True)] for s in knots]
    points = [[np.asarray(x) for x in walls(a, b)] for a, b in exact]
    a, b = (np.concatenate([p[k] for p in points]) for k in (0, 1))
    length, across = share((a + b) / 2, relative=False)[-1], float(np.linalg.norm(b - a, axis=1).mean())
    pieces = tuple(None if numbers[k] is None else float(numbers[k]) for k in ("before", "after"))
    ends = [*([-pieces[0]] if pieces[0] else []), *(lines * length), *([length + pieces[1]] if pieces[1] else [])]
    axis = Axis(tuple(map(float, ends)), (Near(0.0, float(length), 1.0, 1.0, GROWTH / across),), LARGEST)
    return DuctRecipe(
        axis, _counts(axis, cells, across), float(grading), _frozen(exact), _frozen(points), pieces,
        tuple((side, patches.get(side, name)) for side, name in SIDES.items()), refinement(refine),
    )  # fmt: skip


def _counts(axis: Axis, cells: int | tuple[int, int], across: float) -> tuple[tuple[int, ...], int]:
    """Cells in each segment and across: as long as wide in the mean, or as asked for."""
    steps = np.array(axis.counts(1e-9)) * 1e-9  # in lengths
    segments = len(steps)
    if np.ndim(cells):
        given = tuple(int(c) for c in np.asarray(cells))
        if len(given) != 2 or given[0] < segments or given[1] < 1:
            raise InputError(f"cells = {cells}", accepted=f"a number, or two: along ({segments} or more here) and across")
        # the largest remainders round up
        wanted = steps / steps.sum() * given[0]
        counts = np.maximum(1, np.floor(wanted).astype(int))
        for _ in range(given[0] - counts.sum()):
            counts[np.argmax(wanted - counts)] += 1
        while counts.sum() > given[0]:
            counts[np.argmax(counts - wanted - 1e9 * (counts == 1))] -= 1
        return tuple(map(int, counts)), given[1]
    total = float(np.asarray(cells))
    if not total >= 2 * segments:
        raise InputError(f"cells = {cells}", accepted=f"{2 * segments} or more in this duct, or two numbers: along and across")
    size = np.sqrt(steps.sum() * across / total)
    counts = tuple(max(1, round(n / size)) for n in steps)
    return counts, max(2, round(total / sum(counts)))


def _check_order(lower: Float[np.ndarray, "n 2"], upper: Float[np.ndarray, "n 2"]) -> None:
    """Refuse walls that run against each other, or are on the wrong side of the flow."""
    gap = lambda i, j: float(np.linalg.norm(lower[i] - upper[j]))  # noqa: E731
    if gap(0, 0) + gap(-1, -1) > gap(0, -1) + gap(-1, 0):
        raise InputError("the walls run in opposite directions", accepted="both from inlet to outlet: reverse the order of one")
    refuse_crossing(lower, upper)
    if np.median(slant(lower, upper)) <= 0:
        raise InputError("the lower wall is to the left of the flow", accepted="lower to its right and upper to its left: exchange them")


def _snapped(t: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """A map that ends exactly on corners, where it ends near to them."""
    for end in (0, -1):
        if corners.size and abs(corners[np.argmin(np.abs(corners - t[end]))] - t[end]) < 2 / SAMPLES:
            t[end] = corners[np.argmin(np.abs(corners - t[end]))]
    return t


def _frozen(nested: Any) -> Any:
    """Nested sequences of arrays as tuples, which can be hashed."""
    return tuple(map(_frozen, nested)) if isinstance(nested, list) or np.ndim(nested) else float(nested)


# What is made from the numbers


def _along(recipe: DuctRecipe) -> tuple[list[np.ndarray], Any, Any]:
    """Nodes along the walls for each segment between lines, as fractions of it; those of the straight pieces apart."""
    fractions = recipe.axis.nodes([c * recipe.refine for c in recipe.counts[0]])
    before = fractions.pop(0) if recipe.pieces[0] else None
    after = fractions.pop() if recipe.pieces[1] else None
    return fractions, before, after


def _joined(recipe: DuctRecipe, table: Any) -> Float[np.ndarray, "nodes ..."]:
    """A table over knots, read at the nodes."""
    found, s = [], np.linspace(0, 1, KNOTS)
    for rows, f in zip(table, _along(recipe)[0], strict=True):
        found.append(PchipInterpolator(s, np.moveaxis(np.array(rows), 0, 1))(f)[(1 if found else 0) :])
    return np.concatenate(found)


def _extended(recipe: DuctRecipe, walls: Array, before: Any, after: Any) -> Array:
    """Both walls with their straight pieces, ``(nodes, 2 walls, 2)``."""
    _, f_before, f_after = _along(recipe)

    def piece(section: Array, length: Any, share: np.ndarray) -> Array:
        across = section[1] - section[0]
        ahead = jnp.stack([across[1], -across[0]]) / jnp.linalg.norm(across)
        return section[None] + length * share[:, None, None] * ahead

    parts = [walls]
    if f_before is not None:
        parts.insert(0, piece(walls[0], before, f_before[:-1] - 1))
    if f_after is not None:
        parts.append(piece(walls[-1], after, f_after[1:]))
    return jnp.concatenate(parts)


def _across(recipe: DuctRecipe) -> Float[np.ndarray, " nodes"]:
    n = recipe.counts[1] * recipe.refine
    return tanh_nodes(recipe.grading)(np.arange(n + 1) / n)


def _filled(recipe: DuctRecipe, walls: Array) -> Array:
    lower, upper = walls[:, None, 0], walls[:, None, 1]
    return (lower + _across(recipe)[None, :, None] * (upper - lower)).reshape(-1, 2)


@partial(jax.jit, static_argnums=0)
def _points(recipe: DuctRecipe, numbers: dict[str, Any]) -> Float[Array, "points 2"]:
    walls = jnp.stack(_walls(numbers)(*_joined(recipe, recipe.t).T), 1)
    return _filled(recipe, _extended(recipe, walls, numbers["before"], numbers["after"]))


@partial(jax.jit, static_argnums=0)
def _nominal(recipe: DuctRecipe) -> Float[Array, "points 2"]:
    return _filled(recipe, _extended(recipe, jnp.asarray(_joined(recipe, recipe.nominal)), *recipe.pieces))


@lru_cache(maxsize=16)
def _topology(recipe: DuctRecipe) -> Topology:
    with jax.ensure_compile_time_eval():
        nominal = np.asarray(_nominal(recipe))
    index = np.arange(len(nominal)).reshape(-1, len(_across(recipe)))
    sides = {"inlet": index[0], "outlet": index[-1], "lower": index[:, 0], "upper": index[:, -1]}
    patches: dict[str, list] = {}
    for side, name in recipe.patches:
        patches.setdefault(name, []).append(edges(sides[side]))
    return build_topology(nominal, [("quad", quads(index))], {p: np.concatenate(e) for p, e in patches.items()})
