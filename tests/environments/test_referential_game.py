"""The referential game: who sees and says what, what it pays, its channels, the contract of games."""

import itertools

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test, parallel_seed_test

from ca14lib.environments import ParallelView, ReferentialGame, multi_agent_environment


def read(game: ReferentialGame, observation: np.ndarray) -> dict[str, np.ndarray]:
    """Pieces of one agent's observations ``[N, …]``."""
    sizes = [2, game.length + game.attributes, game.attributes * game.values, game.length * game.symbols]
    role, step, meaning, message = np.split(observation, np.cumsum(sizes)[:-1], axis=1)
    return {
        "role": role, "step": step, "meaning": meaning.reshape(-1, game.attributes, game.values),
        "message": message.reshape(-1, game.length, game.symbols),
    }  # fmt: skip


def play(game: ReferentialGame, listener_knows_the_code: bool = True) -> np.ndarray:
    """Team returns of the plain code: symbol k is the value of attribute k. Only what an agent sees is used."""
    observation, _ = game.reset(seed=3)
    total = np.zeros(game.num_envs)
    for step in range(game.length + game.attributes):
        speaker, listener = (read(game, observation[:, agent]) for agent in (0, 1))
        action = np.zeros((game.num_envs, 2), dtype=int)
        if step < game.length:
            action[:, 0] = speaker["meaning"][:, step].argmax(axis=1)
        elif listener_knows_the_code:
            action[:, 1] = listener["message"][:, step - game.length].argmax(axis=1)
        observation, reward, terminated, truncated, _ = game.step(action)
        assert terminated.all() == (step == game.length + game.attributes - 1)
        assert not truncated.any()
        total += reward.sum(axis=1)
    return total


def assert_is_a_fair_game(make) -> None:
    game = make(2_000)
    assert (play(game) == 1).all()
    assert play(game, listener_knows_the_code=False).mean() == pytest.approx(1 / 3, abs=0.03)
    observation, _ = game.reset(seed=0)
    speaker, listener = (read(game, observation[:, agent]) for agent in (0, 1))
    assert (speaker["role"] == [1, 0]).all()
    assert (listener["role"] == [0, 1]).all()
    assert (speaker["meaning"].sum(axis=2) == 1).all()
    assert (listener["meaning"] == 0).all()
    assert speaker["meaning"].mean(axis=0) == pytest.approx(np.full((2, 3), 1 / 3), abs=0.04)
    for step in range(4):
        # what the listener does while it is spoken to, and the speaker while it is answered, has no effect
        observation, reward, _, _, info = game.step(np.ones((2_000, 2), dtype=int))
        if step < 2:
            assert (reward == 0).all()
            assert (read(game, observation[:, 1])["message"][:, step] == [0, 1, 0]).all()
        assert (reward[:, 0] == reward[:, 1]).all()
    final = info["final_obs"]
    assert (read(game, final[:, 0])["step"] == 0).all()
    assert (read(game, final[:, 1])["message"][..., 1] == 1).all()


def test_meanings_pass_through_the_message_and_nothing_else():
    assert_is_a_fair_game(ReferentialGame)


class ListenerSeesTheMeaning(ReferentialGame):
    def _observe(self):
        observation = super()._observe()
        first = 2 + self._steps
        observation[:, 1, first : first + self.attributes * self.values] = observation[
            :, 0, first : first + self.attributes * self.values
        ]
        return observation


class AsksTheWrongAttribute(ReferentialGame):
    def _transition(self, action):
        self._meaning = self._meaning[:, ::-1]
        result = super()._transition(action)
        self._meaning = self._meaning[:, ::-1]
        return result


class PaysOnlyTheListener(ReferentialGame):
    def _transition(self, action):
        reward, terminated = super()._transition(action)
        return reward * [0, 2], terminated


class ListenerSpeaksToo(ReferentialGame):
    def _transition(self, action):
        swapped = action.copy()
        swapped[:, 0] = np.where(self._time < self.length, action[:, 1], action[:, 0])
        return super()._transition(swapped)


class OldMessageStays(ReferentialGame):
    def _transition(self, action):
        heard = self._heard.copy()
        result = super()._transition(action)
        self._heard = np.where(heard >= 0, heard, np.roll(self._heard, 1, axis=1))
        return result


@pytest.mark.parametrize("fault", [
    ListenerSeesTheMeaning, AsksTheWrongAttribute, PaysOnlyTheListener, ListenerSpeaksToo, OldMessageStays,
])  # fmt: skip
def test_planted_faults_are_caught(fault):
    with pytest.raises(AssertionError):
        assert_is_a_fair_game(fault)


@pytest.mark.parametrize("channel", ["cut", "scrambled"])
def test_without_the_channel_the_code_is_worth_no_more_than_a_guess(channel):
    game = ReferentialGame(3_000, channel=channel)
    assert play(game).mean() == pytest.approx(1 / 3, abs=0.03)
    assert game.optimum == pytest.approx(1 / 3)


def test_speaker_hears_itself_when_the_listener_does_not():
    game = ReferentialGame(1, channel="cut")
    game.reset(seed=0)
    observation = game.step(np.array([[2, 0]]))[0]
    assert read(game, observation[:, 0])["message"][0, 0].tolist() == [0, 0, 1]
    assert (read(game, observation[:, 1])["message"] == 0).all()


def test_optimum_is_one_exactly_when_there_are_enough_messages():
    assert ReferentialGame(1).optimum == 1.0
    assert ReferentialGame(1, attributes=2, values=3, symbols=9, length=1).optimum == 1.0
    assert ReferentialGame(1, attributes=2, values=3, symbols=8, length=1).optimum is None


def test_state_tells_meaning_and_message():
    game = ReferentialGame(4)
    meanings = np.array([[0, 1], [2, 2], [1, 0], [0, 0]])
    _, info = game.reset(seed=0, options={"meanings": meanings})
    found, message = game.decoded(info["state"])
    np.testing.assert_array_equal(found, meanings)
    assert (message == -1).all()
    game.step(np.array([[2, 0]] * 4))
    info = game.step(np.array([[0, 0], [1, 0], [2, 0], [0, 0]]))[4]
    np.testing.assert_array_equal(game.decoded(info["state"])[1], [[2, 0], [2, 1], [2, 2], [2, 0]])


def test_masks_leave_symbols_to_the_speaker_and_values_to_the_listener():
    game = ReferentialGame(1, attributes=1, values=4, symbols=2, length=1)
    _, info = game.reset(seed=0)
    assert info["action_mask"][0].tolist() == [[True, True, False, False], [True, False, False, False]]
    _, _, _, _, info = game.step(np.array([[3, 0]]))
    assert game.decoded(info["state"])[1].tolist() == [[-1]], "a symbol outside the mask says nothing"
    assert info["action_mask"][0].tolist() == [[True, False, False, False], [True] * 4]


def test_channel_draws_come_from_the_seed():
    for channel in ("open", "scrambled"):
        runs = []
        for _ in range(2):
            game = ReferentialGame(5, channel=channel)
            game.reset(seed=11)
            runs.append(np.stack([game.step(np.ones((5, 2), dtype=int))[0] for _ in range(9)]))
        np.testing.assert_array_equal(*runs)


@pytest.mark.parametrize("arguments", [
    {}, {"attributes": 1, "values": 5, "symbols": 2, "length": 3}, {"channel": "scrambled", "symbols": 7},
])  # fmt: skip
def test_pettingzoos_tests_pass(arguments):
    parallel_api_test(ParallelView(ReferentialGame(1, **arguments)), num_cycles=50)
    parallel_seed_test(lambda: ParallelView(ReferentialGame(1, **arguments)), num_cycles=20)


def test_game_is_made_by_name_and_spawns_its_like():
    game = multi_agent_environment("ReferentialGame", 2, attributes=3, values=2, symbols=4, length=2, channel="cut")
    other = game.spawn(6)
    assert other.agent_observation_space == game.agent_observation_space
    assert (other.num_envs, other.channel) == (6, "cut")
    observation, _ = other.reset(seed=0)
    assert other.observation_space.contains(observation)


def test_every_meaning_can_be_told_by_some_code():
    game = ReferentialGame(9)
    meanings = np.array(list(itertools.product(range(3), repeat=2)))
    game.reset(seed=0, options={"meanings": meanings})
    assert len(np.unique(game.decoded(game._state())[0], axis=0)) == 9


@pytest.mark.parametrize("arguments, message", [
    ({"attributes": 0}, "attributes must be at least 1"), ({"values": 1}, "values must be at least 2, got 1"),
    ({"symbols": 1}, "symbols must be at least 2"), ({"length": 0}, "length must be at least 1"),
    ({"channel": "noisy"}, "channel must be one of open, cut, scrambled, got 'noisy'"),
])  # fmt: skip
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        ReferentialGame(**arguments)


def test_bad_meanings_and_states_are_named():
    game = ReferentialGame(2)
    for meanings in ([[0, 3], [0, 0]], [[0, 0]], [[0.5, 0], [0, 0]]):
        with pytest.raises(ValueError, match="meanings must be integers"):
            game.reset(seed=0, options={"meanings": meanings})
    with pytest.raises(ValueError, match="states must have shape"):
        game.decoded(np.zeros((2, 3)))
