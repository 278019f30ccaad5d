"""Planting faults: a fault swaps one piece of the package for a wrong one, and names the properties that must notice.

The tables of faults are in the files ``faults_*.py``, one function for each fault.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from torch import Tensor
from torch.optim import Optimizer

from ca14lib.agents import Agent
from ca14lib.data import Transitions

Plant = Callable[[pytest.MonkeyPatch], None]


@dataclass(frozen=True)
class Fault:
    """A planted fault: its algorithm, what it does, and the properties each of which must fail."""

    algorithm: str
    plant: Plant
    caught_by: tuple[str, ...]


def fault_table() -> tuple[dict[str, Fault], Callable[..., Callable[[Plant], Plant]]]:
    """An empty table and its decorator ``fault(*caught_by)``.

    The decorator registers a fault under its function's name, ``algorithm_what_is_wrong``, with hyphens.
    """
    table: dict[str, Fault] = {}

    def fault(*caught_by: str) -> Callable[[Plant], Plant]:
        def register(plant: Plant) -> Plant:
            name = plant.__name__.replace("_", "-")
            assert name not in table, f"there are two faults {name}"
            table[name] = Fault(name.split("-")[0], plant, caught_by)
            return plant

        return register

    return table, fault


# Pieces of faults


def sees(cls: type[Agent], change: Callable[[Agent, Transitions], Transitions]) -> Plant:
    """The agent's update gets a changed batch."""
    healthy = cls.update
    return lambda patch: patch.setattr(cls, "update", lambda self, batch: healthy(self, change(self, batch)))


def end_at_cuts(agent: Agent, batch: Transitions) -> Transitions:
    return replace(batch, terminated=batch.terminated | batch.truncated)


def endless(reward: Tensor, terminated: Tensor, value: Tensor, discount: float) -> Tensor:
    """A target that bootstraps also after a true end."""
    return reward + discount * value


def descend(loss: Tensor, *optimizers: Optimizer) -> Tensor:
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()
    return loss.detach()
