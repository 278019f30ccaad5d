"""UncertainGrid against the original's rules in plain Python and its exact model; draws, mazes, faults, bad input."""

import inspect
from collections import deque
from types import ModuleType

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ca14lib.environments import tabular_model, uncertain_grid
from ca14lib.environments.grid import AGENT, GOAL, TILE, WALL
from ca14lib.environments.uncertain_grid import (
    BEYOND,
    UncertainGrid,
    UncertainGridParameters,
    UncertainGridVector,
    maze_obstacles,
    reachable_goals,
    uncertain_grid_model,
)

ID = "CA14/UncertainGrid-v0"
UP, DOWN, LEFT, RIGHT = range(4)
NOISES = ("observation_noise", "action_failure", "reward_noise")


def altered(*changes: tuple[str, str]) -> ModuleType:
    """The module with pieces of its source replaced."""
    source = inspect.getsource(uncertain_grid)
    for old, new in changes:
        assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in the source"
        source = source.replace(old, new)
    module = ModuleType("altered_uncertain_grid")
    exec(compile(source, "altered", "exec"), module.__dict__)
    return module


class PlainGrid:
    """One episode without noise and failures, after the original's code."""

    def __init__(self, size: int, obstacles: list[tuple[int, int]]) -> None:
        self.size, self.obstacles, self.x, self.y, self.time = size, obstacles, 0, 0, 0

    def observation(self) -> list[float]:
        last = self.size - 1
        return [
            self.x / self.size, self.y / self.size, (last - self.x) / self.size, (last - self.y) / self.size,
            self.size / 10, len(self.obstacles) / 10,
        ]  # fmt: skip

    def step(self, action: int) -> tuple[float, bool, bool]:
        before = self.x, self.y
        self.time += 1
        if action == UP and self.y < self.size - 1:
            self.y += 1
        elif action == DOWN and self.y > 0:
            self.y -= 1
        elif action == LEFT and self.x > 0:
            self.x -= 1
        elif action == RIGHT and self.x < self.size - 1:
            self.x += 1
        done = self.x == self.y == self.size - 1
        if (self.x, self.y) in self.obstacles:
            self.x, self.y = before
            reward = -5.0
        elif done:
            reward = 10.0
        else:
            reward = -0.1 - 0.01 * (abs(self.x - self.size + 1) + abs(self.y - self.size + 1))
        return reward, done, self.time >= 100 and not done


def way_exists(size: int, obstacles: np.ndarray) -> bool:
    seen, queue = {(0, 0)}, deque([(0, 0)])
    while queue:
        x, y = queue.popleft()
        for cell in ((x, y + 1), (x, y - 1), (x - 1, y), (x + 1, y)):
            inside = 0 <= cell[0] < size and 0 <= cell[1] < size
            if inside and cell not in seen and not obstacles[cell]:
                seen.add(cell)
                queue.append(cell)
    return (size - 1, size - 1) in seen


# Properties: each takes the module, so that faults can be planted in it


def walks_are_those_of_the_original(module: ModuleType) -> None:
    for size, obstacles, seed in ((6, [(1, 1), (2, 3), (4, 4)], 0), (3, [], 1), (4, [(0, 1), (2, 2)], 2)):
        environment = module.UncertainGridVector(1, uncertainty=0.0)
        shown, info = environment.reset(seed=0, options={"size": size, "obstacles": obstacles})
        assert {key: value.tolist() for key, value in info.items()} == {
            "environment_size": [size], "noise_level": [0.0], "action_failure_prob": [0.0],
            "obstacles": [len(obstacles)],
        }  # fmt: skip
        plain, ended, episodes = PlainGrid(size, obstacles), False, 0
        for action in np.random.default_rng(seed).integers(4, size=400):
            np.testing.assert_array_equal(shown[0], np.array(plain.observation(), np.float32))
            assert environment.cells.tolist() == [[plain.x, plain.y]]
            expected = plain.step(action)
            shown, reward, terminated, truncated, info = environment.step(np.array([action]))
            assert (reward[0], terminated[0], truncated[0]) == (pytest.approx(expected[0]), *expected[1:])
            if ended := terminated[0] or truncated[0]:
                final = np.array(plain.observation(), np.float32)
                np.testing.assert_array_equal(info["final_obs"][0], final)
                shown, _ = environment.reset(options={"size": size, "obstacles": obstacles})
                plain, episodes = PlainGrid(size, obstacles), episodes + 1
        assert episodes >= 3 or ended


def a_failed_action_stays(module: ModuleType) -> None:
    copies = 4000
    environment = module.UncertainGridVector(copies, size=6, action_failure=0.3, num_obstacles=0, time_limit=None)
    environment.reset(seed=0)
    for action in (UP, UP, RIGHT):
        before = environment.cells
        environment.step(np.full(copies, action))
        step = environment.cells - before
        expected = (0, 1) if action == UP else (1, 0)
        moved = (step == expected).all(axis=1)
        assert (moved | (step == 0).all(axis=1)).all()
        assert abs((~moved).mean() - 0.3) < 4 * np.sqrt(0.21 / copies)
    stuck = module.UncertainGridVector(5, action_failure=1.0)
    stuck.reset(seed=0)
    for _ in range(20):
        stuck.step(np.full(5, UP))
    assert (stuck.cells == 0).all()


def simulation_equals_the_model(module: ModuleType) -> None:
    """Frequencies of the next cell and mean rewards, for each move in each cell that is visited."""
    copies = 2000
    environment = module.UncertainGridVector(copies, uncertainty=0.0)
    parameters = module.UncertainGridParameters.of(
        4, action_failure=0.25, reward_noise=0.2, obstacles=[(1, 1), (1, 3), (3, 0)], count=copies
    )
    model = module.uncertain_grid_model(parameters.rows(slice(1)))
    shown, _ = environment.reset(seed=3, options={"parameters": parameters})
    np.testing.assert_array_equal(shown, model.observation[np.zeros(copies, int)])
    generator, running = np.random.default_rng(0), np.ones(copies, bool)
    count, total = np.zeros(model.transition.shape), np.zeros(model.expected_reward.shape)
    for _ in range(60):
        state = environment.cells @ (4, 1)
        action = generator.integers(4, size=copies)
        shown, reward, terminated, _, info = environment.step(action)
        after = np.where(terminated, 15, environment.cells @ (4, 1))
        seen = info["final_obs"] if terminated.any() else shown
        np.testing.assert_array_equal(seen[running], model.observation[after[running]])
        np.add.at(count, (state[running], action[running], after[running]), 1)
        np.add.at(total, (state[running], action[running]), reward[running])
        running &= ~terminated
    visits = count.sum(axis=2)
    assert (visits > 300).sum() > 20
    often = visits > 100
    share = count[often] / visits[often][:, None]
    exact = model.transition[often]
    assert (abs(share - exact) <= 5 * np.sqrt(exact * (1 - exact) / visits[often][:, None]) + 1e-12).all()
    # two outcomes and the noise: a reward's deviation is at most half their distance, and the noise's
    mean = total[often] / visits[often]
    assert (abs(mean - model.expected_reward[often]) <= 5 * np.hypot(5.0, 0.2) / np.sqrt(visits[often])).all()
    certain = (exact.max(axis=1) == 1.0) & (model.expected_reward[often] > -1)
    assert (abs(mean - model.expected_reward[often])[certain] < 5 * 0.2 / np.sqrt(visits[often][certain])).all()


def a_run_repeats(module: ModuleType) -> None:
    actions = np.random.default_rng(0).integers(4, size=(60, 6))

    def history(environment) -> list:
        kept = [environment.reset(seed=5, options={"action_failure": 0.0})[0].tolist()]
        for action in actions:
            shown, reward, *_, info = environment.step(action)
            kept.append((shown.tolist(), reward.tolist(), info["environment_size"].tolist()))
        return kept

    environment = module.UncertainGridVector(6, uncertainty=0.5, obstacles_anywhere=True)
    first = history(environment)
    again, elsewhere = (
        first == history(made)
        for made in (environment, module.UncertainGridVector(6, uncertainty=0.5, obstacles_anywhere=True))
    )  # one word each: pytest would spell out how two long lists differ, which takes minutes
    assert again
    assert elsewhere


def noise_is_the_episodes_own(module: ModuleType) -> None:
    """All six features and the reward, and each copy with its own deviation."""
    deviation, scale = np.array([0.0, 0.05, 0.4]), np.array([0.0, 0.5, 2.0])
    environment = module.UncertainGridVector(3, uncertainty=0.0, time_limit=None)
    parameters = module.UncertainGridParameters.of(
        6, observation_noise=deviation, reward_noise=scale, action_failure=1.0, count=3
    )
    shown, _ = environment.reset(seed=0, options={"parameters": parameters})
    clear = uncertain_grid_model(UncertainGridParameters.of(6)).observation[0]
    errors, rewards = [shown - clear], []
    for _ in range(3000):
        shown, reward, *_ = environment.step(np.zeros(3, int))
        errors.append(shown - clear)
        rewards.append(reward + 0.2)
    error, reward = np.array(errors), np.array(rewards)
    assert (abs(error.std(axis=0) - deviation[:, None]) <= 0.07 * deviation[:, None] + 1e-7).all()
    assert (abs(error.mean(axis=0)) <= 5 * deviation[:, None] / np.sqrt(3001) + 1e-7).all()
    assert (abs(np.corrcoef(error[:, 1].T) - np.eye(6)) < 0.1).all()
    np.testing.assert_allclose(reward.std(axis=0), scale, rtol=0.07, atol=1e-12)
    assert (abs(reward.mean(axis=0)) <= 5 * scale / np.sqrt(3000) + 1e-12).all()


def draws_fill_the_originals_ranges(module: ModuleType) -> None:
    for base, level in ((6, 0.1), (6, 0.3), (6, 0.5), (10, 0.35), (4, 1.0)):
        drawn = module.UncertainGridVector(1, base_size=base, uncertainty=level).draw(6000, np.random.default_rng(1))
        variation = max(1, int(base * level))
        sizes = np.arange(max(3, base - variation), base + variation + 1)
        found, count = np.unique(drawn.size, return_counts=True)
        assert found.tolist() == sizes.tolist()
        assert (abs(count / 6000 - 1 / len(sizes)) < 5 * np.sqrt(1 / len(sizes) / 6000)).all()
        for name, factor in zip(NOISES, (1, 1, 5), strict=True):
            values = getattr(drawn, name) / (factor * level)
            assert 0 <= values.min() < 0.01
            assert 0.99 < values.max() <= 1
            assert abs(values.mean() - 0.5) < 5 * np.sqrt(1 / 12 / 6000)
        assert abs(np.corrcoef([drawn.size, *(getattr(drawn, name) for name in NOISES)]) - np.eye(4)).max() < 0.08
        for size in sizes:
            number = drawn.num_obstacles[drawn.size == size]
            assert number.min() == 0
            assert number.max() == max(0, size // 2 - 1) if size < 10 else number.max() > 2
            cells = drawn.obstacles[drawn.size == size]
            assert not cells[:, [0, size - 1]].any()
            assert not cells[:, :, [0, size - 1]].any()
            assert not cells[:, size:].any()
            assert cells[:, 1 : size - 1, 1 : size - 1].any(axis=0).all() == (size > 3)


def nothing_varies_at_level_zero(module: ModuleType) -> None:
    drawn = module.UncertainGridVector(1, uncertainty=0.0).draw(200, np.random.default_rng(0))
    assert (drawn.size == 6).all()
    assert not drawn.obstacles.any()
    assert not any(getattr(drawn, name).any() for name in NOISES)


def every_maze_has_a_way(module: ModuleType) -> None:
    blocked = 0
    for density in (0.3, 0.6, 0.9):
        environment = module.UncertainGridVector(
            1, uncertainty=0.5, obstacles_anywhere=True, density=density, base_size=7
        )
        drawn = environment.draw(150, np.random.default_rng(4))
        for size, obstacles in zip(drawn.size, drawn.obstacles, strict=True):
            assert way_exists(size, obstacles)
            assert not obstacles[[0, size - 1], [0, size - 1]].any()
            assert obstacles.sum() <= density * (size**2 - 2)
            blocked += obstacles[0].any() or obstacles[:, 0].any()  # on the border, where the original has none
    assert blocked > 200


def a_step_is_observed_once(module: ModuleType) -> None:
    """Copies that go on show in the final observation what they show in the observation."""
    environment = module.UncertainGridVector(40, uncertainty=0.5, time_limit=7)
    environment.reset(seed=0, options={"size": 3})
    found = 0
    for action in np.random.default_rng(0).integers(4, size=(40, 40)):
        shown, *_, info = environment.step(action)
        if "final_obs" in info and 0 < info["_final_obs"].sum() < 40:
            ended, found = info["_final_obs"], found + 1
            np.testing.assert_array_equal(shown[~ended], info["final_obs"][~ended])
            assert (shown[ended] != info["final_obs"][ended]).any(axis=1).all()
    assert found > 5


PROPERTIES = [
    walks_are_those_of_the_original, a_failed_action_stays, simulation_equals_the_model, a_run_repeats,
    noise_is_the_episodes_own, draws_fill_the_originals_ranges, nothing_varies_at_level_zero, every_maze_has_a_way,
    a_step_is_observed_once,
]  # fmt: skip

FAULTS = {
    "a failed action moves at random": (
        ("np.where(fails, FAILED, action)", "np.where(fails, generator.integers(4, size=self.num_envs), action)"),
        [a_failed_action_stays, simulation_equals_the_model],
    ),
    "a collision does not revert the move": (
        ("self._cell = np.where(entered == FREE, target", "self._cell = np.where(entered != OUTSIDE, target"),
        [walks_are_those_of_the_original, simulation_equals_the_model],
    ),
    "a move off the grid costs like a collision": (
        ("reward[entered == OBSTACLE] = -COLL", "reward[entered != FREE] = -COLL"),
        [walks_are_those_of_the_original],
    ),
    "the distance is that before the move": (
        ("distance = self._farthest - self._along.take(self._cell)",
         "distance = self._farthest - self._along.take(target - self._move.take(action))"),
        [walks_are_those_of_the_original],
    ),
    "noise comes from another generator": (
        ("noise = self.np_random.standard_normal", "noise = np.random.default_rng().standard_normal"),
        [a_run_repeats],
    ),
    "episodes drawn in advance survive a reset": (("self._stock = None  # drawn", "pass  # drawn"), [a_run_repeats]),
    "observation noise spares the last two features": (
        ("        noise *= deviation[:, None]\n",
         "        noise *= deviation[:, None]\n        noise[:, 4:] = 0\n"),
        [noise_is_the_episodes_own],
    ),
    "reward noise is not scaled": (
        ("self._reward_noise * generator.standard", "(self._reward_noise > 0) * generator.standard"),
        [noise_is_the_episodes_own],
    ),
    "reward noise is not five times the level": (
        ("5.0 * uncertainty", "uncertainty"), [draws_fill_the_originals_ranges],
    ),
    "the largest size is never drawn": (("self.size_range[1] + 1, count", "max(4, self.size_range[1]), count"),
                                        [draws_fill_the_originals_ranges]),
    "level zero draws sizes": (("if uncertainty else 0", "if True else 0"), [nothing_varies_at_level_zero]),
    "level zero draws obstacles": (
        ("not dynamic_obstacles or uncertainty == 0.0", "not dynamic_obstacles"), [nothing_varies_at_level_zero],
    ),
    "unreachable goals are kept": (("    if closed.size:", "    if False:"), [every_maze_has_a_way]),
    "noise is drawn at each look": (
        ("observation += self._noise", "observation += self._drawn_noise(self._observation_noise)"),
        [a_step_is_observed_once],
    ),
    "the model's failure moves": (
        ("failure * lands[:, FAILED:]", "failure * lands[:, :FAILED].mean(axis=1, keepdims=True)"),
        [simulation_equals_the_model],
    ),
}  # fmt: skip


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda property_: property_.__name__.replace("_", "-"))
def test_property(holds):
    holds(uncertain_grid)


@pytest.mark.parametrize("name", FAULTS, ids=lambda name: name.replace(" ", "-"))
def test_planted_fault_is_caught(name):
    change, caught_by = FAULTS[name]
    module = altered(change)
    for holds in caught_by:
        with pytest.raises(AssertionError):
            holds(module)


# Mazes


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 9), st.integers(0, 90), st.integers(0, 10**6))
def test_a_maze_has_a_way_and_as_many_obstacles_as_leave_one(size, count, seed):
    sizes = np.array([size, 3, size])
    mazes = maze_obstacles(sizes, np.array([count, 2, 0]), 9, np.random.default_rng(seed))
    for maze, side in zip(mazes, sizes, strict=True):
        assert way_exists(side, maze)
        assert not maze[[0, side - 1], [0, side - 1]].any()
        assert maze.sum() == maze[:side, :side].sum()
    assert mazes[0].sum() <= min(count, size**2 - 2)
    assert mazes[0].sum() >= min(count, size**2 - 2) - (2 * size - 3), "no path crosses more than the shortest one"
    assert mazes[2].sum() == 0
    # the fewest obstacles on a way are removed, so one that was none too many stays
    if count == 1:
        assert mazes[0].sum() == 1


def test_reachable_goals_are_those_of_a_search():
    generator = np.random.default_rng(0)
    size = generator.integers(3, 8, 400)
    obstacles = generator.random((400, 7, 7)) < 0.35
    obstacles[:, 0, 0] = obstacles[np.arange(400), size - 1, size - 1] = False
    expected = [way_exists(side, blocked) for side, blocked in zip(size, obstacles, strict=True)]
    assert 0.2 < np.mean(expected) < 0.8
    assert reachable_goals(size, obstacles).tolist() == expected


# Parameters, options, ranges


def test_ranges_given_replace_those_of_the_level():
    environment = UncertainGridVector(
        1, size=(4, 5), observation_noise=0.2, action_failure=(0.3, 0.6), reward_noise=(0.0, 0.1), num_obstacles=(1, 2)
    )
    drawn = environment.draw(500, np.random.default_rng(0))
    assert set(drawn.size) == {4, 5}
    assert (drawn.observation_noise == 0.2).all()
    assert drawn.action_failure.min() > 0.3
    assert 0.59 < drawn.action_failure.max() < 0.6
    assert drawn.reward_noise.max() < 0.1
    assert set(drawn.num_obstacles) == {1, 2}
    assert not UncertainGridVector(1, dynamic_obstacles=False).draw(200, np.random.default_rng(0)).obstacles.any()
    placed = UncertainGridVector(3, size=5, obstacles=[(2, 2), (0, 1)])
    placed.reset(seed=0)
    assert [tuple(cell) for cell in np.argwhere(placed.parameters.obstacles[2]).tolist()] == [(0, 1), (2, 2)]


def test_a_grid_of_parameters_holds_both_ends():
    environment = UncertainGridVector(1, uncertainty=0.5, action_failure=(0.1, 0.4))
    assert environment.parameter_grid("size", 7).tolist() == [3, 4, 5, 6, 7, 8, 9]
    assert environment.parameter_grid("size", 20).tolist() == [3, 4, 5, 6, 7, 8, 9]
    np.testing.assert_allclose(environment.parameter_grid("action_failure", 4), [0.1, 0.2, 0.3, 0.4])
    assert environment.parameter_grid("reward_noise", 2).tolist() == [0.0, 2.5]
    with pytest.raises(ValueError, match=r"name must be one of size, .* got 'obstacles'"):
        environment.parameter_grid("obstacles")
    with pytest.raises(ValueError, match="points must be at least 2, got 1"):
        environment.parameter_grid("size", 1)


def test_options_fix_what_they_name_until_the_next_episode():
    environment = UncertainGridVector(30, uncertainty=0.3, time_limit=5)
    environment.reset(seed=0, options={"size": 9, "action_failure": np.linspace(0, 1, 30)})
    drawn = environment.parameters
    assert (drawn.size == 9).all()
    np.testing.assert_array_equal(drawn.action_failure, np.linspace(0, 1, 30))
    assert len(set(drawn.observation_noise)) == 30
    for _ in range(5):
        *_, info = environment.step(np.full(30, UP))
    assert (info["final_info"]["environment_size"] == 9).all()
    assert (environment.parameters.size <= 7).all()
    environment.reset(options={"size": 4, "observation_noise": 0.0, "reward_noise": 1.5, "obstacles": [(1, 2)]})
    assert (environment.parameters.num_obstacles == 1).all()
    assert (environment.parameters.reward_noise == 1.5).all()
    environment.reset(options={})
    assert len(set(environment.parameters.size)) > 1


def test_parameters_are_those_of_the_running_episodes_and_can_be_replayed():
    first, second = (UncertainGridVector(50, uncertainty=0.5, obstacles_anywhere=True) for _ in range(2))
    first.reset(seed=1)
    for action in np.random.default_rng(0).integers(4, size=(40, 50)):
        *_, info = first.step(action)
    kept = first.parameters
    assert kept.size.tolist() == info["environment_size"].tolist()
    assert kept.action_failure.tolist() == info["action_failure_prob"].tolist()
    assert kept.num_obstacles.tolist() == info["obstacles"].tolist()
    second.reset(options={"parameters": kept})
    for name in ("size", *NOISES, "obstacles"):
        np.testing.assert_array_equal(getattr(kept, name), getattr(second.parameters, name))
    kept.size[:] = 3
    assert (first.parameters.size != 3).any(), "a copy was handed out"
    assert len(kept.rows(np.arange(50) % 2 == 0)) == 25
    single = UncertainGrid()
    single.reset(seed=0)
    assert len(single.parameters) == 1


def test_the_same_episodes_with_one_parameter_changed():
    held = UncertainGridVector(1, uncertainty=0.3).draw(20, np.random.default_rng(0))
    moved = held.changed(action_failure=0.9)
    assert (moved.action_failure == 0.9).all()
    np.testing.assert_array_equal(moved.observation_noise, held.observation_noise)
    np.testing.assert_array_equal(moved.obstacles, held.obstacles)
    with pytest.raises(ValueError, match="sets size, noise and failure, got slip"):
        held.changed(slip=0.1)
    with pytest.raises(ValueError, match=r"action_failure must lie in \[0, 1\], got 1.5"):
        held.changed(action_failure=1.5)


def test_observations_have_one_space_whatever_the_arguments_and_stay_in_it():
    spaces = [
        UncertainGridVector(2, **arguments).single_observation_space
        for arguments in ({}, {"uncertainty": 1.0}, {"base_size": 15, "obstacles_anywhere": True})
    ]
    assert all(space == spaces[0] for space in spaces)
    environment = UncertainGridVector(60, uncertainty=1.0, base_size=15, obstacles_anywhere=True, density=0.9)
    shown, _ = environment.reset(seed=0)
    for action in np.random.default_rng(0).integers(4, size=(30, 60)):
        assert shown in environment.observation_space
        shown, *_ = environment.step(action)


def test_a_central_critic_sees_the_truth_and_what_is_beside_the_walker():
    environment = UncertainGridVector(2)
    parameters = UncertainGridParameters.of(
        5, observation_noise=0.3, action_failure=[0.0, 1.0], obstacles=[(1, 0), (0, 2), (4, 1)], count=2
    )
    environment.reset(seed=0, options={"parameters": parameters})
    first = environment.central_state()
    assert first in gym.vector.utils.batch_space(environment.central_space, 2)
    np.testing.assert_allclose(first[0], [0, 0, 0.8, 0.8, 0.5, 0.3, 0.3, 0.0, 0, 0, 0, 1], atol=1e-6)
    environment.step(np.array([UP, UP]))
    state = environment.central_state()
    np.testing.assert_allclose(state[0], [0, 0.2, 0.8, 0.6, 0.5, 0.3, 0.3, 0.0, 1, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(state[1], [0, 0, 0.8, 0.8, 0.5, 0.3, 0.3, 1.0, 0, 0, 0, 1], atol=1e-6)
    state[:] = 7
    assert (environment.central_state() != 7).all()


def test_the_time_limit_truncates_and_is_not_observed():
    environment = UncertainGridVector(4, uncertainty=0.0)
    shown, _ = environment.reset(seed=0)
    for step in range(100):
        before = shown
        shown, _, terminated, truncated, info = environment.step(np.full(4, DOWN))
        assert not terminated.any()
        assert truncated.all() == (step == 99)
        np.testing.assert_array_equal(shown, before)
    np.testing.assert_array_equal(info["final_obs"], before)


def test_another_copy_has_the_same_ranges():
    environment = UncertainGridVector(
        2, uncertainty=0.3, obstacles_anywhere=True, density=0.1, action_failure=0.2, time_limit=17
    )
    other = environment.spawn(5)
    assert (other.num_envs, other.time_limit, other.density) == (5, 17, 0.1)
    assert other.obstacles_anywhere
    for name in ("size", *NOISES):
        assert getattr(other, f"{name}_range") == getattr(environment, f"{name}_range")


def test_only_an_environment_in_which_nothing_varies_has_a_model():
    for arguments in ({}, {"uncertainty": 0.0, "observation_noise": 0.1}, {"uncertainty": 0.0, "size": (5, 6)}):
        with pytest.raises(ValueError, match="no tabular model while parameters vary"):
            UncertainGridVector(1, **arguments).tabular_model()
    with pytest.raises(ValueError, match="no tabular model"):
        tabular_model(ID)
    fixed = UncertainGridVector(1, uncertainty=0.0, size=5, action_failure=0.2, obstacles=[(2, 2)])
    expected = uncertain_grid_model(UncertainGridParameters.of(5, action_failure=0.2, obstacles=[(2, 2)]))
    np.testing.assert_array_equal(fixed.tabular_model().transition, expected.transition)
    np.testing.assert_array_equal(fixed.tabular_model().reward, expected.reward)
    with pytest.raises(ValueError, match="of one episode, got parameters of 2"):
        uncertain_grid_model(UncertainGridParameters.of(5, count=2))


def test_the_picture_shows_obstacles_goal_walker_and_what_lies_beyond():
    environment = gym.make(ID, render_mode="rgb_array")
    environment.reset(seed=0, options={"size": 5, "obstacles": [(1, 2), (3, 3)]})
    picture = environment.render()
    assert picture.shape == (7 * TILE + 1, 7 * TILE + 1, 3)  # as wide as the largest grid, so that all fit

    def colour(x, y, offset=4):
        return tuple(picture[(6 - y) * TILE + offset, x * TILE + offset])

    assert colour(1, 2) == colour(3, 3) == WALL
    assert colour(4, 4) == GOAL
    assert colour(0, 0, TILE // 2) == AGENT
    assert colour(5, 0) == colour(6, 6) == colour(2, 5) == BEYOND


# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"uncertainty": -0.1}, r"uncertainty must lie in \[0, 1\], got -0.1"),
        ({"uncertainty": 1.01}, r"uncertainty must lie in \[0, 1\], got 1.01"),
        ({"uncertainty": float("nan")}, "uncertainty must lie"),
        ({"uncertainty": "high"}, "uncertainty must be a number .* got 'high'"),
        ({"base_size": 2}, "base_size must be at least 3, got 2"),
        ({"base_size": 6.0}, "base_size must be an integer, got 6.0"),
        ({"base_size": 28, "uncertainty": 0.5}, r"size must be \(least, greatest\) up to 30, got \(14, 42\)"),
        ({"size": 2}, "size must be at least 3, got 2"),
        ({"size": (5, 4)}, r"size must be \(least, greatest\) .*\(5, 4\)"),
        ({"size": (4, 5, 6)}, "size must be an integer"),
        ({"observation_noise": 1.5}, r"observation_noise must lie in \[0, 1\], got 1.5"),
        ({"action_failure": (0.2, 1.2)}, r"action_failure must lie in \[0, 1\], got 1.2"),
        ({"action_failure": (0.2, 0.1)}, r"action_failure must be \(least, greatest\), got \(0.2, 0.1\)"),
        ({"action_failure": "often"}, "action_failure must be a number or a pair"),
        ({"reward_noise": -1.0}, "reward_noise must be at least 0 and finite, got -1"),
        ({"reward_noise": float("inf")}, "reward_noise must be at least 0 and finite, got inf"),
        ({"num_obstacles": -1}, "num_obstacles must be at least 0, got -1"),
        ({"density": 1.0}, r"density must lie in \[0, 1\), got 1.0"),
        ({"obstacles_anywhere": True, "dynamic_obstacles": False}, "dynamic_obstacles=False forbids"),
        ({"obstacles": [(1, 1)]}, "obstacles need one size, got sizes 5 to 7"),
        ({"obstacles": [(1, 1)], "size": 5, "num_obstacles": 1}, "obstacles are given"),
        ({"obstacles": [(5, 1)], "size": 5}, r"obstacles must lie on the 5 × 5 grid, got \(5, 1\)"),
        ({"obstacles": [(0, 1), (1, 0)], "size": 5}, "obstacles must leave a way to the goal, episode 0 has none"),
        ({"num_envs": 0}, "num_envs must be at least 1"),
        ({"time_limit": 0}, "time_limit .* must be at least 1, got 0"),
        ({"render_mode": "human"}, "render_mode must be None"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        UncertainGridVector(**arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 0.1}, "unknown option 'level'; there are size, observation_noise, .* and parameters"),
        ({"size": 31}, r"size must lie in \[3, 30\], got 31"),
        ({"size": 5.5}, "size must be an integer, got 5.5"),
        ({"size": [5, 6, 7]}, r"size must be a number or of shape \(2,\), got shape \(3,\)"),
        ({"action_failure": -0.2}, r"action_failure must lie in \[0, 1\], got -0.2"),
        ({"reward_noise": [0.1, -2]}, "reward_noise must be at least 0 and finite, got -2"),
        ({"obstacles": [(1, 1)]}, r"options\['obstacles'\] needs options\['size'\]"),
        ({"size": 5, "obstacles": [(4, 4)]}, "obstacles must leave the goal free"),
        ({"size": 5, "obstacles": [(0, 0)]}, "obstacles must leave the start free"),
        ({"size": 5, "obstacles": [(1, 5)]}, r"obstacles must lie on the 5 × 5 grid, got \(1, 5\)"),
        ({"size": 5, "obstacles": [(1.0, 2.0)]}, r"obstacles must be cells \(x, y\) of integers"),
        ({"size": 4, "obstacles": [(2, 3), (3, 2)]}, "obstacles must leave a way to the goal, episode 0 has none"),
        ({"size": [6, 4], "obstacles": [(2, 3), (3, 2)]}, "a way to the goal, episode 1 has none"),
        ({"parameters": {"size": 5}}, "must be an UncertainGridParameters and the only option, got dict"),
        ({"parameters": UncertainGridParameters.of(5, count=3)}, "must have 2 rows, one a copy, got 3"),
        ({"parameters": UncertainGridParameters.of(5, count=2), "size": 4}, "the only option"),
    ],
)
def test_bad_options_are_named(options, message):
    environment = UncertainGridVector(2)
    with pytest.raises(ValueError, match=message):
        environment.reset(seed=0, options=options)


def test_bad_records_are_named():
    good = UncertainGridParameters.of(5, count=2)
    for changes, message in (
        ({"obstacles": np.zeros((2, 5, 5))}, r"obstacles must be bool of shape \[2, M, M\], got float64"),
        ({"obstacles": np.zeros((1, 5, 5), bool)}, r"shape \[2, M, M\], got bool of shape \(1, 5, 5\)"),
        ({"obstacles": np.ones((2, 6, 6), bool)}, r"must lie on the 5 × 5 grid, got \(0, 5\) in episode 0"),
        ({"size": np.array([5.5, 5])}, "size must be an integer, got 5.5"),
        ({"observation_noise": np.array([0.1, np.nan])}, "observation_noise must lie"),
    ):
        values = {name: getattr(good, name) for name in ("size", *NOISES, "obstacles")} | changes
        with pytest.raises(ValueError, match=message):
            UncertainGridParameters(**values).checked()
