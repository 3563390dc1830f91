"""Topology and measures: closed cells, volumes, incidence operators, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import MESHES, gap, measure, mesh, tetrahedra

from fluidgrad.errors import InputError
from fluidgrad.mesh.mesh import Mesh, incidence, to_cells, to_faces
from fluidgrad.mesh.mesh import measure as measured
from fluidgrad.mesh.topology import build_topology

VOLUME = {"box": 2.0, "kinked box": 1.0, "polygons": 1.0, "triangles": 1.0, "tetrahedra": 1.0}
SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [2, 0], [2, 1]], float)
QUADS = np.array([[0, 1, 2, 3], [1, 4, 5, 2]])
AROUND = np.array([[0, 1], [1, 4], [4, 5], [5, 2], [2, 3], [3, 0]])


@pytest.mark.parametrize("name", MESHES)
def test_cells_are_closed_and_fill_the_domain(name):
    m = mesh(name)
    g, t = measure(m), m.topology
    # round-off of a sum of a few area vectors
    assert np.abs(gap(m)).max() < 1e-13 * np.abs(g.S).max()
    assert np.min(g.V) > 0
    from_boundary = np.sum(g.x_face[t.n_interior :] * g.S[t.n_interior :]) / t.dim
    assert np.sum(g.V) == pytest.approx(from_boundary, rel=1e-13)
    assert np.sum(g.V) == pytest.approx(VOLUME.get(name, from_boundary), rel=1e-12)


@pytest.mark.parametrize("name", MESHES)
def test_centroids_are_those_of_the_domain(name):
    m = mesh(name)
    g, t = measure(m), m.topology
    out = slice(t.n_interior, None)
    # the integral of x over the domain, from its boundary alone: int x_i = int (x_i^2 / 2) n_i, where faces are flat and
    # so that the midpoint rule misses only the spread of x_i over a face
    first = np.sum(0.5 * g.x_face[out] ** 2 * g.S[out], 0)
    corner = m.points[t.face_points[out]]
    spread = np.ptp(np.asarray(corner), axis=1)
    missing = np.sum(spread**2 / 12 * np.abs(g.S[out]), 0)
    assert (np.abs(np.einsum("c,ci->i", g.V, g.x_cell) - first) <= missing + 1e-13).all()


@pytest.mark.parametrize("name", ["box", "polygons", "tetrahedra"])
def test_the_incidence_operators_are_each_others_transpose(name):
    t = mesh(name).topology
    rng = np.random.default_rng(1)
    cell, face = rng.normal(size=(t.n_cells, 3)), rng.normal(size=(t.n_faces, 3))
    owner, neighbour = to_faces(t.of(incidence), cell)
    jump = np.concatenate([owner - neighbour, cell[t.owner[t.n_interior :]]])
    there, back = np.sum(jump * face), np.sum(cell * np.asarray(to_cells(t.of(incidence), jnp.asarray(face))))
    assert there == pytest.approx(back, rel=1e-13)


def test_measures_scale_and_translate():
    m = tetrahedra()
    g = measure(m)
    moved = measure(Mesh(2 * m.points + jnp.array([1e3, -2e3, 5e2]), m.topology))
    np.testing.assert_allclose(moved.V, 8 * g.V, rtol=1e-10)  # 1e3 from the origin costs three or four digits
    np.testing.assert_allclose(moved.x_cell, 2 * g.x_cell + np.array([1e3, -2e3, 5e2]), rtol=1e-14)


def test_volumes_have_the_right_derivative():
    m = mesh("polygons")
    v = jnp.asarray(np.random.default_rng(2).normal(size=m.points.shape))

    def volumes(s):
        return measured(Mesh(m.points + s * v, m.topology)).V

    _, rate = jax.jvp(volumes, (0.0,), (1.0,))
    np.testing.assert_allclose(rate, (volumes(1e-2) - volumes(-1e-2)) / 2e-2, atol=1e-12)  # quadratic in the points


def test_two_squares():
    t = build_topology(SQUARE, [("quad", QUADS)], {"around": AROUND})
    assert (t.n_cells, t.n_faces, t.n_interior) == (2, 7, 1)
    g = measure(Mesh(jnp.asarray(SQUARE), t))
    np.testing.assert_allclose(g.S[0], [1, 0])
    np.testing.assert_allclose(g.V, [1, 1])
    np.testing.assert_allclose(g.x_cell, [[0.5, 0.5], [1.5, 0.5]])
    # a patch keeps its own order
    np.testing.assert_allclose(g.x_face[t.faces_of("around")][:3], [[0.5, 0], [1.5, 0], [2, 0.5]])


def test_a_patch_is_polylines_also_where_it_touches_itself():
    corner = np.concatenate([SQUARE[:4], [[2, 1], [2, 2], [1, 2]]])
    quads = np.array([[0, 1, 2, 3], [2, 4, 5, 6]])
    around = np.concatenate([np.stack([q, np.roll(q, -1)], 1) for q in quads])
    pieces = build_topology(corner, [("quad", quads)], {"around": around}).lines("around")
    assert [points.tolist() for points, _ in pieces] == [[0, 1, 2, 3, 0], [2, 4, 5, 6, 2]]
    assert [faces.tolist() for _, faces in pieces] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    ((points, faces),) = mesh("box").topology.lines("left")
    assert len(points) == len(faces) + 1 == len(set(points.tolist()))


def test_topologies_are_equal_when_their_contents_are():
    one, two = (build_topology(SQUARE, [("quad", QUADS)], {"around": AROUND}) for _ in range(2))
    other = build_topology(SQUARE, [("quad", QUADS)], {"rim": AROUND})
    assert one == two and hash(one) == hash(two) and one != other


@pytest.mark.parametrize(
    ("patches", "says"),
    [
        ({"around": AROUND[:-1]}, r"1 boundary faces belong to no patch, the first near \(0, 0.5\)"),
        ({"around": AROUND, "twice": AROUND[:1]}, "a face is shared by more than two cells or patches"),
        ({"around": AROUND, "lost": np.array([[0, 5]])}, "patch 'lost' has a face that belongs to no cell"),
    ],
)
def test_a_boundary_that_does_not_fit_is_refused(patches, says):
    with pytest.raises(InputError, match=says):
        build_topology(SQUARE, [("quad", QUADS)], patches)


def test_an_unknown_patch_is_named():
    with pytest.raises(InputError, match="no patch named 'lid'; the mesh has left, right, bottom, top"):
        mesh("box").topology.faces_of("lid")
