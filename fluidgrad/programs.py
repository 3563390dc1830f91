"""Compiled programs that are given their tables as arguments.

JAX compiles a program for each structure of its arguments, and folds every array of NumPy that it meets into it. Index tables
of a mesh are neither: they are numbers like all others. So a mesh holds a *source* of tables in its structure, and what
:func:`compiled` makes of a function opens it: the function sees the same mesh with an :class:`Opened` source, whose counts and
names are known and whose tables are arguments of the program. Meshes with equal counts share every program, nothing large is
folded into one, and derivatives by a mesh know its points alone.

Which tables a function wants it says by asking: ``topology.of(builder, *arguments)`` is ``builder(topology, *arguments)``
with its arrays on the device, made once for every topology. A program that meets a table for the first time ends there, and
is begun again with the table among its arguments.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial, wraps
from typing import Any

import jax
import numpy as np
from jax.core import eval_context

Key = tuple[Callable[..., Any], tuple[Hashable, ...]]  # a builder and its arguments


class Source:
    """Data of the host that tables are made from. It keeps what is made, for as long as it lives itself; ``counts``, hashable,
    is all that programs know of it where it is a mesh's topology."""

    counts: Any

    @cached_property
    def _kept(self) -> dict[Key, Any]:
        return {}

    def kept(self, build: Callable[..., Any], *arguments: Hashable) -> Any:
        """``build(self, *arguments)``, made once."""
        key = (build, arguments)
        if key not in self._kept:
            self._kept[key] = build(self, *arguments)
        return self._kept[key]

    def of(self, build: Callable[..., Any], *arguments: Hashable) -> Any:
        """``build(self, *arguments)``, a pytree of integers and booleans, on the device. Made once."""
        return self.kept(_tables, build, arguments)


def _tables(source: Source, build: Callable[..., Any], arguments: tuple[Hashable, ...]) -> Any:
    with eval_context():  # not as a part of a program that is being traced
        return jax.tree.map(on_device, build(source, *arguments))


def on_device(table: np.ndarray) -> jax.Array:
    """A table of NumPy's, its integers of 32 bits."""
    wide = np.issubdtype(table.dtype, np.integer) and table.dtype.itemsize > 4
    return jax.device_put(table.astype(np.int32) if wide else table)  # jnp.asarray would compile a program for each shape


@dataclass(frozen=True, eq=False)
class Opened:
    """A source inside of a program: its counts, and tables that are arguments of it."""

    counts: Any
    number: int
    program: Callable[..., Any]
    tables: dict[Key, Any]

    def of(self, build: Callable[..., Any], *arguments: Hashable) -> Any:
        """The table, as :meth:`Source.of` gives it."""
        if (build, arguments) not in self.tables:
            raise Asked(self, (build, arguments))
        return self.tables[build, arguments]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.counts, name)


class Asked(Exception):
    """A program was traced without a table that it wants."""

    def __init__(self, by: Opened, key: Key):
        super().__init__(f"{key[0].__name__}{key[1]} was asked for outside of the program that could give it")
        self.by, self.key = by, key


class Holder:
    """A pytree with a source in its structure, as ``topology``; ``on(source)`` is the same with another."""

    topology: Any

    def on(self, topology: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True)
class _Slot:
    """Where a source was taken out."""

    counts: Any
    number: int


@dataclass
class _Compiled:
    """A function, its program and, for each structure of its arguments, what it wants of each source."""

    function: Callable[..., Any]
    static: Sequence[int] = ()
    wants: dict[Hashable, tuple[tuple[Key, ...], ...]] = field(default_factory=dict)

    @cached_property
    def program(self) -> Callable[..., Any]:
        @wraps(self.function)  # for its name in profiles
        def traced(*arguments: Any) -> Any:
            return self._traced(*arguments)

        del traced.__wrapped__  # its arguments are others
        return jax.jit(traced, static_argnums=(0, *(i + 2 for i in self.static)))

    def _traced(self, wanted: tuple[tuple[Key, ...], ...], tables: list[list[Any]], *arguments: Any) -> Any:
        opened: dict[int, Opened] = {}

        def fill(x: Any) -> Any:
            if not isinstance(x, Holder):
                return x
            slot = x.topology
            if slot.number not in opened:
                given = dict(zip(wanted[slot.number], tables[slot.number], strict=True))
                opened[slot.number] = Opened(slot.counts, slot.number, self.function, given)
            return x.on(opened[slot.number])

        out = self.function(*(a if i in self.static else _at_holders(fill, a) for i, a in enumerate(arguments)))
        return _at_holders(lambda x: x.on(_Slot(x.topology.counts, x.topology.number)) if isinstance(x, Holder) else x, out)

    def __call__(self, *arguments: Any) -> Any:
        with one_device():
            return self._with(lambda program, *given: program(*given), arguments)

    def lower(self, *arguments: Any) -> Any:
        """``jax.jit``'s: the program before it is compiled, to be looked at."""
        return self._with(lambda program, *given: program.lower(*given), arguments)

    def _with(self, use: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
        holders: list[Holder] = []

        def take_out(x: Any) -> Any:
            if not isinstance(x, Holder):
                return x
            same = (i for i, h in enumerate(holders) if h.topology is x.topology or h.topology == x.topology)
            if (number := next(same, None)) is None:
                number = len(holders)
                holders.append(x)
            return x.on(_Slot(x.topology.counts, number))

        def put_back(x: Any) -> Any:
            return jax.tree.unflatten(jax.tree.structure(holders[x.topology.number]), jax.tree.leaves(x)) if isinstance(x, Holder) else x

        taken = [a if i in self.static else _at_holders(take_out, a) for i, a in enumerate(arguments)]
        kind = tuple(a if i in self.static else jax.tree.structure(a) for i, a in enumerate(taken))
        while True:
            wanted = self.wants.get(kind, ((),) * len(holders))
            tables = [[h.topology.of(build, *args) for build, args in keys] for h, keys in zip(holders, wanted, strict=True)]
            try:
                return _at_holders(put_back, use(self.program, wanted, tables, *taken))
            except Asked as asked:
                if asked.by.program is not self.function:
                    raise
                k = asked.by.number
                self.wants[kind] = tuple((*keys, asked.key) if i == k else keys for i, keys in enumerate(wanted))


def one_device() -> Any:
    """Within this, programs are those of one device, wherever they are called: in JAX 0.10 a reverse pass has an empty mesh of devices
    set, and what was compiled without one would be compiled again there."""
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((), ()))


def _at_holders(f: Callable[[Any], Any], tree: Any) -> Any:
    return jax.tree.map(f, tree, is_leaf=lambda x: isinstance(x, Holder))


def compiled(function: Any = None, *, static: Sequence[int] = ()) -> Any:
    """``jax.jit`` of a function, given the tables of the meshes in its arguments; ``static`` numbers those that are not
    traced. Meshes that it returns are on the topologies that they came with."""
    if function is None:
        return partial(compiled, static=static)
    program = _Compiled(function, static)

    @wraps(function)
    def call(*arguments: Any) -> Any:
        return program(*arguments)

    call.lower = program.lower  # pyright: ignore[reportAttributeAccessIssue]
    return call
