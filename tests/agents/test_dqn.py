"""Double DQN: every property of ``properties.py`` that concerns it."""

import pytest

from tests.agents.properties import PROPERTIES


@pytest.mark.parametrize("name", PROPERTIES["dqn"])
def test_dqn(name):
    PROPERTIES["dqn"][name]()
