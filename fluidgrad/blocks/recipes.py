"""What all generators share: a mesh is made again like another, by what was static about it.

Every generator returns a :class:`~fluidgrad.mesh.mesh.Mesh` whose points are a JAX function of the numbers given, on a
topology that depends on counts and names alone. ``cells`` is the resolution, about the number of cells; ``refine``
multiplies every count and keeps the distribution, so ``refine = 1, 2, 4`` are nested. ``like`` is a mesh made by the
same generator: its counts and distributions are used again, which keeps the topology (and everything compiled for it)
while numbers change, and is needed where numbers are traced.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fluidgrad.errors import InputError
from fluidgrad.iteration import traced
from fluidgrad.mesh.mesh import Mesh, refinement
from fluidgrad.mesh.quality import check_valid


def reuse(like: Mesh, kind: type, refine: int | None) -> Any:
    if not isinstance(like.recipe, kind):
        raise InputError("like is a mesh of another generator", accepted="a mesh made by this one")
    return like.recipe if refine is None else replace(like.recipe, refine=refinement(refine))


def needs_like(generator: str) -> InputError:
    return InputError(
        f"the number of cells of a {generator} cannot follow from traced numbers",
        accepted=f"make one mesh outside jax.grad and jax.jit, and give it as {generator}(..., like=mesh)",
    )


def checked(mesh: Mesh) -> Mesh:
    """The mesh, refused when it is tangled, which only shows where its points are not traced."""
    if not traced(mesh.points):
        check_valid(mesh.points, mesh.topology)
    return mesh
