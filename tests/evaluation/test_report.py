"""Reports hold what was found, need no network, and replace nothing but reports."""

import re

import matplotlib
import numpy as np
import pandas as pd
import pytest

from ca14lib.evaluation import Evaluator
from ca14lib.evaluation.report import write_report
from ca14lib.plotting.evaluation import radar, rank_ranges, score_bars, trade_off

matplotlib.use("Agg")


@pytest.fixture(scope="module")
def evaluation():
    random, rows = np.random.default_rng(0), []
    for index, agent in enumerate(("DQN", "PPO & friends", "QMIX")):
        for dimension in ("sample_efficiency", "asymptotic_performance", "robustness", "training_time"):
            for seed in range(4):
                ends = {"zero": np.nan, "one": np.nan} if dimension == "training_time" else {"zero": -9.0, "one": 9.0}
                value = random.uniform(1, 2) + index
                rows.append({"agent": agent, "task": "t", "dimension": dimension, "seed": seed, "value": value} | ends)
    return Evaluator(repetitions=50)(pd.DataFrame(rows))


def test_a_report_is_one_page_with_its_pictures_inside(evaluation, tmp_path):
    page = write_report(evaluation, tmp_path / "report", groups=dict.fromkeys(evaluation.ranking, "all"))
    text = page.read_text("utf8")
    assert text.startswith("<!doctype html>")
    assert '<html lang="en">' in text
    assert not re.search(r'(src|href)="(?!data:)', text)  # nothing is fetched
    assert text.count('<img alt="') == 5
    assert all(len(alt) > 30 for alt in re.findall(r'<img alt="([^"]*)"', text))
    assert "PPO &amp; friends" in text
    assert "PPO & friends" not in text
    assert "not applicable" in text  # safety and coordination
    names = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"scores.csv", "dimensions.csv", "costs.csv", "improvement.csv", "sensitivity.csv", "profiles.csv"} <= names
    assert {"scores.png", "radar.png", "profiles.png", "trade_off.png", "sensitivity.png"} <= names
    scores = pd.read_csv(tmp_path / "report" / "scores.csv")
    assert scores["agent"].tolist() == evaluation.ranking
    np.testing.assert_allclose(scores["score"], evaluation.scores["score"], rtol=1e-5)
    assert [path.name for path in tmp_path.iterdir()] == ["report"]  # nothing half-written is left


def test_a_report_is_replaced_only_on_demand(evaluation, tmp_path):
    write_report(evaluation, tmp_path / "report", title="First")
    with pytest.raises(FileExistsError, match="--overwrite"):
        write_report(evaluation, tmp_path / "report", title="Second")
    assert "First" in (tmp_path / "report" / "index.html").read_text("utf8")
    write_report(evaluation, tmp_path / "report", title="Second", overwrite=True)
    assert "Second" in (tmp_path / "report" / "index.html").read_text("utf8")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_report_is_never_replaced(kind, evaluation, tmp_path):
    target = tmp_path / "thesis"
    if kind == "folder":
        target.mkdir()
        (target / "chapter.txt").write_text("years of work")
    else:
        target.write_text("years of work")
    with pytest.raises(FileExistsError, match="no report"):
        write_report(evaluation, target, overwrite=True)
    assert (target / "chapter.txt" if kind == "folder" else target).read_text() == "years of work"


def test_a_report_that_cannot_be_finished_leaves_the_old_one(evaluation, tmp_path, monkeypatch):
    write_report(evaluation, tmp_path / "report", title="First")
    monkeypatch.setattr("ca14lib.evaluation.report._page", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_report(evaluation, tmp_path / "report", title="Second", overwrite=True)
    assert "First" in (tmp_path / "report" / "index.html").read_text("utf8")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_bars_have_the_length_of_the_scores_and_the_best_is_on_top(evaluation):
    axes = score_bars(evaluation.scores).axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == pytest.approx(evaluation.scores["score"].tolist())
    assert [label.get_text() for label in axes.get_yticklabels()] == evaluation.ranking
    assert axes.get_xlim()[0] == 0
    heights = [bar.get_y() for bar in axes.patches]
    assert heights == sorted(heights, reverse=True)


def test_a_radar_shows_the_scores_and_leaves_gaps(evaluation):
    names = ["sample_efficiency", "asymptotic_performance", "safety"]
    axes = radar(evaluation.scores, names, names=evaluation.ranking[:2]).axes[0]
    values = axes.lines[0].get_ydata()
    expected = evaluation.scores.iloc[0][names].to_numpy(dtype=float)
    np.testing.assert_allclose(values[:2], expected[:2])
    assert np.isnan(values[2])
    with pytest.raises(ValueError, match="beauty"):
        radar(evaluation.scores, ["beauty", *names], names=evaluation.ranking[:1])
    with pytest.raises(ValueError, match="at least 3"):
        radar(evaluation.scores, names[:2], names=evaluation.ranking[:1])


def test_only_the_front_is_named_in_a_trade_off():
    table = pd.DataFrame({"agent": ["a", "b", "c"], "gain": [0.9, 0.5, 0.4], "price": [10.0, 1.0, 5.0]})
    axes = trade_off(table, "gain", "price", [True, True, False]).axes[0]
    assert [text.get_text() for text in axes.texts] == ["a", "b"]
    with pytest.raises(ValueError, match="3 rows"):
        trade_off(table, "gain", "price", [True])


def test_ranges_of_ranks_are_drawn_from_low_to_high(evaluation):
    axes = rank_ranges(evaluation.sensitivity).axes[0]
    first = evaluation.sensitivity.sort_values("rank").iloc[0]
    assert axes.lines[0].get_xdata().tolist() == [first["rank_low"], first["rank_high"]]
    assert axes.lines[1].get_xdata().tolist() == [first["rank"]]
