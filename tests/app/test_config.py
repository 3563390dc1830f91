"""The config file: what it makes, and one clear line for everything that is wrong with it."""

from pathlib import Path

import numpy as np
import pytest

from fluidgrad.app.cli import main
from fluidgrad.app.config.case import get, put, walk
from fluidgrad.app.config.reading import load, parse
from fluidgrad.app.explaining import explain
from fluidgrad.app.report.output import toml
from fluidgrad.errors import InputError

TEXT = """
[mesh]
kind = "channel"
length = 2.2
height = 0.41
cells = 200
body = { kind = "circle", center = [0.2, 0.2], radius = 0.05 }

[flow]
viscosity = 1e-3

[boundary]
inlet  = { kind = "inflow", profile = { kind = "nodes", count = 8, start = "parabola", mean = 0.2 } }
outlet = { kind = "outflow" }
walls  = { kind = "wall" }
body   = { kind = "wall" }

[[design]]
vary = "boundary.inlet.profile.values"
bounds = [0.0, 0.6]

[objective]
minimize = { functional = "drag", patch = "body" }
subject_to = [ { functional = "flow_rate", patch = "inlet", equals = 0.082 } ]
"""


def config(*settings, text=TEXT, folder=Path(".")):
    return parse(text, "case.toml", folder, settings)


# ---- what a file makes


def test_numbers_have_the_paths_of_the_file():
    numbers = config().numbers()
    paths = dict(walk(numbers))
    assert list(paths) == [
        "mesh.length",
        "mesh.height",
        "mesh.body.center",
        "mesh.body.radius",
        "flow.viscosity",
        "boundary.inlet.profile.values",
        "boundary.outlet.pressure",
    ]
    assert paths["boundary.inlet.profile.values"].shape == (8,)
    assert get(numbers, "mesh.body.radius") == 0.05


def test_a_profile_that_starts_as_a_parabola_has_the_mean_exactly():
    for start in ("parabola", "uniform"):
        values = get(config(f"boundary.inlet.profile.start={start}").numbers(), "boundary.inlet.profile.values")
        assert values.sum() / 9 == pytest.approx(0.2, rel=1e-15)


def test_a_reference_is_among_the_numbers():
    case = config("flow.reference={velocity=0.5, length=0.2}", "objective.minimize.functional=drag_coefficient").case()
    assert get(case.numbers, "flow.reference.velocity") == 0.5
    assert float(case.flow(put(case.numbers, "flow.reference.length", 0.3)).reference[1]) == pytest.approx(0.3)


def test_put_changes_one_number_and_copies_nothing_else():
    numbers = config().numbers()
    changed = put(numbers, "flow.viscosity", 2e-3)
    assert get(changed, "flow.viscosity") == 2e-3 and get(numbers, "flow.viscosity") == 1e-3
    assert changed["mesh"] is numbers["mesh"]
    with pytest.raises(InputError, match="there is no number 'flow.viscosty'; did you mean 'flow.viscosity'?"):
        put(numbers, "flow.viscosty", 1.0)


def test_the_resolved_config_reads_back_the_same(tmp_path):
    (tmp_path / "profile.csv").write_text("0.1\n0.2 # middle\n0.1\n")
    first = config('boundary.inlet.profile={kind="nodes", file="profile.csv"}', "mesh.extrude={height=0.1, layers=2}", folder=tmp_path)
    assert first.boundary["inlet"].profile.values == [0.1, 0.2, 0.1]
    again = parse(toml(first.model_dump(exclude_none=True, mode="json")), "again.toml", Path("/nowhere"))
    assert again == first


def test_settings_may_be_any_toml_value_or_bare_text():
    found = config("flow.scheme=upwind", "mesh.cells=1_000", "mesh.body.center=[0.3, 0.2]", "design.0.bounds=[0.0, 0.5]", "units.length=m")
    assert (found.flow.scheme, found.mesh.cells, found.mesh.body.center, found.design[0].bounds[1], found.units.length) == (
        "upwind",
        1000,
        [0.3, 0.2],
        0.5,
        "m",
    )


def test_a_side_of_a_box_may_be_split_into_patches(tmp_path):
    found = config('mesh={kind="box", cells=[4, 4], patches={left=[["low", 0.0, 0.5], ["high", 0.5, 1]]}}')
    assert found.mesh.build(found.numbers()["mesh"]).patches == ("low", "high", "right", "bottom", "top")
    again = parse(toml(found.model_dump(exclude_none=True, mode="json")), "again.toml", tmp_path)
    assert again == found


def test_a_case_builds_its_flow_from_numbers():
    case = config().case()
    flow = case.flow(case.numbers)
    faces = len(np.asarray(flow.boundary["inlet"].speed))
    assert set(flow.mesh.patches) == {"inlet", "outlet", "walls", "body"}
    assert faces == flow.mesh.topology.patches["inlet"][1] - flow.mesh.topology.patches["inlet"][0]
    design = case.design("mesh.body.radius")
    moved = case.flow_of({"mesh.body.radius": 1.1 * design["mesh.body.radius"]})
    assert moved.mesh.topology == flow.mesh.topology
    assert not np.allclose(moved.mesh.points, flow.mesh.points)


def test_explain_tells_units_default_and_limits():
    assert explain("flow.viscosity") == "flow.viscosity: kinematic viscosity [L^2/T]; above 0; needed; a design may vary it"
    assert 'default "central"' in explain("flow.scheme")
    assert "speeds at the nodes" in explain("boundary.inlet.profile.values")
    with pytest.raises(InputError, match="there is no key 'viscosty' in 'flow.viscosty'; did you mean 'viscosity'?"):
        explain("flow.viscosty")


# ---- what is wrong with one: found before anything is computed

CONTROL = "mesh.control={{{}}}"
BAD = {
    "misspelt key": (
        ["flow.viscosty=1"],
        "unknown key 'viscosty' (--set flow.viscosty); did you mean 'viscosity'? accepted: viscosity, convection, scheme, force, reference",
    ),
    "misspelt section": (["optimiser.method=SLSQP"], "unknown key 'optimiser' (--set optimiser.method); did you mean 'optimizer'?"),
    "wrong type": (["flow.viscosity=thin"], 'viscosity must be a number, got "thin" (--set flow.viscosity)'),
    "boolean as a number": (["flow.viscosity=true"], "viscosity must be a number, got true"),
    "number as a boolean": (["flow.convection=1"], "convection must be true or false, got 1"),
    "negative viscosity": (["flow.viscosity=-0.01"], "viscosity must be positive, got -0.01"),
    "nan": (["flow.viscosity=nan"], "viscosity must be a finite number, got nan"),
    "nan in a table": (["boundary.inlet.profile={kind='nodes', values=[0.1, nan]}"], "values[1] must be a finite number, got nan"),
    "fraction of a cell": (["mesh.cells=2.5"], "cells must be a whole number, got 2.5"),
    "too many cells": (["mesh.cells=1000000000"], "1000000000 cells ([mesh] in case.toml); at most 2000000"),
    "refine below one": (["mesh.refine=0"], "refine must be at least 1, got 0"),
    "unknown mesh": (["mesh.kind=chanel"],
                     "mesh has the unknown kind 'chanel' (--set mesh.kind); did you mean 'channel'? one of box, channel"),
    "unknown body": (["mesh.body.kind=square"],
                     "body has the unknown kind 'square' (--set mesh.body.kind); one of circle, ellipse, fourier"),
    "unknown boundary": (["boundary.walls.kind=walk"],
                         "walls has the unknown kind 'walk' (--set boundary.walls.kind); did you mean 'wall'?"),
    "boundary without kind": (["boundary.walls={}"], "walls needs a kind"),
    "boundary as a number": (["boundary.walls=3"], "walls must be a table {...}, got 3"),
    "three coordinates": (["mesh.body.center=[1.0, 2.0, 3.0]"], "center has 3 entries, at most 2 are accepted (--set mesh.body.center)"),
    "one bound": (["design.0.bounds=[0.0]"], "bounds has 1 entries, at least 2 are needed"),
    "choice": (["flow.scheme=upwnd"], 'scheme must be one of central, upwind, got "upwnd" (--set flow.scheme); did you mean \'upwind\'?'),
    "two inflows in one": (["boundary.inlet.speed=0.1"], "an inflow with speed and profile ([boundary] inlet in case.toml); one of speed"),
    "no velocity": (["boundary.inlet={kind='inflow'}"],
                    "an inflow with no velocity (--set boundary.inlet); one of speed, velocity and profile"),
    "profile of the wrong length": (
        ["boundary.inlet.profile={kind='nodes', count=3, values=[0.1, 0.2]}"],
        "a profile has 2 values, but count = 3 (--set boundary.inlet.profile); as many values as count, or no count",
    ),
    "profile without values": (["boundary.inlet.profile={kind='nodes', count=3}"], "a profile of nodes without values"),
    "values and mean": (["boundary.inlet.profile={kind='nodes', values=[0.1], mean=1.0}"], "a profile has both values and start or mean"),
    "missing table": (["boundary.inlet.profile={kind='nodes', file='none.csv'}"], "No such file or directory"),
    "two constraints in one": (["objective.subject_to.0.at_most=1.0"], "a constraint with equals and at_most"),
    "constraint without limit": (["objective.subject_to=[{functional='drag', patch='body'}]"], "a constraint with no limit"),
    "two objectives": (["objective.maximize={functional='lift', patch='body'}"], "an objective needs one of minimize and maximize"),
    "the same number twice": (["design=[{vary='flow.viscosity', bounds=[0.0, 1.0]}, {vary='flow.viscosity', bounds=[0.0, 1.0]}]"],
                              "'flow.viscosity' varies twice"),
    "body and bodies": (["mesh.bodies={a={kind='circle', center=[1.0, 0.2], radius=0.05}}"], "both body and bodies are given"),
    "tolerance": (["solver.tolerance=2.0"], "tolerance must be below 1, got 2"),
    "setting without value": (["flow.viscosity"], "--set flow.viscosity; --set section.key=value"),
    "setting that is no TOML": (["mesh={kind=3,}"], "--set mesh: {kind=3,} is not TOML: "),
    "setting through a number": (["flow.viscosity.x=1"], "'flow.viscosity' is not a table of the config"),
    "corners of a box": ([CONTROL.format("lower=[1.0], upper=[1.5, 0.5], counts=[3, 3]")], "lower has 1 entries, at least 2 are needed"),
    "corners in 3D": ([CONTROL.format("lower=[1.0, 0.0, 0.0], upper=[1.5, 0.5], counts=[3, 3]")], "lower has 3 entries, and counts has 2"),
    "all held": ([CONTROL.format("lower=[1.0, -0.1], upper=[1.5, 0.5], counts=[2, 3], hold=['left', 'right']")],
                 "all control points are held"),
    "a face of 3D": ([CONTROL.format("lower=[1.0, -0.1], upper=[1.5, 0.5], counts=[2, 3], hold=['front']")],
                     "hold has 'front'"),
    "an axis of 3D": ([CONTROL.format("lower=[1.0, -0.1], upper=[1.5, 0.5], counts=[2, 3], directions=['z']")], "directions has 'z'"),
    "no axis": ([CONTROL.format("lower=[1.0, -0.1], upper=[1.5, 0.5], counts=[2, 3], directions=[]")],
                "directions has 0 entries, at least 1 are needed"),
    "one control point": ([CONTROL.format("lower=[1.0, -0.1], upper=[1.5, 0.5], counts=[1, 3]")], "counts[0] must be at least 2, got 1"),
    "too many": ([CONTROL.format("lower=[1.0, -0.1], upper=[1.5, 0.5], counts=[200, 300]")],
                 "60000 control points (--set mesh.control); at most 10000"),
    "displacements": ([CONTROL.format("lower=[1.0, -0.1], upper=[1.5, 0.5], counts=[3, 3], hold=['left'], displacements=[[0.0, 0.0]]")],
                      "displacements of 1 rows (--set mesh.control); 6 rows (free control points) of 2 numbers"),
    "uneven displacements": ([CONTROL.format("lower=[1.0, -0.1], upper=[1.5, 0.5], counts=[3, 3], displacements=[[0.0], [0.0, 1.0]]")],
                             "rows of displacements of different lengths"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line_with_exit_code_2(case, tmp_path, capsys, monkeypatch):
    settings, expected = BAD[case]
    monkeypatch.chdir(tmp_path)
    Path("case.toml").write_text(TEXT)
    arguments = [word for setting in settings for word in ("--set", setting)]
    assert main(["run", "case.toml", *arguments]) == 2
    printed = capsys.readouterr()
    assert expected in printed.err and printed.err.count("\n") == 1 and "Traceback" not in printed.err
    assert sorted(f.name for f in tmp_path.iterdir()) == ["case.toml"], "something was written"


FILES = {
    "not toml": (
        TEXT.replace("[flow]", "[flow"),
        "case.toml is not TOML: expected ']' at the end of a table declaration (at line 9, column 6)",
    ),
    "a key twice": (TEXT + "minimize = 3\n", "case.toml is not TOML: cannot overwrite a value (at line"),
    "missing section": ("[flow]\nviscosity = 1.0\n", "mesh is missing ([mesh] in case.toml); where it flows"),
    "missing key": (
        TEXT.replace("viscosity = 1e-3", ""),
        "viscosity is missing ([flow] viscosity in case.toml); kinematic viscosity [L^2/T]",
    ),
    "misspelt key in the file": (
        TEXT.replace("radius", "raduis"),
        "unknown key 'raduis' ([mesh] body.raduis in case.toml); did you mean 'radius'?",
    ),
    "design without objective": (TEXT[: TEXT.index("[objective]")], "there is a [[design]] but no [objective] (case.toml)"),
    "design as a table": (TEXT.replace("[[design]]", "[design]"), "design must be a list [...]"),
}


@pytest.mark.parametrize("case", FILES)
def test_a_bad_file_is_refused_with_its_place(case, tmp_path, capsys):
    text, expected = FILES[case]
    (tmp_path / "case.toml").write_text(text)
    assert main(["run", str(tmp_path / "case.toml")]) == 2
    assert expected in capsys.readouterr().err


def test_tables_are_refused_with_their_row(tmp_path):
    table = tmp_path / "profile.csv"
    for text, expected in (
        ("0.1\nabc\n", "row 2 of .* is 'abc' .*; one number a row"),
        ("0.1\nnan\n", "row 2 of .* is 'nan' .*; finite numbers"),
        ("# nothing\n", "holds no numbers"),
    ):
        table.write_text(text)
        with pytest.raises(InputError, match=expected):
            config("boundary.inlet.profile={kind='nodes', file='profile.csv'}", folder=tmp_path)
    table.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="it is not text"):
        config("boundary.inlet.profile={kind='nodes', file='profile.csv'}", folder=tmp_path)


def test_points_of_a_body_come_from_a_file_beside_the_config(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    np.savetxt(
        tmp_path / "body.csv", np.column_stack([0.2 + 0.05 * np.cos(angle), 0.2 + 0.05 * np.sin(angle)]), delimiter=",", header="x,y"
    )
    found = config("mesh.body={kind='points', file='body.csv'}", folder=tmp_path)
    assert np.asarray(found.mesh.body.points).shape == (12, 2)
    with pytest.raises(InputError, match="both file and points are given"):
        config("mesh.body={kind='points', file='body.csv', points=[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]}", folder=tmp_path)


# ---- found when the case is built, still before a solve

CASES = {
    "patch without a condition": (
        TEXT.replace('walls  = { kind = "wall" }', ""),
        [],
        "patch 'walls' has no boundary condition ([boundary] in case.toml); add walls = { kind = \"wall\" }",
    ),
    "condition without a patch": (
        TEXT.replace("walls  =", "wals  ="),
        [],
        "the mesh has no patch 'wals' ([boundary] in case.toml); did you mean 'walls'?",
    ),
    "body touching a wall": (TEXT, ["mesh.body.center=[0.3, 0.05]"],
                             "body touches or crosses the bottom wall near (0.3, 0) ([mesh] in case.toml)"),
    "self-crossing body": (
        TEXT,
        ["mesh.body={kind='points', points=[[0.1, 0.1], [0.3, 0.3], [0.3, 0.1], [0.1, 0.3]]}"],
        "crosses itself between points",
    ),
    "no outflow": (TEXT, ["boundary.outlet={kind='inflow', speed=0.1}"], "nothing can flow out, but the inflows do not sum to zero"),
    "speeds of the wrong length": (TEXT, ["boundary.inlet={kind='inflow', speed=[0.1, 0.2]}", "design=[]"],
                                   "speed of patch 'inlet' has shape (2,)"),
    "missing mesh file": (TEXT, ["mesh={kind='file', path='none.msh'}"], "there is no mesh file"),
    "unsupported mesh file": (TEXT, ["mesh={kind='file', path='case.toml'}"], "is not a .msh file"),
    "unknown functional": (TEXT, ["objective.minimize.functional=darg"],
                           "there is no functional 'darg' ([objective] minimize in case.toml); did you mean 'drag'?"),
    "unknown argument": (TEXT, ["objective.minimize.ptch=body"],
                         "drag has no argument 'ptch' ([objective] minimize in case.toml); did you mean 'patch'?"),
    "missing argument": (TEXT, ["objective.minimize={functional='drag'}"], "drag needs patch"),
    "functional on no patch": (TEXT, ["objective.subject_to.0.patch=inlt"],
                               "the mesh has no patch 'inlt' ([objective] subject_to[0] in case.toml); did you mean 'inlet'?"),
    "coefficient without reference": (TEXT, ["objective.minimize.functional=drag_coefficient"],
                                      "a coefficient needs a reference velocity and length"),
    "design of nothing": (TEXT, ["design.0.vary=boundary.inlet.profile.vals"],
                          "there is no number 'boundary.inlet.profile.vals' ([[design]] 1 vary in case.toml); "
                          "did you mean 'boundary.inlet.profile.values'?"),
    "bounds that exclude": (TEXT, ["design.0.bounds=[0.6, 0.0]"], "a lower bound below the upper one"),
    "start outside the bounds": (TEXT, ["design.0.bounds=[0.0, 0.1]"], "outside its bounds [0, 0.1]"),
    "infeasible": (TEXT, ["objective.subject_to.0.equals=0.5"],
                   "the constraints are infeasible: flow_rate(inlet) cannot equal 0.5, the nearest within the bounds is 0.2"),
    "method without equalities": (TEXT, ["optimizer.method=MMA"],
                                  "MMA cannot take the equality 'flow_rate(inlet)' ([optimizer] in case.toml)"),
    "unknown method": (TEXT, ["optimizer.method=SQP"], "unknown method 'SQP' ([optimizer] in case.toml)"),
    "method in small letters": (TEXT, ["optimizer.method=slsqp"], "did you mean 'SLSQP'?"),
    "probe outside the flow": (TEXT, ["objective.minimize={functional='probe', at=[50.0, 50.0]}"],
                               "at = [50.0, 50.0] is outside the mesh ([objective] minimize in case.toml); a place in the flow"),
    "probe inside the body": (TEXT, ["objective.minimize={functional='probe', at=[0.2, 0.2]}"], "at = [0.2, 0.2] is outside the mesh"),
    "probe at no place": (TEXT, ["objective.minimize={functional='probe', at=[0.5]}"],
                          "at = [0.5] ([objective] minimize in case.toml); 2 numbers, in a list"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_bad_case_is_refused_and_leaves_no_folder(case, tmp_path, capsys, monkeypatch):
    text, settings, expected = CASES[case]
    monkeypatch.chdir(tmp_path)
    Path("case.toml").write_text(text)
    assert main(["run", "case.toml", *[word for s in settings for word in ("--set", s)]]) == 2
    printed = capsys.readouterr()
    assert expected in printed.err and "Traceback" not in printed.err
    assert not list((tmp_path / "runs").iterdir()), "a run folder was left"


def test_shipped_configs_are_found_by_name():
    assert load("cylinder_inflow").mesh.kind == "channel"
    with pytest.raises(InputError, match="cannot read 'cylinder_inflw': there is no such file; did you mean 'cylinder_inflow'?"):
        load("cylinder_inflw")
