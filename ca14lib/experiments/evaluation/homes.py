"""Where every agent of the course is trained and tested for the comparison, and what is measured there.

An agent's home is the task that it can be trained on in seconds: UncertainGrid for discrete actions (from a log, or by
acting), SafeGrid within a limit for safe agents, Pendulum's log for continuous actions, TargetGrid for teams. Budgets
within a home are equal, so that sample efficiency means something there. Book: evaluation/framework.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from ca14lib.agents import AGENTS, TEAMS
from ca14lib.agents.base import Agent
from ca14lib.agents.hybrid.continual import ContinualDQN
from ca14lib.agents.hybrid.robust_lagrangian import RobustLagrangian, RobustLagrangianConfig
from ca14lib.agents.on_policy import OnPolicyAgent
from ca14lib.agents.robust.bootstrapped_dqn import BootstrappedDQN, BootstrappedDQNConfig
from ca14lib.data import OfflineDataset
from ca14lib.environments import uniform_policy
from ca14lib.evaluation.suites import (
    TEAM_GAME,
    Suite,
    penalised_return,
    pendulum_suite,
    safe_grid_suite,
    safe_grid_yardstick,
    target_grid_suite,
    uncertain_grid_suite,
    uncertain_grid_yardstick,
)
from ca14lib.experiments.multi_agent.communication import VIEW_TEAMS
from ca14lib.experiments.multi_agent.target_grid import TARGET_GRID_TEAMS, target_grid_training
from ca14lib.experiments.offline.comparison import Entry, build
from ca14lib.experiments.offline.continuous import TASKS, continuous_dataset
from ca14lib.experiments.offline.datasets import reference_returns
from ca14lib.experiments.safe.grid import SAFE_GRID, SAFE_GRID_AGENTS
from ca14lib.metrics.shares import share_of_range
from ca14lib.training.collect import collect
from ca14lib.training.continual import FISHER_ROWS
from ca14lib.training.history import History
from ca14lib.training.off_policy import train_off_policy
from ca14lib.training.offline import train_offline
from ca14lib.training.on_policy import train_on_policy
from ca14lib.training.vector import vector_environment

LIMIT = 0.6  # on the cost of an episode of SafeGrid
GRID = "CA14/UncertainGrid-v0"
GRID_WORLD = {"uncertainty": 0.1}  # what agents of the grid are trained in; obstacles, noise and failures included
LOG_EPISODES, GREED = 3_000, 0.5  # of the log, and share of its actions that lead towards the goal
CHECKPOINTS = 5  # evaluations during training, the last at its end


@dataclass(frozen=True)
class Home:
    """Where agents are trained and tested.

    Attributes:
        steps: Budget: updates from a log, or environment steps.
        train: Function of agent's name, seed, steps and an evaluation to the trained agent and its history.
        suite: Of test environments; the first number of its standard one is followed during training.
    """

    steps: int
    train: Callable[[str, int, int, Callable[[Any], Mapping[str, float]]], tuple[Any, History]]
    suite: Callable[[], Suite]
    agents: tuple[str, ...] = field(default=())


def mixed_walk(seed: int) -> Callable[[NDArray], NDArray[np.int64]]:
    """A behaviour on UncertainGrid: half of its actions lead towards the goal as it is seen, half are uniform."""
    random = np.random.default_rng(seed)

    def walk(observation: NDArray) -> NDArray[np.int64]:
        right, up = observation[:, 2], observation[:, 3]
        ahead = np.where(random.random(len(observation)) < 0.5, right > up, right > 0.0)
        towards = np.where(ahead, np.where(right > 0, 3, 2), np.where(up > 0, 0, 1))
        greedy = random.random(len(observation)) < GREED
        return np.where(greedy, towards, random.integers(4, size=len(observation)))

    return walk


def grid_log(seed: int, episodes: int = LOG_EPISODES) -> Any:
    """Episodes of :func:`mixed_walk` in the worlds of training."""
    return collect(gym.make(GRID, **GRID_WORLD), mixed_walk(seed), episodes, seed)  # type: ignore[arg-type]


_SMALL: dict[str, Any] = {"hidden_sizes": (64, 64), "learning_rate": 1e-3, "discount": 0.97}
_POLICY: dict[str, Any] = {
    "hidden_sizes": (64, 64), "learning_rate": 1e-3, "discount": 0.97, "entropy_weight": 0.05,
    "final_entropy_weight": 0.002, "annealing": 0.95,
}  # fmt: skip
# settings beyond the defaults, by agent; chosen with seeds from 100 on
LOGGED: dict[str, dict[str, Any]] = {
    "DQN": {}, "DiscreteBC": {}, "DiscreteBCRegularized": {"behaviour_weight": 0.1}, "DiscreteAWR": {},
    "DiscreteBCQ": {}, "DiscreteCQL": {"conservative_weight": 0.1},
    "DiscreteIQL": {"expectile": 0.9, "temperature": 3.0},
    "DiscreteCalQL": {"conservative_weight": 0.1}, "ConstrainedBCQ": {},
    "ContinualDQN": {"penalty_weight": 1.0},
    "QRDQN": {"num_quantiles": 32}, "IQN": {"num_fractions": 16, "num_target_fractions": 16, "num_cosines": 32},
    "C51": {"num_atoms": 51, "value_min": -40.0, "value_max": 15.0},
}  # fmt: skip
ACTING = ("BootstrappedDQN", "PPO", "AdversarialPPO")
SAFE = ("PPOLagrangian", "PIDLagrangian", "FixedPenalty", "CPO", "SafePolicyGradient", "RobustLagrangian")
RISK: dict[str, dict[str, Any]] = {
    "CVaRPolicyGradient": {"tail": 0.2},
    "RiskSensitivePolicyGradient": {"measure": "conditional_value_at_risk", "parameter": 0.8, "risk_weight": 1.0},
}
CONTINUOUS = ("SAC", "BC", "AWR", "BCQ", "CQL", "IQL", "TD3BC")


def logged_agent(name: str, seed: int, steps: int, judge: Any) -> tuple[Agent, History]:
    """A discrete agent that learns from the log; a continual one gets its halves one after the other."""
    data, cls = grid_log(seed), AGENTS[name]
    learner = build(Entry(cls, cls.config_class(**_SMALL | LOGGED[name]), steps), data, seed)
    if isinstance(learner, ContinualDQN):
        return learner, _in_halves(learner, data, steps, seed, judge)
    history = train_offline(
        learner, data, steps, seed=seed, evaluate=judge, evaluate_every=steps // CHECKPOINTS, progress=False
    )  # fmt: skip
    return learner, history


def _in_halves(learner: ContinualDQN, data: OfflineDataset, steps: int, seed: int, judge: Any) -> History:
    """Half of the updates on the first half of the episodes, then, those put away, the others on the second."""
    history, middle, episodes = History(), data.num_episodes // 2, np.arange(data.num_episodes)
    parts = ((0, steps // 2, episodes[:middle]), (steps // 2, steps - steps // 2, episodes[middle:]))
    for done, updates, chosen in parts:
        half = data.episodes(chosen)
        every = max(updates // CHECKPOINTS, 1)
        part = train_offline(learner, half, updates, seed=seed, evaluate=judge, evaluate_every=every, progress=False)
        for step, metric, value in part.rows:
            if step or not done:  # the second half begins where the first has ended
                history.add(done + step, {metric: value})
        learner.consolidate(half.sample(min(FISHER_ROWS, len(half)), torch.Generator().manual_seed(seed)))
    return history


def acting_agent(name: str, seed: int, steps: int, judge: Any) -> tuple[Agent, History]:
    """A discrete agent that learns on UncertainGrid by acting."""
    spaces, every = vector_environment(GRID, 1, **GRID_WORLD), steps // CHECKPOINTS
    known: dict[str, Any] = {"environment_arguments": GRID_WORLD, "seed": seed, "evaluate": judge, "progress": False}
    if name == "BootstrappedDQN":
        config = BootstrappedDQNConfig(**_SMALL, mask_probability=0.5)
        heads = BootstrappedDQN(spaces.single_observation_space, spaces.single_action_space, config, seed=seed)
        history = train_off_policy(
            heads, GRID, steps, num_envs=32, start_steps=3_200, updates_per_step=0.02, log_every=3_200,
            evaluate_every=every // 32 * 32, buffer=heads.replay(steps, num_envs=32, seed=seed), **known,
        )  # fmt: skip
        return heads, history
    cls: type[OnPolicyAgent] = AGENTS[name]  # type: ignore[assignment]
    agent = cls(spaces.single_observation_space, spaces.single_action_space, cls.config_class(**_POLICY), seed=seed)
    history = train_on_policy(
        agent, GRID, steps, num_envs=64, rollout_steps=50, evaluate_every=max(every // 3_200, 1), **known
    )  # fmt: skip
    return agent, history


def safe_agent(name: str, seed: int, steps: int, judge: Any) -> tuple[Agent, History]:
    """A safe agent on SafeGrid's original layout, within the limit."""
    spaces = vector_environment(SAFE_GRID, 1, one_hot=True)
    arguments: dict[str, Any] = {"one_hot": True}
    if name in SAFE_GRID_AGENTS:
        entry = SAFE_GRID_AGENTS[name]
        config, cls, num_envs = entry.config("original", LIMIT), entry.agent_class, entry.num_envs
        arguments |= {"restarts": 0.3}
    elif name == "RobustLagrangian":  # with one model it has one multiplier, as PPO-Lagrangian
        entry, cls, num_envs = SAFE_GRID_AGENTS["PPOLagrangian"], RobustLagrangian, 128
        known = asdict(entry.config("original", LIMIT))
        names = {item.name for item in fields(RobustLagrangianConfig)}
        config = RobustLagrangianConfig(**{key: value for key, value in known.items() if key in names})
        arguments |= {"restarts": 0.3}
    else:  # episodes begin at the start: their utility is of whole returns
        cls, num_envs = AGENTS[name], 128  # type: ignore[assignment]
        config = cls.config_class(**_POLICY | {"discount": 1.0, "entropy_weight": 1.0} | RISK[name])
    agent = cls(spaces.single_observation_space, spaces.single_action_space, config, seed=seed)
    history = train_on_policy(
        agent, SAFE_GRID, steps, environment_arguments=arguments, num_envs=num_envs, rollout_steps=50, seed=seed,
        evaluate=judge, evaluate_every=max(steps // (num_envs * 50) // CHECKPOINTS, 1), progress=False,
    )  # fmt: skip
    return agent, history


def continuous_agent(name: str, seed: int, steps: int, judge: Any) -> tuple[Agent, History]:
    """A continuous agent that learns from Pendulum's early experience."""
    data, cls = continuous_dataset("pendulum", "medium-replay"), AGENTS[name]
    known = TASKS["pendulum"].agents
    config = known[name].config if name in known else cls.config_class(hidden_sizes=(64, 64), learning_rate=1e-3)
    learner = build(Entry(cls, config, steps), data, seed)
    history = train_offline(
        learner, data, steps, seed=seed, evaluate=judge, evaluate_every=steps // CHECKPOINTS, progress=False
    )  # fmt: skip
    return learner, history


def team(name: str, seed: int, steps: int, judge: Any) -> tuple[Any, History]:
    """A team of two on TargetGrid."""
    entry = (VIEW_TEAMS | TARGET_GRID_TEAMS)[name]  # of MAPPO, which is in both, the settings for this game
    iterations = steps // (entry.loop.get("num_envs", 64) * entry.loop.get("rollout_steps", 16))
    return target_grid_training(
        entry, seed, steps=steps, arguments=TEAM_GAME, evaluate=judge, evaluate_every=max(iterations // CHECKPOINTS, 1)
    )


HOMES: dict[str, Home] = {
    "UncertainGrid, from a log": Home(3_000, logged_agent, uncertain_grid_suite, tuple(LOGGED)),
    "UncertainGrid, acting": Home(163_840, acting_agent, uncertain_grid_suite, ACTING),
    "SafeGrid": Home(327_680, safe_agent, lambda: safe_grid_suite(LIMIT), (*SAFE, *RISK)),
    "Pendulum, from a log": Home(
        3_000, continuous_agent, lambda: pendulum_suite(reference_returns("pendulum")), CONTINUOUS
    ),
    "TargetGrid": Home(131_072, team, target_grid_suite, tuple(TEAMS)),
}
HOME_OF: dict[str, str] = {agent: name for name, home in HOMES.items() for agent in home.agents}


def comparison_run(agent: str, seed: int, *, share_of_steps: float = 1.0) -> list[dict[str, Any]]:
    """Train one agent at home and measure every dimension that applies to it.

    Args:
        agent: Name of an agent or team.
        seed: Of data, agent and training.
        share_of_steps: Part of the home's budget.
    Returns:
        Rows ``home``, ``task``, ``dimension``, ``value``, ``zero``, ``one`` for the evaluator, and one more with the
        dimension ``exact share`` where an exact optimum, or for teams a bound, is known.
    """
    home = HOMES[HOME_OF[agent]]
    suite = home.suite()
    standard = next(item for item in suite.environments if item.role == "standard")
    clock = _Clock(standard.judge)
    unit = 16_384 if home.steps > 16_384 else CHECKPOINTS  # whole iterations of every agent, or equal parts of a log's
    steps = max(int(home.steps * share_of_steps) // unit, 1) * unit
    learner, history = home.train(agent, seed, steps, clock)
    trained = clock.seconds + time.process_time() - clock.since
    curve = history.series("return")
    times = np.linspace(0.0, float(curve.index[-1]), CHECKPOINTS + 1)[1:]  # equally spaced, if evaluations are not
    along = np.interp(times, curve.index.to_numpy(dtype=np.float64), curve.to_numpy())
    shares = np.clip(share_of_range(along, standard.zero, standard.one), 0.0, 1.0)
    task = f"{suite.name}: {standard.name}"
    rows = [
        {"task": task, "dimension": "sample_efficiency", "value": float(shares.mean()), "zero": 0.0, "one": 1.0},
        *suite.measure(as_deployed(learner)),
    ]
    costs = {
        "training_time": trained, "inference_time": decision_time(as_deployed(learner)),
        "parameters": sum(item.numel() for item in learner.parameters() if item.requires_grad),
        "memory": held_bytes(learner) / 2**20,
    }  # fmt: skip
    rows += [{"task": task, "dimension": name, "value": float(value)} for name, value in costs.items()]
    share = exact_share(as_deployed(learner), suite)
    if share is not None:
        rows.append({"task": task, "dimension": "exact share", "value": share})
    return [{"home": HOME_OF[agent]} | row for row in rows]


class _Vote:
    """Bootstrapped DQN by the vote of its heads: single heads are followed in training only."""

    def __init__(self, agent: BootstrappedDQN) -> None:
        self.agent, self.observation_space, self.action_space = agent, agent.observation_space, agent.action_space

    def act(self, observation: NDArray, *, mask: Any = None, deterministic: bool = True) -> NDArray:
        return self.agent.act(observation, mask=mask, deterministic=True)

    def policy_table(self, model: Any, deterministic: bool = True) -> NDArray[np.float64]:
        return self.agent.policy_table(model, deterministic=True)


def as_deployed(agent: Any) -> Any:
    """The agent as it is judged: as it acts, without what only exploration needs."""
    return _Vote(agent) if isinstance(agent, BootstrappedDQN) else agent


class _Clock:
    """An evaluation that adds up the processor time spent between evaluations."""

    def __init__(self, judge: Callable[[Any], Mapping[str, float]]) -> None:
        self.judge, self.seconds, self.since = judge, 0.0, time.process_time()

    def __call__(self, agent: Any) -> dict[str, float]:
        self.seconds += time.process_time() - self.since
        value = self.judge(as_deployed(agent))["return"]
        self.since = time.process_time()
        return {"return": value}


def exact_share(agent: Any, suite: Suite) -> float | None:
    """Share of an exact optimum in the suite's standard environment, as the agent acts; of a bound for teams.

    On SafeGrid the return is penalised for cost above the limit (book eq. evaluation-penalised). None for Pendulum.
    """
    if suite.name == "UncertainGrid":
        exact = uncertain_grid_yardstick()
        return exact.of_policy(agent.policy_table(exact.model, deterministic=False))["share"]
    if suite.name == "SafeGrid":
        yardstick = safe_grid_yardstick(LIMIT)
        zero = penalised_return(yardstick, uniform_policy(yardstick.model))
        value = penalised_return(yardstick, agent.policy_table(yardstick.model, deterministic=False))
        return share_of_range(value, zero, yardstick.optimal_return)
    if suite.name == "TargetGrid":
        standard = next(item for item in suite.environments if item.role == "standard")
        return share_of_range(standard.judge(agent)["return"], standard.zero, standard.one)
    return None


def decision_time(agent: Any, decisions: int = 200) -> float:
    """Median time in ms of a decision for one observation, after a few that warm up."""
    space = agent.observation_space
    observation = np.zeros((1, *(space.shape or ())), space.dtype)
    memory = (agent.initial_memory(1),) if getattr(agent, "memory_size", 0) else ()
    times = []
    for _ in range(decisions + 20):
        begun = time.perf_counter()
        agent.act(observation, *memory)
        times.append(time.perf_counter() - begun)
    return 1e3 * float(np.median(times[20:]))


def held_bytes(agent: torch.nn.Module) -> int:
    """Bytes of parameters, buffers and the state of the optimisers."""
    tensors = [*agent.parameters(), *agent.buffers()]
    for value in vars(agent).values():
        for optimiser in value.values() if isinstance(value, dict) else (value,):
            if isinstance(optimiser, torch.optim.Optimizer):
                states = optimiser.state.values()
                tensors += [item for state in states for item in state.values() if isinstance(item, torch.Tensor)]
    # an optimiser that is an attribute and in a list counts once
    return sum(item.numel() * item.element_size() for item in {id(item): item for item in tensors}.values())
