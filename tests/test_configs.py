"""Every shipped config: it loads, its case builds at a reduced size, its flow can be evaluated, its header tells enough."""

import gmsh
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluidgrad.app.cli import main
from fluidgrad.app.config.problem import Problem
from fluidgrad.app.config.reading import load, shipped_folder
from fluidgrad.app.kinds import KINDS
from fluidgrad.flow.residual import residual

CONFIGS = sorted(shipped_folder().glob("*.toml"))
SMALLER = {
    "box": "mesh.cells=[6, 6]",
    "channel": "mesh.cells=300",
    "o_grid": "mesh.cells=[16, 4]",
    "duct": "mesh.cells=300",
    "step": "mesh.cells=300",
    "file": "mesh.refine=1",
    "shell": "mesh.cells=[4, 4]",
}


@pytest.fixture(scope="module")
def beside(tmp_path_factory):
    """A folder with the configs, their meshes, and the mesh that one of them tells how to make."""
    folder = tmp_path_factory.mktemp("configs")
    for file in CONFIGS:
        (folder / file.name).write_text(file.read_text())
    for file in shipped_folder().glob("*.msh"):
        (folder / file.name).write_bytes(file.read_bytes())
    told = (folder / "imported.toml").read_text().split("# --- mesh.geo")[1].split("# ---")[0].splitlines()[1:]
    (folder / "mesh.geo").write_text("\n".join(line.removeprefix("#") for line in told))
    gmsh.initialize(interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.open(str(folder / "mesh.geo"))
        gmsh.option.setNumber("Mesh.MeshSizeFactor", 2.5)
        gmsh.model.mesh.generate(2)
        gmsh.write(str(folder / "mesh.msh"))
    finally:
        gmsh.finalize()
    return folder


def test_there_are_configs():
    assert {"cylinder_inflow", "cylinder_re20", "cavity_re1000"} <= {f.stem for f in CONFIGS}


@pytest.mark.parametrize("name", [f.name for f in CONFIGS])
def test_it_builds_and_its_residual_at_rest_is_finite(name, beside):
    config = load(beside / name, [SMALLER[load(beside / name).mesh.kind]])
    problem = Problem.of(config, name)
    flow = problem.case.flow(problem.case.numbers)
    assert flow.mesh.n_cells < (1000 if flow.mesh.dim == 2 else 5000)
    assert np.isfinite(jax.jit(residual)(flow, jnp.zeros(flow.n_unknowns))).all()


@pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.stem)
def test_its_header_says_what_it_shows_what_to_expect_and_how_long_it_takes(file):
    header = file.read_text().split("\n[")[0]
    assert header.startswith("# ") and all(word in header for word in ("Shows:", "Expect:", "Run time:"))
    assert "include" not in file.read_text(), "each file is complete"


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_study_begins_with_a_config_that_is_valid(kind, beside, monkeypatch, capsys):
    monkeypatch.chdir(beside)
    (beside / f"{kind}.toml").unlink(missing_ok=True)
    (beside / "my.toml").unlink(missing_ok=True)
    assert main(["new", kind, "my.toml"]) == 0
    assert (beside / "my.toml").read_text() == (shipped_folder() / f"{KINDS[kind]}.toml").read_text()
    assert main(["config", "validate", "my.toml", "--set", SMALLER[load("my.toml").mesh.kind]]) == 0
    assert "my.toml is valid" in capsys.readouterr().out


def test_new_lists_the_kinds_with_a_line_about_each(capsys):
    assert main(["new"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(KINDS)
    assert all(len(line.split()) > 5 for line in lines)
    assert main(["new", "shap"]) == 2
    printed = capsys.readouterr()
    assert printed.out.splitlines() == lines and "did you mean 'shape'?" in printed.err
