"""The derivative of a simulation as a linear operator.

``value_and_grad`` is ``jax.value_and_grad`` that also reports how the adjoint solve went, and refuses: no gradient
comes back from a primal or adjoint solve that did not converge. ``linearize`` gives the derivative at a point as an
operator with ``matvec`` (tangent) and ``rmatvec`` (adjoint), whatever the shapes of input and output.

A function handed to these calls ``solve_steady`` somewhere inside. How it should be differentiated, and where the
adjoint's report leaves, reach that call through ``differentiating``: a setting of the tracing Python code alone; the
numbers themselves leave as a cotangent (``adjoint.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg as spla
from jaxtyping import Array

from fluidgrad.errors import NotConverged
from fluidgrad.solve.adjoint import ACCEPTED, PROBE, differentiating

KINK = "as at the kink of a square root, a norm, an absolute value or a maximum in it"


@dataclass(frozen=True)
class GradientReport:
    """How the solves behind a gradient went; the worst where there were several.

    Attributes:
        primal_residual: net over gross flux.
        adjoint_residual: relative, of the transposed system.
        adjoint_products: products with the transposed Jacobian that it took.
        adjoint_solves: transposed solves: 0 where the functional does not depend on the flow.
        converged: all of them.
    """

    primal_residual: float
    adjoint_residual: float
    adjoint_products: int
    adjoint_solves: int
    converged: bool


def _report(probes: np.ndarray) -> GradientReport:
    primal, ok, adjoint, products, solves = np.asarray(probes).reshape(-1, PROBE).T if len(probes) else np.zeros((PROBE, 0))
    fine = bool((ok[solves > 0] > 0).all() and (adjoint <= ACCEPTED).all())
    return GradientReport(float(primal.max(initial=0)), float(adjoint.max(initial=0)), int(products.sum()), int(solves.sum()), fine)


def _count_solves(f: Callable[..., Any], x: Any) -> int:
    with differentiating("reverse") as seen:
        # A new function each time: a cached trace would call no solve. And a trace of its own: a function that the user has
        # jitted keeps what it was traced with first, which must not be the probes of one derivative.
        jax.eval_shape(lambda x: f(x), x)
    return seen.count


def vjp(f: Callable[[Any], Any], x: Any) -> tuple[Any, Callable[[Any], tuple[Any, GradientReport]]]:
    """f(x), and the map from a cotangent of it to (cotangent of x, report). Raises as :func:`value_and_grad` does."""
    n = _count_solves(f, x)

    def probed(x: Any, probes: Array) -> Any:
        with differentiating("reverse", probes):
            return f(x)

    value, pull = jax.vjp(probed, x, jnp.zeros((n, PROBE)))

    def pull_back(cotangent: Any) -> tuple[Any, GradientReport]:
        x_bar, probes = pull(cotangent)
        report = _report(probes)
        if report.converged and not all(bool(jnp.all(jnp.isfinite(a))) for a in jax.tree.leaves(x_bar)):
            where = f"{KINK}, or in what makes the flow" if n else "and no solve in it reports why (is a solve inside a jitted function?)"
            raise NotConverged(f"no gradient: it is not finite, {where}", report)
        if np.isnan(report.adjoint_residual) and not report.adjoint_products:  # nothing was solved: there was NaN to begin with
            raise NotConverged(f"no gradient: the functional's own derivative is not finite at this flow, {KINK}", report)
        if not report.converged:
            raise NotConverged(
                f"no gradient: the adjoint solve stopped at a relative residual of {report.adjoint_residual:.1e} (at most "
                f"{ACCEPTED:.0e} is accepted). The flow may be close to a bifurcation, or its cells too large for central convection; try "
                'a finer mesh, scheme = "upwind" or a lower Reynolds number.',
                report,
            )
        return x_bar, report

    return value, pull_back


def value_and_grad(f: Callable[[Any], Array]) -> Callable[[Any], tuple[Array, Any, GradientReport]]:
    """The value and gradient of a scalar function of a design, with a report of the solves.

    Args:
        f: design (any pytree) -> scalar, calling ``solve_steady`` inside.

    Returns:
        A function design -> (value, gradient, report).

    Raises:
        NotConverged: when called, if a primal or an adjoint solve fails.
    """

    def value_gradient_report(x: Any) -> tuple[Array, Any, GradientReport]:
        value, pull_back = vjp(f, x)
        gradient, report = pull_back(jnp.ones_like(value))
        return value, gradient, report

    return value_gradient_report


@dataclass(frozen=True)
class Linearization:
    """The derivative f'(x), a linear operator from designs to values.

    Attributes:
        value: f(x).
        matvec: f'(x) v for a ``v`` like x.
        rmatvec: f'(x)^T w for a ``w`` like the value.
        shape: (numbers in the value, numbers in x).
    """

    value: Any
    matvec: Callable[[Any], Any]
    rmatvec: Callable[[Any], Any]
    shape: tuple[int, int]
    report: Callable[[], GradientReport]

    def as_operator(self, x: Any) -> spla.LinearOperator:
        """A SciPy operator on flat vectors; ``x`` shows how designs are laid out."""
        flat_x, from_x = jax.flatten_util.ravel_pytree(x)
        _, from_value = jax.flatten_util.ravel_pytree(self.value)

        def ravel(tree: Any) -> np.ndarray:
            return np.asarray(jax.flatten_util.ravel_pytree(tree)[0])

        def matvec(v: np.ndarray) -> np.ndarray:
            return ravel(self.matvec(from_x(jnp.asarray(v).reshape(flat_x.shape))))

        def rmatvec(w: np.ndarray) -> np.ndarray:
            return ravel(self.rmatvec(from_value(jnp.asarray(w).reshape(-1))))

        return spla.LinearOperator(self.shape, matvec=matvec, rmatvec=rmatvec, dtype=flat_x.dtype)  # pyright: ignore[reportCallIssue]


def linearize(f: Callable[[Any], Any], x: Any) -> Linearization:
    """The derivative of ``f`` at ``x`` as an operator: forward and reverse mode on the same solve.

    Args:
        f: design (any pytree) -> any pytree of arrays, calling ``solve_steady`` inside.

    Raises:
        NotConverged: if the primal solve fails, or a tangent or adjoint one when the operator is applied.
    """
    last: list[GradientReport] = []
    value, pull_back = vjp(f, x)
    with differentiating("forward"):
        _, push = jax.linearize(f, x)

    def matvec(v: Any) -> Any:
        out = push(v)
        if not all(bool(jnp.all(jnp.isfinite(a))) for a in jax.tree.leaves(out)):
            raise NotConverged("no derivative: the tangent solve did not converge")
        return out

    def rmatvec(w: Any) -> Any:
        x_bar, report = pull_back(w)
        last[:] = [report]
        return x_bar

    def count(tree: Any) -> int:
        return sum(int(np.prod(np.shape(a))) for a in jax.tree.leaves(tree))

    return Linearization(value, matvec, rmatvec, (count(value), count(x)), lambda: last[0])
