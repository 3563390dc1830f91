"""A flow on a mesh: its boundaries, the fluxes through faces, the balance of every cell, and the numbers a solution has."""
