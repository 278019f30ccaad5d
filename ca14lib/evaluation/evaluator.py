"""One evaluator for all agents of the course: seven dimensions, intervals, and a score whose weights can be moved.

Book: evaluation/framework. What is measured comes as a table with one row per number, so that whatever trains and tests
the agents, on one computer or on many, can hand it in, and so that nothing has to be measured again to weigh it anew.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ca14lib.metrics.comparison import Profile, optimality_gap, performance_profile, probability_of_improvement
from ca14lib.metrics.intervals import Interval, interquartile_mean

Array = NDArray[np.float64]
COLUMNS = ("agent", "task", "dimension", "seed", "value", "zero", "one")
NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True)
class Dimension:
    """One thing that an agent is judged by.

    Attributes:
        name: As in the table of measurements.
        definition: What a measurement is.
        unit: Of a measurement, before it is put on the scale from 0 to 1.
        direction: ``"higher"`` or ``"lower"``: which measurement is the better.
        weight: In the weighted score, before it is divided by the sum over what applies; None where the dimension is
            reported beside the score.
        worst: Take a run's worst task instead of the mean over its tasks.
        scaled: On the scale from 0 to 1; otherwise reported in its unit.
    """

    name: str
    definition: str
    unit: str
    direction: str = "higher"
    weight: float | None = None
    worst: bool = False
    scaled: bool = True


# the weights are the original notebook's
DIMENSIONS: dict[str, Dimension] = {
    dimension.name: dimension
    for dimension in (
        Dimension(
            "sample_efficiency",
            "mean score at five equally spaced times of training, the last at its end: area under the learning curve",
            "share",
            weight=0.2,
        ),
        Dimension("asymptotic_performance", "mean return of the last policy on held starts", "return", weight=0.25),
        Dimension(
            "robustness",
            "mean return of the last policy in the worst of the shifted test environments",
            "return",
            weight=0.25,
            worst=True,
        ),
        Dimension(
            "safety",
            "expected cost of an episode: at the limit or under it nothing is missing",
            "cost",
            "lower",
            weight=0.2,
        ),
        Dimension(
            "coordination",
            "team return beyond that of independent learners, up to the bound",
            "return",
            weight=0.1,
        ),
        Dimension("scalability", "mean return in a larger problem: a larger grid, or twice the agents", "return"),
        Dimension("training_time", "processor time of the training", "s", "lower", scaled=False),
        Dimension("inference_time", "median time of a decision for one observation", "ms", "lower", scaled=False),
        Dimension("parameters", "trained numbers", "", "lower", scaled=False),
        Dimension("memory", "parameters, buffers and the optimisers' state", "MiB", "lower", scaled=False),
    )
}
WEIGHTS: dict[str, float] = {item.name: item.weight for item in DIMENSIONS.values() if item.weight is not None}


@dataclass(frozen=True)
class Evaluation:
    """What :class:`Evaluator` finds.

    Attributes:
        dimensions: One row per agent and scaled dimension that applies: ``score``, ``low``, ``high`` (NaN with one
            run), ``tasks``, ``runs``.
        scores: One row per agent, best first: ``score``, ``low``, ``high``, ``rank``, ``runs``, ``applies``
            (the weighted dimensions that do), and every dimension's score, NaN where it does not apply.
        costs: One row per agent: median of every dimension that is reported in its unit.
        gaps: One row per agent: optimality gap of the asymptotic performance with its interval.
        profiles: Share of runs above each score of the asymptotic performance, by agent.
        improvement: One row per ordered pair of agents that have tasks of the asymptotic performance in common.
        sensitivity: One row per agent: how its rank moves as the weights move.
        weights: Of the score.
    """

    dimensions: pd.DataFrame
    scores: pd.DataFrame
    costs: pd.DataFrame
    gaps: pd.DataFrame
    profiles: Mapping[str, Profile]
    improvement: pd.DataFrame
    sensitivity: pd.DataFrame
    weights: Mapping[str, float] = field(default_factory=lambda: dict(WEIGHTS))

    @property
    def ranking(self) -> list[str]:
        """Agents, best first."""
        return self.scores["agent"].tolist()

    def not_applicable(self, agent: str) -> list[str]:
        """Dimensions of the score that say nothing about an agent."""
        row = self.scores[self.scores["agent"] == agent]
        if row.empty:
            raise ValueError(f"no agent {agent!r} in this evaluation; there are {', '.join(self.ranking)}")
        return [name for name in self.weights if pd.isna(row[name].iloc[0])]


class Evaluator:
    r"""Scores agents on all dimensions that apply to them (book eq. weighted-score).

    A measurement x becomes :math:`(x-\text{zero})/(\text{one}-\text{zero})`, cut to [0, 1]: zero and one are numbers in
    its unit that stand with it, such as the uniform policy's return and the exact optimum. A cost has them the other
    way round. Where a task gives neither, the worst and the best interquartile mean of its agents take their place, and
    the score is relative to who takes part. Either way it is the same in every unit: shifting or scaling the
    measurements of a task, with their zero and one, changes nothing.

    Args:
        weights: Of the dimensions of the score; None for the original notebook's.
        repetitions: Bootstrap resamples, and draws of weights for the sensitivity.
        seed: Fixes them.

    Raises:
        ValueError: If a weight is negative or not finite, all are 0, or a dimension is unknown or has no scale.
    """

    def __init__(
        self, weights: Mapping[str, float] | None = None, *, repetitions: int = 1_000, seed: int = 0
    ) -> None:  # fmt: skip
        self.weights = dict(WEIGHTS if weights is None else weights)
        for name, weight in self.weights.items():
            if name not in DIMENSIONS or not DIMENSIONS[name].scaled:
                known = ", ".join(item.name for item in DIMENSIONS.values() if item.scaled)
                raise ValueError(f"weights must be of {known}, got {name!r}")
            if not (np.isfinite(weight) and weight >= 0):
                raise ValueError(f"the weight of {name} must be a number of at least 0, got {weight}")
        if not sum(self.weights.values()) > 0:
            raise ValueError("at least one weight must be above 0, all are 0")
        if repetitions < 1:
            raise ValueError(f"repetitions must be at least 1, got {repetitions}")
        self.repetitions, self.seed = repetitions, seed

    def __call__(self, measurements: pd.DataFrame) -> Evaluation:
        """Evaluate.

        Args:
            measurements: Columns ``agent``, ``task``, ``dimension``, ``seed``, ``value``, ``zero``, ``one``; the last
                two NaN where there is no reference. One row per number; a dimension that an agent has no row of does
                not apply to it. Agents of different kinds may take part: only those with a task in common are compared
                on it.
        Raises:
            ValueError: Naming the row, if a column is missing, there are no rows, a value is not finite, a run has a
                task twice or lacks one that the agent's other runs have, or zero and one are equal, given singly, or
                differ within a task.
        """
        table = checked(measurements)
        scaled = self._scaled(table)
        runs = {
            (agent, name): _by_run(group, DIMENSIONS[name].worst)
            for (agent, name), group in scaled.groupby(["agent", "dimension"], sort=False)
        }
        agents = list(dict.fromkeys(table["agent"]))
        # an agent's dimensions come from the same runs, which are good or bad together: they are redrawn together
        draws = {(agent, name): self._draws(values, agents.index(agent)) for (agent, name), values in runs.items()}
        dimensions = [
            {"agent": agent, "dimension": name}
            | _named(_interval(values, draws[agent, name]))
            | {"tasks": scaled[(scaled.agent == agent) & (scaled.dimension == name)]["task"].nunique()}
            | {"runs": len(values)}
            for (agent, name), values in runs.items()
        ]
        by_agent = {
            agent: {name: runs[agent, name] for name in DIMENSIONS if (agent, name) in runs} for agent in agents
        }
        scores = [self._scored(agent, by_agent[agent], draws) for agent in agents]
        ranked = pd.DataFrame(scores).sort_values("score", ascending=False, kind="stable", na_position="last")
        ranked.insert(1, "rank", _ranks(ranked["score"].to_numpy(dtype=np.float64)[None])[0].astype(int))
        return Evaluation(
            dimensions=pd.DataFrame(
                dimensions, columns=["agent", "dimension", "score", "low", "high", "tasks", "runs"]
            ),
            scores=ranked.reset_index(drop=True),
            costs=_costs(table, agents),
            gaps=self._gaps(scaled),
            profiles=self._profiles(scaled),
            improvement=self._improvement(scaled),
            sensitivity=self.sensitivity(ranked),
            weights=dict(self.weights),
        )  # fmt: skip

    def sensitivity(self, scores: pd.DataFrame, concentration: float = 10.0) -> pd.DataFrame:
        r"""How the ranking moves as the weights move (book eq. weight-draws).

        Weights are drawn from the Dirichlet distribution whose mean they are, :math:`\alpha_d=c\,w_d/\sum w`: with c =
        10 the original's .25 mostly lies between .06 and .53.

        Args:
            scores: Rows ``agent`` with the dimensions' scores, as in :attr:`Evaluation.scores`.
            concentration: c > 0; the larger, the closer the weights stay to their mean.
        Returns:
            One row per agent: ``rank`` with the weights as they are, ``rank_mean``, ``rank_low`` and ``rank_high``
            (95% of the draws), ``first``, the share of draws in which it is first.
        """
        if not concentration > 0:
            raise ValueError(f"concentration must be above 0, got {concentration}")
        names = [name for name, weight in self.weights.items() if weight > 0 and name in scores]
        values = scores[names].to_numpy(dtype=np.float64)
        mean = np.array([self.weights[name] for name in names])
        random = np.random.default_rng(self.seed)
        draws = random.dirichlet(concentration * mean / mean.sum(), self.repetitions)
        totals = np.array([_weighted(values, weights) for weights in [mean, *draws]])
        ranks = _ranks(totals)
        low, high = np.quantile(ranks[1:], [0.025, 0.975], axis=0)
        return pd.DataFrame(
            {"agent": scores["agent"].to_numpy(), "rank": ranks[0], "rank_mean": ranks[1:].mean(axis=0),
             "rank_low": low, "rank_high": high, "first": (ranks[1:] == 1).mean(axis=0)}
        )  # fmt: skip

    def _scored(
        self, agent: str, values: Mapping[str, Array], draws: Mapping[tuple[str, str], Array]
    ) -> dict[str, object]:
        applies = [name for name, weight in self.weights.items() if name in values and weight > 0]
        weights = np.array([self.weights[name] for name in applies])
        if not applies or not weights.sum() > 0:
            interval = Interval(np.nan, np.nan, np.nan)
        else:
            share = weights / weights.sum()
            estimate = float(share @ [interquartile_mean(values[name]) for name in applies])
            drawn = share @ np.array([draws[agent, name] for name in applies])
            one = any(len(values[name]) < 2 for name in applies)
            low, high = (np.nan, np.nan) if one else (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
            interval = Interval(estimate, low, high)
        own = {name: interquartile_mean(values[name]) if name in values else np.nan for name in DIMENSIONS
               if DIMENSIONS[name].scaled}  # fmt: skip
        runs = min((len(item) for item in values.values()), default=0)
        return {"agent": agent, **_named(interval), "runs": runs, "applies": len(applies), **own}

    def _scaled(self, table: pd.DataFrame) -> pd.DataFrame:
        """Measurements of the scaled dimensions, between 0 and 1."""
        rows = table[[DIMENSIONS[name].scaled for name in table["dimension"]]].copy()
        for (_, name), group in rows.groupby(["task", "dimension"], sort=False):
            zero, one = float(group["zero"].iloc[0]), float(group["one"].iloc[0])
            if np.isnan(zero) and group["agent"].nunique() < 2:
                raise ValueError(
                    f"task {group['task'].iloc[0]!r}, {name}, has no zero and one and a single agent: nothing says "
                    "what its values mean"
                )
            if np.isnan(zero):
                middles = [interquartile_mean(values) for _, values in group.groupby("agent")["value"]]
                zero, one = min(middles), max(middles)
                if DIMENSIONS[str(name)].direction == "lower":
                    zero, one = one, zero
            share = np.ones(len(group)) if zero == one else (group["value"] - zero) / (one - zero)
            rows.loc[group.index, "score"] = np.clip(share, 0.0, 1.0)
        return rows

    def _draws(self, values: Array, index: int) -> Array:
        """Interquartile means of resampled runs, ``[repetitions]``: the same runs for the same index and number."""
        random = np.random.default_rng([self.seed, index])
        drawn = values[random.integers(len(values), size=(self.repetitions, len(values)))]
        return _trimmed(drawn)

    def _gaps(self, scaled: pd.DataFrame) -> pd.DataFrame:
        rows = [
            (agent, matrix.shape[1], *optimality_gap(matrix, repetitions=self.repetitions, seed=self.seed))
            for agent, matrix in _matrices(scaled).items()
        ]
        return pd.DataFrame(rows, columns=["agent", "tasks", "gap", "low", "high"])

    def _profiles(self, scaled: pd.DataFrame) -> dict[str, Profile]:
        levels = np.linspace(0.0, 1.0, 101)
        return {
            agent: performance_profile(matrix, levels, repetitions=self.repetitions, seed=self.seed)
            for agent, matrix in _matrices(scaled).items()
        }

    def _improvement(self, scaled: pd.DataFrame) -> pd.DataFrame:
        rows = scaled[scaled["dimension"] == "asymptotic_performance"]
        tables = {
            agent: group.pivot(index="seed", columns="task", values="score")
            for agent, group in rows.groupby("agent", sort=False)
        }
        found = []
        for first, own in tables.items():
            for second, other in tables.items():
                tasks = [task for task in own.columns if task in other.columns]
                if first == second or not tasks:
                    continue
                interval = probability_of_improvement(
                    own[tasks].to_numpy(), other[tasks].to_numpy(), repetitions=min(self.repetitions, 200),
                    seed=self.seed,
                )  # fmt: skip
                found.append({"agent": first, "other": second, "tasks": len(tasks)} | interval._asdict())
        return pd.DataFrame(found, columns=["agent", "other", "tasks", "estimate", "low", "high"])


def checked(measurements: pd.DataFrame) -> pd.DataFrame:
    """The measurements, or an error that names the row which is wrong and what was expected.

    Raises:
        ValueError: As :meth:`Evaluator.__call__`.
    """
    missing = [name for name in COLUMNS if name not in measurements]
    if missing:
        raise ValueError(f"measurements need the columns {', '.join(COLUMNS)}; {', '.join(missing)} is missing")
    table = measurements.reset_index(drop=True)
    if table.empty:
        raise ValueError("measurements are empty: there is nothing to evaluate")
    for name in ("agent", "task", "dimension", "seed"):
        if table[name].isna().any():
            raise ValueError(f"every row needs a value of {name}; row {int(table[name].isna().argmax())} has none")
    for name in ("value", "zero", "one"):
        try:
            table[name] = pd.to_numeric(table[name])
        except (ValueError, TypeError) as problem:
            raise ValueError(f"the column {name} must hold numbers: {problem}") from None
    unknown = sorted(set(table["dimension"]) - set(DIMENSIONS))
    if unknown:
        raise ValueError(f"unknown dimension {unknown[0]!r}; there are {', '.join(DIMENSIONS)}")
    wrong = table[~np.isfinite(table["value"].astype(float))]
    if len(wrong):
        raise ValueError(f"values must be finite, got {wrong['value'].iloc[0]} in {_row(wrong)}")
    keys = ["agent", "task", "dimension", "seed"]
    wrong = table[table.duplicated(keys)]
    if len(wrong):
        raise ValueError(f"every run has one value of a task and dimension, got two in {_row(wrong)}")
    zero, one = table["zero"].astype(float), table["one"].astype(float)
    wrong = table[(zero.isna() != one.isna()) | np.isinf(zero) | np.isinf(one) | (zero == one)]
    if len(wrong):
        ends = f"{wrong['zero'].iloc[0]} and {wrong['one'].iloc[0]}"
        raise ValueError(f"zero and one must be two different numbers, or both missing, got {ends} in {_row(wrong)}")
    lower = table["dimension"].map(lambda name: DIMENSIONS[name].direction == "lower")
    wrong = table[(zero > one) != (lower & zero.notna())]
    wrong = wrong[wrong["zero"].notna()]
    if len(wrong):
        side = "below" if DIMENSIONS[wrong["dimension"].iloc[0]].direction == "higher" else "above"
        ends = f"{wrong['zero'].iloc[0]} and {wrong['one'].iloc[0]}"
        raise ValueError(f"zero must lie {side} one, got {ends} in {_row(wrong)}")
    for (task, name), group in table.groupby(["task", "dimension"], sort=False):
        if len(group[["zero", "one"]].drop_duplicates()) > 1:
            raise ValueError(f"zero and one must be the same for all agents and runs of task {task!r}, {name}")
    for (agent, name), group in table.groupby(["agent", "dimension"], sort=False):
        counts = group.groupby("task")["seed"].apply(lambda seeds: tuple(sorted(seeds)))
        if counts.nunique() > 1:
            raise ValueError(
                f"every run of an agent needs the same tasks; {agent!r}, {name} has seeds "
                + " and ".join(f"{list(seeds)} on {task!r}" for task, seeds in list(counts.items())[:2])
            )
    return table


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float:
    """Spearman's rank correlation of two scores of the same agents, ties at their mean rank.

    Raises:
        ValueError: If there are fewer than three agents, the lengths differ, or a score is not finite.
    """
    from scipy.stats import spearmanr

    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 3:
        raise ValueError(f"a rank correlation needs two scores of at least three agents, got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("scores must be finite")
    return float(spearmanr(x, y).statistic)


def pareto_front(gain: Sequence[float], price: Sequence[float]) -> list[bool]:
    """Who is on the front of gain (higher is better) against price (lower is better): nobody is better in both.

    Of agents that are equal in both, all are on it.

    Raises:
        ValueError: If the lengths differ or a number is not finite.
    """
    high, low = np.asarray(gain, dtype=np.float64), np.asarray(price, dtype=np.float64)
    if high.shape != low.shape or high.ndim != 1 or not (np.isfinite(high).all() and np.isfinite(low).all()):
        raise ValueError(f"gain and price must be finite and of one length, got shapes {high.shape} and {low.shape}")
    at_least = (high[None] >= high[:, None]) & (low[None] <= low[:, None])
    better = at_least & ((high[None] > high[:, None]) | (low[None] < low[:, None]))
    return [not any(row) for row in better]


def _matrices(scaled: pd.DataFrame) -> dict[str, Array]:
    """Asymptotic performance of each agent, ``[runs, tasks]``."""
    rows = scaled[scaled["dimension"] == "asymptotic_performance"]
    return {
        agent: group.pivot(index="seed", columns="task", values="score").to_numpy()
        for agent, group in rows.groupby("agent", sort=False)
    }


def _by_run(group: pd.DataFrame, worst: bool) -> Array:
    """One score per run: over its tasks the mean, or the worst."""
    by_seed = group.groupby("seed")["score"]
    return (by_seed.min() if worst else by_seed.mean()).to_numpy(dtype=np.float64)


def _trimmed(drawn: Array) -> Array:
    """Interquartile means along the last axis, as rliable's: a quarter of the values cut off at either end."""
    from scipy.stats import trim_mean

    return trim_mean(drawn, 0.25, axis=1)


def _interval(values: Array, draws: Array) -> Interval:
    estimate = interquartile_mean(values)
    if len(values) < 2:
        return Interval(estimate, np.nan, np.nan)
    return Interval(estimate, *(float(end) for end in np.quantile(draws, [0.025, 0.975])))


def _named(interval: Interval) -> dict[str, float]:
    return {"score": interval.estimate, "low": interval.low, "high": interval.high}


def _costs(table: pd.DataFrame, agents: Sequence[str]) -> pd.DataFrame:
    names = [item.name for item in DIMENSIONS.values() if not item.scaled]
    rows = table[table["dimension"].isin(names)]
    medians = rows.groupby(["agent", "dimension"])["value"].median().unstack()
    return medians.reindex(index=pd.Index(agents, name="agent"), columns=names).reset_index()


def _weighted(values: Array, weights: Array) -> Array:
    """Weighted means of the rows over what applies; NaN where nothing does."""
    applies = np.isfinite(values)
    total = applies @ weights
    sums = np.where(applies, values, 0.0) @ weights
    return np.divide(sums, total, out=np.full(len(values), np.nan), where=total > 0)


def _ranks(totals: Array) -> Array:
    """Ranks of the columns in every row, 1 for the highest; equals share the better rank, and NaN ranks last."""
    from scipy.stats import rankdata

    return rankdata(-np.where(np.isnan(totals), -np.inf, totals), method="min", axis=1)


def _row(rows: pd.DataFrame) -> str:
    first = rows.iloc[0]
    return f"the row of agent {first['agent']!r}, task {first['task']!r}, {first['dimension']}, seed {first['seed']}"
