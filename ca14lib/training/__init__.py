"""Collecting data, training loops, history, sweeps."""

from ca14lib.training.collect import collect
from ca14lib.training.history import History
from ca14lib.training.off_policy import train_off_policy
from ca14lib.training.offline import train_offline
from ca14lib.training.on_policy import train_on_policy
from ca14lib.training.sweep import sweep
from ca14lib.training.vector import vector_environment

__all__ = ["History", "collect", "sweep", "train_off_policy", "train_offline", "train_on_policy", "vector_environment"]
