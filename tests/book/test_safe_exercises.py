"""The exercises across the section on safe learning, and those on its applications: the programs and their claims."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.book.test_solutions import solution

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "book" / "safe" / f"{name}.md" for name in ("exercises", "applications", "index", "environments")]


def test_every_solution_that_the_pages_print_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", "".join(page.read_text("utf8") for page in PAGES)))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_a_batch_that_resets_itself_hides_the_cost_of_the_last_step():
    module = solution("section_lost_cost")
    for limit, missing in ((0.3, 0.04), (0.6, 0.1)):
        right, wrong = (module.counted_costs(limit, faulty).mean() for faulty in (False, True))
        assert right == pytest.approx(limit, abs=0.02)
        assert right - wrong == pytest.approx(missing, abs=0.005)


def test_the_likeliest_action_turns_five_optima_into_two_policies():
    module = solution("section_best_action")
    for limit, drawn, greedy in (
        (0.2, -2.18, (0.1, -5)), (0.3, 0.64, (0.1, -5)), (0.4, 3.46, (0.6, 9.1)), (0.5, 6.28, (0.6, 9.1)),
        (0.6, 9.1, (0.6, 9.1)),
    ):  # fmt: skip
        policy = module.constrained_optimum(module.MODEL, [limit]).policy
        assert module.judged(policy) == pytest.approx((limit, drawn))
        assert module.judged(module.likeliest(policy)) == pytest.approx(greedy)


def test_one_number_has_four_readings():
    assert list(solution("section_four_limits").best_returns().values()) == pytest.approx([6.28, -2.18, -2.744, -5.0])
    for share, bound in ((0.8, 0.1 + 0.5 * 0.8), (0.16, (0.6 * 0.16 + 0.1 * 0.04) / 0.2)):
        assert bound == pytest.approx(0.5), share


def test_certainty_is_free_dear_or_not_to_be_had():
    module = solution("section_certainty")
    assert module.without_hazards("original") == pytest.approx((9.1, 0.6))
    assert module.without_hazards("bridges") == pytest.approx((3.5, 0.0))
    assert module.without_hazards("shore") is None
    fronts = {
        layout: module.pareto_front(module.SafeGridVector(layout=layout).tabular_model())
        for layout in ("bridges", "shore")
    }
    assert (fronts["bridges"].returns[-1], fronts["bridges"].costs[-1]) == pytest.approx((7.5, 2.0))
    assert (fronts["shore"].costs[0], fronts["shore"].returns[0]) == pytest.approx((0.082, -24.9), abs=0.05)


def test_a_few_episodes_do_not_tell_who_keeps_a_limit():
    module = solution("section_judging")
    for episodes, guilty, acquitted in ((20, 0.41, 0.40), (100, 0.27, 0.33), (500, 0.12, 0.12)):
        assert module.found_guilty(0.8, episodes, 0.01) == pytest.approx(guilty, abs=0.006)
        assert 1 - module.found_guilty(0.84, episodes, 0.01) == pytest.approx(acquitted, abs=0.006)
    assert module.found_guilty(0.8, 2_500, 0.01) < 0.011
    assert module.found_guilty(0.84, 2_500, 0.01) > 0.99
    for episodes in (100, 10_000, 1_000_000):
        assert module.found_guilty(0.8, episodes, 0.0) == pytest.approx(0.5, abs=0.06)
    assert 30 * 0.2 / np.sqrt(128) == pytest.approx(0.53, abs=0.005)


def test_the_price_of_a_dose_predicts_small_changes_and_underestimates_large_ones():
    table = pd.read_csv(ROOT / "results" / "safe_sepsis.csv")
    limited = table[table["limited"] == "vasopressors"].set_index("share")
    full, half = limited.loc[1.0], limited.loc[0.5]
    saved = full["vasopressors"] - half["vasopressors"]
    lost = full["survival"] - half["survival"]
    assert full["vasopressors_price"] * saved < lost < half["vasopressors_price"] * saved
    assert (lost, full["vasopressors_price"] * saved) == pytest.approx((0.0027, 0.0018), abs=1e-4)


def test_more_than_half_of_the_gain_needs_half_of_the_doses_and_the_fluids_bind():
    table = pd.read_csv(ROOT / "results" / "safe_sepsis.csv")
    survival = table.set_index(["policy", "limited", "share"])["survival"].to_dict()
    clinicians, best = survival["clinicians", "nothing", np.inf], survival["optimum", "nothing", np.inf]
    assert survival["optimum", "both", 0.5] - clinicians > 0.5 * (best - clinicians)
    assert abs(survival["uniform", "nothing", np.inf] - clinicians) < 0.005
    price = {(row["limited"], row["share"]): row for _, row in table.iterrows()}
    alone, together = price["vasopressors", 0.5], price["both", 0.5]
    assert together["vasopressors_price"] < 0.1 * alone["vasopressors_price"]
    assert price["both", 1.0]["fluids_price"] > price["both", 1.0]["vasopressors_price"]
    optimum = table[(table["policy"] == "optimum") & (table["limited"] == "nothing")].iloc[0]
    given = table[table["policy"] == "clinicians"].iloc[0]
    assert all(optimum[drug] > given[drug] for drug in ("vasopressors", "fluids"))


def test_the_emergency_brake_acts_on_the_car_ahead_and_on_nothing_else():
    brake = solution("section_brake").emergency_brake
    scenes = np.zeros((5, 5, 5), np.float32)
    scenes[:, 0, :2] = 1
    for row, (ahead, across, faster) in enumerate(
        [(30, 0, -10), (60, 0, -10), (30, 4, -10), (-30, 0, -10), (30, 0, 2)]
    ):
        scenes[row, 1, :4] = 1, ahead / 200, across / 12, faster / 80
    allowed = brake(scenes, {})
    assert allowed[0].tolist() == [False, False, False, False, True]  # reached in 2.5 seconds
    assert allowed[1:].all()
    assert brake(np.zeros((1, 5, 5), np.float32), {}).all()  # an empty road


def test_a_helpful_drug_looks_harmful_when_only_the_sick_get_it():
    given, survival_with = np.array([0.05, 0.5]), np.array([0.95, 0.80])
    assert given @ survival_with / given.sum() == pytest.approx(0.814, abs=5e-4)


def test_the_figure_of_the_fronts_shows_the_results():
    picture = (ROOT / "book" / "safe" / "figures" / "dose-fronts.svg").read_text("utf8")
    front = pd.read_csv(ROOT / "results" / "safe_sepsis_front.csv")
    table = pd.read_csv(ROOT / "results" / "safe_sepsis.csv")
    curves = re.findall(r'<polyline points="([^"]+)"', picture)
    dots = re.findall(r'<circle class="clinicians" cx="([\d.]+)" cy="([\d.]+)"', picture)
    clinicians = table[table["policy"] == "clinicians"].iloc[0]
    for curve, dot, (drug, left, span) in zip(
        curves, dots, (("vasopressors", 70, 1.0), ("fluids", 430, 7.0)), strict=True
    ):
        drawn = np.array([[float(number) for number in point.split(",")] for point in curve.split()])
        rows = front[front["drug"] == drug]
        assert drawn[:, 0] == pytest.approx(left + rows[drug].to_numpy() / span * 270, abs=0.1)
        assert drawn[:, 1] == pytest.approx(290 - (rows["survival"].to_numpy() - 0.77) / 0.11 * 250, abs=0.1)
        assert float(dot[0]) == pytest.approx(left + clinicians[drug] / span * 270, abs=0.1)
        assert rows["gap"].max() < 0.001
