"""A buffer that keeps unsafe transitions apart, so that rare ones are not overwritten. Book: safe/mechanisms."""

from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ca14lib.data.replay import COLUMNS
from ca14lib.data.transitions import Transitions


@dataclass(frozen=True, eq=False)
class SafetyBatch:
    """A stratified draw and the weights that undo the stratification.

    Attributes:
        transitions: ``B`` transitions, unsafe ones first.
        weight: ``[B]`` float32, book eq. safety-buffer-weight: the mean of weight × value estimates the mean of the
            value over everything that was ever added.
        unsafe: ``[B]`` bool.
    """

    transitions: Transitions
    weight: Tensor
    unsafe: Tensor

    def __len__(self) -> int:
        return len(self.weight)


class SafetyBuffer:
    """Two rings of transitions: one for those whose cost exceeds a threshold, one for all others.

    Args:
        observation_space: ``Box`` or ``Discrete`` space of one observation.
        action_space: ``Box`` or ``Discrete`` space of one action.
        num_costs: K, the number of costs.
        capacity: Unsafe transitions kept, the newest ones.
        safe_capacity: Safe transitions kept; None for as many.
        threshold: A transition is unsafe if one of its costs exceeds this; a number, or one for every cost.
        device: Where the buffer lives and batches are drawn.
    Raises:
        ValueError: If a size is below 1 or a threshold is negative or not finite.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        num_costs: int = 1,
        *,
        capacity: int = 10_000,
        safe_capacity: int | None = None,
        threshold: float | ArrayLike = 0.0,
        device: str | torch.device = "cpu",
    ) -> None:
        safe_capacity = capacity if safe_capacity is None else safe_capacity
        for name, value in (("num_costs", num_costs), ("capacity", capacity), ("safe_capacity", safe_capacity)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        limits = np.asarray(threshold, dtype=np.float64)
        if limits.shape not in ((), (num_costs,)) or not np.isfinite(limits).all() or (limits < 0).any():
            raise ValueError(f"threshold must be one number >= 0, or one for each of {num_costs} costs, got {limits}")
        self.observation_space, self.action_space, self.num_costs = observation_space, action_space, num_costs
        self.threshold = limits
        observation = _column(observation_space)
        flag, number = ((), torch.bool), ((), torch.float32)
        kinds = dict(zip(COLUMNS, (observation, _column(action_space), number, observation, flag, flag), strict=True))
        kinds["cost"] = ((num_costs,), torch.float32)
        self._rings = {unsafe: _Ring(kinds, (safe_capacity, capacity)[unsafe], device) for unsafe in (False, True)}

    @property
    def seen_unsafe(self) -> int:
        """Unsafe transitions ever added, overwritten ones included."""
        return self._rings[True].added

    @property
    def seen_safe(self) -> int:
        """Safe transitions ever added."""
        return self._rings[False].added

    def __len__(self) -> int:
        """Number of transitions held."""
        return sum(len(ring) for ring in self._rings.values())

    def add(self, **step: ArrayLike) -> None:
        """``N`` transitions: the keywords of ``COLUMNS`` and ``cost``, each ``[N, …]``; cost ``[N, K]``, or ``[N]``.

        All is checked before anything is stored: a call that fails leaves the buffer as it was.

        Raises:
            ValueError: Naming a column that is missing, unknown or of another shape, or a cost that is negative or
                not a number.
        """
        expected = (*COLUMNS, "cost")
        if set(step) != set(expected):
            raise ValueError(f"a step has {', '.join(expected)}, got {', '.join(step)}")
        values = {name: np.asarray(value) for name, value in step.items()}
        if values["cost"].ndim == 1 and self.num_costs == 1:
            values["cost"] = values["cost"][:, None]
        rows = values["reward"].size
        columns = self._rings[True].columns
        for name, value in values.items():
            shape = (rows, *columns[name].shape[1:])
            if value.shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {value.shape}")
        cost = values["cost"].astype(np.float64)
        if not (np.isfinite(cost) & (cost >= 0)).all():
            raise ValueError(f"cost must be finite and not negative, got {cost[~(np.isfinite(cost) & (cost >= 0))][0]}")
        unsafe = torch.from_numpy((cost > self.threshold).any(axis=1))
        tensors = {
            name: torch.as_tensor(value, dtype=columns[name].dtype, device=columns[name].device)
            for name, value in values.items()
        }
        for kind, ring in self._rings.items():
            ring.add({name: value[unsafe if kind else ~unsafe] for name, value in tensors.items()})

    def held(self, *, unsafe: bool) -> Transitions:
        """The unsafe (or the safe) transitions held, oldest first."""
        ring = self._rings[unsafe]
        return ring.rows((torch.arange(len(ring)) + max(ring.added - ring.capacity, 0)) % ring.capacity)

    def sample(self, batch_size: int, generator: torch.Generator, *, unsafe_share: float = 0.5) -> SafetyBatch:
        """A batch of which a given share is unsafe, drawn uniformly with replacement within each kind.

        The share is rounded to whole transitions, at least one of each kind; where only one kind has been seen, the
        whole batch is of it.

        Args:
            batch_size: B, at least 2.
            generator: Source of the draws.
            unsafe_share: In (0, 1).
        Raises:
            ValueError: If nothing has been added or an argument is out of range.
        """
        if batch_size < 2:
            raise ValueError(f"batch_size must be at least 2, one of each kind, got {batch_size}")
        if not 0.0 < unsafe_share < 1.0:
            raise ValueError(f"unsafe_share must lie in (0, 1), got {unsafe_share}")
        if len(self) == 0:
            raise ValueError("the safety buffer is empty: add transitions before sampling")
        count = stratum_size(batch_size, unsafe_share, self.seen_unsafe, self.seen_safe)
        parts = [self._rings[True].draw(count, generator), self._rings[False].draw(batch_size - count, generator)]
        transitions = Transitions(**{name: torch.cat([part[name] for part in parts]) for name in parts[0]})
        unsafe = torch.arange(batch_size, device=transitions.reward.device) < count
        of_unsafe, of_safe = stratum_weights(count, batch_size, self.seen_unsafe, self.seen_safe)
        return SafetyBatch(transitions, torch.where(unsafe, of_unsafe, of_safe).float(), unsafe)


def stratum_size(batch_size: int, unsafe_share: float, seen_unsafe: int, seen_safe: int) -> int:
    """Number of unsafe transitions in a batch: the share, rounded, and at least one of every kind that was seen."""
    if seen_unsafe == 0 or seen_safe == 0:
        return batch_size if seen_safe == 0 else 0
    return min(max(round(unsafe_share * batch_size), 1), batch_size - 1)


def stratum_weights(count: int, batch_size: int, seen_unsafe: int, seen_safe: int) -> tuple[float, float]:
    """Importance weights of unsafe and of safe transitions (book eq. safety-buffer-weight).

    The share of the kind among everything seen, over its share of the batch. Kinds that are not in the batch get 0.
    """
    seen = seen_unsafe + seen_safe
    return tuple(  # type: ignore[return-value]
        (total / seen) / (drawn / batch_size) if drawn else 0.0
        for total, drawn in ((seen_unsafe, count), (seen_safe, batch_size - count))
    )


class _Ring:
    """Rows of named columns, the oldest overwritten first."""

    def __init__(
        self, kinds: dict[str, tuple[tuple[int, ...], torch.dtype]], capacity: int, device: str | torch.device
    ) -> None:
        self.capacity, self.added = capacity, 0
        self.columns = {
            name: torch.zeros((capacity, *shape), dtype=dtype, device=device) for name, (shape, dtype) in kinds.items()
        }

    def __len__(self) -> int:
        return min(self.added, self.capacity)

    def add(self, rows: dict[str, Tensor]) -> None:
        count = len(rows["reward"])
        kept = min(count, self.capacity)  # of more rows than there is room for, the last ones stay
        where = (torch.arange(kept) + self.added + count - kept) % self.capacity
        for name, column in self.columns.items():
            column[where.to(column.device)] = rows[name][count - kept :]
        self.added += count

    def rows(self, index: Tensor) -> Transitions:
        return Transitions(**{name: column[index.to(column.device)] for name, column in self.columns.items()})

    def draw(self, count: int, generator: torch.Generator) -> dict[str, Any]:
        index = torch.randint(max(len(self), 1), (count,), generator=generator, device=generator.device)
        return {name: column[index.to(column.device)] for name, column in self.columns.items()}


def _column(space: gym.Space) -> tuple[tuple[int, ...], torch.dtype]:
    discrete = isinstance(space, gym.spaces.Discrete)
    if not discrete and not isinstance(space, gym.spaces.Box):
        raise ValueError(f"spaces must be Box or Discrete, got {space}")
    return space.shape or (), torch.int64 if discrete else torch.float32
