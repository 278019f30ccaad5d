"""ContinualDQN and its memory: pure functions against closed forms, and faults that are noticed."""

import collections
import functools
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.utils import parameters_to_vector

import ca14lib.agents.hybrid.continual as continual
import ca14lib.data.reservoir as reservoir
from ca14lib.agents import DQN, check_agent
from ca14lib.data import Transitions
from tests.agents.hybrid.faults_continual import FAULTS
from tests.agents.properties import assert_same, property_table
from tests.agents.reference import weights
from tests.agents.reference_discrete import small_agent, small_batch

PROPERTIES, property_of, _ = property_table("elastic", "reservoir")


def small(**extra: object) -> continual.ContinualDQN:
    return small_agent(continual.ContinualDQN, **{"target_rate": 0.3} | extra)


def marked(seed: int, replayed: int = 4) -> Transitions:
    """A batch whose last rows are replayed."""
    batch = small_batch(seed)
    return replace(batch, value_target=(torch.arange(len(batch)) >= len(batch) - replayed).double())


@property_of("elastic")
def importance_of_a_linear_network_is_its_mean_squared_input() -> None:
    network = nn.Linear(2, 3).double()
    seen = torch.tensor([[1.0, 2.0], [-3.0, 0.0], [2.0, 1.0]], dtype=torch.float64)
    found = continual.diagonal_fisher(network, seen, torch.tensor([0, 0, 2]))
    expected = torch.tensor([[10.0, 4.0], [0.0, 0.0], [4.0, 1.0]], dtype=torch.float64) / 3
    bias = torch.tensor([2.0, 0.0, 1.0], dtype=torch.float64) / 3
    torch.testing.assert_close(found, torch.cat([expected.flatten(), bias]))


@property_of("elastic")
def two_merged_penalties_slope_like_their_sum() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second, place = (torch.randn(5, generator=generator) for _ in range(3))
    one, two = torch.tensor([1.0, 0.0, 2.0, 0.5, 0.0]), torch.tensor([3.0, 1.0, 0.0, 0.5, 0.0])
    anchor, importance = continual.merged_penalty(first, one, second, two)
    slope = importance * (place - anchor)
    torch.testing.assert_close(slope, one * (place - first) + two * (place - second))
    assert torch.equal(anchor[[1, 2, 4]], torch.stack([second[1], first[2], second[4]]))


@property_of("elastic")
def a_penalised_quadratic_rests_at_the_weighted_mean() -> None:
    """New task: half of 2 (θ − 1)²; old task: anchor 5 with importance 6 and weight 1/2 → (2·1 + 3·5) / 5."""
    place = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([place], lr=0.1)
    for _ in range(200):
        loss = (place - 1).square().sum()
        loss = loss + 0.5 * continual.elastic_penalty(place, torch.tensor([5.0]), torch.tensor([6.0]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert abs(float(place.detach()) - 17 / 5) < 1e-4, place


@property_of("elastic")
def without_weights_it_is_dqn() -> None:
    agent, plain = small(), small_agent(DQN, target_rate=0.3)
    agent.consolidate(small_batch(9))
    for seed in range(3):
        agent.update(marked(seed))
        plain.update(small_batch(seed))
    own, other = weights(agent), weights(plain)
    assert_same({name: own[name] for name in other}, other, 1e-12)


@property_of("elastic")
def a_heavy_penalty_holds_what_matters_and_frees_what_does_not() -> None:
    agent = small(penalty_weight=1e4, learning_rate=0.01)
    agent.consolidate(small_batch(9))
    agent.importance.zero_()
    agent.importance[::2] = 1.0  # by hand: every other weight matters
    before = parameters_to_vector(agent.q_network.parameters()).detach()
    for number in range(60):
        agent.update(small_batch(number % 3))
    moved = (parameters_to_vector(agent.q_network.parameters()).detach() - before).abs()
    assert moved[::2].mean() < 0.2 * moved[1::2].mean(), (moved[::2].mean(), moved[1::2].mean())


@property_of("elastic")
def only_replayed_rows_are_cloned() -> None:
    q, old = torch.tensor([[1.0, 3.0], [2.0, 0.0]]), torch.zeros(2, 2)
    found = continual.clone_loss(q, old, torch.tensor([0.0, 1.0]))
    assert float(found) == 1.0, "half the mean of 4 and 0"
    assert float(continual.clone_loss(q, old, torch.zeros(2))) == 0.0, "without replayed rows there is nothing to clone"


@property_of("elastic")
def the_teacher_is_the_network_after_the_last_task() -> None:
    agent = small(clone_weight=1.0)
    agent.update(marked(0))
    agent.consolidate(small_batch(1))
    assert float(agent.update(marked(2))["clone_loss"]) == 0.0, "right after a task nothing has changed"
    assert float(agent.update(marked(2))["clone_loss"]) > 0.0, "the teacher stays"


def numbered(count: int, start: int = 0) -> Transitions:
    """A stream whose rewards and actions are its numbers."""
    number = torch.arange(start, start + count)
    ends = torch.zeros(count, dtype=torch.bool)
    return Transitions(
        observation=number[:, None].float(), action=number, reward=number.float(), cost=torch.zeros(count, 0),
        next_observation=number[:, None].float() + 1, terminated=ends, truncated=ends,
    )  # fmt: skip


@property_of("reservoir")
def every_item_of_a_stream_is_kept_equally() -> None:
    generator, kept = torch.Generator().manual_seed(0), torch.zeros(30)
    for _ in range(600):
        memory = reservoir.Reservoir(6)
        for start in (0, 4, 17):
            memory.add(numbered({0: 4, 4: 13, 17: 13}[start], start), generator)
        assert (len(memory), memory.seen) == (6, 30)
        kept[memory._rows.action] += 1
    share = kept / 600
    assert (share - 0.2).abs().max() < 0.08, share  # five standard deviations of a share of 600


@property_of("reservoir")
def rows_of_an_item_stay_together() -> None:
    generator, memory = torch.Generator().manual_seed(1), reservoir.Reservoir(5)
    memory.add(numbered(40), generator)
    batch = memory.sample(50, generator)
    assert torch.equal(batch.reward, batch.action.float())
    assert torch.equal(batch.next_observation, batch.observation + 1)


CASES = {
    f"{algorithm}-{name}": holds for algorithm, properties in PROPERTIES.items() for name, holds in properties.items()
}


@functools.cache
def passes_on_healthy_code(case: str) -> bool:
    CASES[case]()
    return True


@pytest.mark.parametrize("case", CASES)
def test_property(case):
    assert passes_on_healthy_code(case)


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_caught(name, monkeypatch):
    fault = FAULTS[name]
    checks = [f"{fault.algorithm}-{caught}" for caught in fault.caught_by]
    assert checks, "a fault names at least one property"
    assert all(passes_on_healthy_code(case) for case in checks)
    fault.plant(monkeypatch)
    for case in checks:
        with pytest.raises(AssertionError):
            CASES[case]()


def test_every_algorithm_has_at_least_three_faults_and_no_property_is_idle():
    number = collections.Counter(fault.algorithm for fault in FAULTS.values())
    assert all(number[algorithm] >= 3 for algorithm in PROPERTIES), number
    failed = {f"{fault.algorithm}-{name}" for fault in FAULTS.values() for name in fault.caught_by}
    assert failed == CASES.keys()


def test_the_suite_passes():
    check_agent(continual.ContinualDQN)


def test_what_is_remembered_is_saved(tmp_path):
    agent = small(penalty_weight=1.0, clone_weight=1.0)
    agent.update(small_batch(0))
    agent.consolidate(small_batch(1))
    agent.save(tmp_path / "agent.safetensors")
    other = small(penalty_weight=1.0, clone_weight=1.0)
    other.load(tmp_path / "agent.safetensors")
    assert_same(agent.update(marked(2)), other.update(marked(2)), 0.0)
    assert_same(weights(agent), weights(other), 0.0)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: continual.ContinualDQNConfig(penalty_weight=-1.0), "penalty_weight must be finite and at least 0"),
        (lambda: continual.ContinualDQNConfig(clone_weight=float("inf")), "clone_weight must be finite"),
        (lambda: reservoir.Reservoir(0), "capacity must be at least 1, got 0"),
        (lambda: reservoir.Reservoir(3).sample(2, torch.Generator()), "the reservoir is empty"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
