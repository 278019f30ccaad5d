"""Attacks on what an agent observes, and a suite of them for any agent. Book: robust/adversarial.

Every attack moves an observation within a ball, in units of the agent's own normalised observations. The agent sees the
perturbed observation; the environment's state is never touched. Any attack gives an upper bound on what the worst
perturbation leaves of the return, so the lowest of all counts, and none of them proves that there is no lower one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ca14lib.agents.base import Agent
from ca14lib.agents.robust.atla import ObservationAdversaryConfig
from ca14lib.agents.robust.attacks import Attack, Victim
from ca14lib.agents.robust.certified import CertifiedPolicy, certified_return
from ca14lib.agents.robust.perturbations import require_epsilon
from ca14lib.environments.pushed_cart_pole import TIME_LIMIT, cart_pole_failed, cart_pole_successor
from ca14lib.evaluation.rollouts import RolloutEvaluation
from ca14lib.training.adversarial import Environment, Perturb, learned_perturbation, train_observation_adversary

SUITE = ("random", "fgsm", "pgd", "critic", "mad", "target", "learned")


class AttackedAgent:
    """An agent whose observations pass through an attack first; takes the agent's place in evaluation.

    Args:
        agent: The agent.
        perturb: Function of observations ``[N, …]`` to what it is shown.
    """

    def __init__(self, agent: Agent, perturb: Perturb) -> None:
        self.agent, self.perturb = agent, perturb
        self.observation_space, self.action_space = agent.observation_space, agent.action_space

    def act(self, observation: ArrayLike, *, deterministic: bool = False) -> NDArray:
        """The agent's actions on what it is shown."""
        return self.agent.act(self.perturb(np.asarray(observation)), deterministic=deterministic)


class AttackSuite:
    """Evaluates agents under every attack; the worst of all is the number that counts.

    Args:
        environment: Gymnasium id; its episodes must end.
        epsilon: Radius of the ball in units of the agent's normalised observations.
        episodes: Episodes under each attack, all from the same starts, which no training sees.
        seed: Fixes starts and attacks.
        attacks: Names of the attacks, of :data:`SUITE`.
        deterministic: Evaluate, and attack, the agent's best actions.
        steps: Gradient steps of the iterated attacks.
        restarts: Their random starts.
        adversary_steps: Environment steps for which the learned adversary trains.
        adversaries: Learned adversaries that are trained, each with a seed of its own; the worst for the agent counts.
        adversary_config: Their configuration.
        training_environment: What they train in; None for ``environment``.
        environment_arguments: Keyword arguments of the environment.
    Raises:
        ValueError: If a number is out of range or an attack unknown.
    """

    def __init__(
        self,
        environment: str,
        epsilon: float,
        *,
        episodes: int = 50,
        seed: int = 0,
        attacks: Sequence[str] = SUITE,
        deterministic: bool = True,
        steps: int = 10,
        restarts: int = 1,
        adversary_steps: int = 100_000,
        adversaries: int = 1,
        adversary_config: ObservationAdversaryConfig | None = None,
        training_environment: Environment | None = None,
        environment_arguments: Mapping[str, Any] | None = None,
    ) -> None:
        require_epsilon(epsilon)
        unknown = [name for name in attacks if name not in SUITE]
        if unknown:
            raise ValueError(f"attack must be one of {', '.join(SUITE)}, got {unknown[0]!r}")
        for name, value in (("adversary_steps", adversary_steps), ("adversaries", adversaries)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a positive integer, got {value}")
        self.epsilon, self.attacks, self.seed = epsilon, tuple(attacks), seed
        self.steps, self.restarts, self.deterministic = steps, restarts, deterministic
        self.adversary_steps, self.adversaries = adversary_steps, adversaries
        self.adversary_config = adversary_config
        self.training_environment = environment if training_environment is None else training_environment
        self.evaluation = RolloutEvaluation(
            environment, episodes, seed, deterministic=deterministic, environment_arguments=environment_arguments
        )

    def returns(self, agent: Agent, perturb: Perturb | None = None) -> NDArray[np.float64]:
        """Return of every episode, ``[episodes]``, under an attack or none."""
        shown = agent if perturb is None else AttackedAgent(agent, perturb)
        return self.evaluation.episodes_of(shown)[0]  # type: ignore[arg-type]

    def fixed_attacks(self, agent: Agent) -> dict[str, Attack]:
        """The attacks on an agent that need no training, by name.

        Raises:
            ValueError: If the agent has not what one of them needs.
        """
        found: dict[str, Attack] = {}
        for name in self.attacks:
            if name == "target":
                for target in range(Victim(agent).num_targets):
                    found[f"target {target}"] = Attack(agent, name, self.epsilon, target=target)
            elif name != "learned":
                found[name] = Attack(
                    agent, name, self.epsilon, steps=self.steps, restarts=self.restarts, seed=self.seed
                )
        return found

    def returns_under_attack(self, agent: Agent) -> dict[str, NDArray[np.float64]]:
        """Return of every episode under ``none`` and every attack, ``[episodes]`` each.

        Learned adversaries begin with what the strongest of the other attacks does.

        Raises:
            ValueError: If the agent has not what an attack needs, or does not fit the environment.
        """
        fixed = self.fixed_attacks(agent)
        found = {"none": self.returns(agent)} | {name: self.returns(agent, attack) for name, attack in fixed.items()}
        if "learned" in self.attacks and self.epsilon > 0:
            teacher = min(fixed, key=lambda name: found[name].mean()) if fixed else None
            for index in range(self.adversaries):
                adversary, _ = train_observation_adversary(
                    agent, self.training_environment, self.epsilon, self.adversary_steps,
                    teacher=None if teacher is None else fixed[teacher], config=self.adversary_config,
                    deterministic=self.deterministic, seed=self.seed + index,
                )  # fmt: skip
                perturb = learned_perturbation(adversary, agent, deterministic=True)
                found["learned" if index == 0 else f"learned {index}"] = self.returns(agent, perturb)
        return found

    def __call__(self, agent: Agent) -> pd.DataFrame:
        """Attack an agent in every way.

        Returns:
            One row per attack, ``none`` first and ``worst``, the attack with the lowest mean, last: ``attack``,
            ``return`` (mean over episodes), ``low`` and ``high`` (its 95% bootstrap interval), ``strongest`` (which
            attack the last row is).
        Raises:
            ValueError: If the agent has not what an attack needs, or does not fit the environment.
        """
        returns = self.returns_under_attack(agent)
        strongest = min(returns, key=lambda name: returns[name].mean())
        rows = [
            {"attack": name, "return": float(values.mean()), **mean_interval(values, self.seed), "strongest": name}
            for name, values in (*returns.items(), ("worst", returns[strongest]))
        ]
        rows[-1]["strongest"] = strongest
        return pd.DataFrame(rows)


def mean_interval(values: NDArray[np.float64], seed: int = 0, repetitions: int = 2_000) -> dict[str, float]:
    """``low`` and ``high``: 95% percentile bootstrap interval of a mean over episodes."""
    generator = np.random.default_rng(seed)
    means = values[generator.integers(len(values), size=(repetitions, len(values)))].mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return {"low": float(low), "high": float(high)}


def cart_pole_certified_returns(
    agent: Agent, epsilon: float, starts: NDArray[np.float64], *, cap: int = 4_096, linear: bool = True
) -> NDArray[np.float64]:
    """Lower bounds on the return of an agent's best actions on CartPole, whatever perturbation is shown, ``[starts]``.

    The dynamics is deterministic, so the tree of all states that the certified actions allow can be followed (book eq.
    certified-return).

    Args:
        agent: An on-policy agent for CartPole.
        epsilon: Radius in units of the agent's normalised observations.
        starts: First states, ``[starts, 4]``.
        cap: Largest number of branches; more branches, a tighter bound.
        linear: Linear bounds; False for intervals.
    Raises:
        ValueError: If ε is negative or agent or starts do not fit.
    """
    starts = np.asarray(starts, dtype=np.float64)
    if starts.ndim != 2 or starts.shape[1] != 4:
        raise ValueError(f"starts must have shape [starts, 4], got {starts.shape}")
    policy = CertifiedPolicy(agent, epsilon, linear=linear)

    def successor(
        states: NDArray[np.float64], action: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        following = cart_pole_successor(states, action)
        return following, np.ones(len(states)), cart_pole_failed(following)

    return np.array([certified_return(policy.possible, successor, start, TIME_LIMIT, cap) for start in starts])
