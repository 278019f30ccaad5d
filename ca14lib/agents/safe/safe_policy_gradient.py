"""The policy gradient of the Lagrangian, one step for each rollout. Book: safe/policy_gradients."""

from dataclasses import dataclass

from torch import Tensor

from ca14lib.agents.base import gradient_step
from ca14lib.agents.on_policy import standardised
from ca14lib.agents.safe.ppo_lagrangian import PPOLagrangian, PPOLagrangianConfig, lagrangian_advantage
from ca14lib.data import Rollout


@dataclass(frozen=True)
class SafePolicyGradientConfig(PPOLagrangianConfig):
    learning_rate: float = 3e-3  # one step a rollout bears a larger one than PPO's many


def policy_gradient_loss(log_prob: Tensor, advantage: Tensor) -> Tensor:
    r"""Loss whose gradient is :math:`-\mathbb E[\nabla\log\pi(a|s)\,(A^R - \lambda A^C)]`.

    Book eq. safe-policy-gradient.

    Args:
        log_prob: ``[B]``, of the actions taken, under the policy that took them.
        advantage: ``[B]``, carries no gradient.
    Returns:
        Scalar.
    """
    return -(log_prob * advantage).mean()


class SafePolicyGradient(PPOLagrangian):
    """Actor-critic gradient of reward minus multiplier times cost; the multiplier is learned, or fixed at rate 0."""

    config_class = SafePolicyGradientConfig
    config: SafePolicyGradientConfig

    def update(self, rollout: Rollout) -> dict[str, Tensor]:
        advantage, cost_advantage, target = self._advantages(rollout)
        self._update_multiplier(rollout)
        advantage = lagrangian_advantage(advantage, cost_advantage, self.multiplier)
        if self.config.standardise:
            advantage = standardised(advantage)
        logs = {f"multiplier_{k}": value for k, value in enumerate(self.multiplier.clone())}
        inputs, action = self._input(rollout.flat("observation")), self._unit(rollout.flat("action"))
        mask = None if rollout.action_mask is None else rollout.flat("action_mask")
        parameters = self.policy(inputs, mask)
        entropy = self.policy.entropy(parameters).mean()
        loss = policy_gradient_loss(self.policy.log_prob(parameters, action), advantage)
        self._set_learning_rate()
        gradient_step(self.policy_optimizer, loss - self._entropy_weight() * self._entropy_scale() * entropy)
        self.updates += 1
        value_loss = self._fit_critics(rollout, target)
        return {"policy_loss": loss.detach(), "value_loss": value_loss, "entropy": entropy.detach()} | logs
