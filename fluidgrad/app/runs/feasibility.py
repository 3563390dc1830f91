"""Constraints that need no flow to be known, such as the flow rate of an inflow: can any design within the bounds meet them?"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidgrad.design.limits import limit_of
from fluidgrad.errors import InputError

if TYPE_CHECKING:
    from fluidgrad.design.study import Study
    from fluidgrad.flow.flow import Flow

MISSED = 1e-6  # relative violation of constraints that no design can mend


def check_feasible(study: Study) -> None:
    """Refuse constraints that no admissible design meets, among those that need no flow to be known (such as the flow
    rate of an inflow): where the start misses them, the least sum of squared violations within the bounds is sought.

    Raises:
        InputError: naming the constraint that is missed by most, and its nearest value.
    """
    import jax
    import jax.numpy as jnp
    import scipy.optimize

    from fluidgrad.flow.solution import Solution

    if not study.constraints:
        return
    variables = study.variables

    def flows(x: Any) -> list[Flow]:
        return [flow(variables.tree(x)) for flow in study.flows]

    @partial(jax.jit, static_argnums=2)
    def values(flows: list[Flow], state: Any, which: tuple[int, ...]) -> Any:
        some = [study.constraints[i] for i in which]
        return jnp.stack([c.functional(Solution(flows[c.condition], state, None)) for c in some])  # pyright: ignore

    start = flows(variables.start)
    states = np.random.default_rng(0).normal(size=(2, start[0].n_unknowns))
    every = tuple(range(len(study.constraints)))
    one, other = (np.asarray(values(start, jnp.asarray(state), every)) for state in states)
    known = tuple(int(i) for i in np.flatnonzero(one == other))  # and none that is NaN at the start
    if not known:
        return
    low, high = np.array([study.constraints[i].within(one[i]) for i in known]).reshape(-1, 2).T
    scale = np.maximum(np.abs(np.where(np.isfinite(low), low, high)), 1e-12)

    def missed(v: Any) -> Any:
        return (jnp.maximum(v - high, 0) + jnp.maximum(low - v, 0)) / scale

    if np.max(missed(one[np.array(known)])) <= MISSED:
        return

    @jax.jit
    @jax.value_and_grad
    def distance(x: Any) -> Any:
        return jnp.sum(missed(values(flows(x), states[0], known)) ** 2)

    def squared(x: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = distance(x)
        return float(value), np.asarray(gradient)

    bounds = [(a if np.isfinite(a) else None, b if np.isfinite(b) else None) for a, b in zip(variables.lower, variables.upper, strict=True)]
    options = {"ftol": 1e-14, "gtol": 1e-14, "maxiter": 200}
    tries = [scipy.optimize.minimize(squared, x, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
             for x in (variables.start, variables.random(0))]  # fmt: skip
    best = min(tries, key=lambda found: float(found.fun))
    nearest = np.asarray(values(flows(best.x), states[0], known))
    gap = np.asarray(missed(nearest))
    if gap.max() > MISSED:
        i = int(gap.argmax())
        c = study.constraints[known[i]]
        asked = limit_of(c, one[known[i]])
        others = " with the other constraints" if len(known) > 1 else ""
        raise InputError(
            f"the constraints are infeasible: {c.name} cannot {asked}{others}, the nearest within the bounds is {nearest[i]:.6g}",
            accepted="wider bounds, or another limit",
        )
