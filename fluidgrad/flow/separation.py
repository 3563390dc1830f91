"""Where a flow leaves a wall and where it comes back to it: zeros of the wall shear along the wall.

The fluid along a wall meets at a separation point (the shear along s turns from positive to negative) and divides at a
reattachment or stagnation point (from negative to positive): which it is does not depend on the direction of s. The place is
that of the zero of the shear, linear between the centres of two faces; second order, and differentiable while the two are the same faces.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from fluidgrad.errors import InputError
from fluidgrad.flow.measures import functional
from fluidgrad.flow.patches import wall_data

if TYPE_CHECKING:
    from fluidgrad.flow.solution import Solution

NOWHERE = "the shear along the wall does not turn that way so often; its plot shows where it does"


@functional("L", undefined=NOWHERE)
def separation(solution: Solution, patch: str, number: ArrayLike = 1, axis: str = "x") -> Array:
    """Where the flow leaves a 2D wall: the place along it at which the wall shear turns from along s to against it.

    Args:
        patch: a wall. On one that moves, this is the zero of the shear; the flow may leave elsewhere.
        number: which, in the order along the wall (piece after piece); negative: from the end, -1 the last.
        axis: of the result: "x", "y", or "s" for the arc length (as in ``Solution.wall``).

    Differentiable in everything; NaN, and outside traced code an error, where there are not so many.
    """
    return _zero_of_shear(solution, patch, number, axis, 1.0)


@functional("L", undefined=NOWHERE)
def reattachment(solution: Solution, patch: str, number: ArrayLike = 1, axis: str = "x") -> Array:
    """Where the flow comes back to a 2D wall: the place along it from which the fluid goes both ways (a front stagnation
    point is one, too). Arguments as of :func:`separation`."""
    return _zero_of_shear(solution, patch, number, axis, -1.0)


def _zero_of_shear(solution: Solution, patch: str, number: ArrayLike, axis: str, sign: float) -> Array:
    if solution.flow.mesh.dim == 3:
        raise InputError("a point of separation in 3D, where it is a line", accepted="a flow in 2D")
    if axis not in ("x", "y", "s"):
        raise InputError(f"a place along {axis!r}", accepted="one of x, y, s")
    w = wall_data(solution.flow, solution.state, patch)
    assert w.s is not None
    a, b = (np.concatenate(rows) for rows in zip(*(_neighbours(*piece) for piece in w.pieces), strict=True))
    before, after = sign * w.friction[a], sign * w.friction[b]
    meets = (before > 0) & (after <= 0)
    share = before / jnp.where(meets, before - after, 1.0)
    if axis == "s":
        half = 0.5 * (w.area[a] + w.area[b])  # not s[b] - s[a]: a closed line begins again
        place = w.s[a] + share * half
    else:
        x = w.x[:, "xy".index(axis)]
        place = x[a] + share * (x[b] - x[a])
    count, number = jnp.cumsum(meets), jnp.asarray(number)
    chosen = meets & (count == jnp.where(number > 0, number, count[-1] + 1 + number))
    return jnp.where(chosen.any(), jnp.sum(jnp.where(chosen, place, 0.0)), jnp.nan)


def _neighbours(start: int, stop: int, closed: bool) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of rows beside each other in a piece."""
    row = np.arange(start, stop)
    return (row, np.roll(row, -1)) if closed else (row[:-1], row[1:])
