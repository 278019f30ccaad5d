"""Shares of the way from a reference to the optimum."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca14lib.metrics import share_of_range


def test_reference_is_zero_and_optimum_is_one():
    assert share_of_range(0.7818, zero=0.7818, one=0.8751) == 0
    assert share_of_range(0.8751, zero=0.7818, one=0.8751) == 1
    assert share_of_range(0.3, zero=-0.5, one=0.5) == pytest.approx(0.8)


def test_below_the_reference_is_negative_and_above_the_optimum_over_one():
    assert share_of_range(-1.0, zero=0, one=2) == -0.5
    assert share_of_range(3.0, zero=0, one=2) == 1.5


def test_arrays_are_shared_entry_by_entry():
    np.testing.assert_allclose(share_of_range(np.array([1.0, 2, 4]), zero=1, one=3), [0, 0.5, 1.5])


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0.1, 5), st.floats(0.1, 9), st.floats(-9, 9))
def test_share_does_not_depend_on_the_unit(value, zero, width, scale, shift):
    one = zero + width
    other = share_of_range(scale * value + shift, scale * zero + shift, scale * one + shift)
    assert other == pytest.approx(share_of_range(value, zero, one), abs=1e-6)


@pytest.mark.parametrize(("zero", "one"), [(0.5, 0.5), (0.6, 0.5), (float("nan"), 1.0), (0.0, float("nan"))])
def test_optimum_that_does_not_exceed_the_reference_is_refused_with_both_numbers(zero, one):
    with pytest.raises(ValueError, match=f"got {one} and {zero}"):
        share_of_range(0.5, zero, one)
