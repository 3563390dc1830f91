"""From a file to a config, and from whatever is wrong with it to one line.

A message says what was given, where (file and key), and what is accepted, with the nearest name for a misspelt one.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from fluidgrad.app.config import Config
from fluidgrad.app.sections import TRACED, suggestion
from fluidgrad.errors import InputError

KINDS = {  # of pydantic's errors -> what is accepted
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "string_type": 'text in quotes ("...")',
    "list_type": "a list [...]",
    "tuple_type": "a list [...]",
    "dict_type": "a table {...}",
    "model_type": "a table {...}",
    "model_attributes_type": "a table {...}",
    "finite_number": "a finite number",
}


def load(path: str | Path, settings: Sequence[str] = ()) -> Config:
    """The config of a file, or of a shipped one by its name.

    Args:
        path: a TOML file, or the name of one in the package's ``configs``.
        settings: ``section.key=value`` to put over what the file says; values as in TOML.

    Raises:
        InputError: not readable, not TOML, or not a config; one line, with the place.
    """
    found = find(path)
    try:
        text = found.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InputError(f"cannot read {str(path)!r}: {reason}", accepted="a TOML file") from None
    return parse(text, found.name, found.parent, settings)


def parse(text: str, name: str, folder: Path, settings: Sequence[str] = ()) -> Config:
    """The config in a text; ``name`` and ``folder`` say where it came from."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{name} is not TOML: {_lower(str(error))}", accepted="key = value in [sections], see https://toml.io") from None
    given = [apply(data, setting) for setting in settings]
    try:
        return Config.model_validate(data, context={"folder": folder})
    except ValidationError as error:
        raise _explain(error, data, name, given) from None


def find(path: str | Path) -> Path:
    """The file at a path, or the shipped config of that name."""
    if Path(path).is_file():
        return Path(path)
    shipped = {f.stem: f for f in sorted(shipped_folder().glob("*.toml"))}
    if (stem := str(path).removesuffix(".toml")) in shipped:
        return shipped[stem]
    what = "it is a folder" if Path(path).is_dir() else "there is no such file"
    raise InputError(f"cannot read {str(path)!r}: {what}", suggestion(stem, shipped, f"a TOML file, or one of: {', '.join(shipped)}"))


def shipped_folder() -> Path:
    """Where the package keeps its configs: inside it when installed, beside it in a checkout."""
    package = Path(__file__).parents[1]
    return package / "configs" if (package / "configs").is_dir() else package.parent / "configs"


def apply(data: dict[str, Any], setting: str) -> str:
    """Put ``section.key=value`` into the data; returns the key.

    Raises:
        InputError: no equals sign, or a path through something that is not a table.
    """
    key, equals, text = setting.partition("=")
    key, text = key.strip(), text.strip()
    if not equals or not key:
        raise InputError(f"--set {setting}", accepted="--set section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError as error:
        if text[:1] in ("{", "["):
            raise InputError(f"--set {key}: {text} is not TOML: {_lower(str(error))}", accepted="a value as in TOML") from None
        value = text  # text without its quotes, which a shell takes away
    target: Any = data
    *path, last = key.split(".")
    for k in path:
        if isinstance(target, dict):
            target = target.setdefault(k, {})
        else:
            target = target[int(k)] if isinstance(target, list) and k.isdigit() and int(k) < len(target) else None
    if isinstance(target, dict):
        target[last] = value
        return key
    if isinstance(target, list) and last.isdigit() and int(last) < len(target):
        target[int(last)] = value
        return key
    raise InputError(f"--set {setting}: {key.rpartition('.')[0]!r} is not a table of the config", accepted="--set section.key=value")


def explain(key: str) -> str:
    """What ``section.key`` means: description, default, limits; of a section, its keys.

    Raises:
        InputError: no such key.
    """
    models: list[type[BaseModel]] = [Config]
    field = None
    free = False  # the next name may be any: that of a patch
    for name in key.split(".") if key else []:
        owners = [m for m in models if name in m.model_fields]
        if not owners:
            if free:
                free = False
                continue
            known = list(dict.fromkeys(k for m in models for k in m.model_fields))
            raise InputError(f"there is no key {name!r} in {key!r}", suggestion(name, known, f"there are: {', '.join(known)}"))
        field = owners[0].model_fields[name]
        free = getattr(field.annotation, "__origin__", None) is dict
        models = list(dict.fromkeys(m for owner in owners for m in _models(owner.model_fields[name].annotation)))
    lines = [f"{key}: {_told(field)}"] if field is not None else []
    for model in models:
        kind = get_args(model.model_fields["kind"].annotation)[0] if "kind" in model.model_fields else None
        lines.append((f'kind = "{kind}": ' if kind else "") + (model.__doc__ or "").splitlines()[0])
        lines += [f"  {name}: {_told(f)}" for name, f in model.model_fields.items() if name != "kind"]
    return "\n".join(lines)


def _told(field: Any) -> str:
    """Description, limits and default of a field in a line."""
    words = {"Gt": "above {gt:g}", "Ge": "at least {ge:g}", "Lt": "below {lt:g}", "Le": "at most {le:g}"}
    limits = [words[kind].format(**{kind.lower(): getattr(m, kind.lower())}) for m in field.metadata if (kind := type(m).__name__) in words]
    choices = [f'"{c}"' for c in get_args(field.annotation) if isinstance(c, str)]
    default = (
        "needed"
        if field.is_required()
        else ""
        if field.default is None or isinstance(field.default, BaseModel)
        else f"default {json.dumps(field.default)}"
    )
    traced = "a design may vary it" if TRACED in field.metadata else ""
    return "; ".join(part for part in (field.description, " or ".join(choices), ", ".join(limits), default, traced) if part)


def _explain(error: ValidationError, data: Any, name: str, settings: list[str]) -> InputError:
    """The one error worth telling: where a value may be one of several things, that which came nearest."""
    problems = [(_route(e, data), e) for e in error.errors(include_url=False)]
    first = problems[0][0][:1]
    path, problem = max((p for p in problems if p[0][:1] == first), key=lambda p: (_rank(p[1]), len(p[0])))
    same = [e for p, e in problems if p == path]
    where = _where(path, problem, name)
    if problem["type"] in ("union_tag_invalid", "union_tag_not_found") and ".".join([*map(str, path), "kind"]) in settings:
        where = f"--set {'.'.join(map(str, path))}.kind"
    elif any(s == ".".join(map(str, path)) or ".".join(map(str, path)).startswith(s + ".") for s in settings):
        where = f"--set {'.'.join(map(str, path))}"
    inner = problem.get("ctx", {}).get("error")
    if isinstance(inner, InputError):
        return InputError(inner.given, inner.accepted, where)
    key = str(path[-1]) if path else name
    if isinstance(path[-1] if path else "", int):
        key = f"{path[-2]}[{path[-1]}]"
    kind, ctx, given = problem["type"], problem.get("ctx", {}), problem["input"]
    if kind == "extra_forbidden":
        known = _keys(path[:-1], data)
        return InputError(f"unknown key {key!r}", suggestion(key, known, f"accepted: {', '.join(known)}"), where)
    if kind == "missing":
        return InputError(f"{key} is missing", _description(path, data), where)
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        kinds = [k.strip("' ") for k in ctx.get("expected_tags", "").split(",")] if "expected_tags" in ctx else _tags(path, data)
        if kind == "union_tag_not_found":
            what = f"{key} needs a kind" if isinstance(given, Mapping) else f"{key} must be a table with a kind, got {_show(given)}"
            return InputError(what, f"kind = one of {', '.join(kinds)}", where)
        tag = str(ctx["tag"])
        return InputError(f"{key} has the unknown kind {tag!r}", suggestion(tag, kinds, f"one of {', '.join(kinds)}"), where)
    if kind == "literal_error":
        choices = [c.strip("' ") for c in ctx["expected"].replace(" or ", ", ").split(",")]
        return InputError(
            f"{key} must be one of {', '.join(choices)}, got {_show(given)}", suggestion(str(given), choices, "") or None, where
        )
    if kind in ("too_short", "too_long"):
        word, count = ("at least", ctx.get("min_length")) if kind == "too_short" else ("at most", ctx.get("max_length"))
        needed = "needed" if kind == "too_short" else "accepted"
        return InputError(f"{key} has {len(given)} entries, {word} {count} are {needed}", _description(path, data), where)
    limits = {
        "greater_than": ("gt", "above"),
        "greater_than_equal": ("ge", "at least"),
        "less_than": ("lt", "below"),
        "less_than_equal": ("le", "at most"),
    }
    if kind in limits:
        limit, word = limits[kind]
        must = "positive" if kind == "greater_than" and ctx[limit] == 0 else f"{word} {ctx[limit]:g}"
        return InputError(f"{key} must be {must}, got {_show(given)}", None, where)
    wanted = list(dict.fromkeys(KINDS.get(e["type"], _lower(e["msg"])) for e in same))
    return InputError(f"{key} must be {' or '.join(wanted)}, got {_show(given)}", None, where)


def _route(problem: Mapping[str, Any], data: Any) -> tuple[str | int, ...]:
    """The keys from the root to the problem; pydantic adds the names of union members, which are not in the file."""
    path: list[str | int] = []
    here = data
    for i, step in enumerate(problem["loc"]):
        if isinstance(here, dict) and step in here:
            here = here[step]
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        elif not (i == len(problem["loc"]) - 1 and problem["type"] == "missing"):
            continue
        path.append(step)
    return tuple(path)


def _rank(problem: Mapping[str, Any]) -> int:
    """A misspelt key explains the missing one; a type that does not fit at all is the least telling."""
    return {"extra_forbidden": 2, "missing": 1}.get(problem["type"], 0 if problem["type"] in KINDS else 1)


def _where(path: Sequence[str | int], problem: Mapping[str, Any], name: str) -> str:
    if not path:
        return name
    section, *rest = path
    label = f"[{section}]"
    if rest and isinstance(rest[0], int):
        label, rest = f"[[{section}]] {rest[0] + 1}", rest[1:]
    key = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in rest).lstrip(".")
    return f"{label} {key} in {name}".replace("  ", " ")


def _model_at(path: Sequence[str | int], data: Any) -> Any:
    """The type annotation of what is at a path: models are followed by the file's own kinds."""
    here: Any = Config
    for step in path:
        data = data.get(step) if isinstance(data, dict) else data[step] if isinstance(data, list) and isinstance(step, int) else None
        if isinstance(here, type) and issubclass(here, BaseModel):
            field = here.model_fields.get(str(step))
            here = field.annotation if field else None
        else:
            here = next(iter(get_args(here)[-1:]), None)
        here = _member(here, data)
    return here


def _member(annotation: Any, data: Any) -> Any:
    """The model among a union's members that the file's kind names, or the only model."""
    if getattr(annotation, "__origin__", None) in (dict, list):
        return annotation
    models = [m for m in _models(annotation)]
    kind = data.get("kind") if isinstance(data, dict) else None
    for model in models:
        if "kind" in model.model_fields and get_args(model.model_fields["kind"].annotation)[0] == kind:
            return model
    return models[0] if len(models) == 1 else annotation


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in get_args(annotation) for m in _models(a)]


def _tags(path: Sequence[str | int], data: Any) -> list[str]:
    return [get_args(m.model_fields["kind"].annotation)[0] for m in _models(_model_at(path, data)) if "kind" in m.model_fields]


def _keys(path: Sequence[str | int], data: Any) -> list[str]:
    model = _model_at(path, data)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _description(path: Sequence[str | int], data: Any) -> str | None:
    model = _model_at(path[:-1], data)
    if isinstance(model, type) and issubclass(model, BaseModel) and path and (field := model.model_fields.get(str(path[-1]))):
        return field.description
    return None


def _show(value: Any) -> str:
    text = repr(value).replace("'", '"') if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 40 else text[:37] + "..."


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
