"""Curves in ``[mesh]``: the outlines of bodies. Each table has the names of the function that builds from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

import fluidgrad as fg
from fluidgrad.app.sections import TRACED, XY, Number, Pair, Section, read_table

if TYPE_CHECKING:
    from fluidgrad.app.case import Numbers
    from fluidgrad.curves import Curve

Positive = Annotated[float, Field(gt=0)]


class Circle(Section):
    """A circle."""

    kind: Literal["circle"]
    center: Pair = Field(description="center x, y [L]")
    radius: Number = Field(gt=0, description="radius [L]")

    def build(self, n: Numbers) -> Curve:
        return fg.circle(n["center"], n["radius"])


class Ellipse(Section):
    """An ellipse."""

    kind: Literal["ellipse"]
    center: Pair = Field(description="center x, y [L]")
    radii: Annotated[list[Positive], TRACED, Field(min_length=2, max_length=2)] = Field(description="the two radii [L]")
    angle: Number = Field(0.0, description="of the first radius from the x axis [rad]")

    def build(self, n: Numbers) -> Curve:
        return fg.ellipse(n["center"], n["radii"], n["angle"])


def _modes(value: Any) -> Any:
    """So many modes that start at zero, where a number is given instead of them."""
    return [[0.0, 0.0] for _ in range(value)] if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 200 else value


class Fourier(Section):
    """A circle whose radius varies with the angle: radius (1 + sum_k a_k cos k angle + b_k sin k angle)."""

    kind: Literal["fourier"]
    center: Pair = Field(description="center x, y [L]")
    radius: Number = Field(gt=0, description="mean radius [L]")
    modes: Annotated[list[XY], TRACED, BeforeValidator(_modes, json_schema_input_type=int | list[XY])] = Field(
        min_length=1, description="pairs a_k, b_k for k = 1, 2, ... (fractions of the radius [1]), or how many that start at zero"
    )

    def build(self, n: Numbers) -> Curve:
        return fg.fourier_curve(n["center"], n["radius"], n["modes"])


class Points(Section):
    """A curve through points: a smooth spline, or a polygon."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(required=["kind"]))  # points may be read from a file
    kind: Literal["points"]
    file: str | None = Field(None, description="text file of rows x, y, from the config's folder; read into points")
    points: Annotated[list[XY], TRACED] = Field(min_length=3, description="rows x, y in order along the curve [L]")
    corners: bool = Field(False, description="straight lines between the points instead of a spline")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any, info: ValidationInfo) -> Any:
        from fluidgrad.meshfile import read_points

        return read_table(data, info, "points", read_points)

    def build(self, n: Numbers) -> Curve:
        return fg.closed_curve(n["points"], corners=self.corners)


Body = Annotated[Circle | Ellipse | Fourier | Points, Field(discriminator="kind")]
