"""What must hold of agents with continuous actions, but AWR and BCQ: see ``properties.py``."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import gymnasium as gym
import numpy as np
import scipy.integrate
import scipy.stats
import torch
from torch import Tensor

import ca14lib.agents.offline.bc as bc
import ca14lib.agents.offline.cql as cql
import ca14lib.agents.offline.iql as iql
import ca14lib.agents.offline.td3bc as td3bc
import ca14lib.agents.sac as sac
import ca14lib.networks.policies as policies
from ca14lib.agents import Agent
from ca14lib.data import Transitions
from tests.agents.properties import (
    ONE,
    assert_follows,
    assert_same,
    assert_truncation_is_ignored,
    assert_what_follows_a_true_end_is_ignored,
    fit,
    one_state_batch,
    property_table,
)
from tests.agents.reference import weights
from tests.agents.reference_continuous import ACTIONS, Reference, small_agent, small_batch

ALGORITHMS = ("sac", "td3bc", "cql", "iql", "bc")
PROPERTIES, property_of, each = property_table(*ALGORITHMS)

SAC_SETTINGS = {"target_rate": 0.3, "entropy_per_dimension": -0.7}
CQL_SETTINGS = SAC_SETTINGS | {"sampled_actions": 3, "conservative_weight": 0.7, "policy_learning_rate": 0.003}
TD3BC_SETTINGS = {"target_rate": 0.3, "value_weight": 1.7, "target_noise": 0.4}
IQL_SETTINGS = {"target_rate": 0.3, "expectile": 0.8, "temperature": 2.0, "max_weight": 1.5}
SETTINGS = {"sac": SAC_SETTINGS, "td3bc": TD3BC_SETTINGS, "cql": CQL_SETTINGS, "iql": IQL_SETTINGS, "bc": {}}
TARGETS = {"sac": ["critic"], "td3bc": ["critic", "policy"], "cql": ["critic"], "iql": ["critic"]}


def agent_class(algorithm: str) -> type[Agent]:
    return {"sac": sac.SAC, "td3bc": td3bc.TD3BC, "cql": cql.CQL, "iql": iql.IQL, "bc": bc.BC}[algorithm]


def small(algorithm: str, **settings: object) -> Agent:
    return small_agent(agent_class(algorithm), **(SETTINGS[algorithm] | settings))


# What several algorithms share


def follows_the_reference(algorithm: str, **settings: object) -> None:
    agent = small(algorithm, **settings)
    assert_follows(agent, Reference(agent), algorithm, map(small_batch, range(4)))


@each(*ALGORITHMS)
def four_updates_equal_the_reference(algorithm: str) -> None:
    follows_the_reference(algorithm)


@property_of("cql")
def four_updates_with_a_threshold_equal_the_reference() -> None:
    follows_the_reference("cql", lagrange_threshold=0.3)


@property_of("iql")
def four_updates_with_a_decaying_rate_equal_the_reference() -> None:
    """The rate is 0 from the third update on: the policy stands still there."""
    follows_the_reference("iql", policy_decay_updates=3)


@property_of("td3bc")
def four_updates_with_a_policy_delay_of_three_equal_the_reference() -> None:
    follows_the_reference("td3bc", policy_delay=3)


@each("sac", "td3bc", "cql", "iql")
def an_update_ignores_truncation(algorithm: str) -> None:
    assert_truncation_is_ignored(lambda: small(algorithm), map(small_batch, range(2)))


@each("sac", "td3bc", "iql")
def an_update_ignores_what_follows_a_true_end(algorithm: str) -> None:
    assert_what_follows_a_true_end_is_ignored(lambda: small(algorithm), small_batch())


@property_of("cql")
def the_bellman_error_ignores_what_follows_a_true_end() -> None:
    """Of an end the next observation serves the penalty's proposals and nothing else."""
    batch = small_batch()
    elsewhere = replace(batch, next_observation=batch.next_observation + batch.terminated[:, None])
    cut = replace(batch, next_observation=batch.next_observation + batch.truncated[:, None])
    here, there, beyond = (small("cql").update(b)["critic_loss"] for b in (batch, elsewhere, cut))
    assert torch.equal(here, there)
    assert not torch.equal(here, beyond), "what follows a cut must count"


@each("sac", "td3bc", "cql", "iql")
def the_target_networks_follow_by_polyak_and_get_no_gradient(algorithm: str) -> None:
    agent = small(algorithm)
    for _ in range(2):
        before = weights(agent, "target_")
        agent.update(small_batch())
    after = weights(agent)
    names = {name.split(".")[0].removeprefix("target_") for name in before}
    assert names == set(TARGETS[algorithm]), names
    expected = {name: 0.7 * old + 0.3 * after[name.removeprefix("target_")] for name, old in before.items()}
    assert_same(weights(agent, "target_"), expected, 1e-12)
    for name, parameter in agent.named_parameters():
        if name.startswith("target_"):
            assert parameter.grad is None, f"{name} got a gradient"
            assert not parameter.requires_grad, f"{name} asks for a gradient"
        else:
            assert parameter.requires_grad, f"{name} is frozen after an update"


@property_of("sac", "td3bc", "cql", "iql")
def td_target_is_the_reward_plus_the_discounted_next_value_unless_terminated() -> None:
    terminated = torch.tensor([False, True, False])
    next_value = torch.tensor([10.0, torch.nan, -4.0])
    for module in (sac, td3bc, cql, iql):
        found = module.td_target(torch.tensor([1.0, 2.0, 3.0]), terminated, next_value, 0.5)
        assert found.tolist() == [6.0, 2.0, 1.0]


@each(*ALGORITHMS)
def actions_keep_their_units(algorithm: str) -> None:
    """Networks see [−1, 1], the outside sees the box of the environment."""
    agent = small(algorithm)
    low, high = torch.as_tensor(ACTIONS.low).double(), torch.as_tensor(ACTIONS.high).double()
    middle = torch.tensor([-0.5, 2.0]).double()
    for outside, inside in ((low, -1.0), (high, 1.0), (middle, 0.0)):
        assert torch.equal(agent._unit(outside), torch.full((2,), inside).double())
        assert torch.equal(agent._environment(torch.full((2,), inside).double()), outside)
    observation = np.random.default_rng(0).normal(size=(500, 3)).astype(np.float32) * 5
    agent = agent.float()
    for deterministic in (True, False):
        action = agent.act(observation, deterministic=deterministic)
        assert action.dtype == np.float32
        assert (action >= ACTIONS.low).all(), "an action under the bounds"
        assert (action <= ACTIONS.high).all(), "an action over the bounds"
        inputs = agent._input(torch.as_tensor(observation))
    best = (agent.policy.best if hasattr(agent.policy, "best") else agent.policy)(inputs).detach().numpy()
    found = agent.act(observation, deterministic=True)
    assert np.allclose(found, np.array([-0.5, 2.0]) + np.array([1.5, 2.0]) * best, atol=1e-5)
    assert np.ptp(found) > 1, "the case needs actions that differ"


# The squashed Gaussian


def constant_policy(kind: type, mean: list[float], log_std: list[float]) -> policies.SquashedGaussianPolicy:
    """A policy in double precision whose mean and log standard deviation do not depend on the observation."""
    space = gym.spaces.Box(-1, 1, (1,), np.float32)
    policy = kind(space, len(mean), (4,)).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
        if kind is policies.SquashedGaussianPolicy:
            policy.network[-1].bias.copy_(torch.tensor(mean + log_std))
        else:
            policy.network[-1].bias.copy_(torch.tensor(mean))
            policy.log_std.copy_(torch.tensor(log_std))
    return policy


SHAPES = [(0.0, 0.0), (0.7, -1.0), (-1.2, 0.5), (0.3, -2.5), (2.0, 0.3)]  # mean and log standard deviation


@property_of("sac", "cql")
def squashed_density_integrates_to_one() -> None:
    action = torch.tanh(torch.linspace(-7, 7, 20_001, dtype=torch.float64))  # dense towards the border
    for mean, log_std in SHAPES:
        policy = constant_policy(policies.SquashedGaussianPolicy, [mean], [log_std])
        with torch.no_grad():
            density = policy.log_prob(torch.zeros(len(action), 1).double(), action[:, None]).exp()
        mass = float(torch.trapezoid(density, action))
        inside = np.diff(scipy.stats.norm.cdf([-7, 7], mean, np.exp(log_std)))[0]  # 1 but for some 1e-4 at most
        assert abs(mass - inside) < 1e-5, f"mean {mean}, log std {log_std}: the density integrates to {mass}"


@property_of("sac", "cql")
def squashed_density_is_the_slope_of_the_distribution_of_tanh_of_a_gaussian() -> None:
    """P(tanh u ≤ x) = Φ((artanh x − mean) / std); its numerical slope is the density, dimension by dimension."""
    (first, a), (second, b) = SHAPES[1], SHAPES[2]
    policy = constant_policy(policies.SquashedGaussianPolicy, [first, second], [a, b])
    step = 1e-6
    for action in ([0.1, -0.5], [0.9, 0.2], [-0.3, 0.97], [0.6, -0.99]):
        expected = 0.0
        for x, mean, log_std in zip(action, (first, second), (a, b), strict=True):
            up, down = (scipy.stats.norm.cdf((np.arctanh(x + h) - mean) / np.exp(log_std)) for h in (step, -step))
            expected += math.log((up - down) / (2 * step))
        found = policy.log_prob(torch.zeros(1, 1).double(), torch.tensor([action]).double())
        assert abs(found.item() - expected) < 1e-4, f"{action}: log-density {found.item()}, should be {expected}"


@property_of("sac", "cql")
def drawn_actions_have_the_density_that_is_reported() -> None:
    generator = torch.Generator().manual_seed(0)
    for mean, log_std in SHAPES:
        policy = constant_policy(policies.SquashedGaussianPolicy, [mean, 0.1], [log_std, -1.0])
        observation = torch.zeros(20_000, 1).double()
        action, log_density = policy.sample(observation, generator)
        inner = (action.abs() < 1 - 1e-5).all(dim=1)
        again = policy.log_prob(observation, action)
        torch.testing.assert_close(log_density[inner], again[inner], rtol=1e-6, atol=1e-6)
        u = np.arctanh(action[:, 0].detach().numpy().clip(-1 + 1e-15, 1 - 1e-15))
        distance = scipy.stats.kstest((u - mean) / np.exp(log_std), "norm").statistic
        assert distance < 2.2 / math.sqrt(20_000), f"drawn actions are off by {distance}"


@property_of("sac", "cql")
def log_tanh_slope_is_exact_and_finite_however_large_its_argument() -> None:
    u = torch.linspace(-6, 6, 49, dtype=torch.float64)
    torch.testing.assert_close(policies.log_tanh_slope(u), torch.log(1 - torch.tanh(u) ** 2), rtol=1e-7, atol=1e-9)
    for dtype in (torch.float32, torch.float64):
        far = torch.tensor([-1000.0, -100.0, -30.0, 30.0, 100.0, 1000.0], dtype=dtype, requires_grad=True)
        slope = policies.log_tanh_slope(far)
        torch.testing.assert_close(slope, math.log(4) - 2 * far.abs())
        (gradient,) = torch.autograd.grad(slope.sum(), far)
        torch.testing.assert_close(gradient, -2 * far.detach().sign())


@property_of("sac")
def action_log_prob_integrates_to_one_in_environment_units() -> None:
    """Over the box [−2, 1] × [0, 4], by quadrature on a grid; the border strip is negligible for a narrow policy."""
    agent = small("sac").float()
    with torch.no_grad():
        agent.policy.network[-1].weight.zero_()
        agent.policy.network[-1].bias.copy_(torch.tensor([0.3, -0.2, -1.0, -1.0]))
    x, y = (np.linspace(lo, hi, 401)[1:-1] for lo, hi in zip(ACTIONS.low, ACTIONS.high, strict=True))
    grid = np.stack(np.meshgrid(x, y, indexing="ij"), axis=-1).reshape(-1, 2)
    density = np.exp(agent.action_log_prob(np.zeros((len(grid), 3), np.float32), grid))
    mass = density.sum() * (x[1] - x[0]) * (y[1] - y[0])
    assert abs(mass - 1) < 1e-3, f"the density integrates to {mass}"
    action = agent.act(np.zeros((4_000, 3), np.float32))
    centre = (density[:, None] * grid).sum(axis=0) / density.sum()
    assert np.allclose(action.mean(axis=0), centre, atol=0.05), "drawn actions and the density disagree"


# Soft actor-critic


@property_of("sac", "cql")
def soft_value_is_the_value_minus_the_weighted_log_density() -> None:
    q, log_prob = torch.tensor([1.0, -2.0, 0.5]), torch.tensor([-1.0, 3.0, 0.0])
    for module in (sac, cql):
        assert module.soft_value(q, log_prob, 0.5).tolist() == [1.5, -3.5, 0.5]
        assert module.soft_value(q, log_prob, 0.0).tolist() == q.tolist()
        assert module.soft_value(q, log_prob, torch.tensor(2.0)).tolist() == [3.0, -8.0, 0.5]


@property_of("sac", "cql")
def the_temperature_rises_while_entropy_is_under_its_target() -> None:
    for module in (sac, cql):
        for entropy, direction in ((-3.0, 1), (-1.0, -1), (-2.0, 0)):
            log_temperature = torch.tensor(0.3, requires_grad=True)
            log_prob = torch.tensor([-entropy - 1, -entropy + 1.0], requires_grad=True)
            loss = module.temperature_loss(log_temperature, log_prob, -2.0)
            gradient, none = torch.autograd.grad(loss, (log_temperature, log_prob), allow_unused=True)
            assert none is None or not none.any(), "the policy must not be trained by the temperature's loss"
            assert gradient.item() == entropy + 2.0, f"gradient {gradient.item()} at entropy {entropy}"
            assert np.sign(-gradient.item()) == direction


@property_of("sac", "cql")
def temperature_moves_towards_the_target_entropy() -> None:
    for algorithm in ("sac", "cql"):
        for target, rises in ((50.0, True), (-50.0, False)):
            agent = small(algorithm, entropy_per_dimension=target)
            before = agent.log_temperature.item()
            for number in range(3):
                agent.update(small_batch(number))
            assert (agent.log_temperature.item() > before) == rises


# Conservative Q-learning


@contextmanager
def spied(module: object, name: str) -> Iterator[mock.Mock]:
    with mock.patch.object(module, name, wraps=getattr(module, name)) as spy:
        yield spy


@property_of("cql")
def penalty_is_the_importance_sampled_log_integral() -> None:
    generator = torch.Generator().manual_seed(0)
    q, density, data = (torch.randn(shape, generator=generator).double() for shape in ((4, 6), (4, 6), (4,)))
    expected = 0.0
    for i in range(4):
        expected += np.log(np.mean(np.exp(q[i].numpy()) / np.exp(density[i].numpy()))) - data[i].item()
    assert abs(cql.continuous_conservative_penalty(q, density, data).item() - expected / 4) < 1e-9
    huge = cql.continuous_conservative_penalty(q + 5e4, density, data + 5e4)
    assert abs(huge.item() - expected / 4) < 1e-6, "large values must not overflow"


@property_of("cql")
def penalty_converges_to_the_exact_log_integral() -> None:
    """On one dimension and a known Q the estimate with many samples is what quadrature gives."""
    space, actions = gym.spaces.Box(-1, 1, (1,), np.float32), gym.spaces.Box(-3, 3, (1,), np.float32)
    config = cql.CQLConfig(hidden_sizes=(4,), sampled_actions=100_000)
    agent = cql.CQL(space, actions, config, seed=0).double()

    def q(action: Tensor) -> Tensor:
        return 2 * torch.sin(3 * action) - action.square()

    exact = math.log(scipy.integrate.quad(lambda a: math.exp(2 * math.sin(3 * a) - a * a), -1, 1)[0])
    here, there = (tuple(torch.full((1, 1), number).double() for number in pair) for pair in ((0.4, -0.5), (-0.2, 0.0)))
    sampled, log_density = agent._penalty_actions(here, there)
    thirds = [slice(None), *(slice(100_000 * k, 100_000 * (k + 1)) for k in range(3))]
    for part in thirds:  # each proposal alone is an importance sample of the same integral
        values = q(sampled[:, part, 0])
        found = cql.continuous_conservative_penalty(values, log_density[:, part], torch.zeros(1).double())
        assert abs(found.item() - exact) < 0.03, f"estimate {found.item()}, integral {exact}"


@property_of("cql")
def the_penalty_has_three_n_terms_all_valued_at_s_with_the_densities_of_their_proposals() -> None:
    agent, batch, n = small("cql"), small_batch(), 3
    before = small("cql")
    s, following = before._input(batch.observation), before._input(batch.next_observation)
    with spied(cql, "continuous_conservative_penalty") as penalty, spied(agent.critic, "forward") as critic:
        agent.update(batch)
    assert penalty.call_count == 2, "one penalty for each critic"
    states, actions = next(call.args for call in critic.call_args_list if len(call.args[0]) > 12)
    joint = torch.cat([states, actions], dim=-1).detach().view(12, -1, 5)
    assert joint.shape[1] in (3 * n, 3 * n + 1), f"{joint.shape[1]} actions per state"
    assert torch.equal(joint[..., :3], s[:, None].expand(-1, joint.shape[1], -1)), "an action is valued elsewhere"
    sampled = joint[:, : 3 * n, 3:]
    for number, call in enumerate(penalty.call_args_list):
        values, log_density, data_q = call.args
        assert values.shape == log_density.shape == (12, 3 * n), f"{tuple(values.shape)} terms"
        assert not log_density.requires_grad
        twin = (before.critic.first, before.critic.second)[number]
        rows = torch.cat([s[:, None].expand(-1, 3 * n, -1), sampled], dim=-1)
        torch.testing.assert_close(values, twin(rows).squeeze(-1))
        data = torch.cat([s, before._unit(batch.action)], dim=-1)
        torch.testing.assert_close(data_q, twin(data).squeeze(-1))
        expected = [torch.full((12, n), -2 * math.log(2)).double()]
        for k, state in enumerate((s, following), start=1):
            group = sampled[:, k * n : (k + 1) * n]
            repeated = state[:, None].expand(-1, n, -1).flatten(0, 1)
            expected.append(before.policy.log_prob(repeated, group.flatten(0, 1)).view(12, n))
        inner = (sampled.abs() < 1 - 1e-6).all(dim=-1)  # closer to the border artanh of a rounded number says little
        assert inner[:, n:].double().mean() > 0.5
        wanted = torch.cat(expected, dim=1).detach()
        torch.testing.assert_close(log_density[inner], wanted[inner], rtol=1e-5, atol=1e-5)
    uniform = sampled[:, :n].flatten()
    assert uniform.abs().max() <= 1
    assert uniform.std() > 0.4, "the first n are uniform on [−1, 1]"


@property_of("cql")
def without_penalty_the_target_has_no_entropy_term() -> None:
    """The logged Bellman error does not depend on the temperature."""
    errors = [small("cql", initial_temperature=t).update(small_batch())["critic_loss"].item() for t in (0.1, 10.0)]
    assert errors[0] == errors[1]


@property_of("cql")
def the_lagrange_weight_rises_when_the_penalty_exceeds_the_threshold_and_falls_otherwise() -> None:
    for threshold, direction in ((-100.0, 1), (100.0, -1)):
        agent = small("cql", lagrange_threshold=threshold)
        found = [agent.update(small_batch(number))["weight"].item() for number in range(5)]
        assert (np.sign(np.diff(found)) == direction).all(), f"threshold {threshold}: weights {found}"


@property_of("cql")
def the_lagrange_weight_stays_within_zero_and_a_million_and_comes_back() -> None:
    agent = small("cql", lagrange_threshold=0.0, learning_rate=0.3)
    with torch.no_grad():
        agent.log_weight.fill_(math.log(9e5))
    high, low = ([torch.tensor(sign * 1e3).double()] * 2 for sign in (1, -1))
    found = [float(agent._weight(high)) for _ in range(10)]
    assert max(found) <= 1e6, f"weights {found}"
    assert found[-1] > 0.999e6, "the bound is reached"
    fell = [float(agent._weight(low)) for _ in range(40)]
    assert fell[-1] < 0.9e6, f"at the bound the weight is stuck: {fell}"
    assert min(fell) >= 0
    assert torch.isfinite(agent.log_weight)


# TD3 with behaviour cloning


@property_of("td3bc")
def smoothed_action_clips_the_noise_and_then_the_action() -> None:
    action = torch.tensor([[0.0, 0.9], [-0.9, 0.2]])
    noise = torch.tensor([[0.3, 0.3], [-2.0, -0.7]])
    found = td3bc.smoothed_action(action, noise, 0.5)
    torch.testing.assert_close(found, torch.tensor([[0.3, 1.0], [-1.0, -0.3]]))
    assert torch.equal(td3bc.smoothed_action(action, noise, 0.0), action)


@property_of("td3bc")
def value_scale_is_the_weight_over_the_mean_size_of_q_without_gradient() -> None:
    q = torch.tensor([1.0, -3.0, 2.0], requires_grad=True)
    scale = td3bc.value_scale(q, 2.5)
    assert scale.item() == 2.5 / 2
    assert not scale.requires_grad
    for factor in (1e-3, 1e3):  # the scaled value does not see the unit of the reward
        scaled = td3bc.value_scale(factor * q, 2.5) * factor * q
        torch.testing.assert_close(scaled, scale * q)
    assert td3bc.value_scale(torch.zeros(3), 2.5).isfinite()


@property_of("td3bc")
def the_policy_and_all_targets_move_only_every_second_update() -> None:
    agent = small("td3bc")
    slow = ("policy.", "target_policy.", "target_critic.")
    for number in range(1, 7):
        before = weights(agent)
        agent.update(small_batch(number))
        after = weights(agent)
        for name, value in after.items():
            moved = not torch.equal(value, before[name])
            assert moved == (number % 2 == 0 or not name.startswith(slow)), f"update {number}, {name}: moved {moved}"


@property_of("td3bc")
def without_value_td3bc_is_cloning() -> None:
    agent, clone = small("td3bc", value_weight=0.0, policy_delay=1), small("bc")
    clone.policy.load_state_dict(agent.policy.state_dict())
    for number in range(3):
        agent.update(small_batch(number))
        clone.update(small_batch(number))
    assert_same(weights(agent, "policy."), weights(clone, "policy."), 1e-12)


# Implicit Q-learning


@property_of("iql")
def gaussian_density_is_that_of_scipy() -> None:
    policy = constant_policy(policies.GaussianPolicy, [0.4, -1.5], [-0.7, 0.3])
    action = torch.tensor([[0.1, -0.2], [1.0, -1.0], [-1.0, 1.0]]).double()
    found = policy.log_prob(torch.zeros(3, 1).double(), action).detach().numpy()
    expected = scipy.stats.norm.logpdf(action.numpy(), np.tanh([0.4, -1.5]), np.exp([-0.7, 0.3])).sum(axis=1)
    assert np.allclose(found, expected, atol=1e-6)
    drawn = policy.sample(torch.zeros(50_000, 1).double(), torch.Generator().manual_seed(0)).detach().numpy()
    assert abs(drawn).max() <= 1
    clipped = [scipy.stats.norm(m, s) for m, s in zip(np.tanh([0.4, -1.5]), np.exp([-0.7, 0.3]), strict=True)]
    for column, distribution in zip(drawn.T, clipped, strict=True):
        for border, expected_share in ((-1, distribution.cdf(-1)), (1, distribution.sf(1))):
            assert abs((column == border).mean() - expected_share) < 0.01
        assert abs((column < 0.2).mean() - distribution.cdf(0.2)) < 0.01


@property_of("iql")
def weighted_density_loss_weighs_each_row() -> None:
    log_prob = torch.tensor([-1.0, 2.0, 0.5], requires_grad=True)
    loss = iql.weighted_density_loss(log_prob, torch.tensor([3.0, 0.0, 1.0]))
    assert abs(loss.item() - (3.0 - 0.5) / 3) < 1e-6
    (gradient,) = torch.autograd.grad(loss, log_prob)
    torch.testing.assert_close(gradient, torch.tensor([-1.0, 0.0, -1 / 3]))


@property_of("iql")
def the_policys_rate_falls_by_a_cosine() -> None:
    agent = small("iql", policy_decay_updates=8)
    rates = []
    for number in range(12):
        agent.update(small_batch(number))
        rates.append(agent.policy_optimizer.param_groups[0]["lr"])
    expected = [0.01 * (1 + math.cos(math.pi * min(k, 8) / 8)) / 2 for k in range(12)]
    assert np.allclose(rates, expected, atol=1e-12), f"rates {rates}"
    assert agent.critic_optimizer.param_groups[0]["lr"] == agent.value_optimizer.param_groups[0]["lr"] == 0.01
    constant = small("iql")
    constant.update(small_batch())
    assert constant.policy_optimizer.param_groups[0]["lr"] == 0.01


@property_of("iql")
def unrecorded_actions_are_never_asked_for() -> None:
    """Both critics are only ever called at the data's states and actions."""
    agent, batch = small("iql"), small_batch()
    s, action = agent._input(batch.observation), agent._unit(batch.action)
    with spied(agent.critic, "forward") as online, spied(agent.target_critic, "forward") as target:
        agent.update(batch)
    assert online.call_count + target.call_count == 2
    for call in (*online.call_args_list, *target.call_args_list):
        assert torch.equal(call.args[0], s)
        assert torch.equal(call.args[1], action)


# Behaviour cloning


@property_of("bc", "td3bc")
def cloning_loss_is_the_mean_square_over_rows_and_dimensions() -> None:
    action = torch.tensor([[0.5, -0.5], [1.0, 0.0]], requires_grad=True)
    data = torch.tensor([[0.0, 0.5], [1.0, -1.0]])
    for module in (bc, td3bc):
        loss = module.cloning_loss(action, data)
        assert loss.ndim == 0
        assert loss.item() == (0.25 + 1.0 + 0.0 + 1.0) / 4
        (gradient,) = torch.autograd.grad(loss, action)
        torch.testing.assert_close(gradient, (action.detach() - data) / 2)


@property_of("bc")
def cloning_reads_neither_rewards_nor_successors() -> None:
    first, second = small("bc"), small("bc")
    batch, other = small_batch(), small_batch(1)
    first.update(batch)
    second.update(replace(batch, reward=other.reward, next_observation=other.next_observation))
    assert_same(weights(first), weights(second), 0.0)


# One-step tasks with one state, whose solutions have closed forms


def fitted(
    algorithm: str, batch: Transitions, updates: int, rate: float = 0.01, hidden: int = 32, seed: int = 0, **settings
) -> Agent:
    """An agent trained on the same batch again and again, with a decaying step size; actions lie in [−2, 2]."""
    cls = agent_class(algorithm)
    config = cls.config_class(**{"hidden_sizes": (hidden, hidden), "learning_rate": rate} | settings)
    observations, actions = gym.spaces.Box(0, 1, (1,), np.float32), gym.spaces.Box(-2, 2, (1,), np.float32)
    agent = cls(observations, actions, config, seed=seed)
    fit(agent, batch, updates, rate)
    return agent


GRID = np.linspace(-2, 2, 129)


def best_action(agent: Agent) -> float:
    return float(agent.act(ONE, deterministic=True)[0, 0])


@property_of("bc")
def the_copy_takes_the_mean_action_even_where_no_one_ever_acts() -> None:
    action = np.array([-1.8] * 3 + [1.2] * 1)
    assert abs(best_action(fitted("bc", one_state_batch(action, np.zeros(4)), 300)) - action.mean()) < 0.01


# What acts


@property_of("sac", "iql", "cql")
def stochastic_actions_differ_and_deterministic_ones_do_not() -> None:
    observation = np.zeros((64, 3), np.float32)
    for algorithm in ("sac", "iql", "cql"):
        agent = small(algorithm).float()
        assert len(np.unique(agent.act(observation)[:, 0])) > 32
        assert len(np.unique(agent.act(observation, deterministic=True), axis=0)) == 1
