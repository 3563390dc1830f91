"""Malformed input of every kind: exit code 2, one line on stderr that says what is wrong, and never a traceback."""

import copy
import os
import random
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_config import BAD, CASES, FILES

from fluidgrad.app.cli import main
from fluidgrad.app.report.output import toml

TINY = """
[mesh]
kind = "box"
cells = [4, 3]
patches = { left = "inlet", right = "outlet", bottom = "walls", top = "walls" }

[flow]
viscosity = 0.1

[boundary]
inlet  = { kind = "inflow", profile = { kind = "nodes", values = [1.0, 2.0, 1.0] } }
outlet = { kind = "outflow" }
walls  = { kind = "wall" }

[[design]]
vary = "boundary.inlet.profile.values"
bounds = [0.0, 3.0]

[objective]
minimize = { functional = "drag", patch = "walls" }
"""

# what --set puts over the tiny config, and what is said of it
# fmt: off
SETTINGS = [
    ('mesh=3', 'mesh must be a table {...}, got 3 (--set mesh)'),
    ('mesh={}', 'mesh needs a kind (--set mesh)'),
    ('mesh=[]', 'mesh must be a table {...}, got [] (--set mesh)'),
    ('mesh.kind=3', "mesh has the unknown kind '3' (--set mesh.kind)"),
    ('mesh.kind=[]', "mesh has the unknown kind '[]' (--set mesh.kind)"),
    ('mesh.lower=[0.0]', 'lower has 1 entries, at least 2 are needed (--set mesh.lower)'),
    ('mesh.lower=0.0', 'lower must be a list [...], got 0.0 (--set mesh.lower)'),
    ('mesh.lower=["a", "b"]', 'lower[0] must be a number, got "a" (--set mesh.lower.0)'),
    ('mesh.lower=[nan, 0.0]', 'lower[0] must be a finite number, got nan (--set mesh.lower.0)'),
    ('mesh.lower=[1.0, 1.0]', 'a box from [1. 1.] to [1. 1.] ([mesh] in case.toml)'),
    ('mesh.lower=[2.0, 2.0]', 'a box from [2. 2.] to [1. 1.] ([mesh] in case.toml)'),
    ('mesh.upper=[inf, 1.0]', 'upper[0] must be a finite number, got inf (--set mesh.upper.0)'),
    ('mesh.cells=0', 'cells must be at least 1, got 0 (--set mesh.cells)'),
    ('mesh.cells=-4', 'cells must be at least 1, got -4 (--set mesh.cells)'),
    ('mesh.cells=[4]', 'cells has 1 entries, at least 2 are needed (--set mesh.cells)'),
    ('mesh.cells=[4, 3, 2]', 'cells has 3 entries, at most 2 are accepted (--set mesh.cells)'),
    ('mesh.cells=[4, 0]', 'cells[1] must be at least 1, got 0 (--set mesh.cells.1)'),
    ('mesh.cells=[2000, 2000]', '4000000 cells ([mesh] in case.toml)'),
    ('mesh.cells=1e3', 'cells must be a whole number or a list [...], got 1000.0 (--set mesh.cells)'),
    ('mesh.cells="many"', 'cells must be a whole number or a list [...], got "many" (--set mesh.cells)'),
    ('mesh.cells=[4, "3"]', 'cells[1] must be a whole number, got "3" (--set mesh.cells.1)'),
    ('mesh.cells=true', 'cells must be a whole number or a list [...], got true (--set mesh.cells)'),
    ('mesh.grading=nan', 'grading must be a finite number or a list [...], got nan (--set mesh.grading)'),
    ('mesh.grading=-1.0', 'grading must be at least 0, got -1.0 (--set mesh.grading)'),
    ('mesh.grading=1e6', 'grading must be at most 10, got 1000000.0 (--set mesh.grading)'),
    ('mesh.grading=[1.0]', 'grading has 1 entries, at least 2 are needed (--set mesh.grading)'),
    ('mesh.grading="strong"', 'grading must be a number or a list [...], got "strong" (--set mesh.grading)'),
    ('mesh.refine=65', 'refine must be at most 64, got 65 (--set mesh.refine)'),
    ('mesh.refine=1.5', 'refine must be a whole number, got 1.5 (--set mesh.refine)'),
    ('mesh.patches=[]', 'patches must be a table {...}, got [] (--set mesh.patches)'),
    ('mesh.patches.lft="inlet"', 'lft must be one of left, right, bottom, top, got "lft" (--set mesh.patches.lft)'),
    ('mesh.patches.left=3', 'left must be text in quotes ("...") or a list [...], got 3 (--set mesh.patches.left)'),
    ('mesh.patches.left=""', 'left must be text that is not empty or a list [...], got "" (--set mesh.patches.left)'),
    ('mesh.patches.left=[]', 'left has 0 entries, at least 1 are needed (--set mesh.patches.left)'),
    ('mesh.patches.left=["inlet"]', 'left[0] must be a list [...], got "inlet" (--set mesh.patches.left.0)'),
    ('mesh.patches.left=[["inlet", 0.0]]', 'left[0][2] is missing (--set mesh.patches.left.0.2)'),
    ('mesh.patches.left=[["inlet", 0.0, 0.5]]', 'the intervals of the left side do not cover it: inlet 0 to 0.5 ([mesh] in case.toml)'),
    ('mesh.patches.left=[["inlet", 0.5, 0.0]]', 'the intervals of the left side do not cover it: inlet 0.5 to 0 ([mesh] in case.toml)'),
    ('mesh.patches.left=[["inlet", 0.0, 0.5], ["walls", 0.7, 1.0]]',
     'the intervals of the left side do not cover it: inlet 0 to 0.5, walls '),
    ('mesh.patches.left=[["inlet", 0.0, 0.5, 1.0]]', 'left[0] has 4 entries, at most 3 are accepted (--set mesh.patches.left.0)'),
    ('mesh.patches.left=[[1, 0.0, 0.5]]', 'left[0][0] must be text in quotes ("..."), got 1 (--set mesh.patches.left.0.0)'),
    ('mesh.patches.left=[["inlet", nan, 0.5]]', 'left[0][1] must be a finite number, got nan (--set mesh.patches.left.0.1)'),
    ('mesh.extrude=true', 'extrude must be a table {...}, got true (--set mesh.extrude)'),
    ('mesh.extrude={}', 'height is missing (--set mesh.extrude.height)'),
    ('mesh.extrude={height=1.0}', 'layers is missing (--set mesh.extrude.layers)'),
    ('mesh.extrude={height=-1.0, layers=1}', 'height must be positive, got -1.0 (--set mesh.extrude.height)'),
    ('mesh.extrude={height=1.0, layers=0}', 'layers must be at least 1, got 0 (--set mesh.extrude.layers)'),
    ('mesh.extrude={height=1.0, layers=2, patches=["a"]}', 'patches has 1 entries, at least 2 are needed (--set mesh.extrude.patches)'),
    ('mesh.extrude={height=1.0, layers=2, patches=["a", "a"]}', "patch 'a' has no boundary condition ([boundary] in case.toml)"),
    ('mesh.extrude={height=1.0, layers=2}', "patch 'back' has no boundary condition ([boundary] in case.toml)"),
    ('mesh.extrude={height=1.0, layers=10000000}', '120000000 cells ([mesh] in case.toml)'),
    ('mesh.length=1.0', "unknown key 'length' (--set mesh.length)"),
    ('mesh={kind="channel"}', 'length is missing (--set mesh.length)'),
    ('mesh={kind="channel", length=-1.0, height=1.0}', 'length must be positive, got -1.0 (--set mesh.length)'),
    ('mesh={kind="channel", length=1.0, height=0.0}', 'height must be positive, got 0.0 (--set mesh.height)'),
    ('mesh={kind="channel", length=1.0, height=1.0, cells=3}', 'cells must be at least 4, got 3 (--set mesh.cells)'),
    ('mesh={kind="channel", length=1e9, height=1.0, cells=100}', 'cells = 100 is too coarse for this channel ([mesh] in case.toml)'),
    ('mesh={kind="channel", length=1.0, height=1.0, body=3}', 'body must be a table {...}, got 3 (--set mesh.body)'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={}}', 'body needs a kind (--set mesh.body)'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="circle"}}', 'center is missing (--set mesh.body.center)'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="circle", center=[0.5, 0.5], radius=0.0}}',
     'radius must be positive, got 0.0'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="circle", center=[0.5, 0.5], radius=2.0}}',
     'body touches or crosses the inle'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="circle", center=[5.0, 0.5], radius=0.1}}',
     'body touches or crosses the outl'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="ellipse", center=[0.5, 0.5], radii=[0.1]}}',
     'radii has 1 entries, at least '),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="ellipse", center=[0.5, 0.5], radii=[0.1, -0.1]}}',
     'radii[1] must be positive'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="ellipse", center=[0.5, 0.5], radii=[0.1, 0.1], angle="30"}}',
     'angle must be a number, g'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="fourier", center=[0.5, 0.5], radius=0.1}}', 'modes is missing'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="fourier", center=[0.5, 0.5], radius=0.1, modes=0}}',
     'modes must be a list [...'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="fourier", center=[0.5, 0.5], radius=0.1, modes=[]}}',
     'modes has 0 entries, at l'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="fourier", center=[0.5, 0.5], radius=0.1, modes=201}}',
     'modes must be a list [...'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="fourier", center=[0.5, 0.5], radius=0.1, modes=[[0.1]]}}',
     'modes[0] has 1 entries, a'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="fourier", center=[0.5, 0.5], radius=0.1, modes=[[2.0, 0.0]]}}',
     'a Fourier curve passes th'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="points"}}', 'points is missing (--set mesh.body.points)'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="points", points=[]}}', 'points has 0 entries, at least 3 are needed'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="points", points=[[0.4, 0.4], [0.6, 0.4], [0.5, 0.6]]}}',
     'a curve through 3 points'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="points", points=[[0.4, 0.4], [0.4, 0.4], [0.6, 0.4], [0.5, 0.6]]}}',
     'points 1 and 2 of a curve'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="points", points=[0.4, 0.4, 0.6]}}',
     'points[0] must be a list [...], got 0.4'),
    ('mesh={kind="channel", length=1.0, height=1.0, body={kind="points", points=[[0.4, 0.4], [0.6, 0.4], [0.5, 0.6, 0.1]]}}',
     'points[2] has 3 entries, '),
    ('mesh={kind="channel", length=1.0, height=1.0, bodies=[]}', 'bodies must be a table {...}, got [] (--set mesh.bodies)'),
    ('mesh={kind="channel", length=1.0, height=1.0, bodies={walls={kind="circle", center=[0.5, 0.5], radius=0.1}}}',
     "a body cannot be called '"),
    ("mesh={kind='channel', length=1.0, height=1.0, bodies.a={kind='circle', center=[0.5, 0.5], radius=0.1}, "
     "bodies.b={kind='circle', center=[0.5, 0.5], radius=0.1}}",
     "a and b are too close: the rectangles round them overlap ([mesh] in case.toml)"),
    ('mesh={kind="o_grid"}', 'body is missing (--set mesh.body)'),
    ('mesh={kind="o_grid", outer=2.0}', 'body is missing (--set mesh.body)'),
    ('mesh={kind="o_grid", outer=0.5, body={kind="circle", center=[0.0, 0.0], radius=1.0}}',
     'the outer curve of an O-grid is not larger tha'),
    ('mesh={kind="o_grid", outer=2.0, cells=2, body={kind="circle", center=[0.0, 0.0], radius=1.0}}', 'cells = 2 ([mesh] in case.toml)'),
    ('mesh={kind="o_grid", outer=2.0, grading=0.0, body={kind="circle", center=[0.0, 0.0], radius=1.0}}',
     'grading must be positive, got 0.0'),
    ('mesh={kind="o_grid", outer=2.0, cells=[2, 2], body={kind="circle", center=[0.0, 0.0], radius=1.0}}', 'cells = [2, 2]'),
    ('mesh={kind="duct"}', 'a duct of nothing ([mesh] in case.toml); lower and upper, or centerline and width'),
    ('mesh={kind="duct", uper=3}', "unknown key 'uper' (--set mesh.uper); did you mean 'upper'?"),
    ('mesh={kind="duct", lower={kind="circle", center=[0.0, 0.0], radius=1.0}}', "unknown key 'center' (--set mesh.lower.center)"),
    ('mesh={kind="duct", lower={kind="spline", control=[[0.0, 0.0]]}}', 'control has 1 entries, at least 2 are needed'),
    ('mesh={kind="duct", lower={kind="spline", control=[[0.0, 0.0], [2.0, 0.0]]}, upper={kind="spline", control=[[2.0, 1.0], [0.0, 1.0]]}}',
     'the walls run in opposite directions ([mesh] in case.toml); both from inlet to outlet'),
    ('mesh={kind="duct", lower={kind="spline", control=[[0.0, 0.0], [2.0, 2.0]]}, upper={kind="spline", control=[[0.0, 1.0], [2.0, 1.0]]}}',
     'the walls cross or touch near (0.995, 0.995) ([mesh] in case.toml)'),
    ('mesh={kind="duct", centerline={kind="spline", control=[[0.0, 0.0], [2.0, 0.0]]}, width=-1.0}', 'width'),
    ('mesh={kind="step", height=1.0, step_height=0.0, before=1.0, after=4.0}', 'step_height must be positive, got 0.0'),
    ('design=[{vary="boundary.inlet.profile.values", bounds=[[[0.0], [1.0, 2.0]], 3.0]}]', 'bounds of rows that are not equally long'),
    ('mesh={kind="file"}', 'path is missing (--set mesh.path)'),
    ('mesh={kind="file", path=3}', 'path must be text in quotes ("..."), got 3 (--set mesh.path)'),
    ('mesh={kind="file", path=""}', "'' is not the name of a file (--set mesh)"),
    ('mesh={kind="file", path="."}', "is a folder, not a mesh file ([mesh] in case.toml)"),
    ('mesh={kind="file", path="a.vtk"}', "a.vtk' ([mesh] in case.toml); a gmsh .msh file"),
    ('flow=3', 'flow must be a table {...}, got 3 (--set flow)'),
    ('flow={}', 'viscosity is missing (--set flow.viscosity)'),
    ('flow.viscosity=0', 'viscosity must be positive, got 0 (--set flow.viscosity)'),
    ('flow.viscosity=inf', 'viscosity must be a finite number, got inf (--set flow.viscosity)'),
    ('flow.viscosity=1e400', 'viscosity must be a finite number, got inf (--set flow.viscosity)'),
    ('flow.viscosity=2024-01-01', 'viscosity must be a number, got datetime.date(2024, 1, 1) (--set flow.viscosity)'),
    ('flow.viscosity=[1.0]', 'viscosity must be a number, got [1.0] (--set flow.viscosity)'),
    ('flow.viscosity="1e-3"', 'viscosity must be a number, got "1e-3" (--set flow.viscosity)'),
    ('flow.viscosity={a=1}', 'viscosity must be a number, got {"a": 1} (--set flow.viscosity)'),
    ('flow.viscosity=', 'viscosity must be a number, got "" (--set flow.viscosity)'),
    ('flow.convection="false"', 'convection must be true or false, got "false" (--set flow.convection)'),
    ('flow.scheme=3', 'scheme must be one of central, upwind, got 3 (--set flow.scheme)'),
    ('flow.force=1.0', 'force must be a list [...], got 1.0 (--set flow.force)'),
    ('flow.force=[1.0]', 'force has 1 entries, at least 2 are needed (--set flow.force)'),
    ('flow.force=[1.0, 2.0, 3.0]', 'force has 3 entries, and the mesh has 2 dimensions ([flow] force in case.toml)'),
    ('flow.force=[1.0, 2.0, 3.0, 4.0]', 'force has 4 entries, at most 3 are accepted (--set flow.force)'),
    ('flow.force=["x", "y"]', 'force[0] must be a number, got "x" (--set flow.force.0)'),
    ('flow.reference={}', 'velocity is missing (--set flow.reference.velocity)'),
    ('flow.reference={velocity=1.0}', 'length is missing (--set flow.reference.length)'),
    ('flow.reference={velocity=0.0, length=1.0}', 'velocity must be positive, got 0.0 (--set flow.reference.velocity)'),
    ('flow.reference={velocity=1.0, length=-1.0}', 'length must be positive, got -1.0 (--set flow.reference.length)'),
    ('flow.reference=[1.0, 1.0]', 'reference must be a table {...}, got [1.0, 1.0] (--set flow.reference)'),
    ('flow.reference.velocity=1.0', 'length is missing (--set flow.reference.velocity)'),
    ('flow.referense.velocity=1.0', "unknown key 'referense' (--set flow.referense.velocity)"),
    ('porosity=1.0', 'porosity must be a table {...}, got 1.0 (--set porosity)'),
    ('porosity.density=-1.0', 'density must be at least 0, got -1.0 (--set porosity.density)'),
    ('porosity.density=[1.0]', 'density must be a number, got [1.0] (--set porosity.density)'),
    ('porosity.per_cell=1', 'per_cell must be true or false, got 1 (--set porosity.per_cell)'),
    ('porosity.densty=1.0', "unknown key 'densty' (--set porosity.densty)"),
    ('boundary=3', 'boundary must be a table {...}, got 3 (--set boundary)'),
    ('boundary={}', "patch 'inlet' has no boundary condition ([boundary] in case.toml)"),
    ('boundary=[]', 'boundary must be a table {...}, got [] (--set boundary)'),
    ('boundary.inlet=3', 'inlet must be a table {...}, got 3 (--set boundary.inlet)'),
    ('boundary.inlet="inflow"', 'inlet must be a table {...}, got "inflow" (--set boundary.inlet)'),
    ('boundary.inlet=[]', 'inlet must be a table {...}, got [] (--set boundary.inlet)'),
    ('boundary.inlet.kind=3', "inlet has the unknown kind '3' (--set boundary.inlet.kind)"),
    ('boundary.inlet.kind="inflw"', "inlet has the unknown kind 'inflw' (--set boundary.inlet.kind)"),
    ('boundary.inlet.speeed=1', "unknown key 'speeed' (--set boundary.inlet.speeed)"),
    ('boundary.inlet={kind="inflow", speed="fast"}', 'speed must be a number or a list [...], got "fast" (--set boundary.inlet.speed)'),
    ('boundary.inlet={kind="inflow", speed=[]}', "speed of patch 'inlet' has shape (0,) (case.toml)"),
    ('boundary.inlet={kind="inflow", speed=[nan]}', 'speed[0] must be a finite number, got nan (--set boundary.inlet.speed.0)'),
    ('boundary.inlet={kind="inflow", speed=[[1.0]]}', 'speed[0] must be a number, got [1.0] (--set boundary.inlet.speed.0)'),
    ('boundary.inlet={kind="inflow", velocity=1.0}', 'velocity must be a list [...], got 1.0 (--set boundary.inlet.velocity)'),
    ('boundary.inlet={kind="inflow", velocity=[1.0]}', 'velocity has 1 entries, at least 2 are needed (--set boundary.inlet.velocity)'),
    ('boundary.inlet={kind="inflow", velocity=[1.0, 2.0, 3.0]}', 'velocity has 3 entries, and the mesh has 2 dimensions'),
    ('boundary.inlet={kind="inflow", velocity=[1.0, 2.0, 3.0, 4.0]}', 'velocity has 4 entries, at most 3 are accepted'),
    ('boundary.inlet={kind="inflow", profile=3}', 'profile must be a table {...}, got 3 (--set boundary.inlet.profile)'),
    ('boundary.inlet={kind="inflow", profile={kind="parabola"}}', 'mean is missing (--set boundary.inlet.profile.mean)'),
    ('boundary.inlet={kind="inflow", profile={kind="parabola", mean="0.2"}}', 'mean must be a number, got "0.2"'),
    ('boundary.inlet={kind="inflow", profile={kind="parabla", mean=0.2}}', "profile has the unknown kind 'parabla'"),
    ('boundary.inlet={kind="inflow", profile={kind="nodes"}}', 'a profile of nodes without values (--set boundary.inlet.profile)'),
    ('boundary.inlet={kind="inflow", profile={kind="nodes", values=[]}}', 'values has 0 entries, at least 1 are needed'),
    ('boundary.inlet={kind="inflow", profile={kind="nodes", values=0.1}}', 'values must be a list [...], got 0.1'),
    ('boundary.inlet={kind="inflow", profile={kind="nodes", values=["a"]}}', 'values[0] must be a number, got "a"'),
    ('boundary.inlet={kind="inflow", profile={kind="nodes", count=0, mean=1.0}}', 'count must be at least 1, got 0'),
    ('boundary.inlet={kind="inflow", profile={kind="nodes", count=20000, mean=1.0}}', 'count must be at most 10000, got 20000'),
    ('boundary.inlet={kind="inflow", profile={kind="nodes", count=4, start="flat", mean=1.0}}',
     'start must be one of parabola, uniform, got'),
    ('boundary.inlet={kind="inflow", profile={kind="nodes", count=4, start="flat"}}', 'start must be one of parabola, uniform, got "flat"'),
    ('boundary.inlet={kind="inflow", profile={kind="nodes", file=3}}', 'file must be text in quotes ("..."), got 3'),
    ('boundary.inlet={kind="inflow", profile={kind="nodes", file="."}}', "cannot read the table '.': Is a directory"),
    ('boundary.inlet={kind="inflow", profile={kind="nodes", file=""}}', "'' is not the name of a file (--set boundary.inlet.profile)"),
    ('boundary.inlet={kind="inflow", profile={kind="nodes", file="none.csv"}}',
     "cannot read the table 'none.csv': No such file or directory"),
    ('boundary.inlet={kind="inflow", profile={kind="nodes", file="case.toml", values=[1.0]}}', 'both file and values are given'),
    ('boundary.inlet={kind="inflow", profile={kind="nodes", file="a\\u0000b"}}', "'a\\x00b' is not the name of a file"),
    ('boundary.walls.velocity=1.0', 'velocity must be a list [...], got 1.0 (--set boundary.walls.velocity)'),
    ('boundary.walls.velocity=[1.0, 0.0, 0.0]', 'velocity has 3 entries, and the mesh has 2 dimensions'),
    ('boundary.walls.rotation=[1.0, 0.0, 0.0]', "rotation of patch 'walls' has shape (3,) (case.toml)"),
    ('boundary.walls.rotation=1.0', "patch 'walls' is not round, and turning about its middle would carry fluid through it"),
    ('boundary.walls.rotation="fast"', 'rotation must be a number or a list [...], got "fast" (--set boundary.walls.rotation)'),
    ('boundary.walls.rotation=[1.0]', "rotation of patch 'walls' has shape (1,) (case.toml)"),
    ('boundary.walls.center=0.0', 'center must be a list [...], got 0.0 (--set boundary.walls.center)'),
    ('boundary.walls.center=[0.0, 0.0, 0.0]', 'center has 3 entries, and the mesh has 2 dimensions ([boundary] walls.center in case.toml)'),
    ('boundary.walls.speed=1.0', "unknown key 'speed' (--set boundary.walls.speed)"),
    ('boundary.outlet.pressure="low"', 'pressure must be a number or a list [...], got "low" (--set boundary.outlet.pressure)'),
    ('boundary.outlet.pressure=[1.0, 2.0]', "pressure of patch 'outlet' has shape (2,) (case.toml)"),
    ('boundary.outlet.pressure=nan', 'pressure must be a finite number or a list [...], got nan (--set boundary.outlet.pressure)'),
    ('boundary.outlet.tangential="none"', 'tangential must be one of free, zero, got "none" (--set boundary.outlet.tangential)'),
    ('boundary.outlet={kind="pressure_inlet"}', 'total_pressure is missing (--set boundary.outlet.total_pressure)'),
    ('boundary.outlet={kind="pressure_inlet", total_pressure="a"}', 'total_pressure must be a number or a list [...], got "a"'),
    ('boundary.outlet={kind="pressure_inlet", total_pressure=[1.0]}', "total_pressure of patch 'outlet' has shape (1,) (case.toml)"),
    ('boundary.outlet={kind="symmetry", pressure=1.0}', "unknown key 'pressure' (--set boundary.outlet.pressure)"),
    ('boundary.outlet={kind="far_field"}', 'velocity is missing (--set boundary.outlet.velocity)'),
    ('boundary.outlet={kind="far_field", velocity=[0.0, 0.0]}', "the stream of patch 'outlet' is at rest (case.toml)"),
    ('boundary.outlet={kind="far_field", velocity=1.0}', 'velocity must be a list [...], got 1.0 (--set boundary.outlet.velocity)'),
    ('boundary.outlet={kind="far_field", velocity=[1.0, 0.0, 0.0]}', 'velocity has 3 entries, and the mesh has 2 dimensions'),
    ('boundary.outlet={kind="periodic"}', 'other is missing (--set boundary.outlet.other)'),
    ('boundary.outlet={kind="periodic", other=3}', 'other must be text in quotes ("..."), got 3 (--set boundary.outlet.other)'),
    ('boundary.outlet={kind="periodic", other="outlet"}', "patch 'outlet' is periodic with itself (case.toml)"),
    ('boundary.outlet={kind="periodic", other="nowhere"}', "the mesh has no patch 'nowhere' ([boundary] in case.toml)"),
    ('boundary.outlet={kind="periodic", other="inlet"}', "patch 'inlet' has a condition of its own, but 'outlet' is periodic with it"),
    ('boundary.outlet={kind="periodic", other="walls"}', "patch 'walls' has a condition of its own, but 'outlet' is periodic with it"),
    ('boundary.outlet={kind="periodic", other="inlet", flow_rate="a"}', 'flow_rate must be a number, got "a"'),
    ('boundary.nowhere={kind="wall"}', "the mesh has no patch 'nowhere' ([boundary] in case.toml)"),
    ('boundary.""={kind="wall"}', "'boundary.\"\"' has an empty part"),
    ('boundary."no.where"={kind="wall"}', "the mesh has no patch 'no.where' ([boundary] in case.toml)"),
    ('design=3', 'design must be a list [...], got 3 (--set design)'),
    ('design={}', 'design must be a list [...], got {} (--set design)'),
    ('design=[3]', 'design[0] must be a table {...}, got 3 (--set design.0)'),
    ('design=[{}]', 'vary is missing (--set design.0.vary)'),
    ('design=[{vary="flow.viscosity"}]', 'bounds is missing (--set design.0.bounds)'),
    ('design=[{bounds=[0.0, 1.0]}]', 'vary is missing (--set design.0.vary)'),
    ('design=[{vary=3, bounds=[0.0, 1.0]}]', 'vary must be text in quotes ("..."), got 3 (--set design.0.vary)'),
    ('design=[{vary="", bounds=[0.0, 1.0]}]', "there is no number '' ([[design]] 1 vary in case.toml)"),
    ('design=[{vary=".", bounds=[0.0, 1.0]}]', "there is no number '.' ([[design]] 1 vary in case.toml)"),
    ('design=[{vary="flow", bounds=[0.0, 1.0]}]', "there is no number 'flow' ([[design]] 1 vary in case.toml)"),
    ('design=[{vary="flow.viscosty", bounds=[0.0, 1.0]}]', "there is no number 'flow.viscosty' ([[design]] 1 vary in case.toml)"),
    ('design=[{vary="mesh.cells", bounds=[0.0, 1.0]}]', "there is no number 'mesh.cells' ([[design]] 1 vary in case.toml)"),
    ('design=[{vary="flow.scheme", bounds=[0.0, 1.0]}]', "there is no number 'flow.scheme' ([[design]] 1 vary in case.toml)"),
    ('design=[{vary="flow.force", bounds=[0.0, 1.0]}]', "there is no number 'flow.force' ([[design]] 1 vary in case.toml)"),
    ('design.0.bounds=[0.0, 1.0, 2.0]', 'bounds has 3 entries, at most 2 are accepted (--set design.0.bounds)'),
    ('design.0.bounds=0.5', 'bounds must be a list [...], got 0.5 (--set design.0.bounds)'),
    ('design.0.bounds=[nan, 1.0]', 'bounds[0] must be a finite number or a list [...], got nan (--set design.0.bounds.0)'),
    ('design.0.bounds=[0.0, inf]', 'bounds[1] must be a finite number or a list [...], got inf (--set design.0.bounds.1)'),
    ('design.0.bounds=["a", "b"]', 'bounds[0] must be a number or a list [...], got "a" (--set design.0.bounds.0)'),
    ('design.0.bounds=[3.0, 0.0]', 'the bounds of boundary.inlet.profile.values[0] are [3, 0] ([[design]] in case.toml)'),
    ('design.0.bounds=[0.0, 0.5]', 'the start of boundary.inlet.profile.values[0] is 1, outside its bounds [0, 0.5]'),
    ('design.0.bounds=[[0.0, 0.0], 3.0]', 'bounds of shape (2,) do not fit a design of shape (3,) ([[design]] in case.toml)'),
    ('design.0.bounds=[[0.0, 0.0, 0.0, 0.0], 3.0]', 'bounds of shape (4,) do not fit a design of shape (3,) ([[design]] in case.toml)'),
    ('design.0.bounds=[[0.0, nan, 0.0], 3.0]', 'bounds[0][1] must be a finite number or a list [...], got nan (--set design.0.bounds.0.1)'),
    ('design.0.bounds=[[], 3.0]', 'bounds of shape (0,) do not fit a design of shape (3,) ([[design]] in case.toml)'),
    ('design.0.bounds=[1.0, 1.0]',
     'the start of boundary.inlet.profile.values[1] is 2, outside its bounds [1, 1] ([[design]] in case.toml)'),
    ('design.0.bound=[1.0, 1.0]', "unknown key 'bound' (--set design.0.bound)"),
    ('design.1.bounds=[0.0, 1.0]', '--set design.1.bounds: there is no design.1'),
    ('design.-1.bounds=[0.0, 1.0]', '--set design.-1.bounds: there is no design.-1'),
    ('design.x.bounds=[0.0, 1.0]', '--set design.x.bounds: there is no design.x'),
    ('design.0=3', 'design[0] must be a table {...}, got 3 (--set design.0)'),
    ('design=[{vary="boundary.inlet.profile.values", bounds=[0.0, 3.0]}, {vary="boundary.inlet.profile.values", bounds=[0.0, 3.0]}]',
     "'boundary.inlet.profile.v"),
    ('objective=3', 'objective must be a table {...}, got 3 (--set objective)'),
    ('objective={}', 'an objective needs one of minimize and maximize (--set objective)'),
    ('objective.minimize=3', 'minimize must be a table {...}, got 3 (--set objective.minimize)'),
    ('objective.minimize="drag"', 'minimize must be a table {...}, got "drag" (--set objective.minimize)'),
    ('objective.minimize={}', 'functional is missing (--set objective.minimize.functional)'),
    ('objective.minimize={functional=3}', 'functional must be text in quotes ("..."), got 3 (--set objective.minimize.functional)'),
    ('objective.minimize={functional="drg", patch="walls"}', "there is no functional 'drg' ([objective] minimize in case.toml)"),
    ('objective.minimize={functional="drag"}', 'drag needs patch ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="drag", patch=3}', 'the mesh has no patch 3 ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="drag", patch=[]}', 'drag needs patch ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="drag", patch=["walls", "wals"]}', "the mesh has no patch 'wals' ([objective] minimize in case.toml)"),
    ('objective.minimize={functional="drag", patch=["walls", "walls"]}',
     "drag of 'walls' twice ([objective] minimize in case.toml); each patch once"),
    ('objective.minimize={functional="drag", patch=[3]}', 'the mesh has no patch 3 ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="drag", patch=[["walls"]]}', "the mesh has no patch ['walls'] ([objective] minimize in case.toml)"),
    ('objective.minimize={functional="drag", patch="walls", centre=[0.0, 0.0]}', "drag has no argument 'centre'"),
    ('objective.minimize={functional="drag_coefficient", patch="walls"}', 'a coefficient needs a reference velocity and length'),
    ('objective.minimize={functional="flow_rate", patch=["inlet", "outlet"]}', "the mesh has no patch ['inlet', 'outlet']"),
    ('objective.minimize={functional="flow_rate", patch="inlt"}', "the mesh has no patch 'inlt' ([objective] minimize in case.toml)"),
    ('objective.minimize={functional="reattachment", patch="walls", number=0}', 'number = 0 ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="separation", patch="walls", number=1.5}', 'from the end -1, -2, ...'),
    ('objective.minimize={functional="separation", patch="walls", axis="z"}', "a place along 'z' ([objective] minimize in case.toml)"),
    ('objective.minimize={functional="moment", patch="walls", center="a"}', 'center = a ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="moment", patch="walls", center=[1.0]}', 'center = [1.0] ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="moment", patch="walls", center=[1.0, 2.0, 3.0]}', 'center = [1.0, 2.0, 3.0]'),
    ('objective.minimize={functional="moment", patch="walls", center=[nan, 2.0]}',
     'center = [nan, 2.0] ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="probe"}', 'probe needs at ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="probe", at="middle"}', 'at = middle ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="probe", at=[nan, 0.5]}', 'at = [nan, 0.5] ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="probe", at=[inf, 0.5]}', 'at = [inf, 0.5] ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="probe", at=[0.5, 0.5, 0.5]}', 'at = [0.5, 0.5, 0.5] ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="probe", at=[5.0, 0.5]}', 'at = [5.0, 0.5] is outside the mesh ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="probe", at=[0.5, 0.5], what="temperature"}', "cannot probe 'temperature'"),
    ('objective.minimize={functional="probe", at=[0.5, 0.5], what=3}', 'what = 3 ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="probe", at=[0.5, 0.5], what="velocity_z"}', "cannot probe 'velocity_z'"),
    ('objective.minimize={functional="probe", at=[0.5, 0.5], what=["pressure"]}',
     "what = ['pressure'] ([objective] minimize in case.toml)"),
    ('objective.minimize={functional="target_distance"}', 'target_distance needs center ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="target_distance", center=[0.5, 0.5], radius="a", velocity=[1.0, 0.0]}', 'radius = a'),
    ('objective.minimize={functional="target_distance", center=[0.5, 0.5], radius=-1.0, velocity=[1.0, 0.0]}', 'radius = -1.0'),
    ('objective.minimize={functional="target_distance", center=[0.5, 0.5], radius=0.0, velocity=[1.0, 0.0]}', 'radius = 0.0'),
    ('objective.minimize={functional="target_distance", center=[0.5, 0.5], radius=[0.1, 0.2], velocity=[1.0, 0.0]}', 'radius = [0.1, 0.2]'),
    ('objective.minimize={functional="target_distance", center=[0.5, 0.5], radius=0.1, velocity=[1.0, 0.0, 0.0]}',
     'velocity = [1.0, 0.0, 0.0'),
    ('objective.minimize={functional="target_distance", center=[0.5, 0.5], radius=0.1, velocity="fast"}', 'velocity = fast'),
    ('objective.minimize={functional="target_distance", center=[0.5, 0.5], radius=0.1, velocity=[[1.0, 0.0], [1.0]]}',
     'velocity = [[1.0, 0.0], ['),
    ('objective.minimize={functional="target_distance", center=[0.5, 0.5], radius=0.1, velocity=true}', 'velocity = True'),
    ('objective.minimize={functional="pressure_drop", inlet="inlet"}', 'pressure_drop needs outlet ([objective] minimize in case.toml)'),
    ('objective.minimize={functional="pressure_drop", inlet="inlet", outlet=3}', 'the mesh has no patch 3'),
    ('objective.minimize={functional="pressure_drop", inlet="inlet", outlet=[]}', 'pressure_drop needs outlet'),
    ('objective.minimize={functional="pressure_drop", inlet="inlet", outlet=["outlet", "out"]}', "the mesh has no patch 'out'"),
    ('objective.minimize={functional="pressure_drop", inlet="inlet", outlet=["outlet", "outlet"]}', "pressure_drop of 'outlet' twice"),
    ('objective.minimize={functional="dissipation", patch="walls"}', "dissipation has no argument 'patch'"),
    ('objective.minimize={functional="dissipation", equals=2.0}',
     "dissipation has no argument 'equals' ([objective] minimize in case.toml)"),
    ('condition=[{name="a", set={"flow.viscosty"=0.2}}]', "there is no number 'flow.viscosty' ([[condition]] 1 set in"),
    ('condition=[{name="a", set={"flow.viscosity"=-0.2}}]', 'viscosity must be one positive number, got -0.2 ([[condition]] 1 set in '),
    ('condition=[{name="a", set={"flow.viscosity"=[0.2, 0.3]}}]', 'flow.viscosity of shape (2,) ([[condition]] 1 set in case.toml)'),
    ('condition=[{name="a", set={"boundary.inlet.profile.values"=[1.0, 1.0]}}]', "'boundary.inlet.profile.values' is a design"),
    ('condition=[{name="a"}, {name="a"}]', "two conditions are called 'a'"),
    ('condition=[{name="a", weight=-0.5}]', 'weight must be at least 0, got -0.5 (--set condition.0.weight)'),
    ('condition=[{name="a", weight=0.0}]', 'every [[condition]] has the weight 0 (case.toml); a positive weight for one at least'),
    ('condition=[{name="start"}]', "a condition is called 'start'"),
    ('condition=[{name="a/b"}]', '--set condition.0.name'),
    ('condition=[{weight=1.0}]', 'name is missing (--set condition.0.name)'),
    ('objective.subject_to=[{functional="dissipation", at_most=1.0, condition="hot"}]',
     "a constraint in the condition 'hot' (case.toml); there are none"),
    ('objective.maximise={functional="dissipation"}', "unknown key 'maximise' (--set objective.maximise)"),
    ('objective.maximize={functional="dissipation"}', 'an objective needs one of minimize and maximize ([objective] in case.toml)'),
    ('objective.subject_to=3', 'subject_to must be a list [...], got 3 (--set objective.subject_to)'),
    ('objective.subject_to={functional="drag", patch="walls", at_most=1.0}',
     'subject_to must be a list [...], got {"functional": "drag", "p'),
    ('objective.subject_to=[3]', 'subject_to[0] must be a table {...}, got 3 (--set objective.subject_to.0)'),
    ('objective.subject_to=[{}]', 'functional is missing (--set objective.subject_to.0.functional)'),
    ('objective.subject_to=[{at_most=1.0}]', 'functional is missing (--set objective.subject_to.0.functional)'),
    ('objective.subject_to=[{functional="flow_rate", patch="inlet"}]', 'a constraint with no limit (--set objective.subject_to.0)'),
    ('objective.subject_to=[{functional="flow_rate", patch="inlet", at_most="1.05 begin"}]',
     'a limit of \'1.05 begin\' (--set objective.subject_to.0.at_most); a finite number, "start", or a multiple of that'),
    ('objective.minimize={sum=[]}', 'sum has 0 entries, at least 1 are needed (--set objective.minimize.sum)'),
    ('objective.minimize={sum=[{}]}', 'functional is missing (--set objective.minimize.sum.0.functional)'),
    ('objective.minimize={sum=[{functional="drg", patch="walls"}]}',
     "there is no functional 'drg' ([objective] minimize.sum[0] in case.toml); did you mean 'drag'?"),
    ('objective.minimize={sum=[{functional="dissipation"}, {functional="drag"}]}', 'drag needs patch ([objective] minimize.sum[1] in'),
    ('objective.minimize={sum=[{functional="dissipation", weight="a"}]}', 'weight must be a number, got "a"'),
    ('objective.minimize={sum=[{functional="dissipation"}], patch="walls"}', "unknown key 'patch' (--set objective.minimize.patch)"),
    ('objective.subject_to=[{functional="flow_rate", patch="inlet", at_most=nan}]',
     'at_most must be a finite number or text in quotes ("..."), got nan'),
    ('objective.subject_to=[{functional="flow_rate", patch="inlet", at_most=1.0, at_least=0.5}]', 'a constraint with at_most and at_least'),
    ('objective.subject_to=[{functional="flow_rate", patch="inlet", equal=1.0}]',
     'a constraint with no limit (--set objective.subject_to.0)'),
    ('objective.subject_to=[{functional="flow_rate", patch="inlet", equal=1.0, equals=1.0}]', "flow_rate has no argument 'equal'"),
    ('objective.subject_to=[{functional="flow_rate", patch="inlet", equals=100.0}]',
     'the constraints are infeasible: flow_rate(inlet) canno'),
    ('objective.subject_to=[{functional="flow_rate", patch="inlet", at_most=-1.0}]',
     'the constraints are infeasible: flow_rate(inlet) canno'),
    ('objective.subject_to=[{functional="flow_rte", patch="inlet", at_most=1.0}]', "there is no functional 'flow_rte'"),
    ('objective.subject_to.0.equals=1.0',
     'subject_to must be a list [...], got {"0": {"equals": 1.0}} (--set objective.subject_to.0.equals)'),
    ('optimizer=3', 'optimizer must be a table {...}, got 3 (--set optimizer)'),
    ('optimizer.method=3', 'method must be text in quotes ("..."), got 3 (--set optimizer.method)'),
    ('optimizer.method="slsqp"', "unknown method 'slsqp' ([optimizer] in case.toml)"),
    ('optimizer.method="gradient"', "unknown method 'gradient' ([optimizer] in case.toml)"),
    ('optimizer.max_iterations=0', 'max_iterations must be at least 1, got 0 (--set optimizer.max_iterations)'),
    ('optimizer.max_iterations=1.5', 'max_iterations must be a whole number, got 1.5 (--set optimizer.max_iterations)'),
    ('optimizer.tolerance=0.0', 'tolerance must be positive, got 0.0 (--set optimizer.tolerance)'),
    ('optimizer.tolerance=-1.0', 'tolerance must be positive, got -1.0 (--set optimizer.tolerance)'),
    ('optimizer.tolerance="tight"', 'tolerance must be a number, got "tight" (--set optimizer.tolerance)'),
    ('optimizer.band=0.0', 'band must be positive, got 0.0 (--set optimizer.band)'),
    ('optimizer.bnd=0.0', "unknown key 'bnd' (--set optimizer.bnd)"),
    ('units=3', 'units must be a table {...}, got 3 (--set units)'),
    ('units.length=3', 'length must be text in quotes ("..."), got 3 (--set units.length)'),
    ('units.lengths="m"', "unknown key 'lengths' (--set units.lengths)"),
    ('units.time=["s"]', 'time must be text in quotes ("..."), got ["s"] (--set units.time)'),
    ('units.length=""', 'length must be text that is not empty, got "" (--set units.length)'),
    ('units.length="m^2"', 'length cannot be "m^2" (--set units.length); letters and digits, without spaces or dots'),
    ('units.length="$"', 'length cannot be "$" (--set units.length)'),
    ('units.length="two words"', 'length cannot be "two words" (--set units.length)'),
    ('units.time="abcdefghijklm"', 'time has 13 characters (--set units.time); at most 12'),
    ('units.time="L"', "lengths and times both in 'L' (--set units"),
    ('mesh.patches.left="a\\nb"', "a name with a line break or another character that cannot be printed: 'a\\nb'"),
    ('boundary."a\\u001b[31m"={kind="wall"}', "the mesh has no patch 'a\\x1b[31m'"),
    ('condition=[{name="two words"}]', 'name cannot be "two words" (--set condition.0.name); letters and digits, without'),
    ('condition=[{name=""}]', 'name'),
    ('solver=3', 'solver must be a table {...}, got 3 (--set solver)'),
    ('solver.tolerance=0.0', 'tolerance must be at least 1e-14, got 0.0 (--set solver.tolerance)'),
    ('solver.tolerance=1.0', 'tolerance must be below 1, got 1.0 (--set solver.tolerance)'),
    ('solver.tolerance=1e-18', 'tolerance must be at least 1e-14, got 1e-18 (--set solver.tolerance)'),
    ('solver.tolerance="small"', 'tolerance must be a number, got "small" (--set solver.tolerance)'),
    ('solver.linear="lu"', 'linear must be one of auto, superlu, block_tridiagonal, multigrid, got "lu" (--set solver.linear)'),
    ('solver.linear=3', 'linear must be one of auto, superlu, block_tridiagonal, multigrid, got 3 (--set solver.linear)'),
    ('solvr.linear="superlu"', "unknown key 'solvr' (--set solvr.linear)"),
    ('flow', '--set flow'),
    ('=3', '--set =3'),
    ('.=3', "--set .=3: '.' has an empty part"),
    ('.a=3', "--set .a=3: '.a' has an empty part"),
    ('a.=3', "--set a.=3: 'a.' has an empty part"),
    ('a..b=3', "--set a..b=3: 'a..b' has an empty part"),
    ('mesh..cells=3', "--set mesh..cells=3: 'mesh..cells' has an empty part"),
    ('mesh.cells.5=3', '--set mesh.cells.5: there is no mesh.cells.5'),
    ('mesh.cells.-1=3', '--set mesh.cells.-1: there is no mesh.cells.-1'),
    ('mesh.cells.x=3', '--set mesh.cells.x: there is no mesh.cells.x'),
    ('mesh.cells.0.0=3', "--set mesh.cells.0.0: 'mesh.cells.0' is not a table of the config"),
    ('mesh.kind.x=3', "--set mesh.kind.x: 'mesh.kind' is not a table of the config"),
    ('flow.viscosity.x=3', "--set flow.viscosity.x: 'flow.viscosity' is not a table of the config"),
    ('flow.viscosity=[1, 2', '--set flow.viscosity: [1, 2 is not TOML: unclosed array (at end of document)'),
    ('flow.viscosity={a=', '--set flow.viscosity: {a= is not TOML: invalid value (at end of document)'),
    ('flow.viscosity="a', 'viscosity must be a number, got ""a" (--set flow.viscosity)'),
    ("flow.viscosity='''", 'viscosity must be a number, got """"" (--set flow.viscosity)'),
    ('flow.viscosity=1\\\n[mesh]', 'viscosity must be a number, got "1\\\\\\n[mesh]" (--set flow.viscosity)'),
    ('flow.viscosity=0.1 0.2', 'viscosity must be a number, got "0.1 0.2" (--set flow.viscosity)'),
    ('flow.viscosity=1,5', 'viscosity must be a number, got "1,5" (--set flow.viscosity)'),
    ('flow.viscosity=é', 'viscosity must be a number, got "é" (--set flow.viscosity)'),
    ('flow viscosity=1', "unknown key 'flow viscosity' (--set flow viscosity)"),
    ('"flow".viscosity=0', 'viscosity must be positive, got 0 (--set flow.viscosity)'),
    ('flow.viscosity==0.1', 'viscosity must be a number, got "=0.1" (--set flow.viscosity)'),
    ('boundary.inlet.profile.values.7=1.0', '--set boundary.inlet.profile.values.7: there is no boundary.inlet.profile.values.7'),
    ('boundary.inlet.profile.values.0="a"', 'values[0] must be a number, got "a" (--set boundary.inlet.profile.values.0)'),
    ('mesh.cells.٣=3', '--set mesh.cells.٣: there is no mesh.cells.٣'),
    ('mesh.cells.²=3', '--set mesh.cells.²: there is no mesh.cells.²'),
    ('time={end=1.0}', "unknown key 'time' (--set time); flow in time is out of scope: docs/alternatives.md names programs for it"),
    ('heat.conductivity=1.0', "unknown key 'heat' (--set heat.conductivity); heat is out of scope: docs/alternatives.md"),
    ('turbulence.model="k_epsilon"', "unknown key 'turbulence' (--set turbulence.model); turbulence is out of scope: docs/alternatives.md"),
    ('flow.k_epsilon=true', "unknown key 'k_epsilon' (--set flow.k_epsilon); turbulence is out of scope"),
    ('flow.RANS=true', "unknown key 'RANS' (--set flow.RANS); turbulence is out of scope"),
    ('flow.temperature=300', "unknown key 'temperature' (--set flow.temperature); heat is out of scope"),
    ('flow.density=1000.0', "unknown key 'density' (--set flow.density); a density of its own (all is per unit density, the viscosity"),
    ('flow.gravity=[0.0, -9.81]', "unknown key 'gravity' (--set flow.gravity); flow.force is the body force"),
    ('boundary.walls.kind="heat_flux"', "walls has the unknown kind 'heat_flux' (--set boundary.walls.kind); heat is out of scope"),
    ('objective.minimize={functional="nusselt", patch="walls"}', "there is no functional 'nusselt' ([objective] minimize in case"),
    ('design.0.bounds=[0.0, 1e300]', 'bounds of 1e+300 are beyond reason ([[design]] 1 in case.toml)'),
    ('design=[{vary="flow.viscosity", bounds=[0, 1]}, {vary="\\"flow\\".viscosity", bounds=[0, 1]}]', "'flow.viscosity' varies twice"),
    ('condition=[{name="a", set={"flow.viscosity"=1e300}}]', 'flow.viscosity = 1e+300 is beyond reason ([[condition]] 1 set in case'),
    ('objective.minimize={functional="pressure_drop", inlet="inlet", outlet="inlet"}', "pressure_drop of 'inlet' twice"),
    ('objective.minimize={functional="curvature", patch="walls", p=-1}', 'p = -1 ([objective] minimize in case.toml); a number from 2 to'),
    ('objective.minimize={functional="curvature", patch="walls", p="a"}', 'p = a ([objective] minimize in case.toml); a number from 2 to'),
    ('objective.minimize={functional="target_distance", center=[0.5, 0.5], radius=true, velocity=[1, 0]}', 'radius = True'),
    ('mesh={kind="channel", length=1.0, height=1.0, bodies={""={kind="circle", center=[0.5, 0.5], radius=0.1}}}', '"" must be text'),
    ('mesh={kind="o_grid", outer=2.0, body={kind="aerofoil", center=[0.0, 0.0], chord=1.0, naca="٢٤١٢"}}', "naca = '٢٤١٢' (--set"),
    ('flow.' + 'x' * 10000 + '=1', 'x...x'),
    ('flow.viscosity=1e300', 'viscosity = 1e+300 is beyond reason ([flow] in case.toml)'),
    ('flow.viscosity=1e-300', 'viscosity = 1e-300 is beyond reason ([flow] in case.toml)'),
    ('boundary.inlet={kind="inflow", speed=1e300}', 'speed = 1e+300 is beyond reason (--set boundary.inlet)'),
    ('boundary.outlet.pressure=1e300', 'pressure = 1e+300 is beyond reason ([boundary] outlet in case.toml)'),
    ('mesh.upper=[1e300, 1e300]', 'upper = 1e+300 is beyond reason ([mesh] in case.toml)'),
    ('mesh.upper=[1e-300, 1e-300]', 'the mesh is tangled: 12 cells folded, the worst near (1.25e-301, 1.667e-301) ([mesh] in case.toml)'),
    ('flow.viscosity=100000000000000000000000000000000000000', 'viscosity = 1e+38 is beyond reason ([flow] in case.toml)'),
    ('flow.force=[1e300, 1e300]', 'force = 1e+300 is beyond reason ([flow] in case.toml)'),
    ('mesh.cells=99999999999999999999999999999999999', '99999999999999999999999999999999999 cells ([mesh] in case.toml)'),
    ('mesh.cells=[99999999999999999999999999999999999, 1]', '99999999999999999999999999999999999 cells ([mesh] in case.toml)'),
]
# fmt: on

# the files themselves, instead of the tiny config
CONFIGS = [
    (b"", "mesh is missing ([mesh] in case.toml); where it flows"),
    (TINY.encode("utf-16"), "cannot read the config 'case.toml': it is not text in UTF-8; a TOML file"),
    (TINY.replace("outlet", "\xf6utlet").encode("latin-1"), "it is not text in UTF-8"),
    (bytes(range(256)), "it is not text in UTF-8"),
    (b"\x00" * 100, "case.toml is not TOML: invalid statement (at line 1, column 1)"),
    (b"[", "case.toml is not TOML: invalid initial character for a key part (at end of document)"),
    (b"[mesh", "case.toml is not TOML: expected ']' at the end of a table declaration (at end of document)"),
    (b"a", "case.toml is not TOML: expected '=' after a key in a key/value pair"),
    (b"a = ", "case.toml is not TOML: invalid value (at end of document)"),
    (b"[mesh]\n[mesh]", "case.toml is not TOML: cannot declare"),
    (b"a.b = 1\na = 2", "case.toml is not TOML: cannot overwrite a value"),
    (b"mesh = 1979-05-27T07:32:00Z", "mesh must be a table {...}, got datetime.datetime("),
    (TINY.replace("0.1", "1e400"), "viscosity must be a finite number, got inf ([flow] viscosity in case.toml)"),
    (TINY.replace("0.1", "9" * 400), "viscosity must be"),
    (TINY.replace("0.1", "9" * 5000), "case.toml is not TOML that can be read: a number has too many digits"),
    (TINY.replace("0.1", "0.1.2"), "expected newline or end of document after a statement (at line 8, column 16)"),
    (TINY.replace("0.1", "_1"), "case.toml is not TOML: invalid value (at line 8, column 13)"),
    (TINY.replace("0.1", "07:32:00"), "viscosity must be a number, got datetime.time(7, 32)"),
    (TINY.replace('"box"', "'box"), "is not TOML"),
    (TINY.replace('"box"', '"""box'), "case.toml is not TOML: unterminated string (at end of document)"),
    (TINY + "\x00", "case.toml is not TOML: invalid statement"),
    (TINY.replace("[flow]", "[[flow]]"), 'flow must be a table {...}, got [{"viscosity": 0.1}] ([flow] in case.toml)'),
    (TINY.replace("[boundary]", "[[boundary]]"), "boundary must be a table {...}, got [{"),
    (TINY.replace("[[design]]", "[design]"), "design must be a list [...], got {"),
    (TINY + "[objective]\n", "case.toml is not TOML: cannot declare"),
    ("a = " + "[" * 3000 + "]" * 3000, "case.toml is not TOML that can be read: it is nested too deeply"),
    ("a=" + "{b=" * 2000 + "1" + "}" * 2000, "it is nested too deeply"),
    (TINY.replace('"drag"', '"drg"'), "there is no functional 'drg' ([objective] minimize in case.toml); did you mean 'drag'?"),
    (TINY.replace("values =", "vals ="), "unknown key 'vals' ([boundary] inlet.profile.vals in case.toml); did you mean 'values'?"),
    (TINY.replace("bounds =", "bouds ="), "unknown key 'bouds' ([[design]] 1 bouds in case.toml); did you mean 'bounds'?"),
]

# a profile's table and a body's points, read from a file
TABLE = "boundary.inlet={kind='inflow', profile={kind='nodes', file='table.csv'}}"
TABLES = [
    ("", "'table.csv' holds no numbers (--set boundary.inlet.profile); one number a row"),
    ("speed\n1\n", "row 1 of 'table.csv' is 'speed' (--set boundary.inlet.profile); one number a row"),
    ("1\n2\nnan\n", "row 3 of 'table.csv' is 'nan'"),
    ("1\n1e999\n", "row 2 of 'table.csv' is '1e999' (--set boundary.inlet.profile); finite numbers"),
    ("1,2,3\n", "row 1 of 'table.csv' is '1,2,3'"),
    ("1 2\n3 4\n", "row 1 of 'table.csv' is '1 2'"),
    ("0x10\n", "row 1 of 'table.csv' is '0x10'"),
    (b"\xff\xfe\x00", "cannot read the table 'table.csv': it is not text"),
    (b"\x00\x00", "row 1 of 'table.csv' is"),
    ("9\n9\n9\n", "the start of boundary.inlet.profile.values[0] is 9, outside its bounds [0, 3]"),
]
BODY = "mesh={kind='channel', length=2.0, height=1.0, cells=60, body={kind='points', file='table.csv'}}"
POINTS = [
    ("", "'table.csv' holds no points (--set mesh.body); three rows x, y or more"),
    ("x,y\n0.5,0.5\n", "'table.csv' holds 1 point (--set mesh.body); three rows x, y or more"),
    ("text\nmore text\n0.4,0.4\n0.6,0.4\n0.5,0.6\n", "row 2 of 'table.csv' is not two numbers: 'more text'"),
    ("0.4,a\n0.6,0.4\n0.6,0.6\n0.4,0.6\n", "row 1 of 'table.csv' is not two numbers: '0.4 a'"),
    ("a,0.4\n0.6,0.4\n0.6,0.6\n0.4,0.6\n", "row 1 of 'table.csv' is not two numbers: 'a 0.4'"),
    ("0.4.1,0.4\n0.6,0.4\n0.6,0.6\n0.4,0.6\n", "row 1 of 'table.csv' is not two numbers: '0.4.1 0.4'"),
    ("0.4,0.4\n0.6\n", "row 2 of 'table.csv' is not two numbers: '0.6'"),
    ("0.4 0.4 0\n0.6 0.4 0\n", "row 1 of 'table.csv' is not two numbers: '0.4 0.4 0'"),
    ("0,4;0,4\n0,6;0,4\n", "row 1 of 'table.csv' is not two numbers: '0 4 0 4'"),
    ("0.4,nan\n0.6,0.4\n", "row 1 of 'table.csv' holds '0.4 nan' (--set mesh.body); finite numbers"),
    (b"\xff\xfe\x00", "cannot read points from 'table.csv': it is not text"),
    ("0.4 0.4\n0.6 0.6\n0.6 0.4\n0.4 0.6\n", "a curve crosses itself between points 1 and 3, near (0.4, 0.4)"),
]

NODES = "$Nodes\n4\n1 0 0 0\n2 1 0 0\n3 0 1 0\n4 0 0 1\n$EndNodes\n"
FORMAT = "$MeshFormat\n2.2 0 8\n$EndMeshFormat\n"
NAMES = '$PhysicalNames\n1\n1 1 "rim"\n$EndPhysicalNames\n'
MESHES = [
    (b"", "mesh.msh': it is empty ([mesh] in case.toml); a gmsh .msh file, version 2.2 or 4.1"),
    (b"garbage", "mesh.msh': it is damaged, or not gmsh's"),
    (bytes(range(256)) * 10, "mesh.msh': it is damaged, or not gmsh's"),
    ("$MeshFormat\n9.9 0 8\n$EndMeshFormat\n", "Need mesh format in"),
    ("$MeshFormat\n4.1 1 8\n", "it is damaged, or not gmsh's"),
    (FORMAT + NODES, "mesh.msh' holds no cells"),
    (FORMAT + NODES[:30], "it is damaged, or not gmsh's"),
    (FORMAT + NODES + "$Elements\n1\n1 2 2 0 1 1 2 3\n$EndElements\n", "has no named physical group of curves"),
    (FORMAT + NODES + "$Elements\n1\n1 4 2 0 1 1 2 3 4\n$EndElements\n", "has no named physical group of surfaces"),
    (FORMAT + NAMES + NODES + "$Elements\n2\n1 1 2 1 1 1 2\n2 2 2 0 1 1 2 3\n$EndElements\n", "belong to no patch"),
]

# files of functionals
IMPORTS = [
    ("1 / 0", "mine.py cannot be imported: ZeroDivisionError: division by zero; a Python file that runs by itself"),
    ("def f(:", "mine.py cannot be imported: SyntaxError: invalid syntax (mine.py, line 1)"),
    ("import nothing_at_all", "mine.py cannot be imported: ModuleNotFoundError: No module named 'nothing_at_all'"),
    ("import sys; sys.exit()", "mine.py cannot be imported: SystemExit; "),
    ("import sys; sys.exit(0)", "mine.py cannot be imported: SystemExit: 0"),
    ("raise BaseException('x')", "mine.py cannot be imported: BaseException: x"),
    ("raise GeneratorExit", "mine.py cannot be imported: GeneratorExit"),
    ("raise ValueError('one\\ntwo')", "mine.py cannot be imported: ValueError: one two"),
    ("def f(): f()\nf()", "mine.py cannot be imported: RecursionError"),
    (b"\xff\xfe", "mine.py cannot be imported: SyntaxError"),
    (b"\x00", "mine.py cannot be imported: SyntaxError: source code"),
    ("from fluidgrad import functional\n@functional\ndef f(s): return 1.0", "a functional without its units"),
    (
        "from fluidgrad import functional\n@functional(units='1')\ndef drag(s): return 1.0",
        "mine.py cannot be imported: InputError: a functional 'drag', which is the name of fluidgrad's own fluidgrad.flow.functionals.drag",
    ),
    ("from fluidgrad import functional\n@functional(units=3)\ndef f(s): return 1.0", "a functional without its units"),
]

COMMANDS = [
    (["config", "validate"], "config validate needs a file; fluidgrad config validate FILE.toml"),
    (["config", "validate", "."], "cannot read '.': it is a folder; a TOML file, or one of: "),
    (["config", "validate", "none.toml"], "cannot read 'none.toml': there is no such file"),
    (["config", "validate", "a\0b"], "cannot read 'a\\x00b': there is no such file"),
    (["config", "validate", "x" * 5000], "there is no such file"),
    (["config", "validate", "cylinder_re2"], "cannot read 'cylinder_re2': there is no such file; did you mean 'cylinder_re20'?"),
    (["config", "valdate", "case.toml"], "config valdate; did you mean 'validate'? one of validate, explain, schema"),
    (["config", "explain", "mesh.kynd"], "there is no key 'kynd' in 'mesh.kynd'; did you mean 'kind'?"),
    (["config", "explain", "flow.viscosty"], "there is no key 'viscosty' in 'flow.viscosty'; did you mean 'viscosity'?"),
    (["config", "explain", "turbulence"], "there is no key 'turbulence' in 'turbulence'; turbulence is out of scope"),
    (["config", "explain", ".."], "there is no key '' in '..'; there are: mesh, flow"),
    (["config", "explain", "boundary.x.y"], "there is no key 'y' in 'boundary.x.y'"),
    (["config", "explain", "flow.viscosity.x"], "'flow.viscosity' has no keys; config explain flow.viscosity"),
    (["new", "shap"], "there is no template 'shap'; did you mean 'shape'? one of simulation, inflow, shape"),
    (["new", "zzz"], "there is no template 'zzz'; one of simulation, inflow, shape"),
    (["new", "shape", "case.toml"], "'case.toml' exists already; another file name"),
    (["new", "shape", "."], "'.' exists already; another file name"),
    (["new", "shape", "none/x.toml"], "cannot write 'none/x.toml': there is no folder 'none'; a file in"),
    (["new", "shape", "case.toml/x.toml"], "cannot write 'case.toml/x.toml': "),
    (["new", "shape", "/proc/x.toml"], "cannot write '/proc/x.toml': "),
    (["new", "shape", "a\0b"], "cannot write 'a\\x00b': "),
    (["new", "shape", "x" * 5000], "File name too long"),
    (["report", "none"], "'none' is not the folder of a run; the folder of a finished run, check or sensitivity"),
    (["report", "case.toml"], "'case.toml' is not the folder of a run"),
    (["report", "."], "'.' is not the folder of a run"),
    (["sweep", "case.toml"], "a sweep over nothing; --over section.key=a,b,c"),
    (["sweep", "case.toml", "--over", "flow.viscosity"], "--over flow.viscosity; --over section.key=a,b,c"),
    (["sweep", "case.toml", "--over", "=1"], "--over =1; --over section.key=a,b,c"),
    (["sweep", "case.toml", "--over", "flow.viscosity=1,oops"], "viscosity must be a number"),
    (["sweep", "."], "'.' is not the folder of a sweep"),
    (["run", "case.toml", "-q", "-v"], "both --quiet and --verbose; one of them"),
    (["run", "."], "'.' is not the folder of a run; a config, or a folder with config.toml and manifest.json"),
    (["sweep", "case.toml", "--over", "flow.viscosty=1,2"], "unknown key 'viscosty' (--over flow.viscosty); did you mean 'viscosity'?"),
    (["sweep", "case.toml", "--over", "flow.viscosity=-1,2"], "viscosity must be positive, got -1 (--over flow.viscosity)"),
    (["sweep", "case.toml", "--over", f"flow.viscosity={'9' * 5000}"], "viscosity must be a number"),
    (["sweep", "case.toml", "--over", f"flow.viscosity={'[' * 5000}"], "viscosity must be a number"),
    (["sweep", "case.toml", "--over", "flow.viscosity=1,2", "--over", '"flow".viscosity=1,2'], "--over flow.viscosity is given twice"),
    (["sweep", "case.toml", "--over", "mesh.cells.9=1,2"], "--over mesh.cells.9: there is no mesh.cells.9"),
    (["config", "validate", "case.toml", "--import", "/dev/zero"], "there is no file '/dev/zero' to import"),
    (["config", "validate", "/dev/zero"], "cannot read '/dev/zero': there is no such file"),
    (["run", "none"], "cannot read 'none': there is no such file"),
    (["check", "none"], "cannot read 'none': there is no such file"),
    (["sensitivity", "none"], "cannot read 'none': there is no such file"),
    (["config", "validate", "case.toml", "--import", "."], "there is no file '.' to import; --import FILE.py"),
    (["config", "validate", "case.toml", "--import", "none.py"], "there is no file 'none.py' to import"),
    (["config", "validate", "case.toml", "--import", ""], "there is no file '' to import"),
    (["config", "validate", "cylinder_re20", "--set", "mesh.body.radios=1"],
     "unknown key 'radios' (--set mesh.body.radios); did you mean 'radius'?"),
    (["config", "validate", "cylinder_re20", "--set", "mesh.body.center.0='a'"],
     'center[0] must be a number, got "a" (--set mesh.body.center.0)'),
    (["config", "validate", "case.toml", "--set", "design=[]", "--set", "boundary={walls={kind='wall'}, outlet={kind='periodic', "
      "other='inlet', pressure_drop=1.0}}", "--set", "objective.minimize.patch=outlet"],
     "patch 'outlet' is periodic: the flow goes on behind it, and nothing acts on it ([objective] minimize in case.toml)"),
    (["config", "validate", "case.toml", "--set", "design=[]", "--set", "boundary={walls={kind='wall'}, outlet={kind='periodic', "
      "other='inlet', pressure_drop=1.0}}", "--set", "objective.minimize.patch=inlet"],
     "patch 'inlet' is periodic: the flow goes on behind it, and nothing acts on it"),
    (["config", "validate", "case.toml", "--set", "design=[]", "--set", "boundary={walls={kind='wall'}, outlet={kind='periodic', "
      "other='inlet', pressure_drop=1.0}}", "--set", "objective.minimize={functional='pressure_drop', inlet='outlet', outlet='walls'}"],
     "the pressure drop from 'outlet' to 'walls', of which one is periodic ([objective] minimize in case.toml); a periodic"),
]  # fmt: skip
USAGE = [[], ["walk"], ["run"], ["report"], ["config"], ["run", "case.toml", "--nope"], ["run", "case.toml", "--set"]]

BY_FILE = [(TABLES, TABLE, "table.csv"), (POINTS, BODY, "table.csv"), (MESHES, "mesh={kind='file', path='mesh.msh'}", "mesh.msh")]
EXAMPLES = 150  # of hypothesis, in each of its tests
RANDOM = settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Of a command that must be refused: the one line it prints."""
    monkeypatch.chdir(tmp_path)
    Path("case.toml").write_text(TINY)

    def command(arguments):
        code = main(arguments)
        message = capsys.readouterr().err
        assert code == 2, f"exit code {code}: {message}"
        assert message.startswith("error: ") and message.count("\n") == 1 and "Traceback" not in message
        return message

    return command


def put(name, data):
    Path(name).write_bytes(data if isinstance(data, bytes) else data.encode())


@pytest.mark.parametrize(("setting", "expected"), SETTINGS)
def test_settings(refused, setting, expected):
    assert expected in refused(["config", "validate", "case.toml", "--set", setting])


@pytest.mark.parametrize(("data", "expected"), CONFIGS, ids=range(len(CONFIGS)))
def test_files(refused, data, expected):
    put("case.toml", data)
    assert expected in refused(["config", "validate", "case.toml"])


@pytest.mark.parametrize(("data", "setting", "name", "expected"), [(d, s, name, e) for rows, s, name in BY_FILE for d, e in rows], ids=str)
def test_files_that_a_config_names(refused, data, setting, name, expected):
    put(name, data)
    assert expected in refused(["config", "validate", "case.toml", "--set", setting])


@pytest.mark.parametrize(("data", "expected"), IMPORTS, ids=range(len(IMPORTS)))
def test_imports(refused, data, expected):
    put("mine.py", data)
    assert expected in refused(["config", "validate", "case.toml", "--import", "mine.py"])


@pytest.mark.parametrize(("arguments", "expected"), COMMANDS, ids=range(len(COMMANDS)))
def test_commands(refused, arguments, expected):
    assert expected in refused(arguments)


@pytest.mark.parametrize("arguments", USAGE, ids=str)
def test_usage(arguments, capsys):
    assert main(arguments) == 2
    assert "Usage: fluidgrad" in (message := capsys.readouterr().err) or "Error: Option" in message


def test_results_that_are_none_are_refused(refused):
    Path("run").mkdir()
    put("run/config.toml", Path("case.toml").read_bytes())
    put("run/manifest.json", "{}")
    for data, expected in (("{", "it is damaged"), ("[]", ""), ("null", ""), ("{}", "")):
        put("run/results.json", data)
        assert expected in refused(["report", "run"])


AEROFOIL = "mesh={kind='o_grid', outer=1.0, body={kind='aerofoil', center=[0.0, 0.0], chord=1.0, file='table.csv'}}"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names")
@pytest.mark.parametrize("special", ["/dev/zero", "pipe", "sparse", "loop"])
@pytest.mark.parametrize(
    ("name", "setting"), [("table.csv", TABLE), ("table.csv", BODY), ("table.csv", AEROFOIL), ("mesh.msh", BY_FILE[2][1])]
)
def test_what_may_never_end_is_not_read(refused, name, setting, special):
    if special == "pipe":
        os.mkfifo(name)
    elif special == "sparse":
        with open(name, "wb") as file:
            file.truncate(10**9)
    else:
        os.symlink(name if special == "loop" else special, name)
    assert "cannot read" in (found := refused(["config", "validate", "case.toml", "--set", setting])) or "no mesh file" in found


def test_what_cannot_be_said_changes_no_exit_code(tmp_path):
    """In processes of their own: streams that are closed, that are full, that know ASCII alone, whose reader has gone."""
    fluidgrad = f"{sys.executable} -m fluidgrad"
    (tmp_path / "ä.toml").write_text("x")
    text = f"""
    {fluidgrad} config explain mesh >&-; echo $?
    {fluidgrad} config explain mesh >/dev/full; echo $?
    {fluidgrad} config validate nothing 2>/dev/full; echo $?
    PYTHONIOENCODING=ascii {fluidgrad} config validate ä.toml 2>&1; echo $?
    ({fluidgrad} config schema; echo $? >&2) | head -1
    """
    found = subprocess.run(["bash", "-c", text], cwd=tmp_path, capture_output=True, text=True)
    lines = found.stdout.splitlines()
    assert lines[:3] == ["0", "2", "2"] and lines[4:] == ["2", "{"] and lines[3].startswith("error: \\xe4.toml is not TOML")
    assert found.stderr.splitlines()[-1] == "0" and "Traceback" not in found.stderr


# ---- by mutation


def paths(data, prefix=()):
    """Every path in nested tables and lists."""
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        yield (*prefix, key)
        yield from paths(value, (*prefix, key))


VALUES = [0, -1, 3, 10**30, 0.5, -2.5, float("nan"), float("inf"), 1e300, "", "wall", "drag", "inlet", True, False, [], [1.0], [1.0, 2.0],
          [[1.0]], ["a"], [0.0, 1.0, 2.0], {}, {"kind": "wall"}, {"kind": 3}, {"a": {"b": []}}]  # fmt: skip


def mutated(data, seed):
    """The same with something replaced, deleted, renamed, moved or doubled, at random."""
    chance = random.Random(seed)
    data = copy.deepcopy(data)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        *path, last = chance.choice(list(paths(data)))
        table = data
        for key in path:
            table = table[key]
        how = chance.choice(["replace", "replace", "delete", "rename", "double"])
        if how == "replace":
            table[last] = copy.deepcopy(chance.choice(VALUES))
        elif how == "delete":
            del table[last]
        elif isinstance(table, list):
            table.append(copy.deepcopy(table[last]))
        else:
            name = chance.choice([f"{last}s", str(last)[:-1], str(last).upper(), "kind", "values", ""])
            table[name] = table.pop(last) if how == "rename" else copy.deepcopy(table[last])
        if not data:
            return data
    return data


def entries(data):
    """TOML of any data."""
    return "".join(f"{line}\n" for line in toml({"root": data}).splitlines()[1:])


@given(seed=st.integers(0, 10**9))
@settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
def test_a_config_changed_at_random_is_valid_or_refused_in_a_line(seed, tmp_path, capsys):
    (tmp_path / "case.toml").write_text(entries(mutated(tomllib.loads(TINY), seed)))
    valid_or_refused(main(["config", "validate", str(tmp_path / "case.toml")]), capsys)


@given(text=st.text(max_size=40), at=st.integers(0, len(TINY)), cut=st.integers(0, 20))
@settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
def test_a_file_garbled_anywhere_is_valid_or_refused_in_a_line(text, at, cut, tmp_path, capsys):
    (tmp_path / "case.toml").write_text(TINY[:at] + text + TINY[at + cut :], encoding="utf-8", errors="surrogatepass")
    valid_or_refused(main(["config", "validate", str(tmp_path / "case.toml")]), capsys)


@given(
    key=st.one_of(st.sampled_from([".".join(map(str, p)) for p in paths(tomllib.loads(TINY))]), st.text("abmesh.0-\"' é", max_size=12)),
    value=st.one_of(st.sampled_from([entries({"x": v})[4:] for v in VALUES]), st.text(max_size=12)),
)
@settings(
    max_examples=EXAMPLES, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], database=None
)
def test_any_setting_is_taken_or_refused_in_a_line(key, value, tmp_path, capsys):
    (tmp_path / "case.toml").write_text(TINY)
    valid_or_refused(main(["config", "validate", str(tmp_path / "case.toml"), f"--set={key}={value}"]), capsys)


def valid_or_refused(code, capsys):
    message = capsys.readouterr().err
    assert code in (0, 2)
    assert code == 0 or (message.startswith("error: ") and message.count("\n") == 1)


# ---- how much that is


def test_hundreds_of_inputs_are_tried_and_dozens_of_messages_told_apart():
    rows = [*SETTINGS, *CONFIGS, *TABLES, *POINTS, *MESHES, *IMPORTS, *COMMANDS]
    by_hand = len(rows) + len(USAGE) + len(BAD) + len(FILES) + len(CASES)
    assert by_hand >= 400 and by_hand + 3 * EXAMPLES >= 800
    messages = {e for _, e in rows} | {e for _, e in BAD.values()} | {e for _, e in FILES.values()} | {row[2] for row in CASES.values()}
    told = {m.split(" must ")[-1].split(", got ")[0] for m in messages}  # "a must be positive" and "b must be positive" are one
    assert len(told) >= 200
