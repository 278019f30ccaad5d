"""Control barrier functions: a quadratic programme keeps a control-affine system in a safe set. Book: safe/mechanisms.

The dynamics are :math:`\\dot x=f(x)+g(x)u`; the safe set is where :math:`h(x)\\ge0` (Ames, Xu, Grizzle and Tabuada,
2017).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.agents.safe.projection import checked_bounds, nearest_action
from ca14lib.environments.reactor import ReactorVector

Field = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def barrier_action(
    action: ArrayLike,
    drift_derivative: ArrayLike,
    input_derivative: ArrayLike,
    barrier: ArrayLike,
    gamma: float,
    slack_weight: float = math.inf,
) -> NDArray[np.float64]:
    r"""The nearest action that satisfies one barrier's condition, without bounds (book eq. control-barrier-qp).

    .. math:: u=a+\frac{[-(L_fh+L_gh\,a+\gamma h)]_+}{\lVert L_gh\rVert^2+1/(2M)}\,(L_gh)^\top

    Args:
        action: :math:`a`, the policy's, ``[N, D]``.
        drift_derivative: :math:`L_fh=\nabla h^\top f`, ``[N]``.
        input_derivative: :math:`L_gh=\nabla h^\top g`, ``[N, D]``.
        barrier: :math:`h`, ``[N]``.
        gamma: :math:`\gamma > 0`, the rate at which the boundary may be approached.
        slack_weight: :math:`M`. With a finite one the condition is missed by :math:`\lambda/2M` whenever it binds.
    Returns:
        ``[N, D]``; where :math:`L_gh=0` the action has no influence and stays.
    Raises:
        ValueError: If shapes disagree, a number is not finite, or gamma or the weight is not positive.
    """
    if not (gamma > 0 and math.isfinite(gamma)) or not slack_weight > 0:
        raise ValueError(f"gamma must be positive and finite, slack_weight positive, got {gamma} and {slack_weight}")
    a, lg, lf, h = (
        np.asarray(value, dtype=np.float64) for value in (action, input_derivative, drift_derivative, barrier)
    )
    if a.ndim != 2 or lg.shape != a.shape or lf.shape != a.shape[:1] or h.shape != a.shape[:1]:
        raise ValueError(
            "action and input_derivative must be [N, D], drift_derivative and barrier [N], "
            f"got {a.shape}, {lg.shape}, {lf.shape} and {h.shape}"
        )
    if not all(np.isfinite(value).all() for value in (a, lg, lf, h)):
        raise ValueError("action, derivatives and barrier must be finite, got NaN or infinity")
    excess = lf + (lg * a).sum(axis=1) + gamma * h
    size = (lg**2).sum(axis=1) + 0.5 / slack_weight
    multiplier = np.divide(np.maximum(-excess, 0.0), size, out=np.zeros(len(a)), where=size > 0)
    return a + multiplier[:, None] * lg


class ControlBarrier:
    r"""An action filter for control-affine systems (book eq. control-barrier and eq. control-barrier-qp).

    The executed action solves

    .. math:: \min_{u,s}\ \tfrac12\lVert u-a\rVert^2+M\sum_ks_k^2\quad\text{subject to}\quad
              L_fh_k+L_gh_k\,u+\gamma h_k\ge-s_k,\quad u\in[\text{low},\text{high}].

    With hard constraints (``slack_weight`` ∞, the default) a state in which no action within the bounds will do gets
    the ``backup`` action, or without one the action that misses the conditions least, and counts in :attr:`infeasible`.

    Args:
        drift: :math:`f`, from states ``[N, n]`` to ``[N, n]``.
        input_gain: :math:`g`, to ``[N, n, D]``.
        barrier: :math:`h`, to ``[N]``, or ``[N, K]`` for K barriers.
        barrier_gradient: :math:`\nabla h`, to ``[N, n]``, or ``[N, K, n]``.
        gamma: :math:`\gamma > 0`, per unit of time. An action that is held for a time Δ needs γΔ ≤ 1.
        slack_weight: :math:`M`, or ∞.
        low: Lower bounds of the action, ``[D]`` or a number.
        high: Upper bounds.
        margin: Keeps :math:`h` above this instead of 0; :func:`sampling_margin` gives one for sampled control.
        backup: From states to actions ``[N, D]`` of an emergency controller, such as full braking; cut to the bounds.
        state: From observations ``[N, …]`` to states ``[N, n]``; None where they are the same.
    Raises:
        ValueError: If a number is out of range.
    """

    def __init__(
        self,
        drift: Field,
        input_gain: Field,
        barrier: Field,
        barrier_gradient: Field,
        *,
        gamma: float = 1.0,
        slack_weight: float = math.inf,
        low: ArrayLike = -math.inf,
        high: ArrayLike = math.inf,
        margin: float = 0.0,
        backup: Field | None = None,
        state: Field | None = None,
    ) -> None:
        if not (gamma > 0 and math.isfinite(gamma)):
            raise ValueError(f"gamma must be positive and finite, got {gamma}")
        if not slack_weight > 0:
            raise ValueError(f"slack_weight must be positive, got {slack_weight}")
        if not (margin >= 0 and math.isfinite(margin)):
            raise ValueError(f"margin must be at least 0 and finite, got {margin}")
        self.drift, self.input_gain, self.barrier, self.barrier_gradient = drift, input_gain, barrier, barrier_gradient
        self.gamma, self.slack_weight, self.margin, self.state = float(gamma), float(slack_weight), float(margin), state
        self.low, self.high, self.backup = low, high, backup
        self.calls = self.corrections = self.infeasible = 0

    def conditions(self, state: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The demand :math:`L_gh\\,u+b\\ge0` on the action, as :math:`L_gh` ``[N, K, D]`` and ``b`` ``[N, K]``.

        Raises:
            ValueError: If one of the functions gives another shape, or a number that is not finite.
        """
        rows, size = state.shape
        value = _columns("barrier", self.barrier(state), (rows,))
        gradient = np.asarray(self.barrier_gradient(state), dtype=np.float64)
        gradient = gradient[:, None] if gradient.ndim == 2 else gradient
        drift, gain = (np.asarray(field(state), dtype=np.float64) for field in (self.drift, self.input_gain))
        if drift.shape != (rows, size) or gain.ndim != 3 or gain.shape[:2] != (rows, size):
            raise ValueError(f"drift must give [N, n] and input_gain [N, n, D], got {drift.shape} and {gain.shape}")
        if gradient.shape != (*value.shape, size):
            raise ValueError(f"barrier_gradient must give shape {(*value.shape, size)}, got {gradient.shape}")
        along = np.einsum("nki,ni->nk", gradient, drift)
        influence = np.einsum("nki,nid->nkd", gradient, gain)
        rest = along + self.gamma * (value - self.margin)
        if not (np.isfinite(influence).all() and np.isfinite(rest).all()):
            raise ValueError("barrier, its gradient and the dynamics must be finite, got NaN or infinity")
        return influence, rest

    def __call__(self, observation: ArrayLike, action: ArrayLike) -> NDArray[np.float64]:
        """The executed actions ``[N, D]`` for observations ``[N, …]`` and the policy's actions ``[N, D]``.

        Raises:
            ValueError: If shapes disagree, or a number is not finite.
        """
        seen = np.asarray(observation, dtype=np.float64)
        state = seen if self.state is None else np.asarray(self.state(seen), dtype=np.float64)
        wanted = np.asarray(action, dtype=np.float64)
        influence, rest = self.conditions(state)
        if wanted.shape != (len(state), influence.shape[2]):
            raise ValueError(f"action must have shape {(len(state), influence.shape[2])}, got {wanted.shape}")
        found = nearest_action(wanted, -influence, rest, low=self.low, high=self.high, slack_weight=self.slack_weight)
        executed, stuck = found.action, np.logical_not(found.feasible)
        if self.backup is not None and stuck.any():
            executed[stuck] = np.clip(self.backup(state[stuck]), self.low, self.high)
        self.calls += len(state)
        self.corrections += int((abs(executed - wanted) > 1e-9).any(axis=1).sum())
        self.infeasible += int(stuck.sum())
        return executed


@dataclass(frozen=True, eq=False)
class BarrierReport:
    """What a check of a barrier on a grid of states found.

    Attributes:
        checked: Number of grid states inside the set :math:`h\\ge` margin.
        violating: Those of them in which no action within the bounds meets the conditions, ``[V, n]``.
        shortfall: By how much the best action misses them there, ``[V]``, in units of the barrier per time.
        unsafe: Grid states inside the set that are unsafe in truth, ``[U, n]``.
    """

    checked: int
    violating: NDArray[np.float64]
    shortfall: NDArray[np.float64]
    unsafe: NDArray[np.float64]

    @property
    def valid(self) -> bool:
        """Whether nothing was found, and there was something to check."""
        return self.checked > 0 and len(self.violating) == 0 and len(self.unsafe) == 0


def verify_barrier_on_grid(
    control: ControlBarrier,
    states: ArrayLike,
    *,
    unsafe: Callable[[NDArray[np.float64]], NDArray[np.bool_]] | None = None,
    tolerance: float = 1e-9,
) -> BarrierReport:
    r"""Check :math:`\sup_u[L_fh+L_gh\,u]+\gamma h\ge0` on a grid, bounds included (book eq. control-barrier).

    States outside the set (:math:`h<` margin) are left out. Between grid points nothing is shown: a violation narrower
    than the grid stays unseen.

    Args:
        control: The filter with its barrier, dynamics, rate and bounds.
        states: Grid, ``[G, n]``.
        unsafe: True where a state must not be entered, from ``[G, n]`` to ``[G]``; checks that the barrier's set holds
            no such state.
        tolerance: By how much a condition may be missed.
    Raises:
        ValueError: If states are not ``[G, n]``, or one of the filter's functions gives another shape.
    """
    grid = np.asarray(states, dtype=np.float64)
    if grid.ndim != 2:
        raise ValueError(f"states must have shape [G, n], got {grid.shape}")
    value = _columns("barrier", control.barrier(grid), (len(grid),))
    inside = grid[(value >= control.margin).all(axis=1)]
    if len(inside) == 0:
        return BarrierReport(0, inside, np.zeros(0), inside)
    influence, rest = control.conditions(inside)
    low, high = checked_bounds(control.low, control.high, influence.shape[2])
    if influence.shape[1] == 1:  # one barrier: the best corner of the bounds
        with np.errstate(invalid="ignore"):
            corners = np.where(influence[:, 0] == 0, 0.0, np.maximum(influence[:, 0] * low, influence[:, 0] * high))
        shortfall = -(rest[:, 0] + corners.sum(axis=1))
    else:
        centre = np.clip(np.zeros(influence.shape[2]), low, high)
        found = nearest_action(np.tile(centre, (len(inside), 1)), -influence, rest, low=low, high=high)
        shortfall = found.slack.max(axis=1)
    bad = shortfall > tolerance
    forbidden = np.zeros(len(inside), bool) if unsafe is None else np.asarray(unsafe(inside), dtype=bool)
    return BarrierReport(len(inside), inside[bad], shortfall[bad], inside[forbidden])


def reactor_barrier(
    environment: ReactorVector,
    *,
    gamma: float = 5.0,
    margin: float = 1.0,
    slope: float = 25.0,
    pivot: float = 0.5,
    slack_weight: float = math.inf,
) -> ControlBarrier:
    """A filter that keeps ``CA14/Reactor-v0`` below its temperature limit, for observations of that environment.

    The temperature alone is no barrier: with much unreacted feed in the tank, full cooling cannot stop what starts at
    the limit. Two barriers take that into account: :math:`T_\\max-T`, and :math:`T_\\max-T-\\kappa\\,(x_1-x_1^0)`,
    which asks for a lower temperature the more unreacted feed there is. The backup action is full cooling. With the
    default limit of 355 K and the default slope and pivot a grid shows both valid for every feed temperature of the
    environment; other limits need a new check by :func:`verify_barrier_on_grid`, whose states are concentration,
    temperature and feed temperature.

    Args:
        environment: The batched reactor, or ``batched_environment(…)`` of the single one.
        gamma: γ per minute; actions are held for 0.1 minutes, so at most 10.
        margin: Kept below the limit, in K, for held actions and the wandering feed temperature.
        slope: κ, K per mol/L.
        pivot: :math:`x_1^0`, mol/L.
        slack_weight: As for :class:`ControlBarrier`.
    Raises:
        ValueError: If gamma exceeds 10 or a number is out of range.
    """
    if not 0 < gamma <= 10:
        raise ValueError(f"gamma must lie in (0, 10], for actions that are held for 0.1 minutes, got {gamma}")
    limit = environment.temperature_limit
    shift = np.array([0.0, slope])

    def barrier(state: NDArray[np.float64]) -> NDArray[np.float64]:
        return limit - state[:, 1:2] - shift * (state[:, :1] - pivot)

    def gradient(state: NDArray[np.float64]) -> NDArray[np.float64]:
        slopes = np.stack([-shift, [-1.0, -1.0], [0.0, 0.0]], axis=1)
        return np.broadcast_to(slopes, (len(state), 2, 3))

    def drift(state: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([environment.drift(state[:, :2], state[:, 2]), np.zeros(len(state))])

    def gain(state: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([environment.input_gain(state[:, :2]), np.zeros((len(state), 1, 1))], axis=1)

    return ControlBarrier(
        drift, gain, barrier, gradient, gamma=gamma, margin=margin, slack_weight=slack_weight, low=-1.0, high=1.0,
        backup=lambda state: -np.ones((len(state), 1)),
        state=lambda seen: np.column_stack([environment.state(seen), environment.feed(seen)]),
    )  # fmt: skip


def sampling_margin(step: float, curvature: float, gamma: float) -> float:
    r"""Margin that makes up for an action held during ``step``: :math:`\Delta B/(2\gamma)` (book eq. barrier-sampling).

    Suppose that :math:`|\ddot h|\le B` along every held action, that :math:`\gamma\Delta\le1`, and that at every
    sampling time the programme is feasible or a backup action is taken under which the barrier does not fall. Then the
    set :math:`h\ge0` is left by at most this at the sampling times, so a barrier kept above it stays above 0 there.

    Args:
        step: Δ, the time an action is held.
        curvature: B, a bound of the second time derivative of the barrier.
        gamma: γ.
    Raises:
        ValueError: If an argument is not positive or γΔ exceeds 1: the filter would then ask for more in one step than
            the distance to the boundary.
    """
    if not (step > 0 and curvature >= 0 and gamma > 0):
        raise ValueError(f"step, curvature and gamma must be positive, got {step}, {curvature} and {gamma}")
    if gamma * step > 1:
        raise ValueError(f"gamma times step must not exceed 1, got {gamma * step}")
    return step * curvature / (2 * gamma)


def _columns(name: str, values: ArrayLike, rows: tuple[int]) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    array = array[:, None] if array.ndim == 1 else array
    if array.ndim != 2 or array.shape[0] != rows[0]:
        raise ValueError(f"{name} must give [N] or [N, K] for {rows[0]} states, got {np.shape(values)}")
    return array
