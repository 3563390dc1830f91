"""Whatever goes wrong while a run goes, or is wrong with its folder: what was computed is kept, one line says what happened."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cases import TINY
from processes import COMMAND, ended, started

from fluidgrad.app.cli import main
from fluidgrad.app.report.screen import NORMAL, Screen
from fluidgrad.design.journal import Journal


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faults")
    (folder / "tiny.toml").write_text(TINY + "\n[output]\nfigures = false\nfiner_mesh = false\nstability = false\n")
    return folder


def evaluations(folder):
    journal = folder / "journal.jsonl"
    return journal.read_bytes().count(b"\n") - 1 if journal.exists() else 0


def one_line(err, says):
    assert says in err and len(err.strip().splitlines()) == 1 and "Traceback" not in err, err


# ---- the disk


@pytest.mark.slow  # every day: full under an append, below
def test_a_full_disk_keeps_the_journal_and_says_how_to_go_on(search, here, tmp_path):
    """A limit on the size of files stands for the end of the disk."""
    journal = (search / "journal.jsonl").read_bytes()
    small = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)); {COMMAND}"
    # a cache of compiled programs would be full before the folder is
    code, _, err = ended(started(["run", here / "tiny.toml", "--runs", tmp_path], here, small, XDG_CACHE_HOME="/dev/null"))
    folder = tmp_path / "tiny-1"
    assert code == 2
    one_line(err, f"error: cannot write in '{folder}': File too large; make room there; go on with: fluidgrad run {folder}")
    assert evaluations(folder) >= 1 and journal.startswith((folder / "journal.jsonl").read_bytes())
    assert main(["run", str(folder), "-q"]) == 0
    assert (folder / "journal.jsonl").read_bytes() == journal


def test_a_full_disk_under_an_append_leaves_a_journal_to_go_on_from(search, tmp_path, monkeypatch, capsys):
    copy = shutil.copytree(search, tmp_path / "copy")
    lines = (copy / "journal.jsonl").read_bytes().split(b"\n")
    (copy / "journal.jsonl").write_bytes(b"\n".join(lines[:3]) + b"\n")
    fsync = os.fsync

    def full(handle):
        if os.readlink(f"/proc/self/fd/{handle}").endswith("journal.jsonl"):
            os.ftruncate(handle, os.fstat(handle).st_size - 30)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", full)
    assert main(["run", str(copy), "-q"]) == 2
    one_line(capsys.readouterr().err, "No space left on device; make room there; go on with: fluidgrad run")
    monkeypatch.undo()
    assert main(["run", str(copy), "-q"]) == 0
    assert (copy / "journal.jsonl").read_bytes() == (search / "journal.jsonl").read_bytes()


def test_nobody_to_talk_to_does_not_stop_a_run(here, tmp_path, monkeypatch, capsys):
    """Output that is full. Closed by its reader, a slow test; every day, what a screen does then (test_progress)."""
    with open("/dev/full", "w") as full:  # flushed where it is closed, as Python does at its end
        monkeypatch.setattr(sys, "stdout", full)
        assert main(["run", str(here / "tiny.toml"), "--set", "design=[]", "--runs", str(tmp_path)]) == 0
    monkeypatch.undo()
    assert capsys.readouterr().err == ""
    assert json.loads((tmp_path / "tiny-1" / "results.json").read_text())["finished"]


@pytest.mark.slow
def test_a_reader_that_went_away_does_not_stop_a_run(here, tmp_path):
    process = started(["run", here / "tiny.toml", "--set", "design=[]", "--runs", tmp_path], here)
    process.stdout.close()
    process.stdout = None
    code, _, err = ended(process)
    assert code == 0 and err == "" and json.loads((tmp_path / "tiny-1" / "results.json").read_text())["finished"]


def test_output_that_was_asked_for_and_cannot_be_written_is_an_error(here):
    with open("/dev/full", "w") as full:
        process = subprocess.run([sys.executable, "-c", COMMAND, "config", "schema"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert process.returncode == 2
    one_line(process.stderr, "error: cannot write or read: No space left on device; make room, or use another place")


def test_a_folder_that_is_deleted_in_mid_run_ends_it(search, here, tmp_path, capsys, monkeypatch):
    """Nothing is computed for a folder that is gone, and it does not come back with half of a run in it."""
    for gone, says in (
        ("", "was deleted while the run was at work, and with it"),
        ("journal.jsonl", "was deleted while the run was at work: start"),
    ):
        copy = shutil.copytree(search, tmp_path / f"copy{len(gone)}")
        lines = (copy / "journal.jsonl").read_bytes().split(b"\n")
        (copy / "journal.jsonl").write_bytes(b"\n".join(lines[:3]) + b"\n")
        found = Journal.append

        def removed(self, record, gone=gone, copy=copy, found=found):
            found(self, record)
            shutil.rmtree(copy) if not gone else (copy / gone).unlink()

        monkeypatch.setattr(Journal, "append", removed)
        assert main(["run", str(copy), "-q"]) == 1
        monkeypatch.undo()
        one_line(capsys.readouterr().err, f"failed: {str(copy / gone)!r} {says}")
        assert copy.exists() == bool(gone) and not (copy / "journal.jsonl").exists()


def test_folders_that_cannot_be_written_are_refused_before_anything_is_computed(here, search, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", "/proc", "/dev/null/runs"):
        assert main(["run", str(here / "tiny.toml"), "--runs", str(place)]) == 2
        one_line(capsys.readouterr().err, f"error: cannot make a run folder in {str(place)!r}: ")
    copy = shutil.copytree(search, tmp_path / "copy")
    (copy / ".lock").unlink(missing_ok=True)
    (copy / ".lock").mkdir()  # what nobody may write, the superuser included
    assert main(["run", str(copy)]) == 2
    one_line(capsys.readouterr().err, f"error: cannot write in {str(copy)!r}: Is a directory; a folder that can be written to")
    before = {file: file.stat().st_mtime_ns for file in search.rglob("*")}
    for place in ("/proc/none.html", str(tmp_path), str(tmp_path / "nowhere" / "a.html")):
        assert main(["report", str(search), str(search), "--output", place]) == 2
        one_line(capsys.readouterr().err, f"error: cannot write {place!r}: ")
    assert before == {file: file.stat().st_mtime_ns for file in search.rglob("*")}, "nothing was drawn"


# ---- a stop that is asked for


def wait_for(process, folder, count):
    until = time.monotonic() + 200
    while evaluations(folder) < count and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)


def wait_for_compiling(process):
    for line in process.stdout:
        if "compiling" in line:
            break


EARLY, LATER = "while JAX compiles", "after an evaluation"


@pytest.mark.parametrize(
    ("number", "when"),
    [(signal.SIGINT, EARLY), *(pytest.param(number, LATER, marks=pytest.mark.slow) for number in (signal.SIGINT, signal.SIGTERM))],
)
def test_a_stop_is_clean_and_the_run_goes_on_to_the_same_end(search, here, tmp_path, number, when):
    """An exception raised while JAX compiles could be lost in a callback of JAX, or crash the process."""
    cold = {"XDG_CACHE_HOME": str(tmp_path / "cold")} if when == EARLY else {}
    process = started(["run", here / "tiny.toml", "--runs", tmp_path], here, **cold)
    folder = tmp_path / "tiny-1"
    if when == EARLY:
        wait_for_compiling(process)
        time.sleep(0.5)
    else:
        wait_for(process, folder, 1)
    process.send_signal(number)
    code, _, err = ended(process)
    assert code == 130
    first, last = err.strip().splitlines()
    assert first == "stopping as soon as what is at work is done and kept; once more: at once"
    assert last == f"stopped; go on with: fluidgrad run {folder}"
    assert when == LATER or evaluations(folder) == 1, "the evaluation that was at work is kept"
    assert "go on with: fluidgrad run" in (folder / "report.html").read_text()
    whole = (search / "journal.jsonl").read_bytes()
    assert whole.startswith((folder / "journal.jsonl").read_bytes())
    assert main(["run", str(folder), "-q"]) == 0
    assert (folder / "journal.jsonl").read_bytes() == whole


def test_a_stop_in_a_simulation_keeps_what_it_solved(here, tmp_path, monkeypatch, capsys):
    say = Screen.say

    def asks_to_stop(self, text="", level=NORMAL):
        say(self, text, level)
        if text.startswith("compiling"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)  # a thread hears it

    monkeypatch.setattr(Screen, "say", asks_to_stop)
    assert main(["run", str(here / "tiny.toml"), "--set", "design=[]", "--set", "output.figures=true", "--runs", str(tmp_path)]) == 130
    folder = tmp_path / "tiny-1"
    assert capsys.readouterr().err.splitlines()[-1] == f"stopped; go on with: fluidgrad run {folder}"
    result = json.loads((folder / "results.json").read_text())
    assert result["figures"]["flow_rate(inlet)"]["value"] == pytest.approx(1.0) and not result["finished"]
    assert (folder / "fields.nc").exists() and not (folder / "figures").exists()


def test_the_second_stop_is_at_once(here, tmp_path):
    process = started(["run", here / "tiny.toml", "--runs", tmp_path], here, XDG_CACHE_HOME=str(tmp_path / "cold"))
    wait_for_compiling(process)
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline().startswith("stopping as soon as")
    process.send_signal(signal.SIGINT)
    code, _, err = ended(process)
    assert code == 130 and err.startswith("stopped at once; go on with: fluidgrad run")
    assert evaluations(tmp_path / "tiny-1") == 0


# ---- functionals of the user's

FLAKY = """
import jax, jax.numpy as jnp, numpy as np
from fluidgrad import dissipation, functional
calls = []
def seen(x):
    calls.append(1)
    {what}
    return np.asarray(x)
@jax.custom_jvp
def watched(x):
    return jax.pure_callback(seen, jax.ShapeDtypeStruct((), x.dtype), x)
watched.defjvp(lambda p, t: (watched(p[0]), t[0]))
@functional(units="L^4 T^-3")
def flaky(solution):
    return watched(dissipation.function(solution))
"""


@pytest.fixture
def flaky(here, tmp_path):
    def run(what, *options):
        (tmp_path / "flaky.py").write_text(FLAKY.format(what=what))
        given = ["--set", "objective.minimize={functional='flaky'}", "--import", str(tmp_path / "flaky.py"), *options]
        return main(["run", str(here / "tiny.toml"), *given, "--runs", str(tmp_path)])

    return run


def test_a_functional_that_raises_in_the_middle_of_a_run_keeps_what_was_computed(flaky, tmp_path, capfd):
    assert flaky("if len(calls) == 3: raise RuntimeError('out of luck')") == 2
    err = capfd.readouterr().err.strip().splitlines()[-1]
    folder = tmp_path / "tiny-1"
    assert err.startswith("error: unexpected ") and f"traceback in {folder / 'error.txt'}" in err
    assert f"mend {tmp_path / 'flaky.py'}; go on with: fluidgrad run {folder} --import" in err
    assert "out of luck" in (folder / "error.txt").read_text() and evaluations(folder) == 2
    page = (folder / "report.html").read_text()
    assert "out of luck" in page and "not finished" in page and "refresh" not in page
    kept = (folder / "journal.jsonl").read_bytes()
    # mended, and therefore changed: that must be named
    (tmp_path / "flaky.py").write_text(FLAKY.format(what="pass"))
    again = ["run", str(folder), "--import", str(tmp_path / "flaky.py"), "-q"]
    assert main(again) == 2 and "imports.flaky.py was" in capfd.readouterr().err
    assert main([*again, "--allow", "imports.flaky.py"]) == 0
    assert (folder / "journal.jsonl").read_bytes().startswith(kept)
    assert not (folder / "error.txt").exists(), "that is mended"


@pytest.mark.parametrize("code", [0, 3])
def test_a_functional_has_no_say_in_how_the_command_ends(here, tmp_path, capsys, code):
    (tmp_path / "leave.py").write_text(f"""
import fluidgrad as fg
calls = []
@fg.functional(units="L^4 T^-3")
def leave(solution):
    calls.append(1)
    if len(calls) > {0 if code else 1}:
        raise SystemExit({code})
    return fg.dissipation.function(solution)
""")
    command = ["run", str(here / "tiny.toml"), "--set", "objective.minimize={functional='leave'}", "--import", str(tmp_path / "leave.py")]
    assert main([*command, "--runs", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    if code:
        one_line(err, "error: leave() cannot be evaluated: SystemExit: 3 ([objective] minimize in tiny.toml)")
    else:  # it was fine when it was tried, and left later
        one_line(err, f"error: unexpected SystemExit: 0 (traceback in {tmp_path / 'tiny-1' / 'error.txt'}); mend {tmp_path / 'leave.py'}")


def test_a_functional_that_is_nan_at_a_trial_sends_the_search_back(flaky, tmp_path, capsys):
    assert flaky("if len(calls) == 2: return np.asarray(np.nan)") == 0
    assert "failed: flaky() is nan" in capsys.readouterr().out
    assert "flaky() is nan" in (tmp_path / "tiny-1" / "history.csv").read_text()
    assert "flaky() is nan" in (tmp_path / "tiny-1" / "report.html").read_text()


def test_verbose_shows_the_traceback(flaky, here, tmp_path):
    """Python does, of an exception that nothing catches: of a user's functional, and in a process of its own of ours."""
    with pytest.raises(Exception, match="out of luck"):
        flaky("raise RuntimeError('out of luck')", "--verbose")
    ours = f"from fluidgrad.app import commands; commands.Problem = None; {COMMAND}"
    code, _, err = ended(started(["run", here / "tiny.toml", "--runs", tmp_path, "--verbose"], here, ours))
    assert code == 1 and "Traceback" in err and "AttributeError" in err


# ---- damaged folders

DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "garbage": lambda data: bytes((b * 7 + 13) % 256 for b in data[:500]),
    "another": lambda data: b"[1, 2, 3]\n",
    "nothing": lambda data: b"{}\n",
    "bit": lambda data: data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0x10]) + data[len(data) // 2 + 1 :],
}
NEEDED = {  # files -> the command that needs them
    "config.toml": "run", "manifest.json": "run", "journal.jsonl": "run", "states/000000.npz": "run",
    "results.json": "report", "design.npz": "report", "solution.npz": "report", "history.csv": "report",
}  # fmt: skip


@pytest.mark.parametrize("file", NEEDED)
def test_damaged_files_of_a_folder_end_in_one_line_or_do_no_harm(design, search, tmp_path, capsys, file):
    whole = search if NEEDED[file] == "run" else design
    read_first = file.endswith((".toml", ".json"))  # the others are met after a search was repeated or pictures were drawn
    for how, damage in DAMAGE.items():
        if how not in ("cut", "garbage", "bit") and not read_first:
            continue
        copy = shutil.copytree(whole, tmp_path / how)
        if file.startswith("states"):
            shutil.rmtree(copy / "states")
            shutil.copytree(whole / "states", copy / "states")
        path = copy / file
        path.write_bytes(damage(path.read_bytes()))
        code = main([NEEDED[file], str(copy), *(["-q"] if NEEDED[file] == "run" else [])])
        err = capsys.readouterr().err
        assert code in (0, 2), (how, err)
        if code:
            one_line(err, "error: ")


def test_nothing_is_unpickled(design, tmp_path, capsys):
    import numpy as np

    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "harm",))

    for file in ("design.npz", "solution.npz", "states/000000.npz"):
        copy = shutil.copytree(design, tmp_path / file.replace("/", "-"))
        np.savez(copy / file, state=np.array([Bomb()], dtype=object), allow_pickle=True)
        assert main(["report" if "/" not in file else "run", str(copy)]) == 2
        one_line(capsys.readouterr().err, "error: ")
    assert not (tmp_path / "harm").exists()
