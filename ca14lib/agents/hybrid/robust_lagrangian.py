"""PPO that keeps its limits in the worst of several models, a multiplier for each. Book: evaluation/robust_safe."""

from dataclasses import dataclass

import gymnasium as gym
import torch
from torch import Tensor

from ca14lib.agents.base import require
from ca14lib.agents.ppo import PPO, PPOConfig
from ca14lib.agents.safe.ppo_lagrangian import multiplier_step
from ca14lib.data import Rollout


@dataclass(frozen=True)
class RobustLagrangianConfig(PPOConfig):
    cost_limits: tuple[float, ...] = (25.0,)  # d_k, in every model
    num_models: int = 1  # M, the first M numbers of an observation say which one holds; 1: they do not
    multiplier_learning_rate: float = 0.05  # η_λ, eq. robust-safe-multiplier
    initial_multiplier: float = 0.0  # λ₀
    max_multiplier: float = float("inf")
    weight_learning_rate: float = 0.05  # η_w, eq. robust-safe-weights; 0 leaves the mean over models

    def __post_init__(self) -> None:
        super().__post_init__()
        infinity = float("inf")
        require(len(self.cost_limits) >= 1, "cost_limits", self.cost_limits, "at least one limit")
        whole = isinstance(self.num_models, int) and not isinstance(self.num_models, bool) and self.num_models >= 1
        require(whole, "num_models", self.num_models, "a positive integer")
        for name in ("multiplier_learning_rate", "weight_learning_rate", "initial_multiplier"):
            value = getattr(self, name)
            require(0 <= value < infinity, name, value, "finite and at least 0")
        start, top = self.initial_multiplier, self.max_multiplier
        require(top > 0, "max_multiplier", top, "positive")
        require(start <= top, "initial_multiplier", start, f"at most {top}, its maximum")


def per_episode(signal: Tensor, ended: Tensor, model: Tensor, num_models: int) -> tuple[Tensor, Tensor]:
    """What an episode of each model sums up to, and how many ended (book eq. robust-safe-episode).

    Sum of the signal over all steps of a model, divided by the number of its episodes that ended: where rollouts follow
    one another without a break, what the first episodes have too little, the last ones had before.

    Args:
        signal: ``[B, K]``.
        ended: ``[B]`` bool.
        model: ``[B]``, index of the model of every step.
        num_models: M.
    Returns:
        ``[M, K]``, meaningless where no episode ended; and that number, ``[M]``.
    """
    of_model = torch.nn.functional.one_hot(model, num_models).to(signal.dtype)
    episodes = of_model.T @ ended.to(signal.dtype)
    return (of_model.T @ signal) / episodes.clamp(min=1.0).unsqueeze(-1), episodes


def worst_model_weights(weight: Tensor, episode_return: Tensor, learning_rate: float) -> Tensor:
    r"""A step of the weights towards the models with the least returns (book eq. robust-safe-weights).

    :math:`w_m \propto w_m \exp(-\eta_w J_m)`: multiplicative weights on the simplex.

    Args:
        weight: ``[M]``, positive, of sum 1.
        episode_return: ``[M]``.
        learning_rate: :math:`\eta_w \ge 0`, per unit of return.
    Returns:
        ``[M]`` of sum 1.
    """
    # a weight that rounds to 0 would stay there whatever its model earns later
    return (weight.clamp(min=1e-30).log() - learning_rate * episode_return).softmax(dim=0)


def robust_advantage(
    advantage: Tensor, cost_advantage: Tensor, model: Tensor, weight: Tensor, multiplier: Tensor
) -> Tensor:
    r"""Advantage of the Lagrangian of all models together (book eq. robust-safe-advantage).

    :math:`M\,(w_m A^R - \sum_k \lambda_{m,k} A^{C_k}) / (1 + \sum \lambda)` for a step of model m. Within each model
    the advantages are centred, so that a model whose critic errs does not push all its actions.

    Args:
        advantage: ``[B]``.
        cost_advantage: ``[B, K]``.
        model: ``[B]``, index of the model of every step.
        weight: ``[M]`` of sum 1.
        multiplier: ``[M, K]``.
    Returns:
        ``[B]``.
    """
    both = torch.cat([advantage.unsqueeze(-1), cost_advantage], dim=-1)
    of_model = torch.nn.functional.one_hot(model, len(weight)).to(both.dtype)
    mean = (of_model.T @ both) / of_model.sum(dim=0).clamp(min=1.0).unsqueeze(-1)
    both = both - mean[model]
    mixed = weight[model] * both[:, 0] - (multiplier[model] * both[:, 1:]).sum(dim=-1)
    return len(weight) * mixed / (1.0 + multiplier.sum())


def without_model(inputs: Tensor, num_models: int) -> Tensor:
    """Observations ``[B, F]`` with zeros in place of the first M numbers: what the policy sees."""
    return torch.nn.functional.pad(inputs[..., num_models:], (num_models, 0))


def model_of(observation: Tensor, num_models: int) -> Tensor:
    """Index ``[…]`` of the model that the first M numbers of an observation ``[…, F]`` show; 0 where M is 1."""
    if num_models == 1:
        return torch.zeros(observation.shape[:1], dtype=torch.int64, device=observation.device)
    return observation[..., :num_models].argmax(dim=-1)


class RobustLagrangian(PPO):
    """PPO on a common policy, with weights on the worst return and a multiplier on the cost of every model.

    The first M numbers of an observation are the model as a one-hot vector. Critics and multipliers use them in
    training; the policy gets zeros in their place, so that in use anything may stand there. With one model it is
    :class:`~ca14lib.agents.safe.PPOLagrangian` but for the estimate of the cost.
    """

    config_class = RobustLagrangianConfig
    config: RobustLagrangianConfig
    multiplier: Tensor
    weight: Tensor

    def _build(self) -> None:
        count = self.config.num_models
        if count > 1:
            space = self.observation_space
            fits = isinstance(space, gym.spaces.Box) and len(space.shape) == 1 and space.shape[0] > count
            if not fits:
                raise ValueError(
                    f"with num_models={count} observations must be a one-dimensional Box of more than {count} numbers, "
                    f"the model first, got {space}"
                )
        super()._build()
        if count > 1:
            self.policy.register_forward_pre_hook(self._hide_model)
        start = torch.full((count, self.num_costs), float(self.config.initial_multiplier), device=self.device)
        self.register_buffer("multiplier", start)
        self.register_buffer("weight", torch.full((count,), 1.0 / count, device=self.device))

    def _hide_model(self, policy: torch.nn.Module, arguments: tuple) -> tuple:
        return without_model(arguments[0], self.config.num_models), *arguments[1:]

    def update(self, rollout: Rollout) -> dict[str, Tensor]:
        self._check(rollout)
        self._update_prices(rollout)  # before the policy, which then answers the present violation
        return super().update(rollout)

    def _update_prices(self, rollout: Rollout) -> None:
        """Move multipliers and weights; a model without a completed episode keeps its multipliers."""
        config = self.config
        model = model_of(rollout.flat("observation"), config.num_models)
        signal = torch.cat([rollout.reward.unsqueeze(-1), rollout.cost[..., : self.num_costs]], dim=-1).flatten(0, 1)
        ended = (rollout.terminated | rollout.truncated).flatten()
        total, episodes = per_episode(signal, ended, model, config.num_models)
        known = (episodes > 0).unsqueeze(-1)
        moved = multiplier_step(self.multiplier, total[:, 1:], self.cost_limits, config.multiplier_learning_rate)
        self.multiplier.copy_(torch.where(known, moved.clamp(max=config.max_multiplier), self.multiplier))
        if known.all():
            self.weight.copy_(worst_model_weights(self.weight, total[:, 0], config.weight_learning_rate))

    def _entropy_scale(self) -> float | Tensor:
        return 1.0 if self.config.standardise else 1.0 / (1.0 + self.multiplier.sum())

    def _policy_advantage(
        self, rollout: Rollout, advantage: Tensor, cost_advantage: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        model = model_of(rollout.flat("observation"), self.config.num_models)
        logs = {f"multiplier_{m}_{k}": self.multiplier[m, k].clone() for m, k in torch.cartesian_prod(
            torch.arange(len(self.weight)), torch.arange(self.num_costs)).reshape(-1, 2).tolist()}  # fmt: skip
        logs |= {f"weight_{m}": value for m, value in enumerate(self.weight.clone())}
        return robust_advantage(advantage, cost_advantage, model, self.weight, self.multiplier), logs
