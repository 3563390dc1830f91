"""Krylov's methods for linear systems of which a product is known: GMRES.

A loop of the host where nothing is traced, part of the program where something is (``iteration.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fluidgrad.iteration import cond, numbers, while_loop

STEPS = 30  # the directions that there is room for


def gmres(
    matvec: Callable[[Array], Array], precondition: Callable[[Array], Array], b: Array, tolerance: float, most: int = STEPS
) -> tuple[Array, Array, Array]:
    """GMRES with the preconditioner on the right (Saad 2003, section 9.3.2): the residual it watches is the true one.

    Returns x, the relative residual |b - A x| / |b| (recomputed at the end) and the number of products, of which
    there are ``most`` (itself no more than ``STEPS``) at most. The right-hand side is scaled by a power of two first, so one of
    size 1e-300 is solved as well as one of size 1; zero gives zero, without a product.
    """
    scale, b, beta, basis = _begin(b)
    enough = tolerance * numbers(beta)

    def unfinished(carry: Any) -> Array:
        _, j, r = carry
        return (j < most) & (r > enough)

    def extend(carry: Any) -> Any:
        basis, j, _ = carry
        z = precondition(basis.v)
        return _extend(basis, j, z, matvec(z), beta)

    basis, j, _ = while_loop(unfinished, extend, (basis, jnp.zeros((), int), beta))
    x = _combine(basis, j, beta)
    Ax = cond(numbers(beta) == 0, lambda: x, lambda: matvec(x))
    return *_looked_at(x, Ax, b, scale, beta), j


class _Basis(NamedTuple):
    """Orthonormal directions V, what was multiplied by the matrix to get them Z, the projected matrix H, and the last of V."""

    V: Array
    Z: Array
    H: Array
    v: Array


@jax.jit
def _begin(b: Array) -> tuple[Array, Array, Array, _Basis]:
    size = jnp.max(jnp.abs(b))
    scale = jnp.where((size > 0) & jnp.isfinite(size), jnp.exp2(-jnp.round(jnp.log2(jnp.where(size > 0, size, 1.0)))), 1.0)
    b = b * scale
    beta = jnp.linalg.norm(b)
    n = b.shape[0]
    v = jnp.where(beta > 0, b / jnp.where(beta > 0, beta, 1.0), 0.0)
    V, Z, H = (jnp.zeros(shape, b.dtype) for shape in ((STEPS + 1, n), (STEPS, n), (STEPS + 1, STEPS)))
    return scale, b, beta, _Basis(V.at[0].set(v), Z, H, v)


@partial(jax.jit, donate_argnums=0)
def _extend(basis: _Basis, j: Array, z: Array, w: Array, beta: Array) -> tuple[_Basis, Array, Array]:
    """One more direction: w = A z made orthogonal to those there are."""
    V, Z, H, _ = basis
    size = jnp.linalg.norm(w)
    h = V @ w
    w = w - h @ V
    again = V @ w  # twice is enough (Giraud et al. 2005)
    w, h = w - again @ V, h + again
    norm = jnp.linalg.norm(w)
    w = jnp.where(norm > 1e-14 * size, w / jnp.where(norm > 0, norm, 1.0), 0.0)
    H = H.at[:, j].set(h.at[j + 1].add(norm))
    _, r = _least_squares(H, j + 1, beta)
    return _Basis(V.at[j + 1].set(w), Z.at[j].set(z), H, w), j + 1, jnp.where(jnp.isfinite(norm), r, 0.0)


@jax.jit
def _combine(basis: _Basis, j: Array, beta: Array) -> Array:
    return _least_squares(basis.H, j, beta)[0] @ basis.Z


@jax.jit
def _looked_at(x: Array, Ax: Array, b: Array, scale: Array, beta: Array) -> tuple[Array, Array]:
    """The solution in the units of the right-hand side as it was given, and its relative residual (NaN if b is)."""
    return x / scale, jnp.where(beta == 0, 0.0, jnp.linalg.norm(b - Ax) / beta)


def _least_squares(H: Array, j: Array, beta: Array) -> tuple[Array, Array]:
    """Over the first j columns (the others are made unit, and drop out), and what is left."""
    steps = H.shape[1]
    used = jnp.arange(steps) < j
    A = jnp.where(used[None], H, jnp.eye(steps + 1, steps, k=-1, dtype=H.dtype))
    rhs = jnp.zeros(steps + 1, H.dtype).at[0].set(beta)
    q, r = jnp.linalg.qr(A)
    y = jnp.where(used, jax.scipy.linalg.solve_triangular(r, q.T @ rhs), 0.0)
    return y, jnp.linalg.norm(rhs - H @ y)
