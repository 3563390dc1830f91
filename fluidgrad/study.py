"""Studies: what may vary, what is wanted of the flow, and what it costs to ask.

An evaluation is one primal solve and, for each functional that depends on the flow, one transposed solve with the factor
that the primal left behind. It is a pure function of the design and of the state that the solve starts from.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from fluidgrad import derivative
from fluidgrad.design import Variables
from fluidgrad.errors import InputError, NotConverged
from fluidgrad.flow import Flow, Solution, check_flow
from fluidgrad.quality import check_valid
from fluidgrad.steady import solve_steady

Functional = Callable[[Solution], Any]


@dataclass(frozen=True)
class Constraint:
    """A functional that must equal a value, or be at most or at least one (exactly one of the three).

    Attributes:
        functional: ``Solution -> scalar``.
        equals, at_most, at_least: the value, in the functional's units.
        band: with ``equals``: within half of this width instead, for methods that take inequalities only.
        name: in results and messages; by default the functional's own.
    """

    functional: Functional
    equals: float | None = None
    at_most: float | None = None
    at_least: float | None = None
    band: float | None = None
    name: str | None = None

    def __post_init__(self):
        if not callable(self.functional):
            raise InputError(f"a constraint on {self.functional!r}", accepted="a function of a solution")
        given = {k: getattr(self, k) for k in ("equals", "at_most", "at_least") if getattr(self, k) is not None}
        if len(given) != 1:
            raise InputError(f"a constraint with {' and '.join(given) or 'no value'}", accepted="one of equals, at_most and at_least")
        ((kind, value),) = given.items()
        if not isinstance(value, int | float | np.number) or not np.isfinite(value):
            raise InputError(f"a constraint with {kind} = {value!r}", accepted="a finite number")
        if self.band is not None and (self.equals is None or not 0 < self.band < np.inf):
            raise InputError(f"a constraint with {kind} and band = {self.band}", accepted="equals, and a positive width")

    @property
    def interval(self) -> tuple[float, float]:
        """The lowest and the highest value it allows."""
        if self.equals is not None:
            half = 0.5 * (self.band or 0.0)
            return self.equals - half, self.equals + half
        return (-np.inf if self.at_least is None else self.at_least), (np.inf if self.at_most is None else self.at_most)


@dataclass(frozen=True, eq=False)
class Study:
    """A flow that depends on a design, and what is wanted of it.

    Attributes:
        flow: design -> Flow, in JAX; the topology must not depend on the design (``like=`` of the mesh generators).
        start: the design to start from, any pytree of numbers.
        bounds: as for ``Variables.of``: a pair (lower, upper), or a mapping of such pairs for a mapping.
        objective: ``Solution -> scalar``, to be minimized.
        constraints: on functionals.
        name: of the objective, in results; by default the functional's own.
        options: keywords of ``solve_steady``: tolerance, linear.

    Raises:
        InputError: bounds that do not fit the start, exclude each other or the start; numbers that are not finite.
    """

    flow: Callable[[Any], Flow]
    start: Any
    bounds: Any
    objective: Functional
    constraints: Sequence[Constraint] = ()
    name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "variables", Variables.of(self.start, self.bounds))

    variables: Variables = field(init=False, repr=False)

    @property
    def functionals(self) -> tuple[Functional, ...]:
        """The objective, then those of the constraints."""
        return (self.objective, *(c.functional for c in self.constraints))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the functionals; a name used before gets a number."""
        given = (self.name, *(c.name for c in self.constraints))
        names: list[str] = []
        for k, (name, f) in enumerate(zip(given, self.functionals, strict=True)):
            name = name or _name(f) or (f"constraint {k}" if k else "objective")
            while name in names:
                base, _, number = name.rpartition(" ")
                name = f"{base} {int(number) + 1}" if number.isdigit() else f"{name} 2"
            names.append(name)
        return tuple(names)


def _name(f: Any) -> str | None:
    name = getattr(f, "name", None) or getattr(getattr(f, "func", f), "__name__", None)
    return None if name == "<lambda>" else name


@dataclass(frozen=True)
class EvaluationReport:
    """How an evaluation went: ``primal_residual`` net over gross flux; for each functional its adjoint's relative
    residual and the products it took (0 where the functional does not depend on the flow)."""

    primal_residual: float
    newton_steps: int
    adjoint_residuals: list[float]
    adjoint_products: list[int]
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """The functionals of a study at a design: ``values`` ``(1 + m,)``, ``gradients`` pytrees like the design, the
    ``state`` of the flow, and how it went."""

    values: Float[np.ndarray, " functionals"]
    gradients: list[Any]
    state: Array
    report: EvaluationReport


def evaluate(study: Study, design: Any, start: Array | None = None) -> Evaluation:
    """Values and gradients of a study's functionals at a design, by one primal solve and one transposed solve for each
    functional that depends on the flow.

    Args:
        study: what to evaluate.
        design: a pytree like ``study.start``.
        start: a state to start from (``Evaluation.state`` of another design); rest if left out.

    Raises:
        NotConverged: the primal or an adjoint solve failed, or a functional is not finite.
        InputError: the design gives no valid flow: a tangled mesh, a negative viscosity.
    """
    began = time.perf_counter()
    design = jax.tree.map(jnp.asarray, design)
    flow = _flow(study.flow, design)
    check_valid(flow.mesh)
    check_flow(flow)

    def solve(flow: Flow) -> tuple[Array, Array]:
        solution = solve_steady(flow, start, **study.options)
        return solution.state, solution.report.iterations

    (state, steps), pull_back = derivative.vjp(solve, flow)
    gradients, values, adjoints = [], [], []
    for name, (value, (direct, state_bar)) in zip(study.names, _functionals(study.flow, study.functionals, design, state), strict=True):
        if not np.isfinite(value):
            raise NotConverged(f"{name} is {float(value)}")
        flow_bar, report = pull_back((state_bar, jnp.zeros_like(steps)))
        gradients.append(jax.tree.map(np.add, direct, _pull_back(study.flow, design, flow_bar)))
        values.append(float(value))
        adjoints.append(report)
        if not all(np.isfinite(g).all() for g in jax.tree.leaves(gradients[-1])):
            raise NotConverged(f"the gradient of {name} is not finite", report)
    report = EvaluationReport(
        primal_residual=adjoints[0].primal_residual,
        newton_steps=int(steps),
        adjoint_residuals=[r.adjoint_residual for r in adjoints],
        adjoint_products=[r.adjoint_products for r in adjoints],
        seconds=time.perf_counter() - began,
    )
    return Evaluation(np.array(values), gradients, state, report)


# Compiled apart, so that only the solve, which calls back to the host, is left out of JAX's cache of programs on disk.


@partial(jax.jit, static_argnums=0)
def _flow(flow: Callable[[Any], Flow], design: Any) -> Flow:
    return flow(design)


@partial(jax.jit, static_argnums=0)
def _pull_back(flow: Callable[[Any], Flow], design: Any, cotangent: Flow) -> Any:
    return jax.vjp(flow, design)[1](cotangent)[0]


@partial(jax.jit, static_argnums=(0, 1))
def _functionals(flow: Callable[[Any], Flow], functionals: tuple[Functional, ...], design: Any, state: Array) -> list[Any]:
    """Value and gradient in (design, state) of each: in the design, not in the flow, since most of that seldom depends on it."""

    def scalar(f: Functional, design: Any, state: Array) -> Array:
        value = f(Solution(flow(design), state, None))  # pyright: ignore[reportArgumentType]  (how it was solved is no part of it)
        if jnp.shape(value) != ():
            raise InputError(f"{_name(f) or 'a functional'} has shape {jnp.shape(value)}", accepted="one number")
        return jnp.asarray(value, state.dtype)

    return [jax.value_and_grad(partial(scalar, f), argnums=(0, 1))(design, state) for f in functionals]
