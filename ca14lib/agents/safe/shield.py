"""Shields: masks that keep an agent from unsafe actions, computed from a model. Book: safe/mechanisms.

A shield is called with the observations and the ``info`` of a batch and returns the allowed actions ``[N, A]``; at
least one is allowed in every row. The agent samples among them, and what it stores is the executed action with its
log-probability *under the mask* (book eq. shield-mask).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Self

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments import BatchedEnvironment, TabularModel, batched_environment

StateIndex = Callable[[NDArray], NDArray[np.intp]]
Fallback = Literal["least_violation", "recovery", "safe_policy"]
TIE = 1e-9  # probabilities and costs this close count as equal
SWEEPS = 100_000  # of the infinite-horizon recursions


def violating_transitions(
    model: TabularModel, *, unsafe: ArrayLike | None = None, cost_threshold: float | None = None, constraint: int = 0
) -> NDArray[np.bool_]:
    """Which transitions count as violations, ``[S, A, S]``: exactly one of the two descriptions is given.

    Args:
        model: The problem.
        unsafe: States that must not be entered, ``[S]`` bool.
        cost_threshold: Transitions that cost more are violations. A model that gives costs by state and action only
            must be deterministic where the cost is positive, or the threshold is held against the mean cost.
        constraint: Which of the model's costs.
    Raises:
        ValueError: If both or neither are given, or one does not fit the model.
    """
    if (unsafe is None) == (cost_threshold is None):
        raise ValueError(f"give one of unsafe and cost_threshold, got {'neither' if unsafe is None else 'both'}")
    shape = model.transition.shape
    if unsafe is not None:
        states = np.asarray(unsafe)
        if states.shape != (model.num_states,) or states.dtype != np.bool_:
            raise ValueError(f"unsafe must be {model.num_states} booleans, got {states.dtype} {states.shape}")
        violation = np.broadcast_to(states, shape)
    else:
        if not 0 <= constraint < model.num_costs:
            raise ValueError(f"constraint must be one of the model's {model.num_costs} costs, got {constraint}")
        if cost_threshold is None or not np.isfinite(cost_threshold):
            raise ValueError(f"cost_threshold must be finite, got {cost_threshold}")
        cost = model.cost[constraint]
        violation = np.broadcast_to(cost[..., None] if cost.ndim == 2 else cost, shape) > cost_threshold
    return violation & (model.transition > 0) & ~model.terminal[:, None, None]


def leaving_probability(
    model: TabularModel, violation: NDArray[np.bool_], safe: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Probability ``[S, A]`` that an action violates or leads out of the set ``safe`` ``[S]``; 0 in terminal states."""
    return (model.transition * (violation | ~safe)).sum(axis=2) * ~model.terminal[:, None]


def safe_sets(
    model: TabularModel,
    violation: NDArray[np.bool_],
    horizon: int | None = None,
    *,
    tolerance: float = 0.0,
    policy: NDArray[np.float64] | None = None,
) -> NDArray[np.bool_]:
    """States from which violations can be avoided: the greatest fixed point of book eq. shield-mask.

    From the set of all states, those are struck out that have no action which stays inside and does not violate, until
    nothing changes. What is left after ``h`` rounds is safe for ``h`` more steps, so a horizon stops the same recursion
    early.

    Args:
        model: The problem.
        violation: ``[S, A, S]``, of :func:`violating_transitions`.
        horizon: ``H``, or None for ever.
        tolerance: Probability, in [0, 1), with which a step may violate or leave the set. Over ``h`` steps this adds up
            to at most ``1 − (1 − tolerance)**h``.
        policy: ``[S, A]``; the set is then that of the states from which this policy itself is safe.
    Returns:
        ``[H + 1, S]``, indexed by the number of steps left, or ``[S]`` without a horizon.
    """
    usable = np.ones((model.num_states, model.num_actions), bool) if model.action_mask is None else model.action_mask
    safe = np.ones(model.num_states, dtype=bool)
    rounds = [safe]
    while horizon is None or len(rounds) <= horizon:
        fine = leaving_probability(model, violation, safe) <= tolerance + TIE * (tolerance > 0)
        kept = (fine & usable).any(axis=1) if policy is None else (fine | (policy == 0)).all(axis=1)
        kept = safe & (kept | model.terminal)
        if horizon is None and (kept == safe).all():
            return safe
        rounds.append(kept)
        safe = kept
    return np.stack(rounds)


def violation_probability(
    model: TabularModel, violation: NDArray[np.bool_], horizon: int | None = None
) -> NDArray[np.float64]:
    """Least probability of a violation after each action, ``[H + 1, S, A]`` by steps left, or ``[S, A]`` for ever.

    The dynamic programme :math:`q_h(s,a)=\\sum_{s'}P(s'|s,a)\\,[x+(1-x)\\min_{a'}q_{h-1}(s',a')]`, where ``x`` is 1
    for a violating transition. Forbidden actions have probability 2, more than any other; without a horizon the
    recursion stops when it moves less than 1e-13.
    """
    forbidden = 0.0 if model.action_mask is None else 2.0 * (~model.action_mask & ~model.terminal[:, None])
    at_once = (model.transition * violation).sum(axis=2)
    onwards = model.transition * ~violation
    q = np.zeros((model.num_states, model.num_actions)) + forbidden
    steps = [q]
    for _ in range(SWEEPS if horizon is None else horizon):
        updated = (at_once + onwards @ q.min(axis=1)) * ~model.terminal[:, None] + forbidden
        moved, q = abs(updated - q).max(), updated
        if horizon is not None:
            steps.append(q)
        elif moved < 1e-13:
            break
    return q if horizon is None else np.stack(steps)


def recovery_cost(
    model: TabularModel,
    violation: NDArray[np.bool_],
    safe: NDArray[np.bool_],
    *,
    step_cost: float = 0.01,
    discount: float = 0.99,
) -> NDArray[np.float64]:
    """Least expected cost of the way back to the safe set after each action, ``[S, A]``.

    A violation costs 1 and every step ``step_cost``, discounted so that the number exists where there is no way back.
    Safe and terminal states have cost 0, forbidden actions infinite cost.

    Args:
        model: The problem.
        violation: ``[S, A, S]``.
        safe: ``[S]``.
        step_cost: Above 0: it breaks the tie among ways without violation in favour of the shortest.
        discount: Below 1.
    Raises:
        ValueError: If the cost of a step or the discount is out of range.
    """
    if not step_cost > 0 or not 0 < discount < 1:
        raise ValueError(f"step_cost must be positive and discount in (0, 1), got {step_cost} and {discount}")
    home = safe | model.terminal
    blocked = 0.0 if model.action_mask is None else np.where(model.action_mask | home[:, None], 0.0, np.inf)
    step = (model.transition * violation).sum(axis=2) + step_cost
    value = np.zeros(model.num_states)
    for _ in range(SWEEPS):
        q = np.where(home[:, None], 0.0, step + discount * model.transition @ value) + blocked
        moved, value = abs(q.min(axis=1) - value).max(), q.min(axis=1)
        if moved < 1e-12:
            break
    return q


@dataclass(frozen=True, eq=False)
class ShieldTables:
    """What a shield knows, by steps left where it sees the time.

    Attributes:
        safe: States from which violations are avoided, ``[S]`` or ``[H + 1, S]``.
        mask: Allowed actions with the fallback filled in, ``[S, A]`` or ``[H + 1, S, A]``.
        falls_back: States in which no action is safe, ``[S]`` or ``[H + 1, S]``.
        violation: Least probability of a violation after each action, ``[S, A]`` or ``[H + 1, S, A]``.
    """

    safe: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    falls_back: NDArray[np.bool_]
    violation: NDArray[np.float64]


def shield_tables(
    model: TabularModel,
    violation: NDArray[np.bool_],
    horizon: int | None = None,
    *,
    tolerance: float = 0.0,
    fallback: Fallback = "least_violation",
    safe_policy: NDArray[np.float64] | None = None,
    trust: Literal["model", "safe_policy"] = "model",
) -> ShieldTables:
    """The mask of book eq. shield-mask and the documented fallback; arguments as :class:`ModelShield`.

    Raises:
        ValueError: If a safe policy is asked for and not given, or its table does not fit the model.
    """
    policy = None if safe_policy is None else _checked_policy(model, safe_policy)
    if policy is None and "safe_policy" in (fallback, trust):
        raise ValueError("fallback or trust 'safe_policy' needs a safe_policy, got None")
    safe = safe_sets(model, violation, horizon, tolerance=tolerance, policy=policy if trust == "safe_policy" else None)
    chance = violation_probability(model, violation, horizon)
    usable = np.ones((model.num_states, model.num_actions), bool) if model.action_mask is None else model.action_mask
    usable = usable | model.terminal[:, None]

    def allowed(after: NDArray[np.bool_], risk: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """The mask where ``after`` ``[S]`` must hold after the step, and the states without a safe action."""
        fine = usable & (leaving_probability(model, violation, after) <= tolerance + TIE * (tolerance > 0))
        stuck: NDArray[np.bool_] = np.logical_not(fine.any(axis=1))
        if fallback == "safe_policy":
            assert policy is not None
            instead = policy > 0
        else:
            rank = risk if fallback == "least_violation" else recovery_cost(model, violation, after)
            instead = rank <= rank.min(axis=1, keepdims=True) + TIE
        return np.where(stuck[:, None], instead & usable, fine), stuck

    if horizon is None:
        mask, stuck = allowed(safe, chance)
    else:
        tables = [(usable, np.zeros(model.num_states, bool))]
        tables += [allowed(safe[left - 1], chance[left]) for left in range(1, horizon + 1)]
        mask, stuck = (np.stack(part) for part in zip(*tables))
    return ShieldTables(safe, mask, stuck, chance)


class ModelShield:
    """A shield computed from the exact model of a finite problem (book eq. shield-mask).

    An action is allowed if it neither violates nor leads to a state from which a violation can no longer be avoided,
    both with certainty, or up to ``tolerance``. If the agent sees the time that is left, so does the shield, and it
    forbids only what would be paid for within the horizon; otherwise it keeps the agent safe for ever.

    Where no action is safe, ``fallback`` decides: ``"least_violation"`` allows the actions of least exact probability
    of a violation, ``"recovery"`` those with the least expected cost of the way back to the safe set, and
    ``"safe_policy"`` those that a known safe policy takes. :attr:`fallbacks` counts how often that happened.

    Args:
        model: The problem.
        state_index: Maps observations ``[N, …]`` to the model's states ``[N]``.
        unsafe: States that must not be entered, ``[S]``; or
        cost_threshold: violations are the transitions that cost more, see :func:`violating_transitions`.
        constraint: Which of the model's costs the threshold is for.
        tolerance: Probability, in [0, 1), with which one allowed step may leave the safe set.
        fallback: What is allowed where no action is safe.
        safe_policy: Probabilities ``[S, A]`` of a policy known to be safe.
        trust: ``"model"`` counts a state as safe if any policy can keep it so, ``"safe_policy"`` only if that one does:
            the agent is free as long as the safe policy could still take over.
    Raises:
        ValueError: If an argument does not fit the model, or is out of range.
    """

    def __init__(
        self,
        model: TabularModel,
        state_index: StateIndex,
        *,
        unsafe: ArrayLike | None = None,
        cost_threshold: float | None = None,
        constraint: int = 0,
        tolerance: float = 0.0,
        fallback: Fallback = "least_violation",
        safe_policy: NDArray[np.float64] | None = None,
        trust: Literal["model", "safe_policy"] = "model",
    ) -> None:
        if not 0.0 <= tolerance < 1.0:
            raise ValueError(f"tolerance must lie in [0, 1), got {tolerance}")
        for name, value, known in (
            ("fallback", fallback, ("least_violation", "recovery", "safe_policy")),
            ("trust", trust, ("model", "safe_policy")),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        self.model, self.state_index = model, state_index
        self.violation = violating_transitions(
            model, unsafe=unsafe, cost_threshold=cost_threshold, constraint=constraint
        )
        self.horizon = model.horizon if model.observes_time else None
        self.tables = shield_tables(
            model, self.violation, self.horizon, tolerance=tolerance, fallback=fallback,
            safe_policy=safe_policy, trust=trust,
        )  # fmt: skip
        self.calls = self.fallbacks = 0

    @classmethod
    def of(cls, environment: str | gym.Env | gym.vector.VectorEnv, **arguments: Any) -> Self:
        """The shield of one of the course's finite environments, given the environment or its id."""
        found: BatchedEnvironment = batched_environment(environment)
        return cls(found.tabular_model(), found.state_index, **arguments)

    @property
    def start_is_safe(self) -> bool:
        """Whether every first state is safe: then, at tolerance 0, no allowed action ever violates."""
        safe = self.tables.safe if self.horizon is None else self.tables.safe[-1]
        return bool(safe[self.model.initial > 0].all())

    def shielded(self, policy: NDArray[np.float64]) -> NDArray[np.float64]:
        """The table of a policy behind this shield, for the exact solvers.

        Args:
            policy: ``[S, A]``, or ``[H, S, A]`` by steps taken.
        Returns:
            ``[H, S, A]`` if the shield sees the time, else the shape of the policy.
        """
        mask = self.tables.mask if self.horizon is None else self.tables.mask[:0:-1]  # steps left H…1
        return masked_policy(policy, mask)

    def __call__(self, observation: NDArray, info: dict[str, Any] | None = None) -> NDArray[np.bool_]:
        """Allowed actions ``[N, A]`` for observations ``[N, …]``; ``info`` is not used."""
        where = _rows(self.model, self.state_index, observation, self.horizon)
        self.calls += len(observation)
        self.fallbacks += int(self.tables.falls_back[where].sum())
        return self.tables.mask[where]


def masked_policy(policy: NDArray[np.float64], mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The policy that is executed behind a mask (book eq. shield-mask): renormalised over the allowed actions.

    Where the policy gives them no probability at all, they share it evenly.

    Args:
        policy: Probabilities ``[…, A]``.
        mask: Allowed actions, broadcast against it, at least one in every row.
    Raises:
        ValueError: If a row allows nothing.
    """
    if not np.asarray(mask).any(axis=-1).all():
        raise ValueError("mask must allow at least one action in every row")
    weight = np.asarray(policy, dtype=np.float64) * mask
    total = weight.sum(axis=-1, keepdims=True)
    weight = np.where(total > 0, weight, mask)
    return weight / weight.sum(axis=-1, keepdims=True)


class BudgetShield:
    """Keeps the cost of *every* episode within a budget, not only its mean (book eq. shield-mask).

    An action is allowed if, whatever the environment then does, the rest of the episode can still be kept within what
    is left of the budget: the worst successor's cost plus its least worst-case cost to go. Costs must be given exactly:
    by state and action in a deterministic model, else by transition. Where nothing fits, the actions of least
    worst-case cost are allowed, and :attr:`fallbacks` counts it.

    The shield adds up ``info["cost"]`` itself: it must see every step of the same environments in order. An episode
    begins where the observation shows the whole horizon, so the agent must observe the time.

    Args:
        model: A finite problem whose agent observes the time.
        state_index: Maps observations to states.
        budget: Largest cost of an episode.
        constraint: Which of the model's costs.
    Raises:
        ValueError: If the model has no horizon or hides it, or an argument is out of range.
    """

    def __init__(self, model: TabularModel, state_index: StateIndex, budget: float, *, constraint: int = 0) -> None:
        if not model.observes_time or model.horizon is None:
            raise ValueError("a budget shield needs a model with a horizon that the agent observes")
        if not 0 <= constraint < model.num_costs:
            raise ValueError(f"constraint must be one of the model's {model.num_costs} costs, got {constraint}")
        if not budget >= 0:
            raise ValueError(f"budget must not be negative, got {budget}")
        self.model, self.state_index, self.budget, self.constraint = model, state_index, float(budget), constraint
        self.horizon = model.horizon
        self.worst_case = worst_case_cost(model, model.horizon, constraint)
        self.spent: NDArray[np.float64] | None = None
        self.calls = self.fallbacks = 0

    @classmethod
    def of(cls, environment: str | gym.Env | gym.vector.VectorEnv, budget: float, **arguments: Any) -> Self:
        """The shield of one of the course's finite environments, given the environment or its id."""
        found: BatchedEnvironment = batched_environment(environment)
        return cls(found.tabular_model(), found.state_index, budget, **arguments)

    @property
    def least_budget(self) -> float:
        """The smallest budget that the shield can guarantee from every first state."""
        return float(self.worst_case[-1][self.model.initial > 0].min(axis=1).max())

    def __call__(self, observation: NDArray, info: dict[str, Any]) -> NDArray[np.bool_]:
        """Allowed actions ``[N, A]``; ``info["cost"]`` is that of the step just made.

        Raises:
            ValueError: If the cost is missing, or the number of environments changes in the middle of episodes.
        """
        left, state = _rows(self.model, self.state_index, observation, self.horizon)
        if "cost" not in info:
            raise ValueError('a budget shield needs info["cost"]')
        cost = np.asarray(info["cost"], dtype=np.float64).reshape(len(state), -1)[:, self.constraint]
        begins = left == self.horizon
        if self.spent is None or len(self.spent) != len(state):
            if not begins.all():
                raise ValueError("a budget shield must see its environments from the start of their episodes")
            self.spent = np.zeros(len(state))
        self.spent = np.where(begins, 0.0, self.spent + cost)
        ahead = self.worst_case[left, state]
        fits = ahead <= (self.budget - self.spent)[:, None] + TIE
        stuck: NDArray[np.bool_] = np.logical_not(fits.any(axis=1))
        self.calls += len(state)
        self.fallbacks += int(stuck.sum())
        return np.where(stuck[:, None], ahead <= ahead.min(axis=1, keepdims=True) + TIE, fits)


def worst_case_cost(model: TabularModel, horizon: int, constraint: int = 0) -> NDArray[np.float64]:
    """Least cost to go that an action can guarantee against every outcome, ``[H + 1, S, A]`` by steps left.

    Forbidden actions cost infinitely much.
    """
    cost = model.cost[constraint]
    cost = np.broadcast_to(cost[..., None] if cost.ndim == 2 else cost, model.transition.shape)
    blocked = np.zeros((model.num_states, model.num_actions))
    if model.action_mask is not None:
        blocked[~model.action_mask & ~model.terminal[:, None]] = np.inf
    q = blocked
    steps = [q]
    for _ in range(horizon):
        q = np.where(model.transition > 0, cost + q.min(axis=1), -np.inf).max(axis=2) + blocked
        steps.append(q)
    return np.stack(steps)


def _rows(
    model: TabularModel, state_index: StateIndex, observation: NDArray, horizon: int | None
) -> tuple[NDArray[np.intp], ...]:
    """Where the tables hold what belongs to each observation: (state,), or (steps left, state)."""
    state = np.asarray(state_index(observation))
    if state.size and (state.min() < 0 or state.max() >= model.num_states):
        raise ValueError(
            f"state_index must give states in 0…{model.num_states - 1}, got {state.min()} to {state.max()}"
        )
    if horizon is None:
        return (state,)
    # the time follows what shows the state; more, such as a budget, may follow the time
    flat, place = np.asarray(observation).reshape(len(state), -1), model.observation[0].size
    if flat.shape[1] <= place:
        raise ValueError(
            f"observations must hold the share of the horizon left at {place}, got {flat.shape[1]} numbers"
        )
    left = np.rint(flat[:, place].astype(np.float64) * horizon).astype(np.intp)
    wrong = (left < 0) | (left > horizon)
    if wrong.any():
        raise ValueError(
            f"observations must hold the share of the horizon left at {place}, in [0, 1], got {flat[wrong][0, place]}"
        )
    return left, state


def _checked_policy(model: TabularModel, policy: NDArray[np.float64]) -> NDArray[np.float64]:
    table = np.asarray(policy, dtype=np.float64)
    if (
        table.shape != (model.num_states, model.num_actions)
        or not np.allclose(table.sum(axis=1), 1)
        or (table < 0).any()
    ):
        raise ValueError(f"safe_policy must hold probabilities [{model.num_states}, {model.num_actions}]")
    if model.action_mask is not None and (table * ~model.action_mask)[~model.terminal].any():
        raise ValueError("safe_policy takes an action that the model's action_mask forbids")
    return table
