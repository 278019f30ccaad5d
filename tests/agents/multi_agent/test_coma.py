import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch

from ca14lib.agents import check_agent
from ca14lib.agents.multi_agent import coma
from ca14lib.agents.multi_agent.check import random_joint
from ca14lib.agents.multi_agent.coma import COMA, COMAConfig, lambda_targets
from ca14lib.environments import joint_spaces

N, F, A, GAMMA, TRACE = 3, 4, 4, 0.9, 0.6
OF_ONE, STATE = (gym.spaces.Box(-10, 10, (size,), np.float32) for size in (F, 5))


def team(seed=0, updates=2, **settings):
    quick = {"hidden_sizes": (16, 16), "epochs": 1, "minibatches": 1, "discount": GAMMA, "trace": TRACE}
    config = COMAConfig(**(quick | {"learning_rate": 1e-2, "max_gradient_norm": 1e9, "standardise": False} | settings))
    agent = COMA(*joint_spaces(OF_ONE, gym.spaces.Discrete(A), N), config, state_space=STATE, seed=seed)
    for number in range(updates):
        agent.update(random_joint(agent, number))
    return agent


def targets_are_weighted_sums_of_n_step_returns(target_of=None):
    """y = (1 − λ) Σ_n λ^(n − 1) G^(n), whose last return, at an end or a cut, has the weight that remains."""
    generator = torch.Generator().manual_seed(0)
    steps, copies = 8, 12
    reward, value = (torch.randn(steps, copies, N, generator=generator, dtype=torch.float64) for _ in range(2))
    ends = torch.rand(steps, copies, generator=generator)
    terminated, truncated = ends < 0.15, (ends > 0.15) & (ends < 0.3)
    last = terminated | truncated
    last[-1] = True
    found = coma.lambda_targets(reward, value, terminated, last, GAMMA, TRACE)
    for copy in range(copies):
        for start in range(steps):
            end = start + int(last[start:, copy].int().argmax())
            expected = torch.zeros(N, dtype=torch.float64)
            for stop in range(start, end + 1):
                returns = sum(GAMMA ** (t - start) * reward[t, copy] for t in range(start, stop + 1))
                if not terminated[stop, copy]:
                    returns = returns + GAMMA ** (stop - start + 1) * value[stop, copy]
                weight = TRACE ** (stop - start) * (1.0 if stop == end else 1 - TRACE)
                expected = expected + weight * returns
            torch.testing.assert_close(found[start, copy], expected)


def value_of(critic, state, observation, action, agent_index):
    """Values ``[B, A]`` of one agent's own actions, given the others'."""
    others = [(agent_index + k) % N for k in range(1, N)]
    parts = [torch.nn.functional.one_hot(action[:, j], A).float() for j in others]
    row = torch.cat([state, observation[:, agent_index], *parts], dim=-1)
    return critic(torch.stack([row] * N, dim=1))[0][:, agent_index]


def the_critic_learns_the_teams_return():
    """Targets from the target critic's values of what was done; after a cut, of what the policies would do."""
    agent = team(reward_scale=0.5)
    batch = random_joint(agent, 7)
    generator = torch.Generator().set_state(agent.generator.get_state())
    with torch.no_grad():
        probabilities = agent.policy(batch.next_observation)[0].softmax(-1)
        drawn = torch.multinomial(probabilities.reshape(-1, A), 1, generator=generator).reshape(batch.action.shape)
        steps, copies = batch.terminated.shape
        expected = torch.zeros(steps, copies, N)
        for i in range(N):
            now, after = (
                torch.stack([
                    value_of(agent.target_critic, state[t], observation[t], action[t], i)[
                        torch.arange(copies), action[t, :, i]]
                    for t in range(steps)
                ])
                for state, observation, action in (
                    (batch.state, batch.observation, batch.action), (batch.next_state, batch.next_observation, drawn),
                )
            )  # fmt: skip
            for copy in range(copies):
                running = torch.zeros(())
                for t in reversed(range(steps)):
                    over, cut = bool(batch.terminated[t, copy]), bool(batch.truncated[t, copy]) or t == steps - 1
                    following = torch.zeros(()) if over else after[t, copy] if cut else (
                        (1 - TRACE) * now[t + 1, copy] + TRACE * running
                    )  # fmt: skip
                    running = 0.5 * batch.reward[t, copy].sum() + GAMMA * following
                    expected[t, copy, i] = running
    seen = agent._critic_rows(batch.state, batch.observation, batch.action)
    torch.testing.assert_close(agent._targets(batch, seen), expected)


def policies_climb_the_counterfactual_advantage():
    agent = team(shared=False, entropy_weight=0.2)
    batch = random_joint(agent, 7)
    state, observation, action = (batch.flat(name) for name in ("state", "observation", "action"))
    policy = agent.policy(observation)[0].softmax(-1)
    loss = 0.0
    for i in range(N):
        q = value_of(agent.critic, state, observation, action, i).detach()
        taken = action[:, i, None]
        advantage = q.gather(1, taken) - (policy[:, i].detach() * q).sum(1, keepdim=True)
        log_prob = policy[:, i].log()
        entropy = -(policy[:, i] * log_prob).sum(1).mean()
        loss = loss - ((log_prob.gather(1, taken) * advantage).mean() + 0.2 * entropy) / N
    expected = torch.autograd.grad(loss, list(agent.policy.parameters()))
    seen = agent._critic_rows(batch.state, batch.observation, batch.action)
    agent._fit_policies(batch, seen, batch.counts())
    for parameter, gradient in zip(agent.policy.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-6)


def own_actions_are_hidden_from_the_critic():
    agent = team(updates=0)
    batch = random_joint(agent, 7)
    other = batch.action.clone()
    other[..., 1] = (other[..., 1] + 1) % A
    rows, changed = (agent._critic_rows(batch.state, batch.observation, action) for action in (batch.action, other))
    assert torch.equal(rows[..., 1, :], changed[..., 1, :])
    assert (rows != changed).any(dim=-1)[..., [0, 2]].all()


PROPERTIES = (
    targets_are_weighted_sums_of_n_step_returns, the_critic_learns_the_teams_return,
    policies_climb_the_counterfactual_advantage, own_actions_are_hidden_from_the_critic,
)  # fmt: skip


@pytest.mark.parametrize("holds", PROPERTIES)
def test_property(holds):
    holds()


@pytest.mark.parametrize(
    "fault", ["trace through cuts", "cut ends", "end dropped", "no baseline", "own action shown", "online critic",
              "own reward", "next row after a cut"],
)  # fmt: skip
def test_planted_faults_are_noticed(fault, monkeypatch):
    noticed_by = targets_are_weighted_sums_of_n_step_returns
    healthy, healthy_targets = lambda_targets, COMA._targets
    if fault == "trace through cuts":
        monkeypatch.setattr(coma, "lambda_targets", lambda r, v, over, last, *rest: healthy(r, v, over, over, *rest))
    elif fault == "cut ends":
        monkeypatch.setattr(coma, "lambda_targets", lambda r, v, over, last, *rest: healthy(r, v, last, last, *rest))
    elif fault == "end dropped":
        monkeypatch.setattr(coma, "lambda_targets", lambda r, v, over, *rest: healthy(
            r * ~over.unsqueeze(-1), v, over, *rest))  # fmt: skip
    elif fault == "no baseline":
        noticed_by = policies_climb_the_counterfactual_advantage
        monkeypatch.setattr(coma, "counterfactual_advantage", lambda q, policy: q)
    elif fault == "own action shown":
        noticed_by = own_actions_are_hidden_from_the_critic
        monkeypatch.setattr(coma, "own_first", lambda n: (torch.arange(n).unsqueeze(-1) + torch.arange(n) - 1) % n)
    else:
        noticed_by = the_critic_learns_the_teams_return

        def targets(self, batch, seen):
            if fault == "own reward":
                return healthy_targets(self, dataclasses.replace(batch, reward=batch.reward.roll(1, 0) * 0.3), seen)
            if fault == "next row after a cut":
                return healthy_targets(self, dataclasses.replace(batch, truncated=torch.zeros_like(batch.truncated)),
                                       seen)  # fmt: skip
            target, self.target_critic = self.target_critic, self.critic
            value = healthy_targets(self, batch, seen)
            self.target_critic = target
            return value

        monkeypatch.setattr(COMA, "_targets", targets)
    with pytest.raises(AssertionError):
        noticed_by()


def test_with_memory_what_would_be_done_after_a_cut_is_drawn_with_the_memory_of_then():
    agent = team(recurrent=True)
    batch = random_joint(agent, 7)
    logits = agent._next_logits(batch, batch.next_observation)
    goes_on = ~(batch.terminated | batch.truncated)[:-1]
    replayed = agent.policy.unrolled(batch.observation, batch.memory, batch.starts())
    # where the episode goes on, what was seen next is the next row's observation, and so are the logits
    torch.testing.assert_close(logits[:-1][goes_on], replayed[1:][goes_on])


def test_rows_that_do_not_count_change_nothing():
    agents = [team() for _ in range(2)]
    batch = random_joint(agents[0], 7)
    random_joint(agents[1], 7)
    learns = torch.rand(*batch.terminated.shape, N, generator=torch.Generator().manual_seed(0)) < 0.5
    changed = torch.where(learns, batch.action, (batch.action + 1) % A)
    for agent, action in zip(agents, (batch.action, changed)):
        agent._critic_rows = lambda state, features, _, self=agent: COMA._critic_rows(  # others' actions stay inputs
            self, state, features, batch.action
        )
        seen = agent._critic_rows(batch.state, batch.observation, batch.action)
        agent._fit_policies(dataclasses.replace(batch, action=action, learns=learns), seen, learns)
    assert all(torch.equal(a, b) for a, b in zip(agents[0].parameters(), agents[1].parameters()))


@pytest.mark.parametrize("central", [True, False])
def test_it_is_an_agent(central):
    check_agent(COMA, COMAConfig(hidden_sizes=(16, 16), minibatches=2, central=central))


def test_without_a_central_critic_each_sees_its_own_observation_alone():
    agent = team(central=False)
    batch = random_joint(agent, 7)
    rows = agent._critic_rows(batch.state + 1, batch.observation, (batch.action + 1) % A)
    assert torch.equal(rows, batch.observation)


@pytest.mark.parametrize(
    "settings",
    [{"trace": 1.1}, {"epochs": 0}, {"minibatches": 0}, {"target_rate": 0.0}, {"entropy_weight": -1.0},
     {"value_learning_rate": 0.0}, {"max_gradient_norm": 0.0}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        COMAConfig(**settings)


def what_who_left_would_have_expected_is_not_looked_at():
    """Agent 0 leaves after the first row; the critic's outputs for what it sees then are of nobody's concern."""
    agent = team(central=False)
    batch = random_joint(agent, 9)
    learns = torch.ones_like(batch.reward, dtype=torch.bool)
    learns[1:, :, 0] = False
    found = []
    for shown in (0.0, 5.0):
        observation, following = batch.observation.clone(), batch.next_observation.clone()
        observation[1:, :, 0] = following[1:, :, 0] = shown
        left = dataclasses.replace(batch, learns=learns, observation=observation, next_observation=following)
        seen = agent._critic_rows(left.state, agent._features(left.observation), left.action)
        agent.generator.manual_seed(0)
        found.append(torch.where(learns, agent._targets(left, seen), 0.0))
    torch.testing.assert_close(*found)


def test_values_from_the_view_of_who_left_do_not_stand_for_the_teams_future(monkeypatch):
    what_who_left_would_have_expected_is_not_looked_at()
    monkeypatch.setattr(coma, "of_those_present", lambda values, counts: values)
    with pytest.raises(AssertionError):
        what_who_left_would_have_expected_is_not_looked_at()
