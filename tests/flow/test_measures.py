"""Functionals of the geometry alone: exact for the polygon or polyhedron, differentiable in the points."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import kinked, mesh

import fluidgrad as fg
from fluidgrad.blocks.ring import RingRecipe, ring_topology
from fluidgrad.errors import InputError
from fluidgrad.flow.functionals import area, centroid, curvature, mesh_barrier, thickness
from fluidgrad.flow.solution import Solution
from fluidgrad.mesh.mesh import Mesh


def still(m):
    """A solution at rest: these functionals do not look at it."""
    flow = fg.Flow(m, viscosity=1.0, boundary={p: fg.Wall() for p in m.patches})
    return Solution(flow, jnp.zeros(flow.n_unknowns), None)


@pytest.fixture(scope="module")
def channel():
    return mesh("channel")


def test_area_and_centroid_of_a_body_are_those_of_its_polygon(channel):
    s = still(channel)
    t = channel.topology
    ((line, _),) = t.lines("body")
    x, y = np.asarray(channel.points)[line].T
    cross = x[:-1] * y[1:] - x[1:] * y[:-1]
    assert abs(np.sum(cross) / 2) == pytest.approx(float(area(s, "body")), rel=1e-12)
    assert float(area(s, "body") + area(s)) == pytest.approx(2.2 * 0.41, rel=1e-12)
    assert float(area(s, "body")) == pytest.approx(np.pi * 0.05**2, rel=0.02)
    assert [float(centroid(s, "body", axis=a)) for a in "xy"] == pytest.approx([0.2, 0.2], rel=1e-12)


def test_volume_of_a_solid_body():
    box = fg.extrude(
        fg.box((1, 2), (3, 5), cells=(3, 2), patches=dict.fromkeys(("left", "right", "bottom", "top"), "all")), 2.0, 2, ("all", "all")
    )
    s = still(box)
    # seen from the fluid inside, the enclosed "body" is the outside: minus the box
    assert float(area(s, "all")) == pytest.approx(-12.0, rel=1e-12)
    assert [float(centroid(s, "all", axis=a)) for a in "xyz"] == pytest.approx([2.0, 3.5, 1.0], rel=1e-12)


def test_the_barrier_is_zero_for_right_angles_and_grows_without_bound_towards_tangling():
    square = fg.box(cells=(4, 4), grading=1.0)
    assert float(mesh_barrier(still(square))) == pytest.approx(0.0, abs=1e-12)
    bent = [float(mesh_barrier(still(kinked(square, amount)))) for amount in (0.2, 0.4, 0.8)]
    assert 0 < bent[0] < bent[1] < bent[2]
    solid = fg.extrude(square, 1.0, 2)
    assert float(mesh_barrier(still(solid))) == pytest.approx(0.0, abs=1e-12)
    corner = int(np.argmin(np.linalg.norm(np.asarray(square.points) - 0.5, axis=1)))
    toward = jnp.asarray(np.asarray(square.points)[0] - np.asarray(square.points)[corner])

    def moved(share):  # the middle point towards a corner, past the diagonal between its neighbours' ends
        return float(mesh_barrier(still(Mesh(square.points.at[corner].add(share * toward), square.topology))))

    steps = [moved(s) for s in (0.1, 0.2, 0.24)]
    assert 0 < steps[0] < steps[1] < steps[2]


def ring(points):
    """A ring of cells round a polygon."""
    x = np.asarray(points, float)
    topology = ring_topology(RingRecipe((len(x), 1), 1.0, False, 1))
    return Mesh(jnp.concatenate([jnp.asarray(x), 9.0 * topology.nominal[len(x) :]]), topology)


def test_thickness_is_where_the_line_across_meets_the_polygon():
    # a chord of 4 from (0, 0) to (4, 0), two sides of slope 1 and 1/3 above, a straight one below from (1, -0.5)
    kite = np.array([(4.0, 0.0), (1.0, 1.0), (0.0, 0.0), (1.0, -0.5)])
    c, s = np.cos(0.7), np.sin(0.7)
    for points in (kite, kite @ np.array([[c, s], [-s, c]]) + [1.0, 2.0], np.roll(kite, 1, 0)):
        body = still(ring(points))
        for at, expected in ((0.125, 0.5 + 0.25), (0.625, 0.5 + 0.25), (0.25, 1.5)):
            assert float(thickness(body, "body", at)) == pytest.approx(expected, rel=1e-12)
    notched = still(ring([(4, 0), (3, 1), (2, 0.2), (1, 1), (0, 0), (2, -1)]))
    assert float(thickness(notched, "body", 0.5)) == pytest.approx(1.2)
    # a notch from behind: the line meets four sides, and the outermost two count
    arrow = still(ring([(4, 0), (1, 1), (0, 0), (3, -1), (2, -0.5)]))
    assert float(thickness(arrow, "body", 0.65)) == pytest.approx(1.4 / 3 + 2.6 / 3)


def test_curvature_of_a_circle_is_that_of_its_polygon_and_its_mean_tends_to_the_largest():
    angle = 2 * np.pi * np.arange(24) / 24
    circle = ring(0.5 * np.stack([np.cos(angle), np.sin(angle)], -1))
    for p in (2.0, 8.0):
        assert float(curvature(still(circle), "body", p)) == pytest.approx(2 * (np.pi / 24) / np.sin(np.pi / 24), rel=1e-12)
    ellipse = still(ring(np.stack([np.cos(angle), 0.5 * np.sin(angle)], -1)))
    means = [float(curvature(ellipse, "body", p)) for p in (2.0, 8.0, 60.0)]
    assert means[0] < means[1] < means[2] < 1 / 0.5**2  # a / b^2 at the ends of the long axis
    assert means[2] > 0.8 / 0.5**2


def test_curvature_of_straight_walls_is_none_and_has_a_derivative(channel):
    assert float(curvature(still(channel), "walls")) == 0.0
    gradient = jax.grad(lambda x: curvature(still(Mesh(x, channel.topology)), "walls"))(channel.points)
    assert np.array_equal(gradient, np.zeros_like(gradient))


@pytest.fixture(scope="module")
def egg():
    """A ring round a body with one chord, which points that move a little keep."""
    angle = 2 * np.pi * np.arange(12) / 12
    return ring(np.stack([np.cos(angle), (0.3 - 0.1 * np.cos(angle)) * np.sin(angle)], -1))


@pytest.mark.parametrize(
    ("f", "body"),
    [
        (lambda s: area(s, "body"), "channel"),
        (lambda s: centroid(s, "body", axis="y"), "channel"),
        (lambda s: thickness(s, "body", 0.34), "egg"),
        (lambda s: curvature(s, "body"), "egg"),
        (mesh_barrier, "channel"),
    ],
    ids=["area", "centroid", "thickness", "curvature", "barrier"],
)
def test_their_derivatives_in_the_points(f, body, request):
    channel = request.getfixturevalue(body)

    def at(points):
        return f(still(Mesh(points, channel.topology)))

    rng = np.random.default_rng(0)
    v = jnp.asarray(rng.normal(size=channel.points.shape)) * (1e-3 if body == "channel" else 1e-1)
    gradient = jax.grad(at)(channel.points)
    forward = jax.jvp(at, (channel.points,), (v,))[1]
    assert float(jnp.sum(gradient * v)) == pytest.approx(float(forward), rel=1e-11)
    h = np.array([0.04, 0.02, 0.01])
    remainder = [abs(float(at(channel.points + k * v) - at(channel.points) - k * forward)) for k in h]
    assert np.log2(remainder[0] / remainder[1]) > 1.9 or remainder[0] < 1e-15
    difference = sum(c * float(at(channel.points + k * 1e-3 * v)) for k, c in ((-2, 1), (-1, -8), (1, 8), (2, -1))) / 12e-3
    assert difference == pytest.approx(float(forward), rel=1e-7)


def test_what_encloses_no_body_is_refused(channel):
    with pytest.raises(InputError, match="patch 'walls' does not enclose a body; the patch of a surface that is closed, or open at planes"):
        area(still(channel), "walls")
    with pytest.raises(InputError, match="a centroid along 'z'; one of x, y"):
        centroid(still(channel), "body", axis="z")
    with pytest.raises(InputError, match="the thickness of 'walls', which is not one closed line; the patch of one body"):
        thickness(still(channel), "walls", 0.5)
    with pytest.raises(InputError, match="the curvature of a patch in 3D; a 2D mesh"):
        curvature(still(fg.extrude(fg.box(cells=(2, 2)), 1.0, 1)), "front")


def test_the_derivative_of_the_barrier_is_the_trace_formula():
    m = kinked(fg.box(cells=(2, 2)))
    rng = np.random.default_rng(1)
    v = rng.normal(size=m.points.shape)
    total, count = 0.0, 0
    for loop in m.topology.cells[0][1]:
        for k in range(4):
            here, after, before = loop[k], loop[(k + 1) % 4], loop[k - 1]
            e = np.asarray(m.points)[[after, before]] - np.asarray(m.points)[here]
            de = v[[after, before]] - v[here]
            lengths = np.sum(e * de, 1) / np.sum(e * e, 1)  # of the normalization of the columns
            total += -np.trace(np.linalg.solve(e, de)) + lengths.sum()
            count += 1
    forward = jax.jvp(lambda x: mesh_barrier(still(Mesh(x, m.topology))), (m.points,), (jnp.asarray(v),))[1]
    assert float(forward) == pytest.approx(total / count, rel=1e-10)
