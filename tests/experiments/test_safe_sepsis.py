"""Treatment within limits on the doses: the costs are the doses, the fronts are fronts, and the table obeys duality."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ca14lib.environments import ICUSepsisVector, behaviour_policy
from ca14lib.experiments.safe import sepsis
from ca14lib.experiments.safe.sepsis import (
    DRUGS,
    chord_gap,
    clinicians,
    described,
    dose,
    dose_front,
    dosed_model,
    exact_numbers,
    priced_optimum,
    sampled_doses,
)
from ca14lib.solvers import policy_costs, policy_return

RESULTS = Path(__file__).parents[2] / "results"


def table(name: str) -> pd.DataFrame:
    return pd.read_csv(RESULTS / f"{name}.csv")


def test_an_action_is_a_fluid_level_and_a_vasopressor_level():
    assert dose([0, 4, 20, 24, 7]).tolist() == [[0, 1, 0, 1, 0.5], [0, 0, 1, 1, 0.25]]
    # vasopressors are for the sickest: their mean level in a state goes with its SOFA score, that of fluids hardly
    environment = ICUSepsisVector()
    alive = ~dosed_model().terminal
    levels = dose(np.arange(25)) @ clinicians()[alive].T
    sickness = [np.corrcoef(environment.sofa[alive], level)[0, 1] for level in levels]
    assert sickness[0] > 0.5 > 0.3 > sickness[1]


def test_an_inadmissible_action_costs_what_it_does():
    model, admissible = dosed_model(), ICUSepsisVector().admissible
    state = int(np.flatnonzero((admissible.sum(axis=1) > 1) & (admissible.sum(axis=1) < 25) & ~model.terminal)[0])
    inside, outside = np.flatnonzero(admissible[state]), np.flatnonzero(~admissible[state])
    assert model.expected_cost[:, state, inside] == pytest.approx(dose(inside))
    for action in outside:
        assert model.expected_cost[:, state, action] == pytest.approx(dose(inside).mean(axis=1))
        assert model.transition[state, action] == pytest.approx(model.transition[state, inside].mean(axis=0), abs=1e-6)
    assert (model.expected_cost[:, model.terminal] == 0).all()


def test_exact_numbers_are_those_of_the_solvers_and_of_simulation():
    policy = behaviour_policy("CA14/ICUSepsis-v0", "clinician")
    numbers = exact_numbers(policy)
    assert numbers["survival"] == pytest.approx(policy_return(dosed_model(), policy))
    assert [numbers[drug] for drug in DRUGS] == pytest.approx(policy_costs(dosed_model(), policy))
    sampled = sampled_doses(policy, stays=4_000, seed=1)
    assert sampled.mean() == pytest.approx(numbers["vasopressors"], abs=4 * sampled.std() / np.sqrt(4_000))
    assert (sampled_doses(policy, stays=50, seed=2) == sampled_doses(policy, stays=50, seed=2)).all()
    assert (sampled_doses(policy, stays=50, seed=2) != sampled_doses(policy, stays=50, seed=3)).any()


def test_a_price_lowers_the_dose_and_the_survival():
    free, priced = exact_numbers(priced_optimum((0.0, 0.0))), exact_numbers(priced_optimum((0.05, 0.0)))
    assert priced["vasopressors"] < free["vasopressors"]
    assert priced["survival"] < free["survival"]
    assert priced["survival"] - 0.05 * priced["vasopressors"] > free["survival"] - 0.05 * free["vasopressors"]


def test_two_tangents_bound_a_concave_curve_over_its_chord():
    def point(dose: float) -> dict[str, float]:  # on the curve 1 - (1 - dose)²
        return {"fluids": dose, "survival": 1 - (1 - dose) ** 2, "price": 2 * (1 - dose)}

    left, right = point(0.2), point(0.8)
    inside = np.linspace(0.2, 0.8, 601)
    chord = np.interp(inside, [0.2, 0.8], [left["survival"], right["survival"]])
    true = (1 - (1 - inside) ** 2 - chord).max()
    assert true < chord_gap(left, right, "fluids") == pytest.approx(2 * true)
    straight = {"fluids": 0.0, "survival": 0.0, "price": 1.0}, {"fluids": 1.0, "survival": 1.0, "price": 1.0}
    assert chord_gap(*straight, "fluids") == 0.0


@pytest.mark.parametrize("arguments, message", [(("aspirin", 3), "drug"), (("fluids", 1), "corners")])
def test_a_front_needs_a_drug_and_two_corners(arguments, message):
    with pytest.raises(ValueError, match=message):
        dose_front(*arguments)


@pytest.mark.slow
def test_a_front_of_three_corners_is_concave(monkeypatch):
    monkeypatch.setattr(sepsis, "LEAST_DOSE_PRICE", 1.0)
    front = dose_front("fluids", 3)
    assert (np.diff(front["fluids"]) > 0).all()
    slopes = np.diff(front["survival"]) / np.diff(front["fluids"])
    assert slopes[0] > slopes[1] > 0
    assert front["price"].is_monotonic_decreasing
    assert (front["gap"] >= 0).all()


def test_a_described_policy_has_a_tail_no_lighter_than_its_mean():
    row = described("clinicians", clinicians())
    assert row["dose_cvar"] >= row["dose_var"] >= 0
    assert row["dose_cvar"] > row["vasopressors"]
    assert (sampled_doses(clinicians(), stays=2_000) == 0).mean() > 0.6  # most stays get nothing


# --- what the page says of the stored tables ----------------------------------------------------------------------


def test_stored_limits_are_kept_and_bind_where_their_price_is_positive():
    rows = table("safe_sepsis")
    given = rows[rows["policy"] == "clinicians"].iloc[0]
    for _, row in rows[(rows["policy"] == "optimum") & (rows["limited"] != "nothing")].iterrows():
        for drug in DRUGS:
            if row["limited"] in (drug, "both"):
                assert row[drug] <= row["share"] * given[drug] * (1 + 1e-5)
            if row[f"{drug}_price"] > 0:
                assert row[drug] == pytest.approx(row["share"] * given[drug], rel=1e-4)
        assert row["survival"] > given["survival"]


def test_stored_survival_falls_and_prices_rise_as_the_limits_tighten():
    rows = table("safe_sepsis")
    for limited, price in (("vasopressors", "vasopressors_price"), ("fluids", "fluids_price")):
        tightening = rows[rows["limited"] == limited].sort_values("share", ascending=False)
        assert tightening["survival"].is_monotonic_decreasing
        assert tightening[price].is_monotonic_increasing


def test_stored_optima_lie_on_the_stored_fronts():
    rows, fronts = table("safe_sepsis"), table("safe_sepsis_front")
    for drug in DRUGS:
        front = fronts[fronts["drug"] == drug]
        assert front["gap"].max() < 0.001
        for _, row in rows[rows["limited"] == drug].iterrows():
            chord = np.interp(row[drug], front[drug], front["survival"])
            assert chord - 1e-6 <= row["survival"] <= chord + front["gap"].max()
        both = rows[rows["limited"] == "both"]
        assert (both["survival"] <= np.interp(both[drug], front[drug], front["survival"]) + front["gap"].max()).all()
