"""Offline agents on GridWorld data of three qualities, as shares of the exact optimum. Book: offline/index."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pandas as pd

from ca14lib.agents.base import ValueAgent
from ca14lib.agents.dqn import DQN, DQNConfig
from ca14lib.agents.offline.awr import DiscreteAWR, DiscreteAWRConfig
from ca14lib.agents.offline.bc import DiscreteBC, DiscreteBCConfig
from ca14lib.agents.offline.bc_regularized import DiscreteBCRegularized, DiscreteBCRegularizedConfig
from ca14lib.agents.offline.bcq import DiscreteBCQ, DiscreteBCQConfig
from ca14lib.agents.offline.cql import DiscreteCQL, DiscreteCQLConfig
from ca14lib.agents.offline.iql import DiscreteIQL, DiscreteIQLConfig
from ca14lib.environments import TabularModel, tabular_model
from ca14lib.evaluation.exact import ExactEvaluation, value_error
from ca14lib.experiments.offline.comparison import Entry, build
from ca14lib.experiments.runs import Sweep, finished, interquartile_means
from ca14lib.metrics.intervals import interval_table
from ca14lib.training.collect import collect
from ca14lib.training.offline import train_offline

GRIDWORLD = "CA14/GridWorld-v0"
GRIDWORLD_EPISODES = {"expert": 10_000, "mixed": 15_000, "random": 8_000}
GRIDWORLD_LIMIT = 50  # steps of the exact evaluation: a policy that never arrives returns −5 instead of −∞
GRIDWORLD_UPDATES = 3_000

# Settings of AWR, BCQ, the regularised learner and CQL's weight were chosen with seeds from 100 on; the tables report
# seeds 0, 1, …
_SMALL: dict[str, Any] = {"hidden_sizes": (64, 64), "learning_rate": 1e-3}
GRIDWORLD_AGENTS: dict[str, Entry] = {
    "DQN": Entry(DQN, DQNConfig(**_SMALL), GRIDWORLD_UPDATES),
    "DiscreteBC": Entry(DiscreteBC, DiscreteBCConfig(**_SMALL), GRIDWORLD_UPDATES),
    "DiscreteBC10%": Entry(DiscreteBC, DiscreteBCConfig(**_SMALL), GRIDWORLD_UPDATES, top_episodes=0.1),
    "DiscreteBCRegularized": Entry(
        DiscreteBCRegularized, DiscreteBCRegularizedConfig(**_SMALL, behaviour_weight=0.1), GRIDWORLD_UPDATES
    ),
    "DiscreteAWR": Entry(DiscreteAWR, DiscreteAWRConfig(**_SMALL), GRIDWORLD_UPDATES),
    "DiscreteBCQ": Entry(DiscreteBCQ, DiscreteBCQConfig(**_SMALL), GRIDWORLD_UPDATES),
    "DiscreteCQL": Entry(DiscreteCQL, DiscreteCQLConfig(**_SMALL, conservative_weight=0.1), GRIDWORLD_UPDATES),
    "DiscreteIQL": Entry(DiscreteIQL, DiscreteIQLConfig(**_SMALL, expectile=0.9, temperature=10.0), GRIDWORLD_UPDATES),
}


@cache
def gridworld_model() -> TabularModel:
    """The exact model of the 5 × 5 GridWorld."""
    return tabular_model(GRIDWORLD)


@cache
def gridworld_evaluation() -> ExactEvaluation:
    """Exact return within 50 steps, as a share: uniform random is 0, the optimum of 0.3 is 1."""
    return ExactEvaluation(gridworld_model(), horizon=GRIDWORLD_LIMIT)


def gridworld_run(
    agent: str, dataset: str, seed: int, *, parameter: str | None = None, value: float | None = None,
    episodes: int | None = None, updates: int | None = None,
) -> dict[str, float]:  # fmt: skip
    """Train one agent on fresh data and evaluate its greedy policy exactly.

    Args:
        agent: Key of ``GRIDWORLD_AGENTS``.
        dataset: ``"expert"``, ``"mixed"`` or ``"random"``.
        seed: Seeds data, agent and training.
        parameter: Field of the configuration to change, if any.
        value: Its value.
        episodes: Size of the data; None for the size of the original notebook.
        updates: Length of the training; None for the agent's.
    Returns:
        ``return``, ``share``, ``optimal`` (1 if the optimum is reached), and for agents with values ``q_error``, the
        largest amount by which Q exceeds the true Q of the greedy policy over all state-action pairs.
    """
    entry = GRIDWORLD_AGENTS[agent]
    if parameter is not None:
        entry = replace(entry, config=replace(entry.config, **{parameter: value}))  # type: ignore[arg-type]
    data = entry.data(collect(GRIDWORLD, dataset, episodes or GRIDWORLD_EPISODES[dataset], seed))
    learner = build(entry, data, seed)
    train_offline(learner, data, updates or entry.updates, batch_size=entry.batch_size, seed=seed, progress=False)
    evaluation = gridworld_evaluation()
    scores = evaluation(learner)
    assert evaluation.optimum is not None
    result = {
        "return": scores["return"],
        "share": scores["share"],
        "optimal": float(abs(scores["return"] - evaluation.optimum) < 1e-9),
    }
    if isinstance(learner, ValueAgent):
        excess = value_error(learner, gridworld_model(), entry.config.discount)
        result["q_error"] = float(excess[~gridworld_model().terminal].max())
    return result


def gridworld_table(runs: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Intervals over seeds of GridWorld runs, with the number of seeds that reach the optimum."""
    columns = ["return", "share"]
    table = interval_table(runs, by, columns)
    table["optimal_seeds"] = [int(group["optimal"].sum()) for _, group in runs.groupby(list(by), sort=False)]
    if "q_error" in runs:
        table["q_error_iqm"] = interquartile_means(runs, by, "q_error")
    return table


def gridworld_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """Every agent on every quality of data: the tables ``offline_gridworld`` and ``offline_gridworld_runs``."""
    grid: dict[str, list[Any]] = {"agent": list(GRIDWORLD_AGENTS), "dataset": list(GRIDWORLD_EPISODES)}
    if quick:
        grid |= {"episodes": [500], "updates": [1_500]}
    runs = finished(sweeps(gridworld_run, grid))
    table = gridworld_table(runs, ["agent", "dataset"])
    return {"offline_gridworld": table, "offline_gridworld_runs": runs.drop(columns="seconds")}
