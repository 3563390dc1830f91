"""Ducts and steps: areas, walls met exactly, nested refinement, derivatives, stable topology; and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluidgrad as fg
from fluidgrad.blocks.box import box
from fluidgrad.blocks.ducts import duct
from fluidgrad.blocks.layers import extrude
from fluidgrad.blocks.steps import step
from fluidgrad.errors import InputError
from fluidgrad.shapes.curves import circle
from fluidgrad.shapes.points import spline

BOTTOM = spline([(0, 0), (4, 0)], closed=False)
TOP = spline([(0, 1), (1.3, 1), (2.7, 2), (4, 2)], closed=False)
QUARTER = np.array([(0.0, 0.0), (0.5523, 0.0), (1.0, 0.4477), (1.0, 1.0)])  # nearly a quarter of a circle
S_BEND = spline([(0, 0), (2, 0), (2, 2), (4, 2)], closed=False)
KINKED = spline([(0, 0), (1, 0), (2, -1), (4, -1)], closed=False, corners=True), spline([(0, 1), (1, 1), (3, 2), (4, 2)], False, True)
BOUNDARY = {"inlet": fg.Inflow(1.0), "outlet": fg.Outflow(), "walls": fg.Wall()}

MESHES = {
    "diffuser": lambda k: duct(BOTTOM, TOP, cells=(8, 4), refine=k),
    "diffuser with straight pieces": lambda k: duct(BOTTOM, TOP, before=1.0, after=3.0, cells=150, refine=k),
    "diffuser with corners": lambda k: duct(*KINKED, cells=60, grading=0, refine=k),
    "bend": lambda k: duct(centerline=spline(1.5 * QUARTER, closed=False), width=1.0, after=1.0, cells=80, refine=k),
    "S-bend that narrows": lambda k: duct(centerline=S_BEND, width=[0.8, 0.8, 0.4], cells=(20, 4), refine=k),
    "step": lambda k: step(1.0, 1.0, 2.0, 8.0, cells=150, refine=k),
}


def areas(mesh):
    """Of the cells, in NumPy: nothing is compiled."""
    x = np.asarray(mesh.points)[mesh.topology.cells[0][1]]
    a, b = x[:, 2] - x[:, 0], x[:, 3] - x[:, 1]
    return (a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]) / 2


def patch(mesh, name):
    """The points of a patch in order, and its length."""
    x = np.asarray(mesh.points)[mesh.topology.lines(name)[0][0]]
    return x, np.linalg.norm(np.diff(x, axis=0), axis=1).sum()


@pytest.mark.parametrize("name", MESHES)
def test_cells_are_positive_and_open_at_their_corners_and_refinement_is_nested(name):
    coarse, fine = (MESHES[name](k) for k in (1, 2))
    assert areas(coarse).min() > 0 and coarse.quality.corner.min() > 0.5, str(coarse)
    assert coarse.patches == ("inlet", "outlet", "walls")
    assert fine.n_cells == 4 * coarse.n_cells
    distance = np.abs(np.asarray(fine.points)[:, None] - np.asarray(coarse.points)).max(2).min(0)
    assert distance.max() < 1e-12, distance.max()


def test_areas_are_those_between_the_walls():
    assert abs(areas(MESHES["diffuser with corners"](1)).sum() - 8.5) < 1e-12  # corners are met by nodes
    assert abs(areas(MESHES["step"](1)).sum() - (2 * 1 + 8 * 2)) < 1e-12
    # A ring's quarter: the mean radius times the width times the angle, with the control points' own error of 3e-4.
    bend = duct(centerline=spline(1.5 * QUARTER, closed=False), width=1.0, cells=(60, 2))
    assert abs(areas(bend).sum() / (1.5 * np.pi / 2) - 1) < 1e-3
    narrow = MESHES["S-bend that narrows"](1)
    assert abs(patch(narrow, "inlet")[1] - 0.8) < 1e-12 and abs(patch(narrow, "outlet")[1] - 0.4) < 1e-12


def test_as_many_cells_as_asked_for():
    assert duct(BOTTOM, TOP, cells=(17, 5), after=2.0).n_cells == 85
    for cells in (300, 3000):
        assert abs(duct(BOTTOM, TOP, before=1.0, after=5.0, cells=cells).n_cells / cells - 1) < 0.06
        assert abs(step(1.0, 0.5, 3.0, 10.0, cells=cells).n_cells / cells - 1) < 0.06


def test_patches_have_names_and_run_from_the_lower_to_the_upper_wall():
    mesh = duct(BOTTOM, TOP, cells=(8, 4), patches={"lower": "floor", "upper": "roof"})
    assert mesh.patches == ("inlet", "outlet", "floor", "roof")
    x = {name: patch(mesh, name)[0] for name in mesh.patches}
    assert np.abs(x["floor"][:, 1]).max() < 1e-15 and x["roof"][:, 1].min() > 1 - 1e-15
    assert np.allclose(x["inlet"][:, 0], 0) and np.allclose(x["outlet"][:, 0], 4)


def test_a_diffuser_has_layers():
    mesh = extrude(duct(BOTTOM, TOP, cells=(8, 4)), 0.5, 2)
    assert mesh.n_cells == 64 and mesh.quality.corner.min() > 0.5 and mesh.patches[-2:] == ("front", "back")


def moved_duct(x, like=None):
    lower = spline(jnp.array([(0.0, 0.0), (2.0, 0.0), (4.0, 0.0)]) + x * jnp.array([0.1, 0.3]), closed=False)
    upper = TOP.displaced(jnp.array([0.1, -0.2, 0.3]) * x)
    return duct(lower, upper, before=1 + x, after=2 - x, cells=(12, 3), like=like)


def moved_bend(x, like=None):
    line = spline(2 * QUARTER, closed=False).displaced(jnp.array([0.1, 0.2]) * x)
    return duct(centerline=line, width=1 + x * jnp.array([0.0, 0.5, 1.0]), cells=(10, 3), like=like)


def moved_step(x, like=None):
    return step(1 + x, 1 - x, 2 + 2 * x, 8 + x, cells=100, like=like)


@pytest.mark.parametrize("make", [moved_duct, moved_bend, moved_step])
def test_points_are_differentiable_in_every_number_and_the_topology_stays(make):
    like = make(0.0)
    direction = np.cos(np.arange(like.points.size)).reshape(like.points.shape)
    points = jax.jit(lambda x: make(x, like).points)
    _, tangent = jax.jvp(points, (0.0,), (1.0,))
    back = jax.grad(lambda x: jnp.sum(points(x) * direction))(0.0)
    assert abs(back / np.sum(tangent * direction) - 1) < 1e-13
    h = 1e-2
    f = [points(k * h) for k in (-2, -1, 1, 2)]
    difference = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h)
    assert np.abs(tangent - difference).max() < 1e-7 * np.abs(tangent).max()
    assert np.abs(points(0.0) - like.points).max() < 1e-14 and np.abs(tangent).max() > 0.3
    moved = make(0.1, like)
    assert moved.topology == like.topology and moved.recipe == like.recipe


@pytest.mark.slow
def test_the_loss_of_a_duct_is_differentiable_in_offsets_control_points_and_lengths():
    """Its everyday siblings: the points above, and functionals in the points of any mesh (test_check.py)."""
    like = duct(BOTTOM, TOP, after=1.0, cells=(6, 4))

    def loss(x):
        mesh = duct(spline(x["control"], closed=False), TOP.displaced(x["offsets"]), after=x["after"], like=like)
        return fg.pressure_drop(fg.solve_steady(fg.Flow(mesh, viscosity=0.05, **BOUNDARY)), "inlet", "outlet")

    verdict = fg.check(loss, {"control": np.array([(0.0, 0.0), (4.0, 0.0)]), "offsets": 0.05 * np.cos(np.arange(3.0)), "after": 1.0})
    assert verdict.passed, str(verdict)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: duct(BOTTOM, spline([(0, 1), (2, -1), (4, 1)], False)), r"the walls cross or touch near \(1\.[0-9]+, 0\)"),
        (lambda: duct(BOTTOM, spline([(4, 2), (0, 1)], False)), "opposite directions; both from inlet to outlet: reverse the order"),
        (lambda: duct(TOP, BOTTOM), "the lower wall is to the left of the flow; .*exchange them"),
        (
            lambda: duct(centerline=spline(0.4 * QUARTER, False), width=1.0),
            r"the lines across the duct cross each other near \(.*wider turns",
        ),
        (lambda: duct(circle((0, 0), 1), TOP), r"lower is not an open curve; spline\(control, closed=False\)"),
        (lambda: duct(centerline=KINKED[0], width=1.0), "a center line with corners"),
        (lambda: duct(BOTTOM), "a duct of lower; lower and upper, or centerline and width"),
        (lambda: duct(centerline=BOTTOM), "a duct of centerline; lower and upper"),
        (lambda: duct(), "a duct of nothing"),
        (lambda: duct(BOTTOM, TOP, width=1.0), "a duct of lower and upper and width"),
        (lambda: duct(centerline=BOTTOM, width=[1.0, -1.0]), "width = .*positive numbers"),
        (lambda: duct(BOTTOM, TOP, before=0.0), "before = 0.0; positive numbers"),
        (lambda: duct(BOTTOM, TOP, after=[1.0, 2.0]), r"after has shape \(2,\); one number"),
        (lambda: duct(BOTTOM, TOP, cells=1), "cells = 1; 2 or more in this duct"),
        (lambda: duct(*KINKED, cells=(2, 4)), r"cells = \(2, 4\); a number, or two: along \(3 or more here\)"),
        (lambda: duct(BOTTOM, TOP, grading=-1), "grading must not be negative"),
        (lambda: duct(BOTTOM, TOP, patches={"left": "a"}), "a duct has no side 'left'; it has inlet, outlet, lower, upper"),
        (lambda: duct(BOTTOM, TOP, like=box(cells=(2, 2))), "like is a mesh of another generator"),
        (lambda: duct(BOTTOM, TOP, after=1.0, like=duct(BOTTOM, TOP, cells=(4, 2))), "like is a duct with other straight pieces"),
        (lambda: jax.grad(lambda x: duct(BOTTOM, TOP, after=x).points.sum())(1.0), r"traced numbers; make one mesh .*duct\(..., like=mesh"),
        (lambda: step(1.0, 0.0, 1.0, 1.0), "step_height of a step is 0.0; a positive number"),
        (lambda: step(1.0, 1.0, 1.0, 8.0, cells=4), "cells = 4 is too coarse for this step; one number, 12 or more"),
        (lambda: jax.grad(lambda x: step(x, 1.0, 1.0, 1.0).points.sum())(1.0), r"traced numbers; .*step\(..., like=mesh"),
    ],
)
def test_what_cannot_be_meshed_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
