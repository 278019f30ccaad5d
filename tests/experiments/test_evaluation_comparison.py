"""Every agent of the course has a home, and what is measured there is what it says."""

import numpy as np
import pandas as pd
import pytest
import torch

from ca14lib.agents import AGENTS, TEAMS
from ca14lib.evaluation.suites import safe_grid_suite, uncertain_grid_suite, uncertain_grid_yardstick
from ca14lib.experiments.evaluation import comparison, homes

QUICK = {"share_of_steps": 0.05}


def test_every_agent_and_team_has_a_home():
    assert set(homes.HOME_OF) == set(AGENTS) | set(TEAMS)
    assert len(homes.HOME_OF) == sum(len(home.agents) for home in homes.HOMES.values())


def test_budgets_within_a_home_are_equal_for_all():
    assert all(home.steps % 5 == 0 or home.steps % 16_384 == 0 for home in homes.HOMES.values())


def test_the_behaviour_of_the_log_leads_to_the_goal_half_of_the_time():
    right_of_it = np.tile(np.array([0.0, 0.0, 0.8, 0.0, 0.6, 0.0], dtype=np.float32), (4000, 1))
    actions = homes.mixed_walk(3)(right_of_it)
    assert (actions == 3).mean() == pytest.approx(0.5 + 0.5 / 4, abs=0.03)
    assert set(actions.tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("agent", ["DiscreteBC", "PPO", "BootstrappedDQN", "RobustLagrangian", "IPPO"])
def test_a_run_measures_what_applies(agent):
    rows = pd.DataFrame(homes.comparison_run(agent, 5, **QUICK))
    dimensions = set(rows["dimension"])
    assert {"sample_efficiency", "asymptotic_performance", "robustness", "training_time", "exact share"} <= dimensions
    assert ("safety" in dimensions) == (homes.HOME_OF[agent] == "SafeGrid")
    efficiency = rows[rows["dimension"] == "sample_efficiency"]["value"].iloc[0]
    assert 0 <= efficiency <= 1
    assert (rows[rows["dimension"] == "parameters"]["value"] > 1000).all()


def test_the_continual_agent_gets_the_halves_of_the_log_one_after_the_other(monkeypatch):
    seen, real = [], homes.train_offline

    def watched(learner, data, updates, **keywords):
        seen.append((data.num_episodes, updates, float(data.transitions.observation.sum()), learner.importance.sum()))
        return real(learner, data, updates, **keywords)

    monkeypatch.setattr(homes, "train_offline", watched)
    learner, history = homes.logged_agent("ContinualDQN", 3, 20, lambda agent: {"return": 0.0})
    log = homes.grid_log(3)
    assert [count for count, *_ in seen] == [homes.LOG_EPISODES // 2] * 2
    assert [updates for _, updates, *_ in seen] == [10, 10]
    whole = float(log.transitions.observation.sum())
    assert seen[0][2] + seen[1][2] == pytest.approx(whole, rel=1e-4), "the halves are the log"
    assert seen[0][2] != seen[1][2]
    assert seen[0][3] == 0 < seen[1][3], "the first half is put away before the second begins"
    steps = history.series("return").index
    assert steps.is_monotonic_increasing
    assert steps.is_unique
    assert (steps[0], steps[-1]) == (0, 20)
    assert learner.config.penalty_weight > 0


def test_a_run_repeats():
    first, second = (pd.DataFrame(homes.comparison_run("DiscreteBC", 5, **QUICK)) for _ in range(2))
    same = ~first["dimension"].isin(["training_time", "inference_time"])
    pd.testing.assert_frame_equal(first[same], second[same])


def test_bytes_count_parameters_and_moments_once():
    layer = torch.nn.Linear(10, 10)
    layer.optimizer = torch.optim.Adam(layer.parameters())
    layer.optimizers = {"all": layer.optimizer}
    layer(torch.ones(1, 10)).sum().backward()
    layer.optimizer.step()
    steps = sum(state["step"].numel() for state in layer.optimizer.state.values())
    assert homes.held_bytes(layer) == 4 * (3 * 110 + steps)


def test_the_optimum_of_the_grid_has_share_one_and_uniform_play_zero():
    yardstick = uncertain_grid_yardstick()
    uniform = np.full((yardstick.model.num_states, 4), 0.25)
    assert yardstick.of_policy(uniform)["share"] == pytest.approx(0)
    walk = np.zeros((36, 4))
    walk[:, 0] = 1  # up to the top, then right
    walk[[cell for cell in range(36) if cell % 6 == 5]] = np.eye(4)[3]
    assert yardstick.of_policy(walk)["share"] == pytest.approx(1)


def test_suites_put_every_environment_between_uniform_play_and_an_optimum():
    for suite in (uncertain_grid_suite(100), safe_grid_suite(0.6, (0.1,), 50)):
        assert all(item.one > item.zero for item in suite.environments)
        assert sum(item.role == "standard" for item in suite.environments) == 1


def test_coordination_is_counted_from_independent_learners():
    rows = [
        {"home": "TargetGrid", "agent": agent, "task": "t", "dimension": "asymptotic_performance", "seed": seed,
         "value": value, "zero": 0.0, "one": 10.0}
        for agent, value in (("IQLearners", 4.0), ("QMIX", 7.0))
        for seed in range(3)
    ]  # fmt: skip
    table = comparison.measurements_of(pd.DataFrame(rows))
    added = table[table["dimension"] == "coordination"]
    assert set(added["agent"]) == {"QMIX"}
    assert set(added["zero"]) == {4.0}
    score = comparison.Evaluator(repetitions=20)(table).scores.set_index("agent")
    assert score.loc["QMIX", "coordination"] == pytest.approx(0.5)
    assert np.isnan(score.loc["IQLearners", "coordination"])


def test_the_agreement_is_one_where_the_orders_are_the_same():
    scores = pd.DataFrame({"agent": list("abc"), "score": [0.9, 0.5, 0.1], "asymptotic_performance": [0.1, 0.5, 0.9]})
    exact = pd.DataFrame({"agent": list("abc"), "home": "SafeGrid", "share_iqm": [0.8, 0.4, 0.2]})
    table = comparison.agreement_table(scores, exact).set_index(["agents", "ranking"])["correlation"]
    assert table["all", "score"] == pytest.approx(1)
    assert table["SafeGrid", "asymptotic_performance"] == pytest.approx(-1)


@pytest.mark.verify
def test_part_makes_its_tables(tmp_path):
    from ca14lib.experiments import evaluation

    tables = evaluation.run(
        seeds=2, quick=True, parts=["comparison"], output=tmp_path, cache_folder=tmp_path / "runs", jobs=1,
        progress=False,
    )  # fmt: skip
    assert {"evaluation_scores", "evaluation_exact", "evaluation_agreement", comparison.MEASUREMENTS} <= set(tables)
    assert (tmp_path / "evaluation_scores.csv").exists()
