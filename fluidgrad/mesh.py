"""The mesh: differentiable points on a static topology, and what is measured from them.

A mesh is polygons in 2D and polyhedra in 3D, described by its faces alone. A face is a list of points; it has an
*owner* cell and, in the interior, a *neighbour*; its area vector ``S`` points from the owner to the neighbour, or out
of the domain. Interior faces come first, then the boundary faces patch by patch:

    faces   0 ............ n_interior | patch a | patch b | ...          (boundary face b belongs to ``owner[b]``)

All communication between cells and faces goes through two operators that are each other's transpose:
:func:`to_faces` (a cell value seen from both sides of a face) and :func:`to_cells` (the signed sum over a cell's faces).

``points`` are traced and differentiable; the topology is NumPy data, hashed by content, so that a mesh whose points
move never recompiles anything. Measures: V = 1/dim sum_f x_f . S_f, and centroids by the same theorem; a 3D face is
split into triangles round the mean of its points, and areas, volumes and centroids are sums over those triangles, so a
closed cell has sum S = 0 and linear fields are integrated exactly even where faces are warped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fluidgrad.errors import InputError

jax.config.update("jax_enable_x64", True)  # float64: an adjoint in float32 is noise below 1e-3

Points = Float[Array, "points dim"]
CellScalar = Float[Array, " cells"]
CellVector = Float[Array, "cells dim"]
FaceScalar = Float[Array, " faces"]
FaceVector = Float[Array, "faces dim"]

# The faces of each kind of cell, in the vertex order of VTK and gmsh, seen from outside counter-clockwise.
CELL_FACES: dict[str, tuple[tuple[int, ...], ...]] = {
    "triangle": ((0, 1), (1, 2), (2, 0)),
    "quad": ((0, 1), (1, 2), (2, 3), (3, 0)),
    "tetra": ((0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2)),
    "hexahedron": ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)),
    "wedge": ((0, 2, 1), (3, 4, 5), (0, 1, 4, 3), (1, 2, 5, 4), (2, 0, 3, 5)),
    "pyramid": ((0, 3, 2, 1), (0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4)),
}


@dataclass(frozen=True, eq=False)
class Topology:
    """Which points make which face, and which cells a face separates. Static; equal when its contents are equal."""

    dim: int
    n_cells: int
    face_points: Int[np.ndarray, "faces corners"]  # short faces are padded by repeating their last point
    owner: Int[np.ndarray, " faces"]
    neighbour: Int[np.ndarray, " interior"]
    patches: Mapping[str, tuple[int, int]]  # name -> first and past-the-last face
    cells: tuple[tuple[str, Int[np.ndarray, "some corners"]], ...]  # blocks of one kind, for files and pictures
    nominal: Float[np.ndarray, "points dim"]  # where the points were when built: orders unknowns, pairs periodic faces
    twin: Int[np.ndarray, "faces corners"] | None = None  # periodic: the face as the neighbour sees it

    @cached_property
    def digest(self) -> bytes:
        h = hashlib.blake2b(repr((self.dim, self.n_cells, tuple(self.patches.items()))).encode(), digest_size=16)
        for a in (self.face_points, self.owner, self.neighbour, self.twin):
            h.update(b"-" if a is None else np.ascontiguousarray(a, np.int64).tobytes())
        return h.digest()

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topology) and self.digest == other.digest

    @property
    def n_faces(self) -> int:
        return len(self.owner)

    @property
    def n_interior(self) -> int:
        return len(self.neighbour)

    @property
    def n_boundary(self) -> int:
        return self.n_faces - self.n_interior

    @cached_property
    def cell_faces(self) -> tuple[Int[np.ndarray, "cells k"], Float[np.ndarray, "cells k"]]:
        """The faces of every cell, padded with the number of faces, and +1 where the cell owns the face, -1 else."""
        cell = np.concatenate([self.owner, self.neighbour])
        face = np.concatenate([np.arange(self.n_faces), np.arange(self.n_interior)])
        sign = np.concatenate([np.ones(self.n_faces), -np.ones(self.n_interior)])
        index, value = ragged(cell, self.n_cells, face, self.n_faces), ragged(cell, self.n_cells, sign, 0.0)
        return index, value

    @cached_property
    def neighbours(self) -> Int[np.ndarray, "cells k"]:
        """The cells across each cell's interior faces, padded with the cell itself."""
        o, n = self.owner[: self.n_interior], self.neighbour
        return ragged(np.concatenate([o, n]), self.n_cells, np.concatenate([n, o]), None)

    @cached_property
    def nominal_faces(self) -> Float[np.ndarray, "cells k dim"]:
        """Rough centres of the faces of every cell in the mesh as built, each where the cell sees it: a periodic face is
        in two places."""
        own = self.nominal[self.face_points].mean(axis=1)
        other = own[: self.n_interior] if self.twin is None else self.nominal[self.twin].mean(axis=1)
        index, sign = self.cell_faces
        pick = np.where(sign > 0, index, np.where(sign < 0, index + self.n_faces, self.n_faces + self.n_interior))
        return np.concatenate([own, other, np.zeros_like(own[:1])])[pick]

    @cached_property
    def nominal_centres(self) -> Float[np.ndarray, "cells dim"]:
        """Rough cell centres of the mesh as built, for orderings and stencils only."""
        used = (self.cell_faces[1] != 0)[..., None]
        return (self.nominal_faces * used).sum(1) / used.sum(1)

    def faces_of(self, patch: str) -> slice:
        """The slice of the boundary faces that are ``patch``."""
        if patch not in self.patches:
            raise InputError(f"no patch named {patch!r}", accepted=f"the mesh has {', '.join(self.patches)}")
        return slice(*self.patches[patch])


def ragged(row: np.ndarray, n_rows: int, value: np.ndarray, pad: Any) -> np.ndarray:
    """A padded table of the values of each row, in order of appearance; ``pad=None`` pads with the row's number."""
    order = np.argsort(row, kind="stable")
    row, value = row[order], np.asarray(value)[order]
    count = np.bincount(row, minlength=n_rows)
    start = np.concatenate([[0], np.cumsum(count)[:-1]])
    width = max(int(count.max(initial=0)), 1)
    fill = np.repeat(np.arange(n_rows)[:, None], width, 1) if pad is None else np.full((n_rows, width), pad)
    table = fill.astype(value.dtype)
    table[row, np.arange(len(row)) - start[row]] = value
    return table


def build_topology(
    points: np.ndarray,
    cells: Sequence[tuple[str, np.ndarray]],
    patches: Mapping[str, np.ndarray],
) -> Topology:
    """Find the faces of cells given by their points.

    Args:
        points: where the points are, ``(points, dim)``.
        cells: blocks of one kind and the points of their cells, ``(some, corners)``, counter-clockwise in 2D and in
            VTK order in 3D; the kind ``"polygon"`` is a loop padded by -1.
        patches: for each name, its boundary faces as points, ``(some, corners)``, padded by -1.

    Raises:
        InputError: a face of three cells, a boundary face in no patch or in two, a patch face that is no face.
    """
    dim = points.shape[1]
    corners, owner = [], []
    offset = 0
    for kind, loops in cells:
        loops = np.asarray(loops)
        number = np.arange(offset, offset + len(loops))
        offset += len(loops)
        if kind == "polygon":
            count = (loops >= 0).sum(1)
            for k in range(loops.shape[1]):
                here = k < count
                after = np.where(k + 1 < count, np.roll(loops, -1, 1)[:, k], loops[:, 0])
                corners.append(np.stack([loops[:, k], after], 1)[here])
                owner.append(number[here])
        else:
            for local in CELL_FACES[kind]:
                corners.append(loops[:, list(local)])
                owner.append(number)
    names = list(patches)
    tag = np.concatenate([np.full(sum(len(c) for c in corners), -1)] + [np.full(len(patches[p]), i) for i, p in enumerate(names)])
    corners += [np.asarray(patches[p], int).reshape(len(patches[p]), -1) for p in names]
    width = max([c.shape[1] for c in corners])
    table = np.concatenate([np.pad(c, ((0, 0), (0, width - c.shape[1])), constant_values=-1) for c in corners])
    cell = np.concatenate([*owner, np.full(len(table) - sum(map(len, owner)), np.iinfo(np.int64).max)])

    # Equal faces have equal sorted corners: sort the half-faces by them, then by cell, and read off the runs.
    key = np.sort(table, axis=1)
    order = np.lexsort([tag, cell, *key.T[::-1]])
    new = np.ones(len(order), bool)
    new[1:] = (key[order][1:] != key[order][:-1]).any(1)
    first = np.flatnonzero(new)
    size = np.diff(np.append(first, len(order)))
    second = np.where(size > 1, order[np.minimum(first + 1, len(order) - 1)], -1)
    lead = order[first]

    def place(faces: np.ndarray) -> str:
        corner = table[faces[0]]
        return f"near ({', '.join(f'{x:.4g}' for x in points[corner[corner >= 0]].mean(0))})"

    if (bad := lead[tag[lead] >= 0]).size:
        raise InputError(f"patch {names[tag[bad[0]]]!r} has a face that belongs to no cell, {place(bad)}")
    if (bad := lead[(size > 2)]).size:
        raise InputError(f"a face is shared by more than two cells or patches, {place(bad)}")
    if (bad := lead[size == 1]).size:
        raise InputError(
            f"{len(bad)} boundary faces belong to no patch, the first {place(bad)}",
            accepted="every face of the boundary in one named patch (in gmsh: a physical group)",
        )
    patch = tag[second]
    interior = np.flatnonzero(patch < 0)
    interior = interior[np.lexsort([cell[second[interior]], cell[lead[interior]]])]
    boundary = np.flatnonzero(patch >= 0)
    boundary = boundary[np.lexsort([np.arange(len(boundary)), patch[boundary]])]
    # Boundary faces of a patch keep the order in which the patch lists them: profiles run along it.
    boundary = boundary[np.lexsort([second[boundary], patch[boundary]])]
    faces = np.concatenate([interior, boundary])
    n = len(interior)
    corner = table[lead[faces]]
    for k in range(1, width):
        corner[:, k] = np.where(corner[:, k] < 0, corner[:, k - 1], corner[:, k])
    counts = np.bincount(patch[boundary], minlength=len(names))
    ends = n + np.cumsum(counts)
    return Topology(
        dim=dim,
        n_cells=offset,
        face_points=corner,
        owner=cell[lead[faces]],
        neighbour=cell[second[interior]],
        patches={p: (int(e - c), int(e)) for p, c, e in zip(names, counts, ends, strict=True)},
        cells=tuple((k, np.asarray(c)) for k, c in cells),
        nominal=np.asarray(points, float),
    )


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

    def __str__(self) -> str:
        from fluidgrad.quality import describe

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


def measure(mesh: Mesh) -> Geometry:
    """Areas, volumes and centres of a mesh. Differentiable in its points."""
    t = mesh.topology
    n = t.n_interior
    x_piece, S_piece = _pieces(mesh.points, t.face_points)
    x_other, S_other = (x_piece[:n], S_piece[:n]) if t.twin is None else _pieces(mesh.points, t.twin)
    S = S_piece.sum(1)
    index, sign = t.cell_faces
    pick = np.where(sign > 0, index, np.where(sign < 0, index + t.n_faces, t.n_faces + n))
    used = jnp.asarray(np.abs(sign), S.dtype)

    def seen_from_cell(own: Array, other: Array) -> Array:
        return jnp.concatenate([own, other, jnp.zeros_like(own[:1])])[pick]

    x = seen_from_cell(x_piece, x_other)  # (cells, k, pieces, dim)
    out = seen_from_cell(S_piece, S_other) * jnp.asarray(sign, S.dtype)[..., None, None]
    # Positions relative to a point inside: x . S of a small cell far from the origin would cancel.
    origin = jnp.einsum("ck,ckpi->ci", used, x) / (used.sum(1) * x.shape[2])[:, None]
    x = x - origin[:, None, None]
    height = jnp.sum(x * out, -1)  # x . S is constant on a flat piece, so both integrals are exact
    V = height.sum((1, 2)) / t.dim
    x_cell = origin + jnp.einsum("ckpi,ckp->ci", x, height) / ((t.dim + 1) * V[:, None])
    return Geometry(S, _centre(x_piece, S_piece), _centre(x_other, S_other)[:n], V, x_cell)


def _pieces(points: Points, face_points: Int[np.ndarray, "faces corners"]) -> tuple[Array, Array]:
    """Centres and area vectors of the flat pieces of faces, ``(faces, pieces, dim)``: the edge itself in 2D, the
    triangles between the mean of the corners and each side in 3D (a padded corner makes an empty triangle)."""
    corner = points[face_points]
    if points.shape[1] == 2:
        edge = corner[:, 1] - corner[:, 0]
        return corner.mean(1)[:, None], jnp.stack([edge[:, 1], -edge[:, 0]], -1)[:, None]
    distinct = np.ones(face_points.shape)
    distinct[:, 1:] = face_points[:, 1:] != face_points[:, :-1]
    weight = jnp.asarray(distinct / distinct.sum(1, keepdims=True), points.dtype)
    middle = jnp.einsum("fk,fki->fi", weight, corner)[:, None]
    after = jnp.roll(corner, -1, axis=1)
    return (corner + after + middle) / 3, 0.5 * jnp.cross(corner - middle, after - middle)


def _centre(x_piece: Array, S_piece: Array) -> FaceVector:
    """Face centres, pieces weighted by their area along the face's normal (smooth, and exact for flat faces)."""
    S = S_piece.sum(1)
    weight = jnp.einsum("fpi,fi->fp", S_piece, S) / jnp.sum(S * S, -1)[:, None]
    return jnp.einsum("fp,fpi->fi", weight, x_piece)
