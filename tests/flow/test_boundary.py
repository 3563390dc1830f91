"""What each boundary kind prescribes, periodic joins, and what a flow refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import measure, mesh
from jax.test_util import check_grads

import fluidgrad as fg
from fluidgrad.errors import InputError
from fluidgrad.flow.boundary import FAR_FIELD_BLEND, center_of, join, own_center, passing
from fluidgrad.flow.layout import periodic_shift
from fluidgrad.mesh.mesh import corners

S = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 0.5]])
X = np.array([[1.0, 0.5], [0.0, 0.5], [0.5, 1.0]])
WALLS = {"left": fg.Wall(), "right": fg.Wall(), "bottom": fg.Wall(), "top": fg.Wall()}


def conditions(kind):
    return jax.tree.map(np.asarray, kind.conditions(jnp.asarray(S), jnp.asarray(X)))


def test_a_speed_enters_along_the_inward_normal():
    c = conditions(fg.Inflow(3.0))
    np.testing.assert_allclose(c.velocity, [[-3, 0], [3, 0], [0, -3]])
    np.testing.assert_array_equal(c.fix_n, 1)
    np.testing.assert_array_equal(c.fix_t, 1)


def test_speeds_by_face_and_velocities_agree():
    by_face = conditions(fg.Inflow(np.array([1.0, 2.0, 3.0]))).velocity
    as_vectors = conditions(fg.Inflow(np.array([[-1.0, 0], [2, 0], [0, -3]]))).velocity
    np.testing.assert_allclose(by_face, as_vectors)


def test_a_wall_may_slide_and_turn():
    c = conditions(fg.Wall(velocity=(1.0, 0.0), rotation=2.0, center=(0.5, 0.5)))
    np.testing.assert_allclose(c.velocity, [[1, 1], [1, -1], [0, 0]])  # (1, 0) + 2 k x (x - center)


def test_a_wall_turns_about_an_axis_in_3d():
    x = jnp.array([[1.0, 2.0, 3.0]])
    c = fg.Wall(rotation=(0.0, 0.0, 2.0), center=0.0).conditions(jnp.ones((1, 3)), x)
    np.testing.assert_allclose(np.asarray(c.velocity), [[-4, 2, 0]])


@pytest.mark.parametrize(
    ("kind", "fix_n", "fix_t", "pressure", "total"),
    [
        (fg.Outflow(), 0, 0, 0, 0),
        (fg.Outflow(2.0, tangential="zero"), 0, 1, 2, 0),
        (fg.PressureInlet(3.0), 0, 1, 3, 1),
        (fg.Symmetry(), 1, 0, 0, 0),
    ],
)
def test_what_is_given_and_what_follows_from_inside(kind, fix_n, fix_t, pressure, total):
    c = conditions(kind)
    for found, wanted in zip((c.fix_n, c.fix_t, c.pressure, c.total), (fix_n, fix_t, pressure, total), strict=True):
        np.testing.assert_array_equal(found, wanted)
    np.testing.assert_array_equal(c.velocity, 0)


def test_a_far_field_is_an_inflow_upstream_and_an_outflow_downstream():
    c = conditions(fg.FarField((5.0, 0.0)))
    # the blend has a width of a tenth: six digits from its middle, U.n = 0, to where U and n are parallel
    np.testing.assert_allclose(c.fix_n, [0, 1, 0.5], atol=1e-6)
    np.testing.assert_allclose(c.velocity, np.broadcast_to([5.0, 0.0], S.shape), atol=1e-12)


def test_a_far_field_is_smooth_in_the_direction_of_the_stream():
    def inflow_part(angle):
        U = 5.0 * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        return fg.FarField(U).conditions(jnp.asarray(S), jnp.asarray(X)).fix_n

    _, rate = jax.jvp(inflow_part, (0.0,), (1.0,))
    h = 1e-3 * FAR_FIELD_BLEND
    np.testing.assert_allclose(rate, (inflow_part(h) - inflow_part(-h)) / (2 * h), rtol=1e-5, atol=1e-8)
    assert np.abs(rate[2]) > 1


def test_periodic_faces_become_interior_faces():
    m = mesh("box")
    t = join(m.topology, "left", "right")
    faces = slice(m.topology.n_interior, t.n_interior)
    assert list(t.patches) == ["bottom", "top"]
    assert t.n_interior == m.topology.n_interior + 5 and t.n_faces == m.topology.n_faces - 5
    np.testing.assert_allclose(np.asarray(periodic_shift(t.of(corners), faces, m.points)), [2, 0], atol=1e-15)
    joined = measure(fg.Mesh(m.points, t))
    np.testing.assert_allclose(joined.x_twin[faces] - joined.x_face[faces], np.tile([2.0, 0.0], (5, 1)), atol=1e-15)
    np.testing.assert_allclose(np.sum(joined.V), 2.0, rtol=1e-14)


def test_the_inflow_of_a_closed_domain_is_balanced_to_round_off():
    m = mesh("box")
    u = np.zeros((5, 2))
    u[:, 0] = [1.0, 2.0, 3.0, 2.0, 1.0]
    flow = fg.Flow(m, viscosity=1.0, left=fg.Inflow(u), right=fg.Inflow(u * 1.001), bottom=fg.Wall(), top=fg.Wall())
    g = measure(m)
    velocity = np.asarray(flow.conditions(g).velocity)
    through = np.sum(velocity * g.S[m.topology.n_interior :])
    assert flow.closed and abs(through) < 1e-15
    np.testing.assert_allclose(velocity[:5], u, rtol=2e-3, atol=2e-3)


def refused(m=None, viscosity=0.1, **changes):
    options = {k: changes.pop(k) for k in ("porosity", "force", "scheme") if k in changes}
    return fg.Flow(m or mesh("box"), viscosity=viscosity, **options, **{k: v for k, v in {**WALLS, **changes}.items() if v})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"top": None}, "patch 'top' has no boundary condition; the mesh has patches bottom, left, right, top"),
        ({"lid": fg.Wall()}, "the mesh has no patch 'lid'"),
        ({"left": fg.Periodic("right")}, "patch 'right' has a condition of its own"),
        ({"left": fg.Periodic("top"), "top": None}, "periodic patches 'left' and 'top' have 5 and 6 faces"),
        ({"left": fg.Periodic("left")}, "patch 'left' is periodic with itself; the patch that it continues at"),
        (
            {"left": fg.Periodic("right"), "right": fg.Periodic("left", pressure_drop=1.0)},
            "has a condition of its own",
        ),
        ({"left": fg.FarField((0.0, 0.0))}, "the stream of patch 'left' is at rest"),
        ({"viscosity": -1.0}, "viscosity must be one positive number, got -1.0"),
        ({"viscosity": np.nan}, "viscosity has a value that is not finite"),
        ({"porosity": -0.1}, "porosity must not be negative, got -0.1"),
        ({"porosity": np.ones(7)}, r"porosity has shape \(7,\); one number, or one for each of 30 cells"),
        ({"force": np.ones(3)}, r"force has shape \(3,\)"),
        ({"scheme": "quick"}, "unknown convection scheme 'quick'; one of central, upwind"),
        ({"left": fg.Inflow(np.ones(4)), "right": fg.Outflow()}, r"speed of patch 'left' has shape \(4,\)"),
        ({"left": fg.Inflow(np.inf), "right": fg.Outflow()}, "speed of patch 'left' has a value that is not finite"),
        ({"left": fg.Inflow(1.0), "right": fg.Inflow(1.0)}, "the inflows do not sum to zero: left 1, right 1; make a patch an outflow"),
    ],
)
def test_a_flow_that_cannot_be_solved_is_refused(changes, says):
    with pytest.raises(InputError, match=says):
        flow = refused(**changes)
        _ = flow.joined


def test_a_patch_that_lets_through_as_much_as_it_takes_is_accepted():
    m = mesh("polygons")
    out = np.asarray(fg.mesh.mesh.measure(m).S[m.topology.faces_of("wall")])
    flow = fg.Flow(m, viscosity=0.1, wall=fg.Inflow(np.broadcast_to([1.0, 0.0], out.shape)))
    assert flow.closed


# ---- walls that turn about their own center


def test_a_round_wall_turns_about_its_own_center_in_2d_and_3d():
    flat = fg.channel(6.0, 8.0, fg.circle((3.0, 4.3), 0.5), cells=400)
    solid = fg.extrude(flat, 0.7, 3, patches=("front", "back"))
    for m, rotation, center in ((flat, 1.5, (3, 4.3)), (solid, (0.0, 0.0, 1.5), (3, 4.3, 0.35))):
        wall = fg.Wall(rotation=rotation)
        np.testing.assert_allclose(center_of(m, "body", wall), center, rtol=1e-11)
        assert float(passing(m, "body", wall)) < 1e-13
        assert float(passing(m, "body", fg.Wall(rotation=rotation, center=jnp.zeros(m.dim)))) > 0.3  # as it was
    disc = fg.Wall(rotation=(0.0, 0.0, 1.0))  # a plane that turns in itself
    assert float(passing(solid, "front", disc)) < 1e-13 and center_of(solid, "front", disc)[2] == 0
    assert center_of(flat, "body", fg.Wall(center=(1.0, 2.0))).tolist() == [1, 2]


@pytest.mark.parametrize("dim", [2, 3])
def test_the_center_is_where_normals_meet_and_has_a_derivative(dim):
    rng = np.random.default_rng(dim)
    S, x = jnp.asarray(rng.normal(size=(12, dim))), jnp.asarray(rng.normal(size=(12, dim)))
    center = jnp.arange(1.0, dim + 1)
    np.testing.assert_allclose(own_center(S, center + 3 * S), center, rtol=1e-10)
    check_grads(own_center, (S, x), 1)


def test_what_is_not_round_turns_about_a_given_center_only():
    m = fg.o_grid(fg.ellipse((3.0, -2.0), (1.0, 0.5)), 4.0, cells=(24, 4))
    with pytest.raises(InputError, match="patch 'body' is not round, and turning about its middle would .*the center"):
        fg.Flow(m, viscosity=1.0, body=fg.Wall(rotation=1.0), far=fg.Wall())
    fg.Flow(m, viscosity=1.0, body=fg.Wall(rotation=1.0, center=(3.0, -2.0)), far=fg.Wall(rotation=0.5))
