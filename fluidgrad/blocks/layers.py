"""Layers in the third dimension over any 2D mesh."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Int

from fluidgrad.blocks.grading import pair, tanh_nodes
from fluidgrad.errors import InputError
from fluidgrad.iteration import traced
from fluidgrad.mesh.mesh import Mesh
from fluidgrad.mesh.topology import Topology, build_topology


def extrude(
    mesh: Mesh, height: ArrayLike, layers: int, patches: tuple[str, str] = ("front", "back"), grading: float | tuple[float, float] = 0.0
) -> Mesh:
    """Layers of hexahedra and prisms over a 2D mesh, z from 0 to ``height``.

    Args:
        mesh: quadrilaterals and triangles. Its patches keep their names.
        height, layers: of all layers together [L], and their number.
        patches: the names of the ends at z = 0 and at ``height``; that of a side adds the end to it, as ("walls", "walls").
        grading: clustering to both ends as for :func:`box`, or to each: (1.5, 0) for a wall and a plane of symmetry.

    Differentiable in ``height`` and in the mesh's points.
    """
    if mesh.dim != 2:
        raise InputError("only a 2D mesh can be extruded", accepted="a mesh of triangles and quadrilaterals")
    if layers < 1:
        raise InputError(f"{layers} layers", accepted="1 or more")
    if (known := not traced(height)) and not np.asarray(height) > 0:
        raise InputError(f"height must be positive, got {np.asarray(height)}")
    xp: Any = np if known and not traced(mesh.points) else jnp  # of NumPy nothing is compiled
    shares = tanh_nodes(*pair(grading))(np.arange(layers + 1) / layers)
    z = xp.asarray(height, float) * shares
    points = xp.concatenate([xp.tile(mesh.points, (layers + 1, 1)), xp.repeat(z, len(mesh.points))[:, None]], 1)
    built = float(np.asarray(height)) if known else None
    return Mesh(jnp.asarray(points), _extruded(mesh.topology, tuple(shares.tolist()), built, tuple(patches)))


@lru_cache(maxsize=16)
def _extruded(flat: Topology, shares: tuple[float, ...], built: float | None, ends: tuple[str, str]) -> Topology:
    n, layers = len(flat.nominal), len(shares) - 1
    z = np.array(shares) * (layers * np.sqrt(np.ptp(flat.nominal, axis=0).prod() / flat.n_cells) if built is None else built)
    points = np.concatenate([np.tile(flat.nominal, (layers + 1, 1)), np.repeat(z, n)[:, None]], 1)
    sides = {name: flat.face_points[first:last, :2] for name, (first, last) in flat.patches.items()}
    cells, patches = stacked(n, flat.cells, sides, layers, ends)
    return build_topology(points, cells, patches)


def stacked(
    n: int,
    flat: Sequence[tuple[str, Int[np.ndarray, "some corners"]]],
    sides: Mapping[str, Int[np.ndarray, "edges 2"]],
    layers: int,
    ends: tuple[str, str],
) -> tuple[list[tuple[str, np.ndarray]], dict[str, np.ndarray]]:
    """The cells and patches of layers over a surface of ``n`` points: point i of layer k is number ``k n + i``.

    Args:
        flat: the surface's triangles and quadrilaterals, counter-clockwise seen from the last layer.
        sides: the edges of its patches, by name.
        layers: of cells.
        ends: the patches of the first and the last layer; the name of a side adds the end to it.
    """
    lift = n * np.arange(layers)[:, None, None]
    solid = {"triangle": "wedge", "quad": "hexahedron"}
    cells, caps = [], []
    for kind, loops in flat:
        if kind not in solid:
            raise InputError(f"cells of kind {kind!r} cannot be extruded", accepted="triangles and quadrilaterals")
        cells.append((solid[kind], (np.concatenate([loops, loops + n], 1) + lift).reshape(-1, 2 * loops.shape[1])))
        caps.append(np.pad(loops, ((0, 0), (0, 4 - loops.shape[1])), constant_values=-1))
    cap = np.concatenate(caps)
    patches = {}
    for name, edges in sides.items():
        a, b = edges.T
        patches[name] = (np.stack([a, b, b + n, a + n], 1) + lift).reshape(-1, 4)
    for name, faces in ((ends[0], cap), (ends[1], np.where(cap < 0, cap, cap + n * layers))):
        patches[name] = np.concatenate([patches[name], faces]) if name in patches else faces
    return cells, patches
