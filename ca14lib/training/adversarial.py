"""Training against an adversary that learns as well: perturbed observations (ATLA) and disturbing forces (RARL).

Book: robust/adversarial. In both games the two sides take turns: while one learns, the other is part of the
environment. Each side learns from an environment of its own kind, a view of the same dynamics.
"""

from collections.abc import Callable
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import Tensor

from ca14lib.agents.base import Agent
from ca14lib.agents.on_policy import OnPolicyAgent
from ca14lib.agents.robust.atla import (
    ObservationAdversary,
    ObservationAdversaryConfig,
    observation_unit,
    perturbed_observation,
)
from ca14lib.agents.robust.perturbations import project, require_epsilon
from ca14lib.agents.robust.rarl import DisturbanceAdversary, adversary_reward
from ca14lib.environments.pushed_cart_pole import PushedCartPoleVector
from ca14lib.training.history import History
from ca14lib.training.on_policy import SafetyTally, _Collector
from ca14lib.training.vector import successors, vector_environment

Perturb = Callable[[NDArray], NDArray]


class ScaledAttack(Protocol):
    """An attack whose radius can be set, as those of :mod:`ca14lib.agents.robust.attacks`."""

    epsilon: float

    def __call__(self, observation: NDArray) -> NDArray: ...

    def advance(self) -> None:
        """Called once for every step of the environment, before the step."""


Environment = str | Callable[[int], VectorEnv]


class _View(VectorEnv):
    """A vector environment seen through one side of a game; ``truth`` is what the environment itself last showed."""

    def __init__(self, vector: VectorEnv) -> None:
        self.vector = vector
        self.num_envs, self.metadata = vector.num_envs, vector.metadata
        self._spaces(vector.single_observation_space, vector.single_action_space)
        self.truth: NDArray = np.zeros(0)

    def _spaces(self, observation: gym.Space, action: gym.Space) -> None:
        self.single_observation_space, self.single_action_space = observation, action
        self.observation_space = gym.vector.utils.batch_space(observation, self.num_envs)
        self.action_space = gym.vector.utils.batch_space(action, self.num_envs)

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[NDArray, dict[str, Any]]:
        self.truth, info = self.vector.reset(seed=seed, options=options)
        return self.truth, info

    def step(self, actions: Any) -> tuple[NDArray, NDArray, NDArray, NDArray, dict[str, Any]]:
        self.truth, *rest = self.vector.step(actions)
        return self.truth, *rest

    def close(self, **arguments: Any) -> None:
        self.vector.close(**arguments)


class PerturbedObservations(_View):
    """What an agent under attack lives in: every observation is perturbed once, the state never.

    Args:
        vector: The environment, with automatic resets in the same step.
        perturb: Function of observations ``[N, …]`` to those that are shown. What followed a cut, before its reset, is
            perturbed as well: the agent would have seen it so.
        advance: Called before every step: what an attack changes in time it changes here, since ``perturb`` is called
            twice in a step that ends an episode. None for an attack that does not change.
    """

    def __init__(self, vector: VectorEnv, perturb: Perturb, advance: Callable[[], None] | None = None) -> None:
        super().__init__(vector)
        self.perturb, self.advance = perturb, advance

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[NDArray, dict[str, Any]]:
        observation, info = super().reset(seed=seed, options=options)
        return self.perturb(observation), info

    def step(self, actions: Any) -> tuple[NDArray, NDArray, NDArray, NDArray, dict[str, Any]]:
        if self.advance is not None:
            self.advance()
        observation, reward, terminated, truncated, info = super().step(actions)
        ended = terminated | truncated
        if not ended.any():
            return self.perturb(observation), reward, terminated, truncated, info
        followed, begun = self.perturb(successors(observation, ended, info)), self.perturb(observation)
        shown = np.array(followed)
        shown[ended] = begun[ended]
        return shown, reward, terminated, truncated, info | {"final_obs": followed}


class ObservationAdversaryView(_View):
    """What the adversary of ATLA lives in: it sees the truth, acts by perturbing what the agent sees, and is paid minus
    the agent's reward.

    Args:
        vector: The environment.
        agent: The agent, which does not learn here.
        epsilon: Bound of a perturbation, in units of normalised observations.
        deterministic: The agent takes its best actions.
    """

    def __init__(self, vector: VectorEnv, agent: Agent, epsilon: float, *, deterministic: bool = False) -> None:
        super().__init__(vector)
        self.agent, self.epsilon, self.deterministic = agent, epsilon, deterministic
        self.unit = observation_unit(agent).cpu()
        space = gym.spaces.Box(-epsilon, epsilon, tuple(self.unit.shape), dtype=np.float32)
        self._spaces(vector.single_observation_space, space)

    def step(self, actions: Any) -> tuple[NDArray, NDArray, NDArray, NDArray, dict[str, Any]]:
        truth = torch.as_tensor(self.truth)
        shown = perturbed_observation(truth, torch.as_tensor(actions), self.unit, self.epsilon)
        action = self.agent.act(shown.numpy(), deterministic=self.deterministic)
        observation, reward, *rest = super().step(action)
        return observation, adversary_reward(reward), *rest  # type: ignore[return-value]


class PushedView(_View):
    """What the protagonist of RARL lives in: CartPole with an adversary's hand on the cart.

    Args:
        vector: CartPole with a push.
        adversary: Function of observations ``[N, 4]`` to forces ``[N, 1]``.
    """

    def __init__(self, vector: PushedCartPoleVector, adversary: Callable[[NDArray], NDArray]) -> None:
        super().__init__(vector)
        self.adversary = adversary

    def step(self, actions: Any) -> tuple[NDArray, NDArray, NDArray, NDArray, dict[str, Any]]:
        self.vector.push = self.adversary(self.truth)[:, 0]  # type: ignore[attr-defined]
        return super().step(actions)


class PushingView(_View):
    """What the adversary of RARL lives in: its actions are forces, and it is paid minus the agent's reward.

    Args:
        vector: CartPole with a push.
        agent: The agent, which does not learn here.
        limit: The largest force in N.
        deterministic: The agent takes its best actions.
    """

    def __init__(
        self, vector: PushedCartPoleVector, agent: Agent, limit: float, *, deterministic: bool = False
    ) -> None:
        super().__init__(vector)
        self.agent, self.deterministic = agent, deterministic
        self._spaces(vector.single_observation_space, gym.spaces.Box(-limit, limit, (1,), dtype=np.float32))

    def step(self, actions: Any) -> tuple[NDArray, NDArray, NDArray, NDArray, dict[str, Any]]:
        self.vector.push = np.asarray(actions)[:, 0]  # type: ignore[attr-defined]
        action = self.agent.act(self.truth, deterministic=self.deterministic)
        observation, reward, *rest = super().step(action)
        return observation, adversary_reward(reward), *rest  # type: ignore[return-value]


def learned_perturbation(adversary: ObservationAdversary, agent: Agent, *, deterministic: bool = False) -> Perturb:
    """The function of observations ``[N, …]`` to what an adversary shows the agent in their place."""
    unit = observation_unit(agent).cpu()

    def perturb(observation: NDArray) -> NDArray:
        action = torch.as_tensor(adversary.act(observation, deterministic=deterministic))
        return perturbed_observation(torch.as_tensor(observation), action, unit, adversary.epsilon).numpy()

    return perturb


class _Side:
    """One learner of a game with its environment: an iteration is a rollout and an update."""

    def __init__(self, learner: OnPolicyAgent, view: _View, name: str, seed: int) -> None:
        self.learner, self.view = learner, view
        self.collector = _Collector(learner, view, name, seed, 0, None, None)
        self.tally = SafetyTally(())

    def iterate(self, steps: int) -> dict[str, float]:
        """Learn once; what ``update`` returned and mean return and length of the episodes that ended."""
        rollout = self.collector.rollout(steps)
        logs = {name: float(value) for name, value in self.learner.update(rollout).items()}
        return logs | self.tally([rollout])


def train_observation_adversary(
    agent: Agent,
    environment: Environment,
    epsilon: float,
    steps: int,
    *,
    teacher: Perturb | None = None,
    config: ObservationAdversaryConfig | None = None,
    num_envs: int = 32,
    rollout_steps: int = 64,
    deterministic: bool = True,
    seed: int = 0,
) -> tuple[ObservationAdversary, History]:
    """Train a learned adversary against an agent that stays as it is: the strongest attack that PPO finds.

    Against an agent that never fails all perturbations are worth the same, and there is nothing to climb. A teacher, an
    attack that does make it fail, is imitated first, and improved upon from there.

    Args:
        agent: The agent, not changed.
        environment: Gymnasium id, or a function of the number of copies to a vector environment that resets itself in
            the same step.
        epsilon: Bound of a perturbation, in units of normalised observations; positive.
        steps: Environment steps, rounded up to whole iterations of ``num_envs * rollout_steps``; those of the
            teacher, half as many and at most 500 for each environment, are not counted.
        teacher: An attack on the agent within the same ball, or None.
        config: The adversary's configuration.
        num_envs: Environments stepped together.
        rollout_steps: Steps of each between two updates.
        deterministic: The agent takes its best actions, which is what evaluation attacks.
        seed: Fixes adversary and environments.
    Returns:
        The adversary, and the history of its training; ``episode_return`` is minus the agent's.
    Raises:
        ValueError: If a number is out of range or the agent does not fit the environment.
    """
    iterations = _iterations(steps, num_envs, rollout_steps)
    adversary = ObservationAdversary.against(agent, epsilon, config, seed=seed)
    vector = _vector(environment, num_envs, agent)
    view = ObservationAdversaryView(vector, agent, epsilon, deterministic=deterministic)
    if teacher is not None:
        seen, moved = _lesson(view, teacher, seed, min(500, 1 + steps // (2 * num_envs)))
        adversary.imitate(seen.to(adversary.device), moved.to(adversary.device))
    side, history = _Side(adversary, view, str(environment), seed), History()
    for iteration in range(1, iterations + 1):
        history.add(iteration * num_envs * rollout_steps, side.iterate(rollout_steps))
    vector.close()
    return adversary, history


def _lesson(view: ObservationAdversaryView, teacher: Perturb, seed: int, steps: int) -> tuple[Tensor, Tensor]:
    """Observations under a teacher's attack and its perturbations, in units of normalised observations."""
    seen, moved = [], []
    observation, _ = view.reset(seed=seed)
    for _ in range(steps):
        perturbation = (torch.as_tensor(teacher(observation)) - torch.as_tensor(observation)) / view.unit
        perturbation = project(perturbation, view.epsilon)
        seen.append(torch.as_tensor(observation))
        moved.append(perturbation)
        observation, *_ = view.step(perturbation.numpy())
    return torch.cat(seen), torch.cat(moved)


def train_under_attack(
    agent: OnPolicyAgent,
    environment: Environment,
    steps: int,
    attack: ScaledAttack,
    *,
    epsilon: float,
    ramp: tuple[float, float] = (0.2, 0.6),
    num_envs: int = 32,
    rollout_steps: int = 64,
    seed: int = 0,
) -> History:
    """Train an agent on rollouts in which an attack that is not trained perturbs what it sees.

    Args:
        agent: The agent, changed in place.
        environment: As for :func:`train_observation_adversary`.
        steps: Environment steps, rounded up to whole iterations.
        attack: On the agent's present policy; its ``epsilon`` is set before every rollout.
        epsilon: Radius in the end.
        ramp: Shares of the training at which the radius leaves 0 and reaches ``epsilon``: an agent that has learnt
            nothing yet learns nothing against the full attack.
        num_envs: Environments stepped together.
        rollout_steps: Steps of each between two updates.
        seed: Fixes the environments.
    Returns:
        The agent's logs and the ``radius`` of every rollout.
    Raises:
        ValueError: If a number is out of range or the agent does not fit the environment.
    """
    require_epsilon(epsilon)
    if not 0 <= ramp[0] < ramp[1] <= 1:
        raise ValueError(f"ramp must be two increasing shares of the training, got {ramp}")
    iterations, history = _iterations(steps, num_envs, rollout_steps), History()
    view = PerturbedObservations(_vector(environment, num_envs, agent), attack, attack.advance)
    side = _Side(agent, view, str(environment), seed)
    for iteration in range(iterations):
        attack.epsilon = epsilon * min(1.0, max(0.0, (iteration / iterations - ramp[0]) / (ramp[1] - ramp[0])))
        logs = side.iterate(rollout_steps) | {"radius": attack.epsilon}
        history.add((iteration + 1) * num_envs * rollout_steps, logs)
    view.close()
    return history


def train_atla(
    agent: OnPolicyAgent,
    environment: Environment,
    steps: int,
    *,
    epsilon: float,
    config: ObservationAdversaryConfig | None = None,
    agent_updates: int = 1,
    adversary_updates: int = 1,
    warmup_steps: int = 0,
    num_envs: int = 32,
    rollout_steps: int = 64,
    seed: int = 0,
) -> tuple[ObservationAdversary, History]:
    """Alternate an agent and an adversary on its observations (book alg. robust-atla-algorithm).

    The agent learns from perturbed observations, the adversary from true ones; the normalizer of both stays as it is.
    An agent that has learnt nothing yet learns nothing against an adversary: hence the steps alone at the start.

    Args:
        agent: The protagonist, changed in place: PPO, or AdversarialPPO for the regulariser on top.
        environment: As for :func:`train_observation_adversary`.
        steps: Environment steps of both sides together, rounded up to whole turns.
        epsilon: Bound of a perturbation, from the first turn on; positive.
        config: The adversary's configuration.
        agent_updates: Updates of the agent in a turn.
        adversary_updates: Updates of the adversary in a turn.
        warmup_steps: Of these, steps at the start in which the agent learns alone.
        num_envs: Environments of each side.
        rollout_steps: Steps of each between two updates.
        seed: Fixes adversary and environments.
    Returns:
        The adversary, and the history: the agent's logs, and the adversary's under ``adversary_…``.
    Raises:
        ValueError: If a number is out of range or the agent does not fit the environment.
    """
    for name, value in (("agent_updates", agent_updates), ("adversary_updates", adversary_updates)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value}")
    if not 0 <= warmup_steps <= steps:
        raise ValueError(f"warmup_steps must lie between 0 and the {steps} steps, got {warmup_steps}")
    adversary = ObservationAdversary.against(agent, epsilon, config, seed=seed)
    attacked = PerturbedObservations(_vector(environment, num_envs, agent), learned_perturbation(adversary, agent))
    attacking = ObservationAdversaryView(_vector(environment, num_envs, agent), agent, epsilon)
    sides = _Side(agent, attacked, str(environment), seed), _Side(adversary, attacking, str(environment), seed + 1)
    iteration_steps = num_envs * rollout_steps
    warm = PerturbedObservations(_vector(environment, num_envs, agent), lambda observation: observation)
    alone = _Side(agent, warm, str(environment), seed)
    return adversary, _take_turns(
        sides, (agent_updates, adversary_updates), _iterations(steps, num_envs, rollout_steps), iteration_steps,
        rollout_steps, alone, -(-warmup_steps // iteration_steps),
    )  # fmt: skip


def train_rarl(
    agent: OnPolicyAgent,
    adversary: DisturbanceAdversary,
    steps: int,
    *,
    agent_updates: int = 1,
    adversary_updates: int = 1,
    num_envs: int = 32,
    rollout_steps: int = 64,
    seed: int = 0,
) -> History:
    """Alternate an agent on CartPole and an adversary that pushes the cart (book alg. robust-rarl-algorithm).

    Args:
        agent: The protagonist, changed in place.
        adversary: The destabilising adversary, changed in place; see :meth:`DisturbanceAdversary.against`.
        steps: Environment steps of both sides together, rounded up to whole turns.
        agent_updates: Updates of the agent in a turn.
        adversary_updates: Updates of the adversary in a turn.
        num_envs: Environments of each side.
        rollout_steps: Steps of each between two updates.
        seed: Fixes the environments.
    Returns:
        The history: the agent's logs, and the adversary's under ``adversary_…``.
    Raises:
        ValueError: If a number is out of range or an agent does not fit CartPole.
    """
    for name, value in (("agent_updates", agent_updates), ("adversary_updates", adversary_updates)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value}")
    iterations = _iterations(steps, num_envs, rollout_steps)
    first, second = (PushedCartPoleVector(num_envs) for _ in range(2))
    _fits(agent, first)
    pushed, pushing = PushedView(first, adversary.act), PushingView(second, agent, adversary.limit)
    sides = _Side(agent, pushed, "CartPole", seed), _Side(adversary, pushing, "CartPole", seed + 1)
    return _take_turns(
        sides, (agent_updates, adversary_updates), iterations, num_envs * rollout_steps, rollout_steps, None, 0
    )


def _take_turns(
    sides: tuple[_Side, _Side], turns: tuple[int, int], iterations: int, iteration_steps: int, rollout_steps: int,
    alone: _Side | None, warmup: int,
) -> History:  # fmt: skip
    """Iterations of the two sides in turn, the agent first, after those in which it learns alone."""
    history, done = History(), 0
    for _ in range(warmup):
        assert alone is not None
        done += 1
        history.add(done * iteration_steps, alone.iterate(rollout_steps))
    while done < iterations:
        for side, updates, prefix in zip(sides, turns, ("", "adversary_"), strict=True):
            for _ in range(updates):
                done += 1
                logs = side.iterate(rollout_steps)
                history.add(done * iteration_steps, {prefix + name: value for name, value in logs.items()})
    for side in (*sides, *([] if alone is None else [alone])):
        side.view.close()
    return history


def _iterations(steps: int, num_envs: int, rollout_steps: int) -> int:
    for name, value in (("steps", steps), ("num_envs", num_envs), ("rollout_steps", rollout_steps)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a positive integer, got {value}")
    return -(-steps // (num_envs * rollout_steps))


def _vector(environment: Environment, num_envs: int, agent: Agent) -> VectorEnv:
    vector = vector_environment(environment, num_envs) if isinstance(environment, str) else environment(num_envs)
    _fits(agent, vector)
    return vector


def _fits(agent: Agent, vector: VectorEnv) -> None:
    for name in ("observation_space", "action_space"):
        if getattr(agent, name) != getattr(vector, f"single_{name}"):
            raise ValueError(
                f"the agent's {name} is {getattr(agent, name)}, the environment's {getattr(vector, f'single_{name}')}"
            )
