"""How good the cells of a mesh are. NumPy, on points that are known now.

worst corner         sine of the angle between two edges (2D), scaled triple product of three edges (3D): 1 is a right
                     angle, 0 flat, negative tangled
skewness             distance from a face's centre to where the line between its cells' centroids crosses it, over
                     the length of that line
non-orthogonality    angle between that line and the face's normal [degrees]
aspect ratio         longest edge over shortest edge of a cell
growth               of a cell's thickness across a face: the larger over the smaller
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float

from fluidgrad.errors import InputError
from fluidgrad.iteration import traced
from fluidgrad.mesh.geometry import Geometry, Points
from fluidgrad.mesh.topology import CELL_FACES, Topology


@dataclass(frozen=True)
class Worst:
    """The worst value of a measure, and where."""

    value: float
    place: Float[np.ndarray, " dim"]

    def __str__(self) -> str:
        return f"{self.value:.3g} near ({', '.join(f'{x:.4g}' for x in self.place)})"


@dataclass(frozen=True)
class Quality:
    """The measures of a mesh, for each cell or each interior face."""

    points: Points
    topology: Topology
    geometry: Geometry

    @cached_property
    def _points(self) -> Float[np.ndarray, "points dim"]:
        if traced(self.points):
            raise InputError("the quality of a mesh of traced points is not known", accepted="points outside jax.jit and jax.grad")
        return np.asarray(self.points)

    @cached_property
    def _geometry(self) -> tuple[np.ndarray, ...]:
        g, n = self.geometry, self.topology.n_interior
        x_cell, x_face, x_twin = np.asarray(g.x_cell), np.asarray(g.x_face)[:n], np.asarray(g.x_twin)
        own = x_face - x_cell[self.topology.owner[:n]]
        other = x_cell[self.topology.neighbour] - x_twin
        S = np.asarray(g.S)[:n]
        return own, other, S / np.linalg.norm(S, axis=1)[:, None]

    @cached_property
    def corner(self) -> Float[np.ndarray, " cells"]:
        """The worst corner of each cell."""
        return worst_corners(self._points, self.topology)

    @cached_property
    def aspect_ratio(self) -> Float[np.ndarray, " cells"]:
        return np.concatenate([_aspect(self._points, kind, loops) for kind, loops in self.topology.cells])

    @cached_property
    def skewness(self) -> Float[np.ndarray, " interior"]:
        own, other, n = self._geometry
        d = own + other
        share = np.sum(own * n, 1) / np.sum(d * n, 1)
        return np.linalg.norm(own - share[:, None] * d, axis=1) / np.linalg.norm(d, axis=1)

    @cached_property
    def non_orthogonality(self) -> Float[np.ndarray, " interior"]:
        own, other, n = self._geometry
        d = own + other
        return np.degrees(np.arccos(np.clip(np.sum(d * n, 1) / np.linalg.norm(d, axis=1), -1, 1)))

    @cached_property
    def growth(self) -> Float[np.ndarray, " interior"]:
        own, other, n = self._geometry
        a, b = np.abs(np.sum(own * n, 1)), np.abs(np.sum(other * n, 1))
        return np.maximum(a, b) / np.minimum(a, b)

    @property
    def worst(self) -> dict[str, Worst]:
        """Each measure's worst value and its place."""
        n = self.topology.n_interior
        centre = self._points[self.topology.face_points].mean(1)
        cell = np.asarray(self.geometry.x_cell)
        found = {"corner": (self.corner, np.argmin, cell), "aspect_ratio": (self.aspect_ratio, np.argmax, cell)}
        if n:
            for name in ("skewness", "non_orthogonality", "growth"):
                found[name] = (getattr(self, name), np.argmax, centre)
        return {k: Worst(float(v[pick(v)]), place[pick(v)]) for k, (v, pick, place) in found.items()}


def check_valid(points: Points, topology: Topology) -> None:
    """Refuse a mesh with a tangled cell.

    Raises:
        InputError: a corner's Jacobian is not positive, with the place of the worst.
    """
    known = np.asarray(points)
    if not np.isfinite(known).all():
        raise InputError(f"point {(~np.isfinite(known).all(1)).argmax()} of the mesh is not finite")
    corner = worst_corners(known, topology)
    if (bad := int(np.sum(corner <= 0))) == 0:
        return
    cell = int(np.argmin(corner))
    raise InputError(
        f"the mesh is tangled: {bad} cell{'s' if bad > 1 else ''} folded, the worst near {_place(known, topology, cell)}",
        accepted="smoother or less extreme geometry, more cells, or a mesh of gmsh's",
    )


def worst_corners(points: Float[np.ndarray, "points dim"], topology: Topology) -> Float[np.ndarray, " cells"]:
    """The worst corner of each cell."""
    return np.concatenate([_corners(points, kind, loops) for kind, loops in topology.cells])


def corner_triples(kind: str, loops: np.ndarray, dim: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """The corners of cells of a kind, ``(corners,)``, and the ends of ``dim`` edges there, ``(corners, dim)``, whose
    determinant is positive in a good cell."""
    if dim == 2:
        here, before, after = _neighbours(loops)
        real = loops >= 0
        return [(here[real], np.stack([after[real], before[real]], 1))]
    return [(loops[:, corner], loops[:, ends]) for corner, ends in _TRIPLES[kind]]


def _place(points: np.ndarray, topology: Topology, cell: int) -> str:
    for _, loops in topology.cells:
        if cell < len(loops):
            corner = loops[cell]
            return f"({', '.join(f'{x:.4g}' for x in points[corner[corner >= 0]].mean(0))})"
        cell -= len(loops)
    raise AssertionError(cell)


def _corners(points: np.ndarray, kind: str, loops: np.ndarray) -> np.ndarray:
    """The least scaled corner Jacobian of each cell."""
    if points.shape[1] == 2:
        here, before, after = _loop(points, loops)
        a, b = after - here, before - here
        sine = (a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1) + 1e-300)
        return np.where(loops >= 0, sine, 1).min(1)
    x = points[loops]
    jacobian = []
    for corner, ends in _TRIPLES[kind]:
        e = x[:, ends] - x[:, [corner]]
        length = np.linalg.norm(e, axis=2).prod(1)
        jacobian.append(np.einsum("ci,ci->c", np.cross(e[:, 0], e[:, 1]), e[:, 2]) / (length + 1e-300))
    return np.min(jacobian, axis=0)


def _aspect(points: np.ndarray, kind: str, loops: np.ndarray) -> np.ndarray:
    if points.shape[1] == 2:
        here, _, after = _loop(points, loops)
        length = np.linalg.norm(after - here, axis=-1)
        return np.where(loops >= 0, length, 0).max(1) / np.where(loops >= 0, length, np.inf).min(1)
    pairs = np.array(sorted({tuple(sorted(e)) for f in CELL_FACES[kind] for e in zip(f, f[1:] + f[:1], strict=True)}))
    length = np.linalg.norm(points[loops[:, pairs[:, 0]]] - points[loops[:, pairs[:, 1]]], axis=-1)
    return length.max(1) / length.min(1)


def _loop(points: np.ndarray, loops: np.ndarray) -> tuple[np.ndarray, ...]:
    """The points of padded loops, and those before and after each along its loop."""
    return tuple(points[number] for number in _neighbours(loops))


def _neighbours(loops: np.ndarray) -> tuple[np.ndarray, ...]:
    """The numbers of the points of padded loops, and of those before and after each along its loop."""
    count = (loops >= 0).sum(1)[:, None]
    k = np.arange(loops.shape[1])
    rows = np.arange(len(loops))[:, None]
    return tuple(loops[rows, np.where(k < count, (k + step) % count, 0)] for step in (0, -1, 1))


def _triples(kind: str) -> list[tuple[int, list[int]]]:
    """Each corner with three edges whose triple product is positive in a good cell: where the faces around the corner,
    each from outside counter-clockwise, enter and leave it. A pyramid's top has four edges, taken three by three."""
    found = []
    faces = CELL_FACES[kind]
    for corner in sorted({p for f in faces for p in f}):
        follow = {}  # entering end -> leaving end of the same face
        for f in faces:
            if corner in f:
                i = f.index(corner)
                follow[f[i - 1]] = f[(i + 1) % len(f)]
        ring = [next(iter(follow))]
        while len(ring) < len(follow):
            ring.append(follow[ring[-1]])
        n = len(ring)
        found += [(corner, [ring[(i + j) % n] for j in range(3)]) for i in range(n if n > 3 else 1)]
    return found


_TRIPLES = {kind: _triples(kind) for kind in CELL_FACES if kind not in ("triangle", "quad")}
