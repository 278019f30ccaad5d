"""Advantage-weighted regression for discrete and continuous actions (Peng et al., 2019). Book: offline/awr."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ca14lib.agents.base import AgentConfig, ContinuousAgent, DiscreteAgent, gradient_step, require
from ca14lib.agents.dqn import td_loss, td_target
from ca14lib.agents.offline.iql import weighted_density_loss, weighted_log_likelihood_loss
from ca14lib.data import OfflineDataset, Transitions
from ca14lib.networks import GaussianPolicy, mlp

CHUNK = 8_192  # observations valued at once when the whole dataset is labelled


@dataclass(frozen=True)
class DiscreteAWRConfig(AgentConfig):
    trace_decay: float = 0.95  # λ, eq. awr-return: 1 is the return of the episode, 0 the one-step target
    temperature: float = 1.0  # 1/β, eq. awr-weight, for advantages of standard deviation 1; large ones clone the data
    max_weight: float = 20.0  # clip of exp(βÂ)
    relabel_interval: int = 1_000  # updates between two computations of the returns

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.trace_decay <= 1, "trace_decay", self.trace_decay, "in [0, 1]")
        require(0 < self.temperature < math.inf, "temperature", self.temperature, "positive and finite")
        require(self.max_weight > 0, "max_weight", self.max_weight, "> 0")
        require(self.relabel_interval >= 1, "relabel_interval", self.relabel_interval, "at least 1")


def lambda_return(
    reward: Tensor, terminated: Tensor, truncated: Tensor, next_value: Tensor, discount: float, trace_decay: float
) -> Tensor:
    r"""TD(λ) return of every step of whole episodes that stand one after the other (book eq. awr-return).

    :math:`G_t = r_t + \gamma\,[(1-\lambda) V(s_{t+1}) + \lambda G_{t+1}]`; at the last step of an episode
    :math:`r_t`, plus :math:`\gamma V(s_{t+1})` if it was only cut off.

    Args:
        reward: ``[N]``.
        terminated: ``[N]`` bool, true ends.
        truncated: ``[N]`` bool, time limits; each episode ends with one of the two, the last one included.
        next_value: ``[N]``, value of the next observation; what stands at a true end does not count.
        discount: :math:`\gamma` in (0, 1].
        trace_decay: :math:`\lambda` in [0, 1].
    Returns:
        ``[N]``.
    """
    last = (terminated | truncated).nonzero().squeeze(1)
    length = last.diff(prepend=last.new_tensor([-1]))
    target = td_target(reward, terminated, next_value, discount)  # right at the last steps
    for back in range(1, int(length.max())):  # one step further from the end, in all episodes that are so long
        step = last[length > back] - back
        following = (1 - trace_decay) * next_value[step] + trace_decay * target[step + 1]
        target[step] = reward[step] + discount * following
    return target


def normalized_advantage(target: Tensor, value: Tensor, epsilon: float = 1e-5) -> Tensor:
    r"""Advantages :math:`\hat A` with mean 0 and standard deviation 1 over the batch (book eq. awr-weight).

    Args:
        target: ``[B]``, returns.
        value: ``[B]``, :math:`V(s)`.
        epsilon: Added to the standard deviation: equal advantages become 0.
    Returns:
        ``[B]``.
    """
    advantage = target - value
    return (advantage - advantage.mean()) / (advantage.std(correction=0) + epsilon)


def awr_weight(advantage: Tensor, temperature: float, max_weight: float) -> Tensor:
    r"""Weight of a data action, :math:`\min(\exp(\beta \hat A), w_{\max})` (book eq. awr-weight).

    Args:
        advantage: :math:`\hat A`, any shape.
        temperature: :math:`1/\beta > 0`: as in the paper it divides, where IQL multiplies.
        max_weight: :math:`w_{\max}`.
    Returns:
        Same shape as ``advantage``, finite however large it is.
    """
    return (advantage / temperature).exp().clamp(max=max_weight)


@torch.no_grad()
def recorded_returns(dataset: OfflineDataset, value: Callable[[Tensor], Tensor], config: DiscreteAWRConfig) -> Tensor:
    """TD(λ) return of every transition of a dataset (book eq. awr-return).

    Args:
        dataset: Whole episodes.
        value: Present V, from raw observations ``[B, …]`` to ``[B]``.
        config: Gives discount and trace decay.
    Returns:
        ``[N]``.
    """
    data = dataset.transitions
    next_value = torch.cat([value(part) for part in data.next_observation.split(CHUNK)])
    return lambda_return(data.reward, data.terminated, data.truncated, next_value, config.discount, config.trace_decay)


class DiscreteAWR(DiscreteAgent):
    """V by regression on TD(λ) returns of the data, then cloning weighted by how much better an action turned out."""

    config_class = DiscreteAWRConfig
    config: DiscreteAWRConfig

    def _build(self) -> None:
        self.value = mlp(self.observation_space, 1, self.config.hidden_sizes)
        self.policy = mlp(self.observation_space, self.num_actions, self.config.hidden_sizes)
        self.value_optimizer = self._optimizer("value", self.value)
        self.policy_optimizer = self._optimizer("policy", self.policy)

    @property
    def relabel_every(self) -> int:
        return self.config.relabel_interval

    def relabel(self, dataset: OfflineDataset) -> Tensor:
        """TD(λ) returns of the whole dataset by the present V (eq. awr-return)."""
        return recorded_returns(dataset, self._value, self.config)

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        """One step of V and of the policy; a batch without ``value_target`` is used with one-step returns (λ = 0)."""
        observation = self._input(batch.observation)
        target = self._one_step_target(batch) if batch.value_target is None else batch.value_target
        value_loss = td_loss(self.value(observation).squeeze(1), target)  # eq. awr-value
        gradient_step(self.value_optimizer, value_loss)
        with torch.no_grad():  # the values of the trained V
            advantage = normalized_advantage(target, self.value(observation).squeeze(1))
            weight = awr_weight(advantage, self.config.temperature, self.config.max_weight)
        policy_loss = weighted_log_likelihood_loss(self.policy(observation), batch.action, weight)  # eq. awr-policy
        gradient_step(self.policy_optimizer, policy_loss)
        return {"value_loss": value_loss.detach(), "policy_loss": policy_loss.detach(), "weight": weight.mean()}

    @torch.no_grad()
    def _one_step_target(self, batch: Transitions) -> Tensor:
        return td_target(batch.reward, batch.terminated, self._value(batch.next_observation), self.config.discount)

    def _value(self, observation: Tensor) -> Tensor:
        """V of raw observations, ``[N]``."""
        return self.value(self._input(observation)).squeeze(1)

    def _scores(self, observation: Tensor) -> Tensor:
        return self.policy(self._input(observation))


@dataclass(frozen=True)
class AWRConfig(DiscreteAWRConfig):
    """The fields of :class:`DiscreteAWRConfig`."""


class AWR(ContinuousAgent):
    """The same algorithm with a Gaussian policy (eq. iql-gaussian): only the likelihood differs."""

    config_class = AWRConfig
    config: AWRConfig

    def _build(self) -> None:
        self.value = mlp(self.flat_space, 1, self.config.hidden_sizes)
        self.policy = GaussianPolicy(self.flat_space, self.action_dimension, self.config.hidden_sizes)
        self.value_optimizer = self._optimizer("value", self.value)
        self.policy_optimizer = self._optimizer("policy", self.policy)

    @property
    def relabel_every(self) -> int:
        return self.config.relabel_interval

    def relabel(self, dataset: OfflineDataset) -> Tensor:
        """TD(λ) returns of the whole dataset by the present V (eq. awr-return)."""
        return recorded_returns(dataset, self._value, self.config)

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        """One step of V and of the policy; a batch without ``value_target`` is used with one-step returns (λ = 0)."""
        observation = self._input(batch.observation)
        target = self._one_step_target(batch) if batch.value_target is None else batch.value_target
        value_loss = td_loss(self.value(observation).squeeze(1), target)  # eq. awr-value
        gradient_step(self.value_optimizer, value_loss)
        with torch.no_grad():  # the values of the trained V
            advantage = normalized_advantage(target, self.value(observation).squeeze(1))
            weight = awr_weight(advantage, self.config.temperature, self.config.max_weight)
        log_prob = self.policy.log_prob(observation, self._unit(batch.action))
        policy_loss = weighted_density_loss(log_prob, weight)  # eq. awr-policy
        gradient_step(self.policy_optimizer, policy_loss)
        return {"value_loss": value_loss.detach(), "policy_loss": policy_loss.detach(), "weight": weight.mean()}

    @torch.no_grad()
    def _one_step_target(self, batch: Transitions) -> Tensor:
        return td_target(batch.reward, batch.terminated, self._value(batch.next_observation), self.config.discount)

    def _value(self, observation: Tensor) -> Tensor:
        """V of raw observations, ``[N]``."""
        return self.value(self._input(observation)).squeeze(1)

    def _unit_action(self, observation: Tensor, deterministic: bool) -> Tensor:
        inputs = self._input(observation)
        return self.policy.best(inputs) if deterministic else self.policy.sample(inputs, self.generator)
