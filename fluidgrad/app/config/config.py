"""The config file: its sections, and the case that it makes.

Every section is a frozen model with the names of the object it builds (``mesh_sections.py``, ``flow_sections.py``); what
is sought of the flow, and how, is here. Nothing imports JAX before a mesh is built, so that a bad file is refused at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from fluidgrad.app.config.flow_sections import AnyBoundary, FlowSection, PeriodicSection, Porosity
from fluidgrad.app.config.mesh_sections import AnyMesh
from fluidgrad.app.config.paths import plain
from fluidgrad.app.config.sections import LARGEST, Name, Section, place, suggestion
from fluidgrad.design.limits import limit_at
from fluidgrad.errors import InputError

if TYPE_CHECKING:
    from fluidgrad.app.config.case import Case, Numbers
    from fluidgrad.flow.flow import Flow
    from fluidgrad.mesh.mesh import Mesh


def _sizes(value: Any) -> list[float]:
    return [size for v in value for size in _sizes(v)] if isinstance(value, list) else [abs(value)]


NumberPath = Annotated[str, AfterValidator(plain)]


class Design(Section):
    """A number of the file that may vary."""

    vary: NumberPath = Field(description='path of the number or table, such as "boundary.inlet.profile.values"')
    bounds: list[float | list[float] | list[list[float]]] = Field(
        min_length=2,
        max_length=2,
        description="lower and upper; one number, or a list like what varies; equal ones hold a value [of what varies]",
    )

    @model_validator(mode="after")
    def _rows(self) -> Design:
        if (most := max(_sizes(self.bounds), default=0.0)) > LARGEST:
            raise InputError(f"bounds of {most:g} are beyond reason", accepted=f"sizes up to {LARGEST:g}")
        for side in self.bounds:
            if isinstance(side, list) and len({len(row) if isinstance(row, list) else 0 for row in side}) > 1:
                raise InputError("bounds of rows that are not equally long", accepted="lists like those of what varies")
        return self


class Call(Section):
    """A functional and its keyword arguments."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    functional: str = Field(description="name of a functional; its arguments follow as keys")

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    def __str__(self) -> str:
        return f"{self.functional}({', '.join(_plain(v) for v in self.arguments.values())})"


def _plain(value: Any) -> str:
    return ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)


class Term(Call):
    """A functional in a sum, and its weight."""

    weight: float = Field(1.0, description="what it is multiplied by [of the sum over that of the functional]")


class Sum(Section):
    """A weighted sum of functionals."""

    sum: list[Term] = Field(min_length=1, description='functionals with their weights, as { functional = "dissipation", weight = 0.5 }')

    def __str__(self) -> str:
        return f"sum({', '.join(f'{t.weight:g} {t}' if t.weight != 1 else str(t) for t in self.sum)})"


Sought = Annotated[
    Annotated[Call, Tag("one")] | Annotated[Sum, Tag("several")],
    Discriminator(lambda given: "several" if isinstance(given, Sum) or (isinstance(given, Mapping) and "sum" in given) else "one"),
]


class Constraint(Call):
    """A functional and what it must be, a number or a multiple of its value at the start: one of equals, at_most and at_least."""

    equals: float | str | None = Field(None, description='the value it must have, or "start" for what it has there [of the functional]')
    at_most: float | str | None = Field(None, description='the value it must not exceed, or as "1.05 start" [of the functional]')
    at_least: float | str | None = Field(None, description='the value it must reach, or as "0.95 start" [of the functional]')
    condition: str | None = Field(None, description="name of the [[condition]] it holds in; the first by default")

    @model_validator(mode="after")
    def _one(self) -> Constraint:
        given = [k for k in ("equals", "at_most", "at_least") if getattr(self, k) is not None]
        if len(given) != 1:
            raise InputError(f"a constraint with {' and '.join(given) or 'no limit'}", accepted="one of equals, at_most and at_least")
        return self

    @field_validator("equals", "at_most", "at_least")
    @classmethod
    def _limit(cls, value: Any) -> Any:
        if value is not None:
            limit_at(value, 1.0)
        return value


class Objective(Section):
    """What is sought, and under which constraints."""

    minimize: Sought | None = Field(None, description="the functional to make small, or a sum of several")
    maximize: Sought | None = Field(None, description="the functional to make large, or a sum of several")
    subject_to: list[Constraint] = Field([], description="constraints: functionals that equal, or are at most or at least, a value")

    @model_validator(mode="after")
    def _one(self) -> Objective:
        if (self.minimize is None) == (self.maximize is None):
            advice = 'minimize = { functional = "drag", patch = "body" }'
            raise InputError("an objective needs one of minimize and maximize", accepted=advice)
        return self

    @property
    def sought(self) -> Call | Sum:
        found = self.minimize or self.maximize
        assert found is not None
        return found


class Condition(Section):
    """Numbers of the file that have other values in this condition; the objective is the weighted sum over all conditions."""

    name: Name = Field(pattern=r"^[A-Za-z0-9][\w-]*$", max_length=60, description="in results and names of files: letters, digits, _ and -")
    weight: float = Field(1.0, ge=0, description="of the objective in this condition; 0 where only constraints ask for it [1]")
    set: dict[NumberPath, float | list[float]] = Field({}, description='values by paths, as { "flow.viscosity" = 2e-3 } [of each]')


class Optimizer(Section):
    """How the design is sought; may be left out."""

    method: str | None = Field(None, description="of optimization; follows from size and constraints when left out")
    max_iterations: int | None = Field(None, ge=1, description="stop after so many [1]")
    tolerance: float | None = Field(None, gt=0, description="stop when the relative change or the KKT residual falls below it [1]")
    patience: int | None = Field(None, ge=1, description="trials without progress that end the search; 20 when left out, of adam 60 [1]")
    restarts: int | None = Field(None, ge=0, description="of a line search that gave up but had gained; 10 at most when left out [1]")
    inner_product: Literal["parameters", "L2", "H1"] = Field(
        "parameters", description="how the size of a change is measured: of each number by its bounds, or of the walls' displacement"
    )
    length: float = Field(0.0, ge=0, description="with inner_product H1: waves of the wall shorter than some 2 pi of it are held back [L]")
    band: float | None = Field(None, gt=0, description="width of what replaces an equality where a method needs that [of the functional]")


# Short and without what powers, spaces and markup are written with: they stand in labels, tables and units such as m^2 s^-1.
Unit = Annotated[str, Field(min_length=1, max_length=12, pattern=r"^[^\W\d_]\w*$")]


class Units(Section):
    """Labels of plots and tables; they change no number."""

    length: Unit = Field("L", description="of lengths")
    time: Unit = Field("T", description="of times")

    @model_validator(mode="after")
    def _two(self) -> Units:
        if self.length == self.time:
            raise InputError(f"lengths and times both in {self.length!r}", accepted="a unit for each")
        return self


class Solver(Section):
    """The steady solve."""

    tolerance: float = Field(1e-10, ge=1e-14, lt=1, description="of net over gross fluxes; round-off leaves about 1e-15 [1]")
    linear: Literal["auto", "superlu", "block_tridiagonal", "multigrid"] = Field("auto", description="the linear solver")
    devices: int = Field(1, ge=1, description="how many have a part of the cells each; --devices N is short for it [1]")

    @model_validator(mode="after")
    def _direct(self) -> Solver:
        if self.devices > 1 and self.linear not in ("auto", "multigrid"):
            raise InputError(f"linear = {self.linear!r} on {self.devices} devices", accepted="multigrid, which auto is there")
        return self


class Output(Section):
    """What is made of a result beside its figures; these take time that a sweep may want to save."""

    figures: bool = Field(True, description="draw pictures; fluidgrad report draws them later")
    finer_mesh: bool = Field(
        True, description="with twice the cells along every line solve an optimum again, or estimate a sensitivity's error"
    )
    stability: bool = Field(True, description="find out how fast disturbances of the flow grow, and warn of a flow that is unstable")
    smoothing_length: float | None = Field(
        None, ge=0, description="over which maps of walls are smoothed; by default a hundredth of its longest piece [L]"
    )


class Config(Section):
    """A whole file."""

    mesh: AnyMesh = Field(description="where it flows")
    flow: FlowSection = Field(description="the fluid and the equations")
    porosity: Porosity | None = Field(None, description="a porous medium")
    boundary: dict[str, AnyBoundary] = Field(description="one entry for each patch of the mesh")
    design: list[Design] = Field([], description="the numbers that may vary; without them the flow is simulated")
    condition: list[Condition] = Field([], description="conditions that one design must serve; without them there is one, the file's")
    objective: Objective | None = Field(None, description="what is sought")
    optimizer: Optimizer = Field(Optimizer.model_validate({}), description="how it is sought")
    units: Units = Field(Units.model_validate({}), description="labels of plots")
    solver: Solver = Field(Solver.model_validate({}), description="the steady solve")
    output: Output = Field(Output.model_validate({}), description="what is made of a result")

    @model_validator(mode="after")
    def _aim(self) -> Config:
        if self.design and self.objective is None:
            advice = "say what to minimize or maximize, or leave out [[design]]"
            raise InputError("there is a [[design]] but no [objective]", accepted=advice)
        twice = [d.vary for i, d in enumerate(self.design) if d.vary in [e.vary for e in self.design[:i]]]
        if twice:
            raise InputError(f"{twice[0]!r} varies twice", accepted="one [[design]] for each path")
        if self.condition and not self.design:
            advice = "a [[design]], or fluidgrad sweep for several simulations"
            raise InputError("there is a [[condition]] but no [[design]]", accepted=advice)
        if self.condition and not any(c.weight for c in self.condition):
            raise InputError("every [[condition]] has the weight 0", accepted="a positive weight for one at least")
        names = [c.name for c in self.condition]
        if "start" in names:
            raise InputError("a condition is called 'start'", accepted="another name: files of the start are called so")
        if twice := [n for i, n in enumerate(names) if n in names[:i]]:
            raise InputError(f"two conditions are called {twice[0]!r}", accepted="a name of its own for each")
        for c in self.objective.subject_to if self.objective else ():
            if c.condition is not None and c.condition not in names:
                listed = f"there are {', '.join(names)}" if names else "there are none"
                raise InputError(f"a constraint in the condition {c.condition!r}", suggestion(c.condition, names, listed))
        return self

    def case(self, file: str = "the config") -> Case:
        """The case of this file.

        Raises:
            InputError: a mesh that cannot be made, patches and conditions that do not match, numbers that no flow has.
        """
        from fluidgrad.app.config.case import Case
        from fluidgrad.flow.flow import Flow, check_flow

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

        def build(n: Numbers) -> Flow:
            mesh = self.mesh.solid(n["mesh"], self.mesh.build(n["mesh"], like=first))
            boundary = {}
            for patch, section in self.boundary.items():
                with place(f"[boundary] {patch} in {file}"):
                    boundary[patch] = section.build(n["boundary"].get(patch, {}), mesh, patch)
            optional = {"force": n["flow"]["force"]} if "force" in n["flow"] else {}
            if self.porosity is not None:
                optional["porosity"] = n["porosity"]["density"]
            if self.flow.reference is not None:
                reference = n["flow"]["reference"]
                optional["reference"] = tuple(reference[k] for k in ("velocity", "length", "area") if k in reference)
            return Flow(mesh, viscosity=n["flow"]["viscosity"], **static, **optional, boundary=boundary)

        case = Case(build, numbers)
        with place(file):
            check_flow(case.flow(numbers))
        return case

    def _match(self, mesh: Mesh, file: str) -> None:
        tables: dict[str, Any] = {"[flow] ": self.flow} | {f"[boundary] {name}.": b for name, b in self.boundary.items()}
        for table, section in tables.items():
            for key in ("force", "velocity", "center"):
                value = getattr(section, key, None)
                if value is not None and len(value) != mesh.dim:
                    axes = ", ".join("xyz"[: mesh.dim])
                    given = f"{key} has {len(value)} entries, and the mesh has {mesh.dim} dimensions"
                    raise InputError(given, f"{key} = [{axes}]", f"{table}{key} in {file}")
        paired = {b.other for b in self.boundary.values() if isinstance(b, PeriodicSection)}
        listed = ", ".join(sorted(mesh.patches))
        for given in sorted((set(self.boundary) | paired) - set(mesh.patches)):
            advice = suggestion(given, mesh.patches, f"its patches are {listed}")
            raise InputError(f"the mesh has no patch {given!r}", advice, f"[boundary] in {file}")
        for patch in sorted(set(mesh.patches) - set(self.boundary) - paired):
            advice = f'add {patch} = {{ kind = "wall" }} or another kind; the patches are {listed}'
            raise InputError(f"patch {patch!r} has no boundary condition", advice, f"[boundary] in {file}")
