"""Advantage-weighted regression, discrete actions: every property of ``properties.py`` that concerns it."""

import pytest

from tests.agents.properties import PROPERTIES


@pytest.mark.parametrize("name", PROPERTIES["awr"])
def test_awr(name):
    PROPERTIES["awr"][name]()
