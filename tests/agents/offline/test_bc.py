"""Behaviour cloning: every property of ``properties.py`` that concerns it."""

import pytest

from tests.agents.properties import PROPERTIES


@pytest.mark.parametrize("name", PROPERTIES["bc"])
def test_bc(name):
    PROPERTIES["bc"][name]()
