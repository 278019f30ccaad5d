"""What the hyperparameters of the offline agents do on GridWorld, one at a time. Book: offline/index."""

from typing import Any

import pandas as pd

from ca14lib.experiments.offline.gridworld import gridworld_run, gridworld_table
from ca14lib.experiments.runs import Sweep, finished

HYPERPARAMETERS: dict[str, dict[str, tuple[float, ...]]] = {
    "DQN": {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3), "target_rate": (0.0005, 0.005, 0.05, 1.0)},
    "DiscreteBC": {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3)},
    "DiscreteBCRegularized": {"behaviour_weight": (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)},
    "DiscreteAWR": {"temperature": (0.05, 0.1, 0.3, 1.0, 3.0, 10.0), "trace_decay": (0.0, 0.5, 0.95, 1.0)},
    "DiscreteBCQ": {"threshold": (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99)},
    "DiscreteCQL": {"conservative_weight": (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 20.0), "learning_rate": (3e-4, 1e-3, 3e-3)},
    "DiscreteIQL": {"expectile": (0.5, 0.7, 0.9, 0.99), "temperature": (0.0, 1.0, 3.0, 10.0, 100.0)},
}
# what a constraint is good for shows where the data do not cover everything
ALSO_ON_MIXED_DATA = {("DiscreteBCQ", "threshold"), ("DiscreteBCRegularized", "behaviour_weight")}


def hyperparameter_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """One parameter at a time, the others as in ``GRIDWORLD_AGENTS``: ``offline_gridworld_hyperparameters``."""
    settings: dict[str, list[Any]] = {"updates": [500 if quick else 2_000]}
    frames = [
        sweeps(
            gridworld_run,
            settings
            | {"dataset": ["random", "mixed"] if (agent, parameter) in ALSO_ON_MIXED_DATA else ["random"]}
            | {"agent": [agent], "parameter": [parameter], "value": list(values)},
        )
        for agent, parameters in HYPERPARAMETERS.items()
        for parameter, values in parameters.items()
    ]
    runs = finished(pd.concat(frames, ignore_index=True))
    table = gridworld_table(runs, ["agent", "dataset", "parameter", "value"])
    return {"offline_gridworld_hyperparameters": table}
