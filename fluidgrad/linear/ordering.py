"""The order in which SuperLU eliminates the cells, and what that leaves in its factors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spla

from fluidgrad.linear.jacobian import Pattern


@dataclass(frozen=True, eq=False)
class Order:
    """A symmetric permutation, and the places of the blocks' entries in the permuted matrix by columns."""

    permutation: np.ndarray
    entry: np.ndarray
    indices: np.ndarray
    indptr: np.ndarray


def order(p: Pattern) -> Order:
    """The cells in their order, unknown by unknown."""
    cells = p.kept(least_degree)
    m = p.block
    permutation = (cells[:, None] * m + np.arange(m)).ravel()
    place = np.argsort(cells)
    i, j = np.meshgrid(np.arange(m), np.arange(m), indexing="ij")
    rows = (place[p.row][:, None, None] * m + i).ravel()
    columns = (place[p.column][:, None, None] * m + j).ravel()
    entry = np.lexsort([rows, columns])
    indptr = np.searchsorted(columns[entry], np.arange(p.n_cells * m + 1))
    return Order(permutation, entry, rows[entry].astype(np.int32), indptr.astype(np.int32))


def least_degree(p: Pattern) -> np.ndarray:
    """An elimination order of the cells: SuperLU's own, multiple minimum degree (Liu 1985), for the graph of the cells instead of
    that of the unknowns. It gives it with a factorisation; the incomplete one that drops everything takes no time."""
    graph = sp.csc_matrix((np.where(p.row == p.column, len(p.row), 1.0), (p.row, p.column)), shape=(p.n_cells,) * 2)
    options = {"SymmetricMode": True}
    return np.argsort(spla.spilu(graph + graph.T, drop_tol=1.0, fill_factor=1, permc_spec="MMD_AT_PLUS_A", options=options).perm_c)


def entries(p: Pattern, most: float) -> float:
    """Blocks in both LU factors, no pivot off the diagonal, or the first number above ``most``: below its diagonal a column has what
    the matrix has there, and what is left of the columns whose first block was in its row (George & Liu 1981)."""
    place = np.argsort(p.kept(least_degree))
    column, row = place[p.column], place[p.row]
    order = np.lexsort([row, column])
    start, row = np.searchsorted(column[order], np.arange(p.n_cells + 1)).tolist(), row[order].tolist()
    left: list[set[int]] = [set() for _ in range(p.n_cells)]
    count = float(p.n_cells)
    for k in range(p.n_cells):
        below = left[k].union(i for i in row[start[k] : start[k + 1]] if i > k)
        below.discard(k)
        left[k] = set()
        count += 2 * len(below)
        if count > most:
            break
        if below:
            left[min(below)] |= below
    return count
