"""How strange an observation is, and a threshold with a stated rate of false alarms. Book: evaluation/deployment.

A detector gives every observation a score; larger is stranger. Scores mean nothing by themselves: the threshold comes
from scores of calibration data that the detector was not fitted on.
"""

import math
from collections.abc import Callable
from typing import Protocol, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Scores = NDArray[np.float64]


class Detector(Protocol):
    """Anything that scores observations."""

    def score(self, observation: ArrayLike) -> Scores:
        """``[N]`` of observations ``[N, …]``; larger is stranger, infinite where a number is not finite."""


def conformal_threshold(scores: ArrayLike, false_alarms: float) -> float:
    r"""The :math:`\lceil(n+1)(1-\alpha)\rceil`-th smallest of n calibration scores (book eq. evaluation-conformal).

    A new score that is exchangeable with them exceeds it with probability at most :math:`\alpha`, and, where no two
    scores are equal, at least :math:`\alpha-1/(n+1)`.

    Args:
        scores: ``[n]``, one for each independent unit: episodes, not the steps of one episode.
        false_alarms: :math:`\alpha` in (0, 1), per unit.
    Raises:
        ValueError: If a score is NaN, or n is too small for that rate: at least :math:`1/\alpha-1` are needed.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64))
    if not 0 < false_alarms < 1:
        raise ValueError(f"false_alarms must lie in (0, 1), got {false_alarms}")
    if values.ndim != 1 or np.isnan(values).any():
        raise ValueError(f"scores must be one row of numbers without NaN, got shape {values.shape}")
    rank = math.ceil((len(values) + 1) * (1 - false_alarms) - 1e-9)  # 20 · 0.95 is a little more than 19 in floats
    if rank > len(values):
        raise ValueError(
            f"false_alarms of {false_alarms} need at least {math.ceil(1 / false_alarms - 1 - 1e-9)} calibration "
            f"scores, got {len(values)}"
        )
    return float(values[rank - 1])


def persistent_peak(scores: ArrayLike, patience: int = 1) -> float:
    """The largest level that some ``patience`` scores in a row all reach (book eq. evaluation-peak).

    An alarm that waits for ``patience`` steps in a row over a threshold is raised in an episode exactly if this number
    exceeds the threshold, so that it is what a threshold per episode is calibrated on.

    Args:
        scores: ``[T]``, of one episode in order.
        patience: Steps in a row, at least 1; an episode shorter than that gives −∞.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 1 or patience < 1:
        raise ValueError(f"scores must be one row and patience at least 1, got {values.shape} and {patience}")
    if len(values) < patience:
        return -math.inf
    return float(np.lib.stride_tricks.sliding_window_view(values, patience).min(axis=1).max())


# Detectors


class Ranges:
    """How far an observation leaves the range of the training data in its worst number (book eq. evaluation-range).

    Args:
        low: Least value of every number, ``[D]``.
        high: Largest one.
        unit: What a distance is measured in, ``[D]``: the standard deviations.
    """

    def __init__(self, low: ArrayLike, high: ArrayLike, unit: ArrayLike) -> None:
        self.low, self.high, self.unit = (np.asarray(each, dtype=np.float64) for each in (low, high, unit))

    @classmethod
    def fit(cls, observation: ArrayLike) -> Self:
        """From training observations ``[N, …]``."""
        rows = _fitting_rows(observation)
        return cls(rows.min(axis=0), rows.max(axis=0), _deviation(rows))

    def score(self, observation: ArrayLike) -> Scores:
        """Negative inside all ranges, 0 on the border of one."""
        return _scores(
            _rows(observation, len(self.low)),
            lambda rows: (np.maximum(self.low - rows, rows - self.high) / self.unit).max(axis=1),
        )


class Mahalanobis:
    r"""Squared distance from the mean in units of the covariance (book eq. evaluation-mahalanobis).

    For normal observations of D numbers the score has a :math:`\chi^2_D` distribution.

    Args:
        mean: ``[D]``.
        covariance: ``[D, D]``, positive definite.
    """

    def __init__(self, mean: ArrayLike, covariance: ArrayLike) -> None:
        self.mean = np.asarray(mean, dtype=np.float64)
        # with L Lᵀ = Σ the score is |L⁻¹(x − mean)|²
        self.whiten = np.linalg.inv(np.linalg.cholesky(np.asarray(covariance, dtype=np.float64)))

    @classmethod
    def fit(cls, observation: ArrayLike, ridge: float = 1e-6) -> Self:
        """From training observations ``[N, …]``.

        Args:
            observation: ``[N, …]``.
            ridge: Added to the variance of every number, as a share of it: numbers that determine each other would
                make the covariance singular.
        """
        rows = _fitting_rows(observation)
        covariance = np.cov(rows, rowvar=False, bias=True).reshape(rows.shape[1], rows.shape[1])
        return cls(rows.mean(axis=0), covariance + ridge * np.diag(_deviation(rows) ** 2))

    def score(self, observation: ArrayLike) -> Scores:
        """At least 0."""
        return _scores(
            _rows(observation, len(self.mean)),
            lambda rows: (((rows - self.mean) @ self.whiten.T) ** 2).sum(axis=1),
        )


class Neighbours:
    """Distance to the k-th nearest training observation, each number in its standard deviations.

    Book eq. evaluation-neighbours.

    Args:
        points: ``[N, D]``.
        unit: ``[D]``.
        k: Which neighbour counts.
    """

    def __init__(self, points: ArrayLike, unit: ArrayLike, k: int = 10) -> None:
        from scipy.spatial import cKDTree

        self.unit, self.k = np.asarray(unit, dtype=np.float64), k
        scaled = np.asarray(points, dtype=np.float64) / self.unit
        if not 1 <= k <= len(scaled):
            raise ValueError(f"k must lie in 1…{len(scaled)}, the number of points, got {k}")
        self._tree = cKDTree(scaled)

    @classmethod
    def fit(cls, observation: ArrayLike, k: int = 10, *, largest: int = 20_000, seed: int = 0) -> Self:
        """From training observations ``[N, …]``, of which at most ``largest`` are kept, drawn with the seed."""
        rows = _fitting_rows(observation)
        unit = _deviation(rows)
        if len(rows) > largest:
            rows = rows[np.random.default_rng(seed).choice(len(rows), largest, replace=False)]
        return cls(rows, unit, k)

    def score(self, observation: ArrayLike) -> Scores:
        """At least 0."""
        return _scores(
            _rows(observation, len(self.unit)),
            lambda rows: self._tree.query(rows / self.unit, k=[self.k])[0][:, 0],
        )


class Disagreement:
    """Spread of the members of an ensemble: root of the variance, averaged over their outputs (book eq. unc-ensemble).

    Args:
        predict: Gives what every member says of observations ``[N, …]``: ``[M, N, …]``, at least two members.
    """

    def __init__(self, predict: Callable[[NDArray], ArrayLike]) -> None:
        self.predict = predict

    def score(self, observation: ArrayLike) -> Scores:
        """At least 0."""
        seen = np.asarray(observation)
        rows = seen.reshape(len(seen), -1).astype(np.float64)
        said = np.asarray(self.predict(np.where(np.isfinite(seen), seen, 0).astype(seen.dtype)), dtype=np.float64)
        if said.ndim < 2 or said.shape[0] < 2 or said.shape[1] != len(seen):
            raise ValueError(f"predict must give [M >= 2, {len(seen)}, ...], got {said.shape}")
        spread = said.reshape(*said.shape[:2], -1).var(axis=0)
        return np.where(np.isfinite(rows).all(axis=1), np.sqrt(spread.mean(axis=1)), np.inf)


def _fitting_rows(observation: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(observation)
    if array.ndim < 2 or len(array) < 2 or array.dtype.kind != "f":
        raise ValueError(
            f"a detector is fitted on at least two real-valued observations [N, ...], "
            f"got shape {array.shape}, dtype {array.dtype}"
        )
    rows = array.reshape(len(array), -1).astype(np.float64)
    if not np.isfinite(rows).all():
        raise ValueError("a detector is fitted on finite observations, got NaN or infinity")
    return rows


def _rows(observation: ArrayLike, features: int) -> NDArray[np.float64]:
    array = np.asarray(observation, dtype=np.float64)
    rows = array.reshape(len(array), -1) if array.ndim else array
    if rows.ndim != 2 or rows.shape[1] != features:
        raise ValueError(f"observation must be [N, ...] with {features} numbers each, got shape {array.shape}")
    return rows


def _scores(rows: NDArray[np.float64], score: Callable[[NDArray[np.float64]], Scores]) -> Scores:
    """Scores of the rows that are finite; the others are as strange as can be."""
    finite = np.isfinite(rows).all(axis=1)
    found = np.full(len(rows), np.inf)
    if finite.any():
        found[finite] = score(rows[finite])
    return found


def _deviation(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations; 1 for numbers that never vary."""
    deviation = rows.std(axis=0)
    return np.where(deviation > 0, deviation, 1.0)
