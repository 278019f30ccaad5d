"""The numbers and the code of the page on uncertainty hold."""

import re
from pathlib import Path

import numpy as np
import pytest

from ca14lib.metrics.calibration import expected_calibration_error
from tests.book.test_solutions import solution

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "robust" / "uncertainty.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_members_see_a_share_of_the_disagreement():
    module = solution("uncertainty_members")
    for members in (1, 2, 5, 20):
        spread = module.spreads(members)
        assert spread.mean() == pytest.approx(1 - 1 / members, abs=0.02)
        if members > 1:
            assert spread.std() / spread.mean() == pytest.approx(np.sqrt(2 / (members - 1)), rel=0.05)


def test_dropout_stays_unsure_with_endless_data():
    module = solution("uncertainty_dropout_limit")
    limit = module.spread(module.limit_weights(0.1), 0.1, np.ones(3))
    assert limit == pytest.approx(0.1 * 0.9 * 5.25) == pytest.approx(0.4725)
    found = [module.spread(module.fitted_weights(0.1, count), 0.1, np.ones(3)) for count in (100, 10_000, 1_000_000)]
    assert found == pytest.approx([0.470, 0.474, 0.472], abs=5e-4)
    rng, masks = np.random.default_rng(0), np.random.default_rng(1).random((200_000, 3)) >= 0.1
    inputs = rng.normal(size=(200_000, 3))
    dropped = np.linalg.lstsq(inputs * masks / 0.9, inputs @ module.TRUE_WEIGHTS, rcond=None)[0]
    np.testing.assert_allclose(dropped, module.limit_weights(0.1), atol=0.02)


def test_averaged_deviations_are_too_narrow():
    module = solution("uncertainty_averaged_deviations")
    assert (module.wrong(), module.right()) == pytest.approx((1.2, 1.844), abs=5e-4)
    assert module.covered(module.wrong()) == pytest.approx(0.876, abs=5e-4)
    assert module.covered(module.right()) == pytest.approx(0.910, abs=5e-4)


def test_too_sure_is_the_dearer_mistake():
    module = solution("uncertainty_scaled")
    assert module.covered(0.5, 0.9) == pytest.approx(0.589, abs=5e-4)
    assert module.covered(2.0, 0.9) == pytest.approx(0.999, abs=5e-4)
    assert [module.calibration_error(c) for c in (0.5, 1.0, 2.0)] == pytest.approx([0.211, 0.0, 0.215], abs=5e-4)
    assert [np.log(c) + 1 / (2 * c**2) for c in (0.5, 1.0, 2.0)] == pytest.approx([1.307, 0.5, 0.818], abs=5e-4)


def test_bins_left_out_hide_the_mistakes():
    module = solution("uncertainty_small_bins")
    assert expected_calibration_error(module.CONFIDENCE, module.CORRECT) == pytest.approx(0.0202, abs=5e-5)
    assert module.without_small_bins() == pytest.approx(0.0002, abs=5e-5)


def test_dropped_units_clip_ratios_before_any_update():
    module = solution("uncertainty_dropped_policy")
    assert module.share_clipped(module.ratios(0.0)) == 0.0
    assert module.share_clipped(module.ratios(0.1)) == pytest.approx(0.36, abs=0.03)
    assert module.share_clipped(module.ratios(0.1, scale=5.0)) == pytest.approx(0.55, abs=0.03)


@pytest.mark.learning
def test_a_heavier_pendulum_is_not_noticed_by_the_spread():
    found = solution("uncertainty_hidden_change").judged()
    assert found["heavier"][0] == found["held out"][0]
    assert found["heavier"][1] < found["held out"][1] - 0.1
