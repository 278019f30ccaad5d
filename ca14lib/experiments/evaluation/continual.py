"""One agent through a sequence of goals: what it keeps, what it cannot keep, what helps. Book: evaluation/continual.

Four goals in the corners of a GridWorld, the start in the middle, a limit of 20 steps. With a cue the agent sees which
goal counts; without one no policy can serve all four, and the best one that there is is known exactly.
"""

from dataclasses import dataclass, replace
from functools import cache

import gymnasium as gym
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.agents.hybrid.continual import ContinualDQN, ContinualDQNConfig
from ca14lib.environments import GridWorldVector, TabularModel
from ca14lib.environments.grid import DOWN, LEFT, RIGHT, UP
from ca14lib.evaluation.exact import ExactEvaluation
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.continual import average_share, backward_transfer, forgetting, forward_transfer
from ca14lib.metrics.intervals import interval_table
from ca14lib.metrics.shares import share_of_range
from ca14lib.solvers import value_iteration
from ca14lib.solvers.uncertain import bayesian_constrained_plan
from ca14lib.training.continual import train_continual
from ca14lib.training.history import History

SIZE, LIMIT = 5, 20  # cells a side, steps of an episode
GOALS = ((0, 0), (0, 4), (4, 4), (4, 0))
START = (2, 2)
PASSES, STEPS, EVERY = 2, 4_800, 1_200  # through the tasks, steps of a stage, and between exact evaluations
COPIES, BATCH, MEMORY = 16, 64, 1_000


@dataclass(frozen=True)
class Method:
    """A way through the tasks: weights of penalty and cloning, capacity of the memory, and who is trained on what.

    ``plan`` is ``"sequence"``, ``"joint"`` (all tasks at once, as many steps in all) or ``"separate"`` (a network for
    each task).
    """

    penalty_weight: float = 0.0
    clone_weight: float = 0.0
    memory: int = 0
    plan: str = "sequence"


# settings were chosen with seeds from 100 on; the tables report seeds 0, 1, …
METHODS: dict[str, Method] = {
    "fine-tuning": Method(),
    "replay": Method(memory=MEMORY),
    "replay and cloning": Method(memory=MEMORY, clone_weight=1.0),
    "EWC": Method(penalty_weight=10.0),
    "joint": Method(plan="joint"),
    "one network each": Method(plan="separate"),
}


@cache
def goal_models(cue: bool) -> list[TabularModel]:
    """The exact models of all goals, over 25 cells and a last state, the end of the episode.

    The agent sees its cell, scaled to [−1, 1], and with a cue the goal as a one-hot vector behind it.
    """
    grid = GridWorldVector(1, size=SIZE)
    moves, cells = grid.tabular_model().transition.copy(), SIZE**2
    corner = grid.cell_index((SIZE - 1, SIZE - 1))
    for action, way in enumerate([(0, 1), (0, -1), (-1, 0), (1, 0)]):  # the grid's own goal is a cell like the others
        x, y = np.clip(np.array([SIZE - 1, SIZE - 1]) + way, 0, SIZE - 1)
        moves[corner, action] = np.eye(cells)[grid.cell_index((int(x), int(y)))]
    place = np.stack(np.divmod(np.arange(cells), SIZE), axis=1) / (SIZE - 1) * 2 - 1
    models = []
    for number, goal in enumerate(GOALS):
        arrives = moves[:, :, grid.cell_index(goal)]
        transition = np.zeros((cells + 1, 4, cells + 1))
        transition[:cells, :, :cells], transition[:cells, :, cells] = moves, arrives
        transition[:cells, :, grid.cell_index(goal)] = 0.0
        transition[cells, :, cells] = 1.0
        shown = np.tile(np.eye(len(GOALS))[number], (cells + 1, 1))
        seen = np.vstack([place, np.zeros(2)])
        models.append(TabularModel(
            transition=transition,
            reward=np.vstack([np.where(arrives > 0, 1.0, -0.1), np.zeros(4)]),
            terminal=np.arange(cells + 1) == cells,
            initial=np.eye(cells + 1)[grid.cell_index(START)],
            observation=np.column_stack([seen, shown] if cue else [seen]).astype(np.float32),
        ))  # fmt: skip
    return models


@cache
def goal_evaluations() -> list[ExactEvaluation]:
    """For every goal the exact share of the optimum over 20 steps: uniform is 0, the shortest way 1."""
    return [ExactEvaluation(model, horizon=LIMIT) for model in goal_models(False)]


def goal_shares(tables: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Shares ``[M]`` of one policy table for every goal."""
    return np.array([evaluation.of_policy(table)["share"] for evaluation, table in zip(goal_evaluations(), tables)])


@cache
def best_single_share() -> float:
    """The largest average share of any policy that is not told the goal, policies with memory included.

    All goals have the same range of returns, so the largest average return is the largest average share.
    """
    free = np.zeros((1, SIZE**2 + 1, 4))  # the programme wants a cost: one of nothing, without a limit
    models = [replace(model, horizon=LIMIT, cost=free) for model in goal_models(False)]
    plan = bayesian_constrained_plan(models, np.inf)
    # the same range for all: the share of the mean return is the mean share
    evaluation = goal_evaluations()[0]
    assert evaluation.optimum is not None
    assert evaluation.reference is not None
    return share_of_range(float(plan.returns.mean()), evaluation.reference, evaluation.optimum)


def tour_policy() -> NDArray[np.float64]:
    """One policy ``[S, A]`` that needs no memory: by way of the lower left corner along the edge through all others."""
    x, y = np.divmod(np.arange(SIZE**2 + 1), SIZE)
    last = SIZE - 1
    conditions = [(x == 0) & (y < last), (y == last) & (x < last), (x == last) & (y > 0), y > 0]
    action = np.select(conditions, [UP, RIGHT, DOWN, DOWN], LEFT)
    return np.eye(4)[action]


def continual_agent(method: str, cue: bool, seed: int) -> ContinualDQN:
    """A new agent for a method of ``METHODS``."""
    way = METHODS[method]
    config = ContinualDQNConfig(
        hidden_sizes=(64, 64), learning_rate=1e-3, discount=0.95, target_rate=0.05, exploration=0.5,
        penalty_weight=way.penalty_weight, clone_weight=way.clone_weight,
    )  # fmt: skip
    space = gym.spaces.Box(-1.0, 1.0, (2 + len(GOALS) * cue,), np.float32)
    return ContinualDQN(space, gym.spaces.Discrete(4), config, seed=seed)


def continual_training(
    method: str, cue: bool, seed: int, *, passes: int | None = None, steps: int | None = None
) -> History:
    """Exact shares on every goal by step: ``share_0``, ``share_1``, …

    Args:
        method: Key of ``METHODS``.
        cue: Whether the agent sees which goal counts.
        seed: Of networks, environments and batches.
        passes: Through the goals; None for ``PASSES``.
        steps: Of a stage; None for ``STEPS``.
    """
    models, way = goal_models(cue), METHODS[method]
    steps, order = STEPS if steps is None else steps, task_order(passes)
    every = range(len(models))

    def shares(agent: ContinualDQN) -> dict[str, float]:
        found = goal_shares([agent.policy_table(model) for model in models])
        return {f"share_{task}": float(found[task]) for task in every}

    def trained(stages: list[list[int]], number: int) -> History:
        return train_continual(
            continual_agent(method, cue, seed * 10 + number), models, stages, steps=steps, time_limit=LIMIT,
            num_envs=COPIES, batch_size=BATCH, memory=way.memory, seed=seed * 10 + number, evaluate=shares,
            evaluate_every=min(EVERY, steps), progress=False,
        )  # fmt: skip

    if way.plan == "joint":
        return trained([list(every)] * len(order), 0)
    if way.plan == "sequence":
        return trained([[task] for task in order], 0)
    # one network each: a goal's share stands still while the others are trained
    history, parts = History(), [trained([[task]] * order.count(task), task) for task in every]
    spent = dict.fromkeys(every, 0)
    for stage, task in enumerate([None, *order]):
        if task is not None:
            spent[task] += steps
        known = {f"share_{other}": parts[other].series(f"share_{other}").loc[spent[other]] for other in every}
        history.add(stage * steps, {name: float(value) for name, value in known.items()})
    return history


def task_order(passes: int | None = None) -> list[int]:
    """The goal of every stage."""
    return list(range(len(GOALS))) * (PASSES if passes is None else passes)


def share_matrix(history: History, stages: int) -> NDArray[np.float64]:
    """Shares ``[1 + E, M]``: before training, and after every stage."""
    columns = [history.series(f"share_{task}") for task in range(len(GOALS))]
    last = int(columns[0].index.max())
    return np.stack([column.loc[[last * stage // stages for stage in range(stages + 1)]] for column in columns], axis=1)


def continual_run(
    method: str, cue: bool, seed: int, *, passes: int | None = None, steps: int | None = None
) -> dict[str, float]:
    """A way through the goals, judged exactly.

    Args and errors: as :func:`continual_training`.

    Returns:
        ``average`` (final share over goals), ``missing`` (its distance to the best single policy without a cue, to 1
        with one), ``first_pass`` (average after the first pass), ``learned`` (share on a goal right after its stage, on
        average), ``forgetting``, ``backward``, ``forward``, all of the whole sequence, ``forgetting_first`` of the
        first pass, and ``after_E_on_M``, the matrix.
    """
    order = task_order(passes)
    matrix = share_matrix(continual_training(method, cue, seed, passes=passes, steps=steps), len(order))
    start, shares, tasks = matrix[0], matrix[1:], len(GOALS)
    attainable = 1.0 if cue or METHODS[method].plan == "separate" else best_single_share()
    result = {
        "average": average_share(shares), "missing": attainable - average_share(shares),
        "first_pass": average_share(shares[:tasks]),
        "learned": float(np.mean([shares[stage, task] for stage, task in enumerate(order)])),
        "forgetting": forgetting(shares, order), "forgetting_first": forgetting(shares[:tasks], order[:tasks]),
        "backward": backward_transfer(shares, order), "forward": forward_transfer(shares, order, start),
    }  # fmt: skip
    cells = {f"after_{stage}_on_{task}": matrix[stage, task] for stage in range(len(matrix)) for task in range(tasks)}
    return result | {name: float(value) for name, value in cells.items()}


COLUMNS = ["average", "missing", "first_pass", "learned", "forgetting_first", "forgetting", "backward", "forward"]


def continual_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Intervals over seeds, one row per cue and method."""
    return interval_table(runs, ["cue", "method"], COLUMNS)


def matrix_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Share on every goal after every stage of the first pass: one row per cue, method, stage and goal."""
    columns = [name for name in runs if name.startswith("after_")]
    long = runs.melt(["cue", "method", "seed"], columns, var_name="cell", value_name="share")
    place = long["cell"].str.extract(r"after_(\d+)_on_(\d+)").astype(int)
    long["stage"], long["goal"] = place[0], place[1]
    first = long[long["stage"].between(1, len(GOALS))]
    return interval_table(first, ["cue", "method", "stage", "goal"], ["share"])


def yardstick_table() -> pd.DataFrame:
    """Exact average shares of single policies without a cue: the best of all, the tour, and the way to one goal."""
    best = value_iteration(goal_models(False)[0], horizon=LIMIT).policy[0]
    tables = {"the tour along the edge": tour_policy(), "the shortest way to one goal": best}
    rows = [{"policy": "best of all, with memory", "average": best_single_share()}]
    rows += [{"policy": n, "average": float(goal_shares([table] * len(GOALS)).mean())} for n, table in tables.items()]
    return pd.DataFrame(rows)


def continual(sweep: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """All methods with and without a cue: ``evaluation_continual`` with ``_matrix``, ``_yardsticks`` and ``_runs``."""
    methods = ["fine-tuning", "replay", "EWC"] if quick else list(METHODS)
    shorter: dict[str, list] = {"passes": [1], "steps": [1_200]} if quick else {}
    # a network for each goal needs no cue
    one = [method for method in methods if METHODS[method].plan != "separate"]
    sweeps = [sweep(_run, {"cue": ["yes"], "method": methods} | shorter)]
    sweeps += [sweep(_run, {"cue": ["no"], "method": one} | shorter)]
    runs = finished(pd.concat(sweeps, ignore_index=True))
    name = "evaluation_continual"
    return {
        name: continual_table(runs), f"{name}_matrix": matrix_table(runs), f"{name}_yardsticks": yardstick_table(),
        f"{name}_runs": runs.drop(columns=["seconds", *(c for c in runs if c.startswith("after_"))]),
    }  # fmt: skip


def _run(method: str, cue: str, seed: int, *, passes: int | None = None, steps: int | None = None) -> dict[str, float]:
    return continual_run(method, cue == "yes", seed, passes=passes, steps=steps)
