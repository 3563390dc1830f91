"""Schaefer & Turek's benchmark 3D-1Z: a cylinder across a square duct at Re 20. Accuracy and order of drag and lift."""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import extrapolate, order, percent, published, table

import fluidgrad as fg

MEAN, HEIGHT, DIAMETER = 0.2, 0.41, 0.1
PUBLISHED = published("dfg_3d1")


def flow(cells: int, layers: int, refine: int = 1, grading: float = 0.6) -> fg.Flow:
    """The half between a wall and the middle, which is a plane of symmetry."""
    body = fg.circle(center=(0.5, 0.2), radius=DIAMETER / 2)
    flat = fg.channel(length=2.5, height=HEIGHT, body=body, cells=cells, refine=refine)
    mesh = fg.extrude(flat, HEIGHT / 2, layers * refine, ("walls", "middle"), (grading, 0.0))
    return fg.Flow(
        mesh, viscosity=1e-3, inlet=fg.Inflow(fg.parabola(mesh, "inlet", MEAN, mirrors=["middle"])), outlet=fg.Outflow(),
        walls=fg.Wall(), body=fg.Wall(), middle=fg.Symmetry(), reference=(MEAN, DIAMETER, DIAMETER * HEIGHT / 2),
    )  # fmt: skip


def measure(cells: int, layers: int, refine: int) -> dict[str, float]:
    case, f, begun = flow(cells, layers, refine), fg.functionals, time.perf_counter()
    s = fg.solve_steady(case)
    spent = time.perf_counter() - begun  # compilation too
    dp = f.probe(s, (0.45, 0.2, HEIGHT / 2)) - f.probe(s, (0.55, 0.2, HEIGHT / 2))
    cd, cl = f.drag_coefficient(s, "body"), f.lift_coefficient(s, "body")
    found = {"cells": case.mesh.n_cells, "cd": float(cd), "cl": float(cl), "dp": float(dp)}
    return found | {"steps": int(s.report.iterations), "products": int(s.report.products), "seconds": spent}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=1250, help="of a layer of the coarsest mesh")
    parser.add_argument("--layers", type=int, default=10, help="of the coarsest mesh, from the wall to the middle")
    parser.add_argument("--refine", type=int, nargs="+", default=[1, 2, 3], help="the family; three give an order")
    a = parser.parse_args(argv)

    family = [measure(a.cells, a.layers, r) for r in a.refine]
    rows = [
        (f"{r['cells']}", f"{r['cd']:.5f} ({percent(r['cd'], PUBLISHED['cd'])})", f"{r['cl']:.6f} ({r['cl'] - PUBLISHED['cl']:+.1e})",
         f"{r['dp']:.5f}", f"{r['steps']}", f"{r['products']}", f"{r['seconds']:.1f}")
        for r in family
    ]  # fmt: skip
    table(("cells", "Cd", "Cl", "dp", "Newton steps", "products", "seconds"), rows)
    p = order([r["cd"] for r in family[-3:]], a.refine[-3:]) if len(family) >= 3 else float("nan")
    limit = extrapolate([r["cd"] for r in family], a.refine, p) if np.isfinite(p) else float("nan")
    print(f"observed order of Cd {p:.2f}, extrapolated {limit:.5f} ({percent(limit, PUBLISHED['cd'])})\n")
    best = max((r for r in family if r["cells"] <= 400_000), key=lambda r: r["cells"], default=family[-1])
    result = {k: best[k] for k in ("cells", "cd", "cl")} | {"extrapolated_cd": limit if np.isfinite(limit) else None}
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
