"""What is measured of a mesh: areas, volumes and centres, and the pieces that faces are split into.

Names for shapes of arrays are here as well: values of cells and of faces, and vectors there; and the arithmetic of vector
fields whose components are arrays of their own.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fluidgrad import device
from fluidgrad.mesh.topology import corner_shares

device.start()

Points = Float[Array, "points dim"]
CellScalar = Float[Array, " cells"]
CellVector = Float[Array, "cells dim"]
FaceScalar = Float[Array, " faces"]
FaceVector = Float[Array, "faces dim"]


@partial(jax.tree_util.register_dataclass, data_fields=["S", "x_face", "x_twin", "V", "x_cell"], meta_fields=[])
@dataclass(frozen=True)
class Geometry:
    """What the fluxes need of a mesh. All differentiable in the points.

    Attributes:
        S: area vectors, ``(faces, dim)`` [L^(dim-1)], owner to neighbour.
        x_face: face centres, ``(faces, dim)``.
        x_twin: interior face centres as the neighbour sees them, ``(interior, dim)``: elsewhere on periodic faces.
        V: cell volumes, ``(cells,)`` [L^dim].
        x_cell: centroids, ``(cells, dim)``.
    """

    S: FaceVector
    x_face: FaceVector
    x_twin: FaceVector
    V: CellScalar
    x_cell: CellVector


class Vector(tuple):
    """A field of vectors as one array ``(items,)`` for each component, a field of tensors as a vector of its rows. With
    ``a @ b`` the sum over the components, ``T @ b`` and ``b @ T`` are the products of a tensor with a vector from either side.

    On a CPU, XLA turns what is written so into few loops over the items; over arrays ``(items, dim)``, whose last axis is
    small, it makes many, several times slower.
    """

    __slots__ = ()
    __array_ufunc__ = None  # NumPy's arrays leave the operators to this class

    def __add__(self, other: Any) -> Vector:
        return Vector(a + b for a, b in zip(self, other, strict=True))

    def __sub__(self, other: Any) -> Vector:
        return Vector(a - b for a, b in zip(self, other, strict=True))

    def __mul__(self, scalar: Any) -> Vector:
        return Vector(a * scalar for a in self)

    __rmul__ = __mul__

    def __truediv__(self, scalar: Any) -> Vector:
        return Vector(a / scalar for a in self)

    def __matmul__(self, other: Vector) -> Any:
        if isinstance(self[0], Vector):
            return Vector(row @ other for row in self)
        return sum_of(a * b for a, b in zip(self, other, strict=True))

    def stacked(self) -> Array:
        """The field as one array ``(items, ...)``."""
        return jnp.stack([a.stacked() if isinstance(a, Vector) else a for a in self], 1)


def sum_of(terms: Iterable[Any]) -> Any:
    """Their sum, which has no zero to begin with."""
    first, *rest = terms
    return sum(rest, first)


def components(field: Array) -> Any:
    """A field ``(items,)``, ``(items, n)`` or ``(items, n, m)`` as an array, a :class:`Vector`, a vector of vectors."""
    if field.ndim == 1:
        return field
    parts = (a.reshape(a.shape[:1] + a.shape[2:]) for a in jax.lax.split(field, (1,) * field.shape[1], 1))
    return Vector(components(a) for a in parts)


def simplices(points: Points, face_points: Int[Array, "faces corners"]) -> Array:
    """The corners of the flat pieces of faces, ``(faces, pieces, dim, dim)``: the edge itself in 2D, the triangles between
    the mean of the corners and each side in 3D (a padded corner makes an empty triangle)."""
    corner = points[face_points]
    if points.shape[1] == 2:
        return corner[:, None]
    middle = jnp.einsum("fk,fki->fi", corner_shares(face_points, points.dtype), corner)[:, None]
    return jnp.stack([corner, jnp.roll(corner, -1, axis=1), jnp.broadcast_to(middle, corner.shape)], 2)


def pieces(points: Points, face_points: Int[Array, "faces corners"]) -> tuple[Array, Array]:
    """Centres and area vectors of the flat pieces of faces, ``(faces, pieces, dim)``."""
    corner = jnp.moveaxis(simplices(points, face_points), 2, 0)
    if points.shape[1] == 2:
        a, b = corner
        return (a + b) / 2, jnp.stack([b[..., 1] - a[..., 1], a[..., 0] - b[..., 0]], -1)
    a, b, middle = corner
    return (a + b + middle) / 3, 0.5 * jnp.cross(a - middle, b - middle)


def centre(x_piece: Array, S_piece: Array) -> FaceVector:
    """Face centres, pieces weighted by their area along the face's normal (smooth, and exact for flat faces)."""
    S = S_piece.sum(1)
    weight = jnp.einsum("fpi,fi->fp", S_piece, S) / jnp.sum(S * S, -1)[:, None]
    return jnp.einsum("fp,fpi->fi", weight, x_piece)
