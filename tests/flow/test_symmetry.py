"""A plane of symmetry is a mirror: half a flow is the half of the whole, and one layer between two planes is flow in 2D."""

import jax.numpy as jnp
import numpy as np
import pytest
from cases import in_numpy, kinked, mesh, operators, random_state

import fluidgrad as fg
from fluidgrad.mesh.mesh import Mesh
from fluidgrad.mesh.topology import build_topology

AXIS = np.array([1.0, -1.0])  # of reflection at y = 0


def with_image(half):
    """A 2D mesh and its mirror image at y = 0, where its patch ``bottom`` is: cells first, then their images."""
    x, t = np.asarray(half.points), half.topology
    image = np.arange(len(x)) + len(x)
    on_plane = np.unique(t.face_points[t.faces_of("bottom")])
    image[on_plane] = on_plane
    ((kind, cells),) = t.cells
    patches = {p: t.face_points[t.faces_of(p)] for p in t.patches if p != "bottom"}
    both = {p: np.concatenate([faces, image[faces]]) for p, faces in patches.items()}
    points = np.concatenate([x, x * AXIS])
    used = np.unique(np.concatenate([np.arange(len(x)), image]))
    number = np.full(len(points), -1)
    number[used] = np.arange(len(used))
    loops = number[np.concatenate([cells, image[cells][:, ::-1]])]
    return Mesh(jnp.asarray(points[used]), build_topology(points[used], [(kind, loops)], {p: number[f] for p, f in both.items()}))


def triangles():
    """The triangles of a jittered lattice, one half of the unit square's boundary each patch."""
    m = mesh("triangles")
    t, x = m.topology, np.asarray(m.points)
    sides = t.face_points[t.faces_of("wall")]
    middle = x[sides].mean(1)
    ends = {"bottom": middle[:, 1] < 1e-9, "left": middle[:, 0] < 1e-9, "right": middle[:, 0] > 1 - 1e-9, "top": middle[:, 1] > 1 - 1e-9}
    return Mesh(m.points, build_topology(x, t.cells, {p: sides[where] for p, where in ends.items()}))


HALVES = {
    "graded": lambda: fg.box(cells=(5, 4), grading=(0.0, 1.5)),
    "kinked": lambda: kinked(fg.box(cells=(5, 4))),
    "triangles": triangles,
}


def given(half, symmetry, **options):
    """The flow in half a duct with a force and a resistance, or in the whole of it."""
    n = half.n_cells
    rng = np.random.default_rng(1)
    force, porosity = rng.normal(size=(n, 2)), rng.uniform(0, 1, n)
    speed = 0.5 + rng.uniform(size=len(half.topology.face_points[half.topology.faces_of("left")]))
    if not symmetry:
        force, porosity, speed = np.concatenate([force, force * AXIS]), np.tile(porosity, 2), np.tile(speed, 2)
    plane = {"bottom": fg.Symmetry()} if symmetry else {}
    return fg.Flow(
        half if symmetry else with_image(half), viscosity=0.05, force=force, porosity=porosity, left=fg.Inflow(speed), right=fg.Outflow(),
        top=fg.Wall((0.2, 0.0)), **plane, **options,
    )  # fmt: skip


@pytest.mark.parametrize("name,scheme", [("graded", "central"), ("kinked", "upwind"), ("triangles", "central")])
def test_the_balance_of_a_cell_at_a_plane_of_symmetry_is_that_in_the_whole(name, scheme):
    m = HALVES[name]()
    half, whole = given(m, True, scheme=scheme), given(m, False, scheme=scheme)
    q = np.asarray(random_state(half)).reshape(-1, 3)
    R = operators(half, q.ravel())["residual"].reshape(-1, 3)
    both = operators(whole, np.concatenate([q, q * np.append(AXIS, 1.0)]).ravel())["residual"].reshape(-1, 3)
    np.testing.assert_allclose(both[: len(q)], R, atol=1e-13 * np.abs(R).max())
    np.testing.assert_allclose(both[len(q) :], R * np.append(AXIS, 1.0), atol=1e-13 * np.abs(R).max())


def test_half_an_entrance_flow_is_the_half_of_the_whole():
    """And the force on the plane is that on the other half."""
    m = fg.box((0, 0), (3, 1), cells=(8, 4))
    half, whole = (fg.solve_steady(given(m, symmetry), tolerance=1e-13) for symmetry in (True, False))
    n = m.n_cells
    np.testing.assert_allclose(whole.velocity[:n], half.velocity, atol=1e-12)
    np.testing.assert_allclose(whole.pressure[:n], half.pressure, atol=1e-12)
    of_half, through = in_numpy(lambda s: (fg.drag(s, "top"), fg.flow_rate(s, "bottom")), half)
    assert float(fg.drag(whole, "top")) == pytest.approx(2 * of_half, abs=1e-12)
    assert abs(through) < 1e-15


@pytest.mark.parametrize("name", ["kinked", "triangles"])
def test_one_layer_of_cells_between_planes_of_symmetry_is_2d(name):
    """However thick it is."""
    flat, height = HALVES[name](), 0.07
    two = given(flat, True)
    ends = two.boundary | {"top": fg.Wall((0.2, 0.0, 0.0)), "front": fg.Symmetry(), "back": fg.Symmetry()}
    force = np.pad(two.force, ((0, 0), (0, 1)))
    three = fg.Flow(fg.extrude(flat, height, 1), viscosity=two.viscosity, force=force, porosity=two.porosity, boundary=ends)
    q2 = np.asarray(random_state(two)).reshape(-1, 3)
    q3 = np.insert(q2, 2, 0.0, axis=1)
    R2 = operators(two, q2.ravel())["residual"].reshape(-1, 3)
    R3 = operators(three, q3.ravel())["residual"].reshape(-1, 4) / height
    np.testing.assert_allclose(R3[:, [0, 1, 3]], R2, atol=1e-12 * np.abs(R2).max())
    assert np.abs(R3[:, 2]).max() < 1e-12 * np.abs(R2).max()
