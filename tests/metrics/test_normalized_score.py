"""The normalised score of continuous control is linear, 0 at the random policy and 100 at the expert."""

import pytest

from ca14lib.metrics import normalized_score


@pytest.mark.parametrize(
    "value, expected", [(-1200.0, 0.0), (-150.0, 100.0), (-675.0, 50.0), (-1725.0, -50.0), (375.0, 150.0)]
)
def test_score_is_the_share_of_the_way_from_random_to_expert_in_percent(value, expected):
    assert normalized_score(value, -1200.0, -150.0) == pytest.approx(expected)


@pytest.mark.parametrize("expert", [-1200.0, -1300.0, float("nan")])
def test_an_expert_no_better_than_random_is_refused(expert):
    with pytest.raises(ValueError, match="expert"):
        normalized_score(0.0, -1200.0, expert)
