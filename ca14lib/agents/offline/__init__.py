"""Offline agents, one file per algorithm; `Discrete…` for discrete actions, the others for continuous ones."""

from ca14lib.agents.offline.awr import AWR, AWRConfig, DiscreteAWR, DiscreteAWRConfig
from ca14lib.agents.offline.bc import BC, BCConfig, DiscreteBC, DiscreteBCConfig
from ca14lib.agents.offline.bc_regularized import DiscreteBCRegularized, DiscreteBCRegularizedConfig
from ca14lib.agents.offline.bcq import BCQ, BCQConfig, DiscreteBCQ, DiscreteBCQConfig
from ca14lib.agents.offline.cql import CQL, CQLConfig, DiscreteCQL, DiscreteCQLConfig
from ca14lib.agents.offline.iql import IQL, DiscreteIQL, DiscreteIQLConfig, IQLConfig
from ca14lib.agents.offline.td3bc import TD3BC, TD3BCConfig

__all__ = [
    "AWR",
    "BC",
    "BCQ",
    "CQL",
    "IQL",
    "TD3BC",
    "AWRConfig",
    "BCConfig",
    "BCQConfig",
    "CQLConfig",
    "DiscreteAWR",
    "DiscreteAWRConfig",
    "DiscreteBC",
    "DiscreteBCConfig",
    "DiscreteBCQ",
    "DiscreteBCQConfig",
    "DiscreteBCRegularized",
    "DiscreteBCRegularizedConfig",
    "DiscreteCQL",
    "DiscreteCQLConfig",
    "DiscreteIQL",
    "DiscreteIQLConfig",
    "IQLConfig",
    "TD3BCConfig",
]
