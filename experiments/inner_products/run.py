"""Steepest descent with a fixed step towards the body of least drag: does the number of the design's numbers matter?"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import table

import fluidgrad as fg
from fluidgrad.design.evaluation import evaluate

RADIUS, FAR = 1.0, 8.0
PRODUCTS = {"parameters": 0.0, "L2": 0.0, "H1": 1.0}  # and the length of each
FIRST = 0.1  # of the radius: how far the first step moves the body at most, with the fewest numbers


class Case:
    """A body in Stokes flow whose outline is a circle moved along its normal by ``count`` offsets, scaled to the circle's area."""

    def __init__(self, cells: tuple[int, int]):
        self.like = fg.o_grid(self.body(np.zeros(8)), FAR, cells=cells)

    @staticmethod
    def body(offsets: Any) -> Any:
        return fg.circle((0.0, 0.0), RADIUS).displaced(offsets).fitted(area=np.pi * RADIUS**2)

    def flow(self, offsets: Any) -> fg.Flow:
        mesh = fg.o_grid(self.body(offsets), FAR, like=self.like)
        return fg.Flow(mesh, viscosity=1.0, convection=False, body=fg.Wall(), far=fg.FarField(velocity=(1.0, 0.0)))

    def study(self, count: int, product: str) -> fg.Study:
        return fg.Study(self.flow, np.zeros(count), None, drag, inner_product=product, length=PRODUCTS[product])


def drag(solution: fg.Solution) -> Any:
    return fg.drag(solution, "body")


def descend(study: fg.Study, rate: float | None, target: float, most: int) -> tuple[int | None, float]:
    """Steps until the drag is at the target, if ever, and the rate: by default that of a first step of a given length."""
    variables = study.variables
    z, state = variables.scaled(variables.start), None
    for step in range(most + 1):
        try:
            found = evaluate(study, jnp.asarray(variables.unscaled(z)), state)
        except (fg.InputError, fg.NotConverged):  # the fixed step was too long
            return None, rate or 0.0
        if found.values[0] <= target:
            return step, rate or 0.0
        g = variables.pulled(np.asarray(found.gradients[0])[None])[0]
        if rate is None:
            rate = FIRST * RADIUS / np.abs(variables.unscaled(-g)).max()
        z, state = z - rate * g, found.state
    return None, rate or 0.0


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--offsets", type=int, nargs="+", default=[8, 16, 32, 64], help="numbers of the design")
    parser.add_argument("--cells", type=int, nargs=2, default=[128, 16], help="round the body and across")
    parser.add_argument("--most", type=int, default=60, help="steps after which a descent is given up")
    parser.add_argument("--share", type=float, default=0.5, help="of what the fewest offsets can gain is the target")
    a = parser.parse_args(argv)

    case = Case((a.cells[0], a.cells[1]))
    fewest = fg.optimize(case.study(a.offsets[0], "H1"), max_iterations=min(a.most, 30))
    (start,), (best,) = fewest.start.values(), fewest.optimum.values()
    target = start + a.share * (best - start)
    print(f"drag of the circle {start:.5f}, the least with {a.offsets[0]} offsets {best:.5f}, the target {target:.5f}\n")
    rows, result = [], {}
    for product in PRODUCTS:
        rate, counts = None, []
        for n in a.offsets:
            steps, rate = descend(case.study(n, product), rate, target, a.most)
            counts.append(steps)
        rows.append((product, *(f"more than {a.most}" if c is None else f"{c}" for c in counts)))
        result |= {f"{product.lower()}_{n}": c for n, c in zip(a.offsets, counts, strict=True)}
    table(("inner product", *(f"{n} offsets" for n in a.offsets)), rows)
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
