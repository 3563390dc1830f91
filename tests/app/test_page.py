"""report.html: one file that needs no other, whole and readable, whatever is in the folder."""

import base64
import io
import json
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from cases import TINY
from PIL import Image

from fluidgrad.app.cli import main
from fluidgrad.app.report import page

VOID = {"meta", "img", "br", "link", "hr", "input"}


class Page(HTMLParser):
    """A page's tags, checked while it is read."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.images, self.text, self.headings = [], [], [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in VOID:
            self.open.append(tag)
        assert tag not in ("script", "iframe", "object", "embed", "link"), tag
        assert not any(name.startswith("on") for name in attrs), "nothing on the page executes"
        if "id" in attrs:
            self.ids.append(attrs["id"])
        if "href" in attrs:
            self.links.append(attrs["href"])
        if tag == "img":
            self.images.append(attrs)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)
        if self.open and self.open[-1] == "h2":
            self.headings.append(data.strip())

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


def opened(file):
    text = file.read_text(encoding="utf-8")
    assert len(text.encode()) < 10_000_000
    found = Page(text)
    assert "http://" not in text and "https://" not in text and "url(" not in text and "@import" not in text
    assert len(set(found.ids)) == len(found.ids)
    assert all(link.startswith("#") and link[1:] in found.ids for link in found.links), found.links
    for image in found.images:
        assert image["alt"].strip() and image["src"].startswith("data:image/png;base64,")
        picture = Image.open(io.BytesIO(base64.b64decode(image["src"].partition(",")[2], validate=True)))
        picture.load()
        assert picture.width // 2 == int(image["width"]) and picture.height // 2 == int(image["height"])
    return found


def test_a_design_tells_everything(design):
    found = opened(design / "report.html")
    assert found.headings == ["Results", "Derivative check", "Figures", "History", "Config", "How to reproduce"]
    result = json.loads((design / "results.json").read_text())
    for name, value in result["optimum"].items():
        assert name in found.words and f"{value['value']:.7g}" in found.words
    assert "m⁴ s⁻³" in found.words and "equal 1" in found.words and "minimize" in found.words
    assert f"better by {100 * result['improvement']:.4g} %" in found.words
    assert f"{result['residuals']['adjoint']:.2g}" in found.words and f"{result['kkt_residual']:.3g}" in found.words
    assert "again on 144" in found.words and "fluidgrad run config.toml" in found.words
    manifest = json.loads((design / "manifest.json").read_text())
    assert all(f"{name} {version}" in found.words for name, version in manifest["packages"].items())
    assert 'kind = "box"' in found.words and "running" not in found.words
    assert len(found.images) == len(list((design / "figures").glob("*.png"))) == len({i["alt"] for i in found.images})


def test_the_optimum_of_a_run_is_checked_against_differences(design):
    check = json.loads((design / "results.json").read_text())["derivative_check"]
    assert check["checked"] and set(check["functionals"]) == {"dissipation()", "flow_rate(inlet)"}
    assert check["worst"] == max(row["gap"] for row in check["functionals"].values()) < 1e-8


def test_simulations_and_sensitivities_have_pages_too(simulation, sensitivities):
    found = opened(simulation / "report.html")
    assert found.headings == ["Results", "Figures", "Config", "How to reproduce"] and "dissipation() 2.30023249" in found.words
    found = opened(sensitivities / "report.html")
    assert "Change of J when a number of the config grows by 1 %" in found.words and "flow.viscosity" in found.words
    assert "fluidgrad sensitivity config.toml" in found.words


def test_a_page_of_a_check(tmp_path):
    names = ["drag(body)", "flow_rate(inlet)"]
    point = {"names": names, "taylor_rates": [2.0, 1.999], "gaps": [1e-14, 2e-15], "floor": [1e-10, 3e-11]}
    result = {"kind": "check", "verdict": "passed", "points": {"start": point, "random design": point}}
    (tmp_path / "results.json").write_text(json.dumps(result))
    found = opened(page.write(tmp_path))
    assert "Derivative check: passed" in found.headings and found.words.count("drag(body)") == 2


def test_a_run_that_goes_on_says_so_and_is_loaded_again(design, tmp_path):
    copy = shutil.copytree(design, tmp_path / "copy")
    page.write(copy, running=True)
    text = (copy / "report.html").read_text()
    found = opened(copy / "report.html")
    assert 'http-equiv="refresh"' in text and "running 4 evaluations so far" in found.words and "Results" not in found.headings
    (copy / "results.json").unlink()
    found = opened(page.write(copy))
    assert f"stopped not finished after 4 evaluations; go on with: fluidgrad run {copy}" in found.words
    assert 'http-equiv="refresh"' not in (copy / "report.html").read_text()


def test_the_page_grows_while_a_search_goes(tmp_path, monkeypatch):
    (tmp_path / "tiny.toml").write_text(TINY + "\n[output]\nfigures = false\nfiner_mesh = false\nstability = false\n")
    seen, write = [], page.write

    def watched(folder, running=False):
        file = write(folder, running)
        seen.append((running, opened(file).words))
        return file

    monkeypatch.setattr(page, "write", watched)
    monkeypatch.setattr("fluidgrad.app.runs.progress.SHARE", 1e9)
    assert main(["run", str(tmp_path / "tiny.toml"), "--runs", str(tmp_path), "-q"]) == 0
    assert [running for running, _ in seen] == [True] * 5 + [False]
    assert ["1 evaluations so far" in words for _, words in seen] == [False, True, False, False, False, False]


def test_what_a_folder_says_is_text_and_never_code(design, tmp_path):
    copy = shutil.copytree(design, tmp_path / "copy")
    bad = '<script>alert("1")</script><img src=x onerror=alert(1)>'
    manifest = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps(manifest | {"commit": bad, "command": [bad], "imports": {bad: "0"}}))
    result = json.loads((copy / "results.json").read_text())
    result["reason"] = bad
    result["optimum"][bad] = result["start"][bad] = {"value": 1.0, "units": bad}
    del result["finer_mesh"]
    (copy / "results.json").write_text(json.dumps(result))
    (copy / "config.toml").write_text(f"# {bad}")
    found = opened(page.write(copy))
    assert found.words.count("<script>") >= 5


def test_a_figure_that_the_start_had_not(design, tmp_path):
    """The moment of a body that turns only at the optimum."""
    copy = shutil.copytree(design, tmp_path / "copy")
    result = json.loads((copy / "results.json").read_text())
    result["optimum"]["moment(body)"] = {"value": 0.25, "units": "m^4 s^-2"}
    (copy / "results.json").write_text(json.dumps(result))
    assert "moment(body) – 0.25 – – m⁴ s⁻²" in opened(page.write(copy)).words


def test_what_is_damaged_is_left_out_and_said_to_be(design, tmp_path):
    copy = shutil.copytree(design, tmp_path / "copy")
    (copy / "results.json").write_bytes(b"{")
    (copy / "figures" / "speed.png").write_bytes(b"no picture")
    found = opened(page.write(copy))
    assert "Left out: cannot read" in found.words and len(found.images) == 9


def test_a_page_stays_small(design, tmp_path, monkeypatch):
    copy = shutil.copytree(design, tmp_path / "copy")
    monkeypatch.setattr(page, "LARGEST", 300_000)
    found = opened(page.write(copy))
    assert 0 < len(found.images) < 7 and "Not in this page, to keep it small" in found.words


def test_runs_side_by_side(design, simulation, tmp_path, capsys):
    copies = [shutil.copytree(f, tmp_path / name) for name, f in (("one", design), ("two", simulation))]
    file = page.compare(copies, tmp_path / "both.html")
    found = opened(file)
    assert found.headings == ["Runs", "What differs", "Results", "Figures"]
    assert "design.1.vary" in found.words and "optimizer.max_iterations" not in found.words
    assert len(found.images) == 10 + 7 and all(i["alt"].endswith(("run 1", "run 2")) for i in found.images)
    assert "2.11337" in found.words and "2.300232" in found.words
    assert "Of optimisations, at the optimum" in found.words
    assert main(["report", str(design), "-o", "page.html"]) == 2
    assert "--output page.html, but one run; several runs" in capsys.readouterr().err
    assert main(["report", str(tmp_path), str(tmp_path)]) == 2
    assert "is not the folder of a run" in capsys.readouterr().err


@pytest.mark.parametrize("stem", ["wall_body", "speed_start", "design_porosity", "mesh_optimum", "adjoint_velocity", "something_else"])
def test_every_picture_has_a_caption(stem):
    assert len(page.caption(stem)) > 8 and "_" not in page.caption(stem)


def test_a_browser_shows_it(design):
    """In headless Chromium, where one is installed: the page is laid out, and all pictures are decoded."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        return
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    shown = subprocess.run([*command, (design / "report.html").as_uri()], capture_output=True, text=True, timeout=120)
    assert "How to reproduce" in shown.stdout and shown.stdout.count("<img") == 7
