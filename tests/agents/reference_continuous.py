"""The updates of the agents with continuous actions once more.

Random numbers are drawn from a copy of the agent's generator, in the order in which the agent documents its draws.
"""

import math
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from ca14lib.agents import Agent
from ca14lib.data import Transitions
from tests.agents import reference

OBSERVATIONS = gym.spaces.Box(-10, 10, (3,), dtype=np.float32)
ACTIONS = gym.spaces.Box(np.array([-2, 0], np.float32), np.array([1, 4], np.float32))


def small_agent(agent_class: type[Agent], **settings: object) -> Agent:
    return reference.small_agent(agent_class, OBSERVATIONS, ACTIONS, **settings)


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


class Reference(reference.Reference):
    # pieces

    def twins(self, name: str, state: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(f"{name}.first", state, action)[..., 0], self.net(f"{name}.second", state, action)[..., 0]

    def see(self, batch: Transitions) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised s and s′, and the actions of the data in [−1, 1]: from [−2, 1] × [0, 4]."""
        action = torch.stack([(batch.action[:, 0] + 0.5) / 1.5, (batch.action[:, 1] - 2.0) / 2.0], dim=1)
        return self.observe(batch.observation), self.observe(batch.next_observation), action

    def noise(self, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(shape, generator=self.generator, dtype=dtype).double()

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

    def fit_twins(self, state: Tensor, action: Tensor, target: Tensor, terms: dict[str, Tensor]) -> None:
        terms["q"] = self.twins("critic", state, action)[0].mean()

        def loss() -> Tensor:
            first, second = self.twins("critic", state, action)
            return ((first - target) ** 2).mean() / 2 + ((second - target) ** 2).mean() / 2

        terms["critic_loss"] = self.descend("critic", loss)

    def improve(self, state: Tensor, noise: Tensor, terms: dict[str, Tensor], rate: float | None = None) -> None:
        """Soft policy improvement, then the temperature, by the densities of the same actions."""
        alpha = torch.exp(self.weights["log_temperature"])
        kept = {}

        def loss() -> Tensor:
            action, log_prob = self.squashed(*self.gaussian(state), noise)
            kept["log_prob"] = log_prob.detach()
            return (alpha * log_prob - torch.minimum(*self.twins("critic", state, action))).mean()

        terms["policy_loss"] = self.descend("policy", loss, rate)
        entropy = -kept["log_prob"].mean()
        wanted = self.config.entropy_per_dimension * 2
        self.descend("log_temperature", lambda: self.weights["log_temperature"] * (entropy - wanted))
        terms["entropy"] = entropy

    def density_loss(self, state: Tensor, action: Tensor, weight: Tensor) -> Callable[[], Tensor]:
        """The weighted log-density of the actions under the policy whose deviation is the same in every state."""

        def loss() -> Tensor:
            mean, std = torch.tanh(self.net("policy.network", state)), torch.exp(self.weights["policy.log_std"])
            density = torch.exp(-((action - mean) ** 2) / (2 * std**2)) / (std * math.sqrt(2 * math.pi))
            return -(weight * torch.log(density).sum(1)).mean()

        return loss

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
        weight = torch.tensor(self.config.conservative_weight)  # a constant is logged in single precision
        if self.config.lagrange_threshold is not None:
            excess = (found[0] + found[1]) / 2 - self.config.lagrange_threshold
            self.descend("log_weight", lambda: -torch.exp(self.weights["log_weight"]) * excess)
            weight = torch.exp(self.weights["log_weight"])
        terms |= {"weight": weight, "penalty": (found[0] + found[1]) / 2}
        terms["q"] = self.twins("critic", s, action)[0].mean()

        def bellman() -> Tensor:
            first, second = self.twins("critic", s, action)
            return ((first - target) ** 2).mean() / 2 + ((second - target) ** 2).mean() / 2

        terms["critic_loss"] = bellman()
        self.descend("critic", lambda: bellman() + weight * penalty(0) + weight * penalty(1))
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

            terms["policy_loss"] = self.kept = self.descend("policy", loss)
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

        terms = {"value_loss": self.descend("value", value_loss)}
        advantage = least - self.net("value", s)[:, 0]
        weight = torch.exp(config.temperature * advantage)
        assert weight.min() < config.max_weight < weight.max(), "the case needs weights on both sides of the clip"
        weight = torch.where(weight > config.max_weight, config.max_weight, weight)

        rate = config.learning_rate
        if config.policy_decay_updates:
            rate *= (
                1 + math.cos(math.pi * min(self.number, config.policy_decay_updates) / config.policy_decay_updates)
            ) / 2
        terms["policy_loss"] = self.descend("policy", self.density_loss(s, action, weight), rate)
        self.number += 1
        self.fit_twins(s, action, self.target(batch, self.net("value", following)[:, 0]), terms)
        self.follow("target_critic", "critic")
        return terms

    def bc(self, batch: Transitions) -> dict[str, Tensor]:
        s, _, action = self.see(batch)

        def loss() -> Tensor:
            return ((torch.tanh(self.net("policy.network", s)) - action) ** 2).sum() / (2 * len(batch))

        return {"loss": self.descend("policy", loss)}

    def awr(self, batch: Transitions) -> dict[str, Tensor]:
        (s, following, action), config = self.see(batch), self.config
        target = batch.value_target
        if target is None:
            target = self.target(batch, self.net("value", following)[:, 0])
        terms = {"value_loss": self.descend("value", lambda: ((target - self.net("value", s)[:, 0]) ** 2).mean() / 2)}
        advantage = target - self.net("value", s)[:, 0]
        spread = ((advantage - advantage.mean()) ** 2).mean() ** 0.5
        weight = torch.exp((advantage - advantage.mean()) / (spread + 1e-5) / config.temperature)
        assert weight.min() < config.max_weight < weight.max(), "the case needs weights on both sides of the clip"
        weight = torch.where(weight > config.max_weight, config.max_weight, weight)
        terms["policy_loss"] = self.descend("policy", self.density_loss(s, action, weight))
        return terms | {"weight": weight.mean()}

    def perturbed(self, name: str, state: Tensor, action: Tensor) -> Tensor:
        return (action + self.config.max_perturbation * torch.tanh(self.net(name, state, action))).clamp(-1, 1)

    def bcq(self, batch: Transitions) -> dict[str, Tensor]:
        """Codes of twice the action's dimension, drawn in the precision of the observation."""
        (s, following, action), size, config = self.see(batch), len(batch), self.config
        noise = self.noise(size, 4, dtype=torch.float64)

        def behaviour_loss() -> Tensor:
            code = self.net("behaviour.encoder", s, action)
            mean, log_std = code[:, :4], code[:, 4:].clamp(-4, 15)
            decoded = torch.tanh(self.net("behaviour.decoder", s, mean + torch.exp(log_std) * noise))
            variance = torch.exp(log_std) ** 2
            divergence = 0.5 * (mean**2 + variance - 1 - torch.log(variance)).sum() / (4 * size)
            return ((decoded - action) ** 2).sum() / (2 * size) + config.divergence_weight * divergence

        terms = {"behaviour_loss": self.descend("behaviour", behaviour_loss)}
        codes, best = self.noise(size, config.target_samples, 4, dtype=torch.float64).clamp(-0.5, 0.5), []
        for state, own in zip(following, codes, strict=True):
            values = []
            for code in own:
                tried = torch.tanh(self.net("behaviour.decoder", state, code))
                twins = self.twins("target_critic", state, self.perturbed("target_perturbation", state, tried))
                values.append(config.min_weight * min(twins) + (1 - config.min_weight) * max(twins))
            best.append(max(values))
        self.fit_twins(s, action, self.target(batch, torch.stack(best)), terms)
        code = self.noise(size, 4, dtype=torch.float64).clamp(-0.5, 0.5)
        generated = torch.tanh(self.net("behaviour.decoder", s, code))

        def perturbation_loss() -> Tensor:
            return -self.twins("critic", s, self.perturbed("perturbation", s, generated))[0].mean()

        terms["perturbation_loss"] = self.descend("perturbation", perturbation_loss)
        self.follow("target_critic", "critic")
        self.follow("target_perturbation", "perturbation")
        return terms
