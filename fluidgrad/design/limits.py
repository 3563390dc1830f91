"""Limits of constraints: numbers, or multiples of what a functional is at the start of a search."""

from __future__ import annotations

import math
from typing import Any

from fluidgrad.errors import InputError


def limit_at(limit: float | str, start: float) -> float:
    """A limit as a number, where the functional is ``start`` at the start.

    Args:
        limit: a number, "start", or a multiple of that such as "1.05 start".

    Raises:
        InputError: another text.
    """
    if not isinstance(limit, str):
        return limit
    *factor, last = limit.split() or [""]
    try:
        times = float(*factor)  # 0.0 of none
        if last != "start" or not math.isfinite(times):
            raise ValueError
    except (TypeError, ValueError):
        raise InputError(f"a limit of {limit!r}", accepted='a finite number, "start", or a multiple of that as in "1.05 start"') from None
    return times * start if factor else start


def limit_of(c: Any, start: float) -> str:
    """What a constraint asks, in words, where its functional is ``start`` at the start."""
    kind, value = next((k, v) for k in ("equals", "at_most", "at_least") if (v := getattr(c, k)) is not None)
    word = {"equals": "equal", "at_most": "be at most", "at_least": "be at least"}[kind]
    asked = f"{limit_at(value, start):.6g} ({value})" if isinstance(value, str) else f"{value:g}"
    return f"{word} {asked}" + (f" within {0.5 * c.band:g}" if getattr(c, "band", None) else "")
