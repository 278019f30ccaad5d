"""Personal instances of the assignment on offline learning: a log of deliveries on a grid. Book: offline/theory.

The log is the whole problem. Moves are certain, so every recorded pair of cell and action is known exactly, and what
the log does not show ends the episode at a high price: the best policy inside the support is the exact optimum.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ca14lib.environments import TabularModel, uniform_policy
from ca14lib.environments.grid import successor_table
from ca14lib.solvers import policy_return, value_iteration

ACTIONS = 4
STEP, MUD, UNRECORDED = -0.1, -0.3, -3.0  # rewards of a step, of a step into mud, of an action the log does not show
HORIZON = 60
EPISODES, LONGEST = 60, 20
LEAST_DETOUR = 4  # steps by which every recorded way is longer than the shortest
NOISE = 0.15  # share of the recorded actions that are drawn at random
LARGEST_SHARE = 0.9  # of the optimum, for the clone and a copy of the best single episode: recombining has to pay


def draw(generator: np.random.Generator) -> dict[str, Any]:
    """A log on which the usual mistakes stay clearly under the optimum.

    They are imitation, a copy of the best single episode, Q-learning over all actions, and cut episodes that count as
    finished.

    Keys: ``width`` and ``height`` of the grid, the columns ``state``, ``action``, ``reward``, ``next_state``,
    ``terminated`` and ``truncated`` of the log, episode after episode, the cells ``start`` and ``goal``, and the
    numbers ``expectile``, ``power`` and ``min_count`` that the tasks use. The state of cell (x, y) is x · height + y.
    """
    while True:
        instance = _candidate(generator)
        if instance is not None and _asks_for_recombination(instance):
            return instance


def counts(instance: dict[str, Any]) -> NDArray[np.int64]:
    """How often the log holds each pair of state and action, ``[S, A]``."""
    count = np.zeros((instance["width"] * instance["height"], ACTIONS), dtype=np.int64)
    np.add.at(count, (instance["state"], instance["action"]), 1)
    return count


def log_model(instance: dict[str, Any]) -> TabularModel:
    """The judged problem: recorded pairs as they were recorded, every other action pays −3 and ends the episode."""
    width, height = instance["width"], instance["height"]
    states, goal = width * height, instance["goal"]
    successor = np.full((states, ACTIONS), goal)
    reward = np.full((states, ACTIONS), UNRECORDED)
    pair = (np.array(instance["state"]), np.array(instance["action"]))
    successor[pair], reward[pair] = instance["next_state"], instance["reward"]
    return TabularModel(
        transition=np.eye(states)[successor],
        reward=reward,
        terminal=np.arange(states) == goal,
        initial=np.eye(states)[instance["start"]],
        observation=np.stack(np.divmod(np.arange(states), height), axis=1).astype(np.float32),
        horizon=HORIZON,
    )


def _candidate(generator: np.random.Generator) -> dict[str, Any] | None:
    """A random grid with a random log, or None if the waypoints are out of reach or on the way."""
    width, height = (int(side) for side in generator.integers(6, 8, size=2))
    cells = generator.permutation(width * height)
    start, goal = int(generator.integers(height)), int((width - 1) * height + generator.integers(height))
    inner = [int(cell) for cell in cells if cell not in (start, goal)]
    walls, mud, waypoints = inner[:6], inner[6:12], inner[12:15]
    successor = successor_table(width, height, [divmod(wall, height) for wall in walls])
    distance = {target: _distances(successor, target) for target in (*waypoints, goal)}
    ways = [distance[cell][start] + distance[goal][cell] for cell in waypoints]
    if not np.isfinite(ways).all() or min(ways) < distance[goal][start] + LEAST_DETOUR:
        return None
    frequency = generator.dirichlet([2.0, 2.0, 2.0])
    columns: dict[str, list[Any]] = {
        name: [] for name in ("state", "action", "reward", "next_state", "terminated", "truncated")
    }
    for _ in range(EPISODES):
        target, cell = int(generator.choice(waypoints, p=frequency)), start
        for step in range(LONGEST):
            target = goal if cell == target else target
            action = _move(successor, distance[target], cell, generator)
            following = int(successor[action, cell])
            row = (
                cell,
                action,
                MUD if following in mud else STEP,
                following,
                following == goal,
                step == LONGEST - 1 and following != goal,
            )
            for name, entry in zip(columns, row):
                columns[name].append(entry)
            cell = following
            if cell == goal:
                break
    return {
        "width": width,
        "height": height,
        "start": start,
        "goal": goal,
        "expectile": float(generator.choice([0.7, 0.75, 0.8, 0.85, 0.9])),
        "power": float(generator.choice([1.5, 1.75, 2.5, 3.0])),
        "min_count": int(generator.integers(2, 5)),
        **columns,
    }


def _move(successor: NDArray[np.intp], distance: NDArray[np.float64], cell: int, generator: np.random.Generator) -> int:
    """A step along a shortest path, now and then one at random."""
    if generator.random() < NOISE:
        return int(generator.integers(ACTIONS))
    after = distance[successor[:, cell]]
    return int(generator.choice(np.flatnonzero(after == after.min())))


def _distances(successor: NDArray[np.intp], target: int) -> NDArray[np.float64]:
    """Steps from every cell to the target."""
    distance = np.full(successor.shape[1], np.inf)
    distance[target] = 0.0
    while True:
        shorter = np.minimum(distance, 1.0 + distance[successor].min(axis=0))
        if (shorter == distance).all():
            return distance
        distance = shorter


def _asks_for_recombination(instance: dict[str, Any]) -> bool:
    state, action, reward, terminated, truncated = (
        np.array(instance[name]) for name in ("state", "action", "reward", "terminated", "truncated")
    )
    model, count = log_model(instance), counts(instance)
    zero, one = policy_return(model, uniform_policy(model)), value_iteration(model).optimal_return
    clone = policy_return(model, np.eye(ACTIONS)[count.argmax(axis=1)])
    last = np.flatnonzero(terminated | truncated)
    trip_return = np.where(terminated[last], np.diff(np.cumsum(reward)[last], prepend=0.0), -np.inf)
    if not np.isfinite(trip_return).any():
        return False
    copies = []
    for best in np.flatnonzero(trip_return >= trip_return.max() - 1e-9):  # equally good trips make different copies
        trip = slice(last[best - 1] + 1 if best else 0, last[best] + 1)
        copied = np.zeros(model.num_states, dtype=np.int64)
        copied[state[trip]] = action[trip]  # the last action in every cell: without the loops of the trip
        copies.append(policy_return(model, np.eye(ACTIONS)[copied]))
    hopeful = _planned(model, reward=np.where(count > 0, model.expected_reward, 0.0))  # unseen actions keep their 0
    finished = model.transition.argmax(axis=2)
    finished[state[truncated], action[truncated]] = instance["goal"]
    largest = max(clone, *copies, hopeful, _planned(model, successor=finished))
    return largest <= zero + LARGEST_SHARE * (one - zero)


def _planned(
    model: TabularModel, *, reward: NDArray[np.float64] | None = None, successor: NDArray[np.intp] | None = None
) -> float:
    """Return in the model of a policy that was planned with other rewards or other successors."""
    believed = TabularModel(
        transition=model.transition if successor is None else np.eye(model.num_states)[successor],
        reward=model.expected_reward if reward is None else reward,
        terminal=model.terminal,
        initial=model.initial,
    )
    return policy_return(model, value_iteration(believed, 0.99).policy)
