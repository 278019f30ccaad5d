"""The pages on several agents that no training run feeds: the programs they print, and the numbers they state."""

import re
from math import comb, factorial
from pathlib import Path

import numpy as np
import pytest

from ca14lib.environments import multi_agent_environment
from ca14lib.environments.matrix_games import game_payoffs
from ca14lib.solvers.games import additive_factorisation, monotonic_factorisation, pure_equilibria
from ca14lib.solvers.target_grid import target_grid_bound
from tests.book.test_solutions import solution

FOLDER = Path(__file__).parents[2] / "book" / "multi_agent"
PAGES = [FOLDER / f"{name}.md" for name in ("index", "theory", "environments", "applications", "exercises")]
CLIMBING = game_payoffs("climbing").sum(axis=0)


def test_every_solution_that_these_pages_print_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", "".join(page.read_text("utf8") for page in PAGES)))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


# --- theory ------------------------------------------------------------------------------------------------------


def test_the_equilibria_of_the_climbing_game_are_the_two_that_the_page_names():
    assert sorted(pure_equilibria(game_payoffs("climbing"))) == [(0, 0), (1, 1)]


def test_a_sum_fitted_to_the_two_step_table_is_worth_six_and_a_half():
    fit = additive_factorisation([[0, 1], [1, 8]])
    assert fit.values == pytest.approx(np.array([[-1.5, 2.5], [2.5, 6.5]]))
    assert np.abs(fit.values - [[0, 1], [1, 8]]) == pytest.approx(np.full((2, 2), 1.5))
    assert fit.values.max() < 7 < monotonic_factorisation([[0, 1], [1, 8]]).values.max() == pytest.approx(8)


def test_sum_and_monotonic_mixing_both_settle_for_five_on_the_climbing_game():
    additive, monotonic = additive_factorisation(CLIMBING), monotonic_factorisation(CLIMBING)
    stated = np.array([[-83, -95, 7], [-77, -89, 13], [-11, -23, 79]]) / 9
    assert additive.values == pytest.approx(stated)
    assert 9 * monotonic.error == pytest.approx(997.4, abs=0.05)
    for fit in (additive, monotonic):
        assert np.unravel_index(fit.values.argmax(), (3, 3)) == (2, 2)


def monotonic_table(table: np.ndarray, ranks: list[list[int]]) -> np.ndarray:
    """The function of the proof of multi-agent-monotone-class, evaluated at all joint actions."""
    joint = list(np.ndindex(*table.shape))
    rank = np.array([[ranks[agent][action] for agent, action in enumerate(actions)] for actions in joint])
    values = [max(table[b] for b, r in zip(joint, rank, strict=True) if (r <= x).all()) for x in rank]
    return np.array(values).reshape(table.shape)


def test_an_orderly_table_is_held_by_the_function_of_the_proof_and_the_climbing_game_is_not():
    generator = np.random.default_rng(0)
    for _ in range(20):
        orderly = generator.normal(size=(3, 3, 3))
        for axis in range(3):
            orderly = np.maximum.accumulate(orderly, axis=axis)
        assert monotonic_table(orderly, [[0, 1, 2]] * 3) == pytest.approx(orderly)
    assert not np.allclose(monotonic_table(CLIMBING, [[2, 1, 0], [2, 1, 0]]), CLIMBING)


def test_one_agents_process_changes_by_no_more_than_the_others_policies():
    generator = np.random.default_rng(1)
    for _ in range(50):
        transition = generator.dirichlet(np.ones(4), size=(3, 3, 3))  # [own action, two others' actions, next state]
        policies = generator.dirichlet(np.ones(3), size=(2, 2))  # [time, other agent, action]
        before, after = (np.einsum("abcs,b,c->as", transition, *pair) for pair in policies)
        assert np.abs(before - after).sum(axis=1).max() <= np.abs(policies[0] - policies[1]).sum() + 1e-12


def test_a_memory_that_does_not_forget_keeps_agents_at_the_door():
    module = solution("multi_agent_door")
    assert module.estimate(0.5) == pytest.approx(0.3)
    assert module.estimate(0.0) == pytest.approx(-0.1)
    assert module.estimate(1 / 8) == pytest.approx(0.0)
    assert [module.notices(window) for window in (1, 50, 400, None)] == [875, 900, 1084, 4003]


def test_the_fitted_value_of_the_best_joint_action_depends_on_exploration():
    module = solution("multi_agent_frequencies")
    for q in (0.5, 0.408, 0.1):
        weights = np.array([q, 1 - q])
        assert module.best_sum(module.SECOND_STATE, weights, weights)[1, 1] == pytest.approx(8 - 6 * q**2)
    assert 8 - 6 * (0.817 / 2) ** 2 < 7 < 8 - 6 * (0.816 / 2) ** 2
    weights = [module.epsilon_greedy(action, 3, 0.1) for action in (0, 2)]  # rows, columns
    fit = module.best_sum(module.CLIMBING, *weights)  # a general check: the residual is orthogonal to both utilities
    residual = (fit - module.CLIMBING) * np.outer(*weights)
    assert np.abs(residual.sum(axis=0)).max() < 1e-12 > np.abs(residual.sum(axis=1)).max()
    ends = {start: module.path(start, 0.1)[-1] for start in np.ndindex(3, 3)}
    assert ends[0, 0] == (0, 0)
    assert {start for start, end in ends.items() if end == (1, 2)} == {(1, 1), (1, 2), (2, 1), (2, 2)}
    assert {ends[start] for start in ((0, 1), (1, 0), (0, 2), (2, 0))} == {(0, 2), (1, 0)}
    partner = module.epsilon_greedy(1, 3, 0.1)
    assert partner @ module.CLIMBING[:, 1:] == pytest.approx([5.53, 5.77], abs=0.005)


@pytest.mark.parametrize("agents", [2, 8, 32])
def test_the_noise_of_a_team_reward_grows_with_the_team(agents):
    module = solution("multi_agent_noise")
    expected = {
        "team reward": (agents - 1) / 4, "difference from -1": 0.25, "difference from a draw": 0.25,
        "counterfactual advantage": 0.0,
    }  # fmt: skip
    for signal, variance in expected.items():
        drawn = module.samples(signal, agents, 50_000)
        assert drawn.mean() == pytest.approx(0.5, abs=0.05)
        assert drawn.var() == pytest.approx(variance, rel=0.05, abs=1e-9)


def test_a_baseline_that_sees_the_own_action_changes_the_gradient_and_one_that_does_not_leaves_it():
    generator = np.random.default_rng(2)
    own, other, value = generator.dirichlet(np.ones(3)), generator.dirichlet(np.ones(4)), generator.normal(size=(3, 4))
    scores = np.eye(3) - own  # of a softmax, one row per action

    def gradient(signal: np.ndarray) -> np.ndarray:
        return np.einsum("a,b,ak,ab->k", own, other, scores, signal)

    assert gradient(value - own @ value) == pytest.approx(gradient(value))
    assert gradient(value - generator.normal(size=4)) == pytest.approx(gradient(value))
    assert np.abs(gradient(value - generator.normal(size=(3, 1))) - gradient(value)).max() > 0.01


def test_counts_and_chances_that_the_theory_states():
    assert 5**4 == 625
    assert pytest.approx(1, rel=0.02) == 5**32 / 2.3e22
    assert 2 * sum(2**step for step in range(1, 5)) == 60
    assert 2 * sum(2**step for step in range(1, 9)) == 1020
    assert [factorial(n) / n**n for n in (2, 4)] == pytest.approx([0.5, 0.09375])
    assert 4**4 / factorial(4) == pytest.approx(10.7, abs=0.05)


# --- environments ------------------------------------------------------------------------------------------------


def test_the_makespan_of_the_exercise_and_that_small_grids_have_no_bottleneck():
    module = solution("multi_agent_makespan")
    assert module.makespan([(0, 0), (7, 7)], [(0, 3), (3, 0), (7, 4)]) == 9
    assert module.ways(3, 4) == 120
    assert module.ways(8, 32) == factorial(8) * comb(39, 31) == pytest.approx(2.5e12, rel=0.01)
    assert module.obstructed(3, 2, 1) == []
    assert module.obstructed(2, 2, 2) == []
    # the search can tell: in a corridor, one cell wide, two agents that may not swap would be
    assert module.steps_without_collision(((0, 0), (1, 1)), ((0, 1), (1, 0)), 2) == 1


def test_the_bound_is_as_large_as_the_page_says_and_a_plan_attains_it():
    game = multi_agent_environment("TargetGrid", 4_000)
    game.reset(seed=0)
    assert target_grid_bound(game.agent_cells, game.target_cells).mean() == pytest.approx(34.3, abs=0.05)
    module = solution("multi_agent_nearest")
    result = module.first_episodes(module.TEAMS["assigned"], 1_000, seed=0)
    assert (result["return"] > result["bound"] - 1e-6).mean() > 0.99


def test_selfish_and_simple_is_worse_than_random_until_it_errs():
    module = solution("multi_agent_nearest")
    results = {name: module.first_episodes(policy, 400, seed=1) for name, policy in module.TEAMS.items()}
    returns = {name: result["return"].mean() for name, result in results.items()}
    finished = {name: result["finished"].mean() for name, result in results.items()}
    rates = {name: result["cooperation"].mean() for name, result in results.items()}
    assert returns["uniform"] == pytest.approx(0.15, abs=4)  # four standard errors
    assert returns["nearest target"] < -30
    assert returns["nearest target, errs in 2 of 10"] == pytest.approx(30.2, abs=1)
    assert finished["uniform"] == pytest.approx(0.69, abs=0.09)
    assert finished["nearest target"] == pytest.approx(0.70, abs=0.09)
    assert finished["nearest target, errs in 2 of 10"] > 0.99
    assert sorted(rates, key=rates.get, reverse=True) == [
        "nearest target", "nearest target, errs in 2 of 10", "uniform", "assigned",
    ]  # fmt: skip


# --- exercises of the section ------------------------------------------------------------------------------------


def test_a_mixer_without_the_second_abs_misses_the_best_joint_action_and_fits_better():
    module = solution("multi_agent_mixer")
    assert module.mean_missed(module.MonotonicMixer) == 0
    assert module.mean_missed(module.MixerWithoutTheSecondAbs) == pytest.approx(0.64, abs=0.1)
    best_monotonic = monotonic_factorisation(CLIMBING).error
    error, payoff = module.fitted_to_climbing(module.MonotonicMixer, seed=0)
    assert error > best_monotonic - 0.1
    assert payoff == 5
    error, payoff = module.fitted_to_climbing(module.MixerWithoutTheSecondAbs, seed=0)
    assert error < best_monotonic / 2
    assert payoff < 11


def test_leaking_gradients_double_a_teams_and_cancel_rivals():
    module = solution("multi_agent_leak")
    right = module.gradients(module.TEAM, module.TEAM, leak=False)
    assert right == pytest.approx([-0.264, -0.042], abs=5e-4)
    assert module.gradients(module.TEAM, module.TEAM, leak=True) == pytest.approx([2 * value for value in right])
    right = module.gradients(module.PENNIES, -module.PENNIES, leak=False)
    assert right == pytest.approx([-0.192, -0.084], abs=5e-4)
    assert module.gradients(module.PENNIES, -module.PENNIES, leak=True) == pytest.approx([0, 0], abs=1e-7)


def test_a_critic_that_sees_the_own_action_settles_at_a_mixture_or_at_the_worse_action():
    learned = solution("multi_agent_attention").learned
    for start in (0.2, 0.5):
        assert learned((2.0, 1.0), False, start, rounds=3_000) > 0.99
        assert learned((-1.0, -2.0), False, start, rounds=3_000) > 0.99
        assert learned((2.0, 1.0), True, start, rounds=3_000) == pytest.approx(2 / 3, abs=0.01)
    assert learned((-1.0, -2.0), True, 0.2, rounds=3_000) < 0.01
    assert learned((-1.0, -2.0), True, 0.5, rounds=3_000) > 0.99


def test_short_episodes_are_counted_first():
    finished_within = solution("multi_agent_short_episodes").finished_within
    for steps, stated in ((50, 22), (100, 4.5)):
        ended, first = finished_within(steps, 2_000)
        assert ended.mean() == pytest.approx(stated, abs=1.5)
        assert np.isnan(first).any() == (steps == 50)
    assert np.nanmean(first) == pytest.approx(0.15, abs=2)


def test_independent_learners_settle_for_five_and_forgiving_ones_find_eleven():
    outcomes = solution("multi_agent_climbing").outcomes
    plain = outcomes(0.1, pairs=300)
    assert plain["cc"] > 0.85 * 300
    assert plain["cc"] + plain["bc"] == 300
    for slow_rate in (0.01, 0.0):
        assert outcomes(slow_rate, pairs=300)["aa"] == 300


def test_what_two_words_say_is_not_what_they_achieve():
    pairs = np.array(solution("multi_agent_channel").PAIRS)
    bits, rate = pairs.T
    assert len(pairs) == 256
    assert rate.max() == 0.5
    assert (rate == 0.5).sum() == 48
    for said in (0.0, 1.0):
        assert rate[np.isclose(bits, said)].mean() == pytest.approx(0.25)
    full = rate[np.isclose(bits, 1.0)]
    assert [len(full), (full == 0.5).sum(), (full == 0).sum()] == [96, 24, 24]


def test_prices_stay_high_from_a_discount_of_one_half():
    for discount, worth_it in ((0.49, False), (0.51, True)):
        assert (3 / (1 - discount) >= 5 + discount / (1 - discount)) == worth_it


def test_the_figure_of_the_memories_shows_what_they_hold():
    module = solution("multi_agent_door")
    picture = (FOLDER / "figures" / "door-memories.svg").read_text("utf8")
    total = np.concatenate([[0.0], module.PARTNER.cumsum()])
    for name, window in (("all", 2_000), ("400", 400), ("50", 50), ("truth", 1)):
        drawn = re.search(rf'class="memory-{name}" points="([^"]+)"', picture)[1]
        points = np.array([[float(number) for number in point.split(",")] for point in drawn.split()])
        steps = 1 + np.rint((points[:, 0] - 80) / 500 * 1400).astype(int)
        start = np.maximum(steps - window, 0)
        value = (total[steps] - total[start]) / (steps - start) - module.COST
        assert points[:, 1] == pytest.approx(60 + (0.75 - value) / 0.9 * 230, abs=0.3)
