"""The junction: simulation against model, what houses hide, and that the right of way excludes a crash."""

import warnings

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

from ca14lib.environments import ParallelView, multi_agent_environment
from ca14lib.environments.applications import junction
from ca14lib.environments.applications.junction import (
    BEYOND,
    CRASHED,
    GO,
    LINE,
    SHARED,
    Junction,
    allowed,
    junction_model,
    observed,
)


def assert_simulation_follows_the_model() -> None:
    model, copies = junction_model(0.3, 4.0), 4_000
    game = Junction(copies, slip=0.3, crash_price=4.0)
    game.reset(seed=0)
    for state in (0, 7, 12, 13, 17, 20):
        for action in range(4):
            game._position[:] = divmod(state, 5)
            pair = np.tile(divmod(action, 2), (copies, 1))
            reward, _ = game._transition(pair)
            share = np.bincount(5 * game._position[:, 0] + game._position[:, 1], minlength=25) / copies
            assert game._cost.mean() == share[CRASHED]
            np.testing.assert_allclose(share, model.transition[state, action], atol=0.04)
            expected = (model.transition * model.reward).sum(axis=2)[state, action]
            assert reward.sum(axis=1).mean() == pytest.approx(expected, abs=0.35)


def assert_nobody_crashes_who_keeps_the_right_of_way() -> None:
    """For every pair of allowed actions, whatever slips."""
    model = junction_model(0.3)
    for state in np.flatnonzero(~model.terminal):
        mask = junction.allowed(np.array([divmod(int(state), 5)]))[0]
        assert mask.any(axis=1).all()
        for action in range(4):
            if all(mask[k, a] for k, a in enumerate(divmod(action, 2))):
                assert model.transition[state, action, CRASHED] == 0


def assert_houses_hide_the_other() -> None:
    both = np.array([[LINE, LINE], [1, LINE], [LINE, 0], [SHARED, BEYOND]])
    shown = junction.observed(both, np.ones(4))[:, 5:10].sum(axis=1)
    assert shown.tolist() == [1, 0, 0, 1]


PROPERTIES = (
    assert_simulation_follows_the_model,
    assert_nobody_crashes_who_keeps_the_right_of_way,
    assert_houses_hide_the_other,
)


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda check: check.__name__.removeprefix("assert_"))
def test_property(holds):
    holds()


def both_have_priority(patch):
    patch.setattr(junction, "allowed", lambda position: np.ones((len(position), 2, 2), dtype=bool))


def looks_at_the_shared_cell_alone(patch):
    """Two vehicles at the line enter together."""

    def mask(position):
        first, second = np.asarray(position).T
        found = np.ones((len(first), 2, 2), dtype=bool)
        found[:, 0, GO] = ~((first == LINE) & (second == SHARED))
        found[:, 1, GO] = ~((second == LINE) & (first == SHARED))
        return found

    patch.setattr(junction, "allowed", mask)


def moves_in_spite_of_the_slip(patch):
    healthy = Junction._transition

    def transition(self, action):
        slip, self.slip = self.slip, 0.0
        result = healthy(self, action)
        self.slip = slip
        return result

    patch.setattr(Junction, "_transition", transition)


def charges_one_vehicle_for_a_crash(patch):
    healthy = Junction._transition

    def transition(self, action):
        reward, over = healthy(self, action)
        reward[:, 1] += self.crash_price * self._cost
        return reward, over

    patch.setattr(Junction, "_transition", transition)


def sees_through_houses(patch):
    def seen(position, left):
        shown = np.eye(5, dtype=np.float32)[position].reshape(len(position), -1)
        return np.concatenate([shown, np.asarray(left, np.float32)[:, None]], axis=1)

    patch.setattr(junction, "observed", seen)


@pytest.mark.parametrize(
    "plant, caught_by",
    [
        (both_have_priority, assert_nobody_crashes_who_keeps_the_right_of_way),
        (looks_at_the_shared_cell_alone, assert_nobody_crashes_who_keeps_the_right_of_way),
        (moves_in_spite_of_the_slip, assert_simulation_follows_the_model),
        (charges_one_vehicle_for_a_crash, assert_simulation_follows_the_model),
        (sees_through_houses, assert_houses_hide_the_other),
    ],
)
def test_planted_fault_is_noticed(plant, caught_by, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        caught_by()


def test_pettingzoos_interface_test_passes():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it recommends names of its own for spaces
        parallel_api_test(ParallelView(Junction(1)), num_cycles=60)


def test_it_is_made_by_name_and_repeats_with_its_seed():
    game, other = multi_agent_environment("Junction", 3, slip=0.2), Junction(3, slip=0.2)
    for each in (game, other):
        each.reset(seed=5)
    actions = np.random.default_rng(0).integers(2, size=(30, 3, 2))
    for action in actions:
        for one, two in zip(game.step(action)[:4], other.step(action)[:4], strict=True):
            np.testing.assert_array_equal(one, two)


def test_model_shows_what_the_central_observer_sees():
    game = Junction(50)
    _, info = game.reset(seed=0)
    model = junction_model()
    states = 5 * game._position[:, 0] + game._position[:, 1]
    np.testing.assert_array_equal(info["state"], model.timed_observation(0)[states])


def test_masks_are_told_only_if_asked_for():
    game, guarded = Junction(4), Junction(4, right_of_way=True)
    for each in (game, guarded):
        each.reset(seed=0)
        each._position[:] = (LINE, LINE)
    assert game._report()["action_mask"].all()
    np.testing.assert_array_equal(guarded._report()["action_mask"], allowed(guarded._position))
    assert not guarded._report()["action_mask"][:, 1, GO].any()


def test_observation_is_that_of_the_function():
    game = Junction(6)
    observation, _ = game.reset(seed=1)
    np.testing.assert_array_equal(observation[:, 1], observed(game._position[:, ::-1], np.ones(6)))


@pytest.mark.parametrize(
    "arguments, message", [({"slip": 1.0}, "slip must lie in"), ({"crash_price": -1}, "crash_price must be at least 0")]
)
def test_bad_input_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Junction(1, **arguments)
