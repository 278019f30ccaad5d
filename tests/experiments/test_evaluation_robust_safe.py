"""The part on safe agents in unseen winds: exact yardsticks, runs that repeat, and what the stored tables say."""

import importlib
from functools import partial

import numpy as np
import pandas as pd
import pytest

from ca14lib.environments.tabular import uniform_policy
from ca14lib.experiments import read_results
from ca14lib.experiments.evaluation.robust_safe import (
    LIMIT,
    NAMES,
    RECIPES,
    common_policy,
    cost_range,
    exact_policies,
    judged,
    memory_plan,
    models,
    robust_safe,
    robust_safe_run,
    robust_safe_yardsticks,
    share_of_common,
    trained_agent,
)
from ca14lib.training.sweep import sweep

# the package gives the name of the module to the function
part = importlib.import_module("ca14lib.experiments.evaluation.robust_safe")


def test_yardsticks_are_in_the_order_of_what_policies_know():
    common, memory = common_policy(), memory_plan()
    assert common.guaranteed_return == pytest.approx(5.593, abs=2e-3)
    assert memory.guaranteed_return == pytest.approx(5.714, abs=2e-3)
    assert common.upper_bound == pytest.approx(6.156, abs=2e-3)
    assert (common.result.costs <= LIMIT).all()
    assert (memory.costs <= LIMIT + 1e-6).all()


def test_the_optimum_of_any_one_wind_breaks_the_limit_in_another():
    for name, table in exact_policies().items():
        numbers = judged(table)
        assert (numbers["worst_cost"] > 2 * LIMIT) == (name != "common policy")
        assert (numbers["kept"] == len(NAMES)) == (name == "common policy")


def test_shares_count_from_the_uniform_policy_to_the_common_one():
    policies = [uniform_policy(models()[0]), common_policy().policy]
    shares = share_of_common(pd.Series([judged(policy)["worst_return"] for policy in policies]))
    assert shares.tolist() == pytest.approx([0.0, 1.0])
    assert cost_range() > LIMIT


def test_the_table_of_yardsticks_has_a_bound_without_costs():
    table = robust_safe_yardsticks().set_index("policy")
    assert np.isnan(table.loc["bound of known winds", "worst_cost"])
    assert table.loc["memory", "kept"] == len(NAMES)
    assert table.loc["common policy", "worst_return"] < table.loc["memory", "worst_return"]


@pytest.mark.parametrize("recipe", ["and the worst return", pytest.param("calm", marks=pytest.mark.verify)])
def test_a_run_reports_every_number_and_repeats_with_its_seed(recipe):
    first, again = (robust_safe_run(recipe, 3, steps=8_000) for _ in range(2))
    first.pop("training_seconds"), again.pop("training_seconds")
    assert first == again
    assert {"worst_return", "worst_cost", "kept", "cost_updraft", "return_calm"} < set(first)
    assert all(np.isfinite(value) for value in first.values())


def test_unknown_recipes_are_refused():
    with pytest.raises(ValueError, match="recipe must be one of calm, all winds"):
        trained_agent("storm", 0)


def test_the_quick_part_writes_its_tables(tmp_path, monkeypatch):
    monkeypatch.setattr(part, "robust_safe_run", quick_run)
    tables = robust_safe(partial(sweep, seeds=2, jobs=1, progress=False), quick=True)
    assert list(tables) == [f"evaluation_robust_safe{end}" for end in ("", "_yardsticks", "_runs")]
    main = tables["evaluation_robust_safe"]
    assert main["recipe"].tolist() == ["all winds", "and the worst return"]
    assert main["seeds"].tolist() == [2, 2]
    assert (main["within"] <= 2).all()


def quick_run(recipe: str, seed: int, *, steps: int) -> dict[str, float]:
    return robust_safe_run(recipe, seed, steps=4_000)


@pytest.mark.verify
@pytest.mark.parametrize("seed", [0, 1])
def test_the_robust_agent_comes_near_the_common_policy_within_the_limit(seed):
    numbers = robust_safe_run("and the worst return", seed)
    assert share_of_common(pd.Series([numbers["worst_return"]]))[0] >= 0.95
    assert numbers["worst_cost"] <= LIMIT + 0.05


def test_stored_a_multiplier_for_each_wind_lowers_the_worst_cost_of_averaging():
    table = read_results("evaluation_robust_safe").set_index("recipe")
    assert set(table.index) == set(RECIPES)
    for recipe in ("a multiplier for each wind", "and the worst return"):
        assert table.loc[recipe, "worst_cost_high"] < table.loc["all winds", "worst_cost_low"]
    assert table.loc["calm", "within"] == 0
