"""Studies: their names, constraints and refusals; a design's numbers round-trip through its scaled vector."""

from functools import partial

import numpy as np
import pytest

from fluidgrad.design.study import Constraint, Study
from fluidgrad.design.variables import Variables
from fluidgrad.errors import InputError

START = {"angle": 0.3, "values": np.array([[0.1, 0.2], [0.3, 0.4]])}


def flow(design):
    raise AssertionError("no flow is needed to state a study")


def drag(solution):
    return 0.0


def rate(solution):
    return 0.0


def test_names_are_the_functionals_own_and_never_twice():
    study = Study(
        flow, START, None, drag, [Constraint(drag, at_most=1), Constraint(partial(drag), at_least=0), Constraint(lambda s: 0, equals=0)]
    )
    assert study.names == ("drag", "drag 2", "drag 3", "constraint 3")
    assert Study(flow, START, None, lambda s: 0.0, name="cost").names == ("cost",)


@pytest.mark.parametrize(
    "arguments, text",
    [
        ({}, "a constraint with no value; one of equals, at_most and at_least"),
        ({"equals": 1.0, "at_most": 2.0}, "a constraint with equals and at_most; one of"),
        ({"equals": np.nan}, "a constraint with equals = nan; a finite number"),
        ({"at_most": "4"}, "a constraint with at_most = '4'; a finite number"),
        ({"at_most": 1.0, "band": 0.1}, "a constraint with at_most and band = 0.1; equals, and a positive width"),
        ({"equals": 1.0, "band": -0.1}, "a constraint with equals and band = -0.1"),
    ],
)
def test_constraints_refuse(arguments, text):
    with pytest.raises(InputError, match=text):
        Constraint(rate, **arguments)


def test_constraints_are_intervals():
    assert Constraint(rate, equals=2.0).interval == (2.0, 2.0)
    assert Constraint(rate, equals=2.0, band=0.5).interval == (1.75, 2.25)
    assert Constraint(rate, at_most=2.0).interval == (-np.inf, 2.0)
    assert Constraint(rate, at_least=2.0).interval == (2.0, np.inf)
    assert Constraint(rate, at_most="1.05 start").within(2.0) == (-np.inf, 2.1) and Constraint(rate, at_most="start").relative
    assert Constraint(rate, equals="start", band=0.5).within(2.0) == (1.75, 2.25) and not Constraint(rate, equals=2.0).relative
    assert Constraint(rate, at_least=" -0.5  start ").within(2.0) == (-1.0, np.inf)


@pytest.mark.parametrize("text", ["1.05 begin", "", "start start", "1.05", "nan start", "1 2 start", "start 1.05"])
def test_a_limit_that_is_no_multiple_of_the_start_is_refused(text):
    with pytest.raises(
        InputError, match='a constraint with at_most = .*; a finite number, "start", or a multiple of that as in "1.05 start"'
    ):
        Constraint(rate, at_most=text)
    with pytest.raises(InputError, match="a constraint on 'drag'; a function of a solution"):
        Constraint("drag", equals=1.0)  # pyright: ignore[reportArgumentType]


def test_a_start_outside_its_bounds_is_refused():
    with pytest.raises(InputError, match=r"the start of values\[2\] is 1, outside its bounds \[0, 0.95\]"):
        Study(flow, {"values": np.array([0.5, 0.9, 1.0, 0.6])}, {"values": (0.0, 0.95)}, drag)


def test_a_design_round_trips():
    v = Variables.of(START, {"values": (0.0, [[1.0, 1.0], [1.0, 0.4]])})
    assert v.names == ("angle", "values[0, 0]", "values[0, 1]", "values[1, 0]", "values[1, 1]")
    back = v.tree(v.unscaled(v.scaled(v.start)))
    np.testing.assert_allclose(back["values"], START["values"], rtol=1e-15)
    np.testing.assert_allclose(v.flat(START), v.start)
    low, high = v.scaled_bounds
    np.testing.assert_array_equal(low, [-np.inf, 0, 0, 0, 0])
    np.testing.assert_array_equal(high, [np.inf, 1, 1, 1, 1])
    assert v.scale[0] == 0.3  # the typical size, where there are no two bounds


def test_no_scaled_vector_leaves_the_bounds():
    v = Variables.of(np.full(3, 0.2), (0.1, 0.7))
    x = v.unscaled(np.array([1.0, 1.0 + 1e-9, -1e-9]))
    np.testing.assert_array_equal(x, [0.7, 0.7, 0.1])


def test_numbers_with_equal_bounds_are_held():
    v = Variables.of([0.5, 0.5], ([0.5, 0.0], [0.5, 1.0]))
    assert v.free.tolist() == [False, True]
    np.testing.assert_array_equal(v.unscaled(np.array([0.25])), [0.5, 0.25])


def test_a_start_is_moved_off_its_bounds():
    v = Variables.of([0.0, 0.5, 1.0, 7.0, -7.0], ([0.0, 0.0, 0.0, 7.0, -np.inf], [1.0, 1.0, 1.0, 7.0, np.inf]))
    np.testing.assert_allclose(v.inside(0.02), [0.02, 0.5, 0.98, 7.0, -7.0], rtol=1e-15)
    within = Variables.of(np.linspace(0.1, 0.2, 50), (0.07, 0.29))
    np.testing.assert_array_equal(within.inside(0.02), within.start)


def test_random_designs_are_admissible_and_repeat():
    v = Variables.of(START, {"values": (0.0, 0.6)})
    x = v.random(3)
    np.testing.assert_array_equal(x, v.random(3))
    assert (x >= v.lower).all() and (x <= v.upper).all() and abs(x[0] - 0.3) <= 0.03


@pytest.mark.parametrize(
    "start, bounds, text",
    [
        ({}, None, "the design has no numbers"),
        ({"r": "big"}, None, r"the start of \['r'\] is 'big'; real numbers"),
        ({"r": np.nan}, None, "the start of r is nan; finite numbers"),
        ({"r": 0.1}, {"r": (0.2, 0.1)}, r"the bounds of r are \[0.2, 0.1\]; a lower bound below the upper one"),
        ({"r": 0.1}, {"r": (np.nan, 1.0)}, r"the bounds of r are \[nan, 1\]"),
        ({"r": [0.1, 0.7]}, {"r": (0.0, 0.6)}, r"the start of r.1 is 0.7, outside its bounds \[0, 0.6\]; a start within"),
        ({"r": 0.1}, {"q": (0.0, 1.0)}, "bounds of 'q'; the design has r"),
        (np.ones(3), {"r": (0.0, 1.0)}, r"bounds by name; a pair \(lower, upper\)"),
        (np.ones(3), (0.0, 1.0, 2.0), r"bounds \(0.0, 1.0, 2.0\); a pair"),
        (np.ones(3), ([0.0, 0.0], [2.0, 2.0]), r"bounds of shape \(2,\) do not fit a design of shape \(3,\)"),
        (np.ones(3), (1.0, 1.0), "every number of the design has equal bounds"),
    ],
)
def test_designs_refuse(start, bounds, text):
    with pytest.raises(InputError, match=text):
        Variables.of(start, bounds)
