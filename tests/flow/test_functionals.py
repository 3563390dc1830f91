"""Functionals against hand calculation, and against each other by the balance of momentum."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import in_numpy, measure, mesh, operators, random_state, state_of, study

import fluidgrad as fg
from fluidgrad.errors import InputError
from fluidgrad.flow.functionals import (
    REGISTRY,
    drag_coefficient,
    lift_coefficient,
    lift_to_drag,
    moment,
    moment_coefficient,
)
from fluidgrad.flow.solution import Solution, SolveReport

NU, ALPHA = 0.1, 0.5
DONE = SolveReport(*(jnp.asarray(x) for x in (True, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)), "nothing")


@pytest.fixture(scope="module")
def shear():
    """u = 2 y, p = 0.8 - 0.4 x laid into the cells of a 2 x 1 box: linear, so every functional is exact. Nothing is solved."""
    m = mesh("box")
    x, y = measure(m).x_cell.T
    inlet = measure(m).x_face[m.topology.faces_of("left"), 1]
    flow = fg.Flow(
        m, viscosity=NU, porosity=ALPHA, reference=(2.0, 0.5), left=fg.Inflow(2 * inlet), right=fg.Outflow(), bottom=fg.Wall(),
        top=fg.Wall(velocity=(2.0, 0.0)),
    )  # fmt: skip
    return Solution(flow, state_of(flow, np.stack([2 * y, 0 * y], 1), 0.8 - 0.4 * x), DONE)


def test_drag(shear):
    lower, both, coefficient = in_numpy(lambda s: (fg.drag(s, "bottom"), fg.drag(s, "bottom", "top"), drag_coefficient(s, "bottom")), shear)
    # shear 2 nu on walls 2 long: the flow drags the lower one along, and the upper one back
    assert lower == pytest.approx(4 * NU, rel=1e-12)
    assert both == pytest.approx(0.0, abs=1e-13)
    assert coefficient == pytest.approx(4 * NU / (0.5 * 2.0**2 * 0.5), rel=1e-12)


def test_lift(shear):
    upper, both, coefficient = in_numpy(lambda s: (fg.lift(s, "top"), fg.lift(s, "top", "bottom"), lift_coefficient(s, "top")), shear)
    # int p dx = 0.8 on each wall, pushing outward
    assert upper == pytest.approx(0.8, rel=1e-12)
    assert both == pytest.approx(0.0, abs=1e-13)
    assert coefficient == pytest.approx(0.8, rel=1e-12)  # U^2 L / 2 = 1


def test_lift_to_drag(shear):
    both = ("bottom", "right")
    lower, ratio, lift, drag = in_numpy(
        lambda s: (lift_to_drag(s, "bottom"), *(f(s, *both) for f in (lift_to_drag, fg.lift, fg.drag))), shear
    )
    assert lower == pytest.approx(-0.8 / (4 * NU), rel=1e-12)
    # of the forces of both patches together
    assert ratio == pytest.approx(lift / drag, rel=1e-12)


def test_moment(shear):
    origin, on_wall, coefficient = in_numpy(
        lambda s: (moment(s, "top"), moment(s, "top", center=(0.0, 1.0)), moment_coefficient(s, "top")), shear
    )
    # the upper wall about the origin: int x p dx by the midpoint rule over six faces, and the shear -4 nu at height 1
    x = measure(shear.flow.mesh).x_face[shear.flow.mesh.topology.faces_of("top"), 0]
    pressure = np.sum(x * (0.8 - 0.4 * x)) * 2 / len(x)
    assert origin == pytest.approx(pressure + 4 * NU, rel=1e-12)
    # about a center on the wall the shear has no arm
    assert on_wall == pytest.approx(pressure, rel=1e-12)
    assert coefficient == pytest.approx((pressure + 4 * NU) / 0.5, rel=1e-12)


def test_flow_rate_and_pressure_drop(shear):
    left, right, drop = in_numpy(lambda s: (fg.flow_rate(s, "left"), fg.flow_rate(s, "right"), fg.pressure_drop(s, "left", "right")), shear)
    assert left == pytest.approx(1.0, rel=1e-12)
    assert right == pytest.approx(-1.0, rel=1e-12)
    # the kinetic energy that enters leaves again
    assert drop == pytest.approx(0.8, rel=1e-12)


def test_several_outlets_count_by_the_flow_through_them(shear):
    """The same drop whatever patches a side is cut into, and that of the parts by their flow."""
    m = fg.box((0, 0), (2, 1), cells=(6, 5), patches={"right": [["low", 0.0, 0.4], ["high", 0.4, 1.0]]})
    ends = {
        "left": fg.Inflow((1.0, 2.0, 3.0, 2.0, 1.0)),
        "low": fg.Outflow(0.3),
        "high": fg.Outflow(),
        "bottom": fg.Wall(),
        "top": fg.Wall(),
    }
    s = fg.solve_steady(fg.Flow(m, viscosity=0.1, **ends))
    outlets = ["low", "high"]
    drops, rates = in_numpy(lambda s: ([fg.pressure_drop(s, "left", p) for p in outlets], [fg.flow_rate(s, p) for p in outlets]), s)
    together, back, listed = in_numpy(
        lambda s: [fg.pressure_drop(s, *ends) for ends in (("left", outlets), (outlets, "left"), (("left",), ("low",)))], s
    )
    assert together == pytest.approx(np.dot(drops, rates) / sum(rates), rel=1e-12) and abs(drops[0] - drops[1]) > 0.01
    assert back == pytest.approx(-together, rel=1e-12)
    assert listed == drops[0]


def test_dissipation(shear):
    V, u = measure(shear.flow.mesh).V, np.asarray(shear.velocity)
    # nu/2 |grad u + grad u^T|^2 = nu/2 (2^2 + 2^2) over an area of 2
    assert float(fg.dissipation(shear)) == pytest.approx(8 * NU + ALPHA * np.sum(V * u[:, 0] ** 2), rel=1e-12)


def test_uniformity(shear):
    faces = shear.flow.mesh.topology.faces_of("left")
    u, a = np.asarray(shear.flow.boundary["left"].speed), np.linalg.norm(measure(shear.flow.mesh).S[faces], axis=1)
    assert float(fg.functionals.uniformity(shear, "left")) == pytest.approx(np.sum(u * a) ** 2 / np.sum(u**2 * a), rel=1e-12)


def test_roughness_of_a_parabola_tends_to_one():
    def of(n):
        m = fg.box((0, 0), (1, 1), cells=(2, n))
        flow = fg.Flow(m, viscosity=1.0, left=fg.Inflow(fg.parabola(m, "left", 1.0)), right=fg.Outflow(), bottom=fg.Wall(), top=fg.Wall())
        return abs(float(fg.roughness(Solution(flow, jnp.zeros(flow.n_unknowns), DONE), "left")) - 1)

    assert of(24) < 0.3 * of(12) < 0.01


def test_target_distance_is_an_integral_over_a_ball(shear):
    whole = fg.functionals.target_distance(shear, center=(1.0, 0.5), radius=100.0, velocity=(0.0, 0.0))
    V = measure(shear.flow.mesh).V
    assert float(whole) == pytest.approx(np.sum(V * np.asarray(shear.velocity)[:, 0] ** 2), rel=1e-9)
    assert fg.functionals.target_distance(shear, center=(1.0, 0.5), radius=0.1, velocity=(1.0, 0.0)) < 1e-3


@pytest.mark.parametrize("at", [(0.4, 0.5), (1.37, 0.5), (2.0, 0.0)])
def test_probes_read_a_linear_field_exactly_inside_and_on_the_boundary(shear, at):
    assert float(fg.functionals.probe(shear, at, "pressure")) == pytest.approx(0.8 - 0.4 * at[0], abs=1e-12)
    assert float(fg.functionals.probe(shear, at, what="velocity_x")) == pytest.approx(2 * at[1], abs=1e-12)


def test_probes_name_their_quantity(shear):
    with pytest.raises(InputError, match="cannot probe 'velocity_z'; one of velocity_x"):
        fg.functionals.probe(shear, (1.0, 0.5), what="velocity_z")


def test_coefficients_are_differentiable_in_the_reference(shear):
    def coefficient(reference):
        return moment_coefficient(replace(shear, flow=replace_reference(shear.flow, reference)), "bottom")

    def replace_reference(flow, reference):
        return fg.Flow(flow.mesh, viscosity=flow.viscosity, porosity=flow.porosity, reference=reference, boundary=flow.boundary)

    value, (by_velocity, by_length) = jax.value_and_grad(coefficient)((2.0, 0.5))
    assert float(by_velocity) == pytest.approx(-2 * float(value) / 2.0, rel=1e-12)
    assert float(by_length) == pytest.approx(-2 * float(value) / 0.5, rel=1e-12)


def test_coefficients_by_an_area(shear):
    flow = shear.flow
    other = fg.Flow(flow.mesh, viscosity=flow.viscosity, porosity=flow.porosity, reference=(2.0, 0.5, 3.0), boundary=flow.boundary)
    for coefficient in (fg.functionals.drag_coefficient, fg.functionals.lift_coefficient, moment_coefficient):
        with_area, without = (coefficient(replace(shear, flow=f), "bottom") for f in (other, flow))
        assert float(with_area) == pytest.approx(float(without) * 0.5 / 3.0, rel=1e-14)
    with pytest.raises(InputError, match="a reference of 4 numbers; velocity and length, or velocity, length and area"):
        fg.Flow(flow.mesh, viscosity=flow.viscosity, reference=(1.0,) * 4, boundary=flow.boundary)


def test_coefficients_need_a_reference():
    flow = study()
    with pytest.raises(InputError, match="a coefficient needs a reference velocity and length; give flow.reference"):
        drag_coefficient(Solution(flow, jnp.zeros(flow.n_unknowns), DONE), "bottom")


def test_an_unknown_patch_is_named(shear):
    for force in (fg.drag, lift_to_drag, drag_coefficient, moment):
        with pytest.raises(InputError, match="a force on no patch; one or more of left, right, bottom, top"):
            force(shear)
    with pytest.raises(InputError, match="no patch named 'body'; the mesh has"):
        fg.drag(shear, "body")


def test_forces_balance_the_momentum_that_enters():
    """At a solution, forces on all boundaries, momentum through them, resistance and body force sum to zero."""
    flow = study()
    s = fg.solve_steady(flow, tolerance=1e-13)
    *force, rate = np.sum(in_numpy(lambda s: [[f(s, p) for p in s.flow.mesh.patches] for f in (fg.drag, fg.lift, fg.flow_rate)], s), 1)
    V = measure(flow.mesh).V
    inside = np.sum(V[:, None] * (np.asarray(flow.force) - np.asarray(flow.porosity)[:, None] * np.asarray(s.velocity)), 0)
    through = operators(flow, s.state)["boundary"]
    convected = np.sum(through.flux[:, :2] - through.force, 0)
    np.testing.assert_allclose(force + convected, inside, atol=1e-11)
    assert rate == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("name", ["box", "kinked box"])
def test_moments_balance_the_angular_momentum_that_enters(name):
    """At a solution, the moments of walls, of all that crosses the open boundaries, and of the forces inside sum to zero."""
    m = mesh(name)
    ends = {"left": fg.PressureInlet(1.0), "right": fg.Outflow(), "bottom": fg.Wall(), "top": fg.Wall(velocity=(0.3, 0.0))}
    flow = fg.Flow(m, viscosity=0.05, porosity=0.2, force=np.random.default_rng(2).normal(size=(m.n_cells, 2)), **ends)
    s = fg.solve_steady(flow, tolerance=1e-13)
    center, g = (0.3, -0.2), measure(flow.mesh)
    walls = [p for p, kind in flow.boundary.items() if isinstance(kind, fg.Wall)]
    total = float(moment(s, *walls, center=center))
    t, flux = flow.mesh.topology, operators(flow, s.state)["boundary"].flux

    def turn(x, force):
        r = x - np.array(center)
        return np.sum(r[:, 0] * force[:, 1] - r[:, 1] * force[:, 0])

    for p in set(flow.mesh.patches) - set(walls):
        faces = t.faces_of(p)
        total += turn(g.x_face[faces], flux[faces.start - t.n_interior : faces.stop - t.n_interior, :2])
    inside = np.asarray(flow.force) - 0.2 * np.asarray(s.velocity)
    assert total == pytest.approx(turn(g.x_cell, g.V[:, None] * inside), abs=1e-11)


def test_the_moment_of_a_body_is_that_of_its_forces():
    """The couples of cells, which may be far from it and coarse, go to the walls that enclose the flow: in any state."""
    m = mesh("channel")
    ends = {"inlet": fg.Inflow(0.2), "outlet": fg.Outflow(), "walls": fg.Wall(), "body": fg.Wall(rotation=1.0)}
    flow = fg.Flow(m, viscosity=1e-3, **ends)
    s = Solution(flow, random_state(flow), DONE)
    t, g = m.topology, measure(m)
    faces = t.faces_of("body")
    r = g.x_face[faces] - np.array([0.2, 0.2])
    force = operators(s.flow, s.state)["boundary"].force[faces.start - t.n_interior : faces.stop - t.n_interior]
    turn = np.sum(r[:, 0] * force[:, 1] - r[:, 1] * force[:, 0])
    assert float(moment(s, "body", center=(0.2, 0.2))) == pytest.approx(turn, rel=1e-12)


@pytest.mark.slow  # every day: moments balance
def test_the_moment_of_an_extruded_body_is_that_of_the_flat_one_times_its_height():
    flat = fg.channel(2.2, 0.41, body=fg.ellipse((0.2, 0.2), (0.05, 0.02), 0.4), cells=400)
    ends = {"inlet": fg.Inflow(0.2), "outlet": fg.Outflow(), "walls": fg.Wall(), "body": fg.Wall()}
    moments = []
    for m, more in ((flat, {}), (fg.extrude(flat, 0.3, 1), {"front": fg.Symmetry(), "back": fg.Symmetry()})):
        s = fg.solve_steady(fg.Flow(m, viscosity=1e-3, **ends, **more))
        moments.append(float(moment(s, "body", center=(0.2, 0.2, 0.0)[: m.dim])))
    assert moments[1] / 0.3 == pytest.approx(moments[0], rel=1e-9)


def test_a_users_functional_is_registered_traced_and_differentiable(shear):
    @fg.functional(units="L T^-1")
    def mean_speed(solution, power: float = 1.0, component: str = "x"):
        """Mean speed to a power."""
        return jnp.mean(solution.velocity[:, "xy".index(component)] ** power)

    assert REGISTRY["mean_speed"] is mean_speed and mean_speed.units == "L T^-1"
    assert mean_speed.__doc__ == "Mean speed to a power."
    values = [float(mean_speed(shear, power=p, component="x")) for p in (1.0, 2.0)]
    u = np.asarray(shear.velocity)[:, 0]
    np.testing.assert_allclose(values, [np.mean(u), np.mean(u**2)], rtol=1e-12)
    rate = jax.grad(lambda p: mean_speed(shear, power=p))(2.0)
    assert float(rate) == pytest.approx(np.mean(u**2 * np.log(u)), rel=1e-10)
    del REGISTRY["mean_speed"]
