"""Networks with an axis of agents: shared or separate parameters, agent identities, memory."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class AgentLinear(nn.Module):
    """A linear layer for every one of n agents, ``[…, n, in]`` to ``[…, n, out]``.

    Args:
        features: Size of the input.
        outputs: Size of the output.
        num_agents: n.
        shared: One weight matrix for all agents; otherwise each has its own, and they share nothing.
        identity: With shared weights, give every agent its own bias: the same function as a one-hot name of the agent
            in the input, without the product with zeros.
    """

    def __init__(
        self, features: int, outputs: int, num_agents: int, *, shared: bool = True, identity: bool = False
    ) -> None:
        super().__init__()
        self.num_agents, self.shared = num_agents, shared
        layers = [nn.Linear(features, outputs) for _ in range(1 if shared else num_agents)]
        if shared:
            self.weight = layers[0].weight
        else:  # [n, in, out], so that one batched product serves all
            self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]).contiguous())
        bias = torch.stack([layer.bias.detach() for layer in layers])
        if shared and identity:
            bias = bias + nn.Linear(num_agents, outputs).weight.detach().T  # what a one-hot input would add
        self.bias = nn.Parameter(bias.contiguous())  # [n, out], or [1, out] for one bias

    def forward(self, inputs: Tensor) -> Tensor:
        if inputs.shape[-2] != self.num_agents:
            raise ValueError(f"inputs must be [..., {self.num_agents}, features], got {tuple(inputs.shape)}")
        if self.shared:
            return nn.functional.linear(inputs, self.weight) + self.bias
        rows = inputs.reshape(-1, *inputs.shape[-2:]).transpose(0, 1)
        outputs = torch.baddbmm(self.bias.unsqueeze(1), rows, self.weight).transpose(0, 1)
        return outputs.reshape(*inputs.shape[:-1], -1)


class AgentGRU(nn.Module):
    """A gated recurrent unit for every agent (Cho et al., 2014), ``[…, n, in]`` and memory ``[…, n, M]``.

    Args:
        features: Size of the input.
        memory_size: M.
        num_agents: n.
        shared: One set of weights for all agents.
    """

    def __init__(self, features: int, memory_size: int, num_agents: int, *, shared: bool = True) -> None:
        super().__init__()
        self.of_input = AgentLinear(features, 3 * memory_size, num_agents, shared=shared)
        self.of_memory = AgentLinear(memory_size, 3 * memory_size, num_agents, shared=shared)

    def forward(self, inputs: Tensor, memory: Tensor) -> Tensor:
        """The next memory ``[…, n, M]``."""
        reset, update, candidate = self.of_input(inputs).chunk(3, dim=-1)
        reset_memory, update_memory, candidate_memory = self.of_memory(memory).chunk(3, dim=-1)
        keep = (update + update_memory).sigmoid()
        new = (candidate + (reset + reset_memory).sigmoid() * candidate_memory).tanh()
        return new + keep * (memory - new)


class TeamNetwork(nn.Module):
    """One multilayer perceptron per agent, with shared or separate parameters, and memory before the last layer.

    Args:
        features: Size of one agent's input.
        outputs: Size of one agent's output.
        num_agents: n.
        hidden_sizes: Width of every hidden layer, at least one.
        shared: One set of parameters for all agents, who are told apart by a bias of their own in the first layer.
        recurrent: Put a gated recurrent unit, as wide as the last hidden layer, before the output layer.
        layer_norm: Normalise every hidden layer before its activation.
        activation: What stands between the layers.
        output_scale: The output layer's initial weights are multiplied by it, its bias is then 0; 1 leaves both.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        num_agents: int,
        hidden_sizes: Sequence[int],
        *,
        shared: bool = True,
        recurrent: bool = False,
        layer_norm: bool = False,
        activation: type[nn.Module] = nn.ReLU,
        output_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.memory_size = hidden_sizes[-1] if recurrent else 0
        layers: list[nn.Module] = []
        for depth, (width, following) in enumerate(zip([features, *hidden_sizes], hidden_sizes)):
            layers.append(AgentLinear(width, following, num_agents, shared=shared, identity=depth == 0))
            layers += [nn.LayerNorm(following, elementwise_affine=False)] if layer_norm else []
            layers.append(activation())
        self.body = nn.Sequential(*layers)
        self.gru = AgentGRU(hidden_sizes[-1], self.memory_size, num_agents, shared=shared) if recurrent else None
        self.head = AgentLinear(hidden_sizes[-1], outputs, num_agents, shared=shared)
        if output_scale != 1.0:
            with torch.no_grad():
                self.head.weight.mul_(output_scale)
                self.head.bias.zero_()

    def forward(self, inputs: Tensor, memory: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """One step.

        Args:
            inputs: ``[…, n, features]``.
            memory: ``[…, n, M]``, None for zeros or without memory.
        Returns:
            Outputs ``[…, n, outputs]`` and the next memory (None without).
        """
        hidden = self.body(inputs)
        if self.gru is None:
            return self.head(hidden), None
        if memory is None:
            memory = hidden.new_zeros(*hidden.shape[:-1], self.memory_size)
        memory = self.gru(hidden, memory)
        return self.head(memory), memory

    def unrolled(self, inputs: Tensor, memory: Tensor | None = None, starts: Tensor | None = None) -> Tensor:
        """All outputs of a sequence; gradients flow back through the memory up to the start of the episode.

        Args:
            inputs: ``[T, B, n, features]``.
            memory: ``[B, n, M]`` before the first row; None for zeros.
            starts: ``[T, B]`` bool, rows before which the memory is cleared; None for none.
        Returns:
            ``[T, B, n, outputs]``.
        """
        hidden = self.body(inputs)
        if self.gru is None:
            return self.head(hidden)
        if memory is None:
            memory = hidden.new_zeros(*hidden.shape[1:-1], self.memory_size)
        memories = []
        for step in range(len(hidden)):
            if starts is not None:
                memory = memory * ~starts[step].unsqueeze(-1).unsqueeze(-1)
            memory = self.gru(hidden[step], memory)
            memories.append(memory)
        return self.head(torch.stack(memories))
