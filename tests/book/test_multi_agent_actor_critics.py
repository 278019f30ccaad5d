"""The pages on MADDPG, MAAC and credit: the programs they print, and the numbers they state."""

import re
from pathlib import Path

import numpy as np
import pytest

from ca14lib.experiments.multi_agent.credit import constant_policies, estimator_table, lifting_table
from ca14lib.metrics.credit import gradient_moments
from tests.book.test_solutions import solution

PAGES = [Path(__file__).parents[2] / "book" / "multi_agent" / f"{name}.md" for name in ("maddpg", "maac", "credit")]


def test_every_solution_that_these_pages_print_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", "".join(page.read_text("utf8") for page in PAGES)))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_straight_through_gradients_are_two_thirds_of_the_truth_or_point_the_other_way():
    module = solution("multi_agent_gumbel")
    assert module.mean_gradient(module.linear) == pytest.approx(1 / 6, abs=0.002)
    assert module.mean_gradient(module.bent) < -0.1


def test_the_best_baseline_leaves_the_others_part():
    module = solution("multi_agent_best_baseline")
    for p, stated in (
        (0.2, (0.0127, 0.0082, 0.0023)),
        (0.5, (0.0335, 0.0089, 0.0089)),
        (0.8, (0.0107, 0.0773, 0.0023)),
    ):
        found = module.variances(p, 8)
        assert [found[name] for name in ("difference", "counterfactual", "best")] == pytest.approx(stated, abs=5e-5)
        assert found["best"] == pytest.approx((p * (1 - p)) ** 2 * 4 * p * (1 - p) / 7)


def test_the_variances_of_the_lifting_game_have_the_closed_forms_of_the_page():
    table = estimator_table((2, 4, 8, 16)).set_index(["estimator", "agents", "lifting"])["variance"]
    for agents in (2, 4, 8, 16):
        for p in (0.5, 0.8):
            mean, v, q = 2 * p - 0.5, 4 * p * (1 - p) / (agents - 1), 1 - p
            own = p * q * (1 - 2 * p) ** 2 * mean**2
            assert table["own critic", agents, p] == pytest.approx(own, abs=1e-12)
            assert table["counterfactual baseline", agents, p] == pytest.approx(own + p * q * (1 - 3 * p * q) * v)
            assert table["difference reward", agents, p] == pytest.approx(p * q**3 * mean**2 + p * q**2 * v)
    stated = {("counterfactual baseline", 0.8): 0.073, ("difference reward", 0.8): 0.009,
              ("counterfactual baseline", 0.5): 0.004, ("difference reward", 0.5): 0.024}  # fmt: skip
    for (name, p), value in stated.items():
        assert table[name, 16, p] == pytest.approx(value, abs=5e-4)


def test_the_teams_noise_grows_as_stated():
    def variance(agents, p, centred):
        team, policies = lifting_table(agents), constant_policies(agents, p)
        mean = agents * (p**2 - p / 2) if centred else 0.0
        return gradient_moments(np.broadcast_to(team - mean, (agents, *team.shape)), policies).variance[0]

    sizes = np.array([8, 16])
    for p, centred, power in ((0.5, False, 1), (0.8, True, 1), (0.8, False, 2)):
        few, many = (variance(int(agents), p, centred) for agents in sizes)
        assert np.log2(many / few) == pytest.approx(power, abs=0.35)


def test_old_experience_biases_an_own_critic_as_stated():
    row = estimator_table((8,)).set_index(["estimator", "lifting"]).loc[("own critic, old experience", 0.8)]
    assert row["bias"] == pytest.approx(-0.096)
    assert row["gradient"] == pytest.approx(0.176)


def test_the_draw_of_the_own_action_makes_the_noise_of_the_exercise():
    for p in (0.1, 0.5, 0.7):
        values = np.array([(1 - p) ** 2, p**2])
        chance = np.array([p, 1 - p])
        assert chance @ values == pytest.approx(p * (1 - p))
        assert chance @ values**2 - (chance @ values) ** 2 == pytest.approx(p * (1 - p) * (1 - 2 * p) ** 2)
