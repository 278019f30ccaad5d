"""Network builders: shapes, the look-up in place of one-hot products, and trailing targets."""

from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ca14lib.networks import OneHotLinear, mlp, polyak_update

BOX = gym.spaces.Box(-1, 1, (3,), np.float32)
sizes = st.lists(st.integers(1, 9), min_size=1, max_size=3)


@given(categories=st.integers(1, 8), features=st.integers(1, 5), seed=st.integers(0, 99))
def test_one_hot_layer_is_a_linear_layer_on_one_hot_inputs(categories, features, seed):
    generator = torch.Generator().manual_seed(seed)
    layer, linear = OneHotLinear(categories, features), nn.Linear(categories, features)
    linear.weight.data, linear.bias.data = layer.weight.data.T.clone(), layer.bias.data.clone()
    index = torch.randint(categories, (11,), generator=generator)
    outputs = layer(index), linear(nn.functional.one_hot(index, categories).float())
    torch.testing.assert_close(*outputs)
    for output in outputs:
        output.square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, linear.weight.grad.T)
    torch.testing.assert_close(layer.bias.grad, linear.bias.grad)


def test_one_hot_layer_starts_with_the_weights_of_a_linear_layer():
    """Uniform in ±1/√n for n categories."""
    torch.manual_seed(0)
    layer = OneHotLinear(400, 100)
    for values in (layer.weight.detach(), layer.bias.detach()):
        assert values.abs().max() <= 1 / 20
        assert values.abs().max() > 0.9 / 20
    assert layer.weight.detach().var() == pytest.approx(1 / 1_200, rel=0.03)
    assert layer.weight.is_contiguous()


def test_unknown_category_is_refused():
    with pytest.raises(IndexError):
        OneHotLinear(3, 2)(torch.tensor([3]))


@given(hidden=sizes, outputs=st.integers(1, 6), batch=st.integers(1, 5), shape=st.sampled_from([(3,), (1,), (2, 4)]))
def test_box_network_maps_a_batch_to_outputs_through_the_hidden_sizes(hidden, outputs, batch, shape):
    network = mlp(gym.spaces.Box(-1, 1, shape, np.float32), outputs, hidden)
    assert network(torch.zeros(batch, *shape)).shape == (batch, outputs)
    widths = [int(np.prod(shape)), *hidden, outputs]
    linear = [layer for layer in network if isinstance(layer, nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == list(pairwise(widths))
    assert sum(isinstance(layer, nn.ReLU) for layer in network) == len(hidden)
    assert isinstance(network[-1], nn.Linear)


@given(hidden=sizes, outputs=st.integers(1, 6), batch=st.integers(1, 5))
def test_discrete_network_maps_a_batch_to_outputs_through_the_hidden_sizes(hidden, outputs, batch):
    network = mlp(gym.spaces.Discrete(6), outputs, hidden)
    assert network(torch.zeros(batch, dtype=torch.int64)).shape == (batch, outputs)
    assert isinstance(network[0], OneHotLinear)
    assert isinstance(network[1], nn.ReLU)
    assert network[0].weight.shape == (6, hidden[0])
    assert sum(isinstance(layer, nn.ReLU) for layer in network) == len(hidden)


def test_network_without_dimensions_takes_plain_numbers():
    network = mlp(gym.spaces.Box(-1, 1, (), np.float32), 2, (4,))
    assert network(torch.zeros(5)).shape == (5, 2)


def test_network_is_the_relu_formula():
    network = mlp(BOX, 2, (4,))
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    expected = network[2](network[0](x).clamp(min=0))
    torch.testing.assert_close(network(x), expected)
    assert (network[0](x) < 0).any()  # so that the rectifier matters


def test_networks_of_one_seed_are_equal_and_of_two_are_not():
    def weights(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return mlp(BOX, 2, (4,))[0].weight

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


@pytest.mark.parametrize(
    ("outputs", "hidden", "message"),
    [(0, (4,), "got 0 and"), (2, (), r"got 2 and \(\)"), (2, (4, 0), r"\(4, 0\)"), (-1, (4,), "-1")],
)
def test_sizes_below_one_are_named(outputs, hidden, message):
    with pytest.raises(ValueError, match=message):
        mlp(BOX, outputs, hidden)


@pytest.mark.parametrize(
    "space", [gym.spaces.MultiBinary(3), gym.spaces.Dict({"a": BOX}), gym.spaces.Discrete(3, start=1)]
)
def test_other_observation_spaces_are_named(space):
    with pytest.raises(ValueError, match=r"observations must .*got") as raised:
        mlp(space, 2, (4,))
    assert str(space) in str(raised.value)


def two_networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    return mlp(BOX, 2, (4, 5)), mlp(BOX, 2, (4, 5))


@given(rate=st.sampled_from([0.0, 0.005, 0.3, 1.0]), steps=st.integers(1, 20))
def test_target_closes_the_gap_geometrically(rate, steps):
    """After n steps towards a fixed source the gap is (1 − ρ)ⁿ of what it was."""
    target, source = two_networks()
    gap = [t.detach() - s.detach() for t, s in zip(target.parameters(), source.parameters())]
    fixed = [s.detach().clone() for s in source.parameters()]
    for _ in range(steps):
        polyak_update(target, source, rate)
    for t, s, start, before in zip(target.parameters(), source.parameters(), gap, fixed):
        torch.testing.assert_close(t.detach() - s.detach(), (1 - rate) ** steps * start, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(s.detach(), before, rtol=0, atol=0)


def test_rate_one_copies_exactly():
    target, source = two_networks()
    polyak_update(target, source, 1.0)
    for t, s in zip(target.parameters(), source.parameters()):
        assert torch.equal(t, s)
        assert t.data_ptr() != s.data_ptr()


def test_targets_take_no_part_in_gradients():
    target, source = two_networks()
    polyak_update(target, source, 0.5)
    assert all(parameter.grad_fn is None for parameter in target.parameters())
    assert all(parameter.grad is None for parameter in (*target.parameters(), *source.parameters()))
