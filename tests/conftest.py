"""Settings of every test."""

import gc
import os
import subprocess
import sys
from pathlib import Path


def xla_knows(flags):
    """Whether this version does: at a flag that it does not know, XLA ends the process. So a child process asks."""
    ask = [sys.executable, "-c", "import jax; jax.devices()"]
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    return not subprocess.run(ask, env=environment, capture_output=True).returncode


# Tiny meshes run in no time; compiling their programs is what tests wait for. Unoptimised code compiles in two thirds of
# the time and computes the same to round-off; versions that still have the older emitters compile in a third of that again
# with these, and each program in one piece in four fifths. What is set from outside wins.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if "XLA_FLAGS" not in os.environ:
    flags = ("--xla_cpu_use_fusion_emitters=false", "--xla_cpu_parallel_codegen_split_count=1")
    known = flags if xla_knows(" ".join(flags)) else filter(xla_knows, flags)
    os.environ["XLA_FLAGS"] = " ".join(known)  # set in any case: workers need not ask again

gc.set_threshold(20_000, 20, 20)  # JAX's traces are many small objects that stay; looking for garbage in them takes a twentieth

import jax  # noqa: E402
import pytest  # noqa: E402
from jax.experimental.compilation_cache import compilation_cache  # noqa: E402

LONGEST = ("test_experiments", "test_docs", "test_order", "test_periodic", "test_adjoint", "test_faults", "test_sweep", "test_cli")


def pytest_collection_modifyitems(items):
    """Files that take longest come first, so that none of them is left for one worker at the end; then those of commands, which
    share programs."""

    def place(item):
        rank = LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST)
        return rank, item.path.parent.name != "app"

    items.sort(key=place)


@pytest.fixture(autouse=True, scope="module")
def forget_functionals():
    """Those that a file of tests registers are its own: other files list all that there are."""
    from fluidgrad.flow.functionals import REGISTRY

    before = dict(REGISTRY)
    yield
    REGISTRY.clear()
    REGISTRY.update(before)


@pytest.fixture(autouse=True, scope="module")
def forget_programs(request):
    """Commands run the same programs in every file, which are kept for the next. Those of another file are seldom its
    neighbour's, and each takes memory, and several of the maps of it that a process may have (65,530 on Linux): all of them
    together are too many, and XLA ends in a segmentation fault. On the disk they are kept where commands run; for the many
    small ones of other tests, writing them takes longer than it saves."""
    folder = request.path.parent.name
    jax.config.update("jax_enable_compilation_cache", folder in ("tests", "app", "plots"))
    compilation_cache.reset_cache()
    yield
    if folder != "app" or maps() > 12_000:  # in 2.5 GB
        jax.clear_caches()


def maps():
    """How many memory maps this process has, 0 where the system does not tell."""
    file = Path("/proc/self/maps")
    return file.read_bytes().count(b"\n") if file.exists() else 0


@pytest.fixture
def counted(monkeypatch):
    """Factorisations on the host, and solves there: whether transposed, and after how many factorisations. Solves that
    leave the solver open use SuperLU, whatever the device."""
    from fluidgrad.linear import superlu
    from fluidgrad.linear import systems as linear

    choose = linear.choose
    monkeypatch.setattr(linear, "choose", lambda name, flow=None: choose("superlu" if name == "auto" else name))
    factored, solved = [], []
    splu, solve = superlu._splu, superlu._solve_held

    def count_splu(held):
        factored.append(1)
        return splu(held)

    def count_solve(held, b, transpose):
        solved.append((transpose, len(factored)))
        return solve(held, b, transpose)

    monkeypatch.setattr(superlu, "_splu", count_splu)
    monkeypatch.setattr(superlu, "_solve_held", count_solve)
    superlu._held.clear()
    return factored, solved


@pytest.fixture(scope="session")
def design(tmp_path_factory):
    """The folder of an optimisation that nothing disturbed; tests look at it, and change copies."""
    return _run(tmp_path_factory, "design")


@pytest.fixture(scope="session")
def search(tmp_path_factory):
    """The same search with the same journal, without pictures and finer mesh: to be gone on with in copies."""
    return _run(tmp_path_factory, "search", "output.figures=false", "output.finer_mesh=false", "output.stability=false")


@pytest.fixture(scope="session")
def simulation(tmp_path_factory):
    """The folder of a simulation; tests look at it, and change copies."""
    return _run(tmp_path_factory, "simulation", "design=[]")


@pytest.fixture(scope="session")
def sensitivities(tmp_path_factory):
    """The folder of ``fluidgrad sensitivity`` for a pressure drop; tests look at it."""
    drop = "objective.minimize={functional='pressure_drop', inlet='inlet', outlet='outlet'}"
    return _run(tmp_path_factory, "sensitivity", drop, command="sensitivity")


def _run(factory, name, *settings, command="run"):
    """A run that whichever worker comes first makes for all of them."""
    from cases import TINY
    from filelock import FileLock

    from fluidgrad.app import commands as runs
    from fluidgrad.app.report.screen import QUIET

    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"shared-{name}"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            folder.mkdir()
            (folder / "tiny.toml").write_text(TINY)
            getattr(runs, command)(str(folder / "tiny.toml"), settings, level=QUIET, root=folder)
    return folder / "tiny-1"
