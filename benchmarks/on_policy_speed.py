"""The whole on-policy training loop on SafeGrid beside that of Stable-Baselines3's PPO, in one run.

    python -m benchmarks.on_policy_speed [--rounds 9] [--seeds 5] [--bar 10]

Both sides train PPO without constraint on ``CA14/SafeGrid-v0``: two hidden layers of 64 with tanh for the policy, two
more for the value, ``EPOCHS`` passes over ``ENVIRONMENTS * STEPS`` samples an update, one thread, one process. Ours is
``train_on_policy``. Stable-Baselines3 steps single environments in its ``DummyVecEnv``, without monitor or checker: 8,
as it is customarily run, or as many as ours. Its minibatches are its own of 64, or as large as ours, which spares it
most of its gradient steps. Its last row has our batched environment behind its interface, which leaves the loop and
the update for the difference; our last row has minibatches of 64.

Speed: rounds of all cases alternate, and ``steps_per_second`` is the median round's. ``ours_over_it`` is the median
over rounds of our first row's speed over the case's in the same round. Time to score 0.95: the exact return of the
stochastic policy, as a share of the way from the return at the least cost, −5, to the optimum, 9.1, is computed after
every update and its time is not counted; ``seconds_to_score`` and ``updates_to_score`` are medians over seeds,
``reached`` the number of seeds that get there within ``UPDATES`` updates. Seconds are the process's CPU time: what a
clock shows where nothing else runs.

OmniSafe is not measured here: it needs Safety-Gymnasium, which pins a Gymnasium before 1.0. In an environment of its
own it did 391 (PPO-Lagrangian), 465 (PID), 1,450 (CPO) and 1,710 (TRPO-Lagrangian) environment steps a second on a
small NumPy task.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO as PeerPPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from ca14lib.agents import PPO, Agent, PPOConfig
from ca14lib.environments import TabularModel, tabular_model
from ca14lib.evaluation import ConstrainedEvaluation
from ca14lib.experiments import write_results
from ca14lib.training import train_on_policy
from ca14lib.training.vector import vector_environment

SAFE_GRID = "CA14/SafeGrid-v0"
ENVIRONMENTS, STEPS, EPOCHS, HIDDEN, LEARNING_RATE = 128, 50, 5, (64, 64), 1e-3
SAMPLES = ENVIRONMENTS * STEPS
SCORE, UPDATES = 0.95, 60  # what counts as solved, and how long a seed may try
PER_ROUND = 2  # updates of a case in a round


class Case(NamedTuple):
    """One row: whose loop, and how the samples of an update are collected and cut."""

    library: str
    environments: str
    num_envs: int
    minibatch: int


OURS = Case("ca14lib", "batched", ENVIRONMENTS, SAMPLES // 4)
CASES = (
    OURS,
    Case("stable-baselines3", "single", 8, 64),
    Case("stable-baselines3", "single", ENVIRONMENTS, 64),
    Case("stable-baselines3", "single", ENVIRONMENTS, SAMPLES // 4),
    Case("stable-baselines3", "batched", ENVIRONMENTS, SAMPLES // 4),
    Case("ca14lib", "batched", ENVIRONMENTS, 64),
)
BAR_CASES = CASES[1:3]  # the peer as it comes, with either number of environments


class BatchedVecEnv(VecEnv):
    """Our batched environment behind Stable-Baselines3's interface; for tasks without a time limit."""

    def __init__(self, num_envs: int) -> None:
        self.vector = vector_environment(SAFE_GRID, num_envs)
        super().__init__(num_envs, self.vector.single_observation_space, self.vector.single_action_space)

    def reset(self) -> NDArray:
        return self.vector.reset(seed=self._seeds[0])[0]

    def step_async(self, actions: NDArray) -> None:
        self.actions = actions

    def step_wait(self) -> tuple[NDArray, NDArray, NDArray, list[dict[str, Any]]]:
        observation, reward, terminated, truncated, _ = self.vector.step(self.actions)
        return observation, reward, terminated | truncated, [{} for _ in range(self.num_envs)]

    def close(self) -> None:
        self.vector.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.vector, attr_name)] * self.num_envs

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        setattr(self.vector, attr_name, value)

    def env_method(self, method_name: str, *arguments: Any, indices: Any = None, **keywords: Any) -> list[Any]:
        return [getattr(self.vector, method_name)(*arguments, **keywords)]

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False] * self.num_envs


def our_agent(case: Case, seed: int) -> PPO:
    vector = vector_environment(SAFE_GRID, 1)
    config = PPOConfig(
        hidden_sizes=HIDDEN, learning_rate=LEARNING_RATE, value_learning_rate=LEARNING_RATE, discount=1.0,
        epochs=EPOCHS, minibatches=SAMPLES // case.minibatch,
    )  # fmt: skip
    return PPO(vector.single_observation_space, vector.single_action_space, config, seed=seed)


def our_training(case: Case, agent: PPO, updates: int, seed: int, evaluate: Callable | None = None) -> None:
    train_on_policy(
        agent, SAFE_GRID, updates * SAMPLES, num_envs=case.num_envs, rollout_steps=SAMPLES // case.num_envs, seed=seed,
        evaluate=evaluate, evaluate_every=1, progress=False,
    )  # fmt: skip


def peer_agent(case: Case, seed: int) -> PeerPPO:
    environment: VecEnv
    if case.environments == "batched":
        environment = BatchedVecEnv(case.num_envs)
    else:
        environment = DummyVecEnv([lambda: gym.make(SAFE_GRID, disable_env_checker=True)] * case.num_envs)
    return PeerPPO(
        "MlpPolicy", environment, learning_rate=LEARNING_RATE, n_steps=SAMPLES // case.num_envs,
        batch_size=case.minibatch, n_epochs=EPOCHS, gamma=1.0, seed=seed, device="cpu",
        policy_kwargs={"net_arch": {"pi": list(HIDDEN), "vf": list(HIDDEN)}},
    )  # fmt: skip


def peer_table(peer: PeerPPO, model: TabularModel) -> NDArray[np.float64]:
    """The peer's stochastic policy on every state and step, ``[H, S, A]``."""
    assert model.horizon is not None
    seen = np.stack([model.timed_observation(step) for step in range(model.horizon)])
    with torch.no_grad():
        distribution = peer.policy.get_distribution(torch.as_tensor(seen.reshape(-1, seen.shape[-1])).float())
    probabilities = distribution.distribution.probs.double().numpy()  # type: ignore[union-attr]
    probabilities /= probabilities.sum(axis=-1, keepdims=True)
    return probabilities.reshape(*seen.shape[:2], -1)


def prepared(case: Case) -> Callable[[], None]:
    """A function that trains for ``PER_ROUND`` updates more each time."""
    if case.library == "ca14lib":
        agent = our_agent(case, seed=0)
        return lambda: our_training(case, agent, PER_ROUND, seed=0)
    peer = peer_agent(case, seed=0)
    return lambda: peer.learn(PER_ROUND * SAMPLES, reset_num_timesteps=False) and None


def seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    function()
    return time.process_time() - start


def speeds(cases: tuple[Case, ...], rounds: int) -> list[list[float]]:
    """Steps per second of every case in every round, rounds of all cases in turn."""
    trainings = [prepared(case) for case in cases]
    for training in trainings:
        training()
    measured: list[list[float]] = [[] for _ in cases]
    for _ in range(rounds):
        for rates, training in zip(measured, trainings):
            rates.append(PER_ROUND * SAMPLES / seconds(training))
    return measured


class Solved(Exception):
    """Ends a training that has reached the score."""


class StopWatch:
    """Evaluates our agent after every update, off the clock, and ends its training when it has reached the score."""

    def __init__(self, evaluation: ConstrainedEvaluation) -> None:
        self.evaluation, self.updates, self.spent = evaluation, -1, 0.0
        self.resumed = time.process_time()

    def __call__(self, agent: Agent) -> dict[str, float]:
        self.spent += time.process_time() - self.resumed
        self.updates += 1
        score = self.evaluation(agent)["score"]
        if score >= SCORE:
            raise Solved
        self.resumed = time.process_time()
        return {"score": score}


def time_to_score(case: Case, seed: int, updates: int = UPDATES) -> tuple[float, float]:
    """CPU seconds and updates until the exact score is reached; infinity for both if it is not."""
    evaluation = ConstrainedEvaluation(tabular_model(SAFE_GRID), np.inf)
    if case.library == "ca14lib":
        agent, watch = our_agent(case, seed), StopWatch(evaluation)
        try:
            our_training(case, agent, updates, seed, watch)
        except Solved:
            return watch.spent, watch.updates
        return np.inf, np.inf
    peer, spent = peer_agent(case, seed), 0.0
    for update in range(1, updates + 1):
        spent += seconds(lambda: peer.learn(SAMPLES, reset_num_timesteps=False))
        if evaluation.of_policy(peer_table(peer, evaluation.model))["score"] >= SCORE:
            return spent, update
    return np.inf, np.inf


def measure(rounds: int, seeds: int, updates: int = UPDATES) -> pd.DataFrame:
    """The table, one row per case."""
    rates, rows = speeds(CASES, rounds), []
    for case, rate in zip(CASES, rates):
        times = [time_to_score(case, seed, updates) for seed in range(seeds)]
        rows.append({
            "library": case.library if case.library == "ca14lib" else f"{case.library} {version(case.library)}",
            "environments": f"{case.num_envs} {case.environments}", "minibatch": case.minibatch,
            "steps_per_second": statistics.median(rate),
            "ours_over_it": statistics.median(ours / its for ours, its in zip(rates[0], rate)),
            "seconds_to_score": statistics.median(elapsed for elapsed, _ in times),
            "updates_to_score": statistics.median(count for _, count in times),
            "reached": sum(count < np.inf for _, count in times), "seeds": seeds,
        })  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="rounds of speed measurements")
    parser.add_argument("--seeds", type=int, default=5, help="trainings to score 0.95 per case")
    parser.add_argument(
        "--bar", type=float, default=None, help="exit with an error below this ratio to SB3 as it comes"
    )
    parser.add_argument("--no-write", action="store_true", help="print only, leave results/ alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = measure(options.rounds, options.seeds)
    print(table.to_string(index=False, float_format="%.3g"))
    if not options.no_write:
        command = "python -m benchmarks.on_policy_speed"
        if (options.rounds, options.seeds) != (9, 5):
            command += f" --rounds {options.rounds} --seeds {options.seeds}"
        write_results(
            "on_policy_speed", table, command=command, seeds=range(options.seeds),
            modules=["ca14lib.agents.ppo", "ca14lib.training.on_policy", "ca14lib.environments.safe_grid"],
        )  # fmt: skip
    worst = min(table["ours_over_it"][CASES.index(case)] for case in BAR_CASES)
    if options.bar is not None and worst < options.bar:
        raise SystemExit(f"the loop does {worst:.1f} times the steps of Stable-Baselines3, expected {options.bar}")


if __name__ == "__main__":
    main()
