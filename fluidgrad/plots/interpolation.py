"""Values in the cells of a mesh, elsewhere: at its points, on an even grid across it; the stream function of a velocity."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from fluidgrad.flow.vorticity import sides_of_cells
from fluidgrad.mesh.topology import CELL_FACES

if TYPE_CHECKING:
    from fluidgrad.mesh.mesh import Mesh
    from fluidgrad.plots.windows import Window

SOURCES = 0.1  # of a velocity, by root mean square, above which it has no stream function
END = 1e-3  # of the height of a mesh, from its end: where it is cut there
LARGER = 1.05  # times the section half-way up, and it is cut at an end


def at_points(mesh: Mesh, cell: np.ndarray, edge: np.ndarray | None) -> np.ndarray:
    """Values at the mesh's points: the mean of the cells about each, weighted by nearness; on the boundary of its faces."""
    t, points, x_cell = mesh.topology, np.asarray(mesh.points), geometry(mesh).x_cell
    total, weight = np.zeros(len(points)), np.zeros(len(points))
    first = 0
    for _, loops in t.cells:
        number = np.arange(first, first + len(loops))
        first += len(loops)
        for corner in loops.T:
            used = corner >= 0
            w = 1 / np.linalg.norm(points[corner[used]] - x_cell[number[used]], axis=1)
            np.add.at(total, corner[used], w * cell[number[used]])
            np.add.at(weight, corner[used], w)
    value = total / np.where(weight > 0, weight, 1)
    if edge is not None:
        ends = t.face_points[t.n_interior :, :2]
        total, count = np.zeros(len(points)), np.zeros(len(points))
        np.add.at(total, ends, np.repeat(edge[:, None], 2, 1))
        np.add.at(count, ends, 1)
        value = np.where(count > 0, total / np.where(count > 0, count, 1), value)
    return value


def stream_function(mesh: Mesh, u: Float[np.ndarray, "cells 2"]) -> Float[np.ndarray, " points"] | None:
    """At the points of a 2D mesh, of a velocity that is known in the cells alone (the adjoint one): the function whose
    differences along faces fit the flow through them best, by least squares. None where that is no stream function: the
    velocity has sources. Boundaries let through what they will, so they count for next to nothing."""
    from scipy.sparse import csr_matrix, diags, identity
    from scipy.sparse.linalg import spsolve

    t, x, V = mesh.topology, np.asarray(mesh.points), geometry(mesh).V
    a, b, face = sides_of_cells(t)
    other = np.append(t.neighbour, t.owner[t.n_interior :])
    mean, volume = ((v[t.owner] + v[other])[face] / 2 for v in (u, V))
    (dx, dy), row = (x[b] - x[a]).T, np.arange(len(a))
    through = mean[:, 0] * dy - mean[:, 1] * dx
    weight = volume / (dx**2 + dy**2) * np.where(face < t.n_interior, 1.0, 1e-3)
    D = csr_matrix((np.repeat([1.0, -1.0], len(a)), (np.tile(row, 2), np.append(b, a))), (len(a), len(x)))
    normal = D.T @ diags(weight) @ D
    psi = np.asarray(spsolve((normal + 1e-10 * weight.mean() * identity(len(x))).tocsc(), D.T @ (weight * through)))
    left, whole = (weight @ v**2 for v in (D @ psi - through, through))
    return psi if left < SOURCES**2 * whole else None


def on_grid(shown: Window, cell: Float[np.ndarray, "cells k"], n: int, edge: Float[np.ndarray, "boundary k"] | None = None) -> tuple:
    """Cell values on an even grid of about ``n`` points across the window, NaN outside the fluid."""
    from scipy.interpolate import LinearNDInterpolator
    from scipy.spatial import KDTree

    mesh = shown.mesh
    g, t = geometry(mesh), mesh.topology
    x_cell = g.x_cell
    step = max(shown.x[1] - shown.x[0], shown.y[1] - shown.y[0]) / n
    x, y = (np.linspace(a, b, max(int((b - a) / step), 8)) for a, b in (shown.x, shown.y))
    grid = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    if mesh.dim == 2:
        edge = cell[t.owner[t.n_interior :]] if edge is None else edge
        places, values = np.concatenate([x_cell, g.x_face[t.n_interior :]]), np.concatenate([cell, edge])
        near = shown.wider(0.3).has(places) | (np.arange(len(places)) >= len(x_cell))
        found = LinearNDInterpolator(places[near], values[near])(grid)
        # the window's own edges count as inside: where a line meets nothing, it ends a whole step before that
        low, high = np.array([shown.x, shown.y]).T
        found[~inside(mesh, np.clip(grid, low + 1e-6 * (high - low), high - 1e-6 * (high - low)))] = np.nan
    else:
        polygons, number = cut(mesh)
        middle = np.array([p.mean(0) for p in polygons])
        _, nearest = KDTree(middle).query(grid)
        found = LinearNDInterpolator(middle, cell[number].astype(float))(grid) if len(middle) > 3 else cell[number[nearest]].astype(float)
        found = np.where(np.isnan(found), cell[number[nearest]], found)  # half a cell at the edges
        found[~covered(polygons, grid)] = np.nan
    return x, y, found.reshape(len(y), len(x), -1)


def height_of_cut(mesh: Mesh) -> float:
    """z of the plane in which a 3D mesh is shown: half-way up, but not between layers; or at an end, if the section there is larger,
    as it is at the plane of symmetry of a half of a pipe or a sphere."""
    z = np.asarray(mesh.points)[:, 2]
    middle = float(0.5 * (z.min() + z.max()) - 1e-3 * np.ptp(z) / mesh.n_cells ** (1 / 3))
    best = max((float(z.min() + END * np.ptp(z)), float(z.max() - END * np.ptp(z))), key=lambda z: section(mesh, z))
    return best if section(mesh, best) > LARGER * section(mesh, middle) else middle


def section(mesh: Mesh, z: float) -> float:
    """The area of a 3D mesh in a plane: half the integral of x . n along where its boundary meets the plane."""
    t, points = mesh.topology, np.asarray(mesh.points)
    faces = t.face_points[t.n_interior :]
    corner = points[np.concatenate([faces[:, [0, k, k + 1]] for k in range(1, faces.shape[1] - 1)])]
    above = corner[..., 2] > z
    corner = corner[above.any(1) & ~above.all(1)]
    ahead, share = np.roll(corner, -1, 1), np.zeros(corner.shape[:2])
    crosses = (corner[..., 2] > z) != (ahead[..., 2] > z)
    share[crosses] = (z - corner[crosses, 2]) / (ahead[crosses, 2] - corner[crosses, 2])
    p, q = (corner + share[..., None] * (ahead - corner))[crosses].reshape(-1, 2, 3).swapaxes(0, 1)[..., :2]
    n = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])[:, :2]
    size = np.linalg.norm(n, axis=1)
    return float(np.sum(np.sum((p + q) / 2 * n, 1) / np.where(size > 0, size, 1) * np.linalg.norm(p - q, axis=1)) / 2)


def cut(mesh: Mesh) -> tuple[list[np.ndarray], np.ndarray]:
    """A 3D mesh cut by a plane z = constant: polygons ``(corners, 2)`` and the cells that they belong to."""
    points, z = np.asarray(mesh.points), height_of_cut(mesh)
    polygons, number, first = [], [], 0
    for kind, loops in mesh.topology.cells:
        edges = np.array(sorted({tuple(sorted((f[i], f[i - 1]))) for f in CELL_FACES[kind] for i in range(len(f))}))
        a, b = points[loops[:, edges[:, 0]]], points[loops[:, edges[:, 1]]]
        crosses = (a[..., 2] - z) * (b[..., 2] - z) < 0
        for k in np.flatnonzero(crosses.sum(1) >= 3):
            p, q = a[k, crosses[k]], b[k, crosses[k]]
            x = (p + ((z - p[:, 2]) / (q[:, 2] - p[:, 2]))[:, None] * (q - p))[:, :2]
            around = x - x.mean(0)
            polygons.append(x[np.argsort(np.arctan2(around[:, 1], around[:, 0]))])
            number.append(first + k)
        first += len(loops)
    return polygons, np.array(number)


def triangles(mesh: Mesh, value: Float[np.ndarray, " points"]) -> Int[np.ndarray, "triangles 3"]:
    """The cells cut into triangles from a corner: quadrilaterals along the diagonal along which a value changes less, which
    is the same in a mirror, and makes no steps in lines that pass askew."""
    found = []
    for kind, loops in mesh.topology.cells:
        if kind == "quad":
            first, second = (np.abs(value[loops[:, k]] - value[loops[:, k + 2]]) for k in (0, 1))
            loops = np.where((first > second)[:, None], np.roll(loops, -1, axis=1), loops)
        found += [loops[:, [0, k, k + 1]] for k in range(1, loops.shape[1] - 1)]
    return np.concatenate([corners[(corners >= 0).all(1)] for corners in found])


def inside(mesh: Mesh, x: Float[np.ndarray, "n 2"]) -> np.ndarray:
    """Whether points are in the fluid: an odd number of boundary edges to their right."""
    t = mesh.topology
    a, b = np.moveaxis(np.asarray(mesh.points)[t.face_points[t.n_interior :, :2]], 1, 0)
    odd = np.zeros(len(x), bool)
    for (ax, ay), (bx, by) in zip(a, b, strict=True):
        if ay != by:
            crosses = (ay > x[:, 1]) != (by > x[:, 1])
            odd ^= crosses & (x[:, 0] < ax + (x[:, 1] - ay) * (bx - ax) / (by - ay))
    return odd


def covered(polygons: list[np.ndarray], x: Float[np.ndarray, "n 2"]) -> np.ndarray:
    """Whether points are in one of some convex polygons, each counter-clockwise."""
    found = np.zeros(len(x), bool)
    for p in polygons:
        at = np.flatnonzero(((x >= p.min(0)) & (x <= p.max(0))).all(1) & ~found)
        side, away = np.roll(p, -1, 0) - p, x[at, None] - p
        found[at] = (side[:, 0] * away[..., 1] - side[:, 1] * away[..., 0] >= 0).all(1)
    return found


def geometry(mesh: Mesh) -> Any:
    """What is measured of a mesh, in NumPy arrays."""
    import jax

    from fluidgrad.mesh.mesh import measure

    return jax.tree.map(np.asarray, measure(mesh))
