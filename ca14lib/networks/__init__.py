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
from ca14lib.networks.quantiles import (
    CosineEmbedding,
    ImplicitQuantileNetwork,
    atom_network,
    midpoint_fractions,
)
from ca14lib.networks.stochastic import CategoricalPolicy, DiagonalGaussianPolicy, StochasticPolicy
from ca14lib.networks.uncertainty import (
    DeepEnsemble,
    MCDropout,
    Prediction,
    categorical_uncertainty,
    gaussian_loss,
    lower_confidence_value,
    mixture_moments,
)

__all__ = [
    "AgentAttention",
    "AgentGRU",
    "AgentLinear",
    "AttentionCritic",
    "CategoricalPolicy",
    "CosineEmbedding",
    "DeepEnsemble",
    "DeterministicPolicy",
    "DiagonalGaussianPolicy",
    "GaussianPolicy",
    "ImplicitQuantileNetwork",
    "MCDropout",
    "MonotonicMixer",
    "OneHotLinear",
    "Prediction",
    "SquashedGaussianPolicy",
    "StochasticPolicy",
    "SumMixer",
    "TeamNetwork",
    "TwinCritic",
    "atom_network",
    "categorical_uncertainty",
    "draw_squashed",
    "frozen",
    "gaussian_log_density",
    "gaussian_loss",
    "joint_actions",
    "joint_space",
    "log_tanh_slope",
    "lower_confidence_value",
    "midpoint_fractions",
    "mixture_moments",
    "mlp",
    "polyak_update",
]
