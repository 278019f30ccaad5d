"""Collecting offline data with a policy, many episodes at once."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ca14lib.agents.base import Agent
from ca14lib.data import OfflineDataset
from ca14lib.environments import BatchedEnvironment, SingleEnvironment
from ca14lib.training.vector import step_cost, successors, vector_environment

MAX_COPIES = 4096
FOREIGN_COPIES = 16
ROUNDING = 1e-4  # by how much of the range of a Box an action may lie outside it

Policy = str | Agent | Callable[[NDArray], NDArray]
Sampler = Callable[[NDArray], tuple[NDArray, NDArray | None]]


def collect(environment: str | gym.Env, policy: Policy, episodes: int, seed: int) -> OfflineDataset:
    """Run a policy for a number of whole episodes.

    Environments of the course run in up to 4,096 copies, other Gymnasium environments given by their id in up to 16,
    stepped together. How many episodes each copy contributes is fixed beforehand, so short episodes are not
    over-represented. An instance that is not the course's own, or that carries wrappers, runs itself, one episode
    after another.

    Args:
        environment: Environment or its Gymnasium id; its actions must be ``Discrete`` or ``Box``.
        policy: Name of a behaviour, an agent (acting stochastically), or a function from a batch of observations
            ``[N, …]`` to actions ``[N, …]``. ``"random"``, uniform actions, is a behaviour of every environment whose
            actions are ``Discrete`` or a bounded ``Box``; the course's finite problems offer others.
        episodes: Number of episodes, at least 1.
        seed: Fixes the environment's and the behaviour's draws; an agent's own draws go on from where they are.
    Returns:
        The episodes. ``behaviour_log_prob`` holds logarithms of probabilities or densities: for named behaviours, and
        for agents with a method ``action_log_prob(observation, action)`` that returns them for a batch.
        Continuous actions that lie outside their ``Box`` by rounding are clipped to it before they are taken.
    Raises:
        ValueError: If the id or the behaviour is unknown, ``episodes`` is not positive, or an action has the wrong
            shape, is not finite or lies outside the action space by more than rounding.
    """
    if episodes < 1:
        raise ValueError(f"episodes must be at least 1, got {episodes}")
    given = environment
    if isinstance(environment, str):
        if environment not in gym.registry:
            known = ", ".join(sorted(name for name in gym.registry if name.startswith("CA14/")))
            raise ValueError(f"unknown environment id {environment!r}; the course's are {known}")
        environment = gym.make(environment)
    if not isinstance(environment.action_space, gym.spaces.Discrete | gym.spaces.Box):
        raise ValueError(f"collect needs Discrete or Box actions, got {environment.action_space}")
    spec = environment.unwrapped.spec
    batched = environment.unwrapped.batched if isinstance(environment.unwrapped, SingleEnvironment) else None
    draws, resets = (np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(2))
    sampler = _sampler(policy, batched, environment.action_space, draws)
    if batched is not None and _only_standard_wrappers(environment):
        columns = [_run_batch(batched.spawn(min(MAX_COPIES, episodes)), episodes, sampler, int(resets.integers(2**31)))]
    elif isinstance(given, str):
        environment.close()
        copies = vector_environment(given, min(FOREIGN_COPIES, episodes))
        columns = [_run_batch(copies, episodes, sampler, int(resets.integers(2**31)))]
        copies.close()
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
        if policy == "random" and policy not in behaviours:
            return _uniform(space, generator)
        if batched is None or policy not in behaviours:
            offered = dict.fromkeys([*behaviours, "random"])
            raise ValueError(f"unknown behaviour {policy!r}; this environment offers {', '.join(offered)}")
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
        log_prob = getattr(policy, "action_log_prob", None)

        def act(observation: NDArray) -> tuple[NDArray, NDArray | None]:
            action = _taken(policy.act(observation), space, len(observation))
            return action, None if log_prob is None else np.asarray(log_prob(observation, action))

        return act
    if not callable(policy):
        raise ValueError(f"policy must be a behaviour's name, an agent or a function, got {type(policy).__name__}")
    return lambda observation: (_taken(np.asarray(policy(observation)), space, len(observation)), None)


def _uniform(space: gym.Space, generator: np.random.Generator) -> Sampler:
    """Uniform actions, with the logarithm of their probability or density."""
    if isinstance(space, gym.spaces.Discrete):
        first, count = int(space.start), int(space.n)
        return lambda observation: (
            generator.integers(first, first + count, size=len(observation)),
            np.full(len(observation), -np.log(count)),
        )
    assert isinstance(space, gym.spaces.Box)
    if not space.is_bounded():
        raise ValueError(f"behaviour 'random' needs bounded actions, got {space}")
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    volume = np.log(high - low).sum()
    return lambda observation: (
        _taken(generator.uniform(low, high, (len(observation), *low.shape)), space, len(observation)),
        np.full(len(observation), -volume),
    )


def _taken(action: NDArray, space: gym.Space, count: int) -> NDArray:
    """The actions that are stored and taken: of the right shape, kind and range, reals clipped where rounding errs."""
    expected = (count, *(space.shape or ()))
    if action.shape != expected:
        raise ValueError(f"policy must return actions of shape {expected}, got {action.shape}")
    if isinstance(space, gym.spaces.Discrete):
        outside = np.ones(count, bool) if action.dtype.kind not in "iu" else (
            (action < space.start) | (action >= space.start + space.n)
        )  # fmt: skip
        if outside.any():
            raise ValueError(f"policy must return actions in {space}, got {action[outside][0]!r}")
        return action
    assert isinstance(space, gym.spaces.Box)
    slack = ROUNDING * np.where(np.isfinite(space.high - space.low), space.high - space.low, 0.0)
    within = (action >= space.low - slack) & (action <= space.high + slack)  # NaN is not
    if not (within & np.isfinite(action)).all():
        bad = action[~within.reshape(count, -1).all(axis=1) | ~np.isfinite(action).reshape(count, -1).all(axis=1)][0]
        raise ValueError(f"policy must return actions in {space}, got {bad}")
    return np.clip(action.astype(space.dtype), space.low, space.high)


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


def _run_batch(environment: gym.vector.VectorEnv, episodes: int, sampler: Sampler, seed: int) -> dict[str, NDArray]:
    """The first few episodes of every copy, copy after copy."""
    left = np.full(environment.num_envs, episodes // environment.num_envs)
    left[: episodes % environment.num_envs] += 1
    observation, _ = environment.reset(seed=seed)
    steps: list[dict[str, NDArray]] = []
    while left.any():
        action, log_prob = sampler(observation)
        following, reward, terminated, truncated, info = environment.step(action)
        ended = terminated | truncated
        step = {
            "observation": observation,
            "action": action,
            "reward": reward,
            "next_observation": successors(following, ended, info),
            "terminated": terminated,
            "truncated": truncated & ~terminated,
            "kept": left > 0,
        }
        cost = step_cost(info, ended)
        if cost is not None:
            step["cost"] = cost
        elif "cost" in info or "cost" in info.get("final_info", {}):
            raise ValueError("info['cost'] must be reported at every step or at none, got it from some copies only")
        if log_prob is not None:
            step["behaviour_log_prob"] = log_prob
        steps.append(step)
        left -= ended & (left > 0)
        observation = following
    _same_columns(steps)
    # [T, N] → episodes in a row: copies first, then time, without the steps after a copy's last episode
    kept = np.stack([step.pop("kept") for step in steps], axis=1)
    return {name: np.stack([step[name] for step in steps], axis=1)[kept] for name in steps[0]}


def _same_columns(steps: list[dict[str, Any]]) -> None:
    """Refuse costs that only some steps report: a missing one is not known to be 0."""
    if len({"cost" in step for step in steps}) > 1:
        raise ValueError("info['cost'] must be reported at every step or at none, got it at some")


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
    _same_columns(rows)
    return {name: np.stack([np.asarray(row[name]) for row in rows]) for name in rows[0]}
