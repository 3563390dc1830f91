"""What pages take from the code: the commands, the config's keys, lists of functionals, boundaries, curves, meshes, methods.

A page holds these between marks, ``<!-- from the code: NAME -->`` and ``<!-- end -->``, so that it can be read in the
repository. ``python docs/generated.py`` brings all pages up to date; a test says when they are not.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
MARKED = re.compile(r"(<!-- from the code: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> dict[Path, str]:
    """Every page that takes something from the code, as it has to be."""
    made = {f"command-{name}": text for name, text in commands().items()}
    made |= {"config": config(), "functionals": functionals(), "optimizers": optimizers(), "templates": defaults()}
    made |= {name: kinds(name) for name in ("boundaries", "curves", "meshes")}
    marked = {page: page.read_text(encoding="utf-8") for page in sorted(DOCS.rglob("*.md")) if "_build" not in page.parts}
    return {
        page: MARKED.sub(lambda m: f"{m[1]}\n{made[m[2]].strip()}\n\n{m[3]}", text) for page, text in marked.items() if MARKED.search(text)
    }


def commands() -> dict[str, str]:
    """For each command of the command line: what it does, and a table of what it takes."""
    import typer.main

    from fluidgrad.app.cli import app

    text = {}
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        usage, rows = [f"fluidgrad {name}"], []
        for p in command.params:
            option = p.param_type_name == "option"
            label = "|".join(p.opts) if option else p.metavar or p.name.upper()
            value = f" {p.metavar}" if option and p.metavar else ""
            if not option:
                usage.append(label if p.required or label.startswith("[") else f"[{label}]")
            told = label.strip("[]").replace(" | ", "|").replace("|", "` or `")
            rows.append(f"| `{told}{value}` | {_cell(p.help or '')} |")
        usage.append("[OPTIONS]" if any(p.param_type_name == "option" for p in command.params) else "")
        table = "\n".join(["| takes | |", "| --- | --- |", *rows])
        text[name] = f"```text\n{' '.join(usage).strip()}\n```\n\n{command.help}\n\n{table}\n"
    return text


def config() -> str:
    """Every section and key of a config, as ``fluidgrad config explain`` tells them."""
    from fluidgrad.app.config.config import Config

    seen: dict[tuple[str, ...], str] = {}
    return "\n".join(line for section in Config.model_fields for line in [*_table(section, section, 2, seen), ""])


def _table(path: str, title: str, level: int, seen: dict[tuple[str, ...], str]) -> list[str]:
    from fluidgrad.app.explaining import explain

    head, *lines = explain(path).splitlines()
    about = head.partition(": ")[2]
    out = ["#" * level + f" `{title}`", "", f"{_sentence(about)}", ""]
    if (same := seen.setdefault(tuple(lines), title)) != title:
        return [*out, f"Its keys are those of `{same}`.", ""]
    rows, nested = False, []
    for line in lines:
        if line.startswith("  "):
            key, _, told = line.strip().partition(": ")
            if not rows:
                out += ["| key | what it is | |", "| --- | --- | --- |"]
                rows = True
            out.append(f"| `{key}` | {_cell(_meaning(told))} | {_cell(_limits(told))} |")
            if key not in (*nested, "functional", "method") and len(explain(f"{path}.{key}").splitlines()) > 1:
                nested.append(key)
        else:
            rows = False
            kind, _, doc = line.partition(": ") if line.startswith('kind = "') else ("", "", line)
            out += ["", f"**`{kind}`**: {doc}" if kind else doc, ""]
    for key in nested:
        if key != "other":
            out += ["", *_table(_through(path, key), f"{title}.PATCH.{key}" if path == "boundary" else f"{title}.{key}", level + 1, seen)]
    return out


def _through(path: str, key: str) -> str:
    """A path that ``explain`` follows: the entries of [boundary] are named by their patches."""
    return f"{path}.inlet.{key}" if path == "boundary" else f"{path}.{key}"


TAILS = ("needed", "may be left out", "default ", "a design may vary it", "at least ", "at most ", "above ", "below ", '"')


def _split(told: str) -> tuple[list[str], list[str]]:
    parts = told.split("; ")
    k = next((i for i, p in enumerate(parts) if i and p.startswith(TAILS)), len(parts))
    return parts[:k], parts[k:]


def _meaning(told: str) -> str:
    return "; ".join(_split(told)[0])


def _limits(told: str) -> str:
    parts = [f"default `{p[8:]}`" if p.startswith("default ") else p for p in _split(told)[1]]
    return "; ".join(p.replace("a design may vary it", "**may vary**") for p in parts)


def functionals() -> str:
    """The names that a config may use, with their arguments, units and what they are."""
    from fluidgrad.app.explaining import called, first_sentence
    from fluidgrad.flow.functionals import REGISTRY

    rows = ["| functional | arguments | units | what it is |", "| --- | --- | --- | --- |"]
    for name, f in sorted(REGISTRY.items()):
        if f.function.__module__.startswith("fluidgrad."):
            listed = ", ".join(f"`{argument}`" for argument in called(f))
            rows.append(f"| `{name}` | {listed or 'none'} | {f.units} | {_cell(first_sentence(f.__doc__))} |")
    return "\n".join(rows) + "\n"


def kinds(subject: str) -> str:
    """The kinds of a table in a config, with their keys, and what they are."""
    from fluidgrad.app.explaining import KINDS, keys_of, kind_of

    rows = ["| kind | needs | may have | what it is |", "| --- | --- | --- | --- |"]
    for model in KINDS[subject]():
        needed, optional = (", ".join(f"`{key}`" for key in keys) for keys in keys_of(model))
        rows.append(f"| `{kind_of(model)}` | {needed or 'none'} | {optional or 'none'} | {_cell((model.__doc__ or '').splitlines()[0])} |")
    return "\n".join(rows) + "\n"


def optimizers() -> str:
    """The methods and what they can take."""
    from fluidgrad.design import optimizers

    lines = (optimizers.__doc__ or "").splitlines()
    return "\n".join(line for line in lines if line.startswith("|")) + "\n"


def defaults() -> str:
    """The configs that come with the package, with the first line of each."""
    from fluidgrad.app.config.reading import shipped_folder

    rows = ["| name | what it is |", "| --- | --- |"]
    for file in sorted(shipped_folder().glob("*.toml")):
        rows.append(f"| `{file.stem}` | {file.read_text().splitlines()[0].lstrip('# ')} |")
    return "\n".join(rows) + "\n"


def _sentence(text: str) -> str:
    text = "; ".join(part for i, part in enumerate(text.split("; ")) if not i or not part.startswith(TAILS))
    return text[:1].upper() + text[1:] + "."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("[[", "\\[\\[").replace("]]", "\\]\\]")


def signature(app: Any, what: str, name: str, obj: Any, options: Any, sig: str | None, returns: str | None) -> Any:
    """A functional is called as its function is."""
    import inspect

    from fluidgrad.flow.functionals import Functional

    if isinstance(obj, Functional):
        parameters = inspect.signature(obj.function).parameters.values()
        plain = inspect.Signature([p.replace(annotation=p.empty) for p in parameters])
        return str(plain), None
    return None


def docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A functional says its units."""
    from fluidgrad.flow.functionals import Functional

    if what == "property":
        _properties[name] = list(lines)
    lines[:] = ["``".join(s if i % 2 else s.replace("|", r"\|") for i, s in enumerate(line.split("``"))) for line in lines]  # sizes
    if isinstance(obj, Functional):
        while lines and not lines[-1].strip():
            lines.pop()
        lines += ["", f"Units: {obj.units}.", ""]


_properties: dict[str, list[str]] = {}


def plain_properties(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """A property's text as it was: napoleon takes all before a colon for a type."""
    if what == "property":
        lines[:] = _properties.pop(name)


if __name__ == "__main__":
    for page, text in pages().items():
        page.write_text(text, encoding="utf-8")
