"""How the inside of a mesh follows its boundary.

A displacement given on the boundary is spread inward as the harmonic one on the graph of the mesh's edges, each edge
a spring of stiffness 1/length (Batina 1990): K dX = 0 inside, dX given on the boundary. K belongs to the mesh as it
stands, so the spread is linear in the displacement, exactly transposable, and topology never changes.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from jaxtyping import Float

from fluidgrad.mesh import Mesh


class Spread:
    """The linear map from displacements of the boundary points to displacements of all points of a mesh."""

    def __init__(self, mesh: Mesh):
        t, x = mesh.topology, np.asarray(mesh.points)
        ends = np.concatenate([t.face_points[:, [k, k + 1]] for k in range(t.face_points.shape[1] - 1)])
        if t.dim == 3:
            ends = np.concatenate([ends, t.face_points[:, [-1, 0]]])
        ends = np.unique(np.sort(ends[ends[:, 0] != ends[:, 1]], 1), axis=0)
        stiffness = 1.0 / np.linalg.norm(x[ends[:, 0]] - x[ends[:, 1]], axis=1)
        n = len(x)
        off = sp.coo_matrix((stiffness, (ends[:, 0], ends[:, 1])), shape=(n, n)).tocsc()
        off = off + off.T
        K = (sp.diags(np.asarray(off.sum(1)).ravel()) - off).tocsc()
        self.boundary = np.unique(t.face_points[t.n_interior :])
        self.inside = np.setdiff1d(np.arange(n), self.boundary)
        self._coupling = K[self.inside][:, self.boundary]
        self._lu = spla.splu(K[self.inside][:, self.inside]) if len(self.inside) else None
        self._n = n

    def __call__(self, displacement: Float[np.ndarray, "points dim"]) -> Float[np.ndarray, "points dim"]:
        """Displacements of all points, from those of the boundary points (what is given inside is not read)."""
        out = np.array(displacement, float)
        if self._lu is not None:
            out[self.inside] = -self._lu.solve(self._coupling @ out[self.boundary])
        return out

    def transpose(self, force: Float[np.ndarray, "points dim"]) -> Float[np.ndarray, "points dim"]:
        """The derivative with respect to the boundary points, inside following; zero inside."""
        out = np.zeros_like(np.asarray(force, float))
        out[self.boundary] = force[self.boundary]
        if self._lu is not None:
            out[self.boundary] -= self._coupling.T @ self._lu.solve(np.asarray(force, float)[self.inside])
        return out
