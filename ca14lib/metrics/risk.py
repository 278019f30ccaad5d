r"""Risk measures of losses, their gradients and their intervals. Book: safe/risk.

Everything here takes **losses** :math:`X`: a higher value is worse. Costs are losses as they are; a return :math:`Z` is
one after a change of sign, :math:`X=-Z`. The level :math:`\alpha` is a **confidence level**: value at risk and
conditional value at risk look at the worst share :math:`1-\alpha` of the losses, so 0.95 looks at the worst twentieth.
The two functions whose name begins with ``return_`` take returns, higher is better, and the **mass of the lower tail**.

Losses are a finite distribution: n values with weights, which need not sum to 1. Without weights they are a sample,
and what is computed is the risk of the sample, exactly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import optimize, special, stats

from ca14lib.metrics.intervals import Interval

Array = NDArray[np.float64]
Method = Literal["percentile", "studentized"]

ROUNDING = 1e-12  # share of the total weight by which sums may miss a level: 0.29 · 100 is 28.999999999999996
CHUNK = 4_000_000  # numbers held at a time by the bootstrap


def value_at_risk(losses: ArrayLike, alpha: float, weights: ArrayLike | None = None) -> float:
    r"""Smallest level that a loss stays within with probability at least :math:`\alpha` (book eq. value-at-risk).

    :math:`\inf\{x: P(X\le x)\ge\alpha\}`, the lower :math:`\alpha`-quantile: always one of the losses, never a value
    between two. For the ends of the range the limits stand: the smallest loss at 0, the largest at 1.

    Args:
        losses: :math:`X`, higher is worse, finite, ``[n]``.
        alpha: Confidence level in [0, 1].
        weights: How much each loss counts, at least 0, ``[n]``; None counts all alike.
    Raises:
        ValueError: If there are no losses, a number is not finite or out of range, or shapes differ.
    """
    return VALUE_AT_RISK(losses, alpha, weights)


def conditional_value_at_risk(losses: ArrayLike, alpha: float, weights: ArrayLike | None = None) -> float:
    r"""Mean of the worst share :math:`1-\alpha` of the losses (book eqs. cvar-tail and cvar-rockafellar-uryasev).

    An atom that lies across the border of the tail counts with the part of its weight that is needed to fill the tail.
    That makes the result exact for samples and atoms, and equal to the minimum over v of
    :math:`v+\mathbb E[(X-v)_+]/(1-\alpha)`, which the value at risk attains. At 0 it is the mean; at 1 the limit
    stands, the largest loss.

    Args:
        losses: :math:`X`, higher is worse, finite, ``[n]``.
        alpha: Confidence level in [0, 1].
        weights: How much each loss counts, at least 0, ``[n]``; None counts all alike.
    Raises:
        ValueError: If there are no losses, a number is not finite or out of range, or shapes differ.
    """
    return CONDITIONAL_VALUE_AT_RISK(losses, alpha, weights)


def entropic_risk(losses: ArrayLike, beta: float, weights: ArrayLike | None = None) -> float:
    r"""Exponential certainty equivalent of the losses (book eq. entropic-risk).

    :math:`\tfrac1\beta\log\mathbb E[e^{\beta X}]`, through a logarithm of a sum of exponentials that does not overflow.
    For returns :math:`Z` the same is written :math:`\tfrac1\beta\log\mathbb E[e^{-\beta Z}]`: call it with
    ``-returns``. It tends to the mean as :math:`\beta\to0` and to the largest loss as :math:`\beta\to\infty`.

    Args:
        losses: :math:`X`, higher is worse, finite, ``[n]``.
        beta: Risk aversion :math:`\beta>0`, in units of one over those of the loss.
        weights: How much each loss counts, at least 0, ``[n]``; None counts all alike.
    Raises:
        ValueError: If there are no losses, a number is not finite or out of range, or shapes differ.
    """
    return ENTROPIC_RISK(losses, beta, weights)


def mean_variance_risk(losses: ArrayLike, weight: float, weights: ArrayLike | None = None) -> float:
    r"""Mean plus a multiple of the variance of the losses (book eq. mean-variance-risk).

    The variance is that of the distribution, with divisor n for a sample. It charges for unusually small losses as
    well, which is why a loss that is never larger can be ranked as riskier.

    Args:
        losses: :math:`X`, higher is worse, finite, ``[n]``.
        weight: Price of the variance, at least 0, in units of one over those of the loss.
        weights: How much each loss counts, at least 0, ``[n]``; None counts all alike.
    Raises:
        ValueError: If there are no losses, a number is not finite or out of range, or shapes differ.
    """
    return MEAN_VARIANCE_RISK(losses, weight, weights)


def return_value_at_risk(returns: ArrayLike, tail: float) -> float:
    r"""The return that is reached or exceeded with probability at least ``1 - tail``, the largest such.

    Value at risk (book eq. value-at-risk) for returns: ``-value_at_risk(-returns, 1 - tail)``. Higher is better, and
    what lies under it is the lower tail.

    Args:
        returns: Higher is better, finite, ``[n]``.
        tail: Mass of the lower tail in (0, 1]; at 1 the limit stands, the largest return.
    Raises:
        ValueError: If there are no returns, one is not finite, or the tail is out of range.
    """
    return -value_at_risk(-_vector(returns, "returns"), 1 - _tail_mass(tail))


def return_conditional_value_at_risk(returns: ArrayLike, tail: float) -> float:
    r"""Mean of the worst share ``tail`` of the returns: conditional value at risk (book eq. cvar-tail) for returns.

    ``-conditional_value_at_risk(-returns, 1 - tail)``. Higher is better; at most the mean, which it is at ``tail = 1``.

    Args:
        returns: Higher is better, finite, ``[n]``.
        tail: Mass of the lower tail in (0, 1].
    Raises:
        ValueError: If there are no returns, one is not finite, or the tail is out of range.
    """
    return -conditional_value_at_risk(-_vector(returns, "returns"), 1 - _tail_mass(tail))


def risk_influence(
    losses: ArrayLike, measure: "str | RiskMeasure", parameter: float, weights: ArrayLike | None = None
) -> Array:
    r"""Weight of every loss in the gradient of a risk measure (book eq. risk-sensitive-gradient).

    The influence of a loss is the rate at which the risk changes when a little probability is moved to it from all
    others in proportion. Where probabilities depend on a parameter :math:`\theta`, the chain rule makes of it

    .. math:: \nabla_\theta\,\text{Risk}=\mathbb E[\text{influence}(X)\,\nabla_\theta\log p_\theta(X)],

    so that for sampled episodes the mean of ``influence * grad_log_prob`` estimates the gradient of the risk. With m
    the mean, v the value at risk and R the risk itself, the influences are

    - mean: :math:`X-m`, because the mean is linear in the probabilities;
    - conditional value at risk: :math:`v+(X-v)_+/(1-\alpha)-R`. The risk is a minimum over v of functions linear in
      the probabilities, and the derivative of a minimum is that of the function which attains it: v is held constant;
    - entropic risk: :math:`(e^{\beta(X-R)}-1)/\beta`, the derivative of the logarithm of a mean of exponentials;
    - mean-variance risk: :math:`X-m+w\,((X-m)^2-\operatorname{Var}X)`, in which moving m adds nothing, since
      deviations from the mean have mean 0;
    - value at risk: :math:`(\alpha-1[X\le v])/f(v)` with f the density, from :math:`F(v)=\alpha` by implicit
      differentiation. A finite distribution has no density, and its value at risk has derivative 0 almost everywhere;
      so the losses are blurred with normal noise of standard deviation :math:`h=1.06\,\sigma\,n^{-1/5}`, and what
      comes back is the influence on the value at risk of the blurred losses. It is the noisiest of the five.

    All have mean 0, so the best constant baseline of the plain mean is already taken off; because the sample's own mean
    is subtracted, the estimate from n samples is shorter than the gradient by a share of order 1/n.

    Args:
        losses: :math:`X`, higher is worse, finite, ``[n]``.
        measure: A name in ``RISK_MEASURES``, or a measure.
        parameter: Its parameter; for both values at risk :math:`\alpha` strictly under 1, for the first above 0.
        weights: How much each loss counts, at least 0, ``[n]``; None counts all alike.
    Returns:
        ``[n]``. With a positive step along *minus* the gradient risk falls.
    Raises:
        ValueError: If the measure is unknown, there are no losses, a number is not finite or out of range.
    """
    measure = _measure(measure)
    x, w = _distribution(losses, weights)
    measure.check(parameter)
    return measure.influence(x, w, parameter)


def risk_interval(
    losses: ArrayLike,
    measure: "str | RiskMeasure",
    parameter: float,
    *,
    confidence: float = 0.95,
    repetitions: int = 2_000,
    method: Method = "percentile",
    seed: int = 0,
) -> Interval:
    r"""Risk of a sample with a bootstrap interval for the risk of what it was drawn from (book eq. risk-interval).

    ``"percentile"`` takes the middle of the risks of resamples. ``"studentized"`` takes that of their differences from
    the estimate in units of their own standard error, which is the root mean square of :func:`risk_influence` over
    :math:`\sqrt n`; it allows for a sample with a short tail being a sample with a small standard error.

    Both cover less than they say where few losses lie in the tail, because a sample does not contain the losses that
    are too rare for it. Of 95% intervals for conditional value at risk at 0.9 from 200 losses, 91% of the percentile
    and 94% of the studentised ones cover the true value if losses are normal, 89% and 93% if they are exponential, 86%
    and 92% if they are Student's with 3 degrees of freedom; from 50 losses, five of them in the tail, the percentile
    ones cover 79%, 77% and 71%. With two or three losses in the tail nearly all studentised intervals are unbounded.
    For value at risk :func:`value_at_risk_interval` needs no resampling and covers at least what it says.

    Args:
        losses: Independent draws, higher is worse, finite, ``[n]``; at least two.
        measure: A name in ``RISK_MEASURES``, or a measure.
        parameter: Its parameter.
        confidence: Nominal coverage in (0, 1).
        repetitions: Bootstrap resamples.
        method: Which interval. Studentised ends can be infinite, if too many resamples have a tail without spread.
        seed: Fixes the resampling.
    Raises:
        ValueError: If there are fewer than two losses, a number is not finite or out of range, or the studentised
            interval is asked of value at risk, whose standard error needs a density, or of a sample whose standard
            error is 0 although its losses differ.
    """
    measure = _measure(measure)
    x, ones = _distribution(losses, None)
    measure.check(parameter)
    if len(x) < 2:
        raise ValueError(f"an interval needs at least two losses, got {len(x)}")
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    if method == "studentized" and measure is VALUE_AT_RISK:
        raise ValueError("method 'studentized' is not offered for value_at_risk: take value_at_risk_interval")
    if repetitions < 1:
        raise ValueError(f"repetitions must be at least 1, got {repetitions}")
    shares = [(1 - _confidence(confidence)) / 2, (1 + confidence) / 2]
    estimate = measure.value(x, ones, parameter)
    counts = _resampled_counts(len(x), repetitions, seed)
    resampled = np.concatenate([measure.value(x, count, parameter) for count in counts])
    if method == "percentile":
        return Interval(float(estimate), *np.quantile(resampled, shares).tolist())
    error = float(_standard_error(measure, x, ones, parameter))
    if error == 0 and np.ptp(resampled) > ROUNDING * np.abs(x).max():
        raise ValueError("method 'studentized' needs losses that differ in the tail: take 'percentile', or more losses")
    errors = np.concatenate([_standard_error(measure, x, count, parameter) for count in counts])
    difference = resampled - estimate
    difference[np.abs(difference) <= ROUNDING * np.abs(x).max()] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        pivots = np.where(difference == 0, 0.0, difference / errors)
    low, high = np.quantile(pivots, shares, method="inverted_cdf")
    return Interval(float(estimate), float(estimate - high * error), float(estimate - low * error))


def value_at_risk_interval(losses: ArrayLike, alpha: float, *, confidence: float = 0.95) -> Interval:
    r"""Value at risk of a sample with an interval between two of its order statistics (book eq. risk-interval).

    The number of losses up to the true value at risk is binomial with success probability :math:`\alpha` (at least,
    and strictly below it at most, where there are atoms), so the interval covers with probability at least the nominal
    one at every sample size and for every distribution. Where the sample is too small to bound the risk, the end is
    infinite: 95% above need at least :math:`\log 0.025/\log\alpha` losses, 36 at level 0.9 and 368 at 0.99.

    Args:
        losses: Independent draws, higher is worse, finite, ``[n]``.
        alpha: Confidence level of the value at risk, in (0, 1).
        confidence: Least coverage, in (0, 1).
    Raises:
        ValueError: If there are no losses, one is not finite, or a level is out of range.
    """
    x = np.sort(_distribution(losses, None)[0])
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie in (0, 1), got {alpha}")
    tail = (1 - _confidence(confidence)) / 2
    ends = np.concatenate([[-np.inf], x, [np.inf]])
    low = int(stats.binom.ppf(tail, len(x), alpha))
    high = int(stats.binom.ppf(1 - tail, len(x), alpha)) + 1
    return Interval(value_at_risk(x, alpha), float(ends[max(low, 0)]), float(ends[high]))


# What the measures do with losses [n] and weights [..., n], which need not sum to 1


def _mean(x: Array, w: Array, _: float = 0.0) -> Array:
    return w @ x / w.sum(axis=-1)


def _quantile(x: Array, w: Array, alpha: float) -> Array:
    order = np.argsort(x, kind="stable")
    reached = np.cumsum(w[..., order], axis=-1)
    level = (alpha - ROUNDING) * reached[..., -1:]
    return x[order][((reached >= level) & (reached > 0)).argmax(axis=-1)]


def _tail_mean(x: Array, w: Array, alpha: float) -> Array:
    order = np.argsort(-x, kind="stable")
    sorted_weight = w[..., order]
    worse = np.cumsum(sorted_weight, axis=-1) - sorted_weight
    tail = (1 - alpha) * sorted_weight.sum(axis=-1, keepdims=True)
    taken = np.clip(tail - worse, 0, sorted_weight)
    mass = taken.sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(mass > 0, taken @ x[order] / mass, _quantile(x, w, 1.0))


def _log_mean_exp(x: Array, w: Array, beta: float) -> Array:
    if beta * np.ptp(x) < 1:  # log(1 + mean(exp(u) - 1)) keeps its digits when every u is small
        mean = _mean(x, w)
        excess = np.expm1(beta * (x - mean[..., None]))
        return mean + np.log1p((w * excess).sum(axis=-1) / w.sum(axis=-1)) / beta
    largest = np.where(w > 0, x, -np.inf).max(axis=-1)
    scaled = np.where(w > 0, beta * (x - largest[..., None]), -np.inf)
    return largest + (special.logsumexp(scaled, axis=-1, b=w) - np.log(w.sum(axis=-1))) / beta


def _mean_variance(x: Array, w: Array, weight: float) -> Array:
    mean = _mean(x, w)
    return mean + weight * (w * (x - mean[..., None]) ** 2).sum(axis=-1) / w.sum(axis=-1)


# Their influences [..., n]


def _mean_influence(x: Array, w: Array, _: float) -> Array:
    return x - _mean(x, w)[..., None]


def _quantile_influence(x: Array, w: Array, alpha: float) -> Array:
    if not 0 < alpha < 1:
        raise ValueError(f"the influence on value_at_risk needs alpha in (0, 1), got {alpha}")
    share = w / w.sum()
    blur = 1.06 * np.sqrt(_mean_variance(x, w, 1.0) - _mean(x, w)) * (share**2).sum() ** 0.2
    if not blur > ROUNDING * np.abs(x).max():
        return np.zeros_like(x)
    units = (x - x.min()) / blur
    # were all losses the smallest or all the largest, the blurred quantile would lie at one of these two points
    low, high = np.array([0.0, units.max()]) + special.ndtri(alpha)
    quantile = optimize.brentq(lambda v: share @ special.ndtr(v - units) - alpha, low - 1, high + 1)
    density = share @ stats.norm.pdf(quantile - units) / blur
    return (alpha - special.ndtr(quantile - units)) / density


def _tail_mean_influence(x: Array, w: Array, alpha: float) -> Array:
    if not alpha < 1:
        raise ValueError(f"the influence on conditional_value_at_risk needs alpha under 1, got {alpha}")
    quantile = _quantile(x, w, alpha)[..., None]
    return quantile + np.maximum(x - quantile, 0) / (1 - alpha) - _tail_mean(x, w, alpha)[..., None]


def _log_mean_exp_influence(x: Array, w: Array, beta: float) -> Array:
    return np.expm1(beta * (x - _log_mean_exp(x, w, beta)[..., None])) / beta


def _mean_variance_influence(x: Array, w: Array, weight: float) -> Array:
    deviation = _mean_influence(x, w, weight)
    square = deviation**2
    return deviation + weight * (square - ((w * square).sum(axis=-1) / w.sum(axis=-1))[..., None])


# The measures by name


@dataclass(frozen=True)
class RiskMeasure:
    """A risk measure of losses, called with ``(losses, parameter, weights=None)``.

    Attributes:
        name: As in ``RISK_MEASURES``.
        domain: Name and range of its parameter, in words.
        accepts: Whether a parameter is in range; NaN must not be.
        value: From losses ``[n]``, weights ``[..., n]`` and the parameter to risks ``[...]``.
        influence: From the same to the derivative of the risk in the direction of each loss, ``[..., n]``.
    """

    name: str
    domain: str
    accepts: Callable[[float], bool]
    value: Callable[[Array, Array, float], Array]
    influence: Callable[[Array, Array, float], Array]

    def check(self, parameter: float) -> None:
        """Raise a ValueError with the range, if the parameter is out of it."""
        if not self.accepts(parameter):
            raise ValueError(f"{self.name} needs {self.domain}, got {parameter}")

    def __call__(self, losses: ArrayLike, parameter: float, weights: ArrayLike | None = None) -> float:
        x, w = _distribution(losses, weights)
        self.check(parameter)
        return float(self.value(x, w, parameter))


MEAN = RiskMeasure("mean", "no parameter", lambda _: True, _mean, _mean_influence)
VALUE_AT_RISK = RiskMeasure(
    "value_at_risk", "alpha in [0, 1]", lambda alpha: 0 <= alpha <= 1, _quantile, _quantile_influence
)
CONDITIONAL_VALUE_AT_RISK = RiskMeasure(
    "conditional_value_at_risk", "alpha in [0, 1]", lambda alpha: 0 <= alpha <= 1, _tail_mean, _tail_mean_influence
)
ENTROPIC_RISK = RiskMeasure(
    "entropic_risk", "beta in (0, inf)", lambda beta: 0 < beta < np.inf, _log_mean_exp, _log_mean_exp_influence
)
MEAN_VARIANCE_RISK = RiskMeasure(
    "mean_variance_risk", "weight in [0, inf)", lambda c: 0 <= c < np.inf, _mean_variance, _mean_variance_influence
)

RISK_MEASURES: dict[str, RiskMeasure] = {
    measure.name: measure
    for measure in (MEAN, VALUE_AT_RISK, CONDITIONAL_VALUE_AT_RISK, ENTROPIC_RISK, MEAN_VARIANCE_RISK)
}


def _measure(measure: str | RiskMeasure) -> RiskMeasure:
    if isinstance(measure, RiskMeasure):
        return measure
    if measure not in RISK_MEASURES:
        raise ValueError(f"measure must be one of {', '.join(RISK_MEASURES)}, got {measure!r}")
    return RISK_MEASURES[measure]


def _vector(values: ArrayLike, name: str) -> Array:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1 or vector.size == 0:
        raise ValueError(f"{name} must have shape [n] and not be empty, got shape {vector.shape}")
    if not np.isfinite(vector).all():
        raise ValueError(f"{name} must be finite, got {vector[~np.isfinite(vector)][0]}")
    return vector


def _distribution(losses: ArrayLike, weights: ArrayLike | None) -> tuple[Array, Array]:
    """Losses and weights as arrays ``[n]``, checked."""
    x = _vector(losses, "losses")
    w = np.ones_like(x) if weights is None else _vector(weights, "weights")
    if w.shape != x.shape:
        raise ValueError(f"weights must have the shape of losses, {x.shape}, got {w.shape}")
    if w.min() < 0 or not w.any():
        raise ValueError(
            f"weights must be at least 0 and not all 0, got a smallest of {w.min()} and a sum of {w.sum()}"
        )
    return x, w


def _tail_mass(tail: float) -> float:
    if not 0 < tail <= 1:
        raise ValueError(f"tail must lie in (0, 1], got {tail}")
    return tail


def _confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie in (0, 1), got {confidence}")
    return confidence


def _resampled_counts(size: int, repetitions: int, seed: int) -> list[Array]:
    """How often each of ``size`` losses occurs in each resample, in pieces ``[B, size]``."""
    rng = np.random.default_rng([seed, 0])
    rows = max(CHUNK // size, 1)
    pieces = []
    for start in range(0, repetitions, rows):
        count = min(rows, repetitions - start)
        drawn = rng.integers(size, size=(count, size)) + size * np.arange(count)[:, None]
        pieces.append(np.bincount(drawn.reshape(-1), minlength=count * size).reshape(count, size).astype(np.float64))
    return pieces


def _standard_error(measure: RiskMeasure, x: Array, w: Array, parameter: float) -> Array:
    """Root mean square of the influence over the root of the sample size, ``[...]``."""
    influence = measure.influence(x, w, parameter)
    total = w.sum(axis=-1)
    return np.sqrt((w * influence**2).sum(axis=-1) / total**2)
