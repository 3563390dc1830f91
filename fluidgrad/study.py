"""Studies: what may vary, within which bounds, and what is wanted of the flow.

Optimizers see a design as :class:`Variables`: a pytree's numbers as one vector, each with its bounds and a scale.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from fluidgrad.errors import InputError

if TYPE_CHECKING:
    from fluidgrad.flow import Flow, Solution

Functional = Callable[["Solution"], Any]


@dataclass(frozen=True)
class Constraint:
    """A functional that must equal a value, or be at most or at least one (exactly one of the three).

    Attributes:
        functional: ``Solution -> scalar``.
        equals, at_most, at_least: the value, in the functional's units.
        band: with ``equals``: within half of this width instead, for methods that take inequalities only.
        name: in results and messages; by default the functional's own.
        condition: which of a study's several flows it is of, counted from 0.
    """

    functional: Functional
    equals: float | None = None
    at_most: float | None = None
    at_least: float | None = None
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
        flow: design -> Flow, in JAX; the topology must not depend on the design (``like=`` of the mesh generators). Or
            several of them: conditions that one design must serve, such as two Reynolds numbers.
        start: the design to start from, any pytree of numbers.
        bounds: as for ``Variables.of``: a pair (lower, upper), or a mapping of such pairs for a mapping.
        objective: ``Solution -> scalar``, to be minimized; of several flows the sum of theirs by ``weights``.
        constraints: on functionals, each of one flow.
        weights: of the objective of each flow; 1 by default.
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

    def __post_init__(self):
        flows = len(self.flows)
        if self.weights and (len(self.weights) != flows or not np.isfinite(np.asarray(self.weights, float)).all()):
            raise InputError(f"weights {list(self.weights)}", accepted=f"{flows} finite number{'s' * (flows > 1)}: one for each flow")
        if beyond := [c for c in self.constraints if not 0 <= c.condition < flows]:
            raise InputError(f"a constraint of condition {beyond[0].condition}", accepted=f"0 to {flows - 1}: one of the study's flows")
        object.__setattr__(self, "variables", Variables.of(self.start, self.bounds))

    @property
    def flows(self) -> tuple[Callable[[Any], Flow], ...]:
        """The flow, or the several."""
        return (self.flow,) if callable(self.flow) else tuple(self.flow)

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


@dataclass(frozen=True, eq=False)
class Variables:
    """The numbers of a design as one vector, with bounds and scales.

    Attributes:
        start: the numbers, in the order of the pytree's leaves, ``(n,)``.
        lower, upper: their bounds, infinite where there are none.
        names: of each number, its path in the pytree and its index.
        structure: the pytree's, and the shapes of its leaves.
    """

    start: Float[np.ndarray, " n"]
    lower: Float[np.ndarray, " n"]
    upper: Float[np.ndarray, " n"]
    names: tuple[str, ...]
    structure: tuple[Any, tuple[tuple[int, ...], ...]]

    @classmethod
    def of(cls, start: Any, bounds: Any = None) -> Variables:
        """Of a pytree of numbers.

        Args:
            start: any pytree of real numbers and arrays.
            bounds: a pair (lower, upper), each a number, an array, None, or a pytree that begins like ``start``; or,
                for a mapping, a mapping from some of its keys to such bounds.

        Raises:
            InputError: no numbers; a value that is not finite; bounds that do not fit the start, that exclude each
                other, or that exclude the start.
        """
        leaves, tree = jax.tree_util.tree_flatten_with_path(start)
        values = [_as_numbers(x, f"the start of {jax.tree_util.keystr(path) or 'the design'}") for path, x in leaves]
        if not sum(v.size for v in values):
            raise InputError("the design has no numbers")
        shapes = tuple(v.shape for v in values)
        names = tuple(_name(path, index) for (path, _), v in zip(leaves, values, strict=True) for index in np.ndindex(v.shape))
        start = jax.tree.unflatten(tree, values)
        low, high = (
            np.concatenate(_spread(side, start, missing)) for side, missing in zip(_sides(bounds, start), (-np.inf, np.inf), strict=True)
        )
        variables = cls(np.concatenate([v.ravel() for v in values]), low, high, names, (tree, shapes))
        variables._check()
        return variables

    def _check(self) -> None:
        x, lower, upper = self.start, self.lower, self.upper
        if (bad := np.flatnonzero(~np.isfinite(x))).size:
            raise InputError(f"the start of {self.names[bad[0]]} is {x[bad[0]]}", accepted="finite numbers")
        if (bad := np.flatnonzero(~(lower <= upper))).size:
            k = bad[0]
            raise InputError(
                f"the bounds of {self.names[k]} are [{lower[k]:.6g}, {upper[k]:.6g}]", accepted="a lower bound below the upper one"
            )
        slack = 1e-12 * np.maximum(1e-300, np.abs(x))  # a start that was computed may miss its bound by rounding
        if (bad := np.flatnonzero((x < lower - slack) | (x > upper + slack))).size:
            k = bad[0]
            raise InputError(
                f"the start of {self.names[k]} is {x[k]:.6g}, outside its bounds [{lower[k]:.6g}, {upper[k]:.6g}]",
                accepted="a start within the bounds, or wider bounds",
            )
        if not (lower < upper).any():
            raise InputError("every number of the design has equal bounds", accepted="something that can vary")

    @cached_property
    def free(self) -> np.ndarray:
        """The numbers that can vary; those with equal bounds are held, and are no part of the scaled vector."""
        return self.lower < self.upper

    @cached_property
    def scale(self) -> np.ndarray:
        """Of the free numbers: the width between bounds; without two, the largest start in the same array, or 1."""
        tree, shapes = self.structure
        sizes = np.cumsum([0, *(int(np.prod(s)) for s in shapes)])
        typical = [np.full(b - a, np.max(np.abs(self.start[a:b]), initial=0.0)) for a, b in zip(sizes[:-1], sizes[1:], strict=True)]
        typical = np.concatenate(typical)
        width = self.upper - self.lower
        return np.where(np.isfinite(width), width, np.where(typical > 0, typical, 1.0))[self.free]

    @cached_property
    def offset(self) -> np.ndarray:
        low = self.lower[self.free]
        return np.where(np.isfinite(self.upper[self.free] - low), low, 0.0)

    @property
    def scaled_bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the scaled vector: 0 and 1 where there are two."""
        return (self.lower[self.free] - self.offset) / self.scale, (self.upper[self.free] - self.offset) / self.scale

    def scaled(self, x: np.ndarray) -> np.ndarray:
        """The scaled vector of the free numbers."""
        return (x[self.free] - self.offset) / self.scale

    def unscaled(self, z: np.ndarray) -> np.ndarray:
        """All numbers, from the scaled vector of the free ones; within the bounds to the last bit."""
        x = np.clip(self.start, self.lower, self.upper)
        x[self.free] = np.clip(self.offset + self.scale * z, self.lower[self.free], self.upper[self.free])
        return x

    def random(self, seed: int) -> np.ndarray:
        """An admissible vector: uniform between bounds; without two, within a tenth of the scale of the start."""
        u = np.random.default_rng(seed).uniform(size=int(self.free.sum()))
        both = np.isfinite((self.upper - self.lower)[self.free])
        return self.unscaled(np.where(both, u, self.scaled(self.start) + 0.2 * (u - 0.5)))

    def flat(self, tree: Any) -> Float[np.ndarray, " n"]:
        """A pytree like the start as a vector."""
        return np.concatenate([np.asarray(x, float).ravel() for x in jax.tree.leaves(tree)])

    def tree(self, x: ArrayLike) -> Any:
        """The pytree of a vector. Differentiable."""
        tree, shapes = self.structure
        ends = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]
        return jax.tree.unflatten(tree, [p.reshape(s) for p, s in zip(jnp.split(jnp.asarray(x), ends), shapes, strict=True)])


def _as_numbers(x: Any, what: str) -> np.ndarray:
    try:
        return np.asarray(x).astype(float, casting="safe")
    except (TypeError, ValueError):
        raise InputError(f"{what} is {x!r}", accepted="real numbers") from None


def _name(path: tuple, index: tuple[int, ...]) -> str:
    name = ".".join(str(getattr(k, "key", getattr(k, "name", getattr(k, "idx", k)))) for k in path) or "design"
    return f"{name}[{', '.join(map(str, index))}]" if index else name


def _sides(bounds: Any, start: Any) -> tuple[Any, Any]:
    """Bounds as two pytrees that begin like the start."""
    if bounds is None:
        return None, None
    if isinstance(bounds, Mapping):
        if not isinstance(start, Mapping):
            raise InputError("bounds by name", accepted="a pair (lower, upper)")
        if unknown := [k for k in bounds if k not in start]:
            raise InputError(f"bounds of {unknown[0]!r}", accepted=f"the design has {', '.join(map(str, start))}")
        pairs = {k: _sides(bounds.get(k), start[k]) for k in start}
        return {k: p[0] for k, p in pairs.items()}, {k: p[1] for k, p in pairs.items()}
    if not isinstance(bounds, list | tuple) or len(bounds) != 2:
        raise InputError(f"bounds {bounds!r}", accepted="a pair (lower, upper)")
    return bounds[0], bounds[1]


def _spread(side: Any, start: Any, missing: float) -> list[np.ndarray]:
    """One side's bounds as vectors: a tree that begins like the start, broadcast below where it ends."""
    misfit = "one number, or one for each number of the design"
    if isinstance(start, np.ndarray):
        bound = _as_numbers(missing if side is None else side, "a bound")
        try:
            return [np.broadcast_to(bound, start.shape).ravel()]
        except ValueError:
            given = f"bounds of shape {bound.shape} do not fit a design of shape {start.shape}"
            raise InputError(given, accepted=misfit) from None
    below, kind = jax.tree.flatten(start, is_leaf=lambda x: x is not start)
    sides, side_kind = jax.tree.flatten(side, is_leaf=lambda x: x is not side)
    if side is None or jax.tree_util.treedef_is_leaf(side_kind):
        sides = [side] * len(below)
    elif kind != side_kind and not (isinstance(start, list | tuple) and len(sides) == len(below)):
        raise InputError(f"bounds for {len(sides)} parts do not fit a design of {len(below)}", accepted=misfit)
    return [x for s, b in zip(sides, below, strict=True) for x in _spread(s, b, missing)]
