"""Networks of return distributions: shapes, the cosine embedding, the multiplicative merge, bad sizes."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch

from ca14lib.networks.quantiles import CosineEmbedding, ImplicitQuantileNetwork, atom_network, midpoint_fractions

BOX = gym.spaces.Box(-1, 1, (3,), dtype=np.float32)
IMAGE = gym.spaces.Box(-1, 1, (2, 3), dtype=np.float32)
STATES = gym.spaces.Discrete(6)


def observations(space: gym.Space, rows: int = 5) -> torch.Tensor:
    if isinstance(space, gym.spaces.Discrete):
        return torch.arange(rows) % int(space.n)
    return torch.randn(rows, *space.shape, generator=torch.Generator().manual_seed(0))


def test_midpoints_are_the_middles_of_equal_parts():
    assert midpoint_fractions(4).tolist() == [0.125, 0.375, 0.625, 0.875]
    assert midpoint_fractions(1).tolist() == [0.5]
    with pytest.raises(ValueError, match="the number of fractions must be at least 1, got 0"):
        midpoint_fractions(0)


@pytest.mark.parametrize("space", [BOX, IMAGE, STATES], ids=["box", "image", "discrete"])
def test_outputs_are_rows_actions_atoms(space):
    assert atom_network(space, 4, 7, (8,))(observations(space)).shape == (5, 4, 7)
    for hidden in ((8,), (8, 9), (8, 9, 10)):
        network = ImplicitQuantileNetwork(space, 4, 6, hidden)
        assert network(observations(space), torch.rand(5, 7)).shape == (5, 4, 7)


def test_embedding_is_the_rectified_sum_of_cosines():
    torch.manual_seed(0)
    embedding, fraction = CosineEmbedding(3, 2), 0.3
    weight, bias = embedding.linear.weight.detach(), embedding.linear.bias.detach()
    for j in range(2):
        expected = max(sum(math.cos(math.pi * i * fraction) * float(weight[j, i]) for i in range(3)) + bias[j], 0.0)
        assert float(embedding(torch.tensor(fraction))[j].detach()) == pytest.approx(float(expected), abs=1e-6)
    assert embedding(torch.rand(5, 4)).shape == (5, 4, 2)


def test_a_quantile_depends_on_its_own_fraction_alone():
    torch.manual_seed(0)
    network, seen = ImplicitQuantileNetwork(BOX, 4, 6, (8, 9)), observations(BOX)
    fractions = torch.rand(5, 7)
    changed = fractions.clone()
    changed[:, 2] = 0.99
    before, after = network(seen, fractions), network(seen, changed)
    kept = [0, 1, 3, 4, 5, 6]
    torch.testing.assert_close(before[..., kept], after[..., kept])
    assert (before[..., 2] != after[..., 2]).any()


def test_merge_is_a_product():
    """With an embedding of zeros nothing of the observation is left; with one of ones, all of it."""
    torch.manual_seed(0)
    network, seen = ImplicitQuantileNetwork(BOX, 4, 6, (8, 9)), observations(BOX)
    with torch.no_grad():
        network.embedding.linear.weight.zero_()
        network.embedding.linear.bias.zero_()
    blind = network(seen, torch.rand(5, 2))
    torch.testing.assert_close(blind, blind[:1, :, :1].expand_as(blind))
    with torch.no_grad():
        network.embedding.linear.bias.fill_(1.0)
    plain = network.head(network.observation_body(seen))
    torch.testing.assert_close(network(seen, torch.rand(5, 2)), plain[..., None].expand(-1, -1, 2))


@pytest.mark.parametrize("actions, atoms", [(0, 5), (3, 0)])
def test_sizes_have_to_be_positive(actions, atoms):
    with pytest.raises(ValueError, match=f"num_actions and num_atoms must be positive, got {actions} and {atoms}"):
        atom_network(BOX, actions, atoms, (8,))


def test_embedding_and_layers_have_to_be_there():
    with pytest.raises(ValueError, match="num_cosines and features must be positive, got 0 and 4"):
        CosineEmbedding(0, 4)
    with pytest.raises(ValueError, match="hidden_sizes must hold at least one layer"):
        ImplicitQuantileNetwork(BOX, 4, 6, ())
