"""The part on domain randomisation: what its agents see, that tables compare like with like, and that runs repeat."""

import numpy as np
import pandas as pd
import pytest
import torch

from ca14lib.evaluation.uncertain_grid import UncertainGridEvaluation
from ca14lib.experiments.robust.randomisation import (
    LEVELS,
    RECIPES,
    SHIFT_LEVEL,
    SHIFTS,
    gains,
    held_evaluations,
    randomisation_part,
    randomisation_run,
    shift_curve,
    trained_walker,
)
from ca14lib.training.sweep import sweep

TINY = {"steps": 4_096, "episodes": 20}


def test_only_the_agent_with_memory_sees_its_last_action():
    widths = {}
    for recipe in RECIPES:
        agent = trained_walker(recipe, 0.3, 0, steps=4_096)
        assert bool(agent.memory_size) is RECIPES[recipe].memory
        widths[recipe] = agent.observation_space.shape[-1]
    assert widths == {"one world": 6, "many worlds": 6, "many worlds, memory": 10}


def test_one_world_is_the_same_whatever_the_level_and_training_repeats():
    first, again = (trained_walker("one world", level, 3, steps=4_096) for level in (0.1, 0.5))
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_unknown_recipe_is_refused():
    with pytest.raises(ValueError, match="recipe must be one of one world"):
        trained_walker("no world", 0.1, 0)


def test_held_episodes_are_those_of_their_level_and_stay():
    evaluations = held_evaluations(episodes=30)
    for level in LEVELS:
        drawn = evaluations[level].parameters
        assert drawn.action_failure.max() <= level < 2 * drawn.action_failure.max()
        again = UncertainGridEvaluation(30, environment_arguments={"uncertainty": level})
        np.testing.assert_array_equal(again.parameters.action_failure, drawn.action_failure)


def test_shift_moves_one_parameter_and_the_bound_with_it():
    agent = trained_walker("one world", 0.0, 0, steps=4_096)
    curve = shift_curve(agent, "action_failure", values=(0.0, 0.5, 0.9), episodes=20)
    assert (curve["bound"].diff().dropna() < 0).all()
    noisy = shift_curve(agent, "observation_noise", values=(0.0, 0.9), episodes=20)
    assert noisy["bound"].nunique() == 1  # the planner sees the cell
    assert (noisy["return"] <= noisy["bound"]).all()


@pytest.mark.parametrize("level, shifted", [(0.1, 0), (SHIFT_LEVEL, sum(map(len, SHIFTS.values())))])
def test_run_has_a_row_for_every_level_and_for_every_point_of_its_shifts(level, shifted):
    rows = pd.DataFrame(randomisation_run("many worlds", level, 0, **TINY))
    tests = rows[rows.parameter == ""]
    assert tests["tested"].tolist() == list(LEVELS)
    assert len(rows) - len(tests) == shifted
    np.testing.assert_allclose(tests["share_of_bound"], tests["return"] / tests["bound"])
    assert (tests["share_of_bound"] != tests["share_of_bound_best"]).any()


def test_gain_is_taken_seed_by_seed_and_at_the_own_level():
    values = {
        ("one world", 0.0): [0.1, 0.5],
        ("many worlds", 0.3): [0.3, 0.6],
        ("many worlds, memory", 0.3): [0.8, 1.0],
    }
    rows = [
        {"recipe": recipe, "level": level, "seed": seed, "tested": 0.3, "share_of_bound": value}
        for (recipe, level), both in values.items()
        for seed, value in enumerate(both)
    ]
    # agents of another level, which the comparison at 0.3 must not take
    rows += [{"recipe": "many worlds", "level": 0.5, "seed": 0, "tested": 0.3, "share_of_bound": -9.0}]
    table = gains(pd.DataFrame(rows)).set_index(["recipe", "compared_with"])
    assert table.loc[("many worlds", "one world"), "gain_iqm"] == pytest.approx(0.15)
    assert table.loc[("many worlds, memory", "many worlds"), "gain_low"] == pytest.approx(0.4)
    assert table["level"].tolist() == [0.3] * 3
    assert table["seeds"].tolist() == [2] * 3


@pytest.mark.slow
def test_part_makes_its_tables():
    def sweeps(function, grid):
        return sweep(
            function, grid | {key: [value] for key, value in TINY.items()}, seeds=2, jobs=1, progress=False
        )  # fmt: skip

    tables = randomisation_part(sweeps, True)
    name = "robust_randomisation"
    assert list(tables) == [name, f"{name}_gain", f"{name}_transfer", f"{name}_shift", f"{name}_runs"]
    assert tables[name]["recipe"].tolist() == [
        "one world",
        "one world",
        "one world",
        "many worlds",
        "many worlds, memory",
    ]
    assert (tables[f"{name}_transfer"]["bound"] > 0).all()
    assert len(tables[f"{name}_runs"]) == 2 * 3 * 3
