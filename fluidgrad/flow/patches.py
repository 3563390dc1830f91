"""What a solution does at its patches: what flows through them, the forces on them, and face by face pressure and shear.

Between periodic patches that a drop of pressure drives, the pressure is

    p - G . (x - x_0)

with p, the unknown, the same at both; G the gradient that drops so much from one to the other; x_0 the fluid's centroid, so
that both have the same mean. The second part acts on the boundary as the first does: on a face with the
force -int G.(x - x_0) dS, which for a body is G times its volume. It is integrated exactly over a face's flat pieces, so
that the force on all walls is that of the body forces and, for every pair, the drop times the area vector of the patch: the
balance of the cell holds to round-off, and that of moments. Faces are where the mesh has them, also those of a wall that
goes on behind a periodic patch.

Along a patch, with n into the fluid and f the force on a face,

    shear       tau = (f - n n.f) / |S|
    c_p = 2 p / U^2,  c_f = 2 tau / U^2              U the flow's reference velocity

and sum |S| (tau - p n) is the force on it, but for the viscous stress along the normal, which is zero on a wall to the order of
the scheme. In 2D faces are in order along the patch: an open piece runs towards the larger x (the larger y where it is
steeper than 45 degrees), a closed one with the fluid on its left, from its point of smallest x on, and tau is positive
where the fluid pulls that way. All of it is differentiable in the flow and its state.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from fluidgrad.errors import InputError
from fluidgrad.flow.boundary import Periodic
from fluidgrad.flow.flow import Flow
from fluidgrad.flow.fluxes import BoundaryFlux, discretize, gradient
from fluidgrad.flow.layout import Discrete, joined_corners
from fluidgrad.flow.residual import at_boundary, crossing, mean_gradient, split
from fluidgrad.mesh.mesh import boundary_pieces, lines
from fluidgrad.programs import compiled

_SURFACE = ["discrete", "x", "flux", "force", "couple", "velocity", "pressure"]


@partial(jax.tree_util.register_dataclass, data_fields=_SURFACE, meta_fields=["patches", "periodic"])
@dataclass(frozen=True)
class Surface:
    """What a solution does at each boundary face of the mesh with its periodic patches joined.

    Attributes:
        discrete: the flow, discretized.
        x: centres of the faces, ``(boundary, dim)``.
        flux: momentum and mass out of the domain, as in the residual, ``(boundary, dim+1)``.
        force: on the boundary, pressure and viscous stress, ``(boundary, dim)``; acting at x, together with
        couple: about x, along z, ``(boundary,)``: that of a pressure that varies over the face.
        velocity, pressure: at x, ``(boundary, dim)`` and ``(boundary,)``.
        patches: the patches among the faces, first and past the last; static.
        periodic: the patches that are none of the boundary, since the flow goes on behind them; static.
    """

    discrete: Discrete
    x: Array
    flux: Array
    force: Array
    couple: Array
    velocity: Array
    pressure: Array
    patches: tuple[tuple[str, tuple[int, int]], ...]
    periodic: tuple[str, ...]

    def on(self, patch: str) -> slice:
        """A patch among the boundary faces."""
        named = dict(self.patches)
        if patch in self.periodic:
            left = ", ".join(named) or "none"
            raise InputError(f"patch {patch!r} is periodic: nothing acts on it", accepted=f"one that is not: {left}")
        if patch not in named:
            raise InputError(f"no patch named {patch!r}", accepted=f"the mesh has {', '.join([*named, *self.periodic])}")
        return slice(*named[patch])

    def S(self, patch: str) -> Array:
        """Area vectors of a patch, ``(faces, dim)``."""
        return self.discrete.geometry.S[self.discrete.incidence.n_interior :][self.on(patch)]


def surface(flow: Flow, state: Array) -> Surface:
    """The boundary of a solution. Differentiable in its flow and its state. Its parts are programs that all functionals share, and
    their derivatives do."""
    d = discretize(flow)
    n = d.incidence.n_interior
    edge, x = _edge(d, state), d.geometry.x_face[n:]
    here = tuple((p, (faces.start - n, faces.stop - n)) for p, faces in flow.patches.items())
    behind = tuple(p for p in flow.mesh.patches if p not in flow.patches)
    plain = Surface(d, x, edge.flux, edge.force, jnp.zeros_like(edge.pressure), edge.velocity, edge.pressure, here, behind)
    if not behind:
        return plain
    push, own, pressure = _of_drops(flow, d, state)
    return replace(plain, force=edge.force + push, couple=own, pressure=edge.pressure + pressure)


@jax.jit
def _edge(d: Discrete, state: Array) -> BoundaryFlux:
    q, _ = split(d, state)
    return at_boundary(d, q, gradient(d, q))


@jax.jit
def between_cells(d: Discrete, state: Array) -> Array:
    """Momentum and mass through the interior faces, from owner to neighbour, ``(interior, dim+1)``."""
    q, _ = split(d, state)
    return crossing(d, q, gradient(d, q))[0]


@compiled
def _of_drops(flow: Flow, d: Discrete, state: Array) -> tuple[Array, Array, Array]:
    """What the drops of periodic patches add: forces, couples and pressures of the boundary faces."""
    n = d.incidence.n_interior
    G, origin, x = mean_gradient(d, split(d, state)[1]), centroid_of(d), d.geometry.x_face[n:]
    piece, S, spread = boundary_pieces(flow.mesh.points, flow.mesh.topology.of(joined_corners, flow.pairs).own[n:])
    push = -((piece - origin) @ G)[..., None] * S
    own = turn(piece - x[:, None], push) - turn(spread @ G, S)
    return push.sum(1), own.sum(1), -(x - origin) @ G


def centroid_of(d: Discrete) -> Array:
    """The fluid's centroid, ``(dim,)``."""
    return d.geometry.V @ d.geometry.x_cell / jnp.sum(d.geometry.V)


def turn(r: Array, force: Array) -> Array:
    """The z component of the moment of a force at ``r``."""
    return r[..., 0] * force[..., 1] - r[..., 1] * force[..., 0]


def partner(flow: Flow, patch: str) -> str:
    """The first of the two periodic patches of which ``patch`` is one; ``patch`` itself if it is not."""
    first = {kind.other: name for name, kind in flow.boundary.items() if isinstance(kind, Periodic)}
    return first.get(patch, patch)


def through(flow: Flow, state: Array, patch: str) -> tuple[Array, Array, Array]:
    """Volume flowing out of the domain through each face of a patch, periodic or not, per time, ``(faces,)``; area vectors
    and centres of the faces, ``(faces, dim)``. Of a second periodic patch the faces are those of the first, from behind."""
    first = partner(flow, patch)
    if first in (joined := flow.periodic):
        d = discretize(flow)
        out, where, sign = between_cells(d, state), joined[first], 1.0 if first == patch else -1.0
        return sign * out[where, -1], sign * d.geometry.S[where], d.geometry.x_face[where]
    s = surface(flow, state)
    faces = s.on(patch)
    return s.flux[faces, -1], s.S(patch), s.x[faces]


def pressure_name(flow: Flow, state: Array) -> tuple[str, str]:
    """What to call the pressure that is stored, as a field of a file and in words: a part of it where a drop drives the flow."""
    if flow.pairs and np.any(np.asarray(_mean_gradient(flow, state))):
        return "periodic_pressure", "periodic part of the kinematic pressure"
    return "pressure", "kinematic pressure"


@compiled
def _mean_gradient(flow: Flow, state: Array) -> Array:
    d = discretize(flow)
    return mean_gradient(d, split(d, state)[1])


class Piece(NamedTuple):
    """The rows of one connected piece of a patch, and whether the last is beside the first."""

    start: int
    stop: int
    closed: bool


_WALL_DATA = ["face", "x", "n", "area", "s", "pressure", "shear", "along", "reference"]


@partial(jax.tree_util.register_dataclass, data_fields=_WALL_DATA, meta_fields=["pieces"])
@dataclass(frozen=True)
class WallData:
    """What acts on a patch, a row a face; see the module.

    Attributes:
        face: the number of each row's face in the patch, ``(faces,)``.
        x: centres of the faces, ``(faces, dim)`` [L].
        n: unit normals into the fluid, ``(faces, dim)``.
        area: ``(faces,)`` [L^(dim-1)].
        s: arc length to the centres from the start of each piece on, ``(faces,)`` [L]; in 3D None.
        pressure: kinematic, ``(faces,)`` [L^2/T^2].
        shear: the stress on the wall along the wall, ``(faces, dim)`` [L^2/T^2].
        along: unit tangents in the direction of s, ``(faces, dim)``; in 3D None.
        reference: of the flow: velocity, length and area, or None.
        pieces: the rows of each piece; static, empty in 3D.
    """

    face: Int[Array, " faces"]
    x: Float[Array, "faces dim"]
    n: Float[Array, "faces dim"]
    area: Float[Array, " faces"]
    s: Float[Array, " faces"] | None
    pressure: Float[Array, " faces"]
    shear: Float[Array, "faces dim"]
    along: Float[Array, "faces dim"] | None
    reference: tuple[ArrayLike, ...] | None
    pieces: tuple[Piece, ...]

    @property
    def friction(self) -> Float[Array, " faces"]:
        """The shear in the direction of s, with its sign; in 3D its size [L^2/T^2]."""
        if self.along is None:
            square = jnp.sum(self.shear**2, -1)
            return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
        return jnp.sum(self.shear * self.along, -1)

    @property
    def pressure_coefficient(self) -> Float[Array, " faces"]:
        """2 p / U^2. Raises InputError for a flow without a reference."""
        return self.pressure / dynamic_pressure(self.reference)

    @property
    def friction_coefficient(self) -> Float[Array, " faces"]:
        """2 tau / U^2, with the sign of :attr:`friction`. Raises InputError for a flow without a reference."""
        return self.friction / dynamic_pressure(self.reference)


def dynamic_pressure(reference: tuple[ArrayLike, ...] | None) -> Array:
    """U^2 / 2 of a flow's reference [L^2/T^2]."""
    if reference is None:
        raise InputError(
            "a coefficient needs a reference velocity and length",
            accepted="give flow.reference = { velocity = ..., length = ... }, or use the force itself",
        )
    return 0.5 * jnp.asarray(reference[0]) ** 2


def wall_data(flow: Flow, state: Array, patch: str) -> WallData:
    """Pressure and shear on the faces of a patch.

    Raises:
        InputError: the mesh has no such patch, or it is periodic.
    """
    return _on_patch(flow, surface(flow, state), patch)


def all_walls(flow: Flow, state: Array) -> dict[str, WallData]:
    """:func:`wall_data` of every wall of a flow."""
    edge = surface(flow, state)
    return {patch: _on_patch(flow, edge, patch) for patch in flow.walls}


@compiled(static=(2,))
def _on_patch(flow: Flow, edge: Surface, patch: str) -> WallData:
    here, S = edge.on(patch), edge.S(patch)
    x, pressure, force = edge.x[here], edge.pressure[here], edge.force[here]
    area = jnp.linalg.norm(S, axis=-1)
    n = -S / area[:, None]
    stress = force / area[:, None]
    shear = stress - jnp.sum(stress * n, -1, keepdims=True) * n
    if flow.mesh.dim == 3:
        return WallData(jnp.arange(len(x)), x, n, area, None, pressure, shear, None, flow.reference, ())
    s, along, order, pieces, first = [], [], [], [], 0
    for line in flow.mesh.topology.of(lines, patch):
        points, face, closed = line.points, line.faces, line.closed
        s_piece, sign = _arc_length(flow.mesh.points[points], area[face], closed)
        by_s = jnp.argsort(s_piece)
        s.append(s_piece[by_s])
        order.append(face[by_s])
        along.append(sign * jnp.stack([n[face, 1], -n[face, 0]], -1)[by_s])  # the fluid is on the left of n turned so
        pieces.append(Piece(first, first + len(face), closed))
        first += len(face)
    rows = jnp.concatenate(order)
    x, n, area, pressure, shear = (a[rows] for a in (x, n, area, pressure, shear))
    return WallData(rows, x, n, area, jnp.concatenate(s), pressure, shear, jnp.concatenate(along), flow.reference, tuple(pieces))


def _arc_length(points: Array, length: Array, closed: bool) -> tuple[Array, Array]:
    """Arc length to the middle of each side of a line, and 1 or -1: whether it runs as the line's points do.

    Which way and from where depends on where the points are now, not on how they were when the mesh was built: meshes of
    the same cells share one compiled program.
    """
    end = jnp.cumsum(length)
    start, total = end - length, end[-1]
    middle = start + 0.5 * length
    if closed:
        front = start[jnp.argmin(points[:-1, 0])]
        return jnp.where(middle < front, middle - front + total, middle - front), jnp.ones(())
    reach = points[-1] - points[0]
    forward = jnp.where(jnp.abs(reach[0]) >= jnp.abs(reach[1]), reach[0], reach[1]) >= 0
    return jnp.where(forward, middle, total - middle), jnp.where(forward, 1.0, -1.0)
