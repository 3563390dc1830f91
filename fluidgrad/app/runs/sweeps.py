"""``fluidgrad sweep``: a config over values of its keys, each member an ordinary run in a process of its own.

    runs/<config>-sweep-<n>/
      sweep.json      keys, values, and what else the members were made from
      000/, 001/ ...  the runs, all with their inputs before the first begins
      sweep.nc        their figures as an xarray dataset, one dimension for each key
      sweep.csv       the same as a table, one row for each member
      report.html     the members side by side

A member is ``fluidgrad run FOLDER``, here or on a cluster: whatever ends one, by an error, a crash or the lack of memory,
the others do not notice. A sweep that was stopped or killed is gone on with in the same way as its members.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

from fluidgrad import device
from fluidgrad.app.config.paths import assignment, plain
from fluidgrad.app.config.reading import find, load
from fluidgrad.app.report import output
from fluidgrad.app.report.screen import NORMAL, QUIET, Screen, clock
from fluidgrad.app.report.summary import plan_of, result_of, summarize
from fluidgrad.app.runs.interrupt import Stopped, heard
from fluidgrad.app.runs.jobs import import_functionals
from fluidgrad.app.runs.resume import locked
from fluidgrad.errors import InputError, NotConverged
from fluidgrad.files import write

MOST = 10_000  # members
Outcome = tuple[int, str, float]  # exit code, last words, seconds


def sweep(
    config: str,
    over: Sequence[str] = (),
    settings: Sequence[str] = (),
    imports: Sequence[str] = (),
    level: int = NORMAL,
    root: str | Path = "runs",
    workers: int = 0,
    scheduler: str = "",
) -> Path:
    """Run a config for every combination of values; or go on with the folder of a sweep. Returns that folder.

    Args:
        config: a TOML file, a shipped config's name, or the folder of a sweep.
        over: ``section.key=a,b,c``; values as in TOML.
        settings, imports, level, root: as for ``run``.
        workers: processes at a time; by default one for each core.
        scheduler: address of a dask scheduler, whose workers see this folder; instead of processes here.

    Raises:
        InputError: values that make no config, before anything is run.
        NotConverged: members that failed; all others are done.
    """
    if workers < 0:
        raise InputError(f"--workers {workers}", accepted="a number of processes, or nothing for one on each core")
    screen, began = Screen(level), time.perf_counter()
    folder = _again(config, over, settings, imports) if Path(config).is_dir() else _begun(config, over, settings, imports, root)
    plan = plan_of(folder)
    members = [Path(folder / name) for name in plan["members"]]
    with locked(folder), heard(lambda: f"; go on with: fluidgrad sweep {folder}") as asked:
        screen.say(str(folder), QUIET)
        pending = {m: given for m, given in zip(members, plan["values"], strict=True) if not output.finished(m)}
        done = len(members) - len(pending)
        screen.say(f"{len(members)} runs over {', '.join(plan['keys'])}{f'; {done} are done' if done else ''}")
        failed = _run(pending, plan, screen, workers, scheduler, asked)
        summarize(folder)
        if asked.is_set():
            raise Stopped(f"; go on with: fluidgrad sweep {folder}")
        screen.say(f"done in {clock(time.perf_counter() - began)}")
        screen.say(str(folder), QUIET)
    if failed:
        which = ", ".join(str(m) for m in failed[:3]) + (", ..." if len(failed) > 3 else "")
        raise NotConverged(f"{len(failed)} of {len(members)} runs failed: {which}; the others are in {folder / 'sweep.nc'}")
    return folder


def _begun(config: str, over: Sequence[str], settings: Sequence[str], imports: Sequence[str], root: str | Path) -> Path:
    """A new folder, with the inputs of every member."""
    table = [_values(text) for text in over]
    if not table:
        raise InputError("a sweep over nothing", accepted="--over section.key=a,b,c")
    keys = [key for key, _ in table]
    if twice := [key for i, key in enumerate(keys) if key in keys[:i]]:
        raise InputError(f"--over {twice[0]} is given twice", accepted="one --over for each key, with all of its values")
    combinations = list(itertools.product(*(values for _, values in table)))
    if len(combinations) > MOST:
        raise InputError(f"{len(combinations)} combinations", accepted=f"at most {MOST}")
    given = [[f"{key}={output.toml_value(value)}" for key, value in zip(keys, values, strict=True)] for values in combinations]
    configs = [load(config, settings, changes) for changes in given]
    files = [Path(file) for file in imports]
    device.start()
    for file in imports:
        import_functionals(file)
    folder = output.new_folder(f"{find(config).stem}-sweep", root)
    digits = max(3, len(str(len(configs) - 1)))
    names = [f"{i:0{digits}}" for i in range(len(configs))]
    for name, member in zip(names, configs, strict=True):
        (folder / name).mkdir()
        output.save_inputs(folder / name, member, files)
    plan = {"kind": "sweep", "config": str(config), "keys": keys, "over": [list(values) for _, values in table], "members": names,
            "values": [list(values) for values in combinations], "imports": [str(f.resolve()) for f in files]}  # fmt: skip
    output.write_json(folder / "sweep.json", plan)
    return folder


def _again(config: str, over: Sequence[str], settings: Sequence[str], imports: Sequence[str]) -> Path:
    folder = Path(config)
    if not (folder / "sweep.json").exists():
        raise InputError(f"{config!r} is not the folder of a sweep", accepted="a config with --over section.key=a,b,c, or such a folder")
    if over or settings:
        given = f"--over {over[0]}" if over else f"--set {settings[0]}"
        raise InputError(f"{given} with the folder of a sweep, which has its values", accepted="fluidgrad sweep FOLDER, or a new sweep")
    for file in imports:
        import_functionals(file)
    return folder


def _values(text: str) -> tuple[str, list[Any]]:
    """The key and the values of an ``--over``."""
    key, equals, listed = assignment(text)
    if not equals or not key or not listed.strip():
        raise InputError(f"--over {text}", accepted="--over section.key=a,b,c")
    try:
        values = tomllib.loads(f"values = [{listed}]")["values"]
    except (ValueError, RecursionError):
        values = [part.strip() for part in listed.split(",")]  # words without quotes
    key = plain(key)
    for i, value in enumerate(values):
        if value in values[:i]:
            raise InputError(f"--over {key} has {value!r} twice", accepted="each value once")
    return key, values


def _run(
    pending: Mapping[Path, Sequence[Any]], plan: Mapping[str, Any], screen: Screen, workers: int, scheduler: str, asked: Event
) -> list[Path]:
    """Run members and tell how each ended; returns those that failed."""
    failed: list[Path] = []
    if not pending:
        return failed
    began = time.perf_counter()
    with _executor(workers, scheduler) as (executor, here), screen.table((*plan["keys"], "objective", "seconds", "left")) as table:
        process = partial(_process, asked=asked) if here else _process
        futures = {executor.submit(process, str(m.resolve()), plan["imports"]): m for m in pending}
        table.state = f"{len(futures)} runs to do"
        for k, future in enumerate(as_completed(futures), 1):
            member = futures[future]
            try:
                code, words, seconds = future.result()
            except Exception as error:  # of the cluster
                code, words, seconds = 1, f"{type(error).__name__}: {error}", 0.0
            if asked.is_set():
                executor.shutdown(wait=False, cancel_futures=True)
                break
            left = clock((time.perf_counter() - began) / k * (len(futures) - k))
            values = [output.toml_value(v) for v in pending[member]]
            if code:
                failed.append(member)
                write(member / "failed.txt", f"{words}\n")
                table.add([f"{', '.join(values)} failed ({member.name}): {words}"])
            else:
                found = result_of(member)
                value = found["numbers"].get(found["objective"])
                table.add([*values, "done" if value is None else f"{value:.7g}", f"{seconds:.1f}", left])
            table.state = f"{k} of {len(futures)} runs, about {left} left"
    return failed


def _process(member: str, imports: Sequence[str], asked: Event | None = None) -> Outcome:
    """A run in a process of its own. One that a killed sweep left at work in the folder is waited for."""
    from filelock import FileLock, Timeout

    began = time.perf_counter()
    while not (asked and asked.is_set()):
        try:
            with FileLock(Path(member) / ".lock").acquire(timeout=1):
                break
        except Timeout:
            continue
    if output.finished(Path(member)):
        return 0, "", time.perf_counter() - began
    # -P: the package that is installed, not one that happens to lie in the folder that the sweep was started from
    extra = [word for file in imports for word in ("--import", file)]
    process = subprocess.Popen([sys.executable, "-P", "-m", "fluidgrad", "run", member, *extra, "--quiet"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)  # fmt: skip
    while True:
        try:
            _, err = process.communicate(timeout=0.5)
            break
        except subprocess.TimeoutExpired:
            if asked and asked.is_set():
                process.send_signal(signal.SIGTERM)
                _, err = process.communicate()
                break
    code = process.returncode
    words = err.strip().splitlines()
    said = words[-1] if words else f"ended by signal {-code}" if code < 0 else "no reason given"
    return code, said, time.perf_counter() - began


@contextmanager
def _executor(workers: int, scheduler: str) -> Iterator[tuple[Executor, bool]]:
    """Where processes are started: by threads here, or by the workers of a dask cluster."""
    if not scheduler:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        with ThreadPoolExecutor(workers or cores) as executor:
            yield executor, True
        return
    try:
        from distributed import Client
    except ImportError:
        raise InputError("--scheduler needs dask.distributed", accepted='pip install "fluidgrad[sweep]"') from None
    try:
        # As the default, a client that could not connect would be met by whatever asks dask where to work, as xarray does to write a file.
        client = Client(scheduler, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise InputError(f"there is no scheduler at {scheduler!r}: {error}", accepted="an address such as tcp://host:8786") from None
    with client:
        yield client.get_executor(pure=False, retries=0), False
