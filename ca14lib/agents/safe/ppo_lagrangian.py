"""PPO on a Lagrangian whose multiplier climbs by plain gradient steps (Ray et al., 2019). Book: safe/lagrangian."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ca14lib.agents.base import require
from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.data import Rollout


@dataclass(frozen=True)
class PPOLagrangianConfig(PPOConfig):
    cost_limits: tuple[float, ...] = (25.0,)  # d_k
    multiplier_learning_rate: float = 0.05  # η_λ, eq. lagrangian-multiplier-step
    initial_multiplier: float = 0.0  # λ₀
    max_multiplier: float = float("inf")

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.cost_limits) >= 1, "cost_limits", self.cost_limits, "at least one limit")
        rate = self.multiplier_learning_rate
        require(0 <= rate < float("inf"), "multiplier_learning_rate", rate, "finite and at least 0")
        start = self.initial_multiplier
        require(0 <= start < float("inf"), "initial_multiplier", start, "finite and at least 0")
        require(self.max_multiplier > 0, "max_multiplier", self.max_multiplier, "positive")
        require(
            start <= self.max_multiplier, "initial_multiplier", start, f"at most {self.max_multiplier}, its maximum"
        )


def multiplier_step(multiplier: Tensor, episode_cost: Tensor, limit: Tensor, learning_rate: float) -> Tensor:
    r"""Ascent on the dual: :math:`\lambda \leftarrow [\lambda + \eta_\lambda (\hat J_C - d)]_+`.

    Book eq. lagrangian-multiplier-step. Plain gradient ascent: Adam would forget how large the violation is.

    Args:
        multiplier: ``[K]``.
        episode_cost: ``[K]``, mean undiscounted cost of completed episodes.
        limit: ``[K]``.
        learning_rate: :math:`\eta_\lambda \ge 0`.
    Returns:
        ``[K]``, at least 0.
    """
    return (multiplier + learning_rate * (episode_cost - limit)).clamp(min=0.0)


def lagrangian_advantage(advantage: Tensor, cost_advantage: Tensor, multiplier: Tensor) -> Tensor:
    r"""Advantage of the Lagrangian, :math:`(A^R - \sum_k \lambda_k A^{C_k}) / (1 + \sum_k \lambda_k)`.

    Book eq. lagrangian-advantage. The cost advantages are centred, so that a batch without a better or worse action
    pushes nothing, and keep their scale: dividing by their deviation would change what λ weighs.

    Args:
        advantage: ``[B]``.
        cost_advantage: ``[B, K]``.
        multiplier: ``[K]``.
    Returns:
        ``[B]``.
    """
    centred = cost_advantage - cost_advantage.mean(dim=0)
    return (advantage - advantage.mean() - centred @ multiplier) / (1 + multiplier.sum())


class PPOLagrangian(PPO):
    """PPO whose advantage weighs every cost by a multiplier that rises while the cost exceeds its limit."""

    config_class = PPOLagrangianConfig
    config: PPOLagrangianConfig
    multiplier: Tensor

    def _build(self) -> None:
        super()._build()
        start = torch.full((self.num_costs,), float(self.config.initial_multiplier), device=self.device)
        self.register_buffer("multiplier", start)

    def update(self, rollout: Rollout) -> dict[str, Tensor]:
        self._check(rollout)
        self._update_multiplier(rollout)  # before the policy, which then answers the present violation
        return super().update(rollout)

    def _update_multiplier(self, rollout: Rollout) -> None:
        """One ascent step; without a completed episode there is no estimate, and the multiplier stays."""
        cost = rollout.mean_episode_cost()
        if cost is not None:
            cost = cost[: self.num_costs]
            moved = multiplier_step(self.multiplier, cost, self.cost_limits, self.config.multiplier_learning_rate)
            self.multiplier.copy_(moved.clamp(max=self.config.max_multiplier))

    def _entropy_scale(self) -> float | Tensor:
        return 1.0 if self.config.standardise else 1.0 / (1.0 + self.multiplier.sum())

    def _policy_advantage(
        self, rollout: Rollout, advantage: Tensor, cost_advantage: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        logs = {f"multiplier_{k}": value for k, value in enumerate(self.multiplier.clone())}
        return lagrangian_advantage(advantage, cost_advantage, self.multiplier), logs
