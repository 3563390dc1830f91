"""Kovasznay's exact flow behind a grid at Re 40: order of velocity and pressure on regular and on distorted meshes."""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import table

import fluidgrad as fg
from fluidgrad.mesh.mesh import measure

RE = 40.0
DECAY = RE / 2 - np.sqrt(RE**2 / 4 + 4 * np.pi**2)
LOWER, UPPER = np.array([-0.5, -0.5]), np.array([1.0, 1.5])


def exact(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    e = np.exp(DECAY * x[:, 0])
    u = np.stack([1 - e * np.cos(2 * np.pi * x[:, 1]), DECAY / (2 * np.pi) * e * np.sin(2 * np.pi * x[:, 1])], 1)
    return u, (1 - e**2) / 2


def build(n: int, kind: str) -> fg.Mesh:
    mesh = fg.box(LOWER, UPPER, cells=(n, n), grading=1.0 if kind == "graded" else 0.0)
    if kind != "curved":
        return mesh
    s = (np.asarray(mesh.points) - LOWER) / (UPPER - LOWER)
    bump = np.sin(np.pi * s[:, :1]) * np.sin(np.pi * s[:, 1:])
    return replace(mesh, points=mesh.points + jnp.asarray(0.08 * bump * np.sin(4 * s[:, ::-1])))


def errors(mesh: fg.Mesh) -> tuple[float, float]:
    """L2 of velocity and pressure (less its mean), velocities given all round."""
    g = measure(mesh)
    at_faces, _ = exact(np.asarray(g.x_face))
    boundary = {name: fg.Inflow(at_faces[mesh.topology.faces_of(name)]) for name in mesh.patches}
    s = fg.solve_steady(fg.Flow(mesh, viscosity=1 / RE, **boundary))
    V = np.asarray(g.V) / np.sum(g.V)
    u, p = exact(np.asarray(g.x_cell))
    e_u, e_p = np.asarray(s.velocity) - u, np.asarray(s.pressure) - p
    return float(np.sqrt((V[:, None] * e_u**2).sum())), float(np.sqrt((V * (e_p - (V * e_p).sum()) ** 2).sum()))


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, nargs="+", default=[16, 32, 64, 128], help="along each side")
    parser.add_argument("--meshes", nargs="+", default=["uniform", "graded", "curved"], choices=["uniform", "graded", "curved"])
    a = parser.parse_args(argv)

    rows, result = [], {}
    for kind in a.meshes:
        before: tuple[int, tuple[float, float]] | None = None
        for n in a.cells:
            now = errors(build(n, kind))
            rate = ("", "")
            if before:
                rates = [float(np.log2(b / e) / np.log2(n / before[0])) for b, e in zip(before[1], now, strict=True)]
                rate = tuple(f"{r:.2f}" for r in rates)
                result |= {f"{kind}_velocity_order": rates[0], f"{kind}_pressure_order": rates[1]}
            rows.append((kind, f"{n} x {n}", f"{now[0]:.3e}", rate[0], f"{now[1]:.3e}", rate[1]))
            before = n, now
            result |= {f"{kind}_velocity": now[0], f"{kind}_pressure": now[1]}
    table(("mesh", "cells", "velocity (L2)", "order", "pressure (L2)", "order"), rows)
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
