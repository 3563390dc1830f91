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
from jaxtyping import Array, Int

from fluidgrad.errors import InputError
from fluidgrad.iteration import traced
from fluidgrad.mesh.geometry import FaceVector, Geometry, Points, centre, pieces, simplices, sum_of
from fluidgrad.mesh.quality import Quality
from fluidgrad.mesh.topology import Topology
from fluidgrad.programs import Holder, compiled


@partial(jax.tree_util.register_dataclass, data_fields=["points"], meta_fields=["topology", "recipe"])
@dataclass(frozen=True)
class Mesh(Holder):
    """Points on a topology.

    Attributes:
        points: ``(points, dim)`` [L]; traced, differentiable.
        topology: faces, owners, neighbours, patches; static.
        recipe: what its generator needs to make the same mesh from other numbers (``like=``), or None; static.
    """

    points: Points
    topology: Topology
    recipe: Any = field(default=None)

    def on(self, topology: Any) -> Mesh:
        """The same points on another topology."""
        return Mesh(self.points, topology)

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

    @property
    def quality(self) -> Quality:
        """How good its cells are (``quality.py``). Of points that are known: not while they are traced."""
        return Quality(self.points, self.topology, measure(self))

    def __str__(self) -> str:
        """Cells, faces, patches and worst quality."""
        t = self.topology
        count = ", ".join(f"{len(loops)} {kind}" for kind, loops in t.cells)
        lines = [f"mesh in {t.dim}D: {t.n_cells} cells ({count}), {t.n_faces} faces, {len(self.points)} points"]
        if traced(self.points):
            return "\n".join([*lines, f"patches: {', '.join(t.patches)}; points are traced"])
        area = np.linalg.norm(np.asarray(measure(self).S), axis=1)
        width = max(map(len, t.patches), default=0)
        unit = "length" if t.dim == 2 else "area"
        for name, (first, last) in t.patches.items():
            lines.append(f"  patch {name:<{width}}  {last - first:5d} faces, {unit} {area[first:last].sum():.6g}")
        for name, worst in self.quality.worst.items():
            lines.append(f"  worst {name.replace('_', ' ')}: {worst}")
        return "\n".join(lines)


@partial(jax.tree_util.register_dataclass, data_fields=["owner", "neighbour", "faces", "sign", "seen", "across"], meta_fields=[])
@dataclass(frozen=True)
class Incidence:
    """Which cells a face has, and which faces a cell: a table of every topology, for programs.

    Attributes:
        owner, neighbour: of the faces, ``(faces,)`` and ``(interior,)``.
        faces, sign, seen, across: of the cells, ``(cells, k)``; see :class:`~fluidgrad.mesh.topology.Topology`.
    """

    owner: Int[Array, " faces"]
    neighbour: Int[Array, " interior"]
    faces: Int[Array, "cells k"]
    sign: Int[Array, "cells k"]
    seen: Int[Array, "cells k"]
    across: Int[Array, "cells k"]

    @property
    def n_interior(self) -> int:
        return self.neighbour.shape[0]

    @property
    def inside(self) -> Int[Array, " boundary"]:
        """The cells at the boundary faces."""
        return self.owner[self.n_interior :]


def incidence(topology: Topology) -> Incidence:
    """The table of a topology."""
    t, (index, sign) = topology, topology.cell_faces
    return Incidence(t.owner, t.neighbour, index, sign.astype(np.int8), t.seen, t.across)  # pyright: ignore[reportArgumentType]


@partial(jax.tree_util.register_dataclass, data_fields=["own", "other"], meta_fields=[])
@dataclass(frozen=True)
class Corners:
    """The points of all faces, ``(faces, corners)``, and of interior faces as the neighbour sees them, if that differs."""

    own: Int[Array, "faces corners"]
    other: Int[Array, "interior corners"] | None


def corners(topology: Topology) -> Corners:
    """The table of a topology."""
    t = topology
    return Corners(t.face_points, None if t.twin is None else t.twin[: t.n_interior])  # pyright: ignore[reportArgumentType]


@partial(jax.tree_util.register_dataclass, data_fields=["points", "faces"], meta_fields=["closed"])
@dataclass(frozen=True)
class Line:
    """A piece of a 2D patch: its points in order and the faces between them; a closed one repeats its first point."""

    points: Int[Array, " n"]
    faces: Int[Array, " sides"]
    closed: bool


def lines(topology: Topology, patch: str) -> list[Line]:
    """:meth:`Topology.lines` as a table."""
    return [Line(points, faces, bool(points[0] == points[-1])) for points, faces in topology.lines(patch)]  # pyright: ignore


def to_faces(t: Incidence, cell: Array) -> tuple[Array, Array]:
    """A cell value on the owner and the neighbour side of every interior face, ``(interior, ...)`` each."""
    return rows(cell, t.owner[: t.n_interior]), rows(cell, t.neighbour)


def to_cells(t: Incidence, face: Array) -> Array:
    """The sum of a face value over the faces of each cell, out of the cell positive: the transpose of the jump
    ``owner - neighbour`` of :func:`to_faces` (a boundary face has an owner only)."""
    padded = jnp.concatenate([face, jnp.zeros_like(face[:1])])
    shape = (-1,) + (1,) * (face.ndim - 1)
    return sum_of(s.astype(face.dtype).reshape(shape) * rows(padded, i) for i, s in zip(t.faces.T, t.sign.T, strict=True))


def rows(values: Array, index: Int[Array, " n"]) -> Array:
    """``values[index]``, where every index is known to be one."""
    return jnp.asarray(values).at[index].get(mode="promise_in_bounds")


@compiled  # one compilation for each kind of mesh, instead of one for each operation
def measure(mesh: Mesh) -> Geometry:
    """Areas, volumes and centres of a mesh. Differentiable in its points."""
    return measured(mesh.points, mesh.topology.of(corners), mesh.topology.of(incidence))


def measured(points: Points, c: Corners, t: Incidence) -> Geometry:
    """Areas, volumes and centres of cells with these points."""
    n = t.n_interior
    x_piece, S_piece = pieces(points, c.own)
    x_other, S_other = (x_piece[:n], S_piece[:n]) if c.other is None else pieces(points, c.other)
    S = S_piece.sum(1)
    sign = t.sign.astype(S.dtype)
    used, dim = jnp.abs(sign), points.shape[1]

    def seen_from_cell(own: Array, other: Array) -> Array:
        return jnp.concatenate([own, other, jnp.zeros_like(own[:1])])[t.seen]

    x = seen_from_cell(x_piece, x_other)  # (cells, k, pieces, dim)
    out = seen_from_cell(S_piece, S_other) * sign[..., None, None]
    # Positions relative to a point inside: x . S of a small cell far from the origin would cancel.
    origin = jnp.einsum("ck,ckpi->ci", used, x) / (used.sum(1) * x.shape[2])[:, None]
    x = x - origin[:, None, None]
    height = jnp.sum(x * out, -1)  # x . S is constant on a flat piece, so both integrals are exact
    V = height.sum((1, 2)) / dim
    x_cell = origin + jnp.einsum("ckpi,ckp->ci", x, height) / ((dim + 1) * V[:, None])
    return Geometry(S, centre(x_piece, S_piece), centre(x_other, S_other), V, x_cell)


def face_pieces(mesh: Mesh, patch: str) -> tuple[Array, Array]:
    """Centres and area vectors of the flat pieces of a patch's faces, ``(faces, pieces, dim)``."""
    return pieces(mesh.points, mesh.topology.of(corners).own[mesh.topology.faces_of(patch)])


def boundary_pieces(points: Points, faces: Int[Array, "boundary corners"]) -> tuple[Array, Array, Array]:
    """Centres x and area vectors of the flat pieces of boundary faces, ``(boundary, pieces, dim)``, and the means over
    each of (y - x)(y - x)^T, ``(boundary, pieces, dim, dim)``: with them quadratics are integrated exactly."""
    corner = simplices(points, faces)
    away = corner - corner.mean(2, keepdims=True)
    k = corner.shape[2]
    return *pieces(points, faces), jnp.einsum("fpci,fpcj->fpij", away, away) / (k * (k + 1))


def refinement(refine: int | None) -> int:
    """How many times a mesh is refined, 1 by default."""
    refine = 1 if refine is None else refine
    if int(refine) != refine or refine < 1:
        raise InputError(f"refine = {refine}", accepted="1, 2, 3, ...")
    return int(refine)
