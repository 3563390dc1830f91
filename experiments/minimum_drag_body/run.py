"""The body of least drag of a given area, in Stokes flow and at Re 40: how much is gained, and which ends it takes.

The sides are class and shape functions (aerofoils.py) with one set of numbers for both, so the body is symmetric about the
stream; they begin as a circle, whose exponents are 1/2. Each mesh begins from the optimum of the one before.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import table

import fluidgrad as fg

RADIUS, AREA = 0.1, np.pi * 0.1**2
NEAR = 0.02  # chords from an end to the points whose directions from it make its angle
VISCOSITY = {"Stokes": 1.0, "Re 40": 0.005}  # by the stream's speed and the circle's diameter


def body(design: Any) -> Any:
    sides = {"upper": design["side"], "lower": -design["side"], "exponents": design["exponents"]}
    return fg.aerofoil((1.0, 0.5), 2 * RADIUS, **sides, thickness=1e-9).fitted(area=AREA)


def study(flow: str, cells: int, start: Any) -> fg.Study:
    """Drag over the design, in a channel whose walls move with the stream."""

    def mesh(design: Any, like: Any = None) -> Any:
        return fg.channel(2.5, 1.0, body(design), cells=cells, like=like)

    first = mesh({"side": np.ones(len(start["side"])), "exponents": np.full(2, 0.5)})

    def flow_of(design: Any) -> Any:
        return fg.Flow(mesh(design, first), viscosity=VISCOSITY[flow], convection=flow != "Stokes", inlet=fg.Inflow(1.0),
                       outlet=fg.Outflow(), walls=fg.Wall(velocity=(1.0, 0.0)), body=fg.Wall())  # fmt: skip

    return fg.Study(flow_of, start, {"side": (0.1, 1.6), "exponents": (0.5, 1.0)}, lambda s: fg.drag(s, "body"))


def ends(design: Any) -> list[float]:
    """The angles of the nose and the tail [degrees]: between the directions to the points that are ``NEAR`` from them."""
    found = []
    for tip in (0.5, 0.0):
        t = tip + np.geomspace(1e-5, 0.1, 4000)
        x = np.asarray(body(design).at(np.concatenate([[tip], t])))
        away = np.linalg.norm(x[1:] - x[0], axis=1)
        chord = np.linalg.norm(np.asarray(body(design).at(0.5)) - np.asarray(body(design).at(0.0)))
        k = int(np.argmax(away > NEAR * chord)) + 1
        found.append(2 * float(np.degrees(np.arctan2(abs(x[k, 1] - x[0, 1]), abs(x[k, 0] - x[0, 0])))))
    return found


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[2_500, 5_000, 10_000])
    parser.add_argument("--coefficients", type=int, default=6)
    parser.add_argument("--iterations", type=int, default=40)
    parser.add_argument("--flows", nargs="+", choices=tuple(VISCOSITY), default=tuple(VISCOSITY))
    given = parser.parse_args(argv)
    rows, last = [], {}
    worst_area = 0.0
    for flow in given.flows:
        design: Any = {"side": np.ones(given.coefficients), "exponents": np.full(2, 0.5)}
        circle = dict(design)
        for cells in given.cells:
            s = study(flow, cells, design)
            found = fg.optimize(s, max_iterations=given.iterations)
            before = float(fg.drag(fg.solve_steady(study(flow, cells, circle).flows[0](circle)), "body"))
            after = next(iter(found.optimum.values()))
            design = {k: np.asarray(v) for k, v in found.design.items()}
            x = np.asarray(body(design).at((np.arange(100_000) + 0.5) / 100_000))
            y = np.roll(x, -1, 0)
            area = float(np.sum(x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]) / 2)
            worst_area = max(worst_area, abs(area / AREA - 1))
            angles, size = ends(design), np.ptp(x, axis=0)
            last[flow] = after / before, angles
            rows.append([
                flow, f"{s.flows[0](design).mesh.n_cells}", f"{before:.5f}", f"{after:.5f}", f"{100 * (after / before - 1):+.2f} %",
                f"{design['exponents'][0]:.3f}, {design['exponents'][1]:.3f}", f"{angles[0]:.1f}, {angles[1]:.1f}",
                f"{size[0] / size[1]:.2f}", f"{found.kkt_residual:.1e}", f"{found.evaluations}",
            ])  # fmt: skip
            print(f"{flow}, {cells} cells: {found.reason}", flush=True)
    head = ["flow", "cells", "circle", "optimum", "drag", "exponents", "ends [degrees]", "length / height", "KKT", "evaluations"]
    table(head, rows)
    (stokes, angles), (re40, _) = (last.get(flow, (None, [])) for flow in VISCOSITY)
    angle = float(np.mean(angles)) if angles else None
    print(json.dumps({"stokes_drag_ratio": stokes, "stokes_end_angle_deg": angle, "re40_drag_ratio": re40, "area_error": worst_area}))


if __name__ == "__main__":
    main()
