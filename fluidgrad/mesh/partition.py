"""Which part of a mesh each cell is in, where several devices have a part each.

Cells are cut in two along the direction in which their centres are furthest apart, and each half again, so that all parts have as many
cells, or one fewer (recursive bisection; Berger & Bokhari 1987). It is made of the mesh as built: a mesh whose points move keeps its
parts.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from fluidgrad.errors import InputError


def partition(centres: Float[np.ndarray, "cells dim"], n: int) -> Int[np.ndarray, " cells"]:
    """In which of n parts each cell is.

    Raises:
        InputError: more parts than cells.
    """
    if n > len(centres):
        raise InputError(f"{n} devices for {len(centres)} cells", accepted="at most one device a cell, or a finer mesh (mesh.refine)")
    part = np.empty(len(centres), int)
    left = [(np.arange(len(centres)), 0, n)]
    while left:
        cells, first, count = left.pop()
        if count == 1:
            part[cells] = first
            continue
        x, few = centres[cells], count // 2
        cells = cells[np.argsort(x[:, np.argmax(np.ptp(x, axis=0))], kind="stable")]
        at = len(cells) * few // count
        left += [(cells[:at], first, few), (cells[at:], first + few, count - few)]
    return part
