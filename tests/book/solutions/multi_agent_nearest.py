"""Three scripted teams on TargetGrid, from the same starts: uniform actions, everyone for itself, and a plan."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ca14lib.environments import multi_agent_environment
from ca14lib.solvers.target_grid import assigned_policy, target_grid_bound

AGENTS, TARGETS, LIMIT = 4, 3, 100
RIGHT, UP, LEFT, DOWN = 4, 1, 3, 2
Policy = Callable[[np.ndarray, dict[str, Any]], np.ndarray]


def uniform(seed: int) -> Policy:
    generator = np.random.default_rng(seed)
    return lambda observation, info: generator.integers(5, size=observation.shape[:2])


def nearest(error: float, seed: int = 0) -> Policy:
    """Every agent walks to the open target nearest to itself, first sideways; with some probability it errs."""
    generator = np.random.default_rng(seed)

    def act(observation: np.ndarray, info: dict[str, Any]) -> np.ndarray:
        start = 2 + 2 * (AGENTS - 1)
        offset = np.rint(8 * observation[..., start : start + 2 * TARGETS]).astype(int)
        offset = offset.reshape(*observation.shape[:2], TARGETS, 2)
        distance = np.abs(offset).sum(axis=-1)
        target = np.where(distance == 0, 99, distance).argmin(axis=-1)  # (0, 0) marks a collected one
        aim = np.take_along_axis(offset, target[..., None, None], axis=2)[..., 0, :]
        sideways, upwards = aim[..., 0], aim[..., 1]
        move = np.where(sideways != 0, np.where(sideways > 0, RIGHT, LEFT), np.where(upwards > 0, UP, DOWN))
        errs = generator.random(move.shape) < error
        return np.where(errs, generator.integers(5, size=move.shape), move)

    return act


def first_episodes(policy: Callable[[Any], Policy], copies: int, seed: int) -> dict[str, np.ndarray]:
    """Return, whether all was found, bound, targets and original's cooperation rate of every copy's first episode."""
    game = multi_agent_environment("TargetGrid", copies, num_agents=AGENTS, num_targets=TARGETS, time_limit=LIMIT)
    observation, info = game.reset(seed=seed)
    bound = target_grid_bound(game.agent_cells, game.target_cells)
    act, running = policy(game), np.ones(copies, dtype=bool)
    returns, finished = np.zeros(copies), np.zeros(copies, dtype=bool)
    targets, steps, counted = np.zeros((3, copies))
    for _ in range(LIMIT):
        observation, reward, terminated, truncated, info = game.step(act(observation, info))
        returns += reward.sum(axis=1) * running
        over = terminated | truncated
        last = info["final_info"]["collected"] if over.any() else info["collected"]
        targets += running * np.where(over, last, info["collected"])
        steps, counted = steps + running, counted + (running & (targets > 0))
        finished |= terminated & running
        running &= ~over
    return {
        "return": returns, "finished": finished, "bound": bound, "targets": targets, "cooperation": counted / steps,
    }  # fmt: skip


TEAMS: dict[str, Callable[[Any], Policy]] = {
    "uniform": lambda game: uniform(0),
    "nearest target": lambda game: nearest(0.0),
    "nearest target, errs in 2 of 10": lambda game: nearest(0.2),
    "assigned": assigned_policy,
}

if __name__ == "__main__":
    for name, policy in TEAMS.items():
        result = first_episodes(policy, 1_000, seed=0)
        share = result["return"].mean() / result["bound"].mean()
        print(f"{name}: return {result['return'].mean():.1f}, share of the bound {share:.2f}")
        print(f"  all found in {result['finished'].mean():.0%}, cooperation rate {result['cooperation'].mean():.2f}")
