"""Conservative Q-learning, discrete actions (Kumar et al., 2020, the variant CQL(H)). Book: offline/cql."""

import math
from dataclasses import dataclass

from torch import Tensor

from ca14lib.agents.base import require
from ca14lib.agents.dqn import DQN, DQNConfig, td_loss
from ca14lib.data import Transitions


@dataclass(frozen=True)
class DiscreteCQLConfig(DQNConfig):
    conservative_weight: float = 1.0  # α, eq. cql-loss; 0 is DQN

    def __post_init__(self) -> None:
        super().__post_init__()
        finite = 0 <= self.conservative_weight < math.inf
        require(finite, "conservative_weight", self.conservative_weight, "finite and >= 0")


def conservative_penalty(q: Tensor, action: Tensor) -> Tensor:
    r"""Mean of :math:`\log\sum_a \exp Q(s,a) - Q(s, a_{\text{data}})` over the batch (book eq. cql-penalty).

    It is the negative log-likelihood of the data's actions under the policy softmax(Q), hence never negative.

    Args:
        q: ``[B, A]``, values of all actions.
        action: ``[B]`` int64, the data's actions.
    Returns:
        Scalar.
    """
    return (q.logsumexp(dim=1) - q.gather(1, action.unsqueeze(1)).squeeze(1)).mean()


class DiscreteCQL(DQN):
    """Double DQN whose loss also pushes Q down everywhere and up on the data's actions (book eq. cql-loss)."""

    config_class = DiscreteCQLConfig
    config: DiscreteCQLConfig

    def _loss(self, batch: Transitions, q_all: Tensor, q: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        penalty = conservative_penalty(q_all, batch.action)
        return td_loss(q, target) + self.config.conservative_weight * penalty, {"penalty": penalty.detach()}
