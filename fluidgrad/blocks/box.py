"""A rectangle of quadrilaterals whose sides are patches, or several.

Nodes cluster to its walls as asked for, and those nearest to the ends of patches lie on them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fluidgrad.blocks.grading import cut_nodes, edges, pair, quads
from fluidgrad.blocks.recipes import checked, needs_like, reuse
from fluidgrad.errors import InputError
from fluidgrad.iteration import traced
from fluidgrad.mesh.mesh import Mesh, refinement
from fluidgrad.mesh.topology import Topology, build_topology
from fluidgrad.shapes.curves import Numbers, number

SIDES = ("left", "right", "bottom", "top")
Split = Sequence[tuple[str, float, float]]  # name, from, to


@dataclass(frozen=True)
class BoxRecipe:
    """Counts, width and height when built, clustering, and for each side its patches as (name, from, to) in fractions of the side."""

    counts: tuple[int, int]
    built: tuple[float, float]
    grading: tuple[float, float]
    patches: tuple[tuple[str, tuple[tuple[str, float, float], ...]], ...]
    refine: int


def box(
    lower: Numbers = (0.0, 0.0),
    upper: Numbers = (1.0, 1.0),
    cells: int | tuple[int, int] = 1024,
    grading: float | tuple[float, float] = 0.0,
    patches: Mapping[str, str | Split] | None = None,
    refine: int | None = None,
    like: Mesh | None = None,
) -> Mesh:
    """A rectangle of quadrilaterals.

    Args:
        lower, upper: two opposite corners [L].
        cells: their number along x and y, or about their number in all.
        grading: clustering to the walls, for x and y or both: nodes at ``(1 + tanh(g (2 s - 1)) / tanh g) / 2``, ``s``
            equally spaced; 0 is uniform, at 2 the middle cells are 14 times as large as those at the walls.
        patches: for the sides left, right, bottom and top, the name of a patch (their own by default; several sides may
            share one), or intervals ``(name, from, to)`` in x or y that cover the side. The nodes nearest to their ends are moved there.
        refine: multiplies both counts.
        like: use the counts, grading and patches of this mesh.

    Differentiable in ``lower`` and ``upper``.
    """
    lower, upper = number(lower), number(upper)
    if lower.shape != (2,) or upper.shape != (2,):
        raise InputError(f"a box from {lower} to {upper}", accepted="two numbers each; extrude makes a 3D box of a 2D one")
    known = not traced(lower, upper)
    if known and not (np.asarray(upper) > np.asarray(lower)).all():
        raise InputError(f"a box from {np.asarray(lower)} to {np.asarray(upper)}", accepted="upper above lower in x and y")
    if like is not None:
        recipe = reuse(like, BoxRecipe, refine)
    else:
        if not known and (np.ndim(cells) == 0 or any(not isinstance(p, str) for p in (patches or {}).values())):
            raise needs_like("box")
        ends = (np.asarray(lower), np.asarray(upper)) if known else None
        built = tuple((ends[1] - ends[0]).tolist()) if ends else (1.0, 1.0)
        recipe = BoxRecipe(_box_counts(cells, ends), built, pair(grading), _box_patches(patches or {}, ends), refinement(refine))
    topology, s = _box_layout(recipe)
    mesh = Mesh(jnp.asarray(lower + (upper - lower) * s), topology, recipe)
    return checked(mesh)


def _box_counts(cells: int | tuple[int, int], ends: tuple[np.ndarray, np.ndarray] | None) -> tuple[int, int]:
    if np.ndim(cells):
        counts = tuple(int(c) for c in np.asarray(cells))
    else:
        assert ends is not None
        width, height = ends[1] - ends[0]
        total = float(np.asarray(cells))
        nx = max(1, round(np.sqrt(max(total, 1) * width / height)))
        counts = (nx, round(total / nx))
    if len(counts) != 2 or min(counts) < 1:
        raise InputError(f"cells = {cells}", accepted="a number, or two: along x and y")
    return counts


def _box_patches(patches: Mapping[str, str | Split], ends: tuple[np.ndarray, np.ndarray] | None) -> tuple:
    if unknown := set(patches) - set(SIDES):
        raise InputError(f"a box has no side {sorted(unknown)[0]!r}", accepted=f"it has {', '.join(SIDES)}")
    sides = []
    for side in SIDES:
        split = patches.get(side, side)
        if isinstance(split, str):
            sides.append((side, ((split, 0.0, 1.0),)))
            continue
        axis = 0 if side in ("bottom", "top") else 1
        assert ends is not None
        low, high = float(ends[0][axis]), float(ends[1][axis])
        cuts = [((a - low) / (high - low), (b - low) / (high - low)) for _, a, b in split]
        joined = [0.0, *[b for _, b in cuts[:-1]], 1.0]
        if any(abs(a - b) > 1e-9 for a, b in zip([a for a, _ in cuts] + [cuts[-1][1]], joined, strict=True)):
            raise InputError(
                f"the intervals of the {side} side do not cover it: {', '.join(f'{n} {a:g} to {b:g}' for n, a, b in split)}",
                accepted=f"intervals that follow each other from {low:g} to {high:g}",
            )
        if any(b <= a for a, b in zip(joined, joined[1:], strict=False)):
            raise InputError(f"an interval of the {side} side is empty", accepted="from < to in every interval")
        sides.append((side, tuple((n, a, b) for (n, _, _), a, b in zip(split, joined, joined[1:], strict=False))))
    return tuple(sides)


@lru_cache(maxsize=16)
def _box_layout(recipe: BoxRecipe) -> tuple[Topology, Float[np.ndarray, "points 2"]]:
    """The topology of a box, and its points in the unit square."""
    nodes, ends = [], []
    for axis, names in ((0, ("bottom", "top")), (1, ("left", "right"))):
        cuts = sorted({round(b, 12) for side, split in recipe.patches if side in names for _, _, b in split} | {0.0, 1.0})
        try:
            x, steps = cut_nodes(recipe.counts[axis], recipe.grading[axis], cuts, recipe.refine)
        except InputError as error:
            raise InputError(f"{error.given} of the {' and '.join(names)} side", error.accepted) from None
        nodes.append(x)
        ends.append(dict(zip(cuts, steps, strict=True)))
    nx, ny = (len(x) - 1 for x in nodes)
    index = np.arange((nx + 1) * (ny + 1)).reshape(nx + 1, ny + 1)
    points = np.stack(np.meshgrid(*nodes, indexing="ij"), -1).reshape(-1, 2)
    sides = {"left": (index[0], 1), "right": (index[-1], 1), "bottom": (index[:, 0], 0), "top": (index[:, -1], 0)}
    patches: dict[str, list] = {}
    for side, split in recipe.patches:
        line, axis = sides[side]
        for name, a, b in split:
            first, last = ends[axis][round(a, 12)], ends[axis][round(b, 12)]
            patches.setdefault(name, []).append(edges(line[first : last + 1]))
    joined = {p: np.concatenate(e) for p, e in patches.items()}
    return build_topology(points * recipe.built, [("quad", quads(index))], joined), points
