"""The part on robots: the planner and its model, held episodes, tuning, and tables that compare like with like."""

import inspect
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch

from ca14lib.environments.applications.robotics import ComputedTorque, ReacherDomainVector
from ca14lib.experiments.evaluation import robotics as part
from ca14lib.experiments.evaluation.robotics import (
    BODIES,
    CONDITIONS,
    CONTROLLERS,
    EPISODE,
    RECIPES,
    TESTED,
    TRAINED,
    Condition,
    arm_episodes,
    arm_grid,
    arm_run,
    arm_tables,
    arm_yardsticks,
    held_starts,
    hopper_grid,
    hopper_table,
    is_inside,
    oracle_run,
    robotics,
    trained_arm,
    trained_hopper,
    tuned_controller,
)
from ca14lib.training.sweep import sweep

FADING = CONDITIONS["fading elbow"]


def altered(*changes: tuple[str, str]) -> ModuleType:
    """The module with pieces of its source replaced."""
    source = inspect.getsource(part)
    for old, new in changes:
        assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in the source"
        source = source.replace(old, new)
    module = ModuleType("altered_robotics_part")
    exec(compile(source, "altered", "exec"), module.__dict__)
    return module


# The planner: each property takes the module, so that faults can be planted in it


def responses_are_those_of_the_arm(module: ModuleType) -> None:
    """A torque at any step, and a speed at the start, turn the arm as the linear model says."""
    torque, coasting = module.responses()
    for joint in (0, 1):
        for step in (0, 7):
            environment = ReacherDomainVector(1, time_limit=None)
            state = np.zeros((1, 6))
            state[0, 1] = 1.5
            state[0, 2 + joint] = 0.5
            environment.reset(seed=0, options={"state": state})
            angles = []
            for now in range(EPISODE):
                action = np.zeros((1, 2), np.float32)
                action[0, joint] = 0.05 * (now == step)
                environment.step(action)
                angles.append(environment.state[0, joint])
            expected = state[0, joint] + 0.5 * coasting[joint] + 10.0 * torque[joint, :, step]
            np.testing.assert_allclose(angles, expected, atol=2e-4)


def the_planner_is_hard_to_beat(module: ModuleType) -> None:
    """It beats the tuned controller where nothing fails, and knows how much of its torque arrives."""
    starts = held_starts(6)
    law = ComputedTorque(7.0, 0.8)
    for condition, least in (
        (Condition({}), 0.1), (FADING, 1.5), (Condition({"delay": 4.0}), 2.0),
    ):  # fmt: skip
        plan = module.planned([condition], starts, 300)
        reached, other = (arm_episodes(who, [condition], starts)[0].mean() for who in (plan, law))
        assert reached > other + least


@pytest.mark.parametrize("holds", [responses_are_those_of_the_arm, the_planner_is_hard_to_beat])
def test_property(holds):
    holds(part)


@pytest.mark.parametrize(
    ("holds", "old", "new"),
    [
        (responses_are_those_of_the_arm, "inertia * (1 - kept) * kept", "inertia * kept"),
        (responses_are_those_of_the_arm, "np.where(passed >= 0,", "np.where(passed > 0,"),
        (the_planner_is_hard_to_beat, "[:, None] * TORQUE", "[:, None] * (0.5 * TORQUE)"),
        (the_planner_is_hard_to_beat, "returns.argmax(axis=0)", "returns.argmin(axis=0)"),
        (the_planner_is_hard_to_beat, "x.square() + y.square() + 1e-8", "x.square() + 1e-8"),
    ],
)
def test_planted_fault_is_noticed(holds, old, new):
    with pytest.raises(AssertionError):
        holds(altered((old, new)))


# What is compared


def test_grid_has_both_ends_and_the_ends_of_training_but_no_arm_without_a_motor():
    grid = arm_grid()
    assert len(grid) == 72
    for ranges in (TESTED, TRAINED):
        for name, (low, high) in ranges.items():
            assert {low, high} <= {point[name] for point in grid}
    assert all(point["shoulder"] or point["elbow"] for point in grid)
    assert sum(is_inside(point, TRAINED) for point in grid) == 16
    masses = {point["mass"] for point in hopper_grid()}
    assert {0.5, 0.75, 1.25, 1.5} <= masses
    assert sum(is_inside(point, BODIES["many bodies"]) for point in hopper_grid()) == 6


def test_held_starts_stay_and_are_none_of_training():
    np.testing.assert_array_equal(held_starts(5), held_starts(5))
    for seed in range(5):
        environment = ReacherDomainVector(5)
        environment.reset(seed=seed)
        assert not np.isclose(environment.state, held_starts(5)).any()


def test_a_plan_of_rest_earns_the_distance_and_points_do_not_touch_each_other():
    starts = held_starts(3)
    starts[:, 2:4] = 0.0
    points = [Condition({"noise": 1.0}), Condition({"shoulder": 0.0})]
    returns, overload = arm_episodes(np.zeros((2, 3, EPISODE, 2)), points, starts)
    assert returns.shape == overload.shape == (2, 3)
    np.testing.assert_allclose(returns[0], returns[1])
    assert (overload == 0).all()
    law = ComputedTorque()
    together = arm_episodes(law, [Condition({}), Condition({"elbow": 0.0})], starts)[0]
    np.testing.assert_allclose(together[1], arm_episodes(law, [Condition({"elbow": 0.0})], starts)[0][0])


def test_controller_is_tuned_on_training_draws_and_repeats():
    first, again = (tuned_controller("computed torque", 3, 20) for _ in range(2))
    assert first == again
    assert first in CONTROLLERS["computed torque"]
    sluggish = ComputedTorque(4.0, 1.0)
    starts, everywhere = held_starts(60), [Condition({"noise": 1.0, "delay": 1.0, "shoulder": 0.75, "elbow": 0.75})]
    assert arm_episodes(first, everywhere, starts)[0].mean() > arm_episodes(sluggish, everywhere, starts)[0].mean()


def test_training_repeats_and_depends_on_what_is_drawn():
    first, again, other = (trained_arm(ranges, 3, steps=1_600) for ranges in ({}, {}, TRAINED))
    same, different = ([torch.equal(a, b) for a, b in zip(first.parameters(), one.parameters(), strict=True)]
                       for one in (again, other))  # fmt: skip
    assert all(same)
    assert not all(different)


@pytest.mark.parametrize("run", [lambda: arm_run("PID", 0), lambda: trained_hopper("no body", 0)])
def test_unknown_names_are_refused(run):
    with pytest.raises(ValueError, match=r"must be one of (computed torque|one body), .* got '(PID|no body)'"):
        run()


# Tables


def made_up() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Runs of two seeds of whom everything is known: computed torque has a share of 0.8, at one point 0.1."""
    marks = [{"condition": name, "rest": -10.0, "planner": -5.0} for name in CONDITIONS]
    marks += [{"condition": "", **point, "rest": -20.0, "planner": -10.0} for point in arm_grid()]
    runs = []
    for seed in (0, 1):
        for driver, share in (("computed torque", 0.8), ("PPO, one arm", 0.5)):
            runs += [
                {"driver": driver, "seed": seed, "condition": name, "return": -10.0 + 5.0 * share, "overload": 1.0}
                for name in CONDITIONS
            ]
            for point in arm_grid():
                hard = point == {"shoulder": 1.0, "elbow": 0.0, "noise": 4.0, "delay": 4.0}
                found = 0.1 if hard else share
                runs.append({"driver": driver, "seed": seed, "condition": "", **point, "return": -20.0 + 10.0 * found,
                             "overload": 2.0})  # fmt: skip
    oracles = [{"condition": "dead shoulder", "seed": seed, "return": -6.0, "overload": 0.0} for seed in (0, 1)]
    return pd.DataFrame(runs), pd.DataFrame(oracles), pd.DataFrame(marks)


def test_tables_say_what_was_made_up():
    tables = arm_tables(*made_up())
    named = tables["evaluation_robotics"].set_index(["condition", "driver"])
    assert named.loc[("late actions", "computed torque"), "share_iqm"] == pytest.approx(0.8)
    assert named.loc[("dead shoulder", "computed torque"), "of_oracle"] == pytest.approx(1.0)
    assert named.loc[("dead shoulder", "PPO, one arm"), "of_oracle"] == pytest.approx(2.5 / 4)
    assert named.loc[("as built", "PPO, this arm"), "share_iqm"] == pytest.approx(0.5)  # its own oracle
    assert np.isnan(named.loc[("late actions", "computed torque"), "of_oracle"])
    grid = tables["evaluation_robotics_grid"].set_index("driver")
    assert grid.loc["computed torque", "inside_share_iqm"] == pytest.approx(0.8)
    assert grid.loc["computed torque", "outside_share_iqm"] == pytest.approx((55 * 0.8 + 0.1) / 56)
    assert grid.loc["computed torque", "outside_worst_iqm"] == pytest.approx(0.1)
    assert grid.loc["computed torque", "worst_at"] == "shoulder 1, elbow 0, noise 4, delay 4"
    shift = tables["evaluation_robotics_shift"].set_index(["driver", "parameter", "value"])
    assert shift.loc[("PPO, one arm", "noise", 0.0), "share_iqm"] == pytest.approx(0.5)
    assert shift.loc[("PPO, one arm", "noise", 4.0), "share_iqm"] < 0.5


def test_an_oracle_no_better_than_rest_gives_no_share():
    runs, oracles, marks = made_up()
    oracles["return"] = -11.0
    named = arm_tables(runs, oracles, marks)["evaluation_robotics"].set_index(["condition", "driver"])
    assert named.loc["dead shoulder", "of_oracle"].isna().all()


def test_hopper_table_keeps_regions_apart_and_counts_violations():
    rows = []
    for seed in (0, 1):
        for body, inside, outside in (("one body", 30.0, 90.0), ("many bodies", 10.0, 20.0)):
            for point in hopper_grid():
                cost = inside if is_inside(point, BODIES["many bodies"]) else outside
                rows.append({"body": body, "seed": seed, **point, "return": 100.0, "share": 0.1, "length": 50.0,
                             "cost": cost, "within": float(cost <= 25)})  # fmt: skip
    table = hopper_table(pd.DataFrame(rows)).set_index(["tested", "body"])
    assert table.loc[("outside", "one body"), "worst_cost_iqm"] == 90.0
    assert table.loc[("nominal", "one body"), "within_iqm"] == 0.0
    assert table.loc[("inside", "many bodies"), "within_iqm"] == 1.0


def test_yardsticks_have_room_between_rest_and_planner_and_noise_does_not_move_them():
    marks = arm_yardsticks(3, 1, 40)
    assert (marks["planner"] > marks["rest"]).all()
    assert set(marks["condition"]) == {"", *CONDITIONS}
    grid = marks[marks.condition == ""]
    assert len(grid) == 72
    assert (grid.groupby(["shoulder", "elbow", "delay"])["planner"].nunique() == 1).all()


def test_run_has_a_row_for_every_condition_and_point():
    rows = pd.DataFrame(arm_run("transposed Jacobian", 0, episodes=5, grid_episodes=2))
    assert rows["condition"].tolist() == [*CONDITIONS, *[""] * 72]
    assert rows["overload"].between(0, EPISODE).all()
    oracle = oracle_run("fading elbow", 0, steps=1_600, episodes=3)
    assert set(oracle) == {"return", "overload"}


@pytest.mark.verify
def test_part_makes_its_tables():
    def sweeps(function, grid):
        return sweep(function, grid, seeds=2, jobs=1, progress=False)

    tables = robotics(sweeps, True)
    name = "evaluation_robotics"
    assert list(tables) == [
        name, f"{name}_grid", f"{name}_shift", f"{name}_hopper", f"{name}_runs", f"{name}_hopper_runs"
    ]  # fmt: skip
    assert set(tables[f"{name}_grid"]["driver"]) == {*CONTROLLERS, *RECIPES}
    assert tables[f"{name}_hopper"]["seeds"].tolist() == [2] * 6
    assert len(tables[f"{name}_hopper_runs"]) == 2 * 2 * len(hopper_grid())
