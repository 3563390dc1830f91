"""Curves: closed, counter-clockwise, differentiable; and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluidgrad.errors import InputError
from fluidgrad.shapes.curves import arc_length, circle, ellipse, fourier_curve
from fluidgrad.shapes.points import closed_curve, read_points
from fluidgrad.shapes.polygons import area

SQUARE = [(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)]


def kidney(n=60):
    angle = 2 * np.pi * np.arange(n) / n
    return np.stack([np.cos(angle), 0.7 * np.sin(angle) + 0.75 * np.cos(angle) ** 2], 1)


CURVES = {
    "circle": lambda: circle((0.2, 0.3), 0.5),
    "ellipse": lambda: ellipse((0.2, 0.3), (0.5, 0.2), 0.4),
    "fourier": lambda: fourier_curve((0.2, 0.3), 0.5, [(0.1, 0.0), (0.0, 0.2)]),
    "spline": lambda: closed_curve(kidney()),
    "polygon": lambda: closed_curve(SQUARE, corners=True),
}
AREAS = {"circle": np.pi * 0.25, "ellipse": np.pi * 0.1, "fourier": np.pi * 0.25 * (1 + 0.005 + 0.02), "polygon": 1.0}


@pytest.mark.parametrize("name", CURVES)
def test_curves_are_closed_and_counter_clockwise(name):
    curve = CURVES[name]()
    assert np.allclose(curve.at(0.0), curve.at(1.0 - 1e-15), atol=1e-13)
    points = arc_length(curve, 4096)[1][:-1]
    assert area(points) > 0
    if name in AREAS:
        assert abs(area(points) / AREAS[name] - 1) < 1e-6  # a polygon of 4096 sides: (2 pi / 4096)^2 / 6 = 4e-7


@pytest.mark.parametrize("name", CURVES)
def test_curves_are_differentiable_in_their_numbers(name):
    curve, t = CURVES[name](), np.linspace(0.05, 0.95, 7)
    direction = jax.tree.map(lambda x: jnp.cos(jnp.arange(np.size(x), dtype=float)).reshape(np.shape(x)), curve)
    _, tangent = jax.jvp(lambda c: c.at(t), (curve,), (direction,))

    def moved(h):
        return jax.tree.map(lambda x, d: x + h * d, curve, direction).at(t)

    assert np.abs(tangent - (moved(1e-5) - moved(-1e-5)) / 2e-5).max() < 1e-9


def test_a_spline_passes_through_its_points_with_fourth_order_between():
    error = []
    for n in (16, 32):
        angle = 2 * np.pi * np.arange(n) / n
        curve = closed_curve(np.stack([np.cos(angle), np.sin(angle)], 1))
        assert np.allclose(curve.at(np.arange(n) / n), curve.numbers["points"], atol=1e-14)
        error.append(np.abs(np.linalg.norm(curve.at(np.linspace(0, 1, 999)), axis=1) - 1).max())
    assert np.log2(error[0] / error[1]) > 3.9, error


def test_size_is_half_the_width_and_height():
    for curve in (circle((0.1, 0.2), 0.5), ellipse((0.1, 0.2), (0.5, 0.2), 0.4)):
        assert np.allclose(curve.size, np.ptp(arc_length(curve)[1], axis=0) / 2, atol=1e-6)


def test_clockwise_points_are_reversed_and_a_repeated_last_one_dropped():
    given = closed_curve([*SQUARE, SQUARE[0]][::-1], corners=True)
    assert area(given.numbers["points"]) == 1
    assert len(given.numbers["points"]) == 4


def test_points_are_read_from_commas_tabs_and_spaces(tmp_path):
    for text in ("x,y\n0,0\n1,0\n1,1\n", "NACA of nobody\n0 0\n1   0\n1 1", "# made by hand\n0\t0\n\n1\t0 # tip\n1;1\n"):
        (tmp_path / "points.csv").write_text(text)
        assert np.array_equal(read_points(tmp_path / "points.csv"), [(0, 0), (1, 0), (1, 1)])
        assert len(closed_curve(tmp_path / "points.csv", corners=True).numbers["points"]) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\n0,0\n1,nan\n", "row 3 .* holds '1 nan'; finite numbers"),
        ("0,0\n1,2,3\n", "row 2 .* is not two numbers: '1 2 3'"),
        ("0,0\n1,abc\n", "row 2 .* is not two numbers"),
        ("x,y\n", "holds no points"),
    ],
)
def test_files_that_hold_no_points_are_refused(tmp_path, text, message):
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_points(tmp_path / "points.csv")


def test_files_that_cannot_be_read_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read points from .*nothing.csv.*No such file"):
        read_points(tmp_path / "nothing.csv")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(InputError, match="cannot read points from .*it is not text"):
        read_points(tmp_path / "binary.csv")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: circle((0, 0), -1), "radius of a circle must be positive, got -1"),
        (lambda: circle((0, 0, 0), 1), r"center of a circle has shape \(3,\); 2 numbers"),
        (lambda: circle((0, np.nan), 1), "center of a circle is .*finite numbers"),
        (lambda: fourier_curve((0, 0), 1, [0.1, 0.2]), "modes of shape .*pairs"),
        (lambda: fourier_curve((0, 0), 1, [(0, 0), (1.2, 0)]), "passes through its center at 90 degrees"),
        (lambda: closed_curve([(0, 0), (1, 0), (1, 1)]), "a curve through 3 points; 4 to 2000 points, or 3 with corners"),
        (lambda: closed_curve([(0, 0), (1, 1), (1, 0), (0, 1)], corners=True), "crosses itself between points 1 and 3"),
        (lambda: closed_curve([(0, 0), (1, 0), (1, 0), (0, 1)], corners=True), "points 2 and 3 of a curve are the same"),
        (lambda: closed_curve([(0, 0), (1, np.inf), (1, 0), (0, 1)]), "point 2 of a curve is"),
        (lambda: closed_curve([0, 1, 2]), "points of shape"),
    ],
)
def test_what_cannot_be_a_curve_is_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


# ---- changed further


SHAPES = {
    "fourier": lambda: fourier_curve((1.0, 2.0), 0.5, [[0.1, 0.05], [0.2, -0.1], [0.0, 0.08]]),
    "ellipse": lambda: ellipse((1.0, 2.0), (0.7, 0.3), 0.4),
    "spline": lambda: closed_curve([(0, 0), (1, -0.2), (2, 0.1), (2.2, 1), (1, 1.4), (0, 1)]),
    "polygon": lambda: closed_curve([(0, 0), (2, 0), (2, 1), (0.5, 1.5)], corners=True),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_fitted_curve_has_its_area_and_centroid_whatever_its_shape(shape):
    curve = SHAPES[shape]().fitted(area=0.3, centroid=(0.2, -0.1))
    x = np.asarray(curve.at((np.arange(60_000) + 0.5) / 60_000))
    y = np.roll(x, -1, 0)
    cross = x[:, 0] * y[:, 1] - x[:, 1] * y[:, 0]
    assert cross.sum() / 2 == pytest.approx(0.3, rel=1e-8)
    assert ((x + y) * cross[:, None]).sum(0) / (6 * 0.3) == pytest.approx([0.2, -0.1], abs=1e-8)
    assert np.allclose(curve.center, (0.2, -0.1))


def test_scaled_about_its_center_where_only_the_area_is_given():
    curve = circle((1.0, 2.0), 0.5)
    assert np.allclose(curve.fitted(area=np.pi).at(0.25), (1.0, 3.0), atol=1e-12)


def test_a_rigid_motion_keeps_distances_and_the_order_of_calls_does_not_matter():
    curve = SHAPES["spline"]()
    moved = curve.moved(shift=(0.3, -0.2), turn=0.7, about=(1.0, 0.0))
    t = np.linspace(0, 1, 7)
    a, b = np.asarray(curve.at(t)), np.asarray(moved.at(t))
    assert np.allclose(np.linalg.norm(np.diff(a, axis=0), axis=1), np.linalg.norm(np.diff(b, axis=0), axis=1))
    c, s = np.cos(0.7), np.sin(0.7)
    assert np.allclose(b, (1.0, 0.0) + (a - (1.0, 0.0)) @ np.array([[c, s], [-s, c]]) + (0.3, -0.2))
    one, other = curve.moved(turn=0.2).fitted(area=1.0), curve.fitted(area=1.0).moved(turn=0.2)
    assert np.array_equal(one.at(t), other.at(t))


def test_offsets_move_a_curve_along_its_normal():
    grown = circle((1.0, 2.0), 0.5).displaced(np.full(8, 0.1))
    assert np.allclose(grown.at(np.linspace(0, 1, 9)), circle((1.0, 2.0), 0.6).at(np.linspace(0, 1, 9)))
    same = SHAPES["ellipse"]().displaced(np.zeros(5))
    assert np.allclose(same.at(0.3), SHAPES["ellipse"]().at(0.3))


def test_a_changed_curve_is_differentiable_in_every_number():
    start = SHAPES["fourier"]().displaced(0.01 * np.cos(np.arange(8))).fitted(area=0.3, centroid=(0.2, 0.1)).moved((0.1, 0.0), 0.3)
    weight = np.random.default_rng(0).normal(size=(11, 2))
    numbers, tree = jax.tree.flatten(start)
    rng = np.random.default_rng(1)
    v = jax.tree.unflatten(tree, [0.1 * rng.normal(size=np.shape(x)) for x in numbers])

    @jax.jit
    def f(curve):
        return jax.numpy.sum(weight * curve.at(np.linspace(0, 0.9, 11)))

    def along(h):
        return float(f(jax.tree.map(lambda a, b: a + h * b, start, v)))

    gradient = jax.grad(f)(start)
    slope = float(jax.jvp(f, (start,), (v,))[1])
    assert sum(float(np.sum(a * b)) for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(v), strict=True)) == pytest.approx(
        slope, rel=1e-12
    )
    remainders = [abs(along(h) - along(0) - h * slope) for h in (0.04, 0.02)]
    assert np.log2(remainders[0] / remainders[1]) == pytest.approx(2, abs=0.1)
    assert (8 * (along(0.001) - along(-0.001)) - along(0.002) + along(-0.002)) / 0.012 == pytest.approx(slope, rel=1e-8)


def test_changes_that_make_no_sense_are_refused():
    with pytest.raises(InputError, match="offsets of a curve with corners"):
        SHAPES["polygon"]().displaced(np.zeros(8))
    with pytest.raises(InputError, match=r"offsets of shape \(2,\); 4 to 2000 numbers"):
        SHAPES["ellipse"]().displaced([0.0, 0.1])
    with pytest.raises(InputError, match="area of a fourier must be positive, got -1"):
        SHAPES["fourier"]().fitted(area=-1.0)
    with pytest.raises(InputError, match="the turn of a curve is given twice"):
        SHAPES["fourier"]().moved(turn=0.1).moved(turn=0.1)
