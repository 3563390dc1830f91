"""Flows on several devices are those of one: residuals to round-off, solutions and derivatives to 1e-10."""

import json
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from processes import ended, launched, python

import fluidgrad as fg
from fluidgrad import parts
from fluidgrad.errors import InputError
from fluidgrad.mesh.partition import partition

SCRIPT = Path(__file__).with_name("on_devices.py")


def said(*processes):
    """By the first, when all have ended well."""
    found = [ended(process) for process in processes]
    for code, _, err in found:
        assert code == 0, err
    return json.loads(found[0][1].splitlines()[-1])


@pytest.fixture(scope="module")
def reports():
    """Of 3 devices the residuals, of 4 derivatives in both modes, at the same time."""
    three, four = python(SCRIPT, 3, "half", "layered", "tilted", "duct"), python(SCRIPT, 4, "d:layered")
    return said(three), said(four)


@pytest.mark.parametrize("name", ["half", "layered", "tilted", "duct"])
def test_a_residual_on_three_devices_is_that_of_one(reports, name):
    found = reports[0][name]
    assert found["residual"] < 1e-14 and found["gross"] < 1e-14
    assert 3 * found["cells"] - found["all"] < 3  # no device has more than its part
    assert 0 < found["sent"] == found["in_program"]


def test_a_flow_and_its_derivatives_on_four_devices_are_those_of_one(reports):
    found = reports[1]["layered"]
    assert found["state"] < 1e-10 and found["reverse"] < 1e-10 and found["forward"] < 1e-10


def test_two_processes_find_the_flow_and_the_gradient_of_one(reports):
    found = said(*launched(2, partial(python, SCRIPT, 2, "d:layered")))["layered"]["known"]
    for ours, known in zip(found, reports[1]["layered"]["known"], strict=True):
        assert np.abs(np.array(ours) - known).max() < 1e-10 * np.abs(known).max()


@pytest.mark.slow
def test_three_dimensions_in_both_modes():
    found = said(python(SCRIPT, 4, "d:duct", "d:half"))
    assert all(one[gap] < 1e-10 for one in found.values() for gap in ("state", "reverse", "forward"))


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_parts_are_of_equal_size_and_lie_together(n):
    x = np.random.default_rng(0).uniform(size=(101, 2)) * (3, 1)
    part = partition(x, n)
    count = np.bincount(part, minlength=n)
    assert len(count) == n and count.max() - count.min() <= 1
    if n == 3:  # cut across the longest direction
        assert all(x[part == a, 0].max() <= x[part == a + 1, 0].min() for a in range(2))


def test_more_devices_than_cells_are_refused():
    with pytest.raises(InputError, match="5 devices for 4 cells; at most one device a cell"):
        partition(np.random.default_rng(0).uniform(size=(4, 2)), 5)


def test_copies_come_from_whose_they_are():
    """Each part of a ring of nine needs the things beside its own; what messages bring is put together by hand."""
    part, place = np.arange(9) // 3, np.arange(9) % 3
    needed = [np.array([3, 8]), np.array([2, 6]), np.array([0, 5])]
    halo, copies = parts.halo_of(3, part, place, needed)
    own = np.arange(9.0).reshape(3, 3) * 10
    received = [[] for _ in range(3)]
    for table, pairs in zip(halo.send, halo.rounds, strict=True):
        assert len({a for a, _ in pairs}) == len(pairs)  # one message each
        for a, b in pairs:
            received[b].append(own[a][table[a]])
        for b in {0, 1, 2} - {b for _, b in pairs}:
            received[b].append(np.full(table.shape[1], np.nan))
    for a in range(3):
        assert np.array_equal(np.concatenate(received[a])[copies[a]], 10.0 * needed[a])
    assert halo.sent == 6


def test_on_one_device_there_is_nothing_to_exchange():
    x = jax.numpy.arange(4.0)
    whole = parts.Whole(4)
    for same in (parts.total, parts.share, parts.first, parts.together, parts.most, whole.own, whole.once, whole.everywhere):
        assert same(x) is x


def channel():
    m = fg.box((0, 0), (3, 1), cells=(9, 3))
    kinds = {"left": fg.Inflow(1.0), "right": fg.Outflow(), "top": fg.Wall(), "bottom": fg.Wall()}
    return fg.Flow(m, viscosity=0.1, boundary=kinds)


def test_devices_that_are_not_there_are_refused():
    there = len(jax.devices())
    with pytest.raises(InputError, match=f"{there + 1} devices, and JAX has {there} .*jax_num_cpu_devices"):
        fg.solve_steady(channel(), devices=there + 1)


@pytest.mark.parametrize("n", [0, -2])
def test_less_than_one_device_is_refused(n):
    with pytest.raises(InputError, match=f"{n} devices; 1 or more"):
        fg.solve_steady(channel(), devices=n)


def test_direct_solvers_have_one_device():
    with pytest.raises(InputError, match="'superlu' on 2 devices; multigrid"):
        fg.solve_steady(channel(), linear="superlu", devices=2)
