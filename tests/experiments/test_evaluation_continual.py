"""Changing goals: the models, the best single policy, runs and tables."""

import numpy as np
import pytest

from ca14lib.experiments.evaluation import continual as experiment
from ca14lib.metrics.continual import forgetting, unavoidable_forgetting
from ca14lib.solvers import policy_return
from ca14lib.training.sweep import sweep

TINY = {"passes": 1, "steps": 32}


def test_goals_differ_in_nothing_but_where_they_are():
    for evaluation in experiment.goal_evaluations():
        assert evaluation.optimum == pytest.approx(1 - 0.3)
        assert evaluation.reference == pytest.approx(experiment.goal_evaluations()[0].reference)
    plain, cued = experiment.goal_models(False), experiment.goal_models(True)
    assert all(np.array_equal(model.observation, plain[0].observation) for model in plain)
    assert not any(np.array_equal(model.observation, cued[0].observation) for model in cued[1:])


def test_no_policy_without_a_cue_is_better_than_the_tour():
    tour = experiment.tour_policy()
    returns = [policy_return(model, tour, horizon=experiment.LIMIT) for model in experiment.goal_models(False)]
    assert returns == pytest.approx([0.7, 0.3, -0.1, -0.5])
    assert experiment.goal_shares([tour] * 4).mean() == pytest.approx(experiment.best_single_share(), abs=1e-9)


def test_forgetting_without_a_cue_has_a_least_amount():
    best = experiment.best_single_share()
    assert unavoidable_forgetting(best, 4) == pytest.approx(4 * (1 - best) / 3)
    # four specialists one after another forget more
    ways = [evaluation.model for evaluation in experiment.goal_evaluations()]
    tables = [experiment.value_iteration(model, horizon=experiment.LIMIT).policy for model in ways]
    shares = [experiment.goal_shares([table] * 4) for table in tables]
    assert forgetting(shares, range(4)) > unavoidable_forgetting(best, 4)


@pytest.mark.parametrize("method", experiment.METHODS)
def test_a_run_reports_its_matrix(method):
    found = experiment.continual_run(method, True, 1, **TINY)
    last = [found[f"after_4_on_{goal}"] for goal in range(4)]
    assert found["average"] == pytest.approx(np.mean(last)) == 1 - found["missing"]
    assert found["first_pass"] == found["average"], "one pass is the first one"
    assert found["learned"] == pytest.approx(np.mean([found[f"after_{goal + 1}_on_{goal}"] for goal in range(4)]))
    assert found["forgetting"] >= -found["backward"] - 1e-12, "the best share is no less than the first"


def test_runs_repeat_and_what_is_missing_is_measured_from_what_can_be_had():
    first, again = (experiment.continual_run("replay", False, 2, **TINY) for _ in range(2))
    assert first == again
    assert first["missing"] == pytest.approx(experiment.best_single_share() - first["average"])


def test_the_part_makes_its_tables():
    def sweeps(function, grid):
        return sweep(function, grid | {key: [value] for key, value in TINY.items()}, seeds=2, jobs=1, progress=False)

    tables = experiment.continual(sweeps, True)
    name = "evaluation_continual"
    assert list(tables) == [name, f"{name}_matrix", f"{name}_yardsticks", f"{name}_runs"]
    assert tables[name][["cue", "method"]].to_numpy().tolist() == [
        [cue, method] for cue in ("yes", "no") for method in ("fine-tuning", "replay", "EWC")
    ]
    assert (tables[name]["seeds"] == 2).all()
    assert len(tables[f"{name}_matrix"]) == 6 * 4 * 4
    assert tables[f"{name}_yardsticks"]["average"].round(3).tolist() == [0.738, 0.738, 0.114]
