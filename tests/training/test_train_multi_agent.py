"""The loop for teams: what it counts, what it stores, that a stopped run goes on bit for bit, and what it refuses."""

import numpy as np
import pytest
import torch

from ca14lib.agents.multi_agent.base import Drawn, MultiAgent
from ca14lib.environments import joint_spaces, multi_agent_environment
from ca14lib.training import TeamCollector, train_multi_agent
from tests import small_games

small_games.register()


class Recorder(MultiAgent):
    """Draws uniformly, learns nothing, and keeps every batch it is given."""

    def _build(self):
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self._optimizer("weight", self.weight)
        self.batches = []

    def _draw(self, inputs, memory, mask):
        allowed = torch.ones(*inputs.shape[:2], self.num_actions) if mask is None else mask.float()
        action = torch.multinomial(allowed.flatten(0, 1), 1, generator=self.generator).reshape(inputs.shape[:2])
        log_prob = -allowed.sum(dim=-1).log()
        memory = None if memory is None else memory + 1
        return Drawn(action, log_prob, memory)

    def update(self, batch):
        self._check(batch)
        self.batches.append(batch)
        self.updates += 1
        with torch.no_grad():
            self.weight += batch.reward.sum()
        return {"reward": batch.reward.mean()}


class Replayer(Recorder):
    experience = "transitions"


class EpisodeReader(Recorder):
    experience = "episodes"


class Remembers(Recorder):
    """Counts the steps of its episode in its memory."""

    memory_size = 1


def team(cls=Recorder, game="MeetingGame", **arguments):
    return cls.for_game(multi_agent_environment(game, 1, **arguments))


def test_rollouts_hold_successive_steps_and_the_last_observation_of_every_episode():
    agent = team()
    train_multi_agent(agent, "MeetingGame", 24, num_envs=2, rollout_steps=6, progress=False)
    batch = agent.batches[0]
    assert batch.reward.shape == (6, 2, 2)
    assert batch.terminated[3].all(), "the game has four rounds"
    assert not batch.terminated[[0, 1, 2, 4, 5]].any()
    goes_on = ~batch.terminated[:-1]
    assert torch.equal(batch.next_observation[:-1][goes_on], batch.observation[1:][goes_on])
    assert torch.equal(batch.next_state[:-1][goes_on], batch.state[1:][goes_on])
    same = (batch.next_state == batch.next_observation[:, :, 0]).all()
    assert same, "state and observation show the same signal, after the last step too"
    right = (batch.action == batch.state.argmax(dim=-1, keepdim=True)).all(dim=-1)
    assert torch.equal(batch.reward, right.float().unsqueeze(-1).expand(-1, -1, 2))


def test_history_counts_episodes_by_the_sum_over_agents():
    agent = team()
    history = train_multi_agent(agent, "MeetingGame", 400, num_envs=5, rollout_steps=8, progress=False)
    total = sum(float(batch.reward.sum()) for batch in agent.batches)
    assert history.series("episode_return").mean() * 100 == pytest.approx(total)  # 100 episodes of four steps
    assert (history.series("episode_length") == 4).all()
    assert (history.series("finished") == 1).all()


def test_memory_is_cleared_at_the_start_of_every_episode_and_handed_over_between_rollouts():
    agent = team(Remembers)
    train_multi_agent(agent, "MeetingGame", 30, num_envs=2, rollout_steps=3, progress=False)
    assert [float(batch.memory[0, 0, 0]) for batch in agent.batches] == [0, 3, 2, 1, 0]


def test_masks_reach_the_batch_and_are_obeyed():
    agent = team(masked=True)
    arguments = {"masked": True}
    train_multi_agent(
        agent, "MeetingGame", 64, environment_arguments=arguments, num_envs=4, rollout_steps=8, progress=False
    )
    batch = agent.batches[0]
    assert not batch.action_mask[:, :, 0, 2].any()
    assert not batch.next_action_mask[:, :, 0, 2].any()
    assert (batch.action[:, :, 0] < 2).all()


def test_agents_that_have_left_do_not_learn():
    agent = team(game="LeavingGame")
    train_multi_agent(agent, "LeavingGame", 8, num_envs=2, rollout_steps=4, progress=False)
    learns = agent.batches[0].learns
    assert learns[0].all()
    assert not learns[1:, :, 0].any()
    assert learns[1:, :, 1].all()


def test_replays_are_filled_and_drawn_from_on_schedule():
    agent = team(Replayer)
    arguments = {"num_envs": 4, "rollout_steps": 2, "progress": False}
    train_multi_agent(agent, "MeetingGame", 80, start_steps=40, updates=3, batch_size=5, **arguments)
    assert agent.updates == 3 * 5
    assert agent.batches[0].reward.shape == (1, 5, 2)
    whole = team(EpisodeReader)
    train_multi_agent(whole, "MeetingGame", 80, start_steps=0, updates=1, batch_size=6, **arguments)
    assert whole.batches[0].reward.shape == (4, 6, 2)
    assert whole.batches[0].filled.all()


@pytest.mark.parametrize("cls", [Recorder, Replayer, EpisodeReader])
def test_a_stopped_run_goes_on_bit_for_bit(cls, tmp_path):
    arguments = {
        "num_envs": 4, "rollout_steps": 3, "seed": 7, "checkpoint_every": 5, "batch_size": 4, "start_steps": 12,
        "progress": False,
    }  # fmt: skip
    whole, stopped, resumed = (team(cls) for _ in range(3))
    full = train_multi_agent(whole, "MeetingGame", 240, checkpoint=tmp_path / "whole", **arguments)
    train_multi_agent(stopped, "MeetingGame", 120, checkpoint=tmp_path / "part", **arguments)
    rest = train_multi_agent(resumed, "MeetingGame", 240, checkpoint=tmp_path / "part", **arguments)
    assert full == rest
    assert torch.equal(whole.weight, resumed.weight)
    with pytest.raises(ValueError, match="seed"):
        train_multi_agent(team(cls), "MeetingGame", 240, checkpoint=tmp_path / "part", **arguments | {"seed": 8})
    with pytest.raises(ValueError, match="more than"):
        train_multi_agent(team(cls), "MeetingGame", 24, checkpoint=tmp_path / "part", **arguments)


def test_evaluation_runs_at_the_start_on_schedule_and_at_the_end():
    history = train_multi_agent(
        team(), "MeetingGame", 70, num_envs=2, rollout_steps=5, evaluate=lambda agent: {"score": agent.updates},
        evaluate_every=3, progress=False,
    )  # fmt: skip
    assert history.series("score").to_dict() == {0: 0, 30: 3, 60: 6, 70: 7}


def test_opponents_can_be_put_in_the_place_of_agents():
    agent, game = team(), multi_agent_environment("MeetingGame", 3)
    learns = np.zeros((3, 2), dtype=bool)
    learns[:, 1] = True

    def draw(observation, memory, mask):
        drawn = agent.sample(observation, memory, mask)
        return drawn._replace(action=torch.zeros_like(drawn.action))

    batch = TeamCollector(agent, game, 0, draw=draw, learns=learns).collect(4)
    assert (batch.action == 0).all()
    assert batch.learns.sum() == 4 * 3


def test_bad_arguments_are_refused_before_anything_runs():
    agent = team()
    for name, value in {"steps": 0, "num_envs": 1.5, "rollout_steps": True, "updates": -1, "seed": -1}.items():
        arguments = {"steps": 10, "progress": False} | {name: value}
        with pytest.raises(ValueError, match=name):
            train_multi_agent(agent, "MeetingGame", **arguments)
    with pytest.raises(ValueError, match="unknown game"):
        train_multi_agent(agent, "NoSuchGame", 10)
    with pytest.raises(ValueError, match="observation_space"):
        train_multi_agent(team(num_agents=3), "MeetingGame", 10)
    with pytest.raises(ValueError, match="needs a team"):
        train_multi_agent(torch.nn.Linear(1, 1), "MeetingGame", 10)
    assert agent.updates == 0


def test_other_checkpoints_are_not_resumed(tmp_path):
    agent = team()
    agent.save(tmp_path / "agent")
    with pytest.raises(ValueError, match="no multi-agent training run"):
        train_multi_agent(agent, "MeetingGame", 10, checkpoint=tmp_path / "agent", progress=False)


def test_joint_spaces_refuse_what_teams_cannot_use():
    import gymnasium as gym

    with pytest.raises(ValueError, match="Box observations"):
        joint_spaces(gym.spaces.Discrete(3), gym.spaces.Discrete(2), 2)
    with pytest.raises(ValueError, match="bounded Box"):
        joint_spaces(gym.spaces.Box(0, 1, (2,)), gym.spaces.Box(-np.inf, np.inf, (2,)), 2)
