"""Meshes from gmsh, made here by gmsh itself."""

import numpy as np
import pytest
from cases import gap, gradients, measure, state_of, with_velocity_given

from fluidgrad.errors import InputError
from fluidgrad.mesh.meshfile import REVERSED, read_mesh

gmsh = pytest.importorskip("gmsh")


@pytest.fixture
def model(tmp_path):
    gmsh.initialize(interruptible=False)
    gmsh.option.setNumber("General.Terminal", 0)
    gmsh.model.add("test")

    def write(version=4.1, name="mesh.msh", dim=None, order=1):
        gmsh.model.mesh.generate(dim or gmsh.model.getDimension())
        gmsh.model.mesh.setOrder(order)
        gmsh.option.setNumber("Mesh.MshFileVersion", version)
        gmsh.write(str(tmp_path / name))
        return tmp_path / name

    yield write
    gmsh.finalize()


def rectangle(structured=False, recombine=False, groups=True):
    geo = gmsh.model.geo
    p = [geo.addPoint(x, y, 0, 0.2) for x, y in ((0, 0), (1, 0), (1, 0.5), (0, 0.5))]
    sides = [geo.addLine(p[i], p[(i + 1) % 4]) for i in range(4)]
    face = geo.addPlaneSurface([geo.addCurveLoop(sides)])
    if structured:
        geo.mesh.setTransfiniteSurface(face)
    if recombine:
        geo.mesh.setRecombine(2, face)
    geo.synchronize()
    if groups:
        for name, members in (("walls", [sides[0], sides[2]]), ("outlet", [sides[1]]), ("inlet", [sides[3]])):
            gmsh.model.addPhysicalGroup(1, members, name=name)
        gmsh.model.addPhysicalGroup(2, [face], name="fluid")
    return face


def block(layers=2, recombine=False, tetra=False):
    """The rectangle extruded: prisms, hexahedra or tetrahedra, with all its sides named."""
    face = rectangle(structured=recombine, recombine=recombine, groups=False)
    made = gmsh.model.geo.extrude([(2, face)], 0, 0, 0.3, numElements=[] if tetra else [layers], recombine=not tetra)
    gmsh.model.geo.synchronize()
    gmsh.model.addPhysicalGroup(3, [made[1][1]], name="fluid")
    gmsh.model.addPhysicalGroup(2, [face], name="bottom")
    gmsh.model.addPhysicalGroup(2, [made[0][1]], name="top")
    gmsh.model.addPhysicalGroup(2, [tag for _, tag in made[2:]], name="sides")


def assert_closed(mesh, volume):
    """Closed cells of the right volume, faces in their middle, and the discretization exact on it for a linear field."""
    g = measure(mesh)
    t = mesh.topology
    if mesh.dim == 2:
        assert t.face_points.shape[1] == 2
        np.testing.assert_allclose(g.x_face, np.asarray(mesh.points)[t.face_points].mean(1), atol=1e-14)
    slope = np.diag([1.0, -1.0, 0.0][: mesh.dim])
    flow = with_velocity_given(mesh, lambda x: slope @ x)
    found = gradients(flow, state_of(flow, g.x_cell @ slope, g.x_cell[:, 0]))
    np.testing.assert_allclose(found[:, :-1], np.broadcast_to(slope, found[:, :-1].shape), atol=1e-11)
    assert np.all(np.asarray(g.V) > 0)
    assert abs(float(g.V.sum()) - volume) < 1e-13
    assert np.abs(gap(mesh)).max() < 1e-15


@pytest.mark.parametrize("version", [2.2, 4.1])
@pytest.mark.parametrize("kind", ["triangle", "quad", "mixed"])
def test_flat_meshes_have_their_patches_and_area(model, version, kind):
    rectangle(structured=kind == "quad", recombine=kind == "quad")
    if kind == "mixed":
        geo = gmsh.model.geo  # a structured square of quadrilaterals on the right of the triangles
        a, b = geo.addPoint(2, 0, 0, 0.2), geo.addPoint(2, 0.5, 0, 0.2)
        s = [geo.addLine(2, a), geo.addLine(a, b), geo.addLine(b, 3)]
        face = geo.addPlaneSurface([geo.addCurveLoop([*s, -2])])
        geo.mesh.setTransfiniteSurface(face)
        geo.synchronize()
        gmsh.model.mesh.setRecombine(2, face)
        gmsh.model.removePhysicalGroups([(1, 2), (1, 1)])
        gmsh.model.addPhysicalGroup(1, [1, 3, s[0], s[2]], 1, name="walls")
        gmsh.model.addPhysicalGroup(1, [s[1]], 2, name="outlet")
        gmsh.model.addPhysicalGroup(2, [face], name="more")
    mesh = read_mesh(model(version))
    assert mesh.dim == 2 and set(mesh.patches) == {"inlet", "outlet", "walls"}
    assert {k for k, _ in mesh.topology.cells} == ({"triangle", "quad"} if kind == "mixed" else {kind})
    assert_closed(mesh, 1.0 if kind == "mixed" else 0.5)
    length = np.linalg.norm(measure(mesh).S, axis=1)
    assert abs(length[mesh.topology.faces_of("inlet")].sum() - 0.5) < 1e-14


@pytest.mark.parametrize("beside", [1.0, 3.0])
def test_a_mesh_in_parts_is_refused_where_they_only_touch_too(model, beside):
    """Two rectangles, each with its own points: as gmsh makes them of volumes that were not made one."""
    rectangle(groups=False)
    geo = gmsh.model.geo
    p = [geo.addPoint(x, y, 0, 0.3) for x, y in ((beside, 0), (beside + 0.6, 0), (beside + 0.6, 0.5), (beside, 0.5))]
    sides = [geo.addLine(p[i], p[(i + 1) % 4]) for i in range(4)]
    geo.addPlaneSurface([geo.addCurveLoop(sides)])
    geo.synchronize()
    gmsh.model.addPhysicalGroup(1, [tag for _, tag in gmsh.model.getEntities(1)], name="walls")
    gmsh.model.addPhysicalGroup(2, [tag for _, tag in gmsh.model.getEntities(2)], name="fluid")
    with pytest.raises(InputError, match=r"is in 2 parts that share no face; the smallest, of \d+ cells, is near \(.*Coherence makes"):
        read_mesh(model())


@pytest.mark.parametrize("version", [2.2, 4.1])
@pytest.mark.parametrize("kind", ["tetra", "hexahedron", "wedge"])
def test_solid_meshes_have_their_patches_and_volume(model, version, kind):
    block(recombine=kind == "hexahedron", tetra=kind == "tetra")
    mesh = read_mesh(model(version))
    assert mesh.dim == 3 and set(mesh.patches) == {"bottom", "top", "sides"}
    assert [k for k, _ in mesh.topology.cells] == [kind]
    assert_closed(mesh, 0.15)
    area = np.linalg.norm(measure(mesh).S, axis=1)
    assert abs(area[mesh.topology.faces_of("sides")].sum() - 0.9) < 1e-13


@pytest.mark.parametrize("kind", ["triangle", "tetra", "hexahedron", "wedge"])
def test_cells_that_are_inside_out_are_turned(model, tmp_path, kind):
    import meshio

    rectangle() if kind == "triangle" else block(recombine=kind == "hexahedron", tetra=kind == "tetra")
    path = model(2.2)
    data = meshio.gmsh.read(path)
    for part in data.cells:
        if part.type == kind:
            part.data[::3] = part.data[::3][:, REVERSED[kind]]
    data.points = np.append(data.points, [[9.0, 9.0, 9.0]], 0)  # and a point of no cell is dropped
    meshio.gmsh.write(tmp_path / "turned.msh", data, "2.2", binary=False)
    mesh, before = read_mesh(tmp_path / "turned.msh"), read_mesh(path)
    assert len(mesh.points) == len(before.points)
    assert_closed(mesh, 0.5 if kind == "triangle" else 0.15)
    assert mesh.topology.patches == before.topology.patches


def test_a_mesh_without_named_groups_is_refused(model):
    rectangle(groups=False)
    with pytest.raises(InputError, match="has no named physical group of curves.*Physical Curve"):
        read_mesh(model())


def test_a_side_in_no_group_is_refused_with_its_place(model):
    rectangle()
    gmsh.model.removePhysicalGroups([(1, 2)])
    with pytest.raises(InputError, match=r"boundary faces belong to no patch, the first near \(1, .*mesh.msh"):
        read_mesh(model())


def test_a_curved_cell_is_refused(model):
    rectangle()
    with pytest.raises(InputError, match="cells of kind 'line3', which are not supported.*first-order"):
        read_mesh(model(order=2))


def test_a_tilted_surface_is_refused(model):
    face = rectangle()
    gmsh.model.geo.rotate([(2, face)], 0, 0, 0, 1, 0, 0, 0.5)
    gmsh.model.geo.synchronize()
    with pytest.raises(InputError, match="is not flat"):
        read_mesh(model())


def test_files_that_are_no_meshes_are_refused(tmp_path):
    with pytest.raises(InputError, match="there is no mesh file"):
        read_mesh(tmp_path / "missing.msh")
    (tmp_path / "mesh.stl").write_text("solid")
    with pytest.raises(InputError, match="is not a .msh file"):
        read_mesh(tmp_path / "mesh.stl")
    (tmp_path / "broken.msh").write_text("$MeshFormat\n4.1 0 8\n$EndMeshFormat\n$Nodes\n1 2")
    with pytest.raises(InputError, match="cannot read the mesh file"):
        read_mesh(tmp_path / "broken.msh")
    (tmp_path / "text.msh").write_text("hello")
    with pytest.raises(InputError, match="cannot read the mesh file"):
        read_mesh(tmp_path / "text.msh")
