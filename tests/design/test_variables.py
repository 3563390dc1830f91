"""Inner products of a design: steepest descent that does not know how many numbers describe the walls."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluidgrad as fg
from fluidgrad.design.minimize import Trial, minimize
from fluidgrad.design.study import Study
from fluidgrad.design.variables import Variables, wall_basis
from fluidgrad.errors import InputError
from fluidgrad.flow.measures import wall_product
from fluidgrad.mesh.mesh import Mesh

BODY = fg.ellipse((0.0, 0.0), (1.0, 0.4))  # its points are not equally spaced
RING = fg.o_grid(fg.circle((0.0, 0.0), 1.0), 4.0, cells=(128, 1))  # its points: those on the body, then those outside
T = np.arange(128) / 128
START = BODY.at(T)
LENGTH = jnp.linalg.norm(jnp.roll(START, -1, 0) - jnp.roll(START, 1, 0), axis=1) / 2


def flow(design):
    """Straight rays from the body, whose points are cheap to compile."""
    points = jnp.concatenate([BODY.displaced(design["offsets"]).at(T), RING.points[128:]])
    return fg.Flow(Mesh(points, RING.topology), viscosity=design.get("viscosity", 0.1), body=fg.Wall(), far=fg.FarField((1.0, 0.0)))


def of(n, bounds=None, **more):
    return Variables.of({"offsets": np.zeros(n)} | more, bounds)


@jax.jit
@jax.value_and_grad
def gap(offsets):
    """Half the square of the distance of the wall from a wanted place, in L2."""
    wanted = START * (1 + 0.05 * jnp.cos(3 * START[:, :1]))
    return 0.5 * jnp.sum(LENGTH[:, None] * (BODY.displaced(offsets).at(T) - wanted) ** 2)


def steps(n, basis, rate):
    """Of steepest descent with a fixed step, until the gap that can be closed has fallen to a hundredth."""
    v = of(n)
    v = v if basis is None else Variables(v.start, v.lower, v.upper, v.names, v.structure, basis)
    z, values = v.scaled(v.start), []
    for _ in range(100):
        value, g = gap(v.unscaled(z))
        values.append(float(value))
        z = z - rate * v.pulled(np.asarray(g)[None])[0]
    least = min(values)
    return int(np.argmax(np.array(values) - least < 0.01 * (values[0] - least)))


def test_descent_in_l2_takes_as_many_steps_whatever_the_number_of_offsets_and_in_the_numbers_it_does_not():
    counts = {n: (steps(n, wall_basis(flow, of(n), 0.0), 0.03), steps(n, None, 1.0)) for n in (8, 32)}
    assert abs(counts[8][0] - counts[32][0]) <= 2 and counts[32][0] < 60, counts
    assert counts[32][1] >= 4 * counts[8][1], counts


def test_the_basis_is_the_inner_product_of_the_walls_displacement():
    v, rng = of(8), np.random.default_rng(0)
    own, W = wall_product(flow({"offsets": jnp.zeros(8)}).mesh, ["body"], 0.3)
    basis = wall_basis(flow, v, 0.3)

    def wall(offsets):
        return flow({"offsets": offsets}).mesh.points[own]

    a, b = rng.normal(size=(2, 8))
    V, W_b = (np.asarray(jax.jvp(wall, (jnp.zeros(8),), (jnp.asarray(basis @ x),))[1]) for x in (a, b))
    product = sum(V[:, k] @ (W @ W_b[:, k]) for k in range(2))
    scale = sum((X := np.asarray(jax.jvp(wall, (jnp.zeros(8),), (jnp.asarray(basis[:, 0]),))[1]))[:, k] @ (W @ X[:, k]) for k in range(2))
    assert product / scale == pytest.approx(a @ b, rel=1e-9)


def test_numbers_that_move_no_wall_are_scaled_by_their_bounds():
    v = of(8, {"offsets": (-0.1, 0.1), "viscosity": (0.05, 0.25)}, viscosity=0.1)
    basis = wall_basis(flow, v, 0.0)
    assert basis[8, 8] == pytest.approx(0.2) and not basis[8, :8].any() and not basis[:8, 8].any()


def test_bounds_hold_as_constraints_in_another_basis():
    v = of(8, (-0.02, 0.02))
    v = Variables(v.start, v.lower, v.upper, v.names, v.structure, wall_basis(flow, v, 0.0))
    wanted = 0.05 * np.cos(np.arange(8))

    def answer(x):
        return Trial(np.array([np.sum((x - wanted) ** 2)]), 2 * (x - wanted)[None])

    found = minimize(answer, v)
    best = found.history[found.best]
    assert found.converged and found.method == "SLSQP"
    assert best.design == pytest.approx(np.clip(wanted, -0.02, 0.02), abs=1e-6)
    assert (np.abs(best.design) <= 0.02).all()


def test_what_makes_no_sense_is_refused():
    study = {"start": {"offsets": np.zeros(8)}, "bounds": None, "objective": lambda s: 0.0}
    with pytest.raises(InputError, match="inner_product = 'l2'; one of parameters, L2, H1"):
        Study(flow, **study, inner_product="l2")
    with pytest.raises(InputError, match="length = 0 with inner_product = 'H1'; a positive length"):
        Study(flow, **study, inner_product="H1")
    with pytest.raises(InputError, match="no number of the design moves a wall"):
        Study(lambda d: flow({"offsets": jnp.zeros(8)} | d), {"viscosity": 0.1}, None, lambda s: 0.0, inner_product="L2")
