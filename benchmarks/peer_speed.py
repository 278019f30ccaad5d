"""Our updates beside the same updates of d3rlpy and Tianshou, in one run.

    python -m benchmarks.peer_speed [--peers .venv-peers/bin/python] [--rounds 60]

Same batch, same widths, data of the same kind and size, one thread each. A worker process with the peers' own virtual
environment (``make peers`` makes it) does its updates on command; rounds of ours and of theirs alternate, so that a
machine whose speed drifts slows both. Ours count the drawing of the batch; d3rlpy's batch is drawn beforehand,
Tianshou's update draws its own. The ratio is that of medians: 2 means that the peer takes twice as long.
"""

import argparse
import json
import os
import statistics
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.update_speed import BATCH, prepared, random_dataset, seconds
from ca14lib.agents import AGENTS, ContinuousAgent
from ca14lib.experiments import write_results

ROOT = Path(__file__).resolve().parents[1]
CASES = [
    *(("d3rlpy", agent) for agent in ("DQN", "DiscreteBC", "DiscreteBCQ", "DiscreteCQL")),
    *(("d3rlpy", agent) for agent in ("SAC", "BC", "BCQ", "CQL", "IQL", "TD3BC")),
    *(("tianshou", agent) for agent in ("DQN", "DiscreteBCQ", "SAC", "TD3BC")),
]
PER_ROUND = 4  # updates of either side, even because TD3+BC moves its policy every second time


class Worker:
    """The peers' process."""

    def __init__(self, python: str) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [python, str(ROOT / "benchmarks" / "peer_worker.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL, text=True, env=environment,
        )  # fmt: skip

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the worker ended"}
        if "error" in answer:
            raise RuntimeError(f"peer: {answer['error']}")
        return answer


def compare(worker: Worker, peer: str, name: str, rounds: int) -> dict[str, Any]:
    """Medians of both sides in milliseconds per update."""
    version = worker.ask(build=[peer, name])["version"]
    agent, dataset = prepared(name, random_dataset(issubclass(AGENTS[name], ContinuousAgent)))
    generator = torch.Generator().manual_seed(0)

    def ours() -> None:
        for _ in range(PER_ROUND):
            agent.update(dataset.sample(BATCH, generator))

    rounds = max(rounds // (6 if name == "CQL" else 1), 5)
    for _ in range(3):
        ours()
        worker.ask(updates=PER_ROUND)
    pairs = [(seconds(ours), worker.ask(updates=PER_ROUND)["seconds"]) for _ in range(rounds)]
    mine, theirs = (1e3 * statistics.median(side) / PER_ROUND for side in zip(*pairs, strict=True))
    return {"agent": name, "peer": f"{peer} {version}", "ours_ms": mine, "peer_ms": theirs, "ratio": theirs / mine}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", default=str(ROOT / ".venv-peers" / "bin" / "python"), help="Python with the peers")
    parser.add_argument("--rounds", type=int, default=60, help="pairs of measurements per agent and peer")
    parser.add_argument("--no-write", action="store_true", help="print only, leave results/ alone")
    options = parser.parse_args()
    if not Path(options.peers).exists():
        parser.error(f"there is no {options.peers}: `make peers` makes it, or name another one with --peers")
    torch.set_num_threads(1)
    worker = Worker(options.peers)
    rows = []
    for peer, name in CASES:
        rows.append(compare(worker, peer, name, options.rounds))
        print(
            "{agent:12} {peer:16} ours {ours_ms:7.2f} ms, peer {peer_ms:7.2f} ms, ratio {ratio:.2f}".format(**rows[-1])
        )
    if not options.no_write:
        modules = sorted({AGENTS[name].__module__ for _, name in CASES} | {"ca14lib.data.dataset"})
        write_results("peer_speed", pd.DataFrame(rows), command="python -m benchmarks.peer_speed", modules=modules)


if __name__ == "__main__":
    main()
