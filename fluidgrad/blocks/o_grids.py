"""O-grids: rings of cells from a body to a far curve."""

from __future__ import annotations

import numpy as np
from jaxtyping import ArrayLike

from fluidgrad.blocks.grading import positive
from fluidgrad.blocks.recipes import checked, needs_like, reuse
from fluidgrad.blocks.ring import RingRecipe, ring_points, ring_topology
from fluidgrad.errors import InputError
from fluidgrad.mesh.mesh import Mesh, refinement
from fluidgrad.shapes.curves import Curve, arc_length, circle, refuse_open
from fluidgrad.shapes.polygons import area


def o_grid(
    body: Curve,
    outer: Curve | ArrayLike,
    cells: int | tuple[int, int] = 5000,
    grading: float | None = None,
    refine: int | None = None,
    like: Mesh | None = None,
) -> Mesh:
    """Rings of quadrilaterals from a body to a far curve; patches ``body`` and ``far``.

    Args:
        body: the inner curve.
        outer: the outer one, or the radius of a circle about the body's center [L].
        cells: their number round and across, or about their number in all.
        grading: thickness of the last layer over that of the first (in the limit of thin layers; they grow
            geometrically): 1 is uniform, and by default the layers grow so that cells keep their shape. With n layers
            over a distance L the first is about ``L log(grading) / (n (grading - 1))`` thick.
        refine, like: as for :func:`box`.

    Differentiable in the numbers of both curves.
    """
    if not isinstance(outer, Curve):
        outer = circle(body.center, outer)
    for name, curve in (("body", body), ("outer", outer)):
        refuse_open(name, curve)
    known = body.is_concrete and outer.is_concrete
    if like is not None:
        recipe = reuse(like, RingRecipe, refine)
    elif not known and (np.ndim(cells) == 0 or grading is None):
        raise needs_like("o_grid")
    else:
        recipe = _ring_recipe(body, outer, cells, grading, refine)
    points, topology = ring_points(recipe, body, outer), ring_topology(recipe)
    return checked(Mesh(points, topology, recipe))


def _ring_recipe(body: Curve, outer: Curve, cells: int | tuple[int, int], grading: float | None, refine: int | None) -> RingRecipe:
    ratio = 0.0
    if grading is None or np.ndim(cells) == 0:
        inside, outside = (np.sqrt(area(arc_length(c)[1][:-1])) for c in (body, outer))
        ratio = float(outside / inside)
        if ratio <= 1:
            raise InputError("the outer curve of an O-grid is not larger than the body", accepted="a curve round the body")
        grading = ratio if grading is None else grading
    if np.ndim(cells):
        counts = tuple(int(c) for c in np.asarray(cells))
    else:
        # Cells about as long as wide in the mean: log(ratio) / 2 pi layers for each cell round.
        total = float(np.asarray(cells))
        around = np.sqrt(max(total, 1) * 2 * np.pi / np.log(ratio))
        sides = 2 if body.kind == "aerofoil" else 1  # the same number on each: a point is on the nose
        counts = (max(8, sides * round(around / sides)), round(total / around))
    if len(counts) != 2 or counts[0] < 3 or counts[1] < 1:
        raise InputError(f"cells = {cells}", accepted="a number, or two: round (3 or more) and across")
    return RingRecipe(counts, positive(grading), not (body.is_round and outer.is_round), refinement(refine))
