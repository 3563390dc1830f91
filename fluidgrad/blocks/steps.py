"""The channel with a backward-facing step: two blocks, small cells at the corner from which the flow separates.

Lines along x and y through the corner and the walls cut a rectangle into four blocks; the one inside the step is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from fluidgrad.blocks.grading import Axis, Near, counts_for, edges, place, quads
from fluidgrad.blocks.recipes import checked, needs_like, reuse
from fluidgrad.errors import InputError
from fluidgrad.iteration import traced
from fluidgrad.mesh.mesh import Mesh, refinement
from fluidgrad.mesh.topology import Topology, build_topology
from fluidgrad.shapes.curves import number

# Sizes as shares of the smaller height, before the scale that makes the number of cells: at the corner and the walls,
# their growth per length away from it, along the channel and across it, and the largest.
CORNER, WALL = 0.05, 0.08
GROWTH = (0.06, 0.15)
LARGEST = (0.5, 0.15)


@dataclass(frozen=True)
class StepRecipe:
    """Sizes along x and y, and counts: before the step and after it, below its edge and above."""

    axes: tuple[Axis, Axis]
    counts: tuple[tuple[int, ...], tuple[int, ...]]
    refine: int


def step(
    height: ArrayLike,
    step_height: ArrayLike,
    before: ArrayLike,
    after: ArrayLike,
    cells: int = 4000,
    refine: int | None = None,
    like: Mesh | None = None,
) -> Mesh:
    """A channel that widens at once, at a backward-facing step, in quadrilaterals. Its foot is at (0, 0).

    Patches: ``inlet`` (left, from the step's edge up), ``outlet`` (right, from the floor up) and ``walls``: along the flow
    before the step, down it and along the floor, then the top.

    Args:
        height: of the channel before the step [L].
        step_height: how far the floor falls [L].
        before, after: lengths of the channel on the two sides of the step [L].
        cells: about how many, before refinement.
        refine, like: as for :func:`box`.

    Raises:
        InputError: lengths that are not positive; too few cells.

    Differentiable in every length.
    """
    names = ("height", "step_height", "before", "after")
    lengths = dict(zip(names, map(number, (height, step_height, before, after)), strict=True))
    for name, value in lengths.items():
        if np.ndim(value) or not (traced(value) or (np.isfinite(value) and np.asarray(value) > 0)):
            raise InputError(f"{name} of a step is {value}", accepted="a positive number")
    if like is not None:
        recipe = reuse(like, StepRecipe, refine)
    elif traced(*lengths.values()):
        raise needs_like("step")
    else:
        recipe = _recipe([float(x) for x in lengths.values()], cells, refine)
    return checked(Mesh(_points(recipe, *lengths.values()), _topology(recipe), recipe))


def _recipe(lengths: list[float], cells: int, refine: int | None) -> StepRecipe:
    height, step_height, before, after = lengths
    small, top = min(height, step_height), height + step_height
    corner, wall = CORNER * small, WALL * small
    axes = (
        Axis((-before, 0.0, after), (Near(0.0, 0.0, corner, corner, GROWTH[0]),), LARGEST[0] * small),
        Axis(
            (0.0, step_height, top),
            (Near(step_height, step_height, corner, corner, GROWTH[1]), *(Near(y, y, wall, wall, GROWTH[1]) for y in (0.0, top))),
            LARGEST[1] * small,
        ),
    )

    def counted(scale: float) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], int]:
        (a, b), (below, above) = counts = (axes[0].counts(scale), axes[1].counts(scale))
        return counts, (a + b) * above + b * below

    return StepRecipe(axes, counts_for(cells, counted, "step", "one number, {} or more"), refinement(refine))


def _nodes(recipe: StepRecipe, axis: int) -> list[Float[np.ndarray, " nodes"]]:
    return recipe.axes[axis].nodes([c * recipe.refine for c in recipe.counts[axis]])


@partial(jax.jit, static_argnums=0)
def _points(recipe: StepRecipe, height: Array, step_height: Array, before: Array, after: Array) -> Float[Array, "points 2"]:
    x = place([-before, jnp.zeros(()), after], _nodes(recipe, 0))
    y = place([jnp.zeros(()), step_height, step_height + height], _nodes(recipe, 1))
    return jnp.stack(jnp.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)[_kept(recipe)]


@lru_cache(maxsize=16)
def _kept(recipe: StepRecipe) -> Int[np.ndarray, " kept"]:
    """The points of the grid that are not inside the step."""
    (a, b), (below, above) = (np.array(c) * recipe.refine for c in recipe.counts)
    kept = np.ones((a + b + 1, below + above + 1), bool)
    kept[:a, :below] = False
    return np.flatnonzero(kept)


@lru_cache(maxsize=16)
def _topology(recipe: StepRecipe) -> Topology:
    (a, b), (below, above) = (np.array(c) * recipe.refine for c in recipe.counts)
    kept = _kept(recipe)
    index = np.full((a + b + 1, below + above + 1), -1)
    index.flat[kept] = np.arange(len(kept))
    x, y = (place(axis.lines, _nodes(recipe, i), np) for i, axis in enumerate(recipe.axes))
    nominal = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)[kept]
    floor = np.concatenate([index[: a + 1, below], index[a, :below][::-1], index[a + 1 :, 0]])
    patches = {
        "inlet": edges(index[0, below:]),
        "outlet": edges(index[-1]),
        "walls": np.concatenate([edges(floor), edges(index[:, -1])]),
    }
    cells = np.concatenate([quads(index[: a + 1, below:]), quads(index[a:])])
    return build_topology(nominal, [("quad", cells)], patches)
