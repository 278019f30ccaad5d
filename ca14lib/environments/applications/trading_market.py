"""Real daily prices, and what is fitted on their training years: volatility, scales, regimes. Book: evaluation/trading.

Prices are those that the package ``arch`` ships: S&P 500 and NASDAQ (Yahoo Finance), crude oil (FRED, DCOILWTICO) and
the one-month Treasury bill (Kenneth French's library). What is estimated here is estimated on training years alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]

ASSETS = ("S&P 500", "NASDAQ", "crude oil", "cash")
RISKY = 3  # all but cash
WINDOWS = (1, 5, 21, 63)  # days of the past returns that are observed
REGIMES = ("calm", "normal", "turbulent")
YEAR_DAYS = 251  # trading days of a year: 5,012 in 20 years
FEATURE_BOUND = 10.0
ALTERATION = 0.03  # deviation of the logarithmic noise that stands for another future, per day


@dataclass(frozen=True, eq=False)
class PriceHistory:
    """Closing prices on the days on which all of the risky assets have one.

    Attributes:
        dates: ``[T]``, days.
        close: Prices of the risky assets, ``[T, 3]``: index points, index points, US dollars a barrel.
        bill: What a unit of cash earns from each close to the next, known at the first of them, ``[T]``.
    """

    dates: NDArray[np.datetime64]
    close: Array
    bill: Array

    def __post_init__(self) -> None:
        days = len(self.dates)
        for name, shape in (("close", (days, RISKY)), ("bill", (days,))):
            # one layout in memory: sums over another one differ in the last bit, and the check for look-ahead sees it
            object.__setattr__(self, name, np.array(getattr(self, name), dtype=np.float64, order="C"))
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {getattr(self, name).shape}")
        if not (np.isfinite(self.close) & (self.close > 0)).all():
            raise ValueError(f"close must be finite and positive, got {self.close[~(self.close > 0)][:1]}")
        if not np.isfinite(self.bill).all():
            raise ValueError("bill must be finite")
        if not (np.diff(self.dates) > np.timedelta64(0, "D")).all():
            raise ValueError("dates must rise strictly")

    @property
    def growth(self) -> Array:
        """What a unit of each asset becomes from each close to the next, ``[T − 1, 4]``, cash last."""
        return np.column_stack([self.close[1:] / self.close[:-1], 1.0 + self.bill[:-1]])

    def days(self, years: tuple[int, int]) -> range:
        """Indices of the days of a span of calendar years, both ends included.

        Raises:
            ValueError: If the span is empty or none of its days is in the history.
        """
        first, last = years
        year = self.dates.astype("datetime64[Y]").astype(int) + 1970
        found = np.flatnonzero((year >= first) & (year <= last))
        if not found.size:
            raise ValueError(f"years must lie in {year[0]}…{year[-1]} and not be empty, got {first} to {last}")
        return range(int(found[0]), int(found[-1]) + 1)

    def altered_after(self, day: int, seed: int = 0) -> "PriceHistory":
        """The same history up to the close of a day and another one from then on."""
        noise = np.random.default_rng([seed, day]).normal(0.0, ALTERATION, (len(self.dates) - day - 1, RISKY))
        close, bill = self.close.copy(), self.bill.copy()
        close[day + 1 :] *= np.exp(noise.cumsum(axis=0))
        bill[day + 1 :] *= 2.0
        return replace(self, close=close, bill=bill)


@cache
def load_prices() -> PriceHistory:
    """The 5,012 days from 4 January 1999 to 28 December 2018 on which both indices and crude oil have a price.

    Of the indices' 5,031 trading days, 19 have no price of oil and are left out; the return of the next day then spans
    two. The bill's return of a month is known when the month begins and is spread over its calendar days. The series
    ends with November 2018; December keeps its rate.
    """
    from arch.data import frenchdata, nasdaq, sp500, wti

    prices = pd.concat(
        [sp500.load()["Adj Close"], nasdaq.load()["Adj Close"], wti.load()["DCOILWTICO"]], axis=1, join="inner"
    ).dropna()
    bills = frenchdata.load()["RF"]
    # the months stand in that file as nanoseconds: 201811 is November 2018
    bills.index = pd.PeriodIndex([pd.Period(f"{m // 100}-{m % 100:02d}", "M") for m in bills.index.asi8])
    month = prices.index.to_period("M")
    rate = bills.reindex(bills.index.union(month.unique())).ffill().loc[month].to_numpy() / 100
    dates = prices.index.to_numpy().astype("datetime64[D]")
    gap = np.append(np.diff(dates).astype(float), 1.0)
    return PriceHistory(dates, prices.to_numpy(float), rate * gap / month.days_in_month.to_numpy())


@dataclass(frozen=True)
class Garch:
    """A GARCH(1, 1) model of daily returns in percent (book eq. trading-garch)."""

    mean: float
    omega: float
    alpha: float
    beta: float
    start: float  # variance of the first day

    def forecast(self, returns: Array) -> Array:
        """Deviation that is expected of the day after each day, from the returns up to it, ``[T]`` to ``[T]``.

        Args:
            returns: In percent, in order.
        """
        variance, result = self.start, np.empty(len(returns))
        for day, squared in enumerate(((returns - self.mean) ** 2).tolist()):
            variance = self.omega + self.alpha * squared + self.beta * variance
            result[day] = variance
        return np.sqrt(result)


def fit_garch(returns: Array) -> Garch:
    """Maximum likelihood with normal shocks and constant mean, by ``arch``.

    Args:
        returns: In percent, ``[n]``; at least 250 of them.
    Raises:
        ValueError: If there are fewer, or one is not finite.
    """
    from arch import arch_model

    if len(returns) < 250 or not np.isfinite(returns).all():
        raise ValueError(f"a volatility model needs at least 250 finite returns, got {len(returns)}")
    model = arch_model(returns, mean="Constant", vol="GARCH", p=1, q=1, rescale=False)
    fitted = model.fit(disp="off", show_warning=False).params
    mean, omega, alpha, beta = (float(fitted[name]) for name in ("mu", "omega", "alpha[1]", "beta[1]"))
    return Garch(mean, omega, alpha, beta, float(returns.var()))


class Market:
    """A price history with all that is fitted on its training years and, from these fits, filtered forward.

    Attributes:
        prices: The history.
        train_years: First and last training year.
        train: Indices of the training days.
        returns: Logarithmic returns of the risky assets up to each day, in percent, ``[T, 3]``; 0 on the first.
        garch: One model for each risky asset.
        volatility: Deviation forecast at each close for the next day, in percent, ``[T, 3]``.
        scale: Deviation of each asset's daily return in the training years, ``[3]``.
        typical: Median forecast in the training years, ``[3]``.
        thresholds: Forecasts for the S&P 500 that divide the training days into thirds, ``[2]``.
        regime: Number of the regime at each close, ``[T]``.
        features: What an agent may see of the market at each close, ``[T, 18]``, float32.

    Args:
        prices: The history.
        train_years: First and last year to fit on.
    """

    def __init__(self, prices: PriceHistory, train_years: tuple[int, int]) -> None:
        self.prices, self.train_years = prices, train_years
        self.train = prices.days(train_years)
        self.returns = 100 * np.diff(np.log(prices.close), axis=0, prepend=np.log(prices.close[:1]))
        self.garch = self._fit_volatility(self.returns)
        self.volatility = np.column_stack([g.forecast(r) for g, r in zip(self.garch, self.returns.T)])
        self.scale, self.typical = self._fit_scales(self.returns, self.volatility)
        self.thresholds = self._fit_thresholds(self.volatility[:, 0])
        self.regime = np.searchsorted(self.thresholds, self.volatility[:, 0])
        self.features = self._features()

    def fitted(self) -> Mapping[str, Array]:
        """Everything that was estimated, by name."""
        garch = [[g.mean, g.omega, g.alpha, g.beta, g.start] for g in self.garch]
        return {
            "garch": np.array(garch), "scale": self.scale, "typical": self.typical, "thresholds": self.thresholds,
        }  # fmt: skip

    def _training(self, series: Array) -> Array:
        return series[self.train.start : self.train.stop]

    def _fit_volatility(self, returns: Array) -> list[Garch]:
        return [fit_garch(column) for column in self._training(returns).T]

    def _fit_scales(self, returns: Array, volatility: Array) -> tuple[Array, Array]:
        return self._training(returns).std(axis=0), np.median(self._training(volatility), axis=0)

    def _fit_thresholds(self, forecast: Array) -> Array:
        return np.quantile(self._training(forecast), [1 / 3, 2 / 3])

    def _features(self) -> NDArray[np.float32]:
        """Past returns over each window in units of their deviation, log of the relative forecast, regime."""
        total = np.vstack([np.zeros(RISKY), self.returns.cumsum(axis=0)])
        days = np.arange(1, len(total))
        past = [
            (total[days] - total[np.maximum(days - window, 0)]) / (self.scale * np.sqrt(window)) for window in WINDOWS
        ]
        columns = [*past, np.log(self.volatility / self.typical), np.eye(len(REGIMES))[self.regime]]
        return np.clip(np.hstack(columns), -FEATURE_BOUND, FEATURE_BOUND).astype(np.float32)


@lru_cache(maxsize=64)
def fitted_market(market_class: type[Market], prices: PriceHistory, train_years: tuple[int, int]) -> Market:
    """A market, fitted once however many environments share it."""
    return market_class(prices, train_years)
