"""Generated meshes: closed cells, exact areas, nested refinement, derivatives, stable topology; and what is refused."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import gap, measure

from fluidgrad.blocks.box import box
from fluidgrad.blocks.channels import channel
from fluidgrad.blocks.layers import extrude
from fluidgrad.blocks.o_grids import o_grid
from fluidgrad.errors import InputError
from fluidgrad.mesh.mesh import measure as measured
from fluidgrad.shapes.curves import circle, ellipse, fourier_curve
from fluidgrad.shapes.points import closed_curve
from fluidgrad.shapes.polygons import area

DISK = circle((0.2, 0.2), 0.05)


def kidney(n=80):
    angle = 2 * np.pi * np.arange(n) / n
    return 0.2 + 0.05 * np.stack([np.cos(angle), 0.7 * np.sin(angle) + 0.75 * np.cos(angle) ** 2 - 0.4], 1)


def star(n=150):
    angle = 2 * np.pi * np.arange(n) / n
    return 0.2 + 0.05 * (1 + 0.3 * np.cos(5 * angle))[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)


def tube(body, cells=1500, **more):
    return channel(2.2, 0.41, body, cells=cells, **more)


MESHES = {
    "box": lambda: box((0, 0), (2, 1), cells=(6, 5), grading=(0.0, 1.5)),
    "split box": lambda: box(cells=200, grading=1.2, patches={"top": [("lid", 0, 0.4), ("slot", 0.4, 1)], "left": "inlet"}),
    "empty channel": lambda: channel(4.0, 1.0, cells=300),
    "circle": lambda: tube(DISK),
    "fourier": lambda: tube(fourier_curve((0.2, 0.2), 0.05, [(0, 0), (0.2, 0), (0.2, 0.1)])),
    "ellipse": lambda: tube(ellipse((0.2, 0.2), (0.08, 0.02), 0.3)),
    "square": lambda: tube(closed_curve([(0.15, 0.15), (0.25, 0.15), (0.25, 0.25), (0.15, 0.25)], corners=True)),
    "kidney": lambda: tube(closed_curve(kidney())),
    "star": lambda: tube(closed_curve(star())),
    "tandem": lambda: tube([DISK, circle((0.5, 0.2), 0.05)], cells=2500),
    "side by side": lambda: channel(2.2, 0.8, [circle((0.3, 0.25), 0.05), circle((0.3, 0.5), 0.06)], cells=2500),
    "staggered": lambda: channel(2.2, 0.8, {"first": circle((0.3, 0.3), 0.05), "second": circle((0.5, 0.45), 0.05)}, cells=2500),
    "o-grid": lambda: o_grid(circle((1, 2), 1), 3, cells=(24, 8)),
    "o-grid of an ellipse": lambda: o_grid(ellipse((0, 0), (1, 0.3)), 10, cells=1500),
    "3D": lambda: extrude(tube(DISK, cells=400), 0.3, 2),
}


def turned(points, degrees):
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return 0.2 + 0.05 * np.array(points) / np.max(points) @ [[c, s], [-s, c]]


ELL = 0.15 + np.array([(0, 0), (0.1, 0), (0.1, 0.04), (0.04, 0.04), (0.04, 0.1), (0, 0.1)])
SQUARE = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
PLATE = np.array(SQUARE) * (1, 0.1)
ANGULAR = {
    "L": ELL,
    "L of many points": np.concatenate([np.linspace(a, b, 20, False) for a, b in zip(ELL, np.roll(ELL, -1, 0), strict=True)]),
    "T": 0.15 + np.array([(35, 0), (65, 0), (65, 60), (100, 60), (100, 100), (0, 100), (0, 60), (35, 60)]) / 1000,
    "plus": turned([(-1, -3), (1, -3), (1, -1), (3, -1), (3, 1), (1, 1), (1, 3), (-1, 3), (-1, 1), (-3, 1), (-3, -1), (-1, -1)], 0),
    "square at 30 degrees": turned(SQUARE, 30),
    "square at 45 degrees": turned(SQUARE, 45),
    "triangle": [(0.15, 0.15), (0.25, 0.2), (0.15, 0.25)],
    "plate": turned(PLATE, 0),
    "plate at -20 degrees": turned(PLATE, -20),
}  # fmt: skip
ROUND = {"circle": 2.2 * 0.41, "tandem": 2.2 * 0.41}


@pytest.mark.parametrize("name", MESHES)
def test_cells_are_closed_and_positive_and_their_corners_open(name):
    mesh = MESHES[name]()
    g = measure(mesh)
    assert np.abs(gap(mesh)).max() < 1e-14
    assert np.min(g.V) > 0
    assert mesh.quality.corner.min() > 0.3, str(mesh)
    # The volume inside the boundary, by the boundary alone: no cell is missing and none is twice.
    n = mesh.topology.n_interior
    outside = np.sum(np.asarray(g.x_face)[n:] * np.asarray(g.S)[n:]) / mesh.dim
    assert abs(outside / np.sum(g.V) - 1) < 1e-12


@pytest.mark.parametrize("name", ANGULAR)
def test_bodies_with_corners_are_met_by_nodes_and_no_cell_is_flat(name):
    """Re-entrant corners were refused as tangled, and so was a square that is turned."""
    body = closed_curve(ANGULAR[name], corners=True)
    for cells in (1500, 5000):
        mesh = tube(body, cells)
        assert mesh.quality.corner.min() > 0.25, str(mesh)
        inside = abs(np.sum(measure(mesh).V) - 2.2 * 0.41)
        assert abs(inside - area(np.asarray(body.numbers["points"]))) < 1e-14


def test_areas_are_exact_up_to_the_polygon_that_the_body_is():
    assert abs(np.sum(measure(box((0, 1), (2, 4), cells=(7, 5), grading=2)).V) - 6) < 1e-13
    square = closed_curve([(0.15, 0.15), (0.25, 0.15), (0.25, 0.25), (0.15, 0.25)], corners=True)
    assert abs(np.sum(measure(tube(square)).V) - (2.2 * 0.41 - 0.01)) < 1e-14
    gap = [np.sum(measure(tube(DISK, cells=600, refine=k)).V) - (2.2 * 0.41 - np.pi * 0.05**2) for k in (1, 2)]
    assert 0 < gap[1] < gap[0] and 1.95 < np.log2(gap[0] / gap[1]) < 2.05


@pytest.mark.parametrize("name", ["box", "split box", "circle", "tandem", "kidney", "square", "o-grid"])
def test_refined_meshes_hold_every_point_of_the_coarse_one(name):
    makes = {
        "box": lambda k: box((0, 0), (2, 1), cells=(6, 5), grading=(0.0, 1.5), refine=k),
        "split box": lambda k: box(cells=(7, 4), grading=1.2, patches={"top": [("lid", 0, 0.4), ("slot", 0.4, 1)]}, refine=k),
        "circle": lambda k: tube(DISK, cells=500, refine=k),
        "tandem": lambda k: tube([DISK, circle((0.5, 0.2), 0.05)], cells=900, refine=k),
        "square": lambda k: tube(closed_curve([(0.15, 0.15), (0.25, 0.15), (0.25, 0.25), (0.15, 0.25)], True), cells=500, refine=k),
        "kidney": lambda k: tube(closed_curve(kidney()), cells=600, refine=k),
        "o-grid": lambda k: o_grid(circle((1, 2), 1), 3, cells=(12, 5), refine=k),
    }
    coarse, fine = (makes[name](k) for k in (1, 2))
    assert fine.n_cells == 4 * coarse.n_cells
    distance = np.abs(np.asarray(fine.points)[:, None] - np.asarray(coarse.points)).max(2).min(0)
    assert distance.max() < 1e-13, distance.max()


@pytest.mark.parametrize(("length", "height"), [(4, 1), (2.2, 0.41), (1, 1), (20, 1), (1, 4)])
@pytest.mark.parametrize("cells", [30, 60, 300, 5000])
def test_an_empty_channel_has_sensible_cells_however_few(length, height, cells):
    """Cells could be as long as half the height, however thin: 60 made 2 along a square channel and 30 across."""
    mesh = channel(length, height, cells=cells)
    (along,), (across,) = mesh.recipe.counts
    assert abs(mesh.n_cells / cells - 1) < 0.25
    middle = along * height / (length * across)  # thickness over length of the mean cell
    assert 0.09 < middle < 2.1, (along, across)


def test_about_as_many_cells_as_asked_for():
    for cells in (1000, 5000, 20000):
        assert abs(tube(DISK, cells=cells).n_cells / cells - 1) < 0.04
        assert abs(box((0, 0), (3, 1), cells=cells).n_cells / cells - 1) < 0.04
        assert abs(o_grid(DISK, 1.0, cells=cells).n_cells / cells - 1) < 0.04


@pytest.mark.parametrize("kind", ["circle", "two", "fourier", "kidney", "o-grid", "3D"])
def test_points_are_differentiable_in_every_number(kind):
    def make(x, like=None):
        more = {"cells": 400} if like is None else {"like": like}
        if kind == "two":
            return channel(2 + x, 0.8 + x, [circle((0.3 + x, 0.3), 0.05 + x), circle((0.6, 0.45 - x), 0.05)], **more)
        if kind == "fourier":
            return channel(2.2, 0.41, fourier_curve((0.2, 0.2), 0.05 + x, [(0.1 * x, 0), (0.1 + x, x)]), **more)
        if kind == "kidney":
            return channel(2.2, 0.41, closed_curve(kidney() * jnp.stack([1 + x, 1 - x])), **more)
        if kind == "o-grid":
            return o_grid(ellipse((x, 0), (1 + x, 0.5), x), 5 + x, **more)
        if kind == "3D":
            return extrude(channel(2.2, 0.41, circle((0.2, 0.2 + x), 0.05 + x), **more), 0.3 + x, 2)
        return channel(2.2, 0.41, circle((0.2 + x, 0.2), 0.05 + x), **more)

    like = channel(2.2, 0.41, DISK, cells=400) if kind == "3D" else make(0.0)
    _, tangent = jax.jvp(lambda x: make(x, like).points, (0.0,), (1.0,))
    h = 1e-4
    by_difference = (make(h, like).points - make(-h, like).points) / (2 * h)
    closer = (make(h / 2, like).points - make(-h / 2, like).points) / h
    error = np.abs(np.asarray(tangent) - (4 * closer - by_difference) / 3).max()
    assert error < 1e-8 * np.abs(tangent).max(), error
    assert float(jnp.abs(tangent).max()) > 0.3


def test_the_derivative_of_the_area_in_the_radius_is_the_circumference():
    like = tube(DISK, cells=600)
    slope = jax.grad(lambda r: jnp.sum(measured(channel(2.2, 0.41, circle((0.2, 0.2), r), like=like)).V))(0.05)
    # The body is a polygon with its corners on the circle, whose area goes with the radius squared.
    body = 2.2 * 0.41 - np.sum(measure(like).V)
    assert abs(slope + 2 * body / 0.05) < 1e-13
    assert abs(slope + 2 * np.pi * 0.05) < 0.01 * 2 * np.pi * 0.05
    across = jax.grad(lambda x: jnp.sum(measured(channel(2.2, 0.41, circle(jnp.stack([x, 0.2]), 0.05), like=like)).V))(0.2)
    assert abs(across) < 1e-14


def test_modes_may_be_traced_without_like_and_never_change_the_topology():
    def make(modes):
        return channel(2.2, 0.41, fourier_curve((0.2, 0.2), 0.05, modes), cells=400)

    modes = jnp.array([[0.0, 0.0], [0.1, 0.05]])
    plain = make(0 * modes)
    assert make(modes).topology == plain.topology and make(modes).recipe == plain.recipe
    volume = lambda m: jnp.sum(measured(make(m)).V)  # noqa: E731
    for gradient in (jax.grad(volume)(modes), jax.jit(jax.grad(volume))(modes)):
        # -d/da of pi r^2 (1 + a^2 / 2), up to the polygon.
        assert np.allclose(gradient[1], -np.pi * 0.05**2 * modes[1], rtol=0.1)


def test_changed_numbers_keep_the_topology_and_compile_nothing_anew():
    like, count = tube(DISK, cells=400), []

    @jax.jit
    def volume(mesh):
        count.append(1)
        return measured(mesh).V.sum()

    for x in (0.2, 0.21, 0.22):
        mesh = channel(2.2, 0.41, circle((x, 0.2), 0.05), like=like)
        assert mesh.topology == like.topology and hash(mesh.topology) == hash(like.topology)
        volume(mesh)
    assert len(count) == 1
    assert channel(2.2, 0.41, DISK, like=like, refine=2).n_cells == 4 * like.n_cells


def test_patches_of_a_box_are_cut_where_they_are_asked_to_be():
    mesh = box((1, 0), (3, 1), cells=(9, 8), patches={"top": [("lid", 1, 1.7), ("slot", 1.7, 3)], "left": "walls", "bottom": "walls"})
    assert mesh.patches == ("walls", "right", "lid", "slot")
    length = np.linalg.norm(measure(mesh).S, axis=1)
    for name, wanted in {"walls": 3, "right": 1, "lid": 0.7, "slot": 1.3}.items():
        assert abs(length[mesh.topology.faces_of(name)].sum() - wanted) < 1e-14
    uniform = box(cells=(4, 4), patches={"top": [("a", 0, 0.5), ("b", 0.5, 1)]})
    assert np.allclose(uniform.points, box(cells=(4, 4)).points, atol=1e-15)


def test_patches_run_the_way_profiles_do():
    mesh = tube(DISK, cells=400)
    x = np.asarray(measure(mesh).x_face)
    assert (np.diff(x[mesh.topology.faces_of("inlet"), 1]) > 0).all()
    body = x[mesh.topology.faces_of("body")] - 0.2
    turn = np.diff(np.unwrap(np.arctan2(body[:, 1], body[:, 0])))
    assert (turn > 0).all()


def test_several_bodies_have_patches_of_their_own():
    assert MESHES["tandem"]().patches == ("inlet", "outlet", "walls", "body_1", "body_2")
    mesh = MESHES["staggered"]()
    assert mesh.patches == ("inlet", "outlet", "walls", "first", "second")
    x = np.asarray(measure(mesh).x_face)
    assert np.allclose(x[mesh.topology.faces_of("second")].mean(0), (0.5, 0.45), atol=5e-3)


@pytest.mark.parametrize("first", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["triangle", "square", "spline"])
def test_an_o_grid_faces_its_body_wherever_the_body_begins(kind, first):
    angle = np.pi * np.arange(0, 2, 1 / {"triangle": 1.5, "square": 2, "spline": 12}[kind])
    points = np.stack([np.cos(angle), (0.4 if kind == "spline" else 1.0) * np.sin(angle)], 1)
    mesh = o_grid(closed_curve(np.roll(points, first, 0), corners=kind != "spline"), 10, cells=(24, 12))
    assert mesh.quality.corner.min() > {"triangle": 0.2, "square": 0.5, "spline": 0.9}[kind]


def test_an_o_grid_grows_as_asked():
    mesh = o_grid(circle((0, 0), 1.0), circle((0, 0), 2.0), cells=(16, 4), grading=1)
    assert np.allclose(np.unique(np.round(np.linalg.norm(mesh.points, axis=1), 12)), [1, 1.25, 1.5, 1.75, 2])
    graded = o_grid(circle((0, 0), 1.0), 2.0, cells=(16, 64), grading=10)
    r = np.unique(np.round(np.linalg.norm(graded.points, axis=1), 12))
    assert abs((r[-1] - r[-2]) / (r[1] - r[0]) - 10 ** (63 / 64)) < 1e-6


def test_an_extruded_mesh_keeps_its_sides():
    flat = tube(DISK, cells=400)
    mesh = extrude(flat, 0.3, 2, patches=("front", "back"))
    assert mesh.patches == (*flat.patches, "front", "back")
    assert np.allclose(np.sum(measure(mesh).V), 0.3 * np.sum(measure(flat).V), rtol=1e-13)
    assert mesh.n_cells == 2 * flat.n_cells


def test_the_ends_of_layers_are_patches_of_their_own_unless_named_as_a_side():
    """They were called bottom and top by default, and became part of a box's sides of these names."""
    flat = box(cells=(3, 2))
    assert extrude(flat, 1.0, 2).patches == (*flat.patches, "front", "back")
    duct = extrude(tube(DISK, cells=400), 0.3, 2, patches=("walls", "walls"))
    assert duct.patches == ("inlet", "outlet", "walls", "body")
    t = duct.topology
    size = np.linalg.norm(measure(duct).S, axis=1)[t.faces_of("walls")].sum()
    assert abs(size - 2 * 2.2 * 0.3 - 2 * np.sum(measure(duct).V) / 0.3) < 1e-12


def test_the_sides_of_a_channel_have_the_names_they_are_given():
    """Bottom and top in two patches are a translation of each other, as inlet and outlet are."""
    split = tube(DISK, cells=400, patches={"inlet": "left", "outlet": "right", "bottom": "bottom", "top": "top"})
    assert split.patches == ("left", "right", "bottom", "top", "body")
    assert tube(DISK, like=split).patches == split.patches
    whole = tube(DISK, cells=400)
    assert whole.patches == ("inlet", "outlet", "walls", "body")
    np.testing.assert_array_equal(whole.points, split.points)
    g, t = measure(split), split.topology
    low, high = (np.asarray(g.x_face)[t.faces_of(p)] for p in ("bottom", "top"))
    np.testing.assert_allclose(low[np.argsort(low[:, 0])] + [0, 0.41], high[np.argsort(high[:, 0])], atol=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tube(circle((0.2, 0.05), 0.05)), r"body touches or crosses the bottom wall near \(0.2, 0\)"),
        (lambda: tube(circle((2.18, 0.2), 0.05)), "body touches or crosses the outlet"),
        (lambda: tube([DISK, circle((0.27, 0.21), 0.05)]), "body_1 and body_2 are too close: the rectangles round them overlap"),
        (lambda: tube({"walls": DISK}), "a body cannot be called 'walls'"),
        (lambda: tube(fourier_curve((0.2, 0.2), 0.05, [(0, 0), (3.5, 0), (-3.5, 0)])), "passes through its center"),
        (lambda: tube(fourier_curve((0.2, 0.2), 0.1, [(0, 0), (0.95, 0)])), "tangled|touches"),
        (lambda: channel(-1.0, 1.0), "a channel -1 long and 1 high; positive numbers"),
        (lambda: tube(DISK, cells=0), "cells = 0; the number of cells"),
        (lambda: tube(DISK, cells=30), "cells = 30 is too coarse for this channel; 56 cells or more"),
        (lambda: channel(4, 1, cells=9), "cells = 9 is too coarse for this channel; 16 cells or more"),
        (lambda: tube(DISK, refine=0), "refine = 0; 1, 2, 3"),
        (lambda: tube(DISK, like=box()), "like is a mesh of another generator"),
        (lambda: tube([DISK], like=tube(DISK, cells=400)), "like is a channel with other bodies"),
        (lambda: tube(DISK, patches={"left": "in"}), "a channel has no side 'left'; it has inlet, outlet, bottom, top"),
        (lambda: tube({"top": DISK}, patches={"top": "top"}), "a body cannot be called 'top'"),
        (lambda: jax.grad(lambda r: tube(circle((0.2, 0.2), r)).points.sum())(0.05), "traced numbers; make one mesh .*like=mesh"),
        (lambda: box((0, 0), (0, 1)), "upper above lower"),
        (lambda: box(cells=(3, 3, 3)), "cells = .*a number, or two"),
        (lambda: box(grading=-1), "grading must not be negative"),
        (lambda: box(patches={"front": "a"}), "a box has no side 'front'; it has left, right, bottom, top"),
        (lambda: box(patches={"top": [("a", 0, 0.4), ("b", 0.5, 1)]}), "the intervals of the top side do not cover it"),
        (lambda: box(cells=(4, 4), patches={"top": [("a", 0, 0.01), ("b", 0.01, 1)]}), "no cell fits into the interval 0 to 0.01"),
        (lambda: o_grid(circle((0, 0), 1), 0.5), "the outer curve of an O-grid is not larger than the body"),
        (lambda: o_grid(circle((0, 0), 1), circle((2, 0), 2), cells=(16, 4)), "the mesh is tangled: .* near"),
        (lambda: extrude(box(), -1.0, 3), "height must be positive"),
        (lambda: extrude(extrude(box(cells=(2, 2)), 1.0, 1), 1.0, 1), "only a 2D mesh can be extruded"),
    ],
)
def test_what_cannot_be_meshed_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_a_mesh_whose_points_are_moved_is_a_mesh():
    mesh = box(cells=(8, 8))
    curved = replace(mesh, points=mesh.points + 0.05 * jnp.sin(2 * jnp.pi * mesh.points[:, ::-1]))
    assert abs(np.sum(measure(curved).V) - 1) < 1e-14


def test_layers_cluster_to_either_end():
    z = [
        np.unique(np.asarray(extrude(box(cells=(1, 1)), 2.0, n, grading=g).points)[:, 2])
        for n, g in ((8, 1.2), (4, (1.2, 0.0)), (4, (0.0, 1.2)))
    ]
    np.testing.assert_allclose(z[0], 2 - z[0][::-1], atol=1e-15)  # the same at both ends
    np.testing.assert_allclose(z[1], 2 * z[0][:5], atol=1e-15)  # a half of it
    np.testing.assert_allclose(z[2], 2 - z[1][::-1], atol=1e-15)
    assert z[0][-1] == z[1][-1] == 2.0 and np.diff(z[1])[-1] / np.diff(z[1])[0] > 2
    with pytest.raises(InputError, match="grading must not be negative"):
        extrude(box(cells=(1, 1)), 1.0, 2, grading=(1.0, -1.0))
