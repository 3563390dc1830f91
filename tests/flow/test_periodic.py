"""Flow between periodic patches that a drop of the mean pressure drives: forces, moments and pressures have its part."""

from dataclasses import replace
from functools import cache

import jax.numpy as jnp
import numpy as np
import pytest
from cases import in_numpy, measure, mesh, program

import fluidgrad as fg
from fluidgrad.errors import InputError
from fluidgrad.flow.functionals import area, centroid, drag_coefficient, lift_to_drag, moment, probe, uniformity
from fluidgrad.flow.patches import pressure_name, surface
from fluidgrad.mesh.mesh import Mesh
from fluidgrad.mesh.topology import build_topology

ROUND = 1e-11
DISK = fg.circle((0.48, 0.53), 0.27)
CELL = {"bottom": "bottom", "top": "top"}


def cell_of_an_array(curve=DISK, like=None):
    """The unit cell of an array of bodies: periodic in both directions."""
    return fg.channel(1.0, 1.0, curve, cells=200, patches=CELL, like=like)


def cube_with_a_hole():
    """A unit cube of 27 cubes, six tetrahedra each, less the one in the middle, whose corners are moved."""
    x = np.stack(np.meshgrid(*[np.linspace(0, 1, 4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    inside = ((x > 0.1) & (x < 0.9)).all(1, keepdims=True)
    x = x + inside * np.random.default_rng(3).uniform(-0.05, 0.05, x.shape)
    number = np.arange(64).reshape(4, 4, 4)
    cells, hole = [], []
    for path in ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2)):
        corner, step = [(0, 0, 0)], [0, 0, 0]
        for axis in path:
            step[axis] = 1
            corner.append(tuple(step))
        loops = np.stack([number[a : 3 + a, b : 3 + b, c : 3 + c].ravel() for a, b, c in corner], 1)
        loops = loops if path in ((0, 1, 2), (1, 2, 0), (2, 0, 1)) else loops[:, [0, 2, 1, 3]]
        hole.append(loops[13])
        cells.append(np.delete(loops, 13, 0))
    cells = np.concatenate(cells)
    sides, count = np.unique(np.sort(np.concatenate([np.delete(cells, i, 1) for i in range(4)]), 1), axis=0, return_counts=True)
    sides = sides[count == 1]
    at = lambda axis, value: (np.abs(x[sides][:, :, axis] - value) < 1e-9).all(1)  # noqa: E731
    names = {"left": at(0, 0), "right": at(0, 1), "bottom": at(1, 0), "top": at(1, 1), "front": at(2, 0), "back": at(2, 1)}
    patches = {name: sides[where] for name, where in names.items()} | {"body": sides[~np.any(list(names.values()), 0)]}
    return Mesh(jnp.asarray(x), build_topology(x, [("tetra", cells)], patches))


def warped_duct():
    """Hexahedra with warped faces between two uneven walls, periodic along x and z."""
    m = mesh("extruded")
    bump = 0.04 * jnp.sin(2 * np.pi * m.points[:, 0]) * jnp.cos(2 * np.pi * m.points[:, 2] / 0.7)
    return Mesh(m.points.at[:, 1].add(bump * (1 + m.points[:, 1])), m.topology)


SHEAR = jnp.array([[1.0, 0.0], [0.4, 1.0]])
FLOWS = {
    "disk": lambda: fg.Flow(
        cell_of_an_array(), viscosity=0.05, reference=(1.0, 1.0), inlet=fg.Periodic("outlet", pressure_drop=1.0),
        bottom=fg.Periodic("top"), body=fg.Wall(),
    ),
    "disk in an oblique cell": lambda: fg.Flow(
        Mesh(cell_of_an_array().points @ SHEAR, cell_of_an_array().topology), viscosity=0.1, porosity=0.3, force=(0.2, -0.1),
        inlet=fg.Periodic("outlet", flow_rate=0.03), bottom=fg.Periodic("top", pressure_drop=-0.4), body=fg.Wall(),
    ),
    "uneven channel": lambda: fg.Flow(
        mesh("kinked box"), viscosity=0.1, left=fg.Periodic("right", flow_rate=0.3), bottom=fg.Wall(), top=fg.Wall((0.2, 0.0)),
    ),
    "hole in a cube": lambda: fg.Flow(
        cube_with_a_hole(), viscosity=0.1, left=fg.Periodic("right", pressure_drop=1.0), bottom=fg.Periodic("top", flow_rate=0.02),
        front=fg.Periodic("back", pressure_drop=-0.3), body=fg.Wall(),
    ),
    "warped duct": lambda: fg.Flow(
        warped_duct(), viscosity=0.1, left=fg.Periodic("right", pressure_drop=0.5), front=fg.Periodic("back", flow_rate=0.1),
        bottom=fg.Wall(), top=fg.Wall(),
    ),
}  # fmt: skip
PAIRS = [("inlet", "outlet"), ("left", "right"), ("bottom", "top"), ("front", "back")]


@cache
def solved(name):
    return fg.solve_steady(FLOWS[name](), tolerance=1e-13)


def drops(s):
    """Every periodic pair with its drop of the mean pressure, and the area vector along it."""
    g, t = measure(s.flow.mesh), s.flow.mesh.topology
    pairs = [(a, b) for a, b in PAIRS if isinstance(s.flow.boundary.get(a), fg.Periodic)]
    found = in_numpy(lambda s: [fg.pressure_drop(s, *pair) for pair in pairs], s)
    return [(a, b, drop, -g.S[t.faces_of(a)].sum(0)) for (a, b), drop in zip(pairs, found, strict=True)]


EVERY_DAY = ("disk in an oblique cell", "hole in a cube")


@pytest.mark.parametrize("name", [k if k in EVERY_DAY else pytest.param(k, marks=pytest.mark.slow) for k in FLOWS])
def test_walls_take_up_what_drops_and_forces_push(name):
    """The momentum balance of the cell, to round-off: the force on its walls is each drop times the cross-section that it
    acts on, and the forces inside."""
    s = solved(name)
    force = np.array(in_numpy(lambda s: [f(s, *s.flow.walls) for f in (fg.drag, fg.lift)], s))
    inside = np.asarray(s.flow.force) - np.asarray(s.flow.porosity) * np.asarray(s.velocity)
    pushed = measure(s.flow.mesh).V @ inside + sum(drop * S for _, _, drop, S in drops(s))
    np.testing.assert_allclose(force, pushed[:2], atol=ROUND)
    assert np.abs(force).max() > 0.01


@pytest.mark.parametrize("name", ["disk", "disk in an oblique cell", "hole in a cube"])
def test_the_mean_gradient_pushes_a_body_at_its_centroid(name):
    """What the mean pressure adds is the gradient times the body's volume, and acts at its centroid."""
    s = solved(name)
    pairs = drops(s)
    x, t = np.asarray(s.flow.mesh.points), s.flow.mesh.topology
    ends = [[x[t.face_points[t.faces_of(p)]].reshape(-1, t.dim).mean(0) for p in pair[:2]] for pair in pairs]
    G = np.linalg.solve(np.stack([b - a for a, b in ends]), [drop for _, _, drop, _ in pairs])
    about = (0.1, -0.2, 0.3)[: t.dim]

    def acting(s):
        return jnp.stack([fg.drag(s, "body"), fg.lift(s, "body"), moment(s, "body", center=about)])

    *force, turned = in_numpy(lambda s, still: acting(s) - acting(still), s, replace_drops(s))
    volume, *middle = in_numpy(lambda s: (area(s, "body"), centroid(s, "body", "x"), centroid(s, "body", "y")), s)
    np.testing.assert_allclose(force, volume * G[:2], atol=1e-11)
    arm = np.array(middle) - np.array(about[:2])
    assert turned == pytest.approx(volume * (arm[0] * G[1] - arm[1] * G[0]), abs=1e-11)


def replace_drops(s):
    """The same state where no drop drives it: the periodic part alone."""
    kinds = {k: fg.Periodic(v.other) if isinstance(v, fg.Periodic) else v for k, v in s.flow.boundary.items()}
    flow = fg.Flow(s.flow.mesh, viscosity=s.flow.viscosity, force=s.flow.force, porosity=s.flow.porosity, boundary=kinds)
    return replace(s, flow=flow, state=s.state[: flow.n_unknowns])


def test_a_drop_and_a_force_drive_the_same_flow_but_only_the_drop_pushes_the_body():
    s = solved("disk")
    ends = {"inlet": fg.Periodic("outlet"), "bottom": fg.Periodic("top")}
    forced = fg.solve_steady(fg.Flow(s.flow.mesh, viscosity=0.05, force=(1.0, 0.0), body=fg.Wall(), **ends), tolerance=1e-13)
    np.testing.assert_allclose(forced.velocity, s.velocity, atol=ROUND)
    assert pressure_name(forced.flow, forced.state) == ("pressure", "kinematic pressure")
    assert pressure_name(s.flow, s.state) == ("periodic_pressure", "periodic part of the kinematic pressure")
    drag, coefficient, lift, ratio = in_numpy(lambda s: [f(s, "body") for f in (fg.drag, drag_coefficient, fg.lift, lift_to_drag)], s)
    assert drag == pytest.approx(1.0, abs=ROUND)
    assert float(fg.drag(forced, "body")) == pytest.approx(float(area(s)), abs=ROUND)
    assert coefficient == pytest.approx(2.0, abs=ROUND)
    assert ratio == pytest.approx(lift, abs=ROUND)


def test_probes_and_surfaces_have_the_whole_pressure():
    """Two places a period apart differ by the drop; the stored pressure is the same at both."""
    s = solved("disk")
    V, x = measure(s.flow.mesh).V, measure(s.flow.mesh).x_cell
    origin = V @ x / V.sum()

    def pressures(s):
        at = ((0.0, 0.03), (1.0, 0.03), origin + np.array([0.3, 0.3]))
        return [probe(s, where, "pressure") for where in at], surface(s.flow, s.state)

    ((left, right, away), walls), ((*_, still_away), still) = (in_numpy(pressures, each) for each in (s, replace_drops(s)))
    assert left - right == pytest.approx(1.0, abs=0.1)
    assert float(V @ s.pressure) == pytest.approx(0.0, abs=ROUND)
    assert away - still_away == pytest.approx(-0.3, abs=1e-12)
    np.testing.assert_allclose(walls.pressure - still.pressure, -(walls.x - origin)[:, 0], atol=1e-12)


def test_what_flows_through_periodic_patches_is_measured():
    s = solved("uneven channel")
    rates, even, rough = in_numpy(lambda s: [[f(s, p) for p in ("left", "right")] for f in (fg.flow_rate, uniformity, fg.roughness)], s)
    there, back = in_numpy(lambda s: (fg.pressure_drop(s, "left", "right"), fg.pressure_drop(s, "right", "left")), s)
    assert rates == pytest.approx([0.3, -0.3], abs=ROUND)
    assert even[0] == pytest.approx(even[1], rel=1e-12)
    assert 0.5 < even[0] < 1
    assert rough[0] == pytest.approx(rough[1], rel=1e-12)
    assert there == float(s.pressure_drop[0]) == -back


def test_a_drop_is_from_a_periodic_patch_to_the_one_it_continues_at():
    s = solved("disk")
    with pytest.raises(InputError, match="from 'inlet' to 'bottom', of which one is periodic; a periodic patch and the one it continues"):
        fg.pressure_drop(s, "inlet", "bottom")
    with pytest.raises(InputError, match="patch 'inlet' is periodic: nothing acts on it; one that is not: body"):
        fg.drag(s, "inlet")


# ---- derivatives


def walls_that_move():
    """A channel as a function of a design, and a number that has all that a drop of pressure acts on: on uneven walls drag,
    lift, moment and pressure each have a part of the mean gradient."""
    m = fg.box(cells=(6, 5))
    x, y = m.points.T
    wave = jnp.stack([0 * x, (1 - 1.6 * y) * jnp.sin(2 * np.pi * x + y) * x * (1 - x)], 1)

    def J(design):
        walls = Mesh(m.points + design["height"] * wave, m.topology)
        left = fg.Periodic("right", flow_rate=design["rate"])
        return number(fg.solve_steady(fg.Flow(walls, viscosity=design["viscosity"], left=left, bottom=fg.Wall(), top=fg.Wall())))

    @program
    def number(s):
        found = [fg.drag(s, "top"), 0.3 * lift_to_drag(s, "bottom"), moment(s, "bottom", center=(0.2, 0.1)), probe(s, (0.3, 0.4))]
        return sum(found) + 0.1 * fg.pressure_drop(s, "left", "right") - fg.flow_rate(s, "right") ** 2

    return J, {"height": jnp.asarray(0.3), "rate": jnp.asarray(0.2), "viscosity": jnp.asarray(0.1)}


def test_derivatives_of_what_a_drop_drives_are_differences():
    """In the walls' shape, the rate for which a drop is found, and the level of the viscosity."""
    J, at = walls_that_move()
    known = fg.value_and_grad(J)  # values too: what J alone needs would be compiled for them only
    _, gradient, _ = known(at)
    for name, slope in gradient.items():
        high, low = (known(at | {name: at[name] + h})[0] for h in (1e-4, -1e-4))
        assert float(slope) == pytest.approx(float(high - low) / 2e-4, rel=1e-6)


@pytest.mark.slow
def test_derivatives_of_what_a_drop_drives():
    """Taylor, both modes, differences."""
    found = fg.check(*walls_that_move())
    assert found.passed, str(found)


def test_the_drag_in_a_cell_is_the_drop_whatever_the_body():
    """So its map along the wall is nought."""
    s = solved("disk")
    wall = fg.sensitivity(lambda s: fg.drag(s, "body"), s.flow, s).wall["body"]
    speed = fg.sensitivity(lambda s: fg.flow_rate(s, "inlet"), s.flow, s).wall["body"]
    assert np.abs(wall.value).max() < 1e-9 < 1e-3 * np.abs(speed.value).max()


@pytest.mark.slow
def test_where_the_flow_rate_is_given_the_map_of_the_drag_is_that_of_the_drop():
    """A porous medium takes its own part of the drop."""
    s = solved("disk")
    given = fg.Flow(s.flow.mesh, viscosity=0.05, inlet=fg.Periodic("outlet", flow_rate=0.1), bottom=fg.Periodic("top"), body=fg.Wall())
    of_drag = fg.sensitivity(lambda s: fg.drag(s, "body"), given)
    of_drop = fg.sensitivity(lambda s: fg.pressure_drop(s, "inlet", "outlet"), given)
    np.testing.assert_allclose(of_drag.wall["body"].value, of_drop.wall["body"].value, atol=1e-9)
    np.testing.assert_allclose(of_drag.porosity, of_drop.porosity - of_drag.solution.velocity[:, 0], atol=1e-9)
    assert np.abs(of_drop.wall["body"].value).max() > 0.1
