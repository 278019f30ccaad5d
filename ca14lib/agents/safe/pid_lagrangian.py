"""PID control of the multiplier (Stooke, Achiam and Abbeel, 2020). Book: safe/lagrangian."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ca14lib.agents.base import require
from ca14lib.agents.safe.ppo_lagrangian import PPOLagrangian, PPOLagrangianConfig
from ca14lib.data import Rollout


@dataclass(frozen=True)
class PIDLagrangianConfig(PPOLagrangianConfig):
    proportional: float = 0.1  # K_P, eq. pid-multiplier
    integral: float = 0.01  # K_I
    derivative: float = 0.01  # K_D
    smoothing: float = 0.95  # weight of the past in the moving averages
    delay: int = 10  # updates between the two costs whose difference is the derivative

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("proportional", "integral", "derivative"):
            require(0 <= getattr(self, name) < float("inf"), name, getattr(self, name), "finite and at least 0")
        require(0 <= self.smoothing < 1, "smoothing", self.smoothing, "in [0, 1)")
        require(isinstance(self.delay, int) and self.delay >= 1, "delay", self.delay, "a positive integer")


def pid_multiplier(
    error: Tensor, smoothed: Tensor, rise: Tensor, integral: Tensor,
    proportional: float, integral_gain: float, derivative: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    r"""The controller, :math:`\lambda = [K_P P + I + K_D D]_+` with :math:`I \leftarrow [I + K_I \Delta]_+`.

    Book eq. pid-multiplier.

    Args:
        error: ``[K]``, the present violation :math:`\Delta = \hat J_C - d`.
        smoothed: ``[K]``, P, the moving average of the violation.
        rise: ``[K]``, D, by how much the smoothed cost has risen, at least 0.
        integral: ``[K]``, I before this step.
        proportional: :math:`K_P`.
        integral_gain: :math:`K_I`.
        derivative: :math:`K_D`.
    Returns:
        λ and I after this step, ``[K]`` each.
    """
    integral = (integral + integral_gain * error).clamp(min=0.0)
    return (proportional * smoothed + integral + derivative * rise).clamp(min=0.0), integral


class PIDLagrangian(PPOLagrangian):
    """PPO-Lagrangian whose multiplier is a PID controller's output: the proportional part damps its swing."""

    config_class = PIDLagrangianConfig
    config: PIDLagrangianConfig
    integral: Tensor
    smoothed_error: Tensor
    smoothed_cost: Tensor
    past_costs: Tensor
    seen: Tensor

    def _build(self) -> None:
        super()._build()
        zeros = torch.zeros(self.num_costs, device=self.device)
        self.register_buffer("integral", self.multiplier.clone())
        self.register_buffer("smoothed_error", zeros.clone())
        self.register_buffer("smoothed_cost", zeros.clone())
        self.register_buffer("past_costs", torch.zeros(self.config.delay, self.num_costs, device=self.device))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64, device=self.device))

    def _update_multiplier(self, rollout: Rollout) -> None:
        cost = rollout.mean_episode_cost()
        if cost is None:
            return
        config, cost = self.config, cost[: self.num_costs]
        error, first = cost - self.cost_limits, self.seen == 0
        # the averages begin with the first measurement, so that nothing rises from an invented 0
        self.smoothed_error.copy_(torch.where(first, error, self.smoothed_error.lerp(error, 1 - config.smoothing)))
        self.smoothed_cost.copy_(torch.where(first, cost, self.smoothed_cost.lerp(cost, 1 - config.smoothing)))
        self.past_costs.copy_(torch.where(first, self.smoothed_cost.expand_as(self.past_costs), self.past_costs))
        rise = (self.smoothed_cost - self.past_costs[0]).clamp(min=0.0)
        multiplier, integral = pid_multiplier(
            error, self.smoothed_error, rise, self.integral,
            config.proportional, config.integral, config.derivative,
        )  # fmt: skip
        self.past_costs.copy_(torch.cat([self.past_costs[1:], self.smoothed_cost[None]]))
        self.integral.copy_(integral.clamp(max=config.max_multiplier))
        self.multiplier.copy_(multiplier.clamp(max=config.max_multiplier))
        self.seen += 1
