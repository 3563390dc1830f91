"""Derivatives with respect to shape: against closed forms, and what they cost beside the solve they belong to."""

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
from bench import median_seconds, published, seconds, table, yardstick

import fluidgrad as fg
from fluidgrad.derivatives.derivative import vjp
from fluidgrad.design.evaluation import evaluate

COUETTE = published("exact")["taylor_couette"]
R1, R2, TURN = COUETTE["r1"], COUETTE["r2"], COUETTE["w1"]
LENGTH, GAP, FLOW_RATE, VISCOSITY = 2.0, 0.5, 0.5, 0.1
MEAN = 0.2  # velocity in the channel with a body: Re 20


# ---- closed forms


def torque(across: int, around: int) -> dict[str, float]:
    """Relative errors of the torque on the inner wall of an annulus, one wall turning, and of its derivative with respect to
    both radii; the torque is 4 pi nu B per turn of either wall, B = r1^2 r2^2 / (r2^2 - r1^2)."""
    like = fg.o_grid(fg.circle(center=(0.0, 0.0), radius=R1), R2, cells=(around, across), grading=1.0)

    def of(radii: Any, inner: float, outer: float) -> Any:
        mesh = fg.o_grid(fg.circle(center=(0.0, 0.0), radius=radii[0]), radii[1], like=like)
        flow = fg.Flow(mesh, viscosity=1.0, body=fg.Wall(rotation=inner), far=fg.Wall(rotation=outer))
        return fg.functionals.moment(fg.solve_steady(flow, tolerance=1e-13), "body")

    gap = R2**2 - R1**2
    exact = 4 * np.pi * TURN * np.array([R1**2 * R2**2 / gap, 2 * R1 * R2**4 / gap**2, -2 * R2 * R1**4 / gap**2])
    found = {}
    for turning, (sign, inner, outer) in {"inner": (-1, TURN, 0.0), "outer": (1, 0.0, TURN)}.items():
        value, gradient, _ = fg.value_and_grad(lambda r, i=inner, o=outer: of(r, i, o))(jnp.array([R1, R2]))
        errors = sign * np.array([float(value), *np.asarray(gradient)]) / exact - 1
        found |= {f"{turning} {name}": float(e) for name, e in zip(("torque", "by r1", "by r2"), errors, strict=True)}
    return found


def gap(across: int) -> dict[str, float]:
    """Relative errors of the pressure drop 12 nu Q L / h^3 of a channel at a given flow rate, and of its derivative by h."""
    like = fg.box((0.0, 0.0), (LENGTH, GAP), cells=(across, across))

    def drop(h: Any) -> Any:
        mesh = fg.box((0.0, 0.0), (LENGTH, h), like=like)
        inflow = fg.Inflow(fg.parabola(mesh, "left", FLOW_RATE / h))
        flow = fg.Flow(mesh, viscosity=VISCOSITY, left=inflow, right=fg.Outflow(), bottom=fg.Wall(), top=fg.Wall())
        return fg.pressure_drop(fg.solve_steady(flow, tolerance=1e-13), "left", "right")

    value, gradient, _ = fg.value_and_grad(drop)(jnp.asarray(GAP))
    exact = 12 * VISCOSITY * FLOW_RATE * LENGTH / GAP**3
    return {"drop": float(value) / exact - 1, "by h": float(gradient) / (-3 * exact / GAP) - 1}


def least_order(rows: list[dict[str, float]], counts: list[int], keys: tuple[str, ...]) -> float | None:
    """The smallest order at which the errors of the derivatives fall, over all pairs of meshes that follow each other."""
    orders = [
        np.log(abs(a[k] / b[k])) / np.log(n / m)
        for k in keys
        for a, b, m, n in zip(rows[:-1], rows[1:], counts[:-1], counts[1:], strict=True)
    ]
    return float(min(orders)) if orders else None


# ---- cost


class Case:
    """Drag of a body in a channel at Re 20, in ``count`` Fourier modes of its shape."""

    def __init__(self, cells: int, count: int):
        self.count, self.start = count, np.zeros((count // 2, 2))
        self.like = fg.channel(2.2, 0.41, self.body(self.start), cells)
        self.inflow = np.asarray(fg.parabola(self.like, "inlet", MEAN))
        self.study = fg.Study(self.flow, self.start, (-0.5, 0.5), lambda s: fg.drag(s, "body"))

    @staticmethod
    def body(modes: Any) -> Any:
        return fg.fourier_curve((0.2, 0.2), 0.05, modes)

    def flow(self, modes: Any) -> fg.Flow:
        mesh = fg.channel(2.2, 0.41, self.body(modes), like=self.like)
        kinds = {"inlet": fg.Inflow(self.inflow), "outlet": fg.Outflow(), "walls": fg.Wall(), "body": fg.Wall()}
        return fg.Flow(mesh, viscosity=1e-3, **kinds)

    def drag(self, modes: Any, start: Any = None) -> Any:
        return fg.drag(fg.solve_steady(self.flow(modes), start), "body")

    def design(self, k: int) -> Any:
        """A different one for every k: the host remembers factors of matrices that it has seen."""
        return jnp.asarray(self.start).at[:2].set(0.01 * np.array([[1.0, 0.3], [-0.5, 0.7]]) * (1 + 0.1 * k))


def clock(case: Case, repeats: int) -> dict[str, float]:
    """Median seconds, compiled: a solve from rest; the gradient after its solve, from the drag back to the modes; an
    evaluation of the study (a solve from the state of a neighbouring design, and the gradient)."""
    near = evaluate(case.study, case.design(-1))

    def gradient(k: int) -> float:
        _, pull_back = vjp(case.drag, case.design(k))
        return seconds(lambda: pull_back(jnp.ones(())))

    case.drag(case.design(-1)), gradient(-1)  # compile
    evaluate(case.study, case.design(-2), near.state)
    cold, adjoint, warm = [], [], []
    for k in range(repeats):  # in turn, so that what else the machine does slows all three
        cold.append(median_seconds(lambda _, k=k: case.drag(case.design(3 * k)), 1))
        adjoint.append(gradient(3 * k + 1))
        warm.append(seconds(lambda k=k: evaluate(case.study, case.design(3 * k + 2), near.state).state))
    return {"cold": median(cold), "gradient": median(adjoint), "warm": median(warm)}


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--across", type=int, nargs="+", default=[16, 32, 64], help="cells across the gap; the last is reported")
    parser.add_argument("--around", type=int, default=4, help="cells round the annulus for each across")
    parser.add_argument("--cells", type=int, default=10000, help="of the channel in which gradients are timed; 0: they are not")
    parser.add_argument("--parameters", type=int, nargs=2, default=[10, 1000], metavar=("FEW", "MANY"))
    parser.add_argument("--repeats", type=int, default=5, help="timings, of which the median counts")
    a = parser.parse_args(argv)

    ratios: dict[str, float | None] = dict.fromkeys(("ratio_10", "ratio_1000", "warm_over_cold"))
    if a.cells:
        few, many = (clock(Case(a.cells, n), a.repeats) for n in a.parameters)
        rows = []
        for n, t in zip(a.parameters, (few, many), strict=True):
            shares = (f"{t['gradient'] / t['cold']:.3f}", f"{t['warm'] / t['cold']:.3f}")
            rows.append((f"{n}", *(f"{t[k]:.3f}" for k in ("cold", "gradient", "warm")), *shares))
        print(f"seconds; the yardstick takes {yardstick():.3f}\n")
        header = ("parameters", "solve from rest", "gradient", "evaluation of a neighbour", "gradient / rest", "neighbour / rest")
        table(header, rows)
        ratios = {"ratio_10": few["gradient"] / few["cold"], "ratio_1000": many["gradient"] / many["cold"],
                  "warm_over_cold": many["warm"] / many["cold"]}  # fmt: skip
        jax.clear_caches()

    torques = [torque(n, a.around * n) for n in a.across]
    table(("across", *torques[0]), [(f"{n}", *(f"{100 * v:+.4f} %" for v in t.values())) for n, t in zip(a.across, torques, strict=True)])
    gaps = [gap(n) for n in a.across]
    table(("across", *gaps[0]), [(f"{n}", *(f"{100 * v:+.4f} %" for v in g.values())) for n, g in zip(a.across, gaps, strict=True)])
    derivatives = tuple(k for k in torques[0] if "by" in k)
    result = {
        "torque_radius_error": max((torques[-1][k] for k in derivatives), key=abs),
        "gap_error": gaps[-1]["by h"],
        "order": least_order(torques, a.across, derivatives),
    } | ratios
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
