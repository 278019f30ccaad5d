"""What all agents with continuous actions share: spaces, settings, files, and a ``check_agent`` that sees faults."""

import dataclasses
import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from ca14lib.agents import SAC, SACConfig, check_agent, load_agent
from ca14lib.agents.base import Agent
from ca14lib.agents.check import random_batch
from ca14lib.agents.offline import BC, CQL, IQL, TD3BC, BCConfig, CQLConfig, IQLConfig, TD3BCConfig
from ca14lib.networks import SquashedGaussianPolicy, frozen

AGENTS = (SAC, TD3BC, CQL, IQL, BC)
BOX, ACTIONS = gym.spaces.Box(-10, 10, (3,), np.float32), gym.spaces.Box(-2, 3, (2,), np.float32)


def agent_for(cls, observations=BOX, actions=ACTIONS, seed=0, **settings):
    return cls(observations, actions, cls.config_class(**{"hidden_sizes": (8,)} | settings), seed=seed)


def same(first, second):
    a, b = first.state()[0], second.state()[0]
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# Spaces


@pytest.mark.parametrize("cls", AGENTS)
@pytest.mark.parametrize(
    "actions",
    [
        gym.spaces.Discrete(3), gym.spaces.MultiDiscrete([2, 2]), gym.spaces.Box(-np.inf, 1, (2,), np.float32),
        gym.spaces.Box(-1, np.inf, (2,), np.float32), gym.spaces.Box(-1, 1, (2, 2), np.float32),
        gym.spaces.Box(-1, 1, (), np.float32), gym.spaces.Box(np.array([-1, 2]), np.array([1, 2]), dtype=np.float32),
        gym.spaces.Box(0, 5, (2,), np.int64),
    ],
)  # fmt: skip
def test_action_spaces_that_are_no_bounded_row_of_reals_are_refused(cls, actions):
    with pytest.raises(ValueError, match="bounded Box action space"):
        agent_for(cls, actions=actions)


@pytest.mark.parametrize("observations", [gym.spaces.Discrete(3), gym.spaces.MultiBinary(3)])
def test_observation_spaces_that_are_no_box_are_refused(observations):
    with pytest.raises(ValueError, match="Box observation space"):
        agent_for(BC, observations)


@pytest.mark.parametrize("cls", AGENTS)
@pytest.mark.parametrize("shape", [(), (1,), (2, 3, 2)])
def test_observations_of_every_shape_are_rows_to_the_networks(cls, shape):
    space = gym.spaces.Box(-10, 10, shape, np.float32)
    agent, batch = agent_for(cls, space), random_batch(space, actions=ACTIONS)
    agent.update(batch)
    assert agent.act(batch.observation.numpy()).shape == (32, 2)
    assert agent.act(batch.observation[:0].numpy()).shape == (0, 2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("cls", AGENTS)
def test_actions_are_in_the_space_even_where_its_bounds_are_no_round_numbers(cls, dtype):
    low, high = np.array([-0.1, 0.3], dtype), np.array([0.7, 1 / 3], dtype)
    agent = agent_for(cls, actions=gym.spaces.Box(low, high, dtype=dtype))
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.mul_(50)
    observation = np.random.default_rng(0).normal(size=(200, 3)).astype(np.float32)
    for deterministic in (True, False):
        actions = agent.act(observation, deterministic=deterministic)
        assert all(agent.action_space.contains(action) for action in actions)
    assert np.ptp(actions[:, 0]) == pytest.approx(0.8, rel=1e-3), "the case needs actions at the bounds"


def test_masks_are_refused():
    for cls in AGENTS:
        with pytest.raises(ValueError, match="takes no mask"):
            agent_for(cls).act(np.zeros((1, 3)), mask=np.ones((1, 2), bool))


def test_no_agent_needs_an_accelerator():
    for cls in AGENTS:
        assert {tensor.device.type for tensor in agent_for(cls).state_dict().values()} == {"cpu"}


def test_frozen_networks_thaw_even_after_an_error():
    agent = agent_for(SAC)
    for parameter in agent.critic.second.parameters():
        parameter.requires_grad_(False)
    before = [parameter.requires_grad for parameter in agent.critic.parameters()]

    def fail():
        with frozen(agent.critic):
            assert not any(parameter.requires_grad for parameter in agent.critic.parameters())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [parameter.requires_grad for parameter in agent.critic.parameters()] == before


def test_twin_critics_start_apart_and_targets_as_copies():
    for cls in (SAC, TD3BC, CQL, IQL):
        agent = agent_for(cls)
        first, second = (list(twin.parameters()) for twin in (agent.critic.first, agent.critic.second))
        assert not torch.equal(first[0], second[0]), cls
        for name, parameter in agent.named_parameters():
            if name.startswith("target_"):
                assert torch.equal(parameter, agent.get_parameter(name.removeprefix("target_")))


def test_the_log_deviation_stays_in_its_range():
    policy = SquashedGaussianPolicy(BOX, 2, (4,), (-3.0, 1.0))
    mean, log_std = policy.parameters_of(1e4 * torch.randn(100, 3, generator=torch.Generator().manual_seed(0)))
    assert mean.shape == log_std.shape == (100, 2)
    assert (log_std.min(), log_std.max()) == (-3, 1)


# Settings


@pytest.mark.parametrize(
    "config, field, value",
    [
        (SACConfig, "target_rate", 0.0), (SACConfig, "target_rate", 1.1), (SACConfig, "initial_temperature", 0.0),
        (SACConfig, "initial_temperature", math.inf), (SACConfig, "entropy_per_dimension", -math.inf),
        (SACConfig, "entropy_per_dimension", math.nan), (SACConfig, "discount", 0.0),
        (CQLConfig, "policy_learning_rate", 0.0), (CQLConfig, "conservative_weight", -1.0),
        (CQLConfig, "conservative_weight", math.inf), (CQLConfig, "sampled_actions", 0),
        (CQLConfig, "lagrange_threshold", math.inf), (CQLConfig, "lagrange_threshold", math.nan),
        (TD3BCConfig, "value_weight", -0.1), (TD3BCConfig, "value_weight", math.nan), (TD3BCConfig, "policy_delay", 0),
        (TD3BCConfig, "target_noise", -0.1), (TD3BCConfig, "noise_clip", -0.1), (TD3BCConfig, "noise_clip", math.inf),
        (IQLConfig, "expectile", 1.0), (IQLConfig, "expectile", 0.0), (IQLConfig, "temperature", -1.0),
        (IQLConfig, "max_weight", 0.0), (IQLConfig, "policy_decay_updates", -1), (BCConfig, "learning_rate", 0.0),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused_by_name(config, field, value):
    with pytest.raises(ValueError, match=f"{field} must be .*{value}"):
        config(**{field: value})


def test_a_threshold_needs_a_weight_to_start_from():
    with pytest.raises(ValueError, match="lagrange_threshold"):
        CQLConfig(lagrange_threshold=1.0, conservative_weight=0.0)


# Files


@pytest.mark.parametrize(
    "cls, settings",
    [
        (SAC, {}), (TD3BC, {"policy_delay": 3}), (CQL, {}), (CQL, {"lagrange_threshold": 1.0}), (IQL, {}),
        (IQL, {"policy_decay_updates": 10}), (BC, {}),
    ],
)  # fmt: skip
def test_a_loaded_agent_goes_on_to_the_same_bits(cls, settings, tmp_path):
    """Also between two delayed updates of the policy, and in the middle of a schedule."""
    agent = agent_for(cls, **settings)
    for number in range(4):
        agent.update(random_batch(BOX, seed=number, actions=ACTIONS))
    agent.save(tmp_path / "agent")
    loaded = load_agent(tmp_path / "agent")
    other = agent_for(cls, seed=9, **settings).load(tmp_path / "agent")
    for number in range(4, 10):
        logs = [one.update(random_batch(BOX, seed=number, actions=ACTIONS)) for one in (agent, loaded, other)]
        assert all(torch.equal(logs[0][name], log[name]) for log in logs[1:] for name in logs[0])
    assert same(agent, loaded)
    assert same(agent, other)


def test_a_checkpoint_with_other_bounds_of_actions_is_refused(tmp_path):
    agent_for(SAC).save(tmp_path / "agent")
    other = agent_for(SAC, actions=gym.spaces.Box(-2, 4, (2,), np.float32))
    with pytest.raises(ValueError, match="action_space"):
        other.load(tmp_path / "agent")


# The public suite


@pytest.mark.parametrize(
    "cls, config",
    [
        (SAC, SACConfig(hidden_sizes=(8,), initial_temperature=0.1)),
        (TD3BC, TD3BCConfig(hidden_sizes=(8,), policy_delay=1)),
        (CQL, CQLConfig(hidden_sizes=(8,), sampled_actions=2, lagrange_threshold=1.0)),
        (IQL, IQLConfig(hidden_sizes=(8,), policy_decay_updates=5)),
    ],
)
def test_agents_pass_the_public_suite_with_other_settings(cls, config):
    check_agent(cls, config)


REASONS: dict[type[Agent], str] = {}


def broken(reason: str):
    """Register a broken agent with the text that check_agent's complaint must contain."""

    def register(mutant: type[Agent]) -> type[Agent]:
        REASONS[mutant] = reason
        return mutant

    return register


@broken("actions must lie in")
class ActsInUnitsOfTheNetwork(TD3BC):
    """Returns actions in [−1, 1] whatever the space is."""

    def _environment(self, unit):
        return unit

    def act(self, observation, *, mask=None, deterministic=False):
        super().act(observation, mask=mask, deterministic=deterministic)
        with torch.no_grad():
            return self._unit_action(self._observation_tensor(observation), deterministic).numpy()


@broken("units of the actions")
class LearnsRawActions(BC):
    """Takes the data's actions as if they were in [−1, 1]."""

    def _unit(self, action):
        return action


@broken("must not be random")
class AlwaysExplores(SAC):
    """Draws even when asked for the best action."""

    def _unit_action(self, observation, deterministic):
        return super()._unit_action(observation, False)


@broken("real numbers")
class ActsInIntegers(BC):
    """Rounds its actions."""

    def act(self, observation, *, mask=None, deterministic=False):
        return super().act(observation, mask=mask, deterministic=deterministic).astype(np.int64)


@broken("one action per observation")
class ActsInRows(BC):
    """Flattens the actions of a batch."""

    def act(self, observation, *, mask=None, deterministic=False):
        return super().act(observation, mask=mask, deterministic=deterministic).reshape(-1)


@broken("rest of its batch")
class LooksAtTheBatch(BC):
    """Centres the observations of a batch before acting."""

    def _unit_action(self, observation, deterministic):
        return super()._unit_action(observation - observation.mean(dim=0), deterministic)


@broken("same seed must draw the same actions")
class DrawsFromTheGlobalGenerator(IQL):
    """Its policy's noise comes from torch's global generator."""

    def _unit_action(self, observation, deterministic):
        mean = self.policy.best(self._input(observation))
        return mean if deterministic else mean + torch.randn(mean.shape)


@broken("truncated")
class EndsAtTimeLimits(CQL):
    """Takes a time limit for an end."""

    def update(self, batch):
        return super().update(dataclasses.replace(batch, terminated=batch.terminated | batch.truncated))


@broken("terminated")
class NeverEnds(SAC):
    """Bootstraps after a true end."""

    def update(self, batch):
        return super().update(dataclasses.replace(batch, terminated=torch.zeros_like(batch.terminated)))


@broken("normalizer")
class ForgetsItsNormalizer(IQL):
    """Its networks see raw observations."""

    def _input(self, observation):
        return observation.flatten(1)


@broken("changed batch.action")
class SpoilsTheBatch(TD3BC):
    """Rescales the batch in place."""

    def update(self, batch):
        batch.action.mul_(0.5)
        return super().update(batch)


@broken("in an optimiser: False")
class ForgetsTheTemperature(SAC):
    """Its temperature asks for a gradient, and no optimiser has it."""

    def _build(self):
        super()._build()
        del self.optimizers["temperature"]


@broken("a loaded agent must")
class ForgetsItsUpdates(TD3BC):
    """The count that the delay depends on is not restored."""

    def restore(self, tensors, metadata):
        super().restore(tensors, metadata)
        self.updates = 0


@broken("accepts a mask")
class TakesMasks(BC):
    """Ignores a mask without a word."""

    def act(self, observation, *, mask=None, deterministic=False):
        return super().act(observation, deterministic=deterministic)


@pytest.mark.parametrize("mutant", REASONS, ids=lambda mutant: mutant.__name__)
def test_a_broken_agent_is_refused_with_the_reason(mutant):
    with pytest.raises(AssertionError, match=REASONS[mutant]):
        check_agent(mutant)
