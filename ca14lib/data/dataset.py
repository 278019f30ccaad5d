"""Offline data: whole episodes in flat tensors, with quality report, Minari and HDF5, and batches without copies."""

import copy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ca14lib.data.normalizer import Normalizer
from ca14lib.data.transitions import Transitions
from ca14lib.environments.tabular import row_index
from ca14lib.environments.tabular_model import TabularModel


class OfflineDataset:
    """Raw transitions of whole episodes, in the order in which they happened.

    Nothing is normalised or shifted here. Time limits are kept apart from true ends, so episodes, returns and bootstrap
    targets can always be told from the data. The arrays are copied.

    Args:
        observation: ``[N, …]``.
        action: ``[N]`` integers or ``[N, D]`` reals.
        reward: ``[N]``.
        next_observation: ``[N, …]``.
        terminated: ``[N]``, true ends.
        truncated: ``[N]``, time limits.
        observation_space: Space of one observation.
        action_space: Space of one action.
        cost: ``[N, K]``; none by default.
        behaviour_log_prob: ``[N]`` log-probabilities of the actions under the behaviour, if known.
        environment_id: Gymnasium id of the environment the data come from, if known.
        environment_arguments: Keyword arguments it was made with.
        policy: Name of the behaviour, if it has one.
        seed: Seed of the collection, if known.
        device: Where the tensors live and batches are drawn.

    Raises:
        ValueError: Naming the argument and what was expected, for empty data, disagreeing lengths, NaN, actions or
            observations outside their space, or data that do not consist of whole episodes.
    """

    def __init__(
        self,
        observation: ArrayLike,
        action: ArrayLike,
        reward: ArrayLike,
        next_observation: ArrayLike,
        terminated: ArrayLike,
        truncated: ArrayLike,
        *,
        observation_space: gym.Space,
        action_space: gym.Space,
        cost: ArrayLike | None = None,
        behaviour_log_prob: ArrayLike | None = None,
        environment_id: str | None = None,
        environment_arguments: dict[str, Any] | None = None,
        policy: str | None = None,
        seed: int | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        size = len(np.asarray(reward))
        if size == 0:
            raise ValueError("a dataset needs at least one transition, got none")
        self.observation_space, self.action_space = observation_space, action_space
        self.environment_id, self.policy, self.seed = environment_id, policy, seed
        self.environment_arguments = dict(environment_arguments or {})
        no_cost = np.zeros((size, 0), dtype=np.float32)
        self.transitions = Transitions(
            observation=_in_space("observation", observation, observation_space, size),
            action=_in_space("action", action, action_space, size),
            reward=_real("reward", reward, (size,)),
            cost=_real("cost", no_cost if cost is None else cost, (size, None)),
            next_observation=_in_space("next_observation", next_observation, observation_space, size),
            terminated=_flags("terminated", terminated, size),
            truncated=_flags("truncated", truncated, size),
            behaviour_log_prob=None
            if behaviour_log_prob is None
            else _real("behaviour_log_prob", behaviour_log_prob, (size,)),
        ).to(device)
        ended = (self.transitions.terminated | self.transitions.truncated).cpu().numpy()
        if not ended[-1]:
            raise ValueError("the last episode is not whole: its last step is neither terminated nor truncated")
        self._end = np.flatnonzero(ended) + 1
        self._start = np.concatenate([[0], self._end[:-1]])
        _check_continuity(self.transitions, torch.as_tensor(ended))

    def __len__(self) -> int:
        """Number of transitions."""
        return len(self.transitions)

    def __repr__(self) -> str:
        return (
            f"OfflineDataset({len(self):,} transitions in {self.num_episodes:,} episodes, "
            f"environment={self.environment_id}, policy={self.policy}, seed={self.seed})"
        )

    @property
    def device(self) -> torch.device:
        """Where the data live."""
        return self.transitions.reward.device

    @property
    def num_episodes(self) -> int:
        """Number of episodes."""
        return len(self._end)

    @property
    def episode_slices(self) -> list[slice]:
        """One slice of the transitions per episode."""
        return [slice(start, end) for start, end in zip(self._start, self._end, strict=True)]

    def episode_returns(self, discount: float = 1.0) -> NDArray[np.float64]:
        """Discounted return of every episode, shape ``[episodes]``."""
        reward = self.transitions.reward.cpu().numpy().astype(np.float64)
        step = np.arange(len(self)) - np.repeat(self._start, self.episode_lengths())
        return np.add.reduceat(reward * discount**step, self._start)

    def episode_lengths(self) -> NDArray[np.int64]:
        """Number of steps of every episode, shape ``[episodes]``."""
        return (self._end - self._start).astype(np.int64)

    def sample(self, batch_size: int, generator: torch.Generator) -> Transitions:
        """Transitions drawn uniformly with replacement; only the batch is copied.

        Args:
            batch_size: At least 1.
            generator: Torch generator on the dataset's device.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        index = torch.randint(len(self), (batch_size,), generator=generator, device=self.device)
        return self.transitions.rows(index)

    def normalizer(self, epsilon: float = 1e-3) -> Normalizer | None:
        """The normalizer of this dataset's observations, for the agent to carry; None for discrete observations."""
        if not self.transitions.observation.is_floating_point():
            return None
        return Normalizer.fit(self.transitions.observation, epsilon)

    def to(self, device: str | torch.device) -> "OfflineDataset":
        """The same data on another device."""
        return self._with(self.transitions.to(device))

    def episodes(self, index: ArrayLike) -> "OfflineDataset":
        """The dataset of the given episodes, in the given order.

        Args:
            index: Episode numbers, not empty, each in 0…num_episodes − 1.
        """
        index = np.asarray(index, dtype=np.intp).reshape(-1)
        if index.size == 0 or index.min() < 0 or index.max() >= self.num_episodes:
            raise ValueError(f"episode numbers must lie in 0…{self.num_episodes - 1} and not be empty, got {index}")
        rows = np.concatenate([np.arange(self._start[i], self._end[i]) for i in index])
        return self._with(self.transitions.rows(torch.as_tensor(rows, device=self.device)))

    def split(self, fraction: float, seed: int) -> tuple["OfflineDataset", "OfflineDataset"]:
        """Two datasets of whole episodes, the first with about ``fraction`` of them; at least one episode each."""
        if not 0.0 < fraction < 1.0:
            raise ValueError(f"fraction must lie in (0, 1), got {fraction}")
        if self.num_episodes < 2:
            raise ValueError("splitting needs at least two episodes, got one")
        order = np.random.default_rng(seed).permutation(self.num_episodes)
        cut = min(max(round(fraction * self.num_episodes), 1), self.num_episodes - 1)
        return self.episodes(np.sort(order[:cut])), self.episodes(np.sort(order[cut:]))

    def top_episodes(self, fraction: float) -> "OfflineDataset":
        """The episodes of highest return, in their order in the data (book eq. top-episodes).

        Of episodes with the same return the earlier ones are kept.

        Args:
            fraction: Share of the episodes, in (0, 1]; at least one episode is kept.
        """
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
        number = max(round(fraction * self.num_episodes), 1)
        best_first = np.argsort(-self.episode_returns(), kind="stable")
        return self.episodes(np.sort(best_first[:number]))

    def relabelled(self, value_target: Tensor) -> "OfflineDataset":
        """The same data, not copied, whose batches carry ``value_target``, shape ``[N]``."""
        twin = copy.copy(self)
        twin.transitions = replace(self.transitions, value_target=value_target)
        return twin

    def action_distribution(self) -> NDArray[np.float64]:
        """Share of every action, shape ``[A]``; discrete actions only."""
        if not isinstance(self.action_space, gym.spaces.Discrete):
            raise ValueError(f"action_distribution needs discrete actions, got {self.action_space}")
        first = int(self.action_space.start)
        count = torch.bincount(self.transitions.action - first, minlength=int(self.action_space.n))
        return (count.double() / len(self)).cpu().numpy()

    def visit_counts(self, model: TabularModel) -> NDArray[np.int64]:
        """How often every state-action pair of a finite problem occurs, shape ``[S, A]`` (book eq. coverage)."""
        pair = self._pairs(model)
        return np.bincount(pair, minlength=model.num_states * model.num_actions).reshape(model.num_states, -1)

    def _pairs(self, model: TabularModel) -> NDArray[np.int64]:
        """Index ``state * A + action`` of every transition; decisions are taken in states that are not terminal."""
        if not isinstance(self.action_space, gym.spaces.Discrete) or self.action_space.n != model.num_actions:
            raise ValueError(f"the model has {model.num_actions} actions, the data {self.action_space}")
        alive = np.flatnonzero(~model.terminal)
        state = _shown_states(model, alive, self.transitions.observation.cpu().numpy())
        return state * model.num_actions + self.transitions.action.cpu().numpy() - int(self.action_space.start)

    def empirical_counts(self, model: TabularModel) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """What the data say about a finite problem: transitions seen ``[S, A, S]`` and reward sums ``[S, A]``."""
        states, actions = model.num_states, model.num_actions
        pair, following = self._pairs(model), np.empty(len(self), dtype=np.intp)
        terminated = self.transitions.terminated.cpu().numpy()
        for ended in (False, True):  # a terminal state may look like another one
            candidates, rows = np.flatnonzero(model.terminal == ended), terminated == ended
            if ended and model.horizon is not None:  # running out of time ends an episode in any state
                candidates = np.concatenate([candidates, np.flatnonzero(~model.terminal)])
            seen = self.transitions.next_observation.cpu().numpy()[rows]
            following[rows] = _shown_states(model, candidates, seen) if rows.any() else 0
        counts = np.bincount(pair * states + following, minlength=states * actions * states)
        rewards = np.bincount(pair, self.transitions.reward.cpu().numpy().astype(np.float64), states * actions)
        return counts.reshape(states, actions, states).astype(np.int64), rewards.reshape(states, actions).astype(
            np.float64
        )

    def quality(self, model: TabularModel | None = None) -> pd.Series:
        """What the data hold, as a named series.

        Args:
            model: With the exact model, coverage is reported too: the number of distinct state-action pairs seen, and
                their share of all pairs in states that are not terminal.
        """
        returns, lengths = self.episode_returns(), self.episode_lengths()
        report: dict[str, Any] = {
            "episodes": self.num_episodes,
            "transitions": len(self),
            "return_mean": returns.mean(),
            "return_std": returns.std(),
            "return_min": returns.min(),
            "return_max": returns.max(),
            "length_mean": lengths.mean(),
            "terminated_share": float(self.transitions.terminated.sum()) / self.num_episodes,
        }
        if isinstance(self.action_space, gym.spaces.Discrete):
            report |= {f"action_{a}_share": share for a, share in enumerate(self.action_distribution())}
        if model is not None:
            seen = int((self.visit_counts(model) > 0).sum())
            report["pairs_seen"] = seen
            report["pairs_share"] = seen / ((~model.terminal).sum() * model.num_actions)
        return pd.Series(report, name=self.policy or "dataset", dtype=object)

    def to_minari(self, dataset_id: str, *, overwrite: bool = False, **metadata: Any) -> None:
        """Write the data as a Minari dataset (HDF5); see :func:`ca14lib.data.minari_files.write`."""
        from ca14lib.data import minari_files

        minari_files.write(self, dataset_id, overwrite=overwrite, **metadata)

    @classmethod
    def from_minari(cls, dataset_id: str, environment_id: str | None = None) -> "OfflineDataset":
        """Read a Minari dataset; see :func:`ca14lib.data.minari_files.read`."""
        from ca14lib.data import minari_files

        return minari_files.read(dataset_id, environment_id)

    @classmethod
    def from_hdf5(cls, path: str | Path, environment_id: str | None = None) -> "OfflineDataset":
        """Read a D4RL-style HDF5 file; see :func:`ca14lib.data.hdf5_files.read`."""
        from ca14lib.data import hdf5_files

        return hdf5_files.read(path, environment_id)

    def _with(self, transitions: Transitions) -> "OfflineDataset":
        kept = [item.name for item in fields(transitions) if "mask" not in item.name and item.name != "value_target"]
        return OfflineDataset(
            **{name: getattr(transitions, name) for name in kept},
            observation_space=self.observation_space,
            action_space=self.action_space,
            environment_id=self.environment_id,
            environment_arguments=self.environment_arguments,
            policy=self.policy,
            seed=self.seed,
            device=transitions.reward.device,
        )


def _shown_states(model: TabularModel, candidates: NDArray[np.intp], observation: NDArray) -> NDArray[np.intp]:
    """The first of the candidate states that looks like each observation ``[N, …]``; the time seen is left aside."""
    table = model.observation[candidates]
    if model.observes_time:
        table, observation = table.reshape(len(table), -1), observation[:, :-1]
    return candidates[row_index(table, observation)]


def _tensor(name: str, values: ArrayLike | Tensor, size: int) -> Tensor:
    # a copy, so that the caller's later changes do not reach the data
    tensor = values.clone() if isinstance(values, Tensor) else torch.tensor(np.asarray(values))
    if tensor.ndim == 0 or len(tensor) != size:
        raise ValueError(f"{name} must have {size} rows like reward, got shape {tuple(tensor.shape)}")
    return tensor


def _real(name: str, values: ArrayLike | Tensor, shape: tuple[int | None, ...]) -> Tensor:
    tensor = _tensor(name, values, shape[0] or 0)
    if tensor.ndim != len(shape):
        raise ValueError(f"{name} must have {len(shape)} dimension(s), got shape {tuple(tensor.shape)}")
    tensor = tensor.float()
    if not tensor.isfinite().all():
        raise ValueError(f"{name} must be finite, got {tensor[~tensor.isfinite()][0].item()}")
    return tensor


def _flags(name: str, values: ArrayLike | Tensor, size: int) -> Tensor:
    tensor = _tensor(name, values, size)
    if tensor.dtype != torch.bool or tensor.ndim != 1:
        raise ValueError(f"{name} must be a vector of booleans, got dtype {tensor.dtype}, shape {tuple(tensor.shape)}")
    return tensor


def _in_space(name: str, values: ArrayLike | Tensor, space: gym.Space, size: int) -> Tensor:
    tensor = _tensor(name, values, size)
    if not isinstance(space, gym.spaces.Box | gym.spaces.Discrete):
        raise ValueError(f"{name} must live in a Box or Discrete space, got {space}")
    if tuple(tensor.shape[1:]) != space.shape:
        raise ValueError(f"{name} must have shape ({size}, *{space.shape}), got {tuple(tensor.shape)}")
    if isinstance(space, gym.spaces.Discrete):
        if tensor.is_floating_point() or tensor.dtype == torch.bool:
            raise ValueError(f"{name} must be integers, got dtype {tensor.dtype}")
        outside = (tensor < int(space.start)) | (tensor >= int(space.start + space.n))
        tensor = tensor.long()
    else:
        tensor = tensor.float()
        if not tensor.isfinite().all():
            raise ValueError(f"{name} must be finite, got {tensor[~tensor.isfinite()][0].item()}")
        low, high = torch.as_tensor(space.low).float(), torch.as_tensor(space.high).float()
        outside = (tensor < low.to(tensor.device)) | (tensor > high.to(tensor.device))
    if outside.any():
        raise ValueError(f"{name} must lie in {space}, got {tensor[outside][0].item()}")
    return tensor


def _check_continuity(transitions: Transitions, ended: Tensor) -> None:
    """Within an episode, each step starts where the one before ended."""
    jump = transitions.next_observation[:-1] != transitions.observation[1:]
    if jump.ndim > 1:
        jump = jump.flatten(1).any(1)
    broken = jump & ~ended[:-1].to(jump.device)
    if broken.any():
        step = int(broken.nonzero()[0])
        raise ValueError(
            f"episodes must be whole: next_observation[{step}] differs from observation[{step + 1}], "
            "and no episode ends between them"
        )
