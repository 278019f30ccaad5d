"""PPO on the reward minus a fixed price of every cost. Book: safe/lagrangian.

The baseline that the multipliers are compared with: right only if the price happens to be the dual optimum, and never
where the optimum has to mix two policies.
"""

from dataclasses import dataclass

from torch import Tensor

from ca14lib.agents.base import require
from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.agents.safe.ppo_lagrangian import lagrangian_advantage
from ca14lib.data import Rollout


@dataclass(frozen=True)
class FixedPenaltyConfig(PPOConfig):
    cost_limits: tuple[float, ...] = (25.0,)  # only counted against, never used
    penalty: float = 1.0  # the price of one unit of every cost, eq. fixed-penalty

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.cost_limits) >= 1, "cost_limits", self.cost_limits, "at least one limit")
        require(0 <= self.penalty < float("inf"), "penalty", self.penalty, "finite and at least 0")


class FixedPenalty(PPO):
    """PPO whose reward is lowered by a fixed price of every cost."""

    config_class = FixedPenaltyConfig
    config: FixedPenaltyConfig

    def _entropy_scale(self) -> float | Tensor:
        return 1.0 if self.config.standardise else 1.0 / (1.0 + self.config.penalty * self.num_costs)

    def _policy_advantage(
        self, rollout: Rollout, advantage: Tensor, cost_advantage: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        price = cost_advantage.new_full((self.num_costs,), self.config.penalty)
        return lagrangian_advantage(advantage, cost_advantage, price), {}
