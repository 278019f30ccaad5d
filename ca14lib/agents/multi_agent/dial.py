"""DIAL: bits learnt through a noisy channel (Foerster et al., 2016). Book: multi_agent/communication.

While the team learns, a bit is a number between 0 and 1 with noise before its squashing; gradients of what the receiver
does go back through it to the sender. When the team acts, the bit is 0 or 1. What is sent at t is heard at t + 1.
The original learns Q-values with this channel; here policies do, with the update of the other teams of the section.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ca14lib.agents.base import require
from ca14lib.agents.multi_agent.communication import CommunicatingTeam, CommunicationConfig, Delivery
from ca14lib.agents.multi_agent.policy_team import OUTPUT_SCALE, mean_where
from ca14lib.networks import AgentLinear, TeamNetwork


@dataclass(frozen=True)
class DIALConfig(CommunicationConfig):
    channel_noise: float = 2.0  # σ, eq. dial-channel
    message_price: float = 0.0  # w_C in eq. communication-loss, per bit that is 1
    diversity_weight: float = 1.0  # w_M there, for the entropy of the bits
    clarity_weight: float = 1.0  # w_{M|X} there, against the entropy of the bits given what was seen

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.channel_noise < math.inf, "channel_noise", self.channel_noise, "positive and finite")
        for name in ("diversity_weight", "clarity_weight"):
            value = getattr(self, name)
            require(0 <= value < math.inf, name, value, "finite and at least 0")


def channel_bits(logits: Tensor, noise: Tensor | None, deviation: float) -> Tensor:
    r"""What a message is on the channel, :math:`\mathrm{sigmoid}(m+\sigma\xi)` or :math:`1[m>0]`.

    Book eq. dial-channel.

    Args:
        logits: :math:`m`, any shape.
        noise: :math:`\xi`, standard normal, same shape; None when the team acts.
        deviation: :math:`\sigma`.
    """
    return (logits > 0).to(logits.dtype) if noise is None else torch.sigmoid(logits + deviation * noise)


def in_turn(messages: Tensor) -> Tensor:
    """Messages ``[…, n, W]`` of the others side by side, ``[…, n, (n − 1) · W]``: of agents i + 1, i + 2, … in turn."""
    agents = messages.shape[-2]
    if agents == 1:
        return messages[..., :0]
    return torch.cat([messages.roll(-step, dims=-2) for step in range(1, agents)], dim=-1)


def signalling_loss(logits: Tensor, counts: Tensor, config: DIALConfig) -> Tensor:
    r"""The communication loss of bits, without the part on listening (book eq. communication-loss).

    A bit is 1 with probability :math:`\Phi(m/\sigma)`. Entropies are in nats and summed over bits as if these were
    independent; that of the average message is taken for each sender.

    Args:
        logits: ``[…, n, W]``.
        counts: ``[…, n]`` bool, steps of agents that count.
        config: Weights and the channel's noise.
    Returns:
        Scalar.
    """
    share = torch.special.ndtr(logits / config.channel_noise)
    rows, weight = share.reshape(-1, *share.shape[-2:]), counts.reshape(-1, counts.shape[-1], 1)
    average = torch.where(weight, rows, 0.0).sum(dim=0) / weight.sum(dim=0).clamp(min=1)
    diversity = mean_where(_entropy(average).sum(dim=-1), weight.any(dim=0).squeeze(-1))
    uncertainty = mean_where(_entropy(share).sum(dim=-1), counts)
    ones = mean_where(share.sum(dim=-1), counts)
    return config.clarity_weight * uncertainty - config.diversity_weight * diversity + config.message_price * ones


def _entropy(probability: Tensor) -> Tensor:
    """Of a coin, in nats; its gradient is finite at 0 and 1."""
    inside = probability.clamp(1e-6, 1 - 1e-6)
    return -(inside * inside.log() + (1 - inside) * (1 - inside).log())


class ChannelNetwork(nn.Module):
    """Policies that hear what was sent a step ago and send bits; memory is that of each agent and what it sent.

    Args:
        features: Size of one agent's input.
        outputs: Size of one agent's output.
        num_agents: n.
        hidden_sizes: Width of every hidden layer.
        message_size: W.
        deviation: σ.
        shared: One set of parameters for all agents.
        recurrent: Remember more than what was sent.
    """

    def __init__(
        self, features: int, outputs: int, num_agents: int, hidden_sizes: Sequence[int], message_size: int,
        deviation: float, *, shared: bool, recurrent: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.message_size, self.deviation = message_size, deviation
        self.team = TeamNetwork(
            features + (num_agents - 1) * message_size, outputs, num_agents, hidden_sizes, shared=shared,
            recurrent=recurrent, activation=nn.Tanh, output_scale=OUTPUT_SCALE,
        )  # fmt: skip
        self.say = AgentLinear(hidden_sizes[-1], message_size, num_agents, shared=shared)
        self.memory_size = self.team.memory_size + message_size

    @property
    def head(self) -> AgentLinear:
        """The layer that gives logits or means."""
        return self.team.head

    def forward(
        self, inputs: Tensor, memory: Tensor, noise: Tensor | None, present: Tensor | None, deliver: Delivery
    ) -> tuple[Tensor, Tensor, Tensor]:
        """One step.

        Args:
            inputs: ``[B, n, features]``.
            memory: ``[B, n, M]``, its last W entries what the agent sent a step ago.
            noise: ``[B, n, W]``, or None to send bits.
            present: ``[B, n]`` bool or None: who has left is not heard.
            deliver: The channel.
        Returns:
            Outputs ``[B, n, outputs]``, next memory, logits of the bits ``[B, n, W]``.
        """
        own, sent = memory.split([self.team.memory_size, self.message_size], dim=-1)
        arrived = deliver(sent) if present is None else deliver(sent) * present.unsqueeze(-1)
        hidden = self.team.body(torch.cat([inputs, in_turn(arrived)], dim=-1))
        if self.team.gru is not None:
            hidden = own = self.team.gru(hidden, own)
        logits = self.say(hidden)
        memory = torch.cat([own, channel_bits(logits, noise, self.deviation)], dim=-1)
        return self.team.head(hidden), memory, logits


class DIAL(CommunicatingTeam):
    """Bits through a noisy channel, learnt from the receivers' losses (book eq. dial-channel).

    The team learns through the noisy channel (``sample``) and acts through the hard one (``act``), with drawn and with
    deterministic actions alike.
    """

    config_class = DIALConfig
    config: DIALConfig
    _acting = False

    def _build_policy(self, outputs: int) -> nn.Module:
        config = self.config
        return ChannelNetwork(
            self.features, outputs, self.num_agents, config.hidden_sizes, config.message_size, config.channel_noise,
            shared=config.shared, recurrent=config.recurrent,
        )  # fmt: skip

    def act(self, observation: ArrayLike, memory: Tensor | None = None, **keywords) -> tuple[NDArray, Tensor]:  # type: ignore[no-untyped-def, override]
        self._acting = True
        try:
            return super().act(observation, memory, **keywords)
        finally:
            self._acting = False

    def _noise(self, inputs: Tensor) -> Tensor | None:
        if self._acting:
            return None
        shape = (*inputs.shape[:-1], self.config.message_size)
        return torch.randn(shape, generator=self.generator, device=self.device)

    def _step(self, inputs: Tensor, memory: Tensor | None, noise: Tensor | None) -> tuple[Tensor, Tensor | None]:
        outputs, memory, _ = self.policy(inputs, memory, noise, self._present(inputs), self._deliver)
        return outputs, memory

    def _replayed(
        self, inputs: Tensor, memory: Tensor | None, starts: Tensor | None, noise: Tensor | None, counts: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Step by step with the noise of then: what is sent at t is an input at t + 1, and gradients take that way."""
        assert memory is not None
        if noise is None:
            raise ValueError(f"{type(self).__name__} learns from what sample() drew: the batch has no noise")
        outputs, logits, present = [], [], self._present(inputs)
        for step in range(len(inputs)):
            if starts is not None:
                memory = memory * ~starts[step].unsqueeze(-1).unsqueeze(-1)
            there = None if present is None else present[step]
            output, memory, bits = self.policy(inputs[step], memory, noise[step], there, self._deliver)
            outputs.append(output)
            logits.append(bits)
        if self.config.communication_weight == 0:
            return torch.stack(outputs), None
        loss = self.config.communication_weight * signalling_loss(torch.stack(logits), counts, self.config)
        return torch.stack(outputs), loss

    @torch.no_grad()
    def messages(self, observation: ArrayLike, memory: Tensor | None = None) -> NDArray[np.int64]:
        """The bits that every agent sends on this observation, ``[N, n, W]``."""
        inputs, memory, _ = self._checked(observation, memory, None)
        _, _, logits = self.policy(inputs, memory, None, self._present(inputs), self._deliver)
        return (logits > 0).long().cpu().numpy()
