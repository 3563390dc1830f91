"""Surfaces in space: the faces of patches in the colors of a quantity, as the fluid sees them.

A face is drawn where the fluid is on the viewer's side of it, so one looks into a duct, through its near walls, and at a body
from outside. y is up, as in the pictures of a plane, and the viewer stands where z is large, or on the other side if more is seen
from there: of a half of a pipe its inside.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidgrad.plots.interpolation import geometry
from fluidgrad.plots.style import Labels

if TYPE_CHECKING:
    from fluidgrad.mesh.mesh import Mesh

ELEVATION, AZIMUTHS = 24.0, (-32.0, 148.0)  # degrees from the plane of x and z, and from z: in front, or behind if more is seen there
MORE = 1.05  # times as much
THIN = 0.15  # of the longest side: no side of the picture's box is shorter
SMALL = 0.5  # of the size of all walls: a wall smaller than that has a picture of its own too


def groups(mesh: Mesh, patches: Sequence[str]) -> list[list[str]]:
    """What is worth a picture: all patches together, and those that are small beside them."""

    def size(names: Sequence[str]) -> float:
        t = mesh.topology
        points = np.asarray(mesh.points)[np.concatenate([t.face_points[t.faces_of(p)].ravel() for p in names])]
        return float(np.linalg.norm(np.ptp(points, axis=0)))

    small = [p for p in patches if size([p]) < SMALL * size(patches)]
    return [list(patches), *([small] if small else [])]


def at_faces(mesh: Mesh, patch: str, value: np.ndarray) -> np.ndarray:
    """Values at a patch's points, in the order of their numbers, as one for each of its faces: the mean over its corners."""
    t = mesh.topology
    points, corner = np.unique(t.face_points[t.faces_of(patch)], return_inverse=True)
    assert len(value) == len(points)
    return value[corner.reshape(-1, t.face_points.shape[1])].mean(1)


def seen(S: np.ndarray) -> tuple[np.ndarray, float]:
    """Which faces have the fluid on the viewer's side, of their area vectors out of it, ``(faces, 3)``, and the azimuth from which
    most of them is seen."""
    found = []
    for azimuth in AZIMUTHS:
        a, e = np.deg2rad([azimuth, ELEVATION])
        toward = S @ np.array([np.cos(e) * np.sin(a), np.sin(e), np.cos(e) * np.cos(a)])
        found.append((-np.minimum(toward, 0.0).sum(), toward < 0, azimuth))
    front, behind = found
    return (behind if behind[0] > MORE * front[0] else front)[1:]


def paint(axes: Any, mesh: Mesh, patches: Sequence[str], value: np.ndarray, cmap: str, limits: tuple[float, float], labels: Labels) -> Any:
    """The faces of patches, in their order, with a value each. Returns what a color bar needs."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection

    t = mesh.topology
    faces = np.concatenate([np.arange(t.n_faces)[t.faces_of(p)] for p in patches])
    corners = np.asarray(mesh.points)[t.face_points[faces]]
    shown, azimuth = seen(geometry(mesh).S[faces])
    axes.view_init(ELEVATION, azimuth, vertical_axis="y")
    axes.set_proj_type("ortho")  # the viewer is in the same direction from everywhere
    colors = ScalarMappable(Normalize(*limits), cmap)
    rgba = colors.to_rgba(value[shown])
    axes.add_collection3d(Poly3DCollection(corners[shown], facecolors=rgba, edgecolors=rgba, linewidths=0.2, rasterized=True))
    low, high = corners.min((0, 1)), corners.max((0, 1))
    size = np.maximum(high - low, THIN * (high - low).max())
    for k, name in enumerate("xyz"):
        getattr(axes, f"set_{name}lim")(*((low + high)[k] / 2 + size[k] * np.array([-0.5, 0.5])))
        getattr(axes, f"set_{name}label")(labels(name, "L"), labelpad=8)
        getattr(axes, f"{name}axis").set_major_locator(MaxNLocator(1 if size[k] < 0.3 * size.max() else 3))
    axes.set_box_aspect(size)
    return colors
