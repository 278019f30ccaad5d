"""Section 2: safe agents beside the exact optimum within their limits. Book: safe/index.

``ca14 run safe`` calls :func:`run`; the notebooks call the pieces. Every part is a module of its own.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ca14lib.experiments.runs import Part, run_parts
from ca14lib.experiments.safe.cliff import cliff_part
from ca14lib.experiments.safe.driving import driving_part
from ca14lib.experiments.safe.grid import grid_part
from ca14lib.experiments.safe.multipliers import multipliers_part
from ca14lib.experiments.safe.reactor import reactor_part
from ca14lib.experiments.safe.sepsis import sepsis_part
from ca14lib.experiments.safe.shield import shield_part
from ca14lib.experiments.safe.velocity import velocity_part

__all__ = ["PARTS", "run"]

COMMAND = "ca14 run safe"

PARTS: dict[str, Part] = {
    "grid": grid_part,
    "multipliers": multipliers_part,
    "sepsis": sepsis_part,
    "driving": driving_part,
    "cliff": cliff_part,
    "shield": shield_part,
    "reactor": reactor_part,
    "velocity": velocity_part,
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
