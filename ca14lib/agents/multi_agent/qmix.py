"""QMIX: a monotonic mixture of utilities (Rashid et al., 2018). Book: multi_agent/value_decomposition."""

from dataclasses import dataclass

from torch import nn

from ca14lib.agents.base import require
from ca14lib.agents.multi_agent.vdn import VDN, VDNConfig
from ca14lib.networks import MonotonicMixer


@dataclass(frozen=True)
class QMIXConfig(VDNConfig):
    embed_dim: int = 32  # width of the mixer's hidden layer, eq. qmix-mixer
    hypernet_hidden: int = 64  # width inside the networks that make its weights

    def __post_init__(self) -> None:
        super().__post_init__()
        require_mixer(self.embed_dim, self.hypernet_hidden)


def require_mixer(embed_dim: int, hypernet_hidden: int) -> None:
    """Raise a ValueError unless both widths are positive integers."""
    for name, width in (("embed_dim", embed_dim), ("hypernet_hidden", hypernet_hidden)):
        require(isinstance(width, int) and width >= 1, name, width, "a positive integer")


class QMIX(VDN):
    """VDN with a monotonic mixer that sees the state: the best action of each is still part of the best of all.

    The update is that of :class:`VDN`: utilities at a step are mixed in its state by the mixer that learns, those of
    the next greedy actions in the next state by the target mixer (book eq. qmix-loss). Whole episodes and hard
    target updates are as published, double estimators as in the published code; the optimiser is Adam, not RMSprop.
    """

    config_class = QMIXConfig
    config: QMIXConfig

    def _make_mixer(self) -> nn.Module:
        config = self.config
        return MonotonicMixer(self.num_agents, self.state_size, config.embed_dim, config.hypernet_hidden)
