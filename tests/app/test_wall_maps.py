"""Maps of walls, the closed form of Stokes flow and the error of a functional, on a body whose mesh its generator moves.

Creeping flow past a body in the middle of a circle on which the velocity is given: drag, by eight smooth waves of the wall.
"""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import measure, state_of, with_velocity_given

import fluidgrad as fg
from fluidgrad.derivatives.accuracy import parents, prolonged
from fluidgrad.derivatives.maps import Line
from fluidgrad.flow.fluxes import discretize, gradient
from fluidgrad.flow.residual import at_boundary, split
from fluidgrad.flow.solution import Solution

CELLS = (28, 8)
RADIUS, WAVES = 0.5, [(k, f) for k in range(1, 5) for f in (np.cos, np.sin)]
OVAL = np.array([[0.0, 0.0], [0.12, 0.05], [0.04, 0.0], [0.0, 0.0]])  # no symmetry but by chance


def body(modes):
    return fg.fourier_curve((0.0, 0.0), RADIUS, modes)


@cache
def like(refine):
    return fg.o_grid(body(OVAL), 2.0, cells=CELLS, refine=refine)


def points(modes, refine):
    return fg.o_grid(body(modes), 2.0, like=like(refine)).points


def flow(modes, refine):
    """Everything given as an array, as ``sensitivity`` has it: the same programs serve both."""
    mesh, still = fg.Mesh(points(modes, refine), like(refine).topology), np.zeros((like(refine).n_cells, 2))
    far = fg.Inflow(np.tile([1.0, 0.0], (CELLS[0] * refine, 1)))
    return fg.Flow(mesh, viscosity=0.3, porosity=still[:, 0], force=still, convection=False, body=fg.Wall(), far=far)


def drag(solution):
    return fg.drag(solution, "body")


@cache
def through_the_generator(refine):
    """Drag, and its derivative by every number of the body."""
    found = maps(refine)  # it holds the derivative by every point of the mesh
    (derivative,) = jax.vjp(lambda m: points(m, refine), jnp.asarray(OVAL))[1](found.flow.mesh.points)
    return found.value, np.asarray(derivative).ravel()


@cache
def maps(refine):
    return fg.sensitivity(drag, flow(OVAL, refine))


def displacements(x):
    """What each of the eight numbers moves the wall by at its places, a row each: along the ray from the middle."""
    angle = np.arctan2(x[:, 1], x[:, 0])
    ray = np.stack([np.cos(angle), np.sin(angle)], 1)
    return RADIUS * np.stack([f(k * angle)[:, None] * ray for k, f in WAVES])


def weak(refine):
    line = maps(refine).wall["body"]
    return np.einsum("s,msi,si,s->m", line.value, displacements(line.x), line.n, line.weight)


def by_the_closed_form(refine):
    """nu int |du/dn|^2 (V.n) ds: the derivative of the power, which is the drag in a stream of speed 1, for a wall that moves
    by V. (Pironneau, J. Fluid Mech. 64 (1974) 97; n into the fluid.)"""
    s = maps(refine).solution
    d = discretize(s.flow)
    q, _ = split(d, s.state)
    t, faces = s.flow.mesh.topology, s.flow.mesh.topology.faces_of("body")
    force = np.asarray(at_boundary(d, q, gradient(d, q)).force)[faces.start - t.n_interior : faces.stop - t.n_interior]
    S, x = np.asarray(d.geometry.S)[faces], np.asarray(d.geometry.x_face)[faces]
    area = np.linalg.norm(S, axis=1)
    n = -S / area[:, None]
    shear = (force - np.sum(force * n, 1)[:, None] * n) / area[:, None]  # nu du/dn: on a wall at rest it is tangential
    return np.einsum("s,msi,si,s->m", np.sum(shear**2, 1) / 0.3, displacements(x), n, area)


def gap(found, refine):
    derivative = through_the_generator(refine)[1]
    return np.abs(found(refine) - derivative).max() / np.abs(derivative).max()


def test_the_map_of_a_wall_is_the_derivative_by_eight_waves_through_the_generator():
    # measured 0.038: the inside of the mesh follows in another way, an error of discretisation (its order: below)
    assert gap(weak, 1) <= 0.05


def test_the_derivative_of_the_power_of_a_stokes_flow_is_the_closed_form():
    assert gap(by_the_closed_form, 1) <= 0.1  # measured 0.083; its order: below


def test_the_derivative_through_the_generator_is_that_of_differences():
    direction = np.random.default_rng(0).normal(size=OVAL.shape)

    def along(h):
        return float(drag(fg.solve_steady(flow(OVAL + h * direction, 1), tolerance=1e-13)))

    h = 1e-3
    difference = (8 * (along(h) - along(-h)) - (along(2 * h) - along(-2 * h))) / (12 * h)
    assert through_the_generator(1)[1] @ direction.ravel() == pytest.approx(difference, rel=1e-7)


def test_the_smoothed_map_of_a_wall_keeps_its_sum_and_damps_waves_as_it_should():
    line = maps(1).wall["body"]
    assert np.array_equal(line.x[0], line.x[-1]) and np.sum(line.weight) == pytest.approx(line.s[-1])  # each point once
    smooth = line.smoothed(0.1)
    assert np.sum(smooth.value * smooth.weight) == pytest.approx(np.sum(line.value * line.weight), rel=1e-12)
    assert smooth.value[0] == smooth.value[-1]
    np.testing.assert_allclose(line.smoothed(0.0).value, line.value, rtol=1e-12)
    k = 2 * np.pi * 3 / line.s[-1]
    wave = replace(line, value=np.cos(k * line.s))
    factor = 1 / (1 + (0.1 * k) ** 2)
    np.testing.assert_allclose(wave.smoothed(0.1).value, factor * wave.value, atol=0.03)
    with pytest.raises(fg.InputError, match="a smoothing length of -1"):
        line.smoothed(-1.0)


def test_open_pieces_of_a_map_are_smoothed_each_by_itself():
    s = np.linspace(0, 1, 6)
    x = np.stack([s, 0 * s], 1)
    gap, weight = np.full((1, 2), np.nan), np.array([0.1, 0.2, 0.2, 0.2, 0.2, 0.1])
    value = np.where(np.arange(6) == 0, 1.0, 0.0)
    line = Line(np.r_[s, np.nan, s], np.r_[x, gap, x + 2], np.r_[x, gap, x], np.r_[value, np.nan, 0 * s], np.r_[weight, np.nan, weight])
    smooth = line.smoothed(0.3).value
    assert np.isnan(smooth[6]) and not smooth[7:].any()
    assert (np.diff(smooth[:6]) < 0).all() and smooth[:6] @ weight == pytest.approx(0.1)


def smooth_values(refine):
    """The smoothed map at fixed angles."""
    line = maps(refine).wall["body"].smoothed(0.1)
    angle = np.arctan2(line.x[:-1, 1], line.x[:-1, 0])
    return np.interp(np.linspace(0, 2 * np.pi, 24), angle, line.value[:-1], period=2 * np.pi)


@pytest.mark.slow
def test_the_smoothed_map_of_a_wall_converges_at_every_point():
    values = [smooth_values(r) for r in (1, 2, 4)]
    gaps = [np.abs(a - b).max() for a, b in zip(values[:-1], values[1:], strict=True)]
    assert gaps[1] < 0.4 * gaps[0] and gaps[1] < 0.02 * np.abs(values[2]).max(), gaps


@pytest.mark.slow
def test_both_gaps_close_as_the_mesh_is_refined():
    for found, least in ((weak, 1.5), (by_the_closed_form, 1.0)):
        gaps = [gap(found, r) for r in (1, 2, 4)]
        assert np.log2(np.divide(gaps[:-1], gaps[1:])).min() >= least, gaps


# ---- the error of a functional


def test_the_estimated_error_is_what_refinement_shows():
    found = fg.error_estimate(drag, maps(1).solution, flow(OVAL, 2))
    solved = float(drag(fg.solve_steady(flow(OVAL, 2))))
    assert found.value == pytest.approx(through_the_generator(1)[0], rel=1e-9)
    assert found.finer - found.value == pytest.approx(solved - found.value, rel=0.02)
    assert found.error == pytest.approx(4 / 3 * (found.finer - found.value), rel=1e-9)
    assert found.functional + float(jnp.sum(found.cells)) == pytest.approx(found.error, rel=1e-9)
    assert found.cells.shape == (like(1).n_cells,)


def test_linear_fields_are_carried_to_a_finer_mesh_exactly():
    coarse, fine = (fg.box((0, 0), (2, 1), cells=(4, 3), grading=(0.0, 1.5), refine=r) for r in (1, 3))

    def given(x):
        return np.stack([1 + x[:, 1], 2 - x[:, 0]], 1)

    a, b = (with_velocity_given(m, lambda x: jnp.stack([1 + x[1], 2 - x[0]]), viscosity=1.0) for m in (coarse, fine))
    known = Solution(a, state_of(a, given(measure(coarse).x_cell), np.zeros(coarse.n_cells)), None)
    carried = np.asarray(prolonged(known, b))[:-1].reshape(-1, 3)
    np.testing.assert_allclose(carried[:, :2], given(measure(fine).x_cell), atol=1e-12)
    assert (np.bincount(parents(a, b)) == 9).all()


def test_a_mesh_that_is_not_finer_is_refused():
    with pytest.raises(fg.InputError, match="the mesh given as finer has no cell in that near"):
        fg.error_estimate(drag, Solution(flow(OVAL, 2), jnp.zeros(0), None), flow(OVAL, 1))
