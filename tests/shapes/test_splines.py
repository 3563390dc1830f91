"""B-splines: SciPy's, closed and open, differentiable; displaced walls that keep their ends; and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.interpolate import BSpline

from fluidgrad.app.config.curve_sections import Points, Spline
from fluidgrad.blocks.channels import channel
from fluidgrad.blocks.o_grids import o_grid
from fluidgrad.errors import InputError
from fluidgrad.shapes.curves import arc_length
from fluidgrad.shapes.points import spline
from fluidgrad.shapes.polygons import area

WALL = np.array([(0.0, 0.0), (1.0, 0.2), (2.0, 0.8), (3.0, 1.5), (4.0, 1.0), (5.0, 1.0)])
T = np.linspace(0, 1, 23)


def ring(n=12):
    angle = 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def test_open_curves_are_scipys_clamped_splines():
    for n in (2, 3, 6):
        degree = min(3, n - 1)
        knots = np.concatenate([np.zeros(degree), np.linspace(0, 1, n - degree + 1), np.ones(degree)])
        assert np.abs(spline(WALL[:n], closed=False).at(T) - BSpline(knots, WALL[:n], degree)(T)).max() < 1e-15 * 50


def test_closed_curves_are_periodic_and_twice_differentiable():
    control = ring(7) * (1, 0.4)
    curve = spline(control)
    knots = np.arange(-4, 12.0) / 7  # the same points again at both ends
    repeated = control[np.arange(-2, 10) % 7]
    assert np.abs(curve.at(T) - BSpline(knots, repeated, 3)(T)).max() < 1e-15 * 50
    across = jnp.array([1 - 1e-13, 1 + 1e-13, 2.0])
    bent = jax.vmap(jax.jacfwd(jax.jacfwd(curve.at)))(across)
    assert np.abs(bent - bent[0]).max() < 1e-8 * np.abs(bent).max()


def test_a_ring_of_points_is_nearly_a_circle_and_bounds_a_body():
    curve = spline(ring())
    radius = np.linalg.norm(arc_length(curve)[1], axis=1)
    assert np.ptp(radius) < 1e-3 and abs(radius[0] - (2 + np.cos(np.pi / 6)) / 3) < 1e-14
    assert area(arc_length(spline(ring()[::-1]))[1][:-1]) > 0  # clockwise points are reversed
    mesh = o_grid(curve, 8.0, cells=(24, 6))
    assert mesh.patches == ("body", "far")


def test_corners_are_straight_lines_between_the_points():
    wall = spline(WALL, closed=False, corners=True)
    assert np.abs(wall.at(np.arange(6) / 5) - WALL).max() < 1e-15
    assert np.allclose(wall.at(0.1), WALL[:2].mean(0), atol=1e-15)
    square = spline(ring(4), corners=True)
    assert square.kind == "polygon" and square.is_closed and not wall.is_closed


@pytest.mark.parametrize("make", [lambda c: spline(c), lambda c: spline(c, closed=False), lambda c: spline(c, False, True)])
def test_curves_are_linear_in_their_control_points(make):
    control, direction = ring(6), 0.1 * np.cos(np.arange(12.0)).reshape(6, 2)
    _, tangent = jax.jvp(lambda c: make(c).at(T), (jnp.asarray(control),), (jnp.asarray(direction),))
    assert np.abs(tangent - (make(control + direction).at(T) - make(control).at(T))).max() < 1e-14


def test_offsets_move_a_wall_along_its_normal_and_keep_its_ends():
    wall, offsets = spline(WALL, closed=False), 0.1 * np.cos(np.arange(5.0))
    moved = wall.displaced(offsets)
    step, ahead = moved.at(T) - wall.at(T), jax.jvp(wall.at, (jnp.asarray(T),), (jnp.ones(23),))[1]
    assert np.abs(step[jnp.array([0, -1])]).max() < 1e-15
    assert np.abs(np.sum(step * ahead, 1)).max() < 1e-14
    assert float(wall.displaced(np.ones(5)).at(0.1)[1]) < float(wall.at(0.1)[1])  # to the right of a wall along x: down
    assert np.abs(wall.displaced(np.zeros(5)).at(T) - wall.at(T)).max() == 0
    slope = jax.jvp(lambda a: wall.displaced(a).at(T), (jnp.asarray(offsets),), (jnp.ones(5),))[1]
    assert np.abs(slope - (wall.displaced(offsets + 1).at(T) - moved.at(T))).max() < 1e-14


@pytest.mark.parametrize(("section", "key"), [(Spline, "control"), (Points, "points")])
def test_clockwise_points_of_a_config_go_round_the_body_when_they_are_traced_too(section, key):
    """The flow's mesh was inside out: only points that are known were put in order."""
    first = [*ring(8)[::-1].tolist(), ring(8)[-1].tolist()]
    body = section.model_validate({"kind": key.replace("control", "spline"), key: first})
    known, traced = body.build({key: np.array(first)}), jax.jit(lambda c: body.build({key: c}).at(T))(np.array(first))
    assert area(np.asarray(traced)[:-1]) > 0
    assert np.abs(traced - known.at(T)).max() < 1e-14


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: spline(ring(3)), "a control polygon through 3 points; 4 to 2000"),
        (lambda: spline(WALL[:1], closed=False), "an open curve of 1 control points; 2 to 2000; 2 are a straight line"),
        (lambda: spline([(0, 0), (1, 1), (1, 0), (0, 1)]), "a control polygon crosses itself between points 1 and 3"),
        (lambda: spline([(0, 0), (2, 0), (2, 1), (1, -1)], closed=False), r"crosses itself between points 1 and 3, near \(0, 0\)"),
        (lambda: spline([(0, 0), (1, 0), (1, 0)], closed=False), "control points 2 and 3 of an open curve are the same"),
        (lambda: spline([(0, 0), (1, 0), (1, 1), (0, 0)], closed=False), "an open curve ends where it begins"),
        (lambda: spline([(0, 0), (np.nan, 0)], closed=False), "control point 2 is .*finite numbers"),
        (lambda: spline([0, 1, 2]), "points of shape"),
        (lambda: channel(6, 3, spline(WALL, closed=False)), "body is an open curve; a closed one"),
        (lambda: o_grid(spline(WALL, closed=False), 9.0), "body is an open curve"),
        (lambda: spline(WALL, False, True).displaced([0.1]), "offsets of a curve with corners"),
        (lambda: spline(WALL, False).fitted(area=1.0), "a curve with an area or a centroid is an open curve"),
        (lambda: spline(WALL, False).displaced([[0.1]]), "offsets of shape"),
    ],
)
def test_what_cannot_be_a_spline_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()
