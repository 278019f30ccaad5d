"""Scores over seeds: interquartile mean with a bootstrap interval, through rliable (Agarwal et al., 2021)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike


class Interval(NamedTuple):
    """A point estimate with its 95% interval."""

    estimate: float
    low: float
    high: float


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of the scores; a quarter of the weight is trimmed at either end."""
    from rliable import metrics

    return float(metrics.aggregate_iqm(_matrix(scores)))


def iqm_interval(scores: ArrayLike, *, repetitions: int = 2_000, seed: int = 0) -> Interval:
    """Interquartile mean of a score over runs with a 95% stratified bootstrap interval (book: yardsticks).

    Args:
        scores: ``[runs]`` or ``[runs, tasks]``, finite; at least two runs.
        repetitions: Bootstrap resamples.
        seed: Fixes the resampling.
    Raises:
        ValueError: If there are fewer than two runs or a score is not finite.
    """
    from rliable import library, metrics

    class SeededBootstrap(library.StratifiedBootstrap):
        """rliable 1.2.0 resamples with NumPy's global generator, whatever seed it is given."""

        def update_indices(self) -> tuple[np.ndarray, ...]:
            return self._generator.integers(self._num_items, size=self._args_shape), *self._strata_indices

    matrix = _matrix(scores)
    if len(matrix) < 2:
        raise ValueError(f"an interval over runs needs at least two runs, got {len(matrix)}")
    estimate = float(metrics.aggregate_iqm(matrix))
    if (matrix == matrix[0]).all():
        return Interval(estimate, estimate, estimate)
    bootstrap = SeededBootstrap(matrix, seed=seed)
    (low,), (high,) = bootstrap.conf_int(
        lambda values: np.array([metrics.aggregate_iqm(values)]), reps=repetitions, method="percentile", size=0.95
    )
    return Interval(estimate, float(low), float(high))


def interval_table(runs: pd.DataFrame, by: Sequence[str], columns: Sequence[str]) -> pd.DataFrame:
    """Intervals over the runs of every group: one row per group, in the order of first appearance.

    Args:
        runs: One row per run.
        by: Columns that name a group.
        columns: Scores to aggregate.
    Returns:
        Columns ``by``, ``seeds`` (runs in the group), and ``{column}_iqm``, ``{column}_low``, ``{column}_high``.
    """
    rows = []
    for key, group in runs.groupby(list(by), sort=False):
        row = dict(zip(by, key, strict=True)) | {"seeds": len(group)}
        for column in columns:
            names = (f"{column}_iqm", f"{column}_low", f"{column}_high")
            row |= dict(zip(names, iqm_interval(group[column].to_numpy()), strict=True))
        rows.append(row)
    return pd.DataFrame(rows)


def _matrix(scores: ArrayLike) -> np.ndarray:
    matrix = np.asarray(scores, dtype=np.float64)
    matrix = matrix[:, None] if matrix.ndim == 1 else matrix
    if matrix.ndim != 2 or matrix.size == 0:
        raise ValueError(f"scores must have shape [runs] or [runs, tasks] and not be empty, got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"scores must be finite, got {matrix[~np.isfinite(matrix)][0]}")
    return matrix
