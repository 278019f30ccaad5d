"""How well a team works together: returns against a bound and against independent learners, fairness, collisions."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.metrics.shares import share_of_range


def share_of_bound(returns: ArrayLike, bounds: ArrayLike) -> float:
    r"""Mean return over mean bound, :math:`\sum_j G_j / \sum_j U_j`.

    It is a ratio of means, and not the mean of ratios, because the mean return is what a team maximises: a reward lost
    counts the same from every start. In a mean of ratios it would count the more, the smaller the start's bound, and a
    bound of zero could not be used at all.

    Args:
        returns: ``[E]``, team returns of episodes.
        bounds: ``[E]``, upper bounds on the return from the same starts.
    Returns:
        At most 1 where the bounds hold; negative if the mean return is.
    Raises:
        ValueError: If shapes disagree, or the mean bound is not positive.
    """
    return_, bound = _vectors(returns=returns, bounds=bounds)
    if not bound.mean() > 0:
        raise ValueError(f"the mean bound must be positive to take a share of it, got {bound.mean():g}")
    return float(return_.mean() / bound.mean())


def coordination_gain(team: float, independent: float, bound: float) -> float:
    r"""Share of what independent learners leave that a team gets, :math:`(G-G_0)/(U-G_0)`.

    Args:
        team: :math:`G`, mean return of agents that learnt as a team.
        independent: :math:`G_0`, mean return of agents that learnt on their own, from the same starts.
        bound: :math:`U`, mean upper bound.
    Returns:
        0 if learning together gains nothing, 1 at the bound, negative if independent learners are better.
    Raises:
        ValueError: If the bound does not exceed the independent learners' return.
    """
    if not bound > independent:
        raise ValueError(f"the bound must exceed the independent learners' return, got {bound} and {independent}")
    return share_of_range(float(team), float(independent), float(bound))


def fairness_index(amounts: ArrayLike) -> float | NDArray[np.float64]:
    r"""Jain's index of how evenly something is spread over n agents, :math:`(\sum_i x_i)^2/(n\sum_i x_i^2)`.

    Of what cannot be negative, as collected targets or steps alive: for returns, which can, the index means nothing
    (it is 0 for returns of 1 and −1). Averages over many episodes say whether the same agents always get more; in a
    single episode of k < n targets even the fairest team is at k/n.

    Args:
        amounts: ``[…, n]``, not negative.
    Returns:
        ``[…]``, a float for ``[n]``: 1 if all have the same, 1/n if one has everything, and 1 if nobody has anything.
    Raises:
        ValueError: If there are no agents, or an amount is negative or not finite.
    """
    amount = np.asarray(amounts, dtype=float)
    if amount.ndim == 0 or amount.shape[-1] == 0:
        raise ValueError(f"amounts must have shape [..., n] with n >= 1, got {amount.shape}")
    wrong = ~(np.isfinite(amount) & (amount >= 0))
    if wrong.any():
        raise ValueError(f"amounts must be finite and not negative, got {amount[wrong][0]:g}")
    most = amount.max(axis=-1, keepdims=True)
    scaled = np.divide(amount, most, out=np.ones_like(amount), where=most > 0)  # squares of large counts overflow
    index = scaled.sum(axis=-1) ** 2 / (amount.shape[-1] * np.square(scaled).sum(axis=-1))
    return float(index) if index.ndim == 0 else index


def time_to_finish(lengths: ArrayLike, finished: ArrayLike, limit: float) -> float:
    """Mean steps until the task is done, an unfinished episode counted at the limit: a lower bound on its time.

    The mean over finished episodes alone would favour a team that only does the easy starts.

    Args:
        lengths: ``[E]``, steps of the episodes.
        finished: ``[E]`` bool, which ended because the task was done.
        limit: Steps at which episodes are cut.
    Raises:
        ValueError: If shapes disagree, or a finished episode is longer than the limit.
    """
    length, done = _vectors(lengths=lengths, finished=finished)
    time = np.where(done > 0, length, limit)
    if (time > limit).any():
        raise ValueError(f"no finished episode may be longer than the limit {limit:g}, got {time.max():g} steps")
    return float(time.mean())


def collisions_per_episode(collisions: ArrayLike, ended: ArrayLike) -> float:
    """Mean collisions of the episodes that ended, from steps recorded side by side.

    Args:
        collisions: ``[T, N]``, collisions in each step of N copies, whose row 0 begins an episode.
        ended: ``[T, N]`` bool, steps that ended an episode. Steps after a copy's last end are of an unfinished episode
            and are not counted.
    Raises:
        ValueError: If shapes disagree, or no episode ended.
    """
    count, end = np.asarray(collisions, dtype=float), np.asarray(ended, dtype=bool)
    if count.ndim != 2 or count.shape != end.shape:
        raise ValueError(f"collisions and ended must be [T, N] alike, got shapes {count.shape} and {end.shape}")
    if not end.any():
        raise ValueError(f"no episode ended in {len(end)} steps, so there are none to take the mean of")
    whole = np.logical_or.accumulate(end[::-1], axis=0)[::-1]  # an end at this step or later
    return float(count[whole].sum() / end.sum())


def _vectors(**arguments: ArrayLike) -> list[NDArray[np.float64]]:
    """The arguments as vectors of one length, at least 1."""
    vectors = [np.asarray(value, dtype=float) for value in arguments.values()]
    shapes = [vector.shape for vector in vectors]
    if vectors[0].ndim != 1 or vectors[0].size == 0 or len(set(shapes)) > 1:
        raise ValueError(f"{' and '.join(arguments)} must be [E] with E >= 1, got shapes {shapes}")
    return vectors
