"""Treating sepsis within limits on the doses: what survival they leave, exactly. Book: safe/applications.

Everything here is the answer of a model that was estimated from records (ICU-Sepsis), and no medical advice.
"""

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from ca14lib.environments.icu_sepsis import ICUSepsisVector
from ca14lib.environments.tabular import CategoricalRows
from ca14lib.environments.tabular_model import TabularModel
from ca14lib.experiments.runs import Sweep
from ca14lib.metrics.risk import conditional_value_at_risk, value_at_risk
from ca14lib.solvers.constrained import constrained_optimum
from ca14lib.solvers.dynamic_programming import occupancy_measure, value_iteration

DRUGS = ("vasopressors", "fluids")
LEVELS = 5
# of the dose that clinicians give, per drug or of both at once
SHARES = {"vasopressors": (1.0, 0.5, 0.25), "fluids": (1.0, 0.75, 0.5), "both": (1.0, 0.75, 0.5)}
CORNERS = 17  # of each front
LEAST_DOSE_PRICE = 100.0  # survival is worth at most 1: at this price only the dose counts
STAYS, TAIL_LEVEL = 20_000, 0.95


def dose(action: ArrayLike) -> NDArray[np.float64]:
    """Dose levels of actions, divided by 4: 0 for nothing, 1 for the highest of five levels.

    The index of an action is five times the fluid level plus the vasopressor level, as in the study whose data the
    model was estimated from (Komorowski et al., 2018). Levels are quartiles of the doses that were given: level 2 is
    not twice level 1.

    Args:
        action: In 0…24, any shape.
    Returns:
        ``[2, …]``, vasopressors and fluids.
    """
    fluid, vasopressor = np.divmod(np.asarray(action), LEVELS)
    return np.stack([vasopressor, fluid]) / (LEVELS - 1)


@cache
def dosed_model() -> TabularModel:
    """ICU-Sepsis with two costs: the dose of vasopressors and of fluids in each four hours, ``[2, S, A]``.

    An inadmissible action acts as the mean of the admissible ones, so its dose is their mean too.
    """
    environment = ICUSepsisVector()
    model, admissible = environment.tabular_model(), environment.admissible
    doses = dose(np.arange(model.num_actions))
    mean = doses @ admissible.T / np.maximum(admissible.sum(axis=1), 1)
    cost = np.where(admissible, doses[:, None, :], mean[:, :, None])
    return replace(model, cost=np.where(model.terminal[:, None], 0.0, cost))


def clinicians() -> NDArray[np.float64]:
    """The policy that was estimated from the records, ``[S, A]``."""
    return ICUSepsisVector().clinician_policy


def exact_numbers(policy: NDArray[np.float64]) -> dict[str, float]:
    """Survival, expected cumulative dose of each drug, and expected number of four-hour steps of a policy."""
    model = dosed_model()
    visits = occupancy_measure(model, policy)
    survival = float((visits * model.expected_reward).sum())
    doses = (visits * model.expected_cost).sum(axis=(1, 2))
    return {"survival": survival} | dict(zip(DRUGS, doses.tolist())) | {"steps": float(visits.sum())}


def priced_optimum(prices: ArrayLike) -> NDArray[np.float64]:
    """A policy that maximises survival minus priced doses (book eq. cmdp-lagrangian), by value iteration, ``[S, A]``.

    Every stay ends under every policy here, so value iteration finds what the linear programme of
    :func:`ca14lib.solvers.lagrangian_optimum` does, several times faster.

    Args:
        prices: Survival probability that a unit of each dose is worth, ``[2]``.
    """
    model = dosed_model()
    reward = model.expected_reward - np.tensordot(np.asarray(prices, dtype=np.float64), model.expected_cost, 1)
    return value_iteration(replace(model, reward=reward, cost=np.zeros((0, *reward.shape)))).policy


def sampled_doses(policy: NDArray[np.float64], stays: int = STAYS, seed: int = 0) -> NDArray[np.float64]:
    """Cumulative vasopressor dose of single stays, ``[stays]``: the expectation hides who gets it.

    Args:
        policy: ``[S, A]``.
        stays: How many to draw.
        seed: Fixes the draws.
    """
    model, generator = dosed_model(), np.random.default_rng(seed)
    first, choice = CategoricalRows(model.initial[None]), CategoricalRows(policy)
    successor = _successors()
    state = first.draw(np.zeros(stays, dtype=np.intp), generator)
    total, alive = np.zeros(stays), ~model.terminal[state]
    while alive.any():
        here = state[alive]
        action = choice.draw(here, generator)
        total[alive] += model.expected_cost[0, here, action]
        state[alive] = successor.draw(here * model.num_actions + action, generator)
        alive = ~model.terminal[state]
    return total


@cache
def _successors() -> CategoricalRows:
    model = dosed_model()
    return CategoricalRows(model.transition.reshape(-1, model.num_states))


def dose_front(drug: str, corners: int = CORNERS) -> pd.DataFrame:
    """Survival against the expected dose of one drug, the other left free: corners of the exact front.

    Every corner is the best policy at some price (book eq. cmdp-multiplier-slope). The next price is that of the chord
    over which the front may still rise most; policies that mix two neighbours reach every point of the chord.

    Args:
        drug: Of ``DRUGS``.
        corners: At most how many to compute, the two ends included.
    Returns:
        A row per corner, in order of dose: ``drug``, ``price``, the numbers of :func:`exact_numbers`, and ``gap``, by
        how much the front can at most lie over the chord to the next corner.
    Raises:
        ValueError: If there is no such drug or there are fewer than two corners.
    """
    if drug not in DRUGS:
        raise ValueError(f"drug must be one of {', '.join(DRUGS)}, got {drug!r}")
    if corners < 2:
        raise ValueError(f"corners must be at least 2, got {corners}")

    def corner(price: float) -> dict[str, float]:
        prices = np.where(np.array(DRUGS) == drug, price, 0.0)
        return {"price": price} | exact_numbers(priced_optimum(prices))

    found = [corner(LEAST_DOSE_PRICE), corner(0.0)]
    while True:
        gaps = [chord_gap(left, right, drug) for left, right in itertools.pairwise(found)]
        widest = int(np.argmax(gaps))
        if len(found) == corners or gaps[widest] < 1e-9:
            break
        left, right = found[widest : widest + 2]
        middle = corner((right["survival"] - left["survival"]) / (right[drug] - left[drug]))
        if not left[drug] < middle[drug] < right[drug]:  # the chord is the front
            left["closed"] = 1.0
            continue
        found.insert(widest + 1, middle)
    table = pd.DataFrame(found).drop(columns="closed", errors="ignore")
    return table.assign(drug=drug, gap=[*gaps, 0.0])[["drug", "price", "survival", *DRUGS, "steps", "gap"]]


def chord_gap(left: dict[str, float], right: dict[str, float], drug: str) -> float:
    """How far the front can rise over the chord of two corners: where their two tangents meet.

    Args:
        left: Dose and survival of the corner with the smaller dose, and the price at which it is optimal.
        right: Those of its right neighbour.
        drug: Which dose.
    """
    width, height = right[drug] - left[drug], right["survival"] - left["survival"]
    fall = left["price"] - right["price"]
    if left.get("closed") or width <= 0 or fall <= 0:
        return 0.0
    meeting = (height - right["price"] * width) / fall
    return max(left["price"] * meeting - height * meeting / width, 0.0)


def limited_row(limited: str, share: float) -> dict[str, float | str]:
    """The best survival with the expected dose of a drug, or of both, held to a share of the clinicians' dose.

    Args:
        limited: Of ``DRUGS``, or ``"both"``.
        share: Of the dose that clinicians give.
    """
    given = exact_numbers(clinicians())
    limits = np.array([share * given[drug] if limited in (drug, "both") else np.inf for drug in DRUGS])
    solution = constrained_optimum(dosed_model(), limits)
    row = described("optimum", solution.policy, limited, share)
    return row | {f"{drug}_price": float(price) for drug, price in zip(DRUGS, solution.multipliers)}


def described(name: str, policy: NDArray[np.float64], limited: str = "nothing", share: float = np.inf) -> dict:
    """A row of the table: exact numbers of a policy, and the tail of its vasopressor dose, sampled."""
    doses = sampled_doses(policy)
    tail = {"dose_var": value_at_risk(doses, TAIL_LEVEL), "dose_cvar": conditional_value_at_risk(doses, TAIL_LEVEL)}
    return {"policy": name, "limited": limited, "share": share} | exact_numbers(policy) | tail


def sepsis_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """``safe_sepsis``, policies with survival, doses and prices, and ``safe_sepsis_front``, corners of both fronts.

    All of it is exact but the two columns on the tail of the dose, so no seed enters.
    """
    model = dosed_model()
    rows = [
        described("clinicians", clinicians()),
        described("uniform", np.full((model.num_states, model.num_actions), 1 / model.num_actions)),
        described("optimum", priced_optimum((0.0, 0.0))) | {f"{drug}_price": 0.0 for drug in DRUGS},
    ]
    shares = {"both": (1.0,)} if quick else SHARES
    rows += [limited_row(limited, share) for limited in shares for share in shares[limited]]
    fronts = [dose_front(drug, 2 if quick else CORNERS) for drug in (DRUGS[:1] if quick else DRUGS)]
    return {"safe_sepsis": pd.DataFrame(rows), "safe_sepsis_front": pd.concat(fronts, ignore_index=True)}
