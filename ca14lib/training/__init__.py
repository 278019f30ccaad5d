"""Collecting data, training loops, history, sweeps."""

from ca14lib.training.collect import collect
from ca14lib.training.history import History
from ca14lib.training.offline import train_offline
from ca14lib.training.sweep import sweep

__all__ = ["History", "collect", "sweep", "train_offline"]
