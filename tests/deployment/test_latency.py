"""Latencies are quantiles of what a clock shows, after warm-up, on one thread."""

import numpy as np
import pytest
import torch

from ca14lib.deployment import latency as module
from ca14lib.deployment.latency import measure_latency, one_thread


class Scripted:
    """A policy whose decisions take what a list says, on a clock of its own."""

    def __init__(self, milliseconds) -> None:
        self.durations, self.now, self.seen, self.threads = list(milliseconds), 0, [], set()

    def act(self, observation, *, deterministic=False):
        assert deterministic
        self.seen.append(observation.copy())
        self.threads.add(torch.get_num_threads())
        self.now += int(1e6 * self.durations[len(self.seen) - 1])
        return np.zeros(len(observation), dtype=np.int64)

    def clock(self) -> int:
        return self.now


def measured(milliseconds, warm_up=0, rows=3):
    policy = Scripted(milliseconds)
    decisions = len(policy.durations) - warm_up
    observation = np.arange(rows, dtype=np.float32)[:, None]
    found = measure_latency(policy, observation, decisions, warm_up=warm_up, clock=policy.clock, cpu_clock=policy.clock)
    return found, policy


def test_quantiles_are_the_least_times_that_enough_decisions_keep():
    order = np.random.default_rng(0).permutation(200) + 1.0
    found, _ = measured(order)
    assert found == (100.0, 198.0, 200.0, 198.0, 200)


def test_a_rare_pause_shows_in_the_maximum_and_a_frequent_one_in_the_p99():
    rare = np.ones(1_000)
    rare[::200] = 50.0  # 0.5%
    frequent = np.ones(1_000)
    frequent[::50] = 50.0  # 2%
    assert measured(rare)[0][:3] == (1.0, 1.0, 50.0)
    assert measured(frequent)[0][:3] == (1.0, 50.0, 50.0)


def test_warm_up_is_not_timed_and_every_decision_is_for_one_row_in_turn():
    found, policy = measured([1_000.0] * 5 + [2.0] * 100, warm_up=5)
    assert found.max == 2.0
    assert {row.shape for row in policy.seen} == {(1, 1)}
    assert [float(row[0, 0]) for row in policy.seen[5:9]] == [0.0, 1.0, 2.0, 0.0]


def test_torch_has_one_thread_while_it_is_timed_and_its_own_number_again():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        _, policy = measured([1.0] * 100)
        assert policy.threads == {1}
        assert torch.get_num_threads() == 2
        with pytest.raises(KeyError), one_thread():
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"observation": np.zeros((0, 3))}, "at least one row"),
        ({"decisions": 99}, "at least 100 for a p99, got 99"),
        ({"warm_up": -1}, "must not be negative, got -1"),
    ],
)
def test_bad_input_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        measure_latency(Scripted([]), **{"observation": np.zeros((1, 3))} | arguments)


# Planted faults


def test_an_average_in_the_place_of_the_p99_is_caught(monkeypatch):
    monkeypatch.setattr(module, "_upper_quantile", lambda nanoseconds, share: float(nanoseconds.mean() / 1e6))
    with pytest.raises(AssertionError):
        test_a_rare_pause_shows_in_the_maximum_and_a_frequent_one_in_the_p99()


def test_interpolated_quantiles_are_caught(monkeypatch):
    monkeypatch.setattr(module, "_upper_quantile", lambda values, share: float(np.quantile(values, share) / 1e6))
    with pytest.raises(AssertionError):
        test_quantiles_are_the_least_times_that_enough_decisions_keep()
