"""Pictures of fronts and trust regions show the numbers they were given, and what is forbidden on the right side."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Polygon
from matplotlib.path import Path

from ca14lib import plotting


@pytest.fixture
def front() -> SimpleNamespace:
    return SimpleNamespace(costs=np.array([0.1, 0.6, 1.4]), returns=np.array([-5.0, 9.0, 12.0]))


def shaded(axes: plt.Axes, point: tuple[float, float]) -> bool:
    """True if a filled polygon covers the point."""
    return any(Path(patch.get_xy()).contains_point(point) for patch in axes.patches if isinstance(patch, Polygon))


def test_front_goes_through_its_corners_and_on_flat(front):
    figure, axes = plotting.front_axes()
    plotting.draw_front(axes, front)
    line, corners = axes.lines
    points = list(zip(line.get_xdata().tolist(), line.get_ydata().tolist()))
    assert points[:3] == [(0.1, -5.0), (0.6, 9.0), (1.4, 12.0)]
    assert points[3][0] > axes.get_xlim()[1]
    assert points[3][1] == 12.0
    assert corners.get_xdata().tolist() == [0.1, 0.6, 1.4]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("expected cost of an episode", "expected return")
    assert [text.get_text() for text in axes.texts] == ["exact front"]
    figure.canvas.draw()


def test_what_no_policy_reaches_is_shaded_and_the_rest_is_not(front):
    _, axes = plotting.front_axes()
    plotting.draw_front(axes, front, text=None)
    assert not list(axes.texts)
    for point in ((0.05, -4.0), (0.05, -6.0), (0.3, 5.0), (1.0, 11.0), (1.6, 12.5)):
        assert shaded(axes, point), point
    for point in ((0.15, -5.0), (0.3, 0.0), (1.0, 10.0), (1.6, 11.9)):
        assert not shaded(axes, point), point


def test_view_of_a_front_can_be_widened(front):
    _, axes = plotting.front_axes()
    plotting.draw_front(axes, front, top=20.0, right=7.0)
    assert axes.get_xlim()[1] == 7.0
    assert axes.get_ylim()[1] == 20.0
    assert axes.lines[0].get_xdata()[-1] > 7.0
    assert shaded(axes, (6.9, 19.9))


def test_front_of_many_corners_has_no_squares_and_of_one_is_drawn():
    many = np.linspace(0, 1, 300)
    _, axes = plotting.front_axes(columns=2)
    plotting.draw_front(axes[0], SimpleNamespace(costs=many, returns=np.sqrt(many)))
    assert len(axes[0].lines) == 1
    plotting.draw_front(axes[1], SimpleNamespace(costs=np.array([0.5]), returns=np.array([2.0])))
    low, high = axes[1].get_xlim()
    assert low < 0.5 < high


def test_front_axes_name_the_return_once():
    figure, axes = plotting.front_axes(columns=3)
    assert [axis.get_ylabel() for axis in axes] == ["expected return", "", ""]
    assert {axis.get_xlabel() for axis in axes} == {"expected cost of an episode"}
    plt.close(figure)


def test_limit_is_a_vertical_line_with_its_number():
    _, axes = plotting.front_axes()
    plotting.draw_limit(axes, 0.3)
    assert set(axes.lines[0].get_xdata()) == {0.3}
    assert axes.texts[0].get_text() == "limit 0.3"
    plotting.draw_limit(axes, 1.0, text="what is allowed")
    assert axes.texts[1].get_text() == "what is allowed"


def test_points_have_intervals_in_both_directions():
    _, axes = plotting.front_axes()
    frame = pd.DataFrame({
        "agent": ["CPO", "FixedPenalty"],
        "cost_iqm": [0.3, 0.6], "cost_low": [0.25, 0.6], "cost_high": [0.4, 0.6],
        "return_iqm": [0.5, 9.0], "return_low": [-1.0, 8.0], "return_high": [1.0, 9.1],
    })  # fmt: skip
    plotting.front_points(axes, frame)
    first, second = axes.containers
    point, _, (across, up) = first.lines
    assert (point.get_xdata()[0], point.get_ydata()[0]) == (0.3, 0.5)
    np.testing.assert_allclose(across.get_segments()[0], [[0.25, 0.5], [0.4, 0.5]])
    np.testing.assert_allclose(up.get_segments()[0], [[0.3, -1.0], [0.3, 1.0]])
    assert to_rgb(point.get_color()) == to_rgb(plotting.colour("CPO"))
    assert [container.get_label() for container in (first, second)] == ["CPO", "fixed penalty"]


def test_points_can_come_from_other_columns_and_an_estimate_outside_its_interval_is_drawn():
    _, axes = plotting.front_axes()
    frame = pd.DataFrame([
        {"agent": "CPO", "last_cost_iqm": 0.2, "last_cost_low": 0.3, "last_cost_high": 0.4}
        | {f"last_return_{end}": 1.0 for end in ("iqm", "low", "high")}
    ])  # fmt: skip
    plotting.front_points(axes, frame, cost="last_cost", value="last_return")
    assert axes.containers[0].lines[0].get_xdata()[0] == 0.2


def test_path_is_hollow_at_its_start_and_filled_at_its_end():
    _, axes = plotting.front_axes()
    plotting.draw_path(axes, [5.0, 2.0, 0.6], [-5.0, 0.0, 9.0], name="CPO")
    way, start, end = axes.lines
    assert way.get_xdata().tolist() == [5.0, 2.0, 0.6]
    assert (start.get_xdata()[0], start.get_ydata()[0]) == (5.0, -5.0)
    assert (end.get_xdata()[0], end.get_ydata()[0]) == (0.6, 9.0)
    assert to_rgb(start.get_markerfacecolor()) == (1, 1, 1)
    assert to_rgb(end.get_markerfacecolor()) == to_rgb(plotting.colour("CPO"))


def random_matrix(rng: np.random.Generator) -> np.ndarray:
    root = rng.standard_normal((2, 2))
    return root @ root.T + 0.2 * np.eye(2)


def test_every_point_of_the_ellipse_has_the_size_of_the_trust_region():
    rng = np.random.default_rng(0)
    for _ in range(20):
        matrix, radius = random_matrix(rng), float(10 ** rng.uniform(-3, 1))
        points = plotting.trust_region_ellipse(matrix, radius)
        np.testing.assert_allclose(0.5 * np.einsum("pi,ij,pj->p", points, matrix, points), radius)
        np.testing.assert_allclose(points[0], points[-1], atol=1e-9)
        angles = np.unwrap(np.arctan2(points[:, 1], points[:, 0]))
        assert abs(angles[-1] - angles[0]) == pytest.approx(2 * np.pi)


@pytest.mark.parametrize("matrix", [-np.eye(2), np.zeros((2, 2)), np.eye(3), np.array([[1.0, 0.5], [0.0, 1.0]])])
def test_ellipse_refuses_what_is_no_trust_region(matrix):
    with pytest.raises(ValueError, match="hessian must be a positive definite"):
        plotting.trust_region_ellipse(matrix, 0.1)


def test_ellipse_refuses_a_radius_that_is_not_positive():
    with pytest.raises(ValueError, match="radius must be positive, got 0"):
        plotting.trust_region_ellipse(np.eye(2), 0.0)


def test_forbidden_side_is_where_the_linearised_cost_exceeds_the_limit():
    rng = np.random.default_rng(1)
    for _ in range(10):
        matrix, centre, cost = random_matrix(rng), rng.uniform(-2, 2, 2), rng.standard_normal(2)
        excess = float(rng.uniform(-1, 1))
        _, axes = plotting.new_axes()
        plotting.draw_trust_region(axes, matrix, 0.5, centre=centre, cost=cost, excess=excess)
        for step in rng.uniform(-2, 2, (20, 2)):
            if abs(cost @ step + excess) > 1e-3:
                assert shaded(axes, tuple(centre + step)) == (cost @ step + excess > 0)
        plt.close()


def test_trust_region_shows_region_step_and_view():
    _, axes = plotting.new_axes()
    plotting.draw_trust_region(axes, np.diag([1.0, 4.0]), 0.5, centre=(3.0, 1.0), step=(0.5, -0.25), zoom=2.0)
    ellipse = axes.lines[0]
    assert np.abs(ellipse.get_xdata() - 3.0).max() == pytest.approx(1.0)
    assert np.abs(ellipse.get_ydata() - 1.0).max() == pytest.approx(0.5)
    (arrow,) = axes.texts
    assert arrow.xy == (3.5, 0.75)
    assert arrow.get_position() == (3.0, 1.0)
    assert axes.get_xlim() == pytest.approx((1.0, 5.0))
    assert axes.get_ylim() == pytest.approx((0.0, 2.0))


def test_trust_region_without_a_limit_or_with_one_that_no_step_feels_shades_nothing():
    for cost in (None, np.zeros(2)):
        _, axes = plotting.new_axes()
        plotting.draw_trust_region(axes, np.eye(2), 0.5, cost=cost, excess=1.0)
        assert not axes.patches


def test_view_is_kept_when_no_zoom_is_asked_for():
    _, axes = plotting.new_axes()
    axes.set_xlim(-4, 4)
    axes.set_ylim(-3, 3)
    plotting.draw_trust_region(axes, np.eye(2), 0.5, cost=(1.0, 1.0), excess=-0.2, zoom=None)
    assert axes.get_xlim() == (-4, 4)
    assert axes.get_ylim() == (-3, 3)
