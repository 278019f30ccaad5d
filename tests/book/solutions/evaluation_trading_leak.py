"""What one day of look-ahead is worth: index or cash by the sign of a day's return, today's and tomorrow's."""

import numpy as np

from ca14lib.environments.applications.trading import PORTFOLIOS, WEIGHTS, follow_rule
from ca14lib.environments.applications.trading_check import LookAheadError, check_rule
from ca14lib.environments.applications.trading_market import Market, fitted_market, load_prices
from ca14lib.experiments.evaluation.trading import performance

INDEX, CASH = (WEIGHTS[list(PORTFOLIOS).index(name)] for name in ("index", "cash"))
TRAIN, TEST = (1999, 2004), (2005, 2018)


def by_the_sign_of(offset: int):
    """The index if the return of the day ``offset`` days later was positive, else cash."""

    def factory(market: Market):
        last = len(market.returns) - 1
        return lambda day, held: INDEX if market.returns[min(day + offset, last), 0] > 0 else CASH

    return factory


def report(offset: int) -> dict[str, float]:
    market = fitted_market(Market, load_prices(), TRAIN)
    lived = follow_rule(market, by_the_sign_of(offset)(market), TEST)
    days = len(lived)
    return performance(lived["log_return"].to_numpy(), np.zeros(days), lived["turnover"].to_numpy())


def caught(offset: int) -> bool:
    try:
        check_rule(by_the_sign_of(offset), TRAIN, days=[1_600], futures=8)
    except LookAheadError:
        return True
    return False


if __name__ == "__main__":
    for offset in (0, 1):
        print(offset, {name: round(value, 1) for name, value in report(offset).items()}, "caught:", caught(offset))
