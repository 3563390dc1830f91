"""fluidgrad: the derivative of a flow.

A finite-volume simulator of incompressible flow on body-fitted meshes, differentiable in everything it is given. The
numerics are float64: importing any of them turns on ``jax_enable_x64`` for the process, and keeps compiled programs on
the disk (``device.py``). Names are loaded when first used, so that ``import fluidgrad`` and ``fluidgrad --help`` do not wait
for JAX.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "shapes.curves": ("circle", "ellipse", "fourier_curve"),
    "shapes.points": ("closed_curve", "spline"),
    "shapes.aerofoils": ("aerofoil",),
    "blocks.box": ("box",),
    "blocks.o_grids": ("o_grid",),
    "blocks.layers": ("extrude",),
    "blocks.shells": ("shell",),
    "blocks.channels": ("channel",),
    "blocks.ducts": ("duct",),
    "blocks.steps": ("step",),
    "mesh.meshfile": ("read_mesh",),
    "mesh.mesh": ("Mesh",),
    "mesh.control": ("deform",),
    "flow.boundary": ("Inflow", "Wall", "Outflow", "PressureInlet", "Symmetry", "FarField", "Periodic"),
    "flow.flow": ("Flow",),
    "flow.solution": ("Solution",),
    "solve.steady": ("solve_steady",),
    "flow.functionals": (
        "drag", "lift", "pressure_drop", "dissipation", "flow_rate", "roughness", "functional",
    ),
    "derivatives.derivative": ("value_and_grad", "linearize"),
    "derivatives.check": ("check",),
    "derivatives.maps": ("sensitivity",),
    "derivatives.accuracy": ("error_estimate",),
    "flow.profiles": ("nodes", "parabola"),
    "design.study": ("Study", "Constraint"),
    "design.optimization": ("optimize",),
    "plots.plot": ("plot",),
    "errors": ("InputError", "NotConverged"),
    "flow": ("functionals",),  # a module: all of them
}  # fmt: skip
_HOME = {name: module for module, names in _NAMES.items() for name in names}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fluidgrad' has no attribute {name!r}")
    home = f"fluidgrad.{_HOME[name]}"
    return import_module(f"{home}.{name}") if name == "functionals" else getattr(import_module(home), name)


def __dir__() -> list[str]:
    return __all__
