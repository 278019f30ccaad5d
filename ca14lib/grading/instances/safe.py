"""Personal instances of the assignment `safe`: a layout with two barriers, a limit, and the numbers of its formulas."""

from typing import Any

import numpy as np

from ca14lib.environments.safe_grid import SafeGridLayout, SafeGridVector
from ca14lib.environments.tabular_model import TabularModel

SIZE = 7
HORIZON = 26


def draw(generator: np.random.Generator) -> dict[str, Any]:
    """One instance, of plain numbers, lists and dictionaries.

    Two barriers of hazards cross the grid, each with one gap. The gaps lie on opposite sides of the row of start and
    goal, at least two rows away, so that each barrier is shorter to cross than to go round. A deterministic policy
    costs a whole number of hazards, and the limit is less than one: the best of them within it is the safest policy,
    whose score is 0, and whoever wants more has to randomise. The limit is not near half a hazard either, so that a
    fair coin does not pass.

    Keys: ``layout`` (fields of :class:`SafeGridLayout`), ``limit``, and the numbers ``cost_discount``, ``cost_trace``,
    ``damping``, ``trust_region``, ``price_budget``, ``multiplier_rate`` and ``tail_band`` that the other tasks use.
    """
    row = int(generator.integers(2, SIZE - 2))
    first = int(generator.integers(1, 3))
    second = int(generator.integers(first + 2, SIZE - 1))
    below, above = int(generator.integers(0, row - 1)), int(generator.integers(row + 2, SIZE))
    gaps = (below, above) if generator.random() < 0.5 else (above, below)
    hazards = [[x, y] for x, gap in zip((first, second), gaps) for y in range(SIZE) if y != gap]
    price = round(float(generator.uniform(0.5, 2.0)), 2)
    share = generator.uniform(0.35, 0.44) if generator.random() < 0.5 else generator.uniform(0.58, 0.75)
    layout = {
        "size": SIZE,
        "hazards": hazards,
        "start": [0, row],
        "goal": [SIZE - 1, row],
        "hazard_cost": price,
        "step_reward": round(float(generator.uniform(-0.8, -0.4)), 2),
        "goal_reward": 10.0,
        "horizon": HORIZON,
    }
    low = round(float(generator.uniform(0.5, 0.8)), 2)
    return {
        "layout": layout,
        "limit": round(price * float(share), 3),
        "cost_discount": [round(float(generator.uniform(0.9, 0.99)), 3) for _ in range(2)],
        "cost_trace": [round(float(generator.uniform(0.8, 0.97)), 3) for _ in range(2)],
        "damping": round(float(generator.uniform(0.05, 0.3)), 3),
        "trust_region": round(float(generator.uniform(0.01, 0.1)), 3),
        "price_budget": round(float(generator.uniform(5.0, 20.0)), 1),
        "multiplier_rate": round(float(generator.uniform(0.05, 0.3)), 2),
        "tail_band": [low, round(float(generator.uniform(low + 0.1, 0.98)), 2)],
    }


def grid_model(instance: dict[str, Any]) -> TabularModel:
    """The exact model of the instance's grid; the agent observes ``[x, y, share of the horizon left]``."""
    layout = dict(instance["layout"])
    layout |= {name: tuple(layout[name]) for name in ("start", "goal")}
    layout["hazards"] = tuple((x, y) for x, y in layout["hazards"])
    return SafeGridVector(1, layout=SafeGridLayout(**layout)).tabular_model()
