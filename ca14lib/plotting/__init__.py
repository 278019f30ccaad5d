"""Arrays in, figures or animations out, in the one style of the course."""

from ca14lib.plotting.curves import interval_line, interval_points
from ca14lib.plotting.games import (
    GAME_COLOURS,
    GAME_LINES,
    draw_payoffs,
    draw_simplex,
    draw_strategies,
    simplex_points,
)
from ca14lib.plotting.grids import (
    action_coverage,
    cell_heat_map,
    draw_action_coverage,
    gif,
    policy_arrows,
    trajectory_frames,
)
from ca14lib.plotting.safety import (
    draw_front,
    draw_limit,
    draw_path,
    draw_step,
    draw_trust_region,
    front_axes,
    front_points,
    trust_region_ellipse,
)
from ca14lib.plotting.style import PALETTE, colour, course_style, label, line_style, marker, new_axes, reference_line
from ca14lib.plotting.teams import episode_strip, team_animation, team_frames

__all__ = [
    "GAME_COLOURS",
    "GAME_LINES",
    "PALETTE",
    "action_coverage",
    "cell_heat_map",
    "colour",
    "course_style",
    "draw_action_coverage",
    "draw_front",
    "draw_limit",
    "draw_path",
    "draw_payoffs",
    "draw_simplex",
    "draw_step",
    "draw_strategies",
    "draw_trust_region",
    "episode_strip",
    "front_axes",
    "front_points",
    "gif",
    "interval_line",
    "interval_points",
    "label",
    "line_style",
    "marker",
    "new_axes",
    "policy_arrows",
    "reference_line",
    "team_animation",
    "team_frames",
    "simplex_points",
    "trajectory_frames",
    "trust_region_ellipse",
]
