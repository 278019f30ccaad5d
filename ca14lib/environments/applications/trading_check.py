"""A check that no evaluation on prices looks ahead. Book: evaluation/trading.

Another future must not change the past: whatever was estimated, seen, decided or earned up to a close has to be the
same, bit for bit, when every price after this close is replaced.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.applications.trading import PORTFOLIOS, TradingVector, follow_rule
from ca14lib.environments.applications.trading_market import Market, PriceHistory, load_prices

Policy = Callable[[NDArray], NDArray]
Rule = Callable[[int, NDArray], NDArray]
DAYS_BEFORE = 30  # closes before the last known one that are compared as well


class LookAheadError(AssertionError):
    """Something that was known at a close depends on what came after it.

    Attributes:
        what: ``"fitted parameter …"``, ``"observation"``, ``"decision"`` or ``"reward"``.
        day: Index of the close after which the prices were replaced.
    """

    def __init__(self, what: str, day: int, message: str) -> None:
        self.what, self.day = what, day
        super().__init__(f"{what} looks ahead: {message}")


def random_policy(environment: TradingVector, seed: int = 0) -> Policy:
    """A fixed function of the observation without any meaning, which reacts to every number in it."""
    shape = (environment.single_observation_space.shape[0], environment.single_action_space.n)  # type: ignore
    matrix = np.random.default_rng(seed).normal(size=shape)
    return lambda observation: (np.asarray(observation, dtype=np.float64) @ matrix).argmax(axis=1)


def check_no_look_ahead(
    environment_factory: Callable[[PriceHistory], TradingVector],
    *,
    prices: PriceHistory | None = None,
    days: Sequence[int] | None = None,
    policy_factory: Callable[[TradingVector], Policy] = random_policy,
    futures: int = 1,
    seed: int = 0,
) -> int:
    """Replace every price after a close and compare all that was there before it (book eq. trading-look-ahead).

    For each of the days the factory builds two environments, from the history and from one with another future, and
    the policy factory makes a policy for each, by training or planning if it likes. Compared bit for bit are the fitted
    parameters, every observation up to the close, every decision up to and including the one made at it, and every
    reward received until then. It is no check of training years, in which parameters may depend on later ones, so the
    days must not lie before the last training day.

    Args:
        environment_factory: Makes the environment, fits included, from a history.
        prices: The history; None for :func:`load_prices`.
        days: Closes after which prices are replaced; None for the last training day and three later ones.
        policy_factory: Makes the policy that decides, from an environment.
        futures: Other futures for each day. Numbers give a leak away in the first; a decision among few can come out
            the same by chance.
        seed: Of the other futures.
    Returns:
        Number of comparisons made.
    Raises:
        LookAheadError: If something differs; it says what, and where.
        ValueError: If a day is too early or too late, or another future earns the same the day after, in which case
            the comparison would prove nothing.
    """
    prices = load_prices() if prices is None else prices
    original = environment_factory(prices)
    last_training, last = original.market.train.stop - 1, len(prices.dates) - 2
    if days is None:
        days = np.linspace(last_training, last - 1, 4).astype(int).tolist()
    policy, comparisons = policy_factory(original), 0
    for day, future in product(days, range(seed, seed + futures)):
        if not last_training <= day < last:
            raise ValueError(f"days must lie in {last_training}…{last - 1}, after all training, got {day}")
        altered = environment_factory(prices.altered_after(int(day), future))
        other = policy_factory(altered)
        date = prices.dates[day]

        fits, others = original.market.fitted(), altered.market.fitted()
        for name in fits:
            _same(
                f"fitted parameter {name}", fits[name], others[name], day, f"replacing all prices after {date} moves it"
            )
            comparisons += 1
        steps = min(DAYS_BEFORE, int(day), (original.horizon or DAYS_BEFORE) - 1)
        first, second = (_lived(e, p, int(day) - steps, steps + 1) for e, p in ((original, policy), (altered, other)))
        for step in range(steps + 1):
            when = prices.dates[day - steps + step]
            for what in ("observation", "decision", "reward") if step < steps else ("observation", "decision"):
                _same(what, first[what][step], second[what][step], day,
                      f"that of {when} changes when prices after {date} are replaced")  # fmt: skip
                comparisons += 1
        gains = [_lived(environment, _all_in, int(day), 1)["reward"][0] for environment in (original, altered)]
        if np.array_equal(*gains):
            raise ValueError(f"another future after {date} earns the same: the comparison would prove nothing")
    return comparisons


def check_rule(
    rule_factory: Callable[[Market], Rule],
    train_years: tuple[int, int],
    *,
    prices: PriceHistory | None = None,
    days: Sequence[int] | None = None,
    market_class: type[Market] = Market,
    futures: int = 4,
    seed: int = 0,
) -> int:
    """The same for a rule that names its shares itself (:func:`follow_rule`): what it wants must not change.

    Args:
        rule_factory: Makes the rule from a fitted market.
        train_years: First and last training year.
        prices: The history; None for :func:`load_prices`.
        days: Closes after which prices are replaced; None for the last training day and three later ones.
        market_class: What is fitted.
        futures: Other futures for each day.
        seed: Of the other futures.
    Returns:
        Number of comparisons made.
    Raises:
        LookAheadError: If a decision or a fitted parameter differs.
    """
    prices = load_prices() if prices is None else prices
    market = market_class(prices, train_years)
    last_training, last = market.train.stop - 1, len(prices.dates) - 2
    days = np.linspace(last_training, last - 1, 4).astype(int).tolist() if days is None else days
    wanted, comparisons = _wanted(market, rule_factory(market)), 0
    for day, future in product(days, range(seed, seed + futures)):
        altered = market_class(prices.altered_after(int(day), future), train_years)
        other = _wanted(altered, rule_factory(altered), int(day))
        for name, value in market.fitted().items():
            _same(f"fitted parameter {name}", value, altered.fitted()[name], day, f"see {prices.dates[day]}")
        for close in range(last_training, int(day) + 1):
            when, after = prices.dates[close], prices.dates[day]
            message = f"that of {when} changes when prices after {after} are replaced"
            _same("decision", wanted[close], other[close], day, message)
            comparisons += 1
    return comparisons


def _wanted(market: Market, rule: Rule, last: int | None = None) -> dict[int, NDArray]:
    """The shares that a rule wants at every close from the last training day on."""
    asked: dict[int, NDArray] = {}

    def noted(close: int, held: NDArray) -> NDArray:
        asked[close] = np.array(rule(close, held))
        return asked[close]

    year = market.prices.dates.astype("datetime64[Y]").astype(int) + 1970
    follow_rule(market, noted, (market.train_years[1] + 1, int(year[-1] if last is None else year[last + 1])))
    return asked


def _all_in(observation: NDArray) -> NDArray[np.int64]:
    return np.full(len(observation), list(PORTFOLIOS).index("index"))


def _lived(environment: TradingVector, policy: Policy, start: int, steps: int) -> dict[str, list[Any]]:
    """Observations (one more than steps), decisions and rewards of one copy from a close on."""
    single = environment.spawn(1)
    observation, _ = single.reset(seed=0, options={"day": start})
    lived: dict[str, list[Any]] = {"observation": [observation], "decision": [], "reward": []}
    for _ in range(steps):
        action = np.asarray(policy(observation))
        observation, reward, terminated, _, info = single.step(action)
        seen = info["final_obs"] if terminated.any() else observation
        for name, value in (("observation", seen), ("decision", action), ("reward", reward)):
            lived[name].append(value)
    return lived


def _same(what: str, first: NDArray, second: NDArray, day: int, message: str) -> None:
    first, second = np.asarray(first), np.asarray(second)
    if first.shape != second.shape or first.dtype != second.dtype or first.tobytes() != second.tobytes():
        raise LookAheadError(what, int(day), message)
