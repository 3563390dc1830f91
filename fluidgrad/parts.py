"""Programs of several devices, each of which has a part of the cells.

In such a program every function of the numerics sees one part, as if those cells were all there are: its own first, then copies of
those of other parts that its own need. What makes it a part of a whole is here: sums over all parts, and the copies. Where a program
is of one device, a sum is what it is given and there are no copies.

Numbers that belong to no cell, such as a source, are the same on all devices. The transpose of a sum over parts gives each device what
the sum's cotangents are on all of them together. So a transposed program is given of such a number's cotangent a :func:`share`, and what
it returns for one is to be summed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

AXIS = "parts"


def divided() -> bool:
    """Whether the program that is being traced is one of several devices."""
    try:
        jax.lax.axis_size(AXIS)
    except NameError:
        return False
    return True


def total(x: Array) -> Array:
    """The sum over all parts."""
    return jax.lax.psum(x, AXIS) if divided() else x


def most(x: Array) -> Array:
    """The largest of all parts."""
    return jax.lax.pmax(x, AXIS) if divided() else x


def norm(x: Float[Array, " n"]) -> Array:
    """The norm of a vector that lies on all parts. What is the same on all of them counts as often."""
    return jnp.sqrt(total(x @ x)) if divided() else jnp.linalg.norm(x)


def share(x: Array) -> Array:
    """What each part has of a cotangent that is the same on all of them."""
    return x / jax.lax.axis_size(AXIS) if divided() else x


def first(x: Array) -> Array:
    """That of the first part."""
    return total(jnp.where(jax.lax.axis_index(AXIS) == 0, x, jnp.zeros_like(x))) if divided() else x


def together(x: Array) -> Array:
    """Those of all parts, one after the other."""
    return jax.lax.all_gather(x, AXIS, tiled=True) if divided() else x


@partial(jax.tree_util.register_dataclass, data_fields=["send"], meta_fields=["rounds"])
@dataclass(frozen=True)
class Halo:
    """How copies come from other parts: in rounds, in each of which a part exchanges one message with at most one other.

    Attributes:
        send: of each round, which of its own a part sends, ``(length of the message,)``.
        rounds: who sends to whom in each of them; static.
    """

    send: tuple[Int[Array, " n"], ...]
    rounds: tuple[tuple[tuple[int, int], ...], ...]

    def behind(self, own: Array) -> Array:
        """What a part has of its own, ``(own, ...)``, and behind it the copies of what others have."""
        rows = (own.at[index].get(mode="promise_in_bounds") for index in self.send)
        messages = [jax.lax.ppermute(row, AXIS, pairs) for row, pairs in zip(rows, self.rounds, strict=True)]
        return jnp.concatenate([own, *messages]) if messages else own

    def empty(self, own: Array) -> Array:
        """The same with zeros in place of the copies."""
        return jnp.concatenate([own, jnp.zeros((len(self), *own.shape[1:]), own.dtype)]) if self.send else own

    def __len__(self) -> int:
        """How many copies there is room for."""
        return sum(index.shape[-1] for index in self.send)

    @property
    def sent(self) -> int:
        """Copies that all parts send together, with what messages are filled up with."""
        return sum(index.shape[-1] * len(pairs) for index, pairs in zip(self.send, self.rounds, strict=True))


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["n_own"])
@dataclass(frozen=True)
class Whole:
    """Of how many cells a flow on one device is; see :class:`Part`."""

    n_own: int

    @property
    def n_all(self) -> int:
        return self.n_own

    def everywhere(self, own: Array) -> Array:
        return own

    def own(self, x: Array) -> Array:
        return x

    def once(self, of_faces: Array) -> Array:
        return of_faces

    def largest(self, x: Array) -> Array:
        return jnp.argmax(x)


@partial(jax.tree_util.register_dataclass, data_fields=["halo", "times", "number"], meta_fields=["n_own", "n_all"])
@dataclass(frozen=True)
class Part:
    """What is one device's of a flow.

    Attributes:
        halo: the copies of cells.
        times: how often each of its faces counts in a sum over the faces of all parts, ``(faces,)``.
        number: of its own cells, among all, ``(n_own,)``.
        n_own: places for its own cells, the same in all parts; static.
        n_all: cells of all parts; static.
    """

    halo: Halo
    times: Float[Array, " faces"]
    number: Int[Array, " n_own"]
    n_own: int
    n_all: int

    def everywhere(self, own: Array) -> Array:
        """Values of its own cells, ``(n_own, ...)``, with the copies of others', and behind them of an empty one, ``(cells, ...)``."""
        return jnp.concatenate([self.halo.behind(own), jnp.zeros_like(own[:1])])

    def own(self, x: Array) -> Array:
        """Of values in all its cells, those of its own."""
        return x[: self.n_own]

    def once(self, of_faces: Array) -> Array:
        """Values of faces as terms of a sum over those of all parts; ``of_faces`` may be of the first alone."""
        return of_faces * self.times[: len(of_faces)].reshape(-1, *[1] * (of_faces.ndim - 1))

    def largest(self, x: Float[Array, " n_own"]) -> Array:
        """In which of all cells something is largest."""
        mine = jnp.max(x) >= most(jnp.max(x))
        return total(jnp.where(mine, self.number[jnp.argmax(x)], 0)) // total(mine.astype(int))


def halo_of(n: int, part: Any, place: Any, needed: Sequence[Any]) -> tuple[Halo, list[Any]]:
    """The halo of n parts, its tables stacked, ``(n, ...)``.

    Args:
        n: how many parts.
        part, place: of all things that may be copied, whose they are and where there, ``(things,)``.
        needed: of each part, which of others' it needs, each once.

    Returns:
        The halo, and for each part the numbers of the copies of what it needs.
    """
    wants = [[things[part[things] == other] for other in range(n)] for things in needed]
    size = {(a, b): max(len(wants[a][b]), len(wants[b][a])) for a in range(n) for b in range(a)}
    rounds: list[list[tuple[int, int]]] = []
    for pair in sorted((pair for pair in size if size[pair]), key=lambda pair: -size[pair]):
        fits = (r for r in rounds if not any(set(pair) & set(other) for other in r))
        (r := next(fits, [])).append(pair)
        if len(r) == 1:
            rounds.append(r)
    copy_of = [np.empty(len(part), int) for _ in range(n)]
    send, begin = [], 0
    for pairs in rounds:
        length = max(size[pair] for pair in pairs)
        table = np.zeros((n, length), int)
        for a, b in [*pairs, *(pair[::-1] for pair in pairs)]:
            table[b, : len(wants[a][b])] = place[wants[a][b]]
            copy_of[a][wants[a][b]] = begin + np.arange(len(wants[a][b]))
        send.append(table)
        begin += length
    who = tuple(tuple(sorted([*pairs, *(pair[::-1] for pair in pairs)])) for pairs in rounds)
    return Halo(tuple(send), who), [copy[things] for copy, things in zip(copy_of, needed, strict=True)]  # pyright: ignore


def devices(n: int) -> Mesh:
    """The first n devices of all processes."""
    return Mesh(np.array(jax.devices()[:n]), (AXIS,))


def stacked(tree: Any, n: int) -> Any:
    """NumPy's arrays of n parts, ``(n, ...)``, each part on its device, where JAX's are already."""
    where = NamedSharding(devices(n), PartitionSpec(AXIS))

    def placed(a: Any) -> Array:
        return a if isinstance(a, jax.Array) else jax.make_array_from_callback(a.shape, where, lambda index: a[index])

    return jax.tree.map(placed, tree)


def on_parts(n: int, function: Callable[..., tuple[Any, Any]]) -> Callable[..., tuple[Any, Any]]:
    """A program of n devices from what one does with its part. Its arguments are of all parts, stacked ``(n, ...)``, and so is the first
    result; the second is the same on all."""

    def one(*parts: Any) -> tuple[Any, Any]:
        apart, same = function(*jax.tree.map(lambda a: a[0], parts))
        return jax.tree.map(lambda a: a[None], apart), same

    spec = PartitionSpec(AXIS)
    return jax.shard_map(one, mesh=devices(n), in_specs=spec, out_specs=(spec, PartitionSpec()), check_vma=False)
