"""Sweeps: every member an ordinary run, one dataset of all, a failed member no harm to the rest, a killed sweep gone on with."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr

import numpy as np
import pytest
import xarray
from cases import TINY
from dask.base import get_scheduler

from fluidgrad.app.cli import main

KEYS = ("flow.viscosity", "boundary.outlet.tangential")


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "tiny.toml").write_text(TINY + "\n[output]\nfigures = false\nfiner_mesh = false\nstability = false\n")
    return folder


def stopped(arguments, folder, begun):
    """A sweep that is asked to stop when its first member has begun with a file: the exit code, and what it said of errors."""
    done = threading.Event()

    def stop():
        while not (folder / "000" / begun).exists() and not done.wait(0.005):
            pass
        if not done.is_set():
            os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=stop)
    asking.start()
    with redirect_stderr(io.StringIO()) as said:
        code = main(["sweep", *arguments, "--workers", "1", "--runs", str(folder.parent), "-q"])
    done.set()
    asking.join()
    return code, said.getvalue()


@pytest.fixture(scope="module")
def begun(here, simulation):
    """A sweep of two viscosities, of which one is hopeless, by two kinds of outlet, stopped in its first member: its folder,
    exit code, last words, and the members that were begun. After a simulation, whose programs are on the disk then."""
    arguments = [str(here / "tiny.toml"), "--over", f"{KEYS[0]}=0.1,1e-9", "--over", f"{KEYS[1]}=free,zero", "--set", "design=[]"]
    folder = here / "tiny-sweep-1"
    code, err = stopped(arguments, folder, "report.html")
    return folder, code, err, [file.parent.name for file in folder.glob("*/report.html")]


@pytest.fixture(scope="module")
def swept(begun):
    """The same at its end: one member run by itself, three by the sweep."""
    folder = begun[0]
    assert main(["run", str(folder / "001"), "-q"]) == 0
    return folder, main(["sweep", str(folder), "-q"])


def data_of(folder):
    with xarray.open_dataset(folder / "sweep.nc", engine="h5netcdf") as data:
        return data.load()


def test_a_stop_is_passed_on_to_the_members(begun):
    folder, code, err, members = begun
    assert code == 130 and err.strip().endswith(f"stopped; go on with: fluidgrad sweep {folder}")
    assert members == ["000"], "the second was not begun"


def test_a_failed_member_is_reported_and_does_not_stop_the_rest(swept):
    folder, code = swept
    assert code == 1
    data = data_of(folder)
    assert data.sizes == {KEYS[0]: 2, KEYS[1]: 2} and data["finished"].values.tolist() == [[True, True], [False, False]]
    assert data["flow_rate(inlet)"].attrs["units"] == "m^2 s^-1"
    assert data["flow_rate(inlet)"].sel({KEYS[0]: 0.1, KEYS[1]: "zero"}) == pytest.approx(1.0)
    assert np.isnan(data["flow_rate(inlet)"].sel({KEYS[0]: 1e-9})).all()
    assert str(data["message"].values[1, 0]).startswith("no convergence: residual")
    table = (folder / "sweep.csv").read_text().splitlines()
    assert table[0].startswith("member,flow.viscosity,boundary.outlet.tangential,dissipation()") and len(table) == 5
    assert "no convergence" in (folder / "002" / "failed.txt").read_text()


def test_members_are_ordinary_runs(swept, simulation):
    folder, _ = swept
    result = json.loads((folder / "000" / "results.json").read_text())
    assert result["figures"] == json.loads((simulation / "results.json").read_text())["figures"]
    data = data_of(folder)
    assert all(float(data[name][0, 0]) == figure["value"] for name, figure in result["figures"].items())
    assert (folder / "000" / "report.html").exists() and (folder / "002" / "last_good.npz").exists()
    assert 'tangential = "zero"' in (folder / "001" / "config.toml").read_text()


def test_a_page_and_a_picture_of_all(swept, capsys):
    folder, _ = swept
    from test_page import opened

    found = opened(folder / "report.html")
    assert "4 runs side by side" in found.words and found.words.count("no convergence: residual") == 2 and "not finished" not in found.words
    assert [i["alt"] for i in found.images] == ["The objective over the swept values"]
    assert "boundary.outlet.tangential" in found.words
    (folder / "report.html").unlink()
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines() == [str(folder / "report.html")] and (folder / "report.html").exists()


@pytest.mark.slow  # every day: a run that is killed, and a sweep that is stopped
def test_a_killed_sweep_goes_on_and_repeats_nothing(swept, here, tmp_path):
    code = "import sys; from fluidgrad.app.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["sweep", str(here / "tiny.toml"), "--over", "flow.viscosity=0.1,0.2", "--set", "design=[]", "--workers", "1"]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments, "--runs", str(tmp_path), "-q"], cwd=here)
    folder, until = tmp_path / "tiny-sweep-1", time.monotonic() + 200
    while not (folder / "000" / "results.json").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = (folder / "000" / "solution.npz").stat().st_mtime_ns
    assert main(["sweep", str(folder), "-q"]) == 0
    data = data_of(folder)
    assert data["finished"].all() and (folder / "000" / "solution.npz").stat().st_mtime_ns == before
    assert (np.diff(data["dissipation()"]) > 0).all()


@pytest.mark.slow  # every day: runs that are stopped and gone on with, in test_faults
def test_a_member_that_was_stopped_is_a_run_to_go_on_with(here, tmp_path):
    folder = tmp_path / "tiny-sweep-1"
    code, _ = stopped([str(here / "tiny.toml"), "--over", "flow.viscosity=0.1,0.2"], folder, "journal.jsonl")
    assert code == 130 and not (folder / "001" / "journal.jsonl").exists(), "the second was not begun"
    journal = (folder / "000" / "journal.jsonl").read_bytes()
    assert main(["run", str(folder / "000"), "-q"]) == 0
    assert (folder / "000" / "journal.jsonl").read_bytes().startswith(journal)


def test_the_same_on_a_dask_cluster(swept, tmp_path):
    from distributed import LocalCluster

    copy = shutil.copytree(swept[0], tmp_path / "copy")
    (copy / "000" / "results.json").unlink()
    for name in ("002", "003"):  # the hopeless ones are not tried again here
        shutil.copyfile(copy / "001" / "results.json", copy / name / "results.json")
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        assert main(["sweep", str(copy), "--scheduler", cluster.scheduler_address, "-q"]) == 0
    assert float(data_of(copy)["flow_rate(inlet)"][0, 0]) == pytest.approx(1.0)
    assert json.loads((copy / "000" / "results.json").read_text())["finished"]


def test_values_that_make_no_config_are_refused_before_anything_is_run(here, tmp_path, capsys):
    def refused(*arguments):
        assert main(["sweep", *arguments, "--runs", str(tmp_path / "none")]) == 2
        assert not (tmp_path / "none").exists()
        return capsys.readouterr().err

    tiny = str(here / "tiny.toml")
    assert "a sweep over nothing; --over section.key=a,b,c" in refused(tiny)
    assert "viscosity must be positive, got -1" in refused(tiny, "--over", "flow.viscosity=0.1,-1")
    assert "unknown key 'viscosty'" in refused(tiny, "--over", "flow.viscosty=0.1,1")
    assert "--over flow.viscosity; --over section.key=a,b,c" in refused(tiny, "--over", "flow.viscosity")
    assert "--over flow.viscosity has 0.1 twice; each value once" in refused(tiny, "--over", "flow.viscosity=0.1,0.1")
    twice = refused(tiny, "--over", "flow.viscosity=0.1", "--over", "flow.viscosity=0.2")
    assert "--over flow.viscosity is given twice; one --over for each key" in twice
    many = ",".join(str(k) for k in range(1, 102))
    assert "10201 combinations; at most 10000" in refused(tiny, "--over", f"flow.viscosity={many}", "--over", f"mesh.refine={many}")
    assert "is not the folder of a sweep" in refused(str(here))
    assert "--workers -1; a number of processes" in refused(tiny, "--over", "flow.viscosity=1", "--workers", "-1")


def test_a_folder_of_a_sweep_takes_no_new_values(swept, capsys):
    assert main(["sweep", str(swept[0]), "--over", "flow.viscosity=1,2"]) == 2
    assert "--over flow.viscosity=1,2 with the folder of a sweep, which has its values" in capsys.readouterr().err
    assert main(["sweep", str(swept[0]), "--scheduler", "nowhere"]) == 2
    assert "there is no scheduler at 'nowhere'" in capsys.readouterr().err
    assert get_scheduler() is None, "what this process writes next does not ask the cluster that was not there"


def test_a_damaged_sweep_is_refused_in_one_line(swept, tmp_path, capsys):
    (tmp_path / "copy").mkdir()
    for text in ("", "[]", "{}", '{"members": 3}', '{"members": [], "keys": ["a"], "values": [], "over": [], "imports": []}'):
        (tmp_path / "copy" / "sweep.json").write_text(text)
        for command in ("sweep", "report"):
            assert main([command, str(tmp_path / "copy")]) == 2
            err = capsys.readouterr().err
            assert err.startswith("error: ") and "damaged" in err and len(err.splitlines()) == 1
