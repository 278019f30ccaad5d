"""Exact CVaR-optimal policies of small problems with a horizon: the remaining budget is part of the state.

Source: Bäuerle and Ott, *Markov decision processes with average-value-at-risk criteria* (2011), with the dual form of
Rockafellar and Uryasev (2000). Book: safe/planning. Returns are undiscounted; ``tail`` is the mass of the lower tail.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import gcd, lcm

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from ca14lib.environments.tabular_model import TabularModel
from ca14lib.solvers.dynamic_programming import _check, _checked_policy, value_iteration

MAX_CELLS = 50_000_000  # step, state and budget combinations

TotalPolicy = Callable[[int, NDArray[np.intp], NDArray[np.float64]], NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class BudgetPolicy:
    """A deterministic policy of the step, the state and the budget that remains.

    The budget starts at ``budget`` and every reward is taken from it; what remains is what must still be earned. Where
    no budget that can still be missed or made remains, the policy is the risk-neutral one.

    Attributes:
        budget: The budget at the start, in units of reward.
        unit: All rewards, and so all budgets that occur, are multiples of it apart from a common offset.
        lowest: Least budget of each step's table, in units, ``[H]``.
        actions: For each step a table ``[S, M]``: the action at budget ``(lowest + m) · unit``.
        neutral: The risk-neutral action of every step and state, ``[H, S]``, used outside the tables.
        num_actions: A.
    """

    budget: float
    unit: float
    lowest: NDArray[np.int64]
    actions: tuple[NDArray[np.int16], ...]
    neutral: NDArray[np.int16]
    num_actions: int

    def act(self, step: int, state: ArrayLike, remaining: ArrayLike) -> NDArray[np.int64]:
        """The action at each state (any shape) with each remaining budget (same shape), after ``step`` steps.

        Raises:
            ValueError: If the step is not in 0…H − 1.
        """
        if not 0 <= step < len(self.actions):
            raise ValueError(f"step must lie in 0…{len(self.actions) - 1}, got {step}")
        states = np.asarray(state, dtype=np.intp)
        table = self.actions[step]
        index = np.rint(np.asarray(remaining, dtype=np.float64) / self.unit).astype(np.int64) - self.lowest[step]
        inside = (index >= 0) & (index < table.shape[1])
        chosen = np.where(inside, table[states, np.clip(index, 0, table.shape[1] - 1)], self.neutral[step, states])
        return chosen.astype(np.int64)

    def __call__(self, step: int, state: NDArray[np.intp], collected: NDArray[np.float64]) -> NDArray[np.float64]:
        """Probabilities ``[N, A]`` after ``step`` steps in states ``[N]`` with the reward collected so far ``[N]``."""
        return np.eye(self.num_actions)[self.act(step, state, self.budget - collected)]


@dataclass(frozen=True, eq=False)
class CVaROptimum:
    """The policy with the largest lower-tail CVaR of the return, among all policies that may remember everything.

    Attributes:
        value: The largest mean return over the worst ``tail`` of outcomes.
        budget: The maximiser b of the dual form, the least one: the return's quantile at ``tail``.
        policy: An optimal policy; among those it takes actions of the largest expected return.
        expected_return: Its mean return.
        values: The returns it can have, ascending, ``[N]``.
        probabilities: Their probabilities, ``[N]``.
        tail: Mass of the tail.
        horizon: H.
    """

    value: float
    budget: float
    policy: BudgetPolicy
    expected_return: float
    values: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    tail: float
    horizon: int


def cvar_optimum(
    model: TabularModel, tail: float, horizon: int | None = None, *, resolution: float | None = None
) -> CVaROptimum:
    """The largest lower-tail CVaR of the undiscounted return (book eq. cvar-budget-dp).

    :math:`\\max_b\\,b-\\frac1{\\text{tail}}\\min_\\pi E[(b-R)_+]`: for all budgets b at once the inner minimum is a
    backward pass over (state, remaining budget); in b the maximum lies at a return that can occur, so the grid of
    returns is enough and the result is exact.

    Args:
        model: The problem; rewards may depend on the successor.
        tail: Mass of the lower tail in (0, 1]; 1 is the mean, the limit 0 the worst case.
        horizon: Steps; None takes ``model.horizon``.
        resolution: All rewards must be multiples of it; None finds their largest common divisor.
    Raises:
        ValueError: If an argument is out of range, there is no horizon, rewards are on no common grid (or on none with
            this resolution), or the tables would have more than 50 million entries.
    """
    if not 0.0 < tail <= 1.0:
        raise ValueError(f"tail must lie in (0, 1], got {tail}")
    steps = _required_horizon(model, horizon)
    edges = _edges(model, model.reward, "reward", resolution)
    lows, highs = _future_range(model, edges, steps)
    lowest, widths = lows.min(axis=1), highs.max(axis=1) - lows.min(axis=1) + 1
    if widths.sum() * model.num_states > MAX_CELLS:
        raise ValueError(
            f"{widths.sum():,} budgets × {model.num_states} states are too many; round the rewards to a coarser grid"
        )
    neutral = value_iteration(model, 1.0, steps)
    alive, allowed = ~model.terminal, model.action_mask

    shortfall, mean = np.zeros((model.num_states, 1)), np.zeros((model.num_states, 1))
    actions: list[NDArray[np.int16]] = []
    for step in reversed(range(steps)):
        budget = lowest[step] + np.arange(widths[step])
        after = budget - edges.units[:, None]
        worse, better = _looked_up(
            shortfall, mean, int(lowest[step + 1]), neutral.value[step + 1], edges.successor, after, edges.unit
        )
        shape = (model.num_states, model.num_actions, len(budget))
        short = (edges.weight @ worse).reshape(shape)
        gain = (edges.weight @ (better + (edges.units * edges.unit)[:, None])).reshape(shape)
        if allowed is not None:
            short[~allowed] = np.inf
        tied = short <= short.min(axis=1, keepdims=True) + 1e-11 * edges.unit * max(abs(budget).max(), 1)
        choice = np.where(tied, gain, -np.inf).argmax(axis=1)
        pick = choice[:, None, :]
        shortfall, mean = np.take_along_axis(short, pick, 1)[:, 0], np.take_along_axis(gain, pick, 1)[:, 0]
        shortfall[~alive], mean[~alive] = np.maximum(budget * edges.unit, 0.0), 0.0
        actions.insert(0, choice.astype(np.int16))

    budget = lowest[0] + np.arange(widths[0])
    value, best = _best_budget(budget * edges.unit, model.initial @ shortfall, tail)
    policy = BudgetPolicy(
        best,
        edges.unit,
        lowest[:-1],
        tuple(actions),
        neutral.policy.argmax(axis=2).astype(np.int16),
        model.num_actions,
    )
    values, probabilities = policy_return_distribution(model, policy, steps, resolution=resolution)
    return CVaROptimum(value, best, policy, float(values @ probabilities), values, probabilities, tail, steps)


def smallest_cost_cvar(
    model: TabularModel,
    confidence: float,
    constraint: int = 0,
    horizon: int | None = None,
    *,
    resolution: float | None = None,
) -> CVaROptimum:
    """The least upper-tail CVaR of an episode's cost: :func:`cvar_optimum` of minus the cost.

    Args:
        model: The problem.
        confidence: Level α in [0, 1): the mean cost over the worst 1 − α of outcomes is minimised.
        constraint: Which cost, in 0…K − 1.
        horizon: Steps; None takes ``model.horizon``.
        resolution: As in :func:`cvar_optimum`, of the cost.
    Returns:
        ``value``, ``budget``, ``values`` and ``expected_return`` are of minus the cost.
    Raises:
        ValueError: As :func:`cvar_optimum`, and if the level or the constraint is out of range.
    """
    if not 0.0 <= confidence < 1.0:
        raise ValueError(f"confidence must lie in [0, 1), got {confidence}")
    return cvar_optimum(
        replace(model, reward=-_cost_table(model, constraint)), 1.0 - confidence, horizon, resolution=resolution
    )


def policy_return_distribution(
    model: TabularModel,
    policy: NDArray[np.float64] | TotalPolicy,
    horizon: int | None = None,
    *,
    resolution: float | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact distribution of a policy's undiscounted return.

    Args:
        model: The problem, with rewards on a common grid.
        policy: Probabilities ``[S, A]`` or ``[H, S, A]``; or a function (step, states ``[N]``, reward collected so far
            ``[N]``) → probabilities ``[N, A]``, such as a :class:`BudgetPolicy`.
        horizon: Steps; None takes ``model.horizon``.
        resolution: All rewards must be multiples of it; None finds their largest common divisor.
    Returns:
        The values that have positive probability, ascending, and their probabilities.
    Raises:
        ValueError: As :func:`cvar_optimum`, or if the policy gives no probabilities over allowed actions.
    """
    return _distribution(model, policy, model.reward, "reward", horizon, resolution)


def policy_cost_distribution(
    model: TabularModel,
    policy: NDArray[np.float64] | TotalPolicy,
    constraint: int = 0,
    horizon: int | None = None,
    *,
    resolution: float | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Exact distribution of an episode's undiscounted cost, as :func:`policy_return_distribution`.

    A policy given as a function sees the *cost* so far in place of the reward.
    """
    return _distribution(model, policy, _cost_table(model, constraint), "cost", horizon, resolution)


# --- moves on the grid of rewards -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Edges:
    """Every move of positive probability out of a state that is not terminal, by an allowed action.

    ``weight`` ``[S·A, E]`` averages over the moves of a pair; ``units`` is the move's reward in units.
    """

    state: NDArray[np.intp]
    action: NDArray[np.intp]
    successor: NDArray[np.intp]
    chance: NDArray[np.float64]
    units: NDArray[np.int64]
    unit: float
    weight: csr_array


def _edges(model: TabularModel, signal: NDArray[np.float64], name: str, resolution: float | None) -> _Edges:
    open_pairs = np.broadcast_to(~model.terminal[:, None], (model.num_states, model.num_actions))
    if model.action_mask is not None:
        open_pairs = open_pairs & model.action_mask
    state, action, successor = np.nonzero((model.transition > 0) & open_pairs[..., None])
    earned = signal[state, action] if signal.ndim == 2 else signal[state, action, successor]
    unit = _unit(earned, name, resolution)
    chance = model.transition[state, action, successor]
    number = np.arange(len(state))
    weight = csr_array(
        (chance, (state * model.num_actions + action, number)),
        shape=(model.num_states * model.num_actions, len(number)),
    )
    return _Edges(state, action, successor, chance, np.rint(earned / unit).astype(np.int64), unit, weight)


def _unit(values: NDArray[np.float64], name: str, resolution: float | None) -> float:
    """The grid's unit: the one declared, once checked, or the largest of which all values are multiples."""
    distinct = np.unique(values)
    if resolution is not None:
        if not (np.isfinite(resolution) and resolution > 0):
            raise ValueError(f"resolution must be finite and positive, got {resolution}")
        off = abs(distinct / resolution - np.rint(distinct / resolution)) > 1e-6
        if off.any():
            raise ValueError(f"every {name} must be a multiple of resolution {resolution}, got {distinct[off][0]:.10g}")
        return float(resolution)
    shares = [Fraction(float(value)).limit_denominator(10_000) for value in distinct]
    for value, share in zip(distinct, shares):
        if abs(float(share) - value) > 1e-9 * max(1.0, abs(value)):
            raise ValueError(
                f"the {name} {value:.10g} is on no grid of a unit above 1/10,000; round it, or give `resolution`"
            )
    shared = lcm(*(share.denominator for share in shares))
    return gcd(*(int(share * shared) for share in shares)) / shared or 1.0


def _future_range(model: TabularModel, edges: _Edges, steps: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Least and largest reward, in units, that can still be collected after each step, both ``[H + 1, S]``."""
    lows, highs = np.zeros((2, steps + 1, model.num_states), dtype=np.int64)
    for step in reversed(range(steps)):
        for bound, pick in ((lows, np.minimum), (highs, np.maximum)):
            bound[step, edges.state] = edges.units + bound[step + 1, edges.successor]
            pick.at(bound[step], edges.state, edges.units + bound[step + 1, edges.successor])
    return lows, highs


def _looked_up(
    shortfall: NDArray[np.float64],
    mean: NDArray[np.float64],
    lowest: int,
    neutral: NDArray[np.float64],
    state: NDArray[np.intp],
    budget: NDArray[np.int64],
    unit: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least expected shortfall and mean return from each state ``[E]`` at each budget ``[E, M]``, in units.

    Below its table a budget is made for certain (shortfall 0); above it is missed for certain, and the least expected
    shortfall is the budget minus the largest expected return. In both cases the mean is that of the neutral policy.
    """
    index = budget - lowest
    width = shortfall.shape[1]
    inside = np.clip(index, 0, width - 1)
    row, best = state[:, None], neutral[state][:, None]
    above, outside = index >= width, (index < 0) | (index >= width)
    short = np.where(above, budget * unit - best, np.where(index < 0, 0.0, shortfall[row, inside]))
    return short, np.where(outside, best, mean[row, inside])


def _best_budget(budget: NDArray[np.float64], shortfall: NDArray[np.float64], tail: float) -> tuple[float, float]:
    """The largest b − shortfall(b) / tail, and the least b that has it."""
    objective = budget - shortfall / tail
    best = int((objective >= objective.max() - 1e-10 * max(1.0, abs(budget).max())).argmax())
    return float(objective[best]), float(budget[best])


def _distribution(
    model: TabularModel,
    policy: NDArray[np.float64] | TotalPolicy,
    signal: NDArray[np.float64],
    name: str,
    horizon: int | None,
    resolution: float | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    steps = _required_horizon(model, horizon)
    edges = _edges(model, signal, name, resolution)
    tables = None if callable(policy) else _checked_policy(model, policy, steps)
    least, most = min(int(edges.units.min(initial=0)), 0), max(int(edges.units.max(initial=0)), 0)
    mass, lowest = model.initial[:, None].copy(), 0
    for step in range(steps):
        if tables is None:
            chances = _asked(model, policy, step, mass, lowest, edges.unit)  # type: ignore[arg-type]
        else:
            table = tables if tables.ndim == 2 else tables[step]
            chances = np.broadcast_to(table[:, None, :], (*mass.shape, model.num_actions))
        width = mass.shape[1]
        moved = np.zeros((model.num_states, width + most - least))
        moved[model.terminal, -least : width - least] = mass[model.terminal]
        for state, action, successor, chance, units in zip(
            edges.state, edges.action, edges.successor, edges.chance, edges.units
        ):
            first = units - least
            moved[successor, first : first + width] += chance * mass[state] * chances[state, :, action]
        occupied = np.flatnonzero(moved.any(axis=0))
        mass, lowest = moved[:, occupied[0] : occupied[-1] + 1], lowest + least + int(occupied[0])
    total = mass.sum(axis=0)
    return np.asarray((lowest + np.flatnonzero(total)) * edges.unit, dtype=np.float64), total[total > 0]


def _asked(
    model: TabularModel, policy: TotalPolicy, step: int, mass: NDArray[np.float64], lowest: int, unit: float
) -> NDArray[np.float64]:
    """The probabilities ``[S, M, A]`` that a policy of the total so far gives where there is mass."""
    chances = np.zeros((*mass.shape, model.num_actions))
    state, index = np.nonzero((mass > 0) & ~model.terminal[:, None])
    so_far = np.asarray((lowest + index) * unit, dtype=np.float64)
    given = np.asarray(policy(step, state, so_far), dtype=np.float64)
    if given.shape != (len(state), model.num_actions) or (given < 0).any() or not np.allclose(given.sum(1), 1.0):
        raise ValueError(f"policy must give probabilities [{len(state)}, {model.num_actions}] at step {step}")
    if model.action_mask is not None and (given * ~model.action_mask[state]).any():
        raise ValueError("policy gives probability to an action that the model's action_mask forbids")
    chances[state, index] = given
    return chances


def _required_horizon(model: TabularModel, horizon: int | None) -> int:
    _check(1.0, horizon)
    steps = model.horizon if horizon is None else horizon
    if steps is None:
        raise ValueError("horizon must be given, the model has none: the distribution of the return needs a last step")
    return steps


def _cost_table(model: TabularModel, constraint: int) -> NDArray[np.float64]:
    if not 0 <= constraint < model.num_costs:
        raise ValueError(f"constraint must lie in 0…{model.num_costs - 1}, got {constraint} ({model.num_costs} costs)")
    return model.cost[constraint]
