"""A process that may use one core only: XLA's pool has one thread there, which a callback must not wait for."""

import subprocess
import sys
import textwrap
from dataclasses import replace

import jax
import jax.numpy as jnp
import pytest

import fluidgrad as fg
from fluidgrad.errors import InputError

SECONDS = 240  # far more than it takes; a hang takes for ever

SCRIPT = """
    import os
    if hasattr(os, 'sched_setaffinity'):  # before XLA makes its pool
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    import sys
    from dataclasses import replace
    import jax, jax.numpy as jnp, numpy as np
    import fluidgrad as fg
    from fluidgrad.linear.jacobian import Jacobian, pattern
    from fluidgrad.linear import superlu
    from fluidgrad.linear import systems as linear

    mesh = fg.box((0, 0), (1, 1), (50, 50))
    flow = fg.Flow(mesh, viscosity=1.0, left=fg.Wall(), right=fg.Outflow(), bottom=fg.Wall(), top=fg.Wall())
    p, backend, m = pattern(flow), linear.choose("superlu"), mesh.dim + 1
    random = np.random.default_rng(0)
    blocks = random.normal(size=(len(p.row), m, m)) + 40 * np.eye(m) * (p.row == p.column)[:, None, None]
    empty = jnp.zeros((mesh.n_cells * m, 0))
    J = Jacobian(jnp.asarray(blocks), empty, empty.T, jnp.zeros((0, 0)), False)
    b = jnp.asarray(random.normal(size=mesh.n_cells * m))

    def solved(J, b):
        return linear.solve(backend, p, linear.factor(backend, p, J), b)

    ways = {
        "host": solved,
        "jit": jax.jit(lambda J, b: solved(J, jnp.sin(b) + 0 * b)),
        "vmap": lambda J, b: jax.vmap(lambda b: solved(J, b))(jnp.stack([b, b]))[0],
    }
    @jax.jit
    def late(blocks):  # still being computed when the solve is asked for, which XLA therefore leaves to its pool
        return jax.lax.fori_loop(0, 100, lambda _, x: x + 0 * jnp.sin(x), blocks)

    for _ in range(2):
        x = ways[sys.argv[1]](replace(J, blocks=late(J.blocks)), b)
    print(float(jnp.linalg.norm(x)))
"""


@pytest.mark.parametrize("way", ["host", "jit", "vmap"])
def test_a_solve_on_one_core_comes_to_its_end(way):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), way]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) > 0


def test_without_a_safe_callback_one_core_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "jax.experimental.buffer_callback", None)  # as in a JAX that has it no longer
    flow = fg.Flow(fg.box((0, 0), (1, 1), (3, 3)), viscosity=1.0, left=fg.Wall(), right=fg.Outflow(), bottom=fg.Wall(), top=fg.Wall())

    def norm(force):
        return jnp.sum(fg.solve_steady(replace(flow, force=force), linear="superlu").state ** 2)

    monkeypatch.setenv("NPROC", "1")
    with pytest.raises(InputError, match=r"cannot call SuperLU from jax.jit or jax.vmap where a process has one core; .* NPROC=2"):
        jax.jit(norm)(jnp.ones(2))
    there = float(norm(jnp.ones(2)))  # needs no callback
    monkeypatch.setenv("NPROC", "2")
    assert float(jax.jit(norm)(jnp.ones(2))) == pytest.approx(there, rel=1e-12)
