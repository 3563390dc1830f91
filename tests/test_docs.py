"""The documentation site: it builds without a warning, every page of it is whole, and it tells of all there is."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import fluidgrad as fg

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in DOCS.rglob("*.md") if "_build" not in p.parts)
HOSTS = {  # all that pages may link to
    "gmsh.info", "su2code.github.io", "dafoam.github.io", "www.openfoam.com", "fenicsproject.org", "www.firedrakeproject.org",
    "www.dolfin-adjoint.org", "github.com", "nek5000.mcs.anl.gov", "doi.org",
    "www.sphinx-doc.org", "pradyunsg.me",  # the theme's own line at the foot of a page
}  # fmt: skip


# a notebook whose programs take little time to compile
SHORT = "tutorials/functional.md"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built by the one command that builds it; all notebooks but one are executed by a slow test."""
    notebooks = [str(p.relative_to(DOCS)) for p in PAGES if "{code-cell}" in p.read_text(encoding="utf-8")]
    return built(tmp_path_factory.mktemp("site"), [name for name in notebooks if name != SHORT])


@pytest.mark.slow
def test_the_site_is_built_with_every_notebook_executed(tmp_path):
    built(tmp_path)


def built(folder, left_out=()):
    source, out = folder / "docs", folder / "html"
    shutil.copytree(DOCS, source, ignore=shutil.ignore_patterns("_build"))
    with (source / "conf.py").open("a") as conf:
        conf.write(f"\nnb_execution_excludepatterns = {list(left_out)}\n")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "sphinx", "-W", "-n", "--keep-going", "-q", str(source), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    return out


class Page(HTMLParser):
    """What a page links to and loads, and what can be linked to in it."""

    def __init__(self, path):
        super().__init__()
        self.ids, self.links, self.loads, self.pictures = set(), [], [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if "id" in a:
            assert a["id"] not in self.ids, f"the id {a['id']!r} is there twice"
            self.ids.add(a["id"])
        if tag == "a" and "href" in a:
            self.links.append(a["href"])
        if tag == "img":
            self.pictures.append((a.get("src", ""), a.get("alt", "")))
        if tag in ("script", "img", "iframe", "source", "video", "embed") and "src" in a:
            self.loads.append(a["src"])
        if tag == "link" and a.get("rel") not in ("index", "search", "next", "prev", "author", "canonical"):
            self.loads.append(a.get("href", ""))


@cache
def parsed(path):
    return Page(path)


def pages(site):
    found = sorted(site.rglob("*.html"))
    assert len(found) > 30
    return found


def text_of(path):
    return re.sub(r"<[^>]+>", "", path.read_text(encoding="utf-8"))


def test_tables_on_pages_are_those_of_the_code(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import generated

    stale = [page.name for page, text in generated.pages().items() if page.read_text(encoding="utf-8") != text]
    assert not stale, f"python docs/generated.py brings {stale} up to date"


def test_every_page_is_built(site):
    missing = [p for p in PAGES if not (site / p.relative_to(DOCS)).with_suffix(".html").exists()]
    assert not missing


def test_links_lead_somewhere(site):
    broken = []
    for path in pages(site):
        for link in parsed(path).links:
            url = urlsplit(link)
            if url.scheme:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            if not target.is_file():
                broken.append((path.name, link))
            elif url.fragment and target.suffix == ".html" and unquote(url.fragment) not in parsed(target).ids:
                broken.append((path.name, link))
    assert not broken


def test_external_links_are_few_and_well_formed(site):
    for path in pages(site):
        for link in parsed(path).links:
            url = urlsplit(link)
            if url.scheme:
                assert url.scheme == "https" and url.hostname in HOSTS and " " not in link, (path.name, link)


def test_pictures_exist_and_have_a_text(site):
    for path in pages(site):
        for source, alt in parsed(path).pictures:
            assert (path.parent / unquote(source)).resolve().is_file(), (path.name, source)
            assert len(alt.split()) > 2, (path.name, source)


def test_nothing_is_loaded_from_elsewhere(site):
    for path in pages(site):
        for source in parsed(path).loads:
            assert not urlsplit(source).netloc, (path.name, source)
    for style in site.rglob("*.css"):
        for url in re.findall(r"(?:url\(|@import)\s*[\"']?([^\"')\s;]+)", style.read_text(encoding="utf-8")):
            assert url.startswith("data:") or not urlsplit(url).netloc, (style.name, url)


def test_pages_have_no_broken_markup(site):
    """What MyST or reStructuredText leaves behind where it did not understand."""
    for path in pages(site):
        if path.name in ("genindex.html", "search.html", "py-modindex.html"):
            continue
        body = path.read_text(encoding="utf-8")
        body = body[body.index("<article") : body.index("</article>")]
        prose = re.sub(r"<[^>]+>", "", re.sub(r"<(pre|code)\b.*?</\1>", "", body, flags=re.S))
        left = re.search(r"```|:::|\{(py:)?(any|func|class|exc|doc|ref|include)\}|:(func|class|meth|mod|py):|\]\(|`|\|\s*---", prose)
        assert not left, (path.name, prose[max(0, left.start() - 60) : left.end() + 60])
        assert "CFG:" not in prose and "RESULT" not in prose, path.name


def test_public_names_have_an_entry(site):
    ids = set().union(*(parsed(p).ids for p in (site / "api").glob("*.html")))
    assert not [name for name in fg.__all__ if f"fluidgrad.{name}" not in ids]


def test_commands_are_described(site):
    import typer.main

    from fluidgrad.app.cli import app

    page, text = parsed(site / "reference" / "commands.html"), text_of(site / "reference" / "commands.html")
    for name, command in typer.main.get_command(app).commands.items():
        assert name in page.ids and f"fluidgrad {name}" in text, f"docs/reference/commands.md lacks {name}"
        for parameter in command.params:
            assert parameter.param_type_name != "option" or all(o in text for o in parameter.opts), (name, parameter.name)


def test_config_sections_and_keys_are_described(site):
    from pydantic import BaseModel

    from fluidgrad.app.config.config import Config
    from fluidgrad.app.config.sections import models_in as _models

    page, text = parsed(site / "reference" / "config.html"), text_of(site / "reference" / "config.html")

    def keys(model):
        for name, field in model.model_fields.items():
            yield name
            for inner in _models(field.annotation):
                yield from keys(inner)

    assert issubclass(Config, BaseModel)
    assert not [s for s in Config.model_fields if s not in page.ids]
    assert not [k for k in set(keys(Config)) if not re.search(rf"\b{k}\b", text)]


def blocks(language):
    """Fenced blocks of a language in the sources of the site, with the page each is on."""
    for page in PAGES:
        for k, block in enumerate(re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.S | re.M)):
            yield pytest.param(block, page.read_text(encoding="utf-8"), id=f"{page.relative_to(DOCS)}-{k}")


@pytest.mark.parametrize("block,page", [*blocks("toml")])
def test_configs_on_pages_are_valid(block, page, tmp_path, monkeypatch):
    """As ``fluidgrad config validate`` does, with the functionals that the page defines."""
    from fluidgrad.app.config.problem import Problem
    from fluidgrad.app.config.reading import parse
    from fluidgrad.app.runs.designs import study_of
    from fluidgrad.flow import functionals, measures

    assert "mesh" in tomllib.loads(block)
    registry = dict(functionals.REGISTRY)
    for module in (functionals, measures):
        monkeypatch.setattr(module, "REGISTRY", registry)
    for code in re.findall(r"^```python\n(.*?)^```", page, re.S | re.M):
        if "@fg.functional" in code:
            exec(compile(code, "page", "exec"), {})
    config = parse(block, "page.toml", tmp_path, ["mesh.cells=400"] if 'kind = "channel"' in block else [])
    problem = Problem.of(config, "page.toml")
    if config.design:
        study_of(problem, "page.toml")


@pytest.mark.parametrize("block,page", [*blocks("python")])
def test_python_on_pages_compiles(block, page):
    compile(block, "page", "exec")


def command_lines():
    for block in blocks("sh"):
        for line in block.values[0].splitlines():
            if (words := shlex.split(line, comments=True)) and words[0] == "fluidgrad":
                yield pytest.param(words[1:], id=line)


@pytest.mark.parametrize("words", [*command_lines()])
def test_commands_on_pages_have_their_options(words):
    import typer.main

    from fluidgrad.app.cli import app

    known = typer.main.get_command(app).commands
    if words[0] == "--help":
        return
    if words[0] not in known:
        pytest.fail(f"there is no command {words[0]!r}")
    options = {o for p in known[words[0]].params for o in p.opts}
    assert not [w for w in words[1:] if w.startswith("-") and w not in options]
