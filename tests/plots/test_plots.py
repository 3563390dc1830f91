"""Pictures: what they are made of. How they look is for eyes."""

import jax.numpy as jnp
import numpy as np
import pytest

import fluidgrad as fg
from fluidgrad.derivatives.maps import Line
from fluidgrad.errors import InputError
from fluidgrad.flow.solution import Solution
from fluidgrad.plots import fields, interpolation, streamlines, surfaces
from fluidgrad.plots import flow as flow_plots
from fluidgrad.plots import mesh as mesh_plots
from fluidgrad.plots import sensitivity as sensitivity_plots
from fluidgrad.plots import study as study_plots
from fluidgrad.plots.style import Labels
from fluidgrad.plots.windows import Window, windows


@pytest.fixture(scope="module")
def channel():
    mesh = fg.channel(2.2, 0.41, body=fg.circle((0.2, 0.2), 0.05), cells=300)
    flow = fg.Flow(mesh, viscosity=1e-3, inlet=fg.Inflow(0.2), outlet=fg.Outflow(), walls=fg.Wall(), body=fg.Wall())
    x = np.asarray(interpolation.geometry(mesh).x_cell)
    state = np.column_stack([0.3 * x[:, 1], 0.01 * np.sin(3 * x[:, 0]), 1 - x[:, 0]])
    return Solution(flow, jnp.asarray(state.ravel()), None)


def is_png(file):
    data = file.read_bytes()
    width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
    return data[:8] == b"\x89PNG\r\n\x1a\n" and width > 500 and height > 200


def test_labels_name_units_and_divide_them():
    labels = Labels("m", "s")
    assert labels("speed", "L T^-1") == "speed [m s$^{−1}$]"
    assert labels("ratio", "1") == "ratio"
    assert labels.over("dJ/dn", "L^3 T^-2", "L^2") == "dJ/dn [m s$^{−2}$]"
    assert labels.over("dJ/df", "L^3 T^-2", "L^3 T^-2") == "dJ/df"


def test_every_picture_of_a_flow_is_drawn(channel, tmp_path):
    walls = channel.flow.walls
    drawn = [
        flow_plots.mesh(tmp_path / "mesh.png", channel.flow.mesh, walls),
        mesh_plots.quality(tmp_path / "quality.png", channel.flow.mesh, walls),
        flow_plots.speed(tmp_path / "speed.png", channel),
        flow_plots.pressure(tmp_path / "pressure.png", channel),
        sensitivity_plots.signed_field(tmp_path / "signed.png", channel.flow.mesh, np.asarray(channel.pressure) - 0.5, "dJ/dα", walls),
        sensitivity_plots.adjoint(tmp_path / "adjoint.png", channel.flow.mesh, np.asarray(channel.velocity), "dJ/df", walls),
    ]
    assert all(is_png(f) for f in drawn)


@pytest.mark.parametrize("what", ["speed", "vorticity", "walls", "mesh"])
def test_python_draws_the_standard_pictures(channel, what, tmp_path):
    shown = fg.plot(channel, what, tmp_path / f"{what}.svg", title="a flow", units=("m", "s"))
    assert "a flow" in (tmp_path / f"{what}.svg").read_text() or shown.axes[0].get_title() == "a flow"
    shown.axes[0].set_title("changed")


@pytest.mark.parametrize(("what", "message"), [("sped", "there is no picture of 'sped'; one of speed, pressure"),
                                               ("streamlines", "a stream function of many values")])  # fmt: skip
def test_pictures_that_there_are_not_are_refused(channel, what, message):
    with pytest.raises(InputError, match=message):
        fg.plot(channel, what)


def test_walls_in_space_are_drawn(tmp_path):
    mesh = fg.extrude(fg.box((0.0, 0.0), (2.0, 1.0), cells=(4, 3)), 0.5, 2)
    walls = {k: fg.Wall() for k in mesh.patches if k not in ("left", "right")}
    flow = fg.Flow(mesh, viscosity=1.0, left=fg.Inflow(1.0), right=fg.Outflow(), **walls)
    solution = Solution(flow, jnp.asarray(np.tile([1.0, 0.1, 0.0, 0.5], (mesh.n_cells, 1)).ravel()), None)
    fg.plot(solution, "walls", tmp_path / "walls.png")
    assert is_png(tmp_path / "walls.png")


def test_corners_set_no_limits_and_are_said_to_be_cut_off():
    from matplotlib.figure import Figure

    value = np.r_[np.linspace(-1, 1, 100), 40.0]
    axes = Figure().subplots()
    fields.within(axes, value, *fields.limits(value, np.ones(101), 0.04)[:2])
    assert axes.get_ylim()[1] < 1.5 and [t.get_text() for t in axes.texts] == ["cut off: to 40"]
    fields.within(axes, value[:-1], *fields.limits(value[:-1], np.ones(100), 0.04)[:2])
    assert len(axes.texts) == 1


def test_a_wall_at_the_start_and_at_the_optimum_has_the_same_limits():
    from fluidgrad.plots.style import styled

    s = np.linspace(0, 1, 50)
    line = {"s": s, "x": np.column_stack([s, 0 * s]), "n": np.tile([0.0, 1.0], (50, 1)), "weight": 0 * s + 1}
    start, end = (Line(value=k * s, **line) for k in (1.0, 5.0))
    draw = sensitivity_plots.wall.__wrapped__
    with styled():
        shown = [draw({"w": a}, "dJ/dn", smooth={"w": a}, beside=[b]) for a, b in ((start, end), (end, start))]
    assert len({graph.axes[1].get_ylim() for graph in shown}) == len({f.axes[0].collections[0].get_clim() for f in shown}) == 1
    named = [text.get_text() for text in shown[0].axes[1].get_legend().get_texts()]
    assert named == ["w, smoothed", "as computed"]


def test_single_numbers_of_a_design_stand_in_one_panel(tmp_path):
    before = {"a.b": np.array(1.0), "c": np.array([2.0]), "list": np.zeros(3), "free": 0.0}
    after = {"a.b": np.array(1.5), "c": np.array([2.0]), "list": np.ones(3), "free": 3.0}
    shown = study_plots.values.__wrapped__(before, after, {"a.b": (0.0, 2.0), "c": (1.0, 4.0), "list": (0.0, 2.0)})
    assert len(shown.axes) == 2 and [t.get_text() for t in shown.axes[1].get_yticklabels()] == ["a.b", "c", "free"]
    assert is_png(study_plots.values(tmp_path / "values.png", before, after, {"a.b": (0.0, 2.0)}))


@pytest.mark.parametrize("kind", ["perfect", "one cell", "3D"])
def test_the_quality_of_any_mesh_is_drawn(kind, tmp_path):
    flat = fg.box(cells=(1, 1) if kind == "one cell" else (4, 3))
    assert is_png(mesh_plots.quality(tmp_path / "quality.png", fg.extrude(flat, 0.5, 2) if kind == "3D" else flat, ["left"]))


def test_a_solid_mesh_is_cut_cell_by_cell():
    flat = fg.channel(2.2, 0.41, body=fg.circle((0.2, 0.2), 0.05), cells=300)
    polygons, cells = interpolation.cut(fg.extrude(flat, 0.3, 2))
    assert len(polygons) == len(set(cells.tolist())) == flat.n_cells

    def area(x):
        ahead = np.roll(x, -1, 0)
        return 0.5 * abs(np.sum(x[:, 0] * ahead[:, 1] - x[:, 1] * ahead[:, 0]))

    np.testing.assert_allclose(sum(map(area, polygons)), interpolation.geometry(flat).V.sum(), rtol=1e-12)


def test_colors_are_those_of_values_between_values(channel, tmp_path):
    """Between the largest and the smallest value the colors of the map appear, not mixtures of two of its colors."""
    import matplotlib
    from matplotlib.figure import Figure

    axes = Figure().subplots()
    here = list(windows(channel.flow.mesh).values())[0]
    fields.fill(axes, here, np.asarray(channel.pressure), "viridis", (0.0, 1.0))
    shown = axes.collections[0].get_facecolor()[:, :3]
    table = matplotlib.colormaps["viridis"](np.linspace(0, 1, 2048))[:, :3]
    assert np.abs(shown[:, None] - table[None]).max(-1).min(1).max() < 0.01


def test_a_map_on_a_patch_in_space_is_drawn(tmp_path):
    mesh = fg.extrude(fg.box(cells=(3, 4)), 0.5, 3)
    t = mesh.topology
    points = np.unique(t.face_points[t.faces_of("left")])
    at_points = np.sin(3 * np.asarray(mesh.points)[points, 1])
    value = surfaces.at_faces(mesh, "left", at_points)
    np.testing.assert_allclose(value[:4], (at_points[:4] + at_points[1:5]) / 2, rtol=1e-12)  # layer by layer, four faces high
    assert is_png(sensitivity_plots.surface(tmp_path / "surface.png", mesh, "left", value, "dJ/du"))


def test_of_a_surface_the_side_is_seen_that_the_fluid_is_on():
    """Into a cube one looks through its top, its front and its left; a body is seen from outside; half a pipe from where it is open."""
    cube = fg.extrude(fg.box(cells=(2, 2)), 1.0, 2)
    S, t = interpolation.geometry(cube).S, cube.topology
    shown, azimuth = surfaces.seen(S[t.n_interior :])
    found = {p: shown[slice(a - t.n_interior, b - t.n_interior)] for p, (a, b) in t.patches.items()}
    assert azimuth == surfaces.AZIMUTHS[0]
    assert {p for p, faces in found.items() if faces.all()} == {"right", "bottom", "front"}  # front is at z = 0
    assert not any(found[p].any() for p in ("left", "top", "back"))
    ring = fg.extrude(fg.o_grid(fg.circle((0.0, 0.0), 1.0), 3.0, cells=(16, 2)), 1.0, 1)
    faces, g = ring.topology.faces_of("body"), interpolation.geometry(ring)
    near = g.x_face[faces][surfaces.seen(g.S[faces])[0]]
    assert len(near) == 8 and near[:, :2].mean(0) @ [-0.5, 0.4] > 0
    half = fg.shell(cells=(4, 3), planes={"z": "middle"})
    S = interpolation.geometry(half).S[half.topology.faces_of("far")]
    assert surfaces.seen(S)[1] == surfaces.AZIMUTHS[1] and surfaces.seen(S * [1, 1, -1])[1] == surfaces.AZIMUTHS[0]


def test_a_mesh_is_cut_where_its_section_is_largest():
    layers = fg.extrude(fg.box(cells=(3, 2)), 2.0, 4)
    assert interpolation.height_of_cut(layers) == pytest.approx(1.0, abs=1e-2)
    half = fg.shell(0.5, 4.0, center=(0.0, 0.0, 1.0), cells=(8, 6), planes={"z": "middle"})
    assert interpolation.height_of_cut(half) == pytest.approx(1.0, abs=5e-3)
    polygons, _ = interpolation.cut(half)
    areas = [0.5 * np.sum(p[:, 0] * np.roll(p[:, 1], -1) - p[:, 1] * np.roll(p[:, 0], -1)) for p in polygons]
    assert interpolation.section(half, interpolation.height_of_cut(half)) == pytest.approx(sum(areas), rel=1e-3)
    assert np.linalg.norm(np.concatenate(polygons), axis=1).min() == pytest.approx(0.5, rel=0.1)  # the body is in it


def test_small_walls_have_a_picture_of_their_own():
    flat = fg.channel(2.2, 0.41, body=fg.circle((0.2, 0.2), 0.05), cells=300)
    assert surfaces.groups(fg.extrude(flat, 0.2, 2), ["walls", "body"]) == [["walls", "body"], ["body"]]
    assert surfaces.groups(fg.extrude(fg.box(cells=(2, 2)), 1.0, 2), ["left", "top"]) == [["left", "top"]]


def test_the_same_data_make_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        study_plots.history(tmp_path / name, [0, 1, 2], [3.0, 2.0, 1.5], {"lift": [0.0, 1e-3, 1e-8], "area": [0.1, 0.0, 0.0]}, "drag")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_picture_of_a_check_and_of_a_table(tmp_path):
    h = 10.0 ** -np.arange(1, 6)
    curve = {"name": "drag", "taylor_steps": h, "remainders": h**2, "steps": h, "errors": np.maximum(h**4, 1e-13 / h)}
    assert is_png(study_plots.check(tmp_path / "check.png", [curve] * 3))
    rows = [("flow.viscosity", 1e-3), ("mesh.length", -2e-4), ("zero", 0.0)]
    assert is_png(sensitivity_plots.table(tmp_path / "table.png", rows, "change of J"))
    line = (np.linspace(0, 1, 9), np.linspace(0, 2, 9))
    assert is_png(study_plots.profiles(tmp_path / "design.png", {"inlet": line}, {"inlet": line}, {"inlet": (0.0, 3.0)}))
    assert is_png(study_plots.values(tmp_path / "values.png", {"a": np.zeros(3)}, {"a": np.ones(3)}, {"a": (0.0, 2.0)}))


def test_walls_are_drawn_piece_by_piece(tmp_path):
    angle = np.linspace(0, 2 * np.pi, 33)
    ring = np.column_stack([np.cos(angle), np.sin(angle)])
    gap = np.full((1, 2), np.nan)
    line = Line(
        s=np.r_[angle, np.nan, angle], x=np.concatenate([ring, gap, 2 * ring]), n=np.concatenate([ring, gap, -ring]),
        value=np.r_[np.sin(angle), np.nan, np.cos(angle)], weight=np.ones(67),
    )  # fmt: skip
    assert [(p.start, p.stop) for p in line.pieces] == [(0, 33), (34, 67)]
    assert is_png(sensitivity_plots.wall(tmp_path / "wall.png", {"body": line}, "dJ/dn", smooth={"body": line.smoothed(0.1)}))


@pytest.fixture(scope="module")
def vortices():
    """psi = sin pi x sin 2 pi y in a box: two vortices, one above the other."""
    mesh = fg.box(cells=(16, 16))
    x, y = np.asarray(mesh.points).T
    return mesh, np.sin(np.pi * x) * np.sin(2 * np.pi * y)


def test_bubbles_are_found_with_their_peaks_and_rims(vortices):
    mesh, psi = vortices
    t = mesh.topology
    boundary = np.isin(np.arange(len(psi)), t.face_points[t.n_interior :])
    triangles = interpolation.triangles(mesh, psi)
    low, high = sorted(streamlines.bubbles(psi, triangles, boundary), key=lambda b: b.peak)
    assert (low.peak, high.peak) == pytest.approx((-1.0, 1.0)) and (low.rim, high.rim) == pytest.approx((0.0, 0.0), abs=1e-12)
    assert high.has(0.5) and not high.has(-0.5) and not high.has(1.5)
    assert set(high.points[psi[high.points] > 1e-9]) == set(np.flatnonzero(psi > 1e-9))  # and some of the line between them
    # none in a stream; and where the lines about two peaks join, that of the lower ends
    assert streamlines.bubbles(np.asarray(mesh.points)[:, 1], triangles, boundary) == []
    twins = np.where(psi > 0, psi, -0.9 * psi) * (1 - boundary) + 0.1 * ~boundary
    found = sorted(streamlines.bubbles(twins, triangles, boundary), key=lambda b: b.peak)
    assert [round(b.rim, 9) for b in found] == [0.1, 0.0] and len(found[0].points) < len(found[1].points)


def test_a_velocity_of_cells_has_a_stream_function_unless_it_has_sources(vortices):
    mesh, psi = vortices
    x, y = np.asarray(interpolation.geometry(mesh).x_cell).T
    turning = np.column_stack([2 * np.pi * np.sin(np.pi * x) * np.cos(2 * np.pi * y), -np.pi * np.cos(np.pi * x) * np.sin(2 * np.pi * y)])
    found = interpolation.stream_function(mesh, turning)
    assert found is not None
    assert found - found.mean() == pytest.approx(psi - psi.mean(), abs=0.04)  # most at corners, which cells know least about
    up = found.reshape(17, 17) - found.mean()
    assert up == pytest.approx(-up[::-1], abs=1e-6) or up == pytest.approx(-up[:, ::-1], abs=1e-6)  # a mirror of it is the other vortex
    source = np.column_stack([x - 0.5, y - 0.5])
    assert interpolation.stream_function(mesh, source) is None


def test_lines_of_a_symmetric_stream_function_are_symmetric_and_closed(vortices):
    from matplotlib.figure import Figure

    mesh, psi = vortices
    axes = Figure().subplots()
    streamlines.level_lines(axes, Window(mesh, (0.0, 1.0), (0.0, 1.0)), psi, np.ones((mesh.n_cells, 2)))
    lines = [np.asarray(line) for collection in axes.collections for line in collection.get_segments()]
    assert len(lines) > 6 and all(np.array_equal(line[0], line[-1]) for line in lines)
    reach = {tuple(np.round([*line.min(0), *line.max(0)], 9).tolist()) for line in lines}
    assert {(x0, round(1 - y1, 9), x1, round(1 - y0, 9)) for x0, y0, x1, y1 in reach} == reach


def test_the_inside_of_a_body_is_not_fluid(channel):
    inside = interpolation.inside(channel.flow.mesh, np.array([[0.2, 0.2], [0.2, 0.3], [1.0, 0.2], [-0.1, 0.2], [0.24, 0.22]]))
    assert inside.tolist() == [False, True, True, False, False]
    here = Window(channel.flow.mesh, (0.0, 2.2), (0.0, 0.41))
    x, y, value = interpolation.on_grid(here, np.ones((channel.flow.mesh.n_cells, 1)), 80)
    body = np.hypot(x[None, :] - 0.2, y[:, None] - 0.2) < 0.045
    assert np.isnan(value[body]).all() and np.nanmax(np.abs(value - 1)) < 1e-12
    assert np.isfinite(value[1:-1, [0, -1]]).all(), "inlet and outlet: streamlines end there, not a step before"


def test_values_at_points_keep_constants_and_take_the_boundarys(channel):
    mesh = channel.flow.mesh
    assert np.allclose(interpolation.at_points(mesh, np.full(mesh.n_cells, 3.0), None), 3.0, rtol=1e-14)
    t = mesh.topology
    value = interpolation.at_points(mesh, np.full(mesh.n_cells, 3.0), np.zeros(t.n_boundary))
    on_edge = np.unique(t.face_points[t.n_interior :])
    assert (value[on_edge] == 0).all() and np.allclose(np.delete(value, on_edge), 3.0)


def test_limits_of_signed_fields_are_symmetric_and_robust():
    value = np.r_[np.linspace(-1, 1, 1000), 50.0]
    limit, extend = fields.symmetric_limit(value)
    assert 0.9 < limit <= 1.0 and extend == "both"
    assert fields.symmetric_limit(np.zeros(5)) == (1.0, "neither")
    assert fields.symmetric_limit(np.array([-2.0, 1.0])) == (2.0, "neither")


def test_bodies_far_from_everything_are_shown_alone():
    mesh = fg.o_grid(fg.circle((0.0, 0.0), 0.5), 50.0, cells=(16, 12))
    shown = windows(mesh, ["body"])
    assert list(shown) == ["near"] and shown["near"].x[1] < 10
    near = windows(fg.channel(2.2, 0.41, body=fg.circle((0.2, 0.2), 0.05), cells=300), ["walls", "body"])
    assert list(near) == ["", "near"] and near[""].x == pytest.approx((0.0, 2.2))


def test_a_3d_flow_is_cut_half_way_up(tmp_path):
    mesh = fg.extrude(fg.box((0.0, 0.0), (2.0, 1.0), cells=(8, 4)), 0.5, 3)
    walls = {k: fg.Wall() for k in mesh.patches if k not in ("left", "right")}
    flow = fg.Flow(mesh, viscosity=1.0, left=fg.Inflow(1.0), right=fg.Outflow(), **walls)
    state = np.tile([1.0, 0.1, 0.0, 0.5], (mesh.n_cells, 1))
    assert is_png(flow_plots.speed(tmp_path / "speed.png", Solution(flow, jnp.asarray(state.ravel()), None)))
    x, y, value = interpolation.on_grid(Window(mesh, (0.0, 2.0), (0.0, 1.0)), state[:, :1], 40)
    assert np.allclose(value, 1.0)


def test_values_on_a_grid_end_where_a_solid_of_cells_ends():
    mesh = fg.extrude(fg.box((0, 0), (1, 1), cells=(2, 2)), 1.0, 2, patches=("front", "back"))
    window = next(iter(windows(mesh, []).values())).wider(0.5)
    x, y, found = interpolation.on_grid(window, np.ones((mesh.n_cells, 1)), 60)
    X, Y = np.meshgrid(x, y)
    within = (X >= 0) & (X <= 1) & (Y >= 0) & (Y <= 1)
    assert 0 < within.sum() < within.size and (np.isfinite(found[..., 0]) == within).all()
