"""Measures one thing with the fluidgrad that Python finds, and prints it as JSON: what ``run.py`` starts for two of them."""

import inspect
import json
import resource
import sys
import time
from pathlib import Path
from statistics import median

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import call_seconds, kernels

import fluidgrad as fg

try:
    from fluidgrad.flow.fluxes import discretize
    from fluidgrad.flow.residual import balance
    from fluidgrad.linear.jacobian import assemble, pattern
except ModuleNotFoundError:  # commit 576a00f and before
    from fluidgrad.fluxes import discretize  # pyright: ignore[reportMissingImports]
    from fluidgrad.residual import assemble, balance, pattern  # pyright: ignore[reportMissingImports]


def cavity(n: int, dim: int) -> fg.Flow:
    mesh, walls = fg.box(cells=(n, n)), {k: fg.Wall() for k in ("left", "right", "bottom")}
    if dim == 3:
        mesh, walls = fg.extrude(mesh, 1.0, n, patches=("front", "back")), walls | {k: fg.Wall() for k in ("front", "back")}
    return fg.Flow(mesh, viscosity=1e-3, top=fg.Wall(velocity=(1.0, *(0.0,) * (dim - 1))), **walls)


def channel(cells: int, mean: float = 0.2) -> fg.Flow:
    mesh = fg.channel(length=2.2, height=0.41, body=fg.circle(center=(0.2, 0.2), radius=0.05), cells=cells)
    patches = {"inlet": fg.Inflow(fg.parabola(mesh, "inlet", mean)), "outlet": fg.Outflow(), "walls": fg.Wall(), "body": fg.Wall()}
    return fg.Flow(mesh, viscosity=1e-3, **patches)


def measured(n: int, dim: int, repeats: int) -> dict[str, float]:
    """Median seconds of the residual, its two derivatives and the assembly; of what solves do instead, where they do it."""
    flow = cavity(n, dim)
    d = discretize(flow)
    q, v = (jax.device_put(np.random.default_rng(k).standard_normal(flow.n_unknowns)) for k in range(2))
    if "flow" in inspect.signature(balance).parameters:  # commit 576a00f and before
        programs = kernels(lambda d, q: balance(flow, d, q), lambda d, q: assemble(flow, d, q).blocks)
        return {name: call_seconds(program, repeats, d, q, v) for name, program in programs.items()}
    from fluidgrad.flow.residual import tangent
    from fluidgrad.linear.krylov import times, transposed_times

    exact, compact = (pattern(flow, c).places for c in (False, True))
    programs = kernels(balance, lambda d, q: assemble(d, exact, q).blocks)
    found, R_q = {name: call_seconds(program, repeats, d, q, v) for name, program in programs.items()}, tangent(d, q)
    found["compact assembly"] = call_seconds(jax.jit(lambda d, q: assemble(d, compact, q).blocks), repeats, d, q)
    found |= {"tangent": call_seconds(tangent, repeats, d, q), "product with it": call_seconds(times, repeats, R_q, v)}
    return found | {"transposed product with it": call_seconds(transposed_times, repeats, R_q, v)}


def solve(cells: int, dim: int, repeats: int) -> dict[str, float]:
    """Seconds of a first solve and a first gradient, then the median of both in one call, and the peak of memory [MiB]."""
    body, make = ("body", channel) if dim == 2 else ("top", lambda n: cavity(n, 3))
    flow = make(cells)

    def drag(nu):
        leaves, structure = jax.tree.flatten(flow)
        leaves = [nu if x is flow.viscosity else x for x in leaves]
        return fg.drag(fg.solve_steady(jax.tree.unflatten(structure, leaves)), body)

    start = time.perf_counter()
    float(drag(flow.viscosity))
    first = time.perf_counter()
    times, both = [first - start], fg.value_and_grad(drag)
    for k in range(repeats + 1):
        start = time.perf_counter()
        jax.block_until_ready(both(flow.viscosity * (1.0 + 1e-3 * k))[1])
        times.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"first solve": times[0], "first gradient": times[1], "both": median(times[2:] or times[1:]), "peak": peak}


if __name__ == "__main__":
    what, size, dim, repeats = sys.argv[1], *map(int, sys.argv[2:])
    print(json.dumps({"kernels": measured, "solve": solve}[what](size, dim, repeats)))
