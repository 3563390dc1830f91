"""The mesh: differentiable points on a static topology, and what is measured from them.

A mesh is polygons in 2D and polyhedra in 3D, described by its faces alone (``topology.py``). The area vector ``S`` of a
face points from its owner to its neighbour, or out of the domain. All communication between cells and faces goes through
two operators that are each other's transpose: :func:`to_faces` (a cell value seen from both sides of a face) and
:func:`to_cells` (the signed sum over a cell's faces).

``points`` are traced and differentiable. Measures: V = 1/dim sum_f x_f . S_f, and centroids by the same theorem; a 3D
face is split into triangles round the mean of its points, and areas, volumes and centroids are sums over those
triangles, so a closed cell has sum S = 0 and linear fields are integrated exactly even where faces are warped.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fluidgrad.mesh.topology import Topology, corner_shares

jax.config.update("jax_enable_x64", True)  # float64: an adjoint in float32 is noise below 1e-3

Points = Float[Array, "points dim"]
CellScalar = Float[Array, " cells"]
CellVector = Float[Array, "cells dim"]
FaceScalar = Float[Array, " faces"]
FaceVector = Float[Array, "faces dim"]


@partial(jax.tree_util.register_dataclass, data_fields=["points"], meta_fields=["topology", "recipe"])
@dataclass(frozen=True)
class Mesh:
    """Points on a topology.

    Attributes:
        points: ``(points, dim)`` [L]; traced, differentiable.
        topology: faces, owners, neighbours, patches; static.
        recipe: what its generator needs to make the same mesh from other numbers (``like=``), or None; static.
    """

    points: Points
    topology: Topology
    recipe: Any = field(default=None)

    @property
    def dim(self) -> int:
        return self.topology.dim

    @property
    def n_cells(self) -> int:
        return self.topology.n_cells

    @property
    def patches(self) -> tuple[str, ...]:
        """The names of the patches."""
        return tuple(self.topology.patches)

    def face_centers(self, patch: str) -> FaceVector:
        """The centres of a patch's faces, ``(faces, dim)`` [L], in the order in which its values are given. Differentiable.

        Raises:
            InputError: no such patch.
        """
        return measure(self).x_face[self.topology.faces_of(patch)]

    def __str__(self) -> str:
        from fluidgrad.mesh.quality import describe

        return describe(self)


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


def to_faces(topology: Topology, cell: Array) -> tuple[Array, Array]:
    """A cell value on the owner and the neighbour side of every interior face, ``(interior, ...)`` each."""
    return cell[topology.owner[: topology.n_interior]], cell[topology.neighbour]


def to_cells(topology: Topology, face: Array) -> Array:
    """The sum of a face value over the faces of each cell, out of the cell positive: the transpose of the jump
    ``owner - neighbour`` of :func:`to_faces` (a boundary face has an owner only)."""
    index, sign = topology.cell_faces
    padded = jnp.concatenate([face, jnp.zeros_like(face[:1])])
    return jnp.einsum("ck,ck...->c...", jnp.asarray(sign, face.dtype), padded[index])


@jax.jit  # one compilation for each kind of mesh, instead of one for each operation
def measure(mesh: Mesh) -> Geometry:
    """Areas, volumes and centres of a mesh. Differentiable in its points."""
    t = mesh.topology
    n = t.n_interior
    x_piece, S_piece = _pieces(mesh.points, t.face_points)
    x_other, S_other = (x_piece[:n], S_piece[:n]) if t.twin is None else _pieces(mesh.points, t.twin)
    S = S_piece.sum(1)
    sign = t.cell_faces[1]
    used = jnp.asarray(np.abs(sign), S.dtype)

    def seen_from_cell(own: Array, other: Array) -> Array:
        return jnp.concatenate([own, other, jnp.zeros_like(own[:1])])[t.seen]

    x = seen_from_cell(x_piece, x_other)  # (cells, k, pieces, dim)
    out = seen_from_cell(S_piece, S_other) * jnp.asarray(sign, S.dtype)[..., None, None]
    # Positions relative to a point inside: x . S of a small cell far from the origin would cancel.
    origin = jnp.einsum("ck,ckpi->ci", used, x) / (used.sum(1) * x.shape[2])[:, None]
    x = x - origin[:, None, None]
    height = jnp.sum(x * out, -1)  # x . S is constant on a flat piece, so both integrals are exact
    V = height.sum((1, 2)) / t.dim
    x_cell = origin + jnp.einsum("ckpi,ckp->ci", x, height) / ((t.dim + 1) * V[:, None])
    return Geometry(S, _centre(x_piece, S_piece), _centre(x_other, S_other)[:n], V, x_cell)


def face_pieces(mesh: Mesh, patch: str) -> tuple[Array, Array]:
    """Centres and area vectors of the flat pieces of a patch's faces, ``(faces, pieces, dim)``."""
    return _pieces(mesh.points, mesh.topology.face_points[mesh.topology.faces_of(patch)])


def _pieces(points: Points, face_points: Int[np.ndarray, "faces corners"]) -> tuple[Array, Array]:
    """Centres and area vectors of the flat pieces of faces, ``(faces, pieces, dim)``: the edge itself in 2D, the
    triangles between the mean of the corners and each side in 3D (a padded corner makes an empty triangle)."""
    corner = points[face_points]
    if points.shape[1] == 2:
        edge = corner[:, 1] - corner[:, 0]
        return corner.mean(1)[:, None], jnp.stack([edge[:, 1], -edge[:, 0]], -1)[:, None]
    weight = jnp.asarray(corner_shares(face_points), points.dtype)
    middle = jnp.einsum("fk,fki->fi", weight, corner)[:, None]
    after = jnp.roll(corner, -1, axis=1)
    return (corner + after + middle) / 3, 0.5 * jnp.cross(corner - middle, after - middle)


def _centre(x_piece: Array, S_piece: Array) -> FaceVector:
    """Face centres, pieces weighted by their area along the face's normal (smooth, and exact for flat faces)."""
    S = S_piece.sum(1)
    weight = jnp.einsum("fpi,fi->fp", S_piece, S) / jnp.sum(S * S, -1)[:, None]
    return jnp.einsum("fp,fpi->fi", weight, x_piece)
