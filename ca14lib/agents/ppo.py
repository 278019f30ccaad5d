"""Proximal policy optimisation with a clipped ratio (Schulman et al., 2017). Book: safe/ppo."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ca14lib.agents.base import require
from ca14lib.agents.on_policy import OnPolicyAgent, OnPolicyConfig, standardised, value_loss
from ca14lib.data import Rollout


@dataclass(frozen=True)
class PPOConfig(OnPolicyConfig):
    learning_rate_decay: float = 1.0  # ϑ_η, what is left of the policy's learning rate after an update, eq. rate-decay
    clip: float = 0.2  # ε, eq. ppo-clip
    epochs: int = 5  # passes over the rollout, policy and critics together
    standardise: bool = True  # give the advantages of every rollout mean 0 and deviation 1
    max_gradient_norm: float = 0.5
    max_kl: float | None = None  # stop the passes of an update beyond this mean KL(old ‖ new); None never stops

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.learning_rate_decay <= 1, "learning_rate_decay", self.learning_rate_decay, "in (0, 1]")
        require(0 < self.clip < 1, "clip", self.clip, "in (0, 1)")
        require(isinstance(self.epochs, int) and self.epochs >= 1, "epochs", self.epochs, "a positive integer")
        require(self.max_gradient_norm > 0, "max_gradient_norm", self.max_gradient_norm, "positive")
        require(self.max_kl is None or self.max_kl > 0, "max_kl", self.max_kl, "positive or None")


def clipped_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float) -> Tensor:
    r"""Minus the clipped surrogate, :math:`-\min(\rho \hat A, \mathrm{clip}(\rho, 1-\epsilon, 1+\epsilon) \hat A)`.

    Book eq. ppo-clip, with :math:`\rho = \pi_\theta(a|s) / \pi_{\text{old}}(a|s)` (book eq. policy-ratio).

    Args:
        log_prob: ``[B]`` under the policy that learns.
        old_log_prob: ``[B]`` under the policy that acted.
        advantage: ``[B]``.
        clip: :math:`\epsilon` in (0, 1).
    Returns:
        Scalar.
    """
    ratio = (log_prob - old_log_prob).exp()
    return -torch.minimum(ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage).mean()


class PPO(OnPolicyAgent):
    """PPO with generalised advantages, for discrete and continuous actions; ignores costs unless a subclass looks."""

    config_class = PPOConfig
    config: PPOConfig

    def update(self, rollout: Rollout) -> dict[str, Tensor]:
        advantage, cost_advantage, target = self._advantages(rollout)
        advantage, logs = self._policy_advantage(rollout, advantage, cost_advantage)
        advantage = standardised(advantage) if self.config.standardise else advantage - advantage.mean()
        logs |= self._passes(rollout, advantage, target)
        self.updates += 1
        return logs

    def _set_learning_rate(self) -> None:
        """The policy's step size in this update (book eq. rate-decay)."""
        for group in self.policy_optimizer.param_groups:
            group["lr"] = self.config.learning_rate * self.config.learning_rate_decay**self.updates

    def _policy_advantage(
        self, rollout: Rollout, advantage: Tensor, cost_advantage: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """What the policy climbs, ``[B]``, and what there is to log; safe agents put the costs in here."""
        return advantage, {}

    def _entropy_scale(self) -> float | Tensor:
        """What the advantage was multiplied by, so that the entropy's weight keeps the unit of the reward."""
        return 1.0

    def _passes(self, rollout: Rollout, advantage: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Gradient steps on shuffled minibatches for policy and critics."""
        config, entropy_weight = self.config, self._entropy_weight() * self._entropy_scale()
        inputs, action = self._input(rollout.flat("observation")), self._unit(rollout.flat("action"))
        old, mask = rollout.flat("log_prob"), None if rollout.action_mask is None else rollout.flat("action_mask")
        totals, steps = torch.zeros(4, device=self.device), 0
        self._set_learning_rate()
        stop = torch.zeros((), dtype=torch.bool, device=self.device)
        for index in self._batches(rollout.size, config.epochs):
            chosen = inputs[index]
            self.value_optimizer.zero_grad()
            critic_loss = value_loss(self._values(chosen), target[index])
            critic_loss.backward()
            self.value_optimizer.step()

            parameters = self.policy(chosen, None if mask is None else mask[index])
            log_prob = self.policy.log_prob(parameters, action[index])
            with torch.no_grad():
                difference = old[index] - log_prob
                kl = (difference.neg().exp() - 1 + difference).mean()  # unbiased and never negative
                stop = stop | (kl > config.max_kl) if config.max_kl is not None else stop
            entropy = self.policy.entropy(parameters).mean()
            loss = clipped_loss(log_prob, old[index], advantage[index], config.clip) - entropy_weight * entropy
            self.policy_optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.policy.parameters(), config.max_gradient_norm)
            if config.max_kl is not None and bool(stop):
                break
            self.policy_optimizer.step()
            totals += torch.stack([loss.detach(), critic_loss.detach(), entropy.detach(), kl])
            steps += 1
        names = ("policy_loss", "value_loss", "entropy", "kl")
        return dict(zip(names, totals / max(steps, 1), strict=True))
