"""Pictures of an evaluation: scores with intervals, profiles, radars, trade-offs and how ranks move. Scores are shares.

The colours tell apart what a picture compares: kinds of agents where there are many, the agents themselves where there
are few.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ca14lib.plotting.style import course_style, new_axes

GROUP_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8B5A2B")
GROUP_MARKERS = ("o", "X", "^", "D", "s")
GROUP_LINES: tuple[Any, ...] = ("-", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 1, 1, 1)))
ROW = 0.32  # inches of a row of text
OTHER = "other"  # kind of an agent that has none


def score_bars(
    table: pd.DataFrame, *, groups: Mapping[str, str] | None = None, value: str = "score",
    title: str = "weighted score, share of what is possible",
) -> Any:  # fmt: skip
    """Horizontal bars from 0 with 95% intervals, best on top.

    Args:
        table: Rows ``agent``, ``value``, ``low``, ``high``; rows without a value are left out, an interval that is
            missing is not drawn.
        groups: Kind of each agent, which gives the colour; None for one colour.
        value: Column of the bars' length.
        title: Of the axis.
    Returns:
        The figure.
    Raises:
        ValueError: If no row has a value.
    """
    rows = _shown(table, value)
    names, order = rows["agent"].tolist(), _order(rows["agent"], groups)
    figure, axes = new_axes(size=(7.5, 1.1 + ROW * len(rows)))
    heights = np.arange(len(rows))[::-1]
    colours = [_colour(order, groups, name) for name in names]
    axes.barh(heights, rows[value], color=colours, height=0.7)
    known = rows["low"].notna().to_numpy()
    middle = rows[value].to_numpy()
    ends = np.abs(np.stack([middle - rows["low"], rows["high"] - middle]))
    axes.errorbar(
        middle[known], heights[known], xerr=ends[:, known], fmt="none", ecolor="#222222", capsize=3, elinewidth=1.5
    )  # fmt: skip
    axes.set_yticks(heights, names, fontsize=11)
    axes.set_xlim(0, max(1.0, float(rows["high"].fillna(rows[value]).max()) * 1.02))
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(title)
    axes.grid(axis="y", visible=False)
    _group_legend(axes, order, groups)
    return figure


def profile_lines(axes: Axes, profiles: Mapping[str, Any], *, names: Sequence[str] | None = None) -> None:
    """Share of runs above each score, as a line with its band (book eq. performance-profile).

    Args:
        axes: Where to draw.
        profiles: By agent, with ``thresholds``, ``share``, ``low`` and ``high``.
        names: Which agents; None for all. More than five look alike again.
    Raises:
        ValueError: If a name has no profile.
    """
    chosen = list(profiles if names is None else names)
    for index, name in enumerate(chosen):
        if name not in profiles:
            raise ValueError(f"no profile of {name!r}; there are {', '.join(profiles)}")
        profile, style = profiles[name], index % len(GROUP_COLOURS)
        axes.fill_between(
            profile.thresholds, profile.low, profile.high, color=GROUP_COLOURS[style], alpha=0.15, linewidth=0,
            step="post",
        )  # fmt: skip
        axes.step(
            profile.thresholds, profile.share, where="post", color=GROUP_COLOURS[style], linestyle=GROUP_LINES[style],
            label=name,
        )  # fmt: skip
    axes.set_xlabel("score τ, share of the optimum")
    axes.set_ylabel("share of runs above τ")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.legend(fontsize=11)


def radar(scores: pd.DataFrame, dimensions: Sequence[str], *, names: Sequence[str]) -> Any:
    """Scores of a few agents on axes from 0 to 1 around a circle; where a dimension does not apply the line has a gap.

    Args:
        scores: Rows ``agent`` with the dimensions as columns.
        dimensions: At least three.
        names: Agents, at most five.
    Returns:
        The figure.
    Raises:
        ValueError: If there are too few dimensions or too many agents, or one is unknown.
    """
    if len(dimensions) < 3 or not 1 <= len(names) <= len(GROUP_COLOURS):
        raise ValueError(
            f"a radar needs at least 3 dimensions and 1 to {len(GROUP_COLOURS)} agents, "
            f"got {len(dimensions)} and {len(names)}"
        )
    table = scores.set_index("agent")
    unknown = [name for name in names if name not in table.index] + [name for name in dimensions if name not in table]
    if unknown:
        raise ValueError(f"no row or column {unknown[0]!r} in the scores")
    angles = 2 * np.pi * np.arange(len(dimensions)) / len(dimensions)
    with course_style():
        figure, axes = new_axes(size=(8.6, 5.4), subplot_kw={"projection": "polar"})
    axes.set_theta_offset(np.pi / 2)
    axes.set_theta_direction(-1)
    for index, name in enumerate(names):
        values = table.loc[name, list(dimensions)].to_numpy(dtype=np.float64)
        axes.plot(
            [*angles, angles[0]], [*values, values[0]], color=GROUP_COLOURS[index], linestyle=GROUP_LINES[index],
            marker=GROUP_MARKERS[index], label=name,
        )  # fmt: skip
    axes.set_ylim(0, 1)
    axes.set_yticks([0.25, 0.5, 0.75, 1.0], ["0.25", "0.5", "0.75", "1"], fontsize=10)
    axes.set_xticks(angles, [name.replace("_", "\n") for name in dimensions], fontsize=12)
    axes.tick_params(axis="x", pad=8)
    for angle, text in zip(angles, axes.get_xticklabels()):  # beside the circle, not on it
        across = np.sin(angle)
        text.set_horizontalalignment("center" if abs(across) < 0.1 else ("left" if across > 0 else "right"))
    figure.set_layout_engine("none")  # the labels and the legend have room of their own
    axes.set_position((0.24, 0.08, 0.53, 0.78))
    figure.legend(loc="upper left", fontsize=11)
    return figure


def trade_off(
    table: pd.DataFrame, gain: str, price: str, front: Sequence[bool], *, groups: Mapping[str, str] | None = None,
    labels: tuple[str, str] | None = None, logarithmic: bool = True,
) -> Any:  # fmt: skip
    """Gain against price, who is on the front named and joined.

    Args:
        table: Rows ``agent``, ``gain`` and ``price``, all finite.
        gain: Column that should be high.
        price: Column that should be low.
        front: Whether each row is on the front.
        groups: Kind of each agent; None for one.
        labels: Of the axes, price first; None for the columns' names.
        logarithmic: Scale of the price.
    Returns:
        The figure.
    """
    if len(front) != len(table):
        raise ValueError(f"front must say of each of the {len(table)} rows whether it is on it, got {len(front)}")
    order = _order(table["agent"], groups)
    figure, axes = new_axes(size=(8.0, 5.0))
    on = np.asarray(front, dtype=bool)
    best = table[on].sort_values(price)
    axes.step(best[price], best[gain], where="post", color="#888888", linewidth=1.2, zorder=1)
    named = 0
    for name, row_price, row_gain, member in zip(table["agent"], table[price], table[gain], on):
        axes.plot(
            row_price, row_gain, GROUP_MARKERS[_index(order, groups, name)], color=_colour(order, groups, name),
            alpha=1.0 if member else 0.55, zorder=2,
        )  # fmt: skip
        if member:
            below = named % 2  # neighbours on the front are close: their names stand on either side of it
            axes.annotate(
                name, (row_price, row_gain), xytext=(6, -16 if below else 6), textcoords="offset points", fontsize=11
            )  # fmt: skip
            named += 1
    if logarithmic:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    across, up = labels or (price, gain)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.margins(x=0.12, y=0.1)
    _group_legend(axes, order, groups, markers=True)
    return figure


def rank_ranges(table: pd.DataFrame, *, groups: Mapping[str, str] | None = None) -> Any:
    """Rank of each agent with the weights as they are, and the range in which 95% of other weights leave it.

    Args:
        table: Rows ``agent``, ``rank``, ``rank_low``, ``rank_high``.
        groups: Kind of each agent; None for one.
    Returns:
        The figure.
    """
    rows = table.sort_values("rank")
    order = _order(rows["agent"], groups)
    figure, axes = new_axes(size=(7.5, 1.1 + ROW * len(rows)))
    heights = np.arange(len(rows))[::-1]
    for height, (name, rank, low, high) in zip(
        heights, rows[["agent", "rank", "rank_low", "rank_high"]].itertuples(index=False)
    ):
        shade = _colour(order, groups, name)
        axes.plot([low, high], [height, height], color=shade, linewidth=4, alpha=0.4, solid_capstyle="round")
        axes.plot(rank, height, GROUP_MARKERS[_index(order, groups, name)], color=shade)
    axes.set_yticks(heights, rows["agent"], fontsize=11)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlim(0.5, len(rows) + 0.5)
    axes.set_xlabel("rank")
    axes.grid(axis="y", visible=False)
    _group_legend(axes, order, groups, markers=True)
    return figure


def _shown(table: pd.DataFrame, value: str) -> pd.DataFrame:
    rows = table[table[value].notna()].sort_values(value, ascending=False, kind="stable")
    if rows.empty:
        raise ValueError(f"nothing to draw: no row has a {value}")
    return rows


def _order(agents: Sequence[str], groups: Mapping[str, str] | None) -> list[str]:
    """The kinds of agents, sorted, so that a kind has one colour whoever leads."""
    return sorted({groups.get(name, OTHER) for name in agents}) if groups else []


def _index(order: Sequence[str], groups: Mapping[str, str] | None, name: str) -> int:
    return order.index(groups.get(name, OTHER)) % len(GROUP_COLOURS) if groups else 0


def _colour(order: Sequence[str], groups: Mapping[str, str] | None, name: str) -> str:
    return GROUP_COLOURS[_index(order, groups, name)]


def _group_legend(
    axes: Axes, order: Sequence[str], groups: Mapping[str, str] | None, *, markers: bool = False
) -> None:  # fmt: skip
    if not groups:
        return
    for index, name in enumerate(order):
        style = index % len(GROUP_COLOURS)
        axes.plot(
            [], [], GROUP_MARKERS[style] if markers else "s", color=GROUP_COLOURS[style], label=name, linestyle="none"
        )  # fmt: skip
    axes.legend(loc="best", fontsize=11, frameon=True, framealpha=0.9)
