"""Limits on cost, learned from a log that breaks them: SafeGrid beside the exact constrained optimum.

Book: evaluation/offline_safe. In the log two habits alternate, one that hurries through hazards and one that avoids
them, and three steps in ten are uniform.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.agents.base import AgentConfig, DiscreteAgent
from ca14lib.agents.hybrid.constrained_bcq import ConstrainedBCQ, ConstrainedBCQConfig
from ca14lib.agents.offline.bc import DiscreteBC, DiscreteBCConfig
from ca14lib.agents.offline.bcq import DiscreteBCQ, DiscreteBCQConfig
from ca14lib.data import OfflineDataset
from ca14lib.environments import SafeGrid, SafeGridVector, TabularModel
from ca14lib.environments.safe_grid import SafeGridLayout
from ca14lib.evaluation.constrained import COST_TOLERANCE, ConstrainedEvaluation
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.solvers import pareto_front, policy_costs, policy_return
from ca14lib.training.collect import collect
from ca14lib.training.history import History
from ca14lib.training.offline import train_offline

Array = NDArray[np.float64]
Layout = str | SafeGridLayout

# the smallest fork: three steps through a hazard, or nine round it; corners (cost 0, return 1) and (cost 1, return 4)
FORK = SafeGridLayout(4, ((1, 0), (1, 1), (1, 2)), goal=(3, 0), step_reward=-0.5, goal_reward=5.0, horizon=10)
SETTINGS = ("bridges 0.5", "bridges 1.0", "shore 0.5")  # layout and limit
EPISODES, UNIFORM = 2_000, 0.3  # of the log, and share of uniform actions in it
UPDATES = 3_500


@dataclass(frozen=True)
class OfflineEntry:
    """One learner: its class, its settings, whether it is told the limit, and the part of the log that it is given."""

    agent_class: type[DiscreteAgent]
    config_class: type[AgentConfig]
    settings: dict[str, Any]
    limited: bool = False
    safe_episodes: bool = False  # only the episodes whose own cost is within the limit

    def config(self, limit: float) -> AgentConfig:
        """The settings for a limit."""
        told: dict[str, Any] = {"cost_limits": (limit,)} if self.limited else {}
        return self.config_class(**self.settings, **told)


# settings were chosen with seeds from 100 on; the tables report seeds 0, 1, …
_SHARED: dict[str, Any] = {"hidden_sizes": (64,), "learning_rate": 2e-3, "discount": 1.0}
_CONSTRAINED: dict[str, Any] = _SHARED | {
    "temperature": 0.2, "target_rate": 0.05, "multiplier_learning_rate": 0.01, "multiplier_patience": 500,
}  # fmt: skip
_PRICE: dict[str, Any] = {"multiplier_learning_rate": 0.0, "initial_multiplier": 2.0}  # right for bridges at 1.0
OFFLINE_SAFE_AGENTS: dict[str, OfflineEntry] = {
    "DiscreteBC": OfflineEntry(DiscreteBC, DiscreteBCConfig, _SHARED),
    "DiscreteBC, safe episodes": OfflineEntry(DiscreteBC, DiscreteBCConfig, _SHARED, safe_episodes=True),
    "DiscreteBCQ": OfflineEntry(DiscreteBCQ, DiscreteBCQConfig, _SHARED | {"threshold": 0.1, "target_rate": 0.05}),
    "fixed penalty": OfflineEntry(ConstrainedBCQ, ConstrainedBCQConfig, _CONSTRAINED | _PRICE, limited=True),
    "ConstrainedBCQ": OfflineEntry(ConstrainedBCQ, ConstrainedBCQConfig, _CONSTRAINED, limited=True),
}


@cache
def safe_grid_model(layout: Layout) -> TabularModel:
    """The exact model of a layout; agents see the cell as a one-hot vector and the share of the time that is left."""
    return SafeGridVector(1, layout=layout, one_hot=True).tabular_model()


@cache
def safe_grid_evaluation(layout: Layout, limit: float) -> ConstrainedEvaluation:
    """Exact return, cost and score at a limit."""
    return ConstrainedEvaluation(safe_grid_model(layout), limit)


@cache
def logging_policy(layout: Layout) -> Array:
    """The behaviour ``[H, S, A]``: best policy without a limit or at the least cost, by a coin at every step."""
    front = pareto_front(safe_grid_model(layout))
    return (1 - UNIFORM) * (front.policies[0] + front.policies[-1]) / 2 + UNIFORM / front.policies.shape[-1]


def recorded(layout: Layout, seed: int, episodes: int | None = None) -> OfflineDataset:
    """The log.

    Args:
        layout: Key of ``SAFE_GRID_LAYOUTS``, or a layout.
        seed: Of environment and actions.
        episodes: Their number; None for ``EPISODES``.
    """
    vector, draws = SafeGridVector(1, layout=layout, one_hot=True), np.random.default_rng([seed, 0])
    reached = logging_policy(layout).cumsum(axis=-1)

    def behaviour(seen: NDArray) -> NDArray[np.intp]:
        step = np.rint((1 - seen[:, -1]) * len(reached)).astype(np.intp)
        return (draws.random((len(seen), 1)) >= reached[step, vector.state_index(seen), :-1]).sum(axis=1)

    environment = SafeGrid(layout=layout, one_hot=True)
    return collect(environment, behaviour, EPISODES if episodes is None else episodes, seed)


def episode_costs(data: OfflineDataset) -> Array:
    """Undiscounted cost of every episode, ``[episodes]``."""
    cost = data.transitions.cost[:, 0].double().cpu().numpy()
    return np.add.reduceat(cost, [piece.start for piece in data.episode_slices])


def within_limit(data: OfflineDataset, limit: float) -> OfflineDataset:
    """The episodes whose own cost keeps the limit.

    Raises:
        ValueError: If there is none.
    """
    kept = np.flatnonzero(episode_costs(data) <= limit + 1e-6)
    if not len(kept):
        raise ValueError(
            f"no episode of the log has a cost of at most {limit}, the least is {episode_costs(data).min()}"
        )
    return data.episodes(kept)


def timed_policy_table(agent: DiscreteAgent, model: TabularModel) -> Array:
    """The policy that acts, for a model whose agents see the time, ``[H, S, A]``."""
    assert model.horizon is not None
    seen = np.concatenate([model.timed_observation(step) for step in range(model.horizon)])
    table = agent.probabilities(seen)
    return (table / table.sum(axis=-1, keepdims=True)).reshape(model.horizon, model.num_states, -1)


def offline_safe_training(
    agent: str, layout: Layout, limit: float, seed: int, *, updates: int | None = None, episodes: int | None = None,
    evaluate_every: int | None = None,
) -> tuple[DiscreteAgent, History]:  # fmt: skip
    """Train one learner on a log and evaluate it exactly.

    Args:
        agent: Key of ``OFFLINE_SAFE_AGENTS``.
        layout: Key of ``SAFE_GRID_LAYOUTS``, or a layout.
        limit: On the expected cost of an episode.
        seed: Of log, agent and training.
        updates: Gradient updates; None for ``UPDATES``.
        episodes: Of the log; None for ``EPISODES``.
        evaluate_every: Updates between exact evaluations; None for start and end.
    """
    entry, data = OFFLINE_SAFE_AGENTS[agent], recorded(layout, seed, episodes)
    learner = entry.agent_class(data.observation_space, data.action_space, entry.config(limit), seed=seed)
    evaluation, model = safe_grid_evaluation(layout, limit), safe_grid_model(layout)
    history = train_offline(
        learner, within_limit(data, limit) if entry.safe_episodes else data, UPDATES if updates is None else updates,
        seed=seed, evaluate=lambda _: evaluation.of_policy(timed_policy_table(learner, model)),
        evaluate_every=evaluate_every, log_every=100, progress=False,
    )  # fmt: skip
    return learner, history


def setting_of(setting: str) -> tuple[str, float]:
    """Layout and limit of a setting's name."""
    layout, limit = setting.split()
    return layout, float(limit)


def offline_safe_run(setting: str, agent: str, seed: int, *, updates: int | None = None) -> dict[str, float]:
    """Train and judge one learner.

    Args:
        setting: Layout and limit, for example ``"bridges 0.5"``.
        agent: Key of ``OFFLINE_SAFE_AGENTS``.
        seed: Of log, agent and training.
        updates: Gradient updates; None for ``UPDATES``.
    Returns:
        Exact ``return``, ``cost``, ``score`` and ``excess`` of the last policy as it acts; ``within``, 1 if the cost is
        at most the limit plus 2% of the cost range; and for learners with a price the ``multiplier`` and
        ``estimate_error``, what they expected of an episode's cost at the end minus what it is.
    """
    layout, limit = setting_of(setting)
    _, history = offline_safe_training(agent, layout, limit, seed, updates=updates)
    last = {name: history.last(name) for name in ("exact_return", "exact_cost", "score", "excess")}
    result = {
        "return": last["exact_return"], "cost": last["exact_cost"], "score": last["score"], "excess": last["excess"],
        "within": float(last["excess"] <= COST_TOLERANCE), "multiplier": np.nan, "estimate_error": np.nan,
    }  # fmt: skip
    if OFFLINE_SAFE_AGENTS[agent].limited:
        result["multiplier"] = history.last("multiplier_0")
        result["estimate_error"] = history.last("expected_cost_0") - last["exact_cost"]
    return result


def offline_safe_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Intervals over seeds, one row per setting and learner, with the number of seeds within the limit."""
    by = ["setting", "agent"]
    table = interval_table(runs, by, ["score", "cost", "return"])
    groups = [group for _, group in runs.groupby(by, sort=False)]
    table["within"] = [int(group["within"].sum()) for group in groups]
    for column in ("multiplier", "estimate_error"):
        table[column] = [group[column].mean() for group in groups]
    places = [setting_of(setting) for setting in table["setting"]]
    table["limit"] = [limit for _, limit in places]
    table["optimal_return"] = [safe_grid_evaluation(*place).optimal_return for place in places]
    return table


def offline_safe_yardsticks() -> pd.DataFrame:
    """What is exact in every setting: optimum within the limit, its price, and the behaviour of the log."""
    rows = []
    for setting in SETTINGS:
        layout, limit = setting_of(setting)
        evaluation, model, behaviour = (
            safe_grid_evaluation(layout, limit), safe_grid_model(layout), logging_policy(layout),
        )  # fmt: skip
        rows.append({
            "setting": setting, "limit": limit, "optimal_return": evaluation.optimal_return,
            "multiplier": evaluation.multiplier, "safe_return": evaluation.safe_return,
            "cost_range": evaluation.cost_range, "log_return": policy_return(model, behaviour),
            "log_cost": float(policy_costs(model, behaviour)[0]),
        })  # fmt: skip
    return pd.DataFrame(rows)


def offline_safe(sweep: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """Every learner at every limit: ``evaluation_offline_safe`` with ``_runs`` and ``_yardsticks``."""
    grid: dict[str, list[Any]] = {"setting": list(SETTINGS), "agent": list(OFFLINE_SAFE_AGENTS)}
    if quick:
        grid = {
            "setting": ["bridges 1.0"],
            "agent": ["DiscreteBC, safe episodes", "ConstrainedBCQ"],
            "updates": [1_500],
        }
    runs = finished(sweep(offline_safe_run, grid))
    name = "evaluation_offline_safe"
    return {
        name: offline_safe_table(runs), f"{name}_runs": runs.drop(columns="seconds"),
        f"{name}_yardsticks": offline_safe_yardsticks(),
    }  # fmt: skip
