"""Beliefs about the parameters of a simulator, and acting on them. Book: robust/bayesian.

Two exact filters. :class:`LinearDynamics`: dynamics that are linear in known features, with a conjugate belief about
weights and noise. :class:`CandidateModels`: a finite list of simulators, weighed by how well each predicts.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import gammaln, logsumexp

from ca14lib.agents.base import require

Array = NDArray[np.float64]


class LinearBelief(NamedTuple):
    """A belief about weights and noise of a linear regression, normal and inverse-gamma.

    Given the noise's variance the weights are normal with mean ``mean`` and covariance variance × ``precision``⁻¹; the
    variance is inverse-gamma with ``shape`` and ``rate``.
    """

    mean: Array  # m, [D]
    precision: Array  # Λ, [D, D]
    shape: float  # a
    rate: float  # b


def linear_posterior(prior: LinearBelief, features: ArrayLike, target: ArrayLike) -> LinearBelief:
    r"""The belief after observing targets, in closed form (book eq. posterior-linear).

    Args:
        prior: The belief before.
        features: :math:`\phi`, ``[N, D]``.
        target: ``[N]``.
    Raises:
        ValueError: If shapes disagree or a number is not finite.
    """
    x, y = np.asarray(features, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if x.ndim != 2 or x.shape[1] != len(prior.mean) or y.shape != x.shape[:1]:
        raise ValueError(f"features must be [N, {len(prior.mean)}] and target [N], got {x.shape} and {y.shape}")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise ValueError("features and target must be finite, got NaN or infinity")
    precision = prior.precision + x.T @ x
    mean: Array = np.asarray(np.linalg.solve(precision, prior.precision @ prior.mean + x.T @ y), dtype=np.float64)
    # b + (|y|² + mᵀΛm − m'ᵀΛ'm') / 2, as a sum of squares, which rounding cannot make negative
    shift = mean - prior.mean
    rate = prior.rate + (np.sum((y - x @ mean) ** 2) + shift @ prior.precision @ shift) / 2
    return LinearBelief(mean, precision, prior.shape + len(y) / 2, float(rate))


def log_evidence(prior: LinearBelief, posterior: LinearBelief, number: int) -> float:
    """Log density of all targets before they were seen, weights and noise integrated out (book eq. posterior-evidence).

    Args:
        prior: The belief before.
        posterior: The belief after.
        number: N, targets observed.
    """
    return float(
        -number / 2 * math.log(2 * math.pi)
        + (np.linalg.slogdet(prior.precision)[1] - np.linalg.slogdet(posterior.precision)[1]) / 2
        + prior.shape * math.log(prior.rate) - posterior.shape * math.log(posterior.rate)
        + gammaln(posterior.shape) - gammaln(prior.shape)
    )  # fmt: skip


class StudentT(NamedTuple):
    """Location, scale and degrees of freedom of Student's t."""

    location: Array
    scale: Array
    freedom: float


@dataclass(frozen=True)
class LinearDynamicsConfig:
    prior_deviation: float = 10.0  # of a weight, in units of the noise's deviation
    noise_shape: float = 1.0  # a₀
    noise_rate: float = 0.01  # b₀

    def __post_init__(self) -> None:
        for name in ("prior_deviation", "noise_shape", "noise_rate"):
            value = getattr(self, name)
            require(0 < value < math.inf, name, value, "positive and finite")


class LinearDynamics:
    """One coordinate of the dynamics, target = φᵀw + noise, and the belief about w and the noise.

    Args:
        num_features: D, at least 1.
        config: The prior.
    """

    def __init__(self, num_features: int, config: LinearDynamicsConfig | None = None) -> None:
        require(num_features >= 1, "num_features", num_features, "at least 1")
        self.config = LinearDynamicsConfig() if config is None else config
        precision = np.eye(num_features) / self.config.prior_deviation**2
        self.prior = LinearBelief(np.zeros(num_features), precision, self.config.noise_shape, self.config.noise_rate)
        self.belief, self.observed = self.prior, 0

    def observe(self, features: ArrayLike, target: ArrayLike) -> None:
        """Learn from transitions ``[N, D]`` and ``[N]``; their order and grouping do not matter."""
        self.belief = linear_posterior(self.belief, features, target)
        self.observed += len(np.asarray(target))

    def sample(self, generator: np.random.Generator, number: int = 1) -> tuple[Array, Array]:
        """Draws of weights ``[number, D]`` and of the noise's deviation ``[number]`` (book eq. posterior-sample)."""
        variance = 1 / generator.gamma(self.belief.shape, 1 / self.belief.rate, size=number)
        root = np.linalg.cholesky(self.belief.precision)
        normal = generator.standard_normal((number, len(self.belief.mean)))
        # Λ = LLᵀ, so that L⁻ᵀz has covariance Λ⁻¹
        drawn = np.linalg.solve(root.T, normal.T).T
        return self.belief.mean + np.sqrt(variance)[:, None] * drawn, np.sqrt(variance)

    def weights(self) -> StudentT:
        """The marginal belief about every weight, ``[D]``."""
        variance = np.diag(np.linalg.inv(self.belief.precision)) * self.belief.rate / self.belief.shape
        return StudentT(self.belief.mean, np.sqrt(variance), 2 * self.belief.shape)

    def predictive(self, features: ArrayLike) -> StudentT:
        """What the next targets ``[N]`` will be, noise included (book eq. posterior-predictive)."""
        x = np.asarray(features, dtype=np.float64)
        spread = 1 + (x * np.linalg.solve(self.belief.precision, x.T).T).sum(axis=1)
        return StudentT(
            x @ self.belief.mean, np.sqrt(spread * self.belief.rate / self.belief.shape), 2 * self.belief.shape
        )

    def log_evidence(self) -> float:
        """Log density of everything that was observed; of two sets of features it favours the better one."""
        return log_evidence(self.prior, self.belief, self.observed)


def gaussian_log_likelihood(prediction: ArrayLike, observed: ArrayLike, deviation: ArrayLike) -> Array:
    """Log density of transitions under each of several simulators, with independent normal noise.

    Args:
        prediction: What each would have done, ``[C, N, D]``.
        observed: What happened, ``[N, D]``.
        deviation: Of the noise, a number or ``[D]``, positive.
    Returns:
        ``[C]``, summed over the transitions.
    """
    sigma = np.asarray(deviation, dtype=np.float64)
    if not (np.isfinite(sigma).all() and (sigma > 0).all()):
        raise ValueError(f"deviation must be positive and finite, got {deviation!r}")
    expected, seen = np.asarray(prediction, dtype=np.float64), np.asarray(observed, dtype=np.float64)
    if expected.ndim != 3 or expected.shape[1:] != seen.shape:
        raise ValueError(f"prediction must be [C, N, D] for observed [N, D], got {expected.shape} and {seen.shape}")
    scaled = (seen - expected) / sigma
    return (-0.5 * scaled**2 - np.log(sigma * math.sqrt(2 * math.pi))).sum(axis=(1, 2))


class CandidateModels:
    """Bayes' rule over a finite list of simulators (book eq. posterior-candidates).

    Args:
        prior: Probabilities ``[C]`` of the candidates, summing to 1; a candidate of probability 0 is never believed.
    """

    def __init__(self, prior: ArrayLike) -> None:
        weights = np.asarray(prior, dtype=np.float64)
        if weights.ndim != 1 or weights.size == 0 or not (weights >= 0).all() or abs(weights.sum() - 1) > 1e-8:
            raise ValueError(f"prior must be probabilities [C] that sum to 1, got {prior!r}")
        with np.errstate(divide="ignore"):
            self._log_weight = np.log(weights)

    def observe(self, log_likelihood: ArrayLike) -> None:
        """Learn from the log density ``[C]`` that each candidate gave to what happened.

        Raises:
            ValueError: If the shape is wrong, a number is NaN or +∞, or no candidate allows what happened; the belief
                is then unchanged.
        """
        gain = np.asarray(log_likelihood, dtype=np.float64)
        if gain.shape != self._log_weight.shape or np.isnan(gain).any() or (gain == np.inf).any():
            raise ValueError(
                f"log_likelihood must be {self._log_weight.shape} without NaN or +inf, got {log_likelihood!r}"
            )
        updated = self._log_weight + gain
        total = logsumexp(updated)
        if not np.isfinite(total):
            raise ValueError("no candidate allows what was observed: its density is 0 under all that are believed")
        self._log_weight = updated - total

    @property
    def probability(self) -> Array:
        """The belief, ``[C]``."""
        return np.exp(self._log_weight)

    def sample(self, generator: np.random.Generator) -> int:
        """The index of one candidate, drawn from the belief: Thompson sampling follows its policy for an episode."""
        cumulative = self.probability.cumsum()
        return int(np.searchsorted(cumulative[:-1], generator.random() * cumulative[-1], side="right"))

    def most_probable(self) -> int:
        """The index of the candidate that is believed most, the first of equals."""
        return int(self._log_weight.argmax())

    def best_on_average(self, values: ArrayLike) -> int:
        """The policy with the largest expected value under the belief (book eq. posterior-mean-value).

        Args:
            values: ``[policies, C]``, the value of every policy in every candidate.
        """
        table = np.asarray(values, dtype=np.float64)
        if table.ndim != 2 or table.shape[1] != len(self._log_weight):
            raise ValueError(f"values must be [policies, {len(self._log_weight)}], got {table.shape}")
        return int((table @ self.probability).argmax())
