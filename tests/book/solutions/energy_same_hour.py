"""Three empty batteries that fill up in the first hour of the day."""

import numpy as np

from ca14lib.environments.applications.microgrid import Microgrid


def first_hour(charging: int) -> float:
    """Payment in euro, without the worth of what is stored, when that many of three charge with full power."""
    game = Microgrid(1, noise=0.0)
    load, solar = game.mean_profiles()
    game.reset(options={"load": load, "solar": solar, "stored": np.zeros(3)})
    levels = np.full((1, 3), game.levels // 2)
    levels[0, :charging] = game.levels - 1
    *_, info = game.step(levels)
    return float(game.payment(info["line"], game.price[0])[0])
