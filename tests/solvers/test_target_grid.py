"""The bound against brute force and against play; the plan; the scripted team; faults that are noticed."""

import functools
import operator
from itertools import pairwise, permutations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ca14lib.environments import TargetGrid
from ca14lib.solvers import TargetGridPlan, assigned_policy, target_grid_bound, target_grid_plan


def placements(
    seed: int, count: int, size: int, agents: int, targets: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    game = TargetGrid(count, size=size, num_agents=agents, num_targets=targets)
    game.reset(seed=seed)
    collected = np.random.default_rng(seed).random((count, targets)) < 0.3
    return game.agent_cells, game.target_cells, collected


def walk(start: np.ndarray, stops: list[np.ndarray]) -> int:
    places = [start, *stops]
    return int(sum(abs(a - b).sum() for a, b in pairwise(places)))


def brute_makespan(agents: np.ndarray, targets: np.ndarray, wanted: list[int]) -> int:
    """Every assignment, and for every agent every order."""
    best = 10**6
    for owners in product(range(len(agents)), repeat=len(wanted)):
        spans = []
        for agent in range(len(agents)):
            mine = [targets[target] for target, owner in zip(wanted, owners) if owner == agent]
            spans.append(min(walk(agents[agent], list(order)) for order in permutations(mine)))
        best = min(best, max(spans))
    return best


def brute_bound(agents: np.ndarray, targets: np.ndarray, wanted: list[int], limit: int) -> float:
    """Over sets that fit into the limit, the return of collecting them all as fast as can be."""
    best = -np.inf
    for chosen in product((False, True), repeat=len(wanted)):
        part = [target for target, takes in zip(wanted, chosen) if takes]
        span = brute_makespan(agents, targets, part)
        if span <= limit:
            duration = span if len(part) == len(wanted) else limit
            best = max(best, 12 * len(part) - 0.1 * len(agents) * duration)
    return best


def plan_is_the_shortest(plan_of) -> None:
    for seed, (agents, targets) in enumerate([(1, 1), (1, 4), (2, 3), (3, 3), (4, 2)]):
        where, what, done = placements(seed, 30, 6, agents, targets)
        plan = plan_of(where, what, collected=done)
        for row in range(30):
            wanted = np.flatnonzero(~done[row]).tolist()
            assert plan.makespan[row] == brute_makespan(where[row], what[row], wanted)


def bound_is_that_of_brute_force(bound_of) -> None:
    for seed, (agents, targets, limit) in enumerate([(2, 3, 100), (2, 3, 4), (1, 3, 6), (3, 2, 1), (2, 3, 2)]):
        where, what, done = placements(seed, 30, 7, agents, targets)
        bound = bound_of(where, what, collected=done, time_limit=limit)
        for row in range(30):
            wanted = np.flatnonzero(~done[row]).tolist()
            assert bound[row] == pytest.approx(brute_bound(where[row], what[row], wanted, limit))


def played_returns(game: TargetGrid, policy, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Team returns of the first episodes, bounds from their starts, and which were finished."""
    observation, info = game.reset(seed=seed)
    bounds = target_grid_bound(game.agent_cells, game.target_cells, time_limit=game.time_limit)
    returns, running, finished = np.zeros(game.num_envs), np.ones(game.num_envs, bool), np.zeros(game.num_envs, bool)
    while running.any():
        observation, reward, terminated, truncated, info = game.step(policy(observation, info))
        returns += running * reward.sum(axis=1)
        finished |= running & terminated
        running &= ~(terminated | truncated)
    return returns, bounds, finished


def test_plan_has_the_makespan_of_brute_force():
    plan_is_the_shortest(target_grid_plan)


def test_bound_is_that_of_brute_force_within_any_limit():
    bound_is_that_of_brute_force(target_grid_bound)


def test_routes_visit_every_open_target_once_in_the_time_they_say():
    where, what, done = placements(3, 200, 8, 3, 5)
    plan = target_grid_plan(where, what, collected=done)
    for row in range(200):
        visited = [[target for target in route if target >= 0] for route in plan.routes[row].tolist()]
        assert sorted(functools.reduce(operator.iadd, visited, [])) == np.flatnonzero(~done[row]).tolist()
        spans = [walk(where[row, agent], list(what[row, stops])) for agent, stops in enumerate(visited)]
        assert spans == plan.lengths[row].tolist()
        assert max(spans) == plan.makespan[row]


def test_mean_bound_of_the_eight_by_eight_game_is_about_thirty_four():
    where, what, _ = placements(0, 4000, 8, 4, 3)
    assert target_grid_bound(where, what).mean() == pytest.approx(34.3, abs=0.06)


def test_bound_does_not_depend_on_the_order_of_agents_or_targets():
    where, what, _ = placements(1, 300, 8, 4, 4)
    bound = target_grid_bound(where, what)
    np.testing.assert_array_equal(bound, target_grid_bound(where[:, ::-1], what[:, [2, 0, 3, 1]]))


def test_one_agent_reaches_the_bound_by_walking_to_its_target():
    game = TargetGrid(300, num_agents=1, num_targets=1)
    returns, bounds, finished = played_returns(game, assigned_policy(game), seed=0)
    assert finished.all()
    np.testing.assert_allclose(returns, bounds, atol=1e-9)
    distance = np.abs(game.agent_cells - game.target_cells).sum()
    assert distance > 0


def test_one_agent_with_many_targets_reaches_the_bound():
    game = TargetGrid(300, num_agents=1, num_targets=5)
    returns, bounds, _ = played_returns(game, assigned_policy(game), seed=1)
    np.testing.assert_allclose(returns, bounds, atol=1e-9)


def test_scripted_team_comes_within_a_thousandth_of_the_bound_and_finishes_every_start():
    game = TargetGrid(2000)
    returns, bounds, finished = played_returns(game, assigned_policy(game), seed=2)
    assert finished.all()
    assert 0.999 < returns.mean() / bounds.mean() <= 1
    assert (returns > bounds - 0.5).all()  # at most one step is lost


def test_scripted_team_gets_through_where_it_is_crowded():
    game = TargetGrid(300, size=4, num_agents=8, num_targets=4)
    returns, bounds, finished = played_returns(game, assigned_policy(game), seed=3)
    assert finished.all()
    assert returns.mean() > 0.97 * bounds.mean()


def test_scripted_team_uses_the_first_symbol_where_there_is_a_channel():
    game = TargetGrid(50, message_channel=3, view_radius=1)
    returns, bounds, finished = played_returns(game, assigned_policy(game), seed=4)
    assert finished.all()
    assert returns.mean() > 0.999 * bounds.mean()


def returns_stay_under(bound_of, size: int, agents: int, targets: int, limit: int, seed: int) -> None:
    """Random teams, the scripted one, and mixtures of both."""
    for greed in (0.0, 0.7, 1.0):
        game = TargetGrid(40, size=size, num_agents=agents, num_targets=targets, time_limit=limit)
        script, rng = assigned_policy(game), np.random.default_rng(seed)

        def policy(observation, info, script=script, rng=rng, greed=greed):
            actions = script(observation, info)
            random = rng.integers(5, size=actions.shape)
            return np.where(rng.random(actions.shape) < greed, actions, random)

        returns, _, _ = played_returns(game, policy, seed)
        game.reset(seed=seed)
        bounds = bound_of(game.agent_cells, game.target_cells, time_limit=limit)
        assert (returns <= bounds + 1e-9).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 8), st.integers(1, 5), st.integers(1, 4), st.sampled_from([1, 3, 6, 15, 60]), st.integers(0, 999))
def test_no_team_exceeds_the_bound(size, agents, targets, limit, seed):
    if agents + targets <= size**2:
        returns_stay_under(target_grid_bound, size, agents, targets, limit, seed)


def test_short_limits_lower_the_bound():
    where, what, _ = placements(5, 500, 8, 2, 3)
    bounds = [target_grid_bound(where, what, time_limit=limit).mean() for limit in (1, 3, 6, 100)]
    assert bounds == sorted(bounds)
    assert bounds[0] < bounds[-1] - 10
    np.testing.assert_array_equal(
        target_grid_bound(where, what, time_limit=100), target_grid_bound(where, what, time_limit=None)
    )


def test_nothing_is_to_be_had_when_all_is_collected():
    where, what, _ = placements(0, 5, 8, 2, 2)
    done = np.ones((5, 2), dtype=bool)
    assert (target_grid_bound(where, what, collected=done) == 0).all()
    plan = target_grid_plan(where, what, collected=done)
    assert isinstance(plan, TargetGridPlan)
    assert (plan.routes == -1).all()
    assert (plan.makespan == 0).all()


@pytest.mark.parametrize(
    ("agents", "targets", "arguments", "message"),
    [
        (np.zeros((3, 2), int), np.zeros((3, 1, 2), int), {}, r"agents must be integers of shape \[N, number, 2\]"),
        (np.zeros((3, 1, 2)), np.zeros((3, 1, 2), int), {}, "agents must be integers .* got float64"),
        (np.zeros((3, 1, 2), int), np.zeros((2, 1, 2), int), {}, "equally many rows, got 3 and 2"),
        (np.zeros((3, 0, 2), int), np.zeros((3, 1, 2), int), {}, r"got int64 of shape \(3, 0, 2\)"),
        (np.zeros((3, 1, 2), int), np.zeros((3, 9, 2), int), {}, "at most 8 targets, got 9"),
        (np.zeros((3, 1, 2), int), np.zeros((3, 2, 2), int), {"collected": np.zeros((3, 1), bool)}, "collected must"),
        (np.zeros((3, 1, 2), int), np.zeros((3, 1, 2), int), {"time_limit": 0}, "time_limit .* at least 1, got 0"),
    ],
)
def test_bad_arguments_are_refused(agents, targets, arguments, message):
    with pytest.raises(ValueError, match=message):
        target_grid_bound(agents, targets, **arguments)


# Faults


def nearest_target_first(agents, targets, *, collected=None, time_limit=100):
    """Every target goes to the agent nearest to it, whoever else has less to do."""
    done = np.zeros(targets.shape[:2], bool) if collected is None else collected
    reach = np.abs(agents[:, :, None] - targets[:, None]).sum(-1)
    owner, spans = reach.argmin(axis=1), []
    for row in range(len(agents)):
        wanted = [[t for t in range(targets.shape[1]) if owner[row, t] == i and not done[row, t]]
                  for i in range(agents.shape[1])]  # fmt: skip
        spans.append(max(brute_makespan(agents[row, [i]], targets[row], mine) for i, mine in enumerate(wanted)))
    return 12 * (~done).sum(axis=1) - 0.1 * agents.shape[1] * np.array(spans)


def order_as_given(agents, targets, *, collected=None, time_limit=100):
    """Agents visit their targets in the order of the targets' numbers."""
    done = np.zeros(targets.shape[:2], bool) if collected is None else collected
    spans = []
    for row in range(len(agents)):
        wanted = np.flatnonzero(~done[row])
        options = product(range(agents.shape[1]), repeat=len(wanted))
        spans.append(min(
            max(walk(agents[row, i], [targets[row, t] for t, o in zip(wanted, owners) if o == i])
                for i in range(agents.shape[1]))
            for owners in options
        ))  # fmt: skip
    return 12 * (~done).sum(axis=1) - 0.1 * agents.shape[1] * np.array(spans)


def sum_of_ways(agents, targets, *, collected=None, time_limit=100):
    """As if agents walked one after another."""
    plan = target_grid_plan(agents, targets, collected=collected)
    open_targets = targets.shape[1] - (0 if collected is None else collected.sum(axis=1))
    return 12 * open_targets - 0.1 * agents.shape[1] * plan.lengths.sum(axis=1)


def one_agents_steps_paid(agents, targets, *, collected=None, time_limit=100):
    """The penalty of a step is charged once instead of to each agent: a bound, but not this one."""
    plan = target_grid_plan(agents, targets, collected=collected)
    open_targets = targets.shape[1] - (0 if collected is None else collected.sum(axis=1))
    return 12 * open_targets - 0.1 * plan.makespan


def limit_ignored(agents, targets, *, collected=None, time_limit=100):
    return target_grid_bound(agents, targets, collected=collected, time_limit=None)


@pytest.mark.parametrize(
    "faulty", [nearest_target_first, order_as_given, sum_of_ways, one_agents_steps_paid, limit_ignored]
)
def test_faulty_bounds_are_not_those_of_brute_force(faulty):
    with pytest.raises(AssertionError):
        bound_is_that_of_brute_force(faulty)


@pytest.mark.parametrize("faulty", [nearest_target_first, order_as_given, sum_of_ways])
def test_bounds_that_are_too_low_are_exceeded_by_play(faulty):
    with pytest.raises(AssertionError):
        returns_stay_under(faulty, 8, 3, 3, 60, seed=0)


def test_a_bound_that_ignores_the_limit_is_exceeded_by_an_unfinished_episode():
    """Far away targets cost the bound more than they bring, which a team that is cut off does not pay."""
    agents = np.stack([np.arange(30), np.zeros(30, int)], axis=-1)[None]
    targets = np.array([[[15, 60]]])
    assert limit_ignored(agents, targets) < -100
    assert target_grid_bound(agents, targets, time_limit=5) == pytest.approx(-15)


def plan_with_a_fault(agents, targets, *, collected=None):
    plan = target_grid_plan(agents, targets, collected=collected)
    return TargetGridPlan(plan.lengths.sum(axis=1), plan.routes, plan.lengths)


def test_a_plan_that_adds_ways_is_noticed():
    with pytest.raises(AssertionError):
        plan_is_the_shortest(plan_with_a_fault)
