r"""How an agent's return holds up when the domain shifts. Book: robust/environments.

Returns over a mesh of parameters are arrays ``[R, P]``: one row for each run, one column for each point of the mesh.
Every number is computed for a run first and then given with its interval over runs.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.metrics.intervals import Interval, iqm_interval
from ca14lib.metrics.risk import return_conditional_value_at_risk
from ca14lib.metrics.shares import share_of_range

Array = NDArray[np.float64]


class MeshSummary(NamedTuple):
    """Interquartile mean over runs, with 95% intervals, of three summaries of the returns over a mesh."""

    mean: Interval
    worst: Interval
    tail: Interval  # mean of the worst share of the mesh


def mesh_summary(returns: ArrayLike, tail: float = 0.1, weights: ArrayLike | None = None) -> MeshSummary:
    r"""Mean, worst case and tail mean of the return over a mesh of parameters (book eq. shift-mesh).

    The worst point depends on how fine the mesh is; the tail mean less so. Neither is a bound for domains between or
    beyond the points.

    Args:
        returns: ``[R, P]`` with at least two runs.
        tail: Share of the mesh, in (0, 1], whose mean is taken: the worst points, the last in part.
        weights: Of the points in the mean, ``[P]``, at least 0; None counts all alike. Worst and tail ignore them.
    Raises:
        ValueError: If a shape does not fit, a number is not finite, or ``tail`` is out of range.
    """
    mesh = _mesh(returns)
    if weights is None:
        weights = np.ones(mesh.shape[1])
    shares = np.asarray(weights, dtype=np.float64)
    if shares.shape != mesh.shape[1:] or not (shares >= 0).all() or not shares.sum() > 0:
        raise ValueError(f"weights must be {mesh.shape[1]} numbers of at least 0 and not all 0, got {weights!r}")
    tails = [return_conditional_value_at_risk(row, tail) for row in mesh]
    return MeshSummary(
        iqm_interval(mesh @ (shares / shares.sum())), iqm_interval(mesh.min(axis=1)), iqm_interval(tails)
    )


def robustness_score(shifted: float, nominal: float) -> float:
    """Return under the shift over return without it: how much is retained (book eq. shift-ratio).

    A ratio means that only where 0 is the return of doing nothing, and both returns are above it. With negative
    returns it turns around: −20 in the place of −10 would score 2, and a return of −5 in the place of −10 only a half.
    Use :func:`retained_share` there.

    Args:
        shifted: Return under the shift.
        nominal: Return without it.
    Raises:
        ValueError: If a return is not finite or not positive, where the ratio misleads.
    """
    for name, value in (("shifted", shifted), ("nominal", nominal)):
        if not (np.isfinite(value) and value > 0.0):
            raise ValueError(
                f"a ratio of returns misleads unless both are positive, got {name} return {value}: "
                "compare with the random policy instead, as retained_share does"
            )
    return float(shifted / nominal)


def retained_share(returns: ArrayLike, random: ArrayLike, best: ArrayLike) -> Array:
    """Where the return at every point lies between the random policy and the best there (book eq. shift-share).

    It does not change when the reward is scaled, or shifted by an amount that all policies get alike.

    Args:
        returns: ``[…, P]``.
        random: Of the random policy at every point, ``[P]`` or one number.
        best: Of the optimum at every point, or of an agent trained there, ``[P]`` or one number.
    Returns:
        ``[…, P]``: 1 at the best, 0 at the random policy, negative under it.
    Raises:
        ValueError: If the best does not exceed the random policy everywhere, or a number is not finite.
    """
    values = _finite(returns, "returns")
    low, high = _finite(random, "random"), _finite(best, "best")
    low, high = (np.broadcast_to(bound, values.shape[-1:]) for bound in (low, high))
    shares = [share_of_range(values[..., p], float(low[p]), float(high[p])) for p in range(values.shape[-1])]
    return np.stack(shares, axis=-1)


def relative_drop(nominal: ArrayLike, shifted: ArrayLike, random: float, best: float) -> Array:
    """What the shift costs, as a share of the range between the random policy and the best (book eq. shift-drop).

    Args:
        nominal: Returns without the shift, any shape.
        shifted: Returns under it, the same shape.
        random: Return of the random policy, the 0 of the range.
        best: Return of the optimum, its 1.
    Returns:
        The drop, 0 for none; negative where the shift helps.
    Raises:
        ValueError: If the best does not exceed the random policy, shapes differ, or a number is not finite.
    """
    before, after = _finite(nominal, "nominal"), _finite(shifted, "shifted")
    if before.shape != after.shape:
        raise ValueError(f"nominal and shifted must have the same shape, got {before.shape} and {after.shape}")
    return np.asarray(share_of_range(before, random, best) - share_of_range(after, random, best))


def area_under_shift_curve(shift: ArrayLike, scores: ArrayLike) -> Array:
    r"""Mean of a score along the axis of a shift, by the trapezoidal rule (book eq. shift-area).

    Divided by the length of the axis, so that a score that never changes is its own area.

    Args:
        shift: Sizes of the shift, strictly rising, ``[P]`` with at least two points; they need not be evenly spaced.
        scores: ``[…, P]``.
    Returns:
        ``[…]``; give it to :func:`ca14lib.metrics.iqm_interval` for an interval over runs.
    Raises:
        ValueError: If shapes do not fit, the axis does not rise, or a number is not finite.
    """
    axis, values = _finite(shift, "shift"), _finite(scores, "scores")
    if axis.ndim != 1 or len(axis) < 2 or not (np.diff(axis) > 0).all():
        raise ValueError(f"shift must be at least two rising numbers, got {shift!r}")
    if values.shape[-1:] != axis.shape:
        raise ValueError(f"scores must have shape [..., {len(axis)}], got {values.shape}")
    return np.asarray(np.trapezoid(values, axis, axis=-1) / (axis[-1] - axis[0]))


def _finite(values: ArrayLike, name: str) -> Array:
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite and not empty, got {values!r}")
    return array


def _mesh(returns: ArrayLike) -> Array:
    mesh = _finite(returns, "returns")
    if mesh.ndim != 2:
        raise ValueError(f"returns must have shape [runs, points], got {mesh.shape}")
    return mesh
