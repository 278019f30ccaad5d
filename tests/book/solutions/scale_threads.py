import time

import torch

from ca14lib.experiments.offline.gridworld import gridworld_run
from ca14lib.training import sweep


def one_after_another(runs, updates):
    """Seconds of trainings with two threads each, one after another."""
    before, start = torch.get_num_threads(), time.perf_counter()
    torch.set_num_threads(2)
    for seed in range(runs):
        gridworld_run("DiscreteCQL", "mixed", seed, episodes=300, updates=updates)
    torch.set_num_threads(before)
    return time.perf_counter() - start


def side_by_side(runs, updates):
    """Seconds of as many trainings with one thread each, two at a time."""
    start = time.perf_counter()
    grid = {"agent": ["DiscreteCQL"], "dataset": ["mixed"], "episodes": [300], "updates": [updates]}
    sweep(gridworld_run, grid, runs, jobs=2, progress=False)
    return time.perf_counter() - start
