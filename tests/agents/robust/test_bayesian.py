"""PSRL, the planners beside it, bootstrapped DQN and beliefs about dynamics: closed forms, references, planted faults.

What is decorated with ``holds`` is run on the healthy code here, and on code with a planted fault at the end.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable

import gymnasium as gym
import numpy as np
import pytest
import scipy.stats
import torch

import ca14lib.agents.robust.planner as planner_module
from ca14lib.agents import check_agent
from ca14lib.agents.checkpoint import write_checkpoint
from ca14lib.agents.robust import bootstrapped_dqn, dynamics_posterior, psrl, tabular_baselines
from ca14lib.agents.robust.bootstrapped_dqn import BootstrappedDQN, BootstrappedDQNConfig
from ca14lib.agents.robust.dynamics_posterior import CandidateModels, LinearBelief, LinearDynamics, LinearDynamicsConfig
from ca14lib.agents.robust.planner import Planner, PlannerConfig
from ca14lib.agents.robust.psrl import PSRL, NormalGamma, PSRLConfig
from ca14lib.agents.robust.tabular_baselines import (
    UCBVI,
    PosteriorMean,
    PosteriorMeanConfig,
    QLearning,
    QLearningConfig,
    UCBVIConfig,
)
from ca14lib.data.bootstrap_replay import BootstrapReplay, BootstrapTransitions
from ca14lib.environments import RiverSwimVector, TabularModel, river_swim_model
from ca14lib.solvers import value_iteration
from ca14lib.training import train_off_policy
from tests.agents.robust.faults_bayesian import FAULTS

S, A, H = 6, 2, 20
STATES, ACTIONS = gym.spaces.Discrete(S), gym.spaces.Discrete(A)
PLANNERS = (PSRL, PosteriorMean, QLearning, UCBVI)
PROPERTIES: dict[str, Callable[[], None]] = {}


def holds(test: Callable[[], None]) -> Callable[[], None]:
    PROPERTIES[test.__name__.removeprefix("test_").replace("_", "-")] = test
    return test


def made(cls: type[Planner], seed: int = 0, **settings) -> Planner:
    return cls(STATES, ACTIONS, cls.config_class(**settings), seed=seed)


def swim(planner: Planner, episodes: int, seed: int = 0) -> list[np.ndarray]:
    """Let it act on RiverSwim; the policy that it held at every step, ``[H, S, A]`` each."""
    environment, held = RiverSwimVector(1), []
    observation, _ = environment.reset(seed=seed)
    for _ in range(episodes * H):
        action = planner.act(observation)
        held.append(planner.policy_table().copy())
        following, reward, terminated, truncated, info = environment.step(action)
        planner.observe(
            observation=observation, action=action, reward=reward,
            next_observation=info["final_obs"] if truncated[0] else following,
            terminated=terminated, truncated=truncated,
        )  # fmt: skip
        observation = following
    return held


# Beliefs and draws


@holds
def test_the_normal_gamma_posterior_is_that_of_a_grid():
    data = np.array([0.4, 1.1, -0.2, 0.7])
    prior = NormalGamma(0.3, 0.5, 2.0, 0.7)
    found = psrl.normal_gamma_posterior(prior, 4, data.sum(), (data**2).sum())
    mean, precision = np.meshgrid(np.linspace(-4, 4, 801), np.linspace(1e-3, 25, 1200), indexing="ij")
    log = scipy.stats.gamma.logpdf(precision, prior.shape, scale=1 / prior.rate)
    log += scipy.stats.norm.logpdf(mean, prior.mean, 1 / np.sqrt(prior.weight * precision))
    log += sum(scipy.stats.norm.logpdf(x, mean, 1 / np.sqrt(precision)) for x in data)
    weight = np.exp(log - log.max())
    weight /= weight.sum()
    freedom, scale = 2 * found.shape, math.sqrt(found.rate / (found.shape * found.weight))
    assert np.isclose((weight * precision).sum(), found.shape / found.rate, rtol=1e-3)
    assert np.isclose((weight * mean).sum(), found.mean, atol=1e-3)
    variance = (weight * (mean - found.mean) ** 2).sum()
    assert np.isclose(variance, scale**2 * freedom / (freedom - 2), rtol=2e-2)


def test_without_data_the_belief_is_the_prior():
    prior = NormalGamma(0.3, 0.5, 2.0, 0.7)
    found = psrl.normal_gamma_posterior(prior, np.zeros(3), np.zeros(3), np.zeros(3))
    for part, expected in zip(found, prior, strict=True):
        assert np.allclose(part, expected)


@holds
def test_draws_follow_their_laws():
    generator, number = np.random.default_rng(0), 4_000
    belief = NormalGamma(np.full(number, 0.5), np.full(number, 4.0), np.ones(number), np.full(number, 2.0))
    law = scipy.stats.t(2, 0.5, math.sqrt(2 / 4))
    assert scipy.stats.kstest(psrl.sampled_mean(belief, generator), law.cdf).pvalue > 1e-3
    rows = psrl.sampled_rows(np.tile([0.3, 1.0, 2.7], (number, 1)), generator)
    assert np.allclose(rows.sum(axis=1), 1)
    for column, alpha in enumerate((0.3, 1.0, 2.7)):
        assert scipy.stats.kstest(rows[:, column], scipy.stats.beta(alpha, 4 - alpha).cdf).pvalue > 1e-3


def test_rows_that_underflow_are_corners():
    rows = psrl.sampled_rows(np.full((50, 3), 1e-320), np.random.default_rng(0))
    assert np.allclose(np.sort(rows, axis=1), [0, 0, 1])


# Planning


@holds
def test_the_plan_is_the_exact_optimum_of_several_models_at_once():
    rng = np.random.default_rng(1)
    transition, reward = rng.dirichlet(np.ones(4), size=(3, 4, 2)), rng.normal(size=(3, 4, 2))
    q = planner_module.finite_horizon_values(transition, reward, 7)
    for number in range(3):
        exact = value_iteration(TabularModel(transition[number], reward[number]), 1.0, 7)
        assert np.allclose(q[number], exact.q)
        assert np.allclose(q[number], planner_module.finite_horizon_values(transition[number], reward[number], 7))


@holds
def test_ties_are_broken_evenly():
    q = np.array([[1.0, 1.0 + 1e-12, 0.0], [0.0, -1.0, -1.0]])
    assert np.allclose(planner_module.greedy_policy(q), [[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]])
    agent = made(PosteriorMean, exploration=0.0)
    drawn = [agent.act(np.array([2]))[0] for _ in range(400)]
    assert 140 < sum(drawn) < 260, "before the first observation all actions are alike"


@holds
def test_one_model_is_followed_for_a_whole_episode():
    agent = made(PSRL)
    held = swim(agent, 5)
    episodes = [held[start : start + H] for start in range(0, len(held), H)]
    for tables in episodes:
        assert all((table == tables[0]).all() for table in tables), "the plan changed within an episode"
    firsts = [tables[0] for tables in episodes]
    assert all((a != b).any() for a, b in itertools.pairwise(firsts)), "no new model was drawn between episodes"
    assert agent.episodes == 5


@holds
def test_the_policy_is_optimal_in_the_model_that_was_drawn():
    agent = made(PSRL)
    swim(agent, 3)
    table = agent.policy_table()
    exact = value_iteration(TabularModel(agent.transition, agent.reward), 1.0, H)
    assert np.allclose((table * exact.q).sum(axis=2), exact.q.max(axis=2))


@holds
def test_the_posterior_settles_on_the_truth():
    agent = made(PSRL)
    swim(agent, 150)
    model, often = river_swim_model(), agent.visits > 200
    assert often.any()
    transition, reward = agent.sampled_model()
    assert np.allclose(transition[often], model.transition[often], atol=0.15)
    assert np.allclose(reward[often], model.reward[often], atol=0.1)
    assert agent.visits.sum() == 150 * H


@holds
def test_what_is_never_tried_stays_uncertain():
    agent = made(PSRL)
    agent.counts[0, 0, 0] = 1_000
    draws = np.array([agent.sampled_model()[0] for _ in range(60)])
    assert draws[:, 0, 0, 0].std() < 0.01
    assert draws[:, 3, 1].std(axis=0).max() > 0.2


@holds
def test_the_end_of_the_horizon_is_no_terminal_state_and_a_true_end_is():
    agent = made(PSRL, horizon=3)
    step = {"action": np.array([0]), "reward": np.ones(1), "truncated": np.array([False])}
    for number, state in enumerate((0, 1, 2)):
        agent.act(np.array([state]))
        ends = np.array([number == 2])
        agent.observe(observation=np.array([state]), next_observation=np.array([state + 1]), terminated=ends, **step)
    assert not agent.terminal.any()
    agent.act(np.array([0]))
    agent.observe(observation=np.array([0]), next_observation=np.array([5]), terminated=np.array([True]), **step)
    assert agent.terminal.tolist() == [False] * 5 + [True]
    transition, reward = agent.sampled_model()
    assert (transition[5, :, 5] == 1).all()
    assert (reward[5] == 0).all()
    assert agent.step == 0, "the episode is over"


# The planners beside it


@pytest.mark.parametrize("cls", PLANNERS)
def test_a_planner_repeats_itself_is_saved_and_goes_on_bit_for_bit(cls, tmp_path):
    first, second = made(cls, seed=3), made(cls, seed=3)
    assert all((a == b).all() for a, b in zip(swim(first, 4), swim(second, 4)))
    first.act(np.array([1]))
    first.save(tmp_path / "planner")
    loaded = made(cls, seed=9).load(tmp_path / "planner")
    assert all((a == b).all() for a, b in zip(swim(first, 4), swim(loaded, 4)))
    assert all((first._arrays()[name] == array).all() for name, array in loaded._arrays().items())


@pytest.mark.parametrize("cls", PLANNERS)
def test_a_policy_table_holds_probabilities_and_is_what_is_drawn(cls):
    agent = made(cls)
    swim(agent, 2)
    table = agent.policy_table()
    assert table.shape == (H, S, A)
    assert np.allclose(table.sum(axis=2), 1)
    drawn = np.mean([agent.act(np.array([4]))[0] for _ in range(800)])
    assert abs(drawn - table[0, 4, 1]) < 0.09
    assert agent.act(np.array([4]), deterministic=True)[0] == table[0, 4].argmax()


@holds
def test_the_policy_of_q_learning_does_not_change_for_what_is_left_of_its_episode():
    agent = made(QLearning, exploration=0.5)
    environment = RiverSwimVector(1)
    observation, _ = environment.reset(seed=0)
    for _ in range(3):
        before = tabular_baselines.epsilon_greedy(planner_module.greedy_policy(agent.q), 0.5)
        assert (agent.policy_table() == before).all()
        for step in range(H):
            now = tabular_baselines.epsilon_greedy(planner_module.greedy_policy(agent.q), 0.5)
            assert (now[step:] == before[step:]).all(), "a value was changed before it was followed"
            action = agent.act(observation)
            following, reward, terminated, truncated, info = environment.step(action)
            agent.observe(
                observation=observation, action=action, reward=reward + 0.3,
                next_observation=info["final_obs"] if truncated[0] else following,
                terminated=terminated, truncated=truncated,
            )  # fmt: skip
            observation = following


@holds
def test_q_learning_learns_the_optimum_of_a_known_problem():
    agent = QLearning(gym.spaces.Discrete(2), ACTIONS, QLearningConfig(horizon=3, exploration=1.0, rate_offset=0.0))
    rng = np.random.default_rng(0)
    for _ in range(400):  # action 1 swaps the two states and pays 1 in the second
        state = np.array([rng.integers(2)])
        for step in range(3):
            action = agent.act(state)
            following = (state + action) % 2
            agent.observe(
                observation=state, action=action, reward=(state * action).astype(float), next_observation=following,
                terminated=np.array([step == 2]), truncated=np.array([False]),
            )  # fmt: skip
            state = following
    assert np.allclose(agent.q[:, :, :].max(axis=2), [[1, 2], [1, 1], [0, 1]], atol=0.15)


@holds
def test_the_share_of_uniform_actions_halves_and_is_mixed_in():
    assert tabular_baselines.epsilon_schedule(0, 0.4, 50) == 0.4
    assert tabular_baselines.epsilon_schedule(50, 0.4, 50) == 0.2
    assert tabular_baselines.epsilon_schedule(10**6, 0.4, math.inf) == 0.4
    agent = made(PosteriorMean, exploration=0.4, halving=math.inf)
    swim(agent, 2)
    assert set(agent.policy_table().min(axis=2).round(9).ravel()) <= {0.2, 0.5}


@holds
def test_optimism_is_justified_at_the_width_of_the_theory():
    agent = made(UCBVI, bonus=1.0)
    swim(agent, 40)
    q = value_iteration(river_swim_model(), 1.0, H).q
    bonus = tabular_baselines.exploration_bonus(agent.visits, agent.config, S, A)
    expected = H * math.sqrt(math.log(5 * S * A * 20_000 / 0.05) / agent.visits[0, 0])
    assert np.isclose(bonus[0, 0], expected)
    untried = tabular_baselines.exploration_bonus(np.zeros((S, A)), agent.config, S, A)
    assert (untried == H).all()
    seen = np.maximum(agent.visits, 1)
    optimistic = planner_module.finite_horizon_values(
        agent.counts / seen[..., None], agent.reward_sum / seen + bonus, H
    )
    assert (optimistic >= q - 1e-9).all()


@holds
def test_optimistic_values_are_cut_at_what_an_episode_can_still_pay():
    """With huge bonuses everything is cut alike, and nothing but ties is left."""
    agent = made(UCBVI, bonus=1e6)
    swim(agent, 2)
    assert np.allclose(agent.policy_table(), 0.5)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: PSRLConfig(horizon=0), "horizon"),
        (lambda: PSRLConfig(horizon=2.5), "horizon"),
        (lambda: PSRLConfig(concentration=0), "concentration must be positive and finite, got 0"),
        (lambda: PSRLConfig(reward_rate=-1), "reward_rate"),
        (lambda: PSRLConfig(reward_mean=math.nan), "reward_mean"),
        (lambda: PosteriorMeanConfig(exploration=1.5), r"exploration must be in \[0, 1\], got 1.5"),
        (lambda: QLearningConfig(halving=0), "halving"),
        (lambda: QLearningConfig(rate_offset=-1), "rate_offset"),
        (lambda: UCBVIConfig(failure=1), "failure"),
        (lambda: UCBVIConfig(bonus=-1), "bonus"),
        (lambda: PSRL(gym.spaces.Box(0, 1, (2,)), ACTIONS), "Discrete observation space"),
        (lambda: PSRL(STATES, gym.spaces.Discrete(2, start=1)), "Discrete action space from 0"),
        (lambda: PSRL(STATES, ACTIONS, PlannerConfig()), "PSRLConfig"),
        (lambda: made(PSRL).act(np.array([6])), r"0…5"),
        (lambda: made(PSRL).act(np.array([1, 2])), r"shape \[1\]"),
        (lambda: made(PSRL).act(np.array([1.0])), "integer"),
        (lambda: BootstrappedDQNConfig(num_heads=1), "num_heads must be an integer of at least 2, got 1"),
        (lambda: BootstrappedDQNConfig(mask_probability=0), "mask_probability"),
        (lambda: BootstrappedDQNConfig(prior_scale=-1), "prior_scale"),
        (lambda: BootstrapReplay(STATES, ACTIONS, 10, heads=0, probability=0.5), "heads must be at least 1"),
        (lambda: BootstrapReplay(STATES, ACTIONS, 10, heads=2, probability=1.5), "probability 1.5"),
        (lambda: LinearDynamicsConfig(noise_rate=0), "noise_rate"),
        (lambda: LinearDynamics(0), "num_features"),
        (lambda: LinearDynamics(2).observe(np.ones((3, 1)), np.ones(3)), r"features must be \[N, 2\]"),
        (lambda: LinearDynamics(1).observe(np.array([[np.nan]]), np.ones(1)), "finite"),
        (lambda: CandidateModels([0.5, 0.6]), "sum to 1"),
        (lambda: CandidateModels([0.5, 0.5]).observe([0.0]), r"\(2,\)"),
        (lambda: CandidateModels([0.5, 0.5]).observe([-np.inf, -np.inf]), "no candidate allows"),
        (lambda: CandidateModels([0.5, 0.5]).best_on_average(np.ones((2, 3))), r"\[policies, 2\]"),
        (lambda: dynamics_posterior.gaussian_log_likelihood(np.ones((2, 1, 1)), np.ones((1, 1)), 0), "deviation"),
        (lambda: dynamics_posterior.gaussian_log_likelihood(np.ones((2, 1)), np.ones((1, 1)), 1), r"\[C, N, D\]"),
    ],
)  # fmt: skip
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_step_that_is_refused_teaches_nothing():
    agent = made(PSRL)
    good = {
        "observation": np.array([1]), "action": np.array([0]), "reward": np.array([1.0]),
        "next_observation": np.array([0]), "terminated": np.array([False]), "truncated": np.array([False]),
    }  # fmt: skip
    for name, value in (("reward", np.nan), ("action", 2), ("next_observation", -1)):
        with pytest.raises(ValueError, match=name):
            agent.observe(**good | {name: np.array([value])})
    assert agent.visits.sum() == 0
    assert agent.step == 0


def test_a_checkpoint_that_does_not_fit_is_refused_and_changes_nothing(tmp_path):
    agent = made(PSRL, seed=1)
    swim(agent, 1)
    path = tmp_path / "planner"
    tensors, metadata = agent.state()
    for damaged_tensors, damaged_metadata in (
        (tensors, metadata | {"agent": "UCBVI"}),
        (tensors, metadata | {"generator": {"bit_generator": "none"}}),
        (tensors | {"counts": torch.zeros(2)}, metadata),
        ({name: tensor for name, tensor in tensors.items() if name != "terminal"}, metadata),
    ):
        write_checkpoint(path, damaged_tensors, damaged_metadata)
        victim, untouched = made(PSRL, seed=2), made(PSRL, seed=2)
        with pytest.raises(ValueError, match="checkpoint"):
            victim.load(path)
        assert all((a == b).all() for a, b in zip(swim(victim, 1), swim(untouched, 1)))


# Bootstrapped DQN

BOX = gym.spaces.Box(-1, 1, (3,), np.float32)


def bootstrapped(seed: int = 0, space: gym.Space = BOX, **settings) -> BootstrappedDQN:
    settings = {"hidden_sizes": (8,), "num_heads": 4, "prior_size": 6, "discount": 0.9} | settings
    return BootstrappedDQN(space, gym.spaces.Discrete(3), BootstrappedDQNConfig(**settings), seed=seed)


def bootstrap_batch(agent: BootstrappedDQN, head_mask: torch.Tensor | None = None) -> BootstrapTransitions:
    generator = torch.Generator().manual_seed(5)
    size = 16
    if head_mask is None:
        head_mask = torch.rand(size, agent.config.num_heads, generator=generator) < 0.5
    return BootstrapTransitions(
        observation=torch.randn(size, 3, generator=generator), action=torch.randint(3, (size,), generator=generator),
        reward=torch.randn(size, generator=generator), cost=torch.zeros(size, 0),
        next_observation=torch.randn(size, 3, generator=generator), terminated=torch.arange(size) < 4,
        truncated=torch.zeros(size, dtype=torch.bool), head_mask=head_mask,
    )  # fmt: skip


def filled(agent: BootstrappedDQN, steps: int = 60, num_envs: int = 2) -> tuple[BootstrapReplay, list[torch.Tensor]]:
    """The agent's buffer after steps with episodes of 5 and 6, and the active heads before every step."""
    buffer, heads = agent.replay(400, num_envs=num_envs), []
    rng = np.random.default_rng(0)
    for step in range(steps):
        heads.append(agent.heads.clone())
        observation = rng.normal(size=(num_envs, 3)).astype(np.float32)
        action = agent.act(observation)
        ended = np.array([(step + 1) % (5 + copy) == 0 for copy in range(num_envs)])
        buffer.add(
            observation=observation, action=action, reward=rng.normal(size=num_envs), terminated=ended,
            next_observation=observation + 1, truncated=np.zeros(num_envs, dtype=bool),
        )  # fmt: skip
    return buffer, heads


def test_it_keeps_the_contract_of_agents():
    check_agent(BootstrappedDQN)


@holds
def test_targets_of_a_head_come_from_itself_alone():
    agent = bootstrapped(prior_scale=2.0, target_rate=0.5)
    batch = bootstrap_batch(agent)
    agent.update(batch)  # target and online networks differ from here on
    target = agent._target(batch)
    with torch.no_grad():
        prior = 2.0 * agent.prior(batch.next_observation)
        online, late = (net(batch.next_observation) + prior for net in (agent.q_network, agent.target_network))
    for row in range(len(batch)):
        for head in range(4):
            value = late[row, head, online[row, head].argmax()]
            expected = batch.reward[row] + (0.0 if batch.terminated[row] else 0.9 * value)
            assert torch.isclose(target[row, head], expected)


@holds
def test_a_mask_of_allowed_actions_holds_for_every_head():
    values = torch.randn(1, 4, 3)
    allowed = torch.tensor([[False, True, False]])
    target = bootstrapped_dqn.head_targets(torch.zeros(1), torch.tensor([False]), values, values, 1.0, allowed)
    assert torch.equal(target, values[:, :, 1])


@holds
def test_a_head_learns_nothing_from_what_its_mask_leaves_out():
    agent = bootstrapped()
    mask = torch.zeros(16, 4, dtype=torch.bool)
    mask[:, 2] = True
    before = agent.q_network.head.weight.detach().clone().unflatten(0, (4, 3))
    agent.update(bootstrap_batch(agent, mask))
    moved = (agent.q_network.head.weight.detach().unflatten(0, (4, 3)) != before).flatten(1).any(dim=1)
    assert moved.tolist() == [False, False, True, False]


@holds
def test_the_loss_sums_over_heads_and_averages_over_rows():
    q, target = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.zeros(2, 2)
    mask = torch.tensor([[True, False], [True, True]])
    assert bootstrapped_dqn.masked_loss(q, target, mask).item() == pytest.approx(0.5 * (1 + 9 + 16) / 2)


@holds
def test_the_trunk_gets_the_mean_of_the_heads_gradients_and_each_head_its_own():
    agent = bootstrapped(prior_scale=0.0)
    batch = bootstrap_batch(agent)
    network, trunk = agent.q_network, agent.q_network.trunk
    weight, bias = network.head.weight.detach().clone().requires_grad_(), network.head.bias.detach()

    def loss_of(values: torch.Tensor) -> torch.Tensor:
        return bootstrapped_dqn.masked_loss(values[..., 0], torch.zeros(16, 4), batch.head_mask)

    plain = loss_of(torch.nn.functional.linear(trunk(batch.observation), weight, bias).unflatten(-1, (4, 3)))
    expected = torch.autograd.grad(plain, [*trunk.parameters(), weight])
    found = torch.autograd.grad(loss_of(network(batch.observation)), [*trunk.parameters(), network.head.weight])
    for one, other in zip(found[:-1], expected[:-1], strict=True):
        assert torch.allclose(one, other / 4, atol=1e-6)
    assert torch.allclose(found[-1], expected[-1], atol=1e-6)


@holds
def test_masks_are_drawn_once_and_stay_with_their_transitions():
    agent = bootstrapped(mask_probability=0.3)
    buffer, _ = filled(agent)
    generator, seen = torch.Generator().manual_seed(0), {}
    for _ in range(40):
        batch = buffer.sample(64, generator)
        for reward, mask in zip(batch.reward.tolist(), batch.head_mask.tolist(), strict=True):
            assert seen.setdefault(reward, mask) == mask, "the mask of a transition has changed"
    share = np.mean(list(seen.values()))
    assert abs(share - 0.3) < 0.07
    assert len({tuple(mask) for mask in seen.values()}) > 5
    other = BootstrapReplay(BOX, gym.spaces.Discrete(3), 400, heads=4, probability=0.3, num_envs=2)
    assert (other.masks(7) == buffer.columns["head_mask"][7].numpy()).all(), "a resumed run draws the same masks"


@holds
def test_priors_differ_and_are_never_trained():
    agent = bootstrapped(learning_rate=0.1)
    batch = bootstrap_batch(agent)
    prior = agent.prior(batch.observation).clone()
    assert prior.std(dim=1).min() > 0
    for _ in range(5):
        agent.update(batch)
    assert torch.equal(agent.prior(batch.observation), prior)
    assert (agent.head_values(batch.observation) - agent.q_network(batch.observation) - prior).abs().max() < 1e-5


@holds
def test_a_head_is_followed_for_a_whole_episode():
    agent = bootstrapped(num_heads=8)
    _, heads = filled(agent, steps=120)
    for copy, length in enumerate((5, 6)):
        episodes = torch.stack(heads)[:, copy].unfold(0, length, length)
        assert (episodes == episodes[:, :1]).all(), "the head changed within an episode"
        assert len(set(episodes[:, 0].tolist())) > 3, "the head does not change between episodes"


@holds
def test_what_it_does_is_greedy_for_the_active_head():
    agent = bootstrapped(prior_scale=5.0)
    observation = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    values = agent.head_values(torch.as_tensor(observation)).detach()
    for head in range(4):
        agent.heads = torch.tensor([head])
        assert (agent.act(observation) == values[:, head].argmax(dim=1).numpy()).all()
    assert (agent.act(observation, deterministic=True) == values.mean(dim=1).argmax(dim=1).numpy()).all()


def test_batches_without_masks_are_for_all_heads_or_refused():
    agent = bootstrapped(mask_probability=1.0)
    batch = bootstrap_batch(agent)
    assert agent._head_mask(dataclasses.replace(batch, head_mask=None)).all()
    with pytest.raises(ValueError, match="stored masks"):
        bootstrapped(mask_probability=0.5).update(dataclasses.replace(batch, head_mask=None))
    with pytest.raises(ValueError, match="head_mask must have shape"):
        agent.update(dataclasses.replace(batch, head_mask=torch.ones(16, 3, dtype=torch.bool)))
    rows = batch.rows(torch.tensor([3, 1]))
    assert torch.equal(rows.head_mask, batch.head_mask[[3, 1]])
    assert rows.to("cpu").head_mask is not None
    with pytest.raises(ValueError, match="active head"):
        bootstrapped().end_episodes(np.array([True, False]))
    agent.replay(10, num_envs=2)
    with pytest.raises(ValueError, match="2 active heads for 3"):
        agent.act(np.zeros((3, 3), np.float32))


def test_the_policy_table_of_several_heads_is_their_average():
    space = gym.spaces.Discrete(4)
    agent = bootstrapped(space=space, prior_scale=5.0)
    model = TabularModel(np.full((4, 3, 4), 0.25), np.zeros((4, 3)))
    agent.heads = torch.tensor([0, 1])
    both = agent.policy_table(model, deterministic=False)
    singles = []
    for head in (0, 1):
        agent.heads = torch.tensor([head])
        singles.append(agent.policy_table(model, deterministic=False))
    assert np.allclose(both, np.mean(singles, axis=0))


def test_training_resumes_bit_for_bit_with_masks_and_heads(tmp_path):
    def run(steps: int, path) -> tuple:
        agent = BootstrappedDQN(
            gym.spaces.Discrete(10), ACTIONS,
            BootstrappedDQNConfig(hidden_sizes=(8,), num_heads=3, mask_probability=0.5), seed=1,
        )  # fmt: skip
        history = train_off_policy(
            agent, "CA14/DeepSea-v0", steps, environment_arguments={"size": 3}, num_envs=2, start_steps=10,
            batch_size=8, buffer=agent.replay(100, num_envs=2), checkpoint=path, checkpoint_every=40, log_every=20,
            progress=False,
        )  # fmt: skip
        return agent, history

    whole, history = run(80, tmp_path / "whole")
    run(40, tmp_path / "part")
    resumed, again = run(80, tmp_path / "part")
    assert history == again
    assert torch.equal(whole.heads, resumed.heads)
    weights = resumed.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in whole.state_dict().items())
    path = tmp_path / "bad"
    tensors, metadata = whole.state()
    write_checkpoint(path, tensors | {"heads": torch.tensor([7])}, metadata)
    with pytest.raises(ValueError, match="active heads"):
        resumed.load(path)


# Beliefs about dynamics


def regression(generator: np.random.Generator, number: int = 12) -> tuple[np.ndarray, np.ndarray]:
    features = generator.normal(size=(number, 2))
    return features, features @ [1.5, -0.7] + 0.3 * generator.normal(size=number)


@holds
def test_evidence_is_the_product_of_the_predictive_densities():
    features, target = regression(np.random.default_rng(0))
    belief, log = LinearDynamics(2), 0.0
    for row, value in zip(features, target, strict=True):
        seen = belief.predictive(row[None])
        log += scipy.stats.t.logpdf(value, seen.freedom, seen.location[0], seen.scale[0])
        belief.observe(row[None], [value])
    whole = LinearDynamics(2)
    whole.observe(features, target)
    assert np.isclose(log, whole.log_evidence())
    for one, other in zip(whole.belief, belief.belief, strict=True):
        assert np.allclose(one, other), "the order and grouping of the data must not matter"


@holds
def test_with_a_weak_prior_the_belief_is_that_of_least_squares():
    features, target = regression(np.random.default_rng(1), number=40)
    found = LinearDynamics(2, LinearDynamicsConfig(prior_deviation=1e4, noise_shape=1e-6, noise_rate=1e-6))
    found.observe(features, target)
    estimate, residual, *_ = np.linalg.lstsq(features, target, rcond=None)
    error = np.sqrt(residual[0] / 40 * np.diag(np.linalg.inv(features.T @ features)))
    assert np.allclose(found.weights().location, estimate, atol=1e-5)
    assert np.allclose(found.weights().scale, error, rtol=1e-3)


@holds
def test_credible_intervals_cover_what_was_drawn_from_the_prior():
    generator, hits, trials = np.random.default_rng(2), 0, 400
    config = LinearDynamicsConfig(prior_deviation=2.0, noise_shape=3.0, noise_rate=0.5)
    for _ in range(trials):
        variance = 1 / generator.gamma(3.0, 1 / 0.5)
        truth = math.sqrt(variance) * 2.0 * generator.normal(size=2)
        features = generator.normal(size=(6, 2))
        belief = LinearDynamics(2, config)
        belief.observe(features, features @ truth + math.sqrt(variance) * generator.normal(size=6))
        marginal = belief.weights()
        low, high = scipy.stats.t.interval(0.9, marginal.freedom, marginal.location, marginal.scale)
        hits += low[0] <= truth[0] <= high[0]
    assert abs(hits / trials - 0.9) < 4 * math.sqrt(0.09 / trials)


@holds
def test_drawn_weights_follow_the_marginals():
    features, target = regression(np.random.default_rng(3), number=4)
    features[:, 1] += 0.9 * features[:, 0]
    belief = LinearDynamics(2)
    belief.observe(features, target)
    weights, deviation = belief.sample(np.random.default_rng(0), 4_000)
    law = belief.weights()
    for column in range(2):
        cdf = scipy.stats.t(law.freedom, law.location[column], law.scale[column]).cdf
        assert scipy.stats.kstest(weights[:, column], cdf).pvalue > 1e-3
    standard = (weights - belief.belief.mean) / deviation[:, None]
    assert np.allclose(np.cov(standard.T), np.linalg.inv(belief.belief.precision), rtol=0.15, atol=0.05)


@holds
def test_candidates_on_a_fine_grid_give_the_normal_posterior():
    """A mass on a line, pushed: v' = v + 0.1 u / m + noise of deviation 0.2; the belief is about w = 1 / m."""
    rng, grid = np.random.default_rng(4), np.linspace(-4, 8, 1201)
    push = rng.normal(size=(30, 1))
    change = 0.1 * push / 0.5 + 0.2 * rng.normal(size=(30, 1))
    prior = np.exp(-0.5 * ((grid - 1) / 1.5) ** 2)
    models = CandidateModels(prior / prior.sum())
    for half in (slice(0, 10), slice(10, 30)):
        prediction = 0.1 * push[None, half] * grid[:, None, None]
        models.observe(dynamics_posterior.gaussian_log_likelihood(prediction, change[half], 0.2))
    precision = 1 / 1.5**2 + (0.01 * push**2).sum() / 0.04
    mean = (1 / 1.5**2 + (0.1 * push * change).sum() / 0.04) / precision
    assert np.isclose(models.probability.sum(), 1)
    assert np.isclose(models.probability @ grid, mean, atol=1e-3)
    assert np.isclose(models.probability @ (grid - mean) ** 2, 1 / precision, rtol=1e-3)
    assert abs(grid[models.most_probable()] - mean) < 0.01


@holds
def test_candidates_with_different_noise_are_weighed_by_their_densities():
    seen = np.full((1, 1), 0.5)
    log = [dynamics_posterior.gaussian_log_likelihood(np.zeros((1, 1, 1)), seen, sigma)[0] for sigma in (0.5, 5.0)]
    models = CandidateModels([0.5, 0.5])
    models.observe(log)
    density = scipy.stats.norm.pdf(0.5, 0, [0.5, 5.0])
    assert np.allclose(models.probability, density / density.sum())


@holds
def test_sampling_tries_what_the_average_never_does():
    values = np.array([[0.5, 0.5], [1.0, 0.2], [0.0, 0.6]])  # three policies in two candidates
    models = CandidateModels([0.3, 0.7])
    assert models.best_on_average(values) == 0
    assert models.most_probable() == 1
    generator = np.random.default_rng(0)
    choices = [values[:, models.sample(generator)].argmax() for _ in range(500)]
    assert set(choices) == {1, 2}
    assert abs(np.mean(np.array(choices) == 1) - 0.3) < 0.08


def test_an_impossible_observation_leaves_the_belief_alone():
    models = CandidateModels([0.25, 0.75])
    with pytest.raises(ValueError, match="no candidate"):
        models.observe([-np.inf, -np.inf])
    assert np.allclose(models.probability, [0.25, 0.75])
    models.observe([-np.inf, 0.0])
    assert models.probability.tolist() == [0.0, 1.0]
    assert LinearBelief._fields == ("mean", "precision", "shape", "rate")


# Planted faults


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name, monkeypatch):
    fault = FAULTS[name]
    assert fault.caught_by
    fault.plant(monkeypatch)
    for caught in fault.caught_by:
        with pytest.raises(AssertionError):
            PROPERTIES[caught]()


def test_every_property_fails_under_some_fault():
    assert {name for fault in FAULTS.values() for name in fault.caught_by} == PROPERTIES.keys()
