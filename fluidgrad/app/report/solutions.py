"""A solution in a folder: its unknowns for fluidgrad itself, its fields for everybody else.

solution.npz    the unknowns, to the bit
fields.nc       NetCDF by xarray: fields in the cells with units, places and volumes; in 2D a mesh by the UGRID conventions
fields.vtu      the same for ParaView
walls.csv       pressure and shear on the walls, face by face, with their coefficients where the flow has a reference
walls.vtu       the same for ParaView, on the faces
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
from fluidgrad.plots.flow import stream_function
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
        "vorticity": (np.asarray(solution.vorticity), "T^-1", "vorticity"),
        "volume": (geometry(flow.mesh).V, f"L^{flow.mesh.dim}", "volume of the cell (2D: area)"),
    }
    if np.any(np.asarray(flow.porosity)):
        fields["porosity"] = (np.broadcast_to(flow.porosity, flow.mesh.n_cells), "T^-1", "resistance of the porous medium")
    fields |= more or {}
    psi = stream_function(solution)
    points: dict[str, Field] = {} if psi is None else {"stream_function": (psi, "L^2 T^-1", "stream function, zero on the first wall")}
    write(folder / f"fields{which}.nc", netcdf(dataset(flow.mesh, fields, config, points)))
    with replacing(folder / f"fields{which}.vtu") as file:
        write_vtu(file, flow.mesh, fields, points)
    save_walls(folder, solution, which)


def save_walls(folder: Path, solution: Solution, which: str = "") -> None:
    """Write what acts on the walls, if there are any: a row a face, those of a wall in order along it."""
    import jax
    import meshio

    mesh, walls = solution.flow.mesh, jax.tree.map(np.asarray, solution.walls)
    if not walls:
        return
    t, axes, in_space = mesh.topology, "xyz"[: mesh.dim], [(0, 0), (0, 3 - mesh.dim)]
    rows, faces, coefficients = [], [], ["pressure_coefficient", "friction_coefficient"] if solution.flow.reference else []
    along = ["piece", "s"] if mesh.dim == 2 else []
    for name, w in walls.items():
        piece = np.repeat(np.arange(1, len(w.pieces) + 1), [p.stop - p.start for p in w.pieces])
        columns = [*([piece, w.s] if along else []), *w.x.T, *w.n.T, w.area, w.pressure, *w.shear.T, w.friction]
        rows += zip([name] * len(w.x), *columns, *(getattr(w, c) for c in coefficients), strict=True)
        faces.append(t.faces_of(name).start + w.face)
    head = ["patch", *along, *axes, *(f"n{a}" for a in axes), "length" if along else "area", "pressure",
            *(f"shear_{a}" for a in axes), "friction", *coefficients]  # fmt: skip
    output.write_csv(folder / f"walls{which}.csv", head, rows)

    corners = t.face_points[np.concatenate(faces)]
    count = 1 + (np.diff(corners, axis=1) != 0).sum(1)
    some = {int(n): np.flatnonzero(count == n) for n in np.unique(count)}
    kinds = {2: "line", 3: "triangle", 4: "quad"}
    every = {"patch": np.repeat(np.arange(len(walls)), [len(w.x) for w in walls.values()])}
    every |= {
        k: np.concatenate([np.asarray(getattr(w, k)) for w in walls.values()]) for k in ("pressure", "shear", "friction", *coefficients)
    }
    data: dict[str, Any] = {k: [np.pad(v[r], in_space) if v.ndim == 2 else v[r] for r in some.values()] for k, v in every.items()}
    blocks: list[Any] = [(kinds.get(n, "polygon"), corners[r][:, :n]) for n, r in some.items()]
    with replacing(folder / f"walls{which}.vtu") as file:
        meshio.Mesh(np.pad(np.asarray(mesh.points), in_space), blocks, cell_data=data).write(file, file_format="vtu")


def solve_report(solution: Solution, seconds: float, devices: int = 1) -> dict[str, Any]:
    """How a solve went, for results.json."""
    from fluidgrad.solve.divided import exchanged

    r = solution.report
    several = {"devices": devices, "halo_bytes": exchanged(solution.flow, devices)[1]} if devices > 1 else {}
    return several | {
        "cells": solution.flow.mesh.n_cells,
        "residual": float(r.residual),
        "newton_steps": int(r.iterations),
        "products": int(r.products),
        "linear": r.linear,
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


def dataset(mesh: Mesh, fields: Mapping[str, Field], config: Config, at_points: Mapping[str, Field] | None = None) -> xarray.Dataset:
    """Fields on the cells of a mesh, and others at its points: dimensions ``cell``, ``component``, ``point``; coordinates x, y(, z)
    of the cells."""
    import xarray

    from fluidgrad import __version__

    axes, points, length = "xyz"[: mesh.dim], np.asarray(mesh.points), config.units.length

    def of(name: str, values: np.ndarray, units: str, what: str, place: str = "cell") -> xarray.DataArray:
        attributes = {"long_name": what, "units": named_units(units, "", config, mesh.dim)}
        attributes |= {"mesh": "mesh", "location": {"cell": "face", "point": "node"}[place]} if mesh.dim == 2 else {}
        return xarray.DataArray(values, dims=(place, "component")[: values.ndim], attrs=attributes, name=name)

    x_cell = geometry(mesh).x_cell
    data = xarray.Dataset(
        {name: of(name, *field) for name, field in fields.items()}
        | {name: of(name, *field, "point") for name, field in (at_points or {}).items()},
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


def write_vtu(file: Path, mesh: Mesh, fields: Mapping[str, Field], at_points: Mapping[str, Field] | None = None) -> None:
    """Fields on the cells of a mesh, and others at its points, as an unstructured grid of VTK."""
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
    point_data: dict[str, Any] = {name: values for name, (values, *_) in (at_points or {}).items()}
    points = np.pad(np.asarray(mesh.points), in_space)
    meshio.Mesh(points, blocks, point_data, data).write(file, file_format="vtu")


def _padded(blocks: list[np.ndarray]) -> np.ndarray:
    width = max(b.shape[1] for b in blocks)
    return np.concatenate([np.pad(b, [(0, 0), (0, width - b.shape[1])], constant_values=-1) for b in blocks]).astype(np.int32)
