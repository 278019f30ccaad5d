"""The safety layer: actions corrected by a learned linear model of the next cost (Dalal et al., 2018).

Book: safe/mechanisms.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ca14lib.agents.base import gradient_step, require
from ca14lib.agents.safe.projection import nearest_action
from ca14lib.data import Transitions
from ca14lib.data.safety_buffer import SafetyBuffer
from ca14lib.networks import mlp


@dataclass(frozen=True)
class SafetyLayerConfig:
    """Settings of :class:`SafetyLayer`."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    learning_rate: float = 1e-3
    slack: float = 0.0  # σ, eq. safety-layer: the predicted cost is kept this much below the limit
    method: Literal["closed_form", "exact"] = "exact"  # one constraint as in the paper, or all of them and the bounds

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        require(0 < self.learning_rate < np.inf, "learning_rate", self.learning_rate, "positive and finite")
        require(0 <= self.slack < np.inf, "slack", self.slack, "at least 0 and finite")
        require(self.method in ("closed_form", "exact"), "method", self.method, "'closed_form' or 'exact'")


def safety_layer(
    action: ArrayLike,
    gradient: ArrayLike,
    cost: ArrayLike,
    limit: ArrayLike,
    slack: float = 0.0,
    *,
    least_gradient: float = 1e-8,
) -> NDArray[np.float64]:
    r"""Move an action just far enough that its most violated constraint holds (book eq. safety-layer-closed-form).

    The next cost is taken to be :math:`\bar c_k+g_k^\top a`. With one violated constraint the result is the nearest
    action that satisfies it. With several it corrects only the one of largest multiplier, as the paper does, and may
    leave the others violated; :func:`ca14lib.agents.safe.projection.nearest_action` handles all of them.

    Args:
        action: :math:`a`, ``[N, D]``.
        gradient: :math:`g`, ``[N, D]``, or ``[N, K, D]`` for K constraints.
        cost: :math:`\bar c`, the part that no action changes, ``[N]`` or ``[N, K]``.
        limit: A number, or ``[K]``.
        slack: :math:`\sigma \ge 0`, subtracted from the limit.
        least_gradient: Where :math:`g^\top g` is smaller, the action has no influence worth the name and stays.
    Returns:
        ``[N, D]``; not clipped to any bounds.
    Raises:
        ValueError: If shapes disagree or a number is not finite.
    """
    a, g, offset, limits = _constraints(action, gradient, cost, limit, slack)
    excess = np.einsum("nkd,nd->nk", g, a) + offset - limits
    square = (g**2).sum(axis=2)
    multiplier = np.maximum(np.divide(excess, square, out=np.zeros_like(excess), where=square > least_gradient), 0.0)
    row, worst = np.arange(len(a)), multiplier.argmax(axis=1)
    return a - multiplier[row, worst, None] * g[row, worst]


def _constraints(
    action: ArrayLike, gradient: ArrayLike, cost: ArrayLike, limit: ArrayLike, slack: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    a, g, offset, limits = (np.asarray(value, dtype=np.float64) for value in (action, gradient, cost, limit))
    if g.ndim == 2:
        g = g[:, None]
    if offset.ndim == 1:
        offset = offset[:, None]
    if a.ndim != 2 or g.ndim != 3 or g.shape[::2] != a.shape or offset.shape != g.shape[:2]:
        raise ValueError(
            f"action must be [N, D], gradient [N, K, D] and cost [N, K] (without K for one constraint), "
            f"got {np.shape(action)}, {np.shape(gradient)} and {np.shape(cost)}"
        )
    if limits.shape not in ((), (offset.shape[1],)):
        raise ValueError(f"limit must be a number or {offset.shape[1]} numbers, got shape {limits.shape}")
    for name, value in (("action", a), ("gradient", g), ("cost", offset), ("limit", limits)):
        if not np.isfinite(value).all():
            raise ValueError(f"{name} must be finite, got NaN or infinity")
    require(0 <= slack < np.inf, "slack", slack, "at least 0 and finite")
    return a, g, offset, limits - slack


class SafetyLayer(nn.Module):
    r"""Predicts the next cost as :math:`\bar c_\psi(s)+g_\psi(s)^\top a` and keeps it within a limit.

    Book eq. safety-layer. ``filter`` is an action filter: it belongs to the environment as far as the policy gradient
    is concerned. The result always lies within the action space; with the method ``"closed_form"`` that is done by
    clipping afterwards, which can break the constraint again, with ``"exact"`` bounds and constraints are met
    together where that is possible, and violated as little as possible where it is not.

    Args:
        observation_space: ``Box`` space of one observation.
        action_space: Bounded ``Box`` space of one action.
        limit: Of the cost after the step, a number or one for every constraint.
        config: The settings.
        signal: What is predicted and limited, a function from observations ``[N, …]`` to ``[N, K]``, such as a
            distance or a temperature; :math:`\bar c` is then its present value plus a learned drift. None predicts the
            recorded cost, and all of :math:`\bar c` is learned.
        num_costs: K.
        seed: Fixes the initial weights and the draws of batches.
    Raises:
        ValueError: If a space or an argument does not fit.
    """

    def __init__(
        self,
        observation_space: gym.Space,
        action_space: gym.Space,
        limit: float | ArrayLike,
        config: SafetyLayerConfig | None = None,
        *,
        signal: Callable[[NDArray], NDArray] | None = None,
        num_costs: int = 1,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not isinstance(observation_space, gym.spaces.Box):
            raise ValueError(f"observation_space must be a Box, got {observation_space}")
        if (
            not isinstance(action_space, gym.spaces.Box)
            or not action_space.is_bounded()
            or len(action_space.shape) != 1
        ):
            raise ValueError(f"action_space must be a bounded Box of one dimension, got {action_space}")
        if not (action_space.high > action_space.low).all():
            raise ValueError(f"action_space must leave a choice in every component, got {action_space}")
        self.config = SafetyLayerConfig() if config is None else config
        self.limit = np.asarray(limit, dtype=np.float64)
        if self.limit.shape not in ((), (num_costs,)) or not np.isfinite(self.limit).all():
            raise ValueError(f"limit must be one finite number, or one for each of {num_costs} costs, got {self.limit}")
        self.low, self.high = action_space.low.astype(np.float64), action_space.high.astype(np.float64)
        self.observation_space, self.signal, self.num_costs = observation_space, signal, num_costs
        self.actions = int(action_space.shape[0])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            outputs = num_costs * (self.actions + 1)  # the last column is the offset
            self.network = mlp(observation_space, outputs, self.config.hidden_sizes)
        self.generator = torch.Generator().manual_seed(seed)
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=self.config.learning_rate)
        self.calls = self.corrections = 0

    def sensitivity(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients ``[N, K, D]`` per unit of scaled action in [−1, 1], and offsets ``[N, K]``."""
        output = self.network(observation).reshape(len(observation), self.num_costs, self.actions + 1)
        gradient, offset = output[..., :-1], output[..., -1]
        if self.signal is not None:
            offset = offset + torch.as_tensor(self._signal(observation.numpy()), dtype=torch.float32)
        return gradient, offset

    def forward(self, observation: Tensor, action: Tensor) -> Tensor:
        """Predicted next cost ``[N, K]`` of actions ``[N, D]`` in the environment's units."""
        gradient, offset = self.sensitivity(observation)
        low, high = (torch.as_tensor(bound, dtype=torch.float32) for bound in (self.low, self.high))
        unit = (2 * action - low - high) / (high - low)
        return offset + torch.einsum("nkd,nd->nk", gradient, unit)

    def fit(self, data: Transitions | SafetyBuffer, updates: int, batch_size: int = 256) -> list[float]:
        """Least squares on recorded transitions; those of a :class:`SafetyBuffer` are drawn half of them unsafe.

        The weights of a stratified draw are not used: a correct model fits every stratum, and the rare one is what the
        filter needs.

        Args:
            data: With actions in the environment's units and costs ``[B, K]``.
            updates: Number of gradient steps, at least 1.
            batch_size: Transitions a step.
        Returns:
            The loss of every step.
        Raises:
            ValueError: If updates is under 1, or the data do not hold the layer's costs.
        """
        require(updates >= 1, "updates", updates, "at least 1")
        losses = []
        for _ in range(updates):
            if isinstance(data, SafetyBuffer):
                batch = data.sample(batch_size, self.generator).transitions
            else:
                batch = data.rows(torch.randint(len(data), (batch_size,), generator=self.generator))
            if self.signal is None:
                target = batch.cost
            else:
                target = torch.as_tensor(self._signal(batch.next_observation.numpy()), dtype=torch.float32)
            if target.shape[1] != self.num_costs:
                raise ValueError(f"data must have {self.num_costs} costs, got {target.shape[1]}")
            loss = (self(batch.observation, batch.action) - target).square().mean()
            gradient_step(self.optimizer, loss)
            losses.append(loss.detach())
        return torch.stack(losses).tolist()

    @torch.no_grad()
    def filter(self, observation: ArrayLike, action: ArrayLike) -> NDArray[np.float64]:
        """The executed actions ``[N, D]`` for observations ``[N, …]`` and the policy's actions ``[N, D]``.

        Raises:
            ValueError: If shapes disagree, or a number is not finite.
        """
        seen = torch.as_tensor(np.asarray(observation), dtype=torch.float32)
        wanted = np.asarray(action, dtype=np.float64)
        if wanted.shape != (len(seen), self.actions):
            raise ValueError(f"action must have shape {(len(seen), self.actions)}, got {wanted.shape}")
        gradient, offset = (part.double().numpy() for part in self.sensitivity(seen))
        half, centre = (self.high - self.low) / 2, (self.high + self.low) / 2
        slope = gradient / half  # per unit of the environment's action
        start = offset - slope @ centre
        inside = np.clip(wanted, self.low, self.high)
        if self.config.method == "closed_form":
            corrected = safety_layer(inside, slope, start, self.limit, self.config.slack)
            corrected = np.clip(corrected, self.low, self.high)
        else:
            bound = np.broadcast_to(self.limit - self.config.slack, start.shape) - start
            corrected = nearest_action(inside, slope, bound, low=self.low, high=self.high).action
        self.calls += len(seen)
        self.corrections += int((abs(corrected - inside) > 1e-6 * half).any(axis=1).sum())
        return corrected

    def _signal(self, observation: NDArray) -> NDArray[np.float64]:
        assert self.signal is not None
        value = np.asarray(self.signal(observation), dtype=np.float64)
        if value.ndim == 1 and self.num_costs == 1:
            value = value[:, None]
        if value.shape != (len(observation), self.num_costs):
            raise ValueError(f"signal must give shape {(len(observation), self.num_costs)}, got {value.shape}")
        return value
