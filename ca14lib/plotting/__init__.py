"""Arrays in, figures or animations out, in the one style of the course."""

from ca14lib.plotting.curves import interval_line, interval_points
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

__all__ = [
    "PALETTE",
    "action_coverage",
    "cell_heat_map",
    "colour",
    "course_style",
    "draw_action_coverage",
    "draw_front",
    "draw_limit",
    "draw_path",
    "draw_step",
    "draw_trust_region",
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
    "trajectory_frames",
    "trust_region_ellipse",
]
