"""Pictures of gridworlds: heat maps over cells, policies as arrows, trajectories as animations."""

import io
from collections.abc import Sequence

import gymnasium as gym
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from ca14lib.environments.grid import DISPLACEMENT, GridEnvironment
from ca14lib.plotting.style import course_style, new_axes


def cell_heat_map(
    axes: Axes,
    grid: GridEnvironment,
    values: NDArray,
    *,
    label: str,
    vmin: float | None = None,
    vmax: float | None = None,
    cmap: str = "viridis",
    number_format: str | None = None,
    colour_bar: bool = True,
) -> None:
    """Draw one number per cell; NaN cells stay white.

    Args:
        axes: Where to draw.
        grid: The grid, for its shape and goal.
        values: ``[S]``.
        label: What the colours mean, with unit.
        vmin: Value of the darkest colour.
        vmax: Value of the brightest colour.
        cmap: Matplotlib colour map.
        number_format: Format of the number written into every cell, None for none.
        colour_bar: Draw the scale.
    """
    picture = np.asarray(values, dtype=float).reshape(grid.width, grid.height).T
    with course_style():
        image = axes.imshow(picture, origin="lower", vmin=vmin, vmax=vmax, cmap=cmap)
        axes.grid(False)
        axes.set_xticks(range(grid.width))
        axes.set_yticks(range(grid.height))
        axes.set_xlabel("x")
        axes.set_ylabel("y")
        if number_format is not None:
            for (y, x), value in np.ndenumerate(picture):
                if np.isfinite(value):
                    red, green, blue, _ = image.cmap(image.norm(value))
                    dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
                    axes.text(x, y, format(value, number_format), ha="center", va="center", fontsize=9,
                              color="white" if dark else "black")  # fmt: skip
        if colour_bar:
            axes.figure.colorbar(image, ax=axes, label=label, shrink=0.85)


def policy_arrows(axes: Axes, grid: GridEnvironment, policy: NDArray, *, colour: str = "white") -> None:
    """Draw a policy ``[S, 4]`` as arrows whose length is the probability; nothing on the goal."""
    for cell in range(grid.width * grid.height):
        if cell == grid.cell_index(grid.goal):
            continue
        x, y = divmod(cell, grid.height)
        for action, probability in enumerate(policy[cell]):
            if probability > 0.02:
                dx, dy = 0.38 * probability * DISPLACEMENT[action]
                axes.annotate(
                    "", (x + dx, y + dy), (x, y), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1.6}
                )


def action_coverage(grid: GridEnvironment, counts: NDArray[np.int64], title: str = "") -> Figure:
    """How often every action was taken in every cell: four triangles a cell, up, down, left, right.

    Args:
        grid: The grid.
        counts: ``[S, 4]``.
        title: Title of the figure.
    """
    figure, axes = new_axes(size=(5.6, 4.8))
    draw_action_coverage(axes, grid, counts)
    axes.set_title(title)
    return figure


def draw_action_coverage(
    axes: Axes, grid: GridEnvironment, counts: NDArray[np.int64], vmax: float | None = None
) -> None:
    """The drawing of :func:`action_coverage` on given axes; unseen pairs are white and hatched.

    Args:
        axes: Where to draw.
        grid: The grid.
        counts: ``[S, 4]``.
        vmax: Count of the brightest colour, to share a scale between figures.
    """
    import matplotlib as mpl
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LogNorm
    from matplotlib.patches import Polygon

    norm = LogNorm(1, vmax or max(int(counts.max()), 2))
    cmap = mpl.colormaps["viridis"]
    corners = np.array([(-0.5, 0.5), (0.5, 0.5), (0.5, -0.5), (-0.5, -0.5)])
    sides = {0: (0, 1), 1: (2, 3), 2: (3, 0), 3: (1, 2)}
    with course_style():
        for cell in range(grid.width * grid.height):
            centre = np.array(divmod(cell, grid.height))
            for action, (first, second) in sides.items():
                count = counts[cell, action]
                axes.add_patch(
                    Polygon(
                        [centre, centre + corners[first], centre + corners[second]],
                        facecolor=cmap(norm(count)) if count else "white",
                        edgecolor="#999999",
                        hatch=None if count else "////",
                        linewidth=0.6,
                    )
                )
        axes.set_xlim(-0.5, grid.width - 0.5)
        axes.set_ylim(-0.5, grid.height - 0.5)
        axes.set_aspect("equal")
        axes.grid(False)
        axes.set_xticks(range(grid.width))
        axes.set_yticks(range(grid.height))
        axes.set_xlabel("x")
        axes.set_ylabel("y")
        axes.figure.colorbar(ScalarMappable(norm, cmap), ax=axes, label="times taken", shrink=0.85)


def trajectory_frames(environment: gym.Env, actions: Sequence[int], seed: int = 0) -> list[NDArray[np.uint8]]:
    """RGB frames of one episode: the start, then one per action until the episode ends.

    Args:
        environment: With ``render_mode="rgb_array"``.
        actions: What to do.
        seed: Seed of the reset.
    """
    if environment.render_mode != "rgb_array":
        raise ValueError(f"the environment needs render_mode='rgb_array', got {environment.render_mode!r}")
    environment.reset(seed=seed)
    frames = [np.asarray(environment.render())]
    for action in actions:
        _, _, terminated, truncated, _ = environment.step(action)
        frames.append(np.asarray(environment.render()))
        if terminated or truncated:
            break
    return frames


def gif(frames: Sequence[NDArray[np.uint8]], *, frames_per_second: float = 3.0) -> bytes:
    """An endless animation of RGB frames ``[height, width, 3]``, as the bytes of a GIF file.

    Raises:
        ValueError: If there are no frames.
    """
    if not len(frames):
        raise ValueError("an animation needs at least one frame, got none")
    images = [Image.fromarray(frame).quantize(32) for frame in frames]
    buffer = io.BytesIO()
    images[0].save(
        buffer, format="GIF", save_all=True, append_images=images[1:], loop=0, duration=round(1000 / frames_per_second)
    )
    return buffer.getvalue()
