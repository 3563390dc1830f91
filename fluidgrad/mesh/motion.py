"""How the inside of a mesh follows its boundary: points move, topology never changes.

A point inside moves by the mean of the displacements of all boundary points b, weighted by their area and
by nearness (Shepard 1968; Luke, Collins & Blades 2012):

    dX(x) = sum_b w_b dX_b / sum_b w_b,        w_b = A_b / |x - x_b|^(dim + 1).

It takes on the boundary's own displacement there, keeps translations, is linear in it, and needs no solve. Measured
against springs on the mesh's edges (Batina 1990; docs/method.md has the table) it keeps cells better round bodies that move by
a third of their size, and no worse in ducts, unless two walls come together from far apart. Power 2 in 2D and 3 in 3D
tangle on waves; powers of one more are worse between walls; a second, higher power, as in the paper, changes little.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from fluidgrad.mesh.geometry import Points
from fluidgrad.mesh.mesh import Mesh, face_pieces
from fluidgrad.mesh.mesh import corners as corners_of
from fluidgrad.mesh.topology import Topology, corner_shares
from fluidgrad.programs import compiled

ROWS = 256  # points that follow at once: distances to the whole boundary are kept for no more


@dataclass(frozen=True)
class InverseDistance:
    """How the inside of a mesh follows its boundary: the linear map from displacements of the boundary points to
    displacements of all points; see the module. Differentiable in the displacement and in the mesh's points."""

    mesh: Mesh

    @property
    def boundary(self) -> Int[np.ndarray, " boundary"]:
        """The points of the boundary."""
        return self.mesh.topology.kept(_sides)[0]

    @property
    def inside(self) -> Int[np.ndarray, " inside"]:
        """The others."""
        return self.mesh.topology.kept(_sides)[1]

    def __call__(self, displacement: Float[ArrayLike, "points dim"]) -> Points:
        """Displacements of all points, from those of the boundary points (what is given inside is not read)."""
        return followed(self.mesh, jnp.asarray(displacement))

    def transpose(self, force: Float[ArrayLike, "points dim"]) -> Points:
        """The derivative with respect to the boundary points, inside following; zero inside."""
        (out,) = jax.linear_transpose(self.__call__, self.mesh.points)(jnp.asarray(force))
        return out


@compiled  # one compilation for each kind of mesh, instead of one for each operation
def followed(mesh: Mesh, displacement: Points) -> Points:
    """Displacements of all points, from those of the boundary points."""
    x, (boundary, inside, order) = mesh.points, mesh.topology.of(_sides)
    moved, places, area = displacement[boundary], x[boundary], _areas(mesh)[boundary]

    @jax.checkpoint  # its reverse computes the weights again, and keeps none
    def follow(point: Float[Array, " dim"]) -> Float[Array, " dim"]:
        weight = area * jnp.sum((point - places) ** 2, -1) ** (-0.5 * (x.shape[1] + 1))
        return weight @ moved / jnp.sum(weight)

    following = jax.lax.map(follow, x[inside], batch_size=ROWS) if len(inside) else moved[:0]
    return jnp.concatenate([moved, following])[order]


def _sides(t: Topology) -> tuple[Int[np.ndarray, " boundary"], Int[np.ndarray, " inside"], Int[np.ndarray, " points"]]:
    """The points of the boundary, the others, and where each point is among the first and then the others."""
    boundary = np.unique(t.face_points[t.n_interior :])
    inside = np.setdiff1d(np.arange(len(t.nominal)), boundary)
    return boundary, inside, np.argsort(np.concatenate([boundary, inside]))


def _areas(mesh: Mesh) -> Float[Array, " points"]:
    """The area (2D: length) of the boundary that each point owns."""
    t = mesh.topology
    corners = t.of(corners_of).own[t.n_interior :]
    area = jnp.concatenate([jnp.linalg.norm(face_pieces(mesh, p)[1].sum(1), axis=-1) for p in t.patches])
    return jnp.zeros(len(mesh.points)).at[corners].add(corner_shares(corners) * area[:, None])
