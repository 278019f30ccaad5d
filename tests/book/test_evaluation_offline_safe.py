"""The exercises on limits learned from a log hold as the page prints them."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ca14lib.agents.hybrid.constrained_bcq import pessimistic_values, supported_softmax
from tests.book.test_solutions import solution

PAGE = (Path(__file__).parents[2] / "book" / "evaluation" / "offline_safe.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested
    for name in printed:
        assert '__name__ == "__main__"' in (Path(__file__).parent / "solutions" / f"{name}.py").read_text("utf8")


def test_episodes_that_were_safe_by_luck_make_a_clone_that_is_not():
    rng = np.random.default_rng(0)
    bridge = rng.random(400_000) < 0.5
    paid = bridge & (rng.random(400_000) < 0.3)
    share = bridge[~paid].mean()
    assert share == pytest.approx(7 / 17, abs=0.005)
    assert paid.sum() / len(paid) > 0.1
    assert 0.3 * share == pytest.approx(0.124, abs=0.002)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
@pytest.mark.parametrize("limit", [0.1, 0.5, 0.9])
def test_the_price_of_a_mixture_is_that_of_the_log_odds(limit, temperature):
    price = 3 - temperature * math.log(limit / (1 - limit))
    scores = torch.tensor([[4 - price, 1.0]], dtype=torch.float64)
    policy = supported_softmax(scores, torch.ones(1, 2).bool(), temperature)
    assert float(policy[0, 0]) == pytest.approx(limit)
    assert float(policy[0] @ torch.tensor([4.0, 1.0], dtype=torch.float64)) == pytest.approx(1 + 3 * limit)


def test_a_mean_over_all_states_prices_nothing_and_first_states_find_the_mixture():
    module = solution("offline_safe_states")
    price, cost = module.cost_found(0.5, all_states=False)
    assert (price, cost) == pytest.approx((3.0, 0.5), abs=0.01)
    price, cost = module.cost_found(0.5, all_states=True)
    assert price < 0.2
    assert cost == pytest.approx(1.0, abs=1e-3)
    value = module.backward_pass(0.0, 0.05)
    assert (module.visits() * value).sum() < value[0] @ module.MODEL.initial


def test_the_minimum_of_two_costs_is_too_low_by_its_share_of_the_deviation():
    draws = torch.randn(2, 400_000, 2, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    worse = pessimistic_values(draws[0], draws[1], 1.0).mean(dim=0).flatten()
    np.testing.assert_allclose(worse, [-1 / math.sqrt(math.pi), 1 / math.sqrt(math.pi)], atol=0.005)
    assert 20 * 0.02 / math.sqrt(math.pi) == pytest.approx(0.23, abs=0.005)


def test_a_fixed_price_takes_one_corner_or_the_other():
    module = solution("offline_safe_fixed")
    assert module.greedy(2.9) == pytest.approx((4.0, 1.0))
    assert module.greedy(3.1) == pytest.approx((1.0, 0.0))
