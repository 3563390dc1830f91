"""How meshes move: control boxes, the inside that follows, and their derivatives; and finer meshes from files."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import DISK, measure, mesh

import fluidgrad as fg
from fluidgrad.app.config.config import Config
from fluidgrad.errors import InputError
from fluidgrad.mesh.control import control_points
from fluidgrad.mesh.mesh import Mesh
from fluidgrad.mesh.meshfile import refined
from fluidgrad.mesh.motion import InverseDistance
from fluidgrad.mesh.topology import build_topology

LOWER, UPPER = np.array([0.5, -0.3]), np.array([1.5, 1.2])  # of a box over the middle of the duct, from wall to wall


@cache
def duct():
    return fg.box((0, 0), (2, 1), cells=(16, 8), patches={"bottom": "walls", "top": "walls"})


@cache
def solid():
    return fg.extrude(fg.box((0, 0), (2, 1), cells=(8, 3), patches={"bottom": "walls", "top": "walls"}), 1.0, 3, ("walls", "walls"))


def bulge(size=0.1, counts=(5, 3), seed=0):
    """Displacements of a lattice that stay at its ends along x."""
    d = size * np.random.default_rng(seed).uniform(-1, 1, (*counts, len(counts)))
    d[[0, -1]] = 0
    return d


def points_of(m, *patches):
    return np.unique(np.concatenate([m.topology.face_points[m.topology.faces_of(p)].ravel() for p in patches]))


@pytest.mark.parametrize("counts", [(2, 2), (3, 4), (4, 6), (3, 2, 5)])
def test_a_lattice_that_moves_linearly_moves_the_mesh_so(counts):
    m = duct() if len(counts) == 2 else solid()
    rng = np.random.default_rng(1)
    A, b = rng.uniform(-0.2, 0.2, (m.dim, m.dim)), rng.normal(size=m.dim)
    lower, upper = np.full(m.dim, -0.4), np.full(m.dim, 2.3)
    moved = fg.deform(m, lower, upper, control_points(lower, upper, counts) @ A + b)
    np.testing.assert_allclose(moved.points, m.points + m.points @ A + b, atol=1e-13)
    assert moved.topology is m.topology


@pytest.mark.parametrize("dim", [2, 3])
def test_points_outside_stay_and_none_jumps(dim):
    m = duct() if dim == 2 else solid()
    ends = [*zip(LOWER, UPPER, strict=True), (-0.1, 1.3)][:dim]
    d = bulge(counts=(5, 3, 2)[:dim])
    moved = np.asarray(fg.deform(m, *zip(*ends, strict=True), d).points - m.points)
    x = np.asarray(m.points)
    outside = (x[:, 0] < LOWER[0]) | (x[:, 0] > UPPER[0])
    assert (moved[outside] == 0).all() and np.abs(moved[~outside]).max() > 0.01
    assert np.abs(moved[np.isin(x[:, 0], (LOWER[0], UPPER[0]))]).max() < 1e-15


def test_a_control_point_moves_what_is_near_and_at_the_middle_as_its_spline():
    d = np.zeros((9, 2, 2))
    d[4, :, 1] = 0.1  # in the middle, where its spline is 2/3
    moved = np.asarray(fg.deform(duct(), (0, -1), (2, 2), d).points - duct().points)[:, 1]
    x = np.asarray(duct().points)[:, 0]
    np.testing.assert_allclose(moved[x == 1], 0.1 * 2 / 3, rtol=1e-12)
    assert (moved[np.abs(x - 1) > 2 * 2 / 6] == 0).all()  # a spline of degree 3 reaches two spans to each side


@pytest.mark.parametrize("dim", [2, 3])
def test_patches_move_exactly_and_the_others_stay_exactly(dim):
    m = duct() if dim == 2 else solid()
    ends = [*zip(LOWER, UPPER, strict=True), (-0.1, 1.3)][:dim]
    box, d = tuple(zip(*ends, strict=True)), bulge(counts=(5, 3, 2)[:dim])
    all_of_it, walls = fg.deform(m, *box, d), fg.deform(m, *box, d, patches="walls")
    others, moving = points_of(m, "left", "right"), points_of(m, "walls")
    assert (np.asarray(walls.points)[others] == np.asarray(m.points)[others]).all()
    np.testing.assert_allclose(np.asarray(walls.points)[moving], np.asarray(all_of_it.points)[moving], atol=1e-15)
    inside = InverseDistance(m).inside
    assert np.abs(np.asarray(walls.points - m.points)[inside]).max() > 0.01
    assert (walls.topology, fg.deform(m, *box, 0 * d, patches=["walls"]).points.tolist()) == (m.topology, m.points.tolist())


def test_the_inside_follows_a_translation_exactly_and_stays_between_what_the_boundary_does():
    m = duct()
    np.testing.assert_allclose(InverseDistance(m)(np.ones(m.points.shape)), 1.0, rtol=1e-13)
    given = np.random.default_rng(0).uniform(size=m.points.shape)
    followed = np.asarray(InverseDistance(m)(given))
    edge = given[InverseDistance(m).boundary]
    assert (followed >= edge.min(0) - 1e-12).all() and (followed <= edge.max(0) + 1e-12).all()


def test_a_body_that_moves_by_a_third_of_its_size_keeps_good_cells():
    m = fg.channel(1.2, 0.41, DISK, cells=600)
    given = np.zeros(m.points.shape)
    given[points_of(m, "body"), 1] = 0.03
    moved = Mesh(m.points + InverseDistance(m)(given), m.topology).quality
    assert moved.corner.min() > 0.6  # springs of stiffness 1/length leave 0.5
    assert moved.skewness.max() < 1.1 * m.quality.skewness.max()


# ---- derivatives


def of_everything(patches):
    """A scalar of the mesh's points as a function of displacements, box and mesh."""
    weight = jnp.asarray(np.random.default_rng(3).uniform(size=duct().points.shape))

    def value(d, lower, upper, points):
        moved = fg.deform(Mesh(points, duct().topology), lower, upper, d, patches)
        return jnp.sum(weight * jnp.sin(3 * moved.points))

    return jax.jit(value)


# off the lattice lines of the mesh: a point that a face of the box passes moves with a kink
BOX = (bulge(), jnp.array([0.47, -0.3]), jnp.array([1.53, 1.2]), duct().points)


@pytest.mark.parametrize("patches", [None, ("walls",)])
def test_derivatives_in_control_points_box_and_mesh(patches):
    value, rng = of_everything(patches), np.random.default_rng(4)
    x = tuple(jnp.asarray(a) for a in BOX)
    v = tuple(jnp.asarray(size * rng.normal(size=a.shape)) for a, size in zip(x, (0.05, 0.01, 0.01, 0.002), strict=True))
    gradient = jax.jit(jax.grad(value, argnums=(0, 1, 2, 3)))(*x)
    along = float(sum(jnp.sum(g * a) for g, a in zip(gradient, v, strict=True)))
    assert float(jax.jvp(value, x, v)[1]) == pytest.approx(along, rel=1e-12)

    def at(h):
        return float(value(*(a + h * b for a, b in zip(x, v, strict=True))))

    h = 0.02
    assert (at(-2 * h) - 8 * at(-h) + 8 * at(h) - at(2 * h)) / (12 * h) == pytest.approx(along, rel=1e-7)
    steps = (0.1, 0.05, 0.025)
    remainder = [abs(at(h) - at(0) - h * along) for h in steps]
    assert all(np.log2(a / b) > 1.9 for a, b in zip(remainder, remainder[1:], strict=False))
    wrong = [abs(at(h) - at(0) - h * along * 1.01) for h in steps]
    assert not all(np.log2(a / b) > 1.9 for a, b in zip(wrong, wrong[1:], strict=False))


def test_a_drag_differentiated_through_a_control_box_is_its_differences():
    m = fg.box((0, 0), (2, 1), cells=(8, 4), patches={"bottom": "walls", "top": "walls"})
    d, v = jnp.asarray(bulge()), jnp.asarray(bulge(seed=7))
    inlet = fg.parabola(m, "left", 1.0)

    move = jax.jit(lambda d: fg.deform(m, LOWER, UPPER, d, patches="walls"))

    def loss(d):
        flow = fg.Flow(move(d), viscosity=0.05, left=fg.Inflow(inlet), right=fg.Outflow(), walls=fg.Wall())
        return fg.pressure_drop(fg.solve_steady(flow, tolerance=1e-13), "left", "right")

    known = jax.value_and_grad(loss)  # values too: what the loss alone needs would be compiled for them only
    slope = float(np.sum(np.asarray(known(d)[1]) * v))
    f = [float(known(d + h * v)[0]) for h in (-0.04, -0.02, 0.02, 0.04)]
    assert (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / 0.24 == pytest.approx(slope, rel=1e-6)


def test_other_displacements_compile_nothing():
    programs = []
    move = jax.jit(lambda d: programs.append(1) or fg.deform(duct(), LOWER, UPPER, d, "walls").points)
    move(bulge(seed=1))
    move(bulge(seed=2))
    assert len(programs) == 1


# ---- what is refused


FREE = np.full((3, 3, 2), 0.01)
REFUSED = {
    "misses the mesh": (((3, 0), (4, 1), FREE), {}, r"box from \(3, 0\) to \(4, 1\) misses the mesh; .* from \(0, 0\) to \(2, 1\)"),
    "misses the patch": (((0.5, 0.2), (1.5, 0.8), FREE), {"patches": "walls"}, "misses patch 'walls'"),
    "cuts": ((LOWER, UPPER, FREE), {}, r"face of the control box cuts through the mesh near \(0.5, .*the left face that stay"),
    "cuts a patch": ((LOWER, UPPER, FREE), {"patches": ["walls"]}, r"cuts through patch 'walls' near \(0.5, "),
    "tears off": (((-1, -1), (3, 2), FREE), {"patches": "walls"}, r"'walls' meets a patch that stays, near \(0, 0\)"),
    "folds": ((LOWER, UPPER, 60 * bulge()), {"patches": "walls"}, r"the mesh is tangled: \d+ cells folded, the worst near"),
    "upside down": ((UPPER, LOWER, FREE), {}, "upper above lower"),
    "no such patch": ((LOWER, UPPER, FREE), {"patches": "wall"}, "no patch named 'wall'"),
    "no patches": ((LOWER, UPPER, FREE), {"patches": []}, "no patches to move"),
    "flat box": (((0, 0, 0), (1, 1, 1), FREE), {}, "2 numbers each: the mesh is in 2D"),
    "wrong lattice": ((LOWER, UPPER, np.zeros((3, 2))), {}, r"displacements of shape \(3, 2\); \(n0, n1, 2\)"),
    "single layer": ((LOWER, UPPER, np.zeros((3, 1, 2))), {}, "2 control points or more along every axis"),
    "not finite": ((LOWER, UPPER, np.full((3, 3, 2), np.nan)), {}, "is not finite"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_move_is_refused(name):
    given, options, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        fg.deform(duct(), *given, **options)


@pytest.mark.parametrize("mirrors", [["bottom"], ["top"], ["bottom", "back"]])
def test_a_lattice_goes_on_behind_a_mirror(mirrors):
    """A half (or a quarter) moves as in the whole lattice, whose other half is the image; and what is in a plane stays in it."""
    m = solid()
    d = 0.05 * np.random.default_rng(3).uniform(-1, 1, (4, 3, 2, 3))
    ends = np.array([[-0.1, 0.0, 0.0], [2.1, 1.0, 1.0]])
    moved = fg.deform(m, *ends, d, mirrors=mirrors).points
    whole, box = d, ends.copy()
    for face in mirrors:
        axis, last = {"bottom": (1, 0), "top": (1, 1), "back": (2, 1)}[face]
        image = np.flip(whole, axis) * np.where(np.arange(3) == axis, -1, 1)
        whole = np.concatenate([whole, image] if last else [image, whole], axis)
        box[last, axis] += 1 if last else -1
        in_plane = np.isclose(m.points[:, axis], ends[last, axis])
        np.testing.assert_allclose(moved[in_plane, axis], m.points[in_plane, axis], atol=1e-14)
        assert np.abs(moved - m.points)[in_plane].max() > 1e-3  # though it moves along it
    np.testing.assert_allclose(moved, fg.deform(m, *box, whole).points, atol=1e-14)


def test_the_derivative_by_control_points_at_a_mirror():
    m, ends = solid(), ([-0.1, 0.0, 0.0], [2.1, 1.0, 1.0])
    weight = jnp.asarray(np.random.default_rng(0).standard_normal(m.points.shape))
    f = lambda d: jnp.sum(weight * fg.deform(m, *ends, d, mirrors=["front"]).points ** 2)  # noqa: E731
    d, v = (s * np.random.default_rng(k).uniform(-1, 1, (4, 3, 2, 3)) for k, s in ((1, 0.05), (2, 1.0)))
    slope = float(jnp.sum(jax.grad(f)(jnp.asarray(d)) * v))
    assert slope == pytest.approx(float(f(d + 1e-4 * v) - f(d - 1e-4 * v)) / 2e-4, rel=1e-8)


@pytest.mark.parametrize("mirrors", [["front"], ["left", "right"], ["left", "left"], ["below"]])
def test_what_is_no_mirror_of_a_box_is_refused(mirrors):
    with pytest.raises(InputError, match="as a mirror of a control box; faces of it, no two of them opposite: left, right, bottom, top"):
        fg.deform(duct(), (0.0, 0.0), (2.0, 1.0), np.zeros((3, 3, 2)), mirrors=mirrors)


# ---- in configs


CONFIG = {
    "mesh": {"kind": "box", "upper": [2.0, 1.0], "cells": [8, 4], "patches": {"bottom": "walls", "top": "walls"}},
    "flow": {"viscosity": 0.05},
    "boundary": {"left": {"kind": "inflow", "speed": 1.0}, "right": {"kind": "outflow"}, "walls": {"kind": "wall"}},
}
CONTROL = {"lower": [0.5, -0.1], "upper": [1.5, 1.2], "counts": [5, 3], "hold": ["left", "right"]}


def case(**control):
    return Config.model_validate({**CONFIG, "mesh": CONFIG["mesh"] | {"control": CONTROL | control}}).case()


def test_a_config_names_the_control_points_that_may_move():
    assert case().numbers["mesh"]["control"]["displacements"].shape == (9, 2)
    one_way = case(directions=["y"], hold_layers=2)
    assert one_way.numbers["mesh"]["control"]["displacements"].shape == (3, 1)
    given = np.array([[0.1], [-0.2], [0.05]])
    flow = one_way.flow_of({"mesh.control.displacements": given})
    lattice = np.zeros((5, 3, 2))
    lattice[2, :, 1] = given[:, 0]
    by_hand = fg.deform(fg.box((0, 0), (2, 1), (8, 4), patches={"bottom": "walls", "top": "walls"}), (0.5, -0.1), (1.5, 1.2), lattice)
    np.testing.assert_allclose(flow.mesh.points, by_hand.points, atol=1e-15)
    assert flow.mesh.topology == one_way.flow(one_way.numbers).mesh.topology


def test_a_config_names_mirrors():
    given = 0.05 * np.random.default_rng(0).uniform(-1, 1, (9, 2))
    flow = case(lower=[0.5, 0.0], mirrors=["bottom"]).flow_of({"mesh.control.displacements": given})
    lattice = np.zeros((5, 3, 2))
    lattice[1:4] = given.reshape(3, 3, 2)
    mesh = fg.box((0, 0), (2, 1), (8, 4), patches={"bottom": "walls", "top": "walls"})
    by_hand = fg.deform(mesh, (0.5, 0.0), (1.5, 1.2), lattice, mirrors=("bottom",))
    np.testing.assert_allclose(flow.mesh.points, by_hand.points, atol=1e-15)
    with pytest.raises(InputError, match="as a mirror of a control box"):
        case(mirrors=["bottom", "top"])


@pytest.mark.parametrize(
    "control, message",
    [
        ({"lower": [3.0, 0.0], "upper": [4.0, 1.0]}, r"misses the mesh \(\[mesh\] in the config\)"),
        ({"hold": ["right"]}, r"a face of the control box cuts through the mesh near \(0.5, .*the left face that stay"),
        ({"counts": [3, 3, 3], "lower": [0.0] * 3, "upper": [1.0] * 3}, "control.counts has 3 entries, and the mesh has 2 dimensions"),
    ],
)
def test_a_config_whose_box_would_tear_the_mesh_is_refused_before_anything_moves(control, message):
    with pytest.raises(InputError, match=message):
        case(**control)


# ---- finer meshes from files


def parts(m):
    """Points, cells and patches as a file has them."""
    t = m.topology
    patches = {}
    for name in t.patches:
        f = t.face_points[t.faces_of(name)].copy()
        for k in range(f.shape[1] - 1, 0, -1):
            f[f[:, k] == f[:, k - 1], k] = -1
        patches[name] = f
    return np.asarray(m.points), list(t.cells), patches


MESHES = {
    "triangles": lambda: mesh("triangles"),
    "quadrilaterals": lambda: mesh("kinked box"),
    "tetrahedra": lambda: mesh("tetrahedra"),
    "hexahedra": lambda: mesh("extruded"),
    "prisms": lambda: fg.extrude(mesh("triangles"), 0.5, 2),
}


@pytest.mark.parametrize("times", [2, 3])
@pytest.mark.parametrize("name", MESHES)
def test_divided_cells_keep_volume_and_patches(name, times):
    from fluidgrad.mesh.meshfile import _outside_out

    m = MESHES[name]()
    points, cells, patches = refined(*parts(m), times)
    fine = Mesh(jnp.asarray(points), build_topology(points, [(k, _outside_out(points, k, c, "it")) for k, c in cells], patches))
    assert [k for k, _ in fine.topology.cells] == [k for k, _ in m.topology.cells]
    assert (fine.n_cells, fine.patches) == (times**m.dim * m.n_cells, m.patches)
    assert fine.quality.corner.min() > 0
    before, after = (measure(m), measure(fine))
    assert after.V.sum() == pytest.approx(before.V.sum(), rel=1e-13)
    for p in m.patches:
        size = [np.linalg.norm(g.S[x.topology.faces_of(p)].sum(0)) for g, x in ((before, m), (after, fine))]
        assert size[0] == pytest.approx(size[1], abs=1e-13)
    assert np.isin(np.round(np.asarray(m.points), 12), np.round(points, 12)).all()


def test_patches_keep_their_order_when_divided():
    x, _, patches = parts(mesh("box"))
    points, _, finer = refined(*parts(mesh("box")), 2)
    before, after = x[patches["left"][:, :2]].mean(1), points[finer["left"][:, :2]].mean(1)
    np.testing.assert_allclose(after.reshape(-1, 2, 2).mean(1), before, atol=1e-14)


def test_pyramids_are_not_divided():
    with pytest.raises(InputError, match="pyramids cannot be refined"):
        refined(np.zeros((5, 3)), [("pyramid", np.arange(5)[None])], {}, 2)
