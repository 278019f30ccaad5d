"""All agents of the course on one scale, and whether the ranking agrees with exact answers.

Book: evaluation/framework. Training and measuring are in :mod:`ca14lib.experiments.evaluation.homes`.
"""

from typing import Any

import pandas as pd

from ca14lib.evaluation.evaluator import COLUMNS, Evaluation, Evaluator, rank_correlation
from ca14lib.experiments.evaluation.homes import HOME_OF, comparison_run
from ca14lib.experiments.runs import Sweep, finished
from ca14lib.metrics.intervals import interquartile_mean, interval_table

MEASUREMENTS = "evaluation_measurements_runs"  # name of the table that a report is made from
INDEPENDENT = "IQLearners"  # what coordination is counted from


def measurements_of(runs: pd.DataFrame) -> pd.DataFrame:
    """What the evaluator takes, from the rows of :func:`comparison_run`: coordination is counted from IQLearners."""
    table = runs[runs["dimension"] != "exact share"]
    standard = table[
        (table["home"] == "TargetGrid") & (table["dimension"] == "asymptotic_performance")
    ]  # fmt: skip
    independent = standard[standard["agent"] == INDEPENDENT]["value"]
    if len(independent):
        zero = interquartile_mean(independent)
        gained = standard[standard["agent"] != INDEPENDENT].assign(dimension="coordination", zero=zero)
        table = pd.concat([table, gained], ignore_index=True)
    return table[[*COLUMNS]].reset_index(drop=True)


def evaluation_tables(evaluation: Evaluation) -> dict[str, pd.DataFrame]:
    """What an evaluation found, as tables by name."""
    return {
        "evaluation_scores": evaluation.scores, "evaluation_dimensions": evaluation.dimensions,
        "evaluation_costs": evaluation.costs, "evaluation_gaps": evaluation.gaps,
        "evaluation_improvement": evaluation.improvement, "evaluation_sensitivity": evaluation.sensitivity,
    }  # fmt: skip


def agreement_table(scores: pd.DataFrame, exact: pd.DataFrame) -> pd.DataFrame:
    """Rank correlation of the evaluator's score, and of its parts, with exact shares, over those who have one."""
    both = scores.merge(exact[["agent", "home", "share_iqm"]], on="agent")
    groups = {"all": both} | {name: both[both["home"].str.startswith(name)] for name in ("UncertainGrid", "SafeGrid")}
    rows = []
    for name, group in groups.items():
        for column in ("score", "asymptotic_performance"):
            if len(group) >= 3:
                value = rank_correlation(group[column].tolist(), group["share_iqm"].tolist())
                rows.append({"agents": name, "count": len(group), "ranking": column, "correlation": value})
    return pd.DataFrame(rows)


def comparison_part(sweeps: Sweep, quick: bool) -> dict[str, pd.DataFrame]:
    """All agents: ``evaluation_scores`` and the evaluator's other tables, ``evaluation_exact``,
    ``evaluation_agreement`` and the measurements, from which ``ca14 report`` is made."""
    grid: dict[str, list[Any]] = {"agent": list(HOME_OF)}
    if quick:
        grid = {"agent": ["DiscreteCQL", "DiscreteBC", "PPO", "PPOLagrangian", "IPPO", INDEPENDENT],
                "share_of_steps": [0.1]}  # fmt: skip
    runs = finished(sweeps(comparison_run, grid))
    measured = measurements_of(runs)
    evaluation = Evaluator()(measured)
    known = runs[runs["dimension"] == "exact share"].rename(columns={"value": "share"})
    exact = interval_table(known, ["agent", "home"], ["share"])
    homes = runs[["agent", "home"]].drop_duplicates()
    tables = evaluation_tables(evaluation)
    tables["evaluation_scores"] = tables["evaluation_scores"].merge(homes, on="agent")
    return tables | {
        "evaluation_exact": exact, "evaluation_agreement": agreement_table(evaluation.scores, exact),
        MEASUREMENTS: measured,
    }  # fmt: skip
