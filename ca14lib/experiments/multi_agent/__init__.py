"""Section 3: teams and games beside exact answers and bounds. Book: multi_agent/index.

``ca14 run multi-agent`` calls :func:`run`; the notebooks call the pieces. Every part is a module of its own.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ca14lib.experiments.multi_agent.communication import communication_part
from ca14lib.experiments.multi_agent.credit import credit_part
from ca14lib.experiments.multi_agent.games import games_part
from ca14lib.experiments.multi_agent.public_games import public_games_part
from ca14lib.experiments.multi_agent.scaling import scaling_part
from ca14lib.experiments.multi_agent.self_play import self_play_part
from ca14lib.experiments.multi_agent.target_grid import target_grid_part
from ca14lib.experiments.multi_agent.two_step import two_step_part
from ca14lib.experiments.runs import Part, run_parts

__all__ = ["PARTS", "run"]

COMMAND = "ca14 run multi-agent"

PARTS: dict[str, Part] = {
    "games": games_part,
    "two_step": two_step_part,
    "target_grid": target_grid_part,
    "scaling": scaling_part,
    "public_games": public_games_part,
    "credit": credit_part,
    "communication": communication_part,
    "self_play": self_play_part,
}


def run(
    *, seeds: int = 10, quick: bool = False, parts: Iterable[str] | None = None,
    output: str | Path | None = None, cache_folder: str | Path | None = None, jobs: int | None = None,
    progress: bool = True,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """The section's experiment; writes its tables and returns them by name.

    Args and errors: as :func:`ca14lib.experiments.runs.run_parts`.
    """
    return run_parts(
        PARTS, COMMAND, seeds=seeds, quick=quick, parts=parts, output=output, cache_folder=cache_folder, jobs=jobs,
        progress=progress,
    )  # fmt: skip
