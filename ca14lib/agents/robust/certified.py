"""What a policy can do anywhere in a ball, proved: interval and linear bounds of networks, and a bound on the return.

Interval bound propagation (Gowal et al., 2018) and linear bounds run backwards (CROWN: Zhang et al., 2018; Weng et
al., 2018). Book: robust/adversarial. Bounds are computed in double precision, and what is decided by less than
``SLACK`` counts as undecided, because the agent itself computes in single precision.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ca14lib.agents.base import Agent, require
from ca14lib.agents.on_policy import OnPolicyAgent
from ca14lib.agents.robust.perturbations import require_epsilon
from ca14lib.networks.mlp import Flat

SLACK = 1e-4  # of a difference of logits: hundreds of times the rounding of a small network in single precision


class Bounds(NamedTuple):
    """Elementwise bounds, ``[B, D]`` each."""

    low: Tensor
    high: Tensor


def interval_linear(bounds: Bounds, weight: Tensor, bias: Tensor | None) -> Bounds:
    r"""Bounds of :math:`Wx+b` over a box: :math:`W^+l+W^-h+b` and :math:`W^+h+W^-l+b` (book eq. certified-interval).

    Args:
        bounds: ``[B, D]`` each.
        weight: ``[E, D]``.
        bias: ``[E]`` or None.
    Returns:
        ``[B, E]`` each.
    """
    positive, negative = weight.clamp(min=0).T, weight.clamp(max=0).T
    shift = 0.0 if bias is None else bias
    return Bounds(
        bounds.low @ positive + bounds.high @ negative + shift, bounds.high @ positive + bounds.low @ negative + shift
    )


def interval_bounds(layers: list[nn.Module], bounds: Bounds) -> Bounds:
    """Bounds of a network's outputs over boxes, layer by layer (book eq. certified-interval).

    Args:
        layers: ``Linear``, ``Tanh``, ``ReLU``, in double precision.
        bounds: Of the input, ``[B, D]`` each.
    Raises:
        ValueError: If there is a layer of another kind.
    """
    for layer in layers:
        if isinstance(layer, nn.Linear):
            bounds = interval_linear(bounds, layer.weight, layer.bias)
        elif isinstance(layer, nn.Tanh | nn.ReLU):
            bounds = Bounds(layer(bounds.low), layer(bounds.high))  # increasing functions
        else:
            raise ValueError(f"bounds are known for Linear, Tanh and ReLU layers, got {type(layer).__name__}")
    return bounds


class Relaxation(NamedTuple):
    """Lines under and over an activation on an interval: slopes and offsets, ``[B, D]`` each."""

    low_slope: Tensor
    low_offset: Tensor
    high_slope: Tensor
    high_offset: Tensor


def tanh_relaxation(bounds: Bounds) -> Relaxation:
    r"""Two parallel lines around tanh on :math:`[l,h]` (book eq. certified-tanh).

    With :math:`\lambda=\min(\tanh'(l),\tanh'(h))`, the smallest slope on the interval, tanh lies over the line through
    its left end and under the line through its right end.
    """
    low, high = bounds.low.tanh(), bounds.high.tanh()
    slope = torch.minimum(1 - low.square(), 1 - high.square())
    return Relaxation(slope, low - slope * bounds.low, slope, high - slope * bounds.high)


def relu_relaxation(bounds: Bounds) -> Relaxation:
    """The chord over ReLU, and under it 0 or the identity, whichever leaves the smaller area (Zhang et al., 2018)."""
    low, high = bounds
    zero, one = torch.zeros_like(low), torch.ones_like(low)
    crossing = (low < 0) & (high > 0)
    chord = torch.where(crossing, high / (high - low).clamp(min=1e-30), (low >= 0).to(low.dtype))
    under = torch.where(crossing, torch.where(high > -low, one, zero), chord)
    return Relaxation(under, zero, chord, torch.where(crossing, -chord * low, zero))


def linear_bounds(layers: list[nn.Module], inputs: Bounds, target: Tensor | None = None) -> Bounds:
    r"""Bounds of linear functions of a network's outputs over boxes, by lines run backwards (book eq. certified-crown).

    Every activation is replaced by lines under and over it, on bounds of its input that are found in the same way, and
    the composition of lines is minimised over the box exactly. Never looser than intervals: the tighter of both counts.

    Args:
        layers: ``Linear`` layers with ``Tanh`` or ``ReLU`` between them, in double precision; first and last linear.
        inputs: ``[B, D]`` each.
        target: ``[M, outputs]``, the linear functions :math:`C` of the outputs; None for the outputs themselves.
    Returns:
        Of :math:`Cf(x)`, ``[B, M]`` each.
    """
    linear, activations = layers[::2], layers[1::2]
    known = all(isinstance(layer, nn.Linear) for layer in linear) and len(linear) == len(activations) + 1
    if not known or not all(isinstance(layer, nn.Tanh | nn.ReLU) for layer in activations):
        raise ValueError(f"bounds are known for Linear layers with Tanh or ReLU between them, got {layers}")
    relaxations: list[Relaxation] = []
    intervals = inputs  # of what enters the present linear layer
    found = inputs
    for depth, layer in enumerate(linear):
        assert isinstance(layer, nn.Linear)
        weight: Tensor = layer.weight
        bias: Tensor = layer.bias
        if depth == len(linear) - 1 and target is not None:
            weight, bias = target @ weight, target @ bias
        plain = interval_linear(intervals, weight, bias)
        found = _backwards(linear[:depth], relaxations, inputs, weight, bias)  # type: ignore[arg-type]
        found = Bounds(torch.maximum(found.low, plain.low), torch.minimum(found.high, plain.high))
        if depth < len(activations):
            tanh = isinstance(activations[depth], nn.Tanh)
            relaxations.append(tanh_relaxation(found) if tanh else relu_relaxation(found))
            intervals = Bounds(activations[depth](found.low), activations[depth](found.high))
    return found


def _backwards(
    linear: list[nn.Linear], relaxations: list[Relaxation], inputs: Bounds, weight: Tensor, bias: Tensor
) -> Bounds:
    """Bounds of ``weight @ h + bias`` with h what the given layers make of the inputs, through their lines."""
    if not linear:
        return interval_linear(inputs, weight, bias)
    ends = []
    for sign in (1.0, -1.0):  # the upper bound is minus the lower bound of minus the function
        slope, offset = _through_first(linear[-1], relaxations[-1], sign * weight, sign * bias)
        for layer, lines in zip(reversed(linear[:-1]), reversed(relaxations[:-1]), strict=True):
            positive, negative = slope.clamp(min=0), slope.clamp(max=0)
            offset = (
                offset
                + (positive * lines.low_offset.unsqueeze(1)).sum(dim=-1)
                + (negative * lines.high_offset.unsqueeze(1)).sum(dim=-1)
            )
            slope = positive * lines.low_slope.unsqueeze(1) + negative * lines.high_slope.unsqueeze(1)
            offset, slope = offset + slope @ layer.bias, slope @ layer.weight
        least = (slope.clamp(min=0) * inputs.low.unsqueeze(1) + slope.clamp(max=0) * inputs.high.unsqueeze(1)).sum(-1)
        ends.append(sign * (least + offset))
    return Bounds(ends[0], ends[1])


def _through_first(layer: nn.Linear, lines: Relaxation, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes ``[B, M, inputs]`` and offsets ``[B, M]`` under ``weight @ activation(layer(h)) + bias``.

    The weights are still the same for the whole batch, so that all of it is matrix products of the lines with them.
    """
    positive, negative = weight.clamp(min=0), weight.clamp(max=0)
    offset = bias + lines.low_offset @ positive.T + lines.high_offset @ negative.T
    offset = offset + lines.low_slope @ (positive * layer.bias).T + lines.high_slope @ (negative * layer.bias).T
    slope = sum(
        line @ torch.einsum("mh,hd->hmd", part, layer.weight).flatten(1)
        for line, part in ((lines.low_slope, positive), (lines.high_slope, negative))
    )
    assert isinstance(slope, Tensor)
    return slope.reshape(len(offset), len(weight), layer.in_features), offset


class CertifiedPolicy:
    """The actions that a deterministic policy may take when its observations are moved within a ball.

    Args:
        agent: An on-policy agent with discrete actions and a one-dimensional ``Box`` of observations.
        epsilon: Radius in the largest norm, in units of the agent's normalised observations.
        linear: Linear bounds; False for intervals alone.
    Raises:
        ValueError: If ε is negative or the agent of another kind.
    """

    def __init__(self, agent: Agent, epsilon: float, *, linear: bool = True) -> None:
        require_epsilon(epsilon)
        discrete = isinstance(agent, OnPolicyAgent) and agent.discrete
        require(discrete, "agent", type(agent).__name__, "an on-policy agent with discrete actions")
        assert isinstance(agent, OnPolicyAgent)
        shape = agent.observation_space.shape
        require(len(shape or ()) == 1, "observation shape", shape, "one-dimensional")
        self.agent, self.epsilon, self.linear = agent, epsilon, linear
        network = agent.policy.network
        # a copy in double precision: the agent goes on in single
        self.layers: list[nn.Module] = []
        for layer in network:
            if isinstance(layer, nn.Linear):
                copy = nn.Linear(layer.in_features, layer.out_features, dtype=torch.float64).requires_grad_(False)
                copy.weight.copy_(layer.weight)
                copy.bias.copy_(layer.bias)
                self.layers.append(copy)
            elif not isinstance(layer, Flat):
                self.layers.append(layer)

    @torch.no_grad()
    def margins(self, observation: NDArray) -> Bounds:
        """Bounds of the lead of every action over every other in the ball, ``[B, A, A]`` each: entry (a, b) is of
        the logit of a minus that of b.

        Args:
            observation: ``[B, D]``, without a perturbation, in the environment's units.
        """
        rows = torch.as_tensor(np.asarray(observation), dtype=torch.float64, device="cpu")
        normalizer = self.agent.normalizer
        if normalizer is not None:
            rows = (rows - normalizer.mean.double().cpu()) * normalizer.scale.double().cpu()
        box = Bounds(rows - self.epsilon, rows + self.epsilon)
        count = self.agent.num_actions
        first, second = torch.triu_indices(count, count, offset=1)
        identity = torch.eye(count, dtype=torch.float64)
        leads = identity[first] - identity[second]  # the lead of b over a is minus that of a over b
        if self.linear:
            found = linear_bounds(self.layers, box, leads)
        else:
            last = self.layers[-1]
            assert isinstance(last, nn.Linear)
            found = interval_linear(interval_bounds(self.layers[:-1], box), leads @ last.weight, leads @ last.bias)
        low, high = (torch.zeros(len(rows), count, count, dtype=torch.float64) for _ in range(2))
        low[:, first, second], high[:, first, second] = found.low, found.high
        low[:, second, first], high[:, second, first] = -found.high, -found.low
        return Bounds(low, high)

    def possible(self, observation: NDArray) -> NDArray[np.bool_]:
        """Whether an action may be the best one somewhere in the ball, ``[B, A]`` (book eq. certified-actions).

        An action that is not marked is the best nowhere in the ball: that is proved. One that is marked need not be.
        """
        low = self.margins(observation).low
        beaten = (low > SLACK).any(dim=1)  # some other action leads it all over the ball
        return (~beaten).numpy()


Successor = Callable[[NDArray[np.float64], NDArray[np.int64]], tuple[NDArray[np.float64], NDArray, NDArray[np.bool_]]]


def certified_return(
    possible: Callable[[NDArray[np.float64]], NDArray[np.bool_]],
    successor: Successor,
    start: NDArray[np.float64],
    horizon: int,
    cap: int = 4_096,
) -> float:
    """A lower bound on the undiscounted return from a start, whatever an adversary shows (book eq. certified-return).

    The tree of all states that certified sets of actions allow is followed step by step. It is exact as long as it has
    no more than ``cap`` branches; when it has, the episode is cut there, and what came so far counts.

    Args:
        possible: States ``[B, D]`` to actions that are possible there, ``[B, A]``.
        successor: States ``[B, D]`` and actions ``[B]`` to next states, rewards of at least 0 ``[B]`` and ends ``[B]``;
            deterministic.
        start: ``[D]``.
        horizon: Steps after which the episode is cut.
        cap: Largest number of branches.
    Returns:
        The smallest return of any branch.
    Raises:
        ValueError: If a number is out of range, a reward negative, or a state has no possible action.
    """
    for name, value in (("horizon", horizon), ("cap", cap)):
        whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
        require(whole, name, value, "a positive integer")
    states = np.asarray(start, dtype=np.float64)[None]
    earned, lowest = np.zeros(1), np.inf
    for _ in range(horizon):
        allowed = possible(states)
        if not allowed.any(axis=1).all():
            raise ValueError("every state must have a possible action, got none for some state")
        if allowed.sum() > cap:
            break
        row, action = np.nonzero(allowed)
        following, reward, ended = successor(states[row], action)
        if (reward < 0).any():
            raise ValueError(f"a cut episode is bounded only if no reward is negative, got {reward.min()}")
        totals = earned[row] + reward
        if ended.any():
            lowest = min(lowest, float(totals[ended].min()))
        states, earned = following[~ended], totals[~ended]
        # a branch that has earned as much as the worst ended one cannot end lower
        keep = earned < lowest
        states, earned = states[keep], earned[keep]
        if not len(states):
            return lowest
    return float(min(lowest, earned.min()))
