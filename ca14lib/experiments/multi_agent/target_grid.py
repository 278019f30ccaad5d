"""TargetGrid: teams as a share of the upper bound, limited views with and without a channel, growing teams.

Book: multi_agent/index.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from ca14lib.agents.multi_agent.base import MultiAgent, TeamConfig, team_normalizer
from ca14lib.agents.multi_agent.coma import COMA, COMAConfig
from ca14lib.agents.multi_agent.ippo import IPPO, IPPOConfig
from ca14lib.agents.multi_agent.iq_learners import IQLearners, IQLearnersConfig
from ca14lib.agents.multi_agent.maac import MAAC, MAACConfig
from ca14lib.agents.multi_agent.maddpg import MADDPG, MADDPGConfig
from ca14lib.agents.multi_agent.mappo import MAPPO, MAPPOConfig
from ca14lib.agents.multi_agent.parallel_q import ParallelQMIX, ParallelQMIXConfig, ParallelVDN, ParallelVDNConfig
from ca14lib.agents.multi_agent.qmix import QMIX, QMIXConfig
from ca14lib.agents.multi_agent.vdn import VDN, VDNConfig
from ca14lib.data import Normalizer
from ca14lib.environments import TargetGrid, multi_agent_environment
from ca14lib.evaluation import TeamEvaluation
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.coordination import coordination_gain
from ca14lib.metrics.intervals import interval_table
from ca14lib.solvers import assigned_policy
from ca14lib.training.history import History
from ca14lib.training.multi_agent import Evaluate, train_multi_agent

TARGET_GRID = "TargetGrid"
EPISODES = 1_000  # held starts, the same for every team
CLOCK_EPISODES = 256  # of them, from which is measured during training when a team reaches a share
NORMALIZER_COPIES, NORMALIZER_STEPS = 512, 20  # uniform play from which the scale of the observations is taken
INDEPENDENT = "IQLearners"  # what the coordination gain is counted from
REACHED = 0.8  # share of the bound whose time is stated


@dataclass(frozen=True)
class TeamEntry:
    """One team of the comparison: its class, its settings, how it is trained."""

    agent_class: type[MultiAgent]
    config: TeamConfig
    steps: int = 1_600_000
    loop: Mapping[str, Any] = field(default_factory=dict)  # arguments of train_multi_agent
    time_limit: int = 100  # of an episode in training

    def training_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the game that is trained in, from those of the game that is judged."""
        return {"time_limit": self.time_limit, **arguments}


# Settings were chosen with training seeds from 100 on; the tables report seeds 0, 1, … A short discount keeps the
# values of an agent's actions apart, which is what learners of values need on this game. Where a team replays or
# bootstraps from long episodes, training cuts them early; the held episodes have the game's own limit.
PPO_SETTINGS: dict[str, Any] = {
    "hidden_sizes": (128, 128), "learning_rate": 2e-3, "value_learning_rate": 2e-3, "discount": 0.97, "epochs": 4,
    "minibatches": 8, "entropy_weight": 0.01, "final_entropy_weight": 0.001, "annealing": 0.99,
    "learning_rate_decay": 0.995,
}  # fmt: skip
_VALUES: dict[str, Any] = {
    "hidden_sizes": (128, 128), "learning_rate": 1e-3, "discount": 0.85, "epsilon_end": 0.05, "epsilon_updates": 2500,
    "reward_scale": 0.1, "target_every": 1, "target_rate": 0.01,
}  # fmt: skip
_PARALLEL: dict[str, Any] = {
    "hidden_sizes": (256, 128), "learning_rate": 1e-3, "discount": 0.85, "trace_decay": 0.5, "epochs": 2,
    "minibatches": 16, "epsilon_end": 0.05, "epsilon_updates": 150, "reward_scale": 0.1,
}  # fmt: skip
_ATTENTION: dict[str, Any] = {
    "hidden_sizes": (128, 128), "discount": 0.9, "reward_scale": 0.3, "target_rate": 0.01, "own_actions": "summed",
    "entropy_weight": 0.03, "logit_penalty": 1e-2, "layer_norm": False,
}  # fmt: skip
ROLLOUTS: dict[str, Any] = {"num_envs": 256, "rollout_steps": 16}
_EPISODES: dict[str, Any] = {
    "num_envs": 128, "rollout_steps": 1, "updates": 1, "batch_size": 32, "capacity": 5_000, "start_steps": 5_000,
}  # fmt: skip
_TRANSITIONS: dict[str, Any] = {
    "num_envs": 256, "rollout_steps": 8, "updates": 4, "batch_size": 1024, "capacity": 100_000, "start_steps": 5_000,
}  # fmt: skip
TARGET_GRID_TEAMS: dict[str, TeamEntry] = {
    "MAPPO": TeamEntry(MAPPO, MAPPOConfig(**PPO_SETTINGS), 1_400_000, ROLLOUTS),
    "IPPO": TeamEntry(IPPO, IPPOConfig(**PPO_SETTINGS), 1_400_000, ROLLOUTS),
    "QMIX": TeamEntry(QMIX, QMIXConfig(**_VALUES), 3_200_000, _EPISODES, 30),
    "VDN": TeamEntry(VDN, VDNConfig(**_VALUES), 1_600_000, _EPISODES, 30),
    "ParallelQMIX": TeamEntry(ParallelQMIX, ParallelQMIXConfig(**_PARALLEL), 2_000_000, ROLLOUTS, 50),
    "ParallelVDN": TeamEntry(ParallelVDN, ParallelVDNConfig(**_PARALLEL), 2_000_000, ROLLOUTS, 50),
    "MADDPG": TeamEntry(
        MADDPG,
        MADDPGConfig(hidden_sizes=(128, 128), discount=0.95, reward_scale=0.3, logit_penalty=1e-2),
        1_000_000,
        _TRANSITIONS,
    ),
    "MAAC": TeamEntry(
        MAAC,
        MAACConfig(**_ATTENTION),
        1_600_000,
        {**_TRANSITIONS, "capacity": 500_000},
    ),
    "COMA": TeamEntry(COMA, COMAConfig(hidden_sizes=(128, 128), discount=0.97), 1_400_000, ROLLOUTS),
    "IQLearners": TeamEntry(IQLearners, IQLearnersConfig(**_VALUES), 1_600_000, _EPISODES, 30),
}


@cache
def uniform_play_normalizer(**arguments: Any) -> Normalizer:
    """The scale of the observations under uniform play, the same for every agent."""
    game = multi_agent_environment(TARGET_GRID, NORMALIZER_COPIES, **arguments)
    observation, _ = game.reset(seed=2**31 - 1)
    random = np.random.default_rng(0)
    actions = game.agent_action_space.n  # type: ignore[union-attr]
    seen = []
    for _ in range(NORMALIZER_STEPS):
        seen.append(observation)
        observation, *_ = game.step(random.integers(actions, size=(game.num_envs, game.num_agents)))
    return team_normalizer(np.concatenate(seen))


def target_grid_training(
    entry: TeamEntry, seed: int, *, steps: int | None = None, evaluate_every: int | None = None,
    arguments: Mapping[str, Any] | None = None, judged: bool = True, evaluate: Evaluate | None = None,
    progress: bool = False,
) -> tuple[MultiAgent, History]:  # fmt: skip
    """Train one team on TargetGrid.

    Args:
        entry: What to train.
        seed: Of team and games.
        steps: Steps of all copies together; None for the entry's number.
        evaluate_every: Iterations between evaluations of the policy as it acts; None for start and end only.
        arguments: Arguments of the game, such as ``view_radius``.
        judged: Evaluate; otherwise the history holds training alone.
        evaluate: What evaluates; None for means over the held starts.
        progress: Show a progress bar.
    """
    arguments = dict(arguments or {})
    if judged and evaluate is None:
        evaluate = TeamEvaluation(TARGET_GRID, EPISODES, environment_arguments=arguments)
    game = multi_agent_environment(TARGET_GRID, 1, **arguments)
    agent = entry.agent_class.for_game(game, entry.config, seed=seed, normalizer=uniform_play_normalizer(**arguments))
    history = train_multi_agent(
        agent, TARGET_GRID, steps or entry.steps, environment_arguments=entry.training_arguments(arguments), seed=seed,
        progress=progress, evaluate=evaluate, evaluate_every=evaluate_every, log_every=20, **entry.loop,
    )  # fmt: skip
    return agent, history


def target_grid_run(team: str, seed: int, *, steps: int | None = None) -> dict[str, float]:
    """Train and judge one team.

    Args:
        team: Key of ``TARGET_GRID_TEAMS``.
        seed: Of team and games.
        steps: Steps of all copies together; None for the team's number.
    Returns:
        Of the policy as it acts: ``share`` of the bound, ``return``, ``finished``, ``length``, ``collisions``,
        ``targets``, ``fairness``; of its best actions ``greedy_share`` and ``greedy_finished``; ``minutes`` of
        training with evaluations left out, and ``minutes_to_80``, until a share of 0.8 was first measured on a quarter
        of the starts (NaN if it never was); ``env_steps`` of all copies together.
    """
    entry = TARGET_GRID_TEAMS[team]
    clock = _Clock(TeamEvaluation(TARGET_GRID, CLOCK_EPISODES))
    iteration = entry.loop.get("num_envs", 64) * entry.loop.get("rollout_steps", 16)
    total = steps or entry.steps
    every = max(total // iteration // 20, 1)
    agent, _ = target_grid_training(entry, seed, steps=total, evaluate=clock, evaluate_every=every)
    drawn, greedy = (TeamEvaluation(TARGET_GRID, EPISODES, deterministic=best)(agent) for best in (False, True))
    kept = ("share", "return", "finished", "length", "collisions", "targets", "fairness")
    return {name: drawn[name] for name in kept} | {
        "greedy_share": greedy["share"], "greedy_finished": greedy["finished"], "minutes": clock.seconds / 60,
        "minutes_to_80": clock.seconds_to_reach / 60, "env_steps": float(total),
    }  # fmt: skip


class _Clock:
    """An evaluation that adds up the time spent between evaluations."""

    def __init__(self, judge: TeamEvaluation) -> None:
        self.judge, self.seconds, self.seconds_to_reach = judge, 0.0, float("nan")
        self._since = time.perf_counter()

    def __call__(self, agent: Any) -> dict[str, float]:
        self.seconds += time.perf_counter() - self._since
        share = self.judge(agent)["share"]
        if np.isnan(self.seconds_to_reach) and share >= REACHED:
            self.seconds_to_reach = self.seconds
        self._since = time.perf_counter()
        return {"share": share}


def target_grid_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Intervals over seeds, one row per team, with the gain over independent learners."""
    columns = ["share", "finished", "length", "collisions", "targets", "fairness", "greedy_share", "greedy_finished"]
    table = interval_table(runs, ["team"], columns)
    table["worst_share"] = [group["share"].min() for _, group in runs.groupby("team", sort=False)]
    table["env_steps"] = [group["env_steps"].iloc[0] for _, group in runs.groupby("team", sort=False)]
    table["minutes"] = [group["minutes"].mean() for _, group in runs.groupby("team", sort=False)]
    table["minutes_to_80"] = [
        group["minutes_to_80"].mean(skipna=False) for _, group in runs.groupby("team", sort=False)
    ]
    if INDEPENDENT in set(table["team"]):
        independent = float(table.loc[table["team"] == INDEPENDENT, "share_iqm"].iloc[0])
        table["gain"] = [coordination_gain(share, independent, 1.0) for share in table["share_iqm"]]
    return table


def target_grid_yardsticks() -> pd.DataFrame:
    """What plays without learning: uniform actions, the planner that follows the best assignment, the bound."""
    judge = TeamEvaluation(TARGET_GRID, EPISODES)
    random = np.random.default_rng(0)

    def uniform(observation: Any, info: Any) -> Any:
        return random.integers(5, size=observation.shape[:2])

    assert isinstance(judge.game, TargetGrid)
    plain, planned = judge(uniform), judge(assigned_policy(judge.game))
    rows = [("uniform", plain), ("planner", planned)]
    kept = ("return", "share", "finished", "length", "collisions")
    table = [{"policy": name} | {key: values[key] for key in kept} for name, values in rows]
    return pd.DataFrame([*table, {"policy": "bound", "return": plain["bound"], "share": 1.0}])


def target_grid_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """Every team: ``multi_agent_target_grid``, its ``…_runs`` and ``…_yardsticks``."""
    grid: dict[str, list[Any]] = {"team": list(TARGET_GRID_TEAMS)}
    if quick:
        grid = {"team": ["MAPPO", "IQLearners"], "steps": [200_000]}
    runs = finished(sweeps(target_grid_run, grid))
    tables = {"multi_agent_target_grid": target_grid_table(runs), "multi_agent_target_grid_runs": runs}
    return tables | {"multi_agent_target_grid_yardsticks": target_grid_yardsticks()}
