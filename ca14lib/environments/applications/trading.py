"""Trading: daily allocation among two indices, crude oil and cash on real prices. Book: evaluation/trading."""

from collections.abc import Callable
from typing import Any, ClassVar

import gymnasium as gym
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.environments.applications.trading_market import (
    ASSETS,
    FEATURE_BOUND,
    REGIMES,
    Array,
    Market,
    PriceHistory,
    fitted_market,
    load_prices,
)
from ca14lib.environments.batched import BatchedEnvironment, SingleEnvironment, require_integer
from ca14lib.environments.tabular_model import TabularModel

# shares of S&P 500, NASDAQ, crude oil and cash
PORTFOLIOS: dict[str, tuple[float, float, float, float]] = {
    "cash": (0, 0, 0, 1),
    "half index": (1 / 2, 0, 0, 1 / 2),
    "half equal": (1 / 6, 1 / 6, 1 / 6, 1 / 2),
    "index": (1, 0, 0, 0),
    "NASDAQ": (0, 1, 0, 0),
    "equal": (1 / 3, 1 / 3, 1 / 3, 0),
}
WEIGHTS = np.array(list(PORTFOLIOS.values()), dtype=np.float64)
CONFIDENCE = 0.95  # α of the limit on daily losses
ALL_CASH = np.array([0.0, 0.0, 0.0, 1.0])


def trade(weights: Array, target: Array, growth: Array, cost_rate: float) -> tuple[Array, Array, Array]:
    """One day: trade at the close, hold to the next one (book eq. trading-reward).

    Args:
        weights: Shares before the trade, ``[N, 4]``, rows summing to 1.
        target: Shares after it, ``[N, 4]``.
        growth: What a unit of each asset becomes, ``[N, 4]`` or ``[4]``.
        cost_rate: Cost of a traded unit as a share of it.
    Returns:
        The log return after cost in percent ``[N]``, the shares at the next close ``[N, 4]`` and the turnover ``[N]``:
        value traded in the three risky assets, as a share of wealth.
    """
    turnover = np.abs(target[:, :-1] - weights[:, :-1]).sum(axis=1)
    value = target * growth
    grown = value.sum(axis=1)
    return 100 * np.log((1.0 - cost_rate * turnover) * grown), value / grown[:, None], turnover


def excess_loss(log_return: Array, threshold: float) -> Array:
    """Loss of a day over the threshold, in percent, any shape (book eq. trading-cvar-cost)."""
    return np.maximum(-log_return - threshold, 0.0)


def excess_limit(cvar_limit: float, threshold: float, days: int) -> float:
    """Limit on the sum of excess losses that keeps the conditional value at risk (book eq. trading-cvar-limit).

    Args:
        cvar_limit: Largest mean of the worst twentieth of daily losses, in percent.
        threshold: v, in percent, at most that limit.
        days: Days of an episode.
    Raises:
        ValueError: If the threshold exceeds the limit.
    """
    if threshold > cvar_limit:
        raise ValueError(f"threshold must be at most cvar_limit {cvar_limit}, got {threshold}")
    return days * (1 - CONFIDENCE) * (cvar_limit - threshold)


class TradingVector(BatchedEnvironment):
    r"""``CA14/Trading-v0``, batched: choose a portfolio at every close; an episode is a mandate of 63 trading days.

    Days are real (:func:`load_prices`): an episode begins at a day drawn from ``years``, and all copies live through
    what followed. Who trades is too small to move a price.

    * Action, ``Discrete(6)``: one of :data:`PORTFOLIOS`. The trade is made at the close that is observed; shares drift
      until the next close, and choosing the same portfolio again restores them.
    * Reward: logarithmic return to the next close after cost, in percent. Traded value costs ``cost_bps``
      ten-thousandths of itself.
    * ``info["cost"]`` ``[N]``: loss over ``loss_threshold``, in percent. Keeping :func:`excess_limit` in expectation
      keeps the conditional value at risk of daily losses.
    * ``info`` has also ``day`` ``[N]`` (index of the close in the history), ``log_return`` ``[N]``, ``turnover``
      ``[N]``, and the drifted ``weights`` ``[N, 4]``.
    * Observation, float32, all of it known at the close: with ``observes="features"`` ``[23]`` returns of the risky
      assets over the last 1, 5, 21 and 63 days, logarithm of their forecast volatilities relative to the training
      years', regime (one-hot, 3), the drifted weights, and the share of the mandate that is left. With
      ``observes="regime"`` ``[10]`` regime, portfolio chosen last (one-hot, 6), and the share left: what
      :func:`regime_model` knows.
    * Starts: a portfolio drawn uniformly. ``reset(options={"day": …})`` begins at this close, with ``"portfolio"`` (an
      index) and ``"weights"`` ``[4]`` if given, else in cash.
    * The mandate's end is part of the task (``terminated``); so is the last day of the history.

    Args:
        num_envs: Number of copies.
        train_years: First and last calendar year that anything is fitted on.
        years: First and last year of the days that episodes are drawn from; None for the training years.
        observes: ``"features"`` or ``"regime"``.
        cost_bps: Cost of a trade in ten-thousandths of the value traded.
        loss_threshold: v, in percent a day.
        horizon: Trading days of a mandate.
        prices: Another history; None for :func:`load_prices`.
        render_mode: Must be None.

    Raises:
        ValueError: If an argument is out of range or a span of years is too short for an episode.
    """

    metadata = BatchedEnvironment.metadata | {"render_modes": []}
    market_class: ClassVar[type[Market]] = Market

    def __init__(
        self,
        num_envs: int = 1,
        *,
        train_years: tuple[int, int] = (1999, 2004),
        years: tuple[int, int] | None = None,
        observes: str = "features",
        cost_bps: float = 5.0,
        loss_threshold: float = 1.0,
        horizon: int = 63,
        prices: PriceHistory | None = None,
        render_mode: str | None = None,
    ) -> None:
        require_integer("horizon", horizon, 1)
        if observes not in ("features", "regime"):
            raise ValueError(f"observes must be 'features' or 'regime', got {observes!r}")
        for name, value, most in (("cost_bps", cost_bps, 1_000.0), ("loss_threshold", loss_threshold, 100.0)):
            if not 0 <= value <= most:
                raise ValueError(f"{name} must lie in [0, {most:g}], got {value}")
        self.prices = load_prices() if prices is None else prices
        self.train_years, self.years = _span(train_years), _span(train_years if years is None else years)
        self.market = fitted_market(self.market_class, self.prices, self.train_years)  # type: ignore[arg-type]
        self.observes, self.cost_bps, self.loss_threshold = observes, float(cost_bps), float(loss_threshold)
        days = self.prices.days(self.years)
        # an episode of H steps has H + 1 closes, all within the years it is drawn from
        self._starts = np.arange(days.start, days.stop - horizon)
        if not self._starts.size:
            raise ValueError(f"years {self.years} have {len(days)} days, an episode needs {horizon + 1}")
        self._growth = self.prices.growth
        size = self.market.features.shape[1] + len(ASSETS) if observes == "features" else len(REGIMES) + len(WEIGHTS)
        low = np.zeros(size + 1, dtype=np.float32)
        high = np.ones(size + 1, dtype=np.float32)
        if observes == "features":
            unbounded = slice(0, self.market.features.shape[1] - len(REGIMES))
            low[unbounded], high[unbounded] = -FEATURE_BOUND, FEATURE_BOUND
        super().__init__(
            num_envs, gym.spaces.Box(low, high), gym.spaces.Discrete(len(WEIGHTS)),
            time_limit=None, horizon=horizon, render_mode=render_mode,
        )  # fmt: skip
        self._day = np.zeros(num_envs, dtype=np.int64)
        self._portfolio = np.zeros(num_envs, dtype=np.int64)
        self._weights = np.tile(ALL_CASH, (num_envs, 1))
        self._return, self._turnover = np.zeros(num_envs), np.zeros(num_envs)

    def spawn(self, num_envs: int) -> "TradingVector":
        return type(self)(
            num_envs, train_years=self.train_years, years=self.years, observes=self.observes, cost_bps=self.cost_bps,
            loss_threshold=self.loss_threshold, horizon=self.horizon or 1, prices=self.prices,
        )  # fmt: skip

    def _restart(self, count: int, options: dict[str, Any] | None) -> tuple[NDArray, NDArray, Array]:
        """Days ``[count]``, portfolios ``[count]`` and weights ``[count, 4]``."""
        if options and "day" in options:
            day, portfolio = int(options["day"]), int(options.get("portfolio", 0))
            if not 0 <= day < len(self._growth):
                raise ValueError(f"options['day'] must lie in 0…{len(self._growth) - 1}, got {day}")
            if not 0 <= portfolio < len(WEIGHTS):
                raise ValueError(f"options['portfolio'] must lie in 0…{len(WEIGHTS) - 1}, got {portfolio}")
            weights = np.asarray(options.get("weights", WEIGHTS[portfolio]), dtype=np.float64)
            if weights.shape != (len(ASSETS),) or abs(weights.sum() - 1) > 1e-9 or (weights < 0).any():
                raise ValueError(f"options['weights'] must be four shares that sum to 1, got {weights}")
            return np.full(count, day), np.full(count, portfolio), np.tile(weights, (count, 1))
        portfolios = self.np_random.integers(len(WEIGHTS), size=count)
        return self.np_random.choice(self._starts, size=count), portfolios, WEIGHTS[portfolios]

    def _place(self, where: NDArray[np.intp] | slice, states: tuple[NDArray, NDArray, Array]) -> None:
        self._day[where], self._portfolio[where], self._weights[where] = states
        self._return[where] = self._turnover[where] = 0.0

    def _transition(self, action: NDArray[np.int64]) -> tuple[Array, NDArray[np.bool_]]:
        self._return, self._weights, self._turnover = trade(
            self._weights, WEIGHTS[action], self._growth[self._day], self.cost_bps / 1e4
        )
        self._portfolio = action.copy()
        self._day = self._day + 1
        return self._return.copy(), self._day >= len(self._growth)

    def _observe(self) -> NDArray[np.float32]:
        features = self.market.features[self._day]
        if self.observes == "features":
            return np.column_stack([features, self._weights, self._remaining()]).astype(np.float32)
        shown = np.eye(len(WEIGHTS), dtype=np.float32)[self._portfolio]
        return np.column_stack([features[:, -len(REGIMES) :], shown, self._remaining()])

    def _information(self) -> dict[str, Any]:
        return {
            "cost": excess_loss(self._return, self.loss_threshold),
            "day": self._day.copy(),
            "log_return": self._return.copy(),
            "turnover": self._turnover.copy(),
            "weights": self._weights.copy(),
        }


class Trading(SingleEnvironment):
    """``CA14/Trading-v0``; takes the arguments of :class:`TradingVector` but ``num_envs``."""

    metadata = {"render_modes": []}

    def __init__(self, **parameters: Any) -> None:
        super().__init__(TradingVector(1, **parameters))


def _span(years: tuple[int, int]) -> tuple[int, int]:
    if len(tuple(years)) != 2 or not years[0] <= years[1]:
        raise ValueError(f"a span of years must be (first, last), got {years!r}")
    return int(years[0]), int(years[1])


def regime_model(environment: TradingVector) -> TabularModel:
    """A finite model of the environment, estimated on its training years (book eq. trading-model).

    State ``3 · portfolio + regime``. The regime moves as it was counted to move, whatever is done; reward and cost of
    a pair are means over the training days in this regime, net of the cost of the trade. Left out is the drift of the
    shares: a portfolio that is kept is kept exactly, without trading.

    Returns:
        A model with one cost and the mandate as horizon, whose agents see what those of ``observes="regime"`` see.
    """
    market, threshold, rate = environment.market, environment.loss_threshold, environment.cost_bps / 1e4
    growth = environment.prices.growth
    # the last training close begins a day that ends outside of the training years
    days = np.arange(market.train.start, market.train.stop - 1)
    regime, regimes, portfolios = market.regime[days], len(REGIMES), len(WEIGHTS)
    moves = np.zeros((regimes, regimes))
    np.add.at(moves, (regime, market.regime[days + 1]), 1.0)
    moves /= moves.sum(axis=1, keepdims=True)
    reward = np.zeros((portfolios, regimes, portfolios))
    cost = np.zeros_like(reward)
    for held in range(portfolios):
        for chosen in range(portfolios):
            before, after = np.tile(WEIGHTS[held], (len(days), 1)), np.tile(WEIGHTS[chosen], (len(days), 1))
            earned = trade(before, after, growth[days], rate)[0]
            for z in range(regimes):
                reward[held, z, chosen] = earned[regime == z].mean()
                cost[held, z, chosen] = excess_loss(earned[regime == z], threshold).mean()
    transition = np.zeros((portfolios, regimes, portfolios, portfolios, regimes))
    for chosen in range(portfolios):
        transition[:, :, chosen, chosen, :] = moves
    states = portfolios * regimes
    seen = np.hstack(
        [np.tile(np.eye(regimes), (portfolios, 1)), np.repeat(np.eye(portfolios), regimes, axis=0)]
    )  # fmt: skip
    return TabularModel(
        transition=transition.reshape(states, portfolios, states),
        reward=reward.reshape(states, portfolios),
        cost=cost.reshape(1, states, portfolios),
        initial=np.tile(np.bincount(regime, minlength=regimes) / len(days), portfolios) / portfolios,
        observation=seen.astype(np.float32),
        horizon=environment.horizon,
        observes_time=True,
    )


def table_policy(policy: Array, horizon: int) -> Callable[[NDArray], NDArray[np.int64]]:
    """A table ``[H, S, A]`` of :func:`regime_model` as a function of observations ``[N, 10]``; most probable action."""
    table = np.asarray(policy).argmax(axis=-1)

    def act(observation: NDArray) -> NDArray[np.int64]:
        seen = np.asarray(observation)
        regime, held = seen[:, : len(REGIMES)].argmax(axis=1), seen[:, len(REGIMES) : -1].argmax(axis=1)
        step = np.clip(np.rint(horizon * (1 - seen[:, -1])).astype(int), 0, horizon - 1)
        return table[step, held * len(REGIMES) + regime]

    return act


def live_through(
    environment: TradingVector,
    act: Callable[[NDArray], NDArray],
    years: tuple[int, int],
    *,
    portfolio: int = 0,
    weights: Array | None = None,
) -> pd.DataFrame:
    """One pass over every day of some years, mandate after mandate, in the order in which they happened.

    What is held at the end of a mandate is what the next one begins with. The first decision falls on the last close
    before the years, so that their first day counts.

    Args:
        environment: Any number of copies; a single one is spawned.
        act: Observations ``[1, …]`` to actions ``[1]``.
        years: First and last.
        portfolio: What was chosen last before.
        weights: What is held before, ``[4]``; None for that portfolio.
    Returns:
        One row a day: ``date``, ``log_return`` (percent, after cost), ``turnover``, ``portfolio``, the four
        shares at its close.
    """
    single = SingleEnvironment(environment.spawn(1))
    days = environment.prices.days(years)
    day, last, rows = max(days.start - 1, 0), days.stop - 1, []
    held: Array = WEIGHTS[portfolio] if weights is None else weights
    while day < last:
        observation, _ = single.reset(seed=0, options={"day": day, "portfolio": portfolio, "weights": held})
        ended = False
        while day < last and not ended:
            portfolio = int(np.asarray(act(observation[None]))[0])
            observation, _, ended, _, info = single.step(portfolio)
            day, held = int(info["day"]), info["weights"]
            rows.append((day, float(info["log_return"]), float(info["turnover"]), portfolio, *held))
    frame = pd.DataFrame(rows, columns=["day", "log_return", "turnover", "portfolio", *ASSETS])
    frame.insert(0, "date", environment.prices.dates[frame["day"]])
    return frame.drop(columns="day")


def follow_rule(
    market: Market, rule: Callable[[int, Array], Array], years: tuple[int, int], *, weights: Array = ALL_CASH,
    cost_bps: float = 5.0,
) -> pd.DataFrame:  # fmt: skip
    """The same pass for a rule that names its shares itself and need not choose among :data:`PORTFOLIOS`.

    Args:
        market: What the rule may look at is what is known at a close.
        rule: Function of the index of the close and the shares held ``[4]`` to the shares wanted ``[4]``; returning
            what is held trades nothing.
        years: First and last.
        weights: What is held before, ``[4]``.
        cost_bps: Cost of a trade in ten-thousandths.
    Returns:
        As :func:`live_through`; ``portfolio`` is −1.
    """
    days, growth, held, rows = market.prices.days(years), market.prices.growth, weights, []
    first = max(days.start - 1, 0)
    for day in range(first, days.stop - 1):
        wanted = np.asarray(rule(day, held), dtype=np.float64)
        earned, drifted, turnover = trade(held[None], wanted[None], growth[day], cost_bps / 1e4)
        held = drifted[0]
        rows.append((market.prices.dates[day + 1], float(earned[0]), float(turnover[0]), -1, *held))
    return pd.DataFrame(rows, columns=["date", "log_return", "turnover", "portfolio", *ASSETS])
