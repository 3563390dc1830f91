"""Optimization of a flow: the optimum, and resumption to the same next iterate."""

import shutil
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

import fluidgrad as fg
from fluidgrad.design import optimization
from fluidgrad.design.evaluation import evaluate
from fluidgrad.design.journal import Journal, read
from fluidgrad.design.optimization import optimize
from fluidgrad.design.study import Constraint, Study
from fluidgrad.errors import InputError, NotConverged, OutOfReach
from fluidgrad.flow.profiles import parabola_at_nodes

MESH = fg.box((0, 0), (2, 1), (8, 5))


def flow(values):
    inlet = fg.Inflow(fg.nodes(MESH, "left", values))
    return fg.Flow(MESH, viscosity=0.05, left=inlet, right=fg.Outflow(), bottom=fg.Wall(), top=fg.Wall())


def drag(solution):
    return fg.drag(solution, "bottom")


def rate(solution):
    return fg.flow_rate(solution, "left")


START = parabola_at_nodes(4, 0.6)


def study(kind="equals", target=0.6):
    return Study(flow, START, (0.0, 1.3), drag, [Constraint(rate, **{kind: target})])  # pyright: ignore


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    steps = []
    return folder, optimize(study(), folder, progress=steps.append), steps


def records(folder):
    return read(folder / "journal.jsonl")[0]


def written(folder):
    """The journal to the byte."""
    return (folder / "journal.jsonl").read_bytes()


def test_less_drag_at_the_same_flow_rate(undisturbed):
    """The optimum moves the flow away from the wall whose drag counts, and obeys the constraint and the bounds."""
    _, result, _ = undisturbed
    assert result.converged and result.kkt_residual <= 1e-5 and result.violation <= 1e-5, result.reason
    assert result.method == "SLSQP" and result.method_reason == "4 variables, 1 equality; SLSQP takes up to 300 variables"
    assert result.improvement > 0.05 and result.optimum["drag"] < result.start["drag"]
    assert result.optimum["rate"] == pytest.approx(0.6, rel=1e-5)
    values = np.asarray(result.design)
    assert values.shape == (4,) and values.min() >= 0 and values.max() <= 1.3 and values[2:].sum() > values[:2].sum()
    assert str(result).startswith("drag: ") and "SLSQP" in str(result)


def test_the_multiplier_is_the_derivative_of_the_optimum(undisturbed):
    _, result, _ = undisturbed
    moved = optimize(study(target=0.606))
    assert result.multipliers["rate"] == pytest.approx((moved.optimum["drag"] - result.optimum["drag"]) / 0.006, rel=0.05)


def test_the_states_are_those_of_start_and_optimum(undisturbed):
    _, result, _ = undisturbed
    for design, state, values in ((START, result.start_state, result.start), (result.design, result.state, result.optimum)):
        solution = fg.solve_steady(flow(design), jnp.asarray(state))
        assert int(solution.report.iterations) <= 1 and float(drag(solution)) == pytest.approx(values["drag"], rel=1e-8)


def test_progress_and_journal_tell_every_evaluation(undisturbed):
    folder, result, steps = undisturbed
    assert len(steps) == result.evaluations == len(records(folder)) - 1 and steps == list(result.history)
    assert {"primal_residual", "adjoint_residuals", "adjoint_products", "newton_steps"} == steps[1].report.keys()
    for step, record in zip(steps, records(folder)[1:], strict=True):
        assert record["design"] == step.design.tolist() and record["values"] == step.values.tolist()  # pyright: ignore


def test_each_evaluation_can_be_repeated_from_the_folder(undisturbed):
    folder, _, _ = undisturbed
    for record in records(folder)[1:4]:
        state = None if record["start"] is None else jnp.asarray(Journal(folder, records(folder)[0]).state(record["start"]))
        again = evaluate(study(), jnp.asarray(record["design"]), state)
        assert again.values.tolist() == record["values"]
        assert [g.tolist() for g in again.gradients] == record["gradients"]


def test_a_run_cut_anywhere_resumes_to_the_same_journal(undisturbed, tmp_path):
    folder, result, _ = undisturbed
    whole = (folder / "journal.jsonl").read_bytes()
    for k, cut in enumerate(np.random.default_rng(0).integers(1, len(whole), 4)):
        copy = tmp_path / str(k)
        shutil.copytree(folder, copy)
        (copy / "journal.jsonl").write_bytes(whole[:cut])
        resumed = optimize(study(), copy)
        assert written(copy) == whole
        assert np.asarray(resumed.design).tobytes() == np.asarray(result.design).tobytes()
        assert resumed.reason == result.reason and resumed.state.tobytes() == result.state.tobytes()


def test_a_finished_run_is_answered_from_its_journal(undisturbed, monkeypatch):
    folder, result, _ = undisturbed
    monkeypatch.setattr(optimization, "evaluate", None)
    assert optimize(study(), folder).optimum == result.optimum


def test_more_iterations_continue_a_run(undisturbed, tmp_path):
    folder, result, _ = undisturbed
    first = optimize(study(), tmp_path, max_iterations=2)
    assert not first.converged and first.reason == "max_iterations = 2 reached"
    assert optimize(study(), tmp_path).optimum == result.optimum and written(tmp_path) == written(folder)


def test_nlopt_resumes_too(tmp_path):
    whole = optimize(study("at_least"), tmp_path / "a", method="CCSAQ", max_iterations=5)
    optimize(study("at_least"), tmp_path / "b", method="CCSAQ", max_iterations=2)
    resumed = optimize(study("at_least"), tmp_path / "b", method="CCSAQ", max_iterations=5)
    assert written(tmp_path / "a") == written(tmp_path / "b") and resumed.optimum == whole.optimum
    assert whole.optimum["drag"] < whole.start["drag"]


def test_a_trial_that_fails_is_in_the_journal_and_gone_back_from(undisturbed, monkeypatch, tmp_path):
    def fragile(study, design, start=None):
        if np.max(design) > 1.2:
            raise NotConverged("no convergence: residual 3.1e-02 after 40 steps")
        return evaluate(study, design, start)

    monkeypatch.setattr(optimization, "evaluate", fragile)
    result = optimize(study(), tmp_path)
    failed = [r for r in records(tmp_path)[1:] if r["failed"]]
    assert failed and all(r["failed"].startswith("no convergence") and r["state"] is None and not r["values"] for r in failed)
    assert np.max(result.design) <= 1.2 and result.optimum["drag"] < result.start["drag"]
    assert [s.failed for s in result.history] == [r["failed"] for r in records(tmp_path)[1:]]


def test_a_start_that_fails_is_raised_and_leaves_nothing(monkeypatch, tmp_path):
    def broken(study, design, start=None):
        raise NotConverged("no convergence", report="how far")

    monkeypatch.setattr(optimization, "evaluate", broken)
    with pytest.raises(NotConverged, match="no convergence") as error:
        optimize(study(), tmp_path / "run")
    assert error.value.report == "how far" and not (tmp_path / "run").exists()


class Stop(BaseException):
    pass


def interrupted(step, at=3):
    if step.evaluation == at:
        raise Stop


@pytest.mark.parametrize("method", ["lbfgs", "adam", "L-BFGS-B", "trust-constr", "CCSAQ", "MMA"])
def test_every_method_lets_an_interruption_pass(tmp_path, method):
    free = Study(flow, START, (0.0, 1.3), drag, [] if method in ("lbfgs", "adam", "L-BFGS-B") else [Constraint(rate, at_least=0.3)])
    with pytest.raises(Stop):
        optimize(free, tmp_path, method=method, progress=partial(interrupted, at=1))
    assert len(records(tmp_path)) == 3


def test_an_interruption_keeps_what_was_computed(undisturbed, tmp_path):
    folder, result, _ = undisturbed
    with pytest.raises(Stop):
        optimize(study(), tmp_path, progress=interrupted)
    assert records(tmp_path) == records(folder)[:5]
    assert optimize(study(), tmp_path).optimum == result.optimum


def test_a_limit_relative_to_the_start_is_that_number(tmp_path):
    """The start's value is taken from its own evaluation: the search is the one with the number, and is resumed as such."""

    def loss(solution):
        return fg.dissipation(solution)

    def limited(most):
        return Study(flow, START, (0.0, 1.3), drag, [Constraint(rate, equals=0.6), Constraint(loss, at_most=most)])

    found = optimize(limited("1.02 start"), tmp_path)
    plain = optimize(limited(1.02 * (start := found.start["loss"])))
    assert [s.design.tobytes() for s in found.history] == [s.design.tobytes() for s in plain.history]
    assert found.optimum["loss"] == pytest.approx(1.02 * start, rel=1e-5)
    whole = written(tmp_path)
    for lines in (1, 2, 4):
        (tmp_path / "journal.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[:lines]))
        assert optimize(limited("1.02 start"), tmp_path).optimum == found.optimum and written(tmp_path) == whole
    with pytest.raises(InputError, match="is of another study: its intervals was"):
        optimize(limited("1.03 start"), tmp_path)


def test_folders_of_other_studies_are_refused(undisturbed, tmp_path):
    folder, _, _ = undisturbed
    with pytest.raises(InputError, match=r"is of another study: its intervals was \[\[0.6, 0.6\]\], now \[\[0.7, 0.7\]\]"):
        optimize(study(target=0.7), folder)
    with pytest.raises(InputError, match='is of another study: its method was "SLSQP", now "trust-constr"'):
        optimize(study(), folder, method="trust-constr")


def test_a_journal_that_leads_elsewhere_is_refused(undisturbed, tmp_path):
    """Other versions or threads may round otherwise; then the optimizer asks for other designs."""
    folder, _, _ = undisturbed
    found, _ = read(folder / "journal.jsonl")
    journal = Journal(tmp_path, found[0])
    journal.append(found[1])
    journal.append(found[2] | {"design": [x * (1 + 1e-15) for x in found[2]["design"]]})
    with pytest.raises(InputError, match="evaluation 1 of .* is not of the design that SLSQP asks for; resume with the versions"):
        optimize(study(), tmp_path)


def cut(folder, copy, count):
    """A copy of a run that was stopped after so many evaluations."""
    shutil.copytree(folder, copy)
    kept = b"".join(written(folder).splitlines(keepends=True)[: count + 1])
    (copy / "journal.jsonl").write_bytes(kept)
    return kept


def swapped(states):
    for a, b in (("000000", "other"), ("000001", "000000"), ("000002", "000001"), ("other", "000002")):
        (states / f"{a}.npz").rename(states / f"{b}.npz")


LOST = {
    "gone": (lambda states: [f.unlink() for f in states.iterdir()], r"the state .*npz cannot be read: No such file"),
    "swapped": (swapped, r"the state .*npz is another than the one that was written there; its journal needs it"),
}


@pytest.mark.parametrize("how", LOST)
def test_states_that_are_lost_end_a_search_and_leave_its_journal_alone(undisturbed, tmp_path, how):
    """They were taken for designs that fail: the search went on from those, and ended elsewhere."""
    folder, result, _ = undisturbed
    kept = cut(folder, tmp_path / "run", 3)
    lose, says = LOST[how]
    lose(tmp_path / "run" / "states")
    with pytest.raises(InputError, match=says):
        optimize(study(), tmp_path / "run")
    assert written(tmp_path / "run") == kept
    shutil.copytree(folder / "states", tmp_path / "run" / "states", dirs_exist_ok=True)
    assert optimize(study(), tmp_path / "run").optimum == result.optimum and written(tmp_path / "run") == written(folder)


def test_records_without_a_checksum_are_taken_at_their_word(undisturbed, tmp_path):
    folder, result, _ = undisturbed
    found, _ = read(folder / "journal.jsonl")
    shutil.copytree(folder / "states", tmp_path / "states")
    journal = Journal(tmp_path, found[0])
    for record in found[1:4]:
        journal.append({k: v for k, v in record.items() if k != "checksum"})
    assert optimize(study(), tmp_path).optimum == result.optimum


def test_too_little_memory_is_no_fault_of_a_design(undisturbed, monkeypatch, tmp_path):
    folder, _, _ = undisturbed
    kept = cut(folder, tmp_path / "run", 3)

    def refused(study, design, start=None):
        raise OutOfReach("the block-tridiagonal backend would need 99 GiB")

    monkeypatch.setattr(optimization, "evaluate", refused)
    with pytest.raises(OutOfReach, match="99 GiB"):
        optimize(study(), tmp_path / "run")
    assert written(tmp_path / "run") == kept


def test_a_folder_that_is_deleted_in_mid_run_is_not_begun_anew(undisturbed, tmp_path):
    """A journal that began with its fifth evaluation would be of no use."""
    folder, _, _ = undisturbed
    for name in ("all", "journal.jsonl"):
        cut(folder, tmp_path / name, 3)

        def remove(step, name=name):
            if step.evaluation == 3:
                shutil.rmtree(tmp_path / name) if name == "all" else (tmp_path / name / name).unlink()

        with pytest.raises(FileNotFoundError):
            optimize(study(), tmp_path / name, progress=remove)
        assert not (tmp_path / name / "journal.jsonl").exists()
    assert not (tmp_path / "all").exists()


def test_an_equality_needs_a_method_that_takes_it():
    with pytest.raises(InputError, match="CCSAQ cannot take the equality 'rate'; use SLSQP or trust-constr, or give the equality a band"):
        optimize(study(), method="CCSAQ")
