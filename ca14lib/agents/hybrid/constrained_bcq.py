"""Batch-constrained Q-learning within limits on cost: BCQ with cost critics and a multiplier, discrete actions.

The Lagrangian loop over a log is that of Le, Voloshin and Yue (2019), the support that of BCQ (Fujimoto et al., 2019b).
Book: evaluation/offline_safe.
"""

import copy
import math
import sys
from dataclasses import dataclass

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn import functional

from ca14lib.agents.base import AgentConfig, ValueAgent, gradient_step, require
from ca14lib.agents.dqn import td_target
from ca14lib.agents.offline.bcq import behaviour_loss, supported_actions
from ca14lib.agents.safe.ppo_lagrangian import multiplier_step
from ca14lib.data import OfflineDataset, Transitions
from ca14lib.networks import mlp, polyak_update


@dataclass(frozen=True)
class ConstrainedBCQConfig(AgentConfig):
    cost_limits: tuple[float, ...] = ()  # d_k on the expected undiscounted cost of an episode; none is BCQ
    cost_discount: float = 1.0  # γ_c: a limit on undiscounted costs needs 1
    threshold: float = 0.1  # ζ, eq. bcq-mask
    logit_penalty: float = 1e-2  # c_ω, eq. bcq-behaviour
    temperature: float = 0.05  # 1/β, eq. offline-safe-policy, in units of reward: 0 is greedy
    pessimism: float = 1.0  # κ, eq. offline-safe-pessimism: 0 is the mean of both critics, 1 the worse of them
    target_rate: float = 0.01  # η, eq. polyak
    multiplier_learning_rate: float = 0.02  # η_λ, eq. offline-safe-multiplier; 0 keeps the price fixed
    multiplier_patience: int = 1_000  # u_0: updates after which the price's steps shrink like 1/u
    initial_multiplier: float = 0.0  # λ₀
    max_multiplier: float = 100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "cost_limits", tuple(float(limit) for limit in self.cost_limits))
        finite = all(0 <= limit < math.inf for limit in self.cost_limits)
        require(finite, "cost_limits", self.cost_limits, "finite and at least 0")
        require(0 < self.cost_discount <= 1, "cost_discount", self.cost_discount, "in (0, 1]")
        require(0 <= self.threshold < 1, "threshold", self.threshold, "in [0, 1)")
        require(0 <= self.logit_penalty < math.inf, "logit_penalty", self.logit_penalty, "finite and >= 0")
        require(0 <= self.temperature < math.inf, "temperature", self.temperature, "finite and >= 0")
        require(0 <= self.pessimism <= 1, "pessimism", self.pessimism, "in [0, 1]")
        require(0 < self.target_rate <= 1, "target_rate", self.target_rate, "in (0, 1]")
        rate, start = self.multiplier_learning_rate, self.initial_multiplier
        require(0 <= rate < math.inf, "multiplier_learning_rate", rate, "finite and at least 0")
        patience = self.multiplier_patience
        require(
            isinstance(patience, int) and patience >= 1, "multiplier_patience", patience, "an integer of at least 1"
        )
        require(0 < self.max_multiplier < math.inf, "max_multiplier", self.max_multiplier, "positive and finite")
        require(0 <= start <= self.max_multiplier, "initial_multiplier", start, f"in [0, {self.max_multiplier}]")


def pessimistic_values(first: Tensor, second: Tensor, pessimism: float) -> Tensor:
    r"""Two critics as one: rewards towards the lower, costs towards the higher (book eq. offline-safe-pessimism).

    Args:
        first: ``[…, 1 + K, A]``, the reward's values, then those of each cost.
        second: Same shape.
        pessimism: :math:`\kappa` in [0, 1]: 0 is the mean, 1 the minimum of rewards and the maximum of costs.
    Returns:
        Same shape.
    """
    sign = torch.ones(first.shape[-2], 1, dtype=first.dtype, device=first.device)
    sign[0] = -1
    return (first + second) / 2 + sign * pessimism * (first - second).abs() / 2


def lagrangian_values(values: Tensor, multiplier: Tensor) -> Tensor:
    r"""Value of every action with its costs priced, :math:`Q_r-\sum_k\lambda_kQ_{c_k}` (book eq. offline-safe-value).

    Args:
        values: ``[…, 1 + K, A]``.
        multiplier: ``[K]``.
    Returns:
        ``[…, A]``.
    """
    return values[..., 0, :] - torch.einsum("...ka,k->...a", values[..., 1:, :], multiplier)


def supported_softmax(scores: Tensor, supported: Tensor, temperature: float) -> Tensor:
    r"""The policy :math:`\pi(a|s)\propto 1[a\in\mathcal A_\zeta(s)]\exp(\beta L(s,a))` (book eq. offline-safe-policy).

    Args:
        scores: ``[B, A]``, values with priced costs.
        supported: ``[B, A]`` bool, true at least once a row.
        temperature: :math:`1/\beta \ge 0`; at 0 the best supported action has probability 1.
    Returns:
        ``[B, A]``.
    """
    scores = scores.masked_fill(~supported, -torch.inf)
    if temperature == 0:
        return functional.one_hot(scores.argmax(dim=-1), scores.shape[-1]).to(scores.dtype)
    return (scores / temperature).softmax(dim=-1)


def policy_values(policy: Tensor, values: Tensor) -> Tensor:
    r"""Values of a state under a policy, :math:`V=\sum_a\pi(a|s)\,Q(s,a)`, of the reward and of each cost.

    Args:
        policy: ``[B, A]``.
        values: ``[B, 1 + K, A]``.
    Returns:
        ``[B, 1 + K]``.
    """
    return torch.einsum("ba,bka->bk", policy, values)


def multiplier_rate(learning_rate: float, updates: int, patience: int) -> float:
    r"""Step size of the price at an update, :math:`\eta_\lambda\min(1, u_0/u)` (book eq. offline-safe-multiplier).

    Args:
        learning_rate: :math:`\eta_\lambda`.
        updates: :math:`u`, at least 1.
        patience: :math:`u_0`.
    """
    return learning_rate * min(1.0, patience / updates)


def start_cost(cost_value: Tensor, start: Tensor, otherwise: Tensor) -> Tensor:
    r"""Expected cost of an episode: the mean cost value over first steps (book eq. offline-safe-estimate).

    Args:
        cost_value: ``[B, K]``, cost values of the policy at the observations of a batch.
        start: ``[B]``, 1 where an episode begins, else 0.
        otherwise: ``[K]``, what is returned where no episode begins in the batch.
    Returns:
        ``[K]``.
    """
    number = start.sum()
    return torch.where(number > 0, start @ cost_value / number.clamp(min=1), otherwise)


class ConstrainedBCQ(ValueAgent):
    """Twin critics of reward and costs among supported actions; a multiplier prices costs until the limits hold.

    The policy is a softmax of the priced values: it can mix two actions that are equally good at the final price, which
    the optimum within a limit may have to.
    """

    config_class = ConstrainedBCQConfig
    config: ConstrainedBCQConfig
    multiplier: Tensor
    cost_limits: Tensor
    discounts: Tensor

    def _build(self) -> None:
        space, actions, hidden = self.observation_space, self.num_actions, self.config.hidden_sizes
        self.critics = nn.ModuleList([mlp(space, (1 + self.num_costs) * actions, hidden) for _ in range(2)])
        self.target_critics = copy.deepcopy(self.critics).requires_grad_(False)
        self.behaviour = mlp(space, actions, hidden)
        self.optimizer = self._optimizer("networks", self.critics, self.behaviour)
        start = torch.full((self.num_costs,), float(self.config.initial_multiplier), device=self.device)
        self.register_buffer("multiplier", start)
        self.register_buffer("cost_limits", torch.tensor(self.config.cost_limits, device=self.device))
        discounts = [self.config.discount] + self.num_costs * [self.config.cost_discount]
        self.register_buffer("discounts", torch.tensor(discounts, device=self.device))

    @property
    def num_costs(self) -> int:
        """K: how many of the costs in the data have a limit, the first ones."""
        return len(self.config.cost_limits)

    @property
    def relabel_every(self) -> int:
        """Once, before the first update: where episodes begin does not change."""
        return sys.maxsize

    def relabel(self, dataset: OfflineDataset) -> Tensor:
        """1 at the first step of every episode, else 0: the multiplier's step is about these alone."""
        label = torch.zeros(len(dataset), device=dataset.device)
        label[[piece.start for piece in dataset.episode_slices]] = 1.0
        return label

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        """One step of behaviour, critics and price; a batch without labels (``value_target``) leaves the price alone.

        Raises:
            ValueError: If the batch has fewer costs than there are limits.
        """
        if batch.cost.shape[1] < self.num_costs:
            raise ValueError(f"the data must have {self.num_costs} costs, one a limit, got {batch.cost.shape[1]}")
        self.updates += 1
        observation = self._input(batch.observation)
        logs = {} if batch.value_target is None else self._update_multiplier(observation, batch)
        target = self._target(batch)
        rows = torch.arange(len(batch), device=self.device)
        errors = [self._values(critic, observation)[rows, :, batch.action] - target for critic in self.critics]
        critic_loss = torch.stack([0.5 * error.square().sum(dim=1).mean() for error in errors]).sum()
        imitation_loss = behaviour_loss(self.behaviour(observation), batch.action, self.config.logit_penalty)
        gradient_step(self.optimizer, critic_loss + imitation_loss)  # of separate parameters: one step of each
        polyak_update(self.target_critics, self.critics, self.config.target_rate)
        return logs | {"critic_loss": critic_loss.detach(), "behaviour_loss": imitation_loss.detach()}

    @torch.no_grad()
    def _update_multiplier(self, observation: Tensor, batch: Transitions) -> dict[str, Tensor]:
        """Dual ascent by the cost that the critics expect from the first steps on (eq. offline-safe-multiplier)."""
        assert batch.value_target is not None
        values = self._pessimistic(self.target_critics, observation)
        policy = self._mixture(values, observation, batch.action_mask)
        expected = start_cost(policy_values(policy, values)[:, 1:], batch.value_target, self.cost_limits)
        rate = multiplier_rate(self.config.multiplier_learning_rate, self.updates, self.config.multiplier_patience)
        moved = multiplier_step(self.multiplier, expected, self.cost_limits, rate)
        self.multiplier.copy_(moved.clamp(max=self.config.max_multiplier))
        logs = {f"expected_cost_{k}": value for k, value in enumerate(expected)}
        return logs | {f"multiplier_{k}": value for k, value in enumerate(self.multiplier.clone())}

    @torch.no_grad()
    def _target(self, batch: Transitions) -> Tensor:
        """Reward and costs, each with the value of what the present policy does next (eq. offline-safe-target)."""
        following = self._input(batch.next_observation)
        values = self._pessimistic(self.target_critics, following)
        next_value = policy_values(self._mixture(values, following, batch.next_action_mask), values)
        received = torch.column_stack([batch.reward, batch.cost[:, : self.num_costs]])
        return td_target(received, batch.terminated.unsqueeze(1), self.discounts * next_value, 1.0)

    def _values(self, critic: nn.Module, observation: Tensor) -> Tensor:
        return critic(observation).unflatten(1, (1 + self.num_costs, self.num_actions))

    def _pessimistic(self, critics: nn.ModuleList, observation: Tensor) -> Tensor:
        first, second = (self._values(critic, observation) for critic in critics)
        return pessimistic_values(first, second, self.config.pessimism)

    def _mixture(self, values: Tensor, observation: Tensor, mask: Tensor | None) -> Tensor:
        supported = supported_actions(self.behaviour(observation), self.config.threshold, mask)
        return supported_softmax(lagrangian_values(values, self.multiplier), supported, self.config.temperature)

    def _q_values(self, observation: Tensor) -> Tensor:
        """The reward's values; the policy weighs the costs against them."""
        return self._pessimistic(self.critics, self._input(observation))[:, 0]

    def _scores(self, observation: Tensor) -> Tensor:
        return lagrangian_values(self._pessimistic(self.critics, self._input(observation)), self.multiplier)

    def _policy(self, observation: Tensor, mask: ArrayLike | None, deterministic: bool) -> Tensor:
        scores = self._scores(observation)
        allowed = None if mask is None else self._allowed(mask, scores.shape)
        supported = supported_actions(self.behaviour(self._input(observation)), self.config.threshold, allowed)
        return supported_softmax(scores, supported, 0.0 if deterministic else self.config.temperature)
