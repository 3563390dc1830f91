"""The derivative of a simulation as a linear operator.

``value_and_grad`` is ``jax.value_and_grad`` that also reports how the adjoint solve went, and refuses: no gradient
comes back from a primal or adjoint solve that did not converge. ``linearize`` gives the derivative at a point as an
operator with ``matvec`` (tangent) and ``rmatvec`` (adjoint), whatever the shapes of input and output.

A function handed to these calls ``solve_steady`` somewhere inside. How it should be differentiated, and where the
adjoint's report leaves, reach that call through ``differentiating``: a setting of the tracing Python code alone; the
numbers themselves leave as a cotangent (``adjoint.py``).

``check`` asks whether a derivative is right. Its three tests need no reference solution, and each can fail on its own:

Taylor       |f(x + h v) - f(x) - h f'(x) v| falls as h^2 if the derivative is right, as h if it is not.
Dot product  w . (f' v) by forward mode equals (f'^T w) . v by reverse mode to round-off.
Differences  (fourth-order, central) approach f' v as h falls until round-off takes over: a V-curve whose floor is
             named; at best the error is near eps^(4/5) of the function's own noise.

The function may have many values: each solve serves them all, and each value is judged by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg as spla
from jaxtyping import Array, Float

from fluidgrad.errors import NotConverged
from fluidgrad.solve import steady
from fluidgrad.solve.adjoint import ACCEPTED, PROBE

TAYLOR_RATE, DOT_PRODUCT_GAP, DIFFERENCE_ERROR = 1.95, 1e-12, 1e-8  # what a right derivative must reach
TIGHT = 1e-13  # the tolerance of the solves behind a check
TAYLOR_STEPS = 0.02 * 0.5 ** np.arange(6)
DIFFERENCE_STEPS = 10.0 ** np.arange(-1.0, -5.1, -0.5)
NOISE = 1e-12  # of a value, relative: a remainder below it says that the function is linear


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
    with steady.differentiating("reverse") as seen:
        jax.eval_shape(lambda x: f(x), x)  # a new function each time: a cached trace would call no solve
    return seen.count


def vjp(f: Callable[[Any], Any], x: Any) -> tuple[Any, Callable[[Any], tuple[Any, GradientReport]]]:
    """f(x), and the map from a cotangent of it to (cotangent of x, report). Raises as :func:`value_and_grad` does."""
    n = _count_solves(f, x)

    def probed(x: Any, probes: Array) -> Any:
        with steady.differentiating("reverse", probes):
            return f(x)

    value, pull = jax.vjp(probed, x, jnp.zeros((n, PROBE)))

    def pull_back(cotangent: Any) -> tuple[Any, GradientReport]:
        x_bar, probes = pull(cotangent)
        report = _report(probes)
        if report.converged and not all(bool(jnp.all(jnp.isfinite(a))) for a in jax.tree.leaves(x_bar)):
            message = "no gradient: it is not finite, and no solve in it reports why (is a solve inside a jitted function?)"
            raise NotConverged(message, report)
        if not report.converged:
            raise NotConverged(
                f"no gradient: the adjoint solve stopped at a relative residual of {report.adjoint_residual:.1e} (at most "
                f"{ACCEPTED:.0e} is accepted). The flow may be close to a bifurcation; try a finer mesh or a lower Reynolds number.",
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
    with steady.differentiating("forward"):
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


# ---- is it right?


@dataclass(frozen=True)
class Check:
    """The verdict on a derivative, the worst over its directions; arrays have one row a value of the function.

    Attributes:
        taylor_rate: least order of the Taylor remainder (2 where the remainder is at the noise: linear).
        dot_product_gap: between forward and reverse mode, relative.
        best_difference_error: of fourth-order differences against the derivative, relative, at the best step.
        remainders: ``(values, Taylor steps)``; taylor_steps: their steps.
        errors: ``(values, steps)`` of the differences, the V-curve; steps: their steps.
        floor: of each V-curve, and at_step: where it is reached.
        names: of the values.
    """

    taylor_rate: float
    dot_product_gap: float
    best_difference_error: float
    taylor_rates: Float[np.ndarray, " values"]
    gaps: Float[np.ndarray, " values"]
    taylor_steps: Float[np.ndarray, " k"]
    remainders: Float[np.ndarray, "values k"]
    steps: Float[np.ndarray, " m"]
    errors: Float[np.ndarray, "values m"]
    floor: Float[np.ndarray, " values"]
    at_step: Float[np.ndarray, " values"]
    names: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether all three tests are met."""
        return (
            self.taylor_rate >= TAYLOR_RATE and self.dot_product_gap <= DOT_PRODUCT_GAP and self.best_difference_error <= DIFFERENCE_ERROR
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        rows = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in asdict(self).items()}
        return {"verdict": "passed" if self.passed else "failed", **rows}

    def __str__(self) -> str:
        return (
            f"{'passed' if self.passed else 'FAILED'}: Taylor rate {self.taylor_rate:.3f} (>= {TAYLOR_RATE}), "
            f"forward against reverse {self.dot_product_gap:.1e} (<= {DOT_PRODUCT_GAP:.0e}), "
            f"best difference {self.best_difference_error:.1e} (<= {DIFFERENCE_ERROR:.0e})"
        )


def check(f: Callable[[Any], Any], x: Any, *, seed: int = 0, names: tuple[str, ...] | None = None, most: Any = np.inf) -> Check:
    """Check the derivative of ``f`` at ``x`` in a direction that mixes all values' gradients and a random one.

    Args:
        f: design (any pytree) -> one or more numbers, calling ``solve_steady`` inside; its solves are run to 1e-13.
        x: where.
        seed: of the random direction.
        most: how much each number may change at most, one number or a pytree like ``x``, such as the width of its bounds.
            Without it that is the largest number of its array, or 1 where all are zero. The longest step is a fifth of it.

    Raises:
        NotConverged: if a solve fails.
    """
    x0, unravel = jax.flatten_util.ravel_pytree(x)

    def values(x: Any) -> Any:
        return jnp.atleast_1d(jax.flatten_util.ravel_pytree(f(x))[0])

    with steady.differentiating("reverse", tolerance=TIGHT):
        derivative = linearize(values, x)
        f0 = np.asarray(derivative.value)
        rows = [np.asarray(jax.flatten_util.ravel_pytree(derivative.rmatvec(jnp.asarray(e)))[0]) for e in np.eye(len(f0))]
        most = jax.tree.map(lambda _: most, x) if isinstance(most, int | float) else most
        size = np.asarray(jax.flatten_util.ravel_pytree(jax.tree.map(_size, x, most))[0])
        v = size * _direction(np.stack(rows) * size, seed)
        slope = np.asarray(derivative.matvec(unravel(jnp.asarray(v))))

        def along(h: float) -> np.ndarray:
            return np.asarray(values(unravel(x0 + h * v)))

        return judge(along, f0, slope, np.stack(rows) @ v, names or tuple(f"value {i}" for i in range(len(f0))))


def judge(along: Callable[[float], np.ndarray], f0: np.ndarray, slope: np.ndarray, reverse: np.ndarray, names: tuple[str, ...]) -> Check:
    """The three tests, for a function along a line and its derivatives there by forward and by reverse mode."""
    scale = np.maximum(np.abs(f0), np.abs(reverse)) + 1e-300
    size = np.maximum(np.abs(slope), np.abs(reverse))
    size = np.where(size > NOISE * scale, size, scale)  # a value that does not depend on x: absolute instead
    gaps = np.abs(slope - reverse) / size
    remainders = np.stack([np.abs(along(h) - f0 - h * reverse) for h in TAYLOR_STEPS], 1)
    rates = np.array([_rate(r, NOISE * s) for r, s in zip(remainders, scale, strict=True)])
    errors = np.stack([np.abs(_fourth_order(along, h) - reverse) / size for h in DIFFERENCE_STEPS], 1)
    best = errors.argmin(1)
    floor = errors[np.arange(len(f0)), best]
    return Check(
        float(rates.min()), float(gaps.max()), float(floor.max()), rates, gaps,
        TAYLOR_STEPS, remainders, DIFFERENCE_STEPS, errors, floor, DIFFERENCE_STEPS[best], names,
    )  # fmt: skip


def _size(x: Any, most: Any) -> np.ndarray:
    """How much each number of one array of a design is changed: by the largest of them, or ``most`` if that is less."""
    size = np.minimum(np.full(np.shape(x), np.abs(x).max(initial=0.0) or np.inf), most)
    return np.where(np.isfinite(size), size, 1.0)


def _direction(gradients: np.ndarray, seed: int) -> np.ndarray:
    """A random direction plus every gradient's own, each turned to the side of the first: no value's derivative along it is
    small by accident, and none cancels another (of a single number there are two directions only)."""
    random = np.random.default_rng(seed).normal(size=gradients.shape[1])
    units = [g / np.linalg.norm(g) for g in (*gradients, random) if np.linalg.norm(g) > 0]
    v = sum((np.where(u @ units[0] < 0, -1.0, 1.0) * u for u in units), np.zeros_like(random))
    return v / np.abs(v).max()


def _rate(remainders: np.ndarray, noise: float) -> float:
    """The order at which a remainder falls: the least between neighbouring steps that stand clear of the noise."""
    clear = remainders > 100.0 * noise
    pairs = clear[:-1] & clear[1:]
    if not pairs.any():
        return 2.0
    rates = np.log2(remainders[:-1][pairs] / remainders[1:][pairs])
    return float(np.median(rates[-3:]))


def _fourth_order(along: Callable[[float], np.ndarray], h: float) -> np.ndarray:
    near, far = along(h) - along(-h), along(2 * h) - along(-2 * h)
    return (8.0 * near - far) / (12.0 * h)
