"""ANM6-Easy, a distribution grid with one operator: SAC beside the predictive controllers of gym-anm's authors.

Needs the extra ``energy``. Book: evaluation/energy.
"""

import time
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.agents.sac import SAC, SACConfig
from ca14lib.environments.applications.anm import DAY, GridOperator, grid_operator, model_predictive_agent
from ca14lib.evaluation.rollouts import EVALUATION_STREAM
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.training.off_policy import train_off_policy

TASK = "CA14/ANM6Easy-v0"
METHODS = ("uniform", "no control", "MPC, constant forecast", "MPC, perfect forecast", "SAC")
STEPS, START_STEPS, UPDATES_PER_STEP = 2_500, 500, 0.5  # 26 days of quarter hours: a step takes some 20 ms
HOURS = (0, 8, 16)  # of the day, at which the held-out episodes begin
PLANNING_STEPS, SAFETY_MARGIN = 16, 0.92  # of the predictive controllers
CONFIG = SACConfig(hidden_sizes=(64, 64), learning_rate=1e-3, discount=0.98)
REWARD_SCALE = 0.05  # in training: a violation may pay −100
SCORES = ("return", "cost", "energy_loss", "violated", "collapsed", "share")
Act = Callable[[NDArray], NDArray]


def bounds(environment: GridOperator) -> gym.spaces.Box:
    """The operator's actions."""
    assert isinstance(environment.action_space, gym.spaces.Box)
    return environment.action_space


def uncontrolled(environment: GridOperator) -> NDArray:
    """Generators as much as they can, no reactive power, storage idle."""
    space = bounds(environment)
    generators = (space.shape[0] - 2) // 2
    action = np.zeros(space.shape, dtype=space.dtype)
    action[:generators] = space.high[:generators]
    return action


def controller(method: str, environment: GridOperator, seed: int, *, steps: int | None = None) -> Act:
    """A function of the observation ``[F]`` to the action ``[D]``; SAC is trained first, in a grid of its own."""
    space = bounds(environment)
    if method == "uniform":
        draws = np.random.default_rng(seed)
        return lambda observation: np.asarray(draws.uniform(space.low, space.high), dtype=np.float32)
    if method == "no control":
        return lambda observation: uncontrolled(environment)
    if method.startswith("MPC"):
        forecast = method.removeprefix("MPC, ").removesuffix(" forecast")
        planner = model_predictive_agent(
            environment, forecast, planning_steps=PLANNING_STEPS, safety_margin=SAFETY_MARGIN
        )
        return lambda observation: planner()
    if method != "SAC":
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    agent = SAC(environment.observation_space, space, CONFIG, seed=seed)
    total = steps or STEPS
    train_off_policy(
        agent, TASK, total, seed=seed, start_steps=min(START_STEPS, total // 2), updates_per_step=UPDATES_PER_STEP,
        batch_size=128, environment_arguments={"reward_scale": REWARD_SCALE}, progress=False,
    )  # fmt: skip
    return lambda observation: agent.act(observation[None], deterministic=True)[0]


def episodes(act: Act, environment: GridOperator, seed: int, hours: tuple[int, ...]) -> dict[str, float]:
    """Means over held-out days, one from each hour.

    Returns:
        ``return``, ``cost`` and ``energy_loss`` of a day, ``violated``, the share of steps with a violation of a limit,
        and ``collapsed``, the share of days that the grid did not survive. A day that ends early pays for its missing
        steps what its last step paid, so that a collapse is never cheaper than going on.
    """
    rows = []
    for number, hour in enumerate(hours):
        start = np.random.SeedSequence([EVALUATION_STREAM, seed, number]).generate_state(1)
        observation, _ = environment.reset(seed=int(start[0] % 2**31), options={"hour": hour})
        steps = []
        for _ in range(environment.time_limit):
            observation, reward, terminated, _, info = environment.step(act(observation))
            steps.append((float(reward), info["cost"], info["energy_loss"], info["cost"] > 1e-6))
            if terminated:
                break
        day = np.array(steps, dtype=np.float64)
        missing = environment.time_limit - len(day)
        day = np.concatenate([day, np.repeat(day[-1:], missing, axis=0)])
        rows.append([*day[:, :3].sum(axis=0), day[:, 3].mean(), float(missing > 0 or terminated)])
    names = ("return", "cost", "energy_loss", "violated", "collapsed")
    return dict(zip(names, np.mean(rows, axis=0).tolist(), strict=True))


def anm_run(
    method: str, seed: int, *, steps: int | None = None, time_limit: int = DAY, hours: tuple[int, ...] = HOURS
) -> dict[str, float]:
    """Judge one controller on held-out days of the grid.

    Args:
        method: One of ``METHODS``.
        seed: Of training and of the days.
        steps: Of training; None for ``STEPS``.
        time_limit: Steps of a judged day.
        hours: At which the days begin.
    Returns:
        What :func:`episodes` gives; ``training_seconds`` of the process and ``milliseconds`` of its time for a step of
        the controller and the grid.
    """
    environment, started = grid_operator(time_limit), time.process_time()
    act = controller(method, environment, seed, steps=steps)
    trained = time.process_time()
    found = episodes(act, environment, seed, hours)
    milliseconds = 1_000 * (time.process_time() - trained) / (time_limit * len(hours))
    return found | {"training_seconds": trained - started, "milliseconds": milliseconds}


def anm_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Intervals over seeds, one row per method.

    ``share`` is of the way from no control to the predictive controller with a perfect forecast, of the same seed: a
    reference and no bound, because that controller plans in an approximation of the grid.
    """
    returns = runs.pivot(index="seed", columns="method", values="return")
    idle, best = (runs["seed"].map(returns[name]) for name in ("no control", "MPC, perfect forecast"))
    runs = runs.assign(share=(runs["return"] - idle) / (best - idle))
    table = interval_table(runs, ["method"], list(SCORES))
    groups = runs.groupby("method", sort=False)
    for name in ("training_seconds", "milliseconds"):
        table[name] = groups[name].mean().to_numpy()
    return table


def anm(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """The tables ``anm`` and ``anm_runs``."""
    grid: dict[str, list[Any]] = {"method": list(METHODS)}
    if quick:
        grid |= {"steps": [200], "time_limit": [24], "hours": [(8,)]}
    runs = finished(sweeps(anm_run, grid)).drop(columns="seconds")
    return {"anm": anm_table(runs), "anm_runs": runs}
