"""Whether a steady flow would be seen: how fast small disturbances of it grow.

Newton's method finds steady flows whether or not they are stable. A small disturbance q' of one obeys

    M dq'/dt = -R_q q',        M the volumes of the cells in rows of momentum, 0 in rows of mass and of extra scalars,

and is made of modes exp(lambda t) x with -R_q x = lambda M x. The flow is stable if every lambda has a negative real part.
The modes that matter are near zero and far from most: Arnoldi's method on the inverse of the pencil moved by a real sigma,

    -(R_q + sigma M)^-1 M x = theta x,        lambda = sigma + 1 / theta,

finds them with one factorisation and a solve for each direction. The directions are orthogonal in the kinetic energy, the
sum of V |u|^2: pressures follow from velocities, and what is infinite in lambda is no direction at all. sigma is a rate of
the flow itself, a third of the shear where that is strong; within a factor of three of it the same modes are found.

Cliffe, Garratt & Spence, SIAM J. Matrix Anal. Appl. 15 (1994) 1310; Theofilis, Annu. Rev. Fluid Mech. 43 (2011) 319.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from fluidgrad.errors import InputError, NotConverged
from fluidgrad.flow.flow import Flow
from fluidgrad.flow.fluxes import discretize, gradient
from fluidgrad.flow.residual import split
from fluidgrad.flow.solution import Solution
from fluidgrad.iteration import traced
from fluidgrad.linear import systems as backends
from fluidgrad.linear.jacobian import Jacobian, Places, assemble, pattern
from fluidgrad.programs import compiled

SHIFT = 1 / 3  # of the shear: sigma
LEADING = 2  # that many of the fastest growing must be certain: a mode that swings is two
DIRECTIONS, BETWEEN = 300, 50  # of Arnoldi's method at most, and between two looks at what was found
NOTHING = 1e-12  # of the largest: round-off
CERTAIN = 1e-3  # of |lambda - sigma|: an eigenvalue whose residual is larger is not given
MOST = {2: 150_000, 3: 15_000}  # cells, by dimension, that factors of the exact Jacobian are made for
SEED = 0  # of the first direction


def growth_rates(solution: Solution, linear: str = "auto") -> Complex[np.ndarray, " modes"]:
    """The rates of the modes that small disturbances of a steady flow are made of, as far as they were found.

    Args:
        solution: of ``solve_steady``.
        linear: as for ``solve_steady``; "multigrid", which is not exact, means "auto".

    Returns:
        lambda [1/T], the fastest growing first: the real part is the rate of growth (negative: of decay), the imaginary
        part the angular frequency. Those found to a thousandth, the leading one among them unless some that are found
        grow anyway; modes that decay or swing faster than the flow shears are not. What a growing mode ends in, such as
        vortices that are shed, has another frequency but at the onset.

    Raises:
        InputError: a solution that is traced, or of a fluid at rest; more cells than direct solvers of the exact Jacobian go to.
        NotConverged: the leading rate did not become certain, and none that did grows: whether the flow is stable is not
            known.

    Not differentiable.
    """
    if traced(solution.flow, solution.state):
        raise InputError("growth rates of a traced solution", accepted="a solution outside jax.jit and jax.grad")
    flow, p = solution.flow, pattern(solution.flow)
    backend = backends.choose("auto" if linear == "multigrid" else linear)
    if p.n_cells > (most := MOST[flow.mesh.dim]):
        given = f"growth rates of a flow in {p.n_cells} cells, which take factors of the exact Jacobian"
        raise InputError(given, accepted=f"at most {most} in {flow.mesh.dim}D")
    backend.check(p)
    J, M, shear = _linearized(flow, p.places, solution.state)
    if not shear > 0:
        raise InputError("growth rates of a fluid at rest", accepted="a flow")
    shift = SHIFT * float(shear)
    factor = backends.factor(backend, p, _moved(p.places, J, shift * M))
    weight = np.asarray(M)
    moves = weight > 0
    root = np.sqrt(weight[moves])

    def operator(x: Float[np.ndarray, " moving"]) -> Float[np.ndarray, " moving"]:
        b = np.zeros(len(weight))
        b[moves] = root * x
        return -root * np.asarray(backends.solve(backend, p, factor, jnp.asarray(b)))[moves]

    theta, leading = _arnoldi(operator, np.random.default_rng(SEED).standard_normal(len(root)))
    rates = shift + 1 / theta
    if not leading and not (rates.real > 0).any():
        found = f"; of {len(rates)} that were, none grows, the slowest decays at {-rates.real.max():.3g}" if len(rates) else ""
        raise NotConverged(f"the leading growth rate was not found to a thousandth in {DIRECTIONS} directions{found}")
    return rates[np.lexsort((rates.imag, -rates.real))]


def _arnoldi(operator: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> tuple[Complex[np.ndarray, " found"], bool]:
    """Eigenvalues theta of the operator, those with |A x - theta x| small for the unit vector x found with them (Saad,
    Numerical Methods for Large Eigenvalue Problems, 2011, section 6.2), and whether the leading ones are among them.

    Without restarts (ARPACK's): those keep the largest theta, which are nearest to sigma, and drop the fastest growing."""
    most = min(DIRECTIONS, len(x) - 1)
    Q, H = np.zeros((most + 1, len(x))), np.zeros((most + 1, most))
    Q[0] = x / np.linalg.norm(x)
    for j in range(most):
        w = operator(Q[j])
        for _ in range(2):  # twice is enough (Giraud et al. 2005)
            h = Q[: j + 1] @ w
            w, H[: j + 1, j] = w - h @ Q[: j + 1], H[: j + 1, j] + h
        H[j + 1, j] = np.linalg.norm(w)
        if not np.isfinite(H[j + 1, j]):
            break
        n = j + 1
        last = n == most or H[n, j] <= NOTHING * np.abs(H[:n, :n]).max()  # no new direction: all that there are were found
        if n % BETWEEN == 0 or last:
            theta, y = np.linalg.eig(H[:n, :n])
            finite = np.abs(theta) > NOTHING * np.abs(theta).max()  # zero in the directions in which mass is not conserved
            certain = (H[n, j] * np.abs(y[j]) <= CERTAIN * np.abs(theta)) & finite
            leading = np.argsort(np.where(finite, -(1 / np.where(finite, theta, 1)).real, np.inf))[: min(LEADING, finite.sum())]
            if certain[leading].all() or last:
                return theta[certain], bool(certain[leading].all())
        Q[n] = w / H[n, j]
    return np.zeros(0, complex), False


@compiled
def _linearized(flow: Flow, places: Places, state: Array) -> tuple[Jacobian, Array, Array]:
    """The Jacobian, the diagonal of M, and the mean rate of shear weighted by its own square: that of the layers where the
    flow shears, however large the rest."""
    d = discretize(flow)
    q, _ = split(d, state)
    V = d.geometry.V
    rate = jnp.sqrt(jnp.sum(gradient(d, q)[:, :-1] ** 2, (1, 2)))
    square = V @ rate**2
    shear = V @ rate**3 / jnp.where(square > 0, square, 1.0)
    cells = jnp.zeros_like(q).at[:, :-1].set(V[:, None])
    return assemble(d, places, state), jnp.concatenate([cells.ravel(), jnp.zeros(d.n_extra)]), shear


@jax.jit
def _moved(places: Places, J: Jacobian, diagonal: Array) -> Jacobian:
    """J plus a diagonal matrix, which is zero in the rows of extra scalars."""
    own, m = places.block[:, :1], np.arange(J.blocks.shape[1])  # the first contribution to a row is the cell's own
    return replace(J, blocks=J.blocks.at[own, m, m].add(diagonal[: own.size * len(m)].reshape(len(own), -1)))
