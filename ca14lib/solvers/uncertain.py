"""Planning with limits on cost when the model is uncertain, or the limit is on more than the mean. Book: safe/planning.

The uncertainty is a finite set of candidate models with the same states and actions. Which one is true never changes in
an episode, is not observed, and shows only in the states that are reached (not in rewards or costs). Everything needed
to act is then the step, the state and the posterior over candidates, the *belief*; in the occupancy of (step, state,
belief, action) the return and the costs under every candidate are linear. So each problem below is one linear
programme, exact over all policies with memory. Sources: Altman (1999) for the programme, Duff (2002) for the belief.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array, hstack

from ca14lib.environments.tabular_model import TabularModel
from ca14lib.solvers.constrained import (
    UNVISITED,
    InfeasibleError,
    _checked_limits,
    _Flow,
    _least_cost,
    _maximise,
    constrained_optimum,
    policy_costs,
)
from ca14lib.solvers.cvar import (
    _cost_table,
    _required_horizon,
    _unit,
    policy_cost_distribution,
    smallest_cost_cvar,
)
from ca14lib.solvers.dynamic_programming import TIE, _check, policy_return

MAX_NODES = 20_000  # (step, state, belief) combinations
MAX_SUBSETS = 500
LEAST_REFERENCE = 1e-3  # of a candidate in the measure under which visits are counted
MAX_ENTRIES = 50_000_000  # of the transitions between (state, cost so far)


@dataclass(frozen=True, eq=False)
class BeliefPolicy:
    """A policy of the step, the state and the belief.

    Attributes:
        states: For each step the states of its nodes, ``[N]``.
        beliefs: For each step the beliefs of its nodes, ``[N, M]``.
        tables: For each step the probabilities of actions, ``[N, A]``.
        prior: Belief before anything is seen, ``[M]``; in a Bayesian plan, that of the reference under which visits are
            counted, which differs from the posterior only where that is under ``LEAST_REFERENCE``.
        transition: Probabilities of every candidate, ``[M, S, A, S]``.
        initial: First-state distribution of every candidate, ``[M, S]``.
    """

    states: tuple[NDArray[np.intp], ...]
    beliefs: tuple[NDArray[np.float64], ...]
    tables: tuple[NDArray[np.float64], ...]
    prior: NDArray[np.float64]
    transition: NDArray[np.float64]
    initial: NDArray[np.float64]

    def first_belief(self, state: int) -> NDArray[np.float64]:
        """The belief ``[M]`` on seeing the first state."""
        return _normalised(self.prior * self.initial[:, state])

    def next_belief(self, belief: NDArray[np.float64], state: int, action: int, successor: int) -> NDArray[np.float64]:
        """The belief ``[M]`` after one move, by Bayes' rule.

        Raises:
            ValueError: If no candidate that is still possible allows the move.
        """
        return _normalised(belief * self.transition[:, state, action, successor])

    def probabilities(self, step: int, state: int, belief: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities of the actions, ``[A]``.

        Raises:
            ValueError: If the step is out of range or no policy brings about this belief there.
        """
        if not 0 <= step < len(self.tables):
            raise ValueError(f"step must lie in 0…{len(self.tables) - 1}, got {step}")
        here = np.flatnonzero(self.states[step] == state)
        distance = abs(self.beliefs[step][here] - belief).max(axis=1, initial=0.0)
        if not len(here) or distance.min() > 1e-6:
            raise ValueError(f"belief {belief} cannot occur in state {state} after {step} steps")
        return self.tables[step][here[distance.argmin()]]


@dataclass(frozen=True, eq=False)
class RobustPlan:
    """The best guarantee over a finite set of candidates.

    Attributes:
        guaranteed_return: Least expected return over the candidates, the largest that any policy guarantees while it
            keeps the limits under every candidate. Among the policies that guarantee it this one has the largest mean
            over the candidates.
        returns: Expected return under each candidate, ``[M]``.
        costs: Expected costs under each candidate, ``[M, K]``, all within the limits.
        worst_case_prior: Weights on the candidates, ``[M]``, for which no policy within the limits has a larger mean
            return than the guarantee: the least favourable prior.
        policy: The policy.
        limits: ``[K]``.
    """

    guaranteed_return: float
    returns: NDArray[np.float64]
    costs: NDArray[np.float64]
    worst_case_prior: NDArray[np.float64]
    policy: BeliefPolicy
    limits: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class BayesianPlan:
    """The largest mean return over a posterior on candidates.

    Attributes:
        expected_return: Return averaged over the posterior.
        expected_costs: Costs averaged over the posterior, ``[K]``.
        returns: Expected return under each candidate, ``[M]``.
        costs: Expected costs under each candidate, ``[M, K]``.
        kept_weight: Posterior weight of the candidates under which every limit is kept.
        policy: The policy.
        limits: ``[K]``.
        confidence: Weight that was asked for, or None if the limit is on the mean cost.
    """

    expected_return: float
    expected_costs: NDArray[np.float64]
    returns: NDArray[np.float64]
    costs: NDArray[np.float64]
    kept_weight: float
    policy: BeliefPolicy
    limits: NDArray[np.float64]
    confidence: float | None


@dataclass(frozen=True, eq=False)
class CertaintyEquivalentPlan:
    """The optimum of the mean model, and what it is worth under the candidates.

    Attributes:
        policy: Markov policy ``[H, S, A]``.
        promised_return: Its return in the mean model.
        promised_costs: Its costs in the mean model, ``[K]``.
        returns: Its expected return under each candidate, ``[M]``.
        costs: Its expected costs under each candidate, ``[M, K]``.
        expected_return: Return averaged over the posterior; in general not what was promised.
        expected_costs: Costs averaged over the posterior, ``[K]``; may break the limits.
    """

    policy: NDArray[np.float64]
    promised_return: float
    promised_costs: NDArray[np.float64]
    returns: NDArray[np.float64]
    costs: NDArray[np.float64]
    expected_return: float
    expected_costs: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RectangularPlan:
    """A guarantee when the true candidate may be another one at every step, state and action.

    Attributes:
        policies: One or two deterministic Markov policies, ``[P, H, S, A]``; one is drawn at the start of the episode.
        shares: The chances with which they are drawn, ``[P]``.
        guaranteed_return: The expected return is never below it.
        guaranteed_cost: The expected cost is never above it; at most the limit.
        upper_bound: No policy within the limit guarantees a larger return: the gap bounds what was given away.
        multiplier: The price of cost that gave the upper bound.
        returns: Expected return under each candidate held fixed, ``[M]``.
        costs: Expected cost under each candidate held fixed, ``[M]``.
    """

    policies: NDArray[np.float64]
    shares: NDArray[np.float64]
    guaranteed_return: float
    guaranteed_cost: float
    upper_bound: float
    multiplier: float
    returns: NDArray[np.float64]
    costs: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CostSoFarPolicy:
    """A policy of the step, the state and the cost so far.

    Attributes:
        table: Probabilities ``[H, S, L, A]``; level l is a cost so far of ``l · unit``, the last one or more.
        unit: Unit of cost.
    """

    table: NDArray[np.float64]
    unit: float

    def __call__(self, step: int, state: NDArray[np.intp], collected: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities ``[N, A]`` after ``step`` steps in states ``[N]`` with the cost so far ``[N]``."""
        level = np.rint(np.asarray(collected) / self.unit).astype(np.int64)
        return self.table[step, state, np.clip(level, 0, self.table.shape[2] - 1)]


@dataclass(frozen=True, eq=False)
class DistributionalPlan:
    """The largest expected return within a limit on the distribution of an episode's cost.

    Attributes:
        expected_return: Of the policy.
        risk: What is limited: the probability that the cost exceeds the limit, or the cost's CVaR.
        multiplier: How fast the optimal return grows with the bound on the risk (for CVaR with ``threshold`` held).
        threshold: The limit itself; for CVaR the quantile in the dual form.
        policy: The policy.
        costs: The costs an episode can have, ascending, ``[N]``.
        probabilities: Their probabilities, ``[N]``.
    """

    expected_return: float
    risk: float
    multiplier: float
    threshold: float
    policy: CostSoFarPolicy
    costs: NDArray[np.float64]
    probabilities: NDArray[np.float64]


def robust_constrained_plan(
    models: Sequence[TabularModel], limits: ArrayLike, discount: float = 1.0, horizon: int | None = None
) -> RobustPlan:
    """Maximises the least expected return over the candidates, each keeping the limits (book eq. robust-constraint).

    Exact over all policies that may remember the episode, randomised ones included. A policy of step and state alone
    can in general not do as well, and finding the best of those is not a convex problem.

    Args:
        models: M candidates with equal states, actions, terminal states and masks.
        limits: Upper bounds on the expected costs under every candidate, ``[K]`` or one number; +∞ for no bound.
        discount: :math:`\\gamma` in (0, 1], for return and cost.
        horizon: Steps; None takes the models' horizon, one of them is needed.
    Raises:
        InfeasibleError: If no policy keeps the limits under every candidate; it says how low the worst cost can be.
        ValueError: If candidates do not fit together, an argument is out of range, or beliefs are too many.
    """
    problem = _belief_problem(models, None, discount, horizon)
    bounds_on = _checked_limits(models[0], limits)
    bounded = np.flatnonzero(np.isfinite(bounds_on))
    count, size = len(models), len(problem.flow.step)
    limited = [(m, k) for m in range(count) for k in bounded]
    # one more unknown, the guarantee: guarantee − return under m ≤ 0
    flow = replace(problem.flow, conservation=csr_array(hstack([problem.flow.conservation, _no_column(problem.flow)])))
    rows = np.vstack(
        [np.column_stack([-problem.returns, np.ones(count)])] + [np.append(problem.costs[p], 0) for p in limited]
    )
    free = np.column_stack([np.append(np.zeros(size), -np.inf), np.full(size + 1, np.inf)])
    result = _maximise(
        flow,
        _last(size + 1),
        csr_array(rows),
        np.append(np.zeros(count), [bounds_on[k] for _, k in limited]),
        free,
    )
    if result.status == 2:
        raise InfeasibleError(bounds_on, problem.least_worst_costs(range(count)), "cost in the worst model")
    # among the policies with this guarantee, the one with the largest mean
    mean = np.append(problem.returns.mean(axis=0), 0.0)
    best = _least_cost(flow, result, csr_array(rows), -mean, free[:, 0])[:size]
    policy, visits = problem.policy(best)
    returns, costs = problem.returns @ visits, np.einsum("mkn,n->mk", problem.costs, visits)
    prior = np.maximum(-result.ineqlin.marginals[:count], 0.0)
    return RobustPlan(float(returns.min()), returns, costs, prior / prior.sum(), policy, bounds_on)


def bayesian_constrained_plan(
    models: Sequence[TabularModel],
    limits: ArrayLike,
    weights: ArrayLike | None = None,
    discount: float = 1.0,
    horizon: int | None = None,
    *,
    confidence: float | None = None,
) -> BayesianPlan:
    """Maximises the mean return over a posterior on candidates (book eq. bayesian-constraint).

    Without ``confidence`` the limits are on the costs averaged over the posterior. With it they must hold under
    candidates of at least that posterior weight: a chance constraint over the candidates, solved by trying every least
    set of candidates that weighs enough. Both are exact over all policies that may remember the episode; among policies
    that are equally good one with the least mean cost is returned.

    Args:
        models: M candidates with equal states, actions, terminal states and masks.
        limits: Upper bounds on expected costs, ``[K]`` or one number; +∞ for no bound.
        weights: Posterior weights, positive, ``[M]``; None for equal ones. They are scaled to sum to 1.
        discount: :math:`\\gamma` in (0, 1], for return and cost.
        horizon: Steps; None takes the models' horizon, one of them is needed.
        confidence: Weight in (0, 1] under which each limit must hold, or None.
    Raises:
        InfeasibleError: If no policy keeps the limits in this sense.
        ValueError: If candidates do not fit together, an argument is out of range, or beliefs or sets are too many.
        RuntimeError: If rounding makes the solver's plan miss the confidence.
    """
    posterior = _fitting(models, weights, discount, horizon)[1]
    # visits are counted under a reference that gives every candidate some weight, or the costs under an unlikely one
    # would be divided by next to nothing, and the solver's tolerance with them
    problem = _belief_problem(models, np.maximum(posterior, LEAST_REFERENCE), discount, horizon)
    bounds_on = _checked_limits(models[0], limits)
    bounded = np.isfinite(bounds_on)
    objective = posterior @ problem.returns
    if confidence is None:
        mean_costs = np.tensordot(posterior, problem.costs, 1)
        rows = csr_array(mean_costs[bounded])
        result = _maximise(problem.flow, objective, rows, bounds_on[bounded])
        if result.status == 2:
            least = np.array([cost @ _maximise(problem.flow, -cost).x for cost in mean_costs])
            raise InfeasibleError(bounds_on, least, "mean cost")
    else:
        sets = _least_sets(posterior, confidence)
        tried = []
        for members in sets:
            rows = csr_array(problem.costs[members][:, bounded].reshape(-1, len(objective)))
            result = _maximise(problem.flow, objective, rows, np.tile(bounds_on[bounded], len(members)))
            if result.status == 0:
                tried.append((result, rows))
        if not tried:
            least = np.min([problem.least_worst_costs(members) for members in sets], axis=0)
            raise InfeasibleError(bounds_on, least, f"cost kept with weight {confidence:g}")
        result, rows = max(tried, key=lambda each: float(objective @ each[0].x))
    best = result.x
    if len(best):
        best = _least_cost(problem.flow, result, rows, np.tensordot(posterior, problem.costs, 1).sum(axis=0))
    policy, visits = problem.policy(best)
    returns, costs = problem.returns @ visits, np.einsum("mkn,n->mk", problem.costs, visits)
    kept = (costs <= bounds_on + 1e-8 * np.maximum(1.0, abs(costs))).all(axis=1)
    if confidence is not None and posterior[kept].sum() < confidence - 1e-9:
        raise RuntimeError(
            f"the solver's plan keeps the limits with weight {posterior[kept].sum():g}, not {confidence:g}: its "
            "tolerance is too coarse for this problem"
        )
    return BayesianPlan(
        float(posterior @ returns),
        posterior @ costs,
        returns,
        costs,
        float(posterior[kept].sum()),
        policy,
        bounds_on,
        confidence,
    )


def certainty_equivalent_plan(
    models: Sequence[TabularModel],
    limits: ArrayLike,
    weights: ArrayLike | None = None,
    discount: float = 1.0,
    horizon: int | None = None,
) -> CertaintyEquivalentPlan:
    """The constrained optimum of the model averaged over the posterior, judged under every candidate.

    The mean model would be right if the candidate were drawn anew at every step. When one holds for the whole episode
    it misses that moves are correlated, so what it promises is in general not the posterior's mean, and the limits may
    be broken on average. :func:`bayesian_constrained_plan` does not have this fault.

    Args: as :func:`bayesian_constrained_plan`.
    """
    steps, prior = _fitting(models, weights, discount, horizon)
    mean = TabularModel(
        transition=np.tensordot(prior, [model.transition for model in models], 1),
        reward=np.tensordot(prior, [model.expected_reward for model in models], 1),
        cost=np.tensordot(prior, [model.expected_cost for model in models], 1),
        terminal=models[0].terminal,
        initial=np.tensordot(prior, [model.initial for model in models], 1),
        action_mask=models[0].action_mask,
    )
    plan = constrained_optimum(mean, limits, discount, steps)
    returns = np.array([policy_return(model, plan.policy, discount, steps) for model in models])
    costs = np.array([policy_costs(model, plan.policy, discount, steps) for model in models])
    return CertaintyEquivalentPlan(
        plan.policy, plan.optimal_return, plan.costs, returns, costs, float(prior @ returns), prior @ costs
    )


def rectangular_constrained_plan(
    models: Sequence[TabularModel],
    limit: float,
    discount: float = 1.0,
    horizon: int | None = None,
    *,
    constraint: int = 0,
    iterations: int = 60,
) -> RectangularPlan:
    """A policy with guarantees when the candidate may be another one at every step, state and action.

    The sets of book eq. robust-constraint are then rectangular. For a price λ on cost, backward induction finds the
    policy with the largest worst case of return − λ · cost, and the worst cases of its return and of its cost one by
    one. The best lottery over two of the policies met while bisecting λ is returned. Its guarantees hold; that no
    policy has better ones is not claimed, as the worst cases of return and cost may be different ones: ``upper_bound``
    says what is at most missing.

    Args:
        models: M candidates with equal states, actions, terminal states, masks and first-state distribution.
        limit: Upper bound on the expected cost.
        discount: :math:`\\gamma` in (0, 1], for return and cost.
        horizon: Steps; None takes the models' horizon, one of them is needed.
        constraint: Which cost, in 0…K − 1.
        iterations: Bisections of the price, at least 1.
    Raises:
        InfeasibleError: If no policy has a worst-case cost within the limit.
        ValueError: If candidates do not fit together or an argument is out of range.
    """
    steps, _ = _fitting(models, None, discount, horizon)
    if any(abs(model.initial - models[0].initial).max() > 0 for model in models):
        raise ValueError("initial must be equal in all models: nature's choice is made after the first state")
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    if not np.isfinite(limit):
        raise ValueError(f"limit must be finite, got {limit}")
    _cost_table(models[0], constraint)
    set_of = _Rectangle(
        np.stack([model.transition for model in models]),
        np.stack([model.expected_reward for model in models]),
        np.stack([model.expected_cost[constraint] for model in models]),
        models[0].initial,
        models[0].action_mask,
        discount,
        steps,
    )
    safest = set_of.best(-set_of.cost)[0]
    seen = [(set_of.worst_cost(safest), set_of.worst_return(safest), safest)]
    if seen[0][0] > limit + TIE * max(1.0, abs(limit)):
        raise InfeasibleError(np.array([limit]), np.array([seen[0][0]]), "worst-case cost")

    bound, at = np.inf, 0.0

    def keeps(price: float) -> bool:
        nonlocal bound, at
        policy, value = set_of.best(set_of.reward - price * set_of.cost)
        seen.append((set_of.worst_cost(policy), set_of.worst_return(policy), policy))
        if value + price * limit < bound:
            bound, at = value + price * limit, price
        return seen[-1][0] <= limit

    low, high = 0.0, 1.0
    if not keeps(0.0):
        while not keeps(high) and high < 1e9:
            low, high = high, 4 * high
        for _ in range(iterations):
            middle = (low + high) / 2
            low, high = (low, middle) if keeps(middle) else (middle, high)
    chosen = _best_lottery(seen, limit)
    policies, shares = np.stack([seen[i][2] for i, _ in chosen]), np.array([share for _, share in chosen])
    values = np.array([[policy_return(model, p, discount, steps) for p in policies] for model in models])
    costs = np.array([[policy_costs(model, p, discount, steps)[constraint] for p in policies] for model in models])
    return RectangularPlan(
        policies,
        shares,
        float(sum(share * seen[i][1] for i, share in chosen)),
        float(sum(share * seen[i][0] for i, share in chosen)),
        bound,
        at,
        values @ shares,
        costs @ shares,
    )


def distributional_constrained_plan(
    model: TabularModel,
    limit: float,
    *,
    exceedance: float | None = None,
    confidence: float | None = None,
    constraint: int = 0,
    horizon: int | None = None,
    resolution: float | None = None,
) -> DistributionalPlan:
    """The largest expected return under a limit on the distribution of the cost (book eq. distributional-constraint).

    Either ``exceedance``: the episode's undiscounted cost exceeds ``limit`` with at most this probability; or
    ``confidence`` α: the cost's CVaR at level α, its mean over the worst 1 − α, is at most ``limit``. Both are linear
    in the occupancy of (step, state, cost so far), the second for each threshold b of the dual form, of which every
    cost up to the limit is tried: exact over all policies that may remember the episode.

    Args:
        model: The problem; costs must not be negative.
        limit: Level of cost.
        exceedance: Largest probability that the cost is above the limit, in [0, 1].
        confidence: Level α in [0, 1).
        constraint: Which cost, in 0…K − 1.
        horizon: Steps; None takes ``model.horizon``, one of them is needed.
        resolution: All costs must be multiples of it; None finds their largest common divisor.
    Raises:
        InfeasibleError: If no policy keeps the limit; it says how small the probability or the CVaR can be.
        ValueError: If not exactly one of ``exceedance`` and ``confidence`` is given, an argument is out of range, costs
            are negative or on no common grid.
    """
    if (exceedance is None) == (confidence is None):
        raise ValueError(f"give one of exceedance and confidence, got {exceedance} and {confidence}")
    if exceedance is not None and not 0.0 <= exceedance <= 1.0:
        raise ValueError(f"exceedance must lie in [0, 1], got {exceedance}")
    if confidence is not None and not 0.0 <= confidence < 1.0:
        raise ValueError(f"confidence must lie in [0, 1), got {confidence}")
    if not (np.isfinite(limit) and limit >= 0):
        raise ValueError(f"limit must be finite and at least 0, got {limit}")
    cost = _cost_table(model, constraint)
    if (cost < 0).any():
        raise ValueError(f"cost must not be negative, got {cost.min():.6g}")
    steps = _required_horizon(model, horizon)
    if cost.ndim == 2:
        cost = np.broadcast_to(cost[..., None], model.transition.shape)
    moves = (model.transition > 0) & ~model.terminal[:, None, None]
    unit = _unit(cost[moves], "cost", resolution)
    units = np.where(moves, np.rint(cost / unit), 0).astype(np.int64)
    most = int(np.floor(limit / unit + 1e-6))

    if exceedance is not None:
        aware = _with_cost_so_far(model, units, most + 1, lambda level: (level > most).astype(np.float64))
        try:
            found = constrained_optimum(aware, [exceedance, np.inf], horizon=steps)
        except InfeasibleError as error:
            raise InfeasibleError(
                error.limits[:1], error.smallest_costs[:1], f"probability of cost above {limit:g}"
            ) from None
        policy, costs, chances = _of_cost_so_far(model, found.policy, unit, constraint, steps, resolution)
        risk = float(chances[costs > (most + 0.5) * unit].sum())
        return DistributionalPlan(
            found.optimal_return, risk, float(found.multipliers[0]), limit, policy, costs, chances
        )

    assert confidence is not None
    tail, best = 1.0 - confidence, None
    for threshold in range(most + 1):
        aware = _with_cost_so_far(model, units, threshold, lambda level, b=threshold: np.maximum(level - b, 0.0) * unit)
        try:
            found = constrained_optimum(aware, [tail * (limit - threshold * unit), np.inf], horizon=steps)
        except InfeasibleError:
            continue
        if best is None or found.optimal_return > best[0].optimal_return + TIE * abs(best[0].optimal_return):
            best = found, threshold
    if best is None:
        least = smallest_cost_cvar(model, confidence, constraint, steps, resolution=resolution)
        raise InfeasibleError(np.array([limit]), np.array([-least.value]), f"CVaR of the cost at level {confidence:g}")
    found, threshold = best
    policy, costs, chances = _of_cost_so_far(model, found.policy, unit, constraint, steps, resolution)
    above = np.cumsum(chances[::-1])[::-1] - chances
    risk = float(costs @ np.clip(tail - above, 0.0, chances) / tail)
    multiplier = tail * float(found.multipliers[0])
    return DistributionalPlan(found.optimal_return, risk, multiplier, threshold * unit, policy, costs, chances)


def sampled_models(
    model: TabularModel, counts: ArrayLike, number: int, *, seed: int, pseudo_count: float = 1.0
) -> list[TabularModel]:
    """Candidates drawn from the Dirichlet posterior of the transitions given how often each move was seen.

    Args:
        model: Gives everything but the transitions; a move of probability 0 in it is taken to be impossible.
        counts: Moves seen, ``[S, A, S]``.
        number: Candidates to draw, at least 1.
        seed: Of the draws.
        pseudo_count: Prior count of every possible move, positive.
    Raises:
        ValueError: If shapes disagree, counts are negative or of an impossible move, or a number is out of range.
    """
    seen = np.asarray(counts, dtype=np.float64)
    if seen.shape != model.transition.shape:
        raise ValueError(f"counts must have shape {model.transition.shape}, got {seen.shape}")
    if not np.isfinite(seen).all() or (seen < 0).any() or (seen[model.transition == 0] > 0).any():
        raise ValueError("counts must be finite, at least 0, and 0 where the model's transition is 0")
    if number < 1 or not pseudo_count > 0:
        raise ValueError(f"number must be at least 1 and pseudo_count positive, got {number} and {pseudo_count}")
    rng = np.random.default_rng(seed)
    shape = np.where(model.transition > 0, seen + pseudo_count, 0.0)
    draws = rng.standard_gamma(shape, size=(number, *shape.shape))
    # with tiny counts all draws of a row may be smaller than any float: then, in the limit, one successor has it all
    for lost in np.argwhere(draws.sum(axis=3) == 0):
        likely = shape[tuple(lost[1:])]
        draws[tuple(lost)][rng.choice(len(likely), p=likely / likely.sum())] = 1.0
    return [replace(model, transition=draw / draw.sum(axis=2, keepdims=True)) for draw in draws]


# --- the belief problem -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _BeliefProblem:
    """Nodes (step, state, belief) and the flow between them.

    A visit is counted with its probability when the candidate is drawn from ``prior``. ``returns`` ``[M, N]`` and
    ``costs`` ``[M, K, N]`` are what a visit adds under each candidate: its posterior share over its prior, times the
    reward or cost.
    """

    flow: _Flow
    prior: NDArray[np.float64]
    returns: NDArray[np.float64]
    costs: NDArray[np.float64]
    states: tuple[NDArray[np.intp], ...]
    beliefs: tuple[NDArray[np.float64], ...]
    models: Sequence[TabularModel]

    def least_worst_costs(self, members: Sequence[int]) -> NDArray[np.float64]:
        """For each constraint the least cost that can be guaranteed under all these candidates, ``[K]``."""
        size = len(self.flow.step)
        flow = replace(self.flow, conservation=csr_array(hstack([self.flow.conservation, _no_column(self.flow)])))
        free = np.column_stack([np.append(np.zeros(size), -np.inf), np.full(size + 1, np.inf)])
        least = []
        for k in range(self.costs.shape[1]):
            rows = np.column_stack([self.costs[list(members), k], -np.ones(len(members))])
            found = _maximise(flow, -_last(size + 1), csr_array(rows), np.zeros(len(members)), free)
            least.append(float(found.x[size]))
        return np.array(least)

    def policy(self, visits: NDArray[np.float64]) -> tuple[BeliefPolicy, NDArray[np.float64]]:
        """The policy with these visits (any allowed action where there are none), and its exact visits."""
        actions = self.models[0].num_actions
        mask = self.models[0].action_mask
        tables = []
        for step, states in enumerate(self.states):
            here = self.flow.step == step
            table = np.zeros((len(states), actions))
            table[self.flow.state[here], self.flow.action[here]] = np.maximum(visits[here], 0.0)
            other = np.ones((len(states), actions)) if mask is None else mask[states].astype(np.float64)
            total = table.sum(axis=1, keepdims=True)
            empty = total <= UNVISITED
            tables.append(
                np.where(empty, other / other.sum(axis=1, keepdims=True), table / np.where(empty, 1.0, total))
            )
        # the policy's own visits, forward: what enters a node is split by its table
        exact, arriving = np.zeros(len(visits)), self.flow.inflow.copy()
        onward = -self.flow.conservation.minimum(0)
        row = np.zeros(len(visits), dtype=np.intp)
        first = np.cumsum([0] + [len(states) for states in self.states])
        row = first[self.flow.step] + self.flow.state
        for step, table in enumerate(tables):
            here = np.flatnonzero(self.flow.step == step)
            exact[here] = arriving[row[here]] * table[self.flow.state[here], self.flow.action[here]]
            arriving = arriving + onward[:, here] @ exact[here]
        policy = BeliefPolicy(
            self.states,
            self.beliefs,
            tuple(tables),
            self.prior,
            np.stack([model.transition for model in self.models]),
            np.stack([model.initial for model in self.models]),
        )
        return policy, exact


def _belief_problem(
    models: Sequence[TabularModel], weights: ArrayLike | None, discount: float, horizon: int | None
) -> _BeliefProblem:
    steps, prior = _fitting(models, weights, discount, horizon)
    transition = np.stack([model.transition for model in models], axis=-1)  # [S, A, S, M]
    alive = ~models[0].terminal
    allowed = np.ones((models[0].num_states, models[0].num_actions), bool)
    if models[0].action_mask is not None:
        allowed = models[0].action_mask

    joint = prior * np.stack([model.initial for model in models], axis=-1) * alive[:, None]
    start = np.flatnonzero(joint.sum(axis=1))
    states, beliefs = [start], [joint[start] / joint[start].sum(axis=1, keepdims=True)]
    inflow = joint[start].sum(axis=1)
    at_step, at_node, at_action, rows, columns, entries, count, first = [], [], [], [], [], [], 0, 0
    for step in range(steps):
        node, action = np.nonzero(allowed[states[step]])
        column = count + np.arange(len(node))
        at_step.append(np.full(len(node), step))
        at_node.append(node)
        at_action.append(action)
        rows.append(first + node)
        columns.append(column)
        entries.append(np.ones(len(node)))
        count, first = count + len(node), first + len(states[step])
        if step + 1 == steps:
            break
        moved = beliefs[step][node][:, None, :] * transition[states[step][node], action]  # [N, S, M]
        chance = moved.sum(axis=2) * alive
        pair, successor = np.nonzero(chance)
        following = moved[pair, successor] / chance[pair, successor][:, None]
        keys = np.column_stack([successor, np.round(following, 10)])
        _, distinct, index = np.unique(keys, axis=0, return_index=True, return_inverse=True)
        states.append(successor[distinct])
        beliefs.append(following[distinct])
        if first + len(distinct) > MAX_NODES:
            raise ValueError(
                f"more than {MAX_NODES:,} beliefs can occur within {step + 2} steps; take fewer models or steps, or "
                "rectangular_constrained_plan"
            )
        rows.append(first + index.ravel())
        columns.append(column[pair])
        entries.append(-chance[pair, successor])
    step_of, node_of = np.concatenate(at_step).astype(np.intp), np.concatenate(at_node)
    action_of = np.concatenate(at_action)
    conservation = csr_array(
        (np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns))), shape=(first, count)
    )
    flow = _Flow(
        step_of,
        node_of,
        action_of,
        discount ** step_of.astype(np.float64),
        conservation,
        np.append(inflow, np.zeros(first - len(inflow))),
        steps,
    )
    offset = np.cumsum([0] + [len(each) for each in states])
    state_of = np.concatenate(states)[offset[step_of] + node_of]
    share = (np.concatenate(beliefs)[offset[step_of] + node_of] / prior).T * flow.weight  # [M, N]
    returns = share * np.stack([model.expected_reward[state_of, action_of] for model in models])
    costs = share[:, None] * np.stack([model.expected_cost[:, state_of, action_of] for model in models])
    return _BeliefProblem(flow, prior, returns, costs, tuple(states), tuple(beliefs), models)


def _last(size: int) -> NDArray[np.float64]:
    return np.append(np.zeros(size - 1), 1.0)


def _no_column(flow: _Flow) -> csr_array:
    return csr_array((len(flow.inflow), 1))


def _normalised(joint: NDArray[np.float64]) -> NDArray[np.float64]:
    if not joint.sum() > 0:
        raise ValueError("no candidate that is still possible allows what was seen")
    return joint / joint.sum()


def _least_sets(prior: NDArray[np.float64], confidence: float) -> list[list[int]]:
    """The sets of candidates that weigh at least ``confidence`` and no longer do without any one of them."""
    if not 0.0 < confidence <= 1.0:
        raise ValueError(f"confidence must lie in (0, 1], got {confidence}")
    sets = []
    for size in range(1, len(prior) + 1):
        for members in combinations(range(len(prior)), size):
            weight = prior[list(members)]
            if weight.sum() >= confidence - 1e-12 > weight.sum() - weight.min():
                sets.append(list(members))
                if len(sets) > MAX_SUBSETS:
                    raise ValueError(f"more than {MAX_SUBSETS} sets of models weigh {confidence:g}; take fewer models")
    return sets


# --- worst cases of a rectangular set ---------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Rectangle:
    """Candidates of which nature may use another one at every step, state and action."""

    transition: NDArray[np.float64]  # [M, S, A, S]
    reward: NDArray[np.float64]  # [M, S, A]
    cost: NDArray[np.float64]
    initial: NDArray[np.float64]
    mask: NDArray[np.bool_] | None
    discount: float
    steps: int

    def best(self, signal: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
        """The policy ``[H, S, A]`` with the largest worst case of the signal's total, and that worst case."""
        value = np.zeros(len(self.initial))
        policy = np.zeros((self.steps, *signal.shape[1:]))
        for step in reversed(range(self.steps)):
            q = (signal + self.discount * self.transition @ value).min(axis=0)
            if self.mask is not None:
                q = np.where(self.mask, q, -np.inf)
            policy[step] = np.eye(q.shape[1])[q.argmax(axis=1)]
            value = q.max(axis=1)
        return policy, float(self.initial @ value)

    def worst(self, policy: NDArray[np.float64], signal: NDArray[np.float64]) -> float:
        """The worst case of the signal's total under a policy."""
        value = np.zeros(len(self.initial))
        for step in reversed(range(self.steps)):
            q = (signal + self.discount * self.transition @ value).min(axis=0)
            value = (policy[step] * q).sum(axis=1)
        return float(self.initial @ value)

    def worst_return(self, policy: NDArray[np.float64]) -> float:
        return self.worst(policy, self.reward)

    def worst_cost(self, policy: NDArray[np.float64]) -> float:
        return -self.worst(policy, -self.cost)


def _best_lottery(seen: list[tuple[float, float, Any]], limit: float) -> list[tuple[int, float]]:
    """The lottery over at most two of the policies seen (cost, return, policy) that has the largest return within the
    limit: index and chance of each."""
    costs, values = np.array([each[0] for each in seen]), np.array([each[1] for each in seen])
    within = np.flatnonzero(costs <= limit + TIE * max(1.0, abs(limit)))
    best = within[values[within].argmax()]
    lottery, value = [(int(best), 1.0)], values[best]
    for i in within:
        for j in np.flatnonzero((costs > limit) & (values > values[i])):
            share = (limit - costs[i]) / (costs[j] - costs[i])
            mixed = (1 - share) * values[i] + share * values[j]
            if 0 < share < 1 and mixed > value + TIE * abs(value):
                lottery, value = [(int(i), float(1 - share)), (int(j), float(share))], mixed
    return lottery


# --- the cost so far as part of the state -----------------------------------------------------------------------------


def _with_cost_so_far(model: TabularModel, units: NDArray[np.int64], top: int, penalty: Any) -> TabularModel:
    """The problem whose states are (state, cost so far), the latter capped at ``top`` units.

    Its first cost is what ``penalty`` (of the total in units) grows by, so an episode's is the penalty of its total
    minus that of 0; at the cap the penalty must grow as it does above it. Its second cost is the original one in units:
    left without a limit, it decides between policies that are equally good.
    """
    levels = np.arange(top + 1)
    states, actions = model.num_states, model.num_actions
    if (states * (top + 1)) ** 2 * actions > MAX_ENTRIES:
        raise ValueError(f"{states} states × {top + 1} levels of cost are too many; round the costs to a coarser grid")
    total = levels[:, None, None, None] + units  # [L, S, A, S]
    capped = np.minimum(total, top)
    transition = np.zeros((states, top + 1, actions, states, top + 1))
    level, state, action, successor = np.nonzero(np.broadcast_to(model.transition > 0, total.shape))
    arriving = capped[level, state, action, successor]
    transition[state, level, action, successor, arriving] = model.transition[state, action, successor]
    grown = penalty(total) - penalty(levels)[:, None, None, None]
    size = states * (top + 1)
    cost = np.einsum("sat,clsat->csla", model.transition, np.stack([grown, np.broadcast_to(units, grown.shape)]))
    initial = np.zeros((states, top + 1))
    initial[:, 0] = model.initial
    return TabularModel(
        transition=transition.reshape(size, actions, size),
        reward=np.repeat(model.expected_reward, top + 1, axis=0),
        cost=cost.reshape(2, size, actions),
        terminal=np.repeat(model.terminal, top + 1),
        initial=initial.ravel(),
        action_mask=None if model.action_mask is None else np.repeat(model.action_mask, top + 1, axis=0),
    )


def _of_cost_so_far(
    model: TabularModel,
    table: NDArray[np.float64],
    unit: float,
    constraint: int,
    steps: int,
    resolution: float | None,
) -> tuple[CostSoFarPolicy, NDArray[np.float64], NDArray[np.float64]]:
    policy = CostSoFarPolicy(table.reshape(steps, model.num_states, -1, model.num_actions), unit)
    return policy, *policy_cost_distribution(model, policy, constraint, steps, resolution=resolution)


# --- arguments --------------------------------------------------------------------------------------------------------


def _fitting(
    models: Sequence[TabularModel], weights: ArrayLike | None, discount: float, horizon: int | None
) -> tuple[int, NDArray[np.float64]]:
    """The horizon and the normalised weights, once the candidates are known to fit together."""
    _check(discount, horizon)
    if len(models) == 0:
        raise ValueError("models must hold at least one candidate, got none")
    first = models[0]
    for number, model in enumerate(models):
        for name in ("transition", "terminal", "action_mask"):
            one, other = getattr(first, name), getattr(model, name)
            same = (one is None) == (other is None) and (one is None or one.shape == other.shape)
            if not same or (name != "transition" and one is not None and (one != other).any()):
                raise ValueError(f"models must agree in {name}, but candidate {number} differs from candidate 0")
        if model.num_costs != first.num_costs or model.horizon != first.horizon:
            raise ValueError(
                f"models must agree in costs and horizon: candidate {number} has {model.num_costs}, {model.horizon}; "
                f"candidate 0 has {first.num_costs}, {first.horizon}"
            )
    prior = np.ones(len(models)) if weights is None else np.asarray(weights, dtype=np.float64)
    if prior.shape != (len(models),) or not np.isfinite(prior).all() or (prior <= 0).any():
        raise ValueError(f"weights must be {len(models)} positive numbers, got {prior}")
    return _required_horizon(first, horizon), prior / prior.sum()
