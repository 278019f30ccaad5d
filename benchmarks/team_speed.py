"""The whole QMIX training loop beside a plain loop over a single environment, in one run.

    python -m benchmarks.team_speed [--rounds 5] [--bar 3]

All cases train QMIX with the same networks (agents with two hidden layers of 64 and shared parameters, the mixer and
its hypernetworks at their defaults), on episodes of 25 steps, with one update on 32 whole episodes per episode played,
so that updates per step are equal too; one thread, one process. Ours is ``train_multi_agent``. The plain loops step one
environment, ask the agents for the actions of one state at a time, and update after every episode, as PyMARL and
EPyMARL do. The first has our own update, so that what is left is the loop and the environment. The second also has an
update written as in those libraries, without their recurrent layer: all networks are applied to one time step after
the other. Its environment is MPE2's ``simple_spread_v3``, ours on that game ``Spread``, which steps alike. On
TargetGrid, cut after 25 steps too, both sides have ours, the plain loop one copy of it.

``steps_per_second`` counts environment steps, in which all agents act, and is the median round's; rounds of all cases
alternate. ``ours_over_it`` is the median over rounds of our speed over the case's in the same round. Seconds are the
process's CPU time: what a clock shows where nothing else runs.

BenchMARL and AgileRL are measured if they can be imported; they are not among the benchmark's requirements. EPyMARL is
not on PyPI. Earlier measurements on this kind of machine, with recurrent networks in EPyMARL's case: 759 steps a second
for EPyMARL, 406 for BenchMARL.
"""

import argparse
import copy
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from mpe2 import simple_spread_v3
from torch import Tensor, nn

from ca14lib.agents.multi_agent.qmix import QMIX, QMIXConfig
from ca14lib.data import EpisodeReplay, JointTransitions
from ca14lib.environments import ParallelView, multi_agent_environment
from ca14lib.experiments import write_results
from ca14lib.networks import MonotonicMixer
from ca14lib.training.multi_agent import train_multi_agent

LENGTH, BATCH, CAPACITY, COPIES = 25, 32, 5_000, 64
HIDDEN, LEARNING_RATE, DISCOUNT = (64, 64), 5e-4, 0.99
CONFIG = QMIXConfig(hidden_sizes=HIDDEN, learning_rate=LEARNING_RATE, discount=DISCOUNT)
GAMES: dict[str, dict[str, Any]] = {"Spread": {}, "TargetGrid": {"time_limit": LENGTH}}
PEERS = ("benchmarl", "agilerl")


class Case(NamedTuple):
    """One row: the game, whose loop, whose update."""

    game: str
    loop: str
    update: str


CASES = tuple(
    Case(game, loop, update)
    for game in GAMES
    for loop, update in (("batched", "ours"), ("plain", "ours"), ("plain", "step by step"))
)
BAR_CASE = Case("Spread", "plain", "step by step")


class StepByStep:
    """QMIX in the manner of PyMARL: one-hot names in the input, networks applied to one step after the other."""

    def __init__(self, agents: int, features: int, actions: int, states: int) -> None:
        layers: list[nn.Module] = []
        for width, following in zip([features + agents, *HIDDEN], HIDDEN):
            layers += [nn.Linear(width, following), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.Linear(HIDDEN[-1], actions))
        self.mixer = MonotonicMixer(agents, states, CONFIG.embed_dim, CONFIG.hypernet_hidden)
        self.target_network, self.target_mixer = copy.deepcopy(self.network), copy.deepcopy(self.mixer)
        self.parameters = [*self.network.parameters(), *self.mixer.parameters()]
        self.optimizer = torch.optim.Adam(self.parameters, lr=LEARNING_RATE, fused=True)
        self.names, self.actions, self.updates = torch.eye(agents), actions, 0

    def q(self, network: nn.Module, observation: Tensor) -> Tensor:
        names = self.names.expand(*observation.shape[:-1], -1)
        return network(torch.cat([observation, names], dim=-1))

    @torch.no_grad()
    def act(self, observation: Tensor, epsilon: float) -> Tensor:
        greedy = self.q(self.network, observation).argmax(dim=-1)
        return torch.where(torch.rand(greedy.shape) < epsilon, torch.randint(self.actions, greedy.shape), greedy)

    def update(self, batch: JointTransitions) -> None:
        steps = range(len(batch.reward))
        q = torch.stack([self.q(self.network, batch.observation[step]) for step in steps])
        chosen = q.gather(-1, batch.action.unsqueeze(-1)).squeeze(-1)
        with torch.no_grad():
            target_q = torch.stack([self.q(self.target_network, batch.next_observation[step]) for step in steps])
            online_q = torch.stack([self.q(self.network, batch.next_observation[step]) for step in steps])
            following = target_q.gather(-1, online_q.argmax(dim=-1, keepdim=True)).squeeze(-1)
            bootstrap = DISCOUNT * ~batch.terminated * self.target_mixer(following, batch.next_state)
            target = batch.team_reward() + bootstrap
        assert batch.filled is not None
        error = (self.mixer(chosen, batch.state) - target) * batch.filled
        loss = error.square().sum() / batch.filled.sum()
        self.optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, CONFIG.max_gradient_norm)
        self.optimizer.step()
        self.updates += 1
        if self.updates % CONFIG.target_every == 0:
            self.target_network.load_state_dict(self.network.state_dict())
            self.target_mixer.load_state_dict(self.mixer.state_dict())


def single_environment(game: str) -> Any:
    """One copy with PettingZoo's interface."""
    if game == "Spread":
        return simple_spread_v3.parallel_env(max_cycles=LENGTH)
    return ParallelView(multi_agent_environment(game, 1, **GAMES[game]))


def plain_loop(case: Case) -> Callable[[], int]:
    """A function that plays some episodes in one environment, updates after each, and says how many steps it did."""
    shapes = multi_agent_environment(case.game, 1, **GAMES[case.game])
    spaces = shapes.single_observation_space, shapes.single_action_space, shapes.state_space
    replay = EpisodeReplay(*spaces, CAPACITY, LENGTH)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    ours: QMIX = QMIX.for_game(shapes, CONFIG)
    theirs = StepByStep(ours.num_agents, ours.features, ours.num_actions, ours.state_size)
    env = single_environment(case.game)

    def act(observation: np.ndarray) -> np.ndarray:
        if case.update == "ours":
            return ours.executed(ours.sample(observation).action)[0]
        return theirs.act(torch.as_tensor(observation), 0.5)[0].numpy()

    def episode(index: int) -> int:
        seen, _ = env.reset(seed=index)
        names, steps = list(env.possible_agents), 0
        observation, state = np.stack([seen[name] for name in names])[None], env.state()[None]
        while env.agents:
            action = act(observation)
            seen, rewards, over, cut, _ = env.step(dict(zip(names, action, strict=True)))
            following, after = np.stack([seen[name] for name in names])[None], env.state()[None]
            terminated = np.array([all(over.values())])
            replay.add(
                observation=observation, state=state, action=action[None],
                reward=np.array([[rewards[name] for name in names]]), next_observation=following, next_state=after,
                terminated=terminated, truncated=np.array([all(cut.values())]) & ~terminated,
            )  # fmt: skip
            observation, state, steps = following, after, steps + 1
        return steps

    count = 0
    for _ in range(BATCH):
        count += 1
        episode(count)

    def go() -> int:
        nonlocal count
        steps = 0
        for _ in range(COPIES // 2):
            count += 1
            steps += episode(count)
            batch = replay.sample(BATCH, generator)
            if case.update == "ours":
                ours.update(batch)
            else:
                theirs.update(batch)
        return steps

    return go


def batched_loop(case: Case) -> Callable[[], int]:
    """A function that trains in all copies for three iterations: as many updates as episodes, but for the first."""
    shapes = multi_agent_environment(case.game, 1, **GAMES[case.game])
    agent: QMIX = QMIX.for_game(shapes, CONFIG)
    iterations = 3

    def go() -> int:
        train_multi_agent(
            agent, case.game, iterations * COPIES * LENGTH, environment_arguments=GAMES[case.game], num_envs=COPIES,
            rollout_steps=LENGTH, start_steps=0, updates=COPIES, batch_size=BATCH, capacity=CAPACITY, progress=False,
        )  # fmt: skip
        return iterations * COPIES * LENGTH

    return go


def measure(rounds: int) -> pd.DataFrame:
    """The table, one row per case."""
    loops = [batched_loop(case) if case.loop == "batched" else plain_loop(case) for case in CASES]
    for loop in loops:
        loop()
    rates: dict[Case, list[float]] = {case: [] for case in CASES}
    for _ in range(rounds):
        for case, loop in zip(CASES, loops):
            start = time.process_time()
            steps = loop()
            rates[case].append(steps / (time.process_time() - start))
    rows = []
    for case in CASES:
        ours = rates[Case(case.game, "batched", "ours")]
        rows.append({
            "game": case.game, "loop": case.loop, "update": case.update,
            "steps_per_second": statistics.median(rates[case]),
            "ours_over_it": statistics.median(mine / its for mine, its in zip(ours, rates[case])),
        })  # fmt: skip
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of speed measurements")
    parser.add_argument("--bar", type=float, default=None, help="exit with an error below this ratio on Spread")
    parser.add_argument("--no-write", action="store_true", help="print only, leave results/ alone")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [name for name in PEERS if importlib.util.find_spec(name) is not None]
    table = measure(options.rounds)
    print(table.to_string(index=False, float_format="%.3g"))
    print(f"libraries found beside: {', '.join(found) or 'none'}")
    if not options.no_write:
        command = "python -m benchmarks.team_speed" + f" --rounds {options.rounds}" * (options.rounds != 5)
        write_results(
            "multi_agent_speed", table, command=command, seeds=[0],
            modules=["ca14lib.agents.multi_agent.qmix", "ca14lib.training.multi_agent", "ca14lib.environments.spread"],
        )  # fmt: skip
    worst = table["ours_over_it"][CASES.index(BAR_CASE)]
    if options.bar is not None and worst < options.bar:
        raise SystemExit(f"the loop does {worst:.1f} times the steps of a plain one, expected {options.bar}")


if __name__ == "__main__":
    main()
