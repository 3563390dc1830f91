"""From whatever is wrong with a config to one line: what was given, where (file and key, or --set), and what is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from fluidgrad.app.config.config import Config
from fluidgrad.app.config.paths import dotted
from fluidgrad.app.config.sections import beyond, models_in, suggestion
from fluidgrad.errors import InputError

Path = tuple[str | int, ...]
KINDS = {  # of pydantic's errors -> what is accepted
    "float_type": "a number",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "string_type": 'text in quotes ("...")',
    "string_too_short": "text that is not empty",
    "list_type": "a list [...]",
    "tuple_type": "a list [...]",
    "dict_type": "a table {...}",
    "model_type": "a table {...}",
    "model_attributes_type": "a table {...}",
    "finite_number": "a finite number",
}
LIMITS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}


def diagnose(error: ValidationError, data: Any, file: Any, name: str, settings: Mapping[str, str]) -> InputError:
    """The one error worth telling: where a value may be one of several things, that which came nearest.

    Args:
        error: what pydantic found in ``data``.
        data: the file's tables with the settings over them.
        file: the file's tables alone, called ``name``.
        settings: the keys that were set, and by which option.
    """
    problems = [(_route(e, data), e) for e in error.errors(include_url=False)]
    first = problems[0][0][:1]
    path, problem = max((p for p in problems if p[0][:1] == first), key=lambda p: (_rank(p[1]), len(p[0])))
    kind, ctx, given = problem["type"], problem.get("ctx", {}), problem["input"]
    where = _where(path, kind, file, name, settings)
    inner = ctx.get("error")
    if isinstance(inner, InputError):
        return InputError(inner.given, inner.accepted, where)
    key = _name(path) if path else name
    if kind == "extra_forbidden":
        known = _keys(path[:-1], data)
        return InputError(f"unknown key {key!r}", beyond(key) or suggestion(key, known, f"accepted: {', '.join(known)}"), where)
    if kind == "missing":
        return InputError(f"{key} is missing", _description(path, data), where)
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        kinds = [k.strip("' ") for k in ctx.get("expected_tags", "").split(",")] if "expected_tags" in ctx else _tags(path, data)
        if kind == "union_tag_not_found":
            what = f"{key} needs a kind" if isinstance(given, Mapping) else f"{key} must be a table with a kind, got {_show(given)}"
            return InputError(what, f"kind = one of {', '.join(kinds)}", where)
        tag = str(ctx["tag"])
        return InputError(f"{key} has the unknown kind {tag!r}", beyond(tag) or suggestion(tag, kinds, f"one of {', '.join(kinds)}"), where)
    if kind == "literal_error":
        choices = [c.strip("' ") for c in ctx["expected"].replace(" or ", ", ").split(",")]
        advice = suggestion(str(given), choices, "") or None
        return InputError(f"{key} must be one of {', '.join(choices)}, got {_show(given)}", advice, where)
    if kind in ("too_short", "too_long"):
        word, count = ("at least", ctx.get("min_length")) if kind == "too_short" else ("at most", ctx.get("max_length"))
        needed = "needed" if kind == "too_short" else "accepted"
        return InputError(f"{key} has {len(given)} entries, {word} {count} are {needed}", _description(path, data), where)
    if kind == "string_pattern_mismatch":
        return InputError(
            f"{key} cannot be {_show(given)}", "letters and digits, without spaces or dots: " + (_description(path, data) or ""), where
        )
    if kind == "string_too_long":
        return InputError(f"{key} has {len(given)} characters", f"at most {ctx['max_length']}", where)
    if kind in LIMITS:
        limit, word = LIMITS[kind]
        must = "positive" if kind == "greater_than" and ctx[limit] == 0 else f"{word} {ctx[limit]:g}"
        return InputError(f"{key} must be {must}, got {_show(given)}", _description(path, data), where)
    same = [e for p, e in problems if p == path]
    wanted = list(dict.fromkeys(KINDS.get(e["type"], e["msg"][:1].lower() + e["msg"][1:]) for e in same))
    return InputError(f"{key} must be {' or '.join(wanted)}, got {_show(given)}", None, where)


def _where(path: Path, kind: str, file: Any, name: str, settings: Mapping[str, str]) -> str:
    """The option that the problem came from: one at its path or above, or, where the file has no such table, one below."""
    if kind in ("union_tag_invalid", "union_tag_not_found") and (key := dotted((*path, "kind"))) in settings:
        return f"{settings[key]} {key}"
    if above := [option for s, option in settings.items() if f"{dotted(path)}.".startswith(f"{s}.")]:
        return f"{above[-1]} {dotted(path)}"
    table = path[:-1] if kind == "missing" else path
    below = [s for s in settings if s.startswith(f"{dotted(table)}.")]
    if below and not _has(file, table):
        return f"{settings[below[0]]} {below[0]}"
    if not path:
        return name
    section, *rest = path
    label = f"[{section}]"
    if rest and isinstance(rest[0], int):
        label, rest = f"[[{section}]] {rest[0] + 1}", rest[1:]
    key = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in rest).lstrip(".")
    return f"{label} {key} in {name}".replace("  ", " ")


def _has(data: Any, path: Path) -> bool:
    for step in path:
        if isinstance(data, list):
            data = dict(enumerate(data))
        if not isinstance(data, dict) or step not in data:
            return False
        data = data[step]
    return True


def _name(path: Path) -> str:
    """The last key of a path, with the indices behind it."""
    last = max((i for i, step in enumerate(path) if isinstance(step, str)), default=0)
    return "".join(f"[{step}]" if isinstance(step, int) else step or '""' for step in path[last:])


def _route(problem: Mapping[str, Any], data: Any) -> Path:
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


def _model_at(path: Path, data: Any) -> Any:
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
    models = [m for m in models_in(annotation)]
    kind = data.get("kind") if isinstance(data, dict) else None
    if isinstance(data, dict) and kind is None:  # told apart by their keys
        models = next(([m] for m in models[::-1] if any(k in m.model_fields for k in data)), models)
    for model in models:
        if "kind" in model.model_fields and get_args(model.model_fields["kind"].annotation)[0] == kind:
            return model
    return models[0] if len(models) == 1 else annotation


def _tags(path: Path, data: Any) -> list[str]:
    return [get_args(m.model_fields["kind"].annotation)[0] for m in models_in(_model_at(path, data)) if "kind" in m.model_fields]


def _keys(path: Path, data: Any) -> list[str]:
    model = _model_at(path, data)
    return list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []


def _description(path: Path, data: Any) -> str | None:
    model = _model_at(path[:-1], data)
    if isinstance(model, type) and issubclass(model, BaseModel) and path and (field := model.model_fields.get(str(path[-1]))):
        return field.description
    return None


def _show(value: Any) -> str:
    text = repr(value).replace("'", '"') if not isinstance(value, bool) else str(value).lower()
    return text if len(text) <= 40 else text[:37] + "..."
