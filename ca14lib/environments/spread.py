"""Spread: agents that must cover landmarks without bumping into each other. Book: multi_agent/environments.

The task is the cooperative navigation of the particle environments (Mordatch and Abbeel, 2018; Lowe et al., 2017) as
MPE2's ``simple_spread_v3`` plays it; a test compares the two step by step.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments.batched import require_integer
from ca14lib.environments.multi_agent import MultiAgentEnvironment
from ca14lib.environments.target_grid import AGENT_COLOURS

THRUST_NAMES = ("none", "left", "right", "down", "up")
RADIUS, COVER_RADIUS = 0.15, 0.1  # of an agent; around a landmark, within which it counts as covered
TIME_STEP, FRICTION, THRUST = 0.1, 0.25, 5.0  # seconds; share of the speed lost per step; acceleration of an action
CONTACT_STIFFNESS, CONTACT_SOFTNESS = 100.0, 1e-3
CONTACT_REACH = 0.05  # gap between two agents beyond which their contact force is below 1e-20 and left out
PICTURE, VIEW = 192, 1.6  # pixels; half the width of the picture in the world's units


class Spread(MultiAgentEnvironment):
    r"""``"Spread"``, batched: n disks steer to n landmarks in the plane.

    **Dynamics.** Agents are disks of mass 1 and radius 0.15. Action 0 thrusts nowhere, 1 left, 2 right, 3 down, 4 up,
    with acceleration 5. In a step of 0.1 s positions move by the old velocities, velocities shrink by a quarter, then
    thrust and contact forces are added. Two disks at distance d push each other apart with force
    :math:`100\,\kappa\ln(1+e^{(0.3-d)/\kappa})`, :math:`\kappa=10^{-3}`. Landmarks neither move nor block.

    **Rewards.** With the distance of each landmark to its nearest agent :math:`d_l` and the number :math:`c_i` of
    others that overlap with agent i, both after the step, agent i gets
    :math:`-(1-\lambda)\sum_l d_l-\lambda c_i` with :math:`\lambda` = ``local_ratio``.

    **Observation** of agent i, float32, of size 6n: own velocity and position; landmarks' positions relative to it;
    the others' positions relative to it, in the order of their index; 2(n − 1) zeros, where other games of the family
    have messages. **State**: all observations in one row. **Starts**: agents and landmarks uniform in
    :math:`[-1,1]^2`, at rest. ``reset(options={"agents": …, "landmarks": …})`` puts them at positions ``[n, 2]`` or
    ``[N, n, 2]`` instead; ``"velocities"`` may be given too. Episodes are truncated after ``max_cycles`` steps; there
    is no true end.

    ``info`` counts ``"collisions"`` ``[N]``, the pairs that overlap, and ``"covered"`` ``[N]``, the landmarks with an
    agent within 0.1.

    Args:
        num_envs: Number of copies.
        num_agents: n, at least 2; as many landmarks.
        local_ratio: :math:`\lambda` in [0, 1], the weight of an agent's own collisions against the common distances.
        max_cycles: Steps of an episode.
        render_mode: ``"rgb_array"`` or None.

    Raises:
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        num_agents: int = 3,
        local_ratio: float = 0.5,
        max_cycles: int = 25,
        render_mode: str | None = None,
    ) -> None:
        require_integer("num_agents", num_agents, self.least_agents)
        require_integer("max_cycles", max_cycles, 1)
        if isinstance(local_ratio, bool) or not 0.0 <= local_ratio <= 1.0:
            raise ValueError(f"local_ratio must lie in [0, 1], got {local_ratio!r}")
        self.local_ratio, self.max_cycles = float(local_ratio), int(max_cycles)
        n, width = num_agents, 6 * num_agents
        super().__init__(
            num_envs,
            num_agents,
            gym.spaces.Box(-np.inf, np.inf, (width,), np.float32),
            gym.spaces.Discrete(len(THRUST_NAMES)),
            gym.spaces.Box(-np.inf, np.inf, (n * width,), np.float32),
            time_limit=self.max_cycles,
            render_mode=render_mode,
        )
        # a point as one number x + iy; agents first, copies last: what is done for all runs over neighbours in memory
        self._position = np.zeros((n, num_envs), dtype=np.complex128)
        self._velocity = np.zeros((n, num_envs), dtype=np.complex128)
        self._landmark = np.zeros((n, num_envs), dtype=np.complex128)
        self._thrust = THRUST * np.array([0, -1, 1, -1j, 1j])
        self._pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
        self._others = np.array([[j for j in range(n) if j != i] for i in range(n)])
        self._rows: NDArray[np.float32] | None = None

    def spawn(self, num_envs: int) -> "Spread":
        return type(self)(
            num_envs, num_agents=self.num_agents, local_ratio=self.local_ratio, max_cycles=self.max_cycles
        )

    @property
    def positions(self) -> NDArray[np.float64]:
        """Of the agents, ``[N, n, 2]``."""
        return _as_pairs(self._position)

    @property
    def velocities(self) -> NDArray[np.float64]:
        """Of the agents, ``[N, n, 2]``."""
        return _as_pairs(self._velocity)

    @property
    def landmarks(self) -> NDArray[np.float64]:
        """Their positions, ``[N, n, 2]``."""
        return _as_pairs(self._landmark)

    def _restart(self, count: int, options: dict[str, Any] | None) -> tuple[NDArray, NDArray, NDArray]:
        """Positions, velocities and landmarks, ``[n, count]`` each."""
        shape = (count, self.num_agents, 2)
        known = {"agents", "landmarks", "velocities"} & set(options or {})
        if not known:
            position, landmark = self.np_random.uniform(-1.0, 1.0, (2, *shape))
            return _as_points(position), _as_points(np.zeros(shape)), _as_points(landmark)
        if not {"agents", "landmarks"} <= known:
            raise ValueError(f"options must hold both 'agents' and 'landmarks', got {sorted(known)}")
        given = {"velocities": np.zeros(shape)} | (options or {})
        position, velocity, landmark = (
            _given(name, given[name], shape) for name in ("agents", "velocities", "landmarks")
        )
        return position, velocity, landmark

    def _place(self, where: NDArray[np.intp] | slice, states: Any) -> None:
        self._position[:, where], self._velocity[:, where], self._landmark[:, where] = states
        self._rows = None

    def _transition(self, action: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        force = self._thrust.take(action.T)
        for first, second in self._pairs:
            push = self._contact(self._position[first] - self._position[second])
            if push is not None:
                force[first] += push
                force[second] -= push
        self._position += TIME_STEP * self._velocity
        self._velocity *= 1.0 - FRICTION
        self._velocity += TIME_STEP * force
        self._rows = None
        reward = -(1.0 - self.local_ratio) * self._distances().sum(axis=0)
        own = self.local_ratio * self._overlaps()
        return np.ascontiguousarray((reward - own).T), np.zeros(self.num_envs, dtype=np.bool_)

    def _contact(self, offset: NDArray[np.complex128]) -> NDArray[np.complex128] | None:
        """Force ``[N]`` on the first of two agents, whose position minus the second's is given; None if all are far."""
        distance = _length(offset)
        gap = distance - 2 * RADIUS
        near = np.flatnonzero(gap < CONTACT_REACH)
        if near.size == 0:
            return None
        force = np.zeros_like(offset)
        depth = np.logaddexp(0.0, -gap[near] / CONTACT_SOFTNESS) * CONTACT_SOFTNESS
        # two agents in the very same point have no direction to be pushed to: no force, where MPE2 divides by zero
        apart = np.maximum(distance[near], np.finfo(np.float64).tiny)
        force[near] = CONTACT_STIFFNESS * offset[near] / apart * depth
        return force

    def _distances(self) -> NDArray[np.float64]:
        """From each landmark to its nearest agent, ``[n, N]``."""
        nearest = np.stack([_length(self._landmark - place) for place in self._position])
        return nearest.min(axis=0)

    def _overlaps(self) -> NDArray[np.float64]:
        """With how many others each agent overlaps, ``[n, N]``."""
        count = np.zeros(self._position.shape)
        for first, second in self._pairs:
            overlap = _length(self._position[first] - self._position[second]) < 2 * RADIUS
            count[first] += overlap
            count[second] += overlap
        return count

    def _observe(self) -> NDArray[np.float32]:
        return self._observed().copy()

    def _state(self) -> NDArray[np.float32]:
        return self._observed().reshape(self.num_envs, -1).copy()

    def _observed(self) -> NDArray[np.float32]:
        if self._rows is None:  # observation and state are the same numbers: computed once a step
            n = self.num_agents
            points = np.zeros((self.num_envs, n, 3 * n), dtype=np.complex64)
            points[..., 0], points[..., 1] = self._velocity.T, self._position.T
            for index, others in enumerate(self._others):
                place = self._position[index]
                points[:, index, 2 : 2 + n] = (self._landmark - place).T
                points[:, index, 2 + n : 1 + 2 * n] = (self._position[others] - place).T
            self._rows = points.view(np.float32)
        return self._rows

    def _report(self) -> dict[str, Any]:
        return {
            "collisions": self._overlaps().sum(axis=0).astype(np.int64) // 2,
            "covered": (self._distances() < COVER_RADIUS).sum(axis=0, dtype=np.int64),
        }

    def _frame(self, index: int) -> NDArray[np.uint8]:
        axis = (np.arange(PICTURE) + 0.5) / PICTURE * 2 * VIEW - VIEW
        pixel = axis + 1j * axis[::-1, None]
        picture = np.full((PICTURE, PICTURE, 3), 255, dtype=np.uint8)
        for number, place in enumerate(self._position[:, index]):
            picture[abs(pixel - place) <= RADIUS] = AGENT_COLOURS[number % len(AGENT_COLOURS)]
        for place in self._landmark[:, index]:
            picture[abs(pixel - place) <= 0.05] = (60, 60, 60)
        return picture


def _length(offset: NDArray[np.complex128]) -> NDArray[np.float64]:
    return np.sqrt(np.square(offset.real) + np.square(offset.imag))


def _as_points(pairs: NDArray) -> NDArray[np.complex128]:
    """Positions ``[N, n, 2]`` as ``[n, N]`` complex numbers."""
    return (pairs[..., 0] + 1j * pairs[..., 1]).T


def _as_pairs(points: NDArray[np.complex128]) -> NDArray[np.float64]:
    return np.stack([points.real.T, points.imag.T], axis=-1)


def _given(name: str, value: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.complex128]:
    pairs = np.asarray(value, dtype=np.float64)
    if pairs.shape not in (shape, shape[1:]) or not np.isfinite(pairs).all():
        raise ValueError(f"{name} must be finite numbers of shape {shape[1:]} or {shape}, got shape {pairs.shape}")
    return _as_points(np.broadcast_to(pairs, shape))
