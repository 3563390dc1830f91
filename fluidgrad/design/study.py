"""Studies: what may vary, within which bounds, and what is wanted of the flow."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidgrad.design.limits import limit_at
from fluidgrad.design.variables import Variables, wall_basis
from fluidgrad.errors import InputError

if TYPE_CHECKING:
    from fluidgrad.flow.flow import Flow
    from fluidgrad.flow.solution import Solution

Functional = Callable[["Solution"], Any]
PRODUCTS = "parameters", "L2", "H1"


@dataclass(frozen=True)
class Constraint:
    """A functional that must equal a value, or be at most or at least one (exactly one of the three).

    Attributes:
        functional: ``Solution -> scalar``.
        equals, at_most, at_least: the value, in the functional's units; or "start" for the functional's own at the start,
            or a multiple of that, as in "1.05 start".
        band: with ``equals``: within half of this width instead, for methods that take inequalities only.
        name: in results and messages; by default the functional's own.
        condition: which of a study's several flows it is of, counted from 0.
    """

    functional: Functional
    equals: float | str | None = None
    at_most: float | str | None = None
    at_least: float | str | None = None
    band: float | None = None
    name: str | None = None
    condition: int = 0

    def __post_init__(self):
        if not callable(self.functional):
            raise InputError(f"a constraint on {self.functional!r}", accepted="a function of a solution")
        given = {k: getattr(self, k) for k in ("equals", "at_most", "at_least") if getattr(self, k) is not None}
        if len(given) != 1:
            raise InputError(f"a constraint with {' and '.join(given) or 'no value'}", accepted="one of equals, at_most and at_least")
        ((kind, value),) = given.items()
        if isinstance(value, str):
            try:
                limit_at(value, 1.0)
            except InputError as error:
                raise InputError(f"a constraint with {kind} = {value!r}", error.accepted) from None
        elif not isinstance(value, int | float | np.number) or not np.isfinite(value):
            raise InputError(f"a constraint with {kind} = {value!r}", accepted="a finite number")
        if self.band is not None and (self.equals is None or not 0 < self.band < np.inf):
            raise InputError(f"a constraint with {kind} and band = {self.band}", accepted="equals, and a positive width")

    @property
    def relative(self) -> bool:
        """Whether its value is a multiple of the start's."""
        return any(isinstance(v, str) for v in (self.equals, self.at_most, self.at_least))

    @property
    def interval(self) -> tuple[float, float]:
        """The lowest and the highest value it allows; NaN where that is relative to the start."""
        return self.within(float("nan"))

    def within(self, start: float) -> tuple[float, float]:
        """The lowest and the highest value it allows, where the functional is ``start`` at the start."""
        equals, low, high = (None if v is None else limit_at(v, start) for v in (self.equals, self.at_least, self.at_most))
        if equals is not None:
            half = 0.5 * (self.band or 0.0)
            return equals - half, equals + half
        return (-np.inf if low is None else low), (np.inf if high is None else high)


@dataclass(frozen=True, eq=False)
class Study:
    """A flow that depends on a design, and what is wanted of it.

    Attributes:
        flow: design -> Flow, in JAX; the topology must not depend on the design (``like=`` of the mesh generators). Or
            several of them: conditions that one design must serve, such as two Reynolds numbers.
        start: the design to start from, any pytree of numbers.
        bounds: as for ``Variables.of``: a pair (lower, upper), or a mapping of such pairs for a mapping.
        objective: ``Solution -> scalar``, to be minimized; of several flows the sum of theirs by ``weights``.
        constraints: on functionals, each of one flow.
        weights: of the objective of each flow; 1 by default.
        inner_product: that makes gradients of steepest descent: "parameters", with each number scaled by its bounds, "L2"
            or "H1" of the walls' displacement (``variables.py``). With the latter two, bounds are constraints for the method.
        length: of H1: waves shorter than about 2 pi of it are held back [L].
        name: of the objective, in results; by default the functional's own.
        options: keywords of ``solve_steady``: tolerance, linear.

    Raises:
        InputError: bounds that do not fit the start, exclude each other or the start; numbers that are not finite; weights
            that are not one for each flow; a constraint of a flow that there is not.
    """

    flow: Callable[[Any], Flow] | Sequence[Callable[[Any], Flow]]
    start: Any
    bounds: Any
    objective: Functional
    constraints: Sequence[Constraint] = ()
    name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    weights: Sequence[float] = ()
    inner_product: str = "parameters"
    length: float = 0.0

    def __post_init__(self):
        flows = len(self.flows)
        w = np.asarray(self.weights, float)
        if self.weights and (len(w) != flows or not np.isfinite(w).all() or (w < 0).any() or not w.any()):
            advice = f"{flows} finite number{'s' * (flows > 1)}: one for each flow, none negative and not all 0"
            raise InputError(f"weights {list(self.weights)}", accepted=advice)
        if beyond := [c for c in self.constraints if not 0 <= c.condition < flows]:
            raise InputError(f"a constraint of condition {beyond[0].condition}", accepted=f"0 to {flows - 1}: one of the study's flows")
        if self.inner_product not in PRODUCTS:
            raise InputError(f"inner_product = {self.inner_product!r}", accepted=f"one of {', '.join(PRODUCTS)}")
        if not (self.length > 0 if self.inner_product == "H1" else self.length == 0) or not np.isfinite(self.length):
            advice = 'a positive length with inner_product = "H1", and none with the others'
            raise InputError(f"length = {self.length:g} with inner_product = {self.inner_product!r}", accepted=advice)
        variables = Variables.of(self.start, self.bounds)
        if self.inner_product != "parameters":
            variables = replace(variables, basis=wall_basis(self.flows[0], variables, self.length))
        object.__setattr__(self, "variables", variables)

    @property
    def flows(self) -> tuple[Callable[[Any], Flow], ...]:
        """The flow, or the several."""
        return (self.flow,) if callable(self.flow) else tuple(self.flow)

    variables: Variables = field(init=False, repr=False)

    @property
    def kinds(self) -> list[tuple[float, float]]:
        """Of the constraints as a method meets them, bounds that are constraints for it included: intervals, of which only
        the kind is meant where a limit is relative to the start."""
        return [*(c.within(1.0) for c in self.constraints), *self.variables.linear]

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
            name = name or name_of(f) or (f"constraint {k}" if k else "objective")
            while name in names:
                base, _, number = name.rpartition(" ")
                name = f"{base} {int(number) + 1}" if number.isdigit() else f"{name} 2"
            names.append(name)
        return tuple(names)


def name_of(f: Any) -> str | None:
    """The name that a functional goes by, if it has one."""
    name = getattr(f, "name", None) or getattr(getattr(f, "func", f), "__name__", None)
    return None if name == "<lambda>" else name
