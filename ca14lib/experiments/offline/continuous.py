"""Offline agents on continuous control, as D4RL-style scores between random and online expert. Book: offline/data.

The data are those of ``ca14 make-datasets``; every policy is evaluated in the environment, on starts that neither the
data nor the training saw, after its last update.
"""

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pandas as pd

from ca14lib.agents.base import AgentConfig
from ca14lib.agents.offline.awr import AWR, AWRConfig
from ca14lib.agents.offline.bc import BC, BCConfig
from ca14lib.agents.offline.bcq import BCQ, BCQConfig
from ca14lib.agents.offline.cql import CQL, CQLConfig
from ca14lib.agents.offline.iql import IQL, IQLConfig
from ca14lib.agents.offline.td3bc import TD3BC, TD3BCConfig
from ca14lib.data import OfflineDataset
from ca14lib.evaluation.rollouts import RolloutEvaluation
from ca14lib.experiments.offline.comparison import Entry, build
from ca14lib.experiments.offline.datasets import QUALITIES, RECIPES, load_dataset, reference_returns
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.metrics.shares import normalized_score
from ca14lib.training.offline import train_offline


@dataclass(frozen=True)
class Task:
    """An environment of the comparison: its agents, and how they are evaluated."""

    agents: dict[str, Entry]
    evaluation_episodes: int
    checkpoints: int  # evaluations during training; the last one is reported


def _entries(common: dict[str, Any], updates: int, settings: dict[str, AgentConfig]) -> dict[str, Entry]:
    classes = {"BC": BC, "BC10%": BC, "AWR": AWR, "TD3BC": TD3BC, "BCQ": BCQ, "CQL": CQL, "IQL": IQL}
    return {
        name: Entry(
            classes[name], replace(config, **common), updates, top_episodes=0.1 if name == "BC10%" else 1.0
        )
        for name, config in settings.items()
    }  # fmt: skip


# Pendulum's settings were chosen on seed 200 and up; Hopper's are those of the papers, but for width,
# length and learning rate.
TASKS = {
    "pendulum": Task(
        _entries(
            {"hidden_sizes": (64, 64), "learning_rate": 1e-3},
            6_000,
            {
                "BC": BCConfig(),
                "BC10%": BCConfig(),
                "AWR": AWRConfig(),
                "TD3BC": TD3BCConfig(value_weight=10.0),
                "BCQ": BCQConfig(),
                "CQL": CQLConfig(conservative_weight=1.0, policy_learning_rate=3e-4),
                "IQL": IQLConfig(expectile=0.9, temperature=3.0),
            },
        ),
        evaluation_episodes=50,
        checkpoints=4,
    ),
    "hopper": Task(
        _entries(
            {"hidden_sizes": (64, 64), "learning_rate": 1e-3},
            10_000,
            {
                "BC": BCConfig(),
                "BC10%": BCConfig(),
                "AWR": AWRConfig(),
                "TD3BC": TD3BCConfig(),
                "BCQ": BCQConfig(),
                "CQL": CQLConfig(),
                "IQL": IQLConfig(),
            },
        ),
        evaluation_episodes=10,
        checkpoints=2,
    ),
}


@cache
def continuous_dataset(environment: str, quality: str) -> OfflineDataset:
    """A dataset of ``ca14 make-datasets``, read once.

    Raises:
        FileNotFoundError: If it is not there, with the command that makes it.
    """
    return load_dataset(environment, quality)


def continuous_evaluation(environment: str, seed: int, episodes: int | None = None) -> RolloutEvaluation:
    """Mean return and score over episodes whose starts depend on the seed and are used nowhere else."""
    return RolloutEvaluation(
        RECIPES[environment].environment_id, episodes or TASKS[environment].evaluation_episodes, seed,
        references=reference_returns(environment),
    )  # fmt: skip


def continuous_run(
    environment: str, agent: str, dataset: str, seed: int, *, updates: int | None = None, episodes: int | None = None
) -> list[dict[str, float]]:
    """Train one agent on one dataset and evaluate its deterministic policy on schedule and at the end.

    Args:
        environment: Key of ``TASKS``.
        agent: Key of its agents.
        dataset: ``"random"``, ``"medium"``, ``"expert"`` or ``"medium-replay"``.
        seed: Seeds agent, training and the starts of the evaluation; the data are the same for all.
        updates: Length of the training; None for the agent's.
        episodes: Episodes of an evaluation; None for the task's.
    Returns:
        Rows with ``update``, ``return``, ``score`` and ``length``.
    """
    task = TASKS[environment]
    entry = task.agents[agent]
    data = entry.data(continuous_dataset(environment, dataset))
    updates = updates or entry.updates
    learner = build(entry, data, seed)
    history = train_offline(
        learner, data, updates, batch_size=entry.batch_size, seed=seed, progress=False,
        evaluate=continuous_evaluation(environment, seed, episodes), evaluate_every=max(updates // task.checkpoints, 1),
    )  # fmt: skip
    table = history.frame.pivot(index="step", columns="metric", values="value")
    return [
        {"update": step, "return": row["return"], "score": row["score"], "length": row["length"]}
        for step, row in table[table["return"].notna()].iterrows()
        if step > 0
    ]


def behaviour_rows(environment: str) -> pd.DataFrame:
    """Mean return and score of every dataset, in the columns of the comparison: what an agent should beat."""
    rows = []
    for quality in QUALITIES:
        mean = float(continuous_dataset(environment, quality).episode_returns().mean())
        score = normalized_score(mean, *reference_returns(environment))
        row: dict[str, Any] = {"agent": "behaviour", "dataset": quality, "seeds": 0}
        row |= {f"return_{part}": mean for part in ("iqm", "low", "high")}
        row |= {f"score_{part}": score for part in ("iqm", "low", "high")}
        rows.append(row)
    return pd.DataFrame(rows)


def _part(environment: str, sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    grid: dict[str, list[Any]] = {
        "environment": [environment], "agent": list(TASKS[environment].agents), "dataset": list(QUALITIES),
    }  # fmt: skip
    if quick:
        grid |= {"updates": [500], "episodes": [3]}
    runs = finished(sweeps(continuous_run, grid)).drop(columns=["seconds", "environment"])
    last = runs[runs["update"] == runs.groupby(["agent", "dataset", "seed"])["update"].transform("max")]
    table = interval_table(last, ["agent", "dataset"], ["return", "score"])
    table = pd.concat([table, behaviour_rows(environment)], ignore_index=True)
    return {f"offline_{environment}": table, f"offline_{environment}_runs": runs}


def pendulum_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """The tables ``offline_pendulum`` and ``offline_pendulum_runs``."""
    return _part("pendulum", sweeps, quick)


def hopper_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """The tables ``offline_hopper`` and ``offline_hopper_runs``."""
    return _part("hopper", sweeps, quick)
