r"""Improving on the policy that recorded the data, only where the data can tell: SPIBB. Book: evaluation/healthcare.

Safe policy improvement with baseline bootstrapping (Laroche, Trichelair and Tachet des Combes, 2019). In shapes, S is
the number of states, A that of actions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments.tabular_model import TabularModel
from ca14lib.solvers.dynamic_programming import policy_evaluation

GAIN = 1e-9  # relative to the largest value: an action has to be better by this much to be preferred


@dataclass(frozen=True, eq=False)
class ImprovedPlan:
    """A policy that leaves its baseline only at trusted pairs.

    Attributes:
        policy: Probabilities ``[S, A]``.
        value: Its value in the model that it was planned in, ``[S]``.
        baseline_value: The baseline's value in the same model, ``[S]``.
        choice: The action it moves probability to, ``[S]``; where it moves none, an action of the baseline.
        overruled: Actions of the baseline that it replaces by ``choice``, ``[S, A]``: with these two the plan can be
            laid over any other policy, :func:`overruled_policy`.
    """

    policy: NDArray[np.float64]
    value: NDArray[np.float64]
    baseline_value: NDArray[np.float64]
    choice: NDArray[np.intp]
    overruled: NDArray[np.bool_]


def empirical_model(
    counts: NDArray[np.int64],
    reward_sum: NDArray[np.float64],
    terminal: NDArray[np.bool_],
    initial: ArrayLike | None = None,
) -> TabularModel:
    r"""The problem as the data show it: frequencies for probabilities (book eq. spibb-model).

    An action that was never tried in a state is forbidden there. A state in which nothing was tried is terminal: no
    recorded episode goes on from it.

    Args:
        counts: Transitions seen, :math:`n(s,a,s')`, ``[S, A, S]``.
        reward_sum: Sum of the rewards seen at every pair, ``[S, A]``.
        terminal: States that end the episode, ``[S]``.
        initial: How often each state came first, or its probability, ``[S]``; None for the first state.
    Raises:
        ValueError: If shapes disagree or nothing was tried anywhere.
    """
    states, actions = reward_sum.shape
    if counts.shape != (states, actions, states) or terminal.shape != (states,):
        raise ValueError(
            f"counts must be [S, A, S] and terminal [S] for reward_sum {reward_sum.shape}, "
            f"got {counts.shape} and {terminal.shape}"
        )
    visits = counts.sum(axis=2)
    tried = (visits > 0) & ~terminal[:, None]
    if not tried.any():
        raise ValueError("counts must hold at least one transition from a state that is not terminal, got none")
    first = None if initial is None else np.asarray(initial, dtype=np.float64)
    transition = counts / np.maximum(visits, 1)[..., None]
    transition[~tried] = np.eye(states)[np.nonzero(~tried)[0]]
    ended = ~tried.any(axis=1)
    return TabularModel(
        transition=transition,
        reward=np.where(tried, reward_sum / np.maximum(visits, 1), 0.0),
        terminal=ended,
        initial=None if first is None else first / first.sum(),  # type: ignore[arg-type]
        action_mask=tried | ended[:, None],
    )


def overruled_policy(
    behaviour: NDArray[np.float64],
    choice: NDArray[np.intp],
    overruled: NDArray[np.bool_],
    adherence: float = 1.0,
) -> NDArray[np.float64]:
    r"""Somebody acts, and certain of her actions are replaced by a recommended one (book eq. spibb-overruled).

    Args:
        behaviour: Her probabilities, ``[S, A]``.
        choice: The recommended action of every state, ``[S]``.
        overruled: Actions of hers that are replaced, ``[S, A]``; a state without any is hers alone.
        adherence: Probability that she follows a recommendation, in [0, 1].
    Returns:
        Probabilities ``[S, A]``.
    Raises:
        ValueError: If shapes disagree or the adherence is no probability.
    """
    if not 0.0 <= adherence <= 1.0:
        raise ValueError(f"adherence must lie in [0, 1], got {adherence}")
    states = len(behaviour)
    if np.shape(overruled) != np.shape(behaviour) or np.shape(choice) != (states,):
        raise ValueError(
            f"choice must have shape ({states},) and overruled {np.shape(behaviour)}, "
            f"got {np.shape(choice)} and {np.shape(overruled)}"
        )
    taken = adherence * np.where(overruled, behaviour, 0.0)
    policy = behaviour - taken
    policy[np.arange(states), choice] += taken.sum(axis=1)
    return policy


def baseline_bootstrapped_plan(
    model: TabularModel,
    baseline: NDArray[np.float64],
    trusted: NDArray[np.bool_],
    *,
    discount: float = 1.0,
    max_iterations: int = 200,
) -> ImprovedPlan:
    r"""The best policy of a model that does as the baseline wherever a pair is not trusted (book eq. spibb-class).

    Policy iteration from the baseline (book eq. spibb-greedy): a state changes its mind only for something better, so
    values never fall, and a baseline whose episodes end is followed by policies whose episodes end.
    With every allowed pair trusted it is the optimum of the model, with none the baseline.

    Args:
        model: Usually :func:`empirical_model`.
        baseline: :math:`\pi_\beta`, probabilities over allowed actions ``[S, A]``; undiscounted, its episodes must end.
        trusted: Pairs at which the policy may differ, ``[S, A]``; forbidden actions are never trusted.
        discount: :math:`\gamma` in (0, 1].
        max_iterations: Of policies that are evaluated.
    Raises:
        ValueError: If shapes disagree, the model has a horizon, or the baseline is no table of probabilities over
            allowed actions or has no finite value.
        RuntimeError: If the policy has not settled after ``max_iterations`` evaluations.
    """
    shape = (model.num_states, model.num_actions)
    if np.shape(trusted) != shape or np.shape(baseline) != shape:
        raise ValueError(
            f"baseline and trusted must have shape {shape}, got {np.shape(baseline)} and {np.shape(trusted)}"
        )
    if model.horizon is not None:
        raise ValueError(f"the plan does not depend on time; the model's horizon is {model.horizon}")
    may = np.asarray(trusted, dtype=bool) & ~model.terminal[:, None]
    if model.action_mask is not None:
        may = may & model.action_mask
    base = np.asarray(baseline, dtype=np.float64)
    held = policy_evaluation(model, base, discount)
    if not np.isfinite(held.value).all():
        raise ValueError("undiscounted, the baseline must end its episodes; give a discount below 1")
    baseline_value = held.value
    choice, overruled, policy = base.argmax(axis=1), np.zeros(shape, dtype=bool), base
    for _ in range(max_iterations):
        best = np.where(may, held.q, -np.inf).argmax(axis=1)
        proposed = overruled_policy(base, best, may)
        gain = ((proposed - policy) * np.where(policy + proposed > 0, held.q, 0.0)).sum(axis=1)
        better = gain > GAIN * abs(held.value).max()
        if not better.any():
            return ImprovedPlan(policy, held.value, baseline_value, choice, overruled)
        choice = np.where(better, best, choice)
        overruled = np.where(better[:, None], may, overruled)
        policy = np.where(better[:, None], proposed, policy)
        held = policy_evaluation(model, policy, discount)
    raise RuntimeError(f"the plan has not settled after {max_iterations} evaluations")
