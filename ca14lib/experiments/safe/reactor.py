"""The reactor under four controllers: overheating in training and after it, and tracking. Book: safe/mechanisms."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.agents.safe.control_barrier import ControlBarrier, reactor_barrier
from ca14lib.agents.safe.ppo_lagrangian import PPOLagrangian, PPOLagrangianConfig
from ca14lib.agents.safe.safety_layer import SafetyLayer, SafetyLayerConfig
from ca14lib.data import Rollout
from ca14lib.environments import ReactorVector
from ca14lib.environments.reactor import CONCENTRATION_UNIT, NOMINAL_TEMPERATURE, TEMPERATURE_UNIT
from ca14lib.evaluation.rollouts import RolloutEvaluation
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.training.collect import collect
from ca14lib.training.on_policy import train_on_policy

ENVIRONMENT = "CA14/Reactor-v0"
LIMITS = (2.0, 2.0)  # overheated and unreacted steps in the 200 of an episode, for the multipliers
STEPS, NUM_ENVS, ROLLOUT_STEPS = 96_000, 64, 50
EVALUATION_EPISODES = 200
LAYER_EPISODES, LAYER_UPDATES, LAYER_SLACK = 50, 2_000, 0.05  # of random actions; gradient steps; in units of 10 K

SETTINGS = ("PPO", "PPO-Lagrangian", "PPO + safety layer", "PPO + barrier")

_CONFIG: dict[str, Any] = {
    "learning_rate": 1e-3, "discount": 0.97, "cost_discount": 0.97, "cost_limits": LIMITS, "minibatches": 8,
}  # fmt: skip


class WatchedPPO(PPO):
    """PPO that remembers the highest temperature, in K, after any step that it learnt from."""

    hottest: float = -np.inf

    def update(self, rollout: Rollout) -> dict[str, Tensor]:
        self.hottest = max(self.hottest, hottest(rollout))
        return super().update(rollout)


class WatchedPPOLagrangian(PPOLagrangian):
    """PPO-Lagrangian that remembers the highest temperature, in K, after any step that it learnt from."""

    hottest: float = -np.inf

    def update(self, rollout: Rollout) -> dict[str, Tensor]:
        self.hottest = max(self.hottest, hottest(rollout))
        return super().update(rollout)


def hottest(rollout: Rollout) -> float:
    """The highest temperature in K after any step of a rollout."""
    return NOMINAL_TEMPERATURE + TEMPERATURE_UNIT * float(rollout.next_observation[..., 1].max())


def scaled_temperature(observation: NDArray) -> NDArray[np.float64]:
    """What the safety layer predicts and limits: the temperature's deviation in units of 10 K, ``[N]``.

    Cut at 370 K: the squared errors of a few runaways would otherwise outweigh all that happens near the limit.
    """
    return np.minimum(np.asarray(observation, dtype=np.float64)[:, 1], 2.0)


def fitted_safety_layer(seed: int, updates: int = LAYER_UPDATES) -> tuple[SafetyLayer, int]:
    """A safety layer for the temperature limit, fitted on episodes of random actions, and their overheated steps."""
    environment = ReactorVector(1)
    data = collect(ENVIRONMENT, "random", LAYER_EPISODES, seed=seed).transitions
    layer = SafetyLayer(
        environment.single_observation_space, environment.single_action_space,
        (environment.temperature_limit - NOMINAL_TEMPERATURE) / TEMPERATURE_UNIT,
        SafetyLayerConfig(slack=LAYER_SLACK), signal=scaled_temperature, seed=seed,
    )  # fmt: skip
    layer.fit(data, updates)
    return layer, int(data.cost[:, 0].sum())


def reactor_run(
    setting: str, seed: int, *, steps: int = STEPS, episodes: int = EVALUATION_EPISODES
) -> dict[str, float]:
    """Train one controller and count.

    Args:
        setting: One of ``SETTINGS``; only ``"PPO-Lagrangian"`` learns from the costs, and only the last two have an
            action filter, in training and after it.
        seed: Seeds agent, training, evaluation, and the data of the safety layer.
        steps: Environment steps, rounded up to whole rollouts of 3,200.
        episodes: Fresh episodes of 200 steps for the last policy, without exploration.
    Returns:
        ``steps`` of training; ``overheated`` and ``unreacted``, its steps above the limits of temperature and
        concentration; ``hottest``, in K; ``data_overheated``, the overheated steps of the safety layer's data;
        ``corrected``, the share of actions that the filter changed; and of the last policy ``tracking_error`` (mean
        distance to the set point in mol/L), ``final_overheated`` and ``final_unreacted`` (steps of an episode).
    Raises:
        ValueError: If the setting is unknown.
    """
    if setting not in SETTINGS:
        raise ValueError(f"setting must be one of {', '.join(SETTINGS)}, got {setting!r}")
    environment = ReactorVector(1)
    spaces = environment.single_observation_space, environment.single_action_space
    agent: WatchedPPO | WatchedPPOLagrangian
    if setting == "PPO-Lagrangian":
        agent = WatchedPPOLagrangian(*spaces, PPOLagrangianConfig(**_CONFIG, multiplier_learning_rate=0.002), seed=seed)
    else:
        agent = WatchedPPO(*spaces, PPOConfig(**_CONFIG), seed=seed)
    barrier: ControlBarrier | None = reactor_barrier(environment) if setting == "PPO + barrier" else None
    layer, data_overheated = fitted_safety_layer(seed) if setting == "PPO + safety layer" else (None, 0)
    action_filter = barrier if barrier is not None else None if layer is None else layer.filter
    history = train_on_policy(
        agent, ENVIRONMENT, steps, num_envs=NUM_ENVS, rollout_steps=ROLLOUT_STEPS, seed=seed,
        action_filter=action_filter, progress=False,
    )  # fmt: skip
    counter = layer if barrier is None else barrier
    corrected = 0.0 if counter is None else counter.corrections / counter.calls
    evaluation = RolloutEvaluation(ENVIRONMENT, episodes, seed, action_filter=action_filter)
    found = evaluation(agent)
    return {
        "steps": -(-steps // (NUM_ENVS * ROLLOUT_STEPS)) * NUM_ENVS * ROLLOUT_STEPS,
        "overheated": history.last("total_cost_0"),
        "unreacted": history.last("total_cost_1"),
        "hottest": agent.hottest,
        "data_overheated": data_overheated,
        "corrected": corrected,
        "tracking_error": -CONCENTRATION_UNIT * found["return"] / found["length"],
        "final_overheated": found["cost_0"],
        "final_unreacted": found["cost_1"],
    }


def reactor_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """The tables ``safe_reactor`` and ``safe_reactor_runs``."""
    grid: dict[str, list[Any]] = {"setting": list(SETTINGS)}
    if quick:
        grid |= {"steps": [9_600], "episodes": [10]}
    runs = finished(sweeps(reactor_run, grid)).drop(columns="seconds")
    columns = ["overheated", "hottest", "tracking_error", "final_overheated", "final_unreacted", "corrected"]
    table = interval_table(runs, ["setting"], columns)
    groups = runs.groupby("setting", sort=False)
    table.insert(1, "steps", groups["steps"].first().to_numpy())
    for name in ("overheated", "hottest", "final_overheated", "data_overheated"):
        table[f"{name}_max"] = groups[name].max().to_numpy()
    return {"safe_reactor": table, "safe_reactor_runs": runs}
