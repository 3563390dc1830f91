"""How a flow turns, and its lines: vorticity, and in 2D the stream function.

    vorticity          w = dv/dx - du/dy   (3D: curl u)     from the cells' least-squares gradients
    stream function    psi(b) - psi(a) = F of the face from a to b,     u = dpsi/dy, v = -dpsi/dx

The stream function lives on the points of the mesh. The mass fluxes of a cell's faces sum to zero, so summing them along any
path between two points gives the same difference, to the residual: a tree of faces reaches every point, and each point adds
up its path in log2(length) strides (pointer jumping). So lines of constant psi are streamlines of the discrete flow itself,
symmetric where that is and closed in bubbles. It is zero on the first wall (on its first point, if that is crossed by flow).
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import breadth_first_order

from fluidgrad.errors import InputError
from fluidgrad.flow.flow import Flow, join_all
from fluidgrad.flow.fluxes import discretize, gradient
from fluidgrad.flow.residual import crossing, split
from fluidgrad.iteration import traced
from fluidgrad.mesh.topology import Topology
from fluidgrad.programs import compiled

LEAK = 1e-6  # of the fluxes' range: what paths may differ by


@compiled
def vorticity(flow: Flow, state: Array) -> Float[Array, "cells ..."]:
    """In the cells: ``(cells,)``, in 3D the vector ``(cells, 3)`` [1/T]. Second order on smooth meshes. Differentiable."""
    d = discretize(flow)
    g = gradient(d, split(d, state)[0])
    if flow.mesh.dim == 2:
        return g[:, 1, 0] - g[:, 0, 1]
    return jnp.stack([g[:, k, j] - g[:, j, k] for j, k in ((1, 2), (2, 0), (0, 1))], -1)


def stream_function(flow: Flow, state: Array) -> Float[Array, " points"]:
    """At the points of a 2D mesh [L^2/T]. Differentiable. Across a periodic patch it goes on with another constant.

    Raises:
        InputError: in 3D; where fluid comes out of a hole, or vanishes inside: psi would have many values.
    """
    if flow.mesh.dim == 3:
        raise InputError("the stream function of a flow in space", accepted="a flow in 2D; the vorticity has a meaning in both")
    psi, gap = _stream_function(flow, state)
    if not traced(psi) and not gap <= LEAK:
        raise InputError(
            "a stream function of many values: fluid comes in or out through a hole of the domain", accepted="no flow through bodies"
        )
    return psi


@compiled
def _stream_function(flow: Flow, state: Array) -> tuple[Array, Array]:
    """The stream function, and how much two paths to the same point differ at most, over its range."""
    d = discretize(flow)
    q, _ = split(d, state)
    interior, edge = crossing(d, q, gradient(d, q))
    through = jnp.concatenate([interior[:, -1], edge.flux[:, -1]])
    (a, b, face), strides, side, sign = flow.mesh.topology.of(_tree, flow.pairs, next(iter(flow.walls), None))
    F = through[face]
    psi = sign * F[side]
    for parent in strides:
        psi = psi + psi[parent]
    gap = jnp.max(jnp.abs(psi[b] - psi[a] - F)) / jnp.maximum(jnp.ptp(psi), jnp.finfo(psi.dtype).tiny)
    return psi, gap


def sides_of_cells(t: Topology) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every side of a cell with its first and last point and its face: a periodic face is in two places."""
    ends, face = t.face_points[:, :2], np.arange(t.n_faces)
    if t.twin is not None:
        elsewhere = np.flatnonzero((t.twin[: t.n_interior] != t.face_points[: t.n_interior]).any(1))
        ends, face = np.concatenate([ends, t.twin[elsewhere, :2]]), np.concatenate([face, elsewhere])
    return ends[:, 0], ends[:, 1], face


def _tree(
    topology: Topology, pairs: tuple[tuple[str, str], ...], wall: str | None
) -> tuple[tuple[np.ndarray, ...], list[Int[np.ndarray, " points"]], Int[np.ndarray, " points"], Int[np.ndarray, " points"]]:
    """The sides of cells, and a tree along them to all points from the first of a wall: the point 1, 2, 4, ... sides nearer to
    the root, the last side on the way to each point, and 1 if it ends there, -1 if it begins there (0 at the root)."""
    t = topology.kept(join_all, pairs)
    a, b, face = sides_of_cells(t)
    n = len(t.nominal)
    root = int(t.face_points[t.faces_of(wall).start, 0]) if wall else int(t.face_points[-1, 0])
    graph = coo_matrix((np.arange(1, len(a) + 1), (a, b)), shape=(n, n)).tocsr()
    order, parent = breadth_first_order(graph, root, directed=False)
    reached = np.setdiff1d(order, root)
    up = parent[reached]
    forth, back = (np.asarray(graph[i, j]).ravel().astype(int) for i, j in ((up, reached), (reached, up)))
    side, sign = np.zeros(n, int), np.zeros(n, int)
    side[reached], sign[reached] = np.where(forth > 0, forth, back) - 1, np.where(forth > 0, 1, -1)
    jump = np.arange(n)
    jump[reached] = up
    strides = []
    while (jump[order] != root).any():
        strides.append(jump)
        jump = jump[jump]
    return (a, b, face), [*strides, jump], side, sign
