"""What tests of several devices compare, printed as JSON: a program of its own, since JAX has as many devices as it began with.

python on_devices.py DEVICES FLOW...      of processes that srun's variables are set for, the first prints
"""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from fluidgrad import device

devices = int(sys.argv[1])
device.several(devices)
sys.path.insert(0, str(Path(__file__).parents[1]))

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from cases import triangles  # noqa: E402

import fluidgrad as fg  # noqa: E402
from fluidgrad.flow.fluxes import discretize  # noqa: E402
from fluidgrad.flow.residual import imbalance  # noqa: E402
from fluidgrad.parts import stacked  # noqa: E402
from fluidgrad.solve import divided  # noqa: E402
from fluidgrad.solve.divided import collected, exchanged, given_out  # noqa: E402
from fluidgrad.solve.division import apart  # noqa: E402
from fluidgrad.solve.steady import implicit_problem  # noqa: E402


def half():
    """Half of a channel with a body, a porous and pushed fluid: a plane of symmetry, upwind convection."""
    m = fg.channel(2.2, 0.41, fg.circle((0.2, 0.2), 0.05), cells=700)
    x = np.asarray(m.topology.nominal_centres)
    kinds = {"inlet": fg.Inflow(0.2), "outlet": fg.Outflow(), "body": fg.Wall(), "walls": fg.Symmetry()}
    return fg.Flow(m, viscosity=2e-3, porosity=x[:, 0] ** 2, force=0.1 * x[:, ::-1], scheme="upwind", boundary=kinds)


def layered():
    """A channel between periodic ends, driven by its flow rate: two numbers belong to no cell."""
    m = fg.box((0, 0), (2, 1), cells=(24, 12))
    return fg.Flow(m, viscosity=1e-2, left=fg.Periodic("right", flow_rate=1.0), bottom=fg.Wall(), top=fg.Wall(velocity=(0.3, 0.0)))


def tilted():
    """A lid-driven cavity of triangles, whose corners have weak stencils."""
    m = triangles(12)
    return fg.Flow(m, viscosity=1e-2, boundary={p: fg.Wall(velocity=(float(p == "top"), 0.0)) for p in m.patches})


def duct():
    m = fg.extrude(fg.box((0, 0), (3, 1), cells=(15, 5)), 1.0, 5, patches=("front", "back"))
    return fg.Flow(m, viscosity=1e-2, left=fg.Inflow(1.0), right=fg.Outflow(), boundary={p: fg.Wall() for p in m.patches[2:]})


def balances(problem, d, p, state):
    R, gross = imbalance(d, jnp.concatenate(state))
    n = state[0].size
    return R[:n], (R[n:], gross)


def compared(name):
    """How far residuals, solutions and derivatives of several devices are from those of one, relative."""
    flow = globals()[name]()
    problem = implicit_problem(flow, "auto", devices=devices)
    state = np.random.default_rng(0).normal(size=flow.n_unknowns)
    R, gross = imbalance(discretize(flow), jnp.asarray(state))
    there, (extra, gross_there) = problem._run(balances, flow, given_out(problem._division(flow), state))
    found = {"residual": gap(collected(problem._division(flow), there, extra), R), "gross": gap(np.asarray(gross_there), gross)}
    cells, sent = exchanged(flow, devices)
    return found | {"cells": cells, "all": flow.mesh.n_cells, "sent": sent, "in_program": sent_by(problem, flow, state)}


def sent_by(problem, flow, state):
    """Bytes that the program of a residual sends between devices, read off the program."""
    v, tables = problem._division(flow), problem._division(flow, divided._on_devices)
    d = apart(jax.tree.map(np.asarray, discretize(flow)), v, tables)
    p = divided._Pattern(tables.places, tables.levels)
    text = divided._program.lower(problem, balances, *stacked((d, p, given_out(v, state)), devices)).as_text()
    messages = re.findall(r"collective_permute.*?source_target_pairs = dense<.*?> : tensor<(\d+)x2xi64>.*?tensor<(\d+)x(\d+)xf64>", text)
    return sum(8 * int(pairs) * int(rows) * int(columns) for pairs, rows, columns in messages)


def derivatives(name):
    """How far state and derivatives are from those of one device, and what these are; of several processes only what they find."""
    flow = globals()[name]()

    def values(x, n, derivative):
        changed = replace(flow, viscosity=x * flow.viscosity)
        s = fg.solve_steady(changed, linear="multigrid", tolerance=1e-13, derivative=derivative, devices=n)
        return jnp.stack([jnp.sum(s.state**2), s.state[-1]]), s.state

    def reverse(n):
        _, pull, state = jax.vjp(lambda x: values(x, n, "reverse"), 1.0, has_aux=True)
        return np.asarray(state), np.array([pull(jnp.eye(2)[k])[0] for k in range(2)])

    state, gradients = reverse(devices)
    if jax.process_count() > 1:
        return {"known": (state.tolist(), gradients.tolist())}
    known = reverse(1)
    forward = jax.jvp(lambda x: values(x, devices, "forward")[0], (1.0,), (1.0,))[1]
    gaps = {"state": gap(state, known[0]), "reverse": gap(gradients, known[1]), "forward": gap(forward, known[1])}
    return gaps | {"known": [one.tolist() for one in known]}


def gap(a, b):
    return float(np.abs(np.asarray(a) - np.asarray(b)).max() / np.abs(np.asarray(b)).max())


if __name__ == "__main__":
    report = {name.removeprefix("d:"): derivatives(name[2:]) if name.startswith("d:") else compared(name) for name in sys.argv[2:]}
    if jax.process_index() == 0:
        print(json.dumps(report))
