"""Calibration against closed forms: of normal predictors that are right, too sure or too timid, and of known bins."""

import numpy as np
import pytest
from scipy import stats

from ca14lib.metrics.calibration import (
    LEVELS,
    area_under_risk_coverage,
    confidence_curve,
    coverage_curve,
    coverage_error,
    expected_calibration_error,
    gaussian_negative_log_likelihood,
    interval_score,
    risk_coverage_curve,
    sharpness,
)


def grid_of_normal(count: int = 20_001) -> np.ndarray:
    """Outcomes that are spread as a standard normal distribution is, without sampling noise."""
    return stats.norm.ppf((np.arange(count) + 0.5) / count)


# Regression


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_coverage_of_a_normal_predictor_is_that_of_its_deviation(factor):
    """Stating factor times the true deviation covers 2Φ(factor · z) − 1 where 2Φ(z) − 1 is stated."""
    target = grid_of_normal()
    curve = coverage_curve(np.zeros_like(target), np.full_like(target, factor), target)
    reach = stats.norm.ppf((1 + np.array(LEVELS)) / 2)
    expected = 2 * stats.norm.cdf(factor * reach) - 1
    np.testing.assert_allclose(curve.observed, expected, atol=2e-4)
    np.testing.assert_array_equal(curve.stated, LEVELS)
    assert (curve.cases == len(target)).all()
    error = coverage_error(np.zeros_like(target), np.full_like(target, factor), target)
    assert error == pytest.approx(abs(expected - np.array(LEVELS)).mean(), abs=2e-4)
    assert (error < 1e-3) == (factor == 1.0)


def test_coverage_curve_does_not_depend_on_units_or_shape():
    rng = np.random.default_rng(0)
    mean, std = rng.normal(size=(40, 5)), rng.uniform(0.5, 2, (40, 5))
    target = mean + std * rng.normal(size=(40, 5))
    plain = coverage_curve(mean, std, target).observed
    moved = coverage_curve(3 * mean.ravel() - 7, 3 * std.ravel(), 3 * target.ravel() - 7).observed
    np.testing.assert_array_equal(plain, moved)


def test_a_deviation_of_zero_covers_only_what_it_hits():
    curve = coverage_curve([0.0, 0.0, 1.0, 1.0], [0.0] * 4, [0.0, 1.0, 1.0, 1.5], levels=[0.1, 0.9])
    assert curve.observed.tolist() == [0.5, 0.5]


def test_coverage_averages_out_what_is_too_wide_here_and_too_narrow_there():
    """Calibrated on average is not calibrated for every case: the page's example."""
    target = np.concatenate([0.5 * grid_of_normal(), 2.0 * grid_of_normal()])
    true = np.repeat([0.5, 2.0], len(target) // 2)
    zeros = np.zeros_like(target)
    levels = [0.5]
    for scale in np.linspace(0.5, 2.0, 301):
        if coverage_curve(zeros, np.full_like(target, scale), target, levels).observed[0] >= 0.5:
            break
    assert coverage_curve(zeros, np.full_like(target, scale), target, levels).observed[0] == pytest.approx(
        0.5, abs=3e-3
    )
    parts = [coverage_curve(zeros[true == t], np.full(len(target) // 2, scale), target[true == t], levels).observed[0]
             for t in (0.5, 2.0)]  # fmt: skip
    assert parts[0] > 0.7
    assert parts[1] < 0.3
    wide = gaussian_negative_log_likelihood(zeros, np.full_like(target, scale), target)
    assert gaussian_negative_log_likelihood(zeros, true, target) < wide - 0.1


def test_log_likelihood_is_scipys_and_least_at_the_true_deviation():
    rng = np.random.default_rng(1)
    mean, std, target = rng.normal(size=50), rng.uniform(0.2, 3, 50), rng.normal(size=50)
    expected = -stats.norm.logpdf(target, mean, std).mean()
    assert gaussian_negative_log_likelihood(mean, std, target) == pytest.approx(expected, rel=1e-12)
    target = 1.7 * grid_of_normal()
    scores = [gaussian_negative_log_likelihood(0 * target, np.full_like(target, s), target) for s in (1.5, 1.7, 1.9)]
    assert scores[1] == pytest.approx(0.5 * np.log(2 * np.pi) + np.log(1.7) + 0.5, abs=1e-3)
    assert scores[1] < min(scores[0], scores[2])


def test_interval_score_is_width_plus_fine_and_least_at_the_quantiles():
    assert interval_score([0.0], [2.0], [1.0], 0.8) == 2.0
    assert interval_score([0.0], [2.0], [3.0], 0.8) == pytest.approx(2.0 + 2 / 0.2 * 1.0)
    assert interval_score([0.0, 0.0], [2.0, 2.0], [-0.5, 1.0], 0.5) == pytest.approx((2.0 + 4 * 0.5 + 2.0) / 2)
    target = grid_of_normal()
    scores = {z: interval_score(0 * target - z, 0 * target + z, target, 0.9) for z in (1.4, 1.6449, 1.9)}
    assert min(scores, key=scores.__getitem__) == 1.6449
    # the closed form at the quantile: 2 φ(z) · 2 / α
    assert scores[1.6449] == pytest.approx(4 * stats.norm.pdf(1.6449) / 0.1, rel=1e-3)


def test_sharpness_is_the_root_mean_square_of_deviations():
    assert sharpness([3.0, 4.0]) == pytest.approx(np.sqrt(12.5))
    assert sharpness([[0.0]]) == 0.0


# Classification


def test_bins_hold_their_upper_border_and_zero():
    curve = confidence_curve([0.0, 0.2, 0.2000001, 0.4, 1.0], [False, True, True, True, False], bins=5)
    assert curve.cases.tolist() == [2, 2, 0, 0, 1]
    assert curve.stated[0] == pytest.approx(0.1)
    assert curve.stated[2] == pytest.approx(0.5)  # the middle of an empty bin
    assert curve.observed[[0, 1, 4]].tolist() == [0.5, 1.0, 0.0]
    assert np.isnan(curve.observed[[2, 3]]).all()


def test_error_is_the_weighted_mean_gap_and_no_bin_is_dropped():
    confidence, correct = [0.9] * 8 + [0.3] * 2, [1] * 4 + [0] * 4 + [1] * 2
    assert expected_calibration_error(confidence, correct, bins=10) == pytest.approx(0.8 * 0.4 + 0.2 * 0.7)
    # one bin: only two means are compared, and errors in opposite directions cancel
    assert expected_calibration_error(confidence, correct, bins=1) == pytest.approx(abs(0.6 - 0.78))


def test_a_calibrated_classifier_has_an_error_near_zero_and_an_overconfident_one_its_excess():
    rng = np.random.default_rng(0)
    chance = rng.uniform(0.5, 1.0, 200_000)
    correct = rng.random(200_000) < chance
    assert expected_calibration_error(chance, correct) < 0.005
    assert expected_calibration_error(np.minimum(chance + 0.1, 1.0), correct) == pytest.approx(
        np.mean(np.minimum(chance + 0.1, 1.0) - chance), abs=0.005
    )


# Abstaining


def test_risk_coverage_answers_the_least_uncertain_first():
    curve = risk_coverage_curve([3.0, 1.0, 2.0], [9.0, 1.0, 2.0])
    np.testing.assert_allclose(curve.coverage, [1 / 3, 2 / 3, 1.0])
    np.testing.assert_allclose(curve.risk, [1.0, 1.5, 4.0])
    assert area_under_risk_coverage([3.0, 1.0, 2.0], [9.0, 1.0, 2.0]) == pytest.approx(6.5 / 3)


def test_area_is_least_in_the_order_of_the_losses_and_the_mean_loss_without_knowledge():
    rng = np.random.default_rng(0)
    loss = rng.exponential(size=500)
    best = area_under_risk_coverage(loss, loss)
    assert area_under_risk_coverage(np.ones(500), loss) == pytest.approx(loss.mean())
    for _ in range(20):
        assert best <= area_under_risk_coverage(loss + rng.normal(size=500), loss) < loss.mean()
    assert area_under_risk_coverage(-loss, loss) > loss.mean()


def test_equal_uncertainties_do_not_depend_on_the_order_of_the_data():
    doubt, loss = np.array([1.0, 1.0, 2.0, 2.0]), np.array([0.0, 4.0, 8.0, 2.0])
    first = risk_coverage_curve(doubt, loss).risk
    np.testing.assert_allclose(first, [2.0, 2.0, 3.0, 3.5])
    np.testing.assert_allclose(risk_coverage_curve(doubt[::-1], loss[::-1]).risk, first)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: coverage_curve([0.0], [-1.0], [0.0]), r"std must be at least 0, got -1\.0"),
        (lambda: coverage_curve([0.0], [1.0], [0.0, 1.0]), r"one shape, got mean \(1,\), std \(1,\), target \(2,\)"),
        (lambda: coverage_curve([], [], []), "mean must not be empty"),
        (lambda: coverage_curve([np.nan], [1.0], [0.0]), "mean must be finite, got nan"),
        (lambda: coverage_curve([0.0], [1.0], [0.0], levels=[1.0]), r"levels must be numbers in \(0, 1\)"),
        (lambda: gaussian_negative_log_likelihood([0.0], [0.0], [0.0]), r"std must be positive, got 0\.0"),
        (lambda: interval_score([1.0], [0.0], [0.0], 0.9), r"not be empty, got one from 1\.0 to 0\.0"),
        (lambda: interval_score([0.0], [1.0], [0.0], 1.0), r"level must lie in \(0, 1\), got 1\.0"),
        (lambda: sharpness([-1.0]), "std must be finite, at least 0"),
        (lambda: confidence_curve([1.2], [True]), r"confidence must lie in \[0, 1\], got 1\.2"),
        (lambda: confidence_curve([0.5], [2]), "correct must be true or false, got 2"),
        (lambda: confidence_curve([0.5], [True, False]), r"one shape \[n\], got \(1,\) and \(2,\)"),
        (lambda: confidence_curve([0.5], [True], bins=0), "bins must be a positive integer, got 0"),
        (lambda: risk_coverage_curve([[1.0]], [[1.0]]), r"must have shape \[n\], got \(1, 1\)"),
        (lambda: risk_coverage_curve([np.inf], [1.0]), "uncertainty must be finite, got inf"),
    ],
)
def test_what_makes_no_sense_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
