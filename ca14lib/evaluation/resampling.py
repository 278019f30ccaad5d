"""Importance ratios of whole episodes, their averages, and bootstrap intervals over whole episodes.

Book: offline/off_policy_evaluation. In shapes, N is the number of transitions, T the length of the longest episode, B
the number of resamples.
"""

import numpy as np
from numpy.typing import NDArray

from ca14lib.evaluation.logs import Array

CHUNK = 8_000_000  # numbers held at a time by loops over resamples


def episode_ratios(ratio: Array, episode: NDArray[np.intp], step: NDArray[np.intp]) -> Array:
    r"""Cumulative importance ratios :math:`w_t` of every episode (book eq. ope-ratio).

    After an episode's end its last ratio is carried on: in the absorbing state both policies do the same.

    Args:
        ratio: :math:`\pi(a_t|s_t) / \pi_\beta(a_t|s_t)` of every transition, ``[N]``.
        episode: Episode number of every transition, ``[N]``.
        step: Time step of every transition, ``[N]``.
    Returns:
        ``[episodes, T]``, T being the length of the longest episode.
    """
    padded = np.ones((int(episode[-1]) + 1, int(step.max()) + 1))
    padded[episode, step] = ratio
    with np.errstate(over="ignore", invalid="ignore"):
        product = np.cumprod(padded, axis=1)
    if not np.isfinite(product).all():
        raise ValueError("importance ratios multiply to more than 1e308: the policy is too far from the behaviour")
    return product


def ratio_sum(numerator: Array, denominator: Array | None, weight: Array) -> Array:
    """Sum over columns of weighted column means, self-normalised where a denominator is given (book eq. ope-wis).

    Args:
        numerator: ``[episodes, K]``.
        denominator: ``[episodes, K]``, or None for plain means.
        weight: How often each episode counts, ``[B, episodes]``.
    Returns:
        ``[B]``: ``sum_k (weight @ numerator)_k / (weight @ denominator)_k``; NaN where a denominator is 0.
    """
    if denominator is None:
        return (weight @ numerator).sum(axis=1) / weight.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return ((weight @ numerator) / (weight @ denominator)).sum(axis=1)


def basic_interval(value: float, resampled: Array, confidence: float) -> tuple[float, float]:
    """Basic bootstrap interval (book eq. ope-bootstrap): the resamples' quantiles, reflected at the estimate.

    An estimator that is biased on the data is biased once more on resamples of the data; the percentile interval
    counts that bias twice, the reflection takes it off.

    Args:
        value: The estimate.
        resampled: Estimates on resampled episodes, finite, ``[B]``.
        confidence: Nominal coverage in (0, 1).
    """
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return float(2 * value - high), float(2 * value - low)


def weight_report(ratios: Array) -> tuple[float, float]:
    """Effective sample size and share of the largest weight, of the weights of whole episodes.

    Args:
        ratios: Cumulative ratios of :func:`episode_ratios`, ``[episodes, T]``; the last column weighs whole episodes.
    """
    weight = ratios[:, -1]
    total = weight.sum()
    return (0.0, np.nan) if total == 0 else (float(total**2 / (weight**2).sum()), float(weight.max() / total))


def resampled_counts(episodes: int, resamples: int, seed: int) -> Array:
    """How often each episode occurs in each resample, ``[resamples, episodes]``."""
    drawn = np.random.default_rng([seed, 0]).integers(episodes, size=(resamples, episodes))
    drawn += episodes * np.arange(resamples)[:, None]
    counts = np.bincount(drawn.reshape(-1), minlength=resamples * episodes)
    return counts.reshape(resamples, episodes).astype(np.float64)


def point_estimate(numerator: Array, denominator: Array | None) -> float:
    """:func:`ratio_sum` with every episode counted once; both arrays ``[episodes, K]``."""
    return float(ratio_sum(*_possible(numerator, denominator), np.ones((1, len(numerator))))[0])


def _possible(numerator: Array, denominator: Array | None) -> tuple[Array, Array | None]:
    """The columns at which some episode still has a weight: where none has, there is nothing to average."""
    if denominator is None:
        return numerator, None
    alive = denominator.any(axis=0)
    return numerator[:, alive], denominator[:, alive]


def reweighted(
    numerator: Array, denominator: Array | None, confidence: float, resamples: int, seed: int
) -> tuple[float, float, float, float]:
    """:func:`ratio_sum` with its bootstrap interval.

    Args:
        numerator: ``[episodes, K]``.
        denominator: ``[episodes, K]``, or None for plain means.
        confidence: Nominal coverage in (0, 1).
        resamples: B.
        seed: Fixes the resamples.
    Returns:
        Estimate, lower and upper end, share of resamples in which it is not defined.
    """
    value = point_estimate(numerator, denominator)
    numerator, denominator = _possible(numerator, denominator)
    if denominator is None:
        numerator = numerator.sum(axis=1, keepdims=True)
    chunk = max(CHUNK // len(numerator), 1)
    counts = resampled_counts(len(numerator), resamples, seed)
    parts = [ratio_sum(numerator, denominator, counts[i : i + chunk]) for i in range(0, resamples, chunk)]
    return value, *finite_interval(value, np.concatenate(parts), confidence)


def finite_interval(value: float, resampled: Array, confidence: float) -> tuple[float, float, float]:
    """:func:`basic_interval` of the finite ones among the resampled estimates ``[B]``, and the share of the others."""
    defined = resampled[np.isfinite(resampled)]
    if not len(defined):
        raise ValueError("the estimator is defined in no bootstrap resample; more episodes are needed")
    return *basic_interval(value, defined, confidence), 1 - len(defined) / len(resampled)
