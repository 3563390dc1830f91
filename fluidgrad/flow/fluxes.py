"""What crosses a face: least-squares gradients, and the fluxes of momentum and mass they give.

One code for every dimension and mesh. For a face with area vector S (owner P to neighbour N), centre x_f,
d = x_N - x_P and g = S.S / S.d, with a = alpha u - f the body terms:

    face value      phi_f = (1-w) phi_P + w phi_N + grad phi . s  w where d crosses the face's plane, s from there to x_f
    velocity        u_f as that, plus w (1-w)/2 (grad u_P - grad u_N) . d: cubic along d
    viscous         nu [ b g (u_N - u_P) + (grad u)_f (S - b g d) + (grad u)_f^T S ],  b = 4/3
    pressure        p_f S, p_f as above plus w (1-w) (a_N - a_P) . d: exact across a jump of the body terms
    mass            F = u_f.S - tau g [ (p_N - p_P) + a_P.d_P - a_N.d_N - (grad p + a)_f . d ]            (Rhie-Chow)
    with            tau = 1 / sqrt( (2 u_f.S / V)^2 + (4 nu sum_d S_d^2 / V^2)^2 + alpha_f^2 )
    momentum        u_f F - viscous + p_f S

tau is smooth everywhere; its sum over directions keeps stretched wall cells from over-damping (Rhie & Chow 1983, in
the form of a stabilisation time). In triangles, tetrahedra and prisms the midpoint rule's error in the mass flux, of
size h^3, alternates between cells that point one way and the other, and drives a pressure of that over tau g: of first
order where tau is h^2 / nu. There the sum over directions, 1 / h^2, is lowered to 1 / (h^2 + h l) with l a fixed part of the domain's size.

Distances are taken from a cell to the face on its own side, so a periodic face needs no offset. Over-relaxation with
b = 4/3 and the cubic interpolation make both fluxes fourth order on a regular mesh (Nishikawa, J. Comput. Phys. 281
(2015) 518); the slope at a wall is that of the parabola through wall and cell with the cell's gradient. All three use
values that the flux has anyway, and halve the error of the second-order scheme. Cell gradients are least squares,
weighted by inverse distance, over face neighbours and boundary values: exact for linear fields. The pressure's leaves
out the faces where pressure is not given.

Every function here is pointwise in faces or cells apart from its gathers: the Jacobian is built from that
(``linear/jacobian.py``). Programs that have one of them share its trace.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from fluidgrad.flow.boundary import Conditions, Periodic
from fluidgrad.flow.flow import Flow, joined_faces
from fluidgrad.flow.layout import (
    Discrete,
    Drops,
    Faces,
    Layout,
    drops_of,
    joined_corners,
    layout_of,
    least_squares,
    values_outside,
)
from fluidgrad.mesh.geometry import Geometry, Vector, components, sum_of
from fluidgrad.mesh.mesh import Mesh, measured, rows, to_faces
from fluidgrad.parts import Whole
from fluidgrad.programs import compiled

OVER_RELAXATION = 4 / 3  # of the viscous flux
SIMPLEX_LENGTH = 0.1  # l over the size of the domain


def discretize(flow: Flow) -> Discrete:
    """Measure the mesh, lay out the boundary data and weigh the gradients. Each is a program that is given what it depends on and
    no more: what a derivative is not asked in is not derived there, nor compiled again."""
    periodic = {name: flow.boundary[name] for name in flow.periodic}
    g = _measured(flow.mesh, flow.pairs, flow.gives)
    c = flow.conditions(g)
    rest = _laid_out(flow.mesh, g, c.fix_n, c.total, flow.porosity, flow.force, periodic, flow.gives)
    weights, inside, outside, alpha, force, drops, layout = rest
    nu = jnp.asarray(flow.viscosity)
    whole = Whole(len(alpha))
    return Discrete(g, c, weights, inside, outside, nu, alpha, force, drops, layout, whole, flow.closed, flow.convection, flow.scheme)


@compiled(static=(1, 2))
def _measured(mesh: Mesh, pairs: tuple[tuple[str, str], ...], gives: tuple[str, ...]) -> Geometry:
    topology = mesh.topology
    return measured(mesh.points, topology.of(joined_corners, pairs), topology.of(layout_of, pairs, gives).incidence)


@compiled(static=(7,))
def _laid_out(mesh: Mesh, g: Geometry, fix_n: Array, total: Array, porosity: Array, force: Array, periodic: dict[str, Periodic],
                gives: tuple[str, ...]) -> tuple[Array, Faces, Faces, Array, Array, Drops, Layout]:  # fmt: skip
    """Weights of the gradients, interior and boundary faces, resistance, body force, drops and tables."""
    topology, pairs = mesh.topology, tuple((name, kind.other) for name, kind in periodic.items())
    layout, corners = topology.of(layout_of, pairs, gives), topology.of(joined_corners, pairs)
    t, s = layout.incidence, layout.stencil
    n = t.n_interior

    (x_P, x_N), out = to_faces(t, g.x_cell), g.x_face[n:] - rows(g.x_cell, t.inside)
    d_P = g.x_face[:n] - x_P
    delta = d_P + (x_N - g.x_twin)
    normal = g.S[n:] / jnp.linalg.norm(g.S[n:], axis=-1, keepdims=True)
    # A mirror's value sits at the cell's image; elsewhere it sits on the face.
    image = 2.0 * jnp.sum(out * normal, -1, keepdims=True) * normal
    r_face = jnp.concatenate([delta, jnp.where(layout.mirror[:, None], image, out), jnp.zeros_like(delta[:1])])
    gives_u = jnp.where(layout.mirror, 1.0, fix_n)
    gives_p = jnp.where(layout.mirror, 1.0, (1.0 - fix_n) * total)  # a do-nothing outflow gives p - nu du/dn, not p
    weights = jnp.stack([least_squares(s, r_face, given) for given in (gives_u, gives_p)])

    counts = (jnp.abs(t.sign) * ~layout.between).astype(g.V.dtype)
    square = jnp.append(jnp.sum(g.S * g.S, -1), 0.0)[t.faces]
    inverse_h2 = 0.5 * jnp.sum(square * counts, 1) / g.V**2
    directions = 0.5 * layout.directions.astype(g.V.dtype)
    extent = jnp.sum(g.V)
    if layout.layer:  # as large as the plane that it lies on
        extent = 0.5 * jnp.sum(jnp.sqrt(square) * layout.between)
    length = SIMPLEX_LENGTH * (extent * layout.images) ** (1 / directions) * (counts.sum(1) <= 2 * directions - 1)
    inverse_h2 = inverse_h2 / (1.0 + length * jnp.sqrt(inverse_h2))

    alpha, force = jnp.broadcast_to(porosity, g.V.shape), jnp.broadcast_to(force, g.x_cell.shape)
    of_cells = jnp.concatenate([jnp.stack([g.V, inverse_h2, alpha], 1), force], 1)  # one gather a side
    P, N = to_faces(t, of_cells)
    mean, B = 0.5 * (P[:, :2] + N[:, :2]), rows(of_cells, t.inside)
    inside = Faces(g.S[:n], delta, d_P, mean[:, 0], mean[:, 1], P[:, 2], N[:, 2], P[:, 3:], N[:, 3:])
    outside = Faces(g.S[n:], out, out, B[:, 0], B[:, 1], B[:, 2], B[:, 2], B[:, 3:], B[:, 3:])
    drops = drops_of(mesh.points, corners, periodic, tuple(joined_faces(topology, pairs).values()))
    return weights, inside, outside, alpha, force, drops, layout


def boundary_values(d: Discrete, q: Array) -> Array:
    """The values that boundary faces give to the gradients, ``(boundary, dim+1)``, from the cell values inside."""
    t = d.incidence
    return values_outside(q[t.inside], d.geometry.S[t.n_interior :], d.conditions, d.layout.mirror)


@jax.jit
def gradient(d: Discrete, q: Array) -> Array:
    """Least-squares gradients of velocity and pressure, ``(cells, dim+1, dim)`` [1/L]; exact for linear fields."""
    values = jnp.concatenate([q, boundary_values(d, q)])
    *u, p = components(q)
    grad_u, grad_p = [], []
    for k, index in enumerate(d.layout.stencil.value.T):
        of_u, of_p = (components(w[:, k]) for w in d.weights)
        *u_k, p_k = components(rows(values, index))
        grad_u.append([of_u * (there - here) for there, here in zip(u_k, u, strict=True)])
        grad_p.append(of_p * (p_k - p))
    return Vector([*(sum_of(slots) for slots in zip(*grad_u, strict=True)), sum_of(grad_p)]).stacked()


class InteriorFlux(NamedTuple):
    """Momentum and mass out of the owner, ``(interior, dim+1)``; velocity ``(interior, dim)`` and pressure there."""

    flux: Array
    velocity: Array
    pressure: Array


@partial(jax.jit, static_argnames=("convection", "scheme"))
def interior_flux(q_P: Array, q_N: Array, g_P: Array, g_N: Array, faces: Faces, nu: Array, convection: bool, scheme: str) -> InteriorFlux:
    """What happens at interior faces, from values and gradients on both sides. Pointwise."""
    S, d, d_P, V, inverse_h2, alpha_P, alpha_N, f_P, f_N = (components(a) for a in faces)
    (u_P, p_P), (u_N, p_N), (slopes_P, grad_p_P), (slopes_N, grad_p_N) = (_split(components(a)) for a in (q_P, q_N, g_P, g_N))
    gap, behind = d @ S, d_P @ S
    w = behind / gap
    skew = d_P - w * d

    def between(P: Any, N: Any) -> Any:
        return (1 - w) * P + w * N

    grad_u, grad_p = Vector(map(between, slopes_P, slopes_N)), between(grad_p_P, grad_p_N)
    # u and the imbalance are divided last: XLA on a CPU computes once what it divides, all else anew in every loop that uses it
    from_P, from_N = u_P + slopes_P @ (skew + 0.5 * w * d), u_N + slopes_N @ (skew - 0.5 * (1 - w) * d)
    u = ((gap - behind) * from_P + behind * from_N) / gap

    compact = S @ S / gap
    stiff = OVER_RELAXATION * compact
    viscous = nu * (stiff * (u_N - u_P) + grad_u @ (S - stiff * d) + S @ grad_u)
    a_P, a_N = alpha_P * u_P - f_P, alpha_N * u_N - f_N
    p = between(p_P, p_N) + grad_p @ skew + w * (1 - w) * ((a_N - a_P) @ d)
    imbalance = (p_N - p_P) + a_P @ d_P - a_N @ (d_P - d) - (grad_p + between(a_P, a_N)) @ d
    through = u @ S
    tau = _relaxation_time(through, V, nu, inverse_h2, 0.5 * (alpha_P + alpha_N), convection)
    F = through - tau * (S @ S * imbalance / gap)
    momentum = p * S - viscous
    if convection:
        central = scheme == "central"
        momentum = momentum + (F * u if central else _upwind(F, u_P, u_N, slopes_P, slopes_N, d, w, skew, nu * compact))
    return InteriorFlux(Vector([*momentum, F]).stacked(), u.stacked(), p)


def _split(q: Vector) -> tuple[Vector, Any]:
    """What belongs to the velocity, and what to the pressure."""
    return Vector(q[:-1]), q[-1]


class BoundaryFlux(NamedTuple):
    """At each boundary face: momentum and mass out of the domain ``(boundary, dim+1)``; the force on the boundary,
    pressure and viscous stress ``(boundary, dim)``; velocity ``(boundary, dim)`` and pressure ``(boundary,)``."""

    flux: Array
    force: Array
    velocity: Array
    pressure: Array


@partial(jax.jit, static_argnames=("convection",))
def boundary_flux(q_P: Array, g_P: Array, faces: Faces, c: Conditions, nu: Array, convection: bool) -> BoundaryFlux:
    """What happens at boundary faces. Pointwise.

    Where the velocity is free, -p n + nu du/dn is given: of the viscous stress the transposed part stays, and the pressure
    is p = p_given + nu n.du/dn. Where fluid comes back in through a boundary with ``backflow``, half its momentum flux is
    taken off, by a term that is C^1 in the flux: the kinetic energy of the flow cannot grow there (Bruneau & Fabrie 1994).
    """
    S, d, _, V, inverse_h2, alpha, *_ = (components(a) for a in faces)
    (u_P, p_P), (slopes, grad_p), u_given = _split(components(q_P)), _split(components(g_P)), components(c.velocity)
    n = S / jnp.sqrt(S @ S)
    u_outside, p_outside = u_P + slopes @ d, p_P + grad_p @ d

    def normal(v: Vector) -> Vector:
        return (v @ n) * n

    u_n = c.fix_n * normal(u_given) + (1 - c.fix_n) * normal(u_outside)
    u_t = c.fix_t * (u_given - normal(u_given)) + (1 - c.fix_t) * (u_outside - normal(u_outside))
    u = u_n + u_t

    compact = S @ S / (S @ d)
    across = 2.0 * (u - u_outside)  # of the parabola, not of the chord
    grad_u = Vector(g + a * (n / (n @ d)) for g, a in zip(slopes, across, strict=True))
    along, transposed = nu * (grad_u @ S), nu * (S @ grad_u)
    traction = along + transposed
    tangential = c.fix_t * (traction - normal(traction)) + (1 - c.fix_n) * (1 - c.fix_t) * (transposed - normal(transposed))
    traction = normal(traction) + tangential
    given = c.pressure + jnp.where(c.total > 0, -0.5 * (u @ u), along @ S / (S @ S))
    p = c.fix_n * p_outside + (1 - c.fix_n) * given

    tau = _relaxation_time(u @ S, V, nu, inverse_h2, alpha, convection)
    F = u @ S - (1 - c.fix_n) * tau * compact * (given - p_outside)
    force = p * S - traction
    momentum = force
    if convection:
        entering = jnp.minimum(F, 0.0)
        entering = -entering * entering / (nu * compact - entering)  # C^1 at F = 0, where the direction of flow turns
        momentum = momentum + (F - 0.5 * c.backflow * (1 - c.fix_n) * entering) * u
    return BoundaryFlux(Vector([*momentum, F]).stacked(), force.stacked(), u.stacked(), p)


def _relaxation_time(through: Array, V: Array, nu: Array, inverse_h2: Array, alpha: Array, convection: bool) -> Array:
    square = (4.0 * nu * inverse_h2) ** 2 + alpha**2
    if convection:
        square = square + (2.0 * through / V) ** 2
    return 1.0 / jnp.sqrt(square)


def _upwind(F: Any, u_P: Vector, u_N: Vector, g_P: Vector, g_N: Vector, d: Vector, w: Any, skew: Vector, diffusion: Any) -> Vector:
    """Second-order upwind momentum flux with the smooth limiter of van Albada (1982) on either side."""
    jump = u_N - u_P
    floor = 1e-6 * (u_P @ u_P + u_N @ u_N) + 1e-30  # smooth extrema are not limited

    def limited(behind: Vector) -> Vector:
        squares = ((b * b + floor, j * j + floor) for b, j in zip(behind, jump, strict=True))
        return Vector((a * j + c * b) / (a + c) for (a, c), b, j in zip(squares, behind, jump, strict=True))

    # skew: from where d crosses the face's plane to the face's centre
    left = u_P + w * limited(2.0 * (g_P @ d) - jump) + g_P @ skew
    right = u_N - (1 - w) * limited(2.0 * (g_N @ d) - jump) + g_N @ skew
    size = jnp.sqrt(F * F + (0.1 * diffusion) ** 2)
    return 0.5 * (F * (left + right) - size * (right - left))
