"""A command at work: its folder, what it says while it goes, and what is kept when it fails."""

from __future__ import annotations

import os
import runpy
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from fluidgrad.app import output
from fluidgrad.app.config import Config
from fluidgrad.app.reading import find, load
from fluidgrad.app.resume import locked, taken_up
from fluidgrad.app.style import Labels
from fluidgrad.errors import InputError, NotConverged

CACHE_FROM = 0.3  # seconds of compilation that are worth a file in the cache


@dataclass
class Job:
    """A command at work: its config, its folder, and where it writes what it is doing."""

    config: Config
    name: str
    folder: Path
    quiet: bool
    resumed: bool = False
    imports: list[Path] = field(default_factory=list)
    started: float = field(default_factory=time.perf_counter)

    def say(self, text: str = "") -> None:
        if not self.quiet:
            print(text, flush=True)

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
    quiet: bool,
    root: str | Path,
    silent: bool = False,
    allow: Sequence[str] | None = None,
) -> Iterator[Job]:
    """Work on a config in a new folder; or, where ``allow`` is given, in the folder of a run, to go on with it.

    The folder's path is printed first and last (unless ``silent``). Bad input leaves no new folder; a solve that fails
    leaves its last state in it; an interrupt leaves what was computed, and says how to go on.
    """
    again = allow is not None and Path(config).is_dir()
    if allow and not again:
        raise InputError(f"--allow {allow[0]} without the folder of a run", accepted="fluidgrad run FOLDER --allow section.key")
    loaded = None if again else load(config, settings)
    folder = Path(config) if again else output.new_folder(find(config).stem, root)
    with locked(folder):
        start_jax()
        if again:
            loaded = taken_up(folder, settings, imports, allow or ())
        assert loaded is not None
        if not silent:
            print(folder, flush=True)
        work = Job(loaded, str(folder / "config.toml") if again else find(config).name, folder, quiet or silent, again)
        try:
            work.imports = [import_functionals(file) for file in imports]
            yield work
        except InputError:
            if not again:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        except NotConverged as error:
            raise _kept(error, folder) from None
        except KeyboardInterrupt:
            if (folder / "journal.jsonl").exists():
                print(f"stopped; go on with: fluidgrad run {folder}", file=sys.stderr)
            raise
        if not silent:
            print(folder, flush=True)


def _kept(error: NotConverged, folder: Path) -> NotConverged:
    """The same error after its last state was saved, and saying where."""
    last = error.solution
    if last is None:
        return error
    output.write_arrays(folder / "last_good.npz", state=last.state, velocity=last.velocity, pressure=last.pressure)
    output.write_json(folder / "results.json", {"converged": False, "message": str(error), "residual": last.report.residual})
    return NotConverged(f"{error} Last state: {folder / 'last_good.npz'}.", error.report, last)


def start_jax() -> None:
    """Import JAX, with compiled programs kept between runs where the user's cache folder can be written."""
    import jax

    folder = cache_folder() / "fluidgrad" / "jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            return
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", CACHE_FROM)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def cache_folder() -> Path:
    """Where this platform keeps a user's caches."""
    if "XDG_CACHE_HOME" in os.environ:
        return Path(os.environ["XDG_CACHE_HOME"])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    return Path.home() / ".cache"


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
