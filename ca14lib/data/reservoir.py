"""A memory of fixed size: a uniform sample of everything ever seen (Vitter, 1985). Book: evaluation/continual."""

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from ca14lib.data.transitions import Transitions


def reservoir_slots(seen: int, count: int, capacity: int, generator: torch.Generator) -> Tensor:
    r"""Where each of the next items of a stream goes, ``[count]``; −1 for nowhere (book eq. continual-reservoir).

    Item n goes to slot n − 1 while there is room, afterwards to a uniform slot with probability capacity / n.

    Args:
        seen: Items before these.
        count: Number of new items.
        capacity: Size of the memory, at least 1.
        generator: Of the draws.
    """
    if capacity < 1:
        raise ValueError(f"capacity must be at least 1, got {capacity}")
    number = torch.arange(seen + 1, seen + count + 1, dtype=torch.float64)
    slot = (torch.rand(count, generator=generator, dtype=torch.float64) * number).long()
    slot = torch.where(number <= capacity, number.long() - 1, slot)
    return torch.where(slot < capacity, slot, -1)


class Reservoir:
    """Transitions kept from a stream, each with the same probability whenever it came.

    Args:
        capacity: Transitions kept, at least 1.
    """

    def __init__(self, capacity: int) -> None:
        reservoir_slots(0, 0, capacity, torch.Generator())  # refuses a capacity out of range
        self.capacity, self.seen = capacity, 0
        self._rows: Transitions | None = None

    def __len__(self) -> int:
        """Number of transitions held."""
        return min(self.seen, self.capacity)

    def add(self, batch: Transitions, generator: torch.Generator) -> None:
        """The next transitions of the stream, in their order."""
        if len(batch) == 0:
            return
        slots = reservoir_slots(self.seen, len(batch), self.capacity, generator).tolist()
        last = {slot: row for row, slot in enumerate(slots) if slot >= 0}  # a later item replaces an earlier one
        held = len(self)
        source = list(range(held)) + [-1] * (min(self.capacity, self.seen + len(batch)) - held)
        for slot, row in last.items():
            source[slot] = held + row
        joined = batch if self._rows is None else _joined(self._rows, batch)
        self._rows = joined.rows(torch.tensor(source))
        self.seen += len(batch)

    def sample(self, batch_size: int, generator: torch.Generator) -> Transitions:
        """Transitions drawn uniformly with replacement.

        Raises:
            ValueError: If nothing is held.
        """
        if self._rows is None:
            raise ValueError("the reservoir is empty: add transitions before sampling")
        return self._rows.rows(torch.randint(len(self), (batch_size,), generator=generator))


def _joined(first: Transitions, second: Transitions) -> Transitions:
    pairs = {item.name: (getattr(first, item.name), getattr(second, item.name)) for item in fields(Transitions)}
    joined: dict[str, Any] = {name: None if a is None else torch.cat([a, b]) for name, (a, b) in pairs.items()}
    return Transitions(**joined)
