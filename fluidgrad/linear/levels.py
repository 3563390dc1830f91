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
from jaxtyping import Array, Int

from fluidgrad.linear.aggregation import Coarsening, Graph, coarsened, colours, couplings
from fluidgrad.linear.jacobian import Pattern
from fluidgrad.mesh.topology import ragged
from fluidgrad.programs import on_device

PASSES = 1  # by each of which cells are joined in pairs
STEPS, SHORTEST = 32, 128  # into how many a sweep is cut, and of how many cells they are then at least
WORTH = 0.8  # of the blocks: two bands, if they leave so few


@partial(jax.tree_util.register_dataclass, data_fields=["across", "back", "part"], meta_fields=[])
@dataclass(frozen=True)
class Band:
    """Rows of equal length, by steps. Where there is no cell or no neighbour, blocks are zero.

    Attributes:
        across: the places of a cell and of its neighbours, ``(steps, cells, 1 + k)``; an empty one in padding.
        back: the number of the block, among those of all bands, by which the neighbour is coupled to the cell.
        part: the block of the next level that a block is a part of; past the last, in padding.
    """

    across: Int[Array, "steps cells slots"]
    back: Int[Array, "steps cells slots"]
    part: Int[Array, "steps cells slots"]


@partial(jax.tree_util.register_dataclass, data_fields=["bands", "aggregate", "members"], meta_fields=["first", "last"])
@dataclass(frozen=True)
class Level:
    """The cells of a level, by their places: step by step, in each of them band by band. The last place is empty.

    Attributes:
        bands: with the same steps.
        aggregate: the place in the next level of each cell, ``(places,)``.
        members: of the cells of the next level, ``(next places, most)``; an empty place in padding.
        first, last: steps of the first colour and of the last; static.
    """

    bands: tuple[Band, ...]
    aggregate: Int[Array, " places"]
    members: Int[Array, "next_places most"]
    first: int
    last: int


@partial(jax.tree_util.register_dataclass, data_fields=["levels", "entry", "place"], meta_fields=[])
@dataclass(frozen=True)
class Tables:
    """The levels, finest first; for each band of the first, which block of the matrix each of its blocks is (one past the last in
    padding); where each cell is there."""

    levels: tuple[Level, ...]
    entry: tuple[Int[Array, "steps cells slots"], ...]
    place: Int[Array, " cells"]


def tables_of(p: Pattern) -> Tables:
    """The tables of a matrix, by the couplings of its mesh as built."""
    steps = list(coarsened(couplings(p.topology), PASSES))
    places = [_Places(step.graph, len(step.aggregate) > 0) for step in steps]
    levels = tuple(_level(*each) for each in zip(steps, places, [*places[1:], None], strict=True))
    P, N, _, n = steps[0].graph
    number = np.searchsorted(p.row * n + p.column, np.concatenate([P * n + N, N * n + P, np.arange(n) * (n + 1)]))
    finest = places[0]
    return Tables(levels, finest.in_bands(finest.of_slots(number, len(p.row))), on_device(finest.of_cell))


class _Places:
    """Where the cells of a level and the blocks of their couplings are. Couplings are numbered: those of P to N, those of N to P,
    those of cells to themselves.

    Attributes:
        of_cell: the place of each cell.
        size: how many places there are.
        coupling: of each slot, band by band, row by row; past the last in padding.
        slot: of each coupling.
        first, last: steps of the first colour and of the last.
    """

    def __init__(self, graph: Graph, swept: bool):
        P, N, _, n = graph
        colour, degree = colours(graph) if swept else np.zeros(n, int), np.bincount(np.concatenate([P, N]), minlength=n)
        band, lengths = _banded(degree)
        count = np.stack([np.bincount(colour[band == b], minlength=colour.max(initial=0) + 1) for b in range(len(lengths))])
        order = np.argsort(-count.sum(0), kind="stable")  # the two colours of most cells first and last: they are swept once
        order = np.concatenate([order[:1], order[2:], order[1:2]])
        width = np.minimum(-(-count.sum(1) // min(STEPS, -(-n // SHORTEST))), count.max(1))
        steps = (-(-count // width[:, None])).max(0)
        steps[order[-1]] = max(steps[order[-1]], count[-1, order[-1]] // width[-1] + 1)  # so that the last place is empty
        begin = np.zeros(len(steps), int)
        begin[order] = np.cumsum(steps[order]) - steps[order]
        self.first, self.last = (int(steps[order[0]]) if len(order) > 1 else 0), int(steps[order[-1]])
        self.steps, self.width, self.slots = int(steps.sum()), width, 1 + lengths
        self.size, self.of_cell = int(self.steps * width.sum()), np.empty(n, int)
        for b in range(len(lengths)):
            cells = np.flatnonzero(band == b)
            cells = cells[np.argsort(colour[cells], kind="stable")]
            within = np.arange(len(cells)) - (np.cumsum(count[b]) - count[b])[colour[cells]]
            step, place = np.divmod(within, width[b])
            self.of_cell[cells] = (begin[colour[cells]] + step) * width.sum() + width[:b].sum() + place
        edges = len(P)
        self.other = np.concatenate([N, P, np.arange(n)])
        self.reverse = np.concatenate([np.arange(edges) + edges, np.arange(edges), 2 * edges + np.arange(n)])
        near = ragged(np.concatenate([P, N]), n, np.arange(2 * edges), 2 * edges + n)
        rows = np.concatenate([2 * edges + np.arange(n)[:, None], near], 1)
        everywhere = np.full((self.size, rows.shape[1]), 2 * edges + n)
        everywhere[self.of_cell] = rows
        by_band = np.split(everywhere.reshape(self.steps, width.sum(), -1), np.cumsum(width)[:-1], 1)
        self.coupling = np.concatenate([rows[:, :, :s].ravel() for rows, s in zip(by_band, self.slots, strict=True)])
        self.slot = np.empty(2 * edges + n + 1, int)
        self.slot[self.coupling] = np.arange(len(self.coupling))

    def of_slots(self, of_coupling: np.ndarray, empty: int) -> np.ndarray:
        """Something of each coupling, by slots; ``empty`` where there is none."""
        return np.append(of_coupling, empty)[self.coupling]

    def in_bands(self, of_slot: np.ndarray) -> tuple[Array, ...]:
        shapes = [(self.steps, int(w), int(s)) for w, s in zip(self.width, self.slots, strict=True)]
        ends = np.cumsum([np.prod(shape) for shape in shapes])[:-1]
        return tuple(on_device(part.reshape(shape)) for part, shape in zip(np.split(of_slot, ends), shapes, strict=True))


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
    across = here.in_bands(here.of_slots(here.of_cell[here.other], here.size - 1))
    back = here.in_bands(here.of_slots(here.slot[here.reverse], here.slot[-1]))
    if there is None:
        none = on_device(np.zeros((0, 0), int))
        return Level(tuple(Band(a, b, b) for a, b in zip(across, back, strict=True)), none.ravel(), none, here.first, here.last)
    edges, own = len(there.other) - len(there.of_cell), step.aggregate[step.graph.P]
    inside = step.coupling == edges // 2
    forth, again = (np.where(inside, edges + own, step.coupling + side * (edges // 2)) for side in (step.turned, ~step.turned))
    part = there.slot[np.concatenate([forth, again, edges + step.aggregate])]
    aggregate = np.full(here.size, there.size - 1)
    aggregate[here.of_cell] = there.of_cell[step.aggregate]
    joined = ragged(step.aggregate, len(there.of_cell), here.of_cell, here.size - 1)
    members = np.full((there.size, joined.shape[1]), here.size - 1)
    members[there.of_cell] = joined
    bands = zip(across, back, here.in_bands(here.of_slots(part, len(there.coupling))), strict=True)
    return Level(tuple(Band(*band) for band in bands), on_device(aggregate), on_device(members), here.first, here.last)
