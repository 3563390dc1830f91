"""Profiles are exact face averages, whatever the mesh."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluidgrad.blocks.box import box
from fluidgrad.blocks.layers import extrude
from fluidgrad.errors import InputError
from fluidgrad.flow.profiles import nodes, parabola, parabola_at_nodes, spans
from fluidgrad.mesh.mesh import Mesh, measure
from fluidgrad.mesh.topology import build_topology

VALUES = jnp.array([0.3, -0.1, 0.5, 0.2])


def area(mesh, patch):
    return jnp.linalg.norm(measure(mesh).S[mesh.topology.faces_of(patch)], axis=1)


@pytest.mark.parametrize("cells", [(3, 7), (3, 12)])
@pytest.mark.parametrize("grading", [0.0, 2.0])
@pytest.mark.parametrize("patch", ["left", "top"])
def test_flow_rate_of_a_profile_is_the_same_on_every_mesh(cells, grading, patch):
    mesh = box((0, 0), (0.7, 0.41), cells, grading)
    length = 0.41 if patch == "left" else 0.7
    assert float(area(mesh, patch) @ parabola(mesh, patch, 0.2)) == pytest.approx(0.2 * length, rel=1e-14)
    assert float(area(mesh, patch) @ nodes(mesh, patch, VALUES)) == pytest.approx(0.9 * length / 5, rel=1e-13)


def test_a_face_has_the_average_of_the_profile_over_it():
    mesh = box((0, 0), (1, 2), (2, 9), 1.5)
    a, b = spans(mesh, "left")
    s = np.asarray(a)[:, None] + np.asarray(b - a)[:, None] * (np.arange(4000) + 0.5) / 4000
    at = np.interp(s, np.arange(6) / 5, np.pad(np.asarray(VALUES), 1))
    np.testing.assert_allclose(nodes(mesh, "left", VALUES), at.mean(1), atol=1e-7)  # the midpoint rule's own error
    np.testing.assert_allclose(parabola(mesh, "left", 0.2), (1.2 * s * (1 - s)).mean(1), atol=1e-7)


def test_profiles_run_in_the_direction_of_x_or_y_whatever_the_order_of_faces():
    mesh = box((0, 0), (1, 1), (2, 5))
    t = mesh.topology
    shuffled = {p: t.face_points[t.faces_of(p)] for p in t.patches}
    shuffled["left"] = shuffled["left"][[3, 0, 4, 1, 2]]
    again = Mesh(mesh.points, build_topology(np.asarray(mesh.points), list(t.cells), shuffled))
    speed, place = nodes(again, "left", VALUES), measure(again).x_face[again.topology.faces_of("left"), 1]
    expected, at = nodes(mesh, "left", VALUES), measure(mesh).x_face[t.faces_of("left"), 1]
    np.testing.assert_allclose(speed[jnp.argsort(place)], expected[jnp.argsort(at)], rtol=1e-13)
    assert float(nodes(again, "left", jnp.array([1.0, 0.0, 0.0]))[jnp.argmin(place)]) > 0


def test_nodes_of_a_parabola_have_its_mean():
    mesh = box((0, 0), (1, 0.41), (2, 6))
    values = parabola_at_nodes(5, 0.2)
    assert float(area(mesh, "left") @ nodes(mesh, "left", values)) == pytest.approx(0.2 * 0.41, rel=1e-14)


def test_a_parabola_in_3d_is_the_product_of_two():
    mesh = extrude(box((0, 0), (1, 2), (2, 5), 1.0), 3.0, 4)
    speed = parabola(mesh, "left", 0.2)
    assert float(area(mesh, "left") @ speed) == pytest.approx(0.2 * 6, rel=1e-13)
    flat = parabola(box((0, 0), (1, 2), (2, 5), 1.0), "left", 1.0)
    along = parabola(box((0, 0), (1, 3), (2, 4)), "left", 1.0)
    product = np.sort(np.asarray(flat[:, None] * along).ravel())
    np.testing.assert_allclose(np.sort(np.asarray(speed)), 0.2 * product, rtol=1e-12)
    compiled = jax.jit(lambda points: parabola(Mesh(points, mesh.topology), "left", 0.2))(mesh.points)
    np.testing.assert_allclose(compiled, speed, rtol=1e-13)


def test_a_profile_at_a_mirror_is_a_half_of_the_whole():
    """In 2D at the top or the bottom; in 3D the quarter between two planes of symmetry."""
    whole, half = (box((0, 0), (1, h), (2, n), patches={"top": "top"}) for h, n in ((2.0, 8), (1.0, 4)))
    speed = parabola(whole, "left", 0.3)
    np.testing.assert_allclose(parabola(half, "left", 0.3, mirrors=["top"]), speed[:4], rtol=1e-13)
    np.testing.assert_allclose(parabola(half, "left", 0.3, mirrors=["bottom"]), speed[4:], rtol=1e-13)
    solid, quarter = extrude(whole, 3.0, 6, grading=1.0), extrude(half, 1.5, 3, grading=(1.0, 0.0))
    found = parabola(quarter, "left", 0.3, mirrors=("top", "back"))
    np.testing.assert_allclose(found, parabola(solid, "left", 0.3).reshape(6, 8)[:3, :4].ravel(), rtol=1e-12)
    assert float(area(quarter, "left") @ found) == pytest.approx(0.3 * 1.5, rel=1e-13)


@pytest.mark.parametrize("mirrors", [["left"], ["right"], ["top", "bottom"], ["nowhere"]])
def test_what_is_no_mirror_of_a_profile_is_refused(mirrors):
    for mesh in (box(cells=(2, 3)), extrude(box(cells=(2, 3)), 1.0, 2)):
        with pytest.raises(
            InputError, match="is no mirror of a profile on 'left'; a patch that meets it along one whole side|no patch named"
        ):
            parabola(mesh, "left", 1.0, mirrors=mirrors)


def test_a_profile_runs_up_whatever_meshes_were_met_before():
    """Meshes turned by half a turn have the same faces in the same order, but their profiles run the other way."""
    mesh = box((0, 0), (1, 1), (2, 4))
    t = mesh.topology
    turned = Mesh(-mesh.points, build_topology(-t.nominal, t.cells, {p: t.face_points[t.faces_of(p)] for p in t.patches}))
    values = [nodes(m, "left", VALUES) for m in (mesh, turned)]
    np.testing.assert_allclose(values[0], values[1][::-1], rtol=1e-13)
    assert turned.topology != t


def test_profiles_are_differentiable_in_values_and_points():
    mesh = box((0, 0), (1, 1), (2, 4), 1.0)

    def rate(values, y):
        points = mesh.points * jnp.array([1.0, 1.0]) + jnp.stack([jnp.zeros(len(mesh.points)), y * mesh.points[:, 1] ** 2], 1)
        return jnp.sum(nodes(Mesh(points, mesh.topology), "left", values) ** 2 + parabola(Mesh(points, mesh.topology), "left", 0.3))

    v, y, h = VALUES, jnp.asarray(0.1), 1e-5
    by_values, by_points = jax.grad(rate, (0, 1))(v, y)
    d = jnp.array([1.0, 2.0, -1.0, 0.5])
    assert float(by_values @ d) == pytest.approx(float(rate(v + h * d, y) - rate(v - h * d, y)) / (2 * h), rel=1e-8)
    assert float(by_points) == pytest.approx(float(rate(v, y + h) - rate(v, y - h)) / (2 * h), rel=1e-7)


def test_profiles_refuse_what_they_cannot_run_along():
    mesh = box((0, 0), (1, 1), (2, 2), patches={"left": "wall", "right": "wall"})
    with pytest.raises(InputError, match="patch 'wall' is not one line from end to end; a profile needs one"):
        parabola(mesh, "wall", 1.0)
    solid = extrude(mesh, 1.0, 2)
    with pytest.raises(InputError, match="patch 'wall' is not a rectangle with its sides along two axes"):
        parabola(solid, "wall", 1.0)
    with pytest.raises(InputError, match="a profile of nodes on patch 'top' of a 3D mesh; a 2D mesh"):
        nodes(solid, "top", VALUES)
    with pytest.raises(InputError, match=r"the nodes of a profile have shape \(2, 2\)"):
        nodes(mesh, "top", VALUES.reshape(2, 2))
    with pytest.raises(InputError, match="no patch named 'inlet'"):
        parabola(mesh, "inlet", 1.0)
