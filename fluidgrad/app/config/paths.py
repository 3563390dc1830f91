"""Paths into a config: keys joined by dots. A key that holds a dot stands in quotes, as in TOML: ``boundary."a.b".speed``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable

QUOTED = r'"(?:[^"\\]|\\.)*"|\'[^\']*\''
KEY = re.compile(rf"(?:{QUOTED})(?=\.|$)|[^.]*")
ASSIGNED = re.compile(rf"((?:{QUOTED}|[^=\"'])*)=(.*)", re.DOTALL)


def steps(path: str) -> list[str]:
    """The keys of a path."""
    found, at = [], 0
    while (key := KEY.match(path, at)) is not None:
        found.append(_bare(key.group()))
        at = key.end() + 1
        if key.end() >= len(path):
            break
    return found


def dotted(keys: Iterable[str | int]) -> str:
    """The path of keys."""
    return ".".join(_quoted(str(key)) for key in keys)


def plain(path: str) -> str:
    """The path as it is written where no key needs quotes; one with an empty key as it is, to be refused."""
    return path if "" in (keys := steps(path)) else dotted(keys)


def assignment(text: str) -> tuple[str, str, str]:
    """The path, the equals sign and the value in ``path=value``; as ``str.partition`` of what has no equals sign."""
    found = ASSIGNED.fullmatch(text)
    return (found[1].strip(), "=", found[2].strip()) if found else text.partition("=")


def _quoted(key: str) -> str:
    return json.dumps(key, ensure_ascii=False) if key[:1] in ("", '"', "'") or set(key) & set(".=") or key != key.strip() else key


def _bare(key: str) -> str:
    try:
        return json.loads(key) if key[:1] == key[-1:] == '"' and len(key) > 1 else key[1:-1] if key[:1] == key[-1:] == "'" else key
    except ValueError:  # an escape that is none
        return key
