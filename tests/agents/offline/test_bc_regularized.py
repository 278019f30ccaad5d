"""Value maximisation with a cloning term, discrete actions: every property of ``properties.py`` that concerns it."""

import pytest

from tests.agents.properties import PROPERTIES


@pytest.mark.parametrize("name", PROPERTIES["regularized"])
def test_bc_regularized(name):
    PROPERTIES["regularized"][name]()
