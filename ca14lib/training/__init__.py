"""Collecting data, training loops, history, sweeps."""

from ca14lib.training.adversarial import (
    train_atla,
    train_observation_adversary,
    train_rarl,
    train_under_attack,
)
from ca14lib.training.collect import collect
from ca14lib.training.history import History
from ca14lib.training.multi_agent import TeamCollector, train_multi_agent
from ca14lib.training.off_policy import train_off_policy
from ca14lib.training.offline import train_offline
from ca14lib.training.on_policy import train_on_policy
from ca14lib.training.planning import (
    exact_returns,
    train_planner,
)
from ca14lib.training.population import Population, PopulationConfig, Range, train_population
from ca14lib.training.self_play import OpponentPool, StrategyAverage, policy_strategies, train_self_play
from ca14lib.training.sweep import sweep
from ca14lib.training.vector import vector_environment

__all__ = [
    "History",
    "OpponentPool",
    "Population",
    "PopulationConfig",
    "Range",
    "StrategyAverage",
    "TeamCollector",
    "collect",
    "exact_returns",
    "policy_strategies",
    "sweep",
    "train_atla",
    "train_multi_agent",
    "train_observation_adversary",
    "train_off_policy",
    "train_offline",
    "train_on_policy",
    "train_planner",
    "train_population",
    "train_rarl",
    "train_self_play",
    "train_under_attack",
    "vector_environment",
]
