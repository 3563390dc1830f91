"""Windows: which part of the plane a picture shows, the whole mesh or what is near its bodies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    from fluidgrad.mesh.mesh import Mesh


@dataclass(frozen=True)
class Window:
    """The part of the plane that is shown, and what lies in it."""

    mesh: Mesh
    x: tuple[float, float]
    y: tuple[float, float]

    @property
    def aspect(self) -> float:
        return (self.y[1] - self.y[0]) / (self.x[1] - self.x[0])

    def has(self, x: Float[np.ndarray, "n dim"]) -> np.ndarray:
        return (x[:, 0] >= self.x[0]) & (x[:, 0] <= self.x[1]) & (x[:, 1] >= self.y[0]) & (x[:, 1] <= self.y[1])

    def wider(self, margin: float) -> Window:
        """The same with a margin on each side, as a share of its size."""
        dx, dy = margin * (self.x[1] - self.x[0]), margin * (self.y[1] - self.y[0])
        return Window(self.mesh, (self.x[0] - dx, self.x[1] + dx), (self.y[0] - dy, self.y[1] + dy))

    @property
    def is_within_mesh(self) -> bool:
        """Whether the mesh goes on beyond every side."""
        points = np.asarray(self.mesh.points)
        low, high = points.min(0), points.max(0)
        return low[0] < self.x[0] and self.x[1] < high[0] and low[1] < self.y[0] and self.y[1] < high[1]


def windows(mesh: Mesh, walls: Sequence[str] = ()) -> dict[str, Window]:
    """What to show: everything, and the surroundings of bodies that are a small part of it (those alone, if tiny)."""
    points = np.asarray(mesh.points)[:, :2]
    low, high = points.min(0), points.max(0)
    shown = {"": Window(mesh, (float(low[0]), float(high[0])), (float(low[1]), float(high[1])))}
    t = mesh.topology
    boxes = []
    for name in walls:
        on_wall = points[np.unique(t.face_points[t.faces_of(name)])]
        box = np.stack([on_wall.min(0), on_wall.max(0)])
        beside = (box[0] > low) & (box[1] < high)
        within = beside.any() if t.dim == 3 else beside.all()  # a half of a body lies in a plane of symmetry
        if (np.ptp(box, axis=0) < 0.4 * (high - low).max()).all() and within:
            boxes.append(box)
    if boxes:
        lower, upper = np.min([b[0] for b in boxes], 0), np.max([b[1] for b in boxes], 0)
        size = float((upper - lower).max())
        left, right = np.maximum(low, lower - np.array([1.5, 1.6]) * size), np.minimum(high, upper + np.array([3.5, 1.6]) * size)
        near = Window(mesh, (float(left[0]), float(right[0])), (float(left[1]), float(right[1])))
        if (right - left)[0] < 0.6 * (high - low)[0]:
            shown["near"] = near
        if size < 0.08 * (high - low).min():
            del shown[""]
    return shown
