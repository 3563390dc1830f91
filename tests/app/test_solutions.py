"""What a run hands to others: fields.nc for xarray, fields.vtu for ParaView, read back by their own libraries."""

import jax.numpy as jnp
import numpy as np
import pytest
import vtk
import xarray
from cases import MESHES, measure, mesh, state_of
from vtk.util.numpy_support import vtk_to_numpy

import fluidgrad as fg
from fluidgrad.app.config.config import Units
from fluidgrad.app.report.output import read_csv
from fluidgrad.app.report.solutions import dataset, read_solution, save_walls, write_vtu
from fluidgrad.errors import InputError


class Named:
    """What the files need of a config."""

    units = Units(length="m", time="s")


def fields(m):
    x = measure(m).x_cell
    return {
        "velocity": (np.stack([np.sin(3 * x[:, 0]), *x[:, 1:].T], 1), "L T^-1", "velocity"),
        "pressure": (x[:, 0] ** 2, "L^2 T^-2", "kinematic pressure"),
    }


def vtk_read(file):
    reader = vtk.vtkXMLUnstructuredGridReader()
    reader.SetFileName(str(file))
    reader.Update()
    return reader.GetOutput()


@pytest.mark.parametrize("name", MESHES)
def test_paraview_sees_the_same_cells_and_fields(name, tmp_path):
    """Cells, their sizes and centres by VTK's own geometry; fields cell by cell."""
    m, g = mesh(name), measure(mesh(name))
    write_vtu(tmp_path / "fields.vtu", m, fields(m))
    grid = vtk_read(tmp_path / "fields.vtu")
    assert grid.GetNumberOfCells() == m.n_cells and grid.GetNumberOfPoints() == len(m.points)
    sizes = vtk.vtkCellSizeFilter()
    sizes.SetInputData(grid)
    sizes.Update()
    size = vtk_to_numpy(sizes.GetOutput().GetCellData().GetArray("Area" if m.dim == 2 else "Volume"))
    velocity, pressure = (vtk_to_numpy(grid.GetCellData().GetArray(k)) for k in ("velocity", "pressure"))
    # a file may order cells by kind: compare through their centres
    centres = np.array([np.mean([grid.GetPoint(grid.GetCell(i).GetPointId(j)) for j in range(grid.GetCell(i).GetNumberOfPoints())], 0)
                        for i in range(m.n_cells)])  # fmt: skip
    points = np.pad(np.asarray(m.points), [(0, 0), (0, 3 - m.dim)])
    own = np.array([points[row[row >= 0]].mean(0) for _, corners in m.topology.cells for row in corners])
    order = [int(np.argmin(np.linalg.norm(own - c, axis=1))) for c in centres]
    assert sorted(order) == list(range(m.n_cells))
    np.testing.assert_allclose(np.abs(size), g.V[order], rtol=1e-6 if m.dim == 2 else 0.1)  # curved faces are cut otherwise
    np.testing.assert_array_equal(velocity[:, : m.dim], fields(m)["velocity"][0][order])
    assert not velocity[:, m.dim :].any()
    np.testing.assert_array_equal(pressure, fields(m)["pressure"][0][order])


@pytest.mark.parametrize("name", MESHES)
def test_xarray_sees_fields_with_units_and_places(name, tmp_path):
    m, g = mesh(name), measure(mesh(name))
    dataset(m, fields(m), Named).to_netcdf(tmp_path / "fields.nc", engine="h5netcdf")
    with xarray.open_dataset(tmp_path / "fields.nc", engine="h5netcdf") as data:
        assert data["velocity"].dims == ("cell", "component") and data["velocity"].attrs["units"] == "m s^-1"
        assert data["pressure"].attrs["units"] == "m^2 s^-2" and data["x"].attrs["units"] == "m"
        np.testing.assert_array_equal(data["velocity"].sel(component="y"), fields(m)["velocity"][0][:, 1])
        np.testing.assert_array_equal(np.stack([data[a] for a in "xyz"[: m.dim]], 1), g.x_cell)
        assert set(data["velocity"].coords) >= {"x", "y", "component"}
        loops = data["cell_points"].values
        assert np.isnan(loops).any() or loops.dtype.kind == "i"
        if m.dim == 2:
            assert data["mesh"].attrs["topology_dimension"] == 2 and data["pressure"].attrs["mesh"] == "mesh"
            x, y = data["point_x"].values, data["point_y"].values
            for row, area in zip(loops, g.V, strict=True):  # the polygons are the cells, counter-clockwise
                k = row[~np.isnan(row)].astype(int)
                assert 0.5 * np.sum(x[k] * np.roll(y[k], -1) - np.roll(x[k], -1) * y[k]) == pytest.approx(area, rel=1e-10)


def test_a_run_leaves_them(simulation, design):
    for folder, which in ((simulation, ""), (design, ""), (design, "_start")):
        with np.load(folder / f"solution{which}.npz") as saved:
            state = saved["state"]
        with xarray.open_dataset(folder / f"fields{which}.nc", engine="h5netcdf") as data:
            velocity = data["velocity"].values
            np.testing.assert_array_equal(velocity.ravel(), state.reshape(36, 3)[:, :2].ravel())
            assert float(data["volume"].sum()) == pytest.approx(2.0)
            assert data["vorticity"].dims == ("cell",) and data["vorticity"].attrs["units"] == "s^-1"
            psi = data["stream_function"]
            assert psi.dims == ("point",) and psi.attrs["location"] == "node" and np.ptp(psi.values) == pytest.approx(1.0)
        at_points = vtk_read(folder / f"fields{which}.vtu").GetPointData().GetArray("stream_function")
        np.testing.assert_array_equal(vtk_to_numpy(at_points), psi)
        read = vtk_to_numpy(vtk_read(folder / f"fields{which}.vtu").GetCellData().GetArray("velocity"))
        np.testing.assert_array_equal(read[:, :2], velocity)


@pytest.mark.parametrize("kind", ["channel", "extruded"])
def test_walls_are_left_as_a_table_and_as_a_surface(kind, tmp_path):
    m = mesh(kind)
    walls = {p: fg.Wall() for p in m.patches if p not in ("inlet", "outlet", "left", "right")}
    ends = dict(zip([p for p in m.patches if p not in walls], (fg.Inflow(1.0), fg.Outflow()), strict=True))
    flow = fg.Flow(m, viscosity=0.5, reference=(2.0, 0.1), **walls, **ends)
    x = measure(m).x_cell
    save_walls(tmp_path, fg.Solution(flow, state_of(flow, 0 * x, 3 - x[:, 0]), None))
    table, surface = read_csv(tmp_path / "walls.csv"), vtk_read(tmp_path / "walls.vtu")
    count = sum(len(m.face_centers(p)) for p in walls)
    assert len(table["patch"]) == surface.GetNumberOfCells() == count and set(table["patch"]) == set(walls)
    found = np.array([[float(v) for v in table[k]] for k in ("x", "y", "pressure", "pressure_coefficient")])
    np.testing.assert_allclose(found[2], 3 - found[0], atol=0.02)
    np.testing.assert_allclose(found[3], found[2] / 2, rtol=1e-12)
    assert ("s" in table) == ("piece" in table) == (m.dim == 2) and "z" in table or m.dim == 2
    pressure = vtk_to_numpy(surface.GetCellData().GetArray("pressure"))
    np.testing.assert_allclose(sorted(pressure), sorted(found[2]), rtol=1e-12)  # a file may order cells by kind
    corners = [[surface.GetCell(i).GetPointId(j) for j in range(surface.GetCell(i).GetNumberOfPoints())] for i in range(count)]
    middle = np.array([np.mean([surface.GetPoint(j)[0] for j in cell]) for cell in corners])
    np.testing.assert_allclose(pressure, 3 - middle, atol=0.02)


def test_a_solution_of_another_flow_is_refused(simulation, tmp_path):
    from fluidgrad.app.config.problem import Problem
    from fluidgrad.app.config.reading import load

    flow = Problem.of(load(simulation / "config.toml", ["mesh.refine=2"]), "config.toml").case
    with pytest.raises(InputError, match="holds 108 unknowns, the flow has 432; the config and data of one run"):
        read_solution(simulation / "solution.npz", flow.flow(flow.numbers))
    np.savez(tmp_path / "other.npz", velocity=jnp.zeros(3))
    with pytest.raises(InputError, match="holds 0 unknowns"):
        read_solution(tmp_path / "other.npz", flow.flow(flow.numbers))
