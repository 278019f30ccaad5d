"""What communicating teams share: a channel that can be cut or scrambled, and rounds of talk.

Book: multi_agent/communication. The update is that of :class:`~ca14lib.agents.multi_agent.policy_team.PolicyTeam`, as
IPPO's and MAPPO's is: whatever these teams do better or worse is due to the channel.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ca14lib.agents.base import require
from ca14lib.agents.multi_agent.policy_team import (
    CRITIC_INPUTS,
    OUTPUT_SCALE,
    PolicyTeam,
    PolicyTeamConfig,
    mean_where,
)
from ca14lib.data import JointTransitions
from ca14lib.networks import AgentLinear, TeamNetwork

CHANNELS = ("open", "cut", "scrambled")
Delivery = Callable[[Tensor], Tensor]  # messages as they were sent to messages as they arrive


@dataclass(frozen=True)
class CommunicationConfig(PolicyTeamConfig):
    critic_input: str = "state+observation"  # or "state" or "observation", eq. mappo-critic
    message_size: int = 16  # W, numbers or bits per message
    channel: str = "open"  # "cut" trains the same team without hearing, to compare with
    leaving: bool = False  # agents that observe nothing but zeros have left: they neither speak nor are spoken to
    communication_weight: float = 0.0  # λ_comm, eq. communication-loss
    message_price: float = 1.0  # w_C in eq. communication-loss

    def __post_init__(self) -> None:
        super().__post_init__()
        expected = ", ".join(repr(name) for name in CRITIC_INPUTS)
        require(self.critic_input in CRITIC_INPUTS, "critic_input", repr(self.critic_input), f"one of {expected}")
        whole = isinstance(self.message_size, int) and not isinstance(self.message_size, bool)
        require(whole and self.message_size >= 1, "message_size", self.message_size, "a positive integer")
        require(self.channel in ("open", "cut"), "channel", repr(self.channel), "'open' or 'cut' for learning")
        for name in ("communication_weight", "message_price"):
            value = getattr(self, name)
            require(0 <= value < float("inf"), name, value, "finite and at least 0")


class CommunicatingTeam(PolicyTeam):
    """Base class of teams with a channel.

    ``with team.channel("cut"):`` acts without it, and ``"scrambled"`` exchanges the messages between copies of the
    game: what is heard looks as usual and has nothing to do with one's own game (book eq. channel-value says what to
    compute from the returns).
    """

    config_class = CommunicationConfig
    config: CommunicationConfig

    def _build(self) -> None:
        self.channel_mode: str = self.config.channel
        super()._build()

    @property
    def critic_input(self) -> str:  # type: ignore[override]
        return self.config.critic_input

    @contextmanager
    def channel(self, mode: str) -> Iterator[None]:
        """Act with the channel ``"open"``, ``"cut"`` (nothing is heard) or ``"scrambled"`` for a while.

        Raises:
            ValueError: If there is no such mode.
        """
        if mode not in CHANNELS:
            raise ValueError(f"channel must be one of {', '.join(CHANNELS)}, got {mode!r}")
        before, self.channel_mode = self.channel_mode, mode
        try:
            yield
        finally:
            self.channel_mode = before

    def _deliver(self, messages: Tensor) -> Tensor:
        """Messages ``[N, …]`` of N copies as they arrive through the channel."""
        if self.channel_mode == "cut":
            return torch.zeros_like(messages)
        if self.channel_mode == "open":
            return messages
        copies = len(messages)
        if copies < 2:
            raise ValueError("a scrambled channel exchanges messages between copies of the game and needs two of them")
        shift = torch.randint(1, copies, (1,), generator=self.generator, device=self.device)
        return messages[(torch.arange(copies, device=self.device) + shift) % copies]

    def _present(self, inputs: Tensor) -> Tensor | None:
        """``[…, n]`` bool: agents that are still in the game; None for all."""
        if not self.config.leaving:
            return None
        nothing = self._features(torch.zeros(self.observation_space.shape or (), device=self.device))
        return (inputs != nothing).any(dim=-1)

    def messages(self, observation: ArrayLike, memory: Tensor | None = None) -> NDArray:
        """What every agent sends on this observation, ``[N, n, …]``, whatever arrives of it.

        Args:
            observation: ``[N, n, …]``.
            memory: ``[N, n, M]`` of teams with memory.
        """
        raise NotImplementedError

    def update(self, batch: JointTransitions) -> dict[str, Tensor]:
        if self.channel_mode != self.config.channel:
            raise ValueError(
                f"{type(self).__name__} learns with the channel {self.config.channel}, now it is {self.channel_mode}"
            )
        return super().update(batch)


class TalkingNetwork(nn.Module):
    """Policies that exchange messages within a step: they look, remember, talk in rounds, then act.

    Each round updates what an agent thinks, :math:`h\\leftarrow\\tanh(W_hh+W_cc+W_0h_0)`, from what it heard c and its
    first thought :math:`h_0` (the skip connection of book eq. commnet-mean). All rounds have the same parameters.

    Args:
        features: Size of one agent's input.
        outputs: Size of one agent's output.
        num_agents: n.
        hidden_sizes: Widths of the layers before the talk; the last is that of h.
        exchange: Module that takes h, who is present and the delivery, and returns what is heard ``[…, n, W]`` and what
            was sent ``[…, n, S]``.
        message_size: W.
        rounds: Rounds of talk per step.
        shared: One set of parameters for all agents.
        recurrent: Remember with a gated recurrent unit before the talk.
    """

    def __init__(
        self, features: int, outputs: int, num_agents: int, hidden_sizes: Sequence[int], exchange: nn.Module,
        message_size: int, rounds: int, *, shared: bool, recurrent: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.look = TeamNetwork(
            features, outputs, num_agents, hidden_sizes, shared=shared, recurrent=recurrent, activation=nn.Tanh,
            output_scale=OUTPUT_SCALE,
        )  # fmt: skip
        self.memory_size, self.rounds, self.exchange = self.look.memory_size, rounds, exchange
        width = hidden_sizes[-1]
        self.keep, self.first = (AgentLinear(width, width, num_agents, shared=shared) for _ in range(2))
        self.hear = AgentLinear(message_size, width, num_agents, shared=shared)

    @property
    def head(self) -> AgentLinear:
        """The layer that gives logits or means."""
        return self.look.head

    def talk(self, hidden: Tensor, present: Tensor | None, deliver: Delivery) -> tuple[Tensor, Tensor]:
        """Thoughts ``[…, n, H]`` after all rounds, and what was sent ``[…, n, rounds, S]``."""
        first, sent = self.first(hidden), []
        for _ in range(self.rounds):
            heard, message = self.exchange(hidden, present, deliver)
            hidden = torch.tanh(self.keep(hidden) + self.hear(heard) + first)
            sent.append(message)
        return hidden, torch.stack(sent, dim=-2)

    def forward(
        self, inputs: Tensor, memory: Tensor | None, present: Tensor | None, deliver: Delivery
    ) -> tuple[Tensor, Tensor | None, Tensor]:
        """One step: outputs ``[…, n, outputs]``, the next memory and what was sent ``[…, n, rounds, S]``."""
        hidden = self.look.body(inputs)
        if self.look.gru is not None:
            assert memory is not None
            hidden = memory = self.look.gru(hidden, memory)
        hidden, sent = self.talk(hidden, present, deliver)
        return self.look.head(hidden), memory, sent

    def unrolled(
        self, inputs: Tensor, memory: Tensor | None, starts: Tensor | None, present: Tensor | None, deliver: Delivery
    ) -> tuple[Tensor, Tensor]:
        """Outputs and what was sent of a sequence ``[T, B, n, features]``; ``starts`` are rows that begin episodes."""
        hidden = self.look.body(inputs)
        if self.look.gru is not None:
            assert memory is not None
            memories = []
            for step in range(len(hidden)):
                if starts is not None:
                    memory = memory * ~starts[step].unsqueeze(-1).unsqueeze(-1)
                memory = self.look.gru(hidden[step], memory)
                memories.append(memory)
            hidden = torch.stack(memories)
        hidden, sent = self.talk(hidden, present, deliver)
        return self.look.head(hidden), sent


class TalkingTeam(CommunicatingTeam):
    """Base class of teams that talk in rounds within a step; a subclass builds the exchange."""

    config: Any

    def _exchange(self, hidden_size: int) -> nn.Module:
        raise NotImplementedError

    def _build_policy(self, outputs: int) -> nn.Module:
        config = self.config
        return TalkingNetwork(
            self.features, outputs, self.num_agents, config.hidden_sizes, self._exchange(config.hidden_sizes[-1]),
            config.message_size, config.rounds, shared=config.shared, recurrent=config.recurrent,
        )  # fmt: skip

    def _step(self, inputs: Tensor, memory: Tensor | None, noise: Tensor | None) -> tuple[Tensor, Tensor | None]:
        outputs, memory, _ = self.policy(inputs, memory, self._present(inputs), self._deliver)
        return outputs, memory

    def _replayed(
        self, inputs: Tensor, memory: Tensor | None, starts: Tensor | None, noise: Tensor | None, counts: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        outputs, sent = self.policy.unrolled(inputs, memory, starts, self._present(inputs), self._deliver)  # type: ignore[operator]
        weight = self.config.communication_weight * self.config.message_price
        if weight == 0:
            return outputs, None
        return outputs, weight * mean_where(sent.square().sum(dim=(-2, -1)), counts)

    @torch.no_grad()
    def messages(self, observation: ArrayLike, memory: Tensor | None = None) -> NDArray[np.float32]:
        """What every agent sends on this observation, all rounds in a row, ``[N, n, rounds · S]``."""
        inputs, memory, _ = self._checked(observation, memory, None)
        _, _, sent = self.policy(inputs, memory, self._present(inputs), self._deliver)
        return sent.flatten(-2).cpu().numpy()


def others(num_agents: int, present: Tensor | None, device: torch.device) -> Tensor:
    """Who hears whom: ``[n, n]`` bool, or ``[…, n, n]`` if agents have left; nobody hears itself.

    Args:
        num_agents: n.
        present: ``[…, n]`` bool, or None for all.
        device: Of the result.
    """
    apart = ~torch.eye(num_agents, dtype=torch.bool, device=device)
    return apart if present is None else apart & present.unsqueeze(-1) & present.unsqueeze(-2)
