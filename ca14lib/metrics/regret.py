"""Regret: what learning has cost, and how fast that grows. Book: robust/bayesian."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ca14lib.metrics.intervals import Interval, iqm_interval


def cumulative_regret(optimum: float, returns: ArrayLike) -> NDArray[np.float64]:
    r"""Regret after every episode, :math:`\sum_{j\le k}J^*-J(\pi_j)` (book eq. psrl-regret).

    With exact returns of the policies followed it is the expected regret given what was learned, and carries no noise
    of the episodes.

    Args:
        optimum: :math:`J^*`, over the same horizon.
        returns: :math:`J(\pi_k)`, ``[…, K]``, the episodes last.
    Returns:
        ``[…, K]``, never falling.
    Raises:
        ValueError: If a return is not finite or exceeds the optimum by more than rounding.
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim == 0 or values.shape[-1] == 0 or not np.isfinite(values).all() or not np.isfinite(optimum):
        raise ValueError(f"returns [..., K] and optimum must be finite and not empty, got {returns!r} and {optimum}")
    gap = optimum - values
    if (gap < -1e-9 * max(1.0, abs(optimum))).any():
        raise ValueError(f"no policy can exceed the optimum {optimum:.6g}, got a return of {values.max():.6g}")
    return np.maximum(gap, 0.0).cumsum(axis=-1)


def regret_exponent(steps: ArrayLike, regret: ArrayLike, *, first: float = 0.1) -> NDArray[np.float64]:
    r"""Exponent :math:`p` of the growth :math:`\text{regret}\approx c\,T^p`, least squares of the logarithms.

    1 is linear: late episodes cost as much as early ones. 0.5 is what the bounds of posterior sampling and optimism
    allow in the worst case, 0 a regret that has stopped growing (book eq. psrl-exponent). The fit is over points evenly
    spaced in :math:`\log T`, so that late steps do not outweigh the others by their number.

    Args:
        steps: :math:`T`, ``[K]``, increasing and positive.
        regret: ``[…, K]``, positive from ``first`` on.
        first: Share of the largest step at which the fit begins.
    Returns:
        ``[…]``.
    Raises:
        ValueError: If fewer than two points are left or a regret there is not positive.
    """
    time, values = np.asarray(steps, dtype=np.float64), np.asarray(regret, dtype=np.float64)
    if time.ndim != 1 or values.shape[-1:] != time.shape or (np.diff(time) <= 0).any() or (time <= 0).any():
        raise ValueError(
            f"steps must be positive and increasing, one per regret, got shapes {time.shape}, {values.shape}"
        )
    if not 0 <= first < 1:
        raise ValueError(f"first must lie in [0, 1), got {first}")
    kept = time >= first * time[-1]
    time, values = time[kept], values[..., kept]
    if len(time) < 2 or (values <= 0).any() or not np.isfinite(values).all():
        raise ValueError(
            f"the fit needs two points or more with positive regret, got {len(time)} from {values.min():.6g}"
        )
    where = np.unique(np.searchsorted(time, np.geomspace(time[0], time[-1], 50)).clip(max=len(time) - 1))
    x, y = np.log(time[where]), np.log(values[..., where])
    x = x - x.mean()
    return np.asarray((y * x).sum(axis=-1) / (x * x).sum())


def exponent_interval(steps: ArrayLike, regret: ArrayLike, *, first: float = 0.1) -> Interval:
    """The growth exponent of several seeds, IQM with a 95% interval.

    Args:
        steps: ``[K]``.
        regret: ``[seeds, K]``, at least two seeds.
        first: As in :func:`regret_exponent`.
    """
    return iqm_interval(regret_exponent(steps, regret, first=first))


def regret_table(curves: pd.DataFrame, steps: ArrayLike) -> pd.DataFrame:
    """Regret curves of many runs at a few steps: the value at the last episode that had ended by then.

    Args:
        curves: One row per episode: ``step``, ``regret`` and columns that name the run.
        steps: Steps to report, each at least the first in the curves.
    Returns:
        One row per run and step; ``step`` is the reported one.
    Raises:
        ValueError: If a step lies before the first episode's end.
    """
    names = [name for name in curves.columns if name not in ("step", "regret")]
    wanted, rows = np.asarray(steps, dtype=np.int64), []
    for key, run in curves.groupby(names, sort=False):
        index = np.searchsorted(run["step"].to_numpy(), wanted, side="right") - 1
        if (index < 0).any():
            raise ValueError(f"steps must be at least {run['step'].min()}, the first episode's end, got {wanted.min()}")
        values = run["regret"].to_numpy()[index]
        rows += [
            dict(zip(names, key, strict=True)) | {"step": int(t), "regret": float(r)} for t, r in zip(wanted, values)
        ]
    return pd.DataFrame(rows)
