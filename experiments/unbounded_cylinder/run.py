"""A cylinder in an unbounded stream at Re 20 and 40: drag and length of the wake."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import percent, published, table

import fluidgrad as fg
from fluidgrad.mesh.mesh import measure

FIGURES = published("unbounded_cylinder")["stream_function"]


def solve(mesh: fg.Mesh, reynolds: float) -> fg.Solution:
    """U = D = 1."""
    far = fg.FarField(velocity=(1.0, 0.0))
    return fg.solve_steady(fg.Flow(mesh, viscosity=1.0 / reynolds, body=fg.Wall(), far=far, reference=(1.0, 1.0)))


def wake_length(s: fg.Solution) -> float:
    """From the rear of the cylinder to where u changes sign on the axis.

    The rays on either side of the axis are half a cell off it. u is even in y, so their mean is u on the axis but for
    b y^2, and the next two rays, three times as far off, give b.
    """
    x, u = np.asarray(measure(s.flow.mesh).x_cell), np.asarray(s.velocity)[:, 0]
    angle = np.round(np.abs(np.arctan2(x[:, 1], x[:, 0])), 9)
    near, next_ = np.unique(angle)[:2]

    def ray(at: float) -> tuple[np.ndarray, np.ndarray]:
        r = np.linalg.norm(x, axis=1)
        both = [np.flatnonzero((angle == at) & (side * x[:, 1] > 0)) for side in (1, -1)]
        up, down = (i[np.argsort(r[i])] for i in both)
        return r[up], (u[up] + u[down]) / 2

    (r, u_near), (_, u_next) = ray(near), ray(next_)
    weight = np.sin(near) ** 2 / (np.sin(next_) ** 2 - np.sin(near) ** 2)  # rings are circles: y^2 goes as sin^2
    # At equal r the points of the two rays also differ in x; u on the axis at r is the even extrapolation in the angle.
    axis = u_near + (u_near - u_next) * weight
    zeros = CubicSpline(np.r_[0.5, r], np.r_[0.0, axis]).roots(extrapolate=False)
    beyond = zeros[zeros > 0.51]
    return float(beyond[0]) - 0.5 if len(beyond) else float("nan")


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--around", type=int, nargs="+", default=[128, 192], help="cells around; the last are reported")
    parser.add_argument("--radius", type=float, nargs="+", default=[200.0, 100.0], help="far boundary, in D; the first is reported")
    parser.add_argument("--reynolds", type=int, nargs="+", default=[20, 40])
    a = parser.parse_args(argv)

    rows, result = [], {}
    cases = [(a.around[0], R) for R in a.radius[1:]] + [(around, a.radius[0]) for around in a.around]
    for around, radius in cases:
        # Layers grow by a constant factor, the same on every mesh: the cells near the body do not change with the radius.
        across = round(0.14 * around * np.log(2 * radius))
        mesh = fg.o_grid(fg.circle(center=(0.0, 0.0), radius=0.5), radius, cells=(around, across), grading=2 * radius)
        for reynolds in a.reynolds:
            s = solve(mesh, reynolds)
            cd, wake, known = float(fg.functionals.drag_coefficient(s, "body")), wake_length(s), FIGURES[str(reynolds)]
            result |= {f"re{reynolds}_cd": cd, f"re{reynolds}_wake": wake}
            errors = percent(cd, known["cd"]), percent(wake, known["wake"])
            rows.append((f"{radius:g}", f"{around} x {across}", f"{reynolds}", f"{cd:.4f} ({errors[0]})", f"{wake:.4f} ({errors[1]})"))
    table(("radius / D", "cells", "Re", "Cd", "wake / D"), rows)
    result = {k: v if np.isfinite(v) else None for k, v in result.items()}
    print(json.dumps({k: result.get(k) for k in ("re20_cd", "re40_cd", "re20_wake", "re40_wake")}))
    return result


if __name__ == "__main__":
    main()
