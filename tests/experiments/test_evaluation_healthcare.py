"""From a log to a decision: candidates are what they say, procedures deploy what they should, and tables add up."""

from functools import cache, partial

import numpy as np
import pandas as pd
import pytest

from ca14lib.experiments.evaluation import healthcare as part
from ca14lib.experiments.evaluation.healthcare import (
    DRILL,
    HOSPITALS,
    best_among,
    candidate_table,
    candidates,
    clinicians,
    clinicians_value,
    decisions,
    everywhere,
    exact_gains,
    healthcare_log,
    judged,
    learned,
    lower_bounds,
    monitor_table,
    observed_policy,
    rule_table,
    severity,
    stays,
    trusting,
    within_doses,
)
from ca14lib.experiments.offline.sepsis import sepsis_model
from ca14lib.experiments.safe.sepsis import dose
from ca14lib.solvers import pessimistic_plan, policy_evaluation, policy_return
from ca14lib.training.sweep import sweep


@cache
def half() -> part.Learned:
    return learned(stays("ordinary", 300, 5))


def rows(**columns: list) -> pd.DataFrame:
    """Three candidates with a gain in two groups, and the drill."""
    table = pd.DataFrame({
        "candidate": ["A", "SPIBB", "B", DRILL], "promise": [0.1, 0.02, 0.0, 9.0], "fqe": [0.03, 0.02, 0.01, 9.0],
        "fqe_error": [0.02, 0.005, 0.001, 0.001], "dr": [0.03, 0.02, 0.04, 9.0],
        "dr_error": [0.02, 0.02, 0.01, 0.001], "unseen": [0.1, 0.0, 0.0, 0.0],
        "worst_group": [0.0, -0.01, 0.0, 0.0], "gain": [-0.01, 0.02, 0.005, -9.0], "gain_0": [-0.03, 0.03, -0.002, 0.0],
        "gain_1": [0.01, 0.01, 0.01, 0.0], "handed_back": [0.0, 0.5, 0.2, 0.0],
    })  # fmt: skip
    return table.assign(**columns)


def test_each_procedure_deploys_what_it_says():
    made = decisions(rows()).set_index("rule")
    assert made["candidate"].to_dict() == {
        "clinicians": "clinicians", "best promise": "A", "best estimate": "A", "FQE bound": "SPIBB", "DR bound": "B",
        "both bounds": "B", "all checks": "B", "SPIBB alone": "SPIBB",
    }  # fmt: skip
    assert made.loc["best promise", ["gain", "harmful", "left", "handed_back"]].tolist() == [-0.01, 1.0, 0.03, 0.0]
    assert made.loc["both bounds", ["harmful", "group_harmed", "left"]].tolist() == pytest.approx([0.0, 1.0, 0.015])
    assert made.loc["clinicians", ["gain", "deployed", "left", "handed_back"]].tolist() == [0.0, 0.0, 0.02, 1.0]


def test_the_drill_is_judged_but_never_deployed_and_nothing_good_leaves_the_clinicians():
    without = rows()[rows()["candidate"] != DRILL]
    pd.testing.assert_frame_equal(decisions(rows()), decisions(without))
    worse = rows(promise=[-1.0] * 4, fqe=[-1.0] * 4, dr=[-1.0] * 4)
    assert set(decisions(worse)["candidate"]) == {"clinicians"}


def test_bounds_share_the_level():
    one, eight = (lower_bounds(rows(), "fqe", comparisons) for comparisons in (1, 8))
    assert one[1] == pytest.approx(0.02 - 1.6449 * 0.005, abs=1e-6)
    assert eight[1] == pytest.approx(0.02 - 2.4977 * 0.005, abs=1e-6)


def test_tables_count_what_happened():
    runs = pd.concat([
        rows(hospital="ordinary", episodes=10, log=log, seed=seed, deviation=0.1, effective=5.0, vasopressors=1.0,
             fluids=2.0) for log in (0, 1) for seed in (0, 1)
    ])  # fmt: skip
    table = candidate_table(runs).set_index("candidate")
    assert table.loc["A", ["gain_iqm", "harmful", "fqe_passes"]].tolist() == [-0.01, 1.0, 0.0]
    assert table.loc["B", ["fqe_passes", "dr_passes", "fqe_holds"]].tolist() == [1.0, 1.0, 0.0]
    made = rule_table(runs).set_index("rule")
    assert made.loc["best promise", ["logs", "deployed", "harmful", "worst"]].tolist() == [4, 1.0, 1.0, -0.01]
    gap = made["gap_closed_iqm"] / made["gain_iqm"]
    assert gap["best promise"] == pytest.approx(1 / (0.875142 - 0.781845), rel=1e-4)


def test_experienced_clinicians_are_better_and_groups_split_everybody():
    start = sepsis_model().initial
    values = {name: float(start @ clinicians_value(name)) for name in HOSPITALS}
    assert values["ordinary"] == pytest.approx(0.7818, abs=1e-4)
    assert values["ordinary"] + 0.03 < values["experienced"] < part.optimum()
    shares = np.array([start[severity() == group].sum() for group in range(3)])
    assert shares.sum() == pytest.approx(1)
    assert (shares > 0.25).all()
    sickest = [float(start @ (clinicians_value() * (severity() == g))) / shares[g] for g in range(3)]
    assert sickest[0] > sickest[1] > sickest[2]


def test_log_is_what_the_clinicians_do_and_repeats():
    data = stays("ordinary", 300, 5)
    assert data.episode_returns().mean() == pytest.approx(0.78, abs=4 * np.sqrt(0.78 * 0.22 / 300))
    assert data.transitions.behaviour_log_prob is None  # no hospital records probabilities
    again = stays("ordinary", 300, 5)
    assert (again.transitions.action == data.transitions.action).all()
    assert len(stays("ordinary", 300, 6)) != len(data)
    visits = half().visits
    np.testing.assert_allclose(observed_policy(visits).sum(axis=1), 1.0)


def test_exact_gain_is_the_difference_of_exact_values():
    found = trusting(half(), half().visits >= 2)
    numbers = exact_gains(found, "ordinary")
    policy = part.overruled_policy(clinicians(), *found, part.ADHERENCE)
    difference = policy_return(sepsis_model(), policy) - policy_return(sepsis_model(), clinicians())
    assert numbers["gain"] == pytest.approx(difference)
    start = sepsis_model().initial
    shares = np.array([start[severity() == group].sum() for group in range(3)])
    assert shares @ [numbers[f"gain_{group}"] for group in range(3)] == pytest.approx(difference)
    nobody = exact_gains(everywhere(clinicians(), np.zeros(716, bool)), "ordinary")
    assert nobody["gain"] == pytest.approx(0, abs=1e-12)


def test_frequent_pairs_make_the_pessimistic_plan():
    frequent = half().visits >= 5
    choice, overruled = best_among(half(), frequent)
    plan = pessimistic_plan(half().counts, half().rewards, sepsis_model().terminal, min_count=5)
    known = plan.supported.any(axis=1)
    np.testing.assert_array_equal(overruled.any(axis=1), known)
    assert frequent[known, choice[known]].all()
    model = part.empirical_model(np.where(frequent[..., None], half().counts, 0), half().rewards * frequent,
                                 sepsis_model().terminal)  # fmt: skip
    table = np.eye(25)[choice]
    table = np.where(model.terminal[:, None], 1 / 25, table)
    np.testing.assert_allclose(policy_evaluation(model, table).value, plan.value, atol=1e-9)


def test_dose_limits_are_one_level_over_the_mean():
    allowed = within_doses(half())
    seen = half().visits.sum(axis=1) > 0
    mean = 4 * half().behaviour @ dose(np.arange(25)).T
    state = int(np.flatnonzero(seen)[3])
    for action in range(25):
        fluid, vasopressor = divmod(action, 5)
        within = vasopressor <= mean[state, 0] + 1 and fluid <= mean[state, 1] + 1
        assert allowed[state, action] == within
    assert allowed[:, 0].all()


@pytest.mark.slow
def test_candidates_keep_to_what_they_may():
    found = candidates(half(), 0)
    visits = half().visits
    assert list(found)[-1] == DRILL
    for name in ("SPIBB", "SPIBB within doses", "plan"):
        choice, overruled = found[name]
        least = 1 if name == "plan" else part.LEAST_COUNT
        assert (visits[overruled] >= least).all(), name
        acts = overruled.any(axis=1)
        assert (visits[acts, choice[acts]] >= least).all(), name
    choice, overruled = found["SPIBB within doses"]
    acts = overruled.any(axis=1)
    assert within_doses(half())[acts, choice[acts]].all()
    for name, (choice, overruled) in found.items():
        assert choice.shape == (716,), name
        assert not overruled[visits.sum(axis=1) == 0].any(), name  # nobody knows these states: handed back
    likely = half().behaviour >= part.THRESHOLD * half().behaviour.max(axis=1, keepdims=True)
    choice, overruled = found["BCQ"]
    acts = overruled.any(axis=1)
    assert likely[acts, choice[acts]].all()


@pytest.mark.slow
def test_judges_see_the_clinicians_gain_nothing():
    data = stays("ordinary", 300, 6)
    same = judged(everywhere(clinicians(), np.zeros(716, bool)), data, 0)
    assert same["fqe"] == pytest.approx(0, abs=1e-6)
    assert (same["handed_back"], same["deviation"], same["unseen"]) == pytest.approx((1.0, 0.0, 0.0))
    assert same["effective"] == pytest.approx(300)


def test_monitor_stops_harm_and_rarely_anything_else():
    table = monitor_table(300, 10_000).set_index("difference")
    assert table.loc[-0.05, "alarms"] == 1.0
    assert table.loc[-0.05, "median_stays"] < table.loc[-0.03, "median_stays"] < 5_000
    assert table.loc[0.0, "alarms"] <= part.ALARM + 3 * np.sqrt(0.05 * 0.95 / 300)
    assert table.loc[0.02, "alarms"] <= 0.01
    assert np.isinf(table.loc[0.02, "median_stays"])


@pytest.mark.verify
def test_part_runs_and_repeats():
    tables = part.healthcare(partial(sweep, seeds=2, jobs=1, progress=False), True)
    assert list(tables) == [f"healthcare_{name}" for name in ("candidates", "rules", "monitor", "runs")]
    runs = tables["healthcare_runs"]
    assert len(runs) == 2 * 2 * 9
    assert not runs.isna().any().any()
    assert len(tables["healthcare_rules"]) == 2 * 8
    again = pd.DataFrame(healthcare_log(0, 1))
    first = runs[(runs["seed"] == 1) & (runs["hospital"] == "ordinary")]
    np.testing.assert_array_equal(first["fqe"].to_numpy(), again["fqe"].to_numpy())
