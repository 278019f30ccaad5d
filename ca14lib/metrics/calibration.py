r"""Whether stated uncertainty agrees with what happens. Book: robust/uncertainty.

For regression a prediction is a normal distribution with mean :math:`\mu` and standard deviation :math:`\sigma`; for
classification it is a vector of probabilities. All functions take the predictions for n cases and what happened.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

Array = NDArray[np.float64]

LEVELS = tuple(np.round(np.arange(0.05, 1.0, 0.05), 2))  # nominal levels of central intervals


class ReliabilityCurve(NamedTuple):
    """What was stated and what was observed, ``[L]`` each; for classification, bin by bin."""

    stated: Array  # nominal coverage, or mean confidence of a bin
    observed: Array  # share of the outcomes inside, or of the right answers; NaN in an empty bin
    cases: NDArray[np.int64]  # how many each point rests on


# Regression


def coverage_curve(mean: ArrayLike, std: ArrayLike, target: ArrayLike, levels: ArrayLike = LEVELS) -> ReliabilityCurve:
    r"""How many outcomes lie in the central intervals of normal predictions (book eq. unc-coverage).

    At level p the interval is :math:`\mu\pm\sigma\,\Phi^{-1}(\tfrac{1+p}2)`, borders included. A calibrated predictor
    has the share p of its outcomes inside, at every level.

    Args:
        mean: :math:`\mu`, any shape.
        std: :math:`\sigma` in the units of the target, at least 0, the same shape.
        target: What happened, the same shape.
        levels: Nominal levels in (0, 1), ``[L]``.
    Raises:
        ValueError: If shapes differ, a number is not finite or out of range, or there are no cases.
    """
    mean, std, target = _gaussian(mean, std, target, zero=True)
    nominal = np.asarray(levels, dtype=np.float64)
    if nominal.ndim != 1 or nominal.size == 0 or not ((nominal > 0) & (nominal < 1)).all():
        raise ValueError(f"levels must be numbers in (0, 1), got {levels!r}")
    with np.errstate(divide="ignore", invalid="ignore"):
        units = np.where(std > 0, abs(target - mean) / std, np.where(target == mean, 0.0, np.inf))
    reach = special.ndtri((1 + nominal) / 2)
    inside = np.searchsorted(np.sort(units, axis=None), reach, side="right") / units.size
    return ReliabilityCurve(nominal, inside, np.full(len(nominal), units.size))


def coverage_error(mean: ArrayLike, std: ArrayLike, target: ArrayLike, levels: ArrayLike = LEVELS) -> float:
    """Expected calibration error of a regression: mean distance of the coverage curve from the diagonal.

    Book eq. unc-ece-regression. Evenly spaced levels, each counted alike; 0 is calibrated, 0.5 the worst.
    For arguments and errors see :func:`coverage_curve`.
    """
    curve = coverage_curve(mean, std, target, levels)
    return float(abs(curve.observed - curve.stated).mean())


def gaussian_negative_log_likelihood(mean: ArrayLike, std: ArrayLike, target: ArrayLike) -> float:
    r"""Mean of :math:`\tfrac12\log(2\pi\sigma^2)+(y-\mu)^2/(2\sigma^2)` in nats (book eq. unc-nll).

    A proper score: on average over outcomes it is least for the distribution they come from.

    Args:
        mean: :math:`\mu`, any shape.
        std: :math:`\sigma`, positive, the same shape.
        target: What happened, the same shape.
    Raises:
        ValueError: If shapes differ, a number is not finite, or a deviation is not positive.
    """
    mean, std, target = _gaussian(mean, std, target)
    return float((0.5 * np.log(2 * np.pi) + np.log(std) + 0.5 * ((target - mean) / std) ** 2).mean())


def interval_score(low: ArrayLike, high: ArrayLike, target: ArrayLike, level: float) -> float:
    r"""Width of central intervals plus a fine for outcomes outside (Gneiting and Raftery, 2007; book eq. unc-interval).

    With :math:`\alpha=1-\text{level}`, the mean of
    :math:`(u-l)+\tfrac2\alpha(l-y)_++\tfrac2\alpha(y-u)_+`. Lower is better, and the :math:`\alpha/2` and
    :math:`1-\alpha/2` quantiles of the outcomes' distribution are best.

    Args:
        low: Lower ends l, any shape.
        high: Upper ends u, at least the lower ones, the same shape.
        target: What happened, the same shape.
        level: Nominal coverage in (0, 1).
    Raises:
        ValueError: If shapes differ, a number is not finite, an interval is empty, or the level is out of range.
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"level must lie in (0, 1), got {level}")
    low, high, target = _alike(low=low, high=high, target=target)
    if not (low <= high).all():
        raise ValueError(f"intervals must not be empty, got one from {low[low > high][0]} to {high[low > high][0]}")
    outside = np.maximum(low - target, 0.0) + np.maximum(target - high, 0.0)
    return float((high - low + 2.0 / (1.0 - level) * outside).mean())


def sharpness(std: ArrayLike) -> float:
    """Root mean square of the predicted standard deviations: how narrow predictions are, whatever happens.

    Book eq. unc-sharpness. Among calibrated predictors the sharpest knows most; sharpness alone means nothing.

    Args:
        std: At least 0, any shape.
    Raises:
        ValueError: If there are none, or one is negative or not finite.
    """
    deviations = np.asarray(std, dtype=np.float64)
    if deviations.size == 0 or not (np.isfinite(deviations) & (deviations >= 0)).all():
        raise ValueError(f"std must be finite, at least 0 and not empty, got {std!r}")
    return float(np.sqrt(np.square(deviations).mean()))


# Classification


def confidence_curve(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> ReliabilityCurve:
    r"""Share of right answers against stated confidence, in bins of equal width (book eq. unc-ece).

    Bin b of B holds the confidences in :math:`((b-1)/B, b/B]`; 0 is in the first.

    Args:
        confidence: Probability of the answer that was given, in [0, 1], ``[n]``.
        correct: Whether it was right, ``[n]``, true or false.
        bins: B, at least 1.
    Returns:
        Mean confidence, share of right answers and count of every bin, ``[B]`` each; an empty bin has its middle as
        confidence and NaN as share.
    Raises:
        ValueError: If shapes differ, a confidence is not in [0, 1], or there are no cases or bins.
    """
    if isinstance(bins, bool) or not isinstance(bins, int | np.integer) or bins < 1:
        raise ValueError(f"bins must be a positive integer, got {bins!r}")
    stated, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct)
    if stated.ndim != 1 or stated.size == 0 or right.shape != stated.shape:
        raise ValueError(f"confidence and correct must have one shape [n], got {stated.shape} and {right.shape}")
    if not ((stated >= 0) & (stated <= 1)).all():
        raise ValueError(f"confidence must lie in [0, 1], got {stated[~((stated >= 0) & (stated <= 1))][0]}")
    if not np.isin(right, (0, 1)).all():
        raise ValueError(f"correct must be true or false, got {right[~np.isin(right, (0, 1))][0]}")
    edges = np.arange(1, bins + 1) / bins
    index = np.searchsorted(edges, stated, side="left")
    count = np.bincount(index, minlength=bins)
    total = np.bincount(index, weights=stated, minlength=bins)
    hits = np.bincount(index, weights=right.astype(np.float64), minlength=bins)
    with np.errstate(invalid="ignore"):
        return ReliabilityCurve(np.where(count > 0, total / count, edges - 0.5 / bins), hits / count, count)


def expected_calibration_error(confidence: ArrayLike, correct: ArrayLike, bins: int = 10) -> float:
    r"""Mean distance of confidence and share of right answers, bins weighted by their cases (book eq. unc-ece).

    It depends on the bins: with one bin it only compares two means, and with as many as cases it is not near 0 for a
    calibrated predictor either. For arguments and errors see :func:`confidence_curve`.
    """
    curve = confidence_curve(confidence, correct, bins)
    filled = curve.cases > 0
    gaps = abs(curve.observed[filled] - curve.stated[filled])
    return float(gaps @ curve.cases[filled] / curve.cases.sum())


# What uncertainty is good for


class RiskCoverage(NamedTuple):
    """Mean loss of the answers that are given, when the most uncertain are withheld; ``[n]`` each."""

    coverage: Array  # share of the cases that are answered, rising to 1
    risk: Array  # mean loss of these


def risk_coverage_curve(uncertainty: ArrayLike, loss: ArrayLike) -> RiskCoverage:
    """Mean loss against the share of cases that are answered, the least uncertain first (book eq. unc-abstain).

    Cases of equal uncertainty are answered together in expectation: each gets the mean loss of its group, so that the
    order of the data does not count.

    Args:
        uncertainty: ``[n]``, of any unit; only its order counts.
        loss: What an answer cost, ``[n]``.
    Raises:
        ValueError: If shapes differ, there are no cases, or a number is not finite.
    """
    doubt, cost = _alike(uncertainty=uncertainty, loss=loss)
    if doubt.ndim != 1:
        raise ValueError(f"uncertainty and loss must have shape [n], got {doubt.shape}")
    _, group, size = np.unique(doubt, return_inverse=True, return_counts=True)
    fair = (np.bincount(group, weights=cost) / size)[np.sort(group)]
    answered = np.arange(1, len(doubt) + 1)
    return RiskCoverage(answered / len(doubt), np.cumsum(fair) / answered)


def area_under_risk_coverage(uncertainty: ArrayLike, loss: ArrayLike) -> float:
    """Mean of the risk over all coverages (book eq. unc-abstain): lower is better.

    An order that knows nothing has the mean loss on average; least is the order by the losses themselves.
    For arguments and errors see :func:`risk_coverage_curve`.
    """
    return float(risk_coverage_curve(uncertainty, loss).risk.mean())


def _alike(**arrays: ArrayLike) -> list[Array]:
    """Arrays of one shape, finite and not empty."""
    found = {name: np.asarray(given, dtype=np.float64) for name, given in arrays.items()}
    if len({array.shape for array in found.values()}) > 1:
        shapes = ", ".join(f"{name} {array.shape}" for name, array in found.items())
        raise ValueError(f"arrays must have one shape, got {shapes}")
    for name, array in found.items():
        if array.size == 0:
            raise ValueError(f"{name} must not be empty")
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)][0]}")
    return list(found.values())


def _gaussian(mean: ArrayLike, std: ArrayLike, target: ArrayLike, zero: bool = False) -> list[Array]:
    arrays = _alike(mean=mean, std=std, target=target)
    wrong = arrays[1] < 0 if zero else arrays[1] <= 0
    if wrong.any():
        raise ValueError(f"std must be {'at least 0' if zero else 'positive'}, got {arrays[1][wrong][0]}")
    return arrays
