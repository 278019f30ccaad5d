"""Multi-agent reinforcement learning: teams that learn together, apart or in contest. Book: multi_agent/index."""

from ca14lib.agents.multi_agent.base import Drawn, MultiAgent, TeamConfig, team_normalizer
from ca14lib.agents.multi_agent.coma import COMA, COMAConfig
from ca14lib.agents.multi_agent.commnet import CommNet, CommNetConfig
from ca14lib.agents.multi_agent.dial import DIAL, DIALConfig
from ca14lib.agents.multi_agent.ippo import IPPO, IPPOConfig
from ca14lib.agents.multi_agent.iq_learners import IQLearners, IQLearnersConfig
from ca14lib.agents.multi_agent.maac import MAAC, MAACConfig
from ca14lib.agents.multi_agent.maddpg import MADDPG, MADDPGConfig
from ca14lib.agents.multi_agent.mappo import MAPPO, MAPPOConfig
from ca14lib.agents.multi_agent.opponent_model import BestResponder, OpponentModel, OpponentModelConfig
from ca14lib.agents.multi_agent.parallel_q import ParallelQMIX, ParallelQMIXConfig, ParallelVDN, ParallelVDNConfig
from ca14lib.agents.multi_agent.qmix import QMIX, QMIXConfig
from ca14lib.agents.multi_agent.tarmac import TarMAC, TarMACConfig
from ca14lib.agents.multi_agent.vdn import VDN, VDNConfig

__all__ = [
    "COMA",
    "DIAL",
    "IPPO",
    "MAAC",
    "MADDPG",
    "MAPPO",
    "QMIX",
    "VDN",
    "BestResponder",
    "COMAConfig",
    "CommNet",
    "CommNetConfig",
    "DIALConfig",
    "Drawn",
    "IPPOConfig",
    "IQLearners",
    "IQLearnersConfig",
    "MAACConfig",
    "MADDPGConfig",
    "MAPPOConfig",
    "MultiAgent",
    "OpponentModel",
    "OpponentModelConfig",
    "ParallelQMIX",
    "ParallelQMIXConfig",
    "ParallelVDN",
    "ParallelVDNConfig",
    "QMIXConfig",
    "TarMAC",
    "TarMACConfig",
    "TeamConfig",
    "VDNConfig",
    "team_normalizer",
]
