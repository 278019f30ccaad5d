"""Updates and policies of peer libraries, on command: runs in an environment of its own (peer_requirements.txt).

    python benchmarks/peer_worker.py < commands

One JSON object a line on standard input, one answer a line on standard output: ``{"build": [library, agent]}`` prepares
an update on the same sizes as ``update_speed.py`` and answers with the library's version; ``{"updates": n}`` does n and
answers with the seconds they took. ``{"learn": agent, "data": file, "settings": {…}, "hidden": width, "updates": n,
"seed": s}`` trains an agent of d3rlpy on the columns of an ``.npz`` file, and ``{"act": observations}`` then answers
with its best actions. It imports nothing of the course.
"""

import json
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

BATCH, HIDDEN, FEATURES, ACTIONS, DIMENSIONS, TRANSITIONS = 256, 256, 4, 4, 2, 100_000


def data(continuous: bool) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    observation = generator.standard_normal((TRANSITIONS, FEATURES)).astype(np.float32)
    ended = np.arange(1, TRANSITIONS + 1) % 100 == 0
    terminal = ended & (generator.random(TRANSITIONS) < 0.5)
    if continuous:
        action = generator.uniform(-1, 1, (TRANSITIONS, DIMENSIONS)).astype(np.float32)
    else:
        action = generator.integers(ACTIONS, size=(TRANSITIONS, 1))
    reward = generator.standard_normal((TRANSITIONS, 1)).astype(np.float32)
    return {
        "observation": observation, "action": action, "reward": reward,
        "terminal": terminal, "timeout": ended & ~terminal,
    }  # fmt: skip


def d3rlpy_update(agent: str) -> tuple[str, Callable[[], Any]]:
    import d3rlpy
    from d3rlpy.models.encoders import VectorEncoderFactory

    continuous = not agent.startswith("Discrete") and agent != "DQN"
    names = {"TD3BC": "TD3PlusBC", "DQN": "DoubleDQN"}
    config = getattr(d3rlpy.algos, names.get(agent, agent) + "Config")
    encoder = VectorEncoderFactory([HIDDEN, HIDDEN])
    encoders = [name for name in config.__dataclass_fields__ if name.endswith("encoder_factory")]
    algorithm = config(batch_size=BATCH, **dict.fromkeys(encoders, encoder)).create(device="cpu")
    columns = data(continuous)
    dataset = d3rlpy.dataset.MDPDataset(
        columns["observation"], columns["action"], columns["reward"], columns["terminal"].astype(np.float32),
        columns["timeout"].astype(np.float32),
        action_space=d3rlpy.ActionSpace.CONTINUOUS if continuous else d3rlpy.ActionSpace.DISCRETE,
        action_size=DIMENSIONS if continuous else ACTIONS,
    )  # fmt: skip
    algorithm.build_with_dataset(dataset)
    batch = dataset.sample_transition_batch(BATCH)  # drawn once: its own sampling is not counted against the peer
    return d3rlpy.__version__, lambda: algorithm.update(batch)


def tianshou_update(agent: str) -> tuple[str, Callable[[], Any]]:
    import gymnasium as gym
    import tianshou
    from tianshou.algorithm.optim import AdamOptimizerFactory
    from tianshou.data import Batch, ReplayBuffer
    from tianshou.utils.net.common import Net
    from tianshou.utils.net.continuous import (
        ContinuousActorDeterministic,
        ContinuousActorProbabilistic,
        ContinuousCritic,
    )
    from tianshou.utils.net.discrete import DiscreteActor

    continuous = agent in ("SAC", "TD3BC")
    columns = data(continuous)
    space: gym.Space = gym.spaces.Box(-1, 1, (DIMENSIONS,)) if continuous else gym.spaces.Discrete(ACTIONS)
    seen = gym.spaces.Box(-np.inf, np.inf, (FEATURES,))
    adam = AdamOptimizerFactory(lr=3e-4)

    def trunk(concat: bool = False) -> Net:
        return Net(
            state_shape=(FEATURES,), action_shape=(DIMENSIONS,) if concat else 0, hidden_sizes=[HIDDEN, HIDDEN],
            concat=concat,
        )  # fmt: skip

    def critic() -> ContinuousCritic:
        return ContinuousCritic(preprocess_net=trunk(concat=True))

    if agent == "DQN":
        from tianshou.algorithm.modelfree.dqn import DQN, DiscreteQLearningPolicy

        net = Net(state_shape=(FEATURES,), action_shape=(ACTIONS,), hidden_sizes=[HIDDEN, HIDDEN])
        policy = DiscreteQLearningPolicy(model=net, action_space=space, observation_space=seen)
        algorithm: Any = DQN(policy=policy, optim=adam, is_double=True, target_update_freq=1)
    elif agent == "DiscreteBCQ":
        from tianshou.algorithm.imitation.discrete_bcq import DiscreteBCQ, DiscreteBCQPolicy

        actors = [DiscreteActor(preprocess_net=trunk(), action_shape=ACTIONS, softmax_output=False) for _ in range(2)]
        policy = DiscreteBCQPolicy(model=actors[0], imitator=actors[1], action_space=space, observation_space=seen)
        algorithm = DiscreteBCQ(policy=policy, optim=adam, target_update_freq=1)
    elif agent == "SAC":
        from tianshou.algorithm.modelfree.sac import SAC, SACPolicy

        actor = ContinuousActorProbabilistic(
            preprocess_net=trunk(), action_shape=(DIMENSIONS,), unbounded=True, conditioned_sigma=True
        )
        policy = SACPolicy(actor=actor, action_space=space, observation_space=seen)
        algorithm = SAC(
            policy=policy, policy_optim=adam, critic=critic(), critic_optim=adam, critic2=critic(), critic2_optim=adam
        )
    else:
        from tianshou.algorithm.imitation.td3_bc import TD3BC
        from tianshou.algorithm.modelfree.ddpg import ContinuousDeterministicPolicy

        actor = ContinuousActorDeterministic(preprocess_net=trunk(), action_shape=(DIMENSIONS,), max_action=1)
        policy = ContinuousDeterministicPolicy(actor=actor, action_space=space, observation_space=seen)
        algorithm = TD3BC(
            policy=policy, policy_optim=adam, critic=critic(), critic_optim=adam, critic2=critic(), critic2_optim=adam
        )
    buffer = ReplayBuffer(size=20_000)
    for row in range(20_000):
        buffer.add(
            Batch(
                obs=columns["observation"][row], act=columns["action"][row].squeeze(), rew=columns["reward"][row, 0],
                terminated=bool(columns["terminal"][row]), truncated=bool(columns["timeout"][row]),
                obs_next=columns["observation"][(row + 1) % TRANSITIONS], info={},
            )
        )  # fmt: skip

    def update() -> None:
        with tianshou.utils.torch_utils.policy_within_training_step(algorithm.policy):
            algorithm.update(buffer=buffer, sample_size=BATCH)

    return tianshou.__version__, update


def d3rlpy_policy(
    agent: str, columns: dict[str, Any], settings: dict[str, Any], hidden: int, updates: int, seed: int
) -> tuple[str, Callable[[Any], Any]]:
    import d3rlpy
    from d3rlpy.logging import NoopAdapterFactory
    from d3rlpy.models.encoders import VectorEncoderFactory
    from d3rlpy.preprocessing import MinMaxActionScaler, StandardObservationScaler

    d3rlpy.seed(seed)
    config = getattr(d3rlpy.algos, {"TD3BC": "TD3PlusBC"}.get(agent, agent) + "Config")
    encoder = VectorEncoderFactory([hidden, hidden])
    encoders = [name for name in config.__dataclass_fields__ if name.endswith("encoder_factory")]
    algorithm = config(
        batch_size=BATCH, observation_scaler=StandardObservationScaler(),
        action_scaler=MinMaxActionScaler(minimum=columns["low"], maximum=columns["high"]),
        **dict.fromkeys(encoders, encoder), **settings,
    ).create(device="cpu")  # fmt: skip
    dataset = d3rlpy.dataset.MDPDataset(
        columns["observation"], columns["action"], columns["reward"][:, None], columns["terminated"],
        columns["truncated"], action_space=d3rlpy.ActionSpace.CONTINUOUS, action_size=columns["action"].shape[1],
    )  # fmt: skip
    algorithm.fit(
        dataset, updates, updates, show_progress=False, logger_adapter=NoopAdapterFactory(), save_interval=updates + 1
    )
    return d3rlpy.__version__, lambda seen: algorithm.predict(np.asarray(seen, np.float32)).tolist()


BUILDERS = {"d3rlpy": d3rlpy_update, "tianshou": tianshou_update}


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    update: Callable[[], Any] | None = None
    act: Callable[[Any], Any] | None = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            if "build" in command:
                library, agent = command["build"]
                version, update = BUILDERS[library](agent)
                answer: dict[str, Any] = {"version": version}
            elif "learn" in command:
                columns = dict(np.load(command["data"]))
                rest = [command[key] for key in ("settings", "hidden", "updates", "seed")]
                start = time.perf_counter()
                version, act = d3rlpy_policy(command["learn"], columns, *rest)
                answer = {"version": version, "seconds": time.perf_counter() - start}
            elif "act" in command:
                assert act is not None, "learn comes first"
                answer = {"action": act(command["act"])}
            else:
                assert update is not None, "build comes first"
                start = time.perf_counter()
                for _ in range(command["updates"]):
                    update()
                answer = {"seconds": time.perf_counter() - start}
        except Exception as problem:
            answer = {"error": f"{type(problem).__name__}: {problem}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
