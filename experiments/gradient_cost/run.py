"""What a gradient costs beside the solve it belongs to, with 10 and with 10,000 parameters; and the peak of memory."""

import argparse
import json
import resource
import sys
from pathlib import Path
from statistics import median
from typing import Any

import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import median_seconds, seconds, table, yardstick

import fluidgrad as fg
from fluidgrad.derivatives.derivative import vjp
from fluidgrad.mesh.mesh import measure

MEAN = 0.2


class Case:
    """Drag of the cylinder in the channel at Re 20, in the amplitudes of a body force along x: ``count`` of them, each
    a patch of neighbouring cells (one cell each where there are as many)."""

    def __init__(self, mesh: fg.Mesh, count: int):
        x = np.asarray(measure(mesh).x_cell)
        along = np.empty(mesh.n_cells, int)
        along[np.lexsort([x[:, 1], x[:, 0]])] = np.arange(mesh.n_cells)
        self.mesh, self.count = mesh, min(count, mesh.n_cells)
        self.patch = along * self.count // mesh.n_cells
        self.inflow = fg.parabola(mesh, "inlet", MEAN)

    def flow(self, x: Any) -> fg.Flow:
        force = x[self.patch][:, None] * jnp.array([1.0, 0.0])
        patches = {"inlet": fg.Inflow(self.inflow), "outlet": fg.Outflow(), "walls": fg.Wall(), "body": fg.Wall()}
        return fg.Flow(self.mesh, viscosity=1e-3, force=force, **patches, reference=(MEAN, 0.1))

    def drag(self, x: Any, start: fg.Solution | None = None) -> Any:
        return fg.functionals.drag_coefficient(fg.solve_steady(self.flow(x), start), "body")

    def design(self, k: int) -> Any:
        """A different one for every k: the host remembers factors of matrices that it has seen."""
        return jnp.full(self.count, 1e-4 * (k + 1)) * (1 + 0.1 * np.cos(np.arange(self.count)))


def clock(case: Case, repeats: int) -> dict[str, float]:
    """Median seconds, compiled: a solve from rest, one from the solution of a nearby design, and the adjoint alone."""
    near = fg.solve_steady(case.flow(case.design(-1)))

    def adjoint(k: int) -> float:
        _, pull_back = vjp(case.drag, case.design(k))
        return seconds(lambda: pull_back(jnp.ones(())))

    case.drag(case.design(-1)), adjoint(-1)  # compile
    cold = median_seconds(lambda k: case.drag(case.design(k)), repeats)
    warm = median_seconds(lambda k: case.drag(case.design(repeats + k), near), repeats)
    gradient = median(adjoint(2 * repeats + k) for k in range(repeats))
    return {"forward": cold, "warm": warm, "gradient": gradient}


def peak_mib() -> float:
    """Of the process so far; Linux counts in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=10000)
    parser.add_argument("--memory-cells", type=int, default=12000, help="mesh on which the peak of memory is read")
    parser.add_argument("--parameters", type=int, nargs=2, default=[10, 10000], metavar=("FEW", "MANY"))
    parser.add_argument("--repeats", type=int, default=5, help="timings, of which the median counts")
    a = parser.parse_args(argv)

    def channel(cells: int) -> fg.Mesh:
        return fg.channel(length=2.2, height=0.41, body=fg.circle(center=(0.2, 0.2), radius=0.05), cells=cells)

    # Memory first: the peak is the process's, and it must be that of one solve with its gradient on this mesh.
    largest = Case(channel(a.memory_cells), a.parameters[1])
    idle = peak_mib()
    fg.value_and_grad(largest.drag)(largest.design(0))
    peak = peak_mib()
    print(f"{largest.mesh.n_cells} cells: peak {peak:.0f} MiB, of which {idle:.0f} before the solve\n")

    mesh = channel(a.cells)
    few, many = (clock(Case(mesh, n), a.repeats) for n in a.parameters)
    rows = []
    for n, t in zip(a.parameters, (few, many), strict=True):
        shares = (f"{t['gradient'] / t['forward']:.4f}", f"{t['gradient'] / t['warm']:.4f}")
        rows.append((f"{n}", *(f"{t[k]:.3f}" for k in ("forward", "warm", "gradient")), *shares))
    print(f"{mesh.n_cells} cells, seconds; the yardstick takes {yardstick():.3f}\n")
    table(("parameters", "solve from rest", "from a nearby solution", "gradient", "gradient / rest", "gradient / nearby"), rows)
    result = {
        "ratio_10": few["gradient"] / few["forward"],
        "ratio_10000": many["gradient"] / many["forward"],
        "ratio_warm": many["gradient"] / many["warm"],
        "peak_mib": peak,
        "forward_s": many["forward"],
        "gradient_s": many["gradient"],
    }
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
