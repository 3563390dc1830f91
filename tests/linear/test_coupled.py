"""Multigrid for velocity and pressure together: its levels, its cycle, and flows and gradients solved by it."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
from cases import gmsh_triangles, mesh, split_in_four, triangles

import fluidgrad as fg
from fluidgrad.errors import InputError, NotConverged, OutOfReach
from fluidgrad.flow.fluxes import discretize
from fluidgrad.flow.residual import tangent
from fluidgrad.linear import aggregation, coupled, jacobian, levels, matrices, systems
from fluidgrad.linear.aggregation import Graph, coarsened, colours, couplings
from fluidgrad.linear.jacobian import as_csr, assemble, datum, pattern
from fluidgrad.linear.krylov import gmres, times, transposed_times
from fluidgrad.solve import stability
from fluidgrad.solve.stability import growth_rates


def walls(m, viscosity, **others):
    return fg.Flow(m, viscosity=viscosity, boundary={p: others.get(p, fg.Wall()) for p in m.patches})


def cavity(n=32, viscosity=1e-2):
    return walls(fg.box(cells=(n, n)), viscosity, top=fg.Wall(velocity=(1.0, 0.0)))


def channel(cells=1500, viscosity=1e-3):
    m = fg.channel(2.2, 0.41, fg.circle((0.2, 0.2), 0.05), cells=cells)
    return walls(m, viscosity, inlet=fg.Inflow(fg.parabola(m, "inlet", 0.2)), outlet=fg.Outflow())


def stretched(n=40):
    m = fg.box((0, 0), (10.0, 1.0), cells=(n, n), grading=(0.0, 2.5))
    return walls(m, 1e-2, left=fg.Inflow(fg.parabola(m, "left", 1.0)), right=fg.Outflow())


def stirred(n=25):
    m = gmsh_triangles(n)
    x = np.asarray(m.topology.nominal_centres)
    return fg.Flow(m, viscosity=2e-2, force=np.stack([0.5 - x[:, 1], x[:, 0] - 0.5], 1), wall=fg.Wall())


def layered():
    """A channel between periodic ends, driven by its flow rate."""
    m = fg.box((0, 0), (2, 1), cells=(40, 20))
    return fg.Flow(m, viscosity=1e-2, left=fg.Periodic("right", flow_rate=1.0), bottom=fg.Wall(), top=fg.Wall())


def duct(n=7):
    m = fg.extrude(fg.box((0, 0), (3, 1), cells=(3 * n, n)), 1.0, n, patches=("front", "back"))
    return walls(m, 1e-2, left=fg.Inflow(1.0), right=fg.Outflow())


FLOWS = {f.__name__: f for f in (cavity, channel, stretched, stirred, layered, duct)}


@cache
def matrix(name):
    """The compact Jacobian of a flow, and tables of its levels."""
    flow = FLOWS[name]()
    p = pattern(flow, compact=True)
    J = jax.jit(lambda d, q: assemble(d, p.places, q))(discretize(flow), fg.solve_steady(flow).state)
    return p, J, p.of(levels.tables_of)


GRAPHS = {
    **{name: lambda name=name: couplings(FLOWS[name]().joined.topology) for name in FLOWS},
    "refined triangles": lambda: couplings(split_in_four(triangles(), 3).topology),
    "tetrahedra": lambda: couplings(mesh("tetrahedra").topology),
    "star": lambda: Graph(np.zeros(999, int), np.arange(1, 1000), np.ones(999), 1000),
    "alone": lambda: Graph(np.zeros(0, int), np.zeros(0, int), np.zeros(0), 1000),
    "two parts": lambda: Graph(np.r_[0:499, 500:999], np.r_[1:500, 501:1000], np.ones(998), 1000),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_no_two_cells_of_a_colour_are_coupled_and_colours_are_few(name):
    for step in coarsened(GRAPHS[name](), 1):
        colour = colours(step.graph)
        assert (colour >= 0).all() and (colour[step.graph.P] != colour[step.graph.N]).all()
        degree = np.bincount(np.concatenate([step.graph.P, step.graph.N]), minlength=step.graph.n)
        assert colour.max() <= degree.max()


def test_a_box_has_two_colours():
    assert colours(couplings(fg.box(cells=(20, 30)).topology)).max() == 1


@pytest.mark.parametrize("name", GRAPHS)
def test_levels_halve(name):
    steps = list(coarsened(GRAPHS[name](), 1))
    for step, after in zip(steps, steps[1:], strict=False):
        assert after.graph.n <= 0.55 * step.graph.n
        assert np.array_equal(np.unique(step.aggregate), np.arange(after.graph.n))
    assert steps[-1].graph.n <= aggregation.COARSEST or not len(steps[-1].graph.P)


def test_couplings_are_areas_over_distances():
    """Of a box as it was built, and of its layers; periodic faces are as far apart as others."""
    graph = couplings(fg.box((0, 0), (6.0, 1.0), cells=(3, 2)).topology)
    assert sorted(np.round(graph.strength, 12)) == [0.25] * 4 + [4.0] * 3
    solid = couplings(fg.extrude(fg.box((0, 0), (6.0, 1.0), cells=(3, 2)), 3.0, 2).topology)
    assert set(np.round(solid.strength, 9)) == {0.375, 6.0, round(2 / 3, 9)}  # 1 by 2, 3 / 2 apart; 3 by 1, 1 / 2; 2 by 1 / 2, 3 / 2
    flow = layered()
    assert len(couplings(flow.joined.topology).P) == len(couplings(flow.mesh.topology).P) + 20
    assert np.ptp(couplings(flow.joined.topology).strength) < 1e-9


_inverse_by_cells = jax.jit(matrices._inverse_by_cells, static_argnums=1)


def compiled_inverse(A, m):
    with jax.disable_jit(False):  # a loop over the cells, which knows no amount
        return _inverse_by_cells(A, m)


def hierarchy(name, amount, monkeypatch):
    """Of a matrix: its levels, upwind to an amount, itself as it is scaled there, and the places of its unknowns."""
    p, J, tables = matrix(name)
    monkeypatch.setattr(matrices, "FINE", amount)
    monkeypatch.setattr(matrices, "COARSE", amount)
    monkeypatch.setattr(matrices, "_inverse_by_cells", compiled_inverse)
    with jax.disable_jit():  # programs that others keep have other amounts in them
        held = coupled.Multigrid().factor(p, J.blocks)
    of_rows, of_columns = (sp.diags(np.tile(scale, p.n_cells)) for scale in (held.rows, held.columns))
    unknown = (np.asarray(tables.place)[:, None] * p.block + np.arange(p.block)).ravel()
    return tables.levels, held.matrices, (of_rows @ as_csr(p, np.asarray(J.blocks)) @ of_columns).toarray(), unknown


def dense(function, places, m):
    """The matrix of a linear function of values at places."""
    x = jnp.eye(places * m, dtype=jnp.float32).reshape(-1, places, m)
    return np.asarray(jax.jit(lambda x: jax.lax.map(lambda x: function(x).ravel(), x))(x)).T


def excess(A, m):
    """How many times as much pressures do to the balance of mass by themselves as by the velocities of the cells beside theirs."""
    u = range(m - 1)
    stiff = sum(np.diag(A[v::m, v::m]) for v in u) / (m - 1)
    live = stiff != 0
    through = sum(A[m - 1 :: m, v::m] * A[v::m, m - 1 :: m].T for v in u)[:, live] / stiff[live]
    through[np.flatnonzero(live), np.arange(live.sum())] = 0
    return np.diag(A)[m - 1 :: m].sum() / np.abs(through).sum()


def test_pressures_are_ample_on_triangles_where_the_rhie_chow_time_is_long(monkeypatch):
    """On a box of squares the term is 4 tau of h^2 / (8 nu), the way by velocities h^2 / 4 of (16 / 3) nu four times: 8 / 3."""
    squares, of_triangles = (hierarchy(name, 0.0, monkeypatch)[2] for name in ("cavity", "stirred"))
    assert excess(squares, 3) == pytest.approx(8 / 3, rel=0.2)
    assert excess(of_triangles, 3) > 2 * excess(squares, 3)


@pytest.mark.parametrize("name", ["cavity", "stirred", "duct"])
def test_a_level_is_the_sum_over_aggregates(name, monkeypatch):
    """The first is the matrix itself; on the next, differences of pressure in the balance of mass count more, unless they are ample, and
    diffusion less, between cells and at boundaries."""
    found, A_of, A, unknown = hierarchy(name, 0.0, monkeypatch)
    sizes, m = [len(level.aggregate) for level in found[:2]], A_of[0].inverses[0].shape[-1]
    here, there = (dense(partial(coupled.times, *each), n, m) for *each, n in zip(found, A_of, sizes, strict=False))
    np.testing.assert_allclose(here[np.ix_(unknown, unknown)], A, rtol=0, atol=1e-6 * np.abs(A).max())
    assert np.count_nonzero(here) == np.count_nonzero(here[np.ix_(unknown, unknown)])
    joined = sp.csr_matrix((np.ones(sizes[0]), (np.arange(sizes[0]), np.asarray(found[0].aggregate))), (sizes[0], sizes[1]))
    T = sp.kron(joined, sp.identity(m)).tocsr()
    wanted = T.T @ (T.T @ here.T).T
    wanted[m - 1 :: m, m - 1 :: m] *= matrices.PRESSURE ** (1 / (m - 1))
    less = 1 - matrices.STIFFNESS ** (-1 / (m - 1))
    outer = np.zeros((sizes[0], 1, 1))
    topology = FLOWS[name]().joined.topology
    outer[unknown[::m][topology.owner[topology.n_interior :]] // m] = 1
    symmetric = (here + here.T) / 2
    friction = symmetric.reshape(sizes[0], m, sizes[0], m)[np.arange(sizes[0]), :, np.arange(sizes[0])] * outer
    for v in range(m - 1):
        part, fine = wanted[v::m, v::m], symmetric[v::m, v::m]
        diffusion = less * (part + part.T) / 2 * (1 - np.eye(len(part)))
        wanted[v::m, v::m] += np.diag(diffusion.sum(1)) - diffusion
        friction[:, v, v] += (fine.sum(1) - np.diag(fine)) * outer[:, 0, 0]
    for cell, of in enumerate(np.asarray(found[0].aggregate)):
        velocities = slice(of * m, of * m + m - 1)
        wanted[velocities, velocities] -= less * friction[cell, :-1, :-1]
    wanted[m - 1 :: m, m - 1 :: m] *= np.clip(matrices.AMPLE / excess(wanted, m), matrices.LESS, 1.0)
    np.testing.assert_allclose(there, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("name", ["cavity", "duct"])
def test_upwinding_is_diffusion_that_no_sum_over_a_row_or_column_knows(name, monkeypatch):
    found, A_of, A, unknown = hierarchy(name, 1.0, monkeypatch)
    m = A_of[0].inverses[0].shape[-1]
    upwind = dense(partial(coupled.times, found[0], A_of[0]), len(found[0].aggregate), m)[np.ix_(unknown, unknown)]
    more = upwind - A
    size = np.abs(more).max()
    assert size > 1e-3 * np.abs(A).max()
    for a in range(m):
        for b in range(m):
            part = more[a::m, b::m]
            if a != b or a == m - 1:
                assert np.abs(part).max() < 1e-5 * size
                continue
            np.testing.assert_allclose(part, part.T, rtol=0, atol=1e-5 * size)
            assert np.abs(part.sum(1)).max() < 1e-5 * size
            off = A[a::m, b::m] - np.diag(np.diag(A[a::m, b::m]))
            diffusion = np.abs(off - off.T) / 2
            np.testing.assert_allclose(part, np.diag(diffusion.sum(1)) - diffusion, rtol=0, atol=1e-5 * size)


@pytest.mark.parametrize("name", ["cavity", "stirred", "duct"])
def test_a_sweep_forth_and_back_is_by_a_matrix_with_the_same_blocks_on_its_diagonal(name, monkeypatch):
    found, A_of, _, unknown = hierarchy(name, 0.25, monkeypatch)
    m, places = A_of[0].inverses[0].shape[-1], len(found[0].aggregate)
    A, M = (dense(partial(f, found[0], A_of[0]), places, m)[np.ix_(unknown, unknown)] for f in (coupled.times, coupled._smoothed))
    M = np.linalg.inv(M.astype(float))
    own = np.kron(np.eye(len(A) // m), np.ones((m, m))) > 0
    np.testing.assert_allclose(M[own], A[own], rtol=0, atol=1e-3 * np.abs(A[own]).max())
    coupled_ = (A != 0) & ~own
    np.testing.assert_allclose(M[coupled_], A[coupled_], rtol=0, atol=1e-3 * np.abs(A[coupled_]).max())


@pytest.mark.parametrize("name", ["channel", "cavity", "duct"])
def test_the_cycle_of_the_transpose_is_the_transpose_of_the_cycle(name):
    p, J, _ = matrix(name)
    backend = coupled.Multigrid()
    held = backend.factor(p, J.blocks, datum(J, backend.spread))
    turned = backend.transposed(p, held)
    x, y = np.random.default_rng(0).standard_normal((2, p.n_cells, p.block))
    x, y = (jnp.asarray((a / scale).reshape(-1, 1)) for a, scale in ((x, held.rows), (y, held.columns)))
    forth, back = (np.asarray(backend.solve(p, h, b, False)) for h, b in ((held, x), (turned, y)))
    size = np.linalg.norm(forth * np.asarray(y))
    assert abs(np.vdot(forth, y) - np.vdot(x, back)) < 1e-4 * size
    again = backend.transposed(p, turned)
    np.testing.assert_array_equal(again.blocks[0], held.blocks[0])


def test_residuals_of_the_finest_level_are_exact_on_triangles_which_takes_fewer_iterations():
    flow = stirred(60)
    backend, p, d, state = coupled.Multigrid(), pattern(flow, compact=True), discretize(flow), jnp.zeros(flow.n_unknowns)
    f, R_q = systems.factor(backend, p, jax.jit(assemble)(d, p.places, state)), tangent(d, state)
    b = jnp.asarray(np.random.default_rng(0).standard_normal(len(state))) / f.weight
    taken = []
    for factor, product in ((f, times), (systems.transposed(backend, p, f), transposed_times)):
        for matvec in (partial(product, R_q), None):
            precondition = partial(systems.solve, backend, p, factor, matvec=matvec)
            _, residual, count = gmres(partial(product, R_q), precondition, factor.weight, b, 1e-8)
            assert residual <= 1e-8
            taken.append(int(count))
    assert p.of(levels.tables_of).simplices and not matrix("cavity")[2].simplices
    assert taken[0] <= 0.85 * taken[1] and taken[2] <= 0.85 * taken[3] and abs(taken[0] - taken[2]) <= 5, taken


def answer(flow, linear):
    """A number of the flow, and its gradient in the viscosity and in the force in every cell."""

    def energy(viscosity, force):
        solution = fg.solve_steady(replace(flow, viscosity=viscosity, force=force), linear=linear, tolerance=1e-13)
        return jnp.sum(solution.velocity**2)

    force = jnp.zeros((flow.mesh.n_cells, flow.mesh.dim)) + flow.force
    value, gradient, report = fg.value_and_grad(lambda x: energy(*x))((flow.viscosity, force))
    return float(value), jax.tree.leaves(gradient), report


@pytest.mark.parametrize("name", FLOWS)
def test_flows_and_gradients_are_those_of_the_direct_solver(name):
    flow = FLOWS[name]()
    (value, gradient, report), (wanted, by, _) = (answer(flow, name) for name in ("multigrid", "auto"))
    assert value == pytest.approx(wanted, rel=1e-9)
    np.testing.assert_allclose(gradient[0], by[0], rtol=0, atol=1e-8 * np.linalg.norm(by[1]))
    np.testing.assert_allclose(gradient[1], by[1], rtol=0, atol=1e-8 * np.abs(by[1]).max())
    assert report.adjoint_products <= 110


def test_it_is_chosen_where_a_flow_is_large(monkeypatch):
    flow = cavity(8)
    direct = "superlu" if jax.default_backend() == "cpu" else "block_tridiagonal"
    assert not isinstance(systems.choose("auto", flow), coupled.Multigrid)
    monkeypatch.setitem(systems.DIRECT, direct, {2: 63, 3: 63})
    assert isinstance(systems.choose("auto", flow), coupled.Multigrid)
    assert not isinstance(systems.choose(direct, flow), coupled.Multigrid)
    assert fg.solve_steady(flow).report.linear == "multigrid of the compact Jacobian"


def test_it_is_part_of_programs_in_both_modes():
    """Without callbacks: under jit and vmap, and forward against reverse."""
    flow = channel(400)

    def drag(viscosity, derivative="reverse"):
        solution = fg.solve_steady(replace(flow, viscosity=viscosity), linear="multigrid", tolerance=1e-13, derivative=derivative)
        return fg.drag(solution, "body")

    viscosities = jnp.array([1e-3, 2e-3])
    program = jax.jit(jax.vmap(jax.value_and_grad(drag)))
    assert "callback" not in program.lower(viscosities).as_text()
    values, slopes = program(viscosities)
    for viscosity, value, slope in zip(viscosities, values, slopes, strict=True):
        assert float(drag(viscosity)) == pytest.approx(float(value), rel=1e-10)
        _, forward = jax.jvp(partial(drag, derivative="forward"), (viscosity,), (jnp.ones(()),))
        assert float(forward) == pytest.approx(float(slope), rel=1e-9)
    h = 1e-6
    assert float(drag(1e-3 + h) - drag(1e-3 - h)) / (2 * h) == pytest.approx(float(slopes[0]), rel=1e-6)


def test_an_error_estimate_needs_no_direct_solver():
    mesh = fg.box((0, 0), (2, 1), cells=(16, 8))
    patches = {"left": fg.Inflow(fg.parabola(mesh, "left", 1.0)), "right": fg.Outflow(), "bottom": fg.Wall(), "top": fg.Wall()}
    fine = fg.box(like=mesh, lower=(0, 0), upper=(2, 1), refine=2)
    inflow = fg.Inflow(fg.parabola(fine, "left", 1.0))
    flow, finer = fg.Flow(mesh, viscosity=0.1, **patches), fg.Flow(fine, viscosity=0.1, **{**patches, "left": inflow})
    solution = fg.solve_steady(flow)
    a, b = (fg.error_estimate(lambda s: fg.drag(s, "bottom"), solution, finer, linear) for linear in ("multigrid", "superlu"))
    assert a.error == pytest.approx(b.error, rel=1e-8)
    np.testing.assert_allclose(a.cells, b.cells, rtol=0, atol=1e-8 * np.abs(b.cells).max())


def test_growth_rates_beyond_direct_solvers_are_said_not_to_be_known(monkeypatch):
    solution = fg.solve_steady(cavity(8), linear="multigrid")
    rates = growth_rates(solution, "multigrid")  # those of a direct solver
    assert rates[0].real < 0
    monkeypatch.setitem(stability.MOST, 2, 63)
    with pytest.raises(InputError, match="growth rates of a flow in 64 cells, which take factors of the exact Jacobian; at most 63 in 2D"):
        growth_rates(solution)


def test_a_linear_system_that_is_not_solved_is_named(monkeypatch):
    monkeypatch.setattr(coupled.Multigrid, "solve", lambda self, p, held, b, transpose, product: jnp.zeros_like(b).at[0].set(b[0]))
    with pytest.raises(
        NotConverged, match=r"was solved to .* only, by multigrid of the compact Jacobian\. .* Try solver.linear = \"superlu\""
    ):
        fg.solve_steady(channel(400), linear="multigrid")


def test_memory_is_refused_before_it_is_taken(monkeypatch):
    flow = cavity(8)
    monkeypatch.setattr(coupled, "free_memory", lambda: 1e4)
    with pytest.raises(OutOfReach, match="multigrid needs about .* GiB for 64 cells, and 9.3e-06 GiB are free; use a coarser mesh"):
        fg.solve_steady(flow, linear="multigrid")


def test_products_grow_slowly_with_the_mesh():
    """The large sibling is ``experiments/large``."""
    few, more = (int(fg.solve_steady(channel(cells), linear="multigrid").report.products) for cells in (1000, 16_000))
    assert more <= 1.6 * few


def products_of_noise(flow, assembled):
    """Of a linear system with the Jacobian at rest, preconditioned by a cycle of a matrix."""
    backend, p, state = coupled.Multigrid(), pattern(flow, compact=True), jnp.zeros(flow.n_unknowns)
    factor = systems.factor(backend, p, assembled(discretize(flow), p.places, state))
    precondition, product = partial(systems.solve, backend, p, factor), partial(times, tangent(discretize(flow), state))
    b = jnp.asarray(np.random.default_rng(0).standard_normal(len(state))) / factor.weight
    _, residual, count = gmres(product, precondition, factor.weight, b, 1e-8)
    assert residual <= 1e-8
    return int(count)


def test_on_triangles_the_gradient_of_the_pressure_takes_a_sixth_off_the_products(monkeypatch):
    def held(*of):
        monkeypatch.setattr(jacobian, "OWN", 0.0)
        with jax.disable_jit():
            return assemble(*of)

    assert products_of_noise(stirred(), jax.jit(assemble)) < 5 / 6 * products_of_noise(stirred(), held)


@pytest.mark.parametrize("name", ["cavity", "stirred", "duct"])
def test_the_last_level_is_inverted_cell_by_cell(name, monkeypatch):
    found, A_of, _, _ = hierarchy(name, 0.25, monkeypatch)
    m, inverse = A_of[0].inverses[0].shape[-1], np.asarray(A_of[-1].inverses[0], float)
    A = dense(partial(coupled.times, found[-1], A_of[-1]), len(inverse) // m, m).astype(float)
    empty = np.abs(A).sum(1) == 0
    A[empty, empty] = 1
    if name == "duct":  # open: this is what was inverted, in single precision
        np.testing.assert_allclose(inverse @ A, np.eye(len(A)), atol=1e-3)
    else:
        pressure = ~empty & (np.arange(len(A)) % m == m - 1)
        A[np.ix_(pressure, pressure)] += np.abs(A[pressure, pressure]).mean() / pressure.sum()
    np.testing.assert_allclose(matrices._inverse_by_cells(jnp.asarray(A), m) @ A, np.eye(len(A)), atol=1e-9)
