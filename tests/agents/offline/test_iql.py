"""Implicit Q-learning: every property of ``properties.py`` that concerns it."""

import pytest

from tests.agents.properties import PROPERTIES


@pytest.mark.parametrize("name", PROPERTIES["iql"])
def test_iql(name):
    PROPERTIES["iql"][name]()
