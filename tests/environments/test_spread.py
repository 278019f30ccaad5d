"""Spread: the same game as MPE2's, step by step, and much faster."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from pettingzoo.test import parallel_api_test

from ca14lib.environments import ParallelView, multi_agent_environment
from ca14lib.environments import spread as module
from ca14lib.environments.spread import Spread

simple_spread = pytest.importorskip("mpe2.simple_spread_v3")


def largest_difference(make: Callable[..., Spread], *, agents: int = 3, local_ratio: float = 0.5) -> float:
    """Over crowded episodes of both games from the same starts: observations, rewards and states."""
    theirs = simple_spread.parallel_env(N=agents, local_ratio=local_ratio)
    ours = make(1, num_agents=agents, local_ratio=local_ratio)
    worst, pairs = 0.0, 0
    for seed in range(6):
        theirs.reset(seed=seed)
        world = theirs.unwrapped.world
        for body in world.agents:  # close together, so that they collide
            body.state.p_pos *= 0.3
        starts = {
            "agents": [body.state.p_pos for body in world.agents],
            "landmarks": [body.state.p_pos for body in world.landmarks],
        }
        ours.reset(seed=0, options=starts)
        draws = np.random.default_rng(seed)
        while theirs.agents:
            names, action = list(theirs.agents), draws.integers(0, 5, agents)
            observation, reward, _, cut, _ = theirs.step(dict(zip(names, action, strict=True)))
            mine, own_reward, _, truncated, info = ours.step(action[None])
            assert truncated[0] == all(cut.values())
            seen = info["final_obs"] if truncated[0] else mine
            info = info["final_info"] if truncated[0] else info
            worst = max(worst, np.abs(seen[0] - np.stack([observation[name] for name in names])).max())
            worst = max(worst, np.abs(own_reward[0] - [reward[name] for name in names]).max())
            worst = max(worst, np.abs(info["state"][0] - theirs.state()).max())
            pairs += int(info["collisions"][0])
    assert pairs > 5  # otherwise nothing would have been compared of what happens in a collision
    return worst


@pytest.mark.parametrize("agents", [2, 3, 5])
@pytest.mark.parametrize("local_ratio", [0.0, 0.5, 1.0])
def test_steps_agree_with_mpe2(agents: int, local_ratio: float) -> None:
    assert largest_difference(Spread, agents=agents, local_ratio=local_ratio) < 1e-6


@pytest.mark.parametrize("name, value", [("RADIUS", 0.14), ("FRICTION", 0.2), ("THRUST", 4.0)])
def test_a_wrong_constant_is_noticed(monkeypatch: pytest.MonkeyPatch, name: str, value: float) -> None:
    monkeypatch.setattr(module, name, value)
    assert largest_difference(Spread) > 1e-3


def test_sharing_the_collisions_of_all_is_noticed() -> None:
    class Shared(Spread):
        def _overlaps(self) -> np.ndarray:
            own = super()._overlaps()
            return np.broadcast_to(own.mean(axis=0), own.shape)

    assert largest_difference(Shared) > 1e-3


def test_moving_by_the_new_velocity_is_noticed() -> None:
    class NewVelocity(Spread):
        def _transition(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            before = self._position.copy()
            super()._transition(action)
            self._position = before + module.TIME_STEP * self._velocity
            self._rows = None
            reward = -(1.0 - self.local_ratio) * self._distances().sum(axis=0) - self.local_ratio * self._overlaps()
            return reward.T, np.zeros(self.num_envs, dtype=bool)

    assert largest_difference(NewVelocity) > 1e-3


def test_leaving_out_the_contact_force_is_noticed() -> None:
    class Ghosts(Spread):
        def _contact(self, offset: np.ndarray) -> None:
            return None

    assert largest_difference(Ghosts) > 1e-3


def test_episodes_are_truncated_after_max_cycles_and_start_again_at_rest() -> None:
    game = multi_agent_environment("Spread", 3, max_cycles=4)
    game.reset(seed=0)
    for step in range(1, 9):
        observation, _, terminated, truncated, info = game.step(np.ones((3, 3), dtype=np.int64))
        assert not terminated.any()
        assert (truncated == (step % 4 == 0)).all()
        if step % 4 == 0:
            assert (observation[..., :2] == 0).all()
            assert (info["final_obs"][..., :2] != 0).any()
            assert (info["final_info"]["state"] == info["final_obs"].reshape(3, -1)).all()


def test_copies_do_not_depend_on_each_other_and_equal_seeds_repeat() -> None:
    games = Spread(4), Spread(4)
    actions = np.random.default_rng(0).integers(0, 5, (30, 4, 3))
    rows = []
    for game in games:
        game.reset(seed=5)
        rows.append([game.step(action)[:2] for action in actions])
    for one, other in zip(*rows, strict=True):
        assert (one[0] == other[0]).all()
        assert (one[1] == other[1]).all()
    whole, single = Spread(2), Spread(1)
    places = np.random.default_rng(1).uniform(-1, 1, (2, 2, 3, 2))
    whole.reset(seed=0, options={"agents": places[0], "landmarks": places[1]})
    single.reset(seed=0, options={"agents": places[0, 1:], "landmarks": places[1, 1:]})
    assert (whole.step(actions[0, :2])[0][1] == single.step(actions[0, 1:2])[0][0]).all()


def test_two_agents_in_one_point_give_finite_numbers() -> None:
    game = Spread(1, num_agents=2)
    game.reset(seed=0, options={"agents": np.zeros((2, 2)), "landmarks": np.ones((2, 2))})
    observation, reward, *_ = game.step(np.zeros((1, 2), dtype=np.int64))
    assert np.isfinite(observation).all()
    assert np.isfinite(reward).all()


def test_landmarks_with_an_agent_on_them_are_covered() -> None:
    game = Spread(1, num_agents=2)
    _, info = game.reset(seed=0, options={"agents": [[0, 0], [1, 1]], "landmarks": [[0.05, 0], [0.5, 0.5]]})
    assert info["covered"].tolist() == [1]
    assert info["collisions"].tolist() == [0]


@pytest.mark.parametrize(
    "arguments", [{"num_agents": 1}, {"local_ratio": 1.5}, {"local_ratio": float("nan")}, {"max_cycles": 0}]
)
def test_arguments_out_of_range_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Spread(1, **arguments)


@pytest.mark.parametrize(
    "options", [{"agents": np.zeros((3, 2))}, {"agents": np.zeros((2, 2)), "landmarks": np.zeros((3, 2))},
                {"agents": np.full((3, 2), np.nan), "landmarks": np.zeros((3, 2))}],
)  # fmt: skip
def test_starts_that_do_not_fit_are_refused(options: dict) -> None:
    with pytest.raises(ValueError, match="agents"):
        Spread(1).reset(seed=0, options=options)


def test_view_passes_pettingzoos_test_and_pictures_show_the_agents() -> None:
    parallel_api_test(ParallelView(Spread(1)), num_cycles=60)
    game = Spread(2, render_mode="rgb_array")
    game.reset(seed=0)
    first, second = game.render() or ()
    assert first.shape == (192, 192, 3)
    assert (first != second).any()


def test_spawned_games_keep_the_arguments() -> None:
    copy = Spread(1, num_agents=4, local_ratio=0.2, max_cycles=7).spawn(3)
    assert (copy.num_envs, copy.num_agents, copy.local_ratio, copy.max_cycles) == (3, 4, 0.2, 7)


def test_it_is_at_least_thirty_times_as_fast_as_mpe2() -> None:
    def rate(step: Callable[[], int]) -> float:
        best = 0.0
        for _ in range(3):
            begin, steps = time.perf_counter(), 0
            while time.perf_counter() - begin < 0.15:
                steps += step()
            best = max(best, steps / (time.perf_counter() - begin))
        return best

    theirs, ours = simple_spread.parallel_env(), Spread(256)
    theirs.reset(seed=0)
    ours.reset(seed=0)
    action = np.random.default_rng(0).integers(0, 5, (256, 3))

    def one() -> int:
        if not theirs.agents:
            theirs.reset()
        theirs.step(dict.fromkeys(theirs.agents, 1))
        return 1

    def many() -> int:
        ours.step(action)
        return 256

    assert rate(many) > 30 * rate(one)
