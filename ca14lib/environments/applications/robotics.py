"""Two robots: an arm whose sensors, motors and wires let it down, and a hopper of another body.

Book: evaluation/robotics. The arm is Gymnasium's ``Reacher-v5``, computed on batches from its equations of motion. The
hopper is that of ``CA14/HopperDomain-v0`` with the speed limit of ``CA14/HopperVelocity-v0``. What changes within an
episode is a perturbation of :mod:`ca14lib.environments.perturbed`: a motor that fades is
``ParameterDrift("elbow", -1.0, 25)``.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments.batched import SingleEnvironment
from ca14lib.environments.domains import LONGEST_DELAY, DomainVector, Parameter, Ranges, hopper_domain
from ca14lib.environments.velocity import VELOCITY_LIMITS, VelocityCost

Array = NDArray[np.float64]

# the model: two capsules and, beyond the second, a ball, of equal radius and of 1,000 kg/m³
DENSITY, RADIUS, LINK, REACH = 1_000.0, 0.01, 0.1, 0.11  # m: of all three, of a link, from elbow to fingertip
ROTOR, DAMPING, TORQUE = 1.0, 1.0, 200.0  # kg m² and N m s of either joint, N m at the action 1
INTERVAL, SUBSTEPS = 0.02, 2  # s between two actions, Runge–Kutta steps within
ELBOW_LIMIT = 3.0  # rad
GOAL_RADIUS = 0.2  # m
RATED_TORQUE = 20.0  # N m that a motor gives without being worn

# standard deviations of the errors at noise 1
ENCODER, TACHOMETER, CAMERA = 0.02, 0.2, 0.002  # rad, rad/s, m

BALL_MASS = DENSITY * 4.0 / 3.0 * np.pi * RADIUS**3
TUBE_MASS = DENSITY * np.pi * RADIUS**2 * LINK
LINK_MASS = TUBE_MASS + BALL_MASS  # its two caps are a ball
LINK_INERTIA = TUBE_MASS * (3 * RADIUS**2 + LINK**2) / 12 + BALL_MASS * (
    0.4 * RADIUS**2 + LINK**2 / 4 + 3 * LINK * RADIUS / 8
)  # kg m², about its centre
FOREARM = LINK_INERTIA + LINK_MASS * (LINK / 2) ** 2 + BALL_MASS * (0.4 * RADIUS**2 + REACH**2)  # about the elbow
UPPER_ARM = LINK_INERTIA + LINK_MASS * (LINK / 2) ** 2 + (LINK_MASS + BALL_MASS) * LINK**2  # with the mass it carries
COUPLING = LINK * (LINK_MASS * LINK / 2 + BALL_MASS * REACH)

# wide enough for the worst sensors; the joints do not reach 200 rad/s
HIGHEST = np.array([1.0] * 4 + [1.0] * 2 + [300.0] * 2 + [1.5] * 2, dtype=np.float32)
OBSERVATION_SPACE = gym.spaces.Box(-HIGHEST, HIGHEST)
ACTION_SPACE = gym.spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)


# The arm's mechanics


def fingertip(angles: ArrayLike) -> Array:
    """Position in m, ``[…, 2]``, at joint angles in rad, ``[…, 2]``."""
    shoulder, elbow = np.moveaxis(np.asarray(angles, dtype=np.float64), -1, 0)
    both = shoulder + elbow
    x = LINK * np.cos(shoulder) + REACH * np.cos(both)
    return np.stack([x, LINK * np.sin(shoulder) + REACH * np.sin(both)], axis=-1)


def joint_angles(target: ArrayLike, bend: ArrayLike) -> Array:
    """Angles at which the fingertip is at a target, or nearest to it if that is out of reach.

    Args:
        target: m, ``[…, 2]``.
        bend: 1 or −1, ``[…]``: the sign of the elbow's angle. Both solutions are mirror images.
    Returns:
        rad, ``[…, 2]``; the elbow stays within its limit.
    """
    x, y = np.moveaxis(np.asarray(target, dtype=np.float64), -1, 0)
    cosine = (x**2 + y**2 - LINK**2 - REACH**2) / (2 * LINK * REACH)
    elbow = np.sign(bend) * np.minimum(np.arccos(np.clip(cosine, -1.0, 1.0)), ELBOW_LIMIT)
    shoulder = np.arctan2(y, x) - np.arctan2(REACH * np.sin(elbow), LINK + REACH * np.cos(elbow))
    return np.stack([shoulder, elbow], axis=-1)


def mass_matrix(elbow: Array) -> tuple[Array | float, Array, float]:
    """Entries of shoulder, coupling and elbow in kg m² (book eq. robotics-arm), for elbow angles ``[N]``."""
    bent = COUPLING * np.cos(elbow)
    return UPPER_ARM + FOREARM + 2 * bent + ROTOR, FOREARM + bent, FOREARM + ROTOR


def turning_torque(elbow: Array, speeds: Array) -> Array:
    """Coriolis and centrifugal torques in N m, ``[N, 2]`` (book eq. robotics-arm)."""
    first, second = speeds.T
    pull = COUPLING * np.sin(elbow)
    return np.stack([-pull * (2 * first + second) * second, pull * first**2], axis=-1)


def acceleration(angles: Array, speeds: Array, torque: Array) -> Array:
    """Of the joints in rad/s², ``[N, 2]`` (book eq. robotics-arm).

    Args:
        angles: rad, ``[N, 2]``.
        speeds: rad/s, ``[N, 2]``.
        torque: N m that reaches the joints, ``[N, 2]``.
    """
    shoulder, coupling, elbow = mass_matrix(angles[:, 1])
    first, second = (torque - DAMPING * speeds - turning_torque(angles[:, 1], speeds)).T
    determinant = shoulder * elbow - coupling**2
    return np.stack(
        [(elbow * first - coupling * second) / determinant, (shoulder * second - coupling * first) / determinant],
        axis=-1,
    )


class ReacherDomainVector(DomainVector):
    """``CA14/ReacherDomain-v0``, batched: bring a fingertip to a target, with faults that differ by episode.

    At the nominal parameters it is ``Reacher-v5`` of Gymnasium, whose bodies, motors and rewards it has; only the
    elbow's stop at ±3 rad is hard here and elastic there.

    * Action, ``Box(−1, 1, (2,))``: share of 200 N m at shoulder and elbow.
    * Observation ``[10]``, float32, in the order there: cosines and sines of both angles, the target (m), angular
      velocities (rad/s), fingertip minus target (m); computed from what the sensors report (book eq. robotics-sensors).
    * Reward: minus the distance of fingertip and target (m) after the step, minus the sum of the squared actions.
    * ``info["cost"]``: 1 in a step in which a joint is asked for more than ``RATED_TORQUE``.
    * Nothing ends an episode; 50 steps of 0.02 s are an artificial limit.
    * Parameters: ``shoulder`` and ``elbow``, what is left of the torque of a motor; ``noise`` of the sensors, in units
      of ``ENCODER``, ``TACHOMETER`` and ``CAMERA``; ``delay``, steps until an action arrives.

    The state is angles (rad), angular velocities (rad/s) and target (m). Targets are uniform over a disc of 0.2 m:
    where ``start`` puts one outside, it is drawn again from the whole disc.

    Args and errors: as :class:`DomainVector`.
    """

    PARAMETERS = {
        "shoulder": Parameter(1.0, 0.0, 2.0, "(factor)"),
        "elbow": Parameter(1.0, 0.0, 2.0, "(factor)"),
        "noise": Parameter(0.0, 0.0, 50.0, "(factor)"),
        "delay": Parameter(0.0, 0.0, LONGEST_DELAY, "steps", whole=True),
    }
    DIMENSION = 6
    START = (
        np.array([-0.1, -0.1, -0.005, -0.005, -GOAL_RADIUS, -GOAL_RADIUS]),
        np.array([0.1, 0.1, 0.005, 0.005, GOAL_RADIUS, GOAL_RADIUS]),
    )
    START_BOUND = np.array([np.pi, ELBOW_LIMIT, 50.0, 50.0, GOAL_RADIUS, GOAL_RADIUS])

    def __init__(
        self,
        num_envs: int = 1,
        *,
        ranges: Ranges | None = None,
        start: tuple[ArrayLike, ArrayLike] | None = None,
        time_limit: int | None = 50,
        render_mode: str | None = None,
    ) -> None:
        super().__init__(
            num_envs,
            OBSERVATION_SPACE,
            ACTION_SPACE,
            ranges=ranges,
            start=start,
            time_limit=time_limit,
            render_mode=render_mode,
        )
        self._sent = np.zeros((LONGEST_DELAY + 1, num_envs, 2))
        self._errors = np.zeros((num_envs, self.DIMENSION))
        self._cost: Array = np.zeros(num_envs)

    def _restart(self, count: int, options: dict[str, Any] | None) -> tuple[Array, Array]:
        states, values = super()._restart(count, options)
        outside = np.flatnonzero(np.hypot(*states[:, 4:].T) > GOAL_RADIUS)
        if outside.size and (options or {}).get("state") is None:
            radius = GOAL_RADIUS * np.sqrt(self.np_random.uniform(size=outside.size))
            angle = self.np_random.uniform(-np.pi, np.pi, size=outside.size)
            states[outside, 4:] = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
        return states, values

    def _place(self, where: NDArray[np.intp] | slice, states: Any) -> None:
        super()._place(where, states)
        self._cost[where] = 0.0
        self._measure(where)

    def _measure(self, where: NDArray[np.intp] | slice) -> None:
        """Draw the errors of the sensors in some copies (book eq. robotics-sensors)."""
        noise = self._values[self.names.index("noise"), where]
        if noise.any():
            scale = np.repeat([ENCODER, TACHOMETER, CAMERA], 2)
            self._errors[where] = noise[:, None] * scale * self.np_random.standard_normal((len(noise), len(scale)))
        else:
            self._errors[where] = 0.0

    def _transition(self, action: NDArray) -> tuple[Array, NDArray[np.bool_]]:
        torque = TORQUE * self._arriving(action, self._values[3]) * self._values[:2].T
        angles, speeds = self._state[:, :2], self._state[:, 2:4]
        for _ in range(SUBSTEPS):
            angles, speeds = self._integrate(angles, speeds, torque)
        self._state[:, :2], self._state[:, 2:4] = angles, speeds
        self._cost = np.any(TORQUE * abs(action) > RATED_TORQUE, axis=1).astype(np.float64)
        self._measure(slice(None))
        distance = np.linalg.norm(fingertip(angles) - self._state[:, 4:], axis=1)
        return -distance - np.square(action).sum(axis=1), np.zeros(self.num_envs, dtype=np.bool_)

    @staticmethod
    def _integrate(angles: Array, speeds: Array, torque: Array) -> tuple[Array, Array]:
        """A step of the classical Runge–Kutta method, as MuJoCo makes it, and the elbow's stop."""
        step = INTERVAL / SUBSTEPS
        first = acceleration(angles, speeds, torque)
        middle = speeds + step / 2 * first
        second = acceleration(angles + step / 2 * speeds, middle, torque)
        late = speeds + step / 2 * second
        third = acceleration(angles + step / 2 * middle, late, torque)
        last = speeds + step * third
        fourth = acceleration(angles + step * late, last, torque)
        angles = angles + step / 6 * (speeds + 2 * middle + 2 * late + last)
        speeds = speeds + step / 6 * (first + 2 * second + 2 * third + fourth)
        stopped = (abs(angles[:, 1]) > ELBOW_LIMIT) & (angles[:, 1] * speeds[:, 1] > 0)
        angles[:, 1] = np.clip(angles[:, 1], -ELBOW_LIMIT, ELBOW_LIMIT)
        speeds[stopped, 1] = 0.0
        return angles, speeds

    def _observe(self) -> NDArray[np.float32]:
        reported = self._state + self._errors
        angles, speeds, target = reported[:, :2], reported[:, 2:4], reported[:, 4:]
        off = fingertip(angles) - target
        seen = np.concatenate([np.cos(angles), np.sin(angles), target, speeds, off], axis=1)
        return np.clip(seen.astype(np.float32), -HIGHEST, HIGHEST)

    def _information(self) -> dict[str, Any]:
        return super()._information() | {"cost": self._cost.copy()}


class ReacherDomain(SingleEnvironment):
    """``CA14/ReacherDomain-v0``; takes the arguments of :class:`ReacherDomainVector` but ``num_envs``."""

    metadata = {"render_modes": []}

    def __init__(self, **parameters: Any) -> None:
        super().__init__(ReacherDomainVector(1, **parameters))


# What a practitioner builds for it


class ArmController:
    """A control law for the arm, used where an agent is: :meth:`act` maps observations to actions."""

    observation_space = OBSERVATION_SPACE
    action_space = ACTION_SPACE

    def torque(self, angles: Array, speeds: Array, target: Array, distance: Array) -> Array:
        """N m, ``[N, 2]``; ``distance`` is target minus fingertip in m, ``[N, 2]``."""
        raise NotImplementedError

    def act(self, observation: ArrayLike, *, deterministic: bool = True) -> NDArray[np.float32]:
        """Actions ``[N, 2]`` at observations ``[N, 10]``, cut at the largest torque; it draws nothing."""
        seen = np.asarray(observation, dtype=np.float64)
        angles = np.arctan2(seen[:, 2:4], seen[:, :2])
        asked = self.torque(angles, seen[:, 6:8], seen[:, 4:6], -seen[:, 8:])
        return np.clip(asked / TORQUE, -1.0, 1.0).astype(np.float32)


def _require_gains(controller: Any, *names: str) -> None:
    for name in names:
        value = getattr(controller, name)
        if not (np.isfinite(value) and value >= 0.0):
            raise ValueError(f"{name} must be finite and at least 0, got {value}")


@dataclass(frozen=True)
class ComputedTorque(ArmController):
    """Inverse kinematics and computed torque (book eq. robotics-computed-torque): the textbook's controller.

    It knows the nominal arm, and of the two ways to reach a target it takes the nearer.

    Args:
        frequency: ω in rad/s of the error's oscillator.
        ratio: ζ, its damping; 1 is critical.
    """

    frequency: float = 10.0
    ratio: float = 1.0

    def __post_init__(self) -> None:
        _require_gains(self, "frequency", "ratio")

    def torque(self, angles: Array, speeds: Array, target: Array, distance: Array) -> Array:
        ways = np.stack([joint_angles(target, bend) for bend in (1.0, -1.0)]) - angles
        ways[..., 0] = (ways[..., 0] + np.pi) % (2 * np.pi) - np.pi  # the shoulder turns either way, the elbow does not
        nearer = np.square(ways).sum(axis=-1).argmin(axis=0)
        error = ways[nearer, np.arange(len(angles))]
        wanted = self.frequency**2 * error - 2 * self.ratio * self.frequency * speeds
        shoulder, coupling, elbow = mass_matrix(angles[:, 1])
        first, second = wanted.T
        inertial = np.stack([shoulder * first + coupling * second, coupling * first + elbow * second], axis=-1)
        return inertial + turning_torque(angles[:, 1], speeds) + DAMPING * speeds


@dataclass(frozen=True)
class TransposedJacobian(ArmController):
    """A spring from fingertip to target and dampers at the joints (book eq. robotics-jacobian).

    It needs no inverse, and with one motor dead the other still goes downhill in the distance.

    Args:
        stiffness: Of the spring, N/m.
        damping: Of the joints, N m s.
    """

    stiffness: float = 1_000.0
    damping: float = 10.0

    def __post_init__(self) -> None:
        _require_gains(self, "stiffness", "damping")

    def torque(self, angles: Array, speeds: Array, target: Array, distance: Array) -> Array:
        tip, both = fingertip(angles), angles.sum(axis=1)
        forearm = REACH * np.stack([np.cos(both), np.sin(both)], axis=-1)
        # a force turns a joint by its moment, lever × force
        moments = np.stack([_cross(tip, distance), _cross(forearm, distance)], axis=-1)
        return self.stiffness * moments - self.damping * speeds


def _cross(lever: Array, force: Array) -> Array:
    return lever[:, 0] * force[:, 1] - lever[:, 1] * force[:, 0]


# The hopper


def hopper_velocity_domain(ranges: Ranges | None = None, limit: float | None = None, **arguments: Any) -> gym.Env:
    """What stands behind ``CA14/HopperVelocityDomain-v0``; truncated after 1,000 steps, an artefact.

    Args:
        ranges: Of mass, friction and the other factors of :class:`ca14lib.environments.HopperDomain`.
        limit: Velocity in m/s from which a step costs 1; the published one by default.
        arguments: Keyword arguments of Gymnasium's environment.
    """
    return VelocityCost(hopper_domain(ranges, **arguments), VELOCITY_LIMITS["Hopper"] if limit is None else limit)
