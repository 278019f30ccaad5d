"""TD3 with behaviour cloning, continuous actions (Fujimoto and Gu, 2021; TD3: Fujimoto et al., 2018).

Book: offline/td3bc.
"""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ca14lib.agents.base import AgentConfig, ContinuousAgent, gradient_step, require
from ca14lib.agents.dqn import td_loss, td_target
from ca14lib.agents.offline.bc import cloning_loss
from ca14lib.data import Transitions
from ca14lib.networks import DeterministicPolicy, TwinCritic, frozen, polyak_update


@dataclass(frozen=True)
class TD3BCConfig(AgentConfig):
    target_rate: float = 0.005  # η, eq. polyak
    value_weight: float = 2.5  # λ_0, eq. td3bc-scale; 0 is behaviour cloning
    policy_delay: int = 2  # critic updates per policy update
    target_noise: float = 0.2  # σ, eq. td3bc-target, in units of actions scaled to [−1, 1]
    noise_clip: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.target_rate <= 1, "target_rate", self.target_rate, "in (0, 1]")
        require(0 <= self.value_weight < math.inf, "value_weight", self.value_weight, "finite and >= 0")
        require(self.policy_delay >= 1, "policy_delay", self.policy_delay, "at least 1")
        require(0 <= self.target_noise < math.inf, "target_noise", self.target_noise, "finite and >= 0")
        require(0 <= self.noise_clip < math.inf, "noise_clip", self.noise_clip, "finite and >= 0")


def smoothed_action(action: Tensor, noise: Tensor, noise_clip: float) -> Tensor:
    """The target policy's action with clipped noise, kept in [−1, 1] (book eq. td3bc-target).

    Args:
        action: ``[B, D]`` in [−1, 1].
        noise: ``[B, D]``.
        noise_clip: Bound on every component of the noise.
    Returns:
        ``[B, D]``.
    """
    return (action + noise.clamp(-noise_clip, noise_clip)).clamp(-1, 1)


def value_scale(q: Tensor, value_weight: float) -> Tensor:
    r""":math:`\lambda_Q = \lambda_0 / \text{mean}|Q|`, without gradient (book eq. td3bc-scale).

    Args:
        q: ``[B]``, values of the policy's actions.
        value_weight: :math:`\lambda_0`.
    Returns:
        Scalar. Where all values are 0 the mean is taken as 1e-6.
    """
    return value_weight / q.detach().abs().mean().clamp(min=1e-6)


class TD3BC(ContinuousAgent):
    """Delayed deterministic policy gradient, held to the data by a squared cloning error."""

    config_class = TD3BCConfig
    config: TD3BCConfig
    policy_loss: Tensor

    def _build(self) -> None:
        hidden = self.config.hidden_sizes
        self.policy = DeterministicPolicy(self.flat_space, self.action_dimension, hidden)
        self.target_policy = copy.deepcopy(self.policy).requires_grad_(False)
        self.critic = TwinCritic(self.flat_space.shape[0], self.action_dimension, hidden)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.policy_optimizer = self._optimizer("policy", self.policy)
        self.critic_optimizer = self._optimizer("critic", self.critic)
        self.register_buffer("policy_loss", torch.zeros(()))  # of the last policy update, for the log

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        self.updates += 1
        observation, action = self._input(batch.observation), self._unit(batch.action)
        critic_loss, q = self._fit_critic(observation, action, batch)
        if self.updates % self.config.policy_delay == 0:
            self.policy_loss = self._fit_policy(observation, action)
            polyak_update(self.target_policy, self.policy, self.config.target_rate)
            polyak_update(self.target_critic, self.critic, self.config.target_rate)
        return {"critic_loss": critic_loss, "policy_loss": self.policy_loss, "q": q}

    def _fit_critic(self, observation: Tensor, action: Tensor, batch: Transitions) -> tuple[Tensor, Tensor]:
        """Both critics towards the lesser target value of a smoothed next action (eq. td3bc-target)."""
        with torch.no_grad():
            following = self._input(batch.next_observation)
            next_action = self.target_policy(following)
            noise = torch.randn(next_action.shape, generator=self.generator, device=self.device)
            next_action = smoothed_action(next_action, self.config.target_noise * noise, self.config.noise_clip)
            next_value = self.target_critic.least(following, next_action)
            target = td_target(batch.reward, batch.terminated, next_value, self.config.discount)
        first, second = self.critic(observation, action)
        loss = td_loss(first, target) + td_loss(second, target)
        gradient_step(self.critic_optimizer, loss)
        return loss.detach(), first.detach().mean()

    def _fit_policy(self, observation: Tensor, action: Tensor) -> Tensor:
        """The policy up the scaled first critic and towards the data (eq. td3bc-policy)."""
        chosen = self.policy(observation)
        with frozen(self.critic):
            q = self.critic.first(torch.cat([observation, chosen], dim=-1)).squeeze(-1)
            loss = -value_scale(q, self.config.value_weight) * q.mean() + cloning_loss(chosen, action)
            gradient_step(self.policy_optimizer, loss)
        return loss.detach()

    def _unit_action(self, observation: Tensor, deterministic: bool) -> Tensor:
        """The policy's action; it has no randomness of its own."""
        return self.policy(self._input(observation))
