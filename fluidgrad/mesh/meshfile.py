"""Meshes from gmsh: triangles and quadrilaterals, tetrahedra, hexahedra, prisms and pyramids, mixed.

The physical groups of curves (2D) or surfaces (3D) are the patches. Read by meshio, which is loaded when first needed.
"""

from __future__ import annotations

import os
from functools import lru_cache
from itertools import permutations
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from fluidgrad.errors import InputError
from fluidgrad.mesh.mesh import Mesh, refinement
from fluidgrad.mesh.quality import check_valid
from fluidgrad.mesh.topology import Topology, build_topology

FLAT = {"triangle": 3, "quad": 4}
# The order of points that turns a cell inside out.
REVERSED = {
    "triangle": (0, 2, 1),
    "quad": (0, 3, 2, 1),
    "tetra": (0, 2, 1, 3),
    "hexahedron": (4, 5, 6, 7, 0, 1, 2, 3),
    "wedge": (3, 4, 5, 0, 1, 2),
    "pyramid": (0, 3, 2, 1, 4),
}
ACCEPTED = "a gmsh .msh file, version 2.2 or 4.1, of first-order triangles, quadrilaterals, tetrahedra, hexahedra or prisms"


def read_mesh(path: str | Path, refine: int | None = None) -> Mesh:
    """The mesh of a gmsh file.

    A mesh with solid cells is 3D; else it is 2D and must lie in a plane z = constant. Cells that are inside out are
    turned, and points of no cell dropped. Faces of a patch keep the file's order.

    Args:
        path: the file.
        refine: divides every edge in so many, straight.

    Raises:
        InputError: not readable; another kind of cell; no physical group to make patches of; a boundary face in none;
            pyramids to be refined.
    """
    path = Path(path)
    blocks, names, points = _read(path)
    solid = [k for k, _, _ in blocks if k in REVERSED and k not in FLAT]
    dim = 3 if solid else 2
    boundary = FLAT if dim == 3 else {"line": 2}
    inside = [k for k in REVERSED if (k not in FLAT) == (dim == 3)]
    if other := [k for k, _, _ in blocks if k not in (*inside, *boundary, "line", "vertex")]:
        raise InputError(f"{str(path)!r} has cells of kind {other[0]!r}, which are not supported", accepted=ACCEPTED)
    cells = [(kind, corners) for kind, corners, _ in blocks if kind in inside]
    if not cells:
        raise InputError(f"{str(path)!r} holds no cells", accepted=ACCEPTED)
    patches: dict[str, list] = {}
    for kind, corners, tag in blocks:
        if kind in boundary:
            for number in np.unique(tag):
                if (name := names.get((dim - 1, int(number)))) is not None:
                    faces = corners[tag == number]
                    patches.setdefault(name, []).append(np.pad(faces, ((0, 0), (0, 4 - faces.shape[1])), constant_values=-1))
    if not patches:
        what = "surfaces" if dim == 3 else "curves"
        raise InputError(
            f"{str(path)!r} has no named physical group of {what}",
            accepted=f'one for each patch, in gmsh: Physical {what.title()[:-1]}("inlet") = {{...}}; and one for the inside',
        )
    if strange := [name for name in patches if not name.isprintable()]:
        raise InputError(f"{str(path)!r} has a physical group called {strange[0]!r}", accepted="names of characters that can be printed")
    if dim == 2:
        used = points[np.unique(np.concatenate([c.ravel() for _, c in cells]))]
        if np.ptp(used[:, 2]) > 1e-9 * np.ptp(used, axis=0).max():
            raise InputError(f"the surface in {str(path)!r} is not flat", accepted="a plane z = constant, or a mesh of solids")
        points = points[:, :2]
    points, cells, faces = _compact(points, cells, {n: np.concatenate(f) for n, f in patches.items()})
    points, cells, faces = refined(points, cells, faces, refinement(refine))
    cells = [(kind, _outside_out(points, kind, corners, path)) for kind, corners in cells]
    try:
        mesh = Mesh(jnp.asarray(points, float), build_topology(points, cells, faces))
        check_valid(mesh.points, mesh.topology)
        _check_connected(mesh.topology)
    except InputError as error:
        raise error.at(str(path)) from None
    return mesh


def _read(path: Path) -> tuple[list[tuple[str, np.ndarray, np.ndarray]], dict[tuple[int, int], str], np.ndarray]:
    """Blocks of cells with their physical numbers, the names of (dimension, number), and the points."""
    import meshio

    if not os.path.isfile(path):
        what = f"{str(path)!r} is a folder, not a mesh file" if os.path.isdir(path) else f"there is no mesh file {str(path)!r}"
        raise InputError(what, accepted=ACCEPTED)
    if path.suffix.lower() != ".msh":
        raise InputError(f"{str(path)!r} is not a .msh file", accepted=ACCEPTED)
    try:
        with path.open("rb") as file:
            if b"$" not in file.read(1000):  # every section begins with one; meshio would look for it to the end of any file
                raise ValueError("no $MeshFormat at its beginning")
        # Not meshio.read, which ends the process when it cannot read. What a broken file raises is anything.
        data = meshio.gmsh.read(path)
    except Exception as error:
        reason = "it is empty" if not path.stat().st_size else f"it is damaged, or not gmsh's ({str(error) or type(error).__name__})"
        raise InputError(f"cannot read the mesh file {str(path)!r}: {reason}", accepted=ACCEPTED) from error
    names = {(int(d), int(number)): name for name, (number, d) in data.field_data.items()}
    tags = data.cell_data.get("gmsh:physical") or [np.zeros(len(b.data), int) for b in data.cells]
    return [(b.type, np.asarray(b.data), np.asarray(t)) for b, t in zip(data.cells, tags, strict=True)], names, data.points


def _compact(
    points: Float[np.ndarray, "points dim"], cells: list[tuple[str, np.ndarray]], patches: dict[str, np.ndarray]
) -> tuple[np.ndarray, list[tuple[str, np.ndarray]], dict[str, np.ndarray]]:
    """The same without points of no cell, and with cells of one kind together."""
    merged = {kind: np.concatenate([c for k, c in cells if k == kind]) for kind, _ in cells}
    used = np.unique(np.concatenate([c.ravel() for c in merged.values()]))
    renumber = np.full(len(points) + 1, -1)  # the last: padding
    renumber[used] = np.arange(len(used))
    return points[used], [(k, renumber[c]) for k, c in merged.items()], {n: renumber[f] for n, f in patches.items()}


def _check_connected(t: Topology) -> None:
    """Refuse a mesh in parts: a pressure would be known in those alone that have an open end."""
    parts, of = connected_components(coo_matrix((np.ones(t.n_interior), (t.owner[: t.n_interior], t.neighbour)), (t.n_cells,) * 2), False)
    if parts > 1:
        small = np.argmin(np.bincount(of))
        place = ", ".join(f"{v:.4g}" for v in t.nominal_centres[of == small].mean(0))
        raise InputError(
            f"the mesh is in {parts} parts that share no face; the smallest, of {np.sum(of == small)} cells, is near ({place})",
            accepted="one connected mesh: where volumes touch, gmsh's BooleanFragments or Coherence makes their surfaces one",
        )


def _outside_out(
    points: Float[np.ndarray, "points dim"], kind: str, corners: Int[np.ndarray, "cells k"], path: Path
) -> Int[np.ndarray, "cells k"]:
    x = points[corners]
    if points.shape[1] == 2:
        ahead = np.roll(x, -1, 1)
        volume = np.sum(x[..., 0] * ahead[..., 1] - x[..., 1] * ahead[..., 0], 1)
    else:
        up = 3 if kind in ("tetra", "wedge") else 4
        last = 2 if kind in ("tetra", "wedge") else 3
        a, b, c = (x[:, k] - x[:, 0] for k in (1, last, up))
        volume = np.einsum("ci,ci->c", np.cross(a, b), c)
    if (flat := volume == 0).any():
        place = ", ".join(f"{v:.4g}" for v in x[flat.argmax()].mean(0))
        raise InputError(f"a cell of no size near ({place})", accepted="cells whose corners differ", where=str(path))
    return np.where((volume < 0)[:, None], corners[:, REVERSED[kind]], corners)


# ---- refinement


Blocks = list[tuple[str, Int[np.ndarray, "cells k"]]]


def refined(
    points: Float[np.ndarray, "points dim"], cells: Blocks, patches: dict[str, Int[np.ndarray, "faces k"]], times: int
) -> tuple[Float[np.ndarray, "more dim"], Blocks, dict[str, Int[np.ndarray, "more k"]]]:
    """Cells and patches with every edge divided in ``times`` equal parts: ``times**dim`` cells of the same kind for one.

    New points are means of the corners of what they divide, so neighbors agree on them. What is straight stays so: the
    corners of a polygon that stands for a circle stay corners.

    Raises:
        InputError: pyramids, whose parts are not all pyramids.
    """
    if times == 1:
        return points, cells, patches
    if any(kind == "pyramid" for kind, _ in cells):
        raise InputError("pyramids cannot be refined", accepted="refine = 1, or a mesh without pyramids")
    total = times**3
    keys: list[np.ndarray] = []  # what new points are made of: for each of 8 corners its number and weight in one, or -1

    def divide(kind: str, loops: np.ndarray) -> np.ndarray:
        """The parts of cells or faces, ``(cells, parts, corners)``, in rows of ``keys``."""
        weight, parts = _parts(kind, times)
        key = np.sort(np.where(weight > 0, loops[:, None] * (total + 1) + weight * (total // weight[0].sum()), -1), axis=-1)
        first = sum(map(len, keys))
        keys.append(np.pad(key, ((0, 0), (0, 0), (8 - key.shape[-1], 0)), constant_values=-1).reshape(-1, 8))
        return first + np.arange(key.shape[0] * key.shape[1]).reshape(key.shape[:2])[:, parts]

    solid = [(kind, divide(kind, loops).reshape(-1, loops.shape[1])) for kind, loops in cells]
    rims: dict[str, np.ndarray] = {}
    for name, faces in patches.items():
        count = (faces >= 0).sum(1)
        found = [(np.flatnonzero(count == n), divide(kind, faces[count == n, :n])) for n, kind in SIDES.items() if (count == n).any()]
        order = np.argsort(np.concatenate([np.repeat(i, parts.shape[1]) for i, parts in found]), kind="stable")
        padded = [np.pad(p, ((0, 0), (0, 0), (0, 4 - p.shape[2])), constant_values=-1).reshape(-1, 4) for _, p in found]
        rims[name] = np.concatenate(padded)[order]
    made, same = np.unique(np.concatenate(keys), axis=0, return_inverse=True)
    number = np.append(same.ravel(), -1)
    share = np.where(made >= 0, made % (total + 1), 0) / total
    new = np.einsum("pk,pki->pi", share, points[made // (total + 1)])
    return new, [(kind, number[loops]) for kind, loops in solid], {name: number[faces] for name, faces in rims.items()}


SIDES = {2: "line", 3: "triangle", 4: "quad"}  # kinds of faces by their number of corners


@lru_cache(maxsize=16)
def _parts(kind: str, times: int) -> tuple[Int[np.ndarray, "points corners"], Int[np.ndarray, "parts corners"]]:
    """A divided cell: the weights of its corners at its points, and its parts by their points. Lines, triangles and
    tetrahedra are Kuhn's: n >= a >= b >= c >= 0 in a lattice of cubes, each in six; the others are a base times a line."""
    base = {"quad": "line", "hexahedron": "quad", "wedge": "triangle"}.get(kind)
    if base is None:
        dim = ("line", "triangle", "tetra").index(kind) + 1
        lattice = np.stack(np.meshgrid(*[np.arange(times + 1)] * dim, indexing="ij"), -1).reshape(-1, dim)
        fits = (np.diff(lattice, axis=1) <= 0).all(1)
        index = np.where(fits, np.cumsum(fits) - 1, -1).reshape((times + 1,) * dim)
        start = lattice[(lattice < times).all(1)]
        paths = [start[:, None] + np.concatenate([np.zeros((1, dim), int), np.cumsum(np.eye(dim, dtype=int)[list(axes)], 0)])
                 for axes in permutations(range(dim))]  # fmt: skip
        parts = index[tuple(np.moveaxis(np.concatenate(paths), -1, 0))]
        return -np.diff(lattice[fits], axis=1, prepend=times, append=0), parts[(parts >= 0).all(1)]
    weight, parts = _parts(base, times)
    level = np.arange(times + 1)[:, None, None]
    stacked = (
        np.concatenate([weight * (times - level), weight * level], 2).reshape(-1, 2 * weight.shape[1]),
        np.concatenate([parts + len(weight) * level[:-1], parts + len(weight) * level[1:]], 2).reshape(-1, 2 * weight.shape[1]),
    )
    return (stacked[0][:, [0, 1, 3, 2]], stacked[1][:, [0, 1, 3, 2]]) if kind == "quad" else stacked


# ---- points of curves
