"""The journal of a study: every evaluation, on disk before the optimizer sees it.

    journal.jsonl       one record a line: the CRC-32 of the rest, a space, JSON; the first describes the study
    states/<id>.npz     flow states that evaluations start from; each record has the CRC-32 of its own

Numbers are written as the shortest decimals that give the same double, so they come back to the bit. A record is
appended, flushed and synced as a whole; a last line that was cut short by a crash is dropped when the journal is opened
again, and a damaged line before that is an error. States are written beside their place and moved there before the
record that names them, so a name in the journal is a whole file, and its checksum tells whether it is still the same one
(records of before there were checksums are taken at their word). Nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float

from fluidgrad.errors import InputError, OutOfReach

Record = dict[str, Any]


class Journal:
    """Records and states in a folder, or in memory where there is none.

    Attributes:
        records: all evaluations so far, those found when opened included.
    """

    def __init__(self, folder: str | Path | None, study: Record):
        """Open or begin the journal of a study.

        Raises:
            InputError: the folder holds the journal of another study, or a damaged one.
        """
        self.folder = None if folder is None else Path(folder)
        self.study = json.loads(_encode(study)[9:])  # as it will be read again
        self.records: list[Record] = []
        self._states: dict[str, np.ndarray] = {}
        if self.folder is not None and self._file.exists():
            found, whole = read(self._file)
            if whole < self._file.stat().st_size:
                os.truncate(self._file, whole)
            if found:
                _check_same(self._file, found[0], self.study)
                self.records = found[1:]

    @property
    def _file(self) -> Path:
        assert self.folder is not None
        return self.folder / "journal.jsonl"

    def append(self, record: Record) -> None:
        """Add a record; when this returns it is on the disk.

        Raises:
            OSError: the disk; a journal that was deleted since the first record.
        """
        line = _encode(record)
        if self.folder is not None:
            self._check_there()
            new = not self._file.exists() or self._file.stat().st_size == 0
            self.folder.mkdir(parents=True, exist_ok=True)
            with open(self._file, "ab") as file:
                file.write(_encode(self.study) + line if new else line)
                file.flush()
                os.fsync(file.fileno())
            if new:
                _sync(self.folder)
        self.records.append(json.loads(line[9:]))

    def _check_there(self) -> None:
        """A journal that is gone was taken away, and one that began in the middle would be of no use."""
        if self.records and not self._file.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self._file))

    def save_state(self, name: str, state: Float[np.ndarray, " unknowns"]) -> str:
        """Keep a state under a name; returns its checksum, for the record that names it."""
        if self.folder is None:
            self._states[name] = state
            return _checksum(state)
        states = self.folder / "states"
        states.mkdir(parents=not self.records, exist_ok=True)
        beside = states / f".{name}.npz.part"
        with open(beside, "wb") as file:
            np.savez(file, state=state)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, states / f"{name}.npz")
        _sync(states)
        return _checksum(state)

    def state(self, name: str) -> Float[np.ndarray, " unknowns"]:
        """The state of a name.

        Raises:
            OutOfReach: its file is missing or damaged, or holds another state than the record that names it had.
            OSError: the journal itself was deleted since the first record.
        """
        if self.folder is None:
            return self._states[name]
        self._check_there()
        path = self.folder / "states" / f"{name}.npz"
        advice = "its journal needs it: put the file back, or start again in another folder"
        try:
            with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
                found = file["state"]
        except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zlib.error, BadZipFile) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise OutOfReach(f"the state {path} cannot be read: {reason}", accepted=advice) from None
        told = next((r.get("checksum") for r in self.records if r.get("state") == name), None)
        if told is not None and _checksum(found) != told:
            raise OutOfReach(f"the state {path} is another than the one that was written there", accepted=advice)
        return found


def read(file: Path) -> tuple[list[Record], int]:
    """The records of a journal, and the bytes they take: less than the file has where its last record is torn.

    Raises:
        InputError: a damaged record that is not the last.
    """
    lines = file.read_bytes().split(b"\n")  # what follows the last newline is torn, or empty
    records, whole = [], 0
    for number, line in enumerate(lines[:-1]):
        try:
            records.append(_decode(line))
        except ValueError:
            if any(lines[number + 1 :]):
                advice = "later records cannot be trusted: cut the file there to go on from it, or start again in another folder"
                raise InputError(f"record {number + 1} of {file} is damaged", accepted=advice) from None
            break
        whole += len(line) + 1
    return records, whole


def _checksum(state: np.ndarray) -> str:
    return f"{zlib.crc32(np.ascontiguousarray(state).tobytes()):08x}"


def _encode(record: Mapping[str, Any]) -> bytes:
    text = json.dumps(record, allow_nan=False, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _decode(line: bytes) -> Record:
    if int(line[:8], 16) != zlib.crc32(line[9:]):
        raise ValueError("checksum")
    return json.loads(line[9:])


def _check_same(file: Path, then: Record, now: Record) -> None:
    for key in sorted(now.keys() | then.keys()):
        if now.get(key) != then.get(key):
            old, new = (s if len(s := json.dumps(d.get(key))) <= 60 else s[:57] + "..." for d in (then, now))
            given = f"{file} is of another study: its {key} was {old}, now {new}"
            raise InputError(given, accepted="the study it was begun with, or another folder")


def _sync(folder: Path) -> None:
    """Put a new name in a folder on the disk (a folder cannot be opened on Windows, which does that by itself)."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
