"""Games: payoff tables, paths on the triangle of three actions, and NashConv over the rounds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

# of the dynamics of matrix games, which share no figure with agents
GAME_COLOURS: dict[str, str] = {
    "fictitious play": "#0072B2",
    "multiplicative weights": "#009E73",
    "optimistic weights": "#CC79A7",
    "policy gradient": "#D55E00",
}
GAME_LINES: dict[str, Any] = {
    "fictitious play": "-",
    "multiplicative weights": (0, (6, 2)),
    "optimistic weights": (0, (3, 1, 1, 1)),
    "policy gradient": (0, (1, 1)),
}
HEIGHT = np.sqrt(3) / 2
# where the pure strategies lie: first action to the left, second to the right, third at the top
CORNERS = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, HEIGHT]])


def simplex_points(strategies: ArrayLike) -> NDArray[np.float64]:
    """Points ``[…, 2]`` of distributions over three actions ``[…, 3]`` in an equilateral triangle of side 1.

    Raises:
        ValueError: If the last axis is not 3.
    """
    rows = np.asarray(strategies, dtype=np.float64)
    if rows.ndim < 1 or rows.shape[-1] != 3:
        raise ValueError(f"strategies must be over three actions, got shape {rows.shape}")
    return rows @ CORNERS


def draw_simplex(axes: Axes, actions: Sequence[str]) -> None:
    """The triangle of all strategies, its corners named after the actions."""
    outline = np.vstack([CORNERS, CORNERS[:1]])
    axes.plot(*outline.T, color="#555555", linewidth=1.2)
    for corner, name, alignment, shift in zip(
        CORNERS, actions, ("right", "left", "center"), ((-0.03, 0), (0.03, 0), (0, 0.04))
    ):
        axes.text(
            corner[0] + shift[0],
            corner[1] + shift[1],
            name,
            ha=alignment,
            va="bottom" if alignment == "center" else "center",
        )
    axes.set_aspect("equal")
    axes.set(xlim=(-0.3, 1.3), ylim=(-0.08, HEIGHT + 0.14))
    axes.axis("off")


def draw_strategies(
    axes: Axes, strategies: ArrayLike, *, name: str = "", label: str | None = None, **keywords: Any
) -> None:
    """A path of strategies ``[R, 3]`` on the triangle, with a dot at its end.

    Args:
        axes: With the triangle.
        strategies: Distributions in the order in which they were played.
        name: Key of ``GAME_COLOURS``; fixes colour and line.
        label: Of the path, for a legend.
        keywords: Matplotlib's, of the line; they go before the dynamic's own.
    """
    points = simplex_points(strategies)
    look = {"color": GAME_COLOURS.get(name, "#444444"), "linestyle": GAME_LINES.get(name, "-"), "linewidth": 1.4}
    look |= keywords
    axes.plot(*points.T, label=label, **look)
    axes.plot(*points[-1], "o", color=look["color"], markersize=6)


def draw_payoffs(
    axes: Axes, payoffs: ArrayLike, actions: Sequence[str], *, mark: Sequence[tuple[int, int]] = ()
) -> None:
    """The table of a two-player game: in each cell what row and column receive.

    Args:
        axes: Where to draw.
        payoffs: ``[2, A, B]``.
        actions: Names of the actions of either player.
        mark: Joint actions to frame, for example the equilibria.
    Raises:
        ValueError: If there are not two players.
    """
    table = np.asarray(payoffs, dtype=np.float64)
    if table.ndim != 3 or len(table) != 2:
        raise ValueError(f"payoffs must have shape [2, A, B], got {table.shape}")
    rows, columns = table.shape[1:]
    axes.imshow(table.sum(axis=0), cmap="Greys", alpha=0.35, vmin=table.sum(axis=0).min() - 1)
    for row in range(rows):
        for column in range(columns):
            axes.text(column, row, f"{table[0, row, column]:g}, {table[1, row, column]:g}", ha="center", va="center")
    for row, column in mark:
        axes.add_patch(_frame(row, column))
    axes.set_xticks(range(columns), list(actions)[:columns])
    axes.set_yticks(range(rows), list(actions)[:rows])
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.grid(False)


def _frame(row: int, column: int) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor="#D55E00", linewidth=2.5)
