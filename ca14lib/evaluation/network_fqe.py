"""Fitted Q evaluation where observations do not repeat: networks, one per weighting of the episodes, trained at once.

Le, Voloshin and Yue (2019). Book: offline/off_policy_evaluation.
"""

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from torch.func import functional_call, stack_module_state

from ca14lib.agents.base import require
from ca14lib.data import OfflineDataset
from ca14lib.evaluation.logs import Array, Log
from ca14lib.networks import mlp


@dataclass(frozen=True)
class FittedQConfig:
    """Settings of fitted Q evaluation with networks, for observations that do not repeat."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    learning_rate: float = 1e-3
    batch_size: int = 256
    updates: int = 3_000
    target_rate: float = 0.01  # η, eq. polyak
    refits: int = 20  # bootstrap resamples, each with a network of its own

    def __post_init__(self) -> None:
        for name in ("batch_size", "updates"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "positive")
        require(0 < self.target_rate <= 1, "target_rate", self.target_rate, "in (0, 1]")
        require(self.refits >= 2, "refits", self.refits, "at least 2, to have an interval")


def network_values(
    dataset: OfflineDataset,
    log: Log,
    probability: Array,
    weights: Array,
    discount: float,
    config: FittedQConfig,
    seed: int,
) -> Array:
    """Q by fitted evaluation with one network per weighting, all trained at once (book eq. ope-fqe).

    Args:
        dataset: Gives the observation space and the normaliser.
        log: The log of ``dataset``.
        probability: The policy's probabilities of all actions at every distinct observation, ``[U, A]``.
        weights: Whole numbers: how often an episode's transitions stand in a network's data, ``[K, episodes]``.
        discount: In (0, 1].
        config: Settings of the networks.
        seed: Fixes initial weights and batches.
    Returns:
        ``[K, U, A]``, K being the number of weightings and U that of distinct observations.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        networks = [mlp(dataset.observation_space, log.num_actions, config.hidden_sizes) for _ in weights]
    parameters, buffers = stack_module_state(networks)
    bare = deepcopy(networks[0]).to("meta")
    target = {name: value.detach().clone() for name, value in parameters.items()}
    optimizer = torch.optim.Adam(parameters.values(), lr=config.learning_rate)

    def forward(values: dict[str, torch.Tensor], observation: torch.Tensor) -> torch.Tensor:
        return torch.vmap(lambda own, x: functional_call(bare, (own, buffers), (x,)), in_dims=(0, 0))(
            values, observation
        )

    normalizer = dataset.normalizer()
    row = torch.as_tensor(log.row) if normalizer is None else normalizer.cpu()(torch.as_tensor(log.row))
    policy = torch.as_tensor(probability, dtype=torch.float32)
    state, following, action = (torch.as_tensor(x) for x in (log.state, log.following, log.action))
    reward = torch.as_tensor(log.reward, dtype=torch.float32)
    going_on = torch.as_tensor(discount * ~log.terminated, dtype=torch.float32)
    own = [torch.as_tensor(np.repeat(np.arange(len(log.state)), w[log.episode].astype(np.intp))) for w in weights]
    sizes = torch.tensor([len(rows) for rows in own], dtype=torch.float64)[:, None]
    offsets = torch.cat([torch.zeros(1, 1), sizes.cumsum(0)[:-1]]).long()
    pool = torch.cat(own)
    for _ in range(config.updates):
        draw = torch.rand((len(weights), config.batch_size), generator=generator, dtype=torch.float64)
        batch = pool[offsets + (draw * sizes).long()]  # [K, B]
        with torch.no_grad():
            ahead = (policy[following[batch]] * forward(target, row[following[batch]])).sum(dim=-1)
            goal = reward[batch] + going_on[batch] * ahead
        q = forward(parameters, row[state[batch]]).gather(-1, action[batch][..., None]).squeeze(-1)
        loss = 0.5 * (goal - q).square().mean(dim=1).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            for name, value in parameters.items():
                target[name].lerp_(value, config.target_rate)
    with torch.no_grad():
        everywhere = row.expand(len(weights), *row.shape)
        return forward(parameters, everywhere).double().numpy()
