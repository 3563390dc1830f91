"""Control boxes: a lattice of control points moves what is in a box, of any mesh.

Free-form deformation (Sederberg & Parry 1986): displacements of the control points are blended by tensor products of
B-splines, in any dimension; where they move patches alone, the inside follows (``motion.py``). Topology never changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from fluidgrad.errors import InputError
from fluidgrad.iteration import traced
from fluidgrad.mesh.geometry import Points
from fluidgrad.mesh.mesh import Mesh
from fluidgrad.mesh.motion import followed
from fluidgrad.mesh.quality import check_valid
from fluidgrad.mesh.topology import Topology
from fluidgrad.programs import compiled
from fluidgrad.shapes.curves import Numbers, number
from fluidgrad.shapes.splines import DEGREE, along

FACES = ("left", "right", "bottom", "top", "front", "back")  # of a box: the ends of its axes, in order
EDGE = 1e-9  # of the box: what lies on its faces to round-off lies in it


def deform(
    mesh: Mesh,
    lower: Numbers,
    upper: Numbers,
    displacements: Numbers,
    patches: str | Sequence[str] | None = None,
    mirrors: Sequence[str] = (),
) -> Mesh:
    """The mesh with the points in a box moved by a lattice of control points.

    The displacement at a place is sum_ijk N_i(x) N_j(y) N_k(z) d_ijk, with clamped uniform B-splines of degree 3 (of one
    less than the number of control points, if there are no more than 3: the polynomials of Bernstein). A control point so
    moves only what is near to it, however many there are, the places of :func:`~fluidgrad.mesh.control.control_points` move as their
    control points do where those move linearly, and what is at a face of the box moves by the control points of that face alone.

    Points outside stay. For the displacement to be continuous, the control points of a face of the box that cuts through
    what moves must stay.

    Args:
        mesh: 2D or 3D; its patches and topology stay.
        lower, upper: two opposite corners of the box [L], ``(dim,)``.
        displacements: of the control points [L], ``(n0, n1, dim)`` or ``(n0, n1, n2, dim)``, 2 or more along every axis.
        patches: move the points of these patches alone, and let the inside follow; the other patches
            stay exactly, with the points that they share with these. By default all points in the box move.
        mirrors: faces of the box (left, right, bottom, top, front, back: the ends of x, y, z) that lie in planes of symmetry. The
            lattice goes on behind them as its mirror image, so what is in such a plane stays in it, and stays smooth across it.

    Raises:
        InputError: a box that misses the mesh or the patches; a displacement that would jump, with the place; a mesh that
            is tangled by it, with the place. (While numbers are traced only shapes and names can be refused.)

    Differentiable in ``displacements``, ``lower``, ``upper`` and the mesh's points.
    """
    lower, upper, d = number(lower), number(upper), number(displacements)
    if lower.shape != (mesh.dim,) or upper.shape != (mesh.dim,):
        raise InputError(f"a control box from {lower} to {upper}", accepted=f"{mesh.dim} numbers each: the mesh is in {mesh.dim}D")
    if d.ndim != mesh.dim + 1 or d.shape[-1] != mesh.dim or min(d.shape[:-1]) < 2:
        lattice = ", ".join(f"n{axis}" for axis in range(mesh.dim))
        accepted = f"({lattice}, {mesh.dim}), 2 control points or more along every axis"
        raise InputError(f"displacements of shape {d.shape}", accepted)
    if not traced(d):
        if not np.isfinite(d).all():
            raise InputError("a displacement of a control point is not finite", accepted="finite numbers")
        check_box(mesh, lower, upper, np.any(np.asarray(d) != 0, -1), patches, mirrors)
    lower, upper, d = mirrored(lower, upper, d, mirrors)
    found = Mesh(_deformed(mesh, lower, upper, d, None if patches is None else tuple(_names(patches))), mesh.topology, mesh.recipe)
    if not traced(found.points):
        check_valid(found.points, found.topology)
    return found


@compiled(static=(4,))
def _deformed(mesh: Mesh, lower: Array, upper: Array, d: Float[Array, "*counts dim"], patches: tuple[str, ...] | None) -> Points:
    movable = mesh.topology.of(_movable, patches)
    s = (mesh.points[movable] - lower) / (upper - lower)
    moved = jnp.zeros_like(mesh.points).at[movable].set(jnp.where(_has(s)[:, None], _blend(s, d), 0.0))
    return mesh.points + (moved if patches is None else followed(mesh, moved))


def control_points(lower: Numbers, upper: Numbers, counts: Sequence[int]) -> Float[np.ndarray, "*counts dim"]:
    """Where the control points of a box are at rest: at the means of the knots of their splines (Greville's abscissae), so
    that the box deforms linearly when they do. Equally spaced for up to 4."""
    lower, upper = np.asarray(lower, float), np.asarray(upper, float)
    rest = [np.array([_knots(n)[i + 1 : i + 1 + _degree(n)].mean() for i in range(n)]) for n in counts]
    return lower + (upper - lower) * np.stack(np.meshgrid(*rest, indexing="ij"), -1)


def mirrored(lower: Any, upper: Any, d: Any, mirrors: Sequence[str]) -> tuple[Any, Any, Any]:
    """A box and its lattice with the mirror images of both behind the faces that are mirrors. Of a lattice without directions,
    ``(*counts,)``, the image is the same.

    Raises:
        InputError: a face that the box does not have, or mirrors on opposite faces.
    """
    dim = len(lower)
    for face in mirrors:
        if face not in FACES[: 2 * dim] or FACES[FACES.index(face) ^ 1] in mirrors or list(mirrors).count(face) > 1:
            known = ", ".join(FACES[: 2 * dim])
            raise InputError(f"{face!r} as a mirror of a control box", accepted=f"faces of it, no two of them opposite: {known}")
        axis, last = divmod(FACES.index(face), 2)
        image = jnp.flip(d, axis)
        image = image.at[..., axis].multiply(-1) if d.ndim == dim + 1 else image
        d = jnp.concatenate([d, image] if last else [image, d], axis)
        size, along = upper - lower, np.arange(dim) == axis
        lower, upper = (lower, upper + size * along) if last else (lower - size * along, upper)
    return lower, upper, d


def check_box(
    mesh: Mesh,
    lower: Numbers,
    upper: Numbers,
    free: Bool[np.ndarray, "*counts"],
    patches: str | Sequence[str] | None,
    mirrors: Sequence[str] = (),
) -> None:
    """Refuse a control box that moves nothing, or that would tear the mesh at its faces or between patches.

    Args:
        free: which control points may move.
        mirrors: as for :func:`deform`.

    Nothing is refused while the box or the mesh is traced.
    """
    movable = _movable(mesh.topology, patches)
    if traced(mesh.points, lower, upper):
        return
    with jax.ensure_compile_time_eval():
        low, high, whole = mirrored(np.asarray(lower, float), np.asarray(upper, float), jnp.asarray(free), mirrors)
        _refuse(mesh, low, high, np.asarray(whole), patches, movable)


def _refuse(
    mesh: Mesh,
    lower: Float[np.ndarray, " dim"],
    upper: Float[np.ndarray, " dim"],
    free: Bool[np.ndarray, "*counts"],
    patches: str | Sequence[str] | None,
    movable: Int[np.ndarray, " some"],
) -> None:
    x = np.asarray(mesh.points)
    if not (upper > lower).all():
        raise InputError(f"a control box from {lower} to {upper}", accepted="upper above lower along every axis")
    what = "the mesh" if patches is None else f"patch {', '.join(map(repr, _names(patches)))}"
    held = np.setdiff1d(_points_of(mesh.topology, patches), movable)
    s = (x - lower) / (upper - lower)
    inside = np.asarray(_has(s))
    if not inside[movable].any():
        low, high = x[movable].min(0), x[movable].max(0)
        raise InputError(
            f"the control box from {_place(lower)} to {_place(upper)} misses {what}",
            accepted=f"a box that holds points of it: it reaches from {_place(low)} to {_place(high)}",
        )
    ends = _edges(mesh.topology, patches)
    out, into = ends[inside[ends[:, 0]] != inside[ends[:, 1]]].T
    out, into = np.where(inside[out], into, out), np.where(inside[out], out, into)
    beyond = np.maximum(s[out] - 1, -s[out]) / np.maximum(np.abs(s[out] - s[into]), 1e-300)
    share = np.max(beyond, axis=1, initial=0.0)  # of the edge that is outside
    crossing = s[out] + np.minimum(share, 1.0)[:, None] * (s[into] - s[out])
    torn = ((crossing, f"a face of the control box cuts through {what}"), (s[held[inside[held]]], f"{what} meets a patch that stays,"))
    for seam, reason in torn:
        if not len(seam):
            continue
        jump = np.asarray(_blend(jnp.asarray(np.clip(seam, 0, 1)), jnp.asarray(free, float)[..., None]))[:, 0]
        if jump.max() > EDGE:
            at = seam[jump.argmax()]
            raise InputError(
                f"{reason} near {_place(lower + at * (upper - lower))}, where control points may move: it would tear",
                accepted=f"control points of the {_face(at)} face that stay, or a box or patches that end elsewhere",
            )


def _face(at: Float[np.ndarray, " dim"]) -> str:
    """The face of the box that is nearest to a place in its own coordinates."""
    axis, side = np.unravel_index(np.argmin(np.abs(at[:, None] - [0, 1])), (len(at), 2))
    return FACES[2 * axis + side]


def _place(x: Float[np.ndarray, " dim"]) -> str:
    return f"({', '.join(f'{v:.4g}' for v in x)})"


def _names(patches: str | Sequence[str]) -> list[str]:
    return [patches] if isinstance(patches, str) else list(patches)


def _points_of(t: Topology, patches: str | Sequence[str] | None) -> Int[np.ndarray, " some"]:
    """The points of patches, or all."""
    if patches is None:
        return np.arange(len(t.nominal))
    if not _names(patches):
        raise InputError("no patches to move", accepted="names of patches, or none of the list: all points in the box")
    return np.unique(np.concatenate([t.face_points[t.faces_of(p)].ravel() for p in _names(patches)]))


def _movable(t: Topology, patches: str | Sequence[str] | None) -> Int[np.ndarray, " some"]:
    """The points that a control box may move: those of patches that no other patch has."""
    points = _points_of(t, patches)
    others = [] if patches is None else [p for p in t.patches if p not in _names(patches)]
    return np.setdiff1d(points, _points_of(t, others)) if others else points


def _edges(t: Topology, patches: str | Sequence[str] | None) -> Int[np.ndarray, "edges 2"]:
    """The edges of the mesh, or of patches, by their ends."""
    corners = t.face_points if patches is None else np.concatenate([t.face_points[t.faces_of(p)] for p in _names(patches)])
    sides = corners if t.dim == 2 else np.stack([corners, np.roll(corners, -1, 1)], -1).reshape(-1, 2)
    return np.unique(np.sort(sides[sides[:, 0] != sides[:, 1]], 1), axis=0)


def _has(s: Float[ArrayLike, "n dim"]) -> Bool[Array, " n"]:
    """Whether a box has places, given in its own coordinates from 0 to 1."""
    return jnp.all((jnp.asarray(s) >= -EDGE) & (jnp.asarray(s) <= 1 + EDGE), -1)


@jax.jit
def _blend(s: Float[Array, "n dim"], d: Float[Array, "*counts k"]) -> Float[Array, "n k"]:
    """The lattice's values at places in the box's own coordinates, along one axis after the other."""
    found = jnp.einsum("pa,a...->p...", along(jnp.eye(d.shape[0]), s[:, 0], "open"), d)
    for axis in range(1, s.shape[1]):
        found = jnp.einsum("pa,pa...->p...", along(jnp.eye(d.shape[axis]), s[:, axis], "open"), found)
    return found


def _degree(n: int) -> int:
    return min(DEGREE, n - 1)


def _knots(n: int) -> Float[np.ndarray, " knots"]:
    """Of n clamped uniform B-splines on [0, 1]."""
    k = _degree(n)
    return np.concatenate([np.zeros(k), np.linspace(0, 1, n - k + 1), np.ones(k)])
