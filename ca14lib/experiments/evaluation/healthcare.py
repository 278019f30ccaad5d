"""From a log of treated stays to the decision whether to deploy a policy, on ICU-Sepsis. Book: evaluation/healthcare.

The exact value of every policy is known, so that the decision procedures themselves can be marked. Everything here is
the answer of a model that was estimated from records, and no medical advice.
"""

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from ca14lib.data import OfflineDataset
from ca14lib.environments import TabularModel, behaviour_policy
from ca14lib.environments.icu_sepsis import ICUSepsisVector
from ca14lib.environments.tabular import CategoricalRows
from ca14lib.evaluation.improvement import alarm_wealth, frequencies, paired_improvement
from ca14lib.evaluation.logs import Log
from ca14lib.evaluation.resampling import resampled_counts
from ca14lib.evaluation.tabular_fqe import Table
from ca14lib.experiments.offline.sepsis import SEPSIS, sepsis_model
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.experiments.safe.sepsis import dose, exact_numbers
from ca14lib.metrics.intervals import interval_table
from ca14lib.solvers.dynamic_programming import policy_evaluation, value_iteration
from ca14lib.solvers.improvement import baseline_bootstrapped_plan, empirical_model, overruled_policy
from ca14lib.solvers.robust import robust_value_iteration
from ca14lib.training.collect import collect

SIZES = (2_000, 10_000, 30_000)
# who treated the patients of the log: the clinicians of the model, or others whose choices lean towards what works
HOSPITALS = {"ordinary": 0.0, "experienced": 200.0}
EXPERIENCED_SIZES = (10_000,)
LOGS = 4  # per seed and size
LEARNING_SHARE = 0.5  # of the stays; the others judge
ADHERENCE = 0.9  # how often a recommendation is followed; the rest is what clinicians do
LEAST_COUNT = 10  # visits from which a pair is trusted
THRESHOLD = 0.3  # of BCQ
RADIUS = 1.0  # times 1/√n, of the robust plan's L1 balls
ROBUST_DISCOUNT = 0.99
MEMBERS, PESSIMISM = 50, 1.0  # of the bootstrap ensemble
SEVERITY = (6.0, 8.0)  # SOFA scores between the three groups of patients at admission
RESAMPLES = 40
CONFIDENCE = 0.95
MOST_UNSEEN = 0.05  # share of decisions on actions that the judging half does not hold
DRILL = "miscoded"
# a recommendation to override: the action of each state, and the clinicians' actions that it replaces
Recommendation = tuple[NDArray[np.intp], NDArray[np.bool_]]

WATCHED, PATIENTS = 2_000, 20_000  # simulated deployments, and stays in each
WORSE_BY = 0.03  # what the monitor bets on
ALARM = 0.05
MONITORED = (-0.05, -0.03, -0.01, 0.0, 0.02)  # true survival, minus the clinicians'


class Learned(NamedTuple):
    """What the learning half of a log shows."""

    data: OfflineDataset
    counts: NDArray[np.int64]  # [S, A, S]
    rewards: NDArray[np.float64]  # [S, A]
    visits: NDArray[np.int64]  # [S, A]
    behaviour: NDArray[np.float64]  # frequencies, [S, A]; uniform where nobody was
    model: TabularModel  # what it shows of the problem


@cache
def clinicians(hospital: str = "ordinary") -> NDArray[np.float64]:
    r"""The policy that treats the patients of the log, ``[S, A]``; the procedures never see it, only what it did.

    In the experienced hospital it is that of the ordinary one times :math:`e^{\eta A}`, with its own exact advantages.

    Args:
        hospital: Of ``HOSPITALS``, which holds :math:`\eta`.
    """
    usual = behaviour_policy(SEPSIS, "clinician")
    if not HOSPITALS[hospital]:
        return usual
    found = policy_evaluation(sepsis_model(), usual)
    tilted = usual * np.exp(HOSPITALS[hospital] * (found.q - found.value[:, None]).clip(max=1.0))
    return tilted / tilted.sum(axis=1, keepdims=True)


@cache
def clinicians_value(hospital: str = "ordinary") -> NDArray[np.float64]:
    """Their exact probability of survival from every state, ``[S]``."""
    return policy_evaluation(sepsis_model(), clinicians(hospital)).value


@cache
def optimum() -> float:
    """The best probability of survival."""
    return value_iteration(sepsis_model()).optimal_return


def stays(hospital: str, episodes: int, seed: int) -> OfflineDataset:
    """A log of whole stays in a hospital.

    Args:
        hospital: Of ``HOSPITALS``.
        episodes: Number of stays.
        seed: Fixes them.
    """
    choice, generator = CategoricalRows(clinicians(hospital)), np.random.default_rng([seed, 2])
    return collect(SEPSIS, lambda state: choice.draw(state, generator), episodes, seed)


@cache
def severity() -> NDArray[np.intp]:
    """Group of every state by its SOFA score, ``[S]``: 0 mild, 1 moderate, 2 severe."""
    return np.digitize(ICUSepsisVector().sofa, SEVERITY)


def learned(data: OfflineDataset) -> Learned:
    """Counts of the learning half, and the clinicians as they look in it."""
    counts, rewards = data.empirical_counts(sepsis_model())
    visits = counts.sum(axis=2)
    model = empirical_model(counts, rewards, sepsis_model().terminal)
    return Learned(data, counts, rewards, visits, observed_policy(visits), model)


def observed_policy(visits: NDArray) -> NDArray[np.float64]:
    """Frequencies of actions ``[S, A]``; uniform in states that nobody visited."""
    total = visits.sum(axis=1, keepdims=True)
    return np.where(total > 0, visits / np.maximum(total, 1), 1 / visits.shape[1])


# --- candidates -------------------------------------------------------------------------------------------------------


def everywhere(policy: NDArray[np.float64], known: NDArray[np.bool_]) -> Recommendation:
    """A deterministic policy ``[S, A]`` that overrules every action of the states ``known`` ``[S]``."""
    return policy.argmax(axis=1), np.broadcast_to(known[:, None], policy.shape)


def trusting(half: Learned, trusted: NDArray[np.bool_]) -> Recommendation:
    """SPIBB: the best plan in the counts that leaves the clinicians at trusted pairs only."""
    plan = baseline_bootstrapped_plan(half.model, half.behaviour, trusted)
    return plan.choice, plan.overruled


def best_among(half: Learned, allowed: NDArray[np.bool_]) -> Recommendation:
    """The best plan in the counts that takes allowed actions only; a state without any counts as death.

    With the pairs that were seen often enough it is :func:`~ca14lib.solvers.pessimistic_plan`, found by policy
    iteration, except that states without such a pair are handed back.
    """
    model = empirical_model(np.where(allowed[..., None], half.counts, 0), half.rewards * allowed, half.model.terminal)
    among = np.where(allowed, half.behaviour, 0.0)
    among = np.where(model.terminal[:, None], 1.0, among)
    plan = baseline_bootstrapped_plan(model, among / among.sum(axis=1, keepdims=True), allowed)
    return everywhere(plan.policy, ~model.terminal)


def robust(half: Learned) -> Recommendation:
    r"""The best plan for the worst case in L1 balls of radius :math:`1/\sqrt n` around the frequencies."""
    radius = np.minimum(2.0, RADIUS / np.sqrt(np.maximum(half.visits, 1)))
    plan = robust_value_iteration(half.model, radius, "l1", discount=ROBUST_DISCOUNT, support="simplex")
    return everywhere(plan.policy, ~half.model.terminal)


def ensemble(half: Learned, seed: int) -> Recommendation:
    """One step of improvement where an ensemble agrees: clinicians' advantages on resampled stays.

    The action with the largest mean advantage minus its deviation is recommended where that is positive; elsewhere
    the members disagree too much and the state is handed back.
    """
    log = Log.of(half.data)
    policy = frequencies(log)
    q = Table(log, policy, 1.0).values(resampled_counts(log.episodes, MEMBERS, seed), None)
    advantage = q - (policy * q).sum(axis=2, keepdims=True)
    bound = np.where(log.counts() >= 2, advantage.mean(axis=0) - PESSIMISM * advantage.std(axis=0), -np.inf)
    choice, known = np.zeros(len(half.visits), dtype=np.intp), np.zeros(len(half.visits), dtype=bool)
    choice[log.row], known[log.row] = bound.argmax(axis=1), bound.max(axis=1) > 0
    return choice, np.broadcast_to(known[:, None], half.visits.shape)


def within_doses(half: Learned) -> NDArray[np.bool_]:
    """Actions at most one level of either drug over the clinicians' mean in the state, ``[S, A]``."""
    levels = 4 * dose(np.arange(half.visits.shape[1]))  # [2, A]
    mean = half.behaviour @ levels.T  # [S, 2]
    return np.all(levels.T[None] <= mean[:, None] + 1.0, axis=2)


def candidates(half: Learned, seed: int) -> dict[str, Recommendation]:
    """All candidates that one learning half gives; the last one, ``DRILL``, learned from miscoded outcomes.

    Args:
        half: The learning half.
        seed: Fixes the resamples of the ensemble.
    """
    enough = half.visits >= LEAST_COUNT
    ends = half.counts[..., sepsis_model().terminal].sum(axis=2)
    rewards = ends - half.rewards  # death recorded as survival, and survival as death
    flipped = half._replace(model=replace(half.model, reward=rewards / np.maximum(half.visits, 1)))
    likely = half.behaviour >= THRESHOLD * half.behaviour.max(axis=1, keepdims=True)
    return {
        "clone": everywhere(np.eye(half.visits.shape[1])[half.visits.argmax(axis=1)], half.visits.sum(axis=1) > 0),
        "plan": trusting(half, half.visits > 0),
        "BCQ": best_among(half, likely & (half.visits > 0)),
        "pessimism": best_among(half, enough),
        "robust": robust(half),
        "ensemble": ensemble(half, seed),
        "SPIBB": trusting(half, enough),
        "SPIBB within doses": trusting(half, enough & within_doses(half)),
        DRILL: trusting(flipped, enough),
    }


# --- judging one log --------------------------------------------------------------------------------------------------


def exact_gains(recommendation: Recommendation, hospital: str) -> dict[str, float]:
    """What is not known in a hospital: survival gained over its clinicians, in all and by severity, and doses."""
    policy = overruled_policy(clinicians(hospital), *recommendation, ADHERENCE)
    gained = policy_evaluation(sepsis_model(), policy).value - clinicians_value(hospital)
    row = {"gain": float(sepsis_model().initial @ gained)}
    for group in range(len(SEVERITY) + 1):
        first = np.where(severity() == group, sepsis_model().initial, 0.0)
        row[f"gain_{group}"] = float(first @ gained / first.sum())
    doses = exact_numbers(policy)
    return row | {"vasopressors": doses["vasopressors"], "fluids": doses["fluids"]}


def judged(recommendation: Recommendation, data: OfflineDataset, seed: int) -> dict[str, float]:
    """Both estimates of the gain on the judging half, with their errors, and what was handed back.

    Args:
        recommendation: The candidate.
        data: Stays that had no part in making it.
        seed: Fixes folds and resamples.
    """
    log = Log.of(data)
    visits = data.visit_counts(sepsis_model())
    policy = overruled_policy(observed_policy(visits), *recommendation, ADHERENCE)
    groups = severity()[log.row[log.state[log.start]]]
    fitted, *by_group = paired_improvement(data, policy, groups=groups, resamples=RESAMPLES, seed=seed)
    corrected = paired_improvement(data, policy, "doubly_robust", seed=seed)[0]
    kept = visits.sum(axis=1)[~recommendation[1].any(axis=1)].sum() / visits.sum()
    return {
        "fqe": fitted.value, "fqe_error": fitted.error, "dr": corrected.value, "dr_error": corrected.error,
        "deviation": fitted.deviation, "effective": fitted.effective_sample_size, "handed_back": float(kept),
        "unseen": fitted.unseen, "worst_group": min(group.value for group in by_group),
    }  # fmt: skip


def promised(recommendation: Recommendation, half: Learned) -> float:
    """The gain on the very stays that the candidate was made from."""
    policy = overruled_policy(half.behaviour, *recommendation, ADHERENCE)
    return paired_improvement(half.data, policy, resamples=2)[0].value


def healthcare_log(
    log: int, seed: int, episodes: int = SIZES[0], hospital: str = "ordinary"
) -> list[dict[str, float | str]]:
    """Learn all candidates from one half of a log and judge them on the other.

    Args:
        log: Which of a seed's logs.
        seed: Fixes the log, with its number.
        episodes: Stays in the log.
        hospital: Of ``HOSPITALS``.
    Returns:
        A row per candidate.
    """
    number = LOGS * seed + log
    learning, judging = stays(hospital, episodes, number).split(LEARNING_SHARE, number)
    half = learned(learning)
    rows: list[dict[str, float | str]] = []
    for name, found in candidates(half, number).items():
        numbers = judged(found, judging, number) | exact_gains(found, hospital)
        rows.append({"candidate": name, "promise": promised(found, half), **numbers})
    return rows


# --- decision procedures ----------------------------------------------------------------------------------------------


def decisions(rows: pd.DataFrame) -> pd.DataFrame:
    """What each procedure deploys for one log.

    Args:
        rows: The log's candidates, as :func:`healthcare_log` makes them, with ``DRILL`` or without.
    Returns:
        A row per procedure: ``rule``, the deployed ``candidate`` (or ``"clinicians"``), ``deployed``, ``gain``,
        ``harmful`` (gain under 0), ``group_harmed`` (gain under 0 in a group), ``left`` (the best candidate's gain
        minus the gain) and ``handed_back``.
    """
    menu = rows[rows["candidate"] != DRILL].set_index("candidate")
    fqe, dr = (lower_bounds(menu, name, len(menu)) for name in ("fqe", "dr"))
    alone = lower_bounds(menu, "fqe", 1).where(menu.index == "SPIBB", -np.inf)
    scores = {
        "clinicians": pd.Series(-np.inf, menu.index),
        "best promise": menu["promise"],
        "best estimate": menu["fqe"],
        "FQE bound": fqe,
        "DR bound": dr,
        "both bounds": np.minimum(fqe, dr),
        "all checks": fqe.where((menu["worst_group"] >= 0) & (menu["unseen"] <= MOST_UNSEEN), -np.inf),
        "SPIBB alone": alone,
    }
    table = []
    for rule, score in scores.items():
        chosen = menu.loc[score.idxmax()] if score.max() > 0 else None
        gain = 0.0 if chosen is None else float(chosen["gain"])
        worst = 0.0 if chosen is None else float(chosen.filter(like="gain_").min())
        table.append({
            "rule": rule, "candidate": "clinicians" if chosen is None else chosen.name,
            "deployed": float(chosen is not None), "gain": gain, "harmful": float(gain < 0),
            "group_harmed": float(worst < 0), "left": max(float(menu["gain"].max()), 0.0) - gain,
            "handed_back": 1.0 if chosen is None else float(chosen["handed_back"]),
        })  # fmt: skip
    return pd.DataFrame(table)


def lower_bounds(rows: pd.DataFrame, estimator: str, comparisons: int) -> pd.Series:
    """Lower bounds of all candidates at once (book eq. improvement-bound), a series over the index of ``rows``."""
    return rows[estimator] - norm.isf((1 - CONFIDENCE) / comparisons) * rows[f"{estimator}_error"]


def candidate_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Per size and candidate: true gain, promise, estimates, coverage of their bounds, and how often they pass."""
    menu = runs["candidate"].nunique() - 1
    runs = runs.assign(**{
        f"{name}_passes": (lower_bounds(runs, name, menu) > 0).astype(float) for name in ("fqe", "dr")
    }, **{
        f"{name}_holds": (lower_bounds(runs, name, 1) <= runs["gain"]).astype(float) for name in ("fqe", "dr")
    }, harmful=(runs["gain"] < 0).astype(float))  # fmt: skip
    by = ["hospital", "episodes", "candidate"]
    table = interval_table(runs, by, ["gain"])
    means = runs.groupby(by, sort=False)[[
        "promise", "fqe", "fqe_error", "dr", "dr_error", "fqe_passes", "dr_passes", "fqe_holds", "dr_holds", "harmful",
        "handed_back", "unseen", "deviation", "effective", "vasopressors", "fluids",
    ]].mean()  # fmt: skip
    return table.merge(means.reset_index(), on=by)


def rule_table(runs: pd.DataFrame) -> pd.DataFrame:
    """Per size and procedure: how often it deploys, harms, and what it gains and leaves; gain in survival."""
    parts = [
        decisions(rows).assign(hospital=hospital, episodes=size)
        for (hospital, size, _, _), rows in runs.groupby(["hospital", "episodes", "log", "seed"], sort=False)
    ]
    made = pd.concat(parts, ignore_index=True)
    value = {name: float(sepsis_model().initial @ clinicians_value(name)) for name in made["hospital"].unique()}
    made["gap_closed"] = made["gain"] / (optimum() - made["hospital"].map(value))
    by = ["hospital", "episodes", "rule"]
    table = interval_table(made, by, ["gain", "gap_closed", "left"]).rename(columns={"seeds": "logs"})
    grouped = made.groupby(by, sort=False)
    means = grouped[["deployed", "harmful", "group_harmed", "handed_back"]].mean()
    means["worst"] = grouped["gain"].min()
    return table.merge(means.reset_index(), on=by)


def monitor_table(watched: int = WATCHED, patients: int = PATIENTS, seed: int = 0) -> pd.DataFrame:
    """How soon a deployed policy is stopped, by its true difference to the clinicians (book eq. improvement-wealth).

    Args:
        watched: Simulated deployments.
        patients: Stays in each.
        seed: Fixes the outcomes.
    Returns:
        Columns ``difference``, ``alarms`` (share of deployments stopped) and ``median_stays`` until then (infinite if
        fewer than half are).
    """
    reference = float(sepsis_model().initial @ clinicians_value())
    rows = []
    for difference in MONITORED:
        draws = np.random.default_rng([seed, 1]).random((watched, patients), dtype=np.float32)
        wealth = alarm_wealth(draws < reference + difference, reference, reference - WORSE_BY)
        rung = wealth >= 1 / ALARM
        stays = np.where(rung.any(axis=1), rung.argmax(axis=1) + 1.0, np.inf)
        rows.append({"difference": difference, "alarms": np.isfinite(stays).mean(), "median_stays": np.median(stays)})
    return pd.DataFrame(rows)


def healthcare(sweep: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """Candidates, procedures and the monitor: ``healthcare_candidates``, ``…_rules``, ``…_monitor``, ``…_runs``."""
    logs = list(range(1 if quick else LOGS))
    grids = [
        {"log": logs, "episodes": list(SIZES[:1] if quick else SIZES), "hospital": ["ordinary"]},
        {"log": logs, "episodes": list(SIZES[:1] if quick else EXPERIENCED_SIZES), "hospital": ["experienced"]},
    ]
    runs = pd.concat([finished(sweep(healthcare_log, grid)) for grid in grids], ignore_index=True)
    runs = runs.drop(columns="seconds")
    return {
        "healthcare_candidates": candidate_table(runs),
        "healthcare_rules": rule_table(runs),
        "healthcare_monitor": monitor_table(200, 5_000) if quick else monitor_table(),
        "healthcare_runs": runs,
    }
