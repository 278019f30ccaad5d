"""Credit where everything can be enumerated: n workers decide whether to lift. Book: multi_agent/credit.

A load is moved by those who lift together. With k of n workers lifting the team earns what each of them lifts alone,
less the effort, k times −1/2, and what comes from lifting together, :math:`k (k-1) / (n-1)`. Lifting alone is a loss,
and lifting all together the optimum; from an even start the gradient leads there. How noisy an estimate of that
gradient is depends on what each worker is told.
"""

import functools
import itertools
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.agents.multi_agent.coma import COMA, COMAConfig
from ca14lib.environments import MatrixGame
from ca14lib.environments.matrix_games import team_game
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.credit import (
    counterfactual_signal,
    difference_signal,
    gradient_moments,
    minus_own_mean,
    own_critic_signal,
)
from ca14lib.metrics.intervals import interval_table
from ca14lib.training.multi_agent import TeamCollector

Array = NDArray[np.float64]
ALONE, TOGETHER = -0.5, 1.0  # of one who lifts; of all pairs together, when everybody lifts
AGENTS = (2, 4, 8, 16)
NOW = (0.5, 0.8)  # probabilities of lifting at which the estimators are compared: at the start, and later
BEFORE = 0.5  # of the policies that collected the old experience
UPDATES, RATE = 100, 0.5  # of the learners without networks: one joint action each, step size on the logits
CRITIC_UPDATES, CRITIC_COPIES, CRITIC_RATE = 40, 8, 2e-2  # of those with networks: copies of the game per update

SIGNALS = (
    "team reward", "value baseline", "difference reward", "counterfactual baseline", "own critic",
    "own critic, old experience",
)  # fmt: skip
REINFORCE = SIGNALS[:4]
CRITICS = {"COMA, own critics": False, "COMA, central critic": True}


def lifting_payoff(lifting: Array) -> Array:
    """The team's expected payoff when workers lift independently with probabilities ``[…, n]`` (0 and 1 for actions).

    Exact: what comes from lifting together is a sum over pairs.
    """
    total = lifting.sum(axis=-1)
    pairs = total**2 - (lifting**2).sum(axis=-1)
    return ALONE * total + TOGETHER * pairs / (lifting.shape[-1] - 1)


def lifting_optimum(agents: int) -> float:
    """All lift."""
    return (ALONE + TOGETHER) * agents


@functools.cache
def lifting_table(agents: int) -> Array:
    """The team's payoff of every joint action, ``[2, …, 2]``."""
    return lifting_payoff(np.moveaxis(np.indices((2,) * agents), 0, -1).astype(float))


def signal_table(name: str, agents: int, policies: Array) -> Array:
    """What each worker learns from, for every joint action: ``[n, 2, …, 2]``.

    Args:
        name: One of :data:`SIGNALS`.
        agents: n.
        policies: ``[n, 2]``, those that learn.
    """
    team = lifting_table(agents)
    if name == "team reward":
        return np.broadcast_to(team, (agents, *team.shape))
    if name == "value baseline":
        return np.broadcast_to(team - lifting_payoff(policies[:, 1]), (agents, *team.shape))
    if name == "difference reward":
        return difference_signal(team, 0)
    if name == "counterfactual baseline":
        return counterfactual_signal(team, policies)
    told = policies if name == "own critic" else constant_policies(agents, BEFORE)
    # the worth of the own action, with its mean under the policy of now as the baseline
    return minus_own_mean(own_critic_signal(team, told), policies)


def constant_policies(agents: int, lifting: float) -> Array:
    """Everybody lifts with the same probability, ``[n, 2]``."""
    return np.tile([1 - lifting, lifting], (agents, 1))


def estimator_table(agents: tuple[int, ...] = AGENTS) -> pd.DataFrame:
    """Exact variance and bias of every estimator from one joint action, where all lift with the same probability.

    Returns:
        Columns ``estimator``, ``agents``, ``lifting`` (that probability), ``gradient`` (true derivative in a worker's
        logit of lifting), ``variance`` (of the estimate of it), ``bias`` (of its mean), ``samples`` (joint actions that
        bring the deviation of their mean down to the size of the derivative itself).
    """
    rows = []
    for count, lifting in itertools.product(agents, NOW):
        policies = constant_policies(count, lifting)
        truth = gradient_moments(signal_table("team reward", count, policies), policies).mean[0, 1]
        for name in SIGNALS:
            moments = gradient_moments(signal_table(name, count, policies), policies)
            variance = moments.variance[0] / 2  # the two logits of a worker vary alike
            bias = moments.mean[0, 1] - truth
            rows.append({
                "estimator": name, "agents": count, "lifting": lifting, "gradient": truth,
                "variance": max(variance, 0.0), "bias": 0.0 if abs(bias) < 1e-12 else bias,
                "samples": max(variance, 0.0) / truth**2,
            })  # fmt: skip
    return pd.DataFrame(rows)


def drawn_signals(name: str, lifts: Array, lifting: Array) -> Array:
    """The signals ``[B, n]`` of drawn actions ``[B, n]`` under policies ``[n]``, without enumerating anything."""
    agents = lifts.shape[-1]
    reward = lifting_payoff(lifts)[:, None]
    if name == "team reward":
        return np.broadcast_to(reward, lifts.shape)
    if name == "value baseline":
        return np.broadcast_to(reward - lifting_payoff(lifting), lifts.shape)
    others = lifts.sum(axis=-1, keepdims=True) - lifts
    contribution = ALONE + 2 * TOGETHER * others / (agents - 1)  # of lifting over not lifting
    return (lifts if name == "difference reward" else lifts - lifting) * contribution


def reinforce(name: str, agents: int, seed: int, *, updates: int | None = None) -> Array:
    """Shares of the optimum before the first and after every update of plain policy gradients, ``[updates + 1]``.

    All signals have the same mean gradient, and all learners the same step size: what differs is the noise.

    Args:
        name: One of :data:`REINFORCE`.
        agents: n.
        seed: Fixes the draws.
        updates: Steps, of one joint action each; None for :data:`UPDATES`.
    """
    rng = np.random.default_rng(seed)
    logits, shares = np.zeros(agents), []
    for _ in range((UPDATES if updates is None else updates) + 1):
        lifting = 1 / (1 + np.exp(-logits))
        shares.append(lifting_payoff(lifting) / lifting_optimum(agents))
        lifts = (rng.random(agents) < lifting).astype(float)
        logits = logits + RATE * (lifts - lifting) * drawn_signals(name, lifts[None], lifting)[0]
    return np.array(shares)


def critic_share(central: bool, agents: int, seed: int, *, updates: int | None = None) -> float:
    """Share of the optimum that a COMA team's policies reach, whose critics have to be learned.

    Args:
        central: Whether the critics see the others' actions.
        agents: n.
        seed: Fixes weights and draws.
        updates: Of :data:`CRITIC_COPIES` joint actions each; None for :data:`CRITIC_UPDATES`.
    """
    game = MatrixGame(CRITIC_COPIES, payoffs=team_game(lifting_table(agents)), memory=0)
    config = COMAConfig(
        hidden_sizes=(32,), shared=False, learning_rate=CRITIC_RATE, value_learning_rate=CRITIC_RATE, epochs=2,
        minibatches=2, entropy_weight=0.0, standardise=False, reward_scale=1 / agents, central=central,
    )  # fmt: skip
    agent = COMA.for_game(game, config, seed=seed)
    collector = TeamCollector(agent, game, seed)
    for _ in range(CRITIC_UPDATES if updates is None else updates):
        agent.update(collector.collect(1))
    log_prob = agent.log_policies(collector.observation[:1])[0]
    return float(lifting_payoff(np.exp(log_prob)[:, 1]) / lifting_optimum(agents))


def credit_run(learner: str, agents: int, seed: int) -> dict[str, float]:
    """Share of the optimum after a fixed number of joint actions.

    Args:
        learner: One of :data:`REINFORCE` or a key of :data:`CRITICS`.
        agents: n.
        seed: Fixes it.
    """
    if learner in CRITICS:
        return {"share": critic_share(CRITICS[learner], agents, seed)}
    return {"share": float(reinforce(learner, agents, seed)[-1])}


def credit_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """``multi_agent_credit`` (exact) and ``multi_agent_credit_learning`` (over seeds)."""
    agents = AGENTS[:2] if quick else AGENTS
    grid: dict[str, list[Any]] = {"learner": [*REINFORCE, *CRITICS], "agents": list(agents)}
    runs = finished(sweeps(credit_run, grid))
    return {
        "multi_agent_credit": estimator_table(agents),
        "multi_agent_credit_learning": interval_table(runs, ["learner", "agents"], ["share"]),
    }
