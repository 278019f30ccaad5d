"""Figures show the numbers they were given, the right way up, with labelled axes and in colours one can tell apart."""

from itertools import combinations

import gymnasium as gym
import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.patches import Polygon

from ca14lib import plotting
from ca14lib.environments import GridEnvironment, GridWorldVector, behaviour_policy
from ca14lib.plotting.style import LINE_STYLES, MARKERS, NAMES

AGENTS = ["DQN", "BC", "BC10%", "AWR", "BCQ", "BCRegularized", "TD3BC", "CQL", "IQL", "SAC", "TabularPessimism"]
SAFE_AGENTS = [
    "PPO", "PPOLagrangian", "PIDLagrangian", "CPO", "FixedPenalty", "SafePolicyGradient", "CVaRPolicyGradient",
    "RiskSensitivePolicyGradient",
]  # fmt: skip
ESTIMATORS = ["IS", "WIS", "PDIS", "FQE", "DR"]
DISTRIBUTIONAL_AGENTS = ["C51", "QRDQN", "IQN"]
ATTACKED_AGENTS = ["PPO", "AdversarialPPO", "ATLA"]
RECIPES = ["one world", "many worlds", "many worlds, memory"]
REFERENCES = ["optimum", "behaviour", "random"]
TOGETHER = {  # what one figure may show
    "agents": AGENTS + REFERENCES,
    "safe agents": SAFE_AGENTS + REFERENCES,
    "estimators": ESTIMATORS + REFERENCES,
    "return distributions": DISTRIBUTIONAL_AGENTS + REFERENCES,
    "attacked agents": ATTACKED_AGENTS + REFERENCES,
    "worlds to train in": RECIPES + REFERENCES,
}
UP, DOWN, LEFT, RIGHT = range(4)


@pytest.fixture
def wide_grid() -> GridEnvironment:
    """Four columns, three rows: a transposed picture cannot pass for a right one."""
    return GridEnvironment(
        1, width=4, height=3, start=(0, 0), goal=(3, 2), step_reward=0, goal_reward=1, time_limit=None
    )


def texts(axes: plt.Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


# --- colours ----------------------------------------------------------------------------------------------------------


def linear(colour: str) -> np.ndarray:
    """Red, green and blue as amounts of light (the sRGB transfer curve)."""
    value = np.array(to_rgb(colour))
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def cie_lab(light: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB under daylight, in which equal distances look about equally large."""
    xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]) @ light
    x, y, z = np.cbrt(np.maximum(xyz / [0.9505, 1.0, 1.089], 1e-9))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


# what people without green or without red receptors see of linear light (Machado, Oliveira and Fernandes, 2009)
DEUTERANOPIA = np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]])
PROTANOPIA = np.array([[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]])


GREY = np.tile([0.2126, 0.7152, 0.0722], (3, 1))


def line_styles() -> dict[str, str]:
    """The style of line that every name of the palette is drawn with."""
    _, axes = plotting.new_axes()
    found = {name: LINE_STYLES.get(name) for name in plotting.PALETTE}
    for name in ("optimum", "behaviour", "random"):
        plotting.reference_line(axes, 0, name)
        found[name] = axes.lines[-1].get_linestyle()
    return {name: str(style) for name, style in found.items()}


def test_every_name_of_the_palette_belongs_to_a_figure():
    assert set(plotting.PALETTE) == {name for names in TOGETHER.values() for name in names}


@pytest.mark.parametrize("names", TOGETHER.values(), ids=TOGETHER)
@pytest.mark.parametrize(
    "sight", [np.eye(3), DEUTERANOPIA, PROTANOPIA, GREY], ids=["usual", "deuteranopia", "protanopia", "grey"]
)
def test_names_can_be_told_apart_by_colour_or_line_style(sight, names):
    styles = line_styles()
    seen = {name: cie_lab(np.clip(sight @ linear(plotting.PALETTE[name]), 0, 1)) for name in names}
    for one, other in combinations(seen, 2):
        assert np.linalg.norm(seen[one] - seen[other]) > 15 or styles[one] != styles[other], (one, other)


@pytest.mark.parametrize("names", TOGETHER.values(), ids=TOGETHER)
def test_colours_alone_can_be_told_apart_by_most(names):
    seen = [cie_lab(linear(plotting.PALETTE[name])) for name in names]
    assert min(np.linalg.norm(one - other) for one, other in combinations(seen, 2)) > 25


@pytest.mark.parametrize("names", TOGETHER.values(), ids=TOGETHER)
def test_lines_can_be_told_apart_without_colour(names):
    names = [name for name in names if name not in REFERENCES]
    assert len({str(LINE_STYLES[name]) for name in names}) == len(names)
    assert len({MARKERS[name] for name in names}) == len(names)


def test_discrete_and_continuous_version_look_the_same():
    for name in ("BC", "AWR", "BCQ", "CQL", "IQL"):
        for look in (plotting.colour, plotting.label, plotting.line_style, plotting.marker):
            assert look(f"Discrete{name}") == look(name)


def test_colours_stand_out_from_the_white_page():
    for name, colour in plotting.PALETTE.items():
        contrast = 1.05 / (linear(colour) @ [0.2126, 0.7152, 0.0722] + 0.05)
        assert contrast > 2, name


def test_every_name_of_the_palette_has_one_colour_and_a_label():
    for name, colour in plotting.PALETTE.items():
        assert plotting.colour(name) == colour
        assert plotting.label(name) == NAMES.get(name, name)
    assert plotting.colour("newcomer") not in plotting.PALETTE.values()
    assert plotting.label("newcomer") == "newcomer"


def test_style_lasts_only_as_long_as_it_is_asked_for():
    before = dict(mpl.rcParams)
    with plotting.course_style():
        assert mpl.rcParams["axes.grid"] is True
    plotting.new_axes()
    assert dict(mpl.rcParams) == before


def test_figures_keep_a_white_ground_for_dark_pages():
    figure, axes = plotting.new_axes(2, 1, size=(6, 3))
    assert figure.get_facecolor() == axes[0].get_facecolor() == (1, 1, 1, 1)
    assert figure.get_size_inches().tolist() == [6, 3]
    assert len(axes) == 2


# --- curves -----------------------------------------------------------------------------------------------------------


def test_interval_line_goes_through_estimates_inside_its_band():
    _, axes = plotting.new_axes()
    points = [(500, (0.1, 0.0, 0.3)), (5_000, (0.4, 0.35, 0.5)), (50_000, (0.6, 0.5, 0.65))]
    plotting.interval_line(axes, points, name="DiscreteIQL")
    (line,), (band,) = axes.lines, axes.collections
    assert line.get_xdata().tolist() == [500, 5_000, 50_000]
    assert line.get_ydata().tolist() == [0.1, 0.4, 0.6]
    assert to_rgb(line.get_color()) == to_rgb(plotting.colour("IQL"))
    assert line.get_marker() == MARKERS["IQL"]
    outline = {tuple(vertex) for vertex in band.get_paths()[0].vertices}
    assert {(x, bound) for x, (_, *bounds) in points for bound in bounds} <= outline
    assert texts(axes) == ["IQL"]
    assert line.get_label() == "IQL"


def test_interval_line_without_direct_label_writes_none():
    _, axes = plotting.new_axes()
    plotting.interval_line(axes, [(0, (0, 0, 0)), (1, (1, 1, 1))], name="DQN", direct_label=False)
    assert texts(axes) == []


def test_interval_points_show_estimate_and_both_ends():
    _, axes = plotting.new_axes()
    frame = pd.DataFrame(
        {"agent": ["DQN", "DiscreteBC"], "share_iqm": [0.2, 0.7], "share_low": [0.1, 0.5], "share_high": [0.6, 0.8]}
    )
    plotting.interval_points(axes, frame, category="agent", y="share", order=["DiscreteBC", "DQN"])
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["BC", "DQN"]
    for container, x, (estimate, low, high) in zip(axes.containers, (0, 1), [(0.7, 0.5, 0.8), (0.2, 0.1, 0.6)]):
        point, _, (bar,) = container.lines
        assert (point.get_xdata()[0], point.get_ydata()[0]) == (x, estimate)
        np.testing.assert_allclose(bar.get_segments()[0], [[x, low], [x, high]])


def test_reference_line_is_horizontal_and_named():
    _, axes = plotting.new_axes()
    plotting.reference_line(axes, 0.8751, "optimum")
    plotting.reference_line(axes, 0.7801, "random", "uniform")
    assert [set(line.get_ydata()) for line in axes.lines] == [{0.8751}, {0.7801}]
    assert len({line.get_linestyle() for line in axes.lines}) == 2
    assert texts(axes) == ["optimum", "uniform"]


# --- grids ------------------------------------------------------------------------------------------------------------


def test_heat_map_puts_every_cells_value_at_its_place_with_y_up(wide_grid):
    figure, axes = plotting.new_axes()
    values = np.arange(12.0)
    plotting.cell_heat_map(axes, wide_grid, values, label="value")
    (image,) = axes.images
    figure.canvas.draw()
    assert image.get_array().shape == (3, 4)
    for x in range(4):
        for y in range(3):
            assert image.get_array()[y, x] == values[wide_grid.cell_index((x, y))]
    low, high = (axes.transData.transform((0, y))[1] for y in (0, 2))
    assert high > low  # pixels from the bottom: larger y is drawn higher
    assert image.origin == "lower"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")
    assert image.colorbar.ax.get_ylabel() == "value"


def test_heat_map_as_drawn_is_brightest_at_the_largest_value(wide_grid):
    """By the pixels of the picture itself: the goal cell, upper right, is the bright end of the scale."""
    figure, axes = plotting.new_axes()
    values = np.zeros(12)
    values[wide_grid.cell_index((3, 2))] = 1
    plotting.cell_heat_map(axes, wide_grid, values, label="value", colour_bar=False)
    figure.canvas.draw()
    picture = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    for cell in ((3, 2), (0, 0), (3, 0), (0, 2)):
        column, row = axes.transData.transform(cell)
        pixel = picture[picture.shape[0] - 1 - round(row), round(column)] / 255
        expected = mpl.colormaps["viridis"](1.0 if cell == (3, 2) else 0.0)[:3]
        np.testing.assert_allclose(pixel, expected, atol=0.03)


def test_heat_map_writes_numbers_but_not_for_missing_ones(wide_grid):
    _, axes = plotting.new_axes()
    values = np.full(12, np.nan)
    values[wide_grid.cell_index((1, 2))], values[0] = 0.25, -1.0
    plotting.cell_heat_map(axes, wide_grid, values, label="v", number_format=".2f", vmin=-1, vmax=1)
    assert {(text.get_position(), text.get_text()) for text in axes.texts} == {((1, 2), "0.25"), ((0, 0), "-1.00")}
    assert axes.images[0].get_clim() == (-1, 1)


def test_numbers_stand_out_from_their_cells(wide_grid):
    _, axes = plotting.new_axes()
    values = np.linspace(0, 1, 12)
    plotting.cell_heat_map(axes, wide_grid, values, label="v", number_format=".1f")
    image = axes.images[0]
    for text in axes.texts:
        x, y = text.get_position()
        ground = image.cmap(image.norm(image.get_array()[int(y), int(x)]))[:3]
        light = [linear(colour) @ [0.2126, 0.7152, 0.0722] + 0.05 for colour in (ground, text.get_color())]
        assert max(light) / min(light) > 3


def arrows(axes: plt.Axes) -> dict[tuple[float, float], list[np.ndarray]]:
    """Displacements of the arrows drawn from every cell."""
    found: dict[tuple[float, float], list[np.ndarray]] = {}
    for text in axes.texts:
        start = np.array(text.get_position())
        found.setdefault(tuple(start.tolist()), []).append(np.array(text.xy) - start)
    return found


def test_arrows_point_where_the_policy_goes_and_stay_away_from_the_goal():
    grid = GridWorldVector(1)
    _, axes = plotting.new_axes()
    plotting.policy_arrows(axes, grid, behaviour_policy("CA14/GridWorld-v0", "expert"))
    drawn = arrows(axes)
    assert set(drawn) == {(x, y) for x in range(5) for y in range(5)} - {(4, 4)}
    for (x, _), displacements in drawn.items():
        (displacement,) = displacements
        assert displacement @ ((0, 1) if x == 4 else (1, 0)) > 0.3
        assert displacement @ ((1, 0) if x == 4 else (0, 1)) == 0


def test_arrows_are_as_long_as_their_probability():
    grid = GridWorldVector(1, size=2)
    policy = np.tile([0.6, 0.3, 0.1, 0.0], (4, 1))
    _, axes = plotting.new_axes()
    plotting.policy_arrows(axes, grid, policy)
    up, down, left = arrows(axes)[(0, 0)]
    assert up[1] == pytest.approx(2 * -down[1]) == pytest.approx(6 * -left[0])


def test_coverage_has_four_triangles_a_cell_on_the_side_of_their_action(wide_grid):
    counts = np.zeros((12, 4), dtype=int)
    counts[wide_grid.cell_index((2, 1))] = [1, 10, 100, 1_000]
    figure = plotting.action_coverage(wide_grid, counts, title="coverage")
    axes = figure.axes[0]
    assert axes.get_title() == "coverage"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("x", "y")
    assert figure.axes[1].get_ylabel() == "times taken"
    patches = [patch for patch in axes.patches if isinstance(patch, Polygon)]
    assert len(patches) == 4 * 12
    seen = [patch for patch in patches if patch.get_hatch() is None]
    assert len(seen) == 4
    for patch in patches:
        assert (patch.get_facecolor() == (1, 1, 1, 1)) == (patch.get_hatch() is not None)
    brightness = []
    for patch, direction in zip(seen, [(0, 1), (0, -1), (-1, 0), (1, 0)]):
        middle = patch.get_xy()[:3].mean(axis=0) - (2, 1)
        assert middle @ direction == pytest.approx(1 / 3)
        assert abs(middle @ direction[::-1]) < 1e-9
        brightness.append(linear(patch.get_facecolor()[:3]) @ [0.2126, 0.7152, 0.0722])
    assert brightness == sorted(brightness)
    assert len(set(brightness)) == 4


def test_coverage_figures_can_share_a_scale(wide_grid):
    counts = np.full((12, 4), 10)
    colours = []
    for vmax in (10, 1_000):
        _, axes = plotting.new_axes()
        plotting.draw_action_coverage(axes, wide_grid, counts, vmax)
        colours.append(axes.patches[0].get_facecolor())
    assert colours[0] != colours[1]


def test_coverage_of_no_data_is_all_unseen(wide_grid):
    figure = plotting.action_coverage(wide_grid, np.zeros((12, 4), dtype=int))
    assert all(patch.get_hatch() for patch in figure.axes[0].patches)
    figure.canvas.draw()


def test_every_public_name_exists():
    assert sorted(plotting.__all__) == sorted(set(plotting.__all__))
    for name in plotting.__all__:
        assert hasattr(plotting, name)


def test_trajectory_frames_are_reproducible_by_seed():
    environment = gym.make("CA14/RiverSwim-v0", render_mode="rgb_array")
    first, again = (plotting.trajectory_frames(environment, [1] * 15, seed=3) for _ in range(2))
    assert len(first) == 16
    assert all((one == other).all() for one, other in zip(first, again))
    other = plotting.trajectory_frames(environment, [1] * 15, seed=4)
    assert any((one != two).any() for one, two in zip(first, other))
