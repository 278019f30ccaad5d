"""SafeCliff by return distributions: what risk-sensitive choice gains, and how right the learned distributions are.

Book: robust/distributional. Returns are undiscounted, and ``TAIL`` is the mass of the lower tail. All agents learn from
walks on which both ways are tried, so that what differs is what they make of them and not where they went.
"""

from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from ca14lib.agents.robust.c51 import C51, C51Config
from ca14lib.agents.robust.iqn import IQN, IQNConfig
from ca14lib.agents.robust.qr_dqn import QRDQN, QRDQNConfig
from ca14lib.agents.robust.risk_choice import DistributionalAgent, DistributionalConfig, RiskChoice
from ca14lib.data import OfflineDataset
from ca14lib.environments import SafeCliff, SafeCliffVector, TabularModel
from ca14lib.evaluation.risk import RiskEvaluation
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interval_table, iqm_interval
from ca14lib.metrics.risk import conditional_value_at_risk, risk_interval
from ca14lib.solvers import CVaROptimum, cvar_optimum, policy_return_distribution
from ca14lib.training.collect import collect
from ca14lib.training.history import History
from ca14lib.training.offline import train_offline

Array = NDArray[np.float64]

SAFE_CLIFF = "CA14/SafeCliff-v0"
TAIL = 0.1  # share of the worst episodes
ARGUMENTS: dict[str, Any] = {"one_hot": True}
EPISODES = 1_000  # of the Monte Carlo estimate
WALKS, UNIFORM = 8_000, 0.3  # episodes of the data, and share of uniform actions in them
UPDATES, BATCH = 6_000, 256
SETTLING = 3  # the last third of the updates has a tenth of the step size, so that the quantiles come to rest
CHOICES: dict[str, dict[str, Any]] = {
    "mean": {"risk": "mean"},
    "cvar": {"risk": "cvar", "risk_parameter": TAIL},
    "cvar, mean in the target": {"risk": "cvar", "risk_parameter": TAIL, "risk_in_target": False},
}

# settings were chosen with seeds from 100 on; the tables report seeds 0, 1, …
_SHARED: dict[str, Any] = {
    "hidden_sizes": (64, 64), "discount": 1.0, "learning_rate": 2e-3, "target_rate": 0.01,
}  # fmt: skip
DISTRIBUTIONAL_AGENTS: dict[str, tuple[type[DistributionalAgent], DistributionalConfig]] = {
    "QRDQN": (QRDQN, QRDQNConfig(**_SHARED, num_quantiles=50, kappa=1.0)),
    "IQN": (IQN, IQNConfig(**_SHARED, num_fractions=16, num_target_fractions=16, num_cosines=32, kappa=1.0)),
    "C51": (C51, C51Config(**_SHARED, num_atoms=101, value_min=-80.0, value_max=20.0)),
}


@cache
def safe_cliff_model() -> TabularModel:
    """The exact model; its agents see the cell as a one-hot vector and the share of the time that is left."""
    return SafeCliffVector(1, one_hot=True).tabular_model()


@cache
def static_optimum() -> CVaROptimum:
    """The largest mean of the worst tenth of returns, among all policies that may remember everything."""
    return cvar_optimum(safe_cliff_model(), TAIL)


@cache
def safe_cliff_evaluation() -> RiskEvaluation:
    """Exact mean and CVaR of a policy's return."""
    return RiskEvaluation(safe_cliff_model(), TAIL, optimum=static_optimum().value)


def stepwise_policy(model: TabularModel, risk: RiskChoice) -> Array:
    """The policy that maximises a functional of the remaining return at every step, given that it does so later.

    What :class:`QRDQN` with this choice converges to if its quantiles are exact (book eq. risk-choice-stepwise): a
    backward pass over exact distributions of the undiscounted return.

    Args:
        model: A problem with a horizon whose rewards are whole numbers.
        risk: The functional.
    Returns:
        One-hot probabilities ``[H, S, A]``; of equally good actions the first.
    Raises:
        ValueError: If there is no horizon or a reward is no whole number.
    """
    if model.horizon is None:
        raise ValueError("model must have a horizon, got None")
    reward = np.broadcast_to(
        model.reward if model.reward.ndim == 3 else model.reward[..., None], model.transition.shape
    )
    if (reward != np.rint(reward)).any():
        raise ValueError(f"rewards must be whole numbers, got {reward[reward != np.rint(reward)][0]}")
    least, most = (model.horizon * int(bound) for bound in (min(reward.min(), 0), max(reward.max(), 0)))
    values = torch.arange(least, most + 1, dtype=torch.float64)
    after = np.zeros((model.num_states, len(values)))
    after[:, -least] = 1.0
    edges = np.argwhere((model.transition > 0) & ~model.terminal[:, None, None])
    policy = np.zeros((model.horizon, model.num_states, model.num_actions))
    for step in reversed(range(model.horizon)):
        law = np.zeros((model.num_states, model.num_actions, len(values)))
        law[model.terminal, :, -least] = 1.0
        for state, action, successor in edges:
            moved = np.roll(after[successor], int(reward[state, action, successor]))
            law[state, action] += model.transition[state, action, successor] * moved
        scores = risk(values.expand(law.shape), torch.as_tensor(law)).numpy()
        if model.action_mask is not None:
            scores = np.where(model.action_mask, scores, -np.inf)
        best = scores.argmax(axis=1)
        policy[step] = np.eye(model.num_actions)[best]
        after = law[np.arange(model.num_states), best]
    return policy


def wasserstein(x: Array, p: Array, y: Array, q: Array) -> float:
    """Wasserstein-1 distance of two distributions with atoms x, y and probabilities p, q (book eq. qrdqn-wasserstein).

    Args:
        x: ``[N]``.
        p: ``[N]``.
        y: ``[M]``.
        q: ``[M]``.
    """
    points = np.sort(np.concatenate([x, y]))
    below = [
        np.concatenate([[0.0], np.cumsum(weight[order])])[np.searchsorted(atoms[order], points, side="right")]
        for atoms, weight, order in ((x, p, np.argsort(x)), (y, q, np.argsort(y)))
    ]
    return float((abs(below[0] - below[1])[:-1] * np.diff(points)).sum())


def walks(seed: int, episodes: int | None = None) -> OfflineDataset:
    """Episodes that take the ledge or the detour alike, with a share of uniform actions.

    Args:
        seed: Of environments and actions.
        episodes: Their number; None for ``WALKS``.
    """
    vector = SafeCliffVector(1, **ARGUMENTS)
    plain = vector.behaviours()
    x, y = np.divmod(np.arange(vector.width * vector.height), vector.height)
    table = np.where((y >= 2)[:, None], plain["detour"], plain["ledge"])
    platform = (x == 2) & (y == 1)
    table[platform] = (plain["detour"] + plain["ledge"])[platform] / 2
    reached = ((1 - UNIFORM) * table + UNIFORM * plain["random"]).cumsum(axis=1)
    draws = np.random.default_rng([seed, 0])

    def behaviour(seen: NDArray) -> NDArray[np.intp]:
        return (draws.random((len(seen), 1)) >= reached[vector.state_index(seen), :-1]).sum(axis=1)

    return collect(SafeCliff(**ARGUMENTS), behaviour, WALKS if episodes is None else episodes, seed=seed)


def distributional_training(
    agent: str, choice: str, seed: int, *, updates: int | None = None, evaluate_every: int | None = None
) -> tuple[DistributionalAgent, History]:
    """Train one agent on walks of SafeCliff.

    Args:
        agent: Key of ``DISTRIBUTIONAL_AGENTS``.
        choice: Key of ``CHOICES``.
        seed: Of agent and data.
        updates: Gradient updates; None for ``UPDATES``.
        evaluate_every: Updates between exact evaluations; None for the end only.
    """
    agent_class, config = DISTRIBUTIONAL_AGENTS[agent]
    data = walks(seed)
    learner = agent_class(data.observation_space, data.action_space, replace(config, **CHOICES[choice]), seed=seed)
    updates = UPDATES if updates is None else updates
    settling = updates // SETTLING
    fit = partial(
        train_offline, learner, data, batch_size=BATCH, evaluate=safe_cliff_evaluation(),
        evaluate_every=evaluate_every, progress=False,
    )  # fmt: skip
    history = fit(updates - settling, seed=seed)
    if settling:
        learner.optimizers["q"].param_groups[0]["lr"] = config.learning_rate / 10
        for step, metric, value in fit(settling, seed=seed + 1).rows:
            history.add(updates - settling + step, {metric: value})
    return learner, history


def learned_at_start(learner: DistributionalAgent) -> tuple[Array, Array]:
    """Atoms and probabilities of the return that the agent expects of its best action at the start."""
    model = safe_cliff_model()
    start = model.timed_observation(0)[[int(model.initial.argmax())]].astype(np.float32)
    values, probabilities = learner.return_distribution(start)
    best = int(learner.act(start, deterministic=True)[0])
    return values[0, best], probabilities[0, best]


def distributional_run(agent: str, choice: str, seed: int, *, updates: int | None = None) -> dict[str, float]:
    """Train one agent and compare policy and distribution with exact ones.

    Args:
        agent: Key of ``DISTRIBUTIONAL_AGENTS``.
        choice: Key of ``CHOICES``.
        seed: Of agent, data and Monte Carlo episodes.
        updates: Gradient updates; None for ``UPDATES``.
    Returns:
        Exact ``return`` and ``cvar`` of the greedy policy; ``acting_cvar``, the exact CVaR of the same networks when
        they choose by CVaR, whatever they learned with; mean and CVaR that the agent expects at the start,
        ``learned_return`` and ``learned_cvar``; ``wasserstein``, the distance of its distribution there from the exact
        one; and ``monte_carlo``, ``monte_carlo_low``, ``monte_carlo_high``, the CVaR of ``EPISODES`` returns with its
        95% interval, and ``agrees``, 1 if ``learned_cvar`` lies within it.
    """
    learner, _ = distributional_training(agent, choice, seed, updates=updates)
    evaluation = safe_cliff_evaluation()
    values, probabilities = evaluation.distribution(learner)
    exact = evaluation.of_distribution(values, probabilities)
    acting = evaluation(learner.with_risk("cvar", TAIL))
    atoms, weights = learned_at_start(learner)
    cvar = -conditional_value_at_risk(-atoms, 1 - TAIL, weights)
    episodes = collect(SafeCliff(**ARGUMENTS), partial(learner.act, deterministic=True), EPISODES, seed=seed)
    sampled = risk_interval(-episodes.episode_returns(), "conditional_value_at_risk", 1 - TAIL, seed=seed)
    return {
        "return": exact["exact_return"], "cvar": exact["exact_cvar"], "acting_cvar": acting["exact_cvar"],
        "learned_return": float(atoms @ weights), "learned_cvar": cvar,
        "wasserstein": wasserstein(atoms, weights, values, probabilities),
        "monte_carlo": -sampled.estimate, "monte_carlo_low": -sampled.high, "monte_carlo_high": -sampled.low,
        "agrees": float(-sampled.high <= cvar <= -sampled.low),
    }  # fmt: skip


def distributional_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Intervals over seeds, one row per agent and choice, with the number of seeds whose CVaR agrees."""
    by = ["agent", "choice"]
    table = interval_table(runs, by, ["cvar", "return", "acting_cvar", "learned_cvar", "learned_return", "wasserstein"])
    table["agrees"] = [int(group["agrees"].sum()) for _, group in runs.groupby(by, sort=False)]
    return table


def gain_table(runs: pd.DataFrame) -> pd.DataFrame:
    """What choice by CVaR adds to exact CVaR and takes from the mean, seed by seed, with intervals over seeds."""
    rows = []
    for agent, group in runs.groupby("agent", sort=False):
        wide = group.pivot(index="seed", columns="choice", values=["cvar", "return"])
        row: dict[str, Any] = {"agent": agent, "seeds": len(wide)}
        for column in ("cvar", "return"):
            gain = iqm_interval((wide[column]["cvar"] - wide[column]["mean"]).to_numpy())
            row |= {
                f"{column}_gain_iqm": gain.estimate,
                f"{column}_gain_low": gain.low,
                f"{column}_gain_high": gain.high,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def distributional_yardsticks() -> pd.DataFrame:
    """Exact mean and CVaR of three policies: best mean, CVaR chosen anew at every step, and the static optimum."""
    model, optimum, evaluation = safe_cliff_model(), static_optimum(), safe_cliff_evaluation()
    rows = [{"policy": "static CVaR optimum", "return": optimum.expected_return, "cvar": optimum.value}]
    for name, risk in (("CVaR at every step", RiskChoice("cvar", TAIL)), ("mean", RiskChoice())):
        values = evaluation.of_distribution(*policy_return_distribution(model, stepwise_policy(model, risk)))
        rows.append({"policy": name, "return": values["exact_return"], "cvar": values["exact_cvar"]})
    return pd.DataFrame(rows)


def distributional_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """Choice by mean and by CVaR: ``robust_distributional`` with ``_gain``, ``_runs`` and ``_yardsticks``."""
    grid: dict[str, list[Any]] = {"agent": list(DISTRIBUTIONAL_AGENTS), "choice": list(CHOICES)}
    if quick:
        grid = {"agent": ["QRDQN"], "choice": ["mean", "cvar"], "updates": [UPDATES // 4]}
    runs = finished(sweeps(distributional_run, grid))
    name = "robust_distributional"
    return {
        name: distributional_table(runs), f"{name}_gain": gain_table(runs),
        f"{name}_runs": runs.drop(columns="seconds"), f"{name}_yardsticks": distributional_yardsticks(),
    }  # fmt: skip
