"""What a run leaves behind: its folder, and the files in it.

    runs/<config>-<n>/
      report.html      all of it on one page, in one file
      config.toml      as resolved: every default filled in, tables read
      manifest.json    version, commit, devices, precision, threads, packages, the config as it was when the run began
      journal.jsonl    every evaluation of an optimisation, and states/ they start from: what a run goes on from
      results.json     every final figure, with units and residuals
      history.csv      one row for each evaluation of an optimisation
      fields.nc, .vtu  the flow on its mesh, for xarray and ParaView (of an optimisation: at the optimum, and fields_start)
      walls.csv, .vtu  pressure and friction along the walls
      solution.npz     the unknowns, for fluidgrad itself
      figures/*.png

A file is written beside its place and moved there, so it is whole or absent. Folders are never overwritten.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import platform
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from fluidgrad.app.config.config import Config
from fluidgrad.app.config.mesh_sections import MeshFile
from fluidgrad.errors import InputError
from fluidgrad.files import read_text, size_of, write

PACKAGES = ("jax", "jaxlib", "numpy", "scipy", "optax", "nlopt", "pydantic", "meshio", "matplotlib", "xarray", "h5netcdf")


def new_folder(name: str, root: str | Path = "runs") -> Path:
    """Make the next free ``root/name-n``; two processes never get the same.

    Raises:
        InputError: it cannot be written to.
    """
    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        ends = [f.name.removeprefix(f"{name}-") for f in root.iterdir() if f.name.startswith(f"{name}-")]
        taken = [int(end) for end in ends if end.isascii() and end.isdigit() and len(end) < 9]
        for n in range(max(taken, default=0) + 1, 10**6):
            try:
                (root / f"{name}-{n}").mkdir()
                return root / f"{name}-{n}"
            except FileExistsError:
                continue
    except OSError as error:
        raise InputError(
            f"cannot make a run folder in {str(root)!r}: {error.strerror}", accepted="a folder that can be written to"
        ) from None
    raise AssertionError(name)


def write_json(path: Path, data: Any) -> None:
    write(path, json.dumps(plain(data), indent=2, allow_nan=False) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(columns)
    table.writerows([_cell(v) for v in row] for row in rows)
    write(path, text.getvalue())


def write_arrays(path: Path, **arrays: Any) -> None:
    """A compressed file of named arrays; nothing in it can execute."""
    data = io.BytesIO()
    np.savez_compressed(data, **{k: np.asarray(v) for k, v in arrays.items()}, allow_pickle=False)
    write(path, data.getvalue())


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file.

    Raises:
        InputError: missing or damaged.
    """
    try:
        size_of(path)
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as data:
            return {name: data[name] for name in data.files}
    except (OSError, ValueError, EOFError, KeyError, NotImplementedError, zlib.error, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is damaged"
        raise InputError(f"cannot read {str(path)!r}: {reason}", accepted="the folder of a finished run") from None


def read_json(path: Path) -> dict[str, Any]:
    """The table in a JSON file.

    Raises:
        InputError: missing, damaged, or no table.
    """
    text = read_text(path, "", "the folder of a finished run")
    try:
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("not a table")
        return data
    except (ValueError, RecursionError) as error:
        given = f"cannot read {str(path)!r}: it is damaged ({error})"
        raise InputError(given, accepted="the folder of a finished run") from None


def finished(folder: Path) -> bool:
    """Whether the run in a folder was done to its end."""
    try:
        return bool(read_json(folder / "results.json").get("finished"))
    except InputError:
        return False


def read_csv(path: Path) -> dict[str, list[str]]:
    """The columns of a table.

    Raises:
        InputError: missing or damaged.
    """
    text = read_text(path, "", "the folder of a finished run")
    try:
        table = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        rows = list(table)
        if any(None in row or None in row.values() for row in rows):
            raise ValueError("a row of another length than the head")
        return {k: [r[k] for r in rows] for k in table.fieldnames or ()}
    except (ValueError, csv.Error) as error:
        given = f"cannot read {str(path)!r}: it is damaged ({error})"
        raise InputError(given, accepted="the folder of a finished run") from None


def plain(value: Any) -> Any:
    """The same in JSON's types; a number that is not finite is null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, str | bool | type(None)):
        return value
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, int) else str(value)


def _cell(value: Any) -> Any:
    value = plain(value)
    return repr(value) if isinstance(value, float) else value


def save_inputs(folder: Path, config: Config, imports: Sequence[Path] = ()) -> None:
    """The config as resolved, the mesh file and the user's functionals it needs, and the manifest."""
    files = [*([Path(config.mesh.path)] if isinstance(config.mesh, MeshFile) else []), *imports]
    for k, file in enumerate(files):
        if file.name.casefold() in [f.name.casefold() for f in files[:k]]:
            raise InputError(f"two files are called {file.name!r}", accepted="another name for one of them: a run keeps a copy of both")
        shutil.copyfile(file, folder / file.name)
    data = resolved(config)
    write(folder / "config.toml", toml(data))
    write_json(folder / "manifest.json", manifest() | {"imports": hashes(imports), "config": data})


def resolved(config: Config) -> dict[str, Any]:
    """A config as data, every default filled in, as it is for a folder that holds the files it names."""
    data = config.model_dump(exclude_none=True, mode="json")
    if isinstance(config.mesh, MeshFile):
        data["mesh"]["path"] = Path(config.mesh.path).name
    return data


def hashes(files: Sequence[Path]) -> dict[str, str]:
    """The SHA-256 of files by their names.

    Raises:
        InputError: not readable.
    """
    try:
        return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    except OSError as error:
        raise InputError(f"cannot read {error.filename!r}: {error.strerror}", accepted="--import FILE.py") from None


def manifest() -> dict[str, Any]:
    """Where and with what a run was made."""
    import jax

    return {
        "fluidgrad": metadata.version("fluidgrad"),
        "commit": _commit(),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "devices": [f"{d.platform}: {d.device_kind}" for d in jax.devices()],
        "dtype": str(jax.numpy.zeros(()).dtype),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "packages": {p: metadata.version(p) for p in PACKAGES if _installed(p)},
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def _installed(package: str) -> bool:
    try:
        return bool(metadata.version(package))
    except metadata.PackageNotFoundError:
        return False


def _commit() -> str | None:
    """Of the checkout that the package is run from, if it is one."""
    here = Path(__file__).parents[3]
    if not (here / ".git").exists():
        return None
    try:
        found = subprocess.run(["git", "-C", str(here), "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=5)
        return found.stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def toml(data: Mapping[str, Any]) -> str:
    """A config as TOML: sections, and inline tables below them."""
    text = []
    for section, value in data.items():
        if isinstance(value, list):
            text += [f"[[{section}]]\n" + _entries(item) for item in value]
        elif value:
            text.append(f"[{section}]\n" + _entries(value))
    return "\n".join(text)


def _entries(table: Mapping[str, Any]) -> str:
    first = {k: table[k] for k in ("kind",) if k in table}
    return "".join(f"{_key(k)} = {toml_value(v)}\n" for k, v in (first | dict(table)).items() if v not in ({}, []))


def _key(key: str) -> str:
    return key if key and all(c.isascii() and (c.isalnum() or c in "_-") for c in key) else toml_value(key)


def toml_value(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {toml_value(v)}" for k, v in value.items()) + " }" if value else "{}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(toml_value(v) for v in value) + "]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
    return repr(value).lower() if isinstance(value, bool) else repr(value)
