"""One gradient update against the time of its bare matrix products.

    python -m benchmarks.update_speed [--rounds 300] [--bar 1.35]

Batch 256, two hidden layers of 256, 4 observation features, 4 actions, 100,000 random transitions, one thread. An
update counts sampling, normalisation, losses, Adam and the target network; the floor is only the products of its linear
layers, forward and, for what is trained, backward (gradients of all weights, and of all inputs but the first layer's):

    DQN, DiscreteCQL   Q(s) forward and backward; online Q(s') and target Q(s') forward
    DiscreteBC         policy forward and backward
    DiscreteIQL        V(s), twin Q(s,a) and policy forward and backward; target twin Q(s,a) and V(s') forward

Rounds of floor and update alternate, so that a machine whose speed drifts slows both; the figure is the ratio of
medians.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pandas as pd
import torch

from ca14lib.agents import AGENTS
from ca14lib.data import OfflineDataset
from ca14lib.experiments import write_results

BATCH, HIDDEN, FEATURES, ACTIONS, TRANSITIONS = 256, 256, 4, 4, 100_000

# (outputs, trained) of every pass through a network
PASSES = {
    "DQN": [(ACTIONS, True), (ACTIONS, False), (ACTIONS, False)],
    "DiscreteBC": [(ACTIONS, True)],
    "DiscreteCQL": [(ACTIONS, True), (ACTIONS, False), (ACTIONS, False)],
    "DiscreteIQL": [
        (1, True), (ACTIONS, True), (ACTIONS, True), (ACTIONS, True),
        (ACTIONS, False), (ACTIONS, False), (1, False),
    ],
}  # fmt: skip


def bare_products(passes: list[tuple[int, bool]]) -> Callable[[], None]:
    """A function that does the matrix products of the passes and nothing else."""
    inputs, hidden = torch.randn(BATCH, FEATURES), torch.randn(BATCH, HIDDEN)
    first, second = torch.randn(FEATURES, HIDDEN), torch.randn(HIDDEN, HIDDEN)
    last = {outputs: torch.randn(HIDDEN, outputs) for outputs, _ in passes}
    error = {outputs: torch.randn(BATCH, outputs) for outputs, _ in passes}

    def run() -> None:
        for outputs, trained in passes:
            torch.mm(inputs, first)
            torch.mm(hidden, second)
            torch.mm(hidden, last[outputs])
            if trained:
                torch.mm(error[outputs], last[outputs].t())
                torch.mm(hidden.t(), error[outputs])
                torch.mm(hidden, second.t())
                torch.mm(hidden.t(), hidden)
                torch.mm(inputs.t(), hidden)

    return run


def random_dataset(seed: int = 0) -> OfflineDataset:
    """Random transitions in episodes of 100 steps."""
    generator = np.random.default_rng(seed)
    observation = generator.standard_normal((TRANSITIONS + 1, FEATURES)).astype(np.float32)
    ended = np.arange(1, TRANSITIONS + 1) % 100 == 0
    terminated = ended & (generator.random(TRANSITIONS) < 0.5)
    return OfflineDataset(
        observation[:-1],
        generator.integers(ACTIONS, size=TRANSITIONS),
        generator.standard_normal(TRANSITIONS),
        observation[1:],
        terminated,
        ended & ~terminated,
        observation_space=gym.spaces.Box(-np.inf, np.inf, (FEATURES,), np.float32),
        action_space=gym.spaces.Discrete(ACTIONS),
    )


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def measure(name: str, dataset: OfflineDataset, rounds: int) -> dict[str, float | str]:
    """Median times of update and floor in milliseconds, measured in turn."""
    agent = AGENTS[name](dataset.observation_space, dataset.action_space, normalizer=dataset.normalizer(), seed=0)
    generator = torch.Generator().manual_seed(0)

    def update() -> None:
        agent.update(dataset.sample(BATCH, generator))

    floor = bare_products(PASSES[name])
    for _ in range(30):
        update()
        floor()
    pairs = [(seconds(floor), seconds(update)) for _ in range(rounds)]
    floor_ms = 1e3 * statistics.median(first for first, _ in pairs)
    update_ms = 1e3 * statistics.median(second for _, second in pairs)
    return {"agent": name, "floor_ms": floor_ms, "update_ms": update_ms, "multiple": update_ms / floor_ms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1_000, help="pairs of measurements per agent")
    parser.add_argument("--bar", type=float, default=None, help="exit with an error if a multiple exceeds this")
    parser.add_argument("--no-write", action="store_true", help="print only, leave results/ alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dataset = random_dataset()
    table = pd.DataFrame([measure(name, dataset, options.rounds) for name in AGENTS])
    print(table.to_string(index=False, float_format="%.3f"))
    if not options.no_write:
        modules = ["ca14lib.agents.dqn", "ca14lib.agents.offline.bc", "ca14lib.agents.offline.cql"]
        modules += ["ca14lib.agents.offline.iql", "ca14lib.data.dataset"]
        write_results("update_speed", table, command="python -m benchmarks.update_speed", modules=modules)
    if options.bar is not None and table["multiple"].max() > options.bar:
        raise SystemExit(f"an update takes more than {options.bar} times its matrix products")


if __name__ == "__main__":
    main()
