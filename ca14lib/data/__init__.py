"""Data that agents learn from: batches of transitions, offline datasets, normalizers."""

from ca14lib.data.dataset import OfflineDataset
from ca14lib.data.normalizer import Normalizer
from ca14lib.data.transitions import Transitions

__all__ = ["Normalizer", "OfflineDataset", "Transitions"]
