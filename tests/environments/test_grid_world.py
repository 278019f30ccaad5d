"""GridWorld against a step written a second time in plain Python, and the rules of time limit and automatic reset."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.environments import GridEnvironment, GridWorld, GridWorldVector, behaviour_policy, tabular_model
from ca14lib.training import collect

ID = "CA14/GridWorld-v0"
UP, DOWN, LEFT, RIGHT = range(4)


class PlainGridWorld:
    """The rules once more, one agent, no arrays: 0 up, 1 down, 2 left, 3 right, clamped at the edges."""

    def __init__(self, size: int = 5, limit: int | None = 50) -> None:
        self.size, self.limit = size, limit
        self.reset()

    def reset(self) -> tuple[int, int]:
        self.x = self.y = self.time = 0
        return self.x, self.y

    def step(self, action: int) -> tuple[tuple[int, int], float, bool, bool]:
        if action == 0:
            self.y = min(self.y + 1, self.size - 1)
        elif action == 1:
            self.y = max(self.y - 1, 0)
        elif action == 2:
            self.x = max(self.x - 1, 0)
        else:
            self.x = min(self.x + 1, self.size - 1)
        self.time += 1
        terminated = self.x == self.y == self.size - 1
        truncated = not terminated and self.limit is not None and self.time >= self.limit
        return (self.x, self.y), 1.0 if terminated else -0.1, terminated, truncated


@given(size=st.integers(2, 7), limit=st.none() | st.integers(1, 60), actions=st.lists(st.integers(0, 3), max_size=130))
def test_single_environment_follows_the_plain_rules(size, limit, actions):
    environment, plain = GridWorld(size=size, time_limit=limit), PlainGridWorld(size, limit)
    observation, _ = environment.reset(seed=0)
    assert observation.dtype == np.float32
    assert tuple(observation) == plain.reset()
    for action in actions:
        observation, reward, terminated, truncated, _ = environment.step(action)
        assert (tuple(observation), reward, terminated, truncated) == plain.step(action)
        assert observation in environment.observation_space
        if terminated or truncated:
            observation, _ = environment.reset()
            assert tuple(observation) == plain.reset()


@given(size=st.integers(2, 4), limit=st.integers(1, 12), data=st.data())
def test_every_copy_of_a_batch_follows_the_plain_rules(size, limit, data):
    copies = 3
    steps = data.draw(st.lists(st.tuples(*[st.integers(0, 3)] * copies), min_size=1, max_size=40))
    environment = GridWorldVector(copies, size=size, time_limit=limit)
    plain = [PlainGridWorld(size, limit) for _ in range(copies)]
    environment.reset(seed=0)
    for actions in steps:
        observation, reward, terminated, truncated, info = environment.step(np.array(actions))
        ended = terminated | truncated
        assert ("final_obs" in info) == ended.any()
        for copy, action in enumerate(actions):
            position, *rest = plain[copy].step(action)
            assert [reward[copy], terminated[copy], truncated[copy]] == rest
            if ended.any():
                assert info["_final_obs"][copy] == ended[copy]
                assert tuple(info["final_obs"][copy]) == position
            assert tuple(observation[copy]) == (plain[copy].reset() if ended[copy] else position)


def test_shortest_path_takes_eight_steps_and_earns_0_3():
    environment = gym.make(ID)
    environment.reset(seed=0)
    rewards = [environment.step(action)[1] for action in [RIGHT, UP] * 4]
    assert rewards == [-0.1] * 7 + [1.0]
    assert sum(rewards) == pytest.approx(0.3)


def test_truncation_comes_at_step_50_exactly_and_once():
    environment = gym.make(ID)
    environment.reset(seed=0)
    truncated = [environment.step(DOWN)[2:4] for _ in range(50)]
    assert truncated == [(False, False)] * 49 + [(False, True)]
    with pytest.raises(gym.error.ResetNeeded):
        environment.unwrapped.step(DOWN)


def test_nothing_around_the_environment_truncates_a_second_time():
    environment = gym.make(ID)
    while isinstance(environment, gym.Wrapper):
        assert not isinstance(environment, gym.wrappers.TimeLimit)
        environment = environment.env
    assert gym.spec(ID).max_episode_steps is None


def test_reaching_the_goal_on_the_last_step_terminates_and_does_not_truncate():
    environment = GridWorldVector(2, time_limit=8)
    environment.reset(seed=0)
    for action in [RIGHT] * 4 + [UP] * 4:
        *_, terminated, truncated, _ = environment.step(np.array([action, DOWN]))
    assert terminated.tolist() == [True, False]
    assert truncated.tolist() == [False, True]


def test_batch_counts_its_limit_anew_after_every_reset():
    environment = GridWorldVector(3)
    environment.reset(seed=0)
    truncated = np.array([environment.step(np.full(3, LEFT))[3] for _ in range(150)])
    assert np.flatnonzero(truncated[:, 0]).tolist() == [49, 99, 149]
    assert (truncated == truncated[:, :1]).all()


def test_manual_reset_restarts_the_clock():
    environment = GridWorldVector(2)
    environment.reset(seed=0)
    for _ in range(30):
        environment.step(np.zeros(2, dtype=int))
    environment.reset()
    truncated = [environment.step(np.full(2, DOWN))[3].any() for _ in range(50)]
    assert truncated.index(True) == 49


def test_no_limit_never_truncates():
    environment = GridWorldVector(2, time_limit=None)
    environment.reset(seed=0)
    assert not any(environment.step(np.full(2, DOWN))[3].any() for _ in range(300))


def test_automatic_reset_inserts_no_step():
    """An agent that walks the 8-step path for ever terminates at every eighth step, counted in calls of ``step``."""
    environment = gym.make_vec(ID, num_envs=4)
    assert environment.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    environment.reset(seed=0)
    for number in range(1, 41):
        action = RIGHT if (number - 1) % 8 < 4 else UP
        observation, reward, terminated, _, info = environment.step(np.full(4, action))
        assert terminated.all() == (number % 8 == 0) == terminated.any()
        assert (reward == (1.0 if number % 8 == 0 else -0.1)).all()
        if number % 8 == 0:
            assert (info["final_obs"] == 4).all()
            assert (observation == 0).all()


def test_gymnasium_episode_statistics_agree_with_the_episodes():
    environment = gym.wrappers.vector.RecordEpisodeStatistics(gym.make_vec(ID, num_envs=2))
    environment.reset(seed=0)
    for action in [RIGHT] * 4 + [UP] * 4:
        *_, info = environment.step(np.array([action, DOWN]))
    episode = info["episode"] if "episode" in info else info["final_info"]["episode"]
    assert episode["l"][0] == 8
    assert episode["r"][0] == pytest.approx(0.3, abs=1e-6)


@pytest.mark.parametrize("size", [2, 5])
def test_behaviour_tables_are_what_their_names_say(size):
    behaviours = GridWorldVector(1, size=size).behaviours()
    assert set(behaviours) == {"expert", "mixed", "random"}
    for x in range(size):
        for y in range(size):
            state = x * size + y
            assert behaviours["random"][state].tolist() == [0.25] * 4
            if (x, y) == (size - 1, size - 1):
                continue
            expert = np.eye(4)[UP if x == size - 1 else RIGHT]
            np.testing.assert_array_equal(behaviours["expert"][state], expert)
            np.testing.assert_allclose(behaviours["mixed"][state], 0.7 * expert + 0.075, atol=1e-15)


@pytest.mark.parametrize("name", ["expert", "mixed", "random"])
def test_behaviour_data_have_the_behaviours_action_frequencies(name):
    data, table = collect(ID, name, 2_000, seed=1), behaviour_policy(ID, name)
    counts = data.visit_counts(tabular_model(ID))
    visits = counts.sum(axis=1, keepdims=True)
    deviation = np.abs(counts - visits * table)
    assert (counts[table == 0] == 0).all()
    assert (deviation <= 5 * np.sqrt(visits * table * (1 - table)) + 3).all()
    assert visits.sum() == len(data)


def test_expert_data_are_the_one_shortest_path():
    data = collect(ID, "expert", 20, seed=0)
    assert (data.episode_lengths() == 8).all()
    np.testing.assert_allclose(data.episode_returns(), 0.3, atol=1e-6)


def test_walls_cannot_be_entered_and_other_cells_can():
    walls = [(1, 0), (1, 1)]
    grid = GridEnvironment(
        1, width=3, height=4, start=(0, 0), goal=(2, 3), step_reward=-1, goal_reward=5, walls=walls, time_limit=None
    )
    grid.reset(seed=0)
    path = [(RIGHT, (0, 0)), (UP, (0, 1)), (RIGHT, (0, 1)), (UP, (0, 2)), (RIGHT, (1, 2)), (DOWN, (1, 2)), (UP, (1, 3))]
    for action, expected in path:
        observation, reward, *_ = grid.step(np.array([action]))
        assert tuple(observation[0]) == expected
        assert reward[0] == -1
    _, reward, terminated, _, info = grid.step(np.array([RIGHT]))
    assert (reward[0], terminated[0], tuple(info["final_obs"][0])) == (5, True, (2, 3))


@given(width=st.integers(1, 5), height=st.integers(2, 5), data=st.data())
def test_state_index_and_observation_are_inverse(width, height, data):
    grid = GridEnvironment(
        1,
        width=width,
        height=height,
        start=(0, 0),
        goal=(width - 1, height - 1),
        step_reward=0,
        goal_reward=1,
        time_limit=None,
    )
    cells = [(x, y) for x in range(width) for y in range(height)]
    chosen = data.draw(st.lists(st.sampled_from(cells), min_size=1))
    index = grid.state_index(np.array(chosen, dtype=np.float32))
    assert index.tolist() == [grid.cell_index(cell) for cell in chosen]
    assert sorted(grid.cell_index(cell) for cell in cells) == list(range(width * height))
    np.testing.assert_array_equal(grid.tabular_model().observation[index], chosen)


@pytest.mark.parametrize("cell", [(-1, 0), (0, 5), (5, 0), (0.5, 0)])
def test_observation_off_the_grid_has_no_state(cell):
    with pytest.raises(ValueError, match="is no cell of this grid"):
        GridWorldVector(1).state_index(np.array([cell], dtype=np.float32))
