"""Distributional agents: losses against definitions, updates against a reference, choice against metrics.risk.

Properties are registered by algorithm; ``faults_distributional.py`` shows that each can fail.
"""

import collections
import functools
import math
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import ca14lib.agents.robust.c51 as c51
import ca14lib.agents.robust.iqn as iqn
import ca14lib.agents.robust.qr_dqn as qr_dqn
import ca14lib.agents.robust.risk_choice as risk_choice
from ca14lib.agents import check_agent
from ca14lib.agents.robust.risk_choice import RiskChoice
from ca14lib.data import Transitions
from ca14lib.metrics.risk import conditional_value_at_risk, entropic_risk, return_conditional_value_at_risk
from tests.agents import reference_discrete
from tests.agents.properties import (
    ONE,
    assert_follows,
    assert_same,
    assert_truncation_is_ignored,
    fit,
    one_state_batch,
    property_table,
)
from tests.agents.reference import weights
from tests.agents.reference_discrete import small_agent, small_batch
from tests.agents.robust.faults_distributional import FAULTS

AGENTS = ("qrdqn", "iqn", "c51")
PROPERTIES, property_of, each = property_table(*AGENTS, "choice")

CLASSES = {"qrdqn": qr_dqn.QRDQN, "iqn": iqn.IQN, "c51": c51.C51}
SETTINGS = {
    "qrdqn": {"num_quantiles": 8, "kappa": 0.5},
    "iqn": {"num_fractions": 4, "num_target_fractions": 5, "num_choice_fractions": 8, "num_cosines": 3, "kappa": 0.5},
    "c51": {"num_atoms": 9, "value_min": -4.0, "value_max": 4.0},
}
HIDDEN = {"iqn": (12, 8)}


def small(algorithm: str, **extra: object):
    kept = SETTINGS[algorithm] | {"hidden_sizes": HIDDEN.get(algorithm, (5,)), "target_rate": 0.3}
    return small_agent(CLASSES[algorithm], **kept | extra)


# The pairwise loss, and an independent copy of every update


def pairwise_loss(prediction: Tensor, target: Tensor, fractions: Tensor, kappa: float) -> Tensor:
    """The quantile Huber loss, pair by pair in doubles."""
    fractions = fractions.expand_as(prediction).double()
    error = target.double()[:, None, :] - prediction.double()[:, :, None]
    size = error.abs()
    huber = torch.where(size > kappa, kappa * (size - kappa / 2), error.square() / 2)
    weight = (fractions[:, :, None] - (error.detach() < 0).double()).abs()
    return (weight * huber / kappa).mean(dim=2).sum(dim=1).mean()


class Reference(reference_discrete.Reference):
    """The updates once more, row by row."""

    def score(self, values: Tensor, probabilities: Tensor | None = None) -> float:
        config = self.config
        x = values.detach().double().numpy()
        w = None if probabilities is None else probabilities.detach().double().numpy()
        if config.risk == "mean" or not config.risk_in_target:
            return float(np.average(x, weights=w))
        if config.risk == "cvar":
            return -conditional_value_at_risk(-x, 1 - config.risk_parameter, w)
        return -entropic_risk(-x, config.risk_parameter, w)

    def best(self, rows: list[float], mask: Tensor | None, i: int) -> int:
        allowed = [a for a in range(3) if mask is None or mask[i, a]] or [0]
        return max(allowed, key=lambda a: rows[a])

    def atoms(self, name: str, observation: Tensor, count: int) -> Tensor:
        return self.net(f"{name}.0", observation).reshape(3, count)

    def bellman(self, batch: Transitions, i: int, following: Tensor) -> Tensor:
        return batch.reward[i] + self.config.discount * (1 - int(batch.terminated[i])) * following

    def qrdqn(self, batch: Transitions) -> dict[str, Tensor]:
        config, terms, count = self.config, {}, self.config.num_quantiles
        middles = torch.tensor([(i + 0.5) / count for i in range(count)], dtype=torch.float64)
        targets = []
        for i, seen in enumerate(batch.next_observation):
            rated = self.atoms("target_network", seen, count)
            chooser = self.atoms("q_network", seen, count) if config.double else rated
            action = self.best([self.score(row) for row in chooser], batch.next_action_mask, i)
            targets.append(self.bellman(batch, i, rated[action]))

        def loss() -> Tensor:
            predicted = torch.stack(
                [self.atoms("q_network", o, count)[a] for o, a in zip(batch.observation, batch.action)]
            )
            terms["q"] = predicted.detach().mean()
            return pairwise_loss(predicted, torch.stack(targets), middles, config.kappa)

        terms["loss"] = self.descend("q_network", loss)
        self.follow("target_network", "q_network")
        return terms

    def iqn_quantiles(self, name: str, observation: Tensor, fractions: Tensor) -> Tensor:
        """``[A, N]`` of one observation."""
        w = {key.removeprefix(f"{name}."): value for key, value in self.weights.items() if key.startswith(f"{name}.")}
        seen = self.observe(observation)
        body = (w["observation_body.0.weight"] @ seen + w["observation_body.0.bias"]).clamp(min=0)
        found = []
        for fraction in fractions:
            cosines = torch.stack([torch.cos(math.pi * i * fraction.double()) for i in range(self.config.num_cosines)])
            merged = body * (w["embedding.linear.weight"] @ cosines + w["embedding.linear.bias"]).clamp(min=0)
            hidden = (w["head.0.weight"] @ merged + w["head.0.bias"]).clamp(min=0)
            found.append(w["head.2.weight"] @ hidden + w["head.2.bias"])
        return torch.stack(found, dim=1)

    def iqn(self, batch: Transitions) -> dict[str, Tensor]:
        config, terms, size = self.config, {}, len(batch)
        draws = functools.partial(torch.rand, generator=self.generator)
        fractions = draws(size, config.num_fractions)
        tail = config.risk_parameter if config.risk == "cvar" and config.risk_in_target else 1.0
        choice = tail * draws(size, config.num_choice_fractions)
        following, targets = draws(size, config.num_target_fractions), []
        for i, seen in enumerate(batch.next_observation):
            chooser = self.iqn_quantiles("q_network" if config.double else "target_network", seen, choice[i])
            action = self.best([float(row.mean()) for row in chooser], batch.next_action_mask, i)
            targets.append(self.bellman(batch, i, self.iqn_quantiles("target_network", seen, following[i])[action]))

        def loss() -> Tensor:
            predicted = torch.stack([
                self.iqn_quantiles("q_network", o, f)[a] for o, a, f in zip(batch.observation, batch.action, fractions)
            ])  # fmt: skip
            terms["q"] = predicted.detach().mean()
            return pairwise_loss(predicted, torch.stack(targets), fractions, config.kappa)

        terms["loss"] = self.descend("q_network", loss)
        self.follow("target_network", "q_network")
        return terms

    def c51(self, batch: Transitions) -> dict[str, Tensor]:
        config, terms, count = self.config, {}, self.config.num_atoms
        support = torch.linspace(config.value_min, config.value_max, count, dtype=torch.float64)
        targets = []
        for i, seen in enumerate(batch.next_observation):
            rated = self.atoms("target_network", seen, count).softmax(dim=-1)
            chooser = self.atoms("q_network", seen, count).softmax(dim=-1) if config.double else rated
            action = self.best([self.score(support, row) for row in chooser], batch.next_action_mask, i)
            targets.append(projected(self.bellman(batch, i, support), rated[action], support))

        def loss() -> Tensor:
            total = 0.0
            for i in range(len(batch)):
                weight = torch.exp(self.atoms("q_network", batch.observation[i], count)[batch.action[i]])
                predicted = weight / weight.sum()
                terms["q"] = terms.get("q", 0.0) + (predicted.detach() @ support) / len(batch)
                total = total - (targets[i] * torch.log(predicted)).sum()
            return total / len(batch)

        terms["loss"] = self.descend("q_network", loss)
        self.follow("target_network", "q_network")
        return terms


def projected(values: Tensor, probabilities: Tensor, support: Tensor) -> Tensor:
    """Every point of the support collects by its triangular kernel (Bellemare et al., 2017, equation 7)."""
    step = support[1] - support[0]
    clipped = values.clamp(float(support[0]), float(support[-1]))
    kernel = (1 - (clipped[None, :] - support[:, None]).abs() / step).clamp(min=0)
    return kernel @ probabilities


# Properties of the updates


@each(*AGENTS)
def three_updates_equal_the_reference(algorithm: str) -> None:
    agent = small(algorithm)
    assert_follows(agent, Reference(agent), algorithm, map(small_batch, range(3)))


@each(*AGENTS)
def updates_that_choose_by_risk_equal_the_reference(algorithm: str) -> None:
    for extra in ({}, {"double": True}, {"risk_in_target": False}):
        agent = small(algorithm, risk="cvar", risk_parameter=0.3, **extra)
        assert_follows(agent, Reference(agent), algorithm, map(small_batch, range(2)))


@each(*AGENTS)
def updates_with_the_double_estimator_equal_the_reference(algorithm: str) -> None:
    agent = small(algorithm, double=True)
    assert_follows(agent, Reference(agent), algorithm, map(small_batch, range(2)))


@each(*AGENTS)
def an_update_ignores_truncation(algorithm: str) -> None:
    assert_truncation_is_ignored(lambda: small(algorithm), [small_batch()])


@each(*AGENTS)
def an_update_ignores_what_follows_a_true_end(algorithm: str) -> None:
    batch = small_batch()
    first, second, third = (small(algorithm) for _ in range(3))
    elsewhere = batch.next_observation + 1.0
    first.update(batch)
    second.update(replace(batch, next_observation=elsewhere.where(batch.terminated[:, None], batch.next_observation)))
    assert_same(weights(first), weights(second), 1e-12)  # C51's probabilities sum to 1 up to rounding
    third.update(replace(batch, next_observation=elsewhere.where(batch.truncated[:, None], batch.next_observation)))
    moved = [not torch.allclose(value, weights(third)[name]) for name, value in weights(first).items()]
    assert any(moved), "what follows a cut must count"


@each(*AGENTS)
def forbidden_next_actions_never_count(algorithm: str) -> None:
    batch = replace(small_batch(), terminated=torch.zeros(12, dtype=torch.bool))
    forbidden = torch.arange(12) % 3
    batch = replace(batch, next_action_mask=torch.ones(12, 3, dtype=torch.bool).scatter(1, forbidden[:, None], False))
    agent = small(algorithm)
    assert_follows(agent, Reference(agent), algorithm, [batch])
    ended = replace(batch, terminated=~batch.terminated, next_action_mask=torch.zeros(12, 3, dtype=torch.bool))
    assert agent.update(ended)["loss"].isfinite(), "after a true end no action need be allowed"


@each(*AGENTS)
def the_target_network_gets_no_gradient(algorithm: str) -> None:
    agent = small(algorithm)
    agent.update(small_batch())
    for name, parameter in agent.named_parameters():
        if name.startswith("target_network."):
            assert parameter.grad is None, f"{name} got a gradient"
            assert not parameter.requires_grad, f"{name} asks for a gradient"


REWARDS = [1.0, 2.0, 3.0, 6.0]  # of the only action, equally likely


@each(*AGENTS)
def a_one_step_task_teaches_the_distribution_of_its_reward(algorithm: str) -> None:
    learned = {"qrdqn": {"num_quantiles": 8, "kappa": 0.01}, "iqn": {"kappa": 0.01, "num_cosines": 16}}
    learned |= {"c51": {"num_atoms": 8, "value_min": 0.0, "value_max": 7.0}}
    observations, actions = gym.spaces.Box(-1, 1, (1,), dtype=np.float32), gym.spaces.Discrete(1)
    config = CLASSES[algorithm].config_class(hidden_sizes=(32,), **learned[algorithm])
    agent = CLASSES[algorithm](observations, actions, config, seed=0)
    fit(agent, one_state_batch([0] * 4, REWARDS), {"iqn": 800}.get(algorithm, 400), 0.03)
    values, probabilities = (array[0, 0] for array in agent.return_distribution(ONE))
    distance = wasserstein(values, probabilities, np.array(REWARDS), np.full(4, 0.25))
    assert distance < {"iqn": 0.25}.get(algorithm, 0.1), f"W1 is {distance}"
    tail = return_conditional_value_at_risk(REWARDS, 0.3)
    score = agent.with_risk("cvar", 0.3)._scores(torch.ones(1, 1))[0, 0].detach()
    assert abs(float(score) - tail) < {"iqn": 0.3}.get(algorithm, 0.1), f"CVaR is {float(score)}, {tail} is right"


def wasserstein(x: np.ndarray, p: np.ndarray, y: np.ndarray, q: np.ndarray) -> float:
    """The area between two distribution functions."""
    points = np.sort(np.concatenate([x, y]))
    first, second = (((v[:, None] <= points) * w[:, None]).sum(axis=0) for v, w in ((x, p), (y, q)))
    return float((abs(first - second)[:-1] * np.diff(points)).sum())


# The quantile Huber loss


@property_of("qrdqn")
def loss_and_gradient_equal_the_pairwise_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    for case, (rows, n, m) in enumerate(((5, 7, 9), (3, 200, 150), (4, 1, 1), (2, 6, 1))):
        for kappa in (0.05, 1.0, 7.0):
            prediction = (100 + 5 * torch.randn(rows, n, generator=generator)).requires_grad_()
            target = 100 + 8 * torch.randn(rows, m, generator=generator)
            target[0, 0] = prediction[0, 0].detach()
            target[1] = target[1, 0]  # ties
            given = torch.rand((n,) if case % 2 else (rows, n), generator=generator)
            for fractions in (given, None):
                used = (torch.arange(n) + 0.5) / n if fractions is None else fractions
                found = qr_dqn.quantile_huber_loss(prediction, target, fractions, kappa)
                wanted = pairwise_loss(prediction, target, used, kappa)
                slopes = [torch.autograd.grad(loss, prediction)[0] for loss in (found, wanted)]
                torch.testing.assert_close(found.double(), wanted, rtol=1e-6, atol=1e-6)
                torch.testing.assert_close(*slopes, rtol=1e-5, atol=1e-7)


@property_of("qrdqn")
def a_target_gets_no_gradient() -> None:
    prediction, target = torch.randn(2, 3, requires_grad=True), torch.randn(2, 4, requires_grad=True)
    qr_dqn.quantile_huber_loss(prediction, target).backward()
    assert target.grad is None, "a target got a gradient"


@property_of("qrdqn")
def the_loss_is_least_at_the_middle_quantiles() -> None:
    """With a small threshold: of 8 targets and 4 predictions, each prediction rests between its two targets."""
    target = torch.tensor([[1.0, 2.0, 4.0, 7.0, 11.0, 16.0, 22.0, 29.0]])
    rest = torch.tensor([[1.5, 5.5, 13.5, 25.5]], requires_grad=True)
    (slope,) = torch.autograd.grad(qr_dqn.quantile_huber_loss(rest, target, kappa=0.1), rest)
    assert float(slope.abs().max()) < 1e-6, f"{slope} should be 0"


# The projection


@property_of("c51")
def the_projection_keeps_mass_and_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    support = torch.linspace(-2, 4, 13)
    values = -2 + 6 * torch.rand(50, 7, generator=generator)
    values[0] = torch.tensor([-2.0, -1.5, 0.0, 0.5, 3.5, 4.0, 4.0])  # on the points
    probabilities = torch.rand(50, 7, generator=generator)
    probabilities /= probabilities.sum(dim=1, keepdim=True)
    found = c51.categorical_projection(values, probabilities, support)
    torch.testing.assert_close(found.sum(dim=1), torch.ones(50))
    torch.testing.assert_close(found @ support, (values * probabilities).sum(dim=1), rtol=1e-5, atol=1e-5)
    assert (found >= 0).all(), "a probability is negative"
    wanted = torch.stack([projected(v, p, support) for v, p in zip(values, probabilities)])
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@property_of("c51")
def what_lies_outside_goes_to_the_nearest_end() -> None:
    found = c51.categorical_projection(
        torch.tensor([[-9.0, 0.5, 70.0]]), torch.tensor([[0.2, 0.3, 0.5]]), torch.arange(3.0)
    )
    torch.testing.assert_close(found, torch.tensor([[0.35, 0.15, 0.5]]))


# Fractions


@property_of("iqn")
def fractions_come_from_the_generator_and_fill_the_tail() -> None:
    state = torch.random.get_rng_state()
    first, again, other = (
        iqn.sampled_fractions(50, 40, 0.25, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)
    )
    assert torch.equal(first, again), "the same generator gives other fractions"
    assert not torch.equal(first, other), "another seed gives the same fractions"
    assert torch.equal(torch.random.get_rng_state(), state), "the global generator was moved"
    assert 0 <= float(first.min()) < 0.01, "the tail has to begin at 0"
    assert 0.24 < float(first.max()) <= 0.25, "the tail has to end at its share"
    assert abs(float(first.mean()) - 0.125) < 0.005


@property_of("iqn")
def sampled_choice_has_the_mean_of_the_lower_tail() -> None:
    """On a network that gives the fraction itself as its quantile, CVaR of the tail is half the tail."""
    agent = small("iqn", risk="cvar", risk_parameter=0.4, num_choice_fractions=4_000)
    agent.q_network = Identity()
    seen = torch.zeros(3, 2, dtype=torch.float64)
    for sampled in (True, False):
        scores = agent._choice(agent.q_network, seen, agent.risk, sampled)
        assert torch.allclose(scores.double(), torch.full((3, 3), 0.2, dtype=torch.float64), atol=0.01), scores


class Identity(torch.nn.Module):
    def forward(self, observation: Tensor, fractions: Tensor) -> Tensor:
        return fractions.unsqueeze(1).expand(-1, 3, -1)


# Choice


@property_of("choice")
def the_lower_tail_mean_is_that_of_metrics() -> None:
    generator = np.random.default_rng(0)
    for count, tail in ((1, 0.3), (7, 0.3), (10, 0.25), (10, 0.3), (200, 0.1), (7, 1.0), (4, 0.01)):
        values = generator.normal(size=count)  # not in order: quantiles may cross
        found = float(risk_choice.lower_tail_mean(torch.tensor(values), tail))
        assert abs(found - return_conditional_value_at_risk(values, tail)) < 1e-9, (count, tail)
        weights = generator.random(count)
        weights /= weights.sum()
        found = float(risk_choice.lower_tail_mean(torch.tensor(values), tail, torch.tensor(weights)))
        assert abs(found + conditional_value_at_risk(-values, 1 - tail, weights)) < 1e-9, (count, tail)


@property_of("choice")
def the_entropic_value_is_that_of_metrics() -> None:
    generator = np.random.default_rng(0)
    for count, beta in ((1, 0.3), (7, 0.01), (10, 2.0), (200, 30.0)):
        values, weights = 20 * generator.normal(size=count), generator.random(count)
        weights /= weights.sum()
        found = float(risk_choice.entropic_value(torch.tensor(values), beta))
        assert abs(found + entropic_risk(-values, beta)) < 1e-8, (count, beta)
        found = float(risk_choice.entropic_value(torch.tensor(values), beta, torch.tensor(weights)))
        assert abs(found + entropic_risk(-values, beta, weights)) < 1e-8, (count, beta)


@property_of("choice")
def the_mean_weighs_the_atoms() -> None:
    values, weights = torch.tensor([1.0, 5.0]), torch.tensor([0.75, 0.25])
    assert float(risk_choice.mean_value(values)) == 3.0
    assert float(risk_choice.mean_value(values, weights)) == 2.0


@property_of("choice")
def an_averse_agent_takes_the_sure_arm() -> None:
    """Action 0 pays 2 for sure, action 1 pays 6 or −1 alike, 2.5 on average."""
    batch = one_state_batch([0, 0, 1, 1], [2.0, 2.0, 6.0, -1.0])
    observations, actions = gym.spaces.Box(-1, 1, (1,), dtype=np.float32), gym.spaces.Discrete(2)
    learned = {"qrdqn": {"num_quantiles": 8}, "iqn": {"num_cosines": 16}}
    learned |= {"c51": {"num_atoms": 8, "value_min": -1.0, "value_max": 6.0}}
    for algorithm in AGENTS:
        config = CLASSES[algorithm].config_class(hidden_sizes=(32,), **learned[algorithm])
        agent = CLASSES[algorithm](observations, actions, config, seed=0)
        fit(agent, batch, 200, 0.03)
        for measure, parameter, best in (("mean", 1.0, 1), ("cvar", 0.5, 0), ("cvar", 1.0, 1), ("entropic", 1.0, 0)):
            chosen = int(agent.with_risk(measure, parameter).act(ONE, deterministic=True)[0])
            assert chosen == best, f"{algorithm} with {measure} {parameter} takes {chosen}"


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


def test_every_algorithm_has_at_least_four_faults_and_no_property_is_idle():
    number = collections.Counter(fault.algorithm for fault in FAULTS.values())
    assert all(number[algorithm] >= 4 for algorithm in PROPERTIES), number
    failed = {f"{fault.algorithm}-{name}" for fault in FAULTS.values() for name in fault.caught_by}
    named = {case.split("-", 1)[1] for case in failed}
    idle = {name for properties in PROPERTIES.values() for name in properties} - named
    assert not idle, f"no planted fault shows that these can fail: {idle}"
    assert failed <= CASES.keys()


# The contract, saving, bad input


@pytest.mark.parametrize(
    "cls, config",
    [
        (qr_dqn.QRDQN, qr_dqn.QRDQNConfig(hidden_sizes=(16, 16), num_quantiles=16)),
        (qr_dqn.QRDQN, qr_dqn.QRDQNConfig(hidden_sizes=(16,), num_quantiles=5, risk="cvar", risk_parameter=0.3)),
        (c51.C51, c51.C51Config(hidden_sizes=(16, 16))),
        (iqn.IQN, iqn.IQNConfig(hidden_sizes=(16, 16), num_fractions=8, num_target_fractions=8)),
    ],
    ids=["qrdqn", "qrdqn-cvar", "c51", "iqn"],
)
def test_agents_pass_the_suite(cls, config):
    check_agent(cls, config)


@pytest.mark.parametrize("algorithm", AGENTS)
def test_a_copy_with_another_risk_has_the_same_networks_and_is_saved_with_its_risk(algorithm, tmp_path):
    agent = small(algorithm).float()
    copy = agent.with_risk("cvar", 0.2)
    assert copy.config == replace(agent.config, risk="cvar", risk_parameter=0.2)
    for name, value in weights(agent).items():
        assert torch.equal(value, weights(copy)[name])
    observation = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    assert not np.array_equal(
        agent._scores(torch.tensor(observation)).detach(), copy._scores(torch.tensor(observation)).detach()
    )
    copy.save(tmp_path / "copy")
    blank = type(agent)(
        agent.observation_space, agent.action_space, copy.config, normalizer=agent.normalizer, seed=9
    ).load(tmp_path / "copy")
    assert np.array_equal(blank.act(observation, deterministic=True), copy.act(observation, deterministic=True))


def test_a_return_distribution_is_in_order_and_sums_to_one():
    observation = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    for algorithm in AGENTS:
        agent = small(algorithm).float()
        values, probabilities = agent.return_distribution(observation)
        assert values.shape == probabilities.shape == (6, 3, values.shape[2])
        assert (np.diff(values, axis=-1) >= 0).all()
        np.testing.assert_allclose(probabilities.sum(axis=-1), 1, atol=1e-6)
        if algorithm != "iqn":
            wanted = agent._q_values(torch.tensor(observation)).detach()
            np.testing.assert_allclose((values * probabilities).sum(axis=-1), wanted, atol=1e-5)


def test_sampled_choice_obeys_masks_and_repeats_with_its_seed():
    observation = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    first, second = (small("iqn", sampled_choice=True, exploration=0.0).float() for _ in range(2))
    assert np.array_equal(first.act(observation), second.act(observation))
    mask = np.zeros((40, 3), dtype=bool)
    mask[:, 1] = True
    assert (first.act(observation, mask=mask) == 1).all()


@given(
    st.lists(st.integers(-20, 20), min_size=1, max_size=12),
    st.floats(0.02, 1.0),
    st.floats(0.01, 5.0),
    st.integers(-9, 9),
)
@settings(max_examples=40, deadline=None)
def test_choices_are_at_most_the_mean_and_move_with_a_sure_gain(returns, tail, beta, gain):
    values = torch.tensor(returns, dtype=torch.float64)
    for risk in (RiskChoice("cvar", tail), RiskChoice("entropic", beta)):
        score = float(risk(values))
        assert score <= float(values.mean()) + 1e-9
        assert float(risk(values + gain)) == pytest.approx(score + gain, abs=1e-8)


@pytest.mark.parametrize("tail", [0.0, -0.1, 1.2, math.nan])
def test_a_tail_outside_its_range_is_refused_everywhere(tail):
    message = rf"tail must lie in \(0, 1\], got {tail}"
    with pytest.raises(ValueError, match=message):
        risk_choice.lower_tail_mean(torch.zeros(3), tail)
    with pytest.raises(ValueError, match=message):
        RiskChoice("cvar", tail)
    with pytest.raises(ValueError, match=message):
        qr_dqn.QRDQNConfig(risk="cvar", risk_parameter=tail)
    with pytest.raises(ValueError, match=message):
        small("c51").with_risk("cvar", tail)
    with pytest.raises(ValueError, match=rf"upper must lie in \(0, 1\], got {tail}"):
        iqn.sampled_fractions(2, 3, tail, torch.Generator())


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: RiskChoice("variance"), "risk must be one of mean, cvar, entropic, got 'variance'"),
        (lambda: RiskChoice("entropic", 0.0), "beta must be positive and finite, got 0.0"),
        (lambda: risk_choice.entropic_value(torch.zeros(2), math.inf), "beta must be positive and finite, got inf"),
        (lambda: qr_dqn.QRDQNConfig(num_quantiles=0), "num_quantiles must be an integer of at least 1, got 0"),
        (lambda: qr_dqn.QRDQNConfig(kappa=0.0), "kappa must be positive and finite, got 0.0"),
        (lambda: iqn.IQNConfig(num_cosines=0), "num_cosines must be an integer of at least 1, got 0"),
        (lambda: iqn.IQNConfig(kappa=math.inf), "kappa must be positive and finite, got inf"),
        (lambda: c51.C51Config(num_atoms=1), "num_atoms must be an integer of at least 2, got 1"),
        (lambda: c51.C51Config(value_min=3.0, value_max=3.0), "value_min must be under value_max, 3.0, got 3.0"),
        (lambda: c51.C51Config(value_max=math.inf), "value_max must be finite, got inf"),
        (lambda: qr_dqn.quantile_huber_loss(torch.zeros(2, 3), torch.zeros(3, 3)), "shapes .* got .2, 3. and .3, 3."),
        (lambda: qr_dqn.quantile_huber_loss(torch.zeros(2, 3), torch.zeros(2, 0)), "none empty"),
        (lambda: qr_dqn.quantile_huber_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(4)), "fractions must"),
        (lambda: qr_dqn.quantile_huber_loss(torch.zeros(2, 3), torch.zeros(2, 3), kappa=-1.0), "kappa must be"),
    ],
)  # fmt: skip
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
