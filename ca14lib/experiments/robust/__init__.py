"""Section 4: robust agents beside exact worst cases, bounds and optima. Book: robust/index.

``ca14 run robust`` calls :func:`run`; the notebooks call the pieces. Every part is a module of its own.
"""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ca14lib.experiments.robust.adaptation import adaptation_part
from ca14lib.experiments.robust.attacks import attacks_part
from ca14lib.experiments.robust.distributional import distributional_part
from ca14lib.experiments.robust.randomisation import randomisation_part
from ca14lib.experiments.robust.regret import regret_part
from ca14lib.experiments.robust.robust_mdp import robust_mdp_part
from ca14lib.experiments.robust.uncertainty import uncertainty_part
from ca14lib.experiments.runs import Part, run_parts

__all__ = ["PARTS", "run"]

COMMAND = "ca14 run robust"

PARTS: dict[str, Part] = {
    "mdp": robust_mdp_part,
    "randomisation": randomisation_part,
    "adaptation": adaptation_part,
    "attacks": attacks_part,
    "distributional": distributional_part,
    "regret": regret_part,
    "uncertainty": uncertainty_part,
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
