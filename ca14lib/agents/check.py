"""The public test suite that every agent passes; write your own agent and run it.

from ca14lib.agents import check_agent
check_agent(MyAgent)
"""

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from ca14lib.agents.base import Agent, DiscreteAgent, ValueAgent
from ca14lib.agents.checkpoint import write_checkpoint
from ca14lib.data import Normalizer, Transitions
from ca14lib.environments import TabularModel

BOX = gym.spaces.Box(-10, 10, (3,), dtype=np.float32)
ACTIONS = gym.spaces.Discrete(4)


def check_agent(agent_class: type[Agent], config: Any = None) -> None:
    """Check that an agent keeps the contract of the course (ARCHITECTURE.md).

    Args:
        agent_class: The class to check; the variant for discrete actions runs when it derives from ``DiscreteAgent``.
        config: A configuration to check it with, or None for the default with small networks.
    Raises:
        AssertionError: Naming the property that does not hold.
        ValueError: If no variant of the suite fits the class.
    """
    if not (isinstance(agent_class, type) and issubclass(agent_class, DiscreteAgent)):
        raise ValueError(f"check_agent has a variant for subclasses of DiscreteAgent, got {agent_class}")
    if config is None:
        config = dataclasses.replace(agent_class.config_class(), hidden_sizes=(16, 16))

    def build(space: gym.Space = BOX, **keywords: Any) -> DiscreteAgent:
        return agent_class(space, ACTIONS, config, **keywords)

    with torch.random.fork_rng(devices=[]):
        for space in (BOX, gym.spaces.Discrete(6)):
            for check in CHECKS:
                tuple[Callable[[Build, gym.Space], None], ...] = (
                    says_what_it_is,
                    updates_return_finite_scalars,
                    leaves_the_batch_alone,
                    repeats_bit_for_bit,
                    acts_in_batches,
                    obeys_masks,
                    gives_policy_tables,
                    learns_every_trained_parameter,
                    bootstraps_through_truncation,
                    stops_at_the_end,
                    saves_and_loads,
                    refuses_damaged_files,
                    applies_its_normalizer_everywhere,
                    refuses_bad_input,
                )
