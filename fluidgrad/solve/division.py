"""What each of several devices has of a flow: a part of its cells, those of others' that these need, and their faces.

A residual needs one exchange, of the values in copied cells. They are two deep: a flux takes the gradients of the cells on both sides,
and a gradient the values in cells around. So each device computes the balances of its own cells with the code that one device would.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from fluidgrad.flow.boundary import on_mirrors
from fluidgrad.flow.layout import Discrete, Faces, Layout, Stencil, stencil
from fluidgrad.iteration import traced
from fluidgrad.linear.jacobian import Places, compact_pattern
from fluidgrad.linear.levels import Tables, rank, tables_of_parts
from fluidgrad.mesh.geometry import Geometry
from fluidgrad.mesh.mesh import Incidence
from fluidgrad.mesh.partition import partition
from fluidgrad.mesh.topology import Topology
from fluidgrad.parts import Part, halo_of

_TABLES = ["cells", "interior", "boundary", "incidence", "value", "mirror", "planes", "part", "places", "levels"]


@partial(jax.tree_util.register_dataclass, data_fields=_TABLES, meta_fields=["m", "drops"])
@dataclass(frozen=True)
class Division:
    """Who has what; each of ``(parts, ...)``.

    Attributes:
        cells: of the whole, those of a part: its own, the copies, and an empty one; the number of all where there is none.
        interior, boundary: of the whole's interior and boundary faces, those of a part, padded by their numbers.
        incidence: of a part's cells and faces.
        value, mirror, planes: of its stencil and layout.
        part: what its residual needs of others.
        places, levels: of its Jacobian, and of its cycle.
        m: unknowns a cell; static.
        drops: which interior faces of a part are those of each pair of periodic patches; static.
    """

    cells: Int[Array, "parts n"]
    interior: Int[Array, "parts n"]
    boundary: Int[Array, "parts n"]
    incidence: Incidence
    value: Int[Array, "parts n slots"]
    mirror: Array
    planes: Array
    part: Part
    places: Places
    levels: Tables
    m: int
    drops: tuple[tuple[int, int], ...]


def division(t: Topology, gives: tuple[str, ...], drops: tuple[tuple[int, int], ...], n: int) -> Division:
    """How a topology, its periodic patches joined, lies on n devices; ``gives`` is what each patch gives, and ``drops`` which interior
    faces were periodic ones."""
    s, p, part = t.kept(stencil, gives), t.kept(compact_pattern), partition(t.nominal_centres, n)
    c = _Cells(t, np.asarray(s.cell), part, n)
    f = _Faces(t, c, part, drops)
    mirror = f.at_boundary(np.tile(on_mirrors(t, gives), (n, 1)), False)
    value = np.full((n, t.n_cells + t.n_boundary), c.empty)
    value[:, : t.n_cells] = c.where
    through = np.tile(np.arange(c.size)[:, None], (n, 1, s.value.shape[1]))
    for a in range(n):
        of_part = np.flatnonzero(f.boundary[a] < t.n_boundary)
        value[a, t.n_cells + f.boundary[a, of_part]] = c.size + of_part
        through[a, c.where[a, c.active[a]]] = value[a, np.asarray(s.value)[c.active[a]]]
    target = np.zeros((n, c.n_own, p.target.shape[1]), int)
    target[part, c.within] = rank(part[p.row])[p.target]
    tables: dict[str, Any] = dict(
        cells=c.cells,
        interior=f.interior,
        boundary=f.boundary,
        incidence=_incidence(t, c, f),
        value=through,
        mirror=mirror,
        planes=_padded([np.flatnonzero(of_part) for of_part in mirror], f.boundary.shape[1] - 1),
        part=Part(c.halo, f.times, np.minimum(c.cells[:, : c.n_own], t.n_cells - 1), c.n_own, t.n_cells),  # pyright: ignore
        places=Places(target, int(np.bincount(part[p.row]).max()), True),  # pyright: ignore[reportArgumentType]
        levels=tables_of_parts(p, part, n),
        m=t.dim + 1,
        drops=f.drops,
    )
    return jax.tree.map(lambda a: a.astype(np.int32) if a.dtype == np.int64 else a, Division(**tables))


class _Cells:
    """The cells of n parts: own ones, copies, an empty one.

    Attributes:
        owned: numbers of each part's own; active: of those whose gradients it needs, its own and those across their faces.
        n_own, size, empty: places for own cells, for all, and the last of these.
        within: the place of every cell among its part's own, ``(cells,)``.
        where: in each part the place of every cell; the empty one where it has none, ``(n, cells)``.
        cells: in each part the number of the cell at every place; that of all cells where there is none, ``(n, size)``.
    """

    def __init__(self, t: Topology, reach: np.ndarray, part: np.ndarray, n: int):
        self.n, self.within = n, rank(part)
        self.owned = [np.flatnonzero(part == a) for a in range(n)]
        self.active = [np.unique(np.append(own, t.across[own])) for own in self.owned]
        needed = [np.setdiff1d(np.append(near, reach[near]), own) for own, near in zip(self.owned, self.active, strict=True)]
        self.halo, copies = halo_of(n, part, self.within, needed)
        self.n_own = max(map(len, self.owned))
        self.size = self.n_own + len(self.halo) + 1
        self.empty = self.size - 1
        self.cells, self.where = np.full((n, self.size), t.n_cells), np.full((n, t.n_cells), self.empty)
        for a in range(n):
            for numbers, places in ((self.owned[a], self.within[self.owned[a]]), (needed[a], self.n_own + copies[a])):
                self.where[a, numbers], self.cells[a, places] = places, numbers


class _Faces:
    """The faces of n parts: those of their own cells, periodic ones first, and boundary faces of all whose gradients they need.

    Attributes:
        interior, boundary: their numbers, filled up by how many there are, ``(n, ...)``; the last boundary face is an empty one.
        times: how often each counts in a sum over all parts, ``(n, faces)``.
        drops: where those of each pair of periodic patches are.
        count: of a part's faces.
    """

    def __init__(self, t: Topology, c: _Cells, part: np.ndarray, drops: tuple[tuple[int, int], ...]):
        inner, mine = t.n_interior, part == np.arange(c.n)[:, None]
        of_P, of_N = mine[:, t.owner[:inner]], mine[:, t.neighbour]
        pair = np.full(inner, len(drops))
        for k, (first, past) in enumerate(drops):
            pair[first:past] = k
        segments = [_padded([np.flatnonzero(of & (pair == k)) for of in of_P | of_N], inner) for k in range(len(drops) + 1)]
        ends = np.cumsum([0, *(segment.shape[1] for segment in segments)]).tolist()
        self.drops = tuple(zip(ends[: len(drops)], ends[1:], strict=False))
        self.interior = np.concatenate(segments, 1)
        self.boundary = _padded([np.flatnonzero(np.isin(t.owner[inner:], near)) for near in c.active], t.n_boundary, 1)
        self.count = self.interior.shape[1] + self.boundary.shape[1]
        here = self.in_interior(0.5 * of_P + 0.5 * of_N, 0.0), self.at_boundary(1.0 * mine[:, t.owner[inner:]], 0.0)
        self.times = np.concatenate(here, 1)

    def in_interior(self, of_whole: np.ndarray, empty: Any) -> np.ndarray:
        """What is known of the whole's interior faces in each part, ``(n, interior)``, for those of the part."""
        return np.take_along_axis(np.pad(of_whole, [(0, 0), (0, 1)], constant_values=empty), self.interior, 1)

    def at_boundary(self, of_whole: np.ndarray, empty: Any) -> np.ndarray:
        """The same of boundary faces."""
        return np.take_along_axis(np.pad(of_whole, [(0, 0), (0, 1)], constant_values=empty), self.boundary, 1)


def _incidence(t: Topology, c: _Cells, f: _Faces) -> Incidence:
    """Of its own cells a part has all faces; copies have none."""
    inner, (index, sign) = t.n_interior, t.cell_faces
    owner = f.in_interior(c.where[:, t.owner[:inner]], c.empty), f.at_boundary(c.where[:, t.owner[inner:]], c.empty)
    neighbour = f.in_interior(c.where[:, t.neighbour], c.empty)
    shape = (c.n, c.size, index.shape[1])
    face, out = np.full(shape, f.count), np.zeros(shape, np.int8)
    across = np.tile(np.arange(c.size)[:, None], (c.n, 1, shape[2]))
    n_in = f.interior.shape[1]
    for a, own in enumerate(c.owned):
        place = np.full(t.n_faces + 1, f.count)  # of a face among the part's; past the last one there is none
        for numbers, begin, all_of in ((f.interior[a], 0, inner), (inner + f.boundary[a], n_in, t.n_faces)):
            of_part = np.flatnonzero(numbers < all_of)
            place[numbers[of_part]] = begin + of_part
        here = c.within[own]
        face[a, here], out[a, here], across[a, here] = place[index[own]], sign[own], c.where[a, t.across[own]]
    seen = np.where(out > 0, face, np.where(out < 0, face + f.count, f.count + n_in))
    return Incidence(np.concatenate(owner, 1), neighbour, face, out, seen, across)  # pyright: ignore[reportArgumentType]


def _padded(rows: list[np.ndarray], empty: int, more: int = 0) -> np.ndarray:
    """Rows of equal length, filled up."""
    table = np.full((len(rows), max(map(len, rows)) + more), empty)
    for a, row in enumerate(rows):
        table[a, : len(row)] = row
    return table


def apart(d: Discrete, v: Division, tables: Division) -> Discrete:
    """What each part has of a flow that is discretized, stacked. Of NumPy's arrays or of JAX's, and so differentiable in the flow;
    ``tables``: the same division, on the devices."""
    xp: Any = jnp if traced(d) else np
    n, dim = len(v.cells), d.dim

    def of(a: Any, which: Any, empty: float) -> Any:
        padded = xp.concatenate([a, xp.full((1, *a.shape[1:]), empty, a.dtype)])
        return padded[which]

    def alike(a: Any) -> Any:
        return xp.broadcast_to(a, (n, *a.shape))

    def faces(f: Faces, which: Any) -> Faces:  # where there is none, one of a size that divides
        return Faces(*(of(a, which, 0.5 if name == "d_P" else 1.0) for name, a in zip(f._fields, f, strict=True)))

    inner, on, nothing = d.incidence.n_interior, tables, xp.zeros((n, 0))
    S = xp.concatenate([of(d.geometry.S[:inner], v.interior, 1.0), of(d.geometry.S[inner:], v.boundary, 1.0)], 1)
    no_vector = xp.zeros((n, 0, dim))  # what only the discretization needs
    weights = xp.moveaxis(of(xp.moveaxis(d.weights, 1, 0), v.cells, 0.0), 2, 1)
    return Discrete(
        geometry=Geometry(S, no_vector, no_vector, of(d.geometry.V, v.cells, 0.0), no_vector),
        conditions=jax.tree.map(lambda a: of(a, v.boundary, 0.0), d.conditions),
        weights=weights,
        inside=faces(d.inside, v.interior),
        outside=faces(d.outside, v.boundary),
        viscosity=alike(d.viscosity),
        alpha=of(d.alpha, v.cells, 0.0),
        force=of(d.force, v.cells, 0.0),
        drops=replace(jax.tree.map(alike, d.drops), faces=v.drops),
        layout=Layout(
            on.incidence, Stencil(nothing, nothing, nothing, nothing, on.value), on.mirror, on.planes, nothing, nothing, 1, False
        ),
        part=on.part,
        closed=d.closed,
        convection=d.convection,
        scheme=d.scheme,
    )
