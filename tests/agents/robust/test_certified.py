"""Bounds of networks and of returns: sound against dense grids and brute force, and never over what attacks leave."""

import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch import nn

from ca14lib.agents import DQN, PPO, PPOConfig
from ca14lib.agents.robust import certified
from ca14lib.agents.robust.atla import observation_unit
from ca14lib.agents.robust.certified import Bounds, CertifiedPolicy, certified_return
from ca14lib.data import Normalizer

OBSERVATIONS = gym.spaces.Box(-10, 10, (3,), dtype=np.float32)
ACTIONS = gym.spaces.Discrete(3)


def agent(observations=OBSERVATIONS, actions=ACTIONS, seed=0):
    normalizer = Normalizer(torch.tensor([0.5, 0.0, -0.5]), torch.tensor([1.0, 0.5, 2.0]))
    found = PPO(observations, actions, PPOConfig(hidden_sizes=(12, 12)), normalizer=normalizer, seed=seed)
    with torch.no_grad():
        found.policy.network[-1].weight.mul_(200)
    return found


def test_interval_of_a_linear_layer_is_exact():
    weight, bias = torch.tensor([[1.0, -2.0], [0.0, 3.0]]), torch.tensor([0.5, -1.0])
    found = certified.interval_linear(Bounds(torch.tensor([[0.0, -1.0]]), torch.tensor([[2.0, 1.0]])), weight, bias)
    assert found.low.tolist() == [[-1.5, -4.0]]
    assert found.high.tolist() == [[4.5, 2.0]]


@pytest.mark.parametrize("relax", [certified.tanh_relaxation, certified.relu_relaxation])
def test_lines_enclose_the_activation(relax):
    activation = torch.tanh if relax is certified.tanh_relaxation else torch.relu
    ends = torch.tensor([(-2.0, -1.0), (-1.5, 0.3), (-0.2, 2.0), (0.4, 3.0), (0.7, 0.7), (-0.1, 0.1)]).double()
    lines = relax(Bounds(ends[:, 0], ends[:, 1]))
    for share in torch.linspace(0, 1, 101, dtype=torch.float64):
        x = ends[:, 0] + share * (ends[:, 1] - ends[:, 0])
        assert (lines.low_slope * x + lines.low_offset <= activation(x) + 1e-12).all()
        assert (lines.high_slope * x + lines.high_offset >= activation(x) - 1e-12).all()


def test_networks_of_other_layers_are_refused():
    layers = [nn.Linear(2, 2), nn.Sigmoid(), nn.Linear(2, 1)]
    box = Bounds(torch.zeros(1, 2), torch.ones(1, 2))
    with pytest.raises(ValueError, match="Sigmoid"):
        certified.interval_bounds(layers, box)
    with pytest.raises(ValueError, match="Tanh or ReLU"):
        certified.linear_bounds(layers, box)


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.4])
def test_every_action_found_on_a_dense_grid_is_marked_as_possible(linear, epsilon):
    learner = agent()
    rows = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    possible = CertifiedPolicy(learner, epsilon, linear=linear).possible(rows)
    unit = observation_unit(learner).numpy()
    axis = np.linspace(-epsilon, epsilon, 7)
    grid = np.array(list(itertools.product(axis, repeat=3))) * unit
    for row, allowed in zip(rows, possible, strict=True):
        seen = np.unique(learner.act((row + grid).astype(np.float32), deterministic=True))
        assert allowed[seen].all()
    if epsilon == 0:
        assert (possible.sum(axis=1) == 1).all()


def test_linear_bounds_decide_more_than_intervals():
    rows = np.random.default_rng(0).normal(size=(200, 3))
    lines, plain = (CertifiedPolicy(agent(), 0.1, linear=linear).possible(rows) for linear in (True, False))
    assert (plain | ~lines).all()
    assert lines.sum() < plain.sum()


def test_margins_are_antisymmetric():
    found = CertifiedPolicy(agent(), 0.1).margins(np.zeros((4, 3)))
    torch.testing.assert_close(found.low, -found.high.transpose(1, 2))


# The return


def walk(state, action):
    """A walk on the numbers: reward 1, over beyond 3."""
    following = state + np.where(action == 1, 1.0, -1.0)[:, None]
    return following, np.ones(len(state)), np.abs(following[:, 0]) > 3


def brute_force(possible, state, horizon):
    if horizon == 0:
        return 0.0
    totals = []
    for action in np.flatnonzero(possible(state[None])[0]):
        following, reward, ended = walk(state[None], np.array([action]))
        rest = 0.0 if ended[0] else brute_force(possible, following[0], horizon - 1)
        totals.append(reward[0] + rest)
    return min(totals)


@pytest.mark.parametrize("seed", range(5))
def test_return_is_that_of_the_worst_branch(seed):
    table = np.random.default_rng(seed).random((9, 2)) < 0.6
    table[~table.any(axis=1), 0] = True

    def possible(states):
        return table[states[:, 0].astype(int) + 4]

    expected = brute_force(possible, np.zeros(1), 9)
    assert certified_return(possible, walk, np.zeros(1), 9) == expected
    cut = [certified_return(possible, walk, np.zeros(1), 9, cap=cap) for cap in (1, 2, 8)]
    assert cut == sorted(cut)
    assert cut[-1] <= expected


def test_without_a_choice_it_is_the_return_and_with_a_cap_what_came_so_far():
    def still(states):
        return np.tile([True, False], (len(states), 1))

    def both(states):
        return np.ones((len(states), 2), dtype=bool)

    assert certified_return(still, walk, np.zeros(1), 20) == 4
    assert certified_return(both, walk, np.zeros(1), 20, cap=8) == 3  # 1, 2, 4, 8 branches, then 16
    assert certified_return(still, walk, np.zeros(1), 2) == 2


def test_bad_input_is_refused():
    def none(states):
        return np.zeros((len(states), 2), dtype=bool)

    def costly(state, action):
        following, reward, ended = walk(state, action)
        return following, -reward, ended

    def both(states):
        return ~none(states)

    cases = {
        "must have a possible action": lambda: certified_return(none, walk, np.zeros(1), 5),
        "no reward is negative, got -1.0": lambda: certified_return(both, costly, np.zeros(1), 5),
        "horizon must be": lambda: certified_return(both, walk, np.zeros(1), 0),
        "cap must be": lambda: certified_return(both, walk, np.zeros(1), 5, cap=0),
        "epsilon must be": lambda: CertifiedPolicy(agent(), -0.1),
        "agent must be an on-policy agent with discrete actions, got DQN": lambda: CertifiedPolicy(
            DQN(OBSERVATIONS, ACTIONS), 0.1
        ),
    }
    for message, call in cases.items():
        with pytest.raises(ValueError, match=message):
            call()
