"""The commands, end to end on tiny meshes: what they print, leave behind and return."""

import csv
import hashlib
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cases import TINY

from fluidgrad.app import commands
from fluidgrad.app.cli import main
from fluidgrad.app.report.output import new_folder
from fluidgrad.app.report.screen import QUIET
from fluidgrad.files import write


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    (folder / "tiny.toml").write_text(TINY + "\n[output]\nfigures = false\nfiner_mesh = false\nstability = false\n")
    return folder


def read(folder):
    return json.loads((folder / "results.json").read_text())


FLOW = ("speed", "pressure", "vorticity", "stream_function", "walls")  # pictures of a flow


def test_help_comes_within_a_second_and_without_jax():
    heavy = "print([m for m in ('jax', 'matplotlib', 'pydantic') if m in sys.modules])"
    code = f"import sys; from fluidgrad.app.cli import main; main(['--help']); {heavy}"
    began = time.perf_counter()
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.stdout.splitlines()[-1] == "[]"
    assert time.perf_counter() - began < 5, "a loaded machine may be slow, but not that slow"
    assert all(command in found.stdout for command in ("run", "check", "sensitivity", "report", "new", "config"))


def test_a_simulation_leaves_a_folder_that_explains_itself(simulation):
    found = {str(f.relative_to(simulation)) for f in simulation.rglob("*") if f.is_file() and f.name != ".lock"}
    assert found == {
        "config.toml",
        "manifest.json",
        "results.json",
        "solution.npz",
        "fields.nc",
        "fields.vtu",
        "walls.csv",
        "walls.vtu",
        "report.html",
        *(f"figures/{n}.png" for n in ("mesh", "quality", *FLOW)),
    }
    result = read(simulation)
    assert result["converged"] and result["solve"]["residual"] <= 1e-10
    assert result["figures"]["flow_rate(inlet)"] == {"value": pytest.approx(1.0, rel=1e-12), "units": "m^2 s^-1"}
    manifest = json.loads((simulation / "manifest.json").read_text())
    assert {"fluidgrad", "commit", "devices", "dtype", "threads", "packages"} <= set(manifest)
    assert manifest["dtype"] == "float64"


def test_the_path_is_the_first_and_the_last_line(here, capsys):
    assert main(["run", str(here / "tiny.toml"), "--set", "design=[]", "--runs", str(here / "runs")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == lines[-1] and Path(lines[0]).is_dir()
    assert any("compiling" in line for line in lines)


def test_a_design_improves_and_is_compared_on_a_finer_mesh(design):
    result = read(design)
    assert result["improvement"] > 0.01
    assert result["optimum"]["flow_rate(inlet)"]["value"] == pytest.approx(1.0, abs=1e-5)
    fine = result["finer_mesh"]
    assert all(row["stable"] and row["growth_rate"] < 0 for row in result["stability"].values()) and len(result["stability"]) == 2
    assert fine["compared"] and fine["refine"] == 2 and not fine["vanished"]
    assert fine["improvement"] == pytest.approx(result["improvement"], rel=0.6)
    with (design / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"objective", "violation", "gradient_norm", "primal_residual", "adjoint_residual", "seconds"} - set(rows[0]) == {"objective"}
    assert float(rows[0]["dissipation()"]) == pytest.approx(result["start"]["dissipation()"]["value"], rel=1e-9)
    assert (design / "journal.jsonl").is_file() and list((design / "states").iterdir())
    figures = {"mesh", "quality", "speed_start", "history", "design", *FLOW}
    assert {f.stem for f in (design / "figures").iterdir()} == figures
    with np.load(design / "design.npz") as data:
        assert data["optimum/boundary.inlet.profile.values"].shape == (4,)


def test_a_maximum_is_reported_with_its_own_sign(here):
    settings = [
        "objective.minimize={functional='dissipation'}",
        "objective={maximize={functional='dissipation'}}",
        "optimizer.max_iterations=1",
    ]
    folder = commands.run(str(here / "tiny.toml"), settings[1:], level=QUIET, root=here / "runs")
    result = read(folder)
    assert result["sense"] == "maximize"
    assert result["optimum"]["dissipation()"]["value"] > result["start"]["dissipation()"]["value"] > 0
    assert result["improvement"] > 0


def test_run_folders_are_never_overwritten(tmp_path):
    assert [new_folder("a", tmp_path).name for _ in range(3)] == ["a-1", "a-2", "a-3"]
    (tmp_path / "a-7").mkdir()
    assert new_folder("a", tmp_path).name == "a-8"
    for other in ("a-²", "a-b-9", f"a-{'9' * 5000}"[:250], "a-", "a[1]-3"):
        (tmp_path / other).mkdir()
    assert new_folder("a", tmp_path).name == "a-9" and new_folder("a[1]", tmp_path).name == "a[1]-4"


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    write(tmp_path / "file", "old")
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError):
        write(tmp_path / "file", "new")
    assert [f.name for f in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "old"


def test_the_resolved_config_of_a_run_runs_again_to_the_same_figures(simulation, here):
    unseen = ["output.figures=false", "output.stability=false"]
    again = commands.run(str(simulation / "config.toml"), unseen, level=QUIET, root=here / "again")
    assert read(again)["figures"] == read(simulation)["figures"]


def test_sensitivity_gives_the_derivative_by_every_number(sensitivities, here):
    folder = sensitivities
    with (folder / "derivatives.csv").open() as file:
        rows = {(r["number"], r["index"]): float(r["per_unit"]) for r in csv.DictReader(file)}
    assert len(rows) == 2 + 2 + 1 + 4 + 1
    assert {f.stem for f in (folder / "figures").iterdir()} == {
        "mesh", "quality", "porosity", "adjoint_velocity", "inflow", "wall_walls", "numbers", "error", *FLOW
    }  # fmt: skip
    accuracy = read(folder)["accuracy"]
    assert accuracy["estimated"] and accuracy["finer_cells"] == 4 * 36
    assert accuracy["without_error"] == pytest.approx(read(folder)["objective"]["value"] + accuracy["error"])
    with (folder / "wall_walls.csv").open() as file:
        assert set(next(csv.DictReader(file))) == {"s", "x", "y", "nx", "ny", "value", "weight", "smoothed"}

    def drop(viscosity):
        again = commands.run(str(here / "tiny.toml"), ["design=[]", f"flow.viscosity={viscosity}"], level=QUIET, root=here / "runs")
        return read(again)["figures"]["pressure_drop(inlet, outlet)"]["value"]

    h = 1e-4
    difference = (drop(0.1 + h) - drop(0.1 - h)) / (2 * h)
    assert rows["flow.viscosity", ""] == pytest.approx(difference, rel=1e-5)
    assert rows["boundary.outlet.pressure", ""] == pytest.approx(0, abs=1e-9), "a level of the pressure changes no drop"


def test_check_prints_json_and_nothing_else(here, capsys):
    assert main(["check", str(here / "tiny.toml"), "--json", "--runs", str(here / "runs")]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"verdict", "taylor_rate", "dot_product_gap", "best_difference_error"}
    assert found["verdict"] == "passed" and found["taylor_rate"] >= 1.95
    assert found["dot_product_gap"] <= 1e-12 and found["best_difference_error"] <= 1e-8


def test_a_start_on_bounds_beyond_which_there_is_no_flow_is_moved_off_them(here, capsys):
    screen = ["porosity={density=0.0, per_cell=true}", 'design=[{vary="porosity.density", bounds=[0.0, 2.0]}]']
    settings = [word for setting in screen for word in ("--set", setting)]
    assert main(["check", str(here / "tiny.toml"), *settings, "--runs", str(here / "runs")]) == 0
    said = capsys.readouterr().out
    assert "start, off its bounds by 0.02 of their width" in said and "beyond which there is no flow" not in said


def test_a_wrong_gradient_fails_the_check_with_exit_code_1(here, capsys):
    (here / "wrong.py").write_text(
        "import jax\n"
        "from fluidgrad import functional, dissipation\n"
        "@jax.custom_jvp\n"
        "def bent(x): return x\n"
        "bent.defjvp(lambda p, t: (p[0], 1.01 * t[0]))\n"
        "@functional(units='1')\n"
        "def bent_dissipation(solution): return bent(dissipation.function(solution))\n"
    )
    settings = ["--set", "objective={minimize={functional='bent_dissipation'}}", "--import", str(here / "wrong.py")]
    assert main(["check", str(here / "tiny.toml"), *settings, "--json", "--runs", str(here / "runs")]) == 1
    assert json.loads(capsys.readouterr().out)["verdict"] == "failed"


def test_a_users_functional_is_imported_and_kept_with_its_hash(here, capsys):
    source = (
        "from fluidgrad import functional, flow_rate\n"
        "@functional(units='L^2 T^-1')\n"
        "def doubled(solution, patch):\n"
        "    return 2 * flow_rate(solution, patch)\n"
    )
    (here / "mine.py").write_text(source)
    settings = ["design=[]", "objective={minimize={functional='doubled', patch='inlet'}}"]
    folder = commands.run(str(here / "tiny.toml"), settings, [str(here / "mine.py")], level=QUIET, root=here / "runs")
    assert read(folder)["figures"]["doubled(inlet)"]["value"] == pytest.approx(2.0)
    assert (folder / "mine.py").read_text() == source
    assert json.loads((folder / "manifest.json").read_text())["imports"] == {"mine.py": hashlib.sha256(source.encode()).hexdigest()}
    # the folder's copy runs when it is named, and not before
    (folder / "mine.py").write_text(source + "print('run')\n")
    capsys.readouterr()
    assert main(["report", str(folder)]) == 2
    out, err = capsys.readouterr()
    assert "used the functionals in 'mine.py'; --import" in err and "run\n" not in out
    assert main(["report", str(folder), "--import", str(folder / "mine.py")]) == 0


def test_an_import_that_raises_is_bad_input(here, capsys):
    (here / "broken.py").write_text("1 / 0\n")
    assert main(["run", str(here / "tiny.toml"), "--import", str(here / "broken.py"), "--runs", str(here / "none")]) == 2
    assert "broken.py cannot be imported: ZeroDivisionError: division by zero" in capsys.readouterr().err
    assert main(["run", str(here / "tiny.toml"), "--import", "nothing.py", "--runs", str(here / "none")]) == 2
    assert "there is no file 'nothing.py' to import" in capsys.readouterr().err


def test_a_functional_that_raises_is_bad_input_and_one_that_is_nan_is_not_converged(here, capsys):
    (here / "odd.py").write_text(
        "from fluidgrad import functional\n"
        "@functional(units='1')\n"
        "def boom(solution): raise KeyError('oops')\n"
        "@functional(units='1')\n"
        "def nothing(solution): return solution.pressure.sum() * float('nan')\n"
    )

    def run(name):
        settings = ["--set", "design=[]", "--set", f"objective={{minimize={{functional='{name}'}}}}", "--import", str(here / "odd.py")]
        return main(["run", str(here / "tiny.toml"), *settings, "--runs", str(here / "odd")])

    assert run("boom") == 2
    expected = "boom() cannot be evaluated: KeyError: 'oops' ([objective] minimize in tiny.toml)"
    assert expected in capsys.readouterr().err and not list((here / "odd").iterdir())
    assert run("nothing") == 1
    printed = capsys.readouterr()
    assert "the flow was found, but nothing() is nan there. Last state: " in printed.err
    assert (Path(printed.out.splitlines()[0]) / "last_good.npz").exists()


def test_a_search_without_a_feasible_design_keeps_its_results_and_exits_1(here, capsys):
    settings = ["--set", "objective.subject_to=[{functional='dissipation', at_most=-1.0}]", "--runs", str(here / "never")]
    assert main(["run", str(here / "tiny.toml"), *settings]) == 1
    printed = capsys.readouterr()
    assert "no feasible design was found: dissipation() is" in printed.err and "must be at most -1" in printed.err
    assert "better by" not in printed.out.split("again on")[0]
    found = read(Path(printed.out.splitlines()[0]))
    assert found["feasible"] is False and found["converged"] is False


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("optimizer.method=MMA", "MMA cannot take the equality"),
        ("design.0.bounds=[2.5, 3.0]", "outside its bounds [2.5, 3]"),
        ("objective.subject_to.0.equals=50.0", "the constraints are infeasible"),
    ],
)
def test_validate_refuses_what_run_would(here, capsys, setting, expected):
    assert main(["config", "validate", str(here / "tiny.toml"), "--set", setting]) == 2
    assert expected in capsys.readouterr().err


def test_a_solve_that_fails_exits_1_and_keeps_its_last_state(here, capsys):
    assert main(["run", str(here / "tiny.toml"), "--set", "design=[]", "--set", "flow.viscosity=1e-9", "--runs", str(here / "failed")]) == 1
    printed = capsys.readouterr()
    folder = Path(printed.out.splitlines()[0])
    assert printed.err.startswith("not converged: no convergence: residual") and str(folder / "last_good.npz") in printed.err
    with np.load(folder / "last_good.npz") as data:
        assert np.isfinite(data["velocity"]).all()
    assert read(folder)["converged"] is False


def test_report_draws_again_from_saved_data(simulation, design, tmp_path, capsys):
    simulation, design = (shutil.copytree(f, tmp_path / name) for f, name in ((simulation, "flow"), (design, "study")))
    drawn = [simulation / "figures" / "speed.png", design / "figures" / "design.png"]
    before = [f.read_bytes() for f in drawn]
    for f in drawn:
        f.unlink()
    assert main(["report", str(simulation), str(design)]) == 0
    assert [f.read_bytes() for f in drawn] == before
    pages = [f / "report.html" for f in (simulation, design)]
    assert capsys.readouterr().out.splitlines() == [*map(str, pages), str(tmp_path / "comparison.html")]
    assert main(["report", "nowhere"]) == 2


def test_new_writes_a_config_that_validates(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "inflow"]) == 0
    assert main(["config", "validate", "inflow.toml", "--set", "mesh.cells=300"]) == 0
    assert "inflow.toml is valid" in capsys.readouterr().out
    assert main(["new", "inflow"]) == 2
    assert "'inflow.toml' exists already" in capsys.readouterr().err
    assert main(["new", "inflo"]) == 2
    assert "there is no template 'inflo'; did you mean 'inflow'?" in capsys.readouterr().err


def test_config_explains_and_prints_its_schema(capsys):
    assert main(["config", "explain", "flow.viscosity"]) == 0
    assert "kinematic viscosity [L^2/T]" in capsys.readouterr().out
    assert main(["config", "schema"]) == 0
    assert "boundary" in json.loads(capsys.readouterr().out)["properties"]
    assert main(["config", "explane"]) == 2
    assert "did you mean 'explain'?" in capsys.readouterr().err


def test_usage_errors_exit_with_2(capsys):
    assert main(["run"]) == 2
    assert main(["walk"]) == 2
    assert main(["run", "nothing.toml"]) == 2
    assert "cannot read 'nothing.toml': there is no such file" in capsys.readouterr().err
