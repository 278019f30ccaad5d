"""What it takes to run a policy elsewhere: programs that agree, latency, alarms under shift, a watchdog over costs.

Book: evaluation/deployment. The alarm is tried on cart-pole with sensors and physics that change, the watchdog on
SafeGrid, whose worst case is known, and on the same grid with a floor that slips, whose worst case is not.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray

from ca14lib.agents import AGENTS, TEAMS, Agent, ContinuousAgent, OnPolicyAgent
from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.agents.safe.ppo_lagrangian import PPOLagrangian, PPOLagrangianConfig
from ca14lib.data import Normalizer
from ca14lib.deployment.detection import (
    Detector,
    Mahalanobis,
    Neighbours,
    Ranges,
    conformal_threshold,
    persistent_peak,
)
from ca14lib.deployment.export import (
    FORMATS,
    TOLERANCE,
    example_agent,
    export_policy,
    exportable_agents,
    load_exported,
)
from ca14lib.deployment.latency import measure_latency
from ca14lib.deployment.monitor import RuntimeMonitor, Watchdog, critic_cost, worst_cost_of
from ca14lib.environments import SafeGridVector
from ca14lib.environments.domains import CartPoleDomainVector
from ca14lib.environments.grid_world import GridWorldVector
from ca14lib.environments.perturbed import (
    DelayedObservations,
    DroppedObservations,
    ObservationNoise,
    Perturbation,
    PerturbedVector,
)
from ca14lib.environments.safe_grid import SAFE_GRID_LAYOUTS, SafeGridLayout
from ca14lib.evaluation.exact import ExactEvaluation
from ca14lib.evaluation.rollouts import EVALUATION_STREAM
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.training.on_policy import train_on_policy
from ca14lib.training.vector import step_cost, successors

# Programs and their latency

EXPORT_SEEDS = 2
DECISIONS = 2_000
EXPORTED = [name for name in AGENTS | TEAMS if name != "DIAL"]


def deployed_agent(name: str, seed: int) -> Agent:
    """An agent with its default networks and random weights, on GridWorld, on Pendulum's spaces or in a made-up team.

    What a decision costs depends on the networks' sizes and not on their weights; that a program agrees with the agent
    is the harder, the more the weights matter, so they are moved away from their start.
    """
    if name in TEAMS:
        agent = example_agent(name, seed)
    elif issubclass(AGENTS[name], ContinuousAgent):
        task = gym.make("Pendulum-v1")
        normalizer = Normalizer(torch.zeros(3), torch.tensor([0.7, 0.7, 4.0]))
        agent = AGENTS[name](task.observation_space, task.action_space, normalizer=normalizer, seed=seed)
    else:
        grid = GridWorldVector(1)
        agent = AGENTS[name](grid.single_observation_space, grid.single_action_space, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in agent.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return agent


def export_run(agent: str, seed: int, *, decisions: int = DECISIONS) -> list[dict[str, Any]]:
    """Export an agent in both formats and time single decisions of agent and programs.

    Args:
        agent: Its name.
        seed: Of weights and observations.
        decisions: How many are timed.
    Returns:
        A row for ``agent`` itself and one for each format: ``parity`` (how far outputs are from the agent's),
        ``kilobytes`` of the program, ``parameters`` in it, and in ms ``p50``, ``p99``, ``max`` and ``cpu_p99``.
    """
    learner = deployed_agent(agent, seed)
    learner.observation_space.seed(seed)
    shape = learner.observation_space.shape or ()
    observation = np.random.default_rng(seed).normal(size=(64, *shape)).astype(np.float32)
    rows = [{"form": "agent", "parity": 0.0, "kilobytes": 0.0, "parameters": _size(learner)}]
    timed: list[Any] = [learner]
    with tempfile.TemporaryDirectory() as folder:
        for form in FORMATS:
            path = export_policy(learner, Path(folder) / f"policy.{form}", form)  # type: ignore[arg-type]
            policy = load_exported(path)
            size = path.stat().st_size / 1_000
            found = policy.metadata
            rows.append({"form": form, "parity": found["parity"], "kilobytes": size, "parameters": found["parameters"]})
            timed.append(policy)
        for row, policy in zip(rows, timed):
            latency = measure_latency(policy, observation, decisions)
            row |= {"p50": latency.p50, "p99": latency.p99, "max": latency.max, "cpu_p99": latency.cpu_p99}
    return [{"task": _task(agent)} | row for row in rows]


def _task(agent: str) -> str:
    if agent in TEAMS:
        return "team of 3"
    return "Pendulum" if issubclass(AGENTS[agent], ContinuousAgent) else "GridWorld"


def _size(agent: Agent) -> int:
    return sum(weight.numel() for weight in agent.parameters())


# An alarm on cart-pole

CART_POLE = "CA14/CartPoleDomain-v0"
UNITS = (0.25, 0.4, 0.05, 0.4)  # how far the four numbers go while the pole is balanced, of the normaliser
TRAINING_STEPS = 120_000
FITTED, CALIBRATED, TESTED = 100, 199, 200  # episodes
FALSE_ALARMS = 0.05  # of all episodes
WARNING = 25  # steps, half a second: an alarm as long before a failure counts as a warning
PATIENCE = (1, 5)

SHIFTS: dict[str, tuple[tuple[Perturbation, ...], dict[str, float]]] = {
    "none": ((), {}),
    "noise 0.02": ((ObservationNoise(0.02),), {}),
    "noise 0.1": ((ObservationNoise(0.1),), {}),
    "stuck sensor": ((DroppedObservations(0.7),), {}),
    "late sensor": ((DelayedObservations(3),), {}),
    "long pole": ((), {"length": 2.0}),
    "weak motor": ((), {"gain": 0.3}),
}
DETECTORS = ("ranges", "mahalanobis", "neighbours", "pairs")


class Pairs:
    """Mahalanobis distance of an observation together with its change since the last one: how things move.

    The first observation of an episode has no change, and counts as ordinary.
    """

    def __init__(self, episodes: Sequence[NDArray]) -> None:
        self._detector = Mahalanobis.fit(np.concatenate([self.rows(each) for each in episodes]))

    @staticmethod
    def rows(episode: NDArray) -> NDArray[np.float64]:
        """``[T - 1, 2 D]``: observations from the second on, and their changes."""
        return np.hstack([episode[1:], np.diff(episode, axis=0)]).astype(np.float64)

    def scores(self, episode: NDArray) -> NDArray[np.float64]:
        """``[T]`` of one episode."""
        return np.concatenate([[0.0], self._detector.score(self.rows(episode))])


def balancing_agent(seed: int, steps: int = TRAINING_STEPS) -> PPO:
    """PPO trained on cart-pole with nominal physics and perfect sensors."""
    spaces = CartPoleDomainVector(1)
    agent = PPO(
        spaces.single_observation_space, spaces.single_action_space,
        PPOConfig(learning_rate=1e-3, learning_rate_decay=0.99, epochs=5, minibatches=4),
        normalizer=Normalizer(torch.zeros(4), torch.tensor(UNITS), 0.0), seed=seed,
    )  # fmt: skip
    train_on_policy(agent, CART_POLE, steps, num_envs=32, rollout_steps=64, seed=seed, progress=False)
    return agent


def observed_episodes(agent: Any, shift: str, episodes: int, stream: int, seed: int) -> list[NDArray[np.float32]]:
    """What the agent saw in fresh episodes under a shift, ``[T, 4]`` each; those of 501 rows ran to the time limit.

    Args:
        agent: Acts deterministically.
        shift: Of ``SHIFTS``.
        episodes: How many.
        stream: Keeps the purposes apart: fitting, calibration, tests.
        seed: Of the starts.
    """
    perturbations, physics = SHIFTS[shift]
    vector = PerturbedVector(CartPoleDomainVector(episodes, ranges=physics), perturbations)
    first = int(np.random.SeedSequence([EVALUATION_STREAM, stream, seed]).generate_state(1)[0]) % 2**31
    observation, _ = vector.reset(seed=first)
    running, seen, lengths = np.ones(episodes, dtype=bool), [observation], np.ones(episodes, dtype=np.int64)
    while running.any():
        following, _, terminated, truncated, info = vector.step(agent.act(observation, deterministic=True))
        ended = terminated | truncated
        seen.append(successors(following, ended, info))
        lengths += running
        running &= ~ended
        observation = following
    stacked = np.stack(seen, axis=1)
    return [stacked[index, :length] for index, length in enumerate(lengths)]


def fitted_detectors(episodes: Sequence[NDArray], seed: int) -> dict[str, Any]:
    """Functions of one episode to its scores, by name."""
    rows = np.concatenate(list(episodes))
    single: dict[str, Detector] = {
        "ranges": Ranges.fit(rows),
        "mahalanobis": Mahalanobis.fit(rows),
        "neighbours": Neighbours.fit(rows, largest=5_000, seed=seed),
    }
    return {name: detector.score for name, detector in single.items()} | {"pairs": Pairs(episodes).scores}


def first_alarm(scores: ArrayLike, threshold: float, patience: int) -> int | None:
    """The step, from 0, at which ``patience`` scores in a row have exceeded the threshold; None if never."""
    over = np.asarray(scores) > threshold
    if len(over) < patience:
        return None
    raised = np.lib.stride_tricks.sliding_window_view(over, patience).all(axis=1)
    return int(raised.argmax()) + patience - 1 if raised.any() else None


def alarm_run(
    seed: int, *, steps: int = TRAINING_STEPS, fitted: int = FITTED, calibrated: int = CALIBRATED, tested: int = TESTED
) -> list[dict[str, Any]]:
    """Train a policy, fit detectors on what it sees, calibrate alarms, and shift the world.

    Args:
        seed: Of training and of all episodes.
        steps: Environment steps of training.
        fitted: Episodes that detectors are fitted on.
        calibrated: Episodes that thresholds are calibrated on.
        tested: Episodes under each shift.
    Returns:
        A row per shift, detector and patience: ``alarmed`` (share of the episodes with an alarm; without a shift the
        rate of false alarms), ``delay`` (median step of the first alarm; 500 counts where there was none), ``failed``
        (share of the episodes in which the pole fell), ``unwarned`` (share that failed without an alarm half a second
        before) and ``length``.
    """
    agent = balancing_agent(seed, steps)
    scores_of = fitted_detectors(observed_episodes(agent, "none", fitted, 0, seed), seed)
    calibration = observed_episodes(agent, "none", calibrated, 1, seed)
    scored = {name: [scores(each) for each in calibration] for name, scores in scores_of.items()}
    rows = []
    for shift in SHIFTS:
        episodes = observed_episodes(agent, shift, tested, 2, seed)
        failed = np.array([len(each) <= 500 for each in episodes])
        for name, scores in scores_of.items():
            found = [scores(each) for each in episodes]
            for patience in PATIENCE:
                threshold = conformal_threshold([persistent_peak(s, patience) for s in scored[name]], FALSE_ALARMS)
                alarms = [first_alarm(each, threshold, patience) for each in found]
                warned = [a is not None and a <= len(e) - 1 - WARNING for a, e in zip(alarms, episodes)]
                rows.append(
                    {
                        "shift": shift,
                        "detector": name,
                        "patience": patience,
                        "alarmed": float(np.mean([alarm is not None for alarm in alarms])),
                        "delay": float(np.median([500 if alarm is None else alarm for alarm in alarms])),
                        "failed": float(failed.mean()),
                        "unwarned": float((failed & ~np.array(warned)).mean()),
                        "length": float(np.mean([len(each) - 1 for each in episodes])),
                    }
                )
    return rows


# A watchdog on SafeGrid

SAFE_GRID = "CA14/SafeGrid-v0"
MEAN_LIMIT, HARD_LIMIT = 0.6, 1.0  # of the mean episode, in training; of every episode, by the watchdog
SAFE_STEPS = 400_000
GUARDED_EPISODES = 500
WORLDS = {"as modelled": 0.0, "slips": 0.1}
WATCHDOGS = ("none", "reacts", "critic", "worst case", "fallback alone")
WATCHED = ["share", "cost", "violations", "worst_cost", "fallback", "hand_overs"]
_SETTINGS: dict[str, Any] = {  # those of the experiment on safe agents
    "discount": 1.0, "cost_discount": 1.0, "initial_cost_discount": 0.9, "learning_rate": 1e-3, "entropy_weight": 2.5,
    "final_entropy_weight": 0.02, "annealing": 0.95, "standardise": False, "clip": 0.1,
}  # fmt: skip


def grid_agent(name: str, seed: int, steps: int = SAFE_STEPS) -> OnPolicyAgent:
    """PPO, which knows no cost, or PPOLagrangian with a limit on the mean cost; the floor does not slip."""
    spaces = SafeGridVector(1, one_hot=True)
    arguments = spaces.single_observation_space, spaces.single_action_space
    agent: OnPolicyAgent
    if name == "PPO":
        agent = PPO(*arguments, PPOConfig(**_SETTINGS), seed=seed)
    elif name == "PPOLagrangian":
        config = PPOLagrangianConfig(
            cost_limits=(MEAN_LIMIT,), multiplier_learning_rate=15.0, max_multiplier=100.0, **_SETTINGS
        )
        agent = PPOLagrangian(*arguments, config, seed=seed)
    else:
        raise ValueError(f"agent must be PPO or PPOLagrangian, got {name!r}")
    train_on_policy(
        agent, SAFE_GRID, steps, environment_arguments={"one_hot": True, "restarts": 0.3}, num_envs=128,
        rollout_steps=50, seed=seed, progress=False,
    )  # fmt: skip
    return agent


class CheapestWay:
    """The fallback: the way to the goal that costs least on a floor that does not slip, and what it may still cost.

    Attributes:
        policy: ``[S, A]``, one-hot.
        worst: ``[H + 1, S, A]``, the most that an action and then the way cost, by steps left.
    """

    def __init__(self) -> None:
        self._grid = SafeGridVector(1, one_hot=True)
        model = self._grid.tabular_model()
        assert model.horizon is not None
        self.horizon = model.horizon
        price = model.cost[0] + 0.001  # among ways of one cost, the shortest
        value = np.where(model.terminal, 0.0, np.inf)
        for _ in range(model.num_states):
            ahead = price + value[model.transition.argmax(axis=2)]
            value = np.where(model.terminal, 0.0, ahead.min(axis=1))
        self.policy = np.eye(model.num_actions)[ahead.argmin(axis=1)]
        self.worst = worst_cost_of(model, self.policy, self.horizon)

    def _state(self, observation: ArrayLike) -> NDArray[np.intp]:
        return self._grid.state_index(np.asarray(observation))

    def act(self, observation: ArrayLike, *, deterministic: bool = True) -> NDArray[np.int64]:
        """The next step of the way."""
        return self.policy[self._state(observation)].argmax(axis=1)

    def cost_to_go(self, observation: NDArray, action: NDArray) -> NDArray[np.float64]:
        """What an action and then the way cost at most, ``[N]``."""
        left = np.rint(observation[:, -1].astype(np.float64) * self.horizon).astype(np.intp)
        return self.worst[left, self._state(observation), action]


def guarded(agent: OnPolicyAgent, watchdog: str, world: str, episodes: int, seed: int) -> dict[str, Any]:
    """Run single episodes of an agent's stochastic policy under a watchdog; under ``"fallback alone"`` it never acts.

    Returns:
        ``share`` (mean return between the uniform policy, 0, and the optimum without a limit, 1, on the floor that does
        not slip), ``cost`` (mean), ``violations`` (share of the episodes over the hard limit), ``worst_cost``,
        ``fallback`` (share of the steps) and ``hand_overs`` per episode.
    """
    fallback = CheapestWay()
    rules = {
        "none": lambda: None,
        "reacts": lambda: Watchdog(HARD_LIMIT),
        "critic": lambda: Watchdog(HARD_LIMIT, critic_cost(agent)),
        "worst case": lambda: Watchdog(HARD_LIMIT, fallback.cost_to_go),
        "fallback alone": lambda: Watchdog(HARD_LIMIT, lambda observation, action: np.full(len(action), np.inf)),
    }
    if watchdog not in rules or world not in WORLDS:
        raise ValueError(f"no watchdog {watchdog!r} or world {world!r}; there are {WATCHDOGS} and {tuple(WORLDS)}")
    layout: SafeGridLayout = replace(SAFE_GRID_LAYOUTS["original"], slip=WORLDS[world])
    grid = SafeGridVector(episodes, layout=layout, one_hot=True)
    monitor = RuntimeMonitor(agent, fallback, num_envs=episodes, watchdog=rules[watchdog]())
    first = int(np.random.SeedSequence([EVALUATION_STREAM, 3, seed]).generate_state(1)[0]) % 2**31
    observation, _ = grid.reset(seed=first)
    running, paid, total = np.ones(episodes, dtype=bool), np.zeros(episodes), np.zeros(episodes)
    steps = taken = handed = 0
    before = np.zeros(episodes, dtype=bool)
    while running.any():
        action = monitor.act(observation, deterministic=False)
        over = monitor.handed_over
        steps, taken = steps + int(running.sum()), taken + int((over & running).sum())
        handed += int((over & ~before & running).sum())
        observation, reward, terminated, truncated, info = grid.step(action)
        ended = terminated | truncated
        cost = step_cost(info, ended)
        assert cost is not None
        monitor.observe(cost[:, 0], ended)
        before = over & ~ended
        total += reward * running
        paid += cost[:, 0] * running
        running &= ~ended
    exact = _exact()
    span = exact.optimum - exact.reference  # type: ignore[operator]
    return {
        "share": float((total.mean() - exact.reference) / span),
        "cost": float(paid.mean()),
        "violations": float((paid > HARD_LIMIT + 1e-6).mean()),
        "worst_cost": float(paid.max()),
        "fallback": taken / steps,
        "hand_overs": handed / episodes,
    }


@cache
def _exact() -> ExactEvaluation:
    model = SafeGridVector(1, one_hot=True).tabular_model()
    return ExactEvaluation(model, discount=1.0, horizon=model.horizon)


def watchdog_run(
    agent: str, seed: int, *, steps: int = SAFE_STEPS, episodes: int = GUARDED_EPISODES
) -> list[dict[str, Any]]:
    """Train one agent and let it run under every watchdog in every world; a row each, see :func:`guarded`."""
    learner = grid_agent(agent, seed, steps)
    rows = []
    for world in WORLDS:
        for watchdog in WATCHDOGS:
            if watchdog == "critic" and not learner.num_costs:
                continue  # it has learned no cost
            rows.append({"world": world, "watchdog": watchdog} | guarded(learner, watchdog, world, episodes, seed))
    return rows


# The part


def deployment(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """``deployment_export``, ``deployment_exportable``, ``deployment_alarm``, ``deployment_watchdog``, and their runs.

    Programs are made with two seeds whatever the number of seeds: only their weights differ.
    """
    export_grid: dict[str, list[Any]] = {"agent": EXPORTED}
    alarm_grid: dict[str, list[Any]] = {}
    watchdog_grid: dict[str, list[Any]] = {"agent": ["PPO", "PPOLagrangian"]}
    if quick:
        export_grid = {"agent": ["DQN", "SAC", "MAPPO"], "decisions": [200]}
        alarm_grid = {"steps": [8_192], "fitted": [20], "calibrated": [19], "tested": [20]}
        watchdog_grid |= {"steps": [25_600], "episodes": [50]}
    exports = _runs(sweeps(export_run, export_grid, seeds=EXPORT_SEEDS), export_grid)
    alarms = _runs(sweeps(alarm_run, alarm_grid), alarm_grid)
    watched = _runs(sweeps(watchdog_run, watchdog_grid), watchdog_grid)
    groups = exports.groupby(["agent", "task", "form"], sort=False)
    export_table = groups[["parameters", "kilobytes", "parity", "p50", "p99", "max", "cpu_p99"]].max().reset_index()
    export_table["agrees"] = np.where(export_table["parity"] <= TOLERANCE, "yes", "no")
    return {
        "deployment_export": export_table,
        "deployment_exportable": exportable_agents(),
        "deployment_alarm": interval_table(
            alarms, ["shift", "detector", "patience"], ["alarmed", "delay", "failed", "unwarned", "length"]
        ),
        "deployment_alarm_runs": alarms,
        "deployment_watchdog": interval_table(watched, ["agent", "world", "watchdog"], WATCHED),
        "deployment_watchdog_runs": watched,
    }


def _runs(runs: pd.DataFrame, grid: dict[str, list[Any]]) -> pd.DataFrame:
    return finished(runs).drop(columns=["seconds", *(grid.keys() - {"agent"})], errors="ignore")
