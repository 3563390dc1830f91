"""Kills runs at random moments, goes on with them, and compares every journal with that of an undisturbed run, byte by byte."""

import argparse
import json
import os
import random
import signal
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

# Processes are forked from this one, which has imported everything and computed nothing: only a process that has not
# started XLA may be forked.
import nlopt  # noqa: F401
import xarray  # noqa: F401

import fluidgrad.app.commands
import fluidgrad.design.optimization  # noqa: F401
from fluidgrad.app.cli import main as command

CASE = """
[mesh]
kind = "box"
upper = [2.0, 1.0]
cells = [8, 6]
patches = { left = "inlet", right = "outlet", bottom = "walls", top = "walls" }

[flow]
viscosity = 0.05

[boundary]
inlet  = { kind = "inflow", profile = { kind = "nodes", values = [1.5, 2.5, 1.0, 0.5, 1.0] } }
outlet = { kind = "outflow" }
walls  = { kind = "wall" }

[[design]]
vary = "boundary.inlet.profile.values"
bounds = [0.0, 3.0]

[optimizer]
max_iterations = 8
tolerance = 1e-12

[output]
figures = false
finer_mesh = false
stability = false
"""
RATE = '[objective]\nminimize = { functional = "dissipation" }\nsubject_to = [ { functional = "flow_rate", patch = "inlet", %s = 1.0 } ]\n'
FREE = '[objective]\nmaximize = { functional = "pressure_drop", inlet = "inlet", outlet = "outlet" }\n'
METHODS = {"optax": ("lbfgs", FREE), "SciPy": ("SLSQP", RATE % "equals"), "NLopt": ("CCSAQ", RATE % "at_least")}
LONGEST = 300  # seconds that a process may take
SEED = 0


def forked(arguments: list[str], prepare: Any = None) -> int:
    """The process of a command, with what it prints thrown away."""
    if pid := os.fork():
        return pid
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    if prepare:
        prepare()
    os._exit(command(arguments))


def wait(pid: int) -> int:
    """The exit code of a process; negative where a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def die_in_a_write(at: int, share: float) -> Any:
    """Makes this process die at a write to the disk: the last bytes of the file never got there, or it was not moved to its place."""

    def prepare() -> None:
        fsync, replace, writes = os.fsync, os.replace, 0

        def die() -> bool:
            nonlocal writes
            writes += 1
            return writes == at

        def torn(handle: int) -> None:
            if die():
                size, before = os.fstat(handle).st_size, sizes.get(os.fstat(handle).st_ino, 0)
                if size > before and stat.S_ISREG(os.fstat(handle).st_mode):  # folders are synced too
                    os.ftruncate(handle, before + int(share * (size - before)))
                os.kill(os.getpid(), signal.SIGKILL)
            fsync(handle)
            sizes[os.fstat(handle).st_ino] = os.fstat(handle).st_size

        def lost(a: Any, b: Any, **options: Any) -> None:
            if die():
                os.kill(os.getpid(), signal.SIGKILL)
            replace(a, b, **options)

        sizes = {p.stat().st_ino: p.stat().st_size for p in Path.cwd().rglob("journal.jsonl")}
        os.fsync, os.replace = torn, lost

    return prepare


def kill_later(pid: int, journal: Path, records: int, delay: float) -> None:
    """Kill a process so many seconds after it has added so many records: inside a solve, or whatever it does then."""
    until, enough = time.monotonic() + LONGEST, count(journal) + records
    while time.monotonic() < until:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return  # done before
        if count(journal) >= enough:
            time.sleep(delay)
            os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.002)


def count(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def trial(name: str, kills: int, folder: Path) -> dict[str, Any]:
    """So many kills of runs by one method: after how many the run could be gone on with, and whether all journals are the same."""
    chance = random.Random(f"{SEED} {name}")
    method, objective = METHODS[name]
    folder.mkdir(parents=True)
    os.chdir(folder)
    Path("case.toml").write_text(CASE.replace("[optimizer]", f'{objective}\n[optimizer]\nmethod = "{method}"'))
    assert wait(forked(["run", "case.toml", "--runs", "whole"])) == 0, f"{name}: the undisturbed run failed"
    whole = Path("whole/case-1/journal.jsonl").read_bytes()
    killed = survived = where = 0
    identical, run = True, 0
    while killed < kills or where:  # the last run is finished
        if not where:
            run += 1
        here = Path(f"runs/case-{run}")
        # a run that was killed before it had written what it is about is begun again
        arguments = ["run", str(here)] if (here / "manifest.json").exists() else ["run", "case.toml", "--runs", "runs"]
        if arguments[1] == "case.toml" and here.exists():
            run, here = run + 1, Path(f"runs/case-{run + 1}")
        journal = here / "journal.jsonl"
        if killed >= kills:
            pid = forked(arguments)
        elif chance.random() < 0.5:
            pid = forked(arguments, die_in_a_write(chance.randint(1, 30), chance.random()))
        else:
            pid = forked(arguments)
            kill_later(pid, journal, chance.randint(0, 3) or 1, chance.uniform(0.0, 0.5) ** 2)
        code = wait(pid)
        found = journal.read_bytes() if journal.exists() else b""
        so_far = found[: found.rfind(b"\n") + 1]
        if code == -signal.SIGKILL:
            killed += 1
            good = whole.startswith(so_far)
            where = 1
        else:
            good = code == 0 and found == whole
            where = 0
        identical &= good
        survived += code == -signal.SIGKILL and good
        print(f"{name:6} {killed:3} {'killed' if where else 'done  '} {count(journal) - 1:3} evaluations, code {code:4}"
              f"{'' if good else '  NOT THE SAME'}", flush=True)  # fmt: skip
    return {"kills": killed, "survived": survived, "identical": identical, "evaluations": whole.count(b"\n") - 1}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of runs by each method")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        found = {name: trial(name, options.kills, Path(folder) / name) for name in options.methods}
        os.chdir("/")
    for name, f in found.items():
        print(f"{name} ({METHODS[name][0]}, {f['evaluations']} evaluations): {f['survived']} of {f['kills']} kills survived, "
              f"journals {'identical to the byte' if f['identical'] else 'NOT identical'}")  # fmt: skip
    total = {key: sum(f[key] for f in found.values()) for key in ("kills", "survived")}
    print(json.dumps(total | {"identical": all(f["identical"] for f in found.values())}))


if __name__ == "__main__":
    sys.exit(main())
