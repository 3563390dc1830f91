"""What the arithmetic on faces, the assembly, a large solve and a first call take, beside an older installation."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from bench import table

HERE = Path(__file__).parents[2]
KERNELS = ("residual", "jvp", "vjp", "assembly")


def probe(installation: Path, what: str, size: int, dim: int, repeats: int, core: str | None, cache: str = "") -> dict[str, float]:
    """One measurement in a process of its own, with compiled programs in ``cache`` or nowhere."""
    environment = os.environ | {"PYTHONPATH": str(installation), "NPROC": "2"}  # 576a00f waits for ever where XLA has one thread
    environment |= {"XDG_CACHE_HOME": cache} if cache else {"JAX_ENABLE_COMPILATION_CACHE": "false"}
    pinned = ["taskset", "-c", core] if core else []
    script = [sys.executable, str(Path(__file__).parent / "probe.py"), what, *map(str, (size, dim, repeats))]
    done = subprocess.run([*pinned, *script], env=environment, capture_output=True, text=True, cwd=installation)
    if done.returncode:
        raise SystemExit(f"{installation}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def main(argv: list[str] | None = None) -> dict[str, Any]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--against", type=Path, help="another installation, the folder that holds its package fluidgrad")
    parser.add_argument("--squares", type=int, nargs="*", default=[128, 256], help="cells along the side of a square")
    parser.add_argument("--cubes", type=int, nargs="*", default=[30], help="cells along the side of a cube")
    parser.add_argument("--large", type=int, default=100000, help="cells of the channel that is solved and differentiated")
    parser.add_argument("--large-cube", type=int, default=20, help="cells along the side of the cube that is; 0: none")
    parser.add_argument("--cold", type=int, default=5000, help="cells of the channel of a first call")
    parser.add_argument("--repeats", type=int, default=15, help="timings, of which the median counts")
    parser.add_argument("--core", help="to which processes are pinned, by taskset")
    a = parser.parse_args(argv)
    both = {"new": HERE} | ({"old": a.against.resolve()} if a.against else {})
    result: dict[str, Any] = dict.fromkeys((*KERNELS, "large_time", "large_memory", "cold_s", "warm_s"))

    rows = []
    for size, dim in [(n, 2) for n in a.squares] + [(n, 3) for n in a.cubes]:
        found = {k: probe(v, "kernels", size, dim, a.repeats, a.core) for k, v in both.items()}
        for name in found["new"]:
            times = {k: 1e9 * f[name] / size**dim for k, f in found.items() if name in f}
            gain = times["old"] / times["new"] if "old" in times else None
            rows.append((f"{size}^{dim}", name, *(f"{times[k]:.0f}" if k in times else "" for k in both), f"{gain:.2f}" if gain else ""))
            if gain and name in KERNELS:
                result[name] = min(result[name] or gain, gain)
    table(("mesh", "kernel", *(f"{k}, ns a cell" for k in both), "old / new"), rows)

    rows = []
    for size, dim in [(a.large, 2)] + [(a.large_cube, 3)] * bool(a.large_cube):
        found = {k: probe(v, "solve", size, dim, 0 if dim == 3 else 1, a.core) for k, v in both.items()}
        for k, f in found.items():
            rows.append((f"{size}^{dim}" if dim == 3 else f"{size}", k, *(f"{f[name]:.1f}" for name in ("first solve", "both", "peak"))))
        if a.against and dim == 2:
            result["large_time"], result["large_memory"] = (found["old"][k] / found["new"][k] for k in ("both", "peak"))
    table(("cells", "", "first solve, s", "solve and gradient, s", "peak, MiB"), rows)

    with tempfile.TemporaryDirectory() as cache:
        first = {k: probe(HERE, "solve", a.cold, 2, 0, None, cache) for k in ("cold", "warm")}  # the second finds what the first left
    table(
        ("first call", "solve, s", "gradient, s"), [(k, f"{f['first solve']:.1f}", f"{f['first gradient']:.1f}") for k, f in first.items()]
    )
    result |= {f"{k}_s": f["first solve"] + f["first gradient"] for k, f in first.items()}
    print(json.dumps(result))
    return result


if __name__ == "__main__":
    main()
