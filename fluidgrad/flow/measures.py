"""What a functional is, and those that measure the geometry alone: what a shape must keep while it changes.

A functional is a number that a solution has, ``Solution -> scalar``. Those here do not look at the flow: their gradients
cost no adjoint solve. With S out of the fluid and so into a body, a body's area (its volume in 3D) and its centroid are

    A = -1/dim sum_f x_f . S_f,     A x_c = -1/(dim + 1) sum_f x_f (x_f . S_f),

exact for the polygon or polyhedron that the mesh has in its place. Of a body cut by planes normal to axes, at the end of the
fluid, as planes of symmetry are, A is the mean of -sum_f x_k S_k over the other axes k, to which the planes add nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, ArrayLike, Bool, Float, Int

from fluidgrad.errors import InputError
from fluidgrad.iteration import traced
from fluidgrad.mesh.mesh import Mesh, face_pieces, lines, measure
from fluidgrad.mesh.quality import corner_triples
from fluidgrad.mesh.topology import Topology, corner_shares

if TYPE_CHECKING:
    from fluidgrad.flow.solution import Solution


REGISTRY: dict[str, Functional] = {}


def _is_own(function: Callable[..., Array]) -> bool:
    return (function.__module__ or "").partition(".")[0] == "fluidgrad"


@dataclass(frozen=True, eq=False)
class Functional:
    """A named functional: called with a solution and its arguments, of which numbers may be traced."""

    function: Callable[..., Array]
    name: str
    units: str
    undefined: str = ""

    @property
    def __doc__(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.function.__doc__

    def __call__(self, solution: Solution, *args: Any, **kwargs: Any) -> Array:
        value = self.function(solution, *args, **kwargs)
        if self.undefined and not traced(value) and jnp.isnan(value):
            given = [*map(str, args), *(f"{k}={v}" for k, v in kwargs.items())]
            raise InputError(f"there is no {self.name}({', '.join(given)}) in this flow", accepted=self.undefined)
        return value


def functional(units: str, undefined: str = "") -> Callable[[Callable[..., Array]], Functional]:
    """Make a function ``(solution, **arguments) -> scalar`` a functional that configs can use by its name.

    Args:
        units: in powers of length L and time T, e.g. "L^3 T^-2"; "1" if it has none. For reports and plots.
        undefined: of one that not every flow has, and that is NaN there: why, and what would help. It is said then.

    Raises:
        InputError: no units; the name of one of fluidgrad's own.
    """

    if not isinstance(units, str):
        raise InputError("a functional without its units", accepted='@functional(units="L^3 T^-2") above the function')

    def register(function: Callable[..., Array]) -> Functional:
        known = REGISTRY.get(function.__name__)  # pyright: ignore[reportFunctionMemberAccess]
        if known is not None and _is_own(known.function) and not _is_own(function):
            given = f"a functional {known.name!r}, which is the name of fluidgrad's own {known.function.__module__}.{known.name}"
            raise InputError(given, accepted=f"another name, such as {known.name}_of_mine")
        f = Functional(function, function.__name__, units, undefined)  # pyright: ignore[reportFunctionMemberAccess]
        REGISTRY[f.name] = f
        return f

    return register


@functional("L^2")
def area(solution: Solution, patch: str = "") -> Array:
    """Area (in 3D volume) of the body whose surface is a patch; without a patch, of the fluid. Of a body that planes of symmetry
    cut, the part between them."""
    mesh = solution.flow.mesh
    if not patch:
        return jnp.sum(measure(mesh).V)
    along = mesh.topology.of(_along, patch)
    x, S = face_pieces(mesh, patch)
    return -jnp.sum(x * S * along) / jnp.sum(along)


@functional("L")
def centroid(solution: Solution, patch: str, axis: str = "x") -> Array:
    """Coordinate ``axis`` ("x", "y" or "z") of the centroid of the body whose surface is a patch."""
    mesh = solution.flow.mesh
    axes = "xyz"[: mesh.dim]
    if axis not in axes:
        raise InputError(f"a centroid along {axis!r}", accepted=f"one of {', '.join(axes)}")
    x, S = _surface(mesh, patch)
    height = jnp.sum(x * S, -1)
    return mesh.dim * jnp.sum(x[..., axes.index(axis)] * height) / ((mesh.dim + 1) * jnp.sum(height))


def _surface(mesh: Mesh, patch: str) -> tuple[Array, Array]:
    """The pieces of a patch that encloses a body."""
    mesh.topology.of(_must_enclose, patch)
    return face_pieces(mesh, patch)


def _must_enclose(t: Topology, patch: str) -> None:
    if not t.kept(_free_axes, patch).all():
        raise InputError(f"patch {patch!r} does not enclose a body", accepted="the patch of a closed surface, or no patch: the fluid")


def _along(t: Topology, patch: str) -> Float[np.ndarray, " dim"]:
    """1 for the axes along which the area of a body is summed, 0 for others."""
    if not (free := t.kept(_free_axes, patch)).any():
        raise InputError(
            f"patch {patch!r} does not enclose a body",
            accepted="the patch of a surface that is closed, or open at planes of symmetry only, or no patch: the fluid",
        )
    return free.astype(float)


def encloses(t: Topology, patch: str) -> bool:
    """Whether a patch is the surface of a body in the fluid, or of the part of one between planes, and not round the fluid."""
    x, free = t.nominal[np.unique(t.face_points[t.faces_of(patch)])], t.kept(_free_axes, patch)
    inside = (x.min(0) > t.nominal.min(0)) & (x.max(0) < t.nominal.max(0))
    return bool(free.any() and inside[free].all())


def _free_axes(t: Topology, patch: str) -> Bool[np.ndarray, " dim"]:
    """The axes normal to which no plane cuts the body of a patch: all, where each corner (2D) or edge (3D) belongs to two of its
    faces; none, where one does not, and is not at an end of the fluid."""
    corners = t.face_points[t.faces_of(patch)]
    sides = corners[..., None] if t.dim == 2 else np.sort(np.stack([corners, np.roll(corners, -1, 1)], -1), -1)
    sides = sides.reshape(-1, t.dim - 1)
    if t.dim == 3:
        sides = sides[sides[:, 0] != sides[:, 1]]  # padding
    sides, count = np.unique(sides, axis=0, return_counts=True)
    near = 1e-9 * np.ptp(t.nominal, axis=0).max()
    rim = t.nominal[sides[count != 2]]  # (sides, points of each, dim)
    at_end = [(np.abs(rim - end) <= near).all(1) for end in (t.nominal.min(0), t.nominal.max(0))]
    at_plane = at_end[0] | at_end[1]
    return ~at_plane.any(0) & at_plane.any(1).all()


@functional("L")
def thickness(solution: Solution, patch: str, at: ArrayLike) -> Array:
    """Thickness of a 2D body across its chord, at the fraction ``at`` (between 0 and 1) of the chord from its front: the
    distance between the outermost points in which the line across meets the patch.

    The chord is between the two points of the patch that are farthest apart, its front the one with the smaller x: nothing
    changes when the body is turned, until its front is behind. The derivative is one-sided where another pair becomes the
    farthest, and where the line meets a point of the patch.
    """
    pieces = _pieces(solution.flow.mesh, patch, "thickness")
    if len(pieces) > 1 or not pieces[0][1]:
        raise InputError(f"the thickness of {patch!r}, which is not one closed line", accepted="the patch of one body")
    x = pieces[0][0][:-2]
    apart = jnp.sum((x[:, None] - x[None]) ** 2, -1)
    a, b = jnp.unravel_index(jnp.argmax(apart), apart.shape)
    front, back = (jnp.where(x[a, 0] <= x[b, 0], *ends) for ends in ((x[a], x[b]), (x[b], x[a])))
    chord = back - front
    length = jnp.sqrt(jnp.sum(chord**2))
    along = (x - front) @ chord / length**2 - jnp.asarray(at)
    across = ((x - front) @ jnp.stack([-chord[1], chord[0]])) / length
    ahead, up = jnp.roll(along, -1), jnp.roll(across, -1)
    met = (along <= 0) != (ahead <= 0)
    share = along / jnp.where(met, along - ahead, 1.0)
    height = across + share * (up - across)
    return jnp.max(jnp.where(met, height, -jnp.inf)) - jnp.min(jnp.where(met, height, jnp.inf))


@functional("L^-1")
def curvature(solution: Solution, patch: str, p: ArrayLike = 8.0) -> Array:
    """Mean of order ``p`` (2 or more) of the curvature along a 2D patch, as a smooth stand-in for its largest:
    (sum_i l_i |k_i|^p / sum_i l_i)^(1/p), with k_i = angle_i / l_i at a point where two faces meet at an angle, l_i half
    their length together. Half as many points at a corner halve its curvature: it is a length of the mesh there."""
    power = total = jnp.zeros(())
    for x, _ in _pieces(solution.flow.mesh, patch, "curvature"):
        side = x[1:] - x[:-1]
        length = jnp.sqrt(jnp.sum(side**2, -1))
        turn = jnp.arctan2(side[:-1, 0] * side[1:, 1] - side[:-1, 1] * side[1:, 0], jnp.sum(side[:-1] * side[1:], -1))
        here = (length[:-1] + length[1:]) / 2
        power += jnp.sum(here * ((turn / here) ** 2) ** (jnp.asarray(p) / 2))
        total += jnp.sum(here)
    curved = power > 0
    return jnp.where(curved, (jnp.where(curved, power, 1.0) / total) ** (1 / jnp.asarray(p)), 0.0)


def _pieces(mesh: Mesh, patch: str, name: str) -> list[tuple[Array, bool]]:
    """The points along each piece of a 2D patch, and whether it is closed: then with the first two once more at the end."""
    if mesh.dim != 2:
        raise InputError(f"the {name} of a patch in 3D", accepted="a 2D mesh")
    found = []
    for line in mesh.topology.of(lines, patch):
        x = mesh.points[line.points]
        found.append((jnp.concatenate([x, x[1:2]]) if line.closed else x, line.closed))
    return found


@functional("1")
def mesh_barrier(solution: Solution) -> Array:
    """How near the mesh is to tangling: the mean over all corners of all cells of -log det J, where the columns of J are
    the unit vectors along the edges that meet there (2D: -log of the sine between them). 0 if all are at right angles, and
    infinite where a cell folds, so that a bound on it, or a little of it in the objective, keeps meshes valid.

    Its derivative is that of a logarithm of a determinant, d(-log det J) = -tr(J^-1 dJ) (Jacobi's formula).
    """
    mesh = solution.flow.mesh
    total, count = jnp.zeros(()), 0
    for corner, ends in mesh.topology.of(_corners):
        e = mesh.points[ends] - mesh.points[corner][:, None]
        e = e / jnp.linalg.norm(e, axis=-1, keepdims=True)
        total -= jnp.sum(jnp.log(jnp.linalg.det(e)))
        count += len(corner)
    return total / count


def _corners(t: Topology) -> list[tuple[np.ndarray, np.ndarray]]:
    """Corners of all cells, and the ends of the edges that meet there, ``(corners, dim)``, in a right-handed order."""
    return [found for kind, loops in t.cells for found in corner_triples(kind, loops, t.dim)]


def wall_product(mesh: Mesh, patches: Sequence[str], length: float) -> tuple[Int[np.ndarray, " own"], sp.csr_matrix]:
    """The points on patches, and the matrix W of an inner product of values there: V.W = int v w + length^2 dv/ds dw/ds ds,
    by linear elements with lumped masses; L2 if the length is 0. In 3D that only.

    Raises:
        InputError: a length in 3D.
    """
    t, x = mesh.topology, np.asarray(mesh.points)
    if length and t.dim == 3:
        raise InputError("an inner product of H1 on surfaces", accepted='"L2", or a flow in 2D')
    faces = np.concatenate([t.face_points[t.faces_of(p)] for p in patches]) if patches else t.face_points[:0]
    own, corner = np.unique(faces, return_inverse=True)
    corner = corner.reshape(faces.shape)
    pieces = [np.asarray(face_pieces(mesh, p)[1]).sum(1) for p in patches]
    area = np.linalg.norm(np.concatenate(pieces), axis=1) if patches else np.zeros(0)
    mass = np.bincount(corner.ravel(), (corner_shares(faces) * area[:, None]).ravel(), len(own))
    a, b = corner[:, 0], corner[:, 1]
    return own, line_product(mass, a, b, np.linalg.norm(x[own[a]] - x[own[b]], axis=1), length)


def line_product(
    mass: Float[np.ndarray, " n"],
    a: Int[np.ndarray, " sides"],
    b: Int[np.ndarray, " sides"],
    distance: Float[np.ndarray, " sides"],
    length: float,
) -> sp.csr_matrix:
    """diag(mass) + length^2 times the stiffness of linear elements between nodes ``a`` and ``b`` at these distances."""
    step = length**2 / distance
    ends = np.concatenate([a, b, a, b]), np.concatenate([a, b, b, a])
    K = sp.coo_matrix((np.concatenate([step, step, -step, -step]), ends), shape=(len(mass),) * 2)
    return sp.csr_matrix(sp.diags(mass) + K)
