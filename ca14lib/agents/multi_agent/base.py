"""What all teams share: n agents with equal spaces that act on an axis of agents. Book: multi_agent/theory."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ca14lib.agents.base import Agent, AgentConfig, require, space_from_json, space_to_json
from ca14lib.data import JointTransitions, Normalizer
from ca14lib.environments import MultiAgentEnvironment
from ca14lib.networks import TeamNetwork


@dataclass(frozen=True)
class TeamConfig(AgentConfig):
    hidden_sizes: tuple[int, ...] = (64, 64)
    shared: bool = True  # one set of parameters for all agents, told apart by a bias of their own
    recurrent: bool = False  # agents with memory, for games that show them only a part
    reward_scale: float = 1.0  # every reward is multiplied by it, which changes no optimum

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.reward_scale < float("inf"), "reward_scale", self.reward_scale, "positive and finite")


class Drawn(NamedTuple):
    """Actions as they were drawn for training, and what learning from them needs.

    ``action`` is ``[N, n]`` int64, or ``[N, n, D]`` in environment units; ``log_prob`` ``[N, n]``, None if the agent
    does not learn from it; ``memory`` ``[N, n, M]`` after the step, None without memory; ``noise`` ``[N, n, …]``, what
    else was drawn and has to be the same when the step is learnt from, or None.
    """

    action: Tensor
    log_prob: Tensor | None = None
    memory: Tensor | None = None
    noise: Tensor | None = None


class MultiAgent(Agent):
    """Base class of teams: one module that holds and trains all n agents of a game.

    A subclass builds its networks in ``_build``, implements :meth:`_draw`, :meth:`_best` and :meth:`update`, and says
    in ``experience`` what its update learns from.

    Args:
        observation_space: Joint ``Box`` space ``[n, …]``, n agents with observations of equal shape.
        action_space: Joint ``MultiDiscrete`` space of n equal numbers of actions, or bounded ``Box`` ``[n, D]``.
        config: The algorithm's configuration.
        state_space: One-dimensional ``Box`` of what a central observer sees; None for all observations in one row.
        normalizer: Applied to every observation, ``[n, …]`` like the joint observation.
        seed: Fixes initial weights and draws.
        device: ``"cpu"``, ``"cuda"``, …

    Raises:
        ValueError: If a space is not supported, the agents' spaces differ, or the device is not there.
    """

    config_class = TeamConfig
    config: TeamConfig
    experience: ClassVar[str] = "rollouts"  # "rollouts", "transitions" (replayed one by one) or "episodes" (whole ones)
    discrete_only: ClassVar[bool] = True

    def __init__(
        self, observation_space: gym.Space, action_space: gym.Space, config: TeamConfig | None = None, *,
        state_space: gym.spaces.Box | None = None, normalizer: Normalizer | None = None, seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:  # fmt: skip
        name = type(self).__name__
        if not isinstance(observation_space, gym.spaces.Box) or len(observation_space.shape) < 2:
            raise ValueError(
                f"{name} needs the joint Box observations [n, …] of agents with equal spaces "
                f"(ca14lib.environments.joint_spaces makes them), got {observation_space}"
            )
        self.num_agents = int(observation_space.shape[0])
        self.discrete = isinstance(action_space, gym.spaces.MultiDiscrete)
        if isinstance(action_space, gym.spaces.MultiDiscrete):
            counts = action_space.nvec
            if counts.ndim != 1 or len(set(counts.tolist())) != 1 or (action_space.start != 0).any():
                raise ValueError(f"{name} needs as many actions, from 0, for every agent, got {action_space}")
        else:
            bounded = isinstance(action_space, gym.spaces.Box) and action_space.is_bounded("both")
            fits = bounded and len(action_space.shape or ()) == 2 and (action_space.high > action_space.low).all()  # type: ignore[attr-defined]
            if self.discrete_only or not fits:
                kinds = "MultiDiscrete" if self.discrete_only else "MultiDiscrete or bounded Box [n, D]"
                raise ValueError(f"{name} needs {kinds} joint actions, got {action_space}")
        if (action_space.shape or (0,))[0] != self.num_agents:
            raise ValueError(
                f"{name}: observations are of {self.num_agents} agents, actions of {(action_space.shape or (0,))[0]}"
            )
        self.features = int(np.prod(observation_space.shape[1:]))
        if state_space is None:
            shape = (self.num_agents * self.features,)
            state_space = gym.spaces.Box(-np.inf, np.inf, shape, np.float32)
        if not isinstance(state_space, gym.spaces.Box) or len(state_space.shape) != 1:
            raise ValueError(f"{name} needs a one-dimensional Box of states, got {state_space}")
        self.state_space = state_space
        super().__init__(observation_space, action_space, config, normalizer=normalizer, seed=seed, device=device)

    @classmethod
    def for_game(cls, game: MultiAgentEnvironment, config: Any = None, **keywords: Any) -> Any:
        """A team for the spaces of a game; keywords are those of the constructor."""
        return cls(
            game.single_observation_space, game.single_action_space, config, state_space=game.state_space, **keywords
        )

    @property
    def num_actions(self) -> int:
        """A, for discrete actions."""
        assert isinstance(self.action_space, gym.spaces.MultiDiscrete)
        return int(self.action_space.nvec[0])

    @property
    def action_size(self) -> int:
        """What one agent's action takes in a network's input: A one-hot, or D."""
        return self.num_actions if self.discrete else int((self.action_space.shape or (0, 0))[1])

    @property
    def state_size(self) -> int:
        """d."""
        return int(self.state_space.shape[0])

    @property
    def memory_size(self) -> int:
        """M, numbers that each agent carries from one step to the next; 0 without memory."""
        return 0

    def initial_memory(self, num_envs: int) -> Tensor | None:
        """Zeros ``[num_envs, n, M]``, or None without memory."""
        if not self.memory_size:
            return None
        return torch.zeros(num_envs, self.num_agents, self.memory_size, device=self.device)

    def _team_network(self, features: int, outputs: int, **keywords: Any) -> TeamNetwork:
        """A network per agent, as the configuration asks: widths, shared or separate, with or without memory."""
        settings = {"shared": self.config.shared, "recurrent": self.config.recurrent} | keywords
        return TeamNetwork(features, outputs, self.num_agents, self.config.hidden_sizes, **settings)

    # Acting

    def _draw(self, inputs: Tensor, memory: Tensor | None, mask: Tensor | None) -> Drawn:
        """Actions with exploration, for inputs ``[N, n, F]`` and a mask ``[N, n, A]``."""
        raise NotImplementedError

    def _best(self, inputs: Tensor, memory: Tensor | None, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The actions the agents think best, and the next memory."""
        raise NotImplementedError

    @torch.no_grad()
    def act(
        self,
        observation: ArrayLike,
        memory: Tensor | None = None,
        *,
        mask: ArrayLike | None = None,
        deterministic: bool = False,
    ) -> Any:
        """Actions of all agents.

        Args:
            observation: ``[N, n, …]``.
            memory: ``[N, n, M]`` of agents with memory (:meth:`initial_memory` at the start of an episode).
            mask: ``[N, n, A]``, true where an action is allowed; None for all.
            deterministic: Take the best actions instead of drawing.
        Returns:
            Actions ``[N, n, …]``; of agents with memory a pair of actions and the next memory.
        """
        inputs, memory, allowed = self._checked(observation, memory, mask)
        if deterministic:
            action, memory = self._best(inputs, memory, allowed)
        else:
            action, _, memory, _ = self._draw(inputs, memory, allowed)
        return (self.executed(action), memory) if self.memory_size else self.executed(action)

    @torch.no_grad()
    def sample(self, observation: ArrayLike, memory: Tensor | None = None, mask: ArrayLike | None = None) -> Drawn:
        """Actions as drawn for training, with what :class:`~ca14lib.data.JointTransitions` stores of them."""
        return self._draw(*self._checked(observation, memory, mask))

    def executed(self, action: Tensor) -> NDArray:
        """Drawn actions as the game takes them: continuous ones clipped to their bounds."""
        if self.discrete:
            return action.cpu().numpy()
        space = self.action_space
        assert isinstance(space, gym.spaces.Box)
        return np.clip(action.cpu().numpy(), space.low, space.high)

    def _checked(
        self, observation: ArrayLike, memory: Tensor | None, mask: ArrayLike | None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        inputs = self._features(self._observation_tensor(observation))
        lead = (len(inputs), self.num_agents)
        if self.memory_size and memory is None:
            raise ValueError(f"{type(self).__name__} has memory: begin with agent.initial_memory({len(inputs)})")
        if memory is not None and tuple(memory.shape) != (*lead, self.memory_size):
            raise ValueError(f"memory must have shape {(*lead, self.memory_size)}, got {tuple(memory.shape)}")
        if mask is None:
            return inputs, memory, None
        if not self.discrete:
            raise ValueError(f"{type(self).__name__} has continuous actions here and takes no mask")
        allowed = torch.tensor(np.asarray(mask), device=self.device)
        shape = (*lead, self.num_actions)
        if allowed.dtype != torch.bool or allowed.shape != shape or not allowed.any(dim=-1).all():
            raise ValueError(
                f"mask must be booleans of shape {shape} that allow an action to every agent, "
                f"got dtype {allowed.dtype}, shape {tuple(allowed.shape)}"
            )
        return inputs, memory, allowed

    def _features(self, observation: Tensor) -> Tensor:
        """Raw observations ``[…, n, …]`` as the networks see them, ``[…, n, F]``."""
        seen = self._input(observation)
        lead = seen.shape[: seen.ndim - len(self.observation_space.shape or ()) + 1]
        return seen.reshape(*lead, self.features)

    @cached_property
    def _action_range(self) -> tuple[Tensor, Tensor]:
        """Centre and half-width of continuous actions, ``[n, D]`` each."""
        space = self.action_space
        assert isinstance(space, gym.spaces.Box)
        low, high = (
            torch.as_tensor(bound, dtype=torch.float32, device=self.device) for bound in (space.low, space.high)
        )
        return (low + high) / 2, (high - low) / 2

    def _unit(self, action: Tensor) -> Tensor:
        """Continuous actions in [−1, 1]; discrete ones as they are."""
        if self.discrete:
            return action
        center, scale = self._action_range
        return (action - center) / scale

    def _environment(self, action: Tensor) -> Tensor:
        """The inverse of :meth:`_unit`."""
        if self.discrete:
            return action
        center, scale = self._action_range
        return center + scale * action

    # Learning

    def update(self, batch: JointTransitions) -> dict[str, Tensor]:
        raise NotImplementedError

    def _check(self, batch: JointTransitions) -> None:
        """Refuse a batch that does not fit this team."""
        name = type(self).__name__
        if not isinstance(batch, JointTransitions):
            raise ValueError(f"{name} learns from JointTransitions, got {type(batch).__name__}")
        if batch.observation.shape[2:] != self.observation_space.shape:
            expected = self.observation_space.shape
            raise ValueError(f"{name} needs observations [T, B, *{expected}], got {tuple(batch.observation.shape)}")
        if batch.state.shape[2:] != self.state_space.shape:
            raise ValueError(f"{name} needs states [T, B, {self.state_size}], got {tuple(batch.state.shape)}")
        if self.experience == "rollouts" and batch.log_prob is None:
            raise ValueError(f"{name} learns from what its own policy drew: the batch has no log_prob")
        if not batch.reward.isfinite().all():
            raise ValueError(f"{name} needs finite rewards, the batch has NaN or infinity")

    # Saving and loading

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, metadata = super().state()
        return tensors, metadata | {"state_space": space_to_json(self.state_space)}

    @classmethod
    def arguments_from(cls, metadata: dict[str, Any]) -> dict[str, Any]:
        return {"state_space": space_from_json(metadata["state_space"])}


def team_normalizer(observation: ArrayLike) -> Normalizer:
    """The normalizer of joint observations ``[…, n, features]``, the same for every agent.

    Agents with shared parameters must see the same numbers alike: the statistics are those of all agents together.

    Raises:
        ValueError: If there is no observation, or it has no axis of agents.
    """
    array = np.asarray(observation, dtype=np.float32)
    if array.ndim < 3 or array.size == 0:
        raise ValueError(f"observation must be [..., n, features] and not empty, got shape {array.shape}")
    rows = torch.as_tensor(array.reshape(-1, array.shape[-1]))
    of_one = Normalizer.fit(rows)
    whole = Normalizer(torch.zeros(array.shape[-2:]), torch.zeros(array.shape[-2:]))
    whole.mean.copy_(of_one.mean.expand(array.shape[-2:]))
    whole.scale.copy_(of_one.scale.expand(array.shape[-2:]))
    return whole
