import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch

from ca14lib.agents import check_agent
from ca14lib.agents.multi_agent import maac
from ca14lib.agents.multi_agent.check import random_joint
from ca14lib.agents.multi_agent.maac import MAAC, MAACConfig, counterfactual_advantage, log_policy
from ca14lib.environments import joint_spaces

N, F, A, ALPHA = 3, 4, 4, 0.3
OF_ONE, STATE = (gym.spaces.Box(-10, 10, (size,), np.float32) for size in (F, 5))


def team(seed=0, updates=4, **settings):
    """A team whose target networks have fallen behind."""
    quick = {"hidden_sizes": (16, 16), "heads": 2, "learning_rate": 1e-2, "max_gradient_norm": 1e9}
    config = MAACConfig(**(quick | {"entropy_weight": ALPHA} | settings))
    agent = MAAC(*joint_spaces(OF_ONE, gym.spaces.Discrete(A), N), config, state_space=STATE, seed=seed)
    for number in range(updates):
        agent.update(random_joint(agent, number))
    return agent


def draws(agent, actor, observation):
    """Policies and the actions that the team will draw from them next."""
    generator = torch.Generator().set_state(agent.generator.get_state())
    policy = actor(observation)[0].softmax(-1)
    action = torch.multinomial(policy.detach().flatten(0, 1), 1, generator=generator).reshape(-1, N)
    return policy, action


def one_hot(action):
    return torch.nn.functional.one_hot(action, A).float()


def soft_targets_hold(own_actions="drawn"):
    """r + γ (Q̄_i(o', ā') − α log π̄_i(ā_i'|o_i')), all from the target networks; no value after a true end."""
    agent = team(own_actions=own_actions, reward_scale=0.5, attention_penalty=0.0)
    batch = random_joint(agent, 7)
    with torch.no_grad():
        policy, action = draws(agent, agent.target_actor, batch.flat("next_observation"))
        q = agent.target_critic(batch.flat("next_observation"), one_hot(action))[0]
        value = torch.zeros(len(q), N)
        for i in range(N):
            soft = q[:, i] - ALPHA * policy[:, i].log()
            if own_actions == "drawn":
                value[:, i] = soft[torch.arange(len(q)), action[:, i]]
            else:
                value[:, i] = (policy[:, i] * soft).sum(dim=-1)
        target = 0.5 * batch.flat("reward") + 0.99 * value * ~batch.flat("terminated").unsqueeze(-1)
        taken = one_hot(batch.flat("action"))
        now = (agent.critic(batch.flat("observation"), taken)[0] * taken).sum(-1)
    torch.testing.assert_close(agent.update(batch)["critic_loss"], 0.5 * (now - target).square().mean())


def policies_climb_the_counterfactual_advantage(own_actions="drawn"):
    """∇ log π_i(a_i) (Q_i(a) − Σ π Q_i − α log π_i(a_i)), with everybody's actions drawn from the policies of now."""
    agent = team(own_actions=own_actions, shared=False)
    observation = random_joint(agent, 7).flat("observation")
    policy, action = draws(agent, agent.actor, observation)
    q = agent.critic(observation, one_hot(action))[0].detach()
    loss = 0.0
    for i in range(N):
        baseline = (policy[:, i].detach() * q[:, i]).sum(-1, keepdim=True)
        log_prob = policy[:, i].log()
        pulled = log_prob * (q[:, i] - baseline - ALPHA * log_prob.detach())
        weight = one_hot(action[:, i]) if own_actions == "drawn" else policy[:, i].detach()
        loss = loss - (weight * pulled).sum(-1).mean() / N
    penalty = agent.config.logit_penalty * agent.actor(observation)[0].square().mean()
    expected = torch.autograd.grad(loss + penalty, list(agent.actor.parameters()))
    agent._fit_actors(observation, None, torch.ones(len(observation), N, dtype=torch.bool))
    for parameter, gradient in zip(agent.actor.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def shared_gradients_are_means_over_agents():
    """Encoders get the gradient of the sum of the agents' losses, the attention that of the mean."""
    agent = team(shared=False)
    batch = random_joint(agent, 7)
    twin = team(shared=False)
    target = twin._targets(random_joint(twin, 7))
    taken = one_hot(batch.flat("action"))
    q, logits = twin.critic(batch.flat("observation"), taken)
    others = ~torch.eye(N, dtype=torch.bool).unsqueeze(-1).expand_as(logits)
    loss = 0.5 * ((q * taken).sum(-1) - target).square().mean(0).sum()
    loss = loss + N * twin.config.attention_penalty * logits[others].square().mean()
    names, parameters = zip(*twin.critic.named_parameters(), strict=True)
    gradients = torch.autograd.grad(loss, parameters)
    agent.update(batch)
    found = dict(agent.critic.named_parameters())
    for name, gradient in zip(names, gradients, strict=True):
        scale = 1 / N if name.startswith("attention") else 1.0
        torch.testing.assert_close(found[name].grad, scale * gradient, rtol=1e-4, atol=1e-6, msg=name)


PROPERTIES = (
    soft_targets_hold, policies_climb_the_counterfactual_advantage, shared_gradients_are_means_over_agents,
)  # fmt: skip


@pytest.mark.parametrize("holds", PROPERTIES)
def test_update(holds):
    holds()


@pytest.mark.parametrize("holds", PROPERTIES[:2])
def test_update_that_sums_over_own_actions(holds):
    holds("summed")


@pytest.mark.parametrize(
    "fault",
    ["online actors", "online critic", "end ignored", "end dropped", "no entropy", "no baseline", "mean baseline",
     "shared gradients unscaled", "best next action"],
)  # fmt: skip
def test_planted_faults_are_noticed(fault, monkeypatch):
    noticed_by = soft_targets_hold
    healthy_targets, healthy_td = MAAC._targets, maac.td_target
    if fault in ("online actors", "online critic"):

        def targets(self, batch):
            late, now = ("target_actor", "actor") if fault == "online actors" else ("target_critic", "critic")
            target = getattr(self, late)
            setattr(self, late, getattr(self, now))
            value = healthy_targets(self, batch)
            setattr(self, late, target)
            return value

        monkeypatch.setattr(MAAC, "_targets", targets)
    elif fault == "end ignored":
        monkeypatch.setattr(maac, "td_target", lambda reward, terminated, value, discount: reward + discount * value)
    elif fault == "end dropped":
        monkeypatch.setattr(maac, "td_target", lambda reward, terminated, value, discount: healthy_td(
            reward * ~terminated, terminated, value, discount))  # fmt: skip
    elif fault == "no entropy":
        over_own = MAAC._over_own
        monkeypatch.setattr(MAAC, "_over_own", lambda self, values, policy, action: over_own(
            self, values + ALPHA * policy.log(), policy, action))  # fmt: skip
    elif fault == "best next action":
        monkeypatch.setattr(MAAC, "_drawn", lambda self, log_prob: log_prob.argmax(-1))
    elif fault == "shared gradients unscaled":
        noticed_by = shared_gradients_are_means_over_agents
        monkeypatch.setattr(MAAC, "_scale_shared_gradients", lambda self: None)
    else:
        noticed_by = policies_climb_the_counterfactual_advantage
        monkeypatch.setattr(maac, "counterfactual_advantage", {
            "no baseline": lambda q, policy: q, "mean baseline": lambda q, policy: q - q.mean(-1, keepdim=True),
        }[fault])  # fmt: skip
    with pytest.raises(AssertionError):
        noticed_by()


def test_the_baseline_contributes_nothing_in_expectation():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(5, A, generator=generator, dtype=torch.float64).requires_grad_()
    q = torch.randn(5, A, generator=generator, dtype=torch.float64)
    policy = logits.softmax(-1)
    weight = policy.detach()
    gradients = [
        torch.autograd.grad((weight * policy.log() * signal).sum(), logits, retain_graph=True)[0]
        for signal in (q, counterfactual_advantage(q, weight))
    ]
    torch.testing.assert_close(*gradients)
    assert (weight * counterfactual_advantage(q, weight)).sum(-1).abs().max() < 1e-12


def test_log_policies_of_masked_logits_are_finite_and_forbid():
    logits = torch.randn(6, A, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mask = torch.tensor([True, False, True, True]).expand(6, A)
    log_prob = log_policy(logits, mask)
    assert log_prob.isfinite().all()
    assert (log_prob.exp()[~mask] == 0).all()
    torch.testing.assert_close(log_prob.exp().sum(-1), torch.ones(6))
    log_prob.gather(-1, torch.zeros(6, 1, dtype=torch.int64)).sum().backward()
    assert logits.grad.isfinite().all()
    assert (logits.grad[~mask] == 0).all()


@pytest.mark.parametrize("own_actions", ["drawn", "summed"])
def test_masks_are_obeyed_in_every_draw_of_an_update(own_actions):
    agent = team(own_actions=own_actions)
    batch, seen = random_joint(agent, 7, masked=True), []
    healthy = agent._drawn
    agent._drawn = lambda log_prob: seen.append(healthy(log_prob)) or seen[-1]
    logs = agent.update(batch)
    assert all(value.isfinite() for value in logs.values())
    for name, action in zip(("next_action_mask", "action_mask"), seen, strict=True):
        assert batch.flat(name).gather(-1, action.unsqueeze(-1)).all()


def test_rows_that_do_not_count_change_nothing():
    agents = [team() for _ in range(2)]
    batch = random_joint(agents[0], 7)
    random_joint(agents[1], 7)
    learns = torch.rand(1, batch.size, N, generator=torch.Generator().manual_seed(0)) < 0.5
    other = batch.reward + torch.where(learns, 0.0, 5.0)
    for agent, reward in zip(agents, (batch.reward, other)):
        agent.update(dataclasses.replace(batch, reward=reward, learns=learns))
    assert all(torch.equal(a, b) for a, b in zip(agents[0].parameters(), agents[1].parameters()))


@pytest.mark.parametrize("settings", [{}, {"own_actions": "summed", "team_reward": True}], ids=["drawn", "summed"])
def test_it_is_an_agent(settings):
    check_agent(MAAC, MAACConfig(hidden_sizes=(16, 16), heads=2, **settings))


@pytest.mark.parametrize(
    "settings",
    [{"own_actions": "some"}, {"heads": 0}, {"hidden_sizes": (64, 30)}, {"target_rate": 2.0}, {"entropy_weight": -1.0},
     {"attention_penalty": -1.0}, {"max_gradient_norm": 0.0}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        MAACConfig(**settings)


def test_memory_is_refused():
    with pytest.raises(ValueError, match="recurrent"):
        team(recurrent=True, updates=0)
