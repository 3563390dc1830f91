"""``config explain`` knows every key, and ``config schema`` takes every valid config and no other key."""

import json
import tomllib
from pathlib import Path

import jsonschema
import pytest
from cases import TINY as COMMANDS
from test_config import TEXT, config
from test_malformed import TINY

from fluidgrad.app.cli import main
from fluidgrad.app.config.config import Config
from fluidgrad.app.config.reading import apply, shipped_folder
from fluidgrad.app.config.sections import TRACED, models_in
from fluidgrad.app.explaining import explain, schema
from fluidgrad.design.optimizers import METHODS
from fluidgrad.errors import InputError
from fluidgrad.flow.functionals import REGISTRY

SHIPPED = sorted(shipped_folder().glob("*.toml"))
CHECK = jsonschema.Draft202012Validator(json.loads(schema()))


def sections(model=Config, found=None):
    """Every model that a config is made of."""
    found = [] if found is None else found
    if model not in found:
        found.append(model)
        for field in model.model_fields.values():
            for inner in models_in(field.annotation):
                sections(inner, found)
    return found


FIELDS = [(m, name, f) for m in sections() for name, f in m.model_fields.items() if name != "kind"]


@pytest.mark.parametrize(("model", "name", "field"), FIELDS, ids=[f"{m.__name__}.{name}" for m, name, _ in FIELDS])
def test_every_key_has_a_meaning_and_every_number_its_units(model, name, field):
    assert field.description and (model.__doc__ or "").strip()
    number = TRACED in field.metadata or any(kind in str(field.annotation) for kind in ("float", "int"))
    section = bool(models_in(field.annotation))
    assert section or not number or ("[" in field.description and "]" in field.description)


def test_all_sections_of_the_schema_were_visited():
    assert {m.__name__ for m in sections()} == set(json.loads(schema())["$defs"]) | {"Config"}
    assert len(FIELDS) > 70


@pytest.mark.parametrize("key", ["objective.minimize.functional", "objective.maximize.functional", "objective.subject_to.functional",
                                 "objective.subject_to.0.functional"])  # fmt: skip
def test_functionals_are_listed_with_arguments_and_units(key):
    lines = explain(key).splitlines()
    for name, functional in REGISTRY.items():
        (line,) = [text for text in lines if text.strip().startswith(f"{name}(")]
        assert functional.units == "1" or f"[{functional.units}]" in line
        assert len(line.split("): ", 1)[-1]) > 20
    assert "  pressure_drop(inlet (one or a list), outlet (one or a list)) [L^2 T^-2]: Loss of total" in "\n".join(lines)
    assert explain("functionals").splitlines() == lines[-len(explain("functionals").splitlines()) :]
    assert '  probe(at, what = "pressure")' in "\n".join(lines)


def test_methods_are_listed_with_what_they_take():
    text = explain("optimizer.method")
    assert all(f"  {name}: takes bounds" in text for name in METHODS)
    assert "SLSQP: takes bounds, inequalities and equalities" in text and "  L-BFGS-B: 1 variable, no constraints" in text


def test_lists_name_every_kind_with_what_it_takes():
    assert "  wall([velocity], [rotation], [center]): No slip" in explain("boundaries").splitlines()
    assert "  circle(center, radius, [offsets], [area], [centroid], [turn], [shift]): A circle" in explain("curves").splitlines()
    assert "  step(height, step_height, before, after, " in explain("meshes")
    assert explain("optimizers") in explain("optimizer.method") and "config explain functionals, optimizers" in explain()
    with pytest.raises(InputError, match="there is no key 'functionls' in 'functionls'; did you mean 'functionals'?"):
        explain("functionls")


def test_without_a_key_the_sections_are_listed():
    text = explain()
    assert all(f"  {name}: " in text for name in Config.model_fields)


def test_defaults_ranges_and_choices_are_told():
    assert "at least 1e-14, below 1; default 1e-10" in explain("solver.tolerance")
    assert "at least 0, at most 10; default 0.0" in explain("mesh.grading")
    assert '"free" or "zero"; default "free"' in explain("boundary.outlet.tangential")
    assert "[L/T]; may be left out; a design may vary it" in explain("boundary.any_name.velocity")


def test_a_misspelt_key_gets_a_suggestion():
    with pytest.raises(InputError, match="there is no key 'methd' in 'optimizer.methd'; did you mean 'method'?"):
        explain("optimizer.methd")


# ---- the schema

VALID = [
    TEXT,
    TINY,
    COMMANDS,
    *(f.read_text() for f in SHIPPED),
]
SETTINGS = [
    ["boundary.inlet.profile.start=uniform"],
    ["flow.reference={velocity=0.5, length=0.2}", "objective.minimize.functional=drag_coefficient"],
    ["mesh.extrude={height=0.1, layers=2}"],
    ["mesh={kind='box', cells=[4, 4], patches={left=[['low', 0.0, 0.5], ['high', 0.5, 1]]}}"],
    ["mesh={kind='box', cells=16, grading=[1.0, 2.0]}"],
    ["mesh.body={kind='fourier', center=[0.2, 0.2], radius=0.05, modes=4}"],
    ["mesh.body={kind='fourier', center=[0.2, 0.2], radius=0.05, modes=[[0.0, 0.1]]}"],
    ["mesh.body={kind='ellipse', center=[0.2, 0.2], radii=[0.05, 0.04]}"],
    ["mesh.body={kind='points', points=[[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]], corners=true}"],
    ["boundary.inlet.profile={kind='nodes', file='table.csv'}"],
    ["mesh.body={kind='points', file='points.csv'}"],
    ["design=[]", "porosity={density=1, per_cell=true}", "flow.force=[0, 1]"],
    ["boundary.outlet={kind='far_field', velocity=[1, 0]}", "boundary.walls={kind='periodic', other='body', flow_rate=1.0}"],
    ["boundary.outlet={kind='pressure_inlet', total_pressure=[1.0, 2.0]}", "boundary.walls={kind='symmetry'}"],
    ["objective={maximize={functional='probe', at=[0.5, 0.2], what='velocity_x'}}"],
    ["optimizer={method='MMA', max_iterations=3, tolerance=1e-3, band=0.1}", "solver={tolerance=1e-12, linear='superlu'}"],
]


@pytest.mark.parametrize("text", VALID, ids=range(len(VALID)))
def test_the_schema_takes_every_config(text):
    CHECK.validate(tomllib.loads(text))


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_the_schema_takes_what_the_program_takes(settings, tmp_path):
    (tmp_path / "table.csv").write_text("0.1\n0.2\n")
    (tmp_path / "points.csv").write_text("0.1 0.1\n0.2 0.1\n0.2 0.2\n0.1 0.2\n")
    config(*settings, folder=tmp_path)
    data = tomllib.loads(TEXT)
    for setting in settings:
        apply(data, setting)
    CHECK.validate(data)


UNKNOWN = ["mesh.lenght=1.0", "mesh.body.raduis=1.0", "flow.viscosty=1.0", "boundary.inlet.speeed=1.0", "boundary.inlet.profile.cnt=3",
           "boundary.walls.rotaton=1.0", "design.0.bound=[0.0, 1.0]", "objective.minimise={functional='drag'}", "optimizer.metod='MMA'",
           "units.lenght='m'", "solver.linaer='superlu'", "porosity.densty=1.0", "optimiser.method='MMA'",
           "mesh.body={kind='points', files='a.csv'}"]  # fmt: skip


@pytest.mark.parametrize("setting", UNKNOWN)
def test_the_schema_refuses_unknown_keys(setting):
    data = tomllib.loads(TEXT)
    apply(data, setting)
    assert not CHECK.is_valid(data)


def test_the_command_prints_it(capsys):
    assert main(["config", "schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(schema())


@pytest.mark.parametrize("file", SHIPPED, ids=lambda f: f.stem)
def test_shipped_configs_say_how_an_editor_completes_them(file):
    assert "#:schema ./fluidgrad.schema.json" in Path(file).read_text().split("\n[")[0]
