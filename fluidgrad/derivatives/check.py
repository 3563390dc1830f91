"""Whether a derivative is right.

The three tests of ``check`` need no reference solution, and each can fail on its own:

Taylor       |f(x + h v) - f(x) - h f'(x) v| falls as h^2 if the derivative is right, as h if it is not.
Dot product  w . (f' v) by forward mode equals (f'^T w) . v by reverse mode to round-off.
Differences  (fourth-order, central) approach f' v as h falls until round-off takes over: a V-curve whose floor is
             named; at best the error is near eps^(4/5) of the function's own noise.

The function may have many values: each solve serves them all, and each value is judged by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from fluidgrad.derivatives.derivative import linearize
from fluidgrad.errors import InputError, NotConverged
from fluidgrad.solve.adjoint import differentiating

TAYLOR_RATE, DOT_PRODUCT_GAP, DIFFERENCE_ERROR = 1.95, 1e-12, 1e-8  # what a right derivative must reach
TIGHT = 1e-13  # the tolerance of the solves behind a check
TAYLOR_STEPS = 0.02 * 0.5 ** np.arange(6)
DIFFERENCE_STEPS = 10.0 ** np.arange(-1.0, -5.1, -0.5)
HALVINGS = 8  # of steps that leave the flows that there are
NOISE = 1e-12  # of a value, relative: a remainder below it says that the function is linear


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
        shortened: what part of the steps was taken: less than 1 where longer ones tangled the mesh or had no flow.
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
    shortened: float = 1.0

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
            + (f"; steps shortened to {self.shortened:.3g} of what was asked, beyond which there is no flow" if self.shortened < 1 else "")
        )


def check(f: Callable[[Any], Any], x: Any, *, seed: int = 0, names: tuple[str, ...] | None = None, most: Any = np.inf) -> Check:
    """Check the derivative of ``f`` at ``x`` in a direction that mixes all values' gradients and a random one.

    Args:
        f: design (any pytree) -> one or more numbers, calling ``solve_steady`` inside; its solves are run to 1e-13.
        x: where.
        seed: of the random direction.
        most: how much each number may change at most, one number or a pytree like ``x``, such as the width of its bounds.
            Without it that is the largest number of its array, or 1 where all are zero. The longest step is a fifth of it.
            A step that tangles the mesh, or at which no flow is found, is halved with all others, and the result says so.

    Raises:
        NotConverged: if the solve at ``x`` fails, or those of the shortest steps.
        InputError: the mesh at ``x`` is tangled, or so is that of the shortest steps.
    """
    x0, unravel = jax.flatten_util.ravel_pytree(x)

    def values(x: Any) -> Any:
        return jnp.atleast_1d(jax.flatten_util.ravel_pytree(f(x))[0])

    with differentiating("reverse", tolerance=TIGHT):
        derivative = linearize(values, x)
        f0 = np.asarray(derivative.value)
        rows = [np.asarray(jax.flatten_util.ravel_pytree(derivative.rmatvec(jnp.asarray(e)))[0]) for e in np.eye(len(f0))]
        most = jax.tree.map(lambda _: most, x) if isinstance(most, int | float) else most
        size = np.asarray(jax.flatten_util.ravel_pytree(jax.tree.map(_size, x, most))[0])
        v = size * _direction(np.stack(rows) * size, seed)
        slope = np.asarray(derivative.matvec(unravel(jnp.asarray(v))))

        @cache
        def along(h: float) -> np.ndarray:
            return np.asarray(values(unravel(x0 + h * v)))

        part = _feasible(along)
        names = names or tuple(f"value {i}" for i in range(len(f0)))
        judged = judge(lambda h: along(part * h), f0, part * slope, part * (np.stack(rows) @ v), names)
        return replace(judged, shortened=part)


def _feasible(along: Callable[[float], np.ndarray]) -> float:
    """What part of the steps can be taken: the first of 1, 1/2, 1/4 ... whose ends have a flow.

    Raises:
        InputError, NotConverged: what the last of them met, with advice.
    """
    longest, part = 2 * DIFFERENCE_STEPS.max(), 1.0
    while True:
        try:
            along(part * longest), along(-part * longest)
            return part
        except (InputError, NotConverged) as error:
            met = error
        if part <= 0.5**HALVINGS:
            break
        part *= 0.5
    advice = f"{met} (by steps of a check, {part:.3g} of the longest; most = ... in fg.check, or narrower bounds, make them shorter)"
    raise InputError(advice) if isinstance(met, InputError) else NotConverged(advice, met.report, met.solution)


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
