"""value_and_grad and linearize: operators with reports, and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import study

import fluidgrad as fg
from fluidgrad.derivatives import derivative
from fluidgrad.solve import adjoint

FLOW = study()


def flow(x):
    left = fg.Inflow(x["speeds"])
    return fg.Flow(
        FLOW.mesh,
        viscosity=x["viscosity"],
        porosity=FLOW.porosity,
        force=FLOW.force,
        left=left,
        **{k: FLOW.boundary[k] for k in ("right", "bottom", "top")},
    )


X = {"speeds": FLOW.boundary["left"].speed, "viscosity": FLOW.viscosity}


def values(x):
    s = fg.solve_steady(flow(x))
    return {"drag": fg.drag(s, "bottom"), "speed": s.velocity[:4]}


def drag(x):
    return values(x)["drag"]


@pytest.fixture(scope="module")
def operator():
    return fg.linearize(values, X)


def random_like(tree, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: jnp.asarray(rng.normal(size=np.shape(x))), tree)


def dot(a, b):
    return sum(float(jnp.vdot(x, y)) for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True))


def test_matvec_and_rmatvec_are_each_others_transpose(operator):
    v, w = random_like(X, 0), random_like(operator.value, 1)
    there, back = dot(w, operator.matvec(v)), dot(operator.rmatvec(w), v)
    assert there == pytest.approx(back, rel=1e-12)
    assert operator.shape == (9, 6)
    assert operator.report().converged and operator.report().adjoint_solves == 1


def test_as_a_scipy_operator(operator):
    L = operator.as_operator(X)
    columns = np.stack([L.matvec(e) for e in np.eye(6)], 1)
    rows = np.stack([L.rmatvec(e) for e in np.eye(9)])
    np.testing.assert_allclose(columns, rows, rtol=1e-9, atol=1e-12)


def test_the_gradient_comes_with_its_report(operator):
    value, gradient, report = fg.value_and_grad(drag)(X)
    assert float(value) == pytest.approx(float(operator.value["drag"]), rel=1e-14)
    row = operator.rmatvec({"drag": jnp.ones(()), "speed": jnp.zeros((4, 2))})
    np.testing.assert_allclose(gradient["speeds"], row["speeds"], rtol=1e-11)
    assert report.converged and report.primal_residual <= 1e-10 and report.adjoint_residual <= 1e-12
    assert report.adjoint_solves == 1 and 1 <= report.adjoint_products <= 40


def test_two_solves_are_two_adjoints():
    def difference(x):
        return drag(x) - drag(jax.tree.map(lambda a: 1.1 * a, x))

    _, _, report = fg.value_and_grad(difference)(X)
    assert report.adjoint_solves == 2


def test_a_jitted_function_with_a_solve_in_it_is_differentiated_again_and_again():
    """JAX keeps its trace: nothing of one derivative may be left in it for the next, or for a plain call."""

    def energy(x):
        return jnp.sum(fg.solve_steady(flow(x)).velocity ** 2)

    jitted, speed = jax.jit(energy), jnp.asarray(1.1)

    def at(f):
        return lambda s: f({**X, "speeds": s * X["speeds"]})

    value, gradient, _ = fg.value_and_grad(at(energy))(speed)
    for _ in range(2):
        again = fg.value_and_grad(at(jitted))(speed)
        assert float(again[0]) == pytest.approx(float(value), rel=1e-12)
        assert float(again[1]) == pytest.approx(float(gradient), rel=1e-10)
    assert float(at(jitted)(speed)) == pytest.approx(float(value), rel=1e-12)
    assert float(jax.grad(at(jitted))(speed)) == pytest.approx(float(gradient), rel=1e-10)


def test_a_failed_tangent_is_refused(operator):
    with pytest.raises(fg.NotConverged, match="no derivative: the tangent solve did not converge"):
        operator.matvec(jax.tree.map(lambda a: a * jnp.nan, X))


def test_a_failed_adjoint_is_refused(monkeypatch):
    monkeypatch.setattr(adjoint, "ACCEPTED", -1.0)
    monkeypatch.setattr(derivative, "ACCEPTED", -1.0)
    with pytest.raises(fg.NotConverged, match="no gradient: the adjoint solve stopped at a relative residual of .* close to a bifurcation"):
        fg.value_and_grad(drag)(X)


def test_a_failed_primal_is_refused():
    with pytest.raises(fg.NotConverged, match="no convergence: residual") as failure:
        fg.value_and_grad(drag)({**X, "viscosity": 1e-9})  # no steady flow on five cells across
    assert not failure.value.report.converged
