r"""Networks that say how sure they are: deep ensembles and Monte Carlo dropout. Book: robust/uncertainty.

Both give several predictions for one input, each a normal distribution with a mean and a variance. What all of them
allow for is **aleatoric**, noise in the data; what they disagree about is **epistemic**, for want of data.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ca14lib.networks.agent_networks import TeamNetwork
from ca14lib.networks.policies import HALF_LOG_2PI

LEAST_VARIANCE = 1e-6  # of a predicted distribution, in squared units of the target


class Prediction(NamedTuple):
    """A mean and the two parts of its variance, of one shape."""

    mean: Tensor
    aleatoric: Tensor  # mean of the predicted variances
    epistemic: Tensor  # variance of the predicted means

    @property
    def variance(self) -> Tensor:
        """Their sum (book eq. unc-total)."""
        return self.aleatoric + self.epistemic

    @property
    def std(self) -> Tensor:
        """Root of the total variance."""
        return self.variance.sqrt()


def mixture_moments(means: Tensor, variances: Tensor) -> Prediction:
    r"""Mean and variance of an even mixture of distributions (book eqs. unc-ensemble and unc-total).

    .. math:: \mu=\tfrac1M\sum_i\mu_i,\qquad
        \sigma^2=\tfrac1M\sum_i\sigma_i^2+\tfrac1M\sum_i(\mu_i-\mu)^2

    The divisor of the second part is M, not M − 1: it is the variance of the mixture, not an estimate of a larger
    population's.

    Args:
        means: :math:`\mu_i`, ``[M, …]`` with M at least 2.
        variances: :math:`\sigma_i^2`, at least 0, the same shape.
    Returns:
        Tensors without the first axis.
    Raises:
        ValueError: If shapes differ or there is only one distribution, whose spread would be 0 whatever it knows.
    """
    if means.shape != variances.shape:
        raise ValueError(
            f"means and variances must have one shape, got {tuple(means.shape)} and {tuple(variances.shape)}"
        )
    if means.ndim < 1 or len(means) < 2:
        raise ValueError(f"a spread needs at least two predictions, got {len(means) if means.ndim else 'a number'}")
    mean = means.mean(dim=0)
    return Prediction(mean, variances.mean(dim=0), (means - mean).square().mean(dim=0))


def categorical_uncertainty(log_probabilities: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Entropy of the averaged prediction, and its two parts, in nats (book eq. unc-entropy).

    Args:
        log_probabilities: ``[M, …, C]`` of M members with M at least 2.
    Returns:
        Total entropy; the mean of the members' entropies, aleatoric; and their difference, the mutual information of
        answer and member, epistemic. ``[…]`` each.
    Raises:
        ValueError: If there is only one member.
    """
    if log_probabilities.ndim < 2 or len(log_probabilities) < 2:
        raise ValueError(f"a spread needs at least two predictions, got shape {tuple(log_probabilities.shape)}")
    probabilities = log_probabilities.exp()
    total = torch.special.entr(probabilities.mean(dim=0)).sum(dim=-1)
    aleatoric = torch.special.entr(probabilities).sum(dim=-1).mean(dim=0)
    return total, aleatoric, (total - aleatoric).clamp(min=0.0)


def gaussian_loss(mean: Tensor, variance: Tensor, target: Tensor) -> Tensor:
    """Negative log-likelihood of independent normal predictions in nats, averaged over rows (book eq. unc-loss).

    Args:
        mean: ``[…, B, D]``.
        variance: Positive, the same shape.
        target: A shape that broadcasts to it.
    Returns:
        ``[…]``: summed over D, averaged over B.
    """
    terms = 0.5 * (variance.log() + (target - mean).square() / variance) + HALF_LOG_2PI
    return terms.sum(dim=-1).mean(dim=-1)


def lower_confidence_value(prediction: Prediction, pessimism: float) -> Tensor:
    r"""Mean minus a multiple of the epistemic standard deviation (book eq. unc-pessimism).

    Args:
        prediction: Of a value.
        pessimism: :math:`\beta`, at least 0; 0 is the mean.
    Raises:
        ValueError: If it is negative, which would be optimism, or not a number.
    """
    if not pessimism >= 0.0:
        raise ValueError(f"pessimism must be at least 0, got {pessimism}")
    return prediction.mean - pessimism * prediction.epistemic.sqrt()


class DeepEnsemble(nn.Module):
    """M networks that differ in their initial weights, trained on the same data (Lakshminarayanan et al., 2017).

    All members are computed in one batched product, and the gradient of :meth:`loss` for a member is what it would be
    alone: nothing couples them.

    Args:
        features: Size F of an input.
        outputs: Size D of a target.
        members: M, at least 2.
        hidden_sizes: Width of every hidden layer, at least one.
        gaussian: Whether members predict a variance; otherwise they predict 0, and all spread is epistemic.
        activation: What stands between the layers.
        seed: Fixes the initial weights.

    Raises:
        ValueError: If there are fewer than two members: the spread of one says nothing.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        members: int = 5,
        hidden_sizes: Sequence[int] = (64, 64),
        *,
        gaussian: bool = True,
        activation: type[nn.Module] = nn.SiLU,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(members, bool) or not isinstance(members, int) or members < 2:
            raise ValueError(f"an ensemble needs at least two members, got {members!r}: the spread of one says nothing")
        self.members, self.outputs, self.gaussian = members, outputs, gaussian
        with torch.random.fork_rng(devices=[]):  # the global generator is left as it was
            torch.default_generator.manual_seed(seed)
            self.network = TeamNetwork(
                features, outputs * (1 + gaussian), members, hidden_sizes, shared=False, activation=activation
            )

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """What every member predicts.

        Args:
            inputs: ``[B, F]`` for all members, or ``[M, B, F]`` with a batch for each.
        Returns:
            Means and variances, ``[M, B, D]`` each.
        """
        rows = inputs.expand(self.members, *inputs.shape) if inputs.ndim == 2 else inputs
        found = self.network(rows.transpose(0, 1))[0].transpose(0, 1)
        return _distribution(found, self.gaussian)

    def predict(self, inputs: Tensor) -> Prediction:
        """Mean and variances of the mixture, ``[B, D]``, without gradients (book eq. unc-total)."""
        with torch.no_grad():
            return mixture_moments(*self(inputs))

    def loss(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Sum over members of their own losses: likelihood, or squared error without a variance (book eq. unc-loss).

        Args:
            inputs: ``[B, F]`` or ``[M, B, F]``.
            target: ``[B, D]`` or ``[M, B, D]``.
        """
        return _losses(self(inputs), target, self.gaussian).sum()


class SeededDropout(nn.Module):
    """Dropout whose masks come from a generator that is given, never from the global one.

    Args:
        rate: Probability that a unit is set to 0, in [0, 1); those that stay are divided by ``1 - rate``.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"rate must lie in [0, 1), got {rate}")
        self.rate = rate

    def forward(self, inputs: Tensor, generator: torch.Generator | None) -> Tensor:
        """With a generator units are dropped; with None nothing is, and the sizes are those of the mean."""
        if generator is None or self.rate == 0.0:
            return inputs
        stay = torch.rand(inputs.shape, generator=generator, device=inputs.device) >= self.rate
        return inputs * stay / (1.0 - self.rate)


class MCDropout(nn.Module):
    """A network with dropout behind every hidden layer, which stays on when it predicts (Gal and Ghahramani, 2016).

    Whether units are dropped does not depend on ``train()`` and ``eval()``, which are easily forgotten: training and
    :meth:`predict` always drop, :meth:`single` never does. Masks come from the network's own generator, so that
    predicting moves nobody else's random numbers.

    Args:
        features: Size F of an input.
        outputs: Size D of a target.
        rate: Probability that a hidden unit is dropped, in (0, 1).
        hidden_sizes: Width of every hidden layer, at least one.
        gaussian: Whether it predicts a variance.
        activation: What stands between the layers.
        seed: Fixes initial weights and masks.

    Raises:
        ValueError: If the rate is not in (0, 1): without dropping, all passes are the same.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        rate: float = 0.1,
        hidden_sizes: Sequence[int] = (64, 64),
        *,
        gaussian: bool = True,
        activation: type[nn.Module] = nn.SiLU,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0.0 < rate < 1.0:
            raise ValueError(f"rate must lie in (0, 1), got {rate}: without dropping, all passes are the same")
        if not hidden_sizes or min(hidden_sizes) < 1 or outputs < 1:
            raise ValueError(f"outputs and hidden_sizes must be positive, got {outputs} and {tuple(hidden_sizes)}")
        self.outputs, self.gaussian = outputs, gaussian
        self.generator = torch.Generator().manual_seed(seed)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            widths = [features, *hidden_sizes]
            self.hidden = nn.ModuleList(nn.Linear(width, wide) for width, wide in pairwise(widths))
            self.head = nn.Linear(widths[-1], outputs * (1 + gaussian))
        self.activation, self.dropout = activation(), SeededDropout(rate)

    def forward(self, inputs: Tensor, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Mean and variance ``[…, D]`` of one pass; every row has a mask of its own. None drops nothing."""
        hidden = inputs
        for layer in self.hidden:
            hidden = self.dropout(self.activation(layer(hidden)), generator)
        return _distribution(self.head(hidden), self.gaussian)

    def passes(self, inputs: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Means and variances of ``count`` passes with masks of their own, ``[T, B, D]`` each."""
        if isinstance(count, bool) or not isinstance(count, int) or count < 2:
            raise ValueError(f"a spread needs at least two passes, got {count!r}")
        return self(inputs.expand(count, *inputs.shape), self.generator)

    def predict(self, inputs: Tensor, count: int = 50) -> Prediction:
        """Mean and variances over T = ``count`` passes, ``[B, D]``, without gradients (book eq. unc-dropout)."""
        with torch.no_grad():
            return mixture_moments(*self.passes(inputs, count))

    def single(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance ``[B, D]`` of one pass that drops nothing: what an ordinary network would say."""
        with torch.no_grad():
            return self(inputs, None)

    def loss(self, inputs: Tensor, target: Tensor) -> Tensor:
        """Loss of one pass with dropped units (book eq. unc-loss)."""
        return _losses(self(inputs, self.generator), target, self.gaussian).sum()


def _distribution(found: Tensor, gaussian: bool) -> tuple[Tensor, Tensor]:
    """Mean and variance from what a last layer gives; the variance is a softplus and never 0."""
    if not gaussian:
        return found, torch.zeros_like(found)
    mean, raw = found.chunk(2, dim=-1)
    return mean, nn.functional.softplus(raw) + LEAST_VARIANCE


def _losses(found: tuple[Tensor, Tensor], target: Tensor, gaussian: bool) -> Tensor:
    mean, variance = found
    if gaussian:
        return gaussian_loss(mean, variance, target)
    return (mean - target).square().sum(dim=-1).mean(dim=-1)
