"""Section 1: offline agents against the exact optimum and against the online expert. Book: offline/index.

``ca14 run offline`` calls :func:`run`; the notebooks call the pieces. Every part is a module of its own, so that a
change in one part does not put the tables of the others out of date.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ca14lib.experiments.offline.comparison import Entry, build
from ca14lib.experiments.offline.continuous import (
    TASKS,
    continuous_dataset,
    continuous_evaluation,
    continuous_run,
    hopper_part,
    pendulum_part,
)
from ca14lib.experiments.offline.driving import driving_part
from ca14lib.experiments.offline.gridworld import (
    GRIDWORLD,
    GRIDWORLD_AGENTS,
    GRIDWORLD_EPISODES,
    GRIDWORLD_LIMIT,
    GRIDWORLD_UPDATES,
    gridworld_evaluation,
    gridworld_model,
    gridworld_part,
    gridworld_run,
    gridworld_table,
)
from ca14lib.experiments.offline.hyperparameters import HYPERPARAMETERS, hyperparameter_part
from ca14lib.experiments.offline.off_policy_evaluation import evaluation_part
from ca14lib.experiments.offline.sepsis import (
    SEPSIS,
    SEPSIS_AGENTS,
    SEPSIS_EPISODES,
    SEPSIS_UPDATES,
    sepsis_evaluation,
    sepsis_model,
    sepsis_part,
    sepsis_pessimism,
    sepsis_run,
    sepsis_yardsticks,
)
from ca14lib.experiments.runs import Part, run_parts

__all__ = [
    "GRIDWORLD",
    "GRIDWORLD_AGENTS",
    "GRIDWORLD_EPISODES",
    "GRIDWORLD_LIMIT",
    "GRIDWORLD_UPDATES",
    "HYPERPARAMETERS",
    "PARTS",
    "SEPSIS",
    "SEPSIS_AGENTS",
    "SEPSIS_EPISODES",
    "SEPSIS_UPDATES",
    "TASKS",
    "Entry",
    "build",
    "continuous_dataset",
    "continuous_evaluation",
    "continuous_run",
    "gridworld_evaluation",
    "gridworld_model",
    "gridworld_run",
    "gridworld_table",
    "run",
    "sepsis_evaluation",
    "sepsis_model",
    "sepsis_pessimism",
    "sepsis_run",
    "sepsis_yardsticks",
]

COMMAND = "ca14 run offline"

# a part makes its tables from a sweep and says by its module which code they depend on
PARTS: dict[str, Part] = {
    "gridworld": gridworld_part,
    "hyperparameters": hyperparameter_part,
    "sepsis": sepsis_part,
    "evaluation": evaluation_part,
    "pendulum": pendulum_part,
    "hopper": hopper_part,
    "driving": driving_part,
}


def run(
    *, seeds: int = 10, quick: bool = False, parts: Iterable[str] | None = None,
    output: str | Path | None = None, cache_folder: str | Path | None = None, jobs: int | None = None,
    progress: bool = True,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """The section's experiment; writes its tables and returns them by name.

    Args:
        seeds: Seeds per setting.
        quick: A few minutes instead of hours: shorter training, less data. Such tables belong in a folder of their own.
        parts: Which of ``PARTS`` to run; None for all.
        output: Folder of the tables; None for the course's ``results``.
        cache_folder: Folder of finished runs, from which a stopped experiment goes on.
        jobs: Processes; None for one per core.
        progress: Show progress bars.
    Raises:
        ValueError: If a part is unknown or there are fewer than two seeds.
    """
    return run_parts(
        PARTS, COMMAND, seeds=seeds, quick=quick, parts=parts, output=output, cache_folder=cache_folder, jobs=jobs,
        progress=progress,
    )  # fmt: skip
