"""How long one decision takes: quantiles over many, on one thread, after warm-up. Book: evaluation/deployment."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

Clock = Callable[[], int]


class Latency(NamedTuple):
    """Times of single decisions in ms: quantiles of the wall clock, and the p99 of the processor time.

    ``p99`` holds what other processes took, ``cpu_p99`` does not; on an idle core the two are the same.
    """

    p50: float
    p99: float
    max: float
    cpu_p99: float
    decisions: int


def measure_latency(
    policy: Any,
    observation: ArrayLike,
    decisions: int = 2_000,
    *,
    warm_up: int = 200,
    clock: Clock = time.perf_counter_ns,
    cpu_clock: Clock = time.thread_time_ns,
) -> Latency:
    """Time decisions of one observation each (book eq. evaluation-latency).

    Args:
        policy: Anything with ``act(observation, deterministic=True)``: an agent, an exported policy, a monitor.
        observation: ``[N, …]``; decision i is for row i mod N.
        decisions: How many are timed. The p99 of fewer than 100 would be their maximum.
        warm_up: How many come before, untimed.
        clock: Wall clock in ns.
        cpu_clock: Processor time in ns.
    Raises:
        ValueError: If there are fewer than 100 decisions, no observation, or a negative warm-up.
    """
    rows = np.asarray(observation)
    if rows.ndim == 0 or len(rows) == 0:
        raise ValueError(f"observation must be [N, ...] with at least one row, got shape {rows.shape}")
    if decisions < 100:
        raise ValueError(f"decisions must be at least 100 for a p99, got {decisions}")
    if warm_up < 0:
        raise ValueError(f"warm_up must not be negative, got {warm_up}")
    wall, cpu = np.zeros(decisions), np.zeros(decisions)
    with one_thread():
        for step in range(-warm_up, decisions):
            row = rows[step % len(rows)][None]
            begun, cpu_begun = clock(), cpu_clock()
            policy.act(row, deterministic=True)
            cpu_ended, ended = cpu_clock(), clock()
            if step >= 0:
                wall[step], cpu[step] = ended - begun, cpu_ended - cpu_begun
    p50, p99, longest = (_upper_quantile(wall, share) for share in (0.5, 0.99, 1.0))
    return Latency(p50, p99, longest, _upper_quantile(cpu, 0.99), decisions)


def _upper_quantile(nanoseconds: NDArray[np.float64], share: float) -> float:
    """The least observed time, in ms, that at least this share of the decisions does not exceed."""
    return float(np.quantile(nanoseconds, share, method="inverted_cdf") / 1e6)


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch use one thread for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
