"""What knowing the day is worth, and what nine levels cost."""

from ca14lib.environments.applications.microgrid import Microgrid
from ca14lib.solvers.microgrid import RecedingHorizon, idle_policy, microgrid_bounds, play


def mean_bills(noise: float, days: int = 20, seed: int = 0) -> dict[str, float]:
    """Euro a day."""
    game = Microgrid(days, noise=noise)
    policies = {"idle": idle_policy(game)}
    policies |= {forecast: RecedingHorizon(game, forecast) for forecast in ("mean", "perfect")}
    bills = {name: float(play(game, policy, seed=seed)["bill"].mean()) for name, policy in policies.items()}
    game.reset(seed=seed)
    return bills | {"bound": float(microgrid_bounds(game).mean())}
