"""Linear solves: both direct backends, transposed, bordered; orderings; singular and huge systems; GMRES."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spla
from cases import driven, random_state, study

import fluidgrad as fg
from fluidgrad.errors import InputError, OutOfReach
from fluidgrad.flow.fluxes import discretize
from fluidgrad.linear import krylov, superlu
from fluidgrad.linear import systems as linear
from fluidgrad.linear.jacobian import as_csr, assemble, datum, pattern, pinned
from fluidgrad.linear.ordering import least_degree

DIRECT = ["superlu", "block_tridiagonal"]
FLOWS = {"open": study, "closed and driven": driven}

FIRST = 0, -1, -1  # the pressure of the first cell, in its own equation


@jax.jit
def system(flow, state):
    return assemble(discretize(flow), pattern(flow).places, state)


@pytest.fixture(scope="module", params=FLOWS)
def matrix(request):
    flow = FLOWS[request.param]()
    p = pattern(flow)
    J = system(flow, 0.1 * random_state(flow))
    dense = np.block([[as_csr(p, J.blocks).toarray(), np.asarray(J.columns)], [np.asarray(J.rows), np.asarray(J.corner)]])
    return p, J, dense


@pytest.mark.parametrize("transpose", [False, True])
@pytest.mark.parametrize("name", DIRECT)
def test_every_backend_solves_the_system_and_its_transpose(matrix, name, transpose):
    p, J, dense = matrix
    b = np.random.default_rng(0).normal(size=len(dense))
    backend = linear.choose(name)

    @jax.jit
    def solved(J, b):
        factored = linear.factor(backend, p, J)
        return linear.solve(backend, p, linear.transposed(backend, p, factored) if transpose else factored, b)

    x = solved(J, b)
    wanted = np.linalg.solve(dense.T if transpose else dense, b)
    # round-off times the condition number, about 1e4
    np.testing.assert_allclose(x, wanted, atol=1e-10 * np.abs(wanted).max())


def test_auto_is_superlu_on_a_cpu_and_pure_jax_elsewhere():
    name = "SuperLU" if jax.default_backend() == "cpu" else "BlockTridiagonal"
    assert type(linear.choose("auto")).__name__ == name
    with pytest.raises(InputError, match="unknown linear backend 'mumps'; one of auto, superlu, block_tridiagonal, multigrid"):
        linear.choose("mumps")


@pytest.mark.parametrize("name", DIRECT)
@pytest.mark.parametrize("spoilt", ["singular", "nan"])
def test_what_cannot_be_solved_gives_nothing_finite(name, spoilt):
    flow = study()
    p = pattern(flow)
    J = system(flow, random_state(flow))
    if spoilt == "nan":
        J = replace(J, blocks=J.blocks.at[3, 0, 0].set(jnp.nan))
    else:
        J = replace(J, blocks=jnp.where((p.row == 4)[:, None, None], 0.0, J.blocks))  # an empty row
    backend = linear.choose(name)
    x = jax.jit(lambda J, b: linear.solve(backend, p, linear.factor(backend, p, J), b))(J, jnp.ones(90))
    assert not np.isfinite(x).all()


def test_superlu_factors_a_matrix_once(matrix, monkeypatch):
    p, J, _ = matrix
    factored = []
    splu = superlu._splu
    monkeypatch.setattr(superlu, "_splu", lambda held: factored.append(1) or splu(held))
    superlu._held.clear()
    blocks, b = np.asarray(J.blocks) + 0.0, np.ones((p.n_cells * p.block, 1))
    blocks[FIRST] *= 2
    for transpose in (False, True, False):
        assert np.isfinite(superlu._host_solve(p, transpose, blocks, b)).all()
    assert len(factored) == 1
    superlu._host_solve(p, False, 2 * blocks, b)
    assert len(factored) == 2


def test_a_preconditioner_is_of_single_precision_where_that_is_good_enough(monkeypatch):
    flow = study()
    p = pattern(flow, compact=True)
    blocks = jax.jit(lambda q: assemble(discretize(flow), p.places, q).blocks)(0.1 * random_state(flow))
    b = np.random.default_rng(0).standard_normal((p.n_cells * p.block, 1))
    A, splu = as_csr(p, np.asarray(blocks)), superlu._splu

    def residual():
        return np.linalg.norm(A @ superlu._host_solve(p, False, blocks, b) - b) / np.linalg.norm(b)

    superlu._held.clear()
    assert 1e-10 < residual() < 1e-4
    assert superlu._held[-1].refinements == 0 and superlu._held[-1].size == 8 * superlu._held[-1].lu.nnz

    class Lost:  # as by a matrix whose condition single precision does not bear
        def __init__(self, lu):
            self.lu, self.nnz = lu, lu.nnz

        def solve(self, b, trans):
            return self.lu.solve(b, trans=trans) * (b.dtype == np.float64)

    monkeypatch.setattr(superlu, "_splu", lambda held: Lost(splu(held)))
    superlu._held.clear()
    assert residual() < 1e-10
    assert superlu._held[-1].size == 12 * superlu._held[-1].lu.nnz
    superlu._held.clear()


def test_what_the_first_solve_needed_to_be_exact_every_later_one_gets(matrix, monkeypatch):
    p, J, _ = matrix

    class Rough:
        def __init__(self, lu):
            self.nnz, self.solve, self.solves = lu.nnz, lambda *a, **k: self.count() * lu.solve(*a, **k), 0

        def count(self):
            self.solves += 1
            return 1 + 1e-4

    splu = superlu._splu
    monkeypatch.setattr(superlu, "_splu", lambda held: Rough(splu(held)))
    superlu._held.clear()
    b = np.random.default_rng(0).standard_normal((p.n_cells * p.block, 1))
    blocks = pinned(J.blocks, datum(J, False))
    A = as_csr(p, np.asarray(blocks))
    for count, transpose in enumerate((False, False, True), 1):
        x = superlu._host_solve(p, transpose, blocks, b)
        assert np.linalg.norm((A.T if transpose else A) @ x - b) < 1e-11 * np.linalg.norm(b)
        held = superlu._held[-1]
        assert held.given is blocks and held.refinements == 3 and held.lu.solves == 4 * count
    superlu._held.clear()


def test_a_factorisation_is_made_and_dropped_on_one_thread(matrix, monkeypatch):
    """SciPy leaks the memory of one that is dropped on another thread than its maker's; XLA's callbacks come on any."""
    p, J, _ = matrix
    threads, splu = [], superlu._splu

    class Watched:
        def __init__(self, lu):
            self.lu, self.nnz, self.solve = lu, lu.nnz, lu.solve
            threads.append(threading.get_ident())

        def __del__(self):
            threads.append(threading.get_ident())

    monkeypatch.setattr(superlu, "_splu", lambda held: Watched(splu(held)))
    monkeypatch.setattr(superlu, "HELD", 0)  # the last one only: every new matrix drops one
    blocks, b = np.asarray(J.blocks) + 0.0, np.ones((p.n_cells * p.block, 1))
    blocks[FIRST] *= 3
    for k in range(4):
        with ThreadPoolExecutor(1) as other:
            other.submit(superlu._host_solve, p, False, (1 + k) * blocks, b).result()
        assert len(superlu._held) == 1
    superlu._host.submit(superlu._held.clear).result()
    assert len(threads) == 8  # four made, four dropped
    assert len(set(threads)) == 1


def in_a_square():
    return fg.Flow(fg.box(cells=(24, 24)), viscosity=0.1, left=fg.Inflow(1.0), right=fg.Outflow(), bottom=fg.Wall(), top=fg.Wall())


def in_a_cube():
    walls = {name: fg.Wall() for name in ("left", "right", "bottom", "front", "back")}
    mesh = fg.extrude(fg.box(cells=(8, 8)), 1.0, 8, patches=("front", "back"))
    return fg.Flow(mesh, viscosity=0.1, top=fg.Wall(velocity=(1.0, 0.0, 0.0)), **walls)


def test_the_order_has_less_fill_than_the_natural_one():
    p = pattern(in_a_square())
    order = least_degree(p)
    assert sorted(order) == list(range(p.n_cells))
    A = sp.csc_matrix((np.where(p.row == p.column, 100.0, -1.0), (p.row, p.column)))

    def fill(A):
        return spla.splu(A, permc_spec="NATURAL", diag_pivot_thresh=0.0).nnz

    assert fill(A[order][:, order]) < 0.7 * fill(A)


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("make", [in_a_square, in_a_cube])
def test_the_memory_of_superlu_is_predicted_and_what_is_not_there_refused_before_any_is_taken(make, compact, monkeypatch):
    flow = make()
    p = pattern(flow, compact)
    J = jax.jit(lambda d, q: assemble(d, p.places, q))(discretize(flow), 0.1 * random_state(flow))
    blocks = np.asarray(J.blocks) + 0.0
    blocks[FIRST] *= 2
    assert superlu.memory(p) == pytest.approx(superlu._factorisation(p, blocks).size, rel=1 / 5)

    needed = superlu.memory(pattern(flow, compact=True))
    monkeypatch.setattr(superlu, "_splu", None)  # not reached
    for there, taken in ((0.9 * needed, f"about {needed / 2**30:.2g}"), (2.0**17, f"more than {2.0**18 / 2**30:.2g}")):
        monkeypatch.setattr(superlu, "host_memory", lambda there=there: there)
        wanted = f"SuperLU needs {taken} GiB for the compact Jacobian of {flow.mesh.n_cells} cells, and {there / 2**30:.2g} GiB are free;"
        with pytest.raises(OutOfReach, match=wanted):
            fg.solve_steady(flow)


# ---- GMRES

N = 40
A = np.eye(N) * 3 + np.random.default_rng(3).normal(size=(N, N)) / np.sqrt(N)


@jax.jit
def gmres(b, exact):
    """With the inverse of the matrix, or with nothing, as preconditioner."""
    inverse = jnp.where(exact, jnp.asarray(np.linalg.inv(A)), jnp.eye(N))
    return krylov.gmres(lambda x: jnp.asarray(A) @ x, lambda x: inverse @ x, 1.0, b, 1e-13)


def test_gmres_reports_the_true_residual():
    b = np.random.default_rng(4).normal(size=N)
    x, residual, products = gmres(b, False)
    assert float(residual) == pytest.approx(np.linalg.norm(b - A @ x) / np.linalg.norm(b), rel=1e-2, abs=1e-16)
    assert residual < 1e-9 and 2 < products <= 30


@pytest.mark.parametrize("size", [1e-300, 1e-13, 1.0, 1e200])
def test_gmres_takes_right_hand_sides_of_any_size(size):
    b = np.random.default_rng(4).normal(size=N) * size
    x, residual, products = gmres(b, True)
    assert residual <= 1e-13 and products <= 2
    np.testing.assert_allclose(np.asarray(x) / size, np.linalg.solve(A, b / size), rtol=1e-11)


def test_gmres_of_zero_is_zero():
    x, residual, products = gmres(np.zeros(N), True)
    assert not np.asarray(x).any() and residual == 0 and products == 0


def test_gmres_of_nan_is_no_solution():
    _, residual, _ = gmres(np.full(N, np.nan), True)
    assert np.isnan(residual)
