"""The implicit derivative: reverse = forward = differences, every transformation, every input; and never a wrong one.

The rules are tested twice: on a small algebraic system, where every transformation is cheap, and on a flow with every
kind of input.
"""

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import program, study
from jax.flatten_util import ravel_pytree

import fluidgrad as fg
from fluidgrad.derivatives import derivative
from fluidgrad.linear import superlu
from fluidgrad.linear.krylov import gmres, transposed_times
from fluidgrad.solve import adjoint
from fluidgrad.solve.adjoint import PROBE, root, root_forward

# ---- an algebraic system

N = 40  # more than GMRES takes steps
RNG = np.random.default_rng(0)
A = 3 * np.eye(N) + RNG.normal(size=(N, N)) / np.sqrt(N)
THETA = {"a": 0.5, "b": RNG.normal(size=N)}
THETA_DOT = {"a": 0.3, "b": RNG.normal(size=N)}
C = RNG.normal(size=N)


@dataclass(frozen=True)
class Cubic:
    """A q + a q^3 = b, which can be made to fail."""

    accuracy: float = 1e-13
    size: float = 1.0  # of the preconditioner
    converges: float = 1.0

    def prepare(self, theta):
        return theta

    def residual(self, theta, q):
        return A @ q + theta["a"] * q**3 - theta["b"]

    def tangent(self, theta, q):
        return jax.linearize(lambda q: self.residual(theta, q), q)[1]

    def solve(self, theta, start):
        def step(_, q):
            return q - jnp.linalg.solve(A + 3 * theta["a"] * jnp.diag(q**2), self.residual(theta, q))

        q = jax.lax.fori_loop(0, 12, step, start)
        return q, jnp.array([0.0, self.converges]), A + 3 * theta["a"] * jnp.diag(q**2)

    def linear_solve(self, theta, q, factor, b, transpose, matvec=None):
        R_q = self.tangent(theta, q)
        product = matvec or (partial(transposed_times, R_q) if transpose else R_q)
        return gmres(product, lambda b: self.size * jnp.linalg.solve(factor.T if transpose else factor, b), 1.0, b, self.accuracy)


def values(theta, problem=Cubic(), size=1.0):
    """Two functions of the root, one nonlinear, by the rule for reverse mode."""
    q, _ = root(problem, theta, jnp.zeros(N), jnp.zeros(PROBE))
    return size * jnp.stack([jnp.sum(C * q) + theta["a"] * q[0], jnp.sum(q**2)])


def values_forward(theta):
    q, _, _ = root_forward(Cubic(), theta, jnp.zeros(N))
    return jnp.stack([jnp.sum(C * q) + theta["a"] * q[0], jnp.sum(q**2)])


def first(theta):
    return values(theta)[0]


def moved(h):
    return jax.tree.map(lambda x, d: x + h * d, THETA, THETA_DOT)


def difference(f, h=1e-3):
    """Fourth order along THETA_DOT."""
    f = jax.jit(f)
    return (8 * (f(moved(h)) - f(moved(-h))) - (f(moved(2 * h)) - f(moved(-2 * h)))) / (12 * h)


def dot(a, b):
    return float(jnp.vdot(ravel_pytree(a)[0], ravel_pytree(b)[0]))


def test_reverse_is_forward_is_a_difference():
    reverse = jax.jit(jax.jacrev(values))(THETA)
    forward = jax.jit(jax.jacfwd(values_forward))(THETA)
    for key in THETA:
        np.testing.assert_allclose(reverse[key], forward[key], rtol=1e-11, atol=1e-13)
    slope = reverse["a"] * THETA_DOT["a"] + reverse["b"] @ THETA_DOT["b"]
    np.testing.assert_allclose(slope, difference(values), rtol=1e-10)
    gradient = jax.grad(first)(THETA)
    np.testing.assert_allclose(gradient["b"], reverse["b"][0], rtol=1e-12, atol=1e-14)


def test_vmap_is_a_loop():
    many = jax.tree.map(lambda x: jnp.stack([jnp.asarray(x), 1.1 * jnp.asarray(x)]), THETA)
    together = jax.vmap(jax.grad(first))(many)
    for i in range(2):
        alone = jax.grad(first)(jax.tree.map(lambda x: x[i], many))  # noqa: B023
        np.testing.assert_allclose(together["b"][i], alone["b"], rtol=1e-12, atol=1e-14)


def test_second_derivatives_agree_in_both_orders():
    forward_over_reverse = jax.jit(lambda: jax.jvp(jax.grad(first), (THETA,), (THETA_DOT,))[1])()

    def rate(theta):
        return jax.jvp(lambda t: values_forward(t)[0], (theta,), (THETA_DOT,))[1]

    reverse_over_forward = jax.jit(jax.grad(rate))(THETA)
    by_difference = difference(lambda t: jax.grad(first)(t)["b"])
    np.testing.assert_allclose(forward_over_reverse["b"], reverse_over_forward["b"], rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(forward_over_reverse["a"], reverse_over_forward["a"], rtol=1e-10)
    np.testing.assert_allclose(forward_over_reverse["b"], by_difference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", [1e-13, 0.0, 1e-200])
def test_cotangents_of_any_size_give_the_right_gradient(size):
    whole = jax.grad(first)(THETA)
    small = jax.grad(lambda t: values(t, size=size)[0])(THETA)
    for key in THETA:
        np.testing.assert_allclose(small[key], size * whole[key], rtol=1e-11, atol=0)


@pytest.mark.parametrize("problem", [Cubic(converges=0.0), Cubic(size=0.0)], ids=["primal", "adjoint"])
def test_a_failed_solve_leaves_no_finite_gradient_under_jit(problem):
    gradient = jax.jit(jax.grad(lambda t: values(t, problem)[0]))(THETA)
    assert all(np.isnan(g).all() for g in jax.tree.leaves(gradient))


def test_a_nan_cotangent_leaves_no_finite_gradient():
    gradient = jax.grad(lambda t: values(t)[0] * jnp.nan)(THETA)
    assert all(np.isnan(g).all() for g in jax.tree.leaves(gradient))


# ---- a flow

FLOW = study()


def work(flow, **options):
    """A functional of velocity and pressure, and of the flow itself."""
    return _work(fg.solve_steady(flow, **{"tolerance": 1e-13, **options}))


@program
def _work(s):
    return fg.drag(s, "bottom") + 0.1 * fg.dissipation(s) + 0.05 * s.pressure[7] ** 2


@pytest.fixture(scope="module")
def gradient():
    return jax.grad(work)(FLOW)


def along(name, h, seed=0):
    """The flow with one of its inputs changed in a random direction, and the direction."""
    leaves, tree = jax.tree_util.tree_flatten_with_path(FLOW)
    rng = np.random.default_rng(seed)
    step = [np.zeros(np.shape(x)) for _, x in leaves]
    (i,) = [i for i, (path, _) in enumerate(leaves) if jax.tree_util.keystr(path) == name]
    step[i] = rng.uniform(-1, 1, np.shape(leaves[i][1])) * (0.05 if "points" in name else 0.2)
    return jax.tree.unflatten(tree, [x + h * d for (_, x), d in zip(leaves, step, strict=True)]), jax.tree.unflatten(tree, step)


INPUTS = {
    "speeds of the inflow": ".boundary['left'].speed",
    "pressure of the outflow": ".boundary['right'].pressure",
    "velocity of a wall": ".boundary['top'].velocity",
    "rotation of a wall": ".boundary['bottom'].rotation",
    "viscosity": ".viscosity",
    "porosity": ".porosity",
    "force": ".force",
    "points": ".mesh.points",
}


@pytest.mark.parametrize("name", INPUTS)
def test_the_gradient_is_a_difference_in_every_input(name, gradient):
    path, h = INPUTS[name], 1e-2
    _, direction = along(path, 0.0)
    near, far = (float(work(along(path, k * h)[0])) - float(work(along(path, -k * h)[0])) for k in (1, 2))
    # truncation h^4 and noise 1e-13 / h, over derivatives of size 0.1
    assert dot(gradient, direction) == pytest.approx((8 * near - far) / (12 * h), rel=1e-7, abs=1e-10)


def test_the_twin_gives_the_same_derivative_forward(gradient):
    direction = jax.tree.map(lambda *d: sum(d), *(along(path, 0.0)[1] for path in INPUTS.values()))
    _, rate = jax.jvp(lambda f: work(f, derivative="forward"), (FLOW,), (direction,))
    assert float(rate) == pytest.approx(dot(gradient, direction), rel=1e-11)


def test_both_backends_give_the_same_gradient(gradient):
    other = jax.grad(lambda f: work(f, linear="block_tridiagonal"))(FLOW)
    for a, b in zip(jax.tree.leaves(gradient), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


def test_jit_and_vmap_of_the_whole_solve(gradient):
    def of_viscosity(nu):
        return work(jax.tree_util.tree_map_with_path(lambda p, x: nu if jax.tree_util.keystr(p) == ".viscosity" else x, FLOW))

    nu = FLOW.viscosity * jnp.array([1.0, 1.2, jnp.nan])
    value, rate = jax.jit(jax.vmap(jax.value_and_grad(of_viscosity)))(nu)
    assert np.isnan(value).tolist() == np.isnan(rate).tolist() == [False, False, True], "no error can be raised here"
    assert float(rate[0]) == pytest.approx(float(gradient.viscosity), rel=1e-10)
    assert float(value[1]) == pytest.approx(float(of_viscosity(nu[1])), rel=1e-11)


@pytest.mark.slow  # every day: of a cubic, test_second_derivatives_agree_in_both_orders
def test_hessian_vector_products_of_a_flow_agree_in_both_orders():
    """Along viscosity and inflow together, so that mixed derivatives are in it."""

    def moved_by(step, **options):
        def move(path, x):
            return x * (1 + step) if jax.tree_util.keystr(path) in (INPUTS["viscosity"], INPUTS["speeds of the inflow"]) else x

        return work(jax.tree_util.tree_map_with_path(move, FLOW), **options)

    gradient = jax.grad(moved_by)
    forward_over_reverse = jax.jvp(gradient, (0.0,), (1.0,))[1]
    reverse_over_forward = jax.grad(lambda s: jax.jvp(lambda s: moved_by(s, derivative="forward"), (s,), (1.0,))[1])(0.0)
    h = 1e-2
    near, far = (float(gradient(k * h) - gradient(-k * h)) for k in (1, 2))
    assert float(forward_over_reverse) == pytest.approx(float(reverse_over_forward), rel=1e-10)
    assert float(forward_over_reverse) == pytest.approx((8 * near - far) / (12 * h), rel=1e-6)


def test_a_gradient_takes_one_primal_solve_and_one_transposed_solve_with_its_last_factor(counted):
    factored, solved = counted
    flow = along(".viscosity", 0.01)[0]
    steps = int(fg.solve_steady(flow, tolerance=1e-13).report.iterations)
    primal, alone = len(solved), len(factored)
    assert 1 <= alone <= steps and not any(transposed for transposed, _ in solved)
    factored.clear(), solved.clear(), superlu._held.clear()
    value, _, report = fg.value_and_grad(work)(flow)
    assert np.isfinite(value) and report.adjoint_solves == 1
    assert len(factored) == alone  # the adjoint factors nothing
    assert len([1 for transposed, _ in solved if not transposed]) == primal  # one primal solve
    # one adjoint, by GMRES because the factor is that of the compact Jacobian
    assert [s for s in solved if s[0]] == [(True, alone)] * report.adjoint_products
    assert report.adjoint_products <= 40


def test_only_what_is_asked_for_is_pulled_back(monkeypatch):
    """A gradient in the viscosity alone does not pay for the derivative of the mesh."""
    seen, pull_back = [], adjoint._pull_back

    def watched(problem, varied, *rest):
        seen.append(len(jax.tree.leaves(varied)))
        return pull_back(problem, varied, *rest)

    monkeypatch.setattr(adjoint, "_pull_back", watched)
    one = jax.grad(lambda nu: work(replace(FLOW, viscosity=nu)))(FLOW.viscosity)
    every = jax.grad(work)(FLOW)
    assert seen == [1, len(jax.tree.leaves(FLOW))]
    assert float(one) == pytest.approx(float(every.viscosity), rel=1e-12)


def test_a_functional_that_does_not_feel_the_flow_takes_no_transposed_solve(counted):
    _, solved = counted
    _, gradient, report = fg.value_and_grad(lambda f: fg.flow_rate(fg.solve_steady(f, tolerance=1e-13), "left"))(FLOW)
    assert not any(transposed for transposed, _ in solved) and report.adjoint_solves == report.adjoint_products == 0
    t = FLOW.mesh.topology
    ends = np.asarray(FLOW.mesh.points)[t.face_points[t.faces_of("left")]]
    np.testing.assert_allclose(gradient.boundary["left"].speed, np.linalg.norm(ends[:, 1] - ends[:, 0], axis=1), rtol=1e-12)


def test_a_refused_adjoint_is_nan_and_named(monkeypatch):
    """No adjoint is good enough: every leaf is NaN, and value_and_grad says so."""
    monkeypatch.setattr(adjoint, "ACCEPTED", -1.0)
    monkeypatch.setattr(derivative, "ACCEPTED", -1.0)
    gradient = jax.grad(work)(FLOW)
    assert all(np.isnan(g).all() for g in jax.tree.leaves(gradient))
    with pytest.raises(fg.NotConverged, match="no gradient: the adjoint solve stopped at a relative residual") as failure:
        fg.value_and_grad(work)(FLOW)
    assert not failure.value.report.converged


@pytest.mark.slow  # every day: test_jit_and_vmap_of_the_whole_solve has one
def test_a_failed_primal_solve_is_nan_in_value_and_gradient_under_jit():
    """NaN in an input, where no error can be raised."""

    def spoilt(path, x):
        return x * jnp.nan if jax.tree_util.keystr(path) == ".viscosity" else x

    value, gradient = jax.jit(jax.value_and_grad(work))(jax.tree_util.tree_map_with_path(spoilt, FLOW))
    assert np.isnan(value)
    assert all(np.isnan(g).all() for g in jax.tree.leaves(gradient))
