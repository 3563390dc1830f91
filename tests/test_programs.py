"""Programs that are given tables: shared by meshes with equal counts, and holding none of them."""

import gc
import weakref

import jax
import jax.monitoring
import jax.numpy as jnp
import numpy as np
import pytest
from cases import mesh

import fluidgrad as fg
from fluidgrad.flow.functionals import lift
from fluidgrad.linear import superlu
from fluidgrad.mesh.mesh import corners, incidence, measure
from fluidgrad.mesh.topology import build_topology
from fluidgrad.programs import Asked, compiled


def turned(shift):
    """Four rows of eight cells whose points and cells are numbered from another one on: the same counts each time."""
    x = np.stack(np.meshgrid(np.arange(9.0), np.arange(5.0), indexing="ij"), -1)
    grid = np.roll(np.arange(45), shift).reshape(9, 5)
    points = np.empty((45, 2))
    points[grid] = x
    cells = np.stack([grid[:-1, :-1], grid[1:, :-1], grid[1:, 1:], grid[:-1, 1:]], -1).reshape(-1, 4)
    sides = {"left": grid[0], "right": grid[-1], "bottom": grid[:, 0], "top": grid[:, -1]}
    patches = {name: np.stack([line[:-1], line[1:]], 1) for name, line in sides.items()}
    return fg.Mesh(jnp.asarray(points), build_topology(points, [("quad", np.roll(cells, shift, 0))], patches))


def study(m):
    def loss(viscosity):
        flow = fg.Flow(m, viscosity=viscosity, left=fg.Inflow(1.0), right=fg.Outflow(), bottom=fg.Wall(), top=fg.Wall())
        return fg.pressure_drop(fg.solve_steady(flow), "left", "right")

    return float(fg.value_and_grad(loss)(0.1)[1])


@pytest.fixture
def compilations():
    """The programs that were compiled, by their functions' names."""
    found = []

    def listen(name, seconds, fun_name="", **_):
        if name.endswith("backend_compile_duration"):
            found.append(fun_name.removeprefix("jit(").removesuffix(")"))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


def test_meshes_with_equal_counts_share_every_program(compilations):
    one, other = turned(0), turned(5)
    assert one.topology != other.topology
    first = study(one)
    some = len(compilations)
    assert some > 10
    assert study(other) == pytest.approx(first, rel=1e-12)
    assert len(compilations) == some
    study(fg.box((0, 0), (1, 1), (4, 4)))  # other counts
    assert len(compilations) > some


def test_functionals_of_the_boundary_share_its_programs_and_those_of_its_derivative(compilations):
    """What a further one adds are single operations; the fluxes and what the flow is made of were compiled for the first."""
    m = turned(0)
    flow = fg.Flow(m, viscosity=1.0, convection=False, left=fg.Inflow(1.0), right=fg.Outflow(), bottom=fg.Wall(), top=fg.Wall())
    s = fg.solve_steady(flow)

    def programs(f, patch):
        some = len(compilations)
        f(s, patch), jax.grad(lambda s: f(s, patch), allow_int=True)(s)
        return compilations[some:]

    large = {"_edge", "_measured", "_laid_out"}
    assert large <= set(programs(fg.drag, "top"))
    for f, patch in ((fg.drag, "bottom"), (lift, "top")):
        added = programs(f, patch)
        assert not large & set(added) and all(hasattr(jax.lax, name.strip("_")) or hasattr(jnp, name.strip("_")) for name in added), added


def test_two_hundred_meshes_leave_nothing_behind(compilations):
    def solved(shift):
        m = turned(shift)
        flow = fg.Flow(m, viscosity=1.0, convection=False, left=fg.Inflow(1.0), right=fg.Outflow(), bottom=fg.Wall(), top=fg.Wall())
        return float(fg.pressure_drop(fg.solve_steady(flow), "left", "right")), weakref.ref(m.topology)

    solved(0)
    some = len(compilations)
    found, left = zip(*(solved(k % 45) for k in range(200)), strict=True)
    assert np.ptp(found) < 1e-10 * max(found) and len(compilations) == some
    superlu._host.submit(superlu._held.clear).result()
    gc.collect()
    assert sum(topology() is not None for topology in left) <= 1


def test_no_table_is_folded_into_a_program():
    m = fg.box((0, 0), (1, 1), (40, 40))
    text = {n: len(measure.lower(fg.box((0, 0), (1, 1), (n, n))).as_text()) for n in (20, 40)}
    assert text[40] < 1.05 * text[20], text  # numbers of more digits
    folded = jax.jit(lambda x: x[m.topology.owner]).lower(jnp.zeros(1600)).as_text()  # that it would be seen
    assert len(folded) > 10_000


def test_tables_are_integers_on_the_device_made_once_also_where_something_is_traced():
    m = mesh("polygons")
    table = jax.jit(lambda x: (x, m.topology.of(incidence))[1])(1.0)
    kept = m.topology.of(incidence)
    assert kept is m.topology.of(incidence)
    for a, b in zip(jax.tree.leaves(table), jax.tree.leaves(kept), strict=True):
        assert isinstance(b, jax.Array) and b.dtype in (jnp.int32, jnp.int8)
        np.testing.assert_array_equal(a, b)


def test_making_tables_compiles_nothing(compilations):
    topology = fg.box((0, 0), (1, 1), (7, 3)).topology
    before = len(compilations)
    topology.of(incidence), topology.of(corners)
    assert len(compilations) == before
    jnp.asarray(np.arange(1009))  # that it would be seen
    assert len(compilations) > before


def test_a_derivative_by_a_mesh_knows_its_points_alone():
    m = mesh("box")
    gradient = jax.grad(lambda m: jnp.sum(measure(m).V ** 2))(m)
    assert isinstance(gradient, fg.Mesh) and gradient.topology is m.topology and gradient.recipe == m.recipe
    assert [leaf.shape for leaf in jax.tree.leaves(gradient)] == [m.points.shape]


def test_a_mesh_comes_back_on_the_topology_that_it_came_with():
    one, other = mesh("box"), turned(0)

    @compiled
    def moved(a, b):
        return fg.Mesh(b.points + 1, b.topology), a

    first, second = moved(one, other)
    assert first.topology is other.topology and second.topology is one.topology and second.recipe == one.recipe
    np.testing.assert_array_equal(first.points, other.points + 1)


def test_a_table_that_nobody_can_give_is_said():
    kept = []

    @compiled
    def keep(m):
        kept.append(m.topology)
        return m.points.sum()

    keep(mesh("box"))
    with pytest.raises(Asked, match="corners.* was asked for outside of the program"):
        kept[0].of(corners)
