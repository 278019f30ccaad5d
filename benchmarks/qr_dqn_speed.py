"""QR-DQN on CartPole beside that of sb3-contrib: the quantile loss, the whole training loop, and what is learned.

    python -m benchmarks.qr_dqn_speed [--rounds 9] [--seeds 5] [--steps 20000] [--bar 5]

Both sides learn with 200 quantiles, batches of 32, two hidden layers of 64, Adam at the same step size, an update every
four environment steps, a target network that moves by the same share after every update, and 0.05 of uniform actions
after the first 1,000 steps; one thread, one process. Apart from the quantiles' number these are sb3-contrib's defaults,
except for step size, target and exploration, whose defaults are made for Atari. It is run as it comes, with one
environment, and with as many as ours; our second row has one environment too.

``qr_dqn_speed``: rounds of all cases alternate, and ``steps_per_second`` is the median round's, from the process's CPU
time; ``ours_over_it`` is the median over rounds of our first row's speed over the case's in the same round.
``return_iqm`` with its interval is over seeds the mean greedy return of 50 fresh episodes (at most 500) after the same
number of environment steps.

``quantile_loss_speed``: forward and backward pass of our loss beside the one that forms all pairs, in milliseconds, for
sizes of the batch and numbers of quantiles.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from sb3_contrib import QRDQN as PeerQRDQN
from stable_baselines3.common.env_util import make_vec_env
from torch import Tensor

from ca14lib.agents.robust.qr_dqn import QRDQN, QRDQNConfig, quantile_huber_loss
from ca14lib.evaluation import RolloutEvaluation
from ca14lib.experiments import write_results
from ca14lib.metrics.intervals import iqm_interval
from ca14lib.training import train_off_policy
from ca14lib.training.vector import vector_environment

CARTPOLE = "CartPole-v1"
QUANTILES, BATCH, HIDDEN, LEARNING_RATE, TARGET_RATE = 200, 32, (64, 64), 1e-3, 0.02
EVERY, EXPLORATION, START = 4, 0.05, 1_000  # environment steps per update; steps of uniform actions
ENVIRONMENTS, EPISODES = 8, 50
PER_ROUND = 800  # environment steps of a case in a round
SIZES = [(batch, quantiles) for batch in (32, 64, 128, 256) for quantiles in (32, 200)]


class Case(NamedTuple):
    """One row: whose loop, and in how many environments."""

    library: str
    num_envs: int


OURS = Case("ca14lib", ENVIRONMENTS)
CASES = (OURS, Case("ca14lib", 1), Case("sb3-contrib", 1), Case("sb3-contrib", ENVIRONMENTS))


class PeerPolicy:
    """The peer's policy as our evaluation asks for it."""

    def __init__(self, peer: PeerQRDQN) -> None:
        self.peer, self.observation_space, self.action_space = peer, peer.observation_space, peer.action_space

    def act(self, observation: NDArray, *, deterministic: bool = True) -> NDArray:
        return self.peer.predict(observation, deterministic=deterministic)[0]


def our_agent(seed: int) -> QRDQN:
    vector = vector_environment(CARTPOLE, 1)
    config = QRDQNConfig(
        hidden_sizes=HIDDEN, learning_rate=LEARNING_RATE, target_rate=TARGET_RATE, exploration=EXPLORATION,
        num_quantiles=QUANTILES,
    )  # fmt: skip
    return QRDQN(vector.single_observation_space, vector.single_action_space, config, seed=seed)


def our_training(agent: QRDQN, num_envs: int, steps: int, seed: int, start: int = START) -> None:
    train_off_policy(
        agent, CARTPOLE, steps, num_envs=num_envs, start_steps=start, updates_per_step=1 / EVERY, batch_size=BATCH,
        seed=seed, progress=False,
    )  # fmt: skip


def peer_agent(num_envs: int, steps: int, seed: int) -> PeerQRDQN:
    together = max(EVERY // num_envs, 1)  # steps of all environments between updates
    return PeerQRDQN(
        "MlpPolicy", make_vec_env(CARTPOLE, num_envs, seed=seed), learning_rate=LEARNING_RATE, batch_size=BATCH,
        learning_starts=START, train_freq=together, gradient_steps=together * num_envs // EVERY, tau=TARGET_RATE,
        target_update_interval=EVERY, exploration_fraction=START / steps, exploration_final_eps=EXPLORATION,
        policy_kwargs={"n_quantiles": QUANTILES, "net_arch": list(HIDDEN)}, buffer_size=100_000, seed=seed,
        device="cpu",
    )  # fmt: skip


def prepared(case: Case) -> Callable[[], None]:
    """A function that trains for ``PER_ROUND`` steps more each time, all of them after the uniform actions."""
    if case.library == "ca14lib":
        agent = our_agent(seed=0)
        return lambda: our_training(agent, case.num_envs, PER_ROUND, seed=0, start=0)
    peer = peer_agent(case.num_envs, 100_000, seed=0)
    peer.learn(START)
    return lambda: peer.learn(PER_ROUND, reset_num_timesteps=False) and None


def seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def speeds(rounds: int) -> list[list[float]]:
    """Steps per second of every case in every round, rounds of all cases in turn."""
    trainings = [prepared(case) for case in CASES]
    for training in trainings:
        training()
    measured: list[list[float]] = [[] for _ in CASES]
    for _ in range(rounds):
        for rates, training in zip(measured, trainings):
            rates.append(PER_ROUND / seconds(training))
    return measured


def learned_return(case: Case, steps: int, seed: int) -> float:
    """Mean greedy return after a training of that many steps."""
    evaluation = RolloutEvaluation(CARTPOLE, EPISODES, seed)
    if case.library == "ca14lib":
        agent = our_agent(seed)
        our_training(agent, case.num_envs, steps, seed)
        return evaluation(agent)["return"]
    peer = peer_agent(case.num_envs, steps, seed)
    peer.learn(steps)
    policy: Any = PeerPolicy(peer)
    return evaluation(policy)["return"]


def measure(rounds: int, seeds: int, steps: int) -> pd.DataFrame:
    """The table of the loops, one row per case."""
    rates, rows = speeds(rounds), []
    for case, rate in zip(CASES, rates):
        name = case.library if case.library == "ca14lib" else f"{case.library} {version(case.library)}"
        returns = [learned_return(case, steps, seed) for seed in range(seeds)]
        row: dict[str, Any] = {
            "library": name, "environments": case.num_envs, "quantiles": QUANTILES,
            "steps_per_second": statistics.median(rate),
            "ours_over_it": statistics.median(ours / its for ours, its in zip(rates[0], rate)), "steps": steps,
            "seeds": seeds,
        }  # fmt: skip
        if seeds > 1:
            interval = iqm_interval(returns)
            row |= {"return_iqm": interval.estimate, "return_low": interval.low, "return_high": interval.high}
        rows.append(row | {"return_mean": float(np.mean(returns)) if returns else np.nan})
    return pd.DataFrame(rows)


def pairwise_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """The quantile Huber loss as it is written in the paper, with all pairs in memory."""
    count = prediction.shape[1]
    fractions = ((torch.arange(count) + 0.5) / count)[:, None]
    error = target[:, None, :] - prediction[:, :, None]
    size = error.abs()
    huber = torch.where(size > 1, size - 0.5, 0.5 * error.square())
    return ((fractions - (error.detach() < 0).float()).abs() * huber).mean(dim=2).sum(dim=1).mean()


def differentiate(loss: Callable[[Tensor, Tensor], Tensor], prediction: Tensor, target: Tensor) -> None:
    loss(prediction, target).backward()


def loss_table(rounds: int) -> pd.DataFrame:
    """Milliseconds of both losses, rounds in turn, medians."""
    rows = []
    for batch, quantiles in SIZES:
        generator = torch.Generator().manual_seed(0)
        # quantiles in order but for some noise, as a network gives them
        ordered = torch.randn(batch, quantiles, generator=generator).sort(dim=1).values
        prediction = (ordered + 0.01 * torch.randn(batch, quantiles, generator=generator)).requires_grad_()
        target = 3 * torch.randn(batch, quantiles, generator=generator)
        cases = [partial(differentiate, loss, prediction, target) for loss in (quantile_huber_loss, pairwise_loss)]
        for case in cases:
            case()
        times = [[seconds(case) for case in cases] for _ in range(rounds)]
        ours, pairs = (1e3 * statistics.median(side) for side in zip(*times))
        rows.append({"batch": batch, "quantiles": quantiles, "ours_ms": ours, "pairs_ms": pairs, "ratio": pairs / ours})
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of speed measurements")
    parser.add_argument("--seeds", type=int, default=5, help="trainings per case; 0 for speed alone")
    parser.add_argument("--steps", type=int, default=20_000, help="environment steps of a training")
    parser.add_argument("--bar", type=float, default=None, help="exit with an error below this ratio to sb3-contrib")
    parser.add_argument("--no-write", action="store_true", help="print only, leave results/ alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    losses = loss_table(options.rounds)
    print(losses.to_string(index=False, float_format="%.3g"))
    table = measure(options.rounds, options.seeds, options.steps)
    print(table.to_string(index=False, float_format="%.3g"))
    if not options.no_write:
        command = "python -m benchmarks.qr_dqn_speed"
        if (options.rounds, options.seeds, options.steps) != (9, 5, 20_000):
            command += f" --rounds {options.rounds} --seeds {options.seeds} --steps {options.steps}"
        modules = ["ca14lib.agents.robust.qr_dqn", "ca14lib.training.off_policy"]
        write_results("qr_dqn_speed", table, command=command, seeds=range(options.seeds), modules=modules)
        write_results("quantile_loss_speed", losses, command=command, seeds=range(1), modules=modules[:1])
    peers = [index for index, case in enumerate(CASES) if case.library != "ca14lib"]
    worst = min(table["ours_over_it"][index] for index in peers)
    if options.bar is not None and worst < options.bar:
        raise SystemExit(f"the loop does {worst:.1f} times the steps of sb3-contrib, expected {options.bar}")


if __name__ == "__main__":
    main()
