"""Every property of every agent, on the code as it is; ``offline/test_planted_faults.py`` shows that each can fail."""

import pytest

from tests.agents.tables import TABLES

CASES = {
    f"{table.actions}-{algorithm}-{name}": holds
    for table in TABLES
    for algorithm, properties in table.properties.items()
    for name, holds in properties.items()
}


@pytest.mark.parametrize("case", CASES)
def test_property_holds(case):
    CASES[case]()
