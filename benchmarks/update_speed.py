"""One gradient update against the time of its bare matrix products.

    python -m benchmarks.update_speed [--rounds 300] [--bar 1.35] [--agents DQN CQL]

Batch 256, two hidden layers of 256, 4 observation features, 4 actions or 2 action dimensions, 100,000 random
transitions, one thread. An update counts sampling, normalisation, losses, Adam and the target network; the floor only
the products that the algorithm, as published, asks of its linear layers:

    forward   no gradient: one product per layer
    train     forward, gradients of all weights, and of all inputs but the first layer's
    through   forward, and gradients of all inputs, the first layer's too, but of no weights: the way of a policy's
              gradient through a critic

``PASSES`` lists them for every agent. The time limit of a policy that is updated every second time (TD3+BC) is that of
two updates. Rounds of floor and update alternate, so that a machine whose speed drifts slows both; the figure is the
ratio of medians. On-policy agents learn from whole rollouts and have a benchmark of their own, ``on_policy_speed``.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pandas as pd
import torch

from ca14lib.agents import AGENTS, Agent, ContinuousAgent, OnPolicyAgent
from ca14lib.agents.offline import BCQConfig, CQLConfig
from ca14lib.data import OfflineDataset
from ca14lib.experiments import write_results

BATCH, HIDDEN, FEATURES, ACTIONS, DIMENSIONS, TRANSITIONS = 256, 256, 4, 4, 2, 100_000

Pass = tuple[int, int, int, str]  # rows, inputs, outputs, kind


def passes() -> dict[str, list[Pass]]:
    """Every pass through a network in an update, or in two updates for agents of ``EVERY_SECOND``."""
    joint, codes = FEATURES + DIMENSIONS, 2 * DIMENSIONS
    generated, penalised = BCQConfig().target_samples * BATCH, (3 * CQLConfig().sampled_actions + 1) * BATCH

    def q(kind: str) -> Pass:  # a discrete agent's network with an output per action
        return (BATCH, FEATURES, ACTIONS, kind)

    def v(kind: str) -> Pass:
        return (BATCH, FEATURES, 1, kind)

    def pi(kind: str, outputs: int = DIMENSIONS) -> Pass:
        return (BATCH, FEATURES, outputs, kind)

    def critic(kind: str, rows: int = BATCH) -> Pass:
        return (rows, joint, 1, kind)

    twin_target, twin_trained, twin_through = ([critic(kind)] * 2 for kind in ("forward", "train", "through"))
    gaussian = 2 * DIMENSIONS
    sac = [pi("forward", gaussian), *twin_target, *twin_trained, pi("train", gaussian), *twin_through]
    td3_critic = [pi("forward"), *twin_target, *twin_trained]
    bcq = [
        (BATCH, joint, 2 * codes, "train"), (BATCH, FEATURES + codes, DIMENSIONS, "train"),
        # the decoder's gradient goes on into the code, hence into the encoder
        (generated, FEATURES + codes, DIMENSIONS, "forward"), (generated, joint, DIMENSIONS, "forward"),
        critic("forward", generated), critic("forward", generated), *twin_trained,
        (BATCH, FEATURES + codes, DIMENSIONS, "forward"), (BATCH, joint, DIMENSIONS, "train"), critic("through"),
    ]  # fmt: skip
    return {
        "DQN": [q("train"), q("forward"), q("forward")],
        "DiscreteBC": [q("train")],
        "DiscreteBCRegularized": [q("train"), q("train"), q("forward"), q("forward")],
        "DiscreteAWR": [v("train"), v("forward"), q("train")],
        "DiscreteBCQ": [q("train"), q("train"), q("forward"), q("forward"), q("forward")],
        "DiscreteCQL": [q("train"), q("forward"), q("forward")],
        "DiscreteIQL": [
            q("forward"), q("forward"), v("train"), v("forward"), q("train"), v("forward"), q("train"), q("train"),
        ],
        "SAC": sac,
        "BC": [pi("train")],
        "AWR": [v("train"), v("forward"), pi("train")],
        "BCQ": bcq,
        "CQL": [
            pi("forward", gaussian), *twin_target, *[critic("train", penalised)] * 2, pi("train", gaussian),
            *twin_through,
        ],
        "IQL": [*twin_target, v("train"), v("forward"), pi("train"), v("forward"), *twin_trained],
        "TD3BC": [*td3_critic, *td3_critic, pi("train"), critic("through")],
    }  # fmt: skip


BATCH_AGENTS = tuple(name for name, cls in AGENTS.items() if not issubclass(cls, OnPolicyAgent))
EVERY_SECOND = ("TD3BC",)  # their policy is updated every second time


def bare_products(needed: list[Pass]) -> Callable[[], None]:
    """A function that does the matrix products of the passes and nothing else."""

    def of(rows: int, inputs: int, outputs: int, kind: str) -> Callable[[], None]:
        first, second, last = (torch.randn(shape) for shape in ((inputs, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, outputs)))
        seen, hidden, error = (torch.randn(rows, width) for width in (inputs, HIDDEN, outputs))

        def run() -> None:
            torch.mm(seen, first)
            torch.mm(hidden, second)
            torch.mm(hidden, last)
            if kind != "forward":
                torch.mm(error, last.t())
                torch.mm(hidden, second.t())
            if kind == "through":
                torch.mm(hidden, first.t())
            if kind == "train":
                torch.mm(hidden.t(), error)
                torch.mm(hidden.t(), hidden)
                torch.mm(seen.t(), hidden)

        return run

    runs = [of(*one) for one in needed]

    def run_all() -> None:
        for run in runs:
            run()

    return run_all


def random_dataset(continuous: bool, seed: int = 0) -> OfflineDataset:
    """Random transitions in episodes of 100 steps."""
    generator = np.random.default_rng(seed)
    observation = generator.standard_normal((TRANSITIONS + 1, FEATURES)).astype(np.float32)
    ended = np.arange(1, TRANSITIONS + 1) % 100 == 0
    terminated = ended & (generator.random(TRANSITIONS) < 0.5)
    space: gym.Space = gym.spaces.Discrete(ACTIONS)
    action = generator.integers(ACTIONS, size=TRANSITIONS)
    if continuous:
        space = gym.spaces.Box(-1, 1, (DIMENSIONS,), np.float32)
        action = generator.uniform(-1, 1, (TRANSITIONS, DIMENSIONS)).astype(np.float32)
    return OfflineDataset(
        observation[:-1],
        action,
        generator.standard_normal(TRANSITIONS),
        observation[1:],
        terminated,
        ended & ~terminated,
        observation_space=gym.spaces.Box(-np.inf, np.inf, (FEATURES,), np.float32),
        action_space=space,
    )


def seconds(function: Callable[[], object]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def prepared(name: str, dataset: OfflineDataset) -> tuple[Agent, OfflineDataset]:
    """A new agent, and the data as its training loop would show them."""
    agent = AGENTS[name](dataset.observation_space, dataset.action_space, normalizer=dataset.normalizer(), seed=0)
    labels = agent.relabel(dataset) if agent.relabel_every is not None else None
    return agent, dataset if labels is None else dataset.relabelled(labels)


def measure(name: str, dataset: OfflineDataset, rounds: int) -> dict[str, float | str]:
    """Median times of update and floor in milliseconds, measured in turn."""
    agent, data = prepared(name, dataset)
    generator = torch.Generator().manual_seed(0)
    times = 2 if name in EVERY_SECOND else 1

    def update() -> None:
        for _ in range(times):
            agent.update(data.sample(BATCH, generator))

    floor = bare_products(passes()[name])
    for _ in range(30):
        update()
        floor()
    pairs = [(seconds(floor), seconds(update)) for _ in range(rounds)]
    floor_ms = 1e3 * statistics.median(first for first, _ in pairs) / times
    update_ms = 1e3 * statistics.median(second for _, second in pairs) / times
    return {"agent": name, "floor_ms": floor_ms, "update_ms": update_ms, "multiple": update_ms / floor_ms}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1_000, help="pairs of measurements per agent")
    parser.add_argument("--bar", type=float, default=None, help="exit with an error if a multiple exceeds this")
    parser.add_argument("--no-write", action="store_true", help="print only, leave results/ alone")
    parser.add_argument("--agents", nargs="+", choices=BATCH_AGENTS, default=list(BATCH_AGENTS), help="all by default")
    options = parser.parse_args()
    if options.agents != list(BATCH_AGENTS) and not options.no_write:
        parser.error("a table of some agents only would replace that of all: add --no-write")
    torch.set_num_threads(1)
    discrete, continuous = random_dataset(continuous=False), random_dataset(continuous=True)
    table = pd.DataFrame(
        [
            # CQL's update is some ten times as long as the others'
            measure(name, continuous if issubclass(AGENTS[name], ContinuousAgent) else discrete,
                    options.rounds // (10 if name == "CQL" else 1))
            for name in options.agents
        ]
    )  # fmt: skip
    print(table.to_string(index=False, float_format="%.3f"))
    if not options.no_write:
        modules = sorted({AGENTS[name].__module__ for name in BATCH_AGENTS} | {"ca14lib.data.dataset"})
        write_results("update_speed", table, command="python -m benchmarks.update_speed", modules=modules)
    if options.bar is not None and table["multiple"].max() > options.bar:
        raise SystemExit(f"an update takes more than {options.bar} times its matrix products")


if __name__ == "__main__":
    main()
