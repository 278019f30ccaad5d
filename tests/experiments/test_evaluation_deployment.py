"""The part on deployment: fallback and alarms against brute force, rows that mean what they say, tables end to end."""

import numpy as np
import pandas as pd
import pytest

from ca14lib.deployment.detection import conformal_threshold, persistent_peak
from ca14lib.environments import SafeGridVector
from ca14lib.experiments.evaluation import deployment as part
from ca14lib.experiments.evaluation.deployment import (
    EXPORTED,
    HARD_LIMIT,
    SHIFTS,
    CheapestWay,
    Pairs,
    deployed_agent,
    deployment,
    export_run,
    first_alarm,
    grid_agent,
    guarded,
    observed_episodes,
)
from ca14lib.training.sweep import sweep


class Uniform:
    """Random actions, in any number of copies."""

    num_costs = 0

    def __init__(self, actions: int, seed: int = 0) -> None:
        self.actions, self.rng = actions, np.random.default_rng(seed)

    def act(self, observation, *, deterministic=False):
        return self.rng.integers(self.actions, size=len(observation))


def test_the_fallback_walks_the_cheapest_way_and_knows_its_cost():
    fallback, environment = CheapestWay(), SafeGridVector(1, one_hot=True)
    observation, _ = environment.reset(seed=0)
    promised = float(fallback.cost_to_go(observation, fallback.act(observation))[0])
    paid, steps, ended = 0.0, 0, np.zeros(1, dtype=bool)
    while not ended[0]:
        observation, reward, terminated, truncated, info = environment.step(fallback.act(observation))
        ended, steps = terminated | truncated, steps + 1
        paid += float((info["final_info"] if ended[0] else info)["cost"][0])
    assert paid == pytest.approx(promised) == pytest.approx(0.6)  # what the layout says that arriving costs at least
    assert (steps, reward[0]) == (10, 10.0)


def test_an_alarm_comes_at_the_last_of_enough_steps_and_agrees_with_the_peak():
    assert first_alarm([0.0, 2.0, 0.0, 2.0, 2.0, 2.0], 1.0, 2) == 4
    assert first_alarm([2.0], 1.0, 2) is None
    rng = np.random.default_rng(0)
    for _ in range(200):
        scores, patience = rng.normal(size=rng.integers(1, 20)), int(rng.integers(1, 5))
        assert (first_alarm(scores, 0.5, patience) is not None) == (persistent_peak(scores, patience) > 0.5)


def test_pairs_see_movement_that_single_observations_do_not_show():
    rng = np.random.default_rng(1)
    episodes = [np.cumsum(0.05 * rng.normal(size=(300, 2)), axis=0) for _ in range(30)]
    detector = Pairs(episodes[:10])
    threshold = conformal_threshold([detector.scores(each).max() for each in episodes[10:]], 0.05)
    jump = episodes[0].copy()
    jump[100:] -= 10 * (jump[100] - jump[99])
    assert Pairs.rows(jump).shape == (299, 4)
    assert detector.scores(jump).shape == (300,)
    assert detector.scores(jump)[0] == 0
    assert detector.scores(jump)[100] > threshold


def test_shifted_episodes_are_cut_where_they_end_and_repeat_with_their_seed():
    policy = Uniform(2)
    episodes = observed_episodes(policy, "none", 6, 2, 0)
    assert all(3 < len(each) < 200 for each in episodes)
    failed = [abs(each[-1, 2]) > 0.2094 or abs(each[-1, 0]) > 2.4 for each in episodes]
    assert all(failed), "the last row is what was seen when the pole had fallen"
    assert not any(abs(row[2]) > 0.2095 for each in episodes for row in each[:-1])
    again = observed_episodes(Uniform(2), "none", 6, 2, 0)
    assert all((first == second).all() for first, second in zip(episodes, again))
    other = observed_episodes(Uniform(2), "none", 6, 1, 0)
    assert not np.array_equal(episodes[0][0], other[0][0])
    noisy = observed_episodes(Uniform(2), "noise 0.1", 6, 2, 0)
    assert np.std([each[0] for each in noisy]) > 2 * np.std([each[0] for each in episodes])
    assert set(SHIFTS) >= {"none", "long pole"}


def test_episodes_under_a_watchdog_are_counted_right():
    free = guarded(Uniform(4), "none", "as modelled", 200, 0)
    late = guarded(Uniform(4), "reacts", "as modelled", 200, 0)
    kept = guarded(Uniform(4), "worst case", "as modelled", 200, 0)
    assert free["fallback"] == free["hand_overs"] == 0
    assert free["share"] == pytest.approx(0, abs=0.15)
    assert free["violations"] > 0.5
    assert 0 < late["violations"] < free["violations"] + 1e-9
    assert kept["violations"] == 0
    assert kept["worst_cost"] <= HARD_LIMIT + 1e-6
    assert kept["hand_overs"] > 0
    alone = guarded(Uniform(4), "fallback alone", "as modelled", 20, 0)
    assert (alone["fallback"], alone["violations"]) == (1, 0)
    assert alone["share"] == pytest.approx(1)
    assert alone["cost"] == pytest.approx(0.6)
    assert guarded(Uniform(4), "worst case", "slips", 200, 0)["violations"] > 0
    with pytest.raises(ValueError, match="no watchdog 'never'"):
        guarded(Uniform(4), "never", "as modelled", 2, 0)
    with pytest.raises(ValueError, match="agent must be PPO or PPOLagrangian"):
        grid_agent("SAC", 0, 1)


def test_agents_are_deployed_with_weights_that_matter():
    assert len(EXPORTED) >= 39
    first, second = deployed_agent("DQN", 0), deployed_agent("DQN", 1)
    observation = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    assert (first.act(observation, deterministic=True) != second.act(observation, deterministic=True)).any()


@pytest.mark.verify
def test_programs_are_smaller_and_agree():
    table = pd.DataFrame(export_run("SAC", 0, decisions=100)).set_index("form")
    assert table.index.tolist() == ["agent", "torch", "onnx"]
    assert (table["parity"] <= 1e-5).all()
    assert table["parameters"]["onnx"] < table["parameters"]["agent"]
    assert (table[["p50", "p99", "max"]].diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)


@pytest.mark.verify
def test_part_makes_its_tables():
    def sweeps(function, grid, seeds=2):
        return sweep(function, grid, seeds=seeds, jobs=1, progress=False)

    tables = deployment(sweeps, True)
    exports = tables["deployment_export"]
    assert exports["agent"].drop_duplicates().tolist() == ["DQN", "SAC", "MAPPO"]
    assert (exports["agrees"] == "yes").all()
    alarms = tables["deployment_alarm"].set_index(["shift", "detector", "patience"])
    assert len(alarms) == len(SHIFTS) * len(part.DETECTORS) * 2
    watched = tables["deployment_watchdog"].set_index(["agent", "world", "watchdog"])
    assert watched.loc[("PPO", "as modelled", "worst case"), "violations_iqm"] == 0
    assert ("PPO", "as modelled", "critic") not in watched.index
    assert ("PPOLagrangian", "slips", "critic") in watched.index
    assert tables["deployment_exportable"]["exportable"].sum() == len(EXPORTED)
