"""Designs: velocity profiles on a patch, and the free numbers of a design as one scaled vector.

A profile gives one speed per face, and that speed is the *exact average* of the profile over the face, so the flow rate
is the same on every mesh. In 2D a profile runs along the patch by its share of arc length s in [0, 1],

    parabola     u(s) = 6 mean s (1 - s)
    nodes        u(s) piecewise linear through ``values`` at s = 1/(n+1), ..., n/(n+1), and zero at both ends

from the end with the smaller x or y, whichever of the two changes more along it. In 3D a parabola on a rectangle is the
product of two. Both are differentiable in their numbers and in the mesh's points.

:class:`Variables` is what optimizers see of a design: a pytree's numbers as a vector, each with its bounds and a scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from fluidgrad.errors import InputError
from fluidgrad.mesh import FaceScalar, Mesh, Topology

# Six points that integrate polynomials of degree 4 over a triangle exactly (Dunavant 1985), as barycentric weights.
_A, _B = (0.44594849091596488632, 0.22338158967801146570), (0.09157621350977074346, 0.10995174365532186764)
_CORNERS = np.array([np.roll([1 - 2 * a, a, a], k) for a, _ in (_A, _B) for k in range(3)])
_WEIGHTS = np.array([w for _, w in (_A, _B) for _ in range(3)])


def parabola(mesh: Mesh, patch: str, mean: ArrayLike) -> FaceScalar:
    """Speeds of the fully developed profile between two plates: a parabola of average ``mean`` [L/T].

    In 3D the patch is a rectangle with its sides along two axes, and the profile the product of two parabolas (which is
    zero on all four sides, though not the fully developed profile of a duct).

    Returns:
        The average over each face, ``(faces,)``; their sum weighted by area is ``mean`` times the area of the patch.

    Raises:
        InputError: in 2D a patch that is not one open line, in 3D one that is not such a rectangle.

    Differentiable in: ``mean`` and the mesh's points.
    """
    mean = jnp.asarray(mean, mesh.points.dtype)
    if mesh.dim == 3:
        return mean * _product_of_parabolas(mesh, patch)
    a, b = spans(mesh, patch)
    return mean * (3 * (a + b) - 2 * (a * a + a * b + b * b))  # of 6 s (1 - s) over [a, b], divided out: no cancellation


def nodes(mesh: Mesh, patch: str, values: ArrayLike) -> FaceScalar:
    """Speeds of the piecewise linear profile with ``values`` ``(n,)`` [L/T] at equal distances and zero at both ends.

    Returns:
        The average over each face, ``(faces,)``; the flow rate is ``sum(values) / (n + 1)`` times the patch's length.

    Raises:
        InputError: values that are not one row of numbers; a 3D mesh; a patch that is not one open line.

    Differentiable in: ``values`` and the mesh's points.
    """
    values = jnp.asarray(values, mesh.points.dtype)
    if values.ndim != 1 or not len(values):
        raise InputError(f"the nodes of a profile have shape {values.shape}", accepted="one row of one or more numbers")
    n = values.shape[0] + 1
    ends = jnp.pad(values, 1)
    before = jnp.concatenate([jnp.zeros(1, values.dtype), jnp.cumsum(ends[1:] + ends[:-1]) / 2])

    def integral(s: Array) -> Array:
        """n times the profile's integral from 0 to s."""
        k = jnp.clip(jnp.floor(s * n), 0, n - 1).astype(int)
        r = s * n - k
        return before[k] + r * (ends[k] + 0.5 * r * (ends[k + 1] - ends[k]))

    a, b = spans(mesh, patch)
    return (integral(b) - integral(a)) / (n * (b - a))


def parabola_at_nodes(count: int, mean: ArrayLike) -> Float[Array, " count"]:
    """Values for :func:`nodes` on a parabola whose piecewise linear interpolant has the average ``mean`` exactly."""
    s = np.arange(1, count + 1) / (count + 1)
    return jnp.asarray(mean, float) * (s * (1 - s) * (count + 1) / np.sum(s * (1 - s)))


def spans(mesh: Mesh, patch: str) -> tuple[FaceScalar, FaceScalar]:
    """Where each face of a patch of a 2D mesh begins and ends, as shares of the patch's arc length."""
    if mesh.dim != 2:
        raise InputError(
            f"a profile of nodes on patch {patch!r} of a 3D mesh", accepted="a 2D mesh; in 3D, parabola or speeds face by face"
        )
    path, rank = _line(mesh.topology, patch)
    length = jnp.linalg.norm(jnp.diff(mesh.points[path], axis=0), axis=1)
    s = jnp.concatenate([jnp.zeros(1, length.dtype), jnp.cumsum(length)]) / jnp.sum(length)
    return s[rank], s[rank + 1]


@lru_cache(maxsize=64)
def _line(topology: Topology, patch: str) -> tuple[Int[np.ndarray, " n+1"], Int[np.ndarray, " n"]]:
    """The points of a patch from end to end, and the place of each of its faces along them."""
    faces = topology.face_points[topology.faces_of(patch)][:, :2]
    touching: dict[int, list[int]] = {}
    for f, corners in enumerate(faces.tolist()):
        for p in corners:
            touching.setdefault(p, []).append(f)
    ends = [p for p, f in touching.items() if len(f) == 1]
    path, rank = sorted(ends)[:1], np.full(len(faces), -1)
    if len(ends) == 2:
        x = topology.nominal[ends]
        axis = int(np.argmax(np.abs(x[1] - x[0])))
        path = [ends[int(x[1, axis] < x[0, axis])]]
        while (here := [f for f in touching[path[-1]] if rank[f] < 0]) and len(touching[path[-1]]) < 3:
            rank[here[0]] = len(path) - 1
            path.append(int(faces[here[0]].sum()) - path[-1])
    if (rank < 0).any():
        raise InputError(
            f"patch {patch!r} is not one line from end to end", accepted="a profile needs one; give speeds face by face instead"
        )
    return np.array(path), rank


def _product_of_parabolas(mesh: Mesh, patch: str) -> FaceScalar:
    """The average of 36 a (1 - a) b (1 - b) over each face, a and b the shares along the sides of the rectangle."""
    t = mesh.topology
    corners = t.face_points[t.faces_of(patch)]
    at = t.nominal[np.unique(corners)]
    size = np.ptp(at, axis=0)
    flat = int(np.argmin(size))
    axes = [k for k in range(3) if k != flat]
    distinct = np.ones(corners.shape)
    distinct[:, 1:] = corners[:, 1:] != corners[:, :-1]
    share = jnp.asarray(distinct / distinct.sum(1, keepdims=True), mesh.points.dtype)

    def fractions(points: Any, xp: Any) -> Any:
        x = points[corners][..., axes]
        low, high = xp.min(x, (0, 1)), xp.max(x, (0, 1))
        x = (x - low) / (high - low)
        middle = xp.broadcast_to(xp.einsum("fk,fki->fi", share, x)[:, None], x.shape)
        triangle = xp.stack([middle, x, xp.roll(x, -1, 1)], 2)  # (faces, triangles, corners, 2)
        (u, v) = (triangle[:, :, k] - triangle[:, :, 0] for k in (1, 2))
        return triangle, xp.abs(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]) / 2

    if size[flat] > 1e-9 * size.max() or abs(fractions(t.nominal, np)[1].sum() - 1) > 1e-9:
        raise InputError(
            f"patch {patch!r} is not a rectangle with its sides along two axes",
            accepted="a parabola in 3D needs one; give speeds face by face instead",
        )
    triangle, area = fractions(mesh.points, jnp)
    s = jnp.einsum("qc,ftci->ftqi", jnp.asarray(_CORNERS, area.dtype), triangle)
    value = jnp.prod(6 * s * (1 - s), -1) @ jnp.asarray(_WEIGHTS, area.dtype)
    return jnp.sum(value * area, 1) / jnp.sum(area, 1)


# ---- the numbers of a design


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
