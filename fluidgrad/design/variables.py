"""The numbers of a design as optimizers see them: one vector, each number with its bounds and a scale.

**Inner products.** Which direction is steepest depends on how the size of a change is measured. With a ``basis`` B the
optimizer's variables are z in x = start + B z, and its gradients B^T g: Euclidean in z is the inner product (B B^T)^-1 in
x. Of shapes two others are natural (:func:`wall_basis`), which measure the displacement V of the walls that a change of
the design makes, so that neither the kind nor the number of the design's numbers matters:

    L2    int V.W ds            H1    int V.W + length^2 dV/ds.dW/ds ds
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from fluidgrad.errors import InputError
from fluidgrad.flow.measures import wall_product

if TYPE_CHECKING:
    from fluidgrad.flow.flow import Flow

NEARLY_NONE = 1e-3  # of the mean: directions that move the walls less, as all offsets alike where an area is given, count as the mean


@dataclass(frozen=True, eq=False)
class Variables:
    """The numbers of a design as one vector, with bounds and scales.

    Attributes:
        start: the numbers, in the order of the pytree's leaves, ``(n,)``.
        lower, upper: their bounds, infinite where there are none.
        names: of each number, its path in the pytree and its index.
        structure: the pytree's, and the shapes of its leaves.
        basis: of the free numbers' change, ``(free, free)``, in another inner product than by their scales; see the module.
    """

    start: Float[np.ndarray, " n"]
    lower: Float[np.ndarray, " n"]
    upper: Float[np.ndarray, " n"]
    names: tuple[str, ...]
    structure: tuple[Any, tuple[tuple[int, ...], ...]]
    basis: Float[np.ndarray, "free free"] | None = None

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
        """Of the scaled vector: 0 and 1 where there are two; none in another basis, where they are constraints."""
        if self.basis is not None:
            return np.full(self.scale.size, -np.inf), np.full(self.scale.size, np.inf)
        return (self.lower[self.free] - self.offset) / self.scale, (self.upper[self.free] - self.offset) / self.scale

    def scaled(self, x: np.ndarray) -> np.ndarray:
        """The scaled vector of the free numbers."""
        if self.basis is not None:
            return np.linalg.solve(self.basis, (x - self.start)[self.free])
        return (x[self.free] - self.offset) / self.scale

    def unscaled(self, z: np.ndarray) -> np.ndarray:
        """All numbers, from the scaled vector of the free ones; within the bounds to the last bit."""
        x = np.clip(self.start, self.lower, self.upper)
        x[self.free] = np.clip(self._free(z), self.lower[self.free], self.upper[self.free])
        return x

    def _free(self, z: np.ndarray) -> np.ndarray:
        return self.offset + self.scale * z if self.basis is None else self.start[self.free] + self.basis @ z

    def pulled(self, gradients: np.ndarray) -> np.ndarray:
        """Gradients with respect to the scaled vector."""
        free = gradients[:, self.free]
        return free * self.scale if self.basis is None else free @ self.basis

    def bounds_as_constraints(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The finite bounds as r(z) <= 0, each over its scale, with their Jacobian; none where they are bounds of z."""
        if self.basis is None:
            return np.zeros(0), np.zeros((0, z.size))
        x, row = self._free(z) / self.scale, self.basis / self.scale[:, None]
        low, high = self.lower[self.free] / self.scale, self.upper[self.free] / self.scale
        below, above = np.isfinite(low), np.isfinite(high)
        return np.concatenate([(low - x)[below], (x - high)[above]]), np.concatenate([-row[below], row[above]])

    @property
    def linear(self) -> list[tuple[float, float]]:
        """The bounds that are constraints for the method, as intervals."""
        if self.basis is None:
            return []
        return [(a, b) for a, b in zip(self.lower[self.free], self.upper[self.free], strict=True) if np.isfinite([a, b]).any()]

    def inside(self, margin: float) -> np.ndarray:
        """The start, with those numbers that are nearer to a bound than a ``margin`` of their scale moved off it so far."""
        plain, x = replace(self, basis=None), self.start.copy()
        (low, high), z = plain.scaled_bounds, plain.scaled(x)
        moved = np.clip(z, low + margin, high - margin)
        near = np.flatnonzero(self.free)[moved != z]  # all others to the last bit
        x[near] = plain.unscaled(moved)[near]
        return x

    def random(self, seed: int, margin: float = 0.0) -> np.ndarray:
        """An admissible vector: uniform between bounds, but for a ``margin`` of their width at either; without two, within a
        tenth of the scale of the start."""
        plain = replace(self, basis=None)
        u = np.random.default_rng(seed).uniform(size=int(self.free.sum()))
        both = np.isfinite((self.upper - self.lower)[self.free])
        return plain.unscaled(np.where(both, margin + (1 - 2 * margin) * u, plain.scaled(self.start) + 0.2 * (u - 0.5)))

    def flat(self, tree: Any) -> Float[np.ndarray, " n"]:
        """A pytree like the start as a vector."""
        return np.concatenate([np.asarray(x, float).ravel() for x in jax.tree.leaves(tree)])

    def tree(self, x: ArrayLike) -> Any:
        """The pytree of a vector. Differentiable."""
        tree, shapes = self.structure
        ends = np.cumsum([int(np.prod(s)) for s in shapes])[:-1]
        return jax.tree.unflatten(tree, [p.reshape(s) for p, s in zip(jnp.split(jnp.asarray(x), ends), shapes, strict=True)])


def wall_basis(flow: Callable[[Any], Flow], variables: Variables, length: float) -> Float[np.ndarray, "free free"]:
    """A basis in which the Euclidean inner product is that of the walls' displacement, L2 or H1 with a ``length``: the
    inverse square root of M = X^T W X, X the derivative of the walls' points at the start and W their product. Its unit
    is the displacement by all numbers, each by its scale and of itself: that of offsets does not depend on how many there
    are. Numbers that move no wall are scaled as by their bounds.

    Raises:
        InputError: no number moves a wall; H1 on surfaces.
    """
    scale = variables.scale
    first = flow(variables.tree(variables.start))
    own, W = wall_product(first.mesh, first.walls, length)
    at = np.flatnonzero(variables.free)

    def walls(z: Any) -> Any:
        return flow(variables.tree(jnp.asarray(variables.start).at[at].add(scale * z))).mesh.points[own]

    X = np.asarray(jax.jit(jax.jacfwd(walls))(jnp.zeros(len(at))))
    M = np.sum([X[:, k].T @ (W @ X[:, k]) for k in range(first.mesh.dim)], axis=0)
    by_number = np.einsum("p,pkn->n", np.asarray(W.sum(1)).ravel(), X**2)  # in L2 whatever W: stiffness sums to zero
    moves, size = by_number > 0, by_number.sum()
    if not moves.any():
        given = "an inner product of the walls' displacement, but no number of the design moves a wall"
        raise InputError(given, accepted='inner_product = "parameters"')
    basis = np.eye(len(at))
    values, vectors = np.linalg.eigh(M[np.ix_(moves, moves)] / size)
    mean = 1 / moves.sum()
    values = np.where(values < NEARLY_NONE * mean, mean, values)
    basis[np.ix_(moves, moves)] = (vectors / np.sqrt(values)) @ vectors.T
    return scale[:, None] * basis


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
