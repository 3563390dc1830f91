"""Functionals: numbers that a solution has, ``Solution -> scalar``.

Each is differentiable in the solution's state and in its flow, so ``jax.grad`` of a functional of ``solve_steady`` has
both the direct and the adjoint part. Forces and flow rates are sums of the residual's own fluxes: they satisfy the
momentum and mass balance to round-off. All are per unit density, and per unit depth in 2D.

Those of the geometry alone are in ``measures.py``, places on walls in ``separation.py``. :func:`functional` adds a user's
own, which configs then use by its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from fluidgrad.errors import InputError
from fluidgrad.flow.flow import Flow, join_all
from fluidgrad.flow.fluxes import discretize, gradient
from fluidgrad.flow.layout import Discrete
from fluidgrad.flow.measures import REGISTRY, Functional, area, centroid, curvature, functional, mesh_barrier, thickness
from fluidgrad.flow.patches import between_cells, centroid_of, dynamic_pressure, partner, surface, through, turn
from fluidgrad.flow.residual import mean_gradient, pressure_drops, split
from fluidgrad.flow.separation import reattachment, separation
from fluidgrad.flow.solution import Solution
from fluidgrad.mesh.topology import Topology, middles

# of measures.py and separation.py, for those who look here
__all__ = ["REGISTRY", "Functional", "area", "centroid", "curvature", "functional", "mesh_barrier", "reattachment", "separation",
           "thickness"]  # fmt: skip


def _force(solution: Solution, patches: tuple[str, ...]) -> Array:
    _must_name(patches, solution.flow)
    s = surface(solution.flow, solution.state)
    return sum((jnp.sum(s.force[s.on(p)], 0) for p in patches), jnp.zeros(s.x.shape[1]))


def _must_name(patches: tuple[str, ...], flow: Flow) -> None:
    if not patches:
        raise InputError("a force on no patch", accepted=f"one or more of {', '.join(flow.patches)}")


@functional("L^3 T^-2")
def drag(solution: Solution, *patch: str) -> Array:
    """Force of the flow on the patches, along x."""
    return _force(solution, patch)[0]


@functional("L^3 T^-2")
def lift(solution: Solution, *patch: str) -> Array:
    """Force of the flow on the patches, along y."""
    return _force(solution, patch)[1]


@functional("1")
def lift_to_drag(solution: Solution, *patch: str) -> Array:
    """Lift over drag of the patches together: the force along y over that along x, for a stream along x."""
    force = _force(solution, patch)
    return force[1] / force[0]


@functional("L^4 T^-2")
def moment(solution: Solution, *patch: str, center: ArrayLike = 0.0) -> Array:
    """Moment of the flow's force on the patches about ``center``, counter-clockwise (3D: about the z axis).

    The stress in a cell is symmetric to second order only: its faces' forces have a small couple. A body's moment is that
    of its forces alone; walls that enclose the flow also take up the couples, each of the cells nearest to it. So the
    moments of all walls and of what crosses the open boundaries balance to round-off, as forces do.
    """
    _must_name(patch, solution.flow)
    s = surface(solution.flow, solution.state)
    of_faces = turn(s.x - jnp.asarray(center), s.force) + s.couple
    of_cells = _couples(s.discrete, between_cells(s.discrete, solution.state), s.flux)
    walls = solution.flow.walls
    nearest = solution.flow.mesh.topology.of(_enclosing_wall, solution.flow.pairs, walls)
    total = jnp.zeros(())
    for p in patch:
        taken = jnp.where(nearest == walls.index(p), of_cells, 0.0) if p in walls else 0.0
        total += jnp.sum(of_faces[s.on(p)]) - jnp.sum(taken)
    return total


@jax.jit
def _couples(d: Discrete, inner: Array, outer: Array) -> Array:
    """The moments of what leaves each cell about the cell: sum_P k_P = sum_b x_b x F_b at a solution, ``(cells,)``.

    A face's moment about its two cells is d x F together; each cell has the part that its distance to the face has in d.
    """
    t, g = d.incidence, d.geometry
    faces = d.inside
    share = jnp.sum(faces.d_P * faces.S, -1) / jnp.sum(faces.d * faces.S, -1)
    inside = turn(faces.d, inner[:, :-1])
    out = turn(d.outside.d, outer[:, :-1])
    couple = jnp.zeros_like(g.V).at[t.owner].add(jnp.concatenate([share * inside, out]))
    return couple.at[t.neighbour].add((1 - share) * inside)


def _enclosing_wall(topology: Topology, pairs: tuple[tuple[str, str], ...], walls: tuple[str, ...]) -> np.ndarray:
    """For each cell the number of the nearest wall among those that enclose the flow (connected, and as wide as the mesh as
    built), ``(cells,)``; -1 where there are none."""
    t = topology.kept(join_all, pairs)
    number = [walls.index(p) if p in walls else -1 for p in t.patches]
    patch = np.repeat(np.array(number, int), [hi - lo for lo, hi in t.patches.values()])
    is_wall = patch >= 0
    faces, patch = t.face_points[t.n_interior :][is_wall], patch[is_wall]
    ends = np.repeat(faces[:, 0], faces.shape[1] - 1), faces[:, 1:].ravel()
    touching = coo_matrix((np.ones(len(ends[0])), ends), (len(t.nominal),) * 2)
    piece, width = connected_components(touching, directed=False)[1][faces[:, 0]], np.ptp(t.nominal, axis=0).max()
    wide = [k for k in np.unique(piece) if np.ptp(t.nominal[faces[piece == k]].reshape(-1, t.dim), axis=0).max() > 0.99 * width]
    takes = np.isin(piece, wide)
    return patch[takes][KDTree(middles(t.nominal, faces[takes])).query(t.nominal_centres)[1]] if takes.any() else np.full(t.n_cells, -1)


def _scale(flow: Flow) -> Array:
    """U^2 A / 2 of a flow's reference."""
    pressure = dynamic_pressure(flow.reference)
    _, length, *area = map(jnp.asarray, flow.reference or (1.0, 1.0))
    return pressure * (area[0] if area else length ** (flow.mesh.dim - 1))


@functional("1")
def drag_coefficient(solution: Solution, *patch: str) -> Array:
    """2 drag / (U^2 A), with the flow's reference velocity and area, which is L^(dim-1) where none is given."""
    return drag.function(solution, *patch) / _scale(solution.flow)


@functional("1")
def lift_coefficient(solution: Solution, *patch: str) -> Array:
    """2 lift / (U^2 A), with the flow's reference velocity and area, which is L^(dim-1) where none is given."""
    return lift.function(solution, *patch) / _scale(solution.flow)


@functional("1")
def moment_coefficient(solution: Solution, *patch: str, center: ArrayLike = 0.0) -> Array:
    """2 moment / (U^2 A L), with the flow's reference velocity, length and area, which is L^(dim-1) where none is given."""
    found = moment.function(solution, *patch, center=center) / _scale(solution.flow)
    return found / jnp.asarray(solution.flow.reference[1])  # pyright: ignore[reportOptionalSubscript]


@functional("L^2 T^-1")
def flow_rate(solution: Solution, patch: str) -> Array:
    """Volume flowing into the domain through a patch, per time."""
    return -jnp.sum(through(solution.flow, solution.state, patch)[0])


@functional("L^2 T^-2")
def pressure_drop(solution: Solution, inlet: str | Sequence[str], outlet: str | Sequence[str]) -> Array:
    """Loss of total pressure p + |u|^2 / 2 from inlet to outlet, each weighted by the flow through it; of several, given as a
    list, by the flow through them together. From a periodic patch to the one it continues at: the drop of the mean
    pressure, given or found for a flow rate."""
    inlets, outlets = ((p,) if isinstance(p, str) else tuple(p) for p in (inlet, outlet))
    pairs = solution.flow.periodic
    first, last = ([partner(solution.flow, p) for p in patches] for patches in (inlets, outlets))
    if any(p in pairs for p in first + last):
        if first != last or inlets == outlets or len(first) > 1:
            given = f"the pressure drop from {inlet!r} to {outlet!r}, of which one is periodic"
            raise InputError(given, accepted="a periodic patch and the one it continues at, or two that are not periodic")
        d = discretize(solution.flow)
        drop = pressure_drops(d, split(d, solution.state)[1])[list(pairs).index(first[0])]
        return drop if inlets[0] == first[0] else -drop
    s = surface(solution.flow, solution.state)
    total = s.pressure + 0.5 * jnp.sum(s.velocity**2, -1)

    def mean(patches: tuple[str, ...]) -> Array:
        here = np.concatenate([np.arange(len(total))[s.on(p)] for p in patches])
        return jnp.sum(s.flux[here, -1] * total[here]) / jnp.sum(s.flux[here, -1])

    return mean(inlets) - mean(outlets)


@functional("L^4 T^-3")
def dissipation(solution: Solution) -> Array:
    """Power lost to viscosity and to the porous medium: int nu/2 |grad u + grad u^T|^2 + alpha |u|^2."""
    d = discretize(solution.flow)
    q, _ = split(d, solution.state)
    grad_u = gradient(d, q)[:, :-1]
    rate = grad_u + jnp.swapaxes(grad_u, 1, 2)
    return jnp.sum(d.geometry.V * (0.5 * d.viscosity * jnp.sum(rate**2, (1, 2)) + d.alpha * jnp.sum(q[:, :-1] ** 2, -1)))


@functional("1")
def uniformity(solution: Solution, patch: str) -> Array:
    """How even the flow through a patch is: (mean normal velocity)^2 / mean square, 1 when uniform, less otherwise."""
    F, S, _ = through(solution.flow, solution.state, patch)
    area = jnp.linalg.norm(S, axis=-1)
    return jnp.sum(F) ** 2 / (jnp.sum(area) * jnp.sum(F**2 / area))


@functional("1")
def roughness(solution: Solution, patch: str) -> Array:
    """Mean squared slope of the normal velocity along a patch, over that of the parabola with the same flow rate.

    The slope is zero-valued at walls: the velocity is taken to fall to zero at the rim of the patch where it meets one.
    In 3D the parabola is that of a channel as high as the square root of the patch's area.
    """
    flow = solution.flow
    seams, rim = flow.mesh.topology.of(_seams, partner(flow, patch), flow.walls)
    return _mean_square_slope(*through(flow, solution.state, patch), flow.mesh.points, seams, rim)


@jax.jit
def _mean_square_slope(F: Array, S: Array, x: Array, points: Array, seams: Any, rims: Any) -> Array:
    dim, area, (a, b, ends), (rim, rim_ends) = points.shape[1], jnp.linalg.norm(S, axis=-1), seams, rims
    u = -F / area

    def length(ends: Array) -> Array:  # of the seam between two faces: a point in 2D
        return jnp.ones(len(ends)) if dim == 2 else jnp.linalg.norm(points[ends[:, 1]] - points[ends[:, 0]], axis=-1)

    across = jnp.sum(length(ends) * (u[a] - u[b]) ** 2 / jnp.linalg.norm(x[a] - x[b], axis=-1))
    to_rim = jnp.linalg.norm(x[rim] - points[rim_ends].mean(1), axis=-1)
    energy = across + jnp.sum(length(rim_ends) * u[rim] ** 2 / to_rim)
    A = jnp.sum(area)
    height = A ** (1.0 / (dim - 1))
    return energy / A * height**2 / (12.0 * (jnp.sum(u * area) / A) ** 2)


def _seams(t: Topology, patch: str, walls: tuple[str, ...]) -> Any:
    """Pairs of faces of a patch that share a corner (2D) or an edge (3D), with it; and the faces that share one with a
    wall, with it."""

    def edges(faces: slice) -> list[list[tuple[int, ...]]]:
        rows = [list(dict.fromkeys(row)) for row in t.face_points[faces].tolist()]
        if t.dim == 2:
            return [[(p,) for p in row] for row in rows]
        return [[tuple(sorted(e)) for e in zip(row, row[1:] + row[:1], strict=True)] for row in rows]

    owners: dict[tuple[int, ...], list[int]] = {}
    for i, row in enumerate(edges(t.faces_of(patch))):
        for e in row:
            owners.setdefault(e, []).append(i)
    on_wall = {e for w in walls if w in t.patches for row in edges(t.faces_of(w)) for e in row}
    inner = [(*f, e) for e, f in owners.items() if len(f) == 2]
    rim = [(f[0], e) for e, f in owners.items() if len(f) == 1 and e in on_wall]
    k = t.dim - 1
    a, b = (np.array([row[i] for row in inner], int) for i in (0, 1))
    return (a, b, np.array([row[2] for row in inner], int).reshape(-1, k)), (
        np.array([row[0] for row in rim], int),
        np.array([row[1] for row in rim], int).reshape(-1, k),
    )


@functional("L^4 T^-2")
def target_distance(solution: Solution, center: ArrayLike, radius: ArrayLike, velocity: ArrayLike) -> Array:
    """int |u - velocity|^2 over the ball of ``radius`` round ``center`` (its edge smoothed: weight exp(-(r/R)^8))."""
    d = discretize(solution.flow)
    r = jnp.sum((d.geometry.x_cell - jnp.asarray(center)) ** 2, -1) / jnp.asarray(radius) ** 2
    gap = jnp.sum((solution.velocity - jnp.asarray(velocity)) ** 2, -1)
    return jnp.sum(d.geometry.V * jnp.exp(-(r**4)) * gap)


QUANTITIES = {"velocity_x": 0, "velocity_y": 1, "velocity_z": 2, "pressure": -1}


@functional("of the quantity")
def probe(solution: Solution, at: ArrayLike, what: str = "pressure") -> Array:
    """A quantity at a point: "pressure" or "velocity_x", "velocity_y", "velocity_z"; the cells about it, each extended
    by its gradient, weighted by a smooth bump. Second order; a point on a wall may be asked for. Pressure is the whole one
    where a drop drives the flow between periodic patches, its mean that of the stored part."""
    if what not in QUANTITIES or (what == "velocity_z" and solution.flow.mesh.dim == 2):
        raise InputError(f"cannot probe {what!r}", accepted=f"one of {', '.join(QUANTITIES)}")
    d = discretize(solution.flow)
    q, extra = split(d, solution.state)
    x, at = d.geometry.x_cell, jnp.asarray(at)
    value, slope = q[:, QUANTITIES[what]], gradient(d, q)[:, QUANTITIES[what]]
    r2 = jnp.sum((x - at) ** 2, -1)
    nearest = jax.lax.stop_gradient(jnp.argmin(r2))
    size = d.geometry.V[nearest] ** (2.0 / d.dim)
    weight = jnp.exp(-(r2 - r2[nearest]) / size)
    found = jnp.sum(weight * (value + jnp.sum(slope * (at - x), -1))) / jnp.sum(weight)
    if what == "pressure" and solution.flow.pairs:
        found -= (at - centroid_of(d)) @ mean_gradient(d, extra)
    return found
