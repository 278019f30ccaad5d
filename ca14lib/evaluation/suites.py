"""Suites of test environments for the evaluator: one that an agent was made for, shifted ones, a larger one.

Book: evaluation/framework. Every test environment brings the return that counts as 0 and the one that counts as 1, so
that returns of different environments, negative ones too, are on one scale.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ca14lib.agents.base import Agent
from ca14lib.environments import (
    SAFE_GRID_LAYOUTS,
    ActionFailure,
    DelayedObservations,
    ObservationNoise,
    SafeGridVector,
    uniform_policy,
)
from ca14lib.environments.uncertain_grid import UncertainGridParameters, uncertain_grid_model
from ca14lib.evaluation.constrained import ConstrainedEvaluation
from ca14lib.evaluation.exact import ExactEvaluation
from ca14lib.evaluation.rollouts import RolloutEvaluation
from ca14lib.evaluation.teams import TeamEvaluation
from ca14lib.evaluation.uncertain_grid import UncertainGridEvaluation
from ca14lib.solvers import policy_costs, policy_return, smallest_cost

Judge = Callable[[Any], Mapping[str, float]]
ROLES = {"standard": "asymptotic_performance", "shifted": "robustness", "larger": "scalability"}


@dataclass(frozen=True)
class TestEnvironment:
    """One environment of a suite.

    Attributes:
        name: In tables.
        role: ``"standard"``, ``"shifted"`` or ``"larger"``: which dimension its return belongs to.
        judge: Function of the agent to at least ``return``, and ``cost`` where the suite has a limit.
        zero: Return that counts as 0, such as uniform play's.
        one: Return that counts as 1: the optimum, or a bound.
    """

    __test__ = False  # no test of pytest's

    name: str
    role: str
    judge: Judge
    zero: float
    one: float

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role must be one of {', '.join(ROLES)}, got {self.role!r}")
        if not self.one > self.zero:
            raise ValueError(f"{self.name}: the return that counts as 1 must exceed {self.zero}, got {self.one}")


@dataclass(frozen=True)
class Suite:
    """Test environments that one kind of agent can act in.

    Attributes:
        name: In tables.
        environments: At least one of them the standard one.
        limit: On the expected cost of an episode in the standard environment; None where there are no costs.
        cost_zero: The cost that counts as 0 for safety, above the limit.
    """

    name: str
    environments: Sequence[TestEnvironment]
    limit: float | None = None
    cost_zero: float | None = None

    def __post_init__(self) -> None:
        if not any(item.role == "standard" for item in self.environments):
            raise ValueError(f"suite {self.name!r} needs a standard environment, got {len(self.environments)} others")
        if self.limit is not None and not (self.cost_zero is not None and self.cost_zero > self.limit):
            raise ValueError(f"cost_zero must exceed the limit {self.limit}, got {self.cost_zero}")

    def measure(self, agent: Any) -> list[dict[str, Any]]:
        """Test an agent in every environment.

        Returns:
            Rows ``task``, ``dimension``, ``value``, ``zero``, ``one``, as the evaluator wants them.
        Raises:
            ValueError: If the agent is for other observations or actions than one of the environments.
        """
        rows = []
        for item in self.environments:
            found = item.judge(agent)
            task = f"{self.name}: {item.name}"
            rows.append(
                {"task": task, "dimension": ROLES[item.role], "value": found["return"]}
                | {"zero": item.zero, "one": item.one}
            )
            if item.role == "standard" and self.limit is not None:
                rows.append(
                    {"task": task, "dimension": "safety", "value": found["cost"]}
                    | {"zero": self.cost_zero, "one": self.limit}
                )
        return rows


# UncertainGrid: the original's four


UNCERTAIN_GRIDS: dict[str, tuple[str, dict[str, Any]]] = {
    "standard": ("standard", {"base_size": 6, "uncertainty": 0.0}),
    "noisy": ("shifted", {"base_size": 6, "uncertainty": 0.2, "dynamic_obstacles": False}),
    "obstacles": ("shifted", {"base_size": 6, "uncertainty": 0.1}),
    "large": ("larger", {"base_size": 8, "uncertainty": 0.1, "dynamic_obstacles": False}),
}


@cache
def uncertain_grid_suite(episodes: int = 500) -> Suite:
    """The original notebook's environments, with a planner's bound as 1 and uniform actions as 0."""
    environments = []
    for name, (role, arguments) in UNCERTAIN_GRIDS.items():
        judge = UncertainGridEvaluation(episodes, environment_arguments=arguments)
        environments.append(
            TestEnvironment(name, role, judge, float(judge.uniform.mean()), float(judge.bound.mean()))
        )  # fmt: skip
    return Suite("UncertainGrid", environments)


@cache
def uncertain_grid_yardstick() -> ExactEvaluation:
    """Exact share of the optimum in the standard world, of the policy as it acts."""
    model = uncertain_grid_model(UncertainGridParameters.of(6))
    return ExactEvaluation(model, horizon=100, deterministic=False)


# SafeGrid


@cache
def safe_grid_suite(limit: float = 0.6, slips: tuple[float, ...] = (0.1, 0.2), episodes: int = 500) -> Suite:
    """The original's layout within a limit, and the same where moves fail.

    Under a shift the return has the exact price of the limit taken off it for every unit of cost above the limit
    (book eq. evaluation-penalised): recklessness is no robustness.
    """
    plain = RolloutEvaluation(
        "CA14/SafeGrid-v0", episodes, environment_arguments={"one_hot": True}, deterministic=False
    )  # fmt: skip
    yardstick = safe_grid_yardstick(limit)
    model = yardstick.model
    zero = policy_return(model, uniform_policy(model))

    def judged(agent: Any) -> dict[str, float]:
        found = plain(agent)
        return {"return": found["return"], "cost": found["cost_0"]}

    environments = [TestEnvironment("original", "standard", judged, zero, yardstick.optimal_return)]
    for slip in slips:
        shifted = safe_grid_yardstick(limit, slip)
        lowest = penalised_return(shifted, uniform_policy(shifted.model))
        environments.append(
            TestEnvironment(f"slip {slip:g}", "shifted", _Penalised(shifted), lowest, shifted.optimal_return)
        )
    return Suite("SafeGrid", environments, limit, limit + yardstick.cost_range)


@cache
def safe_grid_yardstick(limit: float, slip: float = 0.0) -> ConstrainedEvaluation:
    """The exact optimum within the limit; with slip the limit is raised to what can be kept there, if need be."""
    vector = SafeGridVector(1, layout=replace(SAFE_GRID_LAYOUTS["original"], slip=slip), one_hot=True)
    model = vector.tabular_model()
    return ConstrainedEvaluation(model, max(limit, 1.1 * smallest_cost(model)))


def penalised_return(evaluation: ConstrainedEvaluation, policy: NDArray[np.float64]) -> float:
    r"""Exact return less the limit's exact price for the cost above it (book eq. evaluation-penalised).

    Args:
        evaluation: With model, limit and multiplier.
        policy: Table ``[S, A]`` or ``[H, S, A]``.
    """
    value = policy_return(evaluation.model, policy)
    excess = max(0.0, float(policy_costs(evaluation.model, policy)[0]) - evaluation.limit)
    return value - evaluation.multiplier * excess


@dataclass(frozen=True)
class _Penalised:
    evaluation: ConstrainedEvaluation

    def __call__(self, agent: Any) -> dict[str, float]:
        table = agent.policy_table(self.evaluation.model, deterministic=False)
        return {"return": penalised_return(self.evaluation, table)}


# Pendulum


PENDULUM_SHIFTS: dict[str, tuple[Any, ...]] = {
    "noisy": (ObservationNoise(0.1),),
    "failing": (ActionFailure(0.2, "noop"),),
    "delayed": (DelayedObservations(2),),
}


@cache
def pendulum_suite(references: tuple[float, float], episodes: int = 50) -> Suite:
    """Pendulum as it is, and with noise, failures and delay, on the scale of the task without.

    Args:
        references: Returns of uniform actions and of the online expert.
        episodes: Held starts.
    """
    environments = [TestEnvironment("plain", "standard", RolloutEvaluation("Pendulum-v1", episodes), *references)]
    for name, perturbations in PENDULUM_SHIFTS.items():
        environments.append(TestEnvironment(name, "shifted", _Shifted(perturbations, episodes), *references))
    return Suite("Pendulum", environments)


@dataclass(frozen=True)
class _Shifted:
    """Pendulum with perturbations, whose observation space is wider than the agent's: observations are cut to it."""

    perturbations: tuple[Any, ...]
    episodes: int

    def __call__(self, agent: Agent) -> dict[str, float]:
        arguments = {"environment": "Pendulum-v1", "perturbations": self.perturbations}
        judge = RolloutEvaluation("CA14/Perturbed-v0", self.episodes, environment_arguments=arguments)
        return judge(_Fitted(agent, judge))  # type: ignore[arg-type]


class _Fitted:
    """An agent that takes observations outside its space, as those with noise are."""

    def __init__(self, agent: Agent, judge: RolloutEvaluation) -> None:
        self.agent, self.action_space = agent, agent.action_space
        self.observation_space = judge._vector.single_observation_space

    def act(self, observation: NDArray, *, deterministic: bool = False) -> NDArray:
        """The agent's action for what is seen."""
        return self.agent.act(observation, deterministic=deterministic)


# TargetGrid


TEAM_GAME: dict[str, Any] = {"size": 5, "num_agents": 2}
SLIPS = 0.1  # share of actions that are replaced by uniform ones in the shifted game


@cache
def target_grid_suite(episodes: int = 500) -> Suite:
    """TargetGrid for two, the same with one action in ten replaced, and on a larger grid; the bound counts as 1."""
    environments = []
    for name, role, arguments, slips in (
        ("two agents", "standard", TEAM_GAME, 0.0),
        ("slips", "shifted", TEAM_GAME, SLIPS),
        ("larger", "larger", TEAM_GAME | {"size": 7}, 0.0),
    ):
        judge = TeamEvaluation("TargetGrid", episodes, environment_arguments=arguments)
        random = np.random.default_rng(0)
        found = judge(lambda observation, _, random=random: random.integers(5, size=observation.shape[:2]))
        environments.append(
            TestEnvironment(name, role, _Team(judge, slips), found["return"], found["bound"])
        )  # fmt: skip
    return Suite("TargetGrid", environments)


@dataclass(frozen=True)
class _Team:
    judge: TeamEvaluation
    slips: float

    def __call__(self, agent: Any) -> dict[str, float]:
        return self.judge(_Slipping(agent, self.slips) if self.slips else agent)


class _Slipping:
    """A team some of whose actions are replaced by uniform ones."""

    def __init__(self, agent: Any, share: float, seed: int = 0) -> None:
        self.agent, self.share, self.random = agent, share, np.random.default_rng(seed)
        self.observation_space, self.action_space = agent.observation_space, agent.action_space
        self.memory_size = getattr(agent, "memory_size", 0)

    def initial_memory(self, count: int) -> Any:
        return self.agent.initial_memory(count)

    def act(self, observation: NDArray, *memory: Any, **arguments: Any) -> Any:
        acted = self.agent.act(observation, *memory, **arguments)
        action = acted[0] if memory else acted
        slipped = self.random.random(action.shape) < self.share
        uniform = self.random.integers(self.agent.num_actions, size=action.shape)
        action = np.where(slipped, uniform, action)
        return (action, *acted[1:]) if memory else action
