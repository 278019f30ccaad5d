"""The reactor as it is delivered: a tuned cascade, predictive control and learned controllers on plants that differ.

Book: evaluation/industrial. Everything is designed, tuned or trained on the nominal reactor and then switched on at
each plant as it is, with one exception that says so: a predictive controller that has been told the delay.
"""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.agents.safe.control_barrier import ControlBarrier, reactor_barrier
from ca14lib.agents.safe.pid_lagrangian import PIDLagrangian, PIDLagrangianConfig
from ca14lib.agents.safe.ppo_lagrangian import PPOLagrangian, PPOLagrangianConfig
from ca14lib.environments import ReactorVector
from ca14lib.environments.applications.industrial import DeployedReactorVector, Deployment
from ca14lib.environments.reactor import CONCENTRATION_UNIT
from ca14lib.evaluation.rollouts import EVALUATION_STREAM
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.solvers.reactor_control import (
    ModelPredictiveController,
    MPCConfig,
    PIDController,
    ReactorController,
    tuned_gains,
)
from ca14lib.solvers.reactor_foresight import ForesightController, ForesightPlanner, recorded_disturbances
from ca14lib.training.on_policy import train_on_policy

Array = NDArray[np.float64]
Act = Callable[[NDArray], NDArray]

ENVIRONMENT = "CA14/Reactor-v0"
EPISODE_STEPS, EPISODES = 200, 12
LIMITS = (2.0, 2.0)  # overheated and unreacted steps in the 200 of an episode, for the multipliers
STEPS, NUM_ENVS, ROLLOUT_STEPS = 80_000, 64, 50
CANDIDATES = 128  # of each of three rounds in the search for the cascade's gains
DECISIONS = 50  # whose time is measured, one plant at a time

PLANTS: dict[str, Deployment] = {
    "as designed": Deployment(),
    "cooling 90%": Deployment(cooling=0.9),
    "cooling 80%": Deployment(cooling=0.8),
    "cooling 110%": Deployment(cooling=1.1),
    "activation 99%": Deployment(activation=0.99),
    "activation 101%": Deployment(activation=1.01),
    "noise": Deployment(sensor_noise=1.0),
    "twice the noise": Deployment(sensor_noise=2.0),
    "1 step late": Deployment(delay=1),
    "2 steps late": Deployment(delay=2),
    "all at once": Deployment(cooling=0.95, activation=0.998, sensor_noise=1.0, delay=1),
}
LEARNED = ("PPO", "PPOLagrangian", "PIDLagrangian", "PPO + barrier")
CONTROLLERS = ("PID", "PID + barrier", "MPC", "adaptive MPC", "adaptive MPC told the delay", *LEARNED)
# random actions; full cooling, which overheats where nobody could have helped it; planners that know all disturbances
# in advance, or those of the feed but no change of set point
REFERENCES = ("uniform", "full cooling", "foresight", "foresight of the feed")
SETTINGS = (*REFERENCES, *CONTROLLERS)

_CONFIG: dict[str, Any] = {
    "learning_rate": 1e-3, "discount": 0.97, "cost_discount": 0.97, "cost_limits": LIMITS, "minibatches": 8,
}  # fmt: skip


def learned_controller(setting: str, seed: int, steps: int) -> tuple[PPO, dict[str, float]]:
    """Train one of ``LEARNED`` on the nominal reactor, and what its training cost in steps above a limit."""
    environment = ReactorVector(1)
    spaces = environment.single_observation_space, environment.single_action_space
    agent: PPO
    if setting == "PPOLagrangian":
        agent = PPOLagrangian(*spaces, PPOLagrangianConfig(**_CONFIG, multiplier_learning_rate=0.002), seed=seed)
    elif setting == "PIDLagrangian":
        agent = PIDLagrangian(*spaces, PIDLagrangianConfig(**_CONFIG), seed=seed)
    else:
        agent = PPO(*spaces, PPOConfig(**_CONFIG), seed=seed)
    history = train_on_policy(
        agent, ENVIRONMENT, steps, num_envs=NUM_ENVS, rollout_steps=ROLLOUT_STEPS, seed=seed, progress=False,
        action_filter=reactor_barrier(environment) if setting == "PPO + barrier" else None,
    )  # fmt: skip
    return agent, {
        "training_overheated": history.last("total_cost_0"),
        "training_unreacted": history.last("total_cost_1"),
    }


def evaluation_seed(seed: int) -> int:
    """What the plants of the evaluation are reset with: no training and no search for gains has seen it."""
    return int(np.random.SeedSequence([EVALUATION_STREAM, seed]).generate_state(1)[0] % 2**31)


def deployed(
    act: Act, plant: Deployment, seed: int, *, episodes: int = EPISODES, barrier: ControlBarrier | None = None
) -> dict[str, float]:
    """Switch a controller on at one plant.

    Args:
        act: From observations ``[N, 5]`` to actions ``[N, 1]``; with a memory, at the start of new episodes.
        plant: How it differs from the model.
        seed: Of the plants.
        episodes: Side by side, of 200 steps each.
        barrier: Filter of the actions, computed from what is observed.
    Returns:
        ``return`` of an episode, ``tracking_error`` (mean distance to the set point in mol/L), ``overheated`` and
        ``unreacted`` (steps of an episode above the limits), ``overheating`` (share of the episodes with any step above
        the limit of temperature), ``violating`` (above either limit) and ``hottest``, K.
    """
    environment = DeployedReactorVector(episodes, deployment=plant, time_limit=None)
    observation, _ = environment.reset(seed=seed)
    returns, costs, hottest = np.zeros(episodes), np.zeros((episodes, 2)), np.zeros(episodes)
    for _ in range(EPISODE_STEPS):
        action = act(observation)
        if barrier is not None:
            action = barrier(observation, action)
        observation, reward, _, _, info = environment.step(np.clip(action, -1.0, 1.0))
        returns, costs = returns + reward, costs + info["cost"]
        hottest = np.maximum(hottest, environment.true_state[:, 1])
    return {
        "return": float(returns.mean()),
        "tracking_error": float(-CONCENTRATION_UNIT * returns.mean() / EPISODE_STEPS),
        "overheated": float(costs[:, 0].mean()),
        "unreacted": float(costs[:, 1].mean()),
        "overheating": float((costs[:, 0] > 0).mean()),
        "violating": float((costs.sum(axis=1) > 0).mean()),
        "hottest": float(hottest.max()),
    }


def decision_milliseconds(act: Act, decisions: int = DECISIONS) -> float:
    """Median processor time of a decision for one plant; a controller with a memory begins new episodes."""
    environment = ReactorVector(1)
    observation, _ = environment.reset(seed=0)
    taken = []
    for _ in range(decisions):
        start = time.process_time()
        action = act(observation)
        taken.append(time.process_time() - start)
        observation = environment.step(action)[0]
    return 1_000 * float(np.median(taken))


def predictive_controller(setting: str, plant: Deployment) -> ModelPredictiveController:
    """One of the three, for a plant: only the last of them is told anything of it."""
    delay = plant.delay if setting.endswith("told the delay") else 0
    return ModelPredictiveController(ReactorVector(1), MPCConfig(adaptive=setting != "MPC", delay=delay))


def foresight_controller(setting: str, plant_seed: int, episodes: int) -> ForesightController:
    """One of the two planners, with the disturbances of the plants as designed that a seed starts."""
    environment = DeployedReactorVector(episodes, time_limit=None)
    known = recorded_disturbances(environment, plant_seed, EPISODE_STEPS)
    return ForesightController(ForesightPlanner(environment), *known, knows_changes=setting == "foresight")


def industrial_run(
    setting: str,
    seed: int,
    *,
    plants: tuple[str, ...] = tuple(PLANTS),
    steps: int = STEPS,
    candidates: int = CANDIDATES,
    episodes: int = EPISODES,
) -> list[dict[str, Any]]:
    """Make one controller on the nominal reactor and switch it on at every plant.

    Args:
        setting: One of ``SETTINGS``; the references but full cooling are measured on the plant as designed only, and
            the predictive controller that knows the delay on plants that have one.
        seed: Seeds training, or the search for gains, and the plants of the evaluation.
        plants: Of ``PLANTS``.
        steps: Of training, rounded up to whole rollouts of 3,200.
        candidates: Gains per round of the search.
        episodes: Per plant.
    Returns:
        One row per plant: what :func:`deployed` returns, ``milliseconds`` of processor time for a decision, and the
        training's ``training_overheated`` and ``training_unreacted``.
    Raises:
        ValueError: If setting or plant is unknown.
    """
    if setting not in SETTINGS:
        raise ValueError(f"setting must be one of {', '.join(SETTINGS)}, got {setting!r}")
    unknown = [plant for plant in plants if plant not in PLANTS]
    if unknown:
        raise ValueError(f"plants must be of {', '.join(PLANTS)}, got {unknown[0]!r}")
    trained = {"training_overheated": 0.0, "training_unreacted": 0.0}
    barrier = reactor_barrier(ReactorVector(1)) if "barrier" in setting else None
    where = evaluation_seed(seed)
    if setting in LEARNED:
        agent, trained = learned_controller(setting, seed, steps)
    if setting.startswith("PID") and setting not in LEARNED:
        gains = tuned_gains(ReactorVector(1), seed, candidates=candidates)

    def controller(plant: Deployment) -> Act:
        if setting in LEARNED:
            return lambda seen: agent.act(seen, deterministic=True)
        if setting == "uniform":
            generator = np.random.default_rng([EVALUATION_STREAM, seed])
            return lambda seen: generator.uniform(-1.0, 1.0, (len(seen), 1))
        made: ReactorController
        if setting == "full cooling":
            return lambda seen: -np.ones((len(seen), 1))
        if setting in REFERENCES:
            made = foresight_controller(setting, where, episodes)
        elif "MPC" in setting:
            made = predictive_controller(setting, plant)
        else:
            made = PIDController(ReactorVector(1), gains)
        return made.act

    if setting in REFERENCES:
        plants, milliseconds = plants if setting == "full cooling" else ("as designed",), 0.0
    else:
        act = controller(PLANTS["as designed"])
        milliseconds = decision_milliseconds(lambda seen: _filtered(act, barrier, seen))
    if setting.endswith("told the delay"):
        plants = tuple(plant for plant in plants if PLANTS[plant].delay > 0)
    return [
        {"plant": name}
        | deployed(controller(PLANTS[name]), PLANTS[name], where, episodes=episodes, barrier=barrier)
        | {"milliseconds": milliseconds}
        | trained
        for name in plants
    ]


def _filtered(act: Act, barrier: ControlBarrier | None, seen: NDArray) -> NDArray:
    action = act(seen)
    return action if barrier is None else np.asarray(barrier(seen, action), dtype=action.dtype)


def with_shares(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs with ``share``, by seed: 0 is the return of uniform actions, 1 that of foresight, both as designed."""
    found = [runs[runs["setting"] == name].set_index("seed")["return"] for name in ("uniform", "foresight")]
    low, high = (runs["seed"].map(each) for each in found)
    return runs.assign(share=(runs["return"] - low) / (high - low))


def industrial(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """The tables ``evaluation_industrial`` (one row per controller and plant) and ``evaluation_industrial_runs``."""
    grid: dict[str, list[Any]] = {"setting": list(SETTINGS)}
    if quick:
        grid |= {
            "plants": [("all at once",)], "steps": [3_200], "candidates": [8], "episodes": [1],
        }  # fmt: skip
    runs = finished(sweeps(industrial_run, grid)).drop(columns=["seconds", *(grid.keys() - {"setting"})])
    runs = with_shares(runs)
    table = interval_table(runs, ["setting", "plant"], ["share", "tracking_error", "overheated", "overheating"])
    groups = runs.groupby(["setting", "plant"], sort=False)
    for name in ("unreacted", "violating", "milliseconds", "training_overheated", "training_unreacted"):
        table[name] = groups[name].mean().to_numpy()
    table["hottest_max"] = groups["hottest"].max().to_numpy()
    return {"evaluation_industrial": table, "evaluation_industrial_runs": runs}
