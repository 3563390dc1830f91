"""``[flow]``, ``[porosity]`` and ``[boundary]``: the fluid, and a table for each kind of patch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationInfo, model_validator

import fluidgrad as fg
from fluidgrad.app.config.sections import TRACED, Name, Number, OneOrMany, Section, Vector, read_table
from fluidgrad.errors import InputError
from fluidgrad.files import read_text

if TYPE_CHECKING:
    from fluidgrad.app.config.case import Numbers
    from fluidgrad.flow.boundary import Boundary
    from fluidgrad.mesh.mesh import Mesh

VectorOrNone = Annotated[list[float] | None, TRACED, Field(min_length=2, max_length=3)]


class Reference(Section):
    """What coefficients are made with."""

    velocity: Number = Field(gt=0, description="reference velocity [L/T]")
    length: Number = Field(gt=0, description="reference length [L]")
    area: Annotated[float | None, TRACED, Field(gt=0)] = Field(
        None, description="reference area: of coefficients of forces; length^(dim-1) by default [L^(dim-1)]"
    )


class FlowSection(Section):
    """The fluid and the equations."""

    viscosity: Number = Field(gt=0, description="kinematic viscosity [L^2/T]")
    convection: bool = Field(True, description="false: Stokes flow")
    scheme: Literal["central", "upwind"] = Field("central", description="of convection; upwind is robust on coarse meshes")
    force: VectorOrNone = Field(None, description="body force [L/T^2]")
    reference: Reference | None = Field(None, description="velocity and length of coefficients")


class Porosity(Section):
    """A porous medium: a resistance -density u."""

    density: Number = Field(0.0, ge=0, description="resistance alpha of the medium [1/T]")
    per_cell: bool = Field(False, description="one number for each cell, all starting at density: for topology design")


class ParabolaProfile(Section):
    """A parabola along the patch."""

    kind: Literal["parabola"]
    mean: Number = Field(description="mean speed [L/T]")
    mirrors: list[Name] = Field([], description="planes of symmetry at its sides: the profile is a half, whose image is the other")

    def speed(self, n: Numbers, mesh: Mesh, patch: str) -> Any:
        return fg.parabola(mesh, patch, n["mean"], self.mirrors)


class NodesProfile(Section):
    """Straight lines between equally spaced nodes, zero at both ends of the patch."""

    kind: Literal["nodes"]
    file: str | None = Field(None, description="text file of one number a row, from the config's folder; read into values")
    values: Annotated[list[float] | None, TRACED] = Field(None, min_length=1, description="speeds at the nodes [L/T]")
    count: int | None = Field(None, ge=1, le=10_000, description="number of nodes between the ends [1]")
    start: Literal["parabola", "uniform"] | None = Field(None, description="shape of the values when they are not given")
    mean: float | None = Field(None, description="mean speed of that shape over the patch [L/T]")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any, info: ValidationInfo) -> Any:
        return read_table(data, info, "values", read_values)

    @model_validator(mode="after")
    def _enough(self) -> NodesProfile:
        if self.values is None:
            if self.count is None or self.mean is None:
                raise InputError("a profile of nodes without values", accepted='values, or file, or count with start = "parabola" and mean')
        elif self.start is not None or self.mean is not None:
            raise InputError("a profile has both values and start or mean", accepted="one of the two")
        elif self.count not in (None, len(self.values)):
            raise InputError(
                f"a profile has {len(self.values)} values, but count = {self.count}", accepted="as many values as count, or no count"
            )
        return self

    def numbers(self) -> Numbers:
        if self.values is not None:
            return {"values": np.asarray(self.values)}
        from fluidgrad.flow.profiles import parabola_at_nodes

        assert self.count is not None and self.mean is not None
        if self.start == "uniform":  # with the flow rate of that mean, though it falls to zero at the ends
            return {"values": np.full(self.count, self.mean * (self.count + 1) / self.count)}
        return {"values": np.asarray(parabola_at_nodes(self.count, self.mean))}

    def speed(self, n: Numbers, mesh: Mesh, patch: str) -> Any:
        return fg.nodes(mesh, patch, n["values"])


Profile = Annotated[NodesProfile | ParabolaProfile, Field(discriminator="kind")]


class InflowSection(Section):
    """A given velocity: one of speed, velocity and profile."""

    kind: Literal["inflow"]
    speed: Annotated[float | list[float] | None, TRACED] = Field(
        None, description="into the domain, normal to it; one, or one for each face [L/T]"
    )
    velocity: VectorOrNone = Field(None, description="the velocity vector [L/T]")
    profile: Profile | None = Field(None, description="the speed along the patch")

    @model_validator(mode="after")
    def _one(self) -> InflowSection:
        given = [k for k in ("speed", "velocity", "profile") if getattr(self, k) is not None]
        if len(given) != 1:
            raise InputError(f"an inflow with {' and '.join(given) or 'no velocity'}", accepted="one of speed, velocity and profile")
        return self

    def build(self, n: Numbers, mesh: Mesh, patch: str) -> Boundary:
        if self.profile is not None:
            return fg.Inflow(self.profile.speed(n["profile"], mesh, patch))
        return fg.Inflow(n["speed"] if self.velocity is None else n["velocity"][None])


class WallSection(Section):
    """No slip."""

    kind: Literal["wall"]
    velocity: VectorOrNone = Field(None, description="of a moving wall [L/T]")
    rotation: Annotated[float | list[float] | None, TRACED] = Field(
        None, description="of a turning wall, counter-clockwise [1/T]; 3D: a vector"
    )
    center: VectorOrNone = Field(None, description="that it turns about; a round wall's own center when left out [L]")

    def build(self, n: Numbers, mesh: Mesh, patch: str) -> Boundary:
        return fg.Wall(**n)


class OutflowSection(Section):
    """The fluid leaves against a pressure (do-nothing)."""

    kind: Literal["outflow"]
    pressure: OneOrMany = Field(0.0, description="kinematic pressure; one, or one for each face [L^2/T^2]")
    tangential: Literal["free", "zero"] = Field("free", description="zero: the fluid leaves normal to the patch")

    def build(self, n: Numbers, mesh: Mesh, patch: str) -> Boundary:
        return fg.Outflow(n["pressure"], self.tangential)


class PressureInletSection(Section):
    """Fluid drawn in from rest."""

    kind: Literal["pressure_inlet"]
    total_pressure: OneOrMany = Field(description="kinematic; one, or one for each face [L^2/T^2]")

    def build(self, n: Numbers, mesh: Mesh, patch: str) -> Boundary:
        return fg.PressureInlet(n["total_pressure"])


class SymmetrySection(Section):
    """A plane of symmetry."""

    kind: Literal["symmetry"]

    def build(self, n: Numbers, mesh: Mesh, patch: str) -> Boundary:
        return fg.Symmetry()


class FarFieldSection(Section):
    """A distant boundary in a stream."""

    kind: Literal["far_field"]
    velocity: Vector = Field(description="of the stream [L/T]")
    pressure: Number = Field(0.0, description="kinematic, where the stream leaves [L^2/T^2]")

    def build(self, n: Numbers, mesh: Mesh, patch: str) -> Boundary:
        return fg.FarField(n["velocity"], n["pressure"])


class PeriodicSection(Section):
    """The patch continues at another, a translation away."""

    kind: Literal["periodic"]
    other: str = Field(description="the patch it continues at; needs no entry of its own")
    pressure_drop: Number = Field(
        0.0, description="of the mean pressure from here to there; the pressure that is shown is the periodic rest [L^2/T^2]"
    )
    flow_rate: Annotated[float | None, TRACED] = Field(None, description="if given, the pressure drop is found for it [L^dim/T]")

    def build(self, n: Numbers, mesh: Mesh, patch: str) -> Boundary:
        return fg.Periodic(self.other, **n)


AnyBoundary = Annotated[
    InflowSection | WallSection | OutflowSection | PressureInletSection | SymmetrySection | FarFieldSection | PeriodicSection,
    Field(discriminator="kind"),
]


def read_values(path: Path) -> np.ndarray:
    """Numbers from a text file, one a row; # starts a comment.

    Raises:
        InputError: not readable, a row that is not one number, NaN, with the row.
    """
    values = []
    for i, line in enumerate(read_text(path, "the table", "a text file with one number a row").splitlines(), 1):
        if not (text := line.split("#")[0].strip()):
            continue
        try:
            value = float(text)
        except ValueError:
            raise InputError(f"row {i} of {str(path)!r} is {text[:40]!r}", accepted="one number a row") from None
        if not np.isfinite(value):
            raise InputError(f"row {i} of {str(path)!r} is {text!r}", accepted="finite numbers")
        values.append(value)
    if not values:
        raise InputError(f"{str(path)!r} holds no numbers", accepted="one number a row")
    return np.array(values)
