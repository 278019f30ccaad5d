"""The exercises across the section on robust learning, and those on its applications: the programs and their claims."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import beta

from tests.book.test_solutions import solution

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "book" / "robust" / f"{name}.md" for name in ("exercises", "applications", "index", "environments")]


def rows(page: int, header: str) -> list[list[str]]:
    """The cells of the table of a page whose header starts so."""
    lines = PAGES[page].read_text("utf8").split(f"| {header}", 1)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def number(text: str) -> float:
    return float(text.replace("−", "-"))


def test_every_solution_that_the_pages_print_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", "".join(page.read_text("utf8") for page in PAGES)))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_a_range_without_its_end_and_random_draws_miss_the_worst_wind():
    module = solution("robust_section_ends")
    assert (module.worst_of_a_range(), module.worst_of_a_grid()) == pytest.approx((2.75, 0.5))
    assert module.on_the_ledge(0.15) == pytest.approx((module.on_the_ledge(0) + module.on_the_ledge(0.3)) / 2)
    for count in (1, 10, 26):
        assert module.worst_of_draws(count) == pytest.approx(0.5 + 13.5 / (count + 1), abs=0.05)
    assert 13.5 / 27 <= 0.5 < 13.5 / 26
    assert [round(module.corner(d)) for d in (1, 2, 3, 5)] == [28, 298, 2_994, 299_572]


def test_the_worst_of_equal_attacks_is_under_all_of_them():
    module = solution("robust_section_suite")
    for episodes, committed in ((20, 368), (200, 390)):
        free, least, honest = module.reports(module.evaluated(8, episodes)).values()
        assert free == pytest.approx(258, abs=2)
        assert least == pytest.approx(committed, abs=1.5)
        assert honest == pytest.approx(400, abs=3)


def test_mean_worst_and_tail_choose_different_ways():
    module = solution("robust_section_ledge")
    for measure, expected in (
        (lambda way: module.mean_over_winds(way, 0.2), (9.5, 9.06)),
        (lambda way: module.worst_wind(way, 0.2), (5.0, 8.06)),
        (lambda way: module.tail(way, (0.05,), 0.3), (6.5, 8.20)),
        (lambda way: module.tail(way, (0.05,), 0.5), (9.5, 8.92)),
    ):
        assert (measure("ledge"), measure("detour")) == pytest.approx(expected, abs=0.006)
    gains = [module.mean_over_winds("ledge", c) - module.mean_over_winds("detour", c) for c in (0.22, 0.224, 0.23)]
    assert gains[0] > gains[1] > 0 > gains[2]
    for share, steady, drawn in ((0.5, 5.0, 5.0), (0.1, -3.1, -6.9)):
        found = module.tail("ledge", (0.1,), share), module.tail("ledge", (0.0, 0.2), share)
        assert found == pytest.approx((steady, drawn), abs=0.05)


def test_attacks_lie_over_the_exact_answer_and_the_bound_under_it():
    module = solution("robust_section_sandwich")
    for share, *cells in rows(0, "$x$ | no lie"):
        found = module.attacks(module.exploring(number(share)))
        assert list(found.values()) == pytest.approx([number(cell) for cell in cells], abs=0.0051)
        for attack in ("random", "poorest cell", "critic"):
            assert found[attack] >= found["exact"] - 1e-12 >= found["certified"] - 2e-12
        assert found["critic"] == pytest.approx(found["exact"], abs=5e-4)


def test_a_prior_that_is_sure_and_wrong_is_never_corrected():
    module = solution("robust_section_prior")
    for truth, expected in ((0.7, (3, 0, 400)), (0.3, (8, 23, 0))):
        found = [module.thompson(truth, prior) for prior in module.PRIORS.values()]
        assert found == pytest.approx(expected, abs=0.7)
    assert module.optimism(0.7) == pytest.approx(0, abs=0.5)
    assert module.optimism(0.3) == pytest.approx(17, abs=1)
    assert beta.sf(0.7, *module.PRIORS["hopeless"]) < 1e-6


def test_two_worlds_hide_each_other():
    module = solution("robust_section_two_worlds")
    assert module.rough() == pytest.approx(1.28, abs=0.005)
    assert (module.coverage(0.5), module.coverage(module.rough())) == pytest.approx((0.999, 0.801), abs=5e-4)
    assert module.coverage(0.5) + module.coverage(module.rough()) == pytest.approx(1.8)
    found = module.errors()
    assert list(found.values()) == pytest.approx([0.215, 0.082, 0.068], abs=0.002)


def test_summaries_of_a_shift_curve_disagree():
    module = solution("robust_section_curves")
    specialist, generalist = (list(module.summaries(module.RETURNS[name]).values()) for name in module.RETURNS)
    for (_, *cells), *found in zip(rows(0, "| specialist"), specialist, generalist, strict=True):
        for cell, value in zip(cells, found, strict=True):
            assert value == pytest.approx(number(cell), abs=0.051 if value > 1 else 0.0051)
    winners = np.array(specialist) > np.array(generalist)
    assert winners.tolist() == [True, False, True, False, False, False, False]
    assert specialist[6] / specialist[5] == pytest.approx(5.5, abs=0.5)


def test_caution_has_rates_of_exchange():
    module = solution("robust_section_exchange")
    assert list(module.equal_caution(0.1).values()) == pytest.approx([1.54, 3.51, 1.755], abs=0.001)
    assert list(module.on_a_grid(0.1).values()) == pytest.approx([module.deviations(0.1)] * 3, abs=1e-4)
    assert module.over_steps(0.1, 100) == pytest.approx((17.55, 175.5), abs=0.01)
    assert np.sqrt(0.001 * 0.999) * 1_000 == pytest.approx(32, abs=0.5)


def test_the_optimum_of_intensive_care_in_its_worst_model_and_what_a_radius_takes():
    module = solution("robust_section_sepsis")
    found = module.survival(0.02)
    assert found["optimum"] == pytest.approx((0.801, 0.748), abs=5e-4)
    assert found["clinicians"] == pytest.approx((0.722, 0.648), abs=5e-4)
    table = pd.read_csv(ROOT / "results" / "robust_mdp_sepsis.csv")
    ball = table[(table.ball == "l1") & (table.support == "nominal")].set_index("radius")
    assert ball.loc[0.1, "guarantee"] == pytest.approx(0.510, abs=5e-4)
    assert ball.loc[0.1, "guarantee"] < found["clinicians"][0] < found["optimum"][1] < ball.loc[0.02, "guarantee"]
    successors = module.typical_successors(module.ICUSepsisVector(1).tabular_model())
    assert successors == 85
    needed = [module.transitions_needed(radius, successors) for radius in (0.02, 0.1, 1.0)]
    assert needed == pytest.approx([310_000, 12_400, 124], rel=0.005)


def test_estimated_weights_need_more_months_than_there_are():
    module = solution("robust_section_window")
    assert module.months_needed(25, 0.15, 0.12) == pytest.approx(3_086, abs=1)
    for mean, expected in ((0.1, (-3.4, -0.2, 0.7, 0.3)), (0.0, (-8.4, -3.5, -1.3, -0.1))):
        found = [1_000 * module.utility(60, mean, radius / np.sqrt(60)) for radius in (0, 0.5, 1, 2)]
        assert found == pytest.approx(expected, abs=0.08)
        assert found[0] == pytest.approx(1_000 * (mean**2 / 2 - 1 / 120), abs=0.08)


def test_fifteen_of_twenty_five_races_leave_a_wide_interval():
    assert (beta.ppf(0.025, 15, 11), beta.ppf(0.975, 16, 10)) == pytest.approx((0.39, 0.79), abs=0.005)
