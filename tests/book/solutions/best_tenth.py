"""Majority votes over all episodes and over the tenth with the highest return."""

import numpy as np

from ca14lib.data import OfflineDataset
from ca14lib.environments import TabularModel, behaviour_policy, tabular_model
from ca14lib.solvers import policy_return, value_iteration
from ca14lib.training import collect

GRID, SEPSIS = "CA14/GridWorld-v0", "CA14/ICUSepsis-v0"


def vote(data: OfflineDataset, model: TabularModel) -> np.ndarray:
    """The most frequent recorded action of every state, as a policy table; the first action where none is recorded."""
    counts = data.visit_counts(model)
    return np.eye(counts.shape[1])[counts.argmax(axis=1)]


def gridworld(seed: int, episodes: int = 8_000) -> dict[str, float]:
    """Length of the longest kept episode, and the returns of both votes within 50 steps."""
    model, data = tabular_model(GRID), collect(GRID, "random", episodes, seed)
    best = data.top_episodes(0.1)
    return {
        "longest kept": best.episode_lengths().max(),
        "vote of all": policy_return(model, vote(data, model), horizon=50),
        "vote of the best": policy_return(model, vote(best, model), horizon=50),
    }


def sepsis(seed: int, episodes: int = 2_000) -> dict[str, float]:
    """Share of stays that pay 1, returns of the kept ones, and the gap that both votes close."""
    model, data = tabular_model(SEPSIS), collect(SEPSIS, "clinician", episodes, seed)
    best = data.top_episodes(0.1)
    base, optimum = policy_return(model, behaviour_policy(SEPSIS, "clinician")), value_iteration(model).optimal_return
    gaps = [(policy_return(model, vote(part, model)) - base) / (optimum - base) for part in (data, best)]
    return {
        "share that pays 1": (data.episode_returns() == 1).mean(),
        "least return kept": best.episode_returns().min(),
        "vote of all": gaps[0],
        "vote of the best": gaps[1],
    }


if __name__ == "__main__":
    for seed in range(3):
        print("gridworld", {name: round(float(number), 2) for name, number in gridworld(seed).items()})
    for seed in range(3):
        print("sepsis", {name: round(float(number), 2) for name, number in sepsis(seed).items()})
