"""The intersection: who crashes or passes has left, and the others go on."""

import numpy as np
import pytest

from ca14lib.environments import ParallelView, multi_agent_environment

pytest.importorskip("highway_env")

from ca14lib.environments.intersection import Crossing, Intersection

FAST = {"traffic": 0, "spawn_probability": 0.0}


def test_vehicles_that_rush_crash_leave_and_the_rest_goes_on() -> None:
    game = multi_agent_environment("Intersection/v1", 1, num_agents=4, destination=None, **FAST)
    seeds_with_a_survivor = 0
    for seed in range(4):
        observation, info = game.reset(seed=seed)
        assert observation.shape == (1, 4, 35)
        assert info["alive"].all()
        for _ in range(13):
            before = info["alive"][0].copy()
            observation, reward, terminated, truncated, info = game.step(np.full((1, 4), 2))
            last = info["final_info"] if (terminated | truncated)[0] else info
            left = before & (last["crashed"] | last["arrived"])[0]
            assert (reward[0, ~before] == 0).all()
            assert (reward[0, before & last["crashed"][0]] < 0).all()
            if terminated[0] or truncated[0]:
                break
            assert (info["alive"][0] == (before & ~left)).all()
            assert (observation[0, ~info["alive"][0]] == 0).all()
            seeds_with_a_survivor += bool(left.any() and info["alive"].any())
    assert seeds_with_a_survivor  # a crash or an arrival that did not end the episode was seen


def test_waiting_for_each_other_is_cut_by_the_duration_not_terminated() -> None:
    game = Intersection(1, duration=3, **FAST)
    game.reset(seed=0)
    for _ in range(3):
        *_, terminated, truncated, info = game.step(np.zeros((1, 2), dtype=np.int64))
    assert truncated[0]
    assert not terminated[0]
    assert info["final_info"]["alive"].all()
    assert (info["final_obs"] != 0).any()
    assert not info["crashed"].any()  # of the new episode


def test_equal_seeds_repeat() -> None:
    sums = []
    for _ in range(2):
        game = Intersection(2, traffic=2)
        total = game.reset(seed=4)[0].sum()
        for _ in range(3):
            observation, reward, *_ = game.step(np.full((2, 2), 2))
            total += observation.sum() + reward.sum()
        sums.append(total)
    assert sums[0] == sums[1]


@pytest.mark.parametrize(
    "arguments", [{"num_agents": 1}, {"num_agents": 5}, {"seen": 0}, {"duration": 0}, {"destination": "o7"},
                  {"spawn_probability": 2.0}, {"collision_reward": float("nan")}],
)  # fmt: skip
def test_arguments_out_of_range_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        Crossing(**arguments)


def test_other_names_are_refused_and_spawn_keeps_the_arguments() -> None:
    with pytest.raises(ValueError, match="Intersection/v1"):
        multi_agent_environment("Intersection/v7", 1)
    copy = Intersection(1, num_agents=3, seen=2, **FAST).spawn(2)
    assert (copy.num_envs, copy.single_observation_space.shape) == (2, (3, 14))


def test_view_drops_agents_that_have_left() -> None:
    view = ParallelView(Intersection(1, num_agents=2, duration=6, **FAST))
    view.reset(seed=1)
    while view.agents:
        there = list(view.agents)
        _, _, over, cut, _ = view.step(dict.fromkeys(there, 2))
        assert set(view.agents) == {name for name in there if not over[name] and not cut[name]}
