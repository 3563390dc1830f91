"""``config explain`` and ``config schema``: what a key means, from the models and tables that the program itself uses."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

from pydantic import BaseModel

from fluidgrad.app.config.config import Config
from fluidgrad.app.config.curve_sections import Body, Line
from fluidgrad.app.config.flow_sections import AnyBoundary
from fluidgrad.app.config.mesh_sections import AnyMesh
from fluidgrad.app.config.paths import steps
from fluidgrad.app.config.sections import TRACED, beyond, models_in, suggestion
from fluidgrad.errors import InputError

if TYPE_CHECKING:
    from fluidgrad.flow.measures import Functional

LIMITS = {"Gt": "above {gt:g}", "Ge": "at least {ge:g}", "Lt": "below {lt:g}", "Le": "at most {le:g}"}


def explain(key: str = "") -> str:
    """What ``section.key`` means: description, units, default, limits; of a section, its keys; of nothing, the sections. Of
    "functionals" and the like: the list of what there is.

    Raises:
        InputError: no such key.
    """
    if key in LISTS:
        return "\n".join(LISTS[key]())
    models: list[type[BaseModel]] = [Config]
    owners: list[type[BaseModel]] = []
    free = False  # the next name may be any: that of a patch, or an index
    names = steps(key) if key else []
    last = ""  # of the names that are keys
    for i, name in enumerate(names):
        found = [m for m in models if name in m.model_fields]
        if not found:
            if free:
                free = False
                continue
            known = [*dict.fromkeys(k for m in models for k in m.model_fields), *(() if i else LISTS)]
            if not known:
                raise InputError(f"{'.'.join(names[:i])!r} has no keys", accepted=f"config explain {'.'.join(names[:i])}")
            raise InputError(
                f"there is no key {name!r} in {key!r}", beyond(name) or suggestion(name, known, f"there are: {', '.join(known)}")
            )
        owners, last = found, name
        free = getattr(owners[0].model_fields[name].annotation, "__origin__", None) in (dict, list)
        models = list(dict.fromkeys(m for owner in owners for m in models_in(owner.model_fields[name].annotation)))
    meanings: dict[str, list[str]] = {}
    for owner in owners:
        meanings.setdefault(told(owner.model_fields[last]), []).append(f'"{kind_of(owner)}"' if kind_of(owner) else "")
    lines = [f"{key}: {meaning}" for meaning in meanings]
    if len(meanings) > 1:
        lines = [f"{key} of kind {' or '.join(kinds)}: {meaning}" for meaning, kinds in meanings.items()]
    for model in models:
        kind = kind_of(model)
        lines.append((f'kind = "{kind}": ' if kind else "") + (model.__doc__ or "").splitlines()[0])
        lines += [f"  {name}: {told(f)}" for name, f in model.model_fields.items() if name != "kind"]
    lines += LISTS[LISTED[last]]() if last in LISTED else []
    lines += [] if key else [f"and lists: config explain {', '.join(LISTS)}"]
    return "\n".join(lines)


def kind_of(model: type[BaseModel]) -> str:
    """The kind of a table that has one."""
    return get_args(model.model_fields["kind"].annotation)[0] if "kind" in model.model_fields else ""


def schema() -> str:
    """The JSON schema of a config, by which editors complete and check: ``#:schema ./FILE`` as its first line."""
    found = {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Config.model_json_schema()
    return json.dumps(found, indent=2)


def told(field: Any) -> str:
    """Description with units, limits, choices and default of a field in a line."""
    limits = []
    for m in _constraints(field):
        name = type(m).__name__
        if name in LIMITS:
            limits.append(LIMITS[name].format(**{name.lower(): getattr(m, name.lower())}))
    choices = [f'"{c}"' for c in _choices(field.annotation)]
    if field.is_required():
        default = "needed"
    elif field.default is None or isinstance(field.default, BaseModel) or field.default in ({}, []):
        default = "may be left out"
    else:
        default = f"default {json.dumps(field.default)}"
    traced = "a design may vary it" if TRACED in field.metadata else ""
    return "; ".join(part for part in (field.description, " or ".join(choices), ", ".join(limits), default, traced) if part)


def _constraints(field: Any) -> list[Any]:
    """Limits on a number, or on each of a list of them."""
    inner = [m for a in get_args(field.annotation) for m in getattr(a, "__metadata__", ())]
    return [c for m in [*field.metadata, *inner] for c in (getattr(m, "metadata", None) or [m])]


def _choices(annotation: Any) -> list[str]:
    return [c for a in get_args(annotation) for c in ([a] if isinstance(a, str) else _choices(a))]


def _functionals() -> list[str]:
    """Each functional as it is called, with its units and what it is."""
    from fluidgrad.flow.functionals import REGISTRY

    lines = []
    for name, functional in sorted(REGISTRY.items()):
        units = "" if functional.units == "1" else f" [{functional.units}]"
        lines.append(f"  {name}({', '.join(called(functional))}){units}: {first_sentence(functional.__doc__).replace('``', '')}")
    return ["The functionals (units in 2D, where forces and flow rates are per depth):", *lines, "  and your own, by --import FILE.py"]


def called(functional: Functional) -> list[str]:
    """The arguments of a functional as a config gives them."""
    return [_argument(p) for p in list(inspect.signature(functional.function).parameters.values())[1:]]


def _argument(p: inspect.Parameter) -> str:
    if p.kind is p.VAR_POSITIONAL or "Sequence[str]" in str(p.annotation):
        return f"{p.name} (one or a list)"
    return p.name if p.default is p.empty else f"{p.name} = {json.dumps(p.default)}"


def first_sentence(doc: str | None) -> str:
    return " ".join((doc or "").split()).split(". ")[0].rstrip(".")


def _methods() -> list[str]:
    """Each method with the constraints that it takes, and which is chosen when."""
    from fluidgrad.design.optimizers import METHODS, SMALL, choose

    takes = {(False, False): "bounds only", (True, False): "bounds and inequalities", (True, True): "bounds, inequalities and equalities"}
    cases = [(1, []), (SMALL, [(0.0, 1.0)]), (SMALL + 1, [(0.0, 1.0)]), (SMALL + 1, [(0.0, 0.0)])]
    left_out = ("{}: {}".format(*choose(None, n, intervals)) for n, intervals in cases)
    return ["The methods:", *(f"  {name}: takes {takes[m.inequalities, m.equalities]}" for name, m in METHODS.items()),
            "Left out, for example:", *(f"  {line}" for line in left_out)]  # fmt: skip


def keys_of(model: type[BaseModel]) -> tuple[list[str], list[str]]:
    """The keys that a table needs, and those that it may have."""
    keys = [(name, field.is_required()) for name, field in model.model_fields.items() if name != "kind"]
    return [name for name, needed in keys if needed], [name for name, needed in keys if not needed]


def _kinds(subject: str, section: str) -> list[str]:
    """Each kind of a table with its keys, and what it is."""
    lines = []
    for model in KINDS[subject]():
        needed, optional = keys_of(model)
        keys = ", ".join([*needed, *(f"[{key}]" for key in optional)])
        lines.append(f"  {kind_of(model)}({keys}): {(model.__doc__ or '').splitlines()[0].rstrip('.')}")
    return [f"The {subject} with their keys, in brackets what may be left out (config explain {section} says what they are):", *lines]


def _curves() -> list[type[BaseModel]]:
    return [*models_in(Body), Line]


KINDS: dict[str, Callable[[], list[type[BaseModel]]]] = {
    "boundaries": lambda: models_in(AnyBoundary),
    "curves": _curves,
    "meshes": lambda: models_in(AnyMesh),
}
LISTS: dict[str, Callable[[], list[str]]] = {
    "functionals": _functionals,
    "optimizers": _methods,
    "boundaries": lambda: _kinds("boundaries", "boundary"),
    "curves": lambda: _kinds("curves", "mesh.body"),
    "meshes": lambda: _kinds("meshes", "mesh"),
}
LISTED = {"functional": "functionals", "method": "optimizers"}  # keys whose values are listed
