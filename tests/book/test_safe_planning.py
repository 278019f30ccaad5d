"""The numbers and the code of the page on planning hold."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ca14lib.environments import TabularModel, tabular_model
from ca14lib.solvers import (
    certainty_equivalent_plan,
    constrained_optimum,
    distributional_constrained_plan,
    policy_cost_distribution,
    rectangular_constrained_plan,
    robust_constrained_plan,
)
from tests.book.test_solutions import solution

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "safe" / "planning.md").read_text("utf8")


def rows(header: str) -> list[list[str]]:
    """The cells of the table whose header starts so."""
    lines = PAGE.split(f"| {header}", 1)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def pair(text: str) -> list[float]:
    return [number(part) for part in text.split("/")]


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_five_answers_for_one_bridge():
    module = solution("planning_two_bridges")
    plans = [*module.plans(0.3).values()]
    table = rows("plan |")
    assert len(table) == len(plans) == 5
    for (_, mean, returns, costs), plan in zip(table, plans):
        assert plan.returns.mean() == pytest.approx(number(mean), abs=5e-4)
        assert plan.returns == pytest.approx(pair(returns), abs=5e-4)
        assert plan.costs[:, 0] == pytest.approx(pair(costs), abs=5e-4)
    for limit in (0.1, 0.2, 0.5):
        solved = module.plans(limit)
        untested = (limit - 0.1) / 0.4
        assert solved["mean cost"].expected_return == pytest.approx((1 + untested) / 2)
        assert solved["mean cost"].returns == pytest.approx([1, untested])
        assert solved["weight 1"].returns == pytest.approx([1, (limit - 0.1) / 0.9])
    lottery = rectangular_constrained_plan(module.CANDIDATES, 0.3)
    assert lottery.guaranteed_return == pytest.approx(0.222, abs=5e-4)
    assert lottery.returns == pytest.approx([0.222, 0.222], abs=5e-4)


def test_one_coin_or_many():
    module = solution("planning_shared_coin")
    for steps in (1, 2, 5, 10):
        assert module.promised_and_true(steps) == pytest.approx((0.5**steps, 0.5))


def test_a_fixed_threshold_is_safe_and_too_strict():
    module = solution("planning_fixed_threshold")
    assert module.right(0.5, 0.5) == pytest.approx(0.64)
    assert module.colleague(0.5) == pytest.approx(-5)


def test_what_a_limit_of_one_half_means_on_safe_grid():
    model = tabular_model("CA14/SafeGrid-v0")
    mean = constrained_optimum(model, 0.5)
    costs, chances = policy_cost_distribution(model, mean.policy)
    found = [(mean.optimal_return, chances[costs > 0.55].sum())]
    for keywords in ({"confidence": 0.5}, {"confidence": 0.8}, {"exceedance": 0.1}, {"exceedance": 0.0}):
        plan = distributional_constrained_plan(model, 0.5, **keywords)
        found.append((plan.expected_return, plan.probabilities[plan.costs > 0.55].sum()))
    stated = [(number(value), number(share)) for _, value, share in rows("limited to 0.5")]
    np.testing.assert_allclose(found, stated, atol=1e-6)


def straying(model: TabularModel, chance: float) -> TabularModel:
    """With this probability the move is that of an action drawn at random."""
    transition = (1 - chance) * model.transition + chance * model.transition.mean(axis=1, keepdims=True)
    entered = np.zeros((2, model.num_states))  # reward and cost of entering each cell, from the moves into it
    state, action, cell = np.nonzero(model.transition * ~model.terminal[:, None, None])
    entered[:, cell] = model.expected_reward[state, action], model.expected_cost[0, state, action]
    reward, cost = (np.broadcast_to(each, transition.shape) for each in entered)
    return replace(model, transition=transition, reward=reward, cost=cost[None])


def test_mean_model_and_bounds_on_the_straying_grids():
    models = [straying(tabular_model("CA14/SafeGrid-v0"), chance) for chance in (0.05, 0.2)]
    equivalent = certainty_equivalent_plan(models, 1.0, horizon=10)
    assert equivalent.promised_costs == pytest.approx([1.0], abs=1e-6)
    assert equivalent.expected_costs == pytest.approx([1.016], abs=5e-4)
    lottery = rectangular_constrained_plan(models, 1.0, horizon=10)
    assert (lottery.guaranteed_return, lottery.upper_bound) == pytest.approx((2.274, 2.292), abs=5e-4)


def test_guarantee_on_the_straying_grids():
    models = [straying(tabular_model("CA14/SafeGrid-v0"), chance) for chance in (0.05, 0.2)]
    plan = robust_constrained_plan(models, 1.0, horizon=10)
    assert plan.guaranteed_return == pytest.approx(2.290, abs=5e-4)
    assert sum(len(states) for states in plan.policy.states) == 3951


def test_faults_that_the_page_names_are_planted():
    planted = "".join(
        (ROOT / "tests" / "solvers" / f"test_{name}.py").read_text("utf8") for name in ("uncertain", "cvar")
    )
    named = [row[0].strip("`") for row in rows("Planted fault")]
    assert len(named) >= 9
    assert [name for name in named if f'"{name}": (' not in planted] == []
