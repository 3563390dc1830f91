"""Mesh quality on cells whose measures are known, and the refusal of tangled ones."""

import jax
import numpy as np
import pytest

from fluidgrad.blocks.box import box
from fluidgrad.blocks.layers import extrude
from fluidgrad.errors import InputError
from fluidgrad.mesh.mesh import Mesh
from fluidgrad.mesh.quality import check_valid
from fluidgrad.mesh.topology import build_topology

PERFECT = {
    "tetra": [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)],
    "hexahedron": [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (1, 1, 1), (0, 1, 1)],
    "wedge": [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 1)],
    "pyramid": [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0), (0.5, 0.5, 0.5)],
    "triangle": [(0, 0), (1, 0), (0, 1)],
    "quad": [(0, 0), (2, 0), (2, 1), (0, 1)],
}


def one_cell(kind, points):
    from fluidgrad.mesh.topology import CELL_FACES

    faces = [np.pad(f, (0, 4 - len(f)), constant_values=-1) for f in CELL_FACES[kind]]
    points = np.array(points, float)
    return Mesh(points, build_topology(points, [(kind, np.arange(len(points))[None])], {"all": np.array(faces)}))


@pytest.mark.parametrize("kind", PERFECT)
def test_corners_are_positive_in_a_good_cell_and_negative_in_its_mirror_image(kind):
    good = one_cell(kind, PERFECT[kind]).quality.corner
    assert good[0] > 0.4
    mirrored = np.array(PERFECT[kind], float) * ([-1] + [1] * (len(PERFECT[kind][0]) - 1))
    with pytest.raises(InputError, match="the mesh is tangled: 1 cell folded"):
        bad = one_cell(kind, mirrored)
        check_valid(bad.points, bad.topology)


def test_measures_of_known_cells():
    assert one_cell("quad", PERFECT["quad"]).quality.aspect_ratio == [2]
    assert one_cell("quad", PERFECT["quad"]).quality.corner == [1]
    # Sheared by 30 degrees: corners of 60 and 120 degrees, faces 30 degrees off the line between the centroids.
    sheared = box(cells=(3, 3))
    points = np.array(sheared.points)
    points[:, 0] += points[:, 1] * np.tan(np.pi / 6)
    q = Mesh(points, sheared.topology).quality
    assert np.allclose(q.corner, np.cos(np.pi / 6))
    assert np.allclose(np.sort(q.non_orthogonality), 30)
    assert np.allclose(q.skewness, 0, atol=1e-12) and np.allclose(q.growth, 1)
    # Cells 1 and 3 wide: growth 3, and the face is met in its middle.
    points = np.array(box(cells=(2, 1)).points)
    points[:, 0] = np.where(points[:, 0] == 0.5, 0.25, points[:, 0])
    q = Mesh(points, box(cells=(2, 1)).topology).quality
    assert np.allclose(q.growth, 3) and np.allclose(q.skewness, 0)


def test_the_worst_is_named_with_its_place():
    mesh = box(cells=(4, 4))
    points = np.array(mesh.points)
    points[np.abs(points - 0.75).max(1) < 1e-9] += 0.1
    worst = Mesh(points, mesh.topology).quality.worst
    assert worst["corner"].value < 0.9 and np.abs(worst["corner"].place - 0.75).max() < 0.25
    assert set(worst) == {"corner", "aspect_ratio", "skewness", "non_orthogonality", "growth"}


@pytest.mark.parametrize("dim", [2, 3])
def test_a_tangled_mesh_is_refused_with_the_place(dim):
    mesh = box(cells=(4, 4)) if dim == 2 else extrude(box(cells=(4, 4)), 1.0, 2)
    points = np.array(mesh.points)
    points[np.abs(points[:, :2] - 0.75).max(1) < 1e-9, :2] += 0.3
    with pytest.raises(InputError, match=r"tangled: \d+ cells folded, the worst near \(0\.\d+, 0\.\d+"):
        check_valid(points, mesh.topology)
    points[3] = np.nan
    with pytest.raises(InputError, match="point 3 of the mesh is not finite"):
        check_valid(points, mesh.topology)


def test_a_mesh_describes_itself():
    text = str(box((0, 0), (2, 1), cells=(4, 2), patches={"bottom": "walls", "top": "walls"}))
    assert text == str(box((0, 0), (2, 1), cells=(4, 2), patches={"bottom": "walls", "top": "walls"}))
    for part in ("8 cells (8 quad)", "15 points", "walls", "8 faces, length 4", "worst corner: 1 near"):
        assert part in text
    assert "area 1" in str(extrude(box(cells=(2, 2)), 1.0, 2))
    seen = []
    jax.eval_shape(lambda p: seen.append(str(Mesh(p, box(cells=(2, 2)).topology))) or p, box(cells=(2, 2)).points)
    assert "points are traced" in seen[0]
