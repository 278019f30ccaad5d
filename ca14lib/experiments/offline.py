"""Section 1: offline agents on GridWorld and ICU-Sepsis against the exact optimum. Book: offline/index.

``ca14 run offline`` calls :func:`run`; the notebooks call the pieces.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ca14lib.agents.base import AgentConfig, DiscreteAgent, ValueAgent
from ca14lib.agents.dqn import DQN, DQNConfig
from ca14lib.agents.offline.bc import DiscreteBC, DiscreteBCConfig
from ca14lib.agents.offline.cql import DiscreteCQL, DiscreteCQLConfig
from ca14lib.agents.offline.iql import DiscreteIQL, DiscreteIQLConfig
from ca14lib.data import OfflineDataset
from ca14lib.environments import TabularModel, behaviour_policy, tabular_model
from ca14lib.evaluation.exact import ExactEvaluation, value_error
from ca14lib.experiments.results import write_results
from ca14lib.metrics.intervals import interquartile_mean, interval_table
from ca14lib.solvers.dynamic_programming import policy_return, value_iteration
from ca14lib.solvers.pessimism import pessimistic_plan
from ca14lib.training.collect import collect
from ca14lib.training.offline import train_offline
from ca14lib.training.sweep import sweep

MODULE = "ca14lib.experiments.offline"
COMMAND = "ca14 run offline"

GRIDWORLD = "CA14/GridWorld-v0"
GRIDWORLD_EPISODES = {"expert": 10_000, "mixed": 15_000, "random": 8_000}
GRIDWORLD_LIMIT = 50  # steps of the exact evaluation: a policy that never arrives returns −5 instead of −∞
GRIDWORLD_UPDATES = 3_000

SEPSIS = "CA14/ICUSepsis-v0"
SEPSIS_EPISODES = (500, 5_000, 50_000)


@dataclass(frozen=True)
class Entry:
    """One agent of a comparison: its class, its settings and the length of its training."""

    agent_class: type[DiscreteAgent]
    config: AgentConfig
    updates: int
    batch_size: int = 256


_SMALL: dict[str, Any] = {"hidden_sizes": (64, 64), "learning_rate": 1e-3}
GRIDWORLD_AGENTS: dict[str, Entry] = {
    "DQN": Entry(DQN, DQNConfig(**_SMALL), GRIDWORLD_UPDATES),
    "DiscreteBC": Entry(DiscreteBC, DiscreteBCConfig(**_SMALL), GRIDWORLD_UPDATES),
    "DiscreteCQL": Entry(DiscreteCQL, DiscreteCQLConfig(**_SMALL, conservative_weight=0.5), GRIDWORLD_UPDATES),
    "DiscreteIQL": Entry(DiscreteIQL, DiscreteIQLConfig(**_SMALL, expectile=0.9, temperature=10.0), GRIDWORLD_UPDATES),
}
_WIDE: dict[str, Any] = {"hidden_sizes": (128, 128), "learning_rate": 3e-4}
SEPSIS_UPDATES = 12_000
SEPSIS_AGENTS: dict[str, Entry] = {
    "DQN": Entry(DQN, DQNConfig(**_WIDE, discount=1.0), SEPSIS_UPDATES),
    "DiscreteBC": Entry(DiscreteBC, DiscreteBCConfig(**_WIDE), SEPSIS_UPDATES),
    # undiscounted, the penalty's lift of the data's actions adds up along the episode and values run off
    "DiscreteCQL": Entry(
        DiscreteCQL, DiscreteCQLConfig(**_WIDE, discount=0.95, conservative_weight=0.05), SEPSIS_UPDATES
    ),
    "DiscreteIQL": Entry(
        DiscreteIQL, DiscreteIQLConfig(**_WIDE, discount=1.0, expectile=0.8, temperature=100.0), SEPSIS_UPDATES
    ),
}
HYPERPARAMETERS: dict[str, dict[str, tuple[float, ...]]] = {
    "DQN": {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3), "target_rate": (0.0005, 0.005, 0.05, 1.0)},
    "DiscreteBC": {"learning_rate": (1e-4, 3e-4, 1e-3, 3e-3)},
    "DiscreteCQL": {"conservative_weight": (0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 20.0), "learning_rate": (3e-4, 1e-3, 3e-3)},
    "DiscreteIQL": {"expectile": (0.5, 0.7, 0.9, 0.99), "temperature": (0.0, 1.0, 3.0, 10.0, 100.0)},
}


@cache
def gridworld_model() -> TabularModel:
    """The exact model of the 5 × 5 GridWorld."""
    return tabular_model(GRIDWORLD)


@cache
def gridworld_evaluation() -> ExactEvaluation:
    """Exact return within 50 steps, as a share: uniform random is 0, the optimum of 0.3 is 1."""
    return ExactEvaluation(gridworld_model(), horizon=GRIDWORLD_LIMIT)


@cache
def sepsis_model() -> TabularModel:
    """The exact model of ICU-Sepsis."""
    return tabular_model(SEPSIS)


@cache
def sepsis_evaluation() -> ExactEvaluation:
    """Exact undiscounted return, as the share of the gap between clinicians (0) and optimum (1) that is closed."""
    clinician = policy_return(sepsis_model(), behaviour_policy(SEPSIS, "clinician"))
    return ExactEvaluation(sepsis_model(), reference=clinician)


def build(entry: Entry, dataset: OfflineDataset, seed: int) -> DiscreteAgent:
    """A new agent for a dataset, with the dataset's normalizer."""
    return entry.agent_class(
        dataset.observation_space, dataset.action_space, entry.config, normalizer=dataset.normalizer(), seed=seed
    )


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
    data = collect(GRIDWORLD, dataset, episodes or GRIDWORLD_EPISODES[dataset], seed)
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


def sepsis_run(
    agent: str, episodes: int, seed: int, *, updates: int | None = None, checkpoints: int = 1
) -> list[dict[str, float]]:
    """Train one agent on clinician episodes and evaluate its greedy policy exactly, on schedule and at the end.

    Args:
        agent: Key of ``SEPSIS_AGENTS``, or ``"TabularPessimism"`` for planning with counts.
        episodes: Size of the data.
        seed: Seeds data, agent and training.
        updates: Length of the training; None for the agent's.
        checkpoints: Number of evaluations; the last one is after the last update.
    Returns:
        Rows with ``update``, ``return``, ``gap_closed`` and ``max_q``.
    """
    data, evaluation = collect(SEPSIS, "clinician", episodes, seed), sepsis_evaluation()
    if agent == "TabularPessimism":
        scores = evaluation.of_policy(sepsis_pessimism(data))
        return [{"update": 0, "return": scores["return"], "gap_closed": scores["share"], "max_q": np.nan}]
    entry = SEPSIS_AGENTS[agent]
    updates = updates or entry.updates
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


def gridworld_table(runs: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Intervals over seeds of GridWorld runs, with the number of seeds that reach the optimum."""
    columns = ["return", "share"]
    table = interval_table(runs, by, columns)
    table["optimal_seeds"] = [int(group["optimal"].sum()) for _, group in runs.groupby(list(by), sort=False)]
    if "q_error" in runs:
        table["q_error_iqm"] = _interquartile_means(runs, by, "q_error")
    return table


def _interquartile_means(runs: pd.DataFrame, by: Sequence[str], column: str) -> list[float]:
    """Interquartile mean of a column in every group; NaN where the agent has no such number."""
    groups = [group[column] for _, group in runs.groupby(list(by), sort=False)]
    return [interquartile_mean(values) if values.notna().all() else np.nan for values in groups]


def run(
    *, seeds: int = 10, quick: bool = False, parts: Iterable[str] = ("gridworld", "hyperparameters", "sepsis"),
    output: str | Path | None = None, cache_folder: str | Path | None = None, jobs: int | None = None,
    progress: bool = True,
) -> dict[str, pd.DataFrame]:  # fmt: skip
    """The section's experiment; writes its tables and returns them by name.

    Args:
        seeds: Seeds per setting.
        quick: A few minutes instead of hours: shorter training, less data. Such tables belong in a folder of their own.
        parts: Which of ``PARTS`` to run.
        output: Folder of the tables; None for the course's ``results``.
        cache_folder: Folder of finished runs, from which a stopped experiment goes on.
        jobs: Processes; None for one per core.
        progress: Show progress bars.
    Raises:
        ValueError: If a part is unknown or there are fewer than two seeds.
    """
    chosen = list(parts)
    unknown = [part for part in chosen if part not in PARTS]
    if unknown:
        raise ValueError(f"unknown part {unknown[0]!r}; there are {', '.join(PARTS)}")
    if seeds < 2:
        raise ValueError(f"intervals over seeds need at least two seeds, got {seeds}")
    command = f"{COMMAND} --seeds {seeds}" + " --quick" * quick
    tables: dict[str, pd.DataFrame] = {}
    for part in chosen:
        sweeps = partial(sweep, seeds=seeds, jobs=jobs, progress=progress,
                         path=None if cache_folder is None else Path(cache_folder) / part)  # fmt: skip
        for name, table in PARTS[part](sweeps, quick).items():
            write_results(
                name, table, command=f"{command} --part {part}", modules=[MODULE], seeds=range(seeds), folder=output
            )
            tables[name] = table
    return tables


Sweep = Callable[..., pd.DataFrame]


def _gridworld(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    grid: dict[str, list[Any]] = {"agent": list(GRIDWORLD_AGENTS), "dataset": list(GRIDWORLD_EPISODES)}
    if quick:
        grid |= {"episodes": [500], "updates": [1_500]}
    runs = _finished(sweeps(gridworld_run, grid))
    table = gridworld_table(runs, ["agent", "dataset"])
    return {"offline_gridworld": table, "offline_gridworld_runs": runs.drop(columns="seconds")}


def _hyperparameters(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    settings: dict[str, list[Any]] = {"dataset": ["random"], "updates": [500 if quick else 2_000]}
    frames = [
        sweeps(gridworld_run, settings | {"agent": [agent], "parameter": [parameter], "value": list(values)})
        for agent, parameters in HYPERPARAMETERS.items()
        for parameter, values in parameters.items()
    ]
    runs = _finished(pd.concat(frames, ignore_index=True))
    table = gridworld_table(runs, ["agent", "dataset", "parameter", "value"])
    return {"offline_gridworld_hyperparameters": table}


def _sepsis(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    grid: dict[str, list[Any]] = {
        "agent": [*SEPSIS_AGENTS, "TabularPessimism"],
        "episodes": list(SEPSIS_EPISODES[:1] if quick else SEPSIS_EPISODES),
        "checkpoints": [1 if quick else 10],
    }
    if quick:
        grid["updates"] = [1_000]
    runs = _finished(sweeps(sepsis_run, grid)).drop(columns=["seconds", "checkpoints"])
    last = runs[runs["update"] == runs.groupby(["agent", "episodes", "seed"])["update"].transform("max")]
    table = interval_table(last, ["agent", "episodes"], ["return", "gap_closed"])
    table["max_q_iqm"] = _interquartile_means(last, ["agent", "episodes"], "max_q")
    return {"offline_sepsis": table, "offline_sepsis_runs": runs, "sepsis_yardsticks": sepsis_yardsticks()}


def _finished(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs, or an error that shows the first failure: a table never hides failed seeds."""
    failed = runs[runs["error"] != ""]
    if len(failed):
        raise RuntimeError(f"{len(failed)} of {len(runs)} runs failed, the first with:\n{failed['error'].iloc[0]}")
    return runs.drop(columns="error")


PARTS: dict[str, Callable[[Sweep, bool], dict[str, pd.DataFrame]]] = {
    "gridworld": _gridworld,
    "hyperparameters": _hyperparameters,
    "sepsis": _sepsis,
}
