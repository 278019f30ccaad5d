"""Evaluation of teams: one episode from each held start, memory, masks, counts; faults that are noticed."""

import gymnasium as gym
import numpy as np
import pytest
import torch

from ca14lib.environments import TargetGrid
from ca14lib.evaluation import TeamEvaluation, TeamPolicy
from ca14lib.solvers import assigned_policy, target_grid_bound


def stays(observation, info):
    return np.zeros(observation.shape[:2], dtype=np.int64)


def uniform(seed: int = 0):
    rng = np.random.default_rng(seed)
    return lambda observation, info: rng.integers(5, size=observation.shape[:2])


class Walker:
    """An agent of the course by its interface: right, or what its memory of the steps so far says."""

    def __init__(self, remembers: bool) -> None:
        self.memory_size = 1 if remembers else 0
        self.calls: list[dict] = []
        self.begun: list[int] = []

    def initial_memory(self, num_envs: int) -> torch.Tensor | None:
        self.begun.append(num_envs)
        return torch.zeros(num_envs, 2, 1)

    def act(self, observation, memory=None, *, mask=None, deterministic=False):
        self.calls.append({"memory": memory, "mask": mask, "deterministic": deterministic})
        actions = np.full(observation.shape[:2], 4)
        if not self.memory_size:
            return actions
        # right in even steps, up in odd ones
        actions = np.where(memory[..., 0].numpy() % 2 == 0, 4, 1)
        return actions, memory + 1


def small(episodes: int, **arguments) -> TeamEvaluation:
    game = {"size": 3, "num_agents": 2, "num_targets": 2, "time_limit": 25}
    return TeamEvaluation("TargetGrid", episodes, environment_arguments=game, **arguments)


def every_start_counts_once(evaluation_class: type[TeamEvaluation]) -> None:
    """Half of the starts are finished in one step by going right, the others never; a long run sees the first more."""
    game = {"size": 2, "num_agents": 1, "num_targets": 1, "time_limit": 40}
    evaluation = evaluation_class("TargetGrid", 900, environment_arguments=game, num_envs=100)
    result = evaluation(lambda observation, info: np.full(observation.shape[:2], 4))
    # of 12 placements, right enters the target in 2
    assert result["finished"] == pytest.approx(2 / 12, abs=0.04)
    assert result["length"] == pytest.approx(2 / 12 * 1 + 10 / 12 * 40, abs=2)
    assert result["return"] == pytest.approx(2 / 12 * 11.9 - 10 / 12 * 4, abs=0.7)


def test_every_start_counts_once_however_long_its_episode():
    every_start_counts_once(TeamEvaluation)


class LongRun(TeamEvaluation):
    """The fault: all episodes that end within as many steps are counted, so that short ones are seen more often."""

    @staticmethod
    def _first_episodes(game, policy, seed):
        observation, info = game.reset(seed=seed)
        policy.begin()
        returns, lengths = np.zeros((game.num_envs, game.num_agents)), np.zeros(game.num_envs)
        found = {name: [] for name in ("agent_return", "finished", "length")}
        for _ in range(45):
            observation, reward, terminated, truncated, info = game.step(policy(observation, info))
            returns, lengths, ended = returns + reward, lengths + 1, terminated | truncated
            for name, value in (("agent_return", returns), ("finished", terminated), ("length", lengths)):
                found[name].append(value[ended])
            returns, lengths = returns * ~ended[:, None], lengths * ~ended
        result = {name: np.concatenate(value) for name, value in found.items()}
        return result | {"team_return": result["agent_return"].sum(axis=1)}


class GoesOn(TeamEvaluation):
    """The fault: what happens after a copy's first end is added as well."""

    @staticmethod
    def _first_episodes(game, policy, seed):
        observation, info = game.reset(seed=seed)
        result = {"agent_return": 0.0, "finished": np.zeros(game.num_envs, bool), "length": np.zeros(game.num_envs)}
        running = np.ones(game.num_envs, bool)
        while running.any():
            observation, reward, terminated, truncated, info = game.step(policy(observation, info))
            result["agent_return"] = result["agent_return"] + reward
            result["finished"] |= terminated
            result["length"] += 1
            running &= ~(terminated | truncated)
        return result | {"team_return": result["agent_return"].sum(axis=1)}


class OnlyFinished(TeamEvaluation):
    """The fault: episodes that run out of time are left out."""

    def episodes_of(self, agent):
        episodes = super().episodes_of(agent)
        return {name: value[episodes["finished"]] for name, value in episodes.items()}


@pytest.mark.parametrize("faulty", [LongRun, GoesOn, OnlyFinished])
def test_evaluations_that_favour_some_episodes_are_noticed(faulty):
    with pytest.raises(AssertionError):
        every_start_counts_once(faulty)


def test_results_are_those_of_single_games_from_the_same_starts():
    evaluation = small(40, num_envs=40)
    policy = uniform(3)
    actions = []

    def recorded(observation, info):
        actions.append(policy(observation, info))
        return actions[-1]

    episodes = evaluation.episodes_of(recorded)
    game = TargetGrid(40, size=3, num_agents=2, num_targets=2, time_limit=None)
    single = TargetGrid(1, size=3, num_agents=2, num_targets=2, time_limit=25)
    seeds = np.random.SeedSequence([14_000_000, 0]).generate_state(1) % 2**31
    game.reset(seed=int(seeds[0]))
    for copy in range(40):
        starts = {"agents": game.agent_cells[copy], "targets": game.target_cells[copy]}
        single.reset(seed=0, options=starts)
        total, counts, step, ended = np.zeros(2), np.zeros(4, dtype=int), 0, False
        while not ended:
            reward, terminated, truncated = single.advance(single._checked(actions[step][[copy]]))
            info, ended, step = single._information(), bool(terminated[0] or truncated[0]), step + 1
            total += reward[0]
            counts += [info["collisions"][0], info["collected"][0], *info["collected_by"][0]]
        np.testing.assert_allclose(episodes["agent_return"][copy], total)
        assert episodes["team_return"][copy] == pytest.approx(total.sum())
        assert (episodes["length"][copy], episodes["finished"][copy]) == (step, terminated[0])
        assert [episodes["collisions"][copy], episodes["targets"][copy], *episodes["agent_targets"][copy]] == [*counts]
    assert 0 < episodes["finished"].mean() <= 1
    np.testing.assert_array_equal(
        episodes["bound"], target_grid_bound(game.agent_cells, game.target_cells, time_limit=25)
    )


def test_scripted_team_is_near_the_bound_and_idle_team_is_not():
    evaluation = TeamEvaluation("TargetGrid", 600)
    best = evaluation(assigned_policy(evaluation.game))
    assert 0.999 < best["share"] <= 1
    assert best["finished"] == 1
    assert best["targets"] == 3
    assert best["collisions"] == 0
    assert best["share"] == pytest.approx(best["team_return"] / best["bound"])
    assert best["return"] == best["team_return"] == pytest.approx(sum(best[f"return_{agent}"] for agent in range(4)))
    idle = evaluation(stays)
    assert idle["team_return"] == pytest.approx(-40)
    assert (idle["finished"], idle["length"], idle["targets"], idle["fairness"]) == (0, 100, 0, 1)


def test_starts_are_the_same_at_every_call_and_differ_between_seeds_and_batches():
    evaluation, other = small(70, num_envs=32), small(70, num_envs=32, seed=1)
    first, again = evaluation.episodes_of(stays)["bound"], evaluation.episodes_of(uniform())["bound"]
    np.testing.assert_array_equal(first, again)
    assert first.shape == (70,)
    assert not np.array_equal(first[:32], first[32:64])
    assert not np.array_equal(first, other.episodes_of(stays)["bound"])


@pytest.mark.parametrize(("episodes", "num_envs", "sizes"), [(70, 32, [32, 32, 6]), (5, 256, [5]), (64, 32, [32, 32])])
def test_as_many_episodes_as_asked_for_are_run(episodes, num_envs, sizes):
    agent = Walker(remembers=True)
    assert len(small(episodes, num_envs=num_envs).episodes_of(agent)["length"]) == episodes
    assert agent.begun == sizes


def test_agents_memory_begins_anew_with_every_batch_and_is_carried_on():
    agent = Walker(remembers=True)
    small(40, num_envs=20, deterministic=True)(agent)
    seen = [call["memory"][0, 0, 0].item() for call in agent.calls]
    begins = [index for index, value in enumerate(seen) if value == 0]
    assert len(begins) == 2
    for begin, end in zip(begins, [*begins[1:], len(seen)]):
        assert seen[begin:end] == list(range(end - begin))
    assert all(call["deterministic"] for call in agent.calls)


def test_agents_without_memory_return_actions_alone():
    agent = Walker(remembers=False)
    small(20)(agent)
    assert agent.begun == []
    assert all(call["memory"] is None and call["mask"] is None for call in agent.calls)
    assert not any(call["deterministic"] for call in agent.calls)


def test_mask_of_the_game_is_handed_to_the_agent():
    agent = Walker(remembers=False)
    mask = np.ones((1, 2, 5), dtype=bool)
    TeamPolicy(agent)(np.zeros((1, 2, 4)), {"action_mask": mask})
    assert agent.calls[0]["mask"] is mask


def test_an_agent_of_another_game_is_refused():
    agent = Walker(remembers=False)
    agent.observation_space = gym.spaces.Box(0, 1, (2, 3))
    with pytest.raises(ValueError, match=r"agent's observation_space is Box\(0.0, 1.0, \(2, 3\)"):
        small(5)(agent)


def test_fairness_is_of_the_means_over_episodes():
    result = small(300)(uniform())
    assert result["fairness"] > 0.95
    right_alone = small(300)(
        lambda observation, info: uniform(int(info["remaining"].sum()))(observation, info) * [1, 0]
    )
    assert right_alone["fairness"] < 0.6


def test_competitive_game_has_no_bound():
    evaluation = TeamEvaluation("TargetGrid", 10, environment_arguments={"competitive": True})
    assert not {"bound", "share"} & set(evaluation(stays))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"episodes": 0}, "episodes must be at least 1, got 0"),
        ({"episodes": 2.5}, "episodes must be an integer, got 2.5"),
        ({"num_envs": 0}, "num_envs must be at least 1, got 0"),
        ({"environment": "Nowhere"}, "unknown game 'Nowhere'"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        TeamEvaluation(**({"environment": "TargetGrid"} | arguments))


def test_what_cannot_act_is_refused():
    with pytest.raises(ValueError, match="expected an agent or a function of observation and info, got 3"):
        small(5)(3)
