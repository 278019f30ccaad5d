"""TargetGrid with 2 to 32 agents: how return and time grow with the team. Book: multi_agent/index."""

import time
from typing import Any

import pandas as pd

from ca14lib.agents.multi_agent.mappo import MAPPO, MAPPOConfig
from ca14lib.evaluation import TeamEvaluation
from ca14lib.experiments.multi_agent.target_grid import (
    EPISODES,
    PPO_SETTINGS,
    ROLLOUTS,
    TARGET_GRID,
    TeamEntry,
    target_grid_training,
)
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table

# about as many cells per agent as in the game of four: the grid grows with the team, the targets stay three
SIZES = {2: 6, 4: 8, 8: 11, 16: 16, 32: 23}
STEPS = 100_000
SCALING_TEAM = TeamEntry(MAPPO, MAPPOConfig(**PPO_SETTINGS), STEPS, ROLLOUTS)


def scaling_run(agents: int, seed: int, *, steps: int = STEPS) -> dict[str, float]:
    """Train MAPPO with a number of agents, always the same number of steps.

    Args:
        agents: Key of ``SIZES``.
        seed: Of team and games.
        steps: Steps of all copies together.
    Returns:
        ``return``, ``share`` of the bound, ``finished``, ``length``, ``collisions`` over held starts, and
        ``milliseconds`` of training per 1,000 steps.
    """
    arguments: dict[str, Any] = {"size": SIZES[agents], "num_agents": agents}
    begun = time.process_time()
    agent, _ = target_grid_training(SCALING_TEAM, seed, steps=steps, arguments=arguments, judged=False)
    spent = time.process_time() - begun
    values = TeamEvaluation(TARGET_GRID, EPISODES, environment_arguments=arguments)(agent)
    kept = ("return", "share", "finished", "length", "collisions")
    return {name: values[name] for name in kept} | {"milliseconds": 1e6 * spent / steps}


def scaling_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """MAPPO with 2 to 32 agents after equal steps: ``multi_agent_scaling``."""
    grid: dict[str, list[Any]] = {"agents": list(SIZES)}
    if quick:
        grid = {"agents": [2, 4], "steps": [50_000]}
    runs = finished(sweeps(scaling_run, grid))
    columns = ["return", "share", "finished", "length", "collisions", "milliseconds"]
    table = interval_table(runs, ["agents"], columns)
    table["size"] = [SIZES[agents] for agents in table["agents"]]
    return {"multi_agent_scaling": table}
