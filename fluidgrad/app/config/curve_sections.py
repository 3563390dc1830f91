"""Curves in ``[mesh]``: the outlines of bodies, and walls of ducts. Each table has the names of the function that builds from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

import fluidgrad as fg
from fluidgrad.app.config.sections import TRACED, XY, Number, Pair, Section, beside, read_table
from fluidgrad.errors import InputError

if TYPE_CHECKING:
    from fluidgrad.app.config.case import Numbers
    from fluidgrad.shapes.curves import Curve

Positive = Annotated[float, Field(gt=0)]


def _zeros(value: Any, of: Any, most: int = 2000) -> Any:
    """So many of these, where a number is given instead of them."""
    return [of] * value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= most else value


Offsets = Annotated[list[float] | None, TRACED, BeforeValidator(lambda v: _zeros(v, 0.0), json_schema_input_type=int | list[float])]


class AbstractBody(Section):
    """What all bodies have: changes of their outline, in this order."""

    offsets: Offsets = Field(
        None,
        min_length=4,
        description="free form: along the outward normal, equally spaced round the outline, or how many that start at zero [L]",
    )
    area: Annotated[Positive | None, TRACED] = Field(None, description="if given, the outline is scaled to have it, whatever varies [L^2]")
    centroid: Annotated[XY | None, TRACED] = Field(None, description="if given, the outline is shifted to have it, whatever varies [L]")
    turn: Annotated[float | None, TRACED] = Field(None, description="turned counter-clockwise about its center [rad]")
    shift: Annotated[XY | None, TRACED] = Field(None, description="shifted as a rigid body [L]")

    def build(self, n: Numbers) -> Curve:
        curve = self.outline(n)
        if "offsets" in n:
            curve = curve.displaced(n["offsets"])
        return curve.fitted(n.get("area"), n.get("centroid")).moved(n.get("shift"), n.get("turn"))

    def outline(self, n: Numbers) -> Curve:
        """The curve before it is changed."""
        raise NotImplementedError


class Circle(AbstractBody):
    """A circle."""

    kind: Literal["circle"]
    center: Pair = Field(description="center x, y [L]")
    radius: Number = Field(gt=0, description="radius [L]")

    def outline(self, n: Numbers) -> Curve:
        return fg.circle(n["center"], n["radius"])


class Ellipse(AbstractBody):
    """An ellipse."""

    kind: Literal["ellipse"]
    center: Pair = Field(description="center x, y [L]")
    radii: Annotated[list[Positive], TRACED, Field(min_length=2, max_length=2)] = Field(description="the two radii [L]")
    angle: Number = Field(0.0, description="of the first radius from the x axis [rad]")

    def outline(self, n: Numbers) -> Curve:
        return fg.ellipse(n["center"], n["radii"], n["angle"])


Modes = Annotated[list[XY], TRACED, BeforeValidator(lambda v: _zeros(v, [0.0, 0.0], 200), json_schema_input_type=int | list[XY])]


class Fourier(AbstractBody):
    """A circle whose radius varies with the angle: radius (1 + sum_k a_k cos k angle + b_k sin k angle)."""

    kind: Literal["fourier"]
    center: Pair = Field(description="center x, y [L]")
    radius: Number = Field(gt=0, description="mean radius [L]")
    modes: Modes = Field(
        min_length=1, description="pairs a_k, b_k for k = 1, 2, ... (fractions of the radius [1]), or how many that start at zero"
    )

    def outline(self, n: Numbers) -> Curve:
        return fg.fourier_curve(n["center"], n["radius"], n["modes"])


class Points(AbstractBody):
    """A curve through points: a smooth spline, or a polygon."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(required=["kind"]))  # points may be read from a file
    kind: Literal["points"]
    file: str | None = Field(None, description="text file of rows x, y, from the config's folder; read into points")
    points: Annotated[list[XY], TRACED] = Field(min_length=3, description="rows x, y in order along the curve [L]")
    corners: bool = Field(False, description="straight lines between the points instead of a spline")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any, info: ValidationInfo) -> Any:
        from fluidgrad.shapes.points import read_points

        return read_table(data, info, "points", read_points)

    def outline(self, n: Numbers) -> Curve:
        return fg.closed_curve(_round(n["points"], self.points), corners=self.corners)


def _round(points: Any, first: list[list[float]]) -> Any:
    """Points round a body counter-clockwise, each once, as they are in the file: where they are traced, a curve cannot know."""
    import numpy as np

    from fluidgrad.iteration import traced
    from fluidgrad.shapes.polygons import area

    if not traced(points):
        return points
    known = np.asarray(first)
    if (known[0] == known[-1]).all():
        points, known = points[:-1], known[:-1]
    return points if area(known) > 0 else points[::-1]


class Spline(AbstractBody):
    """A smooth curve that control points draw (a cubic B-spline)."""

    kind: Literal["spline"]
    control: Annotated[list[XY], TRACED] = Field(
        min_length=4, description="control points x, y in order round the body; the curve passes near to them [L]"
    )

    def outline(self, n: Numbers) -> Curve:
        return fg.spline(_round(n["control"], self.control))


class Aerofoil(AbstractBody):
    """An aerofoil by class and shape functions (CST), its nose to the left; naca or file are made into coefficients."""

    model_config = ConfigDict(json_schema_extra=lambda schema: schema.update(required=["kind", "center", "chord"]))
    kind: Literal["aerofoil"]
    center: Pair = Field(description="middle of the chord x, y [L]")
    chord: Number = Field(gt=0, description="from nose to tail [L]")
    naca: str | None = Field(None, description='four digits such as "2412", which upper and lower are fitted to')
    file: str | None = Field(
        None, description="a .dat file (Selig, Lednicer) from the config's folder, which upper and lower are fitted to"
    )
    coefficients: int = Field(6, ge=1, le=30, description="of each side that is fitted [1]")
    upper: Annotated[list[float], TRACED] = Field(min_length=1, description="coefficients of the upper side [chord]")
    lower: Annotated[list[float], TRACED] = Field(
        min_length=1, description="coefficients of the lower side, negative below the chord [chord]"
    )
    thickness: Number = Field(0.005, gt=0, description="of the rounded tail [chord]")
    exponents: Pair = Field([0.5, 1.0], description="of the class function at nose and tail: 1/2 is round, 1 a wedge [1]")

    @model_validator(mode="before")
    @classmethod
    def _fit(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, dict) or not any(isinstance(data.get(key), str) for key in ("naca", "file")):
            return data
        from fluidgrad.shapes.aerofoils import fitted

        if "upper" in data or "lower" in data or ("naca" in data and "file" in data):
            raise InputError("an aerofoil is given twice", accepted="upper and lower, or naca, or file: these are fitted")
        file = beside(info, data["file"]) if isinstance(data.get("file"), str) else None
        right = {"coefficients": int, "exponents": list}  # what is not is refused with its field
        settings = {key: data[key] for key, kind in right.items() if type(data.get(key)) is kind}
        upper, lower = fitted(data.get("naca"), file, **settings)
        return {k: v for k, v in data.items() if k not in ("naca", "file")} | {"upper": upper.tolist(), "lower": lower.tolist()}

    def outline(self, n: Numbers) -> Curve:
        return fg.aerofoil(n["center"], n["chord"], n["upper"], n["lower"], n["thickness"], n["exponents"])


Body = Annotated[Circle | Ellipse | Fourier | Points | Spline | Aerofoil, Field(discriminator="kind")]


class Line(Section):
    """An open curve from inlet to outlet that control points draw (a cubic B-spline): a wall of a duct, or its middle."""

    kind: Literal["spline"]
    control: Annotated[list[XY], TRACED] = Field(
        min_length=2, description="control points x, y from the inlet to the outlet [L]; two make a straight line"
    )
    corners: bool = Field(False, description="straight lines between the points instead")
    offsets: Offsets = Field(
        None,
        min_length=1,
        description="out of the duct (a center line: to its left) between the ends, which stay [L]; or how many that start at zero",
    )

    def build(self, n: Numbers, right: bool = False) -> Curve:
        """The curve; its offsets to the right of its direction, or to the left."""
        curve = fg.spline(n["control"], closed=False, corners=self.corners)
        if "offsets" not in n:
            return curve
        return curve.displaced(n["offsets"] if right else -n["offsets"])
