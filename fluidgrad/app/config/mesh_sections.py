"""``[mesh]``: the generators and the files of meshes. Each table has the names of the function that builds from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

import numpy as np
from pydantic import Field, ValidationInfo, model_validator

import fluidgrad as fg
from fluidgrad.app.config.control_sections import Control
from fluidgrad.app.config.curve_sections import Body, Line
from fluidgrad.app.config.sections import TRACED, Name, Number, OneOrMany, Pair, Section, Vector, beside
from fluidgrad.errors import InputError

if TYPE_CHECKING:
    from fluidgrad.app.config.case import Numbers
    from fluidgrad.mesh.mesh import Mesh

MOST_CELLS = 2_000_000
Grading = Annotated[float, Field(ge=0, le=10)]
Gradings = Annotated[list[Grading], Field(min_length=2, max_length=2)]


class Extrude(Section):
    """Layers over a 2D mesh, z from 0 to height."""

    height: Number = Field(gt=0, description="in z [L]")
    layers: int = Field(ge=1, description="number of layers, before refinement [1]")
    grading: Grading | Gradings = Field(0.0, description="clustering to both ends, or to each: 0 uniform, 2 strong [1]")
    patches: list[Name] = Field(
        ["front", "back"],
        min_length=2,
        max_length=2,
        description="names of the ends at z = 0 and at height; that of a side adds the end to it",
    )


class AbstractMesh(Section):
    """What all meshes have."""

    refine: int = Field(1, ge=1, le=64, description="multiplies the number of cells along every line, for convergence checks [1]")
    extrude: Extrude | None = Field(None, description="make a 3D mesh of layers")
    control: Control | None = Field(None, description="control points that move the mesh, after all else")

    @model_validator(mode="after")
    def _not_too_many(self) -> Self:
        if (cells := self.about()) > MOST_CELLS:
            raise InputError(f"{cells} cells", accepted=f"at most {MOST_CELLS}")
        return self

    def about(self) -> int:
        """About how many cells there will be; of a file, which is not read yet, how many times as many as it has."""
        return int(np.prod(getattr(self, "cells", 1))) * self.refine**2 * (self.extrude.layers * self.refine if self.extrude else 1)

    def build(self, n: Numbers, like: Mesh | None = None) -> Mesh:
        """The mesh of these numbers, before it has layers; ``like`` one from the same section, when they are traced."""
        raise NotImplementedError

    def solid(self, n: Numbers, flat: Mesh) -> Mesh:
        """The mesh itself, or its layers, as its control points move it."""
        if (e := self.extrude) is not None:
            grading = (e.grading[0], e.grading[1]) if isinstance(e.grading, list) else e.grading
            flat = fg.extrude(flat, n["extrude"]["height"], e.layers * self.refine, (e.patches[0], e.patches[1]), grading)
        return flat if self.control is None else self.control.build(n["control"], flat)


Count = Annotated[int, Field(ge=1)]
Interval = Annotated[tuple[Name, float, float], Field(strict=False)]  # TOML has lists, which a strict tuple would refuse
Intervals = Annotated[list[Interval], Field(min_length=1)]
Counts = Count | Annotated[list[Count], Field(min_length=2, max_length=2)]


class Box(AbstractMesh):
    """A rectangle; patches left, right, bottom and top unless named otherwise."""

    kind: Literal["box"]
    lower: Pair = Field([0.0, 0.0], description="lower left corner [L]")
    upper: Pair = Field([1.0, 1.0], description="upper right corner [L]")
    cells: Counts = Field(1024, description="about how many, or along x and y [1]")
    grading: Grading | Gradings = Field(0.0, description="clustering to the walls: 0 uniform, 2 strong; one number or for x and y [1]")
    patches: dict[Literal["left", "right", "bottom", "top"], Name | Intervals] = Field(
        {}, description='names of the sides, or intervals ["name", from, to] [L] that cover a side'
    )

    def build(self, n: Numbers, like: Mesh | None = None) -> Mesh:
        return fg.box(n["lower"], n["upper"], self.cells, self.grading, self.patches, self.refine, like)


class Channel(AbstractMesh):
    """A channel from (0, 0) to (length, height); patches inlet, outlet and walls unless named otherwise, and body or the bodies'
    names."""

    kind: Literal["channel"]
    length: Number = Field(gt=0, description="in x [L]")
    height: Number = Field(gt=0, description="in y [L]")
    cells: int = Field(5000, ge=4, description="about how many: the one resolution knob [1]")
    body: Body | None = Field(None, description="a body in the channel, whose patch is called body")
    bodies: dict[Name, Body] = Field({}, description="several bodies by the names of their patches")
    patches: dict[Literal["inlet", "outlet", "bottom", "top"], Name] = Field(
        {}, description="other names for the sides; bottom and top are walls by default, and two patches where they have two names"
    )

    @model_validator(mode="after")
    def _one_way(self) -> Channel:
        if self.body is not None and self.bodies:
            raise InputError("both body and bodies are given", accepted="body for one, bodies for several by name")
        return self

    def build(self, n: Numbers, like: Mesh | None = None) -> Mesh:
        bodies = {name: body.build(n["bodies"][name]) for name, body in self.bodies.items()}
        body = self.body.build(n["body"]) if self.body else bodies or None
        return fg.channel(n["length"], n["height"], body, self.cells, self.refine, like, self.patches)


class OGrid(AbstractMesh):
    """Rings from a body to a far circle; patches body and far."""

    kind: Literal["o_grid"]
    body: Body = Field(description="the inner curve")
    outer: Number = Field(gt=0, description="radius of the outer circle [L]")
    cells: Counts = Field(5000, description="about how many, or round and across [1]")
    grading: float | None = Field(
        None, gt=0, description="thickness of the last layer over that of the first; cells keep their shape by default [1]"
    )

    def build(self, n: Numbers, like: Mesh | None = None) -> Mesh:
        return fg.o_grid(self.body.build(n["body"]), n["outer"], self.cells, self.grading, self.refine, like)


class Shell(AbstractMesh):
    """Hexahedra between a sphere or an ellipsoid and a far sphere, in 3D; patches body and far, and those of planes of symmetry."""

    kind: Literal["shell"]
    radii: OneOrMany = Field(0.5, description="of the body: one, or along x, y and z [L]")
    outer: Number = Field(gt=0, description="radius of the far sphere [L]")
    center: Annotated[Vector, Field(min_length=3)] = Field([0.0, 0.0, 0.0], description="of both [L]")
    cells: Counts = Field(50_000, description="about how many, or along a quarter of a great circle and across [1]")
    grading: float | None = Field(
        None, gt=0, description="thickness of the last layer over that of the first; cells keep their shape by default [1]"
    )
    planes: dict[Literal["x", "y", "z"], Name] = Field(
        {}, description="planes of symmetry through the center: the names of their patches by the axis normal to them"
    )

    def about(self) -> int:
        cells = self.cells if isinstance(self.cells, int) else 6 * self.cells[0] ** 2 * self.cells[1] // 2 ** len(self.planes)
        return cells * self.refine**3

    def build(self, n: Numbers, like: Mesh | None = None) -> Mesh:
        return fg.shell(n["radii"], n["outer"], n["center"], self.cells, self.grading, self.planes, self.refine, like)


NumberOrNone = Annotated[float | None, TRACED, Field(gt=0)]
Widths = Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=2)]


class Duct(AbstractMesh):
    """A block between two walls, or along a center line; patches inlet, outlet and walls unless named otherwise."""

    kind: Literal["duct"]
    lower: Line | None = Field(None, description="the wall to the right of the flow")
    upper: Line | None = Field(None, description="the wall to the left of the flow")
    centerline: Line | None = Field(None, description="instead of two walls, the middle between them")
    width: Annotated[Annotated[float, Field(gt=0)] | Widths | None, TRACED] = Field(
        None, description="with centerline: of the duct; one number, or coefficients of a B-spline along it, the ends' first and last [L]"
    )
    before: NumberOrNone = Field(None, description="length of a straight piece before it [L]")
    after: NumberOrNone = Field(None, description="length of a straight piece after it [L]")
    cells: Counts = Field(2000, description="about how many, or along and across [1]")
    grading: Grading = Field(1.0, description="clustering to the walls: 0 uniform, 2 strong [1]")
    patches: dict[Literal["inlet", "outlet", "lower", "upper"], Name] = Field({}, description="other names for the sides")

    def build(self, n: Numbers, like: Mesh | None = None) -> Mesh:
        curves = {k: c.build(n[k], right=k == "lower") for k in ("lower", "upper", "centerline") if (c := getattr(self, k))}
        lengths = {k: n.get(k) for k in ("width", "before", "after")}
        return fg.duct(**curves, **lengths, cells=self.cells, grading=self.grading, patches=self.patches, refine=self.refine, like=like)


class Step(AbstractMesh):
    """A channel with a backward-facing step, its foot at (0, 0); patches inlet, outlet and walls."""

    kind: Literal["step"]
    height: Number = Field(gt=0, description="of the channel before the step [L]")
    step_height: Number = Field(gt=0, description="how far the floor falls [L]")
    before: Number = Field(gt=0, description="length of the channel before the step [L]")
    after: Number = Field(gt=0, description="length of the channel after the step [L]")
    cells: int = Field(4000, ge=12, description="about how many [1]")

    def build(self, n: Numbers, like: Mesh | None = None) -> Mesh:
        return fg.step(n["height"], n["step_height"], n["before"], n["after"], self.cells, self.refine, like)


class MeshFile(AbstractMesh):
    """A gmsh file; patches are its physical groups."""

    kind: Literal["file"]
    path: str = Field(description="a .msh file, from the config's folder")

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any, info: ValidationInfo) -> Any:
        if isinstance(data, dict) and isinstance(data.get("path"), str):
            return data | {"path": str(beside(info, data["path"]).absolute())}
        return data

    def build(self, n: Numbers, like: Mesh | None = None) -> Mesh:
        return fg.read_mesh(self.path, self.refine) if like is None else like


AnyMesh = Annotated[Box | Channel | OGrid | Shell | Duct | Step | MeshFile, Field(discriminator="kind")]
