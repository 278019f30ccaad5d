"""Section 5: all agents on one scale, applications, hybrids and deployment. Book: evaluation/index.

``ca14 run evaluation`` calls :func:`run`; the notebooks call the pieces. Every part is a module of its own.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ca14lib.experiments.evaluation.anm import anm as anm_part
from ca14lib.experiments.evaluation.comparison import comparison_part
from ca14lib.experiments.evaluation.continual import continual as continual_part
from ca14lib.experiments.evaluation.deployment import deployment as deployment_part
from ca14lib.experiments.evaluation.driving import driving as driving_part
from ca14lib.experiments.evaluation.energy import energy as energy_part
from ca14lib.experiments.evaluation.fine_tuning import fine_tuning as fine_tuning_part
from ca14lib.experiments.evaluation.healthcare import healthcare as healthcare_part
from ca14lib.experiments.evaluation.industrial import industrial as industrial_part
from ca14lib.experiments.evaluation.market import market as market_part
from ca14lib.experiments.evaluation.offline_safe import offline_safe as offline_safe_part
from ca14lib.experiments.evaluation.partners import partners as partners_part
from ca14lib.experiments.evaluation.preferences import preferences as preferences_part
from ca14lib.experiments.evaluation.robotics import robotics as robotics_part
from ca14lib.experiments.evaluation.robust_safe import robust_safe as robust_safe_part
from ca14lib.experiments.evaluation.trading import trading as trading_part
from ca14lib.experiments.runs import Part, run_parts

__all__ = ["PARTS", "run"]

COMMAND = "ca14 run evaluation"

PARTS: dict[str, Part] = {
    "comparison": comparison_part,
    "healthcare": healthcare_part,
    "driving": driving_part,
    "trading": trading_part,
    "market": market_part,
    "robotics": robotics_part,
    "industrial": industrial_part,
    "energy": energy_part,
    "anm": anm_part,
    "deployment": deployment_part,
    "offline_safe": offline_safe_part,
    "fine_tuning": fine_tuning_part,
    "robust_safe": robust_safe_part,
    "partners": partners_part,
    "continual": continual_part,
    "preferences": preferences_part,
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
