"""EPyMARL's teams on command: what they learn in a number of steps of a game, and how fast.

    python benchmarks/epymarl_worker.py CHECKOUT < commands

One JSON object a line on standard input, one answer a line on standard output. ``{"learn": algorithm, "game": name,
"steps": n, "seed": s, "episodes": m}`` trains with the checkout's own runner, buffer, controller and learner, with the
settings that it publishes in ``src/config``, on the CPU with one thread, and then plays m episodes of the last policy
in games from fresh seeds; the answer has ``return`` of actions as drawn at the end of training, ``greedy_return`` of
best actions, ``steps`` of training, and its ``seconds`` on the clock and ``cpu_seconds`` of all of its processes, with
updates and without test episodes. ``{"uniform": …}`` with the same other keys plays uniform actions. A return is the
sum of the agents' undiscounted rewards in an episode. A process is good for one command, because seeds and threads are
global there. It imports nothing of the course.

The checkout's ``main.py`` is left out, which needs ``sacred``: the configuration is merged here as it does it. Three
things are put where the checkout looks for them: an empty ``smaclite``, whose games are not played; MPE2 under its
former name ``pettingzoo.mpe``; a game id for Spread, which it would make itself from PettingZoo's folder of games.
Spread may go on for one step more than the time limit, which alone ends the episodes: the checkout's wrapper loses the
rewards of a game's own last step. Whether the end by the time limit counts as an end of the game in the learners is
left as it is there: it does.
"""

import argparse
import copy
import importlib
import json
import logging
import multiprocessing
import random
import resource
import sys
import time
import types
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
import yaml  # type: ignore[import-untyped]

GAMES: dict[str, dict[str, Any]] = {
    "Spread": {"key": "pz-mpe-simple-spread-v3", "time_limit": 25, "max_cycles": 26},
    "Foraging": {"key": "lbforaging:Foraging-8x8-2p-3f-v3", "time_limit": 50},
}
FRESH_SEED = 1_000_000  # added to the seed of training: of the games in which the last policy is tested


def prepare(checkout: Path) -> None:
    """Make the checkout's modules importable, and put what they look for in its place."""
    sys.path.insert(0, str(checkout / "src"))
    sys.modules["smaclite"] = types.ModuleType("smaclite")
    mpe2 = importlib.import_module("mpe2")
    sys.modules["pettingzoo.mpe"] = mpe2
    sys.modules["pettingzoo.mpe.simple_spread_v3"] = importlib.import_module("mpe2.simple_spread_v3")
    importlib.import_module("envs")
    gym.register(
        GAMES["Spread"]["key"], entry_point="envs.pz_wrapper:PettingZooWrapper",
        kwargs={"lib_name": "mpe", "env_name": "simple_spread_v3"},
    )  # fmt: skip


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A configuration with those entries of another one in the place of its own, at any depth."""
    result = dict(base)
    for key, value in changes.items():
        result[key] = merged(result.get(key) or {}, value) if isinstance(value, dict) else value
    return result


def settings(checkout: Path, algorithm: str, game: str, steps: int, seed: int) -> types.SimpleNamespace:
    """The published settings of an algorithm on a game."""
    config: dict[str, Any] = {}
    for name in ("default.yaml", "envs/gymma.yaml", f"algs/{algorithm}.yaml"):
        config = merged(config, yaml.safe_load((checkout / "src" / "config" / name).read_text()))
    assert config["common_reward"], "returns must be sums over agents"
    assert config["reward_scalarisation"] == "sum", "returns must be sums over agents"
    changes = {
        "env_args": GAMES[game] | {"seed": seed}, "seed": seed, "use_cuda": False, "device": "cpu",
        # it goes on while its steps are at most t_max
        "t_max": steps - 1,
        # the one test that it makes after its first episode, as short as possible
        "test_interval": 10 * steps, "test_nepisode": config["batch_size_run"],
    }  # fmt: skip
    return types.SimpleNamespace(**merged(config, changes))


def cpu_seconds() -> float:
    """Of this process and of the processes it has seen end."""
    spent = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


def learn(checkout: Path, algorithm: str, game: str, steps: int, seed: int, episodes: int) -> dict[str, float]:
    """Train, then test the last policy."""
    np.random.seed(seed)  # noqa: NPY002 (the generator that it draws from)
    random.seed(seed)
    torch.manual_seed(seed)
    run, runners = importlib.import_module("run"), importlib.import_module("runners").REGISTRY
    logger = importlib.import_module("utils.logging").Logger(logging.getLogger("epymarl"))
    args = settings(checkout, algorithm, game, steps, seed)
    original, made = runners[args.runner], []

    def kept(**arguments: Any) -> Any:
        made.append(original(**arguments))
        return made[0]

    runners[args.runner] = kept
    clock, processor = time.perf_counter(), cpu_seconds()
    run.run_sequential(args, logger)
    runner = made[0]
    for process in getattr(runner, "ps", ()):
        process.join()  # only then are their seconds counted
    seconds, spent = time.perf_counter() - clock, cpu_seconds() - processor
    answer = {"steps": runner.t_env, "seconds": seconds, "cpu_seconds": spent}
    for name, greedy in (("return", False), ("greedy_return", True)):
        answer[name] = tested(args, logger, runner, seed + FRESH_SEED, episodes, greedy)
    return answer


def tested(args: types.SimpleNamespace, logger: Any, trained: Any, seed: int, episodes: int, greedy: bool) -> float:
    """Mean return of a trained runner's policy, in a single game of its own.

    Policies are always drawn from in the checkout's own tests of MAPPO, values are always followed greedily in those of
    QMIX. The other mode of each is the checkout's too: its selector of most probable actions, and its ε-greedy one with
    the ε that training ended with.
    """
    args = copy.copy(args)
    args.batch_size_run, args.test_nepisode, args.env_args = 1, episodes + 1, args.env_args | {"seed": seed}
    runner = importlib.import_module("runners.episode_runner").EpisodeRunner(args, logger)
    scheme, groups = trained.new_batch.args[:2]
    runner.setup(scheme, groups, trained.new_batch.keywords["preprocess"], trained.mac)
    runner.t_env = trained.t_env
    runner.log_train_stats_t = trained.t_env  # nothing to log
    if args.action_selector == "soft_policies" and greedy:
        # made for ε of exploration too, which its tests do not have
        args.epsilon_start = args.epsilon_finish = 0.0
        args.epsilon_anneal_time, args.test_greedy = 1, True
        selectors = importlib.import_module("components.action_selectors").REGISTRY
        runner.mac.action_selector = selectors["multinomial"](args)
    elif args.action_selector == "epsilon_greedy":
        args.evaluation_epsilon = args.evaluation_epsilon if greedy else args.epsilon_finish
        runner.mac.action_selector.args = args
    with torch.no_grad():
        for _ in range(episodes):
            runner.run(test_mode=True)
    runner.close_env()
    return float(np.mean(runner.test_returns))


def uniform(checkout: Path, game: str, seed: int, episodes: int) -> dict[str, float]:
    """Mean return of uniform actions in the checkout's own wrapper of the game."""
    args = settings(checkout, "qmix", game, 1, seed + FRESH_SEED)
    env = importlib.import_module("envs").REGISTRY[args.env](
        **args.env_args, common_reward=args.common_reward, reward_scalarisation=args.reward_scalarisation
    )
    generator, returns = np.random.default_rng(seed), []
    for _ in range(episodes):
        env.reset()
        total, ended = 0.0, False
        while not ended:
            actions = generator.integers(env.get_total_actions(), size=env.n_agents)
            _, reward, terminated, truncated, _ = env.step(actions)
            total, ended = total + reward, terminated or truncated
        returns.append(total)
    return {"return": float(np.mean(returns)), "error": float(np.std(returns) / np.sqrt(episodes))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout", type=Path, help="folder of EPyMARL")
    options = parser.parse_args()
    torch.set_num_threads(1)
    multiprocessing.set_start_method("fork")  # its environments' processes must find what was put in place
    answers, sys.stdout = sys.stdout, sys.stderr
    prepare(options.checkout.resolve())
    command = json.loads(sys.stdin.readline())
    keys = {key: command[key] for key in ("game", "seed", "episodes")}
    if "learn" in command:
        answer = learn(options.checkout, command["learn"], steps=command["steps"], **keys)
    else:
        answer = uniform(options.checkout, **keys)
    answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
