"""Stokes flow through a square array of circular cylinders: drag, and its derivative by the solid fraction, against published figures."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import order, percent, published, table

import fluidgrad as fg
from fluidgrad.mesh.mesh import Mesh

PUBLISHED = {float(phi): drag for phi, drag in published("periodic_array")["square_array"]["drag_over_mu_u"].items()}
STEP = 1e-4  # of differences in the fraction
SIDES = {"bottom": "bottom", "top": "top"}


def cell(fraction: Array | float, cells: int, refine: int | None, like: Mesh | None = None) -> Mesh:
    disk = fg.circle((0.5, 0.5), jnp.sqrt(fraction / np.pi))
    return fg.channel(1.0, 1.0, disk, cells, refine, like, SIDES)


def drag(fraction: Array | float, mesh: Mesh) -> Array:
    """The force on a cylinder at a flow rate of 1, over the viscosity."""
    ends = {"inlet": fg.Periodic("outlet", flow_rate=1.0), "bottom": fg.Periodic("top")}
    flow = fg.Flow(cell(fraction, 0, None, mesh), viscosity=1.0, convection=False, body=fg.Wall(), **ends)
    return fg.drag(fg.solve_steady(flow, tolerance=1e-12), "body")


def study(fraction: float, cells: int, refines: list[int]) -> dict[str, Any]:
    """Drag on every mesh; on the last the derivative by the adjoint, and by differences."""
    meshes = [cell(fraction, cells, n) for n in refines]
    value, slope, _ = fg.value_and_grad(lambda x: drag(x, meshes[-1]))(jnp.asarray(fraction))
    ends = [float(drag(fraction + step, meshes[-1])) for step in (-2 * STEP, -STEP, STEP, 2 * STEP)]
    print(f"phi = {fraction}: F/(mu U) = {float(value):.6g}", file=sys.stderr, flush=True)
    return {
        "fraction": fraction,
        "reference": PUBLISHED[fraction],
        "drag": [float(drag(fraction, mesh)) for mesh in meshes[:-1]] + [float(value)],
        "cells": meshes[-1].n_cells,
        "slope": float(slope),
        "differences": float(np.dot([1, -8, 8, -1], ends) / (12 * STEP)),
    }


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4, 0.6])
    parser.add_argument("--cells", type=int, default=256, help="of the coarsest mesh")
    parser.add_argument("--refine", type=int, nargs="+", default=[1, 2, 4], help="meshes of so many times as many cells along lines")
    a = parser.parse_args(argv)

    found = [study(fraction, a.cells, a.refine) for fraction in a.fractions]
    several = len(a.refine) > 2
    for f in found:
        f["order"] = order(f["drag"][-3:], a.refine[-3:]) if several else float("nan")
        f["error"] = f["drag"][-1] / f["reference"] - 1
        f["slope_error"] = f["slope"] / f["differences"] - 1
    table(
        ("phi", "published F/(mu U)", *(f"refined by {n}" for n in a.refine), "cells", "F/(mu U)", "order"),
        [
            (
                f"{f['fraction']:.2f}", f"{f['reference']:.6g}", *(percent(v, f["reference"]) for v in f["drag"]), f"{f['cells']:,}",
                f"{f['drag'][-1]:.6g}", f"{f['order']:.2f}",
            )
            for f in found
        ],
    )  # fmt: skip
    table(
        ("phi", "d(F/(mu U))/d phi", "by differences", "adjoint over differences - 1"),
        [(f"{f['fraction']:.2f}", f"{f['slope']:.6g}", f"{f['differences']:.6g}", f"{f['slope_error']:+.1e}") for f in found],
    )
    dilute = [f for f in found if f["fraction"] <= 0.4]
    last = {
        "worst_error_to_0.4": max((f["error"] for f in dilute), key=abs, default=None),
        "worst_error": max((f["error"] for f in found), key=abs),
        "least_order_to_0.4": min((f["order"] for f in dilute), default=None) if several else None,
        "worst_slope_error": max((f["slope_error"] for f in found), key=abs),
    }
    print(json.dumps(last))
    return last


if __name__ == "__main__":
    main()
