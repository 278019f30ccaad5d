"""The tests of AWR and BCQ with continuous actions can fail: each planted fault breaks the properties named for it."""

import collections
import functools

import pytest

from tests.agents.offline.continuous_faults import FAULTS
from tests.agents.offline.continuous_properties import PROPERTIES


@functools.cache
def passes_on_healthy_code(algorithm: str, name: str) -> bool:
    PROPERTIES[algorithm][name]()
    return True


@pytest.mark.parametrize("name", FAULTS)
def test_planted_fault_is_caught(name, monkeypatch):
    fault = FAULTS[name]
    checks = PROPERTIES[fault.algorithm]
    assert all(passes_on_healthy_code(fault.algorithm, caught) for caught in fault.caught_by)
    fault.plant(monkeypatch)
    for caught in fault.caught_by:
        with pytest.raises(AssertionError):
            checks[caught]()


def test_every_algorithm_has_at_least_four_faults_and_no_property_is_idle():
    number = collections.Counter(fault.algorithm for fault in FAULTS.values())
    assert all(number[algorithm] >= 4 for algorithm in PROPERTIES)
    failed = {name for fault in FAULTS.values() for name in fault.caught_by}
    idle = {name for checks in PROPERTIES.values() for name in checks} - failed
    assert not idle, f"no planted fault shows that these can fail: {idle}"
