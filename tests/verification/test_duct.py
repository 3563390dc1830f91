"""A real 3D flow: fully developed in a rectangular duct, one layer of cells, periodic along it."""

import json
from pathlib import Path

import numpy as np
import pytest
from cases import measure

import fluidgrad as fg

DUCT = json.loads((Path(__file__).parents[1] / "reference" / "exact_solutions.json").read_text())["duct"]["table_a1_G1_mu1"]


def flow_rate(aspect, n):
    """Through a duct 1 high and ``aspect`` wide, at unit pressure gradient and viscosity."""
    mesh = fg.extrude(fg.box((0, 0), (aspect, 1), cells=(round(aspect * n), n)), 0.5, 1, patches=("front", "back"))
    walls = {k: fg.Wall() for k in ("left", "right", "bottom", "top")}
    s = fg.solve_steady(fg.Flow(mesh, viscosity=1.0, front=fg.Periodic("back", pressure_drop=0.5), **walls))
    assert np.abs(np.asarray(s.velocity)[:, :2]).max() < 1e-12  # no secondary flow
    return float(np.sum(measure(mesh).V * np.asarray(s.velocity)[:, 2]) / 0.5)


@pytest.mark.parametrize("row", [DUCT[1], pytest.param(DUCT[0], marks=pytest.mark.slow)], ids=lambda r: f"aspect {r['aspect']}")
def test_the_flow_rate_of_a_rectangular_duct(row):
    coarse, fine = (flow_rate(row["aspect"], n) for n in (16, 32))
    exact = row["Q"]
    extrapolated = fine + (fine - coarse) / 3
    assert extrapolated == pytest.approx(exact, rel=1e-3), f"{coarse}, {fine} -> {extrapolated}, exact {exact}"
    assert fine == pytest.approx(exact, rel=1.5e-3)
