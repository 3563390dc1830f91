"""Names that users give: as files, as keys of paths, on pages and in pictures."""

import json
import shutil

import numpy as np
import pytest
from cases import TINY
from hypothesis import given, settings
from hypothesis import strategies as st

import fluidgrad as fg
from fluidgrad.app import commands
from fluidgrad.app.config.case import get, put, walk
from fluidgrad.app.config.paths import dotted, steps
from fluidgrad.app.config.reading import apply, parse
from fluidgrad.app.report import page, wall_maps
from fluidgrad.app.report.output import toml, write_arrays
from fluidgrad.app.report.screen import QUIET
from fluidgrad.app.runs.redrawing import report
from fluidgrad.files import file_name
from fluidgrad.plots import study as study_plots
from fluidgrad.plots.style import Labels

SCRIPT, LONG = "<script>alert(1)</script>", "x" * 300
HOSTILE = [
    "../../x",
    "..",
    ".",
    "/etc/passwd",
    "C:\\x",
    SCRIPT,
    LONG,
    "",
    " ",
    "a.b",
    "a\0b",
    "nul",
    "COM1",
    "a:b",
    "-",
    "\ud800",
    "流れ",
    "ä",
    "a\u0308",
]


@pytest.mark.parametrize("name", ["body", "Wall_2", "inlet-left", "x" * 60])
def test_plain_names_are_their_files(name):
    assert file_name(name) == name


@pytest.mark.parametrize("name", HOSTILE)
def test_any_name_is_a_file_of_the_folder_on_every_system(name):
    found = file_name(name)
    assert found.isascii() and 0 < len(found) <= 60 and not set(found) & set('/\\:*?"<>|. \0')


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.text(), unique=True), st.sampled_from([str, str.upper, file_name]))
def test_two_names_never_have_one_file(names, change):
    names = list(dict.fromkeys([*names, *map(change, names), *HOSTILE]))
    assert len({file_name(n, names).lower() for n in names}) == len(names)


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.text(), min_size=1))
def test_a_path_is_the_path_of_its_keys(keys):
    assert steps(dotted(keys)) == keys


def test_keys_with_dots_stand_in_quotes():
    assert steps("boundary.'a.b'.speed") == steps('boundary."a.b".speed') == ["boundary", "a.b", "speed"]
    assert steps('a"b.c') == ['a"b', "c"] and dotted(["boundary", "a.b", 0]) == 'boundary."a.b".0'
    numbers = {"bodies": {"a.b": {"radius": 1.0}}}
    (path,) = dict(walk(numbers))
    assert path == 'bodies."a.b".radius' and get(put(numbers, path, 2.0), path) == 2.0
    data = {}
    assert apply(data, 'bodies."a.b=c".radius = 3') == 'bodies."a.b=c".radius' and data == {"bodies": {"a.b=c": {"radius": 3}}}


RENAMED = TINY.replace('left = "inlet", right = "outlet", bottom = "walls", top = "walls"',
                       'left = "in.let", right = "viscosity", bottom = "../../x", top = "' + SCRIPT + LONG + '"')  # fmt: skip
RENAMED = (
    RENAMED[: RENAMED.index("\n[boundary]")]
    + f"""convection = false

[boundary]
"in.let" = {{ kind = "inflow", profile = {{ kind = "nodes", values = [2.0, 1.5, 1.0, 0.5] }} }}
"viscosity" = {{ kind = "outflow" }}
"../../x" = {{ kind = "wall" }}
"{SCRIPT}{LONG}" = {{ kind = "wall" }}

[objective]
minimize = {{ functional = "drag", patch = ["../../x", "{SCRIPT}{LONG}"] }}

[output]
figures = false
finer_mesh = false
stability = false
"""
)


def test_hostile_names_stay_in_the_folder_and_off_the_page(tmp_path):
    (tmp_path / "a" / "b" / "c").mkdir(parents=True)
    (tmp_path / "case.toml").write_text(RENAMED)
    folder = commands.sensitivity(str(tmp_path / "case.toml"), level=QUIET, root=tmp_path / "a" / "b" / "c")
    files = {p for p in tmp_path.rglob("*") if p.is_file() and p.name != "case.toml"}
    assert files and all(p.parent == folder for p in files)
    assert {p.name for p in folder.glob("wall_*.csv")} == {f"wall_{file_name(n)}.csv" for n in ("../../x", SCRIPT + LONG)}
    assert 'boundary."in.let".profile.values' in json.loads((folder / "results.json").read_text())["per_per_cent"]
    text = page.write(folder).read_text()
    assert "alert(1)" in text and SCRIPT not in text
    parse((folder / "config.toml").read_text(), "config.toml", folder)
    report([str(folder)])
    assert all(p.parent in (folder, folder / "figures") for p in tmp_path.rglob("*") if p.is_file() and p.name != "case.toml")
    shutil.rmtree(folder)


def test_walls_called_as_the_start_of_others_have_pictures_of_their_own(tmp_path, monkeypatch):
    line = {"s": np.arange(3.0), "x": np.eye(3)[:, :2], "n": np.eye(3)[:, :2], "value": np.ones(3), "weight": np.ones(3)}
    names = [f"{which}/{patch}" for which in ("start", "optimum") for patch in ("a", "a_start")]
    write_arrays(tmp_path / wall_maps.FILE, **{f"{name}/{key}": column for name in names for key, column in line.items()})
    drawn = []
    monkeypatch.setattr(wall_maps.sensitivity_plots, "wall", lambda file, *_: drawn.append(file.name))
    flat = fg.box(cells=(1, 1))
    wall_maps.draw(tmp_path, Labels("m", "s"), "drag(a)", "L^3 T^-2", (flat, flat), 0.0)
    assert sorted(drawn) == ["wall_a.png", "wall_a_start.png", "wall_a_start_start.png", "wall_a~start.png"]


def test_keys_of_any_script_are_written_as_toml():
    assert apply(data := {}, 'boundary."😀\\"".kind = "wall"') and data["boundary"].keys() == {'😀"'}
    assert "😀" in toml(data) and "\\ud83d" not in toml(data)


@pytest.mark.parametrize("name", ["$\\frac", "a$b", "$$", "$x_$"])
def test_a_name_that_is_no_formula_is_drawn_as_it_is(name, tmp_path):
    study_plots.values(tmp_path / "a.png", {name: np.zeros(2)}, {name: np.ones(2)}, title=name)
    assert (tmp_path / "a.png").stat().st_size > 1000
