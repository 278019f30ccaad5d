"""The two-step game: what each way of splitting a team's value can represent, from uniformly drawn actions.

Book: multi_agent/value_decomposition.
"""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import isotonic_regression

from ca14lib.agents.multi_agent.iq_learners import IQLearners, IQLearnersConfig
from ca14lib.agents.multi_agent.parallel_q import (
    ParallelQMIX,
    ParallelQMIXConfig,
    ParallelVDN,
    ParallelVDNConfig,
)
from ca14lib.agents.multi_agent.qmix import QMIX, QMIXConfig
from ca14lib.agents.multi_agent.value_team import ValueTeam, ValueTeamConfig
from ca14lib.agents.multi_agent.vdn import VDN, VDNConfig
from ca14lib.environments.matrix_games import MatrixGame
from ca14lib.environments.two_step_game import TwoStepGame
from ca14lib.evaluation.teams import TeamEvaluation
from ca14lib.experiments.runs import Sweep, finished, interquartile_means
from ca14lib.metrics.intervals import interval_table
from ca14lib.training.history import History
from ca14lib.training.multi_agent import train_multi_agent

TWO_STEP = "TwoStepGame"
SECOND_GAMES = {"safe": 1, "risky": 2}  # name of a table of the second step -> its place in the observation
CELLS = [f"{game}_{row}{column}" for game in SECOND_GAMES for row in range(2) for column in range(2)]


@dataclass(frozen=True)
class TwoStepEntry:
    """One team of the comparison: its class, its settings, how long it learns."""

    team_class: type[ValueTeam]
    config: ValueTeamConfig
    updates: int
    num_envs: int = 64


# Actions stay uniform to the end, as in the paper's comparison: what differs is what a team can represent. The learning
# rate and the numbers of updates were chosen with seeds from 100 on; the tables report seeds 0, 1, …
_UNIFORM: dict[str, Any] = {"discount": 1.0, "epsilon_start": 1.0, "epsilon_end": 1.0, "learning_rate": 1e-3}
_REPLAY = _UNIFORM | {"target_every": 50}
TWO_STEP_TEAMS: dict[str, TwoStepEntry] = {
    "IQLearners": TwoStepEntry(IQLearners, IQLearnersConfig(**_REPLAY), updates=500),
    "VDN": TwoStepEntry(VDN, VDNConfig(**_REPLAY), updates=500),
    "QMIX": TwoStepEntry(QMIX, QMIXConfig(**_REPLAY), updates=800),
    "ParallelVDN": TwoStepEntry(ParallelVDN, ParallelVDNConfig(**_UNIFORM, trace_decay=0.0), updates=300),
    "ParallelQMIX": TwoStepEntry(ParallelQMIX, ParallelQMIXConfig(**_UNIFORM, trace_decay=0.0), updates=400),
    # the same with the default λ: its returns are those of the uniform policy, not of the greedy one
    "ParallelQMIX (λ = 0.65)": TwoStepEntry(ParallelQMIX, ParallelQMIXConfig(**_UNIFORM), updates=400),
}


def two_step_training(
    agent: str, seed: int, *, updates: int | None = None, evaluate_every: int | None = None
) -> tuple[Any, History]:
    """Train one team on uniformly drawn actions, and evaluate its greedy ones.

    Args:
        agent: Key of ``TWO_STEP_TEAMS``.
        seed: Seeds team and game.
        updates: Updates; None for the team's number.
        evaluate_every: Updates between evaluations; None for start and end only.
    """
    entry = TWO_STEP_TEAMS[agent]
    team = entry.team_class.for_game(TwoStepGame(1), entry.config, seed=seed)
    rollout_steps = 2 if team.experience == "episodes" else 4
    history = train_multi_agent(
        team, TWO_STEP, (updates or entry.updates) * entry.num_envs * rollout_steps, num_envs=entry.num_envs,
        rollout_steps=rollout_steps, start_steps=0, batch_size=64, capacity=2_000, seed=seed,
        evaluate=TeamEvaluation(TWO_STEP, 1, deterministic=True), evaluate_every=evaluate_every,
        log_every=evaluate_every or 100, progress=False,
    )  # fmt: skip
    return team, history


def matrix_training(
    agent: str, game: str, seed: int, *, updates: int = 400, reward_scale: float = 0.1
) -> tuple[Any, History]:
    """Train a team that replays, with its settings of the two-step game, on one round of a matrix game.

    Args:
        agent: ``"IQLearners"``, ``"VDN"`` or ``"QMIX"``.
        game: Key of :data:`~ca14lib.environments.matrix_games.MATRIX_GAMES`.
        seed: Seeds team and game.
        updates: Updates, on 64 rounds each.
        reward_scale: Of the team; payoffs of matrix games are tens.
    """
    entry, arguments = TWO_STEP_TEAMS[agent], {"game": game, "memory": 0}
    config = replace(entry.config, reward_scale=reward_scale)
    team = entry.team_class.for_game(MatrixGame(1, game=game, memory=0), config, seed=seed)
    history = train_multi_agent(
        team, "MatrixGame", updates * entry.num_envs, environment_arguments=arguments, num_envs=entry.num_envs,
        rollout_steps=1, start_steps=0, batch_size=64, capacity=2_000, seed=seed, log_every=100, progress=False,
        evaluate=TeamEvaluation("MatrixGame", 1, environment_arguments=arguments, deterministic=True),
    )  # fmt: skip
    return team, history


def second_values(team: Any) -> dict[str, NDArray]:
    """Learned values of the joint actions in the two tables of the second step, ``[2, 2]`` each."""
    state = np.eye(3, dtype=np.float32)[list(SECOND_GAMES.values())]
    tables = team.joint_values(np.repeat(state[:, None], 2, axis=1), state)
    return dict(zip(SECOND_GAMES, tables, strict=True))


def two_step_run(agent: str, seed: int, *, updates: int | None = None) -> dict[str, float]:
    """Train and judge one team.

    Args:
        agent: Key of ``TWO_STEP_TEAMS``.
        seed: Of team and game.
        updates: Updates; None for the team's number.
    Returns:
        ``return`` of the greedy actions, its ``share`` of the optimum 8, ``optimal`` (1 if it is 8); the learned values
        ``safe_00`` … ``risky_11`` of the joint actions of the second step, NaN of a team without a joint value.
    """
    team, history = two_step_training(agent, seed, updates=updates)
    value = history.last("team_return")
    result = {"return": value, "share": value / TwoStepGame.optimum, "optimal": float(value == TwoStepGame.optimum)}
    if not hasattr(team, "joint_values"):
        return result | dict.fromkeys(CELLS, np.nan)
    tables = second_values(team)
    return result | dict(zip(CELLS, np.concatenate([tables[game].ravel() for game in SECOND_GAMES]).tolist()))


def two_step_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Intervals over seeds, and the number of seeds that reached the optimum, one row per team."""
    table = interval_table(runs, ["agent"], ["return", "share"])
    table["optimal"] = [int(group["optimal"].sum()) for _, group in runs.groupby("agent", sort=False)]
    return table


def two_step_values(runs: pd.DataFrame) -> pd.DataFrame:
    """Interquartile means over seeds of the learned values of the second step, one row per team that has them."""
    known = runs[runs[CELLS].notna().all(axis=1)]
    table = pd.DataFrame({"agent": known["agent"].unique()})
    for cell in CELLS:
        table[cell] = interquartile_means(known, ["agent"], cell)
    return table


def two_step_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """Every team on the two-step game: ``multi_agent_two_step``, ``…_runs``, and learned values ``…_values``."""
    grid: dict[str, list[Any]] = {"agent": list(TWO_STEP_TEAMS)}
    if quick:
        grid = {"agent": ["VDN", "QMIX"]}
    runs = finished(sweeps(two_step_run, grid))
    tables = {"multi_agent_two_step": two_step_table(runs), "multi_agent_two_step_runs": runs.drop(columns="seconds")}
    return tables | {"multi_agent_two_step_values": two_step_values(runs)}


def additive_fit(payoff: ArrayLike) -> NDArray[np.float64]:
    """The sum of one term per agent that is closest to a table of two agents in the mean square, ``[A, B]``.

    That is what VDN learns from uniformly drawn actions: row mean plus column mean minus the mean of all.
    """
    table = np.asarray(payoff, dtype=np.float64)
    return table.mean(axis=1, keepdims=True) + table.mean(axis=0, keepdims=True) - table.mean()


def monotonic_fit(payoff: ArrayLike, *, rounds: int = 500) -> NDArray[np.float64]:
    """The closest table of two agents that a monotonic mixer can represent, in the mean square, ``[A, B]``.

    A mixer that never falls in a utility makes tables that, with rows and columns ordered by the utilities, never fall
    along either; and every such table can be made. So for each pair of orders the closest one is an isotonic
    regression of the table, here by Dykstra's projections on its rows and its columns in turn. Nothing is left to a
    network or to chance: an agent does at best as well.

    Args:
        payoff: ``[A, B]`` with at most 5 actions each, since all orders are tried.
        rounds: Projections on rows and columns.
    Raises:
        ValueError: If the table is not of two agents with at most 5 actions.
    """
    table = np.asarray(payoff, dtype=np.float64)
    if table.ndim != 2 or max(table.shape) > 5:
        raise ValueError(f"payoff must be a table of two agents with at most 5 actions each, got shape {table.shape}")
    best, least = table, np.inf
    for rows in itertools.permutations(range(table.shape[0])):
        for columns in itertools.permutations(range(table.shape[1])):
            fit = _isotonic(table[np.ix_(rows, columns)], rounds)
            error = np.square(fit - table[np.ix_(rows, columns)]).sum()
            if error < least - 1e-9:
                best, least = np.empty_like(table), error
                best[np.ix_(rows, columns)] = fit
    return best


def _isotonic(table: NDArray, rounds: int) -> NDArray:
    """The closest table that never falls from left to right nor from top to bottom."""
    fit, of_rows, of_columns = table, np.zeros_like(table), np.zeros_like(table)
    for _ in range(rounds):
        before = fit
        across = np.stack([isotonic_regression(row).x for row in fit + of_rows])
        of_rows = fit + of_rows - across
        fit = np.stack([isotonic_regression(column).x for column in (across + of_columns).T], axis=1)
        of_columns = across + of_columns - fit
        if np.abs(fit - before).max() < 1e-9 and np.abs(fit - across).max() < 1e-9:
            break
    return fit
