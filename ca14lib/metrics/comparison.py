"""Comparing algorithms over runs and tasks (Agarwal et al., 2021). Book: evaluation/framework.

Estimates are rliable's, and tests compare them with it; its profiles and probabilities of improvement come with
intervals from NumPy's global generator, so that the resampling is done here, from a seed.

Scores are arrays ``[runs, tasks]`` (or ``[runs]``, one task), on a scale that means the same for every task: shares of
an optimum, for which 1 is the most.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.metrics.intervals import Interval

Array = NDArray[np.float64]


class Profile(NamedTuple):
    """Share of runs above each threshold, with a 95% band; arrays ``[T]``."""

    thresholds: Array
    share: Array
    low: Array
    high: Array


def optimality_gap(
    scores: ArrayLike, *, target: float = 1.0, repetitions: int = 1_000, seed: int = 0
) -> Interval:  # fmt: skip
    r"""How far scores fall short of a target on average (book eq. optimality-gap).

    Better than the target counts as the target, so that one task cannot make up for another.

    Args:
        scores: ``[runs, tasks]``, finite.
        target: :math:`\gamma`, the score at which nothing is missing.
        repetitions: Bootstrap resamples of the runs, for each task on its own.
        seed: Fixes the resampling.
    Raises:
        ValueError: If a score is not finite, or there are none.
    """
    from rliable import metrics

    return _interval(_matrix(scores), lambda drawn: metrics.aggregate_optimality_gap(drawn, target), repetitions, seed)


def performance_profile(
    scores: ArrayLike, thresholds: ArrayLike, *, repetitions: int = 1_000, seed: int = 0
) -> Profile:  # fmt: skip
    r"""Share of runs and tasks with a score above :math:`\tau`, for every threshold (book eq. performance-profile).

    Args:
        scores: ``[runs, tasks]``, finite.
        thresholds: ``[T]``, rising.
        repetitions: Bootstrap resamples.
        seed: Fixes the resampling.
    Raises:
        ValueError: If a score or a threshold is not finite, or the thresholds do not rise.
    """
    matrix, levels = _matrix(scores), np.asarray(thresholds, dtype=np.float64)
    if levels.ndim != 1 or not levels.size or not np.isfinite(levels).all() or (np.diff(levels) < 0).any():
        raise ValueError(f"thresholds must be finite, rising and [T] with T >= 1, got {thresholds!r}")

    def share(drawn: Array) -> Array:
        return (drawn[..., None] > levels).mean(axis=(0, 1))

    draws = np.array([share(drawn) for drawn in _resampled(matrix, repetitions, np.random.default_rng(seed))])
    low, high = np.quantile(draws, [0.025, 0.975], axis=0)
    return Profile(levels, share(matrix), low, high)


def probability_of_improvement(
    scores: ArrayLike, others: ArrayLike, *, repetitions: int = 1_000, seed: int = 0
) -> Interval:  # fmt: skip
    r"""Probability that a run of the first scores more than one of the second, ties half (book eq. improvement).

    Averaged over tasks, which both must have, in the same order: runs of different tasks are never compared. The
    numbers of runs may differ.

    Args:
        scores: ``[runs, tasks]`` of the first, finite.
        others: ``[other runs, tasks]`` of the second, finite.
        repetitions: Bootstrap resamples of both.
        seed: Fixes the resampling.
    Raises:
        ValueError: If a score is not finite, or the tasks differ in number.
    """
    first, second = _matrix(scores), _matrix(others)
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"both must have the same tasks, got {first.shape[1]} and {second.shape[1]}")
    above = np.sign(first[:, None, :] - second[None, :, :]) / 2 + 0.5  # 1, 1/2 or 0 for each pair of runs
    estimate = float(above.mean())
    random, draws = np.random.default_rng(seed), np.empty(repetitions)
    tasks = np.arange(above.shape[2])
    for index in range(repetitions):
        rows = random.integers(len(first), size=(len(first), 1, len(tasks)))
        columns = random.integers(len(second), size=(1, len(second), len(tasks)))
        draws[index] = above[rows, columns, tasks].mean()
    return Interval(estimate, *(float(end) for end in np.quantile(draws, [0.025, 0.975])))


def _interval(matrix: Array, statistic: Callable[[Array], float], repetitions: int, seed: int) -> Interval:
    draws = [statistic(drawn) for drawn in _resampled(matrix, repetitions, np.random.default_rng(seed))]
    return Interval(float(statistic(matrix)), *(float(end) for end in np.quantile(draws, [0.025, 0.975])))


def _resampled(matrix: Array, repetitions: int, random: np.random.Generator) -> list[Array]:
    """Stratified bootstrap: the runs of every task are drawn anew, with replacement."""
    tasks = np.arange(matrix.shape[1])
    return [matrix[random.integers(len(matrix), size=matrix.shape), tasks] for _ in range(repetitions)]


def _matrix(scores: ArrayLike) -> Array:
    matrix = np.asarray(scores, dtype=np.float64)
    matrix = matrix[:, None] if matrix.ndim == 1 else matrix
    if matrix.ndim != 2 or not matrix.size:
        raise ValueError(f"scores must have shape [runs] or [runs, tasks] and not be empty, got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"scores must be finite, got {matrix[~np.isfinite(matrix)][0]}")
    return matrix
