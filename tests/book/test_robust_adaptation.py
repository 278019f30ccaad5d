"""The exercises on adaptation to a target hold as the page on domain randomisation prints them."""

import re
from pathlib import Path

import numpy as np
import pytest

from ca14lib.environments.domains import CartPoleDomainVector
from tests.book.test_solutions import solution

PAGE = (Path(__file__).parents[2] / "book" / "robust" / "domain_adaptation.md").read_text("utf8")


def test_every_solution_that_the_page_prints_is_tested_here():
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", PAGE))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert {name for name in printed if name.startswith("adaptation_")} <= tested


def test_a_factor_on_both_masses_and_the_gain_changes_nothing():
    environment = CartPoleDomainVector(2)
    parameters = {name: np.array([1.0, 1.7]) * CartPoleDomainVector.PARAMETERS[name].nominal
                  for name in ("cart_mass", "pole_mass", "gain")}  # fmt: skip
    environment.reset(seed=0, options={"parameters": parameters, "state": np.tile([0.1, 0.2, 0.05, -0.3], (2, 1))})
    for action in (0, 1, 1, 0, 1):
        environment.step(np.array([action, action]))
    np.testing.assert_allclose(*environment.state, rtol=1e-12)


def test_parameters_of_a_ridge_stay_uncertain_and_their_quotient_does_not():
    module = solution("adaptation_ridge")
    few, many = module.belief(1), module.belief(20)
    for name, width in (("cart_mass", 1.5), ("gain", 1.5), ("pole_mass", 0.15)):
        assert many[name] > 0.2 * width
    assert few["quotient"] > 2 * many["quotient"]
    assert many["quotient"] < 0.02
    assert many["lowest in box"] < 0.5
    assert many["highest in box"] > 2


def test_shuffled_rows_make_a_belief_that_is_sure_and_wrong():
    module = solution("adaptation_shuffled")
    in_order, shuffled = module.fitted(shuffled=False), module.fitted(shuffled=True)
    mean, deviation = module.belief(in_order)
    assert abs(mean - 1.5) < 3 * deviation
    assert (module.residuals(in_order) < 1.2 * module.NOISE).all()
    mean, deviation = module.belief(shuffled)
    assert mean < 0.75
    assert mean + 20 * deviation < 1.5
    assert (module.residuals(shuffled)[[1, 3]] > 5 * module.NOISE).all()


@pytest.mark.parametrize("name", ["adaptation_ridge", "adaptation_shuffled"])
def test_solutions_are_scripts(name):
    assert '__name__ == "__main__"' in (Path(__file__).parent / "solutions" / f"{name}.py").read_text("utf8")
