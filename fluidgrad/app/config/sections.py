"""What every table of a config file is: a frozen model that refuses unknown keys and knows which of its keys are numbers.

Fields marked ``TRACED`` are the case's numbers: derivatives exist with respect to them, and a design may vary them. The
rest is structure. Other files that a table names are read into it, so that a resolved config needs none.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, get_args

import numpy as np
from annotated_types import Gt
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, model_validator

from fluidgrad.errors import InputError

if TYPE_CHECKING:
    from fluidgrad.app.config.case import Numbers

TRACED = "traced"
LARGEST, SMALLEST = 1e20, 1e-20  # beyond, products of a few numbers leave what a computer can hold


def _plain_text(name: str) -> str:
    if not name.isprintable():
        raise InputError(f"a name with a line break or another character that cannot be printed: {name[:40]!r}", accepted="plain text")
    return name


Name = Annotated[str, Field(min_length=1), AfterValidator(_plain_text)]
Number = Annotated[float, TRACED]
OneOrMany = Annotated[float | list[float], TRACED]
XY = Annotated[list[float], Field(min_length=2, max_length=2)]
Pair = Annotated[list[float], TRACED, Field(min_length=2, max_length=2)]
Vector = Annotated[list[float], TRACED, Field(min_length=2, max_length=3)]


class Section(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _within_reason(self) -> Self:
        for name, field in type(self).model_fields.items():
            if TRACED not in field.metadata or (value := getattr(self, name)) is None:
                continue
            sizes = np.abs(np.asarray(value, float))
            small = any(isinstance(m, Gt) for m in field.metadata) and sizes.min() < SMALLEST
            if small or sizes.max(initial=0.0) > LARGEST:
                raise InputError(
                    f"{name} = {float(sizes.min() if small else sizes.max()):g} is beyond reason",
                    accepted=f"sizes from {SMALLEST:g} to {LARGEST:g}: choose units in which the flow's own numbers are near one",
                )
        return self

    def numbers(self) -> Numbers:
        """The traced numbers of this table and the tables in it, by key."""
        found: Numbers = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Section):
                found[name] = value.numbers()
            elif isinstance(value, dict):
                found[name] = {key: v.numbers() for key, v in value.items() if isinstance(v, Section)}
            elif TRACED in field.metadata and value is not None:
                found[name] = np.asarray(value, float)
        return {name: value for name, value in found.items() if not (isinstance(value, dict) and not value)}


def read_table(data: Any, info: ValidationInfo, key: str, read: Callable[[Path], np.ndarray]) -> Any:
    """Replaces ``file = "table.csv"`` in a section's data by the numbers in it, under ``key``."""
    if not isinstance(data, dict) or not isinstance(data.get("file"), str):
        return data
    if key in data:
        raise InputError(f"both file and {key} are given", accepted=f"one of them: the file is read into {key}")
    return {k: v for k, v in data.items() if k != "file"} | {key: read(beside(info, data["file"])).tolist()}


def beside(info: ValidationInfo, file: str) -> Path:
    """A file that a section names, from the config's folder."""
    if not file or "\0" in file:
        raise InputError(f"{file!r} is not the name of a file", accepted="a path from the config's folder")
    return Path((info.context or {}).get("folder", ".")) / file


@contextmanager
def place(where: str) -> Iterator[None]:
    """Names the place in the file of an error raised inside."""
    try:
        yield
    except InputError as error:
        raise error.at(where) from None


def suggestion(given: str, known: Iterable[str], otherwise: str) -> str:
    """The accepted names, with the nearest first if one is near."""
    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}? {otherwise}" if near else otherwise


BEYOND = {  # what people look for, and what it is
    r"time|d_?t|time_?steps?|unsteady|transient|end_?time|t_?end|duration|cfl|courant": "flow in time",
    r"heat.*|temperature|thermal.*|energy|conductivity|prandtl|nusselt|buoyancy|boussinesq": "heat",
    r"turbulen.*|rans|les|des|k_?(epsilon|omega).*|sst|spalart.*|wall_?functions?|y_?plus|intermittency": "turbulence",
    r"density|rho|mach|compressib.*|gas|equation_of_state|gamma": "a density of its own (all is per unit density, the viscosity kinematic)",
    r"phases?|multi_?phase|vof|surface_tension|free_surface|volume_fraction|particles?|droplets?|bubbles?": "several phases",
    r"species|concentration|scalars?|diffusivity|tracers?|reactions?|combustion|chemistry": "what the flow carries",
    r"rheology|non_?newtonian|power_?law|carreau|yield_stress|viscoelastic.*": "a viscosity that depends on the flow",
    r"structure|elasticity|fsi|stiffness|youngs?_modulus": "walls that the flow deforms",
}


def beyond(name: str) -> str | None:
    """That something is out of scope, if a name asks for it, and where to look."""
    if name.lower() in ("gravity", "g", "body_force"):
        return "flow.force is the body force"
    found = next((what for names, what in BEYOND.items() if re.fullmatch(names, name.lower())), None)
    return found and f"{found} is out of scope: docs/alternatives.md names programs for it"


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models among the types of a field."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [m for a in get_args(annotation) for m in models_in(a)]
