"""The block-tridiagonal solver: what memory it takes, and that it takes none where that is not there."""

import ctypes
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from cases import study
from processes import ended, python

import fluidgrad as fg
from fluidgrad import device
from fluidgrad.errors import OutOfReach
from fluidgrad.linear import block_tridiagonal
from fluidgrad.linear.block_tridiagonal import BlockTridiagonal, free_memory, memory
from fluidgrad.linear.jacobian import pattern


def cavity(n):
    sides = {side: fg.Wall() for side in ("left", "right", "bottom")}
    return fg.Flow(fg.box(cells=(n, n)), viscosity=0.1, top=fg.Wall(velocity=(1.0, 0.0)), **sides)


def taken(program, *arguments):
    """Bytes that XLA plans for a program, without running it."""
    plan = jax.jit(program).lower(*arguments).compile().memory_analysis()
    return plan.argument_size_in_bytes + plan.output_size_in_bytes + plan.temp_size_in_bytes


@pytest.mark.parametrize("n,transform", [(40, lambda f: f), pytest.param(80, jax.value_and_grad, marks=pytest.mark.slow)])
def test_the_memory_of_a_solve_and_its_gradient_is_predicted(n, transform):
    flow = cavity(n)

    def loss(nu):
        return fg.dissipation(fg.solve_steady(replace(flow, viscosity=nu), linear="block_tridiagonal"))

    predicted, planned = memory(pattern(flow)), taken(transform(loss), jnp.asarray(0.1))
    # A compiled loop keeps one factor; outside of jit, where steps are calls of their own, the last one's is there as well.
    assert 0.45 * predicted < planned < predicted


@pytest.mark.parametrize("cells,compact,peak", [(5000, False, 0.28), (5000, True, 0.14), (20000, False, 2.09), (20000, True, 1.04)])
def test_the_prediction_is_within_a_fifth_of_what_a_solve_and_its_gradient_took_on_a_gpu(cells, compact, peak):
    """Peaks in GiB on one NVIDIA H200, by ``experiments/device/run.py``."""
    mesh = fg.channel(2.2, 0.41, fg.circle((0.2, 0.2), 0.05), cells=cells)
    flow = fg.Flow(mesh, viscosity=1e-3, inlet=fg.Inflow(0.2), outlet=fg.Outflow(), walls=fg.Wall(), body=fg.Wall())
    assert memory(pattern(flow, compact)) == pytest.approx(peak * 2**30, rel=0.2)


@pytest.mark.parametrize("n", [20, 80])
def test_a_factor_holds_the_diagonal_alone_and_little_more_is_used_to_make_it(n):
    p = pattern(cavity(n))
    levels, size = block_tridiagonal._levels(p).shape
    blocks = jax.ShapeDtypeStruct((len(p.row), p.block, p.block), float)
    sparse = 8 * len(p.row) * p.block**2
    factor = jax.eval_shape(lambda b: BlockTridiagonal().factor(p, b), blocks)
    assert factor[0].shape == (levels, size, size) and sum(x.size for x in factor[1:]) * 8 < 1.1 * sparse
    assert taken(lambda b: BlockTridiagonal().factor(p, b), blocks) < 8 * (levels + 7) * size**2 + 3 * sparse


def test_what_the_device_has_not_free_is_refused_before_any_is_taken(monkeypatch):
    device = SimpleNamespace(
        device_kind="NVIDIA H200", platform="gpu", memory_stats=lambda: {"bytes_limit": 80 * 2**30, "bytes_in_use": 80 * 2**30 - 2**18}
    )
    monkeypatch.setattr(block_tridiagonal.jax, "local_devices", lambda: [device])
    monkeypatch.setattr(BlockTridiagonal, "factor", None)  # not reached
    flow = study()
    needed = f"{memory(pattern(flow)) / 2**30:.2g}"
    wanted = f"needs {needed} GiB for 30 cells in . levels of up to .., and NVIDIA H200 has 0.00024 GiB free; use a coarser mesh"
    for transform in (lambda f: f, jax.jit):
        with pytest.raises(OutOfReach, match=wanted):
            transform(lambda f: fg.solve_steady(f, linear="block_tridiagonal").state)(flow)


def test_memory_that_the_process_keeps_is_free(monkeypatch):
    """Else a second large solve of a process would be refused for what the first one took."""
    script = "from fluidgrad import device; import numpy; device.keep_memory(); numpy.ones(2**25); print(device.kept_memory())"
    code, out, err = ended(python("-c", script))
    assert code == 0, err
    assert float(out) > 2**27 or not hasattr(ctypes.CDLL(None), "mallinfo2")
    monkeypatch.setattr(device, "kept_memory", lambda: 2.0**60)
    assert device.host_memory() > 2**60


def test_free_memory_is_the_devices_or_the_hosts(monkeypatch):
    assert free_memory() > 2**20
    silent = SimpleNamespace(platform="gpu", memory_stats=lambda: None)
    monkeypatch.setattr(block_tridiagonal.jax, "local_devices", lambda: [silent])
    assert free_memory() == float("inf")  # the host's says nothing of a GPU's
