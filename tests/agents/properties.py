"""Tables of properties, and the checks that properties of several tables share.

A property is a function that raises AssertionError where an agent lacks it. It looks the code under test up in its
module, so that a planted fault is what runs.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ca14lib.agents import Agent
from ca14lib.data import Transitions
from tests.agents.reference import Reference, weights

Property = Callable[[], None]
Properties = dict[str, dict[str, Property]]  # of each algorithm, by name
Each = Callable[[str], None]  # a property that takes the algorithm's name


def property_table(
    *algorithms: str,
) -> tuple[Properties, Callable[..., Callable[[Property], Property]], Callable[..., Callable[[Each], Each]]]:
    """An empty table and its two decorators, which register a function under its name, with hyphens.

    ``property_of(*algorithms)`` takes a property, ``each(*algorithms)`` one that is told the algorithm.
    """
    table: Properties = {algorithm: {} for algorithm in algorithms}

    def register(check: Callable, algorithm: str, holds: Property) -> None:
        name = check.__name__.replace("_", "-")
        assert name not in table[algorithm], f"{algorithm} has two properties {name}"
        table[algorithm][name] = holds

    def property_of(*algorithms: str) -> Callable[[Property], Property]:
        def decorate(check: Property) -> Property:
            for algorithm in algorithms:
                register(check, algorithm, check)
            return check

        return decorate

    def each(*algorithms: str) -> Callable[[Each], Each]:
        def decorate(check: Each) -> Each:
            for algorithm in algorithms:
                register(check, algorithm, lambda a=algorithm: check(a))
            return check

        return decorate

    return table, property_of, each


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor], tolerance: float = 1e-7) -> None:
    assert first.keys() == second.keys(), f"{sorted(first)} and {sorted(second)}"
    for name, value in first.items():
        torch.testing.assert_close(
            value, second[name], rtol=tolerance, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}"
        )


def assert_follows(agent: Agent, reference: Reference, algorithm: str, batches: Iterable[Transitions]) -> None:
    """After every update every parameter, trained or target, and everything logged is the reference's."""
    for batch in batches:
        assert_same(agent.update(batch), getattr(reference, algorithm)(batch))
        assert_same(weights(agent), reference.weights)


def assert_truncation_is_ignored(make: Callable[[], Agent], batches: Iterable[Transitions]) -> None:
    first, second = make(), make()
    for batch in batches:
        first.update(batch)
        second.update(replace(batch, truncated=torch.zeros_like(batch.truncated)))
    assert_same(weights(first), weights(second), 0.0)


def assert_what_follows_a_true_end_is_ignored(make: Callable[[], Agent], batch: Transitions) -> None:
    first, second, third = (make() for _ in range(3))
    elsewhere = batch.next_observation + 1.0
    first.update(batch)
    second.update(replace(batch, next_observation=elsewhere.where(batch.terminated[:, None], batch.next_observation)))
    assert_same(weights(first), weights(second), 0.0)
    third.update(replace(batch, next_observation=elsewhere.where(batch.truncated[:, None], batch.next_observation)))
    moved = [not torch.equal(value, weights(third)[name]) for name, value in weights(first).items()]
    assert any(moved), "what follows a cut must count"


# One-step tasks with one state, whose solutions have closed forms

ONE = np.ones((1, 1), dtype=np.float32)  # the state


def one_state_batch(action: np.ndarray | list, reward: np.ndarray | list) -> Transitions:
    """One-step episodes; the whole batch is the dataset. Actions that are no whole numbers have one dimension."""
    size, action = len(action), torch.as_tensor(action)
    return Transitions(
        observation=torch.ones(size, 1),
        action=action.float().unsqueeze(1) if action.is_floating_point() else action,
        reward=torch.as_tensor(reward, dtype=torch.float32),
        cost=torch.zeros(size, 0),
        next_observation=torch.zeros(size, 1),
        terminated=torch.ones(size, dtype=torch.bool),
        truncated=torch.zeros(size, dtype=torch.bool),
    )


def fit(agent: Agent, batch: Transitions, updates: int, rate: float) -> None:
    """Train on the same batch again and again, with a decaying step size."""
    for number in range(updates):
        for optimizer in agent.optimizers.values():
            optimizer.param_groups[0]["lr"] = rate * (1 - number / updates)
        agent.update(batch)
