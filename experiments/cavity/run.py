"""The lid-driven cavity: extrema of the velocity on the centre lines and of the stream function, Re 100 to 5000."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline, RectBivariateSpline

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import percent, published, table

import fluidgrad as fg

FIGURES = published("cavity")
KEYS = ("u_min", "v_max", "v_min", "psi_min")


def sources(reynolds: int) -> dict[str, float]:
    """The sharpest published figures of a Reynolds number."""
    known = dict(FIGURES["stream_function"].get(str(reynolds), {}))
    for paper in ("marchi_2009", "botella_peyret_1998"):
        known |= FIGURES[paper].get(str(reynolds), {})
    return known


def cavity(mesh: fg.Mesh, reynolds: float) -> fg.Flow:
    still = {side: fg.Wall() for side in ("left", "right", "bottom")}
    return fg.Flow(mesh, viscosity=1.0 / reynolds, top=fg.Wall(velocity=(1.0, 0.0)), **still)


def extrema(s: fg.Solution, n: int) -> dict[str, float]:
    """From the cell values alone: cubic splines along the centre lines and over the stream function."""
    x, y = (np.unique(np.round(np.asarray(s.flow.mesh.points)[:, k], 12)) for k in (0, 1))
    u, v = np.moveaxis(np.asarray(s.velocity).reshape(n, n, 2), -1, 0)  # along x, then y
    xc, yc = (x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2
    found = {"u_min": lowest(yc, across(xc, u, 0.5), 0.0, 1.0)}
    v_mid = across(yc, v.T, 0.5)
    found |= {"v_max": -lowest(xc, -v_mid, 0.0, 0.0), "v_min": lowest(xc, v_mid, 0.0, 0.0)}
    return found | {"psi_min": stream_minimum(x, y, xc, u)}


def across(x: np.ndarray, values: np.ndarray, at: float) -> np.ndarray:
    """Values on the line ``at``, between the columns of cells on either side, by a cubic spline."""
    return CubicSpline(x, values, axis=0)(at)


def lowest(x: np.ndarray, values: np.ndarray, first: float, last: float) -> float:
    """The smallest value of the spline through the cells and the wall values."""
    spline = CubicSpline(np.r_[0.0, x, 1.0], np.r_[first, values, last])
    turns = spline.derivative().roots(extrapolate=False)
    return float(spline(turns).min())


def stream_minimum(x: np.ndarray, y: np.ndarray, xc: np.ndarray, u: np.ndarray) -> float:
    """psi = integral of u dy: cell means summed from the bottom wall, on the middle of every cell's upper face."""
    psi = np.concatenate([np.zeros((len(u), 1)), np.cumsum(u * np.diff(y), 1)], 1)
    spline = RectBivariateSpline(xc, y, psi)
    i, j = np.unravel_index(psi.argmin(), psi.shape)
    fine = [np.linspace(c[max(k - 1, 0)], c[min(k + 1, len(c) - 1)], 401) for c, k in ((xc, i), (y, j))]
    return float(spline(*fine).min())


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cells", type=int, default=128, help="along each side")
    parser.add_argument("--reynolds", type=int, nargs="+", default=[100, 400, 1000, 5000])
    parser.add_argument("--grading", type=float, default=1.5, help="of the mesh to the walls, 0 for none")
    a = parser.parse_args(argv)

    mesh = fg.box(cells=(a.cells, a.cells), grading=a.grading)
    rows, measured = [], {}
    for reynolds in a.reynolds:
        s = fg.solve_steady(cavity(mesh, reynolds))
        known, measured[reynolds] = sources(reynolds), extrema(s, a.cells)
        values = [f"{measured[reynolds][k]:.6f} ({percent(measured[reynolds][k], known[k])})" for k in KEYS]
        rows.append((str(reynolds), *values, f"{int(s.report.iterations)} in {int(s.report.solves)}"))
    print(f"{a.cells} x {a.cells} cells, grading {a.grading:g}; in brackets the difference from the published figure\n")
    table(("Re", *KEYS, "Newton steps in stages"), rows)

    def at(reynolds: int, key: str) -> float | None:
        return measured.get(reynolds, {}).get(key)

    result = {f"re1000_{k}": at(1000, k) for k in ("u_min", "v_max", "v_min")} | {"re5000_u_min": at(5000, "u_min")}
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
