"""A small market: makers quote spreads on a grid, customers take the best quote. Book: evaluation/trading."""

import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.batched import require_integer
from ca14lib.environments.matrix_games import MatrixGame

Array = NDArray[np.float64]


def demand(spread: Array | float, levels: int) -> Array:
    """Share of the customers that trade at a spread in ticks, any shape (book eq. market-demand)."""
    return np.asarray(1.0 - np.asarray(spread, dtype=np.float64) / (levels + 1))


def quote_payoffs(num_agents: int, levels: int, cost: float) -> Array:
    """Expected profit of every maker for every joint quote, ``[n, A, …, A]`` (book eq. market-profit).

    Args:
        num_agents: n, at least 2.
        levels: A, the number of ticks on the grid; action k quotes k + 1 of them.
        cost: What a trade costs its maker, in ticks: what better informed customers gain, on average.
    """
    quotes = np.stack(np.meshgrid(*[np.arange(1, levels + 1.0)] * num_agents, indexing="ij"))
    best = quotes.min(axis=0)
    winners = quotes == best
    return winners * ((best - cost) * demand(best, levels) / winners.sum(axis=0))


def undercutting_equilibria(num_agents: int, levels: int, cost: float) -> list[int]:
    """Spreads in ticks at which all makers quote the same and none gains by undercutting (book eq. market-nash).

    Where the best quote earns something there are no others: whoever quotes more sells nothing and would join it.
    """
    ticks = np.arange(1, levels + 1.0)
    profit = (ticks - cost) * demand(ticks, levels)
    lower = np.maximum.accumulate(np.concatenate([[-np.inf], profit[:-1]]))
    # quoting more than the others sells nothing: a common quote must not lose money either
    kept = (profit / num_agents >= np.maximum(lower, 0.0) - 1e-12) & (profit >= 0)
    return [int(tick) for tick in ticks[kept]]


def monopoly_spread(levels: int, cost: float) -> int:
    """The spread in ticks at which makers earn most together: (A + 1 + cost) / 2, on the grid."""
    ticks = np.arange(1, levels + 1.0)
    return int(ticks[((ticks - cost) * demand(ticks, levels)).argmax()])


class QuoteMarket(MatrixGame):
    """``"QuoteMarket"``, batched: n makers quote half-spreads at once, and ``customers`` take the best or leave.

    Action k quotes k + 1 ticks. Each customer has a reservation spread, uniform over (0, A + 1) ticks, and trades at
    the best quote if that is lower; makers who share the best quote share the trades. A trade earns its maker the quote
    minus ``cost``. Rewards are profits per customer, in ticks; ``info["payoff"]`` is their expectation, the entry of
    :func:`quote_payoffs`. Observations, state and rounds are those of :class:`MatrixGame`.

    Args:
        num_envs: Number of copies.
        num_agents: n, at least 2.
        levels: A, ticks on the grid, at least 2.
        cost: Of a trade, in ticks, at least 0.
        customers: Of a round.
        horizon: Rounds of the game.
        memory: Rounds that are observed.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_agents: int = 2,
        levels: int = 10,
        cost: float = 0.5,
        customers: int = 20,
        horizon: int = 1,
        memory: int = 0,
        render_mode: str | None = None,
    ) -> None:
        require_integer("num_agents", num_agents, 2)
        require_integer("levels", levels, 2)
        require_integer("customers", customers, 1)
        if not 0.0 <= cost < levels:
            raise ValueError(f"cost must lie in [0, {levels}), got {cost}")
        self.levels, self.cost, self.customers = levels, float(cost), customers
        super().__init__(
            num_envs, payoffs=quote_payoffs(num_agents, levels, cost), horizon=horizon, memory=memory,
            render_mode=render_mode,
        )  # fmt: skip
        self.game = "quotes"

    def spawn(self, num_envs: int) -> "QuoteMarket":
        return type(self)(
            num_envs, num_agents=self.num_agents, levels=self.levels, cost=self.cost, customers=self.customers,
            horizon=self.horizon or 1, memory=self.memory,
        )  # fmt: skip

    def _transition(self, action: NDArray[np.int64]) -> tuple[Array, NDArray[np.bool_]]:
        expected, ended = super()._transition(action)
        # all makers' profits scale with the number of customers that found the best quote good enough
        share = demand(action.min(axis=1) + 1, self.levels)
        arrived = self.np_random.binomial(self.customers, share) / self.customers
        return expected * (arrived / share)[:, None], ended
