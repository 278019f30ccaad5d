"""What our agents learn beside what d3rlpy's learn, from the same data with the same settings.

    python -m benchmarks.peer_quality [--peers .venv-peers/bin/python] [--seeds 3]

Pendulum, medium-replay: the data, widths, learning rates, batches and number of updates of ``ca14 run offline --part
pendulum``, whose evaluation measures both sides, the last policy on the same fresh starts. d3rlpy trains in a process
with the peers' own virtual environment (``make peers``), and that process answers with its policy's actions. Settings
that d3rlpy has not are left at what it does: its BCQ compares equally many actions in the target and when acting (here
ten, ours a hundred when acting), its behaviour cloning and IQL fit their policies in their own parametrisation.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.peer_speed import ROOT, Worker
from ca14lib.agents import Agent
from ca14lib.agents.offline import BCQConfig, CQLConfig, IQLConfig, TD3BCConfig
from ca14lib.data import OfflineDataset
from ca14lib.experiments import write_results
from ca14lib.experiments.offline import TASKS, continuous_dataset, continuous_evaluation, continuous_run
from ca14lib.metrics import interval_table

ENVIRONMENT, QUALITY, AGENTS = "pendulum", "medium-replay", ("BC", "TD3BC", "BCQ", "CQL", "IQL")


def peer_settings(name: str) -> dict[str, Any]:
    """Our settings of an agent in d3rlpy's words."""
    config = TASKS[ENVIRONMENT].agents[name].config
    rate = config.learning_rate
    if name == "BC":
        return {"learning_rate": rate, "gamma": config.discount}
    common = {"actor_learning_rate": rate, "critic_learning_rate": rate, "gamma": config.discount}
    if isinstance(config, TD3BCConfig):
        return common | {"alpha": config.value_weight, "tau": config.target_rate}
    if isinstance(config, IQLConfig):
        return common | {
            "expectile": config.expectile, "weight_temp": config.temperature, "tau": config.target_rate,
        }  # fmt: skip
    if isinstance(config, BCQConfig):
        return common | {
            "imitator_learning_rate": rate, "n_action_samples": config.target_samples, "tau": config.target_rate,
            "action_flexibility": config.max_perturbation, "lam": config.min_weight, "beta": config.divergence_weight,
        }  # fmt: skip
    assert isinstance(config, CQLConfig)
    # its Bellman error has no factor ½, so that its weight has to be twice ours
    return common | {
        "actor_learning_rate": config.policy_learning_rate, "temp_learning_rate": rate, "alpha_learning_rate": 0.0,
        "conservative_weight": 2 * config.conservative_weight, "alpha_threshold": 0.0, "tau": config.target_rate,
        "n_action_samples": config.sampled_actions,
    }  # fmt: skip


class PeerPolicy:
    """The worker's policy, in the form that our evaluation asks of an agent."""

    def __init__(self, worker: Worker, dataset: OfflineDataset) -> None:
        self.worker, self.action_space, self.observation_space = worker, dataset.action_space, dataset.observation_space

    def act(self, observation: NDArray, *, deterministic: bool) -> NDArray[np.float32]:
        assert deterministic, "the peer is evaluated by its best actions"
        answer = self.worker.ask(act=np.asarray(observation).tolist())
        return np.clip(np.asarray(answer["action"], np.float32), self.action_space.low, self.action_space.high)  # type: ignore[attr-defined]


def columns(dataset: OfflineDataset) -> dict[str, NDArray]:
    """A dataset as the arrays that the worker reads."""
    rows = dataset.transitions
    space = dataset.action_space
    return {name: getattr(rows, name).numpy() for name in ("observation", "action", "reward")} | {
        "terminated": rows.terminated.numpy().astype(np.float32),
        "truncated": rows.truncated.numpy().astype(np.float32),
        "low": space.low, "high": space.high,  # type: ignore[attr-defined]
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=str(ROOT / ".venv-peers" / "bin" / "python"), help="Python with the peers")
    parser.add_argument("--seeds", type=int, default=3, help="seeds per agent, at least 2")
    parser.add_argument("--updates", type=int, default=None, help="length of the training; by default the table's")
    parser.add_argument("--no-write", action="store_true", help="print only, leave results/ alone")
    options = parser.parse_args()
    if not Path(options.peers).exists():
        parser.error(f"there is no {options.peers}: `make peers` makes it, or name another one with --peers")
    if options.seeds < 2:
        parser.error(f"--seeds must be at least 2, got {options.seeds}")
    worker, dataset = Worker(options.peers), continuous_dataset(ENVIRONMENT, QUALITY)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "data.npz"
        np.savez(file, **columns(dataset))
        for name in AGENTS:
            entry = TASKS[ENVIRONMENT].agents[name]
            for seed in range(options.seeds):
                updates = options.updates or entry.updates
                ours = continuous_run(ENVIRONMENT, name, QUALITY, seed, updates=updates)[-1]
                learned = worker.ask(
                    learn=name, data=str(file), settings=peer_settings(name), hidden=entry.config.hidden_sizes[0],
                    updates=updates, seed=seed,
                )  # fmt: skip
                policy = cast(Agent, PeerPolicy(worker, dataset))
                theirs = continuous_evaluation(ENVIRONMENT, seed)(policy)
                peer = f"d3rlpy {learned['version']}"
                rows += [
                    {
                        "agent": name,
                        "library": library,
                        "seed": seed,
                        "return": scores["return"],
                        "score": scores["score"],
                    }
                    for library, scores in (("ca14lib", ours), (peer, theirs))
                ]
                print(f"{name:6} seed {seed}: ours {ours['score']:6.1f}, {peer} {theirs['score']:6.1f}", flush=True)
    runs = pd.DataFrame(rows)
    table = interval_table(runs, ["agent", "library"], ["return", "score"])
    print(table.to_string(index=False, float_format="%.1f"))
    if not options.no_write:
        write_results(
            "peer_quality", table, command=f"python -m benchmarks.peer_quality --seeds {options.seeds}",
            modules=["ca14lib.experiments.offline.continuous"], seeds=range(options.seeds),
        )  # fmt: skip


if __name__ == "__main__":
    main()
