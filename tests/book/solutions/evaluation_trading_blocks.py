"""Days or blocks: how wide the bootstrap makes the interval of a mean and of a tail."""

import numpy as np

from ca14lib.environments.applications.trading_market import YEAR_DAYS, load_prices
from ca14lib.experiments.evaluation.trading import block_bootstrap_indices
from ca14lib.metrics.risk import conditional_value_at_risk


def index_returns() -> np.ndarray:
    """Daily log returns of the S&P 500 from 2005 to 2018, percent."""
    prices = load_prices()
    days = prices.days((2005, 2018))
    return 100 * np.diff(np.log(prices.close[days.start - 1 : days.stop, 0]))


def deviations(block: int, repetitions: int = 400) -> tuple[float, float]:
    """Deviation over resampled histories of the annual mean and of the daily CVaR, both in percent."""
    returns = index_returns()
    histories = returns[block_bootstrap_indices(len(returns), block, repetitions)]
    tails = [conditional_value_at_risk(-history, 0.95) for history in histories]
    return float(histories.mean(axis=1).std() * YEAR_DAYS), float(np.std(tails))


if __name__ == "__main__":
    for block in (1, 21, 63, 251):
        print(block, [round(value, 2) for value in deviations(block)])
