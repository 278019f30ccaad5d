"""What must hold of AWR and BCQ with continuous actions, each property a function that raises AssertionError if not.

``test_continuous_awr.py`` and ``test_continuous_bcq.py`` run every one of them on the healthy code,
``test_continuous_faults.py`` on faulty code. The code under test is always looked up in its module.
"""

from collections.abc import Callable

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

import ca14lib.agents.offline.awr as awr
import ca14lib.agents.offline.bcq as bcq
from ca14lib.agents import Agent
from ca14lib.data import Normalizer, OfflineDataset, Transitions
from tests.agents.properties import assert_same, weights
from tests.agents.reference import changed, small_batch

Property = Callable[[], None]
PROPERTIES: dict[str, dict[str, Property]] = {"awr": {}, "bcq": {}}

OBSERVATIONS = gym.spaces.Box(-10, 10, (2,), dtype=np.float32)
ACTIONS = gym.spaces.Box(np.array([-2, 0], np.float32), np.array([1, 3], np.float32))
SETTINGS: dict[str, dict[str, object]] = {
    "awr": {"temperature": 0.7, "max_weight": 1.5},
    "bcq": {"target_rate": 0.3, "max_perturbation": 0.2, "target_samples": 4, "min_weight": 0.6},
}
SAMPLES = 4


def property_of(*algorithms: str) -> Callable[[Property], Property]:
    def register(check: Property) -> Property:
        for algorithm in algorithms:
            PROPERTIES[algorithm][check.__name__.replace("_", "-")] = check
        return check

    return register


def each(*algorithms: str) -> Callable[[Callable[[str], None]], Callable[[str], None]]:
    def register(check: Callable[[str], None]) -> Callable[[str], None]:
        for algorithm in algorithms:
            PROPERTIES[algorithm][check.__name__.replace("_", "-")] = lambda a=algorithm: check(a)
        return check

    return register


def agent_class(algorithm: str) -> type[Agent]:
    return {"awr": awr.AWR, "bcq": bcq.BCQ}[algorithm]


def small_agent(algorithm: str, seed: int = 2, **settings: object) -> Agent:
    """An agent in double precision with a normalizer, whose target networks differ from the trained ones."""
    cls = agent_class(algorithm)
    config = cls.config_class(
        **{"hidden_sizes": (5,), "learning_rate": 0.01, "discount": 0.9} | SETTINGS[algorithm] | settings
    )
    normalizer = Normalizer(torch.tensor([0.5, -1.0]), torch.tensor([2.0, 0.5]))
    agent = cls(OBSERVATIONS, ACTIONS, config, normalizer=normalizer, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in agent.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise if not parameter.requires_grad else 0.5 * noise)
    return agent


def batch_of(seed: int = 0) -> Transitions:
    generator = torch.Generator().manual_seed(seed)
    unit = 2 * torch.rand(12, 2, generator=generator, dtype=torch.float64) - 1
    return changed(small_batch(seed), action=torch.tensor([-0.5, 1.5]) + 1.5 * unit)


class Reference:
    """Copies of an agent's weights, trained by the methods below with plain autograd and plain Adam."""

    def __init__(self, agent: Agent) -> None:
        self.config = agent.config
        self.weights = {name: value.detach().clone() for name, value in agent.named_parameters()}
        self.shift, self.scale = agent.normalizer.mean.clone(), agent.normalizer.scale.clone()
        self.generator = torch.Generator()
        self.generator.set_state(agent.generator.get_state())
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    def net(self, name: str, *inputs: Tensor) -> Tensor:
        hidden = torch.cat(inputs, dim=-1) @ self.weights[f"{name}.0.weight"].T + self.weights[f"{name}.0.bias"]
        return hidden.clamp(min=0) @ self.weights[f"{name}.2.weight"].T + self.weights[f"{name}.2.bias"]

    def observe(self, observation: Tensor) -> Tensor:
        return (observation - self.shift) * self.scale

    def noise(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def descend(self, name: str, loss: Callable[[], Tensor]) -> Tensor:
        trained = [value for key, value in self.weights.items() if key.startswith(f"{name}.")]
        for value in trained:
            value.requires_grad_(True)
        if name not in self.optimizers:
            self.optimizers[name] = torch.optim.Adam(trained, lr=self.config.learning_rate)
        value = loss()
        for parameter, gradient in zip(trained, torch.autograd.grad(value, trained), strict=True):
            parameter.grad = gradient
        self.optimizers[name].step()
        for parameter in trained:
            parameter.requires_grad_(False)
        return value.detach()

    def follow(self, target: str, source: str) -> None:
        rate = self.config.target_rate
        for key, value in self.weights.items():
            if key.startswith(f"{target}."):
                self.weights[key] = (1 - rate) * value + rate * self.weights[source + key.removeprefix(target)]

    def awr(self, batch: Transitions) -> dict[str, Tensor]:
        size, config, observation = len(batch), self.config, self.observe(batch.observation)
        unit = (batch.action - torch.tensor([-0.5, 1.5])) / 1.5
        target = batch.value_target
        if target is None:
            following = self.net("value", self.observe(batch.next_observation))[:, 0]
            target = batch.reward + config.discount * torch.where(batch.terminated, 0.0, 1.0) * following

        def value_loss() -> Tensor:
            return 0.5 * ((target - self.net("value", observation)[:, 0]) ** 2).sum() / size

        terms = {"value_loss": self.descend("value", value_loss)}
        advantage = target - self.net("value", observation)[:, 0]
        mean = advantage.sum() / size
        spread = (((advantage - mean) ** 2).sum() / size) ** 0.5
        weight = torch.exp((advantage - mean) / (spread + 1e-5) / config.temperature).clamp(max=config.max_weight)
        assert weight.min() < config.max_weight == weight.max(), "the case needs weights on both sides of the clip"

        def policy_loss() -> Tensor:
            total, std = 0.0, self.weights["policy.log_std"].exp()
            for i in range(size):
                center = torch.tanh(self.net("policy.network", observation[i]))
                density = torch.exp(-0.5 * ((unit[i] - center) / std) ** 2) / (std * np.sqrt(2 * np.pi))
                total = total - weight[i] * torch.log(density).sum()
            return total / size

        terms["policy_loss"] = self.descend("policy", policy_loss)
        terms["weight"] = weight.sum() / size
        return terms

    def perturbed(self, name: str, observation: Tensor, action: Tensor) -> Tensor:
        moved = action + self.config.max_perturbation * torch.tanh(self.net(name, observation, action))
        return moved.clamp(-1, 1)

    def bcq(self, batch: Transitions) -> dict[str, Tensor]:
        size, config, observation = len(batch), self.config, self.observe(batch.observation)
        unit = (batch.action - torch.tensor([-0.5, 1.5])) / 1.5
        noise = self.noise(size, 4)

        def behaviour_loss() -> Tensor:
            code = self.net("behaviour.encoder", observation, unit)
            mean, log_std = code[:, :4], code[:, 4:].clamp(-4, 15)
            decoded = torch.tanh(self.net("behaviour.decoder", observation, mean + torch.exp(log_std) * noise))
            variance = torch.exp(log_std) ** 2
            divergence = 0.5 * (mean**2 + variance - 1 - torch.log(variance)).sum() / (4 * size)
            return ((decoded - unit) ** 2).sum() / (2 * size) + config.divergence_weight * divergence

        terms = {"behaviour_loss": self.descend("behaviour", behaviour_loss)}
        codes, target = self.noise(size, SAMPLES, 4).clamp(-0.5, 0.5), []
        for i in range(size):
            following, best = self.observe(batch.next_observation[i]), -torch.inf
            for code in codes[i]:
                action = torch.tanh(self.net("behaviour.decoder", following, code))
                action = self.perturbed("target_perturbation", following, action)
                values = [self.net(f"target_critic.{k}", following, action)[0] for k in ("first", "second")]
                best = max(best, config.min_weight * min(values) + (1 - config.min_weight) * max(values))
            target.append(batch.reward[i] + config.discount * (1 - int(batch.terminated[i])) * best)
        target = torch.stack(target)
        terms["q"] = self.net("critic.first", observation, unit).mean()

        def critic_loss() -> Tensor:
            errors = [target - self.net(f"critic.{k}", observation, unit)[:, 0] for k in ("first", "second")]
            return 0.5 * (errors[0] ** 2).mean() + 0.5 * (errors[1] ** 2).mean()

        terms["critic_loss"] = self.descend("critic", critic_loss)
        generated = torch.tanh(self.net("behaviour.decoder", observation, self.noise(size, 4).clamp(-0.5, 0.5)))

        def perturbation_loss() -> Tensor:
            return -self.net("critic.first", observation, self.perturbed("perturbation", observation, generated)).mean()

        terms["perturbation_loss"] = self.descend("perturbation", perturbation_loss)
        self.follow("target_critic", "critic")
        self.follow("target_perturbation", "perturbation")
        return terms


# What both share


@each("awr", "bcq")
def three_updates_equal_the_reference(algorithm: str) -> None:
    """Every parameter, trained or target, and everything logged."""
    agent = small_agent(algorithm)
    reference = Reference(agent)
    for number in range(3):
        logged = agent.update(batch_of(number))
        assert_same(logged, getattr(reference, algorithm)(batch_of(number)))
        assert_same(weights(agent), reference.weights)


@each("awr", "bcq")
def an_update_ignores_truncation(algorithm: str) -> None:
    first, second, batch = small_agent(algorithm), small_agent(algorithm), batch_of()
    first.update(batch)
    second.update(changed(batch, truncated=torch.zeros_like(batch.truncated)))
    assert_same(weights(first), weights(second), 0.0)


@each("awr", "bcq")
def an_update_ignores_what_follows_a_true_end(algorithm: str) -> None:
    first, second, third = (small_agent(algorithm) for _ in range(3))
    batch = batch_of()
    elsewhere = batch.next_observation + 1.0
    first.update(batch)
    second.update(changed(batch, next_observation=elsewhere.where(batch.terminated[:, None], batch.next_observation)))
    assert_same(weights(first), weights(second), 0.0)
    third.update(changed(batch, next_observation=elsewhere.where(batch.truncated[:, None], batch.next_observation)))
    moved = [not torch.equal(value, weights(third)[name]) for name, value in weights(first).items()]
    assert any(moved), "what follows a cut must count"


def one_state_batch(action: list[float], reward: list[float]) -> Transitions:
    """One-step episodes that all start in the same state; the whole batch is the dataset."""
    size = len(action)
    return Transitions(
        observation=torch.ones(size, 1),
        action=torch.tensor(action).unsqueeze(1),
        reward=torch.tensor(reward),
        cost=torch.zeros(size, 0),
        next_observation=torch.zeros(size, 1),
        terminated=torch.ones(size, dtype=torch.bool),
        truncated=torch.zeros(size, dtype=torch.bool),
    )


def fitted(algorithm: str, batch: Transitions, updates: int, **settings: object) -> Agent:
    """An agent trained on the same batch again and again, with a decaying step size; actions lie in [−1, 1]."""
    cls = agent_class(algorithm)
    config = cls.config_class(**{"hidden_sizes": (16,), "learning_rate": 0.02} | settings)
    agent = cls(gym.spaces.Box(0, 1, (1,)), gym.spaces.Box(-1, 1, (1,)), config, seed=0)
    for number in range(updates):
        for optimizer in agent.optimizers.values():
            optimizer.param_groups[0]["lr"] = 0.02 * (1 - number / updates)
        agent.update(batch)
    return agent


# Advantage-weighted regression


@property_of("awr")
def labelled_updates_equal_the_reference() -> None:
    agent = small_agent("awr")
    reference = Reference(agent)
    for number in range(3):
        batch = batch_of(number)
        batch = changed(batch, value_target=batch.reward.roll(1) - batch.observation[:, 0])
        assert_same(agent.update(batch), reference.awr(batch))
        assert_same(weights(agent), reference.weights)


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
    agent = fitted("awr", one_state_batch(action.tolist(), reward.tolist()), 500, temperature=0.8)
    weight = np.exp((reward - reward.mean()) / reward.std() / 0.8)
    mean = weight @ action / weight.sum()
    deviation = np.sqrt(weight @ (action - mean) ** 2 / weight.sum())
    found = agent.act(np.ones((1, 1), np.float32), deterministic=True).item()
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
    agent = small_agent("bcq")
    agent.behaviour.decode = lambda observation, code: code
    code = agent._generate(torch.zeros(5_000, 2, dtype=torch.float64))
    assert code.shape == (5_000, 4), "the code has twice the action's dimension"
    assert code.abs().max() == 0.5
    share = (code.abs() == 0.5).double().mean().item()
    assert abs(share - 0.617) < 0.02, f"{share:.3f} of the codes are clipped, of standard normals 0.617 are"
    assert agent.fixed_codes.abs().max() == 0.5


@property_of("bcq")
def the_width_of_the_code_is_clamped() -> None:
    agent = small_agent("bcq")
    with torch.no_grad():
        agent.behaviour.encoder[-1].bias[4:] += torch.tensor([1e3, -1e3, 1e3, -1e3])
    log_std = agent.behaviour.encode(torch.zeros(3, 2).double(), torch.zeros(3, 2).double())[1]
    assert log_std.tolist() == [[15.0, -4.0, 15.0, -4.0]] * 3


@property_of("bcq")
def both_targets_follow_by_polyak_and_get_no_gradient() -> None:
    agent = small_agent("bcq")
    for target, source in (("target_critic.", "critic."), ("target_perturbation.", "perturbation.")):
        before = weights(agent, target)
        agent.update(batch_of())
        after = weights(agent, source)
        expected = {name: 0.7 * old + 0.3 * after[source + name.removeprefix(target)] for name, old in before.items()}
        assert_same(weights(agent, target), expected)
    for name, parameter in agent.named_parameters():
        if name.startswith("target_"):
            assert parameter.grad is None, f"{name} got a gradient"
            assert not parameter.requires_grad, f"{name} asks for a gradient"


@property_of("bcq")
def the_action_taken_is_the_best_by_the_first_critic() -> None:
    agent = small_agent("bcq", acting_samples=50)
    raw = batch_of().observation.float()
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
    batch = one_state_batch(action.tolist(), action.tolist())
    agent = fitted("bcq", batch, 400, hidden_sizes=(32,), divergence_weight=0.05)
    for deterministic in (True, False):
        taken = agent.act(np.ones((50, 1), np.float32), deterministic=deterministic)
        assert taken.max() < 0.45, f"actions up to {taken.max()} are outside the data"
        assert taken.mean() > 0.0, f"mean action {taken.mean()}: no better than the behaviour's {action.mean()}"
