"""Least-squares gradients: who takes part in that of a cell, and with what weight.

With r from the cell to each slot and weights omega = 1 / |r|^2 where the slot has a value,

    grad phi = sum_s w_s (phi_s - phi),     w_s = M^-1 omega_s r_s,     M = sum_s omega_s r_s r_s^T

is exact for linear fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from fluidgrad.flow.boundary import Conditions
from fluidgrad.mesh.geometry import Vector, components
from fluidgrad.mesh.topology import Topology, ragged

WEAK_DIRECTION = 0.05  # a cell whose usable neighbours leave a direction weaker than this takes its second neighbours


@dataclass(frozen=True)
class Stencil:
    """Who takes part in each cell's gradient: slots of two hops across faces (the second is usually none), static.

    Attributes:
        cell: the cell at the end, ``(cells, slots)``; the cell itself where the slot is a boundary face or empty.
        face, sign: hops, ``(2, cells, slots)``: faces, padded by the number of faces, and their direction.
        boundary: the boundary face of a slot counted from the first, ``(cells, slots)``, or the number of them.
    """

    cell: Int[np.ndarray, "cells slots"]
    face: Int[np.ndarray, "2 cells slots"]
    sign: Float[np.ndarray, "2 cells slots"]
    boundary: Int[np.ndarray, "cells slots"]

    def value(self, n_boundary: int) -> Int[np.ndarray, "cells slots"]:
        """Where the value of each slot is among those of the cells, followed by those of the boundary faces."""
        return np.where(self.boundary < n_boundary, len(self.cell) + self.boundary, self.cell)


@lru_cache(maxsize=64)
def stencil(topology: Topology, given: tuple[str, ...]) -> Stencil:
    """The gradient stencil. ``given`` says what each patch gives (see ``boundary.py``), and so how much its faces help."""
    t, n = topology, topology.n_interior
    index, sign = t.cell_faces
    is_interior = index < n
    cell = t.across
    boundary = np.where((index >= n) & (index < t.n_faces), index - n, t.n_boundary)

    # Directions in which velocity and pressure have data; a mirror helps both.
    kind = np.repeat(np.array([*given, "none"]), [*(hi - lo for lo, hi in t.patches.values()), 1])[boundary]
    r = t.nominal_faces - t.nominal_centres[:, None]
    r /= np.maximum(np.linalg.norm(r, axis=-1, keepdims=True), 1e-300)
    weak = np.zeros(t.n_cells, bool)
    for helps in ("velocity", "pressure"):
        used = is_interior | (kind == helps) | (kind == "mirror")
        spread = np.linalg.eigvalsh(np.einsum("ck,cki,ckj->cij", used.astype(float), r, r))
        weak |= spread[:, 0] < WEAK_DIRECTION * spread[:, -1]
    face, direction = [index, np.full_like(index, t.n_faces)], [sign, np.zeros_like(sign)]
    if weak.any():
        # P -> neighbour -> its neighbours, except back to P or to one that P touches already
        P, k, j = np.nonzero((weak[:, None] & is_interior)[:, :, None] & is_interior[cell])
        ends = cell[cell[P, k], j]
        fresh = (ends != P) & ~(ends[:, None] == np.where(is_interior, cell, -1)[P]).any(1)
        P, k, j, ends = (a[fresh] for a in (P, k, j, ends))
        _, once = np.unique(P * t.n_cells + ends, return_index=True)
        P, k, j, ends = (a[once] for a in (P, k, j, ends))

        def extend(table: np.ndarray, value: np.ndarray, pad: float | None) -> np.ndarray:
            return np.concatenate([table, ragged(P, t.n_cells, value.astype(table.dtype), pad)], 1)

        mid = cell[P, k]
        face = [extend(index, index[P, k], t.n_faces), extend(face[1], index[mid, j], t.n_faces)]
        direction = [extend(sign, sign[P, k], 0), extend(direction[1], sign[mid, j], 0)]
        cell = extend(cell, ends, None)
        boundary = np.concatenate([boundary, np.full((t.n_cells, cell.shape[1] - boundary.shape[1]), t.n_boundary)], 1)
    return Stencil(cell, np.stack(face), np.stack(direction), boundary)


def least_squares(s: Stencil, r_face: Array, gives: Array) -> Array:
    """The weights of the gradient's slots, ``(cells, slots, dim)`` [1/L].

    Args:
        s: the stencil.
        r_face: the way across each face, from its owner, and a zero, ``(faces + 1, dim)`` [L].
        gives: how much of a value each boundary face gives, 0 to 1, ``(boundary,)``.
    """
    r = jnp.einsum("hcs,hcsi->csi", jnp.asarray(s.sign, r_face.dtype), r_face[s.face])
    square = jnp.sum(r * r, -1)
    used = s.sign[0] != 0
    inverse_square = jnp.where(used, 1.0 / jnp.where(used, square, 1.0), 0.0)  # the safe value keeps 0/0 out of gradients
    inside = np.where(s.boundary == len(gives), 1.0, 0.0)
    omega = inverse_square * (inside + (1.0 - inside) * jnp.append(gives, 0.0)[s.boundary])
    M = jnp.einsum("cs,csi,csj->cij", omega, r, r)
    return jnp.einsum("cij,cs,csj->csi", _inverse(M), omega, r)


def values_outside(q_P: Array, S: Array, c: Conditions, mirror: Array) -> Array:
    """The values that boundary faces give, ``(boundary, dim+1)``, from those of the cells inside. Pointwise."""
    *u, p = components(q_P)
    u, along = Vector(u), components(S)
    reflected = u - 2.0 * (u @ along) / (along @ along) * along
    given = c.pressure - 0.5 * c.total * (u @ u)
    u_b = [jnp.where(mirror > 0, a, b) for a, b in zip(reflected, components(c.velocity), strict=True)]
    return Vector([*u_b, jnp.where(mirror > 0, p, given)]).stacked()


def _inverse(M: Array) -> Array:
    """The inverse of many small symmetric matrices by cofactors (LAPACK is slow on many tiny ones)."""
    if M.shape[-1] == 2:
        a, b, d = M[:, 0, 0], M[:, 0, 1], M[:, 1, 1]
        rows = [[d, -b], [-b, a]]
        det = a * d - b * b
    else:
        c = jnp.cross(jnp.roll(M, -1, 1), jnp.roll(M, -2, 1))
        return jnp.swapaxes(c, 1, 2) / jnp.sum(M[:, 0] * c[:, 0], -1)[:, None, None]
    return jnp.stack([jnp.stack(row, -1) for row in rows], -2) / det[:, None, None]
