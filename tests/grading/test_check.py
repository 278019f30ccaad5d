"""The checks: what they accept, what they refuse, and what they say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ca14lib.environments import TabularModel
from ca14lib.grading import CheckError, check_close, check_policy, check_true


@pytest.mark.parametrize(
    "actual, expected",
    [
        (2, 2.0),
        (2.0 + 1e-9, 2.0),
        (np.float32(0.1), 0.1),
        ([1.0, 2.0], np.array([1.0, 2.0])),
        (torch.tensor([1.0, 2.0], requires_grad=True), [1.0, 2.0]),
        (np.array([1, -np.inf]), [1.0, -np.inf]),
        (np.array([True, False]), [True, False]),
        (np.array([3], dtype=np.int32), np.array([3])),
    ],
)
def test_equal_values_pass_whatever_holds_them(actual, expected) -> None:
    check_close(actual, expected, rtol=1e-6)


@pytest.mark.parametrize(
    "actual, expected, said",
    [
        (np.zeros((0, 3)), np.ones((2, 3)), r"expected shape \(2, 3\), got \(0, 3\)"),
        (np.ones((1, 3)), np.ones(3), r"expected shape \(3,\), got \(1, 3\)"),
        (1.0, np.ones(3), r"expected shape \(3,\), got \(\)"),
        ([1.0, np.nan], [1.0, 2.0], r"result\[1\] is nan, which is not finite"),
        ([1.0, np.inf], [1.0, 2.0], "not finite"),
        ([1.0, np.inf], [1.0, -np.inf], "not finite"),
        ([1.0, 5.0], [1.0, -np.inf], r"result\[1\] is 5, expected -inf"),
        ([[1.0, 2.0], [3.0, 5.0]], [[1.0, 2.0], [3.0, 4.0]], r"result\[1, 1\] is 5, expected 4 \(1 of 4 differ\)"),
        ([1.5], [1], "expected whole numbers, got an array of float64"),
        ([1, 0], [True, False], "expected truth values"),
        ([True], [1.0], "expected numbers, got an array of bool"),
        (None, 1.0, "None"),
        ("1.0", 1.0, "str"),
        (np.array([object()]), [1.0], "object"),
        ([[1.0], [1.0, 2.0]], [1.0, 2.0], "regular array"),
        ([1j], [1.0], "regular array"),
        ({"a": 1}, 1.0, "dict"),
        (10**400, 1.0, "int"),
    ],
)
def test_everything_else_fails_and_says_why(actual, expected, said: str) -> None:
    with pytest.raises(CheckError, match=said) as failure:
        check_close(actual, expected, hint="Book: somewhere.")
    assert failure.value.hint == "Book: somewhere."


def test_no_method_of_a_foreign_object_is_asked() -> None:
    class Equal(np.ndarray):
        def __array_ufunc__(self, *_, **__):
            return np.True_

        def __eq__(self, other):
            return True

    class Number:
        def __array__(self, *_, **__):
            return np.ones(3)

        def __bool__(self):
            return True

    with pytest.raises(CheckError):
        check_close(np.zeros(3).view(Equal), np.ones(3))
    with pytest.raises(CheckError):
        check_close(Number(), np.ones(3))
    for untrue in (Number(), 1, "yes", [True, True], None, np.array([]), np.False_):
        with pytest.raises(CheckError, match="must hold"):
            check_true(untrue, "it must hold")
    check_true(np.True_, "it must hold")
    check_true(torch.tensor(True), "it must hold")


def test_an_author_who_expects_no_numbers_is_told() -> None:
    for wrong in ("text", None, [np.nan]):
        with pytest.raises(ValueError, match="expected must consist of numbers"):
            check_close(1.0, wrong)


@pytest.fixture
def chain() -> TabularModel:
    """Two steps to the right give 1; there are four steps."""
    move = np.zeros((3, 2, 3))
    move[:, 0, 0] = move[0, 1, 1] = move[1:, 1, 2] = 1.0
    reward = np.array([[0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    return TabularModel(move, reward, terminal=np.array([False, False, True]), horizon=4)


def test_a_policy_is_held_against_the_optimum_exactly(chain: TabularModel) -> None:
    assert check_policy(lambda states: np.ones(len(states), dtype=int), chain, 1.0) == pytest.approx(1.0)
    assert check_policy(lambda states: np.full((len(states), 2), 0.5), chain, 0.0) == pytest.approx(0.0)
    with pytest.raises(CheckError, match=r"passing means at least 0\.900"):
        check_policy(lambda states: np.full((len(states), 2), 0.5), chain, 0.9)
    share = check_policy(lambda states: np.ones(len(states), dtype=int), chain, 0.99, episodes=10)
    assert share == pytest.approx(1.0)


@pytest.mark.parametrize(
    "answer",
    [
        np.ones(2, dtype=int),
        np.array([0, 1, 2]),
        np.array([0, -1, 1]),
        np.ones(3),
        np.full((3, 2), np.nan),
        np.full((3, 2), 0.4),
        np.array([[2.0, -1.0]] * 3),
        None,
        np.zeros((0, 2)),
    ],
)
def test_what_is_no_policy_is_refused(chain: TabularModel, answer) -> None:
    with pytest.raises(CheckError):
        check_policy(lambda states: answer, chain, 0.0)
