"""Soft actor-critic, continuous actions (Haarnoja et al., 2018). Book: offline/sac.

The course's online learner for continuous control: it makes the behaviour of the continuous offline datasets.
"""

import copy
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ca14lib.agents.base import AgentConfig, ContinuousAgent, gradient_step, require
from ca14lib.agents.dqn import td_loss, td_target
from ca14lib.data import Transitions
from ca14lib.networks import SquashedGaussianPolicy, TwinCritic, frozen, polyak_update


@dataclass(frozen=True)
class SACConfig(AgentConfig):
    target_rate: float = 0.005  # η, eq. polyak
    entropy_per_dimension: float = -1.0  # target entropy is this times the number of action dimensions
    initial_temperature: float = 1.0  # α_H at the start, eq. sac-temperature

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.target_rate <= 1, "target_rate", self.target_rate, "in (0, 1]")
        require(abs(self.entropy_per_dimension) < 100, "entropy_per_dimension", self.entropy_per_dimension, "finite")
        require(0 < self.initial_temperature < 1e6, "initial_temperature", self.initial_temperature, "in (0, 1e6)")


def soft_value(q: Tensor, log_prob: Tensor, temperature: Tensor | float) -> Tensor:
    r"""Value of a sampled action with its entropy bonus, :math:`Q(s,a) - \alpha_{\mathcal H} \log\pi(a|s)`.

    Book eq. sac-target.

    Args:
        q: ``[B]``, the lesser of the twin critics.
        log_prob: ``[B]``, log-density of the action.
        temperature: :math:`\alpha_{\mathcal H} \ge 0`.
    Returns:
        ``[B]``. The policy's loss (book eq. sac-policy) is minus its mean.
    """
    return q - temperature * log_prob


def temperature_loss(log_temperature: Tensor, log_prob: Tensor, target_entropy: float) -> Tensor:
    r"""Loss whose descent raises :math:`\alpha_{\mathcal H}` while entropy is under its target.

    Book eq. sac-temperature.

    Args:
        log_temperature: 0-d, :math:`\log\alpha_{\mathcal H}`.
        log_prob: ``[B]``, log-densities of the policy's actions; no gradient flows into them.
        target_entropy: In nats.
    Returns:
        Scalar.
    """
    return -(log_temperature * (log_prob.detach() + target_entropy)).mean()


class SAC(ContinuousAgent):
    """Maximum-entropy actor-critic with twin critics and a temperature tuned to a target entropy."""

    config_class = SACConfig
    config: SACConfig

    def _build(self) -> None:
        features, hidden = self.flat_space.shape[0], self.config.hidden_sizes
        self.policy = SquashedGaussianPolicy(self.flat_space, self.action_dimension, hidden)
        self.critic = TwinCritic(features, self.action_dimension, hidden)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.log_temperature = nn.Parameter(torch.tensor(self.config.initial_temperature).log())
        self.target_entropy = self.config.entropy_per_dimension * self.action_dimension
        self.critic_optimizer = self._optimizer("critic", self.critic)
        self.policy_optimizer = self._optimizer("policy", self.policy)
        self.temperature_optimizer = self._optimizer("temperature", self.log_temperature)

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        observation = self._input(batch.observation)
        critic_loss, q = self._fit_critic(observation, batch)
        policy_loss, log_prob = self._fit_policy(observation)
        gradient_step(self.temperature_optimizer, temperature_loss(self.log_temperature, log_prob, self.target_entropy))
        polyak_update(self.target_critic, self.critic, self.config.target_rate)
        return {
            "critic_loss": critic_loss, "policy_loss": policy_loss, "q": q,
            "entropy": -log_prob.mean(), "temperature": self.log_temperature.detach().exp(),
        }  # fmt: skip

    def _fit_critic(self, observation: Tensor, batch: Transitions) -> tuple[Tensor, Tensor]:
        """Both critics towards the soft target (eq. sac-target)."""
        with torch.no_grad():
            following = self._input(batch.next_observation)
            action, log_prob = self.policy.sample(following, self.generator)
            next_value = soft_value(self.target_critic.least(following, action), log_prob, self.log_temperature.exp())
            target = td_target(batch.reward, batch.terminated, next_value, self.config.discount)
        first, second = self.critic(observation, self._unit(batch.action))
        loss = td_loss(first, target) + td_loss(second, target)
        gradient_step(self.critic_optimizer, loss)
        return loss.detach(), first.detach().mean()

    def _fit_policy(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """The policy up the soft value of its own actions (eq. sac-policy)."""
        action, log_prob = self.policy.sample(observation, self.generator)
        with frozen(self.critic):
            value = soft_value(self.critic.least(observation, action), log_prob, self.log_temperature.detach().exp())
            loss = -value.mean()
            gradient_step(self.policy_optimizer, loss)
        return loss.detach(), log_prob.detach()

    def _unit_action(self, observation: Tensor, deterministic: bool) -> Tensor:
        inputs = self._input(observation)
        return self.policy.best(inputs) if deterministic else self.policy.sample(inputs, self.generator)[0]

    @torch.no_grad()
    def action_log_prob(self, observation: ArrayLike, action: ArrayLike) -> NDArray:
        """Log-densities ``[N]`` of actions ``[N, D]`` under the stochastic policy, in environment units."""
        inputs = self._input(self._observation_tensor(observation))
        unit = self._unit(torch.as_tensor(action, dtype=torch.float32, device=self.device))
        return (self.policy.log_prob(inputs, unit) - self._action_range[1].log().sum()).cpu().numpy()
