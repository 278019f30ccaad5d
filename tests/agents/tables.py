"""Every table of properties with the table of faults that shows that they can fail."""

from typing import NamedTuple

from tests.agents import properties_continuous, properties_continuous_awr_bcq, properties_discrete, properties_on_policy
from tests.agents.offline import faults_continuous, faults_continuous_awr_bcq, faults_discrete
from tests.agents.offline.planting import Fault
from tests.agents.properties import Properties
from tests.agents.safe import faults_safe


class Table(NamedTuple):
    actions: str  # discrete, continuous, or on-policy for both
    properties: Properties
    faults: dict[str, Fault]


TABLES = (
    Table("discrete", properties_discrete.PROPERTIES, faults_discrete.FAULTS),
    Table("continuous", properties_continuous.PROPERTIES, faults_continuous.FAULTS),
    Table("continuous", properties_continuous_awr_bcq.PROPERTIES, faults_continuous_awr_bcq.FAULTS),
    Table("on-policy", properties_on_policy.PROPERTIES, faults_safe.FAULTS),
)

# What pytest calls a planted fault: by its name, which pages of the book quote; agents with continuous actions have
# faults of the same names.
FAULT_IDS = {
    (f"continuous-{name}" if table.actions == "continuous" else name): (table, fault)
    for table in TABLES
    for name, fault in table.faults.items()
}
