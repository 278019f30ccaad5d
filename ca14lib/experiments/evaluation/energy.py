"""A microgrid's bill: teams beside what practitioners run, as a share of what perfect foresight saves.

Book: evaluation/energy.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.agents.multi_agent.base import MultiAgent, TeamConfig, team_normalizer
from ca14lib.agents.multi_agent.ippo import IPPO, IPPOConfig
from ca14lib.agents.multi_agent.mappo import MAPPO, MAPPOConfig
from ca14lib.agents.multi_agent.parallel_q import ParallelQMIX, ParallelQMIXConfig
from ca14lib.data import Normalizer
from ca14lib.environments.applications.microgrid import Microgrid
from ca14lib.evaluation.rollouts import EVALUATION_STREAM
from ca14lib.evaluation.teams import TeamPolicy
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.solvers.microgrid import (
    Policy,
    RecedingHorizon,
    idle_policy,
    microgrid_bounds,
    microgrid_dynamic_programming,
    microgrid_optimum,
    play,
    self_consumption_policy,
)
from ca14lib.training.multi_agent import train_multi_agent

GAME = "Microgrid"
DAYS = 96  # held-out days for each seed, in each world
# as in training, and a winter that no training and no forecast has seen: less than half of the sun
WORLDS: dict[str, dict[str, Any]] = {"usual": {}, "dull": {"sunshine": 0.4}}
MARGIN = 2.4  # kW, of the receding horizon: the best of 0, 0.6, …, 3 on days of their own
STEPS = 500_000
NORMALIZER_COPIES = 256  # days of uniform play from which the scale of the observations is taken
GRIDS = {1: (7, 31, 121), 2: (7, 13, 31)}  # points of the dynamic programme, by households
SCORES = ("bill", "share", "unserved", "overloaded_days", "curtailed")


@dataclass(frozen=True)
class EnergyTeam:
    """A team of the comparison: its class, its settings, how it is trained."""

    agent_class: type[MultiAgent]
    config: TeamConfig
    loop: Mapping[str, Any]  # arguments of train_multi_agent


DAY_LOOP: dict[str, Any] = {"num_envs": 256, "rollout_steps": 24}
# Settings were chosen with training seed 100; the tables report seeds 0, 1, … An episode is a day: no discount.
_PPO: dict[str, Any] = {
    "hidden_sizes": (64, 64), "learning_rate": 2e-3, "value_learning_rate": 2e-3, "discount": 1.0, "epochs": 4,
    "minibatches": 8, "entropy_weight": 0.01, "final_entropy_weight": 0.0005, "annealing": 0.97,
    "learning_rate_decay": 0.975,
}  # fmt: skip
ENERGY_TEAMS: dict[str, EnergyTeam] = {
    "MAPPO": EnergyTeam(MAPPO, MAPPOConfig(**_PPO), DAY_LOOP),
    "IPPO": EnergyTeam(IPPO, IPPOConfig(**_PPO), DAY_LOOP),
    "ParallelQMIX": EnergyTeam(
        ParallelQMIX,
        ParallelQMIXConfig(
            hidden_sizes=(128, 64), learning_rate=1e-3, discount=0.98, trace_decay=0.7, epochs=2, minibatches=16,
            epsilon_end=0.05, epsilon_updates=60,
        ),
        DAY_LOOP,
    ),
}  # fmt: skip


def scripted(method: str, game: Microgrid) -> Policy:
    """A policy that does not learn, for a game: key of ``SCRIPTED``, or an error that lists them."""
    usual = Microgrid(1)  # what forecasts know
    if method == "no battery":
        return idle_policy(game)
    if method == "uniform":
        draws = np.random.default_rng(0)
        return lambda observation, info: draws.integers(game.levels, size=observation.shape[:2])
    if method in ("self-consumption", "self-consumption, common"):
        return self_consumption_policy(game, common=method.endswith("common"))
    if method in ("MPC, mean day", "MPC, corrected"):
        return RecedingHorizon(usual, "mean" if method.endswith("mean day") else "corrected", margin=MARGIN)
    if method == "MPC, foresight":
        return RecedingHorizon(game, "perfect")
    raise ValueError(f"unknown method {method!r}; there are {', '.join((*SCRIPTED, *ENERGY_TEAMS))}")


SCRIPTED = (
    "no battery", "uniform", "self-consumption", "self-consumption, common", "MPC, mean day", "MPC, corrected",
    "MPC, foresight",
)  # fmt: skip


@cache
def energy_normalizer() -> Normalizer:
    """The scale of the observations under uniform play, the same for every agent."""
    game, draws = Microgrid(NORMALIZER_COPIES), np.random.default_rng(0)
    observation, _ = game.reset(seed=2**31 - 1)
    seen = []
    for _ in game.hours:
        seen.append(observation)
        observation, *_ = game.step(draws.integers(game.levels, size=observation.shape[:2]))
    return team_normalizer(np.concatenate(seen))


def trained_team(team: str, seed: int, *, steps: int | None = None) -> MultiAgent:
    """A team after training on usual days.

    Args:
        team: Key of ``ENERGY_TEAMS``.
        seed: Of team and days.
        steps: Steps of all copies together; None for ``STEPS``.
    """
    entry = ENERGY_TEAMS[team]
    agent = entry.agent_class.for_game(Microgrid(1), entry.config, seed=seed, normalizer=energy_normalizer())
    train_multi_agent(agent, GAME, steps or STEPS, seed=seed, progress=False, log_every=20, **entry.loop)
    return agent


def held_days(world: str, seed: int, days: int) -> tuple[Microgrid, int]:
    """The game of a world and the seed of days that no training sees."""
    stream = np.random.SeedSequence([EVALUATION_STREAM, seed]).generate_state(1)
    return Microgrid(days, **WORLDS[world]), int(stream[0] % 2**31)


def judged(policy: Policy, game: Microgrid, seed: int, *, idle: NDArray, bound: NDArray) -> dict[str, float]:
    """Means over days (book eq. energy-share).

    Args:
        policy: Function of observation and info to actions.
        game: One copy for each day.
        seed: Of the days.
        idle: Bills without batteries, ``[N]``.
        bound: Bills of perfect foresight, ``[N]``.
    Returns:
        ``bill`` in euro a day; ``share`` of the way from ``idle`` to ``bound``; ``unserved`` and ``curtailed`` in kWh a
        day; ``overloaded_days``, the share of the days on which the line could not carry the import at some time.
    """
    played = play(game, policy, seed=seed)
    return {
        "bill": float(played["bill"].mean()),
        "share": float((idle.mean() - played["bill"].mean()) / (idle.mean() - bound.mean())),
        "unserved": float(played["unserved"].mean()), "curtailed": float(played["curtailed"].mean()),
        "overloaded_days": float((played["overloaded"] > 0).mean()),
    }  # fmt: skip


def energy_run(method: str, seed: int, *, steps: int | None = None, days: int | None = None) -> list[dict[str, Any]]:
    """Train a team, or take a policy that does not learn, and judge it on held-out days of every world.

    Args:
        method: One of ``SCRIPTED`` or key of ``ENERGY_TEAMS``.
        seed: Of team, training days and held-out days.
        steps: Of training; None for ``STEPS``.
        days: Held-out days; None for ``DAYS``.
    Returns:
        Rows with ``world``, what :func:`judged` gives of the last policy's best actions, ``bound_bill``,
        ``training_seconds`` of the process and ``milliseconds`` of its time for one decision of all households.
    """
    started = time.process_time()
    agent = trained_team(method, seed, steps=steps) if method in ENERGY_TEAMS else None
    spent, rows = time.process_time() - started, []
    for world in WORLDS:
        game, stream = held_days(world, seed, days or DAYS)
        policy = scripted(method, game) if agent is None else TeamPolicy(agent, deterministic=True)
        idle = play(game, idle_policy(game), seed=stream)["bill"]
        game.reset(seed=stream)
        bound, begun = microgrid_bounds(game), time.process_time()
        row = judged(policy, game, stream, idle=idle, bound=bound)
        decisions = game.num_envs * len(game.hours)
        milliseconds = 1_000 * (time.process_time() - begun) / decisions
        rows.append(
            {"world": world} | row
            | {"bound_bill": float(bound.mean()), "training_seconds": spent, "milliseconds": milliseconds}
        )  # fmt: skip
    return rows


def energy_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Intervals over seeds, one row per world and method; the bound's own bill stands in every row of its world."""
    table = interval_table(runs, ["world", "method"], list(SCORES))
    groups = runs.groupby(["world", "method"], sort=False)
    for name in ("bound_bill", "training_seconds", "milliseconds"):
        table[name] = groups[name].mean().to_numpy()
    return table


def exact_table(grids: Mapping[int, tuple[int, ...]] = GRIDS) -> pd.DataFrame:
    """The mean day of one and two households: dynamic programming on ever finer batteries beside its bound."""
    rows = []
    for households, points_of in grids.items():
        game = Microgrid(1, num_agents=households, noise=0.0, line_limit=1.8 * households)
        load, solar = game.mean_profiles()
        stored = np.full(households, game.capacity / 3)
        bound = microgrid_optimum(game, load, solar, stored).bill
        for points in points_of:
            bill = microgrid_dynamic_programming(game, load, solar, stored, points=points).bill
            rows.append({"households": households, "points": points, "bill": bill, "bound": bound, "gap": bill - bound})
    return pd.DataFrame(rows)


def energy(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """The tables ``energy``, ``energy_runs`` and ``energy_exact``."""
    grid: dict[str, list[Any]] = {"method": [*SCRIPTED, *ENERGY_TEAMS]}
    if quick:
        grid |= {"steps": [18_432], "days": [4]}
    runs = finished(sweeps(energy_run, grid)).drop(columns="seconds")
    exact = exact_table({1: (7, 31), 2: (7, 13)}) if quick else exact_table()
    return {"energy": energy_table(runs), "energy_runs": runs, "energy_exact": exact}
