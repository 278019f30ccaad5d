"""Exact answers for finite problems with limits on cost: a linear programme over occupancies. Book: safe/theory.

Conventions: as in :mod:`ca14lib.solvers.dynamic_programming`. The discount applies to reward and cost alike; the limit
bounds the expected cost of an episode. Costs may have either sign: nothing here needs them to be positive. Without a
horizon and with discount 1, only policies that end with probability 1 count; waiting for ever must be modelled as an
action that ends. Sources: Altman, *Constrained Markov Decision Processes* (1999), chapters 3, 4 and 9.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeResult, linprog
from scipy.sparse import coo_array, csr_array, vstack

from ca14lib.environments.tabular_model import TabularModel
from ca14lib.solvers.dynamic_programming import (
    TIE,
    _best,
    _check,
    _checked_policy,
    _greedy,
    _masked,
    occupancy_measure,
    policy_evaluation,
    value_iteration,
)

UNVISITED = 1e-12  # expected visits below this count as none


class InfeasibleError(ValueError):
    """No policy keeps the limits.

    Attributes:
        limits: What was asked for, ``[K]``.
        smallest_costs: The least cost that a policy can have in each constraint when the others do not count, ``[K]``.
    """

    def __init__(self, limits: NDArray[np.float64], smallest_costs: NDArray[np.float64], what: str = "cost") -> None:
        self.limits, self.smallest_costs = limits, smallest_costs
        several = len(limits) > 1
        parts = [
            f"no policy has {what}{f' {k}' if several else ''} below {least:.10g} (limit {limit:.10g})"
            for k, (least, limit) in enumerate(zip(smallest_costs, limits))
            if least > limit
        ]
        if not parts:
            alone = ", ".join(
                f"{what} {k} can be as low as {least:.10g} (limit {limit:.10g})"
                for k, (least, limit) in enumerate(zip(smallest_costs, limits))
            )
            parts = [f"each limit alone can be met but no policy meets them together: {alone}"]
        super().__init__("; ".join(parts))


@dataclass(frozen=True, eq=False)
class ConstrainedSolution:
    """The best policy within limits on cost.

    Attributes:
        optimal_return: Expected return of ``policy``, exact.
        costs: Its expected costs, exact, ``[K]``.
        policy: Probabilities ``[S, A]``, or ``[H, S, A]`` with a horizon. It randomises in at most K places. Where it
            never comes, it takes the best action of the Lagrangian (any allowed one, undiscounted without a horizon).
        multipliers: Lagrange multipliers ``[K]``, at least 0: how fast the optimal return grows with each limit (at a
            kink of the front one value between the slopes on its two sides).
        occupancy: Expected discounted visits of ``policy``, ``[S, A]``, or by step ``[H, S, A]`` with a horizon.
        limits: The limits, ``[K]``.
        discount: :math:`\\gamma`.
        horizon: H or None.
    """

    optimal_return: float
    costs: NDArray[np.float64]
    policy: NDArray[np.float64]
    multipliers: NDArray[np.float64]
    occupancy: NDArray[np.float64]
    limits: NDArray[np.float64]
    discount: float
    horizon: int | None


@dataclass(frozen=True, eq=False)
class LagrangianSolution:
    """The best policy when costs are priced.

    Attributes:
        value: :math:`\\max_\\pi J(\\pi) - \\sum_k\\lambda_k J_{C_k}(\\pi)`.
        policy: One policy that attains it, deterministic, ``[S, A]`` or ``[H, S, A]``.
        expected_return: Its return.
        costs: Its costs ``[K]``.
    """

    value: float
    policy: NDArray[np.float64]
    expected_return: float
    costs: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ParetoFront:
    """The best return at every limit on one cost: concave, increasing and piecewise linear.

    Attributes:
        costs: Cost of each corner, ascending, ``[N]``; the first is the least cost that a policy can have.
        returns: Return of each corner, ``[N]``; the last is the unconstrained optimum.
        multipliers: Slope of each segment, descending, ``[N − 1]``: the Lagrange multiplier for limits inside it.
        policies: A deterministic policy of each corner, ``[N, S, A]`` or ``[N, H, S, A]``.
    """

    costs: NDArray[np.float64]
    returns: NDArray[np.float64]
    multipliers: NDArray[np.float64]
    policies: NDArray[np.float64]

    def optimal_return(self, limits: ArrayLike) -> NDArray[np.float64]:
        """Best return at each limit, any shape; NaN where no policy keeps the limit."""
        limits = np.asarray(limits, dtype=np.float64)
        return np.where(limits < self.costs[0] - TIE, np.nan, np.interp(limits, self.costs, self.returns))


def constrained_optimum(
    model: TabularModel, limits: ArrayLike, discount: float = 1.0, horizon: int | None = None
) -> ConstrainedSolution:
    """The largest expected return of a policy whose expected costs keep the limits (book eq. cmdp-occupancy-lp).

    A linear programme over expected visits to every step, state and action (eq. cmdp-occupancy-lp-horizon), or over
    discounted visits without a horizon. Among the optimal policies it takes one whose costs, where the limit does not
    bind, have the least sum (each in units of its largest entry).

    Args:
        model: The problem, with K ≥ 1 cost functions.
        limits: Upper bounds on the expected costs, ``[K]`` or one number for all; +∞ for no bound.
        discount: :math:`\\gamma` in (0, 1].
        horizon: Steps left at the start; None takes ``model.horizon``.
    Raises:
        InfeasibleError: If no policy keeps the limits; it says how low each cost can be.
        ValueError: If an argument is out of range, or, with discount 1 and no horizon, if no policy is sure to end or
            the return has no maximum.
    """
    _check(discount, horizon)
    horizon = model.horizon if horizon is None else horizon
    limits = _checked_limits(model, limits)
    flow = _flow(model, discount, horizon)
    reward, costs = flow.per_visit(model.expected_reward), flow.per_visit(model.expected_cost)
    bounded = np.isfinite(limits)
    units = abs(costs).max(axis=1, initial=0.0)
    units[units == 0] = 1.0

    limit_rows = csr_array(costs[bounded] / units[bounded, None])
    result = _maximise(flow, reward, limit_rows, limits[bounded] / units[bounded])
    if result.status == 2:
        smallest = np.array([smallest_cost(model, k, discount, horizon) for k in range(model.num_costs)])
        raise InfeasibleError(limits, smallest)
    multipliers = np.zeros(model.num_costs)
    multipliers[bounded] = np.maximum(-result.ineqlin.marginals * result.unit / units[bounded], 0.0)
    visits = result.x
    if len(visits) and (multipliers == 0).any():
        visits = _least_cost(flow, result, limit_rows, (costs / units[:, None])[multipliers == 0].sum(axis=0))

    policy = flow.policy(model, visits, discount, _priced(model, multipliers))
    occupancy = _occupancy(model, policy, discount, horizon)
    expected = float((occupancy * model.expected_reward).sum())
    if abs(expected - reward @ visits) > 1e-6 * max(result.unit, abs(reward @ visits)):
        raise ValueError(
            f"the best return {reward @ visits:.6g} is approached but not attained: it needs a loop that the policy "
            "enters with vanishing probability and hardly ever leaves; give a discount below 1 or a horizon"
        )
    return ConstrainedSolution(
        expected, _totals(occupancy, model.expected_cost), policy, multipliers, occupancy, limits, discount, horizon
    )


def policy_costs(
    model: TabularModel, policy: NDArray[np.float64], discount: float = 1.0, horizon: int | None = None
) -> NDArray[np.float64]:
    """Exact expected costs of a policy, ``[K]``, without sampling (book eq. cmdp-cost-return).

    Args: as :func:`ca14lib.solvers.policy_evaluation`.
    """
    if model.num_costs == 0:
        policy_evaluation(model, policy, discount, horizon)  # refuses what it would refuse for a model with costs
        return np.zeros(0)
    priced = [_rewarded(model, cost) for cost in model.expected_cost]
    return np.array([policy_evaluation(each, policy, discount, horizon).expected_return for each in priced])


def smallest_cost(model: TabularModel, constraint: int = 0, discount: float = 1.0, horizon: int | None = None) -> float:
    """The least expected cost that a policy can have in one constraint: the smallest limit that can be kept.

    Args:
        model: The problem.
        constraint: Which cost, in 0…K − 1.
        discount: :math:`\\gamma` in (0, 1].
        horizon: Steps left at the start; None takes ``model.horizon``.
    Raises:
        ValueError: If an argument is out of range or an undiscounted problem has no least cost.
    """
    _check(discount, horizon)
    _check_constraint(model, constraint)
    horizon = model.horizon if horizon is None else horizon
    cost = model.expected_cost[constraint]
    policy = _lexicographic(model, -cost, np.zeros_like(cost), discount, horizon)
    return float((_occupancy(model, policy, discount, horizon) * cost).sum())


def lagrangian_optimum(
    model: TabularModel, multipliers: ArrayLike, discount: float = 1.0, horizon: int | None = None
) -> LagrangianSolution:
    """The best policy for the reward :math:`r - \\sum_k\\lambda_k c_k` (book eq. cmdp-lagrangian).

    Args:
        model: The problem.
        multipliers: Prices :math:`\\lambda_k` ≥ 0 of the costs, ``[K]`` or one number for all.
        discount: :math:`\\gamma` in (0, 1].
        horizon: Steps left at the start; None takes ``model.horizon``.
    Raises:
        ValueError: If an argument is out of range or an undiscounted problem has no finite optimum.
    """
    _check(discount, horizon)
    horizon = model.horizon if horizon is None else horizon
    prices = _per_cost(model, "multipliers", multipliers)
    if not np.isfinite(prices).all() or (prices < 0).any():
        raise ValueError(f"multipliers must be finite and at least 0, got {prices}")
    priced = _priced(model, prices)
    policy = _lexicographic(model, priced, np.zeros_like(priced), discount, horizon)
    occupancy = _occupancy(model, policy, discount, horizon)
    expected, costs = float((occupancy * model.expected_reward).sum()), _totals(occupancy, model.expected_cost)
    return LagrangianSolution(expected - float(prices @ costs), policy, expected, costs)


def dual_function(
    model: TabularModel, multipliers: ArrayLike, limits: ArrayLike, discount: float = 1.0, horizon: int | None = None
) -> float:
    """:math:`D(\\lambda) = \\max_\\pi J(\\pi) - \\sum_k\\lambda_k(J_{C_k}(\\pi) - d_k)` (book eq. cmdp-dual).

    Convex in λ, never below the constrained optimum, and equal to it at the optimal multipliers.

    Args: as :func:`lagrangian_optimum` and :func:`constrained_optimum`; a constraint with an infinite limit needs
        multiplier 0.
    """
    limits, prices = _checked_limits(model, limits), _per_cost(model, "multipliers", multipliers)
    if (prices[np.isinf(limits)] != 0).any():
        raise ValueError(f"multipliers must be 0 where limits are infinite, got {prices} for limits {limits}")
    bounded = np.isfinite(limits)
    return lagrangian_optimum(model, prices, discount, horizon).value + float(prices[bounded] @ limits[bounded])


def pareto_front(
    model: TabularModel, discount: float = 1.0, horizon: int | None = None, constraint: int = 0
) -> ParetoFront:
    """The best return at every limit on one cost, the other costs left free (book eq. cmdp-multiplier-slope).

    Between two corners already known, the price at which both are equally good shows whether another policy lies
    above the line that joins them; if so, that is a corner (or a point of an edge) too, and both halves are searched.
    Corners that rise above their neighbours' line by less than 1e-9 of the range of returns are left out.

    Args:
        model: The problem.
        discount: :math:`\\gamma` in (0, 1].
        horizon: Steps left at the start; None takes ``model.horizon``.
        constraint: Which cost, in 0…K − 1.
    Raises:
        ValueError: If an argument is out of range or an undiscounted problem has no finite optimum.
    """
    _check(discount, horizon)
    _check_constraint(model, constraint)
    horizon = model.horizon if horizon is None else horizon
    reward, cost = model.expected_reward, model.expected_cost[constraint]

    def corner(first: NDArray[np.float64], second: NDArray[np.float64]) -> tuple[float, float, NDArray[np.float64]]:
        policy = _lexicographic(model, first, second, discount, horizon)
        occupancy = _occupancy(model, policy, discount, horizon)
        return float((occupancy * cost).sum()), float((occupancy * reward).sum()), policy

    least, best = corner(-cost, reward), corner(reward, -cost)
    tolerance = TIE * (best[1] - least[1])
    found, open_pairs = [least], [(least, best)]
    width = TIE * max(abs(least[0]), abs(best[0]))
    if best[0] - least[0] <= width or best[1] <= least[1]:
        open_pairs = []
    else:
        found.append(best)
    while open_pairs:
        left, right = open_pairs.pop()
        price = (right[1] - left[1]) / (right[0] - left[0])
        middle = corner(reward - price * cost, -cost)
        above = middle[1] - left[1] - price * (middle[0] - left[0])
        if above > tolerance and left[0] + width < middle[0] < right[0] - width:
            found.append(middle)
            open_pairs += [(left, middle), (middle, right)]

    kept: list[tuple[float, float, NDArray[np.float64]]] = []
    for point in sorted(found, key=lambda each: each[0]):
        while len(kept) > 1 and _bulge(kept[-2], kept[-1], point) <= tolerance:
            kept.pop()
        kept.append(point)
    costs, returns = np.array([point[0] for point in kept]), np.array([point[1] for point in kept])
    return ParetoFront(costs, returns, np.diff(returns) / np.diff(costs), np.array([point[2] for point in kept]))


# --- the linear programme ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Flow:
    """Visits as unknowns: one for every step, state and allowed action that some policy can reach.

    ``conservation @ visits == inflow`` says that what leaves a state is what came in. Visits are not discounted with a
    horizon (``weight`` carries γ to the power of the step) and discounted without (``weight`` is 1).
    """

    step: NDArray[np.intp]
    state: NDArray[np.intp]
    action: NDArray[np.intp]
    weight: NDArray[np.float64]
    conservation: csr_array
    inflow: NDArray[np.float64]
    horizon: int | None

    def per_visit(self, table: NDArray[np.float64]) -> NDArray[np.float64]:
        """What one visit counts, from a table ``[…, S, A]``: ``[…, N]``."""
        return table[..., self.state, self.action] * self.weight

    def policy(
        self, model: TabularModel, visits: NDArray[np.float64], discount: float, priced: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """The policy with these visits; where there are none, the best action for the reward ``priced``."""
        table = np.zeros((self.horizon or 1, model.num_states, model.num_actions))
        table[self.step, self.state, self.action] = np.maximum(visits, 0.0)
        total = table.sum(axis=2, keepdims=True)
        if self.horizon is None and discount == 1.0:
            other = np.ones(table.shape[1:]) if model.action_mask is None else model.action_mask.astype(np.float64)
            other = other / other.sum(axis=1, keepdims=True)
        else:
            other = value_iteration(_rewarded(model, priced), discount, self.horizon).policy
        visited = total > UNVISITED
        policy = np.where(visited, table / np.where(visited, total, 1.0), other)
        return policy[0] if self.horizon is None else policy


def _flow(model: TabularModel, discount: float, horizon: int | None) -> _Flow:
    alive = ~model.terminal
    allowed = np.broadcast_to(alive[:, None], (model.num_states, model.num_actions))
    if model.action_mask is not None:
        allowed = allowed & model.action_mask
    moves = csr_array((model.transition * alive).reshape(-1, model.num_states))
    can_follow = (moves > 0).astype(np.int64)
    reached = (model.initial > 0) & alive
    if horizon is None:
        while True:
            joined = reached | ((reached[:, None] & allowed).ravel() @ can_follow > 0)
            if (joined == reached).all():
                break
            reached = joined
        layers = [reached]
    else:
        layers = [reached]
        for _ in range(horizon - 1):
            layers.append((layers[-1][:, None] & allowed).ravel() @ can_follow > 0)

    first_row = np.cumsum([0] + [int(layer.sum()) for layer in layers])
    rows, columns, entries, pairs, steps, count = [], [], [], [], [], 0
    for step, layer in enumerate(layers):
        pair = np.flatnonzero((layer[:, None] & allowed).ravel())
        column = count + np.arange(len(pair))
        row_of = first_row[step] + np.cumsum(layer) - 1
        rows.append(row_of[pair // model.num_actions])
        columns.append(column)
        entries.append(np.ones(len(pair)))
        if horizon is None or step + 1 < horizon:
            following = 0 if horizon is None else step + 1
            moving = coo_array(moves[pair])
            rows.append(first_row[following] + (np.cumsum(layers[following]) - 1)[moving.col])
            columns.append(column[moving.row])
            entries.append(-moving.data * (discount if horizon is None else 1.0))
        pairs.append(pair)
        steps.append(np.full(len(pair), step))
        count += len(pair)
    pair, at = np.concatenate(pairs), np.concatenate(steps).astype(np.intp)
    conservation = csr_array(
        (np.concatenate(entries), (np.concatenate(rows), np.concatenate(columns))), shape=(first_row[-1], count)
    )
    inflow = np.zeros(first_row[-1])
    inflow[: first_row[1]] = model.initial[layers[0]]
    weight = np.ones(count) if horizon is None else discount ** at.astype(np.float64)
    return _Flow(at, pair // model.num_actions, pair % model.num_actions, weight, conservation, inflow, horizon)


def _maximise(
    flow: _Flow,
    objective: NDArray[np.float64],
    limit_rows: csr_array | None = None,
    limits: ArrayLike = (),
    bounds: ArrayLike = (0.0, np.inf),
) -> OptimizeResult:
    """Maximises ``objective @ visits``; ``status`` is 0 (solved) or 2 (limits cannot be kept).

    The objective is divided by ``unit``, its largest entry, so that the solver's tolerances are relative; reduced costs
    and marginals are in that unit and, SciPy minimising, of the negative objective.
    """
    unit = float(abs(objective).max(initial=0.0)) or 1.0
    if not len(objective):  # every start is terminal: there is nothing to decide
        kept = np.asarray(limits, dtype=np.float64) >= 0
        none = OptimizeResult(marginals=np.zeros(len(kept)))
        return OptimizeResult(
            status=0 if kept.all() else 2, x=np.zeros(0), unit=unit, ineqlin=none, lower=OptimizeResult(marginals=[])
        )
    bounded = limit_rows is not None and limit_rows.shape[0] > 0
    result = OptimizeResult(status=4)
    for presolve in (True, False):
        if result.status in (0, 2, 3):
            break
        result = linprog(
            -objective / unit,
            A_ub=limit_rows if bounded else None,
            b_ub=limits if bounded else None,
            A_eq=flow.conservation,
            b_eq=flow.inflow,
            bounds=bounds,
            method="highs",
            options={"presolve": presolve, "primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
        )
    result.unit = unit
    if result.status == 3:
        raise ValueError("the undiscounted optimum is unbounded: a loop earns for ever; give a discount or a horizon")
    if result.status == 2 and bounded and _maximise(flow, np.zeros_like(objective), bounds=bounds).status == 0:
        return result
    if result.status == 2:
        raise ValueError(
            "no policy is sure to end, so undiscounted visits are infinite; give a discount below 1 or a horizon"
        )
    if result.status != 0:
        raise RuntimeError(f"the linear programme was not solved: {result.message}")
    if not bounded:
        result.ineqlin = OptimizeResult(marginals=np.zeros(0))
    return result


def _least_cost(
    flow: _Flow,
    result: OptimizeResult,
    limit_rows: csr_array,
    cost: NDArray[np.float64],
    lowest: NDArray[np.float64] | float = 0.0,
) -> NDArray[np.float64]:
    """Among the optimal visits, all at least ``lowest``, those of least cost.

    By complementary slackness the optimal visits are those that use no unknown with a positive reduced cost and keep
    the limits, with equality where the multiplier is positive.
    """
    used = np.asarray(result.lower.marginals) <= TIE
    binding = result.ineqlin.marginals < 0
    face = linprog(
        cost[used],
        A_ub=limit_rows[~binding][:, used] if (~binding).any() else None,
        b_ub=(result.slack + limit_rows @ result.x)[~binding] if (~binding).any() else None,
        A_eq=vstack([flow.conservation[:, used], limit_rows[binding][:, used]]),
        b_eq=np.concatenate([flow.inflow, (limit_rows @ result.x)[binding]]),
        bounds=np.column_stack([np.broadcast_to(lowest, cost.shape)[used], np.full(used.sum(), np.inf)]),
        method="highs",
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if face.status != 0:
        return result.x
    visits = np.zeros(len(cost))
    visits[used] = face.x
    return visits


# --- policies and their totals ----------------------------------------------------------------------------------------


def _occupancy(
    model: TabularModel, policy: NDArray[np.float64], discount: float, horizon: int | None
) -> NDArray[np.float64]:
    """Expected discounted visits ``[S, A]``, or by step ``[H, S, A]`` with a horizon."""
    if horizon is None:
        return occupancy_measure(model, policy, discount)
    tables = np.broadcast_to(_checked_policy(model, policy, horizon), (horizon, model.num_states, model.num_actions))
    alive = ~model.terminal
    moves = model.transition.reshape(-1, model.num_states)
    state, occupancy = model.initial * alive, np.zeros(tables.shape)
    for step in range(horizon):
        occupancy[step] = state[:, None] * tables[step]
        state = discount * (occupancy[step].ravel() @ moves) * alive
    return occupancy


def _totals(occupancy: NDArray[np.float64], tables: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of occupancy × table for each table of ``[K, S, A]``."""
    visits = occupancy if occupancy.ndim == 2 else occupancy.sum(axis=0)
    return np.einsum("ksa,sa->k", tables, visits)


def _lexicographic(
    model: TabularModel,
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    discount: float,
    horizon: int | None,
) -> NDArray[np.float64]:
    """The deterministic policy that maximises the total of ``first`` and, among those that do, that of ``second``."""
    if horizon is not None:
        values = np.zeros((2, model.num_states))
        policy = np.zeros((horizon, model.num_states, model.num_actions))
        for step in reversed(range(horizon)):
            q = np.stack([first, second]) + discount * np.moveaxis(model.transition @ values.T, 2, 0)
            q = np.stack([_masked(model, each) for each in q])
            policy[step] = _greedy(model, np.where(_best(model, q[0]), q[1], -np.inf))
            values = np.where(policy[step] > 0, q, 0.0).sum(axis=2)
        return policy
    if discount < 1.0:
        solution = value_iteration(_rewarded(model, first), discount)
        if not second.any():
            return solution.policy
        best = _best(model, solution.q)
        return value_iteration(replace(_rewarded(model, second), action_mask=best), discount).policy
    flow = _flow(model, discount, None)
    result = _maximise(flow, flow.per_visit(first))
    if second.any() and len(result.x):
        result.x = _least_cost(flow, result, csr_array((0, len(flow.step))), -flow.per_visit(second))
    return flow.policy(model, result.x, discount, first)


def _rewarded(model: TabularModel, reward: NDArray[np.float64]) -> TabularModel:
    """The model with another reward ``[S, A]`` and no costs."""
    return replace(model, reward=reward, cost=np.zeros((0, model.num_states, model.num_actions)))


def _priced(model: TabularModel, multipliers: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reward minus priced costs, ``[S, A]``."""
    return model.expected_reward - np.tensordot(multipliers, model.expected_cost, 1)


def _bulge(
    left: tuple[float, float, NDArray], middle: tuple[float, float, NDArray], right: tuple[float, float, NDArray]
) -> float:
    """How far the middle point lies above the line from left to right."""
    share = (middle[0] - left[0]) / (right[0] - left[0])
    return middle[1] - (1 - share) * left[1] - share * right[1]


# --- arguments --------------------------------------------------------------------------------------------------------


def _per_cost(model: TabularModel, name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if model.num_costs == 0:
        raise ValueError(f"{name} need a model with at least one cost function, this one has none")
    if array.shape not in ((), (model.num_costs,)):
        raise ValueError(f"{name} must be one number or have shape ({model.num_costs},), got shape {array.shape}")
    return np.broadcast_to(array, model.num_costs).astype(np.float64)


def _checked_limits(model: TabularModel, limits: ArrayLike) -> NDArray[np.float64]:
    array = _per_cost(model, "limits", limits)
    if np.isnan(array).any() or (array == -np.inf).any():
        raise ValueError(f"limits must be numbers or +∞, got {array}")
    return array


def _check_constraint(model: TabularModel, constraint: int) -> None:
    if not 0 <= constraint < model.num_costs:
        raise ValueError(f"constraint must lie in 0…{model.num_costs - 1}, got {constraint} ({model.num_costs} costs)")
