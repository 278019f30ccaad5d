"""Personal instances of the assignment `robust`: a walk over a ravine whose wind is not known."""

from typing import Any

import numpy as np

ROWS, COLUMNS = 4, 7
MOVES = ((1, 0), (0, 1), (-1, 0), (0, -1))  # right, up, left, down; a personal order hides which number is which
MUD = 3


def draw(generator: np.random.Generator) -> dict[str, Any]:
    """One student's numbers, JSON only: ``problem`` for the policy, the others for the public checks."""
    return {
        "worst_case": _ball(generator, 6),
        "attack": _attack(generator, batch=3, features=5),
        "quantile": {
            "mass": _rounded(generator.dirichlet(np.full(5, 4.0))),
            "kappa": float(np.round(generator.uniform(0.3, 1.5), 2)),
        },
        "posterior": _candidates(generator, models=4, states=3, actions=2, steps=12),
        "calibration": {
            "fractions": sorted(n / 20 for n in generator.choice(np.arange(1, 20), 4, replace=False).tolist())
        },
        "ratio": {"clip": float(np.round(generator.uniform(0.1, 0.3), 2)), "hidden": int(generator.integers(8, 17))},
        "problem": _ravine(generator),
    }


def _rounded(shares: np.ndarray) -> list[float]:
    """A distribution with three decimals that sums to 1."""
    shares = np.round(shares, 3)
    shares[shares.argmax()] += 1.0 - shares.sum()
    return [float(share) for share in np.round(shares, 3)]


def _ball(generator: np.random.Generator, successors: int) -> dict[str, Any]:
    nominal = np.array(_rounded(generator.dirichlet(np.ones(successors))))
    cap = np.minimum(1.0, nominal + generator.uniform(0.02, 0.3, successors))
    return {
        "probabilities": nominal.tolist(),
        "values": np.round(generator.normal(0.0, 5.0, successors), 2).tolist(),
        "radius": float(np.round(generator.uniform(0.2, 0.8), 2)),
        "cap": np.round(cap, 3).tolist(),
    }


def _attack(generator: np.random.Generator, batch: int, features: int) -> dict[str, Any]:
    return {
        "perturbation": np.round(generator.normal(0.0, 0.1, (batch, features)), 3).tolist(),
        "gradient": np.round(generator.normal(0.0, 2.0, (batch, features)), 3).tolist(),
        "epsilon": float(np.round(generator.uniform(0.3, 0.6), 2)),
        "step_size": float(np.round(generator.uniform(0.1, 0.3), 2)),
    }


def _candidates(generator: np.random.Generator, models: int, states: int, actions: int, steps: int) -> dict[str, Any]:
    transition = np.array(
        [_rounded(row) for row in generator.dirichlet(np.full(states, 0.7), models * states * actions)]
    ).reshape(models, states, actions, states)
    truth, state, history = int(generator.integers(models)), 0, []
    for _ in range(steps):
        action = int(generator.integers(actions))
        following = int(generator.choice(states, p=transition[truth, state, action]))
        history.append([state, action, following])
        state = following
    return {
        "prior": _rounded(generator.dirichlet(np.full(models, 5.0))),
        "transition": transition.tolist(),
        "history": history,
        "memory": float(np.round(generator.uniform(0.8, 0.98), 2)),
        "contamination": float(np.round(generator.uniform(0.02, 0.1), 2)),
    }


def _ravine(generator: np.random.Generator) -> dict[str, Any]:
    """A grid with a ravine in its lowest row: what nature may do with each row of the model, and what is paid.

    Beside the ravine gusts may be so strong that the ball is what stops nature, further up the caps stop it first: who
    forgets either plans another walk.
    """
    cells = [(x, y) for y in range(ROWS) for x in range(COLUMNS)]
    mirrored = bool(generator.integers(2))
    start, goal = ((COLUMNS - 1, 0), (0, 0)) if mirrored else ((0, 0), (COLUMNS - 1, 0))
    ravine = [(x, 0) for x in range(1, COLUMNS - 1)]
    moves = [MOVES[index] for index in generator.permutation(len(MOVES))]
    wind, slip = np.round(generator.uniform(0.01, 0.02), 3), np.round(generator.uniform(0.02, 0.06), 3)
    exposed, sheltered = np.round(generator.uniform(0.75, 0.85), 3), np.round(generator.uniform(0.1, 0.14), 3)
    stuck = np.round(generator.uniform(0.1, 0.15), 3)
    transition = np.zeros((len(cells), len(moves), len(cells)))
    cap = np.zeros_like(transition)
    for index, (x, y) in enumerate(cells):
        below, gust = cells.index((x, max(y - 1, 0))), exposed if y <= 1 else sheltered
        for action, (right, up) in enumerate(moves):
            aim = (min(max(x + right, 0), COLUMNS - 1), min(max(y + up, 0), ROWS - 1))
            outcomes = ((cells.index(aim), 1 - wind - slip, 1.0), (below, wind, gust), (index, slip, stuck))
            for target, share, most in outcomes:
                transition[index, action, target] += share
                cap[index, action, target] = min(1.0, cap[index, action, target] + most)
    step = np.full(len(cells), -1.0)
    free = [cells.index((x, y)) for y in range(2, ROWS) for x in range(1, COLUMNS - 1)]
    step[generator.choice(free, MUD, replace=False)] = -2.0
    entry = np.zeros(len(cells))
    entry[[cells.index(cell) for cell in ravine]] = -np.round(generator.uniform(12.0, 15.0), 1)
    entry[cells.index(goal)] = np.round(generator.uniform(8.0, 12.0), 1)
    initial = np.zeros(len(cells))
    initial[cells.index(start)] = 1.0
    return {
        "transition": np.round(transition, 6).tolist(),
        "cap": np.round(cap, 6).tolist(),
        "radius": float(np.round(generator.uniform(0.3, 0.36), 2)),
        "step": step.tolist(),
        "entry": entry.tolist(),
        "terminal": [cell in ravine or cell == goal for cell in cells],
        "initial": initial.tolist(),
        "observation": [[x / (COLUMNS - 1), y / (ROWS - 1)] for x, y in cells],
        "discount": 0.97,
    }
