"""The best policy without memory that keeps its limits in every one of several models. Book: evaluation/robust_safe.

The problem is that of :func:`~ca14lib.solvers.uncertain.robust_constrained_plan`, with one difference: the policy sees
step and state and does not remember. Then it is not a linear programme: a common policy has another occupancy in every
model, and the ratios that tie these occupancies together are not linear. The best of deterministic policies is NP-hard
to find (Steimle, Kaufman and Denton, 2021). So the answer here is a pair: a policy, whose return and costs in every
model are exact, and bounds that no policy can exceed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array

from ca14lib.environments.tabular_model import TabularModel
from ca14lib.solvers.constrained import (
    _checked_limits,
    _occupancy,
    _rewarded,
    constrained_optimum,
    policy_costs,
)
from ca14lib.solvers.dynamic_programming import _check, _checked_policy, policy_evaluation, policy_return

Array = NDArray[np.float64]

WEIGHT = 100.0  # of the largest excess over a limit beside the worst return, each in its unit
PROGRESS = 1e-6  # share of the merit that a step has to promise
SMALLEST_STEP = 1e-5  # of a probability; a smaller trust region ends the search
MARGIN = 1e-8  # by which, in units of the cost, the search stays within the limits


@dataclass(frozen=True, eq=False)
class WorstCase:
    """What a policy earns and costs in each of M models, exactly.

    Attributes:
        returns: ``[M]``.
        costs: ``[M, K]``.
    """

    returns: Array
    costs: Array

    @property
    def worst_return(self) -> float:
        """The least return."""
        return float(self.returns.min())

    @property
    def worst_costs(self) -> Array:
        """The largest cost of each constraint, ``[K]``."""
        return self.costs.max(axis=0)


@dataclass(frozen=True, eq=False)
class CommonPolicy:
    """A policy of step and state for all models, and how far from the best one it can be.

    Attributes:
        policy: ``[H, S, A]``, or ``[S, A]`` without a horizon.
        result: What it earns and costs in every model; the costs keep the limits.
        bounds: The largest return within the limits in each model when that model is known, ``[M]``.
        limits: ``[K]``.
        steps: Steps of the search that improved the policy, over all starts.
    """

    policy: Array
    result: WorstCase
    bounds: Array
    limits: Array
    steps: int

    @property
    def guaranteed_return(self) -> float:
        """Return in the worst model, a lower bound of the best that is possible (book eq. robust-safe-bounds)."""
        return self.result.worst_return

    @property
    def upper_bound(self) -> float:
        """The least of ``bounds``: no policy, with memory or without, guarantees more (book eq. robust-safe-bounds)."""
        return float(self.bounds.min())

    @property
    def gap(self) -> float:
        """Upper bound minus guaranteed return, at least 0 up to rounding."""
        return self.upper_bound - self.guaranteed_return


def evaluate_in_models(
    models: Sequence[TabularModel], policy: Array, discount: float = 1.0, horizon: int | None = None
) -> WorstCase:
    """Exact return and costs of one policy in every model (book eq. robust-safe-common).

    Args:
        models: M models with equal states and actions.
        policy: ``[S, A]``, or ``[H, S, A]`` with a horizon.
        discount: :math:`\\gamma` in (0, 1], for return and cost.
        horizon: Steps; None takes that of each model.
    Raises:
        ValueError: If models do not fit together or an argument is malformed.
    """
    _check_models(models)
    return WorstCase(
        np.array([policy_return(model, policy, discount, horizon) for model in models]),
        np.array([policy_costs(model, policy, discount, horizon) for model in models]),
    )


def policy_slopes(
    model: TabularModel, signal: Array, policy: Array, discount: float = 1.0, horizon: int | None = None
) -> tuple[float, Array]:
    """Total of a signal under a policy, and its slopes in the policy's probabilities (book eq. robust-safe-slope).

    The slope of the probability of action a in a state is the expected number of visits to the state times the value of
    the action: to move probability from one action to another changes the total by the difference, to first order.

    Args:
        model: The problem.
        signal: Reward or cost, ``[S, A]``.
        policy: ``[S, A]``, or ``[H, S, A]`` with a horizon.
        discount: :math:`\\gamma` in (0, 1].
        horizon: Steps; None takes ``model.horizon``.
    Returns:
        The total, and slopes in the shape of the policy.
    """
    horizon = model.horizon if horizon is None else horizon
    evaluation = policy_evaluation(_rewarded(model, signal), policy, discount, horizon)
    visits = _occupancy(model, policy, discount, horizon).sum(axis=-1, keepdims=True)
    return evaluation.expected_return, visits * evaluation.q


def robust_constrained_policy(
    models: Sequence[TabularModel],
    limits: ArrayLike,
    discount: float = 1.0,
    horizon: int | None = None,
    *,
    starts: Sequence[Array] = (),
    max_steps: int = 60,
) -> CommonPolicy:
    """A policy without memory that keeps the limits in every model, with a high return in the worst one.

    The policy climbs: in each step a linear programme finds the change of its probabilities, none by more than a trust
    region, that is best to first order (book eq. robust-safe-step). A step that makes the exact worst case better is
    taken and the region doubled, another one is undone and the region cut to a quarter. It ends where no small change
    helps; from several starts the best end is kept. That is a local optimum; :attr:`CommonPolicy.gap` bounds what is
    missing.

    Args:
        models: M models with equal states, actions, terminal states and masks, and at least one cost.
        limits: Upper bounds on the expected costs in every model, ``[K]`` or one number; +∞ for no bound.
        discount: :math:`\\gamma` in (0, 1], for return and cost.
        horizon: Steps; None takes the models' horizon.
        starts: Policies to begin with besides the optimum of each model and of their mean.
        max_steps: Of each start.
    Raises:
        InfeasibleError: If no policy keeps the limits in some model.
        ValueError: If an argument is out of range, or no start leads to a policy that keeps the limits in all models;
            the message says how near the best one came.
    """
    _check_models(models)
    _check(discount, horizon)
    horizon = models[0].horizon if horizon is None else horizon
    bounds_on = _checked_limits(models[0], limits)
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    alone = [constrained_optimum(model, bounds_on, discount, horizon) for model in models]
    search = _Search(models, bounds_on, discount, horizon)
    best, best_merit, steps = None, -np.inf, 0
    for start in [*search.starts([each.policy for each in alone]), *(np.asarray(each, float) for each in starts)]:
        found, taken = search.climb(_checked_policy(models[0], search.timed(start), horizon), max_steps)
        steps += taken
        merit = search.merit(search.totals(found))
        if merit > best_merit:
            best, best_merit = found, merit
    assert best is not None
    result = evaluate_in_models(models, best, discount, horizon)
    excess = float((result.worst_costs - bounds_on).max())
    if excess > 0:
        raise ValueError(
            f"no policy was found that keeps the limits {bounds_on} in every model: the worst costs of the best one "
            f"are {result.worst_costs}; each model alone can keep them"
        )
    bounds = np.array([each.optimal_return for each in alone])
    return CommonPolicy(best, result, bounds, bounds_on, steps)


class _Search:
    """The climb of :func:`robust_constrained_policy`: totals, their slopes, and the linear programme of a step."""

    def __init__(self, models: Sequence[TabularModel], limits: Array, discount: float, horizon: int | None) -> None:
        self.models, self.discount, self.horizon = models, discount, horizon
        self.bounded = np.flatnonzero(np.isfinite(limits))
        self.signals = [[model.expected_reward, *model.expected_cost[self.bounded]] for model in models]
        self.mask = np.ones((models[0].num_states, models[0].num_actions), bool)
        if models[0].action_mask is not None:
            self.mask = models[0].action_mask | models[0].terminal[:, None]
        # every total in a unit of its own, so that one weight serves them all
        rewards = np.array([abs(model.expected_reward).max() for model in models]).max()
        costs = np.array([abs(model.expected_cost[self.bounded]).max(axis=(1, 2), initial=0.0) for model in models])
        self.units = np.append(rewards, costs.max(axis=0))
        self.units[self.units == 0] = 1.0
        self.limits = (limits[self.bounded] - MARGIN) / self.units[1:]

    def timed(self, policy: Array) -> Array:
        """A table ``[S, A]`` as ``[H, S, A]`` where there is a horizon."""
        policy = np.asarray(policy, dtype=np.float64)
        return policy if self.horizon is None else np.array(np.broadcast_to(policy, (self.horizon, *policy.shape[-2:])))

    def starts(self, known: Sequence[Array]) -> Iterator[Array]:
        """The optimum of every model, their mean and the uniform policy, all with a little of each action."""
        uniform = self.mask / self.mask.sum(axis=1, keepdims=True)
        for policy in [*known, np.mean(known, axis=0), uniform]:
            yield 0.9 * policy + 0.1 * uniform

    def totals(self, policy: Array) -> Array:
        """Return and bounded costs in every model, in their units, ``[M, 1 + K]``."""
        return self._totals_and_slopes(policy, slopes=False)[0]

    def merit(self, totals: Array) -> float:
        """Worst return minus the weighted largest excess over a limit."""
        excess = (totals[:, 1:] - self.limits).max(initial=0.0)
        return float(totals[:, 0].min() - WEIGHT * max(excess, 0.0))

    def climb(self, policy: Array, max_steps: int) -> tuple[Array, int]:
        """Improve a policy until no small change helps; the policy and the number of steps taken."""
        region, taken = 0.25, 0
        totals, slopes = self._totals_and_slopes(policy)
        merit = self.merit(totals)
        while taken < max_steps and region > SMALLEST_STEP:
            proposed, promised = self._step(policy, totals, slopes, region)
            if promised - merit <= PROGRESS * max(1.0, abs(merit)):
                break
            reached = self.totals(proposed)
            if self.merit(reached) - merit > 0.1 * (promised - merit):
                policy, taken, region = proposed, taken + 1, min(2.0 * region, 1.0)
                totals, slopes = self._totals_and_slopes(policy)
                merit = self.merit(totals)
            else:
                region /= 4.0
        return policy, taken

    def _totals_and_slopes(self, policy: Array, slopes: bool = True) -> tuple[Array, Array]:
        totals = np.zeros((len(self.models), len(self.units)))
        changes = np.zeros((*totals.shape, *policy.shape))
        for m, (model, signals) in enumerate(zip(self.models, self.signals, strict=True)):
            for k, signal in enumerate(signals):
                if slopes:
                    totals[m, k], changes[m, k] = policy_slopes(model, signal, policy, self.discount, self.horizon)
                else:
                    totals[m, k] = policy_return(_rewarded(model, signal), policy, self.discount, self.horizon)
        return totals / self.units, changes / self.units.reshape(-1, *[1] * policy.ndim)

    def _step(self, policy: Array, totals: Array, slopes: Array, region: float) -> tuple[Array, float]:
        """The best change within the region to first order, and the merit that it promises.

        Unknowns: the probabilities of what some model visits, the worst return, the largest excess.
        """
        visited = np.asarray((abs(slopes) > 0).any(axis=(0, 1, -1)))
        matters = np.broadcast_to(visited[..., None] & self.mask, policy.shape)
        now, size = policy[matters], int(matters.sum())
        models, signals = totals.shape
        gradient = slopes[:, :, matters]
        constant = totals - gradient @ now
        rows = np.zeros((models * signals, size + 2))
        rows[:, :size] = np.where(np.arange(signals)[None, :, None] == 0, -gradient, gradient).reshape(-1, size)
        rows[::signals, size] = 1.0  # worst return − return in a model ≤ 0
        rows[:, size + 1] = -1.0  # cost − excess ≤ limit
        rows[::signals, size + 1] = 0.0
        right = np.concatenate([constant[:, :1], self.limits - constant[:, 1:]], axis=1).ravel()
        group = np.cumsum(np.diff(np.nonzero(matters.reshape(-1, policy.shape[-1]))[0], prepend=-1) != 0) - 1
        sums = csr_array((np.ones(size), (group, np.arange(size))), shape=(int(group.max(initial=-1)) + 1, size + 2))
        result = linprog(
            np.concatenate([np.zeros(size), [-1.0, WEIGHT]]),
            A_ub=csr_array(rows),
            b_ub=right,
            A_eq=sums,
            b_eq=np.ones(sums.shape[0]),
            bounds=np.column_stack([
                np.concatenate([np.maximum(now - region, 0.0), [-np.inf, 0.0]]),
                np.concatenate([np.minimum(now + region, 1.0), [np.inf, np.inf]]),
            ]),
            method="highs",
            options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )  # fmt: skip
        if result.status != 0:
            return policy, -np.inf
        proposed = policy.copy()
        proposed[matters] = np.clip(result.x[:size], 0.0, 1.0)
        return proposed / proposed.sum(axis=-1, keepdims=True), float(-result.fun)


def _check_models(models: Sequence[TabularModel]) -> None:
    if not len(models):
        raise ValueError("at least one model is needed, got none")
    first = models[0]
    for index, model in enumerate(models):
        if model.transition.shape != first.transition.shape or model.num_costs != first.num_costs:
            raise ValueError(
                f"all models need the same states, actions and costs: model {index} has {model.transition.shape[:2]} "
                f"and {model.num_costs}, the first one {first.transition.shape[:2]} and {first.num_costs}"
            )
        same_mask = (model.action_mask is None) == (first.action_mask is None) and (
            model.action_mask is None or (model.action_mask == first.action_mask).all()
        )
        if not (model.terminal == first.terminal).all() or model.horizon != first.horizon or not same_mask:
            raise ValueError(f"model {index} differs from the first one in terminal states, horizon or action mask")
