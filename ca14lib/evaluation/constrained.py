"""Exact evaluation of safe agents: return and cost beside the best that the limits allow. Book: safe/theory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.agents.base import Agent
from ca14lib.environments import TabularModel
from ca14lib.metrics.safety import safety_score
from ca14lib.solvers import (
    constrained_optimum,
    policy_costs,
    policy_return,
    smallest_cost,
)

COST_TOLERANCE = 0.02  # share of the cost range by which a limit may be exceeded


@dataclass(frozen=True)
class ConstrainedEvaluation:
    """A callable for ``train_on_policy(evaluate=…)``: exact return, cost and score of the agent's stochastic policy.

    Attributes:
        model: The finite problem with one cost and a horizon.
        limit: Limit on the expected undiscounted cost of an episode.
        optimal_return: The best return within the limit.
        safe_return: The best return at the least cost, score 0.
        cost_range: Cost of the unconstrained optimum minus the least cost, the unit of the tolerance.
        deterministic: Evaluate the most probable actions instead of the stochastic policy.

    Raises:
        InfeasibleError: If no policy keeps the limit.
        ValueError: If the model has not exactly one cost, or its unconstrained optimum has the least cost already.
    """

    model: TabularModel
    limit: float
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.model.num_costs != 1:
            raise ValueError(f"ConstrainedEvaluation is for models with one cost, got {self.model.num_costs}")
        least = smallest_cost(self.model)
        best = constrained_optimum(self.model, self.limit)
        free = constrained_optimum(self.model, np.inf)
        numbers = {
            "optimal_return": best.optimal_return,
            "safe_return": constrained_optimum(self.model, least + 1e-9).optimal_return,
            "cost_range": float(free.costs[0]) - least,
            "multiplier": float(best.multipliers[0]),
        }
        if numbers["cost_range"] <= 1e-9:
            raise ValueError(
                f"the unconstrained optimum has the least cost, {least:g}, already: no limit binds, and costs have no "
                "range to be judged by"
            )
        for name, value in numbers.items():
            object.__setattr__(self, name, value)

    optimal_return: float = 0.0
    safe_return: float = 0.0
    cost_range: float = 0.0
    multiplier: float = 0.0

    def __call__(self, agent: Agent) -> dict[str, float]:
        """``exact_return``, ``exact_cost``, ``score`` and ``excess`` (cost over the limit, in shares of the range).

        ``score`` is left out where the best policy within the limit is no better than the safest.

        Raises:
            ValueError: If the agent has no policy table.
        """
        table = getattr(agent, "policy_table", None)
        if table is None:
            raise ValueError(f"exact evaluation needs an agent with a policy table, got {type(agent).__name__}")
        return self.of_policy(table(self.model, deterministic=self.deterministic))

    def of_policy(self, policy: NDArray[np.float64]) -> dict[str, float]:
        """The same of a policy table ``[S, A]`` or ``[H, S, A]``."""
        value = policy_return(self.model, policy)
        return self.of_numbers(value, float(policy_costs(self.model, policy)[0]))

    def of_numbers(self, value: float, cost: float) -> dict[str, float]:
        """The same of an exact return and an exact cost, for example averages over iterates."""
        result = {"exact_return": value, "exact_cost": cost, "excess": (cost - self.limit) / self.cost_range}
        if self.optimal_return > self.safe_return + 1e-9:
            result["score"] = safety_score(value, self.safe_return, self.optimal_return)
        return result

    def met(self, score: float, excess: float, least_score: float) -> bool:
        """True if the score is high enough and the cost within the limit up to 2% of the cost range."""
        return score >= least_score and excess <= COST_TOLERANCE


def whole_cycles(multiplier: ArrayLike, share: float = 0.5) -> slice:
    r"""The iterates between two updates with the same multiplier, about the last share of them.

    The multiplier's step adds :math:`\eta_\lambda(\hat J_C-d)` (book eq. lagrangian-multiplier-step), so between two
    updates with the same multiplier the mean cost is the limit, wherever in its swing the training ends (book eq.
    whole-cycles). A window cut at will has part of a swing too much.

    Args:
        multiplier: ``[I]``, what every update used: it answers the cost of the iterate before.
        share: In (0, 1], the part of the iterates; the window's first lies up to 0.3 of it earlier or later.
    Returns:
        The window: from the iterate whose multiplier is nearest to the last one, to the last but one.
    Raises:
        ValueError: If there are fewer than two iterates, or the share is out of range.
    """
    used, count = np.asarray(multiplier, dtype=float), np.size(multiplier)
    if used.ndim != 1 or count < 2:
        raise ValueError(f"multiplier must be [I] with I >= 2, got shape {used.shape}")
    _check_share(share)
    earliest = max(count - 1 - round(1.3 * share * (count - 1)), 0)
    latest = max(count - 1 - round(0.7 * share * (count - 1)), earliest + 1)
    first = earliest + int(np.abs(used[earliest:latest] - used[-1]).argmin())
    return slice(first, count - 1)


def average_iterates(
    history_return: ArrayLike, history_cost: ArrayLike, share: float = 0.5, multiplier: ArrayLike | None = None
) -> tuple[float, float]:
    """Mean exact return and cost over the last share of the iterates (book eq. averaged-iterates).

    It is what the policy earns that draws one of those iterates before every episode.

    Args:
        history_return: ``[I]``, exact returns of the iterates in order.
        history_cost: ``[I]``, their exact costs.
        share: In (0, 1].
        multiplier: ``[I]``, what the update that made each iterate used: the window is then :func:`whole_cycles`.
    Raises:
        ValueError: If shapes disagree, or the share is out of range.
    """
    returns, costs = np.asarray(history_return, dtype=float), np.asarray(history_cost, dtype=float)
    if returns.shape != costs.shape or returns.ndim != 1 or not returns.size:
        raise ValueError(f"returns and costs must be [I] with I >= 1, got shapes {returns.shape} and {costs.shape}")
    _check_share(share)
    if multiplier is None:
        window = slice(returns.size - max(round(share * returns.size), 1), returns.size)
    elif np.shape(multiplier) == returns.shape:
        window = whole_cycles(multiplier, share)
    else:
        raise ValueError(f"multiplier must have the shape {returns.shape} of the returns, got {np.shape(multiplier)}")
    return float(returns[window].mean()), float(costs[window].mean())


def _check_share(share: float) -> None:
    if not 0 < share <= 1:
        raise ValueError(f"share must lie in (0, 1], got {share}")
