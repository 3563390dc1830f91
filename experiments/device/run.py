"""2D-1 on whatever device JAX finds: drag and its gradient against stored values, and what each part of a solve takes."""

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import call_seconds, kernels, median_seconds, seconds, table

import fluidgrad as fg
from fluidgrad.derivatives.derivative import vjp
from fluidgrad.flow.fluxes import discretize
from fluidgrad.flow.residual import balance
from fluidgrad.linear import systems as linear
from fluidgrad.linear.block_tridiagonal import memory
from fluidgrad.linear.jacobian import assemble, pattern

MEAN, TOLERANCE, ACCEPTED = 0.2, 1e-12, 1e-10
STORED = json.loads((Path(__file__).parent / "stored.json").read_text())  # by --store, on a CPU
KERNELS = ("residual", "jvp", "vjp", "assembly")


def flow(mesh: fg.Mesh, mean: Any = MEAN, viscosity: Any = 1e-3) -> fg.Flow:
    patches = {"inlet": fg.Inflow(fg.parabola(mesh, "inlet", mean)), "outlet": fg.Outflow(), "walls": fg.Wall(), "body": fg.Wall()}
    return fg.Flow(mesh, viscosity=viscosity, **patches, reference=(MEAN, 0.1))


def measure(cells: int, linear_solver: str, repeats: int) -> dict[str, Any]:
    """Drag, its derivative by the inflow's speed and by the viscosity at every repeat's own inflow, and times."""
    mesh = fg.channel(length=2.2, height=0.41, body=fg.circle(center=(0.2, 0.2), radius=0.05), cells=cells)

    def drag(x: Any) -> Any:
        s = fg.solve_steady(flow(mesh, *x), tolerance=TOLERANCE, linear=linear_solver)
        return fg.functionals.drag_coefficient(s, "body")

    def at(k: int) -> Any:  # another flow for every k: factors of matrices seen before may be held
        return jnp.array([MEAN * (1 + 1e-3 * k), 1e-3])

    def backward(k: int) -> float:
        _, pull_back = vjp(drag, at(k))
        return seconds(lambda: pull_back(jnp.ones(())))

    f, both = flow(mesh), fg.value_and_grad(drag)
    found: dict[str, Any] = {"cells": mesh.n_cells, "first": seconds(lambda: drag(at(0)))}
    value, gradient = both(at(0))[:2]
    found["value"] = [float(value), *map(float, gradient)]
    backward(0)
    found["solve"] = median_seconds(lambda k: drag(at(1 + k)), repeats)
    found["gradient"] = median(backward(1 + repeats + k) for k in range(repeats))
    d, places = discretize(f), pattern(f).places
    q, v = (jax.device_put(np.random.default_rng(k).standard_normal(f.n_unknowns)) for k in range(2))
    programs = kernels(balance, lambda d, q: assemble(d, places, q).blocks)
    found |= {name: call_seconds(program, 15, d, q, v) for name, program in programs.items()}
    stats = jax.local_devices()[0].memory_stats() or {}
    found["peak"] = stats.get("peak_bytes_in_use")
    report = fg.solve_steady(f, tolerance=TOLERANCE, linear=linear_solver).report
    dense = isinstance(linear.choose(linear_solver), linear.BlockTridiagonal)
    found["predicted"] = memory(pattern(f, "compact" in report.linear)) if dense else None
    found |= {"linear": report.linear, "steps": int(report.iterations), "products": int(report.products)}
    return found


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[5000, 20000, 80000])
    parser.add_argument("--linear", default="auto", help="as for solve_steady")
    parser.add_argument("--repeats", type=int, default=3, help="timings of a solve, of which the median counts")
    parser.add_argument("--store", action="store_true", help="keep the values found as those that others are compared with")
    a = parser.parse_args(argv)

    device = jax.local_devices()[0]
    print(f"{device.device_kind} ({device.platform}), JAX {jax.__version__}\n")
    rows, worst, compared = [], 0.0, True
    r: dict[str, Any] = {}
    for cells in a.cells:
        r = measure(cells, a.linear, a.repeats)
        if a.store:
            STORED[str(r["cells"])] = r["value"]
            (Path(__file__).parent / "stored.json").write_text(json.dumps(STORED, indent=2) + "\n")
        known = np.array(STORED.get(str(r["cells"]), [np.nan] * 3))
        apart = np.abs(np.array(r["value"]) / known - 1)
        worst, compared = max(worst, float(np.nan_to_num(apart).max())), compared and bool(np.isfinite(apart).all())
        gib = tuple("" if r[k] is None else f"{r[k] / 2**30:.2f}" for k in ("predicted", "peak"))
        times = (f"{r['first']:.1f}", f"{r['solve']:.3f}", f"{r['gradient']:.3f}", *(f"{1e9 * r[k] / r['cells']:.1f}" for k in KERNELS))
        counts = (f"{r['steps']}", f"{r['products']}")
        rows.append((f"{r['cells']}", f"{apart[0]:.0e}", f"{apart[1:].max():.0e}", *counts, *times, *gib))
        print("  ".join(rows[-1]), flush=True)
    print()
    print(f"{r['linear']}\n")
    header = (
        "cells",
        "drag",
        "gradient",
        "steps",
        "products",
        "first, s",
        "solve, s",
        "gradient, s",
        *(f"{k}, ns a cell" for k in KERNELS),
    )
    table((*header, "predicted, GiB", "peak, GiB"), rows)
    result = {"cells": r["cells"], "worst": worst if compared else None, "solve_s": r["solve"], "gradient_s": r["gradient"]}
    result |= {f"{k}_ns": 1e9 * r[k] / r["cells"] for k in KERNELS}
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    worst = main()["worst"]
    sys.exit(0 if worst is not None and worst <= ACCEPTED else 1)
