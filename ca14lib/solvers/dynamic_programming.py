"""Exact answers for finite problems by dynamic programming. Book: yardsticks.

Conventions: a policy is a table of probabilities ``[S, A]``, or ``[H, S, A]`` when it changes with time over a horizon
``H``; terminal states have value 0; a model with an action mask never uses a forbidden action.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from ca14lib.environments.tabular_model import TabularModel

TIE = 1e-9  # actions this close to the best, relative to the largest value, are equally good


@dataclass(frozen=True, eq=False)
class Solution:
    """Optimal values and one optimal policy.

    Without a horizon ``value`` is ``[S]``, ``q`` and ``policy`` are ``[S, A]``; with horizon ``H`` they are
    ``[H + 1, S]`` and ``[H, S, A]``, indexed by the number of steps taken, ``value[H]`` being 0. ``q`` is −∞ where an
    action is forbidden.
    """

    value: NDArray[np.float64]
    q: NDArray[np.float64]
    policy: NDArray[np.float64]
    optimal_return: float
    discount: float
    horizon: int | None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Exact values of one policy: ``value`` is ``[S]`` and ``q`` ``[S, A]``, or with a leading time axis as in
    :class:`Solution`; ``expected_return`` is the value averaged over the initial distribution."""

    value: NDArray[np.float64]
    q: NDArray[np.float64]
    expected_return: float


def value_iteration(
    model: TabularModel, discount: float = 1.0, horizon: int | None = None, *, max_iterations: int = 100_000
) -> Solution:
    """The optimum of a finite problem (book eq. bellman-optimality and eq. finite-horizon).

    With a horizon it is one backward pass. Without, with discount below 1, policy iteration started from the values'
    fixed point is exact; with discount 1 the problem must be episodic: values converge where every optimal way to act
    ends, and the policy returned is one of those that do end.

    Args:
        model: The problem.
        discount: :math:`\\gamma` in (0, 1].
        horizon: Steps left at the start; None takes ``model.horizon``.
        max_iterations: Sweeps after which an undiscounted problem counts as divergent.
    Raises:
        ValueError: If an argument is out of range or an undiscounted problem has no finite optimum.
    """
    _check(discount, horizon)
    horizon = model.horizon if horizon is None else horizon
    if horizon is not None:
        return _backward_induction(model, discount, horizon)

    # the values settle to a relative 1e-12 of the largest of them, then the policy's own equations are solved exactly
    value = np.where(_losing_for_ever(model), -np.inf, 0.0) if discount == 1.0 else np.zeros(model.num_states)
    finite = np.isfinite(value)
    for _ in range(max_iterations):
        updated = _masked(model, _backup(model, value, discount)).max(axis=1)
        updated[~finite] = -np.inf
        change = abs(updated[finite] - value[finite]).max(initial=0.0)
        value = updated
        if change <= 1e-12 * abs(value[finite]).max(initial=0.0) * (1 - discount if discount < 1 else 1):
            break
    else:
        if discount == 1.0:
            raise ValueError(
                f"the undiscounted optimum has not settled after {max_iterations} sweeps (last change {change:.3g}): "
                "every policy may earn or lose without end; give a discount below 1 or a horizon"
            )
    q = _masked(model, _backup(model, value, discount))
    policy = _proper_greedy(model, q) if discount == 1.0 else _greedy(model, q)
    exact = policy_evaluation(model, policy, discount)
    q = _masked(model, exact.q)
    if discount < 1.0:
        while (q.max(axis=1) > exact.value + TIE * abs(exact.value).max()).any():
            policy = _greedy(model, q)
            exact = policy_evaluation(model, policy, discount)
            q = _masked(model, exact.q)
    return Solution(exact.value, q, policy, exact.expected_return, discount, None)


def policy_evaluation(
    model: TabularModel, policy: NDArray[np.float64], discount: float = 1.0, horizon: int | None = None
) -> Evaluation:
    """Exact values of a policy, from the linear system of book eq. bellman-policy.

    Undiscounted and without a horizon, a state from which the policy may never stop earning (or paying) has value
    +∞ (−∞).

    Args:
        model: The problem.
        policy: Probabilities ``[S, A]``, or ``[H, S, A]`` with a horizon.
        discount: :math:`\\gamma` in (0, 1].
        horizon: Steps left at the start; None takes ``model.horizon``.
    Raises:
        ValueError: If the policy is no table of probabilities over allowed actions, or a value is undefined because
            both +∞ and −∞ are possible.
    """
    _check(discount, horizon)
    horizon = model.horizon if horizon is None else horizon
    policy = _checked_policy(model, policy, horizon)
    if horizon is not None:
        value = np.zeros((horizon + 1, model.num_states))
        q = np.zeros((horizon, model.num_states, model.num_actions))
        tables = np.broadcast_to(policy, (horizon, *policy.shape[-2:]))
        for step in reversed(range(horizon)):
            q[step] = _backup(model, value[step + 1], discount)
            value[step] = (tables[step] * q[step]).sum(axis=1)
        return Evaluation(value, q, float(model.initial @ value[0]))

    transition = _policy_transition(model, policy)
    reward = (policy * model.expected_reward).sum(axis=1)
    if discount < 1.0:
        value = np.linalg.solve(np.eye(model.num_states) - discount * transition, reward)
    else:
        value = _undiscounted(model, transition, reward)
    q = _backup(model, value, discount)
    start = model.initial > 0
    return Evaluation(value, q, float(model.initial[start] @ value[start]))


def policy_return(
    model: TabularModel, policy: NDArray[np.float64], discount: float = 1.0, horizon: int | None = None
) -> float:
    """Exact expected return of a policy, without sampling (book eq. policy-return).

    Args: as :func:`policy_evaluation`.
    """
    return policy_evaluation(model, policy, discount, horizon).expected_return


def occupancy_measure(
    model: TabularModel, policy: NDArray[np.float64], discount: float = 1.0, horizon: int | None = None
) -> NDArray[np.float64]:
    """Expected discounted number of visits to every state-action pair, shape ``[S, A]`` (book eq. occupancy).

    Not normalised: with discount γ < 1 and no terminal state it sums to 1 / (1 − γ), undiscounted to the mean episode
    length. Visits to terminal states count 0, so the sum of occupancy × reward is the expected return.

    Args: as :func:`policy_evaluation`.
    Raises:
        ValueError: If undiscounted, without a horizon, and the policy may never terminate.
    """
    _check(discount, horizon)
    horizon = model.horizon if horizon is None else horizon
    policy = _checked_policy(model, policy, horizon)
    alive = ~model.terminal
    if horizon is not None:
        tables = np.broadcast_to(policy, (horizon, *policy.shape[-2:]))
        occupancy = np.zeros((model.num_states, model.num_actions))
        state, weight = model.initial * alive, 1.0
        for step in range(horizon):
            visits = state[:, None] * tables[step]
            occupancy += weight * visits
            state, weight = np.einsum("ij,ijk->k", visits, model.transition) * alive, weight * discount
        return occupancy
    entered = alive & _reached(_policy_transition(model, policy), model.initial > 0)
    transition = _policy_transition(model, policy)[np.ix_(entered, entered)]
    try:
        visits = np.linalg.solve(np.eye(entered.sum()) - discount * transition.T, model.initial[entered])
    except np.linalg.LinAlgError:
        visits = np.array([-1.0])
    if (visits < -1e-9).any() or not np.isfinite(visits).all() or abs(visits).max(initial=0.0) > 1e12:
        raise ValueError("the policy may never terminate and visits are infinite; give a discount or a horizon")
    occupancy = np.zeros((model.num_states, model.num_actions))
    occupancy[entered] = visits[:, None] * policy[entered]
    return occupancy


def _check(discount: float, horizon: int | None) -> None:
    if not 0.0 < discount <= 1.0:
        raise ValueError(f"discount must lie in (0, 1], got {discount}")
    if horizon is not None and horizon < 1:
        raise ValueError(f"horizon must be at least 1 or None, got {horizon}")


def _checked_policy(model: TabularModel, policy: NDArray[np.float64], horizon: int | None) -> NDArray[np.float64]:
    policy = np.asarray(policy, dtype=np.float64)
    shape = (model.num_states, model.num_actions)
    if policy.shape != shape and (horizon is None or policy.shape != (horizon, *shape)):
        timed = " or [H, S, A]" if horizon is not None else ""
        raise ValueError(f"policy must have shape {shape}{timed}, got {policy.shape}")
    if not np.isfinite(policy).all() or (policy < 0).any() or not np.allclose(policy.sum(axis=-1), 1.0, atol=1e-6):
        raise ValueError(
            f"policy must hold probabilities that sum to 1 over actions, got sums {policy.sum(axis=-1).min():.6g} to "
            f"{policy.sum(axis=-1).max():.6g}, entries {policy.min():.6g} to {policy.max():.6g}"
        )
    if model.action_mask is not None and (policy * ~model.action_mask)[..., ~model.terminal, :].any():
        raise ValueError("policy gives probability to an action that the model's action_mask forbids")
    return policy / policy.sum(axis=-1, keepdims=True)


def _backup(model: TabularModel, value: NDArray[np.float64], discount: float) -> NDArray[np.float64]:
    """r(s,a) + γ Σ P(s'|s,a) V(s'), 0 in terminal states; infinite values only count where they can be reached."""
    infinite = ~np.isfinite(value)
    q = model.expected_reward + discount * (model.transition @ np.where(infinite, 0.0, value))
    for sign in (-np.inf, np.inf):
        if (value == sign).any():
            q = np.where(model.transition[..., value == sign].any(axis=2), sign, q)
    q[model.terminal] = 0.0
    return q


def _masked(model: TabularModel, q: NDArray[np.float64]) -> NDArray[np.float64]:
    return q if model.action_mask is None else np.where(model.action_mask | model.terminal[:, None], q, -np.inf)


def _greedy(model: TabularModel, q: NDArray[np.float64]) -> NDArray[np.float64]:
    """One-hot table of the first best action."""
    return np.eye(q.shape[-1])[_best(model, q).argmax(axis=-1)]


def _best(model: TabularModel, q: NDArray[np.float64]) -> NDArray[np.bool_]:
    """True for every allowed action as good as the best, up to rounding."""
    scale = abs(q[np.isfinite(q)]).max(initial=0.0)
    best = q >= q.max(axis=-1, keepdims=True) - TIE * scale
    return best if model.action_mask is None else best & (model.action_mask | model.terminal[:, None])


def _proper_greedy(model: TabularModel, q: NDArray[np.float64]) -> NDArray[np.float64]:
    """Among the best actions, take those that make progress towards where the value is collected.

    With discount 1 a zero-reward loop can tie with the way out; a policy that chose it would never collect the value.
    States join the resolved set once one of their best actions may lead there. It starts with the terminal states and
    those of value 0 in which idling for ever is best.
    """
    best = _best(model, q)
    value = q.max(axis=1)
    choice = best.argmax(axis=1)
    resolved = model.terminal.copy()
    idle, idling = _idle(model, best & (abs(value) <= TIE * abs(q[np.isfinite(q)]).max(initial=0.0))[:, None])
    choice[idle & ~resolved] = idling[idle & ~resolved]
    resolved |= idle
    while True:
        leads = best & model.transition[..., resolved].any(axis=2)
        joining = leads.any(axis=1) & ~resolved
        if not joining.any():
            return np.eye(model.num_actions)[choice]
        choice[joining] = leads[joining].argmax(axis=1)
        resolved |= joining


def _idle(model: TabularModel, allowed: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.intp]]:
    """States from which allowed actions of reward 0 can go on for ever or end, and one such action for each."""
    free = allowed & (model.expected_reward == 0)
    idle = np.ones(model.num_states, dtype=bool)
    while True:
        stays = free & ~model.transition[..., ~idle].any(axis=2)
        kept = idle & (stays.any(axis=1) | model.terminal)
        if (kept == idle).all():
            return idle, stays.argmax(axis=1)
        idle = kept


def _losing_for_ever(model: TabularModel) -> NDArray[np.bool_]:
    """States whose undiscounted value is −∞ under every policy.

    Those that can neither end nor idle for certain, whatever is done, when nothing they can do earns anything. Where
    something does, the question is left to value iteration, and so it is when every start is such a state.
    """
    allowed = np.ones((model.num_states, model.num_actions), bool) if model.action_mask is None else model.action_mask
    safe = model.terminal | _idle(model, allowed)[0]
    hopeful = np.ones(model.num_states, dtype=bool)
    while True:  # the largest set from which the safe states are reached without ever leaving it
        inside = allowed & ~model.transition[..., ~hopeful].any(axis=2)
        reaches = safe & hopeful
        while True:
            joining = (inside & model.transition[..., reaches].any(axis=2)).any(axis=1) & hopeful & ~reaches
            if not joining.any():
                break
            reaches |= joining
        if (reaches == hopeful).all():
            break
        hopeful = reaches
    losing = ~hopeful
    earns = (np.where(allowed, model.expected_reward, -np.inf) > 0).any(axis=1)
    if (losing & earns).any() or losing[model.initial > 0].any():
        return np.zeros(model.num_states, dtype=bool)
    return losing


def _reached(transition: NDArray[np.float64], start: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """States that a Markov chain may enter from the start."""
    reached = start.copy()
    while True:
        joining = transition[reached].any(axis=0) & ~reached
        if not joining.any():
            return reached
        reached |= joining


def _backward_induction(model: TabularModel, discount: float, horizon: int) -> Solution:
    value = np.zeros((horizon + 1, model.num_states))
    q = np.zeros((horizon, model.num_states, model.num_actions))
    for step in reversed(range(horizon)):
        q[step] = _masked(model, _backup(model, value[step + 1], discount))
        value[step] = q[step].max(axis=1)
    return Solution(value, q, _greedy(model, q), float(model.initial @ value[0]), discount, horizon)


def _policy_transition(model: TabularModel, policy: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.einsum("ij,ijk->ik", policy, model.transition)


def _undiscounted(
    model: TabularModel, transition: NDArray[np.float64], reward: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Total reward under a policy's Markov chain.

    A closed recurrent class earns nothing (value 0), or its long-run average is positive or negative (value ±∞, for
    every state that may reach it); the remaining states are transient and solve a regular linear system.
    """
    count, label = connected_components(csr_array(transition > 0), directed=True, connection="strong")
    value = np.zeros(model.num_states)
    transient = np.ones(model.num_states, dtype=bool)
    for component in range(count):
        members = label == component
        if transition[np.ix_(members, ~members)].any():
            continue
        transient[members] = False
        if not reward[members].any():
            continue
        inner = transition[np.ix_(members, members)]
        system = np.vstack([inner.T - np.eye(members.sum()), np.ones(members.sum())])
        stationary = np.linalg.lstsq(system, np.append(np.zeros(members.sum()), 1.0), rcond=None)[0]
        average = stationary @ reward[members]
        if abs(average) < 1e-12:
            raise ValueError(
                "the undiscounted value oscillates: rewards of a loop cancel; give a discount or a horizon"
            )
        value[members] = np.sign(average) * np.inf
    for sign in (-np.inf, np.inf):
        reaches = value == sign
        while True:
            joining = transition[:, reaches].any(axis=1) & ~reaches
            if not joining.any():
                break
            if np.isinf(value[joining]).any():
                raise ValueError("the undiscounted value is undefined: +∞ and −∞ can both be reached; give a discount")
            value[joining] = sign
            reaches |= joining
    solve = transient & np.isfinite(value)
    inner = transition[np.ix_(solve, solve)]
    value[solve] = np.linalg.solve(np.eye(solve.sum()) - inner, reward[solve])
    return value
