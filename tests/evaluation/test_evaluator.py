"""The evaluator by hand, in every unit, and with what cannot be judged."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import ca14lib.evaluation.evaluator as module
from ca14lib.evaluation import DIMENSIONS, WEIGHTS, Evaluator
from ca14lib.evaluation.evaluator import pareto_front, rank_correlation

FEW = {"repetitions": 60}


def rows(agent, dimension, values, *, task="grid", zero=0.0, one=1.0):
    """One row per seed, or per (task, seed) from a dict of lists."""
    values = values if isinstance(values, dict) else {task: values}
    return [
        {"agent": agent, "task": name, "dimension": dimension, "seed": seed, "value": value, "zero": zero, "one": one}
        for name, runs in values.items()
        for seed, value in enumerate(runs)
    ]


def frame(*parts):
    return pd.DataFrame([row for part in parts for row in part])


def score_of(evaluation, agent):
    return float(evaluation.scores.set_index("agent").loc[agent, "score"])


def drawn(seed, agents=4, runs=5):
    """Random measurements: some dimensions missing, returns of any sign, costs with a limit."""
    random, parts = np.random.default_rng(seed), []
    for index in range(agents):
        agent, skill = f"agent {index}", random.uniform()
        for dimension in ("sample_efficiency", "asymptotic_performance", "robustness"):
            tasks = {name: (-20 + 15 * skill + random.normal(size=runs)).tolist() for name in ("a", "b")}
            parts.append(rows(agent, dimension, tasks, zero=-22.0, one=-4.0))
        if index % 2:
            parts.append(rows(agent, "safety", random.uniform(0, 3, size=runs).tolist(), zero=3.0, one=1.0))
        parts.append(rows(agent, "training_time", random.uniform(1, 9, size=runs).tolist(), zero=np.nan, one=np.nan))
    return frame(*parts)


def test_the_weights_are_the_originals():
    assert list(WEIGHTS) == [
        "sample_efficiency", "asymptotic_performance", "robustness", "safety", "coordination",
    ]  # fmt: skip
    assert list(WEIGHTS.values()) == [0.2, 0.25, 0.25, 0.2, 0.1]
    assert all(dimension.definition and dimension.direction in ("higher", "lower") for dimension in DIMENSIONS.values())


def test_a_score_by_hand_renormalised_over_what_applies():
    table = frame(
        rows("plain", "asymptotic_performance", [-10.0, -10.0], zero=-20.0, one=0.0),  # 0.5
        rows("plain", "robustness", {"a": [0.8, 0.8], "b": [0.2, 0.4]}),  # worst of each run: 0.2, 0.4 -> 0.3
        rows("safe", "asymptotic_performance", [-5.0, -5.0], zero=-20.0, one=0.0),  # 0.75
        rows("safe", "safety", [1.5, 1.5], zero=3.0, one=1.0),  # 0.75
    )
    evaluation = Evaluator(**FEW)(table)
    assert score_of(evaluation, "plain") == pytest.approx((0.25 * 0.5 + 0.25 * 0.3) / 0.5)
    assert score_of(evaluation, "safe") == pytest.approx(0.75)
    assert evaluation.ranking == ["safe", "plain"]
    assert evaluation.not_applicable("plain") == ["sample_efficiency", "safety", "coordination"]


def test_what_does_not_apply_is_missing_and_never_zero():
    table = frame(
        rows("alone", "asymptotic_performance", [0.5, 0.5]),
        rows("team", "asymptotic_performance", [0.5, 0.5]),
        rows("team", "coordination", [0.0, 0.0]),
    )
    scores = Evaluator(**FEW)(table).scores.set_index("agent")
    assert np.isnan(scores.loc["alone", "coordination"])
    assert scores.loc["team", "coordination"] == 0.0
    assert scores.loc["alone", "score"] > scores.loc["team", "score"]


def test_better_than_the_optimum_counts_as_it_and_worse_than_nothing_as_nothing():
    evaluation = Evaluator(**FEW)(frame(rows("a", "robustness", {"x": [7.0, 7.0], "y": [-30.0, -30.0]})))
    assert score_of(evaluation, "a") == 0.0  # the worst task
    assert score_of(Evaluator(**FEW)(frame(rows("a", "robustness", [7.0, 7.0]))), "a") == 1.0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-1e3, 1e3), scale=st.floats(0.01, 1e3))
def test_scores_do_not_depend_on_the_unit(seed, shift, scale):
    table = drawn(seed)
    moved = table.copy()
    task = (moved["task"] == "a") & (moved["dimension"] == "asymptotic_performance")
    moved.loc[task, ["value", "zero", "one"]] = shift + scale * moved.loc[task, ["value", "zero", "one"]]
    before, after = (Evaluator(**FEW)(rows).scores.set_index("agent") for rows in (table, moved))
    numbers = ["score", "low", "high", "asymptotic_performance"]
    np.testing.assert_allclose(after.loc[before.index, numbers], before[numbers], rtol=1e-6, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), shift=st.floats(-1e3, 1e3), scale=st.floats(0.01, 1e3))
def test_scores_without_references_do_not_depend_on_the_unit_either(seed, shift, scale):
    table = drawn(seed)
    table = table[table["dimension"] == "asymptotic_performance"].assign(zero=np.nan, one=np.nan)
    moved = table.assign(value=shift + scale * table["value"])
    before, after = (Evaluator(**FEW)(rows).scores.set_index("agent")["score"] for rows in (table, moved))
    np.testing.assert_allclose(after[before.index], before, rtol=1e-5, atol=1e-7)
    assert before.max() <= 1
    assert before.min() >= 0


def test_without_references_a_lower_cost_is_the_better_one():
    table = frame(rows("dear", "safety", [9.0, 9.0], zero=np.nan, one=np.nan),
                  rows("cheap", "safety", [1.0, 1.0], zero=np.nan, one=np.nan))  # fmt: skip
    assert Evaluator(**FEW)(table).ranking == ["cheap", "dear"]


def test_one_run_has_a_score_and_no_interval():
    evaluation = Evaluator(**FEW)(frame(rows("a", "asymptotic_performance", [0.4])))
    assert score_of(evaluation, "a") == pytest.approx(0.4)
    assert evaluation.scores[["low", "high"]].isna().all(axis=None)
    assert evaluation.dimensions["runs"].tolist() == [1]


def test_an_agent_that_nothing_weighted_applies_to_is_last_and_has_no_score():
    table = frame(rows("timed", "training_time", [3.0, 4.0], zero=np.nan, one=np.nan),
                  rows("judged", "asymptotic_performance", [0.1, 0.1]))  # fmt: skip
    evaluation = Evaluator(**FEW)(table)
    assert evaluation.ranking == ["judged", "timed"]
    assert np.isnan(score_of(evaluation, "timed"))
    assert evaluation.costs.set_index("agent").loc["timed", "training_time"] == 3.5
    assert np.isnan(evaluation.costs.set_index("agent").loc["judged", "training_time"])


def test_agents_of_different_kinds_take_part_and_only_common_tasks_are_compared():
    table = frame(
        rows("discrete", "asymptotic_performance", [0.9, 0.9], task="grid"),
        rows("continuous", "asymptotic_performance", [0.1, 0.1], task="pendulum"),
        rows("other", "asymptotic_performance", [0.5, 0.5], task="grid"),
    )
    pairs = Evaluator(**FEW)(table).improvement
    assert {tuple(pair) for pair in pairs[["agent", "other"]].to_numpy()} == {
        ("discrete", "other"), ("other", "discrete"),
    }  # fmt: skip
    assert pairs.set_index("agent").loc["discrete", "estimate"] == 1.0


def test_the_ranking_moves_with_the_weights_as_far_as_it_should():
    """One agent is better in everything: it is first whatever the weights. Two others change places."""
    table = frame(*[
        part
        for agent, strong, weak in (("best", 0.9, 0.9), ("fast", 0.8, 0.1), ("tough", 0.1, 0.8))
        for part in (rows(agent, "sample_efficiency", [strong] * 3), rows(agent, "robustness", [weak] * 3))
    ])  # fmt: skip
    moved = Evaluator(repetitions=400)(table).sensitivity.set_index("agent")
    assert moved.loc["best", "first"] == 1.0
    assert moved.loc["best", ["rank_low", "rank_high"]].tolist() == [1.0, 1.0]
    assert 2 < moved.loc["fast", "rank_mean"] < 3
    assert moved.loc["fast", "rank_mean"] + moved.loc["tough", "rank_mean"] == pytest.approx(5)
    assert moved.loc["tough", "rank_mean"] < moved.loc["fast", "rank_mean"]  # robustness weighs more


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    random, inside = np.random.default_rng(8), 0
    for trial in range(60):
        values = random.normal(0.5, 0.1, size=10).tolist()
        scores = Evaluator(repetitions=200, seed=trial)(frame(rows("a", "asymptotic_performance", values))).scores
        inside += scores["low"].iloc[0] <= 0.5 <= scores["high"].iloc[0]
    assert 46 <= inside <= 60


def test_dimensions_that_rise_and_fall_together_do_not_narrow_the_interval():
    """Four dimensions with the same number in every run say no more than one of them."""
    values = np.random.default_rng(1).uniform(size=10).tolist()
    names = ("sample_efficiency", "asymptotic_performance", "robustness", "coordination")
    one = Evaluator(repetitions=400)(frame(rows("a", names[0], values))).scores.iloc[0]
    all_four = Evaluator(repetitions=400)(frame(*[rows("a", name, values) for name in names])).scores.iloc[0]
    assert all_four["high"] - all_four["low"] == pytest.approx(one["high"] - one["low"])


def test_equals_share_a_rank():
    evaluation = Evaluator(**FEW)(frame(*[rows(name, "robustness", [0.5, 0.5]) for name in ("a", "b")]))
    assert evaluation.scores["rank"].tolist() == [1, 1]
    assert evaluation.sensitivity["first"].tolist() == [1.0, 1.0]


def test_nobody_is_alone_on_a_relative_scale():
    alone = frame(rows("a", "robustness", [-99.0, -98.0], zero=np.nan, one=np.nan))
    with pytest.raises(ValueError, match="a single agent"):
        Evaluator(**FEW)(alone)


WRONG = [
    (lambda table: table.assign(zero=-4.0, one=-22.0), r"zero must lie below one, got -4.0 and -22.0"),
    (lambda table: table.assign(agent=None), r"needs a value of agent; row 0"),
    (lambda table: table.assign(seed=np.nan), r"needs a value of seed"),
    (lambda table: table.assign(value="high"), r"value must hold numbers"),
    (lambda table: table.drop(columns="zero"), r"zero is missing"),
    (lambda table: table.iloc[:0], r"empty"),
    (lambda table: table.assign(dimension="beauty"), r"unknown dimension 'beauty'"),
    (lambda table: table.assign(value=np.nan), r"finite, got nan in the row of agent 'agent 0', task 'a'"),
    (lambda table: table.assign(value=np.inf), r"finite, got inf"),
    (lambda table: pd.concat([table, table.iloc[:1]]), r"got two in the row of agent 'agent 0'.* seed 0"),
    (lambda table: table.assign(one=table["zero"]), r"two different numbers"),
    (lambda table: table.assign(one=np.nan), r"or both missing"),
    (lambda table: table.assign(zero=table["seed"] - 50.0), r"same for all agents and runs"),
    (lambda table: table.drop(index=0), r"same tasks; 'agent 0', sample_efficiency has seeds \[1, 2, 3, 4\] on 'a'"),
]


@pytest.mark.parametrize("spoil, message", WRONG)
def test_bad_measurements_are_named(spoil, message):
    with pytest.raises(ValueError, match=message):
        Evaluator(**FEW)(
            spoil(drawn(0)[lambda table: table["dimension"] == "sample_efficiency"].reset_index(drop=True))
        )


@pytest.mark.parametrize(
    "weights, message",
    [
        ({"beauty": 1.0}, "beauty"),
        ({"training_time": 1.0}, "training_time"),
        ({"safety": -0.1}, "-0.1"),
        ({"safety": np.nan}, "nan"),
        ({"safety": 0.0}, "all are 0"),
    ],
)
def test_bad_weights_are_named(weights, message):
    with pytest.raises(ValueError, match=message):
        Evaluator(weights)


def test_rank_correlation_and_front_by_hand():
    assert rank_correlation([1, 2, 3], [10, 20, 90]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(0.8)
    assert pareto_front([3, 2, 2, 1], [9, 5, 6, 1]) == [True, True, False, True]
    assert pareto_front([1, 1], [1, 1]) == [True, True]
    with pytest.raises(ValueError, match="at least three"):
        rank_correlation([1, 2], [1, 2])


# Planted faults: each is an evaluator that looks right


def fault_zero_for_missing(monkeypatch):
    monkeypatch.setattr(module.Evaluator, "_scored", _with_zeros(module.Evaluator._scored))


def _with_zeros(original):
    def scored(self, agent, values, draws):
        values = {name: values.get(name, np.zeros(2)) for name in self.weights}
        draws = {(agent, name): draws.get((agent, name), np.zeros(self.repetitions)) for name in self.weights}
        return original(self, agent, values, draws)

    return scored


FAULTS = {
    "what is missing counts as 0": (
        fault_zero_for_missing, test_what_does_not_apply_is_missing_and_never_zero,
    ),
    "robustness is the mean over tasks": (
        lambda monkeypatch: monkeypatch.setattr(module, "_by_run", _mean_by_run),
        test_a_score_by_hand_renormalised_over_what_applies,
    ),
    "a cost counts as a return": (
        lambda monkeypatch: monkeypatch.setitem(DIMENSIONS, "safety", _higher(DIMENSIONS["safety"])),
        test_without_references_a_lower_cost_is_the_better_one,
    ),
    "scores are not cut": (
        lambda monkeypatch: monkeypatch.setattr(module.np, "clip", lambda values, *_: values),
        test_better_than_the_optimum_counts_as_it_and_worse_than_nothing_as_nothing,
    ),
}  # fmt: skip


def _mean_by_run(group, worst):
    return group.groupby("seed")["score"].mean().to_numpy()


def _higher(dimension):
    return module.Dimension(**vars(dimension) | {"direction": "higher"})


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_noticed(fault, monkeypatch):
    plant, notices = FAULTS[fault]
    notices()
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        notices()
