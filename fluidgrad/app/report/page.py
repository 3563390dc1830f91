"""``report.html``: a run on one page, in one file that needs no other and no network.

Made from the files of the folder alone, so it can be written at any time: while a search goes, after it was stopped, or
years later. Whatever is missing or damaged is left out, and said to be. Several runs side by side are another page of the
same kind.
"""

from __future__ import annotations

import base64
import shlex
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fluidgrad import files
from fluidgrad.app.report import output
from fluidgrad.errors import InputError

if TYPE_CHECKING:
    from jinja2 import Environment

REFRESH = 10  # seconds, of a page whose run goes on
MOST = 500  # rows of the history that a page shows
SIGNATURE = b"\x89PNG\r\n\x1a\n"
SHARPNESS = 2  # pixels of a picture to one of the page
SIDES = 6  # runs whose pictures are shown side by side
LARGEST = 9_000_000  # bytes of pictures in a page; beyond it the others stay in their files
CAPTIONS = {  # of pictures by the beginning of their names, in the order of the page
    "history": "Objective and constraint violation, evaluation by evaluation",
    "design": "The design at the start and at the optimum",
    "shape": "The walls at the start and at the optimum",
    "check": "Taylor remainders and errors of differences over the step",
    "sweep": "The objective over the swept values",
    "speed": "Speed and streamlines",
    "pressure": "Kinematic pressure",
    "vorticity": "Vorticity",
    "stream_function": "Stream function: the same flow passes between any two neighbouring lines",
    "walls": "Pressure and friction along the walls; rings mark where the flow leaves them or comes back",
    "numbers": "Change of the objective when a number of the config grows by 1 %",
    "wall": "Sensitivity to a displacement of the wall along its normal",
    "inflow": "Sensitivity to the speed along the inflow",
    "porosity": "Sensitivity to a resistance in the flow",
    "adjoint_velocity": "Sensitivity to a force in the flow (the adjoint velocity)",
    "error": "Where the discretisation error of the objective comes from, cell by cell",
    "mesh": "The mesh",
    "quality": "Quality of the mesh's cells",
}


def write(folder: Path, running: bool = False) -> Path:
    """Write the page of a run into its folder; of one that is at work it asks to be loaded again.

    Raises:
        InputError: results that do not fit together: somebody else's, or edited.
    """
    run = _Run(folder, running)
    status, words = run.status(running)
    text = _rendered(
        "report.html.jinja", folder, run=run, status=status, words=words, refresh=REFRESH if running else None, written=_now(),
        rows=run.history(MOST), most=MOST,
    )  # fmt: skip
    files.write(folder / "report.html", text)
    return folder / "report.html"


def compare(folders: Sequence[Path], file: Path, first: Path | None = None) -> Path:
    """Write a page with several runs side by side; ``first`` is a picture of all of them. (Of many, only the first few are shown.)

    Raises:
        InputError: none of the folders holds a run; the file cannot be written.
    """
    runs = [_Run(folder, running=False) for folder in folders]
    for run in runs:
        if not run.config:
            raise InputError(f"{str(run.folder)!r} is not the folder of a run", accepted="folders with config.toml and manifest.json")
    flat = [_flat(run.config) for run in runs]
    keys = list(dict.fromkeys(k for f in flat for k in f))
    differing = [(k, [f.get(k) for f in flat]) for k in keys if any(f.get(k) != flat[0].get(k) for f in flat)]
    finals = [run.final for run in runs]
    figures = list(dict.fromkeys(name for final in finals for name in final))
    shown, budget = runs[:SIDES], _Budget()
    overview = budget.spend(first)
    stems = list(dict.fromkeys(stem for run in shown for stem in run.pictures))
    pictures = [(stem, caption(stem), [budget.spend(run.pictures.get(stem)) for run in shown]) for stem in stems]
    values = {"differing": differing, "figures": figures, "finals": finals, "pictures": pictures, "left_out": budget.left_out,
              "overview": overview, "designs": any(run.kind == "design" for run in runs)}  # fmt: skip
    text = _rendered("comparison.html.jinja", file, runs=[(run, *run.status(False)) for run in runs], written=_now(), **values)
    with files.refused_as_output(file):
        files.write(file, text)
    return file


class _Run:
    """What a folder tells of its run."""

    def __init__(self, folder: Path, running: bool):
        self.folder, self.missing = folder, []
        # of a run that goes on, the results are those of before
        self.result: dict[str, Any] = {} if running else self._read(folder / "results.json", output.read_json) or {}
        self.manifest = self._read(folder / "manifest.json", output.read_json) or {}
        config = self.manifest.get("config")
        self.config: dict[str, Any] = config if isinstance(config, dict) else {}
        self.table = self._read(folder / "history.csv", output.read_csv) or {}
        self.text = self._read(folder / "config.toml", lambda path: path.read_text(encoding="utf-8", errors="replace")) or ""
        self.error = self._read(folder / "error.txt", lambda path: path.read_text(encoding="utf-8", errors="replace")) or ""
        self.pictures = {stem: folder / "figures" / f"{stem}.png" for stem in self._stems()}
        self.budget = _Budget()

    def _read(self, path: Path, read: Callable[[Path], Any]) -> Any:
        if not path.exists():
            return None
        try:
            return read(path)
        except (InputError, OSError) as error:
            self.missing.append(str(error))
            return None

    def _stems(self) -> list[str]:
        found = sorted(path.stem for path in (self.folder / "figures").glob("*.png"))
        return sorted(found, key=lambda stem: list(CAPTIONS).index(_kind(stem)) if _kind(stem) else len(CAPTIONS))

    @property
    def kind(self) -> str:
        return self.result.get("kind") or ("design" if self.config.get("design") else "simulation")

    def status(self, running: bool) -> tuple[str, str]:
        """A word, which is also the badge's color, and what it means here."""
        result, evaluations = self.result, len(next(iter(self.table.values()), []))
        if running:
            return "running", f"{evaluations} evaluations so far" if evaluations else "at work"
        if "message" in result:
            return "failed", result["message"]
        if self.error or not result or result.get("finished") is False:
            so_far = f" after {evaluations} evaluations" if evaluations else ""
            return "failed" if self.error else "stopped", f"not finished{so_far}; go on with: fluidgrad run {self.folder}"
        if self.kind == "check":
            return str(result.get("verdict", "?")), "every derivative that an optimisation would use"
        if self.kind == "design" and not result.get("feasible", True):
            return "infeasible", "no design was found that meets the constraints"
        check = result.get("derivative_check")
        if isinstance(check, dict) and "message" in check:
            return "failed", str(check["message"])
        if self.kind == "design" and not result.get("converged"):
            return "stopped", f"not an optimum to the tolerance: {result.get('reason')}"
        return "converged", str(result.get("reason", "the flow was solved"))

    @property
    def final(self) -> dict[str, Any]:
        """The figures at the end, by name."""
        found = self.result.get("optimum") or self.result.get("figures") or {}
        return found if isinstance(found, dict) else {}

    def history(self, most: int) -> list[dict[str, str]]:
        """The last rows of the search."""
        columns = [c for c in self.table if self.table[c]]
        count = len(self.table[columns[0]]) if columns else 0
        return [{c: self.table[c][i] for c in columns} for i in range(max(count - most, 0), count)]

    def shown(self) -> list[tuple[str, str, Picture]]:
        """Name, caption and data of the pictures."""
        return [(stem, caption(stem), data) for stem, path in self.pictures.items() if (data := self.budget.spend(path))]

    @property
    def again(self) -> list[str]:
        """Commands that do it again."""
        command = {"check": "check", "sensitivity": "sensitivity"}.get(self.kind, "run")
        extra = "".join(f" --import {shlex.quote(name)}" for name in self.manifest.get("imports", {}))
        version, commit = self.manifest.get("fluidgrad", "?"), self.manifest.get("commit")
        return [f"# fluidgrad {version}{f', commit {commit}' if commit else ''}", f"fluidgrad {command} config.toml{extra}"]


class Picture(NamedTuple):
    """A picture as it stands in a page: as text, and its size there."""

    data: str
    width: int
    height: int


class _Budget:
    """Pictures, as long as there is room for them."""

    def __init__(self) -> None:
        self.spent, self.left_out = 0, []

    def spend(self, path: Path | None) -> Picture | None:
        """The picture, or nothing where there is none, where it is damaged or no room is left."""
        try:
            data = path.read_bytes() if path else b""
        except OSError:
            return None
        if path is None or data[:8] != SIGNATURE or len(data) < 24:
            return None
        text = base64.b64encode(data).decode()
        if self.spent + len(text) > LARGEST:
            self.left_out.append(str(path))
            return None
        self.spent += len(text)
        width, height = (int.from_bytes(data[i : i + 4]) // SHARPNESS for i in (16, 20))
        return Picture(f"data:image/png;base64,{text}", width, height)


def caption(stem: str) -> str:
    """What a picture shows, from its name."""
    kind = _kind(stem)
    rest = stem[len(kind) :].replace("_", " ").strip()
    text = CAPTIONS.get(kind, stem.replace("_", " "))
    return f"{text} ({rest})" if kind and rest else text


def _kind(stem: str) -> str:
    """The longest of the known names that begins it."""
    return max((k for k in CAPTIONS if stem == k or stem.startswith(k + "_")), key=len, default="")


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    rows = {}
    for key, value in table.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            value = {str(i + 1): v for i, v in enumerate(value)}
        rows |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return rows


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


@cache
def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    # every text of a folder is escaped: the page cannot be made to execute anything
    found = Environment(loader=PackageLoader("fluidgrad.app.report", "templates"), autoescape=select_autoescape(["jinja"], default=True),
                        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    found.filters |= {"number": number, "units": units}
    found.globals["value_of"] = lambda figures, name: figures.get(name, {}).get("value")  # the moment of a body that did not turn
    return found


def _rendered(template: str, source: Path, **values: Any) -> str:
    from jinja2 import TemplateError

    try:
        return _environment().get_template(template).render(**values)
    except (TemplateError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"the results in {str(source)!r} do not fit together ({error})", accepted="the folder of a run") from None


def number(value: Any, digits: int = 7) -> str:
    """A number for reading."""
    if value is None or value == "":
        return "–"
    try:
        return f"{float(value):.{digits}g}"
    except (TypeError, ValueError):
        return str(value)


def units(text: Any) -> str:
    """Units for reading: m² s⁻¹."""
    if text in (None, "1", ""):
        return ""
    raised = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
    return " ".join(base + power.translate(raised) for base, _, power in (part.partition("^") for part in str(text).split()))
