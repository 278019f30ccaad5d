"""AWR, continuous actions: every property of ``continuous_properties.py`` that concerns it."""

import pytest

from tests.agents.offline.continuous_properties import PROPERTIES


@pytest.mark.parametrize("name", PROPERTIES["awr"])
def test_continuous_awr(name):
    PROPERTIES["awr"][name]()
