"""What the pages on offline learning say about tests and results is true."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ca14lib.data import OfflineDataset
from ca14lib.experiments.offline import continuous_dataset
from ca14lib.experiments.results import read_results
from tests.agents.tables import FAULT_IDS, TABLES

ROOT = Path(__file__).parents[2]
OFFLINE = ROOT / "book" / "offline"
FAULTS = {name for table in TABLES for name in table.faults}

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


@pytest.mark.parametrize("page", sorted(path.stem for path in OFFLINE.glob("*.md")))
def test_the_tests_a_page_names_exist(page):
    text = (OFFLINE / f"{page}.md").read_text("utf8")
    assert set(re.findall(r"is_caught\[(.+?)\]", text)) <= FAULT_IDS.keys()
    assert set(re.findall(r"`pytest tests/agents/offline -k (.+?)`", text)) <= FAULTS
    for path in re.findall(r"[`\"](tests/[\w/]+(?:\.py)?)", text):
        assert (ROOT / path).exists(), f"{page} names {path}"


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


def test_the_learners_on_intensive_care_data_stand_as_the_pages_say():
    table = rows("offline_sepsis").set_index(["episodes", "agent"])
    middle, low, high = (table[f"gap_closed_{part}"] for part in ("iqm", "low", "high"))
    order = ["TabularPessimism", "DiscreteBCQ", "DiscreteBCRegularized", "DiscreteIQL", "DiscreteCQL", "DiscreteAWR"]
    assert middle[50_000][order].is_monotonic_decreasing
    assert middle[50_000]["DiscreteBCQ"] > 0.6
    assert middle[50_000]["DiscreteIQL"] > 0.5 > middle[50_000]["DiscreteCQL"]
    assert low[50_000]["DiscreteAWR"] > high[50_000][["DQN", "DiscreteBC", "DiscreteBC10%"]].max() - 0.01
    gaining = ["DiscreteIQL", "DiscreteBCQ", "DiscreteAWR"]
    assert (low[500][gaining] > 0).all()
    assert high[500]["DQN"] < 0
    rest = middle[500].index.difference([*gaining, "DQN"])
    assert (low[500][rest] < 0).all()
    assert (high[500][rest] > 0).all()
    assert middle[500].abs().max() < 0.07
    assert middle[5_000]["TabularPessimism"] < 0.05 < 0.2 < middle[5_000]["DiscreteBCQ"]
    for size in (500, 5_000, 50_000):  # choosing stays by their outcome changes nothing
        assert low[size]["DiscreteBC10%"] < middle[size]["DiscreteBC"] < high[size]["DiscreteBC10%"]
    largest = table["max_q_iqm"]
    assert 1 < largest[500]["DiscreteBCQ"] < 1.3
    assert 1 < largest[50_000]["DiscreteBCRegularized"] < largest[500]["DiscreteBCRegularized"] < 2


def test_no_offline_learner_is_much_worse_than_the_clinicians():
    table = rows("offline_sepsis")
    clinicians = rows("sepsis_yardsticks", policy="clinician")["return"].item()
    assert (table["return_low"] > clinicians - 0.01).all()


def test_scores_on_the_pendulum_are_what_the_pages_say():
    table = rows("offline_pendulum").set_index(["dataset", "agent"])
    middle, low = table["score_iqm"], table["score_low"]
    replay = middle["medium-replay"]
    four = ["CQL", "IQL", "TD3BC", "BCQ"]
    assert (low["medium-replay"][four] > replay["behaviour"]).all()
    assert (replay[four] >= 90).sum() >= 2
    assert low["expert"]["BC"] > 95
    assert abs(replay["BC"] - replay["behaviour"]) < 5
    assert replay["BC10%"] > 40 > middle["expert"]["BC10%"]
    assert low["medium"]["AWR"] > middle["medium"]["behaviour"]
    assert 90 > replay["AWR"] > replay["behaviour"] + 40
    assert middle["expert"]["AWR"] > 95
    assert low["random"]["BCQ"] > 60
    assert (middle.xs("CQL", level="agent") > 95).all()
    for dataset in ("random", "medium-replay"):
        assert (low[dataset][[*four, "AWR"]] > middle[dataset]["behaviour"]).all()
    assert replay[[*four, "AWR"]].idxmin() == "TD3BC"
    assert middle["random"]["IQL"] > 70
    others = middle["expert"].drop(["BC", "behaviour"])
    assert (others < table["score_high"]["expert"]["BC"]).all()
    assert (low["expert"][["IQL", "TD3BC"]] < 85).all()
    assert (middle[["medium", "expert"]].xs("TD3BC", level="agent") > 90).all()
    assert (middle[["medium-replay", "random"]].xs("TD3BC", level="agent") < 60).all()


def test_scores_on_hopper_are_what_the_pages_say():
    table = rows("offline_hopper").set_index(["dataset", "agent"])["score_iqm"]
    learners = ["AWR", "TD3BC", "BCQ", "CQL", "IQL"]
    for dataset in ("medium-replay", "medium", "expert"):
        assert table[dataset]["BC10%"] > table[dataset][[*learners, "BC"]].max()
        assert table[dataset]["BC"] >= table[dataset]["behaviour"]
    assert table["random"].max() < 5


def test_our_agents_learn_what_the_peers_learn():
    table = rows("peer_quality")
    ours, peers = (part.set_index("agent") for _, part in table.groupby(table["library"] != "ca14lib"))
    assert len(ours) == 5
    assert (ours["score_low"] <= peers["score_high"]).all()
    assert (peers["score_low"] <= ours["score_high"]).all()


def test_driving_agents_stand_as_the_page_says():
    table = rows("offline_driving").set_index("agent")
    agents = table.drop(["LoggedDriver", "RuleDriver"])
    logged, rule = table.loc["LoggedDriver"], table.loc["RuleDriver"]
    assert len(agents) == 4
    assert (agents["collisions_low"] > rule["collisions_high"]).all()
    assert (agents["collisions_low"] < logged["collisions_high"]).all()
    assert (agents["collisions_high"] > logged["collisions_low"]).all()
    steadier = agents.loc[["DiscreteBC", "DiscreteBCQ", "DiscreteCQL"]]
    assert (steadier["lane_changes_high"] < logged["lane_changes_low"]).all()


def test_the_best_episodes_of_the_expert_begin_upright():
    def first_angles(dataset: OfflineDataset) -> np.ndarray:
        first = np.concatenate([[0], np.cumsum(dataset.episode_lengths())[:-1]]).astype(int)
        cosine, sine, _ = dataset.transitions.observation.numpy()[first].T
        return np.abs(np.arctan2(sine, cosine))

    whole = continuous_dataset("pendulum", "expert")
    assert whole.num_episodes == 100
    assert first_angles(whole).max() > 3
    assert first_angles(whole.top_episodes(0.1)).max() < 1


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
        elif environment == "GridWorld random":
            assert (own[["FQE", "DR"]] >= 0.99).all()
            assert own["IS"] < 0.9
        else:
            assert (own[["FQE", "DR"]] < 0.9).all()
            assert own["FQE percentile"] < own["FQE"] - 0.3
    width = table.set_index(["environment", "episodes", "estimator"])["width_median"]["GridWorld", 400]
    assert width["FQE range"] < width["DR range"] < width["IS"] < width["FQE bounds"]
    error = table.set_index(["environment", "episodes", "estimator"])["rmse"]["ICU-Sepsis", 1_000]
    others = ["IS", "WIS", "PDIS", "WPDIS", "DR", "WDR"]
    assert 3 * error["FQE"] < error[others].min()
