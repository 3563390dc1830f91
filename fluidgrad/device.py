"""How JAX is set up for all that follows: float64, on a device that is there, with compiled programs kept on the disk and memory
kept in the process.

Modules that stand on no other of the numerics begin with :func:`start`, so importing any of them does it; commands do it
before they begin. What was set before wins: ``JAX_PLATFORMS``, ``JAX_COMPILATION_CACHE_DIR``,
``JAX_ENABLE_COMPILATION_CACHE=false``, glibc's ``MALLOC_...`` and ``GLIBC_TUNABLES``.
"""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from functools import cache
from pathlib import Path

from fluidgrad.errors import InputError

KEPT_FROM = 0.05  # seconds of compilation that are worth a file
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h


@cache
def start() -> None:
    """Set JAX up, once.

    Raises:
        InputError: ``JAX_PLATFORMS`` asks for a device that JAX does not find.
    """
    import jax  # here, so that commands that compute nothing do not wait for it

    jax.config.update("jax_enable_x64", True)  # an adjoint in float32 is noise below 1e-3
    asked = jax.config.jax_platforms  # pyright: ignore[reportAttributeAccessIssue]
    if asked and asked != "cpu":
        try:
            jax.devices()
        except Exception as error:  # JAX's own reasons vary: a plugin that is not installed fails an assertion of its
            why = f": {error}" if str(error) else ""
            accepted = "unset it, use cpu, or install JAX for that device (docs/how-to/gpu.md)"
            raise InputError(f"JAX_PLATFORMS={asked}, and JAX finds no such device{why}", accepted=accepted) from None
    keep_programs()
    keep_memory()


def several(n: int) -> None:
    """Let JAX have n devices in all: of a CPU as many as that, and those of all processes where a launcher started several of this one.

    Raises:
        InputError: the processes cannot have equally many; JAX finds fewer.
    """
    import jax

    if n < 2:
        return
    processes = launched()
    if n % processes:
        raise InputError(f"{n} devices for {processes} processes", accepted=f"a multiple of {processes}")
    with suppress(RuntimeError):  # JAX has begun already: with what it has then
        jax.config.update("jax_num_cpu_devices", n // processes)
    if processes > 1 and not jax.distributed.is_initialized():
        _keep_output()
        jax.distributed.initialize()
    if len(jax.devices()) < n:
        given = f"{n} devices, and JAX has {len(jax.devices())} ({jax.devices()[0].platform})"
        raise InputError(given, accepted="as many as there are; of a CPU as many as jax_num_cpu_devices says when JAX begins")


def _keep_output() -> None:
    """What Python prints goes where it went, and what libraries print to the same place, as Gloo of its connections, to stderr."""
    sys.stdout.flush()
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1, encoding=sys.stdout.encoding, errors=sys.stdout.errors)
    os.dup2(2, 1)


def follows() -> bool:
    """Whether another process does the same and is the one that speaks and writes."""
    import jax

    return jax.distributed.is_initialized() and jax.process_index() > 0


def meet() -> None:
    """Wait until all processes are here."""
    anywhere(False)


def anywhere(flag: bool) -> bool:
    """Whether it is so in any process: all must ask."""
    import jax

    if not jax.distributed.is_initialized() or jax.process_count() == 1:
        return flag
    import numpy as np
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def launched() -> int:
    """How many processes a launcher that JAX knows started for this work, srun or mpirun, or else 1."""
    if "SLURM_STEP_NODELIST" in os.environ:
        return int(os.environ.get("SLURM_NTASKS", 1))
    return int(os.environ.get("OMPI_COMM_WORLD_SIZE", 1))


def keep_programs() -> None:
    """Compiled programs are read from the disk where an earlier process left them. Not where JAX was given another folder,
    nor where the user's cannot be written."""
    import jax

    folder = cache_folder() / "fluidgrad" / "jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return
    given = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if given is None and os.access(folder, os.W_OK):
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", KEPT_FROM)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def keep_memory() -> None:
    """Memory that a program is done with stays with the process, for the next one. Programs take what they compute with anew every
    time, and glibc would hand it back to the system every time: to get it again, zeroed page by page, is half of the time of a
    derivative's product at 27,000 cells."""
    if sys.platform == "linux" and not any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # musl has none
        if mallopt is not None:
            mallopt(M_MMAP_MAX, 0)
            mallopt(M_TRIM_THRESHOLD, -1)
            mallopt(M_TOP_PAD, 2**26)


class _Arenas(ctypes.Structure):
    """What glibc's mallinfo2 tells of the process's memory, in bytes."""

    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]


def kept_memory() -> float:
    """Bytes that the process holds and nothing of it uses (:func:`keep_memory`)."""
    mallinfo = getattr(ctypes.CDLL(None), "mallinfo2", None) if sys.platform == "linux" else None  # glibc 2.33
    if mallinfo is None:
        return 0.0
    mallinfo.restype = _Arenas
    return float(mallinfo().fordblks)


def host_memory() -> float:
    """Bytes that are free on this machine, with those that the process keeps; infinite where it does not say."""
    try:
        told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        return 1024.0 * int(told["MemAvailable"].split()[0]) + kept_memory()
    except (OSError, KeyError, ValueError):
        return float("inf")


def free_memory() -> float:
    """Bytes that JAX may still take on its device, which is the host itself without another; infinite where nobody says."""
    import jax

    device = jax.local_devices()[0]
    stats = device.memory_stats() or {}
    if "bytes_limit" in stats:
        return stats["bytes_limit"] - stats["bytes_in_use"]
    return host_memory() if device.platform == "cpu" else float("inf")


def cache_folder() -> Path:
    """Where this platform keeps a user's caches."""
    if "XDG_CACHE_HOME" in os.environ:
        return Path(os.environ["XDG_CACHE_HOME"])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    return Path.home() / ".cache"
