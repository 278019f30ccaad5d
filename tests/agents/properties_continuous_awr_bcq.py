"""What must hold of AWR and BCQ with continuous actions: see ``properties.py``."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import torch

import ca14lib.agents.offline.awr as awr
import ca14lib.agents.offline.bcq as bcq
from ca14lib.agents import Agent
from ca14lib.data import OfflineDataset, Transitions
from tests.agents.properties import (
    ONE,
    assert_follows,
    assert_same,
    assert_truncation_is_ignored,
    assert_what_follows_a_true_end_is_ignored,
    fit,
    one_state_batch,
    property_table,
)
from tests.agents.reference import weights
from tests.agents.reference_continuous import Reference, small_agent, small_batch

PROPERTIES, property_of, each = property_table("awr", "bcq")

SETTINGS: dict[str, dict[str, object]] = {
    "awr": {"temperature": 0.7, "max_weight": 1.5},
    "bcq": {"target_rate": 0.3, "max_perturbation": 0.2, "target_samples": 4, "min_weight": 0.6},
}


def agent_class(algorithm: str) -> type[Agent]:
    return {"awr": awr.AWR, "bcq": bcq.BCQ}[algorithm]


def small(algorithm: str, **settings: object) -> Agent:
    return small_agent(agent_class(algorithm), **(SETTINGS[algorithm] | settings))


# What both share


@each("awr", "bcq")
def three_updates_equal_the_reference(algorithm: str) -> None:
    agent = small(algorithm)
    assert_follows(agent, Reference(agent), algorithm, map(small_batch, range(3)))


@each("awr", "bcq")
def an_update_ignores_truncation(algorithm: str) -> None:
    assert_truncation_is_ignored(lambda: small(algorithm), [small_batch()])


@each("awr", "bcq")
def an_update_ignores_what_follows_a_true_end(algorithm: str) -> None:
    assert_what_follows_a_true_end_is_ignored(lambda: small(algorithm), small_batch())


def fitted(algorithm: str, batch: Transitions, updates: int, **settings: object) -> Agent:
    """An agent trained on the same batch again and again, with a decaying step size; actions lie in [−1, 1]."""
    cls = agent_class(algorithm)
    config = cls.config_class(**{"hidden_sizes": (16,), "learning_rate": 0.02} | settings)
    agent = cls(gym.spaces.Box(0, 1, (1,)), gym.spaces.Box(-1, 1, (1,)), config, seed=0)
    fit(agent, batch, updates, 0.02)
    return agent


# Advantage-weighted regression


@property_of("awr")
def labelled_updates_equal_the_reference() -> None:
    agent, batches = small("awr"), map(small_batch, range(3))
    labelled = (replace(batch, value_target=batch.reward.roll(1) - batch.observation[:, 0]) for batch in batches)
    assert_follows(agent, Reference(agent), "awr", labelled)


@property_of("awr")
def labels_are_the_returns_of_the_recorded_episodes() -> None:
    """Episode by episode in plain Python, with the normalised observation in V and the value after a cut counted."""
    rng, lengths = np.random.default_rng(0), [3, 1, 4, 2]
    ends = np.cumsum(lengths) - 1
    position = rng.uniform(-1, 1, (11, 2)).astype(np.float32)
    terminated, truncated = np.zeros(10, bool), np.zeros(10, bool)
    terminated[ends[:2]], truncated[ends[2:]] = True, True
    data = OfflineDataset(
        position[:-1], rng.uniform(-2, 2, (10, 1)), rng.standard_normal(10), position[1:], terminated, truncated,
        observation_space=gym.spaces.Box(-1, 1, (2,)), action_space=gym.spaces.Box(-2, 2, (1,)),
    )  # fmt: skip
    config = awr.AWRConfig(hidden_sizes=(8,), discount=0.9, trace_decay=0.8)
    agent = awr.AWR(data.observation_space, data.action_space, config, normalizer=data.normalizer(), seed=1)
    found, expected = agent.relabel(data), np.zeros(10)
    with torch.no_grad():
        value = agent.value(data.normalizer()(data.transitions.next_observation)).double().numpy()[:, 0]
    for episode in data.episode_slices:
        following = 0.0 if terminated[episode.stop - 1] else value[episode.stop - 1]
        for t in reversed(range(episode.start, episode.stop)):
            expected[t] = float(data.transitions.reward[t]) + 0.9 * following
            following = 0.2 * value[t - 1] + 0.8 * expected[t]
    assert np.allclose(found.numpy(), expected, atol=1e-5)


@property_of("awr")
def mean_and_deviation_of_the_policy_are_those_of_the_weighted_actions() -> None:
    """One state: the Gaussian of largest weighted likelihood."""
    reward, action = np.array([0.0, 1.0, 0.5, 0.0]), np.array([-0.8, 0.6, 0.2, -0.2])
    agent = fitted("awr", one_state_batch(action, reward), 500, temperature=0.8)
    weight = np.exp((reward - reward.mean()) / reward.std() / 0.8)
    mean = weight @ action / weight.sum()
    deviation = np.sqrt(weight @ (action - mean) ** 2 / weight.sum())
    found = agent.act(ONE, deterministic=True).item()
    assert abs(found - mean) < 0.02, f"mean {found}, should be {mean}"
    found = agent.policy.log_std.exp().item()
    assert abs(found - deviation) < 0.02, f"deviation {found}, should be {deviation}"


# Batch-constrained Q-learning


@property_of("bcq")
def generator_loss_is_squared_error_plus_divergence_from_a_standard_normal() -> None:
    generator = torch.Generator().manual_seed(0)
    decoded, action = (torch.randn(5, 2, generator=generator, dtype=torch.float64) for _ in range(2))
    mean, log_std = (torch.randn(5, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    code = torch.distributions.Normal(mean, log_std.exp())
    divergence = torch.distributions.kl_divergence(code, torch.distributions.Normal(0.0, 1.0)).mean()
    wanted = ((decoded - action) ** 2).mean() + 0.3 * divergence
    torch.testing.assert_close(bcq.generator_loss(decoded, action, mean, log_std, 0.3), wanted)
    zero = torch.zeros(5, 4)
    assert bcq.generator_loss(action, action, zero, zero, 0.5).item() == 0.0


@property_of("bcq")
def soft_clipped_value_lies_between_the_critics_nearer_the_lesser() -> None:
    first, second = torch.tensor([1.0, 4.0, 2.0]), torch.tensor([5.0, 0.0, 2.0])
    assert bcq.soft_clipped_value(first, second, 0.75).tolist() == [2.0, 1.0, 2.0]
    assert bcq.soft_clipped_value(first, second, 1.0).tolist() == [1.0, 0.0, 2.0]


@property_of("bcq")
def perturbations_are_small_and_stay_inside() -> None:
    action = torch.tensor([[0.0, 0.99], [-1.0, 0.5]])
    found = bcq.perturbed_action(action, torch.tensor([[1e3, 1e3], [-1e3, 0.0]]), 0.05)
    torch.testing.assert_close(found, torch.tensor([[0.05, 1.0], [-1.0, 0.5]]))
    found = bcq.perturbed_action(torch.zeros(1, 1), torch.tensor([[0.5]]), 0.05)
    assert abs(found.item() - 0.05 * np.tanh(0.5)) < 1e-7


@property_of("bcq")
def codes_of_new_actions_are_clipped_standard_normals() -> None:
    agent = small("bcq")
    agent.behaviour.decode = lambda observation, code: code
    code = agent._generate(torch.zeros(5_000, 3, dtype=torch.float64))
    assert code.shape == (5_000, 4), "the code has twice the action's dimension"
    assert code.abs().max() == 0.5
    share = (code.abs() == 0.5).double().mean().item()
    assert abs(share - 0.617) < 0.02, f"{share:.3f} of the codes are clipped, of standard normals 0.617 are"
    assert agent.fixed_codes.abs().max() == 0.5


@property_of("bcq")
def the_width_of_the_code_is_clamped() -> None:
    agent = small("bcq")
    with torch.no_grad():
        agent.behaviour.encoder[-1].bias[4:] += torch.tensor([1e3, -1e3, 1e3, -1e3])
    log_std = agent.behaviour.encode(torch.zeros(5, 3).double(), torch.zeros(5, 2).double())[1]
    assert log_std.tolist() == [[15.0, -4.0, 15.0, -4.0]] * 5


@property_of("bcq")
def both_targets_follow_by_polyak_and_get_no_gradient() -> None:
    agent = small("bcq")
    for target, source in (("target_critic.", "critic."), ("target_perturbation.", "perturbation.")):
        before = weights(agent, target)
        agent.update(small_batch())
        after = weights(agent, source)
        expected = {name: 0.7 * old + 0.3 * after[source + name.removeprefix(target)] for name, old in before.items()}
        assert_same(weights(agent, target), expected)
    for name, parameter in agent.named_parameters():
        if name.startswith("target_"):
            assert parameter.grad is None, f"{name} got a gradient"
            assert not parameter.requires_grad, f"{name} asks for a gradient"


@property_of("bcq")
def the_action_taken_is_the_best_by_the_first_critic() -> None:
    agent = small("bcq", acting_samples=50)
    raw = small_batch().observation.float()
    observation = agent._input(raw.double())
    with torch.no_grad():
        taken = agent._unit_action(raw.double(), deterministic=True)
        rows = observation.unsqueeze(1).expand(-1, 50, -1)
        generated = agent.behaviour.decode(rows, agent.fixed_codes.expand(12, -1, -1))
        move = agent.perturbation(torch.cat([rows, generated], dim=-1)).tanh()
        candidates = (generated + 0.2 * move).clamp(-1, 1)
        first, second = agent.critic(rows, candidates)
    best = candidates[torch.arange(12), first.argmax(dim=1)]
    assert (first.argmax(dim=1) != second.argmax(dim=1)).any(), "the case needs critics that disagree"
    torch.testing.assert_close(taken, best)


@property_of("bcq")
def learned_actions_stay_within_the_data() -> None:
    """Reward grows with the action, the data end at 0.3: the policy goes to their end and not to the bound of 1."""
    action = np.linspace(-0.7, 0.3, 64)
    batch = one_state_batch(action, action)
    agent = fitted("bcq", batch, 400, hidden_sizes=(32,), divergence_weight=0.05)
    for deterministic in (True, False):
        taken = agent.act(np.ones((50, 1), np.float32), deterministic=deterministic)
        assert taken.max() < 0.45, f"actions up to {taken.max()} are outside the data"
        assert taken.mean() > 0.0, f"mean action {taken.mean()}: no better than the behaviour's {action.mean()}"
