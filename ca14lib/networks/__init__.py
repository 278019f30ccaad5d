"""Network builders shared by all agents."""

from ca14lib.networks.agent_networks import AgentGRU, AgentLinear, TeamNetwork
from ca14lib.networks.attention import AgentAttention, AttentionCritic
from ca14lib.networks.critics import TwinCritic, frozen, joint_space
from ca14lib.networks.mixers import MonotonicMixer, SumMixer, joint_actions
from ca14lib.networks.mlp import OneHotLinear, mlp, polyak_update
from ca14lib.networks.policies import (
    DeterministicPolicy,
    GaussianPolicy,
    SquashedGaussianPolicy,
    draw_squashed,
    gaussian_log_density,
    log_tanh_slope,
)
from ca14lib.networks.stochastic import CategoricalPolicy, DiagonalGaussianPolicy, StochasticPolicy

__all__ = [
    "AgentAttention",
    "AgentGRU",
    "AgentLinear",
    "AttentionCritic",
    "CategoricalPolicy",
    "DeterministicPolicy",
    "DiagonalGaussianPolicy",
    "GaussianPolicy",
    "MonotonicMixer",
    "OneHotLinear",
    "SquashedGaussianPolicy",
    "StochasticPolicy",
    "SumMixer",
    "TeamNetwork",
    "TwinCritic",
    "draw_squashed",
    "frozen",
    "gaussian_log_density",
    "joint_actions",
    "joint_space",
    "log_tanh_slope",
    "mlp",
    "polyak_update",
]
