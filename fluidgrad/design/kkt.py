"""How far a point is from a solution: the KKT residual, the multipliers, the violation.

With the Lagrangian L = f + sum_i y_i r_i over the scaled constraints r (r = 0, or r <= 0), the KKT residual is the largest
of |z - clip(z - grad L)| and, for inequalities, of min(y_i, -r_i). The multipliers y, not negative for inequalities, are
those of least squares over the components of grad L that no bound holds.
"""

from __future__ import annotations

import numpy as np
import scipy.optimize
from jaxtyping import Float

from fluidgrad.design.optimizers import Point, Vector

NEAR = 1e-3  # a constraint or bound this near may have a multiplier


def violation_of(point: Point) -> float:
    """The largest of a point's scaled constraints."""
    return float(np.max(np.concatenate([np.abs(point.h), point.c]), initial=0.0)) + 0.0  # no -0


def kkt(point: Point, lower: Vector, upper: Vector) -> tuple[float, Float[np.ndarray, " constraints"]]:
    """The KKT residual of a point and its multipliers, equalities first; see the module."""
    r, r_z = np.concatenate([point.h, point.c]), np.concatenate([point.h_z, point.c_z])
    equal = np.arange(len(r)) < len(point.h)
    may = equal | (r >= -NEAR)
    z, y = point.z, np.zeros(len(r))

    def residual(y: np.ndarray) -> tuple[float, np.ndarray]:
        slope = point.g + y @ r_z
        by_z = np.abs(z - np.clip(z - slope, lower, upper))
        by_r = np.minimum(y, np.maximum(-r, 0.0))[~equal]
        held = (z - lower <= NEAR) & (z - slope <= lower) | (upper - z <= NEAR) & (z - slope >= upper)
        return float(np.max(np.concatenate([by_z, by_r]), initial=0.0)), held

    # Nonnegative least squares, an equality as two inequalities. Which components count depends on the multipliers, and
    # these on the components: repeat until they agree.
    best = (residual(y)[0], y)
    sides = [(k, sign) for k in np.flatnonzero(may) for sign in ((1.0, -1.0) if equal[k] else (1.0,))]
    columns = np.array([sign * r_z[k] for k, sign in sides]).reshape(len(sides), z.size)
    for _ in range(10 if sides else 0):
        free = ~residual(y)[1]
        if not free.any():
            break
        parts, _ = scipy.optimize.nnls(columns[:, free].T, -point.g[free], maxiter=100 * len(sides))
        after = np.zeros(len(r))
        for (k, sign), part in zip(sides, parts, strict=True):
            after[k] += sign * part
        if np.array_equal(after, y):
            break
        y = after
        best = min(best, (residual(y)[0], y), key=lambda b: b[0])
    return best
