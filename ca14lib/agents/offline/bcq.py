"""Batch-constrained Q-learning (Fujimoto et al., 2019a; for discrete actions 2019b). Book: offline/bcq."""

import copy
import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional

from ca14lib.agents.base import AgentConfig, ContinuousAgent, ValueAgent, gradient_step, require
from ca14lib.agents.dqn import double_q_value, td_loss, td_target
from ca14lib.agents.offline.bc import negative_log_likelihood
from ca14lib.data import Transitions
from ca14lib.networks import TwinCritic, frozen, joint_space, mlp, polyak_update


@dataclass(frozen=True)
class DiscreteBCQConfig(AgentConfig):
    threshold: float = 0.3  # ζ, eq. bcq-mask: 0 is double DQN, near 1 only the behaviour's favourite action is left
    logit_penalty: float = 1e-2  # weight of the squared logits, eq. bcq-behaviour
    target_rate: float = 0.005  # η, eq. polyak

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.threshold < 1, "threshold", self.threshold, "in [0, 1)")
        require(0 <= self.logit_penalty < math.inf, "logit_penalty", self.logit_penalty, "finite and >= 0")
        require(0 < self.target_rate <= 1, "target_rate", self.target_rate, "in (0, 1]")


def behaviour_loss(logits: Tensor, action: Tensor, logit_penalty: float) -> Tensor:
    r"""Likelihood of the data's actions, with logits kept small (book eq. bcq-behaviour).

    Mean of :math:`-\log G_\omega(a|s)` plus ``logit_penalty`` times the mean of all squared logits.

    Args:
        logits: ``[B, A]``, those of the behaviour network.
        action: ``[B]`` int64, the data's actions.
        logit_penalty: At least 0.
    Returns:
        Scalar.
    """
    return negative_log_likelihood(logits, action) + logit_penalty * logits.square().mean()


def supported_actions(logits: Tensor, threshold: float, mask: Tensor | None = None) -> Tensor:
    r"""Actions with :math:`G_\omega(a|s) / \max_b G_\omega(b|s) > \zeta` (book eq. bcq-mask).

    Args:
        logits: ``[B, A]``, those of the behaviour network.
        threshold: :math:`\zeta` in [0, 1).
        mask: ``[B, A]``, true where an action is allowed at all, or None; likelihoods are then compared among these.
    Returns:
        ``[B, A]`` bool; true at least once in every row that allows an action.
    """
    if mask is not None:
        logits = logits.masked_fill(~mask, -torch.inf)
    least = math.log(threshold) if threshold > 0 else -math.inf
    return logits - logits.amax(dim=1, keepdim=True) > least


def huber_loss(q: Tensor, target: Tensor) -> Tensor:
    r"""Mean of :math:`\delta^2/2` where the error is at most 1, of :math:`|\delta|-\tfrac12` beyond.

    Book eq. bcq-discrete-target.

    Args:
        q: ``[B]``, values of the actions taken.
        target: ``[B]``, must carry no gradient.
    Returns:
        Scalar.
    """
    return functional.smooth_l1_loss(q, target)


class DiscreteBCQ(ValueAgent):
    """Double Q-learning that chooses, in targets and when acting, only among actions likely under the behaviour.

    The policy is greedy: without exploration, a draw from it is its best action.
    """

    config_class = DiscreteBCQConfig
    config: DiscreteBCQConfig

    def _build(self) -> None:
        space, actions, hidden = self.observation_space, self.num_actions, self.config.hidden_sizes
        self.q_network = mlp(space, actions, hidden)
        self.target_network = copy.deepcopy(self.q_network).requires_grad_(False)
        self.behaviour = mlp(space, actions, hidden)
        self.optimizer = self._optimizer("networks", self.q_network, self.behaviour)

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        observation, target = self._input(batch.observation), self._target(batch)
        q = self.q_network(observation).gather(1, batch.action.unsqueeze(1)).squeeze(1)
        critic_loss = huber_loss(q, target)
        imitation_loss = behaviour_loss(self.behaviour(observation), batch.action, self.config.logit_penalty)
        gradient_step(self.optimizer, critic_loss + imitation_loss)  # of separate parameters: one step of each
        polyak_update(self.target_network, self.q_network, self.config.target_rate)
        return {
            "critic_loss": critic_loss.detach(),
            "behaviour_loss": imitation_loss.detach(),
            "q": q.detach().mean(),
        }

    @torch.no_grad()
    def _target(self, batch: Transitions) -> Tensor:
        """The online network picks the best supported action, the target network rates it (eq. bcq-discrete-target)."""
        following = self._input(batch.next_observation)
        supported = supported_actions(self.behaviour(following), self.config.threshold, batch.next_action_mask)
        next_value = double_q_value(self.q_network(following), self.target_network(following), supported)
        return td_target(batch.reward, batch.terminated, next_value, self.config.discount)

    def support(self, observation: ArrayLike, *, mask: ArrayLike | None = None) -> NDArray[np.bool_]:
        """The actions the policy chooses among, ``[N, A]`` bool.

        Args:
            observation: ``[N, …]``.
            mask: ``[N, A]``, true where an action is allowed; None for all.
        """
        return self._support(self._observation_tensor(observation), mask).cpu().numpy()

    @torch.no_grad()
    def _support(self, observation: Tensor, mask: ArrayLike | None) -> Tensor:
        logits = self.behaviour(self._input(observation))
        return supported_actions(
            logits, self.config.threshold, None if mask is None else self._allowed(mask, logits.shape)
        )

    def _q_values(self, observation: Tensor) -> Tensor:
        return self.q_network(self._input(observation))

    def _scores(self, observation: Tensor) -> Tensor:
        return self._q_values(observation)

    def _policy(self, observation: Tensor, mask: ArrayLike | None, deterministic: bool) -> Tensor:
        supported = self._support(observation, mask)
        best = self._scores(observation).masked_fill(~supported, -torch.inf).argmax(dim=-1)
        return functional.one_hot(best, self.num_actions).float()


@dataclass(frozen=True)
class BCQConfig(AgentConfig):
    max_perturbation: float = 0.05  # ξ_max, eq. bcq-perturbation, in units of actions scaled to [−1, 1]; 0 turns it off
    target_samples: int = 10  # actions compared in the target, eq. bcq-target
    acting_samples: int = 100  # actions compared when acting, eq. bcq-act
    min_weight: float = 0.75  # weight of the lesser critic, eq. bcq-target
    divergence_weight: float = 0.5  # weight of the divergence of the latent code, eq. bcq-vae
    target_rate: float = 0.005  # η, eq. polyak

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.max_perturbation <= 2, "max_perturbation", self.max_perturbation, "in [0, 2]")
        require(self.target_samples >= 1, "target_samples", self.target_samples, "at least 1")
        require(self.acting_samples >= 1, "acting_samples", self.acting_samples, "at least 1")
        require(0 <= self.min_weight <= 1, "min_weight", self.min_weight, "in [0, 1]")
        require(0 <= self.divergence_weight < math.inf, "divergence_weight", self.divergence_weight, "finite and >= 0")
        require(0 < self.target_rate <= 1, "target_rate", self.target_rate, "in (0, 1]")


def generator_loss(
    reconstruction: Tensor, action: Tensor, mean: Tensor, log_std: Tensor, divergence_weight: float
) -> Tensor:
    r"""Squared error of the reconstruction plus the weighted divergence from a standard normal (book eq. bcq-vae).

    Both are means over the batch and over their dimensions.

    Args:
        reconstruction: ``[B, D]``, the decoded action.
        action: ``[B, D]``, the data's.
        mean: ``[B, L]``, mean of the code.
        log_std: ``[B, L]``, log standard deviation of the code.
        divergence_weight: At least 0.
    Returns:
        Scalar.
    """
    divergence = -0.5 * (1 + 2 * log_std - mean.square() - (2 * log_std).exp()).mean()
    return (reconstruction - action).square().mean() + divergence_weight * divergence


def perturbed_action(action: Tensor, direction: Tensor, max_perturbation: float) -> Tensor:
    r"""The action moved by :math:`\xi_{\max}\tanh` and kept in [−1, 1] (book eq. bcq-perturbation).

    Args:
        action: ``[…, D]`` in [−1, 1].
        direction: ``[…, D]``, output of the perturbation network.
        max_perturbation: :math:`\xi_{\max}`.
    Returns:
        ``[…, D]``.
    """
    return (action + max_perturbation * direction.tanh()).clamp(-1, 1)


def soft_clipped_value(first: Tensor, second: Tensor, min_weight: float) -> Tensor:
    """Weighted mean of the lesser and the greater of two values, the bracket of book eq. bcq-target.

    Args:
        first: Values of one critic, any shape.
        second: Values of the other, same shape.
        min_weight: Weight of the lesser.
    Returns:
        Same shape.
    """
    return min_weight * torch.minimum(first, second) + (1 - min_weight) * torch.maximum(first, second)


class ActionGenerator(nn.Module):
    """Conditional variational autoencoder: what the behaviour does in a state, from a code of ``2 D`` numbers.

    Args:
        features: Size of an observation.
        action_dimension: D.
        hidden_sizes: Width of every hidden layer of encoder and decoder.
    """

    LOG_STD_RANGE = (-4.0, 15.0)
    CODE_LIMIT = 0.5  # codes for new actions are clipped to it in every dimension

    def __init__(self, features: int, action_dimension: int, hidden_sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.code_dimension = 2 * action_dimension
        self.encoder = mlp(joint_space(features, action_dimension), 2 * self.code_dimension, hidden_sizes)
        self.decoder = mlp(joint_space(features, self.code_dimension), action_dimension, hidden_sizes)

    def encode(self, observation: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of the code, ``[B, L]`` each."""
        mean, log_std = self.encoder(torch.cat([observation, action], dim=-1)).chunk(2, dim=-1)
        return mean, log_std.clamp(*self.LOG_STD_RANGE)

    def decode(self, observation: Tensor, code: Tensor) -> Tensor:
        """Actions ``[…, D]`` in [−1, 1]."""
        return self.decoder(torch.cat([observation, code], dim=-1)).tanh()


class BCQ(ContinuousAgent):
    """Q-learning over actions that a model of the behaviour generates, each moved a little towards higher value.

    A draw from the policy generates new actions; the deterministic policy compares those of a fixed set of codes.
    """

    config_class = BCQConfig
    config: BCQConfig
    fixed_codes: Tensor

    def _build(self) -> None:
        features, dimension, hidden = self.flat_space.shape[0], self.action_dimension, self.config.hidden_sizes
        self.behaviour = ActionGenerator(features, dimension, hidden)
        self.critic = TwinCritic(features, dimension, hidden)
        self.perturbation = mlp(joint_space(features, dimension), dimension, hidden)
        self.target_critic = copy.deepcopy(self.critic).requires_grad_(False)
        self.target_perturbation = copy.deepcopy(self.perturbation).requires_grad_(False)
        limit, shape = self.behaviour.CODE_LIMIT, (self.config.acting_samples, self.behaviour.code_dimension)
        self.register_buffer("fixed_codes", torch.randn(shape).clamp(-limit, limit))
        self.behaviour_optimizer = self._optimizer("behaviour", self.behaviour)
        self.critic_optimizer = self._optimizer("critic", self.critic)
        self.perturbation_optimizer = self._optimizer("perturbation", self.perturbation)

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        observation, action = self._input(batch.observation), self._unit(batch.action)
        behaviour_loss = self._fit_behaviour(observation, action)
        critic_loss, q = self._fit_critic(observation, action, batch)
        perturbation_loss = self._fit_perturbation(observation)
        polyak_update(self.target_critic, self.critic, self.config.target_rate)
        polyak_update(self.target_perturbation, self.perturbation, self.config.target_rate)
        return {
            "behaviour_loss": behaviour_loss,
            "critic_loss": critic_loss,
            "perturbation_loss": perturbation_loss,
            "q": q,
        }

    def _fit_behaviour(self, observation: Tensor, action: Tensor) -> Tensor:
        """The generator reproduces the data's actions (eq. bcq-vae)."""
        mean, log_std = self.behaviour.encode(observation, action)
        noise = torch.randn(mean.shape, generator=self.generator, device=self.device, dtype=mean.dtype)
        reconstruction = self.behaviour.decode(observation, mean + log_std.exp() * noise)
        loss = generator_loss(reconstruction, action, mean, log_std, self.config.divergence_weight)
        gradient_step(self.behaviour_optimizer, loss)
        return loss.detach()

    def _fit_critic(self, observation: Tensor, action: Tensor, batch: Transitions) -> tuple[Tensor, Tensor]:
        """Both critics towards the best of several perturbed actions of the behaviour (eq. bcq-target)."""
        with torch.no_grad():
            following = _repeated(self._input(batch.next_observation), self.config.target_samples)
            next_action = self._perturb(following, self._generate(following), self.target_perturbation)
            first, second = self.target_critic(following, next_action)
            next_value = soft_clipped_value(first, second, self.config.min_weight).amax(dim=1)
            target = td_target(batch.reward, batch.terminated, next_value, self.config.discount)
        first, second = self.critic(observation, action)
        loss = td_loss(first, target) + td_loss(second, target)
        gradient_step(self.critic_optimizer, loss)
        return loss.detach(), first.detach().mean()

    def _fit_perturbation(self, observation: Tensor) -> Tensor:
        """Generated actions are moved up the first critic (eq. bcq-perturbation)."""
        with torch.no_grad():
            generated = self._generate(observation)
        with frozen(self.critic):
            moved = self._perturb(observation, generated, self.perturbation)
            loss = -self.critic.first(torch.cat([observation, moved], dim=-1)).mean()
            gradient_step(self.perturbation_optimizer, loss)
        return loss.detach()

    def _generate(self, observation: Tensor) -> Tensor:
        """One new action of the behaviour for each observation ``[…, features]``."""
        shape = (*observation.shape[:-1], self.behaviour.code_dimension)
        code = torch.randn(shape, generator=self.generator, device=self.device, dtype=observation.dtype)
        return self.behaviour.decode(observation, code.clamp(-self.behaviour.CODE_LIMIT, self.behaviour.CODE_LIMIT))

    def _perturb(self, observation: Tensor, action: Tensor, network: nn.Module) -> Tensor:
        direction = network(torch.cat([observation, action], dim=-1))
        return perturbed_action(action, direction, self.config.max_perturbation)

    def _unit_action(self, observation: Tensor, deterministic: bool) -> Tensor:
        """The best by the first critic of many perturbed actions of the behaviour (eq. bcq-act)."""
        inputs = _repeated(self._input(observation), self.config.acting_samples)
        if deterministic:
            generated = self.behaviour.decode(inputs, self.fixed_codes.expand(len(inputs), -1, -1))
        else:
            generated = self._generate(inputs)
        action = self._perturb(inputs, generated, self.perturbation)
        best = self.critic.first(torch.cat([inputs, action], dim=-1)).squeeze(-1).argmax(dim=1)
        return action[torch.arange(len(action), device=self.device), best]


def _repeated(observation: Tensor, copies: int) -> Tensor:
    """``[B, features]`` as ``[B, copies, features]``."""
    return observation.unsqueeze(1).expand(-1, copies, -1)
