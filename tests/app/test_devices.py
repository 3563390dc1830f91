"""Several devices from the command line: the same search, refusals in one line, a device that is lost."""

import json
import os
import shutil
import signal
import time
from functools import partial

import jax
import numpy as np
import pytest
from cases import TINY
from processes import ended, launched, started

from fluidgrad.app import commands
from fluidgrad.app.cli import main


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("devices")
    (folder / "tiny.toml").write_text(TINY + "\n[output]\nfigures = false\nfiner_mesh = false\nstability = false\n")
    return folder


def in_two_processes(*arguments):
    return launched(2, partial(started, arguments))


def results(folder):
    return json.loads((folder / "results.json").read_text())


def test_a_search_on_two_devices_finds_what_one_finds(search, here, tmp_path):
    code, out, err = ended(started(["run", here / "tiny.toml", "--devices", 2, "--runs", tmp_path]))
    assert code == 0, err
    assert "on 2 devices: up to 18 cells each; a residual sends" in out
    found, known = (results(folder) for folder in (tmp_path / "tiny-1", search))
    for name, figure in known["optimum"].items():
        assert np.isclose(found["optimum"][name]["value"], figure["value"], rtol=1e-8)
    assert "devices = 2" in (tmp_path / "tiny-1" / "config.toml").read_text()


def test_other_devices_are_refused_where_that_is_not_allowed(search, tmp_path):
    shutil.copytree(search, tmp_path / "run")
    code, _, err = ended(started(["run", tmp_path / "run", "--devices", 2]))
    assert code == 2 and "--allow devices" in err


@pytest.mark.slow  # every day: that it is refused, and a search on two devices
def test_a_run_goes_on_with_other_devices_where_that_is_allowed(search, tmp_path):
    shutil.copytree(search, tmp_path / "run")
    changed = "optimizer.max_iterations", "devices", "solver.devices"
    more = ["--set", "optimizer.max_iterations=4", *(x for key in changed for x in ("--allow", key))]
    code, _, err = ended(started(["run", tmp_path / "run", "--devices", 2, *more]))
    assert code == 0, err
    assert results(tmp_path / "run")["iterations"] == 4


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--devices", "37"], "error: 37 devices for 36 cells; at most one device a cell"),
        (["--devices", "2", "--set", "solver.linear=superlu"], "error: linear = 'superlu' on 2 devices"),
        (["--devices", "0"], "solver.devices"),
    ],
)
def test_what_several_devices_cannot_do_is_refused(here, tmp_path, options, says):
    code, _, err = ended(started(["run", here / "tiny.toml", "--runs", tmp_path, *options]))
    assert code == 2 and says in err and len(err.strip().splitlines()) == 1, err


def test_a_lost_device_ends_a_run_with_what_was_computed_kept(here, tmp_path, monkeypatch, capsys):
    """As JAX tells it; the command does not wait for JAX's own end, which waits for the device."""

    def lost(work, problem):
        (work.folder / "journal.jsonl").write_text("kept")
        raise jax.errors.JaxRuntimeError("Gloo collective permute failed: Connection reset by peer\nand more")

    codes = []
    monkeypatch.setattr(commands, "optimise", lost)
    monkeypatch.setattr("fluidgrad.device.several", lambda n: None)
    monkeypatch.setattr("fluidgrad.app.commands._say_what_passes", lambda work, flow: None)
    monkeypatch.setattr(os, "_exit", codes.append)
    main(["run", str(here / "tiny.toml"), "--devices", "2", "--runs", str(tmp_path)])
    err = capsys.readouterr().err
    assert codes == [1] and "the devices no longer work together: Gloo collective permute failed: Connection reset by peer; what" in err
    assert f"go on with: fluidgrad run {tmp_path / 'tiny-1'}" in err
    assert (tmp_path / "tiny-1" / "journal.jsonl").read_text() == "kept"


@pytest.mark.slow  # every day: the test before this one, and two processes in tests/solve/test_divided.py
def test_of_two_processes_one_is_killed_and_the_run_goes_on(here, tmp_path):
    whole = [ended(process) for process in in_two_processes("run", here / "tiny.toml", "--devices", 2, "--runs", tmp_path / "whole")]
    assert [code for code, *_ in whole] == [0, 0] and not whole[1][1]
    assert [f.name for f in (tmp_path / "whole").iterdir()] == ["tiny-1"]

    first, second = in_two_processes("run", here / "tiny.toml", "--devices", 2, "--runs", tmp_path / "cut")
    journal = tmp_path / "cut" / "tiny-1" / "journal.jsonl"
    while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
        assert first.poll() is None and second.poll() is None
        time.sleep(0.02)
    second.send_signal(signal.SIGKILL)
    code, _, err = ended(first)
    ended(second)
    assert code == 1 and "what was computed is kept; go on with" in err, (code, err)  # JAX itself would abort, and later
    again = [ended(process) for process in in_two_processes("run", tmp_path / "cut" / "tiny-1", "--devices", 2)]
    assert [code for code, *_ in again] == [0, 0], again
    assert journal.read_bytes() == (tmp_path / "whole" / "tiny-1" / "journal.jsonl").read_bytes()
