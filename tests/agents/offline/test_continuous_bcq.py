"""BCQ, continuous actions: every property of ``continuous_properties.py`` that concerns it."""

import pytest

from tests.agents.offline.continuous_properties import PROPERTIES


@pytest.mark.parametrize("name", PROPERTIES["bcq"])
def test_continuous_bcq(name):
    PROPERTIES["bcq"][name]()
