"""Newton's method with the exact Jacobian, for a flow that is discretized.

A step is a linear system for GMRES, solved as exactly as it deserves (``_forcing``). The factor that preconditions it serves on in the
next steps, until GMRES takes long with it. A step is halved until the residual falls.
Where nothing is traced these are loops of the host round a few compiled programs: the residual in one of them, since each
that has it takes a second to compile.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fluidgrad.flow.layout import Discrete
from fluidgrad.flow.residual import imbalance, mean, split, tangent
from fluidgrad.iteration import Number, cond, numbers, traced, while_loop
from fluidgrad.linear import systems as backends
from fluidgrad.linear.jacobian import Pattern, assemble
from fluidgrad.linear.krylov import gmres, times
from fluidgrad.parts import total

FORCING = 0.3  # relative residual of a step's linear system, at most
GAIN, HELD = 0.9, 0.1  # of Eisenstat and Walker's choice
SPARE = 0.03  # of the tolerance is what the last step aims at
FAR = 0.1  # a factor made where the residual was larger is not kept
WORN = 15  # directions that a solve with a kept factor may take: after one that took more, a new one is made
STEPS = 15  # that are taken at most
HALVINGS = 7  # of a step, before it is given up


class Trial(NamedTuple):
    """A state and what is asked of it: its residual, the gross fluxes, net over gross flux, whether the step there was
    finite and whether it made the residual fall, and the cell with the largest residual."""

    q: Array
    R: Any
    gross: Any
    residual: Number
    finite: Number
    fell: Number
    place: Number


class Newton(NamedTuple):
    """Where the method is, the factor that led there, whether it is to be made anew; its steps so far, products of the Jacobian
    in all, the relative residual to which the last step's linear system was solved, the residual where that step began, and what was
    asked of its linear system."""

    trial: Trial
    factor: Any
    worn: Number
    steps: Number
    products: Number
    linear: Number
    last: Number
    asked: Number


def newton(backend: backends.Backend, p: Pattern, d: Discrete, q: Array, tolerance: Array) -> Newton:
    """Damped steps from q, one at least (its factor is wanted), until net over gross flux is below the tolerance."""

    def unfinished(n: Newton) -> Array:
        return n.trial.fell & (n.steps < STEPS) & ((n.trial.residual > tolerance) | (n.steps < 1))

    def step(n: Newton) -> Newton:
        at = n.trial
        factor = cond(n.worn, lambda: backends.factor(backend, p, _assemble(d, p.places, at.q)), lambda: n.factor)

        product = partial(times, tangent(d, at.q))
        precondition = partial(backends.solve, backend, p, factor, matvec=product)
        asked = _forcing(d, n, tolerance)
        dq, left, k = gmres(product, precondition, factor.weight, at.R, asked)
        after = _line_search(d, at, dq, tolerance)
        k, again = numbers(k), ~n.worn & ~after.fell  # from where it stood, with a factor of its own
        trial = cond(again, lambda: at, lambda: after)
        worn, last = again | (k > WORN) | (n.worn & (at.residual > FAR)), cond(again, lambda: n.last, lambda: at.residual)
        return Newton(trial, factor, worn, n.steps + 1, n.products + k, numbers(left), last, asked)

    one = np.ones((), q.dtype)
    begin = Newton(stay(d, q, tolerance), no_factor(backend, p, d), np.bool_(True), 0 * one, 0 * one, 0 * one, one * np.inf, 0 * one)
    return while_loop(unfinished, step, begin)


def no_factor(backend: backends.Backend, p: Pattern, d: Discrete) -> Any:
    """What a loop begins with: where it is traced, zeros in the shape of a factor."""
    if not traced(d):
        return None
    q = jnp.zeros(d.part.n_own * (d.dim + 1) + d.n_extra, d.geometry.V.dtype)
    shape = jax.eval_shape(lambda: backends.factor(backend, p, _assemble(d, p.places, q)))
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shape)


def stay(d: Discrete, q: Array, tolerance: Array) -> Trial:
    """The state itself, as a beginning or an end."""
    no, yes = np.zeros(2 + d.n_extra, q.dtype), np.bool_(True)
    before = Trial(q, np.zeros(q.shape, q.dtype), no, no[0], yes, yes, no[0])
    return _trial(d, before, np.zeros(q.shape, q.dtype), no[0], tolerance)._replace(fell=yes)


def _line_search(d: Discrete, before: Trial, dq: Array, tolerance: Array) -> Trial:
    """The first of the whole step, half of it, a quarter ... that makes the residual fall; the shortest if none does."""

    def unfinished(carry: tuple[Array, Trial]) -> Array:
        s, trial = carry
        return (s == 1.0) | (~trial.fell & (s >= 0.5**HALVINGS) & trial.finite)

    def shorter(carry: tuple[Array, Trial]) -> tuple[Array, Trial]:
        return 0.5 * carry[0], _trial(d, before, dq, carry[0], tolerance)

    return while_loop(unfinished, shorter, (np.ones((), dq.dtype), before))[1]


def _forcing(d: Discrete, n: Newton, tolerance: Array) -> Number:
    """The relative residual that a step's linear system is solved to: as the square of what the last step gained, since the next gains
    no more, and not much better suddenly (Eisenstat & Walker, SIAM J. Sci. Comput. 17 (1996) 16, choice 2); no better than what ends
    the search. A linear flow takes one step."""
    xp = jnp if traced(n.trial) else np
    now = n.trial.residual
    enough = SPARE * tolerance / xp.maximum(now, tolerance)
    if not d.convection:
        return xp.clip(enough, 0.0, FORCING)
    known = xp.isfinite(n.last) & xp.isfinite(now)  # of the first step nothing is
    gained, held = GAIN * (xp.where(known, now, 1.0) / xp.where(known, n.last, 1.0)) ** 2, GAIN * n.asked**2
    asked = xp.maximum(gained, xp.where(held > HELD, held, 0.0))
    return xp.clip(xp.where(known, asked, FORCING), xp.minimum(enough, FORCING), FORCING)


_assemble = jax.jit(assemble)


@jax.jit
def _trial(d: Discrete, before: Trial, dq: Array, s: Array, tolerance: Array) -> Trial:
    """The state q - s dq, and whether its residual is smaller than that before."""
    q = before.q - s * dq
    R, gross = imbalance(d, q)
    scale = jnp.maximum(before.gross, gross)
    was, now = (jnp.sum(_over(_sizes(d, r), scale) ** 2) for r in (before.R, R))
    known = jnp.isfinite(total(jnp.sum(R)))
    residual = jnp.where(known, jnp.max(_over(_sizes(d, R), gross)), jnp.inf)
    finite = jnp.isfinite(total(jnp.sum(dq)))
    fell = known & (now < (1 - 0.1 * s) * was) | (residual <= tolerance)
    cells, _ = split(d, R)
    place = d.part.largest(jnp.sum(cells[:, :-1] ** 2, 1)).astype(q.dtype)
    return Trial(jnp.where(finite, q, before.q), R, gross, residual, finite, fell, place)


def _sizes(d: Discrete, R: Array) -> Array:
    """Root mean squares over the cells of the net fluxes of momentum and mass, and the extra equations."""
    cells, extra = split(d, R)
    inside = jnp.sqrt(jnp.stack([mean(d, jnp.sum(cells[:, :-1] ** 2, 1)), mean(d, cells[:, -1] ** 2)]))
    return jnp.concatenate([inside, jnp.abs(extra)])


def _over(a: Array, b: Array) -> Array:
    """a / b, with 0 / 0 = 0."""
    return jnp.where(a > 0, a / jnp.where(b > 0, b, 1e-300), 0.0)
