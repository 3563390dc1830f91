"""Ever larger aggregates of cells, for multigrid: who is joined with whom, and in which order cells are swept.

Cells are joined two by two along their strongest couplings, which follow layers that are stretched, once for a topology: a mesh
whose points move keeps its aggregates. All of it is NumPy's, of numbers that are known, without a loop over cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float, Int
from scipy.sparse.csgraph import shortest_path

from fluidgrad.mesh.topology import Topology, middles, ragged

COARSEST = 200  # cells: a level of no more is solved directly, and every device has it as a whole
STRONG = 0.25  # a coupling as large as this, of the strongest of one of its two cells, joins them


class Graph(NamedTuple):
    """The cells of a level and their couplings, each once: ``P < N``, ``(edges,)``; how strong, ``(edges,)``; how many cells."""

    P: Int[np.ndarray, " edges"]
    N: Int[np.ndarray, " edges"]
    strength: Float[np.ndarray, " edges"]
    n: int


class Coarsening(NamedTuple):
    """What becomes of a level: its graph, the part of each of its cells, ``(cells,)``, the aggregate of each, ``(cells,)``, that coupling
    of the next level of which each coupling is a part, ``(edges,)`` (their number, if it is inside of an aggregate), and whether
    there P and N have changed sides. The last three are empty on the last level."""

    graph: Graph
    part: Int[np.ndarray, " cells"]
    aggregate: Int[np.ndarray, " cells"]
    coupling: Int[np.ndarray, " edges"]
    turned: Bool[np.ndarray, " edges"]


def couplings(t: Topology) -> Graph:
    """Couplings of a pressure in the mesh as built: areas over distances."""
    n, corner = t.n_interior, t.nominal[t.face_points[: t.n_interior]]
    along, across = corner[:, -2] - corner[:, 0], corner[:, -1] - corner[:, 1]
    S = (corner[:, 1] - corner[:, 0]) @ np.array([[0, -1], [1, 0]]) if t.dim == 2 else np.cross(along, across) / 2
    seen = [middles(t.nominal, f[:n]) for f in (t.face_points, t.face_points if t.twin is None else t.twin)]
    x_P, x_N = (t.nominal_centres[c] for c in (t.owner[:n], t.neighbour))
    square, through = np.sum(S**2, 1), np.abs(np.sum(S * (seen[0] - x_P - seen[1] + x_N), 1))
    volume = square ** (t.dim / (2 * t.dim - 2))  # about a cell's: rough centres may both lie in the face's plane
    strength = square / np.maximum(through, 1e-12 * volume + 1e-300)
    return merged(t.owner[:n], t.neighbour, strength, np.arange(t.n_cells), t.n_cells)[0]


def coarsened(graph: Graph, passes: int, part: Int[np.ndarray, " cells"] | None = None) -> Iterator[Coarsening]:
    """The levels, finest first, each joined in pairs so many times, down to one of few cells or of none that are coupled. Of several
    parts only cells of the same are joined; the last level is of one."""
    part = np.zeros(graph.n, int) if part is None else part
    while (graph.n > COARSEST and len(graph.P)) or part.any():
        before = part
        whole, coarse, place = np.arange(graph.n), graph, np.arange(len(graph.P))
        for _ in range(passes):
            pair, n = pairs(coarse, part)
            part = of_aggregates(part, pair, n)
            whole = pair[whole]
            coarse, within = merged(coarse.P, coarse.N, coarse.strength, pair, n)
            place = np.append(within, len(coarse.P))[place]
        yield Coarsening(graph, before, whole, place, whole[graph.P] > whole[graph.N])
        if coarse.n <= COARSEST or not (part[coarse.P] == part[coarse.N]).any():
            part = np.zeros(coarse.n, int)
        graph = coarse
    yield Coarsening(graph, part, np.zeros(0, int), np.zeros(0, int), np.zeros(0, bool))


def of_aggregates(values: np.ndarray, aggregate: np.ndarray, n: int) -> np.ndarray:
    """Values of n aggregates, whose cells have the same."""
    found = np.zeros(n, values.dtype)
    found[aggregate] = values
    return found


def merged(P: np.ndarray, N: np.ndarray, strength: np.ndarray, whole: np.ndarray, n: int) -> tuple[Graph, np.ndarray]:
    """The graph of the n cells that cells are made a part of, and in which of its couplings each is (their number, if it is inside
    of one)."""
    first, second = np.sort([whole[P], whole[N]], axis=0)
    outer = first != second
    key, place = np.unique(first[outer].astype(np.int64) * n + second[outer], return_inverse=True)
    within = np.full(len(P), len(key))
    within[outer] = place
    return Graph(*np.divmod(key, n), np.bincount(place, strength[outer], len(key)), n), within


def pairs(graph: Graph, part: Int[np.ndarray, " cells"]) -> tuple[np.ndarray, int]:
    """Cells of one part joined two by two: whoever is the other's strongest of those that are left (Manne & Bisseling 2007). Who is alone
    in the end joins the pair of its strongest neighbour: else cells round one that has many would stay alone for ever. In which
    aggregate each cell is, and how many there are."""
    # From weak to strong, so that what is written last is strongest. Where couplings are equal lots are drawn, or a row of cells would
    # be joined one pair after the other.
    P, N, strength, n = graph
    order = np.lexsort([np.random.default_rng(0).permutation(len(P)), strength])
    order = order[part[P[order]] == part[N[order]]]
    P, N, strength = P[order], N[order], strength[order]

    def strongest_of(free: np.ndarray) -> np.ndarray:
        """The coupling of each cell, of these in their order, that is strongest; -1 where it has none."""
        last = np.full((2, n), -1)
        last[0, P[free]] = last[1, N[free]] = free
        return last.max(0)

    best = np.append(strength, 0.0)[strongest_of(np.arange(len(P)))]
    strong = strength >= STRONG * np.minimum(best[P], best[N])
    P, N = P[strong], N[strong]
    head, alone, free = np.arange(n), np.ones(n, bool), np.arange(len(P))
    while len(free):
        best = strongest_of(free)
        chosen = free[(best[P[free]] == free) & (best[N[free]] == free)]
        head[N[chosen]] = P[chosen]
        alone[P[chosen]] = alone[N[chosen]] = False
        free = free[alone[P[free]] & alone[N[free]]]
    best = strongest_of(np.arange(len(P)))
    for single, paired in ((P, N), (N, P)):
        joins = np.flatnonzero(alone[single] & (best[single] == np.arange(len(P))))
        head[single[joins]] = head[paired[joins]]
    _, pair = np.unique(head, return_inverse=True)
    return pair, int(pair.max(initial=-1)) + 1


def colours(graph: Graph) -> Int[np.ndarray, " cells"]:
    """A colour for each cell, no two alike that are coupled. Cells whose distance from the first is even have one and those whose
    distance is odd another, where that is possible; the others get the first that none of their neighbours has, each as soon as
    it has the lowest lot among its neighbours (Jones & Plassmann 1993)."""
    P, N, _, n = graph
    steps = shortest_path(sp.csr_matrix((np.ones(len(P)), (P, N)), (n, n)), method="D", directed=False, unweighted=True, indices=0)
    colour = np.where(np.isfinite(steps), steps, 0).astype(np.int64) % 2
    lot = np.random.default_rng(0).permutation(n)
    alike = colour[P] == colour[N]
    left = np.unique(np.where(lot[P] < lot[N], N, P)[alike])
    colour[left] = -1
    across = ragged(np.concatenate([P, N]), n, np.concatenate([N, P]), None)
    while len(left):
        near = across[left]
        waits = ((colour[near] < 0) & (lot[near] < lot[left][:, None])).any(1)
        now, left = left[~waits], left[waits]
        near = colour[across[now]]
        taken = np.bitwise_or.reduce(np.where(near >= 0, 1 << np.maximum(near, 0), 0), 1)
        colour[now] = np.round(np.log2((~taken & (taken + 1)).astype(float)))
    return colour
