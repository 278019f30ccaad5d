"""Data that agents learn from: batches of transitions, offline datasets, replay buffers, normalizers."""

from ca14lib.data.bootstrap_replay import (
    BootstrapReplay,
    BootstrapTransitions,
)
from ca14lib.data.dataset import OfflineDataset
from ca14lib.data.joint import EpisodeReplay, JointReplay, JointTransitions
from ca14lib.data.normalizer import Normalizer
from ca14lib.data.replay import ReplayBuffer
from ca14lib.data.rollout import Rollout
from ca14lib.data.safety_buffer import SafetyBatch, SafetyBuffer
from ca14lib.data.transitions import Transitions

__all__ = [
    "BootstrapReplay",
    "BootstrapTransitions",
    "EpisodeReplay",
    "JointReplay",
    "JointTransitions",
    "Normalizer",
    "OfflineDataset",
    "ReplayBuffer",
    "Rollout",
    "SafetyBatch",
    "SafetyBuffer",
    "Transitions",
]
