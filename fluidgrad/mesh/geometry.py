"""What is measured of a mesh: areas, volumes and centres, and the pieces that faces are split into.

Names for shapes of arrays are here as well: values of cells and of faces, and vectors there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
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


def simplices(points: Points, face_points: Int[np.ndarray, "faces corners"]) -> Array:
    """The corners of the flat pieces of faces, ``(faces, pieces, dim, dim)``: the edge itself in 2D, the triangles between
    the mean of the corners and each side in 3D (a padded corner makes an empty triangle)."""
    corner = points[face_points]
    if points.shape[1] == 2:
        return corner[:, None]
    weight = jnp.asarray(corner_shares(face_points), points.dtype)
    middle = jnp.einsum("fk,fki->fi", weight, corner)[:, None]
    return jnp.stack([corner, jnp.roll(corner, -1, axis=1), jnp.broadcast_to(middle, corner.shape)], 2)


def pieces(points: Points, face_points: Int[np.ndarray, "faces corners"]) -> tuple[Array, Array]:
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
