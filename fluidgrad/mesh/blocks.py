"""Meshes made of blocks: a graded box, rings round bodies, and layers in the third dimension.

Every generator returns a :class:`~fluidgrad.mesh.mesh.Mesh` whose points are a JAX function of the numbers given, on a
topology that depends on counts and names alone. ``cells`` is the resolution, about the number of cells; ``refine``
multiplies every count and keeps the distribution, so ``refine = 1, 2, 4`` are nested. ``like`` is a mesh made by the
same generator: its counts and distributions are used again, which keeps the topology (and everything compiled for it)
while numbers change, and is needed where numbers are traced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from fluidgrad.errors import InputError
from fluidgrad.iteration import traced
from fluidgrad.mesh.grading import cut_nodes, edges, quads
from fluidgrad.mesh.mesh import Mesh
from fluidgrad.mesh.quality import check_valid
from fluidgrad.mesh.ring import RingRecipe, ring_points, ring_topology
from fluidgrad.mesh.topology import Topology, build_topology
from fluidgrad.shapes.curves import Curve, Numbers, arc_length, circle, number, refuse_open
from fluidgrad.shapes.polygons import area

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
        recipe = BoxRecipe(_box_counts(cells, ends), built, _pair(grading), _box_patches(patches or {}, ends), refinement(refine))
    topology, s = _box_layout(recipe)
    mesh = Mesh(jnp.asarray(lower + (upper - lower) * s), topology, recipe)
    return checked(mesh)


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


def extrude(mesh: Mesh, height: ArrayLike, layers: int, patches: tuple[str, str] = ("front", "back")) -> Mesh:
    """Layers of hexahedra and prisms over a 2D mesh, z from 0 to ``height``.

    Args:
        mesh: quadrilaterals and triangles. Its patches keep their names.
        height, layers: of all layers together [L], and their number.
        patches: the names of the ends at z = 0 and at ``height``; that of a side adds the end to it, as ("walls", "walls").

    Differentiable in ``height`` and in the mesh's points.
    """
    if mesh.dim != 2:
        raise InputError("only a 2D mesh can be extruded", accepted="a mesh of triangles and quadrilaterals")
    if layers < 1:
        raise InputError(f"{layers} layers", accepted="1 or more")
    if (known := not traced(height)) and not np.asarray(height) > 0:
        raise InputError(f"height must be positive, got {np.asarray(height)}")
    xp: Any = np if known and not traced(mesh.points) else jnp  # of NumPy nothing is compiled
    z = xp.asarray(height, float) * np.arange(layers + 1) / layers
    points = xp.concatenate([xp.tile(mesh.points, (layers + 1, 1)), xp.repeat(z, len(mesh.points))[:, None]], 1)
    return Mesh(jnp.asarray(points), _extruded(mesh.topology, layers, float(z[-1]) if known else None, tuple(patches)))


# Box


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


# Rings


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
    if not grading > 0:
        raise InputError(f"grading must be positive, got {grading:g}", accepted="last thickness over first; 1 is uniform")
    return RingRecipe(counts, float(grading), not (body.is_round and outer.is_round), refinement(refine))


# Layers


@lru_cache(maxsize=16)
def _extruded(flat: Topology, layers: int, built: float | None, ends: tuple[str, str]) -> Topology:
    n = len(flat.nominal)
    z = np.linspace(0, layers * np.sqrt(np.ptp(flat.nominal, axis=0).prod() / flat.n_cells) if built is None else built, layers + 1)
    points = np.concatenate([np.tile(flat.nominal, (layers + 1, 1)), np.repeat(z, n)[:, None]], 1)
    lift = n * np.arange(layers)[:, None, None]
    solid = {"triangle": "wedge", "quad": "hexahedron"}
    cells, caps = [], []
    for kind, loops in flat.cells:
        if kind not in solid:
            raise InputError(f"cells of kind {kind!r} cannot be extruded", accepted="triangles and quadrilaterals")
        cells.append((solid[kind], (np.concatenate([loops, loops + n], 1) + lift).reshape(-1, 2 * loops.shape[1])))
        caps.append(np.pad(loops, ((0, 0), (0, 4 - loops.shape[1])), constant_values=-1))
    cap = np.concatenate(caps)
    patches = {}
    for name, (first, last) in flat.patches.items():
        a, b = flat.face_points[first:last].T[:2]
        patches[name] = (np.stack([a, b, b + n, a + n], 1) + lift).reshape(-1, 4)
    for name, faces in ((ends[0], cap), (ends[1], np.where(cap < 0, cap, cap + n * layers))):
        patches[name] = np.concatenate([patches[name], faces]) if name in patches else faces
    return build_topology(points, cells, patches)


# Shared by the generators


def _pair(grading: float | tuple[float, float]) -> tuple[float, float]:
    along_x, along_y = np.broadcast_to(grading, 2)
    if min(pair := (float(along_x), float(along_y))) < 0:
        raise InputError(f"grading must not be negative, got {grading}", accepted="0 (uniform) or more, e.g. 1.5")
    return pair


def refinement(refine: int | None) -> int:
    refine = 1 if refine is None else refine
    if int(refine) != refine or refine < 1:
        raise InputError(f"refine = {refine}", accepted="1, 2, 3, ...")
    return int(refine)


def reuse(like: Mesh, kind: type, refine: int | None) -> Any:
    if not isinstance(like.recipe, kind):
        raise InputError("like is a mesh of another generator", accepted="a mesh made by this one")
    return like.recipe if refine is None else replace(like.recipe, refine=refinement(refine))


def needs_like(generator: str) -> InputError:
    return InputError(
        f"the number of cells of a {generator} cannot follow from traced numbers",
        accepted=f"make one mesh outside jax.grad and jax.jit, and give it as {generator}(..., like=mesh)",
    )


def checked(mesh: Mesh) -> Mesh:
    """The mesh, refused when it is tangled, which only shows where its points are not traced."""
    if not traced(mesh.points):
        check_valid(mesh.points, mesh.topology)
    return mesh
