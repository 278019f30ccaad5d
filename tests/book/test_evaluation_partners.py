"""The numbers and the code of the page on partners who were never met hold."""

import re
from pathlib import Path

import numpy as np
import pytest

from ca14lib.experiments.evaluation.partners import PAYOFF, ROUNDS, best_returns, scripted_partners
from ca14lib.solvers.partners import other_play_value, stranger_optimum, stubborn, symmetries
from tests.book.test_solutions import solution

PAGE = (Path(__file__).parents[2] / "book" / "evaluation" / "partners.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_the_best_stranger_is_as_far_from_the_best_responses_as_the_page_says():
    informed = np.mean(list(best_returns().values()))
    stranger = stranger_optimum(PAYOFF, list(scripted_partners().values()))
    assert (informed, stranger) == pytest.approx((4.41, 3.78), abs=0.006)
    assert stranger / informed == pytest.approx(0.86, abs=0.005)


def test_the_odd_lever_a_leader_and_a_guess():
    module = solution("evaluation_partners_levers")
    for rounds, odd, leader, guess in ((1, 0.9, 0.33, 0.33), (5, 4.5, 4.33, 4.07), (8, 7.2, 7.33, 6.87)):
        found = [play(3, 0.9, rounds) for play in (module.odd, module.leader, module.guess_then_odd)]
        assert found == pytest.approx([odd, leader, guess], abs=0.005)
    assert [module.horizon_for_a_leader(same, 0.9) for same in (3, 9)] == [7, 9]
    assert other_play_value(PAYOFF, stubborn(3, 4, ROUNDS)) == pytest.approx(module.odd(3, 0.9, ROUNDS))


def test_the_uniform_start_lies_outside_of_the_odd_levers_pull():
    odd = (1 / 3) / (0.9 + 1 / 3)  # where x · p = (1 − p) / 3
    assert odd == pytest.approx(0.27, abs=0.005)
    assert odd > 0.25


def test_imitators_match_most_when_they_toss_a_coin():
    module = solution("evaluation_partners_imitators")
    found = [module.cross_play(module.PAYOFF, module.hesitant(q), module.hesitant(q)) for q in (0, 0.25, 0.5, 0.75, 1)]
    assert found == pytest.approx([1.22, 3.11, 3.46, 3.11, 1.22], abs=0.005)


def test_symmetries_and_populations_are_counted_right():
    counts = [len(symmetries(np.diag(pays))) for pays in ([1, 1, 1, 0.9], [1, 1, 0.9, 0.9], [1, 2, 3, 4.0])]
    assert counts == [6, 4, 1]
    covered = [1 - 3 * (2 / 3) ** n + 3 * (1 / 3) ** n for n in (3, 4, 8)]
    assert covered == pytest.approx([0.22, 0.44, 0.88], abs=0.005)
    assert 1 - covered[1] == pytest.approx(0.56, abs=0.005)
