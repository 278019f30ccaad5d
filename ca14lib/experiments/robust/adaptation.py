"""A few episodes of a target at the edge of what was randomised: go on training, or find its parameters first.

Book: robust/domain_adaptation. The target is a cart-pole that a policy trained over wide ranges cannot balance and
one trained on it can. All trainings but the further ones on the target have the same number of steps.
"""

import copy
import time
from typing import Any

import numpy as np
import pandas as pd
import torch

from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.agents.robust.domain_posterior import DomainPosterior
from ca14lib.data import Rollout
from ca14lib.environments.domains import CartPoleDomainVector, Range, Ranges
from ca14lib.evaluation.rollouts import RolloutEvaluation
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.training.on_policy import train_on_policy
from ca14lib.training.vector import successors

TASK = "CA14/CartPoleDomain-v0"
WIDE: dict[str, Range] = {"length": (0.1, 1.5), "pole_mass": (0.05, 0.5), "gain": (0.3, 2.5), "delay": (0, 4)}
# chosen with the seeds 100 and 101: a short pole that a strong motor pushes 0.04 s late
TARGET: dict[str, float] = {"length": 0.2, "pole_mass": 0.3, "gain": 1.5, "delay": 2}
EPISODES = (1, 5, 20)  # K
DEVIATION = 0.1  # of what is measured after a step, in m, m/s, rad and rad/s
CANDIDATES, LEVEL = 500, 0.9
EPISODES_PER_UPDATE = 5  # of training on the target
STEPS = 600_000
TESTED = 200  # held starts

# chosen with seeds from 100 on
LOOP: dict[str, Any] = {"num_envs": 64, "rollout_steps": 64}
SETTINGS: dict[str, Any] = {"learning_rate": 1e-3, "learning_rate_decay": 0.98, "epochs": 5, "minibatches": 4}


def fresh_agent(seed: int) -> PPO:
    """An agent for the cart-pole that has learned nothing."""
    spaces = CartPoleDomainVector(1)
    return PPO(spaces.single_observation_space, spaces.single_action_space, PPOConfig(**SETTINGS), seed=seed)


def trained_balancer(ranges: Ranges, seed: int, *, steps: int = STEPS) -> PPO:
    """PPO over domains drawn from ranges; a number fixes a parameter, and without ranges all are nominal."""
    agent = fresh_agent(seed)
    arguments = {"ranges": dict(ranges)}
    train_on_policy(agent, TASK, steps, environment_arguments=arguments, seed=seed, progress=False, **LOOP)
    return agent


def target_rollout(agent: PPO, episodes: int, seed: int) -> Rollout:
    """Whole episodes of the target by the agent's drawn actions, one after the other in one column.

    Args:
        agent: Who acts.
        episodes: How many, each in a copy of its own, and none of them again.
        seed: Of their starts.
    Returns:
        ``[T, 1]`` with T the steps of all episodes together.
    """
    environment = CartPoleDomainVector(episodes, ranges=TARGET)
    observation, _ = environment.reset(seed=seed)
    running, columns = np.ones(episodes, dtype=bool), []
    while running.any():
        action, log_prob = agent.sample(observation)
        following, reward, terminated, truncated, info = environment.step(agent.executed(action))
        ended = terminated | truncated
        after = successors(following, ended, info)
        row = observation, action.numpy(), log_prob.numpy(), reward, after, terminated, truncated, running.copy()
        columns.append(row)
        observation, running = following, running & ~ended
    *steps, counted = (np.stack(column, axis=1) for column in zip(*columns))  # [episodes, T, …]
    names = ("observation", "action", "log_prob", "reward", "next_observation", "terminated", "truncated")
    tensors = {name: torch.as_tensor(values[counted])[:, None] for name, values in zip(names, steps)}
    tensors["reward"] = tensors["reward"].float()
    lengths = torch.as_tensor(counted.sum(axis=1)).float()
    cost, paid = torch.zeros(*tensors["reward"].shape, 0), torch.zeros(episodes, 0)
    return Rollout(**tensors, cost=cost, episode_return=lengths, episode_cost=paid, episode_length=lengths)


def trained_further(agent: PPO, episodes: int, seed: int) -> PPO:
    """A copy of the agent after some more episodes, all on the target; the agent itself stays as it is.

    Args:
        agent: Where training goes on from, optimisers included; the learning rate begins anew.
        episodes: In groups of ``EPISODES_PER_UPDATE``, an update after each.
        seed: Of their starts.
    """
    learner = copy.deepcopy(agent)
    learner.updates = 0  # at a rate that has decayed to a twentieth nothing would move
    for first in range(0, episodes, EPISODES_PER_UPDATE):
        group = min(EPISODES_PER_UPDATE, episodes - first)
        learner.update(target_rollout(learner, group, 1_000 * seed + first))
    return learner


def measured(rollout: Rollout, seed: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Its episodes as a posterior takes them: what followed every step is measured with noise.

    Returns:
        Of every episode, observations ``[T, 4]``, actions ``[T]`` and noisy next observations ``[T, 4]``.
    """
    rng = np.random.default_rng(seed)
    before, action, after = (rollout.flat(name).numpy() for name in ("observation", "action", "next_observation"))
    after = after + DEVIATION * rng.standard_normal(after.shape)
    cuts = np.flatnonzero(rollout.last_of_path()[:, 0].numpy())[:-1] + 1
    return list(zip(*(np.split(column, cuts) for column in (before, action, after)), strict=True))


def adaptation_run(
    seed: int, *, steps: int = STEPS, counts: tuple[int, ...] = EPISODES, candidates: int = CANDIDATES,
    tested: int = TESTED,
) -> list[dict[str, Any]]:  # fmt: skip
    """Train all agents of one seed and test them on the target.

    Args:
        seed: Of agents, environments, episodes of the target, noise and candidates.
        steps: Environment steps of each training.
        counts: Numbers K of episodes of the target, rising.
        candidates: Of the posterior.
        tested: Held starts.
    Returns:
        Rows with ``parameter`` empty, one per agent and K: ``agent``, ``episodes``, ``return`` with the best actions
        from held starts, ``share`` of the oracle's, and ``training_seconds`` of processor time, the posterior's
        included. Then, for every K and parameter, ``true``, ``mean``, ``low``, ``high`` and ``width`` of the credible
        range that was trained on, ``covered`` (1 if the truth lies in it), and ``target_steps`` observed.
    """
    evaluation = RolloutEvaluation(TASK, tested, environment_arguments={"ranges": TARGET})
    rows: list[dict[str, Any]] = []

    def test(name: str, count: int, agent: PPO, begun: float) -> None:
        spent = time.process_time() - begun
        rows.append({"parameter": "", "agent": name, "episodes": count, "return": evaluation(agent)["return"],
                     "training_seconds": spent})  # fmt: skip

    trained = {}
    worlds: dict[str, Ranges] = {"target": TARGET, "nominal": {}, "wide": WIDE}
    for name, drawn in worlds.items():
        begun = time.process_time()
        trained[name] = trained_balancer(drawn, seed, steps=steps)
        test(name, 0, trained[name], begun)
    for count in counts:
        begun = time.process_time()
        test("further", count, trained_further(trained["wide"], count, seed), begun)
    seen = measured(target_rollout(trained["wide"], max(counts), seed), seed)
    posterior = DomainPosterior(CartPoleDomainVector, WIDE, DEVIATION, candidates, seed=seed)
    found: list[dict[str, Any]] = []
    for before, count in zip((0, *counts), counts):
        begun = time.process_time()
        for episode in seen[before:count]:
            posterior.observe(*episode)
        posterior.refine()
        ranges, mean = posterior.credible_ranges(LEVEL), posterior.mean()
        test("posterior", count, trained_balancer(ranges, seed, steps=steps), begun)
        for name, (low, high) in ranges.items():
            found.append({
                "parameter": name, "agent": "posterior", "episodes": count, "true": TARGET[name], "mean": mean[name],
                "low": low, "high": high, "width": high - low, "covered": float(low <= TARGET[name] <= high),
                "target_steps": sum(len(action) for _, action, _ in seen[:count]),
            })  # fmt: skip
    for row in rows:
        row["share"] = row["return"] / rows[0]["return"]
    return rows + found


def adaptation_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """``robust_adaptation`` with ``_posterior`` and ``_runs``."""
    grid: dict[str, list[Any]] = {"steps": [STEPS]}
    if quick:
        grid = {"steps": [40_000], "counts": [(1, 5)], "candidates": [200], "tested": [50]}
    runs = finished(sweeps(adaptation_run, grid)).drop(
        columns=["steps", "counts", "candidates", "tested"], errors="ignore"
    )
    tests, found = runs[runs.parameter == ""], runs[runs.parameter != ""]
    beliefs = interval_table(found, ["episodes", "parameter"], ["mean", "low", "high", "width", "target_steps"])
    groups = found.groupby(["episodes", "parameter"], sort=False)
    beliefs["true"], beliefs["covered"] = groups["true"].first().to_numpy(), groups["covered"].mean().to_numpy()
    name = "robust_adaptation"
    return {
        name: interval_table(tests, ["agent", "episodes"], ["return", "share", "training_seconds"]),
        f"{name}_posterior": beliefs,
        f"{name}_runs": runs.drop(columns="seconds"),
    }
