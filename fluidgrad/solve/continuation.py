"""The implicit problem that a steady flow is, R(q; flow) = 0, and the search for q by continuation in the viscosity.

An iteration of Newton's (``newton.py``) that will not converge starts again from a more viscous flow, and from there the viscosity comes
down to the one asked for in strides that grow on success and shrink on failure (continuation in the Reynolds number). Residuals are
net over gross fluxes (``residual.imbalance``), so a tolerance means the same on every mesh and in every system of units.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fluidgrad.flow.flow import Flow, check_flow
from fluidgrad.flow.fluxes import discretize
from fluidgrad.flow.layout import Discrete
from fluidgrad.flow.residual import balance, tangent
from fluidgrad.iteration import Number, numbers, traced, while_loop
from fluidgrad.linear import systems as backends
from fluidgrad.linear.jacobian import Pattern, pattern
from fluidgrad.linear.krylov import gmres, times, transposed_times
from fluidgrad.mesh.quality import check_valid
from fluidgrad.solve.newton import Newton, Trial, newton, no_factor, stay

STAGNATED = 1e-11  # where round-off stops the residual above a smaller tolerance, this will do
STAGES = 16  # of the continuation
FIRST_RATIO = 8.0  # by which viscosity goes up when a stage fails
SMALLEST_STRIDE = 1.05
LARGEST_RATIO = 1e7


@dataclass(frozen=True)
class Steady:
    """The implicit problem R(q; flow) = 0 for ``adjoint.root``: theta is the flow. Static options only."""

    backend: backends.Backend
    compact: bool
    accuracy: float

    def __str__(self) -> str:
        return f"{self.backend} of the {'compact' if self.compact else 'exact'} Jacobian"

    def prepare(self, theta: Flow) -> Discrete:
        return discretize(theta)

    def residual(self, prepared: Discrete, q: Array) -> Array:
        return balance(prepared, q)

    def tangent(self, prepared: Discrete, q: Array) -> Callable[[Array], Array]:
        return tangent(prepared, q)

    def linear_solve(
        self, flow: Flow, q: Array, factor: backends.Factored, b: Array, transpose: bool, matvec: Callable[[Array], Array] | None = None
    ) -> tuple[Array, Array, Array]:
        p = pattern(flow, self.compact)
        if matvec is None:
            R_q = tangent(self.prepare(flow), q)
            matvec = partial(transposed_times if transpose else times, R_q)
        if transpose:
            factor = backends.transposed(self.backend, p, factor)
        return gmres(matvec, lambda b: backends.solve(self.backend, p, factor, b, matvec), factor.weight, b, self.accuracy)

    def solve(self, flow: Flow, start: tuple[Array, Array]) -> tuple[Array, Array, Any]:
        """Newton's method, by way of more viscous flows where needed. ``start``: a state and the tolerance."""
        self.admit(flow)
        return search(self.backend, pattern(flow, self.compact), self.prepare(flow), *start)

    def admit(self, flow: Flow) -> None:
        """Raises what there is to say against a flow before it is solved."""
        if not traced(flow):  # under a derivative these are the first known numbers of a flow that a design makes
            check_valid(flow.mesh.points, flow.mesh.topology)
            check_flow(flow)
        self.check(pattern(flow, self.compact))

    def check(self, p: Pattern) -> None:
        """Raises where there is too little memory."""
        self.backend.check(p)


def search(backend: backends.Backend, p: Any, d: Discrete, q0: Array, tolerance: Array) -> tuple[Array, Array, Any]:
    """:meth:`Steady.solve` of a flow that is discretized, on the pattern of its Jacobian."""
    tolerance, one = numbers(tolerance), np.ones((), q0.dtype)

    def unfinished(s: _Search) -> Array:
        return (s.found > 1.0) & (s.stages < STAGES) & (s.ratio <= LARGEST_RATIO) & (s.stride > SMALLEST_STRIDE)

    def stage(s: _Search) -> _Search:
        n = newton(backend, p, replace(d, viscosity=numbers(d.viscosity) * s.ratio), s.best, tolerance)
        return _after(s._replace(factor=None), n._replace(factor=None), tolerance)._replace(factor=n.factor)

    begin = _Search(q0, q0, no_factor(backend, p, d), one * np.inf, one, one * FIRST_RATIO, one * 0, one * 0, one * 0, one * 0)
    s = while_loop(unfinished, stage, begin)
    q = _found(s.found, s.best, s.last)
    return q, _went(s._replace(factor=None), stay(d, q, tolerance), tolerance), s.factor


class _Search(NamedTuple):
    """The continuation: the state of the last Newton iteration, the best state, the factor of the last step, the viscosity
    ratio that the best belongs to (inf: none), the ratio to try next, the stride between ratios, stages, Newton
    steps and products so far, and the relative residual of the last linear system."""

    last: Array
    best: Array
    factor: Any
    found: Number
    ratio: Number
    stride: Number
    stages: Number
    steps: Number
    products: Number
    linear: Number


@jax.jit
def _after(s: _Search, n: Newton, tolerance: Array) -> _Search:
    """The continuation with one more stage."""
    q, residual = n.trial.q, n.trial.residual
    ok = (residual <= tolerance) | (~n.trial.fell & (residual <= STAGNATED))
    found = jnp.where(ok, s.ratio, s.found)
    some = jnp.isfinite(found)
    stride = jnp.where(ok, s.stride**1.5, jnp.where(some, s.stride**0.5, s.stride))
    # Start from rest again, not from where a first try got lost, until some flow has been found.
    best = jnp.where(ok, q, jnp.where(some, s.best, 0.0))
    ratio = jnp.where(some, jnp.maximum(1.0, found / stride), s.ratio * FIRST_RATIO)
    return _Search(q, best, s.factor, found, ratio, stride, s.stages + 1, s.steps + n.steps, s.products + n.products, n.linear)


@jax.jit
def _found(found: Array, best: Array, last: Array) -> Array:
    """The best state, or the last one where there is none."""
    return jnp.where(jnp.isfinite(found), best, last)


@jax.jit
def _went(s: _Search, end: Trial, tolerance: Array) -> Array:
    """The numbers of the report."""
    ok = (s.found == 1.0) & (end.residual <= jnp.maximum(tolerance, STAGNATED))
    return jnp.stack([end.residual, ok.astype(end.q.dtype), s.steps, s.stages, s.found, end.place, s.products, s.linear])
