"""The channel: blocks between straight walls, and round each body a ring inside a rectangular hole.

Lines along x and y cut the channel into blocks: its walls, and the sides of a box round each body, which move and scale
with it. The cells of a box are left out, and the hole is filled by a ring whose outer points are the nodes around the
hole. Sizes shrink towards the bodies, their wakes' first part and the channel's walls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from fluidgrad.blocks.grading import Axis, Near, counts_for, edges, place, quads
from fluidgrad.blocks.recipes import checked, needs_like, reuse
from fluidgrad.blocks.ring import Match, boxes, check_inside, join, joined, ring
from fluidgrad.errors import InputError
from fluidgrad.iteration import traced
from fluidgrad.mesh.mesh import Mesh, refinement
from fluidgrad.mesh.topology import Topology, build_topology
from fluidgrad.shapes.curves import Curve, arc_length, number, refuse_open

# Wanted sizes in widths of the body, before the scale that makes the number of cells. Found by trial for the least error
# of drag per cell in the Schaefer-Turek channel at Re 20: many thin rings, and small cells in the gaps to the walls.
SIDE, CORNER = 0.09, 0.115  # cells along the middle of a box's side and at its corners
FIRST = 1 / 80  # first layer on the body
GROWTH, WAKE_GROWTH, RING_GROWTH = 0.07, 0.1, 0.04  # of the size per length away from where it is smallest
LARGEST = 0.5  # of the height of the channel: no cell longer
EMPTY = 0.1  # the same without a body, where nothing else makes cells short
WALL = 0.3  # cells at the walls, of those at a box's corners
SIDES = {"inlet": "inlet", "outlet": "outlet", "bottom": "walls", "top": "walls"}  # and their patches


@dataclass(frozen=True)
class Line:
    """A line at the mean of ``center + ratio * size`` over bodies; without bodies an end of the channel."""

    parts: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Hole:
    """The ring round a body: the lines of its box, and how the body's points match the nodes round the box.

    Attributes:
        name: of the patch.
        box: first and last line along x, first and last along y.
        match: which ``t`` of the body is joined to which place round the box.
        layers: sizes across the ring, and their number.
    """

    name: str
    box: tuple[int, int, int, int]
    match: Match
    layers: Axis
    count: int
    bend: bool


@dataclass(frozen=True)
class ChannelRecipe:
    """All that is static about a channel: sizes, lines, counts, holes, and the patches of its sides."""

    axes: tuple[Axis, Axis]
    lines: tuple[tuple[Line, ...], tuple[Line, ...]]
    counts: tuple[tuple[int, ...], tuple[int, ...]]
    holes: tuple[Hole, ...]
    refine: int
    patches: tuple[tuple[str, str], ...] = tuple(SIDES.items())


def channel(
    length: ArrayLike,
    height: ArrayLike,
    body: Curve | Sequence[Curve] | Mapping[str, Curve] | None = None,
    cells: int = 5000,
    refine: int | None = None,
    like: Mesh | None = None,
    patches: Mapping[str, str] | None = None,
) -> Mesh:
    """A channel from (0, 0) to (length, height), with or without bodies, in quadrilaterals.

    Patches: ``inlet`` (left, from bottom to top), ``outlet``, ``walls`` (bottom, then top) and ``body``, unless named
    otherwise; several bodies are ``body_1``, ``body_2``, ... or have the names they are given by.

    Args:
        length, height: [L].
        body: a curve, several, or several by name.
        cells: about how many cells, before refinement.
        refine: multiplies all counts; the points of a mesh are among those of its refinements.
        like: use the counts, distributions and patches of this mesh. Needed where ``length``, ``height`` or a body's size or
            place are traced, and wherever they vary in a design: without it their change may change the counts. A Fourier
            curve's modes and a curve's offsets may be traced, and never change the counts.
        patches: other names for the sides inlet, outlet, bottom and top; several may share one.

    Raises:
        InputError: a body that touches or leaves the channel, or another body; too few cells; a tangled mesh.

    Differentiable in every number.
    """
    length, height = number(length), number(height)
    sides = _sides(patches or {})
    bodies = _named(body, sides)
    curves = tuple(bodies.values())
    if like is not None:
        recipe = reuse(like, ChannelRecipe, refine)
        if tuple(h.name for h in recipe.holes) != tuple(bodies):
            raise InputError("like is a channel with other bodies", accepted="a mesh with as many bodies, of the same names")
    else:
        nominal = {name: _nominal(curve) for name, curve in bodies.items()}
        if traced(length, height) or not all(n.is_concrete for n in nominal.values()):
            raise needs_like("channel")
        with jax.ensure_compile_time_eval():
            recipe = replace(_recipe(float(length), float(height), nominal, cells, refine), patches=sides)
    if not traced(length, height):
        for name, curve in bodies.items():
            if curve.is_concrete:
                check_inside(name, arc_length(curve)[1], float(length), float(height))
    return checked(Mesh(_points(recipe, length, height, curves), _topology(recipe), recipe))


def _sides(patches: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    if unknown := set(patches) - set(SIDES):
        raise InputError(f"a channel has no side {min(unknown)!r}", accepted=f"it has {', '.join(SIDES)}")
    return tuple((side, patches.get(side, name)) for side, name in SIDES.items())


def _named(body: Curve | Sequence[Curve] | Mapping[str, Curve] | None, sides: tuple[tuple[str, str], ...]) -> dict[str, Curve]:
    if body is None:
        return {}
    if isinstance(body, Curve):
        body = {"body": body}
    if not isinstance(body, Mapping):
        body = {f"body_{i}": curve for i, curve in enumerate(body, 1)}
    if taken := set(body) & {name for _, name in sides}:
        raise InputError(f"a body cannot be called {sorted(taken)[0]!r}", accepted="a name no other patch has")
    for name, curve in body.items():
        refuse_open(name, curve)
    return dict(body)


def _nominal(curve: Curve) -> Curve:
    """The curve that counts follow from, without its modes and offsets: they never change them."""
    zeros = {k: np.zeros(shape) for k, shape in (("modes", (1, 2)), ("offsets", 4)) if k in curve.numbers}
    return replace(curve, numbers=curve.numbers | zeros)


# What is static: lines, sizes, counts


def _recipe(length: float, height: float, bodies: dict[str, Curve], cells: int, refine: int | None) -> ChannelRecipe:
    if not (np.isfinite([length, height]).all() and length > 0 and height > 0):
        raise InputError(f"a channel {length:g} long and {height:g} high", accepted="positive numbers")
    if not (np.ndim(cells) == 0 and cells >= 4):
        raise InputError(f"cells = {cells}", accepted="the number of cells of the whole channel")
    shapes = {name: arc_length(curve)[1][:-1] for name, curve in bodies.items()}
    around = boxes(shapes, length, height)
    scaled = [(np.asarray(c.center), np.asarray(c.size)) for c in bodies.values()]
    width = np.array([np.sqrt(np.ptp(s, axis=0).prod()) for s in shapes.values()])
    ends, lines, where = (length, height), [], []
    for axis in (0, 1):
        table = [[(i, b[side, axis]) for i, b in enumerate(around)] for side in (0, 1)]
        groups = _merge(sorted(sum(table, []), key=lambda p: p[1]), 0.15 * width.min(initial=np.inf))
        ratio = lambda i, x, axis=axis: float((x - scaled[i][0][axis]) / scaled[i][1][axis])  # noqa: E731
        lines.append((Line(), *[Line(tuple((i, ratio(i, x)) for i, x in g)) for g in groups], Line()))
        where.append((0.0, *[float(np.mean([x for _, x in g])) for g in groups], ends[axis]))
    boxes_at = [tuple(int(np.argmin(np.abs(np.array(where[a]) - b[side, a]))) for a in (0, 1) for side in (0, 1)) for b in around]
    axes = _axis(0, where, boxes_at, width, height), _axis(1, where, boxes_at, width, height)
    holes = [_hole(name, curve, box, where, axes, w) for (name, curve), box, w in zip(bodies.items(), boxes_at, width, strict=True)]

    def counted(scale: float) -> tuple[tuple[tuple, list[Hole]], int]:
        counts = tuple(a.counts(scale, least={0: 4, 1: 2}.get(len(bodies), 1)) for a in axes)
        filled = [replace(h, count=h.layers.counts(scale, least=3)[0]) for h in holes]
        total = sum(counts[0]) * sum(counts[1])
        for h in filled:
            nx, ny = sum(counts[0][h.box[0] : h.box[1]]), sum(counts[1][h.box[2] : h.box[3]])
            total += 2 * (nx + ny) * h.count - nx * ny
        return (counts, filled), total

    counts, holes = counts_for(cells, counted, "channel", "{} cells or more")
    matched = []
    for h, curve in zip(holes, bodies.values(), strict=True):
        i0, i1, j0, j1 = h.box
        (x0, x1), (y0, y1) = (where[0][i0], where[0][i1]), (where[1][j0], where[1][j1])
        box = np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]])
        matched.append(replace(h, match=join(curve, box, [sum(counts[0][i0:i1]), sum(counts[1][j0:j1])])))
    return ChannelRecipe(axes, tuple(lines), counts, tuple(matched), refinement(refine))


def _merge(positions: list[tuple[int, float]], near: float) -> list[list[tuple[int, float]]]:
    """Groups of lines closer than ``near``, never two of one body."""
    groups: list[list[tuple[int, float]]] = []
    for body, x in positions:
        if groups and x - groups[-1][0][1] < near and body not in [b for b, _ in groups[-1]]:
            groups[-1].append((body, x))
        else:
            groups.append([(body, x)])
    return groups


def _axis(axis: int, where: list[tuple], boxes: list[tuple], width: np.ndarray, height: float) -> Axis:
    lines = where[axis]
    unit = width.min() if len(width) else height / 2
    sizes = []
    for box, w in zip(boxes, width, strict=True):
        sizes.append(Near(lines[box[2 * axis]], lines[box[2 * axis + 1]], SIDE * w, CORNER * w, GROWTH, None if axis else WAKE_GROWTH))
    if axis:
        wall = WALL * CORNER * unit
        sizes += [Near(0.0, 0.0, wall, wall, GROWTH), Near(height, height, wall, wall, GROWTH)]
    return Axis(lines, tuple(sizes), (LARGEST if len(width) else EMPTY) * height)


def _hole(name: str, curve: Curve, box: tuple, where: list[tuple], axes: tuple[Axis, Axis], width: float) -> Hole:
    shape = arc_length(curve)[1]
    sides = np.array([[where[0][box[0]], where[1][box[2]]], [where[0][box[1]], where[1][box[3]]]])
    margin = float(np.mean(np.stack([shape.min(0) - sides[0], sides[1] - shape.max(0)])))
    outer = np.mean([axes[0].size(sides[:, 0]), axes[1].size(sides[:, 1])])
    first = FIRST * width
    layers = Axis((0.0, margin), (Near(0.0, 0.0, first, first, RING_GROWTH),), float(outer))
    return Hole(name, box, (), layers, 0, not curve.is_round)


# What is made from the numbers


@partial(jax.jit, static_argnums=0)
def _points(recipe: ChannelRecipe, length: Array, height: Array, bodies: tuple[Curve, ...]) -> Float[Array, "points 2"]:
    nodes = []
    for axis, end in ((0, length), (1, height)):
        lines: list[Array] = [jnp.zeros(())]
        for line in recipe.lines[axis][1:-1]:
            lines.append(jnp.mean(jnp.stack([bodies[b].center[axis] + r * bodies[b].size[axis] for b, r in line.parts])))
        lines.append(jnp.asarray(end))
        nodes.append(place(lines, recipe.axes[axis].nodes([c * recipe.refine for c in recipe.counts[axis]])))
    grid = jnp.stack(jnp.meshgrid(*nodes, indexing="ij"), -1).reshape(-1, 2)
    kept, around = _layout(recipe)
    blocks = [grid[kept]]
    for hole, body, loop in zip(recipe.holes, bodies, around, strict=True):
        (eta,) = hole.layers.nodes([hole.count * recipe.refine])
        inner = body.at(joined(hole.match, len(loop), body.kind != "polygon"))
        rays = ring(inner, grid[loop], eta, hole.bend, recipe.refine)
        blocks.append(rays[:-1].reshape(-1, 2))
    return jnp.concatenate(blocks)


def _spans(recipe: ChannelRecipe, hole: Hole) -> tuple[slice, slice]:
    """The cells along x and along y that a hole takes."""
    first = [np.concatenate([[0], np.cumsum(c)]) * recipe.refine for c in recipe.counts]
    i0, i1, j0, j1 = hole.box
    return slice(int(first[0][i0]), int(first[0][i1])), slice(int(first[1][j0]), int(first[1][j1]))


@lru_cache(maxsize=16)
def _layout(recipe: ChannelRecipe) -> tuple[Int[np.ndarray, " kept"], list[Int[np.ndarray, " around"]]]:
    """The points of the grid that are not inside a hole, and for each hole those round it, counter-clockwise from the
    lower left."""
    shape = tuple(sum(c) * recipe.refine + 1 for c in recipe.counts)
    index = np.arange(shape[0] * shape[1]).reshape(shape)
    kept = np.ones(shape, bool)
    around = []
    for hole in recipe.holes:
        x, y = _spans(recipe, hole)
        kept[x.start + 1 : x.stop, y.start + 1 : y.stop] = False
        sides = index[x, y.start], index[x.stop, y], index[x.stop : x.start : -1, y.stop], index[x.start, y.stop : y.start : -1]
        around.append(np.concatenate(sides))
    return index[kept], around


@lru_cache(maxsize=16)
def _topology(recipe: ChannelRecipe) -> Topology:
    kept, around = _layout(recipe)
    shape = tuple(sum(c) * recipe.refine + 1 for c in recipe.counts)
    index = np.full(shape, -1)
    index.flat[kept] = np.arange(len(kept))
    outside = np.ones((shape[0] - 1, shape[1] - 1), bool)
    nodes = [place(a.lines, a.nodes([c * recipe.refine for c in n]), np) for a, n in zip(recipe.axes, recipe.counts, strict=True)]
    grid = np.stack(np.meshgrid(*nodes, indexing="ij"), -1).reshape(-1, 2)
    lines = {"inlet": index[0], "outlet": index[-1], "bottom": index[:, 0], "top": index[:, -1]}
    patches: dict[str, np.ndarray] = {}
    for side, name in recipe.patches:
        patches[name] = np.concatenate([*([patches[name]] if name in patches else []), edges(lines[side])])
    rings, points = [], [grid[kept]]
    for hole, loop in zip(recipe.holes, around, strict=True):
        outside[_spans(recipe, hole)] = False
        layers = hole.count * recipe.refine
        own = sum(map(len, points)) + np.arange(len(loop) * layers).reshape(layers, -1)
        rays = np.concatenate([own, index.flat[loop][None]])
        rays = np.concatenate([rays, rays[:, :1]], 1)
        rings.append(quads(rays))
        patches[hole.name] = edges(rays[0])
        # Near enough for orderings: the hole's own shape, shrunk.
        middle, shrunk = grid[loop].mean(0), np.linspace(0.4, 1, layers + 1)[:-1, None, None]
        points.append((middle + shrunk * (grid[loop] - middle)).reshape(-1, 2))
    cells = np.concatenate([quads(index)[outside.ravel()], *rings])
    return build_topology(np.concatenate(points), [("quad", cells)], patches)
