"""Offline agents on logged motorway driving (highway-env, Leurent, 2018). Book: offline/applications."""

from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.agents.offline.bc import DiscreteBC, DiscreteBCConfig
from ca14lib.agents.offline.bcq import DiscreteBCQ, DiscreteBCQConfig
from ca14lib.agents.offline.cql import DiscreteCQL, DiscreteCQLConfig
from ca14lib.agents.offline.iql import DiscreteIQL, DiscreteIQLConfig
from ca14lib.data import OfflineDataset
from ca14lib.experiments.offline.comparison import Entry, build
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.training.collect import Policy, collect
from ca14lib.training.offline import train_offline

ENVIRONMENT = "highway-fast-v0"
CONFIGURATION = {"vehicles_count": 12, "duration": 20}  # other cars; seconds, of one decision each
LOGGED_EPISODES, EVALUATION_EPISODES, UPDATES = 300, 25, 3_000
LANE_CHANGES = 0.1  # share of the logged decisions that are lane changes without looking

LEFT, KEEP, RIGHT, FASTER, SLOWER = range(5)
METRES = np.array([200.0, 12.0])  # what the observed positions are divided by: along the road and across three lanes
METRES_PER_SECOND = 80.0

_SETTINGS: dict[str, Any] = {"hidden_sizes": (128, 128), "learning_rate": 5e-4}
DRIVING_AGENTS: dict[str, Entry] = {
    "DiscreteBC": Entry(DiscreteBC, DiscreteBCConfig(**_SETTINGS), UPDATES),
    "DiscreteBCQ": Entry(DiscreteBCQ, DiscreteBCQConfig(**_SETTINGS, discount=0.95), UPDATES),
    "DiscreteCQL": Entry(DiscreteCQL, DiscreteCQLConfig(**_SETTINGS, discount=0.95), UPDATES),
    "DiscreteIQL": Entry(DiscreteIQL, DiscreteIQLConfig(**_SETTINGS, discount=0.95, temperature=10.0), UPDATES),
}


def driving_environment() -> gym.Env:
    """Three lanes of slower traffic, one decision a second, at most 20; an episode ends early with a crash.

    Observations ``[5, 5]`` are the own car and the four nearest, each with presence, position and speed, those of
    others relative to the own. Actions are lane left, keep, lane right, faster, slower. A second pays up to 1: more at
    30 m/s than at 20, more on the right lane, nothing for a crash.

    Raises:
        ImportError: If highway-env is not installed, with the command that installs it.
    """
    try:
        import highway_env  # noqa: F401, registers the environment
    except ImportError as error:
        raise ImportError(
            "the driving experiment needs highway-env: pip install 'ca14lib[applications]' or pip install highway-env"
        ) from error
    return gym.make(ENVIRONMENT, config=CONFIGURATION)


def rule_driver(observation: NDArray) -> NDArray[np.int64]:
    """A cautious driver: overtake where the next lane is free, brake where it is not, accelerate on a free road.

    Args:
        observation: ``[N, 5, 5]``.
    Returns:
        Actions ``[N]``.
    """
    along, across = (observation[:, 1:, 1:3] * METRES).transpose(2, 0, 1)
    closing = -observation[:, 1:, 3] * METRES_PER_SECOND
    there = observation[:, 1:, 0] > 0.5
    own = abs(across) < 2
    ahead = there & (along > 0)
    # seconds until the car ahead is reached at the present speeds, beyond five metres for its length
    reached = np.where(ahead & own, (along - 5) / np.maximum(closing, 1e-3), np.inf).min(axis=1)
    near = np.where(ahead & own, along, np.inf).min(axis=1)
    blocked = (near < 15) | (reached < 4)
    lane = np.rint(observation[:, 0, 2] * METRES[1] / 4)  # 0 is the leftmost

    def free(side: int) -> NDArray[np.bool_]:
        beside = there & (abs(across - 4 * side) < 2) & (along > -15) & (along < 25)
        return ~beside.any(axis=1) & (lane + side >= 0) & (lane + side <= 2)

    open_road = (near > 40) & (reached > 8)
    choices = [blocked & free(-1), blocked & free(1), blocked, open_road]
    return np.select(choices, [LEFT, RIGHT, SLOWER, FASTER], KEEP)


class LoggedDriver:
    """The rule driver that in one decision of ten changes lane at random, without looking.

    Args:
        seed: Fixes when and to which side.
        share: Probability of a random lane change.
    """

    def __init__(self, seed: int, share: float = LANE_CHANGES) -> None:
        if not 0 <= share <= 1:
            raise ValueError(f"share must lie in [0, 1], got {share}")
        self._generator, self.share = np.random.default_rng([seed, 1]), share

    def __call__(self, observation: NDArray) -> NDArray[np.int64]:
        side = self._generator.choice([LEFT, RIGHT], size=len(observation))
        careless = self._generator.random(len(observation)) < self.share
        return np.where(careless, side, rule_driver(observation))


def log_driving(episodes: int, seed: int) -> OfflineDataset:
    """Episodes of the logged driver."""
    return collect(driving_environment(), LoggedDriver(seed), episodes, seed)


def driving_scores(policy: Policy, episodes: int, seed: int) -> dict[str, float]:
    """What a policy does on fresh episodes.

    Args:
        policy: As for :func:`ca14lib.training.collect`.
        episodes: Number of episodes.
        seed: Fixes the traffic, apart from that of any log.
    Returns:
        ``return`` (mean, undiscounted), ``collisions`` (share of the episodes that end in one), ``speed`` (mean over
        all seconds, in m/s), ``lane_changes`` (share of the decisions).
    """
    data = collect(driving_environment(), policy, episodes, 1_000_000 + seed)
    rows = data.transitions
    return {
        "return": float(data.episode_returns().mean()),
        "collisions": float(rows.terminated.sum()) / episodes,
        "speed": float(rows.observation[:, 0, 3].mean()) * METRES_PER_SECOND,
        "lane_changes": float(((rows.action == LEFT) | (rows.action == RIGHT)).float().mean()),
    }


def driving_run(
    seed: int,
    *,
    episodes: int = LOGGED_EPISODES,
    evaluation_episodes: int = EVALUATION_EPISODES,
    updates: int = UPDATES,
) -> list[dict[str, Any]]:
    """One log, every agent trained on it, and all evaluated in the same fresh traffic.

    Args:
        seed: Seeds the log, the agents and their training.
        episodes: Size of the log.
        evaluation_episodes: Fresh episodes for each policy.
        updates: Length of the training of each agent.
    Returns:
        A row for every agent, for ``"LoggedDriver"`` and for ``"RuleDriver"``, which never changes lane at random.
    """
    data = log_driving(episodes, seed)
    policies: dict[str, Policy] = {"LoggedDriver": LoggedDriver(seed + 1_000_000), "RuleDriver": rule_driver}
    for name, entry in DRIVING_AGENTS.items():
        agent = build(entry, data, seed)
        train_offline(agent, data, updates, batch_size=entry.batch_size, seed=seed, progress=False)
        policies[name] = partial(agent.act, deterministic=True)
    return [{"agent": name} | driving_scores(policy, evaluation_episodes, seed) for name, policy in policies.items()]


def driving_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """The table ``offline_driving``; highway-env takes most of the time, the course's table rests on five seeds."""
    grid = {"episodes": [20], "evaluation_episodes": [3], "updates": [100]} if quick else {}
    runs = finished(sweeps(driving_run, grid))
    return {"offline_driving": interval_table(runs, ["agent"], ["return", "collisions", "speed", "lane_changes"])}
