"""Agents, one file per algorithm; those of one section are in the sub-package of its name."""

import dataclasses
from pathlib import Path

import torch

from ca14lib.agents.base import Agent, AgentConfig, ContinuousAgent, DiscreteAgent, ValueAgent, space_from_json
from ca14lib.agents.check import check_agent
from ca14lib.agents.checkpoint import read_checkpoint
from ca14lib.agents.dqn import DQN, DQNConfig
from ca14lib.agents.hybrid import ConstrainedBCQ, ContinualDQN, DiscreteCalQL, RobustLagrangian
from ca14lib.agents.multi_agent import (
    COMA,
    DIAL,
    IPPO,
    MAAC,
    MADDPG,
    MAPPO,
    QMIX,
    VDN,
    CommNet,
    IQLearners,
    MultiAgent,
    ParallelQMIX,
    ParallelVDN,
    TarMAC,
)
from ca14lib.agents.offline import (
    AWR,
    BC,
    BCQ,
    CQL,
    IQL,
    TD3BC,
    DiscreteAWR,
    DiscreteBC,
    DiscreteBCQ,
    DiscreteBCRegularized,
    DiscreteCQL,
    DiscreteIQL,
)
from ca14lib.agents.on_policy import OnPolicyAgent, OnPolicyConfig
from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.agents.robust import C51, IQN, QRDQN, AdversarialPPO, BootstrappedDQN
from ca14lib.agents.sac import SAC, SACConfig
from ca14lib.agents.safe import (
    CPO,
    CVaRPolicyGradient,
    FixedPenalty,
    PIDLagrangian,
    PPOLagrangian,
    RiskSensitivePolicyGradient,
    SafePolicyGradient,
)
from ca14lib.data import Normalizer

__all__ = [
    "AGENTS",
    "TEAMS",
    "DQN",
    "PPO",
    "SAC",
    "Agent",
    "AgentConfig",
    "ContinuousAgent",
    "DQNConfig",
    "DiscreteAgent",
    "MultiAgent",
    "OnPolicyAgent",
    "OnPolicyConfig",
    "PPOConfig",
    "SACConfig",
    "ValueAgent",
    "agent_class",
    "check_agent",
    "load_agent",
]

AGENTS: dict[str, type[Agent]] = {
    cls.__name__: cls
    for cls in (
        DQN, DiscreteBC, DiscreteBCRegularized, DiscreteAWR, DiscreteBCQ, DiscreteCQL, DiscreteIQL,
        SAC, BC, AWR, BCQ, CQL, IQL, TD3BC,
        PPO, PPOLagrangian, PIDLagrangian, FixedPenalty, CPO,
        SafePolicyGradient, CVaRPolicyGradient, RiskSensitivePolicyGradient,
        QRDQN, IQN, C51, BootstrappedDQN, AdversarialPPO,
        ConstrainedBCQ, DiscreteCalQL, RobustLagrangian, ContinualDQN,
    )
}  # fmt: skip

TEAMS: dict[str, type[MultiAgent]] = {
    cls.__name__: cls
    for cls in (
        IQLearners, VDN, QMIX, ParallelVDN, ParallelQMIX, IPPO, MAPPO, MADDPG, MAAC, COMA, CommNet, TarMAC, DIAL,
    )
}  # fmt: skip


def agent_class(name: str) -> type[Agent]:
    """The class of an agent or team by its name, such as ``"DiscreteIQL"`` or ``"MAPPO"``.

    Raises:
        ValueError: Listing the names there are, if there is no such agent.
    """
    known: dict[str, type[Agent]] = AGENTS | TEAMS
    if name not in known:
        raise ValueError(f"unknown agent {name!r}; there are {', '.join(known)}")
    return known[name]


def load_agent(path: str | Path, device: str | torch.device = "cpu") -> Agent:
    """Build the agent that a checkpoint holds.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or no checkpoint of an agent of this course.
    """
    tensors, metadata = read_checkpoint(path)
    if "agent" not in metadata:
        raise ValueError(f"{path} holds no agent")
    cls = agent_class(metadata["agent"])
    space = space_from_json(metadata["observation_space"])
    normalizer = None
    if metadata["normalizer"]:
        zeros = torch.zeros(space.shape or ())
        normalizer = Normalizer(zeros, zeros)  # its numbers come with the tensors
    known = {item.name for item in dataclasses.fields(cls.config_class)}
    strange = sorted(metadata["config"].keys() - known)
    if strange:
        raise ValueError(f"{path} was made with settings that {cls.__name__} does not have here: {', '.join(strange)}")
    agent = cls(
        space,
        space_from_json(metadata["action_space"]),
        cls.config_class(**metadata["config"]),
        normalizer=normalizer,
        device=device,
        **cls.arguments_from(metadata),
    )
    agent.restore(tensors, metadata)
    return agent
