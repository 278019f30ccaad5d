"""Partners never met in training: self-play, Other-Play and fictitious co-play in the repeated lever game.

Book: evaluation/partners. Every team is judged exactly: with itself, with teams of other seeds, and with scripted
partners, as a share of the best response to them.
"""

import time
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.agents.multi_agent.ippo import IPPO
from ca14lib.environments.lever_game import LeverGame
from ca14lib.experiments.runs import Sweep, finished, interquartile_means
from ca14lib.metrics.intervals import interval_table
from ca14lib.solvers.partners import (
    best_partner_return,
    cross_play,
    imitator,
    other_play_value,
    stranger_optimum,
    stubborn,
    win_stay,
)
from ca14lib.training.partners import PartnersConfig, co_play_team, policy_tables, self_play_team, shorter

CONFIG = PartnersConfig()
METHODS = ("self-play", "Other-Play", "fictitious co-play")
TEAMS = 3  # independent teams of a run, which meet each other
ROUNDS, ACTIONS = CONFIG.horizon, len(CONFIG.levers)
PAYOFF = np.diag(CONFIG.levers)
UNIFORM = np.full(ACTIONS, 1.0 / ACTIONS)


@cache
def scripted_partners() -> dict[str, NDArray[np.float64]]:
    """Partners that nobody trains with: one for each lever, one that imitates, one that stays where it matched."""
    known = {f"always lever {lever + 1}": stubborn(lever, ACTIONS, ROUNDS) for lever in range(ACTIONS)}
    return known | {"imitates": imitator(UNIFORM, ROUNDS), "stays after a match": win_stay(UNIFORM, ROUNDS)}


@cache
def best_returns() -> dict[str, float]:
    """The best response to each scripted partner."""
    return {name: best_partner_return(PAYOFF, table) for name, table in scripted_partners().items()}


def follower() -> NDArray[np.float64]:
    """What a person might write down: open with the odd lever, then pull what the partner pulled last."""
    return imitator(np.eye(ACTIONS)[int(np.argmin(CONFIG.levers))], ROUNDS)


def trained_team(method: str, seed: int, *, updates: int = CONFIG.updates) -> IPPO:
    """Train one team.

    Args:
        method: Of ``METHODS``.
        seed: Of everything.
        updates: Of every team.
    Raises:
        ValueError: If there is no such method.
    """
    config = shorter(CONFIG, updates)
    if method == "self-play":
        return self_play_team(config, seed)
    if method == "Other-Play":
        return self_play_team(config, seed, relabelled=True)
    if method == "fictitious co-play":
        return co_play_team(config, seed)
    raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")


def with_scripted(tables: NDArray[np.float64]) -> dict[str, float]:
    """Return with each scripted partner as a share of the best response, mean over the two seats.

    Args:
        tables: ``[2, H, 1 + A², A]``, one per seat.
    """
    return {
        name: float(np.mean([cross_play(PAYOFF, table, partner) for table in tables])) / best_returns()[name]
        for name, partner in scripted_partners().items()
    }


def partners_run(method: str, seed: int, *, updates: int = CONFIG.updates) -> dict[str, float]:
    """Train a few teams and let them meet.

    Args:
        method: Of ``METHODS``.
        seed: Of the run; teams have seeds of their own.
        updates: Of every team.
    Returns:
        ``self``, the return of a team with itself; ``cross``, of two different teams of the run; ``other_names``, of a
        team with itself under other names; all as shares of H. ``share``, the mean over scripted partners of the share
        of the best response, ``worst_share``, the least of them, and ``with NAME`` for each; ``training_seconds``.
    """
    begun = time.process_time()
    seeds = np.random.SeedSequence(seed).generate_state(TEAMS) % 2**31
    teams = [trained_team(method, int(own), updates=updates) for own in seeds]
    spent = time.process_time() - begun
    game = LeverGame(1, **CONFIG.arguments)
    tables = [policy_tables(team, game) for team in teams]
    pairs = [(i, j) for i in range(TEAMS) for j in range(TEAMS) if i != j]
    scripted = pd.DataFrame([with_scripted(table) for table in tables]).mean()
    return {
        "self": float(np.mean([cross_play(PAYOFF, *table) for table in tables])) / ROUNDS,
        "cross": float(np.mean([cross_play(PAYOFF, tables[i][0], tables[j][1]) for i, j in pairs])) / ROUNDS,
        "other_names": float(np.mean([other_play_value(PAYOFF, *table) for table in tables])) / ROUNDS,
        "share": float(scripted.mean()), "worst_share": float(scripted.min()),
        **{f"with {name}": float(value) for name, value in scripted.items()},
        "training_seconds": spent,
    }  # fmt: skip


def partners_yardsticks() -> pd.DataFrame:
    """Exact numbers: the best response to each scripted partner, and what written-down policies get, as its share."""
    stranger = stranger_optimum(PAYOFF, list(scripted_partners().values()))
    written = {
        "follower": follower(), "always the odd lever": stubborn(int(np.argmin(CONFIG.levers)), ACTIONS, ROUNDS),
        "uniform": np.broadcast_to(UNIFORM, follower().shape),
    }  # fmt: skip
    rows = [{"partner": name, "best_response": value} for name, value in best_returns().items()]
    rows.append({"partner": "mean", "best_response": float(np.mean(list(best_returns().values())))})
    table = pd.DataFrame(rows)
    for name, policy in written.items():
        shares = list(with_scripted(np.stack([policy, policy])).values())
        table[name] = [*shares, float(np.mean(shares))]
    table["stranger_optimum"] = [*[np.nan] * len(best_returns()), stranger]
    return table


def partners(sweep: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """``evaluation_partners``, ``_yardsticks`` and ``_runs``."""
    grid: dict[str, list[Any]] = {"method": list(METHODS)}
    if quick:
        grid |= {"updates": [4]}
    runs = finished(sweep(partners_run, grid)).drop(columns="updates", errors="ignore")
    table = interval_table(runs, ["method"], ["self", "cross", "other_names", "share", "worst_share"])
    for name in (f"with {partner}" for partner in scripted_partners()):
        table[name] = interquartile_means(runs, ["method"], name)
    table["training_seconds"] = runs.groupby("method", sort=False)["training_seconds"].median().to_numpy()
    name = "evaluation_partners"
    return {name: table, f"{name}_yardsticks": partners_yardsticks(), f"{name}_runs": runs.drop(columns="seconds")}
