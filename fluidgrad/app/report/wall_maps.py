"""Maps of the walls that a design moves: where pushing them further would matter, at the start and at the optimum.

They are kept in ``wall_maps.npz``, one line a wall (``maps.py``), so that pictures can be drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fluidgrad.app.report import output
from fluidgrad.files import file_name
from fluidgrad.mesh.topology import middles
from fluidgrad.plots import sensitivity as sensitivity_plots
from fluidgrad.plots import surfaces
from fluidgrad.plots.interpolation import geometry
from fluidgrad.plots.style import Labels

if TYPE_CHECKING:
    from fluidgrad.app.config.quantities import Quantity
    from fluidgrad.derivatives.maps import Line
    from fluidgrad.flow.solution import Solution
    from fluidgrad.mesh.mesh import Mesh

FILE = "wall_maps.npz"
SHARE = 0.01  # of a wall's length: over which its map is smoothed unless output.smoothing_length says more


def moved(before: Mesh, after: Mesh, walls: Sequence[str]) -> list[str]:
    """The walls that are not where they were (points that slide along a wall do not move it); all where none has moved."""
    t, S = before.topology, geometry(before).S
    away = middles(np.asarray(after.points) - np.asarray(before.points), t.face_points)
    out = np.abs(np.sum(away * S, 1)) > 1e-9 * np.ptp(t.nominal) * np.linalg.norm(S, axis=1)
    return [w for w in walls if out[t.faces_of(w)].any()] or list(walls)


def save(folder: Path, objective: Quantity, weights: Sequence[float], flows: tuple[Sequence[Solution], Sequence[Solution]]) -> None:
    """Compute the maps, by one adjoint solve each, and keep them: of several conditions the weighted sum, on the walls of
    the first."""
    from fluidgrad import sensitivity

    before, after = (solutions[0].flow for solutions in flows)
    walls = moved(before.mesh, after.mesh, before.walls)
    arrays = {}
    for which, solutions in zip(("start", "optimum"), flows, strict=True):
        maps = [sensitivity(objective, s.flow, s).wall for s in solutions]
        for patch in walls:
            line = replace(maps[0][patch], value=sum(w * m[patch].value for w, m in zip(weights, maps, strict=True)))
            arrays |= {f"{which}/{file_name(patch, before.mesh.patches)}/{key}": column for key, column in vars(line).items()}
    output.write_arrays(folder / FILE, **arrays)


def draw(folder: Path, labels: Labels, name: str, units: str, meshes: tuple[Mesh, Mesh], length: float | None) -> None:
    """A picture of each wall and design, on the meshes at the start and at the optimum, if there are maps; in 2D smoothed over a
    length (:func:`smoothed`), which raw spikes at ends and corners would rule otherwise."""
    if not (folder / FILE).exists():
        return
    from fluidgrad.derivatives.maps import Line

    columns: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for path, value in output.read_arrays(folder / FILE).items():
        which, patch, key = path.split("/")
        columns.setdefault((patch, which), {})[key] = value
    label = labels.over("dJ/dn", units, "L^2" + " L" * (meshes[0].dim - 2))
    lines = {key: Line(**arrays) for key, arrays in columns.items()}
    smooth = {key: smoothed(line, length) for key, line in lines.items()}
    for (patch, which), line in lines.items():
        begun = "~start" if (f"{patch}_start", which) in columns else "_start"  # a wall may be called so
        file = folder / "figures" / f"wall_{patch}{begun if which == 'start' else ''}.png"
        title = f"J = {name}, {patch} at the {which}"
        if meshes[0].dim == 3:
            mesh = meshes[("start", "optimum").index(which)]
            wall = {file_name(p, mesh.patches): p for p in mesh.patches}[patch]
            sensitivity_plots.surface(file, mesh, wall, surfaces.at_faces(mesh, wall, line.value), label, labels, title)
        else:  # start and optimum of a wall in the same colors
            beside = [smooth[key] for key in smooth if key[0] == patch and key[1] != which]
            sensitivity_plots.wall(file, {patch: line}, label, labels, title, {patch: smooth[patch, which]}, beside)


def smoothed(line: Line, length: float | None) -> Line:
    """A wall's map in the inner product of H^1, over ``length`` or a share of the wall's longest piece; in 3D as it is."""
    if line.x.shape[1] == 3:
        return line
    return line.smoothed(SHARE * float(np.nanmax(line.s)) if length is None else length)
