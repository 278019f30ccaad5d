"""The numbers and the code of the page on robust decision processes hold."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from ca14lib.environments import SafeCliffVector, TabularModel, river_swim_model, tabular_model
from ca14lib.metrics.risk import conditional_value_at_risk, entropic_risk
from ca14lib.solvers import policy_return, value_iteration
from ca14lib.solvers.robust import (
    RobustSolution,
    optimal_observation_attack,
    robust_policy_evaluation,
    robust_value_iteration,
    worst_case_kl,
    worst_case_l1,
)
from tests.book.test_solutions import solution

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "robust" / "theory.md").read_text("utf8")


def rows(header: str) -> list[list[str]]:
    """The cells of the table whose header starts so."""
    lines = PAGE.split(f"| {header}", 1)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def number(text: str) -> float:
    return float(text.replace("−", "-"))


@cache
def cliff(wind: float) -> TabularModel:
    return SafeCliffVector(1, wind=wind).tabular_model()


@cache
def careful(radius: float, support: str) -> RobustSolution:
    return robust_value_iteration(cliff(0.05), radius, support=support)


@cache
def ledge() -> np.ndarray:
    return SafeCliffVector(1).behaviours()["ledge"]


def goes_round(policy: np.ndarray) -> bool:
    """Whether the walker turns up on the platform, at the step at which she is there."""
    environment = SafeCliffVector(1)
    return policy[2, environment.cell_index((2, 1))].argmax() == 0


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_supports_make_the_difference_between_two_kinds_of_caution():
    for radius, *cells in rows("Radius | Nominal support"):
        for support, (guarantee, choice, nominal) in zip(("nominal", "simplex"), (cells[:3], cells[3:])):
            found = careful(number(radius), support)
            assert found.robust_return == pytest.approx(number(guarantee), abs=0.0051)
            assert goes_round(found.policy) == (choice == "detour")
            assert policy_return(cliff(0.05), found.policy) == pytest.approx(number(nominal), abs=0.005)
    assert careful(0.1, "nominal").robust_return == pytest.approx(policy_return(cliff(0.1), ledge()))
    assert not goes_round(careful(0.1371, "nominal").policy)
    assert goes_round(careful(0.1372, "nominal").policy)


def test_price_and_return_of_going_round():
    policy = careful(0.2, "nominal").policy
    for wind, *cells in rows("True wind"):
        model = cliff(number(wind))
        found = [policy_return(model, ledge()), policy_return(model, policy), value_iteration(model).optimal_return]
        assert found == pytest.approx([number(cell) for cell in cells], abs=0.006)
    gain = {wind: policy_return(cliff(wind), policy) - policy_return(cliff(wind), ledge()) for wind in (0.05, 0.2, 0.3)}
    assert gain[0.05] == pytest.approx(-2.21, abs=0.005)
    assert gain[0.3] == pytest.approx(6.5, abs=0.06)
    assert -gain[0.05] / (gain[0.2] - gain[0.05]) == pytest.approx(0.42, abs=0.005)
    assert policy_return(cliff(0.112), policy) < policy_return(cliff(0.112), ledge())
    assert policy_return(cliff(0.1125), policy) > policy_return(cliff(0.1125), ledge())


def test_too_much_caution_turns_back_in_the_river():
    model = river_swim_model()
    right = np.tile([0.0, 1.0], (6, 1))
    assert policy_return(model, right, 0.95) == pytest.approx(value_iteration(model, 0.95).optimal_return)
    assert policy_return(model, right, 0.95) == pytest.approx(5.49, abs=0.005)
    bold, timid = (robust_value_iteration(model, r, discount=0.95, support="nominal") for r in (0.4, 0.6))
    np.testing.assert_array_equal(bold.policy, right)
    assert timid.policy.argmax(axis=1).tolist() == [0, 0, 0, 1, 1, 1]
    nominal = policy_return(model, timid.policy, 0.95)
    assert nominal == pytest.approx(0.09, abs=0.005)
    assert 1 - nominal / 5.49 == pytest.approx(0.98, abs=0.005)
    assert timid.robust_return == pytest.approx(nominal, abs=0.005)
    always = robust_policy_evaluation(model, right, 0.6, discount=0.95, support="nominal")
    assert always.robust_return == pytest.approx(0.002, abs=0.0005)


def test_inner_problems_are_risk_measures():
    rng = np.random.default_rng(0)
    for _ in range(20):
        p, v = rng.dirichlet(np.ones(5)), rng.normal(size=5)
        radius = rng.random() * 2 * (1 - p[v.argmin()])
        m = radius / 2
        tail = conditional_value_at_risk(-v, m, p)
        assert -(worst_case_l1(p, v, radius) @ v) == pytest.approx((1 - m) * tail + m * (-v).max())
        q = worst_case_kl(p, v, 0.05)
        aversion = -np.polyfit(v, np.log(q / p), 1)[0]
        dual = entropic_risk(-v, aversion, p) + 0.05 / aversion
        assert -(q @ v) == pytest.approx(dual, abs=1e-9)


def test_one_wrong_cell_keeps_the_walker_from_the_goal():
    model = tabular_model("CA14/GridWorld-v0")
    cells = np.stack(np.divmod(np.arange(25), 5), axis=1)
    near = abs(cells[:, None] - cells).sum(axis=-1) <= 1
    attack = optimal_observation_attack(model, value_iteration(model).policy, near, 1.0, horizon=50)
    assert (attack.clean_return, attack.attacked_return) == pytest.approx((0.3, -5))


def test_sweeps_for_ten_digits_and_radius_from_ten_transitions():
    assert np.log(1e10) / -np.log(0.99) == pytest.approx(2300, abs=15)
    assert np.sqrt(2 * np.log(2 / 0.05) / 10) == pytest.approx(0.86, abs=0.005)


def test_three_balls():
    module = solution("robust_mdp_three_balls")
    found = module.worst_rows()
    for name in ("L1", "L∞"):
        np.testing.assert_allclose(found[name], [0.3, 0.5, 0.2])
        assert found[name] @ module.VALUES == pytest.approx(3.8)
    assert worst_case_l1(module.NOMINAL, module.VALUES, 0) @ module.VALUES == pytest.approx(5.8)
    inside = found["KL inside"]
    assert abs(inside - module.NOMINAL).sum() <= 0.4
    assert inside @ module.VALUES == pytest.approx(4.02, abs=0.005)
    own = module.divergence(found["L1"])
    assert own == pytest.approx(0.102, abs=0.0005)
    assert module.kl_value(own) == pytest.approx(3.79, abs=0.005)


def test_iterated_tail():
    module = solution("robust_mdp_iterated_cvar")
    assert (module.of_the_sum(2), module.of_every_toss(2)) == (0.5, 0.0)
    assert module.of_the_sum(1000) / 1000 == pytest.approx(0.5, abs=0.02)
    assert module.of_every_toss(1000) == 0


def test_one_answer_of_nature_is_too_few():
    module = solution("robust_mdp_one_answer")
    for radius in (0.2, 0.3, 0.4):
        assert module.colleagues_guarantee(radius) == pytest.approx(module.guarantee(radius))
    assert module.colleagues_guarantee(0.5) == pytest.approx(0.099, abs=0.0005)
    assert module.guarantee(0.5) == pytest.approx(0.076, abs=0.0005)
    value = robust_value_iteration(module.MODEL, 0.5, discount=module.DISCOUNT).value
    nominal = value_iteration(module.MODEL, module.DISCOUNT).value
    assert (np.diff(nominal) > 0).all()
    assert value[0] > value[1]


def test_doors():
    module = solution("robust_mdp_doors")
    for stay in (-0.1, 0.2, 0.5, 0.7):
        assert module.free(2, stay).robust_return == pytest.approx(max(stay, 0))
        assert module.committed(2, stay).guaranteed_return == pytest.approx(max(stay, 0.5))
    for doors in (3, 5):
        assert module.free(doors, 0.0).robust_return == pytest.approx(0)
        plan = module.committed(doors, 0.0)
        assert plan.guaranteed_return == pytest.approx(1 / doors)
        np.testing.assert_allclose(plan.worst_case_prior, 1 / doors, atol=1e-9)


def test_look_alikes():
    module = solution("robust_mdp_look_alikes")
    assert module.best_policy(0.5, steps=11)[0] == pytest.approx(1)
    assert module.best_policy(0.5, steps=11)[2] == 0
    assert module.best_policy(0.7, steps=11) == pytest.approx((0.7, 1, 1))
    assert module.best_policy(0.5, both_ways=False, steps=11)[0] == pytest.approx(1)
    truthful = np.array([[1.0, 0], [0, 1], [1, 0]])
    assert policy_return(module.model(0.5), truthful, 0.9) == pytest.approx(1.5)


def test_faults_that_the_page_names_are_planted():
    planted = (ROOT / "tests" / "solvers" / "test_robust.py").read_text("utf8")
    named = [row[0].strip("`") for row in rows("Planted fault")]
    assert len(named) >= 10
    assert [name for name in named if f'"{name}": (' not in planted] == []
