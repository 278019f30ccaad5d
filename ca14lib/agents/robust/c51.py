"""Categorical DQN with a fixed support, C51 (Bellemare, Dabney and Munos, 2017). Book: robust/distributional."""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ca14lib.agents.base import gradient_step, require
from ca14lib.agents.dqn import td_target
from ca14lib.agents.robust.risk_choice import (
    DistributionalAgent,
    DistributionalConfig,
    best_action,
    of_action,
    require_count,
)
from ca14lib.data import Transitions
from ca14lib.networks import polyak_update
from ca14lib.networks.quantiles import atom_network


@dataclass(frozen=True)
class C51Config(DistributionalConfig):
    num_atoms: int = 51  # N, eq. c51-support
    value_min: float = -10.0  # V_min: returns under it count as V_min
    value_max: float = 10.0  # V_max

    def __post_init__(self) -> None:
        super().__post_init__()
        require_count("num_atoms", self.num_atoms, 2)
        for name in ("value_min", "value_max"):
            require(math.isfinite(getattr(self, name)), name, getattr(self, name), "finite")
        require(self.value_min < self.value_max, "value_min", self.value_min, f"under value_max, {self.value_max}")


def categorical_projection(values: Tensor, probabilities: Tensor, support: Tensor) -> Tensor:
    r"""Atoms anywhere, moved to an even support so that the mean is kept (book eq. c51-projection).

    An atom between two points of the support is divided between them in proportion to its nearness; one outside goes
    to the nearest end; one that lies on a point stays there whole.

    Args:
        values: ``[B, M]``.
        probabilities: ``[B, M]``.
        support: :math:`z_0<\dots<z_{N-1}` at equal distances, ``[N]``, at least two.
    Returns:
        Probabilities of the support's points, ``[B, N]``.
    """
    last = len(support) - 1
    position = (values - support[0]) * (last / (support[-1] - support[0]))
    position = position.clamp(0, last)
    lower = position.floor().clamp(max=last - 1)  # so that there is an upper neighbour, of weight 1 at the end
    share = position - lower
    index, projected = lower.long(), probabilities.new_zeros(len(values), last + 1)
    projected.scatter_add_(1, index, probabilities * (1 - share))
    return projected.scatter_add_(1, index + 1, probabilities * share)


def categorical_loss(log_probabilities: Tensor, target: Tensor) -> Tensor:
    """Cross entropy of the prediction relative to the target, mean over the batch (book eq. c51-loss).

    Args:
        log_probabilities: Of the prediction, ``[B, N]``.
        target: Probabilities ``[B, N]``; must carry no gradient.
    Returns:
        Scalar.
    """
    return -(target * log_probabilities).sum(dim=1).mean()


class C51(DistributionalAgent):
    """DQN with probabilities of N fixed returns for every action in place of its mean."""

    config_class = C51Config
    config: C51Config
    support: Tensor

    def _build(self) -> None:
        settings = self.config
        self.register_buffer("support", torch.linspace(settings.value_min, settings.value_max, settings.num_atoms))
        self.q_network = atom_network(
            self.observation_space, self.num_actions, settings.num_atoms, settings.hidden_sizes
        )
        self.target_network = copy.deepcopy(self.q_network).requires_grad_(False)
        self.optimizer = self._optimizer("q", self.q_network)

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        log_probabilities = of_action(self.q_network(self._input(batch.observation)), batch.action).log_softmax(dim=1)
        loss = categorical_loss(log_probabilities, self._target(batch))
        gradient_step(self.optimizer, loss)
        polyak_update(self.target_network, self.q_network, self.config.target_rate)
        return {"loss": loss.detach(), "q": (log_probabilities.detach().exp() @ self.support).mean()}

    @torch.no_grad()
    def _target(self, batch: Transitions) -> Tensor:
        """Probabilities of the target distribution on the support, ``[B, N]`` (book eq. c51-target)."""
        following = self._input(batch.next_observation)
        _, probabilities = self._atoms(self.target_network, following)
        chooser = self._atoms(self.q_network, following)[1] if self.config.double else probabilities
        action = best_action(self.target_risk(self.support.expand_as(chooser), chooser), batch.next_action_mask)
        values = td_target(batch.reward[:, None], batch.terminated[:, None], self.support, self.config.discount)
        return categorical_projection(values, of_action(probabilities, action), self.support)

    def _atoms(self, network: nn.Module, observation: Tensor) -> tuple[Tensor, Tensor]:
        probabilities = network(observation).softmax(dim=-1)
        return self.support.expand_as(probabilities), probabilities
