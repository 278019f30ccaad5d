"""Hopper with a speed limit: safe agents beside the figures that OmniSafe published. Book: safe/environments."""

from dataclasses import asdict, dataclass
from typing import Any

import gymnasium as gym
import pandas as pd

from ca14lib.agents.on_policy import OnPolicyAgent, OnPolicyConfig
from ca14lib.agents.safe.pid_lagrangian import PIDLagrangian, PIDLagrangianConfig
from ca14lib.data import Normalizer
from ca14lib.evaluation.rollouts import RolloutEvaluation
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table
from ca14lib.training.collect import collect
from ca14lib.training.on_policy import train_on_policy

TASK = "CA14/HopperVelocity-v0"
LIMIT = 25.0  # the usual budget: steps above the speed limit in an episode of 1,000
AIMED = 10.0  # what the agents are given: the cost swings about what it is held at, by some 15 at 20
STEPS, NUM_ENVS, ROLLOUT_STEPS = 1_000_000, 8, 256
EVALUATION_EPISODES = 50
NORMALIZER_EPISODES, NORMALIZER_FLOOR = 200, 0.1  # of random actions; added to each standard deviation


@dataclass(frozen=True)
class Published:
    """Return and cost of an agent of OmniSafe on SafetyHopperVelocity-v1 with the limit 25: mean and deviation.

    Source: the OmniSafe team's on-policy benchmark (Ji et al., 2024), ``benchmarks/on-policy/README.md`` at commit
    15603dd: evaluations after 10 million steps in its table 2. At 1 million steps it shows curves only (figures 1.1 and
    2.1, at commit 3799d6d's parent): those rows are the training curves' means over their last tenth, as read off the
    pictures, good to about 20 of return and 1 of cost, without a deviation.
    """

    agent: str
    steps: int
    return_mean: float
    return_std: float | None
    cost_mean: float
    cost_std: float | None


PUBLISHED = (
    Published("PPOLag", 1_000_000, 1585.0, None, 26.0, None),
    Published("CPO", 1_000_000, 1399.0, None, 30.0, None),
    Published("PPOLag", 10_000_000, 961.92, 752.87, 13.96, 19.33),
    Published("CPO", 10_000_000, 1713.71, 18.26, 13.40, 5.82),
    Published("CPPOPID", 10_000_000, 1713.29, 10.21, 8.96, 4.28),
)

# chosen on seeds 100 to 106, after runs with the seeds 0 to 3 under other settings: half the return, or, with these but
# a constant learning rate, costs of 2, 38, 12 and 8; the rate ends at a twentieth
VELOCITY_AGENTS: dict[str, tuple[type[OnPolicyAgent], OnPolicyConfig]] = {
    "PIDLagrangian": (
        PIDLagrangian,
        # above a multiplier of 2 a beginner's steps do not pay for what they cost, and falling ends the costs: so the
        # integral is slow, and the proportional part, hardly smoothed, gives way as soon as the cost falls
        PIDLagrangianConfig(
            cost_limits=(AIMED,), discount=0.995, gae_lambda=0.97, cost_discount=0.99, minibatches=32, epochs=10,
            learning_rate_decay=0.9939, max_kl=0.03, initial_multiplier=1.0, proportional=0.03, integral=0.0005,
            derivative=0.0, smoothing=0.5, max_multiplier=4.0,
        ),
    ),
}  # fmt: skip


def observation_normalizer(seed: int, episodes: int = NORMALIZER_EPISODES) -> Normalizer:
    """Fitted on episodes of random actions; the floor leaves room for what a random agent never sees."""
    data = collect(TASK, "random", episodes, seed=seed)
    return Normalizer.fit(data.transitions.observation, NORMALIZER_FLOOR)


def velocity_run(
    agent: str,
    seed: int,
    *,
    steps: int = STEPS,
    episodes: int = EVALUATION_EPISODES,
    normalizer_episodes: int = NORMALIZER_EPISODES,
) -> dict[str, float]:
    """Train one agent on Hopper with the speed limit and evaluate its last policy on fresh episodes.

    Args:
        agent: Key of ``VELOCITY_AGENTS``.
        seed: Seeds the normaliser's data, agent, training and evaluation.
        steps: Environment steps, rounded up to whole rollouts of 2,048.
        episodes: Fresh episodes of at most 1,000 steps for each of the two evaluations.
        normalizer_episodes: Episodes of random actions that the normaliser is fitted on.
    Returns:
        ``steps`` of training; ``return``, ``cost`` and ``length`` of the stochastic policy, which is the one that the
        limit was set for; ``within``, 1.0 if that cost is at most 25; ``greedy_return`` and ``greedy_cost`` of its mean
        action; ``training_cost``, all steps of training above the speed limit.
    Raises:
        ValueError: If the agent is unknown.
    """
    if agent not in VELOCITY_AGENTS:
        raise ValueError(f"agent must be one of {', '.join(VELOCITY_AGENTS)}, got {agent!r}")
    agent_class, config = VELOCITY_AGENTS[agent]
    environment = gym.make(TASK)
    learner = agent_class(
        environment.observation_space, environment.action_space, config,
        normalizer=observation_normalizer(seed, normalizer_episodes), seed=seed,
    )  # fmt: skip
    environment.close()
    history = train_on_policy(
        learner, TASK, steps, num_envs=NUM_ENVS, rollout_steps=ROLLOUT_STEPS, seed=seed, progress=False
    )
    found, greedy = (
        RolloutEvaluation(TASK, episodes, seed, deterministic=deterministic)(learner) for deterministic in (False, True)
    )
    iteration = NUM_ENVS * ROLLOUT_STEPS
    return {
        "steps": -(-steps // iteration) * iteration,
        "return": found["return"],
        "cost": found["cost_0"],
        "length": found["length"],
        "within": float(found["cost_0"] <= LIMIT),
        "greedy_return": greedy["return"],
        "greedy_cost": greedy["cost_0"],
        "training_cost": history.last("total_cost_0"),
    }


def published_table() -> pd.DataFrame:
    """:data:`PUBLISHED` as a table."""
    return pd.DataFrame([asdict(row) for row in PUBLISHED])


def velocity_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """The tables ``safe_velocity``, ``safe_velocity_runs`` and ``safe_velocity_published``."""
    grid: dict[str, list[Any]] = {"agent": list(VELOCITY_AGENTS)}
    if quick:
        grid |= {"steps": [8_192], "episodes": [5], "normalizer_episodes": [20]}
    runs = finished(sweeps(velocity_run, grid)).drop(columns="seconds")
    table = interval_table(runs, ["agent"], ["return", "cost", "greedy_return", "greedy_cost"])
    groups = runs.groupby("agent", sort=False)
    table.insert(0, "task", "HopperVelocity")
    table.insert(2, "steps", groups["steps"].first().to_numpy())
    table["cost_max"] = groups["cost"].max().to_numpy()
    table["within"] = groups["within"].mean().to_numpy()
    return {"safe_velocity": table, "safe_velocity_runs": runs, "safe_velocity_published": published_table()}
