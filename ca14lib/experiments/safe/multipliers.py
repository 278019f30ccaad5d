"""How the multipliers of two agents move while they learn SafeGrid at a stochastic optimum. Book: safe/lagrangian."""

from typing import Any

import pandas as pd

from ca14lib.experiments.runs import Sweep, finished
from ca14lib.experiments.safe.grid import safe_grid_training

LAYOUT, LIMIT = "original", 0.3
AGENTS = ("PPOLagrangian", "PIDLagrangian")
EVERY = 2  # iterations between two rows


def multiplier_history(agent: str, seed: int, *, steps: int | None = None) -> pd.DataFrame:
    """Train one agent with the settings of the comparison and note where it stands after every second update.

    Args:
        agent: Of ``AGENTS``.
        seed: Of agent and environments.
        steps: Environment steps; None for those of the comparison.
    Returns:
        A row per ``step``: ``exact_return`` and ``exact_cost`` of the policy, and the ``multiplier`` at which its last
        update was made.
    Raises:
        ValueError: If the agent has no multiplier to follow.
    """
    if agent not in AGENTS:
        raise ValueError(f"agent must be one of {', '.join(AGENTS)}, got {agent!r}")
    _, history = safe_grid_training(agent, LAYOUT, LIMIT, seed, steps=steps, evaluate_every=EVERY)
    columns = {"exact_return": "exact_return", "exact_cost": "exact_cost", "multiplier_0": "multiplier"}
    series = [history.series(metric).rename(column) for metric, column in columns.items()]
    return pd.concat(series, axis=1, join="inner").reset_index()


def multipliers_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """``safe_multiplier_history``: one row per agent, seed and step."""
    grid: dict[str, list[Any]] = {"agent": list(AGENTS)}
    if quick:
        grid["steps"] = [25_600]
    runs = finished(sweeps(multiplier_history, grid)).drop(columns="seconds")
    return {"safe_multiplier_history": runs.round(4)}
