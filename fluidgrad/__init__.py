"""fluidgrad: the derivative of a flow.

A finite-volume simulator of incompressible flow on body-fitted meshes, differentiable in everything it is given. The
numerics are float64: importing any of them turns on ``jax_enable_x64`` for the process. Names are loaded when first
used, so that ``import fluidgrad`` and ``fluidgrad --help`` do not wait for JAX.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_NAMES = {
    "curves": ("circle", "ellipse", "fourier_curve"),
    "splines": ("closed_curve", "spline"),
    "aerofoils": ("aerofoil",),
    "blocks": ("box", "o_grid", "extrude"),
    "channels": ("channel",),
    "ducts": ("duct",),
    "steps": ("step",),
    "meshfile": ("read_mesh",),
    "mesh": ("Mesh",),
    "motion": ("deform",),
    "boundary": ("Inflow", "Wall", "Outflow", "PressureInlet", "Symmetry", "FarField", "Periodic"),
    "flow": ("Flow", "Solution"),
    "steady": ("solve_steady",),
    "functionals": (
        "drag", "lift", "pressure_drop", "dissipation", "flow_rate", "roughness", "functional",
    ),
    "derivative": ("value_and_grad", "linearize", "check"),
    "maps": ("sensitivity",),
    "accuracy": ("error_estimate",),
    "profiles": ("nodes", "parabola"),
    "study": ("Study", "Constraint"),
    "optimization": ("optimize",),
    "errors": ("InputError", "NotConverged"),
}  # fmt: skip
_HOME = {name: module for module, names in _NAMES.items() for name in names} | {"functionals": ""}  # a module: all of them
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fluidgrad' has no attribute {name!r}")
    return getattr(import_module(f"fluidgrad.{_HOME[name]}"), name) if _HOME[name] else import_module(f"fluidgrad.{name}")


def __dir__() -> list[str]:
    return __all__
