"""What a solution does at its patches: what flows through them, the forces and the pressure on them.

Between periodic patches that a drop of pressure drives, the pressure is

    p - G . (x - x_0)

with p, the unknown, the same at both; G the gradient that drops so much from one to the other; x_0 the fluid's centroid, so
that both have the same mean. The second part acts on the boundary as the first does: on a face with the
force -int G.(x - x_0) dS, which for a body is G times its volume. It is integrated exactly over a face's flat pieces, so
that the force on all walls is that of the body forces and, for every pair, the drop times the area vector of the patch: the
balance of the cell holds to round-off, and that of moments. Faces are where the mesh has them, also those of a wall that
goes on behind a periodic patch.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from fluidgrad.errors import InputError
from fluidgrad.flow.boundary import Periodic
from fluidgrad.flow.flow import Flow
from fluidgrad.flow.fluxes import Discrete, discretize, gradient
from fluidgrad.flow.residual import at_boundary, crossing, mean_gradient, split
from fluidgrad.mesh.mesh import boundary_pieces


class Surface(NamedTuple):
    """What a solution does at each boundary face of the mesh with its periodic patches joined.

    Attributes:
        discrete: the flow, discretized.
        x: centres of the faces, ``(boundary, dim)``.
        flux: momentum and mass out of the domain, as in the residual, ``(boundary, dim+1)``.
        force: on the boundary, pressure and viscous stress, ``(boundary, dim)``; acting at x, together with
        couple: about x, along z, ``(boundary,)``: that of a pressure that varies over the face.
        velocity, pressure: at x, ``(boundary, dim)`` and ``(boundary,)``.
        periodic: the patches that are none of the boundary, since the flow goes on behind them.
    """

    discrete: Discrete
    x: Array
    flux: Array
    force: Array
    couple: Array
    velocity: Array
    pressure: Array
    periodic: tuple[str, ...]

    def on(self, patch: str) -> slice:
        """A patch among the boundary faces."""
        if patch in self.periodic:
            left = ", ".join(self.discrete.topology.patches) or "none"
            raise InputError(f"patch {patch!r} is periodic: nothing acts on it", accepted=f"one that is not: {left}")
        t = self.discrete.topology
        faces = t.faces_of(patch)
        return slice(faces.start - t.n_interior, faces.stop - t.n_interior)


def surface(flow: Flow, state: Array) -> Surface:
    """The boundary of a solution. Differentiable in its flow and its state."""
    d = discretize(flow)
    q, extra = split(flow, state)
    edge, x = at_boundary(d, q, gradient(d, q)), d.geometry.x_face[d.topology.n_interior :]
    behind = tuple(p for p in flow.mesh.patches if p not in d.topology.patches)
    plain = Surface(d, x, edge.flux, edge.force, jnp.zeros_like(edge.pressure), edge.velocity, edge.pressure, behind)
    if not flow.joined[1]:
        return plain
    G, origin = mean_gradient(flow, extra), centroid_of(d)
    piece, S, spread = boundary_pieces(flow.joined[0])
    push = -((piece - origin) @ G)[..., None] * S
    own = turn(piece - x[:, None], push) - turn(spread @ G, S)
    return plain._replace(force=edge.force + push.sum(1), couple=own.sum(1), pressure=edge.pressure - (x - origin) @ G)


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
    if first in (joined := flow.joined[1]):
        d = discretize(flow)
        q, _ = split(flow, state)
        out, where, sign = crossing(d, q, gradient(d, q))[0], joined[first], 1.0 if first == patch else -1.0
        return sign * out[where, -1], sign * d.geometry.S[where], d.geometry.x_face[where]
    s = surface(flow, state)
    faces = s.on(patch)
    return s.flux[faces, -1], s.discrete.geometry.S[s.discrete.topology.faces_of(patch)], s.x[faces]


def pressure_name(flow: Flow, state: Array) -> tuple[str, str]:
    """What to call the pressure that is stored, as a field of a file and in words: a part of it where a drop drives the flow."""
    if np.any(np.asarray(mean_gradient(flow, split(flow, state)[1]))):
        return "periodic_pressure", "periodic part of the kinematic pressure"
    return "pressure", "kinematic pressure"
