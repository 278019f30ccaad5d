"""Exact answers for finite problems: the yardsticks that every agent is held against."""

from ca14lib.solvers.dynamic_programming import (
    Evaluation,
    Solution,
    occupancy_measure,
    policy_evaluation,
    policy_return,
    value_iteration,
)
from ca14lib.solvers.pessimism import PessimisticPlan, pessimistic_plan

__all__ = [
    "Evaluation",
    "PessimisticPlan",
    "Solution",
    "occupancy_measure",
    "pessimistic_plan",
    "policy_evaluation",
    "policy_return",
    "value_iteration",
]
