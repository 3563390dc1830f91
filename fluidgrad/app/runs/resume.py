"""A run taken up again: one process at a time in a folder, and nothing different there that was not named.

A search is continued by repeating it with the journal answering (``optimization.py``), so whatever enters it must be as
it was: the config, the versions, the threads, the user's functionals. The manifest holds them as the run began. What
differs now is refused, unless the one who resumes names it by ``--allow``, and is then written down.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fluidgrad.app.config.config import Config
from fluidgrad.app.config.reading import load
from fluidgrad.app.config.sections import suggestion
from fluidgrad.app.report import output
from fluidgrad.errors import InputError
from fluidgrad.files import write

ENTERS = ("fluidgrad", "commit", "python", "devices", "dtype", "threads")  # what of the manifest may change a number


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes; the system lets go of it however this one ends.

    Raises:
        InputError: another process holds it, or it cannot be written to.
    """
    from filelock import FileLock, Timeout

    try:
        lock = FileLock(folder / ".lock").acquire(timeout=0)
    except Timeout:
        raise InputError(f"another process is at work in {str(folder)!r}", accepted="wait for it, or stop it first") from None
    except OSError as error:
        raise InputError(f"cannot write in {str(folder)!r}: {error.strerror}", accepted="a folder that can be written to") from None
    with lock:
        yield


def taken_up(folder: Path, settings: Sequence[str], imports: Sequence[str], allow: Sequence[str]) -> Config:
    """The config to go on with, once all that changed since the run began is allowed; the folder then says so.

    Raises:
        InputError: not the folder of a run; a change that is not allowed; an ``allow`` that names no change.
    """
    if not (folder / "config.toml").is_file() or not (folder / "manifest.json").is_file():
        raise InputError(f"{str(folder)!r} is not the folder of a run", accepted="a config, or a folder with config.toml and manifest.json")
    if (folder / "results.json").exists() and (kind := output.read_json(folder / "results.json").get("kind")) in ("check", "sensitivity"):
        raise InputError(f"{str(folder)!r} is the folder of a {kind}", accepted=f"fluidgrad {kind} CONFIG, which makes a new one")
    manifest = output.read_json(folder / "manifest.json")
    tables = isinstance(manifest.get("config"), dict) and all(isinstance(manifest.get(k, {}), dict) for k in ("packages", "imports"))
    if not tables or not isinstance(manifest.get("resumed", []), list):
        raise InputError(f"{str(folder / 'manifest.json')!r} is damaged", accepted="the manifest that the run was begun with")
    config = load(folder / "config.toml", settings)
    hashes = output.hashes([Path(file) for file in imports])
    if missing := sorted(set(manifest.get("imports", {})) - set(hashes)):
        raise InputError(
            f"{str(folder)!r} used the functionals in {missing[0]!r}", accepted=f"--import {folder / missing[0]} if you trust it"
        )
    found = output.manifest() | {"config": output.resolved(config), "imports": hashes}
    then, now = _enters(manifest), _enters(found)
    changed = {key: (then.get(key), now.get(key)) for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)}
    begun = (folder / "journal.jsonl").exists()  # before that there is no search to lead astray
    for key, (old, new) in changed.items():
        if begun and key not in allow:
            given = f"{key} was {_told(old)} when the run began, and is {_told(new)} now"
            raise InputError(given, f"what it was, or --allow {key} if the search may go another way from here", str(folder))
    if unused := [key for key in allow if key not in changed]:
        advice = f"changed has {', '.join(changed) or 'nothing'}"
        raise InputError(f"--allow {unused[0]}, which has not changed", suggestion(unused[0], changed, advice))
    again = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "allowed": {key: {"was": a, "is": b} for key, (a, b) in changed.items()},
    }
    kept = manifest | {key: found[key] for key in (*ENTERS, "packages", "config", "imports")}
    output.write_json(folder / "manifest.json", kept | {"resumed": [*manifest.get("resumed", []), again]})
    if changed:
        write(folder / "config.toml", output.toml(found["config"]))
    return config


def _enters(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """All that may change a number of a run, by name."""
    tables = {key: manifest.get(key) or {} for key in ("packages", "imports")}
    return {key: manifest.get(key) for key in ENTERS} | _flat(tables) | _flat(manifest["config"])


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    rows = {}
    for key, value in table.items():
        rows |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return rows


def _told(value: Any) -> str:
    text = json.dumps(value) if value is not None else "not given"
    return text if len(text) <= 60 else text[:57] + "..."
