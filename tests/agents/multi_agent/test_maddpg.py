import copy
import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch
from scipy import stats

from ca14lib.agents import check_agent
from ca14lib.agents.multi_agent import gumbel, maddpg
from ca14lib.agents.multi_agent.check import random_joint
from ca14lib.agents.multi_agent.gumbel import allowed_logits, gumbel_noise, gumbel_softmax
from ca14lib.agents.multi_agent.maddpg import MADDPG, MADDPGConfig, joint_rows, own_first
from ca14lib.environments import joint_spaces

N, F, A = 3, 4, 4
OF_ONE, STATE = (gym.spaces.Box(-10, 10, (size,), np.float32) for size in (F, 5))
DISCRETE = gym.spaces.Discrete(A)
CONTINUOUS = gym.spaces.Box(np.array([-2, 0], np.float32), np.array([1, 3], np.float32))


def team(actions=DISCRETE, seed=0, updates=4, **settings):
    """A team whose target networks have fallen behind."""
    config = MADDPGConfig(**({"hidden_sizes": (16, 16), "learning_rate": 1e-2, "max_gradient_norm": 1e9} | settings))
    agent = MADDPG(*joint_spaces(OF_ONE, actions, N), config, state_space=STATE, seed=seed)
    for number in range(updates):
        agent.update(random_joint(agent, number))
    return agent


def twin_generator(agent):
    """A generator that draws what the team's own will draw next."""
    return torch.Generator().set_state(agent.generator.get_state())


def encoded(agent, action):
    return torch.nn.functional.one_hot(action, A).float() if agent.discrete else agent._unit(action)


def reference_actions(agent, actor, observation, generator, mask=None):
    outputs = actor(observation)[0]
    return gumbel_softmax(allowed_logits(outputs, mask), agent.config.temperature, generator) if agent.discrete else (
        outputs.tanh()
    )  # fmt: skip


def reference_value(critic, observation, action, agent_index):
    """One agent's critic on the joint action ``[B, n, A]``, agents read from its own on."""
    order = [(agent_index + k) % N for k in range(N)]
    row = torch.cat([torch.cat([observation[:, j], action[:, j]], dim=-1) for j in order], dim=-1)
    rows = torch.stack([row] * N, dim=1)  # every agent's network gets it; one answer is read
    return critic(rows)[0][:, agent_index, 0]


# Gumbel-softmax


def draws_follow_the_softmax():
    logits = torch.tensor([0.0, 1.0, -1.0, 0.5])
    drawn = gumbel_softmax(logits.expand(20_000, 4), 0.3, torch.Generator().manual_seed(0))
    expected = logits.softmax(0).numpy() * 20_000
    assert stats.chisquare(drawn.sum(0).numpy(), expected / expected.sum() * drawn.sum().item()).pvalue > 1e-3


def draws_are_exactly_one_hot():
    logits = (5 * torch.randn(500, 4, generator=torch.Generator().manual_seed(1))).requires_grad_()
    drawn = gumbel_softmax(logits, 0.7, torch.Generator().manual_seed(2))
    assert ((drawn == 0) | (drawn == 1)).all()
    assert (drawn.sum(dim=-1) == 1).all()


def gradients_are_those_of_the_softmax():
    generator, weight = torch.Generator().manual_seed(3), torch.randn(4, generator=torch.Generator().manual_seed(4))
    logits = torch.randn(6, 4, generator=generator).requires_grad_()
    noise = gumbel_noise(logits.detach(), torch.Generator().manual_seed(5))
    (expected,) = torch.autograd.grad((((logits + noise) / 0.5).softmax(-1) @ weight).sum(), logits)
    drawn = gumbel_softmax(logits, 0.5, torch.Generator().manual_seed(5))
    (found,) = torch.autograd.grad((drawn @ weight).sum(), logits)
    torch.testing.assert_close(found, expected)


GUMBEL = (draws_follow_the_softmax, draws_are_exactly_one_hot, gradients_are_those_of_the_softmax)


@pytest.mark.parametrize("holds", GUMBEL)
def test_gumbel_softmax(holds):
    holds()


@pytest.mark.parametrize("fault", ["normal noise", "soft values", "no temperature in the gradient", "no noise"])
def test_faults_of_the_gumbel_softmax_are_noticed(fault, monkeypatch):
    def wrong(logits, temperature, generator):
        perturbed = logits + gumbel_noise(logits.detach(), generator)
        soft = (perturbed / (temperature if fault == "soft values" else 1.0)).softmax(-1)
        hard = torch.nn.functional.one_hot(perturbed.argmax(-1), logits.shape[-1]).float()
        return soft if fault == "soft values" else hard + (soft - soft.detach())

    if fault == "normal noise":
        monkeypatch.setattr(gumbel, "gumbel_noise", lambda like, generator: torch.empty_like(like).normal_(
            generator=generator))  # fmt: skip
        noticed_by = draws_follow_the_softmax
    elif fault == "no noise":
        monkeypatch.setattr(gumbel, "gumbel_noise", lambda like, generator: torch.zeros_like(like))
        noticed_by = draws_follow_the_softmax
    else:
        monkeypatch.setitem(globals(), "gumbel_softmax", wrong)
        noticed_by = draws_are_exactly_one_hot if fault == "soft values" else gradients_are_those_of_the_softmax
    with pytest.raises(AssertionError):
        noticed_by()


def test_forbidden_actions_are_never_drawn_and_get_no_gradient():
    logits = torch.zeros(500, 4, requires_grad=True)
    mask = torch.tensor([True, False, True, False])
    drawn = gumbel_softmax(allowed_logits(logits, mask.expand(500, 4)), 1.0, torch.Generator().manual_seed(0))
    assert (drawn[:, ~mask] == 0).all()
    (drawn * torch.randn(4)).sum().backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[:, ~mask] == 0).all()


def test_agents_that_are_allowed_nothing_have_finite_logits():
    assert allowed_logits(torch.zeros(2, 3), torch.zeros(2, 3, dtype=torch.bool)).isfinite().all()


# Update


def critics_learn_their_targets(actions=DISCRETE, **settings):
    """r + γ Q̄_i(o', ā_1(o_1'), …, ā_n(o_n')) with everything after the step from the target networks."""
    agent = team(actions, reward_scale=0.5, **settings)
    batch = random_joint(agent, 7)
    observation, following = batch.flat("observation"), batch.flat("next_observation")
    generator = twin_generator(agent)
    with torch.no_grad():
        action = reference_actions(agent, agent.target_actor, following, generator)
        reward = 0.5 * batch.flat("reward")
        if agent.config.team_reward:
            reward = reward.sum(dim=1, keepdim=True).repeat(1, N) / N
        losses = []
        for i in range(N):
            following_value = reference_value(agent.target_critic, following, action, i)
            target = reward[:, i] + 0.99 * following_value * ~batch.flat("terminated")
            q = reference_value(agent.critic, observation, encoded(agent, batch.flat("action")), i)
            losses.append(0.5 * (q - target).square().mean())
    found = agent.update(batch)["critic_loss"]
    torch.testing.assert_close(found, torch.stack(losses).mean())


def actors_climb_their_own_critic(actor_actions, actions=DISCRETE):
    """Each actor follows its own critic by its own action, the other actions as the variant says."""
    agent = team(actions, actor_actions=actor_actions, shared=False)
    batch = random_joint(agent, 7)
    observation, stored = batch.flat("observation"), encoded(agent, batch.flat("action"))
    generator = twin_generator(agent)
    # three independent copies, so that agent i's gradient can only come from its own action
    drawn = reference_actions(agent, agent.actor, observation, generator)
    loss = 0.0
    for i in range(N):
        joint = (stored if actor_actions == "own" else drawn.detach()).clone()
        joint[:, i] = drawn[:, i]
        loss = loss - reference_value(agent.critic, observation, joint, i).mean() / N
    penalty = agent.config.logit_penalty * agent.actor(observation)[0].square().mean()
    expected = torch.autograd.grad(loss + penalty, list(agent.actor.parameters()))
    critic = copy.deepcopy(agent.critic.state_dict())
    agent._fit_actors(observation, stored, None, torch.ones(len(stored), N, dtype=torch.bool))
    for parameter, gradient in zip(agent.actor.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(value, critic[name]) for name, value in agent.critic.state_dict().items())


def own_variant():
    actors_climb_their_own_critic("own")


def all_variant():
    actors_climb_their_own_critic("all")


UPDATES = (critics_learn_their_targets, own_variant, all_variant)


@pytest.mark.parametrize("holds", UPDATES)
def test_update(holds):
    holds()


def test_continuous_updates():
    critics_learn_their_targets(CONTINUOUS)
    for variant in ("own", "all"):
        actors_climb_their_own_critic(variant, CONTINUOUS)


def test_with_a_team_reward_every_critic_learns_the_mean():
    critics_learn_their_targets(team_reward=True, shared=False)


@pytest.mark.parametrize(
    "fault", ["online actors", "online critics", "end ignored", "cut ends", "end dropped", "no noise", "leak",
              "stored own action", "no penalty"],
)  # fmt: skip
def test_planted_faults_are_noticed(fault, monkeypatch):
    noticed_by = critics_learn_their_targets
    healthy_targets, healthy_values, healthy_td = MADDPG._targets, MADDPG._values, maddpg.td_target
    if fault in ("online actors", "online critics"):

        def targets(self, batch):
            names = ("target_actor", "actor") if fault == "online actors" else ("target_critic", "critic")
            target = getattr(self, names[0])
            setattr(self, names[0], getattr(self, names[1]))
            value = healthy_targets(self, batch)
            setattr(self, names[0], target)
            return value

        monkeypatch.setattr(MADDPG, "_targets", targets)
    elif fault == "end ignored":
        monkeypatch.setattr(maddpg, "td_target", lambda reward, terminated, value, discount: reward + discount * value)
    elif fault == "cut ends":
        monkeypatch.setattr(MADDPG, "_targets", lambda self, batch: healthy_targets(
            self, dataclasses.replace(batch, terminated=batch.terminated | batch.truncated)))  # fmt: skip
    elif fault == "end dropped":  # the reward of the last step is lost
        monkeypatch.setattr(maddpg, "td_target", lambda reward, terminated, value, discount: healthy_td(
            reward * ~terminated, terminated, value, discount))  # fmt: skip
    elif fault == "no noise":
        monkeypatch.setattr(maddpg, "gumbel_softmax", lambda logits, *rest: torch.nn.functional.one_hot(
            logits.argmax(-1), A).float() + 0 * logits)  # fmt: skip
    elif fault == "leak":  # the others' actions carry gradients, too
        noticed_by = all_variant
        monkeypatch.setattr(MADDPG, "_values", lambda self, critic, observation, others, own: healthy_values(
            self, critic, observation, own if own.requires_grad else others, own))  # fmt: skip
    elif fault == "stored own action":
        noticed_by = own_variant
        monkeypatch.setattr(MADDPG, "_values", lambda self, critic, observation, others, own: healthy_values(
            self, critic, observation, others, others + 0 * own))  # fmt: skip
    else:
        noticed_by = own_variant
        step = MADDPG._fit_actors

        def without(self, *rest):
            object.__setattr__(self.config, "logit_penalty", 0.0)
            result = step(self, *rest)
            object.__setattr__(self.config, "logit_penalty", 1e-3)
            return result

        monkeypatch.setattr(MADDPG, "_fit_actors", without)
    with pytest.raises(AssertionError):
        noticed_by()


def test_joint_rows_show_everyone_once_and_the_own_agent_first():
    observation = torch.arange(N, dtype=torch.float32).reshape(1, N, 1)
    others, own = 10 + observation, 20 + observation
    rows = joint_rows(observation, others, own, own_first(N))
    assert rows.tolist() == [[[0, 20, 1, 11, 2, 12], [1, 21, 2, 12, 0, 10], [2, 22, 0, 10, 1, 11]]]
    assert joint_rows(observation[:, :1], others[:, :1], own[:, :1], own_first(1)).tolist() == [[[0, 20]]]


def test_gradients_of_one_critic_reach_one_agents_action_alone():
    observation = torch.zeros(2, N, F)
    own = torch.zeros(2, N, A, requires_grad=True)
    joint_rows(observation, torch.zeros(2, N, A), own, own_first(N))[:, 1].sum().backward()
    assert (own.grad[:, 1] == 1).all()
    assert (own.grad[:, [0, 2]] == 0).all()


def test_rows_that_do_not_count_change_nothing():
    agents = [team() for _ in range(2)]
    batch = random_joint(agents[0], 7)
    random_joint(agents[1], 7)  # moves its generator as far
    learns = torch.rand(1, batch.size, N, generator=torch.Generator().manual_seed(0)) < 0.5
    other = batch.reward + torch.where(learns, 0.0, 5.0)
    for agent, reward in zip(agents, (batch.reward, other)):
        agent.update(dataclasses.replace(batch, reward=reward, learns=learns))
    assert all(torch.equal(a, b) for a, b in zip(agents[0].parameters(), agents[1].parameters()))
    nobody = agents[0].update(dataclasses.replace(batch, learns=torch.zeros_like(learns)))
    assert nobody["critic_loss"] == 0


def test_the_noise_of_the_draws_is_the_exploration():
    agent = team()
    observation = np.repeat(np.random.default_rng(0).normal(size=(1, N, F)).astype(np.float32), 8_000, axis=0)
    action = agent.act(observation)
    with torch.no_grad():
        policy = agent.actor(torch.as_tensor(observation[:1]))[0].softmax(-1)[0].double().numpy()
    for i in range(N):
        counts = np.bincount(action[:, i], minlength=A)
        expected = np.maximum(policy[i] / policy[i].sum() * len(action), 1e-9)
        keep = expected > 5
        assert abs(counts - expected)[keep].max() < 5 * np.sqrt(expected[keep].max())
    assert (agent.act(observation, deterministic=True) == policy.argmax(-1)).all()


def test_continuous_actions_are_explored_within_their_bounds():
    agent = team(CONTINUOUS, exploration=0.2, updates=0)
    observation = np.zeros((4_000, N, F), np.float32)
    best, drawn = agent.act(observation, deterministic=True), agent.act(observation)
    assert (drawn >= CONTINUOUS.low).all()
    assert (drawn <= CONTINUOUS.high).all()
    np.testing.assert_allclose((drawn - best).std(axis=0), 0.2 * 1.5, rtol=0.1)  # half of the range is 1.5


def test_a_mask_of_next_actions_keeps_forbidden_ones_out_of_the_targets():
    agent = team()
    batch = random_joint(agent, 7, masked=True)
    seen = []
    agent._values = lambda critic, observation, others, own: (
        seen.append(own) or MADDPG._values(agent, critic, observation, others, own)
    )
    agent.update(batch)
    following, stored, own = (action.bool() for action in seen)
    assert (batch.flat("next_action_mask") | ~following).all()
    assert (batch.flat("action_mask") | ~own).all()
    assert (stored.int().argmax(-1) == batch.flat("action")).all()


@pytest.mark.parametrize(
    "settings", [{}, {"actor_actions": "all", "team_reward": True, "layer_norm": False}], ids=["own", "all"]
)
def test_it_is_an_agent(settings):
    check_agent(MADDPG, MADDPGConfig(hidden_sizes=(16, 16), **settings))


@pytest.mark.parametrize(
    "settings",
    [{"actor_actions": "some"}, {"temperature": 0.0}, {"target_rate": 0.0}, {"logit_penalty": -1.0},
     {"exploration": -0.1}, {"max_gradient_norm": 0.0}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        MADDPGConfig(**settings)


def test_memory_is_refused():
    with pytest.raises(ValueError, match="recurrent"):
        team(recurrent=True, updates=0)
