"""Shields on SafeGrid: every entry of a hazard in all of training, counted. Book: safe/mechanisms."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.agents.safe.learned_shield import CountShield
from ca14lib.agents.safe.ppo_lagrangian import PPOLagrangian, PPOLagrangianConfig
from ca14lib.agents.safe.shield import ModelShield, masked_policy
from ca14lib.data import Rollout
from ca14lib.environments import SafeGridVector
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.solvers import policy_costs, policy_return
from ca14lib.training.on_policy import train_on_policy

ENVIRONMENT = "CA14/SafeGrid-v0"
HAZARD_COST = 0.5  # above the border's 0.1 and below the hazard's 1: what costs more has entered a hazard
LIMIT = 0.6  # of the row with a multiplier: the least cost of an episode that arrives
STEPS, NUM_ENVS, ROLLOUT_STEPS = 102_400, 128, 50

SETTINGS = ("no shield", "multiplier", "counted shield", "model shield")

_CONFIG: dict[str, Any] = {
    "learning_rate": 1e-3, "discount": 1.0, "cost_discount": 1.0, "standardise": False, "cost_limits": (LIMIT,),
    "entropy_weight": 1.0, "final_entropy_weight": 0.005, "annealing": 0.85,
}  # fmt: skip


class CountingPPO(PPO):
    """PPO that counts the hazards entered in every step that it learns from, and teaches a shield if it has one."""

    counted: int = 0
    shield: CountShield | None = None

    def update(self, rollout: Rollout) -> dict[str, Tensor]:
        self.counted += hazard_entries(rollout)
        if self.shield is not None:
            seen, action = rollout.flat("observation").cpu().numpy(), rollout.flat("action").cpu().numpy()
            self.shield.observe(seen, action, rollout.flat("cost")[:, 0].cpu().numpy() > HAZARD_COST)
        return super().update(rollout)


class CountingPPOLagrangian(PPOLagrangian):
    """PPO-Lagrangian that counts the hazards entered in every step that it learns from."""

    counted: int = 0

    def update(self, rollout: Rollout) -> dict[str, Tensor]:
        self.counted += hazard_entries(rollout)
        return super().update(rollout)


def hazard_entries(rollout: Rollout) -> int:
    """In how many of a rollout's steps a hazard was entered."""
    return int((rollout.cost[..., 0] > HAZARD_COST).sum())


def shield_run(setting: str, seed: int, *, steps: int = STEPS) -> dict[str, float]:
    """Train one agent on the original layout and count.

    Args:
        setting: One of ``SETTINGS``. ``"no shield"`` is PPO alone; ``"multiplier"`` PPO-Lagrangian with the limit 0.6;
            ``"counted shield"`` PPO behind an optimistic :class:`CountShield` that is told after every rollout what
            happened; ``"model shield"`` PPO behind a :class:`ModelShield`.
        seed: Seeds agent and training.
        steps: Environment steps, rounded up to whole rollouts of 6,400.
    Returns:
        ``steps`` that were made; ``hazard_entries`` in all of them and ``late_entries`` in those of the second half;
        exact ``return``, ``cost`` and ``hazards`` (entries of an episode) of the last policy, as it is executed.
    Raises:
        ValueError: If the setting is unknown.
    """
    if setting not in SETTINGS:
        raise ValueError(f"setting must be one of {', '.join(SETTINGS)}, got {setting!r}")
    environment = SafeGridVector(1)
    model = environment.tabular_model()
    spaces = environment.single_observation_space, environment.single_action_space
    shield: ModelShield | CountShield | None = None
    agent: CountingPPO | CountingPPOLagrangian
    if setting == "multiplier":
        agent = CountingPPOLagrangian(*spaces, PPOLagrangianConfig(**_CONFIG, multiplier_learning_rate=2.0), seed=seed)
    else:
        agent = CountingPPO(*spaces, PPOConfig(**_CONFIG), seed=seed)
        if setting == "model shield":
            shield = ModelShield(model, environment.state_index, cost_threshold=HAZARD_COST)
        elif setting == "counted shield":
            shield = CountShield(environment.state_index, model.num_states, model.num_actions, pessimistic=False)
            agent.shield = shield
    halves = []
    iteration = NUM_ENVS * ROLLOUT_STEPS
    iterations = -(-steps // iteration)

    def note(_: object) -> dict[str, float]:
        halves.append(agent.counted)
        return {}

    train_on_policy(
        agent, ENVIRONMENT, steps, num_envs=NUM_ENVS, rollout_steps=ROLLOUT_STEPS, seed=seed, shield=shield,
        evaluate=note, evaluate_every=max(iterations // 2, 1), progress=False,
    )  # fmt: skip
    table = agent.policy_table(model, deterministic=False)
    if isinstance(shield, ModelShield):
        table = shield.shielded(table)
    elif shield is not None:
        table = masked_policy(table, shield(model.timed_observation(0)))  # the same at every time
    hazards = replace(model, cost=(model.transition @ environment.hazard.astype(np.float64))[None])
    return {
        "steps": iterations * iteration,
        "hazard_entries": agent.counted,
        "late_entries": agent.counted - halves[1],
        "return": policy_return(model, table),
        "cost": float(policy_costs(model, table)[0]),
        "hazards": float(policy_costs(hazards, table)[0]),
    }


def shield_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """The tables ``safe_shield`` and ``safe_shield_runs``."""
    grid: dict[str, list[Any]] = {"setting": list(SETTINGS)}
    if quick:
        grid["steps"] = [12_800]
    runs = finished(sweeps(shield_run, grid)).drop(columns="seconds")
    table = interval_table(runs, ["setting"], ["return", "cost", "hazards"])
    entries = runs.groupby("setting", sort=False)["hazard_entries"]
    for position, name in enumerate(("min", "mean", "max")):
        table.insert(2 + position, f"hazard_entries_{name}", getattr(entries, name)().to_numpy())
    table.insert(5, "late_entries_max", runs.groupby("setting", sort=False)["late_entries"].max().to_numpy())
    table.insert(1, "steps", runs.groupby("setting", sort=False)["steps"].first().to_numpy())
    return {"safe_shield": table, "safe_shield_runs": runs}
