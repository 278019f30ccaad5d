"""The updates of the agents with continuous actions once more, from the papers' equations, with plain autograd.

Nothing here calls the package's algorithms, networks or densities. Random numbers are drawn from a copy of the agent's
generator, in the order in which the agent documents its draws. Everything else runs in double precision.
"""

import math

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from ca14lib.agents import Agent
from ca14lib.data import Normalizer, Transitions

OBSERVATIONS = gym.spaces.Box(-10, 10, (3,), dtype=np.float32)
ACTIONS = gym.spaces.Box(np.array([-2, 0], np.float32), np.array([1, 4], np.float32))


def small_agent(agent_class: type[Agent], seed: int = 2, **settings: object) -> Agent:
    """An agent in double precision with a normalizer, whose target networks differ from the trained ones."""
    config = agent_class.config_class(**{"hidden_sizes": (5,), "learning_rate": 0.01, "discount": 0.9} | settings)
    normalizer = Normalizer(torch.tensor([0.5, -1.0, 0.0]), torch.tensor([2.0, 0.5, 1.0]))
    agent = agent_class(OBSERVATIONS, ACTIONS, config, normalizer=normalizer, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in agent.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise if not parameter.requires_grad else 0.5 * noise)
    return agent


def small_batch(seed: int = 0, size: int = 12) -> Transitions:
    """Made-up transitions in double precision: every kind of end, actions in environment units, also on the border."""
    generator = torch.Generator().manual_seed(1_000 + seed)
    kind = torch.arange(size) % 3
    low, high = (torch.as_tensor(bound).double() for bound in (ACTIONS.low, ACTIONS.high))
    action = low + (high - low) * torch.rand(size, 2, generator=generator, dtype=torch.float64)
    action[0], action[1] = low, high
    return Transitions(
        observation=torch.randn(size, 3, generator=generator, dtype=torch.float64),
        action=action,
        reward=torch.randn(size, generator=generator, dtype=torch.float64),
        cost=torch.zeros(size, 0, dtype=torch.float64),
        next_observation=torch.randn(size, 3, generator=generator, dtype=torch.float64),
        terminated=kind == 1,
        truncated=kind == 2,
    )


class Reference:
    """Copies of an agent's weights and generator, trained by the methods below."""

    def __init__(self, agent: Agent) -> None:
        self.config, self.number = agent.config, 0
        self.weights = {name: value.detach().clone() for name, value in agent.named_parameters()}
        self.shift, self.scale = agent.normalizer.mean.clone(), agent.normalizer.scale.clone()
        self.generator = torch.Generator()
        self.generator.set_state(agent.generator.get_state())
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    # pieces

    def net(self, name: str, inputs: Tensor) -> Tensor:
        """One hidden layer of rectified linear units."""
        hidden = inputs @ self.weights[f"{name}.0.weight"].T + self.weights[f"{name}.0.bias"]
        hidden = torch.where(hidden > 0, hidden, torch.zeros_like(hidden))
        return hidden @ self.weights[f"{name}.2.weight"].T + self.weights[f"{name}.2.bias"]

    def twins(self, name: str, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        joint = torch.cat([state, action], dim=-1)
        return self.net(f"{name}.first", joint)[..., 0], self.net(f"{name}.second", joint)[..., 0]

    def see(self, batch: Transitions) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised s and s′, and the actions of the data in [−1, 1]: from [−2, 1] × [0, 4]."""
        action = torch.stack([(batch.action[:, 0] + 0.5) / 1.5, (batch.action[:, 1] - 2.0) / 2.0], dim=1)
        s, following = ((x - self.shift) * self.scale for x in (batch.observation, batch.next_observation))
        return s, following, action

    def noise(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).double()

    def gaussian(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation before tanh."""
        out = self.net("policy.network", state)
        return out[:, :2], torch.exp(out[:, 2:].clamp(-5, 2))

    @staticmethod
    def squashed(mean: Tensor, std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """a = tanh(u) and log N(u; mean, std) − Σ log(1 − a²), where 1 − a² = 1 / cosh² u."""
        u = mean + std * noise
        normal = -((u - mean) ** 2) / (2 * std**2) - torch.log(std * math.sqrt(2 * math.pi))
        return torch.tanh(u), (normal + 2 * torch.log(torch.cosh(u))).sum(-1)

    def target(self, batch: Transitions, next_value: Tensor) -> Tensor:
        goes_on = torch.where(batch.terminated, 0.0, 1.0).double()
        return batch.reward + self.config.discount * goes_on * next_value

    def descend(self, names: tuple[str, ...], loss, rate: float | None = None) -> Tensor:
        """One Adam step of the named parameters on ``loss()``."""
        trained = [value for key, value in self.weights.items() if key.startswith(names)]
        for value in trained:
            value.requires_grad_(True)
        key = "+".join(names)
        if key not in self.optimizers:
            self.optimizers[key] = torch.optim.Adam(trained, lr=self.config.learning_rate)
        if rate is not None:
            self.optimizers[key].param_groups[0]["lr"] = rate
        value = loss()
        for parameter, gradient in zip(trained, torch.autograd.grad(value, trained), strict=True):
            parameter.grad = gradient
        self.optimizers[key].step()
        for parameter in trained:
            parameter.requires_grad_(False)
        return value.detach()

    def follow(self, target: str, source: str) -> None:
        rate = self.config.target_rate
        for key, value in self.weights.items():
            if key.startswith(f"{target}."):
                self.weights[key] = (1 - rate) * value + rate * self.weights[source + key.removeprefix(target)]

    def fit_twins(self, state: Tensor, action: Tensor, target: Tensor, terms: dict[str, Tensor]) -> None:
        terms["q"] = self.twins("critic", state, action)[0].mean()

        def loss() -> Tensor:
            first, second = self.twins("critic", state, action)
            return ((first - target) ** 2).mean() / 2 + ((second - target) ** 2).mean() / 2

        terms["critic_loss"] = self.descend(("critic.",), loss)

    def improve(self, state: Tensor, noise: Tensor, terms: dict[str, Tensor], rate: float | None = None) -> None:
        """Soft policy improvement, then the temperature, by the densities of the same actions."""
        alpha = torch.exp(self.weights["log_temperature"])
        kept = {}

        def loss() -> Tensor:
            action, log_prob = self.squashed(*self.gaussian(state), noise)
            kept["log_prob"] = log_prob.detach()
            return (alpha * log_prob - torch.minimum(*self.twins("critic", state, action))).mean()

        terms["policy_loss"] = self.descend(("policy.",), loss, rate)
        entropy = -kept["log_prob"].mean()
        wanted = self.config.entropy_per_dimension * 2
        self.descend(("log_temperature",), lambda: self.weights["log_temperature"] * (entropy - wanted))
        terms["entropy"] = entropy

    # the algorithms

    def sac(self, batch: Transitions) -> dict[str, Tensor]:
        s, following, action = self.see(batch)
        terms: dict[str, Tensor] = {}
        next_action, log_prob = self.squashed(*self.gaussian(following), self.noise(len(batch), 2))
        least = torch.minimum(*self.twins("target_critic", following, next_action))
        soft = least - torch.exp(self.weights["log_temperature"]) * log_prob
        self.fit_twins(s, action, self.target(batch, soft), terms)
        self.improve(s, self.noise(len(batch), 2), terms)
        self.follow("target_critic", "critic")
        return terms | {"temperature": torch.exp(self.weights["log_temperature"])}

    def cql(self, batch: Transitions) -> dict[str, Tensor]:
        (s, following, action), size, n = self.see(batch), len(batch), self.config.sampled_actions
        terms: dict[str, Tensor] = {}
        next_action, _ = self.squashed(*self.gaussian(following), self.noise(size, 2))
        target = self.target(batch, torch.minimum(*self.twins("target_critic", following, next_action)))
        uniform = 2 * torch.rand(size, n, 2, generator=self.generator).double() - 1
        groups = [(uniform, torch.full((size, n), math.log(1 / 4), dtype=torch.float64))]
        for state in (s, following):
            mean, std = self.gaussian(state)
            groups.append(self.squashed(mean[:, None], std[:, None], self.noise(size, n, 2)))

        def penalty(which: int) -> Tensor:
            """The mean over the three proposals of the importance-sampled integral of exp Q(s, ·), in logs."""
            total = 0.0
            for i in range(size):
                integral = 0.0
                for actions, log_density in groups:
                    q = self.twins("critic", s[i].expand(n, 3), actions[i])[which]
                    integral = integral + (torch.exp(q) / torch.exp(log_density[i])).mean() / 3
                total = total + torch.log(integral) - self.twins("critic", s[i : i + 1], action[i : i + 1])[which][0]
            return total / size

        found = [penalty(which).detach() for which in (0, 1)]
        weight = torch.tensor(self.config.conservative_weight, dtype=torch.float64)
        if self.config.lagrange_threshold is not None:
            excess = (found[0] + found[1]) / 2 - self.config.lagrange_threshold
            self.descend(("log_weight",), lambda: -torch.exp(self.weights["log_weight"]) * excess)
            weight = torch.exp(self.weights["log_weight"])
        terms |= {"weight": weight, "penalty": (found[0] + found[1]) / 2}
        terms["q"] = self.twins("critic", s, action)[0].mean()

        def bellman() -> Tensor:
            first, second = self.twins("critic", s, action)
            return ((first - target) ** 2).mean() / 2 + ((second - target) ** 2).mean() / 2

        terms["critic_loss"] = bellman()
        self.descend(("critic.",), lambda: bellman() + weight * penalty(0) + weight * penalty(1))
        self.improve(s, self.noise(size, 2), terms, self.config.policy_learning_rate)
        self.follow("target_critic", "critic")
        return terms

    def td3bc(self, batch: Transitions) -> dict[str, Tensor]:
        (s, following, action), config = self.see(batch), self.config
        self.number += 1
        terms: dict[str, Tensor] = {}
        noise = config.target_noise * self.noise(len(batch), 2)
        assert noise.abs().max() > config.noise_clip > noise.abs().min(), "the case needs noise beyond the clip"
        noise = torch.minimum(torch.maximum(noise, torch.tensor(-config.noise_clip)), torch.tensor(config.noise_clip))
        moved = torch.tanh(self.net("target_policy.network", following)) + noise
        assert moved.abs().max() > 1, "the case needs an action pushed over the border"
        moved = torch.minimum(torch.maximum(moved, torch.tensor(-1.0)), torch.tensor(1.0))
        target = self.target(batch, torch.minimum(*self.twins("target_critic", following, moved)))
        self.fit_twins(s, action, target, terms)
        terms["policy_loss"] = getattr(self, "kept", torch.zeros((), dtype=torch.float64))
        if self.number % config.policy_delay == 0:
            q_now = self.twins("critic", s, torch.tanh(self.net("policy.network", s)))[0]
            scale = config.value_weight / (q_now.abs().sum() / len(batch))

            def loss() -> Tensor:
                chosen = torch.tanh(self.net("policy.network", s))
                distance = ((chosen - action) ** 2).sum() / (2 * len(batch))
                return distance - scale * self.twins("critic", s, chosen)[0].mean()

            terms["policy_loss"] = self.kept = self.descend(("policy.",), loss)
            self.follow("target_policy", "policy")
            self.follow("target_critic", "critic")
        return terms

    def iql(self, batch: Transitions) -> dict[str, Tensor]:
        (s, following, action), config = self.see(batch), self.config
        least = torch.minimum(*self.twins("target_critic", s, action))

        def value_loss() -> Tensor:
            total = 0.0
            for u in least - self.net("value", s)[:, 0]:
                total = total + (config.expectile if u >= 0 else 1 - config.expectile) * u**2
            return total / len(batch)

        terms = {"value_loss": self.descend(("value.",), value_loss)}
        advantage = least - self.net("value", s)[:, 0]
        weight = torch.exp(config.temperature * advantage)
        assert weight.min() < config.max_weight < weight.max(), "the case needs weights on both sides of the clip"
        weight = torch.where(weight > config.max_weight, config.max_weight, weight)

        def policy_loss() -> Tensor:
            mean, std = torch.tanh(self.net("policy.network", s)), torch.exp(self.weights["policy.log_std"])
            density = torch.exp(-((action - mean) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi))
            return -(weight * torch.log(density).sum(1)).mean()

        rate = config.learning_rate
        if config.policy_decay_updates:
            rate *= (
                1 + math.cos(math.pi * min(self.number, config.policy_decay_updates) / config.policy_decay_updates)
            ) / 2
        terms["policy_loss"] = self.descend(("policy.",), policy_loss, rate)
        self.number += 1
        self.fit_twins(s, action, self.target(batch, self.net("value", following)[:, 0]), terms)
        self.follow("target_critic", "critic")
        return terms

    def bc(self, batch: Transitions) -> dict[str, Tensor]:
        s, _, action = self.see(batch)

        def loss() -> Tensor:
            return ((torch.tanh(self.net("policy.network", s)) - action) ** 2).sum() / (2 * len(batch))

        return {"loss": self.descend(("policy.",), loss)}
