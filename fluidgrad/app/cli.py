"""The command line: each command is a few lines that call :mod:`fluidgrad.app.commands`.

Exit codes: 0 done, 1 not converged or a test that failed, 2 bad input. Nothing heavy is imported before a command
runs, so that ``--help`` is at once.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from fluidgrad import device

app = typer.Typer(
    name="fluidgrad",
    help="Differentiable steady flow: simulate, differentiate, check, design.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigFile = Annotated[str, typer.Argument(metavar="CONFIG", help="A TOML file, or the name of a shipped config.")]
Settings = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Put a value over the file's, as in --set mesh.refine=2.")]
Imports = Annotated[list[str], typer.Option("--import", metavar="FILE.py", help="Load a file that defines functionals.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print the run folder only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print more: how each solve went, and tracebacks.")]
Devices = Annotated[int | None, typer.Option("--devices", metavar="N", help="Put the cells on N devices: --set solver.devices=N.")]
Root = Annotated[str, typer.Option("--runs", metavar="FOLDER", help="Where run folders are made.")]


@app.command()
def run(
    config: Annotated[str, typer.Argument(metavar="CONFIG|FOLDER", help="A TOML file, a shipped config's name, or a run to go on with.")],
    settings: Settings = [],  # noqa: B006
    imports: Imports = [],  # noqa: B006
    quiet: Quiet = False,
    verbose: Verbose = False,
    runs: Root = "runs",
    allow: Annotated[list[str], typer.Option("--allow", metavar="KEY", help="What may differ from the run as it began.")] = [],  # noqa: B006
    devices: Devices = None,
) -> None:
    """Simulate, or optimise where the config has a [[design]]; go on with a run where a folder is given."""
    from fluidgrad.app import commands

    commands.run(config, _on(devices, settings), imports, _level(quiet, verbose), runs, allow)


@app.command()
def check(
    config: ConfigFile,
    settings: Settings = [],  # noqa: B006
    imports: Imports = [],  # noqa: B006
    quiet: Quiet = False,
    verbose: Verbose = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the worst figures as one line of JSON, and nothing else.")] = False,
    runs: Root = "runs",
    devices: Devices = None,
) -> None:
    """Check every derivative that an optimisation would use: Taylor rates, dot products, differences."""
    from fluidgrad.app import commands

    if not commands.check(config, _on(devices, settings), imports, _level(quiet, verbose), as_json, runs):
        raise typer.Exit(1)


@app.command()
def sensitivity(
    config: ConfigFile,
    settings: Settings = [],  # noqa: B006
    imports: Imports = [],  # noqa: B006
    quiet: Quiet = False,
    verbose: Verbose = False,
    runs: Root = "runs",
    devices: Devices = None,
) -> None:
    """The objective's derivative with respect to every number of the file, and as fields."""
    from fluidgrad.app import commands

    commands.sensitivity(config, _on(devices, settings), imports, _level(quiet, verbose), runs)


@app.command()
def sweep(
    config: Annotated[str, typer.Argument(metavar="CONFIG|FOLDER", help="A TOML file, a shipped config's name, or a sweep to go on with.")],
    over: Annotated[list[str], typer.Option("--over", metavar="KEY=A,B,C", help="The values of a key; of several, all combinations.")] = [],  # noqa: B006
    settings: Settings = [],  # noqa: B006
    imports: Imports = [],  # noqa: B006
    workers: Annotated[int, typer.Option("--workers", metavar="N", help="Processes at a time; by default one for each core.")] = 0,
    scheduler: Annotated[str, typer.Option("--scheduler", metavar="ADDRESS", help="Of a dask cluster to run on.")] = "",
    quiet: Quiet = False,
    verbose: Verbose = False,
    runs: Root = "runs",
) -> None:
    """Run a config over values of its keys, each in a process and a folder of its own; go on with a sweep."""
    from fluidgrad.app import commands

    commands.sweep(config, over, settings, imports, _level(quiet, verbose), runs, workers, scheduler)


@app.command()
def report(
    folders: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    imports: Imports = [],  # noqa: B006
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Of the page that compares several runs.")] = "",
) -> None:
    """Draw the figures of runs and write their report.html again, from their saved data; several also side by side."""
    from fluidgrad.app import commands

    commands.report(folders, imports, output)


@app.command()
def new(
    kind: Annotated[str, typer.Argument(metavar="[KIND]", help="Of study; without it, the kinds are listed.")] = "",
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file to write.")] = "",
) -> None:
    """Write a commented config to start from."""
    from fluidgrad.app import commands

    commands.new(kind, file)


@app.command("config")
def config_(
    action: Annotated[str, typer.Argument(metavar="ACTION", help="validate, explain or schema.")],
    subject: Annotated[str, typer.Argument(metavar="[CONFIG | SECTION.KEY]", help="The file to validate, or the key to explain.")] = "",
    settings: Settings = [],  # noqa: B006
    imports: Imports = [],  # noqa: B006
) -> None:
    """Validate a config, explain a key, or print the JSON schema."""
    from fluidgrad.app import commands

    commands.config(action, subject, settings, imports)


def _on(devices: int | None, settings: list[str]) -> list[str]:
    """The settings, with JAX set up for so many devices before anything else is."""
    if devices is None:
        return settings
    device.several(devices)
    return [*settings, f"solver.devices={devices}"]


def _level(quiet: bool, verbose: bool) -> int:
    from fluidgrad.app.report.screen import NORMAL, QUIET, VERBOSE
    from fluidgrad.errors import InputError

    if quiet and verbose:
        raise InputError("both --quiet and --verbose", accepted="one of them")
    return QUIET if quiet else VERBOSE if verbose else NORMAL


def guarded(command: Callable[[], Any]) -> int:
    """The exit code of a command: what went wrong in one line, never a traceback for what a user can mend."""
    from fluidgrad.app.runs.interrupt import STOPPED, Stopped
    from fluidgrad.errors import Failed, InputError, Lost, NotConverged

    try:
        command()
        sys.stdout.flush()
    except InputError as error:
        return _told(f"error: {error}", 2)
    except NotConverged as error:
        return _told(f"not converged: {error}", 1)
    except Lost as error:
        os._exit(_told(f"failed: {error}", 1))  # else JAX waits for whom it lost
    except Failed as error:
        return _told(f"failed: {error}", 1)
    except (Stopped, KeyboardInterrupt) as stop:
        return _told(f"stopped{stop}", STOPPED)
    except BrokenPipeError:
        return _told("", 0)  # whoever read has read enough
    except OSError as error:
        named = f" {str(error.filename)!r}" if error.filename else ""
        return _told(f"error: cannot write or read{named}: {error.strerror or error}; make room, or use another place", 2)
    except SystemExit as stop:  # typer's own: usage errors are 2, an interrupt is 130
        if isinstance(stop.__context__, BrokenPipeError):
            return _told("", 0)
        return stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    return 0


def _told(text: str, code: int) -> int:
    """Say what went wrong, where that can be said; returns the exit code. A stream that cannot be written to is given up:
    Python flushes it once more at its end, and would fail there again."""
    if "jax" in sys.modules and device.follows() and code == 2:
        text = ""  # the first process says it
    for stream, said in ((sys.stderr, f"{text}\n" if text else ""), (sys.stdout, "")):
        try:
            stream.write(said)
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")  # a terminal without é is no reason to fail
    return guarded(lambda: app(arguments, prog_name="fluidgrad"))
