"""The config file: what it may hold, and the case that it makes.

Every section is a frozen model with the names of the object it builds; unknown keys are refused. Fields marked ``TRACED``
are the case's numbers: derivatives exist with respect to them, and a design may vary them. The rest is structure.

Nothing here imports JAX before a mesh is built, so that a bad file is refused at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, model_validator

from fluidgrad.errors import InputError

if TYPE_CHECKING:
    from fluidgrad.boundary import Boundary
    from fluidgrad.case import Case, Numbers
    from fluidgrad.curves import Curve
    from fluidgrad.mesh import Mesh

TRACED = "traced"
Number = Annotated[float, TRACED]
Vector = Annotated[list[float], TRACED, Field(min_length=2, max_length=3)]
Pair = Annotated[list[float], TRACED, Field(min_length=2, max_length=2)]
OneOrMany = Annotated[float | list[float], TRACED]


class Section(BaseModel):
    """A table of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def numbers(self) -> Numbers:
        """The traced numbers of this table and the tables in it, by key."""
        found: Numbers = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, Section):
                found[name] = value.numbers()
            elif isinstance(value, dict):
                found[name] = {key: v.numbers() for key, v in value.items() if isinstance(v, Section)}
            elif TRACED in field.metadata and value is not None:
                found[name] = np.asarray(value, float)
        return {name: value for name, value in found.items() if not (isinstance(value, dict) and not value)}


# Curves


def _read_file(data: Any, info: ValidationInfo, key: str, read: Callable[[Path], np.ndarray]) -> Any:
    """Replaces ``file = "table.csv"`` by the numbers in it, so that a resolved config needs no other file."""
    if not isinstance(data, dict) or not isinstance(data.get("file"), str):
        return data
    if key in data:
        raise InputError(f"both file and {key} are given", accepted=f"one of them: the file is read into {key}")
    return {k: v for k, v in data.items() if k != "file"} | {
        key: read(Path((info.context or {}).get("folder", ".")) / data["file"]).tolist()
    }


class Circle(Section):
    """A circle."""

    kind: Literal["circle"]
    center: Pair = Field(description="center x, y [L]")
    radius: Number = Field(gt=0, description="radius [L]")

    def build(self, n: Numbers) -> Curve:
        from fluidgrad.curves import circle

        return circle(n["center"], n["radius"])


class Ellipse(Section):
    """An ellipse."""

    kind: Literal["ellipse"]
    center: Pair = Field(description="center x, y [L]")
    radii: Pair = Field(description="the two radii [L]")
    angle: Number = Field(0.0, description="of the first radius from the x axis [rad]")

    def build(self, n: Numbers) -> Curve:
        from fluidgrad.curves import ellipse

        return ellipse(n["center"], n["radii"], n["angle"])


def _modes(value: Any) -> Any:
    return [[0.0, 0.0] for _ in range(value)] if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 200 else value


class Fourier(Section):
    """A circle whose radius varies with the angle: radius (1 + sum_k a_k cos k angle + b_k sin k angle)."""

    kind: Literal["fourier"]
    center: Pair = Field(description="center x, y [L]")
    radius: Number = Field(gt=0, description="mean radius [L]")
    modes: Annotated[list[Annotated[list[float], Field(min_length=2, max_length=2)]], TRACED, BeforeValidator(_modes)] = Field(
        min_length=1, description="pairs a_k, b_k for k = 1, 2, ... (fractions of the radius), or how many that start at zero"
    )

    def build(self, n: Numbers) -> Curve:
        from fluidgrad.curves import fourier_curve

        return fourier_curve(n["center"], n["radius"], n["modes"])


class Points(Section):
    """A curve through points: a smooth spline, or a polygon."""

    kind: Literal["points"]
    file: str | None = Field(None, description="text file of rows x, y, from the config's folder; read into points")
    points: Annotated[list[Annotated[list[float], Field(min_length=2, max_length=2)]], TRACED] = Field(
        min_length=3, description="rows x, y in order along the curve [L]"
    )
    corners: bool = Field(False, description="straight lines between the points instead of a spline")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any, info: ValidationInfo) -> Any:
        from fluidgrad.curves import read_points

        return _read_file(data, info, "points", read_points)

    def build(self, n: Numbers) -> Curve:
        from fluidgrad.curves import closed_curve

        return closed_curve(n["points"], corners=self.corners)


Body = Annotated[Circle | Ellipse | Fourier | Points, Field(discriminator="kind")]


# Meshes


class Extrude(Section):
    """Layers over a 2D mesh, z from 0 to height."""

    height: Number = Field(gt=0, description="in z [L]")
    layers: int = Field(ge=1, description="number of layers, before refinement")
    patches: list[str] = Field(["bottom", "top"], min_length=2, max_length=2, description="names of the two ends")


class AbstractMesh(Section):
    """What all meshes have."""

    refine: int = Field(1, ge=1, le=64, description="multiplies the number of cells along every line, for convergence checks")
    extrude: Extrude | None = Field(None, description="make a 3D mesh of layers")

    def build(self, n: Numbers, like: Mesh | None = None) -> Mesh:
        """The 2D mesh of these numbers; ``like`` one from the same section, when they are traced."""
        raise NotImplementedError

    def solid(self, n: Numbers, flat: Mesh) -> Mesh:
        """The mesh itself, or its layers."""
        from fluidgrad.blocks import extrude

        if self.extrude is None:
            return flat
        e = self.extrude
        return extrude(flat, n["extrude"]["height"], e.layers * self.refine, (e.patches[0], e.patches[1]))


Cells = Annotated[int, Field(ge=1)]


class Box(AbstractMesh):
    """A rectangle; patches left, right, bottom and top unless named otherwise."""

    kind: Literal["box"]
    lower: Pair = Field([0.0, 0.0], description="lower left corner [L]")
    upper: Pair = Field([1.0, 1.0], description="upper right corner [L]")
    cells: Cells | Annotated[list[Cells], Field(min_length=2, max_length=2)] = Field(1024, description="about how many, or along x and y")
    grading: float | Annotated[list[float], Field(min_length=2, max_length=2)] = Field(
        0.0, description="clustering to the walls: 0 uniform, 2 strong; one number or for x and y"
    )
    patches: dict[Literal["left", "right", "bottom", "top"], str | list[tuple[str, float, float]]] = Field(
        {}, description='names of the sides, or intervals ["name", from, to] that cover a side'
    )

    def build(self, n: Numbers, like: Mesh | None = None) -> Mesh:
        from fluidgrad.blocks import box

        cells = tuple(self.cells) if isinstance(self.cells, list) else self.cells
        grading = tuple(self.grading) if isinstance(self.grading, list) else self.grading
        return box(n["lower"], n["upper"], cells, grading, dict(self.patches), self.refine, like)  # pyright: ignore


class Channel(AbstractMesh):
    """A channel from (0, 0) to (length, height); patches inlet, outlet, walls, and body or the bodies' names."""

    kind: Literal["channel"]
    length: Number = Field(gt=0, description="in x [L]")
    height: Number = Field(gt=0, description="in y [L]")
    cells: int = Field(5000, ge=4, description="about how many: the one resolution knob")
    body: Body | None = Field(None, description="a body in the channel, whose patch is called body")
    bodies: dict[str, Body] = Field({}, description="several bodies by the names of their patches")

    @model_validator(mode="after")
    def _one_way(self) -> Channel:
        if self.body is not None and self.bodies:
            raise InputError("both body and bodies are given", accepted="body for one, bodies for several by name")
        return self

    def build(self, n: Numbers, like: Mesh | None = None) -> Mesh:
        from fluidgrad.channels import channel

        bodies: Any = {name: body.build(n["bodies"][name]) for name, body in self.bodies.items()}
        return channel(n["length"], n["height"], self.body.build(n["body"]) if self.body else bodies or None, self.cells, self.refine, like)


class OGrid(AbstractMesh):
    """Rings from a body to a far circle; patches body and far."""

    kind: Literal["o_grid"]
    body: Body = Field(description="the inner curve")
    outer: Number = Field(gt=0, description="radius of the outer circle [L]")
    cells: Cells | Annotated[list[Cells], Field(min_length=2, max_length=2)] = Field(
        5000, description="about how many, or round and across"
    )
    grading: float | None = Field(
        None, gt=0, description="thickness of the last layer over that of the first; cells keep their shape by default"
    )

    def build(self, n: Numbers, like: Mesh | None = None) -> Mesh:
        from fluidgrad.blocks import o_grid

        cells: Any = tuple(self.cells) if isinstance(self.cells, list) else self.cells
        return o_grid(self.body.build(n["body"]), n["outer"], cells, self.grading, self.refine, like)


class MeshFile(AbstractMesh):
    """A gmsh file; patches are its physical groups."""

    kind: Literal["file"]
    path: str = Field(description="a .msh file, from the config's folder")

    @model_validator(mode="before")
    @classmethod
    def _resolve(cls, data: Any, info: ValidationInfo) -> Any:
        if isinstance(data, dict) and isinstance(data.get("path"), str):
            return data | {"path": str((Path((info.context or {}).get("folder", ".")) / data["path"]).resolve())}
        return data

    @model_validator(mode="after")
    def _not_refined(self) -> MeshFile:
        if self.refine > 1:
            raise InputError(f"refine = {self.refine}, but a mesh file cannot be refined", accepted="refine = 1, or a finer file")
        return self

    def build(self, n: Numbers, like: Mesh | None = None) -> Mesh:
        from fluidgrad.meshfile import read_mesh

        return read_mesh(self.path) if like is None else like


AnyMesh = Annotated[Box | Channel | OGrid | MeshFile, Field(discriminator="kind")]


# Flow and boundary


class Reference(Section):
    """What coefficients are made with."""

    velocity: float = Field(gt=0, description="reference velocity [L/T]")
    length: float = Field(gt=0, description="reference length [L]")


class FlowSection(Section):
    """The fluid and the equations."""

    viscosity: Number = Field(gt=0, description="kinematic viscosity [L^2/T]")
    convection: bool = Field(True, description="false: Stokes flow")
    scheme: Literal["central", "upwind"] = Field("central", description="of convection; upwind is robust on coarse meshes")
    force: Annotated[list[float] | None, TRACED] = Field(None, min_length=2, max_length=3, description="body force [L/T^2]")
    reference: Reference | None = Field(None, description="velocity and length of coefficients")


class Porosity(Section):
    """A porous medium: a resistance -density u."""

    density: Number = Field(0.0, ge=0, description="resistance alpha of the medium [1/T]")
    per_cell: bool = Field(False, description="one number for each cell, all starting at density: for topology design")


class ParabolaProfile(Section):
    """A parabola along the patch."""

    kind: Literal["parabola"]
    mean: Number = Field(description="mean speed [L/T]")

    def speed(self, n: Numbers, mesh: Mesh, patch: str) -> Any:
        from fluidgrad.design import parabola

        return parabola(mesh, patch, n["mean"])


class NodesProfile(Section):
    """Straight lines between equally spaced nodes, zero at both ends of the patch."""

    kind: Literal["nodes"]
    file: str | None = Field(None, description="text file of one number a row, from the config's folder; read into values")
    values: Annotated[list[float] | None, TRACED] = Field(None, min_length=1, description="speeds at the nodes [L/T]")
    count: int | None = Field(None, ge=1, le=10_000, description="number of nodes between the ends")
    start: Literal["parabola", "uniform"] | None = Field(None, description="shape of the values when they are not given")
    mean: float | None = Field(None, description="mean speed of that shape over the patch [L/T]")

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any, info: ValidationInfo) -> Any:
        return _read_file(data, info, "values", read_values)

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
        from fluidgrad.design import parabola_at_nodes

        assert self.count is not None and self.mean is not None
        if self.start == "uniform":  # with the flow rate of that mean, though it falls to zero at the ends
            return {"values": np.full(self.count, self.mean * (self.count + 1) / self.count)}
        return {"values": np.asarray(parabola_at_nodes(self.count, self.mean))}

    def speed(self, n: Numbers, mesh: Mesh, patch: str) -> Any:
        from fluidgrad.design import nodes

        return nodes(mesh, patch, n["values"])


Profile = Annotated[NodesProfile | ParabolaProfile, Field(discriminator="kind")]


class InflowSection(Section):
    """A given velocity: one of speed, velocity and profile."""

    kind: Literal["inflow"]
    speed: Annotated[float | list[float] | None, TRACED] = Field(
        None, description="into the domain, normal to it; one, or one for each face [L/T]"
    )
    velocity: Annotated[list[float] | None, TRACED] = Field(None, min_length=2, max_length=3, description="the velocity vector [L/T]")
    profile: Profile | None = Field(None, description="the speed along the patch")

    @model_validator(mode="after")
    def _one(self) -> InflowSection:
        given = [k for k in ("speed", "velocity", "profile") if getattr(self, k) is not None]
        if len(given) != 1:
            raise InputError(f"an inflow with {' and '.join(given) or 'no velocity'}", accepted="one of speed, velocity and profile")
        return self

    def build(self, n: Numbers, mesh: Mesh, patch: str) -> Boundary:
        from fluidgrad.boundary import Inflow

        if self.profile is not None:
            return Inflow(self.profile.speed(n["profile"], mesh, patch))
        return Inflow(n["speed"] if self.velocity is None else n["velocity"][None])


class WallSection(Section):
    """No slip."""

    kind: Literal["wall"]
    velocity: Annotated[list[float] | None, TRACED] = Field(None, min_length=2, max_length=3, description="of a moving wall [L/T]")
    rotation: Annotated[float | list[float] | None, TRACED] = Field(
        None, description="of a turning wall, counter-clockwise [1/T]; 3D: a vector"
    )
    center: Annotated[list[float] | None, TRACED] = Field(None, min_length=2, max_length=3, description="that it turns about [L]")

    def build(self, n: Numbers, mesh: Mesh, patch: str) -> Boundary:
        from fluidgrad.boundary import Wall

        return Wall(**n)


class OutflowSection(Section):
    """The fluid leaves against a pressure (do-nothing)."""

    kind: Literal["outflow"]
    pressure: OneOrMany = Field(0.0, description="kinematic pressure; one, or one for each face [L^2/T^2]")
    tangential: Literal["free", "zero"] = Field("free", description="zero: the fluid leaves normal to the patch")

    def build(self, n: Numbers, mesh: Mesh, patch: str) -> Boundary:
        from fluidgrad.boundary import Outflow

        return Outflow(n["pressure"], self.tangential)


class PressureInletSection(Section):
    """Fluid drawn in from rest."""

    kind: Literal["pressure_inlet"]
    total_pressure: OneOrMany = Field(description="kinematic; one, or one for each face [L^2/T^2]")

    def build(self, n: Numbers, mesh: Mesh, patch: str) -> Boundary:
        from fluidgrad.boundary import PressureInlet

        return PressureInlet(n["total_pressure"])


class SymmetrySection(Section):
    """A plane of symmetry."""

    kind: Literal["symmetry"]

    def build(self, n: Numbers, mesh: Mesh, patch: str) -> Boundary:
        from fluidgrad.boundary import Symmetry

        return Symmetry()


class FarFieldSection(Section):
    """A distant boundary in a stream."""

    kind: Literal["far_field"]
    velocity: Vector = Field(description="of the stream [L/T]")
    pressure: Number = Field(0.0, description="kinematic, where the stream leaves [L^2/T^2]")

    def build(self, n: Numbers, mesh: Mesh, patch: str) -> Boundary:
        from fluidgrad.boundary import FarField

        return FarField(n["velocity"], n["pressure"])


class PeriodicSection(Section):
    """The patch continues at another, a translation away."""

    kind: Literal["periodic"]
    other: str = Field(description="the patch it continues at; needs no entry of its own")
    pressure_drop: Number = Field(0.0, description="of the mean pressure from here to there [L^2/T^2]")
    flow_rate: Annotated[float | None, TRACED] = Field(None, description="if given, the pressure drop is found for it [L^dim/T]")

    def build(self, n: Numbers, mesh: Mesh, patch: str) -> Boundary:
        from fluidgrad.boundary import Periodic

        return Periodic(self.other, **n)


AnyBoundary = Annotated[
    InflowSection | WallSection | OutflowSection | PressureInletSection | SymmetrySection | FarFieldSection | PeriodicSection,
    Field(discriminator="kind"),
]


# Design


class Design(Section):
    """A number of the file that may vary."""

    vary: str = Field(description='path of the number or table, such as "boundary.inlet.profile.values"')
    bounds: list[float | list[float]] = Field(min_length=2, max_length=2, description="lower and upper; one number, or one for each value")


class Call(Section):
    """A functional and its keyword arguments."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    functional: str = Field(description="name of a functional; its arguments follow as keys")

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    def __str__(self) -> str:
        return f"{self.functional}({', '.join(_plain(v) for v in self.arguments.values())})"


class Constraint(Call):
    """A functional and what it must be: one of equals, at_most and at_least."""

    equals: float | None = Field(None, description="the value it must have")
    at_most: float | None = Field(None, description="the value it must not exceed")
    at_least: float | None = Field(None, description="the value it must reach")

    @model_validator(mode="after")
    def _one(self) -> Constraint:
        given = [k for k in ("equals", "at_most", "at_least") if getattr(self, k) is not None]
        if len(given) != 1:
            raise InputError(f"a constraint with {' and '.join(given) or 'no limit'}", accepted="one of equals, at_most and at_least")
        return self


class Objective(Section):
    """What is sought, and under which constraints."""

    minimize: Call | None = Field(None, description="the functional to make small")
    maximize: Call | None = Field(None, description="the functional to make large")
    subject_to: list[Constraint] = Field([], description="constraints: functionals that equal, or are at most or at least, a value")

    @model_validator(mode="after")
    def _one(self) -> Objective:
        if (self.minimize is None) == (self.maximize is None):
            raise InputError(
                "an objective needs one of minimize and maximize", accepted='minimize = { functional = "drag", patch = "body" }'
            )
        return self

    @property
    def call(self) -> Call:
        found = self.minimize or self.maximize
        assert found is not None
        return found


class Optimizer(Section):
    """How the design is sought; may be left out."""

    method: str | None = Field(None, description="of optimisation; follows from size and constraints when left out")
    max_iterations: int | None = Field(None, ge=1, description="stop after so many")
    tolerance: float | None = Field(None, gt=0, description="stop when the relative change or the KKT residual falls below it")
    band: float | None = Field(None, gt=0, description="width of the band that replaces an equality where a method needs one")


class Units(Section):
    """Labels of plots and tables; they change no number."""

    length: str = Field("L", description="of lengths")
    time: str = Field("T", description="of times")


class Solver(Section):
    """The steady solve."""

    tolerance: float = Field(1e-10, gt=0, lt=1, description="of net over gross fluxes")
    linear: Literal["auto", "superlu", "block_tridiagonal"] = Field("auto", description="the linear solver")


class Config(Section):
    """A whole file."""

    mesh: AnyMesh = Field(description="where it flows")
    flow: FlowSection = Field(description="the fluid and the equations")
    porosity: Porosity | None = Field(None, description="a porous medium")
    boundary: dict[str, AnyBoundary] = Field(description="one entry for each patch of the mesh")
    design: list[Design] = Field([], description="the numbers that may vary; without them the flow is simulated")
    objective: Objective | None = Field(None, description="what is sought")
    optimizer: Optimizer = Field(Optimizer.model_validate({}), description="how it is sought")
    units: Units = Field(Units.model_validate({}), description="labels of plots")
    solver: Solver = Field(Solver.model_validate({}), description="the steady solve")

    @model_validator(mode="after")
    def _aim(self) -> Config:
        if self.design and self.objective is None:
            raise InputError(
                "there is a [[design]] but no [objective]", accepted="say what to minimize or maximize, or leave out [[design]]"
            )
        twice = [d.vary for i, d in enumerate(self.design) if d.vary in [e.vary for e in self.design[:i]]]
        if twice:
            raise InputError(f"{twice[0]!r} varies twice", accepted="one [[design]] for each path")
        return self

    def case(self, file: str = "the config") -> Case:
        """The case of this file.

        Raises:
            InputError: a mesh that cannot be made, patches and conditions that do not match, numbers that no flow has.
        """
        from fluidgrad.case import Case
        from fluidgrad.flow import Flow, check_flow

        numbers = self.numbers()
        for section in ("mesh", "boundary"):
            numbers.setdefault(section, {})
        with place(f"[mesh] in {file}"):
            first = self.mesh.build(numbers["mesh"])
            solid = self.mesh.solid(numbers["mesh"], first)
        self._match(solid, file)
        if self.porosity is not None and self.porosity.per_cell:
            numbers["porosity"]["density"] = np.full(solid.n_cells, float(numbers["porosity"]["density"]))
        static = {"convection": self.flow.convection, "scheme": self.flow.scheme}
        reference = self.flow.reference and (self.flow.reference.velocity, self.flow.reference.length)

        def build(n: Numbers) -> Flow:
            mesh = self.mesh.solid(n["mesh"], self.mesh.build(n["mesh"], like=first))
            boundary = {}
            for patch, section in self.boundary.items():
                with place(f"[boundary] {patch} in {file}"):
                    boundary[patch] = section.build(n["boundary"].get(patch, {}), mesh, patch)
            optional = {"force": n["flow"]["force"]} if "force" in n["flow"] else {}
            if self.porosity is not None:
                optional["porosity"] = n["porosity"]["density"]
            return Flow(mesh, viscosity=n["flow"]["viscosity"], reference=reference, **static, **optional, **boundary)

        case = Case(build, numbers)
        with place(file):
            check_flow(case.flow(numbers))
        return case

    def _match(self, mesh: Mesh, file: str) -> None:
        paired = {b.other for b in self.boundary.values() if isinstance(b, PeriodicSection)}
        listed = ", ".join(sorted(mesh.patches))
        for given in sorted((set(self.boundary) | paired) - set(mesh.patches)):
            raise InputError(
                f"the mesh has no patch {given!r}", suggestion(given, mesh.patches, f"its patches are {listed}"), f"[boundary] in {file}"
            )
        for patch in sorted(set(mesh.patches) - set(self.boundary) - paired):
            advice = f'add {patch} = {{ kind = "wall" }} or another kind; the patches are {listed}'
            raise InputError(f"patch {patch!r} has no boundary condition", advice, f"[boundary] in {file}")


@contextmanager
def place(where: str) -> Iterator[None]:
    """Names the place in the file of an error raised inside."""
    try:
        yield
    except InputError as error:
        raise error.at(where) from None


def suggestion(given: str, known: Any, otherwise: str) -> str:
    """The accepted names, with the nearest first if one is near."""
    import difflib

    near = difflib.get_close_matches(given, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}? {otherwise}" if near else otherwise


def _plain(value: Any) -> str:
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


def read_values(path: Path) -> np.ndarray:
    """Numbers from a text file, one a row; # starts a comment.

    Raises:
        InputError: not readable, a row that is not one number, NaN, with the row.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InputError(f"cannot read the table {str(path)!r}: {reason}", accepted="a text file with one number a row") from None
    values = []
    for i, line in enumerate(lines, 1):
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


def patch_keys(arguments: Mapping[str, Any]) -> Iterator[str]:
    """The names of patches among a functional's arguments."""
    for key in ("patch", "inlet", "outlet"):
        if isinstance(arguments.get(key), str):
            yield arguments[key]
    yield from (p for p in arguments.get("patches", []) if isinstance(p, str))
