"""From a file to a config.

What is wrong with it is told in one line (``diagnosis.py``): what was given, where, and what is accepted.
"""

from __future__ import annotations

import copy
import os
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fluidgrad.app.config.config import Config
from fluidgrad.app.config.diagnosis import diagnose
from fluidgrad.app.config.paths import assignment, dotted, steps
from fluidgrad.app.config.sections import suggestion
from fluidgrad.errors import InputError
from fluidgrad.files import read_text


def load(path: str | Path, settings: Sequence[str] = (), over: Sequence[str] = ()) -> Config:
    """The config of a file, or of a shipped one by its name.

    Args:
        path: a TOML file, or the name of one in the package's ``configs``.
        settings: ``section.key=value`` to put over what the file says; values as in TOML.
        over: the same of a sweep's member, which are put over those.

    Raises:
        InputError: not readable, not TOML, or not a config; one line, with the place.
    """
    found = find(path)
    return parse(read_text(found, "the config", "a TOML file"), found.name, found.parent, settings, over)


def parse(text: str, name: str, folder: Path, settings: Sequence[str] = (), over: Sequence[str] = ()) -> Config:
    """The config in a text; ``name`` and ``folder`` say where it came from."""
    file = _toml(text, name, "key = value in [sections], see https://toml.io")
    data = copy.deepcopy(file)
    given = {apply(data, text, option): option for option, texts in (("--set", settings), ("--over", over)) for text in texts}
    try:
        return Config.model_validate(data, context={"folder": folder})
    except ValidationError as error:
        raise diagnose(error, data, file, name, given) from None


def _toml(text: str, name: str, accepted: str) -> dict[str, Any]:
    """The tables of a text.

    Raises:
        InputError: it is not TOML, or holds numbers or nesting beyond reason.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{name} is not TOML: {str(error)[:1].lower()}{str(error)[1:]}", accepted) from None
    except (ValueError, RecursionError) as error:  # a whole number of thousands of digits; brackets in brackets
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else "a number has too many digits"
        raise InputError(f"{name} is not TOML that can be read: {reason}", accepted) from None


def find(path: str | Path) -> Path:
    """The file at a path, or the shipped config of that name."""
    if os.path.isfile(path):
        return Path(path)
    shipped = {f.stem: f for f in sorted(shipped_folder().glob("*.toml"))}
    if (stem := str(path).removesuffix(".toml")) in shipped:
        return shipped[stem]
    what = "it is a folder" if os.path.isdir(path) else "there is no such file"
    raise InputError(f"cannot read {str(path)!r}: {what}", suggestion(stem, shipped, f"a TOML file, or one of: {', '.join(shipped)}"))


def shipped_folder() -> Path:
    """Where the package keeps its configs: inside it when installed, beside it in a checkout."""
    package = Path(__file__).parents[2]
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def apply(data: dict[str, Any], setting: str, option: str = "--set") -> str:
    """Put ``section.key=value`` into the data; returns the key. ``option`` is how it was given.

    Raises:
        InputError: no equals sign, a key that is empty somewhere, or a path through something that is not a table.
    """
    key, equals, text = assignment(setting)
    if not equals or not key:
        raise InputError(f"{option} {setting}", f"{option} section.key=value")
    *path, last = steps(key)
    if "" in (*path, last):
        raise InputError(f"{option} {setting}: {key!r} has an empty part", f"{option} section.key=value")
    value = _value(f"{option} {key}", text)
    target: Any = data
    for i, k in enumerate(path):
        target = target.setdefault(k, {}) if isinstance(target, dict) else _entry(target, f"{option} {key}", path[:i], k)
    if isinstance(target, dict):
        target[last] = value
    else:
        _entry(target, f"{option} {key}", path, last)
        target[int(last)] = value
    return dotted((*path, last))


def _value(given: str, text: str) -> Any:
    """The value in a setting: as in TOML, or text without its quotes, which a shell takes away."""
    try:
        found = _toml(f"value = {text}", f"{given}: {text}", "a value as in TOML")
    except InputError:
        if text[:1] in ("{", "["):
            raise
        return text
    if set(found) != {"value"}:
        raise InputError(f"{given}: {text} is more than a value", "one value, and the option again for another")
    return found["value"]


def _entry(target: Any, given: str, path: Sequence[str], index: str) -> Any:
    """What is at an index of a list.

    Raises:
        InputError: the target is no list, or not that long.
    """
    name = dotted(path)
    if not isinstance(target, list):
        raise InputError(f"{given}: {name!r} is not a table of the config", f"{given.split()[0]} section.key=value")
    if not (index.isascii() and index.isdigit() and len(index) < 9 and int(index) < len(target)):
        have = f"from {name}.0 to {name}.{len(target) - 1}" if target else f"none: {name} is empty"
        raise InputError(f"{given}: there is no {name}.{index}", f"there are {have}" if target else f"there is {have}")
    return target[int(index)]
