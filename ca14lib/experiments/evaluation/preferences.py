"""Learning from comparisons, judged exactly: what answers tell, what they cannot, and what happens to a plan on them.

Book: evaluation/preferences. A 6 × 6 grid in which every cell has a reward of its own, normal with mean 0; the learner
sees pairs of five steps of a uniform walk, and which of the two a judge prefers.
"""

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.agents.hybrid.preferences import (
    PreferenceConfig,
    PreferenceLearner,
    policy_distance,
    preference_probability,
    regularised_policy,
    reward_error,
)
from ca14lib.environments import GridWorldVector, TabularModel, uniform_policy
from ca14lib.environments.grid import successor_table
from ca14lib.evaluation.exact import ExactEvaluation
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.solvers import value_iteration

Array = NDArray[np.float64]

SIZE, HORIZON, START = 6, 20, (2, 2)
SEGMENT = 5  # steps
SPREAD = 0.5  # standard deviation of the cells' rewards
PRIOR = 1 / SPREAD**2  # the ridge that knows it
WORLDS = 16  # drawn for every seed: their mean is what a run reports
COMPARISONS = (10, 30, 100, 300, 1_000)
PATH_AT = 100  # comparisons
TEMPERATURES = (100.0, 3.0, 1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02)
SHIFTS = (-1.0, -0.1, 0.0, 0.09, 0.11, 0.5)

RIDGES = {"weak ridge": 0.02, "prior as ridge": PRIOR}
JUDGES = {"sure": (4.0, 0.0), "unsure": (1.0, 0.0), "one answer in five a coin's": (4.0, 0.2)}


@cache
def cells() -> NDArray[np.intp]:
    """The cell that every move enters, ``[S, A]``."""
    return successor_table(SIZE, SIZE).T


def world(seed: int, number: int = 0) -> tuple[TabularModel, Array]:
    """A grid whose cells have rewards, and these rewards ``[F]``."""
    reward = np.random.default_rng([seed, number, 0]).normal(0.0, SPREAD, SIZE**2)
    transition = np.eye(SIZE**2)[cells()]
    model = TabularModel(
        transition, reward[cells()], initial=np.eye(SIZE**2)[START[0] * SIZE + START[1]], horizon=HORIZON
    )
    return model, reward


def segments(model: TabularModel, count: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """States and actions ``[count, 5]`` of pieces of uniform walks, each from a walk of its own, at a uniform time."""
    draws = np.random.default_rng(seed)
    states, actions = np.zeros((count, HORIZON), np.intp), draws.integers(0, 4, (count, HORIZON))
    state = draws.choice(model.num_states, count, p=model.initial)
    for step in range(HORIZON):
        states[:, step] = state
        state = cells()[state, actions[:, step]]
    rows, first = np.arange(count)[:, None], draws.integers(0, HORIZON - SEGMENT + 1, count)[:, None]
    window = first + np.arange(SEGMENT)
    return states[rows, window], actions[rows, window]


def visits(states: NDArray[np.intp], actions: NDArray[np.intp]) -> Array:
    """How many times every segment enters every cell, ``[C, F]``."""
    return np.eye(SIZE**2)[cells()[states, actions]].sum(axis=1)


def answers(difference: Array, reward: Array, judge: str, generator: np.random.Generator) -> Array:
    """What a judge of ``JUDGES`` says, ``[C]``: 1 where the first segment is preferred."""
    beta, error = JUDGES[judge]
    return (generator.random(len(difference)) < preference_probability(difference @ reward, beta, error)).astype(float)


def compared(
    seed: int, number: int, count: int, judge: str, ridge: float
) -> tuple[TabularModel, Array, PreferenceLearner, dict[str, NDArray[Any]]]:
    """A world, its rewards, what was learned from comparisons in it, and the comparisons themselves."""
    model, reward = world(seed, number)
    states, actions = segments(model, 2 * count, seed * 1_000 + number)
    seen = visits(states, actions)
    first, second = seen[:count], seen[count:]
    preferred = answers(first - second, reward, judge, np.random.default_rng([seed, number, 1]))
    beta, error = JUDGES[judge]
    config = PreferenceConfig(inverse_temperature=beta, error_rate=error, ridge=ridge)
    learner = PreferenceLearner(model, cells(), config, seed=seed).fit(first, second, preferred)
    data = {"states": states, "actions": actions, "first": first, "second": second, "preferred": preferred}
    return model, reward, learner, data


def planned(learner: PreferenceLearner, reward: Array) -> Array:
    """The best policy ``[H, S, A]`` for a learnt reward."""
    return value_iteration(learner.problem(reward)).policy


def win_rates(data: dict[str, NDArray[Any]]) -> Array:
    """The baseline without a model of the judge: comparisons won minus lost per visit of a cell, ``[F]``."""
    sign = 2 * data["preferred"] - 1
    total = (data["first"] + data["second"]).sum(axis=0)
    return ((data["first"] - data["second"]) * sign[:, None]).sum(axis=0) / np.maximum(total, 1)


def cloned(data: dict[str, NDArray[Any]]) -> Array:
    """The baseline without a reward: the actions of preferred segments by their frequency, ``[S, A]``."""
    count = len(data["preferred"])
    chosen = np.where(data["preferred"] == 1, np.arange(count), np.arange(count) + count)
    table = np.full((SIZE**2, 4), 1e-9)
    np.add.at(table, (data["states"][chosen].ravel(), data["actions"][chosen].ravel()), 1.0)
    return table / table.sum(axis=1, keepdims=True)


def regressed(data: dict[str, NDArray[Any]], reward: Array) -> Array:
    """The yardstick that is told what every segment earned, without noise: ridge regression, ``[F]``."""
    seen = np.concatenate([data["first"], data["second"]])
    return np.linalg.solve(seen.T @ seen + 1e-6 * np.eye(SIZE**2), seen.T @ (seen @ reward))


def preferences_run(
    comparisons: int, judge: str, ridge: str, seed: int, *, worlds: int | None = None
) -> dict[str, float]:
    """Exact shares of what is planned on comparisons, averaged over worlds.

    Args:
        comparisons: Their number.
        judge: Key of ``JUDGES``.
        ridge: Key of ``RIDGES``.
        seed: Of worlds, walks, answers and resamples.
        worlds: Their number; None for ``WORLDS``.
    Returns:
        Shares ``point``, ``mean``, ``pessimistic``, ``win_rates``, ``cloned``, ``regressed``; ``reward_error`` of the
        point estimate up to the shift, weighted by the uniform walk; ``promised``, what the learnt reward promises for
        its own plan as a share; ``peak``, the best share along the path of temperatures, and ``excess``, what is lost
        from there to the greedy end; and along the path ``distance_i``, ``true_i`` and ``proxy_i``.
    """
    rows = [_world_run(comparisons, judge, RIDGES[ridge], seed, number) for number in range(worlds or WORLDS)]
    result = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    path = [result[f"true_{index}"] for index in range(len(TEMPERATURES))]
    return result | {"peak": max(path), "excess": max(path) - path[-1]}


def _world_run(comparisons: int, judge: str, ridge: float, seed: int, number: int) -> dict[str, float]:
    model, reward, learner, data = compared(seed, number, comparisons, judge, ridge)
    evaluation, estimates = ExactEvaluation(model), learner.estimates()
    rewards = estimates | {"win_rates": win_rates(data), "regressed": regressed(data, reward)}
    result = {name: evaluation.of_policy(planned(learner, table))["share"] for name, table in rewards.items()}
    result["cloned"] = evaluation.of_policy(cloned(data))["share"]
    result["reward_error"] = reward_error(estimates["point"], reward, walk_weights())
    believed = ExactEvaluation(learner.problem(estimates["point"]))
    result["promised"] = width(believed) / width(evaluation)
    uniform = uniform_policy(model)
    for index, temperature in enumerate(TEMPERATURES):
        scaled = temperature * width(believed) / HORIZON  # the same in every world
        policy = regularised_policy(believed.model, uniform, scaled)
        result |= {
            f"distance_{index}": policy_distance(model, policy, uniform),
            f"true_{index}": evaluation.of_policy(policy)["share"],
            f"proxy_{index}": believed.of_policy(policy)["share"],
        }
    return result


def width(evaluation: ExactEvaluation) -> float:
    """From the uniform walk's return to the optimum."""
    assert evaluation.optimum is not None
    assert evaluation.reference is not None
    return evaluation.optimum - evaluation.reference


@cache
def walk_weights() -> Array:
    """How often the uniform walk enters every cell, ``[F]``, exactly."""
    model = world(0)[0]
    state, weight = model.initial.copy(), np.zeros(SIZE**2)
    for _ in range(HORIZON):
        state = np.einsum("i,ijk->k", state / 4, model.transition)
        weight += state
    return weight / weight.sum()


SCORES = [
    "point",
    "mean",
    "pessimistic",
    "win_rates",
    "cloned",
    "regressed",
    "reward_error",
    "promised",
    "peak",
    "excess",
]


def preferences_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Intervals over seeds, one row per judge, ridge and number of comparisons."""
    return interval_table(runs, ["judge", "ridge", "comparisons"], SCORES)


def path_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Distance from the walk, share under the learnt and the true reward along the path, after ``PATH_AT`` answers."""
    runs, rows = runs[runs["comparisons"] == PATH_AT], []
    for index, temperature in enumerate(TEMPERATURES):
        names = {f"{name}_{index}": name for name in ("distance", "proxy", "true")}
        rows.append(runs[["judge", "ridge", "comparisons", "seed", *names]].rename(columns=names))
        rows[-1]["temperature"] = temperature
    by = ["judge", "ridge", "comparisons", "temperature"]
    table = interval_table(pd.concat(rows), by, ["distance", "proxy", "true"])
    return table.sort_values(by[:3], kind="stable", ignore_index=True)


def shift_table() -> pd.DataFrame:
    """A GridWorld whose reward is learned up to a shift: what is planned on it, exactly.

    Segments of equal length have the same differences under every shift, so no comparison tells them apart; episodes
    that end at a goal have not.
    """
    model = GridWorldVector(1).tabular_model()
    evaluation = ExactEvaluation(model, horizon=50)
    rows = []
    for shift in SHIFTS:
        shifted = replace(model, reward=model.reward + shift)
        policy = value_iteration(shifted, horizon=50).policy
        rows.append({"shift": shift} | evaluation.of_policy(policy))
    return pd.DataFrame(rows)


def preferences(sweep: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """All judges, ridges and numbers: ``evaluation_preferences`` with ``_path``, ``_shift`` and ``_runs``."""
    grid: dict[str, list[Any]] = {
        "judge": list(JUDGES), "ridge": list(RIDGES), "comparisons": list(COMPARISONS),
    }  # fmt: skip
    if quick:
        grid |= {"judge": ["unsure"], "comparisons": [10, 100], "worlds": [2]}
    runs = finished(sweep(preferences_run, grid))
    name = "evaluation_preferences"
    path = [column for column in runs if column.rsplit("_", 1)[0] in ("distance", "true", "proxy")]
    return {
        name: preferences_table(runs), f"{name}_path": path_table(runs), f"{name}_shift": shift_table(),
        f"{name}_runs": runs.drop(columns=["seconds", *path]),
    }  # fmt: skip
