"""How a flow lies on the topology of its mesh: its periodic patches joined, what differs across them, its planes of symmetry, who
takes part in the least-squares gradient of a cell, with what weight; and all of it together, a flow discretized.

With r from the cell to each slot and weights omega = 1 / |r|^2 where the slot has a value,

    grad phi = sum_s w_s (phi_s - phi),     w_s = M^-1 omega_s r_s,     M = sum_s omega_s r_s r_s^T

is exact for linear fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from fluidgrad.flow.boundary import Conditions, Periodic, between_mirrors, images, on_mirrors
from fluidgrad.flow.flow import join_all
from fluidgrad.mesh.geometry import Geometry, Vector, components
from fluidgrad.mesh.mesh import Corners, Incidence, corners, incidence
from fluidgrad.mesh.topology import Topology, middles, ragged
from fluidgrad.parts import Part, Whole

WEAK_DIRECTION = 0.05  # a cell whose usable neighbours leave a direction weaker than this takes its second neighbours


@partial(jax.tree_util.register_dataclass, data_fields=["cell", "face", "sign", "boundary", "value"], meta_fields=[])
@dataclass(frozen=True)
class Stencil:
    """Who takes part in each cell's gradient: slots of two hops across faces (the second is usually none).

    Attributes:
        cell: the cell at the end, ``(cells, slots)``; the cell itself where the slot is a boundary face or empty.
        face, sign: hops, ``(2, cells, slots)``: faces, padded by the number of faces, and their direction.
        boundary: the boundary face of a slot counted from the first, ``(cells, slots)``, or the number of them.
        value: where the value of each slot is among those of the cells, followed by those of the boundary faces.
    """

    cell: Int[Array, "cells slots"]
    face: Int[Array, "2 cells slots"]
    sign: Int[Array, "2 cells slots"]
    boundary: Int[Array, "cells slots"]
    value: Int[Array, "cells slots"]


_LAYOUT = ["incidence", "stencil", "mirror", "planes", "between", "directions"]


@partial(jax.tree_util.register_dataclass, data_fields=_LAYOUT, meta_fields=["images", "layer"])
@dataclass(frozen=True)
class Layout:
    """The topology of a flow, its periodic patches joined, as fluxes and gradients need it.

    Attributes:
        mirror: which boundary faces are on planes of symmetry, ``(boundary,)``.
        planes: their numbers among the boundary faces.
        between: which faces of a cell are one of two on planes opposite to each other, ``(cells, k)``.
        directions: in which things vary in a cell, twice as many, ``(cells,)``.
        images: how many times the domain the whole flow is.
        layer: whether nothing varies along one direction in any cell.
    """

    incidence: Incidence
    stencil: Stencil
    mirror: Bool[Array, " boundary"]
    planes: Int[Array, " planes"]
    between: Bool[Array, "cells k"]
    directions: Int[Array, " cells"]
    images: int
    layer: bool


def layout_of(topology: Topology, pairs: tuple[tuple[str, str], ...], gives: tuple[str, ...]) -> Layout:
    """The table of a topology for a flow: its pairs of periodic patches, and what each other patch gives."""
    t = topology.kept(join_all, pairs)
    mirror, between = on_mirrors(t, gives), t.kept(between_mirrors, gives)
    directions = 2 * t.dim - between.sum(1)
    layer = bool((directions == 2 * (t.dim - 1)).all())
    s = t.kept(stencil, gives)
    return Layout(incidence(t), s, mirror, np.flatnonzero(mirror), between, directions, images(t, gives), layer)  # pyright: ignore


def joined_corners(topology: Topology, pairs: tuple[tuple[str, str], ...]) -> Corners:
    """The table of a topology whose periodic patches are joined."""
    return corners(topology.kept(join_all, pairs))


@partial(jax.tree_util.register_dataclass, data_fields=["shift", "drop", "flow_rate"], meta_fields=["faces", "unknown"])
@dataclass(frozen=True)
class Drops:
    """The pairs of periodic patches, whose mean pressures differ.

    Attributes:
        shift: from the first of each pair to the second, ``(pairs, dim)`` [L].
        drop: of the mean pressure, where it is given, ``(pairs,)`` [L^2/T^2].
        flow_rate: where that is given and the drop an unknown, ``(pairs,)`` [L^dim/T].
        faces: the interior faces that each pair became, first and past the last; static.
        unknown: whether the drop is; static.
    """

    shift: Array
    drop: Array
    flow_rate: Array
    faces: tuple[tuple[int, int], ...]
    unknown: tuple[bool, ...]


class Faces(NamedTuple):
    """What the fluxes need at faces besides the unknowns, owner P to neighbour N. At the boundary both sides are the cell's.

    Attributes:
        S: area vectors, ``(faces, dim)``.
        d, d_P: from P to N (at the boundary, to the face), and from P to the face's centre, ``(faces, dim)``.
        V, inverse_h2: means of both cells' volumes and of their sum_d S_d^2 / V^2, lowered in triangles, tetrahedra and
            prisms, ``(faces,)``.
        alpha_P, alpha_N, f_P, f_N: resistances ``(faces,)`` and body forces ``(faces, dim)``.
    """

    S: Any
    d: Any
    d_P: Any
    V: Any
    inverse_h2: Any
    alpha_P: Any
    alpha_N: Any
    f_P: Any
    f_N: Any


_DISCRETE = ["geometry", "conditions", "weights", "inside", "outside", "viscosity", "alpha", "force", "drops", "layout", "part"]


@partial(jax.tree_util.register_dataclass, data_fields=_DISCRETE, meta_fields=["closed", "convection", "scheme"])
@dataclass(frozen=True)
class Discrete:
    """All that the residual needs besides the unknowns, computed once a solve. Differentiable in the flow's leaves. No name of a
    patch is left in it: flows with equal counts and kinds of unknowns share the programs of their solves.

    Attributes:
        weights: of the gradient's slots, for velocity and for pressure, ``(2, cells, slots, dim)`` [1/L].
        inside, outside: what interior and boundary faces have of their cells.
        layout: the tables of the topology, its periodic patches joined.
        part: of a flow on several devices: that of one.
        closed: see :class:`~fluidgrad.Flow`; static, as convection and scheme are.
    """

    geometry: Geometry
    conditions: Conditions
    weights: Array
    inside: Faces
    outside: Faces
    viscosity: Array
    alpha: Array
    force: Array
    drops: Drops
    layout: Layout
    part: Whole | Part
    closed: bool
    convection: bool
    scheme: str

    @property
    def dim(self) -> int:
        return self.force.shape[1]

    @property
    def n_cells(self) -> int:
        return len(self.alpha)

    @property
    def incidence(self) -> Incidence:
        return self.layout.incidence

    @property
    def n_extra(self) -> int:
        """Scalar unknowns beside the cells', as of the flow."""
        return int(self.closed) + sum(self.drops.unknown)


def drops_of(points: Array, joined: Corners, periodic: dict[str, Periodic], faces: tuple[slice, ...]) -> Drops:
    """Those of periodic patches that became these interior faces. Differentiable in points, drops and flow rates."""
    none = jnp.zeros(0, points.dtype)
    if not periodic:
        return Drops(jnp.zeros((0, points.shape[1]), none.dtype), none, none, (), ())
    kinds = list(periodic.values())

    def given(what: str) -> Array:
        numbers = (getattr(kind, what) for kind in kinds)
        return jnp.stack([jnp.asarray(0.0 if x is None else x, none.dtype) for x in numbers])

    shift = jnp.stack([periodic_shift(joined, where, points) for where in faces])
    ends, unknown = tuple((where.start, where.stop) for where in faces), tuple(kind.flow_rate is not None for kind in kinds)
    return Drops(shift, given("pressure_drop"), given("flow_rate"), ends, unknown)


def periodic_shift(joined: Corners, faces: slice, points: Array) -> Array:
    """The translation from a periodic patch to its other, ``(dim,)``; traced in the points."""
    here, there = joined.own[faces], joined.other[faces]  # pyright: ignore[reportOptionalSubscript]
    return jnp.mean(middles(points, there) - middles(points, here), 0)


def stencil(topology: Topology, given: tuple[str, ...]) -> Stencil:
    """The gradient stencil. ``given`` says what each patch gives (see ``boundary.py``), and so how much its faces help."""
    t, n = topology, topology.n_interior
    index, sign = t.cell_faces
    is_interior = index < n
    cell = t.across
    boundary = np.where((index >= n) & (index < t.n_faces), index - n, t.n_boundary)

    # Directions in which velocity and pressure have data; a mirror helps both.
    sizes = [hi - lo for lo, hi in t.patches.values()]
    r = np.where(is_interior[..., None], _ways(t), t.nominal_faces - t.nominal_centres[:, None])
    r /= np.maximum(np.linalg.norm(r, axis=-1, keepdims=True), 1e-300)
    weak, cells = np.zeros(t.n_cells, bool), np.arange(t.n_cells)
    for helps in ("velocity", "pressure"):
        has = np.append(np.repeat(np.array([kind in (helps, "mirror") for kind in given], bool), sizes), False)
        used = is_interior[cells] | has[boundary[cells]]
        spread = np.linalg.eigvalsh(np.einsum("ck,cki,ckj->cij", used.astype(float), r[cells], r[cells]))
        weak[cells] |= spread[:, 0] < WEAK_DIRECTION * spread[:, -1]
        cells = np.flatnonzero((boundary < t.n_boundary).any(1))  # elsewhere the pressure has data where the velocity has
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
    value = np.where(boundary < t.n_boundary, t.n_cells + boundary, cell)
    return Stencil(cell, np.stack(face), np.stack(direction).astype(np.int8), boundary, value)  # pyright: ignore[reportArgumentType]


def _ways(t: Topology) -> Float[np.ndarray, "cells k dim"]:
    """From a cell's centre to the centres across its interior faces, in the mesh as built; whatever is elsewhere."""
    (index, sign), x, n = t.cell_faces, t.nominal_centres, t.n_interior
    way = x[t.neighbour] - x[t.owner[:n]]
    if t.twin is not None:  # a periodic face is in two places
        way += middles(t.nominal, t.face_points[:n]) - middles(t.nominal, t.twin)
    return np.append(way, np.zeros((1, t.dim)), 0)[np.minimum(index, n)] * sign[..., None]


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
    inside = (s.boundary == len(gives)).astype(r_face.dtype)
    omega = inverse_square * (inside + (1.0 - inside) * jnp.append(gives, 0.0)[s.boundary])
    M = jnp.einsum("cs,csi,csj->cij", omega, r, r)
    return jnp.einsum("cij,cs,csj->csi", _inverse(M), omega, r)


def values_outside(q_P: Array, S: Array, c: Conditions, mirror: Array) -> Array:
    """The values that boundary faces give, ``(boundary, dim+1)``, from those of the cells inside. Pointwise."""
    *u, p = components(q_P)
    u, along = Vector(u), components(S)
    reflected = u - 2.0 * (u @ along) / (along @ along) * along
    given = c.pressure - 0.5 * c.total * (u @ u)
    u_b = [jnp.where(mirror, a, b) for a, b in zip(reflected, components(c.velocity), strict=True)]
    return Vector([*u_b, jnp.where(mirror, p, given)]).stacked()


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
