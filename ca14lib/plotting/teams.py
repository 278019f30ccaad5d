"""Pictures of teams: one episode as an animation or as a strip of stills."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from ca14lib.environments import MultiAgentEnvironment
from ca14lib.plotting.grids import gif
from ca14lib.plotting.style import new_axes


def team_frames(
    game: MultiAgentEnvironment,
    policy: Callable[[NDArray, dict[str, Any]], NDArray],
    *,
    seed: int = 0,
    options: dict[str, Any] | None = None,
) -> list[NDArray[np.uint8]]:
    """RGB frames of one episode: the start, then one per step, the last of the state in which the episode ends.

    Args:
        game: One copy, with ``render_mode="rgb_array"``; it is left where the episode ends.
        policy: Function of observations ``[1, n, …]`` and ``info`` to actions ``[1, n, …]``.
        seed: Seed of the reset.
        options: Options of the reset.
    Raises:
        ValueError: If the game has more copies or no render mode.
    """
    if game.num_envs != 1:
        raise ValueError(f"an episode is shown of one copy, got num_envs={game.num_envs}")
    if game.render_mode != "rgb_array":
        raise ValueError(f"the game needs render_mode='rgb_array', got {game.render_mode!r}")
    observation, info = game.reset(seed=seed, options=options)
    frames, ended = _rendered(game), False
    while not ended:
        # a step would reset the game at the end of the episode, before its last state could be drawn
        _, terminated, truncated = game.advance(game._checked(policy(observation, info)))
        ended = bool(terminated[0] or truncated[0])
        frames += _rendered(game)
        observation, info = game._observe(), game._information()
    return frames


def team_animation(
    frames: Sequence[NDArray[np.uint8]],
    path: str | Path | None = None,
    *,
    frames_per_second: float = 4.0,
    largest: int = 300_000,
) -> bytes:
    """An endless animation of at most ``largest`` bytes; pictures are halved in size until it fits.

    Args:
        frames: RGB, ``[height, width, 3]`` each.
        path: File to write as well, or None.
        frames_per_second: Speed.
        largest: Most bytes of the file.
    Returns:
        The bytes of a GIF file.
    Raises:
        ValueError: If there are no frames, or they do not fit at 64 pixels a side.
    """
    images = list(frames)
    animation = gif(images, frames_per_second=frames_per_second)
    while len(animation) >= largest:
        height, width = (side // 2 for side in images[0].shape[:2])
        if min(height, width) < 64:
            raise ValueError(f"{len(images)} frames do not fit into {largest} bytes: show fewer of them")
        # nearest pixels: mixed colours would need more bytes than the smaller picture saves
        images = [
            np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)) for image in images
        ]
        animation = gif(images, frames_per_second=frames_per_second)
    if path is not None:
        Path(path).write_bytes(animation)
    return animation


def episode_strip(frames: Sequence[NDArray[np.uint8]], count: int = 4) -> Figure:
    """Stills of an episode side by side, evenly spaced from the start to the end, each titled with its step.

    Args:
        frames: RGB, ``[height, width, 3]`` each, the first of the start.
        count: Number of stills; as many as there are frames if those are fewer.
    Raises:
        ValueError: If there are no frames, or the count is less than 1.
    """
    if count < 1 or not len(frames):
        raise ValueError(f"a strip needs at least one frame and one still, got {len(frames)} and {count}")
    steps = np.unique(np.linspace(0, len(frames) - 1, min(count, len(frames))).round().astype(int))
    figure, axes = new_axes(columns=len(steps), size=(2.6 * len(steps), 2.9), squeeze=False)
    for axis, step in zip(axes[0], steps, strict=True):
        axis.imshow(frames[step])
        axis.set_title(f"step {step}")
        axis.set_axis_off()
    return figure


def _rendered(game: MultiAgentEnvironment) -> list[NDArray[np.uint8]]:
    frames = game.render()
    assert frames is not None
    return [np.asarray(frames[0])]
