"""The on-policy loop: right rollouts and counts, the same bits whether interrupted or not, no start on bad input."""

from dataclasses import fields
from unittest import mock

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import SyncVectorEnv

from ca14lib.agents import AGENTS, DQN, PPO, OnPolicyAgent, PPOConfig
from ca14lib.agents.checkpoint import read_checkpoint, write_checkpoint
from ca14lib.agents.safe import PPOLagrangian
from ca14lib.data import Rollout
from ca14lib.training import History, train_on_policy
from ca14lib.training.on_policy import SafetyTally
from ca14lib.training.vector import step_cost

PAYING, SAFE_GRID = "CourseTest/Paying-v0", "CA14/SafeGrid-v0"
SCHEDULE = {"num_envs": 3, "rollout_steps": 5, "progress": False}


class Paying(gym.Env):
    """A random walk that ends by itself, at a limit, or both; action 1 and a third of the others cost something."""

    observation_space = gym.spaces.Box(-100, 100, (2,), np.float32)

    def __init__(self, report: str = "one", limit: int = 6, continuous: bool = False) -> None:
        self.report, self.limit = report, limit
        self.action_space = gym.spaces.Box(-2, 2, (1,), np.float32) if continuous else gym.spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x, self.time = self.np_random.normal(), 0
        return self._seen(), self._info(0.0)

    def step(self, action):
        move = float(np.ravel(action)[0])
        self.x, self.time = self.x + self.np_random.normal() + move, self.time + 1
        cost = 1.0 if move == 1 else float(self.np_random.random() < 1 / 3) / 2
        ended = bool(self.np_random.random() < 0.2)
        return self._seen(), move - self.x / 10, ended, self.time >= self.limit, self._info(cost)

    def _seen(self):
        return np.array([self.x, self.time], np.float32)

    def _info(self, cost):
        reports = {
            "none": {}, "one": {"cost": cost}, "two": {"cost": np.array([cost, 2 * cost])}, "negative": {"cost": -cost},
            "nan": {"cost": np.nan if cost else 0.0}, "infinite": {"cost": np.inf if cost else 0.0},
            "positive only": {"cost": cost} if cost else {},
            "until the end": {"cost": cost} if self.time < self.limit else {},
        }  # fmt: skip
        return reports[self.report]


if PAYING not in gym.registry:
    gym.register(PAYING, Paying)


class KilledError(Exception):
    """Stands for whatever ends a run."""


def agent_for(name="PPOLagrangian", environment=PAYING, arguments=None, seed=0, **settings) -> OnPolicyAgent:
    cls, made = AGENTS[name], gym.make(environment, **(arguments or {}))
    quick = {"hidden_sizes": (8,), "epochs": 2, "value_epochs": 2, "minibatches": 2}
    names = {item.name for item in fields(cls.config_class)}
    settings = {key: value for key, value in quick.items() if key in names} | settings
    return cls(made.observation_space, made.action_space, cls.config_class(**settings), seed=seed)


def recorded(agent: OnPolicyAgent) -> list[Rollout]:
    """The rollouts that the agent will be given."""
    rollouts, update = [], agent.update

    def keep(rollout):
        rollouts.append(rollout)
        return update(rollout)

    agent.update = keep
    return rollouts


def norm(agent):
    """An evaluation without randomness that notices every change of the weights."""
    return {"norm": sum(float(parameter.detach().double().square().sum()) for parameter in agent.parameters())}


def killed_after(calls):
    """The same evaluation, which ends the run at its so-manyeth call."""
    left = iter(range(calls - 1))

    def evaluate(agent):
        if next(left, None) is None:
            raise KilledError
        return norm(agent)

    return evaluate


def same(first, second):
    a, b = first.state()[0], second.state()[0]
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


# The rollouts


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_rollouts_hold_what_a_hand_run_of_the_environments_gives(num_envs, continuous):
    arguments = {"continuous": continuous}
    agent, seeds, healthy = agent_for(arguments=arguments, cost_limits=(1.0,)), [], SyncVectorEnv.reset
    rollouts = recorded(agent)

    def reset(self, *, seed=None, options=None):
        seeds.append(seed)
        return healthy(self, seed=seed, options=options)

    with mock.patch.object(SyncVectorEnv, "reset", reset):
        train_on_policy(
            agent, PAYING, 60 * num_envs, environment_arguments=arguments, num_envs=num_envs, rollout_steps=12,
            progress=False,
        )  # fmt: skip
    assert len(rollouts) == 5
    kinds, episodes = set(), [[] for _ in rollouts]
    for copy in range(num_envs):
        environment = Paying(**arguments)
        observation, _ = environment.reset(seed=seeds[0] + copy)
        sums = np.zeros(3)
        for number, rollout in enumerate(rollouts):
            for step in range(12):
                action = rollout.action[step, copy].numpy()
                assert (rollout.observation[step, copy].numpy() == observation).all()
                taken = np.clip(action, -2, 2) if continuous else action
                observation, reward, terminated, truncated, info = environment.step(taken)
                assert (rollout.next_observation[step, copy].numpy() == observation).all()
                assert rollout.reward[step, copy] == pytest.approx(reward, abs=1e-5)
                assert rollout.cost[step, copy].tolist() == pytest.approx([info["cost"]])
                assert bool(rollout.terminated[step, copy]) == terminated
                assert bool(rollout.truncated[step, copy]) == (truncated and not terminated)
                kinds.add((terminated, truncated))
                sums += [reward, info["cost"], 1]
                if terminated or truncated:
                    episodes[number].append(tuple(sums))
                    sums = np.zeros(3)
                    observation, _ = environment.reset()
    assert len(kinds) >= 3, "the case needs ends of all kinds"
    for rollout, wanted in zip(rollouts, episodes, strict=True):
        columns = (rollout.episode_return, rollout.episode_cost[:, 0], rollout.episode_length)
        found = sorted(map(tuple, torch.stack(columns, dim=1).tolist()))
        assert np.allclose(found, sorted(wanted), atol=1e-4)


def test_the_policy_that_acted_is_the_one_whose_probabilities_are_stored():
    """Taken before each update, by a copy of the agent as it was then."""
    agent, checked = agent_for(), []
    update = agent.update

    def check(rollout):
        seen = rollout.flat("observation").numpy()
        stated = agent.action_log_prob(seen, rollout.flat("action").numpy())
        checked.append(np.allclose(stated, rollout.flat("log_prob").numpy(), atol=1e-5))
        return update(rollout)

    agent.update = check
    train_on_policy(agent, PAYING, 60, **SCHEDULE)
    assert checked == [True] * 4


def test_an_agent_of_whole_episodes_starts_every_rollout_anew_and_others_do_not():
    for name, anew in (("CVaRPolicyGradient", True), ("PPOLagrangian", False)):
        agent = agent_for(name)
        rollouts = recorded(agent)
        train_on_policy(agent, PAYING, 120, num_envs=4, rollout_steps=10, progress=False)
        starts = [bool((rollout.observation[0, :, 1] == 0).all()) for rollout in rollouts]
        assert starts[0]
        assert all(starts[1:]) == anew
        positions = torch.stack([rollout.observation[0, :, 0] for rollout in rollouts])
        assert len(positions.unique()) == positions.numel(), "every start is drawn anew"


def test_whole_episodes_need_rollouts_of_their_length():
    with pytest.raises(ValueError, match="give rollout_steps of an episode's length"):
        train_on_policy(agent_for("CVaRPolicyGradient"), PAYING, 40, num_envs=8, rollout_steps=2, progress=False)


# Shields and filters


def odd_only(observation, info):
    """Forbids action 1 everywhere, and 2 where the walk is to the right."""
    mask = np.ones((len(observation), 3), dtype=bool)
    mask[:, 1] = False
    mask[observation[:, 0] > 0, 2] = False
    return mask


def test_a_shields_mask_is_obeyed_and_stored_with_the_probabilities_of_the_masked_draw():
    agent, asked = agent_for(), []

    def shield(observation, info):
        asked.append((observation.copy(), info))
        return odd_only(observation, info)

    rollouts = recorded(agent)
    train_on_policy(agent, PAYING, 60, shield=shield, **SCHEDULE)
    assert len(asked) == 20
    assert all("cost" in info for _, info in asked)
    for number, rollout in enumerate(rollouts):
        wanted = np.stack([odd_only(observation, None) for observation, _ in asked[5 * number : 5 * number + 5]])
        assert (rollout.action_mask.numpy() == wanted).all()
        assert (rollout.observation.numpy() == np.stack([seen for seen, _ in asked[5 * number : 5 * number + 5]])).all()
        assert rollout.action_mask.gather(-1, rollout.action.unsqueeze(-1)).all()
        alone = rollout.action_mask.sum(dim=-1) == 1
        assert alone.any()
        assert rollout.log_prob[alone].abs().max() < 1e-6
        assert (rollout.log_prob[~alone].exp() - 0.5).abs().max() < 0.2, "two of three actions, nearly alike"


def test_without_a_shield_there_is_no_mask():
    agent = agent_for()
    rollouts = recorded(agent)
    train_on_policy(agent, PAYING, 15, **SCHEDULE)
    assert rollouts[0].action_mask is None


@pytest.mark.parametrize(
    "mask", [np.ones((3, 2), bool), np.ones((3, 3)), np.zeros((3, 3), bool), np.ones(3, bool)],
    ids=["width", "numbers", "nothing allowed", "flat"],
)  # fmt: skip
def test_a_mask_that_does_not_fit_is_refused(mask):
    with pytest.raises(ValueError, match="mask must be booleans"):
        train_on_policy(agent_for(), PAYING, 15, shield=lambda observation, info: mask, **SCHEDULE)


def test_a_filter_changes_what_is_executed_and_not_what_is_learned_from():
    arguments, executed = {"continuous": True}, []

    def calm(observation, action):
        assert action.dtype == np.float32
        assert abs(action).max() <= 2, "the filter sees actions within their bounds"
        executed.append(0.1 * action)
        return 0.1 * action.astype(np.float64)

    agent = agent_for(arguments=arguments)
    rollouts = recorded(agent)
    train_on_policy(agent, PAYING, 15, environment_arguments=arguments, action_filter=calm, **SCHEDULE)
    (rollout,) = rollouts
    moved = (
        rollout.reward + rollout.next_observation[..., 0] / 10
    )  # the reward is the move less a tenth of the position
    assert np.allclose(moved.numpy(), np.stack(executed)[..., 0], atol=1e-5)
    stated = agent_for(arguments=arguments).action_log_prob(
        rollout.flat("observation").numpy(), rollout.flat("action").numpy()
    )
    assert np.allclose(stated, rollout.flat("log_prob").numpy() - np.log(2), atol=1e-4)


# The history


def test_the_history_counts_episodes_costs_and_violations():
    agent = agent_for(cost_limits=(1.2, 2.0), arguments={"report": "two"})
    rollouts = recorded(agent)
    history = train_on_policy(
        agent, PAYING, 60, environment_arguments={"report": "two"}, log_every=2, evaluate=norm, **SCHEDULE
    )
    assert history.series("norm").index.tolist() == [0, 60]
    assert history.series("policy_loss").index.tolist() == [30, 60]
    for half, step in ((rollouts[:2], 30), (rollouts[2:], 60)):
        costs = torch.cat([rollout.episode_cost for rollout in half]).numpy()
        returns = torch.cat([rollout.episode_return for rollout in half]).numpy()
        assert len(costs) > 2
        so_far = rollouts[: step // 15]
        all_costs = torch.cat([rollout.episode_cost for rollout in so_far]).numpy()
        steps = torch.stack([rollout.cost for rollout in so_far]).double().numpy().reshape(-1, 2)
        expected = {"episode_return": returns.mean()}
        expected["episode_length"] = torch.cat([rollout.episode_length for rollout in half]).mean()
        for k, limit in enumerate((1.2, 2.0)):
            expected |= {
                f"episode_cost_{k}": costs[:, k].mean(), f"worst_cost_{k}": costs[:, k].max(),
                f"violation_rate_{k}": (costs[:, k] > limit).mean(), f"total_cost_{k}": steps[:, k].sum(),
                f"total_violations_{k}": (all_costs[:, k] > limit).sum(),
                f"time_in_violation_{k}": (steps[:, k] > 0).mean(),
            }  # fmt: skip
        for name, value in expected.items():
            assert history.series(name)[step] == pytest.approx(float(value), rel=1e-5), name
    assert history.last("total_violations_0") > 0
    assert {"multiplier_0", "multiplier_1", "kl", "entropy", "value_loss"} <= set(history.frame["metric"])


def test_logged_losses_are_averages_over_the_updates_since_the_last_log():
    losses = {}
    for every in (1, 3):
        history = train_on_policy(agent_for(), PAYING, 90, log_every=every, **SCHEDULE)
        losses[every] = history.series("value_loss")
    assert losses[3].index.tolist() == [45, 90]
    assert losses[3].tolist() == pytest.approx([losses[1].iloc[:3].mean(), losses[1].iloc[3:].mean()], rel=1e-6)


def test_reaching_a_limit_is_no_violation_and_going_beyond_it_is():
    """Ten steps of 0.1 in single precision add up to a little more than 1."""
    costs = torch.full((10, 1, 1), 0.1)
    total = costs.sum(dim=0).double()
    end = torch.zeros(10, 1, dtype=torch.bool)
    rollout = Rollout(
        torch.zeros(10, 1, 1), torch.zeros(10, 1, dtype=torch.int64), torch.zeros(10, 1), torch.zeros(10, 1), costs,
        torch.zeros(10, 1, 1), end, end, torch.zeros(1), total, torch.ones(1),
    )  # fmt: skip
    assert total.item() > 1.0
    assert SafetyTally((1.0,))([rollout])["total_violations_0"] == 0
    assert SafetyTally((0.99,))([rollout])["total_violations_0"] == 1


def test_without_a_completed_episode_the_multiplier_stays_and_nothing_is_missing():
    agent = agent_for(environment=SAFE_GRID, initial_multiplier=0.25, cost_limits=(0.3,))
    history = train_on_policy(agent, SAFE_GRID, 45, log_every=1, **SCHEDULE)
    assert agent.multiplier.item() == 0.25
    assert history.frame["value"].notna().all()
    assert "episode_cost_0" not in set(history.frame["metric"])
    assert history.last("total_violations_0") == 0


def test_steps_are_rounded_up_to_whole_iterations():
    agent = agent_for()
    rollouts = recorded(agent)
    history = train_on_policy(agent, PAYING, 31, **SCHEDULE)
    assert len(rollouts) == 3
    assert history.frame["step"].max() == 45


def test_episodes_that_began_elsewhere_teach_but_do_not_count():
    arguments = {"restarts": 0.5, "horizon": 8}
    agent = agent_for(environment=SAFE_GRID, arguments=arguments)
    rollouts = recorded(agent)
    schedule = SCHEDULE | {"num_envs": 6, "rollout_steps": 8}
    train_on_policy(agent, SAFE_GRID, 96, environment_arguments=arguments, **schedule)
    for rollout in rollouts:
        assert rollout.reward.shape == (8, 6)
        assert rollout.terminated[:, 3:].sum() > 3
        assert rollout.terminated[:, :3].sum() == len(rollout.episode_cost) == 3
        assert (rollout.episode_length == 8).all()


# The same bits again


RESUMED = ["PPO", "PPOLagrangian", "PIDLagrangian", "CPO", "CVaRPolicyGradient"]


@pytest.mark.parametrize("name", RESUMED)
def test_a_run_is_repeated_bit_for_bit_whatever_the_global_generators_hold(name):
    runs = []
    for state in (0, 1):
        torch.manual_seed(state)
        np.random.seed(state)  # noqa: NPY002
        agent = agent_for(name)
        history = train_on_policy(
            agent, PAYING, 120, num_envs=4, rollout_steps=10, seed=3, evaluate=norm, progress=False
        )
        runs.append((agent, history))
    assert same(runs[0][0], runs[1][0])
    assert runs[0][1] == runs[1][1]
    other = agent_for(name)
    assert train_on_policy(other, PAYING, 120, num_envs=4, rollout_steps=10, seed=4, progress=False) != runs[0][1]
    assert not same(runs[0][0], other)


@pytest.mark.parametrize("killed", [2, 3, 4])
@pytest.mark.parametrize("name", RESUMED)
def test_a_resumed_run_is_bit_equal_to_one_never_interrupted(name, killed, tmp_path):
    schedule = {"num_envs": 4, "rollout_steps": 10, "progress": False}
    schedule |= {"log_every": 3, "evaluate_every": 3, "checkpoint_every": 2}
    whole = agent_for(name)
    expected = train_on_policy(whole, PAYING, 360, evaluate=norm, checkpoint=tmp_path / "whole", **schedule)
    broken = agent_for(name)
    with pytest.raises(KilledError):
        train_on_policy(broken, PAYING, 360, evaluate=killed_after(killed), checkpoint=tmp_path / "run", **schedule)
    resumed = agent_for(name, seed=9) if killed > 1 else agent_for(name)
    history = train_on_policy(resumed, PAYING, 360, evaluate=norm, checkpoint=tmp_path / "run", **schedule)
    assert same(whole, resumed)
    assert history == expected
    without = agent_for(name)
    assert train_on_policy(without, PAYING, 360, evaluate=norm, **schedule) == expected, "writing must change nothing"


def test_a_finished_run_comes_back_without_training_and_can_be_made_longer(tmp_path):
    schedule = SCHEDULE | {"checkpoint_every": 2, "checkpoint": tmp_path / "run"}
    first = agent_for()
    history = train_on_policy(first, PAYING, 60, **schedule)
    again = agent_for(seed=5)
    rollouts = recorded(again)
    assert train_on_policy(again, PAYING, 60, **schedule) == history
    assert not rollouts
    assert same(first, again)
    longer = agent_for(seed=5)
    history = train_on_policy(longer, PAYING, 120, **schedule)
    whole = agent_for()
    assert history == train_on_policy(whole, PAYING, 120, **(SCHEDULE | {"checkpoint_every": 2}))
    assert same(whole, longer)
    with pytest.raises(ValueError, match="more than the 2 asked for"):
        train_on_policy(agent_for(), PAYING, 30, **schedule)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"num_envs": 4}, {"rollout_steps": 6}, {"log_every": 2}, {"shield": odd_only},
        {"environment_arguments": {"limit": 4}},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_the_checkpoint_of_another_run_is_refused_by_what_differs(change, tmp_path):
    train_on_policy(agent_for(), PAYING, 15, checkpoint=tmp_path / "run", **SCHEDULE)
    victim = agent_for(seed=4)
    with pytest.raises(ValueError, match=next(iter(change))):
        train_on_policy(victim, PAYING, 60, checkpoint=tmp_path / "run", **(SCHEDULE | change))
    assert same(victim, agent_for(seed=4))


def test_the_checkpoint_of_an_agent_alone_or_of_another_agent_is_refused(tmp_path):
    agent_for().save(tmp_path / "agent")
    with pytest.raises(ValueError, match="no on-policy training run"):
        train_on_policy(agent_for(), PAYING, 15, checkpoint=tmp_path / "agent", **SCHEDULE)
    train_on_policy(agent_for("PIDLagrangian"), PAYING, 15, checkpoint=tmp_path / "run", **SCHEDULE)
    with pytest.raises(ValueError, match="PIDLagrangian"):
        train_on_policy(agent_for(), PAYING, 15, checkpoint=tmp_path / "run", **SCHEDULE)
    tensors, metadata = read_checkpoint(tmp_path / "run")
    assert metadata["loop"]["iteration"] == 1
    write_checkpoint(tmp_path / "copy", tensors, metadata)
    assert len(History(metadata["loop"]["history"]).frame) > 5


# Bad input


@pytest.mark.parametrize(
    "report, complaint",
    [
        ("none", "reports no info\\['cost'\\], which PPOLagrangian needs"),
        ("positive only", "reports no info\\['cost'\\]"),
        ("until the end", "reports no info\\['cost'\\]"),
        ("negative", "must be finite and not negative.*-"),
        ("nan", "must be finite and not negative.*nan"),
        ("infinite", "must be finite and not negative.*inf"),
        ("two", "reports 2 costs a step, PPOLagrangian has 1 cost limits"),
    ],
)
@pytest.mark.parametrize("num_envs", [1, 6])
def test_costs_that_are_missing_or_no_costs_are_refused(report, complaint, num_envs):
    with pytest.raises(ValueError, match=complaint):
        train_on_policy(
            agent_for(), PAYING, 60 * num_envs, environment_arguments={"report": report}, num_envs=num_envs,
            rollout_steps=20, progress=False,
        )  # fmt: skip


def test_fewer_costs_than_limits_are_refused_and_without_limits_costs_are_not_read():
    with pytest.raises(ValueError, match="reports 1 costs a step, PPOLagrangian has 2 cost limits"):
        train_on_policy(agent_for(cost_limits=(1.0, 2.0)), PAYING, 15, **SCHEDULE)
    agent = agent_for("PPO")
    rollouts = recorded(agent)
    train_on_policy(agent, PAYING, 15, environment_arguments={"report": "none"}, **SCHEDULE)
    assert rollouts[0].cost.shape == (5, 3, 0)


def test_the_cost_of_a_step_that_ends_an_episode_is_that_of_its_last_state():
    ended = np.array([True, False])
    info = {"cost": np.array([7.0, 1.0]), "final_info": {"cost": np.array([3.0, 9.0])}}
    assert step_cost(info, ended).tolist() == [[3.0], [1.0]]
    assert step_cost({"cost": np.array([[1.0, 2.0], [3.0, 4.0]])}, ~ended & ended).tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert step_cost({"final_info": {"cost": np.array([3.0, 0.0])}}, ended) is None, "the other copy reports nothing"
    assert step_cost({"cost": np.array([3.0, 0.0])}, ended) is None
    assert step_cost({"final_info": info["final_info"]}, np.array([True, True])).tolist() == [[3.0], [9.0]]


@pytest.mark.parametrize(
    "name", ["steps", "num_envs", "rollout_steps", "evaluate_every", "log_every", "checkpoint_every"]
)
@pytest.mark.parametrize("value", [0, -1, 2.5, True])
def test_numbers_out_of_range_are_refused_by_name(name, value):
    arguments = {"steps": 15} | SCHEDULE | {name: value}
    with pytest.raises(ValueError, match=f"{name} must be a positive integer, got {value}"):
        train_on_policy(agent_for(), PAYING, arguments.pop("steps"), **arguments)


def test_agents_environments_shields_and_filters_that_do_not_fit_are_refused():
    made = gym.make(PAYING)
    stranger = DQN(made.observation_space, made.action_space, DQN.config_class(hidden_sizes=(4,)))
    with pytest.raises(ValueError, match="needs an on-policy agent, got DQN"):
        train_on_policy(stranger, PAYING, 15, **SCHEDULE)
    with pytest.raises(ValueError, match="the agent's observation_space is"):
        train_on_policy(agent_for(), SAFE_GRID, 15, **SCHEDULE)
    other = PPO(made.observation_space, gym.spaces.Discrete(5), PPOConfig(hidden_sizes=(4,)))
    with pytest.raises(ValueError, match="the agent's action_space is"):
        train_on_policy(other, PAYING, 15, **SCHEDULE)
    with pytest.raises(ValueError, match="unknown environment id"):
        train_on_policy(agent_for(), "CA14/Nowhere-v0", 15, **SCHEDULE)
    with pytest.raises(ValueError, match="give a shield for discrete ones"):
        train_on_policy(agent_for(), PAYING, 15, action_filter=lambda seen, action: action, **SCHEDULE)
    arguments = {"continuous": True}
    with pytest.raises(ValueError, match="give an action_filter for continuous ones"):
        train_on_policy(
            agent_for(arguments=arguments), PAYING, 15, environment_arguments=arguments, shield=odd_only, **SCHEDULE
        )


def test_numpy_integers_are_integers_to_the_checkpoint_too(tmp_path):
    path = tmp_path / "run"
    train_on_policy(
        agent_for(), PAYING, np.int64(15), num_envs=np.int64(3), rollout_steps=np.int32(5), seed=np.int64(3),
        checkpoint=path, checkpoint_every=np.int64(1), progress=False,
    )  # fmt: skip
    assert read_checkpoint(path)[1]["loop"]["run"]["seed"] == 3
    for seed in (-1, 0.5, True):
        with pytest.raises(ValueError, match=f"seed must be an integer of at least 0, got {seed}"):
            train_on_policy(agent_for(), PAYING, 15, seed=seed, **SCHEDULE)


def test_a_reward_that_is_no_number_is_refused_where_it_comes_up():
    class Broken(Paying):
        def step(self, action):
            following, reward, *rest = super().step(action)
            return following, reward if self.time < 3 else np.nan, *rest

    gym.register("CourseTest/Broken-v0", Broken)
    try:
        with pytest.raises(ValueError, match="rewards must be finite, CourseTest/Broken-v0 gave nan"):
            train_on_policy(agent_for(), "CourseTest/Broken-v0", 15, **SCHEDULE)
    finally:
        del gym.registry["CourseTest/Broken-v0"]


def test_agents_that_weigh_whole_episodes_refuse_restarts():
    with pytest.raises(ValueError, match=f"CVaRPolicyGradient weighs whole episodes.* make {SAFE_GRID} without"):
        train_on_policy(
            agent_for("CVaRPolicyGradient", SAFE_GRID), SAFE_GRID, 400, environment_arguments={"restarts": 0.5},
            num_envs=8, rollout_steps=50, progress=False,
        )  # fmt: skip


@pytest.mark.parametrize("cost, above", [(100.3, 0), (100.302, 1), (250.1, 0)])
def test_an_episode_at_its_limit_is_within_it_at_every_size(cost, above):
    limit = 100.3 if cost < 200 else 250.1
    zeros = torch.zeros(1, 1)
    rollout = Rollout(
        zeros[..., None], zeros.long(), zeros, zeros, zeros[..., None], zeros[..., None], zeros > 1, zeros > 1,
        torch.zeros(1), torch.tensor([[cost]]), torch.ones(1),
    )  # fmt: skip
    assert SafetyTally((limit,))([rollout])["total_violations_0"] == above


# It learns


@pytest.mark.learning
def test_the_course_environment_is_learned_within_its_limit():
    """A shortened SafeGrid-like choice: with a limit under the cost of the goal's path the multiplier must rise."""
    agent = agent_for(environment=SAFE_GRID, cost_limits=(0.3,), multiplier_learning_rate=0.5, learning_rate=3e-3)
    history = train_on_policy(agent, SAFE_GRID, 40_000, num_envs=16, rollout_steps=50, log_every=10, progress=False)
    cost = history.series("episode_cost_0")
    assert cost.iloc[-1] < 0.5 * cost.iloc[0]
    assert isinstance(agent, PPOLagrangian)
    assert history.series("multiplier_0").max() > 1.0
