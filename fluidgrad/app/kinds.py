"""``new``: the kinds of study there is a config to start from. Each is a shipped one, complete and commented."""

from __future__ import annotations

from pathlib import Path

from fluidgrad.app.config.reading import shipped_folder
from fluidgrad.app.config.sections import suggestion
from fluidgrad.errors import InputError
from fluidgrad.files import write

KINDS = {
    "simulation": "cylinder_re20",
    "inflow": "cylinder_inflow",
    "shape": "cylinder_shape",
    "aerofoil": "aerofoil",
    "porosity": "flow_screen",
    "calibration": "calibration",
    "rotation": "rotating_cylinder",
    "duct3d": "duct3d",
    "imported": "imported",
}


def new(kind: str = "", file: str = "") -> Path | None:
    """Write the config of a kind of study; without a kind, or with a wrong one, tell the kinds.

    Raises:
        InputError: no such kind; a file that exists already or cannot be written.
    """
    if kind not in KINDS:
        width = max(map(len, KINDS))
        print("\n".join(f"{name:<{width}}  {_text(name).splitlines()[0].lstrip('# ')}" for name in KINDS))
        if not kind:
            return None
        raise InputError(f"there is no template {kind!r}", suggestion(kind, KINDS, f"one of {', '.join(KINDS)}"))
    path = Path(file or f"{kind}.toml")
    try:
        if path.exists():
            raise InputError(f"{str(path)!r} exists already", accepted="another file name")
        if not path.parent.is_dir():
            raise InputError(
                f"cannot write {str(path)!r}: there is no folder {str(path.parent)!r}", accepted="a file in a folder that exists"
            )
        write(path, _text(kind))
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"cannot write {str(path)!r}: {reason}", accepted="a folder that can be written to") from None
    print(f"{path}: edit it, then fluidgrad run {path}")
    return path


def _text(kind: str) -> str:
    return (shipped_folder() / f"{KINDS[kind]}.toml").read_text(encoding="utf-8")
