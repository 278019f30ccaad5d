"""How bad is the worst wind? Grids without an end, random draws, and the end itself on SafeCliff."""

import numpy as np

from ca14lib.environments import SafeCliffVector
from ca14lib.environments.domains import parameter_grid
from ca14lib.solvers import policy_return

STRONGEST = 0.3
LEDGE = SafeCliffVector(1).behaviours()["ledge"]


def on_the_ledge(wind: float) -> float:
    return policy_return(SafeCliffVector(1, wind=float(wind)).tabular_model(), LEDGE)


def worst_of_a_range(step: float = 0.05) -> float:
    """The colleague's worst case: a Python range leaves its end out."""
    return min(on_the_ledge(wind) for wind in np.arange(0, round(STRONGEST / step)) * step)


def worst_of_a_grid(points: int = 7) -> float:
    grid = parameter_grid({"wind": (0.0, STRONGEST)}, points)
    return min(on_the_ledge(domain["wind"]) for domain in grid)


def worst_of_draws(count: int, repetitions: int = 20_000, seed: int = 0) -> float:
    """Mean over repetitions of the worst of some uniformly drawn winds; the return is linear in the wind."""
    strongest = np.random.default_rng(seed).uniform(0, STRONGEST, (repetitions, count)).max(axis=1)
    return float(np.interp(strongest, [0, STRONGEST], [on_the_ledge(0), on_the_ledge(STRONGEST)]).mean())


def corner(parameters: int, margin: float = 0.1, share: float = 0.95) -> float:
    """Draws until all parameters were once together within a margin of their bad ends, with the given probability."""
    return float(np.log(1 - share) / np.log1p(-(margin**parameters)))


if __name__ == "__main__":
    print(worst_of_a_range(), worst_of_a_grid(), [round(worst_of_draws(n), 2) for n in (1, 10, 100)])
    print([round(corner(d)) for d in (1, 2, 3, 5)])
