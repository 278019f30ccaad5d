"""SafeCliff against its rules in plain Python, and what its numbers were chosen for: mean, tail and budget disagree."""

from collections import defaultdict
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.environments import SafeCliff, SafeCliffVector, TabularModel, tabular_model
from ca14lib.environments.grid import AGENT, TILE, WALL
from ca14lib.solvers import cvar_optimum

ID = "CA14/SafeCliff-v0"
UP, DOWN, LEFT, RIGHT = range(4)
Cell = tuple[int, int]


class PlainCliff:
    """The rules once more, drawn instead of computed; the gust is given."""

    def __init__(self, ledge: int = 4) -> None:
        self.rows = [
            "#~#" + "~" * ledge + "#",
            "S.." + "." * ledge + "G",
            ".#." + "#" * ledge + ".",
            ".#." + "." * ledge + ".",
        ]
        self.cells = [(x, y) for x in range(ledge + 4) for y in range(4)]

    def sign(self, cell: Cell) -> str:
        return self.rows[cell[1]][cell[0]]

    def moved(self, cell: Cell, action: int) -> Cell:
        dx, dy = {UP: (0, 1), DOWN: (0, -1), LEFT: (-1, 0), RIGHT: (1, 0)}[action]
        target = (cell[0] + dx, cell[1] + dy)
        inside = 0 <= target[0] < len(self.rows[0]) and 0 <= target[1] < 4
        return target if inside and self.sign(target) != "#" else cell

    def step(self, cell: Cell, action: int, gust: bool) -> Cell:
        if self.sign(cell) == "~":
            cell = (cell[0], cell[1] + 1)
        cell = self.moved(cell, action)
        return self.moved(cell, DOWN) if gust and self.sign(cell) != "G" else cell

    def reward(self, cell: Cell) -> float:
        return {"~": -10.0, "G": 20.0}.get(self.sign(cell), -1.0)

    def model(self, wind: float) -> tuple[np.ndarray, np.ndarray]:
        transition = np.zeros((len(self.cells), 4, len(self.cells)))
        for s, cell in enumerate(self.cells):
            for action in range(4):
                for gust, probability in ((False, 1 - wind), (True, wind)):
                    transition[s, action, self.cells.index(self.step(cell, action, gust))] += probability
        return transition, np.array([self.reward(cell) for cell in self.cells])


def assert_follows_the_plain_rules(environment: SafeCliffVector) -> None:
    plain, model = PlainCliff(environment.ledge), environment.tabular_model()
    transition, reward = plain.model(environment.wind)
    signs = np.array([plain.sign(cell) for cell in plain.cells])
    assert (model.terminal == (signs == "G")).all()
    assert plain.cells[model.initial.argmax()] == (0, 1)
    walked = np.isin(signs, list(".S~"))
    np.testing.assert_allclose(model.transition[walked], transition[walked], atol=1e-12)
    assert (model.reward[walked] == reward).all()
    assert (model.cost[0, walked] == (signs == "~")).all()
    np.testing.assert_array_equal(model.observation, plain.cells)


@given(ledge=st.integers(1, 6), wind=st.floats(0, 0.9))
def test_model_follows_the_plain_rules(ledge, wind):
    assert_follows_the_plain_rules(SafeCliffVector(1, ledge=ledge, wind=wind))


def blows_through_rock(environment: SafeCliffVector) -> None:
    x, y = np.divmod(np.arange(environment.width * 4), 4)
    environment._successors[1] = (x * 4 + np.maximum(y - 1, 0))[environment._successors[0]]


def climbs_out_before_it_moves(environment: SafeCliffVector) -> None:
    in_ravine = environment.ravine
    environment._successors[:, :, in_ravine] = np.flatnonzero(in_ravine) + 1


def blows_past_the_goal(environment: SafeCliffVector) -> None:
    goal = environment._goal_cell
    environment._successors[1][environment._successors[0] == goal] = goal + 1


def gust_instead_of_the_move(environment: SafeCliffVector) -> None:
    environment._successors[1] = environment._successors[0, DOWN]


@pytest.mark.parametrize(
    "fault", [blows_through_rock, climbs_out_before_it_moves, blows_past_the_goal, gust_instead_of_the_move]
)
def test_comparison_notices_wrong_rules(fault):
    environment = SafeCliffVector(1)
    fault(environment)
    with pytest.raises(AssertionError):
        assert_follows_the_plain_rules(environment)


def test_gate_is_the_only_way_to_the_goal():
    """Whatever the policy: without the cells of column 1, the start and the goal are not connected."""
    model = tabular_model(ID)
    column = np.arange(model.num_states) // 4
    reached, edges = model.initial > 0, (model.transition > 0).any(axis=1)
    for _ in range(model.num_states):
        reached = (reached | (reached @ edges > 0)) & (column != 1)
    assert not reached[model.terminal].any()


def test_walks_take_seven_and_eleven_steps_without_wind():
    for name, steps in (("ledge", 7), ("detour", 11)):
        environment = SafeCliffVector(1, wind=0.0)
        table = environment.behaviours()[name]
        observation, _ = environment.reset(seed=0)
        rewards, ended = [], np.zeros(1, dtype=bool)
        while not ended[0]:
            action = table[environment.state_index(observation)].argmax(axis=1)
            observation, reward, ended, _, info = environment.step(action)
            rewards.append(reward[0])
            assert info["cost"][0] == 0
        assert rewards == [-1.0] * (steps - 1) + [20.0]


def test_a_fall_costs_once_and_takes_no_time():
    """A gust at the gate: one step into the ravine, the next one out of it, beside a walker who did not fall."""
    environment = SafeCliffVector(2, wind=0.0)
    environment.reset(seed=0)
    environment._cell[0] = environment.cell_index((1, 0))
    environment._cell[1] = environment.cell_index((1, 1))
    observation, reward, _, _, info = environment.step(np.array([RIGHT, RIGHT]))
    assert observation[:, :2].tolist() == [[2, 1], [2, 1]]
    assert (reward.tolist(), info["cost"].tolist()) == ([-1, -1], [0, 0])


# The exact returns: the budget-augmented dynamic programme, written anew for this test


Policy = Callable[[int, int, int], int]


def returns_of(model: TabularModel, policy: Policy) -> dict[int, float]:
    """Distribution of the undiscounted return; the policy sees step, state and the rewards so far."""
    now, done = {(int(model.initial.argmax()), 0): 1.0}, defaultdict(float)
    for step in range(model.horizon):
        following = defaultdict(float)
        for (state, earned), share in now.items():
            action = policy(step, state, earned)
            for t in np.flatnonzero(model.transition[state, action]):
                total = earned + round(model.reward[state, action, t])
                probability = share * model.transition[state, action, t]
                if model.terminal[t]:
                    done[total] += probability
                else:
                    following[int(t), total] += probability
        now = following
    for (_, earned), share in now.items():
        done[earned] += share
    return dict(done)


def mean(distribution: dict[int, float]) -> float:
    return sum(value * share for value, share in distribution.items())


def lower_tail_mean(distribution: dict[int, float], tail: float) -> float:
    left, total = tail, 0.0
    for value in sorted(distribution):
        weight = min(distribution[value], left)
        total, left = total + weight * value, left - weight
    return total / tail


def risk_neutral_policy(model: TabularModel) -> Policy:
    value, choice = np.zeros(model.num_states), []
    for _ in range(model.horizon):
        q = (model.transition * (model.reward + value)).sum(axis=2)
        choice.append(q.argmax(axis=1))
        value = q.max(axis=1)
    return lambda step, state, earned: int(choice[model.horizon - 1 - step][state])


def budget_policy(model: TabularModel, aim: int) -> Policy:
    """Minimises the expected shortfall E[(aim − return)⁺], with the remaining budget in the state."""
    low = aim - 20 - 5
    budget = np.arange(low, aim + 10 * model.horizon + 1)
    entry = model.reward[int(model.initial.argmax()), 0].astype(int)  # of the cell entered
    shortfall, choice = np.maximum(budget, 0.0)[None].repeat(model.num_states, axis=0), []
    for _ in range(model.horizon):
        after = np.stack(
            [np.interp(budget - reward, budget, row, right=np.nan) for reward, row in zip(entry, shortfall)]
        )
        beyond = np.isnan(after)  # so far below the aim that the shortfall grows one for one
        after[beyond] = np.broadcast_to(budget + 10.0, after.shape)[beyond]
        q = np.einsum("sat,tb->sab", model.transition, after)
        q[model.terminal] = np.maximum(budget, 0.0)
        choice.append(q.argmin(axis=1))
        shortfall = q.min(axis=1)
    return lambda step, state, earned: int(choice[model.horizon - 1 - step][state, aim - earned - low])


@pytest.fixture(scope="module")
def model() -> TabularModel:
    return tabular_model(ID)


@pytest.fixture(scope="module")
def walks(model) -> dict[str, dict[int, float]]:
    behaviours = SafeCliffVector(1).behaviours()
    tables = {name: lambda t, s, r, table=behaviours[name]: int(table[s].argmax()) for name in ("ledge", "detour")}
    policies = tables | {"risk-neutral": risk_neutral_policy(model), "budget": budget_policy(model, 9)}
    return {name: returns_of(model, policy) for name, policy in policies.items()}


def test_every_distribution_is_whole(walks):
    for distribution in walks.values():
        assert sum(distribution.values()) == pytest.approx(1, abs=1e-12)


def test_best_mean_is_the_ledge(walks):
    assert mean(walks["risk-neutral"]) == pytest.approx(11.75, abs=1e-9)
    assert walks["risk-neutral"] == pytest.approx(walks["ledge"])
    assert mean(walks["detour"]) == pytest.approx(9.542, abs=1e-3)


def test_tail_ranks_the_walks_the_other_way_round(walks):
    """Mean of the worst tenth: ledge 2.86, detour 4.93, budget-dependent 6.03."""
    tails = {name: lower_tail_mean(distribution, 0.1) for name, distribution in walks.items()}
    assert tails["risk-neutral"] == pytest.approx(2.8597, abs=1e-3)
    assert tails["detour"] == pytest.approx(4.9291, abs=1e-3)
    assert tails["budget"] == pytest.approx(6.0343, abs=1e-3)


def test_solver_of_the_course_finds_the_same_optimum(model):
    """Among the policies with the best tail it takes one of the best mean."""
    optimum = cvar_optimum(model, 0.1)
    assert optimum.value == pytest.approx(6.0342, abs=1e-4)
    assert optimum.budget == 9
    assert optimum.expected_return == pytest.approx(9.653, abs=1e-3)


def test_no_other_aim_gives_a_better_tail(model, walks):
    best = lower_tail_mean(walks["budget"], 0.1)
    for aim in (2, 5, 7, 8, 10, 11, 12, 14):
        assert lower_tail_mean(returns_of(model, budget_policy(model, aim)), 0.1) <= best + 1e-9


def test_same_place_and_time_need_two_actions(model):
    """Leaving the platform at step 2: up for who has not fallen, right for who has."""
    policy, platform = budget_policy(model, 9), 2 * 4 + 1
    assert policy(2, platform, -2) == UP
    assert policy(2, platform, -11) == RIGHT


# The observed budget


def assert_budget_is_observed(environment: SafeCliffVector, aim: float, steps: int = 120) -> None:
    rng = np.random.default_rng(5)
    observation, _ = environment.reset(seed=3)
    earned = np.zeros(environment.num_envs)
    np.testing.assert_allclose(observation[:, 3], aim / 10, rtol=1e-6)
    for _ in range(steps):
        observation, reward, terminated, _, info = environment.step(rng.integers(4, size=environment.num_envs))
        earned += reward
        last = info["final_obs"] if terminated.any() else observation
        assert all(row in environment.single_observation_space for row in last)
        np.testing.assert_allclose(last[:, 3], (aim - earned) / 10, rtol=1e-6)
        earned[terminated] = 0
        np.testing.assert_allclose(observation[:, 3], (aim - earned) / 10, rtol=1e-6)


@pytest.mark.parametrize("aim", [9.0, -3.5, 0.0, 40.0])
def test_observed_budget_is_what_is_missing_to_the_aim(aim):
    assert_budget_is_observed(SafeCliffVector(16, observe_budget=aim, wind=0.3), aim)


class NeverForgets(SafeCliffVector):
    def _place(self, where, states):
        earned = self._earned.copy()
        super()._place(where, states)
        self._earned = earned


class CountsWrongWay(SafeCliffVector):
    def _observe(self):
        seen = super()._observe()
        seen[:, 3] = (self.observe_budget + self._earned) / 10
        return seen


class ForgetsTheLastReward(SafeCliffVector):
    def _transition(self, action):
        before = self._earned.copy()
        result = super()._transition(action)
        self._earned = before
        return result


@pytest.mark.parametrize("faulty", [NeverForgets, CountsWrongWay, ForgetsTheLastReward])
def test_check_of_the_budget_notices_the_fault(faulty):
    with pytest.raises(AssertionError):
        assert_budget_is_observed(faulty(16, observe_budget=9.0, wind=0.3), 9.0)


def test_budget_changes_nothing_but_the_observation():
    plain, budgeted = SafeCliffVector(8), SafeCliffVector(8, observe_budget=9)
    assert plain.reset(seed=4)[0].shape == (8, 3)
    budgeted.reset(seed=4)
    for action in np.random.default_rng(0).integers(4, size=(60, 8)):
        first, second = plain.step(action), budgeted.step(action)
        np.testing.assert_array_equal(first[0], second[0][:, :3])
        np.testing.assert_array_equal(first[1], second[1])
        np.testing.assert_array_equal(first[2], second[2])


def test_one_hot_cells_change_nothing_but_the_observation():
    plain, shown = SafeCliffVector(8, observe_budget=9), SafeCliffVector(8, observe_budget=9, one_hot=True)
    model = shown.tabular_model()
    plain.reset(seed=4), shown.reset(seed=4)
    for action in np.random.default_rng(0).integers(4, size=(60, 8)):
        first, second = plain.step(action), shown.step(action)
        cell = plain.state_index(first[0])
        np.testing.assert_array_equal(second[0], np.column_stack([model.observation[cell], first[0][:, 2:]]))
        np.testing.assert_array_equal(shown.state_index(second[0]), cell)
        np.testing.assert_array_equal(first[1], second[1])
        assert second[0] in shown.observation_space
    with pytest.raises(ValueError, match="one-hot cell of 32"):
        shown.state_index(np.zeros((2, 34)))
    check_env(gym.make(ID, one_hot=True).unwrapped, skip_render_check=True)


def test_environment_with_a_budget_passes_gymnasiums_checker():
    check_env(gym.make(ID, observe_budget=9.0).unwrapped, skip_render_check=True)


def test_spawn_keeps_every_parameter():
    given = {"ledge": 2, "wind": 0.2, "fall_reward": -6, "goal_reward": 15, "horizon": 30, "observe_budget": 4.0}
    given["one_hot"] = True
    spawned = SafeCliffVector(1, **given).spawn(3)
    assert {name: getattr(spawned, name) for name in given} == given
    assert spawned.num_envs == 3
    np.testing.assert_array_equal(spawned.tabular_model().reward, SafeCliffVector(1, **given).tabular_model().reward)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ledge": 0}, "ledge must be at least 1, got 0"),
        ({"ledge": 2.0}, r"ledge must be an integer, got 2\.0"),
        ({"wind": 1.0}, r"wind must lie in \[0, 1\), got 1\.0"),
        ({"wind": -0.1}, "wind"),
        ({"wind": float("nan")}, "wind .* nan"),
        ({"fall_reward": 1.0}, "fall_reward must be negative"),
        ({"fall_reward": float("-inf")}, "fall_reward .* -inf"),
        ({"goal_reward": 0.0}, "goal_reward must be positive"),
        ({"horizon": 0}, "horizon must be at least 1"),
        ({"horizon": None}, "horizon must be an integer, got None"),
        ({"observe_budget": float("nan")}, "observe_budget .* nan"),
    ],
)
def test_bad_parameter_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        SafeCliff(**arguments)


def test_picture_shows_rock_and_walker():
    environment = gym.make(ID, render_mode="rgb_array")
    environment.reset(seed=0)
    frame = environment.render()
    assert frame.shape == (4 * TILE + 1, 8 * TILE + 1, 3)
    assert tuple(frame[int(1.5 * TILE), int(4.5 * TILE)]) == WALL  # (4, 2), in the second row from the top
    assert tuple(frame[int(2.5 * TILE), int(0.5 * TILE)]) == AGENT
