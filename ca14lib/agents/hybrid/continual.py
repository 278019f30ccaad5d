"""Q-learning through a sequence of tasks: elastic weight consolidation and cloning of old values on replayed data.

Kirkpatrick et al. (2017) for the penalty, Rolnick et al. (2019) for replay with cloning. Book: evaluation/continual.
"""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parameters_to_vector

from ca14lib.agents.base import require
from ca14lib.agents.dqn import DQN, DQNConfig, td_loss
from ca14lib.data import Transitions


@dataclass(frozen=True)
class ContinualDQNConfig(DQNConfig):
    penalty_weight: float = 0.0  # λ_F, eq. continual-ewc: 0 is no penalty
    clone_weight: float = 0.0  # w_β, eq. continual-clone: 0 is no cloning

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("penalty_weight", "clone_weight"):
            value = getattr(self, name)
            require(0 <= value < math.inf, name, value, "finite and at least 0")


def diagonal_fisher(network: nn.Module, observation: Tensor, action: Tensor) -> Tensor:
    r"""How much the values of the data depend on every weight, ``[P]`` (book eq. continual-fisher).

    :math:`F_i=\mathbb E[(\partial Q_\theta(s,a)/\partial\theta_i)^2]`: the diagonal of the Fisher information of a
    normal distribution of variance 1 around the network's value.

    Args:
        network: Q-network, ``[B, …]`` to ``[B, A]``.
        observation: ``[B, …]``, as the network sees them.
        action: ``[B]`` int64.
    """
    weights = {name: parameter.detach() for name, parameter in network.named_parameters()}
    chosen = nn.functional.one_hot(action, network(observation[:1]).shape[1])

    def value(weights: dict[str, Tensor], seen: Tensor, choice: Tensor) -> Tensor:
        return (functional_call(network, weights, (seen.unsqueeze(0),)).squeeze(0) * choice).sum()

    slopes = vmap(grad(value), in_dims=(None, 0, 0))(weights, observation, chosen)
    return torch.cat([slope.square().mean(dim=0).flatten() for slope in slopes.values()])


def elastic_penalty(weights: Tensor, anchor: Tensor, importance: Tensor) -> Tensor:
    r"""Half the weighted squared distance from old weights, :math:`\frac12\sum_iF_i(\theta_i-\theta^*_i)^2`.

    Book eq. continual-ewc.

    Args:
        weights: :math:`\theta`, ``[P]``.
        anchor: :math:`\theta^*`, ``[P]``.
        importance: :math:`F`, ``[P]``, at least 0.
    Returns:
        Scalar.
    """
    return 0.5 * (importance * (weights - anchor).square()).sum()


def merged_penalty(anchor: Tensor, importance: Tensor, new_anchor: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    r"""One anchor and importance whose penalty is the sum of two, up to a constant (book eq. continual-merge).

    Args:
        anchor: :math:`\theta^*`, ``[P]``.
        importance: :math:`F`, ``[P]``.
        new_anchor: Weights after a further task, ``[P]``.
        new: Their importance, ``[P]``.
    Returns:
        Anchor, the mean weighted by importance, and importance, the sum. Where both are 0, the new weights stand.
    """
    total = importance + new
    mean = (importance * anchor + new * new_anchor) / torch.where(total > 0, total, 1.0)
    return torch.where(total > 0, mean, new_anchor), total


def clone_loss(q: Tensor, old_q: Tensor, replayed: Tensor) -> Tensor:
    r"""Half the mean squared change of all values on replayed rows (book eq. continual-clone); 0 if there are none.

    Args:
        q: ``[B, A]``.
        old_q: ``[B, A]``, of the network after the last task; must carry no gradient.
        replayed: ``[B]``, 1 where a row is replayed, else 0.
    Returns:
        Scalar.
    """
    change = 0.5 * (q - old_q).square().mean(dim=1)
    return (replayed * change).sum() / replayed.sum().clamp(min=1.0)


class ContinualDQN(DQN):
    """Double DQN with two ways to keep what earlier tasks have taught; with both weights 0 it is :class:`DQN`.

    :meth:`consolidate` tells it that a task is over. Rows of a batch that are replayed from earlier tasks have a
    ``value_target`` of 1, the others 0; a batch without the column has no replayed rows.
    """

    config_class = ContinualDQNConfig
    config: ContinualDQNConfig

    anchor: Tensor
    importance: Tensor

    def _build(self) -> None:
        super()._build()
        self.old_network = copy.deepcopy(self.q_network).requires_grad_(False)
        weights = parameters_to_vector(self.q_network.parameters()).detach()
        self.register_buffer("anchor", weights.clone())
        self.register_buffer("importance", torch.zeros_like(weights))

    def consolidate(self, batch: Transitions) -> None:
        """A task is over: remember the weights, how much its data depend on them, and the values.

        Args:
            batch: Transitions of this task alone.
        """
        fisher = diagonal_fisher(self.q_network, self._input(batch.observation), batch.action)
        weights = parameters_to_vector(self.q_network.parameters()).detach()
        anchor, importance = merged_penalty(self.anchor, self.importance, weights, fisher)
        self.anchor.copy_(anchor)
        self.importance.copy_(importance)
        self.old_network.load_state_dict(self.q_network.state_dict())

    def _loss(self, batch: Transitions, q_all: Tensor, q: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """TD error, elastic penalty and cloning (eq. continual-loss)."""
        loss, logs = td_loss(q, target), {}
        if self.config.penalty_weight:
            weights = parameters_to_vector(self.q_network.parameters())
            penalty = elastic_penalty(weights, self.anchor, self.importance)
            loss, logs = loss + self.config.penalty_weight * penalty, {"penalty": penalty.detach()}
        if self.config.clone_weight and batch.value_target is not None:
            with torch.no_grad():
                old = self.old_network(self._input(batch.observation))
            cloned = clone_loss(q_all, old, batch.value_target)
            loss, logs = loss + self.config.clone_weight * cloned, logs | {"clone_loss": cloned.detach()}
        return loss, logs
