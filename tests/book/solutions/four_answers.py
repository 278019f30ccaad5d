"""Cloning, the best tenth, one step of improvement and the in-sample optimum on one small problem, exactly."""

import numpy as np

from ca14lib.environments import TabularModel
from ca14lib.solvers import policy_evaluation, policy_return, value_iteration

START, MIDDLE, END = 0, 1, 2
SAFE, ON = 0, 1  # in the start: be paid 0.9, or go to the middle for nothing
SURE, GAMBLE = 0, 1  # in the middle: be paid 1, or 2 with probability 0.3
PAY, CHANCE = 0.9, 0.3


def problem() -> tuple[TabularModel, np.ndarray]:
    """The model, with the gamble's mean as its reward, and the uniform behaviour."""
    transition = np.zeros((3, 2, 3))
    transition[START, ON, MIDDLE] = transition[START, SAFE, END] = 1
    transition[MIDDLE, :, END] = transition[END, :, END] = 1
    reward = np.array([[PAY, 0], [1, 2 * CHANCE], [0, 0]])
    return TabularModel(transition, reward, terminal=[False, False, True]), np.full((3, 2), 0.5)


def table(start: int, middle: int) -> np.ndarray:
    return np.eye(2)[[start, middle, 0]]


def best_tenth() -> np.ndarray:
    """Most frequent actions among the tenth of the episodes with the highest return, for unlimited data."""
    # episodes by return: gamble won (2), sure (1), safe (0.9), gamble lost (0), with these shares
    kinds = [(ON, GAMBLE, 0.25 * CHANCE), (ON, SURE, 0.25), (SAFE, None, 0.5), (ON, GAMBLE, 0.25 * (1 - CHANCE))]
    votes, left = np.zeros((3, 2)), 0.1
    for start, middle, share in kinds:
        kept = min(share, left)
        votes[START, start] += kept
        if middle is not None:
            votes[MIDDLE, middle] += kept
        left -= kept
    return np.eye(2)[votes.argmax(axis=1)]


def one_step() -> np.ndarray:
    """Greedy for the behaviour's own action values: the limit of AWR as β grows."""
    return np.eye(2)[policy_evaluation(*problem()).q.argmax(axis=1)]


def returns() -> dict[str, float]:
    model, behaviour = problem()
    return {
        "cloning (sampled)": policy_return(model, behaviour),
        "best tenth": policy_return(model, best_tenth()),
        "one step": policy_return(model, one_step()),
        "in-sample optimum": value_iteration(model).optimal_return,
    }


if __name__ == "__main__":
    for name, value in returns().items():
        print(f"{name:18} {value:.3f}")
