"""Every method finds known optima, stops by the same rules, and repeats itself to the bit from recorded answers."""

import numpy as np
import pytest

from fluidgrad.design.minimize import Trial, minimize
from fluidgrad.design.optimizers import METHODS, choose
from fluidgrad.design.variables import Variables
from fluidgrad.errors import InputError, NotConverged

INF = np.inf
FAILURE = Trial(np.zeros(0), np.zeros((0, 0)), failed="no convergence")


class Problem:
    """Functionals with a known optimum; keeps what it was asked."""

    def __init__(self, functionals, start, bounds, intervals, optimum, value, fails=lambda x: False):
        self.functionals, self.variables, self.intervals = functionals, Variables.of(np.array(start, float), bounds), intervals
        self.optimum, self.value, self.fails, self.asked = optimum, value, fails, []

    def __call__(self, x):
        self.asked.append(x)
        if self.fails(x):
            return FAILURE
        pairs = self.functionals(x)
        return Trial(np.array([v for v, _ in pairs], float), np.array([g for _, g in pairs], float))


def rosenbrock(fails=lambda x: False):
    """With x1 <= 0.8 the optimum lies on that bound."""

    def functionals(x):
        a, b = 1 - x[0], x[1] - x[0] ** 2
        return [(a * a + 100 * b * b + 7.0, [-2 * a - 400 * x[0] * b, 200 * b])]

    return Problem(functionals, [-1.2, 1.0], (-2.0, [0.8, 2.0]), [], [0.8, 0.64], 7.04, fails)


def hs071(band=0.0):
    """Hock and Schittkowski (1981), problem 71."""

    def functionals(x):
        a, b, c, d = x
        return [
            (a * d * (a + b + c) + c, [d * (2 * a + b + c), a * d, a * d + 1, a * (a + b + c)]),
            (a * b * c * d, [b * c * d, a * c * d, a * b * d, a * b * c]),
            (x @ x, 2 * x),
        ]

    equality = (40 - band / 2, 40 + band / 2)
    return Problem(functionals, [1, 5, 5, 1], (1, 5), [(25, INF), equality], [1.0, 4.74299963, 3.82114998, 1.37940829], 17.0140173)


def inequalities():
    """min sqrt(x2) over x2 >= (a x1 + b)^3: the tutorial of NLopt. Starts infeasible."""

    def functionals(x):
        rows = [(x[1] - (a * x[0] + b) ** 3, [-3 * a * (a * x[0] + b) ** 2, 1.0]) for a, b in ((2.0, 0.0), (-1.0, 1.0))]
        return [(np.sqrt(x[1]), [0.0, 0.5 / np.sqrt(x[1])]), *rows]

    return Problem(functionals, [1.2, 5.0], ([-2, 1e-3], [2, 10]), [(0, INF), (0, INF)], [1 / 3, 8 / 27], np.sqrt(8 / 27))


CASES = [
    ("lbfgs", rosenbrock, {}),
    ("L-BFGS-B", rosenbrock, {}),
    ("SLSQP", rosenbrock, {}),
    ("trust-constr", rosenbrock, {}),
    ("CCSAQ", rosenbrock, {"max_iterations": 2000}),
    ("SLSQP", hs071, {}),
    ("trust-constr", hs071, {}),
    ("SLSQP", inequalities, {}),
    ("trust-constr", inequalities, {}),
    ("CCSAQ", inequalities, {}),
    ("MMA", inequalities, {}),
]


@pytest.mark.parametrize("method, case, options", CASES, ids=lambda x: getattr(x, "__name__", str(x)))
def test_every_method_finds_the_optimum(method, case, options):
    problem = case()
    found = minimize(problem, problem.variables, problem.intervals, method=method, **options)
    step = found.history[found.best]
    assert found.converged and found.reason.startswith("converged: KKT residual"), found.reason
    np.testing.assert_allclose(step.design, problem.optimum, atol=1e-3)
    assert step.values[0] == pytest.approx(problem.value, rel=1e-4)
    assert max(step.kkt_residual, step.violation) <= 1e-5
    assert found.method == method and len(found.history) == len(problem.asked)


def test_adam_comes_near():
    problem = rosenbrock()
    found = minimize(problem, problem.variables, method="adam", max_iterations=300)
    assert found.history[found.best].values[0] - 7.04 < 0.02 * (found.history[0].values[0] - 7.04)


def test_a_band_lets_ccsaq_take_an_equality():
    problem = hs071(band=0.1)
    found = minimize(problem, problem.variables, problem.intervals, method="CCSAQ")
    assert found.converged, found.reason
    assert found.history[found.best].values[0] == pytest.approx(17.0140173 - 0.16146857 * 0.05, rel=1e-5)
    assert found.history[found.best].values[2] == pytest.approx(40.05, abs=1e-3)  # the edge of the band


def test_multipliers_are_the_price_of_the_constraints():
    a, b = hs071(), hs071()
    b.intervals = [(25.0 + 1e-2, INF), (40 + 1e-2, 40 + 1e-2)]
    base = minimize(a, a.variables, a.intervals, tolerance=1e-7)
    price = base.history[base.best].multipliers
    assert price == pytest.approx([0.55229366, -0.16146857], rel=1e-4)  # Waechter & Biegler's, with the sign of d f / d target
    moved = minimize(b, b.variables, b.intervals, tolerance=1e-7)
    difference = moved.history[moved.best].values[0] - base.history[base.best].values[0]
    assert difference == pytest.approx(1e-2 * price.sum(), rel=1e-2)


@pytest.mark.parametrize("method", METHODS)
def test_recorded_answers_give_the_same_iterates_to_the_bit(method):
    """A search that stops after some answers, is repeated from them and goes on, equals the search that was not stopped."""
    case = inequalities if METHODS[method].inequalities else rosenbrock
    whole = case()
    answers = []

    def record(x):
        answers.append((x, whole(x)))
        return answers[-1][1]

    minimize(record, whole.variables, whole.intervals, method=method, max_iterations=12)

    class Killed(Exception):
        pass

    cut = len(answers) // 2
    journal = iter(answers[:cut])
    resumed = case()
    fresh = []

    def replay(x):
        for then, answer in journal:
            assert then.tobytes() == x.tobytes()
            return answer
        fresh.append(x)
        return resumed(x)

    minimize(replay, resumed.variables, resumed.intervals, method=method, max_iterations=12)
    assert [x.tobytes() for x in fresh] == [x.tobytes() for x, _ in answers[cut:]] and fresh


@pytest.mark.parametrize("method", METHODS)
def test_failed_trials_are_gone_back_from(method):
    """Trials beyond x1 = 0.6 or x2 = 0.6 fail; the optimum at (0.2, 0.1) is reached by shorter steps."""

    def functionals(x):
        a, b = x[0] - 0.2, x[1] - 0.1
        return [(1 + a * a + b * b + (a * a + b * b) ** 2, [2 * a * (1 + 2 * (a * a + b * b)), 2 * b * (1 + 2 * (a * a + b * b))])]

    problem = Problem(functionals, [-3.0, -3.0], (-4.0, 4.0), [], [0.2, 0.1], 1.0, fails=lambda x: max(x) > 0.6)
    found = minimize(problem, problem.variables, method=method, max_iterations=400)
    step = found.history[found.best]
    assert step.values[0] == pytest.approx(1.0, abs=1e-4 if method == "adam" else 1e-6), found.reason
    failed = [s for s in found.history if s.failed]
    assert all(s.failed == "no convergence" and s.values is None for s in failed)
    assert failed or method in ("adam", "trust-constr", "MMA"), "the test must meet failures"
    assert found.converged or method == "adam", found.reason


@pytest.mark.parametrize("method", METHODS)
def test_an_interruption_passes_through_every_method(method):
    def interrupt(step):
        if step.evaluation == 4:
            raise KeyboardInterrupt

    problem = rosenbrock()
    with pytest.raises(KeyboardInterrupt):
        minimize(problem, problem.variables, method=method, progress=interrupt)
    assert len(problem.asked) == 5


def test_linear_constraints_are_no_reason_to_warn():
    functionals = lambda x: [(1 + x @ x, 2 * x), (x.sum(), np.ones(2))]  # noqa: E731
    problem = Problem(functionals, [0.9, 0.3], (0, 1), [(1, 1)], [0.5, 0.5], 1.5)
    found = minimize(problem, problem.variables, problem.intervals, method="trust-constr")
    np.testing.assert_allclose(found.history[found.best].design, 0.5, atol=1e-4)
    assert found.converged, found.reason


def test_a_start_that_fails_is_an_error():
    problem = rosenbrock(fails=lambda x: True)
    with pytest.raises(NotConverged, match="the start cannot be evaluated: no convergence"):
        minimize(problem, problem.variables)


def test_more_iterations_continue_the_same_search():
    short, long = rosenbrock(), rosenbrock()
    a = minimize(short, short.variables, max_iterations=5)
    b = minimize(long, long.variables, max_iterations=8)
    assert a.reason == "max_iterations = 5 reached" and a.iterations == 5 and not a.converged
    assert [x.tobytes() for x in long.asked[: len(short.asked)]] == [x.tobytes() for x in short.asked]
    assert len(b.history) > len(a.history)


def test_a_search_without_progress_ends():
    """A gradient that is wrong near the optimum: the objective falls no more, and the residual never vanishes."""
    problem = Problem(lambda x: [(1 + x[0] ** 2, [2 * x[0] + 1e-3])], [0.7], (-1, 1), [], None, None)
    found = minimize(problem, problem.variables, method="CCSAQ")
    assert found.reason == "no progress in 20 trials" and not found.converged


def curved(seed):
    """Eight variables on a curved equality that is steep where it holds: its values change little elsewhere."""
    rng = np.random.default_rng(seed)
    A, c, K, m = rng.normal(size=(8, 8)), rng.normal(size=8), rng.normal(size=(8, 8)), rng.normal(size=8)
    H, K = A @ A.T / 8, (K + K.T) / np.sqrt(8)

    def functionals(x):
        h = 0.5 + m @ x + x @ K @ x
        return [(x @ H @ x / 2 + c @ x + 5, H @ x + c), (np.tanh(20 * h) + 0.2 * h, (20 / np.cosh(20 * h) ** 2 + 0.2) * (m + 2 * K @ x))]

    return Problem(functionals, np.zeros(8), (-1, 1), [(-0.3, -0.3)], None, None)


@pytest.mark.parametrize("seed", [2, 5])
def test_a_line_search_that_gives_up_is_begun_anew_while_that_gains(seed):
    """SLSQP ends at designs that violate the constraint; from there a new call, without what it had learned, solves the problem."""
    problem = curved(seed)
    once = minimize(problem, problem.variables, problem.intervals, restarts=0)
    assert not once.converged and once.history[once.best].violation > 1e-4, "the test must meet a search that gives up"
    found = minimize(problem, problem.variables, problem.intervals)
    assert found.converged, found.reason
    assert [s.design.tobytes() for s in found.history[: len(once.history)]] == [s.design.tobytes() for s in once.history]
    answers = iter([Trial(s.values, np.array([g for _, g in problem.functionals(s.design)])) for s in found.history])  # pyright: ignore
    again = minimize(lambda x: next(answers), problem.variables, problem.intervals)
    assert [s.design.tobytes() for s in again.history] == [s.design.tobytes() for s in found.history]


def test_restarts_end_and_lose_nothing():
    """At the kinks of a staircase no line search finds a way down, and no point is a solution."""
    kinked = lambda x: [(5 + np.abs(np.diff(x)).sum() + x @ x, np.append(0, s := np.sign(np.diff(x))) - np.append(s, 0) + 2 * x)]  # noqa: E731
    problem = Problem(kinked, np.linspace(0.3, 0.9, 6) ** 2, (-1, 1), [], None, None)
    once, found, soon = (minimize(problem, problem.variables, restarts=n, patience=p) for n, p in ((0, None), (10, None), (10, 3)))
    assert len(once.history) < len(found.history) < 300 and len(soon.history) < len(found.history)
    assert found.history[found.best].values[0] <= once.history[once.best].values[0]


def test_a_search_from_outside_is_progress():
    """SLSQP nears this optimum, of 32 variables under a curved constraint, from outside: no trial is feasible for long."""
    rng = np.random.default_rng(0)
    A, c = rng.normal(size=(32, 32)), rng.normal(size=32)
    H = A @ A.T / 32

    def functionals(x):
        d = np.diff(x)
        return [
            (x @ H @ x / 2 + c @ x + 50, H @ x + c),
            (x.mean(), np.full(32, 1 / 32)),
            (10 * d @ d, 20 * (np.append(0, d) - np.append(d, 0))),
        ]

    problem = Problem(functionals, np.full(32, 0.3), (0, 0.6), [(0.3, 0.3), (-INF, 4.0)], None, None)
    found = minimize(problem, problem.variables, problem.intervals)
    assert found.converged, found.reason
    assert sum(s.violation > 1e-5 for s in found.history) > 20, "the test must stay outside"


def test_units_do_not_matter():
    """Functionals and variables in other units: the same iterates, but for rounding."""

    def scaled(factor_f, factor_x):
        base = inequalities()

        def functionals(x):
            return [(v * factor_f, np.array(g) * factor_f / factor_x) for v, g in base.functionals(x / factor_x)]

        bounds = ([-2 * factor_x, 1e-3 * factor_x], [2 * factor_x, 10 * factor_x])
        return Problem(functionals, np.array([1.2, 5.0]) * factor_x, bounds, base.intervals, None, None)

    a, b = scaled(1.0, 1.0), scaled(1e-6, 1e3)
    minimize(a, a.variables, a.intervals, method="SLSQP", max_iterations=5)
    minimize(b, b.variables, b.intervals, method="SLSQP", max_iterations=5)
    np.testing.assert_allclose(np.array(b.asked) / 1e3, a.asked, rtol=1e-6)


def test_a_first_value_near_zero_is_no_scale():
    """A lift of 1e-17 at a symmetric start must not blow the objective up."""
    problem = Problem(lambda x: [(1e-17 + x[0] ** 3 + x[0], [1 + 3 * x[0] ** 2])], [0.0], (-1, 1), [], [-1], -2)
    found = minimize(problem, problem.variables)
    assert found.converged and found.history[found.best].design[0] == -1 and found.history[0].gradient_norm == 1.0


def test_numbers_with_equal_bounds_stay_where_they_are():
    problem = hs071()
    problem.variables = Variables.of(np.array([1.0, 5, 5, 1]), ([1, 1, 1, 1], [1, 5, 5, 5]))
    found = minimize(problem, problem.variables, problem.intervals)
    assert found.converged and all(x[0] == 1.0 for x in problem.asked)
    np.testing.assert_allclose(found.history[found.best].design, problem.optimum, atol=1e-3)


def test_methods_by_size_and_constraints():
    assert choose(None, 40, [])[0] == "L-BFGS-B"
    assert choose(None, 32, [(1, 1), (-INF, 4)]) == ("SLSQP", "32 variables, 1 equality, 1 inequality; SLSQP takes up to 300 variables")
    assert choose(None, 5000, [(-INF, 4)])[0] == "CCSAQ"
    assert choose(None, 5000, [(1, 1)])[0] == "trust-constr"


@pytest.mark.parametrize(
    "method, intervals, text",
    [
        ("newton", [], "unknown method 'newton'; one of adam, lbfgs, L-BFGS-B"),
        ("CCSAQ", [(0, 1), (1, 1)], "CCSAQ cannot take the equality 'flow_rate'; use SLSQP or trust-constr, or give the equality a band"),
        ("MMA", [(1, 1)], "MMA cannot take the equality 'drag'"),
        ("L-BFGS-B", [(0, 1)], "L-BFGS-B takes bounds only, and there are constraints; SLSQP, trust-constr, CCSAQ or MMA"),
        ("adam", [(0, 1)], "adam takes bounds only"),
    ],
)
def test_methods_refuse_what_they_cannot_take(method, intervals, text):
    problem = rosenbrock()
    with pytest.raises(InputError, match=text):
        minimize(problem, problem.variables, intervals, ["drag", "flow_rate"], method=method)
    assert not problem.asked


def test_numbers_out_of_range_are_refused():
    problem = rosenbrock()
    with pytest.raises(InputError, match="tolerance must be positive, got 0"):
        minimize(problem, problem.variables, tolerance=0)
    with pytest.raises(InputError, match="max_iterations must be at least 0, got -1"):
        minimize(problem, problem.variables, max_iterations=-1)
    with pytest.raises(InputError, match="patience must be at least 1, got 0"):
        minimize(problem, problem.variables, patience=0)
    with pytest.raises(InputError, match="restarts must be at least 0, got -1"):
        minimize(problem, problem.variables, restarts=-1)
