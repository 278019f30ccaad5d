"""The planner's bound against value iteration and against play, uniform moves against exact evaluation, and faults."""

import inspect
from dataclasses import replace
from types import ModuleType

import numpy as np
import pytest

from ca14lib.environments.tabular import uniform_policy
from ca14lib.environments.uncertain_grid import UncertainGridParameters, UncertainGridVector, uncertain_grid_model
from ca14lib.solvers import policy_return, uncertain_grid, value_iteration
from ca14lib.solvers.uncertain_grid import uncertain_grid_bound, uncertain_grid_plan, uncertain_grid_uniform


def altered(old: str, new: str) -> ModuleType:
    """The module with a piece of its source replaced."""
    source = inspect.getsource(uncertain_grid)
    assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in the source"
    module = ModuleType("altered_uncertain_grid")
    exec(compile(source.replace(old, new), "altered", "exec"), module.__dict__)
    return module


def drawn(count: int, seed: int = 0, **arguments) -> UncertainGridParameters:
    return UncertainGridVector(1, **arguments).draw(count, np.random.default_rng(seed))


def mazes(count: int) -> UncertainGridParameters:
    return drawn(count, 1, uncertainty=0.5, obstacles_anywhere=True, density=0.5)


def planned_returns(plan, parameters: UncertainGridParameters, seed: int) -> np.ndarray:
    """Return of one episode each, played on the true cells; the observations' noise does not matter to the planner."""
    environment = UncertainGridVector(len(parameters))
    environment.reset(seed=seed, options={"parameters": parameters})
    returns, running = np.zeros(len(parameters)), np.ones(len(parameters), bool)
    for step in range(100):
        cells = np.minimum(environment.cells, plan.side - 1)  # where an episode has ended, another grid may be wider
        _, reward, terminated, truncated, _ = environment.step(plan.act(cells, step))
        returns += running * reward
        running &= ~(terminated | truncated)
        if not running.any():
            break
    assert not running.any()
    return returns


def bound_is_that_of_value_iteration(module: ModuleType) -> None:
    for parameters in (drawn(6, uncertainty=0.5), mazes(6), drawn(3, uncertainty=0.0)):
        for limit in (1, 5, 14, 100):
            bound = module.uncertain_grid_bound(parameters, time_limit=limit)
            plan = module.uncertain_grid_plan(parameters, time_limit=limit)
            np.testing.assert_allclose(plan.bound, bound, atol=1e-12)
            for row in range(len(parameters)):
                model = uncertain_grid_model(parameters.rows(slice(row, row + 1)))
                assert bound[row] == pytest.approx(value_iteration(model, horizon=limit).optimal_return, abs=1e-9)


def bound_without_limit_is_that_of_value_iteration(module: ModuleType) -> None:
    for parameters in (drawn(8, uncertainty=0.5), mazes(8)):
        bound = module.uncertain_grid_bound(parameters, time_limit=None)
        for row in range(len(parameters)):
            model = uncertain_grid_model(parameters.rows(slice(row, row + 1)))
            assert bound[row] == pytest.approx(value_iteration(model).optimal_return, abs=1e-8)


def uniform_is_that_of_exact_evaluation(module: ModuleType) -> None:
    for parameters in (drawn(5, uncertainty=0.5), mazes(5)):
        for limit in (1, 7, 100):
            value = module.uncertain_grid_uniform(parameters, time_limit=limit)
            for row in range(len(parameters)):
                model = uncertain_grid_model(parameters.rows(slice(row, row + 1)))
                exact = policy_return(model, uniform_policy(model), horizon=limit)
                assert value[row] == pytest.approx(exact, abs=1e-9)


def the_planner_gets_its_bound(module: ModuleType) -> None:
    for seed, parameters in enumerate((drawn(1000, uncertainty=0.5), mazes(1000))):
        plan = module.uncertain_grid_plan(parameters)
        error = planned_returns(plan, parameters, seed) - plan.bound
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(len(error))
        assert error.std() < 10


PROPERTIES = [
    bound_is_that_of_value_iteration, bound_without_limit_is_that_of_value_iteration,
    uniform_is_that_of_exact_evaluation, the_planner_gets_its_bound,
]  # fmt: skip

FAULTS = {
    "failures are left out of the reward": (
        "expected = (1 - failure) * reward[:FAILED] + failure * reward[FAILED]", "expected = reward[:FAILED]",
        [bound_is_that_of_value_iteration, uniform_is_that_of_exact_evaluation],
    ),
    "a failed move reaches its cell": (
        "q *= 1 - failure", "q *= 1.0", [bound_is_that_of_value_iteration, uniform_is_that_of_exact_evaluation],
    ),
    "the episode goes on at the goal": (
        "        value += stay\n        value.reshape(-1)[goal] = 0.0\n", "        value += stay\n",
        [bound_is_that_of_value_iteration, uniform_is_that_of_exact_evaluation],
    ),
    "one step too few": (
        "for step in range(time_limit):", "for step in range(time_limit - 1):",
        [bound_is_that_of_value_iteration, uniform_is_that_of_exact_evaluation],
    ),
    "left and right are exchanged": ("q[3] > q[2]", "q[3] < q[2]", [the_planner_gets_its_bound]),
    "episodes with other obstacles share a plan": (
        "np.column_stack([parameters.size, parameters.action_failure, flat])",
        "np.column_stack([parameters.size, parameters.action_failure])[:, :1]",
        [bound_is_that_of_value_iteration],
    ),
    "delays cost nothing": (
        "gain = reward[:FAILED] + odds[:, None] * reward[FAILED]", "gain = reward[:FAILED]",
        [bound_without_limit_is_that_of_value_iteration],
    ),
    "uniform takes the best": ("q.mean(axis=0)", "q.max(axis=0)", [uniform_is_that_of_exact_evaluation]),
}  # fmt: skip


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda property_: property_.__name__.replace("_", "-"))
def test_property(holds):
    holds(uncertain_grid)


@pytest.mark.parametrize("name", FAULTS, ids=lambda name: name.replace(" ", "-"))
def test_planted_fault_is_caught(name):
    old, new, caught_by = FAULTS[name]
    module = altered(old, new)
    for holds in caught_by:
        with pytest.raises(AssertionError):
            holds(module)


def test_the_straight_walk_without_failures_is_a_sum():
    """The way from corner to corner: 2s − 2 steps, of which the last pays 10 and the d-th before it 0.1 + 0.01 d."""
    for size in (3, 6, 11):
        steps = 2 * size - 2
        expected = 10 - sum(0.1 + 0.01 * distance for distance in range(1, steps))
        bound = uncertain_grid_bound(UncertainGridParameters.of(size))
        assert bound == pytest.approx(expected)
        assert uncertain_grid_bound(UncertainGridParameters.of(size), time_limit=None) == pytest.approx(expected)
    assert uncertain_grid_bound(UncertainGridParameters.of(6)) == pytest.approx(8.65)
    assert uncertain_grid_uniform(UncertainGridParameters.of(6)) == pytest.approx(-9.178, abs=5e-4)


def test_no_policy_of_the_true_state_is_better_than_the_plan():
    parameters, generator = drawn(400, uncertainty=0.5), np.random.default_rng(0)
    bound = uncertain_grid_bound(parameters)
    for row in range(0, 400, 40):
        model = uncertain_grid_model(parameters.rows(slice(row, row + 1)))
        policy = generator.dirichlet(np.ones(4) * 0.3, size=model.num_states)
        assert policy_return(model, policy, horizon=100) < bound[row]
    assert (uncertain_grid_uniform(parameters) < bound).all()


def test_the_bound_falls_with_failures_and_with_the_size_and_ignores_noise():
    held = drawn(50, uncertainty=0.3)
    bounds = [uncertain_grid_bound(held.changed(action_failure=failure)) for failure in np.linspace(0, 1, 6)]
    assert (np.diff(bounds, axis=0) < 0).all()
    noisy = held.changed(observation_noise=1.0, reward_noise=3.0)
    np.testing.assert_array_equal(uncertain_grid_bound(noisy), uncertain_grid_bound(held))
    sizes = [uncertain_grid_bound(UncertainGridParameters.of(size))[0] for size in range(3, 31)]
    assert (np.diff(sizes) < 0).all()
    assert uncertain_grid_bound(held.changed(action_failure=1.0), time_limit=100) == pytest.approx(
        -100 * (0.1 + 0.02 * (held.size - 1))
    )


def test_obstacles_of_the_interior_never_lower_the_bound_and_those_of_mazes_seldom():
    """The way along two sides is a shortest one."""
    parameters = drawn(200, uncertainty=0.5)
    assert (parameters.num_obstacles > 1).any()
    cleared = replace(parameters, obstacles=np.zeros_like(parameters.obstacles))
    np.testing.assert_allclose(uncertain_grid_bound(parameters), uncertain_grid_bound(cleared), atol=1e-9)
    maze = mazes(200)
    cleared = replace(maze, obstacles=np.zeros_like(maze.obstacles))
    assert 0 < (uncertain_grid_bound(maze) < uncertain_grid_bound(cleared) - 0.1).mean() < 0.1


def test_the_limit_hardly_matters_at_the_originals_levels():
    for level in (0.1, 0.3, 0.5):
        parameters = drawn(300, uncertainty=level)
        np.testing.assert_allclose(
            uncertain_grid_bound(parameters), uncertain_grid_bound(parameters, time_limit=None), atol=1e-9
        )


def test_many_episodes_are_solved_in_blocks_and_keep_their_order():
    parameters = drawn(600, uncertainty=0.5)
    bound, uniform = uncertain_grid_bound(parameters), uncertain_grid_uniform(parameters)
    order = np.random.default_rng(0).permutation(600)
    np.testing.assert_allclose(uncertain_grid_bound(parameters.rows(order)), bound[order], atol=1e-12)
    np.testing.assert_allclose(uncertain_grid_uniform(parameters.rows(order[:5])), uniform[order[:5]], atol=1e-12)
    repeated = parameters.rows(np.zeros(1000, int))
    assert uncertain_grid_plan(repeated).table.shape[1] == 1


def test_bad_arguments_are_named():
    parameters = UncertainGridParameters.of(5, count=2)
    for solve in (uncertain_grid_bound, uncertain_grid_plan, uncertain_grid_uniform):
        with pytest.raises(ValueError, match="time_limit must be at least 1, got 0"):
            solve(parameters, time_limit=0)
        walled = UncertainGridParameters.of(5)
        walled.obstacles[0, [0, 1], [1, 0]] = True
        with pytest.raises(ValueError, match="obstacles must leave a way to the goal"):
            solve(walled)
    with pytest.raises(ValueError, match="action_failure must be under 1 without a time limit"):
        uncertain_grid_bound(parameters.changed(action_failure=1.0), time_limit=None)
    plan = uncertain_grid_plan(parameters, time_limit=9)
    with pytest.raises(ValueError, match=r"step must lie in 0…8, got 9"):
        plan.act(np.zeros((2, 2), int), 9)
    with pytest.raises(ValueError, match=r"cells must be of shape \(2, 2\) and in 0…4"):
        plan.act(np.full((2, 2), 5), 0)
