"""The Gymnasium ids of the course: one row each, entry points named as strings so that registering imports nothing."""

from typing import Any

import gymnasium as gym

# finite problems, which have a tabular model: id -> (module, single-environment class, vector class)
ENVIRONMENTS = {
    "CA14/GridWorld-v0": ("grid_world", "GridWorld", "GridWorldVector"),
    "CA14/RiverSwim-v0": ("river_swim", "RiverSwim", "RiverSwimVector"),
    "CA14/ICUSepsis-v0": ("icu_sepsis", "ICUSepsis", "ICUSepsisVector"),
    "CA14/SafeGrid-v0": ("safe_grid", "SafeGrid", "SafeGridVector"),
    "CA14/SafeCliff-v0": ("safe_cliff", "SafeCliff", "SafeCliffVector"),
    "CA14/ProbeReward-v0": ("probes", "ProbeReward", "ProbeRewardVector"),
    "CA14/ProbeValue-v0": ("probes", "ProbeValue", "ProbeValueVector"),
    "CA14/ProbeDiscount-v0": ("probes", "ProbeDiscount", "ProbeDiscountVector"),
    "CA14/ProbeAction-v0": ("probes", "ProbeAction", "ProbeActionVector"),
    "CA14/ProbeTruncation-v0": ("probes", "ProbeTruncation", "ProbeTruncationVector"),
}

# batched as well, with states that cannot be enumerated
CONTINUOUS_ENVIRONMENTS = {
    "CA14/Reactor-v0": ("reactor", "Reactor", "ReactorVector"),
}

# other simulators with costs added: id -> (module, function, its arguments, limit on the steps that Gymnasium imposes)
GYMNASIUM_TASKS: dict[str, tuple[str, str, dict[str, Any], int | None]] = {
    "CA14/HopperVelocity-v0": ("velocity", "velocity_environment", {"task": "Hopper"}, 1000),
    "CA14/HalfCheetahVelocity-v0": ("velocity", "velocity_environment", {"task": "HalfCheetah"}, 1000),
    "CA14/SwimmerVelocity-v0": ("velocity", "velocity_environment", {"task": "Swimmer"}, 1000),
    "CA14/SafeDriving-v0": ("safe_driving", "driving_environment", {}, None),
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
