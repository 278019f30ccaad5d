"""Implicit Q-learning for discrete and continuous actions (Kostrikov, Nair and Levine, 2022). Book: offline/iql."""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ca14lib.agents.base import AgentConfig, ContinuousAgent, ValueAgent, gradient_step, require
from ca14lib.agents.dqn import td_loss, td_target
from ca14lib.data import Transitions
from ca14lib.networks import GaussianPolicy, TwinCritic, mlp, polyak_update


@dataclass(frozen=True)
class DiscreteIQLConfig(AgentConfig):
    expectile: float = 0.7  # τ, eq. iql-expectile: 0.5 is the mean, 1 the in-sample maximum
    temperature: float = 3.0  # β, eq. iql-weight: 0 clones the data
    max_weight: float = 100.0  # clip of exp(βA)
    target_rate: float = 0.005  # η, eq. polyak

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.expectile < 1, "expectile", self.expectile, "in (0, 1)")
        require(0 <= self.temperature < math.inf, "temperature", self.temperature, "finite and >= 0")
        require(self.max_weight > 0, "max_weight", self.max_weight, "> 0")
        require(0 < self.target_rate <= 1, "target_rate", self.target_rate, "in (0, 1]")


def expectile_loss(error: Tensor, expectile: float) -> Tensor:
    r"""Mean asymmetric squared error :math:`|\tau - 1(u<0)|\,u^2` (book eq. iql-expectile).

    Args:
        error: :math:`u` = target minus prediction, any shape.
        expectile: :math:`\tau` in (0, 1).
    Returns:
        Scalar. At 0.5 it is half the mean squared error.
    """
    return (torch.where(error < 0, 1 - expectile, expectile) * error.square()).mean()


def advantage_weight(advantage: Tensor, temperature: float, max_weight: float) -> Tensor:
    r"""Weight of a data action, :math:`\min(\exp(\beta A), w_{\max})` (book eq. iql-weight).

    Args:
        advantage: :math:`A = \bar Q(s,a) - V(s)`, any shape.
        temperature: :math:`\beta \ge 0`.
        max_weight: :math:`w_{\max}`.
    Returns:
        Same shape as ``advantage``, finite however large it is.
    """
    return (temperature * advantage).exp().clamp(max=max_weight)


def weighted_log_likelihood_loss(logits: Tensor, action: Tensor, weight: Tensor) -> Tensor:
    r"""Mean of :math:`-w(s,a) \log \pi(a|s)` over the batch (book eq. iql-policy).

    Args:
        logits: ``[B, A]``.
        action: ``[B]`` int64, the data's actions.
        weight: ``[B]``, must carry no gradient.
    Returns:
        Scalar.
    """
    return (weight * nn.functional.cross_entropy(logits, action, reduction="none")).mean()


def weighted_density_loss(log_prob: Tensor, weight: Tensor) -> Tensor:
    r"""Mean of :math:`-w(s,a) \log \pi(a|s)` for continuous actions (book eq. iql-policy).

    Args:
        log_prob: ``[B]``, log-densities of the data's actions.
        weight: ``[B]``, must carry no gradient.
    Returns:
        Scalar.
    """
    return -(weight * log_prob).mean()


class DiscreteIQL(ValueAgent):
    """Expectile regression of V inside the data, then advantage-weighted cloning; never queries an unseen action."""

    config_class = DiscreteIQLConfig
    config: DiscreteIQLConfig

    def _build(self) -> None:
        space, actions, hidden = self.observation_space, self.num_actions, self.config.hidden_sizes
        self.value = mlp(space, 1, hidden)
        self.critics = nn.ModuleList([mlp(space, actions, hidden) for _ in range(2)])
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.policy = mlp(space, actions, hidden)
        self.value_optimizer = self._optimizer("value", self.value)
        self.critic_optimizer = self._optimizer("critic", self.critics)
        self.policy_optimizer = self._optimizer("policy", self.policy)

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        observation = self._input(batch.observation)
        value_loss, advantage = self._fit_value(observation, batch.action)
        policy_loss = self._fit_policy(observation, batch.action, advantage)
        critic_loss, q = self._fit_critics(observation, batch)
        polyak_update(self.target_critics, self.critics, self.config.target_rate)
        return {"value_loss": value_loss, "policy_loss": policy_loss, "critic_loss": critic_loss, "q": q}

    def _fit_value(self, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """V towards the expectile of the target critics' minimum (eq. iql-value); the advantage uses the new V."""
        with torch.no_grad():
            first, second = (_taken(critic(observation), action) for critic in self.target_critics)
            target_q = torch.minimum(first, second)
        loss = expectile_loss(target_q - self.value(observation).squeeze(1), self.config.expectile)
        gradient_step(self.value_optimizer, loss)
        with torch.no_grad():
            return loss.detach(), target_q - self.value(observation).squeeze(1)

    def _fit_policy(self, observation: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
        weight = advantage_weight(advantage, self.config.temperature, self.config.max_weight)
        loss = weighted_log_likelihood_loss(self.policy(observation), action, weight)
        gradient_step(self.policy_optimizer, loss)
        return loss.detach()

    def _fit_critics(self, observation: Tensor, batch: Transitions) -> tuple[Tensor, Tensor]:
        """Both critics towards r + γ V(s′) (eq. iql-critic)."""
        with torch.no_grad():
            next_value = self.value(self._input(batch.next_observation)).squeeze(1)
            target = td_target(batch.reward, batch.terminated, next_value, self.config.discount)
        first, second = (_taken(critic(observation), batch.action) for critic in self.critics)
        loss = td_loss(first, target) + td_loss(second, target)
        gradient_step(self.critic_optimizer, loss)
        return loss.detach(), first.detach().mean()

    def _scores(self, observation: Tensor) -> Tensor:
        return self.policy(self._input(observation))

    def _q_values(self, observation: Tensor) -> Tensor:
        """The lesser of the two critics; the policy does not use it."""
        inputs = self._input(observation)
        first, second = (critic(inputs) for critic in self.critics)
        return torch.minimum(first, second)


def _taken(q: Tensor, action: Tensor) -> Tensor:
    return q.gather(1, action.unsqueeze(1)).squeeze(1)


@dataclass(frozen=True)
class IQLConfig(DiscreteIQLConfig):
    policy_decay_updates: int = 0  # the policy's learning rate falls to 0 over so many updates, by a cosine; 0: never

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.policy_decay_updates >= 0, "policy_decay_updates", self.policy_decay_updates, ">= 0")


class IQL(ContinuousAgent):
    """Expectile regression of V inside the data, then advantage-weighted cloning by a Gaussian policy."""

    config_class = IQLConfig
    config: IQLConfig

    def _build(self) -> None:
        hidden = self.config.hidden_sizes
        self.value = mlp(self.flat_space, 1, hidden)
        self.critic = TwinCritic(self.flat_space.shape[0], self.action_dimension, hidden)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.policy = GaussianPolicy(self.flat_space, self.action_dimension, hidden)
        self.value_optimizer = self._optimizer("value", self.value)
        self.critic_optimizer = self._optimizer("critic", self.critic)
        self.policy_optimizer = self._optimizer("policy", self.policy)

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        self.updates += 1
        observation, action = self._input(batch.observation), self._unit(batch.action)
        value_loss, advantage = self._fit_value(observation, action)
        policy_loss = self._fit_policy(observation, action, advantage)
        critic_loss, q = self._fit_critic(observation, action, batch)
        polyak_update(self.target_critic, self.critic, self.config.target_rate)
        return {"value_loss": value_loss, "policy_loss": policy_loss, "critic_loss": critic_loss, "q": q}

    def _fit_value(self, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """V towards the expectile of the target critics' minimum (eq. iql-value); the advantage uses the new V."""
        with torch.no_grad():
            target_q = self.target_critic.least(observation, action)
        loss = expectile_loss(target_q - self.value(observation).squeeze(1), self.config.expectile)
        gradient_step(self.value_optimizer, loss)
        with torch.no_grad():
            return loss.detach(), target_q - self.value(observation).squeeze(1)

    def _fit_policy(self, observation: Tensor, action: Tensor, advantage: Tensor) -> Tensor:
        weight = advantage_weight(advantage, self.config.temperature, self.config.max_weight)
        loss = weighted_density_loss(self.policy.log_prob(observation, action), weight)
        if self.config.policy_decay_updates:
            done = min((self.updates - 1) / self.config.policy_decay_updates, 1.0)
            rate = self.config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))
            self.policy_optimizer.param_groups[0]["lr"] = rate
        gradient_step(self.policy_optimizer, loss)
        return loss.detach()

    def _fit_critic(self, observation: Tensor, action: Tensor, batch: Transitions) -> tuple[Tensor, Tensor]:
        """Both critics towards r + γ V(s′) (eq. iql-critic)."""
        with torch.no_grad():
            next_value = self.value(self._input(batch.next_observation)).squeeze(1)
            target = td_target(batch.reward, batch.terminated, next_value, self.config.discount)
        first, second = self.critic(observation, action)
        loss = td_loss(first, target) + td_loss(second, target)
        gradient_step(self.critic_optimizer, loss)
        return loss.detach(), first.detach().mean()

    def _unit_action(self, observation: Tensor, deterministic: bool) -> Tensor:
        inputs = self._input(observation)
        return self.policy.best(inputs) if deterministic else self.policy.sample(inputs, self.generator)
