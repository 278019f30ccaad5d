"""Policy gradients of risk measures of whole episodes (mean minus β times risk). Book: safe/policy_gradients."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ca14lib.agents.base import require
from ca14lib.agents.on_policy import standardised
from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.data import Rollout
from ca14lib.metrics.risk import RISK_MEASURES, risk_influence


@dataclass(frozen=True)
class EpisodicConfig(PPOConfig):
    discount: float = 1.0  # the measures are of undiscounted returns
    gae_lambda: float = 1.0  # the utility of an episode comes at its end


class EpisodicPolicyGradient(PPO):
    """Base class: climbs a utility that each whole episode earns at its end, a function of all episodes' sums.

    The gradient is the score-function form :math:`\\mathbb E[u_i \\sum_t \\nabla\\log\\pi(a_t|s_t)]` with a learned
    baseline, followed by PPO's clipped steps. A subclass gives :math:`u` in :meth:`_utility`. The training loop starts
    every environment anew with each rollout, which has to be as long as an episode.
    """

    config_class = EpisodicConfig
    config: EpisodicConfig
    whole_episodes: ClassVar[bool] = True

    def _utility(self, returns: Tensor, costs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Utilities ``[E]`` of episodes with returns ``[E]`` and costs ``[E, K]``, and what there is to log."""
        raise NotImplementedError

    def update(self, rollout: Rollout) -> dict[str, Tensor]:
        """One update.

        Args:
            rollout: Every copy's first episode begins with it and ends within it; what follows is not used.
        Returns:
            What there is to log, scalars.
        Raises:
            ValueError: If an episode did not end, or costs are missing or not finite.
        """
        self._check(rollout)
        first, ended = rollout.first_episodes()
        if not ended.all():
            raise ValueError(
                f"{type(self).__name__} learns from whole episodes, but {int((~ended).sum())} of {len(ended)} did not "
                f"end within the {len(rollout.reward)} steps of the rollout: give rollout_steps of an episode's length"
            )
        returns = (rollout.reward * first).sum(dim=0)
        costs = (rollout.cost[..., : self.num_costs] * first.unsqueeze(-1)).sum(dim=0)
        utility, logs = self._utility(returns, costs)
        final = first & (rollout.terminated | rollout.truncated)
        # with whole episodes every end is final: the utility has counted what a time limit cuts off as nothing
        scored = replace(
            rollout, reward=final * utility, terminated=rollout.terminated | rollout.truncated,
            truncated=torch.zeros_like(rollout.truncated),
        )  # fmt: skip
        advantage, _, target = self._advantages(scored)
        kept = first.flatten()
        advantage, target = advantage[kept], target[kept]
        advantage = standardised(advantage) if self.config.standardise else advantage - advantage.mean()
        logs |= self._passes(_rows(scored, kept), advantage, target)
        self.updates += 1
        return logs


def _rows(rollout: Rollout, kept: Tensor) -> Rollout:
    """The kept steps ``[T · N]`` bool as a rollout of one environment, its rows no longer in the order of time."""
    columns = ("observation", "action", "log_prob", "reward", "cost", "next_observation", "terminated", "truncated")
    chosen = {name: rollout.flat(name)[kept].unsqueeze(1) for name in columns}
    mask = None if rollout.action_mask is None else rollout.flat("action_mask")[kept].unsqueeze(1)
    return replace(rollout, **chosen, action_mask=mask)


@dataclass(frozen=True)
class RiskSensitiveConfig(EpisodicConfig):
    measure: str = "conditional_value_at_risk"  # any of ca14lib.metrics.risk.RISK_MEASURES, of the loss −R
    parameter: float = 0.9  # of the measure: α, β of the entropic one, weight of the variance
    risk_weight: float = 1.0  # κ, eq. risk-sensitive-objective

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.measure in RISK_MEASURES, "measure", self.measure, f"one of {', '.join(RISK_MEASURES)}")
        measure, level = RISK_MEASURES[self.measure], self.parameter
        # at the ends of the range two measures are limits, which have no gradient
        open_ends = {
            "value_at_risk": ("alpha in (0, 1)", 0 < level < 1),
            "conditional_value_at_risk": ("alpha in [0, 1)", level < 1),
        }
        domain, inside = open_ends.get(self.measure, (measure.domain, True))
        require(inside and measure.accepts(level), "parameter", level, f"as {self.measure} needs it, {domain}")
        require(0 <= self.risk_weight < float("inf"), "risk_weight", self.risk_weight, "finite and at least 0")


class RiskSensitivePolicyGradient(EpisodicPolicyGradient):
    """Climbs mean return minus κ times a risk measure of the loss (book eq. risk-sensitive-gradient)."""

    config_class = RiskSensitiveConfig
    config: RiskSensitiveConfig

    def _utility(self, returns: Tensor, costs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        config, losses = self.config, -returns.double().cpu().numpy()
        influence = risk_influence(losses, config.measure, config.parameter)
        risk = RISK_MEASURES[config.measure](losses, config.parameter)
        utility = returns - config.risk_weight * torch.as_tensor(influence, dtype=returns.dtype, device=returns.device)
        return utility, {"risk": returns.new_tensor(float(risk))}
