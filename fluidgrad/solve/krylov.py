"""Krylov's methods for linear systems of which a product is known: GMRES.

A loop of the host where nothing is traced, part of the program where something is (``iteration.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fluidgrad.iteration import cond, while_loop


def gmres(
    matvec: Callable[[Array], Array], precondition: Callable[[Array], Array], b: Array, tolerance: float, steps: int = 30
) -> tuple[Array, Array, Array]:
    """GMRES with the preconditioner on the right (Saad 2003, section 9.3.2): the residual it watches is the true one.

    Returns x, the relative residual |b - A x| / |b| (recomputed at the end) and the number of products. The right-hand
    side is scaled by a power of two first, so one of size 1e-300 is solved as well as one of size 1; zero gives zero.
    """
    scale, b, beta, V, Z, H = _begin(b, steps)

    def unfinished(carry: Any) -> Array:
        *_, j, r = carry
        return (j < steps) & (r > tolerance * beta)

    def extend(carry: Any) -> Any:
        V, Z, H, j, _ = carry
        z = precondition(V[j])
        return _extend(V, Z, H, j, z, matvec(z), beta)

    _, Z, H, j, _ = while_loop(unfinished, extend, (V, Z, H, jnp.zeros((), int), beta))
    x = _combine(Z, H, j, beta)
    true = cond(beta == 0, lambda: beta, lambda: jnp.linalg.norm(b - matvec(x)) / beta)  # NaN if b is
    return x / scale, true, j


@partial(jax.jit, static_argnums=1)
def _begin(b: Array, steps: int) -> tuple[Array, ...]:
    size = jnp.max(jnp.abs(b))
    scale = jnp.where((size > 0) & jnp.isfinite(size), jnp.exp2(-jnp.round(jnp.log2(jnp.where(size > 0, size, 1.0)))), 1.0)
    b = b * scale
    beta = jnp.linalg.norm(b)
    n = b.shape[0]
    V = jnp.zeros((steps + 1, n), b.dtype).at[0].set(jnp.where(beta > 0, b / jnp.where(beta > 0, beta, 1.0), 0.0))
    return scale, b, beta, V, jnp.zeros((steps, n), b.dtype), jnp.zeros((steps + 1, steps), b.dtype)


@partial(jax.jit, donate_argnums=(0, 1, 2))
def _extend(V: Array, Z: Array, H: Array, j: Array, z: Array, w: Array, beta: Array) -> tuple[Array, ...]:
    """One more direction: w = A z made orthogonal to those there are."""
    size = jnp.linalg.norm(w)
    h = V @ w
    w = w - h @ V
    again = V @ w  # twice is enough (Giraud et al. 2005)
    w, h = w - again @ V, h + again
    norm = jnp.linalg.norm(w)
    w = jnp.where(norm > 1e-14 * size, w / jnp.where(norm > 0, norm, 1.0), 0.0)
    H = H.at[:, j].set(h.at[j + 1].add(norm))
    _, r = _least_squares(H, j + 1, beta)
    return V.at[j + 1].set(w), Z.at[j].set(z), H, j + 1, jnp.where(jnp.isfinite(norm), r, 0.0)


@jax.jit
def _combine(Z: Array, H: Array, j: Array, beta: Array) -> Array:
    return _least_squares(H, j, beta)[0] @ Z


def _least_squares(H: Array, j: Array, beta: Array) -> tuple[Array, Array]:
    """Over the first j columns (the others are made unit, and drop out), and what is left."""
    steps = H.shape[1]
    used = jnp.arange(steps) < j
    A = jnp.where(used[None], H, jnp.eye(steps + 1, steps, k=-1, dtype=H.dtype))
    rhs = jnp.zeros(steps + 1, H.dtype).at[0].set(beta)
    q, r = jnp.linalg.qr(A)
    y = jnp.where(used, jax.scipy.linalg.solve_triangular(r, q.T @ rhs), 0.0)
    return y, jnp.linalg.norm(rhs - H @ y)
