"""Batch-constrained Q-learning, discrete actions: every property of ``properties.py`` that concerns it."""

import pytest

from tests.agents.properties import PROPERTIES


@pytest.mark.parametrize("name", PROPERTIES["bcq"])
def test_bcq(name):
    PROPERTIES["bcq"][name]()
