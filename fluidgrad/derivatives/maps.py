"""Sensitivity maps: where a change matters, everywhere at once, from one adjoint.

    inflow      dJ/d(normal speed), per unit length of the patch
    wall        dJ/dn per unit length, n into the fluid: the total derivative for a wall that moves and takes the mesh
                along (``motion.InverseDistance``), divided by the length each point owns
    porosity    dJ/d(alpha), per unit volume
    force       dJ/d(force), per unit volume: the adjoint velocity

(per unit area in 3D). Weak statements are exact: the sum of a wall map times a displacement times the lengths is the
derivative along that displacement, when the mesh follows so. A generator's mesh follows in another way; what that makes
of it is discretisation error. Point values are as rough as cells are uneven; those of the map's representative in the inner
product of H^1 converge (:meth:`Line.smoothed`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg as spla
from jaxtyping import Array, Float

from fluidgrad.derivatives.derivative import GradientReport, vjp
from fluidgrad.errors import InputError
from fluidgrad.flow.boundary import Inflow
from fluidgrad.flow.flow import Flow
from fluidgrad.flow.measures import line_product
from fluidgrad.flow.solution import Solution
from fluidgrad.mesh.geometry import CellScalar, CellVector
from fluidgrad.mesh.mesh import measure
from fluidgrad.mesh.motion import InverseDistance
from fluidgrad.mesh.topology import Topology, corner_shares, middles
from fluidgrad.solve.steady import solve_steady


@dataclass(frozen=True)
class Line:
    """A map along a patch, in order; rows of NaN separate its pieces. A closed piece ends with its first point again, and
    each of the two owns half.

    Attributes:
        s: arc length, from the start of each piece on ``(k,)`` [L].
        x: places, ``(k, dim)``.
        n: unit normals into the fluid, ``(k, dim)``.
        value: the map, ``(k,)``.
        weight: length (area in 3D) that each place owns, ``(k,)``.
    """

    s: np.ndarray
    x: np.ndarray
    n: np.ndarray
    value: np.ndarray
    weight: np.ndarray

    @property
    def pieces(self) -> list[slice]:
        """The rows of each piece of two points or more."""
        gaps = np.flatnonzero(np.isnan(self.value))
        ends = np.concatenate([[-1], gaps, [len(self.value)]])
        return [slice(a + 1, b) for a, b in zip(ends[:-1], ends[1:], strict=True) if b - a > 2]

    def smoothed(self, length: float) -> Line:
        """The map in the inner product of H^1: g with

            (1 - length^2 d^2/ds^2) g = map        along each piece, dg/ds = 0 at its ends if it is open,

        by linear finite elements with lumped masses. So the sum of g times the weights is the map's, and along a wave of
        number k it is 1 / (1 + length^2 k^2) of it. For a fixed ``length`` [L] point values converge as the mesh is refined.

        Raises:
            InputError: a negative length; a map on a surface (3D), whose points are in no order.

        Reference: Jameson, Aerodynamic shape optimization using the adjoint method (2003), section 6.
        """
        if self.x.shape[1] == 3:
            raise InputError("a map on a surface cannot be smoothed", accepted="a map along a line, of a flow in 2D")
        if not (np.isfinite(length) and length >= 0):
            raise InputError(f"a smoothing length of {length}", accepted="a length that is not negative")
        value = self.value.copy()
        for piece in self.pieces:
            value[piece] = _in_h1(self.x[piece], self.s[piece], value[piece], self.weight[piece], length)
        return replace(self, value=value)


def _in_h1(x: np.ndarray, s: np.ndarray, value: np.ndarray, weight: np.ndarray, length: float) -> np.ndarray:
    """One piece of a map in the inner product of H^1."""
    n = len(s)
    closed = n > 3 and np.array_equal(x[0], x[-1])
    node = np.arange(n) % (n - 1) if closed else np.arange(n)
    size = node.max(initial=-1) + 1
    mass, right = np.bincount(node, weight, size), np.bincount(node, weight * value, size)
    W = line_product(mass, node[:-1], node[1:], np.diff(s), length)
    return np.asarray(spla.spsolve(W.tocsc(), right))[node]


@dataclass(frozen=True)
class Sensitivity:
    """The derivative of one functional with respect to everything; see the module.

    Attributes:
        value: of the functional.
        solution: the flow it belongs to.
        flow: dJ/d(every leaf of the flow), a flow of derivatives.
        inflow, wall: maps by patch.
        porosity, force: maps by cell, ``(cells,)`` and ``(cells, dim)``.
        report: of the adjoint solve.
    """

    value: float
    solution: Solution
    flow: Flow
    inflow: dict[str, Line]
    wall: dict[str, Line]
    porosity: CellScalar
    force: CellVector
    report: GradientReport

    @property
    def adjoint(self) -> CellVector:
        """The adjoint velocity: the map of the force."""
        return self.force


def sensitivity(functional: Callable[[Solution], Array], flow: Flow, solution: Solution | None = None, **solver: Any) -> Sensitivity:
    """The maps of a functional, by one adjoint solve.

    Args:
        functional: Solution -> scalar.
        flow: where; scalars given for speeds, porosity and force count as fields here.
        solution: a solution of it, if there is one already (it is the start).
        **solver: how it is solved, as for ``solve_steady``.

    Raises:
        NotConverged: if the primal or adjoint solve fails.
    """
    t = flow.mesh.topology
    spread_out = {k: _speeds(kind, t, k, flow) for k, kind in flow.boundary.items()}
    field = jnp.zeros((t.n_cells, t.dim), flow.mesh.points.dtype)
    full = Flow(
        flow.mesh, viscosity=flow.viscosity, porosity=flow.porosity + field[:, 0], force=flow.force + field,
        convection=flow.convection, scheme=flow.scheme, reference=flow.reference, boundary=spread_out,
    )  # fmt: skip
    start = solve_steady(full, None if solution is None else solution.state, **solver)
    value, pull = vjp(lambda flow: functional(solve_steady(flow, start.state, **solver)), full)
    derivative, report = pull(jnp.ones_like(value))
    g = measure(flow.joined)
    S = np.asarray(measure(flow.mesh).S)
    moved = np.asarray(InverseDistance(flow.mesh).transpose(derivative.mesh.points))
    inflow = {k: _along_faces(t, k, S, np.asarray(flow.mesh.points), np.asarray(derivative.boundary[k].speed))
              for k, kind in full.boundary.items() if isinstance(kind, Inflow)}  # fmt: skip
    wall = {k: _along_points(t, k, S, np.asarray(flow.mesh.points), moved) for k in flow.walls}
    return Sensitivity(
        float(value), start, derivative, inflow, wall,
        derivative.porosity / g.V, derivative.force / g.V[:, None], report,
    )  # fmt: skip


def _speeds(kind: Any, t: Topology, patch: str, flow: Flow) -> Any:
    """An inflow given by one speed or velocity, as one given by one a face."""
    lo, hi = t.patches[patch]
    if isinstance(kind, Inflow):
        return replace(kind, speed=jnp.broadcast_to(jnp.asarray(kind.speed), (hi - lo, *jnp.shape(kind.speed)[1:])))
    return kind


def _along_faces(t: Topology, patch: str, S: np.ndarray, points: np.ndarray, derivative: np.ndarray) -> Line:
    """A map with one value a face."""
    faces = t.faces_of(patch)
    area = np.linalg.norm(S[faces], axis=1)
    n = -S[faces] / area[:, None]
    value = derivative / area if derivative.ndim == 1 else np.sum(derivative * n, 1) / area
    x = middles(points, t.face_points[faces])
    if t.dim == 3:
        return Line(np.arange(len(x), dtype=float), x, n, value, area)
    pieces = []
    for _, f in t.lines(patch):
        s = np.cumsum(area[f]) - 0.5 * area[f]
        pieces.append((s, x[f], n[f], value[f], area[f]))
    return _joined(pieces)


def _along_points(t: Topology, patch: str, S: np.ndarray, points: np.ndarray, derivative: np.ndarray) -> Line:
    """A map with one value a boundary point, from a derivative with respect to the points."""
    faces = t.faces_of(patch)
    corner = t.face_points[faces]
    share = corner_shares(corner)
    owned, normal = np.zeros(len(points)), np.zeros_like(points)
    np.add.at(owned, corner, share * np.linalg.norm(S[faces], axis=1)[:, None])
    np.add.at(normal, corner, -share[..., None] * S[faces][:, None])
    own = np.unique(corner)
    normal[own] /= np.linalg.norm(normal[own], axis=1, keepdims=True)
    value = np.zeros(len(points))
    value[own] = np.sum(derivative[own] * normal[own], 1) / owned[own]
    if t.dim == 3:
        return Line(np.arange(len(own), dtype=float), points[own], normal[own], value[own], owned[own])
    pieces = []
    for p, _ in t.lines(patch):
        s = np.append(0.0, np.cumsum(np.linalg.norm(np.diff(points[p], axis=0), axis=1)))
        own = owned[p]
        if p[0] == p[-1]:
            own[[0, -1]] /= 2
        pieces.append((s, points[p], normal[p], value[p], own))
    return _joined(pieces)


def _joined(pieces: list[tuple[Float[np.ndarray, "..."], ...]]) -> Line:
    """Pieces one after another with a row of NaN between."""
    columns = []
    for column in zip(*pieces, strict=True):
        gap = np.full((1, *column[0].shape[1:]), np.nan)
        parts = [part for c in column for part in (c, gap)][:-1]
        columns.append(np.concatenate(parts))
    return Line(*columns)
