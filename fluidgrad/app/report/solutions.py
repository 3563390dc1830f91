"""A solution in a folder: its unknowns for fluidgrad itself, its fields for everybody else.

solution.npz    the unknowns, to the bit
fields.nc       NetCDF by xarray: fields in the cells with units, places and volumes; in 2D a mesh by the UGRID conventions
fields.vtu      the same for ParaView
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fluidgrad.app.config.config import Config
from fluidgrad.app.config.quantities import named_units
from fluidgrad.app.report import output
from fluidgrad.errors import InputError
from fluidgrad.files import replacing, write
from fluidgrad.plots.interpolation import geometry

if TYPE_CHECKING:
    import xarray

    from fluidgrad.flow.flow import Flow
    from fluidgrad.flow.solution import Solution
    from fluidgrad.mesh.mesh import Mesh

Field = tuple[np.ndarray, str, str]  # values in the cells, units as powers of L and T, what it is


def save_solution(folder: Path, solution: Solution, config: Config, which: str = "", more: Mapping[str, Field] | None = None) -> None:
    """Write a solution; ``which`` follows the files' names, ``more`` are other fields on its cells."""
    from fluidgrad.flow.patches import pressure_name

    output.write_arrays(folder / f"solution{which}.npz", state=solution.state)
    flow = solution.flow
    pressure, what = pressure_name(flow, solution.state)
    fields: dict[str, Field] = {
        "velocity": (np.asarray(solution.velocity), "L T^-1", "velocity"),
        pressure: (np.asarray(solution.pressure), "L^2 T^-2", what),
        "volume": (geometry(flow.mesh).V, f"L^{flow.mesh.dim}", "volume of the cell (2D: area)"),
    }
    if np.any(np.asarray(flow.porosity)):
        fields["porosity"] = (np.broadcast_to(flow.porosity, flow.mesh.n_cells), "T^-1", "resistance of the porous medium")
    data = dataset(flow.mesh, fields | dict(more or {}), config)
    write(folder / f"fields{which}.nc", netcdf(data))
    with replacing(folder / f"fields{which}.vtu") as file:
        write_vtu(file, flow.mesh, fields | dict(more or {}))


def solve_report(solution: Solution, seconds: float) -> dict[str, Any]:
    """How a solve went, for results.json."""
    r = solution.report
    return {
        "cells": solution.flow.mesh.n_cells,
        "residual": float(r.residual),
        "newton_steps": int(r.iterations),
        "continuation_stages": int(r.solves),
        "seconds": round(seconds, 3),
    }


def read_solution(file: Path, flow: Flow) -> Solution:
    """A saved solution, on the flow that it solves.

    Raises:
        InputError: missing, damaged, or of another flow.
    """
    import jax.numpy as jnp

    from fluidgrad.flow.solution import Solution

    state = output.read_arrays(file).get("state", np.zeros(0))
    if state.shape != (flow.n_unknowns,):
        raise InputError(
            f"{str(file)!r} holds {state.size} unknowns, the flow has {flow.n_unknowns}", accepted="the config and data of one run"
        )
    return Solution(flow, jnp.asarray(state), None)  # pyright: ignore[reportArgumentType]


def dataset(mesh: Mesh, fields: Mapping[str, Field], config: Config) -> xarray.Dataset:
    """Fields on the cells of a mesh: dimensions ``cell``, ``component``, ``point``; coordinates x, y(, z) of the cells."""
    import xarray

    from fluidgrad import __version__

    axes, points, length = "xyz"[: mesh.dim], np.asarray(mesh.points), config.units.length

    def of(name: str, values: np.ndarray, units: str, what: str) -> xarray.DataArray:
        attributes = {"long_name": what, "units": named_units(units, "", config, mesh.dim)}
        attributes |= {"mesh": "mesh", "location": "face"} if mesh.dim == 2 else {}
        return xarray.DataArray(values, dims=("cell", "component")[: values.ndim], attrs=attributes, name=name)

    x_cell = geometry(mesh).x_cell
    data = xarray.Dataset(
        {name: of(name, *field) for name, field in fields.items()},
        coords={axis: ("cell", x_cell[:, i], {"units": length, "long_name": f"{axis} of the cell's centre"}) for i, axis in enumerate(axes)}
        | {f"point_{axis}": ("point", points[:, i], {"units": length, "long_name": f"{axis} of the point"}) for i, axis in enumerate(axes)}
        | {"component": list(axes)},
        attrs={"source": f"fluidgrad {__version__}", "Conventions": "CF-1.11 UGRID-1.0"},
    )
    loops = _padded([corners for _, corners in mesh.topology.cells])
    about: dict[str, Any] = {"long_name": "points of each cell", "start_index": 0, "cf_role": "face_node_connectivity"}
    if (loops < 0).any():  # cells of several kinds; readers turn a table with gaps into floats
        about["_FillValue"] = np.int32(-1)
    data["cell_points"] = (("cell", "corner"), loops, about)
    if mesh.dim == 2:
        topology = {"cf_role": "mesh_topology", "topology_dimension": 2, "node_coordinates": "point_x point_y",
                    "face_node_connectivity": "cell_points", "face_coordinates": "x y", "face_dimension": "cell"}  # fmt: skip
        data["mesh"] = ((), np.int32(0), topology)
    return data


def netcdf(data: xarray.Dataset) -> bytes:
    """A dataset as the bytes of a file. In memory, since HDF5 can crash the process where a disk is full."""
    stream = io.BytesIO()
    data.to_netcdf(stream, engine="h5netcdf")
    return stream.getvalue()


def write_vtu(file: Path, mesh: Mesh, fields: Mapping[str, Field]) -> None:
    """Fields on the cells of a mesh, as an unstructured grid of VTK."""
    import meshio

    blocks, rows, first = [], [], 0
    for kind, corners in mesh.topology.cells:
        number = np.arange(first, first + len(corners))
        first += len(corners)
        counts = (corners >= 0).sum(1)
        for n in np.unique(counts):  # polygons are padded, a block of a file is not
            some = counts == n
            blocks.append((kind, corners[some][:, :n]))
            rows.append(number[some])
    in_space = [(0, 0), (0, 3 - mesh.dim)]
    data: dict[str, Any] = {
        name: [np.pad(values[r], in_space) if values.ndim == 2 else values[r] for r in rows] for name, (values, *_) in fields.items()
    }
    meshio.Mesh(np.pad(np.asarray(mesh.points), in_space), blocks, cell_data=data).write(file, file_format="vtu")


def _padded(blocks: list[np.ndarray]) -> np.ndarray:
    width = max(b.shape[1] for b in blocks)
    return np.concatenate([np.pad(b, [(0, 0), (0, width - b.shape[1])], constant_values=-1) for b in blocks]).astype(np.int32)
