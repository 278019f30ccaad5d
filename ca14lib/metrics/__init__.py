"""Arrays in, numbers out."""

from ca14lib.metrics.intervals import Interval, interquartile_mean, interval_table, iqm_interval
from ca14lib.metrics.shares import normalized_score, share_of_range

__all__ = ["Interval", "interquartile_mean", "interval_table", "iqm_interval", "normalized_score", "share_of_range"]
