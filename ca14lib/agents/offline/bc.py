"""Behaviour cloning, discrete actions (Pomerleau, 1989). Book: offline/bc."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from ca14lib.agents.base import AgentConfig, DiscreteAgent
from ca14lib.data import Transitions
from ca14lib.networks import mlp


@dataclass(frozen=True)
class DiscreteBCConfig(AgentConfig):
    """Nothing beyond the common fields; the discount is not used."""


def negative_log_likelihood(logits: Tensor, action: Tensor) -> Tensor:
    r"""Mean of :math:`-\log \pi(a|s)` over the batch (book eq. bc-loss).

    Args:
        logits: ``[B, A]``, unnormalised log-probabilities.
        action: ``[B]`` int64, the data's actions.
    Returns:
        Scalar.
    """
    return functional.cross_entropy(logits, action)


class DiscreteBC(DiscreteAgent):
    """Maximum likelihood of the data's actions: imitates the behaviour, good and bad alike."""

    config_class = DiscreteBCConfig
    config: DiscreteBCConfig

    def _build(self) -> None:
        self.policy = mlp(self.observation_space, self.num_actions, self.config.hidden_sizes)
        self.optimizer = self._optimizer("policy", self.policy)

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        logits = self.policy(self._input(batch.observation))
        loss = negative_log_likelihood(logits, batch.action)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return {"loss": loss.detach()}

    def _scores(self, observation: Tensor) -> Tensor:
        return self.policy(self._input(observation))
