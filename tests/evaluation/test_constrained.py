"""Exact evaluation within a limit, against a problem small enough for pencil and paper."""

import gymnasium as gym
import numpy as np
import pytest

from ca14lib.agents import Agent, AgentConfig
from ca14lib.environments import TabularModel, tabular_model
from ca14lib.evaluation import ConstrainedEvaluation, average_iterates, whole_cycles
from ca14lib.evaluation.constrained import COST_TOLERANCE
from ca14lib.solvers import InfeasibleError, constrained_optimum

COSTS, REWARDS = np.array([1.0, 3.0, 5.0]), np.array([2.0, 8.0, 10.0])
LIMIT = 2.0  # half of the first action, half of the second
BEST = np.array([0.5, 0.5, 0.0])


def choice(num_costs: int = 1, **more) -> TabularModel:
    """One decision among three, which earn 2, 8 and 10 and cost 1, 3 and 5."""
    transition = np.zeros((2, 3, 2))
    transition[:, :, 1] = 1.0
    reward = np.stack([REWARDS, np.zeros(3)])
    cost = np.stack([np.stack([COSTS, np.zeros(3)])] * num_costs) if num_costs else None
    return TabularModel(transition, reward, cost=cost, terminal=[False, True], horizon=1, **more)


class Mixing(Agent):
    """Draws from the probabilities it is told; its best action is the most probable."""

    def __init__(self, probabilities):
        self.table = np.broadcast_to(probabilities, (2, 3))
        super().__init__(gym.spaces.Discrete(2), gym.spaces.Discrete(3), AgentConfig())

    def _build(self):
        pass

    def policy_table(self, model, deterministic=True):
        return np.eye(3)[self.table.argmax(axis=1)] if deterministic else self.table


@pytest.fixture(scope="module")
def evaluation() -> ConstrainedEvaluation:
    return ConstrainedEvaluation(choice(), LIMIT)


def test_the_yardsticks_are_those_of_pencil_and_paper(evaluation):
    assert evaluation.optimal_return == pytest.approx(BEST @ REWARDS)
    assert evaluation.safe_return == pytest.approx(2.0, abs=1e-6)
    assert evaluation.cost_range == pytest.approx(5.0 - 1.0)
    assert evaluation.multiplier == pytest.approx((8 - 2) / (3 - 1))


@pytest.mark.parametrize(
    "policy, score, excess",
    [
        (BEST, 1.0, 0.0),
        ([1.0, 0.0, 0.0], 0.0, -0.25),
        ([0.75, 0.25, 0.0], 0.5, -0.125),
        ([0.0, 1.0, 0.0], 2.0, 0.25),  # breaks the limit
        ([0.0, 0.0, 1.0], 8 / 3, 0.75),
    ],
)
def test_score_and_excess_are_shares_of_the_way_and_of_the_cost_range(evaluation, policy, score, excess):
    result = evaluation(Mixing(policy))
    assert result["exact_return"] == pytest.approx(np.dot(policy, REWARDS))
    assert result["exact_cost"] == pytest.approx(np.dot(policy, COSTS))
    assert (result["score"], result["excess"]) == pytest.approx((score, excess), abs=1e-6)


def test_the_stochastic_policy_is_judged_unless_the_best_action_is_asked_for(evaluation):
    policy = [0.4, 0.6, 0.0]
    assert evaluation(Mixing(policy))["exact_return"] == pytest.approx(0.4 * 2 + 0.6 * 8)
    greedy = ConstrainedEvaluation(choice(), LIMIT, deterministic=True)(Mixing(policy))
    assert (greedy["exact_return"], greedy["exact_cost"]) == pytest.approx((8.0, 3.0))


def test_agents_tables_and_numbers_are_judged_alike(evaluation):
    result = evaluation(Mixing(BEST))
    assert evaluation.of_policy(np.tile(BEST, (2, 1))) == pytest.approx(result)
    assert evaluation.of_numbers(result["exact_return"], result["exact_cost"]) == pytest.approx(result)


@pytest.mark.parametrize("limit", [0.3, 0.5, 0.6, 2.0])
def test_the_exact_optimum_of_safe_grid_scores_one_within_its_limit(limit):
    model = tabular_model("CA14/SafeGrid-v0")
    result = ConstrainedEvaluation(model, limit).of_policy(constrained_optimum(model, limit).policy)
    assert result["score"] == pytest.approx(1.0)
    assert result["excess"] < 1e-6


@pytest.mark.parametrize(
    "score, excess, met",
    [
        (0.95, 0.0, True),
        (0.95, COST_TOLERANCE, True),
        (0.95, COST_TOLERANCE + 1e-6, False),
        (0.95 - 1e-6, 0.0, False),
        (2.0, 0.5, False),  # a return that the limit does not allow
        (1.0, -0.5, True),
    ],
)
def test_a_bar_is_met_by_enough_score_at_a_cost_within_two_per_cent_of_the_range(evaluation, score, excess, met):
    assert evaluation.met(score, excess, 0.95) is met
    assert COST_TOLERANCE == 0.02


def test_a_limit_at_the_least_cost_has_no_score():
    result = ConstrainedEvaluation(choice(), 1.0)(Mixing([1.0, 0.0, 0.0]))
    assert "score" not in result
    assert result["excess"] == pytest.approx(0.0, abs=1e-6)


def test_a_limit_that_nobody_keeps_is_refused():
    with pytest.raises(InfeasibleError, match="no policy has cost below 1"):
        ConstrainedEvaluation(choice(), 0.5)


@pytest.mark.parametrize("num_costs", [0, 2])
def test_a_model_without_exactly_one_cost_is_refused(num_costs):
    with pytest.raises(ValueError, match=f"one cost, got {num_costs}"):
        ConstrainedEvaluation(choice(num_costs), 0.5)


def test_an_agent_without_a_policy_table_is_refused(evaluation):
    with pytest.raises(ValueError, match="policy table, got Agent"):
        evaluation(Agent.__new__(Agent))


@pytest.mark.parametrize("seed", range(5))
def test_the_average_is_what_drawing_one_of_the_iterates_before_every_episode_earns(evaluation, seed):
    generator = np.random.default_rng(seed)
    policies = generator.dirichlet(np.ones(3), size=int(generator.integers(4, 12)))
    results = [evaluation(Mixing(policy)) for policy in policies]
    average = average_iterates(*([r[name] for r in results] for name in ("exact_return", "exact_cost")), share=0.5)
    mixed = evaluation(Mixing(policies[len(policies) - round(len(policies) / 2) :].mean(axis=0)))
    assert average == pytest.approx((mixed["exact_return"], mixed["exact_cost"]))


@pytest.mark.parametrize("share, first", [(1.0, 0), (0.5, 2), (0.25, 3), (0.01, 3)])
def test_the_average_is_over_the_last_iterates_and_over_one_at_least(share, first):
    returns, costs = np.array([1.0, 2.0, 4.0, 8.0]), np.array([3.0, 1.0, 4.0, 1.5])
    assert average_iterates(returns, costs, share) == pytest.approx((returns[first:].mean(), costs[first:].mean()))


@pytest.mark.parametrize(
    "returns, costs, share, message",
    [
        ([], [], 0.5, r"must be \[I\] with I >= 1"),
        ([1.0], [1.0, 2.0], 0.5, r"got shapes \(1,\) and \(2,\)"),
        ([[1.0]], [[1.0]], 0.5, r"must be \[I\]"),
        ([1.0], [1.0], 0.0, r"share must lie in \(0, 1\], got 0.0"),
        ([1.0], [1.0], 1.5, r"share must lie in \(0, 1\], got 1.5"),
    ],
)
def test_an_average_of_nothing_or_of_too_much_is_refused(returns, costs, share, message):
    with pytest.raises(ValueError, match=message):
        average_iterates(returns, costs, share)


@pytest.mark.parametrize("seed", range(20))
def test_over_whole_cycles_of_the_multiplier_the_mean_cost_is_the_limit(seed):
    generator = np.random.default_rng(seed)
    rate, limit, count = generator.uniform(0.5, 3.0), generator.uniform(1.0, 2.0), int(generator.integers(100, 300))
    costs, multiplier, value = [], [], 5.0
    for _ in range(count):  # costs answer the multiplier with delay, as a policy that learns does
        multiplier.append(value)
        late = multiplier[max(len(multiplier) - 6, 0)]
        costs.append(4.0 / (1.0 + np.exp(late - 5.0)))
        value = max(value + rate * (costs[-1] - limit), 0.0)
    window = whole_cycles(multiplier)
    gap = abs(multiplier[window.start] - multiplier[-1])
    clipped = sum(max(-(m + rate * (c - limit)), 0.0) for m, c in zip(multiplier[window], costs[window], strict=True))
    assert 0.3 * count < window.start < 0.7 * count
    assert window.stop == count - 1
    mean = average_iterates(np.zeros(count), costs, multiplier=multiplier)[1]
    assert mean <= limit + gap / rate / (window.stop - window.start) + 1e-9
    assert mean == pytest.approx(limit, abs=(gap + clipped) / rate / (window.stop - window.start) + 1e-9)


def test_the_window_starts_where_the_multiplier_is_nearest_to_its_last_value():
    multiplier = [0.0, 1.0, 2.0, 3.0, 2.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.1]
    assert whole_cycles(multiplier) == slice(4, 10)
    assert whole_cycles([3.0, 3.0]) == slice(0, 1)
    returns = np.arange(11.0)
    assert average_iterates(returns, -returns, multiplier=multiplier) == pytest.approx((6.5, -6.5))


@pytest.mark.parametrize("multiplier, message", [([1.0], r"shape \(1,\)"), (np.ones((2, 2)), r"got shape \(2, 2\)")])
def test_a_multiplier_without_a_history_is_refused(multiplier, message):
    with pytest.raises(ValueError, match=message):
        whole_cycles(multiplier)


def test_a_multiplier_of_other_length_is_refused():
    with pytest.raises(ValueError, match=r"multiplier must have the shape \(3,\) of the returns, got \(2,\)"):
        average_iterates([1.0, 2.0, 3.0], [1.0, 2.0, 3.0], multiplier=[1.0, 2.0])


def test_a_problem_whose_optimum_has_the_least_cost_already_is_refused():
    transition = np.zeros((2, 2, 2))
    transition[:, :, 1] = 1.0
    better_is_cheaper = TabularModel(
        transition, np.array([[2.0, 1.0], [0.0, 0.0]]), cost=np.array([[[1.0, 3.0], [0.0, 0.0]]]),
        terminal=[False, True], horizon=1,
    )  # fmt: skip
    with pytest.raises(ValueError, match="the unconstrained optimum has the least cost, 1, already"):
        ConstrainedEvaluation(better_is_cheaper, 2.0)
