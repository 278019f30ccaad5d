"""Steps a second of games on one core: TargetGrid batched and through its PettingZoo view, beside peers' spread games.

    python -m benchmarks.team_environment_speed [--rounds 7] [--bar 1e6]

All games have 4 agents. A step is one of all agents of one copy, observations and automatic resets included; actions
are drawn beforehand, uniformly. TargetGrid is 8 × 8 with 3 targets. The peers are MPE2's ``simple_spread_v3`` through
its parallel interface, and VMAS's ``simple_spread`` with discrete actions, 25 steps an episode each, as far as they are
installed. Games differ in what a step has to compute: the peers' are points that move in a plane, so the table says
how fast each library's game is to learn from, not whose arrays are better. Rounds of all cases alternate;
``steps_per_second`` is the median round's and in CPU time of the process, with one thread.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pandas as pd
import torch

from ca14lib.environments import ParallelView, TargetGrid
from ca14lib.experiments import write_results

AGENTS, LIMIT = 4, 25


def batched_steps(num_envs: int, steps: int) -> Callable[[], None]:
    """A function that steps TargetGrid's copies together."""
    game = TargetGrid(num_envs, num_agents=AGENTS)
    game.reset(seed=0)
    plan = np.random.default_rng(0).integers(5, size=(steps, num_envs, AGENTS))

    def run() -> None:
        for actions in plan:
            game.step(actions)

    return run


def parallel_steps(environment: object, steps: int, choices: int = 5) -> Callable[[], None]:
    """A function that steps one PettingZoo ``ParallelEnv`` and resets it when its episode is over."""
    names = list(environment.possible_agents)  # type: ignore[attr-defined]
    environment.reset(seed=0)  # type: ignore[attr-defined]
    drawn = np.random.default_rng(0).integers(choices, size=(steps, len(names)))
    plan = [dict(zip(names, row, strict=True)) for row in drawn]

    def run() -> None:
        for actions in plan:
            environment.step(actions)  # type: ignore[attr-defined]
            if not environment.agents:  # type: ignore[attr-defined]
                environment.reset()  # type: ignore[attr-defined]

    return run


def vmas_steps(num_envs: int, steps: int) -> Callable[[], None]:
    """A function that steps VMAS's copies together, and resets them together every 25 steps."""
    import vmas

    environment = vmas.make_env(
        "simple_spread", num_envs=num_envs, device="cpu", continuous_actions=False, seed=0, n_agents=AGENTS
    )
    environment.reset()
    drawn = torch.randint(
        int(environment.action_space[0].n), (steps, AGENTS, num_envs, 1), generator=torch.Generator().manual_seed(0)
    )

    def run() -> None:
        for step, actions in enumerate(drawn):
            environment.step(list(actions))
            if (step + 1) % LIMIT == 0:
                environment.reset()

    return run


def installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def cases() -> list[tuple[str, str, int, int, Callable[[], None]]]:
    """Library, game, copies, steps of a round and the function that makes them."""
    found = [
        ("ca14lib", "TargetGrid", num_envs, steps, batched_steps(num_envs, steps))
        for num_envs, steps in ((256, 400), (4_096, 100))
    ]
    view = ParallelView(TargetGrid(1, num_agents=AGENTS))
    found.append(("ca14lib", "TargetGrid, PettingZoo view", 1, 1_000, parallel_steps(view, 1_000)))
    if installed("mpe2"):
        from mpe2 import simple_spread_v3

        peer = simple_spread_v3.parallel_env(N=AGENTS, max_cycles=LIMIT)
        found.append((f"mpe2 {version('mpe2')}", "simple_spread_v3", 1, 500, parallel_steps(peer, 500)))
    if installed("vmas"):
        found.append((f"vmas {version('vmas')}", "simple_spread", 4_096, LIMIT, vmas_steps(4_096, LIMIT)))
    return found


def measure(rounds: int) -> pd.DataFrame:
    """The table, one row per case."""
    table = cases()
    rates: list[list[float]] = [[] for _ in table]
    for case in table:
        case[-1]()  # warm
    for _ in range(rounds):
        for rate, (_, _, copies, steps, run) in zip(rates, table, strict=True):
            start = time.process_time()
            run()
            rate.append(copies * steps / (time.process_time() - start))
    return pd.DataFrame([
        {"library": library, "game": game, "num_envs": copies, "agents": AGENTS,
         "steps_per_second": statistics.median(rate)}
        for (library, game, copies, _, _), rate in zip(table, rates, strict=True)
    ])  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of measurements")
    parser.add_argument("--bar", type=float, default=None, help="exit with an error if batched TargetGrid is slower")
    parser.add_argument("--no-write", action="store_true", help="print only, leave results/ alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = measure(options.rounds)
    print(table.to_string(index=False, float_format="%.3g"))
    if not options.no_write:
        command = "python -m benchmarks.team_environment_speed"
        if options.rounds != 7:
            command += f" --rounds {options.rounds}"
        modules = ["ca14lib.environments.target_grid", "ca14lib.environments.multi_agent"]
        write_results("team_environment_speed", table, command=command, modules=modules)
    fastest = table[table["game"] == "TargetGrid"]["steps_per_second"].max()
    if options.bar is not None and fastest < options.bar:
        raise SystemExit(f"TargetGrid makes {fastest:,.0f} steps a second, expected at least {options.bar:,.0f}")


if __name__ == "__main__":
    main()
