"""A case: how a flow follows from numbers, and the numbers.

A case is static structure plus ``numbers``, a nested dictionary of arrays with the keys of the file it came from. A flow
is a JAX function of them, so a design is a choice of paths into the numbers, and one adjoint gives the derivative with
respect to every one of them:

    case = Case(build, {"flow": {"viscosity": 1e-3}, "boundary": {"inlet": {"speed": 0.2}}})
    case.flow(put(case.numbers, "boundary.inlet.speed", 0.3))

Paths are keys joined by dots (``paths.py``).
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
from jaxtyping import Array, ArrayLike

from fluidgrad.app.config.paths import dotted, steps
from fluidgrad.errors import InputError
from fluidgrad.flow.flow import Flow

Numbers = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Case:
    """A flow as a function of named numbers.

    Attributes:
        build: numbers -> flow; differentiable, and compiled at most once whatever the numbers' values.
        numbers: where the case starts, nested by key.
    """

    build: Callable[[Numbers], Flow]
    numbers: Numbers

    @cached_property
    def flow(self) -> Callable[[Numbers], Flow]:
        """The flow of given numbers: ``build``, compiled. Differentiable."""
        return jax.jit(self.build)

    def design(self, *paths: str) -> dict[str, Array]:
        """The start of a design: the numbers at these paths.

        Raises:
            InputError: no such number.
        """
        return {path: get(self.numbers, path) for path in paths}

    def flow_of(self, design: dict[str, Array]) -> Flow:
        """The flow of a design, whose keys are paths. Differentiable in it."""
        numbers = self.numbers
        for path, value in design.items():
            numbers = put(numbers, path, value)
        return self.build(numbers)


def get(numbers: Numbers, path: str) -> Array:
    """The number or array at a path.

    Raises:
        InputError: no such number, with the nearest that is.
    """
    found: Any = numbers
    for key in steps(path):
        found = found.get(key) if isinstance(found, dict) else None
    if found is None or isinstance(found, dict):
        known = [name for name, _ in walk(numbers)]
        near = [name for name in known if name.startswith(path + ".")] or difflib.get_close_matches(path, known, n=1, cutoff=0.5)
        advice = f"did you mean {near[0]!r}? " if near else ""
        raise InputError(f"there is no number {path!r}", accepted=f"{advice}there are: {', '.join(known)}")
    return found


def put(numbers: Numbers, path: str, value: ArrayLike) -> Numbers:
    """The numbers with another value at a path; the others are shared, not copied.

    Raises:
        InputError: no such number.
    """
    get(numbers, path)

    def changed(table: Numbers, keys: list[str]) -> Numbers:
        return table | {keys[0]: changed(table[keys[0]], keys[1:]) if keys[1:] else value}

    return changed(numbers, steps(path))


def walk(numbers: Numbers, above: tuple[str, ...] = ()) -> Iterator[tuple[str, Array]]:
    """Every path and its value, in the file's order."""
    for key, value in numbers.items():
        if isinstance(value, dict):
            yield from walk(value, (*above, key))
        else:
            yield dotted((*above, key)), value
