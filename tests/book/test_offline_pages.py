"""What the pages on offline learning say about tests and results is true."""

import re
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest

from ca14lib.experiments.results import read_results

TESTS = Path(__file__).parents[1] / "agents" / "offline"
FAULTS = {
    name
    for path in TESTS.glob("*faults*.py")
    if not path.name.startswith("test_")
    for name in import_module(f"tests.agents.offline.{path.stem}").FAULTS
}
OFFLINE = Path(__file__).parents[2] / "book" / "offline"


PREFIXES = {
    "dqn": ("dqn",), "bc": ("bc",), "cql": ("cql",), "iql": ("iql",), "awr": ("awr",), "bcq": ("bcq",),
    "td3bc": ("td3bc", "regularized"), "sac": ("sac",),
}  # fmt: skip
ALGORITHM = "|".join(prefix for prefixes in PREFIXES.values() for prefix in prefixes)
NAMED = re.compile(rf"(?<!}})`((?:{ALGORITHM})-[a-z0-9-]+)`|is_caught\[([a-z0-9-]+)\]")


def faults_named(page: str) -> set[str]:
    text = (OFFLINE / f"{page}.md").read_text("utf8")
    return {first or second for first, second in NAMED.findall(text)}


@pytest.mark.parametrize("page", PREFIXES)
def test_the_planted_faults_a_page_names_exist(page):
    of_this_page = {name for name in faults_named(page) if name.split("-")[0] in PREFIXES[page]}
    assert len(of_this_page) >= 7
    assert of_this_page == faults_named(page) <= FAULTS


def test_the_planted_faults_of_the_exercises_exist():
    assert len(faults_named("exercises")) == 4
    assert faults_named("exercises") <= FAULTS


# claims that the prose of the pages draws from the tables


def rows(name: str, **where: object) -> pd.DataFrame:
    table = read_results(name)
    for column, value in where.items():
        table = table[table[column] == value]
    assert len(table), f"no row of {name} for {where}"
    return table


def every_seed_reaches_the_optimum(table: pd.DataFrame) -> bool:
    return bool((table["optimal_seeds"] == table["seeds"]).all())


def no_seed_comes_near(table: pd.DataFrame) -> bool:
    return bool((table["share_high"] < 0.5).all())


def most_seeds_fail(table: pd.DataFrame) -> bool:
    return bool((table["optimal_seeds"] < table["seeds"] / 2).all())


@pytest.mark.parametrize("agent", ["DiscreteBC10%", "DiscreteAWR", "DiscreteBCQ", "DiscreteCQL", "DiscreteIQL"])
def test_these_agents_reach_the_optimum_on_every_dataset(agent):
    table = rows("offline_gridworld", agent=agent)
    assert set(table["dataset"]) == {"expert", "mixed", "random"}
    assert every_seed_reaches_the_optimum(table)


@pytest.mark.parametrize(
    "agent, right, wrong", [("DQN", ["random"], ["expert", "mixed"]), ("DiscreteBC", ["expert", "mixed"], ["random"])]
)
def test_dqn_and_cloning_fail_on_opposite_datasets(agent, right, wrong):
    for dataset in right:
        assert every_seed_reaches_the_optimum(rows("offline_gridworld", agent=agent, dataset=dataset))
    for dataset in wrong:
        assert most_seeds_fail(rows("offline_gridworld", agent=agent, dataset=dataset))
    assert no_seed_comes_near(rows("offline_gridworld", agent="DiscreteBC", dataset="random"))


def test_the_cloning_term_holds_on_most_seeds_of_expert_data_and_on_all_others():
    table = rows("offline_gridworld", agent="DiscreteBCRegularized").set_index("dataset")
    assert every_seed_reaches_the_optimum(table.loc[["mixed", "random"]])
    naive = rows("offline_gridworld", agent="DQN", dataset="expert")["optimal_seeds"].item()
    assert naive + 5 < table.loc["expert", "optimal_seeds"] < table.loc["expert", "seeds"]


def test_the_excess_of_q_is_where_the_pages_say():
    excess = rows("offline_gridworld").set_index(["agent", "dataset"])["q_error_iqm"]
    assert excess["DQN", "mixed"] > 1
    assert excess["DQN", "random"] < 0.1
    assert excess["DiscreteCQL", "mixed"] > 0
    assert excess["DiscreteCQL", "expert"] > 0
    for agent in ("DiscreteIQL", "DiscreteBCQ", "DiscreteBCRegularized"):
        assert excess[agent, "expert"] == pytest.approx(excess["DQN", "expert"], rel=0.1)
    assert excess["DiscreteBCQ", "mixed"] < 0.1 * excess["DQN", "mixed"]


def test_the_settings_that_work_are_those_the_pages_say():
    def setting(agent: str, parameter: str, dataset: str = "random") -> pd.DataFrame:
        table = rows("offline_gridworld_hyperparameters", agent=agent, dataset=dataset, parameter=parameter)
        return table.set_index("value")

    for agent, parameter in (("DQN", "learning_rate"), ("DiscreteIQL", "expectile")):
        assert every_seed_reaches_the_optimum(setting(agent, parameter))
    for agent, parameter, right, wrong in (
        ("DQN", "target_rate", [0.005, 0.05], [0.0005, 1.0]),
        ("DiscreteCQL", "conservative_weight", [0.0, 0.1, 0.5, 1.0], [2.0, 5.0, 20.0]),
        ("DiscreteIQL", "temperature", [1.0, 3.0, 10.0, 100.0], [0.0]),
    ):
        table = setting(agent, parameter)
        assert sorted(table.index) == sorted(right + wrong)
        assert every_seed_reaches_the_optimum(table.loc[right])
        assert most_seeds_fail(table.loc[wrong])
    assert no_seed_comes_near(setting("DiscreteCQL", "conservative_weight").loc[[5.0, 20.0]])
    assert no_seed_comes_near(setting("DiscreteBC", "learning_rate"))
    assert (setting("DiscreteCQL", "conservative_weight").loc[[0.5, 1.0], "q_error_iqm"] < 0).all()
    assert setting("DQN", "target_rate").loc[1.0, "q_error_iqm"] > 100
    for agent, parameter, dataset, right, wrong in (
        ("DiscreteAWR", "temperature", "random", [0.1, 0.3, 1.0, 3.0], [0.05, 10.0]),
        ("DiscreteAWR", "trace_decay", "random", [0.95, 1.0], [0.0, 0.5]),
        ("DiscreteBCQ", "threshold", "random", [0.0, 0.1, 0.3, 0.5, 0.7, 0.9], [0.99]),
        ("DiscreteBCQ", "threshold", "mixed", [0.3, 0.5, 0.7, 0.9, 0.99], [0.0, 0.1]),
        ("DiscreteBCRegularized", "behaviour_weight", "random", [0.0, 0.01, 0.03, 0.1, 0.3, 1.0], [3.0]),
        ("DiscreteBCRegularized", "behaviour_weight", "mixed", [0.03, 0.1, 0.3, 1.0, 3.0], [0.0, 0.01]),
    ):
        table = setting(agent, parameter, dataset)
        assert sorted(table.index) == sorted(right + wrong)
        assert every_seed_reaches_the_optimum(table.loc[right])
        assert (table.loc[wrong, "optimal_seeds"] < table.loc[wrong, "seeds"]).all()
    for agent, parameter, worst in (("DiscreteAWR", "trace_decay", 0.0), ("DiscreteBCQ", "threshold", 0.99)):
        assert setting(agent, parameter).loc[worst, "optimal_seeds"] == 0


def test_naive_values_run_away_on_the_intensive_care_data():
    largest = rows("offline_sepsis", agent="DQN").set_index("episodes")["max_q_iqm"]
    assert largest[500] > 100
    assert largest[500] > largest[5_000] > largest[50_000] > 1
    table = rows("offline_sepsis", episodes=50_000).set_index("agent")
    best = table.loc[["DiscreteCQL", "DiscreteIQL"], "gap_closed_iqm"].max()
    assert best > 0.55
    assert table.loc["DQN", "gap_closed_high"] < best / 2


def test_the_figure_of_expectiles_shows_the_formula():
    picture = (OFFLINE / "figures" / "expectiles.svg").read_text("utf8")
    left, right, top, bottom = 70, 540, 24, 280  # the axes: τ from 0.5 to 1, expectile from 0 to 1
    curves = [
        [tuple(map(float, point.split(","))) for point in points.split()]
        for points in re.findall(r'<polyline points="([^"]+)"', picture)
    ]
    assert len(curves) == 3
    for p, curve in zip((0.5, 0.1, 0.01), curves, strict=True):
        for x, y in curve:
            level = min(0.5 + 0.5 * (x - left) / (right - left), 1)
            expectile = level * p / (level * p + (1 - level) * (1 - p))
            # coordinates are rounded to a tenth of a pixel, which matters where a curve is steep
            slope = p * (1 - p) / (level * p + (1 - level) * (1 - p)) ** 2 * 0.5 / (right - left)
            assert (bottom - y) / (bottom - top) == pytest.approx(expectile, abs=0.1 * slope + 0.001)


def test_the_figure_of_the_unrecorded_action_shows_the_optimum():
    picture = (OFFLINE / "figures" / "leaving-the-data.svg").read_text("utf8")
    left, right, top, bottom = 70, 540, 24, 280  # the axes: value from 0 to 6, probability from 0 to 1
    points = re.findall(r'<polyline points="([^"]+)"', picture)[0].split()
    assert len(points) > 50
    for x, y in (map(float, point.split(",")) for point in points):
        value = 6 * (x - left) / (right - left)
        recorded = 0.8 / value + 0.2 / (value - 1) if value > 1 else 1  # S(q₀) of the theorem, weight 1
        slope = (0.8 / value**2 + 0.2 / (value - 1) ** 2) * 6 / (right - left) if value > 1 else 0
        assert (bottom - y) / (bottom - top) == pytest.approx(max(1 - recorded, 0), abs=0.1 * slope + 0.003)


def test_intervals_of_off_policy_evaluation_cover_what_the_page_says():
    table = rows("offline_evaluation")
    assert (table["datasets"] >= 200).all()
    coverage = table.set_index(["environment", "episodes", "estimator"])["coverage"]
    for environment, episodes in {key[:2] for key in coverage.index}:
        own = coverage[environment, episodes]
        assert (own[["FQE range", "DR range"]] >= 0.9).all()
        if environment == "ICU-Sepsis":
            assert (own[["FQE", "DR"]] >= 0.9).all()
            assert own["IS"] < 0.9
            assert own["FQE unseen 0"] < 0.05
        else:
            assert (own[["FQE", "DR"]] < 0.9).all()
            assert own["FQE percentile"] < own["FQE"] - 0.3
    width = table.set_index(["environment", "episodes", "estimator"])["width_median"]["GridWorld", 400]
    assert width["FQE range"] < width["DR range"] < width["IS"] < width["FQE bounds"]
    error = table.set_index(["environment", "episodes", "estimator"])["rmse"]["ICU-Sepsis", 1_000]
    others = ["IS", "WIS", "PDIS", "WPDIS", "DR", "WDR"]
    assert 3 * error["FQE"] < error[others].min()
