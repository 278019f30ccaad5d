"""Planners for small episodic problems: they act, observe, and plan anew before every episode. Book: robust/bayesian.

What PSRL and the methods it is compared with share: counts, the plan of the present episode, saving and loading. A
planner acts in one copy of an environment whose observations are the numbers of its states.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ca14lib.agents.base import require, space_to_json
from ca14lib.agents.checkpoint import read_checkpoint, write_checkpoint

Array = NDArray[np.float64]
TIE = 1e-9  # actions this close to the best, relative to the largest value, are equally good


@dataclass(frozen=True)
class PlannerConfig:
    """Fields that every planner's configuration has."""

    horizon: int = 20  # H: steps of an episode

    def __post_init__(self) -> None:
        whole = isinstance(self.horizon, int) and not isinstance(self.horizon, bool) and self.horizon >= 1
        require(whole, "horizon", self.horizon, "an integer of at least 1")


def finite_horizon_values(transition: Array, reward: Array, horizon: int) -> Array:
    r"""Optimal action values of an episodic problem by one backward pass (book eq. psrl-plan).

    Args:
        transition: ``[S, A, S]``, or ``[M, S, A, S]`` for several models at once.
        reward: Expected rewards ``[S, A]`` or ``[M, S, A]``.
        horizon: :math:`H`.
    Returns:
        ``[H, S, A]`` or ``[M, H, S, A]``, indexed by the steps taken.
    """
    q = np.empty((horizon, *reward.shape))
    value = np.zeros(reward.shape[:-1])
    for step in reversed(range(horizon)):
        q[step] = reward + (transition @ value[..., None, :, None])[..., 0]
        value = q[step].max(axis=-1)
    return np.moveaxis(q, 0, -3)


def greedy_policy(q: Array) -> Array:
    """The policy that draws evenly among the best actions: probabilities of the shape of ``q``, ``[…, A]``.

    Best is what lies within a relative 1e-9 of the largest value, so that rounding decides nothing.
    """
    best = q >= q.max(axis=-1, keepdims=True) - TIE * abs(q).max(initial=0.0)
    return best / best.sum(axis=-1, keepdims=True)


class Planner:
    """Base class: an agent that plans an episode in advance and learns from what it observes.

    A subclass implements :meth:`_plan`, which gives the policy of the coming episode, and may extend :meth:`_learn`.
    ``act`` and ``observe`` take turns; an episode begins after one has ended, or after ``horizon`` steps.

    Args:
        observation_space: ``Discrete`` from 0: the S states.
        action_space: ``Discrete`` from 0: the A actions.
        config: The planner's configuration.
        seed: Fixes its draws.

    Raises:
        ValueError: If a space or the configuration does not fit.
    """

    config_class: ClassVar[type[PlannerConfig]] = PlannerConfig

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        config: PlannerConfig | None = None,
        *,
        seed: int = 0,
    ) -> None:
        for name, space in (("observation", observation_space), ("action", action_space)):
            if not isinstance(space, gym.spaces.Discrete) or space.start != 0:
                raise ValueError(f"{type(self).__name__} needs a Discrete {name} space from 0, got {space}")
        config = self.config_class() if config is None else config
        if type(config) is not self.config_class:
            raise ValueError(f"config must be a {self.config_class.__name__}, got {type(config).__name__}")
        self.observation_space, self.action_space, self.config = observation_space, action_space, config
        self.num_states, self.num_actions = int(observation_space.n), int(action_space.n)  # type: ignore[attr-defined]
        self.generator = np.random.default_rng(seed)
        pairs = (self.num_states, self.num_actions)
        self.counts = np.zeros((*pairs, self.num_states))  # n(s, a, s')
        self.reward_sum, self.reward_squares = np.zeros(pairs), np.zeros(pairs)
        self.terminal = np.zeros(self.num_states, dtype=bool)  # states in which an episode was seen to end
        self.episodes = 0  # plans made
        self.step = 0  # steps taken in the present episode
        self.plan: Array = np.zeros((0, *pairs))  # [H, S, A], empty between episodes

    # What a subclass provides

    def _plan(self) -> Array:
        """The policy of the coming episode, probabilities ``[H, S, A]``."""
        raise NotImplementedError

    def _learn(self, state: int, action: int, reward: float, following: int) -> None:
        """What is learned from one step beyond the counts, which are up to date already."""

    # What everybody calls

    @property
    def visits(self) -> Array:
        """How often every pair was tried, n(s, a), ``[S, A]``."""
        return self.counts.sum(axis=2)

    def policy_table(self) -> Array:
        """The policy of the present episode ``[H, S, A]``, for exact evaluation; made first if there is none yet."""
        if len(self.plan) == 0:
            self.plan = self._plan()
            self.episodes += 1
        return self.plan

    def act(self, observation: ArrayLike, *, deterministic: bool = False) -> NDArray[np.int64]:
        """The action of the present episode's policy.

        Args:
            observation: The state, ``[1]``.
            deterministic: Take the first of the most probable actions instead of drawing.
        Returns:
            ``[1]``.
        Raises:
            ValueError: If it is not one state of this problem.
        """
        state = self._one("observation", observation, self.num_states)
        policy = self.policy_table()[self.step, state]
        if deterministic:
            return np.array([policy.argmax()])
        return np.array([np.searchsorted(policy.cumsum()[:-1], self.generator.random(), side="right")])

    def observe(
        self, *, observation: ArrayLike, action: ArrayLike, reward: ArrayLike, next_observation: ArrayLike,
        terminated: ArrayLike, truncated: ArrayLike,
    ) -> None:  # fmt: skip
        """Learn from one step; each argument is ``[1]``.

        A state in which an episode terminates before the horizon is taken for a terminal one, of value 0.

        Raises:
            ValueError: If an argument is out of range; nothing is learned then.
        """
        state = self._one("observation", observation, self.num_states)
        following = self._one("next_observation", next_observation, self.num_states)
        chosen = self._one("action", action, self.num_actions)
        gain = np.asarray(reward, dtype=np.float64)
        if gain.shape != (1,) or not np.isfinite(gain).all():
            raise ValueError(f"reward must be one finite number, [1], got {reward!r}")
        ends, cut = (bool(np.asarray(flag).reshape(1)[0]) for flag in (terminated, truncated))
        self.counts[state, chosen, following] += 1
        self.reward_sum[state, chosen] += gain[0]
        self.reward_squares[state, chosen] += gain[0] ** 2
        self.step += 1
        if ends and self.step < self.config.horizon:
            self.terminal[following] = True
        self._learn(state, chosen, float(gain[0]), following)
        if ends or cut or self.step >= self.config.horizon:
            self.end_episode()

    def end_episode(self) -> None:
        """Forget the plan: the next action begins an episode with a new one."""
        self.step, self.plan = 0, self.plan[:0]

    def _one(self, name: str, value: ArrayLike, number: int) -> int:
        array = np.asarray(value)
        if array.shape != (1,) or array.dtype.kind not in "iu" or not 0 <= array[0] < number:
            raise ValueError(f"{name} must be one integer in 0…{number - 1}, of shape [1], got {value!r}")
        return int(array[0])

    def _absorbing(self, transition: Array, reward: Array) -> tuple[Array, Array]:
        """A model whose terminal states keep the agent and pay nothing; changes the arrays in place."""
        if self.terminal.any():
            transition[self.terminal] = np.eye(self.num_states)[self.terminal][:, None, :]
            reward[self.terminal] = 0.0
        return transition, reward

    # Saving and loading

    def _arrays(self) -> dict[str, NDArray]:
        """Everything that changes while learning, by name; a subclass adds its own."""
        return {
            "counts": self.counts, "reward_sum": self.reward_sum, "reward_squares": self.reward_squares,
            "terminal": self.terminal, "plan": self.plan,
        }  # fmt: skip

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that learning continues from, as named tensors and JSON-able metadata."""
        metadata = {
            "agent": type(self).__name__, "config": asdict(self.config),
            "observation_space": space_to_json(self.observation_space),
            "action_space": space_to_json(self.action_space),
            "episodes": self.episodes, "step": self.step, "generator": self.generator.bit_generator.state,
        }  # fmt: skip
        return {name: torch.from_numpy(array.copy()) for name, array in self._arrays().items()}, metadata

    def restore(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        """Take over a state; nothing is changed if it does not fit this planner.

        Raises:
            ValueError: If the state is of another planner, configuration or space.
        """
        own = json.loads(json.dumps(self.state()[1]))
        for key in ("agent", "config", "observation_space", "action_space"):
            if own[key] != metadata.get(key):
                raise ValueError(f"the checkpoint's {key} is {metadata.get(key)}, this planner's is {own[key]}")
        expected = self._arrays()
        fits = tensors.keys() == expected.keys() and all(
            tensors[name].shape[-array.ndim + (name == "plan") :] == array.shape[name == "plan" :]
            for name, array in expected.items()
        )
        if not fits or len(tensors["plan"]) not in (0, self.config.horizon):
            raise ValueError("the checkpoint's tensors do not fit this planner: names or shapes differ")
        generator = np.random.default_rng()
        try:
            generator.bit_generator.state = metadata["generator"]
            episodes, step = int(metadata["episodes"]), int(metadata["step"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the checkpoint's generator or counters are damaged: {error}") from error
        # from here on nothing can fail
        for name in expected:
            setattr(self, name, tensors[name].numpy().copy())
        self.generator, self.episodes, self.step = generator, episodes, step

    def save(self, path: str | Path) -> None:
        """Write the planner to one file (safetensors, JSON in the header)."""
        write_checkpoint(path, *self.state())

    def load(self, path: str | Path) -> Self:
        """Restore this planner from a file written by :meth:`save`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file is damaged or of another planner; this one is then unchanged.
        """
        self.restore(*read_checkpoint(path))
        return self
