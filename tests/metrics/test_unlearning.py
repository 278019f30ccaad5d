"""Areas of unlearning: by hand, by the triangles they are made of, and bad input."""

import numpy as np
import pytest

from ca14lib.metrics.unlearning import dip_area, lost_area


def test_areas_of_a_triangle_are_those_by_hand():
    steps, shares = [0, 10, 20, 40], [0.6, 0.2, 0.6, 1.0]
    assert dip_area(steps, shares) == pytest.approx((0.4 * 20 / 2) / 40)
    assert lost_area(steps, shares) == pytest.approx((10 * 0.6 + 10 * 0.6 + 20 * 0.2) / 40)


def test_an_optimal_agent_loses_nothing_and_one_that_only_rises_unlearns_nothing():
    steps = np.arange(0, 101, 10)
    assert lost_area(steps, np.ones(11)) == 0
    assert dip_area(steps, np.linspace(-1, 1, 11)) == 0
    assert lost_area(steps, np.linspace(0, 1, 11)) == pytest.approx(0.5)


def test_areas_go_along_the_last_axis_and_do_not_depend_on_the_unit_of_time():
    rng = np.random.default_rng(0)
    steps, shares = np.arange(6), rng.random((3, 6))
    for area in (lost_area, dip_area):
        whole = area(steps, shares)
        assert whole.shape == (3,)
        np.testing.assert_allclose(whole, [area(50 * steps, row) for row in shares])


@pytest.mark.parametrize(
    "steps, shares, message",
    [
        ([0], [1.0], "E at least 2"),
        ([0, 1], [1.0, 1.0, 1.0], "one per share"),
        ([1, 2], [1.0, 1.0], "increase from 0"),
        ([0, 0], [1.0, 1.0], "increase from 0"),
        ([0, 1], [1.0, np.nan], "shares must be finite, got nan"),
    ],
)
def test_bad_input_is_named(steps, shares, message):
    for area in (lost_area, dip_area):
        with pytest.raises(ValueError, match=message):
            area(steps, shares)
