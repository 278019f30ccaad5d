"""Safe reinforcement learning: agents that keep the expected cost of an episode within limits. Book: safe/index."""

from ca14lib.agents.safe.control_barrier import (
    BarrierReport,
    ControlBarrier,
    barrier_action,
    reactor_barrier,
    sampling_margin,
    verify_barrier_on_grid,
)
from ca14lib.agents.safe.cpo import CPO, CPOConfig
from ca14lib.agents.safe.cvar_policy_gradient import CVaRPolicyGradient, CVaRPolicyGradientConfig
from ca14lib.agents.safe.fixed_penalty import FixedPenalty, FixedPenaltyConfig
from ca14lib.agents.safe.learned_shield import CountShield, LearnedShield, LearnedShieldConfig
from ca14lib.agents.safe.log_barrier import log_barrier_weight
from ca14lib.agents.safe.pid_lagrangian import PIDLagrangian, PIDLagrangianConfig
from ca14lib.agents.safe.ppo_lagrangian import PPOLagrangian, PPOLagrangianConfig
from ca14lib.agents.safe.risk_sensitive import RiskSensitiveConfig, RiskSensitivePolicyGradient
from ca14lib.agents.safe.safe_policy_gradient import SafePolicyGradient, SafePolicyGradientConfig
from ca14lib.agents.safe.safety_layer import SafetyLayer, SafetyLayerConfig
from ca14lib.agents.safe.shield import BudgetShield, ModelShield

__all__ = [
    "CPO",
    "BarrierReport",
    "BudgetShield",
    "CPOConfig",
    "CVaRPolicyGradient",
    "CVaRPolicyGradientConfig",
    "ControlBarrier",
    "CountShield",
    "FixedPenalty",
    "FixedPenaltyConfig",
    "LearnedShield",
    "LearnedShieldConfig",
    "ModelShield",
    "PIDLagrangian",
    "PIDLagrangianConfig",
    "PPOLagrangian",
    "PPOLagrangianConfig",
    "RiskSensitiveConfig",
    "RiskSensitivePolicyGradient",
    "SafePolicyGradient",
    "SafePolicyGradientConfig",
    "SafetyLayer",
    "SafetyLayerConfig",
    "barrier_action",
    "log_barrier_weight",
    "reactor_barrier",
    "sampling_margin",
    "verify_barrier_on_grid",
]
