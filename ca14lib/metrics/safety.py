"""What a run did to its limits: violations, their size and duration, and the score. Book: safe/theory.

Costs are at least 0 and a limit bounds the **undiscounted cost of a completed episode**. Episode costs are ``[E, K]``
for E episodes and K constraints, limits ``[K]``; with a single constraint the axis K may be left out of costs, limit
and result. An episode **violates** a limit if its cost exceeds it by more than ``tolerance`` (relative to the limit
where that is larger than 1), so that a sum of rounded tenths does not violate a limit of exactly that sum.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from ca14lib.metrics.intervals import Interval
from ca14lib.metrics.shares import share_of_range

Array = NDArray[np.float64]

ROUNDING = 1e-6  # costs may be sums of float32


class WorstEpisode(NamedTuple):
    """The episode of the largest cost: its position (the first of several) and its cost, ``[K]`` each."""

    episode: NDArray[np.int64]
    cost: Array


def violation_rate(episode_cost: ArrayLike, limit: ArrayLike, *, tolerance: float = ROUNDING) -> Array:
    """Share of the episodes whose cost exceeds the limit, for each constraint.

    Args:
        episode_cost: Cost of every completed episode, ``[E, K]`` or ``[E]``.
        limit: ``[K]``, or a number.
        tolerance: Excess that is taken for rounding.
    Returns:
        In [0, 1], ``[K]``; without an axis if the costs have none.
    Raises:
        ValueError: If there are no episodes, a cost is NaN or negative, or shapes disagree.
    """
    return np.asarray(_violations(episode_cost, limit, tolerance).mean(axis=0))


def exceedance_probability(
    episode_cost: ArrayLike, limit: ArrayLike, *, confidence: float = 0.95, tolerance: float = ROUNDING
) -> Interval:
    """Probability that an episode exceeds at least one of its limits, with its exact binomial interval.

    The interval of Clopper and Pearson covers with probability at least the nominal one for every number of episodes.
    After E episodes without a violation it does not end at 0, but at about 3.7 / E.

    Args:
        episode_cost: Cost of every completed episode, independent episodes of one policy, ``[E, K]`` or ``[E]``.
        limit: ``[K]``, or a number.
        confidence: Least coverage, in (0, 1).
        tolerance: Excess that is taken for rounding.
    Raises:
        ValueError: If there are no episodes, a cost is NaN or negative, shapes disagree or the confidence is out of
            range.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    violations = _violations(episode_cost, limit, tolerance)
    violated = violations.reshape(len(violations), -1).max(axis=1)
    count, episodes, tail = int(violated.sum()), len(violated), (1 - confidence) / 2
    low = stats.beta.ppf(tail, count, episodes - count + 1) if count > 0 else 0.0
    high = stats.beta.ppf(1 - tail, count + 1, episodes - count) if count < episodes else 1.0
    return Interval(count / episodes, float(low), float(high))


def worst_episode(episode_cost: ArrayLike) -> WorstEpisode:
    """The costliest episode and its cost, for each constraint.

    Args:
        episode_cost: ``[E, K]`` or ``[E]``.
    Raises:
        ValueError: If there are no episodes or a cost is NaN or negative.
    """
    cost = _episodes(episode_cost)
    return WorstEpisode(np.asarray(cost.argmax(axis=0)), np.asarray(cost.max(axis=0)))


def cumulative_violations(
    episode_cost: ArrayLike, limit: ArrayLike, *, tolerance: float = ROUNDING
) -> NDArray[np.int64]:
    """Number of violating episodes so far, after each episode in the order they were completed.

    Args:
        episode_cost: ``[E, K]`` or ``[E]``, in order.
        limit: ``[K]``, or a number.
        tolerance: Excess that is taken for rounding.
    Returns:
        The shape of the costs; it never falls.
    Raises:
        ValueError: If there are no episodes, a cost is NaN or negative, or shapes disagree.
    """
    return np.cumsum(_violations(episode_cost, limit, tolerance), axis=0, dtype=np.int64)


def mean_excess(episode_cost: ArrayLike, limit: ArrayLike) -> Array:
    """Mean over all episodes of the cost beyond the limit, 0 for episodes within it.

    A policy whose mean cost meets the limit can have an excess: cheap episodes pay for costly ones in the mean, not
    here.

    Args:
        episode_cost: ``[E, K]`` or ``[E]``.
        limit: ``[K]``, or a number.
    Returns:
        In units of cost, ``[K]``; without an axis if the costs have none.
    Raises:
        ValueError: If there are no episodes, a cost is NaN or negative, or shapes disagree.
    """
    cost = _episodes(episode_cost)
    return np.asarray(np.maximum(cost - _limits(limit, cost), 0).mean(axis=0))


def time_in_violation(step_cost: ArrayLike | Sequence[ArrayLike]) -> Array:
    """Share of the steps that have a positive cost, for each constraint.

    Args:
        step_cost: An array with the constraints last, ``[T, N, K]`` or ``[T, K]``, or without that axis ``[T]``; or a
            list of episodes, each ``[T, K]`` or ``[T]``, whose steps count alike.
    Returns:
        In [0, 1], ``[K]``.
    Raises:
        ValueError: If there are no steps, a cost is NaN or negative, or episodes differ in K.
    """
    return np.asarray((_steps(step_cost) > 0).mean(axis=0))


def cost_rate(step_cost: ArrayLike | Sequence[ArrayLike]) -> Array:
    """Cost per step, for each constraint: the sum over all steps divided by their number.

    Args:
        step_cost: As for :func:`time_in_violation`.
    Returns:
        ``[K]``.
    Raises:
        ValueError: If there are no steps, a cost is NaN or negative, or episodes differ in K.
    """
    return np.asarray(_steps(step_cost).mean(axis=0))


def constraint_satisfied(mean_cost: ArrayLike, limit: ArrayLike, tolerance: float = ROUNDING) -> bool:
    """Whether every mean cost is within its limit (the constraint of book eq. cmdp-objective).

    Args:
        mean_cost: Expected or average cost of an episode, ``[K]`` or a number.
        limit: ``[K]``, or a number.
        tolerance: Excess that still counts as within, in units of cost.
    Raises:
        ValueError: If a cost is NaN or negative, or shapes disagree.
    """
    cost = _costs(np.atleast_1d(np.asarray(mean_cost, dtype=np.float64)), "mean_cost")
    if cost.ndim != 1:
        raise ValueError(f"mean_cost must have shape [K], got {cost.shape}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0, got {tolerance}")
    return bool((cost <= _limits(limit, cost[None]) + tolerance).all())


def safety_score(value: float, safe_return: float, optimal_return: float) -> float:
    """Where a return lies between the safest and the best one that the limit allows (book eq. safe-score).

    0 is the best return at the smallest feasible cost, 1 the constrained optimum at the limit. It says nothing about
    the cost that the return was bought with: over 1 the limit is broken, and under 1 it may be.

    Args:
        value: The policy's expected return.
        safe_return: Return of the constrained optimum at the smallest feasible limit.
        optimal_return: Return of the constrained optimum at the limit in question.
    Raises:
        ValueError: If a return is not finite, or the two references meet: such a limit has no score.
    """
    if not np.isfinite([value, safe_return, optimal_return]).all():
        raise ValueError(f"returns must be finite, got {value}, {safe_return} and {optimal_return}")
    if not optimal_return > safe_return:
        raise ValueError(
            f"optimal_return must exceed safe_return, got {optimal_return} and {safe_return}: this limit has no score"
        )
    return share_of_range(value, safe_return, optimal_return)


def safety_report(
    episode_return: ArrayLike,
    episode_cost: ArrayLike,
    limit: ArrayLike,
    *,
    step_cost: ArrayLike | Sequence[ArrayLike] | None = None,
    confidence: float = 0.95,
    tolerance: float = ROUNDING,
) -> dict[str, float]:
    """What is worth logging about a set of completed episodes, ready for a training history.

    Args:
        episode_return: ``[E]``.
        episode_cost: ``[E, K]`` or ``[E]``.
        limit: ``[K]``, or a number.
        step_cost: Costs of single steps, as for :func:`time_in_violation`; optional.
        confidence: Least coverage of the exceedance interval.
        tolerance: Excess that is taken for rounding.
    Returns:
        ``episodes``, ``return_mean``; for every constraint ``cost_mean``, ``cost_worst``, ``cost_excess``
        (:func:`mean_excess`), ``violation_rate`` and, given steps, ``time_in_violation`` and ``cost_rate``, with the
        constraint's number after an underscore if there are several; and over all constraints ``exceedance``,
        ``exceedance_low``, ``exceedance_high`` (:func:`exceedance_probability`) and ``satisfied``, 1 if every mean
        cost is within its limit, else 0.
    Raises:
        ValueError: If there are no episodes, a number is NaN, a cost negative, or shapes disagree.
    """
    cost = _episodes(episode_cost)
    returns = np.asarray(episode_return, dtype=np.float64)
    if returns.shape != (len(cost),):
        raise ValueError(f"episode_return must have one entry for each of {len(cost)} episodes, got {returns.shape}")
    if not np.isfinite(returns).all():
        raise ValueError(f"episode_return must be finite, got {returns[~np.isfinite(returns)][0]}")
    columns = {
        "cost_mean": cost.mean(axis=0),
        "cost_worst": worst_episode(cost).cost,
        "cost_excess": mean_excess(cost, limit),
        "violation_rate": violation_rate(cost, limit, tolerance=tolerance),
    }
    constraints = 1 if cost.ndim == 1 else cost.shape[1]
    if step_cost is not None:
        columns |= {"time_in_violation": time_in_violation(step_cost), "cost_rate": cost_rate(step_cost)}
        if columns["cost_rate"].size != constraints:
            raise ValueError(f"step_cost must have {constraints} constraints, got {columns['cost_rate'].size}")
    report = {"episodes": float(len(cost)), "return_mean": float(returns.mean())}
    for name, values in columns.items():
        entries = np.atleast_1d(values)
        report |= {f"{name}_{k}" if constraints > 1 else name: float(entry) for k, entry in enumerate(entries)}
    exceedance = exceedance_probability(cost, limit, confidence=confidence, tolerance=tolerance)
    report |= dict(zip(("exceedance", "exceedance_low", "exceedance_high"), exceedance, strict=True))
    return report | {"satisfied": float(constraint_satisfied(cost.mean(axis=0), limit, tolerance))}


def _costs(cost: Array, name: str) -> Array:
    if cost.size == 0:
        raise ValueError(f"{name} must not be empty, got shape {cost.shape}")
    if not np.isfinite(cost).all():
        raise ValueError(f"{name} must be finite, got {cost[~np.isfinite(cost)][0]}")
    if cost.min() < 0:
        raise ValueError(f"{name} must be at least 0, got {cost.min()}")
    return cost


def _episodes(episode_cost: ArrayLike) -> Array:
    cost = np.asarray(episode_cost, dtype=np.float64)
    if cost.ndim not in (1, 2):
        raise ValueError(f"episode_cost must have shape [E, K] or [E], got {cost.shape}")
    return _costs(cost, "episode_cost")


def _limits(limit: ArrayLike, cost: Array) -> Array:
    """The limits in a shape that compares with costs ``[E, K]`` or ``[E]``."""
    limits = np.asarray(limit, dtype=np.float64)
    constraints = 1 if cost.ndim == 1 else cost.shape[1]
    if limits.ndim > 1 or limits.size != constraints:
        raise ValueError(f"limit must have one entry for each of {constraints} constraints, got shape {limits.shape}")
    if not (limits >= 0).all():
        raise ValueError(f"limit must be at least 0, got {limits[~(limits >= 0)] if limits.ndim else limits}")
    return limits.reshape(()) if cost.ndim == 1 else limits.reshape(-1)


def _violations(episode_cost: ArrayLike, limit: ArrayLike, tolerance: float) -> NDArray[np.bool_]:
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0, got {tolerance}")
    cost = _episodes(episode_cost)
    limits = _limits(limit, cost)
    return cost > limits + tolerance * np.maximum(limits, 1)


def _steps(step_cost: ArrayLike | Sequence[ArrayLike]) -> Array:
    """Costs of all steps, ``[steps, K]``."""
    episodes = step_cost if isinstance(step_cost, list | tuple) else [step_cost]
    arrays = [np.asarray(episode, dtype=np.float64) for episode in episodes]
    if not arrays or any(array.ndim == 0 for array in arrays):
        raise ValueError("step_cost must be an array [..., K] or a list of episodes [T, K], got no axis of steps")
    rows = [array.reshape(-1, 1 if array.ndim == 1 else array.shape[-1]) for array in arrays]
    if len({row.shape[1] for row in rows}) > 1:
        raise ValueError(f"step_cost must have the same constraints in every episode, got {[a.shape for a in arrays]}")
    return _costs(np.concatenate(rows), "step_cost")
