"""The optimizers of others, each as a function of a search and a start.

| method          | from  | bounds     | inequalities | equalities | for                                     |
| --------------- | ----- | ---------- | ------------ | ---------- | --------------------------------------- |
| adam            | optax | projection | no           | no         | rough objectives                        |
| lbfgs           | optax | projection | no           | no         | many variables, failing trials          |
| L-BFGS-B        | SciPy | yes        | no           | no         | the default without constraints         |
| SLSQP           | SciPy | yes        | yes          | yes        | the default up to 300 variables         |
| trust-constr    | SciPy | yes        | yes          | yes        | the default for more, with equalities   |
| CCSAQ           | NLopt | yes        | yes          | no         | the default for more, with inequalities |
| MMA             | NLopt | yes        | yes          | no         | separable objectives                    |

All of them are deterministic, none decides by itself that it is done (their tolerances are nearly zero: the search stops
them by its own rules, the same for all), and none sees the user's numbers.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from jaxtyping import Float

from fluidgrad.errors import InputError

SMALL = 300  # variables up to which SLSQP's dense matrices are cheap beside a flow solve
RATE = 0.05  # of adam, in scaled variables
ARMIJO = 1e-4
HALVINGS = 30
INSIDE = 0.1  # trust-constr crawls from a start nearer to its bounds (share of the range)
ENDLESS = 10**9

Vector = Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Point:
    """What a method is told about z: objective ``f`` with gradient ``g``, and the constraints h = 0 and c <= 0 with their Jacobians.

    A failed trial has the ``f`` of ``FAILED`` and the other values of the last good point.
    """

    z: Vector
    f: float
    g: Vector
    h: Float[np.ndarray, " equalities"]
    h_z: Float[np.ndarray, "equalities n"]
    c: Float[np.ndarray, " inequalities"]
    c_z: Float[np.ndarray, "inequalities n"]
    failed: bool


class Search(Protocol):
    """What a method may ask. Both questions may end the search by an exception that the method must let pass."""

    lower: Vector
    upper: Vector

    def at(self, z: Vector) -> Point: ...

    def iterate(self, z: Vector) -> None:
        """An iteration is done, and ended at ``z``."""
        ...


@dataclass(frozen=True)
class Method:
    """``run`` searches until it is stopped; if it gives up it says why. ``patience``: trials it may go without progress.
    ``restarts``: whether it has a line search whose end a new call may mend."""

    run: Callable[[Search, Vector], str]
    inequalities: bool
    equalities: bool
    patience: int = 20
    restarts: bool = False


def choose(method: str | None, n: int, intervals: Sequence[tuple[float, float]], names: Sequence[str] = ()) -> tuple[str, str]:
    """A method that can take ``n`` variables and these constraints, and why it was chosen.

    Raises:
        InputError: an unknown method, or one that cannot take the constraints.
    """
    equal = [low == high for low, high in intervals]
    counts = [(n, "variable", "variables"), (sum(equal), "equality", "equalities"), (len(equal) - sum(equal), "inequality", "inequalities")]
    case = ", ".join(f"{k} {one if k == 1 else many}" for k, one, many in counts if k)
    if method is None:
        if not equal:
            return "L-BFGS-B", f"{case}, no constraints"
        if n <= SMALL:
            return "SLSQP", f"{case}; SLSQP takes up to {SMALL} variables"
        if any(equal):
            return "trust-constr", f"{case}; a band for each equality would allow CCSAQ, which is faster"
        return "CCSAQ", f"{case}; more than {SMALL} variables"
    if method not in METHODS:
        near = difflib.get_close_matches(method.lower(), [m.lower() for m in METHODS], n=1)
        advice = [f"did you mean {m!r}? " for m in METHODS if m.lower() in near]
        raise InputError(f"unknown method {method!r}", accepted=f"{''.join(advice)}one of {', '.join(METHODS)}")
    takes = METHODS[method]
    if equal and not takes.inequalities:
        raise InputError(f"{method} takes bounds only, and there are constraints", accepted="SLSQP, trust-constr, CCSAQ or MMA")
    if any(equal) and not takes.equalities:
        which = f" {names[equal.index(True)]!r}" if names else ""
        advice = "use SLSQP or trust-constr, or give the equality a band = width, which turns it into a band of that width"
        raise InputError(f"{method} cannot take the equality{which}", accepted=advice)
    return method, f"{case}; asked for"


# ---- optax


def _adam(search: Search, z: Vector) -> str:
    """Adam, projected on the bounds. A failed trial, or ten without a lower objective: back to the lowest, at half the rate."""
    transform = optax.scale_by_adam()
    start, update = transform.init(jnp.asarray(z)), jax.jit(transform.update)
    lowest = point = search.at(z)
    state, rate, since = start, RATE, 0
    while rate > 1e-9:
        direction, state = update(jnp.asarray(point.g), state)
        point = search.at(np.clip(point.z - rate * np.asarray(direction), search.lower, search.upper))
        lowest, since = (point, 0) if point.f < lowest.f else (lowest, since + 1)
        if point.failed or since == 10:
            point, state, rate, since = lowest, start, 0.5 * rate, 0  # without the momentum that led away
        search.iterate(point.z)
    return "adam: no lower objective however small the step"


def _lbfgs(search: Search, z: Vector) -> str:
    """L-BFGS over the variables that no bound holds, with a backtracking projected line search."""
    transform = optax.scale_by_lbfgs(memory_size=20)
    update = jax.jit(transform.update)
    state = transform.init(jnp.asarray(z))
    point = search.at(z)
    while True:
        held = (z <= search.lower) & (point.g > 0) | (z >= search.upper) & (point.g < 0)
        downhill = np.where(held, 0.0, point.g)
        direction, state = update(jnp.asarray(downhill), state, jnp.asarray(z))
        direction = np.where(held, 0.0, np.asarray(direction))
        if not direction @ downhill > 1e-10 * np.linalg.norm(direction) * np.linalg.norm(downhill):
            direction, state = downhill, transform.init(jnp.asarray(z))
        for t in 0.5 ** np.arange(HALVINGS):
            trial = search.at(np.clip(z - t * direction, search.lower, search.upper))
            if not trial.failed and trial.f <= point.f + ARMIJO * point.g @ (trial.z - z):
                break
        else:
            return "lbfgs: no lower point along the search direction"
        z, point = trial.z, trial
        search.iterate(z)


# ---- SciPy


def _lbfgsb(search: Search, z: Vector) -> str:
    def objective(z: Vector) -> tuple[float, Vector]:
        point = search.at(z)
        return point.f, point.g

    options = {"maxiter": ENDLESS, "maxfun": ENDLESS, "ftol": 0.0, "gtol": 0.0, "maxcor": 20}
    return _scipy(search, objective, z, method="L-BFGS-B", bounds=_bounds(search), options=options)


def _slsqp(search: Search, z: Vector) -> str:
    def objective(z: Vector) -> tuple[float, Vector]:
        point = search.at(z)
        return point.f, point.g

    start, constraints = search.at(z), []
    if start.h.size:
        constraints.append({"type": "eq", "fun": lambda z: search.at(z).h, "jac": lambda z: search.at(z).h_z})
    if start.c.size:
        constraints.append({"type": "ineq", "fun": lambda z: -search.at(z).c, "jac": lambda z: -search.at(z).c_z})
    options = {"maxiter": ENDLESS, "ftol": 1e-15}
    return _scipy(search, objective, z, method="SLSQP", bounds=_bounds(search), constraints=constraints, options=options)


def _trust_constr(search: Search, z: Vector) -> str:
    start = search.at(z)
    constraints = []
    if k := start.h.size + start.c.size:
        low, high = np.concatenate([np.zeros(start.h.size), np.full(start.c.size, -np.inf)]), np.zeros(k)
        constraints.append(
            scipy.optimize.NonlinearConstraint(
                lambda z: np.concatenate([search.at(z).h, search.at(z).c]),
                low,
                high,
                jac=lambda z: np.concatenate([search.at(z).h_z, search.at(z).c_z]),  # pyright: ignore
                hess=scipy.optimize.BFGS(),
            )
        )
    inside = INSIDE * np.minimum(1.0, search.upper - search.lower)
    return _scipy(
        search,
        lambda z: search.at(z).f,
        np.clip(z, search.lower + inside, search.upper - inside),
        jac=lambda z: search.at(z).g,
        hess=scipy.optimize.BFGS(),
        method="trust-constr",
        bounds=_bounds(search),
        constraints=constraints,
        options={"maxiter": ENDLESS, "gtol": 1e-15, "xtol": 1e-13, "barrier_tol": 1e-13},
    )


def _bounds(search: Search) -> scipy.optimize.Bounds:
    return scipy.optimize.Bounds(search.lower, search.upper, keep_feasible=True)  # pyright: ignore[reportArgumentType]


def _scipy(search: Search, objective: Any, z: Vector, **options: Any) -> str:
    options = {"jac": True, **options}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "delta_grad == 0.0")  # a linear functional, or the gradient a failed trial repeats
        warnings.filterwarnings("ignore", "Values in x were outside bounds")  # by rounding; they are clipped, here too
        result = scipy.optimize.minimize(objective, z, callback=lambda z, *_: search.iterate(z), **options)
    return f"{options['method']} stopped: {result.message}"


# ---- NLopt


def _nlopt(name: str) -> Callable[[Search, Vector], str]:
    def run(search: Search, z: Vector) -> str:
        import nlopt  # a compiled extra of no use before this

        optimizer = nlopt.opt(getattr(nlopt, f"LD_{name}"), z.size)
        optimizer.set_lower_bounds(search.lower)
        optimizer.set_upper_bounds(search.upper)

        def objective(z: Vector, gradient: Vector) -> float:
            point = search.at(z.copy())
            if point is not start:
                search.iterate(z)
            if gradient.size:
                gradient[:] = point.g
            return point.f

        def constraints(values: Vector, z: Vector, gradients: np.ndarray) -> None:
            point = search.at(z.copy())
            values[:] = point.c
            if gradients.size:
                gradients[:] = point.c_z

        start = search.at(z)
        optimizer.set_min_objective(objective)
        if start.c.size:
            optimizer.add_inequality_mconstraint(constraints, np.zeros(start.c.size))
        try:
            optimizer.optimize(z)
        except nlopt.RoundoffLimited:
            return f"{name} stopped: limited by rounding"
        return f"{name} stopped: code {optimizer.last_optimize_result()}"

    return run


METHODS = {
    "adam": Method(_adam, inequalities=False, equalities=False, patience=60),
    "lbfgs": Method(_lbfgs, inequalities=False, equalities=False, restarts=True),
    "L-BFGS-B": Method(_lbfgsb, inequalities=False, equalities=False, restarts=True),
    "SLSQP": Method(_slsqp, inequalities=True, equalities=True, restarts=True),
    "trust-constr": Method(_trust_constr, inequalities=True, equalities=True),
    "CCSAQ": Method(_nlopt("CCSAQ"), inequalities=True, equalities=False),
    "MMA": Method(_nlopt("MMA"), inequalities=True, equalities=False),
}
