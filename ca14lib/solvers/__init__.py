"""Exact answers for finite problems: the yardsticks that every agent is held against."""

from ca14lib.solvers.dynamic_programming import (
    Evaluation,
    Solution,
    occupancy_measure,
    policy_evaluation,
    policy_return,
    value_iteration,
)

__all__ = ["Evaluation", "Solution", "occupancy_measure", "policy_evaluation", "policy_return", "value_iteration"]
