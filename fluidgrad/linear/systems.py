"""Linear solves with the Jacobian: factor once, solve, solve transposed.

Every system, of a Newton step, a tangent or an adjoint, is solved by GMRES (``krylov.py``) on the exact product of the
Jacobian with a vector. What preconditions it is made of a matrix near it: of the Jacobian where a step began, of an
earlier step's, or of the *compact* Jacobian there (``jacobian.py``), whose LU factors take a fifth of the time and a third of the
memory, and 10 to 40 directions of GMRES. There are two direct backends with the same answers, and one for large flows:

:class:`~fluidgrad.linear.superlu.SuperLU`
    SciPy's sparse LU on the host, in an order of least degree. The CPU default, with the compact Jacobian: a flow and its gradient
    take 1.3 times as long as with the exact one at 600 cells round a cylinder, 0.75 times at 1,500, 0.64 at 5,000, 0.23 at 20,000,
    and 0.1 in a cube of 12^3.
:class:`~fluidgrad.linear.block_tridiagonal.BlockTridiagonal`
    Dense LU along breadth-first levels of the cell graph, pure JAX and free of callbacks. The default elsewhere: it
    runs on a GPU and lowers for one anywhere. Its time goes with the number of unknowns in a row, whatever the matrix, so it
    factors the exact one, unless only the compact one's factors fit in the memory.

:class:`~fluidgrad.linear.coupled.Multigrid`
    A cycle on the compact Jacobian, pure JAX and free of callbacks. Its memory goes with the number of cells, its time nearly so:
    the default beyond ``DIRECT``.

A *factor*, as what each of them makes of a matrix is called, is an array pytree that can be passed through ``jit`` and kept.
SuperLU's is the matrix itself: the host remembers the factorisations of the last few matrices it saw, so solving twice with one
matrix factors it once, and a solve stays a pure function of matrix and right-hand side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fluidgrad.errors import InputError
from fluidgrad.flow.flow import Flow
from fluidgrad.linear.block_tridiagonal import BlockTridiagonal
from fluidgrad.linear.coupled import Multigrid, Product
from fluidgrad.linear.jacobian import Datum, Jacobian, Pattern, datum, scales
from fluidgrad.linear.superlu import SuperLU
from fluidgrad.parts import total

# Cells up to which direct solvers are chosen, in 2D and in 3D. On two cores of a CPU SuperLU was faster in 2D as far as was measured, and
# slower in 3D from 6,000 cells on, once all is compiled (experiments/large). On a GPU multigrid was not measured.
DIRECT = {"superlu": {2: 640_000, 3: 8_000}, "block_tridiagonal": {2: 100_000, 3: 20_000}}
BACKENDS = {"superlu": SuperLU, "block_tridiagonal": BlockTridiagonal, "multigrid": Multigrid}


class Backend(Protocol):
    """A solver of the cell-to-cell part of the Jacobian, ``blocks`` on a ``Pattern``: exact, or nearly."""

    spread: bool  # whether the datum that it wants is of all pressures, or of one

    def prefers_compact(self, flow: Flow, may: bool) -> bool:
        """Whether a flow is solved by the compact Jacobian: faster where it ``may`` be, or only so."""
        ...

    def check(self, p: Pattern) -> None:
        """Raises ``OutOfReach`` where the memory for it is not there, before any is taken."""
        ...

    def factor(self, p: Pattern, blocks: Array, datum: Datum | None) -> Any: ...

    def transposed(self, p: Pattern, factor: Any) -> Any:
        """What ``solve`` wants for the transpose."""
        ...

    def solve(self, p: Pattern, factor: Any, b: Float[Array, "unknowns k"], transpose: bool, product: Product | None = None) -> Array:
        """Of one right-hand side also by products with the exact matrix, where they are known and of use."""
        ...


def choose(name: str, flow: Flow | None = None) -> Backend:
    """The backend of a name; "auto" is a direct one, SuperLU on a CPU and block-tridiagonal elsewhere, or multigrid where a flow is
    too large for that."""
    if name == "auto":
        name = "superlu" if jax.default_backend() == "cpu" else "block_tridiagonal"
        if flow is not None and flow.mesh.n_cells > DIRECT[name][flow.mesh.dim]:
            name = "multigrid"
    if name not in BACKENDS:
        raise InputError(f"unknown linear backend {name!r}", accepted=f"one of auto, {', '.join(BACKENDS)}")
    return BACKENDS[name]()


@partial(jax.tree_util.register_dataclass, data_fields=["held", "J", "datum", "border", "weight"], meta_fields=["transpose"])
@dataclass(frozen=True)
class Factored:
    """A Jacobian, or its transpose, that is ready to solve with.

    Attributes:
        held: what the backend made of its cell-to-cell part.
        J: the Jacobian itself.
        datum: what was added to that part of a closed domain's, for it is singular by a constant pressure.
        border: the solutions whose right-hand sides are its borders, ``(cells m, k + 1)``; empty where it has none.
        weight: of the equations, ``(unknowns,)``: residuals multiplied by it have no units, and are alike in all.
        transpose: whether it is the transpose; static.
    """

    held: Any
    J: Jacobian
    datum: Datum | None
    border: Array
    weight: Array
    transpose: bool


def factor(backend: Backend, p: Pattern, J: Jacobian) -> Factored:
    """Factor a Jacobian. Borders are eliminated, so that one backend serves open and closed domains; the cell-to-cell part of
    a closed domain is singular by a constant pressure, and its datum is eliminated with them."""
    level = datum(J, backend.spread)
    return _bordered(backend, p, backend.factor(p, J.blocks, level), J, level, False)


def transposed(backend: Backend, p: Pattern, f: Factored) -> Factored:
    """The transpose, by what the backend made of the matrix."""
    return _bordered(backend, p, backend.transposed(p, f.held), f.J, f.datum, not f.transpose)


def _bordered(backend: Backend, p: Pattern, held: Any, J: Jacobian, level: Datum | None, transpose: bool) -> Factored:
    border, weight = _begun(J, level, transpose)
    return Factored(held, J, level, backend.solve(p, held, border, transpose) if J.corner.size else border, weight, transpose)


def solve(backend: Backend, p: Pattern, f: Factored, b: Array, matvec: Callable[[Array], Array] | None = None) -> Array:
    """x with J x = b, for flat vectors; nearly, where J is compact or the backend is not exact. ``matvec``: a product with the exact
    Jacobian, for backends that gain by it."""
    k = f.J.corner.shape[0]
    product = None if matvec is None else lambda x: matvec(jnp.append(x, jnp.zeros(k, x.dtype)))[: len(x), None]
    return _eliminated(f, b, backend.solve(p, f.held, _side(f.J, b), f.transpose, product))


# Compiled apart from the backend's part, which is a call of the host where nothing is traced.


@jax.jit
def _side(J: Jacobian, b: Array) -> Float[Array, "unknowns 1"]:
    return b[: len(J.columns), None]


# J = [[A, B], [C, D]], in a closed domain with A = A' - s e e^T; unknowns x, y and z = e^T x: all solves are with A'.


@partial(jax.jit, static_argnums=2)
def _begun(J: Jacobian, level: Datum | None, transpose: bool) -> tuple[Float[Array, "unknowns k"], Array]:
    """The right-hand sides that the elimination of the borders needs, B and s e, and the weights."""
    B = J.rows.T if transpose else J.columns
    weight = _weight(J, transpose)
    return B if level is None else jnp.concatenate([B, (level.size * level.e)[:, None]], 1), weight


def _weight(J: Jacobian, transpose: bool) -> Array:
    """Factors of the equations that leave entries of the size of 1. In a column's units its rows of the transpose are measured."""
    r, c = (jnp.tile(scale, len(J.columns) // len(scale)) for scale in scales(J.blocks))
    border, other, own = (J.columns.T, r, c) if transpose else (J.rows, c, r)
    size = jnp.sqrt(total(jnp.sum((border * other) ** 2, 1)))
    return jnp.concatenate([own, 1.0 / jnp.where(size > 0, size, 1.0)])


@jax.jit
def _eliminated(f: Factored, b: Array, x: Array) -> Array:
    """The solution of the bordered system from that of its cell-to-cell part."""
    J, x = f.J, x[:, 0]
    if not J.corner.size:
        return x
    C, D = (J.columns.T, J.corner.T) if f.transpose else (J.rows, J.corner)
    n, k = len(x), D.shape[1]
    X_B, X_e = f.border[:, :k], f.border[:, k:]
    e = jnp.zeros((0, n), x.dtype) if f.datum is None else f.datum.e[None]
    CX_B, CX_e, eX_B, eX_e, Cx, ex = (total(product) for product in (C @ X_B, C @ X_e, e @ X_B, e @ X_e, C @ x, e @ x))
    small = jnp.block([[D - CX_B, CX_e], [-eX_B, eX_e - jnp.eye(len(e))]])
    y = jnp.linalg.solve(small, jnp.concatenate([b[n:] - Cx, -ex]))
    return jnp.concatenate([x - X_B @ y[:k] + X_e @ y[k:], y[:k]])
