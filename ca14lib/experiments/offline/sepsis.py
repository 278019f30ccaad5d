"""Offline agents on intensive-care episodes of clinicians, against the exact optimum. Book: offline/index."""

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from ca14lib.agents.dqn import DQN, DQNConfig
from ca14lib.agents.offline.awr import DiscreteAWR, DiscreteAWRConfig
from ca14lib.agents.offline.bc import DiscreteBC, DiscreteBCConfig
from ca14lib.agents.offline.bc_regularized import DiscreteBCRegularized, DiscreteBCRegularizedConfig
from ca14lib.agents.offline.bcq import DiscreteBCQ, DiscreteBCQConfig
from ca14lib.agents.offline.cql import DiscreteCQL, DiscreteCQLConfig
from ca14lib.agents.offline.iql import DiscreteIQL, DiscreteIQLConfig
from ca14lib.data import OfflineDataset
from ca14lib.environments import TabularModel, behaviour_policy, tabular_model
from ca14lib.evaluation.exact import ExactEvaluation
from ca14lib.experiments.offline.comparison import Entry, build
from ca14lib.experiments.runs import Sweep, finished, interquartile_means
from ca14lib.metrics.intervals import interval_table
from ca14lib.solvers.dynamic_programming import policy_return, value_iteration
from ca14lib.solvers.pessimism import pessimistic_plan
from ca14lib.training.collect import collect
from ca14lib.training.offline import train_offline

SEPSIS = "CA14/ICUSepsis-v0"
SEPSIS_EPISODES = (500, 5_000, 50_000)
# share of an agent's updates that smaller data get: they are seen as often as need be in fewer
SEPSIS_LENGTH = {500: 0.25, 5_000: 0.25}
FULL_LENGTH = ("DQN",)  # whose values run away in time, also on little data: shortened, it would look harmless
SEPSIS_UPDATES = 12_000

# Settings of AWR, BCQ and the regularised learner were chosen with seeds from 100 on; the tables report 0, 1, …
_WIDE: dict[str, Any] = {"hidden_sizes": (128, 128), "learning_rate": 3e-4}
SEPSIS_AGENTS: dict[str, Entry] = {
    "DQN": Entry(DQN, DQNConfig(**_WIDE, discount=1.0), SEPSIS_UPDATES),
    "DiscreteBC": Entry(DiscreteBC, DiscreteBCConfig(**_WIDE), 6_000),
    "DiscreteBC10%": Entry(DiscreteBC, DiscreteBCConfig(**_WIDE), 6_000, top_episodes=0.1),
    "DiscreteBCRegularized": Entry(
        DiscreteBCRegularized, DiscreteBCRegularizedConfig(**_WIDE, discount=1.0, behaviour_weight=0.01), SEPSIS_UPDATES
    ),
    "DiscreteAWR": Entry(
        DiscreteAWR, DiscreteAWRConfig(**_WIDE, discount=1.0, trace_decay=0.5, temperature=0.3), 6_000
    ),
    # small steps on large batches: a maximum over 25 actions picks the noise in their values
    "DiscreteBCQ": Entry(
        DiscreteBCQ,
        DiscreteBCQConfig(hidden_sizes=(256,), learning_rate=1e-4, discount=1.0, threshold=0.3),
        8_000,
        batch_size=1_024,
    ),
    # undiscounted, the penalty's lift of the data's actions adds up along the episode and values run off
    "DiscreteCQL": Entry(
        DiscreteCQL, DiscreteCQLConfig(**_WIDE, discount=0.95, conservative_weight=0.05), SEPSIS_UPDATES
    ),
    "DiscreteIQL": Entry(
        DiscreteIQL, DiscreteIQLConfig(**_WIDE, discount=1.0, expectile=0.8, temperature=100.0), SEPSIS_UPDATES
    ),
}


@cache
def sepsis_model() -> TabularModel:
    """The exact model of ICU-Sepsis."""
    return tabular_model(SEPSIS)


@cache
def sepsis_evaluation() -> ExactEvaluation:
    """Exact undiscounted return, as the share of the gap between clinicians (0) and optimum (1) that is closed."""
    clinician = policy_return(sepsis_model(), behaviour_policy(SEPSIS, "clinician"))
    return ExactEvaluation(sepsis_model(), reference=clinician)


def sepsis_run(
    agent: str, episodes: int, seed: int, *, updates: int | None = None, checkpoints: int = 1
) -> list[dict[str, float]]:
    """Train one agent on clinician episodes and evaluate its greedy policy exactly, on schedule and at the end.

    Args:
        agent: Key of ``SEPSIS_AGENTS``, or ``"TabularPessimism"`` for planning with counts.
        episodes: Size of the data.
        seed: Seeds data, agent and training.
        updates: Length of the training; None for the agent's, of which smaller data get the share in ``SEPSIS_LENGTH``,
            except for the agents of ``FULL_LENGTH``.
        checkpoints: Number of evaluations; the last one is after the last update.
    Returns:
        Rows with ``update``, ``return``, ``gap_closed`` and ``max_q``.
    """
    data, evaluation = collect(SEPSIS, "clinician", episodes, seed), sepsis_evaluation()
    if agent == "TabularPessimism":
        scores = evaluation.of_policy(sepsis_pessimism(data))
        return [{"update": 0, "return": scores["return"], "gap_closed": scores["share"], "max_q": np.nan}]
    entry = SEPSIS_AGENTS[agent]
    data = entry.data(data)
    share = 1.0 if agent in FULL_LENGTH else SEPSIS_LENGTH.get(episodes, 1.0)
    updates = updates or int(entry.updates * share)
    learner = build(entry, data, seed)
    history = train_offline(
        learner, data, updates, batch_size=entry.batch_size, seed=seed, evaluate=evaluation,
        evaluate_every=max(updates // checkpoints, 1), progress=False,
    )  # fmt: skip
    table = history.frame.pivot(index="step", columns="metric", values="value")
    return [
        {"update": step, "return": row["return"], "gap_closed": row["share"], "max_q": row.get("max_q", np.nan)}
        for step, row in table[table["return"].notna()].iterrows()
        if step > 0
    ]


def sepsis_pessimism(data: OfflineDataset, min_count: int = 50) -> np.ndarray:
    """Policy table of tabular planning that ignores pairs seen under ``min_count`` times."""
    counts, rewards = data.empirical_counts(sepsis_model())
    return pessimistic_plan(counts, rewards, sepsis_model().terminal, min_count=min_count).policy


def sepsis_yardsticks() -> pd.DataFrame:
    """Exact undiscounted returns of the policies that others are held against."""
    model = sepsis_model()
    worst = TabularModel(model.transition, -model.reward, terminal=model.terminal, initial=model.initial)
    returns = {
        "optimal": value_iteration(model).optimal_return,
        "clinician": policy_return(model, behaviour_policy(SEPSIS, "clinician")),
        "uniform": policy_return(model, behaviour_policy(SEPSIS, "random")),
        "worst": -value_iteration(worst).optimal_return,
    }
    return pd.DataFrame({"policy": list(returns), "return": list(returns.values())})


def sepsis_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """Every agent on data of three sizes: ``offline_sepsis``, ``offline_sepsis_runs`` and ``sepsis_yardsticks``."""
    grid: dict[str, list[Any]] = {
        "agent": [*SEPSIS_AGENTS, "TabularPessimism"],
        "episodes": list(SEPSIS_EPISODES[:1] if quick else SEPSIS_EPISODES),
        "checkpoints": [1 if quick else 10],
    }
    if quick:
        grid["updates"] = [1_000]
    runs = finished(sweeps(sepsis_run, grid)).drop(columns=["seconds", "checkpoints"])
    last = runs[runs["update"] == runs.groupby(["agent", "episodes", "seed"])["update"].transform("max")]
    table = interval_table(last, ["agent", "episodes"], ["return", "gap_closed"])
    table["max_q_iqm"] = interquartile_means(last, ["agent", "episodes"], "max_q")
    return {"offline_sepsis": table, "offline_sepsis_runs": runs, "sepsis_yardsticks": sepsis_yardsticks()}
