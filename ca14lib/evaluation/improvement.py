r"""Is a policy better than the one that recorded the data? A bound on the difference. Book: evaluation/healthcare.

High-confidence policy improvement (Thomas, Theocharous and Ghavamzadeh, 2015) with the estimators of this package: the
policy's estimate and the behaviour's mean return come from the same episodes, so that what is common to both cancels.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ca14lib.agents.base import require
from ca14lib.data import OfflineDataset
from ca14lib.environments import TabularModel
from ca14lib.evaluation.logs import Array, EvaluatedPolicy, Log, check_arguments, probabilities
from ca14lib.evaluation.resampling import episode_ratios, resampled_counts, weight_report
from ca14lib.evaluation.tabular_fqe import Table

Estimator = Literal["fitted_q", "doubly_robust"]


@dataclass(frozen=True)
class Improvement:
    """An estimated difference of returns, the policy's minus the behaviour's, with its error.

    Attributes:
        value: The estimate.
        error: Its standard error.
        behaviour: Mean return of the recorded episodes.
        episodes: Number of episodes it rests on.
        deviation: Probability that the policy acts differently from the behaviour, averaged over recorded decisions.
        effective_sample_size: Of the importance weights of whole episodes.
        unseen: Probability that the policy acts at a recorded decision as nobody did there; neither estimator knows
            what happens then.
    """

    value: float
    error: float
    behaviour: float
    episodes: int
    deviation: float
    effective_sample_size: float
    unseen: float

    def low(self, confidence: float = 0.95, comparisons: int = 1) -> float:
        r"""One-sided lower bound :math:`\hat\Delta-z_{1-\alpha/K}\,\hat\sigma` (book eq. improvement-bound).

        Args:
            confidence: :math:`1-\alpha` in (0, 1), for all comparisons together.
            comparisons: K, how many policies are judged by the same episodes.
        """
        if not 0.0 < confidence < 1.0:
            raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
        if comparisons < 1:
            raise ValueError(f"comparisons must be at least 1, got {comparisons}")
        return self.value - float(stats.norm.isf((1 - confidence) / comparisons)) * self.error


def paired_improvement(
    dataset: OfflineDataset,
    policy: EvaluatedPolicy,
    estimator: Estimator = "fitted_q",
    *,
    groups: ArrayLike | None = None,
    behaviour: EvaluatedPolicy | None = None,
    model: TabularModel | None = None,
    discount: float = 1.0,
    folds: int = 5,
    resamples: int = 100,
    seed: int = 0,
) -> list[Improvement]:
    r"""Estimate by how much a policy returns more than the behaviour did, on episodes that had no part in making it.

    ``"fitted_q"`` solves the policy's Bellman equation on counted transitions (book eq. improvement-fqe); the standard
    error is the deviation over bootstrap resamples of whole episodes, of the *difference*. ``"doubly_robust"`` averages
    differences of single episodes (book eq. improvement-dr), with values fitted on other folds.

    Args:
        dataset: Whole episodes with discrete actions and observations that repeat.
        policy: The policy to judge: a table ``[S, A]``, an agent or a function.
        estimator: Which of the two.
        groups: A number from 0 for every episode, ``[episodes]``, known when it begins; None for one group.
        behaviour: The policy that recorded the data, for the weights. None takes the frequencies of actions.
        model: The finite problem whose observations index the rows of a table.
        discount: :math:`\gamma` in (0, 1].
        folds: Of the doubly robust estimator.
        resamples: Of the standard error of fitted Q evaluation.
        seed: Fixes folds and resamples.
    Returns:
        The improvement over all episodes, then that of each group.
    Raises:
        ValueError: If an argument is out of range, observations do not repeat, a recorded action has probability 0
            under ``behaviour``, a group has fewer than two episodes, or, undiscounted, the policy may never end in
            what the data show of the problem.
    """
    if estimator not in ("fitted_q", "doubly_robust"):
        raise ValueError(f"estimator must be fitted_q or doubly_robust, got {estimator!r}")
    check_arguments(dataset, discount, 0.5, resamples)
    require(resamples >= 2, "resamples", resamples, "at least 2, for a deviation")
    log = Log.of(dataset)
    if not log.repeats:
        raise ValueError("a paired improvement needs observations that repeat: it is computed with tables")
    members = _members(groups, log.episodes)
    probability = probabilities(policy, log, dataset, model, True)
    frequency = frequencies(log)
    recorded = frequency if behaviour is None else probabilities(behaviour, log, dataset, model, True)
    propensity = recorded[log.state, log.action]
    if (propensity <= 0).any():
        raise ValueError(f"behaviour gives probability 0 to recorded action {log.action[propensity <= 0][0]}")
    ratios = episode_ratios(probability[log.state, log.action] / propensity, log.episode, log.step)
    gained = np.add.reduceat(log.reward * discount**log.step, log.start)
    table = Table(log, probability, discount)
    deviation = abs(probability - recorded).sum(axis=1)[log.state].mean() / 2
    common = float(deviation), weight_report(ratios)[0], log.unseen_share(probability)
    if estimator == "fitted_q":
        weights = np.vstack([np.ones(log.episodes), resampled_counts(log.episodes, resamples, seed)])
        value = (probability * table.values(weights, None)).sum(axis=2)  # [1 + resamples, U]
        terms = value[:, log.state[log.start]] - gained
        estimates = [(weights * member * terms).sum(axis=1) / (weights * member).sum(axis=1) for member in members]
        found = [(float(each[0]), float(each[1:].std(ddof=1))) for each in estimates]
    else:
        terms = _corrected(log, table, probability, ratios, discount, folds, seed) - gained
        chosen = [terms[member] for member in members]
        found = [(float(each.mean()), float(each.std(ddof=1) / np.sqrt(len(each)))) for each in chosen]
    if not np.isfinite(found).all():
        raise ValueError("undiscounted, the policy may never end in what the data show; give a discount below 1")
    return [
        Improvement(value, error, float(gained[member].mean()), int(member.sum()), *common)
        for (value, error), member in zip(found, members)
    ]


def frequencies(log: Log) -> Array:
    """How often each action was taken at every distinct observation, as a policy ``[U, A]``; uniform where none was."""
    counts = log.counts()
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), 1 / log.num_actions)


def alarm_wealth(outcomes: ArrayLike, reference: float, alternative: float) -> Array:
    r"""Capital of a bet that a policy in use succeeds less often than it should (book eq. improvement-wealth).

    While the rate of success is at least the reference, the capital is a supermartingale: it ever reaches
    :math:`1/\alpha` with probability at most :math:`\alpha`, however long one watches (Ville's inequality).

    Args:
        outcomes: True where a stay succeeded, in order of time, ``[…, N]``.
        reference: Rate that is promised, :math:`p_0`.
        alternative: Smaller rate that is bet on, :math:`p_1`.
    Returns:
        Capital after each outcome, starting from 1, ``[…, N]``.
    Raises:
        ValueError: Unless 0 < alternative < reference < 1.
    """
    if not 0.0 < alternative < reference < 1.0:
        raise ValueError(f"0 < alternative < reference < 1 must hold, got {alternative} and {reference}")
    steps = np.log(np.where(outcomes, alternative / reference, (1 - alternative) / (1 - reference)))
    return np.exp(np.cumsum(steps, axis=-1))


def _corrected(
    log: Log, table: Table, probability: Array, ratios: Array, discount: float, folds: int, seed: int
) -> Array:
    """The doubly robust term of every episode, ``[episodes]`` (book eq. ope-dr)."""
    if not 2 <= folds <= log.episodes:
        raise ValueError(f"folds must lie in 2…{log.episodes}, the number of episodes, got {folds}")
    fold = np.random.default_rng([seed, 1]).permutation(log.episodes) % folds
    values = table.values((fold != np.arange(folds)[:, None]).astype(np.float64), None)
    state_value = (probability * values).sum(axis=2)
    own = fold[log.episode]
    following = np.where(log.terminated, 0.0, state_value[own, log.following])
    error = log.reward + discount * following - values[own, log.state, log.action]
    corrections = ratios * discount ** np.arange(ratios.shape[1]) * log.padded(error)
    return state_value[fold, log.state[log.start]] + corrections.sum(axis=1)


def _members(groups: ArrayLike | None, episodes: int) -> list[NDArray[np.bool_]]:
    everyone = np.ones(episodes, dtype=bool)
    if groups is None:
        return [everyone]
    label = np.asarray(groups)
    if label.shape != (episodes,) or not np.issubdtype(label.dtype, np.integer) or label.min() < 0:
        raise ValueError(f"groups must be {episodes} whole numbers from 0, got {label.dtype} of shape {label.shape}")
    sizes = np.bincount(label)
    if sizes.min() < 2:
        raise ValueError(f"every group needs at least two episodes, got {sizes.min()} in group {sizes.argmin()}")
    return [everyone, *(label == group for group in range(len(sizes)))]
