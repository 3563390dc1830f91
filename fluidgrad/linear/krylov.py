"""Krylov's methods for linear systems of which a product is known: GMRES, and conjugate gradients where the matrix is symmetric.

A loop of the host where nothing is traced, part of the program where something is (``iteration.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fluidgrad.iteration import numbers, while_loop
from fluidgrad.parts import divided, norm, total
from fluidgrad.parts import most as largest

ROOM = 60  # directions that are kept; then the method begins again with what is left of the right-hand side
MOST = 400  # products in all
GAIN = 0.5  # by which a round has to shorten the residual, or it is the last


def gmres(
    matvec: Callable[[Array], Array],
    precondition: Callable[[Array], Array],
    weight: Array | float,
    b: Array,
    tolerance: Any,
    most: int = MOST,
) -> tuple[Array, Array, Array]:
    """Restarted GMRES with the preconditioner on the right, which may differ from product to product (Saad 1993).

    Args:
        matvec: x -> A x.
        precondition: b -> nearly A^-1 b.
        weight: of the equations in the norm of a residual, positive: one for each, so that equations in different units count
            alike.
        b: the right-hand side. It is scaled by a power of two first, so one of size 1e-300 is solved as well as one of size 1.
        tolerance: of the relative residual.
        most: products at most.

    Returns:
        x, the relative residual |b - A x| / |b| (computed, not estimated) and the number of directions. A right-hand side of
        zero gives zero, without any.
    """
    scale, b, begin = _scaled(b, weight)
    size = numbers(begin.left)
    enough = tolerance * size

    def unfinished(s: _Round) -> Array:
        return (s.left > enough) & (s.products < most) & (s.left <= GAIN * s.before)

    def again(s: _Round) -> _Round:
        def open_ended(carry: Any) -> Array:
            _, j, left = carry
            return (j < ROOM) & (s.products + j < most) & (left > enough)

        def extend(carry: Any) -> Any:
            basis, j, _ = carry
            z = precondition(basis.v)
            return _extend(basis, j, z, matvec(z), weight, s.left)

        basis, j, _ = while_loop(open_ended, extend, (_begin(s.r, weight, s.left), 0 * s.products, s.left))
        x = _combine(s.x, basis, j, s.left)
        return _looked_at(s, x, b, matvec(x), weight, j)

    s = while_loop(unfinished, again, begin)
    return *_unscaled(s.x, scale, s.left, size), s.products


def conjugate_gradients(
    matvec: Callable[[Array], Array], precondition: Callable[[Array], Array], b: Array, tolerance: Any, most: int
) -> tuple[Array, Array, Array]:
    """Preconditioned conjugate gradients, for a symmetric positive matrix and preconditioner (Hestenes & Stiefel 1952). Part of a
    program.

    Args:
        matvec: x -> A x.
        precondition: b -> nearly A^-1 b.
        b: the right-hand side, scaled by a power of two first.
        tolerance: of the relative residual.
        most: products at most.

    Returns:
        x, the relative residual |b - A x| / |b| (computed, not updated) and the number of products. Zero gives zero, without any.
    """
    scale, b, begin = _scaled(b, 1.0)
    enough = tolerance * begin.left

    def unfinished(s: _Descent) -> Array:
        return (s.left > enough) & (s.products < most)

    def descend(s: _Descent) -> _Descent:
        z = precondition(s.r)
        now = s.r @ z
        p = z + jnp.where(s.products > 0, (now - s.last @ z) / s.before, 0.0) * s.p  # z of a cycle that is symmetric but for round-off
        Ap = matvec(p)
        step = now / (p @ Ap)
        r = s.r - step * Ap
        return _Descent(s.x + step * p, r, s.r, p, now, jnp.linalg.norm(r), s.products + 1)

    zero = jnp.zeros_like(b)
    s = jax.lax.while_loop(unfinished, descend, _Descent(zero, b, zero, zero, begin.left, begin.left, begin.products))
    left = jnp.linalg.norm(b - matvec(s.x))
    return *_unscaled(s.x, scale, left, begin.left), s.products


class _Descent(NamedTuple):
    """Conjugate gradients under way: x, b - A x and that of the step before, the direction, r.z, the residual's norm, products."""

    x: Array
    r: Array
    last: Array
    p: Array
    before: Array
    left: Array
    products: Array


@jax.jit
def times(linear: Callable[[Array], Array], v: Array) -> Array:
    """A product with the matrix of a linear function, which is a pytree."""
    return linear(v)


@jax.jit
def transposed_times(linear: Callable[[Array], Array], v: Array) -> Array:
    """A product with the transpose of a square matrix."""
    return jax.linear_transpose(linear, v)(v)[0]


class _Round(NamedTuple):
    """Between two rounds: x, b - A x, its norm, the norm of the round before, products so far."""

    x: Array
    r: Array
    left: Array
    before: Array
    products: Array


class _Basis(NamedTuple):
    """Orthonormal directions V of weighted residuals, what was multiplied by the matrix to get them Z, the projected matrix H,
    and the last of V, as a residual."""

    V: Array
    Z: Array
    H: Array
    v: Array


@jax.jit
def _scaled(b: Array, weight: Any) -> tuple[Array, Array, _Round]:
    size = largest(jnp.max(jnp.abs(b)))
    scale = jnp.where((size > 0) & jnp.isfinite(size), jnp.exp2(-jnp.round(jnp.log2(jnp.where(size > 0, size, 1.0)))), 1.0)
    b = b * scale
    left = norm(weight * b)
    return scale, b, _Round(jnp.zeros_like(b), b, left, jnp.full_like(left, jnp.inf), jnp.zeros((), int))


@jax.jit
def _begin(r: Array, weight: Any, left: Array) -> _Basis:
    n = r.shape[0]
    V, Z, H = (jnp.zeros(shape, r.dtype) for shape in ((ROOM + 1, n), (ROOM, n), (ROOM + 1, ROOM)))
    v = weight * r / left
    return _Basis(V.at[0].set(v), Z, H, v / weight)


@partial(jax.jit, donate_argnums=0)
def _extend(basis: _Basis, j: Array, z: Array, w: Array, weight: Any, left: Array) -> tuple[_Basis, Array, Array]:
    """One more direction: w = A z made orthogonal to those there are, one after the other."""
    V, Z, H, _ = basis
    w = weight * w
    size = norm(w)

    def without(i: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        w, h = carry
        part = V[i] @ w
        return w - part * V[i], h.at[i].add(part)

    def without_any(_: int, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        w, h = carry
        part = total(V @ w)
        return w - part @ V, h + part

    begin = w, jnp.zeros(ROOM + 1, w.dtype)
    # On several devices all at once, and then what is left once more: a sum over them takes as long for many numbers as for one.
    w, h = jax.lax.fori_loop(0, 2, without_any, begin) if divided() else jax.lax.fori_loop(0, j + 1, without, begin)
    rest = norm(w)
    w = jnp.where(rest > 1e-14 * size, w / jnp.where(rest > 0, rest, 1.0), 0.0)
    H = H.at[:, j].set(h.at[j + 1].add(rest))
    _, r = _least_squares(H, j + 1, left)
    return _Basis(V.at[j + 1].set(w), Z.at[j].set(z), H, w / weight), j + 1, jnp.where(jnp.isfinite(rest), r, 0.0)


@jax.jit
def _combine(x: Array, basis: _Basis, j: Array, left: Array) -> Array:
    return x + _least_squares(basis.H, j, left)[0] @ basis.Z


@jax.jit
def _looked_at(s: _Round, x: Array, b: Array, Ax: Array, weight: Any, j: Array) -> _Round:
    """The next round, if x is better."""
    r = b - Ax
    return _Round(x, r, norm(weight * r), s.left, s.products + j)


@jax.jit
def _unscaled(x: Array, scale: Array, left: Array, size: Array) -> tuple[Array, Array]:
    """The solution in the units of the right-hand side as it was given, and its relative residual (NaN if b is)."""
    return x / scale, jnp.where(size == 0, 0.0, left / size)


def _least_squares(H: Array, j: Array, beta: Array) -> tuple[Array, Array]:
    """Over the first j columns (the others are made unit, and drop out), and what is left."""
    steps = H.shape[1]
    used = jnp.arange(steps) < j
    A = jnp.where(used[None], H, jnp.eye(steps + 1, steps, k=-1, dtype=H.dtype))
    rhs = jnp.zeros(steps + 1, H.dtype).at[0].set(beta)
    q, r = jnp.linalg.qr(A)
    y = jnp.where(used, jax.scipy.linalg.solve_triangular(r, q.T @ rhs), 0.0)
    return y, jnp.linalg.norm(rhs - H @ y)
