"""A flow and its gradient on several devices: are they those of one, what passes between devices, how long does it take?"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import channel, cube, seconds, table

from fluidgrad import device


def one(name: str, cells: int, devices: int, file: str) -> dict[str, Any]:
    """On so many devices; state and gradient go to a file. Programs are compiled before."""
    device.several(devices)
    import jax.numpy as jnp

    import fluidgrad as fg
    from fluidgrad.derivatives.derivative import vjp
    from fluidgrad.solve.divided import exchanged

    flow = cube(cells) if name == "cube" else channel(cells)
    n, dim = flow.mesh.n_cells, flow.mesh.dim
    options = {"linear": "multigrid", "devices": devices, "tolerance": 1e-12}
    solution: Any = None

    def solve() -> Any:
        nonlocal solution
        solution = fg.solve_steady(flow, **options)
        return solution.state

    def energy(force: Any) -> Any:
        changed = fg.Flow(flow.mesh, viscosity=flow.viscosity, force=force, boundary=dict(flow.boundary))
        return jnp.sum(fg.solve_steady(changed, solution, **options).velocity ** 2) / n

    first = seconds(solve)
    found: dict[str, Any] = {"cells": n, "first": first, "solve": seconds(solve), "products": int(solution.report.products)}
    for _ in range(2):
        _, pull_back = vjp(energy, jnp.zeros((n, dim)))
        gradient: Any = None

        def pull(pull_back: Any = pull_back) -> Any:
            nonlocal gradient
            gradient, report = pull_back(jnp.ones(()))
            found["adjoint"] = report.adjoint_products
            return gradient

        found["gradient"] = seconds(pull)
    np.savez(file, state=np.asarray(solution.state), gradient=np.asarray(gradient))
    if devices > 1:
        found["most"], found["sent"] = exchanged(flow, devices)
    return found


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs=2, default=[40_000, 64_000], metavar=("CHANNEL", "CUBE"))
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--one", nargs=4, metavar=("FLOW", "CELLS", "DEVICES", "FILE"), help="one of them, in this process")
    a = parser.parse_args(argv)
    if a.one:
        result = one(a.one[0], int(a.one[1]), int(a.one[2]), a.one[3])
        print(json.dumps(result))
        return result
    rows, result = [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name, cells in zip(("channel", "cube"), a.cells, strict=True):
            known: Any = None
            for n in a.devices:
                file = f"{folder}/{name}-{n}.npz"
                command = [sys.executable, __file__, "--one", name, str(cells), str(n), file]
                r = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip().splitlines()[-1])
                with np.load(file) as arrays:
                    now = {key: arrays[key] for key in ("state", "gradient")}
                known = known or now
                gaps = {key: float(np.abs(now[key] - known[key]).max() / np.abs(known[key]).max()) for key in known}
                halo = [str(r["most"]), f"{r['sent'] / 1024:.0f}"] if n > 1 else [str(r["cells"]), "0"]
                counts = [str(r["products"]), str(r["adjoint"])]
                times = [f"{r[key]:.3g}" for key in ("first", "solve", "gradient")]
                rows.append([name, str(n), *halo, *counts, *times, f"{gaps['state']:.0e}", f"{gaps['gradient']:.0e}"])
                print(*rows[-1], flush=True)
                result |= {f"{name}_state_gap": max(gaps["state"], result.get(f"{name}_state_gap", 0.0))}
                result |= {f"{name}_gradient_gap": max(gaps["gradient"], result.get(f"{name}_gradient_gap", 0.0))}
                result |= {f"{name}_halo_kib": r.get("sent", 0) / 1024}
    head = ["flow", "devices", "cells each", "halo, KiB", "products", "adjoint's", "first s", "solve s", "gradient s", "state", "gradient"]
    table(head, rows)
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
