"""Other versions and other machines: flags of XLA, devices that are not there, programs kept between processes."""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import xla_knows

ROOT = Path(__file__).parents[1]


def test_a_flag_is_set_only_where_this_version_of_xla_knows_it():
    assert xla_knows("--xla_force_host_platform_device_count=1")
    assert not xla_knows("--xla_no_such_flag=true")


def test_flags_of_xla_are_set_by_the_tests_alone_which_ask_first():
    folders = ("fluidgrad", "tests", "docs", "experiments", ".ci", ".github")
    files = [p for folder in folders for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix in ("", ".py", ".md", ".yml")]
    naming = [p.name for p in files if re.search(r"--xla_\w+=", p.read_text(encoding="utf-8"))]
    assert sorted(naming) == ["conftest.py", "test_platforms.py"]


def told(arguments, folder, **environment):
    """What a process of Python's ends with, and what it says last."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = os.environ | {"PYTHONPATH": path} | environment
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr.splitlines()


COMMANDS = ("run cavity_re1000", "check cavity_re1000", "sweep cavity_re1000 --over flow.viscosity=1e-3", "config validate cavity_re1000",
            "sensitivity cavity_re1000", "report runs")  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_a_device_that_is_not_there_is_named_in_one_line(command, tmp_path):
    code, out, said = told(["-m", "fluidgrad", *command.split()], tmp_path, JAX_PLATFORMS="cuda")
    assert code == 2 and not out and len(said) == 1
    assert said[0].startswith("error: JAX_PLATFORMS=cuda, and JAX finds no such device")
    assert said[0].endswith("unset it, use cpu, or install JAX for that device (docs/how-to/gpu.md)")
    assert not (tmp_path / "runs").exists()


def test_a_device_that_is_not_there_is_named_from_python(tmp_path):
    for name in ("box", "circle", "solve_steady"):
        code, _, said = told(["-c", f"import fluidgrad as fg; fg.{name}"], tmp_path, JAX_PLATFORMS="cuda")
        assert code == 1 and said[-1].startswith("fluidgrad.errors.InputError: JAX_PLATFORMS=cuda, and JAX finds no such device")


def test_programs_are_kept_between_processes_of_python_where_jax_was_not_told_otherwise(tmp_path):
    made = "fg.channel(2.2, 0.41, fg.ellipse((0.2, 0.2), (0.05, 0.04)), cells=300)"  # by a program that takes long to compile
    areas = f"import fluidgrad as fg, jax; {made}; print(jax.config.jax_compilation_cache_dir)"
    ours, theirs = tmp_path / "fluidgrad" / "jax", tmp_path / "theirs"
    code, out, said = told(["-c", areas], tmp_path, XDG_CACHE_HOME=str(tmp_path), XLA_FLAGS="", JAX_DISABLE_MOST_OPTIMIZATIONS="0")
    assert code == 0 and out.split() == [str(ours)] and any(ours.iterdir()), said
    shutil.rmtree(ours)
    for name, value in {"JAX_COMPILATION_CACHE_DIR": str(theirs), "JAX_ENABLE_COMPILATION_CACHE": "false"}.items():
        code, _, said = told(["-c", areas], tmp_path, **{"XDG_CACHE_HOME": str(tmp_path), name: value})
        assert code == 0 and not any(ours.iterdir()), said
    code, out, said = told(["-c", areas], tmp_path, XDG_CACHE_HOME="/dev/null")
    assert code == 0 and out.split() == ["None"], said


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's way with memory")
def test_memory_stays_with_the_process_unless_glibc_was_told_otherwise(tmp_path, monkeypatch):
    """Ten times 64 MiB: 16,000 pages that the system has to make the first time, or every time."""
    code = """
import resource
import numpy as np
import fluidgrad.mesh.geometry
def pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(*(pages() for _ in range(10)))
"""
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))]:
        monkeypatch.delenv(name)
    for told_otherwise, most in (({}, 100), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, np.inf)):
        ended, out, said = told(["-c", code], tmp_path, **told_otherwise)
        assert ended == 0, said
        again = max(map(int, out.split()[1:]))
        assert again < most and (again > 30) == (most == np.inf)  # a page may have 2 MiB


@pytest.mark.parametrize("others,own,ends", [(0, 0, 0), (0, 5, 5), (4, 0, 4), (4, 5, 5)])
def test_ci_tests_the_versions_that_are_installed_and_ends_with_pytests_code(others, own, ends, tmp_path):
    """With stand-ins for what it calls: this is 3.11, 3.12 is installed, 3.13 is a shim that starts nothing."""
    stands_in = {
        "python3": 'case "$1" in -c) echo 3.11;; -m) mkdir -p "$3/bin" && : > "$3/bin/activate";; esac',
        "python3.13": "exit 127",
        "pip": "",
        "fluidgrad": 'echo "fluidgrad $*"',
        "pytest": f'echo "pytest $*"; [ $# = 0 ] && exit {own} || exit {others}',
    }
    stands_in["python3.12"] = stands_in["python3"]
    (tmp_path / "bin").mkdir()
    for name, does in stands_in.items():
        (tmp_path / "bin" / name).write_text(f"#!/usr/bin/env bash\n{does}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci")
    environment = os.environ | {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run([tmp_path / ".ci" / "run"], env=environment, capture_output=True, text=True)
    said = done.stdout.splitlines()
    assert done.returncode == ends and said[-1] == "pytest " and done.stderr == ""
    assert said[0] == "== Python 3.12" and said[1].startswith("pytest tests/shapes tests/mesh")
    assert sum(line.startswith("fluidgrad") for line in said) == (0 if others else 3)
    assert ("== Python 3.12: failed" in said) == bool(others) and "== Python 3.13" not in said
