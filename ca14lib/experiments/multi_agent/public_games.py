"""Spread and level-based foraging: MAPPO and QMIX on games that other libraries are measured on, after equal steps.

Book: multi_agent/index.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from ca14lib.agents.multi_agent.base import MultiAgent, TeamConfig, team_normalizer
from ca14lib.agents.multi_agent.mappo import MAPPO, MAPPOConfig
from ca14lib.agents.multi_agent.qmix import QMIX, QMIXConfig
from ca14lib.data import Normalizer
from ca14lib.environments import multi_agent_environment
from ca14lib.evaluation import TeamEvaluation
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.training.multi_agent import train_multi_agent

# 25 steps an episode in Spread, at most 50 in Foraging, where the food on the field is worth 1 in all
PUBLIC_GAMES = {"Spread": "Spread", "Foraging": "Foraging/Foraging-8x8-2p-3f-v3"}
STEPS = 250_000  # of training, in all copies together: the same for every team and for the peers
UNIFORM = "uniform"  # the row of uniform actions, beside the teams
EPISODES = 1_000  # held starts, the same for every team
NORMALIZER_COPIES = 64  # episodes of uniform play from which the scale of the observations is taken


@dataclass(frozen=True)
class PublicTeam:
    """A team on one of the games: its class, its settings, how it is trained."""

    agent_class: type[MultiAgent]
    config: TeamConfig
    loop: Mapping[str, Any]  # arguments of train_multi_agent


ROLLOUT_LOOP: dict[str, Any] = {"num_envs": 40, "rollout_steps": 25}
EPISODE_LOOP: dict[str, Any] = {
    "num_envs": 20, "rollout_steps": 25, "updates": 20, "batch_size": 32, "capacity": 5_000, "start_steps": 2_000,
}  # fmt: skip
# Settings were chosen with training seeds from 100 on; the tables report seeds 0, 1, …
PUBLIC_TEAMS: dict[str, dict[str, PublicTeam]] = {
    "Spread": {
        "MAPPO": PublicTeam(
            MAPPO,
            MAPPOConfig(
                hidden_sizes=(128, 128), learning_rate=1e-3, value_learning_rate=1e-3, epochs=8, minibatches=4,
                discount=0.95, entropy_weight=0.01, final_entropy_weight=0.001, annealing=0.99,
            ),
            ROLLOUT_LOOP,
        ),
        "QMIX": PublicTeam(
            QMIX,
            QMIXConfig(
                learning_rate=1e-3, discount=0.9, epsilon_updates=1_500, reward_scale=0.1, target_every=1,
                target_rate=0.01,
            ),
            EPISODE_LOOP,
        ),
    },
    "Foraging": {
        "MAPPO": PublicTeam(
            MAPPO,
            MAPPOConfig(
                hidden_sizes=(128, 128), learning_rate=1e-3, value_learning_rate=1e-3, epochs=8, minibatches=4,
                entropy_weight=0.02, final_entropy_weight=0.001, annealing=0.99,
            ),
            ROLLOUT_LOOP,
        ),
        "QMIX": PublicTeam(
            QMIX,
            QMIXConfig(
                hidden_sizes=(128, 128), learning_rate=1e-3, discount=0.85, epsilon_updates=3_000, reward_scale=10.0,
                target_every=1, target_rate=0.01,
            ),
            EPISODE_LOOP,
        ),
    },
}  # fmt: skip


@cache
def public_game_normalizer(game: str) -> Normalizer:
    """The scale of the observations under uniform play, the same for every agent."""
    copies = multi_agent_environment(PUBLIC_GAMES[game], NORMALIZER_COPIES)
    observation, _ = copies.reset(seed=2**31 - 1)
    random = np.random.default_rng(0)
    actions = copies.agent_action_space.n  # type: ignore[union-attr]
    seen = []
    for _ in range(copies.time_limit or 0):
        seen.append(observation)
        observation, *_ = copies.step(random.integers(actions, size=observation.shape[:2]))
    return team_normalizer(np.concatenate(seen))


def public_game_run(game: str, team: str, seed: int, *, steps: int | None = None) -> dict[str, float]:
    """Train and judge one team.

    Args:
        game: Key of ``PUBLIC_GAMES``.
        team: Key of ``PUBLIC_TEAMS`` of that game, or ``UNIFORM``, which does not train.
        seed: Of team and games.
        steps: Steps of all copies together; None for ``STEPS``.
    Returns:
        Of the last policy ``return`` with actions drawn as in training, QMIX's explorations included, and
        ``greedy_return`` with best actions. Both are means over held starts, of the sum over agents of the undiscounted
        rewards in an episode. Of training ``minutes`` on the clock, and ``steps_per_second`` of the process's CPU time.
        What uniform play has not is NaN.
    """
    name = PUBLIC_GAMES[game]
    drawn, greedy = (TeamEvaluation(name, EPISODES, deterministic=best) for best in (False, True))
    if team == UNIFORM:
        random, actions = np.random.default_rng(seed), drawn.game.agent_action_space.n  # type: ignore[union-attr]
        played = drawn(lambda observation, info: random.integers(actions, size=observation.shape[:2]))
        return {"return": played["return"]} | dict.fromkeys(("greedy_return", "minutes", "steps_per_second"), np.nan)
    entry = PUBLIC_TEAMS[game][team]
    agent = entry.agent_class.for_game(drawn.game, entry.config, seed=seed, normalizer=public_game_normalizer(game))
    clock, processor = time.perf_counter(), time.process_time()
    train_multi_agent(agent, name, steps or STEPS, seed=seed, progress=False, log_every=20, **entry.loop)
    minutes, seconds = (time.perf_counter() - clock) / 60, time.process_time() - processor
    return {
        "return": drawn(agent)["return"], "greedy_return": greedy(agent)["return"], "minutes": minutes,
        "steps_per_second": (steps or STEPS) / seconds,
    }  # fmt: skip


def public_games_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Intervals over seeds, one row per game and team; of uniform play they are over its draws."""
    return returns_table(runs, ["game", "team"], ["minutes", "steps_per_second"])


def returns_table(runs: pd.DataFrame, by: list[str], means: list[str]) -> pd.DataFrame:
    """Intervals of ``return`` and, where there is one, ``greedy_return`` in every group, and means of other columns."""
    table = interval_table(runs, by, ["return"])
    greedy = interval_table(runs[runs["greedy_return"].notna()], by, ["greedy_return"]).drop(columns="seeds")
    table = table.merge(greedy, on=by, how="left")
    for name in means:
        table[name] = [group[name].mean() for _, group in runs.groupby(by, sort=False)]
    return table


def public_games_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """Both teams on both games: ``multi_agent_public_games`` and its ``…_runs``."""
    grid: dict[str, list[Any]] = {"game": list(PUBLIC_GAMES), "team": ["MAPPO", "QMIX", UNIFORM]}
    if quick:
        grid |= {"game": ["Spread"], "steps": [50_000]}
    runs = finished(sweeps(public_game_run, grid))
    return {"multi_agent_public_games": public_games_table(runs), "multi_agent_public_games_runs": runs}
