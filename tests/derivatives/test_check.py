"""The check passes a right derivative and fails a wrong one, each of its tests by itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import study

import fluidgrad as fg
from fluidgrad.derivatives.check import DIFFERENCE_ERROR, TAYLOR_RATE, _direction, judge

X0, V = 0.7, 1.0
F0 = np.array([np.sin(X0), 3 * X0 - 1])
SLOPE = np.array([np.cos(X0), 3.0])


def along(h):
    """A curved and a linear function."""
    x = X0 + h * V
    return np.array([np.sin(x), 3 * x - 1])


def test_a_right_derivative_passes():
    verdict = judge(along, F0, SLOPE, SLOPE, ("curved", "linear"))
    assert verdict.passed, str(verdict)
    assert verdict.taylor_rates[0] == pytest.approx(2, abs=0.05)
    assert verdict.names == ("curved", "linear")


def within(reach):
    """A function that has no value farther than that from 1, as a mesh that tangles there."""

    def f(x):
        if not isinstance(x, jax.core.Tracer) and abs(float(x) - 1.0) > reach:
            raise fg.InputError("the mesh is tangled: 155 cells folded")
        return jnp.sin(x)

    return f


def test_steps_that_tangle_the_mesh_are_shortened_and_the_verdict_says_so():
    assert fg.check(within(0.3), jnp.asarray(1.0)).shortened == 1.0
    verdict = fg.check(within(0.06), jnp.asarray(1.0))
    assert verdict.passed and verdict.shortened == 0.25 and verdict.as_dict()["shortened"] == 0.25
    assert str(verdict).endswith("; steps shortened to 0.25 of what was asked, beyond which there is no flow")
    with pytest.raises(fg.InputError, match=r"155 cells folded \(by steps of a check, .*most = \.\.\. in fg.check"):
        fg.check(within(1e-9), jnp.asarray(1.0))


def test_a_linear_function_counts_as_second_order():
    """Its remainder is round-off from the first step on, and has no rate of its own."""
    assert judge(along, F0, SLOPE, SLOPE, ("curved", "linear")).taylor_rates[1] == 2.0


@pytest.mark.parametrize("gradients", [[[2.0]], [[-2.0]], [[1.0], [-3.0]], [[0.0]], [[1.0, 0.0], [0.0, 1.0]]])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_the_direction_is_none_along_which_nothing_changes(gradients, seed):
    """Of one number there are two directions only: a random one against the gradient's would cancel it."""
    gradients = np.array(gradients)
    v = _direction(gradients, seed)
    assert np.abs(v).max() == 1.0 and ((gradients @ v != 0) == gradients.any(1)).all()


@pytest.mark.parametrize("wrong", [0, 1], ids=["curved", "linear"])
def test_a_gradient_wrong_by_one_per_cent_fails_twice_over(wrong):
    reverse = SLOPE * np.where(np.arange(2) == wrong, 1.01, 1.0)
    verdict = judge(along, F0, SLOPE, reverse, ("curved", "linear"))
    assert not verdict.passed
    assert verdict.taylor_rates[wrong] < 1.5 < TAYLOR_RATE
    assert verdict.errors[wrong].min() > 100 * DIFFERENCE_ERROR
    assert verdict.gaps[wrong] == pytest.approx(0.01, rel=0.02)


def test_a_wrong_tangent_fails_the_dot_product_alone():
    verdict = judge(along, F0, SLOPE * (1 + 1e-9), SLOPE, ("curved", "linear"))
    assert not verdict.passed
    assert verdict.taylor_rate >= TAYLOR_RATE and verdict.best_difference_error <= DIFFERENCE_ERROR
    assert verdict.dot_product_gap == pytest.approx(1e-9, rel=1e-3)


def test_the_v_curve_has_two_sides_and_a_floor_that_is_named():
    verdict = judge(along, F0, SLOPE, SLOPE, ("curved", "linear"))
    errors, best = verdict.errors[0], int(verdict.errors[0].argmin())
    assert 0 < best < len(errors) - 1  # truncation before it, round-off after
    assert errors[0] > 1e3 * errors[best] and errors[-1] > errors[best]
    assert verdict.floor[0] == errors[best] and verdict.at_step[0] == verdict.steps[best]


def test_noise_hides_a_derivative_and_is_reported():
    rng = np.random.default_rng(0)
    verdict = judge(lambda h: along(h) * (1 + 1e-6 * rng.normal(size=2)), F0, SLOPE, SLOPE, ("curved", "linear"))
    assert not verdict.passed and verdict.best_difference_error > DIFFERENCE_ERROR


def test_steps_stay_within_what_numbers_may_change():
    """Offsets of zero by a fifth of their bounds' width, not of 1; others by no more than a fifth of their size."""
    seen = []

    def f(x):
        if not isinstance(x["offsets"], jax.core.Tracer):
            seen.append({k: float(np.abs(v).max()) for k, v in x.items()})
        return jnp.sum(jnp.sin(50 * x["offsets"])) + jnp.sum(x["speeds"] ** 2)

    x = {"offsets": np.zeros(3), "speeds": np.ones(2)}
    assert fg.check(f, x, most={"offsets": np.full(3, 0.02), "speeds": np.full(2, np.inf)}).passed
    assert 0.001 < max(s["offsets"] for s in seen) <= 0.2 * 0.02 * (1 + 1e-9) and 1 < max(s["speeds"] for s in seen) <= 1.2
    assert fg.check(f, x, most=0.02).passed


def test_the_verdict_can_be_written():
    verdict = judge(along, F0, SLOPE, SLOPE, ("curved", "linear"))
    written = verdict.as_dict()
    assert written["verdict"] == "passed" and len(written["errors"][0]) == len(verdict.steps)
    assert "passed: Taylor rate" in str(verdict)


# ---- with a solve

FLOW = study()


def solve(x):
    boundary = {k: FLOW.boundary[k] for k in ("right", "bottom", "top")}
    return fg.solve_steady(
        fg.Flow(FLOW.mesh, viscosity=x["viscosity"], porosity=FLOW.porosity, force=FLOW.force, left=fg.Inflow(x["speeds"]), **boundary)
    )


X = {"viscosity": FLOW.viscosity, "speeds": FLOW.boundary["left"].speed}


def functionals(x):
    s = solve(x)
    return {"drag": fg.drag(s, "bottom"), "rate": fg.flow_rate(s, "left")}


@pytest.mark.slow  # as ``fluidgrad check`` does in test_cli.py
def test_a_flow_passes():
    verdict = fg.check(functionals, X, names=("drag", "rate"))
    assert verdict.passed, str(verdict)
    assert verdict.taylor_rates[1] == 2.0  # the flow rate of an inflow is linear in it


@pytest.mark.slow  # every day: losses of functions without a solve here, and a study's in tests/app/test_cli.py
def test_a_flow_whose_gradient_loses_one_per_cent_is_caught():
    """One per cent of the adjoint's path cut, in both modes alike: Taylor and differences see what the dot product cannot."""

    def wrong(x):
        s = solve(x)
        cut = jax.lax.stop_gradient(s.state)
        return fg.drag(fg.Solution(s.flow, 0.99 * s.state + 0.01 * cut, s.report), "bottom")

    verdict = fg.check(wrong, X)
    assert not verdict.passed
    assert verdict.dot_product_gap <= 1e-12
    assert verdict.taylor_rate < TAYLOR_RATE and verdict.best_difference_error > 1e-3
