"""Sensitivity maps against differences of flows solved again: their weak sums are exact."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import measure, mesh

import fluidgrad as fg
from fluidgrad.mesh.motion import InverseDistance
from fluidgrad.solve.adjoint import differentiating

NAMES = ("coarse", "fine")


def flow(name, points=None, speeds=None, porosity=None, force=0.0):
    """A channel with a moving upper wall, 2 x 1; the lower wall is the one that will be moved."""
    m = fg.box((0, 0), (2, 1), cells=(16, 8) if name == "coarse" else (32, 16), grading=(0.0, 1.0))
    t = m.topology
    speeds = fg.parabola(m, "left", 1.0) if speeds is None else speeds
    return fg.Flow(
        m if points is None else fg.Mesh(points, t), viscosity=0.05,
        porosity=np.full(m.n_cells, 0.1) if porosity is None else porosity,
        force=np.zeros((m.n_cells, 2)) + force,
        left=fg.Inflow(speeds), right=fg.Outflow(), bottom=fg.Wall(), top=fg.Wall(velocity=(0.5, 0.0)),
    )  # fmt: skip


def drag(solution):
    return fg.drag(solution, "bottom")


def value(f):
    with differentiating("reverse", tolerance=1e-13):
        return float(drag(fg.solve_steady(f)))


@cache
def maps(name):
    return fg.sensitivity(drag, flow(name))


def difference(along, h=1e-2):
    return (8 * (value(along(h)) - value(along(-h))) - (value(along(2 * h)) - value(along(-2 * h)))) / (12 * h)


def bump(x):
    """Smooth, on the middle of the wall."""
    return np.exp(-(((x[:, 0] - 0.9) / 0.25) ** 2))


def weak(name):
    wall = maps(name).wall["bottom"]
    return np.sum(wall.value * bump(wall.x) * wall.weight)


@pytest.mark.slow  # as for eight waves in test_wall_maps.py
def test_the_wall_map_is_the_derivative_for_a_bump():
    f = flow("coarse")
    x = np.asarray(f.mesh.points)
    given = np.zeros_like(x)
    wall = np.unique(f.mesh.topology.face_points[f.mesh.topology.faces_of("bottom")])
    given[wall, 1] = bump(x[wall])  # into the fluid
    moved = InverseDistance(f.mesh)(given)
    # differences of fourth order at h = 1e-2, of a functional solved to 1e-13
    assert weak("coarse") == pytest.approx(difference(lambda h: flow("coarse", points=x + h * moved)), rel=1e-6)


@pytest.mark.slow  # every day: the map is the weak derivative here, and by eight waves of a body in test_wall_maps.py
def test_the_wall_map_converges():
    assert weak("coarse") == pytest.approx(weak("fine"), rel=0.05)
    coarse, fine = (maps(n).wall["bottom"] for n in NAMES)
    inside = slice(5, -4)  # clear of the corners, where the flow is singular
    between = np.interp(coarse.x[:, 0], fine.x[:, 0], fine.value)
    np.testing.assert_allclose(coarse.value[inside], between[inside], atol=0.1 * np.abs(between[inside]).max())


def test_maps_run_along_their_patch():
    wall = maps("coarse").wall["bottom"]
    assert (np.diff(wall.s) > 0).all() and wall.s[-1] == pytest.approx(2.0)
    np.testing.assert_allclose(wall.n, np.tile([0.0, 1.0], (17, 1)), atol=1e-12)
    assert np.sum(wall.weight) == pytest.approx(2.0)
    assert set(maps("coarse").wall) == {"bottom", "top"} and set(maps("coarse").inflow) == {"left"}


def test_the_inflow_map_is_the_derivative_for_any_profile():
    f, line = flow("coarse"), maps("coarse").inflow["left"]
    direction = np.random.default_rng(0).normal(size=8)
    speeds = np.asarray(f.boundary["left"].speed)
    order = np.argsort(measure(f.mesh).x_face[f.mesh.topology.faces_of("left"), 1])
    line_order = np.argsort(line.x[:, 1])
    there = np.sum((line.value * line.weight)[line_order] * direction[order])
    assert there == pytest.approx(difference(lambda h: flow("coarse", speeds=speeds + h * direction)), rel=1e-6)
    assert np.sum(line.weight) == pytest.approx(1.0)


def test_the_maps_of_porosity_and_force_are_densities():
    rng = np.random.default_rng(1)
    V, s = measure(flow("coarse").mesh).V, maps("coarse")
    grow, push = rng.uniform(size=V.shape), rng.normal(size=(len(V), 2))
    by_porosity = difference(lambda h: flow("coarse", porosity=0.1 + h * grow))
    assert np.sum(s.porosity * grow * V) == pytest.approx(by_porosity, rel=1e-6)
    assert np.sum(s.force * push * V[:, None]) == pytest.approx(difference(lambda h: flow("coarse", force=h * push)), rel=1e-6)
    assert s.adjoint is s.force


def test_a_map_holds_the_derivative_of_every_leaf():
    s = maps("coarse")
    nu = difference(lambda h: jax.tree_util.tree_map_with_path(
        lambda path, x: x + 0.05 * h if jax.tree_util.keystr(path) == ".viscosity" else x, flow("coarse")))  # fmt: skip
    assert float(s.flow.viscosity) * 0.05 == pytest.approx(nu, rel=1e-6)
    assert s.value == pytest.approx(value(flow("coarse")), rel=1e-8) and s.report.converged


def test_spreading_a_displacement_and_its_transpose():
    m = flow("coarse").mesh
    spread, rng = InverseDistance(m), np.random.default_rng(2)
    d, f = rng.normal(size=(2, *m.points.shape))
    boundary = np.zeros_like(d)
    boundary[spread.boundary] = d[spread.boundary]
    assert float(np.sum(f * spread(boundary))) == pytest.approx(float(np.sum(spread.transpose(f) * boundary)), rel=1e-12)
    np.testing.assert_allclose(spread(np.ones_like(d)), 1.0, rtol=1e-12)  # a translation stays one
    assert jnp.shape(spread(boundary)) == m.points.shape


@pytest.mark.slow  # every day: given face by face
def test_the_map_of_an_inflow_does_not_depend_on_how_its_velocity_was_given():
    m = mesh("box")
    ends = {"right": fg.Outflow(), "bottom": fg.Wall(), "top": fg.Wall()}

    def total(speed):
        flow = fg.Flow(m, viscosity=0.1, left=fg.Inflow(speed), **ends)
        line = fg.sensitivity(lambda s: fg.pressure_drop(s, "left", "right"), flow).inflow["left"]
        return np.nansum(line.value * line.weight)

    given = [total(x) for x in (1.0, [[1.0, 0.0]], np.tile([1.0, 0.0], (5, 1)))]  # one for each face: everywhere else here
    np.testing.assert_allclose(given, given[0], rtol=1e-9)
