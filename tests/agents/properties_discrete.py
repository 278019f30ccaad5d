"""What must hold of agents with discrete actions: see ``properties.py``."""

import functools
from collections.abc import Callable
from dataclasses import replace

import gymnasium as gym
import hypothesis
import hypothesis.extra.numpy
import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor

import ca14lib.agents.dqn as dqn
import ca14lib.agents.offline.awr as awr
import ca14lib.agents.offline.bc as bc
import ca14lib.agents.offline.bc_regularized as regularized
import ca14lib.agents.offline.bcq as bcq
import ca14lib.agents.offline.cql as cql
import ca14lib.agents.offline.iql as iql
from ca14lib.agents import Agent
from ca14lib.data import Transitions
from ca14lib.environments import tabular_model
from ca14lib.training import collect, train_offline
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
from tests.agents.reference_discrete import Reference, small_agent, small_batch

ALGORITHMS = ("dqn", "bc", "cql", "iql", "awr", "bcq", "regularized")
PROPERTIES, property_of, each = property_table(*ALGORITHMS)

CQL_SETTINGS = {"target_rate": 0.3, "conservative_weight": 0.7}
IQL_SETTINGS = {"target_rate": 0.3, "expectile": 0.8, "temperature": 2.0, "max_weight": 1.5}
AWR_SETTINGS = {"temperature": 0.7, "max_weight": 1.5}
BCQ_SETTINGS = {"target_rate": 0.3, "threshold": 0.4, "logit_penalty": 0.2}
REGULARIZED_SETTINGS = {"target_rate": 0.3, "behaviour_weight": 0.7}
SETTINGS = {"dqn": {"target_rate": 0.3}, "bc": {}, "cql": CQL_SETTINGS, "iql": IQL_SETTINGS, "awr": AWR_SETTINGS}
SETTINGS |= {"bcq": BCQ_SETTINGS, "regularized": REGULARIZED_SETTINGS}

TABLES = hypothesis.extra.numpy.arrays(np.float64, (4, 3), elements=st.floats(-30, 30))
FEW = hypothesis.settings(max_examples=25, report_multiple_bugs=False)


def agent_class(algorithm: str) -> type[Agent]:
    classes = {"dqn": dqn.DQN, "bc": bc.DiscreteBC, "cql": cql.DiscreteCQL, "iql": iql.DiscreteIQL}
    classes |= {"awr": awr.DiscreteAWR, "bcq": bcq.DiscreteBCQ, "regularized": regularized.DiscreteBCRegularized}
    return classes[algorithm]


def small(algorithm: str) -> Agent:
    return small_agent(agent_class(algorithm), **SETTINGS[algorithm])


# What several algorithms share


@each(*ALGORITHMS)
def three_updates_equal_the_reference(algorithm: str) -> None:
    agent = small(algorithm)
    assert_follows(agent, Reference(agent), algorithm, map(small_batch, range(3)))


@each("dqn", "cql", "iql", "awr", "bcq", "regularized")
def an_update_ignores_truncation(algorithm: str) -> None:
    assert_truncation_is_ignored(lambda: small(algorithm), [small_batch()])


@each("dqn", "cql", "iql", "awr", "bcq", "regularized")
def an_update_ignores_what_follows_a_true_end(algorithm: str) -> None:
    assert_what_follows_a_true_end_is_ignored(lambda: small(algorithm), small_batch())


@each("dqn", "cql", "iql", "bcq", "regularized")
def the_target_network_follows_by_polyak_and_gets_no_gradient(algorithm: str) -> None:
    agent = small(algorithm)
    target, source = {"iql": ("target_critics.", "critics.")}.get(algorithm, ("target_network.", "q_network."))
    before = weights(agent, target)
    agent.update(small_batch())
    after = weights(agent, source)
    expected = {name: 0.7 * old + 0.3 * after[source + name.removeprefix(target)] for name, old in before.items()}
    assert_same(weights(agent, target), expected)
    for name, parameter in agent.named_parameters():
        if name.startswith(target):
            assert parameter.grad is None, f"{name} got a gradient"
            assert not parameter.requires_grad, f"{name} asks for a gradient"


@each("dqn", "cql")
def forbidden_next_actions_never_count(algorithm: str) -> None:
    """The target is the best allowed action's value."""
    batch = replace(small_batch(), terminated=torch.zeros(12, dtype=torch.bool))
    forbidden = torch.arange(12) % 3
    batch = replace(batch, next_action_mask=torch.ones(12, 3, dtype=torch.bool).scatter(1, forbidden[:, None], False))
    agent = small(algorithm)
    following = agent.normalizer(batch.next_observation)
    online, target = agent.q_network(following).detach(), agent.target_network(following).detach()
    assert (online.argmax(1) == forbidden).any(), "the case needs a forbidden action that looks best"
    best = online.masked_fill(~batch.next_action_mask, -1e9).argmax(1)
    wanted = batch.reward + 0.9 * target[torch.arange(12), best]
    q = agent.q_network(agent.normalizer(batch.observation)).detach()[torch.arange(12), batch.action]
    logged = agent.update(batch)
    found = logged["loss"] - CQL_SETTINGS["conservative_weight"] * logged.get("penalty", torch.tensor(0.0))
    torch.testing.assert_close(found, 0.5 * (wanted - q).square().mean())
    ended = replace(batch, terminated=~batch.terminated, next_action_mask=torch.zeros(12, 3, dtype=torch.bool))
    assert agent.update(ended)["loss"].isfinite(), "after a true end no action need be allowed"


DISCOUNT = 0.5
PROBE_VALUES = {  # Q of the non-terminal observations
    "ProbeReward": [[1.0, 1.0]],
    "ProbeValue": [[-1.0, -1.0], [1.0, 1.0]],
    "ProbeDiscount": [[DISCOUNT, DISCOUNT], [1.0, 1.0]],
    "ProbeAction": [[-1.0, 1.0]],
    "ProbeTruncation": [[1 / (1 - DISCOUNT)] * 2],
}


def probe_has_the_right_values(algorithm: str, probe: str) -> None:
    """Trained on 64 random episodes of a probe environment, Q has the values of the probes' table."""
    settings = {"cql": {"conservative_weight": 0.0}, "regularized": {"behaviour_weight": 0.1}}.get(algorithm, {})
    agent = trained_on_probe(agent_class(algorithm), probe, discount=DISCOUNT, target_rate=0.1, **settings)
    model, right = tabular_model(f"CA14/{probe}-v0"), np.array(PROBE_VALUES[probe])
    q = agent.q_table(model)[: len(right)]
    assert np.allclose(q, right, atol=0.05), f"Q is {q}, should be {right}"
    if probe == "ProbeAction":
        assert agent.policy_table(model)[0, 1] == 1.0, "the policy does not follow the better action"


for _algorithm in ("dqn", "cql", "iql", "bcq", "regularized"):
    for _probe in PROBE_VALUES:
        PROPERTIES[_algorithm][f"{_probe}-has-the-right-values"] = functools.partial(
            probe_has_the_right_values, _algorithm, _probe
        )


def trained_on_probe(agent_class: type[Agent], probe: str, updates: int = 300, **settings: object) -> Agent:
    data = collect(f"CA14/{probe}-v0", "random", 64, seed=0)
    config = agent_class.config_class(**{"hidden_sizes": (16,), "learning_rate": 0.01} | settings)
    agent = agent_class(data.observation_space, data.action_space, config, seed=0)
    train_offline(agent, data, updates, batch_size=64, progress=False)
    return agent


def fitted(agent_class: type[Agent], batch: Transitions, updates: int, **settings: object) -> Agent:
    """An agent trained on the same batch again and again, with a decaying step size."""
    config = agent_class.config_class(**{"hidden_sizes": (16,), "learning_rate": 0.02} | settings)
    space = gym.spaces.Box(0, 1, (1,), dtype=np.float32)
    agent = agent_class(space, gym.spaces.Discrete(3), config, seed=0)
    fit(agent, batch, updates, 0.02)
    return agent


# DQN: the temporal-difference target and loss


@property_of("dqn", "cql", "iql", "awr", "bcq", "regularized")
def td_target_is_the_reward_plus_the_discounted_next_value_unless_terminated() -> None:
    terminated = torch.tensor([False, True, False])
    next_value = torch.tensor([10.0, torch.nan, -4.0])
    for module in (dqn, iql, awr, bcq, regularized):
        found = module.td_target(torch.tensor([1.0, 2.0, 3.0]), terminated, next_value, 0.5)
        assert found.tolist() == [6.0, 2.0, 1.0]


@property_of("dqn", "cql")
def the_online_network_picks_the_next_action_and_the_target_network_rates_it() -> None:
    online = torch.tensor([[0.0, 1.0, 2.0], [5.0, 1.0, 2.0]])
    target = torch.tensor([[9.0, 7.0, -3.0], [4.0, 6.0, 8.0]])
    assert dqn.double_q_value(online, target).tolist() == [-3.0, 4.0]
    assert dqn.double_q_value(target, target).tolist() == target.max(dim=1).values.tolist()
    mask = torch.tensor([[True, True, False], [False, True, True]])
    assert dqn.double_q_value(online, target, mask).tolist() == [7.0, 8.0]


@property_of("dqn", "cql", "iql")
def td_loss_is_half_the_mean_squared_error() -> None:
    q = torch.tensor([1.0, -2.0, 4.0, 0.0], requires_grad=True)
    target = torch.tensor([4.0, -2.5, 0.0, 1.0])
    for module in (dqn, iql):
        loss = module.td_loss(q, target)
        assert loss.ndim == 0
        assert loss.item() == 0.5 * (9 + 0.25 + 16 + 1) / 4
        (gradient,) = torch.autograd.grad(loss, q)
        torch.testing.assert_close(gradient, (q.detach() - target) / 4)


# Behaviour cloning


@property_of("bc")
def negative_log_likelihood_is_that_of_the_softmax_of_each_row() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [np.log(1.0), np.log(2.0), np.log(5.0), -torch.inf]])
    action = torch.tensor([2, 1])
    expected = (np.log(4) + np.log(8 / 2)) / 2
    assert abs(bc.negative_log_likelihood(logits, action).item() - expected) < 1e-6


@property_of("bc")
def negative_log_likelihood_has_the_gradient_softmax_minus_one_hot() -> None:
    assert_is_log_likelihood(bc.negative_log_likelihood)


@property_of("bc")
def the_copy_takes_on_the_frequencies_of_the_data() -> None:
    """The minimiser of the likelihood is the empirical behaviour, state by state (book: bc-projection)."""
    batch = one_state_batch([0] * 1 + [1] * 3 + [2] * 6, reward=[5.0] * 1 + [-1.0] * 9)
    agent = fitted(bc.DiscreteBC, batch, 300)
    found = agent.probabilities(ONE)[0]
    assert np.allclose(found, [0.1, 0.3, 0.6], atol=0.01), f"probabilities {found}, frequencies .1 .3 .6"


@property_of("bc")
def cloning_reads_neither_rewards_nor_successors() -> None:
    first, second = (small_agent(bc.DiscreteBC) for _ in range(2))
    batch, other = small_batch(), small_batch(1)
    first.update(batch)
    second.update(replace(batch, reward=other.reward, next_observation=other.next_observation))
    assert_same(weights(first), weights(second), 0.0)


def assert_is_log_likelihood(loss: Callable[[Tensor, Tensor], Tensor]) -> None:
    """The gradient in the scores is (softmax − one-hot) / B, analytically and by finite differences."""
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    action = torch.tensor([0, 2, 1, 1])
    (gradient,) = torch.autograd.grad(loss(scores, action), scores)
    odds = scores.detach().exp()
    expected = (odds / odds.sum(1, keepdim=True) - torch.eye(3, dtype=torch.float64)[action]) / 4
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(gradient, finite_differences(lambda s: loss(s, action), scores), rtol=1e-5, atol=1e-7)


def finite_differences(function: Callable[[Tensor], Tensor], point: Tensor, step: float = 1e-5) -> Tensor:
    """Central differences of a scalar function."""
    gradient = torch.zeros_like(point, requires_grad=False)
    for index in np.ndindex(*point.shape):
        up, down = point.detach().clone(), point.detach().clone()
        up[index] += step
        down[index] -= step
        gradient[index] = (function(up) - function(down)) / (2 * step)
    return gradient


# Conservative Q-learning


@property_of("cql")
def conservative_penalty_is_the_negative_log_likelihood_under_softmax_q() -> None:
    @FEW
    @hypothesis.given(TABLES)
    def holds(q: np.ndarray) -> None:
        action = np.array([0, 2, 1, 1])
        odds = np.exp(q - q.max(axis=1, keepdims=True))
        expected = -np.log(odds[np.arange(4), action] / odds.sum(axis=1)).mean()
        found = cql.conservative_penalty(torch.tensor(q), torch.tensor(action)).item()
        assert abs(found - expected) < 1e-9 * max(1, abs(expected))
        assert found >= 0

    holds()


@property_of("cql")
def conservative_penalty_has_the_gradient_softmax_minus_one_hot() -> None:
    assert_is_log_likelihood(cql.conservative_penalty)


@property_of("cql")
def conservative_penalty_does_not_see_a_shift_of_a_state() -> None:
    @FEW
    @hypothesis.given(TABLES, hypothesis.extra.numpy.arrays(np.float64, (4, 1), elements=st.floats(-1e3, 1e3)))
    def holds(q: np.ndarray, shift: np.ndarray) -> None:
        action = torch.tensor([0, 2, 1, 1])
        before, after = (cql.conservative_penalty(torch.tensor(x), action).item() for x in (q, q + shift))
        assert abs(before - after) < 1e-9

    holds()


@property_of("cql")
def conservative_penalty_is_finite_for_huge_values() -> None:
    for size in (1e3, 1e30):
        q = torch.tensor([[size, -size, 0.0]])
        assert cql.conservative_penalty(q, torch.tensor([0])).item() == 0.0
        assert cql.conservative_penalty(q, torch.tensor([1])).isfinite()


@property_of("cql")
def without_penalty_cql_is_dqn_bit_for_bit() -> None:
    plain = small_agent(dqn.DQN, **SETTINGS["dqn"])
    conservative = small_agent(cql.DiscreteCQL, **SETTINGS["dqn"], conservative_weight=0.0)
    for number in range(3):
        plain.update(small_batch(number))
        conservative.update(small_batch(number))
    assert_same(weights(plain), weights(conservative), 0.0)


@property_of("cql")
def values_rest_where_the_fixed_point_of_tabular_cql_is() -> None:
    """Q(a) = mean reward − α (softmax(Q)(a) / frequency − 1) for recorded actions (book: cql-stationary)."""
    reward, frequency, weight = np.array([0.0, 1.0, 0.5]), np.array([0.5, 0.3, 0.2]), 0.4
    action = [0] * 5 + [1] * 3 + [2] * 2
    batch = one_state_batch(action, reward=list(reward[action]))
    agent = fitted(cql.DiscreteCQL, batch, 500, conservative_weight=weight)
    q = agent._q_values(torch.ones(1, 1)).detach().double().numpy()[0]
    odds = np.exp(q)
    expected = reward - weight * (odds / odds.sum() / frequency - 1)
    assert np.allclose(q, expected, atol=0.01), f"Q is {q}, the fixed point says {expected}"
    assert abs(frequency @ q - frequency @ reward) < 0.01, "the mean over the data must stay"


# Implicit Q-learning


@property_of("iql")
def expectile_loss_is_the_asymmetric_square() -> None:
    error = torch.tensor([2.0, -3.0, 0.0, 1.0])
    assert abs(iql.expectile_loss(error, 0.9).item() - (0.9 * 4 + 0.1 * 9 + 0.9 * 1) / 4) < 1e-6
    assert abs(iql.expectile_loss(error, 0.5).item() - 0.5 * error.square().mean().item()) < 1e-6
    point = torch.tensor([[0.3, -0.7], [1.5, -0.1]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(iql.expectile_loss(point, 0.9), point)
    expected = torch.tensor([[2 * 0.9 * 0.3, 2 * 0.1 * -0.7], [2 * 0.9 * 1.5, 2 * 0.1 * -0.1]]).double() / 4
    torch.testing.assert_close(gradient, expected)
    numeric = finite_differences(lambda u: iql.expectile_loss(u, 0.9), point)
    torch.testing.assert_close(gradient, numeric, rtol=1e-5, atol=1e-7)


def expectile_minimiser(sample: np.ndarray, level: float) -> float:
    """The prediction that minimises the loss, by bisection on its derivative."""
    values = torch.tensor(sample)
    low, high = values.min().item(), values.max().item()
    for _ in range(60):
        middle = torch.tensor((low + high) / 2, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(iql.expectile_loss(values - middle, level), middle)
        low, high = (middle.item(), high) if slope < 0 else (low, middle.item())
    return (low + high) / 2


@property_of("iql")
def expectile_loss_is_least_at_the_expectile_of_the_sample() -> None:
    """τ E[(X − m)₊] = (1 − τ) E[(m − X)₊]; the mean at τ = ½; of two points the tilted mean (book: iql-two-point)."""

    @FEW
    @hypothesis.given(
        hypothesis.extra.numpy.arrays(np.float64, st.integers(2, 6), elements=st.floats(-10, 10)), st.floats(0.05, 0.95)
    )
    def holds(sample: np.ndarray, level: float) -> None:
        m = expectile_minimiser(sample, level)
        above, below = np.maximum(sample - m, 0).mean(), np.maximum(m - sample, 0).mean()
        assert abs(level * above - (1 - level) * below) < 1e-6

    holds()
    sample = np.array([0.0, 0.0, 0.0, 1.0])
    assert abs(expectile_minimiser(sample, 0.5) - sample.mean()) < 1e-6
    assert abs(expectile_minimiser(sample, 0.9) - 0.9 * 0.25 / (0.9 * 0.25 + 0.1 * 0.75)) < 1e-6
    assert abs(expectile_minimiser(np.array([-2.0, 0.5, 3.0]), 1 - 1e-6) - 3.0) < 1e-4


@property_of("iql")
def advantage_weight_is_the_clipped_exponential() -> None:
    advantage = torch.tensor([-1.0, 0.0, 0.2, 1.0, 3.0], dtype=torch.float64)
    expected = torch.tensor([np.exp(-2), 1.0, np.exp(0.4), np.exp(2), 50.0], dtype=torch.float64)
    torch.testing.assert_close(iql.advantage_weight(advantage, 2.0, 50.0), expected)
    assert iql.advantage_weight(advantage, 0.0, 50.0).tolist() == [1.0] * 5
    huge = iql.advantage_weight(torch.tensor([1e6, 1e30, -1e30]), 10.0, 100.0)
    assert huge.tolist() == [100.0, 100.0, 0.0]


@property_of("iql")
def weighted_log_likelihood_weighs_each_row() -> None:
    weight = torch.tensor([0.0, 2.0, 0.5])
    logits = torch.tensor([[9.0, -9.0, 1.0], [0.0, 0.0, 0.0], [np.log(1.0), np.log(2.0), np.log(5.0)]])
    action = torch.tensor([1, 0, 2])
    expected = (2.0 * np.log(3) + 0.5 * np.log(8 / 5)) / 3
    assert abs(iql.weighted_log_likelihood_loss(logits, action, weight).item() - expected) < 1e-6
    assert_is_log_likelihood(lambda z, a: iql.weighted_log_likelihood_loss(z, a, torch.ones(len(z)).double()))


@property_of("iql")
def twin_critics_start_apart() -> None:
    space, actions = gym.spaces.Box(-1, 1, (2,), dtype=np.float32), gym.spaces.Discrete(3)
    first, second = iql.DiscreteIQL(space, actions, iql.DiscreteIQLConfig(hidden_sizes=(5,))).critics
    assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


@property_of("iql")
def unrecorded_actions_are_never_asked_for() -> None:
    """Raising every critic's value of an action that the data never take changes neither V, policy nor values."""
    first, second = (small_agent(iql.DiscreteIQL, **IQL_SETTINGS) for _ in range(2))
    with torch.no_grad():
        for critic in (*second.critics, *second.target_critics):
            critic[-1].bias[2] += 1_000.0
    for number in range(2):
        batch = small_batch(number)
        batch = replace(batch, action=batch.action % 2)
        first.update(batch)
        second.update(batch)
    unread = ("critics.0.2.bias", "critics.1.2.bias", "target_critics.0.2.bias", "target_critics.1.2.bias")
    for name, value in weights(first).items():
        other = weights(second)[name]
        if name in unread:
            value, other = value[:2], other[:2]
        torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


@property_of("iql")
def value_and_policy_rest_where_the_theory_says() -> None:
    """One state: V is the expectile of the rewards, the policy is ∝ frequency × exp(β (reward − V)) (iql-boltzmann)."""
    reward, frequency, level, temperature = np.array([0.0, 1.0, 0.5]), np.array([0.5, 0.3, 0.2]), 0.8, 1.5
    action = [0] * 5 + [1] * 3 + [2] * 2
    batch = one_state_batch(action, reward=list(reward[action]))
    agent = fitted(iql.DiscreteIQL, batch, 600, expectile=level, temperature=temperature, target_rate=0.1)
    m = agent.value(torch.ones(1, 1)).item()
    above, below = frequency @ np.maximum(reward - m, 0), frequency @ np.maximum(m - reward, 0)
    assert abs(level * above - (1 - level) * below) < 0.005, f"V = {m} is not the {level}-expectile"
    wanted = frequency * np.exp(temperature * (reward - m))
    found = agent.probabilities(ONE)[0]
    assert np.allclose(found, wanted / wanted.sum(), atol=0.01), f"policy {found}, should be {wanted / wanted.sum()}"


# Advantage-weighted regression


def labelled_batch(seed: int = 0) -> Transitions:
    batch = small_batch(seed)
    return replace(batch, value_target=batch.reward.roll(1) - batch.observation[:, 0])


@property_of("awr")
def labelled_updates_equal_the_reference() -> None:
    agent = small("awr")
    assert_follows(agent, Reference(agent), "awr", map(labelled_batch, range(3)))


@property_of("awr")
def lambda_return_is_the_mixture_of_all_n_step_returns() -> None:
    """(1 − λ) Σ λⁿ⁻¹ Gⁿ with the rest of the weight on the longest, which bootstraps only if the episode was cut."""
    generator = np.random.default_rng(0)
    for discount, decay in ((0.9, 0.7), (1.0, 0.95), (0.8, 0.0), (0.9, 1.0)):
        lengths, cut = [1, 4, 1, 6, 3, 1], [False, True, True, False, True, False]
        total = sum(lengths)
        reward, next_value = generator.standard_normal(total), generator.standard_normal(total)
        expected, terminated, truncated = [], np.zeros(total, bool), np.zeros(total, bool)
        end = 0
        for length, was_cut in zip(lengths, cut, strict=True):
            start, end = end, end + length
            (truncated if was_cut else terminated)[end - 1] = True
            for t in range(start, end):
                steps = end - t
                n_step = []
                for n in range(1, steps + 1):
                    value = next_value[t + n - 1] if n < steps or was_cut else 0.0
                    n_step.append(sum(discount**k * reward[t + k] for k in range(n)) + discount**n * value)
                mixture = [(1 - decay) * decay**k for k in range(steps - 1)] + [decay ** (steps - 1)]
                expected.append(np.dot(mixture, n_step))
        next_value[terminated] = np.nan
        arrays = (torch.tensor(x) for x in (reward, terminated, truncated, next_value))
        found = awr.lambda_return(*arrays, discount, decay)
        assert np.allclose(found.numpy(), expected), f"λ = {decay}: {found.numpy()} should be {expected}"


@property_of("awr")
def normalized_advantage_has_mean_zero_and_deviation_one() -> None:
    target, value = torch.tensor([1.0, 5.0, -2.0, 0.5]).double(), torch.tensor([0.5, 1.0, 1.0, 0.0]).double()
    advantage = np.array([0.5, 4.0, -3.0, 0.5])
    expected = (advantage - advantage.mean()) / advantage.std()
    assert np.allclose(awr.normalized_advantage(target, value).numpy(), expected, atol=1e-4)
    equal = awr.normalized_advantage(torch.full((5,), 3.0), torch.full((5,), 1.0))
    assert equal.tolist() == [0.0] * 5
    assert awr.normalized_advantage(torch.tensor([3.0]), torch.tensor([1.0])).tolist() == [0.0]


@property_of("awr")
def awr_weight_is_the_clipped_exponential_of_the_advantage_over_the_temperature() -> None:
    advantage = torch.tensor([-1.0, 0.0, 0.2, 1.0, 3.0], dtype=torch.float64)
    expected = torch.tensor([np.exp(-2), 1.0, np.exp(0.4), np.exp(2), 20.0], dtype=torch.float64)
    torch.testing.assert_close(awr.awr_weight(advantage, 0.5, 20.0), expected)
    assert awr.awr_weight(torch.tensor([1e6, 1e30, -1e30]), 0.1, 20.0).tolist() == [20.0, 20.0, 0.0]


@property_of("awr")
def labels_are_the_returns_of_the_recorded_episodes() -> None:
    """Episode by episode in plain Python, with the normalised observation in V and the value after a cut counted."""
    data = collect("CA14/GridWorld-v0", "random", 12, seed=0)
    assert 0 < int(data.transitions.terminated.sum()) < 12, "the case needs ends and cuts"
    config = awr.DiscreteAWRConfig(hidden_sizes=(8,), discount=0.9, trace_decay=0.8)
    agent = awr.DiscreteAWR(data.observation_space, data.action_space, config, normalizer=data.normalizer(), seed=1)
    found, expected = agent.relabel(data), np.zeros(len(data))
    with torch.no_grad():
        value = agent.value(data.normalizer()(data.transitions.next_observation)).double().numpy()[:, 0]
    for episode in data.episode_slices:
        following = 0.0 if data.transitions.terminated[episode.stop - 1] else value[episode.stop - 1]
        for t in reversed(range(episode.start, episode.stop)):
            expected[t] = float(data.transitions.reward[t]) + 0.9 * following
            following = 0.2 * value[t - 1] + 0.8 * expected[t]
    assert np.allclose(found.numpy(), expected, atol=1e-5)


@property_of("awr")
def labels_of_an_endless_task_bootstrap_through_the_time_limit() -> None:
    """ProbeTruncation pays 1 a step for ever: V = 1/(1 − γ), and every label must say so."""
    agent = trained_on_probe(awr.DiscreteAWR, "ProbeTruncation", discount=DISCOUNT, relabel_interval=20)
    data = collect("CA14/ProbeTruncation-v0", "random", 64, seed=0)
    assert np.allclose(agent.relabel(data).numpy(), 1 / (1 - DISCOUNT), atol=0.05)


@property_of("awr")
def the_value_is_the_mean_and_the_policy_the_weighted_frequency() -> None:
    """One state: V is the mean reward, the policy ∝ frequency × exp(Â / temperature) (book: awr-target-policy)."""
    reward, frequency = np.array([0.0, 1.0, 0.5]), np.array([0.5, 0.3, 0.2])
    action = [0] * 5 + [1] * 3 + [2] * 2
    agent = fitted(awr.DiscreteAWR, one_state_batch(action, list(reward[action])), 500, temperature=0.8)
    mean = frequency @ reward
    deviation = np.sqrt(frequency @ (reward - mean) ** 2)
    assert abs(agent.value(torch.ones(1, 1)).item() - mean) < 0.005
    wanted = frequency * np.exp((reward - mean) / deviation / 0.8)
    found = agent.probabilities(ONE)[0]
    assert np.allclose(found, wanted / wanted.sum(), atol=0.01), f"policy {found}, should be {wanted / wanted.sum()}"


@property_of("awr")
def without_differences_awr_is_cloning() -> None:
    """Constant returns: every weight is 1, however small the temperature."""
    batch = replace(small_batch(), reward=torch.full((12,), 3.0).double(), terminated=torch.ones(12, dtype=torch.bool))
    agent = small_agent(awr.DiscreteAWR, temperature=0.1)
    with torch.no_grad():
        for parameter in agent.value.parameters():
            parameter.zero_()
    copy = small_agent(bc.DiscreteBC)
    copy.policy.load_state_dict(agent.policy.state_dict())
    agent.update(batch)
    copy.update(batch)
    assert_same(weights(agent, "policy"), weights(copy, "policy"))


# Batch-constrained Q-learning


@property_of("bcq")
def behaviour_loss_is_the_likelihood_plus_the_mean_squared_logit() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [np.log(1.0), np.log(2.0), np.log(5.0)]]).double()
    action = torch.tensor([2, 1])
    likelihood, squares = (np.log(3) + np.log(8 / 2)) / 2, (np.log(2) ** 2 + np.log(5) ** 2) / 6
    assert abs(bcq.behaviour_loss(logits, action, 0.3).item() - likelihood - 0.3 * squares) < 1e-9
    assert_is_log_likelihood(lambda z, a: bcq.behaviour_loss(z, a, 0.0))


@property_of("bcq")
def supported_actions_are_those_within_the_threshold_of_the_most_likely() -> None:
    probability = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.1, 0.8], [1 / 3, 1 / 3, 1 / 3]])
    logits = probability.log() + torch.tensor([[5.0], [-700.0], [0.0]])  # a shift of a row changes nothing
    for threshold, wanted in {
        0.0: [[1, 1, 1], [1, 1, 1], [1, 1, 1]],
        0.3: [[1, 1, 1], [0, 0, 1], [1, 1, 1]],
        0.5: [[1, 1, 0], [0, 0, 1], [1, 1, 1]],
        0.7: [[1, 0, 0], [0, 0, 1], [1, 1, 1]],
    }.items():
        assert bcq.supported_actions(logits, threshold).int().tolist() == wanted, f"threshold {threshold}"
    mask = torch.tensor([[False, True, True], [True, True, False], [True, False, False]])
    found = bcq.supported_actions(logits, 0.7, mask)
    assert found.int().tolist() == [[0, 1, 0], [1, 1, 0], [1, 0, 0]], "the most likely allowed action sets the scale"
    assert not (bcq.supported_actions(logits, 0.0, mask) & ~mask).any()


@property_of("bcq")
def the_most_likely_action_is_always_supported() -> None:
    @FEW
    @hypothesis.given(TABLES, st.floats(0.0, 0.999))
    def holds(table: np.ndarray, threshold: float) -> None:
        supported = bcq.supported_actions(torch.tensor(table), threshold).numpy()
        assert supported[np.arange(4), table.argmax(axis=1)].all()

    holds()


@property_of("bcq")
def huber_loss_is_quadratic_up_to_one_and_linear_beyond() -> None:
    q, target = torch.tensor([0.0, 1.0, 5.0, -1.0], requires_grad=True), torch.tensor([0.5, -2.0, 5.0, 9.0])
    loss = bcq.huber_loss(q, target)
    assert abs(loss.item() - (0.125 + 2.5 + 0.0 + 9.5) / 4) < 1e-6
    (gradient,) = torch.autograd.grad(loss, q)
    torch.testing.assert_close(gradient, torch.tensor([-0.5, 1.0, 0.0, -1.0]) / 4)


def with_an_unsupported_action(lift: float) -> bcq.DiscreteBCQ:
    """An agent whose behaviour model all but rules out action 2, and whose networks overrate it by ``lift``."""
    agent = small_agent(bcq.DiscreteBCQ, **BCQ_SETTINGS)
    with torch.no_grad():
        agent.behaviour[-1].bias[2] -= 50.0
        for network in (agent.q_network, agent.target_network):
            network[-1].bias[2] += lift
    return agent


@property_of("bcq")
def values_of_unsupported_actions_never_count() -> None:
    """Raising the value of an action outside the support changes no update (book: bcq-discrete-target)."""
    first, second = with_an_unsupported_action(0.0), with_an_unsupported_action(1_000.0)
    for number in range(2):
        batch = small_batch(number)
        batch = replace(batch, action=batch.action % 2)
        first.update(batch)
        second.update(batch)
    for name, value in weights(first).items():
        other = weights(second)[name]
        if name in ("q_network.2.bias", "target_network.2.bias"):
            value, other = value[:2], other[:2]
        torch.testing.assert_close(value, other, rtol=1e-12, atol=1e-12, msg=lambda m, n=name: f"{n}: {m}")


@property_of("bcq")
def every_action_taken_is_supported() -> None:
    agent, observation = with_an_unsupported_action(1_000.0), small_batch().observation.float().numpy()
    assert (agent.q_network(agent._input(torch.tensor(observation).double())).argmax(1) == 2).all()
    agent = agent.float()
    support = agent.support(observation)
    assert not support[:, 2].any()
    for deterministic in (False, True):
        action = agent.act(observation, deterministic=deterministic)
        assert support[np.arange(12), action].all(), "an action outside the support was taken"
    only = np.zeros((12, 3), dtype=bool)
    only[:, 2] = True
    assert (agent.act(observation, mask=only) == 2).all(), "where only it is allowed, it is the most likely one"


@property_of("bcq")
def the_support_is_found_among_allowed_next_actions() -> None:
    batch = replace(small_batch(), terminated=torch.zeros(12, dtype=torch.bool))
    agent = small_agent(bcq.DiscreteBCQ, **BCQ_SETTINGS)
    following = agent.normalizer(batch.next_observation)
    forbidden = agent.behaviour(following).argmax(dim=1)  # it must not set the scale
    batch = replace(batch, next_action_mask=torch.ones(12, 3, dtype=torch.bool).scatter(1, forbidden[:, None], False))
    odds, online = (net(following).detach().numpy() for net in (agent.behaviour, agent.q_network))
    rated = agent.target_network(following).detach().numpy()
    expected, moved = batch.reward.numpy().copy(), 0
    for i in range(12):
        allowed = [a for a in range(3) if a != int(forbidden[i])]
        top = max(odds[i, a] for a in allowed)
        supported = [a for a in allowed if np.exp(odds[i, a] - top) > 0.4]
        best = max(supported, key=lambda a: online[i, a])
        moved += best != online[i].argmax()
        expected[i] += 0.9 * rated[i, best]
    assert moved > 1
    assert np.allclose(agent._target(batch).numpy(), expected)
    nothing = replace(batch, next_action_mask=torch.zeros(12, 3, dtype=torch.bool))
    assert agent._target(replace(nothing, terminated=~batch.terminated)).equal(batch.reward)


@property_of("bcq")
def at_threshold_zero_the_target_is_that_of_double_dqn() -> None:
    agent = small_agent(bcq.DiscreteBCQ, **(BCQ_SETTINGS | {"threshold": 0.0}))
    plain = small_agent(dqn.DQN, **SETTINGS["dqn"])
    plain.q_network.load_state_dict(agent.q_network.state_dict())
    plain.target_network.load_state_dict(agent.target_network.state_dict())
    assert torch.equal(agent._target(small_batch()), plain._target(small_batch()))


@property_of("bcq")
def the_best_supported_action_is_chosen_and_rarer_better_ones_are_not() -> None:
    """One state: Q is the mean reward of each action, G its frequency, the policy the best with ratio above ζ."""
    reward, action = np.array([0.0, 1.0, 0.5]), [0] * 10 + [1] * 2 + [2] * 8
    batch = one_state_batch(action, list(reward[action]))
    for threshold, best in ((0.1, 1), (0.3, 2), (0.6, 2), (0.9, 0)):
        agent = fitted(bcq.DiscreteBCQ, batch, 400, threshold=threshold, logit_penalty=0.0)
        q = agent._q_values(torch.ones(1, 1)).detach().numpy()[0]
        assert np.allclose(q, reward, atol=0.01), f"Q is {q}"
        found = agent.behaviour(torch.ones(1, 1)).softmax(dim=1).detach().numpy()[0]
        assert np.allclose(found, [0.5, 0.1, 0.4], atol=0.01), f"behaviour {found}"
        assert agent.probabilities(ONE)[0].argmax() == best, f"threshold {threshold}"


# Value maximisation with a behaviour-cloning term


@property_of("regularized")
def expected_value_is_the_mean_of_q_under_the_softmax() -> None:
    logits = torch.tensor([[np.log(1.0), np.log(2.0), np.log(5.0)], [0.0, 0.0, 0.0]]).double()
    q = torch.tensor([[8.0, -4.0, 1.6], [1.0, 2.0, 6.0]]).double()
    found = regularized.expected_value(logits, q)
    torch.testing.assert_close(found, torch.tensor([1.0 - 1.0 + 1.0, 3.0]).double())
    mask = torch.tensor([[True, True, False], [False, True, True]])
    torch.testing.assert_close(regularized.expected_value(logits, q, mask), torch.tensor([0.0, 4.0]).double())


@property_of("regularized")
def the_policy_loss_is_value_and_likelihood_with_their_signs() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    q, action = torch.randn(4, 3, generator=generator, dtype=torch.float64), torch.tensor([0, 2, 1, 1])
    odds = logits.detach().exp().numpy()
    policy = odds / odds.sum(axis=1, keepdims=True)
    value = (policy * q.numpy()).sum(axis=1)
    expected = -value.mean() - 0.7 * np.log(policy[np.arange(4), action]).mean()
    loss = regularized.regularized_policy_loss(logits, q, action, 0.7)
    assert abs(loss.item() - expected) < 1e-9
    (gradient,) = torch.autograd.grad(loss, logits)
    by_hand = -policy * (q.numpy() - value[:, None]) + 0.7 * (policy - np.eye(3)[action])
    assert np.allclose(gradient.numpy(), by_hand / 4)
    assert_is_log_likelihood(lambda z, a: regularized.regularized_policy_loss(z, 0 * z.detach(), a, 1.0))


@property_of("regularized")
def the_policy_rests_where_value_and_likelihood_balance() -> None:
    """One state: π(a) = w · frequency(a) / (η − Q(a)), with η such that it sums to 1."""
    reward, frequency, weight = np.array([0.0, 1.0, 0.5]), np.array([0.5, 0.3, 0.2]), 0.4
    action = [0] * 5 + [1] * 3 + [2] * 2
    batch = one_state_batch(action, list(reward[action]))
    agent = fitted(regularized.DiscreteBCRegularized, batch, 600, behaviour_weight=weight)
    low, high = 1.0 + 1e-9, 1.0 + weight
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if (weight * frequency / (middle - reward)).sum() > 1 else (low, middle)
    wanted, found = weight * frequency / (low - reward), agent.probabilities(ONE)[0]
    assert np.allclose(found, wanted, atol=0.01), f"policy {found}, should be {wanted}"
    q = agent._q_values(torch.ones(1, 1)).detach().numpy()[0]
    assert np.allclose(q, reward, atol=0.01), f"Q is {q}: the policy's loss must not move it"


@property_of("regularized")
def a_heavy_weight_clones() -> None:
    batch = one_state_batch([0] * 1 + [1] * 3 + [2] * 6, reward=[5.0] * 1 + [-1.0] * 9)
    agent = fitted(regularized.DiscreteBCRegularized, batch, 300, behaviour_weight=1e4)
    assert np.allclose(agent.probabilities(ONE)[0], [0.1, 0.3, 0.6], atol=0.01)
    free = fitted(regularized.DiscreteBCRegularized, batch, 300, behaviour_weight=0.0)
    assert free.probabilities(ONE)[0, 0] > 0.95, "without the term the best action is taken"
