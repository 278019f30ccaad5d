"""Robust decision processes, exactly: the worst case over uncertain transitions, rewards and observations.

Book: robust/theory.

Nature answers every state and action with the worst transition probabilities of an uncertainty set of their own: the
set is (s,a)-*rectangular*. Then the worst case of a whole policy is found by dynamic programming (Iyengar, 2005; Nilim
and El Ghaoui, 2005). Where one model of a finite set holds for the whole episode the set is not rectangular, and
:func:`~ca14lib.solvers.uncertain.robust_constrained_plan` finds the best policy with memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from ca14lib.environments.tabular_model import TabularModel
from ca14lib.solvers.dynamic_programming import _check, _checked_policy, policy_evaluation

Ball = Literal["l1", "linf", "kl", "finite"]
Array = NDArray[np.float64]

BALLS = ("l1", "linf", "kl", "finite")
CHUNK = 1024  # pairs of state and action whose inner problems are solved at once
MAX_ENTRIES = 250_000_000  # of the kernel, one for every step of a horizon
NEWTON_STEPS = 200


# --- the inner problem: the worst probabilities for given values ------------------------------------------------------


def worst_case_l1(
    probabilities: ArrayLike, values: ArrayLike, radius: ArrayLike, support: ArrayLike | None = None
) -> Array:
    """The distribution q with the least :math:`q\\cdot v` among those with :math:`\\lVert q-p\\rVert_1\\le\\Delta`.

    By sorting (book eq. rmdp-l1-worst): half of the radius is taken from the successors with the largest values, best
    first, and given to the one with the least.

    Args:
        probabilities: Nominal distributions :math:`p`, ``[…, S]``.
        values: What each successor is worth, ``[S]`` or ``[…, S]``.
        radius: :math:`\\Delta` in [0, 2], a number or ``[…]``; at 2 the ball holds every distribution.
        support: True where :math:`q` may be positive, ``[S]`` or ``[…, S]``, with every successor that is possible
            under ``probabilities``; None for all successors, the full simplex.
    Returns:
        Worst distributions, ``[…, S]``.
    Raises:
        ValueError: If a radius is out of range, rows are no distributions, values are not finite or shapes disagree.
    """
    p, v, t, allowed = _checked_inner(probabilities, values, radius, support, 2.0)
    return _l1(p, v, t, allowed)


def worst_case_linf(
    probabilities: ArrayLike, values: ArrayLike, radius: ArrayLike, support: ArrayLike | None = None
) -> Array:
    """The distribution q with the least :math:`q\\cdot v` among those with :math:`|q_i-p_i|\\le\\Delta` for all i.

    Every successor gets its least share, then the rest goes to the worst successors, as much as each may take
    (book eq. rmdp-linf-worst).

    Args: as :func:`worst_case_l1`, with a radius in [0, 1].
    Returns:
        Worst distributions, ``[…, S]``.
    Raises:
        ValueError: As :func:`worst_case_l1`.
    """
    p, v, t, allowed = _checked_inner(probabilities, values, radius, support, 1.0)
    return _linf(p, v, t, allowed)


def worst_case_kl(probabilities: ArrayLike, values: ArrayLike, radius: ArrayLike) -> Array:
    """The distribution q with the least :math:`q\\cdot v` among those with :math:`\\mathrm{KL}(q\\|p)\\le\\Delta`.

    It is :math:`q\\propto p\\,e^{-v/\\lambda}` with the :math:`\\lambda` that solves the one-dimensional dual (book eq.
    rmdp-kl-dual), or all mass on the worst successors where the radius allows that. What is impossible under
    ``probabilities`` stays so: the divergence would be infinite.

    Args: as :func:`worst_case_l1`, with a radius of at least 0, infinity included.
    Returns:
        Worst distributions, ``[…, S]``.
    Raises:
        ValueError: As :func:`worst_case_l1`.
    """
    p, v, t, _ = _checked_inner(probabilities, values, radius, None, np.inf)
    return _kl(p, v, t)


def worst_candidate(candidates: ArrayLike, values: ArrayLike, rewards: ArrayLike = 0.0) -> NDArray[np.intp]:
    """Which of M distributions has the least reward plus expected value (the first one of several).

    Args:
        candidates: Distributions, ``[M, …, S]``.
        values: What each successor is worth, discounted, ``[S]``.
        rewards: Expected reward under each candidate, ``[M, …]``, or 0.
    Returns:
        Index of the worst candidate, ``[…]``.
    Raises:
        ValueError: If rows are no distributions, values are not finite or shapes disagree.
    """
    p, v, _, _ = _checked_inner(candidates, values, 0.0, None, np.inf)
    if v.ndim != 1:
        raise ValueError(f"values must have shape {p.shape[-1:]}, got {v.shape}")
    return (np.asarray(rewards, dtype=np.float64) + p @ v).argmin(axis=0)


def _l1(p: Array, v: Array, radius: Array, allowed: NDArray[np.bool_] | None) -> Array:
    order = np.argsort(v if allowed is None else np.where(allowed, v, np.inf), axis=-1, kind="stable")
    q = _sorted(p, order)
    moved = np.minimum(radius / 2, 1.0 - q[..., 0])[..., None]
    better = np.cumsum(q[..., ::-1], axis=-1)[..., ::-1] - q  # mass on what is better than each successor
    taken = np.clip(moved - better, 0.0, q)
    taken[..., 0] = 0.0
    q -= taken
    q[..., 0] += taken.sum(axis=-1)
    return _unsorted(q, order)


def _linf(p: Array, v: Array, radius: Array, allowed: NDArray[np.bool_] | None) -> Array:
    order = np.argsort(v if allowed is None else np.where(allowed, v, np.inf), axis=-1, kind="stable")
    nominal, t = _sorted(p, order), radius[..., None]
    least, most = np.maximum(nominal - t, 0.0), np.minimum(nominal + t, 1.0)
    if allowed is not None:
        most = np.where(_sorted(np.broadcast_to(allowed, p.shape), order), most, 0.0)
    room = most - least
    left = (nominal - least).sum(axis=-1, keepdims=True)  # what the least shares do not use
    worse = np.cumsum(room, axis=-1) - room  # what the worse successors can take
    return _unsorted(least + np.clip(left - worse, 0.0, room), order)


def _kl(p: Array, v: Array, radius: Array) -> Array:
    v = np.broadcast_to(v, p.shape)
    possible = p > 0
    lowest = np.where(possible, v, np.inf).min(axis=-1, keepdims=True)
    width = np.where(possible, v - lowest, 0.0).max(axis=-1, keepdims=True)
    flat = (width[..., 0] == 0) | (radius == 0)
    gap = np.where(possible, v - lowest, 0.0) / np.where(width == 0, 1.0, width)  # 0 at the worst, 1 at the best
    worst = p * (gap == 0)
    share = worst.sum(axis=-1)
    saturated = ~flat & (radius >= -np.log(share))
    solved = ~flat & ~saturated
    q = np.where(saturated[..., None], worst / share[..., None], p)
    if solved.any():
        q[solved] = _tilted(p[solved], gap[solved], radius[solved])
    return q


def _tilted(p: Array, gap: Array, radius: Array) -> Array:
    """Rows :math:`p\\,e^{-\\beta g}`, normalised, whose divergence from p is the radius.

    :math:`\\log\\mathrm{KL}` rises with :math:`\\log\\beta`, with slope 2 where the tilt is small. Newton's method on
    the two logarithms, inside a bracket that is halved where a step would leave it.
    """
    variance = (p * gap**2).sum(axis=-1) - (p * gap).sum(axis=-1) ** 2
    x = 0.5 * np.log(2 * radius / np.maximum(variance, 1e-300))
    low, high = np.full(len(p), -np.inf), np.full(len(p), np.inf)
    active = np.arange(len(p))
    q = p.copy()
    for _ in range(NEWTON_STEPS):
        tilted, divergence, spread = _tilt(p[active], gap[active], np.exp(x[active]))
        q[active] = tilted
        excess = np.log(np.maximum(divergence, 1e-300) / radius[active])
        low[active] = np.where(excess <= 0, x[active], low[active])
        high[active] = np.where(excess > 0, x[active], high[active])
        slope = np.exp(2 * x[active]) * spread / np.maximum(divergence, 1e-300)
        with np.errstate(divide="ignore", over="ignore"):
            step = np.clip(np.where(slope > 0, -excess / slope, -np.sign(excess)), -2.0, 2.0)
        proposed = x[active] + step
        outside = (proposed <= low[active]) | (proposed >= high[active])
        proposed[outside] = (low[active][outside] + high[active][outside]) / 2
        settled = (abs(excess) < 1e-13) | (abs(proposed - x[active]) < 1e-14 * np.maximum(1.0, abs(x[active])))
        x[active] = proposed
        active = active[~settled]
        if not len(active):
            break
    # rounding may leave a row outside; the divergence is convex, so a step back towards p enters the ball
    divergence = _divergence(p, q)
    share = np.minimum(1.0, radius / np.maximum(divergence, 1e-300))[:, None]
    return share * q + (1 - share) * p


def _tilt(p: Array, gap: Array, tilt: Array) -> tuple[Array, Array, Array]:
    """The tilted rows, their divergence from p and the variance of the gap under them, without cancellation."""
    exponent = -tilt[:, None] * gap
    total = (p * np.exp(exponent)).sum(axis=-1)
    near_one = np.log1p(np.maximum((p * np.expm1(exponent)).sum(axis=-1), -0.9))
    log_total = np.where(total < 0.5, np.log(total), near_one)
    log_ratio = exponent - log_total[:, None]
    q = p * np.exp(log_ratio)
    mean = (q * gap).sum(axis=-1, keepdims=True)
    return q, (p * _excess(log_ratio)).sum(axis=-1), (q * (gap - mean) ** 2).sum(axis=-1)


def _divergence(p: Array, q: Array) -> Array:
    """KL(q‖p) of each row."""
    with np.errstate(divide="ignore", invalid="ignore"):
        log_ratio = np.where((p > 0) & (q > 0), np.log(q / p), -np.inf)
    return np.where(p > 0, p * _excess(log_ratio), 0.0).sum(axis=-1)


def _excess(log_ratio: Array) -> Array:
    """:math:`w\\log w-w+1` for the ratio w: never negative, summed with weights p it is the divergence."""
    u = np.maximum(log_ratio, -745.0)
    series = u * u * (1 / 2 + u * (1 / 3 + u * (1 / 8 + u * (1 / 30 + u / 144))))
    with np.errstate(over="ignore"):
        return np.where(abs(u) < 1e-2, series, np.exp(u) * (u - 1) + 1)


def _sorted(rows: NDArray, order: NDArray[np.intp]) -> NDArray:
    return rows[..., order] if order.ndim == 1 else np.take_along_axis(np.broadcast_to(rows, order.shape), order, -1)


def _unsorted(rows: Array, order: NDArray[np.intp]) -> Array:
    back = np.empty_like(rows)
    if order.ndim == 1:
        back[..., order] = rows
    else:
        np.put_along_axis(back, order, rows, axis=-1)
    return back


# --- robust dynamic programming ---------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class RobustSolution:
    """A policy, its values in the worst case, and the worst case.

    Without a horizon the first axis of the arrays in brackets is missing.

    Attributes:
        value: Worst-case value of every state, ``[H + 1, S]``.
        q: Worst-case value of every pair, ``[H, S, A]``; −∞ where an action is forbidden.
        policy: The policy, ``[H, S, A]``: an optimal one, or the one that was evaluated.
        kernel: The worst transition probabilities, ``[H, S, A, S]``.
        reward: The worst expected rewards under that kernel, ``[H, S, A]``.
        robust_return: Worst-case value averaged over the first state.
        error_bound: The exact values are at most this far from ``value``, by the contraction; 0 with a horizon.
        discount: :math:`\\gamma`.
        horizon: H or None.
        model: The nominal problem (the first one of a finite set).
    """

    value: Array
    q: Array
    policy: Array
    kernel: Array
    reward: Array
    robust_return: float
    error_bound: float
    discount: float
    horizon: int | None
    model: TabularModel

    def worst_problem(self) -> tuple[TabularModel, Array]:
        """The problem that nature chooses and the policy in it: its ``policy_return`` is the robust return.

        Without a horizon it has the states of the model. With one, nature answers differently at every step, so the
        states are (step, state), in the order of step, and those of the last step are terminal.
        """
        if self.horizon is None:
            problem = replace(
                self.model, transition=self.kernel, reward=self.reward, cost=np.zeros((0, *self.reward.shape))
            )
            return problem, self.policy
        steps, states, actions = self.policy.shape
        size = (steps + 1) * states
        if size * size * actions > MAX_ENTRIES:
            raise ValueError(f"{steps} steps × {states} states are too many for one table of transitions")
        transition = np.zeros((steps + 1, states, actions, steps + 1, states))
        for step in range(steps):
            transition[step, :, :, step + 1] = self.kernel[step]
        transition[steps, :, :, steps] = np.eye(states)[:, None, :]
        ended = np.tile(self.model.terminal, (steps + 1, 1))
        ended[steps] = True
        problem = TabularModel(
            transition=transition.reshape(size, actions, size),
            reward=np.append(self.reward, np.zeros((1, states, actions)), axis=0).reshape(size, actions),
            terminal=ended.ravel(),
            initial=np.append(self.model.initial, np.zeros(steps * states)),
            action_mask=None if self.model.action_mask is None else np.tile(self.model.action_mask, (steps + 1, 1)),
        )
        return problem, np.append(self.policy, self.policy[-1:], axis=0).reshape(size, actions)


def robust_value_iteration(
    model: TabularModel | Sequence[TabularModel],
    radius: ArrayLike = 0.0,
    ball: Ball = "l1",
    *,
    discount: float = 1.0,
    horizon: int | None = None,
    support: str | ArrayLike = "simplex",
    reward_radius: ArrayLike = 0.0,
    tolerance: float = 1e-10,
    max_iterations: int = 1_000,
) -> RobustSolution:
    """The best policy for the worst case of an (s,a)-rectangular uncertainty set (book eq. rmdp-optimality).

    With a horizon it is one backward pass. Without, values are improved as in policy iteration: the worst kernel of the
    present policy is found by nature's own policy iteration, each time by a linear system, then the policy is improved
    against the worst kernels of all pairs. The values rise to the fixed point of the robust Bellman operator, and the
    residual bounds what is missing (book eq. rmdp-stopping).

    Terminal states are certain: nobody leaves them, and their value is 0. With rewards ``[S, A, S]``, those of moves
    that are nominally impossible count where nature may make such moves.

    Args:
        model: The nominal problem; for ``ball="finite"`` a sequence of candidates of which nature may take another one,
            with its rewards, at every step, state and action.
        radius: Size of the ball around :math:`P(\\cdot\\mid s,a)`, a number or ``[S, A]``: in [0, 2] for ``"l1"``, [0,
            1] for ``"linf"``, at least 0 for ``"kl"``; 0 for ``"finite"``.
        ball: ``"l1"``, ``"linf"``, ``"kl"`` or ``"finite"``.
        discount: :math:`\\gamma` in (0, 1], below 1 without a horizon.
        horizon: Steps; None takes the model's horizon.
        support: Where nature may lead: ``"simplex"`` to every state, ``"nominal"`` only where the model may, or
            booleans ``[S, A, S]``. A KL ball never leaves the nominal support.
        reward_radius: The reward of a pair may be smaller by this much, at least 0, a number or ``[S, A]``.
        tolerance: Largest error of the values that is aimed at; for values so large that rounding does not allow it,
            see ``error_bound``.
        max_iterations: Of policies that are evaluated.
    Raises:
        ValueError: If an argument is out of range or candidates do not fit together.
        RuntimeError: If the values have not settled after ``max_iterations`` policies.
    """
    nominal, nature, horizon = _prepared(
        model, radius, ball, discount, horizon, support, reward_radius, tolerance, max_iterations
    )
    if horizon is not None:
        return _backward(nominal, nature, discount, horizon, None)
    value = np.zeros(nominal.num_states)
    policy = _greedy_of(nature.table(nature.q(value)))
    residual = np.inf
    for _ in range(max_iterations):
        held = _worst_of(nature, policy, value, discount, tolerance, max_iterations)
        value = held.value
        q = nature.table(nature.q(value))
        gain = np.where(nominal.terminal, 0.0, q.max(axis=1) - value)
        before, residual = residual, float(abs(gain).max(initial=0.0))
        if _settled(residual, before, value, discount, tolerance):
            return _assembled(nominal, nature, policy, held, residual, discount)
        better = gain > _stop(value, discount, tolerance)
        policy = np.where(better[:, None], _greedy_of(q), policy)
    raise RuntimeError(f"robust values have not settled after {max_iterations} policies (residual {residual:.3g})")


def robust_policy_evaluation(
    model: TabularModel | Sequence[TabularModel],
    policy: Array,
    radius: ArrayLike = 0.0,
    ball: Ball = "l1",
    *,
    discount: float = 1.0,
    horizon: int | None = None,
    support: str | ArrayLike = "simplex",
    reward_radius: ArrayLike = 0.0,
    tolerance: float = 1e-10,
    max_iterations: int = 1_000,
) -> RobustSolution:
    """The worst case of one policy over the uncertainty set (book eq. rmdp-policy-operator).

    Where the policy tosses a coin, nature answers after it has fallen.

    Args: as :func:`robust_value_iteration`; ``policy`` is a table ``[S, A]``, or ``[H, S, A]`` with a horizon.
    Raises:
        ValueError: As :func:`robust_value_iteration`, and if the policy is no table of probabilities.
        RuntimeError: If the values have not settled after ``max_iterations`` kernels.
    """
    nominal, nature, horizon = _prepared(
        model, radius, ball, discount, horizon, support, reward_radius, tolerance, max_iterations
    )
    policy = _checked_policy(nominal, policy, horizon)
    if horizon is not None:
        tables = np.broadcast_to(policy, (horizon, *policy.shape[-2:]))
        return _backward(nominal, nature, discount, horizon, tables)
    held = _worst_of(nature, policy, np.zeros(nominal.num_states), discount, tolerance, max_iterations)
    return _assembled(nominal, nature, policy, held, held.residual, discount)


Answer = Callable[[Array, NDArray[np.intp]], tuple[Array, Array]]


@dataclass(frozen=True, eq=False)
class _Nature:
    """Who answers: ``answer(value, pairs)`` gives the worst rows ``[N, S]`` and expected rewards ``[N]`` of pairs.

    Pairs are the allowed ones of states that are not terminal, in the order of ``state`` and ``action``.
    """

    model: TabularModel
    state: NDArray[np.intp]
    action: NDArray[np.intp]
    discount: float
    answer: Answer

    def chunks(self) -> list[NDArray[np.intp]]:
        pairs = np.arange(len(self.state))
        return [pairs[start : start + CHUNK] for start in range(0, len(pairs), CHUNK)]

    def q(self, value: Array) -> Array:
        """Worst-case values of all pairs, ``[N]``: one application of book eq. rmdp-operator before the maximum."""
        parts = []
        for pairs in self.chunks():
            rows, reward = self.answer(value, pairs)
            parts.append(reward + self.discount * (rows @ value))
        return np.concatenate(parts) if parts else np.zeros(0)

    def table(self, entries: Array) -> Array:
        """Entries of the pairs as ``[S, A]``: 0 in terminal states, −∞ where an action is forbidden."""
        table = np.full((self.model.num_states, self.model.num_actions), -np.inf)
        table[self.model.terminal] = 0.0
        table[self.state, self.action] = entries
        return table

    def kernel(self, value: Array) -> tuple[Array, Array]:
        """The worst kernel ``[S, A, S]`` and rewards ``[S, A]``; nominal where nobody acts."""
        kernel, reward = np.array(self.model.transition), np.array(self.model.expected_reward)
        for pairs in self.chunks():
            state, action = self.state[pairs], self.action[pairs]
            kernel[state, action], reward[state, action] = self.answer(value, pairs)
        return kernel, reward


@dataclass(frozen=True, eq=False)
class _Held:
    """A policy's worst case: its value and the rows of the pairs that it uses, which have exactly this value."""

    value: Array
    pairs: NDArray[np.intp]
    rows: Array
    reward: Array
    residual: float


def _worst_of(
    nature: _Nature, policy: Array, value: Array, discount: float, tolerance: float, max_iterations: int
) -> _Held:
    """Nature's policy iteration: worst rows for the values, values of these rows, until the rows are worst for them."""
    states = nature.model.num_states
    chance = policy[nature.state, nature.action]
    pairs = np.flatnonzero(chance)
    mix = csr_array((chance[pairs], (nature.state[pairs], np.arange(len(pairs)))), shape=(states, len(pairs)))
    residual = np.inf
    rows, reward = nature.answer(value, pairs)
    for _ in range(max_iterations):
        value = np.linalg.solve(np.eye(states) - discount * (mix @ rows), mix @ reward)
        answered, paid = nature.answer(value, pairs)
        change = mix @ (paid + discount * (answered @ value)) - value
        before, residual = residual, float(abs(change).max(initial=0.0))
        if _settled(residual, before, value, discount, tolerance):
            return _Held(value, pairs, rows, reward, residual)
        rows, reward = answered, paid
    raise RuntimeError(f"the worst kernel has not settled after {max_iterations} kernels (residual {residual:.3g})")


def _stop(value: Array, discount: float, tolerance: float) -> float:
    """Residual at which the values are exact up to the tolerance or to rounding."""
    return max(0.5 * tolerance * (1 - discount), 1e-14 * float(abs(value).max(initial=0.0)))


def _settled(residual: float, before: float, value: Array, discount: float, tolerance: float) -> bool:
    stalled = residual > 0.5 * before and residual <= 1e-11 * abs(value).max(initial=0.0)
    return bool(residual <= _stop(value, discount, tolerance) or stalled)


def _assembled(
    model: TabularModel, nature: _Nature, policy: Array, held: _Held, residual: float, discount: float
) -> RobustSolution:
    kernel, reward = nature.kernel(held.value)
    state, action = nature.state[held.pairs], nature.action[held.pairs]
    kernel[state, action], reward[state, action] = held.rows, held.reward
    pairs = nature.state, nature.action
    q = nature.table(reward[pairs] + discount * (kernel[pairs] @ held.value))
    bound = (residual + held.residual) / (1 - discount)
    total = float(model.initial @ held.value)
    return RobustSolution(held.value, q, policy, kernel, reward, total, bound, discount, None, model)


def _backward(
    model: TabularModel, nature: _Nature, discount: float, horizon: int, policy: Array | None
) -> RobustSolution:
    """Backward induction; for the given policy ``[H, S, A]`` or the best one."""
    states, actions = model.num_states, model.num_actions
    if horizon * states * actions * states > MAX_ENTRIES:
        raise ValueError(f"{horizon} steps × {states} states × {actions} actions are too many for a table of kernels")
    value = np.zeros((horizon + 1, states))
    q, chosen = np.zeros((horizon, states, actions)), np.zeros((horizon, states, actions))
    kernel, reward = np.zeros((horizon, states, actions, states)), np.zeros((horizon, states, actions))
    pairs = nature.state, nature.action
    for step in reversed(range(horizon)):
        kernel[step], reward[step] = nature.kernel(value[step + 1])
        q[step] = nature.table(reward[step][pairs] + discount * (kernel[step][pairs] @ value[step + 1]))
        chosen[step] = _greedy_of(q[step]) if policy is None else policy[step]
        value[step] = (chosen[step] * np.where(chosen[step] > 0, q[step], 0.0)).sum(axis=1)
        value[step][model.terminal] = 0.0
    total = float(model.initial @ value[0])
    return RobustSolution(value, q, chosen, kernel, reward, total, 0.0, discount, horizon, model)


def _greedy_of(q: Array) -> Array:
    """One-hot table of the first best action."""
    return np.eye(q.shape[1])[q.argmax(axis=1)]


def _ball_nature(
    model: TabularModel, radius: Array, ball: str, support: str | ArrayLike, reward_radius: Array, discount: float
) -> _Nature:
    state, action = _pairs(model)
    p, size, less = model.transition[state, action], radius[state, action], reward_radius[state, action]
    allowed = _allowed(model, support, state, action)
    if ball == "kl":
        allowed = p > 0
    by_successor = model.reward[state, action] if model.reward.ndim == 3 else None
    entry = None  # rewards that depend on the successor alone leave one order of successors for all pairs
    if by_successor is not None and len(by_successor) and (by_successor == by_successor[0]).all():
        entry = by_successor[0]
    columns = None
    if allowed is not None:  # only the columns where nature may lead, padded to the longest row
        longest = int(allowed.sum(axis=1).max(initial=1))
        columns = np.argsort(~allowed, axis=1, kind="stable")[:, :longest]
        p, allowed = np.take_along_axis(p, columns, axis=1), np.take_along_axis(allowed, columns, axis=1)

    def answer(value: Array, pairs: NDArray[np.intp]) -> tuple[Array, Array]:
        worth = discount * value if entry is None else entry + discount * value
        if by_successor is not None and entry is None:
            worth = by_successor[pairs] + worth
        if columns is None or allowed is None:
            rows = _inner(ball, p[pairs], worth, size[pairs], None)
        else:
            longest_here = int(allowed[pairs].sum(axis=1).max(initial=1))
            where = columns[pairs, :longest_here]
            seen = worth[where] if worth.ndim == 1 else np.take_along_axis(worth, where, axis=1)
            found = _inner(ball, p[pairs, :longest_here], seen, size[pairs], allowed[pairs, :longest_here])
            rows = np.zeros((len(pairs), len(value)))
            np.put_along_axis(rows, where, found, axis=1)
        if entry is not None:
            reward = rows @ entry
        elif by_successor is not None:
            reward = (rows * by_successor[pairs]).sum(axis=1)
        else:
            reward = model.reward[state[pairs], action[pairs]]
        return rows, reward - less[pairs]

    return _Nature(model, state, action, discount, answer)


def _inner(ball: str, p: Array, v: Array, radius: Array, allowed: NDArray[np.bool_] | None) -> Array:
    if ball == "l1":
        return _l1(p, v, radius, allowed)
    return _linf(p, v, radius, allowed) if ball == "linf" else _kl(p, v, radius)


def _finite_nature(models: Sequence[TabularModel], reward_radius: Array, discount: float) -> _Nature:
    state, action = _pairs(models[0])
    rows = np.stack([model.transition[state, action] for model in models])
    rewards = np.stack([model.expected_reward[state, action] for model in models]) - reward_radius[state, action]

    def answer(value: Array, pairs: NDArray[np.intp]) -> tuple[Array, Array]:
        worst = (rewards[:, pairs] + discount * (rows[:, pairs] @ value)).argmin(axis=0)
        return rows[worst, pairs], rewards[worst, pairs]

    return _Nature(models[0], state, action, discount, answer)


def _pairs(model: TabularModel) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """States and actions of the pairs that can be taken."""
    open_pairs = np.broadcast_to(~model.terminal[:, None], (model.num_states, model.num_actions))
    if model.action_mask is not None:
        open_pairs = open_pairs & model.action_mask
    state, action = np.nonzero(open_pairs)
    return state, action


# --- an adversary who chooses what the agent sees ---------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class ObservationAttack:
    """The worst that false observations can do to a policy.

    Attributes:
        shown: The state that the agent is shown in every state, ``[S]`` integers, or ``[H, S]`` with a horizon.
        policy: What the agent then does, ``[S, A]`` or ``[H, S, A]``: the row of the state that it is shown.
        value: Value of every state under attack, ``[S]`` or ``[H + 1, S]``.
        attacked_return: Expected return under attack, the least that any adversary brings about.
        clean_return: Expected return without an adversary.
    """

    shown: NDArray[np.intp]
    policy: Array
    value: Array
    attacked_return: float
    clean_return: float


def optimal_observation_attack(
    model: TabularModel,
    policy: Array,
    neighbours: ArrayLike,
    discount: float = 1.0,
    horizon: int | None = None,
) -> ObservationAttack:
    """The exact best answer of an adversary who shows the agent false states (book eq. rmdp-attack).

    In state s the agent may be shown any state of a set B(s) and acts on what it sees; the dynamics are those of the
    true state (SA-MDP, Zhang et al., 2020). For the adversary this is a decision process whose actions are the shown
    states, so deterministic attacks of the true state (and the step) are enough, and policy iteration is exact.

    Args:
        model: The problem.
        policy: Probabilities ``[S, A]``, or ``[H, S, A]`` with a horizon.
        neighbours: B, booleans ``[S, S]``: row s is true at the states that may be shown in s, s itself included.
        discount: :math:`\\gamma` in (0, 1], below 1 without a horizon.
        horizon: Steps; None takes the model's horizon.
    Raises:
        ValueError: If an argument is out of range, a state may not be shown as itself, or a state that may be shown
            makes the agent take an action that is forbidden in the true one.
    """
    _check(discount, horizon)
    horizon = model.horizon if horizon is None else horizon
    _require_contraction(discount, horizon)
    policy = _checked_policy(model, policy, horizon)
    shows = _checked_neighbours(model, policy, neighbours)
    clean = policy_evaluation(model, policy, discount, horizon).expected_return
    states = model.num_states
    if horizon is None:
        shown = np.arange(states)
        rounding = 1e-14 / (1 - discount)
        while True:
            found = policy_evaluation(model, policy[shown], discount)
            worth = np.where(shows, found.q @ policy.T, np.inf)  # of showing each state, [S, S]
            better = worth.min(axis=1) < worth[np.arange(states), shown] - rounding * abs(found.value).max()
            if not (better & ~model.terminal).any():
                return ObservationAttack(shown, policy[shown], found.value, found.expected_return, clean)
            shown = np.where(better, worth.argmin(axis=1), shown)
    tables = np.broadcast_to(policy, (horizon, *policy.shape[-2:]))
    value, choice = np.zeros((horizon + 1, states)), np.zeros((horizon, states), dtype=np.intp)
    for step in reversed(range(horizon)):
        q = model.expected_reward + discount * (model.transition @ value[step + 1])
        worth = np.where(shows, q @ tables[step].T, np.inf)
        choice[step] = worth.argmin(axis=1)
        value[step] = np.where(model.terminal, 0.0, worth.min(axis=1))
    attacked = np.stack([table[shown] for table, shown in zip(tables, choice)])
    return ObservationAttack(choice, attacked, value, float(model.initial @ value[0]), clean)


# --- arguments --------------------------------------------------------------------------------------------------------


def _checked_inner(
    probabilities: ArrayLike, values: ArrayLike, radius: ArrayLike, support: ArrayLike | None, largest: float
) -> tuple[Array, Array, Array, NDArray[np.bool_] | None]:
    p, v = np.asarray(probabilities, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if p.ndim < 1 or not np.isfinite(p).all() or (p < 0).any() or (abs(p.sum(axis=-1) - 1) > 1e-8).any():
        raise ValueError(f"probabilities must be distributions along the last axis, got {p}")
    if v.ndim < 1 or v.shape[-1] != p.shape[-1] or (v.ndim > 1 and v.shape != p.shape):
        raise ValueError(f"values must have shape {p.shape[-1:]} or {p.shape}, got {v.shape}")
    if not np.isfinite(v).all():
        raise ValueError(f"values must be finite, got {v[~np.isfinite(v)][0]}")
    t = _checked_size("radius", radius, largest, p.shape[:-1])
    allowed = None
    if support is not None:
        allowed = np.asarray(support, dtype=bool)
        if allowed.shape not in (p.shape[-1:], p.shape):
            raise ValueError(f"support must have shape {p.shape[-1:]} or {p.shape}, got {allowed.shape}")
        if (p * ~allowed).any():
            raise ValueError("support must hold every successor that is possible, got a distribution that leaves it")
    return p, v, t, allowed


def _checked_size(name: str, size: ArrayLike, largest: float, shape: tuple[int, ...]) -> Array:
    array = np.asarray(size, dtype=np.float64)
    upper = f"in [0, {largest:g}]" if np.isfinite(largest) else "at least 0"
    if np.isnan(array).any() or (array < 0).any() or (array > largest).any():
        wrong = array[np.isnan(array) | (array < 0) | (array > largest)].flat[0]
        raise ValueError(f"{name} must be {upper}, got {wrong:g}")
    if array.shape not in ((), shape):
        raise ValueError(f"{name} must be a number or have shape {shape}, got {array.shape}")
    return np.broadcast_to(array, shape)


def _require_contraction(discount: float, horizon: int | None) -> None:
    if discount == 1.0 and horizon is None:
        raise ValueError("discount must be below 1 without a horizon, got 1: the worst case may never end")


def _prepared(
    model: TabularModel | Sequence[TabularModel], radius: ArrayLike, ball: str, discount: float, horizon: int | None,
    support: str | ArrayLike, reward_radius: ArrayLike, tolerance: float, max_iterations: int,
) -> tuple[TabularModel, _Nature, int | None]:  # fmt: skip
    if ball not in BALLS:
        raise ValueError(f"ball must be one of {', '.join(BALLS)}, got {ball!r}")
    if (ball == "finite") == isinstance(model, TabularModel):
        raise ValueError('model must be a sequence of candidates for ball="finite", and one model otherwise')
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    if max_iterations < 1:
        raise ValueError(f"max_iterations must be at least 1, got {max_iterations}")
    _check(discount, horizon)
    models = [model] if isinstance(model, TabularModel) else _fitting_together(model)
    first = models[0]
    horizon = first.horizon if horizon is None else horizon
    _require_contraction(discount, horizon)
    shape = (first.num_states, first.num_actions)
    less = _checked_size("reward_radius", reward_radius, float(np.finfo(np.float64).max), shape)
    if ball == "finite":
        if np.any(np.asarray(radius) != 0):
            raise ValueError(f"radius must be 0 for a finite set of models, got {np.asarray(radius)}")
        return first, _finite_nature(models, less, discount), horizon
    largest = {"l1": 2.0, "linf": 1.0, "kl": np.inf}[ball]
    size = _checked_size("radius", radius, largest, shape)
    return first, _ball_nature(first, size, ball, support, less, discount), horizon


def _allowed(
    model: TabularModel, support: str | ArrayLike, state: NDArray[np.intp], action: NDArray[np.intp]
) -> NDArray[np.bool_] | None:
    if isinstance(support, str):
        if support not in ("simplex", "nominal"):
            raise ValueError(f'support must be "simplex", "nominal" or booleans [S, A, S], got "{support}"')
        return None if support == "simplex" else model.transition[state, action] > 0
    table = np.asarray(support, dtype=bool)
    if table.shape != model.transition.shape:
        raise ValueError(f"support must have shape {model.transition.shape}, got {table.shape}")
    if (model.transition * ~table)[state, action].any():
        raise ValueError("support must hold every successor that is possible, got a transition that leaves it")
    return table[state, action]


def _fitting_together(models: Sequence[TabularModel]) -> list[TabularModel]:
    models = list(models)
    if not models:
        raise ValueError("model must hold at least one candidate, got none")
    first = models[0]
    for number, model in enumerate(models):
        for name in ("transition", "terminal", "initial", "action_mask"):
            one, other = getattr(first, name), getattr(model, name)
            same = (one is None) == (other is None) and (one is None or one.shape == other.shape)
            if not same or (name != "transition" and one is not None and (one != other).any()):
                raise ValueError(f"candidates must agree in {name}, but candidate {number} differs from candidate 0")
        if model.horizon != first.horizon:
            raise ValueError(f"candidates must agree in horizon, got {first.horizon} and {model.horizon}")
    return models


def _checked_neighbours(model: TabularModel, policy: Array, neighbours: ArrayLike) -> NDArray[np.bool_]:
    shows = np.array(neighbours, dtype=bool)
    states = model.num_states
    if shows.shape != (states, states):
        raise ValueError(f"neighbours must have shape {(states, states)}, got {shows.shape}")
    if not shows.diagonal().all():
        lacking = np.flatnonzero(~shows.diagonal())[0]
        raise ValueError(f"neighbours must let every state be shown as itself, but state {lacking} may not")
    if model.action_mask is not None:
        taken = (policy > 0).reshape(-1, states, model.num_actions).any(axis=0)
        forbidden = (~model.action_mask & ~model.terminal[:, None]).astype(int) @ taken.T.astype(int) > 0
        if (shows & forbidden).any():
            true, seen = np.argwhere(shows & forbidden)[0]
            raise ValueError(
                f"state {true} may be shown as {seen}, where the policy takes an action that {true} forbids"
            )
    return shows
