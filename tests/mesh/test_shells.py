"""Shells between an ellipsoid and a sphere: their volumes, nesting, planes of symmetry, derivatives, refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import fluidgrad as fg
from fluidgrad.blocks.shells import shell
from fluidgrad.errors import InputError
from fluidgrad.flow.functionals import area, centroid
from fluidgrad.flow.measures import encloses
from fluidgrad.flow.solution import Solution
from fluidgrad.mesh.mesh import Mesh, measure

QUARTER = {"y": "side", "z": "middle"}


def at_rest(mesh):
    walls = {p: fg.Wall() for p in mesh.patches}
    flow = fg.Flow(mesh, viscosity=1.0, boundary=walls)
    return Solution(flow, jnp.zeros(flow.n_unknowns), None)


def test_its_volume_is_that_of_the_shell_to_second_order():
    exact = 4 / 3 * np.pi * (3.0**3 - 0.5 * 0.4 * 0.8)
    errors = [abs(float(jnp.sum(measure(shell((0.5, 0.4, 0.8), 3.0, cells=(n, n))).V)) / exact - 1) for n in (4, 8, 16)]
    assert np.log2(errors[0] / errors[1]) > 1.9 and np.log2(errors[1] / errors[2]) > 1.9 and errors[2] < 5e-3


@pytest.mark.parametrize("planes", [{}, {"x": "front"}, QUARTER, {"x": "a", "y": "b", "z": "c"}])
def test_planes_of_symmetry_leave_a_half_a_quarter_and_an_eighth(planes):
    whole, part = shell(cells=(6, 3)), shell(cells=(6, 3), planes=planes)
    share = 2 ** -len(planes)
    assert part.n_cells == share * whole.n_cells == share * 6 * 36 * 3
    assert float(jnp.sum(measure(part).V)) == pytest.approx(share * float(jnp.sum(measure(whole).V)), rel=1e-12)
    assert set(part.patches) == {"body", "far", *planes.values()}
    for axis, name in planes.items():
        x, S = measure(part).x_face[part.topology.faces_of(name)], measure(part).S[part.topology.faces_of(name)]
        k = "xyz".index(axis)
        assert np.abs(x[:, k]).max() == 0.0 and (S[:, k] < 0).all() and np.abs(np.delete(S, k, 1)).max() < 1e-12


def test_cells_are_counted_and_refined_meshes_nested():
    assert shell(cells=60_000, planes=QUARTER).n_cells == pytest.approx(60_000, rel=0.05)
    coarse, fine = shell(cells=(4, 3), planes=QUARTER), shell(cells=(4, 3), planes=QUARTER, refine=2)
    assert fine.n_cells == 8 * coarse.n_cells
    places = [{tuple(p) for p in (np.round(np.asarray(m.points), 9) + 0.0).tolist()} for m in (coarse, fine)]
    assert places[0] < places[1]
    again = shell(0.6, 20.0, like=coarse)
    assert again.topology == coarse.topology


@pytest.mark.parametrize("planes", [None, QUARTER])
def test_the_volume_of_the_body_between_planes(planes):
    mesh = shell((0.5, 0.4, 0.8), 4.0, center=(1.0, 2.0, -1.0), cells=(24, 3), planes=planes)
    exact = 4 / 3 * np.pi * 0.5 * 0.4 * 0.8 * (0.25 if planes else 1.0)
    assert encloses(mesh.topology, "body") and not encloses(mesh.topology, "far")
    s = at_rest(mesh)
    assert float(area(s, "body")) == pytest.approx(exact, rel=4e-3)
    filled = measure(mesh).V.sum() + area(s, "body") + area(s, "far")  # the far sphere is seen from inside
    assert float(filled) == pytest.approx(0.0, abs=1e-9)
    if planes:
        with pytest.raises(InputError, match="patch 'body' does not enclose a body; the patch of a closed surface"):
            centroid(s, "body")
    else:
        assert float(centroid(s, "body", axis="y")) == pytest.approx(2.0, abs=1e-12)


def test_a_cylinder_across_half_a_duct_has_a_volume():
    flat = fg.channel(2.2, 0.41, body=fg.circle((0.2, 0.2), 0.05), cells=300)
    mesh = fg.extrude(flat, 0.2, 2, ("walls", "middle"))
    s, flat = at_rest(mesh), at_rest(flat)
    assert float(area(s, "body")) == pytest.approx(0.2 * float(area(flat, "body")), rel=1e-12)
    with pytest.raises(InputError, match="patch 'walls' does not enclose a body"):
        area(s, "walls")


def test_points_are_differentiable_in_all_numbers():
    base = shell((0.5, 0.4, 0.6), 3.0, cells=(4, 3), grading=2.0, planes=QUARTER)
    weight = jnp.asarray(np.random.default_rng(0).standard_normal(base.points.shape))

    def f(radii, outer, center):
        return jnp.sum(weight * shell(radii, outer, center, like=base).points ** 2)

    at = (jnp.array([0.5, 0.4, 0.6]), jnp.asarray(3.0), jnp.array([0.1, 0.0, 0.2]))
    by = jax.grad(f, (0, 1, 2))(*at)
    h = 1e-6
    for k, x in enumerate(at):
        v = jnp.ones_like(x) + jnp.arange(x.size).reshape(x.shape)
        ends = [f(*(y + s * h * v if i == k else y for i, y in enumerate(at))) for s in (1, -1)]
        assert float(jnp.sum(by[k] * v)) == pytest.approx(float(ends[0] - ends[1]) / (2 * h), rel=1e-7)
    assert isinstance(jax.jit(lambda r: shell(r, 3.0, like=base))(at[0]), Mesh)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"radii": 2.0, "outer": 1.0}, "a far sphere of radius 1.0 round a body of 2.0; 0 < radii < outer"),
        ({"radii": (0.5, 0.5)}, r"radii of shape \(2,\); one number, or three"),
        ({"outer": (1.0, 2.0)}, r"outer of shape \(2,\); one number"),
        ({"cells": (5, 3), "planes": QUARTER}, r"cells = \(5, 3\); a number, or two: along a quarter of a circle \(an even number"),
        ({"planes": {"w": "side"}}, "a plane of symmetry normal to 'w'; x, y and z"),
        ({"planes": {"x": "body"}}, "a plane cannot be called 'body'; a name no other patch has"),
        ({"grading": -1.0}, "grading must be positive, got -1"),
        ({"like": fg.box(cells=2)}, "like is a mesh of another generator"),
    ],
)
def test_what_is_no_shell_is_refused(what, message):
    with pytest.raises(InputError, match=message):
        shell(**what)


def test_traced_radii_need_a_mesh_to_be_like():
    with pytest.raises(InputError, match=r"make one mesh outside jax.grad and jax.jit, and give it as shell\(..., like=mesh\)"):
        jax.jit(lambda r: shell(r, 3.0).points)(0.5)
