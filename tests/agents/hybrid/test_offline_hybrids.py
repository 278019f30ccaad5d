"""Constrained BCQ, Cal-QL and symmetric sampling: pure functions, updates against a reference, tables against the LP.

Properties are registered by algorithm; ``faults_hybrid.py`` shows that each can fail.
"""

import collections
import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

import ca14lib.agents.hybrid.cal_ql as cal_ql
import ca14lib.agents.hybrid.constrained_bcq as constrained_bcq
import ca14lib.data.symmetric_replay as symmetric_replay
from ca14lib.agents import DQN, DQNConfig, check_agent
from ca14lib.agents.offline.cql import DiscreteCQL, conservative_penalty
from ca14lib.data import Transitions
from ca14lib.environments import GridWorld, TabularModel
from ca14lib.environments.safe_grid import SafeGrid, SafeGridLayout
from ca14lib.experiments.evaluation import offline_safe as experiment
from ca14lib.solvers import constrained_optimum, policy_costs, policy_return
from ca14lib.training.collect import collect
from tests.agents import reference_discrete
from tests.agents.hybrid.faults_hybrid import FAULTS
from tests.agents.properties import assert_follows, assert_same, assert_truncation_is_ignored, property_table
from tests.agents.reference import weights
from tests.agents.reference_discrete import small_agent, small_batch

AGENTS = ("constrained", "calibrated")
PROPERTIES, property_of, each = property_table(*AGENTS, "symmetric")
# three steps through a hazard, or nine round it: corners (cost 0, return 1) and (cost 1, return 4)
FORK = SafeGridLayout(4, ((1, 0), (1, 1), (1, 2)), goal=(3, 0), step_reward=-0.5, goal_reward=5.0, horizon=10)


def small(algorithm: str, **extra: object):
    if algorithm == "calibrated":
        return small_agent(cal_ql.DiscreteCalQL, **{"target_rate": 0.3, "conservative_weight": 0.7} | extra)
    settings = {"cost_limits": (0.4, 0.1), "cost_discount": 0.8, "threshold": 0.5, "temperature": 0.3, "pessimism": 0.7}
    settings |= {"target_rate": 0.3, "initial_multiplier": 0.5, "multiplier_learning_rate": 0.2}
    return small_agent(constrained_bcq.ConstrainedBCQ, **settings | {"multiplier_patience": 2} | extra)


def labelled(seed: int = 0) -> Transitions:
    """A batch with two costs whose label is 1 in every fourth row, where episodes begin."""
    generator = torch.Generator().manual_seed(seed)
    batch = small_batch(seed)
    cost = torch.rand(len(batch), 2, generator=generator, dtype=torch.float64)
    return replace(batch, cost=cost, value_target=(torch.arange(len(batch)) % 4 == 0).double())


# An independent copy of every update


class Reference(reference_discrete.Reference):
    def __init__(self, agent) -> None:
        super().__init__(agent)
        if isinstance(agent, constrained_bcq.ConstrainedBCQ):
            self.multiplier = agent.multiplier.clone()

    def worse(self, observation: Tensor) -> Tensor:
        """``[3, A]``: reward and two costs of the target critics."""
        first, second = (self.net(f"target_critics.{k}", observation).reshape(3, 3) for k in (0, 1))
        half, middle = self.config.pessimism * (first - second).abs() / 2, (first + second) / 2
        return torch.stack([middle[0] - half[0], middle[1] + half[1], middle[2] + half[2]])

    def mixture(self, q: Tensor, observation: Tensor) -> Tensor:
        odds = torch.exp(self.net("behaviour", observation))
        score = q[0] - self.multiplier[0] * q[1] - self.multiplier[1] * q[2]
        weight = torch.exp(score / self.config.temperature) * (odds / odds.max() > self.config.threshold)
        return weight / weight.sum()

    def constrained(self, batch: Transitions) -> dict[str, Tensor]:
        config, size, terms = self.config, len(batch), {}
        self.number += 1
        starts = [i for i in range(size) if batch.value_target[i] == 1]
        expected = torch.zeros(2, dtype=torch.float64)
        for i in starts:
            q = self.worse(batch.observation[i])
            expected += (q[1:] @ self.mixture(q, batch.observation[i])) / len(starts)
        rate = config.multiplier_learning_rate * min(1.0, config.multiplier_patience / self.number)
        limit = torch.tensor(config.cost_limits, dtype=torch.float32).double()
        self.multiplier = (self.multiplier + rate * (expected - limit)).clamp(min=0)
        for k in (0, 1):
            terms |= {f"expected_cost_{k}": expected[k], f"multiplier_{k}": self.multiplier[k]}
        targets = []
        for i, seen in enumerate(batch.next_observation):
            q = self.worse(seen)
            value = (q @ self.mixture(q, seen)) * (1 - int(batch.terminated[i]))
            got = [batch.reward[i], batch.cost[i, 0], batch.cost[i, 1]]
            gamma = [np.float32(config.discount)] + 2 * [np.float32(config.cost_discount)]
            targets.append([got[j] + float(gamma[j]) * value[j] for j in range(3)])
        total: list[Tensor] = []

        def critic_loss(k: int) -> Tensor:
            loss = 0.0
            for i in range(size):
                q = self.net(f"critics.{k}", batch.observation[i]).reshape(3, 3)[:, batch.action[i]]
                loss = loss + sum((q[j] - targets[i][j]) ** 2 for j in range(3)) / 2
            total.append((loss / size).detach())
            return loss / size

        def behaviour_loss() -> Tensor:
            loss, squares = 0.0, 0.0
            for i in range(size):
                logits = self.net("behaviour", batch.observation[i])
                loss = loss - torch.log(torch.exp(logits)[batch.action[i]] / torch.exp(logits).sum())
                squares = squares + (logits**2).sum() / 3
            return loss / size + config.logit_penalty * squares / size

        for k in (0, 1):
            self.descend(f"critics.{k}", lambda k=k: critic_loss(k))
        terms |= {"critic_loss": total[0] + total[1], "behaviour_loss": self.descend("behaviour", behaviour_loss)}
        self.follow("target_critics", "critics")
        return terms

    def calibrated(self, batch: Transitions) -> dict[str, Tensor]:
        config, size, terms = self.config, len(batch), {}
        if batch.value_target is not None:
            observed = batch.observation
            self.descend(
                "reference",
                lambda: (
                    sum((self.net("reference", o)[0] - y) ** 2 for o, y in zip(observed, batch.value_target)) / 2 / size
                ),
            )
        floor = [self.net("reference", seen)[0].detach() for seen in batch.observation]

        def loss() -> Tensor:
            squares, penalties, chosen = 0.0, 0.0, 0.0
            for i in range(size):
                q = self.net("q_network", batch.observation[i])
                with torch.no_grad():
                    best = int(self.net("q_network", batch.next_observation[i]).argmax())
                    following = self.net("target_network", batch.next_observation[i])[best]
                target = batch.reward[i] + config.discount * (1 - int(batch.terminated[i])) * following
                squares = squares + (target - q[batch.action[i]]) ** 2
                lifted = torch.stack([value if value > floor[i] else floor[i] for value in q])
                penalties = penalties + torch.log(torch.exp(lifted).sum()) - q[batch.action[i]]
                chosen = chosen + q[batch.action[i]].detach()
            terms["q"], terms["penalty"] = chosen / size, penalties.detach() / size
            return squares / (2 * size) + config.conservative_weight * penalties / size

        terms["loss"] = self.descend("q_network", loss)
        terms["reference"] = sum(floor) / size
        self.follow("target_network", "q_network")
        return terms


@each(*AGENTS)
def three_updates_equal_the_reference(algorithm: str) -> None:
    agent = small(algorithm)
    reference = Reference(agent)
    assert_follows(agent, reference, algorithm, map(labelled, range(3)))
    if algorithm == "constrained":
        torch.testing.assert_close(agent.multiplier, reference.multiplier)
        assert (agent.multiplier > 0).all(), "the case needs prices above 0"


@each("constrained")
def an_update_ignores_truncation(algorithm: str) -> None:
    assert_truncation_is_ignored(lambda: small(algorithm), [labelled()])


@each("constrained")
def an_update_ignores_what_follows_a_true_end(algorithm: str) -> None:
    batch = labelled()
    first, second = small(algorithm), small(algorithm)
    elsewhere = (batch.next_observation + 1.0).where(batch.terminated[:, None], batch.next_observation)
    first.update(batch)
    second.update(replace(batch, next_observation=elsewhere))
    assert_same(weights(first), weights(second), 1e-12)


# Constrained BCQ


@property_of("constrained")
def rewards_are_pressed_down_and_costs_up() -> None:
    first, second = torch.tensor([[1.0, 5.0], [2.0, 3.0]]), torch.tensor([[3.0, 4.0], [6.0, 1.0]])
    worse = constrained_bcq.pessimistic_values(first, second, 1.0)
    torch.testing.assert_close(worse, torch.tensor([[1.0, 4.0], [6.0, 3.0]]))
    torch.testing.assert_close(constrained_bcq.pessimistic_values(first, second, 0.0), (first + second) / 2)
    half = constrained_bcq.pessimistic_values(first, second, 0.5)
    torch.testing.assert_close(half, torch.tensor([[1.5, 4.25], [5.0, 2.5]]))


@property_of("constrained")
def costs_are_subtracted_at_their_price() -> None:
    values = torch.tensor([[[4.0, 1.0], [1.0, 0.0], [0.0, 2.0]]])
    found = constrained_bcq.lagrangian_values(values, torch.tensor([3.0, 0.5]))
    torch.testing.assert_close(found, torch.tensor([[1.0, 0.0]]))


@property_of("constrained")
def an_action_outside_the_support_is_never_taken() -> None:
    agent = small("constrained", threshold=0.9)
    seen = torch.randn(40, 2, generator=torch.Generator().manual_seed(0)).numpy()
    odds = agent.behaviour(agent._input(torch.as_tensor(seen, dtype=torch.float64))).softmax(dim=-1).detach().numpy()
    barred = odds / odds.max(axis=1, keepdims=True) <= 0.9
    assert 0 < barred.mean() < 1, "the case needs actions inside and outside"
    for deterministic in (False, True):
        taken = agent._policy(torch.as_tensor(seen, dtype=torch.float64), None, deterministic).detach().numpy()
        assert (taken[barred] == 0).all(), "an action outside the support has a probability"
        assert np.allclose(taken.sum(axis=1), 1), "probabilities must sum to 1"


@property_of("constrained")
def only_first_steps_count_for_the_price() -> None:
    value, start = torch.tensor([[1.0], [5.0], [3.0]]), torch.tensor([1.0, 0.0, 1.0])
    assert float(constrained_bcq.start_cost(value, start, torch.tensor([9.0]))) == 2.0
    none = constrained_bcq.start_cost(value, torch.zeros(3), torch.tensor([9.0]))
    assert float(none) == 9.0, "without a start there is no estimate"


@property_of("constrained")
def the_price_rises_over_the_limit_and_falls_under_it() -> None:
    for limit, direction in ((100.0, -1), (0.0, 1)):
        agent = small("constrained", cost_limits=(limit,), pessimism=1.0, multiplier_learning_rate=0.001)
        before = float(agent.multiplier)
        batch = labelled()
        with torch.no_grad():
            for critic in agent.target_critics:
                critic[-1].weight.zero_()
                critic[-1].bias.fill_(1.0)  # an episode is expected to cost 1
        agent.update(batch)
        assert math.copysign(1, float(agent.multiplier) - before) == direction
        assert math.isclose(float(agent.multiplier) - before, 0.001 * (1 - limit), rel_tol=1e-5)


def backward_pass(model: TabularModel, multiplier: Tensor, temperature: float) -> tuple[np.ndarray, Tensor]:
    """The fixed point of the updates with the data of every pair: policy ``[H, S, A]`` and values of the start."""
    moves = torch.tensor(model.transition)
    received = torch.as_tensor(np.stack([model.expected_reward, *model.expected_cost])).transpose(0, 1)  # [S, 1 + K, A]
    value = torch.zeros(model.num_states, received.shape[1], dtype=torch.float64)
    alive, everything, table = torch.tensor(~model.terminal)[:, None], torch.ones_like(received[:, 0]).bool(), []
    for _ in range(model.horizon):
        q = received + torch.einsum("san,nk->ska", moves, value)
        scores = constrained_bcq.lagrangian_values(q, multiplier)
        policy = constrained_bcq.supported_softmax(scores, everything, temperature)
        value = constrained_bcq.policy_values(policy, q) * alive
        table.insert(0, policy.numpy())
    return np.array(table), torch.tensor(model.initial) @ value


def counted_model(episodes: int) -> TabularModel:
    """FORK as a log of uniform actions shows it."""
    model = experiment.safe_grid_model(FORK)
    data = collect(SafeGrid(layout=FORK, one_hot=True), "random", episodes, seed=0)
    counts, rewards = data.empirical_counts(model)
    number = counts.sum(axis=2)
    seen = number[~model.terminal] > 0
    assert seen.all(), "the log must show every pair"
    pair = data._pairs(model)
    cost = np.bincount(pair, data.transitions.cost[:, 0].double().numpy(), model.num_states * model.num_actions)
    number = np.maximum(number, 1)
    transition = np.where(model.terminal[:, None, None], model.transition, counts / number[..., None])
    return replace(
        model, transition=transition, reward=rewards / number, cost=(cost.reshape(number.shape) / number)[None]
    )


@property_of("constrained")
def with_full_coverage_the_table_reaches_the_linear_programme() -> None:
    counted, exact = counted_model(600), experiment.safe_grid_model(FORK)
    assert np.allclose(counted.transition[~exact.terminal], exact.transition[~exact.terminal]), (
        "moves are deterministic"
    )
    for limit, tolerance in ((0.5, 0.05), (0.9, 0.05)):
        optimum = constrained_optimum(exact, limit)
        multiplier, expected = torch.zeros(1, dtype=torch.float64), torch.zeros(1)
        for update in range(1, 301):
            policy, values = backward_pass(counted, multiplier, 0.02)
            rate = constrained_bcq.multiplier_rate(2.0, update, 10)
            expected = values[1:]
            multiplier = constrained_bcq.multiplier_step(multiplier, expected, torch.tensor([limit]), rate)
        cost = float(policy_costs(exact, policy)[0])
        assert math.isclose(cost, float(expected), abs_tol=1e-9), "the table's own estimate is exact"
        assert abs(cost - limit) < 0.02, f"cost {cost} at the limit {limit}"
        assert policy_return(exact, policy) > optimum.optimal_return - tolerance, policy_return(exact, policy)
        assert abs(float(multiplier) - float(optimum.multipliers[0])) < 0.2, f"price {multiplier}"


# Cal-QL


@property_of("calibrated")
def without_a_reference_it_is_the_penalty_of_cql() -> None:
    q = torch.randn(20, 4, generator=torch.Generator().manual_seed(0))
    action = torch.arange(20) % 4
    found = cal_ql.calibrated_penalty(q, action, torch.full((20,), -torch.inf))
    torch.testing.assert_close(found, conservative_penalty(q, action))


@property_of("calibrated")
def nothing_under_the_reference_is_pushed_down() -> None:
    q = torch.tensor([[0.0, -1.0, -3.0]], requires_grad=True)
    (slope,) = torch.autograd.grad(cal_ql.calibrated_penalty(q, torch.tensor([0]), torch.tensor([-0.5])), q)
    share = 1 / (1 + 2 * math.exp(-0.5))
    torch.testing.assert_close(slope, torch.tensor([[share - 1, 0.0, 0.0]]))


@property_of("calibrated")
def labels_are_the_returns_of_the_log() -> None:
    data = collect(GridWorld(time_limit=5), "random", 30, seed=0)
    agent = cal_ql.DiscreteCalQL(data.observation_space, data.action_space, seed=0)
    labels = agent.relabel(data)
    agent.requires_grad_(False)
    rows = data.transitions
    for piece in data.episode_slices[:10]:
        end = piece.stop - 1
        value = 0.0 if rows.terminated[end] else float(agent._reference(rows.next_observation[end : end + 1]))
        for row in reversed(range(piece.start, piece.stop)):
            value = float(rows.reward[row]) + agent.config.discount * value
            assert math.isclose(float(labels[row]), value, abs_tol=1e-5)


@property_of("calibrated")
def a_batch_without_labels_leaves_the_reference_alone() -> None:
    agent = small("calibrated")
    before = weights(agent, "reference")
    agent.update(replace(labelled(), value_target=None))
    assert_same(before, weights(agent, "reference"), 0.0)


@property_of("calibrated")
def handed_over_networks_give_the_same_values_and_stay_apart() -> None:
    source, target = small("calibrated"), small_agent(DQN, seed=5)
    cal_ql.hand_over(source, target)
    seen = small_batch().observation
    for name in ("q_network", "target_network"):
        first, second = (getattr(agent, name)(agent._input(seen)) for agent in (source, target))
        assert torch.equal(first, second), f"{name} was not handed over"
    before = weights(source)
    target.update(small_batch())
    assert_same(before, weights(source), 0.0)


# Symmetric replay


def filled(share: float = 0.5, steps: int = 3):
    """A log whose rewards are its own, and new experience of reward 7."""
    data = collect(GridWorld(), "random", 20, seed=0)
    buffer = symmetric_replay.SymmetricReplay(data, 50, share=share)
    for _ in range(steps):
        buffer.add(observation=np.zeros((1, 2)), action=[1], reward=[7.0], next_observation=np.ones((1, 2)),
                   terminated=[False], truncated=[False])  # fmt: skip
    return data, buffer


@property_of("symmetric")
def half_of_every_batch_is_the_log() -> None:
    for share, expected in ((0.5, 32), (0.25, 48), (0.0, 64)):
        _, buffer = filled(share)
        batch = buffer.sample(64, torch.Generator().manual_seed(0))
        assert len(batch) == 64
        assert int((batch.reward == 7).sum()) == expected, f"share {share}"
        assert batch.value_target is None, "returns of the log belong to offline learning"
        assert (batch.reward[: 64 - expected] != 7).all(), "the log comes first"


# Running the properties, and the faults

CASES = {
    f"{algorithm}-{name}": holds for algorithm, properties in PROPERTIES.items() for name, holds in properties.items()
}


@pytest.mark.parametrize("case", CASES)
def test_property_holds(case):
    CASES[case]()


@functools.cache
def passes_on_healthy_code(case: str) -> bool:
    CASES[case]()
    return True


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_caught(name, monkeypatch):
    fault = FAULTS[name]
    checks = [f"{fault.algorithm}-{caught}" for caught in fault.caught_by]
    assert checks, "a fault names at least one property"
    assert all(passes_on_healthy_code(case) for case in checks)
    fault.plant(monkeypatch)
    for case in checks:
        with pytest.raises(AssertionError):
            CASES[case]()


def test_every_algorithm_has_at_least_three_faults_and_no_property_is_idle():
    number = collections.Counter(fault.algorithm for fault in FAULTS.values())
    assert all(number[algorithm] >= 3 for algorithm in PROPERTIES), number
    failed = {f"{fault.algorithm}-{name}" for fault in FAULTS.values() for name in fault.caught_by}
    assert failed == CASES.keys()


# The contract, learning, bad input


@pytest.mark.parametrize(
    "cls, config",
    [
        (constrained_bcq.ConstrainedBCQ, None),
        (constrained_bcq.ConstrainedBCQ, constrained_bcq.ConstrainedBCQConfig(hidden_sizes=(8,), temperature=0.0)),
        (cal_ql.DiscreteCalQL, None),
    ],
    ids=["constrained", "greedy", "calibrated"],
)
def test_agents_pass_the_suite(cls, config):
    check_agent(cls, config)


def test_without_limits_reward_and_policy_are_those_of_one_critic_row():
    agent = small("constrained", cost_limits=())
    assert agent.num_costs == 0
    logs = agent.update(small_batch())
    assert logs.keys() == {"critic_loss", "behaviour_loss"}


@pytest.mark.verify
def test_a_constrained_agent_learns_a_mixture_near_the_optimum_within_the_limit():
    limit = 0.5
    agent, history = experiment.offline_safe_training("ConstrainedBCQ", FORK, limit, 100, updates=1_500, episodes=600)
    evaluation = experiment.safe_grid_evaluation(FORK, limit)
    assert evaluation.optimal_return == pytest.approx(2.5)
    assert history.last("score") > 0.45
    assert history.last("exact_cost") < limit + 0.1
    assert 1.5 < float(agent.multiplier[0]) < 4.5, "the exact price is 3"
    _, history = experiment.offline_safe_training("DiscreteBCQ", FORK, limit, 100, updates=600, episodes=600)
    assert history.last("exact_cost") == pytest.approx(1.0)
    assert history.last("exact_return") == pytest.approx(4.0)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: constrained_bcq.ConstrainedBCQConfig(cost_limits=(-1.0,)), "cost_limits must be finite"),
        (lambda: constrained_bcq.ConstrainedBCQConfig(temperature=-0.1), "temperature must be finite"),
        (lambda: constrained_bcq.ConstrainedBCQConfig(pessimism=1.1), r"pessimism must be in \[0, 1\], got 1.1"),
        (lambda: constrained_bcq.ConstrainedBCQConfig(threshold=1.0), r"threshold must be in \[0, 1\), got 1.0"),
        (lambda: constrained_bcq.ConstrainedBCQConfig(cost_discount=0.0), "cost_discount must be in"),
        (lambda: constrained_bcq.ConstrainedBCQConfig(multiplier_patience=0), "multiplier_patience must be an integer"),
        (lambda: constrained_bcq.ConstrainedBCQConfig(initial_multiplier=200.0), "initial_multiplier must be in"),
        (lambda: small("constrained").update(small_batch()), "the data must have 2 costs, one a limit, got 0"),
        (lambda: cal_ql.DiscreteCalQLConfig(relabel_interval=0), "relabel_interval must be an integer of at least 1"),
        (lambda: cal_ql.hand_over(small("calibrated"), small_agent(DQN, hidden_sizes=(4,))), "hidden_sizes are"),
        (lambda: filled(1.5), r"share must lie in \[0, 1\], got 1.5"),
        (lambda: symmetric_replay.log_rows(0, 0.5), "batch_size must be at least 1, got 0"),
        (lambda: filled(0.5, steps=0)[1].sample(4, torch.Generator()), "the replay buffer is empty"),
    ],
)  # fmt: skip
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_networks_that_see_observations_otherwise_are_not_handed_over():
    source = small("calibrated")
    target = DQN(source.observation_space, source.action_space, DQNConfig(hidden_sizes=(5,)))
    before = weights(target)
    with pytest.raises(ValueError, match="same normalizer"):
        cal_ql.hand_over(source, target)
    assert_same(before, weights(target), 0.0)
    cql = DiscreteCQL(GridWorld().observation_space, GridWorld().action_space)
    with pytest.raises(ValueError, match="observation_space"):
        cal_ql.hand_over(source, cql)


def test_labels_mark_where_episodes_begin():
    data = collect(SafeGrid(layout=FORK, one_hot=True), "random", 7, seed=0)
    labels = small("constrained").relabel(data)
    assert int(labels.sum()) == 7
    assert np.flatnonzero(labels.numpy()).tolist() == [piece.start for piece in data.episode_slices]
