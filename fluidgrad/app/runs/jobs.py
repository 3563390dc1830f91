"""A command at work: its folder, what it says while it goes, and what is kept when it fails."""

from __future__ import annotations

import atexit
import errno
import os
import runpy
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from fluidgrad import device
from fluidgrad.app.config.config import Config
from fluidgrad.app.config.reading import find, load
from fluidgrad.app.report import output, page
from fluidgrad.app.report.screen import NORMAL, QUIET, VERBOSE, Screen
from fluidgrad.app.runs.interrupt import Stopped, heard
from fluidgrad.app.runs.resume import locked, taken_up
from fluidgrad.errors import Failed, InputError, Lost, NotConverged
from fluidgrad.files import write
from fluidgrad.plots.style import Labels

QUOTA = getattr(errno, "EDQUOT", errno.ENOSPC)  # not on Windows
DISK = (errno.ENOSPC, QUOTA, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)  # what a disk may answer


@dataclass
class Job:
    """A command at work: its config, its folder, and where it says what it is doing."""

    config: Config
    name: str
    folder: Path
    screen: Screen
    asked: Event
    resumed: bool = False
    imports: list[Path] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def say(self, text: str = "", level: int = NORMAL) -> None:
        self.screen.say(text, level)

    def safe_point(self) -> None:
        """Where the work may stop: everything computed is kept.

        Raises:
            Stopped: a stop was asked for.
            FileNotFoundError: the folder was deleted.
        """
        self.folder.stat()
        if device.anywhere(self.asked.is_set()):
            raise Stopped

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """Says what takes a while. The work may stop before that, not after: what it gave is not kept yet."""
        self.safe_point()
        with self.screen.doing(what):
            yield

    @property
    def labels(self) -> Labels:
        return Labels(self.config.units.length, self.config.units.time)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.started


@contextmanager
def job(
    config: str,
    settings: Sequence[str],
    imports: Sequence[str],
    level: int,
    root: str | Path,
    silent: bool = False,
    allow: Sequence[str] | None = None,
) -> Iterator[Job]:
    """Work on a config in a new folder; or, where ``allow`` is given, in the folder of a run, to go on with it.

    The folder's path is printed first and last (unless ``silent``). Bad input leaves no new folder. Whatever else ends the
    work, what was computed is kept, the report in the folder says what happened, and the message how to go on.
    """
    again = allow is not None and Path(config).is_dir()
    if allow and not again:
        raise InputError(f"--allow {allow[0]} without the folder of a run", accepted="fluidgrad run FOLDER --allow section.key")
    file = Path(config) / "config.toml" if again else config
    loaded = load(file, settings) if not again or Path(file).is_file() else None
    if loaded is not None:
        device.several(loaded.solver.devices)
    device.start()
    if device.follows():
        silent, root, config = True, *_aside(config, again)
    if again:
        device.meet()
    folder = Path(config) if again else output.new_folder(find(config).stem, root)
    screen = Screen(QUIET - 1 if silent else level)

    def on() -> str:
        """How to go on, where that is possible."""
        if allow is None or not (folder / "manifest.json").exists():
            return ""
        return f"; go on with: fluidgrad run {folder}{''.join(f' --import {file}' for file in imports)}"

    with locked(folder), heard(on) as asked:
        if again:
            loaded = taken_up(folder, settings, imports, allow or ())
        assert loaded is not None
        screen.say(str(folder), QUIET)
        (folder / "error.txt").unlink(missing_ok=True)  # of before; whoever goes on has mended it
        if again and output.finished(folder):  # its results are those of before until there are new ones
            output.write_json(folder / "results.json", output.read_json(folder / "results.json") | {"finished": False})
        work = Job(loaded, str(folder / "config.toml") if again else find(config).name, folder, screen, asked, again)
        try:
            work.imports = [import_functionals(file) for file in imports]
            yield work
            page.write(folder)
        except InputError:
            _forget(folder, again)
            _tell(folder)
            raise
        except NotConverged as error:
            kept = _kept(error, folder)
            _tell(folder)
            raise kept from None
        except (Stopped, KeyboardInterrupt):
            _forget(folder, again)
            _tell(folder)
            raise Stopped(on()) from None
        except Failed:
            _tell(folder)
            raise
        except OSError as error:
            if error.errno == errno.ENOENT and not all((folder / name).exists() for name in ("config.toml", "manifest.json")):
                raise Failed(f"{str(folder)!r} was deleted while the run was at work, and with it what was computed") from None
            if error.errno == errno.ENOENT and error.filename == str(folder / "journal.jsonl"):
                raise Failed(f"{error.filename!r} was deleted while the run was at work: start again") from None
            if error.errno not in DISK:
                raise _unexpected(error, work, on()) from error
            given = f"cannot write in {str(folder)!r}: {error.strerror or error}"
            _forget(folder, again)
            raise InputError(given, accepted=f"make room there{on() or ', and try again'}") from None
        except (Exception, SystemExit) as error:  # a functional has no say in how the command ends
            if work.config.solver.devices > 1 and _of_jax(error):
                _tell(folder)
                raise Lost(f"the devices no longer work together: {_first_line(error)}; what was computed is kept{on()}") from None
            raise _unexpected(error, work, on()) from error
        screen.say(str(folder), QUIET)


def _aside(config: str, again: bool) -> tuple[Path, str]:
    """Where one of several processes works whose results are those of the first: its root, and a copy of what it goes on with."""
    root = Path(tempfile.mkdtemp(prefix="fluidgrad-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root, str(shutil.copytree(config, root / Path(config).name)) if again else config


def _of_jax(error: BaseException) -> bool:
    from jax.errors import JaxRuntimeError

    return isinstance(error, JaxRuntimeError)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0]


def _forget(folder: Path, again: bool) -> None:
    """Take a new folder away in which nothing has been computed."""
    if not again and not (folder / "journal.jsonl").exists() and not (folder / "results.json").exists():
        shutil.rmtree(folder, ignore_errors=True)


def _tell(folder: Path) -> None:
    """The page of work that ended before its end; what may be wrong with that must not hide why."""
    with suppress(InputError, OSError):
        if (folder / "manifest.json").exists():
            page.write(folder)


def _kept(error: NotConverged, folder: Path) -> NotConverged:
    """The same error after its last state was saved, and saying where."""
    result: dict[str, Any] = {"converged": False, "message": str(error)}
    last = error.solution
    if last is None:
        if not output.finished(folder):  # a search that found nothing feasible is, and has its results
            output.write_json(folder / "results.json", result)
        return error
    output.write_arrays(folder / "last_good.npz", state=last.state, velocity=last.velocity, pressure=last.pressure)
    output.write_json(folder / "results.json", result | {"residual": last.report.residual})
    return NotConverged(f"{error} Last state: {folder / 'last_good.npz'}.", error.report, last)


def _unexpected(error: Exception | SystemExit, work: Job, on: str) -> InputError | Exception:
    """What nobody foresaw: its traceback goes to a file. With functionals of the user's, it is most likely theirs."""
    file = work.folder / "error.txt"
    write(file, "".join(traceback.format_exception(error)))
    _tell(work.folder)
    if work.screen.level >= VERBOSE and isinstance(error, Exception):
        return error
    what = f"{type(error).__name__}: {_first_line(error)}"
    advice = f"mend {work.imports[0]}" if work.imports else "report it with that file"
    return InputError(f"unexpected {what} (traceback in {file})", accepted=f"{advice}{on}")


def import_functionals(file: str) -> Path:
    """Run a user's file, whose functionals register themselves.

    Raises:
        InputError: it cannot be read, or it raises.
    """
    path = Path(file)
    if not os.path.isfile(path):
        raise InputError(f"there is no file {file!r} to import", accepted="--import FILE.py")
    try:
        runpy.run_path(str(path))
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() too: a file of functionals has no say in how the command ends
        reason = f"{type(error).__name__}: {error}".rstrip(": ")
        raise InputError(f"{file} cannot be imported: {reason}", accepted="a Python file that runs by itself") from error
    return path
