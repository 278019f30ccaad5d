"""A battery with one variable for both directions, beside the game's."""

import numpy as np

from ca14lib.environments.applications.microgrid import Microgrid


def delivered(one_variable: bool) -> float:
    """kWh that reach the household from a full battery."""
    game = Microgrid(1)
    if one_variable:
        return game.capacity / game.one_way
    energy, total = np.array([game.capacity]), 0.0
    for _ in range(10):
        power, energy = game.battery(energy, np.array([-game.power]))
        total -= game.step_hours * float(power[0])
    return total
