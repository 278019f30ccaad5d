"""The Gymnasium ids of the course: one row each, entry points named as strings so that registering imports nothing."""

import gymnasium as gym

# id -> (module, single-environment class, vector class)
ENVIRONMENTS = {
    "CA14/GridWorld-v0": ("grid_world", "GridWorld", "GridWorldVector"),
    "CA14/RiverSwim-v0": ("river_swim", "RiverSwim", "RiverSwimVector"),
    "CA14/ICUSepsis-v0": ("icu_sepsis", "ICUSepsis", "ICUSepsisVector"),
    "CA14/ProbeReward-v0": ("probes", "ProbeReward", "ProbeRewardVector"),
    "CA14/ProbeValue-v0": ("probes", "ProbeValue", "ProbeValueVector"),
    "CA14/ProbeDiscount-v0": ("probes", "ProbeDiscount", "ProbeDiscountVector"),
    "CA14/ProbeAction-v0": ("probes", "ProbeAction", "ProbeActionVector"),
    "CA14/ProbeTruncation-v0": ("probes", "ProbeTruncation", "ProbeTruncationVector"),
}


def register_environments() -> None:
    """Register every id of the course that is not registered yet.

    No ``max_episode_steps`` is given: the environments truncate themselves, in one place
    (:meth:`ca14lib.environments.batched.BatchedEnvironment.advance`).
    """
    for environment_id, (module, single, vector) in ENVIRONMENTS.items():
        if environment_id not in gym.registry:
            gym.register(
                environment_id,
                entry_point=f"ca14lib.environments.{module}:{single}",
                vector_entry_point=f"ca14lib.environments.{module}:{vector}",
            )
