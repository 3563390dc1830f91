"""The derivative rules of fluidgrad: all of them are in this file.

A steady flow q is defined by R(q, theta) = 0, not by the iterations that find it. Differentiating that identity,

    R_q q' = -R_theta theta'                                        (tangent: one linear solve)

and for a functional J(q, theta) with gradient q_bar = J_q^T in the state,

    R_q^T lambda = q_bar,    theta_bar = -R_theta^T lambda          (adjoint: one transposed solve, however many theta)

so a gradient costs one more linear solve, and for that the factor of the last Newton steps serves again, transposed. R_theta^T
goes through the residual first (:func:`_against`), then through what of theta was prepared for it, in either by what is asked.

:func:`root` carries the reverse rule by ``jax.custom_vjp``; JAX allows no forward mode through one, so its twin
:func:`root_forward` carries the tangent rule by ``jax.custom_jvp`` and a linear solve that knows its own transpose. The
reverse rule is made of the twin's parts, so ``grad``, ``jacrev``, ``vmap``, ``jit`` and Hessian-vector products in
either order (``jvp`` of ``grad``, or ``grad`` of the twin's ``jvp``) all follow.

How the adjoint solve went leaves the reverse rule as the cotangent of ``probe``, an argument that the primal ignores.
Where the primal or the adjoint solve failed, every cotangent is NaN: a wrong gradient is never returned.

Griewank & Walther, Evaluating Derivatives (2008), chapter 15; Christianson, Optim. Methods Softw. 3 (1994) 311.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array

from fluidgrad.iteration import traced
from fluidgrad.programs import compiled, one_device

ACCEPTED = 1e-9  # a tangent or adjoint with a larger relative residual is refused
PROBE = 5  # primal: residual, converged; adjoint: residual, products, solves


class ImplicitProblem(Protocol):
    """What defines q: a residual, a solver of it, and a solver of (nearly) its Jacobian. Hashable, static."""

    def prepare(self, theta: Any) -> Any:
        """All that the residual has of theta: what of it needs to be computed once only."""
        ...

    def residual(self, prepared: Any, q: Array) -> Array: ...

    def tangent(self, prepared: Any, q: Array) -> Callable[[Array], Array]:
        """x -> R_q x, a pytree."""
        ...

    def solve(self, theta: Any, start: Any) -> tuple[Array, Array, Any]:
        """q, numbers that say how it went (residual and 1 if converged first), and a factor for ``linear_solve``."""
        ...

    def linear_solve(self, theta: Any, q: Array, factor: Any, b: Array, transpose: bool, matvec: Any = None) -> tuple[Array, Array, Array]:
        """R_q^-1 b, or R_q^-T b, its relative residual and the products taken; ``matvec``: x -> R_q x, or R_q^T x, where it is known."""
        ...


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def root(problem: ImplicitProblem, theta: Any, start: Any, probe: Array) -> tuple[Array, Array]:
    """q with R(q, theta) = 0, and how the solve went. Differentiable in ``theta`` (reverse mode)."""
    q, report, _ = _solve(problem, theta, start)
    return q, report


def _root_forward_pass(problem: ImplicitProblem, theta: Any, start: Any, probe: Any) -> Any:
    varied, fixed = _by_perturbation(theta)
    start = jax.tree.map(lambda leaf: leaf.value, start)
    q, report, factor = root_forward(problem, _merge(varied, fixed), start)
    return (q, report), (varied, fixed, q, report, factor)


def _root_reverse_pass(problem: ImplicitProblem, saved: Any, cotangent: Any) -> Any:
    varied, fixed, q, report, factor = saved
    q_bar = jnp.zeros_like(q) if isinstance(cotangent[0], SymbolicZero) else cotangent[0]
    adjoint, went = solve_adjoint(problem, _merge(varied, fixed), q, factor, q_bar)  #    R_q^T lambda = q_bar
    theta_bar = _pull_back(problem, varied, fixed, q, adjoint)  #                          theta_bar = -R_theta^T lambda
    theta_bar, probe_bar = _nan_unless(ACCEPTED, theta_bar, report, went)
    return theta_bar, None, probe_bar


root.defvjp(_root_forward_pass, _root_reverse_pass, symbolic_zeros=True)


def _by_perturbation(tree: Any) -> tuple[Any, Any]:
    """The leaves in which a derivative is asked, and those in which none is; None in place of the others."""
    varied = jax.tree.map(lambda leaf: leaf.value if leaf.perturbed else None, tree)
    return varied, jax.tree.map(lambda leaf: None if leaf.perturbed else leaf.value, tree)


def _merge(varied: Any, fixed: Any) -> Any:
    """The tree whose leaves are in one or the other, None where they are not."""
    return jax.tree.map(lambda v, f: f if v is None else v, varied, fixed, is_leaf=lambda leaf: leaf is None)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def root_forward(problem: ImplicitProblem, theta: Any, start: Any) -> tuple[Array, Array, Any]:
    """The twin of :func:`root` for forward mode; also returns the factor. Differentiable in ``theta``, to any order."""
    return _solve(problem, theta, start)


@root_forward.defjvp
def _root_tangent(problem: ImplicitProblem, primals: Any, tangents: Any) -> Any:
    theta, start = primals
    q, report, factor = root_forward(problem, theta, start)
    rate = _push_forward(problem, theta, q, tangents[0])  #                  R_theta theta'
    q_dot = _solve_tangent(problem, theta, q, factor, -rate)  #              R_q q' = -R_theta theta'
    q_dot = jnp.where(report[1] > 0, q_dot, jnp.nan)
    return (q, report, factor), (q_dot, *jax.tree.map(_no_tangent, (report, factor)))


def _no_tangent(x: Array) -> Any:
    return jnp.zeros_like(x) if jnp.issubdtype(x.dtype, jnp.floating) else np.zeros(x.shape, jax.dtypes.float0)


def _solve(problem: ImplicitProblem, theta: Any, start: Any) -> Any:
    if traced(theta, start):
        return _solve_traced(problem, theta, start)
    with one_device():
        return problem.solve(theta, start)


@partial(jax.jit, static_argnums=0)
def _solve_traced(problem: ImplicitProblem, theta: Any, start: Any) -> Any:
    return jax.lax.stop_gradient(problem.solve(theta, start))


@compiled(static=(0,))
def _push_forward(problem: ImplicitProblem, theta: Any, q: Array, theta_dot: Any) -> Array:
    return jax.jvp(lambda t: problem.residual(problem.prepare(t), q), (theta,), (theta_dot,))[1]


def _pull_back(problem: ImplicitProblem, varied: Any, fixed: Any, q: Array, adjoint: Array) -> Any:
    return jax.grad(lambda v: _against(problem, problem.prepare(_merge(v, fixed)), q, adjoint))(varied)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _against(problem: ImplicitProblem, prepared: Any, q: Array, adjoint: Array) -> Array:
    """-lambda^T R. Its derivative in what was prepared is wanted alone, in those parts that a derivative is asked in: so the forward
    pass computes nothing."""
    return -jnp.vdot(adjoint, problem.residual(prepared, q))


def _against_forward_pass(problem: ImplicitProblem, prepared: Any, q: Any, adjoint: Any) -> Any:
    return jnp.zeros(()), (*_by_perturbation(prepared), q.value, adjoint.value)


def _against_reverse_pass(problem: ImplicitProblem, saved: Any, cotangent: Array) -> Any:
    return *_by_prepared(problem, *saved), None, None


_against.defvjp(_against_forward_pass, _against_reverse_pass, symbolic_zeros=True)


@partial(jax.jit, static_argnums=0)
def _by_prepared(problem: ImplicitProblem, varied: Any, fixed: Any, q: Array, adjoint: Array) -> tuple[Any]:
    return jax.vjp(lambda v: problem.residual(_merge(v, fixed), q), varied)[1](-adjoint)


@compiled
def _nan_unless(accepted: float, theta_bar: Any, report: Array, went: Array) -> tuple[Any, Array]:
    """The gradient, where primal and adjoint were solved, and the probe's cotangent."""
    ok = (report[1] > 0) & (went[0] <= accepted)
    return jax.tree.map(lambda g: jnp.where(ok, g, jnp.nan), theta_bar), jnp.concatenate([report[:2], went])


def _solver(problem: ImplicitProblem, theta: Any, q: Array, factor: Any, transpose: bool) -> Any:
    """A solver of linear systems, and what it says: [residual, products, solves]."""

    def solve(matvec: Any, b: Array) -> tuple[Array, Array]:
        x, *went = problem.linear_solve(theta, q, factor, b, transpose, matvec)
        return x, _went(*went)

    return solve


@jax.jit
def _went(residual: Array, products: Array) -> Array:
    return jnp.stack([residual, products.astype(residual.dtype), (products > 0).astype(residual.dtype)])


@partial(jax.jit, static_argnums=0)
def _solve_tangent(problem: ImplicitProblem, theta: Any, q: Array, factor: Any, b: Array) -> Array:
    """x with R_q x = b; transposable, and differentiable in ``theta``, ``q`` and ``b``."""

    def solver(transpose: bool) -> Any:
        def solve(matvec: Any, b: Array) -> Array:
            x, went = _solver(problem, theta, q, factor, transpose)(matvec, b)
            return jnp.where(went[0] <= ACCEPTED, x, jnp.nan)

        return solve

    return jax.lax.custom_linear_solve(problem.tangent(problem.prepare(theta), q), b, solver(False), solver(True))


def solve_adjoint(problem: ImplicitProblem, theta: Any, q: Array, factor: Any, b: Array) -> tuple[Array, Array]:
    """x with R_q^T x = b, and [residual, products, solves]; differentiable in ``theta``, ``q`` and ``b``."""
    if traced(theta, q, factor, b):
        return _solve_adjoint_traced(problem, theta, q, factor, b)
    return _solver(problem, theta, q, factor, True)(None, b)


@partial(jax.jit, static_argnums=0)
def _solve_adjoint_traced(problem: ImplicitProblem, theta: Any, q: Array, factor: Any, b: Array) -> tuple[Array, Array]:
    prepared = problem.prepare(theta)
    _, transposed = jax.vjp(lambda q: problem.residual(prepared, q), q)
    solvers = (_solver(problem, theta, q, factor, transpose) for transpose in (True, False))
    return jax.lax.custom_linear_solve(lambda x: transposed(x)[0], b, *solvers, has_aux=True)


def solve_symmetric(matvec: Callable[[Array], Array], b: Array, solve: Callable[..., tuple[Array, Any]]) -> tuple[Array, Any]:
    """x with A x = b for a symmetric matrix, which is its own adjoint, and what ``solve(matvec, b)`` says of it. Differentiable in
    ``b`` and in what ``matvec`` is made of, in either mode: its tangents and adjoints are solved by the same solver."""
    return jax.lax.custom_linear_solve(matvec, b, solve, symmetric=True, has_aux=True)


# ---- how the solves of a function are to be differentiated


@dataclass
class Differentiating:
    """How the solves that the code being traced calls are to be differentiated, and how many it has called."""

    derivative: str = "reverse"
    probes: Array | None = None
    tolerance: float = np.inf
    count: int = 0

    def next_probe(self) -> Array:
        """Where the next solve's adjoint leaves its report: the cotangent of this."""
        self.count += 1
        return jnp.zeros(PROBE) if self.probes is None or self.count > len(self.probes) else self.probes[self.count - 1]


mode: ContextVar[Differentiating | None] = ContextVar("differentiating", default=None)


@contextmanager
def differentiating(derivative: str, probes: Array | None = None, tolerance: float = np.inf) -> Iterator[Differentiating]:
    """Within this, ``solve_steady`` is differentiated so where it leaves that open, and run to at least ``tolerance``."""
    inner = Differentiating(derivative, probes, min(tolerance, (mode.get() or Differentiating()).tolerance))
    token = mode.set(inner)
    try:
        yield inner
    finally:
        mode.reset(token)
