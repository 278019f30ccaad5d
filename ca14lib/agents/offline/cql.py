"""Conservative Q-learning for discrete and continuous actions (Kumar et al., 2020, the variant CQL(H)).

Book: offline/cql.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ca14lib.agents.base import gradient_step, require
from ca14lib.agents.dqn import DQN, DQNConfig, td_loss, td_target
from ca14lib.agents.sac import SAC, SACConfig, soft_value, temperature_loss
from ca14lib.data import Transitions
from ca14lib.networks import draw_squashed, frozen, polyak_update


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


@dataclass(frozen=True)
class CQLConfig(SACConfig):
    policy_learning_rate: float = 1e-4
    conservative_weight: float = 5.0  # α, eq. cql-continuous-penalty; its initial value with a Lagrange threshold
    sampled_actions: int = 10  # n: from each of the uniform distribution, π(s) and π(s′)
    lagrange_threshold: float | None = None  # R_0, eq. cql-lagrange; None keeps α fixed

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.policy_learning_rate < math.inf, "policy_learning_rate", self.policy_learning_rate, "positive")
        finite = 0 <= self.conservative_weight < math.inf
        require(finite, "conservative_weight", self.conservative_weight, "finite and >= 0")
        require(self.sampled_actions >= 1, "sampled_actions", self.sampled_actions, "at least 1")
        if self.lagrange_threshold is not None:
            finite = self.conservative_weight > 0 and math.isfinite(self.lagrange_threshold)
            require(finite, "lagrange_threshold", self.lagrange_threshold, "finite, with a conservative_weight above 0")


MAX_LAGRANGE_WEIGHT = 1e6


def continuous_conservative_penalty(sampled_q: Tensor, log_density: Tensor, data_q: Tensor) -> Tensor:
    r"""Mean of :math:`\log\int\exp Q(s,a)\,da - Q(s, a_{\text{data}})`, the integral by importance sampling.

    Book eq. cql-continuous-penalty.

    Args:
        sampled_q: ``[B, M]``, values at s of the M sampled actions.
        log_density: ``[B, M]``, log-density with which each was drawn; must carry no gradient.
        data_q: ``[B]``, values of the data's actions.
    Returns:
        Scalar. It may be negative: it is a difference of log-densities, not of probabilities.
    """
    samples = sampled_q.shape[1]
    return ((sampled_q - log_density).logsumexp(dim=1) - math.log(samples) - data_q).mean()


class CQL(SAC):
    """Actor-critic whose twin critics are pushed down on sampled actions and up on the data's.

    The backup has no entropy term; the policy is trained as in SAC, with a smaller learning rate.
    """

    config_class = CQLConfig
    config: CQLConfig

    def _build(self) -> None:
        super()._build()
        self.policy_optimizer = self._optimizer("policy", self.policy, learning_rate=self.config.policy_learning_rate)
        if self.config.lagrange_threshold is not None:
            self.log_weight = nn.Parameter(torch.tensor(self.config.conservative_weight).log())
            self.weight_optimizer = self._optimizer("weight", self.log_weight)

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        observation, following = self._input(batch.observation), self._input(batch.next_observation)
        here = self.policy.parameters_of(observation)  # serves the penalty and, with its gradient, the policy's loss
        with torch.no_grad():
            there = self.policy.parameters_of(following)
        logs = self._fit_critic_conservatively(observation, following, here, there, batch)
        action, log_prob = draw_squashed(*here, self.generator)
        with frozen(self.critic):
            value = soft_value(self.critic.least(observation, action), log_prob, self.log_temperature.detach().exp())
            policy_loss = -value.mean()
            gradient_step(self.policy_optimizer, policy_loss)
        gradient_step(self.temperature_optimizer, temperature_loss(self.log_temperature, log_prob, self.target_entropy))
        polyak_update(self.target_critic, self.critic, self.config.target_rate)
        return logs | {"policy_loss": policy_loss.detach(), "entropy": -log_prob.detach().mean()}

    def _fit_critic_conservatively(
        self, observation: Tensor, following: Tensor, here: tuple[Tensor, Tensor], there: tuple[Tensor, Tensor],
        batch: Transitions,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Both critics: Bellman error without entropy, and the penalty over 3n actions, all valued at s."""
        with torch.no_grad():
            next_action, _ = draw_squashed(*there, self.generator)
            next_value = self.target_critic.least(following, next_action)
            target = td_target(batch.reward, batch.terminated, next_value, self.config.discount)
            sampled, log_density = self._penalty_actions(here, there)
        # one pass values the sampled actions and the data's, which come last
        actions = torch.cat([sampled, self._unit(batch.action).unsqueeze(1)], dim=1)
        states = observation.unsqueeze(1).expand(-1, actions.shape[1], -1)
        pair = self.critic(states.flatten(0, 1), actions.flatten(0, 1))
        first, second = (q.view(len(batch), -1) for q in pair)
        penalties = [continuous_conservative_penalty(q[:, :-1], log_density, q[:, -1]) for q in (first, second)]
        bellman = td_loss(first[:, -1], target) + td_loss(second[:, -1], target)
        weight = self._weight(penalties)
        penalty = penalties[0] + penalties[1]
        gradient_step(self.critic_optimizer, bellman + weight * penalty)
        return {
            "critic_loss": bellman.detach(), "penalty": penalty.detach() / 2, "q": first[:, -1].detach().mean(),
            "weight": torch.as_tensor(weight, device=penalty.device),
        }  # fmt: skip

    def _penalty_actions(self, here: tuple[Tensor, Tensor], there: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """3n actions ``[B, 3n, D]`` for each state and the log-densities ``[B, 3n]`` with which they were drawn."""
        shape = (len(here[0]), self.config.sampled_actions, self.action_dimension)
        uniform = 2 * torch.rand(shape, generator=self.generator, device=self.device) - 1
        volume = torch.full(shape[:2], -self.action_dimension * math.log(2), device=self.device)

        def spread(part: Tensor) -> Tensor:
            return part.detach().unsqueeze(1).expand(shape)

        drawn = [draw_squashed(spread(mean), spread(log_std), self.generator) for mean, log_std in (here, there)]
        actions = torch.cat([uniform, *(action for action, _ in drawn)], dim=1)
        return actions, torch.cat([volume, *(log_density for _, log_density in drawn)], dim=1)

    def _weight(self, penalties: list[Tensor]) -> Tensor | float:
        """α: fixed, or after one step of dual ascent towards the threshold (eq. cql-lagrange)."""
        if self.config.lagrange_threshold is None:
            return self.config.conservative_weight
        excess = sum(penalty.detach() for penalty in penalties) / 2 - self.config.lagrange_threshold
        gradient_step(self.weight_optimizer, -self.log_weight.exp() * excess)
        # bound the parameter, not the loss: a bound in the loss has no gradient beyond it, and α would never come back
        with torch.no_grad():
            self.log_weight.clamp_(max=math.log(MAX_LAGRANGE_WEIGHT))
        return self.log_weight.detach().exp().clamp(max=MAX_LAGRANGE_WEIGHT)
