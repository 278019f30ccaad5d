r"""Choosing actions by a functional of their return distribution, for all distributional agents.

Book: robust/distributional. Everything here takes **returns**: a higher value is better, and ``tail`` is the mass of
the lower tail, :math:`\alpha` on that page. ``metrics.risk`` has the same measures for losses and for arrays.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ca14lib.agents.base import require
from ca14lib.agents.dqn import DQN, DQNConfig


def mean_value(values: Tensor, probabilities: Tensor | None = None) -> Tensor:
    """Mean of atoms (book eq. risk-choice-mean).

    Args:
        values: ``[…, N]``.
        probabilities: ``[…, N]``, or None for atoms of equal weight.
    Returns:
        ``[…]``.
    """
    return values.mean(dim=-1) if probabilities is None else (values * probabilities).sum(dim=-1)


def lower_tail_mean(values: Tensor, tail: float, probabilities: Tensor | None = None) -> Tensor:
    r"""Mean of the lowest share ``tail`` of a distribution, its lower CVaR (book eq. risk-choice-cvar).

    The atom across the border of the tail counts with the part that fills the tail. Atoms need not be in order:
    quantiles of a network may cross, and what they stand for is the mixture of atoms.

    Args:
        values: Atoms, ``[…, N]``.
        tail: :math:`\alpha` in (0, 1]; 1 is the mean.
        probabilities: ``[…, N]``, or None for atoms of equal weight.
    Returns:
        ``[…]``.
    Raises:
        ValueError: If the tail is out of range.
    """
    _check_tail(tail)
    ordered, order = values.sort(dim=-1)
    count = values.shape[-1]
    if probabilities is None:
        position = torch.arange(count, device=values.device, dtype=values.dtype)
        taken = (tail * count - position).clamp(0, 1)
    else:
        mass = probabilities.expand_as(values).gather(-1, order)
        taken = torch.minimum((tail - (mass.cumsum(dim=-1) - mass)).clamp(min=0), mass)
    return (taken * ordered).sum(dim=-1) / taken.sum(dim=-1)


def entropic_value(values: Tensor, beta: float, probabilities: Tensor | None = None) -> Tensor:
    r"""Certainty equivalent :math:`-\tfrac1\beta\log\mathbb E[e^{-\beta Z}]` (book eq. risk-choice-entropic).

    Args:
        values: Atoms, ``[…, N]``.
        beta: Risk aversion :math:`\beta>0`, in units of one over those of the return.
        probabilities: ``[…, N]``, or None for atoms of equal weight.
    Returns:
        ``[…]``, at most the mean.
    Raises:
        ValueError: If the aversion is not positive and finite.
    """
    _check_aversion(beta)
    exponent = -beta * values
    if probabilities is None:
        return (np.log(values.shape[-1]) - torch.logsumexp(exponent, dim=-1)) / beta
    return -torch.logsumexp(exponent + probabilities.log(), dim=-1) / beta


def _check_tail(tail: float) -> None:
    if not 0 < tail <= 1:
        raise ValueError(f"tail must lie in (0, 1], got {tail}")


def _check_aversion(beta: float) -> None:
    if not 0 < beta < np.inf:
        raise ValueError(f"beta must be positive and finite, got {beta}")


RISKS: dict[str, Callable[[Tensor, float, Tensor | None], Tensor]] = {
    "mean": lambda values, _, probabilities: mean_value(values, probabilities),
    "cvar": lower_tail_mean,
    "entropic": entropic_value,
}


@dataclass(frozen=True)
class RiskChoice:
    r"""What a distributional agent maximises when it picks an action (book eq. risk-choice-greedy).

    Attributes:
        measure: ``"mean"``, ``"cvar"`` or ``"entropic"``.
        parameter: Of ``cvar`` the tail :math:`\alpha` in (0, 1], of ``entropic`` the aversion :math:`\beta>0`.

    Raises:
        ValueError: If the measure is unknown or its parameter out of range.
    """

    measure: str = "mean"
    parameter: float = 1.0

    def __post_init__(self) -> None:
        if self.measure not in RISKS:
            raise ValueError(f"risk must be one of {', '.join(RISKS)}, got {self.measure!r}")
        if self.measure == "cvar":
            _check_tail(self.parameter)
        if self.measure == "entropic":
            _check_aversion(self.parameter)

    def __call__(self, values: Tensor, probabilities: Tensor | None = None) -> Tensor:
        """Scores ``[…]`` of distributions with atoms ``[…, N]``; without probabilities all weigh the same."""
        return RISKS[self.measure](values, self.parameter, probabilities)

    @property
    def upper_fraction(self) -> float:
        """Largest fraction whose quantile counts: the tail for ``cvar``, else 1 (book eq. risk-choice-distortion)."""
        return self.parameter if self.measure == "cvar" else 1.0


@dataclass(frozen=True)
class DistributionalConfig(DQNConfig):
    double: bool = False  # the online network picks the next action; as published, the target network does
    risk: str = "mean"  # ρ, eq. risk-choice-greedy: mean, cvar or entropic
    risk_parameter: float = 1.0  # α, mass of the lower tail, of cvar; β of entropic
    risk_in_target: bool = True  # the next action is ρ's too: the distribution learned is that of the policy acted on

    def __post_init__(self) -> None:
        super().__post_init__()
        RiskChoice(self.risk, self.risk_parameter)


class DistributionalAgent(DQN):
    """Base class: a network of return distributions, and actions that maximise a functional of them.

    A subclass implements :meth:`_build`, :meth:`update` and :meth:`_atoms`.
    """

    config_class = DistributionalConfig
    config: DistributionalConfig

    def _atoms(self, network: nn.Module, observation: Tensor) -> tuple[Tensor, Tensor | None]:
        """Atoms ``[B, A, N]`` and their probabilities ``[B, A, N]``, None if all are equal, of what networks see."""
        raise NotImplementedError

    @property
    def risk(self) -> RiskChoice:
        """What actions are chosen by."""
        return RiskChoice(self.config.risk, self.config.risk_parameter)

    @property
    def target_risk(self) -> RiskChoice:
        """What the next action of the learning target is chosen by."""
        return self.risk if self.config.risk_in_target else RiskChoice()

    def with_risk(self, measure: str, parameter: float = 1.0) -> Self:
        """A copy with the same networks that chooses by another functional.

        The distributions stay those of the policy that was learned; trained on, the copy learns those of its own.

        Args:
            measure: ``"mean"``, ``"cvar"`` or ``"entropic"``.
            parameter: The tail in (0, 1] of ``cvar``, the aversion of ``entropic``.
        Raises:
            ValueError: If the measure is unknown or its parameter out of range.
        """
        config = replace(self.config, risk=measure, risk_parameter=parameter)
        copy = type(self)(
            self.observation_space, self.action_space, config, normalizer=self.normalizer, device=self.device
        )
        copy.load_state_dict(self.state_dict())
        for name, optimizer in self.optimizers.items():
            copy.optimizers[name].load_state_dict(optimizer.state_dict())
        copy.generator.set_state(self.generator.get_state())
        copy.updates = self.updates
        return copy

    @torch.no_grad()
    def return_distribution(self, observation: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The learned distribution of the return after every action.

        Args:
            observation: ``[B, …]``.
        Returns:
            Atoms, ascending, and their probabilities, both ``[B, A, N]``.
        """
        values, probabilities = self._atoms(self.q_network, self._input(self._observation_tensor(observation)))
        if probabilities is None:
            probabilities = torch.full_like(values, 1 / values.shape[-1])
        ordered, order = values.sort(dim=-1)
        return ordered.double().cpu().numpy(), probabilities.gather(-1, order).double().cpu().numpy()

    def _q_values(self, observation: Tensor) -> Tensor:
        return mean_value(*self._atoms(self.q_network, self._input(observation)))

    def _scores(self, observation: Tensor) -> Tensor:
        return self.risk(*self._atoms(self.q_network, self._input(observation)))


def best_action(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """The allowed action with the largest score.

    Args:
        scores: ``[B, A]``.
        mask: ``[B, A]``, true where an action is allowed, or None.
    Returns:
        ``[B]``.
    """
    return (scores if mask is None else scores.masked_fill(~mask, -torch.inf)).argmax(dim=1)


def of_action(distributions: Tensor, action: Tensor) -> Tensor:
    """One action's row: ``[B, A, N]`` and ``[B]`` to ``[B, N]``."""
    return distributions[torch.arange(len(action), device=action.device), action]


def require_count(name: str, value: int, least: int = 1) -> None:
    """Raise a ValueError unless the setting is a whole number of at least ``least``."""
    require(isinstance(value, int) and value >= least, name, value, f"an integer of at least {least}")
