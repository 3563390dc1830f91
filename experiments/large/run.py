"""What multigrid takes from 10,000 cells to a million: iterations of linear systems, seconds and memory of a flow and its gradient."""

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import channel, cube, in_channel, seconds, table

import fluidgrad as fg
from fluidgrad.derivatives.derivative import vjp
from fluidgrad.flow.fluxes import discretize
from fluidgrad.flow.residual import tangent
from fluidgrad.linear import systems
from fluidgrad.linear.jacobian import assemble, pattern
from fluidgrad.linear.krylov import gmres, times, transposed_times

TOLERANCE = 1e-8  # of the linear systems whose iterations are counted
TWICE = 200_000  # cells: smaller gradients are taken twice, so that nothing is compiled in the second


def cavity(cells: int) -> fg.Flow:
    """At Re 1000, closed."""
    n = round(cells**0.5)
    walls = {side: fg.Wall() for side in ("left", "right", "bottom")}
    return fg.Flow(fg.box(cells=(n, n)), viscosity=1e-3, top=fg.Wall(velocity=(1.0, 0.0)), **walls)


def stretched(cells: int) -> fg.Flow:
    """A plain channel at Re 100, whose cells at the walls are up to a hundred and fifty times as long as high."""
    n = round(cells**0.5)
    mesh = fg.box((0, 0), (10.0, 1.0), cells=(n, n), grading=(0.0, 2.5))
    walls = {"bottom": fg.Wall(), "top": fg.Wall()}
    return fg.Flow(mesh, viscosity=1e-2, left=fg.Inflow(fg.parabola(mesh, "left", 1.0)), right=fg.Outflow(), **walls)


def triangles(cells: int) -> fg.Flow:
    """2D-1 on gmsh's triangles, three times as small at the cylinder as far from it."""
    import gmsh

    gmsh.initialize(interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        occ, size = gmsh.model.occ, (4 * 2.2 * 0.41 / np.sqrt(3) / (cells * 0.615)) ** 0.5  # 0.615: counted
        occ.cut([(2, occ.addRectangle(0, 0, 0, 2.2, 0.41))], [(2, occ.addDisk(0.2, 0.2, 0, 0.05, 0.05))])
        occ.synchronize()
        sides: dict[str, list[int]] = {"inlet": [], "outlet": [], "walls": [], "body": []}
        for _, tag in gmsh.model.getEntities(1):
            x, y, _ = occ.getCenterOfMass(1, tag)
            sides["inlet" if x < 1e-6 else "outlet" if x > 2.2 - 1e-6 else "walls" if y < 1e-6 or y > 0.41 - 1e-6 else "body"].append(tag)
        for name, tags in sides.items():
            gmsh.model.addPhysicalGroup(1, tags, name=name)
        gmsh.model.addPhysicalGroup(2, [tag for _, tag in gmsh.model.getEntities(2)], name="fluid")
        field = gmsh.model.mesh.field
        near, graded = field.add("Distance"), field.add("Threshold")
        field.setNumbers(near, "CurvesList", sides["body"])
        for key, value in {"InField": near, "SizeMin": size / 3, "SizeMax": size, "DistMin": 0.0, "DistMax": 0.4}.items():
            field.setNumber(graded, key, value)
        field.setAsBackgroundMesh(graded)
        gmsh.option.setNumber("Mesh.MeshSizeExtendFromBoundary", 0)
        gmsh.model.mesh.generate(2)
        with TemporaryDirectory() as folder:
            gmsh.write(f"{folder}/channel.msh")
            mesh = fg.read_mesh(f"{folder}/channel.msh")
    finally:
        gmsh.finalize()
    return in_channel(mesh)


FLOWS: dict[str, Callable[[int], fg.Flow]] = {f.__name__: f for f in (channel, cavity, stretched, triangles, cube)}
FLOWS["channel_re100"] = lambda cells: channel(cells, 2e-4)


def iterations(flow: fg.Flow, state: Any) -> tuple[int, int]:
    """Of the system with the Jacobian at a state, and of its transpose, for a right-hand side of noise."""
    backend, p, d = systems.choose("multigrid"), pattern(flow, compact=True), discretize(flow)
    factor = systems.factor(backend, p, jax.jit(assemble)(d, p.places, state))
    b = jnp.asarray(np.random.default_rng(0).standard_normal(len(state))) / factor.weight
    R_q, found = tangent(d, state), []
    for f, product in ((factor, times), (systems.transposed(backend, p, factor), transposed_times)):
        matvec = partial(product, R_q)
        precondition = partial(systems.solve, backend, p, f, matvec=matvec)
        _, residual, count = gmres(matvec, precondition, f.weight, b, TOLERANCE)
        found.append(int(count) if residual <= TOLERANCE else -1)
    return found[0], found[1]


def one(name: str, cells: int, linear: str) -> dict[str, Any]:
    """A flow from rest and its gradient in the viscosity and the force in every cell; programs are compiled before."""
    flow = FLOWS[name](cells)
    n, dim = flow.mesh.n_cells, flow.mesh.dim

    def energy(x: Any, start: fg.Solution) -> Any:
        viscosity, force = x
        changed = fg.Flow(flow.mesh, viscosity=viscosity, force=force, boundary=dict(flow.boundary))
        return jnp.sum(fg.solve_steady(changed, start, linear=linear).velocity ** 2) / n

    def adjoint() -> Any:
        _, pull_back = vjp(lambda x: energy(x, solution), (flow.viscosity, jnp.zeros((n, dim))))
        return pull_back

    fg.solve_steady(flow, linear=linear, tolerance=0.3)
    solution: Any = None

    def solve() -> Any:
        nonlocal solution
        solution = fg.solve_steady(flow, linear=linear)
        return solution.state

    forward = seconds(solve)
    for _ in range(2 if n <= TWICE else 1):
        pull_back = adjoint()
        gradient = seconds(lambda pull_back=pull_back: pull_back(jnp.ones(()))[0])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = {"cells": n, "steps": int(solution.report.iterations), "products": int(solution.report.products)}
    counted = iterations(flow, solution.state)
    return found | {"iterations": counted[0], "transposed": counted[1], "forward": forward, "gradient": gradient, "peak_gib": peak}


def in_a_process(name: str, cells: int, linear: str) -> dict[str, Any]:
    """Of its own, so that the peak of memory is that of this flow."""
    command = [sys.executable, __file__, "--one", name, str(cells), "--linear", linear]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        print(f"{name}, {cells} cells: {done.stderr.strip().splitlines()[-1:]}", flush=True)
        return {}
    return json.loads(done.stdout.strip().splitlines()[-1])


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs=3, default=[10_000, 640_000, 1_000_000], metavar=("FEW", "MANY", "MOST"))
    parser.add_argument("--others", type=int, nargs="*", default=[10_000, 160_000], help="cells of the other flows")
    parser.add_argument("--linear", default="multigrid")
    parser.add_argument("--device", action="store_true", help="the largest flow in 2D and in 3D alone, in this process")
    parser.add_argument("--one", nargs=2, metavar=("FLOW", "CELLS"), help="one flow, in this process")
    a = parser.parse_args(argv)
    if a.one:
        result = one(a.one[0], int(a.one[1]), a.linear)
        print(json.dumps(result))
        return result
    if a.device:
        result = {name: one(name, a.cells[2], a.linear) for name in ("channel", "cube")}
        print(json.dumps(result))
        return result
    rows = []

    def measured(name: str, cells: int) -> dict[str, Any]:
        r = in_a_process(name, cells, a.linear)
        if r:
            rows.append([name, *(f"{r[k]:.3g}" if isinstance(r[k], float) else str(r[k]) for k in list(r))])
            print(*rows[-1], flush=True)
        return r

    few, many, most = (measured("channel", cells) for cells in a.cells)
    for name in ("channel_re100", "cavity", "stretched", "triangles", "cube"):
        for cells in a.others:
            measured(name, cells)
    table(["flow", "cells", "steps", "products", "iterations", "transposed", "solve s", "gradient s", "peak GiB"], rows)
    result = {  # the largest may be refused
        "iterations_10k": few.get("iterations"),
        "iterations_640k": many.get("iterations"),
        "seconds_10k": few.get("forward"),
        "seconds_1m": most.get("forward"),
        "gradient_ratio_1m": most["gradient"] / most["forward"] if most else None,
        "peak_gib_1m": most.get("peak_gib"),
        "exponent": float(np.log(most["forward"] / few["forward"]) / np.log(most["cells"] / few["cells"])) if few and most else None,
    }
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
