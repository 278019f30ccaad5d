"""The code solutions of the exercises on offline learning run as printed, and what the pages claim about them holds."""

import importlib.util
import math
import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

SOLUTIONS = Path(__file__).parent / "solutions"
PAGES = Path(__file__).parents[2] / "book" / "offline"


def solution(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, SOLUTIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_solution_that_is_printed_is_tested_here():
    text = "".join(page.read_text("utf8") for page in PAGES.glob("*.md"))
    printed = set(re.findall(r"tests/book/solutions/(\w+)\.py", text))
    tested = set(re.findall(r'solution\("(\w+)"\)', Path(__file__).read_text("utf8")))
    assert printed == tested


def test_the_mean_of_the_largest_of_k_normal_numbers():
    module = solution("gaussian_maximum")
    assert module.mean_maximum(2) == pytest.approx(1 / math.sqrt(math.pi))
    assert module.mean_maximum(3) == pytest.approx(3 / (2 * math.sqrt(math.pi)))
    for k, stated in ((4, 1.03), (25, 1.97)):
        assert module.mean_maximum(k) == pytest.approx(stated, abs=0.005)
        assert module.simulated_maximum(k, repetitions=100_000) == pytest.approx(stated, abs=0.02)
        assert module.mean_maximum(k) < math.sqrt(2 * math.log(k))


def test_equally_good_policies_are_covered_unequally():
    module = solution("coverage_of_the_optimum")
    behaviours = [module.behaviour_policy(module.GRID, name) for name in ("expert", "mixed", "random")]
    own = [module.concentrability(behaviours[0], behaviour) for behaviour in behaviours]
    other = [module.concentrability(module.up_then_right(), behaviour) for behaviour in behaviours]
    assert own[0] == pytest.approx(1)
    assert own[0] < own[1] < own[2]
    assert other[0] == math.inf
    assert other[1] > 100 * other[2]
    assert own[2] == pytest.approx(other[2])


def test_unseen_actions_are_exits_that_pay_their_initial_value():
    module = solution("naive_exits")
    threshold = module.threshold()
    for initial_value in (-1.0, threshold - 0.01):
        assert module.predicted_and_obtained(initial_value) == pytest.approx((threshold, threshold))
    for initial_value in (threshold + 0.01, 1.0):
        predicted, obtained = module.predicted_and_obtained(initial_value)
        assert predicted == pytest.approx(initial_value)
        assert obtained == pytest.approx(-10)


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_a_correlated_rater_keeps_that_share_of_the_bias(correlation):
    module = solution("double_estimator")
    assert module.remaining_bias(correlation, k=4) == pytest.approx(correlation * 1.0294, abs=0.01)


def test_a_target_that_moves_every_hundredth_update_lags_a_hundred_times_longer():
    module = solution("target_lag")
    assert module.updates_to_half_way(0.005) == 139
    assert module.updates_to_half_way(0.005, every=100) == 13_900


def test_reading_limits_as_ends_hides_most_of_the_cost():
    module = solution("time_limits")
    assert module.exact_start_value() == pytest.approx(-5.03, abs=0.01)
    assert module.estimated_start_value(False) == pytest.approx(module.exact_start_value(), abs=0.3)
    assert module.estimated_start_value(True) > module.exact_start_value() + 1.5


def test_the_imitation_bound_is_attained_as_the_error_vanishes():
    module = solution("cliff")
    discount = 0.99
    ratios = []
    for error in (0.1, 0.01, 0.001, 0.0001):
        loss = module.loss_of_the_copy(error, discount)
        assert loss == pytest.approx(error / ((1 - discount) * (1 - discount + discount * error)))
        ratios.append(loss * (1 - discount) ** 2 / error)
    assert ratios == sorted(ratios)
    assert 0.98 < ratios[-1] < 1


def test_the_mode_averages_noise_out_but_not_indifference():
    module = solution("majority_vote")
    for seed in range(3):
        sampled, mode = module.clone_returns("mixed", 2_000, seed)
        assert mode == pytest.approx(0.3)
        assert sampled < 0.1
        sampled, mode = module.clone_returns("random", 2_000, seed)
        assert mode == pytest.approx(-5)
        assert -5 < sampled < -3.5


@pytest.mark.parametrize("counts", [(90, 10), (60, 40)])
def test_a_rarer_action_has_to_pass_the_threshold(counts):
    module = solution("cql_threshold")
    share = counts[1] / sum(counts)
    threshold = 0.1 / 2 * (1 / share - 1 / (1 - share))
    assert module.preferred_action((0.0, threshold - 0.002), counts, 0.1) == 0
    assert module.preferred_action((0.0, threshold + 0.002), counts, 0.1) == 1


def test_a_table_resists_the_penalty_longer_than_the_frequencies_do():
    module = solution("tabular_cql")
    uniform, counted = np.full((25, 4), 0.25), module.counted_frequencies(8_000, seed=0)
    assert np.ptp(counted[:24]) < 0.05
    exact = {weight: module.fixed_point(uniform, weight) for weight in (0.0, 1.0, 5.0, 20.0)}
    for q in exact.values():
        assert module.greedy_return(q) == pytest.approx(0.3)
    best = [q[0].max() for q in exact.values()]
    lead = [np.ptp(q[0]) for q in exact.values()]
    assert best[0] == pytest.approx(0.2527, abs=1e-3)
    assert best == sorted(best, reverse=True)
    assert -5 < best[-1] < -3.5
    assert lead == sorted(lead, reverse=True)
    assert lead[0] > 0.1
    assert lead[-1] < 0.01
    assert module.greedy_return(module.fixed_point(counted, 5.0)) == pytest.approx(0.3)
    assert module.greedy_return(module.fixed_point(counted, 20.0)) < -4


def test_cql_bounds_what_its_theorems_say_and_no_more():
    module = solution("cql_lower_bound")
    problems = range(200)
    pointwise = np.array([module.excess(seed, 0.1, data_term=False) for seed in problems])
    assert (pointwise <= 1e-12).all()
    for_the_policy = np.array([module.excess(seed, 0.1, data_term=True) for seed in problems])
    assert (for_the_policy[:, 1] <= 1e-12).all()
    assert (for_the_policy[:, 0] > 1e-6).mean() > 0.5
    sampled = np.array([module.excess_with_sampling(seed, visits=20) for seed in problems])
    assert (sampled[:, 0] > 0).mean() > 0.5
    assert (sampled[:, 1] <= 1e-12).all()
    assert (sampled[:, 1] < -2).all()  # true values lie between 0 and 2, so every learned one is negative


@pytest.mark.parametrize("p", [0.5, 0.1, 0.01])
@pytest.mark.parametrize("expectile", [0.5, 0.7, 0.9, 0.99])
def test_the_two_point_expectile_has_its_closed_form(p, expectile):
    module = solution("two_point_expectile")
    assert module.minimiser(p, expectile) == pytest.approx(module.closed_form(p, expectile), abs=1e-6)


def test_an_expectile_over_outcomes_prefers_luck():
    module = solution("lucky_outcomes")
    for level in (0.7, 0.9, 0.99):
        assert module.value_over_actions(level) <= 0.5
    assert module.value_over_outcomes(0.9) > 0.6
    assert module.value_over_outcomes(0.99) > 0.9


def test_dividing_by_the_temperature_stays_close_to_the_behaviour():
    module = solution("soft_improvement")
    shares = [module.share_of_the_way(inverse_temperature) for inverse_temperature in (0.0, 1 / 3, 3.0, 10.0)]
    assert shares[0] == pytest.approx(0)
    assert shares == sorted(shares)
    assert shares[1] < 0.1
    assert shares[2] > 0.5
    assert shares[3] > 0.85


def test_a_weighted_copy_pays_for_luck():
    module = solution("gamble")
    for inverse_temperature, stated in ((1.0, 0.38), (3.0, 0.18), (10.0, 0.007)):
        threshold = module.threshold(inverse_temperature)
        assert threshold == pytest.approx(stated, abs=0.005)
        assert module.probability_of_gambling(threshold - 0.001, inverse_temperature) < 0.5
        assert module.probability_of_gambling(threshold + 0.001, inverse_temperature) > 0.5
    fitted = module.fitted_probability(0.3, 3.0, math.inf, seed=0)
    assert fitted == pytest.approx(module.probability_of_gambling(0.3, 3.0), abs=0.01)
    assert module.clipped_threshold(10.0, 20.0) == pytest.approx(0.21, abs=0.005)


@pytest.mark.parametrize("trace", [0.0, 0.5, 0.95, 1.0])
def test_returns_bootstrap_through_a_cut(trace):
    module = solution("lambda_returns")
    reward, terminated = module.probe_episode()
    assert not terminated
    value = np.full(len(reward), 100.0)
    assert module.lambda_returns(reward, value, 100.0, terminated, 0.99, trace) == pytest.approx(value)
    wrong = module.faulty_lambda_returns(reward, value, 0.99, trace)
    assert wrong[-1] == pytest.approx(1.0)
    assert (wrong <= value).all()


def test_more_samples_make_a_harder_maximum():
    module = solution("sampled_maximum")
    assert module.matching_expectile(0.01, 10) == pytest.approx(10 / 11, abs=0.005)
    assert module.samples_for_even_odds(0.01) == 69
    for samples, stated in ((1, 1.0), (10, 0.7), (100, 0.5)):
        distance = module.mean_distance(samples)
        assert distance == pytest.approx(stated, abs=0.02)
        assert module.mean_distance(samples, perturbation=0.05) == pytest.approx(distance - 0.05, abs=0.01)


def test_a_likelihood_term_lets_an_unrecorded_action_in():
    module = solution("leaving_the_data")
    frequencies, edge = np.array([0.8, 0.2, 0.0]), 1 + math.sqrt(0.2)
    for unseen, stated in ((0.0, 0.0), (edge - 0.01, 0.0), (2 * edge, 0.618)):
        values = np.array([0.0, 1.0, unseen])
        policy = module.optimum(values, frequencies, 1.0)
        assert policy.sum() == pytest.approx(1)
        assert policy[2] == pytest.approx(stated, abs=5e-4)
        assert module.weighted(values, frequencies, 3.0)[2] == 0
    assert module.ascent(values, frequencies, 1.0, steps=5_000) == pytest.approx(policy, abs=1e-3)


def test_a_squashed_density_needs_its_correction_and_a_stable_form():
    module = solution("squashed_density")
    assert module.integral(0.5, 1.0) == pytest.approx(1, abs=1e-6)
    assert module.integral(0.5, 1.0, corrected=False) == pytest.approx(0.56, abs=0.005)
    for x in (1.0, 5.0, 10.0, 20.0):
        value, slope = module.value_and_slope("stable", x)
        assert value == pytest.approx(-2 * math.log(math.cosh(x)), rel=1e-5)
        assert slope == pytest.approx(-2 * math.tanh(x), rel=1e-5)
    assert module.value_and_slope("plain", 10.0)[0] == -math.inf
    capped, slope = module.value_and_slope("with 1e-6", 10.0)
    assert capped == pytest.approx(-13.8, abs=0.05)
    assert slope == 0


def test_the_sampled_penalty_is_an_integral_only_with_its_densities():
    module = solution("sampled_penalty")
    exact = module.exact()
    assert exact == pytest.approx(-0.49, abs=0.005)
    for deviation, low, high in ((0.3, 0.0, 0.01), (0.1, 0.08, 0.14), (0.03, 0.5, math.log(3))):
        assert low <= exact - module.estimates(10, deviation, densities=True).mean() < high
        without = module.estimates(300, deviation, densities=False, repetitions=200).mean()
        assert without == pytest.approx(module.limit_without_densities(deviation), abs=0.01)
    assert module.limit_without_densities(0.1) > exact + 0.1
    assert module.limit_without_densities(0.3) < exact - 0.1


def test_rows_of_sampled_actions_belong_to_one_state():
    module = solution("shuffled_rows")
    assert not module.rows_belong_to_one_state(module.exercise_values)
    assert module.rows_belong_to_one_state(module.mended_values)
    assert module.bound_by_batch(module.exercise_values) > 0.1
    assert module.bound_by_batch(module.mended_values) == 0


def test_wrong_successors_of_cut_episodes_lower_the_value_of_the_start():
    module = solution("wrong_successor")
    for seed in range(3):
        right, wrong = (module.start_value(seed, faulty) for faulty in (False, True))
        assert right == pytest.approx(module.exact_start_value(), abs=0.3)
        assert wrong < right - 0.4
        assert module.share_of_wrong_steps(seed)[1] == pytest.approx(0.015, abs=0.002)


def test_four_methods_give_four_answers():
    assert list(solution("four_answers").returns().values()) == pytest.approx([0.85, 0.6, 0.9, 1.0])


def test_the_best_tenth_shows_skill_on_the_grid():
    module = solution("best_tenth")
    for seed in range(2):
        numbers = module.gridworld(seed)
        assert numbers["longest kept"] <= 25
        assert numbers["vote of the best"] == pytest.approx(0.3)
        assert numbers["vote of all"] == pytest.approx(-5)


@pytest.mark.slow
def test_the_best_tenth_shows_luck_in_intensive_care():
    numbers = solution("best_tenth").sepsis(seed=0)
    assert numbers["share that pays 1"] > 0.75
    assert numbers["least return kept"] == 1
    assert max(abs(numbers["vote of all"]), abs(numbers["vote of the best"])) < 0.1


@pytest.mark.slow
def test_weights_on_clinicians_need_a_large_inverse_temperature():
    module = solution("weighted_clinicians")
    luck, skill = module.deviations()
    assert luck == pytest.approx(0.40, abs=0.01)
    assert skill == pytest.approx(0.009, abs=0.001)
    gaps = np.array([module.gaps_closed(inverse_temperature) for inverse_temperature in (3.0, 100.0, 1_000.0)])
    assert (np.diff(gaps, axis=0) > 0).all()
    assert gaps[0] == pytest.approx([0.03, 0.15], abs=0.01)
    assert gaps[1] == pytest.approx([0.53, 0.75], abs=0.01)


@pytest.mark.slow
def test_a_threshold_loses_little_until_it_loses_much():
    module = solution("threshold_curve")
    for behaviour in ("mixed", "random"):
        for threshold in (0.0, 0.3):
            assert module.best_inside("CA14/GridWorld-v0", behaviour, threshold) == pytest.approx(0.3)
    stated = {0.0: 1.0, 0.03: 1.0, 0.3: 0.85, 0.9: 0.2}
    gaps = [module.gap_closed(threshold) for threshold in stated]
    assert gaps == sorted(gaps, reverse=True)
    assert gaps == pytest.approx(list(stated.values()), abs=0.01)
    assert module.actions_left(0.03) == pytest.approx(7.5, abs=0.1)
    assert module.actions_left(0.3) == pytest.approx(3.1, abs=0.1)


def test_importance_weights_leave_fewer_episodes_than_they_report():
    module = solution("weights_and_horizon")
    behaviour, policy = [0.5, 0.5], [0.8, 0.2]
    exact = [module.effective_share(behaviour, policy, horizon) for horizon in (1, 10, 40)]
    assert exact == pytest.approx([0.735, 0.0462, 4.6e-6], rel=0.02)
    sampled = [module.sampled_share(behaviour, policy, horizon, 10_000, seed=0) for horizon in (1, 10, 40)]
    assert sampled[0] == pytest.approx(exact[0], rel=0.05)
    assert sampled[2] > 10 * exact[2]


@pytest.mark.slow
def test_a_plan_is_the_favourite_of_the_data_it_was_made_from():
    module = solution("models_favourite")
    chosen = module.favourite(1_000, seed=0)
    assert chosen["least count"] == 1
    assert chosen["same stays"] > chosen["exact"] + 0.1
    assert chosen["fresh stays"] == pytest.approx(chosen["exact"], abs=0.05)


@pytest.mark.slow
def test_subtracting_the_mean_reward_shortens_stays_and_lives():
    module = solution("reward_shift")
    best, obtained, *_ = module.shifted_optimum("CA14/GridWorld-v0", "mixed")
    assert obtained == pytest.approx(best)
    best, obtained, length, shorter = module.shifted_optimum("CA14/ICUSepsis-v0", "clinician")
    assert best - obtained > 0.05
    assert shorter < 0.7 * length


@pytest.mark.slow
def test_one_exact_improvement_step_closes_most_of_the_gap():
    module = solution("one_step_improvement")
    assert 0.8 < module.gap_closed_by_one_step() < 0.95


@pytest.mark.verify
def test_planning_is_best_with_a_middling_least_count():
    module = solution("pessimistic_planning")
    data = module.collect(module.SEPSIS, "clinician", episodes=20_000, seed=0)
    gap = module.gaps_closed(data, [1, 3, 10, 30, 300])
    middle = max(gap[10], gap[30])
    assert middle > 0.3
    assert middle > max(gap[1], gap[3], gap[300]) + 0.1
    assert gap[1] > gap[3]
    assert gap[300] < 0.1


def test_a_shift_flips_the_gridworlds_best_policy_at_one_ninth():
    module = solution("data_shift_threshold")
    assert module.threshold() == pytest.approx(1 / 9)
    for shift in (-0.5, 0.0, 0.1, 0.11):
        assert module.true_return_after_shift(shift) == pytest.approx(0.3)
    for shift in (0.112, 0.2):
        assert module.true_return_after_shift(shift) == pytest.approx(-5)


def test_quality_and_coverage_move_against_each_other():
    module = solution("data_quality_and_coverage")
    expert, other = module.behaviour_policy(module.GRID, "expert"), module.up_then_right()
    noises = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    behaviours = [module.mixed_behaviour(noise) for noise in noises]
    quality = [module.quality(behaviour) for behaviour in behaviours]
    own = [module.coverage(expert, behaviour)[0] for behaviour in behaviours]
    away = [module.coverage(other, behaviour)[0] for behaviour in behaviours]
    assert quality == sorted(quality, reverse=True)
    assert own == sorted(own)
    assert away == sorted(away, reverse=True)
    stated = {"quality": (0.98, 0.93, 0.83, 0.62, 0.21, 0.0), "own": (1.1, 1.5, 2.1, 3.4, 6.9, 13.7)}
    assert quality == pytest.approx(stated["quality"], abs=0.005)
    assert own == pytest.approx(stated["own"], abs=0.05)
    assert [round(value) for value in away] == [487266, 3442, 288, 55, 18, 14]
    assert module.coverage(other, expert) == (math.inf, math.inf)
    assert module.coverage(expert, expert) == pytest.approx((1, 1))
    for behaviour in behaviours:
        mean, largest = module.coverage(expert, behaviour)
        assert 1 <= mean <= largest
