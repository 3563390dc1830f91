"""Every experiment runs, at a size that says nothing but that it works, and ends with the JSON line that it promises."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[1] / "experiments"

# The sizes of a smoke run, and the keys of the last line.
EXPERIMENTS = {
    "dfg_2d1": (
        "--cells 300 --refine 1 --fast 300 --repeats 1 --estimates 300",
        "cells cd cl dp order extrapolated_cd seconds_to_0.1_percent gradient_seconds",
    ),
    "dfg_3d1": ("--cells 300 --layers 3 --refine 1", "cells cd cl extrapolated_cd"),
    "cavity": ("--cells 16 --reynolds 100", "re1000_u_min re1000_v_max re1000_v_min re5000_u_min"),
    "taylor_couette": ("--cells 4 --estimates 4", "torque_error torque_imbalance order"),
    "shape_derivatives": (
        "--across 6 --cells 0",
        "torque_radius_error gap_error order ratio_10 ratio_1000 warm_over_cold",
    ),
    "unbounded_cylinder": ("--around 24 --radius 20 --reynolds 20", "re20_cd re40_cd re20_wake re40_wake"),
    "kovasznay": ("--cells 8 --meshes curved", "curved_velocity curved_pressure"),
    "journalling": ("--cells 300", "share"),
    "periodic_array": ("--fractions 0.2 --cells 100 --refine 1", "worst_error_to_0.4 worst_error least_order_to_0.4 worst_slope_error"),
    "minimum_drag_body": (
        "--flows Stokes --cells 300 --coefficients 2 --iterations 1",
        "stokes_drag_ratio stokes_end_angle_deg re40_drag_ratio area_error",
    ),
    "inner_products": (
        "--offsets 8 --cells 16 4 --most 1",
        "parameters_8 l2_8 h1_8",
    ),
    "device": (
        "--cells 1000 --repeats 1",
        "cells worst solve_s gradient_s residual_ns jvp_ns vjp_ns assembly_ns",
    ),
    "kernels": (
        "--squares 8 --cubes --large 300 --large-cube 0 --cold 300 --repeats 1",
        "residual jvp vjp assembly large_time large_memory cold_s warm_s",
    ),
    "large": (
        "--cells 1000 2000 3000 --others",
        "iterations_10k iterations_640k seconds_10k seconds_1m gradient_ratio_1m peak_gib_1m exponent",
    ),
    "several_devices": (
        "--cells 300 216 --devices 1 2",
        "channel_state_gap channel_gradient_gap channel_halo_kib cube_state_gap cube_gradient_gap cube_halo_kib",
    ),
    "gradient_cost": (
        "--cells 300 --memory-cells 300 --parameters 10 300 --repeats 1",
        "ratio_10 ratio_10000 ratio_warm peak_mib forward_s gradient_s",
    ),
}


# Even at that size.
SLOW = ("inner_products", "minimum_drag_body", "shape_derivatives", "journalling", "device", "kernels", "large", "several_devices")

# What starts processes of its own is run as one.
PROCESSES = {"kill_and_resume"}


def run(name: str, argv: str, capsys: pytest.CaptureFixture[str]) -> dict[str, float | None]:
    runpy.run_path(str(FOLDER / name / "run.py"))["main"](argv.split())
    return json.loads(capsys.readouterr().out.strip().splitlines()[-1])


# every day: inner products, journals, derivatives by shapes, kernels, backends and several devices in the tests of their modules
@pytest.mark.parametrize("name", [pytest.param(k, marks=pytest.mark.slow) if k in SLOW else k for k in EXPERIMENTS])
def test_experiment_ends_with_its_json_line(name: str, capsys: pytest.CaptureFixture[str]):
    argv, keys = EXPERIMENTS[name]
    result = run(name, argv, capsys)
    assert set(result) == set(keys.split())
    assert all(v is None or np.isfinite(v) for v in result.values())


def test_every_experiment_is_tested_and_explained():
    names = {p.parent.name for p in FOLDER.glob("*/run.py")}
    assert names == set(EXPERIMENTS) | PROCESSES
    assert all((FOLDER / name / "README.md").exists() for name in names)


@pytest.mark.slow
def test_cylinder_in_a_channel_reaches_the_published_figures(capsys: pytest.CaptureFixture[str]):
    found = run("dfg_2d1", "--repeats 1", capsys)
    assert found["cells"] <= 12000
    assert found["cd"] == pytest.approx(5.57953523, rel=1e-3)
    assert found["cl"] == pytest.approx(0.01061895, rel=1e-2)
    assert found["dp"] == pytest.approx(0.11752017, rel=5e-3)
    assert found["extrapolated_cd"] == pytest.approx(5.57953523, rel=3e-4)


@pytest.mark.slow
def test_cavity_reaches_the_published_figures(capsys: pytest.CaptureFixture[str]):
    found = run("cavity", "--reynolds 1000 5000", capsys)
    assert found["re1000_u_min"] == pytest.approx(-0.3885698, rel=5e-3)
    assert found["re1000_v_max"] == pytest.approx(0.3769447, rel=5e-3)
    assert found["re1000_v_min"] == pytest.approx(-0.5270771, rel=5e-3)
    assert found["re5000_u_min"] == pytest.approx(-0.446724, rel=2e-2)


@pytest.mark.slow
def test_torque_of_taylor_couette_flow(capsys: pytest.CaptureFixture[str]):
    found = run("taylor_couette", "", capsys)
    assert abs(found["torque_error"]) <= 2e-4
    assert found["order"] == pytest.approx(2.0, abs=0.1)


@pytest.mark.slow
def test_derivatives_by_shape_are_those_of_closed_forms(capsys: pytest.CaptureFixture[str]):
    found = run("shape_derivatives", "--cells 0", capsys)
    assert abs(found["torque_radius_error"]) <= 3e-3 and abs(found["gap_error"]) <= 3e-3
    assert found["order"] >= 1.8


@pytest.mark.slow
def test_unbounded_cylinder_reaches_the_published_figures(capsys: pytest.CaptureFixture[str]):
    found = run("unbounded_cylinder", "--around 192 --radius 200", capsys)
    assert found["re20_cd"] == pytest.approx(2.000, rel=5e-3)
    assert found["re40_cd"] == pytest.approx(1.497, rel=5e-3)
    assert found["re20_wake"] == pytest.approx(0.905, rel=1e-2)
    assert found["re40_wake"] == pytest.approx(2.240, rel=1e-2)


@pytest.mark.slow
def test_drag_of_arrays_of_cylinders_reaches_the_published_figures(capsys: pytest.CaptureFixture[str]):
    found = run("periodic_array", "", capsys)
    assert abs(found["worst_error_to_0.4"]) <= 0.01 and abs(found["worst_error"]) <= 0.01
    assert found["least_order_to_0.4"] >= 1.8 and abs(found["worst_slope_error"]) <= 1e-8


def kills(count: int, *options: str) -> dict[str, int | bool]:
    code = [sys.executable, str(FOLDER / "kill_and_resume" / "run.py"), "--kills", str(count), *options]
    found = subprocess.run(code, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout + found.stderr
    return json.loads(found.stdout.strip().splitlines()[-1])


@pytest.mark.slow  # every day: one that is killed, in test_resume.py
def test_killed_runs_go_on_to_the_same_journal_to_the_byte():
    assert kills(2, "--methods", "SciPy") == {"kills": 2, "survived": 2, "identical": True}


@pytest.mark.slow
def test_all_killed_runs_go_on_to_the_same_journal_to_the_byte():
    assert kills(50) == {"kills": 150, "survived": 150, "identical": True}
