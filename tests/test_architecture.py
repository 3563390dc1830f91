"""Rules of the code itself: wings, where derivative rules live, what importing costs, public names, sizes."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fluidgrad as fg

PACKAGE = Path(fg.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# Each wing stands on those before it, and so do the parts of the application.
WINGS = ("shapes", "mesh", "blocks", "flow", "plots", "linear", "solve", "derivatives", "design", "app")
PARTS = ("config", "report", "runs")
NUMERICAL = [m for m in MODULES if m.relative_to(PACKAGE).parts[0] in WINGS[:-1] and m.stem != "__init__"]
SHARED = ("device", "errors", "files", "iteration", "parts", "programs")  # which every wing stands on


def name_of(path):
    return str(path.relative_to(PACKAGE).with_suffix("")).replace("/", ".").removesuffix(".__init__")


NAMES = {name_of(m) for m in MODULES}


def imported(path):
    """Modules that a file imports, anywhere in it, for type checkers too, with whether at its top level."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{a.name}" for a in node.names]
            names = [name if name.removeprefix("fluidgrad.") in NAMES else node.module or "" for name in inner]
        else:
            names = []
        yield from ((name, id(node) in top) for name in dict.fromkeys(names))


def imports():
    """Of each file of the package, which others it imports."""
    for path in MODULES:
        found = {name.removeprefix("fluidgrad.") for name, _ in imported(path) if name.startswith("fluidgrad.")}
        yield name_of(path), sorted(found & NAMES - {name_of(path)})


def floor(name):
    """How high a file stands: it may import what is not above it."""
    wing, *rest = name.split(".")
    if wing in SHARED:
        return -1
    if wing not in WINGS:
        return len(WINGS) + len(PARTS)  # __init__ and __main__
    return WINGS.index(wing) + (PARTS.index(rest[0]) if rest and rest[0] in PARTS else len(PARTS) if wing == "app" else 0)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_derivative_rules_are_in_adjoint_only(path):
    rules = ("custom_vjp", "custom_jvp", "custom_linear_solve", "custom_gradient", "custom_transpose", "defvjp", "defjvp")
    used = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)} & set(rules)
    assert not used or name_of(path) == "solve.adjoint"


def test_no_arrow_points_up():
    upward = [f"{name} imports {other}" for name, found in imports() for other in found if floor(other) > floor(name)]
    assert not upward


def test_no_files_import_each_other():
    """Nor one another by way of a third: files can be read one after the other."""
    left = {name: set(found) for name, found in imports()}
    while free := [name for name, found in left.items() if not found & left.keys()]:
        for name in free:
            del left[name]
    assert not left, {name: sorted(found & left.keys()) for name, found in left.items()}


def test_every_file_has_a_wing():
    assert {m.relative_to(PACKAGE).parts[0] for m in MODULES} == {*WINGS, *(f"{s}.py" for s in SHARED), "__init__.py", "__main__.py"}


@pytest.mark.parametrize("path", NUMERICAL, ids=name_of)
def test_the_numerics_know_nothing_of_the_application(path):
    for name, at_top in imported(path):
        assert name.split(".")[0] not in ("pydantic", "typer", "click", "rich", "tomllib"), name
        # drawing is asked for by name, when it is asked for
        assert not (at_top and name.split(".")[0] in ("matplotlib", "meshio")), name


def test_importing_fluidgrad_does_not_import_jax():
    code = "import sys, fluidgrad; dir(fluidgrad); print(sorted({'jax', 'numpy', 'scipy', 'matplotlib', 'pydantic'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]", out.stdout


def test_importing_the_numerics_imports_neither_pydantic_nor_matplotlib():
    code = "import sys, fluidgrad as f; [getattr(f, n) for n in f.__all__]; print(sorted({'matplotlib', 'pydantic'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]", out.stdout


@pytest.mark.parametrize("name", fg.__all__)
def test_public_names_resolve_and_are_documented(name):
    doc = getattr(fg, name).__doc__
    assert doc and len(doc.split()) > 3 and not doc.startswith(f"{name}("), name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'fluidgrad' has no attribute 'simulate'"):
        _ = fg.simulate


@pytest.mark.parametrize("path", [*NUMERICAL, *(PACKAGE / f"{s}.py" for s in SHARED)], ids=name_of)
def test_modules_say_what_they_are(path):
    assert len((ast.get_docstring(ast.parse(path.read_text())) or "").split()) > 8


def test_public_functions_are_annotated():
    missing = []
    for path in NUMERICAL:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if node.returns is None or any(a.annotation is None for a in arguments):
                    missing.append(f"{name_of(path)}.{node.name}")
    assert not missing


@pytest.mark.parametrize("wing", [*WINGS, *(f"app/{part}" for part in PARTS)])
def test_wings_stay_small(wing):
    files = [m.stem for m in (PACKAGE / wing).glob("*.py") if m.stem != "__init__"]
    assert len(files) <= 12, sorted(files)


def test_contributing_names_every_file():
    page = (Path(__file__).parents[1] / "docs" / "contributing.md").read_text()
    tree = re.search(r"```text\nfluidgrad/\n(.*?)```", page, re.DOTALL)
    assert tree is not None
    named = re.findall(r"\b(\w+\.py)\b", tree[1])
    assert sorted(named) == sorted(m.name for m in MODULES if m.name != "__main__.py" and (m.name != "__init__.py" or m.parent == PACKAGE))


def test_public_names_stay_few():
    assert len(fg.__all__) <= 48


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_stay_readable(path):
    assert len(path.read_text().splitlines()) <= 300


def test_these_rules_can_be_broken(tmp_path, monkeypatch):
    """Each of them by a package of three files."""
    for name, text in {"mesh/a": "from fluidgrad.flow import b", "flow/b": "from fluidgrad.mesh.a import x", "lost": ""}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.py").write_text(text)
    here = sys.modules[__name__]
    monkeypatch.setattr(here, "PACKAGE", tmp_path)
    monkeypatch.setattr(here, "MODULES", sorted(tmp_path.rglob("*.py")))
    monkeypatch.setattr(here, "NAMES", {"mesh.a", "flow.b", "lost"})
    for rule in (test_no_arrow_points_up, test_no_files_import_each_other, test_every_file_has_a_wing):
        with pytest.raises(AssertionError):
            rule()
