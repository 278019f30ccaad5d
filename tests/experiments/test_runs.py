"""What the experiments of all sections share: no hidden failure, no unknown part, tables that say what made them."""

import numpy as np
import pandas as pd
import pytest

from ca14lib.experiments import offline, read_metadata, read_results, safe
from ca14lib.experiments.runs import finished, interquartile_means, run_parts
from ca14lib.metrics import interquartile_mean

DEFAULTS = {"quick": False, "parts": None, "cache_folder": None, "jobs": 1, "progress": False}


def score(setting: str, seed: int) -> dict[str, float]:
    if setting == "broken":
        raise ZeroDivisionError("division by zero")
    return {"score": len(setting) + seed}


def scores_part(sweeps, quick):
    runs = finished(sweeps(score, {"setting": ["a"] if quick else ["a", "abc"]}))
    return {"demo_runs": runs.drop(columns="seconds")}


def broken_part(sweeps, quick):
    return {"demo_broken": finished(sweeps(score, {"setting": ["a", "broken"]}))}


PARTS = {"scores": scores_part, "broken": broken_part}


@pytest.fixture
def named(monkeypatch):
    """The parts as if they were modules of the package, whose code a table's provenance can hash."""
    for part in (scores_part, broken_part):
        monkeypatch.setattr(part, "__module__", "ca14lib.experiments.runs")


def test_every_run_of_a_part_is_in_its_table_and_the_table_says_what_made_it(tmp_path, named):
    tables = run_parts(PARTS, "ca14 run demo", seeds=3, output=tmp_path, **DEFAULTS | {"parts": ["scores"]})
    assert list(tables) == ["demo_runs"]
    assert tables["demo_runs"]["score"].tolist() == [1, 2, 3, 3, 4, 5]
    assert read_results("demo_runs", tmp_path)["score"].tolist() == [1, 2, 3, 3, 4, 5]
    metadata = read_metadata("demo_runs", tmp_path)
    assert metadata["command"] == "ca14 run demo --seeds 3 --part scores"
    assert metadata["source_modules"] == ["ca14lib.experiments.runs"]
    assert metadata["seeds"] == [0, 1, 2]


def test_a_quick_run_is_told_so_and_says_so(tmp_path, named):
    tables = run_parts(
        PARTS, "ca14 run demo", seeds=2, output=tmp_path, **DEFAULTS | {"quick": True, "parts": ["scores"]}
    )
    assert tables["demo_runs"]["setting"].tolist() == ["a", "a"]
    assert read_metadata("demo_runs", tmp_path)["command"] == "ca14 run demo --seeds 2 --quick --part scores"


def test_finished_runs_are_not_run_again(tmp_path, named, monkeypatch):
    options = DEFAULTS | {"parts": ["scores"], "cache_folder": tmp_path / "cache"}
    first = run_parts(PARTS, "ca14 run demo", seeds=2, output=tmp_path, **options)["demo_runs"]
    assert len(list((tmp_path / "cache" / "scores").iterdir())) == len(first) == 4
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "scores").iterdir()}
    again = run_parts(PARTS, "ca14 run demo", seeds=2, output=tmp_path, **options)["demo_runs"]
    pd.testing.assert_frame_equal(first, again)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "scores").iterdir()} == times


def test_a_part_with_a_failed_run_writes_no_table(tmp_path, named):
    with pytest.raises(RuntimeError, match=r"(?s)2 of 4 runs failed.*division by zero"):
        run_parts(PARTS, "ca14 run demo", seeds=2, output=tmp_path, **DEFAULTS | {"parts": ["broken"]})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("section", [offline, safe], ids=["offline", "safe"])
def test_unknown_parts_and_too_few_seeds_are_refused_before_anything_runs(section, tmp_path):
    with pytest.raises(ValueError, match="unknown part 'poker'; there are grid"):
        section.run(parts=["poker"], output=tmp_path)
    with pytest.raises(ValueError, match="at least two seeds, got 1"):
        section.run(seeds=1, output=tmp_path)
    assert not list(tmp_path.iterdir())


def test_interquartile_means_are_those_of_the_groups_in_the_order_of_their_appearance():
    generator = np.random.default_rng(0)
    runs = pd.DataFrame({"agent": ["B"] * 8 + ["A"] * 8 + ["C"] * 8, "score": generator.standard_normal(24)})
    runs.loc[20, "score"] = np.nan
    second, first, none = interquartile_means(runs, ["agent"], "score")
    assert second == interquartile_mean(runs["score"][:8])
    assert first == interquartile_mean(runs["score"][8:16])
    assert np.isnan(none)
