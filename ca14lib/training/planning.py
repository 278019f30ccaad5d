"""The loop of planners, which act and observe, with the exact value of every policy they followed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

from ca14lib.agents.robust.planner import Planner
from ca14lib.environments import batched_environment
from ca14lib.solvers import policy_return
from ca14lib.training.history import History
from ca14lib.training.vector import successors, vector_environment


def train_planner(
    planner: Planner,
    environment: str,
    episodes: int,
    *,
    environment_arguments: Mapping[str, Any] | None = None,
    seed: int = 0,
    log_every: int = 1,
    progress: bool = True,
) -> History:
    """Let a planner act for a number of episodes and learn from each.

    Args:
        planner: The planner, changed in place.
        environment: Gymnasium id of a finite problem of the course whose observations are its states.
        episodes: Number of episodes.
        environment_arguments: Keyword arguments of the environment.
        seed: Fixes the environment.
        log_every: Episodes between two rows of the history.
        progress: Show a progress bar.
    Returns:
        By the steps taken: ``exact_return``, the exact expected return within the horizon of the policy followed in
        the episode, and ``episode_return``, what it happened to receive.
    Raises:
        ValueError: If an argument is out of range, the spaces differ, the problem has no model, its limit on the steps
            is not the planner's horizon, or an episode without a limit lasts longer.
    """
    if episodes < 1 or log_every < 1:
        raise ValueError(f"episodes and log_every must be at least 1, got {episodes} and {log_every}")
    vector = vector_environment(environment, 1, **(environment_arguments or {}))
    for name in ("observation_space", "action_space"):
        if getattr(planner, name) != getattr(vector, f"single_{name}"):
            raise ValueError(
                f"the planner's {name} is {getattr(planner, name)}, {environment}'s {getattr(vector, f'single_{name}')}"
            )
    horizon, model = planner.config.horizon, batched_environment(vector).tabular_model()
    limits = [limit for limit in (batched_environment(vector).time_limit, model.horizon) if limit is not None]
    if min(limits, default=horizon) != horizon or not (limits or model.terminal.any()):
        raise ValueError(
            f"an episode of {environment} has {min(limits, default='any number of')} steps, the planner's horizon is "
            f"{horizon}"
        )
    history, steps = History(), 0
    values: dict[bytes, float] = {}  # a policy that comes again is not evaluated again
    observation, _ = vector.reset(seed=seed)
    planner.end_episode()
    for episode in tqdm(range(1, episodes + 1), disable=not progress, desc=type(planner).__name__, unit="episode",
                        leave=False, mininterval=0.5):  # fmt: skip
        table = planner.policy_table()
        received, ended, start = 0.0, np.zeros(1, dtype=bool), steps
        while not ended[0]:
            if steps - start == horizon:
                raise ValueError(f"an episode of {environment} lasts longer than the planner's horizon of {horizon}")
            action = planner.act(observation)
            following, reward, terminated, truncated, info = vector.step(action)
            ended = terminated | truncated
            planner.observe(
                observation=observation, action=action, reward=reward,
                next_observation=successors(following, ended, info), terminated=terminated, truncated=truncated,
            )  # fmt: skip
            observation, received, steps = following, received + float(reward[0]), steps + 1
        if episode % log_every == 0 or episode == episodes:
            key = table.tobytes()
            if key not in values:
                values[key] = policy_return(model, table, 1.0, horizon)
            history.add(steps, {"exact_return": values[key], "episode_return": received})
    vector.close()
    return history


def exact_returns(history: History) -> NDArray[np.float64]:
    """The logged exact returns of a run, in order, ``[episodes]``."""
    return history.series("exact_return").to_numpy()
