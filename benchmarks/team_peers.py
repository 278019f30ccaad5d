"""What our QMIX and MAPPO learn beside what EPyMARL's learn, in equally many steps of the same games.

    python -m benchmarks.team_peers [--epymarl .venv-peers/epymarl] [--seeds 3]

Spread, which steps as MPE2's ``simple_spread_v3`` does, the peer's game, and level-based foraging on a field of 8 × 8,
where both sides play the same library's game. Ours is ``public_game_run`` of ``ca14 run multi-agent --part
public_games``, with settings chosen for these games on other seeds; EPyMARL's is its own training
(``benchmarks/epymarl_worker.py``), with the settings that it publishes in ``src/config`` for all games. What differs is
therefore a whole: settings, networks and loops. EPyMARL's MAPPO has recurrent agents and ten copies of the game in
processes of their own, its QMIX one copy and an update per episode.

A return is the sum over agents of the undiscounted rewards in an episode, the mean over 1,000 episodes of the last
policy, in games from fresh seeds: ``return`` with actions drawn as at the end of training, QMIX with its exploration,
``greedy_return`` with best actions. Rows of uniform play show that both sides mean the same by it, and the run fails
where they do not. ``steps_per_second`` of training, updates included, counts environment steps in which all agents act,
by the CPU time of all of a side's processes; ``minutes`` are those of the clock. Runs of both sides alternate, one
after the other, with one thread each; ``--jobs 2`` makes two pairs at a time. Three seeds take about two hours of an
idle core. Finished pairs are kept in ``--cache``.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peer_speed import ROOT
from ca14lib.experiments import write_results
from ca14lib.experiments.multi_agent.public_games import (
    EPISODES,
    PUBLIC_GAMES,
    STEPS,
    UNIFORM,
    public_game_run,
    returns_table,
)
from ca14lib.experiments.runs import finished
from ca14lib.training import sweep

ALGORITHMS = ("QMIX", "MAPPO")
TOLERANCE = 5.0  # standard errors by which the two sides' means of uniform play may differ
BY = ["game", "algorithm", "library"]


def asked(checkout: Path, **command: Any) -> dict[str, float]:
    """The worker's answer to a command, from a process of its own."""
    process = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "epymarl_worker.py"), str(checkout)], input=json.dumps(command),
        capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )  # fmt: skip
    if process.returncode:
        raise RuntimeError(f"EPyMARL failed at {command}:\n{process.stderr[-2_000:]}")
    answer: dict[str, float] = json.loads(process.stdout)
    return answer


def library_name(checkout: Path) -> str:
    """EPyMARL with its commit, where the checkout tells it."""
    if not (checkout / ".git").exists():
        return "EPyMARL"
    commit = subprocess.run(
        ["git", "-C", str(checkout), "rev-parse", "--short=7", "HEAD"], capture_output=True, text=True, check=True
    )
    return f"EPyMARL {commit.stdout.strip()}"


def pair(game: str, algorithm: str, checkout: str, steps: int, seed: int) -> list[dict[str, Any]]:
    """Ours and the peer's run with a seed."""
    ours = public_game_run(game, algorithm, seed, steps=steps)
    command = {"game": game, "seed": seed, "episodes": EPISODES}
    if algorithm == UNIFORM:
        theirs = asked(Path(checkout), uniform=True, **command)
        if abs(ours["return"] - theirs["return"]) > TOLERANCE * theirs["error"]:
            text = f"{ours['return']:.3f} of ours, {theirs['return']:.3f} of EPyMARL's"
            raise RuntimeError(f"returns of uniform play in {game} differ: {text}")
    else:
        theirs = asked(Path(checkout), learn=algorithm.lower(), steps=steps, **command)
        theirs["steps_per_second"] = theirs["steps"] / theirs["cpu_seconds"]
        theirs["minutes"] = theirs["seconds"] / 60
    kept = ("return", "greedy_return", "steps_per_second", "minutes")
    sides = (("ca14lib", ours), (library_name(Path(checkout)), theirs))
    return [{"library": library} | {name: run.get(name, np.nan) for name in kept} for library, run in sides]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epymarl", default=ROOT / ".venv-peers" / "epymarl", type=Path, help="checkout of EPyMARL")
    parser.add_argument("--seeds", type=int, default=3, help="seeds per game and algorithm, at least 2")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps of training on either side")
    parser.add_argument("--jobs", type=int, default=1, help="pairs of runs at a time")
    parser.add_argument("--cache", default=ROOT / "runs" / "team-peers", type=Path,
                        help="folder of finished pairs, from which a stopped comparison goes on")  # fmt: skip
    parser.add_argument("--no-write", action="store_true", help="print only, leave results/ alone")
    options = parser.parse_args()
    if not (options.epymarl / "src" / "config").is_dir():
        parser.error(f"{options.epymarl} is no checkout of EPyMARL: `make peers` makes one, or name it with --epymarl")
    if options.seeds < 2:
        parser.error(f"--seeds must be at least 2, got {options.seeds}")
    grid = {
        "game": list(PUBLIC_GAMES), "algorithm": [UNIFORM, *ALGORITHMS], "checkout": [str(options.epymarl.resolve())],
        "steps": [options.steps],
    }  # fmt: skip
    # the function by the name of its module, so that a run that is stored knows which code made it
    worker = importlib.import_module("benchmarks.team_peers").pair
    runs = finished(sweep(worker, grid, options.seeds, path=options.cache, jobs=options.jobs))
    table = returns_table(runs, BY, ["steps_per_second", "minutes"])
    print(table.to_string(index=False, float_format="%.3f"))
    if not options.no_write:
        command = f"python -m benchmarks.team_peers --seeds {options.seeds}"
        command += f" --steps {options.steps}" * (options.steps != STEPS)
        write_results(
            "multi_agent_peers", table, command=command, seeds=range(options.seeds),
            modules=["ca14lib.experiments.multi_agent.public_games"],
        )  # fmt: skip


if __name__ == "__main__":
    main()
