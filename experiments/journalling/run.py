"""What share of an optimisation is spent on keeping it: the journal, the states, the history and the report, all on the disk."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from fluidgrad.app import commands
from fluidgrad.app.report import output, page
from fluidgrad.app.report.screen import QUIET
from fluidgrad.design.journal import Journal

KEPT = {"journal": (Journal, "append"), "states": (Journal, "save_state"), "history": (output, "write_csv"), "report": (page, "write")}


def timed(function: Callable[..., Any], spent: dict[str, float], name: str) -> Callable[..., Any]:
    def run(*args: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **options)
        finally:
            spent[name] += time.perf_counter() - began

    return run


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", default="cylinder_inflow")
    parser.add_argument("--cells", type=int, default=5000)
    options = parser.parse_args(argv)
    spent, whole = dict.fromkeys(KEPT, 0.0), {name: getattr(*place) for name, place in KEPT.items()}
    for name, (owner, attribute) in KEPT.items():
        setattr(owner, attribute, timed(whole[name], spent, name))
    settings = [f"mesh.cells={options.cells}", "output.figures=false", "output.finer_mesh=false", "output.stability=false"]
    try:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            run = commands.run(options.config, settings, level=QUIET, root=folder)
            seconds = time.perf_counter() - began
            evaluations = output.read_json(run / "results.json")["evaluations"]
    finally:
        for name, (owner, attribute) in KEPT.items():
            setattr(owner, attribute, whole[name])
    for name, s in spent.items():
        print(f"{name:8} {1000 * s / evaluations:8.2f} ms an evaluation, {100 * s / seconds:6.3f} % of the run")
    print(f"{evaluations} evaluations in {seconds:.1f} s, without pictures and finer mesh")
    print(json.dumps({"share": sum(spent.values()) / seconds}))


if __name__ == "__main__":
    sys.exit(main())
