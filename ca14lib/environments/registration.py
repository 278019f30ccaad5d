"""The Gymnasium ids of the course: one row each, entry points named as strings so that registering imports nothing."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import gymnasium as gym

if TYPE_CHECKING:
    from ca14lib.environments.multi_agent import MultiAgentEnvironment

# finite problems, which have a tabular model: id -> (module, single-environment class, vector class)
ENVIRONMENTS = {
    "CA14/GridWorld-v0": ("grid_world", "GridWorld", "GridWorldVector"),
    "CA14/RiverSwim-v0": ("river_swim", "RiverSwim", "RiverSwimVector"),
    "CA14/DeepSea-v0": ("deep_sea", "DeepSea", "DeepSeaVector"),
    "CA14/ICUSepsis-v0": ("icu_sepsis", "ICUSepsis", "ICUSepsisVector"),
    "CA14/SafeGrid-v0": ("safe_grid", "SafeGrid", "SafeGridVector"),
    "CA14/SafeCliff-v0": ("safe_cliff", "SafeCliff", "SafeCliffVector"),
    "CA14/GustyGrid-v0": ("gusty_grid", "GustyGrid", "GustyGridVector"),
    "CA14/ProbeReward-v0": ("probes", "ProbeReward", "ProbeRewardVector"),
    "CA14/ProbeValue-v0": ("probes", "ProbeValue", "ProbeValueVector"),
    "CA14/ProbeDiscount-v0": ("probes", "ProbeDiscount", "ProbeDiscountVector"),
    "CA14/ProbeAction-v0": ("probes", "ProbeAction", "ProbeActionVector"),
    "CA14/ProbeTruncation-v0": ("probes", "ProbeTruncation", "ProbeTruncationVector"),
}

# batched as well, with states that cannot be enumerated
CONTINUOUS_ENVIRONMENTS = {
    "CA14/Reactor-v0": ("reactor", "Reactor", "ReactorVector"),
    "CA14/CartPoleDomain-v0": ("domains", "CartPoleDomain", "CartPoleDomainVector"),
    "CA14/PendulumDomain-v0": ("domains", "PendulumDomain", "PendulumDomainVector"),
    "CA14/UncertainGrid-v0": ("uncertain_grid", "UncertainGrid", "UncertainGridVector"),
    "CA14/Trading-v0": ("applications.trading", "Trading", "TradingVector"),
    "CA14/ReacherDomain-v0": ("applications.robotics", "ReacherDomain", "ReacherDomainVector"),
}

# other simulators with costs added: id -> (module, function, its arguments, limit on the steps that Gymnasium imposes)
GYMNASIUM_TASKS: dict[str, tuple[str, str, dict[str, Any], int | None]] = {
    "CA14/HopperVelocity-v0": ("velocity", "velocity_environment", {"task": "Hopper"}, 1000),
    "CA14/HalfCheetahVelocity-v0": ("velocity", "velocity_environment", {"task": "HalfCheetah"}, 1000),
    "CA14/SwimmerVelocity-v0": ("velocity", "velocity_environment", {"task": "Swimmer"}, 1000),
    "CA14/SafeDriving-v0": ("safe_driving", "driving_environment", {}, None),
    "CA14/HopperDomain-v0": ("domains", "hopper_domain", {}, 1000),
    "CA14/HopperVelocityDomain-v0": ("applications.robotics", "hopper_velocity_domain", {}, 1000),
    "CA14/ANM6Easy-v0": ("applications.anm", "grid_operator", {}, None),
}


def register_environments() -> None:
    """Register every id of the course that is not registered yet.

    The batched ones are given no ``max_episode_steps``: they truncate themselves, in one place
    (:meth:`ca14lib.environments.batched.BatchedEnvironment.advance`). Of the others, MuJoCo's tasks leave that to
    Gymnasium's ``TimeLimit``, and highway-env does it itself.
    """
    for environment_id, (module, single, vector) in (ENVIRONMENTS | CONTINUOUS_ENVIRONMENTS).items():
        if environment_id not in gym.registry:
            gym.register(
                environment_id,
                entry_point=f"ca14lib.environments.{module}:{single}",
                vector_entry_point=f"ca14lib.environments.{module}:{vector}",
            )
    for environment_id, (module, function, arguments, limit) in GYMNASIUM_TASKS.items():
        if environment_id not in gym.registry:
            gym.register(
                environment_id,
                entry_point=f"ca14lib.environments.{module}:{function}",
                kwargs=arguments,
                max_episode_steps=limit,
            )
    if "CA14/Perturbed-v0" not in gym.registry:  # any of them with perturbations; it needs arguments
        gym.register(
            "CA14/Perturbed-v0",
            entry_point="ca14lib.environments.perturbed:perturbed_environment",
            vector_entry_point="ca14lib.environments.perturbed:perturbed_vector",
        )


# games of several agents: name -> (module, class); not Gymnasium's, so `multi_agent_environment` makes them.
# A game of your own is known by name, to training and sweeps too, once it has a row here.
MULTI_AGENT_ENVIRONMENTS: dict[str, tuple[str, str]] = {
    "TargetGrid": ("ca14lib.environments.target_grid", "TargetGrid"),
    "MatrixGame": ("ca14lib.environments.matrix_games", "MatrixGame"),
    "Junction": ("ca14lib.environments.applications.junction", "Junction"),
    "LeverGame": ("ca14lib.environments.lever_game", "LeverGame"),
    "QuoteMarket": ("ca14lib.environments.applications.market", "QuoteMarket"),
    "Microgrid": ("ca14lib.environments.applications.microgrid", "Microgrid"),
    "TwoStepGame": ("ca14lib.environments.two_step_game", "TwoStepGame"),
    "ReferentialGame": ("ca14lib.environments.referential_game", "ReferentialGame"),
    "Spread": ("ca14lib.environments.spread", "Spread"),
}

# games of other libraries, by the prefix of their name: prefix -> (module, class, what to install);
# Solo is the course's environments, each with its one agent
MULTI_AGENT_FAMILIES: dict[str, tuple[str, str, str]] = {
    "MPE2": ("ca14lib.environments.team_adapters", "ParallelTeams", "mpe2"),
    "Foraging": ("ca14lib.environments.team_adapters", "ParallelTeams", "lbforaging"),
    "rware": ("ca14lib.environments.team_adapters", "ParallelTeams", "rware"),
    "VMAS": ("ca14lib.environments.team_adapters", "VMASTeams", "vmas"),
    "Intersection": ("ca14lib.environments.intersection", "Intersection", "highway-env"),
    "Solo": ("ca14lib.environments.solo", "SoloGame", ""),
}


def multi_agent_environment(name: str, num_envs: int, **arguments: Any) -> MultiAgentEnvironment:
    """``num_envs`` copies of a game, stepped together.

    Args:
        name: ``"TargetGrid"`` or another of :data:`MULTI_AGENT_ENVIRONMENTS`, or ``"MPE2/simple_spread_v3"`` or another
            game of :data:`MULTI_AGENT_FAMILIES`.
        num_envs: Number of copies, at least 1.
        arguments: Keyword arguments of the game.
    Raises:
        ValueError: If there is no such game; the message lists those there are.
        ImportError: If the game's library is not installed; the message says how to install it.
    """
    if name in MULTI_AGENT_ENVIRONMENTS:
        module, cls = MULTI_AGENT_ENVIRONMENTS[name]
        return getattr(import_module(module), cls)(num_envs, **arguments)
    prefix = name.split("/")[0]
    if prefix in MULTI_AGENT_FAMILIES:
        module, cls, _ = MULTI_AGENT_FAMILIES[prefix]
        return getattr(import_module(module), cls).named(name, num_envs, **arguments)
    known = ", ".join([*MULTI_AGENT_ENVIRONMENTS, *(f"{prefix}/…" for prefix in MULTI_AGENT_FAMILIES)])
    raise ValueError(f"unknown game {name!r}; there are {known}")
