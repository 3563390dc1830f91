"""Exact solutions of the Navier-Stokes equations: Poiseuille, Kovasznay, Taylor-Couette."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import centres, in_numpy, measure, state_of, triangles, with_velocity_given

import fluidgrad as fg
from fluidgrad.mesh.mesh import Mesh

REFERENCE = json.loads((Path(__file__).parents[1] / "reference" / "exact_solutions.json").read_text())


def rms(mesh, difference):
    V = measure(mesh).V
    return float(np.sqrt(np.sum(V * np.sum(np.asarray(difference) ** 2, axis=tuple(range(1, np.ndim(difference))))) / V.sum()))


def poiseuille(n):
    """A channel 1 high driven by its pressure drop; the flow rate is 1 and the drop 12 nu L."""
    mesh = fg.box((0, 0), (1, 1), cells=(3, n))
    flow = fg.Flow(mesh, viscosity=0.1, left=fg.Periodic("right", pressure_drop=12 * 0.1), bottom=fg.Wall(), top=fg.Wall())
    s = fg.solve_steady(flow, tolerance=1e-14)
    y = measure(mesh).x_cell[:, 1]
    u = np.stack([6 * y * (1 - y), 0 * y], 1)
    assert np.ptp(np.asarray(s.velocity)[:, 0].reshape(3, n), axis=0).max() < 1e-13  # every column is the same
    return rms(mesh, s.velocity - u), s


def test_poiseuille():
    (coarse, s), (fine, _) = poiseuille(12), poiseuille(24)
    assert float(fg.drag(s, "top", "bottom")) == pytest.approx(12 * 0.1, rel=1e-9)  # the momentum balance is exact on any mesh
    assert np.log2(coarse / fine) > 1.9, f"errors {coarse}, {fine}"
    assert fine < 2e-3


LAMBDA = 20 - np.sqrt(400 + 4 * np.pi**2)


def kovasznay(x):
    e = jnp.exp(LAMBDA * x[0])
    return jnp.stack([1 - e * jnp.cos(2 * np.pi * x[1]), LAMBDA / (2 * np.pi) * e * jnp.sin(2 * np.pi * x[1])])


def test_kovasznay():
    def error(n):
        mesh = fg.box((-0.5, -0.5), (1.0, 1.5), cells=(n, n), grading=1.0)
        s = fg.solve_steady(with_velocity_given(mesh, kovasznay, viscosity=1 / 40))
        x = measure(mesh).x_cell
        p = 0.5 * (1 - np.exp(2 * LAMBDA * x[:, 0]))
        level = np.sum(measure(mesh).V * (p - np.asarray(s.pressure))) / measure(mesh).V.sum()
        return rms(mesh, np.asarray(s.velocity) - jax.jit(jax.vmap(kovasznay))(x)), rms(mesh, np.asarray(s.pressure) + level - p)

    coarse, fine = np.array(error(20)), np.array(error(40))
    u, p = np.log2(coarse / fine)
    assert u >= 1.9 and p >= 1.7, f"orders {u:.2f}, {p:.2f}; errors {coarse}, {fine}"


def torques(row, around, across):
    """The torque on each wall over the exact one, and their sum."""
    mesh = fg.o_grid(fg.circle((0, 0), row["r1"]), row["r2"], cells=(around, across), grading=1.0)
    flow = fg.Flow(mesh, viscosity=1.0, body=fg.Wall(rotation=row["w1"]), far=fg.Wall(rotation=row["w2"]))
    s = fg.solve_steady(flow, tolerance=1e-13)
    exact = row["torque_per_length_over_mu"]
    inner, outer = np.array(in_numpy(lambda s: [fg.functionals.moment(s, wall) for wall in ("body", "far")], s)) / exact
    return np.array([-inner - 1, outer - 1]), inner + outer


def converges_with_equal_torques(*cells):
    (coarse, _), (fine, imbalance) = (torques(REFERENCE["taylor_couette"]["table"][0], *c) for c in cells)
    rates = np.log2(np.abs(coarse / fine))
    assert (rates > 1.9).all(), f"orders {rates}, errors {coarse}, {fine}"
    assert abs(imbalance) < 1e-10
    return np.abs(fine).max()


def test_taylor_couette():
    assert converges_with_equal_torques((40, 10), (80, 20)) < 4e-3  # as many cells and faces as the boxes of Kovasznay's flow


@pytest.mark.slow
def test_taylor_couette_fine():
    assert converges_with_equal_torques((128, 32), (256, 64)) < 2e-4


def test_poiseuille_flow_leaves_through_a_do_nothing_outflow_as_it_came():
    """The condition is on -p + nu du/dn: with the whole stress the parabola would fan out at the end."""
    m = fg.box((0, 0), (2, 1), cells=(24, 24))  # as many cells and faces as the rings round a source, 48 by 12
    ends = {"left": fg.Inflow(fg.parabola(m, "left", 1.0)), "right": fg.Outflow(0.3)}
    s = fg.solve_steady(fg.Flow(m, viscosity=0.05, bottom=fg.Wall(), top=fg.Wall(), **ends))
    u, p = np.asarray(s.velocity).reshape(24, 24, 2), np.asarray(s.pressure).reshape(24, 24)
    assert np.abs(u[-6:, :, 1]).max() < 1e-5
    assert np.ptp(p[-6:], axis=1).max() < 1e-5
    assert p[-1].mean() == pytest.approx(0.3 + 12 * 0.05 / 24, rel=2e-2)  # half a cell before the end


SOURCE = {"viscosity": 0.2, "level": -0.2 / 4 + 1 / 8}  # u = 1/r between 1 and 2: p = level - u^2 / 2, and 0 = p - nu du/dr at r = 2


def source(n, body, far):
    m = fg.o_grid(fg.circle((0, 0), 1.0), 2.0, cells=(48, n), grading=1.0)
    flow, x = fg.Flow(m, viscosity=SOURCE["viscosity"], body=body, far=far), measure(m).x_cell
    r = np.linalg.norm(x, axis=1)
    exact = SOURCE["level"] - 0.5 / r**2
    s = fg.solve_steady(flow, start=state_of(flow, x / r[:, None] ** 2, exact))  # inwards there is another solution
    assert s.report.solves == 1, f"from a more viscous flow it may end in the other: {s.report}"
    error = np.asarray(s.pressure) - exact
    return float(fg.flow_rate(s, "body")), np.abs(error).max() / (SOURCE["viscosity"] / 4)  # of nu du/dr


@pytest.mark.parametrize("tangential", ["free", pytest.param("zero", marks=pytest.mark.slow)])
def test_the_pressure_at_an_outflow_that_slows_down_is_that_of_do_nothing(tangential):
    (_, coarse), (_, fine) = (source(n, fg.Inflow(1.0), fg.Outflow(tangential=tangential)) for n in (12, 24))
    assert np.log2(coarse / fine) > 0.9 and fine < 0.07, f"{coarse}, {fine}"


def test_fluid_enters_a_curved_inlet_at_its_total_pressure():
    """The flow rate of the exact flow, 2 pi, at its own total pressure: the normal stress is no part of that. Of first
    order, as du/dn at a boundary that the normal velocity is free on."""
    rates = [source(n, fg.PressureInlet(SOURCE["level"]), fg.Outflow())[0] for n in (12, 24)]
    errors = np.abs(np.array(rates) / (2 * np.pi) - 1)
    assert errors[1] < 0.2 and errors[1] < 0.65 * errors[0], f"{rates}"


def test_darcy_flow_between_oblique_periodic_patches():
    """One drop along (1, 0) and none along (0.5, 1): G = (1, -0.5), and u = G / alpha."""
    m = fg.box((0, 0), (1, 1), cells=(5, 5))
    sheared = Mesh(m.points @ jnp.array([[1.0, 0.0], [0.5, 1.0]]), m.topology)
    given = {"left": fg.Periodic("right", pressure_drop=1.0), "bottom": fg.Periodic("top")}
    s = fg.solve_steady(fg.Flow(sheared, viscosity=0.1, porosity=2.0, **given))
    np.testing.assert_allclose(s.velocity, np.tile([0.5, -0.25], (25, 1)), atol=1e-10)


def test_layers_of_triangles_are_periodic():
    m = fg.extrude(triangles(3), 0.5, 1)
    flow = fg.Flow(m, viscosity=0.1, wall=fg.Wall(), force=(0.0, 0.0, 1.0), front=fg.Periodic("back"))
    assert float(fg.solve_steady(flow).velocity[:, 2].min()) > 0


@pytest.mark.parametrize(("n", "force", "ends"), [(20, (0.3, -1.0), {}), (24, (0.0, -1.0), {"top": fg.Outflow()})])
def test_fluid_at_rest_under_a_force_is_a_solution(n, force, ends):
    walls = {p: fg.Wall() for p in ("left", "right", "bottom", "top")}
    s = fg.solve_steady(fg.Flow(fg.box(cells=(n, n)), viscosity=0.1, force=force, **{**walls, **ends}))
    assert np.abs(s.velocity).max() < 1e-12 and np.ptp(s.pressure) > 0.5


def test_the_wall_velocity_of_taylor_couette_is_the_rotation():
    mesh = fg.o_grid(fg.circle((0, 0), 1.0), 2.0, cells=(32, 12), grading=1.0)
    u = fg.Wall(rotation=2.0).conditions(measure(mesh).S[mesh.topology.faces_of("body")], centres(mesh, "body")).velocity
    x = centres(mesh, "body")
    np.testing.assert_allclose(np.asarray(u), 2 * np.stack([-x[:, 1], x[:, 0]], 1), atol=1e-15)
