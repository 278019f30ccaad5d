"""Agents that combine the families. Book: evaluation/future."""

from ca14lib.agents.hybrid.cal_ql import DiscreteCalQL, DiscreteCalQLConfig, hand_over
from ca14lib.agents.hybrid.constrained_bcq import ConstrainedBCQ, ConstrainedBCQConfig
from ca14lib.agents.hybrid.continual import ContinualDQN, ContinualDQNConfig
from ca14lib.agents.hybrid.robust_lagrangian import RobustLagrangian, RobustLagrangianConfig

__all__ = [
    "ConstrainedBCQ",
    "ConstrainedBCQConfig",
    "ContinualDQN",
    "ContinualDQNConfig",
    "DiscreteCalQL",
    "DiscreteCalQLConfig",
    "RobustLagrangian",
    "RobustLagrangianConfig",
    "hand_over",
]
