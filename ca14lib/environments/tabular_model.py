"""The exact description of a finite problem, which every solver of the course reads."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class TabularModel:
    """A finite Markov decision process, with costs and a horizon if it has them (book: notation).

    What is left out gets zeros (cost, terminal), the first state (initial), the state index (observation),
    no mask and no horizon. Terminal states are made absorbing with reward and cost 0, whatever the arrays say there.

    Args:
        transition: Probabilities :math:`P(s'|s,a)`, shape ``[S, A, S]``, rows summing to 1.
        reward: :math:`r(s,a)`, shape ``[S, A]``, or :math:`r(s,a,s')`, shape ``[S, A, S]``.
        cost: ``K`` cost functions, shape ``[K, S, A]`` or ``[K, S, A, S]``.
        terminal: True where an episode has ended, shape ``[S]``.
        initial: Distribution of the first state :math:`\\rho_0`, shape ``[S]``.
        observation: What the agent sees in each state, shape ``[S, …]``.
        action_mask: True where an action is allowed, shape ``[S, A]``, or None for all.
        horizon: Number of steps if the time limit is part of the task, else None.
        observes_time: True if the agent also sees the share of the horizon that is left, as one more number behind
            ``observation`` (:meth:`timed_observation`); needs a horizon.

    Raises:
        ValueError: Naming the argument, if shapes disagree, a probability is not one, or a value is not finite.
    """

    transition: NDArray[np.float64]
    reward: NDArray[np.float64]
    cost: NDArray[np.float64] = None  # type: ignore[assignment]
    terminal: NDArray[np.bool_] = None  # type: ignore[assignment]
    initial: NDArray[np.float64] = None  # type: ignore[assignment]
    observation: NDArray = None  # type: ignore[assignment]
    action_mask: NDArray[np.bool_] | None = None
    horizon: int | None = None
    observes_time: bool = False

    def __post_init__(self) -> None:
        transition = _finite("transition", self.transition)
        if transition.ndim != 3 or transition.shape[0] != transition.shape[2]:
            raise ValueError(f"transition must have shape [S, A, S], got {transition.shape}")
        states, actions, _ = transition.shape
        if states < 1 or actions < 1:
            raise ValueError(f"transition needs at least one state and one action, got shape {transition.shape}")
        improper = (transition < 0).any(axis=2) | (abs(transition.sum(axis=2) - 1) > 1e-8)
        if improper.any():
            s, a = np.argwhere(improper)[0]
            raise ValueError(
                f"transition[{s}, {a}] must be a probability distribution, its sum is {transition[s, a].sum():.6g} "
                f"and its least entry {transition[s, a].min():.6g}"
            )
        reward = _finite("reward", self.reward)
        if reward.shape not in ((states, actions), (states, actions, states)):
            raise ValueError(f"reward must have shape {(states, actions)} or [S, A, S], got {reward.shape}")
        cost = np.zeros((0, states, actions)) if self.cost is None else _finite("cost", self.cost)
        if cost.shape[1:] not in ((states, actions), (states, actions, states)):
            raise ValueError(f"cost must have shape [K, {states}, {actions}] or [K, S, A, S], got {cost.shape}")
        terminal = np.zeros(states, bool) if self.terminal is None else np.array(self.terminal, dtype=bool)
        if terminal.shape != (states,):
            raise ValueError(f"terminal must have shape ({states},), got {terminal.shape}")
        initial = np.eye(states)[0] if self.initial is None else _finite("initial", self.initial)
        if initial.shape != (states,) or (initial < 0).any() or abs(initial.sum() - 1) > 1e-8:
            raise ValueError(
                f"initial must be a distribution over {states} states, "
                f"got shape {initial.shape} with sum {initial.sum():.6g}"
            )
        observation = np.arange(states) if self.observation is None else np.array(self.observation)
        if observation.shape[:1] != (states,):
            raise ValueError(f"observation must have {states} rows, got shape {observation.shape}")
        mask = self.action_mask
        if mask is not None:
            mask = np.array(mask, dtype=bool)
            if mask.shape != (states, actions):
                raise ValueError(f"action_mask must have shape {(states, actions)}, got {mask.shape}")
            if not mask.any(axis=1).all():
                raise ValueError(f"action_mask allows no action in state {np.flatnonzero(~mask.any(axis=1))[0]}")
        if self.horizon is not None and self.horizon < 1:
            raise ValueError(f"horizon must be at least 1 or None, got {self.horizon}")
        if self.observes_time and self.horizon is None:
            raise ValueError("observes_time needs a horizon, got None: without one there is no remaining time to see")

        transition[terminal] = np.eye(states)[terminal][:, None, :]
        reward[terminal] = 0.0
        cost[:, terminal] = 0.0
        for name, value in (
            ("transition", transition), ("reward", reward), ("cost", cost), ("terminal", terminal),
            ("initial", initial), ("observation", observation), ("action_mask", mask),
        ):  # fmt: skip
            if value is not None:
                value.flags.writeable = False
            object.__setattr__(self, name, value)

    def timed_observation(self, step: int) -> NDArray[np.float32]:
        """What the agent sees in every state after ``step`` steps, ``[S, D + 1]``: the remaining share comes last.

        Raises:
            ValueError: If the agent does not see the time, or the step is not in 0…horizon.
        """
        if not self.observes_time:
            raise ValueError("this model's agent does not see the remaining time: observes_time is False")
        assert self.horizon is not None
        if not 0 <= step <= self.horizon:
            raise ValueError(f"step must lie in 0…{self.horizon}, got {step}")
        table = np.asarray(self.observation, dtype=np.float32).reshape(self.num_states, -1)
        left = np.full((self.num_states, 1), (self.horizon - step) / self.horizon, dtype=np.float32)
        return np.concatenate([table, left], axis=1)

    @property
    def num_states(self) -> int:
        """S, terminal states included."""
        return self.transition.shape[0]

    @property
    def num_actions(self) -> int:
        """A."""
        return self.transition.shape[1]

    @property
    def num_costs(self) -> int:
        """K, the number of cost functions."""
        return self.cost.shape[0]

    @cached_property
    def expected_reward(self) -> NDArray[np.float64]:
        """:math:`r(s,a)`, shape ``[S, A]``: the reward averaged over successors."""
        return self._expected(self.reward)

    @cached_property
    def expected_cost(self) -> NDArray[np.float64]:
        """:math:`c_k(s,a)`, shape ``[K, S, A]``: the costs averaged over successors."""
        return np.stack([self._expected(cost) for cost in self.cost]) if self.num_costs else self.cost

    def _expected(self, signal: NDArray[np.float64]) -> NDArray[np.float64]:
        if signal.ndim == 2:
            return signal
        expected = np.einsum("ijk,ijk->ij", self.transition, signal)
        expected.flags.writeable = False
        return expected


def _finite(name: str, values: ArrayLike) -> NDArray[np.float64]:
    array = np.array(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)][0]}")
    return array
