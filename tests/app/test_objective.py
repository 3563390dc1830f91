"""What is sought, as a config says it: sums of functionals, and limits that are multiples of what the start has."""

import json

import pytest
from cases import TINY

from fluidgrad.app.cli import main

BOTH = 'minimize = { sum = [ { functional = "dissipation" }, { functional = "flow_rate", patch = "outlet", weight = 0.5 } ] }'
NAME = "sum(dissipation(), 0.5 flow_rate(outlet))"


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("objective")
    quiet = "\n[output]\nfigures = false\nfiner_mesh = false\nstability = false\n"
    text = TINY.replace('minimize = { functional = "dissipation" }', BOTH).replace("equals = 1.0", 'equals = "1.1 start"')
    text = text.replace(" } ]\n\n[optimizer]", ' },\n{ functional = "roughness", patch = "inlet", at_most = "start" } ]\n\n[optimizer]')
    (folder / "both.toml").write_text(text + quiet)
    return folder


def test_a_sum_is_minimized_under_limits_of_the_start(here, capsys):
    run = ["run", str(here / "both.toml"), "--set", "optimizer.max_iterations=30", "--runs", str(here)]
    assert main(run) == 0
    folder = here / "both-1"
    result, said = json.loads((folder / "results.json").read_text()), capsys.readouterr().out
    assert result["converged"] and result["objective"] == NAME and result["derivative_check"]["worst"] < 1e-8
    for values in (result["start"], result["optimum"]):
        parts = values["dissipation()"]["value"] + 0.5 * values["flow_rate(outlet)"]["value"]
        assert values[NAME]["value"] == pytest.approx(parts, rel=1e-12)
    first, last = ({k: v["value"] for k, v in result[which].items()} for which in ("start", "optimum"))
    assert last["flow_rate(inlet)"] == pytest.approx(1.1 * first["flow_rate(inlet)"], rel=1e-4)
    assert last["roughness(inlet)"] <= first["roughness(inlet)"] * (1 + 1e-4)
    assert result["must"]["flow_rate(inlet)"] == "equal 1.1 (1.1 start)"
    assert "must equal 1.1 (1.1 start)" in said and "(start)" in result["must"]["roughness(inlet)"]
    page = (folder / "report.html").read_text()
    assert NAME in page and "equal 1.1 (1.1 start)" in page
    assert result["optimum"][NAME]["units"] == "1"  # m^4 s^-3 and m^2 s^-1: the weight makes them one
    before = (folder / "journal.jsonl").read_bytes()
    assert main(["run", str(folder), "-q"]) == 0 and (folder / "journal.jsonl").read_bytes() == before


@pytest.mark.slow  # every day: check and sensitivity of one functional, and the units of a sum, below
def test_a_sum_is_checked_and_has_sensitivities(here, capsys):
    assert main(["check", str(here / "both.toml"), "--json", "--runs", str(here)]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "passed"
    assert main(["sensitivity", str(here / "both.toml"), "--runs", str(here)]) == 0
    assert f"J = {NAME} = " in capsys.readouterr().out


def test_a_start_that_a_limit_needs_and_that_cannot_be_evaluated(here, tmp_path, capsys):
    rest = ["--set", "boundary.inlet.profile.values=[0.0, 0.0, 0.0, 0.0]", "--runs", str(tmp_path)]
    assert main(["run", str(here / "both.toml"), *rest]) == 1
    err = capsys.readouterr().err
    says = "[objective] subject_to[0] in both.toml is relative to the start, which cannot be evaluated: roughness(inlet) is nan"
    assert err == f"not converged: {says}\n"


def test_units_of_a_sum_are_those_of_its_terms(here, capsys):
    same = "objective.minimize={sum=[{functional='drag', patch='walls'}, {functional='lift', patch='walls', weight=-2.0}]}"
    assert main(["sensitivity", str(here / "both.toml"), "--set", same, "--runs", str(here)]) == 0
    assert "J = sum(drag(walls), -2 lift(walls)) = " in (out := capsys.readouterr().out) and " m^3 s^-2; adjoint" in out
