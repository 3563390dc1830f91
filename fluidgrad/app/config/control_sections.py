"""``[mesh.control]``: a box of control points over any mesh. Each key is an argument of the function that it calls, or says
which of the control points' numbers may vary."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, get_args

import numpy as np
from pydantic import AfterValidator, Field, model_validator

import fluidgrad as fg
from fluidgrad.app.config.sections import TRACED, Name, Section, Vector
from fluidgrad.errors import InputError

if TYPE_CHECKING:
    from fluidgrad.app.config.case import Numbers
    from fluidgrad.mesh.mesh import Mesh

MOST_CONTROL_POINTS = 10_000
Face = Literal["left", "right", "bottom", "top", "front", "back"]
FACES = get_args(Face)


def _even(rows: list[list[float]] | None) -> Any:
    if rows is not None and len({len(r) for r in rows}) > 1:
        raise InputError("rows of displacements of different lengths", accepted="one number along each direction in every row")
    return rows


class Control(Section):
    """A box of control points that move what is in it."""

    lower: Vector = Field(description="one corner of the box [L]")
    upper: Vector = Field(description="the opposite corner [L]")
    counts: list[Annotated[int, Field(ge=2)]] = Field(
        min_length=2, max_length=3, description="number of control points along x, y (and z), 2 or more each [1]"
    )
    patches: list[Name] | None = Field(None, description="move these patches alone, the inside following; else all points in the box")
    hold: list[Face] = Field(
        [], description="faces of the box (the ends of x, y, z) whose control points stay: all that cut through what moves"
    )
    hold_layers: int = Field(
        1, ge=1, description="layers of control points that stay at each held face: with 2, walls keep their direction there [1]"
    )
    mirrors: list[Face] = Field(
        [], description="faces of the box that lie in planes of symmetry: the control points go on behind them as their mirror image"
    )
    directions: Annotated[list[Literal["x", "y", "z"]], Field(min_length=1)] | None = Field(
        None, description="move along these axes only; along all by default"
    )
    displacements: Annotated[list[list[float]] | None, TRACED, AfterValidator(_even)] = Field(
        None, description="of the control points that may move [L], a row each along the directions, x slowest; zero by default"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        dim = len(self.counts)
        if (many := int(np.prod(self.counts, dtype=float))) > MOST_CONTROL_POINTS:
            raise InputError(f"{many} control points", accepted=f"at most {MOST_CONTROL_POINTS}")
        for key in ("lower", "upper"):
            if len(getattr(self, key)) != dim:
                raise InputError(f"{key} has {len(getattr(self, key))} entries, and counts has {dim}", accepted="as many")
        for key, known in (("hold", FACES[: 2 * dim]), ("mirrors", FACES[: 2 * dim]), ("directions", "xyz"[:dim])):
            if wrong := [g for g in getattr(self, key) or [] if g not in known]:
                raise InputError(f"{key} has {wrong[0]!r}", accepted=f"in {dim}D: {', '.join(known)}")
        if not self.free.any():
            raise InputError("all control points are held", accepted="more counts, or fewer faces in hold")
        rows = (int(self.free.sum()), len(self.axes))
        if self.displacements is not None and [len(r) for r in self.displacements] != [rows[1]] * rows[0]:
            raise InputError(
                f"displacements of {len(self.displacements)} rows", accepted=f"{rows[0]} rows (free control points) of {rows[1]} numbers"
            )
        return self

    @property
    def axes(self) -> str:
        """The directions, in order."""
        return "".join(a for a in "xyz"[: len(self.counts)] if self.directions is None or a in self.directions)

    @property
    def free(self) -> np.ndarray:
        """Which control points may move, ``counts``."""
        free = np.ones(self.counts, bool)
        for i, face in enumerate(FACES[: 2 * len(self.counts)]):
            if face in self.hold:
                end = slice(self.hold_layers) if i % 2 == 0 else slice(-self.hold_layers, None)
                free[(slice(None),) * (i // 2) + (end,)] = False
        return free

    def numbers(self) -> Numbers:
        found = super().numbers()
        return found if self.displacements is not None else found | {"displacements": np.zeros((self.free.sum(), len(self.axes)))}

    def build(self, n: Numbers, mesh: Mesh) -> Mesh:
        """The mesh as its control points move it."""
        import jax.numpy as jnp

        from fluidgrad.mesh.control import check_box

        if len(self.counts) != mesh.dim:
            given = f"control.counts has {len(self.counts)} entries, and the mesh has {mesh.dim} dimensions"
            raise InputError(given, accepted=f"counts, lower and upper of {mesh.dim} each")
        check_box(mesh, n["lower"], n["upper"], self.free, self.patches, self.mirrors)
        at = (*(i[:, None] for i in np.nonzero(self.free)), np.array(["xyz".index(a) for a in self.axes]))
        moved = jnp.zeros((*self.counts, mesh.dim)).at[at].set(n["displacements"])
        return fg.deform(mesh, n["lower"], n["upper"], moved, self.patches, self.mirrors)
