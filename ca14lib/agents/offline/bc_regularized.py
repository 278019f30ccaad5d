"""Value maximisation with a behaviour-cloning term, discrete actions. Book: offline/td3bc.

The discrete relative of TD3+BC (Fujimoto and Gu, 2021): with finitely many actions the expected value of the policy is
a sum, so nothing has to be sampled and no action has to be perturbed.
"""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ca14lib.agents.base import AgentConfig, ValueAgent, gradient_step, require
from ca14lib.agents.dqn import td_loss, td_target
from ca14lib.agents.offline.bc import negative_log_likelihood
from ca14lib.data import Transitions
from ca14lib.networks import mlp, polyak_update


@dataclass(frozen=True)
class DiscreteBCRegularizedConfig(AgentConfig):
    behaviour_weight: float = 1.0  # w_β, eq. bc-regularized-policy, in units of value: 0 trusts Q alone
    target_rate: float = 0.005  # η, eq. polyak

    def __post_init__(self) -> None:
        super().__post_init__()
        finite = 0 <= self.behaviour_weight < math.inf
        require(finite, "behaviour_weight", self.behaviour_weight, "finite and >= 0")
        require(0 < self.target_rate <= 1, "target_rate", self.target_rate, "in (0, 1]")


def expected_value(logits: Tensor, q: Tensor, mask: Tensor | None = None) -> Tensor:
    r"""Value of the policy, :math:`\sum_a \pi(a|s)\, Q(s,a)` (book eq. bc-regularized-target).

    Args:
        logits: ``[B, A]``, those of the policy.
        q: ``[B, A]``.
        mask: ``[B, A]``, true where an action is allowed, or None; a row that allows none has no meaning.
    Returns:
        ``[B]``.
    """
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    return (logits.softmax(dim=1) * q).sum(dim=1)


def regularized_policy_loss(logits: Tensor, q: Tensor, action: Tensor, behaviour_weight: float) -> Tensor:
    r"""Mean of :math:`-\sum_{a'} \pi(a'|s)\, Q(s,a') - w_\beta \log \pi(a|s)` (book eq. bc-regularized-policy).

    Args:
        logits: ``[B, A]``, those of the policy.
        q: ``[B, A]``, must carry no gradient.
        action: ``[B]`` int64, the data's actions.
        behaviour_weight: :math:`w_\beta \ge 0`.
    Returns:
        Scalar.
    """
    return behaviour_weight * negative_log_likelihood(logits, action) - expected_value(logits, q).mean()


class DiscreteBCRegularized(ValueAgent):
    """Actor-critic whose policy maximises Q and the likelihood of the data's actions together."""

    config_class = DiscreteBCRegularizedConfig
    config: DiscreteBCRegularizedConfig

    def _build(self) -> None:
        space, actions, hidden = self.observation_space, self.num_actions, self.config.hidden_sizes
        self.q_network = mlp(space, actions, hidden)
        self.target_network = copy.deepcopy(self.q_network).requires_grad_(False)
        self.policy = mlp(space, actions, hidden)
        self.optimizer = self._optimizer("networks", self.q_network, self.policy)

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        observation, target = self._input(batch.observation), self._target(batch)
        q_all = self.q_network(observation)
        q = q_all.gather(1, batch.action.unsqueeze(1)).squeeze(1)
        critic_loss = td_loss(q, target)
        policy_loss = regularized_policy_loss(
            self.policy(observation), q_all.detach(), batch.action, self.config.behaviour_weight
        )
        gradient_step(self.optimizer, critic_loss + policy_loss)  # of separate parameters: one step of each
        polyak_update(self.target_network, self.q_network, self.config.target_rate)
        return {"critic_loss": critic_loss.detach(), "policy_loss": policy_loss.detach(), "q": q.detach().mean()}

    @torch.no_grad()
    def _target(self, batch: Transitions) -> Tensor:
        """r + γ Σ π(a′|s′) Q̄(s′, a′) (eq. bc-regularized-target)."""
        following = self._input(batch.next_observation)
        next_value = expected_value(self.policy(following), self.target_network(following), batch.next_action_mask)
        return td_target(batch.reward, batch.terminated, next_value, self.config.discount)

    def _scores(self, observation: Tensor) -> Tensor:
        return self.policy(self._input(observation))

    def _q_values(self, observation: Tensor) -> Tensor:
        return self.q_network(self._input(observation))
