"""Motorway driving with limits on crashes and speeding: PPO with and without multipliers. Book: safe/applications.

highway-env makes some fifty steps a second, so the training is short on purpose.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.agents.on_policy import OnPolicyAgent
from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.agents.safe.ppo_lagrangian import PPOLagrangian, PPOLagrangianConfig
from ca14lib.evaluation.rollouts import RolloutEvaluation
from ca14lib.experiments.offline.driving import SLOWER, rule_driver
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.training.on_policy import train_on_policy

ENVIRONMENT = "CA14/SafeDriving-v0"
LIMITS = (0.1, 2.0)  # crashes an episode, seconds above 25 m/s an episode
STEPS, NUM_ENVS, ROLLOUT_STEPS = 4_800, 8, 20
EVALUATION_EPISODES = 20

_SETTINGS: dict[str, Any] = {
    "hidden_sizes": (64, 64), "learning_rate": 1e-3, "discount": 0.95, "cost_discount": 0.95, "entropy_weight": 0.01,
    "epochs": 10,
}  # fmt: skip
DRIVING_AGENTS = ("PPO", "PPOLagrangian")
DRIVING_RULES: dict[str, Callable[[NDArray], NDArray]] = {
    "RuleDriver": rule_driver,
    "AlwaysSlower": lambda observation: np.full(len(observation), SLOWER),
}


class ScriptedDriver:
    """A rule behind the part of an agent's interface that evaluation uses.

    Args:
        rule: Function of observations ``[N, 5, 5]`` to actions ``[N]``.
    """

    def __init__(self, rule: Callable[[NDArray], NDArray]) -> None:
        self.rule = rule
        self.observation_space, self.action_space = _spaces()

    def act(self, observation: NDArray, *, deterministic: bool = True) -> NDArray:
        """Actions ``[N]``; a rule draws none, so ``deterministic`` changes nothing."""
        return self.rule(observation)


def driving_agent(name: str, seed: int) -> OnPolicyAgent:
    """A fresh agent of ``DRIVING_AGENTS``. The limits of PPO only make the history count; it does not look at costs."""
    spaces = _spaces()
    if name == "PPO":
        return PPO(*spaces, PPOConfig(**_SETTINGS, cost_limits=LIMITS), seed=seed)
    if name == "PPOLagrangian":
        # one rate for two prices: a crash is rare and dear, a second of speeding frequent and cheap
        config = PPOLagrangianConfig(**_SETTINGS, cost_limits=LIMITS, multiplier_learning_rate=0.02)
        return PPOLagrangian(*spaces, config, seed=seed)
    raise ValueError(f"agent must be one of {', '.join(DRIVING_AGENTS)}, got {name!r}")


@cache
def _spaces() -> tuple[gym.Space, gym.Space]:
    environment = gym.make(ENVIRONMENT)
    return environment.observation_space, environment.action_space


def driving_run(
    agent: str, seed: int, *, steps: int = STEPS, evaluation_episodes: int = EVALUATION_EPISODES
) -> dict[str, float]:
    """Train one agent and let its best actions drive in fresh traffic; a rule is only evaluated.

    Args:
        agent: Of ``DRIVING_AGENTS`` or ``DRIVING_RULES``.
        seed: Seeds agent, training and the evaluation's traffic.
        steps: Seconds of driving in training.
        evaluation_episodes: Fresh episodes.
    Returns:
        Of an evaluated episode ``return``, ``collisions`` (share that crash), ``speeding`` (seconds above the limit)
        and ``length`` (seconds); ``training_collisions``, their number in all of training, ``training_speeding``, the
        share of its seconds above the limit, and the last multipliers ``price_0`` and ``price_1``.
    """
    evaluation = RolloutEvaluation(ENVIRONMENT, evaluation_episodes, seed=seed)
    training: dict[str, float] = dict.fromkeys(
        ("training_collisions", "training_speeding", "price_0", "price_1"), float("nan")
    )
    if agent in DRIVING_RULES:
        scores = evaluation(ScriptedDriver(DRIVING_RULES[agent]))  # type: ignore[arg-type]
    else:
        learner = driving_agent(agent, seed)
        history = train_on_policy(
            learner, ENVIRONMENT, steps, num_envs=NUM_ENVS, rollout_steps=ROLLOUT_STEPS, seed=seed, progress=False
        )
        rows = history.frame.pivot(index="step", columns="metric", values="value")
        last = rows.ffill().iloc[-1]
        training["training_collisions"] = float(last["total_cost_0"])
        training["training_speeding"] = float(last["time_in_violation_1"])
        for k in range(len(LIMITS)):
            training[f"price_{k}"] = float(last.get(f"multiplier_{k}", 0.0))
        scores = evaluation(learner)
    measured = {"return": "return", "collisions": "cost_0", "speeding": "cost_1", "length": "length"}
    return {name: scores[source] for name, source in measured.items()} | training


def driving_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """``safe_driving`` and ``safe_driving_runs``: two agents and two rules; the course's table rests on three seeds."""
    grid: dict[str, list[Any]] = {"agent": [*DRIVING_AGENTS, *DRIVING_RULES]}
    if quick:
        grid |= {"steps": [NUM_ENVS * ROLLOUT_STEPS], "evaluation_episodes": [2]}
    runs = finished(sweeps(driving_run, grid)).drop(columns="seconds")
    columns = ["return", "collisions", "speeding", "length"]
    table = interval_table(runs, ["agent"], columns)
    means = runs.groupby("agent")[["training_collisions", "training_speeding", "price_0", "price_1"]].mean()
    return {"safe_driving": table.join(means, on="agent"), "safe_driving_runs": runs}
