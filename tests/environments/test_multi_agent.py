"""The base class of games and its PettingZoo view, by PettingZoo's own tests, on small games; errors; faults."""

import gymnasium as gym
import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

from ca14lib.environments import MultiAgentEnvironment, ParallelView, TargetGrid, joint_spaces, multi_agent_environment

GAMES = {
    "plain": {},
    "alone": {"num_agents": 1, "num_targets": 1, "size": 3},
    "radius": {"view_radius": 2},
    "messages": {"message_channel": 3},
    "competitive": {"competitive": True, "team_weight": 0.5},
    "short": {"time_limit": 5},
}


class Meeting(MultiAgentEnvironment):
    """Agents on a line walk by their actions; one leaves when it is past 3, all end when the last has left."""

    def __init__(self, num_envs: int = 1, num_agents: int = 3, time_limit: int | None = 20) -> None:
        space = gym.spaces.Box(-10, 10, (1,), np.float32)
        super().__init__(
            num_envs, num_agents, space, gym.spaces.Box(-1, 1, (1,), np.float32),
            gym.spaces.Box(-10, 10, (num_agents,), np.float32), time_limit=time_limit,
        )  # fmt: skip
        self.place = np.zeros((num_envs, num_agents))

    def _restart(self, count, options):
        return self.np_random.random((count, self.num_agents))

    def _place(self, where, states):
        self.place[where] = states

    def _transition(self, action):
        here = self.place <= 3
        self.place = self.place + np.where(here, action[..., 0], 0.0)
        return np.where(here, action[..., 0], 0.0), (self.place > 3).all(axis=1)

    def _observe(self):
        return np.where(self.place <= 3, self.place, 0.0)[..., None].astype(np.float32)

    def _state(self):
        return self.place.astype(np.float32)

    def _report(self):
        return {"alive": self.place <= 3, "far": self.place.max(axis=1)}

    def spawn(self, num_envs):
        return type(self)(num_envs, self.num_agents, self.time_limit)


# PettingZoo's tests


@pytest.mark.parametrize("name", GAMES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_view_passes_pettingzoos_interface_test(name):
    parallel_api_test(ParallelView(TargetGrid(1, **GAMES[name])), num_cycles=150)


@pytest.mark.parametrize("name", GAMES)
def test_view_passes_pettingzoos_seed_test(name):
    parallel_seed_test(lambda: ParallelView(TargetGrid(1, **GAMES[name])), num_cycles=40)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_view_of_a_game_that_agents_leave_early_passes_both():
    parallel_api_test(ParallelView(Meeting()), num_cycles=150)
    parallel_seed_test(lambda: ParallelView(Meeting()), num_cycles=40)


# The view shows the batched game


def test_view_steps_as_the_batched_game_does():
    game, view = TargetGrid(1), ParallelView(TargetGrid(1))
    rng = np.random.default_rng(0)
    joint, info = game.reset(seed=4)
    shown, infos = view.reset(seed=4)
    for _ in range(30):
        for index, name in enumerate(view.possible_agents):
            np.testing.assert_array_equal(shown[name], joint[0, index])
            np.testing.assert_array_equal(infos[name]["state"], info["state"][0])
            assert infos[name]["collected_by"] == info["collected_by"][0, index]
            assert infos[name]["remaining"] == info["remaining"][0]
        np.testing.assert_array_equal(view.state(), info["state"][0])
        actions = rng.integers(5, size=(1, 4))
        joint, reward, terminated, _, info = game.step(actions)
        shown, rewards, ends, _, infos = view.step(dict(zip(view.possible_agents, actions[0])))
        assert [rewards[name] for name in view.possible_agents] == reward[0].tolist()
        assert set(ends.values()) == {bool(terminated[0])}
        if terminated[0]:
            break


def test_view_shows_the_last_state_and_refuses_to_go_on():
    view = ParallelView(TargetGrid(1, num_agents=1, num_targets=1))
    view.reset(options={"agents": [(0, 0)], "targets": [(1, 0)]})
    shown, rewards, terminated, truncated, infos = view.step({"agent_0": 4})
    np.testing.assert_allclose(shown["agent_0"], [1 / 8, 0, 0, 0])
    assert (rewards["agent_0"], terminated["agent_0"], truncated["agent_0"]) == (pytest.approx(11.9), True, False)
    assert infos["agent_0"]["remaining"] == 0
    assert view.agents == []
    np.testing.assert_allclose(view.state(), [1 / 8, 0, 1 / 8, 0, 1])
    with pytest.raises(gym.error.ResetNeeded, match=r"call reset\(\) before the next step"):
        view.step({"agent_0": 0})
    view.reset()
    assert view.agents == ["agent_0"]


def test_time_limit_truncates_every_agent_of_the_view():
    view = ParallelView(TargetGrid(1, time_limit=2))
    view.reset(options={"agents": [(0, 0), (1, 0), (2, 0), (3, 0)], "targets": [(7, 7), (6, 7), (5, 7)]})
    stay = dict.fromkeys(view.possible_agents, 0)
    assert not any(view.step(stay)[3].values())
    _, _, terminated, truncated, _ = view.step(stay)
    assert all(truncated.values())
    assert not any(terminated.values())
    assert view.agents == []


def test_who_has_left_is_gone_from_the_view_and_needs_no_action():
    view = ParallelView(Meeting(time_limit=None))
    view.reset(seed=0)
    go, stay = np.ones(1, np.float32), np.zeros(1, np.float32)
    for _ in range(4):
        _, _, terminated, _, _ = view.step({"agent_0": go, "agent_1": stay, "agent_2": stay})
        if terminated["agent_0"]:
            break
    assert view.agents == ["agent_1", "agent_2"]
    shown, rewards, terminated, _, _ = view.step({"agent_1": go, "agent_2": stay})
    assert set(shown) == set(rewards) == set(terminated) == {"agent_1", "agent_2"}
    assert rewards == {"agent_1": 1.0, "agent_2": 0.0}


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ({"agent_0": 0, "agent_1": 0, "agent_3": 0}, "agent_2's is missing"),
        ({f"agent_{index}": 5 for index in range(4)}, "must lie in 0…4, got 5"),
        ({f"agent_{index}": -1 for index in range(4)}, "must lie in 0…4, got -1"),
    ],
)
def test_view_refuses_wrong_actions(actions, message):
    view = ParallelView(TargetGrid(1))
    view.reset(seed=0)
    with pytest.raises(ValueError, match=message):
        view.step(actions)


def test_view_is_of_one_copy():
    with pytest.raises(ValueError, match="shows one copy, got num_envs=2"):
        ParallelView(TargetGrid(2))


def test_view_renders_the_game():
    view = ParallelView(TargetGrid(1, render_mode="rgb_array"))
    view.reset(seed=0)
    assert view.render().shape == (321, 321, 3)
    assert ParallelView(TargetGrid(1)).render() is None


# The batched game


@pytest.mark.parametrize("make", [lambda n: TargetGrid(n, size=3, num_agents=2, time_limit=6), Meeting])
def test_copies_reset_themselves_and_say_how_the_episode_ended(make):
    game = make(20)
    ends = ends_hold_the_last_state(game)
    assert ends > 20


def ends_hold_the_last_state(game: MultiAgentEnvironment) -> int:
    """Number of ends, each checked against a second game that is stepped without automatic reset."""
    rng, ends = np.random.default_rng(0), 0
    observation, info = game.reset(seed=1)
    for _ in range(30):
        space = game.agent_action_space
        shape = (game.num_envs, game.num_agents)
        if isinstance(space, gym.spaces.Discrete):
            action = rng.integers(space.n, size=shape)
        else:
            action = rng.uniform(0, 1, (*shape, 1)).astype(np.float32)
        seen = {}
        advance = game.advance

        def recorded(action, advance=advance, seen=seen):
            result = advance(action)
            seen["observation"], seen["state"] = game._observe(), game._state()
            return result

        game.advance = recorded
        observation, reward, terminated, truncated, info = game.step(action)
        game.advance = advance
        ended = terminated | truncated
        assert reward.shape == shape
        assert not (terminated & truncated).any()
        np.testing.assert_array_equal(observation[~ended], seen["observation"][~ended])
        np.testing.assert_array_equal(info["state"][~ended], seen["state"][~ended])
        assert ended.any() == ("final_info" in info)
        if ended.any():
            np.testing.assert_array_equal(info["_final_obs"], ended)
            np.testing.assert_array_equal(info["final_obs"][ended], seen["observation"][ended])
            np.testing.assert_array_equal(info["final_info"]["state"][ended], seen["state"][ended])
            assert (info["state"][ended] != seen["state"][ended]).any(axis=1).all()
            assert (game._elapsed[ended] == 0).all()
        ends += int(ended.sum())
    return ends


class ForgetsToReset(TargetGrid):
    def _place(self, where, states):
        if isinstance(where, slice):
            super()._place(where, states)


class StateOneStepLate(TargetGrid):
    """The state in info is that of the step before."""

    def _information(self):
        info = super()._information()
        late, self.kept = getattr(self, "kept", info["state"]), info["state"]
        return info | {"state": late}


class FinalOfTheNextEpisode(TargetGrid):
    def step(self, actions):
        observation, reward, terminated, truncated, info = super().step(actions)
        if "final_info" in info:
            info["final_info"], info["final_obs"] = {"state": info["state"]}, observation
        return observation, reward, terminated, truncated, info


@pytest.mark.parametrize("faulty", [ForgetsToReset, StateOneStepLate, FinalOfTheNextEpisode])
def test_faults_at_the_end_of_episodes_are_noticed(faulty):
    with pytest.raises(AssertionError):
        ends_hold_the_last_state(faulty(20, size=3, num_agents=2, time_limit=6))


def test_what_a_game_returns_is_not_changed_by_later_steps():
    game = TargetGrid(8)
    kept = [game.reset(seed=0)]
    copies = [(kept[0][0].copy(), kept[0][1]["state"].copy())]
    for seed in range(5):
        observation, _, _, _, info = game.step(np.random.default_rng(seed).integers(5, size=(8, 4)))
        kept.append((observation, info))
        copies.append((observation.copy(), info["state"].copy()))
    for (observation, info), (first, state) in zip(kept, copies):
        np.testing.assert_array_equal(observation, first)
        np.testing.assert_array_equal(info["state"], state)


@pytest.mark.parametrize(
    ("actions", "error", "message"),
    [
        (np.zeros((2, 3), int), ValueError, r"must have shape \(2, 4\), got \(2, 3\)"),
        (np.zeros(8, int), ValueError, r"must have shape \(2, 4\), got \(8,\)"),
        (np.zeros((2, 4)), TypeError, "must be integers, got dtype float64"),
        (np.full((2, 4), 5), ValueError, "must lie in 0…4, got 5"),
        (np.full((2, 4), -1), ValueError, "must lie in 0…4, got -1"),
    ],
)
def test_wrong_discrete_actions_are_refused(actions, error, message):
    game = TargetGrid(2)
    game.reset(seed=0)
    with pytest.raises(error, match=message):
        game.step(actions)


@pytest.mark.parametrize("value", [1.5, float("nan")])
def test_continuous_actions_out_of_bounds_are_refused(value):
    game = Meeting(2)
    game.reset(seed=0)
    with pytest.raises(ValueError, match=rf"actions must lie in Box.*got \[?{value}"):
        game.step(np.full((2, 3, 1), value))


def test_a_step_before_the_first_reset_is_refused():
    with pytest.raises(gym.error.ResetNeeded):
        TargetGrid(2).step(np.zeros((2, 4), int))


def test_a_game_of_one_is_refused_unless_it_says_otherwise():
    with pytest.raises(ValueError, match="num_agents must be at least 2, got 1"):
        Meeting(1, num_agents=1)
    assert TargetGrid(1, num_agents=1).num_agents == 1


@pytest.mark.parametrize(
    ("observation", "action", "message"),
    [
        (gym.spaces.Discrete(3), gym.spaces.Discrete(2), r"Box observations, got Discrete\(3\)"),
        (gym.spaces.Box(0, 1, (2,)), gym.spaces.Discrete(2, start=1), "Discrete actions from 0 or a bounded Box"),
        (gym.spaces.Box(0, 1, (2,)), gym.spaces.Box(-np.inf, np.inf, (1,)), "Discrete actions from 0 or a bounded Box"),
    ],
)
def test_spaces_that_teams_cannot_have_are_refused(observation, action, message):
    with pytest.raises(ValueError, match=message):
        joint_spaces(observation, action, 2)


def test_joint_spaces_stack_those_of_one_agent():
    observation, action = joint_spaces(gym.spaces.Box(-1, 2, (3,)), gym.spaces.Discrete(5), 4)
    assert (observation.shape, observation.low[2, 1], observation.high[3, 0]) == ((4, 3), -1, 2)
    assert action == gym.spaces.MultiDiscrete([5] * 4)
    assert joint_spaces(gym.spaces.Box(0, 1, (2, 2)), gym.spaces.Box(-1, 1, (3,)), 2)[1].shape == (2, 3)


def test_games_are_made_by_name_and_unknown_ones_listed():
    game = multi_agent_environment("TargetGrid", 3, size=5, num_agents=2)
    assert (type(game), game.num_envs, game.size, game.num_agents) == (TargetGrid, 3, 5, 2)
    with pytest.raises(ValueError, match=r"unknown game 'Chess'; there are TargetGrid, .*MPE2/…"):
        multi_agent_environment("Chess", 1)
