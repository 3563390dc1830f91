"""Every shipped config: it loads, its case builds at a reduced size, its flow can be evaluated, its header tells enough."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluidgrad.app.problem import Problem
from fluidgrad.app.reading import load, shipped_folder
from fluidgrad.residual import residual

CONFIGS = sorted(shipped_folder().glob("*.toml"))
SMALLER = {"box": "mesh.cells=[6, 6]", "channel": "mesh.cells=300", "o_grid": "mesh.cells=[16, 4]"}


def test_there_are_configs():
    assert {"cylinder_inflow", "cylinder_re20", "cavity_re1000"} <= {f.stem for f in CONFIGS}


@pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.stem)
def test_it_builds_and_its_residual_at_rest_is_finite(file):
    config = load(file, [SMALLER[load(file).mesh.kind]])
    problem = Problem.of(config, file.name)
    flow = problem.case.flow(problem.case.numbers)
    assert flow.mesh.n_cells < 1000
    assert np.isfinite(jax.jit(residual)(flow, jnp.zeros(flow.n_unknowns))).all()


@pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.stem)
def test_its_header_says_what_it_shows_what_to_expect_and_how_long_it_takes(file):
    header = file.read_text().split("\n[")[0]
    assert header.startswith("# ") and all(word in header for word in ("Shows:", "Expect:", "Run time:"))
    assert "include" not in file.read_text(), "each file is complete"
