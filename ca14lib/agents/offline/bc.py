"""Behaviour cloning for discrete and continuous actions (Pomerleau, 1989). Book: offline/bc."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from ca14lib.agents.base import AgentConfig, ContinuousAgent, DiscreteAgent, gradient_step
from ca14lib.data import Transitions
from ca14lib.networks import DeterministicPolicy, mlp


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


def cloning_loss(action: Tensor, data_action: Tensor) -> Tensor:
    """Mean squared distance over batch and dimensions (book eq. bc-mse).

    Args:
        action: ``[B, D]``, the policy's.
        data_action: ``[B, D]``.
    Returns:
        Scalar.
    """
    return (action - data_action).square().mean()


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
        gradient_step(self.optimizer, loss)
        return {"loss": loss.detach()}

    def _scores(self, observation: Tensor) -> Tensor:
        return self.policy(self._input(observation))


@dataclass(frozen=True)
class BCConfig(AgentConfig):
    """Nothing beyond the common fields; the discount is not used."""


class BC(ContinuousAgent):
    """Least squares on the data's actions: the mean of what the behaviour does, which it may never do itself."""

    config_class = BCConfig
    config: BCConfig
    learns_values = False

    def _build(self) -> None:
        self.policy = DeterministicPolicy(self.flat_space, self.action_dimension, self.config.hidden_sizes)
        self.optimizer = self._optimizer("policy", self.policy)

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        loss = cloning_loss(self.policy(self._input(batch.observation)), self._unit(batch.action))
        gradient_step(self.optimizer, loss)
        return {"loss": loss.detach()}

    def _unit_action(self, observation: Tensor, deterministic: bool) -> Tensor:
        """The policy's action; it has no randomness of its own."""
        return self.policy(self._input(observation))
