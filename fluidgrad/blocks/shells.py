"""Shells: hexahedra between an ellipsoid and a sphere, or the part of them that planes of symmetry leave.

Six blocks, each over a side of a cube. A cube's side is ruled by planes through the centre at equal angles (the equiangular
cubed sphere of Ronchi, Iacono & Paolucci 1996), so that cells on a sphere are nearly equal, and layers of cells lie between
the two surfaces along straight rays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float, Int

from fluidgrad.blocks.grading import geometric_nodes, positive
from fluidgrad.blocks.layers import stacked
from fluidgrad.blocks.recipes import checked, needs_like, reuse
from fluidgrad.errors import InputError
from fluidgrad.iteration import traced
from fluidgrad.mesh.mesh import Mesh, refinement
from fluidgrad.mesh.topology import Topology, build_topology
from fluidgrad.shapes.curves import Numbers, number

AXES = "xyz"


@dataclass(frozen=True)
class ShellRecipe:
    """Cells along an edge of the cube and across, radii of the body and of the far sphere when built, the clustering across, and
    the planes of symmetry: axis and name."""

    counts: tuple[int, int]
    built: tuple[float, ...]
    grading: float
    planes: tuple[tuple[int, str], ...]
    refine: int


def shell(
    radii: Numbers = 0.5,
    outer: ArrayLike = 25.0,
    center: Numbers = (0.0, 0.0, 0.0),
    cells: int | tuple[int, int] = 50_000,
    grading: float | None = None,
    planes: Mapping[str, str] | None = None,
    refine: int | None = None,
    like: Mesh | None = None,
) -> Mesh:
    """Layers of hexahedra from a sphere or an ellipsoid to a far sphere, in 3D; patches ``body`` and ``far``.

    Args:
        radii: of the body: one, or along x, y and z [L].
        outer: the radius of the far sphere [L].
        center: of both ``(3,)`` [L].
        cells: about how many, or their number along a quarter of a great circle (even where there are planes) and across.
        grading: thickness of the last layer over that of the first, as for :func:`o_grid`: by default cells keep their shape.
        planes: of symmetry through the center, by the axis normal to them: the name of the patch. The mesh is the part of the shell
            where the coordinate is larger than the center's: ``{"y": "middle", "z": "side"}`` leaves a quarter.
        refine, like: as for :func:`box`.

    Raises:
        InputError: a far sphere that is not larger than the body; too few cells; a plane that is none of x, y, z.

    Differentiable in ``radii``, ``outer`` and ``center``.
    """
    radii, outer, center = number(radii), number(outer), number(center)
    accepted = {"radii": "one number, or three: along x, y and z", "outer": "one number", "center": "three numbers"}
    for name, value, shapes in (("radii", radii, ((), (3,))), ("outer", outer, ((),)), ("center", center, ((3,),))):
        if value.shape not in shapes:
            raise InputError(f"{name} of shape {value.shape}", accepted=accepted[name])
    known = not traced(radii, outer)
    if known and not (np.asarray(radii).min() > 0 and np.asarray(outer) > np.asarray(radii).max()):
        raise InputError(f"a far sphere of radius {outer} round a body of {radii}", accepted="0 < radii < outer")
    if like is not None:
        recipe = reuse(like, ShellRecipe, refine)
    elif not known and (np.ndim(cells) == 0 or grading is None):
        raise needs_like("shell")
    else:
        built = tuple(map(float, (*np.broadcast_to(radii, 3), outer))) if known else (1.0, 1.0, 1.0, 10.0)
        recipe = _recipe(cells, built, grading, planes or {}, refine)
    points = _rays(recipe, jnp.asarray(radii), outer)
    return checked(Mesh(jnp.asarray(center) + points, _topology(recipe), recipe))


def _recipe(
    cells: int | tuple[int, int], built: tuple[float, ...], grading: float | None, planes: Mapping[str, str], refine: int | None
) -> ShellRecipe:
    if unknown := sorted(set(planes) - set(AXES)):
        raise InputError(f"a plane of symmetry normal to {unknown[0]!r}", accepted="x, y and z")
    if taken := {"body", "far"} & set(planes.values()):
        raise InputError(f"a plane cannot be called {min(taken)!r}", accepted="a name no other patch has")
    even = 2 if planes else 1
    ratio = built[3] / np.prod(built[:3]) ** (1 / 3)
    if np.ndim(cells):
        counts = tuple(int(c) for c in np.asarray(cells))
    else:  # cells about as long as wide in the mean: 2 log(ratio) / pi layers for each cell along a quarter of a circle
        share = 6 / 2 ** len(planes)
        total, thick = max(float(np.asarray(cells)), 1.0), 2 * np.log(ratio) / np.pi
        along = even * max(1, round((total / share / thick) ** (1 / 3) / even))
        counts = (along, max(1, round(total / (share * along**2))))
    if len(counts) != 2 or min(counts) < 1 or counts[0] % even:
        raise InputError(
            f"cells = {cells}", accepted="a number, or two: along a quarter of a circle (an even number where there are planes) and across"
        )
    grading = positive(float(ratio) if grading is None else grading)
    at = tuple(sorted((AXES.index(axis), name) for axis, name in planes.items()))
    return ShellRecipe((counts[0], counts[1]), built, grading, at, refinement(refine))


def _rays(recipe: ShellRecipe, radii: Any, outer: Any) -> Any:
    """Points along rays from the body to the far sphere, about the origin."""
    eta, (directions, _, _) = geometric_nodes(recipe.grading, recipe.counts[1] * recipe.refine), _cube(recipe)
    inner = radii * directions
    return (inner + eta[:, None, None] * (outer * directions - inner)).reshape(-1, 3)


@lru_cache(maxsize=16)
def _cube(recipe: ShellRecipe) -> tuple[Float[np.ndarray, "n 3"], Int[np.ndarray, "quads 4"], dict[str, Int[np.ndarray, "edges 2"]]]:
    """The cube's surface as seen from its centre: unit directions of its points, its quadrilaterals, counter-clockwise seen from
    outside, and the edges of them that lie in planes of symmetry."""
    n = recipe.counts[0] * recipe.refine
    u = 2 * np.arange(n + 1) - n  # places along an edge, as integers
    a, b = np.meshgrid(u, u, indexing="ij")
    sides = []
    for axis in range(3):
        for end in (-n, n):
            place = np.empty((n + 1, n + 1, 3), int)
            place[..., axis], place[..., (axis + 1) % 3], place[..., (axis + 2) % 3] = end, a, b
            loop = np.stack([place[:-1, :-1], place[1:, :-1], place[1:, 1:], place[:-1, 1:]], 2).reshape(-1, 4, 3)
            sides.append(loop if end > 0 else loop[:, ::-1])
    loops = np.concatenate(sides)
    for axis, _ in recipe.planes:
        loops = loops[loops[:, :, axis].sum(1) > 0]
    places, quads = np.unique(loops.reshape(-1, 3), axis=0, return_inverse=True)
    quads = quads.reshape(-1, 4)
    on_cube = np.tan(np.pi / 4 * places / n)
    on_cube[places == 0] = 0.0
    edges = np.stack([quads, np.roll(quads, -1, 1)], -1).reshape(-1, 2)
    cut = {name: edges[(places[edges][:, :, axis] == 0).all(1)] for axis, name in recipe.planes}
    return on_cube / np.linalg.norm(on_cube, axis=1, keepdims=True), quads, cut


@lru_cache(maxsize=16)
def _topology(recipe: ShellRecipe) -> Topology:
    directions, quads, cut = _cube(recipe)
    cells, patches = stacked(len(directions), [("quad", quads)], cut, recipe.counts[1] * recipe.refine, ("body", "far"))
    return build_topology(_rays(recipe, np.array(recipe.built[:3]), recipe.built[3]), cells, patches)
