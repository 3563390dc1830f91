"""The steady solve: converges without tuning, says so when it does not, and recompiles for nothing."""

import dataclasses
import logging

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from cases import mesh, operators, study

import fluidgrad as fg
from fluidgrad.errors import InputError
from fluidgrad.flow.fluxes import discretize
from fluidgrad.solve import newton
from fluidgrad.solve.steady import advice


def cavity(n, reynolds, grading=1.5):
    walls = {k: fg.Wall() for k in ("left", "right", "bottom")}
    return fg.Flow(fg.box(cells=(n, n), grading=grading), viscosity=1 / reynolds, top=fg.Wall(velocity=(1.0, 0.0)), **walls)


def net_over_gross(solution):
    out = operators(solution.flow, solution.state)
    R = out["residual"][: solution.flow.mesh.n_cells * (solution.flow.mesh.dim + 1)].reshape(solution.flow.mesh.n_cells, -1)
    return max(np.sqrt(np.mean(np.sum(R[:, :-1] ** 2, 1))) / out["gross"][0], np.sqrt(np.mean(R[:, -1] ** 2)) / out["gross"][1])


# ---- convergence without tuning


@pytest.mark.slow  # every day: a start that is NaN is recovered from by continuation
def test_a_cavity_at_reynolds_5000_is_reached_by_continuation():
    s = fg.solve_steady(cavity(40, 5000.0))
    assert s.report.converged and s.report.residual <= 1e-10 and s.report.reached == 1
    assert s.report.solves > 1  # it does take the continuation
    assert s.report.iterations <= 80
    assert net_over_gross(s) <= 1.01e-10  # the residual that is reported is the one there is
    assert abs(float(s.state[-1])) < 1e-9  # the source that closes the domain vanishes
    assert np.min(s.velocity[:, 0]) < -0.3  # the vortex turns


@pytest.fixture(scope="module")
def tube():
    m = fg.channel(2.2, 0.41, fg.circle((0.2, 0.2), 0.05), cells=700)

    def flow(viscosity, speeds):
        return fg.Flow(m, viscosity=viscosity, inlet=fg.Inflow(speeds), outlet=fg.Outflow(), walls=fg.Wall(), body=fg.Wall())

    return m, flow


def test_a_cylinder_in_a_channel_at_reynolds_100(tube):
    m, flow = tube
    s = fg.solve_steady(flow(1e-3, fg.parabola(m, "inlet", 1.0)))
    assert s.report.converged and s.report.iterations <= 60


@pytest.mark.parametrize("seed", range(2))
def test_a_cylinder_behind_a_random_inflow(tube, seed):
    m, flow = tube
    values = np.random.default_rng(seed).uniform(0.0, 0.6, 32)
    s = fg.solve_steady(flow(1e-3, fg.nodes(m, "inlet", values)))
    assert s.report.converged and s.report.iterations <= 60


def test_units_change_nothing():
    """Neither the flow nor the products that it and its gradient take: a body of 0.1 or of 1e-7, speeds from 1e-9 to 30."""

    def went(length, speed):
        m = fg.channel(2.2 * length, 0.41 * length, fg.circle((0.2 * length, 0.2 * length), 0.05 * length), cells=300)

        def drag(nu):
            inflow = fg.Inflow(fg.parabola(m, "inlet", speed))
            s = fg.solve_steady(fg.Flow(m, viscosity=nu, inlet=inflow, outlet=fg.Outflow(), walls=fg.Wall(), body=fg.Wall()))
            return fg.drag(s, "body") / (speed**2 * length), s.report.products

        nu = jnp.asarray(5e-3 * speed * length)
        value, gradient, report = fg.value_and_grad(lambda nu: drag(nu)[0])(nu)
        return value, gradient * nu, drag(nu)[1], report.adjoint_products

    of_one = went(1.0, 1.0)
    for units in ((1e-6, 1e-9), (1e3, 30.0)):
        found = went(*units)
        np.testing.assert_allclose(found[:2], of_one[:2], rtol=1e-9)
        assert found[2:] == of_one[2:]


# ---- the small flow of the derivative tests

FLOW = study()


def test_a_step_that_a_kept_factor_spoils_is_taken_again_with_a_new_one(monkeypatch):
    solve, factor, solved, made, spoilt = newton.gmres, newton.backends.factor, [], [], []
    known = fg.solve_steady(FLOW)

    def count(*args):
        made.append(len(solved))
        return factor(*args)

    def spoil(*args):
        x, *went = solve(*args)
        kept = made[-1] < len(solved)
        if kept and not spoilt:
            spoilt.append(len(solved))
        solved.append(1)
        return (-x if spoilt == [len(solved) - 1] else x, *went)

    monkeypatch.setattr(newton.backends, "factor", count)
    monkeypatch.setattr(newton, "gmres", spoil)
    found = fg.solve_steady(FLOW)
    assert found.report.converged and found.report.solves == 1
    assert made[-1] == spoilt[0] + 1  # for the same step
    assert found.report.iterations == known.report.iterations + 1
    np.testing.assert_allclose(found.state, known.state, atol=1e-9)


def with_viscosity(nu):
    return jax.tree_util.tree_map_with_path(lambda path, x: jnp.full_like(x, nu) if jax.tree_util.keystr(path) == ".viscosity" else x, FLOW)


def test_both_backends_find_the_same_flow():
    one, two = (fg.solve_steady(FLOW, tolerance=1e-13, linear=k) for k in ("superlu", "block_tridiagonal"))
    np.testing.assert_allclose(one.state, two.state, atol=1e-12)


def test_a_start_saves_steps_and_changes_nothing():
    cold = fg.solve_steady(FLOW, tolerance=1e-13)
    warm = fg.solve_steady(with_viscosity(1.01 * FLOW.viscosity), start=cold, tolerance=1e-13)
    again = fg.solve_steady(with_viscosity(1.01 * FLOW.viscosity), tolerance=1e-13)
    assert warm.report.iterations < again.report.iterations
    np.testing.assert_allclose(warm.state, again.state, atol=1e-12)


def test_stokes_flow_takes_one_step():
    flow = fg.Flow(FLOW.mesh, viscosity=0.1, convection=False, left=fg.Inflow(1.0), right=fg.Outflow(), bottom=fg.Wall(), top=fg.Wall())
    s = fg.solve_steady(flow, tolerance=1e-12)
    assert s.report.iterations == 1 and s.report.residual < 1e-12
    # linear: twice the inflow is twice the flow
    twice = fg.solve_steady(
        fg.Flow(FLOW.mesh, viscosity=0.1, convection=False, left=fg.Inflow(2.0), right=fg.Outflow(), bottom=fg.Wall(), top=fg.Wall())
    )
    np.testing.assert_allclose(twice.state, 2 * s.state, atol=1e-11)


def test_other_values_and_points_compile_nothing(caplog):
    fg.solve_steady(study(1.0))
    second, third = study(1.05), study(0.95)
    with jax.log_compiles(), caplog.at_level(logging.WARNING, logger="jax"):
        fg.solve_steady(second)
        fg.solve_steady(third)
    assert not [r.getMessage() for r in caplog.records if "ompiling" in r.getMessage()]


# ---- failures


def test_a_flow_that_has_no_steady_state_here_says_how_far_it_came():
    with pytest.raises(fg.NotConverged) as failure:
        fg.solve_steady(cavity(8, 1e5, grading=0.0))
    message, report = str(failure.value), failure.value.report
    assert message.startswith("no convergence: residual ") and "times the viscosity was reached by continuation)" in message
    assert "Largest residual near (" in message and 'Try a finer mesh (mesh.refine = 2), or flow.scheme = "upwind", or a larger' in message
    assert not report.converged and 1 < report.reached < np.inf and report.solves > 1
    assert np.isfinite(failure.value.solution.state).all()  # the last good state
    assert report.residual > 1e-6  # its residual in the flow that was asked for, not in the more viscous one it solves


def test_a_flow_is_not_advised_to_do_what_it_does():
    flow, report = with_viscosity(1e-9), fg.solve_steady(with_viscosity(0.1)).report
    assert "upwind" not in advice(dataclasses.replace(flow, scheme="upwind"), report)
    assert advice(dataclasses.replace(flow, convection=False), report).endswith("Try a finer mesh (mesh.refine = 2).")


def test_a_flow_out_of_reach_says_that_too():
    with pytest.raises(fg.NotConverged, match="no more viscous flow converged either") as failure:
        fg.solve_steady(with_viscosity(1e-9))
    assert failure.value.report.reached == np.inf


def test_under_jit_a_failed_solve_is_nan():
    state, converged = jax.jit(lambda nu: (lambda s: (s.state, s.report.converged))(fg.solve_steady(with_viscosity(nu))))(1e-9)
    assert np.isnan(state).all() and not converged


def test_a_start_that_is_nan_is_recovered_from():
    s = fg.solve_steady(FLOW, start=jnp.full(FLOW.n_unknowns, jnp.nan))
    assert s.report.converged


def test_what_is_not_finite_has_no_small_residual():
    """A step that a singular factor gives must not be taken for the last one."""
    trial = newton.stay(discretize(FLOW), jnp.full(FLOW.n_unknowns, jnp.nan), 1e-10)
    assert np.isinf(trial.residual)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"start": np.zeros(7)}, "the start has 7 unknowns, the flow 90; a solution on the same cells"),
        ({"derivative": "backward"}, "unknown derivative 'backward'; reverse or forward"),
        ({"linear": "lu"}, "unknown linear backend 'lu'"),
    ],
)
def test_options_that_do_not_exist_are_refused(options, says):
    with pytest.raises(InputError, match=says):
        fg.solve_steady(FLOW, **options)


# ---- other machines


def test_the_solve_and_its_gradient_lower_for_a_gpu():
    """No GPU is needed for that: no callbacks, no custom calls that CUDA lacks."""

    def drag(flow):
        return fg.drag(fg.solve_steady(flow, linear="block_tridiagonal"), "bottom")

    exported = jax.export.export(jax.jit(jax.value_and_grad(drag)), platforms=["cuda"])(FLOW)
    text = exported.mlir_module()
    assert exported.platforms == ("cuda",)
    assert "callback" not in text


@pytest.mark.slow  # every day: the balances of both in test_periodic.py
def test_periodic_flow_by_pressure_drop_and_by_flow_rate_agree():
    m = mesh("kinked box")
    walls = {"bottom": fg.Wall(), "top": fg.Wall()}
    given = fg.solve_steady(fg.Flow(m, viscosity=0.1, left=fg.Periodic("right", flow_rate=0.3), **walls), tolerance=1e-13)
    (drop,) = given.pressure_drop
    again = fg.solve_steady(fg.Flow(m, viscosity=0.1, left=fg.Periodic("right", pressure_drop=drop), **walls), tolerance=1e-13)
    np.testing.assert_allclose(again.velocity, given.velocity, atol=1e-10)
    # a plane channel of height 1: drop = 12 nu Q / h^3, the kinks cost some
    assert float(drop) == pytest.approx(12 * 0.1 * 0.3, rel=0.5)


def test_a_start_at_another_flow_rate_is_no_solution():
    """Every cell is in balance there; the flow rate alone is wrong."""

    def flow(rate):
        return fg.Flow(mesh("kinked box"), viscosity=0.1, left=fg.Periodic("right", flow_rate=rate), bottom=fg.Wall(), top=fg.Wall())

    slow = fg.solve_steady(flow(0.3))
    fast, cold = fg.solve_steady(flow(0.4), start=slow), fg.solve_steady(flow(0.4))
    assert cold.report.iterations <= 6 and cold.report.solves == 1
    np.testing.assert_allclose(fast.state, cold.state, atol=1e-8)
