"""Offline agents for discrete actions, one file per algorithm."""

from ca14lib.agents.offline.bc import DiscreteBC, DiscreteBCConfig
from ca14lib.agents.offline.cql import DiscreteCQL, DiscreteCQLConfig
from ca14lib.agents.offline.iql import DiscreteIQL, DiscreteIQLConfig

__all__ = ["DiscreteBC", "DiscreteBCConfig", "DiscreteCQL", "DiscreteCQLConfig", "DiscreteIQL", "DiscreteIQLConfig"]
