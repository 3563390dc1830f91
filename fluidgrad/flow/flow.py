"""A flow: a mesh and everything that happens on it.

A :class:`Flow` is a pytree. Its leaves are the traced numbers of the problem (points, viscosity, boundary values,
porosity, force), so a derivative with respect to a flow is a flow; its structure (topology, boundary kinds, scheme) is
static, so changing a value never recompiles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from fluidgrad.errors import InputError
from fluidgrad.flow.boundary import Boundary, Conditions, FarField, Periodic, Wall, join, passing, prescribe
from fluidgrad.iteration import traced
from fluidgrad.mesh.geometry import Geometry
from fluidgrad.mesh.mesh import Mesh, measure
from fluidgrad.mesh.topology import Topology
from fluidgrad.programs import compiled

SCHEMES = ("central", "upwind")
THROUGH = 0.01  # of the velocity of a wall that turns about its own center, through it, is too much


@jax.tree_util.register_pytree_with_keys_class
@dataclass(frozen=True, init=False)
class Flow:
    """Incompressible flow of constant density (taken as 1) through a mesh:

        div(u u) = -grad p + div(nu (grad u + grad u^T)) - alpha u + f,   div u = 0.

    Args:
        mesh: where it flows.
        viscosity: kinematic, nu > 0 [L^2/T].
        porosity: resistance alpha >= 0 of a porous medium, a number or ``(cells,)`` [1/T].
        force: body force f, ``(dim,)`` or ``(cells, dim)`` [L/T^2].
        convection: False drops div(u u): Stokes flow.
        scheme: of convection: "central" (second order) or "upwind" (second order, limited: robust on coarse meshes).
        reference: velocity and length for coefficients, and an area, length^(dim-1) by default [L/T, L, L^(dim-1)].
        **patches: one boundary kind for each patch of the mesh, by its name; ``boundary=`` takes them as a mapping (for
            names that are no Python names, and for ``dataclasses.replace``).

    All numbers take the type of the mesh's points. In float32 the residual, its derivatives and its Jacobian are float32
    throughout; a solve needs float64.

    Raises:
        InputError: a patch without a condition or a condition without a patch; a negative viscosity or porosity; arrays
            of the wrong length; NaN; inflows that do not sum to zero where nothing can flow out.
    """

    mesh: Mesh
    viscosity: ArrayLike
    porosity: ArrayLike
    force: ArrayLike
    boundary: Mapping[str, Boundary]
    reference: tuple[ArrayLike, ...] | None
    convection: bool
    scheme: str

    def __init__(
        self,
        mesh: Mesh,
        *,
        viscosity: ArrayLike,
        porosity: ArrayLike = 0.0,
        force: ArrayLike = 0.0,
        convection: bool = True,
        scheme: str = "central",
        reference: tuple[ArrayLike, ...] | None = None,
        boundary: Mapping[str, Boundary] | None = None,
        **patches: Boundary,
    ):
        boundary = {**(boundary or {}), **patches}
        as_float = partial(jnp.asarray, dtype=mesh.points.dtype)
        kinds = {k: jax.tree.map(as_float, v, is_leaf=lambda x: isinstance(x, tuple | list)) for k, v in sorted(boundary.items())}
        reference = None if reference is None else tuple(as_float(r) for r in reference)
        values = (mesh, as_float(viscosity), as_float(porosity), as_float(force), kinds, reference, bool(convection), scheme)
        self._set(*values)
        check_flow(self)

    def _set(self, *values: Any) -> None:
        for name, value in zip(self.__dataclass_fields__, values, strict=True):
            object.__setattr__(self, name, value)

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        data = [
            (jax.tree_util.GetAttrKey(k), getattr(self, k)) for k in ("mesh", "viscosity", "porosity", "force", "boundary", "reference")
        ]
        return data, (self.convection, self.scheme)

    @classmethod
    def tree_unflatten(cls, meta: Any, data: Any) -> Flow:
        flow = object.__new__(cls)
        flow._set(*data, *meta)
        return flow

    @property
    def closed(self) -> bool:
        """Nothing sets the level of the pressure: every boundary prescribes its normal velocity."""
        return _closed(self.boundary)

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The periodic patches, two by two."""
        found: dict[str, str] = {}
        for name, kind in self.boundary.items():
            if isinstance(kind, Periodic) and kind.other not in found:
                found[name] = kind.other
        return tuple(found.items())

    @property
    def periodic(self) -> dict[str, slice]:
        """For the first patch of each pair the faces that they became, among the interior ones of the joined mesh."""
        return joined_faces(self.mesh.topology, self.pairs)

    @property
    def patches(self) -> dict[str, slice]:
        """The patches that are not periodic, and their faces in the joined mesh."""
        t, faces = self.mesh.topology, {}
        start = t.n_interior + sum(where.stop - where.start for where in self.periodic.values())
        for name, (low, high) in t.patches.items():
            if not any(name in pair for pair in self.pairs):
                faces[name] = slice(start, start := start + high - low)
        return faces

    @property
    def joined(self) -> Mesh:
        """The mesh with periodic patches joined."""
        return replace(self.mesh, topology=self.mesh.topology.kept(join_all, self.pairs))

    @property
    def gives(self) -> tuple[str, ...]:
        """What each patch of the joined mesh gives to gradients (see ``boundary.py``)."""
        return tuple(self.boundary[name].gives for name in self.patches)

    @property
    def walls(self) -> tuple[str, ...]:
        """The patches that are walls."""
        return tuple(name for name, kind in self.boundary.items() if isinstance(kind, Wall))

    @property
    def driven(self) -> tuple[str, ...]:
        """Periodic patches whose pressure drop is an unknown, found from their flow rate."""
        return tuple(k for k in self.periodic if self.boundary[k].flow_rate is not None)  # pyright: ignore

    @property
    def n_extra(self) -> int:
        """Scalar unknowns beside the cells': the source that closes a closed domain, and unknown pressure drops."""
        return int(self.closed) + len(self.driven)

    @property
    def n_unknowns(self) -> int:
        return self.mesh.n_cells * (self.mesh.dim + 1) + self.n_extra

    def conditions(self, geometry: Geometry) -> Conditions:
        """What the boundary faces prescribe, in the order of the joined mesh's boundary faces."""
        patches = tuple((name, faces.start, faces.stop) for name, faces in self.patches.items())
        return _conditions({name: self.boundary[name] for name, *_ in patches}, geometry, patches)


@compiled(static=(2,))
def _conditions(boundary: dict[str, Boundary], geometry: Geometry, patches: tuple[tuple[str, int, int], ...]) -> Conditions:
    rows = [boundary[name].conditions(geometry.S[a:b], geometry.x_face[a:b]) for name, a, b in patches]  # pyright: ignore
    if not rows:
        return prescribe(geometry.S[:0])
    c = jax.tree.map(lambda *a: jnp.concatenate(a), *rows)
    if _closed(boundary):
        # What flows in must flow out, to round-off: spread the difference over the faces that let fluid through.
        S = geometry.S[patches[0][1] :]
        through = jnp.sum(c.velocity * S, -1) * c.fix_t
        area = jnp.sqrt(jnp.sum(S * S, -1))
        open_ = jnp.concatenate([jnp.full(b - a, float(not _is_wall(boundary[name])), S.dtype) for name, a, b in patches])
        open_ = open_ if any(not _is_wall(kind) for kind in boundary.values()) else jnp.ones_like(area)
        excess = jnp.sum(through) / jnp.sum(area * open_)
        c = replace(c, velocity=c.velocity - (excess * open_ / area)[:, None] * S)
    return c


def _closed(boundary: Mapping[str, Boundary]) -> bool:
    return all(kind.gives in ("velocity", "mirror", "nothing") for kind in boundary.values())


def joined_faces(topology: Topology, pairs: tuple[tuple[str, str], ...]) -> dict[str, slice]:
    """Which interior faces the first patch of each periodic pair becomes."""
    faces, start = {}, topology.n_interior
    for name, _ in pairs:
        low, high = topology.patches[name]
        faces[name] = slice(start, start := start + high - low)
    return faces


def join_all(topology: Topology, pairs: tuple[tuple[str, str], ...]) -> Topology:
    """The topology with pairs of periodic patches joined, one after the other."""
    for patch, other in pairs:
        topology = join(topology, patch, other)
    return topology


def _is_wall(kind: Boundary) -> bool:
    return type(kind).__name__ in ("Wall", "Symmetry")


def check_flow(flow: Flow) -> None:
    """Refuse what cannot be solved, as far as the numbers are known (traced numbers are left alone)."""
    names = set(flow.mesh.patches)
    paired = {k.other: name for name, k in flow.boundary.items() if isinstance(k, Periodic)}
    if missing := sorted(names - set(flow.boundary) - set(paired)):
        raise InputError(f"patch {missing[0]!r} has no boundary condition", accepted=f"the mesh has patches {', '.join(sorted(names))}")
    if unknown := sorted((set(flow.boundary) | set(paired)) - names):
        raise InputError(f"the mesh has no patch {unknown[0]!r}", accepted=f"its patches are {', '.join(sorted(names))}")
    for name, other in paired.items():
        if name == other:
            raise InputError(f"patch {name!r} is periodic with itself", accepted="the patch that it continues at")
        if name in flow.boundary:
            given = f"patch {name!r} has a condition of its own, but {other!r} is periodic with it"
            raise InputError(given, accepted="give one of the two")
    if flow.scheme not in SCHEMES:
        raise InputError(f"unknown convection scheme {flow.scheme!r}", accepted=f"one of {', '.join(SCHEMES)}")

    def known(x: Any) -> np.ndarray | None:
        return None if traced(x) else np.asarray(x)

    for what, value in (("viscosity", flow.viscosity), ("porosity", flow.porosity), ("force", flow.force)):
        v = known(value)
        if v is not None and not np.isfinite(v).all():
            raise InputError(f"{what} has a value that is not finite")
    if (v := known(flow.viscosity)) is not None and not (v.ndim == 0 and v > 0):
        raise InputError(f"viscosity must be one positive number, got {v}")
    if (v := known(flow.porosity)) is not None and (v < 0).any():
        raise InputError(f"porosity must not be negative, got {v.min():.3g}")
    n, dim = flow.mesh.n_cells, flow.mesh.dim
    if jnp.shape(flow.porosity) not in ((), (n,)):
        raise InputError(f"porosity has shape {jnp.shape(flow.porosity)}", accepted=f"one number, or one for each of {n} cells")
    if jnp.shape(flow.force) not in ((), (dim,), (n, dim)):
        raise InputError(f"force has shape {jnp.shape(flow.force)}", accepted=f"({dim},) or ({n}, {dim})")
    if flow.reference is not None and len(flow.reference) not in (2, 3):
        raise InputError(f"a reference of {len(flow.reference)} numbers", accepted="velocity and length, or velocity, length and area")
    for name, kind in flow.boundary.items():
        if isinstance(kind, FarField) and (v := known(kind.velocity)) is not None and not v.any():
            raise InputError(f"the stream of patch {name!r} is at rest", accepted="a velocity, which says where fluid comes in")
        lo, hi = flow.mesh.topology.patches[name]
        for key, value in vars(kind).items():
            if isinstance(value, str) or value is None:
                continue
            v = known(value)
            if v is not None and not np.isfinite(v).all():
                raise InputError(f"{key} of patch {name!r} has a value that is not finite")
            allowed = {
                "speed": ((), (hi - lo,), (1, dim), (hi - lo, dim)),
                "velocity": ((dim,),) if type(kind).__name__ == "FarField" else ((), (dim,), (hi - lo, dim)),
                "rotation": ((),) if dim == 2 else ((), (3,)),
                "center": ((), (dim,)),
                "flow_rate": ((),),
                "pressure_drop": ((),),
            }.get(key, ((), (hi - lo,)))
            if jnp.shape(value) not in allowed:
                shapes = " or ".join(str(s) for s in allowed)
                raise InputError(
                    f"{key} of patch {name!r} has shape {jnp.shape(value)}", accepted=f"{shapes}: the patch has {hi - lo} faces"
                )
        if isinstance(kind, Wall) and kind.center is None and kind.turns and not traced(flow.mesh):
            if (share := float(passing(flow.mesh, name, replace(kind, velocity=0.0)))) > THROUGH:
                raise InputError(
                    f"patch {name!r} is not round, and turning about its middle would carry fluid through it ({100 * share:.3g} % of the "
                    "velocity)",
                    accepted="give the center that it turns about, if that is meant",
                )
    if flow.closed and not traced(flow):
        _check_net_inflow(flow)


def _check_net_inflow(flow: Flow) -> None:
    open_ = tuple(k for k in flow.patches if not _is_wall(flow.boundary[k]))
    if not open_:
        return
    through = {k: np.asarray(F) for k, F in zip(open_, _prescribed(flow, open_), strict=True)}
    gross, net = (sum(float(np.sum(size(F))) for F in through.values()) for size in (np.abs, np.positive))
    if gross and abs(net) > 1e-2 * gross:
        listed = ", ".join(f"{k} {-F.sum():.4g}" for k, F in through.items())
        raise InputError(
            f"nothing can flow out, but the inflows do not sum to zero: {listed}",
            accepted="make a patch an outflow, or balance the inflows",
        )


@compiled(static=(1,))
def _prescribed(flow: Flow, patches: tuple[str, ...]) -> list[Array]:
    """What is to flow out through each face of patches with a given velocity, ``(faces,)`` each."""
    g, through = measure(flow.mesh), []
    for k in patches:
        S, x = g.S[(faces := flow.mesh.topology.faces_of(k))], g.x_face[faces]
        through.append(jnp.sum(flow.boundary[k].conditions(S, x).velocity * S, axis=1))  # pyright: ignore
    return through
