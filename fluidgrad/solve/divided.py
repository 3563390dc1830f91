"""Steady flow on several devices: each has a part of the cells (``division.py``) and runs the program that one device would run.

A flow is discretized as a whole, and what was computed of it is given out. Beside the copies of cells, what passes between devices are
sums and what the cycle of multigrid needs, whose aggregates are of one part each and whose sweeps end where a part ends. So flows and
derivatives are those of one device, up to the tolerances of their linear solves.

On several hosts (``jax.distributed``) each process computes for itself whatever is not a solve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array

from fluidgrad.errors import InputError
from fluidgrad.flow.flow import Flow
from fluidgrad.flow.layout import Discrete
from fluidgrad.flow.residual import tangent
from fluidgrad.iteration import traced
from fluidgrad.linear import systems as backends
from fluidgrad.linear.jacobian import Pattern, Places
from fluidgrad.linear.krylov import gmres, times, transposed_times
from fluidgrad.linear.levels import Tables
from fluidgrad.mesh.topology import Topology
from fluidgrad.parts import on_parts, share, stacked, total
from fluidgrad.solve.continuation import Steady, search
from fluidgrad.solve.division import Division, apart, division

ADVICE = "jax.config.update('jax_num_cpu_devices', n) says before anything is computed"
State = tuple[Array, Array]  # of cells, flat, and of none


@partial(jax.tree_util.register_dataclass, data_fields=["places", "levels"], meta_fields=[])
@dataclass(frozen=True)
class _Pattern:
    """What a program of several devices knows of the pattern of the Jacobian: that of its part."""

    places: Places
    levels: Tables

    def of(self, build: Any) -> Tables:
        return self.levels


@dataclass(frozen=True)
class Divided(Steady):
    """:class:`Steady` on several devices."""

    devices: int

    def __str__(self) -> str:
        return f"{super().__str__()} on {self.devices} devices"

    def check(self, p: Pattern) -> None:
        here = jax.local_device_count() if jax.default_backend() == "cpu" else 1  # of a CPU all have the same memory
        self.backend.check(p, min(here, self.devices) / self.devices)  # pyright: ignore[reportCallIssue]

    def solve(self, flow: Flow, start: tuple[Array, Array]) -> tuple[Array, Array, Any]:
        self.admit(flow)
        v = self._division(flow)
        (q, factor), (extra, went) = self._run(_search, flow, given_out(v, start[0]), _on_all(start[1], self.devices))
        return collected(v, q, extra), _known(went), factor

    def linear_solve(self, flow: Flow, q: Array, factor: Any, b: Array, transpose: bool, matvec: Any = None) -> tuple[Array, Array, Array]:
        v = self._division(flow)
        x, (extra, *went) = self._run(_adjoint if transpose else _tangent, flow, given_out(v, q), factor, given_out(v, b))
        residual, products = went
        return collected(v, x, extra), _known(residual), _known(products)

    def _division(self, flow: Flow, of: Callable[..., Division] = division) -> Division:
        if self.devices > len(jax.devices()):
            given = f"{self.devices} devices, and JAX has {len(jax.devices())} ({jax.default_backend()})"
            raise InputError(given, accepted=f"at most that; of a CPU as many as {ADVICE}")
        return flow.joined.topology.kept(of, flow.gives, tuple((w.start, w.stop) for w in flow.periodic.values()), self.devices)

    def _run(self, work: Callable[..., Any], flow: Flow, *arguments: Any) -> Any:
        """What every device makes of its part of a flow."""
        v, tables, d = self._division(flow), self._division(flow, _on_devices), self.prepare(flow)
        p = _Pattern(tables.places, tables.levels)
        if traced(d, arguments):
            program = partial(_program, self, work)
            parts = apart(d, tables, tables), p, *arguments
            if jax.process_count() > 1:  # its arrays are those of this process alone; to be traced it may be
                return jax.pure_callback(_refuse, jax.eval_shape(program, *parts))
            return program(*parts)
        d = apart(jax.tree.map(np.asarray, d), v, tables)
        return _program(self, work, *stacked((d, p, *arguments), self.devices))


def _refuse() -> Any:
    given = "on several processes a flow that is part of another program (jit, vmap, forward mode)"
    raise InputError(given, accepted="reverse mode where nothing is jitted: value_and_grad, or jax.vjp; or all devices in one process")


def _on_devices(t: Topology, gives: tuple[str, ...], drops: tuple[tuple[int, int], ...], n: int) -> Division:
    """The division, each part on its device."""
    return stacked(t.kept(division, gives, drops, n), n)


def given_out(v: Division, state: Array) -> State:
    """Of a state each part's own cells, and what belongs to no cell."""
    xp, n = jnp if traced(state) else np, len(v.cells)
    k = v.part.n_all * v.m
    q = xp.concatenate([state[:k].reshape(-1, v.m), xp.zeros((1, v.m))])[v.cells[:, : v.part.n_own]]
    return q.reshape(n, -1), _on_all(state[k:], n)


def _on_all(x: Array, n: int) -> Any:
    return (jnp if traced(x) else np).broadcast_to(x, (n, *x.shape))


def collected(v: Division, q: Array, extra: Array) -> Array:
    """The state of all parts."""
    q, extra = _known(q), _known(extra)
    own = v.cells[:, : v.part.n_own].ravel()  # the number of all cells where there is none
    return jnp.concatenate([jnp.zeros((v.part.n_all, v.m), q.dtype).at[own].set(q.reshape(-1, v.m), mode="drop").ravel(), extra])


def exchanged(flow: Flow, devices: int) -> tuple[int, int]:
    """Cells that a device has of its own at most, and bytes that a residual sends between devices."""
    problem = Divided(backends.choose("multigrid"), True, 0.0, devices)
    v = problem._division(flow)
    return v.part.n_own, v.part.halo.sent * v.m * flow.mesh.points.dtype.itemsize


@partial(jax.jit, static_argnums=(0, 1))
def _program(problem: Divided, work: Callable[..., Any], *parts: Any) -> Any:
    return on_parts(problem.devices, partial(work, problem))(*parts)


def _search(problem: Divided, d: Discrete, p: Any, start: State, tolerance: Array) -> Any:
    state, went, factor = search(problem.backend, p, d, jnp.concatenate(start), tolerance)
    q, extra = jnp.split(state, [start[0].size])
    return (q, factor), (extra, went)


def _tangent(problem: Divided, d: Discrete, p: Any, q: State, factor: backends.Factored, b: State) -> Any:
    return _solved(problem, p, partial(times, tangent(d, jnp.concatenate(q))), factor, b)


def _adjoint(problem: Divided, d: Discrete, p: Any, q: State, factor: backends.Factored, b: State) -> Any:
    R_q, n = tangent(d, jnp.concatenate(q)), q[0].size

    def transposed(x: Array) -> Array:
        x = transposed_times(R_q, jnp.append(x[:n], share(x[n:])))
        return jnp.append(x[:n], total(x[n:]))

    return _solved(problem, p, transposed, backends.transposed(problem.backend, p, factor), b)


def _solved(problem: Divided, p: Any, product: Callable[[Array], Array], f: backends.Factored, b: State) -> Any:
    precondition = partial(backends.solve, problem.backend, p, f, matvec=product)
    x, *went = gmres(product, precondition, f.weight, jnp.concatenate(b), problem.accuracy)
    q, extra = jnp.split(x, [b[0].size])
    return q, (extra, *went)


def _known(x: Array) -> Array:
    """What lies on all devices, on this process's own."""
    if traced(x):
        return x
    everywhere = x if x.is_fully_addressable or x.is_fully_replicated else multihost_utils.process_allgather(x, tiled=True)
    return jnp.asarray(np.asarray(everywhere))
