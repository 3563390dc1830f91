"""How far a functional is from its value without discretisation, and which cells that comes from.

The solution q_H of a mesh is carried to a finer one that it is nested in, and asked what the finer equations make of it.
With the adjoint of the finer mesh, R_q^T lambda = J_q^T at the carried state P q_H,

    J_h ~ J(P q_H) - lambda . R(P q_H)                                        (the dual-weighted residual)

to second order in what is still missing, without solving the flow there: one transposed solve. The scheme is of second
order, so with r times the cells along every line (r = 2: four thirds)

    J - J_H ~ (J_h - J_H) / (1 - r^-2).

The product lambda . R is a sum over cells, which says where the error comes from.

Becker & Rannacher, Acta Numerica 10 (2001) 1; Venditti & Darmofal, J. Comput. Phys. 176 (2002) 40, eq. 10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from scipy.spatial import KDTree

from fluidgrad.errors import InputError, NotConverged
from fluidgrad.flow.flow import Flow
from fluidgrad.flow.fluxes import discretize, gradient
from fluidgrad.flow.residual import at_boundary, balance, split
from fluidgrad.flow.solution import Solution
from fluidgrad.linear import systems as backends
from fluidgrad.linear.jacobian import Jacobian, Places, assemble, pattern
from fluidgrad.mesh.geometry import CellScalar, Geometry
from fluidgrad.mesh.mesh import measure
from fluidgrad.programs import compiled
from fluidgrad.solve.adjoint import ACCEPTED, solve_adjoint
from fluidgrad.solve.steady import implicit_problem

CANDIDATES = 8  # cells nearest to a finer one, among which the one that holds it is looked for


@dataclass(frozen=True)
class ErrorEstimate:
    """What discretisation does to a functional.

    Attributes:
        value: J on the mesh of the solution.
        error: J without discretisation less ``value``, as estimated: so their sum is the better value.
        finer: J on the finer mesh, as estimated.
        cells: the part of the error that the residual of each cell makes, ``(cells,)``.
        functional: the rest: what the functional alone makes of the same flow on the finer mesh.
    """

    value: float
    error: float
    finer: float
    cells: CellScalar
    functional: float


def error_estimate(functional: Callable[[Solution], Array], solution: Solution, finer: Flow, linear: str = "auto") -> ErrorEstimate:
    """The discretisation error of a functional, by one adjoint solve on a finer mesh; see the module for the equations.

    Args:
        functional: Solution -> scalar.
        solution: of the mesh whose error is asked for.
        finer: the same flow on a mesh that has the cells of the other divided: the same call of its generator with twice
            ``refine``.
        linear: as for ``solve_steady``.

    Raises:
        InputError: a mesh that is not finer, or a flow of another kind.
        NotConverged: the adjoint on the finer mesh is not, or the estimate is not finite.

    Accuracy: the estimate tends to the error itself where the scheme is in its range of second order.
    """
    parent = parents(solution.flow, finer)
    q = prolonged(solution, finer, parent)
    problem = implicit_problem(finer, linear)
    p = pattern(finer, problem.compact)
    R, J, J_finer, by_state = _at(functional, finer, p.places, q)
    factor = backends.factor(problem.backend, p, J)
    weight, went = solve_adjoint(problem, finer, q, factor, by_state)  # pyright: ignore[reportArgumentType]
    if not went[0] <= ACCEPTED:
        raise NotConverged(f"no estimate of the error: the adjoint on the finer mesh was solved to {float(went[0]):.1e} only, by {problem}")
    parts = np.asarray(weight * R)
    n = finer.mesh.n_cells * (finer.mesh.dim + 1)
    cells = np.bincount(parent, parts[:n].reshape(finer.mesh.n_cells, -1).sum(1), solution.flow.mesh.n_cells)
    value = float(functional(solution))
    ratio = (finer.mesh.n_cells / solution.flow.mesh.n_cells) ** (1 / finer.mesh.dim)
    share = 1 / (1 - ratio**-2)
    rest = float(J_finer) - float(parts[n:].sum()) - value
    change = rest - float(cells.sum())
    if not np.isfinite(change):
        raise NotConverged("no estimate of the error: the functional on the finer mesh is not finite")
    return ErrorEstimate(value, share * change, value + change, jnp.asarray(-share * cells), share * rest)


def parents(flow: Flow, finer: Flow) -> Int[np.ndarray, " fine"]:
    """The cell of a flow's mesh that each cell of a finer one is in: of those with the nearest centroids the one whose
    faces it is farthest within.

    Raises:
        InputError: a cell that holds none.
    """
    t, g = flow.mesh.topology, measure(flow.mesh)
    S, x_face, x_cell, x = (np.asarray(a) for a in (g.S, g.x_face, g.x_cell, measure(finer.mesh).x_cell))
    _, near = KDTree(x_cell).query(x, min(CANDIDATES, t.n_cells))
    near = near.reshape(len(x), -1)
    index, sign = t.cell_faces
    face = np.minimum(index, t.n_faces - 1)[near]
    out = S[face] * sign[near][..., None]
    height = np.sum((x_face[face] - x_cell[near][:, :, None]) * out, -1)
    left = np.sum((x_face[face] - x[:, None, None]) * out, -1)
    within = np.min(np.where(out.any(-1), left / np.where(height > 0, height, 1.0), np.inf), -1)
    found = near[np.arange(len(x)), within.argmax(1)]
    if (empty := np.bincount(found, minlength=t.n_cells) == 0).any():
        place = ", ".join(f"{v:.4g}" for v in x_cell[empty.argmax()])
        raise InputError(
            f"the mesh given as finer has no cell in that near ({place})",
            accepted="a mesh in which every cell of the other is divided: the same generator with twice refine",
        )
    return found


def prolonged(known: Solution, finer: Flow, parent: Int[np.ndarray, " fine"] | None = None) -> Array:
    """A state for a flow on a finer or another mesh: in each cell the cubic through its parent and the cells next to it."""
    parent = parents(known.flow, finer) if parent is None else parent
    q = _carried(known.flow, known.state, parent, measure(finer.mesh))
    extra = known.state[known.flow.n_unknowns - known.flow.n_extra :]
    if finer.n_extra != known.flow.n_extra:
        raise InputError("the finer mesh has a flow of another kind", accepted="the same boundary kinds on both")
    return jnp.concatenate([q.ravel(), extra])


@compiled
def _carried(flow: Flow, state: Array, parent: Array, finer: Geometry) -> Array:
    """Values in the cells of a finer mesh, ``(fine, dim+1)``: linear by the parent's gradient, and across each face that
    is nearer than the centroid the rest of a Hermite cubic to the neighbour (at a boundary of the parabola to the value
    there). Places in a parent are those about the middle of its children: what a curved wall moves the children by is no
    distance from the wall."""
    d = discretize(flow)
    t, geometry = d.incidence, d.geometry
    q, _ = split(d, state)
    g = gradient(d, q)
    n = t.n_interior
    edge = at_boundary(d, q, g)
    u_b = jnp.concatenate([edge.velocity, edge.pressure[:, None]], 1)
    index, sign = t.faces, t.sign
    inside, at_edge = (index < n)[..., None], (index >= n) & (sign != 0)
    delta = jnp.concatenate([d.inside.d, d.outside.d, jnp.zeros_like(d.inside.d[:1])])[index]
    delta = delta * jnp.where(inside, sign[..., None], 1.0)
    normal = jnp.concatenate([geometry.S, jnp.zeros_like(geometry.S[:1])])[index] * sign[..., None]
    slope, slope_there = jnp.einsum("cvi,cki->ckv", g, delta), jnp.einsum("ckvi,cki->ckv", g[t.across], delta)
    at_face = jnp.concatenate([u_b, u_b[:1]])[jnp.clip(index - n, 0, len(u_b))]
    jump = jnp.where(at_edge[..., None], at_face, q[t.across]) - q[:, None] - slope
    bend = jnp.where(inside, slope_there - slope, 0.0)  # 0 in padding, as the jump is
    square, cube = 3 * jump - bend, bend - 2 * jump
    square, cube = jnp.where(inside, square, jump), jnp.where(inside, cube, 0.0)
    moment = jnp.zeros_like(geometry.x_cell).at[parent].add(finer.V[:, None] * (finer.x_cell - geometry.x_cell[parent]))
    middle = moment / jnp.zeros_like(geometry.V).at[parent].add(finer.V)[:, None]
    away = finer.x_cell - geometry.x_cell[parent] - middle[parent]
    across = jnp.einsum("cki,cki->ck", delta, normal)[parent]
    s = jnp.einsum("ni,nki->nk", away, normal[parent]) / jnp.where(across > 0, across, 1.0)
    s = jnp.clip(s, 0.0, 1.0)[..., None]
    return q[parent] + jnp.einsum("nvi,ni->nv", g[parent], away) + jnp.sum(s**2 * square[parent] + s**3 * cube[parent], 1)


def _at(functional: Callable[[Solution], Array], finer: Flow, places: Places, q: Array) -> tuple[Array, Any, Array, Array]:
    """Residual, Jacobian, functional and its gradient in the state, at a state of the finer flow."""
    R, J = _equations(finer, places, q)
    value, by_state = jax.value_and_grad(lambda q: functional(Solution(finer, q, None)))(q)  # pyright: ignore[reportArgumentType]
    return R, J, value, by_state


@compiled
def _equations(finer: Flow, places: Places, q: Array) -> tuple[Array, Jacobian]:
    d = discretize(finer)
    return balance(d, q), assemble(d, places, q)
