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
    tail: float = 0.1  # α, share of the worst episodes, eq. cvar-policy-gradient
    anneal_updates: int = 50  # updates over which the tail shrinks from 1 to α
    budget: float | None = None  # b at the start, eq. cvar-return; None takes the quantile of every sample instead
    budget_learning_rate: float = 0.1  # η_b, eq. cvar-budget-step
    multiplier_learning_rate: float = 0.05  # η_λ, for limits on the CVaR of costs, eq. cvar-cost-gradient

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.tail <= 1, "tail", self.tail, "in (0, 1]")
        whole = isinstance(self.anneal_updates, int) and self.anneal_updates >= 0
        require(whole, "anneal_updates", self.anneal_updates, "an integer of at least 0")
        infinity = float("inf")
        for name in ("multiplier_learning_rate", "budget_learning_rate"):
            require(0 <= getattr(self, name) < infinity, name, getattr(self, name), "finite and at least 0")
        known = self.budget is None or -infinity < self.budget < infinity
        require(known, "budget", self.budget, "a finite number or None")


def lower_tail(returns: Tensor, tail: float) -> tuple[Tensor, Tensor]:
    r"""Quantile and utility of episodes whose lower-tail CVaR is climbed (book eq. cvar-policy-gradient).

    :math:`u_i = (R_i - q)\,1[R_i \le q] / \alpha`, with q the α-quantile of the sample, which is a baseline and not
    differentiated: :math:`q + \mathbb E[u]` is the CVaR of the sample.

    Args:
        returns: ``[E]``.
        tail: :math:`\alpha` in (0, 1], the tail's mass.
    Returns:
        q, 0-d; and ``[E]``, at most 0.
    """
    ordered = returns.sort().values
    rank = math.ceil(tail * len(ordered) * (1 - 1e-6))  # 0.07 · 100 is 7.000000000000001
    quantile = ordered[rank - 1]  # inf{x : P(R ≤ x) ≥ α}
    return quantile, (returns - quantile).clamp(max=0.0) / tail


def upper_tail(costs: Tensor, tail: float) -> tuple[Tensor, Tensor]:
    r"""The same for costs: quantile and excess :math:`(C_i - q)_+ / \alpha` of the upper tail (eq. cvar-cost-gradient).

    Args:
        costs: ``[E]``.
        tail: :math:`\alpha` in (0, 1], the tail's mass.
    Returns:
        q, 0-d; and ``[E]``, at least 0; their sum's mean is the CVaR of the sample.
    """
    quantile, utility = lower_tail(-costs, tail)
    return -quantile, -utility


def budget_step(budget: Tensor, returns: Tensor, tail: float, learning_rate: float) -> Tensor:
    r"""One step of ascent in the budget b, with the policy held (book eq. cvar-budget-step).

    :math:`b+\eta_b\,(1-P(R\le b)/\alpha)`: the objective of eq. cvar-return is concave in b, and the bracket is its
    derivative from the right. It rests where b is the α-quantile.

    Args:
        budget: b, 0-d.
        returns: ``[E]``.
        tail: :math:`\alpha` in (0, 1], the tail's mass.
        learning_rate: :math:`\eta_b`.
    Returns:
        0-d.
    """
    return budget + learning_rate * (1 - (returns <= budget).to(budget.dtype).mean() / tail)


class CVaRPolicyGradient(EpisodicPolicyGradient):
    """Climbs the mean of the worst share of returns; cost limits bound the mean of the worst share of costs.

    Without a ``budget`` in the configuration the tail is cut off at the quantile of every sample. With one, the policy
    minimises the shortfall below it, and the budget moves towards the quantile by steps of its own: the same objective
    (book eq. cvar-return), climbed in both variables. A first budget above all returns makes it the mean.
    """

    config_class = CVaRPolicyGradientConfig
    config: CVaRPolicyGradientConfig
    multiplier: Tensor
    budget: Tensor

    def _build(self) -> None:
        super()._build()
        self.register_buffer("multiplier", torch.zeros(self.num_costs, device=self.device))
        if self.config.budget is not None:
            self.register_buffer("budget", torch.tensor(self.config.budget, device=self.device))

    def tail(self) -> float:
        """The tail of this update, shrunk linearly from 1: from the start few episodes would teach anything."""
        done = min(self.updates / self.config.anneal_updates, 1.0) if self.config.anneal_updates else 1.0
        return 1.0 + done * (self.config.tail - 1.0)

    def _utility(self, returns: Tensor, costs: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        tail = self.tail()
        quantile, utility = lower_tail(returns, tail)
        logs = {"cvar": quantile + utility.mean(), "quantile": quantile, "tail": returns.new_tensor(tail)}
        if self.config.budget is not None:
            utility = (returns - self.budget).clamp(max=0.0) / tail
            logs["budget"] = self.budget.clone()
            self.budget.copy_(budget_step(self.budget, returns, tail, self.config.budget_learning_rate))
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
        # in units of the shortfall, so that values and the entropy's weight keep theirs while the tail shrinks
        return (utility if self.config.budget is None else tail * utility), logs
