"""SafeGrid against its rules in plain Python, its model, and the exact front between cost and return of its layouts."""

from collections import Counter
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.environments import tabular_model
from ca14lib.environments.grid import AGENT, TILE
from ca14lib.environments.safe_grid import (
    BORDER,
    HAZARD,
    SAFE_GRID_LAYOUTS,
    SafeGrid,
    SafeGridLayout,
    SafeGridVector,
)
from ca14lib.solvers import constrained_optimum, pareto_front

ID = "CA14/SafeGrid-v0"
UP, DOWN, LEFT, RIGHT = range(4)
LAYOUTS = list(SAFE_GRID_LAYOUTS)


class PlainSafeGrid:
    """The original layout once more, one agent, no arrays."""

    hazards = ((2, 2), (3, 1), (1, 3), (4, 3))

    def reset(self) -> None:
        self.x = self.y = self.time = 0

    def step(self, action: int) -> tuple[tuple[int, int], float, float, bool]:
        dx, dy = ((0, 1), (0, -1), (-1, 0), (1, 0))[action]
        self.x, self.y = min(max(self.x + dx, 0), 5), min(max(self.y + dy, 0), 5)
        self.time += 1
        cost = 1.0 if (self.x, self.y) in self.hazards else 0.1 if {self.x, self.y} & {0, 5} else 0.0
        arrived = (self.x, self.y) == (5, 5)
        return (self.x, self.y), 10.0 if arrived else -0.1, cost, arrived or self.time == 50


@given(actions=st.lists(st.integers(0, 3), max_size=120))
def test_the_original_layout_follows_the_plain_rules(actions):
    environment, plain = SafeGrid(), PlainSafeGrid()
    observation, info = environment.reset(seed=0)
    plain.reset()
    assert observation.tolist() == [0.0, 0.0, 1.0]
    assert info["cost"] == 0.0
    for action in actions:
        observation, reward, terminated, truncated, info = environment.step(action)
        cell, wanted, cost, ended = plain.step(action)
        assert observation.tolist() == pytest.approx([*cell, (50 - plain.time) / 50])
        assert observation in environment.observation_space
        assert (reward, info["cost"]) == pytest.approx((wanted, cost))
        assert np.shape(info["cost"]) == ()
        assert (terminated, truncated) == (ended, False)
        if ended:
            environment.reset()
            plain.reset()


@given(actions=st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=110))
def test_every_copy_of_a_batch_follows_the_plain_rules(actions):
    environment, plains = SafeGridVector(3), [PlainSafeGrid() for _ in range(3)]
    environment.reset(seed=0)
    for plain in plains:
        plain.reset()
    for action in actions:
        observation, reward, terminated, truncated, info = environment.step(np.array(action))
        assert not truncated.any()
        assert info["cost"].shape == (3,)
        for copy, plain in enumerate(plains):
            cell, wanted, cost, ended = plain.step(action[copy])
            assert reward[copy] == pytest.approx(wanted)
            assert terminated[copy] == ended
            seen, paid = (observation, info["cost"]) if not ended else (info["final_obs"], info["final_info"]["cost"])
            assert seen[copy].tolist() == pytest.approx([*cell, (50 - plain.time) / 50])
            assert paid[copy] == pytest.approx(cost)
            if ended:
                plain.reset()
                assert observation[copy].tolist() == [0.0, 0.0, 1.0]
                assert info["cost"][copy] == 0.0, "nothing is paid for the cell that an episode starts in"


def test_the_end_of_the_horizon_is_a_termination_that_the_observation_announced():
    environment = gym.make(ID)
    environment.reset(seed=0)
    shares = []
    for step in range(50):
        observation, _, terminated, truncated, _ = environment.step(DOWN)
        shares.append(observation[-1])
        assert (terminated, truncated) == (step == 49, False)
    assert shares == pytest.approx([(49 - step) / 50 for step in range(50)])
    short = SafeGridVector(1, horizon=3)
    short.reset(seed=0)
    assert [bool(short.step(np.array([DOWN]))[2][0]) for _ in range(3)] == [False, False, True]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("one_hot", [False, True])
def test_the_model_is_what_the_environment_does(layout, one_hot):
    """Frequencies of successors, and reward and cost of every single step."""
    environment = SafeGridVector(2_000, layout=layout, one_hot=one_hot)
    model, rng = environment.tabular_model(), np.random.default_rng(0)
    assert model.horizon == 50
    assert model.observes_time
    assert model.num_costs == 1
    cells = SAFE_GRID_LAYOUTS[layout].size ** 2
    observation, _ = environment.reset(seed=1)
    count = np.zeros((cells, 4, cells))
    reward = np.broadcast_to(model.reward if model.reward.ndim == 3 else model.reward[..., None], count.shape)
    cost = np.broadcast_to(model.cost[0] if model.cost.ndim == 4 else model.cost[0][..., None], count.shape)
    shown, age = np.stack([model.timed_observation(step) for step in range(51)]), np.zeros(2_000, dtype=int)
    for _ in range(60):
        state, action = environment.state_index(observation), rng.integers(4, size=2_000)
        assert (shown[age, state] == observation).all()
        observation, got, terminated, _, info = environment.step(action)
        ended, seen, paid = terminated, observation.copy(), info["cost"].copy()
        if ended.any():
            seen[ended], paid[ended] = info["final_obs"][ended], info["final_info"]["cost"][ended]
        following = environment.state_index(seen)
        np.add.at(count, (state, action, following), 1)
        age += 1
        assert (shown[age, following] == seen).all()
        assert ((model.terminal[following] | (age == 50)) == ended).all()
        age[ended] = 0
        np.testing.assert_allclose(got, reward[state, action, following])
        np.testing.assert_allclose(paid, cost[state, action, following])
    visits = count.sum(axis=2)
    assert (visits > 200).mean() > 0.5
    share = count / np.maximum(visits, 1)[..., None]
    spread = 6 * np.sqrt(model.transition * (1 - model.transition) / np.maximum(visits, 1)[..., None]) + 1e-9
    assert (abs(share - model.transition) <= spread)[visits > 0].all()


def test_a_slip_replaces_the_move_by_a_uniform_one():
    """The chosen move comes with 1 − 3/4 of the slip's probability, every other with a quarter of it."""
    layout = SafeGridLayout(5, (), goal=(4, 4), start=(2, 2), slip=0.4)
    environment = SafeGridVector(40_000, layout=layout)
    environment.reset(seed=0)
    observation = environment.step(np.full(40_000, UP))[0]
    share = Counter(map(tuple, observation[:, :2].astype(int).tolist()))
    for cell, wanted in (((2, 3), 0.7), ((2, 1), 0.1), ((1, 2), 0.1), ((3, 2), 0.1)):
        assert share[cell] / 40_000 == pytest.approx(wanted, abs=0.01)
    index = environment.cell_index
    row = environment.tabular_model().transition[index((2, 2)), UP]
    assert [row[index(cell)] for cell in ((2, 3), (2, 1), (1, 2), (3, 2))] == pytest.approx([0.7, 0.1, 0.1, 0.1])


# The layouts


def test_a_hazard_on_the_border_costs_both():
    environment = SafeGridVector(1, layout=SafeGridLayout(4, ((0, 2), (1, 1)), goal=(3, 3), border_cost=0.25))
    cost = environment.cell_cost.reshape(4, 4)
    assert cost[0, 2] == 1.25
    assert cost[1, 1] == 1.0
    assert cost[1, 2] == 0.0
    assert cost[3, 3] == cost[0, 0] == 0.25


@pytest.mark.parametrize(
    "layout, corners",
    [("original", [(0.1, -5.0), (0.6, 9.1)]), ("bridges", [(0.0, 3.5), (1.0, 6.5), (2.0, 7.5)])],
)
def test_the_front_between_cost_and_return_has_these_corners(layout, corners):
    front = pareto_front(SafeGridVector(layout=layout).tabular_model())
    found = np.stack([front.costs, front.returns], axis=1)
    np.testing.assert_allclose(found, corners, atol=1e-9)


def test_the_original_layouts_optimum_within_limits_is_a_mixture_of_staying_and_going():
    model = tabular_model(ID)
    for limit, optimum in ((0.1, -5.0), (0.3, 0.64), (0.5, 6.28), (0.6, 9.1), (5.0, 9.1)):
        solution = constrained_optimum(model, limit)
        assert solution.optimal_return == pytest.approx(optimum, abs=1e-6)
        assert solution.costs[0] <= limit + 1e-9
    assert constrained_optimum(model, 0.3).multipliers[0] == pytest.approx(28.2, abs=1e-6)


def test_the_shore_offers_more_than_two_levels_of_care():
    """The nearer to the hazards, the better and the dearer: no corner is a policy that pays nothing."""
    front = pareto_front(SafeGridVector(layout="shore").tabular_model())
    assert len(front.costs) > 5
    assert (np.diff(front.costs) > 0).all()
    assert (np.diff(front.multipliers) < 0).all()


def test_within_reach_of_the_bridges_the_gap_is_the_long_way_round():
    """Fewest steps to the goal by the number of hazards entered: 14 without, 8 with one, 6 straight through two."""
    layout = SAFE_GRID_LAYOUTS["bridges"]
    hazards, fewest = set(layout.hazards), {}
    reached, frontier = {(layout.start, 0)}, [(layout.start, 0)]
    for step in range(1, 20):
        following = []
        for (x, y), entered in frontier:
            for dx, dy in ((0, 1), (0, -1), (-1, 0), (1, 0)):
                cell = (x + dx, y + dy)
                node = (cell, entered + (cell in hazards))
                if 0 <= cell[0] < 7 and 0 <= cell[1] < 7 and node not in reached and node[1] <= 2:
                    reached.add(node)
                    following.append(node)
                    if cell == layout.goal:
                        fewest.setdefault(node[1], step)
        frontier = following
    returns = {entered: 10 - 0.5 * (steps - 1) for entered, steps in fewest.items()}
    assert returns == {0: 3.5, 1: 6.5, 2: 7.5}


# One-hot cells, copies, pictures


def test_one_hot_observations_are_the_same_walk_told_otherwise():
    plain, told = SafeGridVector(5), SafeGridVector(5, one_hot=True)
    model = told.tabular_model()
    shown = np.stack([model.timed_observation(step) for step in range(51)])
    assert told.single_observation_space.shape == shown.shape[2:]
    actions = np.random.default_rng(0).integers(4, size=(120, 5))
    first, second = plain.reset(seed=0)[0], told.reset(seed=0)[0]
    for action in actions:
        cell, elapsed = plain.state_index(first), np.round(50 * (1 - first[:, -1])).astype(int)
        assert (cell == told.state_index(second)).all()
        assert (second == shown[elapsed, cell]).all()
        assert (second[:, :36] == np.eye(36)[cell]).all()
        assert all(told.single_observation_space.contains(one) for one in second)
        first, second = plain.step(action)[0], told.step(action)[0]
    with pytest.raises(ValueError, match="one-hot cell of 36"):
        told.state_index(np.zeros((1, shown.shape[2]), np.float32))
    with pytest.raises(ValueError, match="no cell of this grid"):
        plain.state_index(np.array([[0.5, 0.0, 1.0]]))


@pytest.mark.parametrize("one_hot", [False, True])
def test_observations_tell_every_time_from_every_other(one_hot):
    model = SafeGridVector(1, one_hot=one_hot).tabular_model()
    assert len(np.unique([model.timed_observation(step)[0] for step in range(51)], axis=0)) == 51


def test_restarts_begin_anywhere_at_any_time_and_only_in_their_share_of_the_copies():
    environment = SafeGridVector(400, restarts=0.5)
    observation, info = environment.reset(seed=0)
    restarted = info["restarted"]
    assert restarted.tolist() == [False] * 200 + [True] * 200
    for _ in range(60):
        assert (observation[:, -1] > 0).all(), "no episode begins at its end"
        assert not (environment.state_index(observation) == environment.cell_index((5, 5))).any()
        observation, _, terminated, _, info = environment.step(np.full(400, LEFT))
        assert (info["restarted"] == restarted).all()
        assert (observation[terminated & ~restarted] == [0.0, 0.0, 1.0]).all()
    first, _ = environment.reset(seed=0)
    assert len(np.unique(first[restarted], axis=0)) > 150
    assert (first[~restarted] == [0.0, 0.0, 1.0]).all()
    second, _ = environment.reset(seed=0)
    assert (first == second).all()
    assert "restarted" not in SafeGridVector(2).reset(seed=0)[1]


def test_a_spawned_environment_has_the_same_layout_horizon_and_observations():
    environment = SafeGridVector(2, layout="shore", horizon=7, one_hot=True, restarts=0.5)
    other = environment.spawn(3)
    assert (other.num_envs, other.layout, other.horizon, other.one_hot) == (3, environment.layout, 7, True)
    assert other.restarts == 0.5
    assert other.layout == replace(SAFE_GRID_LAYOUTS["shore"], horizon=7)
    policy = environment.behaviours()["random"]
    assert policy.shape == (36, 4)
    assert np.allclose(policy, 0.25)


def test_the_picture_shows_hazards_borders_goal_and_agent():
    environment = gym.make(ID, render_mode="rgb_array")
    environment.reset(seed=0)
    picture = environment.render()

    def colour(x, y, offset=4):
        return tuple(picture[(5 - y) * TILE + offset, x * TILE + offset])

    assert all(colour(*cell) == HAZARD for cell in SAFE_GRID_LAYOUTS["original"].hazards)
    assert colour(0, 3) == colour(4, 0) == colour(5, 2) == BORDER
    assert colour(0, 0, TILE // 2) == AGENT
    assert colour(2, 3) not in (HAZARD, BORDER)
    assert colour(5, 5) not in (HAZARD, BORDER)


# Bad input


@pytest.mark.parametrize(
    "arguments, complaint",
    [
        ({"layout": "maze"}, "unknown layout 'maze'; there are original, bridges, shore"),
        ({"layout": SafeGridLayout(4, ((4, 0),), goal=(3, 3))}, r"hazards must lie on the 4 × 4 grid, got \(4, 0\)"),
        ({"layout": SafeGridLayout(4, ((0, -1),), goal=(3, 3))}, r"hazards must lie .* got \(0, -1\)"),
        ({"layout": SafeGridLayout(4, (), goal=(4, 4))}, "goal must lie on"),
        ({"layout": SafeGridLayout(4, (), goal=(0, 0))}, "must be different cells"),
        ({"layout": SafeGridLayout(4, (), goal=(3, 3), slip=1.0)}, r"slip must lie in \[0, 1\), got 1.0"),
        ({"layout": SafeGridLayout(4, (), goal=(3, 3), slip=-0.1)}, "slip must lie"),
        ({"layout": SafeGridLayout(4, (), goal=(3, 3), slip=float("nan"))}, "slip must lie"),
        (
            {"layout": SafeGridLayout(4, (), goal=(3, 3), hazard_cost=-1.0)},
            "costs must be finite and not negative, got -1.0",
        ),
        (
            {"layout": SafeGridLayout(4, (), goal=(3, 3), border_cost=float("nan"))},
            "costs must be finite and not negative",
        ),
        ({"restarts": 1.0}, r"restarts must lie in \[0, 1\), got 1.0"),
        ({"restarts": -0.1}, "restarts must lie"),
        ({"horizon": 0}, "horizon .* must be at least 1, got 0"),
        ({"horizon": 2.5}, "horizon .* must be an integer, got 2.5"),
        ({"num_envs": 0}, "num_envs must be at least 1"),
    ],
)
def test_bad_arguments_are_named(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        SafeGridVector(**arguments)
    if "num_envs" not in arguments:
        with pytest.raises(ValueError, match=complaint):
            SafeGrid(**arguments)
