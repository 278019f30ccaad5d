"""Bootstrapped DQN with randomised priors (Osband et al., 2016; Osband et al., 2018). Book: robust/bayesian.

K heads on one trunk stand for draws from a posterior over Q: one of them is followed for a whole episode. What makes
them differ are stored masks, which give each head its own part of the data, and a fixed random function in each.
"""

import copy
import math
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from ca14lib.agents.base import ValueAgent, require
from ca14lib.agents.dqn import DQNConfig
from ca14lib.data import Transitions
from ca14lib.data.bootstrap_replay import BootstrapReplay, BootstrapTransitions
from ca14lib.environments import TabularModel
from ca14lib.networks import mlp, polyak_update


@dataclass(frozen=True)
class BootstrappedDQNConfig(DQNConfig):
    exploration: float = 0.0  # ε beside the heads
    num_heads: int = 10  # K
    mask_probability: float = 1.0  # p, eq. bootdqn-mask; below 1 the batches must bring stored masks
    prior_scale: float = 1.0  # β, eq. bootdqn-prior
    prior_size: int = 32  # hidden units of each prior network

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("num_heads", 2), ("prior_size", 1)):
            value = getattr(self, name)
            require(isinstance(value, int) and value >= least, name, value, f"an integer of at least {least}")
        require(0 < self.mask_probability <= 1, "mask_probability", self.mask_probability, "in (0, 1]")
        require(0 <= self.prior_scale < math.inf, "prior_scale", self.prior_scale, "at least 0 and finite")


def head_targets(
    reward: Tensor, terminated: Tensor, online_next_q: Tensor, target_next_q: Tensor, discount: float,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    r"""Double-Q targets, each head's from itself alone (book eq. bootdqn-target).

    Args:
        reward: ``[B]``.
        terminated: ``[B]`` bool.
        online_next_q: ``[B, K, A]``, priors included: head k picks its action.
        target_next_q: ``[B, K, A]``, priors included: the target of head k rates it.
        discount: :math:`\gamma`.
        mask: ``[B, A]``, allowed next actions, or None.
    Returns:
        ``[B, K]``.
    """
    if mask is not None:
        online_next_q = online_next_q.masked_fill(~mask.unsqueeze(1), -torch.inf)
    best = online_next_q.argmax(dim=-1, keepdim=True)
    value = target_next_q.gather(-1, best).squeeze(-1)
    return torch.where(terminated.unsqueeze(1), reward.unsqueeze(1), reward.unsqueeze(1) + discount * value)


def masked_loss(q: Tensor, target: Tensor, head_mask: Tensor) -> Tensor:
    """Half the squared errors, summed over heads and averaged over the batch (book eq. bootdqn-loss).

    A row that a head's mask leaves out counts 0 for that head.

    Args:
        q: ``[B, K]``, values of the actions taken.
        target: ``[B, K]``, must carry no gradient.
        head_mask: ``[B, K]`` bool.
    Returns:
        Scalar.
    """
    return 0.5 * (head_mask * (q - target).square()).sum(dim=1).mean()


def shared_gradient(features: Tensor, heads: int) -> Tensor:
    """The same features, whose gradient is divided by the number of heads that read them (book eq. bootdqn-trunk)."""
    return features.detach() + (features - features.detach()) / heads


class HeadedNetwork(nn.Module):
    """One trunk and K linear heads: ``[B, …]`` to ``[B, K, A]``."""

    def __init__(self, space: gym.Space, heads: int, actions: int, hidden_sizes: tuple[int, ...]) -> None:
        super().__init__()
        *before, width = hidden_sizes
        layers = mlp(space, width, before) if before else mlp(space, 1, hidden_sizes)[:-2]
        self.trunk = nn.Sequential(layers, nn.ReLU())
        self.head = nn.Linear(width, heads * actions)
        self.shape = (heads, actions)

    def forward(self, observation: Tensor) -> Tensor:
        features = shared_gradient(self.trunk(observation), self.shape[0])
        return self.head(features).unflatten(-1, self.shape)


class PriorNetworks(nn.Module):
    """K separate random networks with one hidden layer, never trained: their weights are buffers, not parameters."""

    first: Tensor
    bias: Tensor
    second: Tensor

    def __init__(self, space: gym.Space, heads: int, actions: int, hidden: int) -> None:
        super().__init__()
        self.categories = int(space.n) if isinstance(space, gym.spaces.Discrete) else 0
        inputs = self.categories or gym.spaces.flatdim(space)
        # of a one-hot input one weight counts, of a dense one all of them
        scale = 1.0 if self.categories else 1 / math.sqrt(inputs)
        self.register_buffer("first", scale * torch.randn(heads, inputs, hidden))
        self.register_buffer("bias", torch.randn(heads, 1, hidden))
        self.register_buffer("second", torch.randn(heads, hidden, actions) / math.sqrt(hidden))

    def forward(self, observation: Tensor) -> Tensor:
        """``[B, K, A]``."""
        if self.categories:
            hidden = self.first[:, observation]
        else:
            hidden = observation.reshape(len(observation), -1) @ self.first
        return ((hidden + self.bias).relu() @ self.second).transpose(0, 1)


class BootstrappedDQN(ValueAgent):
    """K value functions, of which one is followed per episode; deterministically it acts on their mean.

    ``train_off_policy(…, buffer=agent.replay(capacity, num_envs=…))`` stores the masks and tells the agent when an
    episode ends. ``heads`` are the active ones, one per environment.
    """

    config_class = BootstrappedDQNConfig
    config: BootstrappedDQNConfig

    def _build(self) -> None:
        config = self.config
        self.q_network = HeadedNetwork(self.observation_space, config.num_heads, self.num_actions, config.hidden_sizes)
        self.target_network = copy.deepcopy(self.q_network).requires_grad_(False)
        self.prior = PriorNetworks(self.observation_space, config.num_heads, self.num_actions, config.prior_size)
        self.optimizer = self._optimizer("q", self.q_network)
        self.heads = self._drawn_heads(1)

    # Acting: one head per episode

    def replay(self, capacity: int, *, num_envs: int = 1, seed: int = 0) -> BootstrapReplay:
        """A replay buffer that stores this agent's masks and makes it draw a head when an episode ends.

        Args:
            capacity: Transitions kept.
            num_envs: Environments stepped together, each of which gets a head now.
            seed: Fixes the masks.
        """
        self.heads = self._drawn_heads(num_envs)
        return BootstrapReplay(
            self.observation_space, self.action_space, capacity, heads=self.config.num_heads,
            probability=self.config.mask_probability, num_envs=num_envs, seed=seed, on_end=self.end_episodes,
            device=self.device,
        )  # fmt: skip

    def end_episodes(self, ended: ArrayLike | None = None) -> None:
        """Draw a new head in the environments whose episode has ended.

        Args:
            ended: Flags, one per environment; None for all.
        Raises:
            ValueError: If their number is not that of the active heads.
        """
        flags = np.ones(len(self.heads), dtype=bool) if ended is None else np.asarray(ended)
        if flags.shape != (len(self.heads),):
            raise ValueError(f"ended must have shape ({len(self.heads)},), one flag per active head, got {flags.shape}")
        self.heads = torch.where(torch.as_tensor(flags), self._drawn_heads(len(flags)), self.heads)

    def _drawn_heads(self, number: int) -> Tensor:
        return torch.randint(self.config.num_heads, (number,), generator=self.generator, device=self.device).cpu()

    def _policy(self, observation: Tensor, mask: ArrayLike | None, deterministic: bool) -> Tensor:
        """The policy ``[N, A]`` of the active heads; with one active head it is followed in all N rows."""
        if deterministic:
            return super()._policy(observation, mask, deterministic)
        if len(self.heads) not in (1, len(observation)):
            raise ValueError(
                f"there are {len(self.heads)} active heads for {len(observation)} observations: call replay first"
            )
        return self._head_policy(self._of_heads(self.head_values(observation), self.heads), mask)

    def _head_policy(self, scores: Tensor, mask: ArrayLike | None) -> Tensor:
        """ε-greedy on one head's values ``[N, A]``."""
        allowed = torch.ones_like(scores, dtype=torch.bool) if mask is None else self._allowed(mask, scores.shape)
        best = scores.masked_fill(~allowed, -torch.inf).argmax(dim=-1)
        greedy, epsilon = nn.functional.one_hot(best, self.num_actions), self.config.exploration
        return (1 - epsilon) * greedy + epsilon * allowed / allowed.sum(dim=-1, keepdim=True)

    @staticmethod
    def _of_heads(values: Tensor, heads: Tensor) -> Tensor:
        """The values ``[N, A]`` of one head per row, of ``[N, K, A]``."""
        return values[torch.arange(len(values)), heads.to(values.device).expand(len(values))]

    def policy_table(self, model: TabularModel, deterministic: bool = True) -> NDArray[np.float64]:
        """The greedy policy on the heads' mean, ``[S, A]``; else the average over what the active heads would do."""
        if deterministic:
            return super().policy_table(model)
        with torch.no_grad():
            values = self.head_values(self._states(model))
            tables = [self._head_policy(values[:, head], model.action_mask) for head in self.heads]
            table = torch.stack(tables).mean(dim=0).double().cpu().numpy()
        return table / table.sum(axis=1, keepdims=True)

    # Learning

    def head_values(self, observation: Tensor) -> Tensor:
        """Every head's values of raw observations, trained part plus prior, ``[N, K, A]`` (book eq. bootdqn-prior)."""
        rows = self._input(observation)
        return self.q_network(rows) + self.config.prior_scale * self.prior(rows)

    def _q_values(self, observation: Tensor) -> Tensor:
        return self.head_values(observation).mean(dim=1)

    def _scores(self, observation: Tensor) -> Tensor:
        return self._q_values(observation)

    def update(self, batch: Transitions) -> dict[str, Tensor]:
        head_mask, target = self._head_mask(batch), self._target(batch)
        values = self.head_values(batch.observation)
        q = values.gather(-1, batch.action[:, None, None].expand(-1, values.shape[1], 1)).squeeze(-1)
        loss = masked_loss(q, target, head_mask)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        polyak_update(self.target_network, self.q_network, self.config.target_rate)
        q = q.detach()
        return {"loss": loss.detach(), "q": q.mean(), "head_deviation": q.std(dim=1).mean()}

    def _head_mask(self, batch: Transitions) -> Tensor:
        """The stored masks; all ones where every head learns from everything."""
        shape = (len(batch), self.config.num_heads)
        stored = batch.head_mask if isinstance(batch, BootstrapTransitions) else None
        if stored is None:
            if self.config.mask_probability < 1:
                raise ValueError(
                    f"mask_probability {self.config.mask_probability} needs batches with stored masks: fill the buffer "
                    "of agent.replay(...), or set it to 1"
                )
            return torch.ones(shape, dtype=torch.bool, device=self.device)
        if stored.shape != shape:
            raise ValueError(f"head_mask must have shape {shape}, got {tuple(stored.shape)}")
        return stored

    @torch.no_grad()
    def _target(self, batch: Transitions) -> Tensor:
        following = self._input(batch.next_observation)
        prior = self.config.prior_scale * self.prior(following)
        online, target = self.q_network(following) + prior, self.target_network(following) + prior
        return head_targets(
            batch.reward, batch.terminated, online, target, self.config.discount, batch.next_action_mask
        )

    # Saving: the active heads belong to the state

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors, metadata = super().state()
        return tensors | {"heads": self.heads}, metadata

    def restore(self, tensors: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        if metadata.get("agent") != type(self).__name__:
            super().restore(tensors, metadata)  # which says what is wrong with another algorithm's checkpoint
        heads = tensors.get("heads")
        valid = heads is not None and heads.ndim == 1 and len(heads) > 0 and heads.dtype == torch.int64
        if not valid or heads.min() < 0 or heads.max() >= self.config.num_heads:  # type: ignore[union-attr]
            raise ValueError(f"the checkpoint's active heads must be integers in 0…{self.config.num_heads - 1}")
        super().restore(tensors, metadata)
        self.heads = heads.clone()  # type: ignore[union-attr]
