"""Arrays in, numbers out."""

from ca14lib.metrics.intervals import Interval, interquartile_mean, interval_table, iqm_interval
from ca14lib.metrics.shares import share_of_range

__all__ = ["Interval", "interquartile_mean", "interval_table", "iqm_interval", "share_of_range"]
