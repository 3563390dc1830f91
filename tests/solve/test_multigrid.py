"""Pressures by conjugate gradients with a cycle over aggregates."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from cases import mesh, split_in_four, triangles

import fluidgrad as fg
from fluidgrad.linear.aggregation import COARSEST
from fluidgrad.linear.krylov import conjugate_gradients
from fluidgrad.mesh.mesh import measure
from fluidgrad.solve.multigrid import OVER, _inverse, cycle, levels_of, operators, pressure

DISK = fg.circle((0.2, 0.2), 0.05)


def channel(cells):
    return fg.channel(2.2, 0.41, DISK, cells=cells)


def cube(n):
    return fg.extrude(fg.box(cells=(n, n)), 1.0, n, patches=("front", "back"))


MESHES = {
    "channel": lambda: channel(3000),
    "stretched": lambda: fg.box((0, 0), (10, 1), cells=(60, 60), grading=(0.0, 2.5)),
    "triangles": lambda: split_in_four(triangles(), 3),
    "cube": lambda: cube(12),
    "tetrahedra": lambda: mesh("tetrahedra"),
}


class Problem:
    """The couplings of a mesh, pressures given in part of its cells, and its levels."""

    def __init__(self, m):
        t, g = m.topology, measure(m)
        self.n, n = m.n_cells, t.n_interior
        self.P, self.N = t.owner[:n], t.neighbour
        S, d = g.S[:n], g.x_cell[self.N] - g.x_cell[self.P]
        self.k = jnp.sum(S * S, 1) / jnp.sum(S * d, 1)
        self.b = jnp.zeros(self.n).at[np.argsort(t.nominal_centres[:, 0])[: self.n // 50]].set(jnp.mean(self.k))
        self.rhs = jnp.asarray(np.random.default_rng(0).standard_normal(self.n))
        self.levels = levels_of(self.P, self.N, self.k, self.n)

    def matrix(self):
        k, i, j = np.asarray(self.k), np.concatenate([self.P, self.N]), np.concatenate([self.N, self.P])
        off = sp.csr_matrix((np.concatenate([k, k]), (i, j)), (self.n, self.n))
        return sp.diags(np.asarray(self.b) + np.asarray(off.sum(1)).ravel()) - off


@cache
def problem(name):
    return Problem(MESHES[name]())


@pytest.mark.parametrize("name", MESHES)
def test_the_pressure_is_that_of_a_direct_solver(name):
    x = problem(name)
    p, residual, products = pressure(x.levels, x.k, x.b, x.rhs)
    exact = spla.spsolve(x.matrix().tocsc(), x.rhs)
    assert residual <= 1e-10 and products <= 30
    np.testing.assert_allclose(p, exact, rtol=0, atol=1e-8 * np.abs(exact).max())


@pytest.mark.parametrize("name", ["channel", "cube"])
def test_without_given_pressures_it_has_no_mean(name):
    x = problem(name)
    p, residual, products = pressure(x.levels, x.k, 0 * x.b, x.rhs)
    A = x.matrix() - sp.diags(np.asarray(x.b))
    assert residual <= 1e-10 and products <= 30 and abs(p.mean()) < 1e-10 * jnp.abs(p).max()
    np.testing.assert_allclose(A @ np.asarray(p), x.rhs - x.rhs.mean(), rtol=0, atol=1e-7)


def test_products_hardly_grow_with_the_mesh():
    small, large = (Problem(channel(cells)) for cells in (2500, 40_000))
    few, more = (int(pressure(x.levels, x.k, x.b, x.rhs)[2]) for x in (small, large))
    assert more <= 1.5 * few


@pytest.mark.slow
@pytest.mark.parametrize("make,most", [(lambda: channel(1_000_000), 35), (lambda: cube(100), 15)], ids=["2D", "3D"])
def test_a_million_cells(make, most):
    x = Problem(make())
    _, residual, products = pressure(x.levels, x.k, x.b, x.rhs)
    assert residual <= 1e-10 and products <= most


@pytest.mark.parametrize("name", MESHES)
def test_levels_are_sums_over_aggregates(name):
    """Of A, divided as said; and each is a quarter as large as the one before, or smaller."""
    x = problem(name)
    A, T = x.matrix(), sp.identity(x.n)
    for depth, (level, here) in enumerate(zip(x.levels, operators(x.levels, x.k, x.b), strict=True)):
        n = len(here.diagonal)
        v = jnp.asarray(np.random.default_rng(depth).standard_normal(n))
        np.testing.assert_allclose(here.times(level, v), (T.T @ A @ T @ np.asarray(v)) / OVER**depth, rtol=0, atol=1e-9)
        if not level.next_cells:
            break
        assert level.next_cells <= n / 3
        aggregate = np.asarray(level.aggregate)
        assert (np.bincount(aggregate, minlength=level.next_cells) > 0).all()
        T = T @ sp.csr_matrix((np.ones(n), (np.arange(n), aggregate)), (n, level.next_cells))
    assert n <= COARSEST and depth == len(x.levels) - 1


def test_aggregates_follow_layers():
    """Where cells are long in x, no two of one aggregate lie side by side."""
    x = problem("stretched")
    column = np.round(MESHES["stretched"]().topology.nominal_centres[:, 0] * 60 - 0.5).astype(int)
    aggregate = np.asarray(x.levels[0].aggregate)
    wide = [np.ptp(column[aggregate == a]) for a in range(x.levels[0].next_cells)]
    assert np.mean(np.array(wide) == 0) > 0.95


def test_cells_round_one_that_has_many_are_joined():
    """They have no other neighbour; and cells without any end the levels."""
    n = 1000
    none = np.zeros(0, int)
    levels = levels_of(np.zeros(n - 1, int), np.arange(1, n), np.ones(n - 1), n)
    assert len(levels) == 2 and levels[0].next_cells < 10
    assert [level.next_cells for level in levels_of(none, none, none, n)] == [0]


def test_cells_that_are_coupled_to_themselves_are_joined_with_others():
    """As those of a periodic layer, strongly: it changes nothing."""
    x = problem("channel")
    itself = np.arange(x.n)
    P, N, k = np.append(x.P, itself), np.append(x.N, itself), jnp.append(x.k, jnp.full(x.n, 100.0))
    levels = levels_of(P, N, k, x.n)
    assert [level.next_cells for level in levels] == [level.next_cells for level in x.levels]
    np.testing.assert_allclose(pressure(levels, k, x.b, x.rhs)[0], pressure(x.levels, x.k, x.b, x.rhs)[0], rtol=0, atol=1e-6)
    assert [level.next_cells for level in levels_of(itself, itself, np.ones(x.n), x.n)] == [0]


def test_the_cycle_is_linear_symmetric_and_positive():
    x = problem("channel")
    A = operators(x.levels, x.k, x.b)
    inverse = _inverse(x.levels[-1], A[-1], jnp.array(False))
    a, b = (jnp.asarray(np.random.default_rng(k).standard_normal(x.n)) for k in range(2))
    M = jax.jit(lambda r: cycle(x.levels, A, inverse, r))
    np.testing.assert_allclose(M(a + 2 * b), M(a) + 2 * M(b), rtol=1e-9, atol=1e-9)
    assert abs(a @ M(b) - b @ M(a)) < 1e-12 * abs(a @ M(a))
    assert a @ M(a) > 0 and b @ M(b) > 0


def test_derivatives_in_couplings_given_values_and_right_hand_side():
    x = problem("channel")
    w = jnp.asarray(np.random.default_rng(3).standard_normal(x.n))

    def f(arguments):
        return w @ pressure(x.levels, *arguments, 1e-13)[0] ** 2

    at = (x.k, x.b, x.rhs)
    rng = np.random.default_rng(4)
    along = (x.k * rng.uniform(size=len(x.k)), x.b * rng.uniform(size=x.n), x.rhs * rng.uniform(size=x.n))
    for k in range(3):
        direction = tuple(v if i == k else 0 * v for i, v in enumerate(along))
        forward = jax.jvp(f, (at,), (direction,))[1]
        reverse = sum(jnp.vdot(g, v) for g, v in zip(jax.grad(f)(at), direction, strict=True))
        h = 1e-4
        up, down = (f(tuple(a + s * h * v for a, v in zip(at, direction, strict=True))) for s in (1, -1))
        assert abs(forward - reverse) < 1e-9 * abs(forward)
        assert abs((up - down) / (2 * h) - forward) < 1e-6 * abs(forward)


def test_the_gradient_of_a_closed_problem_has_no_mean():
    x = problem("cube")
    w = jnp.asarray(np.random.default_rng(5).standard_normal(x.n)) + 1.0
    f = lambda rhs: w @ pressure(x.levels, x.k, 0 * x.b, rhs)[0]  # noqa: E731
    v = jnp.asarray(np.random.default_rng(6).standard_normal(x.n))
    gradient = jax.grad(f)(x.rhs)
    assert abs(gradient.mean()) < 1e-10 * jnp.abs(gradient).max()
    assert abs(gradient @ v - (f(x.rhs + v) - f(x.rhs))) < 1e-8 * abs(gradient @ v)


def test_it_is_one_program_that_calls_nothing_back():
    x = problem("cube")
    assert "callback" not in str(jax.make_jaxpr(pressure)(x.levels, x.k, x.b, x.rhs))
    both = jax.vmap(lambda s: pressure(x.levels, x.k, x.b, s * x.rhs)[0])(jnp.array([1.0, 1e-200]))
    np.testing.assert_allclose(both[1] * 1e200, both[0], rtol=1e-7)


def test_what_did_not_converge_is_nan():
    x = problem("cube")
    p, residual, _ = pressure(x.levels, x.k, x.b, x.rhs, 1e-30)
    assert jnp.isnan(p).all() and residual > 1e-29
    assert jnp.isnan(pressure(x.levels, x.k, x.b, x.rhs * jnp.nan)[0]).all()


def test_conjugate_gradients_end_with_as_many_products_as_there_are_eigenvalues():
    A = jnp.diag(jnp.array([1.0, 1.0, 4.0, 9.0, 9.0, 9.0]))
    b = jnp.arange(1.0, 7.0)
    x, residual, products = conjugate_gradients(lambda v: A @ v, lambda r: r, b, 1e-12, 50)
    np.testing.assert_allclose(x, b / jnp.diag(A), rtol=1e-12)
    assert products == 3 and residual < 1e-12
    x, residual, products = conjugate_gradients(lambda v: A @ v, lambda r: r, 0 * b, 1e-12, 50)
    assert products == 0 and residual == 0 and not x.any()
