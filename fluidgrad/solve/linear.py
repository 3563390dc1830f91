"""Linear solves with the Jacobian: factor once, solve, solve transposed.

Two direct backends with the same answers:

:class:`~fluidgrad.solve.superlu.SuperLU`
    SciPy's sparse LU on the host, in nested-dissection order. The CPU default.
:class:`~fluidgrad.solve.block_tridiagonal.BlockTridiagonal`
    Dense LU along breadth-first levels of the cell graph, pure JAX and free of callbacks. The default elsewhere: it
    runs on a GPU and lowers for one anywhere.

A *factor* is an array pytree that can be passed through ``jit`` and kept. SuperLU's is the matrix itself: the host
remembers the factorisations of the last few matrices it saw, so solving twice with one matrix factors it once, and a
solve stays a pure function of matrix and right-hand side.

A factor that belongs to a nearby matrix (the last Newton iterate's) is corrected by GMRES (``krylov.py``).
"""

from __future__ import annotations

from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fluidgrad.errors import InputError
from fluidgrad.solve.block_tridiagonal import BlockTridiagonal
from fluidgrad.solve.jacobian import Jacobian, Pattern
from fluidgrad.solve.superlu import SuperLU

BACKENDS = {"superlu": SuperLU, "block_tridiagonal": BlockTridiagonal}


class Backend(Protocol):
    """A direct solver of the cell-to-cell part of the Jacobian, ``blocks`` on a ``Pattern``."""

    def check(self, p: Pattern) -> None:
        """Raises ``OutOfReach`` where the memory for it is not there, before any is taken."""
        ...

    def factor(self, p: Pattern, blocks: Array) -> Any: ...

    def solve(self, p: Pattern, factor: Any, b: Float[Array, "unknowns k"], transpose: bool) -> Array: ...


def choose(name: str) -> Backend:
    """The backend of a name; "auto" is SuperLU on a CPU and block-tridiagonal elsewhere."""
    if name == "auto":
        name = "superlu" if jax.default_backend() == "cpu" else "block_tridiagonal"
    if name not in BACKENDS:
        raise InputError(f"unknown linear backend {name!r}", accepted=f"one of auto, {', '.join(BACKENDS)}")
    return BACKENDS[name]()


def factor(backend: Backend, p: Pattern, J: Jacobian) -> tuple[Any, Jacobian]:
    """Factor a Jacobian. Borders are eliminated when solving, so that one backend serves open and closed domains; the
    cell-to-cell part of a closed domain is singular by a constant pressure, and one diagonal entry is raised for it."""
    return backend.factor(p, _raised(J)), J


def solve(backend: Backend, p: Pattern, factored: tuple[Any, Jacobian], b: Array, transpose: bool = False) -> Array:
    """x with J x = b, or J^T x = b, for flat vectors."""
    F, J = factored
    return _eliminated(J, b, backend.solve(p, F, _sides(J, b, transpose), transpose), transpose)


# Compiled apart from the backend's part, which is a call of the host where nothing is traced.


@jax.jit
def _raised(J: Jacobian) -> Array:
    return J.blocks.at[_pin(J)].add(_pin_size(J)) if J.corner.size else J.blocks


# J = [[A, B], [C, D]] with A = A' - pin e e^T; unknowns x, y and z = e^T x: all solves are with A'. e is the pressure of the
# first cell, whose own block is the first of all.


@partial(jax.jit, static_argnums=2)
def _sides(J: Jacobian, b: Array, transpose: bool) -> Float[Array, "unknowns k"]:
    """The right-hand sides that the elimination of the borders needs: b, B and e."""
    if not J.corner.size:
        return b[:, None]
    B = J.rows.T if transpose else J.columns
    n = len(B)
    return jnp.concatenate([b[:n, None], B, jnp.zeros((n, 1), b.dtype).at[_pin(J)[-1], 0].set(_pin_size(J))], 1)


@partial(jax.jit, static_argnums=3)
def _eliminated(J: Jacobian, b: Array, X: Array, transpose: bool) -> Array:
    """The solution of the bordered system from those of its ``_sides``."""
    if not J.corner.size:
        return X[:, 0]
    C, D = (J.columns.T, J.corner.T) if transpose else (J.rows, J.corner)
    e, n = _pin(J)[-1], len(X)
    x, X_B, X_e = X[:, 0], X[:, 1:-1], X[:, -1]
    small = jnp.block([[D - C @ X_B, (C @ X_e)[:, None]], [-X_B[e][None], X_e[e][None, None] - 1.0]])
    y = jnp.linalg.solve(small, jnp.concatenate([b[n:] - C @ x, -x[e][None]]))
    return jnp.concatenate([x - X_B @ y[:-1] + X_e * y[-1], y[:-1]])


def _pin(J: Jacobian) -> tuple[int, int, int]:
    m = J.blocks.shape[1]
    return 0, m - 1, m - 1


def _pin_size(J: Jacobian) -> Array:
    return jnp.abs(J.blocks[_pin(J)])
