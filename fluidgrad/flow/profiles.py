"""Velocity profiles on a patch, as one speed for each of its faces.

That speed is the *exact average* of the profile over the face, so the flow rate is the same on every mesh. In 2D a profile
runs along the patch by its share of arc length s in [0, 1],

    parabola     u(s) = 6 mean s (1 - s)
    nodes        u(s) piecewise linear through ``values`` at s = 1/(n+1), ..., n/(n+1), and zero at both ends

from the end with the smaller x or y, whichever of the two changes more along it. In 3D a parabola on a rectangle is the
product of two. At a plane of symmetry it may be a half of itself. Both are differentiable in their numbers and in the mesh's points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from fluidgrad.errors import InputError
from fluidgrad.mesh.geometry import FaceScalar
from fluidgrad.mesh.mesh import Mesh
from fluidgrad.mesh.topology import Topology, corner_shares
from fluidgrad.programs import compiled

# Six points that integrate polynomials of degree 4 over a triangle exactly (Dunavant 1985), as barycentric weights.
_A, _B = (0.44594849091596488632, 0.22338158967801146570), (0.09157621350977074346, 0.10995174365532186764)
_CORNERS = np.array([np.roll([1 - 2 * a, a, a], k) for a, _ in (_A, _B) for k in range(3)])
_WEIGHTS = np.array([w for _, w in (_A, _B) for _ in range(3)])


def parabola(mesh: Mesh, patch: str, mean: ArrayLike, mirrors: Sequence[str] = ()) -> FaceScalar:
    """Speeds of the fully developed profile between two plates: a parabola of average ``mean`` [L/T].

    In 3D the patch is a rectangle with its sides along two axes, and the profile the product of two parabolas (which is
    zero on all four sides, though not the fully developed profile of a duct).

    Args:
        mirrors: patches that the inflow ends at and that are planes of symmetry: it is a half (or quarter) of the profile, whose
            other half is the mirror image.

    Returns:
        The average over each face, ``(faces,)``; their sum weighted by area is ``mean`` times the area of the patch.

    Raises:
        InputError: in 2D a patch that is not one open line, in 3D one that is not such a rectangle; a mirror that is not at one
            of its sides.

    Differentiable in: ``mean`` and the mesh's points.
    """
    return _parabola(mesh, patch, tuple(mirrors), jnp.asarray(mean, mesh.points.dtype))


@compiled(static=(1, 2))
def _parabola(mesh: Mesh, patch: str, mirrors: tuple[str, ...], mean: Array) -> FaceScalar:
    if mesh.dim == 3:
        return mean * _product_of_parabolas(mesh, patch, mirrors)
    first, length = mesh.topology.of(_shown, patch, mirrors)
    a, b = (first[0] + length[0] * s for s in spans(mesh, patch))
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
    return _nodes(mesh, patch, values)


@compiled(static=(1,))
def _nodes(mesh: Mesh, patch: str, values: Array) -> FaceScalar:
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
    path, rank = mesh.topology.of(_line, patch)
    length = jnp.linalg.norm(jnp.diff(mesh.points[path], axis=0), axis=1)
    s = jnp.concatenate([jnp.zeros(1, length.dtype), jnp.cumsum(length)]) / jnp.sum(length)
    return s[rank], s[rank + 1]


def _line(topology: Topology, patch: str) -> tuple[Int[np.ndarray, " n+1"], Int[np.ndarray, " n"]]:
    """The points of a patch from end to end, and the place of each of its faces along them."""
    pieces = topology.lines(patch)
    if len(pieces) != 1 or len(np.unique(pieces[0][0])) < len(pieces[0][0]):
        raise InputError(
            f"patch {patch!r} is not one line from end to end", accepted="a profile needs one; give speeds face by face instead"
        )
    points, faces = pieces[0]
    if topology.bearings[list(topology.patches).index(patch)] < 0:
        points, faces = points[::-1], faces[::-1]
    return np.ascontiguousarray(points), np.argsort(faces)


def _product_of_parabolas(mesh: Mesh, patch: str, mirrors: tuple[str, ...]) -> FaceScalar:
    """The average of 36 a (1 - a) b (1 - b) over each face, a and b the shares along the sides of the rectangle."""
    corners, axes = mesh.topology.of(_rectangle, patch)
    triangle, area = _fractions(mesh.points, corners, axes, jnp)
    first, length = mesh.topology.of(_shown, patch, mirrors)
    s = first + length * jnp.einsum("qc,ftci->ftqi", jnp.asarray(_CORNERS, area.dtype), triangle)
    value = jnp.prod(6 * s * (1 - s), -1) @ jnp.asarray(_WEIGHTS, area.dtype)
    return jnp.sum(value * area, 1) / jnp.sum(area, 1)


def _shown(t: Topology, patch: str, mirrors: tuple[str, ...]) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Where a patch begins in its whole profile along each of its sides, and how much of it it is: all, or a half at mirrors."""
    if t.dim == 2:
        path, _ = _line(t, patch)
        ends = [(path[:1], path[-1:])]
    else:
        corners, axes = _rectangle(t, patch)
        points = np.unique(corners)
        x = t.nominal[points][:, axes]
        near = 1e-9 * np.ptp(x)
        ends = [(points[s <= s.min() + near], points[s >= s.max() - near]) for s in x.T]
    first, length = np.zeros(len(ends)), np.ones(len(ends))
    for mirror in mirrors:
        of = t.face_points[t.faces_of(mirror)]
        found = [(axis, side) for axis, pair in enumerate(ends) for side in (0, 1) if np.isin(pair[side], of).all()]
        if len(found) != 1 or length[found[0][0]] < 1 or mirror == patch:
            raise InputError(
                f"patch {mirror!r} is no mirror of a profile on {patch!r}",
                accepted="a patch that meets it along one whole side, and none for the opposite side",
            )
        ((axis, side),) = found
        first[axis], length[axis] = (0.5 if side == 0 else 0.0), 0.5
    return first, length


def _fractions(points: Any, corners: Any, axes: Any, xp: Any) -> Any:
    """The triangles of faces, their corners as shares of the sides of the rectangle, ``(faces, triangles, 3, 2)``, and areas."""
    x = points[corners][..., axes]
    low, high = xp.min(x, (0, 1)), xp.max(x, (0, 1))
    x = (x - low) / (high - low)
    middle = xp.broadcast_to(xp.einsum("fk,fki->fi", corner_shares(corners, x.dtype), x)[:, None], x.shape)
    triangle = xp.stack([middle, x, xp.roll(x, -1, 1)], 2)
    (u, v) = (triangle[:, :, k] - triangle[:, :, 0] for k in (1, 2))
    return triangle, xp.abs(u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]) / 2


def _rectangle(t: Topology, patch: str) -> tuple[Int[np.ndarray, "faces corners"], Int[np.ndarray, " 2"]]:
    """The points of the faces of a patch that is a rectangle, and the axes that its sides are along."""
    corners = t.face_points[t.faces_of(patch)]
    size = np.ptp(t.nominal[np.unique(corners)], axis=0)
    flat = t.bearings[list(t.patches).index(patch)]
    axes = np.array([k for k in range(3) if k != flat])
    if size[flat] > 1e-9 * size.max() or abs(_fractions(t.nominal, corners, axes, np)[1].sum() - 1) > 1e-9:
        raise InputError(
            f"patch {patch!r} is not a rectangle with its sides along two axes",
            accepted="a parabola in 3D needs one; give speeds face by face instead",
        )
    return corners, axes
