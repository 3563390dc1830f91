"""The topology of a mesh: which points make which face, and which cells a face separates. NumPy data, never traced.

A face is a list of points; it has an *owner* cell and, in the interior, a *neighbour*. Interior faces come first, then
the boundary faces patch by patch:

    faces   0 ............ n_interior | patch a | patch b | ...          (boundary face b belongs to ``owner[b]``)

Programs know a topology by its counts and the names of its patches alone; its tables are arguments of theirs (``programs.py``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from fluidgrad.errors import InputError
from fluidgrad.programs import Source

# The faces of each kind of cell, in the vertex order of VTK and gmsh, seen from outside counter-clockwise.
CELL_FACES: dict[str, tuple[tuple[int, ...], ...]] = {
    "triangle": ((0, 1), (1, 2), (2, 0)),
    "quad": ((0, 1), (1, 2), (2, 3), (3, 0)),
    "tetra": ((0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2)),
    "hexahedron": ((0, 3, 2, 1), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)),
    "wedge": ((0, 2, 1), (3, 4, 5), (0, 1, 4, 3), (1, 2, 5, 4), (2, 0, 3, 5)),
    "pyramid": ((0, 3, 2, 1), (0, 1, 4), (1, 2, 4), (2, 3, 4), (3, 0, 4)),
}


class _Faces:
    """Where faces are among all of them; see the module."""

    n_faces: int
    n_interior: int
    patches: Any

    @property
    def n_boundary(self) -> int:
        return self.n_faces - self.n_interior

    def faces_of(self, patch: str) -> slice:
        """The slice of the boundary faces that are ``patch``."""
        if patch not in self.patches:
            raise InputError(f"no patch named {patch!r}", accepted=f"the mesh has {', '.join(self.patches)}")
        return slice(*self.patches[patch])


@dataclass(frozen=True)
class Counts(_Faces):
    """What a program knows of a topology."""

    dim: int
    n_cells: int
    n_faces: int
    n_interior: int
    ranges: tuple[tuple[str, tuple[int, int]], ...]

    @property
    def patches(self) -> Mapping[str, tuple[int, int]]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return dict(self.ranges)


@dataclass(frozen=True, eq=False)
class Topology(_Faces, Source):
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
        h = hashlib.blake2b(repr((self.dim, self.n_cells, tuple(self.patches.items()), self.bearings)).encode(), digest_size=16)
        for a in (self.face_points, self.owner, self.neighbour, self.twin):
            h.update(b"-" if a is None else np.ascontiguousarray(a, np.int64).tobytes())
        return h.digest()

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Topology) and self.digest == other.digest

    @cached_property
    def counts(self) -> Counts:  # pyright: ignore[reportIncompatibleVariableOverride]
        return Counts(self.dim, self.n_cells, self.n_faces, self.n_interior, tuple(self.patches.items()))

    @property
    def n_faces(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return len(self.owner)

    @property
    def n_interior(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return len(self.neighbour)

    @cached_property
    def cell_faces(self) -> tuple[Int[np.ndarray, "cells k"], Float[np.ndarray, "cells k"]]:
        """The faces of every cell, padded with the number of faces, and +1 where the cell owns the face, -1 else."""
        cell = np.concatenate([self.owner, self.neighbour])
        face = np.concatenate([np.arange(self.n_faces), np.arange(self.n_interior)])
        sign = np.concatenate([np.ones(self.n_faces), -np.ones(self.n_interior)])
        index, value = ragged(cell, self.n_cells, face, self.n_faces), ragged(cell, self.n_cells, sign, 0.0)
        return index, value

    @cached_property
    def seen(self) -> Int[np.ndarray, "cells k"]:
        """``cell_faces`` as rows of a table of every face as its owner sees it, every interior face as its neighbour does
        (they differ on periodic ones), and one row of padding."""
        index, sign = self.cell_faces
        return np.where(sign > 0, index, np.where(sign < 0, index + self.n_faces, self.n_faces + self.n_interior))

    @cached_property
    def across(self) -> Int[np.ndarray, "cells k"]:
        """The cell across each of a cell's faces, slot by slot; the cell itself at a boundary and in padding."""
        index, sign = self.cell_faces
        inside = np.minimum(index, self.n_interior - 1)
        other = np.where(sign > 0, self.neighbour[inside], self.owner[inside]) if self.n_interior else index
        return np.where(index < self.n_interior, other, np.arange(self.n_cells)[:, None])

    @cached_property
    def nominal_faces(self) -> Float[np.ndarray, "cells k dim"]:
        """Rough centres of the faces of every cell in the mesh as built, each where the cell sees it: a periodic face is
        in two places."""
        own = middles(self.nominal, self.face_points)
        other = own[: self.n_interior] if self.twin is None else middles(self.nominal, self.twin)
        return np.concatenate([own, other, np.zeros_like(own[:1])])[self.seen]

    @cached_property
    def nominal_centres(self) -> Float[np.ndarray, "cells dim"]:
        """Rough cell centres of the mesh as built, for orderings and stencils only."""
        used = (self.cell_faces[1] != 0)[..., None]
        return (self.nominal_faces * used).sum(1) / used.sum(1)

    @cached_property
    def bearings(self) -> tuple[int, ...]:
        """What profiles need to know of where each patch lies, and so a part of what makes topologies equal: in 2D 1 if its
        (first) line goes up along its longest direction and -1 if down, in 3D the direction in which it is thinnest."""
        found = []
        for patch in self.patches:
            corners = self.face_points[self.faces_of(patch)]
            if self.dim == 3:
                found.append(int(np.argmin(np.ptp(self.nominal[corners].reshape(-1, 3), axis=0))) if len(corners) else 0)
                continue
            path = self.lines(patch)[0][0] if len(corners) else np.zeros(2, int)
            along = self.nominal[path[-1]] - self.nominal[path[0]]
            found.append(-1 if along[np.argmax(np.abs(along))] < 0 else 1)
        return tuple(found)

    def lines(self, patch: str) -> list[tuple[Int[np.ndarray, " n+1"], Int[np.ndarray, " n"]]]:
        """A 2D patch as polylines: for each connected piece its points in order (a closed one repeats its first) and the
        faces between them, numbered from the patch's first."""
        first, last = self.face_points[self.faces_of(patch)][:, :2].T.tolist()
        leaving: dict[int, list[int]] = {}
        for face, point in enumerate(first):
            leaving.setdefault(point, []).append(face)
        reached, used, pieces = set(last), set(), []
        open_ends = [face for face, point in enumerate(first) if point not in reached]
        for start in [*open_ends, *range(len(first))]:
            faces, face = [], None if start in used else start
            while face is not None:
                used.add(face)
                faces.append(face)
                face = next((f for f in leaving.get(last[face], ()) if f not in used), None)
            if faces:
                pieces.append((np.array([first[start], *(last[f] for f in faces)]), np.array(faces)))
        return pieces


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


def corner_shares(face_points: Any, dtype: Any = float) -> Any:
    """What each corner counts in the mean over its face, ``(faces, corners)``: all the same, and the padding nothing. Of
    NumPy's arrays or of JAX's."""
    xp = np if isinstance(face_points, np.ndarray) else jnp
    distinct = xp.concatenate([face_points[:, :1] >= 0, face_points[:, 1:] != face_points[:, :-1]], 1).astype(dtype)
    return distinct / distinct.sum(1, keepdims=True)


def middles(points: Any, face_points: Any) -> Any:
    """The mean of the corners of each face, ``(faces, dim)``. Differentiable."""
    return (corner_shares(face_points, points.dtype)[..., None] * points[face_points]).sum(1)


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
    table = table[:, (table >= 0).any(0)]  # a face in 2D has two corners, however wide the patches' tables are
    width = table.shape[1]
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
