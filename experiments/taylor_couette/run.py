"""Taylor-Couette flow: the torque on both walls of an annulus whose inner wall turns, against the exact solution."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import published, table

import fluidgrad as fg
from fluidgrad.mesh.mesh import measure

CASE = published("exact")["taylor_couette"]
R1, R2, TURN = CASE["r1"], CASE["r2"], CASE["w1"]
TORQUE = CASE["torque_per_length_over_mu"]  # viscosity is 1
A, B = -TURN * R1**2 / (R2**2 - R1**2), TURN * R1**2 * R2**2 / (R2**2 - R1**2)


def flow(radial: int, around: int, refine: int = 1) -> fg.Flow:
    mesh = fg.o_grid(fg.circle(center=(0.0, 0.0), radius=R1), R2, cells=(around, radial), grading=1.0, refine=refine)
    return fg.Flow(mesh, viscosity=1.0, body=fg.Wall(rotation=TURN), far=fg.Wall())


def estimate(radial: int, around: int) -> dict[str, float]:
    """The torque's relative error, and the estimate of it over it."""
    s = fg.solve_steady(flow(radial, around), tolerance=1e-13)
    found = fg.error_estimate(lambda s: fg.functionals.moment(s, "body"), s, flow(radial, around, 2))
    return {"across": radial, "error": -found.value / TORQUE - 1, "ratio": found.error / (-TORQUE - found.value)}


def solve(radial: int, around: int) -> dict[str, float]:
    s = fg.solve_steady(flow(radial, around), tolerance=1e-13)
    g = measure(s.flow.mesh)
    x, V, u = (np.asarray(a) for a in (g.x_cell, g.V, s.velocity))
    r = np.linalg.norm(x, axis=1)
    exact = (A + B / r**2)[:, None] * np.stack([-x[:, 1], x[:, 0]], 1)
    inner, outer = (float(fg.functionals.moment(s, wall)) for wall in ("body", "far"))
    return {
        "radial": radial,
        "around": around,
        "inner": -inner / TORQUE - 1,
        "outer": outer / TORQUE - 1,
        "imbalance": (inner + outer) / TORQUE,
        "velocity": float(np.sqrt((V * ((u - exact) ** 2).sum(1)).sum() / (V * (exact**2).sum(1)).sum())),
    }


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[16, 32, 64], help="across the gap; the last is reported")
    parser.add_argument("--around", type=int, default=4, help="cells around for each across")
    parser.add_argument("--estimates", type=int, nargs="+", default=[4, 8, 16], help="cells across where the error is estimated")
    a = parser.parse_args(argv)

    found = [solve(n, a.around * n) for n in a.cells]
    errors = ("inner", "outer", "velocity")
    table(
        ("across", "around", "torque, inner wall", "torque, outer wall", "velocity (L2)", "sum of both torques"),
        [(f"{f['radial']}", f"{f['around']}", *(f"{100 * f[k]:+.5f} %" for k in errors), f"{f['imbalance']:.0e}") for f in found],
    )
    rates = {k: rate_of([f[k] for f in found], a.cells) for k in errors}
    print("order, last two meshes: " + ", ".join(f"{k} {v:.2f}" for k, v in rates.items()) + "\n")
    guesses = [estimate(n, a.around * n) for n in a.estimates]
    table(
        ("across", "torque", "estimated error / true"),
        [(f"{g['across']}", f"{100 * g['error']:+.4f} %", f"{g['ratio']:.3f}") for g in guesses],
    )
    last = found[-1]
    worst = max((last["inner"], last["outer"]), key=abs)
    rate = rates["inner"]
    print(json.dumps({"torque_error": worst, "torque_imbalance": last["imbalance"], "order": rate if np.isfinite(rate) else None}))
    return last


def rate_of(errors: list[float], counts: list[int]) -> float:
    """How fast a known error falls between the last two meshes."""
    if len(errors) < 2:
        return float("nan")
    return float(np.log(abs(errors[-2] / errors[-1])) / np.log(counts[-1] / counts[-2]))


if __name__ == "__main__":
    main()
