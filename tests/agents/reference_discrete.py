"""The updates of the agents with discrete actions once more, in sums over the rows of a batch."""

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from ca14lib.agents import Agent
from ca14lib.data import Transitions
from tests.agents import reference

OBSERVATIONS = gym.spaces.Box(-10, 10, (2,), dtype=np.float32)
ACTIONS = gym.spaces.Discrete(3)


def small_agent(agent_class: type[Agent], **settings: object) -> Agent:
    return reference.small_agent(agent_class, OBSERVATIONS, ACTIONS, **settings)


def small_batch(seed: int = 0, size: int = 12) -> Transitions:
    """Made-up transitions in double precision: every kind of end, every action, rewards of both signs."""
    generator = torch.Generator().manual_seed(1_000 + seed)
    kind = torch.arange(size) % 3
    return Transitions(
        observation=torch.randn(size, 2, generator=generator, dtype=torch.float64),
        action=torch.randint(3, (size,), generator=generator),
        reward=torch.randn(size, generator=generator, dtype=torch.float64),
        cost=torch.zeros(size, 0, dtype=torch.float64),
        next_observation=torch.randn(size, 2, generator=generator, dtype=torch.float64),
        terminated=kind == 1,
        truncated=kind == 2,
    )


class Reference(reference.Reference):
    def net(self, name: str, observation: Tensor) -> Tensor:
        """Every network sees the normalised observation."""
        return super().net(name, self.observe(observation))

    def dqn(self, batch: Transitions, conservative_weight: float | None = None) -> dict[str, Tensor]:
        size, terms = len(batch), {}

        def loss() -> Tensor:
            squares, penalties, chosen = 0.0, 0.0, 0.0
            for i in range(size):
                q = self.net("q_network", batch.observation[i])
                with torch.no_grad():
                    best = int(self.net("q_network", batch.next_observation[i]).argmax())
                    following = self.net("target_network", batch.next_observation[i])[best]
                target = batch.reward[i] + self.config.discount * (1 - int(batch.terminated[i])) * following
                squares = squares + (target - q[batch.action[i]]) ** 2
                penalties = penalties + torch.log(torch.exp(q).sum()) - q[batch.action[i]]
                chosen = chosen + q[batch.action[i]].detach()
            terms["q"] = chosen / size
            if conservative_weight is None:
                return 0.5 * squares / size
            terms["penalty"] = (penalties / size).detach()
            return 0.5 * squares / size + conservative_weight * penalties / size

        terms["loss"] = self.descend("q_network", loss)
        self.follow("target_network", "q_network")
        return terms

    def cql(self, batch: Transitions) -> dict[str, Tensor]:
        return self.dqn(batch, self.config.conservative_weight)

    def bc(self, batch: Transitions) -> dict[str, Tensor]:
        def loss() -> Tensor:
            total = 0.0
            for i in range(len(batch)):
                weight = torch.exp(self.net("policy", batch.observation[i]))
                total = total - torch.log(weight[batch.action[i]] / weight.sum())
            return total / len(batch)

        return {"loss": self.descend("policy", loss)}

    def iql(self, batch: Transitions) -> dict[str, Tensor]:
        size, config, rows = len(batch), self.config, torch.arange(len(batch))
        taken = torch.stack([self.net(f"target_critics.{k}", batch.observation)[rows, batch.action] for k in (0, 1)])
        target_q = taken.min(dim=0).values

        def value_loss() -> Tensor:
            error = target_q - self.net("value", batch.observation)[:, 0]
            total = 0.0
            for u in error:
                total = total + (config.expectile if u >= 0 else 1 - config.expectile) * u**2
            return total / size

        terms = {"value_loss": self.descend("value", value_loss)}
        advantage = target_q - self.net("value", batch.observation)[:, 0]
        weight = torch.exp(config.temperature * advantage).clamp(max=config.max_weight)
        # the case is no test unless it has advantages of both signs, and weights on both sides of the clip
        assert advantage.min() < 0 < advantage.max()
        assert weight.min() < config.max_weight == weight.max()

        terms["policy_loss"] = self.clone_with_weights(batch, weight)
        following = self.net("value", batch.next_observation)[:, 0]
        target = batch.reward + config.discount * torch.where(batch.terminated, 0.0, 1.0) * following
        terms["q"] = self.net("critics.0", batch.observation)[rows, batch.action].mean()

        def critic_loss() -> Tensor:
            errors = [target - self.net(f"critics.{k}", batch.observation)[rows, batch.action] for k in (0, 1)]
            return 0.5 * (errors[0] ** 2).mean() + 0.5 * (errors[1] ** 2).mean()

        terms["critic_loss"] = self.descend("critics", critic_loss)
        self.follow("target_critics", "critics")
        return terms

    def clone_with_weights(self, batch: Transitions, weight: Tensor) -> Tensor:
        """One step of the policy on the mean of −weight · log π(a | s), softmax written out; its loss before it."""

        def policy_loss() -> Tensor:
            total = 0.0
            for i in range(len(batch)):
                odds = torch.exp(self.net("policy", batch.observation[i]))
                total = total - weight[i] * torch.log(odds[batch.action[i]] / odds.sum())
            return total / len(batch)

        return self.descend("policy", policy_loss)

    def awr(self, batch: Transitions) -> dict[str, Tensor]:
        size, config = len(batch), self.config
        if batch.value_target is None:
            following = self.net("value", batch.next_observation)[:, 0]
            target = batch.reward + config.discount * torch.where(batch.terminated, 0.0, 1.0) * following
        else:
            target = batch.value_target

        def value_loss() -> Tensor:
            return 0.5 * ((target - self.net("value", batch.observation)[:, 0]) ** 2).sum() / size

        terms = {"value_loss": self.descend("value", value_loss)}
        advantage = target - self.net("value", batch.observation)[:, 0]
        mean = advantage.sum() / size
        spread = (((advantage - mean) ** 2).sum() / size) ** 0.5
        weight = torch.exp((advantage - mean) / (spread + 1e-5) / config.temperature).clamp(max=config.max_weight)
        assert weight.min() < config.max_weight == weight.max(), "the case needs weights on both sides of the clip"

        terms["policy_loss"] = self.clone_with_weights(batch, weight)
        terms["weight"] = weight.sum() / size
        return terms

    def bcq(self, batch: Transitions) -> dict[str, Tensor]:
        size, config, target, barred, sizes = len(batch), self.config, [], [], []
        for i in range(size):
            odds = torch.exp(self.net("behaviour", batch.next_observation[i]))
            online = self.net("q_network", batch.next_observation[i])
            allowed = [a for a in range(3) if odds[a] / odds.max() > config.threshold]
            best = max(allowed, key=lambda a: float(online[a]))
            barred.append(best != int(online.argmax()))
            following = self.net("target_network", batch.next_observation[i])[best]
            target.append(batch.reward[i] + config.discount * (1 - int(batch.terminated[i])) * following)
        assert any(barred), "the case needs a state in which the best action is not supported"
        terms: dict[str, Tensor] = {}

        def critic_loss() -> Tensor:
            total, chosen = 0.0, 0.0
            for i in range(size):
                q = self.net("q_network", batch.observation[i])[batch.action[i]]
                error = abs(target[i] - q)
                total = total + (0.5 * error**2 if error <= 1 else error - 0.5)
                chosen = chosen + q.detach()
                sizes.append(float(error.detach()))
            terms["q"] = chosen / size
            return total / size

        def behaviour_loss() -> Tensor:
            total, squares = 0.0, 0.0
            for i in range(size):
                logits = self.net("behaviour", batch.observation[i])
                total = total - torch.log(torch.exp(logits)[batch.action[i]] / torch.exp(logits).sum())
                squares = squares + (logits**2).sum() / 3
            return total / size + config.logit_penalty * squares / size

        terms["critic_loss"] = self.descend("q_network", critic_loss)
        terms["behaviour_loss"] = self.descend("behaviour", behaviour_loss)
        assert min(sizes) < 1 < max(sizes), "the case needs errors on both sides of Huber's kink"
        self.follow("target_network", "q_network")
        return terms

    def regularized(self, batch: Transitions) -> dict[str, Tensor]:
        size, config, target = len(batch), self.config, []
        for i in range(size):
            odds = torch.exp(self.net("policy", batch.next_observation[i]))
            values = self.net("target_network", batch.next_observation[i])
            following = (odds / odds.sum() * values).sum()
            target.append(batch.reward[i] + config.discount * (1 - int(batch.terminated[i])) * following)
        fixed = self.net("q_network", batch.observation)
        terms = {"q": fixed[torch.arange(size), batch.action].mean()}

        def critic_loss() -> Tensor:
            total = 0.0
            for i in range(size):
                total = total + (target[i] - self.net("q_network", batch.observation[i])[batch.action[i]]) ** 2
            return 0.5 * total / size

        def policy_loss() -> Tensor:
            total = 0.0
            for i in range(size):
                odds = torch.exp(self.net("policy", batch.observation[i]))
                policy = odds / odds.sum()
                total = total - (policy * fixed[i]).sum() - config.behaviour_weight * torch.log(policy[batch.action[i]])
            return total / size

        terms["critic_loss"] = self.descend("q_network", critic_loss)
        terms["policy_loss"] = self.descend("policy", policy_loss)
        self.follow("target_network", "q_network")
        return terms
