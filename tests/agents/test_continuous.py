"""The agents with continuous actions: every property of ``properties_continuous.py``."""

import pytest

from tests.agents.properties_continuous import PROPERTIES

CASES = [(algorithm, name) for algorithm, checks in PROPERTIES.items() for name in checks]


@pytest.mark.parametrize("algorithm, name", CASES)
def test_continuous_agent(algorithm, name):
    PROPERTIES[algorithm][name]()
