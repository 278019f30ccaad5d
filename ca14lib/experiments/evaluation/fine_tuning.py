"""From a log to the world: what offline pre-training is worth online, and what it loses first, step by step exactly.

Book: evaluation/fine_tuning. The log goes a long way round in GridWorld; what is learned from it can get better online.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.agents.base import Agent, AgentConfig
from ca14lib.agents.dqn import DQN, DQNConfig
from ca14lib.agents.hybrid.cal_ql import DiscreteCalQL, DiscreteCalQLConfig, hand_over
from ca14lib.agents.offline.cql import DiscreteCQL, DiscreteCQLConfig
from ca14lib.agents.offline.iql import DiscreteIQL, DiscreteIQLConfig
from ca14lib.data import OfflineDataset
from ca14lib.data.symmetric_replay import SymmetricReplay
from ca14lib.environments import GridWorld, GridWorldVector, TabularModel
from ca14lib.environments.grid import DOWN, RIGHT, UP
from ca14lib.evaluation.exact import ExactEvaluation
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table, iqm_interval
from ca14lib.metrics.unlearning import dip_area, lost_area
from ca14lib.training.collect import collect
from ca14lib.training.history import History
from ca14lib.training.off_policy import train_off_policy
from ca14lib.training.offline import train_offline

GRIDWORLD = "CA14/GridWorld-v0"
LIMIT = 50  # steps of the exact evaluation, as many as an episode has
SIZE = 8  # cells a side
EPISODES, UNIFORM = 20, 0.1  # of the log, and share of uniform actions in it
UPDATES = 1_500  # of pre-training
STEPS, EVERY = 2_500, 50  # online, and between exact evaluations
BATCH = 64
POINTS = 11  # of the curves that are kept, evenly spaced

_SHARED: dict[str, Any] = {"hidden_sizes": (64, 64), "learning_rate": 1e-3, "target_rate": 0.01}
_EXPLORING: dict[str, Any] = _SHARED | {"exploration": 0.05}


@dataclass(frozen=True)
class Route:
    """One way from the log to the world.

    ``before`` learns from the log, ``after`` online, where ``share`` of a batch is the log; None leaves a stage out.
    """

    before: tuple[type[Agent], AgentConfig] | None
    after: tuple[type[Agent], AgentConfig] | None
    share: float = 0.0


# settings were chosen with seeds from 100 on; the tables report seeds 0, 1, …
_DQN = (DQN, DQNConfig(**_EXPLORING))
_CQL = (DiscreteCQL, DiscreteCQLConfig(**_EXPLORING, conservative_weight=1.0))
_WEAK = (DiscreteCQL, DiscreteCQLConfig(**_EXPLORING, conservative_weight=0.1))
_CALQL = (DiscreteCalQL, DiscreteCalQLConfig(**_EXPLORING, conservative_weight=1.0))
_IQL = (DiscreteIQL, DiscreteIQLConfig(**_SHARED, expectile=0.9, temperature=10.0))
ROUTES: dict[str, Route] = {
    "offline only": Route(_CQL, None),
    "offline only, a tenth of the penalty": Route(_WEAK, None),
    "online only": Route(None, _DQN),
    "online, half from the log": Route(None, _DQN, 0.5),
    "CQL, then DQN": Route(_CQL, _DQN),
    "CQL, then DQN, half from the log": Route(_CQL, _DQN, 0.5),
    "Cal-QL, then DQN": Route(_CALQL, _DQN),
    "Cal-QL, then DQN, half from the log": Route(_CALQL, _DQN, 0.5),
    "CQL, half from the log": Route(_CQL, _CQL, 0.5),
    "Cal-QL, half from the log": Route(_CALQL, _CALQL, 0.5),
    "IQL, half from the log": Route(_IQL, _IQL, 0.5),
}


@cache
def grid_model() -> TabularModel:
    """The exact model of the 8 × 8 GridWorld; the best return is −0.3, in 14 steps."""
    return GridWorldVector(1, size=SIZE).tabular_model()


@cache
def acting_evaluation() -> ExactEvaluation:
    """Exact share of the optimum of the policy that acts, with its exploration: uniform is 0, the optimum 1."""
    return ExactEvaluation(grid_model(), horizon=LIMIT, deterministic=False)


@cache
def greedy_evaluation() -> ExactEvaluation:
    """The same of the best actions alone."""
    return ExactEvaluation(grid_model(), horizon=LIMIT)


def long_way() -> NDArray[np.float64]:
    """A policy ``[S, A]`` that arrives in 28 steps in place of 14: up, two right, down, right to the edge, up."""
    x, y = np.divmod(np.arange(SIZE**2), SIZE)
    last = SIZE - 1
    action = np.select(
        [(x == 0) & (y < last), (y == last) & (x < 2), (x == 2) & (y > 0), x == last], [UP, RIGHT, DOWN, UP], RIGHT
    )
    return np.eye(4)[action]


def recorded(seed: int, episodes: int | None = None) -> OfflineDataset:
    """Episodes of the long way, with a share of uniform actions.

    Args:
        seed: Of environment and actions.
        episodes: Their number; None for ``EPISODES``.
    """
    vector, draws = GridWorldVector(1, size=SIZE), np.random.default_rng([seed, 0])
    reached = ((1 - UNIFORM) * long_way() + UNIFORM / 4).cumsum(axis=1)

    def behaviour(seen: NDArray) -> NDArray[np.intp]:
        return (draws.random((len(seen), 1)) >= reached[vector.state_index(seen), :-1]).sum(axis=1)

    return collect(GridWorld(size=SIZE), behaviour, EPISODES if episodes is None else episodes, seed)


def fine_tuning_training(
    route: str, seed: int, *, updates: int | None = None, steps: int | None = None
) -> tuple[Agent, History]:
    """Pre-train on a log, then go on online; exact shares from step 0 on.

    Args:
        route: Key of ``ROUTES``.
        seed: Of log, agents and both stages.
        updates: Of pre-training; None for ``UPDATES``.
        steps: Online; None for ``STEPS``.
    Returns:
        The last agent, and a history with ``share`` by online step.
    """
    way, data = ROUTES[route], recorded(seed)
    updates, steps = UPDATES if updates is None else updates, STEPS if steps is None else steps
    before = None if way.before is None else _built(way.before, data, seed)
    if before is not None:
        train_offline(before, data, updates, batch_size=BATCH, seed=seed, progress=False)
    after = before if way.after is None or way.after == way.before else _built(way.after, data, seed)
    assert after is not None
    if isinstance(before, DQN) and isinstance(after, DQN) and after is not before:
        hand_over(before, after)
    evaluation = acting_evaluation()
    history = History()
    history.add(0, {"share": evaluation(after)["share"]})
    if way.after is None:
        history.add(steps, {"share": history.last("share")})
        return after, history
    online = train_off_policy(
        after, GRIDWORLD, steps, environment_arguments={"size": SIZE}, start_steps=0, batch_size=BATCH, seed=seed,
        buffer=SymmetricReplay(data, steps, share=way.share), evaluate=evaluation, evaluate_every=EVERY, progress=False,
    )  # fmt: skip
    for step, metric, value in online.rows:
        history.add(step, {metric: value})
    return after, history


def _built(entry: tuple[type[Agent], AgentConfig], data: OfflineDataset, seed: int) -> Agent:
    """A new agent that sees observations as the log's normalizer does, one trained online alone as well."""
    agent_class, config = entry
    return agent_class(data.observation_space, data.action_space, config, normalizer=data.normalizer(), seed=seed)


def fine_tuning_run(route: str, seed: int, *, updates: int | None = None, steps: int | None = None) -> dict[str, float]:
    """One way from the log to the world, judged exactly.

    Args and errors: as :func:`fine_tuning_training`.

    Returns:
        ``start``, ``lowest`` and ``last``: shares of the policy that acts, before the first online step, at its lowest
        and after the last; ``lost`` and ``dip``, mean gap to the optimum and to the start; ``greedy``, the share of the
        last greedy policy; and ``share_0``, ``share_250``, …, points of the curve.
    """
    agent, history = fine_tuning_training(route, seed, updates=updates, steps=steps)
    curve = history.series("share")
    time, shares = curve.index.to_numpy(), curve.to_numpy()
    result = {
        "start": shares[0], "lowest": shares.min(), "last": shares[-1], "lost": float(lost_area(time, shares)),
        "dip": float(dip_area(time, shares)), "greedy": greedy_evaluation()(agent)["share"],
    }  # fmt: skip
    length = STEPS if steps is None else steps
    at = np.linspace(0, length, POINTS).round().astype(int)
    return result | {f"share_{step}": float(share) for step, share in zip(at, np.interp(at, time, shares))}


def fine_tuning_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Intervals over seeds, one row per route."""
    return interval_table(runs, ["route"], ["start", "lowest", "last", "lost", "dip", "greedy"])


def gain_table(runs: pd.DataFrame) -> pd.DataFrame:
    """How much less every route loses than learning online alone and than not learning online, seed by seed."""
    lost = runs.pivot(index="seed", columns="route", values="lost")
    rows = []
    for route in lost:
        row: dict[str, Any] = {"route": route, "seeds": len(lost)}
        for other in ("online only", "offline only"):
            name = other.replace(" ", "_")
            gain = iqm_interval((lost[other] - lost[route]).to_numpy())
            row |= {f"over_{name}_iqm": gain.estimate, f"over_{name}_low": gain.low, f"over_{name}_high": gain.high}
        rows.append(row)
    order = list(dict.fromkeys(runs["route"]))
    return pd.DataFrame(rows).set_index("route").loc[order].reset_index()


def curve_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Exact share of the acting policy by online step: intervals over seeds, one row per route and step."""
    columns = [name for name in runs if name.startswith("share_")]
    long = runs.melt(["route", "seed"], columns, var_name="step", value_name="share")
    long["step"] = long["step"].str.removeprefix("share_").astype(int)
    return interval_table(long, ["route", "step"], ["share"])


def fine_tuning(sweep: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """All routes: ``evaluation_fine_tuning`` with ``_gain``, ``_curves`` and ``_runs``."""
    grid: dict[str, list[Any]] = {"route": list(ROUTES)}
    if quick:
        routes = ["offline only", "online only", "CQL, then DQN", "Cal-QL, half from the log"]
        grid = {"route": routes, "updates": [600], "steps": [500]}
    runs = finished(sweep(fine_tuning_run, grid))
    name = "evaluation_fine_tuning"
    return {
        name: fine_tuning_table(runs), f"{name}_gain": gain_table(runs), f"{name}_curves": curve_table(runs),
        f"{name}_runs": runs.drop(columns="seconds"),
    }  # fmt: skip
