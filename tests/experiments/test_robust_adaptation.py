"""The experiment on adaptation: episodes that are whole, agents that stay what they were, and tables that say so."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ca14lib.environments.domains import CartPoleDomainVector
from ca14lib.experiments.robust.adaptation import (
    DEVIATION,
    EPISODES,
    TARGET,
    WIDE,
    adaptation_part,
    adaptation_run,
    fresh_agent,
    measured,
    target_rollout,
    trained_balancer,
    trained_further,
)
from ca14lib.training.sweep import sweep

TINY = {"steps": 4_096, "counts": (1, 3), "candidates": 50, "tested": 10}
RESULTS = Path(__file__).parents[2] / "results"
stored = pytest.mark.skipif(
    not (RESULTS / "robust_adaptation.csv").exists(), reason="the table comes with `ca14 run robust --part adaptation`"
)


def test_the_target_lies_within_what_is_randomised_and_is_not_nominal():
    assert TARGET.keys() == WIDE.keys()
    for name, value in TARGET.items():
        assert WIDE[name][0] <= value <= WIDE[name][1]
        assert value != CartPoleDomainVector.PARAMETERS[name].nominal


def test_episodes_of_the_target_are_whole_and_as_many_as_asked():
    rollout = target_rollout(fresh_agent(100), 4, 100)
    ends = (rollout.terminated | rollout.truncated)[:, 0]
    assert int(ends.sum()) == 4
    assert ends[-1]
    assert rollout.size == int(rollout.episode_length.sum()) == int(rollout.episode_return.sum())
    first = int(ends.nonzero()[0])
    torch.testing.assert_close(rollout.observation[1 : first + 1], rollout.next_observation[:first])
    starts = rollout.observation[torch.cat([torch.tensor([True]), ends[:-1]]), 0]
    assert (abs(starts) <= 0.05).all()
    assert len(starts.unique(dim=0)) == 4
    fallen = rollout.next_observation[ends, 0]
    assert ((abs(fallen[:, 0]) > 2.4) | (abs(fallen[:, 2]) > CartPoleDomainVector.ANGLE_LIMIT)).all()


def test_the_agent_that_is_trained_further_stays_what_it_was():
    agent = fresh_agent(100)
    before = [parameter.clone() for parameter in agent.parameters()]
    learner = trained_further(agent, 6, 100)
    assert learner.updates == 2
    assert agent.updates == 0
    assert all(torch.equal(old, new) for old, new in zip(before, agent.parameters(), strict=True))
    assert not all(torch.equal(old, new) for old, new in zip(before, learner.parameters(), strict=True))
    again = trained_further(agent, 6, 100)
    assert all(torch.equal(a, b) for a, b in zip(again.parameters(), learner.parameters(), strict=True))


def test_what_is_measured_are_the_episodes_with_noise_behind_every_step():
    rollout = target_rollout(fresh_agent(100), 30, 100)
    episodes = measured(rollout, 100)
    assert [len(action) for _, action, _ in episodes] == rollout.episode_length.tolist()
    before, action, after = (np.concatenate(column) for column in zip(*episodes))
    np.testing.assert_array_equal(before, rollout.observation[:, 0].numpy())
    np.testing.assert_array_equal(action, rollout.action[:, 0].numpy())
    noise = after - rollout.next_observation[:, 0].numpy()
    assert noise.std() == pytest.approx(DEVIATION, rel=0.1)
    assert abs(noise.mean()) < 0.02


def test_training_repeats_with_its_seed():
    first, again, other = (trained_balancer(WIDE, seed, steps=4_096) for seed in (100, 100, 101))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


def test_a_run_has_every_agent_as_share_of_the_oracle_and_the_belief_behind_it():
    runs = pd.DataFrame(adaptation_run(100, **TINY))
    tests, found = runs[runs.parameter == ""], runs[runs.parameter != ""]
    assert list(tests.agent) == ["target", "nominal", "wide", "further", "further", "posterior", "posterior"]
    assert list(tests.episodes) == [0, 0, 0, 1, 3, 1, 3]
    assert tests.share.iloc[0] == 1.0
    np.testing.assert_allclose(tests.share, tests["return"] / tests["return"].iloc[0])
    assert list(found.parameter) == 2 * list(TARGET)
    assert (found.low <= found["mean"] + 1e-9).all()
    assert (found["mean"] <= found.high + 1e-9).all()
    np.testing.assert_allclose(found.width, found.high - found.low)
    first, last = (found[found.episodes == count].set_index("parameter") for count in (1, 3))
    assert last.loc["gain", "width"] < first.loc["gain", "width"] < WIDE["gain"][1] - WIDE["gain"][0]


@pytest.mark.learning
def test_part_makes_its_tables(monkeypatch):
    def sweeps(function, grid):
        assert set(grid) == set(TINY)
        return sweep(function, {name: [value] for name, value in TINY.items()}, [100, 101], jobs=1, progress=False)

    tables = adaptation_part(sweeps, True)
    assert list(tables) == ["robust_adaptation", "robust_adaptation_posterior", "robust_adaptation_runs"]
    table, beliefs, runs = tables.values()
    assert len(table) == 7
    assert (table["seeds"] == 2).all()
    assert {"agent", "episodes", "return_iqm", "share_low", "share_high"} <= set(table)
    assert len(beliefs) == 2 * len(TARGET)
    assert {"true", "mean_iqm", "width_iqm", "covered"} <= set(beliefs)
    assert (beliefs["true"] == 2 * list(TARGET.values())).all()
    assert table.notna().all().all()
    assert beliefs.notna().all().all()
    assert len(runs) == 2 * (len(table) + len(beliefs))


@stored
def test_the_stored_posterior_adapts_and_going_on_does_not():
    table = pd.read_csv(RESULTS / "robust_adaptation.csv").set_index(["agent", "episodes"])
    assert table.loc[("wide", 0), "share_high"] < 0.5
    most = max(EPISODES)
    assert table.loc[("posterior", most), "share_low"] > table.loc[("further", most), "share_high"]
    beliefs = pd.read_csv(RESULTS / "robust_adaptation_posterior.csv").set_index(["parameter", "episodes"])
    widths = beliefs["width_iqm"]
    for name in ("length", "gain"):
        assert widths[name, most] < widths[name, min(EPISODES)]
