"""The numbers and the code of the page on limits under the worst model hold."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ca14lib.agents.hybrid.robust_lagrangian import per_episode, worst_model_weights
from tests.book.test_solutions import solution

PAGE = (Path(__file__).parents[2] / "book" / "evaluation" / "robust_safe.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_two_doors_are_taken_alike():
    module = solution("evaluation_robust_safe_doors")
    assert [module.common(limit) for limit in (0.1, 0.3, 0.5)] == pytest.approx([0.2, 0.6, 1.0])
    assert [module.told(limit) for limit in (0.1, 0.3, 0.5)] == pytest.approx([0.5, 1.0, 1.0])
    assert module.averaged(0.3) == pytest.approx((0.6, 0.48))


def test_windows_that_begin_with_a_reset_miss_the_long_episodes():
    module = solution("evaluation_robust_safe_ratio")
    for window, fresh, ratio in ((10, 0.0, 0.49), (25, 0.38, 0.5), (100, 0.45, 0.51)):
        assert module.estimates(window, 8) == pytest.approx((fresh, ratio), abs=0.006)


def test_a_weight_dies_and_comes_back_as_slowly():
    weight = torch.full((2,), 0.5, dtype=torch.float64)
    for _ in range(200):
        weight = worst_model_weights(weight, torch.tensor([8.0, 6.0]), 0.05)
    assert weight[0].item() == pytest.approx(2e-9, rel=0.05)
    for _ in range(200):
        weight = worst_model_weights(weight, torch.tensor([6.0, 8.0]), 0.05)
    assert weight[0].item() == pytest.approx(0.5)
    assert np.log(2 / 0.01) / (0.05 * 2) == pytest.approx(53, abs=0.5)


def test_the_mean_length_of_all_models_misjudges_each():
    model, ended = torch.tensor([0, 0, 0, 0, 1, 1, 1]), torch.tensor([0, 1, 0, 1, 0, 0, 1]).bool()
    cost = torch.tensor([1.0, 1, 1, 1, 5, 0, 0]).unsqueeze(-1)
    of_model = torch.nn.functional.one_hot(model, 2).float()
    short = (of_model.T @ cost) / of_model.sum(dim=0).unsqueeze(-1) * (7 / 3)
    assert short[:, 0].tolist() == pytest.approx([7 / 3, 35 / 9])
    assert per_episode(cost, ended, model, 2)[0][:, 0].tolist() == [2.0, 5.0]
