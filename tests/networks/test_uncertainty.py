"""Ensembles and dropout: their parts of the variance, their independence, and faults that are often made in them."""

import copy
import math

import pytest
import torch
from torch import nn

import ca14lib.networks.uncertainty as uncertainty
from ca14lib.networks.uncertainty import (
    DeepEnsemble,
    MCDropout,
    Prediction,
    SeededDropout,
    categorical_uncertainty,
    gaussian_loss,
    lower_confidence_value,
    mixture_moments,
)

# The pieces


def test_mixture_has_the_moments_of_its_samples():
    generator = torch.Generator().manual_seed(0)
    means, variances = torch.tensor([[0.0], [3.0], [-1.0]]), torch.tensor([[1.0], [0.25], [4.0]])
    found = mixture_moments(means, variances)
    member = torch.randint(3, (400_000,), generator=generator)
    draws = means[member, 0] + variances[member, 0].sqrt() * torch.randn(400_000, generator=generator)
    assert found.mean.item() == pytest.approx(draws.mean().item(), abs=0.01)
    assert found.variance.item() == pytest.approx(draws.var().item(), rel=0.01)
    assert found.mean.item() == pytest.approx(2 / 3)
    assert found.aleatoric.item() == pytest.approx(1.75)
    assert found.epistemic.item() == pytest.approx((9 + 1) / 3 - 4 / 9)
    assert found.std.item() == pytest.approx(math.sqrt(1.75 + 10 / 3 - 4 / 9))


def test_variances_are_averaged_not_deviations():
    """The mean of 1 and 3 as deviations is 2, whose square is 4; the variance of the mixture is 5."""
    found = mixture_moments(torch.zeros(2, 1), torch.tensor([[1.0], [9.0]]))
    assert found.variance.item() == 5.0
    assert found.epistemic.item() == 0.0


def test_entropy_splits_into_noise_and_disagreement():
    agree = torch.tensor([[0.5, 0.5], [0.5, 0.5]]).log()
    total, aleatoric, epistemic = categorical_uncertainty(agree)
    assert (total.item(), aleatoric.item(), epistemic.item()) == pytest.approx(
        (math.log(2), math.log(2), 0.0), abs=1e-6
    )
    disagree = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).log()
    total, aleatoric, epistemic = categorical_uncertainty(disagree)
    assert (total.item(), aleatoric.item(), epistemic.item()) == pytest.approx(
        (math.log(2), 0.0, math.log(2)), abs=1e-6
    )
    some = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(0)).log_softmax(dim=-1)
    total, aleatoric, epistemic = categorical_uncertainty(some)
    mean = some.exp().mean(dim=0)
    kl = (some.exp() * (some - mean.log())).sum(dim=-1).mean(dim=0)
    torch.testing.assert_close(epistemic, kl)


def test_gaussian_loss_is_torchs():
    generator = torch.Generator().manual_seed(1)
    mean, target = torch.randn(5, 2, generator=generator), torch.randn(5, 2, generator=generator)
    variance = torch.rand(5, 2, generator=generator) + 0.1
    expected = -torch.distributions.Normal(mean, variance.sqrt()).log_prob(target).sum(dim=-1).mean()
    torch.testing.assert_close(gaussian_loss(mean, variance, target), expected)


def test_pessimism_takes_epistemic_deviations_only():
    value = Prediction(torch.tensor([1.0]), torch.tensor([9.0]), torch.tensor([4.0]))
    assert lower_confidence_value(value, 0.0).item() == 1.0
    assert lower_confidence_value(value, 1.5).item() == -2.0


# Ensembles


def ensemble(**changes):
    return DeepEnsemble(**({"features": 3, "outputs": 2, "members": 4, "hidden_sizes": (8, 8), "seed": 1} | changes))


def alone(network: DeepEnsemble, member: int) -> nn.Sequential:
    """One member as a network of its own."""
    layers: list[nn.Module] = []
    linear = [*(layer for layer in network.network.body if hasattr(layer, "bias")), network.network.head]
    for layer in linear:
        one = nn.Linear(layer.weight.shape[1], layer.weight.shape[2])
        with torch.no_grad():
            one.weight.copy_(layer.weight[member].T)
            one.bias.copy_(layer.bias[member])
        layers += [one, nn.SiLU()]
    return nn.Sequential(*layers[:-1])


def test_every_member_is_a_network_of_its_own():
    network, inputs = ensemble(), torch.randn(7, 3, generator=torch.Generator().manual_seed(0))
    mean, variance = network(inputs)
    assert mean.shape == variance.shape == (4, 7, 2)
    for member in range(4):
        expected, raw = alone(network, member)(inputs).chunk(2, dim=-1)
        torch.testing.assert_close(mean[member], expected)
        torch.testing.assert_close(variance[member], nn.functional.softplus(raw) + 1e-6)
    assert (variance > 0).all()


def test_gradient_of_a_member_is_what_it_would_be_alone():
    network = ensemble()
    generator = torch.Generator().manual_seed(0)
    inputs, target = torch.randn(4, 7, 3, generator=generator), torch.randn(4, 7, 2, generator=generator)
    network.loss(inputs, target).backward()
    for member in range(4):
        single = alone(network, member)
        mean, raw = single(inputs[member]).chunk(2, dim=-1)
        gaussian_loss(mean, nn.functional.softplus(raw) + 1e-6, target[member]).backward()
        torch.testing.assert_close(network.network.head.weight.grad[member], single[-1].weight.grad.T)
        torch.testing.assert_close(network.network.body[0].weight.grad[member], single[0].weight.grad.T)


def assert_members_begin_differently(network: DeepEnsemble) -> None:
    mean, _ = network(torch.ones(1, 3))
    for first in range(network.members):
        for second in range(first):
            assert (mean[first] - mean[second]).abs().max() > 1e-3


def test_members_begin_differently_and_the_seed_fixes_them():
    assert_members_begin_differently(ensemble())
    inputs = torch.ones(2, 3)
    torch.testing.assert_close(ensemble()(inputs), ensemble()(inputs), rtol=0, atol=0)
    assert (ensemble()(inputs)[0] != ensemble(seed=2)(inputs)[0]).all()


def test_making_and_asking_leave_the_global_generator_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    ensemble().predict(torch.ones(1, 3))
    network = MCDropout(3, 2)
    network.predict(torch.ones(1, 3), 5)
    network.loss(torch.ones(1, 3), torch.ones(1, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_without_a_variance_the_spread_is_all_epistemic_and_the_loss_is_squared_error():
    network, inputs, target = ensemble(gaussian=False), torch.ones(5, 3), torch.zeros(5, 2)
    found = network.predict(inputs)
    assert (found.aleatoric == 0).all()
    assert (found.epistemic > 0).all()
    mean, _ = network(inputs)
    torch.testing.assert_close(network.loss(inputs, target), mean.square().sum(dim=-1).mean(dim=-1).sum())


# Dropout


def dropout(**changes):
    return MCDropout(**({"features": 3, "outputs": 2, "rate": 0.3, "hidden_sizes": (32, 32), "seed": 1} | changes))


def assert_passes_differ(network: MCDropout) -> None:
    for mode in (network.train, network.eval):
        mode()
        means, _ = network.passes(torch.ones(4, 3), 6)
        assert len(torch.unique(means[:, 0, 0])) == 6
        assert len(torch.unique(means[0, :, 0])) == 4  # every row has a mask of its own
        assert (network.predict(torch.ones(4, 3), 6).epistemic > 0).all()


def test_units_are_dropped_when_it_predicts_whatever_the_mode():
    assert_passes_differ(dropout())


def test_a_single_pass_drops_nothing_and_is_the_same_every_time():
    network = dropout()
    first, second = network.single(torch.ones(2, 3)), network.single(torch.ones(2, 3))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
    hidden = torch.ones(2, 3)
    for layer in network.hidden:
        hidden = nn.functional.silu(layer(hidden))
    torch.testing.assert_close(first[0], network.head(hidden).chunk(2, dim=-1)[0])


def test_dropped_units_keep_the_mean():
    layer, generator = SeededDropout(0.4), torch.Generator().manual_seed(0)
    outputs = layer(torch.full((200_000,), 3.0), generator)
    assert outputs.unique().tolist() == pytest.approx([0.0, 5.0])
    assert outputs.mean().item() == pytest.approx(3.0, abs=0.02)
    assert torch.equal(layer(torch.ones(3), None), torch.ones(3))


def test_variance_over_passes_of_a_linear_network_has_its_closed_form():
    r"""One hidden layer without activation: Var = Σ w² h² p / (1 − p)."""
    network = MCDropout(2, 1, 0.25, (16,), gaussian=False, activation=nn.Identity, seed=0)
    inputs = torch.tensor([[1.0, -2.0]])
    hidden = network.hidden[0](inputs)
    expected = (network.head.weight * hidden).square().sum() * 0.25 / 0.75
    assert network.predict(inputs, 40_000).epistemic.item() == pytest.approx(expected.item(), rel=0.03)
    assert network.predict(inputs, 40_000).mean.item() == pytest.approx(network.single(inputs)[0].item(), abs=0.02)


def test_same_seed_gives_the_same_masks():
    first, second = (dropout().predict(torch.ones(2, 3), 4) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


# What they are for


def line(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """y = sin(3x) + noise of deviation 0.3, x in [−1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(count, 1, generator=generator) - 1
    return x, torch.sin(3 * x) + 0.3 * torch.randn(count, 1, generator=generator)


def fit(network, count: int, *, steps: int = 500, seed: int = 100):
    inputs, target = line(count, seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        network.loss(inputs, target).backward()
        optimizer.step()
    return network


HELD_OUT, SHIFTED = torch.linspace(-0.9, 0.9, 50)[:, None], torch.linspace(2.0, 3.0, 50)[:, None]


@pytest.mark.learning
def test_ensemble_is_unsure_where_it_saw_nothing_and_more_data_lowers_only_what_it_does_not_know():
    few, many = (fit(DeepEnsemble(1, 1, 5, (32, 32), seed=100), count) for count in (40, 2_000))
    for network in (few, many):
        inside, outside = network.predict(HELD_OUT), network.predict(SHIFTED)
        assert outside.epistemic.mean() > 4 * inside.epistemic.mean()
    before, after = few.predict(HELD_OUT), many.predict(HELD_OUT)
    assert after.epistemic.mean() < before.epistemic.mean() / 3
    assert after.aleatoric.mean().sqrt().item() == pytest.approx(0.3, rel=0.15)
    assert after.aleatoric.mean() > 5 * after.epistemic.mean()


@pytest.mark.learning
def test_dropout_is_less_sure_where_it_saw_nothing():
    network = fit(MCDropout(1, 1, 0.1, (32, 32), seed=100), 500, steps=800)
    assert network.predict(SHIFTED, 100).epistemic.mean() > 2 * network.predict(HELD_OUT, 100).epistemic.mean()


# Planted faults


def deviations_averaged(means, variances):
    mean = means.mean(dim=0)
    return Prediction(mean, variances.sqrt().mean(dim=0).square(), (means - mean).square().mean(dim=0))


def test_fault_variances_averaged_as_deviations_is_caught(monkeypatch):
    monkeypatch.setattr(uncertainty, "mixture_moments", deviations_averaged)
    assert uncertainty.mixture_moments(torch.zeros(2, 1), torch.tensor([[1.0], [9.0]])).variance.item() != 5.0


def test_fault_divisor_of_a_sample_is_caught():
    means = torch.tensor([[0.0], [2.0]])
    assert mixture_moments(means, torch.zeros(2, 1)).epistemic.item() == 1.0
    assert means.var(dim=0).item() == 2.0


def test_fault_dropout_off_at_inference_is_caught(monkeypatch):
    healthy = SeededDropout.forward

    def off_in_eval(self, inputs, generator):
        return healthy(self, inputs, generator if self.training else None)

    monkeypatch.setattr(SeededDropout, "forward", off_in_eval)
    with pytest.raises(AssertionError):
        assert_passes_differ(dropout())


def test_fault_one_mask_for_the_whole_batch_is_caught(monkeypatch):
    healthy = SeededDropout.forward
    monkeypatch.setattr(
        SeededDropout, "forward",
        lambda self, inputs, generator: inputs * healthy(self, torch.ones_like(inputs[:, :1]), generator),
    )  # fmt: skip
    with pytest.raises(AssertionError):
        assert_passes_differ_between_rows(dropout())


def assert_passes_differ_between_rows(network: MCDropout) -> None:
    means, _ = network.passes(torch.ones(4, 3), 6)
    assert len(torch.unique(means[0, :, 0])) == 4


def test_fault_same_weights_for_all_members_is_caught():
    network = ensemble()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(parameter[:1].expand_as(parameter))
    with pytest.raises(AssertionError):
        assert_members_begin_differently(network)
    # and training on the same batches never tells them apart
    inputs, target = torch.randn(16, 3), torch.randn(16, 2)
    optimizer = torch.optim.Adam(network.parameters())
    for _ in range(20):
        optimizer.zero_grad()
        network.loss(inputs, target).backward()
        optimizer.step()
    assert network.predict(inputs).epistemic.max() < 1e-10


def test_fault_masks_from_the_global_generator_is_caught(monkeypatch):
    monkeypatch.setattr(
        SeededDropout, "forward",
        lambda self, inputs, generator: inputs if generator is None else nn.functional.dropout(inputs, self.rate),
    )  # fmt: skip
    with pytest.raises(AssertionError):
        test_making_and_asking_leave_the_global_generator_alone()


def test_networks_can_be_copied_and_their_copies_go_on_alike():
    network = dropout()
    twin = dropout(seed=5)
    twin.load_state_dict(copy.deepcopy(network.state_dict()))
    torch.testing.assert_close(twin.single(torch.ones(1, 3)), network.single(torch.ones(1, 3)))


# Bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: DeepEnsemble(3, 1, 1), "at least two members, got 1: the spread of one says nothing"),
        (lambda: DeepEnsemble(3, 1, 0), "at least two members, got 0"),
        (lambda: DeepEnsemble(3, 1, 2.5), r"at least two members, got 2\.5"),
        (lambda: MCDropout(3, 1, 0.0), r"rate must lie in \(0, 1\), got 0\.0"),
        (lambda: MCDropout(3, 1, 1.0), r"rate must lie in \(0, 1\), got 1\.0"),
        (lambda: MCDropout(3, 1, 0.1, ()), r"must be positive, got 1 and \(\)"),
        (lambda: SeededDropout(1.0), r"rate must lie in \[0, 1\), got 1\.0"),
        (lambda: dropout().predict(torch.ones(1, 3), 1), "at least two passes, got 1"),
        (lambda: mixture_moments(torch.ones(1, 3), torch.ones(1, 3)), "at least two predictions, got 1"),
        (lambda: mixture_moments(torch.ones(2, 3), torch.ones(2, 1)), r"one shape, got \(2, 3\) and \(2, 1\)"),
        (lambda: categorical_uncertainty(torch.zeros(1, 2)), r"at least two predictions, got shape \(1, 2\)"),
        (
            lambda: lower_confidence_value(Prediction(*[torch.ones(1)] * 3), -1.0),
            r"pessimism must be at least 0, got -1\.0",
        ),
    ],
)
def test_what_makes_no_sense_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
