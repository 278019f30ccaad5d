"""Off-policy evaluation against the truth: bias, error and coverage. Book: offline/off_policy_evaluation.

Three problems. On GridWorld the ``mixed`` behaviour (70% expert) is to tell the value of a policy that errs more often
than it does: nothing is random but the actions, so the only error of a table is what the data do not hold. The
``random`` behaviour, whose data leave nothing out, is to tell the same value. On ICU-Sepsis the clinicians' records are
to tell the value of what a weighted imitation of them aims at, their policy tilted by the exponential of its own
advantages; here outcomes are random and a ninth of the policy's decisions is not in 1,000 stays.
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.data import OfflineDataset
from ca14lib.environments import TabularModel, behaviour_policy, tabular_model
from ca14lib.evaluation.off_policy import Estimate, doubly_robust, fitted_q_evaluation, importance_sampling
from ca14lib.experiments.offline.gridworld import GRIDWORLD
from ca14lib.experiments.offline.sepsis import SEPSIS
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.solvers.dynamic_programming import policy_evaluation, policy_return
from ca14lib.training.collect import collect

DATASETS_PER_SEED = 20  # ten seeds are 200 datasets
RESAMPLES = 200
INVERSE_TEMPERATURE = 60.0  # β of the tilt: closes four tenths of the gap between clinicians and optimum


@dataclass(frozen=True)
class Problem:
    """Data of one policy, a question about another.

    Attributes:
        environment: Gymnasium id.
        behaviour: Name of the behaviour that is recorded.
        discount: Of the evaluation.
        limit: Steps after which recorded episodes are cut: the horizon of what importance sampling estimates.
        bounds: Least and largest value that any state-action pair can have, known beforehand.
        episodes: Sizes of the data.
    """

    environment: str
    behaviour: str
    discount: float
    limit: int
    bounds: tuple[float, float]
    episodes: tuple[int, ...]


PROBLEMS: dict[str, Problem] = {
    "GridWorld": Problem(GRIDWORLD, "mixed", 0.99, 50, (-10.0, 1.0), (100, 400, 1_600)),
    "GridWorld random": Problem(GRIDWORLD, "random", 0.99, 50, (-10.0, 1.0), (100, 400)),
    "ICU-Sepsis": Problem(SEPSIS, "clinician", 1.0, 500, (0.0, 1.0), (1_000, 3_000)),
}


def tilted_policy(
    model: TabularModel, behaviour: NDArray[np.float64], inverse_temperature: float, discount: float = 1.0
) -> NDArray[np.float64]:
    r"""The behaviour tilted by its own exact advantages, :math:`\pi \propto \pi_\beta \exp(\beta A)`, ``[S, A]``.

    Book eq. iql-boltzmann with the advantages of the behaviour itself. It takes no action that the behaviour never
    takes; the inverse temperature 0 gives the behaviour.
    """
    q = policy_evaluation(model, behaviour, discount).q
    advantage = q - (behaviour * q).sum(axis=1, keepdims=True)
    tilted = behaviour * np.exp(inverse_temperature * advantage)
    return tilted / tilted.sum(axis=1, keepdims=True)


def wandering_policy(expert_share: float) -> NDArray[np.float64]:
    """GridWorld's expert in this share of the steps, uniform otherwise, ``[S, 4]``; ``mixed`` has 0.7."""
    expert, random = (behaviour_policy(GRIDWORLD, name) for name in ("expert", "random"))
    return expert_share * expert + (1 - expert_share) * random


@cache
def evaluated_policy(problem: str) -> NDArray[np.float64]:
    """The policy whose value is asked for, ``[S, A]``."""
    if PROBLEMS[problem].environment == GRIDWORLD:
        return wandering_policy(0.5)
    model = tabular_model(SEPSIS)
    return tilted_policy(model, behaviour_policy(SEPSIS, "clinician"), INVERSE_TEMPERATURE)


@cache
def true_values(problem: str) -> dict[str, float]:
    """Exact returns of the evaluated policy: ``within`` the time limit of the data, and ``without`` it."""
    setting, policy = PROBLEMS[problem], evaluated_policy(problem)
    model = tabular_model(setting.environment)
    return {
        "within": policy_return(model, policy, setting.discount, setting.limit),
        "without": policy_return(model, policy, setting.discount),
    }


def estimates(problem: str, dataset: OfflineDataset, seed: int, resamples: int = RESAMPLES) -> dict[str, Estimate]:
    """Every estimator on one dataset, by the name that tables use.

    ``FQE percentile`` is FQE with the quantiles of its resamples as they are; ``unseen 0`` values what was never tried
    at 0; ``bounds`` widens the interval by what unseen pairs could do if they were worth any value there is, ``range``
    if they were worth any value that a tried pair has.
    """
    setting, policy = PROBLEMS[problem], evaluated_policy(problem)
    common = {
        "discount": setting.discount, "model": tabular_model(setting.environment), "resamples": resamples, "seed": seed,
    }  # fmt: skip
    # each of these solves the Bellman equation again
    fewer, few = (common | {"resamples": number} for number in (max(resamples // 2, 2), 2))
    found = {
        "IS": importance_sampling(dataset, policy, "ordinary", **common),  # type: ignore[arg-type]
        "WIS": importance_sampling(dataset, policy, "weighted", **common),  # type: ignore[arg-type]
        "PDIS": importance_sampling(dataset, policy, "per_decision", **common),  # type: ignore[arg-type]
        "WPDIS": importance_sampling(dataset, policy, "weighted_per_decision", **common),  # type: ignore[arg-type]
        "DR": doubly_robust(dataset, policy, **common),  # type: ignore[arg-type]
        "WDR": doubly_robust(dataset, policy, "weighted", **common),  # type: ignore[arg-type]
        "FQE": (fqe := fitted_q_evaluation(dataset, policy, **fewer)),  # type: ignore[arg-type]
        # the basic interval is the percentile interval reflected at the estimate, and the other way round
        "FQE percentile": replace(fqe, low=2 * fqe.value - fqe.high, high=2 * fqe.value - fqe.low),
        "FQE unseen 0": fitted_q_evaluation(dataset, policy, unseen_value=0.0, **fewer),  # type: ignore[arg-type]
    }
    plain = fitted_q_evaluation(dataset, policy, **few)  # type: ignore[arg-type]
    for name, bounds in (("bounds", setting.bounds), ("range", "tried")):
        wide = fitted_q_evaluation(dataset, policy, value_bounds=bounds, **few)  # type: ignore[arg-type]
        # what the bounds add does not depend on the resamples
        low, high = fqe.low + wide.low - plain.low, fqe.high + wide.high - plain.high
        found[f"FQE {name}"] = replace(fqe, low=low, high=high)
        found[f"DR {name}"] = doubly_robust(dataset, policy, value_bounds=bounds, **common)  # type: ignore[arg-type]
    return found


def evaluation_run(
    problem: str, episodes: int, seed: int, *, datasets: int = DATASETS_PER_SEED, resamples: int = RESAMPLES
) -> list[dict[str, float | str]]:
    """All estimators on some datasets of one size.

    Args:
        problem: Key of ``PROBLEMS``.
        episodes: Size of the data.
        seed: Seeds the datasets, which differ between seeds.
        datasets: How many.
        resamples: Bootstrap resamples of every estimate, half of it for fitted Q evaluation.
    Returns:
        Rows with ``dataset``, ``estimator``, ``truth``, ``value``, ``low``, ``high``, ``covers``,
        ``effective_sample_size`` and ``unseen_share``.
    """
    setting = PROBLEMS[problem]
    rows: list[dict[str, float | str]] = []
    for number in range(seed * datasets, (seed + 1) * datasets):
        data = collect(setting.environment, setting.behaviour, episodes, number)
        for name, estimate in estimates(problem, data, number, resamples).items():
            truth = true_values(problem)["within" if "IS" in name else "without"]
            rows.append(
                {
                    "dataset": number, "estimator": name, "truth": truth, "value": estimate.value,
                    "low": estimate.low, "high": estimate.high, "covers": float(estimate.covers(truth)),
                    "effective_sample_size": estimate.effective_sample_size, "unseen_share": estimate.unseen_share,
                }
            )  # fmt: skip
    return rows


def coverage_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row per environment, size and estimator: mean, bias, root mean squared error, coverage, median width."""
    rows = []
    for (environment, episodes, estimator), group in runs.groupby(["problem", "episodes", "estimator"], sort=False):
        truth, error = group["truth"].iloc[0], group["value"] - group["truth"]
        weights = group["effective_sample_size"].dropna()
        rows.append(
            {
                "environment": environment, "episodes": episodes, "estimator": estimator, "datasets": len(group),
                "truth": truth, "estimate_mean": group["value"].mean(), "bias": error.mean(),
                "rmse": np.sqrt((error**2).mean()), "coverage": group["covers"].mean(),
                "width_median": (group["high"] - group["low"]).median(),
                "effective_sample_size": np.nan if weights.empty else weights.median(),
                "unseen_share": group["unseen_share"].mean(),
            }
        )  # fmt: skip
    return pd.DataFrame(rows)


def evaluation_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """The part ``evaluation`` of the offline experiment: the table ``offline_evaluation``."""
    frames = []
    for problem, setting in PROBLEMS.items():
        grid = {
            "problem": [problem], "episodes": list(setting.episodes[:1] if quick else setting.episodes),
            "datasets": [2 if quick else DATASETS_PER_SEED], "resamples": [50 if quick else RESAMPLES],
        }  # fmt: skip
        frames.append(finished(sweeps(evaluation_run, grid)))
    return {"offline_evaluation": coverage_table(pd.concat(frames, ignore_index=True))}
