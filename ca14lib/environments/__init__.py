"""What agents act in: batched gridworlds, tabular models and adapters, all with the Gymnasium interface."""

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from ca14lib.environments.batched import BatchedEnvironment, SingleEnvironment
from ca14lib.environments.constrained import (
    CostWrapper,
    VectorCostWrapper,
    from_safety_gymnasium,
    to_safety_gymnasium,
)
from ca14lib.environments.deep_sea import DeepSea, DeepSeaVector, deep_sea_model
from ca14lib.environments.domains import (
    AdaptiveRanges,
    CartPoleDomain,
    CartPoleDomainVector,
    DomainVector,
    HopperDomain,
    Parameter,
    PendulumDomain,
    PendulumDomainVector,
    parameter_grid,
)
from ca14lib.environments.grid import ACTION_NAMES, GridEnvironment, grid_picture, successor_table
from ca14lib.environments.grid_world import GridWorld, GridWorldVector
from ca14lib.environments.icu_sepsis import ICUSepsis, ICUSepsisVector
from ca14lib.environments.matrix_games import (
    MATRIX_GAMES,
    MatrixGame,
    game_payoffs,
    mixed_motives,
    symmetric_game,
    team_game,
    zero_sum_game,
)
from ca14lib.environments.multi_agent import MultiAgentEnvironment, ParallelView, joint_spaces
from ca14lib.environments.perturbed import (
    AbruptChange,
    ActionFailure,
    DelayedObservations,
    DroppedObservations,
    ObservationNoise,
    ParameterDrift,
    Perturbation,
    Perturbed,
    PerturbedVector,
    RandomStart,
    RewardNoise,
    RewardShift,
)
from ca14lib.environments.probes import ProbeAction, ProbeDiscount, ProbeReward, ProbeTruncation, ProbeValue
from ca14lib.environments.pushed_cart_pole import (
    PushedCartPole,
    PushedCartPoleVector,
)
from ca14lib.environments.reactor import Reactor, ReactorVector
from ca14lib.environments.referential_game import ReferentialGame
from ca14lib.environments.registration import (
    CONTINUOUS_ENVIRONMENTS,
    ENVIRONMENTS,
    GYMNASIUM_TASKS,
    MULTI_AGENT_ENVIRONMENTS,
    MULTI_AGENT_FAMILIES,
    multi_agent_environment,
)
from ca14lib.environments.river_swim import RiverSwim, RiverSwimVector, river_swim_model
from ca14lib.environments.safe_cliff import SafeCliff, SafeCliffVector
from ca14lib.environments.safe_driving import DrivingCost, driving_environment
from ca14lib.environments.safe_grid import SAFE_GRID_LAYOUTS, SafeGrid, SafeGridLayout, SafeGridVector
from ca14lib.environments.solo import SoloGame
from ca14lib.environments.spread import Spread
from ca14lib.environments.tabular import TabularEnvironment, uniform_policy
from ca14lib.environments.tabular_model import TabularModel
from ca14lib.environments.target_grid import TargetGrid
from ca14lib.environments.team_adapters import ParallelTeams, VMASTeams
from ca14lib.environments.two_step_game import TwoStepGame
from ca14lib.environments.uncertain_grid import (
    UncertainGrid,
    UncertainGridParameters,
    UncertainGridVector,
    uncertain_grid_model,
)
from ca14lib.environments.velocity import VELOCITY_LIMITS, VelocityCost, velocity_environment

__all__ = [
    "ACTION_NAMES",
    "AbruptChange",
    "ActionFailure",
    "AdaptiveRanges",
    "BatchedEnvironment",
    "CONTINUOUS_ENVIRONMENTS",
    "CartPoleDomain",
    "CartPoleDomainVector",
    "CostWrapper",
    "DeepSea",
    "DeepSeaVector",
    "DelayedObservations",
    "DomainVector",
    "DrivingCost",
    "DroppedObservations",
    "ENVIRONMENTS",
    "GYMNASIUM_TASKS",
    "GridEnvironment",
    "GridWorld",
    "GridWorldVector",
    "HopperDomain",
    "ICUSepsis",
    "ICUSepsisVector",
    "MATRIX_GAMES",
    "MULTI_AGENT_ENVIRONMENTS",
    "MULTI_AGENT_FAMILIES",
    "MatrixGame",
    "MultiAgentEnvironment",
    "ObservationNoise",
    "ParallelTeams",
    "ParallelView",
    "Parameter",
    "ParameterDrift",
    "PendulumDomain",
    "PendulumDomainVector",
    "Perturbation",
    "Perturbed",
    "PerturbedVector",
    "ProbeAction",
    "ProbeDiscount",
    "ProbeReward",
    "ProbeTruncation",
    "ProbeValue",
    "PushedCartPole",
    "PushedCartPoleVector",
    "RandomStart",
    "Reactor",
    "ReactorVector",
    "ReferentialGame",
    "RewardNoise",
    "RewardShift",
    "RiverSwim",
    "RiverSwimVector",
    "SAFE_GRID_LAYOUTS",
    "SafeCliff",
    "SafeCliffVector",
    "SafeGrid",
    "SafeGridLayout",
    "SafeGridVector",
    "SingleEnvironment",
    "SoloGame",
    "Spread",
    "TabularEnvironment",
    "TabularModel",
    "TargetGrid",
    "TwoStepGame",
    "UncertainGrid",
    "UncertainGridParameters",
    "UncertainGridVector",
    "VELOCITY_LIMITS",
    "VMASTeams",
    "VectorCostWrapper",
    "VelocityCost",
    "batched_environment",
    "behaviour_policy",
    "deep_sea_model",
    "driving_environment",
    "from_safety_gymnasium",
    "game_payoffs",
    "grid_picture",
    "joint_spaces",
    "mixed_motives",
    "multi_agent_environment",
    "parameter_grid",
    "river_swim_model",
    "successor_table",
    "symmetric_game",
    "tabular_model",
    "team_game",
    "to_safety_gymnasium",
    "uncertain_grid_model",
    "uniform_policy",
    "velocity_environment",
    "zero_sum_game",
]


def batched_environment(environment: str | gym.Env | gym.vector.VectorEnv) -> BatchedEnvironment:
    """The course's batched environment behind an id, a single environment or a batched one.

    Raises:
        ValueError: If the id is unknown or the environment is not one of the course's.
    """
    if isinstance(environment, str):
        if environment not in gym.registry:
            known = ", ".join(ENVIRONMENTS | CONTINUOUS_ENVIRONMENTS)
            raise ValueError(f"unknown environment id {environment!r}; the course's are {known}")
        environment = gym.make(environment)
    found: Any = environment.unwrapped
    if isinstance(found, SingleEnvironment):
        found = found.batched
    if not isinstance(found, BatchedEnvironment):
        raise ValueError(f"expected an environment of this course, got {type(found).__name__}")
    return found


def tabular_model(environment: str | gym.Env | gym.vector.VectorEnv) -> TabularModel:
    """The exact model of a finite environment, given the environment or its id.

    Raises:
        ValueError: If the environment has none.
    """
    return batched_environment(environment).tabular_model()


def behaviour_policy(environment: str | gym.Env | gym.vector.VectorEnv, name: str) -> NDArray[np.float64]:
    """A behaviour that the environment offers, as a table of probabilities ``[S, A]``.

    Raises:
        ValueError: Naming the behaviours there are, if it offers no such behaviour.
    """
    behaviours = batched_environment(environment).behaviours()
    if name not in behaviours:
        raise ValueError(f"unknown behaviour {name!r}; this environment offers {', '.join(behaviours)}")
    return behaviours[name]
