"""Stochastic policies against torch.distributions: masks, densities, entropies, divergences, and how they start."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from ca14lib.networks import CategoricalPolicy, DiagonalGaussianPolicy

BOX = gym.spaces.Box(-1, 1, (3,), np.float32)
seeds = st.integers(0, 999)


def logits_and_mask(seed: int, rows: int = 5, actions: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, actions, generator=generator) < 0.6
    mask[:, seed % actions] = True
    return 2 * torch.randn(rows, actions, generator=generator, dtype=torch.float64), mask


def masked_parameters(logits: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor]:
    return (logits.masked_fill(~mask, -torch.inf).log_softmax(dim=-1),)


@given(seed=seeds)
def test_masked_probabilities_entropy_and_divergence_are_those_over_the_allowed_actions(seed):
    (old, mask), (new, _) = logits_and_mask(seed), logits_and_mask(seed + 1)
    first, second = masked_parameters(old, mask), masked_parameters(new, mask)
    for row in range(5):
        allowed = mask[row]
        before, after = Categorical(logits=old[row, allowed]), Categorical(logits=new[row, allowed])
        one = tuple(parameter[row : row + 1] for parameter in first)
        torch.testing.assert_close(first[0][row, allowed], before.logits)
        assert (first[0][row, ~allowed] == -torch.inf).all()
        torch.testing.assert_close(CategoricalPolicy.entropy(one)[0], before.entropy())
        torch.testing.assert_close(CategoricalPolicy.kl(first, second)[row], kl_divergence(before, after))


@given(seed=seeds)
def test_gradients_through_a_mask_are_finite_and_leave_forbidden_actions_alone(seed):
    logits, mask = logits_and_mask(seed)
    logits.requires_grad_(True)
    parameters = masked_parameters(logits, mask)
    action = mask.double().argmax(dim=-1)
    value = CategoricalPolicy.log_prob(parameters, action).sum() + CategoricalPolicy.entropy(parameters).sum()
    (gradient,) = torch.autograd.grad(value + CategoricalPolicy.kl(parameters, parameters).sum(), logits)
    assert gradient.isfinite().all()
    assert (gradient[~mask] == 0).all()


def test_draws_come_as_often_as_their_probabilities_say_and_never_from_behind_the_mask():
    logits, mask = logits_and_mask(3, rows=1)
    parameters = tuple(parameter.expand(20_000, 4) for parameter in masked_parameters(logits, mask))
    draws = CategoricalPolicy.draw(parameters, torch.Generator().manual_seed(0))
    share = torch.bincount(draws, minlength=4) / 20_000
    assert (share[~mask[0]] == 0).all()
    assert torch.allclose(share.double(), parameters[0][0].exp(), atol=0.02)
    assert (CategoricalPolicy.best(parameters) == parameters[0][0].argmax()).all()


@given(seed=seeds)
def test_gaussian_density_entropy_and_divergence_are_those_of_independent_normals(seed):
    generator = torch.Generator().manual_seed(seed)
    old, new = (
        (torch.randn(6, 3, generator=generator, dtype=torch.float64), torch.randn(3, generator=generator).double())
        for _ in range(2)
    )
    first, second = ((mean, log_std.expand_as(mean)) for mean, log_std in (old, new))
    before, after = (Independent(Normal(mean, log_std.exp()), 1) for mean, log_std in (first, second))
    action = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(DiagonalGaussianPolicy.log_prob(first, action), before.log_prob(action))
    torch.testing.assert_close(DiagonalGaussianPolicy.entropy(first), before.entropy())
    torch.testing.assert_close(DiagonalGaussianPolicy.kl(first, second), kl_divergence(before, after))
    assert torch.equal(DiagonalGaussianPolicy.best(first), first[0])


def test_gaussian_draws_have_the_stated_mean_and_deviation():
    mean, log_std = torch.tensor([[1.0, -2.0]]).expand(50_000, 2), torch.tensor([0.3, -1.0])
    draws = DiagonalGaussianPolicy.draw((mean, log_std.expand_as(mean)), torch.Generator().manual_seed(0))
    assert torch.allclose(draws.mean(dim=0), mean[0], atol=0.03)
    assert torch.allclose(draws.std(dim=0), log_std.exp(), rtol=0.02)


def test_the_same_generator_gives_the_same_draws_and_the_global_one_is_not_touched():
    parameters = (torch.full((50, 3), 1 / 3).log(),), (torch.zeros(50, 2), torch.zeros(50, 2))
    before = torch.random.get_rng_state()
    for policy, values in zip((CategoricalPolicy, DiagonalGaussianPolicy), parameters, strict=True):
        first, second = (policy.draw(values, torch.Generator().manual_seed(5)) for _ in range(2))
        assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("space", [BOX, gym.spaces.Discrete(7)])
def test_policies_start_near_uniform_and_in_the_middle_of_the_box(space):
    torch.manual_seed(0)
    observation = torch.arange(5) if space is not BOX else torch.randn(5, 3)
    (log_prob,) = CategoricalPolicy(space, 4, (16, 16))(observation)
    assert (log_prob.exp() - 0.25).abs().max() < 0.01
    mean, log_std = DiagonalGaussianPolicy(space, 2, (16, 16), initial_log_std=-0.7)(observation)
    assert mean.abs().max() < 0.02
    assert (log_std == -0.7).all()
    assert mean.shape == log_std.shape == (5, 2)


def test_a_mask_that_allows_everything_changes_nothing():
    torch.manual_seed(0)
    policy, observation = CategoricalPolicy(BOX, 4, (8,)), torch.randn(5, 3)
    assert torch.equal(policy(observation)[0], policy(observation, torch.ones(5, 4, dtype=torch.bool))[0])


def test_every_parameter_of_a_policy_gets_a_gradient():
    torch.manual_seed(0)
    observation = torch.randn(5, 3)
    for policy, action in (
        (CategoricalPolicy(BOX, 4, (8, 8)), torch.tensor([0, 1, 2, 3, 0])),
        (DiagonalGaussianPolicy(BOX, 2, (8, 8)), torch.randn(5, 2)),
    ):
        policy.log_prob(policy(observation), action).sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in policy.parameters())
