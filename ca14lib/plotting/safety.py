"""Pictures of constrained problems: the front of return against cost, and the region in which a step is looked for."""

from typing import Any, Protocol

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Polygon
from numpy.typing import ArrayLike, NDArray

from ca14lib.plotting.style import colour, label, marker, new_axes

FEW = 12  # a front with more corners than this is drawn as a line without them
FORBIDDEN = "#D55E00"


class Front(Protocol):
    """What is drawn of a front, for example of :class:`ca14lib.solvers.ParetoFront`."""

    @property
    def costs(self) -> NDArray[np.float64]:
        """Cost of each corner, ascending, ``[N]``."""

    @property
    def returns(self) -> NDArray[np.float64]:
        """Return of each corner, ``[N]``."""


def front_axes(columns: int = 1, *, size: tuple[float, float] | None = None) -> Any:
    """Figure and axes for return against cost, cost across; the axis of returns is named once.

    Args:
        columns: Number of panels.
        size: In inches; None for 5 by 4.2 a panel.
    """
    figure, axes = new_axes(columns=columns, size=size or (2.0 + 5.0 * columns, 4.4))
    for axis in np.ravel(axes):
        axis.set_xlabel("expected cost of an episode")
    np.ravel(axes)[0].set_ylabel("expected return")
    return figure, axes


def draw_front(
    axes: Axes, front: Front, *, text: str | None = "exact front", top: float | None = None, right: float | None = None
) -> None:
    """The exact front as a line, its corners as squares, and what no policy reaches in grey.

    Right of the last corner more cost buys nothing: the line goes on flat. The view is set to the front with a margin.

    Args:
        axes: Where to draw.
        front: Corners in order of cost.
        text: Written beside the line; None for nothing.
        top: Highest return shown; None for the front's with a margin.
        right: Largest cost shown; None for the front's with a margin.
    """
    costs, returns = np.asarray(front.costs, dtype=float), np.asarray(front.returns, dtype=float)
    width, height = max(np.ptp(costs), 1e-9), max(np.ptp(returns), 1e-9)
    right = costs[-1] + 0.3 * width if right is None else right
    top = returns[-1] + 0.14 * height if top is None else top
    left, bottom = costs[0] - 0.12 * width, returns[0] - 0.1 * height
    end = max(right, costs[-1]) + width
    x = np.concatenate([[costs[0]], costs, [end]])
    y = np.concatenate([[bottom - 100 * height], returns, [returns[-1]]])
    unreachable = np.concatenate([
        np.column_stack([x, y]), [[end, top + height], [left - width, top + height], [left - width, y[0]]]
    ])  # fmt: skip
    axes.add_patch(Polygon(unreachable, facecolor="#EEEEEE", edgecolor="none", zorder=0))
    axes.plot(x[1:], y[1:], color=colour("optimum"), linewidth=2.0, zorder=2)
    if len(costs) <= FEW:
        axes.plot(costs, returns, "s", color=colour("optimum"), markersize=7, zorder=2)
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)
    if text is not None:
        axes.annotate(
            text, (0.97, returns[-1]), xycoords=("axes fraction", "data"), xytext=(0, 4), textcoords="offset points",
            ha="right", fontsize=12,
        )  # fmt: skip


def draw_limit(axes: Axes, limit: float, *, text: str | None = None) -> None:
    """A dashed vertical line at a limit on the cost, named at its foot."""
    axes.axvline(limit, color="black", linestyle="--", linewidth=1.2, zorder=1)
    axes.annotate(
        f"limit {limit:g}" if text is None else text, (limit, 0.02), xycoords=("data", "axes fraction"), xytext=(4, 0),
        textcoords="offset points", fontsize=11, rotation=90, va="bottom",
    )  # fmt: skip


def front_points(axes: Axes, frame: pd.DataFrame, *, cost: str = "cost", value: str = "return") -> None:
    """Every agent of a table as a point with its intervals in both directions.

    Args:
        axes: Where to draw.
        frame: A row per point: ``agent``, and for cost and return columns ending in ``_iqm``, ``_low`` and ``_high``.
        cost: What the cost's columns begin with.
        value: What the return's columns begin with.
    """
    for row in frame.to_dict("records"):
        x, y = row[f"{cost}_iqm"], row[f"{value}_iqm"]
        across, up = (
            [[max(at - row[f"{column}_low"], 0.0)], [max(row[f"{column}_high"] - at, 0.0)]]
            for column, at in ((cost, x), (value, y))
        )
        name = str(row["agent"])
        axes.errorbar(
            x, y, xerr=across, yerr=up, fmt=marker(name), color=colour(name), label=label(name), markersize=9,
            markeredgecolor="white", capsize=3, elinewidth=1.6, zorder=4,
        )  # fmt: skip


def draw_path(axes: Axes, costs: ArrayLike, returns: ArrayLike, *, name: str) -> None:
    """The way of a learner through the plane of cost and return: hollow where it starts, filled where it ends.

    Args:
        axes: Where to draw.
        costs: ``[I]``, in order of time.
        returns: ``[I]``.
        name: Algorithm; fixes colour and marker.
    """
    x, y = np.asarray(costs, dtype=float), np.asarray(returns, dtype=float)
    axes.plot(x, y, color=colour(name), linewidth=1.3, marker=".", markersize=6, alpha=0.8, zorder=3)
    axes.plot(x[0], y[0], marker(name), color="white", markeredgecolor=colour(name), markersize=11, zorder=4)
    axes.plot(x[-1], y[-1], marker(name), color=colour(name), markersize=11, zorder=5, label=label(name))


def trust_region_ellipse(hessian: ArrayLike, radius: float, points: int = 181) -> NDArray[np.float64]:
    r"""The closed curve :math:`\tfrac12 x^\top H x = \delta` in the plane, ``[points, 2]``.

    Args:
        hessian: H, ``[2, 2]``, symmetric and positive definite.
        radius: :math:`\delta > 0`.
        points: Along the curve; the last is the first again.
    Raises:
        ValueError: If H is not positive definite or the radius not positive.
    """
    matrix = np.asarray(hessian, dtype=float)
    if matrix.shape != (2, 2) or not np.allclose(matrix, matrix.T) or (np.linalg.eigvalsh(matrix) <= 0).any():
        raise ValueError(f"hessian must be a positive definite [2, 2] matrix, got {matrix.tolist()}")
    if not radius > 0:
        raise ValueError(f"radius must be positive, got {radius}")
    angle = np.linspace(0, 2 * np.pi, points)
    circle = np.sqrt(2 * radius) * np.stack([np.cos(angle), np.sin(angle)])
    return np.linalg.solve(np.linalg.cholesky(matrix).T, circle).T


def draw_trust_region(
    axes: Axes, hessian: ArrayLike, radius: float, *, centre: ArrayLike = (0.0, 0.0), cost: ArrayLike | None = None,
    excess: float = 0.0, step: ArrayLike | None = None, name: str = "CPO", zoom: float | None = 1.5,
) -> None:  # fmt: skip
    r"""The trust region, what the linearised limit forbids, and a step (book eq. cpo-linearised).

    Args:
        axes: Where to draw.
        hessian: H, ``[2, 2]``.
        radius: :math:`\delta`.
        centre: Present parameters ``[2]``.
        cost: b, ``[2]``: shaded is where :math:`b^\top x + c > 0`; None for no limit.
        excess: c.
        step: x, ``[2]``, drawn as an arrow from the centre; None for none.
        name: Algorithm whose colour the arrow has.
        zoom: Half the view's width and height in half axes of the region; None leaves the view as it is.
    """
    middle = np.asarray(centre, dtype=float)
    ellipse = middle + trust_region_ellipse(hessian, radius)
    reach = np.abs(ellipse - middle).max(axis=0)
    axes.plot(*ellipse.T, color="black", linewidth=1.8, zorder=3)
    axes.plot(*middle, "o", color="black", markersize=6, zorder=4)
    normal = np.zeros(2) if cost is None else np.asarray(cost, dtype=float)
    if (normal != 0).any():
        far = 100 * np.linalg.norm(reach)
        foot = middle - excess * normal / (normal @ normal)
        outwards = normal / np.linalg.norm(normal)
        along = np.array([-outwards[1], outwards[0]])
        corners = [foot - far * along, foot + far * along]
        half_space = [*corners, corners[1] + far * outwards, corners[0] + far * outwards]
        keep = axes.get_xlim(), axes.get_ylim()
        axes.add_patch(Polygon(half_space, facecolor=FORBIDDEN, alpha=0.18, edgecolor="none", zorder=1))
        axes.plot(*np.array(corners).T, color=FORBIDDEN, linewidth=1.6, zorder=2)
        axes.set_xlim(*keep[0])
        axes.set_ylim(*keep[1])
    if step is not None:
        draw_step(axes, middle, step, name=name)
    if zoom is not None:
        axes.set_xlim(middle[0] - zoom * reach[0], middle[0] + zoom * reach[0])
        axes.set_ylim(middle[1] - zoom * reach[1], middle[1] + zoom * reach[1])


def draw_step(axes: Axes, start: ArrayLike, step: ArrayLike, *, name: str, style: str = "-") -> None:
    """An arrow from a point of the plane, ``[2]`` each."""
    x, y = np.asarray(start, dtype=float)
    dx, dy = np.asarray(step, dtype=float)
    axes.annotate(
        "", (x + dx, y + dy), (x, y), zorder=5,
        arrowprops={"arrowstyle": "-|>", "color": colour(name), "lw": 2.4, "ls": style, "shrinkA": 0, "shrinkB": 0,
                    "mutation_scale": 16},
    )  # fmt: skip
