"""The nearest action under linear constraints and bounds: the quadratic programme of two safety mechanisms.

Book: safe/mechanisms. Used by the safety layer and by control barrier functions.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

SWEEPS, TOLERANCE = 200, 1e-10  # sweeps over the constraints, and the residual at which a row counts as solved
SOFT = 1e5  # slack weight with which rows that no action satisfies are solved
CEILING = 1e12  # multipliers of such rows grow without end: they are stopped here, relative to the size of the data


@dataclass(frozen=True, eq=False)
class Projection:
    """Solutions of ``N`` quadratic programmes with ``K`` constraints on ``D`` numbers.

    Attributes:
        action: The minimiser, ``[N, D]``, within the bounds.
        multiplier: Of every constraint, at least 0, ``[N, K]``.
        slack: By how much the action breaks every constraint, ``[N, K]``, 0 where it holds.
        feasible: True where some action within the bounds satisfies all constraints, ``[N]``; with a finite slack
            weight every row is solved as stated and counts as feasible.
    """

    action: NDArray[np.float64]
    multiplier: NDArray[np.float64]
    slack: NDArray[np.float64]
    feasible: NDArray[np.bool_]


def nearest_action(
    action: ArrayLike,
    normal: ArrayLike,
    bound: ArrayLike,
    *,
    low: ArrayLike = -math.inf,
    high: ArrayLike = math.inf,
    slack_weight: float = math.inf,
) -> Projection:
    r"""Minimise :math:`\tfrac12\lVert x-a\rVert^2+M\sum_k s_k^2` subject to :math:`Gx\le h+s` and bounds on ``x``.

    Given the multipliers the minimiser is :math:`x=\operatorname{clip}(a-G^\top\lambda)` and :math:`s_k=\lambda_k/2M`
    (book eq. control-barrier-qp), so what is left is a concave problem in the ``K`` multipliers. One multiplier solves
    a piecewise linear equation exactly; several are swept one after the other, with a Newton step on the constraints
    that are active in between.

    Args:
        action: :math:`a`, ``[N, D]``.
        normal: :math:`G`, ``[N, K, D]``.
        bound: :math:`h`, ``[N, K]``.
        low: Lower bounds of ``x``, ``[D]`` or a number, possibly −∞.
        high: Upper bounds, not below the lower ones.
        slack_weight: :math:`M > 0`; ∞ for hard constraints. Rows that no action satisfies then get the action of
            least violation, of several constraints the sum of squares, each measured in units of distance.
    Raises:
        ValueError: If shapes disagree, a number is not finite, or bounds are crossed.
    """
    a, g, h = (np.asarray(value, dtype=np.float64) for value in (action, normal, bound))
    if a.ndim != 2 or g.ndim != 3 or g.shape != (a.shape[0], g.shape[1], a.shape[1]) or h.shape != g.shape[:2]:
        raise ValueError(
            f"action must be [N, D], normal [N, K, D] and bound [N, K], got {a.shape}, {g.shape} and {h.shape}"
        )
    for name, value in (("action", a), ("normal", g), ("bound", h)):
        if not np.isfinite(value).all():
            raise ValueError(f"{name} must be finite, got {value[~np.isfinite(value)][0]}")
    if not slack_weight > 0:
        raise ValueError(f"slack_weight must be positive, got {slack_weight}")
    low, high = checked_bounds(low, high, a.shape[1])

    # every constraint divided by the length of its normal; where the normal is 0 no action changes anything
    length = np.linalg.norm(g, axis=2)
    idle = length <= 1e-12 * (1 + abs(h))
    length[idle] = 1.0
    unit, level = np.where(idle[..., None], 0.0, g / length[..., None]), np.where(idle, 0.0, h / length)
    unit[abs(unit) < 1e-12] = 0.0
    softness = 0.5 / slack_weight / length**2
    multiplier, solved = _dual(a, unit, level, low, high, softness)
    hopeless = ~solved
    if math.isinf(slack_weight) and hopeless.any() and h.shape[1] > 1:  # of one constraint, the bounds say it all
        soft = np.full_like(softness[hopeless], 0.5 / SOFT)
        multiplier[hopeless], _ = _dual(a[hopeless], unit[hopeless], level[hopeless], low, high, soft)
    x = np.clip(a - np.einsum("nk,nkd->nd", multiplier, unit), low, high)
    slack = np.maximum(np.einsum("nkd,nd->nk", g, x) - h, 0.0)
    feasible = ~hopeless & ~(idle & (h < 0)).any(axis=1) if math.isinf(slack_weight) else np.ones(len(a), bool)
    return Projection(x, multiplier / length, slack, feasible)


def checked_bounds(low: ArrayLike, high: ArrayLike, size: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Bounds as ``[size]`` each, or a ValueError if they do not fit, are NaN or are crossed."""
    bounds = tuple(np.asarray(value, dtype=np.float64) for value in (low, high))
    for name, value in zip(("low", "high"), bounds):
        if value.shape not in ((), (size,)) or np.isnan(value).any():
            raise ValueError(f"{name} must be a number or {size} numbers, got {value}")
    lower, upper = (np.broadcast_to(value, (size,)) for value in bounds)
    if (lower > upper).any():
        raise ValueError(f"low must not exceed high, got {lower} and {upper}")
    return lower, upper


def _dual(
    a: NDArray[np.float64],
    g: NDArray[np.float64],
    h: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    softness: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Multipliers ``[N, K]`` of constraints with normals of length 1 or 0, and which rows are solved."""
    rows, constraints = h.shape
    multiplier = np.zeros((rows, constraints))
    ceiling = CEILING * (1 + abs(a).max(axis=1, initial=0.0) + abs(h).max(axis=1, initial=0.0))
    open_rows, unsolved = np.arange(rows), np.zeros(rows, dtype=bool)
    for sweep in range(1 if constraints == 1 else SWEEPS):
        part = multiplier[open_rows]
        data = (a[open_rows], g[open_rows], h[open_rows], low, high, softness[open_rows])
        for k in range(constraints):
            others = data[0] - np.einsum("nk,nkd->nd", part, data[1]) + part[:, k, None] * data[1][:, k]
            root = _root(others, data[1][:, k], data[2][:, k], low, high, data[5][:, k])
            part[:, k] = np.minimum(root, ceiling[open_rows])
        error = _residual(part, *data)
        if constraints > 1 and sweep % 3 == 2:
            better = _newton(part, *data)
            better_error = _residual(better, *data)
            take = better_error < error
            part[take], error[take] = better[take], better_error[take]
        hopeless = np.zeros(len(part), bool)
        if constraints > 1:
            for direction in (part, part - multiplier[open_rows]):
                hopeless |= _contradicts(direction, *data)
        multiplier[open_rows] = part
        unsolved[open_rows[hopeless]] = True
        open_rows = open_rows[(error > TOLERANCE) & ~hopeless]
        if open_rows.size == 0:
            break
    unsolved[open_rows] = True
    return multiplier, ~unsolved


def _root(
    y: NDArray[np.float64],
    g: NDArray[np.float64],
    h: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    softness: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Least λ ≥ 0 with g·clip(y − λg) − h − softness·λ ≤ 0, or one beyond which the left side no longer falls."""
    with np.errstate(divide="ignore", invalid="ignore"):
        edges = np.concatenate([(y - high) / g, (y - low) / g], axis=1)  # λ at which a coordinate meets a bound
    edges = np.sort(np.where(np.isfinite(edges) & (edges > 0), edges, 0.0), axis=1)
    edges = np.concatenate([np.zeros((len(y), 1)), edges], axis=1)
    clipped = np.clip(y[:, None] - edges[..., None] * g[:, None], low, high)
    excess = np.einsum("nd,ned->ne", g, clipped) - h[:, None] - softness[:, None] * edges
    below = excess <= 0
    index = np.where(below.any(axis=1), below.argmax(axis=1), edges.shape[1])
    row = np.arange(len(y))
    before = np.maximum(index - 1, 0)
    after = np.minimum(index, edges.shape[1] - 1)
    fall = excess[row, before] - excess[row, after]
    share = np.divide(excess[row, before], fall, out=np.zeros(len(y)), where=fall > 0)
    between = edges[row, before] + share * (edges[row, after] - edges[row, before])
    free = (np.where(g > 0, np.isneginf(low), np.isposinf(high)) * g**2).sum(axis=1) + softness  # slope at the end
    # where the left side never gets down to 0, λ grows from sweep to sweep, so that the contradiction shows
    beyond = edges[:, -1] + np.divide(excess[:, -1], free, out=1.0 + edges[:, -1], where=free > 0)
    return np.where(index == 0, 0.0, np.where(index == edges.shape[1], beyond, between))


def _gap(
    multiplier: NDArray[np.float64],
    a: NDArray[np.float64],
    g: NDArray[np.float64],
    h: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
    softness: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The dual's gradient ``[N, K]`` and the action before clipping ``[N, D]``."""
    raw = a - np.einsum("nk,nkd->nd", multiplier, g)
    return np.einsum("nkd,nd->nk", g, np.clip(raw, low, high)) - h - softness * multiplier, raw


def _residual(multiplier: NDArray[np.float64], *data: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from the optimality conditions λ ≥ 0, gradient ≤ 0, λ·gradient = 0, ``[N]``."""
    gap, _ = _gap(multiplier, *data)
    scale = 1 + abs(data[2]).max(axis=1) + abs(data[0]).max(axis=1)
    return abs(np.maximum(gap, -multiplier)).max(axis=1) / scale


def _contradicts(direction: NDArray[np.float64], *data: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether a sum of hard constraints with these weights is broken by every point within the bounds, ``[N]``.

    The multipliers of constraints that contradict one another grow for ever, and their growth has such weights.
    """
    _, g, h, low, high, softness = data
    weight = np.maximum(direction, 0.0) * (softness == 0)
    weight /= np.maximum(weight.sum(axis=1, keepdims=True), 1e-300)
    normal = np.einsum("nk,nkd->nd", weight, g)
    normal[abs(normal) < 1e-10] = 0.0
    with np.errstate(invalid="ignore"):
        least = np.where(normal == 0, 0.0, np.minimum(normal * low, normal * high)).sum(axis=1)
    return least - (weight * h).sum(axis=1) > 1e-8 * (1 + abs(h).max(axis=1))


def _newton(multiplier: NDArray[np.float64], *data: NDArray[np.float64]) -> NDArray[np.float64]:
    """The multipliers that make the active constraints equalities if the same coordinates stay inside the bounds."""
    _, g, _, low, high, softness = data
    gap, raw = _gap(multiplier, *data)
    active = multiplier + gap > 0
    free = (raw > low) & (raw < high)
    both = active[:, :, None] & active[:, None, :]
    slope = np.einsum("nkd,nd,njd->nkj", g, free.astype(float), g) * both
    index = np.arange(active.shape[1])
    slope[:, index, index] += np.where(active, softness, 1.0)
    step = np.linalg.pinv(slope, hermitian=True) @ np.where(active, gap, -multiplier)[..., None]
    return np.maximum(multiplier + step[..., 0], 0.0)
