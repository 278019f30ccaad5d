"""Implicit quantile networks (Dabney, Ostrovski, Silver and Munos, 2018). Book: robust/distributional."""

import copy
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ca14lib.agents.base import gradient_step, require
from ca14lib.agents.dqn import td_target
from ca14lib.agents.robust.qr_dqn import quantile_huber_loss
from ca14lib.agents.robust.risk_choice import (
    DistributionalAgent,
    DistributionalConfig,
    RiskChoice,
    best_action,
    mean_value,
    of_action,
    require_count,
)
from ca14lib.data import Transitions
from ca14lib.networks import polyak_update
from ca14lib.networks.quantiles import ImplicitQuantileNetwork, midpoint_fractions


@dataclass(frozen=True)
class IQNConfig(DistributionalConfig):
    num_fractions: int = 64  # N, fractions of the prediction
    num_target_fractions: int = 64  # N', of the target
    num_choice_fractions: int = 32  # K, of the choice of an action
    num_cosines: int = 64  # n, eq. iqn-embedding
    kappa: float = 1.0  # κ, eq. qrdqn-huber
    sampled_choice: bool = False  # draw the K fractions when acting, as published; else take their midpoints

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("num_fractions", "num_target_fractions", "num_choice_fractions", "num_cosines"):
            require_count(name, getattr(self, name))
        require(0 < self.kappa < float("inf"), "kappa", self.kappa, "positive and finite")


def sampled_fractions(rows: int, count: int, upper: float, generator: torch.Generator) -> Tensor:
    r"""Fractions :math:`\tau\sim U(0,\text{upper})`, ``[rows, count]`` (book eq. risk-choice-distortion).

    The mean of quantiles at such fractions estimates the mean of the lowest share ``upper`` of the distribution.

    Args:
        rows: B.
        count: Number of fractions in a row.
        upper: In (0, 1]; 1 for the whole distribution.
        generator: Draws them, on its device.
    Raises:
        ValueError: If ``upper`` is out of range.
    """
    if not 0 < upper <= 1:
        raise ValueError(f"upper must lie in (0, 1], got {upper}")
    return upper * torch.rand(rows, count, generator=generator, device=generator.device)


class IQN(DistributionalAgent):
    """DQN with a network that gives the return's quantile at any fraction it is asked for."""

    config_class = IQNConfig
    config: IQNConfig

    def _build(self) -> None:
        settings = self.config
        self.q_network = ImplicitQuantileNetwork(  # type: ignore[assignment]
            self.observation_space, self.num_actions, settings.num_cosines, settings.hidden_sizes
        )
        self.target_network = copy.deepcopy(self.q_network).requires_grad_(False)
        self.optimizer = self._optimizer("q", self.q_network)

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        fractions = sampled_fractions(len(batch), self.config.num_fractions, 1.0, self.generator)
        prediction = of_action(self.q_network(self._input(batch.observation), fractions), batch.action)
        loss = quantile_huber_loss(prediction, self._target(batch), fractions, self.config.kappa)
        gradient_step(self.optimizer, loss)
        polyak_update(self.target_network, self.q_network, self.config.target_rate)
        return {"loss": loss.detach(), "q": prediction.detach().mean()}

    @torch.no_grad()
    def _target(self, batch: Transitions) -> Tensor:
        """Samples of the target distribution, ``[B, N']`` (book eq. iqn-target)."""
        following = self._input(batch.next_observation)
        chooser = self.q_network if self.config.double else self.target_network
        scores = self._choice(chooser, following, self.target_risk, sampled=True)
        action = best_action(scores, batch.next_action_mask)
        fractions = sampled_fractions(len(batch), self.config.num_target_fractions, 1.0, self.generator)
        next_quantiles = of_action(self.target_network(following, fractions), action)
        return td_target(batch.reward[:, None], batch.terminated[:, None], next_quantiles, self.config.discount)

    def _choice(self, network: nn.Module, observation: Tensor, risk: RiskChoice, sampled: bool) -> Tensor:
        """Scores ``[B, A]`` from K fractions, of which only those that the risk looks at are asked for."""
        rows, count, upper = len(observation), self.config.num_choice_fractions, risk.upper_fraction
        if sampled:
            fractions = sampled_fractions(rows, count, upper, self.generator)
        else:
            fractions = upper * midpoint_fractions(count, self.device).expand(rows, count)
        quantiles = network(observation, fractions)
        return mean_value(quantiles) if risk.measure == "cvar" else risk(quantiles)

    def _scores(self, observation: Tensor) -> Tensor:
        return self._choice(self.q_network, self._input(observation), self.risk, sampled=False)

    def _q_values(self, observation: Tensor) -> Tensor:
        return self._choice(self.q_network, self._input(observation), RiskChoice(), sampled=False)

    @torch.no_grad()
    def act(
        self, observation: ArrayLike, *, mask: ArrayLike | None = None, deterministic: bool = False
    ) -> NDArray[np.int64]:
        if deterministic or not self.config.sampled_choice:
            return super().act(observation, mask=mask, deterministic=deterministic)
        seen = self._input(self._observation_tensor(observation))
        scores = self._choice(self.q_network, seen, self.risk, sampled=True)
        if mask is not None:
            scores = scores.masked_fill(~self._allowed(mask, scores.shape), -torch.inf)
        return torch.multinomial(self._probabilities(scores), 1, generator=self.generator).squeeze(1).cpu().numpy()

    def _atoms(self, network: nn.Module, observation: Tensor) -> tuple[Tensor, None]:
        count = max(self.config.num_choice_fractions, self.config.num_fractions)
        return network(observation, midpoint_fractions(count, self.device).expand(len(observation), count)), None
