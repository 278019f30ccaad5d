"""IPPO and MAPPO: advantages, critics, replayed probabilities, who counts; and planted faults that these catch."""

from collections.abc import Callable
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import Tensor

from ca14lib.agents import check_agent
from ca14lib.agents.multi_agent import policy_team
from ca14lib.agents.multi_agent.check import ACTIONS, AGENTS, CONTINUOUS_ACTIONS, OF_ONE, STATE, random_joint
from ca14lib.agents.multi_agent.ippo import IPPO, IPPOConfig
from ca14lib.agents.multi_agent.mappo import MAPPO, MAPPOConfig
from ca14lib.agents.multi_agent.policy_team import (
    PolicyTeam,
    ValueScale,
    keep_predictions,
    standardised_where,
    team_clipped_loss,
)
from ca14lib.environments import joint_spaces
from ca14lib.networks import AgentLinear

TEAMS = {"IPPO": IPPO, "MAPPO": MAPPO}
SMALL = {"hidden_sizes": (8,), "epochs": 1, "minibatches": 1}


def team_of(cls: type[PolicyTeam], actions: gym.Space = ACTIONS, seed: int = 0, **fields) -> PolicyTeam:
    config = cls.config_class(**(SMALL | fields))
    return cls(*joint_spaces(OF_ONE, actions, AGENTS), config, state_space=STATE, seed=seed)


def same_weights(first: PolicyTeam, second: PolicyTeam) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


# Properties. Each takes a class, so that faulty ones can be put in.


def advantages_are_those_of_a_slow_loop(cls: type[PolicyTeam]) -> None:
    for team_reward in (True, False):
        team = team_of(cls, team_reward=team_reward, reward_scale=0.5, discount=0.9, gae_lambda=0.8)
        # a scale that is far from the identity, so that values have to be returns before they meet rewards
        team.value_scale.absorb(torch.tensor([[3.0, 5.0, 9.0]]), torch.ones(1, 3, dtype=torch.bool))
        batch = random_joint(team, seed=1)
        mean, deviation = (number.item() for number in team.value_scale.statistics())
        assert abs(mean) > 1
        assert deviation > 2

        def value(observation: Tensor, state: Tensor, agent: int, team=team, mean=mean, deviation=deviation) -> float:
            seen = team._critic_inputs(observation[None], state[None])
            return team.critic(seen)[0][0, agent if seen.shape[1] > 1 else 0, 0].item() * deviation + mean

        advantage, target = team._advantages(batch)
        steps, copies, agents = batch.reward.shape
        for copy in range(copies):
            for agent in range(agents):
                expected = 0.0
                for t in reversed(range(steps)):
                    over, cut = bool(batch.terminated[t, copy]), bool(batch.truncated[t, copy])
                    shares = batch.reward[t, copy] * 0.5
                    reward = (shares.mean() if team_reward else shares[agent]).item()
                    now = value(batch.observation[t, copy], batch.state[t, copy], agent)
                    following = value(batch.next_observation[t, copy], batch.next_state[t, copy], agent)
                    error = reward + 0.9 * following * (not over) - now
                    expected = error + (0.0 if over or cut or t == steps - 1 else 0.9 * 0.8 * expected)
                    assert abs(advantage[t, copy, agent].item() - expected) < 1e-3
                    assert abs(target[t, copy, agent].item() - expected - now) < 1e-3


def replaying_gives_the_probabilities_that_acted(cls: type[PolicyTeam]) -> None:
    for actions in (ACTIONS, CONTINUOUS_ACTIONS):
        for recurrent in (False, True):
            team = team_of(cls, actions, recurrent=recurrent)
            with torch.no_grad():  # away from uniform policies, whose probabilities forget everything
                team.policy.head.weight.mul_(300.0)
            batch = random_joint(team, seed=2, masked=actions is ACTIONS)
            if recurrent:  # the rollout begins in the middle of an episode
                first = random_joint_from(team, torch.randn(batch.memory.shape, generator=torch.Generator()))
                batch = first
            assert team.update(batch)["kl"].item() < 1e-6


def random_joint_from(team: PolicyTeam, memory: Tensor):
    """A batch whose first row is in the middle of an episode, with this memory."""

    class Midway:
        experience = "rollouts"

        def initial_memory(self, copies: int) -> Tensor:
            return memory

        def sample(self, *arguments):
            return team.sample(*arguments)

    masked = team.discrete
    return random_joint(Midway(), seed=2, masked=masked)


def rows_that_do_not_count_change_nothing(cls: type[PolicyTeam]) -> None:
    """The last agent is an opponent: what it sees and does, and what it gets, must not reach the others."""
    teams = [team_of(cls, shared=shared, team_reward=False, minibatches=2) for shared in (True, False) for _ in "ab"]
    for first, second in (teams[:2], teams[2:]):
        batch = random_joint(first, seed=3)
        learns = torch.ones_like(batch.reward, dtype=torch.bool)
        learns[..., -1] = False
        other = random_joint(team_of(cls), seed=4)
        changes = {}
        for name in ("observation", "next_observation", "action", "reward", "log_prob"):
            column = getattr(batch, name).clone()
            column[:, :, -1] = getattr(other, name)[:, :, -1] * 3 % 4 if name == "action" else 50.0
            changes[name] = column
        for number in range(2):
            for team, columns in ((first, {}), (second, changes)):
                team.generator.manual_seed(number)
                team.update(replace(batch, learns=learns, **columns))
        assert same_weights(first, second)


def a_separate_agent_learns_alone(cls: type[PolicyTeam]) -> None:
    team = team_of(cls, shared=False)
    batch = random_joint(team, seed=5)
    inputs = team._features(batch.observation.flatten(0, 1))
    outputs, _ = team._replayed(inputs, None, None, None, batch.flat("reward").isfinite())
    log_prob = team._family.log_prob(team._distribution(outputs, None), batch.flat("action"))
    gradients = torch.autograd.grad(log_prob[:, 0].sum(), list(team.policy.parameters()))
    assert all(gradient[0].abs().sum() > 0 for gradient in gradients)
    assert all(gradient[1:].abs().sum() == 0 for gradient in gradients)


def each_ratio_is_of_the_agents_own_action(cls: type[PolicyTeam]) -> None:
    """Another agent's old probability, halved, changes nothing for those whose own is as it was."""
    team = team_of(cls)
    batch = random_joint(team, seed=6)
    columns = {
        "inputs": team._features(batch.observation.flatten(0, 1)), "action": batch.flat("action"),
        "old": batch.flat("log_prob"), "counts": batch.counts().flatten(0, 1),
        "advantage": torch.zeros(48, AGENTS).index_fill(1, torch.tensor([0]), 1.0),
    }  # fmt: skip
    healthy = team._policy_loss(columns, 0.0)[0]
    columns["old"] = columns["old"] - torch.tensor([0.0, 0.5, 0.5])
    assert abs((team._policy_loss(columns, 0.0)[0] - healthy).item()) < 1e-6


def new_statistics_change_no_value(cls: type[PolicyTeam]) -> None:
    for shared in (True, False):
        team = team_of(cls, shared=shared)
        batch = random_joint(team, seed=7)
        seen = team._critic_inputs(batch.observation, batch.state)
        for offset in (10.0, -4.0):
            before = team._values(seen)
            target = team._normalised_target(batch.reward * 7 + offset, batch.counts())
            torch.testing.assert_close(team._values(seen), before, atol=2e-4, rtol=2e-4)
            torch.testing.assert_close(
                team.value_scale.returns(target), batch.reward * 7 + offset, atol=1e-3, rtol=1e-3
            )


def forbidden_actions_have_probability_zero(cls: type[PolicyTeam]) -> None:
    team = team_of(cls)
    batch = random_joint(team, seed=8, masked=True)
    probabilities = team.probabilities(batch.observation[0].numpy(), None, batch.action_mask[0].numpy())
    assert probabilities.shape == (8, AGENTS, 4)
    assert np.abs(probabilities.sum(axis=-1) - 1).max() < 1e-6
    assert (probabilities[~batch.action_mask[0].numpy()] == 0).all()
    parts = {"inputs": team._features(batch.observation[0]), "mask": batch.action_mask[0]}
    log_prob = team._distribution(
        team._replayed(parts["inputs"], None, None, None, batch.counts()[0])[0], parts["mask"]
    )[0]
    assert torch.isneginf(log_prob[~batch.action_mask[0]]).all()


def the_critic_sees_what_it_should(cls: type[PolicyTeam]) -> None:
    team = team_of(cls)
    batch, other = random_joint(team, seed=9), random_joint(team, seed=10)
    values = team._values(team._critic_inputs(batch.observation, batch.state))
    elsewhere = team._values(team._critic_inputs(batch.observation, other.state))
    central = issubclass(cls, MAPPO)
    assert bool((values != elsewhere).any()) == central
    moved = batch.observation.clone()
    moved[:, :, 1] = other.observation[:, :, 1]
    neighbour = team._values(team._critic_inputs(moved, batch.state))
    assert torch.equal(neighbour[..., 0], values[..., 0]), "an agent's critic sees another's observation"
    assert not torch.equal(neighbour[..., 1], values[..., 1]), "an agent's critic is blind to its own observation"


PROPERTIES = (
    advantages_are_those_of_a_slow_loop, replaying_gives_the_probabilities_that_acted,
    rows_that_do_not_count_change_nothing, a_separate_agent_learns_alone, each_ratio_is_of_the_agents_own_action,
    new_statistics_change_no_value, forbidden_actions_have_probability_zero, the_critic_sees_what_it_should,
)  # fmt: skip


@pytest.mark.parametrize("name", TEAMS)
@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
def test_property_holds(holds, name):
    holds(TEAMS[name])


# Planted faults: what is wrong, and the property that says so.

Fault = Callable[[type[PolicyTeam]], type[PolicyTeam]]


def normalised_values_in_the_advantage(cls):
    return type("Faulty", (cls,), {"_values": cls._predictions})


def truncation_as_an_end(cls):
    def advantages(self, batch):
        return cls._advantages(self, replace(batch, terminated=batch.terminated | batch.truncated))

    return type("Faulty", (cls,), {"_advantages": advantages})


def values_of_the_row_after_a_cut(cls):
    """What follows a cut is the first row of another episode."""

    def advantages(self, batch):
        following = torch.cat([batch.observation[1:], batch.next_observation[-1:]])
        states = torch.cat([batch.state[1:], batch.next_state[-1:]])
        return cls._advantages(self, replace(batch, next_observation=following, next_state=states))

    return type("Faulty", (cls,), {"_advantages": advantages})


def own_reward_as_the_teams(cls):
    return type("Faulty", (cls,), {"_reward": lambda self, batch: batch.reward * self.config.reward_scale})


def unscaled_reward(cls):
    def reward(self, batch):
        return cls._reward(self, batch) / self.config.reward_scale

    return type("Faulty", (cls,), {"_reward": reward})


def memory_from_zero(cls):
    def replayed(self, inputs, memory, starts, *rest):
        return cls._replayed(self, inputs, None, starts, *rest)

    return type("Faulty", (cls,), {"_replayed": replayed})


def memory_across_episodes(cls):
    def replayed(self, inputs, memory, starts, *rest):
        return cls._replayed(self, inputs, memory, None, *rest)

    return type("Faulty", (cls,), {"_replayed": replayed})


def masks_forgotten_in_learning(cls):
    def loss(self, part, entropy_weight):
        return cls._policy_loss(self, {name: part[name] for name in part if name != "mask"}, entropy_weight)

    return type("Faulty", (cls,), {"_policy_loss": loss})


def everyone_counts(cls):
    def passes(self, batch, advantage, target, counts):
        return cls._passes(self, batch, advantage, target, torch.ones_like(counts))

    return type("Faulty", (cls,), {"_passes": passes})


def standardised_over_everyone(cls):
    def passes(self, batch, advantage, target, counts):
        raw = cls._advantages(self, batch)[0]
        return cls._passes(self, batch, standardised_where(raw, torch.ones_like(counts)), target, counts)

    return type("Faulty", (cls,), {"_passes": passes})


def agents_that_see_the_mean(cls):
    def replayed(self, inputs, memory, starts, *rest):
        return cls._replayed(self, inputs, memory, starts, *rest)[0].mean(dim=-2, keepdim=True) + torch.zeros(
            inputs.shape[-2], 1
        ), None

    return type("Faulty", (cls,), {"_replayed": replayed})


def ratio_of_the_joint_action(cls):
    def loss(self, part, entropy_weight):
        outputs, _ = self._replayed(part["inputs"], None, None, None, part["counts"])
        log_prob = self._family.log_prob(self._distribution(outputs, None), part["action"])
        joint, old = (value.sum(dim=-1, keepdim=True).expand_as(log_prob) for value in (log_prob, part["old"]))
        return team_clipped_loss(joint, old, part["advantage"], part["counts"], self.config.clip), {}

    return type("Faulty", (cls,), {"_policy_loss": loss})


def statistics_that_move_the_values(cls):
    def target(self, target, counts):
        self.value_scale.absorb(target, counts)
        return self.value_scale.normalised(target)

    return type("Faulty", (cls,), {"_normalised_target": target})


def masks_forgotten(cls):
    return type("Faulty", (cls,), {"_distribution": lambda self, outputs, mask: cls._distribution(self, outputs, None)})


def the_others_input(cls):
    """IPPO's critic with the state, MAPPO's without, all agents' observations joined."""
    central = issubclass(cls, MAPPO)
    return type("Faulty", (cls,), {"critic_input": "observation" if central else "state+observation"})


def observations_of_the_next_agent(cls):
    def seen(self, observation, state):
        return cls._critic_inputs(self, observation.roll(1, dims=-2), state)

    return type("Faulty", (cls,), {"_critic_inputs": seen})


FAULTS: dict[Fault, Callable[[type[PolicyTeam]], None]] = {
    normalised_values_in_the_advantage: advantages_are_those_of_a_slow_loop,
    truncation_as_an_end: advantages_are_those_of_a_slow_loop,
    values_of_the_row_after_a_cut: advantages_are_those_of_a_slow_loop,
    own_reward_as_the_teams: advantages_are_those_of_a_slow_loop,
    unscaled_reward: advantages_are_those_of_a_slow_loop,
    memory_from_zero: replaying_gives_the_probabilities_that_acted,
    memory_across_episodes: replaying_gives_the_probabilities_that_acted,
    masks_forgotten_in_learning: replaying_gives_the_probabilities_that_acted,
    everyone_counts: rows_that_do_not_count_change_nothing,
    standardised_over_everyone: rows_that_do_not_count_change_nothing,
    agents_that_see_the_mean: a_separate_agent_learns_alone,
    ratio_of_the_joint_action: each_ratio_is_of_the_agents_own_action,
    statistics_that_move_the_values: new_statistics_change_no_value,
    masks_forgotten: forbidden_actions_have_probability_zero,
    the_others_input: the_critic_sees_what_it_should,
    observations_of_the_next_agent: the_critic_sees_what_it_should,
}


@pytest.mark.parametrize("name", TEAMS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_planted_fault_is_caught(fault, name):
    with pytest.raises(AssertionError):
        FAULTS[fault](fault(TEAMS[name]))


def test_every_property_can_fail():
    assert {*FAULTS.values()} == {*PROPERTIES}


# Pure functions


def test_standardised_advantages_have_mean_0_and_deviation_1_where_they_count():
    generator = torch.Generator().manual_seed(0)
    values, counts = torch.randn(40, 3, generator=generator) * 5 + 2, torch.rand(40, 3, generator=generator) < 0.6
    result = standardised_where(values.masked_fill(~counts, torch.nan), counts)
    chosen = result[counts]
    assert chosen.mean().item() == pytest.approx(0, abs=1e-5)
    assert chosen.square().mean().item() == pytest.approx(1, abs=1e-4)
    assert (result[~counts] == 0).all()
    assert (standardised_where(values, torch.zeros_like(counts)) == 0).all()


def test_the_teams_loss_is_the_mean_over_what_counts_and_clips_each_ratio():
    ratio, advantage = torch.tensor([[1.5, 0.5, 1.1], [0.5, 1.5, 7.0]]), torch.tensor([[2.0, -1.0, 1.0], [2, -1, 9]])
    counts = torch.tensor([[True, True, True], [True, True, False]])
    loss = team_clipped_loss(ratio.log(), torch.zeros(2, 3), advantage, counts, 0.2)
    assert loss.item() == pytest.approx(-(1.2 * 2 - 0.8 + 1.1 + 0.5 * 2 - 1.5) / 5)
    nothing = torch.zeros_like(counts)
    assert team_clipped_loss(ratio.log(), torch.zeros(2, 3), advantage, nothing, 0.2).item() == 0


def test_what_does_not_count_may_be_minus_infinity_without_reaching_the_gradient():
    log_prob = torch.tensor([[0.0, -torch.inf]], requires_grad=True)
    counts = torch.tensor([[True, False]])
    loss = team_clipped_loss(log_prob, torch.tensor([[0.0, -torch.inf]]), torch.ones(1, 2), counts, 0.2)
    (gradient,) = torch.autograd.grad(loss, log_prob)
    assert gradient.tolist() == [[-1.0, 0.0]]


def test_the_scale_is_that_of_its_targets_weighted_by_age():
    scale = ValueScale(1, 0.5)
    assert [number.item() for number in scale.statistics()] == [0.0, 1.0]
    counts = torch.ones(4, 1, dtype=torch.bool)
    first, second = torch.tensor([[1.0], [3], [5], [7]]), torch.tensor([[20.0], [30], [40], [50]])
    scale.absorb(first, counts)
    mean, deviation = scale.statistics()
    assert (mean.item(), deviation.item()) == (pytest.approx(4), pytest.approx(5**0.5))
    scale.absorb(second, counts)
    # weights 1/4 and 1/2, divided by their sum 3/4
    mean_of_both = (first.mean() + 2 * second.mean()) / 3
    square = (first.square().mean() + 2 * second.square().mean()) / 3
    mean, deviation = scale.statistics()
    torch.testing.assert_close(mean[0], mean_of_both)
    torch.testing.assert_close(deviation[0], (square - mean_of_both.square()).sqrt())
    scale.absorb(torch.full((4, 1), torch.nan), ~counts)
    assert torch.equal(scale.statistics()[0], mean)


def test_the_scale_knows_agents_apart_when_they_are_separate():
    scale = ValueScale(2, 0.9)
    targets = torch.tensor([[1.0, 100.0], [3.0, 300.0]])
    scale.absorb(targets, torch.ones(2, 2, dtype=torch.bool))
    torch.testing.assert_close(scale.normalised(targets), torch.tensor([[-1.0, -1.0], [1.0, 1.0]]))
    torch.testing.assert_close(scale.returns(scale.normalised(targets)), targets)


@pytest.mark.parametrize("shared", [True, False])
def test_a_rescaled_last_layer_predicts_the_same_returns(shared):
    head, inputs = AgentLinear(4, 1, 3, shared=shared), torch.randn(5, 3, 4, generator=torch.Generator())
    size = 1 if shared else 3
    old = (torch.arange(size) + 2.0, torch.arange(size) + 1.0)
    new = (torch.arange(size) - 5.0, torch.arange(size) * 3 + 0.5)
    before = head(inputs).squeeze(-1) * old[1] + old[0]
    keep_predictions(head, old, new)
    torch.testing.assert_close(head(inputs).squeeze(-1) * new[1] + new[0], before, atol=1e-5, rtol=1e-5)


# Teams


@pytest.mark.parametrize("name", TEAMS)
def test_the_team_passes_the_public_checks(name):
    check_agent(TEAMS[name], TEAMS[name].config_class(**SMALL))


def test_with_the_teams_reward_a_critic_of_the_state_alone_has_one_value_for_all():
    team = team_of(MAPPO, critic_input="state")
    batch = random_joint(team)
    values = team._values(team._critic_inputs(batch.observation, batch.state))
    assert values.shape == batch.reward.shape
    assert torch.equal(values, values[..., :1].expand_as(values))
    own = team_of(MAPPO, critic_input="state", team_reward=False)
    values = own._values(own._critic_inputs(batch.observation, batch.state))
    assert not torch.equal(values, values[..., :1].expand_as(values))
    assert team.update(batch)["value_loss"].isfinite()


def test_who_leaves_early_has_no_future_of_its_own_but_one_in_the_team():
    """Agent 0 leaves after the first of two steps; only the second pays, and pays the other agent."""
    for team_reward, expected in ((False, 0.0), (True, 0.9 * 2.0)):
        team = team_of(IPPO, team_reward=team_reward, discount=0.9, gae_lambda=1.0)
        batch = random_joint(team)
        reward = torch.zeros(2, 8, AGENTS)
        reward[1, :, 1:] = 3.0
        learns = torch.ones(2, 8, AGENTS, dtype=torch.bool)
        learns[1, :, 0] = False
        terminated = torch.zeros(2, 8, dtype=torch.bool)
        terminated[1] = True
        columns = {name: getattr(batch, name)[:2] for name in ("observation", "state", "action", "log_prob")}
        batch = replace(
            batch, reward=reward, learns=learns, terminated=terminated, truncated=torch.zeros_like(terminated),
            next_observation=batch.observation[1:3], next_state=batch.state[1:3], memory=None, **columns,
        )  # fmt: skip
        _, target = team._advantages(batch)
        torch.testing.assert_close(target[0, :, 0], torch.full((8,), expected), atol=1e-5, rtol=0)


def what_who_left_would_have_expected_is_not_looked_at(team_class: type[PolicyTeam] = MAPPO) -> None:
    """Agent 0 leaves after the first row; what a critic says for zeros that it never learned must reach nobody."""
    team = team_of(team_class, gae_lambda=0.5)
    batch = random_joint(team)
    learns = torch.ones_like(batch.reward, dtype=torch.bool)
    learns[1:, :, 0] = False
    found = []
    for shown in (0.0, 50.0):
        observation, following = batch.observation.clone(), batch.next_observation.clone()
        observation[1:, :, 0] = following[:, :, 0] = shown
        following[0] = batch.next_observation[0]
        left = replace(batch, learns=learns, observation=observation, next_observation=following)
        found.append(torch.where(learns, team._advantages(left)[0], 0.0))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("team_class", [IPPO, MAPPO])
def test_values_from_the_view_of_who_left_do_not_stand_for_the_teams_future(team_class, monkeypatch):
    what_who_left_would_have_expected_is_not_looked_at(team_class)
    monkeypatch.setattr(policy_team, "of_those_present", lambda values, counts: values)
    with pytest.raises(AssertionError):
        what_who_left_would_have_expected_is_not_looked_at(team_class)


def test_entropy_weight_and_learning_rate_decay_by_the_number_of_updates():
    team = team_of(IPPO, entropy_weight=0.1, final_entropy_weight=0.02, annealing=0.5, learning_rate_decay=0.5)
    batch = random_joint(team)
    for number in range(3):
        assert team._entropy_weight() == pytest.approx(0.02 + 0.08 * 0.5**number)
        team.update(batch)
        assert team.policy_optimizer.param_groups[0]["lr"] == pytest.approx(5e-4 * 0.5**number)


def test_recurrent_minibatches_are_whole_copies():
    team = team_of(IPPO, recurrent=True, minibatches=3)
    column = torch.arange(6 * 8).reshape(6, 8)
    parts = [chosen(column) for chosen in team._minibatches({}, 8)]
    assert all(part.shape[0] == 6 for part in parts)
    assert sorted(torch.cat(parts, dim=1)[0].tolist()) == list(range(8))


def test_the_scale_of_rewards_does_not_matter_to_normalised_critics_and_standardised_advantages():
    first, second = (team_of(MAPPO, reward_scale=scale, preserve_values=False) for scale in (1.0, 1000.0))
    batch = random_joint(first)
    batch = replace(batch, terminated=torch.ones_like(batch.terminated), truncated=torch.zeros_like(batch.truncated))
    # every step ends an episode, and the critic begins at 0: targets are the rewards
    logs = []
    for team in (first, second):
        with torch.no_grad():
            team.critic.head.weight.zero_()
            team.critic.head.bias.zero_()
        logs.append(team.update(batch))
    assert logs[0]["value_loss"].item() == pytest.approx(0.5, rel=1e-3)
    torch.testing.assert_close(logs[1], logs[0], atol=1e-4, rtol=1e-3)
    for a, b in zip(first.policy.parameters(), second.policy.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("clip", 0.0), ("clip", 1.0), ("gae_lambda", 1.1), ("epochs", 0), ("minibatches", 1.5), ("epochs", True),
        ("entropy_weight", -1.0), ("final_entropy_weight", -0.1), ("annealing", 2.0), ("learning_rate_decay", 0.0),
        ("max_gradient_norm", 0.0), ("value_memory", 1.0), ("value_learning_rate", 0.0), ("critic_hidden_sizes", ()),
        ("critic_hidden_sizes", (0,)), ("reward_scale", 0.0),
    ],
)  # fmt: skip
def test_settings_out_of_range_are_named(field, value):
    with pytest.raises(ValueError, match=field):
        IPPOConfig(**{field: value})


def test_an_unknown_input_of_the_central_critic_is_named():
    for unknown in ("observation", "everything"):
        with pytest.raises(ValueError, match=f"critic_input must be .*{unknown}"):
            MAPPOConfig(critic_input=unknown)


def test_a_recurrent_team_asks_for_the_memory_before_the_first_row():
    team = team_of(IPPO, recurrent=True)
    with pytest.raises(ValueError, match="memory"):
        team.update(replace(random_joint(team), memory=None))


def test_continuous_policies_have_no_probabilities_to_list():
    with pytest.raises(ValueError, match="discrete"):
        team_of(IPPO, CONTINUOUS_ACTIONS).probabilities(np.zeros((1, AGENTS, 4), np.float32))
