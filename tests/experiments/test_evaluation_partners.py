"""The part on partners never met: exact yardsticks, runs that repeat, and what the stored tables say."""

import importlib
from functools import partial

import numpy as np
import pytest

from ca14lib.experiments import read_results
from ca14lib.experiments.evaluation.partners import (
    METHODS,
    ROUNDS,
    best_returns,
    follower,
    partners,
    partners_run,
    partners_yardsticks,
    scripted_partners,
    trained_team,
    with_scripted,
)
from ca14lib.training.sweep import sweep

# the package gives the name of the module to the function
part = importlib.import_module("ca14lib.experiments.evaluation.partners")


def test_best_responses_are_the_known_ones():
    best = best_returns()
    assert [best[f"always lever {lever}"] for lever in (1, 2, 3, 4)] == pytest.approx([5.0, 5.0, 5.0, 4.5])
    assert best["imitates"] == pytest.approx(0.25 + ROUNDS - 1)
    assert best["stays after a match"] == pytest.approx(sum(1 - 0.75 ** (t + 1) for t in range(ROUNDS)))


def test_the_written_down_follower_loses_one_round_with_stubborn_partners():
    shares = with_scripted(np.stack([follower(), follower()]))
    assert shares["always lever 4"] == pytest.approx(1.0)
    assert shares["always lever 1"] == pytest.approx((ROUNDS - 1) / ROUNDS)


def test_nobody_beats_a_best_response_and_a_stranger_is_at_most_informed():
    table = partners_yardsticks()
    assert (table[["follower", "always the odd lever", "uniform"]].to_numpy() <= 1 + 1e-9).all()
    mean = table[table["partner"] == "mean"].iloc[0]
    assert mean["stranger_optimum"] < mean["best_response"]
    assert len(table) == len(scripted_partners()) + 1


@pytest.mark.parametrize("method", METHODS)
def test_a_run_reports_shares_and_repeats_with_its_seed(method, monkeypatch):
    monkeypatch.setattr(part, "TEAMS", 2)
    first, again = (partners_run(method, 2, updates=2) for _ in range(2))
    first.pop("training_seconds"), again.pop("training_seconds")
    assert first == again
    assert all(0.0 <= value <= 1.0 + 1e-9 for value in first.values())
    assert first["worst_share"] <= first["share"]


def test_unknown_methods_are_refused():
    with pytest.raises(ValueError, match="method must be one of self-play, Other-Play"):
        trained_team("telepathy", 0)


def quick_run(method: str, seed: int, *, updates: int) -> dict[str, float]:
    return partners_run(method, seed, updates=2)


def test_the_quick_part_writes_its_tables(monkeypatch):
    monkeypatch.setattr(part, "TEAMS", 2)
    monkeypatch.setattr(part, "METHODS", METHODS[:2])
    monkeypatch.setattr(part, "partners_run", quick_run)
    tables = partners(partial(sweep, seeds=2, jobs=1, progress=False), quick=True)
    assert list(tables) == [f"evaluation_partners{end}" for end in ("", "_yardsticks", "_runs")]
    assert tables["evaluation_partners"]["method"].tolist() == list(METHODS[:2])
    assert "with imitates" in tables["evaluation_partners"]


def test_stored_who_trained_with_others_plays_better_with_strangers_than_who_played_itself():
    table = read_results("evaluation_partners").set_index("method")
    assert set(table.index) == set(METHODS)
    assert table.loc["fictitious co-play", "share_low"] > table.loc["self-play", "share_high"]
