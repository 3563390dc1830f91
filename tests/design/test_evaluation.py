"""A study's evaluation: right values and gradients, at the cost promised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import in_numpy

import fluidgrad as fg
from fluidgrad.design.evaluation import evaluate
from fluidgrad.design.study import Constraint, Study
from fluidgrad.errors import InputError, NotConverged
from fluidgrad.linear import superlu

MESH = fg.box((0, 0), (2, 1), (8, 5))


def flow(design):
    inlet = fg.Inflow(fg.nodes(MESH, "left", design["values"]))
    return fg.Flow(MESH, viscosity=design["viscosity"], left=inlet, right=fg.Outflow(), bottom=fg.Wall(), top=fg.Wall())


def drag(solution):
    return fg.drag(solution, "bottom")


def rate(solution):
    return fg.flow_rate(solution, "left")


def pressure(solution):
    return jnp.sum(solution.pressure**2)


START = {"values": np.array([0.5, 0.9, 1.0, 0.6]), "viscosity": 0.05}
BOUNDS = {"values": (0.0, 1.5), "viscosity": (0.05, 0.05)}
STUDY = Study(flow, START, BOUNDS, drag, [Constraint(rate, equals=0.6), Constraint(pressure, at_most=3.0)])


@pytest.fixture(scope="module")
def found():
    return evaluate(STUDY, START)


def test_values_and_gradients_are_those_of_the_solved_flow(found):
    solution = fg.solve_steady(flow(jax.tree.map(jnp.asarray, START)))
    np.testing.assert_allclose(found.values, in_numpy(lambda s: [f(s) for f in (drag, rate, pressure)], solution), rtol=1e-9)
    direction = {"values": np.array([1.0, -0.5, 0.3, 0.7]), "viscosity": 0.02}
    h = 1e-4
    ahead, behind = (evaluate(STUDY, jax.tree.map(lambda x, d: x + s * d, START, direction)).values for s in (h, -h))  # noqa: B023
    for k, gradient in enumerate(found.gradients):
        slope = sum(np.vdot(g, d) for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
        assert slope == pytest.approx((ahead[k] - behind[k]) / (2 * h), rel=1e-6), STUDY.names[k]


def test_an_evaluation_costs_one_primal_solve_and_one_transposed_solve_for_each_functional_of_the_flow(found, counted):
    factored, solved = counted
    superlu._held.clear()
    report = evaluate(STUDY, jax.tree.map(lambda x: 1.01 * x, START), found.state).report
    assert 1 <= len(factored) <= report.newton_steps  # near the solution Newton holds its factor
    transposed = [n for transpose, n in solved if transpose]
    assert set(transposed) == {len(factored)}  # the adjoints use the last one, and make none
    assert len(transposed) == sum(report.adjoint_products)
    drag_products, rate_products, pressure_products = report.adjoint_products
    assert rate_products == 0 and 1 <= drag_products <= 40 and 1 <= pressure_products <= 40
    assert max(report.adjoint_residuals) <= 1e-12 and report.primal_residual <= 1e-10


def test_an_evaluation_is_a_pure_function_of_design_and_start(found):
    again = evaluate(STUDY, START)
    superlu._held.clear()
    third = evaluate(STUDY, START)
    for other in (again, third):
        assert other.values.tobytes() == found.values.tobytes()
        assert np.asarray(other.state).tobytes() == np.asarray(found.state).tobytes()
        for a, b in zip(jax.tree.leaves(other.gradients), jax.tree.leaves(found.gradients), strict=True):
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def test_a_design_without_a_valid_flow_is_an_input_error():
    with pytest.raises(InputError, match="viscosity must be one positive number"):
        evaluate(STUDY, START | {"viscosity": -1.0})


class Named:
    def __init__(self, of, name):
        self.of, self.name = of, name

    def __call__(self, solution):
        return self.of(solution)


def test_a_functional_that_is_no_number_is_refused():
    study = Study(flow, START, BOUNDS, lambda s: s.velocity)
    with pytest.raises(InputError, match=r"a functional has shape \(40, 2\); one number"):
        evaluate(study, START)


def test_a_functional_that_is_not_finite_is_no_evaluation():
    study = Study(flow, START, BOUNDS, lambda s: jnp.log(-jnp.asarray(s.flow.viscosity)), name="cost")
    with pytest.raises(NotConverged, match="cost is nan"):
        evaluate(study, START)


@pytest.mark.parametrize(
    "kink, says",
    [
        (
            lambda s: jnp.sqrt(jnp.sum(s.velocity[:, 0] * 0.0)),
            "loss: no gradient: the functional's own derivative is not finite at this flow",
        ),
        (lambda s: rate(s) + jnp.sqrt(0.0 * s.flow.viscosity), "loss: no gradient: it is not finite, as at the kink of a square root"),
    ],
    ids=["by the flow", "by the design"],
)
def test_a_kink_is_not_blamed_on_a_bifurcation(kink, says):
    with pytest.raises(NotConverged, match=says):
        evaluate(Study(flow, START, BOUNDS, kink, name="loss"), START)


def test_a_complex_functional_is_refused():
    with pytest.raises(InputError, match="loss is complex; a real number"):
        evaluate(Study(flow, START, BOUNDS, Named(lambda s: rate(s) + 1j, "loss")), START)


# ---- several conditions


def thicker(design):
    """The same under another condition."""
    return flow(design | {"viscosity": 3.0 * design["viscosity"]})


def test_several_conditions_are_one_weighted_objective_and_each_constraint_is_of_its_own(found):
    constraints = [Constraint(rate, equals=0.6), Constraint(pressure, at_most=3.0, condition=1)]
    both = evaluate(Study([flow, thicker], START, BOUNDS, drag, constraints, weights=(0.7, 0.3)), START)
    other = evaluate(Study(thicker, START, BOUNDS, drag, [Constraint(pressure, at_most=3.0)]), START)
    np.testing.assert_allclose(both.values, [0.7 * found.values[0] + 0.3 * other.values[0], found.values[1], other.values[1]], rtol=1e-12)
    expected = [
        jax.tree.map(lambda a, b: 0.7 * a + 0.3 * b, found.gradients[0], other.gradients[0]),
        found.gradients[1],
        other.gradients[1],
    ]
    for gradient, right in zip(both.gradients, expected, strict=True):
        for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(right), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert np.array_equal(both.state, np.concatenate([found.state, other.state]))
    again = evaluate(Study([flow, thicker], START, BOUNDS, drag, weights=(0.7, 0.3)), START, both.state)
    assert again.report.newton_steps <= 2  # each starts from its own state


def test_conditions_that_do_not_fit_are_refused():
    for weights in ([1.0], [1.0, -0.5], [0.0, 0.0]):
        with pytest.raises(InputError, match=r"weights \[.*\]; 2 finite numbers: one for each flow, none negative and not all 0"):
            Study([flow, thicker], START, BOUNDS, drag, weights=weights)
    with pytest.raises(InputError, match="a constraint of condition 1; 0 to 0: one of the study's flows"):
        Study(flow, START, BOUNDS, drag, [Constraint(rate, equals=0.6, condition=1)])
