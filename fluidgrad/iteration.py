"""Iterations: loops that run on the host where nothing is traced.

Under ``jit``, ``vmap`` and their like a loop becomes part of the program that is being traced. Otherwise it runs on the
host, and what is compiled are its parts: small programs without callbacks, which JAX can keep on disk for the next
process (a program that calls back to the host for a factorisation it cannot), and between which an interrupt is felt.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

Number = Any  # a single one: JAX's where something is traced, NumPy's on the host


def traced(*trees: Any) -> bool:
    """Whether any leaf is known to a transformation only."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


def numbers(tree: Any) -> Any:
    """A tree whose single numbers are NumPy's where nothing is traced: to calculate with them then starts no program, and
    every program, however small, has to be compiled."""
    return tree if traced(tree) else jax.tree.map(lambda leaf: np.asarray(leaf)[()] if np.ndim(leaf) == 0 else leaf, tree)


def while_loop(unfinished: Callable[[Any], Any], step: Callable[[Any], Any], carry: Any) -> Any:
    """Take steps while ``unfinished``: ``jax.lax.while_loop``, or a loop of the host."""
    if traced(carry):
        return jax.lax.while_loop(unfinished, step, carry)
    carry = numbers(carry)
    while unfinished(carry):
        carry = numbers(step(carry))
    return carry


def cond(condition: Any, yes: Callable[[], Any], no: Callable[[], Any]) -> Any:
    """One of the two: ``jax.lax.cond``, or a branch of the host."""
    if traced(condition):
        return jax.lax.cond(condition, yes, no)
    return yes() if condition else no()
