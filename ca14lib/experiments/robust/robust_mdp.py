"""What robustness costs and when it pays, exactly: SafeCliff, RiverSwim and intensive care. Book: robust/theory."""

import time
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.environments import SafeCliffVector, TabularModel, river_swim_model, tabular_model
from ca14lib.environments.grid import UP
from ca14lib.experiments.runs import Sweep
from ca14lib.solvers import policy_return, value_iteration
from ca14lib.solvers.robust import Ball, RobustSolution, robust_policy_evaluation, robust_value_iteration

WIND = 0.05  # of the nominal model of SafeCliff
CLIFF_RADII = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6)
WINDS = (0.0, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3)
CAREFUL = 0.2  # radius for which the robust policy of the table of winds is made
DRAWS = 500
RIVER_DISCOUNT = 0.95
RIVER_RADII = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
SUPPORTS = ("nominal", "simplex")
SEPSIS = "CA14/ICUSepsis-v0"
SEPSIS_DISCOUNT = 0.99
SEPSIS_SETS: tuple[tuple[Ball, str, float], ...] = (
    ("l1", "nominal", 0.0), ("l1", "nominal", 0.02), ("l1", "nominal", 0.1), ("l1", "nominal", 0.3),
    ("l1", "simplex", 0.02), ("l1", "simplex", 0.1), ("l1", "simplex", 0.3),
    ("linf", "nominal", 0.01), ("kl", "nominal", 0.01),
)  # fmt: skip


@cache
def cliff_model(wind: float = WIND) -> TabularModel:
    """SafeCliff in a given wind."""
    return SafeCliffVector(1, wind=wind).tabular_model()


@cache
def cliff_solution(radius: float, support: str) -> RobustSolution:
    """The robust optimum of SafeCliff around its nominal wind, L1 ball."""
    return robust_value_iteration(cliff_model(), radius, support=support)


def cliff_way(policy: NDArray[np.float64]) -> str:
    """``"detour"`` if the walker turns up on the platform, where she is after two steps, else ``"ledge"``."""
    platform = SafeCliffVector(1).cell_index((2, 1))
    return "detour" if policy[2, platform].argmax() == UP else "ledge"


def cliff_table(radii: tuple[float, ...] = CLIFF_RADII) -> pd.DataFrame:
    """For each ball: the robust policy, its guarantee, its price, and what it guarantees more than the nominal one.

    Columns: ``support``, ``radius``, ``way`` of the robust policy, its ``guarantee`` and ``nominal_return``, the
    ``price`` (nominal optimum minus nominal return), the ``nominal_guarantee`` of the nominal optimum in the same ball
    and the ``gain`` (guarantee minus that).
    """
    best = value_iteration(cliff_model())
    rows = []
    for support in SUPPORTS:
        for radius in radii:
            solution = cliff_solution(radius, support)
            nominal = policy_return(cliff_model(), solution.policy)
            held = robust_policy_evaluation(cliff_model(), best.policy, radius, support=support).robust_return
            rows.append({
                "support": support, "radius": radius, "way": cliff_way(solution.policy),
                "guarantee": solution.robust_return, "nominal_return": nominal, "price": best.optimal_return - nominal,
                "nominal_guarantee": held, "gain": solution.robust_return - held,
            })  # fmt: skip
    return pd.DataFrame(rows)


def wind_table(winds: tuple[float, ...] = WINDS) -> pd.DataFrame:
    """Exact returns by the true ``wind``: of the nominal optimum, of the robust policy, and the best in that wind."""
    nominal, careful = value_iteration(cliff_model()).policy, cliff_solution(CAREFUL, "nominal").policy
    rows = []
    for wind in winds:
        model = cliff_model(wind)
        returns = policy_return(model, nominal), policy_return(model, careful)
        best = value_iteration(model).optimal_return
        rows.append({"wind": wind, "nominal": returns[0], "robust": returns[1], "optimum": best,
                     "gain": returns[1] - returns[0]})  # fmt: skip
    return pd.DataFrame(rows)


def drawn_model(model: TabularModel, radius: float, generator: np.random.Generator) -> TabularModel:
    """A model drawn from the L1 ball on the nominal support.

    Every row moves towards a uniformly drawn distribution on its support, as far as a uniformly drawn share of the
    radius allows.
    """
    target = generator.exponential(size=model.transition.shape) * (model.transition > 0)
    target /= target.sum(axis=-1, keepdims=True)
    far = abs(target - model.transition).sum(axis=-1)
    allowed = radius * generator.random(far.shape)
    share = np.minimum(1.0, allowed / np.maximum(far, 1e-300))[..., None]
    return replace(model, transition=model.transition + share * (target - model.transition))


def draws_table(radii: tuple[float, ...] = (0.1, 0.2, 0.4), draws: int = DRAWS, seed: int = 0) -> pd.DataFrame:
    """Returns in models drawn from the ball, beside the guarantee in it.

    Columns: ``radius``, ``policy`` (nominal or robust for this radius), ``guarantee``, and over the draws the
    ``least``, the ``tenth`` (lowest decile) and the ``mean`` return. Both policies see the same models.
    """
    nominal = value_iteration(cliff_model()).policy
    rows = []
    for radius in radii:
        generator = np.random.default_rng(seed)
        models = [drawn_model(cliff_model(), radius, generator) for _ in range(draws)]
        for name, policy in (("nominal", nominal), ("robust", cliff_solution(radius, "nominal").policy)):
            returns = np.array([policy_return(model, policy) for model in models])
            held = robust_policy_evaluation(cliff_model(), policy, radius, support="nominal").robust_return
            rows.append({"radius": radius, "policy": name, "guarantee": held, "least": returns.min(),
                         "tenth": float(np.quantile(returns, 0.1)), "mean": returns.mean()})  # fmt: skip
    return pd.DataFrame(rows)


def river_table(radii: tuple[float, ...] = RIVER_RADII) -> pd.DataFrame:
    """RiverSwim: how much caution makes the swimmer turn back.

    Columns: ``support``, ``radius``, ``guarantee``, ``nominal_return`` of the robust policy, ``right_guarantee`` of
    always swimming right, and ``swims_right``, the number of the six states in which it does.
    """
    model = river_swim_model()
    right = np.tile([0.0, 1.0], (model.num_states, 1))
    rows = []
    for support in SUPPORTS:
        for radius in radii:
            solution = robust_value_iteration(model, radius, discount=RIVER_DISCOUNT, support=support)
            held = robust_policy_evaluation(model, right, radius, discount=RIVER_DISCOUNT, support=support)
            rows.append({
                "support": support, "radius": radius, "guarantee": solution.robust_return,
                "nominal_return": policy_return(model, solution.policy, RIVER_DISCOUNT),
                "right_guarantee": held.robust_return, "swims_right": int(solution.policy[:, 1].sum()),
            })  # fmt: skip
    return pd.DataFrame(rows)


def sepsis_table(sets: tuple[tuple[Ball, str, float], ...] = SEPSIS_SETS) -> pd.DataFrame:
    """Intensive care, discounted: guarantee and nominal return of the robust policy, and the seconds of CPU time.

    Columns: ``ball``, ``support``, ``radius``, ``guarantee``, ``nominal_return``, ``error_bound``, ``cpu_seconds``.
    """
    model = tabular_model(SEPSIS)
    rows = []
    for ball, support, radius in sets:
        start = time.process_time()
        solution = robust_value_iteration(model, radius, ball, discount=SEPSIS_DISCOUNT, support=support)
        seconds = time.process_time() - start
        rows.append({
            "ball": ball, "support": support, "radius": radius, "guarantee": solution.robust_return,
            "nominal_return": policy_return(model, solution.policy, SEPSIS_DISCOUNT),
            "error_bound": solution.error_bound, "cpu_seconds": seconds,
        })  # fmt: skip
    return pd.DataFrame(rows)


def robust_mdp_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """The tables ``robust_mdp_cliff``, ``…_wind``, ``…_draws``, ``…_river`` and ``…_sepsis``.

    Everything is exact but the draws, which have a seed of their own; there is nothing to sweep.
    """
    return {
        "robust_mdp_cliff": cliff_table((0.0, CAREFUL) if quick else CLIFF_RADII),
        "robust_mdp_wind": wind_table((WIND, 0.2) if quick else WINDS),
        "robust_mdp_draws": draws_table((CAREFUL,), 10) if quick else draws_table(),
        "robust_mdp_river": river_table((0.0, 0.6) if quick else RIVER_RADII),
        "robust_mdp_sepsis": sepsis_table(SEPSIS_SETS[2:3] if quick else SEPSIS_SETS),
    }
