"""Dynamic programming with foresight: what it promises is what it gets, and nobody who waits and sees gets more."""

import numpy as np
import pytest

from ca14lib.environments import ReactorVector
from ca14lib.solvers import reactor_foresight
from ca14lib.solvers.reactor_control import ModelPredictiveController, MPCConfig, episode_sums, set_point
from ca14lib.solvers.reactor_foresight import (
    ForesightController,
    ForesightGrid,
    ForesightPlanner,
    recorded_disturbances,
)

GRID = ForesightGrid((0.38, 0.68, 41), (332.0, 358.0, 66), 21, 41)
STEPS, COPIES, SEED = 70, 2, 4


def plant() -> ReactorVector:
    return ReactorVector(COPIES, time_limit=None)


def return_of(controller) -> tuple[np.ndarray, np.ndarray]:
    return episode_sums(plant(), controller, SEED, STEPS)


def controller(**arguments) -> ForesightController:
    return ForesightController(
        ForesightPlanner(plant(), GRID), *recorded_disturbances(plant(), SEED, STEPS), **arguments
    )


@pytest.fixture(scope="module")
def followed():
    made = controller()
    return made, *return_of(made)


def test_what_is_promised_is_what_is_reached(followed):
    made, returns, costs = followed
    environment = plant()
    environment.reset(seed=SEED)
    for copy in range(COPIES):
        promised = made.planner.expected_return(made.tables[:, copy], environment._x[copy : copy + 1])[0]
        assert returns[copy] == pytest.approx(promised, abs=0.02 * STEPS), "what is left is the grid's error"
    assert costs.sum() == 0


def test_nobody_who_waits_and_sees_gets_more(followed):
    _, returns, _ = followed
    surprised, costs = return_of(controller(knows_changes=False))
    waits, _ = return_of(ModelPredictiveController(plant(), MPCConfig(margin=0.0)))
    assert costs.sum() == 0
    assert (returns > surprised).all(), "the set point changes at step 50"
    assert (returns > waits).all()


def test_one_step_is_solved_by_hand():
    """With one step left the best action brings the concentration nearest to the set point, without overheating."""
    planner = ForesightPlanner(plant(), GRID)
    table = planner.values([350.0], [0.35])
    state = np.array([[0.5, 350.0]])
    tried = np.linspace(-1, 1, 2001)[:, None]
    following = ReactorVector.integrate(np.repeat(state, 2001, axis=0), tried)
    by_hand = -np.abs(following[following[:, 1] <= 355, 0] - 0.35).min() / 0.1
    assert planner.expected_return(table, state)[0] == pytest.approx(by_hand, abs=0.02)


def test_feed_counts_as_heat():
    planner = ForesightPlanner(plant(), GRID)
    state = np.array([[0.5, 350.0]])
    later = np.zeros((1, 41, 66))
    cold, warm = (planner.best_action(later, state, np.array([feed]), np.array([0.506])) for feed in (346.0, 354.0))
    assert cold > warm


def assert_a_warm_feed_heats_the_plan_too() -> None:
    planner, state = ForesightPlanner(plant(), GRID), np.array([[0.5, 350.0]])
    cold, warm = (planner.expected_return(planner.values([feed], [0.35]), state)[0] for feed in (345.0, 355.0))
    assert warm > cold + 1e-3, "of two set points out of reach the warmer feed comes nearer"


def test_a_warm_feed_heats_the_plan_too(monkeypatch):
    assert_a_warm_feed_heats_the_plan_too()
    monkeypatch.setattr(reactor_foresight, "FEED_SHARE", 0.0)  # a planted fault
    with pytest.raises(AssertionError):
        assert_a_warm_feed_heats_the_plan_too()


def test_disturbances_do_not_depend_on_actions():
    feed, target = recorded_disturbances(plant(), SEED, STEPS)
    environment = plant()
    observation, _ = environment.reset(seed=SEED)
    for step in range(STEPS):
        np.testing.assert_allclose(environment.feed(observation), feed[step])
        np.testing.assert_allclose(set_point(observation), target[step])
        observation = environment.step(np.full((COPIES, 1), -0.5))[0]


@pytest.mark.parametrize("fault", ["present value", "no price", "other episode"])
def test_planted_fault_is_noticed(fault, followed, monkeypatch):
    """Each loses return, or breaks a limit, on the same episodes."""
    _, healthy, _ = followed
    made = controller()
    if fault == "present value":
        made.tables = np.concatenate([made.tables[:1], np.zeros_like(made.tables[1:])])
    elif fault == "no price":
        monkeypatch.setattr(ForesightPlanner, "_violations", lambda self, state: np.zeros(len(state)))
        made = controller()
    elif fault == "other episode":
        made.tables = made.tables[:, ::-1]
    returns, costs = return_of(made)
    assert (returns - 5 * costs.sum(axis=1)).sum() < healthy.sum() - 0.1


def test_bad_input_is_refused():
    planner = ForesightPlanner(plant(), GRID)
    with pytest.raises(ValueError, match=r"must both be \[T\], got \(2,\) and \(3,\)"):
        planner.values([350.0, 350.0], [0.5] * 3)
    made = ForesightController(planner, np.full((1, 2), 350.0), np.full((1, 2), 0.5))
    with pytest.raises(ValueError, match="planned for 2 episodes of 1 steps"):
        made.act(np.zeros((3, 5)))
