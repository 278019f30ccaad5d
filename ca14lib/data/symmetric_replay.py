"""A replay buffer whose batches are part log, part new experience (Ball et al., 2023). Book: evaluation/fine_tuning."""

from typing import Any

import torch
from torch import Tensor

from ca14lib.data.dataset import OfflineDataset
from ca14lib.data.replay import COLUMNS, ReplayBuffer
from ca14lib.data.transitions import Transitions


def log_rows(batch_size: int, share: float) -> int:
    r"""How many rows of a batch of B come from the log, :math:`\varrho B` (book eq. fine-tuning-symmetric).

    Args:
        batch_size: :math:`B`, at least 1.
        share: :math:`\varrho` in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must lie in [0, 1], got {share}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    return round(share * batch_size)


class SymmetricReplay(ReplayBuffer):
    """A :class:`ReplayBuffer` for ``train_off_policy(buffer=…)`` that mixes a log into every batch.

    The share of the log is the same however long or short it is: the first steps of the new experience are seen as
    much as the whole log together. Checkpoints hold the new experience alone.

    Args:
        dataset: The log, on the device of the agent.
        capacity: New transitions kept, as in :class:`ReplayBuffer`.
        share: Of every batch that comes from the log, in [0, 1]; a half is the symmetric sampling of the paper.
        num_envs: Environments stepped together.
    """

    def __init__(self, dataset: OfflineDataset, capacity: int, *, share: float = 0.5, num_envs: int = 1) -> None:
        log_rows(1, share)  # refuses a share out of range
        super().__init__(
            dataset.observation_space, dataset.action_space, capacity, num_envs=num_envs, device=dataset.device
        )
        self.log, self.share = dataset, share

    def sample(self, batch_size: int, generator: torch.Generator) -> Transitions:
        """Transitions drawn uniformly with replacement, first those of the log, then the new ones.

        Raises:
            ValueError: If there is no new experience yet and the batch needs some.
        """
        logged = log_rows(batch_size, self.share)
        parts = [self.log.sample(logged, generator)] if logged else []
        parts += [super().sample(batch_size - logged, generator)] if logged < batch_size else []
        joined: dict[str, Any] = {name: torch.cat([getattr(part, name) for part in parts]) for name in COLUMNS}
        reward: Tensor = joined["reward"]
        return Transitions(**joined, cost=reward.new_zeros((batch_size, 0)))
