"""CartPole, batched, with a second hand on the cart: the force that an adversary adds. Book: robust/adversarial.

Without a push it is Gymnasium's ``CartPole-v1``: the same spaces, dynamics and limit, in array operations.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments.batched import BatchedEnvironment, SingleEnvironment
from ca14lib.environments.domains import CartPoleDomainVector

FORCE, TIME_STEP = CartPoleDomainVector.FORCE, CartPoleDomainVector.INTERVAL  # N, s
POSITION_LIMIT, ANGLE_LIMIT = CartPoleDomainVector.POSITION_LIMIT, CartPoleDomainVector.ANGLE_LIMIT  # m, rad
START_LIMIT = 0.05  # of all four numbers
TIME_LIMIT = 500

_NOMINAL = np.array([[parameter.nominal] for parameter in CartPoleDomainVector.PARAMETERS.values()])


def cart_pole_successor(
    state: NDArray[np.float64], action: NDArray[np.integer], push: ArrayLike = 0.0
) -> NDArray[np.float64]:
    """The next states of CartPole at its nominal parameters by one Euler step.

    Args:
        state: ``[N, 4]``: position (m), velocity (m/s), angle (rad), angular velocity (rad/s).
        action: ``[N]``: 0 pushes the cart with 10 N to the left, 1 to the right.
        push: Force in N that is added, ``[N]`` or one number.
    Returns:
        ``[N, 4]``.
    """
    force = np.where(action == 1, FORCE, -FORCE) + np.asarray(push, dtype=np.float64)
    cart, pole = CartPoleDomainVector.accelerations(state, force, _NOMINAL)
    return state + TIME_STEP * np.stack([state[:, 1], cart, state[:, 3], pole], axis=-1)


def cart_pole_failed(state: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the cart has left the track or the pole has fallen in states ``[N, 4]``: ``[N]``."""
    return (np.abs(state[:, 0]) > POSITION_LIMIT) | (np.abs(state[:, 2]) > ANGLE_LIMIT)


class PushedCartPoleVector(BatchedEnvironment):
    """Batched CartPole whose :attr:`push`, a force in N for each copy, is added to the agent's in every step.

    Args:
        num_envs: Number of copies.
        time_limit: Artificial limit on the steps of an episode, or None.
        render_mode: Must be None.

    Attributes:
        push: ``[N]``, 0 at first; whoever steps the environment sets it before a step, and it stays.
        states: ``[N, 4]``, the present states in double precision; what is observed is rounded to single.
    """

    metadata = BatchedEnvironment.metadata | {"render_modes": []}

    def __init__(
        self, num_envs: int = 1, *, time_limit: int | None = TIME_LIMIT, render_mode: str | None = None
    ) -> None:
        high = np.array([2 * POSITION_LIMIT, np.inf, 2 * ANGLE_LIMIT, np.inf], dtype=np.float32)
        super().__init__(
            num_envs, gym.spaces.Box(-high, high, dtype=np.float32), gym.spaces.Discrete(2), time_limit=time_limit,
            render_mode=render_mode,
        )  # fmt: skip
        self.states = np.zeros((num_envs, 4))
        self.push = np.zeros(num_envs)

    def spawn(self, num_envs: int) -> "PushedCartPoleVector":
        return type(self)(num_envs, time_limit=self.time_limit)

    def _restart(self, count: int, options: dict[str, Any] | None) -> NDArray[np.float64]:
        """All four numbers uniform within ±0.05."""
        return self.np_random.uniform(-START_LIMIT, START_LIMIT, size=(count, 4))

    def _place(self, where: NDArray[np.intp] | slice, states: NDArray[np.float64]) -> None:
        self.states[where] = states

    def _transition(self, action: NDArray) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        self.states = cart_pole_successor(self.states, action, self.push)
        return np.ones(self.num_envs), cart_pole_failed(self.states)

    def _observe(self) -> NDArray[np.float32]:
        return self.states.astype(np.float32)


class PushedCartPole(SingleEnvironment):
    """The single view of :class:`PushedCartPoleVector`."""

    metadata = {"render_modes": []}

    def __init__(self, **parameters: Any) -> None:
        super().__init__(PushedCartPoleVector(1, **parameters))
