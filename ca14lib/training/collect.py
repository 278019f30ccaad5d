"""Collecting offline data with a policy, many episodes at once."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ca14lib.agents.base import Agent
from ca14lib.data import OfflineDataset
from ca14lib.environments import BatchedEnvironment, SingleEnvironment

MAX_COPIES = 4096

Policy = str | Agent | Callable[[NDArray], NDArray]
Sampler = Callable[[NDArray], tuple[NDArray, NDArray | None]]


def collect(environment: str | gym.Env, policy: Policy, episodes: int, seed: int) -> OfflineDataset:
    """Run a policy for a number of whole episodes.

    Environments of the course run in up to 4,096 copies. How many episodes each copy contributes is fixed beforehand,
    so short episodes are not over-represented; other Gymnasium environments run one episode after another.

    Args:
        environment: Environment or its Gymnasium id.
        policy: Name of a behaviour the environment offers (``"expert"``, ``"mixed"``, ``"random"``, …), an agent
            (acting stochastically), or a function from a batch of observations ``[N, …]`` to actions ``[N, …]``.
        episodes: Number of episodes, at least 1.
        seed: Fixes the environment's and the behaviour's draws.
    Raises:
        ValueError: If the id or the behaviour is unknown, or ``episodes`` is not positive.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    if isinstance(environment, str):
        if environment not in gym.registry:
            known = ", ".join(sorted(name for name in gym.registry if name.startswith("CA14/")))
            raise ValueError(f"unknown environment id {environment!r}; the course's are {known}")
        environment = gym.make(environment)
    spec = environment.unwrapped.spec
    batched = environment.unwrapped.batched if isinstance(environment.unwrapped, SingleEnvironment) else None
    draws, resets = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    sampler = _sampler(policy, batched, environment.action_space, draws)
    if batched is not None and _only_standard_wrappers(environment):
        columns = [_run_batch(batched, episodes, sampler, int(resets.integers(2**31)))]
    else:
        columns = [_run_one(environment, sampler, int(resets.integers(2**31))) for _ in range(episodes)]
    joined = {name: np.concatenate([part[name] for part in columns]) for name in columns[0]}
    return OfflineDataset(
        **joined,  # type: ignore[arg-type]
        observation_space=environment.observation_space,
        action_space=environment.action_space,
        environment_id=None if spec is None else spec.id,
        environment_arguments=None if spec is None else _arguments(spec.kwargs),
        policy=policy if isinstance(policy, str) else getattr(policy, "__name__", type(policy).__name__),
        seed=seed,
    )


def _sampler(
    policy: Policy, batched: BatchedEnvironment | None, space: gym.Space, generator: np.random.Generator
) -> Sampler:
    """The policy as a function from observations to actions and, where known, their log-probabilities."""
    if isinstance(policy, str):
        behaviours = {} if batched is None else batched.behaviours()
        if batched is None or policy not in behaviours:
            raise ValueError(f"unknown behaviour {policy!r}; this environment offers {', '.join(behaviours) or 'none'}")
        table = behaviours[policy]
        cumulative, environment = np.cumsum(table, axis=1), batched

        def draw(observation: NDArray) -> tuple[NDArray, NDArray]:
            state = environment.state_index(observation)
            # rounding may leave the last entry under 1: the last possible action takes the rest
            cut = generator.random(len(state)) * cumulative[state, -1]
            action = (cumulative[state] <= cut[:, None]).sum(axis=1)
            return action, np.log(table[state, action])

        return draw
    if isinstance(policy, Agent):
        return lambda observation: (policy.act(observation), None)
    if not callable(policy):
        raise ValueError(f"policy must be a behaviour's name, an agent or a function, got {type(policy).__name__}")

    def call(observation: NDArray) -> tuple[NDArray, None]:
        action = np.asarray(policy(observation))
        expected = (len(observation), *(space.shape or ()))
        if action.shape != expected:
            raise ValueError(f"policy must return actions of shape {expected}, got {action.shape}")
        if len(action) == 1 and not space.contains(action[0]):
            raise ValueError(f"policy must return actions in {space}, got {action[0]}")
        return action, None

    return call


def _arguments(keywords: dict[str, Any]) -> dict[str, Any]:
    """What an environment was made with, but for how it is drawn."""
    return {name: value for name, value in keywords.items() if name != "render_mode"}


def _only_standard_wrappers(environment: gym.Env) -> bool:
    """True if nothing that ``gymnasium.make`` does not add itself lies around the environment."""
    standard = (gym.wrappers.OrderEnforcing, gym.wrappers.PassiveEnvChecker)
    while isinstance(environment, gym.Wrapper):
        if not isinstance(environment, standard):
            return False
        environment = environment.env
    return True


def _run_batch(template: BatchedEnvironment, episodes: int, sampler: Sampler, seed: int) -> dict[str, NDArray]:
    """The first few episodes of every copy, copy after copy."""
    environment = template.spawn(min(MAX_COPIES, episodes))
    left = np.full(environment.num_envs, episodes // environment.num_envs)
    left[: episodes % environment.num_envs] += 1
    observation, _ = environment.reset(seed=seed)
    steps: list[dict[str, NDArray]] = []
    while left.any():
        action, log_prob = sampler(observation)
        following, reward, terminated, truncated, info = environment.step(action)
        step = {
            "observation": observation,
            "action": action,
            "reward": reward,
            "next_observation": info.get("final_obs", following),
            "terminated": terminated,
            "truncated": truncated,
            "kept": left > 0,
        }
        if "cost" in info:
            step["cost"] = np.where(
                (terminated | truncated)[:, None], info.get("final_info", info)["cost"], info["cost"]
            )
        if log_prob is not None:
            step["behaviour_log_prob"] = log_prob
        steps.append(step)
        left -= (terminated | truncated) & (left > 0)
        observation = following
    # [T, N] → episodes in a row: copies first, then time, without the steps after a copy's last episode
    kept = np.stack([step.pop("kept") for step in steps], axis=1)
    return {name: np.stack([step[name] for step in steps], axis=1)[kept] for name in steps[0]}


def _run_one(environment: gym.Env, sampler: Sampler, seed: int) -> dict[str, NDArray]:
    """One episode of any Gymnasium environment."""
    observation, _ = environment.reset(seed=seed)
    rows: list[dict[str, Any]] = []
    ended = False
    while not ended:
        action, log_prob = sampler(np.asarray(observation)[None])
        chosen = action[0].item() if np.ndim(action[0]) == 0 else action[0]
        following, reward, terminated, truncated, info = environment.step(chosen)
        row = {
            "observation": observation,
            "action": action[0],
            "reward": float(reward),
            "next_observation": following,
            "terminated": bool(terminated),
            "truncated": bool(truncated and not terminated),
        }
        if "cost" in info:
            row["cost"] = np.atleast_1d(np.asarray(info["cost"], dtype=np.float32))
        if log_prob is not None:
            row["behaviour_log_prob"] = log_prob[0]
        rows.append(row)
        observation, ended = following, bool(terminated or truncated)
    return {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}
