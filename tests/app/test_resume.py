"""A run taken up again from the command line: to the same next iterate, by one process, with nothing changed unnamed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cases import TINY

from fluidgrad.app.cli import main


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    (folder / "tiny.toml").write_text(TINY + "\n[output]\nfigures = false\nfiner_mesh = false\nstability = false\n")
    return folder


@pytest.fixture(scope="module")
def whole(search):
    """An undisturbed run of three iterations."""
    return search


def written(folder):
    """The journal to the byte."""
    return (folder / "journal.jsonl").read_bytes()


def cut(folder, copy, lines):
    """A copy of a run as it was after so many lines of its journal."""
    shutil.copytree(folder, copy)
    journal = (copy / "journal.jsonl").read_bytes().split(b"\n")
    (copy / "journal.jsonl").write_bytes(b"\n".join([*journal[:lines], journal[lines][:17]]))
    for name in ("results.json", "history.csv", "design.npz"):
        (copy / name).unlink()
    return copy


def test_a_run_goes_on_to_the_same_end(whole, tmp_path, capsys):
    copy = cut(whole, tmp_path / "cut", 3)
    assert main(["run", str(copy)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0] == out[-1] == str(copy)
    assert written(copy) == written(whole)
    with np.load(copy / "design.npz") as a, np.load(whole / "design.npz") as b:
        assert all(a[k].tobytes() == b[k].tobytes() for k in b.files)
    manifest = json.loads((copy / "manifest.json").read_text())
    assert [entry["allowed"] for entry in manifest["resumed"]] == [{}]


def test_a_second_process_is_refused_and_a_killed_one_is_gone_on_from(whole, here, tmp_path, capsys):
    """SIGKILL as soon as the journal has two evaluations, wherever that finds the process."""
    code = "import sys; from fluidgrad.app.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, "run", str(here / "tiny.toml"), "--runs", str(tmp_path), "-q"], cwd=here)
    folder, journal = tmp_path / "tiny-1", tmp_path / "tiny-1" / "journal.jsonl"
    until = time.monotonic() + 120

    def wait_for(there):
        while not there() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)

    wait_for((folder / "manifest.json").exists)
    assert main(["run", str(folder), "-q"]) == 2 and "another process is at work in" in capsys.readouterr().err
    wait_for(lambda: journal.exists() and journal.read_bytes().count(b"\n") >= 3)
    process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
    process.wait()
    assert main(["run", str(folder), "-q"]) == 0
    assert written(folder) == written(whole)


def test_more_iterations_must_be_allowed_by_name(whole, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    more = ["run", str(copy), "-q", "--set", "optimizer.max_iterations=4"]
    assert main(more) == 2
    expected = "optimizer.max_iterations was 3 when the run began, and is 4 now"
    assert expected in (err := capsys.readouterr().err) and "--allow optimizer.max_iterations" in err
    assert main([*more, "--allow", "optimizer.max_iteration"]) == 2
    assert main([*more, "--allow", "optimizer.max_iterations"]) == 0
    assert written(copy).startswith(written(whole))
    assert "max_iterations = 4" in (copy / "config.toml").read_text()
    assert json.loads((copy / "manifest.json").read_text())["resumed"][0]["allowed"] == {"optimizer.max_iterations": {"was": 3, "is": 4}}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m | {"threads": 96}, "threads was 96 when the run began, and is"),
        (lambda m: m | {"packages": m["packages"] | {"scipy": "0.1"}}, 'packages.scipy was "0.1" when the run began'),
        (lambda m: m | {"imports": {"mine.py": "00"}}, "used the functionals in 'mine.py'; --import"),
    ],
)
def test_another_place_to_run_is_refused(whole, tmp_path, capsys, change, says):
    copy = cut(whole, tmp_path / "copy", 3)
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(change(manifest)))
    before = (copy / "journal.jsonl").read_bytes()
    assert main(["run", str(copy)]) == 2
    assert says in capsys.readouterr().err and (copy / "journal.jsonl").read_bytes() == before


def test_an_edited_config_is_refused(whole, tmp_path, capsys):
    copy = cut(whole, tmp_path / "copy", 3)
    text = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(text.replace("viscosity = 0.1", "viscosity = 0.2"))
    assert main(["run", str(copy)]) == 2
    assert "flow.viscosity was 0.1 when the run began, and is 0.2 now" in capsys.readouterr().err


def test_results_of_before_are_not_those_of_a_run_that_went_on_and_failed(whole, tmp_path, capsys):
    copy = shutil.copytree(whole, tmp_path / "copy")
    wider = ["--set", "design.0.bounds=[0.0, 4.0]", "--allow", "design"]
    assert main(["run", str(copy), "-q", *wider]) == 2
    assert "journal.jsonl is of another study: its upper was" in capsys.readouterr().err
    assert json.loads((copy / "results.json").read_text())["finished"] is False
    assert 'http-equiv="refresh"' not in (copy / "report.html").read_text()


def test_folders_that_are_no_runs_are_refused(whole, tmp_path, capsys):
    assert main(["run", str(tmp_path)]) == 2
    assert "is not the folder of a run; a config, or a folder with config.toml and manifest.json" in capsys.readouterr().err
    assert main(["run", "cylinder_inflow", "--allow", "threads", "--runs", str(tmp_path / "none")]) == 2
    assert "--allow threads without the folder of a run" in capsys.readouterr().err
    copy = tmp_path / "copy"
    shutil.copytree(whole, copy)
    Path(copy / "results.json").write_text('{"kind": "check"}')
    assert main(["run", str(copy)]) == 2
    assert "is the folder of a check; fluidgrad check CONFIG" in capsys.readouterr().err
