"""What the references of the agents share: small agents, and steps of plain Adam on copies of their weights.

A reference computes the updates of an agent once more, from the paper's equations and with plain autograd. It calls
none of the package's algorithms, networks or densities. Everything runs in double precision, so that agreement means
the same formula.
"""

from collections.abc import Callable

import gymnasium as gym
import torch
from torch import Tensor

from ca14lib.agents import Agent
from ca14lib.data import Normalizer


def small_agent(
    agent_class: type[Agent], observations: gym.spaces.Box, actions: gym.Space, seed: int = 2, **settings: object
) -> Agent:
    """An agent in double precision with a normalizer, whose target networks differ from the trained ones."""
    config = agent_class.config_class(**{"hidden_sizes": (5,), "learning_rate": 0.01, "discount": 0.9} | settings)
    size = observations.shape[0]
    normalizer = Normalizer(torch.tensor([0.5, -1.0, 0.0])[:size], torch.tensor([2.0, 0.5, 1.0])[:size])
    agent = agent_class(observations, actions, config, normalizer=normalizer, seed=seed).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in agent.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(noise if not parameter.requires_grad else 0.5 * noise)
    return agent


def weights(agent: Agent, prefix: str = "") -> dict[str, Tensor]:
    """Copies of the parameters whose names begin so."""
    return {name: value.detach().clone() for name, value in agent.named_parameters() if name.startswith(prefix)}


class Reference:
    """Copies of an agent's weights, normalizer and generator; the algorithms are methods of the subclasses."""

    def __init__(self, agent: Agent) -> None:
        self.config, self.number = agent.config, 0  # of updates so far, where an algorithm counts them
        self.weights = weights(agent)
        self.shift, self.scale = agent.normalizer.mean.clone(), agent.normalizer.scale.clone()
        self.generator = torch.Generator()
        self.generator.set_state(agent.generator.get_state())
        self.optimizers: dict[str, torch.optim.Optimizer] = {}

    def net(self, name: str, *inputs: Tensor) -> Tensor:
        """One hidden layer of rectified linear units."""
        hidden = torch.cat(inputs, dim=-1) @ self.weights[f"{name}.0.weight"].T + self.weights[f"{name}.0.bias"]
        hidden = torch.where(hidden > 0, hidden, torch.zeros_like(hidden))
        return hidden @ self.weights[f"{name}.2.weight"].T + self.weights[f"{name}.2.bias"]

    def observe(self, observation: Tensor) -> Tensor:
        return (observation - self.shift) * self.scale

    def descend(self, name: str, loss: Callable[[], Tensor], rate: float | None = None) -> Tensor:
        """One Adam step on ``loss()`` of the network, or the single parameter, of that name."""
        trained = [value for key, value in self.weights.items() if key == name or key.startswith(f"{name}.")]
        for value in trained:
            value.requires_grad_(True)
        if name not in self.optimizers:
            self.optimizers[name] = torch.optim.Adam(trained, lr=self.config.learning_rate)
        if rate is not None:
            self.optimizers[name].param_groups[0]["lr"] = rate
        value = loss()
        for parameter, gradient in zip(trained, torch.autograd.grad(value, trained), strict=True):
            parameter.grad = gradient
        self.optimizers[name].step()
        for parameter in trained:
            parameter.requires_grad_(False)
        return value.detach()

    def follow(self, target: str, source: str) -> None:
        """The target's weights move the share ρ of the way."""
        rate = self.config.target_rate
        for key, value in self.weights.items():
            if key.startswith(f"{target}."):
                self.weights[key] = (1 - rate) * value + rate * self.weights[source + key.removeprefix(target)]
