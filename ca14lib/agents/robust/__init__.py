"""Agents for problems that are not quite the one that was trained on. Book: robust/index."""

from ca14lib.agents.robust.adversarial_ppo import (
    AdversarialPPO,
    AdversarialPPOConfig,
)
from ca14lib.agents.robust.atla import (
    ObservationAdversary,
    ObservationAdversaryConfig,
)
from ca14lib.agents.robust.attacks import (
    Attack,
    MixedAttack,
)
from ca14lib.agents.robust.bootstrapped_dqn import (
    BootstrappedDQN,
    BootstrappedDQNConfig,
)
from ca14lib.agents.robust.c51 import (
    C51,
    C51Config,
)
from ca14lib.agents.robust.certified import (
    CertifiedPolicy,
    certified_return,
)
from ca14lib.agents.robust.domain_posterior import DomainPosterior
from ca14lib.agents.robust.dynamics_posterior import (
    CandidateModels,
    LinearDynamics,
    LinearDynamicsConfig,
)
from ca14lib.agents.robust.iqn import (
    IQN,
    IQNConfig,
)
from ca14lib.agents.robust.planner import (
    Planner,
    PlannerConfig,
)
from ca14lib.agents.robust.psrl import (
    PSRL,
    PSRLConfig,
)
from ca14lib.agents.robust.qr_dqn import (
    QRDQN,
    QRDQNConfig,
    quantile_huber_loss,
)
from ca14lib.agents.robust.rarl import (
    DisturbanceAdversary,
    DisturbanceAdversaryConfig,
)
from ca14lib.agents.robust.risk_choice import (
    DistributionalAgent,
    DistributionalConfig,
    RiskChoice,
)
from ca14lib.agents.robust.tabular_baselines import (
    UCBVI,
    PosteriorMean,
    PosteriorMeanConfig,
    QLearning,
    QLearningConfig,
    UCBVIConfig,
)

__all__ = [
    "AdversarialPPO",
    "AdversarialPPOConfig",
    "Attack",
    "BootstrappedDQN",
    "BootstrappedDQNConfig",
    "C51",
    "C51Config",
    "CandidateModels",
    "CertifiedPolicy",
    "DistributionalAgent",
    "DistributionalConfig",
    "DisturbanceAdversary",
    "DisturbanceAdversaryConfig",
    "DomainPosterior",
    "IQN",
    "IQNConfig",
    "LinearDynamics",
    "LinearDynamicsConfig",
    "MixedAttack",
    "ObservationAdversary",
    "ObservationAdversaryConfig",
    "PSRL",
    "PSRLConfig",
    "Planner",
    "PlannerConfig",
    "PosteriorMean",
    "PosteriorMeanConfig",
    "QLearning",
    "QLearningConfig",
    "QRDQN",
    "QRDQNConfig",
    "RiskChoice",
    "UCBVI",
    "UCBVIConfig",
    "certified_return",
    "quantile_huber_loss",
]
