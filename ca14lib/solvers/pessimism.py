"""Planning in the empirical model with pessimism about what the data rarely show. Book: offline/theory."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.tabular_model import TabularModel
from ca14lib.solvers.dynamic_programming import value_iteration


@dataclass(frozen=True, eq=False)
class PessimisticPlan:
    """A plan made from counts.

    Attributes:
        policy: Deterministic, ``[S, A]``.
        value: Planned value of every state, ``[S]``; an estimate from the data, not the policy's true value.
        supported: True where a pair was seen often enough, ``[S, A]``.
    """

    policy: NDArray[np.float64]
    value: NDArray[np.float64]
    supported: NDArray[np.bool_]


def pessimistic_plan(
    counts: NDArray[np.int64],
    reward_sum: NDArray[np.float64],
    terminal: NDArray[np.bool_],
    *,
    min_count: int = 50,
    discount: float = 1.0,
    worst_value: float = 0.0,
) -> PessimisticPlan:
    """The best policy of the empirical model that uses only state-action pairs seen at least ``min_count`` times.

    A state with no such pair counts as ``worst_value`` and repeats its most frequent action.

    Args:
        counts: Transitions seen, :math:`n(s,a,s')`, shape ``[S, A, S]``.
        reward_sum: Sum of the rewards seen at every pair, ``[S, A]``.
        terminal: States that end the episode, ``[S]``.
        min_count: Visits from which a pair is trusted, at least 1.
        discount: :math:`\\gamma` in (0, 1].
        worst_value: Value assumed where nothing is trusted: the least that the task can give.
    Raises:
        ValueError: If ``min_count`` is below 1 or shapes disagree.
    """
    states, actions = reward_sum.shape
    if counts.shape != (states, actions, states) or terminal.shape != (states,):
        raise ValueError(
            f"counts must be [S, A, S] and terminal [S] for reward_sum {reward_sum.shape}, "
            f"got {counts.shape} and {terminal.shape}"
        )
    if min_count < 1:
        raise ValueError(f"min_count must be at least 1, got {min_count}")
    visits = counts.sum(axis=2)
    supported = (visits >= min_count) & ~terminal[:, None]
    transition = counts / np.maximum(visits, 1)[..., None]
    reward = reward_sum / np.maximum(visits, 1)
    # what is not trusted leads at once to an extra terminal state and pays the worst value
    sink = states
    full = np.zeros((states + 1, actions, states + 1))
    full[:states, :, :states] = np.where(supported[..., None], transition, 0.0)
    full[:states, :, sink] = ~supported
    full[sink, :, sink] = 1.0
    allowed = np.where(supported.any(axis=1, keepdims=True), supported, True)
    model = TabularModel(
        transition=full,
        reward=np.vstack([np.where(supported, reward, worst_value), np.zeros(actions)]),
        terminal=np.append(terminal, True),
        action_mask=np.vstack([allowed, np.ones(actions, bool)]),
    )
    solution = value_iteration(model, discount)
    frequent = np.eye(actions)[visits.argmax(axis=1)]
    policy = np.where(supported.any(axis=1, keepdims=True), solution.policy[:states], frequent)
    return PessimisticPlan(policy, solution.value[:states], supported)
