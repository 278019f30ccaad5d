"""Policy gradient of the conditional value at risk (Tamar, Glassner and Mannor, 2015). Book: safe/policy_gradients.

Of returns the lower tail counts, of costs the upper one. The tail is a share of probability mass: 1 is the mean.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ca14lib.agents.base import require
from ca14lib.agents.safe.ppo_lagrangian import multiplier_step
from ca14lib.agents.safe.risk_sensitive import EpisodicConfig, EpisodicPolicyGradient


@dataclass(frozen=True)
class CVaRPolicyGradientConfig(EpisodicConfig):
    tail: float = 0.1  # 1 − α, share of the worst episodes, eq. cvar-policy-gradient
    anneal_updates: int = 50  # updates over which the tail shrinks from 1 to 1 − α
    budget: float | None = None  # b, eq. cvar-return; None takes the (1 − α)-quantile of every sample
    multiplier_learning_rate: float = 0.05  # η_λ, for limits on the CVaR of costs, eq. cvar-cost-gradient

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.tail <= 1, "tail", self.tail, "in (0, 1]")
        whole = isinstance(self.anneal_updates, int) and self.anneal_updates >= 0
        require(whole, "anneal_updates", self.anneal_updates, "an integer of at least 0")
        rate, infinity = self.multiplier_learning_rate, float("inf")
        require(0 <= rate < infinity, "multiplier_learning_rate", rate, "finite and at least 0")
        finite = self.budget is None or -infinity < self.budget < infinity
        require(finite, "budget", self.budget, "a finite number or None")


def lower_tail(returns: Tensor, tail: float) -> tuple[Tensor, Tensor]:
    r"""Quantile and utility of episodes whose lower-tail CVaR is climbed (book eq. cvar-policy-gradient).

    :math:`u_i = (R_i - q)\,1[R_i \le q] / (1 - \alpha)`, with q the (1 − α)-quantile of the sample, which is
    a baseline and not differentiated: :math:`q + \mathbb E[u]` is the CVaR of the sample.

    Args:
        returns: ``[E]``.
        tail: :math:`1 - \alpha` in (0, 1], the tail's mass.
    Returns:
        q, 0-d; and ``[E]``, at most 0.
    """
    ordered = returns.sort().values
    rank = math.ceil(tail * len(ordered) * (1 - 1e-6))  # 0.07 · 100 is 7.000000000000001
    quantile = ordered[rank - 1]  # inf{x : P(R ≤ x) ≥ 1 − α}
    return quantile, (returns - quantile).clamp(max=0.0) / tail


def upper_tail(costs: Tensor, tail: float) -> tuple[Tensor, Tensor]:
    r"""The same for costs: quantile and excess :math:`(C_i - q)_+ / (1 - \alpha)` of the upper tail.

    Book eq. cvar-cost-gradient, with q the α-quantile.

    Args:
        costs: ``[E]``.
        tail: :math:`1 - \alpha` in (0, 1], the tail's mass.
    Returns:
        q, 0-d; and ``[E]``, at least 0; their sum's mean is the CVaR of the sample.
    """
    quantile, utility = lower_tail(-costs, tail)
    return -quantile, -utility


def shortfall_utility(returns: Tensor, budget: float) -> Tensor:
    r"""Minus the shortfall below a budget, :math:`u_i=-(b-R_i)_+` (book eqs. cvar-return and budget-state).

    For a fixed b this is an ordinary mean to climb. With the b that maximises eq. cvar-return, the best policy for it
    is the one with the best tail, whose mean :math:`b+\mathbb E[u]/\alpha` is.

    Args:
        returns: ``[E]``.
        budget: b.
    Returns:
        ``[E]``, at most 0.
    """
    return (returns - budget).clamp(max=0.0)


class CVaRPolicyGradient(EpisodicPolicyGradient):
    """Climbs the mean of the worst share of returns; cost limits bound the mean of the worst share of costs.

    Without a ``budget`` the tail is cut off at the quantile of every sample, and shrinks. With one, the policy climbs
    minus the mean shortfall below it; costs have their tails as before.
    """

    config_class = CVaRPolicyGradientConfig
    config: CVaRPolicyGradientConfig
    multiplier: Tensor

    def _build(self) -> None:
        super()._build()
        self.register_buffer("multiplier", torch.zeros(self.num_costs, device=self.device))

    def tail(self) -> float:
        """The tail of this update, shrunk linearly from 1: from the start few episodes would teach anything."""
        done = min(self.updates / self.config.anneal_updates, 1.0) if self.config.anneal_updates else 1.0
        return 1.0 + done * (self.config.tail - 1.0)

    def _utility(self, returns: Tensor, costs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        tail = self.tail()
        quantile, utility = lower_tail(returns, tail)
        logs = {"cvar": quantile + utility.mean(), "quantile": quantile, "tail": returns.new_tensor(tail)}
        if self.config.budget is not None:
            utility = shortfall_utility(returns, self.config.budget) / tail
        for k in range(self.num_costs):
            cost_quantile, excess = upper_tail(costs[:, k], tail)
            logs[f"cost_cvar_{k}"] = cost_quantile + excess.mean()
        if self.num_costs:
            risk = torch.stack([logs[f"cost_cvar_{k}"] for k in range(self.num_costs)])
            step = multiplier_step(self.multiplier, risk, self.cost_limits, self.config.multiplier_learning_rate)
            self.multiplier.copy_(step)
            for k in range(self.num_costs):
                utility = utility - self.multiplier[k] * upper_tail(costs[:, k], tail)[1]
                logs[f"multiplier_{k}"] = self.multiplier[k].clone()
        # in units of the shortfall, so that the entropy's weight has the unit of the reward
        return (utility if self.config.budget is None else tail * utility), logs
