"""Driving in traffic that differs from training, and two vehicles at a junction beside the exact answer.

Book: evaluation/driving. highway-env makes some fifty steps a second, so the learners of the motorway are short on
purpose; the junction is small enough for exact values.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.agents.multi_agent.ippo import IPPO, IPPOConfig
from ca14lib.agents.multi_agent.mappo import MAPPO, MAPPOConfig
from ca14lib.agents.multi_agent.policy_team import PolicyTeam
from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.environments.applications.driving import Traffic, traffic_environment
from ca14lib.environments.applications.junction import (
    CELLS,
    GO,
    Junction,
    allowed,
    junction_model,
    observed,
)
from ca14lib.evaluation.rollouts import EVALUATION_STREAM
from ca14lib.experiments.offline.driving import (
    FASTER,
    KEEP,
    LEFT,
    METRES,
    METRES_PER_SECOND,
    RIGHT,
    SLOWER,
    rule_driver,
)
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.solvers import constrained_optimum, policy_costs, policy_return, value_iteration
from ca14lib.training.multi_agent import train_multi_agent
from ca14lib.training.on_policy import train_on_policy

ENVIRONMENT = "CA14/SafeDriving-v0"
STEPS, NUM_ENVS, ROLLOUT_STEPS = 1_600, 8, 20
EPISODES = 6  # in each traffic
TIME_GAP, STANDSTILL = 1.5, 8.0  # s and m: what a driver keeps to the car ahead

TRAFFIC: dict[str, Traffic] = {
    "as in training": Traffic(),
    "denser": Traffic(density=1.5),
    "aggressive": Traffic(aggressive=True),
    "worse sensor": Traffic(sensor_noise=2.0),
}
RULES: dict[str, Callable[[NDArray], NDArray]] = {
    "overtaking rule": rule_driver,
    "time gap": lambda seen: time_gap_driver(seen),
    "always slower": lambda seen: np.full(len(seen), SLOWER),
}
LEARNERS = ("PPO", "PPO + shield")
DRIVERS = (*RULES, *LEARNERS)

JUNCTION_STEPS, JUNCTION_ENVS = 48_000, 64
ROADS: dict[str, float] = {
    "nearly dry": 0.02,
    "as in training": 0.1,
    "slippery": 0.3,
}  # probability that a vehicle that goes does not move
TEAMS = ("optimum", "optimum without crashes", "both go", "right of way", "IPPO", "MAPPO", "MAPPO + right of way")


# The motorway


def gap_ahead(observation: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance in m to the nearest car ahead on the own lane, ∞ without one, and how fast it comes nearer, m/s.

    Args:
        observation: ``[N, 5, 5]``.
    Returns:
        Two arrays ``[N]``.
    """
    along, across = (observation[:, 1:, 1:3] * METRES).transpose(2, 0, 1)
    closing = -observation[:, 1:, 3] * METRES_PER_SECOND
    ahead = (observation[:, 1:, 0] > 0.5) & (along > 0) & (abs(across) < 2)
    distance = np.where(ahead, along, np.inf)
    nearest = distance.argmin(axis=1)
    rows = np.arange(len(observation))
    return distance[rows, nearest], np.where(ahead[rows, nearest], closing[rows, nearest], 0.0)


def time_gap_driver(observation: NDArray) -> NDArray[np.int64]:
    """Stay on the lane; brake where the gap is under 1.5 s or closes within 4 s, accelerate beyond twice that.

    Args:
        observation: ``[N, 5, 5]``.
    Returns:
        Actions ``[N]``. Above 25 m/s it never accelerates.
    """
    distance, closing = gap_ahead(observation)
    speed = observation[:, 0, 3] * METRES_PER_SECOND
    wanted = STANDSTILL + TIME_GAP * speed
    near = (distance < wanted) | (distance < STANDSTILL + 4.0 * closing)
    open_road = (distance > 2 * wanted) & (speed < 23.0)
    return np.select([near, open_road], [SLOWER, FASTER], KEEP)


def time_gap_shield(observation: NDArray, info: dict[str, Any]) -> NDArray[np.bool_]:
    """The actions ``[N, 5]`` that keep the gap: no acceleration into it, no lane change beside another car.

    Braking is always allowed, and alone where the gap is too small: a change of lane does not brake, and beside the
    edge of the road, where there is no lane to change to, it would be a way to keep the speed.

    Args:
        observation: ``[N, 5, 5]``.
        info: Not looked at.
    """
    distance, closing = gap_ahead(observation)
    speed = observation[:, 0, 3] * METRES_PER_SECOND
    wanted = STANDSTILL + TIME_GAP * speed
    near = (distance < wanted) | (distance < STANDSTILL + 4.0 * closing)
    along, across = (observation[:, 1:, 1:3] * METRES).transpose(2, 0, 1)
    there = observation[:, 1:, 0] > 0.5
    mask = np.ones((len(observation), 5), dtype=np.bool_)
    for action, side in ((LEFT, -1), (RIGHT, 1)):
        beside = there & (abs(across - 4 * side) < 3) & (abs(along) < STANDSTILL + TIME_GAP * speed[:, None])
        mask[:, action] = ~near & ~beside.any(axis=1)
    mask[:, KEEP] = ~near
    mask[:, FASTER] = ~near & (distance > 1.5 * wanted)
    return mask


def driven(act: Callable[[NDArray], NDArray], traffic: Traffic, seed: int, episodes: int) -> dict[str, float]:
    """Let a driver drive: ``return``, ``crashed`` (share of the episodes), ``speeding`` and ``length`` in seconds."""
    environment = traffic_environment(traffic)
    seeds = np.random.SeedSequence([EVALUATION_STREAM, seed]).generate_state(episodes) % 2**31
    returns, crashed, speeding, length = 0.0, 0.0, 0.0, 0
    for each in seeds:
        observation, _ = environment.reset(seed=int(each))
        over = False
        while not over:
            action = int(act(np.asarray(observation)[None])[0])
            observation, reward, terminated, truncated, info = environment.step(action)
            returns, length = returns + float(reward), length + 1
            crashed, speeding = crashed + info["cost"][0], speeding + info["cost"][1]
            over = terminated or truncated
    return {
        "return": returns / episodes,
        "crashed": crashed / episodes,
        "speeding": speeding / episodes,
        "length": length / episodes,
    }


@cache
def _spaces() -> tuple[gym.Space, gym.Space]:
    environment = traffic_environment()
    return environment.observation_space, environment.action_space


def motorway_run(
    driver: str, seed: int, *, steps: int = STEPS, episodes: int = EPISODES, traffics: tuple[str, ...] = tuple(TRAFFIC)
) -> list[dict[str, Any]]:
    """Train one driver, if it learns, in the traffic of ``CA14/SafeDriving-v0``, and let it drive in every other.

    Args:
        driver: Of ``DRIVERS``; a shield is there in training and afterwards.
        seed: Of training and of the traffic that it is judged in.
        steps: Seconds of driving in training.
        episodes: In each traffic, of at most 20 s; the same for all drivers.
        traffics: Of ``TRAFFIC``.
    Returns:
        One row per traffic: ``traffic``, what :func:`driven` returns, and ``training_crashes``.
    Raises:
        ValueError: If the driver or a traffic is unknown.
    """
    if driver not in DRIVERS:
        raise ValueError(f"driver must be one of {', '.join(DRIVERS)}, got {driver!r}")
    unknown = [name for name in traffics if name not in TRAFFIC]
    if unknown:
        raise ValueError(f"traffic must be of {', '.join(TRAFFIC)}, got {unknown[0]!r}")
    crashes = 0.0
    if driver in RULES:
        act = RULES[driver]
    else:
        shield = time_gap_shield if driver == "PPO + shield" else None
        config = PPOConfig(
            hidden_sizes=(64, 64), learning_rate=1e-3, discount=0.95, cost_discount=0.95, entropy_weight=0.01,
            epochs=10, cost_limits=(0.1, 2.0),
        )  # fmt: skip
        agent = PPO(*_spaces(), config, seed=seed)
        history = train_on_policy(
            agent, ENVIRONMENT, steps, num_envs=NUM_ENVS, rollout_steps=ROLLOUT_STEPS, seed=seed, shield=shield,
            progress=False,
        )  # fmt: skip
        crashes = history.last("total_cost_0")

        def act(seen: NDArray) -> NDArray:
            mask = None if shield is None else shield(seen, {})
            return agent.act(seen, mask=mask, deterministic=True)

    return [
        {"traffic": name} | driven(act, TRAFFIC[name], seed, episodes) | {"training_crashes": crashes}
        for name in traffics
    ]


# The junction


def joint_table(actions: Callable[[NDArray, NDArray], NDArray]) -> NDArray[np.float64]:
    """A team's policy ``[12, 25, 4]`` for the exact solvers.

    Args:
        actions: From positions ``[25, 2]`` and the share of time that is left, ``[25]``, to actions ``[25, 2]``.
    """
    positions = np.array([*np.ndindex(CELLS, CELLS)])
    table = np.zeros((12, len(positions), 4))
    for step in range(12):
        chosen = actions(positions, np.full(len(positions), (12 - step) / 12))
        table[step, np.arange(len(positions)), 2 * chosen[:, 0] + chosen[:, 1]] = 1.0
    return table


def both_go(positions: NDArray, left: NDArray) -> NDArray[np.int64]:
    """Nobody ever waits."""
    return np.full((len(positions), 2), GO)


def right_of_way(positions: NDArray, left: NDArray) -> NDArray[np.int64]:
    """Everybody goes whenever the right of way allows it."""
    return allowed(positions)[:, :, GO].astype(np.int64)


def trained_team(name: str, seed: int, steps: int) -> tuple[PolicyTeam, bool]:
    """Train a team on the junction, and whether the right of way forbids it actions."""
    guarded = name.endswith("right of way")
    game = Junction(1, right_of_way=guarded)
    settings: dict[str, Any] = {
        "hidden_sizes": (64, 64), "learning_rate": 2e-3, "discount": 0.99, "entropy_weight": 0.05,
        "final_entropy_weight": 0.002, "shared": False,
    }  # fmt: skip
    team: PolicyTeam = (
        IPPO.for_game(game, IPPOConfig(**settings), seed=seed)
        if name == "IPPO"
        else MAPPO.for_game(game, MAPPOConfig(**settings), seed=seed)
    )
    train_multi_agent(
        team, "Junction", steps, environment_arguments={"right_of_way": guarded}, num_envs=JUNCTION_ENVS,
        rollout_steps=12, seed=seed, progress=False,
    )  # fmt: skip
    return team, guarded


def junction_run(team: str, seed: int, *, steps: int = JUNCTION_STEPS) -> list[dict[str, Any]]:
    """Make one team and evaluate it exactly on every road.

    Args:
        team: Of ``TEAMS``; the optima are those of one driver for both vehicles who sees through houses, solved for
            each road anew.
        seed: Of training.
        steps: Of training.
    Returns:
        One row per road: ``road``, ``return`` of the team, ``crashed`` (probability), ``share`` of the way from both
        going to the optimum.
    Raises:
        ValueError: If the team is unknown.
    """
    if team not in TEAMS:
        raise ValueError(f"team must be one of {', '.join(TEAMS)}, got {team!r}")
    table: NDArray[np.float64] | None = None
    if team in ("both go", "right of way"):
        table = joint_table(both_go if team == "both go" else right_of_way)
    elif "PPO" in team:
        learnt, guarded = trained_team(team, seed, steps)

        def actions(positions: NDArray, left: NDArray) -> NDArray:
            seen = np.stack([observed(positions[:, [k, 1 - k]], left) for k in range(2)], axis=1)
            mask = allowed(positions) if guarded else None
            return learnt.act(seen, mask=mask, deterministic=True)

        table = joint_table(actions)
    rows = []
    for road, slip in ROADS.items():
        model = junction_model(slip)
        best = value_iteration(model)
        if table is not None:
            policy = table
        else:
            policy = best.policy if team == "optimum" else constrained_optimum(model, 0.0).policy
        worst = policy_return(model, joint_table(both_go))
        value, top = policy_return(model, policy), policy_return(model, best.policy)
        rows.append(
            {
                "road": road,
                "return": value,
                "crashed": float(policy_costs(model, policy)[0]),
                "share": (value - worst) / (top - worst),
            }
        )
    return rows


def driving(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """The tables ``evaluation_driving`` and ``evaluation_junction``, and the runs of both."""
    motorway: dict[str, list[Any]] = {"driver": list(DRIVERS)}
    junction: dict[str, list[Any]] = {"team": list(TEAMS)}
    if quick:
        motorway |= {"steps": [NUM_ENVS * ROLLOUT_STEPS], "episodes": [1], "traffics": [("as in training", "denser")]}
        junction |= {"steps": [JUNCTION_ENVS * 12]}
    drives = finished(sweeps(motorway_run, motorway)).drop(columns=["seconds", *(motorway.keys() - {"driver"})])
    crossings = finished(sweeps(junction_run, junction)).drop(columns=["seconds", *(junction.keys() - {"team"})])
    table = interval_table(drives, ["driver", "traffic"], ["return", "crashed", "speeding"])
    groups = drives.groupby(["driver", "traffic"], sort=False)
    for name, source in (("crashed_mean", "crashed"), ("length", "length"), ("training_crashes", "training_crashes")):
        table[name] = groups[source].mean().to_numpy()
    exact = interval_table(crossings, ["team", "road"], ["return", "crashed", "share"])
    exact["crashed_max"] = crossings.groupby(["team", "road"], sort=False)["crashed"].max().to_numpy()
    return {
        "evaluation_driving": table,
        "evaluation_driving_runs": drives,
        "evaluation_junction": exact,
        "evaluation_junction_runs": crossings,
    }
