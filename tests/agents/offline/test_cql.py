"""Conservative Q-learning: every property of ``properties.py`` that concerns it."""

import pytest

from tests.agents.properties import PROPERTIES


@pytest.mark.parametrize("name", PROPERTIES["cql"])
def test_cql(name):
    PROPERTIES["cql"][name]()
