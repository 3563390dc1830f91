"""A solution: a flow with its state, and the fields that follow from it.

What can be had of a solution by a name of its own is here; numbers are functionals (``functionals.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
from jaxtyping import Array, Float

from fluidgrad.flow.flow import Flow
from fluidgrad.flow.patches import WallData, all_walls, wall_data
from fluidgrad.flow.vorticity import stream_function, vorticity
from fluidgrad.mesh.geometry import CellScalar, CellVector

_REPORT = ["converged", "residual", "iterations", "solves", "reached", "place", "products", "linear_residual"]


@partial(jax.tree_util.register_dataclass, data_fields=_REPORT, meta_fields=["linear"])
@dataclass(frozen=True)
class SolveReport:
    """How a steady solve went.

    Attributes:
        converged: whether ``residual`` fell below the tolerance.
        residual: net over gross fluxes of the cells, the larger of momentum's and mass's, or that of an extra equation
            if larger (dimensionless).
        iterations: Newton steps, of all stages together.
        solves: stages of the continuation (1: the flow itself was solved at once).
        reached: the largest viscosity ratio solved: 1 when the flow asked for was reached, 10 if only one of ten
            times its viscosity was, inf if none.
        place: cell with the largest residual.
        products: of the Jacobian with a vector, of all steps' linear systems together.
        linear_residual: relative, to which the last of them was solved: above 0.3 it is the linear solver that failed.
        linear: what preconditioned them: a backend and the matrix that it was given; static.
    """

    converged: Array
    residual: Array
    iterations: Array
    solves: Array
    reached: Array
    place: Array
    products: Array
    linear_residual: Array
    linear: str


@partial(jax.tree_util.register_dataclass, data_fields=["flow", "state", "report"], meta_fields=[])
@dataclass(frozen=True)
class Solution:
    """A steady flow.

    Attributes:
        flow: what was solved.
        state: the unknowns, flat: velocity and pressure cell by cell, then the extra scalars.
        report: how the solve went.
    """

    flow: Flow
    state: Array
    report: SolveReport

    @property
    def velocity(self) -> CellVector:
        """Velocity in the cells, ``(cells, dim)`` [L/T]."""
        return self._cells[:, :-1]

    @property
    def pressure(self) -> CellScalar:
        """Kinematic pressure in the cells, ``(cells,)`` [L^2/T^2]. Where a drop drives the flow between periodic patches, its
        periodic part: the whole falls from one to the other (:func:`fluidgrad.pressure_drop`)."""
        return self._cells[:, -1]

    @property
    def vorticity(self) -> Float[Array, "cells ..."]:
        """dv/dx - du/dy in the cells, ``(cells,)``; in 3D curl u, ``(cells, 3)`` [1/T]. Differentiable."""
        return vorticity(self.flow, self.state)

    @property
    def stream_function(self) -> Float[Array, " points"]:
        """In 2D, at the points of the mesh, ``(points,)`` [L^2/T]: u = dpsi/dy, v = -dpsi/dx, and the difference between two
        points is the flow that passes between them, to round-off. Zero on the first wall. Differentiable.

        Raises:
            InputError: in 3D; where fluid comes in or out through a hole of the domain, such as a body that blows.
        """
        return stream_function(self.flow, self.state)

    def wall(self, patch: str) -> WallData:
        """Pressure and shear on the faces of a patch, in 2D in order along it, and their coefficients. Differentiable.

        Raises:
            InputError: the mesh has no such patch, or it is periodic.
        """
        return wall_data(self.flow, self.state, patch)

    @property
    def walls(self) -> dict[str, WallData]:
        """:meth:`wall` of every wall."""
        return all_walls(self.flow, self.state)

    @property
    def pressure_drop(self) -> Array:
        """The unknown pressure drops of periodic patches with a given flow rate, in the order of ``flow.driven``."""
        return self.state[self.state.shape[0] - len(self.flow.driven) :]

    @property
    def _cells(self) -> Array:
        m = self.flow.mesh.dim + 1
        return self.state[: self.flow.mesh.n_cells * m].reshape(-1, m)
