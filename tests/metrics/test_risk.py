"""Risk measures against brute force, closed forms, linear programmes and the axioms; and faults that these notice."""

import itertools
import math
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, special, stats

from ca14lib.metrics import (
    RISK_MEASURES,
    Interval,
    RiskMeasure,
    conditional_value_at_risk,
    entropic_risk,
    mean_variance_risk,
    return_conditional_value_at_risk,
    return_value_at_risk,
    risk,
    risk_influence,
    risk_interval,
    value_at_risk,
    value_at_risk_interval,
)

Measure = Callable[..., float]

PARAMETERS = {
    "mean": (0.0,),
    "value_at_risk": (0.25, 0.5, 0.9),
    "conditional_value_at_risk": (0.0, 0.3, 0.75, 0.9),
    "entropic_risk": (0.01, 0.5, 3.0),
    "mean_variance_risk": (0.0, 0.5, 2.0),
}
NAMED_PARAMETERS = [(name, parameter) for name, parameters in PARAMETERS.items() for parameter in parameters]


def random_distribution(seed: int, atoms: int = 7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(-4, 5, size=atoms) / 2, rng.integers(0, 6, size=atoms) / 4.0 + np.eye(atoms)[0]


# Values


def quantile_is_the_least_level_with_enough_mass_under_it(measure: Measure) -> None:
    """Brute force over the losses; levels are in sixteenths, which floats hold exactly."""
    for seed, level in itertools.product(range(20), range(1, 17)):
        losses, weights = random_distribution(seed)
        alpha = level / 16
        enough = [x for x in losses if weights[losses <= x].sum() >= alpha * weights.sum() and x in losses[weights > 0]]
        assert measure(losses, alpha, weights) == min(enough)


def quantile_of_a_sample_is_not_moved_by_rounding(measure: Measure) -> None:
    for size in (10, 29, 100, 1_000):
        losses = np.random.default_rng(size).permutation(np.arange(1.0, size + 1))
        for count in range(1, size, max(size // 100, 1)):
            assert measure(losses, count / size) == count
        assert measure(losses, 1 - 3 / size) == size - 3


def tail_mean_is_that_of_repeated_losses(measure: Measure) -> None:
    """Weights in quarters and levels in eighths: repeat every loss often enough and average the worst of them."""
    for seed, level in itertools.product(range(20), range(8)):
        losses, weights = random_distribution(seed)
        repeated = np.sort(np.repeat(losses, (8 * 4 * weights).astype(int)))
        worst = repeated[len(repeated) * level // 8 :]
        assert measure(losses, level / 8, weights) == pytest.approx(worst.mean(), abs=1e-12)


def tail_mean_solves_the_dual_linear_programme(measure: Measure) -> None:
    """The largest mean loss under probabilities of at most 1 / (1 - alpha) times the given ones."""
    for seed, alpha in itertools.product(range(8), (0.1, 0.5, 0.83, 0.95)):
        losses, weights = random_distribution(seed)
        share = weights / weights.sum()
        programme = optimize.linprog(
            -losses, A_eq=np.ones((1, 7)), b_eq=[1.0], bounds=[(0, p / (1 - alpha)) for p in share]
        )
        assert measure(losses, alpha, weights) == pytest.approx(-programme.fun, abs=1e-9)


def tail_mean_is_the_least_value_of_a_convex_function(measure: Measure) -> None:
    """Rockafellar and Uryasev: minimise over the losses themselves, which are the function's kinks."""
    for seed, alpha in itertools.product(range(20), (0.0, 0.35, 0.9)):
        losses, weights = random_distribution(seed)
        share = weights / weights.sum()
        values = [v + share @ np.maximum(losses - v, 0) / (1 - alpha) for v in losses]
        assert measure(losses, alpha, weights) == pytest.approx(min(values), abs=1e-12)
        at_risk = value_at_risk(losses, alpha, weights)
        assert values[list(losses).index(at_risk)] == pytest.approx(min(values), abs=1e-12)


def entropic_risk_is_the_logarithm_of_a_mean_of_exponentials(measure: Measure) -> None:
    for seed, beta in itertools.product(range(20), (0.01, 0.5, 2.0)):
        losses, weights = random_distribution(seed)
        expected = math.log(np.average([math.exp(beta * x) for x in losses], weights=weights)) / beta
        assert measure(losses, beta, weights) == pytest.approx(expected, abs=1e-9)


def entropic_risk_stays_finite_and_keeps_its_digits(measure: Measure) -> None:
    losses = np.array([-2e4, 0.0, 1e4])
    assert measure(losses, 10.0) == pytest.approx(1e4 - math.log(3) / 10, rel=1e-12)
    assert measure(-losses - 5e4, 10.0) == pytest.approx(2e4 - 5e4 - math.log(3) / 10, rel=1e-12)
    assert measure([3.0, 5.0], 1e-12) == pytest.approx(4 + 0.5e-12, abs=1e-15 * 4)
    assert measure([0.0, 1e6], 1.0, [1.0, 0.0]) == 0


def mean_variance_is_that_of_the_distribution(measure: Measure) -> None:
    for seed, weight in itertools.product(range(20), (0.0, 0.5, 2.0)):
        losses, weights = random_distribution(seed)
        mean = np.average(losses, weights=weights)
        pairs = [w * v * (x - y) ** 2 / 2 for x, w in zip(losses, weights) for y, v in zip(losses, weights)]
        expected = mean + weight * sum(pairs) / weights.sum() ** 2
        assert measure(losses, weight, weights) == pytest.approx(expected, abs=1e-12)


def a_weight_of_two_is_a_loss_that_occurs_twice(measure: Measure, parameter: float) -> None:
    losses, counts = np.array([1.0, -2.0, 4.0, 0.5]), np.array([2, 1, 3, 0])
    repeated = np.repeat(losses, counts)
    for factor in (1.0, 0.125):
        assert measure(losses, parameter, factor * counts) == pytest.approx(measure(repeated, parameter), abs=1e-12)


def normal_losses_have_the_closed_form(measure: Measure, name: str) -> None:
    """100,000 midpoint quantiles of a normal distribution stand for it; mean 1, standard deviation 2."""
    losses = 1 + 2 * stats.norm.ppf((np.arange(100_000) + 0.5) / 100_000)
    for alpha in (0.5, 0.9, 0.95):
        quantile = stats.norm.ppf(alpha)
        if name == "value_at_risk":
            assert measure(losses, alpha) == pytest.approx(1 + 2 * quantile, abs=1e-3)
        if name == "conditional_value_at_risk":
            assert measure(losses, alpha) == pytest.approx(1 + 2 * stats.norm.pdf(quantile) / (1 - alpha), abs=1e-3)
    if name == "entropic_risk":
        assert measure(losses, 0.7) == pytest.approx(1 + 0.7 * 4 / 2, abs=1e-3)
    if name == "mean_variance_risk":
        assert measure(losses, 0.7) == pytest.approx(1 + 0.7 * 4, abs=1e-3)


VALUE_PROPERTIES = {
    "value_at_risk": (
        quantile_is_the_least_level_with_enough_mass_under_it,
        quantile_of_a_sample_is_not_moved_by_rounding,
        partial(normal_losses_have_the_closed_form, name="value_at_risk"),
        partial(a_weight_of_two_is_a_loss_that_occurs_twice, parameter=0.55),
    ),
    "conditional_value_at_risk": (
        tail_mean_is_that_of_repeated_losses,
        tail_mean_solves_the_dual_linear_programme,
        tail_mean_is_the_least_value_of_a_convex_function,
        partial(normal_losses_have_the_closed_form, name="conditional_value_at_risk"),
        partial(a_weight_of_two_is_a_loss_that_occurs_twice, parameter=0.55),
    ),
    "entropic_risk": (
        entropic_risk_is_the_logarithm_of_a_mean_of_exponentials,
        entropic_risk_stays_finite_and_keeps_its_digits,
        partial(normal_losses_have_the_closed_form, name="entropic_risk"),
        partial(a_weight_of_two_is_a_loss_that_occurs_twice, parameter=0.7),
    ),
    "mean_variance_risk": (
        mean_variance_is_that_of_the_distribution,
        partial(normal_losses_have_the_closed_form, name="mean_variance_risk"),
        partial(a_weight_of_two_is_a_loss_that_occurs_twice, parameter=0.7),
    ),
}
FUNCTIONS = {
    "value_at_risk": value_at_risk,
    "conditional_value_at_risk": conditional_value_at_risk,
    "entropic_risk": entropic_risk,
    "mean_variance_risk": mean_variance_risk,
}


def property_name(holds: Callable) -> str:
    return (holds.func if isinstance(holds, partial) else holds).__name__


@pytest.mark.parametrize(
    "name, holds",
    [
        pytest.param(name, holds, id=f"{name}-{property_name(holds)}")
        for name, properties in VALUE_PROPERTIES.items()
        for holds in properties
    ],
)
def test_value(name, holds):
    holds(FUNCTIONS[name])
    holds(RISK_MEASURES[name])


def test_levels_at_the_ends_are_limits():
    losses, weights = [3.0, -1.0, 9.0, -7.0, 2.0], [1.0, 2.0, 0.0, 0.0, 1.0]
    assert value_at_risk(losses, 0.0, weights) == value_at_risk(losses, 1e-9, weights) == -1
    assert value_at_risk(losses, 1.0, weights) == value_at_risk(losses, 1 - 1e-9, weights) == 3
    assert conditional_value_at_risk(losses, 0.0, weights) == pytest.approx(0.75)
    assert conditional_value_at_risk(losses, 1.0, weights) == conditional_value_at_risk(losses, 1 - 1e-9, weights) == 3


def test_risk_runs_from_the_mean_to_the_largest_loss():
    losses, weights = random_distribution(3)
    mean, largest = np.average(losses, weights=weights), losses[weights > 0].max()
    tails = [conditional_value_at_risk(losses, alpha, weights) for alpha in np.linspace(0, 1, 11)]
    entropic = [entropic_risk(losses, beta, weights) for beta in (1e-6, 0.1, 1, 10, 1e6)]
    for risks in (tails, entropic):
        assert risks[0] == pytest.approx(mean, abs=1e-5)
        assert risks[-1] == pytest.approx(largest, abs=1e-5)
        assert (np.diff(risks) >= -1e-12).all()
    assert RISK_MEASURES["mean"](losses, 0.0, weights) == pytest.approx(mean)


def test_conditional_mean_over_the_quantile_is_wrong_where_an_atom_lies_across_it():
    """Loss 10 with probability 0.01, else 0: a fifth of the worst twentieth is tens. The textbook formula says 0.1."""
    losses, weights = np.array([0.0, 10.0]), np.array([0.99, 0.01])
    at_risk = value_at_risk(losses, 0.95, weights)
    assert at_risk == 0
    assert np.average(losses[losses >= at_risk], weights=weights[losses >= at_risk]) == pytest.approx(0.1)
    assert np.average(losses[losses > at_risk], weights=weights[losses > at_risk]) == 10
    assert conditional_value_at_risk(losses, 0.95, weights) == pytest.approx(2)


# Returns


def test_return_measures_look_at_the_lower_tail():
    returns = np.random.default_rng(0).permutation(np.arange(1.0, 21))
    assert return_conditional_value_at_risk(returns, 0.1) == pytest.approx(1.5)
    assert return_conditional_value_at_risk(returns, 0.125) == pytest.approx((1 + 2 + 3 / 2) / 2.5)
    assert return_conditional_value_at_risk(returns, 1.0) == pytest.approx(10.5)
    assert return_value_at_risk(returns, 0.1) == 3
    assert return_value_at_risk(returns, 1.0) == 20


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=12), st.integers(1, 16))
def test_return_at_risk_is_the_largest_that_is_reached_often_enough(returns, sixteenths):
    tail = sixteenths / 16
    reached = [z for z in returns if np.mean(np.array(returns) >= z) >= 1 - tail]
    assert return_value_at_risk(returns, tail) == max(reached)


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=12), st.integers(1, 16))
def test_lower_tail_is_never_better_than_the_mean_nor_worse_than_the_worst(returns, sixteenths):
    tail = return_conditional_value_at_risk(returns, sixteenths / 16)
    assert min(returns) - 1e-9 <= tail <= np.mean(returns) + 1e-9


# Axioms

losses_and_weights = st.integers(1, 6).flatmap(
    lambda size: st.tuples(
        *[st.lists(st.integers(-40, 40).map(lambda i: i / 8), min_size=size, max_size=size).map(np.array)] * 2,
        st.lists(st.integers(1, 8).map(float), min_size=size, max_size=size).map(np.array),
    )
)
parameters = {
    "value_at_risk": st.sampled_from([0.1, 0.25, 0.5, 0.9, 0.99]),
    "conditional_value_at_risk": st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.99]),
    "entropic_risk": st.sampled_from([0.01, 0.3, 1.0, 5.0]),
    "mean_variance_risk": st.sampled_from([0.0, 0.1, 1.0, 5.0]),
    "mean": st.just(0.0),
}
SLACK = 1e-9


def is_monotone(risk: Callable, x: np.ndarray, y: np.ndarray, number: float) -> bool:
    return risk(np.minimum(x, y)) <= risk(np.maximum(x, y)) + SLACK


def moves_with_a_sure_loss(risk: Callable, x: np.ndarray, y: np.ndarray, number: float) -> bool:
    return risk(x + number) == pytest.approx(risk(x) + number, abs=SLACK)


def scales_with_the_unit(risk: Callable, x: np.ndarray, y: np.ndarray, number: float) -> bool:
    return risk(number * x) == pytest.approx(number * risk(x), abs=SLACK)


def rewards_diversification(risk: Callable, x: np.ndarray, y: np.ndarray, number: float) -> bool:
    return risk(x + y) <= risk(x) + risk(y) + SLACK


def is_convex(risk: Callable, x: np.ndarray, y: np.ndarray, number: float) -> bool:
    share = number / 8
    return risk(share * x + (1 - share) * y) <= share * risk(x) + (1 - share) * risk(y) + SLACK


MONOTONE, TRANSLATION, SCALING, SUBADDITIVE, CONVEX = AXIOMS = (
    is_monotone, moves_with_a_sure_loss, scales_with_the_unit, rewards_diversification, is_convex,
)  # fmt: skip
HOLD = {
    "mean": AXIOMS,
    "value_at_risk": (MONOTONE, TRANSLATION, SCALING),
    "conditional_value_at_risk": AXIOMS,
    "entropic_risk": (MONOTONE, TRANSLATION, CONVEX),
    "mean_variance_risk": (TRANSLATION, CONVEX),
}
NUMBERS = st.sampled_from([0.125, 0.5, 1.0, 3.0, 7.5])


@pytest.mark.parametrize("name, axiom", [(name, axiom) for name, axioms in HOLD.items() for axiom in axioms])
def test_axiom_holds(name, axiom):
    @settings(max_examples=100, deadline=None)
    @given(losses_and_weights, parameters[name], NUMBERS)
    def holds(distribution, parameter, number):
        x, y, weights = distribution
        assert axiom(lambda losses: RISK_MEASURES[name](losses, parameter, weights), x, y, number)

    holds()


COUNTEREXAMPLES = {
    # two independent loans, each lost with probability 0.04: at 0.95 each alone is riskless, both together are not
    ("value_at_risk", SUBADDITIVE): (0.95, [0, 0, 1, 1], [0, 1, 0, 1], [0.9216, 0.0384, 0.0384, 0.0016], 1),
    # half of each loan, and the risk is half a loan instead of nothing
    ("value_at_risk", CONVEX): (0.95, [0, 0, 1, 1], [0, 1, 0, 1], [0.9216, 0.0384, 0.0384, 0.0016], 4),
    # twice a coin that loses 1 is more than twice as bad
    ("entropic_risk", SCALING): (1.0, [0, 1], [0, 0], [1, 1], 2),
    # the sum of a coin with itself is that
    ("entropic_risk", SUBADDITIVE): (1.0, [0, 1], [0, 1], [1, 1], 1),
    # a chance of winning 3 is never worse than winning nothing, and has a variance
    ("mean_variance_risk", MONOTONE): (1.0, [0, -3], [0, 0], [3, 1], 1),
    ("mean_variance_risk", SCALING): (1.0, [0, 1], [0, 0], [1, 1], 2),
    ("mean_variance_risk", SUBADDITIVE): (1.0, [0, 1], [0, 1], [1, 1], 1),
}


@pytest.mark.parametrize("name, axiom", COUNTEREXAMPLES)
def test_axiom_fails(name, axiom):
    parameter, x, y, weights, number = COUNTEREXAMPLES[name, axiom]
    x, y, weights = (np.array(values, dtype=float) for values in (x, y, weights))
    assert not axiom(lambda losses: RISK_MEASURES[name](losses, parameter, weights), x, y, number)
    if axiom in HOLD["conditional_value_at_risk"]:
        assert axiom(lambda losses: conditional_value_at_risk(losses, 0.95, weights), x, y, number)


def test_every_axiom_of_every_measure_is_settled():
    for name in RISK_MEASURES:
        failing = {axiom for other, axiom in COUNTEREXAMPLES if other == name}
        assert failing | set(HOLD[name]) == set(AXIOMS)
        assert not failing & set(HOLD[name])


def test_numbers_of_the_counterexamples():
    loans = [0.9216, 0.0384, 0.0384, 0.0016]
    one, both = np.array([0.0, 0, 1, 1]), np.array([0.0, 1, 1, 2])
    assert value_at_risk(one, 0.95, loans) == 0
    assert value_at_risk(both, 0.95, loans) == 1
    assert conditional_value_at_risk(one, 0.95, loans) == pytest.approx(0.8)
    assert conditional_value_at_risk(both, 0.95, loans) == pytest.approx((2 * 0.0016 + 0.0484) / 0.05)
    assert entropic_risk([0, 1], 1.0) == pytest.approx(math.log((1 + math.e) / 2))
    assert entropic_risk([0, 2], 1.0) == pytest.approx(math.log((1 + math.e**2) / 2))
    assert mean_variance_risk([0, -3], 1.0, [3, 1]) == pytest.approx(-0.75 + 9 * 3 / 16)


# Gradients


def softmax(logits: np.ndarray) -> np.ndarray:
    weight = np.exp(logits - logits.max())
    return weight / weight.sum()


def blurred_quantile(losses: np.ndarray, share: np.ndarray, alpha: float, blur: float) -> float:
    return optimize.brentq(lambda v: share @ stats.norm.cdf((v - losses) / blur) - alpha, -50, 50, xtol=1e-13)


def influence_gives_the_gradient_in_the_logits(influence: Callable, name: str) -> None:
    """Central differences through a softmax over outcomes against the likelihood-ratio form, exactly averaged."""
    for seed, parameter in itertools.product(range(5), PARAMETERS[name]):
        rng = np.random.default_rng(seed)
        losses, logits = rng.normal(size=6), rng.normal(size=6)
        share = softmax(logits)

        def risk(logits: np.ndarray, losses=losses, parameter=parameter, share=share) -> float:
            if name != "value_at_risk":
                return RISK_MEASURES[name](losses, parameter, softmax(logits))
            deviation = np.sqrt(np.cov(losses, aweights=share, ddof=0))
            blur = 1.06 * deviation * (share**2).sum() ** 0.2
            return blurred_quantile(losses, softmax(logits), parameter, blur)

        step = 1e-5 * np.eye(6)
        differences = [(risk(logits + h) - risk(logits - h)) / 2e-5 for h in step]
        weight = influence(losses, name, parameter, share)
        score = np.eye(6) - share  # row i: gradient of the logarithm of outcome i's probability
        np.testing.assert_allclose((share * weight) @ score, differences, atol=1e-7)


def influence_has_mean_zero(influence: Callable, name: str) -> None:
    for seed, parameter in itertools.product(range(5), PARAMETERS[name]):
        losses, weights = random_distribution(seed)
        weight = influence(losses, name, parameter, weights)
        assert np.average(weight, weights=weights) == pytest.approx(0, abs=1e-9)


INFLUENCE_PROPERTIES = (influence_gives_the_gradient_in_the_logits, influence_has_mean_zero)


@pytest.mark.parametrize("holds", INFLUENCE_PROPERTIES)
@pytest.mark.parametrize("name", PARAMETERS)
def test_influence(name, holds):
    holds(risk_influence, name)


@pytest.mark.parametrize("name, parameter", NAMED_PARAMETERS)
def test_mean_over_sampled_outcomes_estimates_the_gradient(name, parameter):
    """What an agent does: sample, weigh, average the scores; 100,000 samples of four outcomes."""
    losses, share = np.array([0.0, 1.0, 2.5, 4.0]), np.array([0.4, 0.3, 0.2, 0.1])
    drawn = np.random.default_rng(0).choice(4, p=share, size=100_000)
    sampled = (risk_influence(losses[drawn], name, parameter)[:, None] * (np.eye(4)[drawn] - share)).mean(axis=0)
    if name == "value_at_risk":  # the blur shrinks with the sample, so compare at the sample's own frequencies
        frequency = np.bincount(drawn) / len(drawn)
        blur = 1.06 * losses[drawn].std() * len(drawn) ** -0.2
        quantile = blurred_quantile(losses, frequency, parameter, blur)
        slopes = stats.norm.cdf((quantile - losses) / blur)
        density = frequency @ stats.norm.pdf((quantile - losses) / blur) / blur
        exact = -frequency * (slopes - frequency @ slopes) / density
        np.testing.assert_allclose(sampled, exact, rtol=0.05, atol=0.05 * np.abs(exact).max())
    else:
        weight = risk_influence(losses, name, parameter, share)
        exact = share * (weight - share @ weight)
        np.testing.assert_allclose(sampled, exact, atol=0.03 * np.abs(exact).max())


def test_value_at_risk_of_a_continuous_loss_has_the_gradient_of_its_quantile():
    """A mixture of two normal losses, the share of the second moves: the slope of the quantile is known."""
    mixture, alpha = np.array([0.7, 0.3]), 0.8
    rng = np.random.default_rng(0)
    component = rng.choice(2, p=mixture, size=200_000)
    losses = rng.normal(3.0 * component, 1.0)
    quantile = optimize.brentq(lambda v: mixture @ stats.norm.cdf(v - np.array([0, 3])) - alpha, -9, 9)
    slopes, density = stats.norm.cdf(quantile - np.array([0, 3])), mixture @ stats.norm.pdf(quantile - np.array([0, 3]))
    exact = -mixture * (slopes - mixture @ slopes) / density
    sampled = (risk_influence(losses, "value_at_risk", alpha)[:, None] * (np.eye(2)[component] - mixture)).mean(axis=0)
    np.testing.assert_allclose(sampled, exact, rtol=0.06)


@pytest.mark.parametrize("name, parameter", NAMED_PARAMETERS)
def test_losses_that_are_all_alike_have_no_influence(name, parameter):
    for loss in (0.0, 0.1, -1e6):
        np.testing.assert_allclose(risk_influence([loss] * 7, name, parameter), 0, atol=1e-9)


@pytest.mark.parametrize("name, parameter", NAMED_PARAMETERS)
def test_influence_has_the_unit_of_the_loss(name, parameter):
    losses = np.random.default_rng(1).normal(size=20)
    for scale in (1e-8, 1e8):
        inverse = {"entropic_risk": parameter / scale, "mean_variance_risk": parameter / scale}
        scaled = risk_influence(scale * losses + 3 * scale, name, inverse.get(name, parameter))
        np.testing.assert_allclose(scaled / scale, risk_influence(losses, name, parameter), rtol=1e-5, atol=1e-7)


def test_a_measure_of_ones_own_is_taken_in_place_of_a_name():
    worst = RiskMeasure(
        "worst", "no parameter", lambda _: True,
        lambda x, w, _: np.where(w > 0, x, -np.inf).max(axis=-1),
        lambda x, w, _: (x == x.max()) - np.mean(x == x.max()),
    )  # fmt: skip
    assert worst([1.0, 4.0], 0.0) == 4
    np.testing.assert_allclose(risk_influence([1.0, 4.0], worst, 0.0), [-0.5, 0.5])
    assert risk_interval([1.0, 4.0], worst, 0.0, repetitions=50) == Interval(4, 1, 4)


# Intervals


def draws(name: str, size: int, rng: np.random.Generator) -> np.ndarray:
    return rng.normal(size=size) if name == "normal" else rng.exponential(size=size)


def true_risk(name: str, measure: str) -> float:
    quantile = stats.norm.ppf(0.9)
    return {
        ("normal", "value_at_risk"): quantile,
        ("normal", "conditional_value_at_risk"): stats.norm.pdf(quantile) / 0.1,
        ("normal", "entropic_risk"): 0.25,
        ("normal", "mean_variance_risk"): 0.5,
        ("exponential", "value_at_risk"): math.log(10),
        ("exponential", "conditional_value_at_risk"): math.log(10) + 1,
        ("exponential", "entropic_risk"): -2 * math.log(1 - 0.5),
        ("exponential", "mean_variance_risk"): 1.5,
    }[name, measure]


def coverage(interval: Callable, name: str, measure: str, parameter: float, runs: int = 500) -> float:
    rng = np.random.default_rng(2)
    truth = true_risk(name, measure)
    ends = [interval(draws(name, 200, rng), measure, parameter, seed=run) for run in range(runs)]
    return float(np.mean([low <= truth <= high for _, low, high in ends]))


PERCENTILE = partial(risk_interval, repetitions=200)
STUDENTIZED = partial(risk_interval, repetitions=300, method="studentized")

# what 95% intervals from 200 losses cover, as 2,000 runs measured it (standard error 0.005 to 0.008)
COVERED = [
    (PERCENTILE, "normal", "value_at_risk", 0.9, 0.93),
    (PERCENTILE, "normal", "conditional_value_at_risk", 0.9, 0.91),
    (PERCENTILE, "normal", "entropic_risk", 0.5, 0.94),
    (PERCENTILE, "normal", "mean_variance_risk", 0.5, 0.94),
    (PERCENTILE, "exponential", "value_at_risk", 0.9, 0.93),
    (PERCENTILE, "exponential", "conditional_value_at_risk", 0.9, 0.89),
    (PERCENTILE, "exponential", "entropic_risk", 0.5, 0.85),
    (PERCENTILE, "exponential", "mean_variance_risk", 0.5, 0.90),
    (STUDENTIZED, "normal", "conditional_value_at_risk", 0.9, 0.94),
    (STUDENTIZED, "normal", "entropic_risk", 0.5, 0.94),
    (STUDENTIZED, "normal", "mean_variance_risk", 0.5, 0.95),
    (STUDENTIZED, "exponential", "conditional_value_at_risk", 0.9, 0.93),
    (STUDENTIZED, "exponential", "entropic_risk", 0.5, 0.89),
    (STUDENTIZED, "exponential", "mean_variance_risk", 0.5, 0.92),
]


@pytest.mark.parametrize("interval, name, measure, parameter, expected", COVERED)
def test_intervals_cover_as_often_as_the_page_says(interval, name, measure, parameter, expected):
    assert coverage(interval, name, measure, parameter) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("size, alpha", [(20, 0.9), (200, 0.9), (100, 0.99)])
@pytest.mark.parametrize("draw", ["normal", "coin"])
def test_order_statistics_cover_at_least_as_often_as_they_say(size, alpha, draw):
    """Atoms included: a loss that is 1 with probability 0.1 has value at risk 0 at level 0.9, just."""
    rng = np.random.default_rng(0)
    truth = stats.norm.ppf(alpha) if draw == "normal" else float(alpha > 0.9)
    covered = []
    for _ in range(1_000):
        losses = rng.normal(size=size) if draw == "normal" else rng.binomial(1, 0.1, size=size).astype(float)
        interval = value_at_risk_interval(losses, alpha)
        covered.append(interval.low <= truth <= interval.high)
    assert np.mean(covered) >= 0.95 - 0.02


def test_order_statistics_are_those_of_the_binomial_distribution():
    """Every pair of order statistics, by adding up binomial probabilities: none closer leaves 2.5% on a side."""
    losses = np.arange(1.0, 51)
    interval = value_at_risk_interval(losses, 0.8)
    below = [sum(math.comb(50, k) * 0.8**k * 0.2 ** (50 - k) for k in range(j)) for j in range(52)]
    assert interval.low == max(j for j in range(1, 51) if below[j] <= 0.025)
    assert interval.high == min(j for j in range(1, 51) if 1 - below[j] <= 0.025)
    assert interval.estimate == 40


def test_a_sample_too_small_for_the_level_leaves_the_risk_unbounded():
    for alpha, needed in ((0.9, 36), (0.99, 368)):
        assert value_at_risk_interval(np.arange(needed - 1.0), alpha).high == math.inf
        assert value_at_risk_interval(np.arange(float(needed)), alpha).high == needed - 1
    assert value_at_risk_interval([3.0], 0.5) == Interval(3.0, -math.inf, math.inf)


@pytest.mark.parametrize("name", PARAMETERS)
def test_percentile_interval_is_the_middle_of_resampled_risks(name):
    """Against a bootstrap written here, with other random numbers."""
    losses, parameter = np.random.default_rng(0).normal(size=60), PARAMETERS[name][-1]
    result = risk_interval(losses, name, parameter, repetitions=4_000, confidence=0.9)
    rng = np.random.default_rng(1)
    resampled = [RISK_MEASURES[name](rng.choice(losses, size=60), parameter) for _ in range(4_000)]
    low, high = np.quantile(resampled, [0.05, 0.95])
    assert result.estimate == RISK_MEASURES[name](losses, parameter)
    assert result.low == pytest.approx(low, abs=0.06 * (high - low) + 0.03)
    assert result.high == pytest.approx(high, abs=0.06 * (high - low) + 0.03)


def test_studentised_interval_of_the_mean_is_the_bootstrap_t():
    losses = np.random.default_rng(0).exponential(size=40)
    result = risk_interval(losses, "mean", 0.0, repetitions=5_000, method="studentized")
    rng = np.random.default_rng(1)
    pivots = []
    for _ in range(5_000):
        resample = rng.choice(losses, size=40)
        pivots.append((resample.mean() - losses.mean()) / (resample.std() / math.sqrt(40)))
    low, high = np.quantile(pivots, [0.025, 0.975])
    error = losses.std() / math.sqrt(40)
    assert result.low == pytest.approx(losses.mean() - high * error, abs=0.15 * error)
    assert result.high == pytest.approx(losses.mean() - low * error, abs=0.15 * error)


@pytest.mark.parametrize("method", ["percentile", "studentized"])
@pytest.mark.parametrize("name", ["mean", "conditional_value_at_risk", "entropic_risk", "mean_variance_risk"])
def test_interval_of_a_sure_loss_has_no_width(name, method, recwarn):
    result = risk_interval([0.1] * 30, name, PARAMETERS[name][-1], method=method, repetitions=200)
    np.testing.assert_allclose(result, 0.1, atol=1e-9)
    assert not recwarn.list


def test_studentising_without_spread_is_refused_or_unbounded_and_never_nan():
    """A tail of two equal losses has no standard error; one whose resamples sometimes have none is unbounded there."""
    with pytest.raises(ValueError, match="differ in the tail"):
        risk_interval([0.0] * 17 + [5.0] * 3, "conditional_value_at_risk", 0.9, method="studentized")
    result = risk_interval([0.0] * 18 + [4.0, 5.0], "conditional_value_at_risk", 0.9, method="studentized")
    assert not np.isnan(result).any()
    assert result.low <= result.estimate <= result.high


def test_interval_is_reproducible_and_indifferent_to_the_order_of_losses_in_law():
    losses = np.random.default_rng(0).normal(size=50)
    first = risk_interval(losses, "conditional_value_at_risk", 0.8, seed=3, repetitions=100)
    assert risk_interval(losses, "conditional_value_at_risk", 0.8, seed=3, repetitions=100) == first
    assert risk_interval(losses, "conditional_value_at_risk", 0.8, seed=4, repetitions=100) != first


def test_resampling_in_pieces_covers_all_repetitions(monkeypatch):
    losses = np.random.default_rng(0).normal(size=50)
    monkeypatch.setattr(risk, "CHUNK", 50 * 7)
    pieces = risk._resampled_counts(50, 100, seed=0)
    assert [len(piece) for piece in pieces] == [7] * 14 + [2]
    assert all((piece.sum(axis=1) == 50).all() for piece in pieces)
    split = risk_interval(losses, "mean", 0.0, repetitions=4_000)
    monkeypatch.undo()
    whole = risk_interval(losses, "mean", 0.0, repetitions=4_000)
    np.testing.assert_allclose(split, whole, atol=0.03)


# Bad input


@pytest.mark.parametrize(
    "losses, weights, message",
    [
        ([], None, r"losses must have shape \[n\] and not be empty, got shape \(0,\)"),
        ([[1.0, 2.0]], None, r"losses must have shape \[n\] .* got shape \(1, 2\)"),
        (3.0, None, r"losses must have shape \[n\]"),
        ([1.0, math.nan], None, "losses must be finite, got nan"),
        ([1.0, -math.inf], None, "losses must be finite, got -inf"),
        ([1.0, 2.0], [1.0], r"weights must have the shape of losses, \(2,\), got \(1,\)"),
        ([1.0, 2.0], [1.0, -0.5], "weights must be at least 0 .* got a smallest of -0.5"),
        ([1.0, 2.0], [0.0, 0.0], "not all 0"),
        ([1.0, 2.0], [math.nan, 1.0], "weights must be finite, got nan"),
    ],
)
@pytest.mark.parametrize("name, parameter", [(name, parameters[-1]) for name, parameters in PARAMETERS.items()])
def test_bad_losses_are_named(name, parameter, losses, weights, message):
    with pytest.raises(ValueError, match=message):
        RISK_MEASURES[name](losses, parameter, weights)
    with pytest.raises(ValueError, match=message):
        risk_influence(losses, name, parameter, weights)
    if weights is None:
        with pytest.raises(ValueError, match=message):
            risk_interval(losses, name, parameter)


@pytest.mark.parametrize(
    "name, parameter, message",
    [
        ("value_at_risk", 1.2, r"value_at_risk needs alpha in \[0, 1\], got 1.2"),
        ("value_at_risk", math.nan, "got nan"),
        ("conditional_value_at_risk", -0.1, r"conditional_value_at_risk needs alpha in \[0, 1\], got -0.1"),
        ("conditional_value_at_risk", 95, "got 95"),
        ("entropic_risk", 0.0, r"entropic_risk needs beta in \(0, inf\), got 0.0"),
        ("entropic_risk", -1.0, "got -1.0"),
        ("entropic_risk", math.inf, "got inf"),
        ("mean_variance_risk", -1e-9, r"mean_variance_risk needs weight in \[0, inf\), got -1e-09"),
        ("mean_variance_risk", math.nan, "got nan"),
    ],
)
def test_parameters_out_of_range_are_named(name, parameter, message):
    for call in (FUNCTIONS[name], partial(risk_influence, measure=name), partial(risk_interval, measure=name)):
        keyword = {"parameter": parameter} if isinstance(call, partial) else {}
        arguments = ([1.0, 2.0],) if keyword else ([1.0, 2.0], parameter)
        with pytest.raises(ValueError, match=message):
            call(*arguments, **keyword)


def test_other_bad_input_is_named():
    with pytest.raises(ValueError, match=r"measure must be one of mean, value_at_risk.*got 'cvar'"):
        risk_influence([1.0], "cvar", 0.5)
    for alpha in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"influence on value_at_risk needs alpha in \\(0, 1\\), got {alpha}"):
            risk_influence([1.0, 2.0], "value_at_risk", alpha)
    with pytest.raises(ValueError, match=r"influence on conditional_value_at_risk needs alpha under 1, got 1\.0"):
        risk_influence([1.0, 2.0], "conditional_value_at_risk", 1.0)
    for tail in (0.0, 1.1, math.nan):
        for measure in (return_value_at_risk, return_conditional_value_at_risk):
            with pytest.raises(ValueError, match=f"tail must lie in \\(0, 1\\], got {tail}"):
                measure([1.0, 2.0], tail)
    with pytest.raises(ValueError, match="returns must be finite, got nan"):
        return_conditional_value_at_risk([1.0, math.nan], 0.5)
    with pytest.raises(ValueError, match="at least two losses, got 1"):
        risk_interval([1.0], "mean", 0.0)
    with pytest.raises(ValueError, match="method must be one of percentile, studentized, got 'normal'"):
        risk_interval([1.0, 2.0], "mean", 0.0, method="normal")
    with pytest.raises(ValueError, match="take value_at_risk_interval"):
        risk_interval([1.0, 2.0], "value_at_risk", 0.5, method="studentized")
    with pytest.raises(ValueError, match="repetitions must be at least 1, got 0"):
        risk_interval([1.0, 2.0], "mean", 0.0, repetitions=0)
    for confidence in (0.0, 1.0, 95):
        with pytest.raises(ValueError, match=f"confidence must lie in \\(0, 1\\), got {confidence}"):
            risk_interval([1.0, 2.0], "mean", 0.0, confidence=confidence)
        with pytest.raises(ValueError, match=f"confidence must lie in \\(0, 1\\), got {confidence}"):
            value_at_risk_interval([1.0, 2.0], 0.5, confidence=confidence)
    for alpha in (0.0, 1.0):
        with pytest.raises(ValueError, match=f"alpha must lie in \\(0, 1\\), got {alpha}"):
            value_at_risk_interval([1.0, 2.0], alpha)


def test_inputs_are_not_written_to():
    losses, weights = np.array([3.0, 1.0, 2.0]), np.array([1.0, 2.0, 1.0])
    for name, (*_, parameter) in PARAMETERS.items():
        RISK_MEASURES[name](losses, parameter, weights)
        risk_influence(losses, name, parameter, weights)
        risk_interval(losses, name, parameter, repetitions=10)
    assert losses.tolist() == [3, 1, 2]
    assert weights.tolist() == [1, 2, 1]


# Planted faults


def arrays(losses: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    losses = np.asarray(losses, dtype=float)
    weights = np.ones_like(losses) if weights is None else np.asarray(weights, dtype=float)
    return losses, weights / weights.sum()


def interpolating_quantile(losses, alpha, weights=None):
    """NumPy's default, which interpolates between losses, where there are no weights."""
    return float(np.quantile(losses, alpha)) if weights is None else value_at_risk(losses, alpha, weights)


def upper_quantile(losses, alpha, weights=None):
    """The least level that is exceeded with probability *under* 1 - alpha."""
    x, p = arrays(losses, weights)
    order = np.argsort(x)
    return x[order][min(np.searchsorted(np.cumsum(p[order]), alpha + 1e-12, side="right"), len(x) - 1)]


def quantile_of_the_lower_tail(losses, alpha, weights=None):
    return value_at_risk(losses, 1 - alpha, weights)


def quantile_without_slack(losses, alpha, weights=None):
    x, p = arrays(losses, weights)
    order = np.argsort(x)
    return x[order][min(np.searchsorted(np.cumsum(p[order]), alpha), len(x) - 1)]


def quantile_without_weights(losses, alpha, weights=None):
    return value_at_risk(losses, alpha)


def mean_from_the_quantile_on(losses, alpha, weights=None):
    x, p = arrays(losses, weights)
    tail = x >= value_at_risk(x, alpha, p)
    return np.average(x[tail], weights=p[tail])


def mean_beyond_the_quantile(losses, alpha, weights=None):
    x, p = arrays(losses, weights)
    at_risk = value_at_risk(x, alpha, p)
    tail = (x > at_risk) & (p > 0)
    return np.average(x[tail], weights=p[tail]) if tail.any() else at_risk


def mean_of_whole_losses(losses, alpha, weights=None):
    x, p = arrays(losses, weights)
    order = np.argsort(-x)
    filled = np.cumsum(p[order]) - p[order] < 1 - alpha - 1e-12
    return np.average(x[order][filled], weights=p[order][filled])


def level_taken_for_the_tail(losses, alpha, weights=None):
    return conditional_value_at_risk(losses, 1 - alpha, weights)


def lower_tail(losses, alpha, weights=None):
    return -conditional_value_at_risk(-np.asarray(losses), alpha, weights)


def tail_without_weights(losses, alpha, weights=None):
    return conditional_value_at_risk(losses, alpha)


def excess_of_the_wrong_mass(losses, alpha, weights=None):
    x, p = arrays(losses, weights)
    at_risk = value_at_risk(x, alpha, p)
    return at_risk + p @ np.maximum(x - at_risk, 0) / max(alpha, 0.01)


def exponentials_of_returns(losses, beta, weights=None):
    return entropic_risk(-np.asarray(losses), beta, weights)


def without_dividing(losses, beta, weights=None):
    return beta * entropic_risk(losses, beta, weights)


def exponentials_that_overflow(losses, beta, weights=None):
    x, p = arrays(losses, weights)
    with np.errstate(over="ignore"):
        return float(np.log(p @ np.exp(beta * x)) / beta)


def sum_of_exponentials(losses, beta, weights=None):
    return entropic_risk(losses, beta, weights) + np.log(len(np.asarray(losses))) / beta


def always_logsumexp(losses, beta, weights=None):
    x, p = arrays(losses, weights)
    return float(special.logsumexp(beta * x, b=p) / beta)


def minus_the_variance(losses, weight, weights=None):
    x, p = arrays(losses, weights)
    return 2 * p @ x - mean_variance_risk(x, weight, p)


def deviation_for_variance(losses, weight, weights=None):
    x, p = arrays(losses, weights)
    return p @ x + weight * np.sqrt(mean_variance_risk(x, 1, p) - p @ x)


def second_moment_for_variance(losses, weight, weights=None):
    x, p = arrays(losses, weights)
    return p @ x + weight * p @ x**2


def variance_without_weights(losses, weight, weights=None):
    x, p = arrays(losses, weights)
    return p @ x + weight * x.var()


VALUE_FAULTS = {
    "value_at_risk": (
        interpolating_quantile, upper_quantile, quantile_of_the_lower_tail, quantile_without_slack,
        quantile_without_weights,
    ),
    "conditional_value_at_risk": (
        mean_from_the_quantile_on, mean_beyond_the_quantile, mean_of_whole_losses, level_taken_for_the_tail,
        lower_tail, tail_without_weights, excess_of_the_wrong_mass,
    ),
    "entropic_risk": (
        exponentials_of_returns, without_dividing, exponentials_that_overflow, sum_of_exponentials, always_logsumexp,
    ),
    "mean_variance_risk": (
        minus_the_variance, deviation_for_variance, second_moment_for_variance, variance_without_weights,
    ),
}  # fmt: skip


def notices(holds: Callable, wrong: Callable) -> bool:
    try:
        holds(wrong)
    except (AssertionError, ValueError):
        return True
    return False


@pytest.mark.parametrize(
    "name, wrong",
    [pytest.param(name, wrong, id=wrong.__name__) for name, faults in VALUE_FAULTS.items() for wrong in faults],
)
def test_fault_in_a_measure_is_caught(name, wrong):
    caught_by = [property_name(holds) for holds in VALUE_PROPERTIES[name] if notices(holds, wrong)]
    assert caught_by


def test_every_property_of_a_measure_notices_a_fault():
    for name, properties in VALUE_PROPERTIES.items():
        assert len(VALUE_FAULTS[name]) >= 3
        for holds in properties:
            assert any(notices(holds, wrong) for wrong in VALUE_FAULTS[name]), property_name(holds)


def centred(values, p):
    return values - np.average(values, weights=p)


def quantile_moves_too(losses, name, parameter, weights):
    """The indicator in place of the excess: what a derivative through the quantile leaves of the tail."""
    x, p = arrays(losses, weights)
    return (x >= value_at_risk(x, parameter, p)) / (1 - parameter) - 1


INFLUENCE_FAULTS = [
    ("mean", "sign", lambda x, name, c, p: -risk_influence(x, name, c, p)),
    ("mean", "no-baseline", lambda x, name, c, p: np.asarray(x)),
    ("mean", "ranks", lambda x, name, c, p: centred(np.argsort(np.argsort(x)), p)),
    ("value_at_risk", "no-density", lambda x, name, c, p: c - (x <= value_at_risk(x, c, p))),
    ("value_at_risk", "sign", lambda x, name, c, p: -risk_influence(x, name, c, p)),
    ("value_at_risk", "level-from-the-top", lambda x, name, c, p: risk_influence(x, name, 1 - 0.9 * c, p)),
    ("conditional_value_at_risk", "lower-tail", lambda x, name, c, p: -risk_influence(-x, name, c, p)),
    ("conditional_value_at_risk", "no-tail-mass", lambda x, name, c, p: (1 - c) * risk_influence(x, name, c, p)),
    ("conditional_value_at_risk", "no-baseline", lambda x, name, c, p: (x >= value_at_risk(x, c, p)) * x / (1 - c)),
    ("conditional_value_at_risk", "quantile-moves", quantile_moves_too),
    ("entropic_risk", "no-temperature", lambda x, name, c, p: c * risk_influence(x, name, c, p)),
    ("entropic_risk", "unnormalised", lambda x, name, c, p: centred(np.exp(c * x) / c, p)),
    ("entropic_risk", "of-returns", lambda x, name, c, p: risk_influence(-x, name, c, p)),
    ("mean_variance_risk", "mean-forgotten",
     lambda x, name, c, p: risk_influence(x, name, c, p) - risk_influence(x, "mean", 0.0, p)),
    ("mean_variance_risk", "half-the-square",
     lambda x, name, c, p: risk_influence(x, name, c / 2, p)),
    ("mean_variance_risk", "square-not-centred",
     lambda x, name, c, p: risk_influence(x, "mean", 0.0, p) + c * centred(x**2, p)),
]  # fmt: skip


@pytest.mark.parametrize(
    "name, wrong", [pytest.param(name, wrong, id=f"{name}-{fault}") for name, fault, wrong in INFLUENCE_FAULTS]
)
def test_fault_in_an_influence_is_caught(name, wrong):
    assert any(notices(partial(holds, name=name), wrong) for holds in INFLUENCE_PROPERTIES)


def test_every_influence_has_three_faults():
    for name in PARAMETERS:
        assert sum(name == other for other, *_ in INFLUENCE_FAULTS) >= 3


def too_narrow(losses, measure, parameter, seed):
    return risk_interval(losses, measure, parameter, confidence=0.8, repetitions=200, seed=seed)


def lower_end_twice(losses, measure, parameter, seed):
    estimate, low, _ = risk_interval(losses, measure, parameter, repetitions=200, seed=seed)
    return Interval(estimate, low, estimate)


def of_the_wrong_level(losses, measure, parameter, seed):
    return risk_interval(losses, measure, parameter / 1.1, repetitions=200, seed=seed)


def of_half_the_losses(losses, measure, parameter, seed):
    """Resamples as if there were four times as many losses as there are: half the width."""
    estimate, low, high = risk_interval(losses, measure, parameter, repetitions=200, seed=seed)
    return Interval(estimate, (estimate + low) / 2, (estimate + high) / 2)


@pytest.mark.parametrize("wrong", [too_narrow, lower_end_twice, of_the_wrong_level, of_half_the_losses])
def test_fault_in_an_interval_is_caught_by_its_coverage(wrong):
    assert coverage(wrong, "normal", "conditional_value_at_risk", 0.9) < 0.91 - 0.03
