"""Rules of the code itself: layers, where derivative rules live, what importing costs, public names."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fluidgrad as fg

PACKAGE = Path(fg.__file__).parent
MODULES = sorted(PACKAGE.glob("*.py"))
NUMERICAL = [m for m in MODULES if m.stem not in ("__init__", "__main__")]


def imported(path):
    """Modules that a file imports, anywhere in it, with whether at its top level."""
    tree = ast.parse(path.read_text())
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        names = (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
        yield from ((name, id(node) in top) for name in names)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_derivative_rules_are_in_adjoint_only(path):
    rules = ("custom_vjp", "custom_jvp", "custom_linear_solve", "custom_gradient", "custom_transpose", "defvjp", "defjvp")
    used = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)} & set(rules)
    assert not used or path.name == "adjoint.py"


@pytest.mark.parametrize("path", NUMERICAL, ids=lambda p: p.stem)
def test_numerical_modules_know_nothing_of_the_application(path):
    for name, at_top in imported(path):
        assert name.split(".")[0] not in ("pydantic", "typer", "click", "rich", "tomllib"), name
        # drawing is asked for by name, when it is asked for
        assert not (at_top and (name.startswith("fluidgrad.app") or name.split(".")[0] in ("matplotlib", "meshio"))), name


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
    with pytest.raises(AttributeError, match="module 'fluidgrad' has no attribute 'solve'"):
        _ = fg.solve


@pytest.mark.parametrize("path", MODULES, ids=lambda p: p.stem)
def test_modules_say_what_they_are(path):
    assert len((ast.get_docstring(ast.parse(path.read_text())) or "").split()) > 8


def test_public_functions_are_annotated():
    missing = []
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                if node.returns is None or any(a.annotation is None for a in arguments):
                    missing.append(f"{path.stem}.{node.name}")
    assert not missing


def test_the_package_stays_small():
    # messages, records, a file format and the ways into optimization libraries are not numerics
    numerical = {m.stem for m in NUMERICAL} - {"errors", "files", "journal", "meshfile", "optimizers"}
    assert len(numerical) <= 33, sorted(numerical)
    assert len(fg.__all__) <= 45


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_stay_readable(path):
    assert len(path.read_text().splitlines()) <= (330 if path in MODULES else 300)
