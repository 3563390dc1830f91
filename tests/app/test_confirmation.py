"""What was found is put to the test, and what did not stand it, or was not made, is said: in the exit code, the results, the page."""

import json

import pytest
from cases import TINY

from fluidgrad.app.cli import main
from fluidgrad.app.report import page
from fluidgrad.app.runs.confirmation import better
from fluidgrad.errors import InputError

FUNCTIONALS = """
import jax, jax.numpy as jnp, numpy as np
from fluidgrad import functional, dissipation

@functional(units="L^4 T^-3")
def cut(solution):
    return jax.lax.stop_gradient(dissipation.function(solution))

@jax.custom_jvp
def off(x):
    return x
off.defjvp(lambda p, t: (p[0], 1.01 * t[0]))
@functional(units="L^4 T^-3")
def astray(solution):
    return off(dissipation.function(solution))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("confirmation")
    (folder / "tiny.toml").write_text(TINY + "\n[output]\nfigures = false\nfiner_mesh = false\nstability = false\n")
    (folder / "mine.py").write_text(FUNCTIONALS)

    def run(*settings, imports=True):
        from fluidgrad.flow.functionals import REGISTRY

        before = set(REGISTRY)
        root = folder / str(len(list(folder.iterdir())))
        extra = ["--import", str(folder / "mine.py")] if imports else []
        code = main(["run", str(folder / "tiny.toml"), *extra, *(x for s in settings for x in ("--set", s)), "--runs", str(root)])
        for name in set(REGISTRY) - before:
            del REGISTRY[name]
        found = root / "tiny-1"
        return code, found, json.loads((found / "results.json").read_text())

    return run


@pytest.mark.parametrize(
    "name, says",
    [("cut", "is exactly zero where differences find "), ("astray", "half-way to the optimum where differences find ")],
)
def test_a_derivative_that_differences_contradict_ends_in_1_with_its_results_kept(run, capsys, name, says):
    code, folder, result = run(f"objective.minimize={{functional='{name}'}}")
    err = capsys.readouterr().err
    assert code == 1 and len(err.strip().splitlines()) == 1
    assert err.startswith(f"failed: the derivative of {name}() is ") and says in err
    assert ("cuts the derivative off (stop_gradient" in err) == (name == "cut")
    assert result["finished"] and result["optimum"][f"{name}()"]["value"] > 0 and says in result["derivative_check"]["message"]
    text = (folder / "report.html").read_text()
    assert '<span class="badge failed">failed</span>' in text and says in text


@pytest.mark.parametrize(
    ("first", "last", "gain", "words"),
    [(2.0, 1.0, 0.5, "better by 50.00 %"), (1.0, 1.08, -0.08, "worse by 8.00 %"), (1.0, -1.0, 2.0, "changed by -2")],
)
def test_a_gain_in_words(first, last, gain, words):
    """A start that violates its constraints may have the better objective."""
    assert better(first, last, gain) == words


def test_an_objective_that_is_zero_at_the_start(run, capsys):
    """Fluid at rest: the gain is no share of the start, and the search was lost by a division by it."""
    code, folder, result = run(
        "boundary.inlet.profile.values=[0.0, 0.0, 0.0, 0.0]",
        "objective={maximize={functional='flow_rate', patch='inlet'}, subject_to=[{functional='dissipation', at_most=2.0}]}",
        "optimizer.max_iterations=30",
        "output.finer_mesh=true",
        imports=False,
    )
    assert code == 0 and result["improvement"] is None and result["finer_mesh"]["improvement"] is None
    assert result["optimum"]["flow_rate(inlet)"]["value"] > 0.5 and not result["finer_mesh"]["vanished"]
    assert "changed by +" in capsys.readouterr().out
    assert "flow_rate(inlet): " in (text := (folder / "report.html").read_text()) and "better by" not in text


def test_a_start_at_rest_is_no_reason_to_call_limits_infeasible(tmp_path, capsys):
    """The roughness of no flow is 0 / 0, and its gradient hid that of the flow rate, which can well be met."""
    text = TINY.replace("values = [2.0, 1.5, 1.0, 0.5]", 'count = 4, start = "parabola", mean = 0.0')
    text = text.replace("equals = 1.0 }", 'equals = 1.0 }, { functional = "roughness", patch = "inlet", at_most = 4.0 }')
    (tmp_path / "rest.toml").write_text(text)
    assert main(["config", "validate", str(tmp_path / "rest.toml")]) == 0, capsys.readouterr().err
    assert main(["run", str(tmp_path / "rest.toml"), "--runs", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "not converged: roughness(inlet) is nan\n"
    beyond = ["--set", "objective.subject_to.0.equals=9.0"]
    assert main(["config", "validate", str(tmp_path / "rest.toml"), *beyond]) == 2
    assert "flow_rate(inlet) cannot equal 9, the nearest within the bounds is 2.4" in capsys.readouterr().err


def test_a_complex_functional_is_refused(tmp_path, capsys):
    (tmp_path / "tiny.toml").write_text(TINY)
    (tmp_path / "mine.py").write_text("import fluidgrad as fg\n@fg.functional(units='1')\ndef swirl(s): return fg.drag(s, 'walls') * 1j\n")
    setting = ["--set", "objective.minimize={functional='swirl'}", "--import", str(tmp_path / "mine.py")]
    assert main(["config", "validate", str(tmp_path / "tiny.toml"), *setting]) == 2
    assert "swirl() is complex ([objective] minimize in tiny.toml); a real number" in capsys.readouterr().err


FINER = "flow.viscosity=0.11", "output.finer_mesh=true"


def test_a_finer_mesh_that_holds_no_parents_is_begun_from_rest(run, monkeypatch):
    from fluidgrad.derivatives import accuracy

    def none(*_):
        raise InputError("the mesh given as finer has no cell in that near (0, 0)")

    monkeypatch.setattr(accuracy, "prolonged", none)
    code, _, result = run(*FINER, imports=False)
    assert code == 0 and result["finer_mesh"]["compared"] and result["finer_mesh"]["cells"] == 144
    assert result["finer_mesh"]["improvement"] == pytest.approx(result["improvement"], rel=0.5)


def test_what_was_not_compared_is_a_row_of_the_results(run, monkeypatch, capsys):
    from fluidgrad.mesh import quality

    def tangled(*_):
        raise InputError("the mesh is tangled: 3 cells folded, the worst near (1, 0.5)")

    monkeypatch.setattr(quality, "check_valid", tangled)
    code, folder, result = run(*FINER, imports=False)
    reason = "the mesh is tangled: 3 cells folded, the worst near (1, 0.5) (the start on the finer mesh)"
    assert code == 0 and result["finer_mesh"] == {"compared": False, "reason": reason}
    assert f"  dissipation() on a finer mesh: not compared: {reason}" in capsys.readouterr().out
    assert f'<td>on a finer mesh</td><td class="text wide">not compared: {reason}</td>' in (folder / "report.html").read_text()


STATES = {
    "converged": {"kind": "design", "converged": True, "feasible": True, "reason": "converged: KKT residual 1e-6"},
    "stopped": {"kind": "design", "converged": False, "feasible": True, "reason": "max_iterations = 3 reached"},
    "infeasible": {"kind": "design", "converged": False, "feasible": False},
    "failed": {"converged": False, "message": "no convergence"},
}


@pytest.mark.parametrize("word", STATES)
def test_the_badge_says_how_a_run_ended_by_color_and_word(tmp_path, word):
    (tmp_path / "results.json").write_text(json.dumps(STATES[word]))
    text = page.write(tmp_path).read_text()
    assert f'<span class="badge {word}">{word}</span>' in text
    style = text[text.index("<style>") : text.index("</style>")]
    rule = next(r for r in style.split("}") if f".{word}" in r and "background" in r)
    color = rule[rule.index("var(--") :]
    assert all(color not in r for r in style.split("}") if "background" in r and any(f".{w}" in r for w in STATES if w != word))


def test_a_sensitivity_that_something_cut_off_ends_in_1_with_its_results_kept(tmp_path, capsys):
    (tmp_path / "tiny.toml").write_text(TINY + "\n[output]\nfigures = false\nfiner_mesh = false\nstability = false\n")
    (tmp_path / "mine.py").write_text(FUNCTIONALS)
    settings = ["--set", "objective.minimize={functional='cut'}", "--import", str(tmp_path / "mine.py"), "--runs", str(tmp_path)]
    assert main(["sensitivity", str(tmp_path / "tiny.toml"), *settings]) == 1
    err = capsys.readouterr().err.strip()
    assert err.startswith("failed: the derivative of cut() is exactly zero in everything") and len(err.splitlines()) == 1
    assert json.loads((tmp_path / "tiny-1" / "results.json").read_text())["kind"] == "sensitivity"
