"""The numbers and the code of the pages on constrained problems and their algorithms hold."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from ca14lib.agents.safe import CPO, CVaRPolicyGradient, FixedPenalty, PIDLagrangian, PPOLagrangian
from ca14lib.agents.safe.risk_sensitive import RiskSensitivePolicyGradient
from ca14lib.agents.safe.safe_policy_gradient import SafePolicyGradient
from ca14lib.environments import tabular_model
from ca14lib.environments.safe_grid import SafeGridVector
from ca14lib.metrics import safety_score
from ca14lib.solvers import InfeasibleError, constrained_optimum, dual_function, pareto_front, smallest_cost
from tests.book.test_solutions import solution

ROOT = Path(__file__).parents[2]
PAGES = {
    name: (ROOT / "book" / "safe" / f"{name}.md").read_text("utf8")
    for name in ("theory", "ppo", "lagrangian", "cpo", "policy_gradients")
}
GRID = tabular_model("CA14/SafeGrid-v0")


def test_every_solution_that_the_pages_print_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", "".join(PAGES.values())))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


@pytest.mark.parametrize("page", PAGES)
def test_the_functions_that_a_page_walks_through_exist(page):
    for path, name in re.findall(
        r"\{literalinclude\} \.\./\.\./(\S+)\n:language: python\n:pyobject: (\S+)", PAGES[page]
    ):
        module, *member = name.split(".")
        text = (ROOT / path).read_text("utf8")
        assert re.search(rf"^(?:class|def) {module}\b", text, re.MULTILINE)
        assert all(re.search(rf"^    def {each}\b", text, re.MULTILINE) for each in member)


@pytest.mark.parametrize("page", ["ppo", "lagrangian", "cpo", "policy_gradients"])
def test_the_settings_of_the_tables_exist(page):
    classes = (PPOLagrangian, PIDLagrangian, FixedPenalty, CPO, SafePolicyGradient, CVaRPolicyGradient)
    fields = {name for each in (*classes, RiskSensitivePolicyGradient) for name in vars(each.config_class())}
    table = PAGES[page].split("## Hyperparameters")[1].split("\n## ")[0]
    named = {
        name for row in re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)
    }
    assert named - {"SafePolicyGradient", "num_envs"} <= fields
    assert len(named) > 5


# the theory page


def test_the_table_of_optima_is_exact():
    rows = re.findall(r"^\| ([\d.]+) \| (\S+) \| ([\d.]+) \| ([^|]+) \| (\d) \|$", PAGES["theory"], re.MULTILINE)
    assert [row[0] for row in rows] == ["0.1", "0.3", "0.5", "0.6", "1.0"]
    for limit, value, cost, multiplier, coins in rows:
        found = constrained_optimum(GRID, float(limit))
        assert found.optimal_return == pytest.approx(float(value.replace("−", "-")), abs=1e-9)
        assert found.costs == pytest.approx([float(cost)], abs=1e-9)
        visited = found.occupancy.sum(axis=2) > 1e-9
        assert (((found.policy > 1e-9).sum(axis=2) > 1) & visited).sum() == int(coins)
        numbers = [float(number) for number in re.findall(r"[\d.]+", multiplier)]
        optimal = {"any from 28.2 up": [28.2, 100.0], "any from 0 to 28.2": [0.0, 14.0, 28.2]}.get(multiplier, numbers)
        for price in optimal:
            assert dual_function(GRID, price, float(limit)) == pytest.approx(found.optimal_return, abs=1e-6)
    with pytest.raises(InfeasibleError, match=r"no policy has cost below 0\.1"):
        constrained_optimum(GRID, 0.05)
    assert smallest_cost(GRID) == pytest.approx(0.1)


def test_no_deterministic_policy_lies_between_the_corners():
    """Every trajectory: the least cost of those that arrive, by the number of steps."""
    cost = GRID.expected_cost[0]
    least = np.where(GRID.initial > 0, 0.0, np.inf)
    arrivals = []
    for _ in range(GRID.horizon):
        through = np.where(GRID.terminal[:, None], np.inf, least[:, None] + cost)
        least = np.where(GRID.transition > 0, through[..., None], np.inf).min(axis=(0, 1))
        arrivals.append(least[GRID.terminal].min())
    assert min(arrivals) == pytest.approx(0.6)
    assert np.isinf(arrivals[:9]).all()
    assert arrivals[9] == pytest.approx(0.6)  # the shortest way is among the cheapest: 9 · (−0.1) + 10 = 9.1


def test_fronts_have_the_corners_that_the_page_states():
    original, bridges = (pareto_front(SafeGridVector(layout=name).tabular_model()) for name in ("original", "bridges"))
    assert original.costs == pytest.approx([0.1, 0.6])
    assert original.returns == pytest.approx([-5.0, 9.1])
    assert original.multipliers == pytest.approx([28.2])
    assert bridges.costs == pytest.approx([0, 1, 2])
    assert bridges.returns == pytest.approx([3.5, 6.5, 7.5])
    assert bridges.multipliers == pytest.approx([3, 1])
    for limit in (0.2, 0.3, 0.5, 0.6):
        bound = (original.optimal_return(limit) + 5) / (limit - 0.1)
        assert bound == pytest.approx(28.2)
    assert safety_score(6.28, -5.0, float(original.optimal_return(0.5))) == pytest.approx(1)


@pytest.mark.slow
def test_the_shore_has_hundreds_of_corners_and_enormous_first_slopes():
    shore = pareto_front(SafeGridVector(layout="shore").tabular_model())
    assert len(shore.costs) > 200
    assert shore.multipliers[0] > 400_000


def test_a_coin_at_every_step_is_not_a_coin_before_the_episode():
    module = solution("safe_mixture")
    assert module.coin_before_each_episode() == pytest.approx((0.35, 2.05))
    assert module.judged(module.policy_of_the_mean_occupancy()) == pytest.approx((0.35, 2.05))
    cost, value = module.judged(module.coin_at_every_step())
    assert cost == pytest.approx(0.17, abs=0.01)
    assert value == pytest.approx(-3.3, abs=0.1)


def test_dual_ascent_jumps_and_its_average_does_not():
    module = solution("safe_dual_ascent")
    prices, costs, returns = module.dual_ascent(0.5, 2.0, 400)
    assert costs[0] == pytest.approx(1.0)
    assert (costs < 0.2).argmax() == 138
    assert set(np.round(costs[1:], 6)) == {0.1, 0.6}
    assert costs.mean() == pytest.approx(0.535, abs=0.001)
    assert returns.mean() == pytest.approx(7.23, abs=0.01)
    assert costs[200:].mean() == pytest.approx(0.5, abs=1e-3)
    assert returns[200:].mean() == pytest.approx(6.28, abs=0.03)
    largest = abs(costs - 0.5).max()
    assert largest == pytest.approx(0.5)
    assert returns.mean() >= 6.28 - 2.0 * largest**2 / 2
    bound = 2 * 28.2 / (2.0 * 400) + largest / 20
    assert bound == pytest.approx(0.096, abs=0.001)
    assert costs.mean() - 0.5 <= bound
    prices, costs, _ = module.dual_ascent(0.5, 20.0, 400)
    assert (costs < 0.2).argmax() == 11
    assert abs(costs.mean() - 0.5) < 0.004
    assert (prices[200:].min(), prices[200:].max()) == pytest.approx((22, 30))


def test_waiting_keeps_a_discounted_limit_from_step_51_on():
    assert 0.99**50 > 0.6 > 0.99**51


# the page on PPO


def test_advantages_of_one_rollout():
    module = solution("safe_gae")
    assert module.advantages() == pytest.approx([0, 0, 0, 0], abs=1e-5)
    assert module.advantages(terminated_at=1) == pytest.approx([-4.05, -9, 0, 0], abs=1e-5)
    assert module.advantages(truncated_at=1) == pytest.approx([0, 0, 0, 0], abs=1e-5)
    assert module.advantages(truncated_at=1, one_flag=True) == pytest.approx([-4.05, -9, 0, 0], abs=1e-5)
    assert module.advantages(truncated_at=1, next_row=True) == pytest.approx([0, 0, 0, 0], abs=1e-5)
    assert module.advantages(truncated_at=1, first_of_next=0.0)[1] == pytest.approx(0, abs=1e-5)
    assert module.advantages(truncated_at=1, first_of_next=0.0, next_row=True)[1] == pytest.approx(-9, abs=1e-5)


def test_entropy_shortens_the_way_back_while_it_lasts():
    module = solution("safe_entropy")
    lost, back = module.lost_and_found(lambda step: 0.0)
    assert lost == pytest.approx(0.011, abs=0.001)
    assert back == pytest.approx(1_000, abs=10)
    for weight, share, steps in ((0.2, 0.026, 299), (0.05, 0.013, 724)):
        found = module.lost_and_found(lambda step, weight=weight: weight)
        assert found == pytest.approx((share, steps), abs=0.001)
    for switch, steps in ((300, 171), (1_000, 823), (4_000, 3_824)):
        lost, back = module.lost_and_found(lambda step: 0.5 * 0.995**step, switch)
        assert back == steps
        assert module.lost_and_found(lambda step: 0.0, switch)[1] - back < 185
    assert 0.97**23 < 0.5 < 0.97**22
    assert 0.97**99 < 0.05 < 0.97**98


def test_a_clip_without_the_minimum_pulls_nothing_back():
    module = solution("safe_clip_bug")
    for ratio, advantage, slope in ((0.5, 1.0, -0.5), (1.5, -1.0, 1.5)):
        assert module.slope(module.clipped_loss, ratio, advantage) == pytest.approx(slope)
        assert module.slope(module.faulty_loss, ratio, advantage) == 0
    for ratio, advantage in ((1.1, 1.0), (0.9, -1.0), (1.5, 1.0), (0.5, -1.0)):
        right, wrong = (module.slope(loss, ratio, advantage) for loss in (module.clipped_loss, module.faulty_loss))
        assert right == pytest.approx(wrong)


# the page on multipliers


def test_the_order_of_updates_decides_whether_the_swing_grows():
    module = solution("safe_oscillator")
    first, last = module.amplitude(module.swing(400))
    assert first == pytest.approx(last, rel=0.01)
    deviation = module.swing(400)
    rises = np.flatnonzero((deviation[:-1] < 0) & (deviation[1:] >= 0))
    assert np.diff(rises).mean() == pytest.approx(2 * math.pi / 0.1, abs=1)
    assert module.amplitude(module.swing(400, policy_first=True))[1] == pytest.approx(6.6, abs=0.1)
    growth = 1.01**200
    assert growth == pytest.approx(7.3, abs=0.05)
    ends = [module.amplitude(module.swing(400, proportional=gain))[1] for gain in (0.2, 0.5, 2.0)]
    assert ends[0] < 0.05
    assert ends[1] < 0.001
    assert ends[2] < ends[1]
    doubled = module.amplitude(module.swing(400, rate=0.2))
    assert doubled[1] == pytest.approx(1, abs=0.02)
    assert module.amplitude(module.swing(400, rate=0.2, policy_first=True))[1] > 20


def test_adam_forgets_how_large_a_violation_is():
    module = solution("safe_adam_multiplier")
    plain = [module.updates_until(28.2, violation, 0.05, adam=False) for violation in (0.05, 0.5, 5.0)]
    assert plain == pytest.approx([11_280, 1_128, 113], abs=1)
    adam = [module.updates_until(28.2, violation, 0.05, adam=True) for violation in (0.5, 5.0)]
    assert adam == pytest.approx([565, 565], abs=2)
    assert module.overshoot(5.0, 0.05, 0.05) == 43
    assert module.overshoot(5.0, 5.0, 0.05) == 6


def test_a_scaled_cost_advantage_settles_at_some_limits_and_at_the_wrong_price():
    module = solution("safe_cost_std")
    for limit, share in ((0.2, 0.2), (0.3, 0.4), (0.5, 0.8)):
        shares, _ = module.train(limit, divide=False)
        assert shares[20_000:].mean() == pytest.approx(share, abs=0.03)
        assert shares[20_000:].max() > 0.9
        assert shares[20_000:].min() < 0.1
    shares, multipliers = module.train(0.5, divide=True)
    assert shares[20_000:] == pytest.approx(0.8, abs=1e-3)
    assert multipliers[20_000:] == pytest.approx(14.1 * math.sqrt(0.8 * 0.2), abs=0.01)
    shares, _ = module.train(0.2, divide=True)
    assert shares[20_000:].mean() == pytest.approx(0.12, abs=0.02)
    assert np.ptp(shares[20_000:]) > 0.8


# the page on constrained policy optimisation


def test_five_cases_by_hand():
    module = solution("safe_cpo_cases")
    stated = {-1.3: (3, (1, 0)), -0.4: (2, (0.87, -0.49)), 0.4: (1, (0.23, -0.97)), 1.3: (0, (-0.8, -0.6))}
    for c, (case, step) in stated.items():
        found = module.step(c)
        assert found[0] == case
        assert found[1] == pytest.approx(step, abs=0.005)
        assert module.best_of_many(c) == pytest.approx(found[1], abs=2e-3)
    for c in (-0.79, -0.81):
        assert (module.step(c)[1] == pytest.approx((1, 0), abs=1e-9)) == (c < -0.8)


def test_the_gradient_of_the_return_in_the_formulas_of_the_loss():
    module = solution("safe_cpo_sign")
    assert module.failures(module.mended_step, 500) == (0, 0)
    limit, region = module.failures(module.faulty_step, 500)
    assert limit == pytest.approx(1 / 3, abs=0.05)
    assert region > 1 / 3


def test_the_bound_over_a_horizon_is_a_large_number():
    assert 2 * 50 * 49 * math.sqrt(0.01 / 2) == pytest.approx(346, abs=1)


# the page on policy gradients


def test_the_gradient_of_a_tail_is_that_of_the_formula():
    module = solution("safe_cvar_gradient")
    equal = np.zeros(4)
    assert module.tail_mean(equal, 0.4) == pytest.approx(-2.875)
    exact = module.gradient(equal, 0.4, -1.0)
    assert exact == pytest.approx([-1.41, 0.47, 0.47, 0.47], abs=0.005)
    assert exact == pytest.approx([module.difference(equal, 0.4, unit, 1e-6) for unit in np.eye(4)], abs=1e-4)
    direction = np.array([0.0, -1.0, 0.0, 0.0])
    assert [module.gradient(equal, 0.5, border) @ direction for border in (-1.0, 0.0)] == pytest.approx(
        [-0.375, -0.125]
    )
    sides = [module.difference(equal, 0.5, direction, step) for step in (1e-6, -1e-6)]
    assert sides == pytest.approx([-0.125, -0.375], abs=1e-4)


def test_the_budget_is_worth_something():
    module = solution("safe_budget")
    assert module.tail_mean((0, 0)) == pytest.approx(-4.33, abs=0.005)
    assert module.tail_mean((1, 1)) == pytest.approx(-4.38, abs=0.005)
    for share in (0.1, 0.4, 0.7):
        stated = (-2.6 - 0.15 * share if share <= 0.4 else -2.68 + 0.05 * share) / 0.6
        assert module.tail_mean((share, share)) == pytest.approx(stated)
    assert module.best_without_seeing() == pytest.approx((0, -4.33), abs=0.005)
    assert module.best_with_budget()[0] == (0, 1)
    assert module.best_with_budget()[1] == pytest.approx(-4.25)


def test_short_failures_are_too_many_among_the_episodes_that_ended():
    module = solution("safe_short_episodes")
    ended, first = module.rollout(20_000, seed=0)
    assert np.mean(ended < 0) == pytest.approx(0.25 / 1.05, abs=0.01)
    assert np.mean(first < 0) == pytest.approx(0.2, abs=0.01)
    assert module.return_conditional_value_at_risk(ended, 0.4) == pytest.approx(-0.19, abs=0.04)
    assert module.return_conditional_value_at_risk(first, 0.4) == pytest.approx(0, abs=0.05)
