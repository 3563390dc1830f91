"""Small meshes, flows and exact solutions that the tests share.

Compiling costs seconds for each new mesh and set of boundary kinds, so tests take them from here, and take few.
"""

from functools import cache
from tempfile import TemporaryDirectory

import gmsh
import jax
import jax.numpy as jnp
import numpy as np
from scipy.spatial import Delaunay, Voronoi

import fluidgrad as fg
from fluidgrad.flow.fluxes import discretize, gradient
from fluidgrad.flow.residual import at_boundary, imbalance, split
from fluidgrad.mesh.mesh import Mesh, incidence, to_cells
from fluidgrad.mesh.mesh import measure as measured
from fluidgrad.mesh.topology import build_topology
from fluidgrad.programs import compiled


def measure(mesh):
    """The geometry, in NumPy."""
    return jax.tree.map(np.asarray, measured(mesh))


def gap(mesh):
    """The sum of each cell's area vectors, in NumPy: zero where the cell is closed."""
    return np.asarray(_sums(mesh.topology.of(incidence), measure(mesh).S))


_sums = jax.jit(to_cells)
program = cache(compiled)


def in_numpy(f, *solutions):
    """``f(*solutions)``, in NumPy."""
    return jax.tree.map(lambda x: np.asarray(x)[()], f(*solutions))


# ---- a config

# A design of four numbers in a channel of 36 cells: what every command is tried on.
TINY = """
[mesh]
kind = "box"
upper = [2.0, 1.0]
cells = [6, 6]
patches = { left = "inlet", right = "outlet", bottom = "walls", top = "walls" }

[flow]
viscosity = 0.1

[boundary]
inlet  = { kind = "inflow", profile = { kind = "nodes", values = [2.0, 1.5, 1.0, 0.5] } }
outlet = { kind = "outflow" }
walls  = { kind = "wall" }

[[design]]
vary = "boundary.inlet.profile.values"
bounds = [0.0, 3.0]

[objective]
minimize = { functional = "dissipation" }
subject_to = [ { functional = "flow_rate", patch = "inlet", equals = 1.0 } ]

[optimizer]
max_iterations = 3

[units]
length = "m"
time = "s"
"""


# ---- meshes


def by_hand(points, kind, cells):
    """A mesh of given cells whose whole boundary is the patch ``wall``."""
    points, cells = np.asarray(points, float), np.asarray(cells)
    faces = {}
    for loop in cells:
        loop = loop[loop >= 0]
        sides = [np.delete(loop, i) for i in range(4)] if kind == "tetra" else np.stack([loop, np.roll(loop, -1)], 1)
        for side in sides:
            faces.setdefault(tuple(sorted(side.tolist())), []).append(side)
    wall = np.stack([f[0] for f in faces.values() if len(f) == 1])
    return Mesh(jnp.asarray(points), build_topology(points, [(kind, cells)], {"wall": wall}))


def voronoi(n=25, seed=0):
    """Random polygons: the Voronoi cells of random places in the unit square."""
    x = np.random.default_rng(seed).uniform(0.02, 0.98, (n, 2))
    mirrored = [x]
    for axis in (0, 1):
        for wall in (0.0, 1.0):
            y = x.copy()
            y[:, axis] = 2 * wall - y[:, axis]
            mirrored.append(y)
    diagram = Voronoi(np.concatenate(mirrored))
    loops = []
    for i in range(n):
        loop = np.array(diagram.regions[diagram.point_region[i]])
        angle = np.arctan2(*(diagram.vertices[loop] - x[i]).T[::-1])
        loops.append(loop[np.argsort(angle)])
    used = np.unique(np.concatenate(loops))
    renumber = np.full(len(diagram.vertices), -1)
    renumber[used] = np.arange(len(used))
    width = max(map(len, loops))
    cells = np.stack([np.pad(renumber[loop], (0, width - len(loop)), constant_values=-1) for loop in loops])
    return by_hand(diagram.vertices[used], "polygon", cells)


def _jittered(n, dim, amount, seed):
    """A lattice of the unit square or cube whose points are moved at random, along the boundary where they lie on it."""
    x = np.stack(np.meshgrid(*[np.linspace(0, 1, n + 1)] * dim, indexing="ij"), -1).reshape(-1, dim)
    inside = (x > 1e-9) & (x < 1 - 1e-9)
    return x + inside * np.random.default_rng(seed).uniform(-amount / n, amount / n, x.shape)


def triangles(n=5, seed=0):
    """Delaunay triangles of random points in the unit square, n to a side."""
    x = _jittered(n, 2, 0.3, seed)
    cells = Delaunay(x).simplices
    e, f = x[cells[:, 1]] - x[cells[:, 0]], x[cells[:, 2]] - x[cells[:, 0]]
    area = e[:, 0] * f[:, 1] - e[:, 1] * f[:, 0]
    cells = cells[np.abs(area) > 1e-6 / n**2]  # flat ones along the sides are none
    area = area[np.abs(area) > 1e-6 / n**2]
    return by_hand(x, "triangle", np.where(area[:, None] > 0, cells, cells[:, ::-1]))


def split_in_four(mesh, times):
    """A mesh of triangles, each split at the middles of its sides."""
    x, cells = np.asarray(mesh.points), mesh.topology.cells[0][1]
    for _ in range(times):
        sides = np.sort(cells[:, [[0, 1], [1, 2], [2, 0]]], axis=2)
        middles, number = np.unique(sides.reshape(-1, 2), axis=0, return_inverse=True)
        ab, bc, ca = number.reshape(-1, 3).T + len(x)
        a, b, c = cells.T
        x = np.concatenate([x, x[middles].mean(1)])
        cells = np.concatenate([np.stack(t, 1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
    return by_hand(x, "triangle", cells)


def gmsh_triangles(n):
    """The unit square as gmsh divides it, n triangles to a side."""
    gmsh.initialize(interruptible=False)
    try:
        gmsh.option.setNumber("General.Terminal", 0)
        gmsh.option.setNumber("Mesh.MeshSizeMin", 1 / n)
        gmsh.option.setNumber("Mesh.MeshSizeMax", 1 / n)
        square = gmsh.model.occ.addRectangle(0, 0, 0, 1, 1)
        gmsh.model.occ.synchronize()
        gmsh.model.addPhysicalGroup(1, [tag for _, tag in gmsh.model.getEntities(1)], name="wall")
        gmsh.model.addPhysicalGroup(2, [square], name="fluid")
        gmsh.model.mesh.generate(2)
        with TemporaryDirectory() as folder:
            gmsh.write(f"{folder}/square.msh")
            return fg.read_mesh(f"{folder}/square.msh")
    finally:
        gmsh.finalize()


def tetrahedra(n=3, seed=0):
    """A unit cube of n^3 distorted cubes, six tetrahedra each."""
    x = _jittered(n, 3, 0.15, seed)
    number = np.arange((n + 1) ** 3).reshape(n + 1, n + 1, n + 1)
    cells = []
    for path in ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2)):
        corner, step = [(0, 0, 0)], [0, 0, 0]
        for axis in path:
            step[axis] = 1
            corner.append(tuple(step))
        loops = np.stack([number[a : n + a, b : n + b, c : n + c].ravel() for a, b, c in corner], 1)
        cells.append(loops if path in ((0, 1, 2), (1, 2, 0), (2, 0, 1)) else loops[:, [0, 2, 1, 3]])
    return by_hand(x, "tetra", np.concatenate(cells))


def kinked(mesh, amount=0.3):
    """The mesh of a box with its lines bent sharply at x = 1/2 and y = 1/2."""
    x = mesh.points
    roof = 1 - jnp.abs(2 * x - 1)
    moved = x[:, :2] + amount * roof[:, 1::-1] * x[:, :2] * (1 - x[:, :2])
    return Mesh(jnp.concatenate([moved, x[:, 2:]], 1), mesh.topology)


DISK = fg.circle((0.2, 0.2), 0.05)

MESHES = {
    "box": lambda: fg.box((0, 0), (2, 1), cells=(6, 5), grading=(0.0, 1.5)),
    "channel": lambda: fg.channel(2.2, 0.41, DISK, cells=500),
    "o-grid": lambda: fg.o_grid(fg.ellipse((0, 0), (1, 0.6)), 3, cells=(16, 5)),
    "kinked box": lambda: kinked(fg.box(cells=(6, 5))),  # with the counts of the box, and so its programs
    "polygons": voronoi,
    "triangles": triangles,
    "extruded": lambda: fg.extrude(kinked(fg.box(cells=(4, 4))), 0.7, 3, patches=("front", "back")),
    "tetrahedra": tetrahedra,
}


@cache
def mesh(name):
    return MESHES[name]()


def centres(mesh, patch):
    """Where the faces of a patch are, ``(faces, dim)``."""
    return measure(mesh).x_face[mesh.topology.faces_of(patch)]


def with_velocity_given(mesh, velocity, **options):
    """A flow with the velocity of an exact solution, ``x -> u``, all round."""
    outside = measure(mesh).x_face[mesh.topology.n_interior :]
    u = np.asarray(jax.jit(jax.vmap(velocity))(outside))
    faces = {p: np.array(ends) - mesh.topology.n_interior for p, ends in mesh.topology.patches.items()}
    given = {p: fg.Inflow(u[first:last]) for p, (first, last) in faces.items()}
    return fg.Flow(mesh, **{"viscosity": 0.1, **options}, **given)


# ---- what the discretization makes of a state


def operators(flow, state):
    """Gradients, residual, gross fluxes and boundary fluxes of a state, in NumPy."""
    return jax.tree.map(np.asarray, _operators(discretize(flow), state))


@jax.jit
def _operators(d, state):
    q, _ = split(d, state)
    g = gradient(d, q)
    R, gross = imbalance(d, state)
    return {"gradient": g, "residual": R, "gross": gross, "boundary": at_boundary(d, q, g)}


def gradients(flow, state):
    """The gradients alone, in NumPy."""
    d = discretize(flow)
    return np.asarray(gradient(d, split(d, state)[0]))


def state_of(flow, u, p):
    """The flat unknowns of given cell values, extra scalars zero."""
    q = jnp.concatenate([jnp.asarray(u), jnp.asarray(p)[:, None]], 1)
    return jnp.concatenate([q.ravel(), jnp.zeros(flow.n_extra)])


def cells_of(flow, flat):
    """The part of flat unknowns or residuals that belongs to cells, ``(cells, dim+1)``."""
    return flat[: flow.n_unknowns - flow.n_extra].reshape(flow.mesh.n_cells, -1)


def random_state(flow, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=flow.n_unknowns))


# ---- flows of every kind


def study(scale=1.0):
    """The flow of the derivative tests: every input that can be differentiated, each with values of its own."""
    m = mesh("box")
    rng = np.random.default_rng(5)
    return fg.Flow(
        Mesh(m.points * scale, m.topology),
        viscosity=0.07 * scale,
        porosity=rng.uniform(0, 0.5, m.n_cells) * scale,
        force=rng.normal(size=(m.n_cells, 2)) * 0.1 * scale,
        left=fg.Inflow(scale * np.array([0.4, 0.9, 1.0, 0.8, 0.5])),
        right=fg.Outflow(0.1 * scale),
        bottom=fg.Wall(rotation=0.0, center=(0.0, 0.0)),
        top=fg.Wall(velocity=(0.3 * scale, 0.0)),
    )


def inlets(scale=1.0):
    return fg.Flow(
        mesh("kinked box"), viscosity=0.05 * scale, scheme="upwind", porosity=0.1 * scale, left=fg.PressureInlet(1.0 * scale),
        right=fg.Outflow(0.0, tangential="zero"), bottom=fg.Symmetry(), top=fg.FarField((1.0 * scale, 0.2)),
    )  # fmt: skip


def driven(scale=1.0):
    """Closed and periodic, the pressure drop found from the flow rate: two scalar unknowns."""
    return fg.Flow(
        mesh("box"),
        viscosity=0.1 * scale,
        left=fg.Periodic("right", flow_rate=0.4 * scale),
        bottom=fg.Wall(),
        top=fg.Wall(rotation=0.3, center=(0.0, 0.0)),
    )


def solid(scale=1.0):
    return fg.Flow(
        mesh("extruded"), viscosity=0.1 * scale, porosity=0.2, left=fg.Inflow(scale), right=fg.Outflow(),
        bottom=fg.Wall(), top=fg.Symmetry(), front=fg.Periodic("back", pressure_drop=0.1 * scale),
    )  # fmt: skip


def stokes(scale=1.0):
    m = mesh("polygons")
    return with_velocity_given(m, lambda x: jnp.stack([x[1], 0.5 * x[0]]) * scale, viscosity=0.3, convection=False)


JACOBIANS = {"open": study, "inlets": inlets, "driven": driven, "3d": solid, "stokes": stokes}
