"""Walk-forward evaluation of allocation on real prices: agents, plans and rules on years never trained on.

Book: evaluation/trading. Training years grow from fold to fold, always from 1999 on; the years of a fold's test follow
them. What is held at the end of one fold is what the next one begins with, so that every method has one history of
14 years. Returns are logarithmic, after cost, in percent.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.agents.on_policy import OnPolicyAgent
from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.agents.safe.cvar_policy_gradient import CVaRPolicyGradient, CVaRPolicyGradientConfig
from ca14lib.agents.safe.ppo_lagrangian import PPOLagrangian, PPOLagrangianConfig
from ca14lib.environments import TabularModel, uniform_policy
from ca14lib.environments.applications.trading import (
    CONFIDENCE,
    PORTFOLIOS,
    WEIGHTS,
    TradingVector,
    excess_limit,
    follow_rule,
    live_through,
    regime_model,
    table_policy,
)
from ca14lib.environments.applications.trading_market import ASSETS, YEAR_DAYS, Market, load_prices
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import Interval, interval_table, iqm_interval
from ca14lib.metrics.risk import conditional_value_at_risk
from ca14lib.solvers import constrained_optimum, policy_costs, policy_return, value_iteration
from ca14lib.training.on_policy import train_on_policy

Array = NDArray[np.float64]
Rule = Callable[[int, Array], Array]

ENVIRONMENT = "CA14/Trading-v0"
CVAR_LIMIT = 1.5  # percent: mean of the worst twentieth of daily losses
LOSS_THRESHOLD, HORIZON, COST_BPS = 1.0, 63, 5.0
EXCESS_LIMIT = excess_limit(CVAR_LIMIT, LOSS_THRESHOLD, HORIZON)
FOLDS = (
    ((1999, 2004), (2005, 2007)),
    ((1999, 2007), (2008, 2010)),
    ((1999, 2010), (2011, 2013)),
    ((1999, 2013), (2014, 2016)),
    ((1999, 2016), (2017, 2018)),
)  # training years, years of the test

NUM_ENVS, ITERATIONS = 512, 20
# settings were chosen with seed 100 on training years; the tables report seeds 0, 1, …
_SHARED: dict[str, Any] = {
    "hidden_sizes": (32,), "learning_rate": 1e-3, "epochs": 4, "minibatches": 8, "entropy_weight": 0.03,
    "final_entropy_weight": 0.0, "annealing": 0.85,
}  # fmt: skip
_STEPWISE: dict[str, Any] = _SHARED | {"discount": 1.0, "gae_lambda": 0.9}
_LIMITED: dict[str, Any] = {"cost_limits": (EXCESS_LIMIT,), "cost_discount": 1.0, "cost_gae_lambda": 0.9}
# name -> (class, configuration, what it observes)
AGENTS: dict[str, tuple[type[OnPolicyAgent], Any, str]] = {
    "PPO": (PPO, PPOConfig(**_STEPWISE), "regime"),
    "PPO with features": (PPO, PPOConfig(**_STEPWISE), "features"),
    "PPO-Lagrangian": (
        PPOLagrangian, PPOLagrangianConfig(**_STEPWISE, **_LIMITED, multiplier_learning_rate=0.01), "regime",
    ),
    "CVaR policy gradient": (
        CVaRPolicyGradient, CVaRPolicyGradientConfig(**_SHARED, tail=0.25, anneal_updates=ITERATIONS // 2), "regime",
    ),
}  # fmt: skip
PLANS = ("optimum of the model", "optimum within the limit")
NORMAL_TAIL = 2.0627  # mean of the worst twentieth of a standard normal loss
REBALANCE = 21  # days between two trades of the rules that trade


def hold_rule(shares: Array) -> Callable[[Market], Rule]:
    """Buy once and keep: whoever holds anything but cash trades no more."""
    return lambda market: lambda day, held: shares if held[-1] == 1.0 and shares[-1] < 1.0 else held


def risk_parity_rule(market: Market) -> Rule:
    """Shares of the risky assets inverse to their forecast volatilities (book eq. trading-risk-parity)."""

    def rule(day: int, held: Array) -> Array:
        if day % REBALANCE and held[-1] < 1.0:
            return held
        inverse = 1.0 / market.volatility[day]
        return np.append(inverse / inverse.sum(), 0.0)

    return rule


def volatility_target_rule(market: Market) -> Rule:
    """As much of the S&P 500 as keeps the limit if losses are normal, the rest in cash (book eq. trading-target)."""

    def rule(day: int, held: Array) -> Array:
        if day % 5 and held[-1] < 1.0:
            return held
        share = min(CVAR_LIMIT / (NORMAL_TAIL * market.volatility[day, 0]), 1.0)
        return np.array([share, 0.0, 0.0, 1.0 - share])

    return rule


RULES: dict[str, Callable[[Market], Rule]] = {
    "cash": hold_rule(WEIGHTS[list(PORTFOLIOS).index("cash")]),
    "hold the index": hold_rule(WEIGHTS[list(PORTFOLIOS).index("index")]),
    "hold equal shares": hold_rule(WEIGHTS[list(PORTFOLIOS).index("equal")]),
    "risk parity": risk_parity_rule,
    "volatility target": volatility_target_rule,
}
METHODS = (*RULES, *PLANS, *AGENTS)


def trading_environment(train_years: tuple[int, int], observes: str = "regime") -> TradingVector:
    """The environment of one fold, with this part's numbers."""
    return TradingVector(1, train_years=train_years, **_arguments(observes))


def _arguments(observes: str) -> dict[str, Any]:
    return {
        "observes": observes, "cost_bps": COST_BPS, "loss_threshold": LOSS_THRESHOLD, "horizon": HORIZON,
    }  # fmt: skip


def trained_agent(
    method: str, train_years: tuple[int, int], seed: int, *, iterations: int = ITERATIONS, num_envs: int = NUM_ENVS
) -> OnPolicyAgent:
    """An agent of ``AGENTS``, trained on the days of some years."""
    agent_class, config, observes = AGENTS[method]
    environment = trading_environment(train_years, observes)
    agent = agent_class(environment.single_observation_space, environment.single_action_space, config, seed=seed)
    train_on_policy(
        agent, ENVIRONMENT, iterations * num_envs * HORIZON, num_envs=num_envs, rollout_steps=HORIZON, seed=seed,
        environment_arguments={"train_years": train_years, **_arguments(observes)}, progress=False,
    )  # fmt: skip
    return agent


def model_numbers(model: TabularModel, policy: Array) -> dict[str, float]:
    """Exact return and excess loss of a mandate in a fitted model, and the return as a share of the optimum."""
    uniform, best = policy_return(model, uniform_policy(model)), value_iteration(model).optimal_return
    value = policy_return(model, policy)
    return {
        "model_return": value,
        "model_share": (value - uniform) / (best - uniform),
        "model_excess": float(policy_costs(model, policy)[0]),
    }


def plan(model: TabularModel, name: str) -> Array:
    """A policy of ``PLANS`` as a table ``[H, S, A]``."""
    return value_iteration(model).policy if name == PLANS[0] else constrained_optimum(model, EXCESS_LIMIT).policy


def trading_run(
    method: str, seed: int, *, folds: int = len(FOLDS), iterations: int = ITERATIONS, num_envs: int = NUM_ENVS
) -> pd.DataFrame:
    """Live through the years of all tests, with a new agent, plan or fit for each of them.

    Args:
        method: One of ``METHODS``; rules and plans do not depend on the seed.
        seed: Seeds agent and training.
        folds: How many of ``FOLDS``, from the first on.
        iterations: Updates of an agent.
        num_envs: Mandates lived through between two updates.
    Returns:
        One row a day: ``date``, ``log_return``, ``turnover``, ``cash`` (log return of the bill), ``fold``; and, the
        same on all days of a fold, :func:`model_numbers` (NaN for what is no policy of the fitted model).
    Raises:
        ValueError: If the method is unknown.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    prices, parts = load_prices(), []
    held, portfolio = np.array([0.0, 0.0, 0.0, 1.0]), 0
    for fold, (train_years, test_years) in enumerate(FOLDS[:folds]):
        environment = trading_environment(train_years)
        numbers = dict.fromkeys(("model_return", "model_share", "model_excess"), np.nan)
        if method in RULES:
            rule = RULES[method](environment.market)
            days = follow_rule(environment.market, rule, test_years, weights=held, cost_bps=COST_BPS)
        else:
            model = regime_model(environment)
            if method in PLANS:
                table = plan(model, method)
                numbers = model_numbers(model, table)
                act = table_policy(table, HORIZON)
            else:
                agent = trained_agent(method, train_years, seed, iterations=iterations, num_envs=num_envs)
                environment = trading_environment(train_years, AGENTS[method][2])
                if environment.observes == "regime":
                    numbers = model_numbers(model, agent.policy_table(model))
                act = _deterministic(agent)
            days = live_through(environment, act, test_years, portfolio=portfolio, weights=held)
            portfolio = int(days["portfolio"].iloc[-1])
        held = days[list(ASSETS)].iloc[-1].to_numpy(dtype=np.float64)
        parts.append(days[["date", "log_return", "turnover"]].assign(fold=fold, **numbers))
    lived = pd.concat(parts, ignore_index=True)
    first = int(np.searchsorted(prices.dates, lived["date"].to_numpy().astype("datetime64[D]")[0]))
    lived["cash"] = 100 * np.log1p(prices.bill[first - 1 : first - 1 + len(lived)])
    return lived


def _deterministic(agent: OnPolicyAgent) -> Callable[[NDArray], NDArray]:
    return lambda observation: agent.act(observation, deterministic=True)


def performance(log_return: Array, cash: Array, turnover: Array) -> dict[str, float]:
    """What a history is reported by.

    Args:
        log_return: Daily, in percent, after cost, ``[n]``.
        cash: The bill's, ``[n]``.
        turnover: Value traded as a share of wealth, ``[n]``.
    Returns:
        ``annual_return`` (percent a year, compounded), ``volatility`` (percent a year), ``sharpe`` (of the excess over
        cash, per year; 0 where it does not vary), ``drawdown`` (largest loss from a peak, percent), ``cvar`` (mean of
        the worst twentieth of daily losses, percent), ``turnover`` (a year).
    """
    x, excess = np.asarray(log_return, dtype=float), np.asarray(log_return, dtype=float) - cash
    wealth = np.concatenate([[0.0], x.cumsum()])
    spread = excess.std(ddof=1) if len(x) > 1 else 0.0
    return {
        "annual_return": 100 * float(np.expm1(x.mean() * YEAR_DAYS / 100)),
        "volatility": float(x.std(ddof=1) * np.sqrt(YEAR_DAYS)) if len(x) > 1 else 0.0,
        "sharpe": float(excess.mean() / spread * np.sqrt(YEAR_DAYS)) if spread > 1e-9 else 0.0,
        "drawdown": 100 * float(-np.expm1((wealth - np.maximum.accumulate(wealth)).min() / 100)) + 0.0,  # no −0
        "cvar": conditional_value_at_risk(-x, CONFIDENCE),
        "turnover": float(np.mean(turnover) * YEAR_DAYS),
    }


def block_bootstrap_indices(days: int, block: int, repetitions: int, seed: int = 0) -> NDArray[np.intp]:
    """Days of resampled histories, ``[repetitions, days]``: whole blocks in their order (book eq. trading-bootstrap).

    Blocks begin at uniform days and go round the end to the beginning, so that every day is drawn equally often.

    Raises:
        ValueError: If a number is not positive or a block is longer than the history.
    """
    if not (1 <= block <= days and repetitions >= 1):
        raise ValueError(f"need 1 <= block <= days and repetitions >= 1, got {block}, {days} and {repetitions}")
    starts = np.random.default_rng(seed).integers(days, size=(repetitions, -(-days // block)))
    return ((starts[:, :, None] + np.arange(block)) % days).reshape(repetitions, -1)[:, :days]


def difference_table(
    lived: pd.DataFrame, against: str, *, block: int = HORIZON, repetitions: int = 2_000
) -> pd.DataFrame:
    """Difference of every method from one rule, with intervals over other histories made of blocks of this one.

    For an agent the histories of all its seeds are averaged day by day. A resample draws the same days for method and
    rule, so that what both have in common cancels.

    Returns:
        ``method``, ``against``, ``seeds``, and ``difference`` (of the mean log return, percent a year), ``cvar_gain``
        (by how much the rule's daily CVaR is larger), each with ``_low`` and ``_high``; ``better``, the share of
        resamples in which the method earns more.
    """
    wide = {
        name: group.pivot(index="date", columns="seed", values="log_return") for name, group in lived.groupby("method")
    }
    reference = wide[against].mean(axis=1).to_numpy()
    index = block_bootstrap_indices(len(reference), block, repetitions)
    own_tail, own_tails = _cvar_rows(reference[None])[0], _cvar_rows(reference[index])
    rows = []
    for method in lived["method"].unique():
        if method == against:
            continue
        returns = np.unique(wide[method].to_numpy(), axis=1)  # without repetitions of what knows no seed
        gain = (returns.mean(axis=1) - reference) * YEAR_DAYS
        tail = _cvar_rows(returns.T).mean()
        resampled = gain[index].mean(axis=1)
        tails = own_tails - np.mean([_cvar_rows(column[index]) for column in returns.T], axis=0)
        rows.append({
            "method": method, "against": against, "seeds": wide[method].shape[1], "difference": float(gain.mean()),
            **dict(zip(("difference_low", "difference_high"), np.quantile(resampled, [0.025, 0.975]))),
            "cvar_gain": float(own_tail - tail),
            **dict(zip(("cvar_gain_low", "cvar_gain_high"), np.quantile(tails, [0.025, 0.975]))),
            "better": float((resampled > 0).mean()),
        })  # fmt: skip
    return pd.DataFrame(rows)


def _cvar_rows(returns: Array) -> Array:
    """Mean of the worst twentieth of the losses of each row, ``[R, n]`` to ``[R]``; the border day counts in part."""
    mass = (1 - CONFIDENCE) * returns.shape[1]
    whole = int(mass)
    worst = np.sort(np.partition(returns, whole, axis=1)[:, : whole + 1], axis=1)
    return -(worst[:, :whole].sum(axis=1) + (mass - whole) * worst[:, whole]) / mass


def year_table(lived: pd.DataFrame) -> pd.DataFrame:
    """One row for every method, seed and calendar year of the tests, and for the whole history (year 0)."""
    rows = []
    year = pd.to_datetime(lived["date"]).dt.year
    for (method, seed), group in lived.groupby(["method", "seed"], sort=False):
        for label in (0, *year.loc[group.index].unique()):
            part = group if label == 0 else group[year.loc[group.index] == label]
            numbers = performance(*(part[name].to_numpy() for name in ("log_return", "cash", "turnover")))
            rows.append({"method": method, "seed": seed, "year": int(label)} | numbers)
    return pd.DataFrame(rows)


def summary_table(years: pd.DataFrame) -> pd.DataFrame:
    """Intervals over seeds of the whole history, and how often the limit was broken: by years and by seeds."""
    whole, single = years[years["year"] == 0], years[years["year"] != 0]
    columns = ["annual_return", "volatility", "sharpe", "drawdown", "cvar", "turnover"]
    table = interval_table(whole, ["method"], columns)
    for name, frame in (("years_broken", single), ("seeds_broken", whole)):
        broken = (frame["cvar"] > CVAR_LIMIT).groupby(frame["method"]).mean()
        table[name] = broken.loc[table["method"]].to_numpy()
    return table


def model_table(lived: pd.DataFrame, folds: int) -> pd.DataFrame:
    """Exact numbers in the fitted models: references of every fold, and agents with intervals over seeds.

    Means over the folds. ``excess`` is the expected excess loss of a mandate over the limit on it: more than 1 breaks
    it, and ``broken`` is the share of seeds and folds in which that is so.
    """
    references = []
    for fold, (train_years, _) in enumerate(FOLDS[:folds]):
        model = regime_model(trading_environment(train_years))
        single = [np.eye(len(WEIGHTS))[np.full(model.num_states, k)] for k in range(len(WEIGHTS))]
        kept = max(single, key=lambda policy: policy_return(model, policy))
        for name, policy in (("uniform", uniform_policy(model)), ("best single portfolio", kept)):
            references.append({"method": name, "seed": 0, "fold": fold} | model_numbers(model, policy))
    learned = lived.dropna(subset=["model_share"]).drop_duplicates(["method", "seed", "fold"])
    numbers = ["model_return", "model_share", "model_excess"]
    found = pd.concat([pd.DataFrame(references), learned[["method", "seed", "fold", *numbers]]], ignore_index=True)
    found["excess"] = found["model_excess"] / EXCESS_LIMIT
    rows = []
    for method, group in found.groupby("method", sort=False):
        row: dict[str, Any] = {"method": method, "seeds": group["seed"].nunique()}
        for column in ("model_share", "excess"):
            scores = group.groupby("seed")[column].mean().to_numpy()
            interval = iqm_interval(scores) if len(scores) > 1 else Interval(*[float(scores[0])] * 3)
            row |= dict(zip((f"{column}_iqm", f"{column}_low", f"{column}_high"), interval))
        rows.append(row | {"broken": float((group["excess"] > 1 + 1e-6).mean())})
    return pd.DataFrame(rows)


def trading(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """The tables ``evaluation_trading``, ``_difference``, ``_model``, ``_years`` and ``_runs``."""
    grid: dict[str, list[Any]] = {"method": list(METHODS)}
    folds = len(FOLDS)
    if quick:
        folds = 1
        grid |= {"folds": [folds], "iterations": [4], "num_envs": [128]}
    lived = finished(sweeps(trading_run, grid))
    years = year_table(lived)
    repetitions = 200 if quick else 2_000
    differences = [
        difference_table(lived, against, repetitions=repetitions) for against in ("hold the index", "hold equal shares")
    ]
    by_year = interval_table(years[years["year"] != 0], ["method", "year"], ["annual_return", "cvar"])
    return {
        "evaluation_trading": summary_table(years),
        "evaluation_trading_difference": pd.concat(differences, ignore_index=True),
        "evaluation_trading_model": model_table(lived, folds),
        "evaluation_trading_years": by_year,
        "evaluation_trading_runs": years[years["year"] == 0].drop(columns="year"),
    }
