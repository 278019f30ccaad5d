"""Deep Q-learning with the double estimator (Mnih et al., 2015; van Hasselt et al., 2016). Book: offline/dqn.

On a fixed dataset it is the course's naive baseline: nothing keeps it from trusting actions the data never show.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from ca14lib.agents.base import AgentConfig, ValueAgent, require
from ca14lib.data import Transitions
from ca14lib.networks import mlp, polyak_update


@dataclass(frozen=True)
class DQNConfig(AgentConfig):
    target_rate: float = 0.005  # η, eq. polyak
    exploration: float = 0.05  # ε: share of uniform actions when acting stochastically

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.target_rate <= 1, "target_rate", self.target_rate, "in (0, 1]")
        require(0 <= self.exploration <= 1, "exploration", self.exploration, "in [0, 1]")


def td_target(reward: Tensor, terminated: Tensor, next_value: Tensor, discount: float) -> Tensor:
    r"""One-step target :math:`r + \gamma (1 - \text{terminated})\, v'` (book eq. dqn-target).

    A truncated step is not terminated: its next value counts.

    Args:
        reward: ``[B]``.
        terminated: ``[B]`` bool.
        next_value: ``[B]``, value of the next observation.
        discount: :math:`\gamma` in (0, 1].
    Returns:
        ``[B]``.
    """
    return torch.where(terminated, reward, reward + discount * next_value)


def double_q_value(online_next_q: Tensor, target_next_q: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Value of the next observation: the online network picks the action, the target network rates it.

    Book eq. dqn-double-target: :math:`\bar Q(s', \arg\max_{a'} Q(s', a'))`.

    Args:
        online_next_q: ``[B, A]``.
        target_next_q: ``[B, A]``.
        mask: ``[B, A]``, true where an action is allowed, or None.
    Returns:
        ``[B]``.
    """
    if mask is not None:
        online_next_q = online_next_q.masked_fill(~mask, -torch.inf)
    return target_next_q.gather(1, online_next_q.argmax(dim=1, keepdim=True)).squeeze(1)


def td_loss(q: Tensor, target: Tensor) -> Tensor:
    """Half the mean squared temporal-difference error (book eq. dqn-loss).

    Args:
        q: ``[B]``, values of the actions taken.
        target: ``[B]``, must carry no gradient.
    Returns:
        Scalar.
    """
    return 0.5 * (q - target).square().mean()


class DQN(ValueAgent):
    """Double DQN with a Polyak-averaged target network."""

    config_class = DQNConfig
    config: DQNConfig

    def _build(self) -> None:
        self.q_network = mlp(self.observation_space, self.num_actions, self.config.hidden_sizes)
        self.target_network = copy.deepcopy(self.q_network).requires_grad_(False)
        self.optimizer = self._optimizer("q", self.q_network)

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        q_all = self.q_network(self._input(batch.observation))
        q = q_all.gather(1, batch.action.unsqueeze(1)).squeeze(1)
        loss, terms = self._loss(batch, q_all, q, self._target(batch))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        polyak_update(self.target_network, self.q_network, self.config.target_rate)
        return {"loss": loss.detach(), "q": q.detach().mean(), **terms}

    def _loss(self, batch: Transitions, q_all: Tensor, q: Tensor, target: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return td_loss(q, target), {}

    @torch.no_grad()
    def _target(self, batch: Transitions) -> Tensor:
        following = self._input(batch.next_observation)
        next_value = double_q_value(self.q_network(following), self.target_network(following), batch.next_action_mask)
        return td_target(batch.reward, batch.terminated, next_value, self.config.discount)

    def _q_values(self, observation: Tensor) -> Tensor:
        return self.q_network(self._input(observation))

    def _scores(self, observation: Tensor) -> Tensor:
        return self._q_values(observation)

    def _probabilities(self, scores: Tensor) -> Tensor:
        """ε-greedy: the best action, or with probability ε a uniform one among those allowed."""
        allowed = scores.isfinite().float()
        greedy = torch.nn.functional.one_hot(scores.argmax(dim=-1), self.num_actions)
        uniform = allowed / allowed.sum(dim=-1, keepdim=True)
        return (1 - self.config.exploration) * greedy + self.config.exploration * uniform
