"""Curves: closed, counter-clockwise, differentiable; and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fluidgrad.curves import arc_length, area, circle, closed_curve, ellipse, fourier_curve
from fluidgrad.errors import InputError
from fluidgrad.meshfile import read_points

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
