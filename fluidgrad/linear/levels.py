"""The levels of the coupled cycle (``coupled.py``): where their cells and the blocks of their matrices are, as tables for programs.

A matrix is a table with a row for each cell: its own block and one for each neighbour. Cells are swept in steps, each of cells of one
colour, no two of them coupled, and what is swept together lies together. On coarse levels a few cells have many more neighbours than
most: they are a *band* of their own, a table with longer rows, so that others need not be padded to their length.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Bool, Int

from fluidgrad.linear.aggregation import Coarsening, Graph, coarsened, colours, couplings, of_aggregates
from fluidgrad.linear.jacobian import Pattern
from fluidgrad.mesh.topology import ragged
from fluidgrad.parts import Halo, halo_of

PASSES = 1  # by each of which cells are joined in pairs
STEPS, SHORTEST = 32, 128  # into how many a sweep is cut, and of how many cells they are then at least
WORTH = 0.8  # of the blocks: two bands, if they leave so few


@partial(jax.tree_util.register_dataclass, data_fields=["across", "back", "part"], meta_fields=[])
@dataclass(frozen=True)
class Band:
    """Rows of equal length, by steps. Where there is no cell or no neighbour, blocks are zero.

    Attributes:
        across: the places of a cell and of its neighbours, ``(steps, cells, 1 + k)``; an empty one in padding. Copies of other
            parts' cells are behind the last place.
        back: the number of the block, among those of all bands and then of copies, by which the neighbour is coupled to the cell.
        part: the block of the next level that a block is a part of; past the last, in padding.
    """

    across: Int[Array, "steps cells slots"]
    back: Int[Array, "steps cells slots"]
    part: Int[Array, "steps cells slots"]


@partial(jax.tree_util.register_dataclass, data_fields=["cells", "blocks"], meta_fields=["summed"])
@dataclass(frozen=True)
class Join:
    """How the next level, which every device has as a whole, is put together from what the parts have of it.

    Attributes:
        cells: of all parts' cells, one after the other, which is in each of its places, one past the last in an empty one.
        blocks: of all parts' blocks, which is in each of its slots.
        summed: how many blocks a part has; static.
    """

    cells: Int[Array, " places"]
    blocks: Int[Array, " blocks"]
    summed: int


_LEVEL = ["bands", "aggregate", "members", "halo", "reversed", "join"]


@partial(jax.tree_util.register_dataclass, data_fields=_LEVEL, meta_fields=["first", "last"])
@dataclass(frozen=True)
class Level:
    """The cells of a level, by their places: step by step, in each of them band by band. The last place is empty.

    Attributes:
        bands: with the same steps.
        aggregate: the place in the next level of each cell, ``(places,)``.
        members: of the cells of the next level, ``(next places, most)``; an empty place in padding.
        halo, reversed: copies of cells, and of the blocks by which those are coupled to the part's own, that other parts have.
        join: where the next level is no longer of parts; its ``members`` are then those of the cells that the part has of it.
        first, last: steps of the first colour and of the last; static.
    """

    bands: tuple[Band, ...]
    aggregate: Int[Array, " places"]
    members: Int[Array, "next_places most"]
    halo: Halo
    reversed: Halo
    join: Join | None
    first: int
    last: int


@partial(jax.tree_util.register_dataclass, data_fields=["levels", "entry", "place", "boundary"], meta_fields=["simplices"])
@dataclass(frozen=True)
class Tables:
    """The levels, finest first; for each band of the first, which block of the matrix each of its blocks is (one past the last in
    padding); where each cell is there; in which places are cells at a boundary. Whether a tenth of the cells have fewer faces than
    quadrilaterals or hexahedra, as triangles, tetrahedra and prisms have; static."""

    levels: tuple[Level, ...]
    entry: tuple[Int[Array, "steps cells slots"], ...]
    place: Int[Array, " cells"]
    boundary: Bool[Array, " places"]
    simplices: bool


def tables_of(p: Pattern) -> Tables:
    """The tables of a matrix, by the couplings of its mesh as built."""
    return jax.tree.map(lambda table: table[0], tables_of_parts(p, np.zeros(p.n_cells, int), 1))


def tables_of_parts(p: Pattern, part: Int[np.ndarray, " cells"], n: int) -> Tables:
    """The tables of the n parts of a matrix, stacked, ``(n, ...)``, whose aggregates are of one part each. The rows of a part are those
    of its cells, in their order, then empty ones up to the length of the longest; its blocks are those of its rows."""
    steps = list(coarsened(couplings(p.topology), PASSES, part))
    places = [_Places(step.graph, len(step.aggregate) > 0, step.part, n if step.part.any() else 1) for step in steps]
    found = [_level(*each) for each in zip(steps, places, [*places[1:], None], strict=True)]
    levels = jax.tree.map(lambda table: np.broadcast_to(table, (n, *table.shape[1:])), tuple(found))
    P, N, _, cells = steps[0].graph
    number = np.searchsorted(p.row * cells + p.column, np.concatenate([P * cells + N, N * cells + P, np.arange(cells) * (cells + 1)]))
    finest = places[0]
    within, blocks = rank(finest.part[p.row]), np.bincount(finest.part[p.row]).max()
    place = np.full((n, np.bincount(finest.part).max()), finest.size - 1)
    place[finest.part, rank(finest.part)] = finest.of_cell
    boundary, outer = np.zeros((n, finest.size), bool), p.topology.owner[p.topology.n_interior :]
    boundary[finest.part[outer], finest.of_cell[outer]] = True
    entry = finest.in_bands(finest.of_slots(within[number], blocks))
    faces = np.abs(p.topology.cell_faces[1]).sum(1)
    simplices = bool(np.mean(faces < 2 * p.topology.dim) >= 0.1)
    return Tables(levels, entry, place, boundary, simplices)  # pyright: ignore[reportArgumentType]


def rank(key: np.ndarray) -> np.ndarray:
    """How many earlier ones have the same key."""
    order = np.argsort(key, kind="stable")
    count = np.bincount(key)
    found = np.empty(len(key), int)
    found[order] = np.arange(len(key)) - np.repeat(np.cumsum(count) - count, count)
    return found


class _Places:
    """Where the cells of a level and the blocks of their couplings are, each in the part that it is of. Couplings are numbered: those of
    P to N, those of N to P, those of cells to themselves.

    Attributes:
        part, of_cell: the part and the place of each cell.
        size, blocks: how many places and slots a part has; the last of each is empty.
        coupling: of each slot, band by band, row by row, ``(parts, blocks)``; past the last in padding.
        slot: of each coupling.
        across, back: of each coupling the place of the neighbour, and the slot of the reverse coupling; behind those of a part are
            the copies.
        first, last: steps of the first colour and of the last.
    """

    def __init__(self, graph: Graph, swept: bool, part: np.ndarray, n: int):
        P, N, _, cells = graph
        colour, degree = colours(graph) if swept else np.zeros(cells, int), np.bincount(np.concatenate([P, N]), minlength=cells)
        band, lengths = _banded(degree)
        shades = int(colour.max(initial=0)) + 1
        kind = (band * shades + colour) * n + part
        count = np.bincount(kind, minlength=len(lengths) * shades * n).reshape(len(lengths), shades, n).max(2)
        order = np.argsort(-count.sum(0), kind="stable")  # the two colours of most cells first and last: they are swept once
        order = np.concatenate([order[:1], order[2:], order[1:2]])
        most = int(np.bincount(part, minlength=n).max())
        width = np.minimum(-(-count.sum(1) // min(STEPS, -(-most // SHORTEST))), count.max(1))
        steps = (-(-count // width[:, None])).max(0)
        steps[order[-1]] = max(steps[order[-1]], count[-1, order[-1]] // width[-1] + 1)  # so that the last place is empty
        begin = np.zeros(len(steps), int)
        begin[order] = np.cumsum(steps[order]) - steps[order]
        self.first, self.last = (int(steps[order[0]]) if len(order) > 1 else 0), int(steps[order[-1]])
        self.n, self.part, self.steps, self.width, self.lengths = n, part, int(steps.sum()), width, 1 + lengths
        self.size, self.blocks = int(self.steps * width.sum()), int(self.steps * (width * self.lengths).sum())
        step, within = np.divmod(rank(kind), width[band])
        self.of_cell = (begin[colour] + step) * width.sum() + (np.cumsum(width) - width)[band] + within
        edges, own = len(P), np.arange(cells)
        self.row, self.other = np.concatenate([P, N, own]), np.concatenate([N, P, own])
        self.reverse = np.concatenate([np.arange(edges) + edges, np.arange(edges), 2 * edges + own])
        near = ragged(self.row[: 2 * edges], cells, np.arange(2 * edges), 2 * edges + cells)
        everywhere = np.full((n, self.size, 1 + near.shape[1]), 2 * edges + cells)
        everywhere[part, self.of_cell] = np.concatenate([2 * edges + own[:, None], near], 1)
        by_band = np.split(everywhere.reshape(n, self.steps, width.sum(), -1), np.cumsum(width)[:-1], 2)
        self.coupling = np.concatenate([rows[..., :s].reshape(n, -1) for rows, s in zip(by_band, self.lengths, strict=True)], 1)
        self.slot = np.empty(2 * edges + cells + 1, int)
        self.slot[self.coupling] = np.arange(self.blocks)
        self.across, self.halo = self._seen(self.other, part, self.of_cell, self.size)
        self.back, self.reversed = self._seen(self.reverse, part[self.row], self.slot[:-1], self.blocks)

    def _seen(self, things: np.ndarray, part: np.ndarray, place: np.ndarray, size: int) -> tuple[np.ndarray, Halo]:
        """Where rows see things, one for each coupling, that are somewhere in a part: there, or behind what the row's part has."""
        mine, found = self.part[self.row], place[things]
        outer = [np.flatnonzero((mine == a) & (part[things] != a)) for a in range(self.n)]
        needed = [np.unique(things[elsewhere]) for elsewhere in outer]
        halo, copies = halo_of(self.n, part, place, needed)
        for elsewhere, known, copy in zip(outer, needed, copies, strict=True):
            found[elsewhere] = size + copy[np.searchsorted(known, things[elsewhere])]
        return found, halo

    def of_slots(self, of_coupling: np.ndarray, empty: int) -> np.ndarray:
        """Something of each coupling, by slots; ``empty`` where there is none."""
        return np.append(of_coupling, empty)[self.coupling]

    def in_bands(self, of_slot: np.ndarray) -> tuple[np.ndarray, ...]:
        shapes = [(self.n, self.steps, int(w), int(s)) for w, s in zip(self.width, self.lengths, strict=True)]
        ends = np.cumsum([np.prod(shape[1:]) for shape in shapes])[:-1]
        return tuple(each.reshape(shape) for each, shape in zip(np.split(of_slot, ends, 1), shapes, strict=True))


def _banded(degree: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In which band each cell is, and how many neighbours its rows have room for: two if that leaves few blocks."""
    most = int(degree.max(initial=0))
    few = np.arange(most + 1)
    blocks = [np.sum(degree <= k) * (1 + k) + np.sum(degree > k) * (1 + most) for k in few]
    best = int(np.argmin(blocks))
    if blocks[best] > WORTH * blocks[-1]:
        return np.zeros(len(degree), int), np.array([most])
    return (degree > best).astype(int), np.array([best, most])


def _level(step: Coarsening, here: _Places, there: _Places | None) -> Level:
    across = here.in_bands(here.of_slots(here.across, here.size - 1))
    back = here.in_bands(here.of_slots(here.back, here.blocks - 1))
    halos, ends = (here.halo, here.reversed), (here.first, here.last)
    if there is None:
        none = np.zeros((here.n, 0), int)
        return Level(tuple(Band(a, b, b) for a, b in zip(across, back, strict=True)), none, none[..., None], *halos, None, *ends)  # pyright: ignore
    edges, own = len(there.other) - len(there.of_cell), step.aggregate[step.graph.P]
    inside = step.coupling == edges // 2
    forth, again = (np.where(inside, edges + own, step.coupling + side * (edges // 2)) for side in (step.turned, ~step.turned))
    coupling = np.concatenate([forth, again, edges + step.aggregate])
    part, size, cells, slot, blocks, join = there.part, there.size, there.of_cell, there.slot, there.blocks, None
    if there.n < here.n:
        part = of_aggregates(here.part, step.aggregate, len(there.of_cell))
        size, cells, slot, blocks, join = _joined(part, here.n, there)
    aggregate = np.full((here.n, here.size), there.size - 1)
    aggregate[here.part, here.of_cell] = there.of_cell[step.aggregate]
    joined = ragged(step.aggregate, len(cells), here.of_cell, here.size - 1)
    members = np.full((here.n, size, joined.shape[1]), here.size - 1)
    members[part, cells] = joined
    bands = zip(across, back, here.in_bands(here.of_slots(slot[coupling], blocks)), strict=True)
    return Level(tuple(Band(*band) for band in bands), aggregate, members, *halos, join, *ends)  # pyright: ignore[reportArgumentType]


def _joined(part: np.ndarray, n: int, there: _Places) -> tuple[int, np.ndarray, np.ndarray, int, Join]:
    """Of a level that is whole, whose cells are of n parts: how many a part has at most, where each is among them, where each coupling
    is among those of its part, how many these are at most, and how all are put together."""
    cells, of_row = rank(part), part[there.row]
    slot = rank(of_row)
    size, blocks = int(cells.max()) + 1, int(slot.max()) + 1
    in_places = np.full((n, there.size), n * size)
    in_places[:, there.of_cell] = part * size + cells
    in_slots = np.append(of_row * blocks + slot, n * blocks)[there.coupling]
    return size, cells, slot, blocks, Join(in_places, np.broadcast_to(in_slots, (n, in_slots.shape[1])), blocks)  # pyright: ignore
