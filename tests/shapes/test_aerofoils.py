"""Aerofoils: their outline and its derivatives, fits to NACA's digits and to files, meshes round them, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluidgrad as fg
from fluidgrad.app.config.reading import parse
from fluidgrad.errors import InputError
from fluidgrad.shapes.aerofoils import fitted, read_aerofoil
from fluidgrad.shapes.curves import arc_length
from fluidgrad.shapes.polygons import area

UPPER, LOWER = [0.18, 0.16, 0.2], [-0.15, -0.05, -0.02, -0.04]


def plain(**numbers):
    return fg.aerofoil(**{"center": (0.2, 0.1), "chord": 2.0, "upper": UPPER, "lower": LOWER} | numbers)


points = jax.jit(lambda curve, t: curve.at(t))  # one program for each number of points and coefficients


def naca_0012(x):
    return 0.6 * (0.2969 * np.sqrt(x) - 0.126 * x - 0.3516 * x**2 + 0.2843 * x**3 - 0.1015 * x**4)


def rows(points):
    return "".join(f"{x:.6f} {y:.6f}\n" for x, y in points)


# ---- the outline


def test_it_runs_counter_clockwise_from_the_tail_over_the_upper_side_to_the_nose():
    curve = plain()
    tail, up, nose, down = np.asarray(points(curve, np.array([0.0, 0.25, 0.5, 0.75])))
    assert tail == pytest.approx([1.2, 0.1], abs=1e-14) and nose == pytest.approx([-0.8, 0.1], abs=1e-14)
    assert [up[0], down[0]] == pytest.approx([0.2, 0.2]) and up[1] > 0.1 > down[1]
    # the sides by Kulfan's formula with Bernstein polynomials written out, at half the chord
    shape = np.array([1, 2, 1]) @ UPPER / 4, np.array([1, 3, 3, 1]) @ LOWER / 8
    opened = 0.005 / 2 * 0.5 * np.tanh(1 / np.sqrt(0.005))
    assert [up[1], down[1]] == pytest.approx([0.1 + 2 * (0.5**1.5 * s + o) for s, o in zip(shape, (opened, -opened), strict=True)])
    assert area(arc_length(curve)[1][:-1]) > 0


def test_the_nose_and_the_tail_are_round_and_have_the_radii_that_are_told():
    curve, h = plain(lower=[-0.18, -0.05, -0.02, -0.04]), 1e-4
    tail = np.asarray(points(curve, np.array([-h, 0.0, h, 0.5])))
    nose = np.asarray(points(curve, np.array([0.5 - h, 0.5, 0.5 + h, 0.0])))
    for x, radius in ((tail, 0.005 / 2 * 2.0), (nose, 0.18**2 / 2 * 2.0)):
        assert (x[0, 1] - x[2, 1]) ** 2 / (8 * abs(x[0, 0] - x[1, 0])) == pytest.approx(radius, rel=2e-3)


def test_exponents_of_one_make_a_wedge_at_both_ends():
    curve = plain(upper=[0.3], lower=[-0.3], exponents=(1.0, 1.0), thickness=1e-6)
    x = np.asarray(points(curve, np.array([0.5 - 1e-3, 0.5]))) / 2.0
    assert (x[0, 1] - x[1, 1]) / (x[0, 0] - x[1, 0]) == pytest.approx(0.3, rel=1e-3)  # y = 0.3 x (1 - x)


def test_points_lie_close_together_at_both_ends():
    gap = np.linalg.norm(np.diff(np.asarray(points(plain(), np.arange(97) / 96)), axis=0), axis=1)
    assert max(gap[0], gap[48]) < 0.25 * gap[24]


def test_derivatives_in_all_its_numbers():
    curve, t = plain(), jnp.arange(24) / 24
    rng = np.random.default_rng(0)
    v = jax.tree.map(lambda x: rng.normal(size=np.shape(x)) * 0.1 * np.abs(x), curve)
    w = jnp.asarray(rng.normal(size=(24, 2)))

    def at(h):
        return points(jax.tree.map(lambda x, d: x + h * d, curve, v), t)

    forward = jax.jvp(at, (0.0,), (1.0,))[1]
    reverse = jax.jit(jax.grad(lambda c: jnp.vdot(w, c.at(t))))(curve)
    assert float(jnp.sum(w * forward)) == pytest.approx(float(sum(jax.tree.leaves(jax.tree.map(jnp.vdot, reverse, v)))), rel=1e-12)
    remainder = [float(jnp.abs(at(h) - at(0.0) - h * forward).max()) for h in (0.02, 0.01)]
    assert np.log2(remainder[0] / remainder[1]) == pytest.approx(2.0, abs=0.05)
    difference = (at(-2e-3) - 8 * at(-1e-3) + 8 * at(1e-3) - at(2e-3)) / 12e-3
    assert float(jnp.abs(difference - forward).max()) < 1e-9


# ---- fits


@pytest.mark.parametrize("digits", ["0012", "2412", "4406"])
def test_four_digits_are_met_to_a_thousandth_of_the_chord(digits):
    curve = fg.aerofoil((0.5, 0.0), 1.0, naca=digits, thickness=0.0021 * int(digits[2:]) / 10)  # NACA's own tail
    x, y = arc_length(curve)[1].T
    m, p = int(digits[0]) / 100, int(digits[1]) / 10
    ahead = m / p**2 * (2 * p * 0.3 - 0.09) if m and p > 0.3 else m / (1 - p) ** 2 * (1 - 2 * p + 2 * p * 0.3 - 0.09)
    upper, lower = (
        np.interp(0.3, x[half][order], y[half][order])
        for half, order in ((slice(0, 1025), slice(None, None, -1)), (slice(1024, None), slice(None)))
    )
    assert upper - lower == pytest.approx(int(digits[2:]) / 100, abs=1e-3)  # thickest there
    assert (upper + lower) / 2 == pytest.approx(ahead, abs=1e-3)


def test_files_in_both_orders_give_the_same_sides(tmp_path):
    x = (1 - np.cos(np.linspace(0, np.pi, 31))) / 2
    upper, lower = np.stack([x, naca_0012(x)], 1), np.stack([x, -0.5 * naca_0012(x)], 1)
    selig = "MINE 12\n" + rows(np.concatenate([upper[::-1], lower[1:]]))
    lednicer = "MINE 12\n" + f"  {len(x)}. {len(x)}.\n\n" + rows(upper) + "\n" + rows(lower)
    # turned and scaled, without a title, and the lower side first: the same chord
    c, s = np.cos(0.1), np.sin(0.1)
    moved = rows(3.0 * np.concatenate([lower[::-1], upper[1:]]) @ np.array([[c, s], [-s, c]]) + [1.0, 2.0])
    found = []
    for name, text in (("selig", selig), ("lednicer", lednicer), ("moved", moved)):
        (tmp_path / f"{name}.dat").write_text(text)
        found.append(fitted(file=tmp_path / f"{name}.dat"))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_allclose(a, b, atol=2e-3)
    assert found[0][0][0] == pytest.approx(np.sqrt(2 * 1.1019 * 0.12**2), rel=0.05)  # NACA's radius of the nose
    curve = fg.aerofoil((0.5, 0.0), 1.0, file=tmp_path / "selig.dat")
    assert np.asarray(points(curve, np.array([0.25])))[0, 1] == pytest.approx(naca_0012(0.5) + 0.005 / 4, abs=1e-3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A\n1 0\n0.5 0.1\n0 0\n0.5 -0.1\n1 0\n", "has 1 points on its upper side, between nose and tail; more than its 6 coefficients"),
        ("A\n1 0\n0 0\n1 0\n", r"has 2 points on its upper side and 2 on its lower \(Selig's order\); three or more"),
        ("A\n1 0\n0 0 0\n", "row 3 of .* is not two numbers: '0 0 0'"),
        ("A\n 3. 3.\n0 0\n1 0\n", "says that it has 3 and 3 points, and has 2"),
        ("only a title\n", "has 0 points"),
        (rows((c, s) for c, s in zip(np.cos(np.linspace(0, 2 * np.pi, 41)), np.sign(np.sin(np.linspace(0, 2 * np.pi, 41))), strict=True)),
         "is no aerofoil of 6 coefficients .* chords off at x"),
    ],
)  # fmt: skip
def test_files_of_no_aerofoil_are_refused(tmp_path, text, message):
    (tmp_path / "a.dat").write_text(text)
    with pytest.raises(InputError, match=message):
        fg.aerofoil((0, 0), 1.0, file=tmp_path / "a.dat")


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"naca": "2412"}, "an aerofoil with upper and lower and naca; upper and lower, or naca, or file"),
        ({"upper": None}, "an aerofoil with no sides"),
        ({"upper": None, "lower": None, "naca": "24"}, "naca = '24'; four digits"),
        ({"chord": -1.0}, "chord of an aerofoil must be positive, got -1"),
        ({"chord": [1.0]}, r"chord of an aerofoil has shape \(1,\); one number"),
        ({"upper": []}, r"upper of an aerofoil has shape \(0,\); one or more numbers"),
        ({"lower": [0.3]}, "the sides of an aerofoil cross at 0.[0-9]+ of the chord"),
        ({"thickness": np.nan}, "thickness of an aerofoil is nan; finite numbers"),
    ],
)
def test_what_is_no_aerofoil_is_refused(numbers, message):
    with pytest.raises(InputError, match=message):
        plain(**numbers)


def test_a_file_that_cannot_be_read_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read an aerofoil from .*a.dat.*No such file"):
        read_aerofoil(tmp_path / "a.dat")


# ---- meshes


@pytest.mark.parametrize("digits", ["0003", "6409"])
def test_grids_round_thin_and_cambered_ones_are_good_and_nested(digits):
    curve = fg.aerofoil((0.0, 0.0), 1.0, naca=digits).moved(turn=-0.1)
    mesh = fg.o_grid(curve, 15.0, cells=(64, 24), grading=200)
    assert mesh.quality.corner.min() > 0.5
    finer = fg.o_grid(curve, 15.0, refine=2, like=mesh)
    assert np.array_equal(finer.points.reshape(49, 128, 2)[::2, ::2], mesh.points.reshape(25, 64, 2))
    on_body = np.asarray(finer.points)[:128]
    np.testing.assert_allclose(on_body, curve.at(np.arange(128) / 128), atol=1e-13)
    assert fg.o_grid(curve, 15.0, cells=321).recipe.counts[0] % 2 == 0, "a point on the nose"


def test_it_fits_into_a_channel():
    mesh = fg.channel(4.0, 2.0, fg.aerofoil((1.5, 1.0), 1.0, naca="2412").moved(turn=-0.1), cells=900)
    assert mesh.quality.corner.min() > 0.3


def test_points_of_a_grid_are_differentiable_in_all_numbers():
    curve = plain(center=(0.0, 0.0)).moved(turn=-0.1)
    mesh = fg.o_grid(curve, 15.0, cells=(32, 8), grading=100)
    rng = np.random.default_rng(1)
    v = jax.tree.map(lambda x: rng.normal(size=np.shape(x)) * 0.02, curve)
    w = jnp.asarray(rng.normal(size=mesh.points.shape))

    @jax.jit
    def at(h):
        return fg.o_grid(jax.tree.map(lambda x, d: x + h * d, curve, v), 15.0, like=mesh).points

    forward = jax.jvp(at, (0.0,), (1.0,))[1]
    reverse = jax.grad(lambda h: jnp.vdot(w, at(h)))(0.0)
    assert float(reverse) == pytest.approx(float(jnp.vdot(w, forward)), rel=1e-11)
    remainder = [float(jnp.abs(at(h) - at(0.0) - h * forward).max()) for h in (0.02, 0.01)]
    assert np.log2(remainder[0] / remainder[1]) == pytest.approx(2.0, abs=0.05)
    difference = (at(-2e-3) - 8 * at(-1e-3) + 8 * at(1e-3) - at(2e-3)) / 12e-3
    assert float(jnp.abs(difference - forward).max()) < 1e-7 * float(jnp.abs(forward).max())


@pytest.mark.slow
def test_lift_over_drag_is_differentiable_in_the_shape_and_the_angle():
    first = plain(center=(0.0, 0.0), chord=1.0)
    mesh = fg.o_grid(first, 8.0, cells=(16, 6), grading=20)

    def objective(design):
        curve = plain(center=(0.0, 0.0), chord=1.0, upper=design["upper"], lower=design["lower"]).moved(turn=design["turn"])
        flow = fg.Flow(fg.o_grid(curve, 8.0, like=mesh), viscosity=0.1, far=fg.FarField((1.0, 0.0)), body=fg.Wall())
        return fg.functionals.lift_to_drag(fg.solve_steady(flow, tolerance=1e-13), "body")

    report = fg.check(objective, {"upper": np.array(UPPER), "lower": np.array(LOWER), "turn": np.array(-0.05)})
    assert report.passed, report


# ---- in a config


TEXT = """
[mesh]
kind = "o_grid"
outer = 10.0
cells = [16, 6]
body = { kind = "aerofoil", center = [0.0, 0.0], chord = 1.0, naca = "2412", coefficients = 3, turn = -0.05 }
[flow]
viscosity = 0.1
[boundary]
far = { kind = "far_field", velocity = [1.0, 0.0] }
body = { kind = "wall" }
"""


def test_a_config_holds_the_coefficients_that_were_fitted(tmp_path):
    numbers = parse(TEXT, "a.toml", tmp_path, ()).numbers()["mesh"]["body"]
    np.testing.assert_array_equal(numbers["upper"], fitted("2412", coefficients=3)[0])
    assert numbers["lower"].shape == (3,) and numbers["turn"] == -0.05
    x = (1 - np.cos(np.linspace(0, np.pi, 31))) / 2
    (tmp_path / "mine.dat").write_text(rows(np.concatenate([np.stack([x, naca_0012(x)], 1)[::-1], np.stack([x, -naca_0012(x)], 1)])))
    body = parse(TEXT.replace('naca = "2412"', 'file = "mine.dat"'), "a.toml", tmp_path, ()).numbers()["mesh"]["body"]
    np.testing.assert_allclose(body["upper"], -body["lower"], atol=1e-5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('naca = "2412"', 'naca = "24012"', "naca = '24012'.*four digits"),
        ('naca = "2412"', 'naca = "2412", upper = [0.1]', "an aerofoil is given twice"),
        ('naca = "2412"', 'file = "none.dat"', "cannot read an aerofoil from .*none.dat"),
        ('naca = "2412", ', "", "upper is missing"),
    ],
)
def test_a_config_with_no_aerofoil_is_refused(tmp_path, old, new, message):
    with pytest.raises(InputError, match=message):
        parse(TEXT.replace(old, new), "a.toml", tmp_path, ())
