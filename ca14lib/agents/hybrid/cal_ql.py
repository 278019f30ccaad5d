"""Calibrated Q-learning for discrete actions (Nakamoto et al., 2023), on top of CQL(H).

Book: evaluation/fine_tuning.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ca14lib.agents.base import gradient_step, require
from ca14lib.agents.dqn import DQN, td_loss
from ca14lib.agents.offline.awr import lambda_return
from ca14lib.agents.offline.cql import DiscreteCQL, DiscreteCQLConfig
from ca14lib.data import OfflineDataset, Transitions
from ca14lib.networks import mlp


@dataclass(frozen=True)
class DiscreteCalQLConfig(DiscreteCQLConfig):
    relabel_interval: int = 500  # updates between two computations of the log's returns

    def __post_init__(self) -> None:
        super().__post_init__()
        whole = isinstance(self.relabel_interval, int) and self.relabel_interval >= 1
        require(whole, "relabel_interval", self.relabel_interval, "an integer of at least 1")


def calibrated_penalty(q: Tensor, action: Tensor, reference: Tensor) -> Tensor:
    r"""Mean of :math:`\log\sum_a\exp\max(Q(s,a),\hat V_\beta(s)) - Q(s,a_{\text{data}})` (book eq. cal-ql-penalty).

    Where :math:`Q(s,a)` lies under the behaviour's value, the first term has no gradient: no action is pushed down
    further. With a reference of −∞ it is CQL's penalty (book eq. cql-penalty).

    Args:
        q: ``[B, A]``, values of all actions.
        action: ``[B]`` int64, the data's actions.
        reference: ``[B]``, :math:`\hat V_\beta`; must carry no gradient.
    Returns:
        Scalar.
    """
    lifted = torch.maximum(q, reference.unsqueeze(1))
    return (lifted.logsumexp(dim=1) - q.gather(1, action.unsqueeze(1)).squeeze(1)).mean()


class DiscreteCalQL(DiscreteCQL):
    r"""CQL that never pushes an action under what the log's own behaviour earns from there.

    :math:`\hat V_\beta` is a network fitted to the returns of the log (book eq. cal-ql-reference); batches without such
    labels (``value_target``), those of online learning, use it as it is.
    """

    config_class = DiscreteCalQLConfig
    config: DiscreteCalQLConfig

    def _build(self) -> None:
        super()._build()
        self.reference = mlp(self.observation_space, 1, self.config.hidden_sizes)
        self.reference_optimizer = self._optimizer("reference", self.reference)

    @property
    def relabel_every(self) -> int:
        return self.config.relabel_interval

    @torch.no_grad()
    def relabel(self, dataset: OfflineDataset) -> Tensor:
        """Discounted return of the log from every transition on; where a time limit cut it, the reference goes on."""
        data = dataset.transitions
        following = self._reference(data.next_observation)
        return lambda_return(data.reward, data.terminated, data.truncated, following, self.config.discount, 1.0)

    def _loss(self, batch: Transitions, q_all: Tensor, q: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """TD error and calibrated penalty (eq. cal-ql-loss); the reference takes its own step first."""
        if batch.value_target is not None:
            gradient_step(self.reference_optimizer, td_loss(self._reference(batch.observation), batch.value_target))
        reference = self._reference(batch.observation).detach()
        penalty = calibrated_penalty(q_all, batch.action, reference)
        logs = {"penalty": penalty.detach(), "reference": reference.mean()}
        return td_loss(q, target) + self.config.conservative_weight * penalty, logs

    def _reference(self, observation: Tensor) -> Tensor:
        return self.reference(self._input(observation)).squeeze(1)


def hand_over(source: DQN, target: DQN) -> None:
    """Give an agent the Q-network and the target network of another one, and nothing else.

    Optimisers, generator and configuration stay the target's: it is how one algorithm goes on with what another has
    learned.

    Args:
        source: A trained agent with a Q-network: DQN, CQL or Cal-QL.
        target: An agent of any of these classes for the same spaces, with the same normalizer; changed in place.
    Raises:
        ValueError: If spaces, normalizers or sizes of the networks differ; the target is then unchanged.
    """
    for name in ("observation_space", "action_space"):
        if getattr(source, name) != getattr(target, name):
            raise ValueError(f"the source's {name} is {getattr(source, name)}, the target's {getattr(target, name)}")
    first, second = (None if agent.normalizer is None else agent.normalizer.state_dict() for agent in (source, target))
    same = first is second or (first and second and all(torch.equal(first[name], second[name]) for name in first))
    if not same:
        raise ValueError("source and target must have the same normalizer: their networks see observations through it")
    if source.config.hidden_sizes != target.config.hidden_sizes:
        raise ValueError(
            f"the source's hidden_sizes are {source.config.hidden_sizes}, the target's {target.config.hidden_sizes}"
        )
    target.q_network.load_state_dict(source.q_network.state_dict())
    target.target_network.load_state_dict(source.target_network.state_dict())
