"""Boundary kinds: what is prescribed on a patch, as arrays over its faces.

Every kind is reduced to the same six numbers a face, so that one flux formula serves them all and their values, even
the blend of a far field, stay traced. With n the outward normal, a face prescribes

    velocity, pressure          the values, used where the weights below ask for them
    fix_n, fix_t                1 where the normal / tangential velocity is given, 0 where it follows from inside
    total                       1 where ``pressure`` is the total pressure p + |u|^2/2
    backflow                    1 where fluid that comes back in is damped (see ``fluxes.py``)

and where the normal velocity is free, the pressure is given.

| kind           | fix_n | fix_t | pressure            |
| -------------- | ----- | ----- | ------------------- |
| Inflow, Wall   | 1     | 1     | from inside         |
| Outflow        | 0     | 0 (1) | given + nu du_n/dn  |
| PressureInlet  | 0     | 1     | total, given        |
| Symmetry       | 1     | 0     | mirrored: every flux is that between a cell and its image |
| FarField       | blend of Inflow and Outflow by U.n, smooth  |
| Periodic       | no boundary at all: its faces become interior faces |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool

from fluidgrad.errors import InputError
from fluidgrad.iteration import traced
from fluidgrad.mesh.geometry import FaceScalar, FaceVector
from fluidgrad.mesh.mesh import Mesh, measure
from fluidgrad.mesh.topology import Topology, middles
from fluidgrad.programs import compiled

OPPOSITE = -0.99  # the cosine between directions from a cell's centre to two of its faces that are opposite to each other
FAR_FIELD_BLEND = 0.1  # |U.n|/|U| over which a far field turns from inflow to outflow


@partial(jax.tree_util.register_dataclass, data_fields=["velocity", "pressure", "fix_n", "fix_t", "total", "backflow"], meta_fields=[])
@dataclass(frozen=True)
class Conditions:
    """What boundary faces prescribe; see the module. ``velocity`` is ``(faces, dim)``, the others ``(faces,)``."""

    velocity: FaceVector
    pressure: FaceScalar
    fix_n: FaceScalar
    fix_t: FaceScalar
    total: FaceScalar
    backflow: FaceScalar


def prescribe(S: FaceVector, velocity: Any = 0.0, pressure: Any = 0.0, fix_n: Any = 0.0, fix_t: Any = 0.0, total: Any = 0.0,
                backflow: Any = 0.0) -> Conditions:  # fmt: skip
    face = jnp.zeros(S.shape[:1], S.dtype)
    velocity = jnp.broadcast_to(jnp.asarray(velocity, S.dtype), S.shape)
    return Conditions(velocity, *(jnp.broadcast_to(jnp.asarray(a, S.dtype), face.shape) for a in (pressure, fix_n, fix_t, total, backflow)))


def _kind(*data: str, meta: tuple[str, ...] = ()) -> Any:
    """A frozen dataclass whose ``data`` fields are traced values and whose ``meta`` fields are static."""

    def decorate(cls: type) -> type:
        return jax.tree_util.register_dataclass(dataclass(frozen=True)(cls), data_fields=list(data), meta_fields=list(meta))

    return decorate


@_kind("speed")
class Inflow:
    """Given velocity.

    Attributes:
        speed: the speed into the domain, normal to it: one number or one per face, ``(faces,)`` [L/T]; or the
            velocity itself, ``(faces, dim)`` (a constant vector: ``(1, dim)``).
    """

    speed: ArrayLike
    gives: ClassVar[str] = "velocity"

    def conditions(self, S: FaceVector, x: FaceVector) -> Conditions:
        speed = jnp.asarray(self.speed, S.dtype)
        n = S / jnp.linalg.norm(S, axis=-1, keepdims=True)
        velocity = speed if speed.ndim == 2 else -n * jnp.broadcast_to(speed, S.shape[:1])[:, None]
        return prescribe(S, velocity, fix_n=1.0, fix_t=1.0)


@_kind("velocity", "rotation", "center")
class Wall:
    """No slip: still, moving with ``velocity`` ``(dim,)`` [L/T], rotating with ``rotation`` [1/T] about ``center``
    (3D: ``rotation`` is the vector ``(3,)``; 0 is one that a derivative can be asked in). Without a center a wall turns about its
    own, where the normals of its faces meet: it must be round, or what turns would carry fluid through it."""

    velocity: ArrayLike = 0.0
    rotation: ArrayLike | None = None
    center: ArrayLike | None = None
    gives: ClassVar[str] = "velocity"

    def conditions(self, S: FaceVector, x: FaceVector) -> Conditions:
        velocity = jnp.asarray(self.velocity, S.dtype)
        if self.rotation is None:
            return prescribe(S, velocity, fix_n=1.0, fix_t=1.0)
        r = x - (own_center(S, x) if self.center is None else jnp.asarray(self.center, S.dtype))
        rotation = jnp.asarray(self.rotation, S.dtype)
        turn = rotation * jnp.stack([-r[:, 1], r[:, 0]], -1) if S.shape[1] == 2 else jnp.cross(jnp.broadcast_to(rotation, S.shape), r)
        return prescribe(S, velocity + turn, fix_n=1.0, fix_t=1.0)

    @property
    def turns(self) -> bool:
        """Whether it is known to."""
        return self.rotation is not None and not traced(self.rotation) and bool(np.any(np.asarray(self.rotation)))


@partial(jax.jit, inline=True)
def own_center(S: FaceVector, x: FaceVector) -> Array:
    """The point that the normals of faces come nearest to, ``(dim,)``: the center of a circle, a cylinder or a sphere, also of
    a part of one, however its faces are spread. Where it is not determined, along a plane's normal or a cylinder's axis, it
    is as far as the middle of the faces. Differentiable in both.

    sum |r x S|^2 / |S| is least where M c = sum (|S| - S S^T / |S|) x with M = sum (|S| - S S^T / |S|).
    """
    area = jnp.linalg.norm(S, axis=-1)
    middle = area @ x / jnp.sum(area)
    r, dim = x - middle, S.shape[1]
    M = jnp.sum(area) * jnp.eye(dim, dtype=S.dtype) - (S / area[:, None]).T @ S
    b = area @ r - (jnp.sum(S * r, -1) / area) @ S
    M = M + 1e4 * jnp.finfo(S.dtype).eps * jnp.trace(M) * jnp.eye(dim, dtype=S.dtype)  # singular for a plane
    if dim == 2:
        adjugate = jnp.stack([jnp.stack([M[1, 1], -M[0, 1]]), jnp.stack([-M[1, 0], M[0, 0]])])
    else:
        adjugate = jnp.stack([jnp.cross(M[1], M[2]), jnp.cross(M[2], M[0]), jnp.cross(M[0], M[1])])
    return middle + adjugate.T @ b / (M[0] @ adjugate[0] if dim == 3 else M[0] @ adjugate[:, 0])


def center_of(mesh: Mesh, patch: str, wall: Wall) -> Array:
    """The point that a wall turns about, ``(dim,)``."""
    g, faces = measure(mesh), mesh.topology.faces_of(patch)
    return own_center(g.S[faces], g.x_face[faces]) if wall.center is None else jnp.broadcast_to(jnp.asarray(wall.center), (mesh.dim,))


@compiled(static=(1,))
def passing(mesh: Mesh, patch: str, wall: Wall) -> Array:
    """What part of a wall's velocity goes through it: 0 if it moves in itself."""
    g, faces = measure(mesh), mesh.topology.faces_of(patch)
    S, u = g.S[faces], wall.conditions(g.S[faces], g.x_face[faces]).velocity
    size = jnp.sum(jnp.linalg.norm(u, axis=-1) * jnp.linalg.norm(S, axis=-1))
    return jnp.sum(jnp.abs(jnp.sum(u * S, -1))) / jnp.where(size > 0, size, 1.0)


@_kind("pressure", meta=("tangential",))
class Outflow:
    """Do-nothing outflow: ``-p n + nu du/dn = -pressure n``, which a developed flow passes unchanged (Heywood, Rannacher
    & Turek 1996). ``tangential="zero"`` also holds the velocity normal to the patch. ``pressure``: one number or one
    per face [L^2/T^2]; on a patch through which the flow does not change it is the pressure there."""

    pressure: ArrayLike = 0.0
    tangential: str = "free"
    gives: ClassVar[str] = "level"

    def conditions(self, S: FaceVector, x: FaceVector) -> Conditions:
        return prescribe(S, pressure=self.pressure, fix_t=float(self.tangential == "zero"), backflow=1.0)


@_kind("total_pressure")
class PressureInlet:
    """Fluid drawn from rest at ``total_pressure`` [L^2/T^2], entering normal to the patch."""

    total_pressure: ArrayLike
    gives: ClassVar[str] = "pressure"

    def conditions(self, S: FaceVector, x: FaceVector) -> Conditions:
        return prescribe(S, pressure=self.total_pressure, fix_t=1.0, total=1.0)


@_kind()
class Symmetry:
    """A plane of symmetry: no flow through it, no shear on it. Half a flow whose cells are mirrored is the half of the whole, to
    round-off, and one layer of cells between two planes in 3D is the flow in 2D."""

    gives: ClassVar[str] = "mirror"

    def conditions(self, S: FaceVector, x: FaceVector) -> Conditions:
        return prescribe(S, fix_n=1.0)


@_kind("velocity", "pressure")
class FarField:
    """A distant boundary in a stream ``velocity`` ``(dim,)`` [L/T]: inflow where U.n < 0, outflow at ``pressure``
    where U.n > 0, blended smoothly between (differentiable in the direction of U too)."""

    velocity: ArrayLike
    pressure: ArrayLike = 0.0
    gives: ClassVar[str] = "blend"

    def conditions(self, S: FaceVector, x: FaceVector) -> Conditions:
        U = jnp.asarray(self.velocity, S.dtype)
        scale = FAR_FIELD_BLEND * jnp.sqrt(jnp.sum(U * U)) * jnp.linalg.norm(S, axis=-1)
        given = 0.5 * (1.0 - jnp.tanh(S @ U / scale))
        return prescribe(S, U, self.pressure, fix_n=given, fix_t=given, backflow=1.0)


@_kind("pressure_drop", "flow_rate", meta=("other",))
class Periodic:
    """The patch continues at the patch ``other``, a translation away.

    Attributes:
        other: the patch it is paired with.
        pressure_drop: of the mean pressure from here to there [L^2/T^2] (drives flow from this patch to the other). It acts on
            bodies and walls as well; the pressure that a solution stores is the rest, the same on both patches.
        flow_rate: if given, the pressure drop is found so that this much flows [L^dim/T].
    """

    other: str
    pressure_drop: ArrayLike = 0.0
    flow_rate: ArrayLike | None = None
    gives: ClassVar[str] = "nothing"


Boundary = Inflow | Wall | Outflow | PressureInlet | Symmetry | FarField | Periodic


def join(topology: Topology, patch: str, other: str) -> Topology:
    """Make the faces of ``patch`` interior faces, with the cells of ``other`` as their neighbours: the last of the
    interior faces, pointing out of ``patch``."""
    here, there = topology.faces_of(patch), topology.faces_of(other)
    a, b = (middles(topology.nominal, topology.face_points[s]) for s in (here, there))
    if len(a) != len(b) or patch == other:
        raise InputError(
            f"periodic patches {patch!r} and {other!r} have {len(a)} and {len(b)} faces", accepted="they must pair face by face"
        )
    shift = b.mean(0) - a.mean(0)
    size = np.ptp(topology.nominal, axis=0).max()
    gap = np.linalg.norm((a + shift)[:, None] - b[None], axis=-1)
    pair = gap.argmin(1)
    if gap.min(1).max() > 1e-6 * size or len(set(pair)) < len(pair):
        given = f"periodic patches {patch!r} and {other!r} are not a translation of each other"
        raise InputError(given, accepted="the same faces on both")
    n, k = topology.n_interior, len(a)
    gone = np.r_[here, there]
    kept = np.setdiff1d(np.arange(n, topology.n_faces), gone)
    order = np.concatenate([np.arange(n), np.arange(n, topology.n_faces)[here.start - n : here.stop - n], kept])
    twin = topology.face_points[:n] if topology.twin is None else topology.twin
    # The neighbour sees its own copy of the face, turned round: swap two corners so that its area vector agrees.
    mirrored = topology.face_points[there][pair][:, ::-1]
    patches, start = {}, n + k
    for name, (lo, hi) in topology.patches.items():
        if name not in (patch, other):
            patches[name] = (start, start + hi - lo)
            start += hi - lo
    return replace(
        topology,
        face_points=topology.face_points[order],
        owner=topology.owner[order],
        neighbour=np.concatenate([topology.neighbour, topology.owner[there][pair]]),
        patches=patches,
        twin=np.concatenate([twin, mirrored]),
    )


def on_mirrors(topology: Topology, given: tuple[str, ...]) -> Bool[np.ndarray, " boundary"]:
    """Which boundary faces are on planes of symmetry; ``given`` says what each patch gives."""
    kinds = np.array([kind == "mirror" for kind in given], bool)
    return np.repeat(kinds, [hi - lo for lo, hi in topology.patches.values()])


def between_mirrors(topology: Topology, given: tuple[str, ...]) -> Bool[np.ndarray, "cells k"]:
    """Which faces of a cell are one of two on planes of symmetry opposite to each other: nothing varies along them."""
    t, mirrors = topology, on_mirrors(topology, given)
    if not mirrors.any():
        return np.zeros(t.cell_faces[0].shape, bool)
    boundary = np.clip(t.cell_faces[0] - t.n_interior, -1, t.n_boundary)
    mirrored = np.concatenate([mirrors, [False, False]])[boundary]
    r = t.nominal_faces - t.nominal_centres[:, None]
    r = r / np.maximum(np.linalg.norm(r, axis=-1, keepdims=True), 1e-300) * mirrored[..., None]
    return (np.einsum("cki,cji->ckj", r, r) < OPPOSITE).any(2)


def images(topology: Topology, given: tuple[str, ...]) -> int:
    """How many times the domain the whole flow is: 2 for each direction in which there is a plane of symmetry, but for those
    along which nothing varies."""
    t = topology
    index, _ = t.cell_faces
    faces = np.arange(t.n_interior, t.n_faces)[on_mirrors(t, given)]
    faces = np.setdiff1d(faces, index[t.kept(between_mirrors, given)])
    corner = t.nominal[t.face_points[faces]]
    side = corner[:, 1] - corner[:, 0]
    normal = np.stack([side[:, 1], -side[:, 0]], 1) if t.dim == 2 else np.cross(side, corner[:, 2] - corner[:, 0])
    normal = normal / np.linalg.norm(normal, axis=1, keepdims=True)
    planes = np.unique(np.round(normal[:, :, None] * normal[:, None], 6), axis=0)
    return 2 ** min(len(planes), t.dim)
