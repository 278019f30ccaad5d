"""Curves and bars over seeds, with intervals."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ca14lib.plotting.style import colour, label, line_style, marker


def interval_line(
    axes: Axes, points: Sequence[tuple[float, tuple[float, float, float]]], *, name: str, direct_label: bool = True
) -> None:
    """A line through point estimates with its band of intervals.

    Args:
        axes: Where to draw.
        points: ``(x, (estimate, low, high))`` each, from ``ca14lib.metrics.iqm_interval``.
        name: Algorithm; fixes colour, line style, marker and label.
        direct_label: Write the name beside the last point.
    """
    values = np.array([x for x, _ in points], dtype=float)
    estimate, low, high = np.array([interval for _, interval in points], dtype=float).T
    axes.fill_between(values, low, high, color=colour(name), alpha=0.2, linewidth=0)
    axes.plot(
        values, estimate, color=colour(name), linestyle=line_style(name), marker=marker(name),
        label=label(name),
    )  # fmt: skip
    if direct_label:
        axes.annotate(
            label(name), (values[-1], estimate[-1]), xytext=(8, 0), textcoords="offset points", va="center",
            color=colour(name), annotation_clip=False,
        )  # fmt: skip


def interval_points(axes: Axes, frame: pd.DataFrame, *, category: str, y: str, order: Sequence[str]) -> None:
    """One point with its interval per category, from columns ``{y}_iqm``, ``{y}_low``, ``{y}_high``."""
    for position, name in enumerate(order):
        row = frame[frame[category] == name].iloc[0]
        estimate = row[f"{y}_iqm"]
        error = [[estimate - row[f"{y}_low"]], [row[f"{y}_high"] - estimate]]
        axes.errorbar(position, estimate, yerr=error, fmt=marker(name), color=colour(name), capsize=5, elinewidth=2)
    axes.set_xticks(range(len(order)), [label(name) for name in order])
    axes.set_xlim(-0.5, len(order) - 0.5)
