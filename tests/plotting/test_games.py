"""Pictures of games show what they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from ca14lib.environments import game_payoffs
from ca14lib.plotting import draw_payoffs, draw_simplex, draw_strategies, new_axes, simplex_points


@pytest.fixture
def axes():
    figure, axes = new_axes()
    yield axes
    plt.close(figure)


def test_triangle_is_equilateral_and_mixtures_lie_between_corners():
    corners = simplex_points(np.eye(3))
    sides = [np.linalg.norm(corners[i] - corners[j]) for i, j in ((0, 1), (1, 2), (2, 0))]
    assert sides == pytest.approx([1.0] * 3)
    assert simplex_points([1 / 3] * 3) == pytest.approx(corners.mean(axis=0))
    with pytest.raises(ValueError, match="three actions"):
        simplex_points([0.5, 0.5])


def test_path_ends_in_a_dot_at_the_last_strategy(axes):
    draw_simplex(axes, ["rock", "paper", "scissors"])
    path = np.array([[1, 0, 0], [0.2, 0.3, 0.5]])
    draw_strategies(axes, path, name="fictitious play", label="last")
    line, dot = axes.lines[-2:]
    np.testing.assert_allclose(np.column_stack(line.get_data()), simplex_points(path))
    np.testing.assert_allclose(np.ravel(dot.get_data()), simplex_points(path[-1]))
    assert {text.get_text() for text in axes.texts} == {"rock", "paper", "scissors"}


def test_table_shows_both_payoffs_of_every_joint_action(axes):
    draw_payoffs(axes, game_payoffs("prisoners_dilemma"), ["cooperate", "defect"], mark=[(1, 1)])
    assert [text.get_text() for text in axes.texts] == ["3, 3", "0, 5", "5, 0", "1, 1"]
    assert len(axes.patches) == 1
    with pytest.raises(ValueError, match=r"\[2, A, B\]"):
        draw_payoffs(axes, np.zeros((3, 2, 2, 2)), ["a", "b"])
