"""The tests of the agents can fail: each planted fault breaks every property named for it.

The properties are those that ``tests/agents/test_properties.py`` runs on the healthy code.
"""

import collections
import functools
from pathlib import Path

import pytest

from tests.agents.properties import Property
from tests.agents.tables import FAULT_IDS, TABLES


@functools.cache
def passes_on_healthy_code(holds: Property) -> bool:
    holds()
    return True


@pytest.mark.parametrize("name", FAULT_IDS)
def test_planted_fault_is_caught(name, monkeypatch):
    table, fault = FAULT_IDS[name]
    checks = [table.properties[fault.algorithm][caught] for caught in fault.caught_by]
    assert checks, "a fault names at least one property"
    assert all(passes_on_healthy_code(holds) for holds in checks)
    fault.plant(monkeypatch)
    for holds in checks:
        with pytest.raises(AssertionError):
            holds()


@pytest.mark.parametrize("table", TABLES, ids=lambda table: "-".join([table.actions, *table.properties]))
def test_every_algorithm_has_at_least_four_faults_and_no_property_is_idle(table):
    number = collections.Counter(fault.algorithm for fault in table.faults.values())
    assert all(number[algorithm] >= 4 for algorithm in table.properties)
    failed = {name for fault in table.faults.values() for name in fault.caught_by}
    idle = {name for properties in table.properties.values() for name in properties} - failed
    assert not idle, f"no planted fault shows that these can fail: {idle}"


def test_every_table_is_run():
    tests = Path(__file__).parents[1]
    faults = [path for folder in ("offline", "safe") for path in (tests / folder).glob("faults_*.py")]
    assert len(TABLES) == len(faults) == len([*tests.glob("properties_*.py")])  # the robust agents' tests run theirs
    assert len(FAULT_IDS) == sum(len(table.faults) for table in TABLES), "two faults share an id"
