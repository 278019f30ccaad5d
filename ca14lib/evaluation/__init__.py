"""Whatever runs or fits something to judge an agent."""

from ca14lib.evaluation.exact import ExactEvaluation, value_error

__all__ = ["ExactEvaluation", "value_error"]
