"""Files: the names that become theirs, texts that are read whole or refused, and writing that leaves a whole file or none."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fluidgrad.errors import InputError

LONGEST_NAME = 60  # characters of a name that stand in a file's name
LARGEST_TEXT = 100_000_000  # bytes
DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}  # no files on Windows


def file_name(name: str, among: Iterable[str] = ()) -> str:
    """A name as a part of a file's name, on every system: short ones of ASCII letters, digits, _ and - as they are.

    Of any other what can be kept is kept, and a hash of all of it follows, so that two names never have one file: also
    names that differ in case alone, where ``among`` are the other names.
    """
    alike = any(other != name and other.casefold() == name.casefold() for other in among)
    if re.fullmatch(rf"[A-Za-z0-9_-]{{1,{LONGEST_NAME}}}", name) and name.lower() not in DEVICES and not alike:
        return name
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    kept = re.sub(r"[^A-Za-z0-9]+", "_", plain)[: LONGEST_NAME - 13].strip("_")
    return f"{kept}~{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"  # no plain name has a ~


def read_text(path: str | Path, what: str, accepted: str) -> str:
    """The text in a file; ``what`` it is called in a message ("" for nothing but its path).

    Raises:
        InputError: not readable; no file but a device or a pipe, whose end may never come; too large; not UTF-8.
    """
    given = " ".join(("cannot read", *filter(None, [what]), repr(str(path))))
    try:
        if (size := size_of(path)) > LARGEST_TEXT:
            raise InputError(f"{given}: it has {size:.3g} bytes", f"{accepted}, of at most {LARGEST_TEXT:.0e} bytes")
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{given}: it is not text in UTF-8", accepted) from None
    except OSError as error:
        raise InputError(f"{given}: {error.strerror or error}", accepted) from None
    except ValueError as error:  # of the path: a NUL in it
        raise error if isinstance(error, InputError) else InputError(f"{given}: {error}", accepted) from None


def size_of(path: str | Path) -> int:
    """Bytes of a file.

    Raises:
        OSError: there is none; or it is a device or a pipe, reading which may never end.
    """
    about = Path(path).stat()
    if not stat.S_ISREG(about.st_mode) and not stat.S_ISDIR(about.st_mode):  # reading a folder says so itself
        raise OSError(None, "it is a device or a pipe, not a file")
    return about.st_size


def write(path: Path, data: str | bytes) -> None:
    """Write a file that is whole or absent, into a folder that is there: one that was deleted is not to come back."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data.encode() if isinstance(data, str) else data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_writable(path: Path) -> None:
    """Refuse a file that :func:`write` could not write, before the work for it is done.

    Raises:
        InputError: its folder is not there or cannot be written to, or it is a folder itself.
    """
    with refused_as_output(path):
        if path.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        tempfile.TemporaryFile(dir=path.parent).close()


@contextmanager
def refused_as_output(path: Path) -> Iterator[None]:
    """Within this, what the system says against writing a file is bad input."""
    try:
        yield
    except OSError as error:
        raise InputError(f"cannot write {str(path)!r}: {error.strerror}", accepted="a file in a folder that can be written to") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside a file for a library to write to; it is moved there when that is done."""
    beside = path.with_name(f".part.{path.name}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
