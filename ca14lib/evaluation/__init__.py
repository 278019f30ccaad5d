"""Whatever runs or fits something to judge an agent."""

from ca14lib.evaluation.attacks import (
    AttackedAgent,
    AttackSuite,
    cart_pole_certified_returns,
)
from ca14lib.evaluation.constrained import ConstrainedEvaluation, average_iterates, whole_cycles
from ca14lib.evaluation.evaluator import DIMENSIONS, WEIGHTS, Dimension, Evaluation, Evaluator
from ca14lib.evaluation.exact import ExactEvaluation, value_error
from ca14lib.evaluation.off_policy import (
    Estimate,
    FittedQConfig,
    doubly_robust,
    fitted_q_evaluation,
    importance_sampling,
)
from ca14lib.evaluation.rollouts import RolloutEvaluation
from ca14lib.evaluation.suites import Suite, TestEnvironment
from ca14lib.evaluation.teams import TeamEvaluation, TeamPolicy
from ca14lib.evaluation.uncertain_grid import (
    UncertainGridEvaluation,
)

__all__ = [
    "AttackSuite",
    "AttackedAgent",
    "ConstrainedEvaluation",
    "DIMENSIONS",
    "Dimension",
    "Estimate",
    "Evaluation",
    "Evaluator",
    "ExactEvaluation",
    "FittedQConfig",
    "RolloutEvaluation",
    "Suite",
    "TeamEvaluation",
    "TeamPolicy",
    "TestEnvironment",
    "UncertainGridEvaluation",
    "WEIGHTS",
    "average_iterates",
    "cart_pole_certified_returns",
    "doubly_robust",
    "fitted_q_evaluation",
    "importance_sampling",
    "value_error",
    "whole_cycles",
]
