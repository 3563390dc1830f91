"""What the experiments share: published figures, tables, time beside a fixed yardstick, and flows."""

from __future__ import annotations  # so that importing this begins nothing of the numerics

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import jax
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

import fluidgrad as fg


def published(name: str) -> dict[str, Any]:
    """The figures of ``experiments/reference/<name>.json``, each with its source."""
    return json.loads((Path(__file__).parent / "reference" / f"{name}.json").read_text())


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a Markdown table, as the READMEs hold it."""
    width = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for row in (header, ["-" * w for w in width], *rows):
        print("| " + " | ".join(cell.ljust(w) for cell, w in zip(row, width, strict=True)) + " |")
    print(flush=True)


def percent(value: float, reference: float) -> str:
    return f"{100 * (value / reference - 1):+.3f} %"


def order(values: Sequence[float], ratios: Sequence[float]) -> float:
    """The p for which v = v0 + C h^p passes through three values on meshes of ``ratios`` times the coarsest's counts."""
    (a, b, c), (p, q, r) = values, ratios
    measured = (a - b) / (b - c)
    trial = np.linspace(0.1, 8.0, 80001)
    model = (p**-trial - q**-trial) / (q**-trial - r**-trial)
    return float(np.interp(measured, model, trial)) if model[0] < measured < model[-1] else float("nan")


def extrapolate(values: Sequence[float], ratios: Sequence[float], p: float) -> float:
    """The limit of the last two values when the error falls as h^p (Richardson)."""
    gain = (ratios[-1] / ratios[-2]) ** p
    return values[-1] + (values[-1] - values[-2]) / (gain - 1)


def seconds(run: Callable[[], Any]) -> float:
    """Wall time of a call, to the last array it returns."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def median_seconds(run: Callable[[int], Any], repeats: int) -> float:
    """The median over calls ``run(0)``, ``run(1)``, ... The caller varies the data, so that nothing held is timed."""
    return median(seconds(lambda k=k: run(k)) for k in range(repeats))


def yardstick(repeats: int = 5) -> float:
    """Seconds to factor one fixed matrix with SuperLU (COLAMD): upwind convection and diffusion on 200 x 200 points."""
    n = 200
    line = sp.diags([-1.2, 2.4, -1.2 + 0.4], [-1, 0, 1], shape=(n, n))
    matrix = sp.kronsum(line, line, format="csc")
    return median(seconds(lambda: spla.splu(matrix).shape) for _ in range(repeats))


def kernels(residual: Callable[..., Any], blocks: Callable[..., Any]) -> dict[str, Callable[..., Any]]:
    """What is done once for every face and cell, as programs of (discrete flow, state, vector): the residual, its two derivatives
    and the exact Jacobian."""
    return {
        "residual": jax.jit(lambda d, q, v: residual(d, q)),
        "jvp": jax.jit(lambda d, q, v: jax.jvp(lambda q: residual(d, q), (q,), (v,))[1]),
        "vjp": jax.jit(lambda d, q, v: jax.vjp(lambda q: residual(d, q), q)[1](v)[0]),
        "assembly": jax.jit(lambda d, q, v: blocks(d, q)),
    }


def call_seconds(program: Callable[..., Any], repeats: int, *arguments: Any) -> float:
    """Median wall time of a call after the first, which compiles."""
    jax.block_until_ready(program(*arguments))
    return median_seconds(lambda _: program(*arguments), repeats)


# ---- flows that more than one experiment measures

MEAN = 0.2  # of the channel's inflow


def channel(cells: int, viscosity: float = 1e-3) -> fg.Flow:
    """The cylinder in a channel of Schaefer and Turek, 2D-1 at Re 20."""
    return in_channel(fg.channel(length=2.2, height=0.41, body=fg.circle(center=(0.2, 0.2), radius=0.05), cells=cells), viscosity)


def in_channel(mesh: fg.Mesh, viscosity: float = 1e-3) -> fg.Flow:
    """The same on any mesh of it."""
    patches = {"inlet": fg.Inflow(fg.parabola(mesh, "inlet", MEAN)), "outlet": fg.Outflow(), "walls": fg.Wall(), "body": fg.Wall()}
    return fg.Flow(mesh, viscosity=viscosity, **patches, reference=(MEAN, 0.1))


def cube(cells: int) -> fg.Flow:
    """The lid-driven cavity in 3D at Re 100, closed."""
    n = round(cells ** (1 / 3))
    mesh = fg.extrude(fg.box(cells=(n, n)), 1.0, n, patches=("front", "back"))
    walls = {side: fg.Wall() for side in ("left", "right", "bottom", "front", "back")}
    return fg.Flow(mesh, viscosity=1e-2, top=fg.Wall(velocity=(1.0, 0.0, 0.0)), **walls)
